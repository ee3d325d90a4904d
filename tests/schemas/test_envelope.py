# SPDX-License-Identifier: Apache-2.0
"""Records: what is signed and sealed comes back, and nothing that was touched does."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import envelope
from schemas.envelope import (
    FLOWS,
    MAX_RECORD_BYTES,
    PADDED_SIZES,
    Acts,
    Kind,
    Manifest,
    Part,
    chain_hash,
    check_copies,
    cloudevents_headers,
    is_evt,
    is_ident,
    mailbox_topic,
    new_evt,
    new_thread,
    parse_manifest,
    parse_record,
    record_value,
    sign_manifest,
    split_topic,
)
from schemas.errors import RecordError
from schemas.keys import CLASSICAL, HYBRID, SealingKey, SigningKey, Suite, b64url, signature_twin, unb64url
from schemas.sealing import make_grant, open_grant, open_parts, pad, parse_grant, seal_parts
from tests.domain import NOW, Domain, seeded

calm = settings(derandomize=True, database=None, deadline=None, max_examples=60)
KEY = SigningKey.generate(seeded("envelope"))
DOMAIN = Domain("envelope")
SIGNED = DOMAIN.record(kind="control", identity=b"", content=b'{"type":"receipt.delivered"}')


def hashes() -> st.SearchStrategy[str]:
    return st.binary(min_size=32, max_size=32).map(b64url)


def agencies() -> st.SearchStrategy[str]:
    return st.from_regex(envelope._AGENCY, fullmatch=True)


def evts() -> st.SearchStrategy[str]:
    return st.builds(lambda at, seed: new_evt(at, seeded(str(seed))), st.integers(0, 2**48 - 1), st.integers(0, 2**64))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Any manifest that may be."""
    integers = st.integers(1, 2**53 - 1)
    to, kind = draw(agencies()), draw(st.sampled_from(get_args(Kind)))
    names = [
        "identity",
        "content",
        *draw(st.lists(st.from_regex(r"[a-z][0-9-]{1,6}", fullmatch=True), max_size=3, unique=True)),
    ]
    seq = draw(integers)
    voids = draw(st.lists(st.integers(1, seq - 1), max_size=5, unique=True)) if seq > 1 else []
    targets = st.lists(st.builds("{}/{}".format, agencies(), evts()), max_size=2, unique=True).map(tuple)
    acts = Acts(draw(targets), draw(targets)) if kind == "control" else Acts()
    return Manifest(
        evt=draw(evts()),
        iss=draw(agencies()),
        to=to,
        topic=mailbox_topic(draw(st.sampled_from(FLOWS)), to),
        kind=kind,
        thread=b64url(draw(st.binary(min_size=16, max_size=16))),
        seq=seq,
        prev="" if seq == 1 else draw(hashes()),
        iat=draw(integers),
        reg=draw(st.integers(0, 2**53 - 1)),
        parts=tuple(Part(name, draw(hashes()), draw(integers), draw(hashes())) for name in names),
        acts=None if acts == Acts() else acts,
        training=draw(st.booleans()),
        ref=draw(st.none() | evts()),
        voids=tuple(sorted(voids)),
        answer_by=draw(st.none() | integers),
        agreement=draw(st.none() | st.from_regex(envelope._AGREEMENT, fullmatch=True)),
    )


def refusal(value: bytes) -> str | None:
    """The code with which a reader that knows the issuer's key refuses these bytes; None when it takes them."""
    try:
        record = parse_record(value)
        record.verify(DOMAIN.members["bi/iom"].sig.public)
        record.verify_body()
    except RecordError as error:
        return error.code
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Manifests


@calm
@given(manifests())
def test_a_signed_manifest_reads_as_what_was_signed(manifest: Manifest) -> None:
    line1 = sign_manifest(manifest, KEY)
    kid, signed, signature, read = parse_manifest(line1)
    assert read == manifest
    assert kid == KEY.kid
    assert KEY.public.verifies(signed, signature)
    assert line1 == signed + b"." + b64url(signature).encode()


