# SPDX-License-Identifier: Apache-2.0
"""Whatever a form says can be wrong, is corrected on its thread with reason and source, and brings no reader more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from adapters import projections
from adapters.connectors.facts_in_words import sections_of
from schemas import htcds
from schemas.forms import (
    Birth,
    Caregiver,
    Facts,
    Information,
    Name,
    Question,
    Referral,
    Risk,
    SafeContact,
)
from schemas.plain.record import CodedAnswer, RecordCorrected, Right
from tests.agencies import PLANTED, Agencies, Agency, at, consented, identified, referral

IOM, SHELTER, MINISTRY, POLICE = "bi/iom", "bi/k7t4", "bi/min-solidarity", "bi/police"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def sent(town: Agencies, type: str, facts: Facts, *, to: str = SHELTER, sender: str = IOM) -> str:
    evt = town[sender].evt(town[sender].draft(to, type, facts, person="case-1"))
    town.settle()
    return evt


def correction(evt: str, *fields: str, **changes: Any) -> Facts:
    said = RecordCorrected.model_validate(
        {"evt": evt, "fields": fields, "reason": "misheard", "source": "person", **changes}
    )
    return Facts(occurred_at=at(), lawful=consented(), said=said)


def correct(town: Agencies, evt: str, *fields: str, to: str = SHELTER, sender: str = IOM, **changes: Any) -> None:
    facts = correction(evt, *fields, **changes)
    thread = town[sender].outgoing(evt).thread
    town[sender].evt(town[sender].draft(to, "record.corrected", facts, thread=thread))
    town.settle()


def refused(town: Agencies, evt: str, *fields: str, to: str = SHELTER, **changes: Any) -> tuple[str, str | None]:
    outcome = town[IOM].draft(
        to, "record.corrected", correction(evt, *fields, **changes), thread=town[IOM].outgoing(evt).thread
    )
    assert outcome.problem is not None, "it was accepted"
    return outcome.problem.code, outcome.problem.path


def read(agency: Agency, ident: str) -> Facts:
    opened = [(item, agency.runner.inbox.opened(item)) for item in agency.inbox("delivered")]
    facts = agency.runner.inbox.corrections.open_corrected(ident, opened)
    assert facts is not None
    return facts


RIGHT: dict[str, Any] = {
    "priority": "emergency",
    "services": ("Health", "SocialCare"),
    "local_service": "hébergement, deux nuits",
    "languages": ("rn", "sw"),
    "interpreter": {"needed": True, "language": "sw"},
    "dependants": (3, 5),
    "safe_contact": SafeContact(channel="sms", address="+25779000001", never_contact=("son oncle",)),
    "caregiver": Caregiver(status="guardian", name="Tante Inventée", best_interest_note="Chez sa tante."),
    "risk": Risk(level="extreme", from_whom="son oncle"),
    "already_given": ("Health",),
    "transport": "escorted",
    "reason": "Elle veut partir loin.",
    "feedback_by": at(86_400),
    "referring_unit": "Antenne inventée",
    "on_call_telephone": "+25779000002",
    "access_needs": "Fauteuil roulant",
    "pregnant_or_nursing": "yes",
}
"""All that a correction can bring beside name, birth and the standard's codes."""


def test_every_field_of_a_referral_can_be_corrected_at_its_reader(town: Agencies) -> None:
    assert set(RIGHT) == set(Right.model_fields) - {"htcds"}
    never = {"name", "birth", "told_and_refused"}  # the first two stand beside, see below
    assert set(RIGHT) == set(Referral.model_fields) - never
    evt = sent(town, "referral.requested", referral())
    coded = (
        CodedAnswer(field="prs_Citizenship", values=("RW",)),
        CodedAnswer(field="prs_Gender", values=("Feminine",)),
    )
    right = Right(**RIGHT, htcds=coded)
    birth = Birth(precision="year", date="2001")
    correct(town, evt, "referral.risk.level", right=right, name=Name(as_given=f"Alice {PLANTED}"), birth=birth)
    facts = read(town[SHELTER], f"{IOM}/{evt}")
    assert facts.referral is not None
    for name in RIGHT:
        assert getattr(facts.referral, name) == getattr(right, name), name
    assert facts.referral.name.as_given == f"Alice {PLANTED}"
    assert facts.referral.birth == birth
    assert facts.htcds == {"prs_Citizenship": ("RW",), "prs_Gender": "Feminine"}
    # What was sent stays what was sent.
    [as_sent] = town[SHELTER].opened("referral.requested")
    assert as_sent.facts.referral is not None
    assert as_sent.facts.referral.risk.level == "unknown"


