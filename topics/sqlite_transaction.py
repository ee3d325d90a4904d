# SPDX-License-Identifier: Apache-2.0
"""What our SQLite connections have in common: plans, transactions, and what errors mean for whoever has to mend them.

`with connection:` of apsw does not do: when the disk is full SQLite may have rolled back by itself, and apsw's own
rollback then fails with an error that hides the first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import apsw

from topics.durable_file import DISK_FULL, disk_code


def plan_once(connection: apsw.Connection) -> None:
    """A statement is planned when it is first prepared, and never again for other values.

    Without it SQLite plans anew whenever a bound LIMIT, or a value beside an index with a WHERE, is bound again: ten
    times the cost of a question that finds nothing. Source: SQLite, `SQLITE_DBCONFIG_ENABLE_QPSG`.
    """
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


@contextlib.contextmanager
def transaction(connection: apsw.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Committed when it ends; nothing of it is there when it raises, but for a failed COMMIT, which may be.

    Raises apsw.Error, the one that was the reason.
    """
    connection.execute(begin)  # when it fails there may be another's transaction, which is not ours to end
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            with contextlib.suppress(apsw.Error):  # SQLite may have rolled back by itself
                connection.execute("ROLLBACK")


def code_of(error: apsw.Error | OSError, connection: apsw.Connection | None) -> Literal["storage_full", "unavailable"]:
    """Which of our codes an error of the disk is. `connection`: where it came from, not closed since."""
    if isinstance(error, apsw.FullError):
        return "storage_full"
    if isinstance(error, OSError):
        return disk_code(error)
    # Delayed allocation shows a full disk at the sync, shared memory at its mapping: both as I/O errors.
    if isinstance(error, apsw.IOError | apsw.CantOpenError) and connection and connection.system_errno in DISK_FULL:
        return "storage_full"
    return "unavailable"
