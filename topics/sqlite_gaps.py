# SPDX-License-Identifier: Apache-2.0
"""What `secure_delete` does not reach: copies of rows in pages' unallocated space.

SQLite overwrites what it deletes. When it moves a row to another page of the same tree, it leaves the old copy where it
was, in the gap between the page's cell pointers and its cells; deleting the row later does not reach that copy. Here it
is found (`stands`), and `renew` writes the tables of grants anew: the pages of the old ones are overwritten when they
are freed. Must never put what it looks for into an error.

Source: SQLite, fileformat2.html, section 1.6 (b-tree pages); btree.c, rebuildPage.
"""

from __future__ import annotations

from collections.abc import Iterable

import apsw
import orjson

_BLOCK = 96
"""Of a grant's value; longer than what the values of two grants have in common. No part of a grant that could be opened
is shorter than two of them."""
_MANY = 200
"""Traces; writing the grants anew is sooner done than looking for more."""
_TABLES = {0x02: 12, 0x05: 12, 0x0A: 8, 0x0D: 8}  # kind of b-tree page: length of its header

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
    for number in pages:
        page = file.xRead(size, (number - 1) * size)
        header = _TABLES.get(page[0], 0) if page else 0
        cells, start = int.from_bytes(page[3:5]), int.from_bytes(page[5:7]) or 1 << 16
        gap = page[header + 2 * cells : start].strip(b"\0")
        if gap and any(trace in gap for trace in traces):
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
