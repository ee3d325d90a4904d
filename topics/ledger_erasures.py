# SPDX-License-Identifier: Apache-2.0
"""Erasure, the last step: the ledger says that it is done once nothing that was to go can be read any more.

    record with acts.erase -> entry `erasure` -> gateways delete the grants -> the log's keepers lose the bytes
        -> a read from the earliest offset finds no key of any target -> entry `erased`

`erased` is the word of who keeps the log, under its signed root and its witnesses': the tombstone is not enough, since
on Kafka a value can be read before its tombstone until the segment is compacted, and in SQLite's files until they are
overwritten. So it is never said from what an index, a view or a broker's answer to a key says (`topics.log.ShowsGrants`
reads it all, every holder's topics, every key that anybody ever had). What it cannot say: what lies in backups, in
replicas that follow late, in what a file system or a flash chip kept, and what was already read.

Targets are what the record may command: those whose issuer or holder signed it, as gateways decide; a target of which
the holder is not known any more counts too. A record that is past retention says nothing any more, so retention does
not pass one whose erasure is open (`topics.ledger_retention`); what is open for longer than `DUE_MS` is overdue.

If we crash: before the entry is in the store, it is looked again. Several ledgers may look at once: the entry of one is
the other's too. It must never delete anything, nor be what the sequencer waits for: reading goes on beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.envelope import Manifest, parse_manifest
from schemas.errors import LogError, RecordError
from topics.ledger import Sequencer
from topics.ledger_entries import LedgerEntry
from topics.ledger_view import Commanded, LedgerView
from topics.log import Log, ShowsGrants

DUE_MS = 86_400_000
"""After a day something is wrong: Kafka needs an hour and some minutes, SQLite no time."""
AT_ONCE = 64
"""Commands that are looked after in one read."""
FIRST_PAUSE_S = 2.0
"""Before the second look; from then on four times as long each time, up to what is set."""
REST = 4
"""So many times as long as it took, nothing is read after a look, whatever is commanded meanwhile."""


class ErasureLog(Log, ShowsGrants, Protocol):
    """A log that can be read from its earliest offset: `SqliteLog`, `KafkaLog`."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an `erasure` entry's record says."""

    at_ms: int
    targets: frozenset[str]


class Erasures:
    """One ledger's. `turn` between two rounds of the sequencer, never beside one; `close` at the end.

    Args:
        every_s: longest time between two reads while an erasure is open, seconds.
        now_ms: milliseconds since the epoch.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        log: ErasureLog,
        sequencer: Sequencer,
        *,
        now_ms: Callable[[], int],
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._sequencer = sequencer
        self._now_ms = now_ms
        self._every_s = every_s
        self._clock = clock
        self._said: dict[Commanded, Command | None] = {}
        """What open commands say; None: the record cannot be read any more."""
        self._looking: asyncio.Task[set[str]] | None = None
        self._asked: tuple[Commanded, ...] = ()
        self._seen: set[Commanded] = set()
        """Looked after since the last pause."""
        self._pause_s = FIRST_PAUSE_S
        self._began_at = self._again_at = self._rest_until = 0.0
        self.open = 0
        """Erasures that are commanded and not known to be done."""
        self.overdue = 0
        """Those of them that were commanded longer ago than `DUE_MS`, or whose record cannot be read any more."""
        self.problem: str | None = None
        """Code of why the last look could not be made; None when it could."""

    async def turn(self) -> None:
        """Say what the last look showed to be done; begin another one when it is time.

        Raises LogError: the store, the log or the view cannot be used now; the next turn goes on.
        """
        view = self._sequencer.view
        if self._looking is not None and self._looking.done():
            looked, self._looking = self._looking, None
            await self._take(looked, set(view.erasing()))
        commanded = view.erasing()
        await self._learn(commanded)
        if commanded and self._looking is None:
            self._begin(commanded)

    async def close(self) -> None:
        """Idempotent; a look that is under way is not waited for."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
            self._looking = None

    async def _take(self, looked: asyncio.Task[set[str]], commanded: set[Commanded]) -> None:
        """What of the commands that were asked for is done."""
        now = self._clock()
        self._rest_until = now + REST * (now - self._began_at)
        try:
            left = looked.result()
        except LogError as error:
            self.problem = error.code
            return
        self.problem = None
        done = [
            LedgerEntry("erased", one.topic, one.offset, l1_sha256=one.l1_sha256)
            for one in self._asked
            if one in commanded and (said := self._said.get(one)) is not None and not said.targets & left
        ]
        await self._sequencer.append(done)

    async def _learn(self, commanded: Sequence[Commanded]) -> None:
        """Read what is commanded, and count."""
        self._said = {one: self._said[one] for one in commanded if one in self._said}
        new = [one for one in commanded if one not in self._said][:AT_ONCE]
        for one in new:
            self._said[one] = await command_of(self._log, one, self._sequencer.view.recipients)
        if new:
            self._pause_s = FIRST_PAUSE_S
            self._again_at = min(self._again_at, self._clock() + self._pause_s)
        self.open = len(commanded)
        self.overdue = sum(_is_overdue(said, self._now_ms()) for said in self._said.values())

    def _begin(self, commanded: Sequence[Commanded]) -> None:
        now = self._clock()
        if now < self._rest_until:
            return
        if now >= self._again_at:
            self._seen.clear()
            self._again_at = now + self._pause_s
            self._pause_s = min(self._pause_s * 4, self._every_s)
        readable = {one: said.targets for one in commanded if (said := self._said.get(one)) is not None}
        self._asked = tuple(one for one in readable if one not in self._seen)[:AT_ONCE]
        if self._asked:
            self._seen.update(self._asked)
            self._began_at = now
            targets = frozenset[str]().union(*(readable[one] for one in self._asked))
            self._looking = asyncio.create_task(self._log.grants_left(targets))


async def command_of(
    log: Log, commanded: Commanded, recipients: Callable[[Sequence[str]], Mapping[str, str]]
) -> Command | None:
    """What this record commands; None when it cannot be read any more.

    Args:
        recipients: ident of a record -> its holder, where it is known.

    Raises LogError: not now.
    """
    try:
        stored = await log.read(commanded.topic, commanded.offset - 1, limit=1)
    except LogError as exc:
        if exc.code not in ("retention_passed", "topic_unknown"):
            raise
        return None
    if not stored or stored[0].offset != commanded.offset:
        return None
    try:
        manifest = parse_manifest(stored[0].value.partition(b"\n")[0])[3]
    except RecordError:
        return None
    erase = () if manifest.acts is None else manifest.acts.erase
    holders = recipients(erase)
    return Command(stored[0].at_ms, frozenset(one for one in erase if may_erase(manifest, one, holders.get(one))))


async def overdue_of(log: Log, view: LedgerView, now_ms: int) -> int:
    """How many open erasures were commanded longer ago than `DUE_MS`, or by a record that cannot be read any more.

    Raises LogError.
    """
    return sum([_is_overdue(await command_of(log, one, view.recipients), now_ms) for one in view.erasing()])


def _is_overdue(said: Command | None, now_ms: int) -> bool:
    return said is None or said.at_ms < now_ms - DUE_MS


def may_erase(manifest: Manifest, target: str, holder: str | None) -> bool:
    """Whether this record's signer is the target's issuer or its holder; also True while the holder is not known."""
    return holder is None or manifest.iss in (target.rpartition("/")[0], holder)
