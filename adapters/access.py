# SPDX-License-Identifier: Apache-2.0
"""A person asks what is held about her, through the agency that she chose.

    chosen agency   access.requested ->   one to each agency with which it has exchanged anything about her
    holder          a person there finds her, or cannot, and answers -> access.answered
    chosen agency   every answer, and who has not answered in time, on one sheet for her (`adapters.access_sheet`)

What a holder has is counted from its mailbox: records of the threads that it has linked to her. An answer names those
that the two agencies exchanged, or that the holder sent itself; of what came from others it says how many, never from
whom. Investigations are left out: whether something may be said of them, a person decides by a text of law. The copy
for her holds her own answers to closed questions; what others wrote freely, and who they are, is left out.

By when she is to be answered stands in the policy; both sides count from there, nothing of it travels in clear.
Must never: ask without somebody's word that it is she; say of a third agency which it is; say that nothing is held
where something is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from adapters.connectors.contract import Batch, Draft, Outcome
from adapters.consent_book import ConsentBook
from adapters.desk import Desk
from adapters.mailbox_rows import Incoming, Outgoing, Thread
from adapters.outbox import Outbox
from schemas.envelope import split_topic
from schemas.errors import OrderError, PayloadError
from schemas.event_types import EVENTS, THREAD_FLOW
from schemas.events import Opened
from schemas.forms import Facts
from schemas.keys import b64url
from schemas.lifecycle import next_events
from schemas.plain.rights import AccessAnswered, AccessRequested, Held
from topics.catalogue import answer_within_s, retention_s

Opener = Callable[[Incoming], Opened]
"""`adapters.inbox.Inbox.opened`."""
ABOUT_PERSONS = ("case", "referral", "bilateral", "alert")
"""Flows whose threads are about one person each, and of which she may know."""
INVESTIGATION = "investigation"
MOST_HELD = 60
"""Records that one answer names."""
_GONE = ("refused", "cancelled")
_HERE = ("ready", "delivered")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request from another agency that no answer has gone to. Times are seconds since the epoch."""

    thread: str
    peer: str
    at: int
    due_at: int
    said: AccessRequested
    about: str | None
    """Our thread that the record it names belongs to."""
    person: str | None
    """Our reference on that thread, where it is linked."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of ours. Times are seconds since the epoch."""

    thread: str
    peer: str
    person: str | None
    at: int
    due_at: int
    state: str
    """Of the machine `access`."""
    sending: str
    """Of the machine `outgoing`: how far the request itself is."""
    answered_at: int | None
    answer: AccessAnswered | None


@dataclass(frozen=True, slots=True)
class Holding:
    """One record about her that is here. Times are seconds since the epoch."""

    ident: str
    thread: str
    type: str
    peer: str
    sent: bool
    at: int
    until: int
    """When retention ends."""
    item: Incoming | None
    """None: sent from here, and readable over there only."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is here about one person."""

    records: tuple[Holding, ...]
    onward: tuple[str, ...]
    """Agencies with which we shared it."""
    left_out: int
    """Records of investigations."""


