# SPDX-License-Identifier: Apache-2.0
"""A domain at work, for scenarios: a gateway over the embedded log or over Apache Kafka, and an adapter per agency.

Real parts throughout: the gateway's application (its wire is in this process), `HttpLog`, mailboxes and log on disk,
records signed and sealed. Only the agencies' own systems are lists (`tests.agencies.InMemory`). Time goes on only when
a scenario says so (`wait`); on Kafka the brokers' clock is shifted by as much.

    with Town.made(tmp_path, "sqlite") as town:
        town["bi/iom"].draft("bi/k7t4", "referral.requested", town.referral("Aline Inventée"))
        town.settle()
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx2

from adapters.connectors.contract import Batch, Draft, Outcome
from adapters.corrections import Corrections
from adapters.desk import Desk
from adapters.directory import Directory, DirectoryDesk
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Incoming, Outgoing
from adapters.runner import Runner
from gateway.app import Gateway, json_line
from gateway.checking import AtOnce
from gateway.door import Door, open_door
from gateway.settings import load_settings, read_registry_root
from schemas.attachments import File
from schemas.events import Opened
from schemas.forms import Answer, Birth, Caregiver, Consent, Facts, Lawful, Name, Priority, Referral, Service
from schemas.registry import Agency as Registered
from schemas.registry import Registry, Role
from tests.agencies import InMemory
from tests.domain import Domain, Signed
from tests.e2e.planted import every_file, traces
from tests.kafka.conftest import _shared
from tests.topics.http_harness import write_gateway
from tests.topics.kafka_harness import random_id, wipe
from topics import kafka_admin
from topics.catalogue import topics_of
from topics.http_log import HttpLog
from topics.kafka_log import KafkaLog
from topics.log import Log, grant_key, grants_topic
from topics.registry_file import RegistryFile
from topics.sqlite_log import SqliteLog
from umuhuza.demo_clock import TimesOf, moved
from umuhuza.kafka.cluster import Cluster

_T = TypeVar("_T")

CAST: dict[str, tuple[str, tuple[Role, ...], bool]] = {
    "bi/ccsprtp": ("Commission (inventée)", ("coordination", "focal-point"), False),
    "bi/police": ("Police (inventée)", ("police", "front-line"), False),
    "bi/judiciary": ("Justice (inventée)", ("judiciary",), False),
    "bi/min-solidarity": ("Ministère de la solidarité (inventé)", ("assistance",), False),
    "bi/health": ("Clinique (inventée)", ("assistance", "clinic"), False),
    "bi/hotline": ("Ligne d'écoute (inventée)", ("hotline", "front-line", "assistance"), False),
    "bi/iom": ("OIM (inventée)", ("screener", "assistance", "facilitator"), False),
    "bi/unicef": ("UNICEF (inventé)", ("assistance",), False),
    "bi/k7t4": ("Maison (inventée)", ("assistance", "shelter"), True),
    "bi/r5w2": ("Foyer (inventé)", ("assistance", "shelter"), True),
    "bi/legal-aid": ("Aide juridique (inventée)", ("assistance", "legal-aid"), False),
    "bi/operator": ("Exploitant (inventé)", ("operator",), False),
}
"""Roles of real kinds of bodies in Burundi; the bodies here are invented."""
TUNISIA: dict[str, tuple[str, tuple[Role, ...], bool]] = {
    "tn/inlctp": ("Instance nationale (inventée)", ("coordination", "focal-point"), False),
    "tn/dpe": ("Déléguée à la protection de l'enfance (inventée)", ("assistance", "screener"), False),
    "tn/iom": ("OIM Tunisie (inventée)", ("screener", "assistance", "facilitator"), False),
    "tn/m2p9": ("Refuge (inventé)", ("assistance", "shelter"), True),
    "tn/operator": ("Exploitant (inventé)", ("operator",), False),
}


@dataclass
class Clock:
    """Real time, moved ahead by a scenario; the brokers' times are moved as ours."""

    standing: float | None = None
    """The time, when it stands still between moves (embedded log); else it also goes on by itself."""
    _moves: list[tuple[float, float]] = field(default_factory=lambda: [(0.0, 0.0)])
    """(real time from which on, seconds ahead)."""

    def __call__(self) -> float:
        return self.standing if self.standing is not None else time.time() + self._moves[-1][1]

    def wait(self, seconds: float) -> None:
        if self.standing is not None:
            self.standing += seconds
            return
        # What the brokers wrote in this millisecond is before the move.
        time.sleep(0.002)
        self._moves.append((time.time(), self._moves[-1][1] + seconds))

    def shown(self, at_ms: int) -> int:
        """A broker's time as this clock has it."""
        if self.standing is not None:
            return at_ms
        return moved(self._moves, at_ms)


