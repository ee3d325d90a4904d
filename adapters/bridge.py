# SPDX-License-Identifier: Apache-2.0
"""The bridge: carries what a domain has logged for another one to that one's gateway, and keeps its promise.

    outgoing topics of the home log --read behind the cursor--> home proof --post--> promise --> cursor --> grants gone

One bridge serves one direction; the other domain runs its own for what comes back. It carries records that stand in
topics of the other domain's name, which only members of this one can have written: what came in over a border stands
in a topic of ours, and so there is no loop.

Invariants:
- Nothing goes before a checkpoint of the home ledger covers it, and nothing that the home ledger refuses.
- In order per topic: behind a record that has to wait, everything waits. Settled is a record that was promised, or was
  refused for what no waiting cures; then its keys at home are deleted, and never before.
- An agreement that has ended, or stands in one registry alone, stops everything here at once; the reason is kept, what
  waits stays, and goes when there is one again, if its sender has not withdrawn it.
- A turn is safe to repeat and to kill anywhere: what was brought twice is a copy there.

Must never: open a record, change a byte of it, or hold a key of an agency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from adapters.bridge_book import BridgeBook, Settled
from schemas.envelope import split_topic
from schemas.errors import LogError, RecordError, UmuhuzaError
from schemas.home_proof import CarriedLine, HomeProof
from schemas.registry_trust import TrustedRegistry
from topics.borders import excerpt_for
from topics.catalogue import outgoing_of
from topics.ledger_entries import l1_sha256_of
from topics.log import Appended, Entry, Log, Stored, grant_key, grants_topic
from topics.neighbours import Neighbours
from topics.receipt_maker import HomeContact, ReceiptMaker

BATCH_RECORDS = 200
BATCH_BYTES = 4 << 20
_FINAL_OF_THE_LOG = frozenset(("record_unlogged", "topic_unknown", "too_large"))


class Remote(Protocol):
    """The other domain's gateway (`topics.http_log.HttpLog`)."""

    async def carry(self, lines: Sequence[bytes], entries: Sequence[Entry]) -> list[Appended | UmuhuzaError]: ...

    async def give_registry(self, data: bytes) -> None: ...


@dataclass(slots=True)
class Turn:
    """What one turn did."""

    promised: int = 0
    refused: int = 0
    waiting: int = 0
    """Records at home that are not settled, as far as was looked."""
    code: str | None = None
    """What hinders us; None: nothing does."""
    path: str | None = None

    def hindered(self, error: UmuhuzaError) -> None:
        """The first reason counts."""
        if self.code is None:
            self.code, self.path = error.code, error.path


@dataclass(frozen=True, slots=True)
class _Ready:
    """A record with all that goes with it."""

    stored: Stored
    home: HomeProof
    grants: Mapping[str, bytes]


