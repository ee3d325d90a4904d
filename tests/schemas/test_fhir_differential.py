# SPDX-License-Identifier: Apache-2.0
"""Whatever `fhir.resources` refuses, our gate refuses: valid messages of every event, changed in every way we know.

The library is asked only about what the gate lets through, so a sweep over every element is quick.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import shape
from schemas.elements import TABLES
from schemas.message_gate import CONTENT, IDENTITY, Message
from schemas.shape import Context, WrongError
from tests.schemas.samples import MANIFEST, SAMPLES, sealable
from umuhuza import fhir_oracle

Node = dict[str, Any] | list[Any]
Half = tuple[str, Message, Any]


def halves() -> Iterator[Half]:
    """(event and half, its gate, a valid Bundle)."""
    for event in TABLES:
        for number, facts in enumerate(SAMPLES[event]):
            parts = sealable(event, facts)
            yield f"{event} {number} content", CONTENT[event], json.loads(parts.content)["payload"]
            if parts.identity:
                yield f"{event} {number} identity", IDENTITY[event], json.loads(parts.identity)


HALVES = tuple(halves())
FIRST = tuple(each for each in HALVES if " 0 " in each[0])
"""One of each event: what the sweep goes through."""

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 121, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 - 1, 2**63, 1.5, 1e300,
    "", " ", "\t\n", "\u00a0", "\u2028\u3000", "\x1c", "\x85", " x", "x ", "a  b", "x" * 500, "x" * 8001, "\x00",
    "\ufeff", "فاطمة", "e\u0301", "true", "7", "Patient/1", "#x", "urn:uuid:x", "http://x y",
    "2026", "2026-13", "2026-02-29", "2028-02-29", "2026-02-31", "0000", "1899-12-31", "9999-12-31", "2026-1-1",
    "2026-11-03T10:00:00Z", "2026-11-03T10:00:60Z", "2026-11-03T24:00:00Z", "2026-11-03T10:00:00", "2026-11-03T10:00Z",
    "2026-02-31T10:00:00Z", "2026-11-03T10:00:00+14:00", "2026-11-03T10:00:00+14:30", "2026-11-03T10:00:00-00:00",
    "2026-11-03T10:00:00.123456789Z", "2026-11-03T10:00:00.1234567890Z",
    [], {}, [None], [[]], [{}], {"x": 1}, {"extension": []}, {"resourceType": "Patient"},
)  # fmt: skip
"""Values put in place of every element: other types, edges of numbers, blank text, dates that are none."""
NAMES = ("extension", "modifierExtension", "id", "_status", "fhir_comments", "contained", "resourceType", "display")
"""Members put beside those that are there."""


def by_gate(message: Message, bundle: Any) -> bool:
    try:
        message.check(bundle, Context(MANIFEST))
    except WrongError:
        return False
    return True


def nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from nodes(each)


def changes(node: Node) -> Iterator[None]:
    """Each way to spoil this node, in place; it is as before when the last one was had."""
    if isinstance(node, dict):
        members = dict(node)
        for spoilt in spoilt_objects(members):
            node.clear()
            node.update(spoilt)
            yield
        node.clear()
        node.update(members)
    else:
        elements = list(node)
        for other in spoilt_lists(elements):
            node[:] = other
            yield
        node[:] = elements


def spoilt_objects(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, value in whole.items():
        for hostile in (*HOSTILE, [value], value[0] if isinstance(value, list) and value else {}):
            yield {**whole, name: hostile}
        yield {other: each for other, each in whole.items() if other != name}
        for renamed in (f"_{name}", name.upper(), f"{name} "):
            yield {renamed if other == name else other: each for other, each in whole.items()}
    for extra in NAMES:
        for value in ("x", {"extension": [{"url": "urn:x", "valueString": "x"}]}, [None]):
            yield {extra: value, **whole}
    yield dict(reversed(whole.items()))


def spoilt_lists(whole: list[Any]) -> Iterator[list[Any]]:
    for index, value in enumerate(whole):
        for hostile in HOSTILE:
            yield [*whole[:index], hostile, *whole[index + 1 :]]
        yield [*whole[:index], *whole[index + 1 :]]
        yield [*whole, copy.deepcopy(value)]
    yield list(reversed(whole))
    yield whole * 70


def test_both_take_every_message_that_we_write() -> None:
    for name, gate, bundle in HALVES:
        assert (by_gate(gate, bundle), fhir_oracle.accepts(copy.deepcopy(bundle))) == (True, True), name


@pytest.mark.parametrize(("name", "gate", "bundle"), FIRST, ids=[each[0] for each in FIRST])
def test_no_single_change_passes_the_gate_that_the_library_would_refuse(name: str, gate: Message, bundle: Any) -> None:
    whole = copy.deepcopy(bundle)
    taken = tried = 0
    for node in list(nodes(bundle)):
        for _ in changes(node):
            tried += 1
            if by_gate(gate, bundle):
                taken += 1
                assert fhir_oracle.accepts(copy.deepcopy(bundle)), bundle
    assert bundle == whole
    assert tried > 500
    assert taken > 0, "a sweep that the gate refuses whole compares nothing"


VALUES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=30),
    st.text(alphabet=" \t\u00a0\u2003\u2028\u3000\x0b\x1f", min_size=1, max_size=4),
    st.integers(),
    st.from_regex(shape._MOMENT_RE, fullmatch=True),
    st.from_regex(shape._DAY_RE, fullmatch=True),
    st.floats(allow_nan=False),
    st.recursive(st.none() | st.booleans(), lambda inner: st.lists(inner, max_size=2), max_leaves=4),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_no_several_changes_pass_the_gate_that_the_library_would_refuse(data: st.DataObject) -> None:
    _, gate, valid = data.draw(st.sampled_from(HALVES))
    bundle = copy.deepcopy(valid)
    for _ in range(data.draw(st.integers(1, 4))):
        node = data.draw(st.sampled_from(list(nodes(bundle))))
        if not node:
            continue
        place: Any = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else list(range(len(node)))))
        match data.draw(st.sampled_from(("put", "put", "swap", "drop", "move", "copy", "add"))):
            case "put":
                node[place] = copy.deepcopy(data.draw(VALUES))
            case "swap":
                other = data.draw(st.sampled_from(list(nodes(valid))))
                node[place] = copy.deepcopy(other)
            case "drop":
                del node[place]
            case "move" if isinstance(node, dict):
                node[data.draw(st.sampled_from(NAMES))] = node.pop(place)
            case "copy" if isinstance(node, list):
                node.insert(data.draw(st.integers(0, len(node))), copy.deepcopy(node[place]))
            case _ if isinstance(node, dict):
                node[data.draw(st.sampled_from(NAMES))] = copy.deepcopy(data.draw(VALUES))
            case _:
                node.append(copy.deepcopy(data.draw(VALUES)))
    if by_gate(gate, bundle):
        assert fhir_oracle.accepts(copy.deepcopy(bundle)), bundle


def codes_of(found: Any) -> Iterator[str]:
    """Every code that a published schema allows anywhere."""
    if isinstance(found, dict):
        yield from (each for each in found.get("enum", ()) if isinstance(each, str))
        for each in found.values():
            yield from codes_of(each)
    elif isinstance(found, list):
        for each in found:
            yield from codes_of(each)


def test_every_code_of_every_table_is_one_that_fhir_can_write() -> None:
    codes = {code for message in (*CONTENT.values(), *IDENTITY.values()) for code in codes_of(message.definitions())}
    assert len(codes) > 100
    for code in codes:
        coding = {"coding": [{"system": "urn:x", "code": code}]}
        patient = {"resourceType": "Patient", "maritalStatus": coding}
        assert fhir_oracle.accepts({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient}]})
