# SPDX-License-Identifier: Apache-2.0
"""What the grants topics say now, in one SQLite file: key -> grant, and how far each topic was read.

Kafka keeps grants in compacted topics, where a key is found only by reading from the start. This view is that reading,
remembered. It is never the truth: a file that is deleted, damaged, of another version, of another topic generation or
older than `STALE_AFTER_MS` is made again from the topic. So it is not synced to the disk on every commit either: after
a power cut SQLite gives back an earlier position, and the reading goes on from there.

What a tombstone erased leaves the file as well: `secure_delete=ON` overwrites the row, and a rollback journal of the
kind that is truncated keeps no copy. The file also remembers in which topics something was erased of which the brokers
may still hold the bytes, see `kafka_log`; made again, it learns that from the tombstones, which Kafka keeps for 30
days. Used by one thread; never looks into a grant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import apsw

from schemas.errors import LogError
from topics.sqlite_transaction import code_of, plan_once, transaction

_VERSION = 2
TICK = "tick"
"""Key of no grant. A tombstone of it is written only so that something is written."""
STALE_AFTER_MS = 7 * 86_400_000
"""Tombstones stay in Kafka for 30 days (`delete.retention.ms`); a view that slept longer could miss one. Far less."""
_SCHEMA = """
CREATE TABLE topic(name TEXT PRIMARY KEY, generation TEXT NOT NULL, next INTEGER NOT NULL, at_ms INTEGER NOT NULL);
CREATE TABLE granted(topic TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(topic, key))
    WITHOUT ROWID;
CREATE TABLE erased(topic TEXT PRIMARY KEY, at_ms INTEGER NOT NULL);
"""


class GrantsView:
    """Open with a path, or with None for one in memory."""

    def __init__(self, path: Path | None) -> None:
        """Raises LogError `storage_full`, `unavailable` (path `view`: the file can be neither used nor replaced)."""
        self._path = path
        try:
            self._db = self._open()
        except LogError:
            raise
        except (apsw.Error, OSError):
            self._remove()
            try:
                self._db = self._open()
            except (apsw.Error, OSError):
                raise LogError("unavailable", "view") from None

    def _open(self) -> apsw.Connection:
        """Raises LogError `storage_full`; apsw.Error and OSError where the file does not serve."""
        if self._path is not None:
            try:
                self._path.touch(mode=0o600)
            except OSError as error:
                if code_of(error, None) == "storage_full":
                    raise LogError("storage_full", "view") from None
                raise
        db = apsw.Connection(":memory:" if self._path is None else str(self._path))
        try:
            plan_once(db)
            db.set_busy_timeout(10_000)
            for pragma in ("secure_delete=ON", "journal_mode=TRUNCATE", "synchronous=NORMAL", "temp_store=MEMORY"):
                db.execute(f"PRAGMA {pragma}").fetchall()
            version = db.pragma("user_version")
            if version == 0:
                with transaction(db):
                    db.execute(_SCHEMA)
                    db.pragma("user_version", _VERSION)
            elif version != _VERSION:
                raise apsw.NotADBError("another version's")
            db.execute("SELECT name, generation, next, at_ms FROM topic LIMIT 1").fetchall()
            db.execute("SELECT topic, key, value FROM granted LIMIT 1").fetchall()
            db.execute("SELECT topic, at_ms FROM erased LIMIT 1").fetchall()
        except apsw.Error as error:
            full = code_of(error, db) == "storage_full"
            db.close()
            if full:  # the file is good
                raise LogError("storage_full", "view") from None
            raise
        return db

    def _remove(self) -> None:
        if self._path is None:
            return
        for name in (self._path, self._path.with_name(self._path.name + "-journal")):
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)

    def next(self, topic: str, generation: str, at_ms: int) -> int:
        """Offset from which to read on; 0, and everything of that topic forgotten, when what is here does not count."""
        row = self._db.execute("SELECT generation, next, at_ms FROM topic WHERE name = ?", (topic,)).fetchone()
        if row is not None and row[0] == generation and abs(at_ms - row[2]) < STALE_AFTER_MS:
            return int(row[1])
        self.forget(topic)
        return 0

    def forget(self, topic: str) -> None:
        """Raises LogError `storage_full`, `unavailable`."""
        with self._said(), transaction(self._db):
            self._db.execute("DELETE FROM granted WHERE topic = ?", (topic,))
            self._db.execute("DELETE FROM topic WHERE name = ?", (topic,))
            self._db.execute("DELETE FROM erased WHERE topic = ?", (topic,))

    def apply(
        self, topic: str, generation: str, changes: Iterable[tuple[str, bytes | None]], following: int, at_ms: int
    ) -> None:
        """What the topic says up to offset `following`, in its order; None erases. One transaction.

        Raises LogError `storage_full`, `unavailable`; then nothing of it was applied.
        """
        with self._said(), transaction(self._db):
            for key, value in changes:
                if value is None:
                    self._db.execute("DELETE FROM granted WHERE topic = ? AND key = ?", (topic, key))
                    if key != TICK:
                        self._db.execute("INSERT OR IGNORE INTO erased VALUES(?, ?)", (topic, at_ms))
                else:
                    self._db.execute("INSERT OR REPLACE INTO granted VALUES(?, ?, ?)", (topic, key, value))
            self._db.execute("INSERT OR REPLACE INTO topic VALUES(?, ?, ?, ?)", (topic, generation, following, at_ms))

    def get(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Those of the keys that are there. Raises LogError `unavailable`."""
        found: dict[str, bytes] = {}
        with self._said():
            for key in keys:
                row = self._db.execute("SELECT value FROM granted WHERE topic = ? AND key = ?", (topic, key)).fetchone()
                if row is not None:
                    found[key] = row[0]
        return found

    def keys_of(self, topics: Iterable[str], ident: str) -> dict[str, list[str]]:
        """Topic -> keys of that record's grants, of those topics that have any. Raises LogError `unavailable`."""
        asked = "SELECT key FROM granted WHERE topic = ? AND key >= ? AND key < ?"
        with self._said():
            found = {
                topic: [str(key) for (key,) in self._db.execute(asked, (topic, f"{ident}|", f"{ident}}}"))]
                for topic in topics
            }
        return {topic: keys for topic, keys in found.items() if keys}

    def erased(self, before_ms: int) -> list[str]:
        """Topics in which something was erased, or last looked after, before then; sorted."""
        with self._said():
            rows = self._db.execute("SELECT topic FROM erased WHERE at_ms < ? ORDER BY topic", (before_ms,))
            return [name for (name,) in rows]

    def looked_after(self, topics: Iterable[str], at_ms: int | None) -> None:
        """Those topics were, then; None: nothing is left to do. Raises LogError `storage_full`, `unavailable`."""
        with self._said(), transaction(self._db):
            for topic in topics:
                if at_ms is None:
                    self._db.execute("DELETE FROM erased WHERE topic = ?", (topic,))
                else:
                    self._db.execute("UPDATE erased SET at_ms = ? WHERE topic = ?", (at_ms, topic))

    def close(self) -> None:
        """Idempotent."""
        self._db.close()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise LogError(code_of(error, self._db), "view") from None
