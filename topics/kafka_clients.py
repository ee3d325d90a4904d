# SPDX-License-Identifier: Apache-2.0
"""The clients of a Kafka cluster: administration and reading, and the producers. Everything here blocks.

`topics.kafka_log` runs it in its threads, `topics.kafka_admin` in one. It knows topics, offsets, bytes and the
library's errors, which leave it as the tree's and never chained: their texts may hold what was sent. It knows nothing
of the log's contract, of identities or of policy. What it must never do: read without a position of its own, join a
consumer group, reset an offset, make a topic by asking for it.

Facts of kafka-python 3.0 that it is built around: a topic that nobody knows blocks `end_offsets` until it times out, so
topics are described before; `create_acls` returns its failures; a refused TLS handshake looks like a slow broker, so it
is tried alone first.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from schemas.errors import LogError
from topics.kafka_access import REQUEST_S, KafkaAccess, Reach, error_of, whole
from topics.kafka_catalogue import KafkaAcl, KafkaTopic
from topics.kafka_producer import ATTEMPTS, BATCH_BYTES, DOWN_S, Item, Producing
from topics.log import Stored

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
    from kafka.protocol.admin.acl import DescribeAclsRequest
    from kafka.protocol.admin.client_quotas import AlterClientQuotasRequest, DescribeClientQuotasRequest
    from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
    from kafka.record.util import decode_varint

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord

IDENT_HEADER = "umuhuza_ident"
READERS = 4
SETTLED_S = 60.0
"""How long brokers may take to act upon what their controller has answered. They make new topics' files first, several
flushes each, one after the other: with 60 topics and a disk that takes 0.1 s for a flush that is half a minute."""
LONG_POLL_MS = 250
"""How long the broker holds a follower's question; as late may a topic that joins be noticed for the first time."""
_T = TypeVar("_T")
_PROBE = struct.pack(">ihhih", 10, 18, 0, 0, -1)
"""ApiVersions, version 0, of an unnamed client: the smallest question that a broker answers."""
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


