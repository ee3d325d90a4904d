# SPDX-License-Identifier: Apache-2.0
"""The payload vectors: what integrators get wrong, each refused with the code and the path that it states."""

from __future__ import annotations

import traceback
from collections import Counter
from typing import Any

import pytest

from schemas.errors import CODES, UmuhuzaError
from schemas.event_types import EVENTS
from tests.schemas.payload_gate import VECTORS, committed, patched, received, refusal, schema_refuses, spoilt, vectors

EVERY = vectors()
IDS = [vector["id"] for vector in EVERY]
PLANTED = "Ndayizeye"
"""An invented family name that stands in many of the mistakes, and in no refusal."""


@pytest.mark.parametrize("vector", EVERY, ids=IDS)
def test_a_mistake_is_refused_with_its_code_and_its_path(vector: dict[str, Any]) -> None:
    assert refusal(vector) == (vector["result"], vector["path"]), vector["why"]


@pytest.mark.parametrize("vector", EVERY, ids=IDS)
def test_no_refusal_quotes_what_it_refuses(vector: dict[str, Any]) -> None:
    with pytest.raises(UmuhuzaError) as caught:
        received(spoilt(vector))
    error = caught.value
    told = "".join(traceback.format_exception(error)) + repr(error) + error.describe("fr") + error.describe("en")
    assert PLANTED not in told


@pytest.mark.parametrize("vector", EVERY, ids=IDS)
def test_the_published_schema_refuses_what_is_said_that_it_refuses_and_takes_the_rest(vector: dict[str, Any]) -> None:
    assert schema_refuses(vector) is vector["schema"]


def test_every_event_type_has_at_least_three_mistakes_with_a_reason() -> None:
    assert len(set(IDS)) == len(IDS)
    told = Counter(vector["event"] for vector in EVERY)
    assert {event: told[event] for event in EVENTS if told[event] < 3} == {}
    assert told.keys() == EVENTS.keys()
    for vector in EVERY:
        assert vector["id"].startswith(f"{vector['event']}-")
        assert vector["why"].endswith((".", "?"))
        assert vector["result"] in CODES


def test_mistakes_are_as_many_kinds_as_there_are_rules() -> None:
    """Not one mistake seventy times: unknown members, codes, dates, names, safeguards, consent, policy."""
    assert {"payload_invalid", "safeguard_missing", "consent_missing", "consent_expired"} <= {
        vector["result"] for vector in EVERY
    }
    assert {"agreement_missing", "not_permitted", "version_unsupported"} <= {vector["result"] for vector in EVERY}
    assert len({vector["why"] for vector in EVERY}) > 0.7 * len(EVERY)
    assert sum(not vector["schema"] for vector in EVERY) > 50, "what a schema cannot say is what integrators miss"


def test_each_file_holds_the_events_of_one_flow() -> None:
    names = {path.stem for path in VECTORS.glob("*.json")}
    assert names == {"any" if event.flow == "*" else event.flow for event in EVENTS.values()}


def test_a_patch_that_does_not_fit_its_example_is_seen() -> None:
    example = committed("referral.declined")
    for change in (
        {"op": "remove", "path": "/content/payload/nothing"},
        {"op": "replace", "path": "/content/payload/nothing", "value": 1},
        {"op": "add", "path": "/content/payload/entry/99", "value": {}},
    ):
        with pytest.raises((KeyError, IndexError)):
            patched(example, [change])
    assert patched(example, []) == example
