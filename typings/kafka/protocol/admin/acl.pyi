# SPDX-License-Identifier: Apache-2.0
from kafka.admin import ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourceType
from kafka.protocol.admin.client_quotas import Message

class DescribeAclsRequest(Message):
    def __init__(
        self,
        *,
        resource_type_filter: ResourceType,
        resource_name_filter: str | None,
        pattern_type_filter: ACLResourcePatternType,
        principal_filter: str | None,
        host_filter: str | None,
        operation: ACLOperation,
        permission_type: ACLPermissionType,
    ) -> None: ...
