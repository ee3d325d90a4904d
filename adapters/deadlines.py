# SPDX-License-Identifier: Apache-2.0
"""Deadlines: who should have answered, who should have arrived, whom to telephone; and what the adapter does about it.

The deadline of a referral or a transfer is decided in one place, the initiator's mailbox, by the log's time:

    answered   what stands in the log before `answer_by` is in time, however late it arrives here: nothing expires
               before our mailbox has been read to an end that the log had after the deadline
    expired    nothing stands there: the initiator's adapter sends `referral.expired` by itself, in the transaction that
               moves the thread, so that a crash does it once or not yet; before its time nobody sends it, and no reader
               takes it
    too late   an acceptance logged after the deadline is one after an expiry, whichever is read first here; a person
               confirms it (`referral.reopened`) or revokes. A shelter without power must not lose a person her bed

Where machines are silent, people telephone: a peer of which nothing was seen for hours though something waits for it;
our own gateway, when it has not answered for as long; a record that the log has and that its recipient, though alive,
never said to have, louder once its time in the log is over (retention removes none of these); what the other country
has refused in writing.

Nothing here counts time in memory: what is due is asked of the mailbox at every turn, so a timer is right after a
restart and after days offline. The time is `Desk.now`, corrected by the gateway's clock; only expiries wait for the log
itself, notices do not.

Must never: expire what may have been answered; name or describe anybody (a notice says which thread, about which event,
why); be the only channel where somebody is in danger: that is what the notices are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, cast

from adapters import access
from adapters.connectors.contract import (
    REFUSED_TOLD_S,
    Connector,
    Draft,
    Escalation,
    EscalationKind,
    HearsContacts,
    HearsEscalations,
    LastContact,
    NotNowError,
)
from adapters.contact_book import ContactBook
from adapters.desk import Desk
from adapters.mailbox import Mailbox
from adapters.mailbox_dues import Awaited
from adapters.mailbox_rows import Thread
from adapters.outbox import Outbox
from schemas import lifecycle
from schemas.envelope import mailbox_topic, split_topic
from schemas.errors import PolicyError, RegistryError, UmuhuzaError
from schemas.event_types import THREAD_FLOW
from schemas.forms import Facts
from topics.catalogue import retention_s
from topics.log import Log, ends_of
from topics.policy_file import policy

SILENT_AFTER_S = 4 * 3600
"""Nothing was seen of a peer for so long while something waits for it: telephone."""
ARRIVAL_GRACE_S = 3600
"""So long after she was expected an arrival that nobody reported alarms, unless the settings say otherwise."""
SLACK_S = 60
"""The gateway's clock and the log's may differ by so much: an expiry is not decided before."""
AGAIN_AFTER_S = 6 * 3600
"""An expiry that was refused for good (a role was taken away by mistake) is not tried again before."""
UNACKNOWLEDGED_AFTER_S = 86_400
"""A machine that was heard since, and has not acknowledged a record of ours for so long: something is wrong there."""
LATE = "late-acceptance"
ACCESS = ("access", "requested")
"""Machine and state in which a person waits for the answer of a holder, ours or another."""
_STILL_EXPECTED = "expired"
"""A final state in which she may yet be on her way: she left before the answer that never came."""
_OPEN = tuple(
    sorted(
        {LATE}.union(
            state
            for name, machine in lifecycle.MACHINES.items()
            for state in machine.states
            if machine.expiry in lifecycle.next_events(name, state, "initiator")
        )
    )
)
"""States in which a deadline still means something."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is wrong now. As content-free as an `Escalation`."""

    kind: EscalationKind | Literal["telephone", "cut-off"]
    peer: str
    thread: str
    """Empty for `telephone`, which is about a peer, and for `cut-off`, which is about our own gateway (no peer)."""
    evt: str
    due_at: int
    """When it fell due; for `telephone` when the peer was last seen, or began to be waited for; for `cut-off` when the
    gateway last answered."""


