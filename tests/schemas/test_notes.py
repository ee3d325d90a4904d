# SPDX-License-Identifier: Apache-2.0
"""Signed notes, checkpoints and cosignatures, as C2SP defines them, and what a strict reader refuses of them."""

from __future__ import annotations

import contextlib
import hashlib
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import LogError
from schemas.notes import (
    EMPTY_ROOT,
    MAX_SIGNATURES,
    Checkpoint,
    Note,
    NoteKey,
    NoteSignature,
    NoteSigner,
    SignatureType,
    is_name,
    read_checkpoint_text,
    read_note,
    read_signature_lines,
    read_skey,
    read_vkey,
    sign_checkpoint,
    verify_checkpoint,
    verify_note,
)
from tests.domain import seeded

ORIGIN = "bi.umuhuza/log"
AT = 1_793_000_000
LOG = NoteSigner.generate(ORIGIN, SignatureType.ED25519, seeded("note/log"))
LOG_PQ = NoteSigner.generate(ORIGIN, SignatureType.ML_DSA_44, seeded("note/log/pq"))
WITNESS = NoteSigner.generate("tn.umuhuza/witness", SignatureType.COSIGNATURE, seeded("note/witness"))
WITNESS_PQ = NoteSigner.generate("tn.umuhuza/witness", SignatureType.ML_DSA_44, seeded("note/witness/pq"))
SIGNERS = [LOG, LOG_PQ, WITNESS, WITNESS_PQ]
HEAD = Checkpoint(ORIGIN, 7, hashlib.sha256(b"seven").digest())
SIGNED = sign_checkpoint(HEAD, [LOG, LOG_PQ], AT)


def refused(call: object, *arguments: object) -> tuple[str, str | None]:
    assert callable(call)
    with pytest.raises(LogError) as caught:
        call(*arguments)
    return caught.value.code, caught.value.path


def test_the_example_of_gos_note_package_verifies() -> None:
    """golang.org/x/mod/sumdb/note, its documentation's example."""
    key = read_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    note = read_note(
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
        "".encode()
    )
    assert [one.key for one in verify_note(note, [key])] == [key]
    assert key.key_id == 0xC74F20A3
    altered = Note(note.text.replace("don't", "do"), note.signatures)
    assert refused(verify_note, altered, [key]) == ("signature_invalid", "note.signatures[0]")


def test_the_example_of_the_cosignature_standard_is_read_and_written_back() -> None:
    text = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE"
        "+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0x"
        "Ue+mbIUBkBIfZ+qnA==\n"
    ).encode()
    note = read_note(text)
    assert read_checkpoint_text(note.text).size == 20852163
    assert note.dumps() == text
    [time] = struct.unpack_from(">Q", note.signatures[1].signature)
    assert time == 1679315147


def test_a_checkpoint_says_who_signed_it_and_when() -> None:
    read = verify_checkpoint(SIGNED, [LOG.public, LOG_PQ.public, WITNESS.public])
    assert read.checkpoint == HEAD
    assert [(one.key, one.at) for one in read.signed] == [(LOG.public, None), (LOG_PQ.public, AT)]
    assert read.dumps() == SIGNED
    assert SIGNED.startswith(b"bi.umuhuza/log\n7\n")


def test_one_key_is_enough_to_believe_a_checkpoint_and_strangers_say_nothing() -> None:
    for known in (LOG, LOG_PQ):
        assert [one.key for one in verify_checkpoint(SIGNED, [known.public]).signed] == [known.public]
    assert refused(verify_checkpoint, SIGNED, [WITNESS.public]) == ("signature_invalid", "note.signatures")


