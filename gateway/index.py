# SPDX-License-Identifier: Apache-2.0
"""What a gateway has to look up, fed by following the log; never the truth, rebuilt from the log whenever in doubt.

It knows, per issuer and topic, the chain (numbers seen, their hashes, voided numbers), per event where it is and which
bytes were signed, to whom keys were disclosed, and which erasures the log commands. A file that is missing, damaged,
of another version or of another log is deleted and made again; the answers are the same afterwards.

Writing is behind: `apply` changes memory, where lookups see it at once; `flush` brings it to the file later, rows and
cursors in one transaction (WAL, synchronous=NORMAL). If we crash before a flush, the cursor is behind, and `follow`
reads those records again; applying a record twice changes nothing.

Threads: everything but `flush` belongs to one thread; `flush` may run in another (a connection of its own).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import orjson

from schemas.envelope import Manifest
from topics.sqlite_transaction import plan_once, transaction

VERSION = "3"
_AT_ONCE = 250
"""Idents per statement."""
_REMEMBERED = 10_000
"""Idents of which it is known what the file says, before all are forgotten; one large question may be past it."""
_ROWS_AT_ONCE = 5_000
"""Rows per statement: an index that is made again writes all of a log at once."""
_SIX_OF_EACH = "SELECT {} FROM json_each(?) WHERE true".format(", ".join(f"value ->> {n}" for n in range(6)))
"""Rows of six out of one JSON text. `WHERE true`: without it SQLite takes ON CONFLICT for a join's."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS cursor (topic TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS chain (
    iss TEXT, topic TEXT, seq INTEGER, hash TEXT NOT NULL, prev TEXT NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (iss, topic, seq)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS event (
    ident TEXT PRIMARY KEY, topic TEXT NOT NULL, offset INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    hash TEXT NOT NULL, recipient TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS void (
    iss TEXT, topic TEXT, seq INTEGER, PRIMARY KEY (iss, topic, seq)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS disclosed (ident TEXT, agency TEXT, PRIMARY KEY (ident, agency)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS command (ident TEXT, iss TEXT, PRIMARY KEY (ident, iss)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS unverified (
    topic TEXT, offset INTEGER, PRIMARY KEY (topic, offset)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS erasure (ident TEXT PRIMARY KEY, done INTEGER NOT NULL) WITHOUT ROWID, STRICT;
"""


@dataclass(frozen=True, slots=True)
class Link:
    """One number of a chain."""

    seq: int
    hash: str
    """base64url SHA-256 of `header.payload`."""
    prev: str
    offset: int


@dataclass(frozen=True, slots=True)
class Known:
    """An event that is in the log."""

    topic: str
    offset: int
    at_ms: int
    hash: str
    recipient: str


@dataclass(slots=True)
class _Unwritten:
    """What memory knows and the file does not yet."""

    events: dict[str, Known] = field(default_factory=dict)
    links: dict[tuple[str, str, int], Link] = field(default_factory=dict)
    voids: set[tuple[str, str, int]] = field(default_factory=set)
    disclosed: set[tuple[str, str]] = field(default_factory=set)
    commands: set[tuple[str, str]] = field(default_factory=set)
    erasures: dict[str, bool] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)
    dropped: set[tuple[str, str, int, int]] = field(default_factory=set)
    """Links (with their offsets) whose event turned out to stand earlier in the log."""
    unverified: dict[tuple[str, int], bool] = field(default_factory=dict)
    """Place in the log -> whether it still is."""

    def __bool__(self) -> bool:
        return bool(self.events or self.erasures or self.cursors or self.unverified)

    def older(self, other: _Unwritten) -> None:
        """Take back what could not be written; what came since is newer."""
        self.events = {**other.events, **self.events}
        self.links = {**other.links, **self.links}
        self.voids |= other.voids
        self.disclosed |= other.disclosed
        self.commands |= other.commands
        self.erasures = {**other.erasures, **self.erasures}
        self.cursors = {**other.cursors, **self.cursors}
        self.dropped |= other.dropped
        self.unverified = {**other.unverified, **self.unverified}


class Index:
    """Open with `Index.open`."""

    def __init__(self, reader: apsw.Connection, writer: apsw.Connection) -> None:
        self._reader = reader
        self._writer = writer
        self._new = _Unwritten()
        self._writing = _Unwritten()
        self._heads: dict[tuple[str, str], Link] = {}
        self._next: dict[str, int] = dict(_rows(reader, "SELECT topic, next FROM cursor"))
        self._ahead: dict[str, set[int]] = {}
        self._looked_up: dict[str, Known | None] = {}
        self._erased = {str(ident) for (ident,) in _rows(reader, "SELECT ident FROM erasure")}
        """Erasures are few, and every mailbox read asks."""
        self._commands: dict[str, set[str]] = {}
        """Target that is not known yet -> who wants it erased: topics are followed one after the other."""
        for ident, iss in _rows(reader, "SELECT ident, iss FROM command"):
            self._commands.setdefault(ident, set()).add(iss)
        self._unverified: set[tuple[str, int]] = set(_rows(reader, "SELECT topic, offset FROM unverified"))

    @classmethod
    def open(cls, path: Path | None, log_id: str) -> Index:
        """The index in this file (None: in memory), emptied unless it is whole and of this log."""
        if path is None:
            connection = apsw.Connection(":memory:")
            plan_once(connection)
            _prepare(connection, log_id)
            return cls(connection, connection)
        try:
            return cls._opened(path, log_id)
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, _OtherLogError):
            for suffix in ("", "-wal", "-shm", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        return cls._opened(path, log_id)

    @classmethod
    def _opened(cls, path: Path, log_id: str) -> Index:
        writer = apsw.Connection(str(path))
        try:
            plan_once(writer)
            writer.set_busy_timeout(5000)
            writer.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")
            if _rows(writer, "PRAGMA quick_check(1)") != [("ok",)]:
                raise _OtherLogError
            _prepare(writer, log_id)
            reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            plan_once(reader)
            reader.set_busy_timeout(5000)
            return cls(reader, writer)
        except BaseException:
            writer.close()
            raise

    # -----------------------------------------------------------------------------------------------------------------
    # Looking up

    def event(self, ident: str) -> Known | None:
        found = self._new.events.get(ident) or self._writing.events.get(ident)
        if found is not None:
            return found
        if ident in self._looked_up:
            return self._looked_up[ident]
        rows = _rows(self._reader, "SELECT topic, offset, at_ms, hash, recipient FROM event WHERE ident = ?", (ident,))
        return Known(*rows[0]) if rows else None

    def look_up(self, idents: Sequence[str]) -> None:
        """Look many events up in the file at once, so that `event` answers from memory: one statement costs little more
        than one lookup, and each takes four system calls and gives up the interpreter's lock.

        Remembered until the file changes (`end_flush`): what was not in it may be there afterwards. Meanwhile whatever
        is applied is in memory, which is asked first.
        """
        sought = [ident for ident in idents if ident not in self._looked_up]
        if len(self._looked_up) + len(sought) > _REMEMBERED:
            self._looked_up.clear()
            sought = list(idents)
        for start in range(0, len(sought), _AT_ONCE):
            some = sought[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            found = _rows(
                self._reader,
                f"SELECT ident, topic, offset, at_ms, hash, recipient FROM event WHERE ident IN ({marks})",
                tuple(some),
            )
            self._looked_up.update(dict.fromkeys(some))
            self._looked_up.update({row[0]: Known(*row[1:]) for row in found})

    def head(self, iss: str, topic: str) -> Link | None:
        """The highest number of this chain in the log."""
        head = self._heads.get((iss, topic))
        if head is None:
            found = self.links(iss, topic, 0, 1, last=True)
            if found:
                head = self._heads[iss, topic] = found[0]
        return head

    def link(self, iss: str, topic: str, seq: int) -> Link | None:
        """Number `seq` of this chain, if it is in the log."""
        place = (iss, topic, seq)
        found = self._new.links.get(place) or self._writing.links.get(place)
        if found is not None:
            return found
        rows = _rows(
            self._reader,
            "SELECT seq, hash, prev, offset FROM chain WHERE iss = ? AND topic = ? AND seq = ?",
            place,
        )
        return Link(*rows[0]) if rows and not self._is_dropped(iss, topic, rows[0]) else None

    def _is_dropped(self, iss: str, topic: str, row: tuple[int, str, str, int]) -> bool:
        dropped = (iss, topic, row[0], row[3])
        return dropped in self._new.dropped or dropped in self._writing.dropped

    def links(self, iss: str, topic: str, after: int, limit: int, *, last: bool = False) -> list[Link]:
        """Numbers above `after` that are in the log, ascending: the first of them, or the last."""
        gone = len(self._new.dropped) + len(self._writing.dropped)
        rows = _rows(
            self._reader,
            "SELECT seq, hash, prev, offset FROM chain WHERE iss = ? AND topic = ? AND seq > ? "
            f"ORDER BY seq {'DESC' if last else 'ASC'} LIMIT ?",
            (iss, topic, after, limit + gone),
        )
        found = {row[0]: Link(*row) for row in rows if not self._is_dropped(iss, topic, row)}
        for unwritten in (self._writing, self._new):
            for (issuer, where, seq), link in unwritten.links.items():
                if issuer == iss and where == topic and seq > after:
                    found[seq] = link
        numbers = sorted(found)
        return [found[seq] for seq in (numbers[-limit:] if last else numbers[:limit])]

    def heads_of(self, iss: str, topics: Iterable[str]) -> dict[str, Link]:
        """Topic -> head of this issuer's chain there."""
        heads = {topic: self.head(iss, topic) for topic in topics}
        return {topic: head for topic, head in heads.items() if head is not None}

    def is_void(self, iss: str, topic: str, seq: int) -> bool:
        place = (iss, topic, seq)
        if place in self._new.voids or place in self._writing.voids:
            return True
        return bool(_rows(self._reader, "SELECT 1 FROM void WHERE iss = ? AND topic = ? AND seq = ?", place))

    def is_erased(self, ident: str) -> bool:
        return ident in self._erased

    def disclosed_to(self, ident: str) -> set[str]:
        """Agencies that got keys of this record by a later `acts.grant`."""
        found = {
            agency for unwritten in (self._new, self._writing) for one, agency in unwritten.disclosed if one == ident
        }
        return found | {row[0] for row in _rows(self._reader, "SELECT agency FROM disclosed WHERE ident = ?", (ident,))}

    def erasures_to_do(self) -> list[str]:
        """Targets whose grants are not known to be gone."""
        found = {row[0]: False for row in _rows(self._reader, "SELECT ident FROM erasure WHERE done = 0")}
        found |= self._writing.erasures | self._new.erasures
        return [ident for ident, done in found.items() if not done]

    def next_offset(self, topic: str) -> int:
        """Everything below is applied."""
        return self._next.get(topic, 0)

    # -----------------------------------------------------------------------------------------------------------------
    # Applying

    def apply(self, manifest: Manifest, chain_hash: str, offset: int, at_ms: int, *, first: bool = False) -> None:
        """A verified record is in the log at this place. Idempotent.

        Of several records with one identity, and of several with one number, the earliest in the log counts: whatever
        order a gateway learns of them in, it says in the end what an index says that is made again.

        `first`: the log has just taken it for the first time and its number was judged to be free, so that nothing has
        to be looked up in the file.
        """
        m, new = manifest, self._new
        place = (m.iss, m.topic, m.seq)
        # Asked of memory alone when it is new for the log: another gateway's copy may have been followed meanwhile.
        known = (new.events.get(m.ident) or self._writing.events.get(m.ident)) if first else self.event(m.ident)
        if known is None or (at_ms, m.topic, offset) < (known.at_ms, known.topic, known.offset):
            if known is not None:
                self._drop_link(m.iss, known)
            new.events[m.ident] = Known(m.topic, offset, at_ms, chain_hash, m.to)
            at = (new.links.get(place) or self._writing.links.get(place)) if first else self.link(*place)
            if at is None or offset < at.offset:
                link = Link(m.seq, chain_hash, m.prev, offset)
                head = self.head(m.iss, m.topic)
                new.links[place] = link
                if head is None or m.seq >= head.seq:
                    self._heads[m.iss, m.topic] = link
            new.voids |= {(m.iss, m.topic, seq) for seq in m.voids}
            for by in self._commands.pop(m.ident, ()):
                self._command_erasure(m.ident, by)
            if m.acts is not None:
                new.disclosed |= {(target, m.to) for target in m.acts.grant}
                # Disclosed while it was being erased: the new holder's grants have to go as well.
                new.erasures |= {target: False for target in m.acts.grant if target in self._erased}
                for target in m.acts.erase:
                    self._command_erasure(target, m.iss)
        self.passed(m.topic, offset)

    def _drop_link(self, iss: str, known: Known) -> None:
        """The link of a record whose identity stands earlier in the log."""
        sought = [link.seq for link in self._links_at(iss, known)]
        for seq in sought:
            link = self._new.links.get((iss, known.topic, seq))
            if link is not None and link.offset == known.offset:
                del self._new.links[iss, known.topic, seq]
            self._new.dropped.add((iss, known.topic, seq, known.offset))
        if sought:
            self._heads.pop((iss, known.topic), None)

    def _links_at(self, iss: str, known: Known) -> list[Link]:
        rows = _rows(
            self._reader,
            "SELECT seq, hash, prev, offset FROM chain WHERE iss = ? AND topic = ? AND offset = ?",
            (iss, known.topic, known.offset),
        )
        memory = [
            link
            for unwritten in (self._new, self._writing)
            for (issuer, topic, _), link in unwritten.links.items()
            if issuer == iss and topic == known.topic and link.offset == known.offset
        ]
        return [Link(*row) for row in rows] + memory

    def unverified(self) -> list[tuple[str, int]]:
        """Places in the log whose signer no registry has named so far."""
        return sorted(self._unverified)

    def leave_unverified(self, topic: str, offset: int) -> None:
        """Passed by; asked again when there is a newer registry."""
        self._unverified.add((topic, offset))
        self._new.unverified[topic, offset] = True
        self.passed(topic, offset)

    def verified(self, topic: str, offset: int) -> None:
        """Asked again, and answered."""
        self._unverified.discard((topic, offset))
        self._new.unverified[topic, offset] = False

    def _command_erasure(self, target: str, by: str) -> None:
        # Asked again here: a record that another gateway or a direct writer put into the log is not to be trusted
        # with other agencies' grants.
        known = self.event(target)
        if known is None:
            self._commands.setdefault(target, set()).add(by)
            self._new.commands.add((target, by))
        elif by in (target.rpartition("/")[0], known.recipient):
            self._erased.add(target)
            self._new.erasures.setdefault(target, False)

    def passed(self, topic: str, offset: int) -> None:
        """This offset needs no reading any more."""
        following = self._next.get(topic, 0)
        if offset < following:
            return
        ahead = self._ahead.setdefault(topic, set())
        ahead.add(offset)
        while following in ahead:
            ahead.remove(following)
            following += 1
        self._next[topic] = self._new.cursors[topic] = following

    def skip_to(self, topic: str, first: int) -> None:
        """Retention took everything below `first`."""
        self._ahead[topic] = {offset for offset in self._ahead.get(topic, ()) if offset >= first}
        if first > self._next.get(topic, 0):
            self._next[topic] = self._new.cursors[topic] = first
            if first in self._ahead[topic]:
                self.passed(topic, first)

    def erased(self, idents: Sequence[str]) -> None:
        """Their grants are durably gone."""
        for ident in idents:
            self._new.erasures[ident] = True

    def unwritten(self) -> int:
        """Events that only memory knows."""
        return len(self._new.events) + len(self._writing.events)

    # -----------------------------------------------------------------------------------------------------------------
    # Writing

    def begin_flush(self) -> bool:
        """In the owner's thread: set aside what is to be written. False when there is nothing (or a flush runs)."""
        if self._writing or not self._new:
            return False
        self._writing, self._new = self._new, _Unwritten()
        return True

    def write(self) -> bool:
        """In any thread, between `begin_flush` and `end_flush`: False when the file could not take it."""
        w = self._writing
        try:
            with transaction(self._writer):
                many = self._writer.executemany
                many("DELETE FROM chain WHERE iss = ? AND topic = ? AND seq = ? AND offset = ?", list(w.dropped))
                many(
                    "INSERT OR IGNORE INTO unverified VALUES (?,?)", [at for at, still in w.unverified.items() if still]
                )
                many(
                    "DELETE FROM unverified WHERE topic = ? AND offset = ?",
                    [at for at, still in w.unverified.items() if not still],
                )
                # What there is one of per record goes in by the thousand: each step gives up the interpreter's lock,
                # and takes it back from a loop that is busy.
                many(
                    f"""INSERT INTO event {_SIX_OF_EACH} ON CONFLICT (ident)
                        DO UPDATE SET topic = excluded.topic, offset = excluded.offset, at_ms = excluded.at_ms,
                                      hash = excluded.hash, recipient = excluded.recipient
                        WHERE (excluded.at_ms, excluded.topic, excluded.offset) < (at_ms, topic, offset)""",
                    _as_json([(i, e.topic, e.offset, e.at_ms, e.hash, e.recipient) for i, e in w.events.items()]),
                )
                many(
                    f"""INSERT INTO chain {_SIX_OF_EACH} ON CONFLICT (iss, topic, seq)
                        DO UPDATE SET hash = excluded.hash, prev = excluded.prev, offset = excluded.offset
                        WHERE excluded.offset < offset""",
                    _as_json([(*place[:2], k.seq, k.hash, k.prev, k.offset) for place, k in w.links.items()]),
                )
                many("INSERT OR IGNORE INTO void VALUES (?,?,?)", list(w.voids))
                many("INSERT OR IGNORE INTO disclosed VALUES (?,?)", list(w.disclosed))
                many("INSERT OR IGNORE INTO command VALUES (?,?)", list(w.commands))
                many(
                    "INSERT INTO erasure VALUES (?,?) ON CONFLICT (ident) DO UPDATE SET done = excluded.done",
                    [(ident, int(done)) for ident, done in w.erasures.items()],
                )
                many(
                    "INSERT INTO cursor VALUES (?,?) ON CONFLICT (topic) DO UPDATE SET next = excluded.next",
                    list(w.cursors.items()),
                )
        except (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.BusyError, apsw.LockedError):
            return False
        return True

    def end_flush(self, written: bool) -> None:
        """In the owner's thread. What was not written stays in memory and is tried again."""
        set_aside, self._writing = self._writing, _Unwritten()
        self._looked_up.clear()
        if not written:
            self._new.older(set_aside)

    def flush(self) -> bool:
        """All three steps at once. False when the file could not take it."""
        if not self.begin_flush():
            return True
        written = self.write()
        self.end_flush(written)
        return written

    def close(self) -> None:
        """Write what is left; idempotent."""
        with contextlib.suppress(apsw.ConnectionClosedError):
            self.flush()
        self._reader.close()
        self._writer.close()


class _OtherLogError(Exception):
    pass


def _as_json(rows: list[tuple[str | int, ...]]) -> Iterator[tuple[str]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield (orjson.dumps(rows[start : start + _ROWS_AT_ONCE]).decode(),)


def _rows(connection: apsw.Connection, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
    return connection.execute(sql, values).fetchall()


def _prepare(connection: apsw.Connection, log_id: str) -> None:
    with transaction(connection):
        connection.execute(_SCHEMA)
        held = dict(_rows(connection, "SELECT name, value FROM meta"))
        if held and held != {"version": VERSION, "log": log_id}:
            raise _OtherLogError
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?), ('log', ?)", (VERSION, log_id))
