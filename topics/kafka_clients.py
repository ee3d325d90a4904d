# SPDX-License-Identifier: Apache-2.0
"""The clients of a Kafka cluster, and the only module that imports `kafka`: everything here blocks.

`topics.kafka_log` runs it in its threads, `topics.kafka_admin` in one. It knows topics, offsets, bytes and the
library's errors, which leave it as the tree's and never chained: their texts may hold what was sent. It knows nothing
of the log's contract, of identities or of policy. What it must never do: read without a position of its own, join a
consumer group, reset an offset, make a topic by asking for it, log below WARNING (the library then logs values).

Facts of kafka-python 3.0 that it is built around: a producer whose batches are not done cannot be closed, so every
produce is waited for up to the delivery timeout first; a topic that nobody knows blocks `send` and `end_offsets` until
they time out, so topics are described before; `create_acls` returns its failures; a refused TLS handshake looks like a
slow broker, so it is tried alone first.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import ssl
import struct
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from schemas.errors import LogError
from topics.catalogue import KafkaAcl, KafkaTopic
from topics.log import Stored
from topics.settings import SettingsError

with warnings.catch_warnings():
    # kafka-python 3.0 reads its protocol files by two functions that Python 3.11 deprecates, while it is imported.
    warnings.filterwarnings("ignore", r"(read|open)_text is deprecated\. Use files\(\)", DeprecationWarning)
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
    from kafka import errors as kafka_errors
    from kafka.admin import (
        ACL,
        ACLFilter,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        AlterConfigOp,
        ConfigResource,
        ConfigResourceType,
        OffsetSpec,
        ResourcePattern,
        ResourcePatternFilter,
        ResourceType,
    )
    from kafka.net.compat import KafkaNetClient
    from kafka.net.inet import KafkaNetSocket
    from kafka.protocol.admin.client_quotas import AlterClientQuotasRequest, DescribeClientQuotasRequest
    from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
    from kafka.record.util import decode_varint

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord

IDENT_HEADER = "umuhuza_ident"
BATCH_BYTES = 1_000_000
"""Of one topic in one produce; below the broker's `max.message.bytes`, with room for the batch's own header."""
REQUEST_S = 10.0
"""What one call of the library may take."""
DELIVERY_S = 8.0
HANDSHAKE_S = 5.0
ATTEMPTS = 2
READERS = 4
LONG_POLL_MS = 250
"""How long the broker holds a follower's question; as late may a topic that joins be noticed for the first time."""
DOWN_S = 1.0
"""After a call that found no broker, others fail at once for so long, instead of queueing for the same."""

_T = TypeVar("_T")
_PROBE = struct.pack(">ihhih", 10, 18, 0, 0, -1)
"""ApiVersions, version 0, of an unnamed client: the smallest question that a broker answers."""
_CODES: tuple[tuple[type[BaseException], str], ...] = (
    (kafka_errors.KafkaStorageError, "storage_full"),
    (kafka_errors.AuthorizationError, "not_permitted"),
    (kafka_errors.MessageSizeTooLargeError, "too_large"),
    (kafka_errors.RecordListTooLargeError, "too_large"),
    (kafka_errors.InvalidTopicError, "topic_unknown"),
)


