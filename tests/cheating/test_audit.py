# SPDX-License-Identifier: Apache-2.0
"""An audit as a program: it can be interrupted, keeps little in memory, and stands alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.envelope import Acts
from schemas.errors import LogError, RecordError
from tests.cheating.cheats import TO_IOM, TO_SHELTER, Town, shown
from topics.audit import audit
from topics.audit_chains import Chain
from topics.audit_checker import Asked, Counted, Unjudged
from topics.audit_checkers import Here, Processes
from topics.audit_findings import MAX_KEPT, Finding, Findings, Stage
from topics.audit_tree import STOP
from topics.log import Entry


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """More entries than one stop: mostly noise that somebody wrote past the gateway, and records around it."""
    with Town(tmp_path_factory.mktemp("many")) as made:
        made.publish(*(made.domain.record() for _ in range(3)))
        for first in range(0, STOP + 300, 500):
            made.publish(*(Entry(TO_IOM, b"t", f"noise {n}", b"noise %d" % n) for n in range(first, first + 500)))
        made.sequence()
        made.publish(*(made.domain.record() for _ in range(3)))
        made.sequence()
        yield made


class StoppedError(Exception):
    """Somebody pressed Ctrl-C."""


def test_an_interrupted_audit_goes_on_and_finds_the_same(town: Town, tmp_path: Path) -> None:
    town.in_log("UPDATE entry SET value = CAST('altered' AS BLOB) WHERE ident = 'noise 7'")
    whole = town.audited()
    assert [(one.code, one.offset) for one in whole.findings.kept] == [("record_rewritten", 7)]
    went: list[int] = []

    def progress(stage: Stage, done: int, of: int | None) -> None:
        if stage == "records":
            went.append(done)
            if done > STOP and len(went) > 1 and went[0] < STOP:
                raise StoppedError

    scratch = tmp_path / "scratch"
    with town.source() as source, pytest.raises(StoppedError):
        audit(source, town.trust(), scratch=scratch, progress=progress)
    went.clear()
    with town.source() as source:
        report = audit(source, town.trust(), scratch=scratch, progress=progress)
    assert went[0] > STOP, "what was compared before is not compared again"
    assert report.findings.kept == whole.findings.kept
    town.in_log("UPDATE entry SET value = CAST('noise 7' AS BLOB) WHERE ident = 'noise 7'")


def test_processes_that_share_the_signatures_find_the_same_as_one_alone(town: Town) -> None:
    town.in_log("UPDATE entry SET value = CAST('altered' AS BLOB) WHERE ident = 'noise 4000'")
    alone, shared = town.audited(), town.audited(processes=2)
    assert [(one.code, one.offset) for one in shared.findings.kept] == [("record_rewritten", 4000)]
    assert (shared.findings.kept, shared.root, shared.records) == (alone.findings.kept, alone.root, alone.records)
    town.in_log("UPDATE entry SET value = CAST('noise 4000' AS BLOB) WHERE ident = 'noise 4000'")


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes(2)
    yield made
    made.close()


def test_a_process_says_of_every_record_what_is_said_here(town: Town, processes: Processes) -> None:
    domain = town.domain
    good = domain.record()
    erasing = domain.record(kind="control", acts=Acts(erase=(good.manifest.ident,)))
    records = [good.value, erasing.value, good.value[:-9] + b"AAAAAAAAA", domain.record("bi/police").value, b"noise"]
    asked = [Asked(TO_SHELTER, domain.now * 1000, one, hashlib.sha256(one).digest()) for one in records]
    asked.append(Asked(TO_SHELTER, domain.now * 1000, good.value, bytes(32)))
    for registry in (domain.registry, None, domain.registry):
        here, there = (one.ask(registry, asked)() for one in (Here(), processes))
        assert list(map(repr, there)) == list(map(repr, here))
    assert isinstance(there[0], Counted)
    assert there[-1] is Unjudged.REWRITTEN
    assert isinstance(there[2], RecordError)
    assert there[2].code == "part_digest_mismatch"


def test_a_process_that_dies_ends_the_audit_and_not_with_an_answer(town: Town, processes: Processes) -> None:
    for one in processes.running:
        one.kill()
    with pytest.raises(LogError) as ended:
        processes.ask(town.domain.registry, [Asked(TO_SHELTER, 0, b"record", bytes(32))])()
    assert (ended.value.code, ended.value.path) == ("unavailable", "checker")


def test_nothing_is_run_that_lies_where_the_evidence_lies(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orjson.py").write_text("raise SystemExit('this came with the evidence')")
    monkeypatch.chdir(tmp_path)
    made = Processes(1)
    try:
        assert made.ask(None, [Asked(TO_SHELTER, 0, b"record", bytes(32))])() == [Unjudged.REWRITTEN]
    finally:
        made.close()


def test_another_ledger_or_another_trust_begins_from_the_beginning(town: Town, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    assert town.audited(scratch=scratch).findings.kept == ()
    with Town(tmp_path / "other") as other:
        other.publish(*(other.domain.record() for _ in range(2)))
        other.sequence()
        report = other.audited(scratch=scratch)
    assert (report.size, report.records) == (3, 2)
    assert report.findings.kept == ()


def test_a_scratch_file_that_is_none_is_refused(town: Town, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_bytes(b"no scratch file, but somebody's text " * 100)
    with pytest.raises(LogError) as refused:
        town.audited(scratch=tmp_path / "scratch")
    assert refused.value.path == "scratch"


def test_what_is_all_wrong_is_counted_and_not_kept_without_end() -> None:
    found = Findings()
    for offset in range(MAX_KEPT + 50):
        found.add(Finding("record_missing", "record", "bi.case.iom", offset))
    assert (found.number, found.counts["record_missing"], found.contradictions) == (MAX_KEPT, *2 * (MAX_KEPT + 50,))


def test_what_may_still_come_leaves_room_for_what_proves_a_lie() -> None:
    found = Findings()
    for offset in range(MAX_KEPT):
        found.add(Finding("ledger_behind", "record", "bi.case.iom", offset, open=True))
    lie = Finding("record_rewritten", "record", "bi.case.iom", 7)
    found.add(lie)
    assert lie in found.kept
    assert (found.counts["ledger_behind"], found.contradictions) == (MAX_KEPT, 1)


def test_a_repeat_of_nothing_is_a_lie_of_the_ledger(tmp_path: Path) -> None:
    from dataclasses import replace

    with Town(tmp_path) as town:
        town.publish(town.domain.record())
        town.sequence()
        town.brought.clear()
        town.rebuild(lambda entries: [replace(entries[0], kind="duplicate"), *entries[1:]])
        assert ("log_inconsistent", "entry") in shown(town.audited())


def test_it_stands_alone() -> None:
    """No Kafka, no web framework, no HTTP client is even loaded."""
    program = (
        "import sys, topics.audit, topics.evidence_files, topics.audit_export\n"
        "foreign = {'kafka', 'fastapi', 'starlette', 'uvicorn', 'httpx2', 'pydantic', 'asyncio'}\n"
        "print(sorted(foreign & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_chain_survives_the_scratch_file() -> None:
    chain = Chain(7, "digest")
    assert Chain.loads(chain.dumps()) == chain
