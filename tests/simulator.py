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
import itertools
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from schemas.registry import Registry
from tests.domain import Domain, sign_registry
from tests.sim_agency import HOUR, Habits
from tests.sim_border import simulate_border
from tests.sim_checks import Remains, unsettled, violations
from tests.sim_gateway import Line, LogServer
from tests.sim_http import PATIENCE_S, Front, Wire
from tests.sim_machine import Machine
from tests.sim_network import Network
from tests.sim_node import DISKS, AgencyNode
from tests.sim_stage import DAY, Report, Stage, Weather, child, death
from tests.sim_time import spread
from topics.catalogue import topics_of
from topics.http_log import HttpLog
from topics.log import Log

AGENCIES = ("bi/police", "bi/iom", "bi/min-solidarity", "bi/k7t4", "bi/r5w2")
SETTLING_DAYS = 30
Way = Literal["direct", "http"]


class World:
    """One run. `asyncio` objects inside belong to its loop; use `simulate`."""

    def __init__(
        self, seed: int, days: float, *, way: Way, weather: Weather | None, habits: Habits, show: bool
    ) -> None:
        self.stage = Stage(seed, days, show)
        self.loop, self.trace = self.stage.loop, self.stage.trace
        self.way = way
        self.habits = habits
        self.rng = random.Random(f"world {seed}")
        self.weather = weather or Weather.drawn(self.rng)
        self.domain = Domain(f"simulation {seed}")
        self.registry: Registry = self.domain.registry
        topics = [topic for topic in topics_of(self.registry) if ".grants." not in topic]
        self.directory = TemporaryDirectory(prefix="umuhuza-simulator-")
        self.registry_file = Path(self.directory.name, "registry.json")
        self._publish(self.registry)
        front = Front(self.domain, self.registry_file, self.loop, child(self.rng)) if way == "http" else None
        self.server = LogServer(self.loop, child(self.rng), self.trace, f"sim-{next(DISKS)}-log", topics, front)
        self.server.pause_s = self._log_pause_s
        self.network = Network(self.loop, self.server, self.trace)
        self.nodes = {name: AgencyNode(self, self.domain.members[name], child(self.rng)) for name in AGENCIES}

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
            gateway_key=self.domain.operator.sig.public,
            timeout_s=PATIENCE_S,
        )
        return log, lambda: log.clock_offset_s

    def _publish(self, registry: Registry) -> None:
        self.registry = registry
        # Renamed into place: the gateway never reads half of it.
        half = self.registry_file.with_suffix(".half")
        half.write_bytes(sign_registry(registry, self.domain.root))
        half.replace(self.registry_file)

    def _log_pause_s(self) -> float:
        return spread(self.rng, 1, 3 * HOUR) if self.stage.stormy else 900.0

    # -- the weather --------------------------------------------------------------------------------------------------

    def _faults(self) -> list[tuple[float, Callable[[random.Random], None]]]:
        weather = self.weather
        return [
            (weather.dies, self._somebody_dies),
            (weather.dies_at_step, self._dies_at_step),
            (weather.cut_in_write, self._cut_in_write),
            (weather.log_dies, lambda rng: self.server.machine.die(death(rng))),
            (weather.partition, self._partition),
            (weather.offline, self._goes_offline),
            (weather.disk_full, self._disk_full),
            (weather.disk_error, self._disk_error),
            (weather.clock, self._clock_goes_wrong),
            (weather.office, self._office_errs),
        ]

    def _node(self, rng: random.Random) -> AgencyNode:
        return rng.choice(list(self.nodes.values()))

    def _machine(self, rng: random.Random) -> Machine:
        return rng.choice([*(node.machine for node in self.nodes.values()), self.server.machine])

    def _somebody_dies(self, rng: random.Random) -> None:
        self._node(rng).machine.die(death(rng))

    def _dies_at_step(self, rng: random.Random) -> None:
        life = self._node(rng).machine.life
        if life is not None:
            life.dies_at_step, life.death = rng.randint(1, 12), death(rng)

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
        self._publish(self.registry.with_agency(wrong, self.stage.today()))
        self.loop.call_later(spread(rng, HOUR, 2 * DAY), self._puts_right, agency.id)

    def _puts_right(self, agency: str) -> None:
        right = self.domain.registry.agency(agency)
        if self.registry.agency(agency) != right:
            self._publish(self.registry.with_agency(right, self.stage.today()))

    def _calm(self) -> None:
        """Faults end; what has begun is undone."""
        self.stage.stormy = False
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
        self.stage.run_for_ever(self.server.run())
        for node in self.nodes.values():
            self.stage.run_for_ever(node.run())
        for node in self.nodes.values():
            node.system.begin()
        for mean, strike in self._faults():
            rng = child(self.rng)
            if mean:
                self.stage.run_for_ever(self.stage.storm(mean, strike, rng))
        self.stage.run_for_ever(self._office())
        await self.stage.until(self.stage.days * DAY)
        self._calm()
        settled_by = self.loop.time() + SETTLING_DAYS * DAY
        while not self.stage.failed.is_set() and self.loop.time() < settled_by and not self._at_rest():
            await self.stage.until(self.loop.time() + HOUR)
        report = self.stage.report(self._machines()) if self.stage.problems else await self._examined()
        await self._end()
        return report

    async def _end(self) -> None:
        await self.stage.stop(self._machines())
        if self.server.log is not None:
            await self.server.log.close()
        for machine in self._machines():
            machine.clear()
            machine.disk.forget()
        self.directory.cleanup()

    def _machines(self) -> list[Machine]:
        return [*(node.machine for node in self.nodes.values()), self.server.machine]

    async def _office(self) -> None:
        """What people do regularly: the registry is issued again, changed minds reach the mailbox."""
        for hour in itertools.count(1):
            await asyncio.sleep(HOUR)
            for node in self.nodes.values():
                node.takes_back()
                if not node.link.down:
                    node.registry = self.registry
            if hour % (7 * 24) == 0:
                self._publish(self.registry.renewed(self.stage.today()))

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
            self.stage.problems.append("not everybody came back")
            return self.stage.report(self._machines())
        log = []
        for topic in await self.server.log.topics():
            after = -1
            while page := await self.server.log.read(topic, after):
                log += page
                after = page[-1].offset
        self.stage.problems += violations(remains, log, self._machines())
        items = [item for one in remains.values() for item in one.mailbox.outbox()]
        return self.stage.report(
            self._machines(),
            records=len(log),
            refused=sum(item.state == "refused" for item in items),
            rejected=sum(item.state == "rejected" for item in items),
        )


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
    parser.add_argument("--countries", type=int, choices=(1, 2), default=1, help="2: a border, a bridge each way")
    parser.add_argument("--trace", action="store_true", help="print every event")
    options = parser.parse_args()
    failed = 0
    for seed in range(options.seed, options.seed + options.seeds):
        if options.countries == 2:
            report = simulate_border(seed, options.days, show=options.trace)
        else:
            report = simulate(seed, options.days, way=options.way, show=options.trace)
        sys.stdout.write(f"{report}\n")
        failed += bool(report.problems)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
