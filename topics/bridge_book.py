# SPDX-License-Identifier: Apache-2.0
"""What a bridge knows of its way: cursors, promises of the other domain, refusals; one SQLite file, mode 0600.

    cursor     (log, topic) -> the last offset that was settled: promised abroad, refused for good, or never to go
    carried    one row per record that was settled: its promise (evidence), or the code and path of its refusal, and the
               other domain's signed word for it where there is one (`topics.refusal`)
    receipt    what the other domain's ledger says of what its gateway has promised (`topics.receipts`)
    unproven   of which promised records there is no receipt yet, or none that its witnesses have signed as asked
    delayed    what the other domain has refused in writing for now, and what for; gone when it is settled
    shown      versions of our registry that the other domain has taken, and with which agencies in them
    told       what hinders us now, and when we were last heard

Invariants: a settled record and its cursor are one transaction, durable when it ends (WAL, synchronous=FULL); grants at
home are due for deletion from that moment on, until `grants_gone`. It holds identifiers and promises, and nothing that
was sealed.

If we crash: before `settle`, the record is brought again and is a copy there; after it, its grants are deleted again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from schemas.errors import LogError
from topics.receipts import Kept
from topics.sqlite_transaction import code_of, plan_once, transaction

BOOK = "bridge.db"
"""Its name in the neighbour's folder."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS cursor (
    log TEXT, topic TEXT, offset INTEGER NOT NULL, PRIMARY KEY (log, topic)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS carried (
    n INTEGER PRIMARY KEY, log TEXT NOT NULL, topic TEXT NOT NULL, offset INTEGER NOT NULL, ident TEXT NOT NULL,
    state TEXT NOT NULL, at INTEGER NOT NULL, code TEXT, path TEXT, promise BLOB,
    grants TEXT,                           -- keys of its grants at home, until they are deleted; then NULL
    l1 TEXT,                               -- base64url SHA-256 of its header.payload
    refusal TEXT,
    UNIQUE (log, topic, offset)) STRICT;
