# SPDX-License-Identifier: Apache-2.0
"""The directory at work: one yes for one place, whatever the order and wherever it crashes; no name is ever asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.connectors.contract import Arrived, NotNowError
from adapters.directory import Directory, DirectoryDesk, service_of
from adapters.directory_book import Asked
from schemas.errors import OrderError, PayloadError
from schemas.forms import Facts
from schemas.plain.alert import AlertCleared, SafetyWarning
from schemas.plain.directory import AvailabilityAsked, ServicePublished
from schemas.registry import Role
from tests.agencies import PLANTED, Agencies, Agency, InMemory, at, bytes_of, identified, referral, said
from topics.policy_file import policy
from umuhuza.examples import samples_directory as made

HOLD_S = policy().places.hold_s
IOM, MINISTRY, SHELTER, SHELTER2, POLICE = "bi/iom", "bi/min-solidarity", "bi/k7t4", "bi/r5w2", "bi/police"


def service(**changes: object) -> ServicePublished:
    return ServicePublished.model_validate(
        {
            "entry": "nuit",
            "name": "Hébergement de nuit",
            "types": ("SocialCare",),
            "local": "hebergement",
            "ages": ("adult",),
            "sexes": ("female",),
            "telephone": "+257 79 00 00 00",
            "valid_until": at(90 * 86_400),
            **changes,
        }
    )


def question(**changes: object) -> AvailabilityAsked:
    return AvailabilityAsked.model_validate(
        {
            "service": "SocialCare",
            "local": "hebergement",
            "age": "adult",
            "sex": "female",
            "needed_from": at(),
            **changes,
        }
    )


class Town(Agencies):
    """Every agency with the directory's desk before its own system."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.domain.members:
            self.again(name)

    def __enter__(self) -> Self:
        return self

    def again(self, agency: str) -> Agency:
        """Stopped, and started on its mailbox file."""
        member = self.open(agency)
        member.runner.connectors = [DirectoryDesk(member.runner.desk), member.system]
        return member

    def directory(self, agency: str) -> Directory:
        return Directory(self[agency].runner.desk)

    def publish(self, agency: str, places: int | None, **changes: object) -> list[str]:
        told = self.directory(agency).publish(service(**changes), places)
        self.settle()
        return told

    def ask(self, agency: str, **changes: object) -> list[Asked]:
        directory = self.directory(agency)
        name, outcomes = directory.ask(question(**changes))
        assert all(one.problem is None for one in outcomes)
        return [one for one in directory.book.asks() if one.ask == name]

    def states(self, agency: str) -> dict[str, str]:
        """Peer -> where the last question to it stands."""
        directory = self.directory(agency)
        return {one.peer: directory.state(one) for one in directory.book.asks()}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with Town(tmp_path) as agencies:
        yield agencies


# -- services ----------------------------------------------------------------------------------------------------------


def test_what_a_shelter_publishes_is_listed_by_all_but_the_police_and_not_its_number_of_places(town: Town) -> None:
    told = town.publish(SHELTER, 2)
    assert POLICE not in told
    for name in (IOM, MINISTRY, SHELTER2):
        [listed] = town.directory(name).book.listings(town.now)
        assert listed.agency == SHELTER
        assert listed.said.capacity is not None
        assert listed.said.capacity.band == "few"
    assert town.directory(POLICE).book.listings(town.now) == []
    assert town.directory(SHELTER).book.services()[0].places == 2


def test_a_member_without_a_key_to_seal_to_keeps_nobody_from_hearing(town: Town) -> None:
    registry = town.domain.registry
    operator = registry.agency("bi/operator")
    only_signs = replace(operator, keys=tuple(key for key in operator.keys if key.use == "sig"))
    town.domain.registry = registry.with_agency(only_signs, int(town.now))
    told = town.publish(SHELTER, 2)
    assert IOM in told
    assert "bi/operator" not in told


