# SPDX-License-Identifier: Apache-2.0
"""Consent withdrawn: every holder told, each passing it on to its own, each confirming when all of those have.

    withdraw (a person's own word) or consent.withdrawn (another agency's)
        -> what is not signed yet is taken back, what is signed and not known to be in the log is stopped
        -> consent.withdrawn to everybody with whom we shared her, also where something stopped had left after all
        -> consent.acknowledged from each -> our own consent.acknowledged to who told us: how many, never who

A withdrawal of sharing stops what is new (`ConsentBook.require`, asked by the outbox) and leaves a running service as
it is; only one of the service ends it. What was read cannot be unread: the words of the commands say so.

Each public method is one transaction, with the records that it enqueues; two agencies that share the same person with
each other do not wait for each other, since who has been told already is not told again.

Must never: say who the onward holders are; tell a guardian, or anybody but agencies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from adapters.connectors.contract import Draft
from adapters.consent_book import ConsentBook, Told, Withdrawal
from adapters.desk import Desk
from adapters.mailbox_rows import Incoming, Thread
from adapters.outbox import Outbox
from adapters.stopped_book import Stopped, StoppedBook
from schemas import lifecycle
from schemas.claims import Claims
from schemas.errors import OrderError, PolicyError, UmuhuzaError
from schemas.forms import Facts
from schemas.plain.consent import MOST_ONWARD, ConsentAcknowledged, ConsentWithdrawn, WithdrawalScope


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What came of a withdrawal here."""

    number: int
    told: tuple[Told, ...]
    taken_back: tuple[str, ...]
    """`evt`s that had not been signed and never leave."""
    stopped: tuple[str, ...] = ()
    """`evt`s that were signed and are not sent any more; the log will say of each whether it had left."""


