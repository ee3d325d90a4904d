# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Sequence
from typing import ClassVar

class DefaultRecord:
    def __init__(
        self,
        size_in_bytes: int,
        offset: int,
        timestamp: int,
        timestamp_type: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
    ) -> None: ...

class DefaultRecordBatch:
    LOG_APPEND_TIME: ClassVar[int]
    base_offset: int
    first_timestamp: int
    max_timestamp: int
    timestamp_type: int
    _buffer: bytes
    _pos: int
    _read_msg: Callable[[DefaultRecordBatch], DefaultRecord]