def test_an_unprotected_provider_is_listed_by_the_police_who_may_ask_for_nothing(town: Town) -> None:
    town.publish(MINISTRY, 3)
    assert [one.agency for one in town.directory(POLICE).book.listings(town.now)] == [MINISTRY]
    outcome = town[POLICE].draft(MINISTRY, "availability.asked", Facts(occurred_at=at(), said=question()))
    assert outcome.problem is not None
    assert outcome.problem.code == "not_permitted"


def test_a_later_word_replaces_the_earlier_one_on_the_same_thread_and_a_withdrawn_service_is_listed_no_more(
    town: Town,
) -> None:
    town.publish(SHELTER, 2)
    town.publish(SHELTER, 0)
    [listed] = town.directory(IOM).book.listings(town.now)
    assert listed.said.capacity is not None
    assert listed.said.capacity.band == "none"
    assert len({item.thread for item in town[IOM].inbox() if item.type == "service.published"}) == 1
    town.publish(SHELTER, 2, withdrawn=True)
    assert town.directory(IOM).book.listings(town.now) == []


def test_what_was_valid_until_yesterday_is_listed_no_more(town: Town) -> None:
    town.publish(SHELTER, 2, valid_until=at(3600))
    assert town.directory(IOM).book.listings(town.now)
    town.wait(3601)
    assert town.directory(IOM).book.listings(town.now) == []
    assert town.ask(IOM) == []


def test_a_service_file_says_places_or_not_and_never_how_full_it_is() -> None:
    assert service_of({"entry": "nuit", "places": 4}) == ({"entry": "nuit"}, 4)
    assert service_of({"entry": "nuit"}) == ({"entry": "nuit"}, None)
    for wrong in ({"places": -1}, {"places": "4"}, {"places": True}, {"capacity": {"band": "few"}}):
        with pytest.raises(PayloadError):
            service_of(dict(wrong))


# -- a place -----------------------------------------------------------------------------------------------------------


def test_a_place_is_asked_of_every_provider_of_that_service_and_of_no_other(town: Town) -> None:
    town.publish(SHELTER, 1)
    town.publish(SHELTER2, 1, ages=("child",))
    town.publish(MINISTRY, 1, local="ecoute")
    assert [one.peer for one in town.ask(IOM)] == [SHELTER]
    assert [one.peer for one in town.ask(IOM, age="child")] == [SHELTER2]
    assert {one.peer for one in town.ask(IOM, local=None)} == {SHELTER, MINISTRY}


def test_two_say_yes_one_is_taken_and_the_other_is_released_and_free_again(town: Town) -> None:
    town.publish(SHELTER, 1)
    town.publish(SHELTER2, 1)
    asked = {one.peer: one for one in town.ask(IOM)}
    town.settle()
    assert town.states(IOM) == {SHELTER: "offered", SHELTER2: "offered"}
    assert town.directory(IOM).take(asked[SHELTER].thread) == [SHELTER2]
    town.settle()
    assert town.states(IOM) == {SHELTER: "held", SHELTER2: "released"}
    for name, state, free in ((SHELTER, "held", 0), (SHELTER2, "released", 1)):
        book = town.directory(name).book
        assert [one.state for one in book.reservations()] == [state]
        assert book.free(book.services()[0]) == free


def test_a_question_is_told_as_answered_only_with_what_the_answer_says(town: Town) -> None:
    town.publish(SHELTER, 1)
    [asked] = town.ask(IOM)
    town.settle((IOM,))
    town.settle((SHELTER,))
    town[IOM].receive()  # and the lights go out
    directory = town.directory(IOM)
    assert (directory.state(asked), directory.told(asked)) == ("offered", "asked")
    town.again(IOM)
    town.settle()
    [asked] = town.directory(IOM).book.asks()
    assert town.directory(IOM).told(asked) == "offered"
    assert asked.hold_until == town.now + HOLD_S


def test_who_does_not_answer_is_released_with_the_others_and_answers_nobody(town: Town) -> None:
    town.publish(SHELTER, 1)
    town.publish(SHELTER2, 1)
    asked = {one.peer: one for one in town.ask(IOM)}
    awake = (IOM, SHELTER)
    town.settle(awake)
    assert town.states(IOM) == {SHELTER: "offered", SHELTER2: "asked"}
    town.directory(IOM).take(asked[SHELTER].thread)
    town.settle()
    assert town.states(IOM) == {SHELTER: "held", SHELTER2: "released"}
    book = town.directory(SHELTER2).book
    assert book.free(book.services()[0]) == 1


