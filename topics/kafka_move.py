# SPDX-License-Identifier: Apache-2.0
"""A domain's log, from one SQLite file to Kafka: every entry of every mailbox in its order with the same bytes, key,
ident, headers and time; every grant that is there, and none that was erased.

The log on Kafka keeps its own `log_id`, so readers start there at -1 and recognise by `ident` what they know. Offsets
begin at 0 again: what retention removed from the file is not moved, and no longer recognised when it is sent again.

What has to hold, and how:

- **Time.** An entry's time decides which keys counted. A mailbox on Kafka gives times itself (`LogAppendTime`); for the
  move it keeps the writer's. The leader of a topic does so a moment after the setting was changed, so it is asked with
  a record that it refuses before and after for different reasons (`_PROBE_BYTES`). Stored batches keep what they have.
- **Nothing twice.** A batch is sent once. After a failure, and when a killed move is run again, what the topic holds is
  read and compared with the file before anything follows it. A copy that a broker made nevertheless is recognised.
- **Nobody else.** The file is opened alone, so no gateway has it open or opens it meanwhile. While a topic takes its
  writer's times, whatever others wrote in it would show: the offsets would not be the ones that follow.
- **Done** means: read back and compared, settings as the catalogue says, nothing behind the last entry.
- **One log.** Before the first record the log on Kafka says that it is being moved: nobody opens it. At the end the
  file says where its log is now, durably, and nobody opens that; only then Kafka's is free. Run again after a crash
  anywhere in between.

What a topic holds that the file does not is never touched: then it is another log, and nothing is moved. A crash leaves
a beginning of each topic and the settings of the move; run again, it goes on. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from schemas.errors import LogError, UmuhuzaError
from topics.kafka_access import KafkaAccess
from topics.kafka_catalogue import kafka_topic
from topics.kafka_clients import IDENT_HEADER, Clients
from topics.kafka_identity import Identity, moving
from topics.kafka_log import recorder
from topics.kafka_producer import BATCH_BYTES, Item
from topics.log import Stored
from topics.sqlite_store import Store
from topics.topic_names import is_grants_topic, is_mailbox_topic, registry_topic

TYPE, SIZE, AHEAD = "message.timestamp.type", "max.message.bytes", "message.timestamp.after.max.ms"
MOVING: Mapping[str, str] = {TYPE: "CreateTime", SIZE: str(2 << 20), AHEAD: str(1000 * 365 * 86_400_000)}
"""A mailbox's settings during the move. Larger records and far times are taken only so that `_PROBE_BYTES` tells the
settings apart, and because a gateway's clock may have been ahead."""
_PROBE_BYTES = 1_200_000
_PROBE_MS = 1 << 60
"""A record of so many bytes, dated so far ahead, is refused by every mailbox: as `too_large` by the catalogue's
settings, for its time by those of the move."""
_TIME_REFUSED = "log_inconsistent"
_PROBES = 4
IN_FORCE_S = 30.0
PATIENCE_S = 60.0
"""How long brokers that went away during the move are waited for."""
PAUSE_S = 1.0
_PAGE = 500
_PAGE_BYTES = 4 << 20
_COPIES = 20_000
"""How far back a copy is looked for; a batch holds fewer."""

