# SPDX-License-Identifier: Apache-2.0
"""What an attacker makes of the published tables: nothing about fewer than k persons.

The attacker here is not ours: it knows the published figures and totals as equations, and tries exact elimination for
every cell, every sum of cells and every difference between two releases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from adapters import statistics
from adapters.statistics import ALL, NOT_STATED, Release, Submission, Table, release, tables
from adapters.suppression import Grid, UnsafeError, holds, protect
from schemas.errors import PayloadError

K = 3
NOW = datetime(2026, 7, 15, tzinfo=UTC)
Unknown = tuple[int, int, int]
"""Version, row, column."""


# ---------------------------------------------------------------------------------------------------------------------
# The attacker


Seen = tuple[Grid, frozenset[tuple[int, int]]]
"""A table in which everybody stands once, and what of it is hidden."""


def equations(versions: Sequence[Seen]) -> tuple[list[Unknown], list[tuple[dict[Unknown, int], int]]]:
    """What is hidden, and each line of each table as an equation between hidden cells and a number."""
    unknown = [(v, *place) for v, (_, hidden) in enumerate(versions) for place in sorted(hidden)]
    found = []
    for v, (grid, hidden) in enumerate(versions):
        rows, columns = grid.shape
        lines = [[(i, j) for i in range(rows + 1)] for j in range(columns + 1)]
        lines += [[(i, j) for j in range(columns + 1)] for i in range(rows + 1)]
        for line in lines:
            left: dict[Unknown, int] = {}
            right = 0
            for place, sign in zip(line, [*([1] * (len(line) - 1)), -1], strict=True):
                if place in hidden:
                    left[v, *place] = sign
                else:
                    right -= sign * grid.values[place]
            if left:
                found.append((left, right))
    return unknown, found


class Elimination:
    """Rational Gauss-Jordan: what a linear combination of unknowns must be, if the equations determine it."""

    def __init__(self, unknown: Sequence[Unknown], lines: Iterable[tuple[Mapping[Unknown, int], int]]) -> None:
        self.unknown = list(unknown)
        self.rows: list[tuple[int, list[Fraction]]] = []
        for left, right in lines:
            row = self._reduced([*(Fraction(left.get(one, 0)) for one in self.unknown), Fraction(right)])
            pivot = next((at for at, value in enumerate(row[:-1]) if value), None)
            if pivot is not None:
                row = [value / row[pivot] for value in row]
                self.rows = [
                    (at, [a - other[pivot] * b for a, b in zip(other, row, strict=True)]) for at, other in self.rows
                ]
                self.rows.append((pivot, row))

    def _reduced(self, row: list[Fraction]) -> list[Fraction]:
        for pivot, known in self.rows:
            if row[pivot]:
                factor = row[pivot]
                row = [a - factor * b for a, b in zip(row, known, strict=True)]
        return row

    def value(self, wanted: Mapping[Unknown, int]) -> Fraction | None:
        row = self._reduced([*(Fraction(wanted.get(one, 0)) for one in self.unknown), Fraction(0)])
        return None if any(row[:-1]) else -row[-1]


def singled_out(versions: Sequence[Seen], k: int, most: int = 10) -> list[tuple[str, Fraction]]:
    """Every count below k that somebody can work out: of hidden cells together, of what moved between releases."""
    unknown, lines = equations(versions)
    solved = Elimination(unknown, lines)
    found: list[tuple[str, Fraction]] = []
    for v in range(len(versions)):
        mine = [one for one in unknown if one[0] == v]
        sizes = range(1, len(mine) + 1) if len(mine) <= most else (1, 2, len(mine))
        for size in sizes:
            for chosen in combinations(mine, size):
                value = solved.value(dict.fromkeys(chosen, 1))
                if value is not None and 0 < value < k:
                    found.append((f"sum in {v}", value))
    for before, after in combinations(range(len(versions)), 2):
        for place in versions[0][0].values:
            wanted: dict[Unknown, int] = {}
            known = 0
            for v, sign in ((after, 1), (before, -1)):
                grid, hidden = versions[v]
                if place in hidden:
                    wanted[v, *place] = sign
                else:
                    known += sign * grid.values[place]
            value = solved.value(wanted)
            if value is not None and 0 < abs(value + known) < k:
                found.append(("moved", value + known))
    return found


def possible(seen: Seen, place: tuple[int, int], count: int) -> bool:
    """By trying whole numbers of at least 1: whether a hidden cell can be `count`."""
    unknown, lines = equations([seen])
    most = sum(map(sum, seen[0].cells)) + count

    def settled(values: dict[Unknown, int]) -> bool:
        """What follows at once is put in; False: it cannot be."""
        again = True
        while again:
            again = False
            for left, right in lines:
                rest = [one for one in left if one not in values]
                gap = right - sum(sign * values[one] for one, sign in left.items() if one in values)
                if not rest and gap:
                    return False
                if len(rest) == 1:
                    values[rest[0]] = gap * left[rest[0]]
                    again = True
                    if values[rest[0]] < 1:
                        return False
        return True

    def tried(values: dict[Unknown, int]) -> bool:
        if not settled(values):
            return False
        rest = [one for one in unknown if one not in values]
        return not rest or any(tried({**values, rest[0]: value}) for value in range(1, most + 1))

    return tried({(0, *place): count})


def all_of(*tables_: Table) -> Iterable[list[Seen]]:
    """The versions of each part of a table, as everybody sees them."""
    return [list(each) for each in zip(*(table.blocks() for table in tables_), strict=True)]


COUNT = st.one_of(st.integers(0, 4), st.integers(0, 12))


@st.composite
def grids(draw: st.DrawFn, rows: int = 4, columns: int = 4) -> Grid:
    width = draw(st.integers(1, columns))
    cells = draw(st.lists(st.tuples(*[COUNT] * width), min_size=1, max_size=rows))
    return Grid(tuple(cells))


# ---------------------------------------------------------------------------------------------------------------------
# One table


@given(grids(), st.sampled_from((2, 3, 5)))
@settings(deadline=None)
def test_no_sum_of_hidden_cells_gives_a_small_count(grid: Grid, k: int) -> None:
    try:
        hidden = protect(grid, k)
    except UnsafeError:
        assume(False)
    assert singled_out([(grid, hidden)], k) == []


@given(grids(2, 3))
@settings(deadline=None, max_examples=40)
@example(Grid(((1, 3), (3, 1))))
@example(Grid(((1, 2), (2, 4))))
def test_whoever_tries_whole_numbers_finds_that_each_hidden_cell_may_be_k(grid: Grid) -> None:
    try:
        hidden = protect(grid, K)
    except UnsafeError:
        assume(False)
    assume(len(hidden) <= 8)
    for place in hidden:
        assert any(possible((grid, hidden), place, count) for count in range(K, K + 20))


@given(grids())
def test_small_counts_are_hidden_and_zeros_and_row_totals_never(grid: Grid) -> None:
    try:
        hidden = protect(grid, K)
    except UnsafeError:
        assume(False)
    for place, count in grid.values.items():
        if 0 < count < K:
            assert place in hidden
        if not count or place[1] == grid.shape[1]:
            assert place not in hidden


def test_a_lone_small_cell_takes_others_with_it() -> None:
    grid = Grid(((2, 9, 20), (15, 14, 30), (40, 12, 16)))
    hidden = protect(grid, 11)
    assert (0, 0) in hidden
    assert len(hidden) >= 4
    assert (3, 3) not in hidden


def test_primary_suppression_alone_would_be_found_out() -> None:
    """The attacker of these tests is one."""
    grid = Grid(((2, 9), (15, 14)))
    assert singled_out([(grid, frozenset({(0, 0)}))], K) == [("sum in 0", Fraction(2))]
    assert not holds([grid], {(0, 0)}, K)


# ---------------------------------------------------------------------------------------------------------------------
# Releases


SHORT = {"Actual": "ActualVictimOfTrafficking", "Possible": "PossibleVictimOfTrafficking"}


def submitted(
    agency: str = "bi/iom",
    place: str = "BI-GI",
    period: str = "2026-H1",
    day: int = 0,
    field: str = "vic_TraffickingStatus",
    persons: int | None = None,
    **counts: int,
) -> Submission:
    found = {(field, SHORT.get(code, code)): count for code, count in counts.items()}
    most = sum(counts.values()) if persons is None else persons
    return Submission(agency, period, place, "persons-assisted", NOW + timedelta(days=day), most, found)


def first_of(found: Release, field: str = "vic_TraffickingStatus") -> Table:
    return next(table for table in found.tables if table.field == field)


def test_places_with_few_persons_stand_together_in_one_row() -> None:
    given_counts = [
        submitted(place="BI-GI", Actual=40, Possible=30),
        submitted(place="BI-BR", Actual=2),
        submitted(place="BI-BU", Actual=12, Possible=14),
    ]
    table = first_of(release("2026-H1", given_counts, [], 11))
    assert table.rows == (("BI-GI",), ("BI-BR", "BI-BU"))
    assert table.shown(2, len(table.columns)) == 98


def test_persons_for_whom_a_field_is_unknown_are_a_column_so_that_totals_agree() -> None:
    given_counts = [
        submitted(Actual=40, Possible=30),
        submitted(place="BI-BR", Actual=50, Possible=20),
        submitted("bi/k7t4", field="cas_Status", persons=70, Active=66),
    ]
    found = release("2026-H1", given_counts, [], 11)
    totals = {table.shown(len(table.rows), len(table.columns)) for table in found.tables}
    assert totals == {210}
    assert first_of(found, "cas_Status").columns[-1] == NOT_STATED


def test_fewer_than_k_persons_in_the_country_give_no_table_at_all() -> None:
    assert release("2026-H1", [submitted(Actual=10)], [], 11).tables == ()


def test_a_country_whose_parts_cannot_hide_each_other_shows_its_total_only() -> None:
    table = first_of(release("2026-H1", [submitted(Actual=5, Possible=6)], [], 11))
    assert table.columns == (ALL,)
    assert table.shown(1, 1) == 11


def test_releasing_a_period_twice_gives_the_same_whatever_was_corrected_since() -> None:
    before = [submitted(Actual=40, Possible=30), submitted(place="BI-BR", Actual=50, Possible=20)]
    first = release("2026-H1", before, [], 11)
    after = [*before, submitted(day=9, Actual=39, Possible=31)]
    assert release("2026-H1", after, [first], 11) == first


def test_a_correction_of_one_person_stays_out_of_the_next_release_and_a_large_one_is_in_it() -> None:
    before = [submitted(Actual=40, Possible=30), submitted(place="BI-BR", Actual=50, Possible=20)]
    first = release("2026-H1", before, [], 11)
    new = submitted(period="2026-H2", Actual=70, Possible=80)
    one_person = release("2026-H2", [*before, new, submitted(day=9, Actual=39, Possible=31)], [first], 11)
    assert [table.period for table in one_person.tables] == ["2026-H2"]
    many = release("2026-H2", [*before, new, submitted(day=9, Actual=20, Possible=50)], [first], 11)
    revised = [table for table in many.tables if table.revised]
    assert [(table.period, table.shown(1, 0)) for table in revised] == [("2026-H1", 50)]


def test_when_an_agencys_counts_are_missing_nothing_earlier_is_revised() -> None:
    both = [submitted(Actual=40, Possible=30), submitted("bi/k7t4", Actual=50, Possible=20)]
    first = release("2026-H1", both, [], 11)
    later = [both[0], submitted(period="2026-H2", Actual=70, Possible=80)]
    assert [table.period for table in release("2026-H2", later, [first], 11).tables] == ["2026-H2"]


PLACES = ("BI-BM", "BI-GI", "BI-NG")
ONE = ("PossibleVictimOfTrafficking", "ActualVictimOfTrafficking", "NotAVictimOfTrafficking")
SEVERAL = ("DebtBondage", "PsychologicalAbuse")
ROW = st.tuples(COUNT, *[COUNT] * (len(ONE) + len(SEVERAL)))
"""Persons of whom nothing is stated, then each code."""


def of_country(counts: Mapping[str, Sequence[int]], day: int = 0) -> list[Submission]:
    made = []
    for place, (unknown, *row) in sorted(counts.items()):
        persons = unknown + sum(row[: len(ONE)])
        found = {("vic_TraffickingStatus", code): count for code, count in zip(ONE, row, strict=False)}
        for code, count in zip(SEVERAL, row[len(ONE) :], strict=True):
            found["vic_MethodsOfControl", code] = min(count, persons)
        at = NOW + timedelta(days=day)
        made.append(Submission("bi/iom", "2026-H1", place, "persons-assisted", at, persons, found))
    for one in made:
        statistics.check(one)
    return made


def countries() -> st.SearchStrategy[dict[str, tuple[int, ...]]]:
    return st.fixed_dictionaries(dict.fromkeys(PLACES, ROW))


@given(countries())
@settings(deadline=None)
def test_one_release_singles_nobody_out(counts: dict[str, tuple[int, ...]]) -> None:
    for table in release("2026-H1", of_country(counts), [], K).tables:
        for versions in all_of(table):
            assert singled_out(versions, K) == []


CHANGE = st.tuples(st.sampled_from(PLACES), st.integers(0, len(ONE) + len(SEVERAL)), st.integers(-12, 12))


@given(countries(), st.lists(CHANGE, max_size=4), st.lists(CHANGE, max_size=4))
@settings(deadline=None)
@example({"BI-BM": (0, 2, 9, 4, 0, 0), "BI-GI": (0, 9, 9, 9, 0, 0), "BI-NG": (0, 7, 8, 9, 0, 0)}, [("BI-GI", 1, 5)], [])
def test_three_releases_together_single_nobody_out(
    counts: dict[str, tuple[int, ...]], once: list[tuple[str, int, int]], twice: list[tuple[str, int, int]]
) -> None:
    given_counts = of_country(counts)
    releases = [release("2026-H1", given_counts, [], K)]
    changed = {place: list(row) for place, row in counts.items()}
    for day, (period, changes) in enumerate((("2026-H2", once), ("2027-H1", twice)), start=1):
        for place, column, by in changes:
            changed[place][column] = max(0, changed[place][column] + by)
        given_counts += [*of_country(changed, day), submitted(period=period, Actual=70, Possible=80)]
        releases.append(release(period, given_counts, releases, K))
    told: dict[str, list[Table]] = {}
    for one in releases:
        for table in one.tables:
            if table.period == "2026-H1":
                told.setdefault(table.field, []).append(table)
    for tables_ in told.values():
        assert all(table.hidden == tables_[0].hidden for table in tables_)
        for versions in all_of(*tables_):
            assert singled_out(versions, K, most=6) == []


@given(countries())
@settings(deadline=None)
def test_a_release_is_the_same_after_its_file_was_written_and_read(counts: dict[str, tuple[int, ...]]) -> None:
    found = release("2026-H1", of_country(counts), [], K)
    assert statistics.loads(json.loads(json.dumps(statistics.dumps(found)))) == found


@given(st.permutations(range(4)))
def test_the_order_in_which_submissions_are_read_does_not_matter(order: list[int]) -> None:
    given_counts = [
        submitted(Actual=40),
        submitted(day=3, Actual=41),
        submitted(day=2, Actual=99),
        submitted(place="BI-BR", Actual=33),
    ]
    found = tables([given_counts[at] for at in order], "2026-H1", 11)
    assert found == tables(given_counts, "2026-H1", 11)
    assert found[0].shown(0, 1) == 33


@pytest.mark.parametrize(
    ("submission", "path"),
    [
        (submitted(period="2026-S1", Actual=1), "period"),
        (submitted(Victime=1), "counts[0].code"),
        (submitted(persons=1, Actual=-1), "counts[0].count"),
        (submitted(persons=2, Actual=2, Possible=1), "counts"),
        (submitted(persons=2, field="vic_MethodsOfControl", DebtBondage=3), "counts[0].count"),
        (submitted(field="prs_FirstName", Aline=1), "counts[0].field"),
        (submitted(field="cas_CaseWorker", Aline=1), "counts[0].field"),
    ],
)
def test_counts_that_are_none_are_refused_without_a_value(submission: Submission, path: str) -> None:
    with pytest.raises(PayloadError) as refused:
        statistics.check(submission)
    assert (refused.value.code, refused.value.path) == ("payload_invalid", path)


def test_a_release_file_that_contradicts_itself_is_refused() -> None:
    raw = statistics.dumps(release("2026-H1", [submitted(Actual=40, Possible=30)], [], 11))
    raw["tables"][0]["cells"] = [[1]]
    with pytest.raises(PayloadError) as refused:
        statistics.loads(raw)
    assert refused.value.path == "release.tables[0]"