@dataclass
class Agency:
    """One agency's adapter and its own system."""

    town: Town
    id: str
    runner: Runner
    system: InMemory
    log: HttpLog
    _drafts: int = 0

    @property
    def box(self) -> Mailbox:
        return self.runner.desk.mailbox

    def offer(
        self,
        to: str,
        type: str,
        facts: Facts,
        *,
        person: str | None = None,
        thread: str | None = None,
        ref: str | None = None,
        files: Sequence[File] = (),
    ) -> Outcome:
        """One event into the outbox, as its connector would; accepted or refused with its code."""
        self._drafts += 1
        draft = Draft(str(self._drafts), to, type, person, thread, facts, ref, tuple(files))
        batch = Batch(f"{self.id}-{self._drafts}", "scénario", (draft,))
        [outcome] = self.runner.outbox.accept(batch, self.system.name)
        return outcome

    def draft(self, to: str, type: str, facts: Facts, **more: Any) -> str:
        """As `offer`, and it must be accepted; its evt."""
        outcome = self.offer(to, type, facts, **more)
        assert outcome.problem is None, (outcome.problem.code, outcome.problem.path)
        assert outcome.evt is not None
        return outcome.evt

    def refused(self, to: str, type: str, facts: Facts, **more: Any) -> tuple[str, str | None]:
        """As `offer`, and it must be refused; code and path."""
        outcome = self.offer(to, type, facts, **more)
        assert outcome.problem is not None, "it was accepted"
        assert outcome.evt is None
        return outcome.problem.code, outcome.problem.path

    def outgoing(self, evt: str) -> Outgoing:
        item = self.box.outgoing(evt)
        assert item is not None
        return item

    def thread(self, evt: str) -> str:
        """The thread of something that was sent or has arrived."""
        sent = self.box.outgoing(evt)
        if sent is not None:
            return sent.thread
        [found] = [item.thread for item in self.box.arrivals.all() if item.evt == evt]
        return found

    def state(self, thread: str) -> str:
        found = self.box.thread(thread)
        assert found is not None, "no such thread"
        return found.state

    @property
    def directory(self) -> Directory:
        return Directory(self.runner.desk)

    @property
    def corrections(self) -> Corrections:
        return self.runner.inbox.corrections

    def inbox(self, type: str | None = None) -> list[Incoming]:
        return [item for item in self.box.arrivals.all() if type is None or item.type == type]

    def opened(self, type: str) -> list[Opened]:
        """What arrived of that type, opened again."""
        kept = [item for item in self.inbox(type) if item.state not in ("quarantined", "erased")]
        return [self.runner.inbox.opened(item) for item in kept]


