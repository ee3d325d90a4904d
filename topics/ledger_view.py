# SPDX-License-Identifier: Apache-2.0
"""What follows from a ledger's store, in one SQLite file: the tree's tiles, the entries in bundles, where every topic
stands, and which signed bytes were logged where. Served to auditors by gateways, asked by the sequencer.

It is a cache. A file that is missing, damaged, of another version, another ledger or another store is made again from
the store; the answers are the same afterwards. So it is not synced at every batch (WAL, synchronous=NORMAL): after a
power cut SQLite gives back an earlier state, whole, and the reading goes on from there.

What entries do not say (they hold no identifiers) is *learned* from the records themselves while they are kept: which
event an identifier belongs to, and what was answered. Made again after retention it knows less: a conflict of
identifiers with a record that is gone is not noticed then, and retention waits for a later sign of delivery. Repeats
are recognised by `header.payload`'s hash, which entries hold for ever.

Memory: the tree's right edge (at most 255 hashes a level), one row per topic, and SQLite's page cache; nothing that
grows with the tree. Any number of processes may read it, and write it: who finds that another has taken something in
since begins from there. It must never be believed where a signed root can be asked: readers check proofs made from it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import apsw

from schemas.errors import LogError
from schemas.notes import HASH_BYTES
from topics.ledger_entries import GOOD_KINDS, RECORD_KINDS, LedgerEntry, decode_batch, decode_entry
from topics.proofs import EMPTY_ROOT, NodeReader, leaf_hash, tree_root
from topics.sqlite_transaction import code_of, plan_once, transaction
from topics.tiles import TILE_HEIGHT, TILE_WIDTH, GrowingTree, TileId, node_of_tiles, pack_entries, unpack_entries

VERSION = "2"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS state (
    one INTEGER PRIMARY KEY CHECK (one = 1), position INTEGER NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS tile (level INTEGER, n INTEGER, data BLOB NOT NULL, PRIMARY KEY (level, n)) STRICT;
CREATE TABLE IF NOT EXISTS bundle (n INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS registry (idx INTEGER PRIMARY KEY, version INTEGER NOT NULL, sha256 BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS topic (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    next INTEGER NOT NULL DEFAULT 0,        -- offset that is sequenced next
    last INTEGER,                           -- offset of the last record
    start INTEGER NOT NULL DEFAULT 0,       -- of the last retention entry
    learned INTEGER NOT NULL DEFAULT 0,     -- records below are learned
    read_to INTEGER NOT NULL DEFAULT -1     -- highest offset that its owner is known to have read
) STRICT;
CREATE TABLE IF NOT EXISTS said (
    l1 BLOB, idx INTEGER, good INTEGER NOT NULL, PRIMARY KEY (l1, idx)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS event (
    ident BLOB PRIMARY KEY, l1 BLOB NOT NULL, topic INTEGER NOT NULL, offset INTEGER NOT NULL, at_ms INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS answered (      -- what was answered and is not learned yet: topics are read one by one
    ident BLOB, iss TEXT, PRIMARY KEY (ident, iss)) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS reader (agency TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS erasing (       -- commanded, and not known to be done
    topic TEXT, offset INTEGER, l1 BLOB NOT NULL, PRIMARY KEY (topic, offset)) WITHOUT ROWID, STRICT;
"""


@dataclass(slots=True)
class TopicState:
    """Where the ledger stands in a topic."""

    id: int
    next: int = 0
    """The offset that is sequenced next; everything below has an entry."""
    last: int | None = None
    """Offset of the last record."""
    start: int = 0
    """First offset kept, as the last retention entry says."""
    learned: int = 0
    read_to: int = -1
    """Highest offset that the mailbox's owner is known to have read, from what it answered."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a record that counts says beside its entry."""

    topic: str
    offset: int
    at_ms: int
    """The log's time."""
    ident: str
    """ "<iss>/<evt>"."""
    iss: str
    l1_sha256: bytes
    answers: str | None
    """Ident of the record that it names (`ref`), issued by whom it is addressed to."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The sequencer's own batch, whose outcome is known before it is read back."""

    value: bytes
    tree: GrowingTree
    """With its entries."""
    learned: Sequence[Learned] = ()


@dataclass(frozen=True, slots=True)
class LoggedRegistry:
    """A registry version as the ledger holds it."""

    index: int
    version: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Commanded:
    """A record that commands an erasure which no `erased` entry calls done."""

    topic: str
    offset: int
    l1_sha256: bytes


