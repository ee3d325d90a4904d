# SPDX-License-Identifier: Apache-2.0
"""What the embedded log deletes is in none of its files any more, and what it says while that is not so yet."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path

import apsw
import pytest

from tests.topics.log_contract import code, placed, refusal
from tests.topics.test_sqlite_log import GRANTS, TOPIC, entry, open_log
from topics import sqlite_log, sqlite_wal
from topics.log import Appended
from topics.sqlite_log import SqliteLog


def files_with(directory: Path, needle: bytes) -> list[str]:
    return [file.name for file in sorted(directory.iterdir()) if needle in file.read_bytes()]


def test_a_deleted_grant_s_bytes_are_in_no_file(tmp_path: Path) -> None:
    secrets = {f"bi/iom/{n}|k": random.Random(n).randbytes(size) for n, size in enumerate((40, 1_800, 30_000))}

    async def scenario() -> None:
        log, other = open_log(str(tmp_path / "log.db")), open_log(str(tmp_path / "log.db"))
        await log.put_grants(GRANTS, {**secrets, "bi/iom/kept|k": b"kept" * 50})
        placed(await log.append([entry("bi/iom/1")]))
        assert await other.get_grants(GRANTS, list(secrets)) == secrets
        for secret in secrets.values():
            assert files_with(tmp_path, secret[-30:])
        await log.delete_grants(GRANTS, list(secrets))
        for secret in secrets.values():
            assert files_with(tmp_path, secret[-30:]) == []
        assert files_with(tmp_path, b"kept" * 50)
        await log.close()
        await other.close()

    asyncio.run(scenario())


def grants_for(draw: random.Random, number: int) -> dict[str, bytes]:
    return {f"bi/iom/{draw.randrange(10**9)}|k{n}": draw.randbytes(draw.randint(8, 2_400)) for n in range(number)}


def stand(folder: Path, grants: Mapping[str, bytes]) -> list[str]:
    """Keys of those of which the key or the end stands anywhere."""
    files = b"".join(file.read_bytes() for file in folder.iterdir())
    return [key for key, value in grants.items() if key.encode() in files or value[-30:] in files]


def moved(seed: int) -> tuple[dict[str, bytes], list[str]]:
    """A log of grants; which of them to delete so that SQLite leaves copies of some where they were before it moved
    them. Which are left depends on nothing but the sizes: seeds are looked through until there is one."""
    for drawn in itertools.count(seed):
        draw = random.Random(drawn)
        grants = grants_for(draw, 300)
        gone = draw.sample(sorted(grants), 100)
        log = apsw.Connection(":memory:")
        log.pragma("page_size", sqlite_wal.PAGE_BYTES)
        log.pragma("secure_delete", "ON")
        log.execute("CREATE TABLE g (n INTEGER PRIMARY KEY, topic TEXT, key TEXT, value BLOB)")
        log.execute("CREATE UNIQUE INDEX k ON g (topic, key)")
        log.executemany(
            "INSERT INTO g (topic, key, value) VALUES (?, ?, ?)", [(GRANTS, *one) for one in grants.items()]
        )
        log.executemany("DELETE FROM g WHERE key = ?", [(key,) for key in gone])
        if any(key.encode() in log.serialize("main") for key in gone):
            return grants, gone
    raise AssertionError("unreachable")


@pytest.mark.parametrize("seed", [0, 1_000, 2_000])
def test_copies_that_sqlite_left_of_deleted_grants_are_overwritten(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        grants, gone = moved(seed)
        await log.put_grants(GRANTS, grants)
        for start in range(0, len(gone), 5):
            await log.delete_grants(GRANTS, gone[start : start + 5])
            assert stand(tmp_path, {key: grants[key] for key in gone[: start + 5]}) == []
        kept = {key: value for key, value in grants.items() if key not in gone}
        assert await log.get_grants(GRANTS, sorted(grants)) == kept
        await log.put_grants(GRANTS, {gone[0]: b"again"})
        assert await log.get_grants(GRANTS, gone) == {gone[0]: b"again"}
        await log.close()

    asyncio.run(scenario())


def test_a_copy_left_by_a_deletion_that_was_cut_short_is_overwritten_by_who_looks_for_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        grants, gone = moved(0)
        await log.put_grants(GRANTS, grants)
        other = apsw.Connection(str(tmp_path / "log.db"))
        other.pragma("secure_delete", "ON")
        other.execute("BEGIN")
        other.executemany("DELETE FROM grant_value WHERE key = ?", [(key,) for key in gone])
        other.execute("COMMIT")
        other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        other.close()
        assert stand(tmp_path, {key: grants[key] for key in gone})
        assert await log.grants_left([key.partition("|")[0] for key in gone]) == set()
        assert stand(tmp_path, {key: grants[key] for key in gone}) == []
        assert await log.grants_left(["bi/iom/1"]) == set()
        [kept] = [key for key in grants if key not in gone][:1]
        assert await log.grants_left([kept.partition("|")[0]]) == {kept.partition("|")[0]}
        await log.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("cut", [False, True])
def test_a_copy_that_a_deletion_could_not_look_for_is_gone_when_the_log_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: bool
) -> None:
    """A reader was in the way of its end, or it was killed before: whoever asks again has no row to go by."""
    monkeypatch.setattr(sqlite_log, "SCRUB_S", 0.1)
    grants, gone = moved(0)
    deleted = {key: grants[key] for key in gone}

    async def first() -> None:
        log = open_log(str(tmp_path / "log.db"))
        await log.put_grants(GRANTS, grants)
        reading = apsw.Connection(str(tmp_path / "log.db"))
        reading.execute("BEGIN")
        assert reading.execute("SELECT count(*) FROM grant_value").get == len(grants)
        assert (await refusal(log.delete_grants(GRANTS, gone))).code == "unavailable"
        if cut:
            os._exit(0)
        reading.close()
        await log.close()

    async def again() -> None:
        log = open_log(str(tmp_path / "log.db"))
        assert stand(tmp_path, deleted) == []
        assert await log.get_grants(GRANTS, sorted(grants)) == {
            key: value for key, value in grants.items() if key not in gone
        }
        # Done with: the next to open has nothing to do.
        placed(await log.append([entry("bi/iom/1")]))
        await log.delete_grants(GRANTS, [next(key for key in grants if key not in gone)])
        placed(await log.append([entry("bi/iom/2")]))
        await log.close()
        other = apsw.Connection(str(tmp_path / "log.db"))
        before = other.pragma("schema_version")
        log = open_log(str(tmp_path / "log.db"))
        assert other.pragma("schema_version") == before
        other.close()
        await log.close()

    if (child := os.fork()) == 0:
        asyncio.run(first())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stand(tmp_path, deleted)
    asyncio.run(again())


def test_what_is_out_of_reach_is_told_each_time_and_not_worked_for_each_time(tmp_path: Path) -> None:
    """A program without `secure_delete` has left a key in pages that no table has any more."""

    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        grants = grants_for(random.Random(1), 300)
        idents = [key.partition("|")[0] for key in grants]
        await log.put_grants(GRANTS, grants)
        other = apsw.Connection(str(tmp_path / "log.db"))
        other.pragma("secure_delete", "OFF")
        other.execute("DELETE FROM grant_value")
        left = await log.grants_left(idents)
        assert left
        before = other.pragma("schema_version")
        assert await log.grants_left(idents) == left
        assert await log.grants_left(["bi/iom/1"]) == set()
        assert await log.grants_left(idents) == left
        assert other.pragma("schema_version") == before
        other.close()
        await log.close()

    asyncio.run(scenario())


def test_retention_takes_the_bytes_and_remembers_what_it_took(tmp_path: Path) -> None:
    sent = [entry(f"bi/iom/{n}", random.Random(n).randbytes(600)) for n in range(1_200)]

    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        first = placed(await log.append(sent))
        assert await log.trim(TOPIC, 1_100) == 1_100
        assert await log.trim(TOPIC, 3) == 1_100
        assert files_with(tmp_path, sent[0].value[-100:]) == files_with(tmp_path, sent[1_099].value[-100:]) == []
        assert files_with(tmp_path, sent[1_100].value[-100:])
        [copy, conflict] = await log.append([sent[0], entry(sent[1].ident, b"other")])
        assert copy == Appended(0, first[0].at_ms, copy=True)
        assert code(conflict) == "evt_conflict"
        assert (await refusal(log.read(TOPIC, 1_098))).expected == 1_100
        assert [s.offset for s in await log.read(TOPIC, 1_099)] == list(range(1_100, 1_200))
        assert await log.trim(TOPIC, 99_999) == 1_200
        assert (await refusal(log.trim("bi.case.nobody", 1))).code == "topic_unknown"
        await log.close()

    asyncio.run(scenario())


_COPIES = """
import fcntl, os, sys
held = os.open(sys.argv[1], os.O_RDWR)
fcntl.lockf(held, fcntl.LOCK_EX, 1, 121)  # WAL_CKPT_LOCK, walformat.html section 2.3
print("held", flush=True)
sys.stdin.read()
"""


def test_a_deletion_waits_for_another_process_that_copies_the_wal_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = open_log(str(tmp_path / "log.db"))
        secret = os.urandom(40)
        await log.put_grants(GRANTS, {"bi/iom/1|k": secret})
        other = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _COPIES,
            str(tmp_path / "log.db-shm"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert other.stdout is not None
            assert await other.stdout.readline() == b"held\n"
            deleting = await deleted_first(log)
            done, _ = await asyncio.wait([deleting], timeout=0.3)
            assert not done
        finally:
            await other.communicate(b"")
        await deleting
        assert files_with(tmp_path, secret) == []
        await log.close()

    asyncio.run(scenario())


async def read_from(folder: Path) -> tuple[SqliteLog, bytes, apsw.Connection]:
    """A log with one grant, the grant's bytes, and another connection that reads from the WAL and does not end."""
    log, secret = open_log(str(folder / "log.db")), os.urandom(40)
    await log.put_grants(GRANTS, {"bi/iom/1|k": secret})
    reading = apsw.Connection(str(folder / "log.db"))
    reading.execute("BEGIN")
    assert reading.execute("SELECT count(*) FROM grant_value").get == 1
    return log, secret, reading


