# SPDX-License-Identifier: Apache-2.0
"""Last contact: when each agency was last heard, when our own gateway answered, and which number to telephone.

Purpose: the broker is never the only channel. What a person needs when it is silent stands here before it falls silent.

    way       one row: when the domain last answered us, when it was last asked, and why it did not answer
    office    a copy of each `contact.published` that has arrived, so that a number is found without any key
    (peers)   nothing of their own: the log's time of the last signed record that came from each, receipts included

Invariants: an office is a function and its telephone, never a person; what was erased or withdrawn is found no more; a
wrong clock is mended by the next answer, since `way` holds the last word and no maximum.
Must never: decide anything (`adapters.deadlines` does), or count an unverified word as a sign of somebody.

If we crash here: `way` is one statement; offices are taken again from what has arrived.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from adapters.connectors.contract import LastContact
from adapters.directory_book import DirectoryBook
from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Incoming
from schemas.errors import PayloadError, UmuhuzaError
from schemas.events import Opened
from schemas.forms import validated
from schemas.plain.knowledge import ContactPublished

_FIRST = ("focal-point", "duty-officer")
"""Whom to call where several offices of one agency have a number; then whoever answers around the clock."""
_UNREADABLE = "{}"
"""Stands for an office that can never be opened, so that it is not tried for ever."""


@dataclass(frozen=True, slots=True)
class Way:
    """How it went between this adapter and its domain. Times in seconds since the epoch, by the clock of then."""

    reached_at: int | None
    """Last answer; None: never yet."""
    tried_at: int
    code: str
    """Why the last attempt failed; empty when it did not."""


@dataclass(frozen=True, slots=True)
class Office:
    """One office of another agency that can be called."""

    agency: str
    said: ContactPublished


class ContactBook:
    """See the module's docstring. As safe to share as its mailbox."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    # -- our own gateway ----------------------------------------------------------------------------------------------

    def reached(self, at: int) -> None:
        """The domain has answered us. Durable."""
        sql = (
            "INSERT INTO way VALUES(1, ?1, ?1, '') ON CONFLICT DO UPDATE SET reached_at = ?1, tried_at = ?1, code = ''"
        )
        self._box.change(sql, at)

    def missed(self, at: int, code: str) -> None:
        """It has not, with that code. Durable."""
        self._box.change(
            "INSERT INTO way VALUES(1, NULL, ?1, ?2) ON CONFLICT DO UPDATE SET tried_at = ?1, code = ?2", at, code
        )

    def way(self) -> Way | None:
        """None: this adapter has never run."""
        rows = self._box.query("SELECT reached_at, tried_at, code FROM way")
        return Way(*rows[0]) if rows else None

    # -- offices ------------------------------------------------------------------------------------------------------

    def take(self, opened: Callable[[Incoming], Opened]) -> int:
        """Copy what has arrived since the last look; forget what was erased. Returns how many were new.

        Raises UmuhuzaError: a retriable one (keys on a device that is not there): later.
        """
        standing = "type = 'contact.published' AND state IN ('ready', 'delivered')"
        rows = self._box.query(
            f"SELECT ident FROM incoming WHERE {standing} AND ident NOT IN (SELECT ident FROM office)"
        )
        items = [item for (ident,) in rows if (item := self._box.arrivals.of(ident)) is not None]
        for item in items:
            try:
                said = opened(item).facts.said
            except UmuhuzaError as exc:
                if exc.retriable:
                    raise
                said = None
            text = said.model_dump_json(exclude_none=True) if isinstance(said, ContactPublished) else _UNREADABLE
            sql = "INSERT INTO office VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING"
            self._box.change(sql, item.ident, item.iss, text, item.at_ms)
        if self._box.query(f"SELECT 1 FROM office WHERE ident NOT IN (SELECT ident FROM incoming WHERE {standing})"):
            self._box.change(f"DELETE FROM office WHERE ident NOT IN (SELECT ident FROM incoming WHERE {standing})")
        return len(items)

    def offices(self, now: float) -> list[Office]:
        """What each agency said last of each of its offices, where it is valid now; the one to call first before."""
        last: dict[tuple[str, str], Office] = {}
        for iss, text in self._box.query("SELECT iss, said FROM office ORDER BY at_ms, ident"):
            try:
                said = validated(ContactPublished, json.loads(text))
            except PayloadError:
                continue  # `_UNREADABLE`, or written by another version
            last[iss, said.entry] = Office(iss, said)
        found = [one for one in last.values() if not one.said.withdrawn and one.said.valid_until.timestamp() > now]

        def place(one: Office) -> tuple[str, int, bool, str]:
            function = one.said.function
            return (
                one.agency,
                _FIRST.index(function) if function in _FIRST else len(_FIRST),
                (not one.said.around_the_clock),
                one.said.entry,
            )

        return sorted(found, key=place)

    def telephones(self, now: float) -> dict[str, str]:
        """Agency -> the number to call: its focal point's, its duty office's, any office's, else a service's of it."""
        found: dict[str, str] = {}
        for office in self.offices(now):
            found.setdefault(office.agency, office.said.telephone)
        for listing in DirectoryBook(self._box).listings(now):
            found.setdefault(listing.agency, listing.said.telephone)
        return found

    # -- peers --------------------------------------------------------------------------------------------------------

    def contacts(self, now: float, silent: dict[str, int]) -> list[LastContact]:
        """Everybody we have a thread with, or have heard; by id.

        Args:
            silent: agency -> since when nothing was heard of it although something waits for it.
        """
        seen = {str(iss): int(at_ms) // 1000 for iss, at_ms in self._box.query(
            "SELECT iss, max(at_ms) FROM incoming WHERE iss <> '' GROUP BY iss"
        )}  # fmt: skip
        peers = {str(peer) for (peer,) in self._box.query("SELECT DISTINCT peer FROM thread")}
        telephones = self.telephones(now)
        return [
            LastContact(agency, seen.get(agency), silent.get(agency), telephones.get(agency))
            for agency in sorted(peers | seen.keys() | silent.keys())
        ]
