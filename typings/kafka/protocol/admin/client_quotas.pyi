# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from typing import Any

class Message:
    def to_dict(self) -> dict[str, Any]: ...

class AlterClientQuotasRequest(Message):
    class EntryData:
        class EntityData:
            def __init__(self, *, entity_type: str, entity_name: str | None) -> None: ...

        class OpData:
            def __init__(self, *, key: str, value: float, remove: bool) -> None: ...

        def __init__(self, *, entity: Sequence[EntityData], ops: Sequence[OpData]) -> None: ...

    def __init__(self, *, entries: Sequence[EntryData], validate_only: bool) -> None: ...

class DescribeClientQuotasRequest(Message):
    class ComponentData:
        def __init__(self, *, entity_type: str, match_type: int, match: str | None) -> None: ...

    def __init__(self, *, components: Sequence[ComponentData], strict: bool) -> None: ...
