# SPDX-License-Identifier: Apache-2.0
"""Scenario 7. A child in Tunisia is to be handed from one body to another under an agreement.

There a child's data may be passed on only with the guardian's and the family judge's authorisation. With neither, or
with one of them, the request is refused by the sender's own adapter, which names the line of the policy and not the
child; with both it goes. The figures of that law are configuration, to be confirmed by counsel.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from schemas.forms import Birth, Caregiver, Facts, Name, Referral
from schemas.plain.transfer import Authorisation, Authority, TransferRequested
from tests.scenarios.town import Town

NAME = "Yassine-Inventé-Ben-Personne"


def of_a_child(town: Town, held: tuple[Authority, ...], *, age: int = 12) -> Facts:
    guardian = Caregiver(status="guardian", name="Tante Inventée", best_interest_note="Reste avec sa tante.")
    return Facts(
        occurred_at=town.today(),
        lawful=town.consented(scope=("referral", "return")),
        said=TransferRequested(
            referral=Referral(
                priority="normal",
                name=Name(as_given=NAME),
                birth=Birth(precision="age", age_years=age),
                services=("SocialCare",),
                caregiver=guardian if age < 18 else None,
            ),
            agreement="demo-2026",
            authorisations=tuple(
                Authorisation(authority=each, reference="2026/77", decided_at=town.today() - timedelta(days=1))
                for each in held
            ),
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
    assert refused == ("safeguard_missing", "authorisations.tn.child")
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
