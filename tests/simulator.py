# SPDX-License-Identifier: Apache-2.0
"""A whole domain from one seed: five agencies with their real adapters, a log, a network, power cuts; virtual days.

    python -m tests.simulator --seed 7 --days 30 --trace

Everything is real but time, chance, network and disks: `Runner`, `Mailbox`, `SqliteLog` and, with `--way http`, the
gateway's ASGI application. Each seed draws its own weather (which faults happen at all, how often), so that rare
combinations are tried alone as well. After the days the faults stop, everything settles, and `tests.sim_checks` asks
what must hold. A run is exactly reproducible: same seed, same trace.

A failing seed is a test: add it to `tests/test_simulator.py` with a sentence.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import random
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from adapters.desk import Desk
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.runner import Pace, Runner
from schemas.errors import UmuhuzaError
from schemas.registry import Registry
from tests.domain import Domain, Member, sign_registry
from tests.power_cut import PowerCut
from tests.sim_agency import DAY, HOUR, Desktop, Habits, System
from tests.sim_checks import Remains, unsettled, violations
from tests.sim_gateway import Line, LogServer
from tests.sim_http import OPERATOR, PATIENCE_S, Front, Wire
from tests.sim_machine import Death, DiedError, Life, Machine, task_factory
from tests.sim_network import Link, Network
from tests.sim_time import EPOCH, VirtualLoop, spread
from topics.catalogue import topics_of
from topics.http_log import HttpLog
from topics.log import Log

AGENCIES = ("bi/police", "bi/iom", "bi/min-solidarity", "bi/k7t4", "bi/r5w2")
SETTLING_DAYS = 30
Way = Literal["direct", "http"]
_DISKS = itertools.count()


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


class AgencyNode:
    """One agency: its system, its machine, and whichever adapter process lives on it now."""

    def __init__(self, world: World, member: Member, rng: random.Random) -> None:
        self.world = world
        self.member = member
        self.rng = rng
        name = member.id.partition("/")[2]
        self.system = System(member.id, world.loop, _child(rng), world.habits, world.trace)
        self.machine = Machine(name, world.loop, _child(rng), world.trace, f"sim-{next(_DISKS)}-{name}")
        self.link = Link(name, _child(rng), world.weather.loss, world.weather.again, world.weather.slowest_s)
        self.runner: Runner | None = None
        self.offline_s = 0.0
        self.registry = world.registry
        """The newest one that this agency has fetched."""
        self.random_bytes = _child(rng).randbytes
        self._connector_rng = _child(rng)
        self.pace = Pace(
            collect_s=spread(rng, 600, 6 * HOUR),
            wait_s=spread(rng, HOUR, 24 * HOUR),
            idle_s=spread(rng, HOUR, 4 * HOUR),
            watch_s=HOUR,
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
                self.world.fail(f"{self.machine.name}: {type(failed).__name__}: {failed}", failed)
            self.machine.die("kill")
            self.runner = None
            self.machine.clear()
            pause, self.offline_s = max(self.offline_s, spread(self.rng, 10, 4 * HOUR)), 0.0
            await asyncio.sleep(pause if self.world.stormy else 10.0)

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


class World:
    """One run. `asyncio` objects inside belong to its loop; use `simulate`."""

    def __init__(
        self, seed: int, days: float, *, way: Way, weather: Weather | None, habits: Habits, show: bool
    ) -> None:
        self.seed = seed
        self.way = way
        self.days = days
        self.habits = habits
        self.rng = random.Random(f"world {seed}")
        self.loop = VirtualLoop()
        self.loop.set_task_factory(task_factory)
        self.loop.set_exception_handler(self._lost_exception)
        self.trace = Trace(self.loop, show)
        self.weather = weather or Weather.drawn(self.rng)
        self.problems: list[str] = []
        self.stormy = True
        self.domain = Domain(f"simulation {seed}")
        self.registry: Registry = self.domain.registry
        topics = [topic for topic in topics_of(self.registry) if ".grants." not in topic]
        self.directory = TemporaryDirectory(prefix="umuhuza-simulator-")
        self.registry_file = Path(self.directory.name, "registry.json")
        self._publish(self.registry)
        front = Front(self.domain, self.registry_file, self.loop, _child(self.rng)) if way == "http" else None
        self.server = LogServer(self.loop, _child(self.rng), self.trace, f"sim-{next(_DISKS)}-log", topics, front)
        self.server.pause_s = self._log_pause_s
        self.network = Network(self.loop, self.server, self.trace)
        self.nodes = {name: AgencyNode(self, self.domain.members[name], _child(self.rng)) for name in AGENCIES}
        self._failed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def log_for(self, node: AgencyNode) -> tuple[Log, Callable[[], float]]:
        """The log as this agency's process reaches it, and what to add to its own clock."""
        if self.way == "direct":
            line = Line(self.network, node.link, self.server, node.machine.clock)
            return line, lambda: line.correction_s
        log = HttpLog(
            "https://passerelle.invalid",
            node.member.id,
            node.member.sig,
            domain="bi",
            now=node.machine.clock.now,
            random=node.random_bytes,
            transport=Wire(self.network, node.link, lambda: self.server.gateway),
            gateway_key=self.domain.members[OPERATOR].sig.public,
            timeout_s=PATIENCE_S,
        )
        return log, lambda: log.clock_offset_s

    def _publish(self, registry: Registry) -> None:
        self.registry = registry
        # Renamed into place: the gateway never reads half of it.
        half = self.registry_file.with_suffix(".half")
        half.write_bytes(sign_registry(registry, self.domain.root))
        half.replace(self.registry_file)

    def fail(self, what: str, exc: BaseException | None = None) -> None:
        """Something that may never happen: the run ends here."""
        self.trace("world", what)
        self.problems.append(what)
        if exc is not None and exc.__traceback__ is not None:
            trace = exc.__traceback__
            while trace.tb_next is not None:
                trace = trace.tb_next
            self.problems[-1] += f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
        self._failed.set()

    def _lost_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        if not isinstance(exc, DiedError | PowerCut):
            self.fail(f"{context.get('message')}: {exc!r}", exc)

    def _log_pause_s(self) -> float:
        return spread(self.rng, 1, 3 * HOUR) if self.stormy else 900.0

    # -- the weather --------------------------------------------------------------------------------------------------

    def _faults(self) -> list[tuple[float, Callable[[random.Random], None]]]:
        weather = self.weather
        return [
            (weather.dies, self._somebody_dies),
            (weather.dies_at_step, self._dies_at_step),
            (weather.cut_in_write, self._cut_in_write),
            (weather.log_dies, lambda rng: self.server.machine.die(_death(rng))),
            (weather.partition, self._partition),
            (weather.offline, self._goes_offline),
            (weather.disk_full, self._disk_full),
            (weather.disk_error, self._disk_error),
            (weather.clock, self._clock_goes_wrong),
            (weather.office, self._office_errs),
        ]

    async def _storm(self, mean_days: float, strike: Callable[[random.Random], None], rng: random.Random) -> None:
        while self.stormy:
            await asyncio.sleep(rng.expovariate(1 / (mean_days * DAY)))
            if self.stormy:
                strike(rng)

    def _node(self, rng: random.Random) -> AgencyNode:
        return rng.choice(list(self.nodes.values()))

    def _machine(self, rng: random.Random) -> Machine:
        return rng.choice([*(node.machine for node in self.nodes.values()), self.server.machine])

    def _somebody_dies(self, rng: random.Random) -> None:
        self._node(rng).machine.die(_death(rng))

    def _dies_at_step(self, rng: random.Random) -> None:
        life = self._node(rng).machine.life
        if life is not None:
            life.dies_at_step, life.death = rng.randint(1, 12), _death(rng)

    def _cut_in_write(self, rng: random.Random) -> None:
        machine = self._machine(rng)
        if not machine.disk.dead:
            machine.disk.crash_after(rng.randint(1, 40))

    def _goes_offline(self, rng: random.Random) -> None:
        node = self._node(rng)
        node.offline_s = spread(rng, DAY / 2, 6 * DAY)
        if rng.random() < 0.5:
            # The clock's battery is empty, and power comes back before the network does.
            self._wrong_clock(node, rng)
            self._cut_off(node, node.offline_s + spread(rng, 60, DAY))
        node.machine.die("cut")

    def _partition(self, rng: random.Random) -> None:
        several = rng.random() < 0.2
        cut_off = list(self.nodes.values()) if several else [self._node(rng)]
        for node in cut_off:
            self._cut_off(node, spread(rng, 60, 3 * DAY))

    def _cut_off(self, node: AgencyNode, seconds: float) -> None:
        node.link.down = True
        self.trace(node.link.name, "cut off")
        self.loop.call_later(seconds, setattr, node.link, "down", False)

    def _disk_full(self, rng: random.Random) -> None:
        disk = self._machine(rng).disk
        disk.quota_bytes = disk.used_bytes() + rng.randrange(60_000)
        self.trace(disk.name.rpartition("-")[2], "disk full")
        self.loop.call_later(spread(rng, 600, DAY), setattr, disk, "quota_bytes", None)

    def _disk_error(self, rng: random.Random) -> None:
        disk = self._machine(rng).disk
        disk.fail(rng.choice(("full", "ioerr")), skip=rng.randrange(8), times=rng.randint(1, 3))

    def _clock_goes_wrong(self, rng: random.Random) -> None:
        self._wrong_clock(self._node(rng), rng)

    def _wrong_clock(self, node: AgencyNode, rng: random.Random) -> None:
        wrong = rng.choice((300.0, HOUR, DAY, 3 * 365 * DAY)) * rng.uniform(-1, 1)
        node.machine.clock.wrong_s = wrong
        node.machine.tell(f"clock wrong by {wrong:.0f} s")
        self.loop.call_later(spread(rng, HOUR, 5 * DAY), setattr, node.machine.clock, "wrong_s", 0.0)

    def _office_errs(self, rng: random.Random) -> None:
        """The operator takes a role from an agency by mistake, and gives it back. What others signed for its
        mailboxes meanwhile is refused for good; installations learn of either only when they ask."""
        agency = self.registry.agency(rng.choice(("bi/iom", "bi/k7t4", "bi/r5w2")))
        wrong = replace(agency, roles=tuple(role for role in agency.roles if role != "assistance"))
        self.trace("office", f"takes a role from {agency.id}")
        self._publish(self.registry.with_agency(wrong, self._today()))
        self.loop.call_later(spread(rng, HOUR, 2 * DAY), self._puts_right, agency.id)

    def _puts_right(self, agency: str) -> None:
        right = self.domain.registry.agency(agency)
        if self.registry.agency(agency) != right:
            self._publish(self.registry.with_agency(right, self._today()))

    def _today(self) -> int:
        return int(EPOCH + self.loop.time())

    def _calm(self) -> None:
        """Faults end; what has begun is undone."""
        self.stormy = False
        self.trace("world", "calm")
        for agency in AGENCIES:
            self._puts_right(agency)
        for node in self.nodes.values():
            node.link = replace(node.link, down=False, loss=0.0, again=0.0)
            node.machine.clock.wrong_s = 0.0
            node.system.at_work = False
            node.system.habits = replace(node.system.habits, fails=0.0)
            node.machine.disk.quota_bytes = None
            node.registry = self.registry
            # Armed faults that have not struck yet go with the process.
            node.machine.die("kill")
        self.server.machine.disk.quota_bytes = None
        self.server.machine.die("kill")

    # -- the run ------------------------------------------------------------------------------------------------------

    async def run(self) -> Report:
        self._run_for_ever(self.server.run())
        for node in self.nodes.values():
            self._run_for_ever(node.run())
        for node in self.nodes.values():
            node.system.begin()
        for mean, strike in self._faults():
            rng = _child(self.rng)
            if mean:
                self._run_for_ever(self._storm(mean, strike, rng))
        self._run_for_ever(self._office())
        await self._until(self.days * DAY)
        self._calm()
        settled_by = self.loop.time() + SETTLING_DAYS * DAY
        while not self._failed.is_set() and self.loop.time() < settled_by and not self._at_rest():
            await self._until(self.loop.time() + HOUR)
        report = self._report() if self.problems else await self._examined()
        await self._end()
        return report

    async def _end(self) -> None:
        for machine in self._machines():
            machine.die("kill")
        others = sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=lambda task: task.get_name())
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self.server.log is not None:
            await self.server.log.close()
        for machine in self._machines():
            machine.clear()
            machine.disk.forget()
        self.directory.cleanup()

    def _run_for_ever(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        failed = None if task.cancelled() else task.exception()
        if failed is not None:
            self.fail(f"{type(failed).__name__}: {failed}", failed)

    def _machines(self) -> list[Machine]:
        return [*(node.machine for node in self.nodes.values()), self.server.machine]

    async def _until(self, when: float) -> None:
        try:
            async with asyncio.timeout_at(when):
                await self._failed.wait()
        except TimeoutError:
            return

    async def _office(self) -> None:
        """What people do regularly: the registry is issued again, changed minds reach the mailbox."""
        for hour in itertools.count(1):
            await asyncio.sleep(HOUR)
            for node in self.nodes.values():
                node.takes_back()
                if not node.link.down:
                    node.registry = self.registry
            if hour % (7 * 24) == 0:
                self._publish(self.registry.renewed(self._today()))

    def _remains(self) -> dict[str, Remains] | None:
        found = {}
        for name, node in self.nodes.items():
            if node.runner is None or node.machine.life is None or not node.machine.life.alive:
                return None
            found[name] = Remains(node.system, node.runner.desk.mailbox, node.machine)
        return found

    def _at_rest(self) -> bool:
        remains = self._remains()
        return remains is not None and self.server.is_open() and not unsettled(remains)

    async def _examined(self) -> Report:
        remains = self._remains()
        if remains is None or self.server.log is None:
            self.problems.append("not everybody came back")
            return self._report()
        log = []
        for topic in await self.server.log.topics():
            after = -1
            while page := await self.server.log.read(topic, after):
                log += page
                after = page[-1].offset
        self.problems += violations(remains, log, self._machines())
        items = [item for one in remains.values() for item in one.mailbox.outbox()]
        return self._report(
            records=len(log),
            refused=sum(item.state == "refused" for item in items),
            rejected=sum(item.state == "rejected" for item in items),
        )

    def _report(self, records: int = 0, refused: int = 0, rejected: int = 0) -> Report:
        return Report(
            self.seed,
            self.days,
            self.trace.sha256,
            tuple(self.problems),
            tuple(self.trace.last),
            records,
            self.trace.count,
            sum(machine.deaths for machine in self._machines()),
            refused,
            rejected,
        )


def _child(rng: random.Random) -> random.Random:
    """A stream of its own: what one part draws changes nothing for the others."""
    return random.Random(rng.getrandbits(64))


def _death(rng: random.Random) -> Death:
    return "cut" if rng.random() < 0.5 else "kill"


def simulate(
    seed: int,
    days: float,
    *,
    way: Way = "direct",
    weather: Weather | None = None,
    habits: Habits | None = None,
    show: bool = False,
) -> Report:
    """One run from one seed. `weather` None: drawn from the seed."""
    world = World(seed, days, way=way, weather=weather, habits=habits or Habits(), show=show)
    try:
        return world.loop.run_until_complete(world.run())
    finally:
        world.loop.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on")
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--way", choices=("direct", "http"), default="direct")
    parser.add_argument("--trace", action="store_true", help="print every event")
    options = parser.parse_args()
    failed = 0
    for seed in range(options.seed, options.seed + options.seeds):
        report = simulate(seed, options.days, way=options.way, show=options.trace)
        sys.stdout.write(f"{report}\n")
        failed += bool(report.problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
