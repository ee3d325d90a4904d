# SPDX-License-Identifier: Apache-2.0
"""Threads for pure work (signatures, digests, compression), which release the interpreter's lock while they compute.

Handing one record to a thread costs about as much as parsing it, so what waits is handed over together: many small
requests share a trip, one large request is spread over all threads. Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

_TRIP = 32
"""Most items per trip to a thread."""
_SECOND_ABOVE = 16
"""Items that have to wait before another thread is worth waking."""
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(slots=True)
class _Job:
    work: Callable[[Any], Any]
    items: Sequence[Any]
    future: asyncio.Future[list[Any]]
    results: list[Any] = field(default_factory=list)
    left: int = 0


_Chunk = tuple[_Job, int, int]


def seldom_collect() -> None:
    """Look for unreachable cycles seldom, and never again among what is there now (modules, code, the registry).

    With Python's own setting it is looked for after every 700 objects, a few times per record: a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class Threads:
    """A `gateway.checking.Runner` on a few threads."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="umuhuza-work")
        self._free = count
        self._count = count
        self._waiting: deque[_Chunk] = deque()

    async def map(self, work: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
        """The results in order; the first exception is raised."""
        if not items:
            return []
        loop = asyncio.get_running_loop()
        job = _Job(work, items, loop.create_future(), [None] * len(items), len(items))
        size = min(_TRIP, -(-len(items) // self._count))
        for start in range(0, len(items), size):
            self._waiting.append((job, start, min(start + size, len(items))))
        self._hand_over(loop)
        return await job.future

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._free and self._waiting:
            if self._free < self._count and sum(stop - start for _, start, stop in self._waiting) < _SECOND_ABOVE:
                return  # little work: a second thread would cost more in lock handovers than it saves
            trip: list[_Chunk] = []
            weight = 0
            while self._waiting and (not trip or weight + self._waiting[0][2] - self._waiting[0][1] <= _TRIP):
                chunk = self._waiting.popleft()
                trip.append(chunk)
                weight += chunk[2] - chunk[1]
            self._send(loop, trip)

    def _send(self, loop: asyncio.AbstractEventLoop, trip: Sequence[_Chunk]) -> None:
        self._free -= 1
        loop.run_in_executor(self._executor, _travel, trip).add_done_callback(partial(self._back, loop, trip))

    def _back(self, loop: asyncio.AbstractEventLoop, trip: Sequence[_Chunk], done: asyncio.Future[None]) -> None:
        self._free += 1
        failure = asyncio.CancelledError() if done.cancelled() else done.exception()
        if failure is not None and len(trip) > 1:
            # Only one of them failed: each goes again by itself, so that nobody's mistake is another's.
            for chunk in trip:
                self._send(loop, [chunk])
            return
        for job, start, stop in trip:
            job.left -= stop - start
            if job.future.done():
                continue
            if failure is not None:
                job.future.set_exception(failure)
            elif not job.left:
                job.future.set_result(job.results)
        self._hand_over(loop)

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def _travel(trip: Sequence[_Chunk]) -> None:
    for job, start, stop in trip:
        for place in range(start, stop):
            job.results[place] = job.work(job.items[place])
