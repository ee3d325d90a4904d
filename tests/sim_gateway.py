# SPDX-License-Identifier: Apache-2.0
"""The simulated domain's middle: the real log on a disk that forgets, and, when asked for, the real gateway before it.

`direct`: adapters reach the log through the network as if it were theirs; a thin `Line` stands where `HttpLog` would.
The log refuses some records for good (by their ident), so that voided numbers happen.
`http`: the real `topics.http_log.HttpLog` calls the real ASGI application of `gateway.app`: tokens, signatures, chain,
replay, grants, promises, the Date header by which wrong clocks are corrected.

The gateway's process dies and starts again like any other; its index is in memory and made again from the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from gateway.app import Gateway
from schemas.errors import LogError
from tests.power_cut import PowerCut
from tests.sim_http import PATIENCE_S, Front
from tests.sim_machine import DiedError, Life, Machine, Tell
from tests.sim_network import Link, Network, UnreachableError
from tests.sim_time import Clock, StuckError, VirtualLoop
from topics.log import Appended, Ends, Entry, Stored
from topics.sqlite_log import SqliteLog

_T = TypeVar("_T")
REFUSED_ONE_IN = 10


class LogServer:
    """The process that owns the log; `tests.sim_network.Server` for the direct way."""

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        tell: Tell,
        disk: str,
        topics: Sequence[str],
        front: Front | None = None,
    ) -> None:
        self.machine = Machine("log", loop, rng, tell, disk)
        self._loop = loop
        self._topics = topics
        self._ids = random.Random(rng.getrandbits(64))
        self._front = front
        self.log: SqliteLog | None = None
        self.gateway: Gateway | None = None
        self.pause_s: Callable[[], float] = lambda: 60.0
        """How long it stays down after a death."""
        self.beside: Callable[[SqliteLog, Life], Coroutine[Any, Any, None]] | None = None
        """What else goes on in this process once it is ready, and dies with it."""

    def open_log(self) -> SqliteLog:
        return SqliteLog.open(
            "/log.db",
            topics=self._topics,
            clock_ms=lambda: int(self.machine.clock.now() * 1000),
            threads=False,
            vfs=self.machine.disk.name,
            exclusive=True,
            random_id=lambda: self._ids.randbytes(16).hex(),
        )

    async def run(self) -> None:
        """Start, serve until death, come back; for ever."""
        while True:
            life = self.machine.begin()
            start = life.start(self._start(life))
            await asyncio.wait({start})
            failed = None if start.cancelled() else start.exception()
            if failed is None and life.alive:
                self.machine.tell("ready")
                if self.beside is not None and self.log is not None:
                    life.start(self.beside(self.log, life))
                await life.ended
            elif life.alive and not isinstance(failed, LogError | DiedError | PowerCut):
                raise failed or StuckError("the log's process was cancelled")
            # Dead, or it could not start: killed meanwhile, or its disk is full.
            self.machine.die("kill")
            await self._stop()
            self.machine.clear()
            await asyncio.sleep(self.pause_s())

    async def _start(self, life: Life) -> None:
        self.log = self.open_log()
        life.check()
        if self._front is not None:
            self.gateway = await self._front.open(self.log, self.machine.clock.now)

    async def _stop(self) -> None:
        if self.log is not None:
            await self.log.close()
        self.log = self.gateway = None

    def serve(self, request: Callable[[], Coroutine[Any, Any, _T]]) -> asyncio.Future[_T] | None:
        """In the server's own process; cancelled when it dies meanwhile."""
        life = self.machine.life
        if life is None or not life.alive or not self.is_open():
            return None
        answer: asyncio.Future[_T] = self._loop.create_future()
        task = life.start(request())

        def hand_back(done: asyncio.Task[_T]) -> None:
            if self.machine.disk.dead:
                self.machine.die("cut")  # the request's own write was the one that the cut interrupted
            if answer.done():
                return
            failed = None if done.cancelled() else done.exception()
            if not life.alive or done.cancelled():
                answer.cancel()
            elif failed is not None:
                answer.set_exception(failed)
            else:
                answer.set_result(done.result())

        task.add_done_callback(hand_back)
        return answer

    def is_open(self) -> bool:
        life = self.machine.life
        ready = self.log is not None and (self._front is None or self.gateway is not None)
        return ready and life is not None and life.alive


class Line:
    """A log client over the network, straight to the log: the `topics.log.Log` of one adapter process."""

    def __init__(
        self,
        network: Network,
        link: Link,
        server: LogServer,
        clock: Clock,
        step: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._network = network
        self._clock = clock
        self._link = link
        self._server = server
        self._step = step
        self._log_id = ""
        self.correction_s = 0.0
        """Learnt with every answer, forgotten with the process: what an adapter adds to its own clock."""

    @property
    def log_id(self) -> str:
        return self._log_id

    async def _call(self, request: Callable[[SqliteLog], Coroutine[Any, Any, _T]], patience_s: float) -> _T:
        server = self._server

        async def there() -> tuple[_T, str, float]:
            if server.log is None:
                raise LogError("unavailable", "gateway")
            return await request(server.log), server.log.log_id, server.machine.clock.now()

        self._step("asks the log")
        try:
            answer, self._log_id, date = await self._network.call(self._link, there, patience_s)
        except UnreachableError:
            raise LogError("unavailable", "network") from None
        self.correction_s = date - self._clock.now()
        self._step("has its answer")
        return answer

    async def append(self, entries: Sequence[Entry]) -> list[Appended | LogError]:
        refused = {entry.ident for entry in entries if _refused(entry)}

        async def request(log: SqliteLog) -> list[Appended | LogError]:
            placed = iter(await log.append([entry for entry in entries if entry.ident not in refused]))
            return [LogError("too_large") if entry.ident in refused else next(placed) for entry in entries]

        return await self._call(request, PATIENCE_S)

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self._call(lambda log: log.read(topic, after, limit, max_bytes, wait_s), wait_s + PATIENCE_S)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self._call(lambda log: log.poll(after, limit, max_bytes, wait_s), wait_s + PATIENCE_S)

    async def ends(self, topic: str) -> Ends:
        return await self._call(lambda log: log.ends(topic), PATIENCE_S)

    async def ends_of(self, topics: Sequence[str]) -> dict[str, Ends]:
        """In one exchange, as `HttpLog` does."""

        async def request(log: SqliteLog) -> dict[str, Ends]:
            return {topic: await log.ends(topic) for topic in topics}

        return await self._call(request, PATIENCE_S)

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        await self._call(lambda log: log.put_grants(topic, grants), PATIENCE_S)

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._call(lambda log: log.get_grants(topic, keys), PATIENCE_S)

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        await self._call(lambda log: log.delete_grants(topic, keys), PATIENCE_S)

    async def close(self) -> None:
        return


def _refused(entry: Entry) -> bool:
    """Chosen by the ident, so that a record is refused each time it comes. A gateway has no reason to refuse a receipt
    for good but its date or its key (see `adapters.mailbox.Mailbox.refuse`), which the other ways try."""
    return ".receipt." not in entry.topic and hashlib.sha256(entry.ident.encode()).digest()[0] < 256 // REFUSED_ONE_IN
