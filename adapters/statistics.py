# SPDX-License-Identifier: Apache-2.0
"""National statistics by half-year, made from the agencies' counts so that they single nobody out. No I/O.

    submissions -> the latest of each agency -> one table per HTCDS field -> small places pooled -> cells hidden
                -> earlier periods again, where corrections may be shown -> Release

Invariants
- Nothing below province: a place is what a submission names, and those with fewer than k persons are one row.
- A period that was released is never computed again: releasing it twice gives the same. What was corrected since is
  shown in a later period's release only, in the same rows and columns and with the same cells hidden, and only if
  every figure moved by 0 or by at least k and all versions together still hide (`adapters.suppression.holds`).
- A hidden figure is None, never 0. All tables of persons have the same totals: who is not counted in a field stands
  under `NOT_STATED`, a column like the others, so that two tables' totals do not show her either.

Must never: count persons across agencies as if they were told apart. Pseudonyms are per pair on purpose, so a person
known to two agencies that both submit is counted twice; who submits what is the commission's to say.

k = 11 is common for tables on trafficking (CTDC); to be confirmed by the commission.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from adapters.suppression import Grid, Place, UnsafeError, holds, protect
from schemas import htcds
from schemas.errors import PayloadError
from schemas.forms import Form, validated

K = 11
COUNTED = ("persons-identified", "persons-assisted", "cases-opened")
"""What is counted, in the order of the tables; its words stand in `schemas.page_words`."""
NOT_STATED = "*"
"""Column of the persons for whom the field is not known."""
ALL = "+"
"""The only column of a table whose codes cannot be shown apart."""
MAX_COUNT = 10_000_000
_PERIOD = re.compile(r"20[0-9]{2}-H[12]")
_Rows = tuple[tuple[str, ...], ...]
_Number = Annotated[int, Field(ge=0, le=1 << 40)]
_Period = Annotated[str, StringConstraints(pattern=r"^20[0-9]{2}-H[12]$")]
_ONE = ("code", "country", "boolean", "language")
_SEVERAL = ("codes", "countries", "languages")


class _TableFile(Form):
    period: _Period
    counted: str
    field: str
    rows: tuple[tuple[str, ...], ...] = Field(min_length=1)
    columns: tuple[str, ...] = Field(min_length=1)
    cells: tuple[tuple[_Number, ...], ...]
    persons: tuple[_Number, ...]
    hidden: tuple[tuple[int, int], ...]
    revised: bool


class _ReleaseFile(Form):
    version: Literal[1]
    period: _Period
    k: int = Field(ge=2)
    sources: dict[str, tuple[str, ...]]
    tables: tuple[_TableFile, ...]


def is_period(text: str) -> bool:
    """A half-year, `2026-H1`."""
    return _PERIOD.fullmatch(text) is not None


def period_of(day: date) -> str:
    """The half-year of a day."""
    return f"{day.year}-H{1 if day.month <= 6 else 2}"


@cache
def counted_fields() -> tuple[str, ...]:
    """HTCDS fields that may be counted: coded ones about persons that name nobody, in the standard's order."""
    return tuple(
        each.name
        for each in htcds.FIELDS.values()
        if each.kind in (*_ONE, *_SEVERAL)
        and not each.identity
        and each.status != "DEPRECATED"
        and not each.name.startswith(("org_", "con_"))
    )


@dataclass(frozen=True, slots=True)
class Submission:
    """What one agency counted in one place in one half-year."""

    agency: str
    period: str
    place: str
    """Province code; or the country's, where the province is not told."""
    counted: str
    """What was counted, one of `COUNTED`: tables of different things are never added up."""
    at: datetime
    """When it was made; a later one of the same agency, period, place and thing takes its place."""
    persons: int
    """All who were counted."""
    counts: Mapping[tuple[str, str], int]
    """(HTCDS field, code) -> persons."""


