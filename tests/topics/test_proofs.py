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
from topics.proofs import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_path,
    inclusion_proof,
    leaf_hash,
    levels,
    node_hash,
    node_in,
    root,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

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


def subproof(old: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2, word for word."""
    if old == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*subproof(old, leaves[:split], whole), tree_hash(leaves[split:])]
    return [*subproof(old - split, leaves[split:], False), tree_hash(leaves[:split])]


@given(st.integers(1, 130), st.data())
def test_proofs_from_complete_nodes_are_the_standards(count: int, data: st.DataObject) -> None:
    leaves = some_leaves(count)
    node = node_in(levels(leaves))
    index, old = data.draw(st.integers(0, count - 1)), data.draw(st.integers(1, count))
    assert tree_root(node, count) == tree_hash(leaves)
    assert tree_root(node, old) == tree_hash(leaves[:old])
    assert inclusion_proof(node, index, count) == path_hashes(index, leaves)
    assert consistency_proof(node, old, count) == subproof(old, leaves, True)


@given(st.integers(0, 130), st.integers(0, 130))
def test_every_tree_follows_each_of_its_beginnings(one: int, other: int) -> None:
    old, size = sorted((one, other))
    leaves = some_leaves(size)
    proof = consistency_proof(node_in(levels(leaves)), old, size)
    assert verify_consistency(old, root(leaves[:old]), size, root(leaves), proof)


@given(st.integers(1, 100), st.data())
def test_no_other_history_is_consistent(size: int, data: st.DataObject) -> None:
    leaves = some_leaves(size)
    old = data.draw(st.integers(1, size))
    before, now = root(leaves[:old]), root(leaves)
    proof = consistency_proof(node_in(levels(leaves)), old, size)
    changed = data.draw(st.integers(0, old - 1))
    forged = [*leaves[:changed], leaf_hash(b"forged"), *leaves[changed + 1 :]]
    theirs = consistency_proof(node_in(levels(forged)), old, size)
    assert not verify_consistency(old, before, size, root(forged), theirs)
    assert not verify_consistency(old, root(forged[:old]), size, now, proof)
    assert not verify_consistency(old, before, size, now, [*proof, now])
    assert not verify_consistency(old, before, old - 1, now, proof)
    assert not verify_consistency(-1, before, size, now, proof)
    if proof:
        assert not verify_consistency(old, before, size, now, proof[:-1])
        assert not verify_consistency(old, before, size, now, [*proof[:-1], proof[-1][:31]])
        assert not verify_consistency(old, before, size, now, [proof[0], *proof])
    if old < size:
        assert not verify_consistency(old, now, size, now, proof)
        assert not verify_consistency(old, before, size, before, proof)


def test_the_empty_tree_has_one_root_and_is_followed_by_all() -> None:
    now = root(some_leaves(3))
    assert verify_consistency(0, EMPTY_ROOT, 3, now, [])
    assert not verify_consistency(0, now, 3, now, [])
    assert not verify_consistency(0, EMPTY_ROOT, 3, now, [now])
    for old, size in ((4, 3), (-1, 3)):
        with pytest.raises(IndexError):
            consistency_proof(node_in(levels(some_leaves(3))), old, size)
    with pytest.raises(IndexError):
        inclusion_proof(node_in([]), 0, 0)


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


def test_a_promise_may_name_the_ledger_that_followed_a_lost_one_and_no_other_countrys() -> None:
    [line] = some_lines(1)
    made = make_promise([line], KEY, iss="bi/operator", at=1, domain="bi", origin="bi.umuhuza/log2")
    assert verify_promise(line, 0, made.paths[0], made.jws, KEY.public, "bi").origin == "bi.umuhuza/log2"
    for other in ("tn.umuhuza/log2", "bi.umuhuza/log1", "bi.umuhuza/log02", "bi.umuhuza/logs"):
        made = make_promise([line], KEY, iss="bi/operator", at=1, domain="bi", origin=other)
        with pytest.raises(LogError, match="root_mismatch"):
            verify_promise(line, 0, made.paths[0], made.jws, KEY.public, "bi")


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
