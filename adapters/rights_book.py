# SPDX-License-Identifier: Apache-2.0
"""What a mailbox remembers of erasures, disclosures and what somebody must review: positions and codes, no content.

    act         what a control record of ours commands gateways to erase; signed with it
    erasure     a record whose keys are gone here; `keys` -> `told` (copies still open somewhere) -> `done`
    disclosure  keys given to, or got from, another agency, until when
    review      what waits for a named role: break-glass, disclosure, incident

Invariants: each method is one transaction, durable when it returns; a record once erased here stays so, also if it is
read again from the log or arrives only now. Must never: hold a name, a reason, or anything of a sealed part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from adapters.mailbox import Mailbox
from schemas.plain.rights import BY_HAND, ByHand

ReviewKind = Literal["break-glass", "disclosure", "incident"]
"""Shared without consent; disclosed to a court or an auditor; sent to whom it was not meant for."""
ReviewRole = Literal["supervisor", "data-protection", "coordination", "judge"]
Outcome = Literal["upheld", "not-upheld"]
ROLES: tuple[ReviewRole, ...] = get_args(ReviewRole)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class Erasure:
    """One record that is being erased here."""

    ident: str
    thread: str
    """The thread on which to attest it; "": nobody asks."""
    held: bool
    """Whether it was here at all."""
    state: Literal["keys", "told", "done"]
    deleted: bool = False
    """A copy that had been handed over was found and deleted, by this erasure or another of the same record."""
    by_hand: tuple[ByHand, ...] = ()
    """What was found that a person must still do."""


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Keys of a record's parts, given (`ours`) or got."""

    ident: str
    """Of the record that was disclosed."""
    by: str
    """"<iss>/<evt>" of the disclosure.granted that carries the keys."""
    thread: str
    peer: str
    ours: bool
    expires_at: int
    """Seconds since the epoch."""
    ended: bool


@dataclass(frozen=True, slots=True)
class Review:
    n: int
    kind: ReviewKind
    ident: str
    """The record, or the disclosure, that it is about."""
    peer: str
    at: int
    closed_at: int | None
    role: str | None
    outcome: str | None


