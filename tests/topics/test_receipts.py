# SPDX-License-Identifier: Apache-2.0
"""Receipts: what the ledger says of one record, provable with keys alone, and how much it proves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from schemas.errors import LogError
from schemas.keys import b64url
from schemas.notes import Checkpoint, NoteSigner, read_note, sign_checkpoint
from schemas.proof_texts import read_tlog_proof
from schemas.trust_policy import TrustPolicy, read_policy
from tests.domain import NOW
from tests.trees import log_signers, witness_signers
from topics.ledger_entries import LedgerEntry
from topics.promise import Line
from topics.proofs import leaf_hash, levels, node_in, root
from topics.receipts import Receipt, check_receipt, kept, make_receipt

ORIGIN = "bi.umuhuza/log"
TOPIC = "bi.referral.k7t4"
SIGNERS = log_signers("bi")


def l1(offset: int) -> bytes:
    return hashlib.sha256(b"header.payload %d" % offset).digest()


def record(offset: int) -> LedgerEntry:
    value = hashlib.sha256(b"value %d" % offset).digest()
    return LedgerEntry("event", TOPIC, offset, offset - 1 if offset else None, value, l1(offset))


ENTRIES = [
    *(record(offset) for offset in range(5)),
    replace(record(5), kind="reject", detail="not_permitted"),
    LedgerEntry("gap", TOPIC, 6, 5, detail="7"),
]
TREE = [leaf_hash(entry.encode()) for entry in ENTRIES]


def policy() -> TrustPolicy:
    lines = [f"log {signer.public.vkey}\n" for signer in SIGNERS]
    for name in ("bi", "tn"):
        [ed, pq] = witness_signers(name)
        lines += [f"witness {name}-ed {ed.public.vkey}\nwitness {name}-pq {pq.public.vkey}\n"]
        lines += [f"group {name} all {name}-ed {name}-pq\n"]
    return read_policy("".join([*lines, "group both all bi tn\nquorum both\n"]).encode())


def receipt_of(index: int, by: Sequence[NoteSigner] = (), signers: Sequence[NoteSigner] = SIGNERS) -> bytes:
    head = Checkpoint(ORIGIN, len(TREE), root(TREE))
    note = read_note(sign_checkpoint(head, signers, NOW)).with_signatures(one.sign(head.text, NOW + 9) for one in by)
    return make_receipt(index, ENTRIES[index].encode(), node_in(levels(TREE)), note.dumps(), len(TREE))


def line(offset: int) -> Line:
    return Line("0192-evt", b64url(l1(offset)), TOPIC, offset)


def check(data: bytes) -> Receipt:
    return check_receipt(data, policy(), ORIGIN)


def code_of(data: bytes) -> tuple[str, str | None]:
    with pytest.raises(LogError) as caught:
        check(data)
    return caught.value.code, caught.value.path


def test_a_receipt_says_what_is_logged_where_and_who_has_seen_it() -> None:
    [own, own_pq], [foreign, foreign_pq] = witness_signers("bi"), witness_signers("tn")
    steps = [
        ((), "logged", False),
        ((own, own_pq), "own", False),
        ((own, own_pq, foreign_pq), "foreign", False),
        ((own, own_pq, foreign, foreign_pq), "foreign", True),
    ]
    for by, level, endorsed in steps:
        read = check(receipt_of(3, by))
        assert (read.entry, read.index, read.size) == (ENTRIES[3], 3, 7)
        assert (read.level, read.endorsed) == (level, endorsed)
        assert set(read.by.values()) <= {NOW + 9}
        assert kept(line(3), read)


def test_a_rejected_record_is_told_as_that() -> None:
    read = check(receipt_of(5))
    assert (read.entry.kind, read.entry.detail) == ("reject", "not_permitted")
    assert kept(line(5), read)


def test_a_receipt_for_another_place_says_nothing_about_this_one() -> None:
    read = check(receipt_of(3))
    assert not kept(line(2), read)
    assert not kept(replace(line(3), topic="bi.referral.iom"), read)


def test_another_record_at_the_promised_place_proves_a_lie() -> None:
    with pytest.raises(LogError) as caught:
        kept(replace(line(3), l1_sha256=b64url(bytes(32))), check(receipt_of(3)))
    assert caught.value.code == "record_rewritten"
    for offset in (6, 7):
        with pytest.raises(LogError) as caught:
            kept(line(offset), check(receipt_of(6)))
        assert caught.value.code == "record_missing"
    assert not kept(line(8), check(receipt_of(6)))


def test_what_is_no_receipt_of_this_ledger_is_refused() -> None:
    good = read_tlog_proof(receipt_of(3))
    assert code_of(replace(good, extra=None).dumps()) == ("note_malformed", "proof.extra")
    assert code_of(replace(good, index=2).dumps()) == ("root_mismatch", "proof")
    assert code_of(replace(good, extra=ENTRIES[2].encode()).dumps()) == ("root_mismatch", "proof")
    assert code_of(replace(good, path=good.path[:-1]).dumps()) == ("root_mismatch", "proof")
    assert code_of(receipt_of(3, signers=witness_like()))[0] == "signature_invalid"
    assert code_of(good.dumps()[:-1])[0] == "note_malformed"
    with pytest.raises(LogError) as caught:
        check_receipt(good.dumps(), policy(), "tn.umuhuza/log")
    assert caught.value.code == "log_unknown"
    with pytest.raises(IndexError):
        make_receipt(7, b"", node_in(levels(TREE)), b"", len(TREE))


def witness_like() -> list[NoteSigner]:
    """Somebody else's keys under the ledger's name."""
    return [NoteSigner(ORIGIN, signer.kind, bytes([7] * 32)) for signer in SIGNERS]