def check(submission: Submission) -> None:
    """Raises PayloadError `payload_invalid`: a period, field, code or number that cannot be; the path has no value."""
    if not is_period(submission.period):
        raise PayloadError("payload_invalid", path="period")
    if submission.counted not in COUNTED:
        raise PayloadError("payload_invalid", path="counted")
    if not 0 <= submission.persons <= MAX_COUNT:
        raise PayloadError("payload_invalid", path="persons")
    fields = counted_fields()
    answered: dict[str, int] = {}
    for index, ((field, code), number) in enumerate(submission.counts.items()):
        if field not in fields:
            raise PayloadError("payload_invalid", path=f"counts[{index}].field")
        if code not in _codes(field):
            raise PayloadError("payload_invalid", path=f"counts[{index}].code")
        if not 0 <= number <= submission.persons:
            raise PayloadError("payload_invalid", path=f"counts[{index}].count")
        if htcds.FIELDS[field].kind in _ONE:
            answered[field] = answered.get(field, 0) + number
    if any(number > submission.persons for number in answered.values()):
        raise PayloadError("payload_invalid", path="counts")


@cache
def _codes(field: str) -> tuple[str, ...]:
    return tuple(code for code, _ in htcds.options(field, "en"))


def _rank(submission: Submission) -> tuple[Any, ...]:
    return submission.at, submission.persons, sorted(submission.counts.items())


def latest(submissions: Iterable[Submission]) -> tuple[Submission, ...]:
    """Of each agency, period, place and thing counted the last one; of two of one moment the one that says more.

    So the order in which they are read does not matter.
    """
    kept: dict[tuple[str, ...], Submission] = {}
    for each in submissions:
        key = (each.agency, each.period, each.place, each.counted)
        before = kept.get(key)
        if before is None or _rank(before) < _rank(each):
            kept[key] = each
    return tuple(kept[key] for key in sorted(kept))


@dataclass(frozen=True, slots=True)
class Table:
    """One HTCDS field by place. The figures are the commission's own; others see what `shown` gives."""

    period: str
    counted: str
    field: str
    rows: tuple[tuple[str, ...], ...]
    """Places of each row: one, or several that are too small to stand alone. A single row is the country."""
    columns: tuple[str, ...]
    """Codes; `NOT_STATED` last where there is one."""
    cells: tuple[tuple[int, ...], ...]
    persons: tuple[int, ...]
    """Of each row; always shown."""
    hidden: frozenset[Place]
    revised: bool = False
    """It replaces what an earlier release said of this period."""

    @property
    def several(self) -> bool:
        """Whether one person may be counted in several columns; else in exactly one."""
        return htcds.FIELDS[self.field].kind in _SEVERAL and self.columns != (ALL,)

    def blocks(self) -> tuple[tuple[Grid, frozenset[Place]], ...]:
        """The table as grids in which everybody stands once, and what is hidden in them: itself; or where one person
        may be in several columns, for each column those in it beside all the others of the row."""
        if not self.several:
            return ((Grid(self.cells), self.hidden),)
        found = []
        for j in range(len(self.columns)):
            grid = Grid(tuple((row[j], people - row[j]) for row, people in zip(self.cells, self.persons, strict=True)))
            found.append((grid, frozenset((i, side) for i, column in self.hidden if column == j for side in (0, 1))))
        return tuple(found)

    def shown(self, row: int, column: int) -> int | None:
        """The figure for everybody; None: not shown. Behind the last row is the sum of the rows, behind the last column
        the number of persons. Raises IndexError: there is no such figure."""
        if (row, column) in self.hidden:
            return None
        whole = [*self.cells, tuple(map(sum, zip(*self.cells, strict=True)))]
        return (*whole[row], [*self.persons, sum(self.persons)][row])[column]


def protected(table: Table, k: int) -> Table:
    """The table with what must be hidden hidden. Raises UnsafeError."""
    hidden: set[Place] = set()
    for j, (grid, _) in enumerate(table.blocks()):
        found = protect(grid, k)
        hidden |= {(i, j) for i, side in found if side == 0} if table.several else found
    return replace(table, hidden=frozenset(hidden))


@dataclass(frozen=True, slots=True)
class Release:
    """Everything that is published at once, and what the next release has to know."""

    period: str
    k: int
    tables: tuple[Table, ...]
    """Of the period, then revised ones of earlier periods."""
    sources: Mapping[str, tuple[str, ...]]
    """Period -> agencies whose counts were in."""


