# SPDX-License-Identifier: Apache-2.0
"""Registries and counts from agencies' folders on disk, by the commands that people give; no gateway is needed."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adapters.runner import Runner
from schemas.registry import Role
from topics.catalogue import topics_of
from topics.sqlite_log import SqliteLog
from umuhuza.agency import opened_agency
from umuhuza.agency_command import init_agency
from umuhuza.cli import build
from umuhuza.registry_holder import add_agency, init_registry, read_enrolment


def folders(root: Path, members: dict[str, Role]) -> None:
    """One folder per agency, named as in its id, each with the same registry."""
    _, pin = init_registry(root / "registre", "bi", False)
    for name, role in members.items():
        request = init_agency(
            root / name,
            agency=f"bi/{name}",
            gateway="http://127.0.0.1:9",
            registry_root=pin.text,
            gateway_agency="bi/operator",
            names={"fr": f"Agence {name} (inventée)"},
            roles=(role,),
            protected=False,
            kobo_to=None,
        )
        add_agency(root / "registre", read_enrolment(request))
    for name in members:
        shutil.copyfile(root / "registre" / "registry.json", root / name / "registry.json")


def run(*words: str) -> Result:
    return CliRunner().invoke(build(), list(words))


def exchange(root: Path, names: Sequence[str]) -> None:
    """What waits in their outboxes is sent and read, over a log in the folder."""

    async def turns() -> None:
        with opened_agency(root / names[0]) as parts:
            topics = topics_of(parts.registry())
        log = SqliteLog.open(
            str(root / "log.db"),
            topics=topics,
            clock_ms=lambda: int(time.time() * 1000),
            threads=False,
            random_id=lambda: "log-1",
        )
        for _ in range(2):
            for name in names:
                with opened_agency(root / name) as parts:
                    runner = Runner(parts.desk, log, [])
                    await runner.send()
                    await runner.receive(0)
                    await runner.deliver()
        await log.close()

    asyncio.run(turns())


@pytest.mark.parametrize(
    ("role", "view"), [("assistance", "cases"), ("judiciary", "investigations"), ("coordination", "flows")]
)
def test_each_role_gets_its_own_registry(tmp_path: Path, role: Role, view: str) -> None:
    folders(tmp_path, {"membre": role})
    done = run("agency", "registry", "--dir", str(tmp_path / "membre"), "--format", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {view: []}


@pytest.mark.parametrize("form", ["xlsx", "csv", "json"])
def test_a_registry_is_readable_by_its_owner_only_and_the_command_says_where_it_is(tmp_path: Path, form: str) -> None:
    folders(tmp_path, {"membre": "assistance"})
    path = tmp_path / f"r.{form}"
    done = run("agency", "registry", "--dir", str(tmp_path / "membre"), "--format", form, "--out", str(path))
    assert str(path) in done.stdout.replace("\n", "")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_role_with_nothing_to_show_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path, {"membre": "operator"})
    monkeypatch.setenv("UMUHUZA_LANG", "en")
    done = run("agency", "registry", "--dir", str(tmp_path / "membre"))
    assert done.exit_code == 1
    assert "follow neither cases" in done.stderr
    assert not (tmp_path / "membre" / "registre.xlsx").exists()


def test_counts_go_from_an_agencys_file_through_the_commissions_mailbox_into_a_release(tmp_path: Path) -> None:
    folders(tmp_path, {"ministere": "assistance", "commission": "coordination"})
    counts = tmp_path / "counts.json"
    built = run(
        *("statistics", "build", "--dir", str(tmp_path / "ministere"), "--period", "2026-H1", "--out", str(counts))
    )
    assert built.exit_code == 0, built.output
    draft = json.loads(counts.read_bytes())
    assert draft["to"] == "bi/commission"
    draft["facts"]["said"] |= {
        "place": "BI-GI",
        "persons": 64,
        "counts": [
            {"field": "prs_Gender", "code": "Feminine", "count": 47},
            {"field": "prs_Gender", "code": "Masculine", "count": 17},
        ],
    }
    counts.write_text(json.dumps(draft), encoding="utf-8")
    sent = run("agency", "send", str(counts), "--dir", str(tmp_path / "ministere"))
    assert sent.exit_code == 0, sent.output
    exchange(tmp_path, ("ministere", "commission"))
    done = run(
        *("statistics", "release", "--period", "2026-H1", "--in", str(tmp_path / "commission")),
        *("--previous", str(tmp_path / "kept"), "--out", str(tmp_path / "public")),
    )
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "public" / "statistics-2026-H1.csv").read_text(encoding="utf-8-sig").splitlines()
    assert [line.split(";")[7] for line in lines if ";Feminine;" in line] == ["47"]


def test_a_half_year_for_which_nobody_submitted_is_not_released(tmp_path: Path) -> None:
    folders(tmp_path, {"commission": "coordination"})
    done = run(
        *("statistics", "release", "--period", "2026-H1", "--in", str(tmp_path / "commission")),
        *("--previous", str(tmp_path / "kept"), "--out", str(tmp_path / "public")),
    )
    assert done.exit_code == 1
    assert not (tmp_path / "kept").exists()
    assert not (tmp_path / "public").exists()
