# SPDX-License-Identifier: Apache-2.0
"""What this agency knows of consent: what it shared with whom and on which basis, who withdrew, who confirmed.

Tables of the mailbox's own file, written in the transactions of its outbox and inbox, so that they say what those say.
Codes, times and ids only: which person is the mailbox's own reference; nothing here names her.

Must never: send anything (`adapters.consents` does), keep a value of hers, or lose that a consent was withdrawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from adapters.mailbox import Mailbox
from adapters.mailbox_rows import STOPPED
from schemas import lifecycle
from schemas.claims import Claims
from schemas.errors import PolicyError
from schemas.forms import Facts, Lawful
from schemas.plain.consent import ConsentGranted, WithdrawalScope
from schemas.plain.record import RecordCorrected
from schemas.whom import Age, age_told, referral_of

REPRESENTATIVE_WITHIN_S = 72 * 3600
"""For a child without a guardian, from the record; to be confirmed by counsel."""


@dataclass(frozen=True, slots=True)
class Holder:
    """One agency that holds something of one person because we shared it, by the thread on which we did."""

    person: str | None
    """Our own reference; None while the thread is linked to nobody."""
    thread: str
    peer: str
    basis: str
    """Of what was shared last."""
    given_at: int | None
    """Of the consent; seconds since the epoch. None: another basis."""
    expires_at: int | None
    scope: tuple[str, ...]
    state: str | None
    """Of `lifecycle.MACHINES["consent"]`; None: shared on another basis than consent."""
    child_assent: str | None


@dataclass(frozen=True, slots=True)
class Whom:
    """What a thread has said last of the person whom it concerns."""

    age: Age
    """`unknown` also where it was never said."""
    guardian: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """One holder who was told of a withdrawal."""

    withdrawal: int
    evt: str | None
    """Of our `consent.withdrawn`; None: it could not be sent."""
    thread: str
    peer: str
    scope: WithdrawalScope
    """`sharing` also where the service was withdrawn but none runs."""
    code: str | None
    """Why it could not be sent."""
    confirmed_at: int | None
    onward: int | None
    """With how many more."""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    n: int
    person: str | None
    scope: WithdrawalScope
    at: int
    thread: str | None
    """The thread on which we were told; None: the person told us herself."""
    evt: str | None
    passed_on: bool
    """False: on hold until the thread is linked to a person, since we may have passed her on."""
    answered: str | None
    """The `evt` of our own confirmation."""


@dataclass(frozen=True, slots=True)
class Due:
    """A child without guardian or representative."""

    person: str | None
    thread: str
    peer: str
    due_at: int
    """Seconds since the epoch."""


_NOT_SENT = "('refused', 'cancelled')"


class ConsentBook:
    """See the module's docstring. As safe to share as its mailbox."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    # -- what was shared ----------------------------------------------------------------------------------------------

    def note(
        self,
        type: str,
        claims: Claims | None,
        facts: Facts,
        *,
        evt: str,
        thread: str,
        peer: str,
        at: int,
        incoming: bool = False,
    ) -> None:
        """Remember what a record shares; nothing when it shares nothing. `at`: seconds since the epoch."""
        lawful, limited = facts.lawful, False
        if isinstance(facts.said, ConsentGranted):
            lawful = Lawful(basis="consent", consent=facts.said.consent)
            limited = facts.said.extent == "limited"
        elif claims is None or lawful is None:
            return
        referral = referral_of(facts)
        if referral is not None:
            limited = bool(referral.told_and_refused)
        caregiver = facts.caregiver if referral is None else referral.caregiver
        consent = lawful.consent
        safeguards = None if claims is None else claims.safeguards
        guardian = None if safeguards is None else safeguards.guardian
        if guardian is None and _shows_a_child(facts) and not self._has_guardian(thread):
            guardian = "pending"  # she was shared as an adult
        self._box.change(
            "INSERT INTO shared VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            evt,
            peer,
            int(incoming),
            thread,
            type,
            lawful.basis,
            None if consent is None else int(consent.given_at.timestamp()),
            None if consent is None else int(consent.expires_at.timestamp()),
            None if consent is None else " ".join(consent.scope),
            int(limited),
            guardian,
            None if caregiver is None else caregiver.child_assent,
            at,
            age_told(facts) if safeguards is None else safeguards.age,
        )

    def whom(self, thread: str, facts: Facts) -> Whom:
        """Whom an event concerns that goes on a thread, or has come on it: as it says itself, else as was said last."""
        said = self._box.query(
            "SELECT shared.age, shared.guardian FROM shared LEFT JOIN outgoing ON outgoing.evt = shared.evt"
            " WHERE shared.thread = ? AND (shared.incoming = 1 OR outgoing.state NOT IN"
            f" {_NOT_SENT}) ORDER BY shared.at, shared.rowid",
            thread,
        )
        ages = [age for age, _ in said if age is not None]
        guardians = [guardian for _, guardian in said if guardian is not None]
        age = age_told(facts) or (cast("Age", ages[-1]) if ages else "unknown")
        return Whom(age, str(guardians[-1]) if guardians else None)

    def _has_guardian(self, thread: str) -> bool:
        """Whether something shared on that thread, or of the person it is linked to, named a guardian or her lack."""
        sql = (
            "SELECT 1 FROM shared JOIN thread AS its ON its.id = shared.thread WHERE shared.guardian IS NOT NULL"
            " AND (its.id = ?1 OR its.person = (SELECT person FROM thread WHERE id = ?1)) LIMIT 1"
        )
        return bool(self._box.query(sql, thread))

    def holders(self, now: int, person: str | None = None) -> list[Holder]:
        """Who holds what we shared, by person and thread; `person`: of one only."""
        rows = self._box.query(
            "SELECT person.ref, shared.thread, shared.peer, shared.basis, shared.given_at, shared.expires_at,"
            " shared.scope, shared.limited, shared.assent, shared.at FROM shared JOIN thread ON thread.id ="
            " shared.thread LEFT JOIN person ON person.n = thread.person LEFT JOIN outgoing ON outgoing.evt ="
            " shared.evt WHERE shared.incoming = 0 AND thread.state <> 'retracted'"
            f" AND outgoing.state NOT IN {_NOT_SENT} AND shared.evt NOT IN {STOPPED}"
            " AND (?1 IS NULL OR person.ref = ?1)"
            " ORDER BY person.ref, thread.changed_at, shared.thread, shared.at, shared.rowid",
            person,
        )
        by_thread: dict[str, list[tuple[object, ...]]] = {}
        for row in rows:
            by_thread.setdefault(str(row[1]), []).append(row)
        found = []
        for thread, shared in by_thread.items():
            ref, _, peer, basis, given_at, expires_at, scope, *_ = shared[-1]
            assents = [row[8] for row in shared if row[8] is not None]
            found.append(
                Holder(
                    person=cast("str | None", ref),
                    thread=thread,
                    peer=str(peer),
                    basis=str(basis),
                    given_at=cast("int | None", given_at),
                    expires_at=cast("int | None", expires_at),
                    scope=tuple(str(scope or "").split()),
                    state=self._state(thread, shared, now),
                    child_assent=None if not assents else str(assents[-1]),
                )
            )
        return found

    def _state(self, thread: str, shared: Sequence[tuple[object, ...]], now: int) -> str | None:
        """The consent machine's state towards one holder, from what was shared, withdrawn and what time it is."""
        told = [(int(at), str(scope)) for at, scope in self._withdrawn_from(thread)]
        state, at_last, ends = None, 0, 0
        for row in shared:
            given_at, expires_at, limited = row[4], row[5], row[7]
            if given_at is None or expires_at is None:
                continue
            since = cast("int", given_at)
            if state is not None and any(at_last <= at < since for at, _ in told):
                state = None  # she consented anew after she had withdrawn: another consent
            state = lifecycle.step(
                "consent", state, f"consent.granted/{'limited' if limited else 'full'}", "initiator"
            ).state
            at_last, ends = since, cast("int", expires_at)
        if state is None:
            return None
        if ends <= now:
            state = lifecycle.step("consent", state, "consent.expired", "initiator").state
        for at, scope in told:
            event = f"consent.withdrawn/{scope}"
            if at >= at_last and event in lifecycle.next_events("consent", state, "initiator"):
                state = lifecycle.step("consent", state, event, "initiator").state
        return state

    def _withdrawn_from(self, thread: str) -> list[tuple[int, str]]:
        return [
            (int(at), str(scope))
            for at, scope in self._box.query(
                "SELECT withdrawal.at, withdrawal.scope FROM told JOIN withdrawal ON withdrawal.n = told.withdrawal"
                " WHERE told.thread = ? ORDER BY withdrawal.n",
                thread,
            )
        ]

    # -- what may still be shared -------------------------------------------------------------------------------------

    def require(self, person: str | None, thread: str, facts: Facts) -> None:
        """After a withdrawal nothing new is shared on a consent that was given before it, with anybody.

        What rests on a legal duty or on vital interests does not rest on consent; it has its author and reason.

        Raises:
            PolicyError: `consent_withdrawn`, at the consent that was withdrawn since (a day without its time is its
                beginning); `consent_missing` at `lawful` where none is said.
        """
        row = self._box.query(
            "SELECT max(withdrawal.at) FROM withdrawal LEFT JOIN thread ON thread.id = withdrawal.thread"
            " LEFT JOIN person ON person.n = coalesce(withdrawal.person, thread.person)"
            " WHERE person.ref = ? OR withdrawal.thread = ?",
            person,
            thread,
        )
        withdrawn_at = row[0][0]
        if withdrawn_at is None:
            return
        lawful, path = facts.lawful, "lawful.consent.given_at"
        consent = None if lawful is None else lawful.consent
        if isinstance(facts.said, ConsentGranted):
            consent, path = facts.said.consent, "said.consent.given_at"
        elif lawful is None:
            raise PolicyError("consent_missing", "lawful")
        elif lawful.basis != "consent":
            return
        if consent is None:
            raise PolicyError("consent_missing", path)
        if int(consent.given_at.timestamp()) <= withdrawn_at:
            raise PolicyError("consent_withdrawn", path)

    # -- withdrawals --------------------------------------------------------------------------------------------------

    def given_at(self, evt: str) -> int | None:
        """When the consent was given on which we shared that event."""
        rows = self._box.query("SELECT given_at FROM shared WHERE evt = ? AND incoming = 0", evt)
        return None if not rows or rows[0][0] is None else int(rows[0][0])

    def taken_from(self, thread: str, given_at: int) -> bool:
        """Whether who shares with us on that thread told us since that this consent was withdrawn."""
        sql = "SELECT 1 FROM withdrawal WHERE thread = ? AND said_at >= ? LIMIT 1"
        return bool(self._box.query(sql, thread, given_at))

    def expired(self, evt: str, now: float) -> bool:
        """Whether what we share in that event rests on a consent that has run out since."""
        sql = "SELECT 1 FROM shared WHERE evt = ? AND incoming = 0 AND basis = 'consent' AND expires_at <= ?"
        return bool(self._box.query(sql, evt, now))

    def withdraw(self, person: str, scope: WithdrawalScope, at: int) -> int:
        """She told us herself. Returns the withdrawal's number.

        It ends every consent that we have shared on, also one dated later than now: a clock was wrong, and she knows
        better.
        """
        rows = self._box.query(
            "SELECT max(shared.given_at) FROM shared JOIN thread ON thread.id = shared.thread JOIN person ON person.n ="
            " thread.person WHERE shared.incoming = 0 AND person.ref = ?",
            person,
        )
        at = max(at, rows[0][0] or 0)
        return self._insert("(SELECT n FROM person WHERE ref = ?)", person, scope, at, None, None)

    def told_to_withdraw(self, thread: str, evt: str, scope: WithdrawalScope, at: int, said_at: int) -> int:
        """Another agency told us, on that thread. `said_at`: when she withdrew, as that agency has it."""
        number = self._insert("?", None, scope, at, thread, evt)
        self._box.change("UPDATE withdrawal SET said_at = ? WHERE n = ?", said_at, number)
        return number

    def _insert(
        self, person_sql: str, person: str | None, scope: str, at: int, thread: str | None, evt: str | None
    ) -> int:
        self._box.change(
            f"INSERT INTO withdrawal(person, scope, at, thread, evt) VALUES({person_sql}, ?, ?, ?, ?)",
            person,
            scope,
            at,
            thread,
            evt,
        )
        return int(self._box.query("SELECT max(n) FROM withdrawal")[0][0])

    def withdrawals(self, where: str = "1", *binds: object) -> list[Withdrawal]:
        rows = self._box.query(
            "SELECT withdrawal.n, person.ref, scope, at, withdrawal.thread, evt, passed_on, answered FROM withdrawal"
            " LEFT JOIN thread ON thread.id = withdrawal.thread"
            " LEFT JOIN person ON person.n = coalesce(withdrawal.person, thread.person)"
            f" WHERE {where} ORDER BY withdrawal.n",
            *binds,
        )
        return [
            Withdrawal(number, ref, scope, at, thread, evt, bool(passed_on), answered)
            for number, ref, scope, at, thread, evt, passed_on, answered in rows
        ]

    def withdrawal(self, n: int) -> Withdrawal:
        return self.withdrawals("withdrawal.n = ?", n)[0]

    def waiting_for_a_person(self) -> list[Withdrawal]:
        """Those on hold, see `Withdrawal.passed_on`."""
        return self.withdrawals("passed_on = 0")

    def mark_passed_on(self, n: int) -> None:
        self._box.change("UPDATE withdrawal SET passed_on = 1 WHERE n = ?", n)

    def mark_answered(self, n: int, evt: str) -> None:
        self._box.change("UPDATE withdrawal SET answered = ? WHERE n = ?", evt, n)

    def may_have_passed_on(self, thread: str) -> bool:
        """Whether anything was shared on another thread since the first record of this one arrived."""
        rows = self._box.query(
            "SELECT 1 FROM shared JOIN thread ON thread.id = shared.thread WHERE shared.incoming = 0"
            " AND shared.thread <> ?1 AND shared.at >= (SELECT min(at) FROM shared WHERE thread = ?1) LIMIT 1",
            thread,
        )
        return bool(rows)

    def unsent(self, person: str) -> list[str]:
        """What shares something of her on her consent and is not signed yet, the last first. What rests on a duty or on
        vital interests (an alert: she is missing) never rested on it, and goes."""
        rows = self._box.query(
            "SELECT shared.evt FROM shared JOIN thread ON thread.id = shared.thread JOIN person ON person.n ="
            " thread.person JOIN outgoing ON outgoing.evt = shared.evt WHERE shared.incoming = 0 AND person.ref = ?"
            " AND shared.basis = 'consent' AND outgoing.state = 'waiting' ORDER BY outgoing.n DESC",
            person,
        )
        return [str(evt) for (evt,) in rows]

    # -- who was told -------------------------------------------------------------------------------------------------

    def note_told(
        self, withdrawal: int, thread: str, peer: str, scope: WithdrawalScope, evt: str | None, code: str | None
    ) -> None:
        self._box.change(
            "INSERT INTO told(withdrawal, evt, thread, peer, scope, code) VALUES(?, ?, ?, ?, ?, ?)",
            withdrawal,
            evt,
            thread,
            peer,
            scope,
            code,
        )

    def already_told(self, thread: str, scope: WithdrawalScope) -> bool:
        """Whether that holder knows as much, and nothing was shared with it since."""
        rows = self._box.query(
            "SELECT 1 FROM told JOIN withdrawal ON withdrawal.n = told.withdrawal WHERE told.thread = ?1"
            " AND told.evt IS NOT NULL AND (withdrawal.scope = 'service' OR ?2 = 'sharing')"
            " AND withdrawal.at >= (SELECT max(at) FROM shared WHERE thread = ?1 AND incoming = 0) LIMIT 1",
            thread,
            scope,
        )
        return bool(rows)

    def told(self, withdrawal: int) -> list[Told]:
        rows = self._box.query(
            "SELECT withdrawal, evt, thread, peer, scope, code, confirmed_at, onward FROM told WHERE withdrawal = ?"
            " ORDER BY n",
            withdrawal,
        )
        return [Told(*row) for row in rows]

    def confirm(self, evt: str, peer: str, onward: int, at: int) -> int | None:
        """That holder's word on our withdrawal `evt`; the first counts. Returns the withdrawal's number or None."""
        rows = self._box.query(
            "SELECT withdrawal FROM told WHERE evt = ? AND peer = ? AND confirmed_at IS NULL", evt, peer
        )
        if not rows:
            return None
        self._box.change("UPDATE told SET confirmed_at = ?, onward = ? WHERE evt = ?", at, onward, evt)
        return int(rows[0][0])

    # -- children -----------------------------------------------------------------------------------------------------

    def representatives_due(self) -> list[Due]:
        """Children whose guardian was `pending` and for whom nobody has been appointed since, the most urgent first.

        Due so long after the record that shared it first, ours or another's.
        """
        rows = self._box.query(
            "SELECT person.ref, first.thread, first.peer, min(first.at) FROM shared AS first JOIN thread ON thread.id ="
            " first.thread LEFT JOIN person ON person.n = thread.person LEFT JOIN outgoing ON outgoing.evt = first.evt"
            " AND first.incoming = 0 WHERE first.guardian = 'pending' AND thread.state <> 'retracted'"
            f" AND coalesce(outgoing.state, '') NOT IN {_NOT_SENT} AND NOT EXISTS (SELECT 1 FROM shared AS later"
            " JOIN thread AS its ON its.id = later.thread WHERE later.guardian IN ('guardian', 'representative')"
            " AND later.at >= first.at AND (its.id = thread.id OR its.person = thread.person))"
            " AND NOT EXISTS (SELECT 1 FROM appointed WHERE appointed.person = thread.person"
            " AND appointed.at >= first.at)"
            " GROUP BY coalesce(person.ref, first.thread) ORDER BY min(first.at)"
        )
        return [Due(ref, str(thread), str(peer), int(at) + REPRESENTATIVE_WITHIN_S) for ref, thread, peer, at in rows]

    def appoint(self, person: str, at: int) -> bool:
        """A guardian was found or a representative appointed for that child. False: nobody by that reference."""
        return self._box.change("INSERT INTO appointed SELECT n, ? FROM person WHERE ref = ?", at, person) == 1

    # -- tickets ------------------------------------------------------------------------------------------------------

    def knows(self, person: str) -> bool:
        return bool(self._box.query("SELECT 1 FROM person WHERE ref = ?", person))

    def ticket(self, person: str, fresh: str, at: int) -> str | None:
        """The code on that person's card; made on first use from `fresh`. None: nobody by that reference."""
        self._box.change(
            "INSERT INTO ticket SELECT ?, n, ? FROM person WHERE ref = ? ON CONFLICT DO NOTHING", fresh, at, person
        )
        rows = self._box.query("SELECT code FROM ticket WHERE person = (SELECT n FROM person WHERE ref = ?)", person)
        return str(rows[0][0]) if rows else None

    def person_of(self, code: str) -> str | None:
        """Whose card that is, if we gave it."""
        rows = self._box.query("SELECT ref FROM ticket JOIN person ON person.n = ticket.person WHERE code = ?", code)
        return str(rows[0][0]) if rows else None


def _shows_a_child(facts: Facts) -> bool:
    """Whether a correction, or what was told later, makes her a child, or somebody who may be one; nobody else for
    whom it would have to name a guardian."""
    said = facts.said
    corrects = isinstance(said, RecordCorrected) and (said.right is None or said.right.caregiver is None)
    later = facts.information is not None and facts.information.caregiver is None
    return (corrects or later) and age_told(facts) in ("child", "unknown")
