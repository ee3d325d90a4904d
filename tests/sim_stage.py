# SPDX-License-Identifier: Apache-2.0
"""What every simulated world stands on: virtual time, a trace, weather, and the tasks that go on until the run ends.

The trace is the run's identity: two runs of one seed tell the same events at the same virtual moments.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from tests.power_cut import PowerCut
from tests.sim_machine import Death, DiedError, Machine, task_factory
from tests.sim_time import EPOCH, VirtualLoop, spread

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Weather:
    """What a seed makes of the world: mean days between two faults of a kind; 0: never."""

    dies: float
    dies_at_step: float
    cut_in_write: float
    log_dies: float
    partition: float
    offline: float
    disk_full: float
    disk_error: float
    clock: float
    office: float
    loss: float
    again: float
    slowest_s: float

    @classmethod
    def drawn(cls, rng: random.Random) -> Weather:
        def days(shortest: float, longest: float) -> float:
            return spread(rng, shortest, longest) if rng.random() < 0.75 else 0.0

        return cls(
            dies=days(0.5, 5),
            dies_at_step=days(0.2, 3),
            cut_in_write=days(0.2, 3),
            log_dies=days(0.5, 10),
            partition=days(1, 10),
            offline=days(5, 30),
            disk_full=days(2, 20),
            disk_error=days(1, 10),
            clock=days(2, 20),
            office=days(3, 20),
            loss=rng.choice((0.0, 0.01, 0.05, 0.15)),
            again=rng.choice((0.0, 0.01, 0.1)),
            slowest_s=rng.choice((0.05, 2.0, 20.0)),
        )


CALM = Weather(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.2)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run was."""

    seed: int
    days: float
    trace_sha256: str
    problems: tuple[str, ...]
    last_events: tuple[str, ...]
    records: int
    events: int
    deaths: int
    refused: int
    rejected: int

    def __str__(self) -> str:
        head = (
            f"seed {self.seed}: {self.days:g} days, {self.records} records, {self.deaths} deaths, "
            f"{self.refused} refused, {self.rejected} rejected, trace {self.trace_sha256[:16]}"
        )
        if not self.problems:
            return head
        return "\n".join([head, *(f"  ! {each}" for each in self.problems), *(f"    {e}" for e in self.last_events)])


class Trace:
    """Every event, in order: its digest is the run's identity, its end is what a failing seed prints."""

    def __init__(self, loop: VirtualLoop, show: bool) -> None:
        self._loop = loop
        self._show = show
        self._digest = hashlib.sha256()
        self.last: deque[str] = deque(maxlen=50)
        self.count = 0

    def __call__(self, who: str, what: str) -> None:
        days, seconds = divmod(self._loop.time(), DAY)
        line = f"{int(days):3}d {seconds:9.3f}s {who:18} {what}"
        self._digest.update(line.encode() + b"\n")
        self.last.append(line)
        self.count += 1
        if self._show:
            sys.stdout.write(line + "\n")

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class Stage:
    """One run. `asyncio` objects inside belong to its loop."""

    def __init__(self, seed: int, days: float, show: bool) -> None:
        self.seed = seed
        self.days = days
        self.loop = VirtualLoop()
        self.loop.set_task_factory(task_factory)
        self.loop.set_exception_handler(self._lost_exception)
        self.trace = Trace(self.loop, show)
        self.problems: list[str] = []
        self.stormy = True
        self.failed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def today(self) -> int:
        """Seconds since the epoch."""
        return int(EPOCH + self.loop.time())

    def fail(self, what: str, exc: BaseException | None = None) -> None:
        """Something that may never happen: the run ends here."""
        self.trace("world", what)
        self.problems.append(what)
        if exc is not None and exc.__traceback__ is not None:
            trace = exc.__traceback__
            while trace.tb_next is not None:
                trace = trace.tb_next
            self.problems[-1] += f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
        self.failed.set()

    def _lost_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if not isinstance(exc, DiedError | PowerCut):
            self.fail(f"{context.get('message')}: {exc!r}", exc)

    def run_for_ever(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        failed = None if task.cancelled() else task.exception()
        if failed is not None:
            self.fail(f"{type(failed).__name__}: {failed}", failed)

    async def storm(self, mean_days: float, strike: Callable[[random.Random], None], rng: random.Random) -> None:
        """One kind of fault, again and again, as long as the weather is bad."""
        while self.stormy:
            await asyncio.sleep(rng.expovariate(1 / (mean_days * DAY)))
            if self.stormy:
                strike(rng)

    async def until(self, when: float) -> None:
        """A virtual moment, or the first failure."""
        try:
            async with asyncio.timeout_at(when):
                await self.failed.wait()
        except TimeoutError:
            return

    async def stop(self, machines: Sequence[Machine]) -> None:
        """Every process dies and every task ends."""
        for machine in machines:
            machine.die("kill")
        others = sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=lambda task: task.get_name())
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def report(self, machines: Sequence[Machine], records: int = 0, refused: int = 0, rejected: int = 0) -> Report:
        return Report(
            self.seed,
            self.days,
            self.trace.sha256,
            tuple(self.problems),
            tuple(self.trace.last),
            records,
            self.trace.count,
            sum(machine.deaths for machine in machines),
            refused,
            rejected,
        )


def child(rng: random.Random) -> random.Random:
    """A stream of its own: what one part draws changes nothing for the others."""
    return random.Random(rng.getrandbits(64))


def death(rng: random.Random) -> Death:
    return "cut" if rng.random() < 0.5 else "kill"
