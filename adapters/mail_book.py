# SPDX-License-Identifier: Apache-2.0
"""What the notices by e-mail must not forget: when the next one may go, what was told already, which letters are due.

    mail     one row: the next moment at which anything may be said, and up to which arrival it was said
    mailed   alarms that a letter has told of, while they stand
    letter   one per recipient, at most: made, not yet taken by the mail server

**Times tell nothing.** The next moment is drawn before anything has happened, and drawn again when it has come, whether
there was something to say or not: who sees when letters go learns that something waited by then, and not since when.
So there is no letter "at once", and at most one per recipient in each such time.

Invariants: a letter is made in one transaction with the memory of what it tells, so nothing is told twice or forgotten;
an attempt is written down, with the time of the next one, before it begins. A letter that was not taken waits for the
server; another one does not join it, it only becomes more urgent.

If we crash here: before the transaction the next turn does it; after it the letter is sent; between the server's yes
and `sent` it goes once more under the same Message-ID, and not before its next time, however often we crash.
Must never: hold a word about anybody; let a wrong clock silence it (a next time too far ahead is drawn again).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from adapters.deadlines import Alarm
from adapters.mail_letter import LetterKind
from adapters.mailbox import Mailbox
from schemas.keys import RandomBytes

URGENT = frozenset(
    (
        "overdue",
        "late-acceptance",
        "not-arrived",
        "owed-overdue",
        "unacknowledged",
        "undelivered",
        "held-abroad",
        "refused-abroad",
        "telephone",
        "cut-off",
    )
)
"""Alarms that a letter tells of."""
AGAIN_AFTER_S = 86_400
"""What still stands after a day is told again."""
FIRST_RETRY_S = 60.0
LONGEST_RETRY_S = 3600.0
_WAITS = (
    "state IN ('ready', 'delivered') AND type NOT LIKE 'receipt.%' AND type NOT LIKE 'chain.%'"
    " AND type NOT IN ('attachment.chunk', 'service.published', 'contact.published')"
)
"""What a person must look at; the rest is between machines, or for the day somebody asks."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter that the mail server has not taken yet."""

    recipient: str
    kind: LetterKind
    ident: str
    made_at: int
    attempts: int


@dataclass(frozen=True, slots=True)
class MailState:
    """How it goes, for people to look at. Times in seconds since the epoch."""

    waiting: int
    """Letters that no server has taken yet."""
    sent_at: int | None
    code: str
    """Why the last attempt failed; empty when it did not."""


def unit(random: RandomBytes) -> float:
    """From 0 up to 1, evenly."""
    return int.from_bytes(random(4), "big") / (1 << 32)


