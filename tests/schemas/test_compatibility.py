# SPDX-License-Identifier: Apache-2.0
"""A minor version only adds optional members: held against the released schemas, itself held against instances."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas.compatibility import breaks, released
from schemas.event_types import EVENTS
from schemas.forms import Facts
from schemas.publish import files
from schemas.shape import Code, Context, Flag, List, Object, Shape, String, Whole, WrongError
from tests.schemas.samples import SAMPLES, sealable

TODAY: dict[str, dict[str, Any]] = {name: json.loads(text) for name, text in files().items() if name.endswith(".json")}
RELEASED = released()
EACH = [
    (event, facts)
    for event, each in SAMPLES.items()
    for facts in each
    if f"{event}.schema.json" in RELEASED and EVENTS[event].schema == "1.0"  # of a later minor, see `test_upcast`
]


@pytest.mark.parametrize("name", RELEASED)
def test_todays_schema_is_a_minor_version_of_the_released_one(name: str) -> None:
    assert name in TODAY, "removed or renamed"
    assert breaks(RELEASED[name], TODAY[name]) == ()


@pytest.mark.parametrize(("event", "facts"), EACH)
def test_what_is_written_today_is_valid_under_the_released_schema_and_todays(event: str, facts: Facts) -> None:
    parts = sealable(event, facts)
    for schemas in (RELEASED, TODAY):
        for part, name in ((parts.content, event), (parts.identity, f"{event}.identity")):
            if part:
                assert Draft202012Validator(schemas[f"{name}.schema.json"]).is_valid(json.loads(part)), name


def changed(schema: dict[str, Any], path: str, /, **members: Any) -> dict[str, Any]:
    """A copy with members of the schema at this path set; None takes one away."""
    found = copy.deepcopy(schema)
    node = found
    for part in path.split("/"):
        node = node[part]
    for name, value in members.items():
        node[name] = value
        if value is None:
            del node[name]
    return found


RECEIPT = TODAY["receipt.rejected.schema.json"]
MEMBERS = RECEIPT["properties"]["payload"]["properties"]
BROKEN = {
    "a member removed": changed(RECEIPT, "properties/payload/properties", path=None),
    "a member renamed": changed(RECEIPT, "properties/payload/properties", path=None, where=MEMBERS["path"]),
    "a new member that is required": changed(
        RECEIPT, "properties/payload", required=[*RECEIPT["properties"]["payload"]["required"], "path"]
    ),
    "a member no longer required": changed(
        RECEIPT, "properties/payload", required=RECEIPT["properties"]["payload"]["required"][1:]
    ),
    "a shorter text": changed(RECEIPT, "properties/payload/properties/topic", maxLength=3),
    "a longer text": changed(RECEIPT, "properties/payload/properties/topic", maxLength=9000),
    "a smaller number": changed(RECEIPT, "properties/payload/properties/offset", maximum=7),
    "another type": changed(RECEIPT, "properties/payload/properties/offset", type="string"),
    "a pattern": changed(RECEIPT, "properties/payload/properties/topic", pattern="^x$"),
    "a word that is not known here": changed(RECEIPT, "properties/payload/properties/topic", not_="x"),
    "no longer closed": changed(RECEIPT, "properties/payload", additionalProperties=True),
    "another event": changed(RECEIPT, "properties/type", const="receipt.refused"),
    "another major": changed(RECEIPT, "properties/schema", const="2.0"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_version_that_removes_renames_or_tightens_is_no_minor(what: str) -> None:
    assert breaks(RECEIPT, BROKEN[what]) != ()


def test_a_later_minor_says_so() -> None:
    later = changed(RECEIPT, "properties/schema", const="1.1")
    assert breaks(RECEIPT, later) == ()
    assert breaks(later, RECEIPT) != ()


def test_what_older_readers_leave_out_may_be_more() -> None:
    more = changed(RECEIPT, "properties/payload/properties", unheard_of={"type": "boolean"})
    assert breaks(RECEIPT, more) == ()
    assert breaks(more, RECEIPT) != ()
    asked = TODAY["referral.requested.schema.json"]
    withheld = asked["properties"]["withheld"]
    names = {"enum": sorted([*withheld["items"]["enum"], "referral.unheard_of"])}
    longer = changed(asked, "properties/withheld", items=names, maxItems=withheld["maxItems"] + 1)
    assert breaks(asked, longer) == ()
    assert breaks(longer, asked) != ()
    fewer = changed(asked, "properties/withheld", items={"enum": names["enum"][3:]})
    assert breaks(asked, fewer) != ()


# ---- the judgement against instances ----

LEAVES: st.SearchStrategy[Shape] = st.one_of(
    st.just(Flag()),
    st.builds(Whole, st.just(0), st.integers(1, 9)),
    st.builds(lambda most: String(most), st.integers(1, 4)),
    st.builds(lambda codes: Code(frozenset(codes)), st.sets(st.sampled_from("abcd"), min_size=1)),
)
NAMES = st.sampled_from(["m", "n", "o", "p"])
OBJECTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda shape: List(shape, 0, 2), inner),
        st.builds(
            lambda required, optional: Object(required, {k: v for k, v in optional.items() if k not in required}),
            st.dictionaries(NAMES, inner, max_size=2),
            st.dictionaries(NAMES, inner, max_size=2),
        ),
    ),
    max_leaves=5,
)


def instances(shape: Shape) -> st.SearchStrategy[Any]:
    """Values that a shape takes."""
    if isinstance(shape, Flag):
        return st.booleans()
    if isinstance(shape, Whole):
        return st.integers(shape.min, shape.max)
    if isinstance(shape, String):
        return st.text("xyz", min_size=shape.min, max_size=shape.max)
    if isinstance(shape, Code):
        return st.sampled_from(sorted(shape.codes))
    if isinstance(shape, List):
        return st.lists(instances(shape.shape), min_size=shape.min, max_size=shape.max)
    assert isinstance(shape, Object)
    return st.fixed_dictionaries(
        {name: instances(one) for name, one in shape.required.items()},
        optional={name: instances(one) for name, one in shape.optional.items()},
    )


def takes(shape: Shape, value: Any, tolerant: bool) -> bool:
    try:
        shape.check(copy.deepcopy(value), Context({}, tolerant))
    except WrongError:
        return False
    return True


def with_more(shape: Shape, added: Shape) -> Shape:
    """Each object of it with one more optional member."""
    if isinstance(shape, List):
        return replace(shape, shape=with_more(shape.shape, added))
    if isinstance(shape, Object):
        return Object(
            {name: with_more(one, added) for name, one in shape.required.items()},
            {**{name: with_more(one, added) for name, one in shape.optional.items()}, "added": added},
        )
    return shape


@settings(max_examples=60, deadline=None)
@given(st.data(), OBJECTS, LEAVES)
def test_after_optional_members_everything_old_is_valid_and_everything_new_is_read(
    data: st.DataObject, old: Shape, added: Shape
) -> None:
    new = with_more(old, added)
    assert breaks(old.schema(), new.schema()) == ()
    assert takes(new, data.draw(instances(old)), tolerant=False)
    assert takes(old, data.draw(instances(new)), tolerant=True)


@settings(max_examples=200, deadline=None)
@given(st.data(), OBJECTS, OBJECTS)
def test_whatever_is_called_a_minor_reads_and_is_read(data: st.DataObject, old: Shape, new: Shape) -> None:
    """Of any two shapes: when nothing is reported, no instance tells them apart in a way that matters."""
    if breaks(old.schema(), new.schema()) == ():
        assert takes(new, data.draw(instances(old)), tolerant=False)
        assert takes(old, data.draw(instances(new)), tolerant=True)


def test_every_event_is_at_the_version_that_its_schema_says() -> None:
    for name, event in EVENTS.items():
        assert TODAY[f"{name}.schema.json"]["properties"]["schema"]["const"] == event.schema
