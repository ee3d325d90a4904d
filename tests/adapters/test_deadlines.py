# SPDX-License-Identifier: Apache-2.0
"""Deadlines: nobody waits in silence, nothing answered in time expires, and both ends know one truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import deadlines
from adapters.connectors.contract import Escalation, NotNowError
from adapters.deadlines import AGAIN_AFTER_S, SLACK_S, Alarm
from adapters.runner import Runner
from schemas import lifecycle
from schemas.errors import LogError, PolicyError
from schemas.forms import Consent, Facts, Lawful, Movement, Priority
from schemas.plain.transfer import ReturnCounselled, TransferAccepted
from tests.agencies import PLANTED, Agencies, Agency, Gate, at, bytes_of, consented, referral, said
from tests.domain import MEMBERS, NOW
from topics.log import Ends, Entry
from umuhuza.examples import samples_transfer as made
from umuhuza.overdue import alarm_words

IOM, SHELTER, FOCAL = "bi/iom", "bi/k7t4", "bi/ccsprtp"
COUNSELLED = ReturnCounselled(decision="wishes-to-return")
HOUR = 3600
URGENT = 72 * HOUR
FORTNIGHT = 14 * 24 * HOUR


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def ask(town: Agencies, priority: Priority = "urgent") -> str:
    """A referral that has arrived; its thread."""
    iom = town[IOM]
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral(priority=priority)))
    town.settle()
    return iom.outgoing(evt).thread


def state(agency: Agency, thread: str) -> str:
    found = agency.box.thread(thread)
    assert found is not None
    return found.state


def states(town: Agencies, thread: str) -> tuple[str, str]:
    return state(town[IOM], thread), state(town[SHELTER], thread)


def kinds(agency: Agency) -> list[str]:
    return [one.kind for one in agency.system.escalations]


def standing(agency: Agency) -> list[str]:
    return [alarm.kind for alarm in agency.runner.deadlines.alarms()]


# -- not before its time -----------------------------------------------------------------------------------------------


def test_nobody_ends_by_hand_what_may_still_be_answered(town: Agencies) -> None:
    thread, iom = ask(town), town[IOM]
    for seconds in (0, URGENT):
        town.wait(seconds)
        outcome = iom.draft(SHELTER, "referral.expired", said(), thread=thread)
        assert outcome.problem is not None
        assert (outcome.problem.code, outcome.problem.path) == ("transition_invalid", "answer_by")
    assert states(town, thread) == ("requested", "requested")
    town.wait(1)
    assert iom.draft(SHELTER, "referral.expired", said(), thread=thread).problem is None
    town.settle()
    assert states(town, thread) == ("expired", "expired")


def test_an_expiry_that_the_log_had_before_its_time_is_turned_away_and_the_answer_counts(town: Agencies) -> None:
    """Another program ends it early: the reader's adapter goes by the log's time."""
    thread = ask(town)
    shelter = town[SHELTER]
    early = town.seal(IOM, SHELTER, "referral.expired", said(), thread=thread, seq=9, prev="A" * 43, chain=False)
    town.put(early)
    town.settle()
    [item] = [one for one in shelter.inbox() if one.evt == early.manifest.evt]
    assert (item.state, item.code, item.path) == ("quarantined", "transition_invalid", "L1.answer_by")
    assert state(shelter, thread) == "requested"
    [told] = shelter.sent("receipt.rejected")
    assert told.ref == early.manifest.evt
    assert shelter.draft(IOM, "referral.accepted", said(), thread=thread).problem is None


# -- a transfer --------------------------------------------------------------------------------------------------------


def transfer(town: Agencies) -> str:
    iom = town[IOM]
    consent = Consent(given_at=at(-7200), expires_at=at(86_400 * 90), scope=("return",))
    facts = made.transfer().model_copy(update={"lawful": Lawful(basis="consent", consent=consent)})
    evt = iom.evt(iom.draft(FOCAL, "transfer.requested", facts, person="case-9"))
    town.settle()
    return iom.outgoing(evt).thread


@pytest.fixture
def border(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agencies]:
    monkeypatch.setitem(MEMBERS, FOCAL, ("Point focal (inventé)", ("focal-point",), False))
    with Agencies(tmp_path) as agencies:
        yield agencies


def test_a_transfer_that_nobody_answers_expires_as_a_referral_does(border: Agencies) -> None:
    thread = transfer(border)
    border.wait(FORTNIGHT + HOUR)
    border[IOM].watch()
    border.settle()
    assert [state(border[one], thread) for one in (IOM, FOCAL)] == ["expired", "expired"]
    assert border[FOCAL].system.types == ["transfer.requested", "transfer.expired"]


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_transfer_accepted_too_late_waits_for_who_asked(border: Agencies, confirmed: bool) -> None:
    thread = transfer(border)
    focal, iom = border[FOCAL], border[IOM]
    border.wait(FORTNIGHT + HOUR)
    accepted = Facts(occurred_at=at(), said=TransferAccepted())
    focal.evt(focal.draft(IOM, "transfer.accepted", accepted, thread=thread))
    border.settle()
    iom.watch()
    border.settle()
    assert [state(border[one], thread) for one in (IOM, FOCAL)] == ["late-acceptance"] * 2
    assert "late-acceptance" in kinds(iom)
    refused = iom.draft(FOCAL, "return.counselled", Facts(occurred_at=at(), said=COUNSELLED), thread=thread)
    assert refused.problem is not None
    if confirmed:
        iom.evt(iom.draft(FOCAL, "transfer.reopened", said(), thread=thread))
    else:
        iom.runner.inbox.corrections.retract(iom.sent("transfer.requested")[0].evt, "sent-by-mistake")
    border.settle()
    after = "accepted" if confirmed else "retracted"
    assert [state(border[one], thread) for one in (IOM, FOCAL)] == [after, after]


# -- nobody answers ----------------------------------------------------------------------------------------------------


def test_at_half_of_the_time_and_at_its_end_somebody_is_told_once(town: Agencies) -> None:
    iom, thread = town[IOM], ask(town)
    town.wait(URGENT / 2 - 1)
    iom.watch()
    assert kinds(iom) == []
    town.wait(1)
    iom.watch()
    iom.watch()
    assert kinds(iom) == ["half"]
    town.wait(URGENT / 2)
    iom.watch()
    assert state(iom, thread) == "requested"  # the clocks of gateway and log may differ a little
    town.wait(SLACK_S)
    assert iom.watch() == 1
    assert iom.watch() == 0
    assert kinds(iom) == ["half", "overdue"]
    [expired] = iom.sent("referral.expired")
    town.settle()
    assert states(town, thread) == ("expired", "expired")
    assert town[SHELTER].system.types == ["referral.requested", "referral.expired"]
    assert iom.outgoing(expired.evt).state == "delivered"
    assert standing(iom) == []


@pytest.mark.parametrize(("priority", "hours"), [("immediate", 2), ("emergency", 24), ("urgent", 72), ("normal", 336)])
def test_the_time_for_an_answer_is_the_prioritys(town: Agencies, priority: Priority, hours: int) -> None:
    iom, thread = town[IOM], ask(town, priority)
    town.wait(hours * HOUR)
    iom.watch()
    assert state(iom, thread) == "requested"
    town.wait(SLACK_S)
    iom.watch()
    assert state(iom, thread) == "expired"


def test_who_was_received_by_a_person_and_not_answered_expires_too(town: Agencies) -> None:
    thread = ask(town)
    town[SHELTER].draft(IOM, "referral.received", said(), thread=thread)
    town.settle()
    town.wait(URGENT + SLACK_S)
    town[IOM].watch()
    town.settle()
    assert states(town, thread) == ("expired", "expired")


def test_after_three_days_offline_it_expires_once_and_half_is_not_told_any_more(town: Agencies) -> None:
    thread = ask(town)
    town.wait(URGENT + SLACK_S)
    iom = town.open(IOM)
    iom.watch()
    assert kinds(iom) == ["overdue"]
    iom = town.open(IOM)
    iom.watch()
    town.settle()
    assert len(iom.sent("referral.expired")) == 1
    assert states(town, thread) == ("expired", "expired")


class Died(BaseException):
    pass


@pytest.mark.parametrize("dies_at", ["escalated", "told", "expired"])
def test_who_dies_in_between_does_it_once(town: Agencies, dies_at: str) -> None:
    thread = ask(town)
    town.wait(URGENT + SLACK_S)
    iom = town[IOM]

    def step(name: str) -> None:
        if name == dies_at:
            raise Died

    def dies(_escalation: Escalation) -> None:
        if dies_at == "told":
            raise Died

    iom.runner.step = step
    iom.system.before_escalated = dies
    with pytest.raises(Died):
        iom.watch()
    iom = town.open(IOM)
    iom.system.before_escalated = lambda _escalation: None
    iom.watch()
    iom.watch()
    town.settle()
    assert kinds(iom) == ["overdue"]
    assert len(iom.sent("referral.expired")) == 1
    assert states(town, thread) == ("expired", "expired")


def test_a_request_that_has_not_left_yet_does_not_expire_but_is_escalated(town: Agencies) -> None:
    iom = town[IOM]
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    town.wait(URGENT + SLACK_S)
    assert iom.watch() == 0
    assert kinds(iom) == ["overdue"]
    town.settle()
    assert iom.watch() == 1
    assert state(iom, iom.outgoing(evt).thread) == "expired"


def test_what_is_told_names_nobody(town: Agencies) -> None:
    ask(town)
    town.wait(URGENT + SLACK_S)
    iom = town[IOM]
    alarms = iom.runner.deadlines.alarms()
    iom.watch()
    words = " ".join([*map(alarm_words, alarms), *map(alarm_words, iom.system.escalations), repr(alarms)])
    assert PLANTED not in words
    assert "Aline" not in words
    assert SHELTER in words
    assert PLANTED.encode() not in bytes_of(town.folder)


def test_who_cannot_be_told_now_is_told_later(town: Agencies) -> None:
    ask(town)
    iom = town[IOM]
    town.wait(URGENT / 2)

    def closed(_escalation: Escalation) -> None:
        raise NotNowError

    iom.system.before_escalated = closed
    iom.watch()
    assert kinds(iom) == []
    iom.system.before_escalated = lambda _escalation: None
    iom.watch()
    assert kinds(iom) == ["half"]


def test_a_request_taken_back_is_not_escalated(town: Agencies) -> None:
    iom = town[IOM]
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    iom.box.cancel(evt, int(town.now))
    town.wait(URGENT + SLACK_S)
    iom.watch()
    assert kinds(iom) == []


# -- an answer in time, too late ---------------------------------------------------------------------------------------


def accept(town: Agencies, thread: str, type: str = "referral.accepted") -> None:
    shelter = town[SHELTER]
    facts = said(reason="no-capacity") if type == "referral.declined" else said()
    shelter.evt(shelter.draft(IOM, type, facts, thread=thread))
    shelter.send()


def test_an_acceptance_logged_in_time_counts_although_it_is_read_days_later(town: Agencies) -> None:
    thread = ask(town)
    accept(town, thread)
    town.wait(URGENT + 24 * HOUR)
    iom = town.open(IOM)
    assert iom.watch() == 0
    assert kinds(iom) == []  # the log has something for us: nothing is said before it is read
    iom.receive()
    assert iom.watch() == 0
    town.settle()
    assert states(town, thread) == ("accepted", "accepted")
    assert iom.sent("referral.expired") == []


def test_an_answer_that_waits_for_its_grant_holds_up_the_expiry(town: Agencies) -> None:
    thread = ask(town)
    answer = town.seal(SHELTER, IOM, "referral.accepted", said(), thread=thread)
    town.put(answer, grants={})
    iom = town[IOM]
    iom.receive()
    town.wait(URGENT + SLACK_S)
    assert iom.watch() == 0
    town.run(town.log.put_grants("bi.grants.iom", answer.grant_puts()))
    iom.deliver()
    assert iom.watch() == 0
    assert state(iom, thread) == "accepted"


@pytest.mark.parametrize("looked", [True, False])
def test_an_acceptance_made_too_late_waits_for_a_person_whichever_came_first(town: Agencies, looked: bool) -> None:
    iom, thread = town[IOM], ask(town)
    town.wait(URGENT + SLACK_S)
    if looked:
        iom.watch()
        iom.send()
    accept(town, thread)
    town.settle()
    iom.watch()
    town.settle()
    assert len(iom.sent("referral.expired")) == 1
    assert states(town, thread) == ("late-acceptance", "late-acceptance")
    assert standing(iom) == ["late-acceptance"]
    assert "late-acceptance" in kinds(iom)
    iom.evt(iom.draft(SHELTER, "referral.reopened", said(), thread=thread))
    town.settle()
    assert states(town, thread) == ("accepted", "accepted")
    assert standing(iom) == []


def test_a_late_acceptance_may_be_revoked(town: Agencies) -> None:
    iom, thread = town[IOM], ask(town)
    town.wait(URGENT + SLACK_S)
    accept(town, thread)
    town.settle()
    revoked = iom.evt(iom.draft(SHELTER, "referral.revoked", said(), thread=thread))
    town.settle()
    assert states(town, thread) == ("revoked", "revoked")
    assert iom.outgoing(revoked).state == "delivered"


def test_a_late_no_is_a_no(town: Agencies) -> None:
    iom, thread = town[IOM], ask(town)
    town.wait(URGENT + SLACK_S)
    accept(town, thread, "referral.declined")
    town.settle()
    iom.watch()
    assert iom.sent("referral.expired") == []
    assert states(town, thread) == ("declined", "declined")


def test_what_expired_although_it_stood_in_the_log_in_time_is_confirmed_at_once(town: Agencies) -> None:
    """Only clocks that disagree by more than the slack can do that."""
    iom, thread = town[IOM], ask(town)
    accept(town, thread)
    found = iom.box.thread(thread)
    assert found is not None
    with iom.box.transaction():
        assert deadlines.expire(iom.runner.desk, iom.runner.outbox, found)
    town.settle()
    assert states(town, thread) == ("accepted", "accepted")
    assert [arrived.state for arrived in iom.system.arrived] == ["accepted"]
    assert [item.state for item in iom.sent("referral.reopened")] == ["delivered"]


# -- clocks, logs, rights ----------------------------------------------------------------------------------------------


class Correcting(Gate):
    """A gateway whose first answer brings the right time, as over HTTP."""

    told: bool = False
    broken: bool = False

    @property
    def log_id(self) -> str:
        return self.log.log_id if self.told else ""

    async def ends(self, topic: str) -> Ends:
        if self.broken:
            raise LogError("unavailable", "network")
        self.told = True
        return await self.log.ends(topic)


def test_a_laptop_an_hour_ahead_lets_nothing_expire_before_its_time(town: Agencies) -> None:
    iom, thread = town[IOM], ask(town)
    town.wait(URGENT - 1800)
    log = Correcting(town.log)

    def now() -> float:
        return town.now if log.told else town.now + HOUR

    desk = iom.runner.desk
    iom.runner = Runner(type(desk)(desk.mailbox, desk.keys, desk.registry, now, desk.random), log, [iom.system])
    iom.watch()
    iom.watch()
    assert state(iom, thread) == "requested"
    assert kinds(iom) == ["half"]
    town.wait(1800 + SLACK_S)
    assert iom.watch() == 1


def test_without_the_log_nothing_expires_but_somebody_is_told(town: Agencies) -> None:
    iom, thread = town[IOM], ask(town)
    town.wait(URGENT + SLACK_S)
    log = Correcting(town.log)
    log.broken = True
    iom.runner.log = log
    assert iom.watch() == 0
    assert kinds(iom) == ["overdue"]
    assert state(iom, thread) == "requested"
    log.broken = False
    iom.watch()
    assert iom.watch() == 1


def test_a_notice_of_a_clock_that_was_years_ahead_comes_again_in_its_time(town: Agencies) -> None:
    iom = town[IOM]
    ask(town)
    log = Correcting(town.log)
    log.broken = True
    desk = iom.runner.desk
    wrong = type(desk)(desk.mailbox, desk.keys, desk.registry, lambda: town.now + 3 * 365 * 86_400, desk.random)
    iom.runner = Runner(wrong, log, [iom.system])
    iom.watch()
    assert kinds(iom) == ["overdue"]
    iom = town.open(IOM)
    iom.watch()
    assert kinds(iom) == ["overdue"]
    town.wait(URGENT)
    iom.watch()
    assert kinds(iom) == ["overdue", "overdue"]


def test_an_expiry_that_was_refused_is_tried_again_hours_later_and_the_thread_stays_open(town: Agencies) -> None:
    iom, thread = town[IOM], ask(town)
    town.wait(URGENT + SLACK_S)
    no = PolicyError("not_permitted", "event.referral.expired.from")

    def refuses(entry: Entry) -> PolicyError | None:
        return no if dict(entry.headers).get("ce_type", b"").endswith(b"referral.control") else None

    gate = Gate(town.log, refuses)
    iom.runner.log = gate
    assert iom.watch() == 1
    iom.send()
    [item] = iom.sent("referral.expired")
    assert (item.state, state(iom, thread)) == ("refused", "requested")
    assert iom.watch() == 0
    iom.runner.log = town.log
    town.wait(AGAIN_AFTER_S)
    assert iom.watch() == 1
    town.settle()
    assert states(town, thread) == ("expired", "expired")


# -- her way there -----------------------------------------------------------------------------------------------------


def departs(town: Agencies, thread: str) -> str:
    iom = town[IOM]
    accept(town, thread)
    town.settle()
    gone = Movement(departed_at=at(town.now - NOW), expected_at=at(town.now - NOW + 3 * HOUR))
    evt = iom.evt(iom.draft(SHELTER, "movement.departed", Facts(occurred_at=at(), movement=gone), thread=thread))
    town.settle()
    return evt


def arrives(town: Agencies, thread: str) -> None:
    shelter = town[SHELTER]
    there = Facts(occurred_at=at(), movement=Movement(arrived_at=at(town.now - NOW)))
    shelter.evt(shelter.draft(IOM, "movement.arrived", there, thread=thread))


def test_who_left_and_did_not_arrive_alarms_both_ends(town: Agencies) -> None:
    evt = departs(town, ask(town))
    for agency in (town[IOM], town[SHELTER]):
        agency.watch()
        assert kinds(agency) == []
    town.wait(4 * HOUR - 1)
    assert standing(town[IOM]) == []
    town.wait(1)
    for agency in (town[IOM], town[SHELTER]):
        agency.watch()
        agency.watch()
        [told] = agency.system.escalations
        assert (told.kind, told.evt, told.due_at) == ("not-arrived", evt, int(town.now) - HOUR)


@pytest.mark.parametrize("read", [True, False], ids=["read by a person", "unread"])
def test_who_left_before_the_answer_alarms_though_the_referral_expired(town: Agencies, read: bool) -> None:
    """A place was promised by telephone, she is on her way, and the shelter's power fails."""
    iom, shelter = town[IOM], town[SHELTER]
    thread = ask(town, "immediate")
    if read:
        shelter.evt(shelter.draft(IOM, "referral.received", said(), thread=thread))
        town.settle()
    gone = Movement(departed_at=at(), expected_at=at(2 * HOUR))
    iom.evt(iom.draft(SHELTER, "movement.departed", Facts(occurred_at=at(), movement=gone), thread=thread))
    iom.send()
    town.wait(3 * HOUR)
    iom.receive()
    iom.watch()
    assert state(iom, thread) == "expired"
    assert standing(iom) == ["not-arrived"]
    town.wait(2 * HOUR)
    assert set(standing(iom)) == {"telephone", "not-arrived"}
    # Power is back: the late acceptance is confirmed, and she is there.
    shelter.evt(shelter.draft(IOM, "referral.accepted", said(), thread=thread))
    town.settle()
    iom.evt(iom.draft(SHELTER, "referral.reopened", said(), thread=thread))
    town.settle()
    arrives(town, thread)
    town.settle()
    assert states(town, thread) == ("accepted", "accepted")
    assert standing(iom) == standing(shelter) == []