def test_a_field_that_is_wrong_and_not_known_better_says_nothing_any_more(town: Agencies) -> None:
    evt = sent(town, "referral.requested", referral(htcds={"prs_Citizenship": ("BI",)}))
    correct(town, evt, "referral.risk.level", right=Right(risk=Risk(level="high"), languages=("rn",)))
    correct(town, evt, "referral.risk.level", "referral.languages", "htcds.prs_Citizenship", "referral.birth.date")
    facts = read(town[SHELTER], f"{IOM}/{evt}")
    assert facts.referral is not None
    assert (facts.referral.risk, facts.referral.languages, facts.htcds) == (Risk(level="unknown"), (), {})
    assert facts.referral.birth.precision == "year"  # a form is not left without what it cannot be without


def test_the_caseworker_reads_what_is_right_and_on_whose_word(town: Agencies) -> None:
    evt = sent(town, "referral.requested", referral())
    coded = (CodedAnswer(field="prs_Citizenship", values=("RW",)),)
    correct(town, evt, "referral.risk.level", right=Right(risk=Risk(level="extreme"), htcds=coded))
    [opened] = town[SHELTER].opened("record.corrected")
    lines = [line for section in sections_of(opened.facts, UTC, "fr") for line in section.lines]
    told = {line.label: line.value for line in lines}
    assert (told["Champs corrigés"], told["Pourquoi"], told["D'après"]) == (
        "Risque",
        "Mal entendu",
        "La personne elle-même",
    )
    assert "extreme" in {line.code for line in lines}
    assert "RW" in {line.code for line in lines}


def deadlines(town: Agencies, evt: str) -> list[int | None]:
    thread = town[IOM].outgoing(evt).thread
    found = [town[one].box.thread(thread) for one in (IOM, SHELTER)]
    return [one.answer_by - int(town.now) if one and one.answer_by else None for one in found]


def test_a_priority_that_was_wrong_gives_the_time_for_the_answer_anew_on_both_sides(town: Agencies) -> None:
    evt = sent(town, "referral.requested", referral(priority="normal"))
    town.wait(3600)
    correct(town, evt, "referral.priority", right=Right(priority="immediate"))
    assert deadlines(town, evt) == [2 * 3600, 2 * 3600]
    town.wait(1800)
    correct(town, evt, "referral.priority", right=Right(priority="urgent"))
    assert deadlines(town, evt) == [72 * 3600, 72 * 3600]
    thread = town[IOM].outgoing(evt).thread
    town[SHELTER].evt(town[SHELTER].draft(IOM, "referral.accepted", Facts(occurred_at=at()), thread=thread))
    town.settle()
    before = deadlines(town, evt)
    correct(town, evt, "referral.priority", right=Right(priority="immediate"))
    assert deadlines(town, evt) == before  # it has been answered


def test_services_that_were_wrong_say_what_may_be_told_from_then_on(town: Agencies) -> None:
    evt = sent(town, "referral.requested", referral(services=("Legal",)))
    needs = Right(access_needs="Fauteuil roulant")
    assert refused(town, evt, "referral.access_needs", right=needs)[0] == "not_permitted"
    correct(town, evt, "referral.services", right=Right(services=("Health",)))
    correct(town, evt, "referral.access_needs", right=needs)
    facts = read(town[SHELTER], f"{IOM}/{evt}")
    assert facts.referral is not None
    assert (facts.referral.services, facts.referral.access_needs) == (("Health",), "Fauteuil roulant")
    assert town[SHELTER].inbox("quarantined") == []


def test_a_correction_brings_no_reader_what_the_request_could_not(town: Agencies) -> None:
    evt = sent(town, "referral.requested", referral(services=("Legal",)))
    assert refused(town, evt, "referral.access_needs", right=Right(access_needs="Fauteuil roulant")) == (
        "not_permitted",
        "said.right.access_needs",
    )
    coded = (
        CodedAnswer(
            field="vic_TypeOfSexExploitation", values=(htcds.options("vic_TypeOfSexExploitation", "en")[0][0],)
        ),
    )
    code, path = refused(town, evt, "htcds.vic_TypeOfSexExploitation", right={"htcds": coded})
    assert (code, path) == ("not_permitted", "said.right.htcds[0].field")


def test_another_program_that_brings_more_is_turned_away_by_the_reader(town: Agencies) -> None:
    evt = sent(town, "referral.requested", referral(services=("Legal",)))
    facts = correction(evt, "referral.access_needs", right=Right(access_needs="Fauteuil roulant"))
    thread = town[IOM].outgoing(evt).thread
    for number, wrong in enumerate((facts, correction("0199f0e0-0000-7000-8000-00000000000d", "birth.date"))):
        record = town.seal(
            IOM,
            SHELTER,
            "record.corrected",
            wrong,
            flow="referral",
            thread=thread,
            seq=7 + 2 * number,
            prev="A" * 43,
            chain=False,
        )
        town.put(record)
    town.settle()
    assert [(item.code, item.path) for item in town[SHELTER].inbox("quarantined")] == [
        ("not_permitted", "said.right.access_needs"),
        ("thread_unknown", "said.evt"),
    ]