CREATE INDEX IF NOT EXISTS carried_grants ON carried (n) WHERE grants IS NOT NULL;
CREATE INDEX IF NOT EXISTS carried_l1 ON carried (l1);
CREATE TABLE IF NOT EXISTS unproven (
    l1 TEXT PRIMARY KEY, n INTEGER NOT NULL, at INTEGER NOT NULL, has INTEGER NOT NULL, promise BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS unproven_by ON unproven (has, n);
CREATE TABLE IF NOT EXISTS receipt (
    l1 TEXT PRIMARY KEY, level TEXT NOT NULL, final INTEGER NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL,
    data BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS receipt_level ON receipt (level, kind);
-- Not by the program, so that one of an earlier version, whose book is this too, leaves nothing out.
CREATE TRIGGER IF NOT EXISTS carried_promised AFTER INSERT ON carried
    WHEN NEW.state = 'promised' AND NEW.l1 IS NOT NULL AND length(NEW.promise) > 0
BEGIN
    INSERT OR IGNORE INTO unproven SELECT NEW.l1, NEW.n, NEW.at, 0, NEW.promise
        WHERE NOT EXISTS (SELECT 1 FROM receipt WHERE l1 = NEW.l1);
END;
CREATE TABLE IF NOT EXISTS delayed (
    l1 TEXT PRIMARY KEY, topic TEXT NOT NULL, offset INTEGER NOT NULL, ident TEXT NOT NULL,
    code TEXT NOT NULL, path TEXT, refusal TEXT NOT NULL) WITHOUT ROWID, STRICT;
DROP TABLE IF EXISTS given;                -- of earlier programs, without the agencies: all is shown once more
CREATE TABLE IF NOT EXISTS shown (version INTEGER PRIMARY KEY, agencies TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS told (
    one INTEGER PRIMARY KEY CHECK (one = 1), heard INTEGER NOT NULL, code TEXT, path TEXT) STRICT;
INSERT OR IGNORE INTO told VALUES (1, 0, NULL, NULL);
"""


@dataclass(frozen=True, slots=True)
class Settled:
    """A record that needs nothing more from us but the deletion of its grants at home."""

    topic: str
    offset: int
    ident: str
    promise: bytes | None = None
    """The other domain's, as evidence (`topics.promise`); None: refused, or a copy of what stands elsewhere."""
    code: str | None = None
    path: str | None = None
    grants: tuple[str, ...] = ()
    """Keys of its grants at home, which are to go."""
    l1: str | None = None
    """What it is known by: base64url SHA-256 of `header.payload`; None: it has none."""
    refusal: str | None = None
    """What the other domain has signed of it; None: it is the bridge's own word."""

    @property
    def state(self) -> str:
        if self.code is not None:
            return "refused"
        return "copy" if self.promise is None else "promised"


@dataclass(frozen=True, slots=True)
class Hindered:
    """Why nothing passes now, by the refusal's code and path; and when the other domain last answered."""

    heard: int
    """Seconds since the epoch, our clock; 0: never."""
    code: str | None
    path: str | None


class BridgeBook:
    """Used by one thread, and by one bridge at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    @classmethod
    def open(cls, path: Path, *, vfs: str | None = None) -> BridgeBook:
        """Raises LogError `unavailable`, `storage_full` (path `bridge`).

        Args:
            vfs: name of an apsw VFS without shared memory (tests: a disk that forgets what was not synced).
        """
        connection: apsw.Connection | None = None
        try:
            if vfs is None:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = apsw.Connection(str(path), vfs=vfs)
            plan_once(connection)
            connection.set_busy_timeout(10_000)
            if vfs is not None:
                connection.pragma("locking_mode", "EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA secure_delete=ON")
            with transaction(connection):
                columns = [row[1] for row in connection.execute("PRAGMA table_info(carried)")]
                for name in ("l1", "refusal") if columns else ():
                    if name not in columns:
                        connection.execute(f"ALTER TABLE carried ADD COLUMN {name} TEXT")
                tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
                connection.execute(_SCHEMA)
                if "carried" in tables and "unproven" not in tables:  # of earlier programs, which asked for no receipts
                    connection.execute(
                        "INSERT OR IGNORE INTO unproven SELECT l1, n, at, 0, promise FROM carried"
                        " WHERE state = 'promised' AND l1 IS NOT NULL AND length(promise) > 0"
                    )
        except (apsw.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise LogError(code_of(error, None), "bridge") from None
        return cls(connection)

    @classmethod
    def reading(cls, path: Path) -> BridgeBook:
        """The file of a bridge that is another process's; nothing can be changed by it. Raises as `open`."""
        try:
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(1_000)
        except apsw.Error as error:
            raise LogError(code_of(error, None), "bridge") from None
        return cls(connection)

    def close(self) -> None:
        """Idempotent."""
        self._db.close()

    # ---------------------------------------------------------------- where we are

    def cursor(self, log: str, topic: str) -> int:
        """-1 before the first; another log begins anew, and what it repeats is a copy abroad."""
        rows = self._rows("SELECT offset FROM cursor WHERE log = ? AND topic = ?", log, topic)
        return int(rows[0][0]) if rows else -1

    def settle(self, log: str, settled: Sequence[Settled], at: int) -> None:
        """Durable when it returns; the cursors of their topics stand behind them. Raises LogError."""
        with self._said(), transaction(self._db):
            for one in settled:
                self._db.execute(
                    """INSERT OR IGNORE INTO carried
                       (log, topic, offset, ident, state, at, code, path, promise, grants, l1, refusal)
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                    (
                        *(log, one.topic, one.offset, one.ident, one.state, at, one.code, one.path, one.promise),
                        " ".join(one.grants) or None,
                        one.l1,
                        one.refusal,
                    ),
                )
                self._db.execute("DELETE FROM delayed WHERE l1 = ?", (one.l1,))
                self._db.execute(
                    """INSERT INTO cursor VALUES (?, ?, ?)
                       ON CONFLICT DO UPDATE SET offset = max(offset, excluded.offset)""",
                    (log, one.topic, one.offset),
                )

    def delay(self, delayed: Sequence[Settled]) -> None:
        """The other domain does not take these for now, and has signed why; said again for the same reason, the first
        word stays. Raises LogError."""
        if not delayed:
            return
        with self._said(), transaction(self._db):
            for one in delayed:
                self._db.execute(
                    """INSERT INTO delayed VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
                       SET code = excluded.code, path = excluded.path, refusal = excluded.refusal
                       WHERE (code, path) IS NOT (excluded.code, excluded.path)""",
                    (one.l1, one.topic, one.offset, one.ident, one.code, one.path, one.refusal),
                )

    def grants_due(self) -> list[tuple[int, str, list[str]]]:
        """(number, mailbox topic, keys) of settled records whose keys at home are still to be deleted."""
        rows = self._rows("SELECT n, topic, grants FROM carried WHERE grants IS NOT NULL ORDER BY n LIMIT 500")
        return [(n, topic, keys.split(" ")) for n, topic, keys in rows]

    def grants_gone(self, numbers: Sequence[int]) -> None:
        """Raises LogError."""
        with self._said(), transaction(self._db):
            self._db.executemany("UPDATE carried SET grants = NULL WHERE n = ?", [(n,) for n in numbers])

    def promise(self, ident: str) -> bytes | None:
        """The other domain's promise for this record; None: not there, or refused."""
        rows = self._rows("SELECT promise FROM carried WHERE ident = ? AND state = 'promised'", ident)
        return None if not rows else rows[0][0]

    def settled(self, l1: str) -> Settled | None:
        """What became of this record: promised, if it ever was; else refused, for good, for now; None: nothing yet."""
        rows = self._rows(
            "SELECT topic, offset, ident, promise, code, path, refusal FROM carried"
            " WHERE l1 = ? AND state IN ('promised', 'refused') ORDER BY state, n LIMIT 1",
            l1,
        ) or self._rows("SELECT topic, offset, ident, NULL, code, path, refusal FROM delayed WHERE l1 = ?", l1)
        for topic, offset, ident, promise, code, path, refusal in rows:
            return Settled(topic, offset, ident, promise, code, path, l1=l1, refusal=refusal)
        return None

    # ---------------------------------------------------------------- what their ledger says

    def unproven(self, limit: int, *, again: bool, skip: int = 0) -> list[bytes]:
        """Promises of records without a receipt or, with `again`, of those with one that is not final, the oldest
        first; without the first `skip` of them."""
        rows = self._rows(
            "SELECT promise FROM unproven WHERE has = ? ORDER BY n LIMIT ? OFFSET ?", int(again), limit, skip
        )
        return [promise for (promise,) in rows]

    def newest(self) -> int:
        """Grows with every record that is settled."""
        [(n,)] = self._rows("SELECT coalesce(max(n), 0) FROM carried")
        return int(n)

    def unproven_since(self) -> int | None:
        """When the oldest record was promised of which there is no receipt, seconds since the epoch; None: there is
        none."""
        rows = self._rows("SELECT at FROM unproven WHERE has = 0 ORDER BY n LIMIT 1")
        return int(rows[0][0]) if rows else None

    def unfinished_receipts(self) -> int:
        """How many records have a receipt that is not final."""
        [(count,)] = self._rows("SELECT count(*) FROM unproven WHERE has = 1")
        return int(count)

    def contradicting(self) -> int:
        """How many receipts prove that the other domain's ledger has broken a promise of its gateway's."""
        [(count,)] = self._rows("SELECT count(*) FROM receipt WHERE level = 'contradicted'")
        return int(count)

    def proven(self) -> int:
        """Of how many records their ledger has shown that it has them, and has not refused them."""
        [(count,)] = self._rows("SELECT count(*) FROM receipt WHERE level <> 'contradicted' AND kind <> 'reject'")
        return int(count)

    def receipt(self, l1: str) -> Kept | None:
        """The best one that there is of this record."""
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'receipt'"):
            return None  # we read the book of a bridge of an earlier version
        for level, final, index, kind, data in self._rows(
            "SELECT level, final, place, kind, data FROM receipt WHERE l1 = ?", l1
        ):
            return Kept(level, bool(final), index, kind, data)
        return None

    def keep_receipt(self, l1: str, kept: Kept) -> None:
        """In place of what there was; durable when it returns. Raises LogError."""
        with self._said(), transaction(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO receipt VALUES (?, ?, ?, ?, ?, ?)",
                (l1, kept.level, int(kept.final), kept.index, kept.kind, kept.data),
            )
            if kept.final or kept.level == "contradicted":  # nothing that comes later would say more
                self._db.execute("DELETE FROM unproven WHERE l1 = ?", (l1,))
            else:
                self._db.execute("UPDATE unproven SET has = 1 WHERE l1 = ?", (l1,))

    def refusals(self, limit: int = 100) -> list[Settled]:
        """The newest first."""
        rows = self._rows(
            "SELECT topic, offset, ident, code, path FROM carried WHERE state = 'refused' ORDER BY n DESC LIMIT ?",
            limit,
        )
        return [Settled(topic, offset, ident, None, code, path) for topic, offset, ident, code, path in rows]

    def counts(self) -> dict[str, int]:
        """State -> how many records: promised, refused; one that another log had again counts once."""
        return dict(self._rows("SELECT state, count(DISTINCT ident) FROM carried WHERE state <> 'copy' GROUP BY state"))

    def refused_by_code(self) -> dict[str, int]:
        """Code -> how many records were refused with it."""
        return dict(self._rows("SELECT code, count(DISTINCT ident) FROM carried WHERE state = 'refused' GROUP BY code"))

    # ---------------------------------------------------------------- the other side

    def shown(self, version: int, agencies: frozenset[str]) -> bool:
        """Whether the other domain has taken this version of our registry with at least these agencies."""
        rows = self._rows("SELECT agencies FROM shown WHERE version = ?", version)
        return bool(rows) and agencies <= frozenset(rows[0][0].split())

    def show(self, version: int, agencies: frozenset[str]) -> None:
        """It has. What was shown of a version is held there together. Raises LogError."""
        with self._said(), transaction(self._db):
            rows = self._db.execute("SELECT agencies FROM shown WHERE version = ?", (version,)).fetchall()
            whole = agencies.union(*(str(row[0]).split() for row in rows))
            self._db.execute("INSERT OR REPLACE INTO shown VALUES (?, ?)", (version, " ".join(sorted(whole))))

    def tell(self, code: str | None, path: str | None, heard: int | None) -> None:
        """What hinders us now; `heard`: when the other domain answered, None if it did not. Raises LogError."""
        with self._said():
            self._db.execute(
                "UPDATE told SET code = ?, path = ?, heard = max(heard, coalesce(?, 0))", (code, path, heard)
            )

    def hindered(self) -> Hindered:
        [(heard, code, path)] = self._rows("SELECT heard, code, path FROM told")
        return Hindered(heard, code, path)

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with self._said():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise LogError(code_of(error, self._db), "bridge") from None
