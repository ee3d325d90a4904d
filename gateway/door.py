# SPDX-License-Identifier: Apache-2.0
"""What the routes of one gateway share, and its life: start, background work, stop.

Background work, once every `follow_seconds`: apply what other gateways wrote, bring the index to its file, finish
erasures, make the mailboxes of new members. Everything it does is done again after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from pathlib import Path

from gateway.access import Access, Session
from gateway.checking import Checker, Checks, Here, Runner
from gateway.examine import Checked
from gateway.following import Follower
from gateway.index import Index
from gateway.intake import Intake
from gateway.judging import Placed
from gateway.metrics import Metrics
from gateway.objections import OBJECTIONS, ObjectionBook
from gateway.quota import Limits, Quotas
from gateway.receipt_desk import ReceiptDesk
from gateway.settings import Settings, read_sealing_key
from schemas.errors import AccessError, LogError
from schemas.keys import RandomBytes, SealingKey, SigningKey, b64url, unb64url
from schemas.ledgers import number_in
from schemas.registry import Registry
from topics.catalogue import topics_of
from topics.ledger_entries import GOOD_KINDS
from topics.ledger_served import ServedLedger
from topics.log import Log, Stored
from topics.neighbours import Neighbours
from topics.passphrase import unattended
from topics.policy_file import policy
from topics.private_file import Passphrase
from topics.registry_file import RegistryFile
from topics.verification import Verified
from topics.witness import Witness
from topics.witness_folder import open_witness

_FOLLOWS_S = 30.0
_LAG_EVERY_S = 15.0
"""One question per topic, which a cluster with hundreds of them should not be asked every two seconds."""


def limits_of(settings: Settings) -> Limits:
    """The policy's quota, unless the settings say otherwise."""
    quota = policy().quota
    return Limits(
        records_per_minute=settings.records_per_minute or quota.records_per_minute,
        megabytes_per_hour=settings.megabytes_per_hour or quota.megabytes_per_hour,
        grants_per_record=quota.grants_per_record,
        waiting_reads=settings.waiting_reads or quota.waiting_reads,
    )