_ADDRESS = re.compile(r"[A-Za-z0-9.\-\[\]:]+:[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """How to reach a cluster: TLS 1.3 with a client certificate, always. Files are PEM."""

    bootstrap: tuple[str, ...]
    """ "127.0.0.1:19092", ..."""
    ca: Path
    certificate: Path
    key: Path
    client_id: str = "umuhuza"

    @classmethod
    def of_folder(cls, folder: Path, client_id: str = "umuhuza") -> KafkaAccess:
        """From the folder that an administrator hands over (`umuhuza kafka issue`): `bootstrap`, one line of
        host:port with commas between, `ca.pem`, `certificate.pem`, `key.pem`.

        Raises SettingsError: a file is not there, or `bootstrap` holds no addresses.
        """
        names = ("bootstrap", "ca.pem", "certificate.pem", "key.pem")
        for name in names:
            if not (folder / name).is_file():
                raise SettingsError(f"kafka: {name} is not in the folder", f"kafka : {name} manque dans le dossier")
        addresses = tuple(
            one.strip() for one in (folder / names[0]).read_text("ascii", "replace").split(",") if one.strip()
        )
        if not addresses or not all(_ADDRESS.fullmatch(one) for one in addresses):
            raise SettingsError("kafka: bootstrap is not host:port,…", "kafka : bootstrap n'est pas hôte:port,…")
        return cls(addresses, folder / names[1], folder / names[2], folder / names[3], client_id)


def error_of(cause: BaseException, path: str | None = None) -> LogError:
    """The tree's error for one of the library's. What is not listed is `unavailable`: retried, never taken for a no."""
    for kind, code in _CODES:
        if isinstance(cause, kind):
            return LogError(code, path)
    # A principal that may write nowhere gets no producer id; kafka-python 3.0.12 tells that in words only.
    if type(cause) is kafka_errors.KafkaError and "AuthorizationFailed" in str(cause):
        return LogError("not_permitted", path)
    return LogError("unavailable", path)


# ---------------------------------------------------------------------------------------------------------------------
# Clients: everything here blocks and runs in the driver's threads


@dataclass(frozen=True, slots=True)
class Described:
    """A topic as the broker describes it. `code`: why not, else ""."""

    id: str = ""
    partitions: int = 0
    replication: int = 0
    code: str = ""
    writable: bool = False
    """By this principal."""


@dataclass(frozen=True, slots=True)
class Item:
    """What goes into a topic; value None is a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    at_ms: int | None = None
    """Milliseconds since the epoch, for a topic that keeps what its writer says; None: now."""

    @property
    def weight(self) -> int:
        """Bytes in a batch, rounded up."""
        return 64 + len(self.key) + len(self.value or b"") + sum(len(n) * 4 + len(v) + 10 for n, v in self.headers)


class Clients:
    """Clients of one principal, made when needed. Methods may be called from several threads, but `produce`."""

    def __init__(self, access: KafkaAccess) -> None:
        """Raises LogError `not_permitted` (path `tls.key`, `tls.ca`: files that cannot be used)."""
        logger = logging.getLogger("kafka")
        logger.setLevel(max(logger.level, logging.WARNING))
        self._access = access
        self._context = _tls(access)
        self._lock = threading.Lock()
        self._admin: KafkaAdminClient | None = None
        self._idle: list[tuple[frozenset[str], KafkaConsumer]] = []
        self._producer: KafkaProducer | None = None
        self._unfinished: list[KafkaProducer] = []
        """Given up, and not closed yet."""
        self._down_until = 0.0
        self._alone_until = 0.0
        self._closed = False

    def probe(self) -> None:
        """Say at once what a bootstrap would hide behind a long timeout.

        Raises LogError `not_permitted` (path `tls.certificate`: the brokers refuse ours: unknown, expired or revoked),
        `unavailable` (path `tls.ca`: theirs is not our cluster's; `bootstrap`: nobody answers).
        """
        refusal = LogError("unavailable", "bootstrap")
        for address in self._access.bootstrap:
            host, _, port = address.rpartition(":")
            try:
                with (
                    socket.create_connection((host.strip("[]"), int(port)), 5.0) as plain,
                    self._context.wrap_socket(plain, server_hostname=host.strip("[]")) as secured,
                ):
                    secured.sendall(_PROBE)
                    if secured.recv(4):  # TLS 1.3: whether our certificate was taken shows with the first answer
                        return
                    refusal = LogError("not_permitted", "tls.certificate")
            except ssl.SSLCertVerificationError:
                refusal = LogError("unavailable", "tls.ca")
            except ssl.SSLError:
                refusal = LogError("not_permitted", "tls.certificate")
            except (OSError, ValueError):
                continue
        raise refusal

    def _config(self, **more: object) -> dict[str, object]:
        return {
            "bootstrap_servers": list(self._access.bootstrap),
            "client_id": self._access.client_id,
            "security_protocol": "SSL",
            "ssl_context": self._context,
            "proxy_url": f"{_Sockets.SCHEMES[0]}://",
            "bootstrap_timeout_ms": 5_000,
            "request_timeout_ms": int(REQUEST_S * 1000) // 2,
            "reconnect_backoff_max_ms": 1_000,
            **more,
        }

    @contextlib.contextmanager
    def said(self, path: str | None = None) -> Iterator[None]:
        """Errors of the library as the tree's. The cause is not chained: its text may hold what was sent."""
        if self._closed:
            raise LogError("log_closed")
        if time.monotonic() < self._down_until:
            raise LogError("unavailable", path)
        try:
            yield
        except (kafka_errors.KafkaError, OSError) as cause:
            if self._closed:
                raise LogError("log_closed") from None
            if not isinstance(cause, kafka_errors.BrokerResponseError):
                self._down_until = time.monotonic() + DOWN_S
            raise error_of(cause, path) from None

    # ---------------------------------------------------------------- topics, settings, ACLs

    def admin(self) -> KafkaAdminClient:
        with self._lock:
            if self._closed:
                raise LogError("log_closed")
            if self._admin is None:
                self._admin = _whole(KafkaAdminClient, self._config())
            return self._admin

    def describe(self, names: Sequence[str] | None = None) -> dict[str, Described]:
        """Of each name that exists; of all that this principal may see when None."""
        with self.said():
            found = self.admin().describe_topics(names)
        described: dict[str, Described] = {}
        for raw in found:
            if raw["error_code"] == 0:
                replicas = [len(partition["replica_nodes"]) for partition in raw["partitions"]]
                writable = "WRITE" in (raw.get("authorized_operations") or ())
                described[raw["name"]] = Described(
                    str(raw["topic_id"]), len(replicas), min(replicas, default=0), writable=writable
                )
            else:
                cause = kafka_errors.for_code(raw["error_code"])
                unknown = issubclass(cause, kafka_errors.UnknownTopicOrPartitionError)
                code = "topic_unknown" if unknown else error_of(cause()).code
                described[raw["name"]] = Described(code=code)
        return described

    def nodes(self) -> int:
        with self.said():
            return len(self.admin().describe_cluster()["brokers"])

    def create(self, topics: Iterable[KafkaTopic]) -> list[str]:
        """Make topics; names of those that this call made. Raises LogError; those before the failure are there."""
        wanted = {
            topic.name: {"num_partitions": 1, "replication_factor": topic.replication, "configs": dict(topic.settings)}
            for topic in topics
        }
        if not wanted:
            return []
        with self.said("topics"):
            told = self.admin().create_topics(wanted, raise_errors=False, wait_for_metadata=False)
            made: list[str] = []
            for raw in told["topics"]:
                cause = kafka_errors.for_code(raw["error_code"])
                if raw["error_code"] == 0:
                    made.append(raw["name"])
                elif not issubclass(cause, kafka_errors.TopicAlreadyExistsError):
                    raise error_of(cause(), raw["name"])
        until = time.monotonic() + REQUEST_S
        while any(not one.partitions or one.code for one in self.describe(list(wanted)).values()):
            if time.monotonic() > until:  # made, but no leader yet
                raise LogError("unavailable", "topics")
            time.sleep(0.05)
        return made

    def settings(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Settings of topics that differ from the brokers' defaults."""
        if not names:
            return {}
        with self.said("settings"):
            found = self.admin().describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
        return {
            name: {key: str(one["value"]) for key, one in settings.items()}
            for name, settings in found.get("topic", {}).items()
        }

    def change_settings(self, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        """Set these, None: the brokers' default; others stay as they are. Raises LogError, path: the topic."""
        if not changes:
            return
        with self.said("settings"):
            told = self.admin().alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, name, _altered(values)) for name, values in changes.items()],
                raise_on_unknown=False,  # the broker knows better, and may not tell what there is
            )
        for name, answer in told.get("topic", {}).items():
            if answer != "OK":
                raise LogError("unavailable", name)

    def acls(self) -> set[KafkaAcl]:
        """Every ACL of the cluster."""
        everything = ACLFilter(
            None,
            None,
            ACLOperation.ANY,
            ACLPermissionType.ANY,
            ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
        )
        with self.said("acls"):
            found, _ = self.admin().describe_acls(everything)
        return {
            KafkaAcl(
                one.principal,
                one.operation.name.lower(),
                one.resource_pattern.resource_name,
                one.resource_pattern.resource_type.name.lower(),
                one.resource_pattern.pattern_type.name.lower(),
                one.permission_type.name.lower(),
                one.host,
            )
            for one in found
        }

    def add_acls(self, acls: Sequence[KafkaAcl]) -> None:
        """Raises LogError `not_permitted`, `unavailable`, when one of them was not made."""
        if not acls:
            return
        wanted = [ACL(*_pieces(acl), ResourcePattern(*_resource(acl))) for acl in acls]
        with self.said("acls"):
            told = self.admin().create_acls(wanted)
        if told["failed"]:
            raise error_of(told["failed"][0](), "acls")

    def remove_acls(self, acls: Sequence[KafkaAcl]) -> None:
        if not acls:
            return
        with self.said("acls"):
            told = self.admin().delete_acls(
                [ACLFilter(*_pieces(acl), ResourcePatternFilter(*_resource(acl))) for acl in acls]
            )
        for _, _, cause in told:
            if not issubclass(cause, kafka_errors.NoError):
                raise error_of(cause(), "acls")

    def quotas(self) -> dict[str, dict[str, float]]:
        """What single users may take of a broker: user -> name of the quota -> figure.

        kafka-python 3.0.12 knows these requests and has no methods for them.
        """
        users = DescribeClientQuotasRequest.ComponentData(entity_type="user", match_type=2, match=None)
        with self.said("quotas"):
            manager = self.admin()._manager
            told = manager.run(manager.send, DescribeClientQuotasRequest(components=[users], strict=True)).to_dict()
            if told["error_code"]:
                raise error_of(kafka_errors.for_code(told["error_code"])(), "quotas")
        return {
            one["entity"][0]["entity_name"]: {value["key"]: value["value"] for value in one["values"]}
            for one in told["entries"] or ()
            if one["entity"][0]["entity_name"] is not None
        }

    def change_quotas(self, changes: Mapping[str, Mapping[str, float]]) -> None:
        """Set these; others stay. Raises LogError."""
        if not changes:
            return
        made = AlterClientQuotasRequest.EntryData
        entries = [
            made(
                entity=[made.EntityData(entity_type="user", entity_name=user)],
                ops=[made.OpData(key=key, value=value, remove=False) for key, value in values.items()],
            )
            for user, values in changes.items()
        ]
        with self.said("quotas"):
            manager = self.admin()._manager
            told = manager.run(manager.send, AlterClientQuotasRequest(entries=entries, validate_only=False)).to_dict()
        for one in told["entries"]:
            if one["error_code"]:
                raise error_of(kafka_errors.for_code(one["error_code"])(), "quotas")

    def delete_topic(self, topic: str) -> None:
        with self.said(topic):
            try:
                self.admin().delete_topics([topic])
            except kafka_errors.UnknownTopicOrPartitionError:
                raise LogError("topic_unknown", topic) from None

    def trim(self, topic: str, before: int) -> int:
        """Returns the first offset kept."""
        place = TopicPartition(topic, 0)
        with self.said(topic):
            return int(self.admin().delete_records({place: before})[place]["low_watermark"])

    # ---------------------------------------------------------------- reading

    @contextlib.contextmanager
    def consumer(self, topics: Iterable[str], path: str | None = None) -> Iterator[KafkaConsumer]:
        """A consumer for a while: one that read the same topics last, if there is one. A failed one goes."""
        wanted = frozenset(topics)
        with self.said(path):
            consumer = self._borrow(wanted)
            try:
                yield consumer
            except BaseException:
                consumer.close(autocommit=False, timeout_ms=1_000)
                raise
            with self._lock:
                if not self._closed and len(self._idle) < READERS:
                    self._idle.append((wanted, consumer))
                    return
            consumer.close(autocommit=False, timeout_ms=1_000)

    def _borrow(self, wanted: frozenset[str]) -> KafkaConsumer:
        with self._lock:
            if self._idle:
                best = next((at for at, (last, _) in enumerate(self._idle) if last == wanted), -1)
                return self._idle.pop(best)[1]
        return self.new_consumer(5)

    def new_consumer(self, wait_ms: int) -> KafkaConsumer:
        return _whole(
            KafkaConsumer,
            self._config(
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
                fetch_min_bytes=1,
                fetch_max_wait_ms=wait_ms,
                fetch_max_bytes=8 << 20,
                max_partition_fetch_bytes=1 << 20,
                max_poll_records=5_000,
                metrics_enabled=False,
            ),
        )

    def bare_producer(self) -> KafkaProducer:
        """One that pipelines as the library does by itself, with our durability: what `umuhuza bench` compares with.

        The caller closes it.
        """
        return KafkaProducer(
            **self._config(
                acks="all",
                enable_idempotence=True,
                allow_auto_create_topics=False,
                batch_size=BATCH_BYTES + 40_000,
                linger_ms=5,
                max_request_size=8 << 20,
                metrics_enabled=False,
            )
        )

    def ends(self, topics: Sequence[str]) -> dict[str, int]:
        """The offset that each topic's next entry will take. The topics are known to exist."""
        return self._offsets(topics, OffsetSpec.LATEST)

    def first(self, topic: str) -> int:
        """Its first kept offset."""
        return self._offsets([topic], OffsetSpec.EARLIEST)[topic]

    def _offsets(self, topics: Sequence[str], spec: OffsetSpec) -> dict[str, int]:
        # Not the consumer's: kafka-python 3.0.12 forgets partitions there whose leader it does not know yet.
        places = {TopicPartition(topic, 0): spec for topic in topics}
        with self.said(topics[0]):
            found = self.admin().list_partition_offsets(places, timeout_ms=int(REQUEST_S * 1000))
        return {place.topic: one.offset for place, one in found.items()}

    def fetch(self, spans: Mapping[str, tuple[int, int]], limit: int, max_bytes: int) -> dict[str, list[Stored]] | str:
        """Entries from each span (first offset, and the one behind the last), enough for a fair share of the limits.

        A topic's name instead, when its first offset is not there.
        """
        share, share_bytes = max(1, limit // len(spans)), max_bytes // len(spans)
        found: dict[str, list[Stored]] = {topic: [] for topic in spans}
        sizes = dict.fromkeys(spans, 0)
        places = [TopicPartition(topic, 0) for topic in spans]
        gone = ""
        with self.consumer(spans, places[0].topic) as consumer:
            consumer.assign(places)
            consumer.resume(*places)
            for place in places:
                consumer.seek(place, spans[place.topic][0])
            until = time.monotonic() + REQUEST_S
            while not gone:
                behind = {t: (found[t][-1].offset + 1 if found[t] else spans[t][0]) for t in spans}
                open_ = [t for t in spans if behind[t] < spans[t][1]]
                short = [t for t in open_ if len(found[t]) < share and (not found[t] or sizes[t] < share_bytes)]
                full = sum(map(len, found.values())) >= limit or sum(sizes.values()) >= max_bytes
                if not open_ or (full and not short):
                    break
                if time.monotonic() > until:
                    raise LogError("unavailable", open_[0])
                consumer.pause(*(p for p in places if p.topic not in (short if full else open_)))
                try:
                    fetched = consumer.poll(500)
                except kafka_errors.OffsetOutOfRangeError as cause:
                    gone = next(iter(cause.args[0])).topic
                    continue
                for place, records in fetched.items():
                    found[place.topic] += map(_stored, records)
                    sizes[place.topic] += sum(len(record.value or b"") for record in records)
        return gone or found

    def through(self, topic: str, start: int) -> Iterator[tuple[list[tuple[bytes, bytes | None]], int]]:
        """What a compacted topic holds from `start` to the end that it has now: keys and values in pieces, with the
        offset behind each piece.

        A `start` that is not there means 0: the first piece then has an offset below `start`, or the topic is empty.
        Raises LogError `unavailable` when nothing comes.
        """
        place = TopicPartition(topic, 0)
        end = self.ends([topic])[topic]
        at = start if start <= end else 0
        if at == end:
            return
        with self.consumer((topic,), topic) as consumer:
            consumer.assign([place])
            consumer.resume(place)
            consumer.seek(place, at)
            until = time.monotonic() + REQUEST_S
            while at < end:
                records: Sequence[ConsumerRecord] = ()
                try:
                    records = consumer.poll(200).get(place, ())
                except kafka_errors.OffsetOutOfRangeError:
                    consumer.seek(place, self.first(topic))
                following = consumer.position(place)
                if following > at:
                    at, until = following, time.monotonic() + REQUEST_S
                    yield [(record.key or b"", record.value) for record in records], at
                elif time.monotonic() > until:
                    raise LogError("unavailable", topic)

    def follower(self) -> Follower:
        with self.said():
            return Follower(self.new_consumer(LONG_POLL_MS))

    # ---------------------------------------------------------------- writing; one thread only

    def produce(
        self, items: Sequence[Item], attempts: int = ATTEMPTS, *, time_refused: str = "unavailable"
    ) -> list[tuple[int, int] | LogError]:
        """Offset and time of each, or why not; the caller sees to it that one topic's fit into one batch.

        Args:
            attempts: a second one may leave a second copy; who cannot have it looks what is there instead.
            time_refused: code of a refusal for the record's time. A topic that takes our clock for it is an
                administrator's to mend: until then it is no reason to give up.
        """
        results: list[tuple[int, int] | LogError] = [LogError("unavailable") for _ in items]
        if time.monotonic() < self._alone_until:
            return results
        waiting = list(range(len(items)))
        began = time.monotonic()
        for _ in range(attempts):
            waiting = self._send(items, waiting, results, time_refused)
            now = time.monotonic()
            # What took long already is the caller's to try again: others wait behind it.
            if not waiting or self._closed or now < self._alone_until or now - began >= DELIVERY_S / 2:
                break
        return results

    def _send(
        self, items: Sequence[Item], which: list[int], results: list[tuple[int, int] | LogError], time_refused: str
    ) -> list[int]:
        """One attempt; returns those to be sent again, in order."""
        broken: BaseException = kafka_errors.KafkaTimeoutError()
        sent = {}
        try:
            producer = self._made_producer()
        except (kafka_errors.KafkaError, OSError) as cause:
            # Not one broker answers: whoever queued behind this produce need not wait for the same again.
            self._alone_until = time.monotonic() + DOWN_S
            for place in which:
                results[place] = error_of(cause, items[place].topic)
            return which
        try:
            for place in which:
                item = items[place]
                sent[place] = producer.send(
                    item.topic, item.value, item.key, list(item.headers), partition=0, timestamp_ms=item.at_ms
                )
        except kafka_errors.KafkaError as cause:
            broken = cause
        with contextlib.suppress(kafka_errors.KafkaTimeoutError):
            producer.flush(DELIVERY_S + 2)
        again: list[int] = []
        for place in which:
            one = sent.get(place)
            if one is not None and one.succeeded():
                results[place] = (one.value.offset, one.value.timestamp)
                continue
            why = (one.exception if one is not None else None) or broken
            error = error_of(why, items[place].topic)
            if isinstance(why, kafka_errors.InvalidTimestampError):
                error = LogError(time_refused, items[place].topic)
            results[place] = error
            if error.retriable:
                again.append(place)
        if any(isinstance(results[place], LogError) for place in which):
            self._drop_producer()
        return again

    def _made_producer(self) -> KafkaProducer:
        if self._closed:
            raise kafka_errors.KafkaTimeoutError()
        self._close_unfinished(0)
        if self._producer is None:
            self._producer = _whole(
                KafkaProducer,
                self._config(
                    acks="all",
                    enable_idempotence=True,
                    allow_auto_create_topics=False,
                    batch_size=BATCH_BYTES + 40_000,
                    linger_ms=1_000,  # `flush` sends; nothing leaves before a call's entries are all in
                    max_block_ms=5_000,
                    max_request_size=8 << 20,
                    delivery_timeout_ms=int(DELIVERY_S * 1000),
                    metrics_enabled=False,
                ),
            )
        return self._producer

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=2)
            except kafka_errors.KafkaTimeoutError:
                self._unfinished.append(producer)

    def _close_unfinished(self, wait_s: float) -> None:
        """One with a batch still under way (a broker that hangs before it dies) cannot be closed, only asked again
        later; forgotten, it would keep its thread and its connection."""
        for producer in list(self._unfinished):
            with contextlib.suppress(kafka_errors.KafkaTimeoutError):
                producer.close(timeout=wait_s)
                self._unfinished.remove(producer)

    def close_producer(self) -> None:
        """In the writing thread."""
        self._drop_producer()
        self._close_unfinished(DELIVERY_S)

    def close(self) -> None:
        """All but the producer."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            admin, self._admin = self._admin, None
        for _, consumer in idle:
            consumer.close(autocommit=False, timeout_ms=1_000)
        if admin is not None:
            admin.close()


class _Sockets(KafkaNetSocket):
    """Connects as the library does, and closes a socket whose connection failed: kafka-python 3.0.12 leaves it open.

    Chosen by the scheme of `proxy_url`, the library's way to bring sockets of one's own. No proxy is involved.
    """

    SCHEMES = ("umuhuza-direct",)

    async def sock_connect(
        self, net: object, sock: socket.socket, sockaddr: object, timeout_at: float | None = None
    ) -> socket.socket:
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise


class _Context(ssl.SSLContext):
    """Cuts off a TLS handshake that takes too long: kafka-python 3.0.12 waits for a broker that hangs for ever."""

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        secured = super().wrap_socket(
            sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname, session
        )
        if not do_handshake_on_connect:
            timer = threading.Timer(HANDSHAKE_S, _cut_off, (weakref.ref(secured),))
            timer.daemon = True
            timer.start()
        return secured


def _cut_off(connection: weakref.ref[ssl.SSLSocket]) -> None:
    secured = connection()
    if secured is not None and secured.fileno() >= 0 and secured.version() is None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(secured, socket.SHUT_RDWR)  # its owner hears of it and closes it


class Follower:
    """Long polls over a changing set of topics; used by one thread."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._followed: set[str] = set()

    def poll(self, positions: Mapping[str, int]) -> dict[str, int | None]:
        """Wait once; topics that grew, with the offset behind the newest entry, None for a lost position.

        `positions` says which topics to follow, and from where those that were not followed before. Raises LogError.
        """
        try:
            if positions.keys() != self._followed:
                self._consumer.assign([TopicPartition(topic, 0) for topic in positions])
                for topic in positions.keys() - self._followed:
                    self._consumer.seek(TopicPartition(topic, 0), positions[topic])
                self._followed = set(positions)
            fetched = self._consumer.poll(LONG_POLL_MS)
        except kafka_errors.OffsetOutOfRangeError as cause:
            return {place.topic: None for place in cause.args[0]}
        except kafka_errors.TopicAuthorizationFailedError as cause:
            return dict.fromkeys(cause.args[0])
        except (kafka_errors.KafkaError, OSError) as cause:
            raise error_of(cause) from None
        return {place.topic: records[-1].offset + 1 for place, records in fetched.items() if records}

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=1_000)


