# SPDX-License-Identifier: Apache-2.0
"""Scenario 7. A child in Tunisia: nothing of him is passed on without the guardian's and the judge's authorisation.

Handed from one body to another under an agreement, identified, screened, referred to a refuge, asked about, corrected:
with neither, or with one of them, it is refused by the sender's own adapter, which names the line of the policy and
not the child; with both, each by its number and date and still in force, it goes, and the reader sees on what it rests.
Should a program send it all the same, the refuge's adapter turns it away.

Where nobody can be asked tonight, no guardian being known, it goes under vital interests; a judge decides afterwards.
The figures of that law are configuration, to be confirmed by counsel.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from schemas.forms import (
    Authorisation,
    Authority,
    Birth,
    Caregiver,
    Facts,
    Information,
    Lawful,
    Name,
    Question,
    Referral,
    Risk,
)
from schemas.plain.alert import AlertMissing
from schemas.plain.record import RecordCorrected
from schemas.plain.transfer import TransferRequested
from tests.scenarios.town import Town
from topics import policy_file
from topics.policy_file import Authorisations, policy

NAME = "Yassine-Inventé-Ben-Personne"


BOTH: tuple[Authority, ...] = ("guardian", "family-judge")
REFUSED = ("safeguard_missing", "authorisations.tn.child")
GUARDIAN = Caregiver(status="guardian", name="Tante Inventée", best_interest_note="Reste avec sa tante.")


def decisions(town: Town, held: tuple[Authority, ...]) -> tuple[Authorisation, ...]:
    return tuple(
        Authorisation(
            authority=each,
            reference="2026/77",
            decided_at=town.today() - timedelta(days=1),
            expires_at=town.today() + timedelta(days=30),
        )
        for each in held
    )


def of_a_child(town: Town, held: tuple[Authority, ...], *, age: int = 12) -> Facts:
    return Facts(
        occurred_at=town.today(),
        lawful=town.consented(scope=("referral", "return")),
        said=TransferRequested(
            referral=Referral(
                priority="normal",
                name=Name(as_given=NAME),
                birth=Birth(precision="age", age_years=age),
                services=("SocialCare",),
                caregiver=GUARDIAN if age < 18 else None,
            ),
            agreement="demo-2026",
            authorisations=decisions(town, held),
            origin="bi",
            asylum_wished=False,
            voluntariness="voluntary",
            voluntariness_recorded_at=town.today() - timedelta(days=2),
        ),
    )


@pytest.mark.parametrize("held", [(), ("guardian",), ("family-judge",), ("guardian", "data-protection-authority")])
def test_without_guardian_and_judge_it_is_refused(tunisia: Town, held: tuple[Authority, ...]) -> None:
    sender = tunisia["tn/inlctp"]
    refused = sender.refused("tn/iom", "transfer.requested", of_a_child(tunisia, held), person="E-1")
    assert refused == REFUSED
    tunisia.settle()
    assert tunisia["tn/iom"].inbox() == []
    assert tunisia.found(NAME) == []


def test_with_both_it_goes_and_an_adult_needs_neither(tunisia: Town) -> None:
    sender = tunisia["tn/inlctp"]
    sender.draft("tn/iom", "transfer.requested", of_a_child(tunisia, ("guardian", "family-judge")), person="E-1")
    sender.draft("tn/iom", "transfer.requested", of_a_child(tunisia, (), age=30), person="A-1")
    tunisia.settle()
    assert len(tunisia["tn/iom"].opened("transfer.requested")) == 2
    assert tunisia.found(NAME) == []


# -- and not only when transferred -------------------------------------------------------------------------------------


def lawful(town: Town, held: tuple[Authority, ...]) -> Lawful:
    return town.consented().model_copy(update={"authorisations": decisions(town, held)})


def referred(town: Town, basis: Lawful, caregiver: Caregiver = GUARDIAN) -> Facts:
    form = Referral(
        priority="emergency",
        name=Name(as_given=NAME),
        birth=Birth(precision="age", age_years=12),
        services=("SocialCare",),
        caregiver=caregiver,
    )
    return Facts(occurred_at=town.today(), lawful=basis, referral=form)


def of_the_case(town: Town, basis: Lawful) -> Facts:
    codes = {"vic_TraffickingStatus": "PossibleVictimOfTrafficking", "prs_FirstName": NAME}
    birth = Birth(precision="age", age_years=12)
    return Facts(occurred_at=town.today(), lawful=basis, birth=birth, caregiver=GUARDIAN, htcds=codes)


@pytest.mark.parametrize("held", [(), ("guardian",), ("family-judge",)])
def test_a_child_is_neither_identified_nor_screened_nor_referred_without_them(
    tunisia: Town, held: tuple[Authority, ...]
) -> None:
    delegate, basis = tunisia["tn/dpe"], lawful(tunisia, held)
    assert delegate.refused("tn/m2p9", "referral.requested", referred(tunisia, basis), person="E-7") == REFUSED
    assert delegate.refused("tn/iom", "case.identified", of_the_case(tunisia, basis), person="E-7") == REFUSED
    assert delegate.refused("tn/m2p9", "case.screened", of_the_case(tunisia, basis), person="E-7") == REFUSED
    tunisia.settle()
    assert tunisia["tn/m2p9"].inbox() == []
    assert tunisia.found(NAME) == []


def test_with_both_a_refuge_reads_on_what_it_rests(tunisia: Town) -> None:
    delegate, refuge = tunisia["tn/dpe"], tunisia["tn/m2p9"]
    basis = lawful(tunisia, BOTH)
    delegate.draft("tn/m2p9", "referral.requested", referred(tunisia, basis), person="E-7")
    delegate.draft("tn/m2p9", "case.screened", of_the_case(tunisia, basis), person="E-7")
    tunisia.settle()
    for type in ("referral.requested", "case.screened"):
        [read] = refuge.opened(type)
        assert read.facts.lawful is not None
        assert read.facts.lawful.authorisations == basis.authorisations
    assert tunisia.found(NAME) == []


def test_what_is_said_later_of_the_same_child_needs_them_too(tunisia: Town) -> None:
    delegate, refuge = tunisia["tn/dpe"], tunisia["tn/m2p9"]
    asked = delegate.draft("tn/m2p9", "referral.requested", referred(tunisia, lawful(tunisia, BOTH)), person="E-7")
    tunisia.settle()
    thread = refuge.thread(asked)
    question = Facts(occurred_at=tunisia.today(), question=Question(fields=("information.risk",)))
    refuge.draft("tn/dpe", "information.requested", question, thread=thread)
    tunisia.settle()
    answer = Information(risk=Risk(level="high"))
    wrong = RecordCorrected(
        evt=asked, fields=("referral.name.as_given",), name=Name(as_given=NAME), reason="misheard", source="person"
    )
    later: tuple[tuple[str, dict[str, Any]], ...] = (
        ("information.answered", {"information": answer}),
        ("record.corrected", {"said": wrong}),
    )
    for type, said in later:
        for held in ((), ("guardian",)):
            facts = Facts(occurred_at=tunisia.today(), lawful=lawful(tunisia, held), **said)
            assert delegate.refused("tn/m2p9", type, facts, thread=thread) == REFUSED
        facts = Facts(occurred_at=tunisia.today(), lawful=lawful(tunisia, BOTH), **said)
        delegate.draft("tn/m2p9", type, facts, thread=thread)
    tunisia.settle()
    assert len(refuge.opened("information.answered")) == len(refuge.opened("record.corrected")) == 1


def test_an_authorisation_that_has_run_out_or_is_still_to_come_is_none(tunisia: Town) -> None:
    guardian, judge = decisions(tunisia, BOTH)
    day = timedelta(days=1)
    for member, changes in (
        ("expires_at", {"decided_at": tunisia.today() - 2 * day, "expires_at": tunisia.today() - day}),
        ("decided_at", {"decided_at": tunisia.today() + day}),
    ):
        basis = tunisia.consented().model_copy(update={"authorisations": (guardian, judge.model_copy(update=changes))})
        refused = tunisia["tn/dpe"].refused("tn/m2p9", "referral.requested", referred(tunisia, basis))
        assert refused == ("safeguard_missing", f"lawful.authorisations[1].{member}")


@pytest.mark.parametrize("status", ["pending", "suspected"])
def test_where_no_guardian_can_be_asked_nobody_waits_for_a_judge_at_night(tunisia: Town, status: str) -> None:
    alone = Caregiver.model_validate({"status": status, "best_interest_note": "À l'abri cette nuit."})
    sender = tunisia["tn/dpe"]
    sender.draft("tn/m2p9", "referral.requested", referred(tunisia, tunisia.vital(), alone), person="E-8")
    # Who has a guardian to ask is asked about first, whatever the hurry; and a duty is no danger.
    assert sender.refused("tn/m2p9", "referral.requested", referred(tunisia, tunisia.vital())) == REFUSED
    duty = Lawful(basis="legal-duty", legal_reference="Texte fictif, 2026", author="D. Inventée", reason="Signalement.")
    if status == "suspected":
        assert sender.refused("tn/m2p9", "referral.requested", referred(tunisia, duty, alone)) == REFUSED
    missing = AlertMissing(
        age="child",
        circumstance="taken",
        missing_since=tunisia.today(),
        name=Name(as_given=NAME),
        telephone="+21670000000",
    )
    alert = Facts(occurred_at=tunisia.today(), lawful=tunisia.vital(), said=missing)
    sender.draft("tn/iom", "alert.missing", alert, person="E-8")
    tunisia.settle()
    assert len(tunisia["tn/m2p9"].opened("referral.requested")) == len(tunisia["tn/iom"].opened("alert.missing")) == 1


def test_what_another_program_sends_all_the_same_is_turned_away_by_its_reader(
    tunisia: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender's program has no such rule: its policy asks for nothing in Tunisia."""
    delegate, refuge = tunisia["tn/dpe"], tunisia["tn/m2p9"]
    with monkeypatch.context() as patch:
        nothing = Authorisations(frozenset(), frozenset(), frozenset(), frozenset())
        patch.setattr(policy_file, "policy", lambda: replace(policy(), authorisations={"tn": nothing}))
        delegate.draft("tn/m2p9", "referral.requested", referred(tunisia, lawful(tunisia, ())), person="E-9")
    tunisia.settle()
    [item] = refuge.inbox()
    assert (item.state, item.code, item.path) == ("quarantined", *REFUSED)
    assert len(delegate.opened("receipt.rejected")) == 1
    assert tunisia.found(NAME) == []
