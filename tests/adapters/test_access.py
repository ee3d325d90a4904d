# SPDX-License-Identifier: Apache-2.0
"""She asks what is held about her: who knows her answers; of others only how many; of hers only what is hers."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import access_sheet
from adapters.access import MOST_HELD, Access, Asked, Holding, Holdings, Waiting, answer_of, due_at, from_others
from adapters.access_sheet import Answer, Sheet, copy_for_her
from adapters.deadlines import alarms
from adapters.rights_book import RightsBook
from schemas.errors import OrderError, PayloadError
from schemas.forms import Birth, Caregiver, Facts, Lawful, Name, Risk
from schemas.plain.rights import AccessAnswered, AccessRequested, Held
from tests.agencies import PLANTED, Agencies, Agency, at, bytes_of, identified, referral, said
from tests.domain import MEMBERS, NOW
from tests.e2e.planted import every_file, traces
from umuhuza.examples import samples_directory as made

IOM, SHELTER, CLINIC, OTHER, POLICE, COURT = (
    "bi/iom",
    "bi/k7t4",
    "bi/min-solidarity",
    "bi/r5w2",
    "bi/police",
    "bi/court",
)
HER, HERS_AT_SHELTER = "DOSSIER-17", "CHAMBRE-3"
DAY = 86_400
AUTHOR, AUNT, BROTHER = "Diane Conseillère", "Espérance Tante", "le frère Aloys"
"""Others, who must not stand in what she gets."""


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agencies]:
    monkeypatch.setitem(MEMBERS, COURT, ("Tribunal (inventé)", ("judiciary",), False))
    with Agencies(tmp_path) as agencies:
        yield agencies


def access(member: Agency) -> Access:
    return Access(member.runner.desk)


def request(**changes: object) -> AccessRequested:
    return AccessRequested.model_validate(
        {
            "person": Name(as_given=f"Aline {PLANTED}"),
            "wants": ("what-is-held", "copy"),
            "verified_by": "document",
            "checked_by": "Diane Ndayisenga",
            "language": "fr",
            **changes,
        }
    )


def of_a_child() -> Facts:
    """With everybody around her."""
    facts = referral(
        name=f"Aline {PLANTED}",
        lawful=Lawful(basis="vital-interests", author=AUTHOR, reason=f"Seule, la nuit ; {BROTHER} la cherche."),
        birth=Birth(precision="age", age_years=14, basis="estimated"),
        htcds={"vic_TraffickingStatus": "ActualVictimOfTrafficking", "prs_Gender": "Feminine"},
    )
    assert facts.referral is not None
    asked = facts.referral.model_copy(
        update={
            "caregiver": Caregiver(
                status="guardian", name=AUNT, relation="tante", best_interest_note="Reste avec sa tante."
            ),
            "risk": Risk(level="high", from_whom=BROTHER),
            "reason": f"Elle craint {BROTHER}.",
        }
    )
    return facts.model_copy(update={"referral": asked})


def sheltered(town: Agencies, facts: Facts | None = None) -> None:
    """IOM has referred her to the shelter, which has accepted her and sent her on to a clinic, which has too."""
    iom, shelter, clinic = town[IOM], town[SHELTER], town[CLINIC]
    iom.evt(iom.draft(SHELTER, "referral.requested", facts or referral(), person=HER))
    town.settle()
    [to_iom] = shelter.box.threads()
    shelter.evt(shelter.draft(IOM, "referral.accepted", said(), thread=to_iom.id, person=HERS_AT_SHELTER))
    onward = referral(services=("Health",)) if facts is None else replace_services(facts)
    shelter.evt(shelter.draft(CLINIC, "referral.requested", onward, person=HERS_AT_SHELTER))
    town.settle()
    [to_shelter] = clinic.box.threads()
    clinic.evt(clinic.draft(SHELTER, "referral.accepted", said(), thread=to_shelter.id))
    town.settle()
    town.wait(60)


def replace_services(facts: Facts) -> Facts:
    assert facts.referral is not None
    return facts.model_copy(update={"referral": facts.referral.model_copy(update={"services": ("Health",)})})


def waiting(member: Agency) -> Waiting:
    [one] = access(member).waiting(member.runner.inbox.opened)
    return one


def asked(member: Agency) -> list[Asked]:
    return access(member).asked(member.runner.inbox.opened)


def answered(town: Agencies, holder: str, **more: object) -> AccessAnswered:
    """The holder answers what waits there."""
    member = town[holder]
    one = waiting(member)
    found = access(member).holdings(one.person, one.about)
    text = copy_for_her(found, one.peer, member.runner.inbox.opened, "fr")
    access(member).answer(one.thread, answer_of(found, one.peer, text), one.person)
    town.settle()
    [mine] = [each for each in asked(town[one.peer]) if each.peer == holder]
    assert mine.answer is not None
    return mine.answer


# -- asked and answered -----------------------------------------------------------------------------------------------


def test_every_agency_that_knows_her_is_asked_and_finds_her_without_her_name(town: Agencies, tmp_path: Path) -> None:
    sheltered(town)
    assert [one.line for one in access(town[IOM]).ask(HER, request())] == [SHELTER]
    town.settle()
    one = waiting(town[SHELTER])
    assert (one.peer, one.person, one.said.checked_by) == (IOM, HERS_AT_SHELTER, "Diane Ndayisenga")
    answer = answered(town, SHELTER)
    assert answer.outcome == "answered"
    assert answer.onward == 1
    assert {each.record.rpartition("/")[0] for each in answer.held} == {IOM, SHELTER}
    assert len(answer.held) == 3  # what came from IOM, our word on it, what we sent on
    [mine] = asked(town[IOM])
    assert (mine.state, mine.sending) == ("answered", "delivered")
    assert access(town[SHELTER]).waiting(town[SHELTER].runner.inbox.opened) == []
    assert traces([PLANTED, "Diane Ndayisenga"], every_file(tmp_path)) == []


def test_of_what_came_from_a_third_agency_only_the_number_is_said(town: Agencies) -> None:
    sheltered(town)
    access(town[IOM]).ask(HER, request())
    town.settle()
    answer = answered(town, SHELTER)
    assert answer.copy_text is not None
    assert "1 enregistrement(s) venu(s) d'autres agences" in answer.copy_text
    assert CLINIC not in answer.model_dump_json()
    assert CLINIC.partition("/")[2] not in answer.model_dump_json()


def test_her_copy_holds_her_answers_and_nobody_else(town: Agencies) -> None:
    sheltered(town, of_a_child())
    access(town[IOM]).ask(HER, request())
    town.settle()
    text = answered(town, SHELTER).copy_text or ""
    for hers in (f"Nom : Aline {PLANTED}", "Naissance : 14 ans", "Genre : ", "traite établie"):
        assert hers in text
    for other in (AUTHOR, AUNT, BROTHER, "Aloys", "tante", "victime", "Victime"):
        assert other not in text
    assert "peuvent parler d'autres personnes" in text


def test_what_is_asked_and_not_answered_yet_is_not_asked_again(town: Agencies) -> None:
    sheltered(town)
    iom = access(town[IOM])
    [first] = iom.ask(HER, request())
    [second] = iom.ask(HER, request())
    assert (second.evt, second.again) == (first.evt, True)
    town.settle()
    answered(town, SHELTER)
    [third] = iom.ask(HER, request())
    assert third.evt != first.evt
    assert not third.again


def test_nobody_asks_without_saying_who_made_sure_that_it_is_she(town: Agencies) -> None:
    sheltered(town)
    with pytest.raises(PayloadError) as caught:
        access(town[IOM]).ask(HER, request(checked_by=None))
    assert caught.value.path == "checked_by"
    with pytest.raises(OrderError):
        access(town[IOM]).ask("DOSSIER-99", request())
    assert town[IOM].sent("access.requested") == []


def test_an_agency_that_may_not_be_asked_is_said_and_the_others_are_asked(town: Agencies) -> None:
    sheltered(town)
    shelter = access(town[SHELTER])  # protected: it never addresses the police
    found = {one.line: one.problem for one in shelter.ask(HERS_AT_SHELTER, request(), (IOM, POLICE))}
    assert found[IOM] is None
    refused = found[POLICE]
    assert refused is not None
    assert (refused.code, refused.path) == ("not_permitted", "firewall.law_enforcement")


def test_whoever_does_not_answer_in_time_is_to_be_telephoned(town: Agencies) -> None:
    sheltered(town)
    access(town[IOM]).ask(HER, request())
    town.settle()
    at_first = int(town.now)
    town.wait(29 * DAY)
    assert [one.kind for one in alarms(town[IOM].box, town.now) if one.kind != "telephone"] == []
    town.wait(2 * DAY)
    [late] = [one for one in alarms(town[IOM].box, town.now) if one.kind == "overdue"]
    assert (late.peer, late.due_at) == (SHELTER, at_first + 30 * DAY)
    town[IOM].watch()
    assert [one.kind for one in town[IOM].system.escalations] == ["overdue"]
    answered(town, SHELTER)
    assert [one for one in alarms(town[IOM].box, town.now) if one.kind == "overdue"] == []


def test_a_holder_that_keeps_her_waiting_is_told_itself_until_it_has_answered(town: Agencies) -> None:
    sheltered(town)
    access(town[IOM]).ask(HER, request())
    town.settle()
    shelter, at_first = town[SHELTER], int(town.now)

    def told() -> list[str]:
        shelter.watch()
        return [one.kind for one in shelter.system.escalations]

    town.wait(15 * DAY - 1)
    assert told() == []
    town.wait(1)
    assert told() == ["owed"]
    town.wait(15 * DAY)
    assert told() == told() == ["owed", "owed-overdue"]
    [late] = [one for one in alarms(shelter.box, town.now) if one.kind == "owed-overdue"]
    assert (late.peer, late.due_at) == (IOM, at_first + 30 * DAY)
    answered(town, SHELTER)
    assert [one for one in alarms(shelter.box, town.now) if one.kind.startswith("owed")] == []
    assert told() == told() == ["owed", "owed-overdue", "answered"]


def test_a_request_is_answered_once_and_only_by_whom_it_was_asked(town: Agencies) -> None:
    sheltered(town)
    access(town[IOM]).ask(HER, request())
    town.settle()
    thread = waiting(town[SHELTER]).thread
    with pytest.raises(OrderError):
        access(town[IOM]).answer(thread, AccessAnswered(outcome="nothing-held"))
    access(town[SHELTER]).answer(thread, AccessAnswered(outcome="not-verified"))
    with pytest.raises(OrderError):
        access(town[SHELTER]).answer(thread, AccessAnswered(outcome="nothing-held"))


def test_a_record_of_two_others_leads_nowhere(town: Agencies) -> None:
    """A member that has learnt the id of a record between others cannot ask by it."""
    sheltered(town)
    [between] = [item for item in town[CLINIC].inbox() if item.type == "referral.requested"]
    iom = town[IOM]
    facts = Facts(occurred_at=at(), said=request(record=between.ident))
    iom.evt(iom.draft(SHELTER, "access.requested", facts, person=HER))
    town.settle()
    one = waiting(town[SHELTER])
    assert (one.about, one.person) == (None, None)


# -- what is held -----------------------------------------------------------------------------------------------------


def test_what_was_erased_is_not_held_any_more(town: Agencies) -> None:
    sheltered(town)
    shelter = town[SHELTER]
    before = access(shelter).holdings(HERS_AT_SHELTER)
    RightsBook(shelter.box).erase(before.records[0].ident, SHELTER, "", int(town.now))
    after = access(shelter).holdings(HERS_AT_SHELTER)
    assert [one.ident for one in after.records] == [one.ident for one in before.records[1:]]


def test_an_investigation_is_counted_apart_and_never_named(town: Agencies) -> None:
    police = town[POLICE]
    lawful = Lawful(
        basis="legal-duty", legal_reference="Texte fictif du 1er janvier 2026", author=AUTHOR, reason="Dossier."
    )
    police.evt(police.draft(IOM, "case.identified", identified(), person="PV-4"))
    opened = Facts(occurred_at=at(), lawful=lawful, said=made.opened_file(opened_at=at()))
    police.evt(police.draft(COURT, "investigation.opened", opened, person="PV-4"))
    town.settle()
    found = access(police).holdings("PV-4")
    assert [one.type for one in found.records] == ["case.identified"]
    assert found.left_out == 1
    answer = answer_of(found, IOM)
    assert COURT not in answer.model_dump_json()
    assert answer.onward == 0


def test_what_the_same_agency_holds_about_somebody_else_is_not_hers(town: Agencies) -> None:
    sheltered(town)
    iom = town[IOM]
    iom.evt(iom.draft(SHELTER, "referral.requested", referral(name="Une autre"), person="DOSSIER-18"))
    town.settle()
    access(iom).ask(HER, request())
    town.settle()
    answer = answered(town, SHELTER)
    theirs = {item.evt for item in iom.box.outbox() if item.type == "referral.requested"}
    named = {each.record.rpartition("/")[2] for each in answer.held} & theirs
    assert len(named) == 1
    assert "Une autre" not in (answer.copy_text or "")


def holding(number: int, thread: str, sent: bool = True) -> Holding:
    evt = f"019a4960-7c00-7000-8000-{number:012x}"
    peer = IOM if number % 3 else CLINIC
    iss = SHELTER if sent else peer
    return Holding(f"{iss}/{evt}", thread, "referral.requested", peer, sent, NOW + number, NOW + number + DAY, None)


@given(st.lists(st.tuples(st.integers(0, 59), st.booleans()), max_size=150))
def test_however_much_is_held_one_answer_says_it_and_names_no_third_agency(rows: list[tuple[int, bool]]) -> None:
    records = tuple(holding(number, f"thread-{thread}", sent) for number, (thread, sent) in enumerate(rows))
    found = Holdings(records, (IOM, CLINIC, OTHER), 0)
    answer = answer_of(found, IOM)
    assert (answer.outcome == "nothing-held") == (not records)
    assert len(answer.held) <= MOST_HELD
    assert not any(each.record.startswith(f"{CLINIC}/") for each in answer.held)
    named = {one.ident for one in records if one.sent or one.peer == IOM}
    assert {each.record for each in answer.held} <= named
    assert bool(answer.held) == bool(named)
    assert from_others(found, IOM) + len(named) == len(records)
    if records:
        assert answer.onward == 2


# -- her sheet --------------------------------------------------------------------------------------------------------


def sheet_with(answer: AccessAnswered | None, asked_at: int = NOW, now: int = NOW) -> Sheet:
    answered_at = None if answer is None else asked_at + DAY
    one = Asked("t", SHELTER, HER, asked_at, due_at(asked_at), "requested", "delivered", answered_at, answer)
    late = answer is None and one.due_at <= now
    return Sheet("OIM (inventée)", now, Holdings((), (), 0), (Answer("Maison", one, late),))


def test_the_time_for_an_answer_stands_in_the_policy_and_its_end_on_her_sheet() -> None:
    assert due_at(NOW) == NOW + 30 * DAY
    early = access_sheet.html(sheet_with(None, now=NOW + 29 * DAY), UTC, "fr")
    assert "Pas encore de réponse ; attendue avant le 25 nov. 2026." in html.unescape(early)
    late = access_sheet.html(sheet_with(None, now=NOW + 31 * DAY), UTC, "en")
    assert "No answer; it was expected by 25 Nov. 2026" in html.unescape(late)


@given(st.text(min_size=1, max_size=200))
def test_whatever_an_agency_wrote_is_text_on_her_sheet(text: str) -> None:
    answer = AccessAnswered.model_construct(outcome="answered", held=(), onward=0, copy_text=text, legal_reference=None)
    sheet = sheet_with(answer)
    assert html.escape(text) in access_sheet.html(sheet, UTC, "fr")
    assert json.loads(access_sheet.json_text(sheet))["answers"][0]["words"] == text
    cell = access_sheet.csv_text(sheet, UTC, "fr").decode("utf-8-sig").partition("\r\n")[2]
    assert not any(part.startswith(("=", "+", "@")) for part in cell.split(";"))


@pytest.mark.parametrize("outcome", ["answered", "nothing-held", "not-verified", "restricted"])
def test_she_is_a_person_on_every_sheet_in_both_languages(outcome: str) -> None:
    held = (Held(record=f"{SHELTER}/019a4960-7c00-7000-8000-000000000001", since=at(), until=at(DAY)),)
    answer = AccessAnswered.model_validate(
        {
            "outcome": outcome,
            "held": held if outcome == "answered" else (),
            "legal_reference": "Texte fictif du 1er janvier 2026" if outcome == "restricted" else None,
        }
    )
    for language in ("fr", "en"):
        page = access_sheet.html(sheet_with(answer), UTC, "fr" if language == "fr" else "en")
        assert "ictim" not in page
        assert "trafic" not in page
        table = access_sheet.csv_text(sheet_with(answer), UTC, "fr").decode("utf-8-sig")
        assert len(table.splitlines()) == 2


def test_a_long_copy_says_that_there_is_more(town: Agencies) -> None:
    sheltered(town)
    shelter = town[SHELTER]
    found = access(shelter).holdings(HERS_AT_SHELTER)
    long = shelter.runner.inbox.opened(next(one.item for one in found.records if one.item is not None))
    assert long.facts.referral is not None
    wordy = long.facts.referral.model_copy(update={"name": Name.model_construct(as_given="x" * 7850)})
    opened = replace(long, facts=long.facts.model_copy(update={"referral": wordy}))
    text = copy_for_her(found, IOM, lambda _item: opened, "fr") or ""
    assert len(text) <= access_sheet.MOST_TEXT
    assert text.endswith("La suite vous sera lue sur place.")


def test_nothing_of_her_stands_in_any_file(town: Agencies, tmp_path: Path) -> None:
    sheltered(town)
    access(town[IOM]).ask(HER, request(note=f"Elle s'appelle Aline {PLANTED}."))
    town.settle()
    answered(town, SHELTER)
    assert PLANTED.encode() not in bytes_of(tmp_path)
