# SPDX-License-Identifier: Apache-2.0
"""A ledger that is looked at by its gateway's address: one tree, or the cheat is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import LogError
from tests.cheating.cheats import NO_WITNESS, TO_SHELTER, Town, shown
from topics.audit import Report, audit
from topics.audit_findings import Held
from topics.audit_served import ServedSource
from topics.proofs import leaf_hash
from topics.tiles import TILE_WIDTH, TileFetch, TileId, pack_entries


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with Town(tmp_path / "bi") as made:
        domain = made.domain
        made.publish(*(domain.record() for _ in range(3)), domain.record("bi/police", "bi/iom", "case", "update"))
        made.sequence()
        made.receipt(2)
        yield made


def served(town: Town, *, entries: bool = False, tile: TileFetch | None = None) -> ServedSource:
    """As the gateway of this town serves it now; `entries`: to an auditor."""
    encoded = town.encoded()
    assert town.own is not None

    def part(of: list[bytes], which: TileId) -> list[bytes]:
        return of[which.index * TILE_WIDTH :][: which.width]

    return ServedSource(
        "bi",
        town.own,
        len(encoded),
        tile or (lambda which: b"".join(part([leaf_hash(one) for one in encoded], which))),
        entries=(lambda which: pack_entries(part(encoded, which))) if entries else None,
        published=town.published if entries else None,
        brought={"checkpoints": town.brought, "receipts": town.receipts, "promises": town.promises},
    )


def looked_at(town: Town, *, entries: bool = False) -> Report:
    return audit(served(town, entries=entries), town.trust())


def test_hashes_alone_show_one_tree_in_which_receipts_have_their_place(town: Town) -> None:
    report = looked_at(town)
    assert report.findings.kept == ()
    assert (report.shown, report.size, report.receipts) == ("hashes", 5, 1)
    assert (report.records, report.promises, dict(report.kinds)) == (0, 0, {}), "nothing is said of these"


def test_an_auditors_entries_keep_promises_too(town: Town) -> None:
    report = looked_at(town, entries=True)
    assert report.findings.kept == ()
    assert (report.shown, report.promises, report.receipts, report.records) == ("entries", 4, 1, 0)
    assert report.kinds["event"] == 4


def test_a_ledger_made_again_contradicts_what_the_witness_signed_and_the_receipt(town: Town) -> None:
    town.rebuild(lambda entries: [entries[0], replace(entries[1], previous=None), *entries[3:]])
    assert {("log_inconsistent", "checkpoint")} <= set(shown(looked_at(town)))
    town.brought.clear()
    assert shown(audit(served(town), town.trust(NO_WITNESS)))[0] == ("log_inconsistent", "receipt")


def test_other_hashes_than_were_signed_are_named(town: Town) -> None:
    good = served(town)
    swapped = list(good.hashes())[::-1]
    source = served(town, tile=lambda which: b"".join(swapped))
    assert ("root_mismatch", "checkpoint") in shown(audit(source, town.trust()))


def test_a_promise_of_another_record_is_a_lie_that_entries_show_and_hashes_do_not(town: Town) -> None:
    town.promise(town.domain.record(), 1)
    assert ("record_rewritten", "promise") in shown(looked_at(town, entries=True))
    assert looked_at(town).findings.kept == ()


def test_an_entry_that_does_not_follow_is_named_to_an_auditor(town: Town) -> None:
    town.brought.clear()
    town.receipts.clear()
    town.rebuild(lambda entries: [one for one in entries if (one.topic, one.offset) != (TO_SHELTER, 1)])
    report = audit(served(town, entries=True), town.trust(NO_WITNESS))
    assert ("log_inconsistent", "entry") in shown(report)
    assert {one.topic for one in report.findings.kept if one.about == "entry"} == {TO_SHELTER}


def test_an_older_registry_than_the_one_entered_is_named_to_an_auditor(town: Town) -> None:
    town.domain.registry = town.domain.registry.renewed(town.domain.now)
    old = town.published
    town.sequence()
    town.published = old
    assert ("registry_rollback", "registry") in shown(looked_at(town, entries=True))


def test_two_visitors_who_are_shown_two_ledgers_find_out_with_one_checkpoint(town: Town, tmp_path: Path) -> None:
    with Town(tmp_path / "other") as other:
        other.publish(*(other.domain.record() for _ in range(4)))
        other.sequence()
        assert town.own is not None
        other.brought.append(Held("from-the-other", town.own, own=False))
        assert ("log_inconsistent", "checkpoint") in shown(looked_at(other))


def test_a_tile_that_is_too_short_ends_it(town: Town) -> None:
    with pytest.raises(LogError) as ended:
        audit(served(town, tile=lambda which: bytes(32)), town.trust())
    assert (ended.value.code, ended.value.path) == ("root_mismatch", "tile")
