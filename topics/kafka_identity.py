# SPDX-License-Identifier: Apache-2.0
"""Which log this is: the `log_id` and the Kafka id of every topic, as `{domain}.registry.log` records them.

The topic is compacted, has one partition, is written by administrators only and read by every agency. Its keys are
`log_id` and `topic/<name>`. A topic counts when it is there, has one partition and the recorded id. One that has
another id was deleted and made again; one that is recorded and gone was deleted: both are `unavailable`, path the
topic, until an operator renews the identity, because what the log promised about them does not hold. `topic_unknown` is
only what is neither recorded nor visible, since senders give up on that code.

A third key, `moving`, stands there while a log is being moved to Kafka (`kafka_move`), until that is done: half a log
is `unavailable`, path `moving`, for everybody but the move and an administrator's `establish` and `renew`.

Blocking; used from the driver's threads, by one at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.errors import LogError
from topics.kafka_catalogue import KafkaTopic, kafka_topic
from topics.topic_names import registry_topic

CHECK_S = 2.0
"""How long an answer about a topic's identity counts, seconds."""
_FOUNDED_S = 10.0
_LOG_ID = b"log_id"
_MOVING = b"moving"
_TOPIC = b"topic/"


class Described(Protocol):
    """What a cluster says of one topic."""

    @property
    def id(self) -> str: ...
    @property
    def partitions(self) -> int: ...
    @property
    def code(self) -> str: ...


class Topics(Protocol):
    """What is needed of `kafka_clients.Clients`."""

    def describe(self, names: Sequence[str] | None = None) -> Mapping[str, Described]: ...
    def create(self, topics: Iterable[KafkaTopic]) -> list[str]: ...
    def nodes(self) -> int: ...
    def ends(self, topics: Sequence[str]) -> dict[str, int]: ...
    def through(self, topic: str, start: int) -> Iterator[tuple[list[tuple[bytes, bytes | None]], int]]: ...


Record = Callable[[str, Mapping[bytes, bytes | None]], None]
"""Appends keys and values (None: a tombstone) to a topic, durably and as one batch; raises LogError."""


@dataclass(frozen=True, slots=True)
class Established:
    """What `establish` did. Names are sorted."""

    created: tuple[str, ...]
    recorded: tuple[str, ...]
    replaced: tuple[str, ...]
    """There with another id than recorded, gone, or made again just now: refused until the identity is renewed."""
    departed: tuple[str, ...] = ()
    """Recorded, and not among those that were asked for: of agencies that have left. None of these is made again."""


