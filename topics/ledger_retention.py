# SPDX-License-Identifier: Apache-2.0
"""Retention: records whose time is over are removed from the log, after the ledger has said so.

Removed is a beginning of a topic, never something in the middle: everything below an offset of which each record

1. is older, by the log's time, than the policy keeps its flow (`topics.catalogue.retention_s`);
2. is sequenced: its hashes stand in the ledger, and so do the proofs, for ever;
3. is *delivered*, as far as the domain can know. Nobody but a mailbox's owner knows what it has read; what it has
   *said* is in the log, signed: a record of the owner that names another one (`ref`: a receipt, an answer) shows that
   it has read that one, and everything before it in that mailbox, since an adapter takes a mailbox in order, each
   record with its cursor in one transaction. Where nothing is ever answered (a mailbox of receipts) a record counts as
   delivered when its owner has answered something that is `MARGIN_MS` younger, in any of its mailboxes, which an
   adapter reads together.

4. no command to erase whose erasure is open (`topics.ledger_erasures`): it says what has to go.

What is old and not delivered stays, and is counted as overdue. Its sender hears it from its own adapter, which knows
that nobody has acknowledged it and whom to telephone (`adapters.deadlines`, alarm `undelivered`); the keeper of the log
is told here, and whose it is: a sender that has lost its adapter too can be telephoned.

    log entry `retention` (first offset kept) -> read back -> remove the grants -> remove from the log

Grants of what is removed go with it, whoever's they are: a key to what nobody is handed any more is only a danger.
SQLite does both in one transaction; on Kafka the grants go first, while it is still known whose they are. There the
grants of a record that did not count stay.

If we crash between: the entry says what may be removed, and the next run removes it. It must never remove what no entry
says or what is not due by the rule above, whatever an entry says, nor decide by anything that is not signed or in the
log.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from schemas.envelope import split_topic
from schemas.errors import LogError
from topics.catalogue import retention_s
from topics.ledger import Sequencer
from topics.ledger_entries import LedgerEntry
from topics.ledger_view import LedgerView, TopicState
from topics.log import Log
from topics.policy_file import policy

MARGIN_MS = 30 * 86_400_000
"""So much younger is what an owner must have answered, where this mailbox itself tells nothing."""
NEVER_ANSWERED = frozenset(("receipt",))
"""Flows whose records nobody answers."""


class Trims(Protocol):
    """A log from whose topics beginnings can be removed; on Kafka an administrator's."""

    async def trim(self, topic: str, before: int) -> int: ...


@runtime_checkable
class RemovesGrants(Protocol):
    """One whose `trim` leaves the grants where they are: on Kafka they stand in other topics than their records."""

    async def remove_grants(self, gone: Callable[[Sequence[str]], Collection[str]]) -> None:
        """Durably delete every grant of every record that is gone, whoever's it is, also of who has left.

        Args:
            gone: those of these records ("<iss>/<evt>") that retention removes; asked on the event loop.

        Raises LogError; what was done before it is done."""


@dataclass(frozen=True, slots=True)
class Due:
    """What retention finds in one topic."""

    topic: str
    first: int
    """First offset kept now."""
    keep_from: int
    """First offset to be kept: == first when nothing goes."""
    overdue: int
    """Records that are old enough and not known to be delivered."""
    senders: Mapping[str, int] = field(default_factory=dict)
    """Agency -> how many of these are its own, by id: whom the keeper telephones."""


async def due(log: Log, view: LedgerView, *, now_ms: int, keep_s: Mapping[str, int] | None = None) -> list[Due]:
    """What could be removed now, topics in order; those where nothing is old are left out.

    Args:
        now_ms: milliseconds since the epoch.
        keep_s: seconds per flow instead of the policy's.

    Raises LogError.
    """
    found: list[Due] = []
    for name, state in sorted(view.topics.items()):
        flow, owner = split_topic(name)
        if flow not in policy().retention_days and (keep_s is None or flow not in keep_s):
            continue
        kept_s = retention_s(flow) if keep_s is None else keep_s.get(flow, retention_s(flow))
        try:
            one = await _due_in(log, view, name, state, owner, now_ms - kept_s * 1000)
        except LogError as exc:
            if exc.code != "topic_unknown":
                raise
            continue
        if one.keep_from > one.first or one.overdue:
            found.append(one)
    return found


