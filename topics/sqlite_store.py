# SPDX-License-Identifier: Apache-2.0
"""One SQLite file as a log: the transactions. `sqlite_log` adds waiting, threads and group commit around it.

Invariants:

- What `write` answered `Appended` is in the WAL and synced (`synchronous=FULL`): it survives a power cut.
- Offsets of a topic are dense from 0, also after retention, and after a topic was deleted and made again.
- `at_ms` never decreases within a topic, whatever the clock does.
- An `ident` has one entry in the file for ever. Retention keeps its SHA-256, so that a late retry is still a copy.
- A deleted grant's bytes are in neither the database nor the WAL once `scrub` has said so: `secure_delete`, a
  truncating checkpoint, and the grants written anew where SQLite had left a copy in a page's gap (`sqlite_gaps`). What
  the file system, a backup or the flash chip keeps is beyond it (SECURITY.md).
- It never parses a value, and never puts one into an error.

Across processes, SQLite's own lock decides; writers queue for it at a file lock beside the database, because SQLite's
busy handler polls and lets one writer starve. On Windows there is only the busy handler.

A `Store` is one connection and is used by one thread at a time. Each step of a statement gives up the interpreter's
lock, and beside a busy event loop it may take milliseconds to get it back: so writing takes few, large statements.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw
import orjson

from schemas.errors import LogError
from topics.durable_file import sync_folder
from topics.log import MAX_VALUE_BYTES, Appended, Ends, Entry, Stored
from topics.settings import SettingsError
from topics.sqlite_gaps import NO_TRACES, Traces, both, bytes_left, opened, renew, stands, traces_of
from topics.sqlite_transaction import code_of, plan_once, transaction
from topics.sqlite_turn import Turn
from topics.sqlite_wal import LOOK_AGAIN_S, PAGE_BYTES, SCRUB_S, Wal

_T = TypeVar("_T")

OLDEST_SQLITE = (3, 51, 3)
"""Older ones can lose committed WAL writes (the WAL-reset bug)."""
SYNCHRONOUS = "FULL"
BUSY_MS = 10_000
TOPIC = re.compile(r"[a-z]{2}\.(?:[a-z]+\.[a-z0-9-]+|ledger|registry)")
GRANTS = re.compile(r"[a-z]{2}\.grants\.[a-z0-9-]+")
_APPLICATION = 0x556D756C  # "Umul": a mailbox opened as a log by mistake is refused
_MARK = "erasing-"
_ROWS = (64, 8, 1)  # rows or keys per statement: few statements to prepare, few steps
_TRIM = 500  # entries per transaction, so that writers get their turn during a long retention run

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
    CREATE TABLE topic (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        first INTEGER NOT NULL DEFAULT 0,
        next INTEGER NOT NULL DEFAULT 0,
        last_ms INTEGER NOT NULL DEFAULT 0,
        gone INTEGER NOT NULL DEFAULT 0            -- deleted: the row stays, so that no offset is used twice
    ) STRICT;
    CREATE TABLE entry (                           -- in order of arrival: appending touches the last page only
        n INTEGER PRIMARY KEY,
        topic INTEGER NOT NULL REFERENCES topic (id),
        offset INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        ident TEXT NOT NULL,
        key BLOB NOT NULL,
        headers BLOB,
        value BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX entry_place ON entry (topic, offset);
    CREATE UNIQUE INDEX entry_ident ON entry (ident);
    CREATE TABLE spent (                           -- what retention removed: enough to recognise a repeat
        ident TEXT PRIMARY KEY,
        topic INTEGER NOT NULL REFERENCES topic (id),
        offset INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        sha256 BLOB NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE grant_value (
        n INTEGER PRIMARY KEY,
        topic TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX grant_key ON grant_value (topic, key);
    """,
)
"""Number n (from 1) brings schema version n - 1 to n. Never changed once released; added to."""


