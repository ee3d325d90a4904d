# SPDX-License-Identifier: Apache-2.0
"""Two domains from one seed: gateways, logs, ledgers, witnesses, bridges and focal points of both; virtual days.

    python -m tests.simulator --countries 2 --seed 7 --days 7 --trace

Each country is one machine with the log, the gateway and the ledger, one with its witness, one with its bridge, and the
focal point's. Every one of them has a disk that forgets and a clock that may be wrong; registries, published trees and
neighbours are in real files, which no simulated power cut touches. Between the countries stands one link: down for
minutes or days, losing requests and answers, carrying out some twice. An agreement is ended by one side and renewed;
a focal point's key is revoked while nothing passes, and it goes on with a new one.

A run is exactly reproducible. What must hold is in `tests.sim_checks` (inboxes, outboxes, chains, order) and
`tests.sim_border_checks` (what crossed, ledgers, witnesses, audits).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from typing_extensions import override

from adapters.bridge import Bridge
from schemas.errors import LogError, UmuhuzaError
from schemas.keys import SigningKey
from schemas.ledgers import origin_of
from schemas.notes import NoteSigner
from schemas.registry import Key, Registry
from schemas.registry_trust import TrustedRegistry, trusted
from schemas.trust_policy import read_policy
from tests.borders import NAME, Countries, neighbour
from tests.domain import YEAR, Domain
from tests.power_cut import PowerCut
from tests.sim_agency import HOUR, Habits
from tests.sim_border_checks import CountryRemains, carried, crossed
from tests.sim_checks import Remains, unsettled, violations
from tests.sim_gateway import Line, LogServer
from tests.sim_http import PATIENCE_S, Front, Wire
from tests.sim_machine import DiedError, Life, Machine
from tests.sim_network import Link, Network
from tests.sim_node import DISKS, AgencyNode
from tests.sim_people import FocalPoint
from tests.sim_stage import DAY, Report, Stage, Weather, child, death
from tests.sim_time import EPOCH, spread
from tests.trees import log_signers, witness_signers
from topics.bridge_book import BridgeBook
from topics.cosigning import POLICY_FILE, Cosignatures
from topics.http_log import HttpLog
from topics.ledger import Sequencer
from topics.ledger_checkpoints import Checkpoints
from topics.ledger_registries import KeptRegistries
from topics.ledger_served import VIEW, ServedLedger
from topics.ledger_store import SqliteLedgerStore
from topics.ledger_view import LedgerView
from topics.log import Log
from topics.neighbours import Neighbours
from topics.receipt_maker import ReceiptMaker
from topics.registry_file import RegistryFile
from topics.sqlite_log import SqliteLog
from topics.tiles import TileId
from topics.witness import SIZE_TYPE, Stale, Witness, WitnessedLogs, status_of

FOCAL = {"bi": "bi/ccsprtp", "tn": "tn/inlctp"}
SETTLING_DAYS = 20
AGREED_DAYS = 60
_LEDGER_PAUSE_S = (600.0, 4 * HOUR)
_BRIDGE_PAUSE_S = (600.0, 4 * HOUR)


def believed() -> bytes:
    """Both ledgers and a witness of each country, both of whom must have signed; where a ledger asks them."""
    lines = [f"log {one.public.vkey}\n" for name in FOCAL for one in log_signers(name)]
    lines += [f"witness {name} {_witness(name).public.vkey} http://{name}.invalid\n" for name in FOCAL]
    return "".join([*lines, "group both all bi tn\nquorum both\n"]).encode()


def _witness(name: str) -> NoteSigner:
    return witness_signers(name)[0]


class WitnessNode:
    """A country's witness: one process over one file, back at once after a death, now and then out of reach."""

    def __init__(self, name: str, stage: Stage, rng: random.Random, logs: Path) -> None:
        self.machine = Machine(f"{name}-witness", stage.loop, rng, stage.trace, f"sim-{next(DISKS)}-{name}-witness")
        self.silent = False
        self._signers = (_witness(name),)
        self._logs = logs
        Witness.create(Path("/witness.db"), self._signers, vfs=self.machine.disk.name)
        self.witness = self._opened()

    def _opened(self) -> Witness:
        self.machine.begin()
        path = Path("/witness.db")
        return Witness.open(path, self._signers, WitnessedLogs(self._logs), vfs=self.machine.disk.name)

    def comes_back(self) -> None:
        """After a death, or once a disk that failed is well again."""
        self.machine.die("kill")
        self.witness.close()
        self.machine.clear()
        self.witness = self._opened()

    def answer(self, body: bytes) -> tuple[int, str, bytes] | None:
        """Status, content type and body of one request; None: it died over it."""
        try:
            if self.machine.life is None or not self.machine.life.alive:
                self.comes_back()
            told = self.witness.add_checkpoint(body, int(self.machine.clock.now()))
        except LogError as exc:
            return status_of(exc), "text/plain", b""
        except PowerCut:
            self.machine.die("cut")
            self.comes_back()
            return None
        if isinstance(told, Stale):
            return 409, SIZE_TYPE, told.body
        return 200, "text/plain", told.lines


