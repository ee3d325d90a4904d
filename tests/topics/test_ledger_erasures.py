# SPDX-License-Identifier: Apache-2.0
"""The ledger calls an erasure done once no key of it can be read any more, wherever it stands, and never before."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from schemas.envelope import Acts
from schemas.errors import LogError
from tests.domain import Signed
from tests.topics.ledger_world import World, shown
from topics import sqlite_log
from topics.ledger import Sequencer
from topics.ledger_erasures import DUE_MS, Erasures, overdue_of
from topics.ledger_retention import Due, due
from topics.log import grant_key, grants_topic

TO_SHELTER = grants_topic("bi/k7t4")
COMMAND = "bi.rights.k7t4"


@dataclass
class Watched:
    """A ledger whose erasures are looked after; its clock jumps over every pause."""

    world: World
    sequencer: Sequencer = field(init=False)
    erasures: Erasures = field(init=False)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.sequencer = self.world.sequencer()
        self.erasures = self.watching(self.sequencer)

    def watching(self, sequencer: Sequencer) -> Erasures:
        world = self.world
        return Erasures(world.log, sequencer, now_ms=lambda: world.at_ms, every_s=600.0, clock=lambda: self.seconds)

    async def said(self) -> list[str]:
        """Everything sequenced and looked after; the entries that call something done."""
        await self.world.sequenced(self.sequencer)
        self.seconds += 10_000
        for _ in range(3):
            await self.erasures.turn()
            for _ in range(5):
                await asyncio.sleep(0)
        return [line for line in shown(await self.world.sequenced(self.sequencer)) if line.startswith("erased")]


async def granted(world: World) -> Signed:
    """A record to the shelter, with its grant."""
    record = world.domain.record()
    await world.put(record)
    await world.log.put_grants(TO_SHELTER, record.grant_puts())
    return record


def command(world: World, target: Signed, iss: str = "bi/iom", to: str = "bi/k7t4") -> Signed:
    acts = Acts(erase=(target.manifest.ident,))
    return world.domain.record(iss, to, "rights", "control", acts=acts)


def in_log(world: World, secure: str, *statements: str) -> None:
    """By another process, which does it as it likes."""
    connection = apsw.Connection(str(world.folder / "log.db"))
    connection.pragma("secure_delete", secure)
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


def test_an_erasure_is_called_done_when_no_holder_has_a_key_and_no_file_a_byte_of_it(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        record = await granted(world)
        ident = record.manifest.ident
        [value] = record.grant_puts().values()
        forgotten = grant_key(ident, "a-key-that-no-registry-names")
        await world.log.put_grants(grants_topic("bi/r5w2"), {forgotten: b"disclosed"})
        await world.put(command(world, record))
        watched = Watched(world)
        assert await watched.said() == []
        await world.log.delete_grants(TO_SHELTER, list(record.grant_puts()))
        assert await watched.said() == [], "another holder has a key"
        assert (watched.erasures.open, watched.erasures.overdue) == (1, 0)
        await world.log.delete_grants(grants_topic("bi/r5w2"), [forgotten])
        assert await watched.said() == [f"erased {COMMAND} 0"]
        assert await watched.said() == [f"erased {COMMAND} 0"], "said once"
        assert watched.erasures.open == 0
        for file in tmp_path.iterdir():
            data = file.read_bytes()
            assert value[100:200] not in data, file.name
            assert f"{ident}|".encode() not in data, file.name
        again = world.sequencer(view="again.db")
        await world.sequenced(again)
        assert again.view.erasing() == []

    world.run(work)


def test_bytes_that_stay_in_the_file_or_in_the_wal_are_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)

    async def work() -> None:
        in_file, in_wal = await granted(world), await granted(world)
        both = {in_file.manifest.ident, in_wal.manifest.ident}
        await world.put(command(world, in_file), command(world, in_wal))
        in_log(
            world,
            "OFF",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            f"DELETE FROM grant_value WHERE key LIKE '{in_file.manifest.ident}|%'",
            "PRAGMA wal_checkpoint(TRUNCATE)",
        )
        # As long as another program reads what was there before, its bytes cannot be written over.
        reading = apsw.Connection(str(tmp_path / "log.db"))
        reading.execute("BEGIN")
        assert reading.execute("SELECT count(*) FROM grant_value").get == 1
        in_log(world, "ON", f"DELETE FROM grant_value WHERE key LIKE '{in_wal.manifest.ident}|%'")
        for record in (in_file, in_wal):
            assert await world.log.get_grants(TO_SHELTER, list(record.grant_puts())) == {}
        monkeypatch.setattr(sqlite_log, "SCRUB_S", 0.1)
        assert await world.log.grants_left(both) == both
        watched = Watched(world)
        assert await watched.said() == []
        reading.close()
        assert await world.log.grants_left(both) == set()
        assert sorted(await watched.said()) == [f"erased {COMMAND} 0", f"erased {COMMAND} 1"]

    world.run(work)


def test_looking_through_the_file_leaves_its_locks_alone(tmp_path: Path) -> None:
    """POSIX drops a process's locks with any descriptor of the file that it closes; SQLite's shared lock is on 510
    bytes behind the first gigabyte (sqlite.org/fileformat2.html, lock-byte page)."""
    world = World(tmp_path)
    takes = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'rb+'), fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)"

    async def refused() -> bool:
        """Whether another process is kept from locking the file for itself alone."""
        another = await asyncio.create_subprocess_exec(
            sys.executable, "-c", takes, str(tmp_path / "log.db"), stderr=asyncio.subprocess.DEVNULL
        )
        return await another.wait() != 0

    async def work() -> None:
        await granted(world)
        assert await world.log.grants_left({"bi/iom/nobody"}) == set()
        assert await refused()
        (tmp_path / "log.db").open("rb").close()
        assert not await refused(), "this is what must not happen"

    world.run(work)


def test_nobody_waits_for_what_the_signer_may_not_command(tmp_path: Path) -> None:
    """A third agency that writes to the brokers itself: its command is logged, gateways do not obey it."""
    world = World(tmp_path)

    async def work() -> None:
        record = await granted(world)
        await world.put(command(world, record, "bi/r5w2", "bi/k7t4"))
        watched = Watched(world)
        assert await watched.said() == [f"erased {COMMAND} 0"]
        assert await world.log.get_grants(TO_SHELTER, list(record.grant_puts())) == record.grant_puts()

    world.run(work)


def test_the_holder_commands_too_and_waits_for_its_own_keys(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        record = await granted(world)
        await world.put(command(world, record, "bi/k7t4", "bi/iom"))
        watched = Watched(world)
        assert await watched.said() == []
        await world.log.delete_grants(TO_SHELTER, list(record.grant_puts()))
        assert await watched.said() == ["erased bi.rights.iom 0"]

    world.run(work)


def test_what_is_open_for_a_day_is_overdue_and_so_is_a_command_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        first, second = await granted(world), await granted(world)
        await world.put(command(world, first))
        world.at_ms += 10_000
        await world.put(command(world, second))
        watched = Watched(world)
        world.at_ms += DUE_MS - 5_000
        assert await watched.said() == []
        assert (watched.erasures.open, watched.erasures.overdue) == (2, 1)
        assert await overdue_of(world.log, watched.sequencer.view, world.at_ms) == 1
        await world.log.trim(COMMAND, 2)
        again = watched.erasures = watched.watching(watched.sequencer)
        await watched.said()
        assert (again.open, again.overdue) == (2, 2)
        assert await overdue_of(world.log, watched.sequencer.view, world.at_ms) == 2

    world.run(work)


def test_retention_does_not_pass_a_command_that_is_open(tmp_path: Path) -> None:
    world = World(tmp_path)
    keep = {"rights": 100, "receipt": 10**6, "referral": 10**6}

    async def work() -> None:
        record = await granted(world)
        before, erase = world.domain.record(flow="rights", kind="control"), command(world, record)
        await world.put(before, erase)
        await world.put(world.domain.record("bi/k7t4", "bi/iom", "receipt", "control", ref=erase.manifest.evt))
        watched = Watched(world)
        await watched.said()
        world.at_ms += 101_000
        found = await due(world.log, watched.sequencer.view, now_ms=world.at_ms, keep_s=keep)
        assert found == [Due(COMMAND, 0, 1, 0)]
        await world.log.delete_grants(TO_SHELTER, list(record.grant_puts()))
        assert await watched.said() == [f"erased {COMMAND} 1"]
        found = await due(world.log, watched.sequencer.view, now_ms=world.at_ms, keep_s=keep)
        assert found == [Due(COMMAND, 0, 2, 0)]

    world.run(work)


def test_a_look_that_fails_is_told_and_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    looked: list[int] = []

    async def work() -> None:
        record = world.domain.record()
        await world.put(record, command(world, record))
        watched, look = Watched(world), world.log.grants_left

        async def fails_first(idents: Collection[str]) -> set[str]:
            looked.append(len(idents))
            if len(looked) == 1:
                raise LogError("unavailable")
            return await look(idents)

        monkeypatch.setattr(world.log, "grants_left", fails_first)
        await world.sequenced(watched.sequencer)
        for expected in (None, "unavailable"):
            await watched.erasures.turn()
            await asyncio.sleep(0)
            assert watched.erasures.problem == expected
        assert await watched.said() == [f"erased {COMMAND} 0"]
        assert (looked, watched.erasures.problem) == ([1, 1], None)

    world.run(work)


def test_of_two_ledgers_that_look_at_once_one_says_it(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def work() -> None:
        record = world.domain.record()
        await world.put(record, command(world, record))
        one, other = Watched(world), Watched(world)
        other.sequencer = world.sequencer(view="other.db")
        other.erasures = other.watching(other.sequencer)
        for each in (one, other):
            await world.sequenced(each.sequencer)
            await each.erasures.turn()
        await asyncio.sleep(0)
        for each in (one, other):
            await each.erasures.turn()
        for each in (one, other):
            assert await each.said() == [f"erased {COMMAND} 0"]

    world.run(work)


def test_commands_that_are_never_done_hold_no_other_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    monkeypatch.setattr("topics.ledger_erasures.AT_ONCE", 2)

    async def work() -> None:
        kept = [await granted(world) for _ in range(3)]
        free = world.domain.record()
        await world.put(free, *(command(world, one) for one in (*kept, free)))
        watched = Watched(world)
        await watched.said()
        assert await watched.said() == [f"erased {COMMAND} 3"]
        assert watched.erasures.open == 3

    world.run(work)