def test_a_witness_makes_no_checkpoint_even_under_the_ledgers_name() -> None:
    same_name = NoteSigner.generate(ORIGIN, SignatureType.COSIGNATURE, seeded("note/impostor"))
    only = Note(HEAD.text, (same_name.sign(HEAD.text, AT),)).dumps()
    assert refused(verify_checkpoint, only, [same_name.public]) == ("signature_invalid", "note.signatures")
    foreign = Note(HEAD.text, (WITNESS_PQ.sign(HEAD.text, AT),)).dumps()
    assert refused(verify_checkpoint, foreign, [WITNESS_PQ.public]) == ("signature_invalid", "note.signatures")


def test_a_cosignature_covers_the_checkpoint_and_its_time_as_the_standard_writes_them() -> None:
    ed = WITNESS.sign(HEAD.text, AT)
    message = f"cosignature/v1\ntime {AT}\n".encode() + HEAD.text.encode()
    assert ed.signature[:8] == AT.to_bytes(8, "big")
    ed25519.Ed25519PublicKey.from_public_bytes(WITNESS.public.public).verify(ed.signature[8:], message)

    pq = WITNESS_PQ.sign(HEAD.text, AT)
    name, origin = b"tn.umuhuza/witness", ORIGIN.encode()
    cosigned = (
        b"subtree/v1\n\x00" + bytes([18]) + name + AT.to_bytes(8, "big") + bytes([14]) + origin
        + bytes(8) + (7).to_bytes(8, "big") + HEAD.root
    )  # fmt: skip
    assert len(pq.signature) == 8 + 2420
    mldsa.MLDSA44PublicKey.from_public_bytes(WITNESS_PQ.public.public).verify(pq.signature[8:], cosigned)


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda one: f"{one.name}-{one.kind.name}")
def test_a_signature_holds_for_one_text_one_time_and_one_name(signer: NoteSigner) -> None:
    one = signer.sign(HEAD.text, AT)
    assert signer.public.verify(HEAD.text, one.signature) == (None if signer.kind is SignatureType.ED25519 else AT)
    other_head = Checkpoint(ORIGIN, 8, HEAD.root).text
    other_origin = Checkpoint("tn.umuhuza/log", 7, HEAD.root).text
    for text in (other_head, other_origin):
        assert refused(signer.public.verify, text, one.signature)[0] == "signature_invalid"
    for spoilt in (one.signature[:-1], one.signature + b"\x00", b"", one.signature[:7], b"\xff" * len(one.signature)):
        assert refused(signer.public.verify, HEAD.text, spoilt)[0] == "signature_invalid"
    if signer.kind is not SignatureType.ED25519:
        later = (AT + 1).to_bytes(8, "big") + one.signature[8:]
        assert refused(signer.public.verify, HEAD.text, later)[0] == "signature_invalid"


def test_ml_dsa_binds_the_signers_name() -> None:
    renamed = NoteKey("bi.umuhuza/witness", SignatureType.ML_DSA_44, WITNESS_PQ.public.public)
    assert refused(renamed.verify, HEAD.text, WITNESS_PQ.sign(HEAD.text, AT).signature)[0] == "signature_invalid"


def test_a_trusted_keys_wrong_signature_refuses_the_whole_note() -> None:
    note = read_note(SIGNED)
    wrong = NoteSignature(ORIGIN, LOG.public.key_id, bytes(64))
    both = note.with_signatures([wrong])
    assert refused(verify_note, both, [LOG.public, LOG_PQ.public]) == ("signature_invalid", "note.signatures[0]")
    assert verify_note(both, [LOG_PQ.public])[0].at == AT


def test_a_newer_signature_of_one_key_takes_the_place_of_the_older() -> None:
    note = read_note(SIGNED).with_signatures([WITNESS.sign(HEAD.text, AT)])
    again = note.with_signatures([WITNESS.sign(HEAD.text, AT + 60)])
    assert len(again.signatures) == 3
    assert [one.at for one in verify_note(again, [WITNESS.public])] == [AT + 60]
    many = [NoteSignature(f"w{n}", n, b"x") for n in range(MAX_SIGNATURES)]
    assert refused(note.with_signatures, many)[0] == "too_large"


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda one: f"{one.name}-{one.kind.name}")
def test_keys_are_one_line_of_text_each_and_the_private_one_is_never_shown(signer: NoteSigner) -> None:
    assert read_vkey(signer.public.vkey) == signer.public
    again = read_skey(signer.skey)
    assert again.public == signer.public
    assert verify_note(Note(HEAD.text, (again.sign(HEAD.text, AT),)), [signer.public])
    assert signer.skey not in repr(signer)
    assert signer.skey.split("+", 4)[4] not in repr(signer)


