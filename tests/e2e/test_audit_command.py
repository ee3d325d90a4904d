# SPDX-License-Identifier: Apache-2.0
"""`umuhuza audit` as an auditor types it: on a domain's machine, on a zip at home, with what others hold."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pypdf import PdfReader

from schemas.errors import LogError
from schemas.proof_texts import TlogProof
from tests.cheating.cheats import POLICY, TO_IOM, Town
from tests.domain import Domain
from tests.e2e.commands import environment, until
from tests.e2e.shell import Shell
from tests.small_disk import full, small_disk
from tests.topics.http_harness import write_gateway
from tests.topics.ledger_world import SIGNERS
from topics.evidence_files import EvidenceWriter
from topics.ledger_entries import LedgerEntry


@pytest.fixture(scope="module")
def sh() -> Iterator[Shell]:
    with Shell() as made:
        yield made


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`domain/ledger`, as its machine has it; `held`, what others keep; `trusted`, whom an auditor believes."""
    root = tmp_path_factory.mktemp("audit")
    folder = root / "domain" / "ledger"
    with Town(folder) as town:
        domain = town.domain
        town.publish(*(domain.record() for _ in range(3)))
        town.publish(*(domain.record("bi/police", "bi/iom", "case", "update") for _ in range(2)))
        town.sequence()
        town.receipt(1)
        assert town.own is not None
        (folder / "checkpoint").write_bytes(town.own)
        (folder / "registries").mkdir()
        for digest, data in town.world.registries.files.items():
            (folder / "registries" / f"{digest.hex()}.jws").write_bytes(data)
        (folder / "registry.json").write_bytes(domain.registry_file)
        (folder / "ledger.pub").write_text("".join(f"{one.public.vkey}\n" for one in SIGNERS))
        (folder / "ledger.toml").write_text(
            f'registry = "registry.json"\nregistry_root = "{domain.pin.text}"\nlog = "log.db"\nstore = "ledger.db"\n'
        )
        held = root / "held"
        held.mkdir()
        for one in (*town.brought, *town.receipts, *town.promises):
            (held / one.name).write_bytes(one.data)
        (root / "trusted").write_bytes(POLICY.dumps())
        (root / "root").write_text(domain.pin.text)
    return root


def believing(there: Path) -> list[str]:
    """What an auditor brings."""
    root = (there / "root").read_text()
    return ["--policy", str(there / "trusted"), "--root", root, "--held", str(there / "held")]


def test_a_domain_that_fits_what_others_hold_is_in_order(sh: Shell, there: Path) -> None:
    done = sh("audit", "verify", "--dir", there / "domain", *believing(there), "--json")
    assert done.code == 0, done.err
    assert done.json["ok"] is True
    assert (done.json["records"], done.json["promises"], done.json["receipts"]) == (5, 5, 1)
    assert done.json["witnesses"].keys() == {"tn"}
    assert done.json["stated"] == []


def test_whoever_names_no_keys_is_told_to_compare_those_of_the_source(sh: Shell, there: Path) -> None:
    french = sh("audit", "verify", "--dir", there / "domain")
    assert french.code == 0, french.err
    assert "Tout est en ordre." in french.out
    assert "Comparez les empreintes" in french.out
    english = sh("audit", "verify", "--dir", there / "domain", language="en")
    assert "All is in order." in english.out
    assert len(set(re.findall(r"(?:[0-9a-f]{4} ){7}[0-9a-f]{4}", english.out))) == 3


def test_a_record_changed_on_the_disk_ends_with_exit_code_1_and_its_place(
    sh: Shell, there: Path, tmp_path: Path
) -> None:
    copy = copied(there, tmp_path)
    with sqlite3.connect(copy / "ledger" / "log.db") as log:
        log.execute("UPDATE entry SET value = CAST(value || 'A' AS BLOB) WHERE ident LIKE 'bi/police/%' AND offset = 1")
    log.close()
    done = sh("audit", "verify", "--dir", copy, *believing(there), "--json")
    assert done.code == 1
    [finding] = done.json["findings"]
    assert finding == {
        "code": "record_rewritten",
        "about": "record",
        "topic": TO_IOM,
        "offset": 1,
        "index": finding["index"],
        "open": False,
        "title": "Un enregistrement diffère de ce qui a été journalisé",
    }
    people = sh("audit", "verify", "--dir", copy, *believing(there))
    assert people.code == 1
    assert "CONTREDIT" in people.out
    assert f"{TO_IOM}, position 1" in " ".join(people.out.split())