def test_a_full_house_says_no_and_why(town: Town) -> None:
    town.publish(SHELTER, 0)
    town.ask(IOM)
    town.settle()
    [asked] = town.directory(IOM).book.asks()
    assert (town.states(IOM), asked.reason, asked.hold_until) == ({SHELTER: "refused"}, "full", None)
    with pytest.raises(OrderError):
        town.directory(IOM).take(asked.thread)


def test_a_family_needs_all_its_places_at_once(town: Town) -> None:
    town.publish(SHELTER, 2)
    town.ask(IOM, count=3)
    town.settle()
    assert town.states(IOM) == {SHELTER: "refused"}
    town.ask(IOM, count=2)
    town.settle()
    assert town.states(IOM) == {SHELTER: "offered"}


def test_what_nobody_counts_is_left_to_people(town: Town) -> None:
    town.publish(SHELTER, None)
    town.ask(IOM)
    town.settle()
    assert town.states(IOM) == {SHELTER: "asked"}
    assert "availability.asked" in town[SHELTER].system.types


def test_an_offer_that_was_not_taken_in_time_goes_to_whoever_asks_next_and_not_before(town: Town) -> None:
    town.publish(SHELTER, 1)
    [first] = town.ask(IOM)
    town.settle()
    town.wait(HOLD_S - 1)
    town.ask(MINISTRY)
    town.settle()
    assert town.states(MINISTRY) == {SHELTER: "refused"}
    town.wait(2)
    [second] = town.ask(MINISTRY)
    town.settle()
    assert town.directory(MINISTRY).state(second) == "offered"
    # The first asker comes too late: told so, and nobody is sent to a bed that is gone.
    town.directory(IOM).take(first.thread)
    town.settle()
    assert town.states(IOM) == {SHELTER: "released"}
    assert town[IOM].system.types.count("availability.released") == 1
    town.directory(MINISTRY).take(second.thread)
    town.settle()
    assert town.directory(MINISTRY).state(second) == "held"


def test_an_offer_taken_late_stands_while_nobody_else_has_the_place(town: Town) -> None:
    town.publish(SHELTER, 1)
    [asked] = town.ask(IOM)
    town.settle()
    town.wait(HOLD_S + 3600)
    town.directory(IOM).take(asked.thread)
    town.settle()
    assert town.states(IOM) == {SHELTER: "held"}
    town.ask(MINISTRY)
    town.settle()
    assert town.states(MINISTRY) == {SHELTER: "refused"}


def test_a_shelter_that_was_without_power_for_three_days_keeps_its_yes_from_the_moment_it_says_it(town: Town) -> None:
    town.publish(SHELTER, 1)
    town.ask(IOM)
    town.settle((IOM,))
    town.wait(3 * 86_400)
    town.settle()
    [asked] = town.directory(IOM).book.asks()
    assert asked.hold_until == int(town.now) + HOLD_S


def test_whoever_publishes_anew_has_counted_what_is_promised(town: Town) -> None:
    town.publish(SHELTER, 2)
    town.ask(IOM)
    town.settle()
    town.publish(SHELTER, 1)  # of two, one is promised
    town.ask(MINISTRY)
    town.settle()
    assert town.states(MINISTRY) == {SHELTER: "offered"}
    [first, _] = town.directory(SHELTER).book.reservations()
    town.directory(IOM).take(first.thread)
    town.settle()
    assert town.states(IOM) == {SHELTER: "held"}


def test_an_asker_that_needs_it_no_more_releases_what_it_took(town: Town) -> None:
    town.publish(SHELTER, 1)
    [asked] = town.ask(IOM)
    town.settle()
    town.directory(IOM).take(asked.thread)
    assert town.directory(IOM).release(asked.ask) == [SHELTER]
    town.settle()
    town.ask(MINISTRY)
    town.settle()
    assert town.states(MINISTRY) == {SHELTER: "offered"}
    with pytest.raises(OrderError):
        town.directory(IOM).release("none-such")