async def deleted_first(log: SqliteLog) -> asyncio.Task[None]:
    """The deletion of that grant, which is deleted by now and not yet scrubbed."""
    deleting = asyncio.create_task(log.delete_grants(GRANTS, ["bi/iom/1|k"]))
    while await log.get_grants(GRANTS, ["bi/iom/1|k"]):
        assert not deleting.done()
    return deleting


def test_appends_go_on_while_a_deletion_waits_for_a_reader(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, secret, reading = await read_from(tmp_path)
        deleting = await deleted_first(log)
        for n in range(2):
            placed(await log.append([entry(f"bi/iom/{n}")]))
        # Two appends, each behind a try of the deletion at worst: it is long not at its end.
        assert not deleting.done()
        reading.execute("COMMIT")
        await deleting
        assert files_with(tmp_path, secret) == []
        reading.close()
        await log.close()

    asyncio.run(scenario())


def test_a_deletion_that_nobody_waits_for_any_more_is_scrubbed_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, secret, reading = await read_from(tmp_path)
        deleting = await deleted_first(log)
        deleting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deleting
        placed(await log.append([entry("bi/iom/1")]))  # behind the try that was under way
        assert files_with(tmp_path, secret)
        reading.close()
        async with asyncio.timeout(60):
            while files_with(tmp_path, secret):
                await asyncio.sleep(0.05)
        await log.close()

    asyncio.run(scenario())


def test_a_deletion_that_a_reader_outlasts_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "SCRUB_S", 0.1)

    async def scenario() -> None:
        log, secret, reading = await read_from(tmp_path)
        assert (await refusal(log.delete_grants(GRANTS, ["bi/iom/1|k"]))).code == "unavailable"
        assert await log.get_grants(GRANTS, ["bi/iom/1|k"]) == {}
        # Nobody is told that nothing is left, as long as it is.
        assert (await refusal(log.grant_keys("bi/iom/1"))).code == "unavailable"
        # Whoever deletes next does not wait as long again.
        monkeypatch.setattr(sqlite_log, "SCRUB_S", 600)
        async with asyncio.timeout(60):
            assert (await refusal(log.delete_grants(GRANTS, ["bi/iom/2|k"]))).code == "unavailable"
        reading.close()
        assert await log.grant_keys("bi/iom/1") == {}
        assert files_with(tmp_path, secret) == []
        await log.close()

    asyncio.run(scenario())
