# SPDX-License-Identifier: Apache-2.0
# What topics/kafka_log.py uses of kafka-python 3.0, which ships no types.
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kafka.admin import KafkaAdminClient as KafkaAdminClient
from kafka.consumer.fetcher import ConsumerRecord

class TopicPartition(NamedTuple):
    topic: str
    partition: int

class RecordMetadata(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int

class FutureRecordMetadata:
    is_done: bool
    value: RecordMetadata
    exception: BaseException | None
    def succeeded(self) -> bool: ...
    def failed(self) -> bool: ...

class _Sender:
    def force_close(self) -> None: ...

class KafkaProducer:
    _sender: _Sender | None
    def __init__(self, **configs: object) -> None: ...
    def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> FutureRecordMetadata: ...
    def partitions_for(self, topic: str) -> set[int]: ...
    def flush(self, timeout: float | None = None) -> None: ...
    def close(self, timeout: float | None = None) -> None: ...

class KafkaConsumer:
    def __init__(self, **configs: object) -> None: ...
    def assign(self, partitions: Sequence[TopicPartition]) -> None: ...
    def seek(self, partition: TopicPartition, offset: int) -> None: ...
    def position(self, partition: TopicPartition, timeout_ms: int | None = None) -> int: ...
    def pause(self, *partitions: TopicPartition) -> None: ...
    def resume(self, *partitions: TopicPartition) -> None: ...
    def poll(
        self, timeout_ms: int = 0, max_records: int | None = None
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]: ...
    def close(self, autocommit: bool = True, timeout_ms: int | None = None) -> None: ...
