# SPDX-License-Identifier: Apache-2.0
"""Taking records in, without HTTP: examine, judge, make durable, promise. A simulator drives it as a server does.

Per line, in order:

1. `examine` (pure, wherever `checking` has it done): shape, issuer, key, signature, digests, training, right, clock,
   grants.
2. `judging` (one thread, no await within a line): replay, chain, targets; reserves what it accepts in memory.
3. `committing`: grants first, then the record, then the index, then erasures, then the answers.
4. one promise per request; requests that became durable together share its signature.

A manifest without its record (its issuer writes the record to Kafka itself) is judged like a record; its grants are
made durable, and nothing is promised. When its record is in the log already, the answer is a copy's, as for any
repeat; grants are then not written again, since they may have been erased.

If we crash here: what is not durable yet has no answer, and its sender sends it again (`committing` says more).

One bad line never refuses another. Time is an argument; this module never draws randomness, and never puts a value into
an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from gateway.checking import Checks
from gateway.committing import Committer, Logged
from gateway.examine import Examined, Refused, Task, examine_carried
from gateway.following import Follower
from gateway.index import Index
from gateway.judging import Judge, Pending, Request, Same, told
from gateway.outcomes import Accepted, Answer, Outcome
from gateway.quota import Quotas
from schemas.errors import LogError, PolicyError, UmuhuzaError
from schemas.home_proof import read_carried_line
from schemas.keys import SigningKey
from schemas.registry import Registry
from topics.catalogue import mailboxes_of
from topics.home_check import HomeTrust
from topics.log import Log
from topics.promise import MAX_LINES, Line, Promised, make_promise
from topics.refusal import make_refusal


@dataclass(slots=True, eq=False)
class _Lookup:
    """Events that are about to be looked up together."""

    idents: list[str] = field(default_factory=list)
    requests: list[asyncio.Future[None]] = field(default_factory=list)
    """Gone when the client's task was cancelled."""


@dataclass(slots=True, eq=False)
class _Forming:
    """A promise that is about to be signed."""

    lines: list[Line] = field(default_factory=list)
    requests: list[asyncio.Future[Promised]] = field(default_factory=list)
    """Gone when the client's task was cancelled."""


