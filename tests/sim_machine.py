# SPDX-License-Identifier: Apache-2.0
"""A simulated machine: a disk, a clock, and one process on it that may die between any two steps.

    life = machine.begin()            # the process starts; its tasks belong to `life`
    life.start(coroutine)
    life.step("signed")               # may die here: raises DiedError, nothing after it has any effect
    machine.die("cut" | "kill")       # from outside, at any moment
    machine.clear()                   # objects closed upon the ghost, power back

Two ways to die: `cut` (the machine loses power, the disk forgets what was not synced) and `kill` (the process only).
At the moment of death the disk turns into a ghost for the dead process's objects and all its tasks are cancelled, so
that whatever their `finally` does reaches nobody.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any, Literal, TypeVar

from tests.power_cut import PowerCutVFS
from tests.sim_time import Clock, VirtualLoop

_T = TypeVar("_T")
Death = Literal["cut", "kill"]
Tell = Callable[[str, str], None]
"""(who, what) into the trace."""

_OWNER: ContextVar[Life | None] = ContextVar("owner", default=None)


class DiedError(BaseException):
    """The process is dead. A BaseException: nothing that tidies up after ordinary errors may swallow it."""


def task_factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Every task belongs to the process whose code made it."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    owner = _OWNER.get() if context is None else context.get(_OWNER)
    if owner is not None:
        owner.adopt(task)
    return task


class Life:
    """One process, from its start to its death."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.alive = True
        self.ended = machine.loop.create_future()
        self.dies_at_step: int | None = None
        self.death: Death = "kill"
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._context = copy_context()
        self._context.run(_OWNER.set, self)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def start(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        return self.machine.loop.create_task(coroutine, context=self._context)

    def check(self) -> None:
        """Raises DiedError where a dead process would no longer act; notices a cut in the middle of a write."""
        if self.alive and self.machine.disk.dead:
            self.machine.die("cut")
        if not self.alive:
            raise DiedError

    def step(self, name: str) -> None:
        """Between two steps: may die here."""
        self.check()
        self.machine.tell(name)
        if self.dies_at_step is not None:
            self.dies_at_step -= 1
            if self.dies_at_step <= 0:
                self.machine.die(self.death)
                raise DiedError

    def end(self) -> None:
        self.alive = False
        for task in list(self._tasks):
            task.cancel()
        if not self.ended.done():
            self.ended.set_result(None)


class Machine:
    """Owns a disk that outlives processes, and at most one living process."""

    def __init__(self, name: str, loop: VirtualLoop, rng: random.Random, tell: Tell, disk_name: str) -> None:
        self.name = name
        self.loop = loop
        self.rng = rng
        self.clock = Clock(loop)
        self.disk = PowerCutVFS(disk_name, seed=rng.getrandbits(64))
        self.life: Life | None = None
        self.deaths = 0
        self._tell = tell
        self._to_close: list[Callable[[], None]] = []

    def tell(self, what: str) -> None:
        self._tell(self.name, what)

    def begin(self) -> Life:
        self.life = Life(self)
        return self.life

    def closes(self, close: Callable[[], None]) -> None:
        """Called once the process is dead, before the disk is used again."""
        self._to_close.append(close)

    def die(self, how: Death) -> None:
        """The process is gone. A power cut that the disk carried out by itself is completed here."""
        life = self.life
        if life is None or not life.alive:
            return
        cut = how == "cut" or self.disk.dead
        if cut:
            self.disk.cut()
        else:
            self.disk.process_dies()
        self.deaths += 1
        self.tell("power cut" if cut else "killed")
        life.end()

    def clear(self) -> None:
        """After a death: the dead process's objects are closed upon the ghost; the disk is what survived."""
        for close in self._to_close:
            close()
        self._to_close.clear()
        if self.disk.dead:
            self.disk.reset_after_cut()
        self.disk.bury()
        self.life = None
