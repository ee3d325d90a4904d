# SPDX-License-Identifier: Apache-2.0
"""The strict reader takes I-JSON and says nothing about what it refuses."""

from __future__ import annotations

import json
import time
import traceback

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.ijson import LONGEST_PADDING, IJsonError, loads, unpadded

LIMIT = 1 << 20


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a":1,"a":2}', "duplicate member"),
        (b'[{"x":{"a":1,"a":1}}]', "duplicate member inside"),
        (b'{"a":1,"\\u0061":2}', "duplicate member, once escaped"),
        (b"NaN", "not a number"),
        (b"[Infinity]", "infinity"),
        (b"[-Infinity]", "minus infinity"),
        (b"1.5", "a fraction where integers are expected"),
        (b"1e3", "an exponent where integers are expected"),
        (b"9007199254740992", "beyond 2^53-1"),
        (b"-9007199254740992", "beyond -(2^53-1)"),
        (b"1" * 5000, "thousands of digits"),
        (b'"\\ud800"', "lone high surrogate, escaped"),
        (b'{"\\uDC00":1}', "lone low surrogate in a name"),
        (b'"\\ude00\\ud83d"', "surrogates in the wrong order"),
        (b'"\xed\xa0\x80"', "lone surrogate, raw"),
        (b'"\xff"', "not UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        (b"{} {}", "two texts"),
        (b"{}x", "garbage after"),
        (b'{"a":1,}', "trailing comma"),
        (b'{"a":"\n"}', "raw control character"),
        (b"{'a':1}", "single quotes"),
        (b"", "nothing"),
        (b"   ", "only spaces"),
        (b'{"a":', "cut off"),
        (b"[" * 33 + b"]" * 33, "33 deep"),
        (b"[" * 100_000, "never closed"),
        (b'{"a":' * 400 + b"1" + b"}" * 400, "400 deep"),
    ],
)
def test_refuses(text: bytes, why: str) -> None:
    with pytest.raises(IJsonError):
        loads(text, max_bytes=LIMIT)


def test_refuses_more_bytes_than_allowed() -> None:
    assert loads(b"[1]", max_bytes=3) == [1]
    with pytest.raises(IJsonError):
        loads(b"[1] ", max_bytes=3)


def test_takes_padding_of_trailing_spaces() -> None:
    assert loads(b'{"a":[1,"b"]}' + b" " * 4096, max_bytes=LIMIT) == {"a": [1, "b"]}


@given(
    st.sampled_from([b"", b"{}", b'{"a": "}  "}', b"[1]", b" "]),
    st.integers(0, 40),
    st.sampled_from([b"", b"x", b"\n"]),
)
def test_padding_is_spaces_at_the_end_and_nothing_else(text: bytes, spaces: int, more: bytes) -> None:
    data = text + b" " * spaces + more
    assert unpadded(data) == data.rstrip(b" ")
    longest = text + b" " * (LONGEST_PADDING + spaces) + more
    assert unpadded(longest) == longest.rstrip(b" ")


def test_takes_the_deepest_allowed_and_brackets_inside_strings_do_not_count() -> None:
    assert loads(b"[" * 32 + b"]" * 32, max_bytes=LIMIT) is not None
    text = json.dumps(["[{" * 500, '\\"[' * 500]).encode()
    assert loads(text, max_bytes=LIMIT, max_depth=1) == json.loads(text)


def test_takes_a_proper_surrogate_pair() -> None:
    assert loads(b'"\\ud83d\\ude00"', max_bytes=LIMIT) == "\U0001f600"


def test_fractions_only_when_asked_for_and_finite() -> None:
    assert loads(b"[1.5]", max_bytes=LIMIT, floats=True) == [1.5]
    with pytest.raises(IJsonError):
        loads(b"1e999", max_bytes=LIMIT, floats=True)


@pytest.mark.parametrize(
    "text", [b'{"Keza Uwimana":1,"Keza Uwimana":2}', b'{"Keza Uwimana"', b'"Keza Uwimana\\ud800"', b"Keza Uwimana"]
)
def test_says_nothing_of_what_it_read(text: bytes) -> None:
    with pytest.raises(IJsonError) as caught:
        loads(text, max_bytes=LIMIT)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    shown = repr(caught.value) + str(caught.value) + "".join(traceback.format_exception_only(caught.value))
    assert "Keza" not in shown


def test_unterminated_strings_cost_linear_time() -> None:
    began = time.process_time()
    with pytest.raises(IJsonError):
        loads(b"[" * 40 + b'\\"' * 500_000, max_bytes=LIMIT * 2)
    assert time.process_time() - began < 2


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_values, st.booleans())
def test_reads_what_json_writes(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    data = text.encode()
    assert loads(data, max_bytes=LIMIT) == json.loads(data)


JSON_TEXTS = st.recursive(
    st.one_of(
        st.sampled_from(["null", "true", "false", "0", "-0", "1.5", "1e3", "9007199254740992", "1.0", '"1.5"', '"e"']),
        st.integers().map(str),
        st.text(alphabet='{}[]",:\\.e1\x7f\u2028\n', max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False)),
        st.text(max_size=8).map(json.dumps),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]"),
        st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"\\u0061"', '"}"']), inner), max_size=3).map(
            lambda members: "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@example(r'["\"",[[[1]]],"\""]', 2, False)
@example(r'["\\",[[[1]]],"\\"]', 2, False)
@example('["[[[",{"}":1.5}]', 2, False)
@given(JSON_TEXTS, st.integers(1, 4), st.booleans())
def test_a_text_says_the_same_however_compactly_it_is_written(text: str, depth: int, floats: bool) -> None:
    def outcome(data: bytes) -> object:
        try:
            return repr(loads(data, max_bytes=100_000, max_depth=depth, floats=floats))
        except IJsonError as exc:
            return exc.path

    data = text.encode()
    assert outcome(data) == outcome(b" " + data) == outcome(data + b"   ")