def test_what_is_still_to_come_ends_with_exit_code_3(sh: Shell, there: Path, tmp_path: Path) -> None:
    copy = copied(there, tmp_path)
    with Town(tmp_path / "later") as later:
        signed = [later.domain.record() for _ in range(3)]
        later.publish(*(later.domain.record("bi/police", "bi/iom", "case", "update") for _ in range(2)))
        fourth = later.domain.record()
        assert signed
    with sqlite3.connect(copy / "ledger" / "log.db") as log:
        log.execute("UPDATE topic SET next = 4 WHERE name = 'bi.referral.k7t4'")
        log.execute(
            "INSERT INTO entry SELECT 99, topic, 3, at_ms, ?, key, headers, ? FROM entry"
            " WHERE ident LIKE 'bi/iom/%' AND offset = 2",
            (fourth.manifest.ident, fourth.value),
        )
    log.close()
    done = sh("audit", "verify", "--dir", copy, *believing(there), "--json")
    assert done.code == 3
    assert done.json["contradictions"] == 0
    assert done.json["counts"] == {"ledger_behind": 1}


def copied(there: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(there / "domain", to / "domain"))


def test_evidence_travels_in_one_zip_and_is_verified_without_the_domain(sh: Shell, there: Path, tmp_path: Path) -> None:
    out = tmp_path / "preuve.zip"
    done = sh("audit", "export", "--dir", there / "domain", "--out", out, *believing(there), "--json")
    assert done.code == 0, done.err
    assert (done.json["records"], done.json["promises"]) == (5, 5)
    at_home = sh("audit", "verify", out, "--json")
    assert at_home.code == 0, at_home.out
    assert at_home.json["stated"] == ["policy", "root"]
    assert at_home.json["witnesses"].keys() == {"tn"}
    names = zipfile.ZipFile(out).namelist()
    assert {"rapport.html", "rapport.pdf", "report.html", "report.pdf", "trust/policy"} < set(names)
    assert not any("grant" in name or "key" in name for name in names if not name.startswith("verify/"))


@pytest.fixture(scope="module")
def police(sh: Shell, there: Path) -> Path:
    """An excerpt."""
    out = there / "police.zip"
    asked = ["--agency", "bi/police", *believing(there), "--json"]
    assert sh("audit", "export", "--dir", there / "domain", "--out", out, *asked).json["records"] == 2
    return out


def test_an_agencys_excerpt_has_a_report_that_lists_its_records(sh: Shell, police: Path, tmp_path: Path) -> None:
    verified = sh("audit", "verify", police, "--json")
    assert verified.code == 0, verified.out
    assert (verified.json["whole"], verified.json["records"]) == (False, 2)
    report = zipfile.ZipFile(police).read("rapport.html").decode()
    assert report.count("bi/police → bi/iom") == 2
    assert "bi.referral.k7t4" not in report
    assert '<html lang="fr"' in report
    assert sh("audit", "export", police, "--out", tmp_path / "again.zip").code == 2


def test_a_report_is_a_page_of_its_own_in_both_languages(sh: Shell, there: Path, tmp_path: Path) -> None:
    french, english = tmp_path / "rapport.html", tmp_path / "report.html"
    assert sh("audit", "report", "--dir", there / "domain", "--out", french, *believing(there)).code == 0
    assert sh("audit", "report", "--dir", there / "domain", "--out", english, language="en").code == 0
    assert "Tout est en ordre" in french.read_text(encoding="utf-8")
    said = english.read_text(encoding="utf-8")
    assert "All is in order" in said
    assert "by another way" in said
    assert "<script" not in said
    printed = tmp_path / "rapport.pdf"
    assert sh("audit", "report", "--dir", there / "domain", "--out", printed, *believing(there)).code == 0
    assert "Tout est en ordre" in PdfReader(printed).pages[0].extract_text()


@contextmanager
def gateway(folder: Path, ledger: Path) -> Iterator[str]:
    """A gateway that serves this ledger, and its address."""
    write_gateway(folder, Domain(), ledger=str(ledger))
    ready = folder / "ready"
    command = [sys.executable, "-m", "umuhuza", "gateway", "run", "--dir", str(folder), "--ready-file", str(ready)]
    process = subprocess.Popen(command, env=environment())
    try:
        until("the gateway is ready", lambda: ready.exists() or process.poll() is not None)
        yield ready.read_text(encoding="ascii").strip()
    finally:
        process.kill()
        process.wait()


