# SPDX-License-Identifier: Apache-2.0
"""What a process and its checkers say to each other through a pipe: one message, one error.

A message is 4 bytes of length (big-endian) and that many bytes: 4 bytes of length of the head, the head (JSON), then
bytes whose lengths stand in the head, one after the other.

Both ends run this code, one started by the other: what comes is not checked. Pure; must never be spoken with strangers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

import orjson

from schemas.errors import UmuhuzaError

_CLASSES: dict[str, type[UmuhuzaError]] = {kind.__name__: kind for kind in UmuhuzaError.__subclasses__()}


def message(head: Any, blobs: Iterable[bytes] = ()) -> bytes:
    """A message as it travels."""
    packed = orjson.dumps(head)
    blobs = list(blobs)
    size = 4 + len(packed) + sum(map(len, blobs))
    return b"".join((size.to_bytes(4, "big"), len(packed).to_bytes(4, "big"), packed, *blobs))


def opened(body: bytes) -> tuple[Any, int]:
    """Head of a message (without its first four bytes), and where in it the rest starts."""
    size = int.from_bytes(body[:4], "big")
    return orjson.loads(body[4 : 4 + size]), 4 + size


def read_message(source: IO[bytes]) -> bytes | None:
    """The next message without its first four bytes; None when the other end is gone. Blocks."""
    head = source.read(4)
    if len(head) < 4:
        return None
    size = int.from_bytes(head, "big")
    body = source.read(size)
    return body if len(body) == size else None


def problem_of(error: UmuhuzaError | None) -> list[Any] | None:
    """An error as JSON."""
    return None if error is None else [type(error).__name__, error.code, error.path, error.expected]


def error_of(problem: list[Any]) -> UmuhuzaError:
    """The reverse of `problem_of`."""
    name, code, path, expected = problem
    return _CLASSES[name](code, path, expected=expected)