class Consents:
    """See the module's docstring. Used from one event loop."""

    def __init__(self, desk: Desk, outbox: Outbox) -> None:
        self._desk = desk
        self._outbox = outbox
        self.book = ConsentBook(desk.mailbox)
        self._stopped = StoppedBook(desk.mailbox)

    def withdraw(self, person: str, scope: WithdrawalScope) -> Withdrawn:
        """The person withdraws, here, where she gave it.

        Raises:
            OrderError: `thread_unknown`, path `person`: nothing of anybody by that reference.
        """
        if not self.book.knows(person):
            raise OrderError("thread_unknown", "person")
        with self._desk.mailbox.transaction():
            number = self.book.withdraw(person, scope, int(self._desk.now()))
            taken_back, stopped = self._pass_on(number, person, scope, None)
            return Withdrawn(number, tuple(self.book.told(number)), taken_back, stopped)

    def check(self, thread: str, claims: Claims | None) -> None:
        """Nothing new is taken on a consent from whoever told us that it was withdrawn: its own adapter should not have
        sent it.

        Raises PolicyError: `consent_withdrawn`.
        """
        if claims is None or claims.consent is None:
            return
        if self.book.taken_from(thread, int(claims.consent.given_at.timestamp())):
            raise PolicyError("consent_withdrawn", "lawful.consent.given_at")

    def withdrawn(self, item: Incoming, said: ConsentWithdrawn, said_at: datetime) -> None:
        """Another agency tells us. Inside the transaction that takes its record.

        On a thread on which no service runs (a case), it can only withdraw sharing, whatever it says: a machine ends no
        bed on the word of somebody who does not serve her. A person here reads what was asked for.
        """
        thread = self._desk.mailbox.thread(item.thread)
        serves = thread is not None and "consent.withdrawn/service" in lifecycle.MACHINES[thread.machine].events
        scope = said.scope if serves else "sharing"
        when = min(int(said_at.timestamp()), item.at_ms // 1000)
        number = self.book.told_to_withdraw(item.thread, item.evt, scope, int(self._desk.now()), when)
        self._follow(self.book.withdrawal(number))

    def acknowledged(self, item: Incoming, said: ConsentAcknowledged) -> None:
        """A holder confirms. Inside the transaction that takes its record."""
        if item.ref is None:
            return
        number = self.book.confirm(item.ref, item.iss, said.onward_confirmed, int(self._desk.now()))
        if number is not None:
            self._answer(self.book.withdrawal(number))

    def link(self, thread: str, person: str) -> None:
        """That thread is about this person of ours. What was on hold for it goes on.

        Raises:
            OrderError: `thread_unknown`, path `thread`.
        """
        box = self._desk.mailbox
        with box.transaction():
            found = box.thread(thread)
            if found is None:
                raise OrderError("thread_unknown", "thread")
            box.put_thread(replace(found, person=person), int(self._desk.now()))
            self.catch_up()

    def catch_up(self) -> int:
        """Withdrawals on hold whose thread has been linked to a person since go on, and those of which it is known now
        whether what they stopped had left. Returns how many."""
        moved = 0
        for found in self._stopped.found_out():
            with self._desk.mailbox.transaction():
                self._settle(found)
            moved += 1
        for one in self.book.waiting_for_a_person():
            if one.person is not None:
                with self._desk.mailbox.transaction():
                    self._follow(one)
                moved += 1
        return moved

    def _follow(self, one: Withdrawal) -> None:
        if one.person is None and one.thread is not None and self.book.may_have_passed_on(one.thread):
            return  # whether it was she whom we passed on, a person has to say
        if one.person is not None:
            self._pass_on(one.n, one.person, one.scope, one.thread)
        else:
            self.book.mark_passed_on(one.n)
        self._answer(self.book.withdrawal(one.n))

    def _settle(self, found: Stopped) -> None:
        """Whoever holds what had left after all is told; what never left needs nobody to be told."""
        one = self.book.withdrawal(found.withdrawal)
        thread = self._stopped.thread_of(found.evt, one.person) if found.left else None
        if thread is not None and _rests_on_consent(thread) and not self.book.already_told(thread.id, one.scope):
            self._tell(one.n, thread, one.scope)
        self._stopped.settle(found.evt)
        self._answer(self.book.withdrawal(one.n))

    def _stop(self, number: int, person: str) -> tuple[str, ...]:
        """What the network may or may not have taken with it is not sent again: its number is void."""
        box, now = self._desk.mailbox, int(self._desk.now())
        stopped: list[str] = []
        for item in self._stopped.signed(person):
            for evt in self._stopped.waiting_behind(item):
                box.take_back(evt, now)
            if self._stopped.stop(item, number):
                stopped.append(item.evt)
        return tuple(stopped)

    def _pass_on(
        self, number: int, person: str, scope: WithdrawalScope, but: str | None
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(taken back, stopped)."""
        box, now = self._desk.mailbox, int(self._desk.now())
        taken_back = tuple(evt for unsent in self.book.unsent(person) for evt in box.take_back(unsent, now))
        stopped = self._stop(number, person)
        for holder in self.book.holders(now, person):
            thread = box.thread(holder.thread)
            if thread is None or thread.id == but or not _rests_on_consent(thread):
                continue
            if not self.book.already_told(thread.id, scope):
                self._tell(number, thread, scope)
        self.book.mark_passed_on(number)
        return taken_back, stopped

    def _tell(self, number: int, thread: Thread, scope: WithdrawalScope) -> None:
        """Where no service runs (it was declined, is over, was revoked) there is only sharing to withdraw."""
        offered = lifecycle.next_events(thread.machine, thread.state, thread.role)
        if not {"consent.withdrawn", f"consent.withdrawn/{scope}"}.intersection(offered):
            scope = "sharing"
        draft = Draft(
            line=thread.id,
            to=thread.peer,
            type="consent.withdrawn",
            person=None,
            thread=thread.id,
            # When she withdrew, not when a thread was linked: a consent given since then stands.
            facts=Facts(
                occurred_at=datetime.fromtimestamp(self.book.withdrawal(number).at, UTC),
                said=ConsentWithdrawn(scope=scope),
            ),
        )
        evt, code = self._send(draft, f"withdrawal-{number}")
        self.book.note_told(number, thread.id, thread.peer, scope, evt, code)

    def _answer(self, one: Withdrawal) -> None:
        """Once everybody behind us has confirmed, we do."""
        told = self.book.told(one.n)
        if one.thread is None or one.answered or not one.passed_on or any(each.confirmed_at is None for each in told):
            return
        if self._stopped.unsettled(one.n):
            return  # somebody may hold it
        thread = self._desk.mailbox.thread(one.thread)
        if thread is None:
            return
        # Each holder's number is its own word: no sum of them may be more than our own word can say.
        onward = min(MOST_ONWARD, sum(1 + (each.onward or 0) for each in told))
        draft = Draft(
            line=thread.id,
            to=thread.peer,
            type="consent.acknowledged",
            person=None,
            thread=thread.id,
            facts=Facts(
                occurred_at=self._desk.today(), said=ConsentAcknowledged(scope=one.scope, onward_confirmed=onward)
            ),
            ref=one.evt,
        )
        evt, _ = self._send(draft, f"confirmation-{one.n}")
        if evt is not None:
            self.book.mark_answered(one.n, evt)

    def _send(self, draft: Draft, source: str) -> tuple[str | None, str | None]:
        """(evt, None), or (None, why not): nobody to tell any more is shown, and stops nobody else from being told."""
        try:
            with self._desk.mailbox.attempt():
                return self._outbox.compose(draft, source, ""), None
        except UmuhuzaError as exc:
            if exc.retriable:
                raise
            return None, exc.code


def _rests_on_consent(thread: Thread) -> bool:
    """Alerts and what courts ordered never did: there is nothing on such a thread that she could withdraw."""
    return any(event.startswith("consent.withdrawn") for event in lifecycle.MACHINES[thread.machine].events)