def test_a_correction_is_of_a_record_of_its_thread_and_says_why_and_on_whose_word(town: Agencies) -> None:
    evt, other = sent(town, "referral.requested", referral()), sent(town, "referral.requested", referral(), to=MINISTRY)
    thread = town[IOM].outgoing(evt).thread
    outcome = town[IOM].draft(SHELTER, "record.corrected", correction(other, "birth.date"), thread=thread)
    assert outcome.problem is not None
    assert (outcome.problem.code, outcome.problem.path) == ("thread_unknown", "said.evt")
    assert refused(town, evt, "birth.date", reason=None) == ("payload_invalid", "said.reason")
    assert refused(town, evt, "birth.date", source=None) == ("payload_invalid", "said.source")
    correct(town, evt, "referral.risk.level", right=Right(risk=Risk(level="low")))
    of_itself = town[IOM].sent("record.corrected")[0].evt
    assert refused(town, of_itself, "referral.risk.level") == ("transition_invalid", "said.evt")


def test_of_a_case_what_was_decided_is_corrected_and_who_she_is_stays_with_who_knows(town: Agencies) -> None:
    facts = identified().model_copy(update={"htcds": {"vic_TraffickingStatus": "PossibleVictimOfTrafficking"}})
    evt = sent(town, "case.screened", facts, to=MINISTRY)
    for better in ("ActualVictimOfTrafficking",):
        coded = (CodedAnswer(field="vic_TraffickingStatus", values=(better,)),)
        correct(town, evt, "htcds.vic_TraffickingStatus", to=MINISTRY, right={"htcds": coded})
    assert read(town[MINISTRY], f"{IOM}/{evt}").htcds == {"vic_TraffickingStatus": "ActualVictimOfTrafficking"}
    assert refused(town, evt, "birth.date", to=MINISTRY, birth=Birth(precision="year", date="2001")) == (
        "not_permitted",
        "said.birth",
    )
    named = Caregiver(status="guardian", name="Tante Inventée")
    assert refused(town, evt, "caregiver.name", to=MINISTRY, right=Right(caregiver=named)) == (
        "not_permitted",
        "said.right.caregiver.name",
    )
    correct(town, evt, "caregiver.status", to=MINISTRY, right=Right(caregiver=Caregiver(status="representative")))
    assert read(town[MINISTRY], f"{IOM}/{evt}").caregiver == Caregiver(status="representative")
    [entry] = projections.cases(projections.read(town[MINISTRY].box, town[MINISTRY].runner.inbox.opened), at(60))
    assert entry.htcds["vic_TraffickingStatus"] == ("ActualVictimOfTrafficking",)


def test_what_was_answered_is_corrected_as_well(town: Agencies) -> None:
    asked = sent(town, "referral.requested", referral())
    thread = town[IOM].outgoing(asked).thread
    question = Facts(occurred_at=at(), question=Question(fields=("information.risk",)))
    town[SHELTER].evt(town[SHELTER].draft(IOM, "information.requested", question, thread=thread))
    town.settle()
    answer = Facts(occurred_at=at(), lawful=consented(), information=Information(risk=Risk(level="low")))
    evt = town[IOM].evt(town[IOM].draft(SHELTER, "information.answered", answer, thread=thread))
    town.settle()
    correct(town, evt, "information.risk.level", right=Right(risk=Risk(level="high")))
    facts = read(town[SHELTER], f"{IOM}/{evt}")
    assert facts.information is not None
    assert facts.information.risk == Risk(level="high")


def test_an_older_word_that_is_corrected_does_not_outdo_a_newer_one(town: Agencies) -> None:
    """In the registry: what was corrected is what that record said, not what is so now."""
    first = identified().model_copy(update={"htcds": {"vic_TraffickingStatus": "PossibleVictimOfTrafficking"}})
    evt = sent(town, "case.screened", first, to=MINISTRY)
    newer = first.model_copy(update={"htcds": {"vic_TraffickingStatus": "NotAVictimOfTrafficking"}})
    thread = town[IOM].outgoing(evt).thread
    town.wait(60)
    town[IOM].evt(town[IOM].draft(MINISTRY, "case.updated", newer, thread=thread))
    town.settle()
    town.wait(60)
    coded = (CodedAnswer(field="vic_TraffickingStatus", values=("ActualVictimOfTrafficking",)),)
    correct(town, evt, "htcds.vic_TraffickingStatus", to=MINISTRY, right={"htcds": coded})
    [entry] = projections.cases(projections.read(town[MINISTRY].box, town[MINISTRY].runner.inbox.opened), at(300))
    assert entry.htcds["vic_TraffickingStatus"] == ("NotAVictimOfTrafficking",)


@pytest.mark.parametrize(
    ("field", "values"),
    [("prs_Gender", ("Ndayishimiye",)), ("Ndayishimiye", ("x",)), ("prs_Gender", ("Feminine", "Masculine"))],
)
def test_only_answers_of_the_standard_can_be_right(field: str, values: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="no answer of the standard") as caught:
        CodedAnswer(field=field, values=values)
    assert "Ndayishimiye" not in str(caught.value)
