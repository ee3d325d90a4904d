# SPDX-License-Identifier: Apache-2.0
"""Retention removes what is old, sequenced and delivered, after the ledger has said so, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.errors import LogError
from tests.topics.ledger_world import World, entries_in, shown
from topics.ledger import Sequencer
from topics.ledger_entries import LedgerEntry
from topics.ledger_retention import MARGIN_MS, Due, Scheduled, Trims, due, execute
from topics.log import Ends

BOX, RECEIPTS = "bi.referral.k7t4", "bi.receipt.iom"
KEEP = {"referral": 100, "receipt": 100}


async def receipt_for(world: World, evt: str) -> None:
    await world.put(world.domain.record(iss="bi/k7t4", to="bi/iom", flow="receipt", kind="control", ref=evt))


async def found_by(world: World, sequencer: Sequencer) -> list[Due]:
    return await due(world.log, sequencer.view, now_ms=world.at_ms, keep_s=KEEP)


def test_what_its_owner_has_answered_and_everything_before_it_goes(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        records = [world.domain.record() for _ in range(4)]
        await world.put(*records)
        await receipt_for(world, records[1].manifest.evt)
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        assert await found_by(world, sequencer) == [], "nothing is old"
        world.at_ms += 101_000
        found = await found_by(world, sequencer)
        assert found == [Due(RECEIPTS, 0, 0, 1, {"bi/k7t4": 1}), Due(BOX, 0, 2, 2, {"bi/iom": 2})]
        assert await execute(sequencer, world.log, world.log, found) == {BOX: 2}
        assert await world.log.ends(BOX) == Ends(2, 4)
        assert await world.log.ends(RECEIPTS) == Ends(0, 1)
        entries = await world.sequenced(sequencer)
        assert shown(entries)[-1] == f"retention {BOX} 2"
        with pytest.raises(LogError, match="retention_passed"):
            await world.log.read(BOX, -1)
        assert await found_by(world, sequencer) == [
            Due(RECEIPTS, 0, 0, 1, {"bi/k7t4": 1}),
            Due(BOX, 2, 2, 2, {"bi/iom": 2}),
        ]

    world.run(work)


def test_only_the_owners_own_word_counts(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        record = world.domain.record()
        await world.put(record)
        other = world.domain.record(iss="bi/r5w2", to="bi/iom", flow="receipt", kind="control", ref=record.manifest.evt)
        await world.put(other)
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        world.at_ms += 101_000
        assert Due(BOX, 0, 0, 1, {"bi/iom": 1}) in await found_by(world, sequencer)

    world.run(work)


def test_receipts_go_when_their_owner_has_answered_something_much_younger(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        first = world.domain.record()
        await world.put(first)
        await receipt_for(world, first.manifest.evt)
        world.at_ms += MARGIN_MS + 1_000
        question = world.domain.record(iss="bi/k7t4", to="bi/iom", flow="case", kind="update")
        await world.put(question)
        await world.put(
            world.domain.record(iss="bi/iom", to="bi/k7t4", flow="receipt", kind="control", ref=question.manifest.evt)
        )
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        world.at_ms += 50_000
        assert Due(RECEIPTS, 0, 1, 0) in await found_by(world, sequencer)

    world.run(work)


def test_what_is_not_sequenced_stays(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        record = world.domain.record()
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        await world.put(record)
        await receipt_for(world, record.manifest.evt)
        world.at_ms += 101_000
        assert await found_by(world, sequencer) == []

    world.run(work)


def test_what_was_logged_and_not_removed_is_removed_by_the_next_run(tmp_path: Path) -> None:
    world = World(tmp_path)

    class DiesFirst:
        async def trim(self, topic: str, before: int) -> int:
            raise LogError("unavailable")

    async def work() -> None:
        record = world.domain.record()
        await world.put(record)
        await receipt_for(world, record.manifest.evt)
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        world.at_ms += 101_000
        with pytest.raises(LogError):
            await execute(sequencer, world.log, DiesFirst(), await found_by(world, sequencer))
        again = world.sequencer(view="again.db")
        await world.sequenced(again)
        assert await execute(again, world.log, world.log, await found_by(world, again)) == {BOX: 1}
        assert [one.kind for one in entries_in(again.view)].count("retention") == 1

    world.run(work)


def test_the_keeper_is_told_whose_records_are_old_and_were_never_delivered(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        await world.put(*(world.domain.record() for _ in range(2)))
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        world.at_ms += 101_000
        [one] = await found_by(world, sequencer)
        assert (one.topic, one.overdue, one.senders) == (BOX, 2, {"bi/iom": 2})

    world.run(work)


def test_an_entry_in_the_store_removes_nothing_that_is_not_due(tmp_path: Path) -> None:
    """Whoever may append to the store is not whoever may remove: what it says is old or delivered is looked at."""
    world = World(tmp_path)

    async def work() -> None:
        records = [world.domain.record() for _ in range(3)]
        await world.put(*records)
        await receipt_for(world, records[0].manifest.evt)
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        assert await sequencer.append([LedgerEntry("retention", BOX, detail="3")])
        assert await execute(sequencer, world.log, world.log, await found_by(world, sequencer)) == {}
        world.at_ms += 101_000
        assert await execute(sequencer, world.log, world.log, await found_by(world, sequencer)) == {BOX: 1}
        assert await world.log.ends(BOX) == Ends(1, 3)

    world.run(work)


def test_a_view_made_again_learns_what_was_answered(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        record = world.domain.record()
        await world.put(record)
        await receipt_for(world, record.manifest.evt)
        await world.sequenced()
        again = world.sequencer(view="again.db")
        await world.sequenced(again)
        world.at_ms += 101_000
        assert Due(BOX, 0, 1, 0) in await found_by(world, again)

    world.run(work)


def test_at_its_times_it_removes_and_counts_what_nobody_took(tmp_path: Path) -> None:
    world = World(tmp_path)
    seconds, runs = 0.0, 0

    @asynccontextmanager
    async def trims() -> AsyncIterator[Trims]:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise LogError("unavailable")
        yield world.log

    async def work() -> None:
        nonlocal seconds
        records = [world.domain.record() for _ in range(3)]
        await world.put(*records)
        await receipt_for(world, records[0].manifest.evt)
        sequencer = world.sequencer()
        await world.sequenced(sequencer)
        retention = Scheduled(
            world.log, sequencer, trims, every_s=3600, now_ms=lambda: world.at_ms, clock=lambda: seconds
        )
        await retention.turn()
        assert (runs, retention.undelivered, retention.problem) == (1, 0, None)
        world.at_ms += 30 * 365 * 86_400_000
        await retention.turn()
        assert runs == 1, "it is not time"
        for problem, ends in (("unavailable", Ends(0, 3)), (None, Ends(1, 3))):
            seconds += 3600
            await retention.turn()
            assert (retention.undelivered, retention.problem) == (3, problem)
            assert await world.log.ends(BOX) == ends

    world.run(work)
