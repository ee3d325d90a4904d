# SPDX-License-Identifier: Apache-2.0
"""What the embedded log promises beyond the contract: power cuts, bytes on disk, recovery, administration."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import resource
import selectors
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from schemas.errors import LogError
from tests.power_cut import PowerCut, PowerCutVFS
from tests.small_disk import full, small_disk
from tests.topics.log_contract import EntryMaker, SmallDisk, code, everything, fill_up_and_go_on, placed, refusal
from tests.topics.test_log_contract import TOPICS, open_sqlite
from topics import sqlite_store, sqlite_wal
from topics.log import Entry
from topics.sqlite_log import SqliteLog
from topics.sqlite_store import refuse_old_sqlite
from topics.sqlite_turn import Turn

TOPIC = "bi.referral.k7t4"
GRANTS = "bi.grants.k7t4"


def entry(ident: str, value: bytes = b"a record", topic: str = TOPIC) -> Entry:
    return Entry(topic, b"thread", ident, value, (("ce_id", ident.encode()),))


def ticking(start: int = 1_000) -> Callable[[], int]:
    return itertools.count(start).__next__


def open_log(path: str, clock: Callable[[], int] | None = None, **options: Any) -> SqliteLog:
    names = itertools.count()
    return SqliteLog.open(
        path,
        topics=[TOPIC, "bi.case.iom"],
        clock_ms=clock or ticking(),
        random_id=lambda: f"{path}-{next(names)}",
        **options,
    )


@pytest.fixture
def disk() -> Iterator[PowerCutVFS]:
    made = PowerCutVFS("test", seed=11)
    yield made
    gc.collect()
    made.forget()


def simulated(disk: PowerCutVFS, **options: Any) -> SqliteLog:
    return open_log("/log.db", vfs=disk.name, exclusive=True, threads=False, **options)


# ---------------------------------------------------------------- opening


def test_an_sqlite_that_can_lose_commits_is_refused() -> None:
    for version in ("3.40.1", "3.51.2", "3.9.0"):
        with pytest.raises(LogError) as caught:
            refuse_old_sqlite(version)
        assert (caught.value.code, caught.value.path, caught.value.expected) == ("unavailable", "sqlite", ">= 3.51.3")
    refuse_old_sqlite("3.51.3")
    refuse_old_sqlite("4.0.0")


def test_opening_asks_which_sqlite_this_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(LogError, match="3.51.3"):
        open_log(str(tmp_path / "log.db"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_nobody_else_may_read_its_files(tmp_path: Path) -> None:
    path = tmp_path / "log.db"

    async def scenario() -> None:
        log = open_log(str(path))
        placed(await log.append([entry("bi/iom/1")]))
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == ["log.db", "log.db-lock", "log.db-shm", "log.db-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        await log.close()
        path.chmod(0o644)
        await open_log(str(path)).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    before = os.umask(0)
    try:
        asyncio.run(scenario())
    finally:
        os.umask(before)


def test_what_is_not_a_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    def refused(path: Path, **options: Any) -> tuple[str, str | None]:
        with pytest.raises(LogError) as caught:
            open_log(str(path), **options)
        return caught.value.code, caught.value.path

    assert refused(tmp_path / "absent.db", create=False) == ("unavailable", "file")
    assert not (tmp_path / "absent.db").exists()
    assert refused(tmp_path / "no" / "folder.db") == ("unavailable", "file")
    other = apsw.Connection(str(tmp_path / "other.db"))
    other.execute("CREATE TABLE schema_version (version INTEGER)")
    other.close()
    assert refused(tmp_path / "other.db") == ("unavailable", "file")
    (tmp_path / "text.db").write_text("not a database " * 100)
    assert refused(tmp_path / "text.db")[0] == "unavailable"
    newer = str(tmp_path / "newer.db")
    asyncio.run(open_log(newer).close())
    other = apsw.Connection(newer)
    other.execute("INSERT INTO schema_version VALUES (99, 0)")
    other.close()
    assert refused(Path(newer)) == ("unavailable", "schema_version")


def test_every_log_has_its_own_id(tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = open_log(str(tmp_path / "a.db")), open_log(str(tmp_path / "b.db"))
        again = open_log(str(tmp_path / "a.db"), create=False)
        assert first.log_id == again.log_id != second.log_id
        for log in (first, second, again):
            await log.close()

    asyncio.run(scenario())


# ---------------------------------------------------------------- time and threads


def test_the_log_s_clock_never_goes_back_within_a_topic(tmp_path: Path) -> None:
    times = iter([0, 5_000, 3_000, 4_000, 9_000])

    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"), lambda: next(times))
        places = [placed(await log.append([entry(f"bi/iom/{n}")]))[0] for n in range(4)]
        assert [at.at_ms for at in places] == [5_000, 5_000, 5_000, 9_000]
        await log.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("threads", [True, False])
def test_sqlite_runs_where_it_was_told_to(tmp_path: Path, threads: bool) -> None:
    ran_in: list[int] = []

    def clock() -> int:
        ran_in.append(threading.get_ident())
        return 1

    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"), clock, threads=threads)
        ran_in.clear()
        placed(await log.append([entry("bi/iom/1")]))
        assert (ran_in == [threading.get_ident()]) is not threads
        await log.close()

    asyncio.run(scenario())


def test_calls_that_arrive_during_a_sync_share_the_next_one(disk: PowerCutVFS) -> None:
    async def scenario() -> None:
        log = open_log("/log.db", vfs=disk.name, exclusive=True)
        disk.done.clear()
        answers = await asyncio.gather(*[log.append([entry(f"bi/iom/{n}")]) for n in range(64)])
        assert [placed(a)[0].offset for a in answers] == list(range(64))
        assert disk.done["sync"] <= 4
        await log.close()

    asyncio.run(scenario())


class _VirtualTime(selectors.SelectSelector):
    """Never waits: the loop's clock jumps to the next timer."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _VirtualTime) -> None:
        self._virtual = selector
        super().__init__(selector)

    def time(self) -> float:
        return self._virtual.now


