# SPDX-License-Identifier: Apache-2.0
"""Evidence in one zip: it proves itself elsewhere, holds nothing of others, and tells when it was tampered with."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import LogError
from tests.cheating.cheats import TO_IOM, TO_SHELTER, Town, shown
from topics.audit import Report, audit
from topics.audit_export import Choice
from topics.evidence_files import EvidenceSource

AGENCY = Choice(agency="bi/police")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Records of two agencies before, between and after two registry versions."""
    with Town(tmp_path / "bi") as made:
        domain = made.domain
        for _ in range(3):
            made.publish(domain.record(), domain.record("bi/police", "bi/iom", "case", "update"))
            made.sequence()
            made.domain.registry = made.domain.registry.renewed(domain.now)
        made.sequence()
        yield made


def audited(town: Town, path: Path) -> Report:
    source = EvidenceSource.open(path)
    try:
        return audit(source, town.trust())
    finally:
        source.close()


def changed(path: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """Another zip, member by member."""
    out = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            kept = change(name, old.read(name))
            if kept is not None:
                new.writestr(*kept)
    return out


def test_everything_in_one_zip_is_audited_as_the_domain_itself(town: Town, tmp_path: Path) -> None:
    there = town.audited()
    done = town.export(tmp_path / "all.zip")
    report = audited(town, tmp_path / "all.zip")
    assert report.findings.kept == ()
    assert (report.size, report.root, report.records, report.promises) == (there.size, there.root, 6, 6)
    assert (done.entries, done.records, done.registries, done.promises) == (report.size, 6, report.kinds["registry"], 6)


def test_a_zip_that_is_unpacked_is_the_same(town: Town, tmp_path: Path) -> None:
    town.export(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        packed.extractall(tmp_path / "unpacked")
    assert audited(town, tmp_path / "unpacked").findings.kept == ()


def test_an_agencys_excerpt_proves_itself_and_holds_nothing_of_others(town: Town, tmp_path: Path) -> None:
    done = town.export(tmp_path / "police.zip", AGENCY)
    report = audited(town, tmp_path / "police.zip")
    assert report.findings.kept == ()
    assert (report.whole, report.records, report.promises, report.receipts) == (False, 3, 3, done.entries)
    with zipfile.ZipFile(tmp_path / "police.zip") as packed:
        everything = b"".join(packed.read(name) for name in packed.namelist())
        assert not any(TO_SHELTER in name for name in packed.namelist())
    assert TO_IOM.encode() in everything


def test_a_threads_excerpt_and_a_periods_hold_those_records_alone(town: Town, tmp_path: Path) -> None:
    thread = "A" * 21 + "A"
    town.wait(3600)
    town.publish(town.domain.record(thread=thread))
    town.sequence()
    assert town.export(tmp_path / "thread.zip", Choice(thread=thread)).records == 1
    assert town.export(tmp_path / "hour.zip", Choice(since_ms=town.world.at_ms)).records == 1
    assert town.export(tmp_path / "before.zip", Choice(until_ms=town.world.at_ms)).records == 6
    for name in ("thread", "hour", "before"):
        assert audited(town, tmp_path / f"{name}.zip").findings.kept == ()


@pytest.mark.parametrize("choice", [Choice(), AGENCY], ids=["whole", "excerpt"])
def test_one_byte_of_a_record_in_the_zip_is_enough(town: Town, tmp_path: Path, choice: Choice) -> None:
    town.export(tmp_path / "all.zip", choice)
    first: list[str] = []

    def change(name: str, data: bytes) -> tuple[str, bytes]:
        if name.startswith(f"records/{TO_IOM}") and not first:
            first.append(name)
            data = data[:-1] + (b"A" if data[-1:] != b"A" else b"B")
        return name, data

    report = audited(town, changed(tmp_path / "all.zip", change))
    assert shown(report) == [("record_rewritten", "record")]


@pytest.mark.parametrize("choice", [Choice(), AGENCY], ids=["whole", "excerpt"])
def test_a_record_taken_out_of_the_zip_or_put_in_is_named(town: Town, tmp_path: Path, choice: Choice) -> None:
    town.export(tmp_path / "all.zip", choice)
    out = changed(tmp_path / "all.zip", lambda name, data: None if f"{TO_IOM}/1-" in name else (name, data))
    assert shown(audited(town, out)) == [("record_missing", "record")]
    more = changed(tmp_path / "all.zip", lambda name, data: (name.replace(f"{TO_IOM}/2-", f"{TO_IOM}/7-"), data))
    assert ("record_missing", "record") in shown(audited(town, more))


def test_a_receipt_of_another_tree_does_not_hold(town: Town, tmp_path: Path) -> None:
    town.export(tmp_path / "police.zip", AGENCY)

    def moved(name: str, data: bytes) -> tuple[str, bytes]:
        """Each receipt says another place than its entry has."""
        return name, re.sub(rb"\nindex (\d+)\n", lambda found: b"\nindex %d\n" % (int(found[1]) ^ 1), data)

    out = changed(tmp_path / "police.zip", moved)
    assert ("root_mismatch", "receipt") in shown(audited(town, out))


def test_evidence_without_a_registry_file_says_so(town: Town, tmp_path: Path) -> None:
    town.export(tmp_path / "all.zip")
    out = changed(tmp_path / "all.zip", lambda name, data: None if name.startswith("registries/") else (name, data))
    assert ("registry_invalid", "registry") in shown(audited(town, out))


def test_evidence_is_never_written_over(town: Town, tmp_path: Path) -> None:
    town.export(tmp_path / "all.zip")
    with pytest.raises(FileExistsError):
        town.export(tmp_path / "all.zip")


def test_the_same_evidence_is_the_same_bytes(town: Town, tmp_path: Path) -> None:
    town.export(tmp_path / "one.zip")
    town.export(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no zip",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"v":1', b'"v":2'),
    ],
    ids=["empty", "text", "half", "version"],
)
def test_what_is_no_evidence_is_refused_in_words(town: Town, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    stored = tmp_path / "stored.zip"
    town.export(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as old, zipfile.ZipFile(stored, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    stored.write_bytes(damage(stored.read_bytes()))
    with pytest.raises(LogError) as refused:
        audited(town, stored)
    assert refused.value.code == "note_malformed"


def test_a_member_that_unpacks_to_more_than_it_can_be_is_not_read(town: Town, tmp_path: Path) -> None:
    town.export(tmp_path / "all.zip")
    bomb = bytes(64 << 20)
    out = changed(tmp_path / "all.zip", lambda name, data: (name, bomb if name.startswith("checkpoints/") else data))
    with pytest.raises(LogError) as refused:
        audited(town, out)
    assert refused.value.code == "too_large"


def test_the_other_auditors_checkpoint_is_held_against_evidence_too(town: Town, tmp_path: Path) -> None:
    """An excerpt under another tree than the witness signed is not told by itself: whole evidence is."""
    kept = town.brought[-1]
    town.brought.clear()
    town.rebuild(lambda entries: [replace(entries[0], kind="reject", detail="quota_exceeded"), *entries[1:]])
    town.export(tmp_path / "all.zip")
    source = EvidenceSource.open(tmp_path / "all.zip", {"checkpoints": [kept]})
    try:
        assert ("log_inconsistent", "checkpoint") in shown(audit(source, town.trust()))
    finally:
        source.close()
