# SPDX-License-Identifier: Apache-2.0
"""Agencies at work, for tests: a Runner each over one embedded log in a folder, with an agency's system in memory.

Real parts throughout: mailboxes and log are SQLite files, records are signed and sealed. Only the agency's own system
is a list. Time stands still until a test moves it.

    with Agencies(tmp_path) as town:
        town["bi/iom"].draft("bi/k7t4", "referral.requested", referral())
        town.settle()
        [arrived] = town["bi/k7t4"].system.arrived
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import ClassVar, TypeVar, cast

from adapters.connectors.contract import Arrived, Batch, Connector, Draft, Erased, Escalation, LastContact, Outcome
from adapters.consents import Consents
from adapters.desk import Desk
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Incoming, Outgoing
from adapters.runner import Runner
from schemas import events
from schemas.attachments import File
from schemas.envelope import Acts, Kind, new_evt, new_thread
from schemas.errors import LogError, UmuhuzaError
from schemas.event_types import EVENTS
from schemas.forms import Answer, Consent, Facts, Lawful, Name, Priority, Referral, Service
from schemas.forms import Birth as BirthForm
from schemas.plain.rights import ByHand
from schemas.registry import Registry
from tests.domain import NOW, Domain, Signed
from topics.catalogue import topics_of
from topics.log import Appended, Ends, Entry, Stored
from topics.sqlite_log import SqliteLog

PLANTED = "Ndayishimiye-Inventée"
"""A name that must stand in no file, error or log."""
_T = TypeVar("_T")


def at(seconds: float = 0) -> datetime:
    return datetime.fromtimestamp(NOW + seconds, UTC)


def referral(
    *,
    name: str = f"Aline {PLANTED}",
    priority: Priority = "urgent",
    services: tuple[str, ...] = ("SocialCare",),
    lawful: Lawful | None = None,
    birth: BirthForm | None = None,
    htcds: dict[str, str | tuple[str, ...]] | None = None,
) -> Facts:
    """An adult's referral with her consent, good as it is."""
    return Facts(
        occurred_at=at(-3600),
        htcds=htcds or {},
        lawful=lawful or consented(),
        referral=Referral(
            priority=priority,
            name=Name(as_given=name),
            birth=birth or BirthForm(precision="year", date="1999"),
            services=services,
        ),
    )


def consented(days: int = 90) -> Lawful:
    return Lawful(basis="consent", consent=Consent(given_at=at(-7200), expires_at=at(-3600 + 86_400 * days)))


def identified() -> Facts:
    return Facts(
        occurred_at=at(-3600),
        htcds={"prs_FirstName": PLANTED, "prs_Gender": "Feminine"},
        lawful=consented(),
        birth=BirthForm(precision="year", date="1999"),
    )


def said(outcome: str | None = None, service: str | None = None, **answer: str) -> Facts:
    """The facts of an answer or a step of the service."""
    if service is not None:
        return Facts(occurred_at=at(), service=Service(type=service, began_at=at()))
    if outcome is not None:
        answer["outcome"] = outcome
    return Facts(occurred_at=at(), answer=Answer.model_validate(answer) if answer else None)


class InMemory:
    """A connector whose system is three lists. Gives a batch again until it was told what became of it."""

    name: ClassVar[str] = "memory"

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.reports: list[tuple[str, tuple[Outcome, ...]]] = []
        self.arrived: list[Arrived] = []
        self.changes: list[tuple[str, str, str | None]] = []
        """(evt, state, code), as told."""
        self.escalations: list[Escalation] = []
        self.known: list[LastContact] = []
        """When everybody was last heard, as last told."""
        self.before_escalated: Callable[[Escalation], None] = lambda _escalation: None
        self.before_deliver: Callable[[Arrived], None] = lambda _arrived: None
        self.before_settle: Callable[[Batch], None] = lambda _batch: None
        self.before_erase: Callable[[str], None] = lambda _ident: None
        self.left_by_hand: tuple[ByHand, ...] = ()
        """What of the copies there a person must deal with."""
        self.before_changed: Callable[[str, str], None] = lambda _evt, _state: None

    async def collect(self) -> AsyncIterator[Batch]:
        for batch in list(self.batches):
            yield batch

    async def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        self.before_settle(batch)
        self.reports.append((batch.source, tuple(outcomes)))
        self.batches = [one for one in self.batches if one.source != batch.source]

    async def deliver(self, arrived: Arrived) -> None:
        self.before_deliver(arrived)
        self.arrived.append(arrived)

    async def erase(self, ident: str) -> Erased:
        self.before_erase(ident)
        there = any(one.ident == ident for one in self.arrived)
        self.arrived = [one for one in self.arrived if one.ident != ident]
        return Erased(deleted=there, by_hand=self.left_by_hand)

    async def changed(self, evt: str, line: str, source: str, state: str, code: str | None) -> None:
        self.before_changed(evt, state)
        self.changes.append((evt, state, code))

    async def escalated(self, escalation: Escalation) -> None:
        self.before_escalated(escalation)
        self.escalations.append(escalation)

    async def contacts(self, known: Sequence[LastContact]) -> None:
        self.known = list(known)

    @property
    def types(self) -> list[str]:
        return [one.type for one in self.arrived]