@dataclass
class Town(AbstractContextManager["Town"]):
    """Make with `made`; leave as a context manager."""

    folder: Path
    kind: str
    clock: Clock
    domain: Domain
    said: io.BytesIO = field(default_factory=io.BytesIO)
    """What the gateway logged."""
    gateway: Gateway = field(init=False)
    log: Log = field(init=False)
    cluster: Cluster | None = None
    _members: dict[str, Agency] = field(default_factory=dict)
    _off: set[str] = field(default_factory=set)

    @classmethod
    def made(cls, folder: Path, kind: str, cast: Mapping[str, tuple[str, tuple[Role, ...], bool]] = CAST) -> Town:
        """`kind`: sqlite or kafka. A broker is shared by the run; the domain's topics are made anew."""
        now = int(time.time())
        domain = Domain("town", now=now, cast=cast, name=next(iter(cast)).partition("/")[0])
        town = cls(folder, kind, Clock(float(now) if kind == "sqlite" else None), domain)
        town._loop = asyncio.Runner()
        town.run(town._open())
        for name in domain.members:
            if name != domain.operator.id:
                town.start(name)
        return town

    _loop: asyncio.Runner = field(init=False)

    async def _open(self) -> None:
        if self.kind == "kafka":
            self.cluster = _shared()
            self.cluster.start()
            admin = self.cluster.access("admin")
            await asyncio.to_thread(wipe, admin, self.domain.name)
            await kafka_admin.apply(admin, self.domain.registry, nodes=1)
            access = self.cluster.access(self.domain.operator.id)
            self.log = TimesOf(await KafkaLog.open(access, domain=self.domain.name, random_id=random_id), self.clock)
        else:
            self.log = SqliteLog.open(
                str(self.folder / "log.db"),
                topics=topics_of(self.domain.registry),
                clock_ms=lambda: int(self.clock() * 1000),
                random_id=random_id,
                threads=False,
            )
        settings = load_settings(write_gateway(self.folder, self.domain), arguments={"checkers": 0}, environment={})
        registry = RegistryFile(settings.registry, read_registry_root(settings), self.clock)

        async def opener() -> Door:
            return await open_door(
                settings,
                log=self.log,
                registry_file=registry,
                key=self.domain.operator.sig,
                now=self.clock,
                random=self.domain.random,
                run=AtOnce(),
            )

        self.gateway = Gateway(settings, opener, json_line(self.said), time.perf_counter)
        await self.gateway.start()

    def __getitem__(self, agency: str) -> Agency:
        return self._members[agency]

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members.values():
            self.run(member.log.close())
            member.box.close()
        self.run(self.gateway.stop())
        self._loop.close()

    def run(self, what: Awaitable[_T]) -> _T:
        async def whole() -> _T:
            return await what

        return self._loop.run(whole())

    def registry(self) -> Registry:
        return self.domain.registry

    def changed(self, agency: Registered) -> None:
        """A new version of the registry, in force at once."""
        self.domain.registry = self.domain.registry.with_agency(agency, int(self.clock()))
        (self.folder / "registry.json").write_bytes(self.domain.registry_file)
        self.clock.wait(2.0)

    def path(self, agency: str) -> Path:
        return self.folder / "agencies" / agency.partition("/")[2] / "mailbox.db"

    def start(self, agency: str, *, clock_s: float = 0.0) -> Agency:
        """Start (again) an agency's adapter on its mailbox file, `clock_s` seconds off."""
        before = self._members.get(agency)
        if before is not None:
            before.box.close()
            self.run(before.log.close())
        self.path(agency).parent.mkdir(parents=True, exist_ok=True)
        member = self.domain.members[agency]

        def now() -> float:
            return self.clock() + clock_s

        log = HttpLog(
            "http://gateway",
            agency,
            member.sig,
            domain=self.domain.name,
            now=now,
            random=self.domain.random,
            transport=httpx2.ASGITransport(app=self.gateway),
            gateway_key=self.domain.operator.sig.public,
        )
        system = InMemory() if before is None else before.system
        keys = Keys(agency, member.sig, {member.seal.kid: member.seal})
        desk = Desk(
            Mailbox.open(self.path(agency)), keys, self.registry, lambda: now() + log.clock_offset_s, self.domain.random
        )
        self._members[agency] = Agency(
            self,
            agency,
            Runner(desk, log, [DirectoryDesk(desk), system]),
            system,
            log,
            before._drafts if before is not None else 0,
        )
        self._off.discard(agency)
        return self._members[agency]

    def power_cut(self, agency: str) -> None:
        """Its adapter takes no turn until it is started again."""
        self._off.add(agency)

    def wait(self, **span: float) -> None:
        """`wait(hours=4)`: as timedelta."""
        self.clock.wait(timedelta(**span).total_seconds())

    def today(self) -> datetime:
        return datetime.fromtimestamp(int(self.clock()), UTC)

    def settle(self, agencies: Iterable[str] | None = None) -> None:
        """Everybody's turns, until nothing moves any more."""
        names = [name for name in agencies or self._members if name not in self._off]
        for _ in range(200):
            moved = 0
            for name in names:
                runner = self._members[name].runner
                for turn in (runner.collect, runner.send, runner.receive, runner.deliver, runner.watch):
                    moved += self.run(turn())
            if not moved:
                return
        raise AssertionError("never comes to rest")

    def put(self, record: Signed) -> None:
        """A record made by hand into the log, through the gateway, as its issuer's own program would."""
        log = self._members[record.manifest.iss].log

        async def both() -> None:
            await log.put_grants(grants_topic(record.manifest.to), record.grant_puts())
            [answer] = await log.append([record.entry])
            if isinstance(answer, Exception):
                raise answer

        self.run(both())

    # -- what agencies say, good as it is ---------------------------------------------------------------------------

    def consented(self, days: int = 90, **more: Any) -> Lawful:
        return Lawful(
            basis="consent",
            consent=Consent(
                given_at=self.today() - timedelta(hours=2), expires_at=self.today() + timedelta(days=days), **more
            ),
        )

    def vital(self) -> Lawful:
        return Lawful(basis="vital-interests", author="Agente inventée", reason="En danger cette nuit.")

    def identified(self, name: str, lawful: Lawful | None = None, **more: Any) -> Facts:
        return Facts(
            occurred_at=self.today() - timedelta(hours=1),
            htcds={"prs_FirstName": name, "prs_Gender": "Feminine"},
            lawful=lawful or self.consented(),
            birth=more.pop("birth", Birth(precision="year", date="1999")),
            **more,
        )

    def referral(
        self,
        name: str,
        *,
        services: tuple[str, ...] = ("SocialCare",),
        priority: Priority = "urgent",
        birth: Birth | None = None,
        lawful: Lawful | None = None,
        caregiver: Caregiver | None = None,
        **more: Any,
    ) -> Facts:
        """An adult's referral with her consent."""
        return Facts(
            occurred_at=self.today() - timedelta(minutes=10),
            lawful=lawful or self.consented(),
            referral=Referral(
                priority=priority,
                name=Name(as_given=name),
                birth=birth or Birth(precision="year", date="1999"),
                services=services,
                caregiver=caregiver,
                **more,
            ),
        )

    def plainly(self, **answer: Any) -> Facts:
        """An answer or a step without more than its date, or with these members of `Answer`."""
        return Facts(occurred_at=self.today(), answer=Answer(**answer) if answer else None)

    def served(self, type: str) -> Facts:
        return Facts(occurred_at=self.today(), service=Service(type=type, began_at=self.today()))

    def grants_of(self, agency: str, evt: str, iss: str) -> list[bytes]:
        """What stands in the log's grants for one record and one reader."""
        kids = [key.kid for key in self.domain.registry.agency(agency).keys if key.use == "seal"]
        wanted = [grant_key(f"{iss}/{evt}", kid) for kid in kids]
        return list(self.run(self.log.get_grants(grants_topic(agency), wanted)).values())

    # -- afterwards -------------------------------------------------------------------------------------------------

    def found(self, *words: str, but: Sequence[str] = ()) -> list[str]:
        """Where planted words stand in clear: in every file (log, index, mailboxes but those of `but`), in what the
        gateway said and counts, and on the brokers' disks."""
        (self.folder / "gateway.said").write_bytes(self.said.getvalue())
        (self.folder / "gateway.metrics").write_bytes(self.gateway.door.metrics.text())
        files = every_file(self.folder, but=[self.path(agency).parent for agency in but])
        if self.cluster is not None:
            files += [path for path in every_file(self.cluster.folder) if path.suffix == ".log"]
        return traces(words, files)
