# SPDX-License-Identifier: Apache-2.0
"""What every store of a ledger promises; run against SQLite in test_ledger_store.py, against Kafka in tests/kafka."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.domain import Domain
from tests.topics.ledger_world import ORIGIN, Registries, World, entries_in
from topics.ledger import Sequencer
from topics.ledger_entries import Batch, LedgerEntry
from topics.ledger_store import LedgerStore, StoredBatch
from topics.ledger_view import LedgerView
from topics.proofs import EMPTY_ROOT, leaf_hash, root


class StoreHarness(Protocol):
    folder: Path

    def open(self) -> LedgerStore:
        """One more handle upon the one store; several may be open at once."""


@dataclass
class Reader:
    """A store and what one reader makes of it."""

    store: LedgerStore
    view: LedgerView

    def catch_up(self) -> list[bool]:
        return [self.view.take(one.position, one.value) for one in iter_all(self.store, self.view.position)]

    def close(self) -> None:
        self.view.close()
        self.store.close()


def iter_all(store: LedgerStore, after: int = -1) -> list[StoredBatch]:
    found: list[StoredBatch] = []
    while some := store.read(after, 3):
        found += some
        after = some[-1].position
    return found


_names = itertools.count()


def reader(harness: StoreHarness) -> Reader:
    store = harness.open()
    path = harness.folder / f"view-{next(_names)}.db"
    return Reader(store, LedgerView.open(path, origin=ORIGIN, store_id=store.store_id))


def events(first: int, count: int) -> tuple[bytes, ...]:
    return tuple(
        LedgerEntry("event", "bi.case.iom", at, at - 1 if at else None, bytes(32), at.to_bytes(32, "big")).encode()
        for at in range(first, first + count)
    )


def root_of(entries: Sequence[bytes]) -> bytes:
    return root([leaf_hash(entry) for entry in entries]) if entries else EMPTY_ROOT


def put(store: LedgerStore, before: Sequence[bytes], entries: Sequence[bytes]) -> None:
    store.append(Batch(len(before), root_of(before), tuple(entries)), root_of([*before, *entries]))


def batches_are_read_back_in_order_by_every_handle(harness: StoreHarness) -> None:
    one, other = reader(harness), reader(harness)
    put(one.store, (), events(0, 5))
    put(other.store, events(0, 5), events(5, 300))
    assert one.catch_up() == other.catch_up() == [True, True]
    assert one.view.tree.root() == other.view.tree.root() == root_of(events(0, 305))
    again = reader(harness)
    assert again.catch_up() == [True, True]
    assert entries_in(again.view) == entries_in(one.view)
    for each in (one, other, again):
        each.close()


def of_two_batches_upon_one_tree_the_first_counts(harness: StoreHarness) -> None:
    one, other = reader(harness), reader(harness)
    put(one.store, (), events(0, 2))
    put(other.store, (), events(7, 3))
    put(one.store, (), events(0, 2))
    for each in (one, other):
        assert each.catch_up().count(True) == 1
        assert each.view.tree.root() == root_of(events(0, 2))
    put(other.store, events(0, 2), events(2, 1))
    put(one.store, events(7, 3), events(2, 1))
    for each in (one, other):
        assert each.catch_up().count(True) == 1
        assert each.view.tree.root() == root_of(events(0, 3))
        each.close()


def a_batch_of_another_history_never_counts_however_its_numbers_fit(harness: StoreHarness) -> None:
    one = reader(harness)
    put(one.store, (), events(0, 2))
    one.store.append(Batch(2, root_of(events(1, 2)), events(2, 2)), root_of(events(0, 4)))
    one.store.append(Batch(1, root_of(events(0, 1)), events(1, 2)), root_of(events(0, 3)))
    assert one.catch_up().count(True) == 1
    assert one.view.size == 2
    one.close()


def two_sequencers_at_once_make_one_history(harness: StoreHarness) -> None:
    _two_at_once(harness, ("first.db", "second.db"))


def two_sequencers_upon_one_view_make_one_history(harness: StoreHarness) -> None:
    _two_at_once(harness, ("both.db", "both.db"))


def _two_at_once(harness: StoreHarness, views: Sequence[str]) -> None:
    """Both step as they like while records come; nothing is logged twice, nothing is left out."""
    world = World(harness.folder, Domain(extra_issuers=2))

    async def work() -> None:
        stores = [harness.open(), harness.open()]
        registries = Registries(world.domain)
        sequencers = [
            Sequencer(
                world.log,
                store,
                LedgerView.open(harness.folder / view, origin=ORIGIN, store_id=store.store_id),
                registries,
                now_ms=lambda: world.at_ms,
            )
            for view, store in zip(views, stores, strict=True)
        ]
        records = [[world.domain.record(iss=f"bi/n{number}") for _ in range(20)] for number in range(2)]
        done = asyncio.Event()

        async def sequence(one: Sequencer) -> None:
            while not done.is_set():
                await one.step(0.02)

        async def write(number: int) -> None:
            for record in records[number]:
                await world.put(record)
                await asyncio.sleep(0)

        running = [asyncio.create_task(sequence(one)) for one in sequencers]
        await asyncio.gather(write(0), write(1))
        done.set()
        await asyncio.gather(*running)
        for one in sequencers:
            while await one.step():
                pass
        for one in sequencers:
            await one.step()
        first, second = (entries_in(one.view) for one in sequencers)
        assert first == second
        assert sequencers[0].view.tree.root() == sequencers[1].view.tree.root()
        assert [one.offset for one in first if one.topic is not None] == list(range(40))
        assert [one.kind for one in first].count("registry") == 1
        for one, store in zip(sequencers, stores, strict=True):
            one.view.close()
            store.close()

    world.run(work)


Check = Callable[[StoreHarness], None]
CHECKS: tuple[Check, ...] = (
    batches_are_read_back_in_order_by_every_handle,
    of_two_batches_upon_one_tree_the_first_counts,
    a_batch_of_another_history_never_counts_however_its_numbers_fit,
    two_sequencers_at_once_make_one_history,
    two_sequencers_upon_one_view_make_one_history,
)
