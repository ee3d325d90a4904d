# SPDX-License-Identifier: Apache-2.0
"""Taking records in, without HTTP: examine, judge, make durable, promise. A simulator drives it as a server does.

Per line, in order:

1. `examine` (pure, any thread): shape, issuer, key, signature, digests, training, right, clock, grants.
2. `_judge` (one thread, no await within a line): replay, chain, targets; reserves what it accepts in memory, so that
   requests of one issuer may overtake each other's disk writes but never each other's place in a chain.
3. the committer: grants first, then the record, then the index, then erasures, then the answers.
4. one promise per request; requests that became durable together share its signature.

A manifest without its record (its issuer writes the record to Kafka itself) is judged like a record, reserves nothing
and advances nothing; its grants are made durable, and nothing is promised. When its record is in the log already, the
answer is a copy's, as for any repeat; grants are then not written again, since they may have been erased.

If we crash here:
- after grants, before the record: an orphan grant; the sender sends again and the same key is written again.
- after the record, before the answer: the sender sends again and gets the first offset, `copy`.
- after a record with `acts.erase`, before its deletions: `follow` reads the record again and deletes then.
- a failed append leaves a hole in the issuer's numbers: a finding, closed when the sender sends again.

Only records in the log advance a chain. One bad line never refuses another. Time is an argument; this
module never draws randomness, and never puts a value into an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from gateway.examine import Checked, Examined, InLog, Refused, Rules, Task, checked, examine
from gateway.index import Index, Link
from gateway.quota import Quotas
from schemas.envelope import Manifest, cloudevents_headers
from schemas.errors import LogError, OrderError, PolicyError, UmuhuzaError
from schemas.keys import SigningKey
from schemas.registry import Registry
from topics.catalogue import Act, mailboxes_of, may
from topics.log import Appended, Entry, GrantsAtOnce, Log, Stored, grant_key, grants_topic
from topics.promise import MAX_LINES, Line, Promised, make_promise

COMMIT_RECORDS = 1000
COMMIT_BYTES = 16 << 20
Finding = Literal["seq_gap", "late"]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Runner(Protocol):
    """Where pure work runs: threads in a server, at once in a simulator."""

    async def map(self, work: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]: ...


class AtOnce:
    """Runs work where it stands."""

    async def map(self, work: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
        return [work(item) for item in items]


class Checker(Protocol):
    """Who says of records what can be said of each by itself: other processes, or this one."""

    async def examine(self, tasks: Sequence[Task]) -> list[Examined | Refused]:
        """`gateway.examine.examine` of each, in order."""

    async def check(self, rules: Rules, stored: Sequence[InLog]) -> list[Checked]:
        """`gateway.examine.checked` of each, in order. Raises LogError `unavailable`: ask again."""

    async def close(self) -> None:
        """Idempotent."""


class Here:
    """The `Checker` of this process."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    async def examine(self, tasks: Sequence[Task]) -> list[Examined | Refused]:
        return await self._run.map(examine, tasks)

    async def check(self, rules: Rules, stored: Sequence[InLog]) -> list[Checked]:
        return await self._run.map(checked, [(rules.registry, one) for one in stored])

    async def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Accepted:
    """One answer."""

    evt: str
    topic: str
    offset: int
    at_ms: int
    hash: str
    flow: str
    kind: str
    copy: bool = False
    finding: Finding | None = None
    clock_suspect: bool = False


@dataclass(frozen=True, slots=True)
class Granted:
    """The answer to a manifest: its grants are durable, so its record may follow by other ways."""

    evt: str
    topic: str
    hash: str
    flow: str
    kind: str
    finding: Finding | None = None
    clock_suspect: bool = False


Outcome = Accepted | Granted | Refused


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a request: one outcome per line, in order; the promise covers the accepted ones in their order."""

    outcomes: tuple[Outcome, ...]
    promised: Promised | None


Placed = tuple[int, int, bool] | UmuhuzaError
"""offset, at_ms, copy."""
_NO_PLACE = (-1, 0, False)
"""Of a manifest: its record will take one."""


@dataclass(slots=True, eq=False)
class _Request:
    """Who waits for lines that are on their way to the log; gone when the client's task was cancelled."""

    done: asyncio.Future[None]
    left: int = 0
    manifests: dict[str, _Pending] = field(default_factory=dict)
    """Ident -> manifest without record, of this request: no other request knows of it."""
    chains: dict[tuple[str, str], _PendingChain] = field(default_factory=dict)
    """What these would make of their chains."""

    def one_less(self) -> None:
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class _Pending:
    examined: Examined
    finding: Finding | None
    requests: list[_Request] = field(default_factory=list)
    placed: Placed | None = None


