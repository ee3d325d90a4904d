# SPDX-License-Identifier: Apache-2.0
"""One agency's durable state: outbox, inbox, cursors, chains, threads. One SQLite file; the only truth of an adapter.

Who owns what: this file owns everything an adapter must not lose. Connectors keep their own system, the log keeps the
records, the registry file is a copy. Bodies stay sealed at rest: rows hold records, grants and sealed parts, never a
plaintext; the agency's own case number (`person.ref`) stands here and nowhere else.

Every public method is one transaction, durable when it returns (WAL, synchronous=FULL, secure_delete=ON, through apsw
with its own SQLite >= 3.51.3: older ones can lose committed WAL writes). So a crash falls between two methods:

    accept      before: nothing happened, the connector offers the batch again; after: known, `again=True`
    sign        before: unsigned, may still be cancelled; after: these bytes and no others are sent for that number
    (send)      the log may or may not have them: the same bytes go again, and give the same promise
    settle      before: sent again, the same answer; after: promised, or refused and its number voided
    store       before: read again from the cursor; after: in the inbox, cursor and receipt with it
    (deliver)   the agency's system may or may not have it: delivered again, idempotent by "<iss>/<evt>"
    delivered   before: delivered again; after: done

States of an outgoing item: waiting -> signed -> promised -> delivered (a machine has it) | rejected (a machine there
could not take it); refused (the log never will), cancelled (before signing). What people answered is the *thread's*
state, never the item's.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import apsw

from adapters.mailbox_dues import Dues
from adapters.mailbox_rows import HELD, MIGRATIONS, STOPPED, Incoming, Outgoing, Thread, TurnedDown
from schemas import lifecycle
from schemas.errors import LogError, OrderError
from schemas.plain.attachment import ANNOUNCED, CHUNK

_OLDEST_SQLITE = (3, 51, 3)
_LONGEST_WAIT_S = 3600.0
"""Longer than any back-off: a next attempt further ahead was written by a clock that was wrong, and counts as due."""


class Mailbox:
    """See the module's docstring. Not safe for threads; several processes may open the same file."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._depth = 0
        self.dues = Dues(self._rows, self._run)
        """What concerns time."""

    @classmethod
    def open(cls, path: str | Path, *, vfs: str | None = None, exclusive: bool = False) -> Mailbox:
        """Open or create the file (mode 0600).

        Args:
            vfs: name of an apsw VFS (tests: a disk that forgets what was not synced).
            exclusive: one process only; needed where the VFS has no shared memory.

        Raises:
            LogError: unavailable (locked by a program that does not let go, or no SQLite file), storage_full.
        """
        if tuple(int(part) for part in apsw.sqlite_lib_version().split(".")[:3]) < _OLDEST_SQLITE:
            raise LogError("unavailable", "sqlite", expected="3.51.3")
        if vfs is None:
            try:
                # Made by us before SQLite does, so that it is never readable by others, not even for a moment.
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as exc:
                full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
                raise LogError("storage_full" if full else "unavailable", "mailbox") from None
        with _translated():
            db = apsw.Connection(str(path), vfs=vfs)
            db.set_busy_timeout(10_000)
            if exclusive:
                db.pragma("locking_mode", "exclusive")
            db.pragma("journal_mode", "wal")
            db.pragma("synchronous", "full")
            db.pragma("secure_delete", True)
            db.pragma("foreign_keys", True)
            box = cls(db)
            with box._tx():
                version = db.pragma("user_version")
                if version > len(MIGRATIONS):
                    raise LogError("unavailable", "mailbox.version", expected=len(MIGRATIONS))
                for script in MIGRATIONS[version:]:
                    db.execute(script)
                db.pragma("user_version", len(MIGRATIONS))
        return box

    def close(self) -> None:
        """Idempotent."""
        self._db.close()

    @contextmanager
    def _tx(self) -> Iterator[None]:
        """One transaction; the outermost commits. Anything raised rolls all of it back."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        with _translated():
            self._db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    transaction = _tx
    """`with mailbox.transaction():` makes several of the methods below one durable step."""

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Inside a transaction: what is raised within undoes what was done within, and no more."""
        with _translated():
            self._db.execute("SAVEPOINT attempt")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it already
                    self._db.execute("ROLLBACK TO attempt; RELEASE attempt")
                raise
            self._db.execute("RELEASE attempt")

    def _rows(self, sql: str, *binds: Any) -> list[tuple[Any, ...]]:
        try:
            return list(self._db.execute(sql, binds))
        except apsw.Error as cause:
            raise _translation(cause) from None

    def _row(self, sql: str, *binds: Any) -> tuple[Any, ...] | None:
        rows = self._rows(sql, *binds)
        return rows[0] if rows else None

    def _run(self, sql: str, *binds: Any) -> int:
        if not self._depth:
            with self._tx():
                return self._run(sql, *binds)
        try:
            self._db.execute(sql, binds)
        except apsw.Error as cause:
            raise _translation(cause) from None
        return self._db.changes()

    def query(self, sql: str, *binds: Any) -> list[tuple[Any, ...]]:
        """Rows of tables that another module of this room owns (`adapters.consent_book`)."""
        return self._rows(sql, *binds)

    def change(self, sql: str, *binds: Any) -> int:
        """One statement on such a table, durable with the surrounding transaction. Returns how many rows it changed."""
        return self._run(sql, *binds)

    def scrub(self) -> bool:
        """What was deleted leaves the file beside the database too. False: another program reads just now, try again.

        Rows are overwritten when they are deleted (`secure_delete`); the write-ahead log keeps old pages until then.
        """
        if self._depth:
            return False
        busy, _, _ = self._rows("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        return not busy

    # -- persons and threads ------------------------------------------------------------------------------------------

    def pseudonym(self, person: str, peer: str, fresh: Callable[[], str]) -> str:
        """The pseudonym of one person towards one peer; made on first use. Linkage never leaves this file."""
        with self._tx():
            self._run("INSERT INTO person(ref) VALUES(?) ON CONFLICT DO NOTHING", person)
            row = self._row(
                "SELECT pseudonym FROM pair WHERE peer = ? AND person = (SELECT n FROM person WHERE ref = ?)",
                peer,
                person,
            )
            if row is not None:
                return str(row[0])
            made = fresh()
            self._run("INSERT INTO pair SELECT n, ?, ? FROM person WHERE ref = ?", peer, made, person)
            return made

    def thread(self, thread: str) -> Thread | None:
        """The thread of that id, None when there is none."""
        row = self._row(
            "SELECT id, peer, (SELECT ref FROM person WHERE n = thread.person), machine, role, pseudonym, state,"
            " opened_by, answer_by, crossed, services, refused FROM thread WHERE id = ?",
            thread,
        )
        if row is None:
            return None
        *rest, crossed, services, refused = row
        names = tuple(services.split()), tuple(refused.split())
        return replace(Thread(*rest), crossed=bool(crossed), services=names[0], refused=names[1])

    def thread_of(self, evt: str, peer: str) -> str | None:
        """The thread of an event that was sent to `peer` or came from it."""
        row = self._row(
            "SELECT thread FROM outgoing WHERE evt = ?1 AND peer = ?2 UNION ALL"
            " SELECT thread FROM incoming WHERE ident = ?2 || '/' || ?1 AND state <> 'quarantined' LIMIT 1",
            evt,
            peer,
        )
        return None if row is None else str(row[0])

    def threads(self) -> list[Thread]:
        """All of them, the last changed first."""
        ids = self._rows("SELECT id FROM thread ORDER BY changed_at DESC, id")
        return [thread for (name,) in ids if (thread := self.thread(name)) is not None]

    def put_thread(self, thread: Thread, at: int) -> None:
        """Make or change a thread. `at`: seconds since the epoch, for the order in which threads are shown.

        Peer, machine, role, pseudonym, `opened_by` and `refused` are fixed by the first put.
        """
        with self._tx():
            if thread.person is not None:
                self._run("INSERT INTO person(ref) VALUES(?) ON CONFLICT DO NOTHING", thread.person)
            self._run(
                "INSERT INTO thread(id, peer, person, machine, role, pseudonym, state, opened_by, answer_by, crossed,"
                " changed_at, services, refused)"
                " VALUES(?, ?, (SELECT n FROM person WHERE ref = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET state = excluded.state, crossed = excluded.crossed,"
                " person = excluded.person, answer_by = excluded.answer_by, changed_at = excluded.changed_at,"
                " services = excluded.services",
                thread.id,
                thread.peer,
                thread.person,
                thread.machine,
                thread.role,
                thread.pseudonym,
                thread.state,
                thread.opened_by,
                thread.answer_by,
                int(thread.crossed),
                at,
                " ".join(thread.services),
                " ".join(thread.refused),
            )

    def drop_thread(self, thread: str) -> None:
        """A thread whose first event was refused or cancelled never was."""
        self._run("DELETE FROM thread WHERE id = ?", thread)

    # -- outbox: batches ----------------------------------------------------------------------------------------------

    def begin_batch(self, source: str, connector: str, at: int) -> bool:
        """Inside the caller's transaction: the batch is known from its commit on. False: it was known already."""
        return self._run("INSERT INTO batch VALUES(?, ?, ?, 0) ON CONFLICT DO NOTHING", source, connector, at) == 1

    def known_line(self, source: str, line: str) -> Outgoing | TurnedDown | None:
        """What became of a line of a batch the first time."""
        row = self._row("SELECT line, code, path FROM turned_down WHERE source = ? AND line = ?", source, line)
        if row is not None:
            return TurnedDown(*row)
        found = self._outgoing("source = ? AND line = ?", source, line)
        return found[0] if found else None

    def turn_down(self, source: str, line: str, code: str, path: str | None) -> None:
        """Inside the caller's transaction: the line never becomes an event; `known_line` says so from then on."""
        self._run("INSERT INTO turned_down VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING", source, line, code, path)

    def mark_settled(self, source: str) -> None:
        """The batch was reported to its author; if we die before, it is collected and reported again."""
        self._run("UPDATE batch SET settled = 1 WHERE source = ?", source)

    # -- outbox: items ------------------------------------------------------------------------------------------------

    _COLUMNS = (
        "n, evt, source, line, connector, peer, topic, type, kind, thread, ref, answer_by, parts, body, grants,"
        " thread_before, thread_after, seq, l1, voids, state, code, path, promise, log_offset, attempts, next_at,"
        " created_at, told, promised_at"
    )

    def _outgoing(self, where: str, *binds: Any) -> list[Outgoing]:
        names = [name.strip() for name in self._COLUMNS.split(",")]
        items = []
        for row in self._rows(f"SELECT {self._COLUMNS} FROM outgoing WHERE {where}", *binds):
            raw = dict(zip(names, row, strict=True))
            raw["grants"] = tuple(json.loads(raw["grants"]))
            raw["voids"] = tuple(json.loads(raw["voids"])) if raw["voids"] else ()
            items.append(Outgoing(**raw))
        return items

    def enqueue(self, item: Outgoing) -> None:
        """The event is sealed and will be sent. Durable with the surrounding transaction."""
        self._run(
            "INSERT INTO outgoing(evt, source, line, connector, peer, topic, type, kind, thread, ref, answer_by, parts,"
            " body, grants, thread_before, thread_after, state, created_at)"
            " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            item.evt,
            item.source,
            item.line,
            item.connector,
            item.peer,
            item.topic,
            item.type,
            item.kind,
            item.thread,
            item.ref,
            item.answer_by,
            item.parts,
            item.body,
            json.dumps(item.grants),
            item.thread_before,
            item.thread_after,
            "waiting",
            item.created_at,
        )

    def outgoing(self, evt: str) -> Outgoing | None:
        """The item of that event, None when we have sent none such."""
        found = self._outgoing("evt = ?", evt)
        return found[0] if found else None

    def outbox(self, *, open_only: bool = False) -> list[Outgoing]:
        """All items in the order in which they entered; `open_only`: those that the log has not acknowledged."""
        where = "state IN ('waiting', 'signed')" if open_only else "1"
        return self._outgoing(f"{where} ORDER BY n")

    _UNSIGNED = (
        "state IN ('waiting', 'signed') AND state = 'waiting'"
        " AND NOT EXISTS (SELECT 1 FROM outgoing AS first WHERE first.state IN ('waiting', 'signed')"
        " AND first.state = 'waiting' AND first.topic = outgoing.topic"
        " AND first.n <= outgoing.n AND first.next_at > ?)"
    )

    def waiting(self, limit: int, now: float = math.inf) -> list[Outgoing]:
        """Unsigned items in the order in which they entered, chunks of attachments apart (`waiting_chunks`). One that
        waits to be numbered again holds up its topic."""
        return self._outgoing(f"{self._UNSIGNED} AND type <> '{CHUNK}' ORDER BY n LIMIT ?", now, limit)

    def waiting_chunks(self, limit: int, now: float = math.inf) -> list[Outgoing]:
        """The next chunks to be signed, of what the log has the announcement of, on topics where none is under way: few
        at a time, so that whatever else is to be said goes before the rest of them."""
        return self._outgoing(
            f"{self._UNSIGNED} AND type = '{CHUNK}' AND NOT EXISTS (SELECT 1 FROM outgoing AS sent"
            f" WHERE sent.state IN ('waiting', 'signed') AND sent.state = 'signed' AND sent.topic = outgoing.topic"
            f" AND sent.type = '{CHUNK}') AND EXISTS (SELECT 1 FROM outgoing AS whole WHERE whole.evt = outgoing.ref"
            " AND whole.state IN ('promised', 'delivered')) ORDER BY n LIMIT ?",
            now,
            limit,
        )

    def due(self, now: float, limit: int) -> list[Outgoing]:
        """Signed items to send, in order per topic; a topic whose first item is not due yet is left out whole.

        The order per topic is kept so that the receiving side sees a chain without gaps.
        """
        return self._outgoing(
            f"state IN ('waiting', 'signed') AND state = 'signed' AND evt NOT IN {STOPPED}"
            " AND NOT EXISTS (SELECT 1 FROM outgoing AS first WHERE first.state IN ('waiting', 'signed')"
            f" AND first.state = 'signed' AND first.topic = outgoing.topic AND first.evt NOT IN {STOPPED}"
            " AND first.seq <= outgoing.seq AND first.next_at > ? AND first.next_at <= ?) ORDER BY topic, seq LIMIT ?",
            now,
            now + _LONGEST_WAIT_S,
            limit,
        )

    def head(self, topic: str) -> tuple[int, str]:
        """(seq, chain hash) of the last manifest signed on that topic; (0, "") when none."""
        row = self._row("SELECT seq, hash FROM head WHERE topic = ?", topic)
        return (0, "") if row is None else (int(row[0]), str(row[1]))

    def heads(self) -> dict[str, tuple[int, str]]:
        """Topic -> `head`, for every topic that we have written to."""
        return {str(t): (int(s), str(h)) for t, s, h in self._rows("SELECT topic, seq, hash FROM head")}

    def set_head(self, topic: str, seq: int, chain: str) -> None:
        """The chain goes on behind number `seq`. Only upwards: a lower one would be used twice."""
        self._run(
            "INSERT INTO head VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
            topic,
            seq,
            chain,
        )

    def unnamed_voids(self, topic: str) -> tuple[int, ...]:
        """Numbers of ours on that topic that were refused for good and that no manifest has named yet."""
        rows = self._rows("SELECT seq FROM void WHERE topic = ? AND named_by IS NULL ORDER BY seq LIMIT 500", topic)
        return tuple(int(seq) for (seq,) in rows)

    def topics_to_void(self) -> list[str]:
        """Topics with unnamed voids and nothing else to send there.

        Not where a `chain.voided` was itself refused: another one would be, for ever; the next ordinary record names
        them all.
        """
        rows = self._rows(
            "SELECT DISTINCT topic FROM void WHERE named_by IS NULL AND NOT EXISTS (SELECT 1 FROM outgoing"
            f" WHERE outgoing.topic = void.topic AND outgoing.state IN ('waiting', 'signed') AND evt NOT IN {STOPPED})"
            " AND NOT EXISTS (SELECT 1 FROM outgoing JOIN void AS again USING (topic, seq)"
            " WHERE outgoing.topic = void.topic AND again.named_by IS NULL AND outgoing.type = 'chain.voided')"
            " ORDER BY topic"
        )
        return [str(topic) for (topic,) in rows]

    def mark_signed(self, evt: str, seq: int, l1: bytes, chain: str, voids: Sequence[int]) -> bool:
        """The signed bytes are durable before the first of them leaves. False: no longer waiting (cancelled, or signed
        by another process)."""
        with self._tx():
            item = self.outgoing(evt)
            if item is None or item.state != "waiting" or self.head(item.topic)[0] != seq - 1:
                return False
            self._run(
                "UPDATE outgoing SET state = 'signed', seq = ?, l1 = ?, voids = ? WHERE evt = ?",
                seq,
                l1,
                json.dumps(list(voids)) if voids else None,
                evt,
            )
            self.set_head(item.topic, seq, chain)
            for void in voids:
                self._run("UPDATE void SET named_by = ? WHERE topic = ? AND seq = ?", seq, item.topic, void)
            return True

    def mark_promised(self, evt: str, offset: int, promise: bytes | None, at: int | None = None) -> None:
        """In the log. Sent again into a restored log, it goes back to what its receipt said the first time.

        Args:
            at: the log's time of it, seconds since the epoch; the first one counts. None: not known.
        """
        with self._tx():
            if self._promised(evt, offset, promise, at) and self._rows(f"{STOPPED[1:-1]} LIMIT 1"):
                had_left = self._run("UPDATE stopped SET state = 'had-left' WHERE evt = ?", evt)
                for item in self._outgoing("evt = ?", evt):
                    if had_left:
                        sql = "DELETE FROM void WHERE topic = ? AND seq = ? AND named_by IS NULL"
                        self._run(sql, item.topic, item.seq)
                    self._never_left(item.topic, item.voids, item.created_at if at is None else at)

    def _promised(self, evt: str, offset: int, promise: bytes | None, at: int | None) -> bool:
        changed = self._run(
            "UPDATE outgoing SET state = coalesce((SELECT CASE type WHEN 'receipt.delivered' THEN 'delivered'"
            " ELSE 'rejected' END FROM incoming WHERE incoming.ref = outgoing.evt AND incoming.iss = outgoing.peer"
            " AND type IN ('receipt.delivered', 'receipt.rejected') AND state = 'delivered' ORDER BY n LIMIT 1),"
            " 'promised'), log_offset = ?, promise = ?, promised_at = coalesce(promised_at, ?), code = NULL,"
            " path = NULL WHERE evt = ? AND state = 'signed'",
            offset,
            promise,
            at,
            evt,
        )
        return changed == 1

    def _never_left(self, topic: str, voids: Sequence[int], at: int) -> None:
        """These numbers are void, the log has it in writing: what was stopped under one of them is in no log."""
        for seq in voids:
            for one in self._outgoing(f"topic = ? AND seq = ? AND evt IN {STOPPED}", topic, seq):
                self._run("UPDATE stopped SET state = 'never-left' WHERE evt = ?", one.evt)
                self.refuse(one.evt, "consent_withdrawn", "lawful.consent.given_at", at)

    def send_again(self, topic: str, after: int) -> int:
        """The log has lost what it promised of ours above number `after` (it was put back from an older copy): the same
        bytes go again, and readers know them. Returns how many."""
        return self._run(
            "UPDATE outgoing SET state = 'signed', next_at = 0, told = 'signed' WHERE topic = ? AND seq > ?"
            " AND state IN ('promised', 'delivered', 'rejected')",
            topic,
            after,
        )

    def postpone(self, evt: str, code: str, next_at: float) -> None:
        """The log did not take it now. `next_at`: seconds since the epoch before which it is not sent again."""
        self._run(
            "UPDATE outgoing SET attempts = attempts + 1, code = ?, next_at = ? WHERE evt = ? AND state = 'signed'",
            code,
            next_at,
            evt,
        )

    def number_again(self, evt: str, path: str | None, next_at: float) -> None:
        """Its number does not fit the chain that the log has; of the event that says nothing. It is signed again under
        the next number.

        So ends what would go on for ever: a number given up by mistake (a copy of this mailbox used it, a refusal was
        untrue) stands in the log, and every manifest that names it as void would be refused.

        Args:
            path: of the refusal: `L1.seq` (the number stands in the log), `L1.voids[0]` (one that it names does).
            next_at: not to be signed before; nor is what waits behind it on its topic.
        """
        with self._tx():
            item = self.outgoing(evt)
            if item is None or item.state != "signed" or item.seq is None:
                return
            self._run(
                "UPDATE outgoing SET state = 'waiting', seq = NULL, l1 = NULL, voids = NULL, code = 'chain_broken',"
                " path = ?, attempts = attempts + 1, next_at = ? WHERE evt = ?",
                path,
                next_at,
                evt,
            )
            self._run("UPDATE void SET named_by = NULL WHERE topic = ? AND named_by = ?", item.topic, item.seq)
            if path != "L1.seq":
                self._run("INSERT INTO void VALUES(?, ?, NULL) ON CONFLICT DO NOTHING", item.topic, item.seq)
            for place, seq in enumerate(item.voids):
                if path == f"L1.voids[{place}]":
                    self._run("DELETE FROM void WHERE topic = ? AND seq = ?", item.topic, seq)
                    # It stands in the log: sent again, it gets the promise that we never heard.
                    self._run(
                        "UPDATE stopped SET state = 'had-left' WHERE evt ="
                        " (SELECT evt FROM outgoing WHERE topic = ? AND seq = ?)",
                        item.topic,
                        seq,
                    )

    def refuse(self, evt: str, code: str, path: str | None, at: int) -> list[Outgoing]:
        """The log will never take it: its number is void, and what waits behind it on its thread cannot stand either.

        What is signed behind it may be in the log already, whatever we have heard: it goes on, and the other side's
        receipt says what became of it. The thread goes back to before what did not stand, unless something later did.
        Returns all items that were given up, the refused one first.
        """
        with self._tx():
            item = self.outgoing(evt)
            if item is None or item.state not in ("waiting", "signed"):
                return []
            thread = [one for one in self._outgoing("thread = ? ORDER BY n", item.thread) if one.speaks]
            behind = [one for one in thread if one.n > item.n] if item.speaks else []
            if code == "clock_ahead" and item.kind == "control" and not behind:
                # Nobody would send a receipt again, or an expiry. The refusal brought the right time: once more, under
                # a new number.
                self._void(item)
                self._run("UPDATE outgoing SET state = 'waiting', seq = NULL, l1 = NULL WHERE evt = ?", evt)
                return []
            waiting = [one for one in behind if one.state == "waiting"]
            given_up = [item, *waiting]
            for one in given_up:
                self._run(
                    "UPDATE outgoing SET state = 'refused', code = ?, path = ? WHERE evt = ?", code, path, one.evt
                )
                self._void(one)
            if not any(one.state in ("signed", "promised", "delivered") for one in behind):
                # Refused one after the other, as they were sent: back to before the first of them.
                first = item
                for one in reversed([one for one in thread if one.n < item.n]):
                    if one.state != "refused" or self._state_after(one) != first.thread_before:
                        break
                    first = one
                self._restore_thread(first, given_up[-1], at)
            elif waiting:
                self._restore_thread(waiting[0], waiting[-1], at)
            return given_up

    def _void(self, item: Outgoing) -> None:
        if item.seq is not None:
            self._run("INSERT INTO void VALUES(?, ?, NULL) ON CONFLICT DO NOTHING", item.topic, item.seq)
            # Voids that it was to name are unnamed again: nobody will ever read its manifest.
            self._run("UPDATE void SET named_by = NULL WHERE topic = ? AND named_by = ?", item.topic, item.seq)

    def _state_after(self, item: Outgoing) -> str | None:
        if item.thread_after is not None:
            return item.thread_after
        thread = self.thread(item.thread)  # written before this column was
        if thread is None:
            return None
        return lifecycle.step(thread.machine, item.thread_before, item.type, thread.role).state

    def cancel(self, evt: str, at: int) -> bool:
        """Take back what was not signed yet, its attachments with it. False: too late, or unknown."""
        with self._tx():
            item = self.outgoing(evt)
            if item is None or item.state != "waiting":
                return False
            behind = self._rows(
                "SELECT type, state FROM outgoing WHERE thread = ? AND n > ? AND state IN ('waiting', 'signed')",
                item.thread,
                item.n,
            )
            if any(type not in (ANNOUNCED, CHUNK) or state != "waiting" for type, state in behind):
                return False
            self._run(
                "UPDATE outgoing SET state = 'cancelled' WHERE thread = ? AND n >= ? AND state = 'waiting'",
                item.thread,
                item.n,
            )
            self._restore_thread(item, item, at)
            return True

    def take_back(self, evt: str, at: int) -> list[str]:
        """Cancel what was not signed yet, whatever waits behind it: what was said after it and cannot stand without it
        goes too, what only visits the thread stays. Returns what was cancelled; nothing: too late, or unknown."""
        with self._tx():
            item = self.outgoing(evt)
            if item is None or item.state != "waiting":
                return []
            behind = self._outgoing("thread = ? AND n > ? AND state IN ('waiting', 'signed')", item.thread, item.n)
            behind = [one for one in behind if one.speaks]
            if any(one.state == "signed" for one in behind):
                return []
            stays = item.thread_before is not None and item.thread_before == self._state_after(item)
            gone = [item] if stays else [item, *behind]
            for one in gone:
                self._run("UPDATE outgoing SET state = 'cancelled' WHERE evt = ?", one.evt)
            if not stays:
                self._restore_thread(item, gone[-1], at)
            return [one.evt for one in gone]

    def _restore_thread(self, item: Outgoing, last: Outgoing, at: int) -> None:
        """Back to before `item`; what the other side said since the last of what is taken back is not taken back."""
        thread = self.thread(item.thread)
        if thread is None or not item.speaks:
            return
        after, before = self._state_after(last), item.thread_before
        if thread.state == after and before is None:
            self.drop_thread(thread.id)
        elif thread.state == after and before is not None:
            self.put_thread(replace(thread, state=before), at)
        elif after is not None and before is not None:
            crossed = self._replayed(thread, after, before)
            if crossed is not None:
                self.put_thread(replace(thread, state=crossed), at)

    def _replayed(self, thread: Thread, after: str, before: str) -> str | None:
        """The thread's state had what came from the other side since it was in `after` found it in `before`; None
        where that cannot be told: then it stays as it is."""
        peer: lifecycle.Party = "recipient" if thread.role == "initiator" else "initiator"

        def stepped(state: str, types: Sequence[str]) -> list[str]:
            states = []
            for type in types:
                state = lifecycle.step(thread.machine, state, type, peer).state
                states.append(state)
            return states

        came: list[str] = []
        seen: list[str] = []
        rows = self._rows(
            "SELECT type, thread_state FROM incoming WHERE thread = ? AND thread_state IS NOT NULL ORDER BY n DESC",
            thread.id,
        )
        for type, state in rows:
            came.insert(0, str(type))
            seen.insert(0, str(state))
            with suppress(OrderError):
                if seen[-1] == thread.state and stepped(after, came) == seen:
                    return stepped(before, came)[-1]
        return None

    def mark_arrival(
        self, evt: str, state: Literal["delivered", "rejected"], code: str | None, path: str | None
    ) -> None:
        """What the other machine's receipt says. The first word counts. Who confirms what was stopped has it."""
        with self._tx():
            had_left = self._run(
                "UPDATE stopped SET state = 'had-left', settled = 0 WHERE evt = ? AND state <> 'had-left'", evt
            )
            states = ("signed", "promised", "refused" if had_left else "promised")
            self._run(
                "UPDATE outgoing SET state = ?, code = ?, path = ? WHERE evt = ? AND state IN (?, ?, ?)",
                state,
                code,
                path,
                evt,
                *states,
            )

    def retry(self, evt: str | None = None) -> int:
        """Try again now, whatever the back-off says. Returns how many items.

        Outgoing ones, held ones, and what was admitted but then could not be handed to the agency's system. What was
        quarantined for its own sake stays so: its sender has been told.
        """
        with self._tx():
            only, binds = ("", ()) if evt is None else (" AND evt = ?", (evt,))
            count = self._run(
                f"UPDATE outgoing SET next_at = 0 WHERE state IN ('waiting', 'signed') AND next_at > 0{only}", *binds
            )
            count += self._run(
                f"UPDATE incoming SET next_at = 0 WHERE state IN ('held', 'ready') AND next_at > 0{only}", *binds
            )
            count += self._run(
                "UPDATE incoming SET state = 'ready', code = NULL, path = NULL, next_at = 0"
                f" WHERE state = 'quarantined' AND thread_state IS NOT NULL{only}",
                *binds,
            )
            return count

    def untold(self, limit: int = 200) -> list[Outgoing]:
        """Items whose state the connector that brought them has not been told yet."""
        return self._outgoing("told <> state AND connector <> '' ORDER BY n LIMIT ?", limit)

    def mark_told(self, evt: str, state: str) -> None:
        """The connector has shown this state; if we die before, it is told again."""
        self._run("UPDATE outgoing SET told = ? WHERE evt = ?", state, evt)

    # -- inbox --------------------------------------------------------------------------------------------------------

    def cursor(self, log: str, topic: str) -> int:
        """Offset of the last entry taken from there; -1: none."""
        row = self._row("SELECT log_offset FROM cursor WHERE log = ? AND topic = ?", log, topic)
        return -1 if row is None else int(row[0])

    def advance(self, log: str, topic: str, offset: int) -> None:
        """Part of the transaction that stores what was read."""
        self._run(
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
        for row in self._rows(f"SELECT {self._INCOMING} FROM incoming WHERE {where}", *binds):
            raw = dict(zip(names, row, strict=True))
            raw["late"], raw["crossed"] = bool(raw["late"]), bool(raw["crossed"])
            raw["hold_until"] = json.loads(raw["hold_until"]) if raw["hold_until"] else None
            items.append(Incoming(**raw))
        return items

    def store(self, item: Incoming) -> None:
        """Into the inbox, cursor with it; the receipt is enqueued in the same transaction by the caller."""
        with self._tx():
            self._run(
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
        with self._tx():
            if self.held_item(item.n) is None:
                return False
            if item.state == "ready":
                n = self._row("SELECT max(n) + 1 FROM incoming")
                assert n is not None
                self._run("UPDATE incoming SET n = ? WHERE n = ?", n[0], item.n)
                item = replace(item, n=n[0])
            self._run(
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
        last = self._row("SELECT max(n) + 1 FROM incoming")
        assert last is not None
        self._run(
            "UPDATE incoming SET n = ?, state = ?, code = ?, path = ?, next_at = 0 WHERE n = ? AND state = 'gathering'",
            last[0],
            item.state,
            item.code,
            item.path,
            item.n,
        )

    def note_ends(self, n: int, ends: Mapping[str, int]) -> None:
        """What must have been read before the held item's thread counts as unknown; the first note counts."""
        self._run(
            "UPDATE incoming SET hold_until = ? WHERE n = ? AND state = 'held' AND hold_until IS NULL",
            json.dumps(dict(ends)),
            n,
        )

    def arrived(self, ident: str) -> Incoming | None:
        """The item of that event that is not quarantined."""
        found = self._incoming("ident = ? AND state <> 'quarantined'", ident)
        return found[0] if found else None

    def knows(self, ident: str, digest: bytes) -> bool:
        """Whether this very record has been here, quarantined or not: it has its one receipt then."""
        return self._row("SELECT 1 FROM incoming WHERE ident = ? AND digest = ?", ident, digest) is not None

    def inbox(self) -> list[Incoming]:
        """All items that were read, in the order of their delivery; quarantined ones among them."""
        return self._incoming("1 ORDER BY n")

    def held(self, now: float) -> list[Incoming]:
        """Items whose time to be looked at again has come (`now`: seconds since the epoch), oldest first."""
        return self._incoming(f"{HELD} AND (next_at <= ? OR next_at > ?) ORDER BY n", now, now + _LONGEST_WAIT_S)

    def must_wait(self, thread: str, before: int | None = None) -> bool:
        """Whether what comes on the thread (as item `before`) waits for something held there.

        On a thread that is not begun, the held ones wait for its beginning, which must not wait for them; but one that
        waits for its grant, or for a registry, may be the beginning.
        """
        began = self._row("SELECT 1 FROM thread WHERE id = ?", thread) is not None
        sql = (
            f"SELECT 1 FROM incoming WHERE {HELD} AND thread = ? AND n < ?"
            " AND (? OR code IN ('grant_missing', 'registry_stale'))"
        )
        return self._row(sql, thread, 2**62 if before is None else before, began) is not None

    def may_begin(self, thread: str, but: int) -> bool:
        """Whether something held on the thread, item `but` apart, could still be its beginning: it waits for its grant
        or for a registry, or has only been put behind others and not been looked at."""
        sql = (
            f"SELECT 1 FROM incoming WHERE {HELD} AND thread = ? AND n <> ?"
            " AND (code IN ('grant_missing', 'registry_stale') OR attempts = 0)"
        )
        return self._row(sql, thread, but) is not None

    def wake_held(self, thread: str) -> None:
        """The thread has moved: look at what is held on it again, whatever the back-off says."""
        self._run(f"UPDATE incoming SET next_at = 0 WHERE {HELD} AND thread = ?", thread)

    def ready(self, now: float, limit: int = 100) -> list[Incoming]:
        """The first undelivered item of every thread that is due: a stuck item stops its thread, not the agency."""
        return self._incoming(
            "state IN ('held', 'ready') AND state = 'ready' AND (next_at <= ? OR next_at > ?)"
            " AND NOT EXISTS (SELECT 1 FROM incoming AS first WHERE first.state IN ('held', 'ready')"
            " AND first.thread = incoming.thread AND first.n < incoming.n AND first.state = 'ready')"
            " ORDER BY n LIMIT ?",
            now,
            now + _LONGEST_WAIT_S,
            limit,
        )

    # Only of what is ready: handing over takes its time, and another program may have done it meanwhile.

    def mark_delivered(self, n: int) -> None:
        """The agency's system has it; if we die before, it is delivered again."""
        self._run(
            "UPDATE incoming SET state = 'delivered', code = NULL, path = NULL WHERE n = ? AND state = 'ready'", n
        )

    def quarantine(self, n: int, code: str, path: str | None) -> None:
        """The agency's system will never take it. The peer is not told: its receipt says that the machine has it."""
        self._run(
            "UPDATE incoming SET state = 'quarantined', code = ?, path = ? WHERE n = ? AND state = 'ready'",
            code,
            path,
            n,
        )

    def postpone_delivery(self, n: int, code: str, next_at: float) -> None:
        """The agency's system cannot take it now. `next_at`: not tried again before, seconds since the epoch."""
        self._run(
            "UPDATE incoming SET attempts = attempts + 1, code = ?, next_at = ? WHERE n = ? AND state = 'ready'",
            code,
            next_at,
            n,
        )

    def seen_hash(self, iss: str, topic: str, seq: int) -> str | None:
        """Chain hash of the issuer's manifest with that number, if it has been here."""
        row = self._row("SELECT hash FROM seen WHERE iss = ? AND topic = ? AND seq = ?", iss, topic, seq)
        return None if row is None else str(row[0])

    def saw(self, iss: str, topic: str, seq: int, chain: str) -> None:
        """Remember an issuer's number and chain hash, for the next manifest's `prev`. The first word counts."""
        self._run("INSERT INTO seen VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING", iss, topic, seq, chain)

    def counts(self) -> dict[str, int]:
        """Items by direction and state, for status and metrics: `{"outgoing.waiting": 2, ...}`."""
        rows: Iterable[tuple[Any, ...]] = self._rows(
            "SELECT 'outgoing.' || state, count(*) FROM outgoing GROUP BY state"
            " UNION ALL SELECT 'incoming.' || state, count(*) FROM incoming GROUP BY state"
        )
        return {str(name): int(count) for name, count in rows}


@contextmanager
def _translated() -> Iterator[None]:
    """SQLite's errors as ours; none of ours prints a value."""
    try:
        yield
    except apsw.Error as cause:
        raise _translation(cause) from None


def _translation(cause: apsw.Error) -> Exception:
    if isinstance(cause, apsw.FullError):
        return LogError("storage_full", "mailbox")
    if isinstance(cause, (apsw.BusyError, apsw.LockedError, apsw.CantOpenError, apsw.IOError, apsw.ReadOnlyError)):
        return LogError("unavailable", "mailbox")
    if isinstance(cause, (apsw.CorruptError, apsw.NotADBError)):
        return LogError("log_inconsistent", "mailbox")
    return cause  # a fault of ours
