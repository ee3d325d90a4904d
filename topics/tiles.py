# SPDX-License-Identifier: Apache-2.0
"""A ledger's tree as tiles (c2sp.org/tlog-tiles): how it grows, how tiles are named, how proofs are read from them.

    tile (l, n)    256 hashes, n * 256 and following, of the complete nodes at tree level 8 * l; the rightmost of every
                   level is partial: the first W of them
    path           tile/<l>/<n>[.p/<W>], n in groups of three digits, all but the last with an x before: x001/x234/067
    entries        tile/entries/<n>[.p/<W>]: the entries below tile (0, n), each with its length in two bytes before

`GrowingTree` holds the right edge only, at most 255 hashes a level however many leaves there are. Tiles are a cache of
what the ledger's store holds: a tree is made again by appending every leaf, or resumed from its edge.

Pure: no I/O; whoever reads tiles says how (`TileFetch`). What comes from elsewhere is to be believed only under a root
that was signed: a proof made from bad tiles does not verify, and `check_edge` compares a root.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.errors import LogError
from schemas.notes import HASH_BYTES, MAX_SIZE, malformed
from topics.proofs import EMPTY_ROOT, NodeReader, folded, node_hash, peaks, tree_root

TILE_WIDTH: Final = 256
TILE_HEIGHT: Final = 8
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
MAX_ENTRY_BYTES: Final = (1 << 16) - 1
_MAX_LEVEL: Final = 63
_PATH = re.compile(r"(?P<level>[0-9]{1,2}|entries)/(?P<index>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[0-9]{1,3}))?\Z")


@dataclass(frozen=True, slots=True)
class TileId:
    """Which tile, and how much of it. `level` is None for a bundle of entries."""

    level: int | None
    index: int
    width: int = TILE_WIDTH
    """1 to 256; less than 256 is a partial tile."""

    @property
    def path(self) -> str:
        """Below the ledger's prefix: `tile/0/x001/x234/067.p/9`."""
        groups = [f"{self.index % 1000:03}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03}")
            rest //= 1000
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"

    @property
    def whole(self) -> TileId:
        """The same tile when it is full."""
        return TileId(self.level, self.index)


def read_tile_path(path: str) -> TileId:
    """Reverse of `TileId.path` (with or without its `tile/`). One text for one tile.

    Raises:
        LogError: note_malformed (path `tile`).
    """
    found = _PATH.match(path.removeprefix("tile/")) if len(path) <= 120 else None
    if found is None:
        raise malformed("tile")
    level = None if found["level"] == "entries" else int(found["level"])
    index = int(found["index"].replace("x", "").replace("/", ""))
    tile = TileId(level, index, TILE_WIDTH if found["width"] is None else int(found["width"]))
    if tile.path.removeprefix("tile/") != path.removeprefix("tile/") or not 1 <= tile.width <= TILE_WIDTH:
        raise malformed("tile")
    if (level or 0) > _MAX_LEVEL or index > MAX_SIZE:
        raise malformed("tile")
    return tile