@dataclass
class Gate:
    """The log as it is seen through a gateway that refuses what a test says; all else is the real log's."""

    log: SqliteLog
    refuses: Callable[[Entry], UmuhuzaError | None] = lambda _entry: None
    breaks: UmuhuzaError | None = None
    """Raised instead of an answer: the whole request failed."""

    @property
    def log_id(self) -> str:
        return self.log.log_id

    async def append(self, entries: Sequence[Entry]) -> list[Appended | LogError]:
        if self.breaks is not None:
            raise self.breaks
        answers: list[Appended | LogError] = []
        for entry in entries:
            refused = self.refuses(entry)
            # A gateway's refusals are of every class of the tree; `Log.append` names the narrow one.
            answers += [cast(LogError, refused)] if refused is not None else await self.log.append([entry])
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

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        await self.log.put_grants(topic, grants)

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self.log.get_grants(topic, keys)

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        await self.log.delete_grants(topic, keys)

    async def close(self) -> None:
        await self.log.close()


@dataclass
class Agency:
    town: Agencies
    id: str
    runner: Runner
    system: InMemory
    _drafts: int = 0

    @property
    def box(self) -> Mailbox:
        return self.runner.desk.mailbox

    def compose(
        self,
        to: str,
        type: str,
        facts: Facts,
        *,
        person: str | None = None,
        thread: str | None = None,
        files: Sequence[File] = (),
    ) -> Draft:
        self._drafts += 1
        return Draft(str(self._drafts), to, type, person, thread, facts, files=tuple(files))

    def draft(
        self,
        to: str,
        type: str,
        facts: Facts,
        *,
        person: str | None = None,
        thread: str | None = None,
        files: Sequence[File] = (),
    ) -> Outcome:
        """One event into the outbox, as a batch of its own."""
        [outcome] = self.take(self.compose(to, type, facts, person=person, thread=thread, files=files))
        return outcome

    def take(self, *drafts: Draft, source: str | None = None) -> list[Outcome]:
        batch = Batch(source or f"batch-{drafts[0].line}", "essai.xlsx", drafts)
        return self.runner.outbox.accept(batch, self.system.name)

    def evt(self, outcome: Outcome) -> str:
        assert outcome.problem is None, outcome.problem.code
        assert outcome.evt is not None
        return outcome.evt

    def outgoing(self, evt: str | None) -> Outgoing:
        assert evt is not None
        item = self.box.outgoing(evt)
        assert item is not None
        return item

    def sent(self, type: str) -> list[Outgoing]:
        return [item for item in self.box.outbox() if item.type == type]

    def inbox(self, state: str | None = None) -> list[Incoming]:
        return [item for item in self.box.arrivals.all() if state is None or item.state == state]

    def opened(self, type: str) -> list[events.Opened]:
        """What arrived of that type, opened again."""
        return [self.runner.inbox.opened(item) for item in self.inbox() if item.type == type]

    @property
    def consents(self) -> Consents:
        return Consents(self.runner.desk, self.runner.outbox)

    def thread_with(self, peer: str) -> str:
        """Its one thread with that agency."""
        [thread] = [one.id for one in self.box.threads() if one.peer == peer]
        return thread

    def state_of(self, thread: str) -> str:
        found = self.box.thread(thread)
        assert found is not None, "no such thread"
        return found.state

    def state_with(self, peer: str) -> str:
        return self.state_of(self.thread_with(peer))

    def send(self) -> int:
        return self.town.run(self.runner.send())

    def receive(self) -> int:
        return self.town.run(self.runner.receive(0))

    def deliver(self) -> int:
        return self.town.run(self.runner.deliver())

    def collect(self) -> int:
        return self.town.run(self.runner.collect())

    def watch(self) -> int:
        """Looks at the clock; never part of `settle`."""
        return self.town.run(self.runner.watch())