@calm
@given(
    st.sampled_from(["evt", "iss", "to", "thread", "topic"]),
    st.text(max_size=40) | st.sampled_from(["\n", "bi/iom\n", ""]),
)
def test_a_wrong_text_is_reported_under_its_own_name(member: str, text: str) -> None:
    """The combined pattern and the members' own patterns say the same."""
    changes: dict[str, Any] = {member: text}
    with pytest.raises(RecordError) as caught:
        parse_manifest(sign_manifest(replace(SIGNED.manifest, **changes), KEY))
    well_formed = envelope._TEXTS[member].fullmatch(text) is not None
    assert well_formed or caught.value.path == f"L1.{member}"


def test_texts_with_line_feeds_cannot_pass_for_others() -> None:
    """Members are matched joined by LF: none may bring an LF of its own."""
    m = SIGNED.manifest
    wrong = {"evt": f"{m.evt}\n{m.iss}", "iss": f"{m.iss}\n{m.to}", "thread": f"{m.thread}\n", "topic": f"\n{m.topic}"}
    for member, text in wrong.items():
        changes: dict[str, Any] = {member: text}
        with pytest.raises(RecordError) as caught:
            parse_manifest(sign_manifest(replace(m, **changes), KEY))
        assert caught.value.path == f"L1.{member}"


def test_a_manifest_over_8_kib_is_not_signed() -> None:
    targets = tuple(f"bi/iom/{new_evt(n, seeded(str(n)))}" for n in range(50))
    with pytest.raises(RecordError) as caught:
        sign_manifest(
            replace(SIGNED.manifest, acts=Acts(targets, targets), seq=600, prev="A" * 43, voids=tuple(range(1, 500))),
            KEY,
        )
    assert (caught.value.code, caught.value.path) == ("too_large", "L1")


# ---------------------------------------------------------------------------------------------------------------------
# Touched bytes


@pytest.mark.parametrize("bit", [0x01, 0x20, 0x80])
def test_no_single_bit_of_a_record_can_be_changed(bit: int) -> None:
    """Every byte of it: refused, whichever bit flips. (The signature's twin differs in more than one bit.)"""
    value = SIGNED.value
    assert refusal(value) is None
    codes = set()
    for at in range(len(value)):
        code = refusal(value[:at] + bytes([value[at] ^ bit]) + value[at + 1 :])
        assert code is not None, at
        codes.add(code)
    assert codes <= {
        "record_malformed",
        "header_forbidden",
        "signature_invalid",
        "part_digest_mismatch",
        "topic_mismatch",
        "version_unsupported",
    }
    assert bit == 0x80 or {"signature_invalid", "part_digest_mismatch"} <= codes


@settings(calm, max_examples=200)
@given(st.integers(0, len(SIGNED.value)), st.binary(max_size=3), st.integers(0, 3))
def test_no_bytes_can_be_put_in_or_taken_out(at: int, put: bytes, taken: int) -> None:
    value = SIGNED.value[:at] + put + SIGNED.value[at + taken :]
    assert value == SIGNED.value or refusal(value) is not None