def test_a_workbook_open_in_a_program_does_not_change_whose_question_comes_first(town: Town) -> None:
    town.publish(SHELTER, 1)
    shelter = town[SHELTER]
    town.ask(IOM)
    town.settle((IOM,))
    town.ask(MINISTRY)
    town.settle((MINISTRY,))
    refused: list[str] = []

    def busy(arrived: Arrived) -> None:
        if arrived.iss == IOM and not refused:
            refused.append(arrived.ident)
            raise NotNowError

    shelter.system.before_deliver = busy
    shelter.receive()
    shelter.deliver()
    town.wait(60)
    town.settle()
    assert refused
    assert (town.states(IOM), town.states(MINISTRY)) == ({SHELTER: "offered"}, {SHELTER: "refused"})


# -- a yes that nobody takes -------------------------------------------------------------------------------------------


def kept(town: Town) -> float:
    """Seconds for which the last yes of the shelter keeps its place, from now."""
    until = town.directory(IOM).book.asks()[-1].hold_until
    assert until is not None
    return until - town.now


def ask_shelter(town: Town, **changes: object) -> Asked:
    [one] = town.ask(IOM, **changes)
    town.settle((IOM, SHELTER))
    return one


def test_who_asks_again_and_again_and_takes_nothing_keeps_a_bed_from_others_for_eight_hours_a_day_at_most(
    town: Town,
) -> None:
    town.publish(SHELTER, 1)
    hours = []
    for _ in range(8):
        ask_shelter(town)
        hours.append(kept(town) / 3600)
        town.wait(4 * 3600)
    assert hours == [4, 4, 0, 0, 0, 0, 0, 4]


def test_a_yes_that_keeps_nothing_is_still_a_yes_for_whoever_takes_it_first(town: Town) -> None:
    town.publish(SHELTER, 3)
    third = [ask_shelter(town) for _ in range(3)][-1]
    until = [one.hold_until for one in town.directory(IOM).book.asks()]
    assert until == [int(town.now) + HOLD_S] * 2 + [int(town.now)]
    book = town.directory(SHELTER).book
    assert book.free(book.services()[0]) == 1
    town.directory(IOM).take(third.thread)
    town.settle((IOM, SHELTER))
    assert town.directory(IOM).state(third) == "held"
    assert book.free(book.services()[0]) == 0


def test_places_that_are_taken_or_released_soon_leave_their_asker_room_for_the_next_night(town: Town) -> None:
    town.publish(SHELTER, 20)
    for number in range(4):
        one = ask_shelter(town)
        assert kept(town) == HOLD_S, number
        town.wait(600)
        if number % 2:
            town.directory(IOM).take(one.thread)
        else:
            town.directory(IOM).release(one.thread)
        town.settle((IOM, SHELTER))


def test_many_places_at_once_are_kept_for_less_time_and_another_asker_for_all_of_it(town: Town) -> None:
    town.publish(SHELTER, 20)
    ask_shelter(town, count=4)
    assert kept(town) == 2 * 3600
    town.ask(MINISTRY)
    town.settle((MINISTRY, SHELTER))
    [asked] = town.directory(MINISTRY).book.asks()
    assert asked.hold_until == int(town.now) + HOLD_S


# -- one yes for one place, in any order, whatever crashes -------------------------------------------------------------


class PowerCutError(BaseException):
    """The process is gone."""


