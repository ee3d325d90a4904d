# SPDX-License-Identifier: Apache-2.0
"""Focal points can be called while they are valid, and a question of practice comes back with its answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.expertise import Contact, Contacts, Expertise, Question
from adapters.knowledge import Knowledge
from schemas.errors import OrderError, PolicyError
from schemas.plain.knowledge import ContactPublished, ExpertiseAnswered, ExpertiseAsked
from tests.agencies import Agencies, at
from tests.domain import MEMBERS
from umuhuza.examples import samples_directory as made

COMMISSION, IOM, SHELTER, POLICE = "bi/ccsprtp", "bi/iom", "bi/k7t4", "bi/police"
DAY = 86_400
QUESTION = ExpertiseAsked(topic="children", question="Comment entendre un enfant la nuit ?")
ANSWER = ExpertiseAnswered(answer="Avec un représentant, jamais seul.", documents=("pon-enfants",))


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agencies]:
    monkeypatch.setitem(MEMBERS, COMMISSION, ("Commission (inventée)", ("coordination", "focal-point"), False))
    with Agencies(tmp_path) as agencies:
        yield agencies


def office(**changes: object) -> ContactPublished:
    return ContactPublished.model_validate(
        {
            "entry": "permanence",
            "function": "duty-officer",
            "name_fr": "Permanence (inventée)",
            "name_en": "Duty office (invented)",
            "telephone": "+257 79 00 00 00",
            "valid_until": at(30 * DAY),
            **changes,
        }
    )


def contacts(town: Agencies, agency: str) -> Contacts:
    return Contacts(town[agency].runner.desk)


def listed(town: Agencies, agency: str) -> list[Contact]:
    return contacts(town, agency).listings(town[agency].runner.inbox.opened)


def questions(town: Agencies, agency: str) -> list[Question]:
    return Expertise(town[agency].runner.desk).questions(town[agency].runner.inbox.opened)


def test_a_focal_point_is_listed_until_it_is_replaced_withdrawn_or_over(town: Agencies) -> None:
    told = contacts(town, COMMISSION).publish(office())
    assert {IOM, SHELTER, POLICE} <= set(told)
    town.settle()
    assert [one.said.telephone for one in listed(town, SHELTER)] == ["+257 79 00 00 00"]
    contacts(town, COMMISSION).publish(office(telephone="+257 22 11 11 11"))
    contacts(town, COMMISSION).publish(office(entry="sante", function="health", valid_until=at(5 * DAY)))
    town.settle()
    assert {one.said.entry: one.said.telephone for one in listed(town, POLICE)} == {
        "permanence": "+257 22 11 11 11",
        "sante": "+257 79 00 00 00",
    }
    assert {one.peer for one in town[COMMISSION].box.threads()} == set(told)
    assert len(town[COMMISSION].box.threads()) == 2 * len(told)  # one for each office, whatever is said of it later
    town.wait(6 * DAY)
    assert [one.said.entry for one in listed(town, IOM)] == ["permanence"]
    contacts(town, COMMISSION).publish(office(withdrawn=True))
    town.settle()
    assert listed(town, IOM) == []
    assert [(one.entry, one.agencies) for one in contacts(town, COMMISSION).told()] == [
        ("permanence", len(told)),
        ("sante", len(told)),
    ]


def test_what_is_not_ours_to_publish_is_refused_and_not_told_to_nobody(town: Agencies) -> None:
    with pytest.raises(PolicyError) as caught:
        contacts(town, POLICE).publish(office())
    assert (caught.value.code, caught.value.path) == ("not_permitted", "event.contact.published.from")
    with pytest.raises(PolicyError) as caught:
        Knowledge(town[POLICE].runner.desk).publish([made.guidance()])
    assert (caught.value.code, caught.value.path) == ("not_permitted", "event.guidance.published.from")
    assert town[POLICE].box.outbox() == []


def test_a_question_comes_back_with_its_answer_and_is_answered_once(town: Agencies) -> None:
    thread = Expertise(town[SHELTER].runner.desk).ask(COMMISSION, QUESTION)
    town.settle()
    [theirs] = questions(town, COMMISSION)
    assert (theirs.peer, theirs.ours, theirs.asked, theirs.state) == (SHELTER, False, QUESTION, "asked")
    commission = Expertise(town[COMMISSION].runner.desk)
    commission.answer(theirs.thread, ANSWER)
    with pytest.raises(OrderError):
        commission.answer(theirs.thread, ANSWER)
    town.settle()
    [ours] = questions(town, SHELTER)
    assert (ours.thread, ours.topic, ours.state, ours.answered) == (thread, "children", "answered", ANSWER)
    with pytest.raises(OrderError):
        commission.answer("no-such-thread", ANSWER)


def test_whoever_has_no_expertise_to_give_is_not_asked(town: Agencies) -> None:
    with pytest.raises(PolicyError) as caught:
        Expertise(town[IOM].runner.desk).ask(POLICE, QUESTION)
    assert caught.value.path == "event.expertise.asked.to"
    assert questions(town, IOM) == []
