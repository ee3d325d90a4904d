# SPDX-License-Identifier: Apache-2.0
"""What an agency sees of its own work, made anew from its mailbox file: cases and referrals, investigations, counts.

    mailbox (inbox, outbox, threads) -> Story (what was said when, on which thread) -> view -> rows

Invariants
- Nothing is stored: deleting a `Story` loses nothing, and reading again gives the same. What an earlier story had
  opened may be handed in (`known`) to spare the opening; it never changes the result, and what was erased meanwhile is
  not in it any more.
- A thread's state is the mailbox's; what an event said comes from the record itself, with its corrections. Of what the
  agency sent, only the envelope is known here: its content was sealed to its recipient, and its own system has it.
- Persons stand by the agency's own reference, or not at all.
- Law enforcement sees the files that it sent or received, never assistance; a coordinating body sees flows and counts,
  without threads and persons. Which view is whose follows from the policy's mailboxes and firewall.

Must never: read anything but the mailbox; put a name, an address or a text of a record into a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Incoming, Thread
from adapters.statistics import counted_fields, period_of
from schemas import lifecycle
from schemas.errors import KeyStoreError, UmuhuzaError
from schemas.event_types import EVENTS
from schemas.events import Opened
from schemas.forms import Facts
from schemas.plain.case import HandoverAcknowledged
from schemas.plain.record import RecordCorrected
from schemas.registry import Agency
from topics.policy_file import policy

View = Literal["cases", "investigations", "flows"]
Opener = Callable[[Incoming], Opened]
"""`adapters.inbox.Inbox.opened`."""
_NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})
_CODED = ("stage", "acts", "means", "purposes")
_CLOCK_S = 5
"""Between the reading of the clock for a deadline and for the outbox lies less than this."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a projection keeps of a record that it opened: codes and a date."""

    occurred_at: datetime
    priority: str | None
    services: tuple[str, ...]
    htcds: Mapping[str, tuple[str, ...]]
    """Countable fields -> codes."""
    file: Mapping[str, tuple[str, ...]]
    """Of an investigation: stage, acts, means, purposes."""
    taken_over: bool
    """It says that somebody took the person over."""
    corrects: str | None = None
    """The `evt` of the record whose fields these are, where it corrects one."""
    wrong: tuple[str, ...] = ()
    """HTCDS fields of that record that were wrong."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event that was sent or taken."""

    ident: str
    thread: str
    type: str
    sent: bool
    peer: str
    at: datetime
    """UTC, to the second: when the log had it; when we wrote it, if we sent it."""
    late: bool
    crossed: bool
    said: Said | None
    """None: we sent it, or it cannot be opened any more (erased)."""


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that views are made of."""

    threads: tuple[Thread, ...]
    told: tuple[Told, ...]
    """In the order of `at`."""

    @property
    def known(self) -> Mapping[str, Said]:
        """What was opened, for reading the next story."""
        return {one.ident: one.said for one in self.told if one.said is not None}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thread as its agency sees it. Times are UTC."""

    thread: str
    type: str
    """What opened it: `referral.requested`."""
    sent: bool
    """We opened it."""
    peer: str
    person: str | None
    """Our own reference."""
    machine: str
    state: str
    priority: str | None
    services: tuple[str, ...]
    opened_at: datetime
    occurred_at: datetime | None
    last_at: datetime
    last_type: str
    answer_by: datetime | None
    overdue: bool
    """The deadline has passed and nothing was answered."""
    crossed: bool
    late: bool
    htcds: Mapping[str, tuple[str, ...]]
    file: Mapping[str, tuple[str, ...]]
    taken_over: datetime | None
    """When the agency that assists said so (`handover.acknowledged`)."""


@dataclass(frozen=True, slots=True)
class Flow:
    """How often an event was sent or received in a half-year."""

    period: str
    type: str
    sent: bool
    count: int


