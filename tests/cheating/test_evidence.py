# SPDX-License-Identifier: Apache-2.0
"""Evidence in one zip: it proves itself elsewhere, holds nothing of others, and tells when it was tampered with."""

from __future__ import annotations

import os
import re
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.envelope import Acts
from schemas.errors import LogError
from tests.cheating.cheats import TO_IOM, TO_SHELTER, Town, shown
from topics.audit import Report, audit
from topics.audit_export import Choice
from topics.evidence_files import EvidenceSource
from topics.ledger_entries import LedgerEntry
from topics.tiles import pack_entries
from umuhuza.audit_report import listed

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


def with_member(path: Path, name: str, data: bytes, packed: int = zipfile.ZIP_DEFLATED) -> Path:
    """One more, whatever is there already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the name is there twice is what is meant
        with zipfile.ZipFile(path, "a", packed) as out:
            out.writestr(name, data)
    return path


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


def test_an_excerpt_holds_the_command_to_erase_and_the_word_that_it_was_executed(town: Town, tmp_path: Path) -> None:
    """Both stand on other threads; a command may be logged before what it erases, since topics are read in turns."""
    thread = "A" * 21 + "A"
    first, second = (town.domain.record(thread=thread) for _ in range(2))
    commands = [
        town.domain.record("bi/iom", "bi/k7t4", "rights", "control", acts=Acts(erase=(one.manifest.ident,)))
        for one in (first, second)
    ]
    for one in (first, *commands, second):
        town.publish(one)
        town.sequence()
    town.wait(7200)
    town.call_erased(commands[0])
    assert town.export(tmp_path / "thread.zip", Choice(thread=thread)).records == 4
    report = audited(town, tmp_path / "thread.zip")
    assert report.findings.kept == ()
    assert (report.kinds["event"], report.kinds["erasure"], report.kinds["erased"]) == (2, 2, 2)
    source = EvidenceSource.open(tmp_path / "thread.zip")
    executed = [(one.entry.kind, one.executed) for one in listed(source)]
    source.close()
    size = len(town.entries())
    assert executed == [("event", None), ("erasure", size - 2), ("erasure", size - 1), ("event", None)]
    town.export(tmp_path / "hour.zip", Choice(until_ms=town.world.at_ms))
    assert audited(town, tmp_path / "hour.zip").kinds["erased"] == 2


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


def test_an_excerpt_under_a_head_that_nobody_witnessed_is_not_carried_by_another_head(
    town: Town, tmp_path: Path
) -> None:
    """The operator proves what it likes under a tree of its own, and adds a true checkpoint for the witness's name."""
    kept = town.brought[-1]
    town.brought.clear()
    town.rebuild(lambda entries: [replace(entries[0], value_sha256=bytes(32)), *entries[1:-1]])
    town.export(tmp_path / "police.zip", AGENCY)
    report = audited(town, with_member(tmp_path / "police.zip", "checkpoints/true", kept.data))
    assert shown(report) == [("quorum_missing", "checkpoint")]
    assert report.endorsed is None


def test_two_histories_of_one_size_show_in_an_excerpt_too(town: Town, tmp_path: Path) -> None:
    kept = town.brought[-1]
    town.rebuild(
        lambda entries: [replace(one, value_sha256=bytes(32)) if one.topic == TO_SHELTER else one for one in entries]
    )
    town.sign(cosigned=True)  # another witness of the quorum works with the operator
    town.brought.remove(kept)
    town.export(tmp_path / "police.zip", AGENCY)
    source = EvidenceSource.open(tmp_path / "police.zip", {"checkpoints": [kept]})
    try:
        assert set(shown(audit(source, town.trust()))) == {("log_inconsistent", "checkpoint")}
    finally:
        source.close()


def test_a_registry_that_goes_back_does_not_follow_in_an_excerpt_either(town: Town, tmp_path: Path) -> None:
    town.rebuild(lambda entries: [*entries, next(one for one in entries if one.kind == "registry")])
    town.brought.clear()
    town.sign(cosigned=True)
    town.export(tmp_path / "police.zip", AGENCY)
    assert shown(audited(town, tmp_path / "police.zip")) == [("log_inconsistent", "entry")]


