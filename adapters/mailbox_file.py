# SPDX-License-Identifier: Apache-2.0
"""The file of a mailbox: one SQLite database, opened as an adapter needs it; transactions, and errors that are ours.

Purpose: what `adapters.mailbox` and its parts have in common, without a word on what the rows mean.
Invariants: a transaction is durable when it ends (WAL, synchronous=FULL), what is deleted is overwritten
(secure_delete=ON), the file is readable by its owner alone from the first moment on. SQLite comes with apsw: the
system's may be one that loses committed WAL writes (older than 3.51.3), which is refused.
Must never: let an error of SQLite's out that says a value.

If we crash here: inside a transaction nothing happened; opening again finds the file as the last commit left it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from adapters.mailbox_rows import MIGRATIONS
from schemas.errors import LogError
from topics.sqlite_transaction import plan_once

_OLDEST_SQLITE = (3, 51, 3)


class MailboxFile:
    """See the module's docstring. Not safe for threads; several processes may open the same file."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._depth = 0

    @classmethod
    def open(cls, path: str | Path, *, vfs: str | None = None, exclusive: bool = False) -> MailboxFile:
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
            plan_once(db)
            db.set_busy_timeout(10_000)
            if exclusive:
                db.pragma("locking_mode", "exclusive")
            db.pragma("journal_mode", "wal")
            db.pragma("synchronous", "full")
            db.pragma("secure_delete", True)
            db.pragma("foreign_keys", True)
            file = cls(db)
            with file.transaction():
                version = db.pragma("user_version")
                if version > len(MIGRATIONS):
                    raise LogError("unavailable", "mailbox.version", expected=len(MIGRATIONS))
                for script in MIGRATIONS[version:]:
                    db.execute(script)
                db.pragma("user_version", len(MIGRATIONS))
        return file

    def close(self) -> None:
        """Idempotent."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
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

    def rows(self, sql: str, *binds: Any) -> list[tuple[Any, ...]]:
        """What a question answers, all of it."""
        try:
            return list(self._db.execute(sql, binds))
        except apsw.Error as cause:
            raise _translation(cause) from None

    def row(self, sql: str, *binds: Any) -> tuple[Any, ...] | None:
        """Its first row; None where there is none."""
        rows = self.rows(sql, *binds)
        return rows[0] if rows else None

    def run(self, sql: str, *binds: Any) -> int:
        """One statement, durable with the surrounding transaction, else at once. Returns how many rows it changed."""
        if not self._depth:
            with self.transaction():
                return self.run(sql, *binds)
        try:
            self._db.execute(sql, binds)
        except apsw.Error as cause:
            raise _translation(cause) from None
        return self._db.changes()

    def scrub(self) -> bool:
        """What was deleted leaves the file beside the database too. False: another program reads just now, try again.

        Rows are overwritten when they are deleted (`secure_delete`); the write-ahead log keeps old pages until then.
        """
        if self._depth:
            return False
        busy, _, _ = self.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0]
        return not busy


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