class Access:
    """See the module's docstring. Used from one event loop, or from a command beside a running adapter."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._outbox = Outbox(desk)
        self._book = ConsentBook(desk.mailbox)

    # -- the agency that she chose ------------------------------------------------------------------------------------

    def peers(self, person: str) -> list[str]:
        """Agencies with which anything about her was exchanged; the first one first."""
        found = [thread.peer for thread in reversed(self._threads(person)) if self._flow(thread) in ABOUT_PERSONS]
        return list(dict.fromkeys(found))

    def ask(self, person: str, said: AccessRequested, to: Sequence[str] = ()) -> list[Outcome]:
        """One request to each agency of `to`, or of `peers`; its `line` is the agency's id.

        Where one of ours waits for an answer already, it is not asked again (`again`). A request names a record that
        both know, so that the holder finds her without her name being looked up.

        Raises:
            OrderError: `thread_unknown`, path `person`: nothing of anybody by that reference.
            PayloadError: `payload_invalid`, path `checked_by`: nobody says that it is she.
        """
        if said.checked_by is None:
            raise PayloadError("payload_invalid", "checked_by")
        if not self._book.knows(person):
            raise OrderError("thread_unknown", "person")
        box = self._desk.mailbox
        with box.transaction():
            waits = {
                item.peer: item.evt
                for item, thread in self._requests(person)
                if thread.state == "requested" and item.state != "rejected"
            }
            peers = dict.fromkeys(to or self.peers(person))
            facts = {peer: self._facts(said, self._record(person, peer)) for peer in peers if peer not in waits}
            drafts = tuple(Draft(peer, peer, "access.requested", person, None, each) for peer, each in facts.items())
            name = b64url(self._desk.random(6))
            outcomes = self._outbox.accept(Batch(f"access:{name}", "access", drafts), "")
        return [Outcome(peer, waits[peer], None, again=True) for peer in peers if peer in waits] + outcomes

    def _facts(self, said: AccessRequested, record: str | None) -> Facts:
        return Facts(occurred_at=self._desk.today(), said=said.model_copy(update={"record": record}))

    def _record(self, person: str, peer: str) -> str | None:
        """What began the last thread with that agency about her."""
        for thread in self._threads(person):
            if thread.peer == peer and self._flow(thread) in ABOUT_PERSONS:
                return f"{self._desk.agency if thread.role == 'initiator' else peer}/{thread.opened_by}"
        return None

    def _requests(self, person: str | None) -> Iterator[tuple[Outgoing, Thread]]:
        """Each request of ours with its thread."""
        for item in self._desk.mailbox.outbox():
            if item.type != "access.requested" or item.state in _GONE:
                continue
            thread = self._desk.mailbox.thread(item.thread)
            if thread is not None and person in (None, thread.person):
                yield item, thread

    def asked(self, opened: Opener, person: str | None = None) -> list[Asked]:
        """Every request of ours with its answer, the oldest first; `person`: of one only.

        Raises UmuhuzaError: an answer cannot be opened.
        """
        answers: dict[str, tuple[int, AccessAnswered]] = {}
        for came in self._desk.mailbox.arrivals.all():
            if came.type == "access.answered" and came.state in _HERE:
                said = opened(came).facts.said
                if isinstance(said, AccessAnswered):
                    answers[came.thread] = (came.at_ms // 1000, said)
        found = []
        for item, thread in self._requests(person):
            at, answer = answers.get(thread.id, (None, None))
            made = item.created_at
            found.append(
                Asked(thread.id, item.peer, thread.person, made, due_at(made), thread.state, item.state, at, answer)
            )
        return found

    # -- a holder -----------------------------------------------------------------------------------------------------

    def waiting(self, opened: Opener) -> list[Waiting]:
        """Requests that wait for an answer from here, the oldest first. Raises UmuhuzaError: one cannot be opened."""
        box = self._desk.mailbox
        found = []
        for item in box.arrivals.all():
            if item.type != "access.requested" or item.state not in _HERE:
                continue
            thread = box.thread(item.thread)
            said = opened(item).facts.said
            if thread is None or thread.state != "requested" or not isinstance(said, AccessRequested):
                continue
            about = None if said.record is None else self._known(said.record, item.iss)
            at = item.at_ms // 1000
            person = None if about is None else about.person
            found.append(
                Waiting(item.thread, item.iss, at, due_at(at), said, None if about is None else about.id, person)
            )
        return found

    def _known(self, record: str, peer: str) -> Thread | None:
        """Our thread with that agency to which a record of the two belongs; no other is looked up for it."""
        iss, _, evt = record.rpartition("/")
        if iss not in (peer, self._desk.agency):
            return None
        thread = self._desk.mailbox.thread_of(evt, peer)
        return None if thread is None else self._desk.mailbox.thread(thread)

    def holdings(self, person: str | None, thread: str | None = None) -> Holdings:
        """What is here about her: on every thread linked to her, and on that one."""
        box = self._desk.mailbox
        threads = {one.id: one for one in self._threads(person)} if person is not None else {}
        if thread is not None and (one := box.thread(thread)) is not None:
            threads[one.id] = one
        ours = {name for name, one in threads.items() if self._flow(one) in ABOUT_PERSONS}
        hidden = {name for name, one in threads.items() if self._flow(one) == INVESTIGATION}
        records: list[Holding] = []
        left_out = 0
        for item in box.arrivals.all():
            if item.state in _HERE and item.type in EVENTS and EVENTS[item.type].machine is not None:
                left_out += item.thread in hidden
                if item.thread in ours and item.grant_value is not None:
                    records.append(_holding(item.ident, item, item.at_ms // 1000, item.iss, item))
        for sent in box.outbox():
            if sent.state not in _GONE and EVENTS[sent.type].machine is not None:
                left_out += sent.thread in hidden
                if sent.thread in ours:
                    ident = f"{self._desk.agency}/{sent.evt}"
                    records.append(_holding(ident, sent, sent.created_at, sent.peer, None))
        onward = dict.fromkeys(
            one.peer for one in self._book.holders(int(self._desk.now()), person) if one.thread in ours
        )
        records.sort(key=lambda one: (one.at, one.ident))
        return Holdings(tuple(records), tuple(onward), left_out)

    def answer(self, thread: str, said: AccessAnswered, person: str | None = None) -> str:
        """Answer a request; returns the evt. `person`: our reference of her, which the thread is linked to then.

        Raises:
            OrderError: `thread_unknown`: nobody asked on that thread; `transition_invalid`: it was answered.
        """
        with self._desk.mailbox.transaction():
            known = self._desk.mailbox.thread(thread)
            if known is None or known.machine != "access" or known.role != "recipient":
                raise OrderError("thread_unknown", "thread")
            facts = Facts(occurred_at=self._desk.today(), said=said)
            line = b64url(self._desk.random(12))
            draft = Draft(line, known.peer, "access.answered", person, thread, facts)
            return self._outbox.compose(draft, "access", "")

    def may_answer(self, thread: str) -> bool:
        """Whether a request waits there."""
        known = self._desk.mailbox.thread(thread)
        return known is not None and "access.answered" in next_events(known.machine, known.state, known.role)

    def _threads(self, person: str) -> list[Thread]:
        """The last changed first."""
        return [one for one in self._desk.mailbox.threads() if one.person == person]

    def _flow(self, thread: Thread) -> str | None:
        return THREAD_FLOW.get(thread.machine)


def due_at(asked_at: int) -> int:
    """By when a person is to be answered, by the policy. Seconds since the epoch."""
    return asked_at + (answer_within_s("access.requested", "normal") or 0)


def _holding(ident: str, item: Incoming | Outgoing, at: int, peer: str, opens: Incoming | None) -> Holding:
    until = at + retention_s(split_topic(item.topic)[0])
    return Holding(ident, item.thread, item.type, peer, opens is None, at, until, opens)


def from_others(found: Holdings, peer: str) -> int:
    """How many records came from agencies that `peer` is not told of."""
    return sum(not one.sent and one.peer != peer for one in found.records)


def answer_of(found: Holdings, peer: str, text: str | None = None) -> AccessAnswered:
    """What is said to `peer` of what is here: never which other agencies had part in it.

    Where there are more records than one answer can name, the first of each thread is named.

    Args:
        text: to be read to her; `adapters.access_sheet.copy_for_her`.

    Raises PayloadError: `too_large`, path `held`: more threads than one answer can name.
    """
    if not found.records:
        return AccessAnswered(outcome="nothing-held")
    named = [one for one in found.records if one.sent or one.peer == peer]
    if len(named) > MOST_HELD:
        named = list({one.thread: one for one in reversed(named)}.values())
    if len(named) > MOST_HELD:
        raise PayloadError("too_large", "held", expected=MOST_HELD)
    return AccessAnswered(
        outcome="answered",
        held=tuple(Held(record=one.ident, since=_when(one.at), until=_when(one.until)) for one in named),
        onward=sum(one != peer for one in found.onward),
        copy_text=text,
    )


def _when(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
