# SPDX-License-Identifier: Apache-2.0
"""What became abroad of our own records: promised there, with proof, or refused; asked of our gateway and checked.

    logged at home   our gateway's promise, our ledger's receipt (`adapters.receipt_book`): nothing stands here
    taken in         the other domain's gateway has promised to log it: its promise, checked against the operators' keys
                     in that domain's registry, is kept as evidence
    refused          the other gateway has refused it for good; only the bridge's word, and shown as that

Nothing waits for it: an item's state is the promise's at home and the recipient's. It is a machine's word and says
nothing of what the recipient reads. If we crash: what was asked is asked again. It must never keep a promise that it
could not check, nor another record's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.mailbox import Mailbox
from schemas.envelope import chain_hash
from schemas.errors import LogError, RecordError, RegistryError
from schemas.keys import VerifyKey
from schemas.registry import Key, Registry
from topics.http_log import Crossed
from topics.promise import Line, promise_kid, read_evidence, verify_evidence

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
    """When that was promised, seconds since the epoch, by the other gateway's clock."""
    code: str | None
    path: str | None
    promise: bytes | None
    """The evidence (`topics.promise`)."""

    @property
    def state(self) -> str:
        return "refused" if self.promise is None else "taken-in"


class CrossedBook:
    """A table of the mailbox's own file."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._box = mailbox

    def of(self, evt: str) -> Abroad | None:
        """What we know of this record; None: nothing yet, or it goes nowhere."""
        rows = self._box.query("SELECT domain, place, at, code, path, promise FROM crossed WHERE evt = ?", evt)
        return Abroad(*rows[0]) if rows else None

    def due(self, domain: str, limit: int = PER_ROUND) -> list[Line]:
        """Records that are logged at home, go to another domain than ours (`domain`), and of which nothing is known."""
        rows = self._box.query(
            "SELECT evt, l1, topic, log_offset FROM outgoing"
            f" WHERE state IN {_SENT} AND log_offset IS NOT NULL AND substr(topic, 1, 3) <> ?"
            " AND evt NOT IN (SELECT evt FROM crossed) ORDER BY n LIMIT ?",
            f"{domain}.",
            limit,
        )
        return [Line(evt, chain_hash(l1), topic, offset) for evt, l1, topic, offset in rows]

    def keep(self, line: Line, told: Crossed, registry: Registry) -> None:
        """Check what became of this record and keep it.

        Args:
            line: at home.
            registry: ours, with its borders.

        Raises:
            LogError: root_mismatch, it is another record's promise, or holds for another one.
            RecordError: record_malformed, header_forbidden, signature_invalid.
            RegistryError: agency_unknown, that domain is no neighbour; key_unknown, no operator of it signed;
                key_revoked, the key did not count then.
        """
        offset = at = None
        if told.promise is not None:
            read = read_evidence(told.promise)
            same = (read.line.evt, read.line.l1_sha256, read.line.topic) == (line.evt, line.l1_sha256, line.topic)
            if not same or told.domain != line.topic.partition(".")[0]:
                raise LogError("root_mismatch", "crossed")
            key = _operators_key(registry, told.domain, promise_kid(read.promise))
            promised, promise = verify_evidence(told.promise, VerifyKey(key.public), told.domain)
            if not key.counts_at(promise.at):
                raise RegistryError("key_revoked", "promise.kid")
            offset, at = promised.offset, promise.at
        self._box.change(
            "INSERT OR REPLACE INTO crossed(evt, domain, place, at, code, path, promise) VALUES(?, ?, ?, ?, ?, ?, ?)",
            *(line.evt, told.domain, offset, at, told.code, told.path, told.promise),
        )

    async def ask(self, source: CrossedSource, domain: str, registry: Registry) -> int:
        """One round. Returns of how many something came to be known.

        Raises:
            UmuhuzaError: the gateway does not answer; a promise is wrong: the others are kept.
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
                self.keep(line, told, registry)
                count += 1
            except (LogError, RegistryError, RecordError) as exc:
                trouble = exc
        if trouble is not None:
            raise trouble
        return count


def _operators_key(registry: Registry, domain: str, kid: str) -> Key:
    border = registry.borders.get(domain)
    if border is None:
        raise RegistryError("agency_unknown", "domain")
    for one in border.agencies.values():
        for key in one.keys:
            if "operator" in one.roles and key.use == "sig" and key.kid == kid:
                return key
    raise RegistryError("key_unknown", "promise.kid")