@dataclass
class Agencies(AbstractContextManager["Agencies"]):
    """Every member of `tests.domain.Domain`, at work. Leave with `close` or as a context manager."""

    folder: Path
    seed: str = "agencies"
    domain: Domain = field(init=False)
    log: SqliteLog = field(init=False)
    now: float = float(NOW)

    def __post_init__(self) -> None:
        self.domain = Domain(self.seed)
        self._loop = asyncio.Runner()
        self.log = SqliteLog.open(
            str(self.folder / "log.db"),
            topics=topics_of(self.domain.registry),
            clock_ms=lambda: int(self.now * 1000),
            threads=False,
            random_id=lambda: "log-1",
        )
        self._members: dict[str, Agency] = {}
        for name in self.domain.members:
            self.open(name)

    def __getitem__(self, agency: str) -> Agency:
        return self._members[agency]

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for member in self._members.values():
            member.box.close()
        self.run(self.log.close())
        self._loop.close()

    def run(self, what: Awaitable[_T]) -> _T:
        async def whole() -> _T:
            return await what

        return self._loop.run(whole())

    def registry(self) -> Registry:
        return self.domain.registry

    def path(self, agency: str) -> Path:
        return self.folder / f"{agency.replace('/', '-')}.db"

    def keys(self, agency: str) -> Keys:
        member = self.domain.members[agency]
        return Keys(agency, member.sig, {member.seal.kid: member.seal})

    def open(self, agency: str, connectors: Sequence[Connector] | None = None) -> Agency:
        """Start (again) an agency's adapter on its mailbox file."""
        before = self._members.get(agency)
        if before is not None:
            before.box.close()
        system = InMemory() if before is None else before.system
        desk = Desk(
            Mailbox.open(self.path(agency)), self.keys(agency), self.registry, lambda: self.now, self.domain.random
        )
        runner = Runner(desk, self.log, [system] if connectors is None else connectors)
        self._members[agency] = Agency(self, agency, runner, system, before._drafts if before else 0)
        return self._members[agency]

    def settle(self, agencies: Iterable[str] | None = None) -> None:
        """Everybody's turns, until nothing moves any more."""
        members = [self._members[name] for name in agencies or self._members]
        for _ in range(200):
            moved = 0
            for member in members:
                moved += member.collect() + member.send() + member.receive() + member.deliver()
            if not moved:
                return
        raise AssertionError("never comes to rest")

    # -- records made by hand, as only a hostile agency or a malicious gateway would --------------------------------

    def seal(
        self,
        iss: str,
        to: str,
        type: str,
        facts: Facts,
        *,
        flow: str | None = None,
        kind: Kind | None = None,
        thread: str | None = None,
        evt: str | None = None,
        ref: str | None = None,
        spoil: Callable[[bytes, bytes], tuple[bytes, bytes]] = lambda content, identity: (content, identity),
        iat: int | None = None,
        seq: int | None = None,
        prev: str | None = None,
        chain: bool = True,
        acts: Acts | None = None,
        files: Mapping[str, bytes] = MappingProxyType({}),
        answer_by: int | None = None,
    ) -> Signed:
        """A record of any type under any flow and kind, past every check of the sending adapter.

        `spoil` changes (content, identity) between composing and sealing; `files`: further parts.
        """
        known = EVENTS[type]
        evt = evt or new_evt(int(self.now * 1000), self.domain.random)
        thread = thread or new_thread(self.domain.random)
        parts = events.compose(
            type,
            facts,
            iss=iss,
            to=to,
            evt=evt,
            thread=thread,
            ref=ref,
            pseudonym="pseudonym-1",
            recorded_at=at(),
            allowed=None,
            salt=self.domain.random(32),
        )
        content, identity = spoil(parts.content, parts.identity)
        return self.domain.record(
            iss,
            to,
            flow or known.flow,
            kind or known.kind,
            content=content,
            identity=identity,
            parts=files,
            evt=evt,
            thread=thread,
            ref=ref,
            iat=iat,
            seq=seq,
            prev=prev,
            chain=chain,
            acts=acts,
            answer_by=answer_by,
        )

    def put(self, record: Signed, *, entry: Entry | None = None, grants: dict[str, bytes] | None = None) -> None:
        """Into the log, grants first, as a gateway would."""
        domain, _, name = record.manifest.to.partition("/")

        async def both() -> None:
            wanted = record.grant_puts() if grants is None else grants
            if wanted:
                await self.log.put_grants(f"{domain}.grants.{name}", wanted)
            [answer] = await self.log.append([entry or record.entry])
            if isinstance(answer, Exception):
                raise answer

        self.run(both())

    def wait(self, seconds: float) -> None:
        self.now += seconds


def bytes_of(folder: Path, pattern: str = "*") -> bytes:
    """Everything that stands in the files there, databases' WAL included."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob(pattern)) if path.is_file())
