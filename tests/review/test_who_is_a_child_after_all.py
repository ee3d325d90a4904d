# SPDX-License-Identifier: Apache-2.0
"""Children who are found to be children late, or whom two members of one record make of two ages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.consent_book import REPRESENTATIVE_WITHIN_S, ConsentBook
from schemas.errors import PayloadError
from schemas.forms import Birth, Caregiver, Facts, Information
from schemas.lifecycle import next_events, step
from schemas.plain.record import RecordCorrected
from tests.agencies import Agencies, Agency, at, consented, identified, referral
from tests.schemas.samples import SAMPLES, sealable

IOM, SHELTER = "bi/iom", "bi/k7t4"
FOURTEEN = Birth(precision="age", age_years=14, basis="estimated")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def due(agency: Agency) -> list[int]:
    return [one.due_at for one in ConsentBook(agency.box).representatives_due()]


@pytest.mark.parametrize("how", ["record.corrected", "information.answered"])
def test_who_turns_out_to_be_a_child_is_due_a_representative_on_both_sides(town: Agencies, how: str) -> None:
    iom = town[IOM]
    asked = iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person="D-1"))
    town.settle()
    thread = iom.outgoing(asked).thread
    assert (due(iom), due(town[SHELTER])) == ([], [])
    facts = Facts(occurred_at=at(), lawful=consented(), information=Information(birth=FOURTEEN))
    if how == "record.corrected":
        said = RecordCorrected(
            evt=asked, fields=("referral.birth.age_years",), birth=FOURTEEN, reason="misheard", source="person"
        )
        facts = Facts(occurred_at=at(), lawful=consented(), said=said)
    iom.evt(iom.draft(SHELTER, how, facts, thread=thread))
    now = int(town.now)
    town.settle()
    for member in (IOM, SHELTER):
        assert due(town[member]) == [now + REPRESENTATIVE_WITHIN_S]


def test_a_child_known_as_one_and_corrected_by_a_year_raises_nothing_new(town: Agencies) -> None:
    iom = town[IOM]
    facts = referral(birth=FOURTEEN)
    assert facts.referral is not None
    guarded = Caregiver(status="guardian", best_interest_note="Avec sa tante.")
    asked = iom.evt(
        iom.draft(
            SHELTER,
            "referral.requested",
            facts.model_copy(update={"referral": facts.referral.model_copy(update={"caregiver": guarded})}),
            person="D-1",
        )
    )
    town.settle()
    birth = Birth(precision="age", age_years=15)
    said = RecordCorrected(
        evt=asked, fields=("referral.birth.age_years",), birth=birth, reason="misheard", source="person"
    )
    thread = iom.outgoing(asked).thread
    iom.evt(
        iom.draft(SHELTER, "record.corrected", Facts(occurred_at=at(), lawful=consented(), said=said), thread=thread)
    )
    town.settle()
    assert (due(iom), due(town[SHELTER])) == ([], [])


def test_a_case_that_says_two_ages_is_a_case_of_unknown_age() -> None:
    facts = identified().model_copy(update={"htcds": {"prs_Birthdate": "2012", "prs_Gender": "Feminine"}})
    with pytest.raises(PayloadError) as caught:
        sealable("case.identified", facts)
    assert (caught.value.code, caught.value.path) == ("safeguard_missing", "caregiver")


def missing(**changes: Any) -> Facts:
    facts = SAMPLES["alert.missing"][0]
    assert facts.said is not None
    return facts.model_copy(update={"said": facts.said.model_copy(update=changes)})


@pytest.mark.parametrize("age", ["child", "unknown"])
def test_an_adult_who_left_freely_is_not_looked_for_by_calling_her_a_child(age: str) -> None:
    adult = Birth(precision="year", date="1990", basis="document")
    with pytest.raises(PayloadError) as caught:
        sealable("alert.missing", missing(age=age, circumstance="left-freely", birth=adult))
    assert (caught.value.code, caught.value.path) == ("payload_invalid", "said.circumstance")
    disputed = adult.model_copy(update={"basis": "disputed"})
    assert sealable("alert.missing", missing(age=age, circumstance="left-freely", birth=disputed)).content


# -- a return that she does not wish --------------------------------------------------------------------------------


def test_nobody_departs_who_said_that_she_does_not_wish_to() -> None:
    state = step("transfer", "preparing", "return.counselled/does-not-wish-to-return", "initiator").state
    for event in ("return.documented", "return.risk-assessed", "return.counselled/undecided"):
        assert step("transfer", state, event, "initiator").state == state
    assert "return.departed" not in next_events("transfer", state, "initiator")
    again = step("transfer", state, "return.counselled/wishes-to-return", "initiator").state
    assert "return.departed" in next_events("transfer", again, "initiator")


def test_papers_alone_send_nobody_home() -> None:
    state = step("transfer", "accepted", "return.documented", "initiator").state
    assert "return.departed" not in next_events("transfer", state, "initiator")
    state = step("transfer", "preparing", "return.counselled/undecided", "initiator").state
    assert "return.departed" not in next_events("transfer", state, "initiator")


def test_a_correction_later_by_days_counts_from_when_it_came(town: Agencies) -> None:
    iom = town[IOM]
    asked = iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person="D-1"))
    town.settle()
    town.wait(timedelta(days=9).total_seconds())
    said = RecordCorrected(
        evt=asked, fields=("referral.birth.age_years",), birth=FOURTEEN, reason="misheard", source="person"
    )
    facts = Facts(occurred_at=at(), lawful=consented(), said=said)
    iom.evt(iom.draft(SHELTER, "record.corrected", facts, thread=iom.outgoing(asked).thread))
    assert due(iom) == [int(town.now) + REPRESENTATIVE_WITHIN_S]
