# SPDX-License-Identifier: Apache-2.0
"""The loop of one agency: connector -> outbox -> log, log -> inbox -> connector.

Five turns, each safe to run at any time, each leaving everything durable: `collect`, `send`, `receive`, `deliver`,
`watch` (deadlines).
`run` goes round them for ever; a failure of one (no network, disk full, a workbook open in Excel) is noted in
`troubles` with its code and tried again with back-off and jitter, no sooner than the gateway asked, and stops no other.

`step` is called after every durable step with its name; tests kill the process there. If we die between two steps, the
mailbox's rules say what happens next (see `adapters/mailbox.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Protocol

from adapters.connectors.contract import Connector, Escalation, NotNowError
from adapters.contact_book import ContactBook
from adapters.deadlines import ARRIVAL_GRACE_S, Deadlines
from adapters.desk import Desk, backoff_s
from adapters.home_ledger import HomeLedger
from adapters.inbox import Inbox
from adapters.outbox import Outbox
from adapters.sending import Sender
from schemas.envelope import chain_hash, parse_manifest
from schemas.errors import LogError, UmuhuzaError
from schemas.keys import VerifyKey
from topics.log import Log


def _no_step(_name: str) -> None:
    return


@dataclass
class Pace:
    """How often, in seconds."""

    collect_s: float = 2.0
    """Looking at the agency's system."""
    wait_s: float = 55.0
    """One long poll of the mailboxes."""
    idle_s: float = 1.0
    """Between two looks at the outbox and at what is held."""
    watch_s: float = 30.0
    """Between two looks at what is due."""
    check_s: float = 300.0
    """Between two questions whether the log is still the one that we have read."""


REACHED_EVERY_S = 60.0
"""How often it is written down that the domain answers, or still does not."""


class SentHead(Protocol):
    """The end of our own chain on one topic."""

    @property
    def seq(self) -> int: ...


class SentManifest(Protocol):
    """One of our own manifests, not verified."""

    @property
    def offset(self) -> int: ...
    @property
    def line1(self) -> bytes: ...


class SentByUs(Protocol):
    """What a gateway tells an agency about itself (`topics.http_log.HttpLog`)."""

    async def sent_heads(self) -> Mapping[str, SentHead]:
        """Topic -> the end of our own chain there."""

    async def sent(self, topic: str, after: int) -> Sequence[SentManifest]:
        """Our own manifests with seq > after, ascending; a page of them."""


