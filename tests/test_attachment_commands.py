# SPDX-License-Identifier: Apache-2.0
"""What somebody without a watched folder types to send a file with a referral, and to have what came."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters.keystore import write_keys
from adapters.settings import FILE_NAME
from schemas.errors import SourceError
from schemas.plain.attachment import ANNOUNCED
from tests.agencies import PLANTED, Agencies
from tests.domain import NOW
from topics.settings import SettingsError
from umuhuza.cli import build
from umuhuza.examples.samples_attachment import file

IOM, SHELTER = "bi/iom", "bi/k7t4"
SCAN = file(300_000, name=f"{PLANTED}.pdf")


@dataclass
class Offices:
    """Folders of two agencies over the mailboxes that they have in a town."""

    town: Agencies
    root: Path

    def folder(self, agency: str, more: str = "") -> Path:
        folder = self.root / agency.partition("/")[2]
        folder.mkdir(exist_ok=True)
        if not (folder / "keys.json").exists():
            write_keys(folder / "keys.json", self.town.keys(agency))
        (folder / "registry.txt").write_bytes(self.town.domain.registry_file)
        (folder / FILE_NAME).write_text(
            f'agency = "{agency}"\ngateway = "http://127.0.0.1:1"\ngateway_agency = "bi/operator"\n'
            f'registry_root = "{self.town.domain.pin.text}"\nregistry = "registry.txt"\n'
            f'mailbox = "{self.town.path(agency)}"\n{more}',
            encoding="utf-8",
        )
        return folder

    def type(self, agency: str, command: str, *arguments: object, exit_code: int = 0, more: str = "") -> str:
        words = ["agency", command, "--dir", str(self.folder(agency, more)), *map(str, arguments)]
        done = CliRunner().invoke(build(), words)
        assert done.exit_code == exit_code, (done.output, done.stderr, done.exception)
        return " ".join((done.stdout + done.stderr).split())

    def json(self, agency: str, command: str, *arguments: object, exit_code: int = 0, more: str = "") -> dict[str, Any]:
        words = ["agency", command, "--dir", str(self.folder(agency, more)), *map(str, arguments), "--json"]
        done = CliRunner().invoke(build(), words)
        assert done.exit_code == exit_code, (done.output, done.exception)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def failure(self, agency: str, command: str, *arguments: object, more: str = "") -> BaseException | None:
        """What the program's last handler puts into words."""
        words = ["agency", command, "--dir", str(self.folder(agency, more)), *map(str, arguments)]
        return CliRunner().invoke(build(), words).exception


@pytest.fixture
def offices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offices]:
    monkeypatch.setenv("UMUHUZA_LANG", "fr")
    (tmp_path / "town").mkdir()
    with Agencies(tmp_path / "town") as town:
        monkeypatch.setattr("umuhuza.agency.time.time", lambda: town.now)
        yield Offices(town, tmp_path)


def draft(folder: Path) -> Path:
    def moment(seconds: int) -> str:
        return datetime.fromtimestamp(NOW + seconds, UTC).isoformat()

    path = folder / "brouillon.json"
    facts = {
        "occurred_at": moment(-60),
        "lawful": {"basis": "consent", "consent": {"given_at": moment(-7200), "expires_at": moment(86_400)}},
        "referral": {
            "priority": "urgent",
            "name": {"as_given": f"Aline {PLANTED}"},
            "birth": {"precision": "year", "date": "1999"},
            "services": ["Health"],
        },
    }
    path.write_text(json.dumps({"to": SHELTER, "type": "referral.requested", "facts": facts}), encoding="utf-8")
    return path


def written(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_a_file_is_sent_with_a_draft_and_written_down_whole_on_the_other_side(offices: Offices, tmp_path: Path) -> None:
    scan = written(tmp_path, SCAN.name, SCAN.data)
    sent = offices.json(IOM, "send", draft(tmp_path), "--attach", scan)
    assert sent["ok"]
    again = offices.json(IOM, "send", draft(tmp_path), "--attach", scan)
    assert again["accepted"] == [{**sent["accepted"][0], "again": True}]
    offices.town.settle()
    shown = offices.type(SHELTER, "attachments")
    assert "entières 5/5" in shown
    assert PLANTED not in shown
    [row] = offices.json(SHELTER, "attachments", "--out", tmp_path / "pieces")["attachments"]
    [path] = row["files"]
    assert Path(path).read_bytes() == SCAN.data
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert PLANTED not in path
    assert isinstance(offices.failure(SHELTER, "attachments", "--out", tmp_path / "pieces"), SourceError)
    assert Path(path).read_bytes() == SCAN.data
    assert "attachment.chunk" not in offices.type(SHELTER, "inbox")
    assert ANNOUNCED in offices.type(IOM, "outbox")


def test_while_chunks_are_missing_nothing_is_written_and_it_is_said_how_far_they_are(
    offices: Offices, tmp_path: Path
) -> None:
    big = written(tmp_path, "grand.pdf", file(2**20).data)
    offices.json(IOM, "send", draft(tmp_path), "--attach", big)
    iom, shelter = offices.town[IOM], offices.town[SHELTER]
    for _ in range(3):
        iom.send()
    shelter.receive()
    [row] = offices.json(SHELTER, "attachments", "--out", tmp_path / "pieces")["attachments"]
    assert row["state"] == "gathering"
    assert 0 < row["there"] < row["chunks"] == 16
    assert row["files"] == []
    assert "pièces jointes en chemin" in offices.type(SHELTER, "inbox")


def test_what_is_larger_than_the_setting_says_is_refused_with_what_to_do(offices: Offices, tmp_path: Path) -> None:
    scan = written(tmp_path, SCAN.name, SCAN.data)
    refused = offices.json(
        IOM, "send", draft(tmp_path), "--attach", scan, exit_code=1, more="attachments_mib = 0.25\n"
    )["refused"]
    assert refused[0]["code"] == "too_large"
    assert "un fichier plus petit" in refused[0]["message"]
    assert offices.town[IOM].box.outbox() == []
    offices.json(IOM, "send", draft(tmp_path), "--attach", scan, exit_code=1, more="attachments_mib = 0\n")
    wrong = offices.failure(IOM, "send", draft(tmp_path), more="attachments_mib = 7\n")
    assert isinstance(wrong, SettingsError)
    assert "attachments_mib" in str(wrong)


def test_a_workbook_names_its_files_itself_and_a_file_must_be_there(offices: Offices, tmp_path: Path) -> None:
    book = written(tmp_path, "orientation.xlsx", b"PK")
    scan = written(tmp_path, SCAN.name, SCAN.data)
    assert "Pièces jointes" in offices.type(IOM, "send", book, "--attach", scan, exit_code=2)
    absent = tmp_path / "absent.pdf"
    assert "n'existe pas" in offices.type(IOM, "send", draft(tmp_path), "--attach", absent, exit_code=2)
    program = written(tmp_path, "photo.jpg", b"MZ")
    refused = offices.json(IOM, "send", draft(tmp_path), "--attach", program, exit_code=1)["refused"]
    assert refused[0]["code"] == "attachment_type"