_VKEY = LOG.public.vkey
_NAME, _ID, _KEY = _VKEY.split("+", 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        f"{_NAME}+{_ID}",
        f"{_NAME}+00000000+{_KEY}",
        f"{_NAME}+{_ID.upper()}+{_KEY}" if _ID.upper() != _ID else f"{_NAME}+x+{_KEY}",
        f"{_NAME}+{_ID[:7]}+{_KEY}",
        f"{_NAME}x+{_ID}+{_KEY}",
        f"+{_ID}+{_KEY}",
        f"{_VKEY}=",
        f"{_VKEY}\n",
        f" {_VKEY}",
        f"{_NAME}+{_ID}+{_KEY[:-4]}",
        f"{_NAME}+{_ID}+Ag==",
        f"{_NAME}+{_ID}+",
        LOG.skey,
    ],
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    assert refused(read_vkey, text) == ("note_malformed", "vkey")


@pytest.mark.parametrize("text", ["", _VKEY, LOG.skey + "=", LOG.skey[:-1], LOG.skey.replace(ORIGIN, "tn.umuhuza/log")])
def test_what_is_no_private_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(LogError) as caught:
        read_skey(text)
    assert (caught.value.code, caught.value.path) == ("note_malformed", "skey")
    assert LOG.skey[-20:-1] not in caught.value.describe()


_LINE = LOG.sign(HEAD.text, AT).line
_GOOD = f"{HEAD.text}\n{_LINE}"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "note"),
        (HEAD.text, "note"),
        (f"\n\n{_LINE}", "note"),
        (f"\n{_LINE}", "note"),
        (_GOOD[:-1], "note.signatures"),
        (_GOOD + "\n", "note.signatures"),
        (_GOOD + _LINE, "note.signatures[1]"),
        (_GOOD.replace("\n", "\r\n"), "note"),
        (_GOOD.replace("7", "\x00"), "note"),
        (_GOOD.replace("— ", "- "), "note.signatures[0]"),
        (_GOOD.replace("— ", "—  "), "note.signatures[0]"),
        (_GOOD.replace("— ", "—\u00a0"), "note.signatures[0]"),
        (_GOOD.replace(f"— {ORIGIN}", "— bi.umuhuza/\u2003log"), "note.signatures[0]"),
        (_GOOD.replace(f"— {ORIGIN}", "— bi+log"), "note.signatures[0]"),
        (_GOOD.replace("=\n", "\n"), "note.signatures[0]"),
        (_GOOD[:-1] + " \n", "note.signatures[0]"),
        (f"{HEAD.text}\n— {ORIGIN} AAAA\n", "note.signatures[0]"),
        (f"{HEAD.text}\n— {ORIGIN} AAAAAAB=\n", "note.signatures[0]"),
        (f"{HEAD.text}\n— {ORIGIN}\n", "note.signatures[0]"),
    ],
)
def test_what_is_no_note_is_refused_where_it_is_wrong(text: str, path: str) -> None:
    assert refused(read_note, text.encode()) == ("note_malformed", path)


def test_bytes_that_are_no_text_and_notes_without_end_are_refused() -> None:
    assert refused(read_note, b"\xff\xfe") == ("note_malformed", "note")
    assert refused(read_note, b"x" * (1 << 20))[0] == "too_large"
    many = "".join(NoteSignature("w", n, b"x").line for n in range(MAX_SIGNATURES + 1))
    assert refused(read_note, f"{HEAD.text}\n{many}".encode()) == ("too_large", "note.signatures")
    assert refused(read_signature_lines, b"") == ("note_malformed", "note.signatures")


