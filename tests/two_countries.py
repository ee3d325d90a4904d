# SPDX-License-Identifier: Apache-2.0
"""Burundi and Tunisia, each with a gateway, a log, a ledger and a bridge of its own; the wire between them in this
process, and cut when a test says so. Each country's log and ledger are files, or on brokers of its own: `opened(folder,
bi=cluster)`. Then the clock goes on by itself, too, and brokers' times are shown as it has them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2

from adapters.border_watch import BorderWatch
from adapters.bridge import RECEIPT_S, Bridge, Turn
from adapters.connectors.contract import Batch, Draft, Outcome
from adapters.desk import Desk
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.receipt_book import ReceiptRounds
from adapters.receipts_abroad import CarriedReceipts
from adapters.runner import Runner
from gateway.app import Gateway
from gateway.objections import OBJECTIONS, objections_in
from schemas.forms import Facts
from schemas.ledgers import origin_of
from schemas.notes import read_note
from schemas.registry_trust import TrustedRegistry, trusted
from tests.agencies import InMemory
from tests.borders import Countries, neighbour
from tests.domain import NOW, Domain, Signed
from tests.gateway.gateway_world import Clock, Ticks, World
from tests.topics.kafka_harness import random_id, wipe
from tests.topics.ledger_world import entries_in
from tests.trees import log_signers, witness_signers
from topics import kafka_admin
from topics.bridge_book import BOOK, BridgeBook
from topics.cosigning import ENDORSED_FILE
from topics.http_log import HttpLog
from topics.kafka_ledger import KafkaLedgerStore
from topics.kafka_log import KafkaLog
from topics.ledger import Sequencer
from topics.ledger_checkpoints import CHECKPOINT, Checkpoints
from topics.ledger_entries import LedgerEntry
from topics.ledger_registries import KeptRegistries
from topics.ledger_served import VIEW, ServedLedger
from topics.ledger_store import LedgerStore, SqliteLedgerStore
from topics.ledger_view import LedgerView
from topics.log import Log
from topics.neighbours import Neighbours
from topics.receipt_maker import ReceiptMaker
from topics.registry_file import RegistryFile
from topics.sqlite_log import SqliteLog
from umuhuza.demo_clock import TimesOf, moved
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster


class GoingClock:
    """Real time, moved ahead when a test sets `at`; brokers' times are moved as it was."""

    def __init__(self) -> None:
        self._moves = [(0.0, 0.0)]

    def __call__(self) -> float:
        return self.at

    @property
    def at(self) -> float:
        return time.time() + self._moves[-1][1]

    @at.setter
    def at(self, to: float) -> None:
        time.sleep(0.002)  # what the brokers wrote in this millisecond is before the move
        now = time.time()
        self._moves.append((now, to - now))

    def shown(self, at_ms: int) -> int:
        """What it showed when a broker wrote that time."""
        return moved(self._moves, at_ms)


class Wire(httpx2.AsyncBaseTransport):
    """The way to a gateway; `cut` it, or let answers get lost behind what was done."""

    def __init__(self, gateway: Gateway) -> None:
        self._inner = httpx2.ASGITransport(app=gateway)
        self.cut = False
        self.loses_answers = 0
        self.lacks: tuple[str, str] | None = None
        """Method and path that this gateway does not have: it is of an earlier version."""
        self.requests = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.cut:
            raise httpx2.ConnectError("cut")
        self.requests += 1
        if (request.method, request.url.path) == self.lacks:
            return httpx2.Response(404)
        answer = await self._inner.handle_async_request(request)
        if self.loses_answers and request.url.path.endswith("/records"):
            self.loses_answers -= 1
            raise httpx2.ReadError("lost")
        return answer


@dataclass
class Office:
    """An agency at work: its adapter, and its own system in memory."""

    runner: Runner
    system: InMemory
    log: HttpLog
    box: Mailbox

    async def turn(self) -> int:
        """Everything that it can do now; how much that was."""
        moved, whole = 1, 0
        while moved:
            moved = 0
            for one in (self.runner.collect, self.runner.send, self.runner.receive, self.runner.deliver):
                moved += await one()
            whole += moved
        return whole

    def offer(self, line: int, to: str, type: str, facts: Facts, **more: Any) -> Outcome:
        """One event, as its connector would."""
        draft = Draft(str(line), to, type, more.pop("person", None), more.pop("thread", None), facts, None, ())
        [outcome] = self.runner.outbox.accept(Batch(f"{to}-{line}", "essai", (draft,)), self.system.name)
        return outcome

    async def close(self) -> None:
        await self.log.close()
        self.box.close()