def test_by_its_address_the_tree_is_verified_and_what_was_not_looked_at_is_said(
    sh: Shell, there: Path, tmp_path: Path
) -> None:
    believed = ["--policy", str(there / "trusted")]
    with gateway(tmp_path / "passerelle", there / "domain" / "ledger") as address:
        done = sh("audit", "verify", address, *believed, "--held", there / "held", "--json")
        assert done.code == 0, done.err
        told = done.json
        assert (told["shown"], told["entries"], told["records"], told["receipts"]) == ("hashes", 6, 0, 1)
        assert told["witnesses"].keys() == {"tn"}
        people = sh("audit", "verify", address, *believed, "--held", there / "held")
        assert "ce n'est pas tout" in people.out
        assert "Ni les entrées, ni les enregistrements" in " ".join(people.out.split())
        alone = sh("audit", "verify", address, *believed, "--json")
        assert (alone.code, alone.json["receipts"]) == (0, 0)
        printed = tmp_path / "rapport.html"
        assert sh("audit", "report", address, *believed, "--held", there / "held", "--out", printed).code == 0
        assert "demandez une preuve" in printed.read_text(encoding="utf-8")
    gone = sh("audit", "verify", address, *believed, "--json")
    assert (gone.code, gone.json["problem"]["code"]) == (3, "unavailable")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "https://127.0.0.1:1"], "--policy: a gateway does not say"),
        (["verify", "{zip}", "--ca", "{empty}"], "go with an address"),
        (["verify"], "name the evidence"),
        (["verify", "{zip}", "--dir", "{empty}"], "not both"),
        (["verify", "{empty}/nothing.zip"], "nothing is there"),
        (["verify", "--dir", "{empty}"], "neither evidence"),
        (["verify", "--dir", "{domain}", "--policy", "{empty}/none"], "--policy: cannot be read"),
        (["verify", "--dir", "{domain}", "--policy", "{root}"], "tlog-policy has it: policy line 1"),
        (["verify", "--dir", "{domain}", "--held", "{root}"], "--held: root: neither a checkpoint, nor a receipt"),
        (["export", "--dir", "{domain}", "--out", "{empty}/no/x.zip"], "one cannot write there"),
        (["verify", "--dir", "{domain}", "--root", "AAAA"], "--root: not the fingerprint of a root"),
        (["export", "--dir", "{domain}", "--out", "{root}"], "is there already"),
        (["export", "--dir", "{domain}", "--out", "{empty}/x.zip", "--agency", "police"], "no agency"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_arguments_are_told_in_words(
    sh: Shell, there: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    places = {"zip": tmp_path / "x.zip", "empty": tmp_path, "domain": there / "domain", "root": there / "root"}
    done = sh("audit", *(one.format(**places) for one in arguments), language="en")
    assert done.code == 2
    assert words in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err


def test_what_strangers_wrote_does_nothing_to_the_terminal_or_the_page(
    sh: Shell, there: Path, police: Path, tmp_path: Path
) -> None:
    """Names of files and places that nobody signed, times of the year 300,000, receipts for what is no record."""
    held = tmp_path / "held"
    held.mkdir()
    (held / "\x1b]0;x\x07\x1b[2J<b>").write_bytes("no checkpoint\n\n— x\n".encode())
    (held / os.fsdecode(b"\xff")).write_bytes("no checkpoint\n\n— x\n".encode())
    promise = json.loads(next((there / "held").glob("promise-*")).read_bytes())
    (held / "promise").write_text(json.dumps(promise | {"topic": "\x1b[8m"}))
    with zipfile.ZipFile(police) as old, zipfile.ZipFile(tmp_path / "worse.zip", "w") as new:
        for name in old.namelist():
            new.writestr(re.sub(r"^(records/.*)-\d+$", r"\1-9999999999999999", name), old.read(name))
        gap = LedgerEntry("gap", TO_IOM, 0, None, detail="0").encode()
        new.writestr("receipts/gap", TlogProof(0, (), (there / "held" / "cosigned-0").read_bytes(), gap).dumps())
    for arguments in (["verify"], ["verify", "--json"], ["report", "--out", str(tmp_path / "page.html")]):
        done = sh("audit", *arguments, tmp_path / "worse.zip", "--held", held)
        assert done.code == 1, done.err
        assert "\x1b" not in done.out + done.err
    assert "<b>" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_file_that_is_no_evidence_is_refused_with_a_code(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    done = sh("audit", "verify", tmp_path / "x.zip", "--json")
    assert done.code == 1
    assert done.json["problem"]["code"] == "note_malformed"


def test_a_full_disk_is_told_and_keeps_nothing_of_the_evidence(sh: Shell, police: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as folder, full(folder):
        done = sh("audit", "report", police, "--out", folder / "page.html", "--json")
        assert (done.code, done.json["problem"]["code"]) == (3, "storage_full")
        with pytest.raises(LogError, match="storage_full"):
            EvidenceWriter(folder / "x.zip", domain="bi", whole=True, made_at=1)
        assert os.listdir(folder) == ["filler"]