_ROOT = HEAD.text.split("\n")[2]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "checkpoint"),
        (f"{ORIGIN}\n7\n{_ROOT}", "checkpoint"),
        (f"{ORIGIN}\n7\n", "checkpoint"),
        (f"{ORIGIN}\n7\n{_ROOT}\nmore\n", "checkpoint.extension"),
        (f"\n7\n{_ROOT}\n", "checkpoint.origin"),
        (f"bi umuhuza\n7\n{_ROOT}\n", "checkpoint.origin"),
        (f"{'o' * 256}\n7\n{_ROOT}\n", "checkpoint.origin"),
        (f"{ORIGIN}\n\n{_ROOT}\n", "checkpoint.size"),
        (f"{ORIGIN}\n07\n{_ROOT}\n", "checkpoint.size"),
        (f"{ORIGIN}\n-7\n{_ROOT}\n", "checkpoint.size"),
        (f"{ORIGIN}\n+7\n{_ROOT}\n", "checkpoint.size"),
        (f"{ORIGIN}\n٧\n{_ROOT}\n", "checkpoint.size"),
        (f"{ORIGIN}\n9223372036854775808\n{_ROOT}\n", "checkpoint.size"),
        (f"{ORIGIN}\n{'9' * 5000}\n{_ROOT}\n", "checkpoint.size"),
        (f"{ORIGIN}\n7\n{_ROOT[:-1]}\n", "checkpoint.root"),
        (f"{ORIGIN}\n7\nAAAA\n", "checkpoint.root"),
        (f"{ORIGIN}\n7\n{'é' * 44}\n", "checkpoint.root"),
        (f"{ORIGIN}\n0\n{_ROOT}\n", "checkpoint.root"),
    ],
)
def test_what_is_no_checkpoint_is_refused_where_it_is_wrong(text: str, path: str) -> None:
    assert refused(read_checkpoint_text, text) == ("note_malformed", path)


def test_an_empty_ledger_has_a_checkpoint_too() -> None:
    head = Checkpoint(ORIGIN, 0, EMPTY_ROOT)
    assert verify_checkpoint(sign_checkpoint(head, [LOG], AT), [LOG.public]).checkpoint == head


def test_nothing_but_a_checkpoint_is_ever_signed_or_cosigned() -> None:
    for signer in SIGNERS:
        assert refused(signer.sign, "I owe you a goat\n", AT)[0] == "note_malformed"
    line = Note("I owe you a goat\n", (WITNESS.sign(HEAD.text, AT),))
    assert refused(verify_note, line, [WITNESS.public])[0] == "note_malformed"
    with pytest.raises(ValueError, match="own name"):
        sign_checkpoint(HEAD, [WITNESS_PQ], AT)


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40).filter(is_name)
lines = st.builds(NoteSignature, names, st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=80))
heads = st.builds(Checkpoint, names, st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32))


@given(heads, st.lists(lines, min_size=1, max_size=5, unique_by=lambda one: (one.name, one.key_id)))
def test_every_note_is_read_as_it_was_written(head: Checkpoint, signatures: list[NoteSignature]) -> None:
    note = Note(head.text, tuple(signatures))
    again = read_note(note.dumps())
    assert (again, again.dumps(), read_checkpoint_text(again.text)) == (note, note.dumps(), head)


@given(st.data())
def test_one_altered_byte_is_never_the_same_checkpoint(data: st.DataObject) -> None:
    """It is refused, or it is another signature line's affair: never another head under the ledger's signature."""
    place = data.draw(st.integers(0, len(SIGNED) - 1))
    spoilt = bytearray(SIGNED)
    spoilt[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(LogError):
        read = verify_checkpoint(bytes(spoilt), [LOG.public, LOG_PQ.public])
        assert read.checkpoint == HEAD
        assert len(read.signed) == 1