def test_who_arrived_alarms_nobody(town: Agencies) -> None:
    thread = ask(town)
    departs(town, thread)
    arrives(town, thread)
    town.settle()
    town.wait(24 * HOUR)
    for agency in (town[IOM], town[SHELTER]):
        agency.watch()
        assert "not-arrived" not in kinds(agency)


def test_an_arrival_that_was_refused_is_none(town: Agencies) -> None:
    thread = ask(town)
    departs(town, thread)
    arrives(town, thread)
    shelter = town[SHELTER]
    [item] = shelter.sent("movement.arrived")
    town.wait(4 * HOUR)
    assert standing(shelter) == ["telephone"]  # it has not left for hours
    shelter.box.cancel(item.evt, int(town.now))
    assert standing(shelter) == ["not-arrived"]


def test_an_arrival_said_before_the_departure_was_read_counts(town: Agencies) -> None:
    thread = ask(town)
    accept(town, thread)
    town.settle()
    iom = town[IOM]
    gone = Movement(departed_at=at(), expected_at=at(3 * HOUR))
    iom.evt(iom.draft(SHELTER, "movement.departed", Facts(occurred_at=at(), movement=gone), thread=thread))
    town.wait(2 * HOUR)
    arrives(town, thread)
    town.settle()
    town.wait(24 * HOUR)
    assert "not-arrived" not in standing(town[SHELTER])
    assert "not-arrived" not in standing(iom)