def width_at(level: int, index: int, size: int) -> int:
    """How many hashes tile (level, index) has in the tree of `size` leaves; 0: it is not there."""
    return min(max((size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH, 0), TILE_WIDTH)


def tiles_of(old: int, size: int) -> list[TileId]:
    """Tiles of hashes that the tree of `size` leaves has and that of `old` leaves had not, or narrower."""
    found: list[TileId] = []
    level = 0
    while size >> (TILE_HEIGHT * level):
        first = (old >> (TILE_HEIGHT * level)) // TILE_WIDTH
        last = ((size >> (TILE_HEIGHT * level)) - 1) // TILE_WIDTH
        for index in range(first, last + 1):
            width = width_at(level, index, size)
            if width > width_at(level, index, old):
                found.append(TileId(level, index, width))
        level += 1
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Growing


@dataclass(frozen=True, slots=True)
class Tile:
    """Some hashes of a tree, as they are served and kept."""

    id: TileId
    data: bytes


class GrowingTree:
    """The right edge of a tree: enough to append leaves, to tell the root, and to hand out the tiles that changed.

    About 2 microseconds a leaf, O(log size) memory. Not safe between threads; owns nothing.
    """

    __slots__ = ("_edge", "_full", "_peaks", "_taken", "size")

    def __init__(self) -> None:
        self.size = 0
        """Leaves so far."""
        self._peaks: list[bytes] = []
        self._edge: list[bytearray] = []
        self._full: list[Tile] = []
        self._taken = 0

    @classmethod
    def resume(cls, size: int, edge: Sequence[bytes]) -> GrowingTree:
        """A tree as it was.

        Args:
            edge: what `edge` gave, or the partial tiles at `size`, level 0 first; b"" where there is none.

        Raises:
            LogError: note_malformed (path `tile`), these are not the partial tiles of a tree of this size.
        """
        tree = cls()
        tree.size = tree._taken = size
        widths: list[int] = []
        while size >> (TILE_HEIGHT * len(widths)):
            widths.append((size >> (TILE_HEIGHT * len(widths))) % TILE_WIDTH)
        if [len(tile) for tile in edge] != [width * HASH_BYTES for width in widths]:
            raise malformed("tile")
        tree._edge = [bytearray(tile) for tile in edge]
        for level in reversed(range(len(widths))):
            first = (size >> (TILE_HEIGHT * level)) // TILE_WIDTH * TILE_WIDTH
            for above, index in peaks(first, first + widths[level]):
                start = (index << above) - first
                tree._peaks.append(_node_above(edge[level], start, above))
        return tree

    @property
    def edge(self) -> tuple[bytes, ...]:
        """The partial tile of every level, level 0 first: what `resume` needs."""
        return tuple(bytes(tile) for tile in self._edge)

    def append(self, leaf: bytes) -> None:
        """One more leaf, by its hash."""
        level, index, node = 0, self.size, leaf
        self._put(0, leaf)
        while index & 1:
            node = node_hash(self._peaks.pop(), node)
            index >>= 1
            level += 1
            if not level % TILE_HEIGHT:
                self._put(level // TILE_HEIGHT, node)
        self._peaks.append(node)
        self.size += 1

    def _put(self, level: int, node: bytes) -> None:
        if level == len(self._edge):
            self._edge.append(bytearray())
        tile = self._edge[level]
        tile += node
        if len(tile) == TILE_BYTES:
            index = (self.size >> (TILE_HEIGHT * level)) // TILE_WIDTH
            self._full.append(Tile(TileId(level, index), bytes(tile)))
            tile.clear()

    def root(self) -> bytes:
        """The root over all leaves so far."""
        return folded(reversed(self._peaks))

    def take(self) -> list[Tile]:
        """Tiles that changed since the last call: those that are full now, and the partial ones of this size."""
        changed, self._full = self._full, []
        for level, tile in enumerate(self._edge):
            count = self.size >> (TILE_HEIGHT * level)
            if tile and count > self._taken >> (TILE_HEIGHT * level):
                changed.append(Tile(TileId(level, count // TILE_WIDTH, len(tile) // HASH_BYTES), bytes(tile)))
        self._taken = self.size
        return changed


def _node_above(tile: bytes, start: int, level: int) -> bytes:
    """The node over 2**level hashes of a tile, from `start` on."""
    nodes = [tile[i * HASH_BYTES : (i + 1) * HASH_BYTES] for i in range(start, start + (1 << level))]
    while len(nodes) > 1:
        nodes = [node_hash(nodes[i], nodes[i + 1]) for i in range(0, len(nodes), 2)]
    return nodes[0]


# ---------------------------------------------------------------------------------------------------------------------
# Reading

TileFetch = Callable[[TileId], bytes]
"""The bytes of one tile; raises LogError when it cannot be had."""


def node_of_tiles(size: int, fetch: TileFetch) -> NodeReader:
    """Complete nodes of the tree of `size` leaves, read from its tiles; each tile is asked for once.

    The reader raises what `fetch` raises, and LogError root_mismatch where a tile has not the length that it must have.
    """
    held: dict[tuple[int, int], bytes] = {}

    def node(level: int, index: int) -> bytes:
        row, above = divmod(level, TILE_HEIGHT)
        number, place = divmod(index << above, TILE_WIDTH)
        data = held.get((row, number))
        if data is None:
            width = width_at(row, number, size)
            data = fetch(TileId(row, number, width))
            if not width or len(data) != width * HASH_BYTES:
                raise LogError("root_mismatch", "tile")
            held[row, number] = data
        if (place + (1 << above)) * HASH_BYTES > len(data):
            raise LogError("root_mismatch", "tile")
        return _node_above(data, place, above)

    return node


def check_edge(size: int, fetch: TileFetch, expected_root: bytes) -> None:
    """The tiles at the right edge are those of a tree of this size and root.

    Raises:
        LogError: root_mismatch, or what `fetch` raises.
    """
    found = tree_root(node_of_tiles(size, fetch), size) if size else EMPTY_ROOT
    if found != expected_root:
        raise LogError("root_mismatch", "tile")


# ---------------------------------------------------------------------------------------------------------------------
# Entries


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """A bundle of entries. Raises ValueError for an entry longer than `MAX_ENTRY_BYTES`."""
    if any(len(entry) > MAX_ENTRY_BYTES for entry in entries):
        raise ValueError("entry too long")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack_entries(data: bytes, width: int) -> list[bytes]:
    """Reverse of `pack_entries`, for a bundle of `width` entries. Raises LogError `note_malformed` (path `entries`)."""
    found: list[bytes] = []
    place = 0
    while place < len(data) and len(found) < width:
        end = place + 2 + int.from_bytes(data[place : place + 2], "big")
        if end > len(data) or place + 2 > len(data):
            raise malformed("entries")
        found.append(data[place + 2 : end])
        place = end
    if len(found) != width or place != len(data):
        raise malformed("entries")
    return found
