# SPDX-License-Identifier: Apache-2.0
"""Focal points told to every member, and questions of practice from one body to another, with their answers.

Nothing is kept beside the mailbox: a contact is the last word of its publisher that is still valid, a question stands
where its thread stands. Of what was sent from here only codes are known (entry, topic), since a record is sealed to its
recipient; what came is opened each time it is shown.
Must never: carry a person; take what has run out for valid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adapters.connectors.contract import Draft
from adapters.desk import Desk
from adapters.directory import hearers
from adapters.mailbox_rows import Incoming, Outgoing
from adapters.outbox import Outbox
from schemas.errors import OrderError
from schemas.events import Opened
from schemas.forms import Facts, Form
from schemas.keys import b64url
from schemas.plain.knowledge import ContactPublished, ExpertiseAnswered, ExpertiseAsked

Opener = Callable[[Incoming], Opened]
"""`adapters.inbox.Inbox.opened`."""
_GONE = ("refused", "cancelled")


@dataclass(frozen=True, slots=True)
class Contact:
    """One office that can be called."""

    agency: str
    said: ContactPublished


@dataclass(frozen=True, slots=True)
class Told:
    """One office of ours, by its entry, and how many have been told of it."""

    entry: str
    agencies: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question of practice, asked by us or of us. `at`: seconds since the epoch."""

    thread: str
    peer: str
    ours: bool
    at: int
    topic: str
    state: str
    """Of the machine `expertise`."""
    asked: ExpertiseAsked | None
    """None: we asked it, and it can be read over there only."""
    answered: ExpertiseAnswered | None


class Contacts:
    """Used from one event loop, or from a command beside a running adapter."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._outbox = Outbox(desk)

    def publish(self, said: ContactPublished) -> list[str]:
        """Tell every member that may know; a later word on one entry replaces the one before. Returns whom.

        Raises:
            PolicyError: `not_permitted`: it is not ours to publish. UmuhuzaError: nothing was published.
        """
        desk, source = self._desk, f"contact:{said.entry}"
        with desk.mailbox.transaction():
            peers = hearers(desk, "knowledge", "contact.published")
            known = {item.peer: item.thread for item in desk.mailbox.outbox() if item.source == source}
            for peer in peers:
                thread = known.get(peer)
                if thread is not None and desk.mailbox.thread(thread) is None:
                    thread = None  # its first word was taken back, or refused
                _say(desk, self._outbox, peer, "contact.published", said, thread, source)
        return peers

    def told(self) -> list[Told]:
        """What we have published, by entry."""
        found: dict[str, set[str]] = {}
        for item in self._desk.mailbox.outbox():
            if item.source.startswith("contact:") and item.state not in _GONE:
                found.setdefault(item.source.partition(":")[2], set()).add(item.peer)
        return [Told(entry, len(peers)) for entry, peers in sorted(found.items())]

    def listings(self, opened: Opener) -> list[Contact]:
        """What others published last, where it is valid now and not withdrawn; by agency and entry.

        Raises UmuhuzaError: an item cannot be opened.
        """
        last: dict[tuple[str, str], ContactPublished] = {}
        for item in self._desk.mailbox.arrivals.all():
            if item.type == "contact.published" and item.state in ("ready", "delivered"):
                said = opened(item).facts.said
                if isinstance(said, ContactPublished):
                    last[item.iss, said.entry] = said
        now = self._desk.now()
        return [
            Contact(agency, said)
            for (agency, _), said in sorted(last.items())
            if not said.withdrawn and said.valid_until.timestamp() > now
        ]


class Expertise:
    """Used from one event loop, or from a command beside a running adapter."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._outbox = Outbox(desk)

    def ask(self, to: str, said: ExpertiseAsked) -> str:
        """Ask a commission, a focal point or a facilitator; returns the thread. Raises UmuhuzaError."""
        with self._desk.mailbox.transaction():
            evt = _say(self._desk, self._outbox, to, "expertise.asked", said, None, f"expertise:{said.topic}")
            item = self._desk.mailbox.outgoing(evt)
            return "" if item is None else item.thread

    def answer(self, thread: str, said: ExpertiseAnswered) -> str:
        """Returns the evt of the answer.

        Raises:
            OrderError: `thread_unknown`: nobody asked on that thread; `transition_invalid`: it was answered.
        """
        with self._desk.mailbox.transaction():
            known = self._desk.mailbox.thread(thread)
            if known is None or known.machine != "expertise":
                raise OrderError("thread_unknown", "thread")
            return _say(self._desk, self._outbox, known.peer, "expertise.answered", said, thread, "expertise")

    def questions(self, opened: Opener) -> list[Question]:
        """Every question of ours and to us, the oldest first. Raises UmuhuzaError: an item cannot be opened."""
        box = self._desk.mailbox
        answers: dict[str, ExpertiseAnswered] = {}
        found: list[Question] = []
        for item in box.arrivals.all():
            if item.state not in ("ready", "delivered") or not item.type.startswith("expertise."):
                continue
            said = opened(item).facts.said
            if isinstance(said, ExpertiseAnswered):
                answers[item.thread] = said
            elif isinstance(said, ExpertiseAsked):
                found.append(
                    Question(
                        item.thread,
                        item.iss,
                        False,
                        item.at_ms // 1000,
                        said.topic,
                        self._state(item.thread),
                        said,
                        None,
                    )
                )
        found += [
            self._ours(sent, answers.get(sent.thread))
            for sent in box.outbox()
            if sent.type == "expertise.asked" and sent.state not in _GONE
        ]
        return sorted(found, key=lambda one: one.at)

    def _ours(self, sent: Outgoing, answered: ExpertiseAnswered | None) -> Question:
        kind, _, topic = sent.source.partition(":")
        if kind != "expertise":
            topic = "other"  # drafted as a file: its topic is sealed
        return Question(sent.thread, sent.peer, True, sent.created_at, topic, self._state(sent.thread), None, answered)

    def _state(self, thread: str) -> str:
        known = self._desk.mailbox.thread(thread)
        return "asked" if known is None else known.state


def _say(desk: Desk, outbox: Outbox, to: str, type: str, said: Form, thread: str | None, source: str) -> str:
    """Enqueue it; returns its evt. Inside a transaction."""
    facts = Facts(occurred_at=desk.today(), said=said)
    return outbox.compose(Draft(b64url(desk.random(12)), to, type, None, thread, facts), source, "")