def awaits_answer(thread: Thread) -> bool:
    """Whether it is ours to let it expire: its initiator may, in the state in which it is."""
    expiry = lifecycle.MACHINES[thread.machine].expiry
    return thread.role == "initiator" and expiry in lifecycle.next_events(thread.machine, thread.state, "initiator")


def logged_too_late(thread: Thread, at_ms: int) -> bool:
    """By the log's time (milliseconds since the epoch) of what came on the thread."""
    return thread.answer_by is not None and at_ms > thread.answer_by * 1000


def alarms(box: Mailbox, now: float, grace_s: float = ARRIVAL_GRACE_S) -> list[Alarm]:
    """Everything that is overdue at `now` (seconds since the epoch), the first due first."""
    found: list[Alarm] = []
    waits_since = box.dues.unacknowledged()
    for awaited in box.dues.awaited(_OPEN):
        thread = box.thread(awaited.thread)
        if thread is None:
            continue
        half = (awaited.asked_at + awaited.answer_by) // 2
        if thread.state == LATE:
            found.append(Alarm("late-acceptance", thread.peer, thread.id, thread.opened_by, awaited.answer_by))
        elif awaits_answer(thread) and now >= half:
            kind: EscalationKind = "overdue" if now >= awaited.answer_by else "half"
            due_at = awaited.answer_by if kind == "overdue" else half
            found.append(Alarm(kind, thread.peer, thread.id, thread.opened_by, due_at))
            if awaited.logged_at is not None:
                waits_since[thread.peer] = min(half, waits_since.get(thread.peer, half))
    for asked, peer, evt, at in box.dues.standing(*ACCESS):
        if now >= access.due_at(at):
            found.append(Alarm("overdue", peer, asked, evt, access.due_at(at)))
    for owed, peer, evt, at in box.dues.owed(*ACCESS):
        due = access.due_at(at)
        if now >= (at + due) // 2:
            late: EscalationKind = "owed-overdue" if now >= due else "owed"
            found.append(Alarm(late, peer, owed, evt, due if late == "owed-overdue" else (at + due) // 2))
    for journey in box.dues.journeys():
        thread = box.thread(journey.thread)
        if thread is None or (
            lifecycle.MACHINES[thread.machine].states[thread.state].final and thread.state != _STILL_EXPECTED
        ):
            continue
        if now >= journey.expected_at + grace_s:
            found.append(Alarm("not-arrived", thread.peer, thread.id, journey.evt, journey.expected_at))
    found += _undelivered(box, now)
    for one in box.dues.not_taken_abroad(int(now) - REFUSED_TOLD_S):
        told: EscalationKind = "refused-abroad" if one.final else "held-abroad"
        found.append(Alarm(told, one.peer, one.thread, one.evt, one.heard_at))
    for peer, since in box.dues.unsent().items():
        waits_since[peer] = min(since, waits_since.get(peer, since))
    for peer, since in waits_since.items():
        seen = max(since, box.dues.last_seen(peer) or since)
        if now - seen >= SILENT_AFTER_S:
            found.append(Alarm("telephone", peer, "", "", seen))
    way = ContactBook(box).way()
    if way is not None and way.code and way.reached_at is not None and now - way.reached_at >= SILENT_AFTER_S:
        found.append(Alarm("cut-off", "", "", "", way.reached_at))
    return sorted(found, key=lambda alarm: (alarm.due_at, alarm.kind, alarm.thread, alarm.peer))


def _undelivered(box: Mailbox, now: float) -> Iterator[Alarm]:
    for one in box.dues.undelivered(int(now) - UNACKNOWLEDGED_AFTER_S):
        flow = split_topic(one.topic)[0]
        over = one.logged_at + retention_s(flow) if flow in policy().retention_days else None
        if over is not None and now >= over:
            yield Alarm("undelivered", one.peer, one.thread, one.evt, over)
        elif (box.dues.last_seen(one.peer) or 0) > one.logged_at:
            # Of a machine that was not heard since, the alarm `telephone` tells already.
            yield Alarm("unacknowledged", one.peer, one.thread, one.evt, one.logged_at + UNACKNOWLEDGED_AFTER_S)


def contacts(box: Mailbox, now: float, standing: Sequence[Alarm]) -> list[LastContact]:
    """When everybody was last heard, our own gateway first, and whom to telephone: for people to look at.

    Args:
        standing: what `alarms` found.
    """
    silent = {alarm.peer: alarm.due_at for alarm in standing if alarm.kind in ("telephone", "cut-off")}
    book = ContactBook(box)
    way = book.way()
    own = LastContact("", None if way is None else way.reached_at, silent.pop("", None))
    return [own, *book.contacts(now, silent)]


def expire(desk: Desk, outbox: Outbox, thread: Thread) -> bool:
    """Send `referral.expired` in the caller's transaction, which moves the thread too. False: it cannot be said now.

    Raises UmuhuzaError: a retriable one (our own disk).
    """
    return _say(desk, outbox, thread, lifecycle.MACHINES[thread.machine].expiry)


def expires_first(desk: Desk, outbox: Outbox, thread: Thread, at_ms: int, after: str) -> bool:
    """Let the thread expire before what came on it, in the transaction that takes this, if the log had it too late.

    Whatever stands in our mailbox before it has been taken, so there was no answer in time. Not for what ends the
    thread anyway (`after`, the state it leads to): a late no is a no.

    Returns whether the thread is expired now. Raises UmuhuzaError: a retriable one.
    """
    if not awaits_answer(thread) or not logged_too_late(thread, at_ms):
        return False
    return not lifecycle.MACHINES[thread.machine].states[after].final and expire(desk, outbox, thread)


def confirm(desk: Desk, outbox: Outbox, thread: Thread) -> bool:
    """Confirm a late acceptance that stands in the log in time, in the transaction that takes it. As `expire`."""
    return _say(desk, outbox, thread, lifecycle.MACHINES[thread.machine].reopening)


def _say(desk: Desk, outbox: Outbox, thread: Thread, type: str | None) -> bool:
    if type is None:
        return False
    refused = desk.mailbox.dues.last_refused(thread.id, type)
    if refused is not None and 0 <= desk.now() - refused < AGAIN_AFTER_S:
        return False
    draft = Draft(f"{thread.id} {refused or ''}", thread.peer, type, None, thread.id, Facts(occurred_at=desk.today()))
    try:
        with desk.mailbox.attempt():
            outbox.compose(draft, f"deadline {type}", "")
    except (PolicyError, RegistryError) as exc:
        if exc.retriable:
            raise
        return False  # the peer has left, or its keys were revoked: there is nobody to tell
    return True


class Deadlines:
    """The turn that looks at the clock. Owns no durable state; used from one event loop."""

    def __init__(
        self,
        desk: Desk,
        outbox: Outbox,
        grace_s: float = ARRIVAL_GRACE_S,
        on_escalation: Callable[[Escalation], None] = lambda _escalation: None,
    ) -> None:
        self._desk = desk
        self._outbox = outbox
        self._grace_s = grace_s
        self._on_escalation = on_escalation
        self._ends: dict[str, tuple[str, int]] = {}
        """Thread -> (log, offset) to read to before it may expire: an end that the log had after the deadline."""

    def alarms(self) -> list[Alarm]:
        return alarms(self._desk.mailbox, self._desk.now(), self._grace_s)

    async def turn(self, log: Log, step: Callable[[str], None]) -> int:
        """Raise what has become due, let expire what nobody answered. Returns how many threads expired.

        Raises UmuhuzaError: a retriable one of our own disk; the log's are none of ours: another turn tells them.
        """
        overdue = self._overdue()
        unread = await self._unread(log, overdue)
        self._raise(but={awaited.thread for awaited in unread})
        step("escalated")
        count = 0
        for awaited in overdue:
            if awaited not in unread and awaited.logged_at is not None:
                count += self._decide(log, awaited)
                step("expired")
        return count

    def _overdue(self) -> list[Awaited]:
        found = []
        for awaited in self._desk.mailbox.dues.awaited(_OPEN):
            if awaited.answer_by + SLACK_S > self._desk.now():
                break  # the first due first
            thread = self._desk.mailbox.thread(awaited.thread)
            if thread is not None and awaits_answer(thread):
                found.append(awaited)
        self._ends = {thread: self._ends[thread] for thread in self._ends.keys() & {one.thread for one in found}}
        return found

    async def _unread(self, log: Log, overdue: Sequence[Awaited]) -> list[Awaited]:
        """Those whose answer may stand in the log, and the log can be asked: nothing is said about them yet."""
        if not overdue:
            return []
        threads = {one.thread: thread for one in overdue if (thread := self._desk.mailbox.thread(one.thread))}
        topics = {
            name: mailbox_topic(THREAD_FLOW[thread.machine], self._desk.agency) for name, thread in threads.items()
        }
        try:
            if not log.log_id:
                # Over HTTP the first answer brings the right time: by it, perhaps nothing is due.
                await log.ends(next(iter(topics.values())))
                return list(overdue)
            ends = await ends_of(log, sorted(set(topics.values())))
        except UmuhuzaError:
            self._ends.clear()
            return []
        log_id = log.log_id
        unread = []
        box = self._desk.mailbox
        for awaited in overdue:
            topic = topics[awaited.thread]
            known, end = self._ends.get(awaited.thread, ("", 0))
            if known != log_id:
                end = ends[topic].next
                self._ends[awaited.thread] = (log_id, end)
            if box.arrivals.cursor(log_id, topic) + 1 < end or box.dues.is_held(awaited.thread):
                unread.append(awaited)
        return unread

    def _raise(self, but: set[str]) -> None:
        dues, now = self._desk.mailbox.dues, int(self._desk.now())
        with self._desk.mailbox.transaction():
            dues.forget_notices_after(now)
            for alarm in self.alarms():
                if alarm.thread and not (alarm.kind in ("half", "overdue") and alarm.thread in but):
                    dues.notice(alarm.thread, alarm.kind, alarm.evt, alarm.due_at, now)
            for thread, about in dues.paid(ACCESS[1]):
                dues.notice(thread, "answered", about, now, now)

    def _decide(self, log: Log, awaited: Awaited) -> bool:
        box = self._desk.mailbox
        known = self._ends.get(awaited.thread)
        if known is None or known[0] != log.log_id:
            return False  # the log could not be asked
        with box.transaction():
            thread = box.thread(awaited.thread)
            if thread is None or not awaits_answer(thread) or box.dues.is_held(thread.id):
                return False
            return expire(self._desk, self._outbox, thread)

    async def tell(self, connectors: Sequence[Connector]) -> None:
        """Every notice once to whoever can call a person, again where that failed; and who is silent, every time."""
        box = self._desk.mailbox
        known = contacts(box, self._desk.now(), self.alarms())
        for connector in connectors:
            if isinstance(connector, HearsContacts):
                with suppress(NotNowError):
                    await connector.contacts(known)
        for notice in box.dues.untold_notices():
            thread, item = box.thread(notice.thread), box.outgoing(notice.about)
            kind = cast("EscalationKind", notice.kind)
            if thread is not None:
                peer = thread.peer
            elif kind == "refused-abroad" and item is not None:
                peer = item.peer  # with its request, the thread was never there
            else:
                box.dues.mark_notice_told(notice.n)  # the request it was about was taken back
                continue
            escalation = Escalation(kind, notice.thread, notice.about, peer, notice.due_at)
            try:
                for connector in connectors:
                    if isinstance(connector, HearsEscalations):
                        await connector.escalated(escalation)
            except NotNowError:
                continue
            self._on_escalation(escalation)
            box.dues.mark_notice_told(notice.n)
