# SPDX-License-Identifier: Apache-2.0
"""One agency as a process of its own that kills itself: what `tests/adapters/test_crash.py` starts.

Everything is on disk: the mailbox as an SQLite file, the log as another or on the broker that the folder `kafka` says
how to reach, the agency's "system" as a folder with `in` (batches to
send), `reports` (what became of them) and `got` (what arrived). The process goes round until nothing moves, and ends;
or dies of SIGKILL where it was told to: at the n-th time of a step of the runner, or half-way through the n-th write
to its mailbox file.

    run("/tmp/town", "bi/iom", "answered", 2)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import apsw
from typing_extensions import Buffer, override

from adapters.connectors.contract import Arrived, Batch, Draft, Erased, Outcome
from adapters.desk import Desk
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.runner import Runner
from tests.agencies import referral, said
from tests.domain import NOW, Domain
from topics.catalogue import topics_of
from topics.kafka_access import KafkaAccess
from topics.kafka_log import KafkaLog
from topics.log import Log, Stored
from topics.sqlite_log import SqliteLog
from umuhuza.examples.samples_attachment import file

WRITE = "write"
"""The step name for "half-way through a write to the mailbox"."""


@lru_cache(maxsize=1)
def domain() -> Domain:
    """The same in every process: it follows from its seed. Made before a process is forked, it costs nothing there."""
    return Domain("crash")


async def open_log(folder: Path) -> Log:
    if (folder / "kafka").exists():
        access = KafkaAccess.of_folder(folder / "kafka")
        return AtTheStorysTime(await KafkaLog.open(access, domain="bi", random_id=lambda: "unused"))
    return SqliteLog.open(
        str(folder / "log.db"),
        topics=topics_of(domain().registry),
        clock_ms=lambda: NOW * 1000,
        threads=False,
        random_id=lambda: "log-1",
    )


class AtTheStorysTime:
    """A log on brokers whose clock is right, read in a story whose keys are good for a while around `NOW`."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log
        self.append, self.ends, self.close = log.append, log.ends, log.close
        self.put_grants, self.get_grants, self.delete_grants = log.put_grants, log.get_grants, log.delete_grants

    @property
    def log_id(self) -> str:
        return self._log.log_id

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return self._then(await self._log.read(topic, after, limit, max_bytes, wait_s))

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return self._then(await self._log.poll(after, limit, max_bytes, wait_s))

    def _then(self, found: Sequence[Stored]) -> list[Stored]:
        return [replace(stored, at_ms=NOW * 1000) for stored in found]


def place(folder: Path, agency: str) -> Path:
    return folder / agency.replace("/", "-")


def write(path: Path, document: object) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(document))
    fresh.replace(path)


class Folder:
    """A connector whose system is a folder. Gives one batch at a time; a shelter's accepts every referral."""

    name: ClassVar[str] = "folder"

    def __init__(self, root: Path) -> None:
        self.root = root

    async def collect(self) -> AsyncIterator[Batch]:
        for path in sorted((self.root / "in").glob("*.json"))[:1]:
            drafts = tuple(
                Draft(
                    line=line,
                    to=to,
                    type=type,
                    person=None,
                    thread=thread,
                    facts=referral(name=name) if name else said(),
                    files=tuple(file(size) for size in sizes),
                )
                for line, to, type, thread, name, *sizes in json.loads(path.read_text())
            )
            yield Batch(path.stem, path.name, drafts)

    async def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        said = {one.line: one.evt or (one.problem and one.problem.code) for one in outcomes}
        write(self.root / "reports" / f"{batch.source}.json", said)
        (self.root / "in" / batch.name).unlink(missing_ok=True)

    async def deliver(self, arrived: Arrived) -> None:
        name = arrived.facts.referral.name.as_given if arrived.facts.referral else ""
        files = [hashlib.sha256(one.data).hexdigest() for one in arrived.files]
        write(self.root / "got" / f"{arrived.evt}.json", [arrived.type, arrived.state, *(files or [name])])
        if arrived.type == "referral.requested":
            source = f"answer-{arrived.evt}"
            if not (self.root / "reports" / f"{source}.json").exists():
                answer = ["1", arrived.iss, "referral.accepted", arrived.thread, None]
                write(self.root / "in" / f"{source}.json", [answer])

    async def erase(self, ident: str) -> Erased:
        (self.root / "got" / f"{ident.rpartition('/')[2]}.json").unlink(missing_ok=True)
        return Erased(deleted=True)

    async def changed(self, evt: str, line: str, source: str, state: str, code: str | None) -> None:
        write(self.root / "states" / f"{evt}.json", [state, code])


class _CountingFile(apsw.VFSFile):
    def __init__(self, name: str | apsw.URIFilename | None, flags: list[int], wrote: Callable[[], bool]) -> None:
        super().__init__("", name, flags)
        self._wrote = wrote

    @override
    def xWrite(self, data: Buffer, offset: int) -> None:
        if self._wrote():
            half = bytes(data)[: len(bytes(data)) // 2]
            super().xWrite(half, offset)
            die()
        super().xWrite(data, offset)


class _CountingVFS(apsw.VFS):
    """The real disk; says of each write whether to die half-way through."""

    def __init__(self, wrote: Callable[[], bool]) -> None:
        super().__init__("counting", base="")
        self._wrote = wrote

    @override
    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _CountingFile(name, flags, self._wrote)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder: str, agency: str, step: str, nth: int) -> None:
    """Go round until nothing moves. Dies at the nth `step`; never for nth 0. Notes how often each step was reached."""
    count: dict[str, int] = {}

    def reached(name: str) -> bool:
        count[name] = count.get(name, 0) + 1
        return name == step and count[name] == nth

    def at(name: str) -> None:
        if reached(name):
            die()

    home = place(Path(folder), agency)
    home.mkdir(exist_ok=True)
    disk = _CountingVFS(lambda: reached(WRITE))
    member, world = domain().members[agency], domain()
    desk = Desk(
        Mailbox.open(home / "mailbox.db", vfs="counting"),
        Keys(agency, member.sig, {member.seal.kid: member.seal}),
        lambda: world.registry,
        lambda: float(NOW),
        os.urandom,
    )

    async def whole() -> None:
        log = await open_log(Path(folder))
        runner = Runner(desk, log, [Folder(home)], at)
        moved = 1
        while moved:
            moved = await runner.collect() + await runner.send() + await runner.receive(0) + await runner.deliver()
        await log.close()

    asyncio.run(whole())
    desk.mailbox.close()
    disk.unregister()
    write(home / "count.json", count)


domain()
