# SPDX-License-Identifier: Apache-2.0
"""What `secure_delete` does not reach: copies of rows in pages' unallocated space.

SQLite overwrites what it deletes. When it moves a row to another page of the same tree, it leaves the old copy where it
was, in the gap between the page's cell pointers and its cells; deleting the row later does not reach that copy. Here it
is found (`stands`; `bytes_left` looks for keys in whole files), and `renew` writes the tables of grants anew: the pages
of the old ones are overwritten when they are freed. Must never put what it looks for into an error.

Source: SQLite, fileformat2.html, section 1.6 (b-tree pages); btree.c, rebuildPage.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import apsw
import orjson

_BLOCK = 96
"""Of a grant's value; longer than what the values of two grants have in common. No part of a grant that could be opened
is shorter than two of them."""
_MANY = 20_000
"""Traces, of more than a thousand grants: some megabytes of memory. Where there are more, the grants are written anew
unseen."""
_TABLES = {0x02: 12, 0x05: 12, 0x0A: 8, 0x0D: 8}  # kind of b-tree page: length of its header

_PIECE = 4 << 20
"""Bytes of a file that are looked through at a time."""

Traces = frozenset[bytes] | None
"""What the bytes of deleted rows are recognised by; None: too many rows to look for each."""
NO_TRACES: Traces = frozenset()


def traces_of(rows: Iterable[tuple[str, bytes]]) -> Traces:
    """Of grants, key and value."""
    found: set[bytes] = set()
    for key, value in rows:
        found.add(key.encode())
        found |= {value[at : at + _BLOCK] for at in range(0, max(len(value) - _BLOCK, 0) + 1, _BLOCK)}
        if len(found) > _MANY:
            return None
    return frozenset(found - {b""})


def both(one: Traces, other: Traces) -> Traces:
    """Traces of both."""
    together = None if one is None or other is None else one | other
    return None if together is None or len(together) > _MANY else together


def stands(connection: apsw.Connection, file: apsw.VFSFile, traces: Traces) -> bool:
    """Whether any of it stands in a gap of the grants' pages; with None for traces, whether there may be any.

    Args:
        file: the database, while the WAL is empty and nobody writes.

    A second per gigabyte of grants or two. Raises apsw.Error.
    """
    if not traces:
        return traces is None
    pages = orjson.loads(
        connection.execute(
            """SELECT json_group_array(pageno) FROM (
                   SELECT pageno FROM dbstat WHERE name = 'grant_value' AND pagetype <> 'overflow'
                   UNION ALL SELECT pageno FROM dbstat WHERE name = 'grant_key' AND pagetype <> 'overflow')"""
        ).get
    )
    size = connection.pragma("page_size")
    by_length: dict[int, set[bytes]] = {}
    for trace in traces:
        by_length.setdefault(len(trace), set()).add(trace)
    for number in pages:
        page = file.xRead(size, (number - 1) * size)
        header = _TABLES.get(page[0], 0) if page else 0
        cells, start = int.from_bytes(page[3:5]), int.from_bytes(page[5:7]) or 1 << 16
        gap = page[header + 2 * cells : start].strip(b"\0")
        # Few gaps hold anything; in one that does, what stands at each place is looked up.
        for length, some in by_length.items():
            if any(gap[at : at + length] in some for at in range(len(gap) - length + 1)):
                return True
    return False


def renew(connection: apsw.Connection) -> None:
    """Write the grants' table and its index anew, inside the caller's transaction; as long as writing all grants takes.

    Raises apsw.Error.
    """
    (made,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'grant_value'").fetchall()
    (index,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'grant_key'").fetchall()
    connection.execute("ALTER TABLE grant_value RENAME TO grant_old")
    connection.execute("DROP INDEX grant_key")
    connection.execute(str(made[0]))
    connection.execute("INSERT INTO grant_value (topic, key, value) SELECT topic, key, value FROM grant_old ORDER BY n")
    connection.execute("DROP TABLE grant_old")
    connection.execute(str(index[0]))


@contextlib.contextmanager
def opened(path: str, vfs: str | None, kind: int) -> Iterator[apsw.VFSFile]:
    """A file of SQLite's to read from, through SQLite's own layer: another descriptor of the database, closed, would
    take the locks of every connection in this process away (POSIX).

    Args:
        vfs: by name; None is the real disk.
        kind: apsw.SQLITE_OPEN_MAIN_DB or SQLITE_OPEN_WAL.

    Raises apsw.CantOpenError.
    """
    file = apsw.VFSFile(vfs or "", path, [kind | apsw.SQLITE_OPEN_READONLY, 0])
    try:
        yield file
    finally:
        file.xClose()


def bytes_left(path: str, vfs: str | None, idents: Sequence[str]) -> set[str]:
    """Those of these records of which the key of a grant stands anywhere in the database's file or its WAL, in use or
    not. Uses no connection. Raises apsw.CantOpenError (no database), apsw.IOError."""
    keys = {f"{ident}|".encode("ascii"): ident for ident in idents}
    left: set[str] = set()
    overlap = max(map(len, keys), default=1) - 1
    for suffix, kind in (("", apsw.SQLITE_OPEN_MAIN_DB), ("-wal", apsw.SQLITE_OPEN_WAL)):
        try:
            with opened(path + suffix, vfs, kind) as file:
                size, at, before = file.xFileSize(), 0, b""
                while at < size and keys:
                    read = file.xRead(min(_PIECE, size - at), at)
                    if not read:
                        break  # cut meanwhile, as the WAL is by a deletion
                    at += len(read)
                    piece = before + read
                    found = {key for key in keys if key in piece}
                    left |= {keys.pop(key) for key in found}
                    before = piece[-overlap:]
        except apsw.CantOpenError:
            if not suffix:
                raise
            # The last connection removed it.
    return left