async def _due_in(log: Log, view: LedgerView, name: str, state: TopicState, owner: str, old_ms: int) -> Due:
    ends = await log.ends(name)
    held = min((one.offset for one in view.erasing() if one.topic == name), default=state.next)
    heard_ms = view.heard_of(owner) - MARGIN_MS if split_topic(name)[0] in NEVER_ANSWERED else 0
    at, keep_from = ends.first, ends.first
    senders: Counter[str] = Counter()

    def found() -> Due:
        return Due(name, ends.first, keep_from, senders.total(), dict(sorted(senders.items())))

    while at < min(state.next, ends.next):
        stored = await log.read(name, at - 1, limit=100)
        for one in stored:
            if one.at_ms >= old_ms or one.offset >= state.next:
                return found()
            delivered = one.offset <= state.read_to or one.at_ms <= heard_ms
            if delivered and not senders and one.offset < held:
                keep_from = one.offset + 1
            elif not delivered:
                senders[one.ident.rpartition("/")[0]] += 1
        if not stored:
            break
        at = stored[-1].offset + 1
    return found()


async def execute(sequencer: Sequencer, log: Log, trims: Trims, found: Sequence[Due]) -> dict[str, int]:
    """Log what goes, read it back, remove it; also what an earlier run had logged and not removed.

    Returns:
        Topic -> first offset kept, of each topic that lost something.

    Raises LogError: what was done before it is done; run it again.
    """
    entries = [
        LedgerEntry("retention", one.topic, detail=str(one.keep_from))
        for one in found
        if one.keep_from > max(one.first, sequencer.view.topic(one.topic).start)
    ]
    while not await sequencer.append(entries):
        """Another sequencer's batch came first."""
    allowed = {one.topic: one.keep_from for one in found}
    goes: dict[str, int] = {}
    keep_from: dict[str, int] = {}
    for name, state in sorted(sequencer.view.topics.items()):
        try:
            ends = await log.ends(name)
        except LogError as exc:
            if exc.code != "topic_unknown":
                raise
            continue
        # Whoever may append to the store can have an entry there that says anything: it removes nothing by itself.
        keep_from[name] = min(state.start, allowed.get(name, ends.first))
        if ends.first < keep_from[name]:
            goes[name] = keep_from[name]

    def gone(idents: Sequence[str]) -> list[str]:
        """Also what an earlier run removed and whose grants it left."""
        places = sequencer.view.places(idents)
        return [ident for ident, (name, offset) in places.items() if offset < keep_from.get(name, 0)]

    if goes and isinstance(trims, RemovesGrants):
        await trims.remove_grants(gone)
    return {name: await trims.trim(name, before) for name, before in goes.items()}


class Scheduled:
    """Retention at its times. `turn` between two rounds of the sequencer, never beside one.

    Args:
        trims: opens who may remove; asked at every run.
        every_s: seconds between two runs; the first is at once.
        now_ms: milliseconds since the epoch.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        log: Log,
        sequencer: Sequencer,
        trims: Callable[[], AbstractAsyncContextManager[Trims]],
        *,
        every_s: float,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._sequencer = sequencer
        self._trims = trims
        self._every_s = every_s
        self._now_ms = now_ms
        self._clock = clock
        self._next_at: float | None = None
        self.undelivered = 0
        """Records that are past their time and not known to be delivered, as the last run saw."""
        self.problem: str | None = None
        """Code of why the last run did not go through; None when it did."""

    async def turn(self) -> None:
        """Run, if it is time. What goes wrong is in `problem`; the next run does it again.

        Raises LogError `log_inconsistent`, `root_mismatch`, `log_closed`: nobody may go on.
        """
        if self._next_at is not None and self._clock() < self._next_at:
            return
        self._next_at = self._clock() + self._every_s
        try:
            found = await due(self._log, self._sequencer.view, now_ms=self._now_ms())
            self.undelivered = sum(one.overdue for one in found)
            async with self._trims() as trims:
                await execute(self._sequencer, self._log, trims, found)
        except LogError as error:
            if error.code in ("log_inconsistent", "root_mismatch", "log_closed"):
                raise
            self.problem = error.code
        else:
            self.problem = None