Progress = Callable[[int, int], None]
"""Called with entries that are on Kafka and entries in all."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why nothing was moved. `what` is one of:

    - "domain": the file holds no topic, or those of several domains, not just one of which has its log on Kafka
      (`topic` is empty);
    - "missing": the topic is not on Kafka; without a `topic`: no log of this domain is;
    - "replaced": an administrator deleted the topic or made it again;
    - "settings": the topic's settings are neither the catalogue's nor those of a move;
    - "foreign": the topic holds what the file does not: it is another log's;
    - "times": it holds the file's entries with other times;
    - "trimmed": its first entries were removed.
    """

    what: str
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved, or would be."""

    domain: str
    log_id: str
    """Of the log on Kafka."""
    entries: int
    """In the file."""
    appended: int
    """Written by this run; the others were there."""
    copies: int
    """Entries that Kafka holds a second time; readers recognise them."""
    grants: int
    """In the file."""
    put: int
    erased: int
    """Grants that an earlier run had moved and that were erased from the file since."""
    removed: int
    """Entries that retention removed from the file: not moved."""
    obstacles: tuple[Obstacle, ...]
    dry_run: bool


class _NotOursError(Exception):
    """A topic is not what it must be."""

    def __init__(self, what: str, topic: str) -> None:
        super().__init__(what)
        self.obstacle = Obstacle(what, topic)


@contextlib.contextmanager
def opened(path: Path, *, alone: bool) -> Iterator[Store]:
    """The log's file. `alone`: nobody else has it open, nor can open it meanwhile; waits ten seconds for that.

    Raises LogError as `SqliteLog.open`; `unavailable`, path `in_use`: another process has it open.
    """
    try:
        store = Store.make(
            str(path),
            vfs=None,
            exclusive=alone,
            clock_ms=lambda: time.time_ns() // 1_000_000,
            create=False,
            random_id=str,
            moved_too=True,
        )
    except LogError as error:
        if isinstance(error.__cause__, apsw.BusyError):
            raise LogError("unavailable", "in_use") from None
        raise LogError(error.code, error.path or "file", expected=error.expected) from None
    try:
        yield store
    finally:
        store.close()


def move(
    access: KafkaAccess, source: Store, *, dry_run: bool = False, progress: Progress = lambda _there, _all: None
) -> Moved:
    """Move everything, or say what would be moved or what is in the way.

    Args:
        access: an administrator's.
        source: as `opened` gives it; alone unless `dry_run`.
        progress: told after every batch.

    Raises LogError `not_permitted` (not an administrator), `unavailable` (run it again), `log_inconsistent` (path: a
    topic in which somebody else wrote meanwhile), `storage_full`. What was moved by then stays; run it again.
    """
    clients = Clients(access)
    try:
        clients.probe()
        clients.acls()  # only an administrator is answered; others would see topics that are missing for them
        return _Move(clients, source, progress).run(dry_run=dry_run)
    finally:
        clients.close_producer()
        clients.close()


@dataclass(slots=True)
class _Mailbox:
    """One mailbox on its way."""

    topic: str
    clients: Clients
    source: Store
    last: int
    """Offset of its last entry in the file; -1: it has none."""
    entries: int
    cursor: int = -1
    """Offset in the file of the last entry that was read on Kafka and is the same."""
    end: int = 0
    """Offset on Kafka up to which was compared."""
    found: int = 0
    copies: int = 0
    _recent: OrderedDict[str, bytes] = field(default_factory=OrderedDict)

    @property
    def complete(self) -> bool:
        return self.cursor >= self.last

    def compare(self) -> None:
        """Read on Kafka what was not yet read, beside the file. Raises _NotOursError, LogError."""
        expected = self._entries(self.cursor)
        awaited = next(expected, None)
        for stored in self._on_kafka():
            if awaited is not None and stored.ident == awaited.ident:
                if _digest(stored) != _digest(awaited):
                    raise _NotOursError("foreign", self.topic)
                if stored.at_ms != awaited.at_ms:
                    raise _NotOursError("times", self.topic)
                self._recent[awaited.ident] = _digest(awaited)
                if len(self._recent) > _COPIES:
                    self._recent.popitem(last=False)
                self.cursor = awaited.offset
                self.found += 1
                awaited = next(expected, None)
            elif self._recent.get(stored.ident) == _digest(stored):
                self.copies += 1
            else:
                raise _NotOursError("foreign", self.topic)
            self.end = stored.offset + 1

    def write(self, wrote: Callable[[int], None]) -> None:
        """Send what follows, batch by batch, each once; no further than answers are what they must be. `compare` tells
        what is there then. Raises LogError."""
        following = self.end
        for batch in _batches(self._items()):
            for item, answer in zip(batch, self.clients.produce(batch, attempts=1), strict=True):
                if isinstance(answer, LogError):
                    raise LogError(answer.code, self.topic)
                if answer != (following, item.at_ms):
                    return
                following += 1
            wrote(len(batch))

    def _entries(self, after: int) -> Iterator[Stored]:
        if self.last < 0:
            return
        while many := self.source.read({self.topic: after}, _PAGE, _PAGE_BYTES, say_topic=True):
            yield from many
            after = many[-1].offset

    def _items(self) -> Iterator[Item]:
        for entry in self._entries(self.cursor):
            headers = (*entry.headers, (IDENT_HEADER, entry.ident.encode("ascii")))
            yield Item(self.topic, entry.key, entry.value, headers, entry.at_ms)

    def _on_kafka(self) -> Iterator[Stored]:
        end = self.clients.ends([self.topic])[self.topic]
        at = self.end
        while at < end:
            found = self.clients.fetch({self.topic: (at, end)}, _PAGE, _PAGE_BYTES)
            if isinstance(found, str):
                raise _NotOursError("trimmed", self.topic)
            yield from found[self.topic]
            at = found[self.topic][-1].offset + 1


class _Move:
    def __init__(self, clients: Clients, source: Store, progress: Progress) -> None:
        self._clients = clients
        self._source = source
        self._progress = progress
        self._there = 0
        self._put = self._erased = 0

    def run(self, *, dry_run: bool) -> Moved:
        topics = self._source.topics()
        granted = self._source.grant_topics()
        # Of several, the others are neighbours: their names are on what waits for a bridge. The log is that of the one
        # whose identity these brokers have; a neighbour has brokers of its own.
        named = {name.partition(".")[0] for name in (*topics, *granted)}
        on_kafka = self._clients.describe()
        domains = {name for name in named if len(named) == 1 or registry_topic(name) in on_kafka}
        if len(domains) != 1:
            return _refused("", "", [Obstacle("domain")], dry_run)
        [domain] = domains
        identity = Identity(self._clients, domain, moved_too=True)
        try:
            identity.load()
        except LogError as error:
            if error.path != "log_id":
                raise
            return _refused(domain, "", [Obstacle("missing")], dry_run)
        ends = {name: self._source.ends(name) for name in topics if not is_grants_topic(name)}
        needed = {*(name for name, end in ends.items() if end.next > end.first), *granted}
        wrong = self._wrong(identity, needed)
        if wrong:
            return _refused(domain, identity.log_id, wrong, dry_run)
        known = identity.names
        boxes = [
            _Mailbox(name, self._clients, self._source, end.next - 1 if name in needed else -1, end.next - end.first)
            for name, end in ends.items()
            if name in known
        ]
        boxes += [
            _Mailbox(name, self._clients, self._source, -1, 0)
            for name in sorted(known - ends.keys())
            if is_mailbox_topic(name)
        ]
        grants = [name for name in sorted(known) if is_grants_topic(name)]
        obstacles = self._compared(boxes)
        if not obstacles and not dry_run:
            record = recorder(self._clients)
            moving(domain, record, now=True)
            self._carry(boxes, grants)
            self._source.mark_moved(identity.log_id)
            moving(domain, record, now=False)
        elif not obstacles:
            self._count_grants(grants)
        in_all = sum(box.entries for box in boxes)
        return Moved(
            domain=domain,
            log_id=identity.log_id,
            entries=in_all,
            appended=in_all - self._there,
            copies=sum(box.copies for box in boxes),
            grants=sum(1 for name in grants for _ in self._granted(name)),
            put=self._put,
            erased=self._erased,
            removed=sum(end.first for end in ends.values()),
            obstacles=tuple(obstacles),
            dry_run=dry_run,
        )

    def _wrong(self, identity: Identity, needed: Iterable[str]) -> list[Obstacle]:
        wrong = identity.check(sorted({*needed, *identity.names}), afresh=True)
        return [
            Obstacle("missing" if error.code == "topic_unknown" else "replaced", topic)
            for topic, error in sorted(wrong.items())
        ]

    def _compared(self, boxes: list[_Mailbox]) -> list[Obstacle]:
        """What is there already, beside the file."""
        obstacles: list[Obstacle] = []
        settings = self._clients.settings([box.topic for box in boxes])
        for box in boxes:
            found = settings.get(box.topic, {})
            if not _has(found, MOVING) and not _has(found, _usual(box.topic)):
                obstacles.append(Obstacle("settings", box.topic))
                continue
            try:
                if self._clients.first(box.topic) > 0:
                    raise _NotOursError("trimmed", box.topic)
                box.compare()
            except _NotOursError as cause:
                obstacles.append(cause.obstacle)
        self._there = sum(box.found for box in boxes)
        self._progress(self._there, sum(box.entries for box in boxes))
        return obstacles

    # ---------------------------------------------------------------- moving

    def _carry(self, boxes: list[_Mailbox], grants: list[str]) -> None:
        settings = self._clients.settings([box.topic for box in boxes])
        changed = {box.topic for box in boxes if _has(settings.get(box.topic, {}), MOVING)}
        waiting = [box for box in boxes if not box.complete]
        try:
            self._carry_grants(grants)
            changed |= {box.topic for box in waiting}
            self._clients.change_settings({box.topic: MOVING for box in waiting})
            self._in_force([box.topic for box in waiting], _TIME_REFUSED)
            self._carry_entries(waiting, sum(box.entries for box in boxes))
        except BaseException:
            # Whoever may write would choose his times until then. Failing, the next run or `kafka_admin.apply` does it.
            with contextlib.suppress(UmuhuzaError):
                self._clients.change_settings({topic: {**_usual(topic), AHEAD: None} for topic in sorted(changed)})
            raise
        self._clients.change_settings({topic: {**_usual(topic), AHEAD: None} for topic in sorted(changed)})
        self._in_force(sorted(changed), "too_large")
        ends = self._clients.ends([box.topic for box in boxes])
        for box in boxes:
            if ends[box.topic] != box.end:
                raise LogError("log_inconsistent", box.topic)

    def _carry_entries(self, boxes: list[_Mailbox], in_all: int) -> None:
        done = self._there

        def wrote(count: int) -> None:
            nonlocal done
            done = min(done + count, in_all)
            self._progress(done, in_all)

        for box in boxes:
            until = time.monotonic() + PATIENCE_S
            while True:
                try:
                    box.compare()  # always before a batch: nothing is sent while it is open what is there
                    until = time.monotonic() + PATIENCE_S
                    if box.complete:
                        break
                    box.write(wrote)
                except LogError as error:
                    if not error.retriable or time.monotonic() > until:
                        raise
                    time.sleep(PAUSE_S)
                except _NotOursError:
                    raise LogError("log_inconsistent", box.topic) from None

    def _in_force(self, topics: Iterable[str], code: str) -> None:
        """Until each topic's leader refuses our probe with `code`, that is: acts by its new settings."""
        waiting = list(topics)
        until = time.monotonic() + IN_FORCE_S
        while waiting:
            asked, waiting = waiting[:_PROBES], waiting[_PROBES:]
            probes = [Item(topic, b"", bytes(_PROBE_BYTES), at_ms=_PROBE_MS) for topic in asked]
            told = self._clients.produce(probes, attempts=1, time_refused=_TIME_REFUSED)
            again = []
            for topic, answer in zip(asked, told, strict=True):
                if not isinstance(answer, LogError) or answer.code not in (
                    code,
                    "too_large",
                    _TIME_REFUSED,
                    "unavailable",
                ):
                    raise LogError(answer.code if isinstance(answer, LogError) else "log_inconsistent", topic)
                if answer.code != code:
                    again.append(topic)
            if again:
                if time.monotonic() > until:
                    raise LogError("unavailable", again[0])
                time.sleep(0.1)
            waiting += again

    # ---------------------------------------------------------------- grants

    def _granted(self, topic: str) -> Iterator[tuple[str, bytes]]:
        after = ""
        while many := self._source.grants(topic, after, _PAGE):
            yield from many.items()
            after = max(many)

    def _grant_changes(self, topic: str) -> Iterator[Item]:
        """What makes the topic say what the file says."""
        held: dict[str, bytes] = {}
        for pairs, _ in self._clients.through(topic, 0):
            for key, value in pairs:
                name = key.decode("utf-8", "replace")
                if value is None:
                    held.pop(name, None)
                else:
                    held[name] = hashlib.sha256(value).digest()
        for name, value in self._granted(topic):
            if held.pop(name, None) != hashlib.sha256(value).digest():
                yield Item(topic, name.encode(), value)
        for name in sorted(held):
            yield Item(topic, name.encode(), None)

    def _carry_grants(self, topics: list[str]) -> None:
        """Before the records that they belong to."""
        for topic in topics:
            for batch in _batches(self._grant_changes(topic)):
                for answer in self._clients.produce(batch):
                    if isinstance(answer, LogError):
                        raise answer
                self._count(batch)
            if next(self._grant_changes(topic), None) is not None:
                raise LogError("log_inconsistent", topic)

    def _count_grants(self, topics: list[str]) -> None:
        for topic in topics:
            self._count(self._grant_changes(topic))

    def _count(self, items: Iterable[Item]) -> None:
        for item in items:
            if item.value is None:
                self._erased += 1
            else:
                self._put += 1


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    weight = 0
    for item in items:
        if batch and weight + item.weight > BATCH_BYTES:
            yield batch
            batch, weight = [], 0
        batch.append(item)
        weight += item.weight
    if batch:
        yield batch


def _refused(domain: str, log_id: str, obstacles: list[Obstacle], dry_run: bool) -> Moved:
    return Moved(domain, log_id, 0, 0, 0, 0, 0, 0, 0, tuple(obstacles), dry_run)


def _usual(topic: str) -> dict[str, str]:
    """What the catalogue says of the settings that a move changes."""
    settings = kafka_topic(topic, 1).settings
    return {TYPE: settings[TYPE], SIZE: settings[SIZE]}


def _has(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(found.get(key) == value for key, value in wanted.items())


def _digest(entry: Stored) -> bytes:
    """Of all but place and time."""
    made = hashlib.sha256()
    for piece in (
        entry.key,
        entry.ident.encode(),
        entry.value,
        *(b for n, v in entry.headers for b in (n.encode(), v)),
    ):
        made.update(len(piece).to_bytes(8, "big") + piece)
    return made.digest()
