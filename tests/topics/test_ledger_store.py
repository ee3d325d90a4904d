# SPDX-License-Identifier: Apache-2.0
"""The ledger's store in SQLite; a sequencer that is killed anywhere; a ledger that does not grow in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from schemas.errors import LogError
from tests.power_cut import PowerCut, PowerCutVFS
from tests.topics.ledger_store_contract import CHECKS, Check, events, put, reader, root_of
from tests.topics.ledger_world import ORIGIN, World, entries_in, shown
from topics.ledger import Sequencer
from topics.ledger_entries import Batch, LedgerEntry, decode_batch
from topics.ledger_store import LedgerStore, SqliteLedgerStore, StoredBatch
from topics.ledger_view import Applied, LedgerView
from topics.proofs import leaf_hash
from topics.tiles import GrowingTree
from umuhuza.children import until_alone


@dataclass
class SqliteHarness:
    folder: Path

    def open(self) -> LedgerStore:
        return SqliteLedgerStore.open(self.folder / "ledger.db", random_id=lambda: "store")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_stores_contract_over_sqlite(check: Check, tmp_path: Path) -> None:
    check(SqliteHarness(tmp_path))


def test_only_effective_batches_are_ever_in_the_file(tmp_path: Path) -> None:
    one = reader(SqliteHarness(tmp_path))
    put(one.store, (), events(0, 2))
    put(one.store, (), events(7, 3))
    assert len(one.store.read(-1)) == 1
    one.close()


def test_another_file_is_not_opened_as_a_ledger(tmp_path: Path) -> None:
    World(tmp_path)
    for name, create in (("log.db", True), ("nowhere.db", False)):
        with pytest.raises(LogError) as caught:
            SqliteLedgerStore.open(tmp_path / name, random_id=lambda: "x", create=create)
        assert (caught.value.code, caught.value.path) == ("unavailable", "file")


@dataclass
class Counted:
    """A store that tells of every step; told to, the process ends there, as if its power were cut."""

    store: LedgerStore
    die_at: int
    steps: int = field(default=0)

    @property
    def store_id(self) -> str:
        return self.store.store_id

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def append(self, batch: Batch, root: bytes) -> None:
        self.step()
        self.store.append(batch, root)
        self.step()

    def read(self, after: int, limit: int = 64) -> list[StoredBatch]:
        found = self.store.read(after, limit)
        if found:
            self.step()
        return found

    def close(self) -> None:
        self.store.close()


class Stepping(LedgerView):
    """A view that tells the store's counter that it has taken something in."""

    counter: Counted

    def take(self, position: int, value: bytes, own: Applied | None = None) -> bool:
        effective = super().take(position, value, own)
        self.counter.step()
        return effective


def sequence_until(folder: Path, die_at: int) -> int:
    """Sequence and sign all that is there; returns how many steps it took, unless it dies on the way."""
    world = World(folder)
    store = Counted(world.open_store(), die_at)

    async def work() -> None:
        view = Stepping.open(folder / "view.db", origin=ORIGIN, store_id=store.store_id)
        view.counter = store
        sequencer = Sequencer(world.log, store, view, world.registries, now_ms=lambda: world.at_ms, in_thread=False)
        checkpoints = world.checkpoints()
        await sequencer.start()
        while await sequencer.step():
            store.step()
            checkpoints.publish(view)
            store.step()
        checkpoints.publish(view)
        view.close()

    world.run(work)
    return store.steps


def in_child(work: Callable[[], object]) -> int:
    """Runs it in a forked process; how that ended."""
    until_alone()
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepare(folder: Path) -> None:
    folder.mkdir()
    world = World(folder)

    async def work() -> None:
        await world.put(*[world.domain.record() for _ in range(3)])

    world.run(work)


def test_killed_between_any_two_steps_it_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    prepare(tmp_path / "whole")
    steps = sequence_until(tmp_path / "whole", 0)
    assert steps > 8
    expected = shown(_entries(tmp_path / "whole"))
    for die_at in range(1, steps + 1):
        folder = tmp_path / str(die_at)
        prepare(folder)
        assert in_child(partial(sequence_until, folder, die_at)) == -signal.SIGKILL
        sequence_until(folder, 0)
        assert shown(_entries(folder)) == expected, f"killed at step {die_at}"
        assert (folder / "checkpoint").read_bytes().splitlines()[1] == str(len(expected)).encode()


def _entries(folder: Path) -> list[LedgerEntry]:
    world = World(folder)
    sequencer = world.sequencer()
    asyncio.run(sequencer.start())
    found = entries_in(sequencer.view)
    sequencer.view.close()
    asyncio.run(world.log.close())
    return found