def rows_of(persons: Mapping[str, int], k: int) -> tuple[tuple[str, ...], ...]:
    """The places as rows: those with 1 to k-1 persons together in one, with the smallest others until it has k.

    Empty when all persons together are fewer than k, and there are some.
    """
    pool = [place for place, count in persons.items() if 0 < count < k]
    alone = sorted((place for place, count in persons.items() if count >= k), key=lambda one: (persons[one], one))
    while pool and sum(persons[place] for place in pool) < k:
        if not alone:
            return ()
        pool.append(alone.pop(0))
    rows = [(place,) for place in sorted([*alone, *(place for place, count in persons.items() if not count)])]
    return (*rows, tuple(sorted(pool))) if pool else tuple(rows)


class _Sums:
    """The counts of one thing in one period, summed over agencies."""

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self.counts: dict[tuple[str, str, str], int] = {}
        for each in submissions:
            for (field, code), number in each.counts.items():
                key = (field, each.place, code)
                self.counts[key] = self.counts.get(key, 0) + number
        self.places = sorted({each.place for each in submissions})
        self.fields = [name for name in counted_fields() if any(key[0] == name for key in self.counts)]
        self.persons = dict.fromkeys(self.places, 0)
        for each in submissions:
            self.persons[each.place] += each.persons

    def of(self, field: str, places: Iterable[str], code: str) -> int:
        if code == ALL:
            return sum(self.persons[place] for place in places)
        if code == NOT_STATED:
            stated = sum(self.of(field, places, each) for each in _codes(field))
            return sum(self.persons[place] for place in places) - stated
        return sum(self.counts.get((field, place, code), 0) for place in places)

    def columns(self, field: str) -> tuple[str, ...]:
        codes = _codes(field)
        if htcds.FIELDS[field].codelist is None:  # countries: those that somebody is from, not two hundred
            codes = tuple(code for code in codes if self.of(field, self.places, code))
        unknown = htcds.FIELDS[field].kind in _ONE and any(self.of(field, [one], NOT_STATED) for one in self.places)
        return (*codes, NOT_STATED) if unknown else codes

    def table(self, period: str, counted: str, field: str, rows: _Rows, columns: tuple[str, ...]) -> Table:
        """Nothing hidden yet."""
        cells = tuple(tuple(self.of(field, places, code) for code in columns) for places in rows)
        persons = tuple(self.of(field, places, ALL) for places in rows)
        return Table(period, counted, field, rows, columns, cells, persons, frozenset())


def _table(sums: _Sums, period: str, counted: str, field: str, rows: _Rows, k: int) -> Table:
    """By place; else for the country; else of the country only the columns that can be shown; else the persons."""
    columns = sums.columns(field)
    whole = (tuple(sums.places),)
    for places in (rows, whole):
        try:
            return protected(sums.table(period, counted, field, places, columns), k)
        except UnsafeError:
            continue
    bare = sums.table(period, counted, field, whole, columns)
    if bare.several:
        columns = tuple(code for code in columns if _safe(sums.table(period, counted, field, whole, (code,)), k))
        if columns:
            return protected(sums.table(period, counted, field, whole, columns), k)
    return sums.table(period, counted, field, whole, (ALL,))


def _safe(table: Table, k: int) -> bool:
    try:
        protected(table, k)
    except UnsafeError:
        return False
    return True


def tables(submissions: Sequence[Submission], period: str, k: int) -> tuple[Table, ...]:
    """What may be shown of one period that was never released. Empty where there are fewer than k persons."""
    found: list[Table] = []
    now = latest(submissions)
    for counted in COUNTED:
        sums = _Sums([each for each in now if (each.period, each.counted) == (period, counted)])
        if any(sums.persons.values()) and (rows := rows_of(sums.persons, k)):
            found += [_table(sums, period, counted, field, rows, k) for field in sums.fields]
    return tuple(found)


def _revised(sums: _Sums, versions: Sequence[Table], k: int) -> Table | None:
    """The table as it is now, if that may be shown beside its earlier versions; None: not now, or nothing to say."""
    last = versions[-1]
    places = {place for row in last.rows for place in row}
    if set(sums.places) - places:
        return None
    sums.persons.update({place: 0 for place in places if place not in sums.persons})
    if last.columns != (ALL,) and not last.several and _outside(sums, last):
        return None
    now = replace(
        sums.table(last.period, last.counted, last.field, last.rows, last.columns), hidden=last.hidden, revised=True
    )
    if (now.cells, now.persons) == (last.cells, last.persons):
        return None
    for each in zip(*(table.blocks() for table in (*versions, now)), strict=True):
        grids = [grid for grid, _ in each]
        after = grids[-1].values
        if any(0 < abs(after[place] - count) < k for grid in grids[:-1] for place, count in grid.values.items()):
            return None
        if not holds(grids, each[0][1], k):
            return None
    return now


