# SPDX-License-Identifier: Apache-2.0
"""What became abroad of our own records: promised there or refused, in writing; asked of our gateway and checked.

    logged at home   our gateway's promise, our ledger's receipt (`adapters.receipt_book`): nothing stands here
    taken in         the other domain's gateway has promised to log it: its promise, checked against the operators' keys
                     in that domain's registry, is kept as evidence
    refused          the other gateway has signed that it will never take it (`topics.refusal`): the item is refused,
                     with its code, and its number is void
    waiting          it has signed that it does not take it for now, and why: the bridge brings it again, we wait
    unsigned         the bridge says that it was refused, and shows no signature: nothing of ours changes by that

What is not final is asked for again, in turns, until it is or its reader has said something. It is a machine's word and
says nothing of what the recipient reads. If we crash: what was asked is asked again. It must never keep a promise or
a refusal that it could not check, nor another record's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from adapters.mailbox import Mailbox
from schemas.envelope import chain_hash
from schemas.errors import LogError, RecordError, RegistryError
from schemas.keys import VerifyKey
from schemas.registry import Registry
from topics.borders import operators_key
from topics.http_log import Crossed
from topics.promise import Line, promise_kid, read_evidence, verify_evidence
from topics.refusal import check_refusal

PER_ROUND = 50
_SENT = "('promised', 'delivered', 'rejected')"


class CrossedSource(Protocol):
    """A gateway (`topics.http_log.HttpLog`)."""

    async def crossed(self, l1_sha256: Sequence[str]) -> list[Crossed | None]:
        """One answer per hash, in order; None: nothing is known yet. Raises UmuhuzaError."""


@dataclass(frozen=True, slots=True)
class Abroad:
    """What we know of one record."""

    domain: str
    offset: int | None
    """Where it stands in the mailbox there; None: it was refused."""
    at: int | None
    """When that was promised or refused, seconds since the epoch, by the other gateway's clock; None: nobody signed."""
    code: str | None
    path: str | None
    promise: bytes | None
    """The evidence (`topics.promise`)."""
    refusal: str | None
    """That gateway's signed word."""
    final: bool
    """Nothing else will be said of it."""

    @property
    def state(self) -> Literal["taken-in", "refused", "waiting", "unsigned"]:
        if self.promise is not None:
            return "taken-in"
        if self.refusal is None:
            return "unsigned"
        return "refused" if self.final else "waiting"


class CrossedBook:
    """A table of the mailbox's own file."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._box = mailbox

    def of(self, evt: str) -> Abroad | None:
        """What we know of this record; None: nothing yet, or it goes nowhere."""
        rows = self._box.query(
            "SELECT domain, place, at, code, path, promise, refusal, final FROM crossed WHERE evt = ?", evt
        )
        for domain, offset, at, code, path, promise, refusal, final in rows:
            return Abroad(domain, offset, at, code, path, promise, refusal, bool(final))
        return None

    def due(self, domain: str, limit: int = PER_ROUND) -> list[Line]:
        """Records that are logged at home, go to another domain than ours (`domain`), and of which nothing final is
        known; first those of which nothing is, then the one that was asked for longest ago."""
        rows = self._box.query(
            "SELECT outgoing.evt, l1, topic, log_offset FROM outgoing LEFT JOIN crossed ON crossed.evt = outgoing.evt"
            f" WHERE state IN {_SENT} AND log_offset IS NOT NULL AND substr(topic, 1, 3) <> ?"
            " AND (crossed.evt IS NULL OR crossed.final = 0 AND state = 'promised')"
            " ORDER BY coalesce(crossed.asked, 0), n LIMIT ?",
            f"{domain}.",
            limit,
        )
        return [Line(evt, chain_hash(l1), topic, offset) for evt, l1, topic, offset in rows]

    def keep(self, line: Line, told: Crossed, registry: Registry, now: int) -> bool:
        """Check what became of this record and keep it; where it was refused for good, in writing, the item is refused.
        Durable when it returns. False: it was known.

        Args:
            line: at home.
            registry: ours, with its borders.
            now: seconds since the epoch.

        Raises:
            LogError: root_mismatch, it is another record's promise or refusal, or holds for another one.
            RecordError: record_malformed, header_forbidden, signature_invalid.
            RegistryError: agency_unknown, that domain is no neighbour; key_unknown, no operator of it signed;
                key_revoked, the key did not count then.
        """
        offset = at = None
        code, path, final = told.code, told.path, False
        if told.promise is None and told.refusal is not None:
            if told.domain != line.topic.partition(".")[0]:
                raise LogError("root_mismatch", "crossed")
            refusal = check_refusal(told.refusal, line.l1_sha256, told.domain, registry)
            at, code, path, final = refusal.at, refusal.code, refusal.path, refusal.final
        if told.promise is not None:
            read = read_evidence(told.promise)
            same = (read.line.evt, read.line.l1_sha256, read.line.topic) == (line.evt, line.l1_sha256, line.topic)
            if not same or told.domain != line.topic.partition(".")[0]:
                raise LogError("root_mismatch", "crossed")
            key = operators_key(registry, told.domain, promise_kid(read.promise))
            promised, promise = verify_evidence(told.promise, VerifyKey(key.public), told.domain)
            if not key.counts_at(promise.at):
                raise RegistryError("key_revoked", "promise.kid")
            offset, at, final = promised.offset, promise.at, True
        with self._box.transaction():
            known = self.of(line.evt)
            if known is not None and known.promise == told.promise:
                before = (known.code, known.path, known.final, known.refusal is None)
                if before == (code, path, final, told.refusal is None):
                    return False
            self._box.change(
                "INSERT OR REPLACE INTO crossed(evt, domain, place, at, code, path, promise, refusal, final, heard_at)"
                " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(line.evt, told.domain, offset, at, code, path, told.promise, told.refusal, int(final), now),
            )
            if final and told.promise is None and code is not None:
                self._box.refuse_abroad(line.evt, code, path, now)
        return True

    async def ask(self, source: CrossedSource, domain: str, registry: Registry, now: int) -> int:
        """One round. Returns of how many something new came to be known.

        Raises:
            UmuhuzaError: the gateway does not answer; a promise or a refusal is wrong: the others are kept.
        """
        lines = self.due(domain)
        if not lines:
            return 0
        found = await source.crossed([line.l1_sha256 for line in lines])
        trouble: LogError | RegistryError | RecordError | None = None
        count = 0
        for line, told in zip(lines, found, strict=True):
            if told is None:
                continue
            try:
                count += self.keep(line, told, registry, now)
            except (LogError, RegistryError, RecordError) as exc:
                trouble = exc
        with self._box.transaction():
            turn = "UPDATE crossed SET asked = (SELECT max(asked) + 1 FROM crossed) WHERE evt = ? AND final = 0"
            for line in lines:
                self._box.change(turn, line.evt)
        if trouble is not None:
            raise trouble
        return count
