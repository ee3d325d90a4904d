# SPDX-License-Identifier: Apache-2.0
"""Scenario 4. A child arrives alone at night.

Nobody knows yet who is responsible for him. IOM refers him all the same: his life comes first (`vital-interests`), the
guardian is `pending`, and the shelter accepts within the hour. Where the guardian is suspected of taking part, the
record says so, nobody notifies her, and no consent of hers counts. What does not hold at all (a child without a word on
who cares for him, a pending guardian on the basis of somebody's consent) does not leave IOM's adapter.
"""

from __future__ import annotations

from schemas.forms import Birth, Caregiver
from tests.scenarios.town import Town

NAME = "Irakoze-Inventé"
GUARDIAN = "Nahimana-Inventée"
CHILD = Birth(precision="age", age_years=13, basis="estimated")


def test_accepted_at_night_with_the_guardian_pending(town: Town) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    facts = town.referral(
        NAME, birth=CHILD, lawful=town.vital(), priority="immediate", caregiver=Caregiver(status="pending")
    )
    asked = iom.draft("bi/k7t4", "referral.requested", facts, person="IOM-13")
    town.settle()
    [request] = shelter.opened("referral.requested")
    assert request.claims is not None
    assert request.claims.safeguards is not None
    assert (request.claims.safeguards.age, request.claims.safeguards.guardian) == ("child", "pending")
    thread = shelter.thread(asked)
    shelter.draft("bi/iom", "referral.accepted", town.plainly(), thread=thread)
    town.settle()
    assert iom.state(thread) == "accepted"
    assert town.found(NAME) == []


def test_a_suspected_guardian_is_named_to_those_who_protect_him_and_told_nothing(town: Town) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    guardian = Caregiver(status="suspected", name=GUARDIAN, best_interest_note="Ne doit pas savoir où il est.")
    iom.draft(
        "bi/k7t4", "referral.requested", town.referral(NAME, birth=CHILD, lawful=town.vital(), caregiver=guardian)
    )
    informed = guardian.model_copy(update={"informed": True})
    assert iom.refused(
        "bi/k7t4", "referral.requested", town.referral(NAME, birth=CHILD, lawful=town.vital(), caregiver=informed)
    ) == ("safeguard_missing", "referral.caregiver.informed")
    # Whose consent would it be?
    assert iom.refused(
        "bi/k7t4", "referral.requested", town.referral(NAME, birth=CHILD, lawful=town.consented(), caregiver=guardian)
    ) == ("safeguard_missing", "referral.caregiver.status")
    town.settle()
    [request] = shelter.opened("referral.requested")
    assert request.facts.referral is not None
    assert request.facts.referral.caregiver == guardian
    assert town.found(NAME, GUARDIAN) == []


def test_without_a_word_on_who_cares_for_him_nothing_leaves(town: Town) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    for birth in (CHILD, Birth(precision="unknown"), Birth(precision="year", date="1999", basis="disputed")):
        assert iom.refused("bi/k7t4", "referral.requested", town.referral(NAME, birth=birth, lawful=town.vital())) == (
            "safeguard_missing",
            "referral.caregiver",
        )
    # A guardian who is not known cannot have consented.
    pending = Caregiver(status="pending")
    assert iom.refused("bi/k7t4", "referral.requested", town.referral(NAME, birth=CHILD, caregiver=pending)) == (
        "safeguard_missing",
        "referral.caregiver.status",
    )
    town.settle()
    assert shelter.inbox() == []
    assert town.found(NAME) == []
