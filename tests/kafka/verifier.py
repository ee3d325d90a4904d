# SPDX-License-Identifier: Apache-2.0
"""Agencies at work over a gateway on real brokers while something fails, and whoever counts afterwards.

    async with Load.on(cluster, folder) as load:      # topics made, gateway open, issuers and readers at work
        await load.flowing()
        ...                                           # the fault
        counts = await load.verified()                # everybody comes to rest; every claim is checked and counted

Real parts throughout: issuers and readers are adapters (`Runner` with mailbox files, signed and sealed records), the
gateway is whole, only without a socket before it. An issuer sends the same bytes again until they are acknowledged; a
reader answers each record with a signed receipt. The verifier trusts none of them: it reads every mailbox from the
brokers itself.

The agencies' clocks run `HASTE` times as fast, so that an outbox's back-off of 5 s to 15 min does not make a test wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from adapters.connectors.contract import Batch, Draft
from adapters.desk import Desk
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.runner import Runner
from gateway.app import Gateway
from schemas.envelope import chain_hash, parse_manifest, parse_record
from schemas.errors import UmuhuzaError
from tests.agencies import InMemory, referral
from tests.domain import NOW, Domain, seeded
from tests.gateway.gateway_world import World
from tests.topics.kafka_harness import open_kafka, random_id, wipe
from tests.topics.log_contract import everything
from topics import kafka_admin
from topics.http_log import HttpLog
from topics.kafka_log import KafkaLog
from topics.log import Appended, Ends, Entry, Stored, ends_of
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster

HASTE = 20.0
ISSUERS = ("bi/n0", "bi/n1", "bi/n2")
READERS = ("bi/k7t4", "bi/r5w2")
WINDOW = 2
"""Records that an issuer has under way to one reader: while nothing is taken the backlog stays small."""
REST_S = 90.0
"""In which everybody must come to rest after a fault."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the verifier found. Times in seconds."""

    acknowledged: int
    """Records for which somebody was given a place, receipts included."""
    seen: int
    """Different records on the brokers."""
    duplicates: int
    """Further copies on the brokers, which readers passed by."""
    effects: int
    """Arrivals in the readers' own systems, each of another record."""
    retries: int
    """Answers that were no: sent again, the same bytes."""
    codes: Mapping[str, int]
    """The codes of these answers."""
    longest_answer_s: float
    """The longest that one publish waited for its answer, whatever it was."""
    longest_pause_s: float
    """The longest time in which nothing was acknowledged."""

    def __str__(self) -> str:
        codes = ", ".join(f"{code} {number}" for code, number in sorted(self.codes.items()))
        return (
            f"acknowledged {self.acknowledged}, seen {self.seen}, duplicates {self.duplicates}, effects {self.effects},"
            f" retries {self.retries} ({codes or 'none'}), longest answer {self.longest_answer_s:.1f} s,"
            f" longest pause {self.longest_pause_s:.1f} s"
        )


@dataclass
class Ledger:
    """What publishers were told, by themselves."""

    placed: dict[str, tuple[str, int, bytes]] = field(default_factory=dict)
    """ident -> (topic, offset, digest of the bytes) of the newest acknowledgement."""
    at: list[float] = field(default_factory=list)
    """When something was acknowledged, monotonic seconds."""
    asked: list[float] = field(default_factory=list)
    """When each of these was asked for."""
    codes: Counter[str] = field(default_factory=Counter)
    latest: dict[str, str] = field(default_factory=dict)
    """Topic -> code of the newest answer there, "" for an acknowledgement."""
    final: list[str] = field(default_factory=list)
    """Codes of refusals after which nobody tries again; there must be none."""
    longest_answer_s: float = 0.0

    def answered(self, entry: Entry, answer: Appended | UmuhuzaError, asked: float) -> None:
        if isinstance(answer, Appended):
            digest = hashlib.sha256(entry.value).digest()
            known = self.placed.get(entry.ident)
            assert known is None or known[2] == digest, "other bytes under a name that was acknowledged"
            self.placed[entry.ident] = (entry.topic, answer.offset, digest)
            self.at.append(time.monotonic())
            self.asked.append(asked)
            self.latest[entry.topic] = ""
            return
        self.codes[answer.code] += 1
        self.latest[entry.topic] = answer.code
        if not answer.retriable:
            self.final.append(answer.code)