class Identity:
    """The recorded identity, read on as the topic grows."""

    def __init__(self, clients: Topics, domain: str, *, moved_too: bool = False) -> None:
        """`moved_too`: also while the log is being moved."""
        self._clients = clients
        self._moved_too = moved_too
        self.moving = False
        self.topic = registry_topic(domain)
        self.log_id = ""
        self._ids: dict[str, str] = {}
        self._next = 0
        self._read_at = -CHECK_S
        self._good: dict[str, float] = {}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Raises LogError `unavailable` (path `log_id`: no log of this domain is there; `moving`: a move of it is not
        done, expected: the command that goes on with it), `not_permitted`."""
        with self._lock:
            found = self._clients.describe([self.topic]).get(self.topic)
            if found is None or found.code == "topic_unknown":
                raise LogError("unavailable", "log_id")
            if found.code:
                raise LogError(found.code, self.topic)
            self._read_on()
            if not self.log_id:
                raise LogError("unavailable", "log_id")

    @property
    def names(self) -> set[str]:
        """Every topic whose id is recorded."""
        return set(self._ids)

    def recorded(self, topic: str) -> str | None:
        """The id that was recorded for the topic; None: it is not known yet."""
        return self._ids.get(topic)

    def fresh(self, topics: Iterable[str]) -> bool:
        """All were found good just now: nothing needs to be asked. Does not block."""
        now = time.monotonic()
        return all(now - self._good.get(topic, now - 2 * CHECK_S) <= CHECK_S for topic in topics)

    def doubt(self, topic: str) -> None:
        """It failed: ask before it is used again. Does not block."""
        self._good.pop(topic, None)

    def check(self, topics: Iterable[str], *, afresh: bool = False) -> dict[str, LogError]:
        """Those of the topics that must not be served now, with the reason. `afresh`: as asked after this call.

        Raises LogError `unavailable`: the cluster cannot be asked, or (path `log_id`) this is another log by now.
        """
        called = time.monotonic()
        with self._lock:  # many wait here for one answer, which then is theirs too
            now = time.monotonic()
            since = called if afresh else now - CHECK_S
            asked = [topic for topic in topics if self._good.get(topic, -1.0) < since]
            if not asked:
                return {}
            described = self._clients.describe(asked)
            wrong = {topic: self._verdict(topic, described.get(topic)) for topic in asked}
            if afresh or self.moving or any(wrong.values()) or now - self._read_at > CHECK_S:
                self._read_on()
                wrong = {topic: self._verdict(topic, described.get(topic)) for topic in asked}
            for topic, error in wrong.items():
                if error is None:
                    self._good[topic] = now  # before it was asked
                else:
                    self._good.pop(topic, None)
            return {topic: error for topic, error in wrong.items() if error is not None}

    def _verdict(self, topic: str, found: Described | None) -> LogError | None:
        recorded = self._ids.get(topic)
        if found is None or found.code:
            # Who may not see a topic is told that he may not, whether it is there or not.
            if recorded is None:
                return LogError("topic_unknown", topic)
            return LogError("not_permitted" if found and found.code == "not_permitted" else "unavailable", topic)
        return None if found.id == recorded and found.partitions == 1 else LogError("unavailable", topic)

    def _read_on(self) -> None:
        if self._clients.ends([self.topic])[self.topic] < self._next:
            raise LogError("unavailable", "log_id")
        known = self.log_id
        for pairs, following in self._clients.through(self.topic, self._next):
            for key, value in pairs:
                if key == _LOG_ID and value:
                    self.log_id = value.decode("ascii", "replace")
                elif key == _MOVING:
                    self.moving = value is not None
                elif key.startswith(_TOPIC):
                    name = key.removeprefix(_TOPIC).decode("ascii", "replace")
                    if value is None:
                        self._ids.pop(name, None)
                    else:
                        self._ids[name] = value.decode("ascii", "replace")
            self._next = following
        self._read_at = time.monotonic()
        if known and self.log_id != known:
            self.log_id, other = known, LogError("unavailable", "log_id")
            self._next = 1 << 62  # and so for ever: this handle's log is no more
            self._good.clear()
            raise other
        if self.moving and not self._moved_too:
            self._good.clear()
            raise LogError("unavailable", "moving", expected="umuhuza log move")


def moving(domain: str, record: Record, *, now: bool) -> None:
    """Say that the log is being moved here, or that this is done. Durable when it returns; raises LogError."""
    record(registry_topic(domain), {_MOVING: b"1" if now else None})


def establish(
    clients: Topics,
    record: Record,
    domain: str,
    topics: Mapping[str, KafkaTopic],
    *,
    random_id: Callable[[], str],
    dry_run: bool = False,
) -> Established:
    """Make what is missing, record what is new. Needs an administrator's rights; can be repeated after a crash.

    A topic that is recorded and gone is made again, and stays refused: that is the operator's to confirm.
    """
    registry = registry_topic(domain)
    described = clients.describe()
    missing = [name for name in sorted({*topics, registry}) if name not in described]
    identity = Identity(clients, domain, moved_too=True)
    if registry in described:
        try:
            identity.load()
        except LogError as error:
            if error.path != "log_id":
                raise
    departed = tuple(sorted(filter(_is_named_as_ours, identity.names - {*topics, registry})))
    if dry_run:
        new = tuple(name for name in sorted(topics) if identity.recorded(name) is None)
        return Established(tuple(missing), new, _replaced(identity, {*topics, *departed}, described), departed)
    made = clients.create([topics[n] if n in topics else kafka_topic(n, clients.nodes()) for n in missing])
    if not identity.log_id:
        _found(identity, record, registry, random_id, alone=registry in made)
    described = clients.describe()
    new = tuple(name for name in sorted({*topics, registry}) if identity.recorded(name) is None and name in described)
    if new:
        record(registry, {_TOPIC + name.encode("ascii"): described[name].id.encode("ascii") for name in new})
    return Established(tuple(sorted(made)), new, _replaced(identity, {*topics, *departed}, described), departed)


def _is_named_as_ours(name: str) -> bool:
    """`renew` records whatever begins with the domain's name, also what another program made there."""
    try:
        kafka_topic(name, 1)
    except LogError:
        return False
    return True


def _replaced(identity: Identity, topics: Iterable[str], described: Mapping[str, Described]) -> tuple[str, ...]:
    return tuple(
        name
        for name in sorted(topics)
        if identity.recorded(name) is not None
        and (name not in described or described[name].id != identity.recorded(name))
    )


def _found(identity: Identity, record: Record, registry: str, random_id: Callable[[], str], *, alone: bool) -> None:
    """Whoever made the topic names the log; another waits for the name, and gives one if its maker died."""
    until = time.monotonic() + _FOUNDED_S
    while not alone and time.monotonic() < until:
        try:
            return identity.load()
        except LogError as error:
            if error.path != "log_id":
                raise
        time.sleep(0.2)
    record(registry, {_LOG_ID: random_id().encode("ascii")})
    return identity.load()


def renew(clients: Topics, record: Record, domain: str, random_id: Callable[[], str]) -> str:
    """Say that the topics as they are now are the log: a new `log_id`, and their ids, in one batch. Returns it.

    Raises LogError `unavailable` (path `log_id`: there was none; then `establish` is what is meant).
    """
    registry = registry_topic(domain)
    before = Identity(clients, domain, moved_too=True)
    before.load()
    log_id = random_id()
    there = {name: found for name, found in clients.describe().items() if not found.code}
    ids: dict[bytes, bytes | None] = {_TOPIC + name.encode("ascii"): None for name in before.names - there.keys()}
    ids |= {
        _TOPIC + name.encode("ascii"): found.id.encode("ascii")
        for name, found in there.items()
        if name.startswith(f"{domain}.") or name in before.names  # these go over a border
    }
    record(registry, {_LOG_ID: log_id.encode("ascii"), **ids})
    return log_id
