# SPDX-License-Identifier: Apache-2.0
"""What we commanded to be erased, and the ledger's word that it is done, checked and kept as proof.

    commanded   a record of ours with `acts.erase` left the outbox
    executed    the ledger's entry `erased` names that record, in a tree that it has signed: a read of the whole log
                from its earliest offset found no key of what was to go (`topics.ledger_erasures`)

A round (`ask`) asks the gateway for the proof of every command that has none, or none that the quorum had signed, and
keeps the better one. The other side's `erasure.attested` says what its machine and its people deleted; this says what
the log's keeper did. Neither stands for the other.

Must never call an erasure executed for what a gateway merely says, nor for the entry of another record. If we crash:
what was asked is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.mailbox import Mailbox
from adapters.mailbox_rows import OutgoingState
from schemas.envelope import chain_hash
from schemas.errors import LogError
from schemas.keys import b64url
from schemas.trust_policy import TrustPolicy
from topics.receipts import LEVELS, Level, check_receipt

PER_ROUND = 50
"""Most that a gateway answers in one request (`gateway.receipt_routes`)."""
_SENT = "('promised', 'delivered', 'rejected')"


class ErasedSource(Protocol):
    """A gateway (`topics.http_log.HttpLog`)."""

    async def erased(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        """Per command, in order, the receipt of the entry that calls it done; None: not done. Raises UmuhuzaError."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The best proof that we have that one command was executed."""

    level: Level
    final: bool
    """Whether the quorum had signed."""
    index: int
    """Of the entry `erased` in the ledger."""
    data: bytes
    """Its receipt (`c2sp.org/tlog-proof@v1`)."""


@dataclass(frozen=True, slots=True)
class CommandedErasure:
    """A command of ours."""

    evt: str
    """Of the record that commands it."""
    at: int
    """Seconds since the epoch."""
    peer: str
    records: tuple[str, ...]
    """What is to go: `<iss>/<evt>`."""
    state: OutgoingState
    code: str | None
    """Why it was refused, where it was."""
    proof: Proof | None
    """None: not executed, as far as is proved to us."""


class ErasureProofs:
    """A table of the mailbox's own file."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._box = mailbox

    def commanded(self) -> list[CommandedErasure]:
        """Every command of ours, oldest first."""
        rows = self._box.query(
            "SELECT outgoing.evt, created_at, peer, erase, state, code, level, final, place, data FROM act"
            " JOIN outgoing ON outgoing.evt = act.evt LEFT JOIN erasure_proof ON erasure_proof.evt = act.evt"
            " WHERE erase <> '[]' ORDER BY outgoing.n"
        )
        return [
            CommandedErasure(
                evt,
                at,
                peer,
                tuple(json.loads(erase)),
                state,
                code,
                None if level is None else Proof(level, bool(final), index, data),
            )
            for evt, at, peer, erase, state, code, level, final, index, data in rows
        ]

    def held(self) -> list[bytes]:
        """Every proof that we have."""
        return [data for (data,) in self._box.query("SELECT data FROM erasure_proof ORDER BY evt")]

    def due(self, limit: int = PER_ROUND) -> list[tuple[str, str, str]]:
        """Commands whose proof is missing or not final, those without any first: evt, topic, hash of
        `header.payload`."""
        rows = self._box.query(
            "SELECT outgoing.evt, outgoing.topic, outgoing.l1 FROM act JOIN outgoing ON outgoing.evt = act.evt"
            " LEFT JOIN erasure_proof ON erasure_proof.evt = act.evt"
            f" WHERE erase <> '[]' AND outgoing.state IN {_SENT} AND coalesce(final, 0) = 0"
            " ORDER BY erasure_proof.evt IS NOT NULL, asked, outgoing.n LIMIT ?",
            limit,
        )
        return [(evt, topic, chain_hash(l1)) for evt, topic, l1 in rows]

    def keep(self, evt: str, topic: str, l1_sha256: str, data: bytes, policy: TrustPolicy, origin: str) -> None:
        """Check a proof and keep it, if it is better than the one before.

        Raises:
            LogError: as `check_receipt`; root_mismatch, path `receipt`: it is about another record, or not the word
                that something is done. Nothing is kept then.
        """
        read = check_receipt(data, policy, origin)
        entry = read.entry
        if entry.kind != "erased" or entry.topic != topic or entry.l1_sha256 is None:
            raise LogError("root_mismatch", "receipt")
        if b64url(entry.l1_sha256) != l1_sha256:
            raise LogError("root_mismatch", "receipt")
        before = self._box.query("SELECT final, level FROM erasure_proof WHERE evt = ?", evt)
        if before and (bool(before[0][0]), LEVELS.index(before[0][1])) >= (read.endorsed, LEVELS.index(read.level)):
            return
        self._box.change(
            "INSERT OR REPLACE INTO erasure_proof(evt, level, final, place, data) VALUES(?, ?, ?, ?, ?)",
            evt,
            read.level,
            int(read.endorsed),
            read.index,
            data,
        )

    async def ask(self, source: ErasedSource, policy: TrustPolicy, origin: str) -> int:
        """One round. Returns how many proofs came.

        Raises:
            UmuhuzaError: the gateway does not answer; a proof is wrong: the others are kept.
        """
        due = self.due()
        if not due:
            return 0
        found = await source.erased([l1 for _, _, l1 in due])
        if len(found) != len(due):
            raise LogError("unavailable", "gateway")
        with self._box.transaction():
            for evt, _, _ in due:  # whatever never ends keeps nothing else from being asked for
                self._box.change("UPDATE act SET asked = asked + 1 WHERE evt = ?", evt)
        trouble: LogError | None = None
        count = 0
        for (evt, topic, l1), data in zip(due, found, strict=True):
            if data is None:
                continue
            try:
                self.keep(evt, topic, l1, data, policy, origin)
                count += 1
            except LogError as exc:
                trouble = exc
        if trouble is not None:
            raise trouble
        return count