def read(mailbox: Mailbox, opener: Opener, known: Mapping[str, Said] = MappingProxyType({})) -> Story:
    """The story as the mailbox tells it now.

    Args:
        known: `Story.known` of an earlier story of the same mailbox.

    Raises:
        LogError: the mailbox cannot be read.
    """
    told: list[Told] = []
    with mailbox.transaction():  # one moment, although an adapter may be at work beside us
        threads = tuple(sorted(mailbox.threads(), key=lambda one: one.id))
        inbox, outbox = mailbox.arrivals.all(), mailbox.outbox()
    for item in inbox:
        if item.state not in ("ready", "delivered") or not _of_a_person(item.type):
            continue
        said = known.get(item.ident) if item.grant_value is not None else None
        told.append(
            Told(
                item.ident,
                item.thread,
                item.type,
                False,
                item.iss,
                datetime.fromtimestamp(item.at_ms // 1000, UTC),
                item.late,
                item.crossed,
                said if said is not None else _said(item, opener),
            )
        )
    for sent in outbox:
        if sent.state in ("refused", "cancelled") or not _of_a_person(sent.type):
            continue
        at = datetime.fromtimestamp(sent.created_at, UTC)
        told.append(Told(sent.evt, sent.thread, sent.type, True, sent.peer, at, False, False, None))
    told.sort(key=lambda one: (one.at, one.sent, one.ident))
    return Story(threads, tuple(told))


def _of_a_person(type_: str) -> bool:
    """Whether somebody said it: machines' receipts are no work, and files belong to what they came with."""
    return type_ in EVENTS and not type_.startswith(("receipt.", "chain.", "attachment."))


def _said(item: Incoming, opener: Opener) -> Said | None:
    try:
        facts = opener(item).facts
    except KeyStoreError:
        raise  # a device that is away for a moment: nothing may be left out for that
    except UmuhuzaError:
        return None  # its grant was erased, or its key is gone: what we had of it is not ours any more
    if isinstance(facts.said, RecordCorrected):
        return _right(facts, facts.said)
    coded = {} if facts.said is None else facts.said.model_dump(include=set(_CODED))
    services = () if facts.referral is None else facts.referral.services
    if facts.service is not None:
        services = (facts.service.type,)
    return Said(
        facts.occurred_at,
        None if facts.referral is None else facts.referral.priority,
        tuple(services),
        {name: _codes(facts.htcds[name]) for name in counted_fields() if name in facts.htcds},
        {name: _codes(value) for name, value in coded.items() if value},
        isinstance(facts.said, HandoverAcknowledged) and facts.said.taken_over,
    )


def _right(facts: Facts, said: RecordCorrected) -> Said:
    """What a correction brings."""
    brought = {one.field: _codes(one.answer) for one in (said.right.htcds if said.right else None) or ()}
    return Said(
        facts.occurred_at,
        None,
        (),
        {name: codes for name, codes in brought.items() if name in counted_fields()},
        _NOTHING,
        False,
        said.evt,
        tuple(path.removeprefix("htcds.") for path in said.fields if path.startswith("htcds.")),
    )


def _corrected(moving: Sequence[Told]) -> list[Said]:
    """What each event said, as corrected by its own sender since."""
    found: list[Said] = []
    for one in moving:
        if one.said is None or one.said.corrects is not None:
            continue
        said = one.said
        for other in moving:
            if other.said is None or other.peer != one.peer or not one.ident.endswith(f"/{other.said.corrects}"):
                continue
            kept = {name: codes for name, codes in said.htcds.items() if name not in other.said.wrong}
            said = replace(said, htcds={**kept, **other.said.htcds})
        found.append(said)
    return found


def _codes(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def entries(story: Story, now: datetime) -> tuple[Entry, ...]:
    """Every thread that something of is known, in the order in which they were opened."""
    of_thread: dict[str, list[Told]] = {}
    for one in story.told:
        of_thread.setdefault(one.thread, []).append(one)
    found = [_entry(thread, of_thread[thread.id], now) for thread in story.threads if thread.id in of_thread]
    return tuple(sorted(found, key=lambda one: (one.opened_at, one.thread)))


def _entry(thread: Thread, told: Sequence[Told], now: datetime) -> Entry:
    # Of one second, what began the thread comes first; else what came before what we sent.
    told = sorted(told, key=lambda one: (one.at, not one.ident.endswith(thread.opened_by)))
    moving = [one for one in told if EVENTS[one.type].machine is not None] or told
    first = next((one for one in moving if one.ident.endswith(thread.opened_by)), moving[0])
    last = moving[-1]
    said = _corrected(moving)
    htcds: dict[str, tuple[str, ...]] = {}
    file: dict[str, tuple[str, ...]] = {}
    for each in said:  # the last word counts
        htcds.update(each.htcds)
        file.update(each.file)
    deadline = None if thread.answer_by is None else datetime.fromtimestamp(thread.answer_by, UTC)
    return Entry(
        thread=thread.id,
        type=first.type,
        sent=thread.role == "initiator",
        peer=thread.peer,
        person=thread.person,
        machine=thread.machine,
        state=thread.state,
        priority=next((each.priority for each in said if each.priority), None) or _priority(first, thread),
        services=next((each.services for each in said if each.services), ()),
        opened_at=first.at,
        occurred_at=None if first.said is None else first.said.occurred_at,
        last_at=last.at,
        last_type=last.type,
        answer_by=deadline,
        overdue=deadline is not None and deadline < now and _unanswered(thread),
        crossed=thread.crossed,
        late=any(one.late for one in told),
        htcds=htcds,
        file=file,
        taken_over=next((one.at for one in told if one.said is not None and one.said.taken_over), None),
    )


def _unanswered(thread: Thread) -> bool:
    """Whether an answer is still awaited: where the request may expire, or is as it was when it came."""
    steps = lifecycle.MACHINES[thread.machine].steps
    if any(event.endswith(".expired") for event in lifecycle.next_events(thread.machine, thread.state, "initiator")):
        return True
    first = {step.state for (before, _, _), step in steps.items() if before is None}
    return thread.state in first and not lifecycle.MACHINES[thread.machine].states[thread.state].final


def _priority(first: Told, thread: Thread) -> str | None:
    """Of what we sent ourselves: the priority whose deadline it has."""
    rule = policy().events.get(first.type)
    if rule is None or thread.answer_by is None or not first.sent:
        return None
    within = thread.answer_by - first.at.timestamp()
    near = [name for name, seconds in rule.answer_within_s.items() if abs(seconds - within) <= _CLOCK_S]
    return near[0] if len(near) == 1 else None


def views_of(agency: Agency) -> tuple[View, ...]:
    """What an agency with these roles is shown, as the policy has it; () where there is nothing of its own."""
    roles, rules = set(agency.roles), policy()
    if roles & rules.law_enforcement:
        return ("investigations",)
    assists = {
        role for rule in rules.events.values() if rule.flow in ("case", "referral") for role in (*rule.sender, *rule.to)
    } - rules.law_enforcement
    found: list[View] = []
    if roles & (assists - rules.mailboxes.get("statistics", frozenset())):
        found.append("cases")
    if roles & rules.mailboxes.get("statistics", frozenset()):
        found.append("flows")
    return tuple(found)


def cases(story: Story, now: datetime) -> tuple[Entry, ...]:
    """An assisting agency's cases and referrals, sent and received."""
    return tuple(
        one for one in entries(story, now) if EVENTS[one.type].flow in ("case", "referral", "bilateral", "alert")
    )


def investigations(story: Story, now: datetime) -> tuple[Entry, ...]:
    """The registry of trafficking cases of police or judiciary: whom they identified, and what they investigate."""
    return tuple(
        one for one in entries(story, now) if one.type == "case.identified" or EVENTS[one.type].flow == "investigation"
    )


def flows(story: Story) -> tuple[Flow, ...]:
    """How often each event was sent and received, by half-year. No threads, no persons, no peers."""
    counts: dict[tuple[str, str, bool], int] = {}
    for one in story.told:
        key = (period_of(one.at.date()), one.type, one.sent)
        counts[key] = counts.get(key, 0) + 1
    return tuple(Flow(*key, count) for key, count in sorted(counts.items()))