class RightsBook:
    """See the module's docstring. As safe to share as its mailbox."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    # -- what our records command -------------------------------------------------------------------------------------

    def command(self, evt: str, erase: Sequence[str]) -> None:
        """Signed with that record of ours: gateways erase these. Inside the transaction that enqueues it."""
        self._box.change("INSERT INTO act(evt, erase) VALUES(?, ?)", evt, json.dumps(list(erase)))

    def commands(self, evt: str) -> tuple[str, ...]:
        rows = self._box.query("SELECT erase FROM act WHERE evt = ?", evt)
        return tuple(json.loads(rows[0][0])) if rows else ()

    # -- erasure ------------------------------------------------------------------------------------------------------

    def erase(self, ident: str, us: str, thread: str, at: int) -> None:
        """Every key of that record goes: of what arrived, and the grants that we had sealed. Idempotent.

        The sealed bytes stay, for the proofs; without a key they say nothing.
        """
        with self._box.transaction():
            iss, _, evt = ident.rpartition("/")
            held = self._box.change("UPDATE incoming SET grant_value = NULL WHERE ident = ?", ident)
            self._box.change(
                "UPDATE incoming SET state = 'erased', code = NULL, path = NULL WHERE ident = ?"
                " AND state <> 'quarantined'",
                ident,
            )
            if iss == us:
                held += self._box.change("UPDATE outgoing SET grants = '[]' WHERE evt = ?", evt)
            self._box.change(
                "INSERT INTO erasure(ident, thread, at, held, state, next_at) VALUES(?, ?, ?, ?, 'keys', 0)"
                " ON CONFLICT DO NOTHING",
                ident,
                thread,
                at,
                held > 0,
            )

    def is_erased(self, ident: str) -> bool:
        return bool(self._box.query("SELECT 1 FROM erasure WHERE ident = ?", ident))

    def erasing(self, now: float) -> list[Erasure]:
        """What is not done and due to be looked at."""
        rows = self._box.query(
            "SELECT ident, thread, held, state FROM erasure WHERE state <> 'done' AND next_at <= ? ORDER BY at, ident",
            now,
        )
        return [self._erasure(*row) for row in rows]

    def _erasure(self, ident: str, thread: str, held: int, state: Literal["keys", "told", "done"]) -> Erasure:
        found = self._box.query("SELECT deleted, by_hand FROM erasure WHERE ident = ?", ident)
        left = {code for _, codes in found for code in codes.split()}
        deleted = any(deleted for deleted, _ in found)
        return Erasure(ident, thread, bool(held), state, deleted, tuple(one for one in BY_HAND if one in left))

    def found(self, one: Erasure, deleted: bool, by_hand: Sequence[ByHand]) -> Erasure:
        """What a connector found of it, durable; with what was found before."""
        with self._box.transaction():
            self._box.change(
                "UPDATE erasure SET deleted = deleted OR ?, by_hand = ? WHERE ident = ? AND thread = ?",
                int(deleted),
                " ".join(code for code in BY_HAND if code in by_hand or code in one.by_hand),
                one.ident,
                one.thread,
            )
            return self._erasure(one.ident, one.thread, one.held, one.state)

    def told(self, one: Erasure, next_at: float) -> None:
        """Keys are gone, a copy is still open in a program: looked at again then."""
        sql = "UPDATE erasure SET state = 'told', next_at = ? WHERE ident = ? AND thread = ?"
        self._box.change(sql, next_at, one.ident, one.thread)

    def done(self, one: Erasure) -> None:
        """Keys and copies are gone, and it was said."""
        self._box.change("UPDATE erasure SET state = 'done' WHERE ident = ? AND thread = ?", one.ident, one.thread)

    # -- disclosure ---------------------------------------------------------------------------------------------------

    def disclosed(self, one: Disclosure) -> None:
        self._box.change(
            "INSERT INTO disclosure VALUES(?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING",
            one.by,
            one.ident,
            one.thread,
            one.peer,
            int(one.ours),
            one.expires_at,
        )

    def disclosures(self) -> list[Disclosure]:
        """All of them, oldest first."""
        return self._disclosures("1")

    def running(self, ident: str) -> list[Disclosure]:
        """Ours, of that record, that have not ended."""
        return self._disclosures("ident = ? AND ours = 1 AND ended = 0", ident)

    def expired(self, now: float) -> list[Disclosure]:
        return self._disclosures("ended = 0 AND expires_at <= ?", now)

    def disclosure(self, by: str) -> Disclosure | None:
        found = self._disclosures("evt = ?", by)
        return found[0] if found else None

    def _disclosures(self, where: str, *binds: object) -> list[Disclosure]:
        rows = self._box.query(
            f"SELECT ident, evt, thread, peer, ours, expires_at, ended FROM disclosure WHERE {where} ORDER BY rowid",
            *binds,
        )
        return [
            Disclosure(ident, evt, thread, peer, bool(ours), expires, bool(ended))
            for ident, evt, thread, peer, ours, expires, ended in rows
        ]

    def end(self, by: str) -> None:
        self._box.change("UPDATE disclosure SET ended = 1 WHERE evt = ?", by)

    # -- review -------------------------------------------------------------------------------------------------------

    def review(self, kind: ReviewKind, ident: str, peer: str, at: int) -> None:
        """Onto the list, once."""
        self._box.change(
            "INSERT INTO review(kind, ident, peer, at) VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING", kind, ident, peer, at
        )

    def reviews(self, *, open_only: bool = True) -> list[Review]:
        where = "closed_at IS NULL" if open_only else "1"
        rows = self._box.query(
            f"SELECT n, kind, ident, peer, at, closed_at, role, outcome FROM review WHERE {where} ORDER BY n"
        )
        return [Review(*row) for row in rows]

    def close_review(self, n: int, role: ReviewRole, outcome: Outcome, at: int) -> bool:
        """False: no such review, or somebody has done it."""
        sql = "UPDATE review SET closed_at = ?, role = ?, outcome = ? WHERE n = ? AND closed_at IS NULL"
        return self._box.change(sql, at, role, outcome, n) == 1