@dataclass(frozen=True, slots=True)
class _Same:
    """A line that repeats one that is still on its way: its outcome, as a copy."""

    first: _Pending


@dataclass(slots=True, eq=False)
class _Forming:
    """A promise that is about to be signed."""

    lines: list[Line] = field(default_factory=list)
    requests: list[asyncio.Future[Promised]] = field(default_factory=list)
    """Gone when the client's task was cancelled."""


@dataclass(slots=True)
class _PendingChain:
    """Numbers of one chain on their way to the log."""

    top: Link
    links: dict[int, Link] = field(default_factory=dict)

    def add(self, link: Link) -> None:
        self.links[link.seq] = link
        if link.seq > self.top.seq:
            self.top = link

    def remove(self, seq: int) -> None:
        self.links.pop(seq, None)
        if seq == self.top.seq and self.links:
            self.top = self.links[max(self.links)]


class Intake:
    """One gateway's way in. Everything runs on one event loop; what can be said of a record by itself
    may be found out elsewhere (`checker`)."""

    def __init__(
        self,
        log: Log,
        index: Index,
        *,
        registry: Callable[[], Registry],
        key: SigningKey,
        agency: str,
        quotas: Quotas,
        now: Callable[[], float],
        checker: Checker | None = None,
        make_topics: Callable[[Sequence[str]], Awaitable[None]] | None = None,
    ) -> None:
        self._log = log
        self._index = index
        self._registry = registry
        self._key = key
        self._agency = agency
        self._quotas = quotas
        self._now = now
        self._checker: Checker = checker or Here(AtOnce())
        self._make_topics = make_topics
        self._made: frozenset[str] = frozenset()
        self._rules: Rules | None = None
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._events: dict[str, _Pending] = {}
        self._chains: dict[tuple[str, str], _PendingChain] = {}
        self._queue: list[_Pending] = []
        self._forming: _Forming | None = None
        self._log_takes_both = isinstance(log, GrantsAtOnce)
        self._verified_with: Rules | None = None
        self._committer: asyncio.Task[None] | None = None
        self._appending: asyncio.Task[None] | None = None
        self._following = asyncio.Lock()
        self.troubled: Mapping[str, str] = {}
        """Topic that could not be followed -> code: not made yet, or no longer the one that it was."""
        self.append_seconds: Callable[[float], None] = lambda _: None
        """Told how long each append took; the metrics listen."""

    @property
    def rules(self) -> Rules:
        registry = self._registry()
        if self._rules is None or self._rules.registry is not registry:
            self._rules = Rules(registry)
        return self._rules

    def use(self, checker: Checker) -> None:
        """Have records checked elsewhere from now on."""
        self._checker = checker

    def busy(self, agency: str) -> bool:
        """Whether a request of this agency waits for its turn to be judged."""
        return agency in self._turns

    # -----------------------------------------------------------------------------------------------------------------
    # Publish

    async def publish(self, agency: str, lines: Sequence[bytes]) -> Answer:
        """Take the lines of one request from an authenticated agency.

        Accepted means durable. Cancelled: every line may or may not be there, as with `Log.append`.
        """
        now = self._now()
        outcomes: list[Outcome | _Pending | _Same | None] = [None] * len(lines)
        tasks: list[Task] = []
        places: list[int] = []
        rules = self.rules
        for place, line in enumerate(lines):
            try:
                self._quotas.take(agency, len(line), now)
            except PolicyError as exc:
                outcomes[place] = Refused(exc)
                continue
            tasks.append(Task(line, agency, rules, int(now), self._quotas.limits.grants_per_record))
            places.append(place)
        # Requests of one issuer are judged in the order in which they came, however long each takes to examine.
        before = self._turns.get(agency)
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns[agency] = mine
        request = _Request(asyncio.get_running_loop().create_future())
        try:
            examined = await self._checker.examine(tasks)
            if before is not None and not before.done():
                await asyncio.shield(before)
            try:
                await self.make_topics()
                await self._learn(examined)
            except LogError as exc:
                examined = [Refused(LogError(exc.code))] * len(examined)
            with self._index.looked_up([one.manifest.ident for one in examined if isinstance(one, Examined)]):
                for place, one in zip(places, examined, strict=True):
                    outcomes[place] = self._again(one) if isinstance(one, Refused) else self._judge(one, request)
        finally:
            mine.set_result(None)
            if self._turns.get(agency) is mine:
                del self._turns[agency]
        if request.left:
            await request.done
        finished = [_told(outcome) for outcome in outcomes if outcome is not None]
        return Answer(tuple(finished), await self._promise(finished))

    async def make_topics(self) -> None:
        """Mailboxes follow from the registry: whoever joined since has them before the first record comes.

        Raises:
            LogError: unavailable, storage_full, log_closed.
        """
        topics = self.rules.topics
        if self._make_topics is not None and topics is not self._made:
            await self._make_topics(sorted(topic for topic in topics if ".grants." not in topic))
            self._made = topics

    async def _promise(self, outcomes: Sequence[Outcome]) -> Promised | None:
        """One signature for all requests whose records became durable together; each gets its own lines' paths."""
        lines = [Line(o.evt, o.hash, o.topic, o.offset) for o in outcomes if isinstance(o, Accepted)]
        if not lines:
            return None
        forming = self._forming
        if forming is None or len(forming.lines) + len(lines) > MAX_LINES:
            loop = asyncio.get_running_loop()
            forming = self._forming = _Forming()
            # The requests of one append are woken in one turn of the loop: by the next one all have joined.
            loop.call_soon(lambda: loop.call_soon(self._sign, forming))
        first = len(forming.lines)
        forming.lines += lines
        signed: asyncio.Future[Promised] = asyncio.get_running_loop().create_future()
        forming.requests.append(signed)
        promised = await signed
        return Promised(promised.jws, promised.paths[first : first + len(lines)], first)

    def _sign(self, forming: _Forming) -> None:
        if self._forming is forming:
            self._forming = None
        promised: Promised | None = None
        try:
            at, domain = int(self._now()), self._registry().domain
            promised = make_promise(forming.lines, self._key, iss=self._agency, at=at, domain=domain)
        finally:
            for request in forming.requests:
                if request.done():
                    continue
                if promised is None:  # a bug of ours: nobody may wait for ever
                    request.set_exception(LogError("unavailable"))
                else:
                    request.set_result(promised)

    async def _learn(self, examined: Sequence[Examined | Refused]) -> None:
        """Before a line is called a gap, broken or without target: has another gateway written meanwhile? Before a
        manifest is said to be new: has its record been written?"""
        topics: set[str] = set()
        heads: dict[str, int] = {}
        for one in examined:
            if isinstance(one, Refused):
                # Another gateway may have taken it before, and then that is the answer: see `_again`.
                if one.manifest is not None and self._index.event(one.manifest.ident) is None:
                    topics.add(one.manifest.topic)
                continue
            m = one.manifest
            expected = heads.get(m.topic)
            if expected is None:
                head = self._head(m.iss, m.topic)
                expected = head.seq if head is not None else 0
            if (
                (one.alone or m.seq != expected + 1)
                and m.ident not in self._events
                and self._index.event(m.ident) is None
            ):
                topics.add(m.topic)
            if m.acts is not None:  # what it acts on may be unknown here, or erased meanwhile
                topics |= self.rules.topics
            if one.must_answer and m.ref is not None and self._index.event(f"{m.to}/{m.ref}") is None:
                topics |= set(mailboxes_of(self.rules.registry.agency(m.iss)))
            heads[m.topic] = max(m.seq, expected)
        if topics := topics & self.rules.topics:
            await self.follow(sorted(topics))

    def _head(self, iss: str, topic: str, also: _PendingChain | None = None) -> Link | None:
        head = self._index.head(iss, topic)
        for pending in (self._chains.get((iss, topic)), also):
            if pending is not None and (head is None or pending.top.seq > head.seq):
                head = pending.top
        return head

    def _link(
        self, iss: str, topic: str, seq: int, head: Link | None, also: _PendingChain | None = None
    ) -> Link | None:
        if head is None or seq > head.seq:
            return None
        if seq == head.seq:
            return head
        for pending in (self._chains.get((iss, topic)), also):
            if pending is not None and seq in pending.links:
                return pending.links[seq]
        return self._index.link(iss, topic, seq)

    def _again(self, one: Refused) -> Accepted | Refused:
        """A repeat is answered as the first time, whatever registry, policy and clocks say meanwhile: a sender that
        missed the first answer would else void a number that is in the log, and its chain could never be mended."""
        m = one.manifest
        if m is None:
            return one
        known = self._index.event(m.ident)
        if known is not None and known.hash == one.hash:
            return Accepted(m.evt, known.topic, known.offset, known.at_ms, one.hash, m.flow, m.kind, copy=True)
        if m.ident in self._events:  # on its way to the log: whether it gets there is not known yet
            return Refused(LogError("unavailable"), m.flow, m.kind)
        return one

    def _judge(self, one: Examined, request: _Request) -> Accepted | Refused | _Pending | _Same:
        """Replay, chain, targets; accepted: reserved (a record) and queued for the committer."""
        m = one.manifest
        place = (m.iss, m.topic)
        try:
            known = self._index.event(m.ident)
            if known is not None:
                if known.hash != one.hash:
                    raise OrderError("evt_conflict", "L1.evt")
                return Accepted(m.evt, known.topic, known.offset, known.at_ms, one.hash, m.flow, m.kind, copy=True)
            under_way = self._events.get(m.ident) or (request.manifests.get(m.ident) if one.alone else None)
            if under_way is not None:
                if under_way.examined.hash != one.hash:
                    raise OrderError("evt_conflict", "L1.evt")
                under_way.requests.append(request)
                request.left += 1
                return _Same(under_way)
            finding = self._chain(m, one.hash, request.chains.get(place) if one.alone else None)
            self._targets(m)
            if one.must_answer:
                self._answers(m)
            if one.grants_problem is not None:
                raise one.grants_problem
        except UmuhuzaError as exc:
            return Refused(exc.with_traceback(None), m.flow, m.kind)
        pending = _Pending(one, finding, [request])
        request.left += 1
        events, chains = (request.manifests, request.chains) if one.alone else (self._events, self._chains)
        events[m.ident] = pending
        link = Link(m.seq, one.hash, m.prev, -1)
        chain = chains.get(place)
        if chain is None:
            chain = chains[place] = _PendingChain(link)
        chain.add(link)
        self._queue.append(pending)
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit())
        return pending

    def _chain(self, m: Manifest, chain_hash: str, also: _PendingChain | None) -> Finding | None:
        """How its number fits what is in the log, on its way there, and in `also`. Raises OrderError."""
        head = self._head(m.iss, m.topic, also)
        top = head.seq if head is not None else 0
        if m.seq <= top:
            if self._link(m.iss, m.topic, m.seq, head, also) is not None or self._index.is_void(m.iss, m.topic, m.seq):
                raise OrderError("chain_broken", "L1.seq", expected=top + 1)
            after = self._link(m.iss, m.topic, m.seq + 1, head, also)
            if after is not None and after.prev != chain_hash:
                raise OrderError("chain_broken", "L1.seq", expected=top + 1)
        before = self._link(m.iss, m.topic, m.seq - 1, head, also)
        if before is not None and before.hash != m.prev:
            raise OrderError("chain_broken", "L1.prev", expected=top + 1)
        for place, seq in enumerate(m.voids):
            if self._link(m.iss, m.topic, seq, head, also) is not None:
                raise OrderError("chain_broken", f"L1.voids[{place}]")
        if m.seq <= top:
            return "late"
        missing = m.seq - top - 1
        if missing:
            missing -= sum(top < seq for seq in m.voids)
        return "seq_gap" if missing > 0 else None

    def _targets(self, m: Manifest) -> None:
        """Whoever acts on a record is its issuer or its recipient."""
        if m.acts is None:
            return
        for name, targets in (("erase", m.acts.erase), ("grant", m.acts.grant)):
            for place, target in enumerate(targets):
                known = self._index.event(target)
                pending = self._events.get(target)
                if known is not None:
                    recipient = known.recipient
                elif pending is not None:
                    recipient = pending.examined.manifest.to
                else:
                    raise PolicyError("not_permitted", f"L1.acts.{name}[{place}]")
                if m.iss not in (target.rpartition("/")[0], recipient):
                    raise PolicyError("not_permitted", f"L1.acts.{name}[{place}]")
                if name == "grant" and self._index.is_erased(target):
                    raise PolicyError("not_permitted", f"L1.acts.{name}[{place}]")

    def _answers(self, m: Manifest) -> None:
        """What crosses the firewall as an answer names what its reader had sent to its issuer. That both belong to one
        thread is for adapters to say, who have both."""
        ident = f"{m.to}/{m.ref}"
        known, pending = self._index.event(ident), self._events.get(ident)
        if known is not None:
            topic = known.topic
        elif pending is not None:
            topic = pending.examined.manifest.topic
        else:
            raise PolicyError("not_permitted", "L1.ref")
        asked = Act("send", m.to, topic)
        may(Act("send", m.iss, m.topic, m.kind, answers=asked), self.rules.registry).require()

    # -----------------------------------------------------------------------------------------------------------------
    # Commit: whatever has queued up goes to the log together, in the order in which it was judged

    async def _commit(self) -> None:
        batch: list[_Pending] = []
        try:
            while self._queue:
                if self._log_takes_both and self._appending is not None and not self._appending.done():
                    await asyncio.wait([self._appending])  # meanwhile the next batch gathers
                batch = self._next_batch()
                along: Mapping[str, Mapping[str, bytes]] | None = None
                if self._log_takes_both and not any(pending.examined.alone for pending in batch):
                    along = _grants_of(batch)
                else:
                    batch = self._without_manifests(await self._put_grants(batch))
                # Grants of this batch and the append of the one before share the log's disk writes.
                if self._appending is not None:
                    await asyncio.wait([self._appending])
                self._appending = asyncio.create_task(self._append(batch, along))
        except BaseException:
            for pending in [*batch, *self._queue]:  # a bug or a cancellation: whether they are there is not known
                self._settle(pending, LogError("unavailable"))
            self._queue = []
            raise
        finally:
            self._committer = None

    def _next_batch(self) -> list[_Pending]:
        size = count = 0
        for pending in self._queue[:COMMIT_RECORDS]:
            size += len(pending.examined.value)
            if count and size > COMMIT_BYTES:
                break
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        return batch

    async def _put_grants(self, batch: Sequence[_Pending]) -> list[_Pending]:
        """Those whose grants are durable; the others are answered."""
        by_topic = _grants_of(batch)
        failed: dict[str, LogError] = {}

        async def put(topic: str, grants: Mapping[str, bytes]) -> None:
            try:
                await self._log.put_grants(topic, grants)
            except LogError as exc:
                failed[topic] = exc

        await asyncio.gather(*(put(topic, grants) for topic, grants in by_topic.items()))
        if not failed:
            return list(batch)
        granted: list[_Pending] = []
        for pending in batch:
            error = failed.get(grants_topic(pending.examined.manifest.to))
            if error is None:
                granted.append(pending)
            else:
                self._settle(pending, LogError(error.code))
        return granted

    def _without_manifests(self, batch: Sequence[_Pending]) -> list[_Pending]:
        """Records to append; manifests are answered with their grants, and take no place."""
        for pending in batch:
            if pending.examined.alone:
                self._settle(pending, _NO_PLACE)
        return [pending for pending in batch if not pending.examined.alone]

    async def _append(self, batch: Sequence[_Pending], grants: Mapping[str, Mapping[str, bytes]] | None = None) -> None:
        """`grants`: those that are not durable yet, for a log that takes both."""
        if not batch:
            return
        entries = [_entry(pending.examined) for pending in batch]
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answers: Sequence[Appended | UmuhuzaError]
            if grants is not None and isinstance(self._log, GrantsAtOnce):
                answers = await self._log.append_granted(entries, grants)
            else:
                answers = await self._log.append(entries)
        except LogError as exc:
            answers = [LogError(exc.code)] * len(batch)
        except BaseException:
            for pending in batch:
                self._settle(pending, LogError("unavailable"))
            raise
        self.append_seconds(loop.time() - started)
        try:
            await self._appended(batch, answers)
        finally:
            for pending in batch:  # a bug of ours, or the end: whether they count is not known
                if pending.placed is None:
                    self._settle(pending, LogError("unavailable"))

    async def _appended(self, batch: Sequence[_Pending], answers: Sequence[Appended | UmuhuzaError]) -> None:
        unsure: list[_Pending] = []
        erasing: list[_Pending] = []
        for pending, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Appended) and not answer.copy:
                one = pending.examined
                m = one.manifest
                self._index.apply(m, one.hash, answer.offset, answer.at_ms, first=True)
                if m.acts is not None and m.acts.erase:
                    erasing.append(pending)
                    continue
                self._settle(pending, (answer.offset, answer.at_ms, False))
            elif isinstance(answer, Appended) or answer.code == "evt_conflict":
                unsure.append(pending)
            else:
                self._settle(pending, answer)
        if erasing:
            await self.erase()
            for pending in erasing:
                m = pending.examined.manifest
                known = self._index.event(m.ident)
                placed = LogError("unavailable") if known is None else (known.offset, known.at_ms, False)
                self._settle(pending, placed)
        if unsure:
            await self._compare(unsure)

    async def _compare(self, batch: Sequence[_Pending]) -> None:
        """The log knew these events before we did: another gateway took them. The same signed bytes are a copy,
        signature twins included, which the log cannot see."""
        try:
            await self.follow()
        except LogError as exc:
            for pending in batch:
                self._settle(pending, LogError(exc.code))
            return
        for pending in batch:
            known = self._index.event(pending.examined.manifest.ident)
            if known is not None and known.hash == pending.examined.hash:
                self._settle(pending, (known.offset, known.at_ms, True))
            else:
                self._settle(pending, OrderError("evt_conflict", "L1.evt"))
        await self.erase()

    def _settle(self, pending: _Pending, placed: Placed) -> None:
        m = pending.examined.manifest
        if self._events.get(m.ident) is pending:
            del self._events[m.ident]
        chain = self._chains.get((m.iss, m.topic))
        if chain is not None and not pending.examined.alone:
            chain.remove(m.seq)
            if not chain.links:
                del self._chains[m.iss, m.topic]
        if pending.placed is None:
            pending.placed = placed
            for request in pending.requests:
                request.one_less()

    # -----------------------------------------------------------------------------------------------------------------
    # Follow

    async def follow(self, topics: Sequence[str] | None = None) -> int:
        """Apply what is in the log and not in the index; returns how many entries were read.

        A topic that the log does not have, or not as it was, is passed by and named in `troubled`: the others go on.

        Raises:
            LogError: unavailable, log_closed.
        """
        count = 0
        async with self._following:
            rules = self.rules
            asked = rules.topics if topics is None else topics
            wanted = {topic for topic in asked if ".grants." not in topic}
            trouble: dict[str, str] = {}
            while wanted:
                try:
                    stored = await self._log.poll({topic: self._index.next_offset(topic) - 1 for topic in wanted})
                except LogError as exc:
                    topic = exc.path
                    if topic is None or topic not in wanted:
                        raise
                    if exc.code == "retention_passed":
                        self._index.skip_to(topic, (await self._log.ends(topic)).first)
                        continue
                    wanted.discard(topic)
                    trouble[topic] = exc.code
                    continue
                if not stored:
                    break
                await self._apply(rules, stored)
                count += len(stored)
            if topics is None and trouble and not wanted and set(trouble.values()) == {"unavailable"}:
                raise LogError("unavailable")  # not this topic or that one: the log
            kept = {topic: code for topic, code in self.troubled.items() if topic not in asked}
            self.troubled = kept | trouble
            if topics is None and self._verified_with is not rules:
                await self._ask_again(rules)
                self._verified_with = rules
        if self._index.erasures_to_do():
            await self.erase()
        return count

    async def _apply(self, rules: Rules, stored: Sequence[Stored]) -> None:
        found = await self._checker.check(rules, [(one.topic, one.at_ms, one.value) for one in stored])
        for one, good in zip(stored, found, strict=True):
            if good is None:
                self._index.passed(one.topic, one.offset)
            elif good == "unknown":
                self._index.leave_unverified(one.topic, one.offset)
            else:
                self._index.apply(good[0], good[1], one.offset, one.at_ms)

    async def _ask_again(self, rules: Rules) -> None:
        """Records whose signer was not known: another gateway had a newer registry than this one then."""
        for topic, offset in self._index.unverified():
            try:
                stored = await self._log.read(topic, offset - 1, limit=1)
            except LogError as exc:
                if exc.code == "unavailable" and exc.path != topic:
                    raise
                continue
            at = [one for one in stored if one.offset == offset]
            self._index.verified(topic, offset)
            await self._apply(rules, at)

    async def lag(self) -> int:
        """Entries in the log that the index has not applied."""
        total = 0
        for topic in self.rules.topics:
            if ".grants." not in topic:
                try:
                    ends = await self._log.ends(topic)
                except LogError as exc:
                    if exc.code == "unavailable" and exc.path != topic:
                        raise
                    continue
                total += max(ends.next - max(self._index.next_offset(topic), ends.first), 0)
        return total

    async def erase(self) -> None:
        """Carry out the erasures that the log commands: every key of every holder of each target.

        What could not be deleted now stays to be done; it is not served meanwhile.
        """
        rules = self.rules
        for ident in self._index.erasures_to_do():
            known = self._index.event(ident)
            holders = self._index.disclosed_to(ident)
            if known is not None:
                holders.add(known.recipient)
            try:
                for agency in sorted(holders & rules.registry.agencies.keys()):
                    keys = [grant_key(ident, kid) for kid in rules.seal_kids(agency)]
                    await self._log.delete_grants(grants_topic(agency), keys)
            except LogError:
                continue
            self._index.erased([ident])

    # -----------------------------------------------------------------------------------------------------------------
    # What a reader gets

    def mailboxes(self, agency: str) -> tuple[str, ...]:
        return mailboxes_of(self._registry().agency(agency))

    async def grants_for(self, agency: str, idents: Sequence[str]) -> dict[str, list[bytes]]:
        """ident -> grants sealed to any key of this agency, erased ones left out although they may still be there."""
        kids = list(self.rules.seal_kids(agency))
        wanted = {grant_key(ident, kid): ident for ident in idents if not self._index.is_erased(ident) for kid in kids}
        if not wanted:
            return {}
        found = await self._log.get_grants(grants_topic(agency), list(wanted))
        grants: dict[str, list[bytes]] = {}
        for key, data in found.items():
            # Asked again: an erasure may have been applied while the log was read.
            if not self._index.is_erased(wanted[key]):
                grants.setdefault(wanted[key], []).append(data)
        return grants

    def pending(self) -> int:
        """Records that are judged and not yet durable."""
        return len(self._events)

    async def drain(self) -> None:
        """Wait until nothing is on its way to the log."""
        while self._committer is not None or (self._appending is not None and not self._appending.done()):
            await asyncio.wait([task for task in (self._committer, self._appending) if task is not None])