@dataclass(slots=True)
class Door:
    """One gateway, without its HTTP server. Owns the log and the index: `close` closes both."""

    settings: Settings
    registry_file: RegistryFile
    log: Log
    index: Index
    checker: Checker
    checks: Checks
    follower: Follower
    intake: Intake
    access: Access
    metrics: Metrics
    run: Runner
    now: Callable[[], float]
    limits: Limits
    objections: ObjectionBook
    key: SigningKey
    random: RandomBytes
    opener: SealingKey | None = None
    """Opens bundles from sticks."""
    witness: Witness | LogError | None = None
    """This domain's witness; or why it cannot be opened, which stops nothing but the witness."""
    ledger: ServedLedger | None = None
    receipts: ReceiptDesk | None = None
    neighbours: Neighbours | None = None
    """Other domains, as far as agreements open the border to them."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the gateway stops: waiting reads answer at once."""
    waiting: Counter[str] = field(default_factory=Counter)
    _background: asyncio.Task[None] | None = None
    _flushing: asyncio.Task[None] | None = None
    """The last write of the index to its file."""
    _followed: float = 0.0
    """When the log was last followed to its end."""
    _date: tuple[int, bytes] = (0, b"")

    @property
    def registry(self) -> Registry:
        """The newest, with what is open to other domains."""
        return self.registry_file.registry if self.neighbours is None else self.neighbours.registry

    def session(self, authorization: bytes | None, *, bridge: bool = False) -> Session:
        """Who calls: a member, or, where it is asked for, another domain's bridge and nobody else.

        Raises AccessError: as `Access.check`; token_invalid, a member where a bridge is asked for, or the reverse.
        """
        session = self.access.check(authorization, self.registry, self.now())
        if bridge == (session.agency in self.registry.agencies):
            raise AccessError("token_invalid", "Authorization")
        return session

    def date(self) -> bytes:
        """The Date header's value: adapters correct their clocks by it."""
        second = int(self.now())
        if second != self._date[0]:
            self._date = (second, formatdate(second, usegmt=True).encode("ascii"))
        return self._date[1]

    async def ready(self) -> None:
        """Raises LogError `unavailable` when the log does not answer, or this gateway no longer follows it."""
        mailboxes = [topic for topic in self.checks.rules.topics if ".grants." not in topic]
        topics = [topic for topic in mailboxes if topic not in self.follower.troubled]
        try:
            if self._background is None or self._background.done() or (mailboxes and not topics):
                raise LogError("unavailable")
            if self.now() - self._followed > _FOLLOWS_S + 10 * self.settings.follow_seconds:
                raise LogError("unavailable")
            if topics:
                await self.log.ends(min(topics))
        except LogError:
            self.metrics.log_up.set(0)
            raise
        self.metrics.log_up.set(1)

    async def start(self) -> None:
        """Catch up with the log. Raises LogError."""
        await self.intake.make_topics()
        await self.follower.follow()
        self._followed = self.now()
        self.metrics.log_up.set(1)
        self.metrics.topics_missing.set(len(self.follower.troubled))
        await self.flush()
        self._background = asyncio.create_task(self._work())

    async def _work(self) -> None:
        measured = 0.0
        while True:
            await asyncio.sleep(self.settings.follow_seconds)
            try:
                await self.intake.make_topics()
                if self.now() - measured >= _LAG_EVERY_S:
                    measured = self.now()
                    self.metrics.index_lag.set(await self.follower.lag())
                await self.follower.catch_up()
                self._followed = self.now()
                self.intake.erase_soon()
                self.metrics.log_up.set(1)
            except LogError:  # not now: the next round, and /readyz says so meanwhile
                self.metrics.log_up.set(0)
            self.metrics.topics_missing.set(len(self.follower.troubled))
            await self.flush()

    async def flush(self) -> None:
        """Bring the index to its file, in a thread where there is one."""
        if self.index.begin_flush():
            self._flushing = asyncio.create_task(self._write_index())
        if self._flushing is not None:
            # Who waits may be cancelled; the thread goes on, and nobody else may touch its connection meanwhile.
            await asyncio.shield(self._flushing)
        self.metrics.index_unwritten.set(self.index.unwritten())

    async def _write_index(self) -> None:
        written = False
        try:
            written = (await self.run.map(Index.write, [self.index]))[0]
        finally:
            self.index.end_flush(written)

    async def close(self) -> None:
        """Idempotent. What was accepted is durable already."""
        self.closing.set()
        background, self._background = self._background, None
        async with contextlib.AsyncExitStack() as last:  # from the bottom up, whatever of it fails
            last.push_async_callback(self.log.close)
            for one in (self.receipts, self.ledger, self.witness if isinstance(self.witness, Witness) else None):
                if one is not None:
                    last.callback(one.close)
            last.callback(self.index.close)
            if self._flushing is not None:
                last.push_async_callback(asyncio.wait, {self._flushing})
            last.push_async_callback(self.checker.close)
            last.push_async_callback(self.intake.drain)
            if background is not None:
                background.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await background


def _witness_of(settings: Settings, passphrase: Passphrase) -> Witness | LogError | None:
    """Raises SettingsError, KeyStoreError: its keys cannot be read."""
    if settings.witness is None:
        return None
    try:
        return open_witness(settings.witness, passphrase)
    except LogError as exc:
        return exc


async def _is_ahead(index: Index, log: Log, registry: Registry) -> bool:
    """Whether the index has applied what the log does not have."""
    for topic in topics_of(registry):
        if ".grants." not in topic and index.next_offset(topic):
            try:
                if index.next_offset(topic) > (await log.ends(topic)).next:
                    return True
            except LogError as exc:
                if exc.code == "topic_unknown":
                    return True
                if exc.path != topic:
                    raise
                # Not the topic that it was: following says so, and the others are served.
    return False


