# SPDX-License-Identifier: Apache-2.0
"""Directory, alert, investigation and knowledge: what their events can say, and what they cannot."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from schemas import htcds, lifecycle
from schemas.errors import OrderError, PayloadError, PolicyError
from schemas.event_types import EVENTS, PURPOSES
from schemas.forms import Consent, Facts, Form, Lawful, validated
from schemas.lifecycle import Party, next_events, step
from schemas.plain import PLAIN, directory, investigation
from schemas.plain.alert import AlertCleared, AlertMissing, SafetyWarning
from schemas.plain.directory import AvailabilityAnswered, AvailabilityAsked, ServicePublished, band_of
from schemas.plain.investigation import InvestigationOpened, ProceedingNotice
from schemas.plain.knowledge import CHUNK_BYTES, CHUNKS, PIECES, GuidancePublished, chunks_of, document_of
from tests.schemas.samples import opened, sealable
from umuhuza.examples import samples_directory as made

FLOWS = ("directory", "alert", "investigation", "knowledge")
OURS = sorted(name for name, event in EVENTS.items() if event.flow in FLOWS)


def refused(form: type[Form], good: Form, **changes: Any) -> str | None:
    """The path at which a change of one good form is refused; None: it is not."""
    data = {**good.model_dump(exclude_none=True), **changes}
    try:
        validated(form, data, "said")
    except PayloadError as exc:
        return exc.path
    return None


# -- nobody is named where nobody may be ------------------------------------------------------------------------------


def identity_fields(model: type[BaseModel]) -> set[str]:
    return {name for name, info in model.model_fields.items() if info.json_schema_extra}


@pytest.mark.parametrize("event", [name for name in OURS if EVENTS[name].flow in ("directory", "knowledge")])
def test_in_directory_and_knowledge_nothing_names_a_person(event: str) -> None:
    assert not EVENTS[event].identity
    assert event not in PURPOSES
    assert not identity_fields(PLAIN[event])
    for facts in made.SAMPLES[event]:
        assert sealable(event, facts).identity == b""


@pytest.mark.parametrize("event", [name for name in OURS if EVENTS[name].identity])
def test_who_is_named_stands_in_the_identity_part_only(event: str) -> None:
    for facts in made.SAMPLES[event]:
        parts = sealable(event, facts)
        assert facts.said is not None
        for name in ("Keza", "Marché", "Robe", "RMP", "Tribunal", "emploi", "Diane"):
            assert name.encode() not in parts.content
        assert b"Diane" in parts.identity
        assert opened(parts).facts == facts


def test_a_question_for_a_place_has_no_room_for_a_name() -> None:
    for name, info in AvailabilityAsked.model_fields.items():
        assert info.annotation is not str, name
    for text in ("name", "note", "reason", "telephone", "person", "birth"):
        assert refused(AvailabilityAsked, made.asked(), **{text: "Keza"}) == "said.*"


def test_a_warning_says_nothing_of_an_investigation_and_names_nobody() -> None:
    assert set(SafetyWarning.model_fields) == {"danger", "since", "about", "telephone"}
    warning = SafetyWarning(danger="threat", since=made.AT, telephone="117")
    assert refused(SafetyWarning, warning, telephone="Keza") == "said.telephone"
    assert refused(SafetyWarning, warning, note="Keza") == "said.*"


# -- directory --------------------------------------------------------------------------------------------------------


def test_services_are_typed_by_htcds_codes_and_roles_too() -> None:
    assert set(get_args(directory.ServiceType)) == set(htcds.CODELISTS["spl_Type"])
    assert set(get_args(investigation.RoleInProcess)) == set(htcds.CODELISTS["per_RoleInProcess"])


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"types": ("Shelter",)}, "said.types[0]"),
        ({"types": ()}, "said.types"),
        ({"telephone": "79 00 ext. 3"}, "said.telephone"),
        ({"address": "avenue inventée 3"}, "said.*"),
        ({"beds": 4}, "said.*"),
        ({"hours": ({"days": "daily", "opens": "8h", "closes": "17:00"},)}, "said.hours[0].opens"),
        ({"hours": ({"days": "daily", "opens": "08:00", "closes": "25:00"},)}, "said.hours[0].closes"),
        ({"capacity": {"band": "4", "until": made.AT}}, "said.capacity.band"),
        ({"capacity": {"band": "few"}}, "said.capacity.until"),
        ({"entry": "Maison Nuit"}, "said.entry"),
        ({}, None),
    ],
)
def test_a_published_service_says_no_address_and_no_number_of_beds(changes: dict[str, Any], path: str | None) -> None:
    assert refused(ServicePublished, made.service(), **changes) == path


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"answer": "yes", "hold_until": made.AT}, True),
        ({"answer": "yes"}, False),
        ({"answer": "yes", "hold_until": made.AT, "reason": "full"}, False),
        ({"answer": "no", "reason": "full"}, True),
        ({"answer": "no"}, False),
        ({"answer": "no", "reason": "full", "hold_until": made.AT}, False),
        ({"answer": "perhaps", "reason": "full"}, False),
    ],
)
def test_a_yes_is_kept_until_a_time_and_a_no_has_a_reason(changes: dict[str, Any], good: bool) -> None:
    if good:
        validated(AvailabilityAnswered, changes)
    else:
        with pytest.raises(PayloadError):
            validated(AvailabilityAnswered, changes)


def test_free_places_are_told_in_bands() -> None:
    assert [band_of(count) for count in (-1, 0, 1, 2, 3, 9, 10, 500)] == [
        "none",
        "none",
        "few",
        "few",
        "some",
        "some",
        "many",
        "many",
    ]


# -- alert ------------------------------------------------------------------------------------------------------------


def test_an_adult_who_left_freely_is_not_missing() -> None:
    assert refused(AlertMissing, made.missing(), age="adult", circumstance="left-freely") == "said"
    assert refused(AlertMissing, made.missing(), age="child", circumstance="left-freely") is None
    assert refused(AlertMissing, made.missing(), age="unknown", circumstance="left-freely") is None
    assert refused(AlertMissing, made.missing(), age="adult", circumstance="taken") is None


def test_a_search_needs_a_legal_duty_or_a_danger_to_life_and_says_who_decided() -> None:
    with pytest.raises(PolicyError, match="consent_missing"):
        sealable("alert.missing", made.said(made.missing()))
    with pytest.raises(PayloadError) as caught:
        sealable("alert.missing", made.said(made.missing(), Lawful(basis="vital-interests", author="Diane")))
    assert caught.value.path == "lawful.reason"


def test_what_an_end_of_the_alert_erases_is_named_by_its_event() -> None:
    assert refused(AlertCleared, AlertCleared(outcome="returned", erases=(made.EVENT,)), erases=()) == "said.erases"
    assert refused(AlertCleared, AlertCleared(outcome="returned", erases=(made.EVENT,)), erases=("Keza",)) is not None


# -- investigation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"means": ()}, "said"),
        ({"means": (), "child": "yes"}, None),
        ({"means": (), "child": "unknown"}, None),
        ({"means": (), "stage": "preliminary"}, None),
        ({"outcome": "conviction"}, "said"),
        ({"outcome": "conviction", "stage": "closed"}, None),
        ({"acts": ()}, "said.acts"),
        ({"purposes": ("curiosity",)}, "said.purposes[0]"),
        ({"suspects": ({"role": "Keza"},)}, "said.suspects[0].role"),
        ({"suspects": ({"role": "Exploiter", "name": "Keza"},)}, "said.suspects[0].*"),
    ],
)
def test_an_investigation_states_act_means_and_purpose(changes: dict[str, Any], path: str | None) -> None:
    assert refused(InvestigationOpened, made.opened_file(), **changes) == path


def test_an_order_does_not_end_before_it_begins() -> None:
    assert refused(ProceedingNotice, made.notice(), until=made.AT) == "said"


def test_an_investigation_is_shared_on_a_basis() -> None:
    for event in ("investigation.opened", "proceeding.notice"):
        facts = made.SAMPLES[event][0].model_copy(update={"lawful": None})
        with pytest.raises(PolicyError, match="consent_missing"):
            sealable(event, facts)
    consent = Lawful(
        basis="consent",
        consent=Consent(
            given_at=made.AT - timedelta(days=1), expires_at=made.AT + timedelta(days=1), scope=("investigation",)
        ),
    )
    facts = Facts(occurred_at=made.AT, said=made.notice(), lawful=consent)
    assert opened(sealable("proceeding.notice", facts)).facts == facts


# -- knowledge --------------------------------------------------------------------------------------------------------


def pieces_of(data: bytes) -> list[GuidancePublished]:
    pieces = chunks_of(data)
    return [
        made.guidance(data, chunks=chunks, piece=number, pieces=len(pieces)) for number, chunks in enumerate(pieces, 1)
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400_000), st.randoms(use_true_random=False))
def test_a_document_comes_back_byte_for_byte_whatever_the_order_of_its_pieces(size: int, chance: Any) -> None:
    data = hashlib.shake_256(str(size).encode()).digest(size)
    pieces = pieces_of(data)
    assert len(pieces) == -(-size // (CHUNK_BYTES * CHUNKS))
    chance.shuffle(pieces)
    assert document_of(pieces) == data
    assert document_of([*pieces, *pieces]) == data
    if len(pieces) > 1:
        assert document_of(pieces[1:]) is None
    assert document_of([]) is None


def test_the_largest_piece_fits_into_a_record() -> None:
    data = b"\xff" * (CHUNK_BYTES * CHUNKS * 2)
    for piece in pieces_of(data):
        parts = sealable("guidance.published", made.said(piece))
        assert len(parts.content) <= 256 * 1024
        assert opened(parts).facts.said == piece


def test_a_document_that_is_not_what_it_says_is_refused() -> None:
    assert refused(GuidancePublished, made.guidance(), sha256="ab" * 32) == "said"
    assert refused(GuidancePublished, made.guidance(), size=3) == "said"
    assert refused(GuidancePublished, made.guidance(), chunks=chunks_of(b"another")[0]) == "said"
    assert refused(GuidancePublished, made.guidance(), supersedes=2) == "said"
    assert refused(GuidancePublished, made.guidance(), piece=2, pieces=1) == "said"
    first, second = pieces_of(b"a" * (CHUNK_BYTES * CHUNKS + 1))
    spoilt = second.model_copy(update={"chunks": chunks_of(b"b")[0]})
    with pytest.raises(PayloadError) as caught:
        document_of([first, spoilt])
    assert caught.value.path == "said.sha256"


def test_a_document_too_large_is_refused_loudly() -> None:
    with pytest.raises(PayloadError) as caught:
        chunks_of(b"x" * (CHUNK_BYTES * CHUNKS * PIECES + 1))
    assert (caught.value.code, caught.value.expected) == ("too_large", CHUNK_BYTES * CHUNKS * PIECES)


# -- what is refused when it is read, with a path and no value ---------------------------------------------------------


@pytest.mark.parametrize("event", OURS)
def test_another_events_words_are_refused(event: str) -> None:
    other = "contact.published" if event != "contact.published" else "expertise.asked"
    facts = made.SAMPLES[event][0].model_copy(update={"said": made.SAMPLES[other][0].said})
    with pytest.raises(PayloadError) as caught:
        sealable(event, facts)
    assert caught.value.path == "said"


@pytest.mark.parametrize("event", OURS)
def test_a_member_that_nobody_knows_is_refused_and_not_quoted(event: str) -> None:
    parts = sealable(event, made.SAMPLES[event][0])
    content = json.loads(parts.content)
    content["payload"]["said"]["Keza Uwimana"] = "Keza Uwimana"
    with pytest.raises(PayloadError) as caught:
        opened(type(parts)(json.dumps(content).encode(), parts.identity))
    assert caught.value.path == "content.payload.said.*"
    assert "Keza" not in str(caught.value)


# -- the machines -----------------------------------------------------------------------------------------------------

Walk = list[tuple[str, Party]]


def end(machine: str, walk: Walk) -> str | None:
    state: str | None = None
    for event, by in walk:
        state = step(machine, state, event, by).state
    return state


@pytest.mark.parametrize(
    ("machine", "walk", "state"),
    [
        (
            "availability",
            [
                ("availability.asked", "initiator"),
                ("availability.answered/yes", "recipient"),
                ("availability.held", "initiator"),
            ],
            "held",
        ),
        ("availability", [("availability.asked", "initiator"), ("availability.released", "initiator")], "released"),
        ("alert", [("alert.missing", "initiator"), ("alert.cleared", "initiator")], "cleared"),
        ("warning", [("safety.warning", "initiator"), ("safety.warning", "initiator")], "given"),
        ("investigation", [("investigation.opened", "initiator"), ("investigation.updated", "recipient")], "opened"),
        ("notice", [("proceeding.notice", "initiator"), ("proceeding.notice", "initiator")], "given"),
        (
            "guidance",
            [
                ("guidance.published", "initiator"),
                ("guidance.published", "initiator"),
                ("guidance.acknowledged", "recipient"),
            ],
            "acknowledged",
        ),
        ("expertise", [("expertise.asked", "initiator"), ("expertise.answered", "recipient")], "answered"),
        ("contact", [("contact.published", "initiator"), ("contact.published", "initiator")], "published"),
        ("service", [("service.published", "initiator"), ("service.published", "initiator")], "published"),
    ],
)
def test_threads_go_their_way(machine: str, walk: Walk, state: str) -> None:
    assert end(machine, walk) == state


def test_a_place_that_one_takes_while_the_other_takes_it_back_is_released() -> None:
    asked: Walk = [("availability.asked", "initiator"), ("availability.answered/yes", "recipient")]
    takes: Walk = [("availability.held", "initiator")]
    takes_back: Walk = [("availability.released", "recipient")]
    assert end("availability", asked + takes + takes_back) == "released"
    assert end("availability", asked + takes_back + takes) == "released"


def test_nobody_takes_a_place_that_was_not_offered_and_nobody_answers_twice() -> None:
    with pytest.raises(OrderError):
        step("availability", "asked", "availability.held", "initiator")
    with pytest.raises(OrderError):
        step("availability", "answered", "availability.answered/yes", "recipient")
    with pytest.raises(OrderError):
        step("availability", "asked", "availability.held", "recipient")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(lifecycle.PARTIES), st.integers(0, 5)), max_size=8))
def test_whatever_two_agencies_do_a_released_place_stays_released(moves: list[tuple[Party, int]]) -> None:
    state: str | None = None
    was_released = False
    for by, choice in moves:
        offered = next_events("availability", state, by)
        if offered:
            state = step("availability", state, offered[choice % len(offered)], by).state
        was_released = was_released or state == "released"
        assert not was_released or state == "released"
        assert not was_released or offered == () or state == "released"


def test_the_ends_of_an_alert_and_of_a_file_are_the_senders() -> None:
    for machine, event in (
        ("alert", "alert.cleared"),
        ("alert", "record.retracted"),
        ("investigation", "record.retracted"),
    ):
        for state in lifecycle.MACHINES[machine].states:
            with pytest.raises(OrderError):
                step(machine, state, event, "recipient")
