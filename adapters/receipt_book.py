# SPDX-License-Identifier: Apache-2.0
"""What a ledger says of our own records, checked, and kept as proof: `logged`, seen at home, seen abroad.

Here is our own domain's; what another domain's says of what it took in is in `adapters.receipts_abroad`.

A round (`ask`) asks the gateway for receipts of what was promised, those without any first, and keeps the better one of
each. A receipt is final when its cosignatures meet the policy's quorum; it is not asked for again. Nothing waits for
one: an item's state is the promise's and the recipient's.

While a witness is silent, no receipt becomes final, and each weighs about 7 KB: `ReceiptRounds` asks again for such
only after waits that grow to an hour, so that a witness abroad costs a shelter's link nothing.

A receipt that contradicts the promise is kept too (level `contradicted`), since the two together prove a lie, and stops
the round loudly. If we crash: what was asked is asked again. It must never keep what it could not check.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

from adapters.mailbox import Mailbox
from schemas.envelope import chain_hash
from schemas.errors import LogError
from schemas.trust_policy import TrustPolicy
from topics.promise import Line
from topics.receipts import LEVELS, Kept, Level, check_receipt, kept

PER_ROUND = 50
SHORTEST_S = 2.0
"""A ledger signs within seconds; whoever is patient asks so soon again, and twice as late each time."""
LONGEST_S = 3600.0
"""Between two questions for a better receipt."""
_SENT = (
    "(outgoing.state IN ('promised', 'delivered', 'rejected')"
    " OR outgoing.state = 'refused' AND outgoing.evt IN (SELECT evt FROM crossed))"
)
"""What our log has, refused abroad or not."""


class ReceiptSource(Protocol):
    """A gateway (`topics.http_log.HttpLog`)."""

    async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        """One answer per hash, in order; None: not logged yet. Raises UmuhuzaError."""


class ReceiptKeeper(ABC):
    """Checks receipts and keeps the best one of each record; one that contradicts a promise stays for good."""

    def __init__(self) -> None:
        self._skip = {False: 0, True: 0}
        """By `again`: how many of those that are due were asked for in vain, in this walk through all of them. What a
        ledger never logs would else stand before everything that it does."""

    @abstractmethod
    def due(self, limit: int = PER_ROUND, *, again: bool = True, skip: int = 0) -> list[Line]:
        """Promised records whose receipt is missing or, with `again`, not final, in one order (those without any first,
        then the oldest), without the first `skip` of them. A keeper may leave those without any out of `again`."""

    @abstractmethod
    def newest(self) -> int:
        """Grows with every record that is promised."""

    @abstractmethod
    def unfinished(self) -> int:
        """How many promised records have a receipt that is not final."""

    @abstractmethod
    def _kept(self, line: Line) -> Kept | None:
        """What there is of this record."""

    def _ledger(self, data: bytes, policy: TrustPolicy, origin: str) -> str:
        """Whose this receipt may be. Raises LogError: it is none."""
        del data, policy
        return origin

    @abstractmethod
    def _put(self, line: Line, kept: Kept) -> None:
        """In place of what there was. Durable when it returns."""

    def keep(self, line: Line, data: bytes, policy: TrustPolicy, origin: str) -> Level | None:
        """Check a receipt of this record and keep it, if it is better than the one before.

        Returns:
            Its level; None when it is of the same record at another place, and says nothing about ours.

        Raises:
            LogError: as `check_receipt`: it is not kept. record_rewritten, record_missing: it contradicts the promise,
                and is kept as the proof of that.
        """
        read = check_receipt(data, policy, self._ledger(data, policy, origin))
        try:
            if not kept(line, read):
                return None
        except LogError:
            self._put(line, Kept("contradicted", False, read.index, read.entry.kind, data))
            raise
        before = self._kept(line)
        if before is not None and before.level == "contradicted":
            raise LogError("record_rewritten", "receipt")  # whatever the ledger shows since
        if before is None or (read.endorsed, LEVELS.index(read.level)) > (before.final, LEVELS.index(before.level)):
            self._put(line, Kept(read.level, read.endorsed, read.index, read.entry.kind, data))
        return read.level

    async def ask(self, source: ReceiptSource, policy: TrustPolicy, origin: str, *, again: bool = True) -> int:
        """One round; `again`: also for those that have one which is not final. Returns how many receipts came.

        Raises:
            UmuhuzaError: the gateway does not answer; a receipt is wrong: those before it are kept.
        """
        lines = self.due(again=again, skip=self._skip[again])
        if not lines and self._skip[again]:
            self._skip[again] = 0
            lines = self.due(again=again)
        if not lines:
            return 0
        found = await source.receipts([line.l1_sha256 for line in lines])
        if len(found) != len(lines):
            raise LogError("unavailable", "gateway")
        trouble: LogError | None = None
        count = 0
        for line, data in zip(lines, found, strict=True):
            if data is None:
                continue
            try:
                count += self.keep(line, data, policy, origin) is not None
            except LogError as exc:
                trouble = exc
        asked = {line.evt for line in lines}
        left = sum(line.evt in asked for line in self.due(again=again, skip=self._skip[again]))
        self._skip[again] = self._skip[again] + left if len(lines) == PER_ROUND else 0
        if trouble is not None:
            raise trouble
        return count


class ReceiptBook(ReceiptKeeper):
    """A table of the mailbox's own file."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._box = mailbox

    def of(self, evt: str) -> Kept | None:
        """What we have of this record."""
        for level, final, index, kind, data in self._box.query(
            "SELECT level, final, place, kind, data FROM receipt WHERE evt = ?", evt
        ):
            return Kept(level, bool(final), index, kind, data)
        return None

    def held(self) -> list[bytes]:
        """Every receipt that we have, those that contradict a promise too."""
        return [data for (data,) in self._box.query("SELECT data FROM receipt ORDER BY evt")]

    def newest(self) -> int:
        [(n,)] = self._box.query("SELECT coalesce(max(n), 0) FROM outgoing")
        return int(n)

    def unfinished(self) -> int:
        [(count,)] = self._box.query(
            "SELECT count(*) FROM receipt JOIN outgoing ON outgoing.evt = receipt.evt"
            " WHERE outgoing.n > (SELECT n FROM receipts_final) AND receipt.final = 0"
        )
        return int(count)

    def due(self, limit: int = PER_ROUND, *, again: bool = True, skip: int = 0) -> list[Line]:
        self._settle()
        rows = self._box.query(
            "SELECT outgoing.evt, outgoing.l1, outgoing.topic, outgoing.log_offset FROM outgoing"
            " LEFT JOIN receipt ON receipt.evt = outgoing.evt"
            " WHERE outgoing.n > (SELECT n FROM receipts_final)"
            f" AND {_SENT} AND outgoing.log_offset IS NOT NULL AND coalesce(receipt.final, 0) = 0"
            f" AND {'TRUE' if again else 'receipt.evt IS NULL'}"
            " ORDER BY receipt.evt IS NOT NULL, outgoing.n LIMIT ? OFFSET ?",
            *(limit, skip),
        )
        return [Line(evt, chain_hash(l1), topic, offset) for evt, l1, topic, offset in rows]

    def _settle(self) -> None:
        """Nothing up to here will be asked for again: what is old costs no round anything."""
        self._box.change(
            "UPDATE receipts_final SET n = max(n, coalesce((SELECT min(outgoing.n) - 1 FROM outgoing"
            " LEFT JOIN receipt ON receipt.evt = outgoing.evt WHERE outgoing.n > (SELECT n FROM receipts_final)"
            " AND coalesce(receipt.final, 0) = 0 AND (outgoing.state NOT IN ('refused', 'cancelled')"
            " OR outgoing.evt IN (SELECT evt FROM crossed))),"
            " (SELECT max(n) FROM outgoing), 0))"
        )

    def _kept(self, line: Line) -> Kept | None:
        return self.of(line.evt)

    def _put(self, line: Line, kept: Kept) -> None:
        self._box.change(
            "INSERT OR REPLACE INTO receipt(evt, level, final, place, kind, data) VALUES(?, ?, ?, ?, ?, ?)",
            *(line.evt, kept.level, int(kept.final), kept.index, kept.kind, kept.data),
        )