@dataclass(frozen=True, slots=True)
class Put:
    topic: str
    grants: tuple[tuple[str, bytes], ...]

    @property
    def weight(self) -> int:
        return sum(len(value) for _, value in self.grants)


@dataclass(frozen=True, slots=True)
class Append:
    """Entries of one call, with their headers as stored."""

    entries: tuple[Entry, ...]
    headers: tuple[bytes | None, ...]
    grants: tuple[Put, ...] = ()
    """Stored with them: in the same transaction, or before it."""

    @classmethod
    def of(cls, entries: Sequence[Entry], grants: Sequence[Put] = ()) -> Append:
        """Raises ValueError when an `ident` is not ASCII: it would break the transaction of others."""
        if not all(entry.ident.isascii() for entry in entries):
            raise ValueError("an entry's ident is not ASCII")
        return cls(tuple(entries), tuple(_pack(entry.headers) for entry in entries), tuple(grants))

    @property
    def weight(self) -> int:
        return sum(len(entry.value) for entry in self.entries) + sum(put.weight for put in self.grants)


Answers = list[Appended | LogError]
Done = Answers | LogError | None
"""Of an Append its answers; of a Put None, or why not."""


@dataclass(slots=True)
class _Tail:
    id: int
    next: int
    last_ms: int
    grown: bool = False


@dataclass(frozen=True, slots=True)
class _First:
    """Where an ident is already."""

    topic: str
    offset: int
    at_ms: int
    value: bytes | None
    sha256: bytes | None

    def answer(self, entry: Entry) -> Appended | LogError:
        same = entry.value == self.value if self.sha256 is None else _sha256(entry.value) == self.sha256
        if same and entry.topic == self.topic:
            return Appended(self.offset, self.at_ms, copy=True)
        return LogError("evt_conflict")


def refuse_old_sqlite(version: str) -> None:
    """Raises LogError `unavailable`, path `sqlite`, with the version it takes."""
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_SQLITE:
        raise LogError("unavailable", "sqlite", expected=">= " + ".".join(map(str, OLDEST_SQLITE)))