class MailBook:
    """See the module's docstring. As safe to share as its mailbox.

    Args:
        slot_s: how often anything may be said; moments lie between half and one and a half of it apart.
    """

    def __init__(self, box: Mailbox, slot_s: float, random: RandomBytes) -> None:
        self._box = box
        self._slot_s = slot_s
        self._random = random

    def turn(self, now: float, standing: Sequence[Alarm], recipients: Collection[str]) -> bool:
        """If it is time and there is something to say, make letters; one transaction. Returns whether it did."""
        with self._box.transaction():
            rows = self._box.query("SELECT next_at, told FROM mail")
            if not rows:
                # From here on: nobody is told of what lay there before notices were asked for.
                first = now + self._slot_s * unit(self._random)
                self._box.change("INSERT INTO mail VALUES(1, ?, ?, NULL, '')", first, self._newest(-1))
                return False
            next_at, told = float(rows[0][0]), int(rows[0][1])
            if now < next_at <= now + 2 * self._slot_s:
                return False
            following = now + self._slot_s * (0.5 + unit(self._random))
            if now < next_at:  # drawn by a clock that was wrong
                self._box.change("UPDATE mail SET next_at = ?", following)
                return False
            kind, newest = self._what(now, standing, told)
            self._box.change("UPDATE mail SET next_at = ?, told = ?", following, newest)
            if kind is None:
                return False
            for recipient in recipients:
                self._make(recipient, kind, now)
            return bool(recipients)

    def _what(
        self, now: float, standing: Sequence[Alarm], told: int
    ) -> tuple[Literal["arrived", "overdue"] | None, int]:
        """What is to be said now, which is remembered with it; and up to which arrival."""
        keys = [f"{one.kind} {one.peer} {one.thread} {one.evt}" for one in standing if one.kind in URGENT]
        known = {str(key): int(at) for key, at in self._box.query("SELECT alarm, at FROM mailed")}
        for key in known.keys() - set(keys):
            self._box.change("DELETE FROM mailed WHERE alarm = ?", key)
        fresh = [key for key in keys if key not in known or not 0 <= now - known[key] < AGAIN_AFTER_S]
        newest = self._newest(told)
        if fresh:
            for key in keys:
                sql = "INSERT INTO mailed VALUES(?, ?) ON CONFLICT DO UPDATE SET at = excluded.at"
                self._box.change(sql, key, int(now))
            return "overdue", newest
        return "arrived" if newest > told else None, newest

    def _newest(self, after: int) -> int:
        found = self._box.query(f"SELECT max(n) FROM incoming WHERE n > ? AND {_WAITS}", after)[0][0]
        return after if found is None else int(found)

    def _make(self, recipient: str, kind: LetterKind, now: float) -> None:
        self._box.change(
            "INSERT INTO letter VALUES(?1, ?2, ?3, ?4, 0, 0, '') ON CONFLICT DO UPDATE SET kind = ?2, ident = ?3,"
            " made_at = ?4 WHERE ?2 = 'overdue' AND kind <> 'overdue'",
            recipient,
            kind,
            self._random(16).hex(),
            int(now),
        )

    # -- sending ------------------------------------------------------------------------------------------------------

    def due(self, now: float, recipients: Collection[str]) -> list[Letter]:
        """Letters whose next time has come; those to somebody who is no recipient any more are dropped."""
        with self._box.transaction():
            for (recipient,) in self._box.query("SELECT recipient FROM letter"):
                if recipient not in recipients:
                    self._box.change("DELETE FROM letter WHERE recipient = ?", recipient)
            rows = self._box.query(
                "SELECT recipient, kind, ident, made_at, attempts FROM letter WHERE next_at <= ?1 OR next_at > ?2"
                " ORDER BY recipient",
                now,
                now + 2 * LONGEST_RETRY_S,
            )
        return [Letter(*row) for row in rows]

    def attempt(self, letter: Letter, now: float) -> None:
        """Durable before the first byte leaves."""
        wait = min(LONGEST_RETRY_S, FIRST_RETRY_S * float(1 << min(letter.attempts, 10))) * (0.5 + unit(self._random))
        sql = "UPDATE letter SET attempts = attempts + 1, next_at = ? WHERE recipient = ? AND ident = ?"
        self._box.change(sql, now + wait, letter.recipient, letter.ident)

    def sent(self, letter: Letter, at: int) -> None:
        """The server has taken it. What has become more urgent meanwhile stays."""
        with self._box.transaction():
            sql = "DELETE FROM letter WHERE recipient = ? AND ident = ?"
            self._box.change(sql, letter.recipient, letter.ident)
            self._box.change("UPDATE mail SET sent_at = ?, code = ''", at)

    def failed(self, letter: Letter, code: str) -> None:
        """It has not, with that code."""
        with self._box.transaction():
            self._box.change("UPDATE letter SET code = ? WHERE recipient = ?", code, letter.recipient)
            self._box.change("UPDATE mail SET code = ?", code)

    def state(self) -> MailState:
        """Also where no letter was ever made."""
        rows = self._box.query("SELECT sent_at, code FROM mail")
        waiting = int(self._box.query("SELECT count(*) FROM letter")[0][0])
        return MailState(waiting, None, "") if not rows else MailState(waiting, *rows[0])
