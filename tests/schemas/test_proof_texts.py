# SPDX-License-Identifier: Apache-2.0
"""Receipts (tlog-proof) and requests to witnesses (add-checkpoint): one text for one value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import LogError
from schemas.notes import b64
from schemas.proof_texts import AddCheckpoint, TlogProof, read_add_checkpoint, read_tlog_proof

HASH = bytes(range(32))
LINE = b64(HASH)
CHECKPOINT = b"origin\n7\nroot\n\nsignatures\n"

hashes = st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple)
sizes = st.integers(0, 2**63 - 1)


@given(sizes, hashes, st.binary(max_size=200), st.one_of(st.none(), st.binary(max_size=200)))
def test_a_receipt_is_read_as_it_was_written(
    index: int, path: tuple[bytes, ...], checkpoint: bytes, extra: bytes | None
) -> None:
    proof = TlogProof(index, path, checkpoint, extra)
    assert read_tlog_proof(proof.dumps()) == proof


@given(sizes, hashes, st.binary(max_size=200))
def test_a_request_is_read_as_it_was_written(old: int, path: tuple[bytes, ...], checkpoint: bytes) -> None:
    request = AddCheckpoint(old, path, checkpoint)
    assert read_add_checkpoint(request.dumps()) == request


def test_both_have_the_form_of_their_standard() -> None:
    assert TlogProof(5, (HASH,), CHECKPOINT, b"x").dumps() == (
        f"c2sp.org/tlog-proof@v1\nextra eA==\nindex 5\n{LINE}\n\norigin\n7\nroot\n\nsignatures\n".encode()
    )
    assert TlogProof(0, (), CHECKPOINT).dumps() == b"c2sp.org/tlog-proof@v1\nindex 0\n\n" + CHECKPOINT
    assert AddCheckpoint(0, (), CHECKPOINT).dumps() == b"old 0\n\n" + CHECKPOINT


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "proof"),
        ("c2sp.org/tlog-proof@v1\nindex 0\n", "proof"),
        ("c2sp.org/tlog-proof@v2\nindex 0\n\nc\n", "proof.header"),
        ("c2sp.org/tlog-proof@v1\r\nindex 0\n\nc\n", "proof"),
        ("c2sp.org/tlog-proof@v1\nextra eA\nindex 0\n\nc\n", "proof.extra"),
        ("c2sp.org/tlog-proof@v1\nextra eB==\nindex 0\n\nc\n", "proof.extra"),
        ("c2sp.org/tlog-proof@v1\nextra eA==\nextra eA==\nindex 0\n\nc\n", "proof.index"),
        ("c2sp.org/tlog-proof@v1\nindex 0\nextra eA==\n\nc\n", "proof.path[0]"),
        ("c2sp.org/tlog-proof@v1\n\nc\n", "proof.index"),
        ("c2sp.org/tlog-proof@v1\nindex\n\nc\n", "proof.index"),
        ("c2sp.org/tlog-proof@v1\nindex 00\n\nc\n", "proof.index"),
        ("c2sp.org/tlog-proof@v1\nindex -1\n\nc\n", "proof.index"),
        ("c2sp.org/tlog-proof@v1\nindex 9223372036854775808\n\nc\n", "proof.index"),
        (f"c2sp.org/tlog-proof@v1\nindex 0\n{LINE[:-1]}\n\nc\n", "proof.path[0]"),
        (f"c2sp.org/tlog-proof@v1\nindex 0\n{LINE}\nAAAA\n\nc\n", "proof.path[1]"),
        (f"c2sp.org/tlog-proof@v1\nindex 0\n{LINE} \n\nc\n", "proof.path[0]"),
        ("c2sp.org/tlog-proof@v1\nindex 0\n" + f"{LINE}\n" * 64 + "\nc\n", "proof.path"),
    ],
)
def test_what_is_no_receipt_is_refused_where_it_is_wrong(text: str, path: str) -> None:
    with pytest.raises(LogError) as caught:
        read_tlog_proof(text.encode())
    assert (caught.value.code, caught.value.path) == ("note_malformed", path)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "request"),
        ("old 0\nc\n", "request"),
        ("old\n\nc\n", "request.old"),
        ("old x\n\nc\n", "request.old"),
        ("old 01\n\nc\n", "request.old"),
        ("old 9223372036854775808\n\nc\n", "request.old"),
        ("new 0\n\nc\n", "request.old"),
        (f"{LINE}\nold 0\n\nc\n", "request.old"),
        ("old 0\nnot base64\n\nc\n", "request.path[0]"),
        ("old 0\n" + f"{LINE}\n" * 64 + "\nc\n", "request.path"),
    ],
)
def test_what_is_no_request_is_refused_where_it_is_wrong(text: str, path: str) -> None:
    with pytest.raises(LogError) as caught:
        read_add_checkpoint(text.encode())
    assert (caught.value.code, caught.value.path) == ("note_malformed", path)


def test_nothing_without_end_is_read() -> None:
    for read in (read_tlog_proof, read_add_checkpoint):
        with pytest.raises(LogError) as caught:
            read(b"\n" * (1 << 20))
        assert caught.value.code == "too_large"
    with pytest.raises(LogError) as caught:
        read_tlog_proof(TlogProof(0, (), CHECKPOINT, bytes(65 * 1024)).dumps())
    assert (caught.value.code, caught.value.path) == ("too_large", "proof.extra")