class Store:
    """One connection to the file.

    Args:
        path: the database; `path-lock` beside it is the writers' queue.
        vfs: an SQLite VFS by name; None is the real disk.
        exclusive: the only connection there is, of any process (no shared memory is used).
        clock_ms: milliseconds since the epoch.

    Raises LogError `unavailable` (path says what: `sqlite`, `file`, `schema_version`) or `storage_full`.
    """

    def __init__(self, path: str, *, vfs: str | None, exclusive: bool, clock_ms: Callable[[], int]) -> None:
        refuse_old_sqlite(apsw.sqlite_lib_version())
        self._path = path
        self._vfs = vfs
        self._clock_ms = clock_ms
        self._tails: dict[str, int] = {}
        self._version: int | None = None
        self._rotation = 0
        self._gone: Traces = NO_TRACES
        """Of what was deleted and not scrubbed yet."""
        self._mark: str | None = None
        """Name of the row in `meta` that tells the next to open of it, should we not get to its end."""
        self.log_id = ""
        with contextlib.ExitStack() as undo:
            try:
                self._turn = Turn(f"{path}-lock" if vfs is None else None)
                undo.callback(self._turn.close)
                self._connection = apsw.Connection(path, vfs=vfs)
            except (apsw.Error, OSError) as error:
                raise LogError(code_of(error, None), "file") from error
            undo.callback(self.close)
            with self._reporting("file"), self._turn:
                self._configure(exclusive)
                self._wal = Wal(self._connection, path, vfs, self._turn, BUSY_MS)
            undo.pop_all()

    @classmethod
    def make(
        cls,
        path: str,
        *,
        vfs: str | None,
        exclusive: bool,
        clock_ms: Callable[[], int],
        create: bool,
        random_id: Callable[[], str],
        moved_too: bool = False,
    ) -> Store:
        """Open for writing; make the file (mode 0600) when `create`; bring its schema up to date; recover it.

        A crash in here leaves an empty file or an older schema: opening again goes on from there.

        Raises SettingsError where the log was moved away (`mark_moved`), unless `moved_too`.
        """
        if vfs is None:
            _private_file(path, create)
        with contextlib.ExitStack() as undo:
            store = cls(path, vfs=vfs, exclusive=exclusive, clock_ms=clock_ms)
            undo.callback(store.close)
            store._migrate(create, random_id)
            if not moved_too:
                store._refuse_moved()
            if vfs is None:
                with store._reporting("file"):
                    sync_folder(Path(path).resolve().parent)
            # A cut between a deletion and its checkpoint leaves deleted bytes in the WAL, and perhaps copies in gaps:
            # they go now. Readers of other processes may be in the way; then the next one to open or delete does it.
            store._heed_marks()
            give_up = time.monotonic() + SCRUB_S
            with contextlib.suppress(LogError):
                while not store.scrub() and time.monotonic() < give_up:
                    time.sleep(LOOK_AGAIN_S)
            undo.pop_all()
        return store

    # ---------------------------------------------------------------- opening

    def _configure(self, exclusive: bool) -> None:
        connection = self._connection
        plan_once(connection)
        connection.set_busy_timeout(BUSY_MS)
        if exclusive:
            connection.pragma("locking_mode", "EXCLUSIVE")
        connection.pragma("page_size", PAGE_BYTES)
        connection.pragma("secure_delete", "ON")
        if connection.pragma("journal_mode", "WAL") != "wal":
            raise LogError("unavailable", "file")
        connection.pragma("synchronous", SYNCHRONOUS)
        connection.pragma("temp_store", "MEMORY")
        connection.pragma("cache_size", -16_000)

    def _migrate(self, create: bool, random_id: Callable[[], str]) -> None:
        with self._transaction():
            run = self._connection.execute
            application = self._connection.pragma("application_id")
            made = run("SELECT count(*) FROM sqlite_schema").get
            if application != _APPLICATION and (made or not create):
                raise LogError("unavailable", "file")
            run("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL)")
            version = run("SELECT coalesce(max(version), 0) FROM schema_version").get
            if version > len(MIGRATIONS):
                raise LogError("unavailable", "schema_version", expected=len(MIGRATIONS))
            for number in range(version + 1, len(MIGRATIONS) + 1):
                run(MIGRATIONS[number - 1])
                run("INSERT INTO schema_version VALUES (?, ?)", (number, self._clock_ms()))
            if not version:
                self._connection.pragma("application_id", _APPLICATION)
                run("INSERT INTO meta VALUES ('log_id', ?)", (random_id(),))
            self.log_id = run("SELECT value FROM meta WHERE name = 'log_id'").get

    def _refuse_moved(self) -> None:
        with self._reporting():
            now = self._connection.execute("SELECT value FROM meta WHERE name = 'moved_to'").get
        if now is not None:
            raise SettingsError(
                f"log: the log in this file was moved to Kafka, where it is log {now}. In gateway.toml, name Kafka's "
                "folder (kafka) instead of the file (log)",
                f"log : le journal de ce fichier a été porté dans Kafka, où c'est le journal {now}. Dans gateway.toml, "
                "nommez le dossier de Kafka (kafka) à la place du fichier (log)",
            )

    def mark_moved(self, log_id: str) -> None:
        """Durable when it returns: the log is elsewhere now, and from here on `make` refuses this file."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('moved_to', ?)", (log_id,))

    def renew_identity(self, random_id: Callable[[], str]) -> str:
        """A new `log_id`, durable when it returns: cursors into the log as it was no longer count."""
        with self._transaction():
            self.log_id = random_id()
            self._connection.execute("UPDATE meta SET value = ? WHERE name = 'log_id'", (self.log_id,))
        return self.log_id

    def close(self) -> None:
        """Idempotent. The last connection checkpoints and removes the WAL."""
        with contextlib.suppress(apsw.Error):
            self._connection.close()
        self._turn.close()

    # ---------------------------------------------------------------- transactions

    @contextlib.contextmanager
    def _reporting(self, path: str | None = None) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, OSError) as error:  # OSError: of the lock file and of what is synced beside SQLite
            raise LogError(code_of(error, self._connection), path) from error

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        """Committed and synced when it ends; nothing of it is there when it raises, but for a failed commit.

        After a failed COMMIT the outcome is unknown to the caller, as the contract allows.
        """
        with (
            self._reporting(),
            self._turn if begin == "BEGIN IMMEDIATE" else contextlib.nullcontext(),
            transaction(self._connection, begin),
        ):
            yield

    def _snapshot(self) -> contextlib.AbstractContextManager[None]:
        return self._transaction("BEGIN")

    # ---------------------------------------------------------------- writing

    def write(self, calls: Sequence[Append | Put]) -> list[Done]:
        """Several calls in one transaction and one sync, in their order; answers in the same order.

        When the disk is full the group is taken apart, so that exactly what does not fit is refused.
        """
        try:
            return self._together(calls)
        except LogError as error:
            if error.code != "storage_full" or (len(calls) == 1 and _size(calls[0]) == 1):
                return [_refused(call, error.code) for call in calls]
        done: list[Done] = []
        for call in calls:
            if isinstance(call, Put):
                done.append(self._put_alone(call))
            elif (why := next(filter(None, map(self._put_alone, call.grants)), None)) is not None:
                done.append(_refused(call, why.code))
            else:
                answers: Answers = []
                for entry, headers in zip(call.entries, call.headers, strict=True):
                    answer = self.write([Append((entry,), (headers,))])[0]
                    answers += answer if isinstance(answer, list) else [LogError("unavailable")]
                done.append(answers)
        return done

    def _put_alone(self, call: Put) -> LogError | None:
        try:
            self._together([call])
        except LogError as error:
            return LogError(error.code)
        return None

    def _together(self, calls: Sequence[Append | Put]) -> list[Done]:
        done: list[Done] = []
        rows: list[tuple[object, ...]] = []
        settled = self._mark if self._gone == NO_TRACES else None
        with self._transaction():
            if settled is not None:
                self._connection.execute("DELETE FROM meta WHERE name = ?", (settled,))
            now = self._clock_ms()
            tails = self._ends_of(calls)
            known = self._known([entry.ident for call in calls if isinstance(call, Append) for entry in call.entries])
            for call in calls:
                if isinstance(call, Put):
                    self._put(call)
                    done.append(None)
                    continue
                for put in call.grants:
                    self._put(put)
                answers: Answers = []
                for entry, headers in zip(call.entries, call.headers, strict=True):
                    answers.append(self._place(entry, headers, now, known, tails, rows))
                done.append(answers)
            for many in _chunks(rows):
                places = ",".join(["(?,?,?,?,?,?,?)"] * len(many))
                self._connection.execute(
                    f"INSERT INTO entry (topic, offset, at_ms, ident, key, headers, value) VALUES {places}",
                    [value for row in many for value in row],
                )
            grown = [(tail.id, tail.next, tail.last_ms) for tail in tails.values() if tail.grown]
            if grown:
                self._connection.execute(
                    """UPDATE topic SET next = j.value ->> 1, last_ms = j.value ->> 2
                       FROM json_each(?) j WHERE topic.id = j.value ->> 0""",
                    (orjson.dumps(grown).decode(),),
                )
        if settled is not None:
            self._mark = None
        return done

    def _ends_of(self, calls: Sequence[Append | Put]) -> dict[str, _Tail]:
        names = sorted({entry.topic for call in calls if isinstance(call, Append) for entry in call.entries})
        found = self._connection.execute(
            """SELECT json_group_array(json_array(name, id, next, last_ms)) FROM topic
               WHERE name IN (SELECT value FROM json_each(?)) AND NOT gone""",
            (orjson.dumps(names).decode(),),
        ).get
        return {name: _Tail(*tail) for name, *tail in orjson.loads(found)}

    def _place(
        self,
        entry: Entry,
        headers: bytes | None,
        now: int,
        known: dict[str, _First],
        tails: dict[str, _Tail],
        rows: list[tuple[object, ...]],
    ) -> Appended | LogError:
        """Decide one entry's place; the caller inserts `rows`."""
        if len(entry.value) > MAX_VALUE_BYTES:
            return LogError("too_large", expected=MAX_VALUE_BYTES)
        tail = tails.get(entry.topic)
        if tail is None:
            return LogError("topic_unknown")
        first = known.get(entry.ident)
        if first is not None:
            return first.answer(entry)
        tail.last_ms = max(tail.last_ms, now)
        placed = Appended(tail.next, tail.last_ms)
        tail.next += 1
        tail.grown = True
        known[entry.ident] = _First(entry.topic, placed.offset, placed.at_ms, entry.value, None)
        rows.append((tail.id, placed.offset, placed.at_ms, entry.ident, entry.key, headers, entry.value))
        return placed

    def _known(self, idents: list[str]) -> dict[str, _First]:
        found: dict[str, _First] = {}
        for many in _chunks(idents):
            places = ",".join("?" * len(many))
            for ident, *first in self._connection.execute(
                f"""SELECT e.ident, t.name, e.offset, e.at_ms, e.value, NULL FROM entry e
                    JOIN topic t ON t.id = e.topic WHERE e.ident IN ({places})
                    UNION ALL
                    SELECT s.ident, t.name, s.offset, s.at_ms, NULL, s.sha256 FROM spent s
                    JOIN topic t ON t.id = s.topic WHERE s.ident IN ({places})""",
                [*many, *many],
            ):
                found[ident] = _First(*first)
        return found

    def _put(self, call: Put) -> None:
        for many in _chunks(call.grants):
            self._connection.execute(
                f"""INSERT INTO grant_value (topic, key, value) VALUES {",".join(["(?,?,?)"] * len(many))}
                    ON CONFLICT (topic, key) DO UPDATE SET value = excluded.value""",
                [bound for key, value in many for bound in (call.topic, key, value)],
            )

    def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        """The rows are gone, durably; their bytes once `scrub` has said so. Crash in between: opening cuts the WAL, and
        writes the grants anew."""
        with self._transaction():
            for many in _chunks(keys):
                which = f"FROM grant_value WHERE topic = ? AND key IN ({','.join('?' * len(many))})"
                found = self._connection.execute(f"SELECT key, value {which}", [topic, *many])
                self._leave(list(found))
                self._connection.execute(f"DELETE {which}", [topic, *many])

    def _leave(self, grants: Sequence[tuple[str, bytes]]) -> None:
        """Inside the transaction that deletes them: what the next `scrub` has to look for, of this process or, should
        it not get there, of the next one."""
        if not grants:
            return
        if self._mark is None:
            self._mark = self._connection.execute(f"SELECT '{_MARK}' || lower(hex(randomblob(8)))").get
        self._connection.execute("INSERT OR IGNORE INTO meta VALUES (?, '')", (self._mark,))
        self._gone = both(self._gone, traces_of(grants))

    def _heed_marks(self) -> None:
        with self._reporting():
            if self._connection.execute(f"SELECT EXISTS (SELECT 1 FROM meta WHERE name GLOB '{_MARK}*')").get:
                self._gone = None

    @property
    def checkpoint_due(self) -> bool:
        return self._wal.checkpoint_due

    def checkpoint(self) -> None:
        """As `Wal.checkpoint`. Failing (a full disk) loses nothing; it is tried again later."""
        with contextlib.suppress(LogError), self._reporting():
            self._wal.checkpoint()

    def copy_back(self) -> None:
        """As `Wal.copy_back`. On a connection of its own. Failing loses nothing; it is tried again later."""
        with contextlib.suppress(LogError), self._reporting():
            self._wal.copy_back()

    def scrub(self) -> bool:
        """As `Wal.scrub`; and no copy of what was deleted stands in a gap. Raises LogError `unavailable`,
        `storage_full`."""
        found = False

        def look() -> None:
            nonlocal found
            with opened(self._path, self._vfs, apsw.SQLITE_OPEN_MAIN_DB) as file:
                found = stands(self._connection, file, self._gone)

        with self._reporting():
            if not self._wal.scrub(look):
                return False
            if found:
                self._gone = None  # what is looked for is cut with the table; a crash leaves the old one whole
                with self._transaction():
                    renew(self._connection)
                    # Also others': what they deleted before is not among what was written anew.
                    self._connection.execute(f"DELETE FROM meta WHERE name GLOB '{_MARK}*'")
                self._gone = NO_TRACES
                return self._wal.scrub(lambda: None)
        self._gone = NO_TRACES
        return True

    def doubt(self) -> None:
        """The next `scrub` writes the grants anew, whatever it finds."""
        self._gone = None

    # ---------------------------------------------------------------- administration

    def create_topics(self, names: Iterable[str]) -> None:
        """Those there already stay as they are. Raises LogError `topic_unknown` for a name that is none."""
        wanted = sorted(set(names))
        if not all(TOPIC.fullmatch(name) for name in wanted):
            raise LogError("topic_unknown", "topics")
        with self._transaction():
            for name in wanted:
                self._connection.execute(
                    "INSERT INTO topic (name) VALUES (?) ON CONFLICT (name) DO UPDATE SET gone = 0", (name,)
                )

    def topics(self) -> list[str]:
        with self._snapshot():
            return [name for (name,) in self._connection.execute("SELECT name FROM topic WHERE NOT gone ORDER BY name")]

    def trim(self, topic: str, before: int) -> int:
        """Remove entries with offset < before; returns the first kept offset. A crash leaves fewer removed. Their bytes
        leave the WAL with `scrub`."""
        while True:
            with self._transaction():
                place, first, end = self._topic(topic)
                kept = min(before, end)
                step = min(kept, first + _TRIM)
                if step > first:
                    self._spend(place, step)
            if step >= kept:
                break
        return max(first, step)

    def delete_topic(self, topic: str) -> None:
        """Its entries are gone, their bytes from the WAL with `scrub`; made again, it goes on at the next offset: old
        cursors stay true."""
        self.trim(topic, sys.maxsize)
        with self._transaction():
            place, first, end = self._topic(topic)
            self._spend(place, end)
            self._connection.execute("UPDATE topic SET gone = 1 WHERE id = ?", (place,))

    def _spend(self, place: int, before: int) -> None:
        run = self._connection.execute
        removed = run("SELECT ident, offset, at_ms, value FROM entry WHERE topic = ? AND offset < ?", (place, before))
        spent = [(ident, place, offset, at_ms, _sha256(value)) for ident, offset, at_ms, value in removed]
        topics = _granted_topics(self._connection)
        for row in spent:
            run("INSERT INTO spent VALUES (?, ?, ?, ?, ?)", row)
            for topic, keys in _grants_of(self._connection, row[0], topics).items():
                for key in keys:
                    which = "FROM grant_value WHERE topic = ? AND key = ?"
                    self._leave([(key, run(f"SELECT value {which}", (topic, key)).get)])
                    run(f"DELETE {which}", (topic, key))
        run("DELETE FROM entry WHERE topic = ? AND offset < ?", (place, before))
        run("UPDATE topic SET first = ? WHERE id = ?", (before, place))

    # ---------------------------------------------------------------- reading

    def _topic(self, name: str, path: str | None = None) -> tuple[int, int, int]:
        row: tuple[int, int, int] | None = self._connection.execute(
            "SELECT id, first, next FROM topic WHERE name = ? AND NOT gone", (name,)
        ).fetchone()
        if row is None:
            raise LogError("topic_unknown", path)
        return row

    def ends(self, topic: str) -> Ends:
        with self._snapshot():
            _, first, end = self._topic(topic)
            return Ends(first, end)

    def read(self, after: Mapping[str, int], limit: int, max_bytes: int, *, say_topic: bool) -> list[Stored]:
        """What is there now, of one moment. `say_topic`: an error's path is the topic."""
        with self._snapshot():
            waiting: list[tuple[str, int, int]] = []
            for name, cursor in after.items():
                place, first, end = self._topic(name, name if say_topic else None)
                if cursor + 1 < first:
                    raise LogError("retention_passed", name if say_topic else None, expected=first)
                if cursor + 1 < end:
                    waiting.append((name, place, cursor))
            if limit < 1 or not waiting:
                return []
            if len(waiting) == 1:
                return self._entries(*waiting[0], limit, max_bytes)
            sizes = [self._sizes(place, cursor, limit) for _, place, cursor in waiting]
            self._rotation += 1
            counts = _shares(sizes, limit, max_bytes, self._rotation)
            return [
                stored
                for (name, place, cursor), count in zip(waiting, counts, strict=True)
                if count
                for stored in self._entries(name, place, cursor, count, sys.maxsize)
            ]

    def _entries(self, name: str, place: int, cursor: int, limit: int, max_bytes: int) -> list[Stored]:
        found: list[Stored] = []
        size = 0
        for offset, key, ident, value, at_ms, headers in self._connection.execute(
            """SELECT offset, key, ident, value, at_ms, headers FROM entry
               WHERE topic = ? AND offset > ? ORDER BY offset LIMIT ?""",
            (place, cursor, limit),
        ):
            size += len(value)
            if size > max_bytes and found:
                break
            found.append(Stored(name, offset, key, ident, value, at_ms, _unpack(headers)))
        return found

    def _sizes(self, place: int, cursor: int, limit: int) -> list[int]:
        sizes: list[int] = orjson.loads(
            self._connection.execute(
                """SELECT json_group_array(size) FROM (SELECT length(value) AS size FROM entry
                   WHERE topic = ? AND offset > ? ORDER BY offset LIMIT ?)""",
                (place, cursor, limit),
            ).get
        )
        return sizes

    def changed(self) -> list[str]:
        """Topics that grew since this was asked last, by whatever process; all of them at first."""
        with self._reporting():
            version = self._connection.pragma("data_version")
            if version == self._version:
                return []
            # The version is read first: what is committed in between is reported twice, never missed.
            tails: dict[str, int] = orjson.loads(
                self._connection.execute("SELECT json_group_object(name, next) FROM topic").get
            )
            grown = [name for name, end in tails.items() if self._tails.get(name) != end]
            self._version, self._tails = version, tails
            return grown

    def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        with self._snapshot():
            return {
                key: value
                for many in _chunks(keys)
                for key, value in self._connection.execute(
                    f"SELECT key, value FROM grant_value WHERE topic = ? AND key IN ({','.join('?' * len(many))})",
                    [topic, *many],
                )
            }

    def grant_keys(self, ident: str) -> dict[str, list[str]]:
        """Grants topic -> keys of that record's grants."""
        with self._snapshot():
            return _grants_of(self._connection, ident, _granted_topics(self._connection))

    def grants_kept(self, idents: Sequence[str]) -> set[str]:
        """Those of these records of which any grant is kept."""
        with self._snapshot():
            topics = _granted_topics(self._connection)
            asked = "SELECT 1 FROM grant_value WHERE topic = ? AND key >= ? AND key < ? LIMIT 1"
            return {
                ident
                for ident in idents
                for topic in topics
                if self._connection.execute(asked, (topic, f"{ident}|", f"{ident}}}")).fetchone() is not None
            }

    def bytes_left(self, idents: Sequence[str]) -> set[str]:
        """As `sqlite_gaps.bytes_left`, of this file. In any thread. Raises LogError `unavailable`."""
        try:
            return bytes_left(self._path, self._vfs, idents)
        except (apsw.CantOpenError, apsw.IOError):
            raise LogError("unavailable", "file") from None

    def grant_topics(self) -> list[str]:
        """Grants topics in which something is kept, in order."""
        with self._snapshot():
            return [name for (name,) in self._connection.execute("SELECT DISTINCT topic FROM grant_value ORDER BY 1")]

    def grants(self, topic: str, after: str, limit: int) -> dict[str, bytes]:
        """Those with keys > `after` ("": from the first), in order of their keys, at most `limit`."""
        with self._snapshot():
            return dict(
                self._connection.execute(
                    "SELECT key, value FROM grant_value WHERE topic = ? AND key > ? ORDER BY key LIMIT ?",
                    (topic, after, limit),
                )
            )