class Intake:
    """One gateway's way in. Everything runs on one event loop; what can be said of a record by itself may be found out
    elsewhere (`Checks.checker`)."""

    def __init__(
        self,
        log: Log,
        index: Index,
        checks: Checks,
        follower: Follower,
        *,
        key: SigningKey,
        agency: str,
        quotas: Quotas,
        now: Callable[[], float],
        make_topics: Callable[[Sequence[str]], Awaitable[None]] | None = None,
        append_seconds: Callable[[float], None] = lambda _: None,
        logged: Logged = lambda _hash, _topic: None,
        origin: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`append_seconds`: told how long each append took. `logged`: asks the ledger, where there is one.
        `origin`: the ledger's name, where it is known."""
        self._index = index
        self._checks = checks
        self._follower = follower
        self._key = key
        self._agency = agency
        self._quotas = quotas
        self._now = now
        self._origin = origin
        self._make_topics = make_topics
        self._made: frozenset[str] = frozenset()
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._judge = Judge(index, checks)
        self._committer = Committer(log, index, self._judge, follower, append_seconds, logged)
        self._forming: _Forming | None = None
        self._lookup: _Lookup | None = None
        self.pending = self._judge.pending
        self.drain = self._committer.drain
        self.erase_soon = self._committer.erase_soon

    def busy(self, agency: str) -> bool:
        """Whether a request of this agency waits for its turn to be judged."""
        return agency in self._turns

    async def publish(self, agency: str, lines: Sequence[bytes]) -> Answer:
        """Take the lines of one request from an authenticated agency.

        Accepted means durable. Cancelled: every line may or may not be there, as with `Log.append`.
        """
        return await self._published(agency, lines, self._checks.checker.examine)

    async def carry(self, agency: str, lines: Sequence[bytes], trust: HomeTrust, newest: Registry) -> Answer:
        """Take the lines of one contact from an authenticated bridge of another domain (`schemas.home_proof`).

        Accepted means durable, the home proof beside the record; what is refused for its own sake is refused in
        writing. Cancelled: as `publish`.
        """
        checkpoint = b""

        async def examine_all(tasks: Sequence[Task]) -> list[Examined | Refused]:
            nonlocal checkpoint
            found: list[Examined | Refused] = []
            for task in tasks:
                try:
                    line = read_carried_line(task.line, checkpoint)
                except UmuhuzaError as exc:
                    found.append(Refused(exc.with_traceback(None)))
                    continue
                checkpoint = line.home.checkpoint
                found.append(examine_carried(line, task, trust, newest))
                await asyncio.sleep(0)  # a signature or two at a time: others have requests too
            return found

        answer = await self._published(agency, lines, examine_all)
        return replace(answer, refusals=tuple(self._refusal(one) for one in answer.outcomes))

    def _refusal(self, outcome: Outcome) -> str | None:
        """Signed, where it is the record's own fault, and not one that is gone the next time."""
        if not isinstance(outcome, Refused) or not outcome.hash or outcome.error.retriable:
            return None
        at, domain = int(self._now()), self._checks.rules.registry.domain
        return make_refusal(
            outcome.error, outcome.hash, self._key, iss=self._agency, at=at, domain=domain, origin=self._origin()
        )

    async def _published(
        self,
        agency: str,
        lines: Sequence[bytes],
        examine: Callable[[Sequence[Task]], Awaitable[list[Examined | Refused]]],
    ) -> Answer:
        now = self._now()
        outcomes: list[Outcome | Pending | Same | None] = [None] * len(lines)
        tasks: list[Task] = []
        places: list[int] = []
        rules = self._checks.rules
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
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        self._turns[agency] = mine
        request = Request(loop.create_future())
        try:
            examined = await examine(tasks)
            await self._looked_up(examined, loop)
            if before is not None and not before.done():
                await asyncio.shield(before)
            try:
                await self.make_topics()
                await self._learn(examined)
            except LogError as exc:
                examined = [Refused(LogError(exc.code))] * len(examined)
            for place, one in zip(places, examined, strict=True):
                outcomes[place] = self._judged(one, request)
        finally:
            mine.set_result(None)
            if self._turns.get(agency) is mine:
                del self._turns[agency]
        if request.left:
            await request.done
        finished = [told(outcome) for outcome in outcomes if outcome is not None]
        return Answer(tuple(finished), await self._promise(finished, loop))

    async def _looked_up(self, examined: Sequence[Examined | Refused], loop: asyncio.AbstractEventLoop) -> None:
        """Have the index look up these events, with those of all requests whose lines a checker has answered together.

        Until it is judged, others may be applied, which the index knows, and the file may change: it forgets then.
        """
        idents = [one.manifest.ident for one in examined if one.manifest is not None]
        if not idents:
            return
        lookup = self._lookup
        if lookup is None:
            lookup = self._lookup = _Lookup()
            # They are woken in one turn of the loop: by the next one all have joined.
            loop.call_soon(self._look_up, lookup)
        lookup.idents += idents
        done: asyncio.Future[None] = loop.create_future()
        lookup.requests.append(done)
        await done

    def _look_up(self, lookup: _Lookup) -> None:
        self._lookup = None
        try:
            self._index.look_up(lookup.idents)
        finally:  # each is asked for by itself where this failed
            for request in lookup.requests:
                if not request.done():
                    request.set_result(None)

    def _judged(self, one: Examined | Refused, request: Request) -> Outcome | Pending | Same:
        if isinstance(one, Refused):
            return self._judge.again(one)
        judged = self._judge.judge(one, request)
        if isinstance(judged, Pending):
            self._committer.add(judged)
        return judged

    async def make_topics(self) -> None:
        """Mailboxes follow from the registry: whoever joined since has them before the first record comes.

        Raises:
            LogError: unavailable, storage_full, log_closed.
        """
        topics = self._checks.rules.topics
        if self._make_topics is not None and topics is not self._made:
            await self._make_topics(sorted(topic for topic in topics if ".grants." not in topic))
            self._made = topics

    async def _promise(self, outcomes: Sequence[Outcome], loop: asyncio.AbstractEventLoop) -> Promised | None:
        """One signature for all requests whose records became durable together; each gets its own lines' paths."""
        lines = [Line(o.evt, o.hash, o.topic, o.offset) for o in outcomes if isinstance(o, Accepted)]
        if not lines:
            return None
        forming = self._forming
        if forming is None or len(forming.lines) + len(lines) > MAX_LINES:
            forming = self._forming = _Forming()
            # The requests of one append are woken in one turn of the loop: by the next one all have joined.
            loop.call_soon(lambda: loop.call_soon(self._sign, forming))
        first = len(forming.lines)
        forming.lines += lines
        signed: asyncio.Future[Promised] = loop.create_future()
        forming.requests.append(signed)
        promised = await signed
        return Promised(promised.jws, promised.paths[first : first + len(lines)], first)

    def _sign(self, forming: _Forming) -> None:
        if self._forming is forming:
            self._forming = None
        promised: Promised | None = None
        try:
            at, domain = int(self._now()), self._checks.rules.registry.domain
            promised = make_promise(
                forming.lines, self._key, iss=self._agency, at=at, domain=domain, origin=self._origin()
            )
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
                # Another gateway may have taken it before, and then that is the answer: see `Judge.again`.
                if one.manifest is not None and self._index.event(one.manifest.ident) is None:
                    topics.add(one.manifest.topic)
                continue
            m = one.manifest
            expected = heads.get(m.topic)
            if expected is None:
                head = self._judge.head(m.iss, m.topic)
                expected = head.seq if head is not None else 0
            unknown = not self._judge.under_way(m.ident) and self._index.event(m.ident) is None
            if unknown and (one.alone or m.seq != expected + 1):
                topics.add(m.topic)
            if m.acts is not None:  # what it acts on may be unknown here, or erased meanwhile
                topics |= self._checks.rules.topics
            if one.must_answer and m.ref is not None and self._index.event(f"{m.to}/{m.ref}") is None:
                topics |= set(mailboxes_of(self._checks.rules.registry.party(m.iss)))
            heads[m.topic] = max(m.seq, expected)
        if topics := topics & self._checks.rules.topics:
            await self._follower.catch_up(sorted(topics))
            self.erase_soon()