class Bridge:
    """From our domain to `other`. Belongs to one event loop; the disk blocks it for short.

    Args:
        log: ours, read and its grants deleted.
        ledger: makes proofs from our ledger's folder.
        ours: our newest registry.
        version: a registry of ours by the SHA-256 that its entry in the ledger has; None: not here.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        other: str,
        *,
        log: Log,
        ledger: ReceiptMaker,
        ours: Callable[[], TrustedRegistry],
        version: Callable[[bytes], TrustedRegistry | None],
        neighbours: Neighbours,
        remote: Remote,
        book: BridgeBook,
        now: Callable[[], float],
    ) -> None:
        self.other = other
        self._log = log
        self._ledger = ledger
        self._ours = ours
        self._version = version
        self._neighbours = neighbours
        self._remote = remote
        self._book = book
        self._now = now

    async def turn(self) -> Turn:
        """Carry what can be carried now. What hinders it is in the answer and in the book, and never raised, but for
        the book itself. Raises LogError (path `bridge`)."""
        turn = Turn()
        heard: int | None = None
        try:
            await self._delete_grants()
            await self._give(self._ours())
            heard = int(self._now())
            border = self._neighbours.registry.borders[self.other]
            topics = [name for name in outgoing_of(self._neighbours.registry) if name.startswith(f"{self.other}.")]
            if not border.agreements:
                for name, domain in border.one_sided.items():
                    turn.code, turn.path = "agreement_missing", f"agreement.{name}.{domain}"
                turn.code, turn.path = "agreement_missing", turn.path or "agreement.*"
            contact = self._ledger.contact()
            for topic in topics:
                await self._topic(topic, contact, turn)
            await self._delete_grants()
        except UmuhuzaError as exc:
            if exc.path == "bridge":
                raise
            turn.hindered(exc)
        except KeyError:  # its files are not here, or damaged: `Neighbours.problems`
            turn.code, turn.path = "agency_unknown", "domain"
        self._book.tell(turn.code, turn.path, heard)
        return turn

    async def _give(self, registry: TrustedRegistry) -> None:
        """A version of our registry, once."""
        if not self._book.given(registry.registry.version):
            await self._remote.give_registry(excerpt_for(registry, self.other))
            self._book.gave(registry.registry.version)

    # ---------------------------------------------------------------- one topic

    async def _topic(self, topic: str, contact: HomeContact | None, turn: Turn) -> None:
        while True:
            cursor = self._book.cursor(self._log.log_id, topic)
            try:
                stored = await self._log.read(topic, cursor, BATCH_RECORDS, BATCH_BYTES)
            except LogError as exc:
                if exc.code == "topic_unknown":  # nobody has written to it yet
                    return
                raise
            if not stored:
                return
            settled, ready = await self._prepared(stored, contact, turn)
            done = await self._bring(ready, turn)
            # In order: what stands behind a record that waits is not settled, and is a copy when it comes again.
            finished = {one.offset: one for one in (*settled, *done)}
            row: list[Settled] = []
            for one in stored:
                if one.offset not in finished:
                    break
                row.append(finished[one.offset])
            self._book.settle(self._log.log_id, row, int(self._now()))
            turn.promised += sum(one.promise is not None for one in row)
            turn.refused += sum(one.code is not None for one in row)
            if len(row) < len(stored):
                turn.waiting += len(stored) - len(row)
                return

    async def _prepared(
        self, stored: Sequence[Stored], contact: HomeContact | None, turn: Turn
    ) -> tuple[list[Settled], list[_Ready]]:
        """What will never go, and what can go now, up to the first record that has to wait."""
        settled: list[Settled] = []
        ready: list[_Ready] = []
        for one in stored:
            grants = await self._grants(one)
            try:
                home = None if contact is None else self._proof(one, contact)
                if home is None:
                    turn.hindered(LogError("ledger_behind", "home"))
                    break
                assert contact is not None
                logged = contact.registry(home.record.index)
                if not self._book.given(logged.version):
                    published = self._version(logged.sha256)
                    if published is None:
                        raise LogError("unavailable", "registries")
                    await self._give(published)
                if not grants:
                    raise RecordError("grant_missing", "grants")
            except (LogError, RecordError) as exc:
                if exc.code not in ("record_unlogged", "record_malformed", "grant_missing"):
                    turn.hindered(exc)
                    break
                settled.append(_refused(one, exc, grants))
                continue
            ready.append(_Ready(one, home, grants))
        return settled, ready

    def _proof(self, one: Stored, contact: HomeContact) -> HomeProof | None:
        l1 = l1_sha256_of(one.value)
        if l1 is None or not one.value.isascii():
            raise RecordError("record_malformed", "record")
        return contact.prove(l1, one.topic, one.offset)

    async def _grants(self, one: Stored) -> dict[str, bytes]:
        """What is left of the recipient's keys to this record, by their names in the log."""
        to = split_topic(one.topic)[1]
        agency = self._neighbours.theirs(self.other).registry.agency(to)
        keys = [grant_key(one.ident, key.kid) for key in agency.keys if key.use == "seal"]
        return await self._log.get_grants(grants_topic(to), keys)

    async def _bring(self, ready: Sequence[_Ready], turn: Turn) -> list[Settled]:
        if not ready:
            return []
        lines = [
            CarriedLine(one.stored.value, tuple(orjson.loads(grant) for grant in one.grants.values()), one.home).dumps(
                checkpoint=number == 0
            )
            for number, one in enumerate(ready)
        ]
        entries = [Entry(s.topic, s.key, s.ident, s.value, s.headers) for s in (one.stored for one in ready)]
        settled: list[Settled] = []
        for one, answer in zip(ready, await self._remote.carry(lines, entries), strict=True):
            if isinstance(answer, Appended):
                place = (one.stored.topic, one.stored.offset, one.stored.ident)
                settled.append(Settled(*place, answer.promise or b"", grants=tuple(one.grants)))
            elif _waits(answer):
                turn.hindered(answer)
            else:
                settled.append(_refused(one.stored, answer, one.grants))
        return settled

    # ---------------------------------------------------------------- afterwards

    async def _delete_grants(self) -> None:
        """At home nobody needs the keys of what was promised abroad, or will never go."""
        while due := self._book.grants_due():
            for _, topic, keys in due:
                await self._log.delete_grants(grants_topic(split_topic(topic)[1]), keys)
            self._book.grants_gone([number for number, _, _ in due])


def _waits(error: UmuhuzaError) -> bool:
    """Whether time, or people of both countries, may cure it; the sender need not do anything."""
    if error.retriable or error.code in ("agreement_missing", "agency_unknown"):
        return True
    return isinstance(error, LogError) and error.code not in _FINAL_OF_THE_LOG


def _refused(one: Stored, error: UmuhuzaError, grants: Mapping[str, bytes]) -> Settled:
    return Settled(one.topic, one.offset, one.ident, None, error.code, error.path, tuple(grants))
