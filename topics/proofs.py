# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of RFC 6962 section 2.1: what a promise and the ledger are made of, and how both are checked.

    leaf = SHA-256(0x00 || entry)        node = SHA-256(0x01 || left || right)        empty tree = SHA-256("")

A list of n > 1 leaves is split at the largest power of two below n. Built level by level, an odd last node is handed up
unchanged, which gives the same tree. A *complete* node (level, i) is over the leaves i * 2**level up to, without,
(i + 1) * 2**level: it never changes again, and every proof and root is made of such nodes.

Proofs are made from a `NodeReader`, wherever the nodes are (`node_in`: lists in memory; `topics/tiles.py`: tiles), and
checked from nothing but themselves and two roots.

Pure: bytes in, bytes out. Must never know what an entry means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from schemas.notes import EMPTY_ROOT as EMPTY_ROOT
from schemas.notes import HASH_BYTES

NodeReader = Callable[[int, int], bytes]
"""(level, index) -> that complete node, 32 bytes. What it raises goes through to who asked for a proof."""


def leaf_hash(entry: bytes) -> bytes:
    """32 bytes; the prefix keeps an inner node from passing for a leaf (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


# ---------------------------------------------------------------------------------------------------------------------
# A small tree as a whole


def levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Every level of the tree over these leaf hashes, leaves first, root last; n hashes for all paths together."""
    built = [list(leaves)]
    while len(built[-1]) > 1:
        below = built[-1]
        above = [node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        if len(below) % 2:
            above.append(below[-1])
        built.append(above)
    return built


def root(leaves: Sequence[bytes]) -> bytes:
    """The tree's root over leaf hashes; `EMPTY_ROOT` over none."""
    return levels(leaves)[-1][0] if leaves else EMPTY_ROOT


Node = TypeVar("Node", bytes, str)


def path_in(built: Sequence[Sequence[Node]], index: int) -> list[Node]:
    """The inclusion path of leaf `index` in a tree from `levels` (hashes, or their texts), the lowest sibling first."""
    path: list[Node] = []
    for level in built[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index >>= 1
    return path


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962 section 2.1.1.

    Raises:
        IndexError: no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError("no such leaf")
    return path_in(levels(leaves), index)


def node_in(built: Sequence[Sequence[bytes]]) -> NodeReader:
    """Reads a tree from `levels`."""
    return lambda level, index: built[level][index]


# ---------------------------------------------------------------------------------------------------------------------
# Proofs of a large tree, from its complete nodes


def peaks(start: int, end: int) -> list[tuple[int, int]]:
    """The complete nodes (level, index) that together cover the leaves [start, end), from left to right.

    `start` is where a node as large as the first one may begin: zero, or what the recursions below come to.
    """
    found: list[tuple[int, int]] = []
    while start < end:
        level = (end - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def folded(nodes: Iterable[bytes]) -> bytes:
    """One hash over peaks, given from right to left: a smaller right side is joined to the larger one left of it."""
    top: bytes | None = None
    for node in nodes:
        top = node if top is None else node_hash(node, top)
    return EMPTY_ROOT if top is None else top


def _subtree(node: NodeReader, start: int, end: int) -> bytes:
    """MTH(D[start:end]), where `start` is a multiple of the largest power of two below `end - start`."""
    return folded(node(level, index) for level, index in reversed(peaks(start, end)))


def tree_root(node: NodeReader, size: int) -> bytes:
    """The root of the tree over the first `size` leaves; reads O(log size) nodes."""
    return _subtree(node, 0, size)


def _split(count: int) -> int:
    """The largest power of two below `count`, which is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def inclusion_proof(node: NodeReader, index: int, size: int) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962 section 2.1.1, the lowest sibling first; reads O(log^2 size) nodes at most.

    Raises:
        IndexError: no such leaf.
    """
    if not 0 <= index < size:
        raise IndexError("no such leaf")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(node, middle, end))
            end = middle
        else:
            path.append(_subtree(node, start, middle))
            start = middle
    return path[::-1]


def consistency_proof(node: NodeReader, old: int, size: int) -> list[bytes]:
    """PROOF(m, D[n]) of RFC 6962 section 2.1.2 (RFC 9162 section 2.1.4.1): the first `old` leaves are those of `size`.

    Empty when `old` is 0 or `size`.

    Raises:
        IndexError: old > size, or negative.
    """
    if not 0 <= old <= size:
        raise IndexError("no such tree")
    if old in (0, size):
        return []
    path: list[bytes] = []
    start, end, whole = 0, size, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_subtree(node, middle, end))
            end = middle
        else:
            path.append(_subtree(node, start, middle))
            start, whole = middle, False
    if not whole:
        path.append(_subtree(node, start, end))
    return path[::-1]


# ---------------------------------------------------------------------------------------------------------------------
# Checking


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Whether `leaf` (its hash) is at `index` of the tree of `size` leaves under `expected_root` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size or any(len(sibling) != HASH_BYTES for sibling in path):
        return False
    node, last, rest = leaf, size - 1, iter(path)
    while last > 0:
        if index % 2 or index < last:
            sibling = next(rest, None)
            if sibling is None:
                return False
            node = node_hash(sibling, node) if index % 2 else node_hash(node, sibling)
        index >>= 1
        last >>= 1
    return next(rest, None) is None and node == expected_root


def verify_consistency(old: int, old_root: bytes, size: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the tree of `old` leaves under `old_root` is the beginning of that of `size` under `new_root`.

    RFC 9162 section 2.1.4.2; for trees of one size the proof is empty and the roots are equal, and every tree follows
    the empty one, whose root has to be the standard's.
    """
    if not 0 <= old <= size or any(len(node) != HASH_BYTES for node in path):
        return False
    if old == size:
        return not path and old_root == new_root
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    rest = iter([old_root, *path] if old & (old - 1) == 0 else path)
    first = second = next(rest, None)
    if first is None or second is None:
        return False
    index, last = old - 1, size - 1
    while index % 2:
        index >>= 1
        last >>= 1
    for node in rest:
        if last == 0:
            return False
        if index % 2 or index == last:
            first, second = node_hash(node, first), node_hash(node, second)
            while index and index % 2 == 0:
                index >>= 1
                last >>= 1
        else:
            second = node_hash(second, node)
        index >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root
