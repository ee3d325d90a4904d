# SPDX-License-Identifier: Apache-2.0
"""What a mailbox knows of attachments: which chunk came in which record, which records belong together.

Positions and identifiers only; the bytes stand sealed in the records. Each method is one transaction, or part of the
caller's. Must never: hold a name or a byte of a file.
"""

from __future__ import annotations

from collections.abc import Mapping

from adapters.mailbox import Mailbox
from schemas.errors import LogError
from schemas.plain.attachment import ANNOUNCED, CHUNK


class AttachmentBook:
    """As safe to share as its mailbox."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    # -- going out ----------------------------------------------------------------------------------------------------

    def give_up(self) -> int:
        """Chunks that nobody is to have any more are never signed: their announcement was refused, cancelled or turned
        away, the referral is over, or she has withdrawn her consent since. Returns how many."""
        return self._box.change(
            f"UPDATE outgoing SET state = 'cancelled' WHERE state IN ('waiting', 'signed') AND state = 'waiting'"
            f" AND type = '{CHUNK}' AND ("
            " EXISTS (SELECT 1 FROM outgoing AS whole WHERE whole.evt = outgoing.ref"
            " AND whole.state IN ('refused', 'cancelled', 'rejected'))"
            " OR EXISTS (SELECT 1 FROM thread WHERE thread.id = outgoing.thread"
            " AND thread.state IN ('declined', 'revoked', 'expired', 'retracted'))"
            " OR EXISTS (SELECT 1 FROM told JOIN withdrawal ON withdrawal.n = told.withdrawal"
            " WHERE told.thread = outgoing.thread AND withdrawal.at >= outgoing.created_at))"
        )

    # -- coming in ----------------------------------------------------------------------------------------------------

    def note(self, announced: str, first: int, count: int, ident: str) -> None:
        """Chunks `first` and following stand in that record."""
        for number in range(first, first + count):
            self._box.change("INSERT INTO chunk VALUES(?, ?, ?)", announced, number, ident)

    def has(self, announced: str, number: int) -> bool:
        return bool(self._box.query("SELECT 1 FROM chunk WHERE announced = ? AND number = ?", announced, number))

    def chunks(self, announced: str) -> Mapping[int, str]:
        """Number -> "<iss>/<evt>" of the record that it came in, ascending."""
        rows = self._box.query("SELECT number, ident FROM chunk WHERE announced = ? ORDER BY number", announced)
        return {int(number): str(ident) for number, ident in rows}

    def forget_keys(self, announced: str) -> None:
        """What will never be whole opens no more."""
        self._box.change(
            "UPDATE incoming SET grant_value = NULL WHERE ident = ?1 OR ident IN"
            " (SELECT ident FROM chunk WHERE announced = ?1)",
            announced,
        )

    # -- both ---------------------------------------------------------------------------------------------------------

    def belonging(self, ident: str, us: str) -> tuple[str, ...]:
        """Records that carry attachments of that event, or the chunks of that announcement: "<iss>/<evt>" each.

        Of ours, only what the log may have. Raises LogError `unavailable`: one is on its way just now.
        """
        iss, _, evt = ident.rpartition("/")
        if iss == us:
            found = self._sent(evt)
        else:
            sql = (
                f"SELECT evt FROM incoming WHERE iss = ? AND ref = ? AND type IN ('{ANNOUNCED}', '{CHUNK}') ORDER BY n"
            )
            first = [str(one) for (one,) in self._box.query(sql, iss, evt)]
            found = [*first, *(str(one) for each in first for (one,) in self._box.query(sql, iss, each))]
        return tuple(f"{iss}/{one}" for one in dict.fromkeys(found))

    def _sent(self, evt: str) -> list[str]:
        sql = (
            f"SELECT evt, state FROM outgoing WHERE ref = ? AND type IN ('{ANNOUNCED}', '{CHUNK}')"
            " AND state NOT IN ('refused', 'cancelled', 'waiting') ORDER BY n"
        )
        first = self._box.query(sql, evt)
        rows = [*first, *(row for one, _ in first for row in self._box.query(sql, one))]
        if any(state == "signed" for _, state in rows):
            raise LogError("unavailable", "outbox")
        return [str(one) for one, _ in rows]

    def take_back(self, evt: str) -> int:
        """What is not signed yet of the attachments of that event of ours never will be. Returns how many records."""
        return self._box.change(
            f"UPDATE outgoing SET state = 'cancelled' WHERE state = 'waiting' AND type IN ('{ANNOUNCED}', '{CHUNK}')"
            f" AND (ref = ?1 OR ref IN (SELECT evt FROM outgoing WHERE ref = ?1 AND type = '{ANNOUNCED}'))",
            evt,
        )