class Clients:
    """Clients of one principal, made when needed. Methods may be called from several threads, but `produce`."""

    def __init__(self, access: KafkaAccess) -> None:
        """Raises LogError `not_permitted` (path `tls.key`, `tls.ca`: files that cannot be used)."""
        self._reach = Reach(access)
        self._producing = [Producing(self._reach)]
        self._lock = threading.Lock()
        self._admin: KafkaAdminClient | None = None
        self._idle: list[tuple[frozenset[str], KafkaConsumer]] = []
        self._down_until = 0.0
        self._closed = False

    def probe(self) -> None:
        """Say at once what a bootstrap would hide behind a long timeout.

        Raises LogError `not_permitted` (path `tls.certificate`: the brokers refuse ours: unknown, expired or revoked),
        `unavailable` (path `tls.ca`: theirs is not our cluster's; `bootstrap`: nobody answers).
        """
        refusal = LogError("unavailable", "bootstrap")
        for address in self._reach.access.bootstrap:
            host, _, port = address.rpartition(":")
            try:
                with (
                    socket.create_connection((host.strip("[]"), int(port)), 5.0) as plain,
                    self._reach.context.wrap_socket(plain, server_hostname=host.strip("[]")) as secured,
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
                self._admin = whole(KafkaAdminClient, self._reach.settings())
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
        until = time.monotonic() + SETTLED_S
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

    def acls(self, node: int | None = None) -> set[KafkaAcl]:
        """Every ACL of the cluster, as this node knows them; None: as any of them does.

        kafka-python 3.0.12 knows this request and cannot be told whom to ask.
        """
        everything = DescribeAclsRequest(
            resource_type_filter=ResourceType.ANY,
            resource_name_filter=None,
            pattern_type_filter=ACLResourcePatternType.ANY,
            principal_filter=None,
            host_filter=None,
            operation=ACLOperation.ANY,
            permission_type=ACLPermissionType.ANY,
        )
        with self.said("acls"):
            manager = self.admin()._manager
            told = manager.run(manager.send, everything, node).to_dict()
            if told["error_code"]:
                raise error_of(kafka_errors.for_code(told["error_code"])(), "acls")
        return {
            KafkaAcl(
                acl["principal"],
                ACLOperation(acl["operation"]).name.lower(),
                resource["resource_name"],
                ResourceType(resource["resource_type"]).name.lower(),
                ACLResourcePatternType(resource["pattern_type"]).name.lower(),
                ACLPermissionType(acl["permission_type"]).name.lower(),
                acl["host"],
            )
            for resource in told["resources"]
            for acl in resource["acls"]
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

    def until_acls(self, wanted: Collection[KafkaAcl], unwanted: Collection[KafkaAcl]) -> None:
        """Wait until every broker that is up acts upon these: the controller answers when they are written, and a
        broker learns them a moment later, when it has read them. One that is down reads them before it takes anybody.

        Raises LogError `unavailable` (path `acls`): after `SETTLED_S` one of them still does not.
        """
        with self.said("acls"):
            nodes = [one["broker_id"] for one in self.admin().describe_cluster()["brokers"] if not one["is_fenced"]]
        until = time.monotonic() + SETTLED_S
        for node in nodes:
            while not (found := self.acls(node)).issuperset(wanted) or not found.isdisjoint(unwanted):
                if time.monotonic() > until:
                    raise LogError("unavailable", "acls")
                time.sleep(0.05)

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
        return whole(
            KafkaConsumer,
            self._reach.settings(
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
            **self._reach.settings(
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

    def through(
        self, topic: str, start: int, end: int | None = None
    ) -> Iterator[tuple[list[tuple[bytes, bytes | None]], int]]:
        """What a compacted topic holds from `start` to `end`, None: the one that it has now: keys and values in pieces,
        with the offset behind each piece.

        A `start` that is not there means 0: the first piece then has an offset below `start`, or the topic is empty.
        Raises LogError `unavailable` when nothing comes.
        """
        place = TopicPartition(topic, 0)
        if end is None:
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

    # ---------------------------------------------------------------- writing

    def produce(
        self, items: Sequence[Item], attempts: int = ATTEMPTS, *, time_refused: str = "unavailable"
    ) -> list[tuple[int, int] | LogError]:
        """`Producing.produce` of the first writer, for who writes in one thread."""
        return self._producing[0].produce(items, attempts, time_refused=time_refused)

    def writers(self, count: int) -> list[Producing]:
        """So many producers, one for each of the caller's threads; the first is that of `produce`."""
        while len(self._producing) < count:
            self._producing.append(Producing(self._reach))
        return self._producing[:count]

    def close_producer(self) -> None:
        """In the writing thread of who has one."""
        self._producing[0].close()

    def close(self) -> None:
        """All but the producers, which begin nothing any more."""
        with self._lock:
            self._closed = True
            for writer in self._producing:
                writer.stop()
            idle, self._idle = self._idle, []
            admin, self._admin = self._admin, None
        for _, consumer in idle:
            consumer.close(autocommit=False, timeout_ms=1_000)
        if admin is not None:
            admin.close()


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


def _altered(values: Mapping[str, str | None]) -> dict[str, object]:
    return {key: (AlterConfigOp.DELETE, None) if value is None else value for key, value in values.items()}


def _pieces(acl: KafkaAcl) -> tuple[str, str, ACLOperation, ACLPermissionType]:
    return acl.principal, acl.host, ACLOperation[acl.operation.upper()], ACLPermissionType[acl.permission.upper()]


def _resource(acl: KafkaAcl) -> tuple[ResourceType, str, ACLResourcePatternType]:
    return ResourceType[acl.resource.upper()], acl.name, ACLResourcePatternType[acl.pattern.upper()]
