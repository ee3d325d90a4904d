# SPDX-License-Identifier: Apache-2.0
"""Judging records by what is in the log and on its way there: replay, chain, targets, answers. In memory, no disk.

Purpose: the one place that says whether a record that is good by itself (`gateway.examine`) fits what its issuer and
others have said before.
Invariants: no await within a line; what is accepted is reserved at once, so that requests of one issuer may overtake
each other's disk writes but never each other's place in a chain. Only records in the log advance a chain. A manifest
without its record is judged like one, reserves nothing and advances nothing.
Must never: put a value into an error.

If we crash here: reservations are gone, and with them nothing: their senders have no answer yet and send again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway.checking import Checks
from gateway.examine import Examined, Refused
from gateway.index import Index, Link
from gateway.outcomes import Accepted, Finding, Granted, Outcome
from schemas.envelope import Manifest
from schemas.errors import LogError, OrderError, PolicyError, UmuhuzaError
from topics.borders import crosses
from topics.catalogue import Act, may

Placed = tuple[int, int, bool] | UmuhuzaError
"""offset, at_ms, copy."""
NO_PLACE = (-1, 0, False)
"""Of a manifest: its record will take one."""


@dataclass(slots=True, eq=False)
class Request:
    """Who waits for lines that are on their way to the log; gone when the client's task was cancelled."""

    done: asyncio.Future[None]
    left: int = 0
    manifests: dict[str, Pending] = field(default_factory=dict)
    """Ident -> manifest without record, of this request: no other request knows of it."""
    chains: dict[tuple[str, str], PendingChain] = field(default_factory=dict)
    """What these would make of their chains."""

    def one_less(self) -> None:
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class Pending:
    """A line that was judged good and is on its way to the log; its place, when it is settled."""

    examined: Examined
    finding: Finding | None
    requests: list[Request] = field(default_factory=list)
    placed: Placed | None = None


@dataclass(frozen=True, slots=True)
class Same:
    """A line that repeats one that is still on its way: its outcome, as a copy."""

    first: Pending


@dataclass(slots=True)
class PendingChain:
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


class Judge:
    """One gateway's judgement of what comes in. Used from one event loop."""

    def __init__(self, index: Index, checks: Checks) -> None:
        self._index = index
        self._checks = checks
        self._events: dict[str, Pending] = {}
        self._chains: dict[tuple[str, str], PendingChain] = {}

    def under_way(self, ident: str) -> bool:
        """Whether the event is judged and not yet durable."""
        return ident in self._events

    def pending(self) -> int:
        """Records that are judged and not yet durable."""
        return len(self._events)

    def head(self, iss: str, topic: str, also: PendingChain | None = None) -> Link | None:
        """The highest number of this chain in the log, on its way there, or in `also`."""
        head = self._index.head(iss, topic)
        for pending in (self._chains.get((iss, topic)), also):
            if pending is not None and (head is None or pending.top.seq > head.seq):
                head = pending.top
        return head

    def _link(self, iss: str, topic: str, seq: int, head: Link | None, also: PendingChain | None = None) -> Link | None:
        if head is None or seq > head.seq:
            return None
        if seq == head.seq:
            return head
        for pending in (self._chains.get((iss, topic)), also):
            if pending is not None and seq in pending.links:
                return pending.links[seq]
        return self._index.link(iss, topic, seq)

    def again(self, one: Refused) -> Accepted | Refused:
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

    def judge(self, one: Examined, request: Request) -> Accepted | Refused | Pending | Same:
        """Replay, chain, targets. Accepted is `Pending`: reserved (a record), and to be committed by whoever asked."""
        m, named = one.manifest, one.hash
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
                return Same(under_way)
            finding = self._chain(m, one.hash, request.chains.get(place) if one.alone else None)
            self._targets(m)
            if one.must_answer:
                self._answers(m)
            if one.grants_problem is not None:
                named = ""  # grants come beside the record
                raise one.grants_problem
        except UmuhuzaError as exc:
            return Refused(exc.with_traceback(None), m.flow, m.kind, hash=named)
        pending = Pending(one, finding, [request])
        request.left += 1
        events, chains = (request.manifests, request.chains) if one.alone else (self._events, self._chains)
        events[m.ident] = pending
        link = Link(m.seq, one.hash, m.prev, -1)
        chain = chains.get(place)
        if chain is None:
            chain = chains[place] = PendingChain(link)
        chain.add(link)
        return pending

    def _chain(self, m: Manifest, chain_hash: str, also: PendingChain | None) -> Finding | None:
        """How its number fits what is in the log, on its way there, and in `also`. Raises OrderError."""
        head = self.head(m.iss, m.topic, also)
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
            # What goes over a border may stand here and have been refused there: its number never comes there.
            if self._link(m.iss, m.topic, seq, head, also) is not None and not crosses(m):
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
        may(Act("send", m.iss, m.topic, m.kind, answers=asked), self._checks.rules.registry).require()

    def settle(self, pending: Pending, placed: Placed) -> None:
        """It has its place in the log, or will not have one: what it reserved is given back, who waits is woken.

        The first word counts.
        """
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


def told(outcome: Outcome | Pending | Same) -> Outcome:
    """The answer to a line, once it is settled; as a copy where another line had asked for the same first."""
    if isinstance(outcome, Accepted | Granted | Refused):
        return outcome
    pending = outcome.first if isinstance(outcome, Same) else outcome
    one = pending.examined
    m = one.manifest
    placed = pending.placed
    assert placed is not None
    if isinstance(placed, UmuhuzaError):
        return Refused(placed, m.flow, m.kind)
    if one.alone and placed == NO_PLACE:
        return Granted(m.evt, m.topic, one.hash, m.flow, m.kind, pending.finding, one.clock_suspect)
    offset, at_ms, copy = placed
    copy = copy or outcome is not pending
    finding = None if copy else pending.finding
    return Accepted(m.evt, m.topic, offset, at_ms, one.hash, m.flow, m.kind, copy, finding, one.clock_suspect)