@settings(calm, max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_garbage_is_refused_with_a_code(data: bytes) -> None:
    assert refusal(data) == "record_malformed"
    assert refusal(data + b"\n" + data) == "record_malformed"


def test_the_signature_twin_is_the_same_record() -> None:
    record = parse_record(SIGNED.value)
    twin_line = record.signed + b"." + b64url(signature_twin(record.signature)).encode()
    twin = parse_record(record_value(twin_line, SIGNED.value.partition(b"\n")[2]))
    twin.verify(DOMAIN.members["bi/iom"].sig.public)
    assert twin.value != record.value
    assert (twin.digest, twin.manifest.ident) == (record.digest, record.manifest.ident)
    assert chain_hash(twin_line) == chain_hash(record.signed) == b64url(record.digest)


def test_another_agency_did_not_sign_it() -> None:
    record = parse_record(SIGNED.value)
    for member in ("bi/police", "bi/k7t4"):
        with pytest.raises(RecordError) as caught:
            record.verify(DOMAIN.members[member].sig.public)
        assert caught.value.code == "signature_invalid"


# ---------------------------------------------------------------------------------------------------------------------
# Sealing


@calm
@given(
    st.sampled_from(get_args(Kind)),
    st.binary(max_size=3000).filter(lambda data: not data.endswith(b" ")),
    st.sampled_from([0, 1, 1023, 1024, 1025, 4096, 4097, 16_384, 16_385, 65_536]),
)
def test_what_is_sealed_opens_again_with_its_padding(kind: Kind, identity: bytes, size: int) -> None:
    made = DOMAIN.record(kind=kind, identity=identity, content=b"x" * size, chain=False, seq=1, prev="")
    record = parse_record(made.value)
    record.verify(DOMAIN.members["bi/iom"].sig.public)
    record.verify_body()
    opened = open_parts(record, open_grant(record, made.grants[0], DOMAIN.members["bi/k7t4"].seal))
    assert opened["identity"].rstrip(b" ") == identity
    assert opened["content"].rstrip(b" ") == b"x" * size
    assert all(len(data) in PADDED_SIZES for data in opened.values())


@calm
@given(st.integers(0, 262_144), st.booleans())
def test_padding_goes_to_the_next_allowed_size_only(size: int, small: bool) -> None:
    padded = pad(b"x" * size, small)
    allowed = PADDED_SIZES if small else PADDED_SIZES[1:]
    assert len(padded) == min(allowed_size for allowed_size in allowed if allowed_size >= size)
    assert padded == b"x" * size + b" " * (len(padded) - size)


def test_a_yes_and_a_no_an_adult_and_a_child_look_alike() -> None:
    def sizes(identity: bytes, content: bytes) -> tuple[list[int], int]:
        made = DOMAIN.record(kind="answer", identity=identity, content=content, chain=False, seq=1, prev="")
        return [part.len for part in made.manifest.parts], len(made.value)

    assert sizes(b"", b'{"type":"referral.accepted"}') == sizes(b"", b'{"type":"referral.declined","reason":"no bed"}')
    adult, child = (
        f'{{"birthDate":"{year}","guardian":"{text}"}}'.encode() for year, text in ((1990, ""), (2015, "x" * 300))
    )
    assert sizes(adult, b"{}") == sizes(child, b"{}")


@pytest.mark.parametrize(
    ("plaintexts", "code"),
    [
        ({"identity": b"", "content": b"x" * 262_145}, "too_large"),
        ({"identity": b"x" * 262_144, "content": b"x" * 262_144, "a": b"x" * 262_144}, "too_large"),
        ({"content": b"", "identity": b""}, "record_malformed"),
        ({"identity": b""}, "record_malformed"),
        ({"identity": b"", "content": b""} | {f"a{n}": b"" for n in range(31)}, "record_malformed"),
    ],
)
def test_what_does_not_fit_is_refused_loudly(plaintexts: dict[str, bytes], code: str) -> None:
    with pytest.raises(RecordError) as caught:
        seal_parts(SIGNED.manifest.ident, "request", plaintexts, seeded("seal"))
    assert caught.value.code == code


def test_a_record_over_900_000_bytes_is_not_made() -> None:
    with pytest.raises(RecordError) as caught:
        record_value(b"x", b"y" * (MAX_RECORD_BYTES - 1))
    assert caught.value.code == "too_large"
    assert len(record_value(b"x", b"y" * (MAX_RECORD_BYTES - 2))) == MAX_RECORD_BYTES


def test_only_the_parts_asked_for_are_opened() -> None:
    record = parse_record(SIGNED.value)
    assert list(open_parts(record, SIGNED.keys, ["content"])) == ["content"]
    content = {"content": SIGNED.keys["content"]}
    assert list(open_parts(record, content)) == ["content"]
    with pytest.raises(RecordError) as caught:
        open_parts(record, content, ["identity"])
    assert (caught.value.code, caught.value.path) == ("grant_missing", "L2[0]")


def test_keys_are_not_shown() -> None:
    sealed = seal_parts(SIGNED.manifest.ident, "control", {"identity": b"", "content": b""}, seeded("repr"))
    assert repr(sealed) == "Sealed(['identity', 'content'])"


# ---------------------------------------------------------------------------------------------------------------------
# Grants


@pytest.mark.parametrize("suite", [HYBRID, CLASSICAL])
def test_a_grant_opens_with_its_own_key_only(suite: Suite) -> None:
    record = parse_record(SIGNED.value)
    right = SealingKey.generate(seeded(f"right/{suite}"), suite)
    grant = make_grant(record.manifest, SIGNED.keys, "bi/k7t4", right.public)
    assert open_grant(record, grant, right) == SIGNED.keys
    for seed in range(5):
        wrong = SealingKey.generate(seeded(f"wrong/{suite}/{seed}"), suite)
        renamed = grant.replace(right.kid.encode(), wrong.kid.encode())
        for data in (grant, renamed):
            with pytest.raises(RecordError) as caught:
                open_grant(record, data, wrong)
            assert caught.value.code == "grant_unopenable"


@settings(calm, max_examples=100)
@given(st.data())
def test_no_byte_of_a_grant_can_be_changed(data: st.DataObject) -> None:
    grant = SIGNED.grants[0]
    at = data.draw(st.integers(0, len(grant) - 1))
    changed = grant[:at] + bytes([data.draw(st.integers(0, 255).filter(lambda b: b != grant[at]))]) + grant[at + 1 :]
    record, key = parse_record(SIGNED.value), DOMAIN.members["bi/k7t4"].seal
    code = None
    try:
        opened = open_grant(record, changed, key)
    except RecordError as error:
        code = error.code
    assert code in (None, "record_malformed", "version_unsupported", "grant_unopenable")
    if code is None:  # rcpt only says where the grant is kept
        before, after = parse_grant(grant), parse_grant(changed)
        assert replace(after, rcpt=before.rcpt) == before
        assert opened == SIGNED.keys


# ---------------------------------------------------------------------------------------------------------------------
# Identifiers and copies


@calm
@given(st.integers(0, 2**48 - 2), st.integers(1, 1000), st.integers(0, 2**32))
def test_event_ids_sort_by_time(at: int, later: int, seed: int) -> None:
    random = seeded(str(seed))
    first, second = new_evt(at, random), new_evt(min(at + later, 2**48 - 1), random)
    assert first < second
    assert is_evt(first)
    assert int(first.replace("-", "")[:12], 16) == at


def test_event_ids_of_one_millisecond_differ() -> None:
    random = seeded("evt")
    assert len({new_evt(NOW * 1000, random) for _ in range(1000)}) == 1000
    assert new_evt(0, lambda n: b"\xff" * n) == "00000000-0000-7fff-bfff-ffffffffffff"
    assert new_evt(0, lambda n: bytes(n)) == "00000000-0000-7000-8000-000000000000"


def test_threads_are_128_random_bits() -> None:
    assert len(unb64url(new_thread(seeded("thread")))) == 16


def test_no_thread_of_ours_looks_like_an_option_on_a_command_line() -> None:
    drawn = iter([b"\xf8" + bytes(15), b"\xfb" + bytes(15), bytes(16)])
    assert new_thread(lambda size: next(drawn)) == b64url(bytes(16))


@calm
@given(st.sampled_from(FLOWS), agencies())
def test_a_mailbox_topic_says_whose_it_is(flow: str, agency: str) -> None:
    assert split_topic(mailbox_topic(flow, agency)) == (flow, agency)


def test_identifiers_are_checked_whole() -> None:
    evt = SIGNED.manifest.evt
    assert is_ident(f"bi/iom/{evt}")
    for wrong in (evt, f"iom/{evt}", f"bi/iom/{evt}\n", f"bi/iom/{evt.upper()}", f"bi/iom//{evt}", "", "/"):
        assert not is_ident(wrong)
    with pytest.raises(RecordError, match="topic_mismatch"):
        split_topic("bi.referral.k7t4\n")


def test_the_logs_copies_must_match_the_manifest() -> None:
    record = parse_record(SIGNED.value)
    m = record.manifest
    headers, key = cloudevents_headers(m), m.thread.encode()
    check_copies(record, m.topic, key, headers)
    check_copies(record, m.topic, key, [*headers, ("traceparent", b"00-1")])
    wrong_id = [(name, b"x" if name == "ce_id" else value) for name, value in headers]
    for topic, thread, copies, code in (
        ("bi.case.k7t4", key, headers, "topic_mismatch"),
        (m.topic, b"", headers, "key_mismatch"),
        (m.topic, key, wrong_id, "header_mismatch"),
    ):
        with pytest.raises(RecordError) as caught:
            check_copies(record, topic, thread, copies)
        assert caught.value.code == code
    assert re.fullmatch(r"referral\.control", dict(headers)["ce_type"].decode())
