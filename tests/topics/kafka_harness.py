# SPDX-License-Identifier: Apache-2.0
"""The log contract on Apache Kafka: a real broker, topics and ACLs from the catalogue, handles with a gateway's
certificate. Every harness begins with topics that are new: those of the domain that an earlier test left are deleted.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from tests.kafka.conftest import _shared, needs_kafka
from tests.topics.log_contract import ISSUERS, MAILBOXES, EntryMaker, SmallDisk
from topics import kafka_admin
from topics.kafka_access import KafkaAccess
from topics.kafka_clients import Clients
from topics.kafka_log import KafkaLog
from topics.log import Appended, Ends, Entry, Log, Stored

_T = TypeVar("_T")
DOMAIN = "bi"


def random_id() -> str:
    return os.urandom(16).hex()


def run(work: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(work, 60))


async def open_kafka(access: KafkaAccess, view: Path | None = None) -> KafkaLog:
    return await KafkaLog.open(access, domain=DOMAIN, view=view, random_id=random_id)


def wipe(admin: KafkaAccess, domain: str = DOMAIN) -> None:
    """A cluster without the domain's topics."""
    clients = Clients(admin)

    def ours() -> list[str]:
        return [name for name in clients.describe() if name.startswith(f"{domain}.")]

    try:
        for name in ours():
            clients.delete_topic(name)
        # The controller has deleted them; a broker that has not heard of it yet would call them still there.
        end = time.monotonic() + 60
        while ours():
            assert time.monotonic() < end, "topics are not deleted"
            time.sleep(0.05)
    finally:
        clients.close()


class OpenedLater:
    """A `Log` that connects with its first call: a harness hands out handles before there is a loop to open them."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access
        self._opened: KafkaLog | None = None
        self._turn = asyncio.Lock()

    async def _log(self) -> KafkaLog:
        async with self._turn:
            if self._opened is None:
                self._opened = await open_kafka(self._access)
            return self._opened

    @property
    def log_id(self) -> str:
        assert self._opened is not None
        return self._opened.log_id

    async def append(self, entries: Sequence[Entry]) -> Sequence[Any]:
        return await (await self._log()).append(entries)

    async def read(self, *args: Any, **more: Any) -> list[Stored]:
        return await (await self._log()).read(*args, **more)

    async def poll(self, *args: Any, **more: Any) -> list[Stored]:
        return await (await self._log()).poll(*args, **more)

    async def ends(self, topic: str) -> Ends:
        return await (await self._log()).ends(topic)

    async def put_grants(self, *args: Any) -> None:
        await (await self._log()).put_grants(*args)

    async def get_grants(self, *args: Any) -> dict[str, bytes]:
        return await (await self._log()).get_grants(*args)

    async def delete_grants(self, *args: Any) -> None:
        await (await self._log()).delete_grants(*args)

    async def close(self) -> None:
        await (await self._log()).close()


class KafkaHarness:
    """Handles with the gateway's certificate, as many as wanted, upon one broker."""

    recognises_repeats = False

    def __init__(self, directory: Path) -> None:
        needs_kafka()
        self.maker = EntryMaker()
        self._directory = directory
        self._cluster = _shared()
        self._cluster.start()
        self._admin = self._cluster.access("admin")
        self._gateway = self._cluster.access("bi/operator")
        wipe(self._admin)
        applied = run(kafka_admin.apply(self._admin, self.maker.domain.registry, nodes=1))
        assert not applied.findings

    def open_writer(self, issuer: int) -> Log:
        assert issuer < ISSUERS
        return OpenedLater(self._gateway)

    def open_reader(self, mailbox: int) -> Log:
        assert mailbox < len(MAILBOXES)
        return OpenedLater(self._gateway)

    def reopen(self) -> None:
        self._cluster.stop()
        self._cluster.start()

    async def trim(self, topic: str, before: int) -> None:
        log = await open_kafka(self._admin)
        await log.trim(topic, before)
        await log.close()

    async def erase(self, ident: str, issuer: int, mailbox: int) -> None:
        """Who may delete was decided before."""

    def small_disk(self) -> AbstractContextManager[SmallDisk] | None:
        return None

    def writer_process(self, issuer: int, mailbox: int, count: int) -> Sequence[str]:
        program = str(Path(__file__).with_name("kafka_writer.py"))
        access = self._directory / "access.json"
        access.write_text(json.dumps(asdict(self._gateway), default=str), encoding="utf-8")
        return [sys.executable, "-W", "error", program, str(access), str(issuer), str(mailbox), str(count)]

    def kill(self, process: subprocess.Popen[str]) -> None:
        self._cluster.kill(1)
        process.kill()

    def close(self) -> None:
        self._cluster.start()


def read_access(file: str) -> KafkaAccess:
    raw = json.loads(Path(file).read_text(encoding="utf-8"))
    return KafkaAccess(tuple(raw["bootstrap"]), Path(raw["ca"]), Path(raw["certificate"]), Path(raw["key"]))


def appended(answers: Sequence[object]) -> list[Appended]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return [answer for answer in answers if isinstance(answer, Appended)]
