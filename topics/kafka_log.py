# SPDX-License-Identifier: Apache-2.0
"""Apache Kafka as the log: the log contract over a domain's cluster.

How to use it, and who does::

    access = KafkaAccess(("10.0.0.5:9092",), ca, certificate, key)
    log = await KafkaLog.open(access, domain="bi", view=folder / "grants.view", random_id=lambda: os.urandom(16).hex())

A gateway opens one handle with its own certificate and keeps it; an adapter opens one with its agency's certificate and
reads its mailboxes and its grants topic. Topics, their settings and the ACLs are made beforehand by an administrator
(`topics.kafka_admin.apply`); a handle with an administrator's certificate also offers `create_topics`, `trim` and
`delete_topic`. The clients themselves are in `kafka_clients`; it, `kafka_producer` and `kafka_access` import `kafka`.

Who waits for whom; no call of the library ever runs on the event loop:

- **Writing.** A few lanes, each a producer in a thread of its own; a topic keeps the lane that it was given first, so
  that one fills a batch while another's is at the broker. As in `sqlite_log`, calls gather while a produce is under way
  and are the next one. Of each topic at most one record batch is in flight: a batch is appended whole or not at all, so
  what a call has for one topic is never interleaved with another process's (what is more than `BATCH_BYTES` takes
  several), and order needs no repair. After a failed produce the producer is closed and the same bytes go out once
  more, in the same order, through a new one, unless that took half of `DELIVERY_S`; after that the answer is
  `unavailable`, within 30 s even behind another that fails, and the caller appends again. The broker may then hold a
  second copy: this driver recognises none (`copy` is never True), readers do, by `ident`.
- **Reading.** A few threads with a few consumers: assign, seek, fetch, exactly where the reader's cursor stands. No
  consumer groups, no committed offsets, no resets: a position that is not there is an error of its own.
- **Waiting.** However many readers wait, one consumer in one thread follows the topics that they wait on, by long
  polls, and wakes those whose topic grew; they read then. A handle that nobody waits on asks nothing.
- **Grants** are read through `topics.kafka_view`, up to the topic's end seen at the call, whoever wrote them.
- **Erased bytes.** Kafka compacts no segment that is still being written, and begins another only when something is
  written: what was erased last would stay on the disks until somebody writes there again. So a handle that may write a
  grants topic writes a tombstone of no grant (`TICK`) behind an erasure, once the segment is old enough, and again
  until a read from the topic's beginning finds nothing erased. It looks what others have erased soon after it was
  opened and every ten minutes, also in the topics of who has left; a handle that may write no grants asks once, and
  afterwards nothing as long as it sees nothing erased. Several gateways may do it side by side.

Identity. Kafka remembers no log, and a topic that an administrator deleted and made again looks like an empty old one.
So the topic `{domain}.registry.log` holds a random `log_id` and the Kafka id of every topic. A topic that has another
id now, or is gone, is refused with `unavailable` and its name, not served and not written; a topic that nobody
recorded too. That goes on until the operator says that it is meant, with `renew_identity`, which makes the log another
log: handles opened before refuse everything (`unavailable`, path `log_id`) until they are opened again. Noticed within
`CHECK_S`, and before an answer that would look like a silent restart.

A crash leaves whole batches or none.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

from schemas.errors import LogError
from topics.kafka_access import KafkaAccess
from topics.kafka_catalogue import kafka_topic
from topics.kafka_clients import IDENT_HEADER, READERS, SETTLED_S, Clients
from topics.kafka_identity import CHECK_S, Identity, establish, renew
from topics.kafka_producer import BATCH_BYTES, Item, Producing
from topics.kafka_tail import Tail
from topics.kafka_view import TICK, GrantsView
from topics.log import MAX_VALUE_BYTES, Appended, Ends, Entry, Stored, ident_of
from topics.policy_file import policy
from topics.topic_names import is_grants_topic, is_mailbox_topic

__all__ = ["CHECK_S", "KafkaAccess", "KafkaLog"]

LANES = 2
"""Writing threads: while a batch of one topic waits for the brokers, another's is made."""
SWEEP_FIRST_S = 30.0
SWEEP_S = 600.0
"""After opening, and from then on: when erasures are looked after."""
_ASKED = 10_000
"""Records that are asked about at once."""
GROUP_ITEMS = 5_000
GROUP_BYTES = 16 << 20
"""Of one produce, all topics together."""

