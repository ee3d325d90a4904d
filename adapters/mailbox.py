# SPDX-License-Identifier: Apache-2.0
"""One agency's durable state: outbox, inbox, cursors, chains, threads. One SQLite file; the only truth of an adapter.

Who owns what: this file owns everything an adapter must not lose; its parts are `mailbox_arrivals` (what came),
`mailbox_chains` (our numbers) and `mailbox_dues` (what concerns time), on one `mailbox_file`. Connectors keep their
own system, the log keeps the records, the registry file is a copy. Bodies stay sealed at rest: rows hold records,
grants and sealed parts, never a plaintext; the agency's own case number (`person.ref`) stands here and nowhere else.

Every public method is one transaction, durable when it returns. So a crash falls between two methods:

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

import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from adapters.mailbox_arrivals import Arrivals
from adapters.mailbox_chains import Chains
from adapters.mailbox_dues import Dues
from adapters.mailbox_file import MailboxFile
from adapters.mailbox_rows import LONGEST_WAIT_S, STOPPED, Outgoing, Thread, TurnedDown
from schemas import lifecycle
from schemas.errors import OrderError
from schemas.plain.attachment import ANNOUNCED, CHUNK


class Mailbox:
    """See the module's docstring. Not safe for threads; several processes may open the same file."""

    def __init__(self, file: MailboxFile) -> None:
        self._file = file
        self.close = file.close
        self.transaction = file.transaction
        """`with mailbox.transaction():` makes several of the methods below one durable step."""
        self.attempt = file.attempt
        self.scrub = file.scrub
        self.query = file.rows
        """Rows of tables that another module of this room owns (`adapters.consent_book`)."""
        self.change = file.run
        """One statement on such a table."""
        self.arrivals = Arrivals(file)
        """What has come."""
        self.chains = Chains(file)
        """Our own numbers."""
        self.dues = Dues(file.rows, file.run)
        """What concerns time."""

    @classmethod
    def open(cls, path: str | Path, *, vfs: str | None = None, exclusive: bool = False) -> Mailbox:
        """Open or create the file: `MailboxFile.open`.

        Raises:
            LogError: unavailable, storage_full.
        """
        return cls(MailboxFile.open(path, vfs=vfs, exclusive=exclusive))

    # -- persons and threads ------------------------------------------------------------------------------------------

    def pseudonym(self, person: str, peer: str, fresh: Callable[[], str]) -> str:
        """The pseudonym of one person towards one peer; made on first use. Linkage never leaves this file."""
        with self._file.transaction():
            self._file.run("INSERT INTO person(ref) VALUES(?) ON CONFLICT DO NOTHING", person)
            row = self._file.row(
                "SELECT pseudonym FROM pair WHERE peer = ? AND person = (SELECT n FROM person WHERE ref = ?)",
                peer,
                person,
            )
            if row is not None:
                return str(row[0])
            made = fresh()
            self._file.run("INSERT INTO pair SELECT n, ?, ? FROM person WHERE ref = ?", peer, made, person)
            return made

    def thread(self, thread: str) -> Thread | None:
        """The thread of that id, None when there is none."""
        row = self._file.row(
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
        row = self._file.row(
            "SELECT thread FROM outgoing WHERE evt = ?1 AND peer = ?2 UNION ALL"
            " SELECT thread FROM incoming WHERE ident = ?2 || '/' || ?1 AND state <> 'quarantined' LIMIT 1",
            evt,
            peer,
        )
        return None if row is None else str(row[0])

    def threads(self) -> list[Thread]:
        """All of them, the last changed first."""
        ids = self._file.rows("SELECT id FROM thread ORDER BY changed_at DESC, id")
        return [thread for (name,) in ids if (thread := self.thread(name)) is not None]

    def put_thread(self, thread: Thread, at: int) -> None:
        """Make or change a thread. `at`: seconds since the epoch, for the order in which threads are shown.

        Peer, machine, role, pseudonym, `opened_by` and `refused` are fixed by the first put.
        """
        with self._file.transaction():
            if thread.person is not None:
                self._file.run("INSERT INTO person(ref) VALUES(?) ON CONFLICT DO NOTHING", thread.person)
            self._file.run(
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
        self._file.run("DELETE FROM thread WHERE id = ?", thread)

    # -- outbox: batches ----------------------------------------------------------------------------------------------

    def begin_batch(self, source: str, connector: str, at: int) -> bool:
        """Inside the caller's transaction: the batch is known from its commit on. False: it was known already."""
        return self._file.run("INSERT INTO batch VALUES(?, ?, ?, 0) ON CONFLICT DO NOTHING", source, connector, at) == 1

    def known_line(self, source: str, line: str) -> Outgoing | TurnedDown | None:
        """What became of a line of a batch the first time."""
        row = self._file.row("SELECT line, code, path FROM turned_down WHERE source = ? AND line = ?", source, line)
        if row is not None:
            return TurnedDown(*row)
        found = self._outgoing("source = ? AND line = ?", source, line)
        return found[0] if found else None

    def turn_down(self, source: str, line: str, code: str, path: str | None) -> None:
        """Inside the caller's transaction: the line never becomes an event; `known_line` says so from then on."""
        self._file.run("INSERT INTO turned_down VALUES(?, ?, ?, ?) ON CONFLICT DO NOTHING", source, line, code, path)

    def mark_settled(self, source: str) -> None:
        """The batch was reported to its author; if we die before, it is collected and reported again."""
        self._file.run("UPDATE batch SET settled = 1 WHERE source = ?", source)

    # -- outbox: items ------------------------------------------------------------------------------------------------

    _COLUMNS = (
        "n, evt, source, line, connector, peer, topic, type, kind, thread, ref, answer_by, parts, body, grants,"
        " thread_before, thread_after, seq, l1, voids, state, code, path, promise, log_offset, attempts, next_at,"
        " created_at, told, promised_at"
    )

    def _outgoing(self, where: str, *binds: Any) -> list[Outgoing]:
        names = [name.strip() for name in self._COLUMNS.split(",")]
        items = []
        for row in self._file.rows(f"SELECT {self._COLUMNS} FROM outgoing WHERE {where}", *binds):
            raw = dict(zip(names, row, strict=True))
            raw["grants"] = tuple(json.loads(raw["grants"]))
            raw["voids"] = tuple(json.loads(raw["voids"])) if raw["voids"] else ()
            items.append(Outgoing(**raw))
        return items

    def enqueue(self, item: Outgoing) -> None:
        """The event is sealed and will be sent. Durable with the surrounding transaction."""
        self._file.run(
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
            now + LONGEST_WAIT_S,
            limit,
        )

    def mark_signed(self, evt: str, seq: int, l1: bytes, chain: str, voids: Sequence[int]) -> bool:
        """The signed bytes are durable before the first of them leaves. False: no longer waiting (cancelled, or signed
        by another process)."""
        with self._file.transaction():
            item = self.outgoing(evt)
            if item is None or item.state != "waiting" or self.chains.head(item.topic)[0] != seq - 1:
                return False
            self._file.run(
                "UPDATE outgoing SET state = 'signed', seq = ?, l1 = ?, voids = ? WHERE evt = ?",
                seq,
                l1,
                json.dumps(list(voids)) if voids else None,
                evt,
            )
            self.chains.set_head(item.topic, seq, chain)
            self.chains.name(item.topic, voids, seq)
            return True

    def mark_promised(self, evt: str, offset: int, promise: bytes | None, at: int | None = None) -> None:
        """In the log. Sent again into a restored log, it goes back to what its receipt said the first time.

        Args:
            at: the log's time of it, seconds since the epoch; the first one counts. None: not known.
        """
        with self._file.transaction():
            if self._promised(evt, offset, promise, at) and self._file.rows(f"{STOPPED[1:-1]} LIMIT 1"):
                had_left = self._file.run("UPDATE stopped SET state = 'had-left' WHERE evt = ?", evt)
                for item in self._outgoing("evt = ?", evt):
                    if had_left and item.seq is not None:
                        self.chains.stands(item.topic, item.seq, unless_named=True)
                    self._never_left(item.topic, item.voids, item.created_at if at is None else at)

    def _promised(self, evt: str, offset: int, promise: bytes | None, at: int | None) -> bool:
        changed = self._file.run(
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
                self._file.run("UPDATE stopped SET state = 'never-left' WHERE evt = ?", one.evt)
                self.refuse(one.evt, "consent_withdrawn", "lawful.consent.given_at", at)

    def send_again(self, topic: str, after: int) -> int:
        """The log has lost what it promised of ours above number `after` (it was put back from an older copy): the same
        bytes go again, and readers know them. Returns how many."""
        return self._file.run(
            "UPDATE outgoing SET state = 'signed', next_at = 0, told = 'signed' WHERE topic = ? AND seq > ?"
            " AND state IN ('promised', 'delivered', 'rejected')",
            topic,
            after,
        )

    def postpone(self, evt: str, code: str, next_at: float) -> None:
        """The log did not take it now. `next_at`: seconds since the epoch before which it is not sent again."""
        self._file.run(
            "UPDATE outgoing SET attempts = attempts + 1, code = ?, next_at = ? WHERE evt = ? AND state = 'signed'",
            code,
            next_at,
            evt,
        )

    def hasten(self, code: str, next_at: float) -> int:
        """What was postponed with this code is due at `next_at`, if that is sooner. Returns how many."""
        return self._file.run(
            "UPDATE outgoing SET next_at = ? WHERE state = 'signed' AND code = ? AND next_at > ?",
            next_at,
            code,
            next_at,
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
        with self._file.transaction():
            item = self.outgoing(evt)
            if item is None or item.state != "signed" or item.seq is None:
                return
            self._file.run(
                "UPDATE outgoing SET state = 'waiting', seq = NULL, l1 = NULL, voids = NULL, code = 'chain_broken',"
                " path = ?, attempts = attempts + 1, next_at = ? WHERE evt = ?",
                path,
                next_at,
                evt,
            )
            self.chains.unname(item.topic, item.seq)
            if path != "L1.seq":
                self.chains.give_up(item.topic, item.seq)
            for place, seq in enumerate(item.voids):
                if path == f"L1.voids[{place}]":
                    self.chains.stands(item.topic, seq)
                    # It stands in the log: sent again, it gets the promise that we never heard.
                    self._file.run(
                        "UPDATE stopped SET state = 'had-left' WHERE evt ="
                        " (SELECT evt FROM outgoing WHERE topic = ? AND seq = ?)",
                        item.topic,
                        seq,
                    )

    def refuse(self, evt: str, code: str, path: str | None, at: int, *, another_key: bool = False) -> list[Outgoing]:
        """The log will never take it: its number is void, and what waits behind it on its thread cannot stand either.

        What is signed behind it may be in the log already, whatever we have heard: it goes on, and the other side's
        receipt says what became of it. The thread goes back to before what did not stand, unless something later did.
        Returns all items that were given up, the refused one first.

        Args:
            another_key: it was refused for the key that signed it, and we sign with another one by now.
        """
        with self._file.transaction():
            item = self.outgoing(evt)
            if item is None or item.state not in ("waiting", "signed"):
                return []
            thread = [one for one in self._outgoing("thread = ? ORDER BY n", item.thread) if one.speaks]
            behind = [one for one in thread if one.n > item.n] if item.speaks else []
            if (code == "clock_ahead" or another_key) and item.kind == "control" and not behind:
                # Nobody would send a receipt again, or an expiry. The refusal brought the right time, or there is a
                # new key: once more, under a new number.
                self._void(item)
                self._file.run("UPDATE outgoing SET state = 'waiting', seq = NULL, l1 = NULL WHERE evt = ?", evt)
                return []
            return self._gave_up(item, thread, behind, code, path, at)

    def refuse_abroad(self, evt: str, code: str, path: str | None, at: int) -> list[Outgoing]:
        """Our log has it, and the domain that it is for has signed that it will never take it: as `refuse`. The next
        manifest on its topic names its number as void, so that nobody over there takes it for missing.

        Not where its reader has said something of it. Returns as `refuse`.
        """
        with self._file.transaction():
            item = self.outgoing(evt)
            if item is None or item.state != "promised":
                return []
            thread = [one for one in self._outgoing("thread = ? ORDER BY n", item.thread) if one.speaks]
            behind = [one for one in thread if one.n > item.n] if item.speaks else []
            return self._gave_up(item, thread, behind, code, path, at)

    def _gave_up(
        self,
        item: Outgoing,
        thread: Sequence[Outgoing],
        behind: Sequence[Outgoing],
        code: str,
        path: str | None,
        at: int,
    ) -> list[Outgoing]:
        waiting = [one for one in behind if one.state == "waiting"]
        given_up = [item, *waiting]
        for one in given_up:
            self._file.run(
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
            self.chains.give_up(item.topic, item.seq)

    def _state_after(self, item: Outgoing) -> str | None:
        if item.thread_after is not None:
            return item.thread_after
        thread = self.thread(item.thread)  # written before this column was
        if thread is None:
            return None
        return lifecycle.step(thread.machine, item.thread_before, item.type, thread.role).state

    def cancel(self, evt: str, at: int) -> bool:
        """Take back what was not signed yet, its attachments with it. False: too late, or unknown."""
        with self._file.transaction():
            item = self.outgoing(evt)
            if item is None or item.state != "waiting":
                return False
            behind = self._file.rows(
                "SELECT type, state FROM outgoing WHERE thread = ? AND n > ? AND state IN ('waiting', 'signed')",
                item.thread,
                item.n,
            )
            if any(type not in (ANNOUNCED, CHUNK) or state != "waiting" for type, state in behind):
                return False
            self._file.run(
                "UPDATE outgoing SET state = 'cancelled' WHERE thread = ? AND n >= ? AND state = 'waiting'",
                item.thread,
                item.n,
            )
            self._restore_thread(item, item, at)
            return True

    def take_back(self, evt: str, at: int) -> list[str]:
        """Cancel what was not signed yet, whatever waits behind it: what was said after it and cannot stand without it
        goes too, what only visits the thread stays. Returns what was cancelled; nothing: too late, or unknown."""
        with self._file.transaction():
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
                self._file.run("UPDATE outgoing SET state = 'cancelled' WHERE evt = ?", one.evt)
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
            self.put_thread(replace(thread, state=self._crossed(thread, after, before)), at)
        elif after is not None and before is not None:
            crossed = self._replayed(thread, after, before)
            if crossed is not None:
                self.put_thread(replace(thread, state=crossed), at)

    def _crossed(self, thread: Thread, after: str, before: str) -> str:
        """`before` with what crossed since: said by the other side, which had not seen what is taken back, and without
        effect here in `after`."""
        peer: lifecycle.Party = "recipient" if thread.role == "initiator" else "initiator"
        rows = self._file.rows(
            "SELECT type, thread_state, crossed FROM incoming WHERE thread = ? AND thread_state IS NOT NULL"
            " ORDER BY n DESC",
            thread.id,
        )
        came = [str(type) for type, state, crossed in takewhile(lambda row: row[1] == after and row[2], rows)]
        state = before
        for type in reversed(came):
            with suppress(OrderError):
                state = lifecycle.step(thread.machine, state, type, peer).state
        return state

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
        rows = self._file.rows(
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

    def hand(self, peer: str, limit: int) -> list[Outgoing]:
        """What may go to `peer` on a stick: signed, and not known to have reached it. Noted before it leaves, since a
        withdrawal must reach whoever may hold it from then on (`adapters.stopped_book`)."""
        with self._file.transaction():
            items = self._outgoing(
                f"peer = ? AND state IN ('signed', 'promised') AND evt NOT IN {STOPPED} ORDER BY topic, seq LIMIT ?",
                peer,
                limit,
            )
            for item in items:
                self._file.run("INSERT INTO handed VALUES(?) ON CONFLICT DO NOTHING", item.evt)
            return items

    def was_handed(self, evt: str) -> bool:
        """Whether it may have reached its reader on a stick."""
        return self._file.row("SELECT 1 FROM handed WHERE evt = ?", evt) is not None

    def mark_arrival(
        self,
        evt: str,
        state: Literal["delivered", "rejected"],
        code: str | None,
        path: str | None,
        *,
        logged: bool = True,
    ) -> None:
        """What the other machine's receipt says. The first word counts. Who confirms what was stopped has it, and so
        has who confirms what its domain's gateway had refused in writing: the reader's word counts.

        Args:
            logged: False for a receipt from a stick: what it confirms may be in no log, and is still to be sent there.
        """
        with self._file.transaction():
            had_left = self._file.run(
                "UPDATE stopped SET state = 'had-left', settled = 0 WHERE evt = ? AND state <> 'had-left'", evt
            )
            untrue = "evt = ? AND state = 'refused' AND evt IN (SELECT evt FROM crossed WHERE refusal IS NOT NULL)"
            for item in self._outgoing(untrue, evt):
                had_left = 1
                if item.seq is not None:
                    self.chains.stands(item.topic, item.seq, unless_named=True)
            first = "signed" if logged else "promised"
            states = (first, "promised", "refused" if had_left else "promised")
            self._file.run(
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
        with self._file.transaction():
            only, binds = ("", ()) if evt is None else (" AND evt = ?", (evt,))
            count = self._file.run(
                f"UPDATE outgoing SET next_at = 0 WHERE state IN ('waiting', 'signed') AND next_at > 0{only}", *binds
            )
            count += self._file.run(
                f"UPDATE incoming SET next_at = 0 WHERE state IN ('held', 'ready') AND next_at > 0{only}", *binds
            )
            count += self._file.run(
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
        self._file.run("UPDATE outgoing SET told = ? WHERE evt = ?", state, evt)

    # -- inbox --------------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """Items by direction and state, for status and metrics: `{"outgoing.waiting": 2, ...}`."""
        rows: Iterable[tuple[Any, ...]] = self._file.rows(
            "SELECT 'outgoing.' || state, count(*) FROM outgoing GROUP BY state"
            " UNION ALL SELECT 'incoming.' || state, count(*) FROM incoming GROUP BY state"
        )
        return {str(name): int(count) for name, count in rows}
