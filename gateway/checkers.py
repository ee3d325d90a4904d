# SPDX-License-Identifier: Apache-2.0
"""The gateway's checkers: processes that examine records, so that signatures use all cores (`checker` is one of them).

Handing over one record costs about as much as parsing it, so what waits travels together. Belongs to one event loop.

If a checker dies (killed by the system for memory, say), what it had in hand is answered `unavailable`, which senders
repeat by themselves, and another one is started; while none runs, the threads of this process do the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.checker import found_in, manifest_of
from gateway.checking import Checker
from gateway.examine import Checked, Examined, InLog, Refused, Rules, Task
from schemas.errors import LogError
from schemas.registry import registry_to_json
from topics.process_messages import message, opened

_TRIP_LINES = 32
_TRIP_BYTES = 1 << 20
_AHEAD = 2
"""Messages on their way to one checker: one that it works on and one that it finds when it is done."""
_ANOTHER_FROM = 64
"""Lines that have to wait before one more checker is worth waking: it takes time from the gateway where cores are few,
and makes many small messages of a few large ones."""
_IMPATIENT_S = 0.5
"""What has waited so long for a checker goes to any other."""
_READ_BYTES = 4 << 20
START_AGAIN_S = 1.0
OVERDUE_S = 30.0
"""A message takes milliseconds; on a machine that swaps, seconds."""


@dataclass(slots=True, eq=False)
class _Job:
    """Lines of one caller, all of one operation and one registry."""

    op: str
    rules: Rules
    lines: Sequence[bytes]
    heads: Sequence[list[Any]]
    future: asyncio.Future[list[Any]]
    answers: list[Any] = field(default_factory=list)
    left: int = 0


_Chunk = tuple[_Job, int, int]
_LOST = object()
"""In place of an answer that died with its checker."""


@dataclass(slots=True, eq=False)
class _Trip:
    """What travels together; `overdue` ends the checker that keeps it too long."""

    chunks: list[_Chunk]
    overdue: asyncio.TimerHandle


@dataclass(slots=True, eq=False)
class _Checker:
    process: asyncio.subprocess.Process
    rules: Rules | None = None
    trips: deque[_Trip] = field(default_factory=deque)


class Checkers:
    """Open with `start`. `examine` and `check` answer in the order asked."""

    def __init__(self, count: int, here: Checker, died: Callable[[], None]) -> None:
        self._count = count
        self._here = here
        self._died = died
        self._alive: list[_Checker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[_Chunk] = deque()
        self._impatient: asyncio.TimerHandle | None = None
        self._closing = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def start(cls, count: int, here: Checker, *, died: Callable[[], None] = lambda: None) -> Checkers:
        """Start `count` processes; `here` does the work while there is none, `died` is told of each that ends too soon.

        Raises OSError when a process cannot be started.
        """
        checkers = cls(count, here, died)
        try:
            for _ in range(count):
                await checkers._spawn()
        except BaseException:
            await checkers.close()
            raise
        return checkers

    async def examine(self, tasks: Sequence[Task]) -> list[Examined | Refused]:
        """`gateway.examine.examine` of each."""
        if not self._alive or not tasks:
            return await self._here.examine(tasks)
        heads = [[task.agency, task.now, task.grants_limit, len(task.line)] for task in tasks]
        found = await self._ask("examine", tasks[0].rules, [task.line for task in tasks], heads)
        return [Refused(LogError("unavailable")) if one is _LOST else one for one in found]

    async def check(self, rules: Rules, stored: Sequence[InLog]) -> list[Checked]:
        """`gateway.examine.checked` of each.

        Raises:
            LogError: unavailable, a checker died over it; ask again.
        """
        if not self._alive or not stored:
            return await self._here.check(rules, stored)
        heads = [[topic, at_ms, len(value)] for topic, at_ms, value in stored]
        found = await self._ask("check", rules, [value for _, _, value in stored], heads)
        if _LOST in found:
            raise LogError("unavailable")
        return found

    async def close(self) -> None:
        """Idempotent; ends the processes. What waits is answered `unavailable`."""
        self._closing.set()
        if self._impatient is not None:
            self._impatient.cancel()
        # Nothing is cancelled: a process that is just being started would be nobody's. Each task ends with its process.
        await asyncio.gather(*(_end(checker.process) for checker in self._alive))
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -----------------------------------------------------------------------------------------------------------------

    async def _ask(self, op: str, rules: Rules, lines: Sequence[bytes], heads: Sequence[list[Any]]) -> list[Any]:
        count = len(lines)
        job = _Job(op, rules, lines, heads, self._loop.create_future(), [None] * count, count)
        size = min(_TRIP_LINES, -(-count // len(self._alive)))
        for start in range(0, count, size):
            self._waiting.append((job, start, min(start + size, count)))
        self._hand_over()
        return await job.future

    def _hand_over(self) -> None:
        late = self._loop.time() + OVERDUE_S - _IMPATIENT_S
        used = 0
        for checker in self._alive:
            if checker.trips and checker.trips[0].overdue.when() <= late:
                continue  # it hangs, or the machine swaps: nothing more is put behind what it has
            if used and sum(stop - start for _, start, stop in self._waiting) < _ANOTHER_FROM:
                break
            used += 1
            while self._waiting and len(checker.trips) < _AHEAD:
                self._send(checker)
        if self._waiting and self._impatient is None and not self._closing.is_set():
            self._impatient = self._loop.call_later(_IMPATIENT_S, self._hand_over_again)

    def _hand_over_again(self) -> None:
        self._impatient = None
        self._hand_over()

    def _send(self, checker: _Checker) -> None:
        op, rules = self._waiting[0][0].op, self._waiting[0][0].rules
        trip: list[_Chunk] = []
        weight = size = 0
        while self._waiting and weight < _TRIP_LINES and size < _TRIP_BYTES:
            job, start, stop = self._waiting[0]
            if job.op != op or job.rules is not rules:
                break
            trip.append(self._waiting.popleft())
            weight += stop - start
            size += sum(map(len, job.lines[start:stop]))
        writer = checker.process.stdin
        assert writer is not None
        if checker.rules is not rules:
            checker.rules = rules
            writer.write(message({"op": "registry", "registry": registry_to_json(rules.registry)}))
        heads = [head for job, start, stop in trip for head in job.heads[start:stop]]
        writer.write(message({"op": op, "lines": heads}, [line for j, a, b in trip for line in j.lines[a:b]]))
        # Counts from when it was handed over, behind at most one other: it hangs without being dead, and is ended.
        overdue = self._loop.call_later(OVERDUE_S, _kill, checker.process)
        checker.trips.append(_Trip(trip, overdue))

    # -----------------------------------------------------------------------------------------------------------------

    async def _spawn(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.checker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_READ_BYTES,
        )
        checker = _Checker(process)
        if self._closing.is_set():
            await _end(process)
            return
        self._alive.append(checker)
        task = asyncio.create_task(self._attend(checker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, checker: _Checker) -> None:
        reader = checker.process.stdout
        assert reader is not None
        try:
            while True:
                head = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(head, "big"))
                checker.trips[0].overdue.cancel()  # the timer would else keep everything that it holds
                _deliver(checker.trips[0].chunks, body)
                checker.trips.popleft()
                self._hand_over()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:  # also of a bug of ours: nobody may wait for ever
            self._alive.remove(checker)
            lost = [chunk for trip in checker.trips for chunk in trip.chunks]
            for trip in checker.trips:
                trip.overdue.cancel()
            if not self._alive:
                # Nobody would take what waits; whoever asks from now on is served here.
                lost += self._waiting
                self._waiting.clear()
            for chunk in lost:
                _back(chunk, [_LOST] * (chunk[2] - chunk[1]))
            self._hand_over()  # what waits was for the one that is gone, and the others may stand idle
            await _end(checker.process)
        if self._closing.is_set():
            return
        self._died()
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_AGAIN_S):
                    await self._closing.wait()
            with contextlib.suppress(OSError):  # no memory, no process: later again
                await self._spawn()
                return


async def _end(process: asyncio.subprocess.Process) -> None:
    """Its input is at its end: it goes by itself; killed when it does not within a second."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(1.0):
            await process.wait()
    except TimeoutError:
        _kill(process)
        await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):  # its end is not noticed yet
        process.kill()


def _deliver(trip: Sequence[_Chunk], body: bytes) -> None:
    told, place = opened(body)
    done = 0
    for chunk in trip:
        job, start, stop = chunk
        found: list[Any] = []
        for line, one in zip(job.lines[start:stop], told[done : done + stop - start], strict=True):
            if job.op == "examine":
                outcome, place = found_in(one, line, body, place)
                found.append(outcome)
            else:
                found.append((manifest_of(one[1]), one[0]) if isinstance(one, list) else one)
        done += len(found)
        _back(chunk, found)


def _back(chunk: _Chunk, answers: Sequence[Any]) -> None:
    job, start, stop = chunk
    job.answers[start:stop] = answers
    job.left -= stop - start
    if not job.left and not job.future.done():
        job.future.set_result(job.answers)