class WitnessWire(httpx2.BaseTransport):
    """A ledger's way to both witnesses: its own in the same house, the other's over the border."""

    def __init__(self, witnesses: dict[str, WitnessNode], links: dict[str, Link]) -> None:
        self._witnesses = witnesses
        self._links = links

    @override
    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        name = request.url.host.partition(".")[0]
        link, there = self._links.get(name), self._witnesses[name]
        if there.silent or (link is not None and link.loses()):
            raise httpx2.ConnectError("the simulated network")
        told = there.answer(request.read())
        if told is None or (link is not None and link.loses()):
            raise httpx2.ReadError("the simulated network")
        status, kind, body = told
        return httpx2.Response(status, headers={"content-type": kind}, stream=httpx2.ByteStream(body))


class FolderLedger:
    """A ledger's published files, for whoever asks its witnesses."""

    def __init__(self, served: ServedLedger) -> None:
        self._served = served

    def checkpoint(self) -> bytes:
        return self._served.checkpoint()

    def tile(self, tile: TileId) -> bytes:
        data = self._served.tile(tile)
        if data is None:
            raise LogError("unavailable", "ledger")
        return data


class Country:
    """One of the two: what `tests.sim_node` calls the world around an agency."""

    def __init__(self, border: Border, domain: Domain, folder: Path, rng: random.Random) -> None:
        self.border = border
        self.stage, self.weather, self.habits = border.stage, border.weather, border.habits
        self.domain = domain
        self.name = domain.name
        self.folder = folder
        self.rng = rng
        self.ledger = folder / "ledger"
        self.ledger.mkdir(exist_ok=True)
        (self.ledger / POLICY_FILE).write_bytes(believed())
        self.registry_file = folder / "registry.json"
        self.publish(domain.registry)
        front = Front(domain, self.registry_file, self.stage.loop, child(rng), folder / "neighbours", self.ledger)
        disk = f"sim-{next(DISKS)}-{self.name}-log"
        self.server = LogServer(self.stage.loop, child(rng), self.stage.trace, disk, (), front)
        self.server.machine.name = f"{self.name}-log"
        self.server.pause_s = lambda: spread(rng, 1, 3 * HOUR) if self.stage.stormy else 60.0
        self.server.beside = self._ledger
        self.network = Network(self.stage.loop, self.server, self.stage.trace)
        self.witness = WitnessNode(self.name, self.stage, child(rng), self.ledger / POLICY_FILE)
        held = RegistryFile(self.registry_file, domain.pin, self.true_now)
        self.neighbours = Neighbours(folder / "neighbours", lambda: held.trusted, self.true_now)
        self.held = held
        self.sequencer: Sequencer | None = None
        self._ids = random.Random(rng.getrandbits(64))

    def true_now(self) -> float:
        return EPOCH + self.stage.loop.time()

    @property
    def registry(self) -> Registry:
        """Ours with its borders."""
        return self.neighbours.registry

    def publish(self, registry: Registry) -> None:
        """With the agreements that the domain has now. Renamed into place: nobody reads half of it."""
        self.domain.registry = registry
        half = self.registry_file.with_suffix(".half")
        half.write_bytes(self.domain.registry_file)
        half.replace(self.registry_file)

    def begin(self) -> None:
        """The people of it, and the bridge; the other country is there."""
        other = self.border.other(self)
        member = self.domain.members[FOCAL[self.name]]
        script = FocalPoint(FOCAL[other.name])
        self.node = AgencyNode(self, member, child(self.rng), script=script, abroad=self.neighbours)
        self.bridge = BridgeNode(self, other, child(self.rng))

    def log_for(self, node: AgencyNode) -> tuple[Log, Callable[[], float]]:
        log = HttpLog(
            f"https://{self.name}.invalid",
            node.member.id,
            node.member.sig,
            domain=self.name,
            now=node.machine.clock.now,
            random=node.random_bytes,
            transport=Wire(self.network, node.link, lambda: self.server.gateway),
            gateway_key=self.domain.operator.sig.public,
            timeout_s=PATIENCE_S,
        )
        return log, lambda: log.clock_offset_s

    def machines(self) -> list[Machine]:
        return [self.node.machine, self.server.machine, self.witness.machine, self.bridge.machine]

    # -- the ledger, in the process that owns the log -----------------------------------------------------------------

    async def _ledger(self, log: SqliteLog, life: Life) -> None:
        machine = self.server.machine
        try:
            await self._sequence(log, life)
        except LogError as exc:
            if life.alive and not machine.disk.dead:
                machine.tell(f"ledger: {exc.code} {exc.path}")
                if exc.code in ("log_inconsistent", "root_mismatch"):
                    self.stage.fail(f"{self.name}'s ledger: {exc.code} ({exc.path})", exc)
            machine.die("kill")
        except (PowerCut, DiedError):
            machine.die("cut" if machine.disk.dead else "kill")

    async def _sequence(self, log: SqliteLog, life: Life) -> None:
        machine = self.server.machine
        now = machine.clock.now
        name = machine.disk.name
        store = SqliteLedgerStore.open(Path("/ledger.db"), random_id=lambda: self._ids.randbytes(9).hex(), vfs=name)
        machine.closes(store.close)
        view = LedgerView.open(self.ledger / VIEW, origin=origin_of(self.name), store_id=store.store_id)
        machine.closes(view.close)
        served = ServedLedger(self.ledger)
        machine.closes(served.close)
        kept = KeptRegistries(self.registry_file, self.domain.pin, self.ledger / "registries")
        abroad = Neighbours(self.folder / "neighbours", lambda: kept.trusted, now)
        sequencer = Sequencer(log, store, view, kept, now_ms=lambda: int(now() * 1000), in_thread=False, abroad=abroad)
        await sequencer.start()
        self.sequencer = sequencer
        checkpoints = Checkpoints(self.ledger, tuple(log_signers(self.name)), now)
        book = Cosignatures(self.ledger, origin_of(self.name))
        while True:
            while await sequencer.step():
                life.step("sequenced")
            if checkpoints.publish(view) is not None:
                life.step("signed")
            with httpx2.Client(transport=self.border.witnesses_of(self)) as client:
                told = book.ask(FolderLedger(served), client, int(now()))
            codes = sorted({one.code for one in told.facts if one.code is not None})
            machine.tell(f"ledger: {told.size} entries, {'cosigned' if told.endorsed else ' '.join(codes)}")
            if "log_inconsistent" in codes:
                self.stage.fail(f"a witness has seen another history of {self.name}")
            await asyncio.sleep(spread(self.rng, *_LEDGER_PAUSE_S))


