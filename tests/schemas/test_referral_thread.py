# SPDX-License-Identifier: Apache-2.0
"""What is said on a referral after its request: coded, without identity, and no more than was asked for."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import get_args

import pytest

from schemas import lifecycle
from schemas.element_shapes import ASKABLE
from schemas.elements import TABLES
from schemas.errors import PayloadError, PolicyError, UmuhuzaError
from schemas.event_types import EVENTS
from schemas.forms import Answer, Facts, Feedback, Information, Movement, Question, Risk
from tests.schemas.samples import CONSENT, NOW, SAMPLES, opened, sealable
from topics.catalogue import allowed_fields

GONE = Movement(departed_at=NOW, expected_at=NOW + timedelta(hours=3))


@pytest.mark.parametrize(
    ("event", "facts", "path"),
    [
        ("referral.ended", Facts(occurred_at=NOW), "answer"),
        ("referral.ended", Facts(occurred_at=NOW, answer=Answer(reason="other")), "answer.reason"),
        ("referral.ended", Facts(occurred_at=NOW, answer=Answer(outcome="goals-met")), "answer.outcome"),
        (
            "referral.completed",
            Facts(occurred_at=NOW, answer=Answer(outcome="goals-met", end_reason="left")),
            "answer.end_reason",
        ),
        ("referral.revoked", Facts(occurred_at=NOW, answer=Answer(reason="other")), "answer"),
        ("movement.departed", Facts(occurred_at=NOW), "movement"),
        ("movement.departed", Facts(occurred_at=NOW, movement=Movement(departed_at=NOW)), "movement.expected_at"),
        ("movement.departed", Facts(occurred_at=NOW, movement=Movement(arrived_at=NOW)), "movement.departed_at"),
        ("movement.arrived", Facts(occurred_at=NOW, movement=GONE), "movement.departed_at"),
        ("feedback.given", Facts(occurred_at=NOW), "feedback"),
        ("information.requested", Facts(occurred_at=NOW), "question"),
        ("information.answered", Facts(occurred_at=NOW, lawful=CONSENT), "information"),
        ("information.answered", Facts(occurred_at=NOW, lawful=CONSENT, information=Information()), "information"),
    ],
)
def test_an_event_of_the_thread_has_its_own_members_and_no_others(event: str, facts: Facts, path: str) -> None:
    with pytest.raises(PayloadError) as caught:
        sealable(event, facts)
    assert (caught.value.code, caught.value.path) == ("payload_invalid", path)


def test_why_a_service_ended_is_one_of_the_lifecycles_reasons() -> None:
    form = get_args(Answer.model_fields["end_reason"].annotation)[0]
    assert set(get_args(form)) == set(lifecycle.MACHINES["referral"].end_reasons)


def test_what_a_recipient_says_has_no_identity_but_a_question_in_her_own_words() -> None:
    by_recipient = {event for _, event, by in lifecycle.MACHINES["referral"].steps if by == "recipient"} & TABLES.keys()
    assert {event for event in by_recipient if EVENTS[event].identity} == {"information.requested"}


def test_the_note_of_a_question_stands_in_the_identity_part_only() -> None:
    parts = sealable("information.requested", SAMPLES["information.requested"][0])
    assert "peur" not in parts.content.decode()
    assert "peur" in parts.identity.decode()


@pytest.mark.parametrize("name", ["htcds.per_RoleDetails", "htcds.hte_Country", "information.not_known", "htcds.Keza"])
def test_only_what_a_request_could_have_said_may_be_asked_for(name: str) -> None:
    assert name not in ASKABLE
    with pytest.raises(UmuhuzaError) as caught:
        sealable("information.requested", Facts(occurred_at=NOW, question=Question(fields=(name,))))
    assert "Keza" not in (caught.value.path or "")


def test_an_answer_needs_the_same_basis_as_the_request() -> None:
    with pytest.raises(PolicyError) as caught:
        sealable("information.answered", Facts(occurred_at=NOW, information=Information(languages=("rn",))))
    assert caught.value.code == "consent_missing"


def test_an_answer_to_a_lawyer_has_no_medical_part_although_she_asked() -> None:
    facts = Facts(
        occurred_at=NOW,
        lawful=CONSENT,
        information=Information(pregnant_or_nursing="yes", access_needs="Fauteuil roulant", languages=("rn",)),
    )
    parts = sealable("information.answered", facts, allowed=allowed_fields("information.answered", ("Legal",)))
    read = opened(parts)
    assert read.facts.information == Information(languages=("rn",))
    assert read.withheld == ("information.access_needs", "information.pregnant_or_nursing")
    to_a_clinic = sealable("information.answered", facts, allowed=allowed_fields("information.answered", ("Health",)))
    assert opened(to_a_clinic).facts.information == facts.information


def test_what_is_named_as_not_shared_does_not_travel_even_when_it_was_filled_in() -> None:
    said = Information(risk=Risk(level="high", from_whom="Keza"), not_shared=("information.risk",), languages=("rn",))
    read = opened(sealable("information.answered", Facts(occurred_at=NOW, lawful=CONSENT, information=said)))
    assert read.facts.information == Information(not_shared=("information.risk",), languages=("rn",))
    assert "information.risk.level" in read.withheld


def test_her_way_there_says_when_and_never_where() -> None:
    facts = Facts(occurred_at=NOW, movement=GONE)
    content = json.loads(sealable("movement.departed", facts).content)
    task = content["payload"]["entry"][1]["resource"]
    assert task.keys() == {
        *("resourceType", "identifier", "status", "intent", "code", "for", "requester", "owner"),
        *("executionPeriod", "restriction"),
    }
    with pytest.raises(ValueError, match="expected before"):
        Movement(departed_at=NOW, expected_at=NOW - timedelta(hours=1))


def test_feedback_is_in_codes() -> None:
    with pytest.raises(ValueError, match="feedback|outcome|Input"):
        Feedback.model_validate({"outcome": "Keza va bien"})


def test_who_asked_and_who_provides_are_the_same_in_every_message_of_the_thread() -> None:
    for event in ("referral.ended", "movement.arrived"):
        task = json.loads(sealable(event, SAMPLES[event][0]).content)["payload"]["entry"][1]["resource"]
        assert (task["requester"]["identifier"]["value"], task["owner"]["identifier"]["value"]) == ("bi/k7t4", "bi/iom")
    for event in ("referral.revoked", "referral.expired", "referral.reopened", "movement.departed"):
        task = json.loads(sealable(event, SAMPLES[event][0]).content)["payload"]["entry"][1]["resource"]
        assert (task["requester"]["identifier"]["value"], task["owner"]["identifier"]["value"]) == ("bi/iom", "bi/k7t4")
