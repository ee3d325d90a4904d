# SPDX-License-Identifier: Apache-2.0
"""The index is never the truth: lost, damaged, of another log, or behind another gateway, the answers are the same."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import orjson
import pytest

import gateway.index
from gateway.index import Index
from schemas.envelope import chain_hash
from schemas.errors import LogError
from tests.domain import Domain
from tests.gateway.gateway_world import World, count_of, erasing
from tests.gateway.test_gateway_publish import TOPIC, twin_of
from tests.small_disk import full, small_disk
from topics.sqlite_log import SqliteLog


def lose(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xa5" * 8192
    path.write_bytes(data)


def no_database(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def of_another_log(path: Path) -> None:
    lose(path)
    Index.open(path, "another").close()


def keep(path: Path) -> None:
    assert path.exists()


@pytest.mark.parametrize("harm", [keep, lose, damage, no_database, of_another_log])
def test_the_answers_are_the_same_afterwards(harm: Callable[[Path], None], tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        records = [world.domain.record() for _ in range(30)]
        hole, voiding = world.domain.record(), world.domain.record(voids=(31,))
        gap, late = world.domain.record(chain=False, seq=40, prev="B" * 42 + "A"), world.domain.record()
        conflict = world.domain.record(evt=records[3].manifest.evt, chain=False)
        erased = erasing(world, records[5], "bi/iom", "bi/k7t4")
        async with world.opened() as gateway, world.caller(gateway) as iom:
            first = await iom.send(*records, voiding, gap)
            await iom.send(erased)
        harm(tmp_path / "index.db")
        async with world.opened() as gateway, world.caller(gateway) as iom:
            again = await iom.send(*records, voiding, gap)
            assert [line["offset"] for line in again[:-1]] == [line["offset"] for line in first[:-1]]
            assert all(line["copy"] for line in again[:-1])
            told = await iom.send(hole, conflict, late, twin_of(records[7]))
            assert told[0]["problem"]["code"] == "chain_broken"
            assert told[1]["problem"]["code"] == "evt_conflict"
            assert told[2]["finding"] == "late"
            assert told[3]["copy"] is True
            assert gateway.door.index.is_erased(records[5].manifest.ident)
            assert gateway.door.index.heads_of("bi/iom", [TOPIC])[TOPIC].seq == 40

    asyncio.run(run())


@pytest.mark.parametrize("again", [False, True])
def test_an_erasure_that_is_read_before_its_target_counts_when_the_target_is_read(again: bool, tmp_path: Path) -> None:
    """Topics are followed one after the other, in any order, and a restart may come in between."""
    world = World(tmp_path)
    one, two = world.domain.record(), world.domain.record()
    by_issuer = erasing(world, one, "bi/iom", "bi/k7t4").manifest
    by_stranger = erasing(world, two, "bi/r5w2", "bi/k7t4").manifest
    index = Index.open(tmp_path / "index.db", "log")
    index.apply(by_issuer, "h1", 0, 0)
    index.apply(by_stranger, "h2", 1, 0)
    if again:
        index.close()
        index = Index.open(tmp_path / "index.db", "log")
    assert index.erasures_to_do() == []
    index.apply(one.manifest, "h3", 0, 0)
    index.apply(two.manifest, "h4", 1, 0)
    assert index.is_erased(one.manifest.ident)
    assert not index.is_erased(two.manifest.ident)
    assert index.erasures_to_do() == [one.manifest.ident]
    index.close()


def test_two_gateways_on_one_log_agree(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with (
            world.opened() as one,
            world.opened(index=tmp_path / "index2.db", follow_seconds=3600.0) as two,
            world.caller(one) as here,
            world.caller(two) as there,
        ):
            records = [world.domain.record() for _ in range(6)]
            await here.send(records[0], records[1])
            # Its index has not seen them: looked up before anything is called a gap.
            told = await there.send(records[2])
            assert told[0].get("finding") is None
            told = await here.send(records[3])
            assert told[0].get("finding") is None
            # A repeat, a twin and a conflict at the other gateway than the first copy.
            told = await there.send(records[3], twin_of(records[0]))
            assert [(line["offset"], line["copy"]) for line in told[:-1]] == [(3, True), (0, True)]
            conflict = world.domain.record(evt=records[1].manifest.evt, chain=False)
            told = await there.send(conflict)
            assert told[0]["problem"]["code"] == "evt_conflict"
            # Both at once, nothing seen yet on either side.
            told_here, told_there = await asyncio.gather(here.send(records[4]), there.send(twin_of(records[4])))
            assert told_here[0]["offset"] == told_there[0]["offset"] == 4
            assert await count_of(one, TOPIC) == 5
            # An erasure at one counts at the other as soon as it looks.
            await here.send(erasing(world, records[0], "bi/iom", "bi/k7t4"))
            await two.door.follower.follow()
            assert two.door.index.is_erased(records[0].manifest.ident)

    asyncio.run(run())


def test_a_flush_that_fails_loses_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened(follow_seconds=3600.0) as gateway, world.caller(gateway) as iom:
            index = gateway.door.index
            await iom.send(*(world.domain.record() for _ in range(5)))
            assert index.unwritten() == 5
            assert index.begin_flush()
            assert not index.begin_flush()  # one at a time
            told = await iom.send(world.domain.record())  # lookups see both halves meanwhile
            assert told[0].get("finding") is None
            index.end_flush(False)
            assert index.unwritten() == 6
            assert index.flush()
            assert index.unwritten() == 0
            assert index.next_offset(TOPIC) == 6
            heads = index.heads_of("bi/iom", [TOPIC])
            assert heads[TOPIC].seq == 6

    asyncio.run(run())


def test_a_stop_waits_for_the_write_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers on one connection would leave the index at the end of the log, without the rows."""
    begun = threading.Event()

    def slowly(rows: list[tuple[str | int, ...]]) -> Iterator[tuple[str]]:
        begun.set()
        time.sleep(0.2)
        return as_json(rows)

    as_json = gateway.index._as_json

    async def run() -> None:
        world = World(tmp_path)
        records = [world.domain.record() for _ in range(5)]
        async with world.opened(follow_seconds=0.01) as one, world.caller(one) as iom:
            monkeypatch.setattr("gateway.index._as_json", slowly)
            await iom.send(*records)
            while not begun.is_set():
                await asyncio.sleep(0.001)
            log = one.door.log
        with pytest.raises(LogError) as told:
            await log.ends(TOPIC)
        assert told.value.code == "log_closed"
        async with world.opened(follow_seconds=3600.0) as again:
            assert again.door.index.next_offset(TOPIC) == 5
            assert all(again.door.index.event(record.manifest.ident) is not None for record in records)
            assert again.door.index.heads_of("bi/iom", [TOPIC])[TOPIC].seq == 5

    asyncio.run(run())