@dataclass
class Watched:
    """An agency's way to the gateway; notes what it is told."""

    log: HttpLog
    ledger: Ledger

    @property
    def log_id(self) -> str:
        return self.log.log_id

    async def append(self, entries: Sequence[Entry]) -> Sequence[Appended | UmuhuzaError]:
        began = time.monotonic()
        try:
            answers = await self.log.append(entries)
        except UmuhuzaError as exc:
            for entry in entries:
                self.ledger.answered(entry, exc, began)
            raise
        finally:
            self.ledger.longest_answer_s = max(self.ledger.longest_answer_s, time.monotonic() - began)
        for entry, answer in zip(entries, answers, strict=True):
            self.ledger.answered(entry, answer, began)
        return answers

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self.log.read(topic, after, limit, max_bytes, wait_s)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self.log.poll(after, limit, max_bytes, wait_s)

    async def ends(self, topic: str) -> Ends:
        return await self.log.ends(topic)

    async def ends_of(self, topics: Sequence[str]) -> dict[str, Ends]:
        return await ends_of(self.log, topics)

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        await self.log.put_grants(topic, grants)

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self.log.get_grants(topic, keys)

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        await self.log.delete_grants(topic, keys)

    async def close(self) -> None:
        await self.log.close()


@dataclass
class Member:
    """One agency's adapter."""

    id: str
    runner: Runner
    log: Watched
    system: InMemory
    box: Mailbox
    drafts: int = 0

    def draft(self, to: str) -> None:
        self.drafts += 1
        one = Draft(str(self.drafts), to, "referral.requested", None, None, referral())
        [outcome] = self.runner.outbox.accept(Batch(f"batch-{self.drafts}", "essai.xlsx", (one,)), self.system.name)
        assert outcome.problem is None, outcome.problem.code

    def open_to(self, to: str) -> int:
        return sum(item.peer == to for item in self.box.outbox(open_only=True))


class _Gone(httpx2.AsyncBaseTransport):
    """The way to whichever gateway is open now; none is a connection refused."""

    def __init__(self, load: Load) -> None:
        self._load = load

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._load.gateway is None:
            raise httpx2.ConnectError("nobody listens")
        return await httpx2.ASGITransport(app=self._load.gateway).handle_async_request(request)


