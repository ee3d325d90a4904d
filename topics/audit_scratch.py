# SPDX-License-Identifier: Apache-2.0
"""What an audit has to remember while it walks a ledger, in a scratch SQLite file, so that memory stays small and an
interrupted audit goes on where it was.

    place, receipt     what promises and receipts say, to be met on the way; made again at every start
    said, event        signed bytes and identifiers that were logged before
    chain              every issuer's numbering so far
    erased, disclosed  records whose keys should be gone, and who said so; who got keys of which record later
    finding, meta      what was found, and how far the records were compared, under which root

What is remembered belongs to one origin, one trust and one beginning of the tree: `begin` forgets all of it when the
tree that is audited now does not begin with the one remembered.

Scratch: not synced, and anybody may delete it. If we crash, SQLite gives back the last whole window of entries. It
holds hashes, identifiers and positions, no record. Must never be taken for evidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, Self

import apsw
import orjson

from schemas.errors import LogError
from topics.audit_findings import Finding
from topics.proofs import leaf_hash
from topics.sqlite_transaction import code_of, plan_once

_VERSION = 2
_AT_ONCE = 500
_KEPT = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS said (l1 BLOB PRIMARY KEY) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS event (ident BLOB PRIMARY KEY, l1 BLOB NOT NULL, topic TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS erased (
    ident TEXT, by TEXT, idx INTEGER NOT NULL, PRIMARY KEY (ident, by)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS disclosed (ident BLOB, agency TEXT, PRIMARY KEY (ident, agency)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS chain (
    iss TEXT, topic TEXT, state TEXT NOT NULL, PRIMARY KEY (iss, topic)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS finding (n INTEGER PRIMARY KEY, members TEXT NOT NULL) STRICT;
"""
_STAGED = """
DROP TABLE IF EXISTS place;
DROP TABLE IF EXISTS receipt;
CREATE TABLE place (
    topic TEXT, offset INTEGER, seen INTEGER, l1 BLOB, PRIMARY KEY (topic, offset)) WITHOUT ROWID, STRICT;
CREATE TABLE receipt (n INTEGER PRIMARY KEY, idx INTEGER NOT NULL, leaf BLOB NOT NULL, name TEXT NOT NULL) STRICT;
CREATE INDEX receipt_idx ON receipt (idx);
"""


