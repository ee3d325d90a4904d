# SPDX-License-Identifier: Apache-2.0
"""A simulated agency with everything around it: its system, its machine, and whichever adapter process lives there now.

The process starts, works, dies, comes back; what it holds in memory dies with it, what it wrote is on its disk.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from typing import Protocol

from adapters.desk import Desk
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.runner import Pace, Runner
from schemas.errors import UmuhuzaError
from schemas.registry import Registry
from tests.domain import Member
from tests.power_cut import PowerCut
from tests.sim_agency import HOUR, Desktop, Habits, Script, System
from tests.sim_machine import DiedError, Life, Machine
from tests.sim_network import Link
from tests.sim_stage import DAY, Stage, Weather, child
from tests.sim_time import spread
from topics.log import Log
from topics.neighbours import Neighbours

DISKS = itertools.count()


class Around(Protocol):
    """The world that an agency stands in."""

    @property
    def stage(self) -> Stage: ...
    @property
    def weather(self) -> Weather: ...
    @property
    def habits(self) -> Habits: ...
    @property
    def registry(self) -> Registry: ...

    def log_for(self, node: AgencyNode) -> tuple[Log, Callable[[], float]]:
        """The log as this agency's process reaches it, and what to add to its own clock."""


class AgencyNode:
    """One agency: its system, its machine, and whichever adapter process lives on it now."""

    def __init__(
        self,
        world: Around,
        member: Member,
        rng: random.Random,
        *,
        script: Script | None = None,
        abroad: Neighbours | None = None,
    ) -> None:
        self.world = world
        self.member = member
        self.rng = rng
        self.abroad = abroad
        stage = world.stage
        name = member.id.partition("/")[2]
        self.system = System(member.id, stage.loop, child(rng), world.habits, stage.trace, script)
        self.machine = Machine(name, stage.loop, child(rng), stage.trace, f"sim-{next(DISKS)}-{name}")
        self.link = Link(name, child(rng), world.weather.loss, world.weather.again, world.weather.slowest_s)
        self.runner: Runner | None = None
        self.offline_s = 0.0
        self.registry = world.registry
        """The newest one that this agency has fetched."""
        self.random_bytes = child(rng).randbytes
        self._connector_rng = child(rng)
        self.pace = Pace(
            collect_s=spread(rng, 600, 6 * HOUR),
            wait_s=spread(rng, HOUR, 24 * HOUR),
            idle_s=spread(rng, HOUR, 4 * HOUR),
            watch_s=spread(rng, HOUR, 4 * HOUR),
            check_s=DAY,
        )

    async def run(self) -> None:
        """The process starts, works, dies, comes back; for ever."""
        while True:
            life = self.machine.begin()
            work = life.start(self._work(life))
            await asyncio.wait({work})
            failed = None if work.cancelled() else work.exception()
            if isinstance(failed, UmuhuzaError):
                # It could not even start (its disk is full or fails): somebody starts it again.
                self.machine.tell(f"did not start: {failed.code}")
            elif failed is not None and not isinstance(failed, DiedError | PowerCut) and life.alive:
                self.world.stage.fail(f"{self.machine.name}: {type(failed).__name__}: {failed}", failed)
            self.machine.die("kill")
            self.runner = None
            self.machine.clear()
            pause, self.offline_s = max(self.offline_s, spread(self.rng, 10, 4 * HOUR)), 0.0
            await asyncio.sleep(pause if self.world.stage.stormy else 10.0)

    async def _work(self, life: Life) -> None:
        mailbox = Mailbox.open("/mailbox.db", vfs=self.machine.disk.name, exclusive=True)
        self.machine.closes(mailbox.close)
        life.check()
        log, offset_s = self.world.log_for(self)
        member, clock = self.member, self.machine.clock
        desk = Desk(
            mailbox,
            Keys(member.id, member.sig, {member.seal.kid: member.seal}),
            lambda: self.registry,
            lambda: clock.now() + offset_s(),
            self.random_bytes,
            abroad=self.abroad,
        )
        self.runner = Runner(
            desk,
            log,
            [Desktop(self.system, life, self._connector_rng)],
            step=life.step,
            pace=self.pace,
            on_trouble=lambda turn, exc: self._trouble(life, turn, exc),
        )
        self.machine.tell("started")
        await self.runner.run(asyncio.Event())

    def _trouble(self, life: Life, turn: str, exc: UmuhuzaError) -> None:
        life.check()
        self.machine.tell(f"{turn}: {exc.code}")

    def takes_back(self) -> None:
        """The caseworker cancels what she asked for, if it is not on its way yet."""
        if self.runner is None or self.machine.life is None or not self.machine.life.alive:
            return
        for evt in self.system.wants_back:
            try:
                if self.runner.desk.mailbox.cancel(evt, int(self.runner.desk.now())):
                    self.machine.tell(f"cancelled {evt}")
            except UmuhuzaError as exc:
                self.machine.tell(f"cancel: {exc.code}")
        self.system.wants_back.clear()
