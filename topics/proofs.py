# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of RFC 6962 section 2.1: what a promise and the ledger are made of.

    leaf = SHA-256(0x00 || entry)        node = SHA-256(0x01 || left || right)        empty tree = SHA-256("")

A list of n > 1 leaves is split at the largest power of two below n. Built level by level, an odd last node is handed up
unchanged, which gives the same tree.

Pure: bytes in, bytes out. Must never know what an entry means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """32 bytes; the prefix keeps an inner node from passing for a leaf (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


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


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Whether `leaf` (its hash) is at `index` of the tree of `size` leaves under `expected_root` (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, rest = leaf, size - 1, iter(path)
    while last > 0:
        if index % 2 or index < last:
            sibling = next(rest, None)
            if sibling is None or len(sibling) != 32:
                return False
            node = node_hash(sibling, node) if index % 2 else node_hash(node, sibling)
        index >>= 1
        last >>= 1
    return next(rest, None) is None and node == expected_root
