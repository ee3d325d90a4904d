# SPDX-License-Identifier: Apache-2.0
"""What a mailbox remembers of services and places: ours, others', what we promised, what we asked for.

    service      what we publish, and how many places are free and promised to nobody (never sent as a number)
    service_told on which thread we told whom of a service: the next word goes on it
    listing      what others published, until it expires
    reservation  a yes of ours: `offered` until a time, `held`, `released`, or `expired` (somebody asked after the time)
    asked        what we asked whom, and what they said

Invariants: each method is one transaction, durable when it returns; nobody is in these tables, not by any code. A
reservation counts against the publication that it was made from: whoever publishes anew has counted what is promised.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adapters.mailbox import Mailbox
from schemas.forms import validated
from schemas.plain.directory import ServicePublished

ReservationState = Literal["offered", "held", "released", "expired"]


@dataclass(frozen=True, slots=True)
class OwnService:
    """One service of ours, as last published."""

    said: ServicePublished
    publication: int
    places: int | None
    """Free and promised to nobody when it was published; None: not counted."""
    expires_at: int


@dataclass(frozen=True, slots=True)
class Listing:
    """One service of somebody else's."""

    agency: str
    said: ServicePublished
    published_at: int


@dataclass(frozen=True, slots=True)
class Reservation:
    thread: str
    entry: str
    publication: int
    places: int
    state: ReservationState
    hold_until: int
    """Seconds since the epoch."""
    made_at: int = 0
    """When it was offered; 0: by a version that did not count it."""
    untaken_until: int = 0
    """Until when it was, or may still be, kept without being taken."""

    @property
    def is_open(self) -> bool:
        """Neither taken nor given back nor past its time."""
        return self.state == "offered"


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of ours; what became of it is the thread's state."""

    thread: str
    ask: str
    """The same for all who were asked at once."""
    peer: str
    hold_until: int | None
    reason: str | None
    telephone: str | None