def _outside(sums: _Sums, table: Table) -> bool:
    """Whether somebody is counted now whom none of the table's columns has."""
    return any(
        sum(sums.of(table.field, row, code) for code in table.columns) != sum(sums.persons[place] for place in row)
        for row in table.rows
    )


def release(period: str, submissions: Sequence[Submission], earlier: Sequence[Release], k: int = K) -> Release:
    """What is published for a period, with the corrections of earlier ones that may be shown now.

    A period that is among `earlier` comes back as it was.

    Args:
        submissions: all of them, of every period; corrected ones beside what they correct.
        earlier: every release before, in any order.
        k: at least 2; a period keeps the largest k that it was released with.
    """
    for one in earlier:
        if one.period == period:
            return one
    now = latest(submissions)
    found = list(tables(now, period, k))
    sources = {period: _agencies(now, period)}
    versions: dict[tuple[str, str, str], list[Table]] = {}
    strictest: dict[str, int] = {}
    known: dict[str, set[str]] = {}
    for one in sorted(earlier, key=lambda each: each.period):
        for table in one.tables:
            versions.setdefault((table.period, table.counted, table.field), []).append(table)
            strictest[table.period] = max(k, one.k, strictest.get(table.period, k))
        for name, agencies in one.sources.items():
            known.setdefault(name, set()).update(agencies)
    for (name, counted, _field), told in versions.items():
        agencies = _agencies(now, name)
        if name < period and known.get(name, set()) <= set(agencies):  # else something is missing, not corrected
            sums = _Sums([each for each in now if (each.period, each.counted) == (name, counted)])
            again = _revised(sums, told, strictest[name])
            if again is not None:
                found.append(again)
                sources[name] = agencies
    return Release(period, k, tuple(found), sources)


def _agencies(submissions: Sequence[Submission], period: str) -> tuple[str, ...]:
    return tuple(sorted({each.agency for each in submissions if each.period == period}))


def dumps(found: Release) -> dict[str, Any]:
    """The release file: with all figures, for the commission only."""
    return {
        "version": 1,
        "period": found.period,
        "k": found.k,
        "sources": {name: list(agencies) for name, agencies in found.sources.items()},
        "tables": [
            {
                "period": table.period,
                "counted": table.counted,
                "field": table.field,
                "rows": [list(row) for row in table.rows],
                "columns": list(table.columns),
                "cells": [list(row) for row in table.cells],
                "persons": list(table.persons),
                "hidden": sorted(list(place) for place in table.hidden),
                "revised": table.revised,
            }
            for table in found.tables
        ],
    }


def loads(raw: Mapping[str, Any]) -> Release:
    """The reverse of `dumps`.

    Raises PayloadError `payload_invalid`: the file is none of ours, or contradicts itself.
    """
    read = validated(_ReleaseFile, raw, "release")
    found = []
    for index, each in enumerate(read.tables):
        table = Table(
            each.period,
            each.counted,
            each.field,
            each.rows,
            each.columns,
            each.cells,
            each.persons,
            frozenset(each.hidden),
            each.revised,
        )
        if each.field not in counted_fields() or not _whole(table):
            raise PayloadError("payload_invalid", path=f"release.tables[{index}]")
        found.append(table)
    return Release(read.period, read.k, tuple(found), read.sources)


def _whole(table: Table) -> bool:
    """Whether its parts are of one shape, and its figures can be true."""
    rows, columns = len(table.rows), len(table.columns)
    return (
        len(table.cells) == rows == len(table.persons)
        and all(len(row) == columns for row in table.cells)
        and all(0 <= i <= rows and 0 <= j < columns for i, j in table.hidden)
        and all(
            max(row) <= people if table.several else sum(row) == people
            for row, people in zip(table.cells, table.persons, strict=True)
        )
    )