_library_reads = DefaultRecordBatch._read_msg


def _read_or_blank(batch: DefaultRecordBatch) -> DefaultRecord:
    """The next record of a batch; a blank one in its place where the library cannot read what the broker took.

    Brokers check how long a record and its pieces are, and no more. A header's name that is not UTF-8, by a writer that
    is hostile or broken, makes kafka-python 3.0.12 give up the batch, at every attempt, and the mailbox with it. The
    blank is no record: its reader quarantines it.
    """
    size, start = decode_varint(batch._buffer, batch._pos)
    try:
        return _library_reads(batch)
    except (ValueError, IndexError, kafka_errors.CorruptRecordError):
        if not 0 < size <= len(batch._buffer) - start:
            raise
        spent_ms, place = decode_varint(batch._buffer, start + 1)  # behind a byte of attributes
        behind, _ = decode_varint(batch._buffer, place)
    batch._pos = start + size
    appended = batch.timestamp_type == DefaultRecordBatch.LOG_APPEND_TIME
    at_ms = batch.max_timestamp if appended else batch.first_timestamp + spent_ms
    return DefaultRecord(size, batch.base_offset + behind, at_ms, batch.timestamp_type, None, None, ())


DefaultRecordBatch._read_msg = _read_or_blank


def _stored(record: ConsumerRecord) -> Stored:
    """What another program wrote without our header has no ident: its reader quarantines it, `header_mismatch`."""
    ident = next((value or b"" for name, value in record.headers if name == IDENT_HEADER), b"")
    return Stored(
        record.topic,
        record.offset,
        record.key or b"",
        ident.decode("ascii", "replace"),
        record.value or b"",
        record.timestamp,
        tuple((name, value or b"") for name, value in record.headers if name != IDENT_HEADER),
    )


