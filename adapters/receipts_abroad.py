# SPDX-License-Identifier: Apache-2.0
"""What another domain's ledger says of the records that it took in from ours: its receipts, checked, and kept as proof.

    other gateway --asked by the bridge--> `CarriedReceipts` --served by our gateway--> sender: `ReceiptsAbroad`

A promise of the other gateway says that its ledger will have the record at this place; a receipt shows that it has. The
bridge keeps a copy, so that a sender gets it while the link is down; the sender checks it again, by the policy that it
has of that domain, and keeps what it could check. If we crash: what was asked is asked again.

Nothing waits for one. It must never take a place abroad from the bridge's word: the promise, which was checked, has it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from adapters.mailbox import Mailbox
from adapters.receipt_book import PER_ROUND, ReceiptKeeper
from schemas.notes import read_checkpoint_text, read_note
from schemas.proof_texts import read_tlog_proof
from schemas.trust_policy import TrustPolicy
from topics.believed_ledgers import ledgers_of
from topics.bridge_book import BridgeBook
from topics.promise import Line, read_evidence
from topics.receipts import Kept

_UNFINISHED = "receipt_abroad.final = 0 AND receipt_abroad.level <> 'contradicted'"
"""What contradicts a promise is proven for good: nothing that comes later changes it."""


def _ledger_of(receipt: bytes, policy: TrustPolicy, domain: str) -> str | None:
    """The ledger of that domain's that has given it, where the policy believes it: one that was lost is followed by
    another, and what the first has signed stays true. Raises LogError."""
    origin = read_checkpoint_text(read_note(read_tlog_proof(receipt).checkpoint).text).origin
    return origin if origin in ledgers_of(policy, domain) else None


@dataclass(frozen=True, slots=True)
class GivenBy:
    """`adapters.receipt_book.ReceiptSource`: one question that a gateway answers."""

    ask: Callable[[Sequence[str]], Awaitable[list[bytes | None]]]

    async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        """Raises UmuhuzaError."""
        return await self.ask(l1_sha256)


class CarriedReceipts(ReceiptKeeper):
    """Of everything that a bridge has carried; in its book.

    A receipt that comes back by the bridge's own hand proves what it says whoever brought it.
    """

    def __init__(self, book: BridgeBook, domain: str) -> None:
        super().__init__()
        self._book = book
        self._domain = domain

    def newest(self) -> int:
        return self._book.newest()

    def _ledger(self, data: bytes, policy: TrustPolicy, origin: str) -> str:
        return _ledger_of(data, policy, self._domain) or origin

    def due(self, limit: int = PER_ROUND, *, again: bool = True, skip: int = 0) -> list[Line]:
        return [read_evidence(promise).line for promise in self._book.unproven(limit, again=again, skip=skip)]

    def unfinished(self) -> int:
        return self._book.unfinished_receipts()

    def _kept(self, line: Line) -> Kept | None:
        return self._book.receipt(line.l1_sha256)

    def _put(self, line: Line, kept: Kept) -> None:
        self._book.keep_receipt(line.l1_sha256, kept)


class ReceiptsAbroad(ReceiptKeeper):
    """A table of the mailbox's own file. `domain`: whose ledger; None: of any, to read."""

    def __init__(self, mailbox: Mailbox, domain: str | None = None) -> None:
        super().__init__()
        self._box = mailbox
        self._domain = domain

    def of(self, evt: str) -> Kept | None:
        """What we have of this record."""
        for level, final, index, kind, data in self._box.query(
            "SELECT level, final, place, kind, data FROM receipt_abroad WHERE evt = ?", evt
        ):
            return Kept(level, bool(final), index, kind, data)
        return None

    def due(self, limit: int = PER_ROUND, *, again: bool = True, skip: int = 0) -> list[Line]:
        rows = self._box.query(
            "SELECT crossed.promise FROM crossed LEFT JOIN receipt_abroad ON receipt_abroad.evt = crossed.evt"
            " JOIN outgoing ON outgoing.evt = crossed.evt WHERE crossed.promise IS NOT NULL AND crossed.domain = ?"
            f" AND {_UNFINISHED if again else 'receipt_abroad.evt IS NULL'} ORDER BY outgoing.n LIMIT ? OFFSET ?",
            *(self._domain, limit, skip),
        )
        return [read_evidence(promise).line for (promise,) in rows]

    def newest(self) -> int:
        [(count,)] = self._box.query(
            "SELECT count(*) FROM crossed WHERE promise IS NOT NULL AND domain = ?", self._domain
        )
        return int(count)

    def _ledger(self, data: bytes, policy: TrustPolicy, origin: str) -> str:
        return _ledger_of(data, policy, self._domain or "") or origin

    def unfinished(self) -> int:
        [(count,)] = self._box.query(
            "SELECT count(*) FROM receipt_abroad JOIN crossed ON crossed.evt = receipt_abroad.evt"
            f" WHERE {_UNFINISHED} AND crossed.domain = ?",
            self._domain,
        )
        return int(count)

    def _kept(self, line: Line) -> Kept | None:
        return self.of(line.evt)

    def _put(self, line: Line, kept: Kept) -> None:
        self._box.change(
            "INSERT OR REPLACE INTO receipt_abroad(evt, level, final, place, kind, data) VALUES(?, ?, ?, ?, ?, ?)",
            *(line.evt, kept.level, int(kept.final), kept.index, kept.kind, kept.data),
        )