class BridgeNode:
    """A country's bridge: a process that dies between any two steps, and its file."""

    def __init__(self, country: Country, other: Country, rng: random.Random) -> None:
        self.country, self.other, self.rng = country, other, rng
        stage, name = country.stage, f"{country.name}-bridge"
        self.machine = Machine(name, stage.loop, child(rng), stage.trace, f"sim-{next(DISKS)}-{name}")
        self.home = Link(name, child(rng), longest_s=0.05)
        self.link = Link(name, child(rng), country.weather.loss, country.weather.again, country.weather.slowest_s)
        self.book: BridgeBook | None = None
        self._random = child(rng).randbytes

    async def run(self) -> None:
        """The process starts, carries, dies, comes back; for ever."""
        while True:
            life = self.machine.begin()
            work = life.start(self._work(life))
            await asyncio.wait({work})
            failed = None if work.cancelled() else work.exception()
            if isinstance(failed, UmuhuzaError):
                self.machine.tell(f"stopped: {failed.code} {failed.path}")
            elif failed is not None and not isinstance(failed, DiedError | PowerCut) and life.alive:
                self.country.stage.fail(f"{self.machine.name}: {type(failed).__name__}: {failed}", failed)
            self.machine.die("kill")
            self.book = None
            self.machine.clear()
            await asyncio.sleep(spread(self.rng, 10, 4 * HOUR) if self.country.stage.stormy else 10.0)

    async def _work(self, life: Life) -> None:
        country, other = self.country, self.other
        book = BridgeBook.open(Path("/bridge.db"), vfs=self.machine.disk.name)
        self.machine.closes(book.close)
        served = ServedLedger(country.ledger)
        self.machine.closes(served.close)
        life.check()
        clock = self.machine.clock
        log = Line(country.network, self.home, country.server, clock, life.step)
        remote = HttpLog(
            f"https://{other.name}.invalid",
            country.domain.operator.id,
            country.domain.operator.sig,
            domain=other.name,
            now=clock.now,
            random=self._random,
            transport=Wire(other.network, self.link, lambda: other.server.gateway, life.step, grain_s=60),
            gateway_key=other.domain.operator.sig.public,
            timeout_s=PATIENCE_S,
        )
        bridge = Bridge(
            other.name,
            log=log,
            ledger=ReceiptMaker(country.ledger, served),
            ours=lambda: country.held.trusted,
            version=self._version,
            neighbours=country.neighbours,
            remote=remote,
            book=book,
            now=clock.now,
        )
        self.book = book
        while True:
            turn = await bridge.turn()
            life.check()
            said = "" if turn.code is None else f", {turn.code} ({turn.path})"
            self.machine.tell(f"{turn.promised} promised, {turn.refused} refused, {turn.waiting} wait{said}")
            await asyncio.sleep(spread(self.rng, *_BRIDGE_PAUSE_S))

    def _version(self, sha256: bytes) -> TrustedRegistry | None:
        file = self.country.ledger / "registries" / f"{sha256.hex()}.json"
        return trusted(file.read_bytes(), self.country.domain.pin) if file.exists() else None


