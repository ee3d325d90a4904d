# SPDX-License-Identifier: Apache-2.0
"""The ledger's primary store: an ordered log of batches, the only place where the whole domain's order is recorded.

A batch (`topics.ledger_entries.Batch`) is *effective* iff it can be read with all its entries, its `first_index` is the
number of entries and its `previous_root` the root of all effective batches before it. Every reader ignores all others.
So two sequencers that write at once cannot fork the tree, however late what they wrote arrives: at most one batch
follows a tree, and whoever sees that it was another's takes that one over. No lock, lease or fencing token is needed.

What every driver promises (one contract suite runs against all):

- **Durable.** When `append` returns, the batch survives a power cut, if it is there at all.
- **Perhaps.** It may not be effective, or not be there; raising says as little. Who appends reads on and sees.
- **Order.** Everybody reads the same batches at the same positions, and none ever changes, moves or goes.

SQLite (here): a file of its own beside the domain's log. The comparison is made under BEGIN IMMEDIATE, so that only
effective batches are ever in it. Kafka (`topics.kafka_ledger`): topic `{domain}.ledger`, one partition, which never
expires; what does not follow stays there and is ignored. Everything blocks.

If we crash in `append`: the batch is there or not. It must never: change or remove a batch, or look into an entry.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import apsw

from schemas.errors import LogError
from topics.durable_file import sync_folder
from topics.ledger_entries import Batch
from topics.proofs import EMPTY_ROOT
from topics.sqlite_store import refuse_old_sqlite
from topics.sqlite_transaction import code_of, plan_once, transaction

_APPLICATION = 0x556D754C  # "UmuL": a log or a mailbox opened as a ledger by mistake is refused
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS batch (
    position INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,      -- entries with this batch
    root BLOB NOT NULL,         -- root with this batch, as its writer says: what the next one is compared with
    value BLOB NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """What stands in the store: not known to be effective, nor to be a batch."""

    position: int
    """Ascending, not dense."""
    value: bytes


class LedgerStore(Protocol):
    """See the module's docstring. One handle, used by one thread at a time."""

    @property
    def store_id(self) -> str:
        """Made with the store: another one is another history, and what was derived from the first is void."""

    def append(self, batch: Batch, root: bytes) -> None:
        """Append; durable when it returns.

        Args:
            root: of the tree with this batch.

        Raises LogError `unavailable`, `storage_full`, `not_permitted`, `too_large`: it may be there nevertheless.
        """

    def read(self, after: int, limit: int = 64) -> list[StoredBatch]:
        """Batches at positions > after (-1: from the first), ascending; [] at the end. Raises LogError."""

    def close(self) -> None:
        """Idempotent."""


class SqliteLedgerStore:
    """The store in one SQLite file (mode 0600, WAL, synchronous=FULL). Make it with `open`."""

    def __init__(self, connection: apsw.Connection, store_id: str) -> None:
        self._connection = connection
        self._store_id = store_id
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, path: Path, *, random_id: Callable[[], str], create: bool = True, vfs: str | None = None
    ) -> SqliteLedgerStore:
        """Open or make it.

        Args:
            vfs: an SQLite VFS by name, which then has no other connection; None is the real disk.

        Raises LogError `unavailable` (path `sqlite`: the library is too old; `file`: not there, or no ledger),
        `storage_full`.
        """
        refuse_old_sqlite(apsw.sqlite_lib_version())
        connection: apsw.Connection | None = None
        try:
            if create and vfs is None:
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
            connection = apsw.Connection(str(path), flags=flags, vfs=vfs)
            plan_once(connection)
            if vfs is not None:
                connection.pragma("locking_mode", "EXCLUSIVE")
            store = cls(connection, _prepared(connection, random_id, create))
            if vfs is None:
                sync_folder(path.parent)
            return store
        except (apsw.Error, OSError) as error:
            code = code_of(error, connection)
            if connection is not None:
                connection.close()
            raise LogError(code, "file") from error
        except LogError:
            if connection is not None:
                connection.close()
            raise

    @property
    def store_id(self) -> str:
        return self._store_id

    def append(self, batch: Batch, root: bytes) -> None:
        value = batch.encode()
        with self._said(), transaction(self._connection):
            last = self._connection.execute("SELECT size, root FROM batch ORDER BY position DESC LIMIT 1").fetchone()
            if (last or (0, EMPTY_ROOT)) == (batch.first_index, batch.previous_root):
                self._connection.execute(
                    "INSERT INTO batch (size, root, value) VALUES (?, ?, ?)",
                    (batch.first_index + len(batch.entries), root, value),
                )

    def read(self, after: int, limit: int = 64) -> list[StoredBatch]:
        with self._said():
            return [
                StoredBatch(*row)
                for row in self._connection.execute(
                    "SELECT position, value FROM batch WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
                )
            ]

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except apsw.ConnectionClosedError:
                raise LogError("log_closed") from None
            except apsw.Error as error:
                raise LogError(code_of(error, self._connection), "ledger") from error


def _prepared(connection: apsw.Connection, random_id: Callable[[], str], create: bool) -> str:
    connection.set_busy_timeout(10_000)
    connection.pragma("journal_mode", "WAL")
    connection.pragma("synchronous", "FULL")
    with transaction(connection):
        application = connection.pragma("application_id")
        made = connection.execute("SELECT count(*) FROM sqlite_schema").get
        if application != _APPLICATION and (made or not create):
            raise LogError("unavailable", "file")
        connection.execute(_SCHEMA)
        connection.pragma("application_id", _APPLICATION)
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('store_id', ?)", (random_id(),))
        return str(connection.execute("SELECT value FROM meta WHERE name = 'store_id'").get)
