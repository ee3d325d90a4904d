# SPDX-License-Identifier: Apache-2.0
"""What travels although she did not agree to it: for another purpose, under a word that names nothing, to a lawyer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.connectors import columns
from adapters.connectors.refusals import refused_field
from adapters.disclosures import Disclosures
from schemas import minimise
from schemas.errors import PayloadError, PolicyError, RecordError
from schemas.forms import Consent, Facts, Information, Lawful, Risk
from schemas.plain.rights import DisclosureRequested
from tests.agencies import Agencies, at, consented, identified, referral
from tests.domain import MEMBERS
from tests.schemas.samples import SAMPLES, opened, sealable

IOM, SHELTER, LAWYER, COURT = "bi/iom", "bi/k7t4", "bi/legal-aid", "bi/court"


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agencies]:
    monkeypatch.setitem(MEMBERS, LAWYER, ("Aide juridique (inventée)", ("assistance", "legal-aid"), False))
    monkeypatch.setitem(MEMBERS, COURT, ("Tribunal (inventé)", ("judiciary",), False))
    with Agencies(tmp_path) as agencies:
        yield agencies


def agreed(facts: Facts, *scope: Any, given: timedelta = timedelta(hours=-2)) -> Facts:
    consent = Consent(
        given_at=facts.occurred_at + given, expires_at=facts.occurred_at + timedelta(days=90), scope=scope
    )
    return facts.model_copy(update={"lawful": Lawful(basis="consent", consent=consent)})


@pytest.mark.parametrize(
    ("type", "scope"),
    [
        ("investigation.opened", "referral"),
        ("proceeding.notice", "referral"),
        ("case.identified", "statistics"),
        ("case.screened", "investigation"),
        ("case.updated", "return"),
        ("conference.called", "statistics"),
    ],
)
def test_a_consent_for_one_purpose_is_none_for_another(type: str, scope: str) -> None:
    facts = identified() if type == "case.identified" else SAMPLES[type][0]
    with pytest.raises(PolicyError) as caught:
        sealable(type, agreed(facts, scope))
    assert (caught.value.code, caught.value.path) == ("consent_missing", "lawful.consent.scope")


def test_an_investigation_on_her_own_consent_to_it_passes() -> None:
    facts = agreed(SAMPLES["investigation.opened"][0], "investigation")
    assert opened(sealable("investigation.opened", facts)).facts == facts


def test_a_consent_that_is_yet_to_be_given_is_none(town: Agencies) -> None:
    consent = Consent(given_at=at(86_400 * 30), expires_at=at(86_400 * 60))
    outcome = town[IOM].draft(
        SHELTER, "referral.requested", referral(lawful=Lawful(basis="consent", consent=consent)), person="D-1"
    )
    assert outcome.problem is not None
    assert (outcome.problem.code, outcome.problem.path) == ("consent_missing", "lawful.consent.given_at")


def refusing(*names: str) -> Facts:
    facts = referral()
    assert facts.referral is not None
    return facts.model_copy(update={"referral": facts.referral.model_copy(update={"told_and_refused": names})})


@pytest.mark.parametrize(
    "word", ["adresse", "date de naissance", "risk.fromwhom", "son frère", "referral", "service.type"]
)
def test_a_refusal_that_names_no_field_is_not_passed_over(town: Agencies, word: str) -> None:
    outcome = town[IOM].draft(SHELTER, "referral.requested", refusing("reason", word), person="D-1")
    assert outcome.problem is not None
    assert (outcome.problem.code, outcome.problem.path) == ("payload_invalid", "referral.told_and_refused[1]")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("Contact sûr : numéro ou compte", "safe_contact.address"),
        ("contact sur numero ou compte", "safe_contact.address"),
        ("Risk: from whom", "risk.from_whom"),
        ("Naissance", "birth"),
        ("referral.risk", "risk"),
        ("htcds.prs_Citizenship", "prs_Citizenship"),
        ("prs_MobilePhone", "prs_MobilePhone"),
        ("Destinataire", None),
        ("adresse", None),
    ],
)
def test_a_caseworker_names_what_she_refused_as_the_columns_do(text: str, field: str | None) -> None:
    assert refused_field(text) == field


def test_every_refusal_that_a_column_offers_is_one_that_keeps_something_back() -> None:
    for column in columns.template_columns("Orientation"):
        field = refused_field(column.name)
        assert field is None or field in minimise.REFUSABLE, column.name


def test_a_lawyer_gets_no_medical_part_although_health_is_asked_for_too(town: Agencies) -> None:
    facts = referral(services=("Legal", "Health"))
    assert facts.referral is not None
    form = facts.referral.model_copy(update={"access_needs": "Suivi médical.", "pregnant_or_nursing": "yes"})
    iom = town[IOM]
    asked = iom.evt(iom.draft(LAWYER, "referral.requested", facts.model_copy(update={"referral": form}), person="D-1"))
    more = Information(access_needs="Suivi médical.", pregnant_or_nursing="yes", transport="own")
    iom.evt(
        iom.draft(
            LAWYER,
            "information.answered",
            Facts(occurred_at=at(), lawful=consented(), information=more),
            thread=iom.outgoing(asked).thread,
        )
    )
    town.settle()
    [request] = town[LAWYER].opened("referral.requested")
    assert {"referral.access_needs", "referral.pregnant_or_nursing"} <= set(request.withheld)
    assert request.facts.referral is not None
    assert request.facts.referral.access_needs is None
    [answer] = town[LAWYER].opened("information.answered")
    assert answer.facts.information == Information(transport="own")


def test_what_was_disclosed_until_a_day_opens_no_more_after_it_also_without_an_adapter(town: Agencies) -> None:
    iom, court = town[IOM], town[COURT]
    evt = town["bi/police"].evt(town["bi/police"].draft(IOM, "case.identified", identified()))
    town.settle()
    order = DisclosureRequested(
        capacity="court",
        order="Ordonnance inventée 1",
        scope=("content",),
        expires_at=at(86_400),
        record=f"bi/police/{evt}",
    )
    court.evt(court.draft(IOM, "disclosure.requested", Facts(occurred_at=at(), said=order)))
    town.settle()
    given = iom.runner.inbox.corrections.disclosures
    [asked] = given.asked()
    by = given.grant(asked.thread, f"bi/police/{evt}")
    town.settle()
    reader = Disclosures(court.runner.desk, court.runner.outbox)
    assert reader.open(f"{IOM}/{by}").keys() == {"content"}
    town.wait(86_401)
    with pytest.raises(RecordError) as caught:
        reader.open(f"{IOM}/{by}")
    assert caught.value.code == "grant_missing"


def test_a_slip_in_the_reference_does_not_mix_two_people_up(town: Agencies) -> None:
    iom = town[IOM]
    asked = iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person="D-1"))
    town.settle()
    facts = Facts(occurred_at=at(), lawful=consented(), information=Information(transport="own"))
    thread = iom.outgoing(asked).thread
    outcome = iom.draft(SHELTER, "information.answered", facts, thread=thread, person="D-2")
    assert outcome.problem is not None
    assert (outcome.problem.code, outcome.problem.path) == ("payload_invalid", "person")
    assert iom.draft(SHELTER, "information.answered", facts, thread=thread, person="D-1").problem is None


def test_the_refusal_of_a_word_says_where_and_not_what() -> None:
    with pytest.raises(PayloadError) as caught:
        sealable("referral.requested", refusing("Ndayishimiye"))
    assert "dayishimiye" not in str(caught.value)


def test_what_she_refused_when_she_was_referred_is_not_told_later_on_the_same_consent(town: Agencies) -> None:
    iom = town[IOM]
    asked = iom.evt(
        iom.draft(SHELTER, "referral.requested", refusing("risk.from_whom", "prs_Citizenship"), person="D-1")
    )
    thread = iom.outgoing(asked).thread

    def told(information: Information, lawful: Lawful, **htcds: tuple[str, ...]) -> tuple[str, str | None] | None:
        facts = Facts(occurred_at=at(), lawful=lawful, information=information, htcds=dict(htcds))
        problem = iom.draft(SHELTER, "information.answered", facts, thread=thread).problem
        return None if problem is None else (problem.code, problem.path)

    risk = Information(risk=Risk(level="high", from_whom="Le recruteur."))
    assert told(risk, consented()) == ("consent_missing", "information.risk.from_whom")
    own = Information(transport="own")
    assert told(own, consented(), prs_Citizenship=("BI",)) == ("consent_missing", "htcds.prs_Citizenship")
    assert told(Information(risk=Risk(level="high")), consented()) is None
    asked_again = Lawful(basis="consent", consent=Consent(given_at=at(-60), expires_at=at(86_400)))
    assert told(risk, asked_again) is None