class LedgerView:
    """Make it with `open` (the sequencer) or `reading` (everybody else). Blocks; used by one thread at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._topics: dict[str, TopicState] = {}
        self.tree = GrowingTree()
        self.position = -1
        """In the store: everything up to here is taken in."""
        self._load()

    @classmethod
    def open(cls, path: Path, *, origin: str, store_id: str) -> Self:
        """The view in this file, emptied unless it is whole and of this ledger and store.

        Raises LogError `unavailable`, `storage_full` (path `view`).
        """
        try:
            try:
                return cls._opened(path, origin, store_id)
            except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, _OtherLedgerError, LogError):
                for suffix in ("", "-wal", "-shm"):
                    path.with_name(path.name + suffix).unlink(missing_ok=True)
            return cls._opened(path, origin, store_id)
        except (apsw.Error, OSError) as error:
            raise LogError(code_of(error, None), "view") from error

    @classmethod
    def _opened(cls, path: Path, origin: str, store_id: str) -> Self:
        db = apsw.Connection(str(path))
        try:
            plan_once(db)
            db.set_busy_timeout(10_000)
            db.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000")
            with transaction(db):
                db.execute(_SCHEMA)
                held = dict(db.execute("SELECT name, value FROM meta"))
                wanted = {"version": VERSION, "origin": origin, "store": store_id}
                if held and held != wanted:
                    raise _OtherLedgerError
                db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", list(wanted.items()))
                db.execute("INSERT OR IGNORE INTO state VALUES (1, -1, 0, ?)", (EMPTY_ROOT,))
            path.chmod(0o600)
            return cls(db)
        except BaseException:
            db.close()
            raise

    @classmethod
    def reading(cls, path: Path) -> Self:
        """The view of another process; what it commits is seen by the next question (`refresh`).

        Raises LogError `unavailable` (path `view`): not there, or none of this version.
        """
        db: apsw.Connection | None = None
        try:
            db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            plan_once(db)
            db.set_busy_timeout(5_000)
            if dict(db.execute("SELECT name, value FROM meta")).get("version") == VERSION:
                return cls(db)
        except apsw.Error as error:
            if db is not None:
                db.close()
            raise LogError("unavailable", "view") from error
        db.close()
        raise LogError("unavailable", "view")

    def _load(self) -> None:
        with transaction(self._db, "BEGIN"):  # of one moment, whoever writes meanwhile
            self.position, size, root = self._db.execute("SELECT position, size, root FROM state").get
            edge: list[bytes] = []
            while size >> (TILE_HEIGHT * len(edge)):
                count = size >> (TILE_HEIGHT * len(edge))
                partial = self._data(len(edge), count // TILE_WIDTH) if count % TILE_WIDTH else b""
                edge.append(partial[: count % TILE_WIDTH * HASH_BYTES])
            rows: list[Any] = self._db.execute(
                "SELECT name, id, next, last, start, learned, read_to FROM topic"
            ).fetchall()
        self.tree = GrowingTree.resume(size, edge)
        if self.tree.root() != root:
            raise LogError("root_mismatch", "view")
        self._topics = {str(row[0]): TopicState(*row[1:]) for row in rows}

    def refresh(self) -> None:
        """Take over what another process has committed since."""
        with self._said():
            self._load()

    def close(self) -> None:
        """Idempotent."""
        self._db.close()

    # -----------------------------------------------------------------------------------------------------------------
    # Asking

    @property
    def size(self) -> int:
        """Entries in the tree."""
        return self.tree.size

    @property
    def topics(self) -> dict[str, TopicState]:
        """By name; of every topic that has an entry. Not to be changed."""
        return self._topics

    def topic(self, name: str) -> TopicState:
        return self._topics.get(name) or TopicState(0)

    def registry(self) -> LoggedRegistry | None:
        """The newest that is logged."""
        with self._said():
            row = self._db.execute("SELECT idx, version, sha256 FROM registry ORDER BY idx DESC LIMIT 1").fetchone()
        return None if row is None else LoggedRegistry(*row)

    def registry_before(self, index: int) -> LoggedRegistry | None:
        """The last that is logged before this entry: the one in force there; None where the ledger had none yet."""
        with self._said():
            row = self._db.execute(
                "SELECT idx, version, sha256 FROM registry WHERE idx < ? ORDER BY idx DESC LIMIT 1", (index,)
            ).fetchone()
        return None if row is None else LoggedRegistry(*row)

    def erasing(self) -> list[Commanded]:
        """Every erasure that is commanded and not called done, by topic and offset. Raises LogError."""
        with self._said():
            rows: list[Any] = self._db.execute(
                "SELECT topic, offset, l1 FROM erasing ORDER BY topic, offset"
            ).fetchall()
        return [Commanded(*row) for row in rows]

    def recipients(self, idents: Sequence[str]) -> dict[str, str]:
        """Ident -> the mailbox's owner, `bi/k7t4`, of the event that has it, as far as that was learned."""
        found: dict[str, str] = {}
        with self._said():
            for ident in idents:
                row = self._db.execute(
                    "SELECT name FROM event JOIN topic ON topic.id = event.topic WHERE ident = ?", (_short(ident),)
                ).fetchone()
                if row is not None:
                    domain, _, owner = str(row[0]).split(".", 2)
                    found[ident] = f"{domain}/{owner}"
        return found

    def places(self, idents: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Ident -> mailbox topic and offset of the event that has it, as far as that was learned. Raises LogError."""
        found: dict[str, tuple[str, int]] = {}
        asked = "SELECT name, offset FROM event JOIN topic ON topic.id = event.topic WHERE ident = ?"
        with self._said():
            for ident in idents:
                row = self._db.execute(asked, (_short(ident),)).fetchone()
                if row is not None:
                    found[ident] = (str(row[0]), int(row[1]))
        return found

    def known(self, l1: Sequence[bytes]) -> set[bytes]:
        """Those of these `header.payload` hashes that an event or erasure has."""
        found: set[bytes] = set()
        with self._said():
            for start in range(0, len(l1), 500):
                some = l1[start : start + 500]
                marks = ",".join("?" * len(some))
                found |= {
                    row[0] for row in self._db.execute(f"SELECT l1 FROM said WHERE good AND l1 IN ({marks})", some)
                }
        return found

    def indexes_of(self, l1: bytes) -> list[int]:
        """Indexes of all entries with this `header.payload` hash, ascending."""
        with self._said():
            return [row[0] for row in self._db.execute("SELECT idx FROM said WHERE l1 = ? ORDER BY idx", (l1,))]

    def others(self, idents: Sequence[str]) -> dict[str, bytes]:
        """Ident -> `header.payload` hash of the event that has it, as far as that was learned."""
        short = {_short(ident): ident for ident in idents}
        asked = list(short)
        found: dict[str, bytes] = {}
        with self._said():
            for start in range(0, len(asked), 500):
                some = asked[start : start + 500]
                marks = ",".join("?" * len(some))
                rows = self._db.execute(f"SELECT ident, l1 FROM event WHERE ident IN ({marks})", some)
                found |= {short[ident]: l1 for ident, l1 in rows}
        return found

    def heard_of(self, agency: str) -> int:
        """The log's time (milliseconds) of the youngest record that this agency is known to have read; 0: of none."""
        with self._said():
            row = self._db.execute("SELECT at_ms FROM reader WHERE agency = ?", (agency,)).fetchone()
        return 0 if row is None else int(row[0])

    def entry(self, index: int) -> bytes:
        """Raises IndexError: no such entry."""
        return self._bundle(index // TILE_WIDTH)[index % TILE_WIDTH]

    def entries(self, first: int = 0) -> Iterator[bytes]:
        """From there to the last one, in order, a bundle at a time. Raises LogError."""
        n, skipped = divmod(first, TILE_WIDTH)
        while bundle := self._bundle(n):
            yield from bundle[skipped:]
            n, skipped = n + 1, 0

    def _bundle(self, n: int) -> list[bytes]:
        with self._said():
            row = self._db.execute("SELECT data FROM bundle WHERE n = ?", (n,)).fetchone()
        return [] if row is None else _unpacked(row[0])

    def served(self, tile: TileId) -> bytes | None:
        """A tile or a bundle as C2SP tlog-tiles serves it; None when it is not there, or not that wide yet."""
        with self._said():
            data = b"" if tile.level is None else self._data(tile.level, tile.index)
        if tile.level is None:
            entries = self._bundle(tile.index)
            return pack_entries(entries[: tile.width]) if len(entries) >= tile.width else None
        return data[: tile.width * HASH_BYTES] if len(data) >= tile.width * HASH_BYTES else None

    def nodes(self, size: int) -> NodeReader:
        """For proofs in the tree of the first `size` entries (`topics.proofs`)."""

        def fetch(tile: TileId) -> bytes:
            data = self.served(tile)
            if data is None:
                raise LogError("root_mismatch", "tile")
            return data

        return node_of_tiles(size, fetch)

    def root_at(self, size: int) -> bytes:
        """Root of the first `size` entries. Raises LogError `root_mismatch`: there are not so many."""
        return tree_root(self.nodes(size), size)

    def _data(self, level: int, n: int) -> bytes:
        row = self._db.execute("SELECT data FROM tile WHERE level = ? AND n = ?", (level, n)).fetchone()
        return b"" if row is None else bytes(row[0])

    # -----------------------------------------------------------------------------------------------------------------
    # Taking in

    def take(self, position: int, value: bytes, own: Applied | None = None) -> bool:
        """Take in what stands at this position of the store, the next one behind `position`; returns whether it was
        effective and is new here. False too when another process has taken something in meanwhile: read on.

        Args:
            own: what the sequencer had appended; used when these are its bytes.

        Raises LogError `unavailable`, `storage_full` (path `view`); then nothing of it is taken in.
        """
        first = self.tree.size
        try:
            batch = decode_batch(value)
            follows = batch.first_index == first and batch.previous_root == self.tree.root()
            entries = [decode_entry(entry) for entry in batch.entries] if follows else []
        except LogError:
            follows = False
        mine = own if follows and own is not None and own.value == value else None
        tree = self.tree
        topics = {name: _copy(state) for name, state in self._topics.items()}
        try:
            with self._said(), transaction(self._db):
                if self._db.execute("SELECT position FROM state").get != self.position:
                    raise _AnotherWriterError
                if follows:
                    tree = mine.tree if mine is not None else self._with(batch.entries)
                    self._put(topics, tree, first, batch.entries, entries)
                    if mine is not None:
                        self._put_learned(topics, mine.learned)
                    self._put_topics(topics)
                self._db.execute(
                    "UPDATE state SET position = ?, size = ?, root = ?", (position, tree.size, tree.root())
                )
        except _AnotherWriterError:
            self.refresh()
            return False
        self.tree, self.position, self._topics = tree, position, topics
        return follows

    def _with(self, entries: Iterable[bytes]) -> GrowingTree:
        tree = GrowingTree.resume(self.tree.size, self.tree.edge)
        for entry in entries:
            tree.append(leaf_hash(entry))
        return tree

    def _put(
        self,
        topics: dict[str, TopicState],
        tree: GrowingTree,
        first: int,
        encoded: Sequence[bytes],
        entries: Sequence[LedgerEntry],
    ) -> None:
        self._put_tiles(tree)
        self._put_bundles(first, encoded)
        said = []
        for index, one in enumerate(entries, first):
            self._advance(topics, index, one)
            if one.l1_sha256 is not None:
                said.append((one.l1_sha256, index, one.kind in GOOD_KINDS))
        self._db.executemany("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", said)

    def _put_tiles(self, tree: GrowingTree) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO tile VALUES (?, ?, ?)",
            [(tile.id.level, tile.id.index, tile.data) for tile in tree.take()],
        )

    def _put_bundles(self, first: int, entries: Sequence[bytes]) -> None:
        n, over = divmod(first, TILE_WIDTH)
        held: list[bytes] = []
        if over:
            held = _unpacked(self._db.execute("SELECT data FROM bundle WHERE n = ?", (n,)).get)[:over]
        held += entries
        rows = [
            (n + at // TILE_WIDTH, pack_entries(held[at : at + TILE_WIDTH])) for at in range(0, len(held), TILE_WIDTH)
        ]
        self._db.executemany("INSERT OR REPLACE INTO bundle VALUES (?, ?)", rows)

    def _advance(self, topics: dict[str, TopicState], index: int, entry: LedgerEntry) -> None:
        if entry.kind == "registry":
            row = (index, entry.number, entry.value_sha256)
            self._db.execute("INSERT OR REPLACE INTO registry VALUES (?, ?, ?)", row)
            return
        if entry.kind in ("erasure", "erased"):
            place = (entry.topic, entry.offset)
            self._db.execute("DELETE FROM erasing WHERE topic = ? AND offset = ?", place)
            if entry.kind == "erased":
                return
            self._db.execute("INSERT INTO erasing VALUES (?, ?, ?)", (*place, entry.l1_sha256))
        state = self._state_in(topics, entry.topic or "")
        if entry.kind == "retention":
            state.start = max(state.start, entry.number)
        elif entry.kind == "gap":
            state.next = max(state.next, entry.number + 1)
        elif entry.kind in RECORD_KINDS and entry.offset is not None:
            state.next = max(state.next, entry.offset + 1)
            state.last = entry.offset

    def _state_in(self, topics: dict[str, TopicState], name: str) -> TopicState:
        state = topics.get(name)
        if state is None:
            self._db.execute("INSERT OR IGNORE INTO topic (name) VALUES (?)", (name,))
            state = topics[name] = TopicState(self._db.execute("SELECT id FROM topic WHERE name = ?", (name,)).get)
        return state

    def learn(self, upto: dict[str, int], found: Iterable[Learned]) -> None:
        """What records say that are in the tree already. `upto`: topic -> the offset before which all is learned now.

        Raises LogError as `take`.
        """
        topics = {name: _copy(state) for name, state in self._topics.items()}
        with self._said(), transaction(self._db):
            self._put_learned(topics, found)
            for name, offset in upto.items():
                state = self._state_in(topics, name)
                state.learned = max(state.learned, offset)
            self._put_topics(topics)
        self._topics = topics

    def _put_learned(self, topics: dict[str, TopicState], found: Iterable[Learned]) -> None:
        for one in found:
            state = self._state_in(topics, one.topic)
            ident = _short(one.ident)
            self._db.execute(
                "INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?)",
                (ident, one.l1_sha256, state.id, one.offset, one.at_ms),
            )
            for row in self._db.execute("DELETE FROM answered WHERE ident = ? RETURNING iss", (ident,)).fetchall():
                self._answered(topics, str(row[0]), ident)
            if one.answers is not None:
                self._answered(topics, one.iss, _short(one.answers))
        for name, state in topics.items():
            if state.learned >= self.topic(name).next:
                state.learned = state.next  # nothing that stood before was left to learn

    def _answered(self, topics: dict[str, TopicState], iss: str, target: bytes) -> None:
        """`iss` has named this event: if it stands in its own mailbox, it has read it."""
        row = self._db.execute(
            "SELECT topic.name, offset, at_ms FROM event JOIN topic ON topic.id = event.topic WHERE ident = ?",
            (target,),
        ).fetchone()
        if row is None:
            self._db.execute("INSERT OR IGNORE INTO answered VALUES (?, ?)", (target, iss))
            return
        name, offset, at_ms = row
        domain, _, owner = name.split(".", 2)
        if f"{domain}/{owner}" == iss:
            state = self._state_in(topics, name)
            state.read_to = max(state.read_to, offset)
            self._db.execute(
                """INSERT INTO reader VALUES (?, ?)
                   ON CONFLICT (agency) DO UPDATE SET at_ms = max(at_ms, excluded.at_ms)""",
                (iss, at_ms),
            )

    def _put_topics(self, topics: dict[str, TopicState]) -> None:
        changed = [(name, state) for name, state in topics.items() if self._topics.get(name) != state]
        self._db.executemany(
            "UPDATE topic SET next = ?, last = ?, start = ?, learned = ?, read_to = ? WHERE name = ?",
            [(s.next, s.last, s.start, s.learned, s.read_to, name) for name, s in changed],
        )

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise LogError(code_of(error, self._db), "view") from error


class _OtherLedgerError(Exception):
    pass


class _AnotherWriterError(Exception):
    pass


def _copy(state: TopicState) -> TopicState:
    return TopicState(state.id, state.next, state.last, state.start, state.learned, state.read_to)


def _short(ident: str) -> bytes:
    """128 bits of an ident's hash: whoever finds two alike has two conflicting events of its own, no more."""
    return hashlib.sha256(ident.encode("utf-8")).digest()[:16]


def _unpacked(data: Any) -> list[bytes]:
    """A bundle, however full it is."""
    data, count, at = bytes(data), 0, 0
    while at < len(data):
        at += 2 + int.from_bytes(data[at : at + 2], "big")
        count += 1
    return unpack_entries(data, count)
