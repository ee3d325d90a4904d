# SPDX-License-Identifier: Apache-2.0
"""A simulated network between adapters and one server: delays, losses, repeats, partitions; all from the seed.

A request may be lost on its way, its answer may be lost on the way back (the server has acted), it may be carried out
a second time minutes later, and requests under way overtake each other. During a partition nothing passes: who waits
goes on waiting until its own patience ends. The server works in its own process: a client that gives up or dies stops
nothing there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tests.sim_machine import Tell
from tests.sim_time import VirtualLoop

_T = TypeVar("_T")
CONNECT_S = 1800.0


class UnreachableError(Exception):
    """No answer came; the server may or may not have acted."""

    def __init__(self, sent: bool) -> None:
        super().__init__("no answer" if sent else "no connection")
        self.sent = sent


class Server(Protocol):
    def serve(self, request: Callable[[], Coroutine[Any, Any, _T]]) -> asyncio.Future[_T] | None:
        """Carry it out in the server's own process; None: no connection. The future is cancelled when it dies."""


@dataclass
class Link:
    """One agency's way to the server."""

    name: str
    rng: random.Random
    loss: float = 0.0
    again: float = 0.0
    """Probability that a request is carried out a second time."""
    longest_s: float = 0.2
    down: bool = False

    def delay(self) -> float:
        return self.rng.uniform(0.01, self.longest_s)

    def loses(self) -> bool:
        return self.down or self.rng.random() < self.loss


class Network:
    def __init__(self, loop: VirtualLoop, server: Server, tell: Tell) -> None:
        self._loop = loop
        self._server = server
        self._tell = tell
        self._repeats: set[asyncio.Task[None]] = set()

    async def call(self, link: Link, request: Callable[[], Coroutine[Any, Any, _T]], patience_s: float) -> _T:
        """One request and its answer.

        Raises:
            UnreachableError: nothing came within `patience_s`, or the connection broke.
        """
        until = self._loop.time() + patience_s
        await asyncio.sleep(link.delay())
        if link.loses():
            self._tell(link.name, "request lost")
            await self._wait_until(until)
            raise UnreachableError(sent=False)
        if link.rng.random() < link.again:
            # In nobody's context: what is on its way arrives, whoever dies meanwhile.
            later = self._again(link, request, link.rng.expovariate(1 / 900))
            repeat = self._loop.create_task(later, context=Context())
            self._repeats.add(repeat)
            repeat.add_done_callback(self._repeats.discard)
        answer = self._server.serve(request)
        if answer is None:
            # The machine is off, or its process is: most often nobody even says that there is no connection.
            await self._wait_until(self._loop.time() + CONNECT_S)
            raise UnreachableError(sent=False)
        await asyncio.wait({answer}, timeout=until - self._loop.time())
        broken = answer.cancelled() or not answer.done()
        if broken:
            answer.cancel()  # it goes on there; nobody hears it
        else:
            answer.exception()  # heard, even if what it says is lost on its way back
        await asyncio.sleep(link.delay())
        if link.loses():
            self._tell(link.name, "answer lost")
            await self._wait_until(until)
            raise UnreachableError(sent=True)
        if broken:
            raise UnreachableError(sent=True)
        return answer.result()

    async def _wait_until(self, until: float) -> None:
        await asyncio.sleep(max(0.0, until - self._loop.time()))

    async def _again(self, link: Link, request: Callable[[], Coroutine[Any, Any, _T]], after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._tell(link.name, "request repeated")
        answer = self._server.serve(request)
        if answer is not None:
            await asyncio.wait({answer})
            if not answer.cancelled():
                answer.exception()  # nobody hears it