def test_how_late_she_may_be_is_a_setting(town: Agencies) -> None:
    departs(town, ask(town))
    town.wait(3 * HOUR)
    iom = town[IOM]
    assert standing(iom) == []
    assert [alarm.kind for alarm in deadlines.alarms(iom.box, town.now, 0.0)] == ["not-arrived"]


# -- telephone ---------------------------------------------------------------------------------------------------------


def test_a_peer_whose_machine_was_silent_for_four_hours_is_telephoned(town: Agencies) -> None:
    iom, shelter = town[IOM], town[SHELTER]
    iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    iom.send()
    since = int(town.now)
    town.wait(4 * HOUR - 1)
    assert standing(iom) == []
    town.wait(1)
    [alarm] = iom.runner.deadlines.alarms()
    assert alarm == Alarm("telephone", SHELTER, "", "", since)
    assert "éléphone" in alarm_words(alarm) or "elephone" in alarm_words(alarm)
    shelter.receive()
    shelter.send()
    iom.receive()
    assert standing(iom) == []


def test_a_peer_that_owes_nothing_may_be_silent(town: Agencies) -> None:
    thread = ask(town)
    accept(town, thread)
    town.settle()
    town.wait(30 * 24 * HOUR)
    assert standing(town[IOM]) == []


# -- one truth ---------------------------------------------------------------------------------------------------------