class Border:
    """One run. Use `simulate`."""

    def __init__(self, seed: int, days: float, *, weather: Weather | None, habits: Habits, show: bool) -> None:
        self.stage = Stage(seed, days, show)
        self.rng = random.Random(f"border {seed}")
        self.weather = weather or Weather.drawn(self.rng)
        self.habits = habits
        self.directory = TemporaryDirectory(prefix="umuhuza-border-")
        self.agreed = Countries()
        self.agreed.agree(types=[])
        here = {domain.name: Path(self.directory.name, domain.name) for domain in (self.agreed.bi, self.agreed.tn)}
        for domain, theirs in ((self.agreed.bi, self.agreed.tn), (self.agreed.tn, self.agreed.bi)):
            neighbour(here[domain.name] / "neighbours", theirs, self.agreed.published(theirs), domain.name)
        self.countries = {
            domain.name: Country(self, domain, here[domain.name], child(self.rng))
            for domain in (self.agreed.bi, self.agreed.tn)
        }
        for country in self.countries.values():
            country.begin()

    def other(self, country: Country) -> Country:
        return self.countries["tn" if country.name == "bi" else "bi"]

    def witnesses_of(self, country: Country) -> WitnessWire:
        return WitnessWire(
            {name: one.witness for name, one in self.countries.items()},
            {self.other(country).name: country.bridge.link},
        )

    def machines(self) -> list[Machine]:
        return [machine for country in self.countries.values() for machine in country.machines()]

    # -- the weather --------------------------------------------------------------------------------------------------

    def _faults(self) -> list[tuple[float, Callable[[random.Random], None]]]:
        weather = self.weather
        return [
            (weather.dies, lambda rng: self._process(rng).die(death(rng))),
            (weather.dies_at_step, self._dies_at_step),
            (weather.cut_in_write, self._cut_in_write),
            (weather.log_dies, lambda rng: self._country(rng).server.machine.die(death(rng))),
            (weather.partition, self._border_closes),
            (weather.partition, self._cut_off),
            (weather.offline, self._goes_offline),
            (weather.disk_full, self._disk_full),
            (weather.disk_error, self._disk_error),
            (weather.clock, self._clock_jumps),
            (weather.office, self._ends_agreement),
            (weather.office, self._revokes),
            (weather.office, self._witness_silent),
        ]

    def _country(self, rng: random.Random) -> Country:
        return rng.choice(list(self.countries.values()))

    def _process(self, rng: random.Random) -> Machine:
        country = self._country(rng)
        return rng.choice((country.node.machine, country.bridge.machine))

    def _machine(self, rng: random.Random) -> Machine:
        return rng.choice(self._country(rng).machines())

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self.stage.loop.call_later(seconds, act)

    def _dies_at_step(self, rng: random.Random) -> None:
        life = rng.choice((self._process(rng), self._country(rng).server.machine)).life
        if life is not None:
            life.dies_at_step, life.death = rng.randint(1, 12), death(rng)

    def _cut_in_write(self, rng: random.Random) -> None:
        machine = self._machine(rng)
        if not machine.disk.dead:
            machine.disk.crash_after(rng.randint(1, 40))

    def _border_closes(self, rng: random.Random) -> None:
        """Nothing passes, one way or both, for minutes or days."""
        links = [country.bridge.link for country in self.countries.values()]
        for link in links if rng.random() < 0.7 else [rng.choice(links)]:
            self._down(link, spread(rng, 60, 4 * DAY))

    def _cut_off(self, rng: random.Random) -> None:
        self._down(self._country(rng).node.link, spread(rng, 60, 2 * DAY))

    def _down(self, link: Link, seconds: float) -> None:
        link.down = True
        self.stage.trace(link.name, "cut off")
        self._later(seconds, lambda: setattr(link, "down", False))

    def _goes_offline(self, rng: random.Random) -> None:
        node = self._country(rng).node
        node.offline_s = spread(rng, DAY / 4, 3 * DAY)
        node.machine.die("cut")

    def _disk_full(self, rng: random.Random) -> None:
        disk = self._process(rng).disk
        disk.quota_bytes = disk.used_bytes() + rng.randrange(60_000)
        self.stage.trace(disk.name.rpartition("-")[2], "disk full")
        self._later(spread(rng, 600, DAY), lambda: setattr(disk, "quota_bytes", None))

    def _disk_error(self, rng: random.Random) -> None:
        self._machine(rng).disk.fail(rng.choice(("full", "ioerr")), skip=rng.randrange(8), times=rng.randint(1, 3))

    def _clock_jumps(self, rng: random.Random) -> None:
        """Up to an hour wrong, either way; right again some time later, at once."""
        machine = self._machine(rng)
        machine.clock.wrong_s = rng.choice((60.0, 600.0, HOUR)) * rng.uniform(-1, 1)
        machine.tell(f"clock wrong by {machine.clock.wrong_s:.0f} s")
        self._later(spread(rng, HOUR, 3 * DAY), lambda: setattr(machine.clock, "wrong_s", 0.0))

    def _witness_silent(self, rng: random.Random) -> None:
        witness = self._country(rng).witness
        witness.silent = True
        self._later(spread(rng, HOUR, 2 * DAY), lambda: setattr(witness, "silent", False))

    def _ends_agreement(self, rng: random.Random) -> None:
        """One side takes it out of its registry; people come to terms again."""
        country = self._country(rng)
        if not country.domain.agreements:
            return
        self.stage.trace(country.name, "ends the agreement")
        country.domain.agreements = {}
        country.publish(country.domain.registry.renewed(self.stage.today()))
        self._later(spread(rng, HOUR, 2 * DAY), lambda: self._renews(country))

    def _renews(self, country: Country) -> None:
        if not country.domain.agreements:
            self.stage.trace(country.name, "renews the agreement")
            country.domain.agreements = {NAME: self.agreed.terms(country.name, types=[])}
            country.publish(country.domain.registry.renewed(self.stage.today()))

    def _revokes(self, rng: random.Random) -> None:
        """A focal point's key is revoked, while the link is down more often than not; it goes on with a new one."""
        country = self._country(rng)
        node, domain, now = country.node, country.domain, self.stage.today()
        if rng.random() < 0.7:
            self._down(country.bridge.link, spread(rng, HOUR, 4 * DAY))
        fresh = SigningKey.generate(node.random_bytes)
        registry = domain.registry.with_key_revoked(node.member.id, node.member.sig.kid, now)
        owner = registry.agency(node.member.id)
        key = Key(fresh.kid, "sig", "ES256", fresh.public.public, now, now + YEAR)
        self.stage.trace(country.name, f"revokes {node.member.sig.kid}")
        node.member = domain.members[node.member.id] = replace(node.member, sig=fresh)
        country.publish(registry.with_agency(replace(owner, keys=(*owner.keys, key)), now))
        node.registry = country.registry
        node.machine.die("kill")

    def _calm(self) -> None:
        """Faults end; what has begun is undone."""
        self.stage.stormy = False
        self.stage.trace("world", "calm")
        for country in self.countries.values():
            self._renews(country)
            country.witness.silent = False
            for link in (country.node.link, country.bridge.link):
                link.down, link.loss, link.again = False, 0.0, 0.0
            country.node.system.at_work = False
            country.node.system.habits = replace(country.node.system.habits, fails=0.0)
            country.node.registry = country.registry
            for machine in country.machines():
                machine.clock.wrong_s = 0.0
                machine.disk.quota_bytes = None
                # Armed faults that have not struck yet go with the process.
                machine.die("kill")
            country.witness.comes_back()

    # -- the run ------------------------------------------------------------------------------------------------------

    async def run(self, keep: Path | None) -> Report:
        for country in self.countries.values():
            for work in (country.server.run(), country.node.run(), country.bridge.run()):
                self.stage.run_for_ever(work)
            country.node.system.begin()
        for mean, strike in self._faults():
            rng = child(self.rng)
            if mean:
                self.stage.run_for_ever(self.stage.storm(mean, strike, rng))
        self.stage.run_for_ever(self._office())
        await self.stage.until(self.stage.days * DAY)
        self._calm()
        settled_by = self.stage.loop.time() + SETTLING_DAYS * DAY
        while not self.stage.failed.is_set() and self.stage.loop.time() < settled_by and not await self._at_rest():
            await self.stage.until(self.stage.loop.time() + HOUR)
        report = self.stage.report(self.machines()) if self.stage.problems else await self._examined(keep)
        await self.stage.stop(self.machines())
        for country in self.countries.values():
            if country.server.log is not None:
                await country.server.log.close()
            country.witness.witness.close()
        for machine in self.machines():
            machine.clear()
            machine.disk.forget()
        self.directory.cleanup()
        return report

    async def _office(self) -> None:
        """What people do regularly: agencies fetch the registry, changed minds reach the mailbox, weeks end."""
        hour = 0
        while True:
            await asyncio.sleep(HOUR)
            hour += 1
            for country in self.countries.values():
                country.node.takes_back()
                if not country.node.link.down:
                    country.node.registry = country.registry
                if hour % (7 * 24) == 0:
                    country.publish(country.domain.registry.renewed(self.stage.today()))

    def _remains(self) -> dict[str, Remains] | None:
        found = {}
        for country in self.countries.values():
            node = country.node
            if node.runner is None or node.machine.life is None or not node.machine.life.alive:
                return None
            found[node.member.id] = Remains(node.system, node.runner.desk.mailbox, node.machine)
        return found

    async def _countries(self) -> dict[str, CountryRemains] | None:
        found = {}
        for name, country in self.countries.items():
            server, book, sequencer = country.server, country.bridge.book, country.sequencer
            if not server.is_open() or server.log is None or book is None or sequencer is None:
                return None
            log = []
            for topic in await server.log.topics():
                after = -1
                while page := await server.log.read(topic, after):
                    log += page
                    after = page[-1].offset
            policy = read_policy(believed())
            found[name] = CountryRemains(
                name, log, server.log.log_id, sequencer.view, country.ledger, policy, book, country.witness.witness
            )
        return found

    async def _at_rest(self) -> bool:
        remains, countries = self._remains(), await self._countries()
        return remains is not None and countries is not None and not unsettled(remains) and not carried(countries)

    async def _examined(self, keep: Path | None) -> Report:
        remains, countries = self._remains(), await self._countries()
        if remains is None or countries is None:
            self.stage.problems.append("not everybody came back")
            return self.stage.report(self.machines())
        # Each record once, where its issuer's ledger decides; what crossed is compared with it.
        homes = [one for name, at in countries.items() for one in at.log if one.ident.startswith(f"{name}/")]
        self.stage.problems += violations(remains, homes, self.machines())
        self.stage.problems += crossed(countries)
        if keep is not None:
            for name, country in self.countries.items():
                self._hand_over(country, keep / name)
        items = [item for one in remains.values() for item in one.mailbox.outbox()]
        return self.stage.report(
            self.machines(),
            records=len(homes),
            refused=sum(item.state == "refused" for item in items),
            rejected=sum(item.state == "rejected" for item in items),
        )

    def _hand_over(self, country: Country, folder: Path) -> None:
        """A country's files, as its operator gives them to an auditor when nothing runs any more."""
        folder.mkdir(parents=True)
        for real in sorted(country.folder.rglob("*")):
            if real.is_file():
                place = folder / real.relative_to(country.folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(real.read_bytes())
        disk = country.server.machine.disk
        for path in disk.paths():
            place = folder / ("ledger" if path.startswith("/ledger") else ".") / path[1:]
            place.write_bytes(disk.snapshot_bytes(path))
        settings = {
            "registry": "../registry.json",
            "registry_root": country.domain.pin.text,
            "log": "../log.db",
            "store": "ledger.db",
            "neighbours": "../neighbours",
        }
        said = "".join(f'{name} = "{value}"\n' for name, value in settings.items())
        (folder / "ledger" / "ledger.toml").write_text(said, encoding="ascii")
        (folder / "root").write_text(country.domain.pin.text + "\n", encoding="ascii")


def simulate_border(
    seed: int,
    days: float,
    *,
    weather: Weather | None = None,
    habits: Habits | None = None,
    show: bool = False,
    keep: Path | None = None,
) -> Report:
    """One run of both countries from one seed.

    Args:
        weather: None: drawn from the seed.
        keep: where both countries' files are left for an auditor, a folder each.
    """
    border = Border(seed, days, weather=weather, habits=habits or Habits(), show=show)
    try:
        return border.stage.loop.run_until_complete(border.run(keep))
    finally:
        border.stage.loop.close()