class Load:
    """See the module's docstring."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.domain = Domain("faults", extra_issuers=len(ISSUERS))
        self.ledger = Ledger()
        self.gateway: Gateway | None = None
        kafka = _handed(cluster, folder / "kafka")
        settings: dict[str, str | None] = {"log": None, "kafka": str(kafka)}
        self.world = World(folder / "gateway", self.domain, settings=dict(settings))
        self._open_gateway = contextlib.AsyncExitStack()
        self._folder = folder
        self._enough = asyncio.Event()
        self._began = time.monotonic()
        self.members: dict[str, Member] = {}
        self._turns: list[asyncio.Task[None]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, cluster: Cluster, folder: Path) -> AsyncIterator[Load]:
        """A domain's topics made anew on the cluster, and everybody at work until `verified`."""
        load = cls(cluster, folder)
        await asyncio.to_thread(wipe, cluster.access(ADMIN))
        await load.apply()
        await load.open_gateway()
        try:
            await load.start_agencies()
            yield load
        finally:
            await load.stop_agencies()
            await load.close_gateway()

    # -- what a test does besides breaking things ---------------------------------------------------------------------

    async def apply(self) -> None:
        await kafka_admin.apply(
            self.cluster.access(ADMIN), self.domain.registry, nodes=len(self.cluster.nodes), random_id=random_id
        )

    async def renew_identity(self) -> None:
        await KafkaLog.renew_identity(self.cluster.access(ADMIN), domain="bi", random_id=random_id)

    async def open_gateway(self) -> None:
        self.gateway = await self._open_gateway.enter_async_context(self.world.opened(follow_seconds=0.5))

    async def close_gateway(self) -> None:
        self.gateway = None
        await self._open_gateway.aclose()

    async def start_agencies(self) -> None:
        """Every adapter upon its mailbox file: first it compares with the gateway what it sent, then it works."""
        for name in (*ISSUERS, *READERS):
            before = self.members.get(name)
            self.members[name] = member = self._member(name)
            if before is not None:
                member.system, member.drafts = before.system, before.drafts
                member.runner.connectors = [before.system]
            await member.runner.reconcile(member.log.log)
        self._turns = [asyncio.create_task(self._issue(self.members[name])) for name in ISSUERS]
        for member in self.members.values():
            self._turns += [
                asyncio.create_task(self._again_and_again(turn))
                for turn in (member.runner.send, self._reading(member), member.runner.deliver)
            ]

    async def stop_agencies(self) -> None:
        """Raises what one of them fell over."""
        turns, self._turns = self._turns, []
        for turn in turns:
            turn.cancel()
        ended = await asyncio.gather(*turns, return_exceptions=True)
        for member in self.members.values():
            await member.log.close()
            member.box.close()
        for one in ended:
            if isinstance(one, Exception):
                raise one

    async def flowing(self, more: int = 20, within_s: float = 60.0) -> float:
        """Until `more` further records are acknowledged; returns how long the first took, seconds."""
        began, before = time.monotonic(), len(self.ledger.at)
        await self.until(lambda: len(self.ledger.at) >= before + more, within_s)
        return self.ledger.at[before] - began

    async def until(self, true: Callable[[], bool], within_s: float) -> float:
        """Returns how long it took. Raises TimeoutError."""
        began = time.monotonic()
        async with asyncio.timeout(within_s):
            while not true():
                await asyncio.sleep(0.05)
        return time.monotonic() - began

    def count(self, topic: str) -> int:
        """Acknowledged records of a mailbox."""
        return sum(place == topic for place, _, _ in self.ledger.placed.values())

    # -- at work ------------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return NOW + (time.monotonic() - self._began) * HASTE

    def _member(self, name: str) -> Member:
        member = self.domain.members[name]
        http = HttpLog(
            "http://gateway",
            name,
            member.sig,
            domain="bi",
            now=self.world.clock,
            random=seeded(f"{name}/jti"),
            transport=_Gone(self),
            gateway_key=self.world.gateway_key,
        )
        log = Watched(http, self.ledger)
        box = Mailbox.open(self._folder / f"{name.replace('/', '-')}.db")
        keys = Keys(name, member.sig, {member.seal.kid: member.seal})
        desk = Desk(box, keys, lambda: self.domain.registry, self._now, self.domain.random)
        system = InMemory()
        return Member(name, Runner(desk, log, [system]), log, system, box)

    async def _issue(self, member: Member) -> None:
        while not self._enough.is_set():
            for reader in READERS:
                if member.open_to(reader) < WINDOW:
                    member.draft(reader)
            await asyncio.sleep(0.3)

    def _reading(self, member: Member) -> Callable[[], Awaitable[int]]:
        return lambda: member.runner.receive(0.5)

    async def _again_and_again(self, turn: Callable[[], Awaitable[int]]) -> None:
        while True:
            moved = 0
            try:
                moved = await turn()
            except UmuhuzaError as exc:
                if not exc.retriable:
                    raise
            await asyncio.sleep(0.05 if moved else 0.25)

    # -- counting -----------------------------------------------------------------------------------------------------

    async def verified(self) -> Counts:
        """Nobody issues any more; when everything has arrived and every receipt is back, the brokers are asked.

        Raises AssertionError: one of the promises does not hold; TimeoutError: they do not come to rest.
        """
        self._enough.set()
        try:
            await self.until(self._at_rest, REST_S)
        except TimeoutError:
            states = {m.id: Counter((i.type, i.state, i.code) for i in m.box.outbox()) for m in self.members.values()}
            raise AssertionError(f"never at rest: {states}") from None
        pauses = [after - before for before, after in zip(self.ledger.at, self.ledger.at[1:], strict=False)]
        seen, duplicates = await self._on_the_brokers()
        counts = Counts(
            acknowledged=len(self.ledger.placed),
            seen=seen,
            duplicates=duplicates,
            effects=self._effects(),
            retries=self.ledger.codes.total(),
            codes=dict(self.ledger.codes),
            longest_answer_s=self.ledger.longest_answer_s,
            longest_pause_s=max(pauses),
        )
        assert not self.ledger.final, self.ledger.final
        # One whose acknowledgement was lost may be known to be there by its receipt alone.
        assert counts.seen == sum(len(member.box.outbox()) for member in self.members.values())
        return counts

    def _at_rest(self) -> bool:
        """Everything issued has been delivered by its reader, whose receipt came back; receipts are acknowledged."""
        settled = {"referral.requested": ("delivered",), "receipt.delivered": ("promised", "delivered")}
        return all(
            item.state in settled.get(item.type, ()) for member in self.members.values() for item in member.box.outbox()
        ) and all(item.state == "delivered" for member in self.members.values() for item in member.box.arrivals.all())

    async def _on_the_brokers(self) -> tuple[int, int]:
        """Different records and further copies. Every acknowledged record is where it was said to be, every chain is
        whole and in order, a copy is the same bytes, and nobody wrote what no agency issued."""
        log = await open_kafka(self.cluster.access("bi/operator"))
        issued = {f"{member.id}/{item.evt}": item for member in self.members.values() for item in member.box.outbox()}
        seen: dict[str, bytes] = {}
        copies = 0
        chains: dict[tuple[str, str], tuple[int, str]] = {}
        try:
            for topic in await log.topics():
                stored = await everything(log, topic)
                assert [one.offset for one in stored] == list(range(len(stored)))
                for one in stored:
                    digest = hashlib.sha256(one.value).digest()
                    if one.ident in seen:
                        assert seen[one.ident] == digest, "a second copy with other bytes"
                        copies += 1
                        continue
                    seen[one.ident] = digest
                    record = parse_record(one.value)
                    assert record.manifest.ident == one.ident
                    assert record.manifest.topic == topic
                    line1 = issued[one.ident].l1
                    assert line1 is not None
                    assert parse_manifest(line1)[1] == record.signed, "not the bytes that its issuer signed"
                    place = (record.manifest.iss, topic)
                    seq, head = chains.get(place, (0, ""))
                    assert (record.manifest.seq, record.manifest.prev) == (seq + 1, head), "out of its chain's order"
                    chains[place] = (record.manifest.seq, chain_hash(record.signed))
                for ident, (where, offset, digest) in self.ledger.placed.items():
                    if where == topic:
                        assert stored[offset].ident == ident, "acknowledged, and not there"
                        assert hashlib.sha256(stored[offset].value).digest() == digest
        finally:
            await log.close()
        assert self.ledger.placed.keys() <= seen.keys(), "acknowledged, and not there"
        return len(seen), copies

    def _effects(self) -> int:
        """Each issued record had exactly one effect at its reader, and arrived there in its issuer's order."""
        total = 0
        for name in READERS:
            reader = self.members[name]
            arrived = [one.ident for one in reader.system.arrived]
            assert len(arrived) == len(set(arrived)), "two effects of one record"
            for iss in ISSUERS:
                box = self.members[iss].box
                sent = sorted((item.seq or 0, item.evt) for item in box.outbox() if item.peer == name and item.seq)
                wanted = [f"{iss}/{evt}" for _, evt in sent]
                came = [one for one in reader.box.arrivals.all() if one.iss == iss]
                inbox = [one.ident for one in came if one.type == "referral.requested"]
                assert inbox == wanted, "not the issuer's order, or not once each"
                assert {ident for ident in arrived if ident.startswith(f"{iss}/")} == set(wanted)
                total += len(wanted)
            assert len(arrived) == sum(one.type == "referral.requested" for one in reader.box.arrivals.all())
        return total


def leader_of(cluster: Cluster) -> int:
    """The node that is the active controller, by what the running nodes wrote down themselves."""
    found: dict[int, int] = {}
    for node in cluster.nodes:
        file = cluster.node_folder(node) / "data" / "__cluster_metadata-0" / "quorum-state"
        state = json.loads(file.read_text(encoding="ascii"))
        found[int(state["leaderEpoch"])] = int(state["leaderId"])
    return found[max(found)]


def _handed(cluster: Cluster, folder: Path) -> Path:
    """The folder that an administrator hands to the gateway."""
    found = cluster.credentials("bi/operator")
    folder.mkdir(parents=True)
    (folder / "bootstrap").write_text(",".join(cluster.bootstrap) + "\n", encoding="ascii")
    for name, path in (("ca.pem", found.ca), ("certificate.pem", found.certificate), ("key.pem", found.key)):
        (folder / name).write_bytes(path.read_bytes())
    return folder
