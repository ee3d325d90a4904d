# SPDX-License-Identifier: Apache-2.0
"""Every driver passes the log contract."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.power_cut import PowerCutVFS
from tests.topics.http_harness import HttpHarness
from tests.topics.kafka_harness import KafkaHarness
from tests.topics.log_contract import CHECKS, MAILBOXES, Check, EntryMaker, Harness, SmallDisk, topic_of
from topics.log import Log
from topics.sqlite_log import SqliteLog

TOPICS = [topic_of(mailbox) for mailbox in range(len(MAILBOXES))]


def open_sqlite(path: str, *, vfs: str | None = None) -> SqliteLog:
    return SqliteLog.open(
        path,
        topics=TOPICS,
        clock_ms=lambda: time.time_ns() // 1_000_000,
        random_id=lambda: os.urandom(16).hex(),
        threads=vfs is None,
        vfs=vfs,
        exclusive=vfs is not None,
    )


class SqliteHarness:
    """Handles of several agencies, and of several processes, upon one file."""

    recognises_repeats = True

    def __init__(self, directory: Path) -> None:
        self.maker = EntryMaker()
        self._path = str(directory / "log.db")

    def open_writer(self, issuer: int) -> Log:
        return open_sqlite(self._path)

    def open_reader(self, mailbox: int) -> Log:
        return open_sqlite(self._path)

    def reopen(self) -> None:
        """Nothing serves an embedded log; the next handle opens the file."""

    async def trim(self, topic: str, before: int) -> None:
        log = open_sqlite(self._path)
        await log.trim(topic, before)
        await log.close()

    async def erase(self, ident: str, issuer: int, mailbox: int) -> None:
        """Who may delete was decided before."""

    @contextlib.contextmanager
    def _small_disk(self) -> Iterator[SmallDisk]:
        disk = PowerCutVFS("small", seed=1)
        log = open_sqlite("/log.db", vfs="small")

        def fill() -> None:
            disk.quota_bytes = disk.used_bytes() + 100_000

        def free() -> None:
            disk.quota_bytes = None

        yield SmallDisk(log, fill, free)
        disk.forget()

    def small_disk(self) -> AbstractContextManager[SmallDisk] | None:
        return self._small_disk()

    def writer_process(self, issuer: int, mailbox: int, count: int) -> Sequence[str]:
        program = str(Path(__file__).with_name("sqlite_writer.py"))
        return [sys.executable, "-W", "error", program, self._path, str(issuer), str(mailbox), str(count)]

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()

    def close(self) -> None:
        """Nothing serves an embedded log."""


DRIVERS: dict[str, Callable[[Path], Harness]] = {"sqlite": SqliteHarness, "http": HttpHarness, "kafka": KafkaHarness}
FULL_DISK = "a_full_disk_refuses_exactly_what_does_not_fit"
ELSEWHERE = {("http", FULL_DISK), ("kafka", FULL_DISK)}
"""Over HTTP grants are staged, so that a full disk shows at the append: tests/gateway/test_gateway_full_disk.py. A
Kafka broker whose disk is full ends itself, it refuses no single record: tests/kafka."""
PAIRS = [(d, c) for c in CHECKS for d in DRIVERS if (d, c.__name__) not in ELSEWHERE]


@pytest.mark.parametrize(("driver", "check"), PAIRS, ids=[f"{d}-{c.__name__}" for d, c in PAIRS])
def test_the_log_contract(check: Check, driver: str, tmp_path: Path) -> None:
    with contextlib.closing(DRIVERS[driver](tmp_path)) as harness:
        check(harness)
