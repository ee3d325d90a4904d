# SPDX-License-Identifier: Apache-2.0
"""What of the mailbox's file concerns time: what is awaited until when, who is on her way, what was escalated.

A part of `adapters.mailbox.Mailbox` (its `dues`): same file, same transactions, same crash rules. Times are seconds
since the epoch. Nothing here decides; `adapters.deadlines` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.envelope import split_topic
from schemas.forms import Facts
from schemas.plain.transfer import ReturnDeparted, ReturnReceived

_SPEAKS = "type NOT LIKE 'receipt.%' AND type NOT LIKE 'chain.%' AND type <> 'attachment.chunk'"
"""`Outgoing.speaks`, for SQL."""
_FOR_EVERYBODY = ("directory", "knowledge")
"""Flows in which everybody is told the same."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """A thread that we began and that has a deadline."""

    thread: str
    opened_by: str
    asked_at: int
    """When the request entered our outbox."""
    answer_by: int
    logged_at: int | None
    """When the log had the request; None: it has not left yet."""


@dataclass(frozen=True, slots=True)
class Journey:
    """She left for a place where she is expected, and no arrival is known."""

    evt: str
    """The movement.departed or return.departed."""
    thread: str
    expected_at: int


@dataclass(frozen=True, slots=True)
class Undelivered:
    """One event of ours that stands in the log and that nobody over there has acknowledged."""

    evt: str
    thread: str
    peer: str
    topic: str
    logged_at: int


@dataclass(frozen=True, slots=True)
class NotTakenAbroad:
    """One event of ours that the domain that it is for has refused in writing."""

    evt: str
    thread: str
    peer: str
    heard_at: int
    """When we heard that, by our clock."""
    final: bool
    """False: it waits there for what people of both countries can cure."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One escalation, raised once. Content-free: which thread, about which event, and why."""

    n: int
    thread: str
    kind: str
    about: str
    due_at: int
    at: int