def _whole(kind: Callable[..., _T], config: dict[str, object]) -> _T:
    """A client, or nothing: one that cannot bootstrap leaves its thread and sockets behind in kafka-python 3.0.12."""
    begun: list[KafkaNetClient] = []

    def connect(**more: object) -> KafkaNetClient:
        begun.append(KafkaNetClient(**more))
        return begun[-1]

    try:
        return kind(**config, kafka_client=connect)
    except BaseException:
        for client in begun:
            client.close()
        raise


def _tls(access: KafkaAccess) -> ssl.SSLContext:
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(access.ca)
    except (OSError, ValueError):
        raise LogError("not_permitted", "tls.ca") from None
    try:
        context.load_cert_chain(access.certificate, access.key)
    except (OSError, ValueError):
        raise LogError("not_permitted", "tls.key") from None
    return context


def _altered(values: Mapping[str, str | None]) -> dict[str, object]:
    return {key: (AlterConfigOp.DELETE, None) if value is None else value for key, value in values.items()}


def _pieces(acl: KafkaAcl) -> tuple[str, str, ACLOperation, ACLPermissionType]:
    return acl.principal, acl.host, ACLOperation[acl.operation.upper()], ACLPermissionType[acl.permission.upper()]


def _resource(acl: KafkaAcl) -> tuple[ResourceType, str, ACLResourcePatternType]:
    return ResourceType[acl.resource.upper()], acl.name, ACLResourcePatternType[acl.pattern.upper()]