RECIPIENT = ("referral.received", "referral.accepted", "referral.declined", "referral.started", "referral.completed")
INITIATOR = ("referral.revoked", "referral.reopened")
ACTS = st.sampled_from(
    [
        *(f"shelter {type}" for type in RECIPIENT),
        *(f"iom {type}" for type in INITIATOR),
        *("iom send", "iom receive", "iom watch", "shelter send", "shelter receive", "shelter restart", "iom restart"),
        *("wait 20", "wait 80"),
    ]
)


@dataclass
class Play:
    """Two ends of one new thread each time, in one domain whose time only goes on."""

    town: Agencies

    def run(self, acts: list[str]) -> tuple[str, str]:
        town = self.town
        town.domain.registry = town.domain.registry.renewed(int(town.now))
        iom = town[IOM]
        evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral(lawful=consented(days=20_000))))
        thread = iom.outgoing(evt).thread
        for act in acts:
            self._act(thread, act)
        for _ in range(3):
            town.settle()
            town.wait(URGENT + SLACK_S)
            town[IOM].watch()
        town.settle()
        assert len([item for item in town[IOM].sent("referral.expired") if item.thread == thread]) <= 1
        for name in (IOM, SHELTER):
            assert [item.state for item in town[name].box.outbox() if item.thread == thread and item.speaks] == [
                "delivered" for item in town[name].box.outbox() if item.thread == thread and item.speaks
            ]
            assert town[name].inbox("quarantined") == []
        return states(town, thread)

    def _act(self, thread: str, act: str) -> None:
        who, _, what = act.partition(" ")
        if who == "wait":
            self.town.wait(int(what) * HOUR)
            return
        name, other = (IOM, SHELTER) if who == "iom" else (SHELTER, IOM)
        agency = self.town[name]
        if what == "restart":
            self.town.open(name)
        elif what in ("send", "receive", "watch"):
            turn: Callable[[], int] = getattr(agency, what)
            turn()
        else:
            found = agency.box.thread(thread)
            if found is not None and what in lifecycle.next_events("referral", found.state, found.role):
                outcome = {"referral.completed": "goals-met"}.get(what)
                facts = said(reason="no-capacity") if what == "referral.declined" else said(outcome)
                agency.evt(agency.draft(other, what, facts, thread=thread))


def test_no_order_of_sending_reading_and_looking_at_the_clock_gives_two_truths(tmp_path: Path) -> None:
    with Agencies(tmp_path) as town:
        play = Play(town)

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(ACTS, min_size=3, max_size=14))
        def whatever(acts: list[str]) -> None:
            ours, theirs = play.run(acts)
            assert ours == theirs, acts

        whatever()
