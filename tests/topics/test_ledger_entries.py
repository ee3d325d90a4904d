# SPDX-License-Identifier: Apache-2.0
"""Ledger entries and batches: one text for one value, and nothing else is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import CODES, LogError
from schemas.keys import b64url, signature_twin, unb64url
from tests.domain import Domain
from topics.ledger_entries import (
    ENTRY_KINDS,
    MAX_BATCH_BYTES,
    MAX_ENTRY_BYTES,
    MAX_OFFSET,
    Batch,
    LedgerEntry,
    decode_batch,
    decode_entry,
    l1_sha256_of,
)
from topics.log import MAX_VALUE_BYTES
from topics.proofs import leaf_hash

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "entries.json").read_text(encoding="ascii")
)["vectors"]
HASHES = st.binary(min_size=32, max_size=32)
TOPICS = st.sampled_from(("bi.case.iom", "tn.referral.k7t4", "bi.receipt." + "a-" * 15 + "b1", "bi.alert.0"))
NUMBERS = st.integers(0, MAX_OFFSET)


def read_or_code(read: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return read(data)
    except LogError as error:
        return error.code


@st.composite
def entries(draw: st.DrawFn) -> LedgerEntry:
    kind = draw(st.sampled_from(ENTRY_KINDS))
    if kind == "registry":
        return LedgerEntry(kind, value_sha256=draw(HASHES), detail=str(draw(NUMBERS)))
    topic = draw(TOPICS)
    if kind == "retention":
        return LedgerEntry(kind, topic, detail=str(draw(NUMBERS)))
    offset = draw(NUMBERS)
    if kind == "erased":
        return LedgerEntry(kind, topic, offset, l1_sha256=draw(HASHES))
    previous = draw(st.none() | st.integers(0, offset - 1)) if offset else None
    if kind == "gap":
        return LedgerEntry(kind, topic, offset, previous, detail=str(draw(st.integers(offset, MAX_OFFSET))))
    l1 = draw(st.none() | HASHES) if kind == "reject" else draw(HASHES)
    detail = draw(st.sampled_from(sorted(CODES))) if kind == "reject" else None
    return LedgerEntry(kind, topic, offset, previous, draw(HASHES), l1, detail)


@given(entries())
def test_what_is_written_is_read_again_and_stays_small(entry: LedgerEntry) -> None:
    text = entry.encode()
    assert decode_entry(text) == entry
    assert text.count(b"\n") == 8
    assert len(text) <= MAX_ENTRY_BYTES
    assert len(text.split(b"\n")[6]) in (1, 64), "the seventh line is header.payload's hash"


@given(entries(), st.data())
def test_an_entry_with_one_character_changed_is_another_entry_or_none(entry: LedgerEntry, data: st.DataObject) -> None:
    text = bytearray(entry.encode())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[place]))
    other = read_or_code(decode_entry, bytes(text))
    if isinstance(other, LedgerEntry):
        assert other != entry
        assert other.encode() == bytes(text), "two texts for one value"
    else:
        assert other == "log_inconsistent"


@given(st.binary(max_size=700))
def test_noise_is_refused_by_its_code(noise: bytes) -> None:
    assert read_or_code(decode_entry, noise) == "log_inconsistent"
    assert read_or_code(decode_batch, noise) == "log_inconsistent"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["id"]))
def test_the_golden_vectors_hold(vector: dict[str, Any]) -> None:
    text = vector["input"].encode("latin-1")
    if vector["result"] == "ok":
        entry = decode_entry(text)
        assert entry.encode() == text
        assert leaf_hash(text).hex() == vector["leaf"]
        assert [entry.kind, entry.topic, entry.offset, entry.previous, entry.detail] == vector["read"]
        return
    with pytest.raises(LogError) as caught:
        decode_entry(text)
    assert (caught.value.code, caught.value.path) == (vector["result"], vector["path"])


def test_an_entry_that_breaks_the_table_cannot_be_made() -> None:
    event = LedgerEntry("event", "bi.case.iom", 5, 4, bytes(32), bytes(32))
    event.encode()
    for wrong in (
        replace(event, l1_sha256=None),
        replace(event, detail="seq_gap"),
        replace(event, previous=5),
        replace(event, topic="bi.case.iom\n"),
        replace(event, offset=MAX_OFFSET + 1),
        replace(event, value_sha256=bytes(31)),
        LedgerEntry("reject", "bi.case.iom", 5, 4, bytes(32), None, "7"),
        LedgerEntry("gap", "bi.case.iom", 5, 4, detail="4"),
        LedgerEntry("registry", "bi.case.iom", value_sha256=bytes(32), detail="1"),
    ):
        with pytest.raises(ValueError, match="not an entry"):
            wrong.encode()


def test_a_signature_twin_has_the_same_seventh_line() -> None:
    record = Domain().record()
    line1, _, body = record.value.partition(b"\n")
    signed, _, signature = line1.decode("ascii").rpartition(".")
    twin = f"{signed}.{b64url(signature_twin(unb64url(signature)))}".encode("ascii") + b"\n" + body
    assert twin != record.value
    assert l1_sha256_of(twin) == l1_sha256_of(record.value)
    assert l1_sha256_of(record.value) == hashlib.sha256(line1[: line1.rindex(b".")]).digest()
    for no_record in (b"", b"a.b", b"a.b.c.d\nbody", b"\xff\xfe"):
        assert l1_sha256_of(no_record) is None


@given(st.integers(0, MAX_OFFSET), HASHES, st.lists(entries().map(LedgerEntry.encode), min_size=1, max_size=5))
def test_a_batch_is_read_as_it_was_written(first: int, root: bytes, some: list[bytes]) -> None:
    data = Batch(first, root, tuple(some)).encode()
    assert decode_batch(data) == Batch(first, root, tuple(some))
    with pytest.raises(LogError):
        decode_batch(data + b"\x00")


def test_a_full_batch_fits_into_one_record_of_kafka() -> None:
    assert MAX_BATCH_BYTES + MAX_ENTRY_BYTES + 200 < MAX_VALUE_BYTES


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"umuhuza-batch/2\n0\n" + b"A" * 43 + b"\n1\n\x00\x01a", "batch.version"),
        (b"umuhuza-batch/1\n01\n" + b"A" * 43 + b"\n1\n\x00\x01a", "batch.first_index"),
        (b"umuhuza-batch/1\n0\n" + b"A" * 42 + b"B\n1\n\x00\x01a", "batch.previous_root"),
        (b"umuhuza-batch/1\n0\n" + b"A" * 43 + b"\n0\n", "batch.count"),
        (b"umuhuza-batch/1\n0\n" + b"A" * 43 + b"\n1\n\x00\x05abc", "batch.entries"),
        (b"umuhuza-batch/1\n0\n" + b"A" * 43 + b"\n2\n\x00\x01a", "batch.entries"),
    ],
)
def test_a_batch_that_is_none_says_where(data: bytes, path: str) -> None:
    with pytest.raises(LogError) as caught:
        decode_batch(data)
    assert (caught.value.code, caught.value.path) == ("log_inconsistent", path)