def test_without_threads_only_the_loop_s_time_passes(disk: PowerCutVFS) -> None:
    selector = _VirtualTime()
    loop = _VirtualLoop(selector)

    async def scenario() -> None:
        log = simulated(disk)
        assert await log.read(TOPIC, -1, wait_s=86_400) == []
        assert loop.time() == pytest.approx(86_400)
        waiting = asyncio.ensure_future(log.read(TOPIC, -1, wait_s=86_400))
        await asyncio.sleep(3_600)
        placed(await log.append([entry("bi/iom/1")]))
        assert [s.offset for s in await waiting] == [0]
        assert loop.time() == pytest.approx(90_000)
        await log.close()

    with contextlib.closing(loop):
        loop.run_until_complete(scenario())


def test_nothing_runs_when_nobody_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        assert await log.read(TOPIC, -1, wait_s=0.05) == []
        waiting = asyncio.ensure_future(log.read(TOPIC, -1, wait_s=30))
        await asyncio.sleep(0.06)
        waiting.cancel()
        await asyncio.wait([waiting])
        for _ in range(200):
            if len(asyncio.all_tasks()) == 1:
                break
            await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await log.close()

    asyncio.run(scenario())


def test_another_handle_s_commit_ends_a_wait(tmp_path: Path) -> None:
    async def scenario() -> None:
        reader, writer = open_log(str(tmp_path / "log.db")), open_log(str(tmp_path / "log.db"))
        for n in range(3):
            waiting = asyncio.ensure_future(reader.read(TOPIC, n - 1, wait_s=30))
            await asyncio.sleep(0.06)
            placed(await writer.append([entry(f"bi/iom/{n}")]))
            [stored] = await asyncio.wait_for(waiting, 20)
            assert stored.offset == n
        await reader.close()
        await writer.close()

    asyncio.run(scenario())