@dataclass
class Country:
    """One of the two. `ledger_turn` and `bridge.turn` are taken when a test says so."""

    domain: Domain
    world: World
    gateway: Gateway
    log: Log
    sequencer: Sequencer
    checkpoints: Checkpoints
    neighbours: Neighbours
    registry_file: RegistryFile
    folder: Path
    cluster: Cluster | None = None
    """Its brokers; None: files."""
    bridge: Bridge = field(init=False)
    watch: BorderWatch = field(init=False)
    book: BridgeBook = field(init=False)
    wire: Wire = field(init=False)
    """To the other country's gateway."""

    async def ledger_turn(self) -> list[LedgerEntry]:
        """Everything that stands in the log is in the ledger, signed, and cosigned by both countries."""
        while await self.sequencer.step():
            pass
        view = self.sequencer.view
        self.checkpoints.publish(view)
        note = read_note((self.folder / "ledger" / CHECKPOINT).read_bytes())
        at = int(self.world.clock())
        signed = note.with_signatures([witness_signers(name)[0].sign(note.text, at) for name in ("bi", "tn")])
        (self.folder / "ledger" / ENDORSED_FILE).write_bytes(signed.dumps())
        return entries_in(view)

    async def carry(self) -> Turn:
        """The ledger's turn, and the bridge's."""
        await self.ledger_turn()
        return await self.bridge.turn()

    async def send(self, *signed: Signed) -> list[dict[str, Any]]:
        async with self.world.caller(self.gateway, signed[0].manifest.iss) as caller:
            return await caller.send(*signed)

    async def mailbox(self, agency: str, flows: str = "bilateral") -> list[dict[str, Any]]:
        async with self.world.caller(self.gateway, agency) as caller:
            return await caller.mailbox(flows=flows)

    def office(self, agency: str) -> Office:
        """One agency's adapter, over this country's gateway."""
        member = self.domain.members[agency]
        now, random = self.world.clock, self.domain.random
        log = self.world.log(self.gateway, agency)
        box = Mailbox.open(self.folder / f"{agency.partition('/')[2]}.db")
        keys = Keys(agency, member.sig, {member.seal.kid: member.seal})
        desk = Desk(box, keys, lambda: self.neighbours.registry, now, random, abroad=self.neighbours)
        system = InMemory()
        return Office(Runner(desk, log, [system]), system, log, box)

    def published(self) -> None:
        """The domain's registry as it is now, with its agreements, in force at home."""
        self.world.registry_changed()

    def restarted_bridge(self) -> None:
        """The bridge's process is another one; its file is the same."""
        self.book.close()
        self.book = BridgeBook.open(self.folder / "neighbours" / self.bridge.other / BOOK)
        self.bridge._book = self.book
        self.bridge._receipts = ReceiptRounds(
            CarriedReceipts(self.book, self.bridge.other), self.world.clock, RECEIPT_S
        )


def _ledger(
    folder: Path, domain: Domain, log: Log, store: LedgerStore, neighbours: Neighbours, clock: Ticks
) -> Sequencer:
    here = folder / "ledger"
    view = LedgerView.open(here / VIEW, origin=origin_of(domain.name), store_id=store.store_id)
    kept = KeptRegistries(folder / "registry.json", domain.pin, here / "registries")
    return Sequencer(log, store, view, kept, now_ms=lambda: int(clock() * 1000), in_thread=False, abroad=neighbours)


@dataclass
class Logs:
    """Of one country: as its gateway and bridge open the log, and as its ledger does."""

    ours: Log
    ledgers: Log
    store: LedgerStore

    async def close(self) -> None:
        self.store.close()
        await self.ours.close()
        if self.ledgers is not self.ours:
            await self.ledgers.close()


async def _in_files(folder: Path, domain: Domain, clock: Ticks) -> Logs:
    log = SqliteLog.open(
        str(folder / "log.db"), clock_ms=lambda: int(clock() * 1000), random_id=lambda: "", threads=False
    )
    store = SqliteLedgerStore.open(folder / "ledger" / "ledger.db", random_id=lambda: f"store-{domain.name}")
    return Logs(log, log, store)


async def _on_brokers(cluster: Cluster, domain: Domain, clock: GoingClock) -> Logs:
    async def opened(client: str) -> Log:
        access = cluster.access(f"{domain.name}/{client}")
        return TimesOf(await KafkaLog.open(access, domain=domain.name, random_id=random_id, sweeps=False), clock)

    keeper = cluster.access(f"{domain.name}/ledger")
    store = await asyncio.to_thread(KafkaLedgerStore.open, keeper, domain=domain.name)
    return Logs(await opened("operator"), await opened("ledger"), store)


