# SPDX-License-Identifier: Apache-2.0
"""Making judged records durable: grants first, then the records, then the index, then erasures, then the answers.

Whatever has queued up goes to the log together, in the order in which it was judged; the grants of one batch and the
records of the batch before share the log's disk writes.

If we crash here:
- after grants, before the record: an orphan grant; the sender sends again and the same key is written again.
- after the record, before the answer: the sender sends again and gets the first offset, `copy`.
- after a record with `acts.erase`, before its deletions: `Follower.follow` reads the record again and deletes then.
- a failed append leaves a hole in the issuer's numbers: a finding, closed when the sender sends again.

Must never: leave whoever waits for a line without an answer, nor answer before the log has said that it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from gateway.examine import Examined
from gateway.following import Follower
from gateway.index import Index
from gateway.judging import NO_PLACE, Judge, Pending, Placed
from schemas.envelope import cloudevents_headers
from schemas.errors import LogError, OrderError, UmuhuzaError
from schemas.home_proof import HOME_HEADER
from topics.log import Appended, Entry, GrantsAtOnce, Log, grants_topic

COMMIT_RECORDS = 1000
COMMIT_BYTES = 16 << 20


Logged = Callable[[str, str], Placed | None]
"""Where the record with this `header.payload` hash stood in that topic, as the ledger has it."""


class Committer:
    """One gateway's way to the log. Used from one event loop."""

    def __init__(
        self,
        log: Log,
        index: Index,
        judge: Judge,
        follower: Follower,
        append_seconds: Callable[[float], None],
        logged: Logged,
    ) -> None:
        """`append_seconds`: told how long each append took. `logged`: asks the ledger."""
        self._logged = logged
        self._log = log
        self._index = index
        self._judge = judge
        self._follower = follower
        self._log_takes_both = isinstance(log, GrantsAtOnce)
        self._queue: list[Pending] = []
        self._working: asyncio.Task[None] | None = None
        self._appending: asyncio.Task[None] | None = None
        self._to_erase: list[Pending] = []
        self._erase_asked = False
        self._erasing: asyncio.Task[None] | None = None
        self._append_seconds = append_seconds

    def add(self, pending: Pending) -> None:
        """Commit it with whatever else waits; `Judge.settle` says when it is done."""
        self._queue.append(pending)
        if self._working is None:
            self._working = asyncio.create_task(self._commit())

    async def drain(self) -> None:
        """Wait until nothing is on its way to the log."""
        while under_way := [
            task for task in (self._working, self._appending, self._erasing) if task is not None and not task.done()
        ]:
            await asyncio.wait(under_way)

    async def _commit(self) -> None:
        batch: list[Pending] = []
        try:
            while self._queue:
                if self._log_takes_both and self._appending is not None and not self._appending.done():
                    await asyncio.wait([self._appending])  # meanwhile the next batch gathers
                batch = self._next_batch()
                along: Mapping[str, Mapping[str, bytes]] | None = None
                if self._log_takes_both and not any(pending.examined.alone for pending in batch):
                    along = _grants_of(batch)
                else:
                    batch = self._without_manifests(await self._put_grants(batch))
                # Grants of this batch and the append of the one before share the log's disk writes.
                if self._appending is not None:
                    await asyncio.wait([self._appending])
                self._appending = asyncio.create_task(self._append(batch, along))
        except BaseException:
            for pending in [*batch, *self._queue]:  # a bug or a cancellation: whether they are there is not known
                self._judge.settle(pending, LogError("unavailable"))
            self._queue = []
            raise
        finally:
            self._working = None

    def _next_batch(self) -> list[Pending]:
        size = count = 0
        for pending in self._queue[:COMMIT_RECORDS]:
            size += len(pending.examined.value)
            if count and size > COMMIT_BYTES:
                break
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        return batch

    async def _put_grants(self, batch: Sequence[Pending]) -> list[Pending]:
        """Those whose grants are durable; the others are answered."""
        by_topic = _grants_of(batch)
        failed: dict[str, LogError] = {}

        async def put(topic: str, grants: Mapping[str, bytes]) -> None:
            try:
                await self._log.put_grants(topic, grants)
            except LogError as exc:
                failed[topic] = exc

        await asyncio.gather(*(put(topic, grants) for topic, grants in by_topic.items()))
        if not failed:
            return list(batch)
        granted: list[Pending] = []
        for pending in batch:
            error = failed.get(grants_topic(pending.examined.manifest.to))
            if error is None:
                granted.append(pending)
            else:
                self._judge.settle(pending, LogError(error.code))
        return granted

    def _without_manifests(self, batch: Sequence[Pending]) -> list[Pending]:
        """Records to append; manifests are answered with their grants, and take no place."""
        for pending in batch:
            if pending.examined.alone:
                self._judge.settle(pending, NO_PLACE)
        return [pending for pending in batch if not pending.examined.alone]

    async def _append(self, batch: Sequence[Pending], grants: Mapping[str, Mapping[str, bytes]] | None = None) -> None:
        """`grants`: those that are not durable yet, for a log that takes both."""
        if not batch:
            return
        entries = [_entry(pending.examined) for pending in batch]
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answers: Sequence[Appended | UmuhuzaError]
            if grants is not None and isinstance(self._log, GrantsAtOnce):
                answers = await self._log.append_granted(entries, grants)
            else:
                answers = await self._log.append(entries)
        except LogError as exc:
            answers = [LogError(exc.code)] * len(batch)
        except BaseException:
            for pending in batch:
                self._judge.settle(pending, LogError("unavailable"))
            raise
        self._append_seconds(loop.time() - started)
        commands: list[Pending] = []
        try:
            commands = await self._appended(batch, answers)
        finally:
            for pending in batch:  # a bug of ours, or the end: whether they count is not known
                if pending.placed is None and not any(pending is one for one in commands):
                    self._judge.settle(pending, LogError("unavailable"))
        if commands:
            self._erase_for(commands)

    async def _appended(self, batch: Sequence[Pending], answers: Sequence[Appended | UmuhuzaError]) -> list[Pending]:
        """Those that command to erase, which are answered when that is done."""
        unsure: list[tuple[Pending, Appended | None]] = []
        erasing: list[Pending] = []
        for pending, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Appended) and not answer.copy:
                one = pending.examined
                m = one.manifest
                self._index.apply(m, one.hash, answer.offset, answer.at_ms, first=True)
                if m.acts is not None and m.acts.erase:
                    erasing.append(pending)
                    continue
                self._judge.settle(pending, (answer.offset, answer.at_ms, False))
            elif isinstance(answer, Appended):
                unsure.append((pending, answer))
            elif answer.code == "evt_conflict":
                unsure.append((pending, None))
            else:
                self._judge.settle(pending, answer)
        if unsure:
            await self._compare(unsure)
        return erasing

    def erase_soon(self) -> None:
        """Carry out what is commanded by now, beside everything else."""
        if self._index.erasures_to_do():
            self._erase_for([])

    def _erase_for(self, commands: Sequence[Pending]) -> None:
        """Beside the commits that follow: a reader of another process may hold up a deletion for seconds."""
        self._to_erase += commands
        self._erase_asked = True
        if self._erasing is None:
            self._erasing = asyncio.create_task(self._erase())

    async def _erase(self) -> None:
        batch: list[Pending] = []
        try:
            while self._erase_asked:
                self._erase_asked = False
                batch, self._to_erase = self._to_erase, []
                await self._follower.erase()
                for pending in batch:
                    known = self._index.event(pending.examined.manifest.ident)
                    placed = LogError("unavailable") if known is None else (known.offset, known.at_ms, False)
                    self._judge.settle(pending, placed)
        finally:
            self._erasing = None
            for pending in [*batch, *self._to_erase]:  # as in `_append`
                if pending.placed is None:
                    self._judge.settle(pending, LogError("unavailable"))
            self._to_erase = []

    async def _compare(self, batch: Sequence[tuple[Pending, Appended | None]]) -> None:
        """The log knew these events before we did: another gateway took them. The same signed bytes are a copy,
        signature twins included, which the log cannot see. With each: where the log has exactly these bytes."""
        try:
            await self._follower.catch_up()
        except LogError as exc:
            for pending, _ in batch:
                self._judge.settle(pending, LogError(exc.code))
            return
        for pending, same in batch:
            known = self._index.event(pending.examined.manifest.ident)
            if known is not None and known.hash == pending.examined.hash:
                self._judge.settle(pending, (known.offset, known.at_ms, True))
            elif known is None and (found := self._past_retention(pending, same)) is not None:
                self._judge.settle(pending, found)
            else:
                self._judge.settle(pending, OrderError("evt_conflict", "L1.evt"))
        self.erase_soon()  # what the others' records command

    def _past_retention(self, pending: Pending, same: Appended | None) -> Placed | None:
        """Where a repeat stood whose first copy is removed, and which an index made again does not know any more: what
        the log remembers of its bytes, or the ledger of what was signed."""
        if same is not None:
            return same.offset, same.at_ms, True
        return self._logged(pending.examined.hash, pending.examined.manifest.topic)


def _grants_of(batch: Sequence[Pending]) -> dict[str, dict[str, bytes]]:
    by_topic: dict[str, dict[str, bytes]] = {}
    for pending in batch:
        topic = grants_topic(pending.examined.manifest.to)
        by_topic.setdefault(topic, {}).update(pending.examined.grants)
    return by_topic


def _entry(one: Examined) -> Entry:
    m = one.manifest
    home = ((HOME_HEADER, one.home),) if one.home else ()
    return Entry(m.topic, m.thread.encode("ascii"), m.ident, one.value, (*cloudevents_headers(m), *home))