def test_calls_behind_a_close_were_not_made(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        calls = [asyncio.ensure_future(log.append([entry(f"bi/iom/{n}")])) for n in range(5)]
        put = asyncio.ensure_future(log.put_grants(GRANTS, {"bi/iom/1|k": b"grant"}))
        await asyncio.sleep(0)
        await log.close()
        codes = [code((await call)[0]) for call in calls]
        assert set(codes) <= {"appended", "log_closed"}
        log = open_log(str(tmp_path / "log.db"))
        assert len(await everything(log, TOPIC)) == codes.count("appended")
        stored = await log.get_grants(GRANTS, ["bi/iom/1|k"])
        if stored:
            await put
        else:
            assert (await refusal(put)).code == "log_closed"
        await log.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("threads", [True, False])
def test_a_deletion_keeps_its_place_among_the_calls(tmp_path: Path, threads: bool) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"), threads=threads)
        key = "bi/iom/1|k"
        calls = [
            log.put_grants(GRANTS, {key: b"first"}),
            log.delete_grants(GRANTS, [key]),
            log.put_grants(GRANTS, {key: b"second"}),
        ]
        await asyncio.gather(*map(asyncio.ensure_future, calls))
        assert await log.get_grants(GRANTS, [key]) == {key: b"second"}
        await log.close()

    asyncio.run(scenario())


def test_a_close_that_nobody_waits_for_any_more_closes_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        placed(await log.append([entry("bi/iom/1")]))
        closing = asyncio.create_task(log.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await log.close()
        assert not (tmp_path / "log.db-wal").exists()

    asyncio.run(scenario())


def test_grants_without_a_record_are_stored_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        assert await log.append_granted([], {GRANTS: {"bi/iom/1|k": b"grant"}}) == []
        assert await log.get_grants(GRANTS, ["bi/iom/1|k"]) == {"bi/iom/1|k": b"grant"}
        good = asyncio.ensure_future(log.append([entry("bi/iom/1")]))
        with pytest.raises(ValueError, match="ASCII"):
            await log.put_grants(GRANTS, {"bi/iom/\ud800|k": b"grant"})
        placed(await good)
        await log.close()

    asyncio.run(scenario())


# ---------------------------------------------------------------- power cuts


@dataclass
class Promised:
    """What was acknowledged, and what may be there besides, over several lives of one disk."""

    entries: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    unanswered: list[Entry] = field(default_factory=list)
    grants: dict[str, bytes] = field(default_factory=dict)
    along: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Ident -> the grant that went with it in one call: where the entry is, that is too."""


async def one_life(disk: PowerCutVFS, rng: random.Random, promised: Promised) -> None:
    """Retry, append, put and delete until the machine dies somewhere: an answer that it still gives does not count."""
    disk.crash_after(rng.randint(1, 120))
    log = simulated(disk)

    async def append(entries: list[Entry], along: Mapping[str, bytes] | None = None) -> None:
        promised.unanswered = entries
        promised.tried |= {e.ident for e in entries}
        if along is None:
            answers = placed(await log.append(entries))
        else:
            promised.along |= dict.fromkeys([e.ident for e in entries], next(iter(along.items())))
            answers = placed(await log.append_granted(entries, {GRANTS: along}))
        if not disk.dead:
            promised.unanswered = []
            for sent, at in zip(entries, answers, strict=True):
                promised.entries[sent.ident] = (at.offset, sent.value)

    again = promised.along.get(promised.unanswered[0].ident) if promised.unanswered else None
    await append(promised.unanswered, None if again is None else dict([again]))
    for _ in range(60):
        entries = [
            entry(f"bi/iom/{len(promised.tried)}-{n}", rng.randbytes(rng.choice((20, 300, 5_000, 40_000))))
            for n in range(rng.randint(1, 4))
        ]
        key, value = f"{entries[0].ident}|k", rng.randbytes(1_500)
        if rng.random() < 0.5:
            await append(entries, {key: value})
        else:
            await log.put_grants(GRANTS, {key: value})
            if not disk.dead:
                promised.grants[key] = value
            await append(entries)
        if promised.grants and rng.random() < 0.2:
            key = rng.choice(sorted(promised.grants))
            value = promised.grants.pop(key)
            await log.delete_grants(GRANTS, [key])
            if not disk.dead:
                assert not any(value in disk.snapshot_bytes(path) for path in disk.paths())
    await log.close()


async def what_was_lost(disk: PowerCutVFS, promised: Promised) -> str | None:
    with contextlib.suppress(LogError):
        log = simulated(disk)
        try:
            stored = await everything(log, TOPIC)
            grants = await log.get_grants(GRANTS, sorted(promised.grants))
            along = await log.get_grants(GRANTS, sorted({key for key, _ in promised.along.values()}))
        finally:
            await log.close()
        there = {s.ident: (s.offset, s.value) for s in stored}
        if [s.offset for s in stored] != list(range(len(stored))):
            return "offsets are not dense"
        if not there.items() >= promised.entries.items():
            return "an acknowledged entry is not there"
        if not there.keys() <= promised.tried:
            return "an entry nobody sent"
        if any(along.get(key) != value for ident, (key, value) in promised.along.items() if ident in there):
            return "an entry without the grant that went with it"
        return None if grants == promised.grants else "an acknowledged grant is not there"
    return "it does not open"


def cuts(disk: PowerCutVFS, count: int, seed: int) -> list[str]:
    """The losses of so many lives; none after the first, the disk being of no use then."""
    rng = random.Random(seed)
    promised = Promised()
    for _ in range(count):
        with contextlib.suppress(PowerCut):
            asyncio.run(one_life(disk, rng, promised))
        disk.reset_after_cut()
        lost = asyncio.run(what_was_lost(disk, promised))
        if lost is not None:
            return [lost]
    return []


@pytest.mark.parametrize("seed", range(6))
def test_what_was_acknowledged_survives_power_cuts_at_any_point(seed: int) -> None:
    disk = PowerCutVFS(f"cut-{seed}", seed)
    assert cuts(disk, 25, seed) == []
    assert disk.cuts == 25
    gc.collect()
    disk.forget()


def test_the_simulated_disk_does_lose_what_is_not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would notice: without syncs it finds losses."""
    monkeypatch.setattr(sqlite_store, "SYNCHRONOUS", "OFF")
    losses: list[str] = []
    for seed in range(6):
        disk = PowerCutVFS(f"unsafe-{seed}", seed)
        losses += cuts(disk, 4, seed)
        gc.collect()
        disk.forget()
    assert losses


def test_a_cut_while_the_log_is_made_leaves_one_that_opens(disk: PowerCutVFS) -> None:
    for operations in itertools.count(1):
        made = PowerCutVFS(f"making-{operations}", operations)
        made.crash_after(operations)
        try:
            asyncio.run(simulated(made).close())
        except PowerCut:
            made.reset_after_cut()
            log = simulated(made)
            assert asyncio.run(log.topics()) == ["bi.case.iom", TOPIC]
            asyncio.run(log.close())
            gc.collect()
            made.forget()
        else:
            made.forget()
            assert operations > 10
            return


def test_deleted_grants_do_not_come_back_with_the_old_wal(disk: PowerCutVFS) -> None:
    """The truncation of the WAL is synced: whatever a cut keeps, the bytes are on no platter."""
    secret = random.Random(3).randbytes(2_000)

    async def scenario() -> None:
        for _ in range(20):
            log = simulated(disk)
            await log.put_grants(GRANTS, {"bi/iom/1|k": secret})
            assert any(secret[-300:] in disk.snapshot_bytes(path) for path in disk.paths())
            await log.delete_grants(GRANTS, ["bi/iom/1|k"])
            disk.reset_after_cut()
            assert not any(secret[-300:] in disk.snapshot_bytes(path) for path in disk.paths())

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", ["ioerr", "full"])
def test_a_failing_disk_loses_and_doubles_nothing(disk: PowerCutVFS, failure: Any) -> None:
    rng = random.Random(5)

    async def scenario() -> None:
        log = simulated(disk)
        sent: list[Entry] = []
        refused = 0
        for n in range(80):
            sent.append(entry(f"bi/iom/{n}", rng.randbytes(rng.choice((50, 20_000)))))
            if rng.random() < 0.6:
                disk.fail(failure, on=("write", "sync", "truncate"), skip=rng.randint(0, 6), times=rng.randint(1, 3))
            grants = {GRANTS: {f"bi/iom/{n}|k": b"grant %d" % n}}
            while isinstance((await log.append_granted([sent[-1]], grants))[0], LogError):
                refused += 1
            assert await log.get_grants(GRANTS, [f"bi/iom/{n}|k"]) == grants[GRANTS]
        assert refused > 10
        stored = await everything(log, TOPIC)
        assert [s.offset for s in stored] == list(range(80))
        assert [(s.ident, s.value) for s in stored] == [(e.ident, e.value) for e in sent]
        await log.close()

    asyncio.run(scenario())


def test_the_wal_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_wal, "CHECKPOINT_PAGES", 50)

    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        for n in range(200):
            placed(await log.append([entry(f"bi/iom/{n}", os.urandom(30_000))]))
        assert (tmp_path / "log.db-wal").stat().st_size < 2_000_000
        assert len(await everything(log, TOPIC)) == 200
        await log.close()

    asyncio.run(scenario())


def test_commits_go_on_while_the_wal_is_copied_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_wal, "CHECKPOINT_PAGES", 5)
    copying, go_on, copy = threading.Event(), threading.Event(), sqlite_store.Store.copy_back

    def slow(store: sqlite_store.Store) -> None:
        copying.set()
        assert go_on.wait(30)
        copy(store)

    monkeypatch.setattr(sqlite_store.Store, "copy_back", slow)

    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        placed(await log.append([entry("bi/iom/first", os.urandom(50_000))]))
        assert await asyncio.to_thread(copying.wait, 30)
        try:
            async with asyncio.timeout(20):
                for n in range(20):
                    placed(await log.append([entry(f"bi/iom/{n}", os.urandom(20_000))]))
        finally:
            go_on.set()
        await log.close()
        log = open_log(str(tmp_path / "log.db"))
        assert len(await everything(log, TOPIC)) == 21
        await log.close()

    asyncio.run(scenario())