def test_a_receipt_that_somebody_brings_needs_no_record_in_the_excerpt(town: Town, tmp_path: Path) -> None:
    """It is held against what the excerpt says of its place, and asks for nothing else."""
    of_others = next(index for index, one in enumerate(town.entries()) if one.topic == TO_SHELTER)
    town.receipt(of_others)
    town.receipt(next(index for index, one in enumerate(town.entries()) if one.topic == TO_IOM))
    town.export(tmp_path / "police.zip", AGENCY)
    source = EvidenceSource.open(tmp_path / "police.zip", {"receipts": town.receipts})
    try:
        assert audit(source, town.trust()).findings.kept == ()
    finally:
        source.close()


def test_however_many_records_are_put_in_they_are_not_held_at_once(town: Town, tmp_path: Path) -> None:
    """One entry that names a far place must not have everything before it read into memory."""
    town.export(tmp_path / "all.zip")
    far = LedgerEntry("event", "bi.case.r5w2", 10**9, None, bytes(32), bytes(32)).encode()
    with zipfile.ZipFile(tmp_path / "all.zip") as old, zipfile.ZipFile(tmp_path / "far.zip", "w", 8) as new:
        for name in old.namelist():
            if not name.startswith("tile/"):
                new.writestr(name, old.read(name))
        new.writestr(f"tile/entries/000.p/{len(town.encoded()) + 1}", pack_entries([*town.encoded(), far]))
        for offset in range(40):
            new.writestr(f"records/bi.case.r5w2/{offset}-1", bytes(900_000))
    tracemalloc.start()
    try:
        assert shown(audited(town, tmp_path / "far.zip")).count(("record_unlogged", "record")) == 40
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_evidence_without_a_registry_file_says_so(town: Town, tmp_path: Path) -> None:
    town.export(tmp_path / "all.zip")
    out = changed(tmp_path / "all.zip", lambda name, data: None if name.startswith("registries/") else (name, data))
    assert ("registry_invalid", "registry") in shown(audited(town, out))


def test_another_true_registry_in_the_place_of_one_is_not_it(town: Town, tmp_path: Path) -> None:
    """An older one, say, in which a key was not revoked yet."""
    town.export(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        names = sorted(name for name in packed.namelist() if re.fullmatch("registries/[0-9a-f]{64}", name))
        first = packed.read(names[0])
    out = changed(tmp_path / "all.zip", lambda name, data: (name, first if name == names[1] else data))
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


def test_a_zip_that_others_may_read_otherwise_or_that_unpacks_without_end_is_refused(
    town: Town, tmp_path: Path
) -> None:
    town.export(tmp_path / "all.zip")
    whole = (tmp_path / "all.zip").read_bytes()
    for name, data, packed in (
        ("evidence.json", b"{}", zipfile.ZIP_DEFLATED),
        ("registries/published", bytes(64), zipfile.ZIP_LZMA),
        ("report.html", bytes(64), zipfile.ZIP_BZIP2),
    ):
        (tmp_path / "all.zip").write_bytes(whole)
        with pytest.raises(LogError) as refused:
            audited(town, with_member(tmp_path / "all.zip", name, data, packed))
        assert (refused.value.code, refused.value.path) == ("note_malformed", "evidence")


def test_a_zip_with_any_damage_is_evidence_or_refused_in_words(town: Town, tmp_path: Path) -> None:
    town.export(tmp_path / "police.zip", AGENCY)
    whole = (tmp_path / "police.zip").read_bytes()
    assert (tmp_path / "police.zip").stat().st_mode & 0o077 == 0, "it is for its maker alone"
    codes = set()
    for at in (*range(40, len(whole), len(whole) // 25), whole.rindex(b"PK\x01\x02") + 6):
        (tmp_path / "police.zip").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            audited(town, tmp_path / "police.zip")
        except LogError as refused:
            codes.add(refused.code)
    assert codes == {"note_malformed"}


def test_an_unpacked_folder_leads_to_no_file_of_the_auditors(town: Town, tmp_path: Path) -> None:
    town.export(tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        packed.extractall(tmp_path / "unpacked")
    own = tmp_path / "own.key"
    own.write_text("secret")
    published = tmp_path / "unpacked" / "registries" / "published"
    makers: tuple[Callable[[], None], ...] = (lambda: published.symlink_to(own), lambda: os.mkfifo(published))
    for make in makers:
        published.unlink()
        make()
        with pytest.raises(LogError) as refused:
            audited(town, tmp_path / "unpacked")
        assert refused.value.code == "note_malformed"


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