def test_a_damaged_view_is_made_again(tmp_path: Path) -> None:
    one = reader(SqliteHarness(tmp_path))
    put(one.store, (), events(0, 600))
    one.catch_up()
    one.view.close()
    path = max(tmp_path.glob("view-*.db"))
    damaged = bytearray(path.read_bytes())
    damaged[4096:12288] = bytes(8192)
    path.write_bytes(damaged)
    view = LedgerView.open(path, origin="bi.umuhuza/log", store_id=one.store.store_id)
    for stored in one.store.read(view.position):
        view.take(stored.position, stored.value)
    assert view.tree.root() == root_of(events(0, 600))
    view.close()
    one.store.close()


def test_memory_does_not_grow_with_the_tree(tmp_path: Path) -> None:
    """What grows by 8 bytes an entry would be 80 MB at ten million; the right edge of the tree stays below 30 KB."""
    one = reader(SqliteHarness(tmp_path))

    def grow(count: int) -> None:
        first = one.view.size
        entries = events(first, count)
        tree = GrowingTree.resume(first, one.view.tree.edge)
        batch = Batch(first, one.view.tree.root(), entries)
        for entry in entries:
            tree.append(leaf_hash(entry))
        one.store.append(batch, tree.root())
        one.catch_up()

    grow(1000)
    tracemalloc.start()
    grow(1000)
    held, _ = tracemalloc.get_traced_memory()
    for _ in range(4):
        grow(1000)
    more, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert more - held < 4 * 8192 + 8000, "more than a tile of the tree's edge"
    one.close()


def test_at_ten_million_entries_the_edge_is_still_small() -> None:
    size = 10_000_000
    widths = [(size >> (8 * level)) % 256 for level in range(3)]
    edge = [bytes(32 * width) for width in widths]
    tree = GrowingTree.resume(size, edge)
    for at in range(1000):
        tree.append(at.to_bytes(32, "big"))
    tree.take()
    assert sum(map(len, tree.edge)) < 4 * 8192


def test_a_reader_ignores_a_batch_that_names_another_tree(tmp_path: Path) -> None:
    """As Kafka's topic may hold them, for ever."""
    view = LedgerView.open(tmp_path / "view.db", origin=ORIGIN, store_id="store")
    first, forged = events(0, 2), events(7, 2)
    assert view.take(0, Batch(0, root_of(()), first).encode())
    assert not view.take(1, Batch(2, root_of(forged), events(2, 2)).encode())
    assert not view.take(2, Batch(1, root_of(first[:1]), events(1, 2)).encode())
    assert not view.take(3, Batch(2, root_of(first), (*events(2, 1), b"no entry")).encode())
    assert view.take(4, Batch(2, root_of(first), events(2, 1)).encode())
    assert (view.size, view.position) == (3, 4)
    view.close()


def test_a_process_that_is_behind_takes_nothing_back_that_another_has_taken_in(tmp_path: Path) -> None:
    ahead, behind = (LedgerView.open(tmp_path / "view.db", origin=ORIGIN, store_id="store") for _ in range(2))
    batches = [Batch(first, root_of(events(0, first)), events(first, 100)).encode() for first in (0, 100, 200)]
    for position, batch in enumerate(batches):
        assert ahead.take(position, batch)
    assert not behind.take(0, batches[0]), "it is in the view already"
    assert (behind.size, behind.position) == (300, 2)
    assert LedgerView.reading(tmp_path / "view.db").root_at(300) == root_of(events(0, 300))
    for view in (ahead, behind):
        view.close()


def test_what_was_appended_survives_power_cuts_at_any_point() -> None:
    """One history through thirty lives: what an append returned for is there, and what follows it follows."""
    rng = random.Random(5)
    disk = PowerCutVFS("ledger", seed=5)
    promised = [0]
    for _ in range(30):
        disk.crash_after(rng.randint(1, 40))
        with contextlib.suppress(PowerCut):
            _append_until_the_cut(disk, promised)
        disk.reset_after_cut()
        store = SqliteLedgerStore.open(Path("/ledger.db"), random_id=lambda: "store", vfs=disk.name)
        found = [entry for one in store.read(-1, 10_000) for entry in decode_batch(one.value).entries]
        store.close()
        assert len(found) >= promised[0]
        assert found == list(events(0, len(found)))
        promised[0] = len(found)
    assert promised[0] > 30
    gc.collect()
    disk.forget()


def _append_until_the_cut(disk: PowerCutVFS, promised: list[int]) -> None:
    """`promised`: how many entries are there for certain. Raises PowerCut."""
    store = SqliteLedgerStore.open(Path("/ledger.db"), random_id=lambda: "store", vfs=disk.name)
    for _ in range(20):
        put(store, events(0, promised[0]), events(promised[0], 3))
        if disk.dead:
            return
        promised[0] += 3