class Dues:
    """See the module's docstring. Made by `Mailbox`."""

    def __init__(self, rows: Callable[..., list[tuple[Any, ...]]], run: Callable[..., int]) -> None:
        self._rows = rows
        self._run = run

    def awaited(self, states: Sequence[str]) -> list[Awaited]:
        """Every thread of ours with a deadline that is in one of these states; the first due first."""
        rows = self._rows(
            "SELECT thread.id, thread.opened_by, outgoing.created_at, thread.answer_by,"
            " CASE WHEN outgoing.state IN ('promised', 'delivered', 'rejected')"
            " THEN coalesce(outgoing.promised_at, outgoing.created_at) END"
            " FROM thread JOIN outgoing ON outgoing.evt = thread.opened_by"
            " WHERE thread.role = 'initiator' AND thread.answer_by IS NOT NULL"
            f" AND thread.state IN ({', '.join('?' * len(states))}) ORDER BY thread.answer_by, thread.id",
            *states,
        )
        return [Awaited(*row) for row in rows]

    def standing(self, machine: str, state: str) -> list[tuple[str, str, str, int]]:
        """(thread, peer, what opened it, when that entered our outbox) of every thread of ours that stands there."""
        rows = self._rows(
            "SELECT thread.id, thread.peer, thread.opened_by, outgoing.created_at FROM thread JOIN outgoing"
            " ON outgoing.evt = thread.opened_by WHERE thread.role = 'initiator' AND thread.machine = ?"
            " AND thread.state = ? ORDER BY outgoing.created_at, thread.id",
            machine,
            state,
        )
        return [(str(thread), str(peer), str(evt), int(at)) for thread, peer, evt, at in rows]

    def owed(self, machine: str, state: str) -> list[tuple[str, str, str, int]]:
        """(thread, peer, what opened it, the log's time of that) of every thread that a peer began and that stands
        there: it waits for us."""
        rows = self._rows(
            "SELECT thread.id, thread.peer, thread.opened_by, incoming.at_ms FROM thread JOIN incoming"
            " ON incoming.ident = thread.peer || '/' || thread.opened_by WHERE thread.role = 'recipient'"
            " AND thread.machine = ? AND thread.state = ? AND incoming.state IN ('ready', 'delivered')"
            " ORDER BY incoming.at_ms, thread.id",
            machine,
            state,
        )
        return [(str(thread), str(peer), str(evt), int(at_ms) // 1000) for thread, peer, evt, at_ms in rows]

    def paid(self, state: str) -> list[tuple[str, str]]:
        """(thread, what opened it) of what we were told to owe, and that stands in that state no longer."""
        rows = self._rows(
            "SELECT DISTINCT notice.thread, about FROM notice JOIN thread ON thread.id = notice.thread"
            " WHERE kind IN ('owed', 'owed-overdue') AND thread.state <> ? AND NOT EXISTS (SELECT 1 FROM notice AS last"
            " WHERE last.thread = notice.thread AND last.about = notice.about AND last.kind = 'answered')",
            state,
        )
        return [(str(thread), str(about)) for thread, about in rows]

    def is_held(self, thread: str) -> bool:
        """Whether something has come on the thread that could not be taken yet."""
        return bool(
            self._rows(
                "SELECT 1 FROM incoming WHERE state IN ('held', 'ready') AND state = 'held' AND thread = ? LIMIT 1",
                thread,
            )
        )

    def last_refused(self, thread: str, type: str) -> int | None:
        """When the last event of that type on that thread that the log refused for good had been made."""
        [(at,)] = self._rows(
            "SELECT max(created_at) FROM outgoing WHERE thread = ? AND type = ? AND state IN ('refused', 'cancelled')",
            thread,
            type,
        )
        return at if at is None else int(at)

    # -- journeys -----------------------------------------------------------------------------------------------------

    def note_movement(self, facts: Facts, thread: str, evt: str) -> None:
        """In the transaction that sends or stores the event: she has left, or she is there."""
        if isinstance(facts.said, ReturnDeparted):
            self.set_out(evt, thread, int(facts.occurred_at.timestamp()), int(facts.said.expected_at.timestamp()))
        elif isinstance(facts.said, ReturnReceived):
            self.arrived(thread, evt)
        movement = facts.movement
        if movement is None:
            return
        if movement.departed_at is not None and movement.expected_at is not None:
            self.set_out(evt, thread, int(movement.departed_at.timestamp()), int(movement.expected_at.timestamp()))
        if movement.arrived_at is not None:
            self.arrived(thread, evt)

    def set_out(self, evt: str, thread: str, departed_at: int, expected_at: int) -> None:
        """With what says that she has left, sent or received, in its transaction. Not when she has come since: we have
        said so before we read that she was on her way."""
        self._run(
            "INSERT INTO journey(evt, thread, expected_at) SELECT ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM outgoing"
            " WHERE thread = ?2 AND type IN ('movement.arrived', 'return.received')"
            " AND state NOT IN ('refused', 'cancelled') AND created_at >= ?4) ON CONFLICT DO NOTHING",
            evt,
            thread,
            expected_at,
            departed_at,
        )

    def arrived(self, thread: str, evt: str) -> None:
        """With the `evt` that says that she is there, sent or received, in its transaction."""
        self._run(
            "UPDATE journey SET closed_by = ? WHERE thread = ? AND (closed_by IS NULL OR EXISTS"
            " (SELECT 1 FROM outgoing WHERE evt = closed_by AND state IN ('refused', 'cancelled')))",
            evt,
            thread,
        )

    def journeys(self) -> list[Journey]:
        """Those whose end is not known. What was refused or cancelled was never said."""
        rows = self._rows(
            "SELECT evt, thread, expected_at FROM journey WHERE NOT EXISTS (SELECT 1 FROM outgoing"
            " WHERE outgoing.evt = journey.evt AND state IN ('refused', 'cancelled', 'rejected'))"
            " AND (closed_by IS NULL OR EXISTS (SELECT 1 FROM outgoing WHERE outgoing.evt = closed_by"
            " AND state IN ('refused', 'cancelled'))) ORDER BY expected_at, evt"
        )
        return [Journey(*row) for row in rows]

    # -- peers --------------------------------------------------------------------------------------------------------

    def unacknowledged(self) -> dict[str, int]:
        """Peer -> since when something of ours stands in the log for it that its machine has not acknowledged. What we
        erased is none such: a machine that reads it now opens nothing, and says nothing."""
        rows = self._rows(
            "SELECT peer, min(coalesce(promised_at, created_at)) FROM outgoing"
            f" WHERE state = 'promised' AND {_SPEAKS}"
            " AND NOT EXISTS (SELECT 1 FROM erasure WHERE erasure.ident LIKE '%/' || outgoing.evt)"
            " GROUP BY peer ORDER BY peer"
        )
        return {str(peer): int(since) for peer, since in rows}

    def unsent(self) -> dict[str, int]:
        """Peer -> since when something for it waits here that has not left. What everybody is told of services and
        knowledge is none such: nobody is telephoned for it."""
        rows = self._rows(
            "SELECT peer, topic, created_at FROM outgoing"
            f" WHERE state IN ('waiting', 'signed') AND {_SPEAKS} ORDER BY created_at DESC, n DESC"
        )
        return {str(peer): int(at) for peer, topic, at in rows if split_topic(str(topic))[0] not in _FOR_EVERYBODY}

    def undelivered(self, before: int) -> list[Undelivered]:
        """What the log has had of ours since before then, and the machine that it is for has not acknowledged; the
        oldest first. Not what we erased."""
        rows = self._rows(
            "SELECT evt, thread, peer, topic, coalesce(promised_at, created_at) AS logged_at FROM outgoing"
            f" WHERE state = 'promised' AND {_SPEAKS} AND logged_at < ?"
            " AND NOT EXISTS (SELECT 1 FROM erasure WHERE erasure.ident LIKE '%/' || outgoing.evt)"
            " ORDER BY logged_at, n",
            before,
        )
        return [Undelivered(*row) for row in rows]

    def not_taken_abroad(self, since: int) -> list[NotTakenAbroad]:
        """Refused for good and heard of since then, or not taken for now; the oldest word first. `crossed_book`."""
        rows = self._rows(
            "SELECT evt, thread, peer, heard_at, final FROM crossed JOIN outgoing USING (evt)"
            f" WHERE refusal IS NOT NULL AND {_SPEAKS} AND (final = 0 AND state = 'promised'"
            " OR final = 1 AND state = 'refused' AND heard_at > ?) ORDER BY heard_at, n",
            since,
        )
        return [NotTakenAbroad(evt, thread, peer, at, bool(final)) for evt, thread, peer, at, final in rows]

    def last_seen(self, peer: str) -> int | None:
        """The log's time of the last record that certainly came from that agency, whatever it was."""
        [(at_ms,)] = self._rows("SELECT max(at_ms) FROM incoming WHERE iss = ?", peer)
        return None if at_ms is None else int(at_ms) // 1000

    # -- notices ------------------------------------------------------------------------------------------------------

    def notice(self, thread: str, kind: str, about: str, due_at: int, at: int) -> bool:
        """Raise it, once. False: it was raised before."""
        sql = "INSERT INTO notice(thread, kind, about, due_at, at) VALUES(?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        return self._run(sql, thread, kind, about, due_at, at) == 1

    def forget_notices_after(self, at: int) -> int:
        """Those dated later were raised by a clock that was wrong: each is raised again when its time has come."""
        return self._run("DELETE FROM notice WHERE at > ?", at)

    def untold_notices(self) -> list[Notice]:
        """Those that nobody has been told of yet, in the order in which they were raised."""
        rows = self._rows("SELECT n, thread, kind, about, due_at, at FROM notice WHERE told = 0 ORDER BY n")
        return [Notice(*row) for row in rows]

    def mark_notice_told(self, n: int) -> None:
        """If we die before, it is told again."""
        self._run("UPDATE notice SET told = 1 WHERE n = ?", n)
