# SPDX-License-Identifier: Apache-2.0
"""Merkle trees as RFC 6962 defines them, and promises made of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import LogError, RecordError
from schemas.keys import SigningKey, b64url
from tests.domain import seeded
from topics.promise import Line, evidence, make_promise, read_promise, verify_evidence, verify_promise
from topics.proofs import EMPTY_ROOT, inclusion_path, leaf_hash, node_hash, root, verify_inclusion

KEY = SigningKey.generate(seeded("promise"))
OTHER = SigningKey.generate(seeded("another"))


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def path_hashes(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*path_hashes(index, leaves[:split]), tree_hash(leaves[split:])]
    return [*path_hashes(index - split, leaves[split:]), tree_hash(leaves[:split])]


def some_leaves(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % n) for n in range(count)]


@given(st.integers(0, 130))
def test_the_root_is_the_standards(count: int) -> None:
    assert root(some_leaves(count)) == tree_hash(some_leaves(count))


@given(st.integers(1, 130), st.data())
def test_a_path_is_the_standards_and_verifies(count: int, data: st.DataObject) -> None:
    leaves = some_leaves(count)
    index = data.draw(st.integers(0, count - 1))
    path = inclusion_path(leaves, index)
    assert path == path_hashes(index, leaves)
    assert verify_inclusion(leaves[index], index, count, path, root(leaves))


@given(st.integers(1, 70), st.data())
def test_anything_else_does_not_verify(count: int, data: st.DataObject) -> None:
    leaves = some_leaves(count)
    index = data.draw(st.integers(0, count - 1))
    path, top = inclusion_path(leaves, index), root(leaves)
    assert not verify_inclusion(leaf_hash(b"another"), index, count, path, top)
    assert not verify_inclusion(leaves[index], index, count, [*path, leaves[0]], top)
    assert not verify_inclusion(leaves[index], index, count, path, leaf_hash(b"root"))
    assert not verify_inclusion(leaves[index], count, count, path, top)
    assert not verify_inclusion(leaves[index], -1, count, path, top)
    if path:
        assert not verify_inclusion(leaves[index], index, count, path[:-1], top)
        assert not verify_inclusion(leaves[index], index, count, [*path[:-1], path[-1][:31]], top)
        other = data.draw(st.integers(0, count - 1).filter(lambda n: n != index))
        assert not verify_inclusion(leaves[index], other, count, path, top)


def test_a_tree_without_leaves_has_the_standards_root() -> None:
    assert root([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()
    with pytest.raises(IndexError):
        inclusion_path([], 0)


def some_lines(count: int) -> list[Line]:
    return [Line(f"evt-{n}", b64url(hashlib.sha256(b"%d" % n).digest()), "bi.referral.k7t4", n) for n in range(count)]


def test_a_leaf_is_the_hash_of_the_lines_compact_json() -> None:
    line = Line("e", "h", "bi.referral.k7t4", 7)
    assert line.leaf() == hashlib.sha256(b'\x00["e","h","bi.referral.k7t4",7]').digest()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_each_line_is_proved_by_itself(count: int) -> None:
    lines = some_lines(count)
    made = make_promise(lines, KEY, iss="bi/operator", at=1_793_000_000, domain="bi")
    for index, line in enumerate(lines):
        promise = verify_promise(line, index, made.paths[index], made.jws, KEY.public, "bi")
        assert (promise.n, promise.at, promise.iss, promise.origin) == (
            count,
            1_793_000_000,
            "bi/operator",
            "bi.umuhuza/log",
        )
        kept = evidence(line, index, made.paths[index], made.jws)
        assert verify_evidence(kept, KEY.public, "bi")[0] == line
        # Nothing of the other lines is in it.
        assert not any(other.evt in kept.decode() for other in lines if other.evt not in line.evt)


def test_a_promise_of_another_key_or_for_another_line_is_none() -> None:
    lines = some_lines(3)
    made = make_promise(lines, KEY, iss="bi/operator", at=1, domain="bi")
    with pytest.raises(RecordError) as caught:
        verify_promise(lines[0], 0, made.paths[0], made.jws, OTHER.public, "bi")
    assert caught.value.code == "signature_invalid"
    for line, index, path, domain in (
        (replace(lines[0], offset=5), 0, made.paths[0], "bi"),
        (replace(lines[0], topic="bi.referral.iom"), 0, made.paths[0], "bi"),
        (lines[0], 1, made.paths[0], "bi"),
        (lines[0], 0, made.paths[1], "bi"),
        (lines[0], 0, ("not base64!",), "bi"),
        (lines[0], 0, made.paths[0], "tn"),
    ):
        with pytest.raises(LogError) as refused:
            verify_promise(line, index, path, made.jws, KEY.public, domain)
        assert refused.value.code == "root_mismatch"


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "é.b.c", "x" * 5000])
def test_what_is_no_promise_is_refused(text: str) -> None:
    with pytest.raises(RecordError):
        read_promise(text, KEY.public)


def test_evidence_with_another_member_is_refused() -> None:
    [line] = some_lines(1)
    made = make_promise([line], KEY, iss="bi/operator", at=1, domain="bi")
    raw = orjson.loads(evidence(line, 0, made.paths[0], made.jws))
    with pytest.raises(RecordError):
        verify_evidence(orjson.dumps(raw | {"more": 1}), KEY.public, "bi")
    with pytest.raises(RecordError):
        verify_evidence(orjson.dumps(raw | {"offset": "0"}), KEY.public, "bi")