def test_what_retention_took_is_skipped_not_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        records = [world.domain.record() for _ in range(8)]
        async with world.opened() as gateway, world.caller(gateway) as iom:
            await iom.send(*records[:6])
            assert isinstance(gateway.door.log, SqliteLog)
            await gateway.door.log.trim(TOPIC, 4)
        lose(tmp_path / "index.db")
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/k7t4") as k7t4:
            told = await iom.send(records[6])
            assert (told[0]["offset"], told[0].get("finding")) == (6, None)
            response = await k7t4.get("/v1/mailbox?flows=referral")
            assert (response.status_code, response.json()["code"]) == (410, "retention_passed")
            assert await gateway.door.follower.lag() == 0

    asyncio.run(run())


def test_own_manifests_that_are_still_kept_are_told_behind_those_that_retention_took(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        records = [world.domain.record() for _ in range(6)]
        async with world.opened() as gateway, world.caller(gateway) as iom:
            await iom.send(*records)
            assert isinstance(gateway.door.log, SqliteLog)
            await gateway.door.log.trim(TOPIC, 4)
            for asked, seqs in (("", [5, 6]), ("&after=1&limit=2", [5]), ("&after=5&limit=2", [6]), ("&after=6", [])):
                response = await iom.get(f"/v1/sent?topic={TOPIC}{asked}")
                assert [orjson.loads(line)["seq"] for line in response.content.splitlines()] == seqs

    asyncio.run(run())


def test_a_full_disk_keeps_it_in_memory_until_there_is_room(tmp_path: Path) -> None:
    domain = World(tmp_path).domain
    records = [domain.record() for _ in range(60)]
    with small_disk(tmp_path / "small") as folder:
        index = Index.open(folder / "index.db", "log")
        with full(folder):
            for offset, record in enumerate(records):
                index.apply(record.manifest, chain_hash(record.value.partition(b"\n")[0]), offset, 1)
            assert not index.flush()
            assert [index.event(record.manifest.ident) for record in records].count(None) == 0
        assert index.flush()
        index.close()
        index = Index.open(folder / "index.db", "log")
        assert index.next_offset(TOPIC) == len(records)
        index.close()


def test_what_was_looked_up_together_is_not_asked_of_the_file_again(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    here, other = Domain("looked up").record(), Domain("not there").record()
    index = Index.open(path, "log")
    index.apply(here.manifest, chain_hash(here.value.partition(b"\n")[0]), 0, 1_000)
    assert index.flush()
    index.look_up([here.manifest.ident, other.manifest.ident])
    rows = apsw.Connection(str(path))
    rows.execute("DELETE FROM event")
    rows.close()
    known = index.event(here.manifest.ident)
    assert known is not None
    assert known.offset == 0
    assert index.event(other.manifest.ident) is None
    # What is applied counts at once, and what is in the file afterwards.
    index.apply(other.manifest, chain_hash(other.value.partition(b"\n")[0]), 1, 2_000)
    assert index.event(other.manifest.ident) is not None
    assert index.flush()
    assert index.event(other.manifest.ident) is not None
    assert index.event(here.manifest.ident) is None
    index.close()


def test_an_index_that_is_made_again_is_written_in_several_statements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.index._ROWS_AT_ONCE", 3)
    domain = Domain("many")
    records = [domain.record() for _ in range(10)]
    index = Index.open(tmp_path / "index.db", "log")
    for offset, one in enumerate(records):
        index.apply(one.manifest, chain_hash(one.value.partition(b"\n")[0]), offset, 1_000 + offset)
    assert index.flush()
    index.close()
    index = Index.open(tmp_path / "index.db", "log")
    events = [index.event(one.manifest.ident) for one in records]
    links = [index.link(one.manifest.iss, TOPIC, one.manifest.seq) for one in records]
    assert [None if one is None else (one.offset, one.at_ms) for one in events] == [(n, 1_000 + n) for n in range(10)]
    assert [None if one is None else one.offset for one in links] == list(range(10))
    index.close()
