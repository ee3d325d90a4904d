# SPDX-License-Identifier: Apache-2.0
"""Where a record stands in its issuer's home ledger: what decides whether a revoked key still counted for it.

Asked only for records whose key the registry that we hold has revoked: rarely. The log's time is whatever its operator
says; the ledger's order is not, since the tree that it has signed can be shown to anybody. An `event` was judged by the
registry version before it and so stands before the revocation; a `reject` with `key_revoked` stands behind it. A size
of the tree since which a key was stolen is held against the index.

An agency that was not told whose signatures count (no setting `trust`) still asks: the ledger's order, as the gateway
tells it, is no worse than the log's time, which the same operator says, and it holds against whoever only stole a key.
That nobody could check it is said loudly each time (`ToldLedger`). Only where the gateway keeps no ledger at all does
the log's time decide.

Must never believe a receipt that does not hold under the trust policy of this agency, or is another record's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.receipt_book import ReceiptSource
from schemas.errors import AccessError, LogError
from schemas.keys import b64url
from schemas.ledgers import number_in
from schemas.notes import read_checkpoint_text, read_note
from schemas.proof_texts import read_tlog_proof
from schemas.trust_policy import TrustPolicy
from topics.believed_ledgers import ledgers_of
from topics.ledger_entries import LedgerEntry, decode_entry
from topics.proofs import leaf_hash, verify_inclusion
from topics.receipts import check_receipt

NO_LEDGER = ("request_invalid", "path")
"""Code and path with which a gateway without a ledger refuses the question: there is no such route."""
_AT_ONCE = 50
"""Most that a gateway answers in one request (`gateway.receipt_routes`)."""


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the ledger."""

    index: int
    refused: str | None
    """Code with which the ledger refused the record; None: it counts."""
    ledger: int = 1
    """Number of the ledger among its domain's."""


class HomeLedger(Protocol):
    """What the home ledger says of records."""

    async def places(self, l1_sha256: Sequence[bytes]) -> dict[bytes, Place] | None:
        """By the hash of `header.payload`; those that no signed tree holds yet are left out. None: this domain has no
        ledger that could be asked.

        Raises:
            UmuhuzaError: no answer, or one that does not hold.
        """
        ...


class ReceiptedLedger:
    """A `HomeLedger` by the receipts that a gateway hands out.

    Args:
        policy: whose signatures count; read each time. Raises LogError.
        domain: whose ledger; of several, the newest that the policy names.
    """

    def __init__(self, source: ReceiptSource, policy: Callable[[], TrustPolicy], domain: str) -> None:
        self._source = source
        self._policy = policy
        self._domain = domain

    async def places(self, l1_sha256: Sequence[bytes]) -> dict[bytes, Place]:
        """As `HomeLedger`."""
        policy = self._policy()
        wanted = list(dict.fromkeys(l1_sha256))
        found: dict[bytes, Place] = {}
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            told = await self._source.receipts([b64url(l1) for l1 in some])
            for l1, data in zip(some, told, strict=True):
                if data is not None:
                    found[l1] = self._checked(l1, data, policy)
        return found

    def _checked(self, l1: bytes, data: bytes, policy: TrustPolicy) -> Place:
        origin = ledgers_of(policy, self._domain)[-1]
        receipt = check_receipt(data, policy, origin)
        return _place(receipt.entry, receipt.index, l1, number_in(origin))


class ToldLedger:
    """A `HomeLedger` by what the gateway says, whoever signed it: for an agency without a trust policy.

    Args:
        unchecked: told each time that something was decided by it.
    """

    def __init__(self, source: ReceiptSource, unchecked: Callable[[], None]) -> None:
        self._source = source
        self._unchecked = unchecked

    async def places(self, l1_sha256: Sequence[bytes]) -> dict[bytes, Place] | None:
        """As `HomeLedger`."""
        wanted = list(dict.fromkeys(l1_sha256))
        found: dict[bytes, Place] = {}
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            try:
                told = await self._source.receipts([b64url(l1) for l1 in some])
            except AccessError as exc:
                if (exc.code, exc.path) == NO_LEDGER:
                    return None
                raise
            for l1, data in zip(some, told, strict=True):
                if data is not None:
                    found[l1] = _told(l1, data)
        if wanted:
            self._unchecked()
        return found


def _told(l1: bytes, data: bytes) -> Place:
    """Of a receipt that is one in itself. Raises LogError note_malformed, root_mismatch, log_inconsistent."""
    proof = read_tlog_proof(data)
    if proof.extra is None:
        raise LogError("note_malformed", "proof.extra")
    head = read_checkpoint_text(read_note(proof.checkpoint).text)
    if not verify_inclusion(leaf_hash(proof.extra), proof.index, head.size, proof.path, head.root):
        raise LogError("root_mismatch", "proof")
    return _place(decode_entry(proof.extra), proof.index, l1, number_in(head.origin))


def _place(entry: LedgerEntry, index: int, l1: bytes, ledger: int) -> Place:
    if entry.l1_sha256 != l1:
        raise LogError("root_mismatch", "receipt")
    return Place(index, entry.detail if entry.kind == "reject" else None, ledger)