@contextlib.contextmanager
def files_left(number: int) -> Iterator[None]:
    """The process may open just so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    with contextlib.ExitStack() as filled:
        filled.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in set(range(max(used))) - used:
            filled.callback(os.close, os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(used) + 1 + number, hard))
        yield


def test_a_process_that_may_open_no_more_files_is_told_so_and_keeps_none_open(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    asyncio.run(open_sqlite(path).close())
    before = sorted(os.listdir("/proc/self/fd"))
    for number in range(9):
        with files_left(number), pytest.raises(LogError) as caught:
            open_sqlite(path)
        assert (caught.value.code, caught.value.path) == ("unavailable", "file"), number
        assert sorted(os.listdir("/proc/self/fd")) == before, number
    log = open_sqlite(path)
    asyncio.run(log.close())
    assert sorted(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- administration


def test_topics_are_made_listed_and_deleted(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        await log.create_topics(["bi.ledger", "bi.registry", "bi.alert.min-solidarity", TOPIC])
        names = ["bi.alert.min-solidarity", "bi.case.iom", "bi.ledger", TOPIC, "bi.registry"]
        assert await log.topics() == names
        for bad in ("", "bi", "bi.ledger.", "BI.case.iom", "bi.case.iom\n", "b.case.iom", "bi.case.a.b", "bi.case.a_b"):
            assert (await refusal(log.create_topics(["bi.case.x", bad]))).code == "topic_unknown"
        assert await log.topics() == names
        placed(await log.append([entry("bi/iom/1"), entry("bi/iom/2")]))
        await log.delete_topic(TOPIC)
        assert TOPIC not in await log.topics()
        for call in (log.read(TOPIC, -1), log.delete_topic(TOPIC)):
            assert (await refusal(call)).code == "topic_unknown"
        assert code((await log.append([entry("bi/iom/3")]))[0]) == "topic_unknown"
        # Made again it goes on where it was: a cursor of before is still true.
        await log.create_topics([TOPIC])
        answers = await log.append([entry("bi/iom/1"), entry("bi/iom/3")])
        assert [(a.offset, a.copy) for a in placed(answers)] == [(0, True), (2, False)]
        assert [s.offset for s in await log.read(TOPIC, 1)] == [2]
        assert (await refusal(log.read(TOPIC, -1))).code == "retention_passed"
        await log.close()

    asyncio.run(scenario())


def test_the_same_record_in_another_mailbox_is_a_conflict(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        answers = await log.append([entry("bi/iom/1"), entry("bi/iom/1", topic="bi.case.iom")])
        assert [code(a) for a in answers] == ["appended", "evt_conflict"]
        await log.close()

    asyncio.run(scenario())


def test_grants_go_to_grants_topics_and_within_the_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        wrong: list[tuple[str, Mapping[str, bytes], str]] = [
            (TOPIC, {"k": b""}, "topic_unknown"),
            (GRANTS, {"k": bytes(900_001)}, "too_large"),
        ]
        for topic, grants, expected in wrong:
            assert (await refusal(log.put_grants(topic, grants))).code == expected
        await log.put_grants(GRANTS, {})
        many = {f"bi/iom/{n}|k": bytes([n]) for n in range(200)}
        await log.put_grants(GRANTS, many)
        assert await log.get_grants(GRANTS, list(many)) == many
        assert await log.get_grants("bi.grants.iom", list(many)) == {}
        await log.delete_grants(GRANTS, list(many)[:150])
        assert await log.get_grants(GRANTS, list(many)) == dict(list(many.items())[150:])
        await log.close()

    asyncio.run(scenario())


# ---------------------------------------------------------------- other processes, other disks


def test_a_writer_that_died_in_its_turn_blocks_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "log.db-lock"
    program = f"from topics.sqlite_turn import Turn; t = Turn({str(lock)!r}); t.__enter__(); print('mine'); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    entered = threading.Event()

    def enter() -> None:
        turn = Turn(str(lock))
        with turn:
            entered.set()
        turn.close()

    thread = threading.Thread(target=enter)
    thread.start()
    assert not entered.wait(0.1)
    process.kill()
    process.communicate()
    assert entered.wait(10)
    thread.join()


def test_a_full_tmpfs_refuses_and_recovers(tmp_path: Path) -> None:
    """A kernel's answer to a full disk, not a simulated one."""

    async def scenario(target: Path) -> None:
        log = open_sqlite(str(target / "log.db"))
        with contextlib.ExitStack() as filled:
            disk = SmallDisk(log, lambda: filled.enter_context(full(target)), filled.close)
            await fill_up_and_go_on(disk, EntryMaker())
        await log.close()
        again = target / "second.db"
        with full(target), pytest.raises(LogError) as caught:
            open_sqlite(str(again))
        assert caught.value.code == "storage_full"
        log = open_sqlite(str(again))
        assert await log.topics() == sorted(TOPICS)
        await log.close()

    with small_disk(tmp_path / "small") as target:
        asyncio.run(scenario(target))