class Scratch:
    """Make it with `open`; used by one thread."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self.places = 0
        """Places that promises name."""

    @classmethod
    def open(cls, path: Path | None) -> Self:
        """At a file that may be there from before; None: in memory and on temporary files, for once.

        Raises LogError `unavailable`, `storage_full` (path `scratch`).
        """
        connection: apsw.Connection | None = None
        try:
            # An empty name is SQLite's own temporary database: it spills to a file that is deleted when it closes.
            connection = apsw.Connection("" if path is None else str(path))
            plan_once(connection)
            connection.set_busy_timeout(0)  # two audits over one scratch file would mix
            connection.execute("PRAGMA locking_mode=EXCLUSIVE; PRAGMA synchronous=OFF; PRAGMA journal_mode=DELETE")
            if connection.pragma("user_version") not in (0, _VERSION):
                raise LogError("unavailable", "scratch")
            connection.pragma("user_version", _VERSION)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_KEPT + _STAGED)
        except apsw.Error as error:
            if connection is not None:
                connection.close()
            raise LogError(code_of(error, None), "scratch") from None
        return cls(connection)

    def close(self) -> None:
        """Keeps what was `saved` last. Idempotent."""
        self._db.close()

    # ---------------------------------------------------------------- going on

    def begun(self, key: str) -> tuple[int, bytes]:
        """How many entries were compared with their records under this key, and the root over them; (0, b"") if none,
        and then everything is forgotten. Key: whom the audit believes and about which ledger."""
        held = dict(self._db.execute("SELECT name, value FROM meta"))
        if held.get("key") == key:
            return int(held["done"]), bytes.fromhex(held["root"])
        self.forget(key)
        return 0, b""

    def forget(self, key: str) -> None:
        for table in ("meta", "said", "event", "erased", "disclosed", "chain", "finding"):
            self._db.execute(f"DELETE FROM {table}")
        self._db.execute("INSERT INTO meta VALUES ('key', ?), ('done', '0'), ('root', '')", (key,))

    def save(self, done: int, root: bytes, met: Mapping[str, int], findings: Iterable[Finding]) -> None:
        """So far. `met`: topic -> offset before which records were compared; `findings`: the new ones."""
        rows = [(orjson.dumps(astuple(one)).decode(),) for one in findings]
        self._db.executemany("INSERT INTO finding (members) VALUES (?)", rows)
        self._db.executemany(
            "INSERT OR REPLACE INTO meta VALUES (?, ?)",
            [("done", str(done)), ("root", root.hex()), ("met", orjson.dumps(dict(met)).decode())],
        )
        self._db.execute("COMMIT; BEGIN IMMEDIATE")

    def judged_by(self, doubted: Mapping[str, int]) -> bool:
        """Whether what was compared so far was compared under these doubts: keys that are called stolen, and since
        which place. They are remembered."""
        now = orjson.dumps(dict(doubted), option=orjson.OPT_SORT_KEYS).decode()
        before = self._db.execute("SELECT value FROM meta WHERE name = 'doubted'").get
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('doubted', ?)", (now,))
        return bool(before == now)

    def met(self) -> dict[str, int]:
        """As it was saved."""
        row = self._db.execute("SELECT value FROM meta WHERE name = 'met'").fetchone()
        return {} if row is None else dict(orjson.loads(row[0]))

    def findings(self) -> list[Finding]:
        """Of the part that was done before."""
        return [Finding(*orjson.loads(text)) for (text,) in self._db.execute("SELECT members FROM finding ORDER BY n")]

    # ---------------------------------------------------------------- promises and receipts

    def stage_place(self, topic: str, offset: int) -> None:
        """Somebody holds a promise of this place."""
        self._db.execute("INSERT OR IGNORE INTO place VALUES (?, ?, 0, NULL)", (topic, offset))
        self.places += 1

    def meet_places(self, met: Sequence[tuple[str, int, bytes | None]]) -> None:
        """What entries say of places: topic, offset, `header.payload` hash."""
        if self.places:
            self._db.executemany(
                "UPDATE place SET seen = 1, l1 = ?3 WHERE topic = ?1 AND offset = ?2 AND NOT seen", met
            )

    def place(self, topic: str, offset: int) -> tuple[bool, bytes | None]:
        """Whether an entry names this place, which was staged, and with which hash."""
        found = self._db.execute("SELECT seen, l1 FROM place WHERE topic = ? AND offset = ?", (topic, offset))
        seen, l1 = found.fetchone() or (0, None)
        return bool(seen), l1

    def stage_receipt(self, index: int, entry: bytes, name: str) -> None:
        """Somebody holds a receipt for this entry at this index."""
        row = (index, leaf_hash(entry), name)
        self._db.execute("INSERT INTO receipt (idx, leaf, name) VALUES (?, ?, ?)", row)

    def receipts(self, first: int, behind: int) -> list[tuple[int, bytes, str]]:
        """Staged ones with first <= index < behind: index, the entry's leaf hash, name."""
        asked = "SELECT idx, leaf, name FROM receipt WHERE idx >= ? AND idx < ?"
        return list(self._db.execute(asked, (first, min(behind, (1 << 63) - 1))))

    # ---------------------------------------------------------------- what was logged before

    def said(self, l1: Sequence[bytes]) -> set[bytes]:
        """Those of these hashes that an event or erasure had."""
        return {row[0] for row in self._among("SELECT l1 FROM said WHERE l1 IN ({})", l1)}

    def events(self, idents: Sequence[str]) -> dict[str, bytes]:
        """Ident -> hash of the event that has it."""
        short = {short_ident(ident): ident for ident in idents}
        return {
            short[ident]: l1
            for ident, l1 in self._among("SELECT ident, l1 FROM event WHERE ident IN ({})", list(short))
        }

    def add(self, events: Sequence[tuple[str, bytes, str]]) -> None:
        """Events: ident, hash, topic."""
        self._db.executemany("INSERT OR IGNORE INTO said VALUES (?)", [(l1,) for _, l1, _ in events])
        rows = [(short_ident(ident), l1, topic) for ident, l1, topic in events]
        self._db.executemany("INSERT OR IGNORE INTO event VALUES (?, ?, ?)", rows)

    def add_erased(self, idents: Iterable[str], by: str, index: int) -> None:
        """Commanded by this agency, whether or not it may."""
        rows = [(ident, by, index) for ident in idents]
        self._db.executemany("INSERT OR IGNORE INTO erased VALUES (?, ?, ?)", rows)

    def erased(self) -> Iterable[tuple[str, str, int, str]]:
        """Records that were to be erased: ident, who commanded it, index of the erasure, topic of the record."""
        rows: list[Any] = self._db.execute("SELECT ident, by, idx FROM erased ORDER BY idx, ident").fetchall()
        for ident, by, index in rows:
            row = self._db.execute("SELECT topic FROM event WHERE ident = ?", (short_ident(ident),)).fetchone()
            if row is not None:
                yield ident, by, index, row[0]

    def add_disclosed(self, idents: Iterable[str], agency: str) -> None:
        """This agency was given keys of these records."""
        rows = [(short_ident(ident), agency) for ident in idents]
        self._db.executemany("INSERT OR IGNORE INTO disclosed VALUES (?, ?)", rows)

    def disclosed(self, ident: str) -> set[str]:
        """Agencies that were given keys of this record later."""
        return {
            row[0] for row in self._db.execute("SELECT agency FROM disclosed WHERE ident = ?", (short_ident(ident),))
        }

    # ---------------------------------------------------------------- chains

    def chain(self, iss: str, topic: str) -> str | None:
        row = self._db.execute("SELECT state FROM chain WHERE iss = ? AND topic = ?", (iss, topic)).fetchone()
        return None if row is None else str(row[0])

    def put_chains(self, chains: Iterable[tuple[str, str, str]]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO chain VALUES (?, ?, ?)", list(chains))

    def chains(self) -> Iterable[tuple[str, str, str]]:
        rows: list[Any] = self._db.execute("SELECT iss, topic, state FROM chain ORDER BY iss, topic").fetchall()
        return rows

    def _among(self, query: str, values: Sequence[bytes]) -> Iterable[tuple[bytes, ...]]:
        for start in range(0, len(values), _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            yield from self._db.execute(query.format(",".join("?" * len(some))), some)


def short_ident(ident: str) -> bytes:
    """16 bytes that stand for `<iss>/<evt>`."""
    return hashlib.sha256(ident.encode("utf-8")).digest()[:16]
