# SPDX-License-Identifier: Apache-2.0
"""The bridge: carries what a domain has logged for another one to that one's gateway, and keeps its promise.

    outgoing topics of the home log --read behind the cursor--> home proof --post--> promise --> cursor --> grants gone

One bridge serves one direction; the other domain runs its own for what comes back. It carries records that stand in
topics of the other domain's name, which only members of this one can have written: what came in over a border stands
in a topic of ours, and so there is no loop.

Invariants:
- Nothing goes before a checkpoint of the home ledger covers it, and nothing that the home ledger refuses.
- What the other domain signs of a record that it does not take is checked, kept and served to its sender
  (`topics.refusal`); what is signed otherwise is passed by, and the refusal is the bridge's own word.
- In order per topic: behind a record that has to wait, everything waits. Settled is a record that was promised, or was
  refused for what no waiting cures; then its keys at home are deleted, and never before. A copy, which Kafka may hold
  and the home ledger names, is passed by; so is what was promised when it stood in another log (it was given another
  identity), and whose keys at home are gone.
- An agreement that has ended, or stands in one registry alone, stops everything here at once; the reason is kept, what
  waits stays, and goes when there is one again, if its sender has not withdrawn it.
- Of what was promised its ledger's receipt is asked for, checked and kept (`adapters.receipts_abroad`); nothing waits
  for one.
- Heard is the other domain when it has answered: in every `GREET_S` it is asked for that, if nothing else is.
- A turn is safe to repeat and to kill anywhere: what was brought twice is a copy there.

Must never: open a record, change a byte of it, or hold a key of an agency.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import orjson

from adapters.border_watch import BorderWatch
from adapters.receipt_book import ReceiptRounds
from adapters.receipts_abroad import CarriedReceipts, GivenBy
from schemas.envelope import split_topic
from schemas.errors import LogError, RecordError, RegistryError, UmuhuzaError
from schemas.home_proof import CarriedLine, HomeProof
from schemas.keys import b64url
from schemas.registry_trust import TrustedRegistry
from topics.believed_ledgers import ledgers_of
from topics.borders import excerpt_for, shown_to
from topics.bridge_book import BridgeBook, Settled
from topics.catalogue import outgoing_of
from topics.ledger_entries import l1_sha256_of
from topics.log import Appended, Entry, Log, Stored, grant_key, grants_topic
from topics.neighbours import Neighbours
from topics.receipt_maker import HomeContact, ReceiptMaker
from topics.refusal import NotTaken, check_refusal, waits

BATCH_RECORDS = 200
BATCH_BYTES = 4 << 20
GREET_S = 300.0
"""A bridge that had nothing to say for so long shows the newest checkpoint: who is silent is not taken for idle."""
RECEIPT_S = 60.0
"""The shortest wait between two questions for a receipt with more signatures than the one that is here."""


class Remote(Protocol):
    """The other domain's gateway (`topics.http_log.HttpLog`)."""

    async def carry(self, lines: Sequence[bytes], entries: Sequence[Entry]) -> list[Appended | NotTaken]: ...

    async def give_registry(self, data: bytes) -> None: ...

    async def show_checkpoint(self, data: bytes) -> None: ...

    async def carried_receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        """Of records that were promised; None: not logged yet. Raises UmuhuzaError."""


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
    receipts: tuple[str, str | None] | None = None
    """Code and path of what is wrong with a receipt of theirs: it hinders no record. None: nothing is."""

    def hindered(self, error: UmuhuzaError) -> None:
        """The first reason counts."""
        if self.code is None:
            self.code, self.path = error.code, error.path


@dataclass(frozen=True, slots=True)
class Lag:
    """What stands at home behind the cursor."""

    records: int = 0
    since: float | None = None
    """When the oldest of them was logged, seconds since the epoch, by the log's clock; None: there is none."""