def _shares(sizes: Sequence[Sequence[int]], limit: int, max_bytes: int, rotation: int) -> list[int]:
    """How many entries of each topic: the next one always goes to the topic that was given the fewest bytes.

    At least one in all, even past `max_bytes`. Who comes first on a tie changes with `rotation`: when the limits hold
    one entry only, nobody starves.
    """
    counts = [0] * len(sizes)
    queue = sorted((0, (index + rotation) % len(sizes), index) for index in range(len(sizes)))
    total = 0
    while queue and sum(counts) < limit:
        given, rank, index = heapq.heappop(queue)
        if counts[index] == len(sizes[index]):
            continue
        size = sizes[index][counts[index]]
        if any(counts) and total + size > max_bytes:
            continue
        counts[index] += 1
        total += size
        heapq.heappush(queue, (given + size, rank, index))
    return counts


def _private_file(path: str, create: bool) -> None:
    """The database exists with mode 0600 before SQLite opens it; SQLite gives WAL and shared memory the same mode."""
    try:
        if create:
            # Where there is one it is not opened: closing it would end this process's SQLite locks on it (POSIX).
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if not Path(path).is_file():
            raise LogError("unavailable", "file")
        for name in (path, f"{path}-wal", f"{path}-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(name).chmod(0o600)
    except OSError as error:
        raise LogError(code_of(error, None), "file") from error


def _chunks(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    start = 0
    for size in _ROWS:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


def _granted_topics(connection: apsw.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT DISTINCT topic FROM grant_value")]


def _grants_of(connection: apsw.Connection, ident: str, topics: Sequence[str]) -> dict[str, list[str]]:
    """Topic -> keys of that record's grants, of those topics that have any."""
    asked = "SELECT key FROM grant_value WHERE topic = ? AND key >= ? AND key < ?"
    found = {
        topic: [str(key) for (key,) in connection.execute(asked, (topic, f"{ident}|", f"{ident}}}"))]
        for topic in topics
    }
    return {topic: keys for topic, keys in found.items() if keys}


def _sha256(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def _size(call: Append | Put) -> int:
    return len(call.entries) if isinstance(call, Append) else len(call.grants)


def _refused(call: Append | Put, code: str) -> Done:
    return [LogError(code) for _ in call.entries] if isinstance(call, Append) else LogError(code)


def _pack(headers: tuple[tuple[str, bytes], ...]) -> bytes | None:
    return orjson.dumps([[name, value.decode("latin-1")] for name, value in headers]) if headers else None


def _unpack(headers: bytes | None) -> tuple[tuple[str, bytes], ...]:
    if headers is None:
        return ()
    return tuple((name, value.encode("latin-1")) for name, value in orjson.loads(headers))