@contextlib.asynccontextmanager
async def _country(
    folder: Path, domain: Domain, clock: Ticks, cluster: Cluster | None = None
) -> AsyncIterator[Country]:
    settings: dict[str, Any] = {"neighbours": "neighbours", "ledger": "ledger"}
    if cluster is not None:
        if not (folder / "kafka").exists():
            cluster.hand_over(domain.operator.id, folder / "kafka")
        settings |= {"log": None, "kafka": "kafka"}
    world = World(folder, domain, clock, settings=settings)
    world.write()
    (folder / "ledger").mkdir(exist_ok=True)
    registry_file = RegistryFile(folder / "registry.json", domain.pin, clock)
    neighbours = Neighbours(folder / "neighbours", lambda: registry_file.trusted, clock)
    if cluster is not None:
        admin = cluster.access(ADMIN)
        for name in ("bi", "tn"):
            await asyncio.to_thread(wipe, admin, name)
        done = await kafka_admin.apply(admin, neighbours.registry, nodes=1, random_id=random_id)
        # Members of other tests' domains have rights of their own on these brokers.
        assert {one.what for one in done.findings} <= {"foreign"}, done.findings

    def over(log: Log) -> Log:
        return TimesOf(log, clock) if isinstance(clock, GoingClock) else log

    async with world.opened(over) as gateway:
        if cluster is None:
            logs = await _in_files(folder, domain, clock)
        else:
            assert isinstance(clock, GoingClock)
            logs = await _on_brokers(cluster, domain, clock)
        sequencer = _ledger(folder, domain, logs.ledgers, logs.store, neighbours, clock)
        await sequencer.start()
        checkpoints = Checkpoints(folder / "ledger", tuple(log_signers(domain.name)), clock)
        made = Country(domain, world, gateway, logs.ours, sequencer, checkpoints, neighbours, registry_file, folder)
        made.cluster = cluster
        yield made
        sequencer.view.close()
        await logs.close()


def _bridge(home: Country, other: Country) -> HttpLog:
    home.wire = Wire(other.gateway)
    operator = home.domain.operator
    remote = HttpLog(
        "http://gateway",
        operator.id,
        operator.sig,
        domain=other.domain.name,
        now=home.world.clock,
        random=os.urandom,
        transport=home.wire,
        gateway_key=other.domain.operator.sig.public,
    )
    home.book = BridgeBook.open(home.folder / "neighbours" / other.domain.name / BOOK)
    ledger = home.folder / "ledger"

    def version(sha256: bytes) -> TrustedRegistry | None:
        file = ledger / "registries" / f"{sha256.hex()}.json"
        return trusted(file.read_bytes(), home.domain.pin) if file.exists() else None

    home.watch = BorderWatch(
        other.domain.name,
        ours=lambda: home.registry_file.trusted,
        neighbours=home.neighbours,
        remote=remote,
        objections=lambda: objections_in(home.folder / OBJECTIONS),
        now=home.world.clock,
    )
    home.bridge = Bridge(
        other.domain.name,
        log=home.log,
        ledger=ReceiptMaker(ledger, ServedLedger(ledger)),
        ours=lambda: home.registry_file.trusted,
        version=version,
        neighbours=home.neighbours,
        remote=remote,
        book=home.book,
        now=home.world.clock,
        watch=home.watch,
        clock=home.world.clock,
    )
    return remote


@dataclass
class Both:
    countries: Countries
    clock: Ticks
    bi: Country
    tn: Country

    def wait(self, days: float = 0, seconds: float = 2) -> None:
        """Files that have changed are seen."""
        self.clock.at += days * 86_400 + seconds

    async def ended(self, which: Country) -> None:
        """That country takes the agreement out of its registry."""
        which.domain.agreements = {}
        which.domain.registry = which.domain.registry.renewed(int(self.clock()))
        which.published()
        self.wait()


@contextlib.asynccontextmanager
async def opened(
    folder: Path,
    now: int = NOW,
    bi: Cluster | None = None,
    tn: Cluster | None = None,
    terms: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncIterator[Both]:
    """Args: bi, tn: that country's brokers, which it does not share with the other; None: files. terms: members of the
    agreement that are otherwise."""
    clock: Ticks = Clock(float(now))
    if bi is not None or tn is not None:
        clock, now = GoingClock(), int(time.time())
    countries = Countries(now, terms)
    here = {name: folder / name for name in ("bi", "tn")}
    for one, other in ((countries.bi, countries.tn), (countries.tn, countries.bi)):
        here[one.name].mkdir(parents=True, exist_ok=True)
        neighbour(here[one.name] / "neighbours", other, countries.published(other), one.name)
    async with (
        _country(here["bi"], countries.bi, clock, bi) as burundi,
        _country(here["tn"], countries.tn, clock, tn) as tunisia,
    ):
        remotes = [_bridge(burundi, tunisia), _bridge(tunisia, burundi)]
        for country in (burundi, tunisia):
            await country.ledger_turn()
        yield Both(countries, clock, burundi, tunisia)
        for remote in remotes:
            await remote.close()
        burundi.book.close()
        tunisia.book.close()


def run(
    folder: Path,
    story: Callable[[Both], Coroutine[Any, Any, None]],
    bi: Cluster | None = None,
    tn: Cluster | None = None,
    terms: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """As `opened`."""

    async def whole() -> None:
        async with opened(folder, bi=bi, tn=tn, terms=terms) as both:
            await story(both)

    asyncio.run(whole())


def idents(read: Sequence[dict[str, Any]]) -> list[str]:
    return [one["ident"] for one in read]
