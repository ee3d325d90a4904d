# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from kafka import TopicPartition
from kafka.errors import KafkaError
from kafka.protocol.admin.client_quotas import Message

class ResourceType(IntEnum):
    ANY = 1
    TOPIC = 2
    CLUSTER = 4

class ACLOperation(IntEnum):
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4

class ACLPermissionType(IntEnum):
    ANY = 1
    DENY = 2
    ALLOW = 3

class ACLResourcePatternType(IntEnum):
    ANY = 1
    LITERAL = 3
    PREFIXED = 4

class ResourcePatternFilter:
    resource_type: ResourceType
    resource_name: str | None
    pattern_type: ACLResourcePatternType
    def __init__(
        self, resource_type: ResourceType, resource_name: str | None, pattern_type: ACLResourcePatternType
    ) -> None: ...

class ResourcePattern(ResourcePatternFilter):
    resource_name: str

class ACLFilter:
    principal: str | None
    host: str | None
    operation: ACLOperation
    permission_type: ACLPermissionType
    resource_pattern: ResourcePatternFilter
    def __init__(
        self,
        principal: str | None,
        host: str | None,
        operation: ACLOperation,
        permission_type: ACLPermissionType,
        resource_pattern: ResourcePatternFilter,
    ) -> None: ...

class ACL(ACLFilter):
    principal: str
    host: str
    resource_pattern: ResourcePattern

class ConfigResourceType(IntEnum):
    TOPIC = 2

class ConfigResource:
    def __init__(
        self, resource_type: ConfigResourceType, name: str, configs: Mapping[str, object] | None = None
    ) -> None: ...

class AlterConfigOp(IntEnum):
    SET = 0
    DELETE = 1

class OffsetSpec(IntEnum):
    LATEST = -1
    EARLIEST = -2

class OffsetAndTimestamp(NamedTuple):
    offset: int

class Manager:
    def send(self, request: Message, node_id: int | None = None) -> Any: ...
    def run(self, work: Callable[..., Any], request: Message, node_id: int | None = None) -> Message: ...

class KafkaAdminClient:
    _manager: Manager
    def __init__(self, **configs: object) -> None: ...
    def describe_topics(self, topics: Sequence[str] | None = None) -> list[dict[str, Any]]: ...
    def describe_cluster(self) -> dict[str, Any]: ...
    def create_topics(
        self,
        new_topics: Mapping[str, Mapping[str, object]],
        timeout_ms: int | None = None,
        validate_only: bool = False,
        raise_errors: bool = True,
        wait_for_metadata: bool = False,
    ) -> dict[str, Any]: ...
    def delete_topics(
        self, topics: Sequence[str], timeout_ms: int | None = None, raise_errors: bool = True
    ) -> dict[str, Any]: ...
    def delete_records(
        self, records_to_delete: Mapping[TopicPartition, int], timeout_ms: int | None = None
    ) -> dict[TopicPartition, Mapping[str, Any]]: ...
    def list_partition_offsets(
        self, topic_partition_specs: Mapping[TopicPartition, OffsetSpec], timeout_ms: int | None = None
    ) -> dict[TopicPartition, OffsetAndTimestamp]: ...
    def describe_configs(
        self, config_resources: Sequence[ConfigResource], config_filter: str = "modified"
    ) -> dict[str, dict[str, dict[str, dict[str, Any]]]]: ...
    def alter_configs(
        self, config_resources: Sequence[ConfigResource], raise_on_unknown: bool = True
    ) -> dict[str, dict[str, str]]: ...
    def create_acls(self, acls: Sequence[ACL]) -> dict[str, list[Any]]: ...
    def delete_acls(self, acl_filters: Sequence[ACLFilter]) -> list[tuple[ACLFilter, list[ACL], type[KafkaError]]]: ...
    def close(self) -> None: ...
