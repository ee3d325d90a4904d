# SPDX-License-Identifier: Apache-2.0
"""The strict JSON reader for everything that comes from outside: I-JSON (RFC 7493), and less.

Refused, though Python's `json` takes it: duplicate member names, NaN and Infinity, lone surrogates (raw or escaped),
integers beyond +-(2^53-1), `-0` (readers disagree whether it is 0), a byte order mark, nesting deeper than `max_depth`
(looked at before any recursion), and, unless asked for, every number with a fraction or an exponent.

Most texts were written as compactly as can be. One that a fast reader reads and its writer writes back byte for byte is
such a text: nothing in it was lost on the way, as a second member of one name would be, and it is not read again. What
that does not show (depth, numbers) is looked at beside, and every other text goes the slow and exact way.

Must never: put a byte of the input into an error, or keep an exception that does (`json.JSONDecodeError.doc`) in the
chain: the error is raised outside of the handler, so `__context__` is empty too.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import orjson

_MAX_INTEGER = (1 << 53) - 1
# Linear on any input: possessive, and an unterminated string is consumed to the end instead of tried again per quote.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_BRACES = bytes.maketrans(b"[]", b"{}")
_FRACTION = re.compile(rb"[0-9][.eE]")
_UNREAD: Any = object()
LONGEST_PADDING = 1 << 18
"""Bytes; longer is looked at slowly."""
_SPACES = b" " * LONGEST_PADDING
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class IJsonError(Exception):
    """The bytes are not the JSON that we read. Carries where, never what.

    `path` is "" when the text as a whole is not readable, "*" when some member or element somewhere in it is at fault.
    """

    def __init__(self, path: str = "") -> None:
        self.path = path
        super().__init__(path)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise IJsonError("*")
    return members


def _integer(text: str) -> int:
    # The length first: int() of thousands of digits is slow, and of more than 4,300 refuses with the digits.
    if len(text) > 17 or text == "-0" or abs(value := int(text)) > _MAX_INTEGER:
        raise IJsonError("*")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise IJsonError("*")
    return value


def _refuse(_: str) -> NoReturn:
    raise IJsonError("*")


_INTEGERS = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_refuse, parse_constant=_refuse, strict=True
)
_NUMBERS = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_finite, parse_constant=_refuse, strict=True
)


def _too_deep(data: bytes, max_depth: int) -> bool:
    if data.count(b"{") + data.count(b"[") <= max_depth:
        return False
    return _nested_deeper(_STRING.sub(b"", data), max_depth)


def _nested_deeper(outside: bytes, max_depth: int) -> bool:
    nest = outside.translate(_BRACES, _NOT_BRACKETS)
    for _ in range(max_depth):  # each pass takes the innermost level away
        nest = nest.replace(b"{}", b"")
        if not nest:
            return False
    return True  # deeper, or never closed: neither is read


def unpadded(data: bytes) -> bytes:
    """Without the spaces at its end. rstrip() looks at each of thousands by itself; comparing memory does not."""
    end = data.rfind(b"}") + 1
    return data[:end] if data[end:] == _SPACES[: len(data) - end] else data.rstrip(b" ")


def _compact(data: bytes, max_depth: int) -> Any:
    """The value of a text that is as compact as a writer makes it, or `_UNREAD`, which says nothing about it."""
    text = unpadded(data)
    try:
        value = orjson.loads(text)
        if orjson.dumps(value, option=orjson.OPT_STRICT_INTEGER) != text:
            return _UNREAD
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return _UNREAD
    # It is JSON: backslashes stand in strings only, and without escaped quotes every second piece is outside of them.
    escapes = any(piece[:1] in (b"", b'"') for piece in text.split(b"\\")[1:])  # of a backslash or a quote
    plain = text.replace(rb"\\", b"").replace(rb"\"", b"") if escapes else text
    outside = b"".join(plain.split(b'"')[::2])
    if _FRACTION.search(outside) is not None or _nested_deeper(outside, max_depth):
        return _UNREAD
    return value


def loads(data: bytes, *, max_bytes: int, max_depth: int = 32, floats: bool = False) -> Any:
    """The value of one JSON text; white space around it is allowed (padding is trailing spaces).

    Args:
        max_bytes: refuse longer input before looking at it.
        max_depth: objects and arrays inside each other, the outermost counted.
        floats: allow numbers with a fraction or exponent (finite ones); else integers only.

    Raises:
        IJsonError: with `path` "" or "*"; holds no input and chains nothing.
    """
    problem: str | None = None
    value = _compact(data, max_depth) if len(data) <= max_bytes else _UNREAD
    if value is not _UNREAD:
        return value
    try:
        if len(data) > max_bytes or _too_deep(data, max_depth):
            problem = ""
        else:
            value = (_NUMBERS if floats else _INTEGERS).decode(data.decode("utf-8"))
            if _ESCAPED_SURROGATE.search(data) is not None:  # maybe half of a pair: let the encoder judge
                json.dumps(value, ensure_ascii=False).encode("utf-8")
    except IJsonError as exc:
        problem = exc.path
    except (ValueError, RecursionError):  # not UTF-8, a byte order mark, not JSON, a lone surrogate
        problem = ""
    if problem is not None:
        raise IJsonError(problem)
    return value
