# SPDX-License-Identifier: Apache-2.0
"""What of the mailbox's file has arrived: cursors, records that were read, what is held back, what is to be delivered.

A part of `adapters.mailbox.Mailbox` (its `arrivals`): same file, same transactions, same crash rules. Bodies stay
sealed here. Nothing here decides; `adapters.inbox` and `adapters.gathering` do.

States of an item: held (it waits for its thread, its grant or a registry) -> ready -> delivered; quarantined (it can
never be taken, its sender has been told, or the agency's system refused it); gathering (an attachment whose chunks are
still to come) -> ready.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adapters.mailbox_file import MailboxFile
from adapters.mailbox_rows import CARRIED, HELD, IS_CARRIED, LONGEST_WAIT_S, NOT_TAKEN, Incoming


class Arrivals:
    """See the module's docstring. Made by `Mailbox`."""

    def __init__(self, file: MailboxFile) -> None:
        self._file = file

    def cursor(self, log: str, topic: str) -> int:
        """Offset of the last entry taken from there; -1: none."""
        row = self._file.row("SELECT log_offset FROM cursor WHERE log = ? AND topic = ?", log, topic)
        return -1 if row is None else int(row[0])

    def advance(self, log: str, topic: str, offset: int) -> None:
        """Part of the transaction that stores what was read."""
        self._file.run(
            "INSERT INTO cursor VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET log_offset = excluded.log_offset"
            " WHERE excluded.log_offset > cursor.log_offset",
            log,
            topic,
            offset,
        )

    _INCOMING = (
        "n, log, topic, log_offset, at_ms, ident, iss, evt, digest, type, kind, thread, ref, late, crossed, record,"
        " grant_value, state, thread_state, code, path, attempts, next_at, hold_until"
    )

    def _incoming(self, where: str, *binds: Any) -> list[Incoming]:
        names = [name.strip() for name in self._INCOMING.split(",")]
        items = []
        for row in self._file.rows(f"SELECT {self._INCOMING} FROM incoming WHERE {where}", *binds):
            raw = dict(zip(names, row, strict=True))
            raw["late"], raw["crossed"] = bool(raw["late"]), bool(raw["crossed"])
            raw["hold_until"] = json.loads(raw["hold_until"]) if raw["hold_until"] else None
            items.append(Incoming(**raw))
        return items

    def store(self, item: Incoming) -> None:
        """Into the inbox, cursor with it; the receipt is enqueued in the same transaction by the caller."""
        with self._file.transaction():
            self._file.run(
                "INSERT INTO incoming(log, topic, log_offset, at_ms, ident, iss, evt, digest, type, kind, thread, ref,"
                " late, crossed, record, grant_value, state, thread_state, code, path, hold_until, attempts, next_at)"
                " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                item.log,
                item.topic,
                item.log_offset,
                item.at_ms,
                item.ident,
                item.iss,
                item.evt,
                item.digest,
                item.type,
                item.kind,
                item.thread,
                item.ref,
                int(item.late),
                int(item.crossed),
                item.record,
                item.grant_value,
                item.state,
                item.thread_state,
                item.code,
                item.path,
                None if item.hold_until is None else json.dumps(dict(item.hold_until)),
                item.attempts,
                item.next_at,
            )
            self.advance(item.log, item.topic, item.log_offset)

    def settle_held(self, item: Incoming) -> bool:
        """A held item has become ready or quarantined, or is tried again later. False: it is held no longer.

        What becomes ready goes behind all that is there: delivery follows the order in which the thread was stepped.
        """
        with self._file.transaction():
            if self.held_item(item.n) is None:
                return False
            if item.state == "ready":
                n = self._file.row("SELECT max(n) + 1 FROM incoming")
                assert n is not None
                self._file.run("UPDATE incoming SET n = ? WHERE n = ?", n[0], item.n)
                item = replace(item, n=n[0])
            self._file.run(
                "UPDATE incoming SET state = ?, type = ?, thread_state = ?, crossed = ?, grant_value = ?, code = ?,"
                " path = ?, attempts = ?, next_at = ?, hold_until = ? WHERE n = ?",
                item.state,
                item.type,
                item.thread_state,
                int(item.crossed),
                item.grant_value,
                item.code,
                item.path,
                item.attempts,
                item.next_at,
                None if item.hold_until is None else json.dumps(dict(item.hold_until)),
                item.n,
            )
            return True

    def held_item(self, n: int) -> Incoming | None:
        """That item, if it is still held. Who asked the log something about it asks for it again before deciding:
        another turn, or another program, may have dealt with it meanwhile."""
        found = self._incoming("n = ? AND state = 'held'", n)
        return found[0] if found else None

    def gathering(self, ident: str | None = None) -> list[Incoming]:
        """Attachments that wait for chunks; just that one's where it is named."""
        if ident is None:
            return self._incoming("state = 'gathering' ORDER BY n")
        return self._incoming("ident = ? AND state = 'gathering'", ident)

    def settle_gathering(self, item: Incoming) -> None:
        """It is whole, or never will be. What becomes ready goes behind all that is there (`settle_held`)."""
        last = self._file.row("SELECT max(n) + 1 FROM incoming")
        assert last is not None
        self._file.run(
            "UPDATE incoming SET n = ?, state = ?, code = ?, path = ?, next_at = 0 WHERE n = ? AND state = 'gathering'",
            last[0],
            item.state,
            item.code,
            item.path,
            item.n,
        )

    def note_ends(self, n: int, ends: Mapping[str, int]) -> None:
        """What must have been read before the held item's thread counts as unknown; the first note counts."""
        self._file.run(
            "UPDATE incoming SET hold_until = ? WHERE n = ? AND state = 'held' AND hold_until IS NULL",
            json.dumps(dict(ends)),
            n,
        )

    def of(self, ident: str) -> Incoming | None:
        """The item of that event that is not quarantined."""
        found = self._incoming("ident = ? AND state <> 'quarantined'", ident)
        return found[0] if found else None

    def knows(self, ident: str, digest: bytes) -> bool:
        """Whether this very record has been here, quarantined or not: it has its one receipt then."""
        return self._file.row("SELECT 1 FROM incoming WHERE ident = ? AND digest = ?", ident, digest) is not None

    def cursors(self) -> dict[str, dict[str, int]]:
        """Log -> topic -> offset of the last entry taken from there."""
        found: dict[str, dict[str, int]] = {}
        for log, topic, offset in self._file.rows(f"SELECT log, topic, log_offset FROM cursor WHERE NOT {IS_CARRIED}"):
            found.setdefault(str(log), {})[str(topic)] = int(offset)
        return found

    def carried(self, limit: int) -> list[Incoming]:
        """What was handed over on a stick, opens, and is not known to be in the log, in the order of its delivery."""
        return self._incoming(
            f"{IS_CARRIED} AND grant_value IS NOT NULL AND state <> 'erased' ORDER BY n LIMIT ?", limit
        )

    def logged(self, ident: str, digest: bytes, log: str, topic: str, offset: int, at_ms: int) -> None:
        """What a stick brought is in the log, at this place and time, which count from now on."""
        self._file.run(
            f"UPDATE OR IGNORE incoming SET log = ?, topic = ?, log_offset = ?, at_ms = ?, hold_until = NULL"
            f" WHERE ident = ? AND digest = ? AND ({IS_CARRIED} OR substr(log, 1, 8) = '{NOT_TAKEN}')",
            log,
            topic,
            offset,
            at_ms,
            ident,
            digest,
        )

    def not_taken(self, ident: str, digest: bytes, code: str, path: str | None) -> None:
        """The log will never take what a stick brought; it stays here as it is, with the reason."""
        self._file.run(
            "UPDATE incoming SET log = ? || substr(log, ?), code = ?, path = ?"
            f" WHERE ident = ? AND digest = ? AND {IS_CARRIED}",
            NOT_TAKEN,
            len(CARRIED) + 1,
            code,
            path,
            ident,
            digest,
        )

    def all(self) -> list[Incoming]:
        """All items that were read, in the order of their delivery; quarantined ones among them."""
        return self._incoming("1 ORDER BY n")

    def held(self, now: float) -> list[Incoming]:
        """Items whose time to be looked at again has come (`now`: seconds since the epoch), oldest first."""
        return self._incoming(f"{HELD} AND (next_at <= ? OR next_at > ?) ORDER BY n", now, now + LONGEST_WAIT_S)

    def must_wait(self, thread: str, before: int | None = None) -> bool:
        """Whether what comes on the thread (as item `before`) waits for something held there.

        On a thread that is not begun, the held ones wait for its beginning, which must not wait for them; but one that
        waits for its grant, or for a registry, may be the beginning.
        """
        began = self._file.row("SELECT 1 FROM thread WHERE id = ?", thread) is not None
        sql = (
            f"SELECT 1 FROM incoming WHERE {HELD} AND thread = ? AND n < ?"
            " AND (? OR code IN ('grant_missing', 'registry_stale'))"
        )
        return self._file.row(sql, thread, 2**62 if before is None else before, began) is not None

    def may_begin(self, thread: str, but: int) -> bool:
        """Whether something held on the thread, item `but` apart, could still be its beginning: it waits for its grant
        or for a registry, or has only been put behind others and not been looked at."""
        sql = (
            f"SELECT 1 FROM incoming WHERE {HELD} AND thread = ? AND n <> ?"
            " AND (code IN ('grant_missing', 'registry_stale') OR attempts = 0)"
        )
        return self._file.row(sql, thread, but) is not None

    def wake_held(self, thread: str) -> None:
        """The thread has moved: look at what is held on it again, whatever the back-off says."""
        self._file.run(f"UPDATE incoming SET next_at = 0 WHERE {HELD} AND thread = ?", thread)

    def ready(self, now: float, limit: int = 100) -> list[Incoming]:
        """The first undelivered item of every thread that is due: a stuck item stops its thread, not the agency."""
        return self._incoming(
            "state IN ('held', 'ready') AND state = 'ready' AND (next_at <= ? OR next_at > ?)"
            " AND NOT EXISTS (SELECT 1 FROM incoming AS first WHERE first.state IN ('held', 'ready')"
            " AND first.thread = incoming.thread AND first.n < incoming.n AND first.state = 'ready')"
            " ORDER BY n LIMIT ?",
            now,
            now + LONGEST_WAIT_S,
            limit,
        )

    # Only of what is ready: handing over takes its time, and another program may have done it meanwhile.

    def mark_delivered(self, n: int) -> None:
        """The agency's system has it; if we die before, it is delivered again."""
        self._file.run(
            "UPDATE incoming SET state = 'delivered', code = NULL, path = NULL WHERE n = ? AND state = 'ready'", n
        )

    def quarantine(self, n: int, code: str, path: str | None) -> None:
        """The agency's system will never take it. The peer is not told: its receipt says that the machine has it."""
        self._file.run(
            "UPDATE incoming SET state = 'quarantined', code = ?, path = ? WHERE n = ? AND state = 'ready'",
            code,
            path,
            n,
        )

    def postpone_delivery(self, n: int, code: str, next_at: float) -> None:
        """The agency's system cannot take it now. `next_at`: not tried again before, seconds since the epoch."""
        self._file.run(
            "UPDATE incoming SET attempts = attempts + 1, code = ?, next_at = ? WHERE n = ? AND state = 'ready'",
            code,
            next_at,
            n,
        )

    def seen_hash(self, iss: str, topic: str, seq: int) -> str | None:
        """Chain hash of the issuer's manifest with that number, if it has been here."""
        row = self._file.row("SELECT hash FROM seen WHERE iss = ? AND topic = ? AND seq = ?", iss, topic, seq)
        return None if row is None else str(row[0])

    def saw(self, iss: str, topic: str, seq: int, chain: str) -> None:
        """Remember an issuer's number and chain hash, for the next manifest's `prev`. The first word counts."""
        self._file.run("INSERT INTO seen VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING", iss, topic, seq, chain)