class ReceiptRounds:
    """When to ask for what. Used from one event loop; nothing of it is written down.

    Args:
        clock: seconds, never set back.
        every_s: the shortest wait between two questions for a better receipt.
        patient: also for what has none it asks after waits that grow to an hour, as long as nothing comes and nothing
            new was promised: it may be another's ledger, which never will have it.
    """

    def __init__(
        self, book: ReceiptKeeper, clock: Callable[[], float], every_s: float, *, patient: bool = False
    ) -> None:
        self._book = book
        self._clock = clock
        self._every_s = every_s
        self._wait_s = every_s
        self._again_at = clock() + every_s
        self._patient = patient
        self._vain_s = SHORTEST_S
        self._first_at = clock()
        self._newest = -1

    async def turn(self, source: ReceiptSource, policy: TrustPolicy, origin: str) -> None:
        """Ask for receipts of what has none, and for better ones when it is time. Raises as `ReceiptBook.ask`; what is
        wrong with one keeps no other from being asked for."""
        trouble: LogError | None = None
        try:
            await self._first(source, policy, origin)
        except LogError as exc:
            if exc.code == "unavailable":
                raise
            trouble = exc
        await self._better(source, policy, origin)
        if trouble is not None:
            raise trouble

    async def _first(self, source: ReceiptSource, policy: TrustPolicy, origin: str) -> None:
        newest = self._book.newest()
        if self._patient and newest == self._newest and self._clock() < self._first_at:
            return
        if newest != self._newest:
            self._vain_s = SHORTEST_S
        self._newest, came = newest, 0
        # Before asking: whatever comes of it, it is not asked again at once.
        self._first_at = self._clock() + self._vain_s
        self._vain_s = min(2 * self._vain_s, LONGEST_S)
        while (found := await self._book.ask(source, policy, origin, again=False)) == PER_ROUND:
            came += found  # more have none
        if came + found:
            self._vain_s = SHORTEST_S

    async def _better(self, source: ReceiptSource, policy: TrustPolicy, origin: str) -> None:
        if self._clock() < self._again_at:
            return
        # Before asking: whatever comes of it, it is not asked again at once.
        self._again_at = self._clock() + self._wait_s
        left = self._book.unfinished()
        self._wait_s = min(2 * self._wait_s, max(self._every_s, LONGEST_S)) if left else self._every_s
        while left:
            await self._book.ask(source, policy, origin)
            before, left = left, self._book.unfinished()
            if left == before:
                return  # still not signed by all
            self._wait_s = self._every_s
