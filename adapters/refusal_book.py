# SPDX-License-Identifier: Apache-2.0
"""What this agency refused, and what was refused to it: one line each, for an auditor, without any value.

    a row, a file or a draft that was not sent   -> outgoing, by the batch and line that its author knows
    a record that was not taken                  -> incoming, by its place in the log

A table of the mailbox's own file, written in the transaction that refuses. A line says when, what type of event, which
other agency (only if the registry knows it: what else was typed there may be anything), the code and the path. It stays
when the item is tried again and goes. Must never hold: a name, a case number, anything else that somebody typed.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from adapters.mailbox import Mailbox
from schemas.event_types import EVENTS

Direction = Literal["outgoing", "incoming"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One line of the list."""

    at: int
    """When, seconds since the epoch."""
    direction: Direction
    where: str
    """`sha256:... Orientation!7` of what was not sent, `bi.referral.iom 12` of what was not taken."""
    type: str
    """"" where nobody can say."""
    peer: str
    """Whom it was for, or who sent it; "" where nobody can say."""
    code: str
    path: str | None


class RefusalBook:
    """See the module's docstring."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._box = mailbox

    def note(
        self,
        direction: Direction,
        where: str,
        code: str,
        path: str | None,
        *,
        at: int,
        type: str = "",
        peer: str = "",
        members: Container[str] = (),
    ) -> None:
        """Inside the transaction that refuses. The same place with the same code again is one line."""
        self._box.change(
            "INSERT INTO refusal(at, direction, place, type, peer, code, path) VALUES(?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            at,
            direction,
            where,
            type if type in EVENTS else "",
            peer if peer in members else "",
            code,
            path,
        )

    def since(self, at: int = 0) -> list[Refusal]:
        """From that moment on, the oldest first."""
        rows = self._box.query(
            "SELECT at, direction, place, type, peer, code, path FROM refusal WHERE at >= ? ORDER BY at, n", at
        )
        return [Refusal(*row) for row in rows]
