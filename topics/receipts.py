# SPDX-License-Identifier: Apache-2.0
"""Receipts: what the ledger says of one record, provable to anybody who knows the ledger's and its witnesses' keys.

A receipt is a `c2sp.org/tlog-proof@v1` text: the entry (as `extra`), its index, its Merkle path, and a checkpoint with
whatever cosignatures it had. It is kept as bytes, and says by itself how much it proves:

    logged     the ledger has signed a tree that the entry is in
    own        a witness of the ledger's own domain has seen that tree
    foreign    another domain's witness has: the ledger can show no other history without both having lied

Work goes on at the promise (`topics.promise`); a receipt comes soon, the higher levels when witnesses answer. A promise
and a receipt for the same place that name different records prove that one of them was a lie (`kept`).

Pure. Must never say that a record was accepted because it is logged: an entry may say `reject`, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.errors import LogError
from schemas.keys import b64url
from schemas.proof_texts import TlogProof, read_tlog_proof
from schemas.trust_policy import Endorsed, TrustPolicy, is_foreign, read_endorsed
from topics.ledger_entries import RECORD_KINDS, LedgerEntry, decode_entry
from topics.promise import Line
from topics.proofs import NodeReader, inclusion_proof, leaf_hash, verify_inclusion

Level = Literal["logged", "own", "foreign"]
LEVELS: tuple[Level, ...] = ("logged", "own", "foreign")
"""From the least to the most."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt that was checked."""

    entry: LedgerEntry
    index: int
    """Of the entry in the ledger."""
    size: int
    """Of the tree whose checkpoint proves it."""
    level: Level
    endorsed: bool
    """Whether the cosignatures meet the policy's quorum."""
    by: Mapping[str, int]
    """Witness, by its name in the policy -> when it cosigned, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The best receipt that we have of one record."""

    level: Level | Literal["contradicted"]
    final: bool
    """Whether the quorum had signed."""
    index: int
    """Of its entry in the ledger."""
    kind: str
    """`event`, `duplicate`, `reject`..."""
    data: bytes
    """The receipt (`c2sp.org/tlog-proof@v1`)."""


def make_receipt(index: int, entry: bytes, node: NodeReader, checkpoint: bytes, size: int) -> bytes:
    """A receipt for entry `index` under a signed checkpoint of a tree of `size` entries.

    Raises:
        IndexError: the entry is not in that tree yet. Also what `node` raises.
    """
    return TlogProof(index, tuple(inclusion_proof(node, index, size)), checkpoint, entry).dumps()


def check_receipt(data: bytes, policy: TrustPolicy, origin: str) -> Receipt:
    """Check a receipt of ledger `origin`, whatever record it is for.

    Raises:
        LogError: note_malformed, too_large; signature_invalid or log_unknown, the checkpoint is not this ledger's;
            root_mismatch (path `proof`), the entry is not in its tree; log_inconsistent, it is no entry.
    """
    proof = read_tlog_proof(data)
    if proof.extra is None:
        raise LogError("note_malformed", "proof.extra")
    read = read_endorsed(proof.checkpoint, policy, origin)
    head = read.signed.checkpoint
    if not verify_inclusion(leaf_hash(proof.extra), proof.index, head.size, proof.path, head.root):
        raise LogError("root_mismatch", "proof")
    return Receipt(
        decode_entry(proof.extra), proof.index, head.size, _level(read, policy, origin), policy.met_by(read.by), read.by
    )


def _level(read: Endorsed, policy: TrustPolicy, origin: str) -> Level:
    signed = [witness for witness in policy.witnesses if witness.name in read.by]
    if any(is_foreign(witness, origin) for witness in signed):
        return "foreign"
    return "own" if signed else "logged"


def kept(line: Line, receipt: Receipt) -> bool:
    """Whether the promise of this line was kept by what the receipt says: logged as event, duplicate or reject.

    Returns:
        False when the receipt is for another place, and says nothing about this one.

    Raises:
        LogError: record_rewritten, another record stands at the promised place: with the promise, the proof of a lie.
            record_missing: the ledger says that nothing stands there.
    """
    entry = receipt.entry
    if entry.topic != line.topic or entry.offset is None:
        return False
    if entry.kind == "gap" and entry.offset <= line.offset <= entry.number:
        raise LogError("record_missing", "receipt")
    if entry.kind not in RECORD_KINDS or entry.offset != line.offset:
        return False
    if entry.l1_sha256 is None or b64url(entry.l1_sha256) != line.l1_sha256:
        raise LogError("record_rewritten", "receipt")
    return True
