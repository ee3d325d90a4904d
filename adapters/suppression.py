# SPDX-License-Identifier: Apache-2.0
"""Which cells of a table of counts must not be shown, so that nobody can work out a small one.

A cell of 1 to k-1 persons is hidden (primary), and with it as many others (complementary) as it takes: whoever knows
every shown cell, row, column and total, and that a hidden cell is at least 1, must still think it possible that each
hidden cell is k or more. It follows that no sum of hidden cells below k can be worked out either: a sum that is
certain is at least as large as each of its cells can be.

The table is seen as a network in which counts flow from the grand total through rows and columns back to it: cells
are arcs, and hidden ones can be changed only around circles of hidden arcs. Whether a cell can be k is a maximum flow.
Several versions of one table (releases of the same period) are judged together: the same circle must be possible in
all of them at once, so that their differences show nothing either.

Invariants: pure and deterministic; a zero is never hidden, and its being shown is known to the reader.
Must never: weaken a pattern that was published (a version that does not fit it is not published).

Source: statistical disclosure control as in the `network` methods for two-way tables (Cox 1995); ours is a plain
augmenting-path version, for tables of some dozens of cells.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

Place = tuple[int, int]
"""Row and column; the last row and the last column are the totals."""

_WITHOUT_END = 1 << 40
_TOTAL_WEIGHT = 4
"""A column's total is worth this many times a cell of the same size: it is the national figure."""


class UnsafeError(Exception):
    """No pattern protects this table while its row totals stay shown: show less of it. Holds no figure."""


@dataclass(frozen=True, slots=True)
class Line:
    """An arc of the network: a cell that may change along it."""

    place: Place
    start: int
    end: int


@dataclass(frozen=True)
class Grid:
    """Counts with their totals, each person in exactly one cell: one version of a table. Row totals are shown."""

    cells: tuple[tuple[int, ...], ...]
    """Rows of one length, counts from 0, without totals."""

    @cached_property
    def values(self) -> Mapping[Place, int]:
        """Every figure, totals with it."""
        rows, columns = self.shape
        found = {(i, j): count for i, row in enumerate(self.cells) for j, count in enumerate(row)}
        found.update({(rows, j): sum(row[j] for row in self.cells) for j in range(columns)})
        found.update({(i, columns): sum(row) for i, row in enumerate(self.cells)})
        found[rows, columns] = sum(map(sum, self.cells))
        return found

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.cells), len(self.cells[0])


def _line(shape: tuple[int, int], place: Place) -> Line:
    """Rows are nodes 0..rows (the last: of totals), columns come behind them."""
    rows, columns = shape
    i, j = place
    row, column = i, rows + 1 + j
    return Line(place, row, column) if (i < rows) == (j < columns) else Line(place, column, row)


@dataclass
class _Network:
    """What may change, by how much, at which price, in every version at once."""

    versions: Sequence[Grid]
    hidden: set[Place]

    def __post_init__(self) -> None:
        shape = self.versions[0].shape
        self.least = {place: min(grid.values[place] for grid in self.versions) for place in self.versions[0].values}
        """Of all versions: what a cell may lose, it must have everywhere."""
        self.lines = {place: _line(shape, place) for place in self.least}
        self.rows = shape[0]

    def _moves(self, but: Place, more: frozenset[Place]) -> Iterator[tuple[int, int, Place, int, int, int]]:
        """(from, to, cell, +1 or -1, how much, price) of each change that one may think of."""
        for place, line in self.lines.items():
            if place == but:
                continue
            if place in self.hidden:
                room, price = self.least[place] - 1, 0
            elif place in more and self.least[place] > 0:
                size = self.least[place]
                room, price = size - 1, (size + 1) * (_TOTAL_WEIGHT if place[0] == self.rows else 1)
            else:
                continue
            yield line.start, line.end, place, 1, _WITHOUT_END, price
            if room > 0:
                yield line.end, line.start, place, -1, room, price

    def raised(self, place: Place, to: int, more: frozenset[Place] = frozenset()) -> frozenset[Place] | None:
        """Cells of `more` that must be hidden too so that `place` may be `to`; None: it cannot be.

        The changes made on the way count: nothing is taken twice.
        """
        kept, changed, taken = dict(self.least), 0, set[Place]()
        hidden_before = set(self.hidden)
        line = self.lines[place]
        try:
            while kept[place] + changed < to:
                path = self._cheapest(line.end, line.start, place, more)
                if path is None:
                    return None
                wanted = to - kept[place] - changed
                step = min([wanted, *(room for *_, room in path)])
                for cell, sign, _ in path:
                    self.least[cell] += sign * step
                    if cell not in self.hidden:
                        self.hidden.add(cell)
                        taken.add(cell)
                changed += step
        finally:
            self.least, self.hidden = kept, hidden_before
        return frozenset(taken)

    def _cheapest(
        self, start: int, end: int, but: Place, more: frozenset[Place]
    ) -> list[tuple[Place, int, int]] | None:
        """Of the changes that lead from one node to the other; ties by position, so that the answer is always one."""
        around: dict[int, list[tuple[int, Place, int, int, int]]] = {}
        for source, target, place, sign, room, price in self._moves(but, more):
            around.setdefault(source, []).append((target, place, sign, room, price))
        best: dict[int, int] = {start: 0}
        came: dict[int, tuple[int, Place, int, int]] = {}
        queue = [(0, start)]
        while queue:
            cost, node = heapq.heappop(queue)
            if node == end:
                break
            if cost > best[node]:
                continue
            for target, place, sign, room, price in around.get(node, ()):
                # A step of its own costs a little: the shortest of equally good circles.
                new = cost + price * 1000 + 1
                if new < best.get(target, _WITHOUT_END * 1000):
                    best[target] = new
                    came[target] = (node, place, sign, room)
                    heapq.heappush(queue, (new, target))
        if end not in came:
            return None
        path, node = [], end
        while node != start:
            node, place, sign, room = came[node]
            path.append((place, sign, room))
        return path


def small(versions: Sequence[Grid], k: int) -> set[Place]:
    """Figures of 1 to k-1, in any version."""
    return {place for grid in versions for place, count in grid.values.items() if 0 < count < k}


def holds(versions: Sequence[Grid], hidden: Iterable[Place], k: int) -> bool:
    """Whether this pattern protects all versions together. They must be of one shape and kind."""
    pattern = set(hidden)
    network = _Network(versions, pattern)
    if not small(versions, k) <= pattern or any(network.least[place] < 1 for place in pattern):
        return False
    return all(network.raised(place, k) is not None for place in sorted(pattern) if network.least[place] < k)


def protect(grid: Grid, k: int) -> frozenset[Place]:
    """What to hide of a table whose row totals are all shown.

    Args:
        k: the smallest count that may be shown, apart from 0; at least 2.

    Raises:
        UnsafeError: nothing protects it (a row's total is small, or its hidden cells would be too few).
    """
    rows, columns = grid.shape
    network = _Network([grid], small([grid], k))
    fixed = {place for place in grid.values if place[1] == columns}
    if network.hidden & fixed:
        raise UnsafeError
    again = True
    while again:
        again = False
        for place in sorted(network.hidden):
            if network.least[place] >= k or network.raised(place, k) is not None:
                continue
            more = network.raised(place, k, frozenset(grid.values.keys() - network.hidden - fixed))
            if more is None:
                raise UnsafeError
            network.hidden |= more
            again = True
    return frozenset(network.hidden)
