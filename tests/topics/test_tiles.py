# SPDX-License-Identifier: Apache-2.0
"""Tiles: a tree grows one leaf at a time, is kept in files of 256 hashes, and every proof can be read from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import LogError
from topics.proofs import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from topics.tiles import (
    GrowingTree,
    Tile,
    TileId,
    check_edge,
    node_of_tiles,
    pack_entries,
    read_tile_path,
    tiles_of,
    unpack_entries,
    width_at,
)

SIZE = 70_000
"""The standard's own example: two levels full, a third begun."""
LEAVES = [leaf_hash(b"%d" % n) for n in range(SIZE)]


def grown(size: int) -> GrowingTree:
    tree = GrowingTree()
    for leaf in LEAVES[:size]:
        tree.append(leaf)
    return tree


@pytest.fixture(scope="module")
def tiles() -> dict[TileId, bytes]:
    return {tile.id: tile.data for tile in grown(SIZE).take()}


def test_the_tiles_of_a_tree_are_those_of_the_standards_example(tiles: dict[TileId, bytes]) -> None:
    assert set(tiles) == set(tiles_of(0, SIZE))
    level0 = [tile for tile in tiles if tile.level == 0]
    assert len([tile for tile in level0 if tile.width == 256]) == 273
    assert [tile.width for tile in tiles if tile.level == 0 and tile.width < 256] == [112]
    assert sorted(tile.width for tile in tiles if tile.level == 1) == [17, 256]
    assert [tile.width for tile in tiles if tile.level == 2] == [1]
    assert sorted((t.level, t.width) for t in tiles_of(0, 256)) == [(0, 256), (1, 1)]


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537])
def test_a_growing_tree_has_the_root_of_all_its_leaves(size: int) -> None:
    assert grown(size).root() == root(LEAVES[:size])


@given(st.integers(0, 1500), st.lists(st.integers(0, 700), max_size=4))
def test_a_tree_that_was_stopped_goes_on_as_if_it_had_not(size: int, steps: list[int]) -> None:
    through = grown(size)
    through.take()
    for step in steps:
        resumed = GrowingTree.resume(through.size, through.edge)
        for leaf in LEAVES[through.size : through.size + step]:
            through.append(leaf)
            resumed.append(leaf)
        assert (resumed.root(), resumed.edge) == (through.root(), through.edge)
        assert resumed.root() == root(LEAVES[: through.size])
        old = through.size - step
        taken = through.take()
        assert resumed.take() == taken
        assert {tile.id for tile in taken} == set(tiles_of(old, through.size))
    assert through.take() == []


def test_a_tree_is_not_resumed_from_the_edge_of_another_size() -> None:
    edge = grown(300).edge
    for size in (299, 301, 44, 0, 300 << 8):
        with pytest.raises(LogError) as caught:
            GrowingTree.resume(size, edge)
        assert (caught.value.code, caught.value.path) == ("note_malformed", "tile")


def test_every_proof_can_be_read_from_tiles(tiles: dict[TileId, bytes]) -> None:
    asked: list[TileId] = []

    def fetch(tile: TileId) -> bytes:
        asked.append(tile)
        return tiles[tile]

    node = node_of_tiles(SIZE, fetch)
    top = root(LEAVES)
    assert tree_root(node, SIZE) == top
    for index in (0, 1, 255, 256, 65_535, 65_536, SIZE - 1):
        assert verify_inclusion(LEAVES[index], index, SIZE, inclusion_proof(node, index, SIZE), top)
    for old in (0, 1, 2, 255, 256, 257, 65_535, 65_536, 65_537, SIZE - 1, SIZE):
        proof = consistency_proof(node, old, SIZE)
        assert verify_consistency(old, root(LEAVES[:old]), SIZE, top, proof)
    assert len(asked) == len(set(asked))
    assert len(asked) < 20


def test_tiles_that_are_short_or_altered_are_found(tiles: dict[TileId, bytes]) -> None:
    top = root(LEAVES)
    check_edge(SIZE, tiles.__getitem__, top)
    check_edge(0, tiles.__getitem__, root([]))
    for tile in (one for one in tiles if one.width < 256):
        for spoilt in (tiles[tile][:-32], tiles[tile][:-1] + b"\x00", b"", tiles[tile] + tiles[tile][:32]):
            with pytest.raises(LogError) as caught:
                check_edge(SIZE, {**tiles, tile: spoilt}.__getitem__, top)
            assert (caught.value.code, caught.value.path) == ("root_mismatch", "tile")


def test_a_tile_that_the_tree_does_not_have_yet_is_not_read(tiles: dict[TileId, bytes]) -> None:
    node = node_of_tiles(SIZE, lambda tile: bytes(tile.width * 32))
    for level, index in ((0, SIZE), (0, SIZE - 1 + 200), (8, 273), (17, 0), (24, 0)):
        with pytest.raises(LogError):
            node(level, index)
    assert width_at(0, 273, SIZE) == 112
    assert width_at(0, 274, SIZE) == 0


@given(st.one_of(st.none(), st.integers(0, 63)), st.integers(0, 2**62), st.integers(1, 256))
def test_every_tile_has_one_path(level: int | None, index: int, width: int) -> None:
    tile = TileId(level, index, width)
    assert read_tile_path(tile.path) == tile
    assert TileId(0, 1_234_067).path == "tile/0/x001/x234/067"
    assert TileId(None, 5, 9).path == "tile/entries/005.p/9"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/",
        "0/0",
        "0/67",
        "0/0067",
        "00/067",
        "64/067",
        "-1/067",
        "0/x000/067",
        "0/001/067",
        "0/x001/x067",
        "0/067.p/0",
        "0/067.p/256",
        "0/067.p/257",
        "0/067.p/01",
        "0/067.p/",
        "0/067/",
        "0/067\n",
        "0/٠٦٧",
        "0/../067",
        "entries/67",
        "tile/tile/0/067",
        "0/" + "x999/" * 40 + "999",
    ],
)
def test_no_other_path_is_a_tile(path: str) -> None:
    with pytest.raises(LogError) as caught:
        read_tile_path(path)
    assert (caught.value.code, caught.value.path) == ("note_malformed", "tile")


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_entries_are_bundled_and_unbundled(entries: list[bytes]) -> None:
    packed = pack_entries(entries)
    assert unpack_entries(packed, len(entries)) == entries
    for wrong, count in ((packed + b"\x00", len(entries)), (packed, len(entries) + 1), (packed[:-1], len(entries))):
        if wrong == packed[:-1] and not packed:
            continue
        with pytest.raises(LogError):
            unpack_entries(wrong, count)
    with pytest.raises(ValueError, match="too long"):
        pack_entries([bytes(65_536)])


def test_what_is_taken_is_what_would_be_served() -> None:
    tree = grown(3)
    assert tree.take() == [Tile(TileId(0, 0, 3), b"".join(LEAVES[:3]))]
    tree.append(LEAVES[3])
    assert tree.take() == [Tile(TileId(0, 0, 4), b"".join(LEAVES[:4]))]