async def lag(log: Log, book: BridgeBook | None, topics: Iterable[str]) -> Lag:
    """Of these outgoing topics together. `book`: None before the bridge's first turn. Raises LogError."""
    records, since = 0, None
    for topic in topics:
        try:
            ends = await log.ends(topic)
            cursor = max(-1 if book is None else book.cursor(log.log_id, topic), ends.first - 1)
            if cursor + 1 >= ends.next:
                continue
            records += ends.next - cursor - 1
            for oldest in await log.read(topic, cursor, 1):
                since = min(since or oldest.at_ms / 1000, oldest.at_ms / 1000)
        except LogError as exc:
            if exc.code != "topic_unknown":  # nobody has written to it yet
                raise
    return Lag(records, since)


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
        clock: seconds, never set back.
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
        watch: BorderWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
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
        self._heard: float | None = None
        """When the other domain last answered this object; None: never, or something hindered us since."""
        self._watch = watch
        self._receipts = ReceiptRounds(CarriedReceipts(book, other), clock, RECEIPT_S, patient=True)

    @property
    def topics(self) -> tuple[str, ...]:
        """Outgoing topics of that domain, as its border is now."""
        return tuple(name for name in outgoing_of(self._neighbours.registry) if name.startswith(f"{self.other}."))

    async def turn(self) -> Turn:
        """Carry what can be carried now. What hinders it is in the answer and in the book, and never raised, but for
        the book itself. Raises LogError (path `bridge`)."""
        turn = Turn()
        before = self._heard
        try:
            await self._delete_grants()
            await self._give(self._ours().registry.version, self._ours)
            border = self._neighbours.registry.borders[self.other]
            if not border.agreements:
                for name, domain in border.one_sided.items():
                    turn.code, turn.path = "agreement_missing", f"agreement.{name}.{domain}"
                turn.code, turn.path = "agreement_missing", turn.path or "agreement.*"
            contact = self._ledger.contact()
            for topic in self.topics:
                await self._topic(topic, contact, turn)
            await self._delete_grants()
            await self._ask_for_receipts(turn)
            if contact is not None and (self._heard is None or self._now() - self._heard >= GREET_S):
                await self._remote.show_checkpoint(contact.checkpoint)
                self._heard = self._now()
        except UmuhuzaError as exc:
            if exc.path == "bridge":
                raise
            turn.hindered(exc)
        except KeyError:  # its files are not here, or damaged: `Neighbours.problems`
            turn.code, turn.path = "agency_unknown", "domain"
        if self._watch is not None and turn.code != "unavailable":
            # After the records, and also where the other side refuses our newest registry: that is when it matters.
            try:
                await self._watch.turn(turn.hindered)
            except UmuhuzaError as exc:
                turn.hindered(exc)
        heard = None if self._heard in (None, before) else int(self._now())
        if turn.code is not None:
            self._heard = None
        self._book.tell(turn.code, turn.path, heard)
        return turn

    async def lag(self) -> Lag:
        """What waits now. Raises LogError."""
        return await lag(self._log, self._book, self.topics)

    async def _give(self, version: int, registry: Callable[[], TrustedRegistry | None]) -> None:
        """A version of our registry, once, and again when the newest agreements name further agencies: a record that
        came into the log after them may still be logged under a version before them."""
        named = shown_to(self._ours(), self.other)
        if self._book.shown(version, named):
            return
        found = registry()
        if found is None:
            raise LogError("unavailable", "registries")
        await self._remote.give_registry(excerpt_for(found, self.other, named))
        self._heard = self._now()
        self._book.show(version, named)

    # ---------------------------------------------------------------- one topic

    async def _topic(self, topic: str, contact: HomeContact | None, turn: Turn) -> None:
        while True:
            cursor = self._book.cursor(self._log.log_id, topic)
            try:
                stored = await self._log.read(topic, cursor, BATCH_RECORDS, BATCH_BYTES)
            except LogError as exc:
                if exc.code == "topic_unknown":  # nobody has written to it yet
                    return
                if exc.code != "retention_passed":
                    raise
                # Removed under retention: the ledger has told their senders; of another log we know nothing anyway.
                if cursor >= 0:
                    turn.hindered(exc)
                first = (await self._log.ends(topic)).first
                stored = await self._log.read(topic, first - 1, BATCH_RECORDS, BATCH_BYTES)
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
                if contact is not None and self._is_copy(one, contact):
                    settled.append(Settled(one.topic, one.offset, one.ident))
                    continue
                home = None if contact is None else self._proof(one, contact)
                if home is None:
                    turn.hindered(LogError("ledger_behind", "home"))
                    break
                assert contact is not None
                logged = contact.registry(home.record.index)
                await self._give(logged.version, partial(self._version, logged.sha256))
                before = self._book.promise(one.ident)
                if before is not None:
                    settled.append(_promised(one, before, grants))
                    continue
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

    def _is_copy(self, one: Stored, contact: HomeContact) -> bool:
        l1 = l1_sha256_of(one.value)
        return l1 is not None and contact.is_copy(l1, one.topic, one.offset)

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
        delayed: list[Settled] = []
        answers = await self._remote.carry(lines, entries)
        self._heard = self._now()
        for one, answer in zip(ready, answers, strict=True):
            if isinstance(answer, Appended):
                settled.append(_promised(one.stored, answer.promise or b"", one.grants))
                continue
            signed = self._signed_of(one.stored, answer)
            refused = _refused(one.stored, answer.error, one.grants, signed)
            if not waits(answer.error):
                settled.append(refused)
                continue
            turn.hindered(answer.error)
            if signed is not None:
                delayed.append(refused)
        self._book.delay(delayed)
        return settled

    def _signed_of(self, one: Stored, answer: NotTaken) -> str | None:
        """The other domain's word for this answer, where it has signed it so."""
        l1 = _known_by(one)
        if answer.jws is None or l1 is None:
            return None
        try:
            told = check_refusal(answer.jws, l1, self.other, self._neighbours.registry)
        except (LogError, RecordError, RegistryError):
            return None
        same = (told.code, told.final) == (answer.error.code, not waits(answer.error))
        return answer.jws if same else None

    # ---------------------------------------------------------------- afterwards

    async def _ask_for_receipts(self, turn: Turn) -> None:
        """What their ledger says of what they promised; what it says against that promise is kept, and told here."""
        policy = self._neighbours.trust(self.other).policy
        source = GivenBy(self._remote.carried_receipts)
        try:
            await self._receipts.turn(source, policy, ledgers_of(policy, self.other)[-1])
        except UmuhuzaError as exc:
            # Whoever answered just now is there: a gateway of an earlier version does not know the path.
            if exc.code != "unavailable":
                turn.receipts = (exc.code, exc.path)

    async def _delete_grants(self) -> None:
        """At home nobody needs the keys of what was promised abroad, or will never go."""
        while due := self._book.grants_due():
            for _, topic, keys in due:
                await self._log.delete_grants(grants_topic(split_topic(topic)[1]), keys)
            self._book.grants_gone([number for number, _, _ in due])


def _promised(one: Stored, promise: bytes, grants: Mapping[str, bytes]) -> Settled:
    return Settled(one.topic, one.offset, one.ident, promise, grants=tuple(grants), l1=_known_by(one))


def _refused(one: Stored, error: UmuhuzaError, grants: Mapping[str, bytes], signed: str | None = None) -> Settled:
    at = (one.topic, one.offset, one.ident)
    return Settled(*at, None, error.code, error.path, tuple(grants), _known_by(one), signed)


def _known_by(one: Stored) -> str | None:
    l1 = l1_sha256_of(one.value)
    return None if l1 is None else b64url(l1)