def _told(outcome: Outcome | _Pending | _Same) -> Outcome:
    if isinstance(outcome, Accepted | Granted | Refused):
        return outcome
    pending = outcome.first if isinstance(outcome, _Same) else outcome
    one = pending.examined
    m = one.manifest
    placed = pending.placed
    assert placed is not None
    if isinstance(placed, UmuhuzaError):
        return Refused(placed, m.flow, m.kind)
    if one.alone and placed == _NO_PLACE:
        return Granted(m.evt, m.topic, one.hash, m.flow, m.kind, pending.finding, one.clock_suspect)
    offset, at_ms, copy = placed
    copy = copy or outcome is not pending
    finding = None if copy else pending.finding
    return Accepted(m.evt, m.topic, offset, at_ms, one.hash, m.flow, m.kind, copy, finding, one.clock_suspect)


def _grants_of(batch: Sequence[_Pending]) -> dict[str, dict[str, bytes]]:
    by_topic: dict[str, dict[str, bytes]] = {}
    for pending in batch:
        topic = grants_topic(pending.examined.manifest.to)
        by_topic.setdefault(topic, {}).update(pending.examined.grants)
    return by_topic


def _entry(one: Examined) -> Entry:
    m = one.manifest
    return Entry(m.topic, m.thread.encode("ascii"), m.ident, one.value, cloudevents_headers(m))
