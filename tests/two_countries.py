# SPDX-License-Identifier: Apache-2.0
"""Burundi and Tunisia, each with a gateway, a log, a ledger and a bridge of its own, in files; the wire between them in
this process, and cut when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from adapters.bridge import Bridge, Turn
from adapters.bridge_book import BridgeBook
from adapters.connectors.contract import Batch, Draft, Outcome
from adapters.desk import Desk
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.runner import Runner
from gateway.app import Gateway
from schemas.forms import Facts
from schemas.notes import read_note
from schemas.registry_trust import TrustedRegistry, trusted
from tests.agencies import InMemory
from tests.borders import Countries, neighbour
from tests.domain import NOW, Domain, Signed
from tests.gateway.gateway_world import Clock, World
from tests.topics.ledger_world import entries_in
from tests.trees import log_signers, witness_signers
from topics.cosigning import ENDORSED_FILE
from topics.http_log import HttpLog
from topics.ledger import Sequencer
from topics.ledger_checkpoints import CHECKPOINT, Checkpoints
from topics.ledger_entries import LedgerEntry
from topics.ledger_registries import KeptRegistries
from topics.ledger_served import VIEW, ServedLedger
from topics.ledger_store import SqliteLedgerStore
from topics.ledger_view import LedgerView
from topics.log import Log
from topics.neighbours import Neighbours
from topics.promise import origin_of
from topics.receipt_maker import ReceiptMaker
from topics.registry_file import RegistryFile
from topics.sqlite_log import SqliteLog


class Wire(httpx2.AsyncBaseTransport):
    """The way to a gateway; `cut` it, or let answers get lost behind what was done."""

    def __init__(self, gateway: Gateway) -> None:
        self._inner = httpx2.ASGITransport(app=gateway)
        self.cut = False
        self.loses_answers = 0
        self.requests = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.cut:
            raise httpx2.ConnectError("cut")
        self.requests += 1
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

    async def turn(self) -> None:
        """Everything that it can do now."""
        moved = 1
        while moved:
            moved = 0
            for one in (self.runner.collect, self.runner.send, self.runner.receive, self.runner.deliver):
                moved += await one()

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
    bridge: Bridge = field(init=False)
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
        self.book = BridgeBook.open(self.folder / "bridge.db")
        self.bridge._book = self.book


def _ledger(folder: Path, domain: Domain, log: Log, neighbours: Neighbours, clock: Clock) -> Sequencer:
    here = folder / "ledger"
    here.mkdir(exist_ok=True)
    store = SqliteLedgerStore.open(here / "ledger.db", random_id=lambda: f"store-{domain.name}")
    view = LedgerView.open(here / VIEW, origin=origin_of(domain.name), store_id=store.store_id)
    kept = KeptRegistries(folder / "registry.json", domain.pin, here / "registries")
    return Sequencer(log, store, view, kept, now_ms=lambda: int(clock() * 1000), in_thread=False, abroad=neighbours)


@contextlib.asynccontextmanager
async def _country(folder: Path, domain: Domain, clock: Clock) -> AsyncIterator[Country]:
    world = World(folder, domain, clock, settings={"neighbours": "neighbours", "ledger": "ledger"})
    async with world.opened() as gateway:
        log = SqliteLog.open(
            str(folder / "log.db"), clock_ms=lambda: int(clock() * 1000), random_id=lambda: "", threads=False
        )
        registry_file = RegistryFile(folder / "registry.json", domain.pin, clock)
        neighbours = Neighbours(folder / "neighbours", lambda: registry_file.trusted, clock)
        sequencer = _ledger(folder, domain, log, neighbours, clock)
        await sequencer.start()
        checkpoints = Checkpoints(folder / "ledger", tuple(log_signers(domain.name)), clock)
        yield Country(domain, world, gateway, log, sequencer, checkpoints, neighbours, registry_file, folder)
        sequencer.view.close()
        await log.close()


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
    home.book = BridgeBook.open(home.folder / "bridge.db")
    ledger = home.folder / "ledger"

    def version(sha256: bytes) -> TrustedRegistry | None:
        file = ledger / "registries" / f"{sha256.hex()}.json"
        return trusted(file.read_bytes(), home.domain.pin) if file.exists() else None

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
    )
    return remote


@dataclass
class Both:
    countries: Countries
    clock: Clock
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
async def opened(folder: Path, now: int = NOW) -> AsyncIterator[Both]:
    countries, clock = Countries(now), Clock(float(now))
    here = {name: folder / name for name in ("bi", "tn")}
    for one, other in ((countries.bi, countries.tn), (countries.tn, countries.bi)):
        here[one.name].mkdir(parents=True, exist_ok=True)
        neighbour(here[one.name] / "neighbours", other, countries.published(other), one.name)
    async with _country(here["bi"], countries.bi, clock) as bi, _country(here["tn"], countries.tn, clock) as tn:
        remotes = [_bridge(bi, tn), _bridge(tn, bi)]
        for country in (bi, tn):
            await country.ledger_turn()
        yield Both(countries, clock, bi, tn)
        for remote in remotes:
            await remote.close()
        bi.book.close()
        tn.book.close()


def run(folder: Path, story: Callable[[Both], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with opened(folder) as both:
            await story(both)

    asyncio.run(whole())


def idents(read: Sequence[dict[str, Any]]) -> list[str]:
    return [one["ident"] for one in read]