async def open_door(
    settings: Settings,
    *,
    log: Log,
    registry_file: RegistryFile,
    key: SigningKey,
    now: Callable[[], float],
    random: RandomBytes,
    run: Runner,
    checker: Callable[[Checker, Callable[[], None]], Awaitable[Checker]] | None = None,
    make_topics: Callable[[Sequence[str]], Awaitable[None]] | None = None,
    storage: Callable[[], float] = lambda: 0.0,
    log_wal: Callable[[], float] = lambda: 0.0,
    index_in_memory: bool = False,
    passphrase: Passphrase = unattended,
) -> Door:
    """Put a gateway together over an open log and catch up with it. `passphrase` opens its witness's key, if locked."""
    metrics = Metrics()
    limits = limits_of(settings)
    witness, opener = _witness_of(settings, passphrase), read_sealing_key(settings, passphrase)
    index = Index.open(None if index_in_memory else settings.index, log.log_id)
    if not index_in_memory and await _is_ahead(index, log, registry_file.registry):
        # The log was put back from an older copy, the index was not: it would promise what no log holds.
        index.close()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{settings.index}{suffix}").unlink(missing_ok=True)
        index = Index.open(settings.index, log.log_id)
    ledger = None if settings.ledger is None else ServedLedger(settings.ledger)

    def logged(l1_sha256: str, topic: str) -> Placed | None:
        offset = None if ledger is None else ledger.offset_of(unb64url(l1_sha256), topic)
        return None if offset is None else (offset, int(now() * 1000), True)

    def placed(served: ServedLedger, l1_sha256: bytes, topic: str) -> int | None:
        said = {str(one["kind"]): int(one["index"]) for one in reversed(served.said_of(l1_sha256, topic))}
        counted = [index for kind, index in said.items() if kind in GOOD_KINDS]
        return counted[0] if counted else -1 if "reject" in said else None

    neighbours = None
    if settings.neighbours is not None:
        neighbours = Neighbours(settings.neighbours, lambda: registry_file.trusted, now)

    def registry() -> Registry:
        return registry_file.registry if neighbours is None else neighbours.registry

    def abroad(one: Stored) -> Checked:
        found = None if neighbours is None else neighbours.judged(one)
        return (found.manifest, b64url(found.l1_sha256)) if isinstance(found, Verified) else None

    here = Here(run)
    checking = here if checker is None else await checker(here, metrics.checkers_lost.inc)
    checks = Checks(registry, checking)

    def announced() -> str | None:
        """The ledger that counts now, as the registry says."""
        ledgers = registry_file.registry.ledgers
        return ledgers[-1].origin if ledgers else None

    def served() -> str | None:
        return None if ledger is None else ledger.origin()

    follower = Follower(
        log,
        index,
        checks,
        abroad,
        None if ledger is None else partial(placed, ledger),
        lambda: number_in(served() or "") or 1,
    )
    intake = Intake(
        log,
        index,
        checks,
        follower,
        key=key,
        agency=settings.agency,
        quotas=Quotas(limits),
        now=now,
        make_topics=make_topics,
        append_seconds=metrics.append_seconds.observe,
        logged=logged,
        origin=lambda: announced() or served(),
    )
    metrics.watch(
        storage=storage,
        log_wal=log_wal,
        registry_age=lambda: max(now() - registry_file.registry.issued, 0.0),
        registry_refused=lambda: float(registry_file.problem is not None),
        registry_ends=lambda: float(registry_file.trusted.ends_at(int(now())) - now()),
        ledger_differs=lambda: float(None not in (announced(), served()) and announced() != served()),
        pending=lambda: float(intake.pending()),
    )
    door = Door(
        settings=settings,
        registry_file=registry_file,
        log=log,
        index=index,
        checker=checking,
        checks=checks,
        follower=follower,
        intake=intake,
        access=Access(key, settings.agency, random, settings.token_seconds),
        metrics=metrics,
        run=run,
        now=now,
        limits=limits,
        objections=ObjectionBook(
            settings.index.with_name(OBJECTIONS),
            registry,
            now,
            dict if neighbours is None else lambda: neighbours.of_us,
        ),
        key=key,
        random=random,
        opener=opener,
        witness=witness,
        ledger=ledger,
        neighbours=neighbours,
        receipts=None if settings.ledger is None else ReceiptDesk(settings.ledger),
    )
    await door.start()
    return door
