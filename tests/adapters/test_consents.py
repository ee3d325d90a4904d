# SPDX-License-Identifier: Apache-2.0
"""Consent withdrawn: who holds what was shared is told, passes it on, stops, and confirms by number."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.connectors.contract import Outcome
from adapters.consent_book import REPRESENTATIVE_WITHIN_S
from adapters.consents import Withdrawn
from adapters.rights_book import RightsBook
from schemas.errors import OrderError, PolicyError
from schemas.forms import Basis, Birth, Caregiver, Consent, Facts, Lawful
from schemas.plain.consent import ConsentAcknowledged, ConsentGranted, ConsentWithdrawn, WithdrawalScope
from tests.agencies import PLANTED, Agencies, at, bytes_of, referral, said
from tests.schemas.samples import SAMPLES

IOM, SHELTER, CLINIC = "bi/iom", "bi/k7t4", "bi/min-solidarity"
HER, HERS_AT_SHELTER = "DOSSIER-17", "CHAMBRE-3"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as made:
        yield made


def sheltered(town: Agencies, *, linked: bool = True) -> None:
    """IOM has referred her to the shelter, which has accepted her, begun, and sent her on to a clinic."""
    iom, shelter = town[IOM], town[SHELTER]
    iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person=HER))
    town.settle()
    to_iom = shelter.thread_with(IOM)
    person = HERS_AT_SHELTER if linked else None
    shelter.evt(shelter.draft(IOM, "referral.accepted", said(), thread=to_iom, person=person))
    shelter.evt(shelter.draft(IOM, "referral.started", said(), thread=to_iom))
    shelter.evt(shelter.draft(CLINIC, "referral.requested", referral(services=("Health",)), person=HERS_AT_SHELTER))
    town.settle()
    town.wait(60)


def withdraw(town: Agencies, scope: WithdrawalScope = "sharing", person: str = HER) -> Withdrawn:
    done = town[IOM].consents.withdraw(person, scope)
    town.settle()
    return done


def refused(outcome: Outcome) -> tuple[str, str | None]:
    assert outcome.problem is not None
    return outcome.problem.code, outcome.problem.path


# -- sharing -----------------------------------------------------------------------------------------------------------


def test_the_bed_stays_and_everybody_who_holds_something_confirms(town: Agencies) -> None:
    sheltered(town)
    done = withdraw(town)
    assert town[IOM].state_with(SHELTER) == town[SHELTER].state_with(IOM) == "in-progress"
    assert town[CLINIC].state_with(SHELTER) == "requested"
    [told] = town[IOM].consents.book.told(done.number)
    assert (told.peer, told.scope, told.onward) == (SHELTER, "sharing", 1)
    assert told.confirmed_at is not None
    assert town[CLINIC].opened("consent.withdrawn")[0].facts.said == ConsentWithdrawn(scope="sharing")
    shelter = town[SHELTER]
    shelter.evt(shelter.draft(IOM, "service.provided", said(service="SocialCare"), thread=shelter.thread_with(IOM)))
    shelter.evt(shelter.draft(IOM, "referral.completed", said(outcome="goals-met"), thread=shelter.thread_with(IOM)))
    town.settle()
    assert town[IOM].state_with(SHELTER) == "completed"


def test_the_shelter_confirms_only_after_the_clinic_has(town: Agencies) -> None:
    sheltered(town)
    done = town[IOM].consents.withdraw(HER, "sharing")
    town.settle([IOM, SHELTER])
    [told] = town[IOM].consents.book.told(done.number)
    assert told.evt is not None
    assert town[IOM].outgoing(told.evt).state == "delivered"  # its machine has it, and waits for the clinic's
    assert told.confirmed_at is None
    town.settle()
    assert town[IOM].consents.book.told(done.number)[0].confirmed_at is not None


def test_a_confirmation_says_how_many_and_never_who(town: Agencies) -> None:
    sheltered(town)
    withdraw(town)
    [opened] = town[IOM].opened("consent.acknowledged")
    assert opened.facts.said == ConsentAcknowledged(scope="sharing", onward_confirmed=1)
    assert "min-solidarity" not in repr(opened.facts.model_dump())


@pytest.mark.parametrize("scope", ["sharing", "service"])
def test_nothing_new_of_her_is_shared_with_anybody_by_anybody_who_was_told(
    town: Agencies, scope: WithdrawalScope
) -> None:
    sheltered(town)
    withdraw(town, scope)
    for member, person in ((IOM, HER), (SHELTER, HERS_AT_SHELTER)):
        outcome = town[member].draft("bi/r5w2", "referral.requested", referral(), person=person)
        assert refused(outcome) == ("consent_withdrawn", "lawful.consent.given_at")
    assert not town["bi/r5w2"].inbox()
    # Somebody else is none of this.
    assert town[IOM].draft("bi/r5w2", "referral.requested", referral(), person="DOSSIER-18").problem is None


def test_the_clinic_that_never_linked_the_thread_shares_nothing_on_it_either(town: Agencies) -> None:
    sheltered(town)
    withdraw(town)
    clinic = town[CLINIC]
    thread = clinic.thread_with(SHELTER)
    old = Consent(given_at=at(-7200), expires_at=at(86_400))
    for facts in (Facts(occurred_at=at(), lawful=Lawful(basis="consent", consent=old)), Facts(occurred_at=at())):
        with pytest.raises(PolicyError, match="consent_withdrawn|consent_missing"):
            clinic.consents.book.require(None, thread, facts)
    clinic.consents.book.require(None, "another-thread", facts)


def test_a_consent_given_anew_after_the_withdrawal_counts_again(town: Agencies) -> None:
    sheltered(town)
    withdraw(town)
    town.wait(3600)
    anew = Consent(given_at=at(3000), expires_at=at(86_400 * 30))
    facts = referral(lawful=Lawful(basis="consent", consent=anew)).model_copy(update={"occurred_at": at(3600)})
    town[IOM].evt(town[IOM].draft("bi/r5w2", "referral.requested", facts, person=HER))
    states = {one.peer: one.state for one in town[IOM].consents.book.holders(int(town.now), HER)}
    assert states == {SHELTER: "withdrawn-sharing", "bi/r5w2": "granted"}


def test_a_consent_from_before_the_withdrawal_cannot_be_sent_after_it_as_if_it_were_new(town: Agencies) -> None:
    sheltered(town)
    withdraw(town)
    old = ConsentGranted(extent="full", consent=Consent(given_at=at(-7200), expires_at=at(86_400)))
    thread = town[IOM].thread_with(SHELTER)
    outcome = town[IOM].draft(SHELTER, "consent.granted", Facts(occurred_at=at(), said=old), thread=thread)
    assert refused(outcome) == ("consent_withdrawn", "said.consent.given_at")


def test_a_day_without_its_time_on_the_day_of_the_withdrawal_is_refused_with_what_to_write(town: Agencies) -> None:
    """She withdraws in the morning and agrees again in the afternoon; the caseworker types the day."""
    sheltered(town)
    withdraw(town)
    town.wait(3600)
    midnight = at().replace(hour=0, minute=0, second=0)
    typed = Lawful(basis="consent", consent=Consent(given_at=midnight, expires_at=at(86_400 * 30)))
    outcome = town[IOM].draft("bi/r5w2", "referral.requested", referral(lawful=typed), person=HER)
    assert refused(outcome) == ("consent_withdrawn", "lawful.consent.given_at")
    assert outcome.problem is not None
    assert "notez aussi l'heure" in outcome.problem.fr
    assert "write the time as well" in outcome.problem.en


def test_danger_to_her_life_does_not_wait_for_consent_and_has_its_author(town: Agencies) -> None:
    sheltered(town)
    withdraw(town)
    vital = Lawful(basis="vital-interests", author="Diane Ndayisenga", reason="En danger cette nuit.")
    assert town[IOM].draft("bi/r5w2", "referral.requested", referral(lawful=vital), person=HER).problem is None


@pytest.mark.parametrize("basis", ["vital-interests", "legal-duty"])
def test_whoever_shares_against_her_withdrawal_signs_for_it_with_a_reason_and_is_reviewed(
    town: Agencies, basis: Basis
) -> None:
    sheltered(town)
    withdraw(town)
    reference = "Texte fictif, 2026" if basis == "legal-duty" else None
    signed = Lawful(basis=basis, legal_reference=reference, author="Diane Ndayisenga", reason="En danger cette nuit.")
    for member in ("author", "reason"):
        half = referral(lawful=signed.model_copy(update={member: None}))
        outcome = town[IOM].draft("bi/r5w2", "referral.requested", half, person=HER)
        assert refused(outcome) == ("payload_invalid", f"lawful.{member}")
    evt = town[IOM].evt(town[IOM].draft("bi/r5w2", "referral.requested", referral(lawful=signed), person=HER))
    town.settle()
    [read] = town["bi/r5w2"].opened("referral.requested")
    assert read.facts.lawful == signed
    for agency in (IOM, "bi/r5w2"):
        [entry] = RightsBook(town[agency].box).reviews()
        assert (entry.kind, entry.ident) == ("break-glass", f"{IOM}/{evt}")


def test_what_had_not_left_yet_never_leaves(town: Agencies) -> None:
    iom = town[IOM]
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person=HER))
    done = iom.consents.withdraw(HER, "sharing")
    assert (done.taken_back, done.told) == ((evt,), ())
    town.settle()
    assert iom.outgoing(evt).state == "cancelled"
    assert not town[SHELTER].inbox()


# -- service -----------------------------------------------------------------------------------------------------------


def test_withdrawing_the_service_ends_it_here_and_onward(town: Agencies) -> None:
    sheltered(town)
    done = withdraw(town, "service")
    assert town[IOM].state_with(SHELTER) == town[SHELTER].state_with(IOM) == "revoked"
    assert town[SHELTER].state_with(CLINIC) == town[CLINIC].state_with(SHELTER) == "revoked"
    assert town[IOM].consents.book.told(done.number)[0].onward == 1


def test_sharing_may_be_withdrawn_first_and_the_service_later(town: Agencies) -> None:
    sheltered(town)
    withdraw(town)
    town.wait(3600)
    done = withdraw(town, "service")
    assert [one.onward for one in town[IOM].consents.book.told(done.number)] == [1]
    [holder] = town[IOM].consents.book.holders(int(town.now), HER)
    assert (holder.state, town[SHELTER].state_with(IOM)) == ("withdrawn", "revoked")


def test_who_declined_still_holds_what_was_shared_and_is_told_too(town: Agencies) -> None:
    iom, shelter = town[IOM], town[SHELTER]
    iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person=HER))
    town.settle()
    shelter.evt(shelter.draft(IOM, "referral.declined", said(reason="no-capacity"), thread=shelter.thread_with(IOM)))
    town.settle()
    town.wait(60)
    done = withdraw(town, "service")
    [told] = iom.consents.book.told(done.number)
    assert (told.scope, told.onward, shelter.state_with(IOM)) == ("sharing", 0, "declined")


# -- what may go wrong -------------------------------------------------------------------------------------------------


def test_a_holder_that_is_not_sure_whom_it_passed_on_waits_for_a_person_to_say(town: Agencies) -> None:
    sheltered(town, linked=False)
    done = withdraw(town)
    assert town[IOM].consents.book.told(done.number)[0].confirmed_at is None
    assert not town[CLINIC].opened("consent.withdrawn")
    shelter = town[SHELTER]
    assert [one.thread for one in shelter.consents.book.waiting_for_a_person()] == [shelter.thread_with(IOM)]
    shelter.consents.link(shelter.thread_with(IOM), HERS_AT_SHELTER)
    town.settle()
    assert town[IOM].consents.book.told(done.number)[0].onward == 1


def test_linking_with_an_ordinary_answer_is_enough(town: Agencies) -> None:
    sheltered(town, linked=False)
    done = withdraw(town)
    shelter = town[SHELTER]
    facts = said(service="SocialCare")
    shelter.evt(shelter.draft(IOM, "service.provided", facts, thread=shelter.thread_with(IOM), person=HERS_AT_SHELTER))
    town.settle()
    assert town[IOM].consents.book.told(done.number)[0].onward == 1


def test_an_alert_about_her_never_rested_on_her_consent_and_holds_no_withdrawal_up(town: Agencies) -> None:
    sheltered(town)
    iom = town[IOM]
    iom.evt(iom.draft("bi/r5w2", "alert.missing", SAMPLES["alert.missing"][0], person=HER))
    town.settle()
    done = withdraw(town)
    assert [one.peer for one in done.told] == [SHELTER]
    assert all(one.confirmed_at is not None for one in iom.consents.book.told(done.number))
    assert not town["bi/r5w2"].opened("consent.withdrawn")


def test_withdrawing_twice_tells_nobody_twice(town: Agencies) -> None:
    sheltered(town)
    withdraw(town)
    again = withdraw(town)
    assert again.told == ()
    assert len(town[SHELTER].opened("consent.withdrawn")) == 1


def test_two_who_shared_her_with_each_other_do_not_wait_for_each_other(town: Agencies) -> None:
    iom, clinic = town[IOM], town[CLINIC]
    iom.evt(iom.draft(CLINIC, "referral.requested", referral(), person=HER))
    town.settle()
    back = next(one.id for one in clinic.box.threads())
    clinic.evt(clinic.draft(IOM, "referral.accepted", said(), thread=back, person="C-9"))
    clinic.evt(clinic.draft(IOM, "referral.requested", referral(), person="C-9"))
    town.settle()
    hers = next(one.id for one in iom.box.threads() if one.role == "recipient")
    iom.evt(iom.draft(CLINIC, "referral.accepted", said(), thread=hers, person=HER))
    town.settle()
    town.wait(60)
    done = withdraw(town)
    assert all(one.confirmed_at is not None for one in iom.consents.book.told(done.number))


def test_nobody_by_that_reference_is_said_and_nothing_is_stored(town: Agencies) -> None:
    with pytest.raises(OrderError) as caught:
        town[IOM].consents.withdraw("DOSSIER-99", "sharing")
    assert (caught.value.code, caught.value.path) == ("thread_unknown", "person")
    assert not town[IOM].consents.book.withdrawals()


def test_a_third_agency_cannot_confirm_for_the_shelter(town: Agencies) -> None:
    sheltered(town)
    done = town[IOM].consents.withdraw(HER, "sharing")
    [told] = done.told
    assert told.evt is not None
    assert town[IOM].consents.book.confirm(told.evt, CLINIC, 0, int(town.now)) is None
    assert town[IOM].consents.book.told(done.number)[0].confirmed_at is None


def test_dying_after_every_step_of_a_withdrawal_loses_nobodys_word(town: Agencies) -> None:
    """Adapters that are started again between every two turns end where one that never stopped would."""
    sheltered(town)
    done = town[IOM].consents.withdraw(HER, "sharing")
    for _ in range(6):
        for name in (IOM, SHELTER, CLINIC):
            member = town.open(name)
            member.send()
            member = town.open(name)
            member.receive()
            member = town.open(name)
            member.deliver()
    assert town[IOM].consents.book.told(done.number)[0].onward == 1


# -- what stands -------------------------------------------------------------------------------------------------------


def test_what_consent_stands_is_shown_by_person_and_holder(town: Agencies) -> None:
    sheltered(town)
    book = town[IOM].consents.book
    [holder] = book.holders(int(town.now), HER)
    assert (holder.person, holder.peer, holder.basis, holder.state) == (HER, SHELTER, "consent", "granted")
    assert holder.expires_at is not None
    assert book.holders(holder.expires_at, HER)[0].state == "expired"
    assert book.holders(holder.expires_at - 1, HER)[0].state == "granted"


def test_what_she_refused_to_share_makes_her_consent_a_limited_one(town: Agencies) -> None:
    facts = referral()
    assert facts.referral is not None
    limited = facts.model_copy(
        update={"referral": facts.referral.model_copy(update={"told_and_refused": ("access_needs",)})}
    )
    town[IOM].evt(town[IOM].draft(SHELTER, "referral.requested", limited, person=HER))
    assert [one.state for one in town[IOM].consents.book.holders(int(town.now), HER)] == ["limited"]


def test_no_name_stands_in_any_file_after_all_of_it(town: Agencies, tmp_path: Path) -> None:
    sheltered(town)
    withdraw(town, "service")
    assert PLANTED.encode() not in bytes_of(tmp_path)
    assert HER.encode() not in bytes_of(tmp_path, "log.db*")
    assert HERS_AT_SHELTER.encode() not in bytes_of(tmp_path, "bi-iom.db*")


# -- children ----------------------------------------------------------------------------------------------------------

VITAL = Lawful(basis="vital-interests", author="Diane Ndayisenga", reason="Seule, la nuit.")


def child(status: str, lawful: Lawful = VITAL, **more: object) -> Facts:
    facts = referral(lawful=lawful, birth=Birth(precision="age", age_years=14, basis="estimated"))
    assert facts.referral is not None
    caregiver = Caregiver.model_validate({"status": status, **more})
    return facts.model_copy(update={"referral": facts.referral.model_copy(update={"caregiver": caregiver})})


def test_a_child_without_a_guardian_is_due_a_representative_in_72_hours_on_both_sides(town: Agencies) -> None:
    town[IOM].evt(town[IOM].draft(SHELTER, "referral.requested", child("pending"), person=HER))
    began = int(town.now)
    town.settle()
    for member in (IOM, SHELTER):
        [due] = town[member].consents.book.representatives_due()
        assert due.due_at == began + REPRESENTATIVE_WITHIN_S
    town.wait(timedelta(hours=70).total_seconds())
    assert town[IOM].consents.book.appoint(HER, int(town.now))
    assert town[IOM].consents.book.representatives_due() == []
    assert not town[IOM].consents.book.appoint("DOSSIER-99", int(town.now))


def test_a_later_record_with_a_representative_takes_the_child_off_the_list(town: Agencies) -> None:
    iom = town[IOM]
    iom.evt(iom.draft(SHELTER, "referral.requested", child("pending"), person=HER))
    town.wait(3600)
    found = child("representative", best_interest_note="Avec sa tante.", child_assent="assent")
    iom.evt(iom.draft(CLINIC, "referral.requested", found, person=HER))
    town.settle()
    assert iom.consents.book.representatives_due() == []
    assert len(town[SHELTER].consents.book.representatives_due()) == 1  # nobody has told the shelter
    assert {one.peer: one.child_assent for one in iom.consents.book.holders(int(town.now))} == {
        SHELTER: "not-asked",
        CLINIC: "assent",
    }


def test_a_disputed_age_counts_as_a_childs(town: Agencies) -> None:
    disputed = referral(birth=Birth(precision="year", date="1999", basis="disputed"))
    outcome = town[IOM].draft(SHELTER, "referral.requested", disputed, person=HER)
    assert refused(outcome) == ("safeguard_missing", "referral.caregiver")


def test_a_suspected_guardian_is_never_informed(town: Agencies) -> None:
    told = child("suspected", best_interest_note="Pas chez lui.", informed=True)
    outcome = town[IOM].draft(SHELTER, "referral.requested", told, person=HER)
    assert refused(outcome) == ("safeguard_missing", "referral.caregiver.informed")


# -- tickets -----------------------------------------------------------------------------------------------------------


def test_a_cards_code_leads_to_her_where_she_got_it_and_nowhere_else(town: Agencies, tmp_path: Path) -> None:
    sheltered(town)
    iom = town[IOM].consents.book
    code = iom.ticket(HER, "K7Q3M2XA9TDE", int(town.now))
    assert code == "K7Q3M2XA9TDE"
    assert iom.ticket(HER, "ANOTHERFRESH", int(town.now)) == code
    assert iom.person_of(code) == HER
    assert town[SHELTER].consents.book.person_of(code) is None
    assert iom.ticket("DOSSIER-99", "ANOTHERFRESH", int(town.now)) is None
    town.settle()
    for pattern in ("log.db*", "bi-k7t4.db*", "bi-min-solidarity.db*"):
        assert code.encode() not in bytes_of(tmp_path, pattern)
