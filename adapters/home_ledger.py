# SPDX-License-Identifier: Apache-2.0
"""Where a record stands in its issuer's home ledger: what decides whether a revoked key still counted for it.

Asked only for records whose key the registry that we hold has revoked: rarely. The log's time is whatever its operator
says; the ledger's order is not, since the tree that it has signed can be shown to anybody. An `event` was judged by the
registry version before it and so stands before the revocation; a `reject` with `key_revoked` stands behind it. A size
of the tree since which a key was stolen is held against the index.

Must never believe a receipt that does not hold under the trust policy of this agency, or is another record's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.receipt_book import ReceiptSource
from schemas.errors import LogError
from schemas.keys import b64url
from schemas.trust_policy import TrustPolicy
from topics.promise import ledgers_of
from topics.receipts import check_receipt

_AT_ONCE = 50
"""Most that a gateway answers in one request (`gateway.receipt_routes`)."""


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the ledger."""

    index: int
    refused: str | None
    """Code with which the ledger refused the record; None: it counts."""


class HomeLedger(Protocol):
    """What the home ledger says of records."""

    async def places(self, l1_sha256: Sequence[bytes]) -> dict[bytes, Place]:
        """By the hash of `header.payload`; those that no signed tree holds yet are left out.

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
        receipt = check_receipt(data, policy, ledgers_of(policy, self._domain)[-1])
        if receipt.entry.l1_sha256 != l1:
            raise LogError("root_mismatch", "receipt")
        refused = receipt.entry.detail if receipt.entry.kind == "reject" else None
        return Place(receipt.index, refused)