class DirectoryBook:
    """See the module's docstring. As safe to share as its mailbox."""

    def __init__(self, box: Mailbox) -> None:
        self._box = box

    # -- ours ---------------------------------------------------------------------------------------------------------

    def publish(self, said: ServicePublished, places: int | None, expires_at: int, now: int) -> int:
        """A new publication of a service of ours; what was offered and is past its time has expired. Its number."""
        with self._box.transaction():
            self.expire(said.entry, now)
            row = self._box.query("SELECT publication FROM service WHERE entry = ?", said.entry)
            number = (int(row[0][0]) if row else 0) + 1
            self._box.change(
                "INSERT INTO service VALUES(?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " publication = excluded.publication, places = excluded.places, said = excluded.said,"
                " expires_at = excluded.expires_at",
                said.entry,
                number,
                places,
                said.model_dump_json(exclude_none=True),
                expires_at,
            )
        return number

    def services(self) -> list[OwnService]:
        """All of ours, the withdrawn and the expired too, by entry."""
        rows = self._box.query("SELECT said, publication, places, expires_at FROM service ORDER BY entry")
        return [OwnService(_read(said), number, places, expires) for said, number, places, expires in rows]

    def told_on(self, entry: str, peer: str) -> str | None:
        """The thread on which we told that agency of that service."""
        rows = self._box.query("SELECT thread FROM service_told WHERE entry = ? AND peer = ?", entry, peer)
        return str(rows[0][0]) if rows else None

    def told(self, entry: str, peer: str, thread: str) -> None:
        sql = "INSERT INTO service_told VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET thread = excluded.thread"
        self._box.change(sql, entry, peer, thread)

    # -- others' ------------------------------------------------------------------------------------------------------

    def listed(self, agency: str, said: ServicePublished, published_at: int) -> None:
        """What somebody published; an older word than the one that is there changes nothing."""
        self._box.change(
            "INSERT INTO listing VALUES(?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET said = excluded.said,"
            " published_at = excluded.published_at, expires_at = excluded.expires_at"
            " WHERE excluded.published_at >= listing.published_at",
            agency,
            said.entry,
            said.model_dump_json(exclude_none=True),
            published_at,
            0 if said.withdrawn else int(said.valid_until.timestamp()),
        )

    def listings(self, now: float) -> list[Listing]:
        """What holds now, by agency and entry. What has expired is forgotten a month later."""
        with self._box.transaction():
            self._box.change("DELETE FROM listing WHERE expires_at < ? AND published_at < ?", now, now - 30 * 86_400)
            rows = self._box.query(
                "SELECT iss, said, published_at FROM listing WHERE expires_at > ? ORDER BY iss, entry", now
            )
        return [Listing(iss, _read(said), at) for iss, said, at in rows]

    # -- what we promised ---------------------------------------------------------------------------------------------

    def expire(self, entry: str, at: float) -> None:
        """Offers whose time is past are offers no more: the next one may have the place."""
        self._box.change(
            "UPDATE reservation SET state = 'expired' WHERE entry = ? AND state = 'offered' AND hold_until <= ?",
            entry,
            at,
        )

    def free(self, service: OwnService) -> int:
        """Places that nobody has been promised, of those published. Of a service whose places are counted."""
        sql = (
            "SELECT coalesce(sum(places), 0) FROM reservation WHERE entry = ? AND publication = ?"
            " AND state IN ('offered', 'held')"
        )
        taken = int(self._box.query(sql, service.said.entry, service.publication)[0][0])
        return (service.places or 0) - taken

    def kept_untaken(self, entry: str, asker: str, since: float) -> int:
        """Places times seconds that the questions of one asker have kept of a service since then without taking them;
        an offer that is open counts to its end."""
        rows = self._box.query(
            "SELECT coalesce(sum(places * max(0, untaken_until - max(made_at, ?3))), 0) FROM reservation JOIN thread"
            " ON thread.id = reservation.thread WHERE entry = ?1 AND peer = ?2 AND made_at > 0",
            entry,
            asker,
            int(since),
        )
        return int(rows[0][0])

    def reserve(self, one: Reservation) -> None:
        """Make or change a reservation."""
        self._box.change(
            "INSERT INTO reservation VALUES(?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state,"
            " publication = excluded.publication, untaken_until = excluded.untaken_until",
            one.thread,
            one.entry,
            one.publication,
            one.places,
            one.state,
            one.hold_until,
            one.made_at,
            one.untaken_until,
        )

    _RESERVATION = "thread, entry, publication, places, state, hold_until, made_at, untaken_until"

    def reservation(self, thread: str) -> Reservation | None:
        rows = self._box.query(f"SELECT {self._RESERVATION} FROM reservation WHERE thread = ?", thread)
        return Reservation(*rows[0]) if rows else None

    def reservations(self) -> list[Reservation]:
        rows = self._box.query(f"SELECT {self._RESERVATION} FROM reservation ORDER BY rowid")
        return [Reservation(*row) for row in rows]

    # -- what we asked ------------------------------------------------------------------------------------------------

    def ask(self, thread: str, ask: str, peer: str) -> None:
        """Somebody was asked. Inside the transaction that enqueues the question."""
        self._box.change("INSERT INTO asked VALUES(?, ?, ?, NULL, NULL, NULL)", thread, ask, peer)

    def answer(self, thread: str, hold_until: int | None, reason: str | None, telephone: str | None) -> None:
        """What they said; nothing happens for a question that was asked by other means."""
        sql = "UPDATE asked SET hold_until = ?, reason = ?, telephone = ? WHERE thread = ?"
        self._box.change(sql, hold_until, reason, telephone, thread)

    def asks(self) -> list[Asked]:
        """In the order in which they were asked."""
        sql = "SELECT thread, ask, peer, hold_until, reason, telephone FROM asked ORDER BY rowid"
        return [Asked(*row) for row in self._box.query(sql)]

    # -- warnings relayed ---------------------------------------------------------------------------------------------

    def relayed(self, ident: str) -> bool:
        """Whether that warning was relayed already; from now on it was."""
        return self._box.change("INSERT INTO relayed VALUES(?) ON CONFLICT DO NOTHING", ident) == 0


def fits(said: ServicePublished, code: str, ages: Sequence[str], sexes: Sequence[str]) -> bool:
    """Whether a service is what a code asks for (HTCDS type or local code), for all of these ages, any of the sexes."""
    is_it = code == said.local or code in said.types
    return is_it and set(ages) <= set(said.ages) and bool(set(sexes) & set(said.sexes))


def _read(text: str) -> ServicePublished:
    return validated(ServicePublished, json.loads(text))