@contextmanager
def dies_after(member: Agency, steps: int) -> Iterator[None]:
    """The adapter dies after so many durable steps."""
    left = steps

    def step(_name: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerCutError

    member.runner.step = step
    try:
        yield
    except PowerCutError:
        return
    finally:
        member.runner.step = lambda _name: None


_ASKERS = (IOM, MINISTRY, SHELTER2)
_MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(_ASKERS)),
        st.tuples(st.just("take"), st.sampled_from(_ASKERS)),
        st.tuples(st.just("release"), st.sampled_from(_ASKERS)),
        st.tuples(st.just("settle"), st.sampled_from((*_ASKERS, SHELTER))),
        st.tuples(st.just("crash"), st.integers(0, 4)),
        st.tuples(st.just("wait"), st.sampled_from((60, HOLD_S // 2, HOLD_S + 1))),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_MOVES, st.integers(1, 2))
def test_never_more_places_are_promised_than_there_are(moves: list[tuple[str, object]], places: int) -> None:
    with TemporaryDirectory() as folder, Town(Path(folder)) as town:
        town.publish(SHELTER, places)
        for what, which in moves:
            if what == "wait":
                town.wait(float(str(which)))
            elif what == "crash":
                member = town[SHELTER]
                member.receive()
                with dies_after(member, int(str(which))):
                    member.deliver()
                    member.send()
                town.again(SHELTER)
            elif what == "settle":
                town.settle((str(which),))
            else:
                _move(town, what, str(which))
            _at_most(town, places)
        town.settle()
        town.wait(900)
        town.settle()
        _at_most(town, places)
        held = sum(town.states(name).get(SHELTER) == "held" for name in _ASKERS)
        ours = [one for one in town.directory(SHELTER).book.reservations() if one.state == "held"]
        assert held <= len(ours) <= places


def _move(town: Town, what: str, name: str) -> None:
    directory = town.directory(name)
    if what == "ask":
        directory.ask(question())
        return
    for one in directory.book.asks():
        if what == "take" and directory.state(one) == "offered":
            directory.take(one.thread)
            return
        if what == "release" and directory.state(one) in ("asked", "offered", "held"):
            directory.release(one.thread)
            return


def _at_most(town: Town, places: int) -> None:
    book = town.directory(SHELTER).book
    promised = [one for one in book.reservations() if one.state in ("offered", "held")]
    assert sum(one.places for one in promised) <= places
    assert book.free(book.services()[0]) == places - len(promised)


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("order", [(IOM, MINISTRY), (MINISTRY, IOM)])
def test_two_askers_of_one_place_get_exactly_one_yes_wherever_the_shelter_dies(
    town: Town, order: tuple[str, str], steps: int
) -> None:
    town.publish(SHELTER, 1)
    for name in order:
        town.ask(name)
        town.settle((name,))
    shelter = town[SHELTER]
    with dies_after(shelter, steps):
        shelter.receive()
        shelter.deliver()
        shelter.send()
    town.again(SHELTER)
    town.settle()
    states = [town.states(name)[SHELTER] for name in order]
    assert states == ["offered", "refused"]
    assert len(town[SHELTER].sent("availability.answered")) == 2


# -- warnings ----------------------------------------------------------------------------------------------------------


def warn(town: Town, about: str | None) -> None:
    said_now = SafetyWarning(danger="suspect-released", since=at(), about=about, telephone="+257 22 00 00 00")
    town[POLICE].evt(town[POLICE].draft(IOM, "safety.warning", Facts(occurred_at=at(), said=said_now)))
    town.settle()


def taken_over(town: Town) -> str:
    """Police identify, IOM links the case and refers her to two shelters, one of which declines. The police's event."""
    case = town[POLICE].evt(town[POLICE].draft(IOM, "case.identified", identified()))
    town.settle()
    thread = town[IOM].system.arrived[-1].thread
    known = town[IOM].box.thread(thread)
    assert known is not None
    town[IOM].box.put_thread(replace(known, person="dossier-1"), int(town.now))
    for shelter, answer in ((SHELTER, "referral.accepted"), (SHELTER2, "referral.declined")):
        town[IOM].evt(town[IOM].draft(shelter, "referral.requested", referral(), person="dossier-1"))
        town.settle()
        facts = said() if answer == "referral.accepted" else said(reason="no-capacity")
        town[shelter].evt(town[shelter].draft(IOM, answer, facts, thread=town[shelter].system.arrived[-1].thread))
        town.settle()
    return case


def test_a_warning_to_who_took_over_reaches_who_holds_her_now_and_tells_the_police_nothing(town: Town) -> None:
    case = taken_over(town)
    warn(town, case)
    [arrived] = [one for one in town[SHELTER].system.arrived if one.type == "safety.warning"]
    assert arrived.iss == IOM
    assert isinstance(arrived.facts.said, SafetyWarning)
    assert arrived.facts.said.danger == "suspect-released"
    [request] = town[IOM].sent("referral.requested")[:1]
    assert arrived.facts.said.about == request.evt  # IOM's own event: not the police's
    assert "safety.warning" not in town[SHELTER2].system.types
    assert "safety.warning" in town[IOM].system.types
    assert {item.type for item in town[POLICE].inbox()} <= {"receipt.delivered", "receipt.rejected"}


def test_a_warning_that_names_nobody_we_know_stays_with_people(town: Town) -> None:
    taken_over(town)
    warn(town, None)
    warn(town, "019a4960-7c00-7000-8000-000000000009")
    assert town[IOM].system.types.count("safety.warning") == 2
    assert town[IOM].sent("safety.warning") == []


def test_a_warning_is_relayed_once_however_often_it_is_handed_over(town: Town) -> None:
    case = taken_over(town)
    iom = town[IOM]
    times: list[str] = []

    def busy(arrived: Arrived) -> None:
        if arrived.type == "safety.warning" and len(times) < 2:
            times.append(arrived.ident)
            raise NotNowError

    iom.system.before_deliver = busy
    warn(town, case)
    for _ in range(3):
        town.wait(900)
        town.settle()
    assert len(times) == 2
    assert len(iom.sent("safety.warning")) == 1


def test_when_the_search_is_over_what_was_told_of_her_can_be_opened_no_more(town: Town) -> None:
    shelter, iom = town[SHELTER], town[IOM]
    facts = Facts(occurred_at=at(), said=made.missing(), lawful=made.DANGER)
    evt = shelter.evt(shelter.draft(IOM, "alert.missing", facts))
    referred = shelter.evt(shelter.draft(IOM, "referral.requested", referral()))
    town.settle()
    [alert] = [one for one in iom.system.arrived if one.type == "alert.missing"]
    own = [one.thread for one in shelter.box.outbox() if one.evt == evt]
    too_much = AlertCleared(outcome="found-safe", erases=(evt, referred))
    refused = shelter.draft(IOM, "alert.cleared", Facts(occurred_at=at(), said=too_much), thread=own[0])
    assert refused.problem is not None
    assert refused.problem.code == "thread_unknown"
    over = AlertCleared(outcome="found-safe", erases=(evt,))
    shelter.evt(shelter.draft(IOM, "alert.cleared", Facts(occurred_at=at(), said=over), thread=own[0]))
    town.settle()
    grants = {item.evt: item.grant_value for item in iom.inbox() if item.evt in (evt, referred)}
    assert grants[evt] is None
    assert grants[referred] is not None  # no alert: not its to erase
    assert "alert.cleared" in iom.system.types
    assert alert.state == "missing"


def test_a_place_is_asked_for_and_taken_without_any_name_on_the_way(town: Town, tmp_path: Path) -> None:
    """The planted name stands in no file: there was nowhere to write it."""
    town.publish(SHELTER, 1)
    [asked] = town.ask(IOM)
    town.settle()
    town.directory(IOM).take(asked.thread)
    town.settle()
    assert PLANTED.encode() not in bytes_of(tmp_path)
    for name in (IOM, SHELTER):
        assert town[name].box.query("SELECT count(*) FROM person") == [(0,)]


def test_agencies_of_every_role_have_the_desk_and_it_brings_nothing_of_its_own(town: Town) -> None:
    role: Role = "operator"
    assert role in town.domain.registry.agency("bi/operator").roles
    town.publish(SHELTER, 1)
    assert town["bi/operator"].collect() == 0
    assert [one.agency for one in town.directory("bi/operator").book.listings(town.now)] == [SHELTER]
    assert isinstance(town["bi/operator"].system, InMemory)
