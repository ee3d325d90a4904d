# SPDX-License-Identifier: Apache-2.0
"""Bundles: what was put on a stick comes off it as it was, or not at all; and a stick that is found tells nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.bundle import (
    MAX_LINES,
    PADDED_SIZES,
    BundleKind,
    CarriedRecord,
    Contents,
    Head,
    Places,
    Want,
    open_bundle,
    room_for,
    seal_bundle,
    seal_plaintext,
    size_of,
)
from schemas.errors import LogError, RecordError, UmuhuzaError
from schemas.keys import b64url
from tests.domain import NOW
from tests.vectors.making import SEALERS, SIGNERS, Vector

READER, STRANGER, HYBRID_READER = SEALERS["police"], SEALERS["police-next"], SEALERS["k7t4"]
DOCUMENT = json.loads((Path(__file__).parent.parent / "vectors" / "bundles.json").read_text(encoding="ascii"))
HEAD = Head("019a2a7e-3400-7000-8000-000000000001", "request", "bi/k7t4", "bi/operator", NOW)


@pytest.mark.parametrize("vector", DOCUMENT["vectors"], ids=[one["id"] for one in DOCUMENT["vectors"]])
def test_a_bundle_is_read_or_refused_as_its_vector_says(vector: Vector) -> None:
    told: tuple[str, str | None] = ("ok", None)
    words = ""
    try:
        found = open_bundle(seal_plaintext(vector["input"].encode(), READER.public), [READER])
        found.verify(SIGNERS["k7t4"].public)
        assert found.head.kind == vector["kind"]
        assert len(list(found.contents.lines())) == vector.get("lines", len(list(found.contents.lines())))
    except UmuhuzaError as exc:
        told, words = (exc.code, exc.path), exc.describe("fr") + repr(exc)
    assert DOCUMENT["planted"] not in words
    assert told == (vector["result"], vector["path"])


# -- the file ----------------------------------------------------------------------------------------------------------

GOOD = seal_bundle(HEAD, Contents(want=Want(), records=(CarriedRecord(b"a", ()),)), SIGNERS["k7t4"], READER.public)


def flipped(place: int) -> Callable[[bytes], bytes]:
    def spoil(data: bytes) -> bytes:
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return spoil


def rehashed(data: bytes) -> bytes:
    spoilt = flipped(100_000)(data)[:-32]
    return spoilt + hashlib.sha256(spoilt).digest()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda data: data[:-1], "bundle_damaged"),
        (lambda data: data[: len(data) // 2], "bundle_damaged"),
        (lambda data: data[:25], "bundle_damaged"),
        (lambda data: data[:15], "bundle_damaged"),
        (lambda data: data[:9], "bundle_damaged"),
        (lambda data: data + b" ", "bundle_damaged"),
        (lambda data: b"", "bundle_malformed"),
        (flipped(100_000), "bundle_damaged"),
        (flipped(len(GOOD) - 1), "bundle_damaged"),
        (flipped(20), "bundle_damaged"),
        (flipped(0), "bundle_malformed"),
        (flipped(15), "version_unsupported"),
        (rehashed, "bundle_unopenable"),
    ],
    ids=[
        "last-byte",
        "half",
        "suite",
        "name-cut",
        "name",
        "longer",
        "empty",
        "flip",
        "flip-hash",
        "flip-suite",
        "foreign",
        "version",
        "rehashed",
    ],
)
def test_a_copy_that_is_not_whole_is_told_from_a_bundle_for_somebody_else(
    spoil: Callable[[bytes], bytes], code: str
) -> None:
    with pytest.raises((LogError, RecordError)) as refused:
        open_bundle(spoil(GOOD), [READER])
    assert (refused.value.code, refused.value.path) == (code, "file")


def test_it_opens_for_the_key_it_is_sealed_to_and_for_no_other() -> None:
    assert open_bundle(GOOD, [HYBRID_READER, STRANGER, READER]).head == HEAD
    with pytest.raises(LogError, match="bundle_unopenable"):
        open_bundle(GOOD, [HYBRID_READER, STRANGER])
    with pytest.raises(LogError, match="bundle_unopenable"):
        open_bundle(GOOD, [])


def test_whose_it_is_only_its_signature_says() -> None:
    found = open_bundle(GOOD, [READER])
    found.verify(SIGNERS["k7t4"].public)
    with pytest.raises(RecordError, match="signature_invalid"):
        found.verify(SIGNERS["iom"].public)


def test_a_stick_that_is_found_tells_neither_who_nor_to_whom_nor_how_many() -> None:
    def file(count: int, iss: str, to: str, by: str = "k7t4") -> bytes:
        head = Head(HEAD.ident, "direct", iss, to, NOW)
        records = tuple(CarriedRecord(b"r" * 9000, ()) for _ in range(count))
        return seal_bundle(head, Contents(records=records), SIGNERS[by], HYBRID_READER.public)

    one, other = file(0, "bi/iom", "bi/k7t4"), file(20, "bi/min-solidarity", "bi/r5w2", "police")
    assert len(one) == len(other)
    outside = one.index(b"\n", one.index(b"\n") + 1) + 1
    assert one[:outside] == other[:outside] == b"umuhuza-bundle/1\n647a-0011-0002\n"
    for told in (b"bi/iom", b"k7t4", HYBRID_READER.kid.encode(), SIGNERS["k7t4"].kid.encode()):
        assert told not in one
    assert len(file(40, "bi/iom", "bi/k7t4")) == len(one) + PADDED_SIZES[1] - PADDED_SIZES[0]


def test_what_does_not_fit_is_refused_and_whether_it_fits_can_be_asked_before() -> None:
    record = CarriedRecord(b"r" * 900_000, ())
    size = size_of("record", record.to_json())
    assert room_for(13 * size)
    assert not room_for(14 * size)
    with pytest.raises(LogError, match="too_large"):
        seal_bundle(HEAD, Contents(want=Want(), records=(record,) * 14), SIGNERS["k7t4"], READER.public)
    with pytest.raises(LogError, match="too_large"):
        seal_bundle(HEAD, Contents(records=(CarriedRecord(b"", ()),) * (MAX_LINES + 1)), SIGNERS["k7t4"], READER.public)


# -- any ---------------------------------------------------------------------------------------------------------------

TOPIC = st.sampled_from(["bi.referral.k7t4", "bi.receipt.k7t4", "bi.case.iom"])
HASH = st.binary(min_size=32, max_size=32).map(b64url)
OFFSETS = st.dictionaries(TOPIC, st.integers(-1, 2**53 - 1))
LOG_ID = st.text("abcXYZ019_-", min_size=1, max_size=64)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=4,
)
RECORDS = st.lists(
    st.builds(
        CarriedRecord,
        st.text(st.characters(max_codepoint=127)).map(lambda text: text.encode("ascii")),
        st.lists(JSON, max_size=2).map(tuple),
    ),
    max_size=4,
).map(tuple)
WANTS = st.builds(
    Want, st.dictionaries(LOG_ID, OFFSETS, max_size=2), st.lists(HASH, max_size=3).map(tuple), st.just("0" * 64)
)
TEXT = st.text(st.characters(codec="utf-8")).map(lambda text: text.encode("utf-8"))
OBJECTS = st.lists(st.dictionaries(st.text("abc"), JSON, max_size=3), max_size=2).map(tuple)


@st.composite
def places(draw: st.DrawFn) -> Places:
    after = draw(OFFSETS)
    ends = {}
    for topic in after:
        first = draw(st.integers(0, 1000))
        ends[topic] = (first, first + draw(st.integers(0, 1000)))
    return Places(draw(LOG_ID), after, ends, draw(st.booleans()))


CONTENTS = (
    st.tuples(st.just("request"), st.builds(Contents, want=WANTS, records=RECORDS))
    | st.tuples(
        st.just("answer"),
        st.builds(
            Contents,
            log=places(),
            answers=OBJECTS,
            mail=OBJECTS,
            receipts=st.dictionaries(HASH, TEXT, max_size=2),
            registry=st.none() | TEXT,
            checkpoint=st.none() | TEXT,
        ),
    )
    | st.tuples(st.just("direct"), st.builds(Contents, records=RECORDS, registry=st.none() | TEXT))
)


@given(CONTENTS, st.booleans())
@settings(max_examples=60)
def test_what_was_put_in_comes_out(several: tuple[BundleKind, Contents], training: bool) -> None:
    kind, contents = several
    head = Head(HEAD.ident, kind, "bi/k7t4", "bi/iom", NOW, training)
    found = open_bundle(seal_bundle(head, contents, SIGNERS["k7t4"], READER.public), [READER])
    found.verify(SIGNERS["k7t4"].public)
    assert (found.head, found.contents) == (head, contents)


@given(st.binary(max_size=400))
@settings(max_examples=60)
def test_whatever_somebody_seals_is_refused_in_words_or_read(plaintext: bytes) -> None:
    with pytest.raises(UmuhuzaError) as refused:
        open_bundle(seal_plaintext(plaintext, READER.public), [READER])
    assert refused.value.path is not None
