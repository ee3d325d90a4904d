# SPDX-License-Identifier: Apache-2.0
"""What SQLite has committed and not yet brought into the database file: when, and how thoroughly, it is brought there.

SQLite would do so inside whichever commit makes the WAL long enough; here nobody waits for it who need not:

    copy_back     on a connection of its own, beside whoever appends
    checkpoint    in a writer's turn, the little that was appended meanwhile; then the WAL starts anew
    scrub         all of it, and the WAL cut to nothing: what was deleted must stand nowhere

Source: SQLite, `wal_checkpoint_v2`, and walformat.html (the locks).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

import apsw

from topics.sqlite_turn import Turn

PAGE_BYTES = 8192
"""Measured with 2.5 KB and 12 KB values, single and in hundreds: never far from the best of 4 to 64 KiB."""
CHECKPOINT_PAGES = (16 << 20) // PAGE_BYTES
SCRUB_S = 10.0
"""How long a scrub waits for readers, and for others that copy the WAL, in all."""
LOOK_AGAIN_S = 0.005
_HOLDING_TURN_MS = 1_000
"""How long it keeps writers out at a time while it waits for a reader."""


class Wal:
    """The WAL of one connection's database. Owned, and used by one thread at a time, as that connection.

    Args:
        path: the database; the WAL is `path-wal`.
        vfs: an SQLite VFS by name; None is the real disk.
        busy_ms: what the connection's busy timeout is otherwise.
    """

    def __init__(self, connection: apsw.Connection, path: str, vfs: str | None, turn: Turn, busy_ms: int) -> None:
        self._connection = connection
        self._path = f"{path}-wal"
        self._vfs = vfs
        self._turn = turn
        self._busy_ms = busy_ms
        self._pages = 0
        connection.pragma("journal_size_limit", 2 * CHECKPOINT_PAGES * PAGE_BYTES)
        connection.set_wal_hook(self._after_commit)  # replaces SQLite's own checkpoint inside the commit

    def _after_commit(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    @property
    def checkpoint_due(self) -> bool:
        return self._pages > CHECKPOINT_PAGES

    def copy_back(self) -> None:
        """Bring what the WAL holds by now into the database; no turn is taken. Failing it loses nothing."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def checkpoint(self) -> None:
        """As `copy_back`, in a writer's turn: where no reader and no other copier stands in the way it reaches the end,
        and the next commit starts the WAL anew. Where one does, the next commit finds it due again."""
        with self._turn:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._pages = 0

    def scrub(self, then: Callable[[], None]) -> bool:
        """Bring all of it into the database and cut the WAL to nothing, durably; then `then`, before anybody writes.
        Writers wait for a second at most before they wait for `then`.

        False: somebody reads from it, or another connection copies it. Try again after `LOOK_AGAIN_S`, for `SCRUB_S` in
        all; the turn is free meanwhile, so that writers get theirs. Raises apsw.Error, OSError: the disk refuses.
        """
        self._connection.set_busy_timeout(_HOLDING_TURN_MS)
        try:
            with self._turn:
                # SQLite waits for readers by itself, and not for another connection's checkpoint.
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._sync()
                then()
        except apsw.BusyError:
            return False
        finally:
            self._connection.set_busy_timeout(self._busy_ms)
        return True

    def _sync(self) -> None:
        """SQLite does not sync the truncation: a power cut would bring the old bytes back."""
        if self._vfs is None:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(self._path, os.O_RDWR)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        else:
            flags = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE
            wal = apsw.VFSFile(self._vfs, self._path, [flags, 0])
            try:
                wal.xSync(apsw.SQLITE_SYNC_NORMAL)
            finally:
                wal.xClose()