@dataclass
class Runner:
    """One agency's adapter: its mailbox, the log, its connectors. Used from one event loop."""

    desk: Desk
    log: Log
    connectors: Sequence[Connector]
    step: Callable[[str], None] = _no_step
    pace: Pace = field(default_factory=Pace)
    collecting: AbstractContextManager[None] = field(default_factory=nullcontext)
    """Held while the agency's systems are looked at: two programs must not take the same file at once."""
    arrival_grace_s: float = ARRIVAL_GRACE_S
    """How long after she was expected a missing arrival alarms."""
    on_escalation: Callable[[Escalation], None] = lambda _escalation: None
    before_send: Callable[[], None] = lambda: None
    """Raises UmuhuzaError when nothing may leave now."""
    on_trouble: Callable[[str, UmuhuzaError], None] = lambda _turn, _exc: None
    home: HomeLedger | None = None
    """Asked where records from revoked keys stand; None: the log's time decides alone."""
    troubles: dict[str, str] = field(default_factory=dict)
    """Turn -> code of what stops it now; empty when all is well."""

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.desk)
        self.sender = Sender(self.desk, self.outbox)
        self.inbox = Inbox(self.desk, self.outbox, self.home)
        self.deadlines = Deadlines(self.desk, self.outbox, self.arrival_grace_s, self.on_escalation)
        self._send_now = asyncio.Event()
        self._check_at = float("-inf")
        self.contact = ContactBook(self.desk.mailbox)
        self._noted: tuple[str, float] = ("", float("-inf"))
        """Last code of the way to the domain that was written down, and when."""
        self._deliver_now = asyncio.Event()

    # -- the five turns -----------------------------------------------------------------------------------------------

    async def collect(self) -> int:
        """Take what is new in the agency's systems into the outbox. Returns how many lines were new.

        Raises:
            UmuhuzaError: a batch has to wait (registry_stale, storage_full); those behind it were taken all the same.
        """
        count = 0
        waits: UmuhuzaError | None = None
        with self.collecting:
            for connector in self.connectors:
                async for batch in connector.collect():
                    self.step("collected")
                    try:
                        outcomes = self.outbox.accept(batch, connector.name)
                    except UmuhuzaError as exc:
                        waits = exc
                        continue  # collected again
                    self.step("accepted")
                    count += sum(not outcome.again for outcome in outcomes)
                    try:
                        await connector.settle(batch, outcomes)
                    except NotNowError:
                        continue  # collected again, with the same outcomes
                    self.desk.mailbox.mark_settled(batch.source)
                    self.step("reported")
        if count:
            self._send_now.set()
        if waits is not None:
            raise waits
        return count

    async def send(self) -> int:
        """Sign and send what is due. Returns how many records moved.

        Raises:
            UmuhuzaError: what `before_send` holds back; everything waits where it is.
        """
        self.before_send()
        return await self.sender.send(self.log, self.step)

    async def receive(self, wait_s: float = 0.0) -> int:
        """Read our mailboxes once. Returns how many entries were taken.

        Raises:
            LogError: log_inconsistent when the log is older than what we have read; asked at first and then every few
                minutes, since a log is put back under a running adapter too.
        """
        try:
            count = await self._receive(wait_s)
        except UmuhuzaError as exc:
            self.note_way(exc.code)
            raise
        self.note_way("")
        return count

    def note_way(self, code: str) -> None:
        """How it went between us and the domain just now: empty, or the code of why not. Durable, once a minute.

        A disk that cannot take it stops nothing: other turns say so.
        """
        at = self.desk.now()
        if code == self._noted[0] and 0 <= at - self._noted[1] < REACHED_EVERY_S:
            return
        with suppress(LogError):
            if code:
                self.contact.missed(int(at), code)
            else:
                self.contact.reached(int(at))
            self._noted = (code, at)

    async def _receive(self, wait_s: float) -> int:
        now = asyncio.get_running_loop().time()  # no wall clock: a wrong one would put the check off for years
        if now >= self._check_at:
            await self.inbox.check_cursors(self.log)
            self._check_at = now + self.pace.check_s
        count = await self.inbox.receive(self.log, wait_s, self.step)
        if "receive" in self.troubles and self.sender.link_is_back():
            self._send_now.set()
        if count:
            self._send_now.set()
            self._deliver_now.set()
        return count

    async def deliver(self) -> int:
        """Hand over what is ready, tell connectors what became of their items. Returns how many were delivered."""
        await self.inbox.look_again(self.log)
        count = await self.inbox.deliver(self.connectors, self.step)
        count += await self.inbox.corrections.catch_up(self.connectors)
        await self._tell()
        return count

    async def watch(self) -> int:
        """Look at the clock: escalate what is due, let expire what nobody answered. Returns how many expired."""
        count = await self.deadlines.turn(self.log, self.step)
        try:
            self.contact.take(self.inbox.opened)
        except UmuhuzaError as exc:
            self.on_trouble("contacts", exc)
        await self.deadlines.tell(self.connectors)
        if count:
            self._send_now.set()
        return count

    async def _tell(self) -> None:
        by_name = {connector.name: connector for connector in self.connectors}
        for item in self.desk.mailbox.untold():
            connector = by_name.get(item.connector)
            if connector is not None:
                try:
                    await connector.changed(item.evt, item.line, item.source, item.state, item.code)
                except NotNowError:
                    continue
            self.desk.mailbox.mark_told(item.evt, item.state)

    # -- coming back --------------------------------------------------------------------------------------------------

    async def reconcile(self, sent: SentByUs) -> int:
        """Compare what we have sent with what the gateway has of ours. Returns how many manifests were new to us.

        It knows more: our mailbox was put back from a backup, and would use its numbers twice. We learn from it; what
        it shows is ours iff a key of ours signed it, so a lying gateway can do no more than refuse.
        We know more than was promised: its log was put back from a copy. The same bytes go again.
        """
        learned = 0
        heads = await sent.sent_heads()
        for topic in self.desk.mailbox.chains.heads():
            if self.desk.mailbox.send_again(topic, heads[topic].seq if topic in heads else 0):
                self._send_now.set()
        for topic, end in heads.items():
            while (own := self.desk.mailbox.chains.head(topic)[0]) < end.seq:
                page = await sent.sent(topic, own)
                for one in page:
                    self._adopt(topic, one.offset, one.line1)
                now = self.desk.mailbox.chains.head(topic)[0]
                if now == own:
                    break  # it promised more than it has
                learned += now - own
        return learned

    def _adopt(self, topic: str, offset: int, line1: bytes) -> None:
        """One manifest that the gateway holds, unless it is not ours or teaches nothing."""
        box = self.desk.mailbox
        kid, signed, signature, manifest = parse_manifest(line1)
        own, _ = box.chains.head(topic)
        if manifest.seq <= own or not any(key.verifies(signed, signature) for key in self._own_keys(kid)):
            return
        if manifest.topic != topic:
            return  # ours, but of another chain: adopting it would break this one
        with box.transaction():
            item = box.outgoing(manifest.evt)
            if item is not None and item.state == "waiting":
                # Sealed before the backup, signed after it: what was sent stands, and is not signed again.
                if manifest.seq > own + 1:
                    box.chains.set_head(topic, manifest.seq - 1, manifest.prev)
                box.mark_signed(manifest.evt, manifest.seq, line1, chain_hash(line1), manifest.voids)
                box.mark_promised(manifest.evt, offset, None)
            else:
                box.chains.set_head(topic, manifest.seq, chain_hash(line1))

    def _own_keys(self, kid: str) -> list[VerifyKey]:
        """Our key of that name, of today or before: what a key signed that has been lost since holds its number."""
        ours = self.desk.registry().agencies.get(self.desk.agency)
        registered = () if ours is None else ours.keys
        keys = [self.desk.keys.sig.public, *(VerifyKey(key.public) for key in registered if key.use == "sig")]
        return [key for key in keys if key.kid == kid]

    # -- for ever -----------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Go round until `stop`; then finish what is under way. Never raises for what can be tried again."""
        turns = (
            asyncio.create_task(self._loop("collect", self.collect, self.pace.collect_s, None)),
            asyncio.create_task(self._loop("send", self.send, self.pace.idle_s, self._send_now)),
            asyncio.create_task(self._loop("receive", lambda: self.receive(self.pace.wait_s), 0.0, None)),
            asyncio.create_task(self._loop("deliver", self.deliver, self.pace.idle_s, self._deliver_now)),
            asyncio.create_task(self._loop("watch", self.watch, self.pace.watch_s, None)),
        )
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((stopping, *turns), return_when=asyncio.FIRST_COMPLETED)
            for turn in turns:
                if turn.done():
                    turn.result()  # a bug, not a failure: let it be seen
        finally:
            for task in (*turns, stopping):
                task.cancel()
            await asyncio.gather(*turns, stopping, return_exceptions=True)

    async def _loop(
        self, name: str, turn: Callable[[], Awaitable[int]], idle_s: float, wake: asyncio.Event | None
    ) -> None:
        failures = 0
        while True:
            try:
                moved = await turn()
            except UmuhuzaError as exc:
                self.troubles[name] = exc.code
                self.on_trouble(name, exc)
                await asyncio.sleep(exc.retry_after_s + min(60.0, backoff_s(failures, self.desk.random)))
                failures += 1
                continue
            failures = 0
            self.troubles.pop(name, None)
            if moved and idle_s:
                continue
            if wake is None:
                await asyncio.sleep(idle_s)
                continue
            try:
                # Not `wait_for`: before Python 3.12 it forgets a cancellation that comes together with what it waits
                # for, and this turn would go on when all else has ended.
                async with asyncio.timeout(idle_s):
                    await wake.wait()
            except TimeoutError:
                continue
            wake.clear()