_Answer = tuple[int, int] | LogError
_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Group:
    """Calls that are produced together."""

    calls: list[list[Item]] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    items: int = 0
    task: asyncio.Task[list[list[_Answer]]] | None = None

    def takes(self, weights: Mapping[str, int], items: int) -> bool:
        """A call joins only if of no topic more than one batch is then in the group."""
        return not self.calls or (
            self.items + items <= GROUP_ITEMS
            and sum(self.weights.values()) + sum(weights.values()) <= GROUP_BYTES
            and all(self.weights.get(topic, 0) + weight <= BATCH_BYTES for topic, weight in weights.items())
        )

    def add(self, items: list[Item], weights: Mapping[str, int]) -> None:
        self.calls.append(items)
        self.items += len(items)
        for topic, weight in weights.items():
            self.weights[topic] = self.weights.get(topic, 0) + weight


@dataclass(slots=True, eq=False)
class _Lane:
    """One writing thread with its producer; the groups of its topics follow one another in it."""

    producing: Producing
    thread: ThreadPoolExecutor
    forming: _Group | None = None
    last: asyncio.Task[list[list[_Answer]]] | None = None


class KafkaLog:
    """A `topics.log.Log` on Apache Kafka. Make it with `open`; belongs to one event loop."""

    def __init__(self, clients: Clients, domain: str, view: Path | None) -> None:
        self._clients = clients
        self._domain = domain
        self._identity = Identity(clients, domain)
        self._view_path = view
        self._view: GrantsView | None = None
        self._readers = ThreadPoolExecutor(READERS, "kafka-log-reader")
        self._lanes = [_Lane(one, ThreadPoolExecutor(1, "kafka-log-writer")) for one in clients.writers(LANES)]
        self._lane_of: dict[str, int] = {}
        self._grants = ThreadPoolExecutor(1, "kafka-log-grants")
        self._tail = Tail(clients.follower, lambda: clients.ends([self._identity.topic]), self._grown_in_thread)
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._turns = count()
        self._closed = False
        self._sweeping: asyncio.Task[None] | None = None
        self._sweeps_grants: bool | None = None
        """Whether there are grants topics that this principal may write; None: not asked yet."""
        self._next_sweep: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls,
        access: KafkaAccess,
        *,
        domain: str,
        view: Path | None = None,
        random_id: Callable[[], str],
        create: bool = False,
        sweeps: bool = True,
    ) -> KafkaLog:
        """Connect, and learn which log it is.

        Args:
            access: where, and as whom.
            domain: "bi"; a cluster may serve several.
            view: file for what the grants topics say, mode 0600, one handle's own; None keeps it in memory.
            random_id: makes the `log_id` when the log is made.
            create: make the log's registry topic if it is not there; an administrator's.
            sweeps: look after erased bytes (above); not for who has nothing to do with grants, such as the ledger.

        Raises LogError `not_permitted` (paths `tls.key`, `tls.ca`: a file of ours cannot be used; `tls.certificate`:
        the brokers refuse ours, because it is unknown or expired), `unavailable` (path `bootstrap`: nobody answers;
        `tls.ca`: they are not the brokers that we were told of; `log_id`: no log of this domain is there; `moving`: a
        move of it to Kafka is not done: `umuhuza log move` again).
        """
        clients = await asyncio.to_thread(Clients, access)
        log = cls(clients, domain, view)
        try:
            await log._in(log._readers, clients.probe)
            if create:
                await log._in(log._lanes[0].thread, log._establish, [], random_id)
            await log._in(log._readers, log._identity.load)
        except BaseException:
            await log.close()
            raise
        if sweeps:
            log._next_sweep = log._loop.call_later(SWEEP_FIRST_S, log._start_sweep)
        return log

    @staticmethod
    async def renew_identity(access: KafkaAccess, *, domain: str, random_id: Callable[[], str]) -> str:
        """Say that the topics as they are now are the log: after a topic was deleted, or the cluster put back from a
        copy. Returns the new `log_id`; readers start again and recognise what they know by `ident`.

        For an administrator. Raises LogError as `open`, and `not_permitted`.
        """

        def work() -> str:
            clients = Clients(access)
            try:
                clients.probe()
                return renew(clients, recorder(clients), domain, random_id)
            finally:
                clients.close_producer()
                clients.close()

        return await asyncio.to_thread(work)

    @property
    def log_id(self) -> str:
        return self._identity.log_id

    # ---------------------------------------------------------------- the contract

    async def append(self, entries: Sequence[Entry]) -> list[Appended | LogError]:
        """As the contract; `not_permitted` when this principal may not write there. Cancelled, it may still be done."""
        if self._closed:
            return [LogError("log_closed") for _ in entries]
        if not entries:
            return []
        given = [_item(entry) for entry in entries]
        answers: list[Appended | LogError | None] = [_refused(item) for item in given]
        try:
            wrong = await self._check({e.topic for e, no in zip(entries, answers, strict=True) if no is None})
        except LogError as error:
            return [no or LogError(error.code, error.path) for no in answers]
        places: list[int] = []
        items: list[Item] = []
        for place, entry in enumerate(entries):
            if answers[place] is None and entry.topic in wrong:
                answers[place] = LogError(wrong[entry.topic].code, entry.topic)
            elif answers[place] is None:
                places.append(place)
                items.append(given[place])
        for place, done in zip(places, await self._produce(items), strict=True):
            answers[place] = done if isinstance(done, LogError) else Appended(*done)
        grown = {
            e.topic: done.offset + 1 for e, done in zip(entries, answers, strict=True) if isinstance(done, Appended)
        }
        self._tail.saw(grown)
        self._wake(grown)
        return [answer for answer in answers if answer is not None]

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self.poll({topic: after}, limit, max_bytes, wait_s)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        until = self._loop.time() + wait_s
        with self._listening(after) as grown:
            while True:
                grown.clear()  # before the read: what is appended after it sets the event again
                found, ends = await self._read(self._read_now, dict(after), limit, max_bytes)
                if found or self._loop.time() >= until:
                    return found
                if self._tail.follow(ends):
                    continue  # the tail has seen more than this read
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await grown.wait()

    async def ends(self, topic: str) -> Ends:
        return await self._read(self._ends_now, topic)

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        """As the contract. Raises LogError `topic_unknown` (not a grants topic), `too_large`, `not_permitted`,
        `storage_full`, `unavailable`, `log_closed`; then any of these grants may be stored: put them again."""
        if any(len(value) > MAX_VALUE_BYTES for value in grants.values()):
            self._refuse_closed()
            raise LogError("too_large", expected=MAX_VALUE_BYTES)
        await self._change_grants(topic, grants)

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """As the contract; sees whatever anybody put before the call."""
        self._refuse_closed()
        if not is_grants_topic(topic):
            raise LogError("topic_unknown", topic)
        found = await self._in(self._grants, self._get_grants_now, topic, tuple(keys))
        self._refuse_closed()
        return found

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        """As the contract: tombstones are durable when it returns, and nobody finds the grants any more. Until a
        compaction their bytes are still on the brokers' disks and can be read there by whoever may read the topic: an
        hour (`segment.ms`) until a handle that may write here ends the segment, some minutes more until it and its
        replicas are compacted. No handle of a gateway open, that waits until one is."""
        await self._change_grants(topic, dict.fromkeys(keys))
        await self.get_grants(topic, [])  # and leave our view at once

    async def grants_left(self, idents: Collection[str]) -> set[str]:
        """As `topics.log.ShowsGrants`, of every grants topic of the domain, which this principal has to be allowed to
        read. Raises also `unavailable` with a topic that was deleted or made again."""
        self._refuse_closed()
        found = await self._in(self._grants, self._grants_left_now, frozenset(idents))
        self._refuse_closed()
        return found

    async def grant_keys(self, ident: str) -> dict[str, list[str]]:
        """As `topics.log.FindsGrants`, of every grants topic of the domain, also of who has left: this principal has to
        be allowed to read them all. Raises also `not_permitted`, `unavailable` with a topic that may not be read or was
        deleted or made again: then nobody knows."""
        self._refuse_closed()
        found = await self._in(self._grants, self._grant_keys_now, ident)
        self._refuse_closed()
        return found

    async def close(self) -> None:
        """As the contract. A produce in progress is awaited and answered truly; calls behind it were not made."""
        if self._closed:
            return
        self._closed = True
        if self._next_sweep is not None:
            self._next_sweep.cancel()
        self._wake(list(self._waiting))
        if self._sweeping is not None:
            await asyncio.wait([self._sweeping])
        under_way = [lane.last for lane in self._lanes if lane.last is not None and not lane.last.done()]
        if under_way:
            await asyncio.wait(under_way)
        await asyncio.to_thread(self._close_now)

    # ---------------------------------------------------------------- administration

    async def create_topics(self, names: Iterable[str]) -> None:
        """Mailbox and grants topics with the catalogue's settings; those there already stay as they are.

        Raises LogError `topic_unknown` for a name that is no topic's, `not_permitted`, `unavailable`, `log_closed`.
        """
        self._refuse_closed()
        await self._in(self._lanes[0].thread, self._establish, list(names), lambda: self.log_id)

    async def topics(self) -> list[str]:
        """Mailboxes that this principal may see, those with what goes over a border too."""
        found = await self._read(self._clients.describe)
        seen = (name for name, one in found.items() if not one.code and is_mailbox_topic(name))
        ours = self._identity.names
        return sorted(name for name in seen if name.startswith(f"{self._domain}.") or name in ours)

    async def trim(self, topic: str, before: int) -> int:
        """Retention: remove entries with offset < `before`; returns the first offset kept."""
        return await self._read(self._clients.trim, topic, before)

    async def remove_grants(self, gone: Callable[[Sequence[str]], Collection[str]]) -> None:
        """As `topics.ledger_retention.RemovesGrants`: reads every grants topic of the domain, who has left or not, from
        its earliest offset, one after another. Raises LogError; what was done before it is done."""
        self._refuse_closed()
        for topic in await self._in(self._grants, self._grants_topics):
            keys = await self._in(self._grants, self._granted_now, topic)
            idents = sorted({ident_of(key) for key in keys})
            away = {one for start in range(0, len(idents), _ASKED) for one in gone(idents[start : start + _ASKED])}
            if away:
                await self._change_grants(topic, {key: None for key in keys if ident_of(key) in away})

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic with its entries. Its name stays refused until `renew_identity`, even if it is made again."""
        await self._read(self._clients.delete_topic, topic)
        await self._check([topic], afresh=True)

    def _establish(self, names: list[str], random_id: Callable[[], str]) -> None:
        nodes = self._clients.nodes()
        topics = {name: kafka_topic(name, nodes) for name in names}
        establish(self._clients, recorder(self._clients), self._domain, topics, random_id=random_id)

    # ---------------------------------------------------------------- writing

    async def _change_grants(self, topic: str, grants: Mapping[str, bytes | None]) -> None:
        self._refuse_closed()
        if not is_grants_topic(topic):
            raise LogError("topic_unknown", topic)
        for error in (await self._check([topic])).values():
            raise error
        for done in await self._produce([Item(topic, key.encode(), value) for key, value in grants.items()]):
            if isinstance(done, LogError):
                raise done

    async def _produce(self, items: list[Item]) -> list[_Answer]:
        """Answers in the order of `items`; each topic's part in its own lane."""
        places: dict[int, list[int]] = {}
        for place, item in enumerate(items):
            places.setdefault(self._lane(item.topic), []).append(place)
        parts = list(places.items())
        answers = [self._produce_in(self._lanes[lane], [items[place] for place in which]) for lane, which in parts]
        if len(answers) == 1:
            return await answers[0]
        done: list[_Answer] = [LogError("unavailable") for _ in items]
        for (_, which), told in zip(parts, await asyncio.gather(*answers), strict=True):
            for place, answer in zip(which, told, strict=True):
                done[place] = answer
        return done

    def _lane(self, topic: str) -> int:
        """A topic never changes its lane: that keeps its order."""
        return self._lane_of.setdefault(topic, len(self._lane_of) % LANES)

    async def _produce_in(self, lane: _Lane, items: list[Item]) -> list[_Answer]:
        if self._closed:
            return [LogError("log_closed") for _ in items]
        weights: dict[str, int] = {}
        for item in items:
            weights[item.topic] = weights.get(item.topic, 0) + item.weight
        group = lane.forming
        if group is None or not group.takes(weights, len(items)):
            group = lane.forming = _Group()
            group.task = lane.last = asyncio.create_task(self._write(lane, group, lane.last))
        place = len(group.calls)
        group.add(items, weights)
        assert group.task is not None
        # Shielded: one caller's cancellation is not that of the others in the group.
        return (await asyncio.shield(group.task))[place]

    async def _write(
        self, lane: _Lane, group: _Group, before: asyncio.Task[list[list[_Answer]]] | None
    ) -> list[list[_Answer]]:
        if before is not None and not before.done():
            await asyncio.wait([before])
        if lane.forming is group:
            lane.forming = None  # from here on nobody joins
        if self._closed:
            return [[LogError("log_closed") for _ in call] for call in group.calls]
        return await self._in(lane.thread, self._write_now, lane, group.calls)

    def _write_now(self, lane: _Lane, calls: list[list[Item]]) -> list[list[_Answer]]:
        """In rounds of which no topic has more than a batch; behind a failure nothing of that topic is sent."""
        items = [item for call in calls for item in call]
        done: list[_Answer] = [LogError("unavailable", item.topic) for item in items]
        failed: set[str] = set()
        for places in _rounds(items):
            sent = [place for place in places if items[place].topic not in failed]
            for place, answer in zip(sent, lane.producing.produce([items[place] for place in sent]), strict=True):
                done[place] = answer
                if isinstance(answer, LogError):
                    failed.add(items[place].topic)
                    self._identity.doubt(items[place].topic)
        each = iter(done)
        return [[next(each) for _ in call] for call in calls]

    # ---------------------------------------------------------------- reading, in the readers' threads

    def _read_now(self, after: dict[str, int], limit: int, max_bytes: int) -> tuple[list[Stored], dict[str, int]]:
        if not after:
            return [], {}
        self._raise_wrong(after)
        # What the tail has seen is there; only that there is no more has to be asked.
        ends = self._tail.seen(after)
        if ends is None or all(offset + 1 >= ends[topic] for topic, offset in after.items()):
            ends = self._clients.ends(list(after))
            if any(offset + 1 > ends[topic] for topic, offset in after.items()):
                self._raise_wrong(after, afresh=True)  # beyond the end: a reader ahead, or another topic by now
        grown = [topic for topic, offset in after.items() if offset + 1 < ends[topic]]
        if not grown:
            return [], ends
        turn = next(self._turns) % len(grown)
        grown = (grown[turn:] + grown[:turn])[:limit]
        found = self._clients.fetch({topic: (after[topic] + 1, ends[topic]) for topic in grown}, limit, max_bytes)
        if isinstance(found, str):
            self._raise_wrong([found], afresh=True)
            passed = after[found] + 1 < self._clients.first(found)
            raise LogError("retention_passed" if passed else "unavailable", found)
        return _fair(found, limit, max_bytes), ends

    def _ends_now(self, topic: str) -> Ends:
        self._raise_wrong([topic])
        following = self._clients.ends([topic])[topic]
        return Ends(min(self._clients.first(topic), following), following)

    def _get_grants_now(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        return self._read_on(topic).get(topic, keys)

    def _grant_keys_now(self, ident: str) -> dict[str, list[str]]:
        topics = self._grants_topics()
        return self._read_on(*topics).keys_of(topics, ident)

    def _grants_topics(self) -> list[str]:
        """Every grants topic of the log, of who has left too; as recorded now."""
        self._identity.load()  # topics of members who came since
        return sorted(filter(is_grants_topic, self._identity.names))

    def _read_on(self, *topics: str) -> GrantsView:
        """Up to the topics' ends as they are now."""
        self._raise_wrong(topics)
        if self._view is None:
            self._view = GrantsView(self._view_path)
        at_ms = _now_ms()
        for topic, end in (self._clients.ends(topics) if topics else {}).items():
            # Of the log too: a disk put back from a copy keeps its topics' ids, and what follows is another history.
            generation = f"{self._identity.log_id}/{self._identity.recorded(topic) or ''}"
            start = self._view.next(topic, generation, at_ms)
            for pairs, following in self._clients.through(topic, start, end):
                if following <= start:  # the topic is shorter than it was: put back from a copy
                    self._view.forget(topic)
                changes = ((key.decode("utf-8", "replace"), value) for key, value in pairs)
                self._view.apply(topic, generation, changes, following, at_ms)
                start = following
        return self._view

    # ---------------------------------------------------------------- erased bytes

    def _start_sweep(self) -> None:
        self._sweeping = self._loop.create_task(self._sweep())

    async def _sweep(self) -> None:
        # Whatever is in the way is in everybody's: it is said elsewhere, and here tried again.
        with contextlib.suppress(LogError):
            due = await self._in(self._grants, self._sweep_now)
            answers = await self._produce([Item(topic, TICK.encode(), None) for topic in due])
            done = [topic for topic, answer in zip(due, answers, strict=True) if not isinstance(answer, LogError)]
            if done and self._view is not None:
                await self._in(self._grants, self._view.looked_after, done, _now_ms())
        if not self._closed:
            self._next_sweep = self._loop.call_later(SWEEP_S, self._start_sweep)

    def _sweep_now(self) -> list[str]:
        """Topics that need a tick now. In the grants' thread."""
        if self._sweeps_grants is not False:  # what was erased while nobody looked, or by another
            ours = self._grants_of_ours()
            self._read_on(*sorted(ours - self._identity.check(ours).keys()))
            self._sweeps_grants = bool(ours)
        if self._view is None:
            return []
        waiting = self._view.erased(_now_ms() - _rolls_after_ms())
        if not waiting:
            return []
        ours = self._grants_of_ours()
        self._view.looked_after(set(waiting) - ours, _now_ms())  # not ours to write: asked again as seldom
        shown = [topic for topic in waiting if topic in ours and self._shows_erased(topic)]
        self._view.looked_after(ours.intersection(waiting).difference(shown), None)
        return shown

    def _grants_left_now(self, idents: frozenset[str]) -> set[str]:
        left: set[str] = set()
        for topic in self._grants_topics():
            self._raise_wrong([topic])
            for pairs, _ in self._clients.through(topic, 0):
                if self._closed:
                    raise LogError("log_closed")
                keys = (key.partition(b"|")[0].decode("ascii", "replace") for key, value in pairs if value is not None)
                left |= idents.intersection(keys)
        return left

    def _granted_now(self, topic: str) -> list[str]:
        """Keys under which a grant is there, in the topic's order."""
        self._raise_wrong([topic])
        there: dict[bytes, None] = {}
        for pairs, _ in self._clients.through(topic, 0):
            if self._closed:
                raise LogError("log_closed")
            for key, value in pairs:
                if value is None:
                    there.pop(key, None)
                else:
                    there[key] = None
        return [key.decode("utf-8", "replace") for key in there]

    def _grants_of_ours(self) -> set[str]:
        """Grants topics that this principal may write."""
        found = self._clients.describe()  # of all: who asks by name for what he may not see is noted as an intruder
        return {
            name for name in self._identity.names if is_grants_topic(name) and name in found and found[name].writable
        }

    def _shows_erased(self, topic: str) -> bool:
        """Whether a value and its tombstone can both be read: then it is in the brokers' files."""
        self._raise_wrong([topic])
        there: set[bytes] = set()
        for pairs, _ in self._clients.through(topic, 0):
            if self._closed:
                raise LogError("log_closed")
            for key, value in pairs:
                if value is not None:
                    there.add(key)
                elif key in there:
                    return True
        return False

    def _raise_wrong(self, topics: Iterable[str], *, afresh: bool = False) -> None:
        for error in self._identity.check(topics, afresh=afresh).values():
            raise error

    # ---------------------------------------------------------------- waiting

    @contextlib.contextmanager
    def _listening(self, topics: Iterable[str]) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        for topic in topics:
            self._waiting.setdefault(topic, set()).add(event)
        self._tail.wanted(self._waiting.keys())
        try:
            yield event
        finally:
            for topic in topics:
                self._waiting[topic].discard(event)
                if not self._waiting[topic]:
                    del self._waiting[topic]
            self._tail.wanted(self._waiting.keys())

    def _wake(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    def _grown_in_thread(self, topics: Sequence[str]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            self._loop.call_soon_threadsafe(self._wake, topics)

    # ---------------------------------------------------------------- threads

    async def _check(self, topics: Collection[str], *, afresh: bool = False) -> dict[str, LogError]:
        if not afresh and self._identity.fresh(topics):
            return {}
        return await self._read(lambda: self._identity.check(topics, afresh=afresh))

    async def _read(self, work: Callable[..., _T], *arguments: object) -> _T:
        self._refuse_closed()
        try:
            return await self._in(self._readers, work, *arguments)
        except LogError as error:
            self._identity.doubt(error.path or "")
            raise
        finally:
            self._refuse_closed()

    async def _in(self, thread: ThreadPoolExecutor, work: Callable[..., _T], *arguments: object) -> _T:
        return await self._loop.run_in_executor(thread, lambda: work(*arguments))

    def _refuse_closed(self) -> None:
        if self._closed:
            raise LogError("log_closed")

    def _close_now(self) -> None:
        self._tail.close()
        self._clients.close()
        for closing in [lane.thread.submit(lane.producing.close) for lane in self._lanes]:
            closing.result()
        for thread in (*(lane.thread for lane in self._lanes), self._readers, self._grants):
            thread.shutdown()
        if self._view is not None:
            self._view.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _rolls_after_ms() -> int:
    """How old a segment must be before a write ends it."""
    settings = policy().kafka["grants"]
    return min(int(settings["segment.ms"]), int(settings["max.compaction.lag.ms"]))


def _refused(item: Item) -> LogError | None:
    if len(item.value or b"") > MAX_VALUE_BYTES or item.weight > BATCH_BYTES:
        return LogError("too_large", expected=MAX_VALUE_BYTES)
    return None


def _item(entry: Entry) -> Item:
    headers = (*entry.headers, (IDENT_HEADER, entry.ident.encode("ascii", "replace")))
    return Item(entry.topic, entry.key, entry.value, headers)


def _rounds(items: Sequence[Item]) -> list[list[int]]:
    """Places of the items, in rounds: of each topic as much as fits one batch, in order."""
    rounds: list[list[int]] = []
    filling: dict[str, tuple[int, int]] = {}
    for place, item in enumerate(items):
        at, weight = filling.get(item.topic, (0, 0))
        if weight and weight + item.weight > BATCH_BYTES:
            at, weight = at + 1, 0
        filling[item.topic] = (at, weight + item.weight)
        if at == len(rounds):
            rounds.append([])
        rounds[at].append(place)
    return rounds


def _fair(found: Mapping[str, list[Stored]], limit: int, max_bytes: int) -> list[Stored]:
    """One from each in turn until a limit is met; the first even past `max_bytes`."""
    taken: dict[str, int] = {topic: 0 for topic, stored in found.items() if stored}
    open_ = list(taken)
    number, size = 0, 0
    while open_ and number < limit:
        for topic in list(open_):
            stored = found[topic][taken[topic]]
            if number >= limit or (number and size + len(stored.value) > max_bytes):
                open_.remove(topic)
                continue
            number, size = number + 1, size + len(stored.value)
            taken[topic] += 1
            if taken[topic] == len(found[topic]):
                open_.remove(topic)
    return [stored for topic, many in taken.items() for stored in found[topic][:many]]


def recorder(clients: Clients) -> Callable[[str, Mapping[bytes, bytes | None]], None]:
    """Writes pairs to a compacted topic. What is retriable is tried for `SETTLED_S`: the topic may be a new one."""

    def record(topic: str, pairs: Mapping[bytes, bytes | None]) -> None:
        items = [Item(topic, key, value) for key, value in pairs.items()]
        until = time.monotonic() + SETTLED_S
        while failures := [done for done in clients.produce(items) if isinstance(done, LogError)]:
            if not failures[0].retriable or time.monotonic() > until:
                raise failures[0]

    return record
