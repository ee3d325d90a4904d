# SPDX-License-Identifier: Apache-2.0
"""What an older minor version wrote is brought up to today's before the gate reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from schemas import events, upcast
from schemas.content import SHAPES
from schemas.errors import PayloadError
from schemas.event_types import EVENTS
from schemas.plain.rights import AccessRequested
from schemas.shape import Const
from tests.schemas.samples import MANIFEST, SAMPLES, sealable

EVENT = "receipt.delivered"


def written(version: str, **payload: Any) -> bytes:
    """A receipt as this version of it wrote it."""
    content = json.loads(sealable(EVENT, SAMPLES[EVENT][0]).content)
    content["schema"] = version
    del content["payload"]["opened"]
    content["payload"].update(payload)
    return json.dumps(content).encode()


@pytest.fixture
def third_minor(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An invented today: the receipt is at 1.2, and since 1.1 it says whether it was opened; before, silence meant no.

    Returns the minors from which something was brought up.
    """
    done: list[int] = []

    def first(content: dict[str, Any], identity: dict[str, Any] | None) -> None:
        done.append(0)
        content["payload"].setdefault("opened", False)

    def second(content: dict[str, Any], identity: dict[str, Any] | None) -> None:
        done.append(1)

    monkeypatch.setattr(upcast, "UPCASTS", {(EVENT, 0): first, (EVENT, 1): second, ("receipt.rejected", 0): second})
    today = replace(EVENTS[EVENT], schema="1.2")
    shape = SHAPES[EVENT]
    shape = replace(shape, required={**shape.required, "schema": Const("1.2")})
    monkeypatch.setattr(events, "EVENTS", MappingProxyType({**EVENTS, EVENT: today}))
    monkeypatch.setattr(events, "SHAPES", MappingProxyType({**SHAPES, EVENT: shape}))
    return done


def opened(content: bytes) -> events.Opened:
    return events.decompose(content, b"", **MANIFEST)


def test_nothing_needs_it_today() -> None:
    assert dict(upcast.UPCASTS) == {}
    assert {event.schema for event in EVENTS.values()} == {"1.0", "1.1"}


def test_what_the_first_minor_wrote_of_a_person_is_read_and_says_no_authorisation() -> None:
    later = {name for name, event in EVENTS.items() if event.schema == "1.1" and event.purpose is not None}
    assert later
    for event in later:
        facts = next(one for one in SAMPLES[event] if one.lawful is not None and not one.lawful.authorisations)
        parts = sealable(event, facts)
        content = json.loads(parts.content)
        found = events.decompose(json.dumps(content | {"schema": "1.0"}).encode(), parts.identity, **MANIFEST)
        assert (found.schema, found.facts) == ("1.0", facts)
        assert found.claims is not None
        assert found.claims.authorisations == ()


def test_a_request_for_access_of_the_first_minor_is_read_and_names_nobody_who_checked() -> None:
    facts = SAMPLES["access.requested"][0]
    parts = sealable("access.requested", facts)
    content = json.loads(parts.content)
    found = events.decompose(json.dumps(content | {"schema": "1.0"}).encode(), parts.identity, **MANIFEST)
    assert (found.schema, found.facts) == ("1.0", facts)
    assert isinstance(found.facts.said, AccessRequested)
    assert found.facts.said.checked_by is None


def test_an_older_record_goes_through_every_step_up_to_today(third_minor: list[int]) -> None:
    found = opened(written("1.0"))
    assert third_minor == [0, 1]
    assert found.facts.receipt is not None
    assert found.facts.receipt.opened is False
    assert found.schema == "1.0"  # as its writer said


@pytest.mark.parametrize(("version", "steps"), [("1.1", [1]), ("1.2", []), ("1.3", [])])
def test_a_later_one_only_through_those_that_it_lacks(third_minor: list[int], version: str, steps: list[int]) -> None:
    found = opened(written(version, opened=True))
    assert third_minor == steps
    assert found.facts.receipt is not None
    assert found.facts.receipt.opened is True


@pytest.mark.parametrize("payload", [[], None, "x", 7])
def test_bytes_that_no_step_expects_are_refused_and_stop_nobody(third_minor: list[int], payload: Any) -> None:
    content = json.loads(written("1.0"))
    content["payload"] = payload
    with pytest.raises(PayloadError) as caught:
        opened(json.dumps(content).encode())
    assert caught.value.code == "payload_invalid"


def test_what_a_step_makes_is_held_to_the_gate(third_minor: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(content: dict[str, Any], identity: dict[str, Any] | None) -> None:
        content["payload"]["person"] = "x"

    monkeypatch.setattr(upcast, "UPCASTS", {(EVENT, 0): wrong})
    with pytest.raises(PayloadError) as caught:
        opened(written("1.0"))
    assert (caught.value.code, caught.value.path) == ("payload_invalid", "content.payload.*")


def test_names_withheld_that_only_a_newer_minor_knows_are_left_out() -> None:
    content = json.loads(sealable("referral.declined", SAMPLES["referral.declined"][0]).content)
    content |= {"schema": "1.7", "withheld": ["referral.not_yet_invented", "referral.reason"]}
    assert opened(json.dumps(content).encode()).withheld == ("referral.reason",)
    content["schema"] = "1.0"
    with pytest.raises(PayloadError):
        opened(json.dumps(content).encode())
