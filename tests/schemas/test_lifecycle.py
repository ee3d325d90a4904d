# SPDX-License-Identifier: Apache-2.0
"""The state machines: deterministic, reachable, convergent, and strict about what does not fit."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import lifecycle
from schemas.errors import OrderError
from schemas.lifecycle import MACHINES, PARTIES, Party, next_events, step

FHIR_R4_TASK_STATUS = {
    "draft",
    "requested",
    "received",
    "accepted",
    "rejected",
    "ready",
    "cancelled",
    "in-progress",
    "on-hold",
    "failed",
    "completed",
    "entered-in-error",
}
Event = tuple[str, Party]


def run(machine: str, events: list[Event], state: str | None = None) -> str | None:
    for event, by in events:
        state = step(machine, state, event, by).state
    return state


@st.composite
def histories(
    draw: st.DrawFn, machine: str, start: str | None = None, parties: tuple[Party, ...] = PARTIES
) -> list[Event]:
    """What senders who obey `next_events` may send, one after the other."""
    state: str | None = None
    events: list[Event] = []
    for _ in range(draw(st.integers(0, 8))):
        offered = [(event, by) for by in PARTIES for event in next_events(machine, state, by)]
        if not offered:
            break
        chosen = draw(st.sampled_from(offered))
        events.append(chosen)
        state = step(machine, state, *chosen).state
    return events


machines = st.sampled_from(sorted(MACHINES))


def test_a_referral_goes_from_request_to_completion() -> None:
    walk: list[Event] = [
        ("referral.requested", "initiator"),
        ("referral.received", "recipient"),
        ("referral.accepted", "recipient"),
        ("referral.started", "recipient"),
        ("service.provided", "recipient"),
        ("service.provided", "recipient"),
        ("referral.completed", "recipient"),
    ]
    assert run("referral", walk) == "completed"


def test_a_referral_may_be_answered_before_a_person_confirmed_it() -> None:
    assert step("referral", "requested", "referral.accepted", "recipient").state == "accepted"
    assert step("referral", "requested", "referral.declined", "recipient").state == "declined"


def test_a_started_service_may_end_otherwise_than_completed() -> None:
    assert step("referral", "in-progress", "referral.ended", "recipient").state == "ended"
    assert set(MACHINES["referral"].end_reasons) == {
        "left",
        "no-show",
        "unsuitable",
        "closed",
        "transferred",
        "died",
        "unknown",
    }


@pytest.mark.parametrize("event", ["referral.accepted", "referral.declined", "referral.completed", "service.provided"])
def test_only_the_recipient_answers(event: str) -> None:
    for state in MACHINES["referral"].states:
        with pytest.raises(OrderError) as caught:
            step("referral", state, event, "initiator")
        assert (caught.value.code, caught.value.path) == ("transition_invalid", event)


@pytest.mark.parametrize("event", ["referral.revoked", "referral.expired", "referral.reopened", "record.retracted"])
def test_only_the_initiator_revokes_expires_reopens_or_retracts(event: str) -> None:
    for state in MACHINES["referral"].states:
        with pytest.raises(OrderError):
            step("referral", state, event, "recipient")


@pytest.mark.parametrize(
    "answer", ["referral.received", "referral.accepted", "referral.declined", "referral.completed"]
)
def test_a_revocation_wins_and_the_answer_that_crosses_it_is_marked(answer: str) -> None:
    assert step("referral", "revoked", answer, "recipient") == lifecycle.Step("revoked", crossed=True)


def test_an_acceptance_after_the_expiry_waits_for_the_sender_to_confirm_or_revoke() -> None:
    late = step("referral", "expired", "referral.accepted", "recipient")
    assert late == lifecycle.Step("late-acceptance", crossed=False)
    assert step("referral", late.state, "referral.reopened", "initiator").state == "accepted"
    assert step("referral", late.state, "referral.revoked", "initiator").state == "revoked"
    assert not MACHINES["referral"].states[late.state].final


def test_an_expiry_does_not_undo_a_service_that_has_begun() -> None:
    assert step("referral", "in-progress", "referral.expired", "initiator") == lifecycle.Step(
        "in-progress", crossed=True
    )


@pytest.mark.parametrize("state", ["requested", "received", "accepted", "in-progress"])
def test_she_may_leave_before_the_answer_since_a_place_may_be_promised_by_telephone(state: str) -> None:
    assert step("referral", state, "movement.departed", "initiator") == lifecycle.Step(state, crossed=False)


def test_a_screener_may_tell_of_a_case_that_nobody_announced() -> None:
    assert step("case", None, "case.screened", "initiator").state == "screened"
    with pytest.raises(OrderError):
        step("case", None, "case.screened", "recipient")


def test_a_closed_case_may_reopen_where_it_stood() -> None:
    assert run("case", [("case.closed", "recipient"), ("case.reopened", "initiator")], "screened") == "screened"
    assert run("case", [("case.closed", "recipient"), ("case.reopened", "initiator")], "identified") == "identified"


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_every_state_can_be_reached(machine: str) -> None:
    reached: set[str | None] = {None}
    while True:
        more = {found.state for (before, _, _), found in MACHINES[machine].steps.items() if before in reached} - reached
        if not more:
            break
        reached |= more
    assert reached - {None} == set(MACHINES[machine].states)


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_a_final_state_is_left_only_by_the_events_listed_here(machine: str) -> None:
    leaving = {
        (before, event, found.state)
        for (before, event, _), found in MACHINES[machine].steps.items()
        if before is not None and MACHINES[machine].states[before].final and found.state != before
    }
    retraction = {
        (state, "record.retracted", "retracted")
        for state, what in MACHINES[machine].states.items()
        if what.final and state != "retracted" and "retracted" in MACHINES[machine].states
    }
    others = {
        "availability": {("refused", "availability.released", "released")},
        "referral": {
            ("expired", "referral.accepted", "late-acceptance"),
            ("expired", "referral.declined", "declined"),
            ("expired", "referral.revoked", "revoked"),
            ("declined", "referral.revoked", "revoked"),
            ("completed", "referral.revoked", "revoked"),
            ("ended", "referral.revoked", "revoked"),
            *(
                (state, "consent.withdrawn/service", "revoked")
                for state in ("expired", "declined", "completed", "ended")
            ),
        },
        "case": {
            ("closed", "case.reopened", "screened"),
            ("closed-unscreened", "case.reopened", "identified"),
            ("closed-unscreened", "case.screened", "closed"),
        },
        "transfer": {
            ("declined", "return.departed", "departed"),
            ("expired", "transfer.accepted", "late-acceptance"),
            ("expired", "transfer.declined", "declined"),
            ("expired", "consent.withdrawn/service", "declined"),
        },
    }
    assert leaving == retraction | others.get(machine, set())


def test_nothing_leaves_a_retraction() -> None:
    for machine in MACHINES.values():
        assert {found.state for (before, _, _), found in machine.steps.items() if before == "retracted"} <= {
            "retracted"
        }


def test_referral_states_are_fhir_task_statuses() -> None:
    assert {state: lifecycle.task_status(state) for state in MACHINES["referral"].states} == {
        "requested": "requested",
        "received": "received",
        "accepted": "accepted",
        "in-progress": "in-progress",
        "late-acceptance": "accepted",
        "declined": "rejected",
        "completed": "completed",
        "ended": "failed",
        "revoked": "cancelled",
        "expired": "failed",
        "retracted": "entered-in-error",
    }
    assert {lifecycle.task_status(state) for state in MACHINES["referral"].states} <= FHIR_R4_TASK_STATUS
    with pytest.raises(KeyError):
        lifecycle.task_status("nowhere")


def test_words_keep_the_machine_and_the_person_apart() -> None:
    delivered = lifecycle.state_label("outgoing", "delivered", "fr")
    received = lifecycle.state_label("referral", "received", "fr")
    assert "ordinateur" in delivered
    assert "pas encore lu par une personne" in delivered
    assert "par une personne" in received
    assert "ordinateur" not in received
    assert lifecycle.state_label("referral", "completed", "en") == "Completed"
    assert lifecycle.state_label("referral", "completed", "rn") == "Terminée"


def test_labels_of_a_machine_do_not_collide() -> None:
    for name, machine in MACHINES.items():
        for language in ("fr", "en"):
            assert len({lifecycle.state_label(name, state, language) for state in machine.states}) == len(
                machine.states
            )


@settings(max_examples=100, deadline=None)
@given(machines, st.text(max_size=30), st.sampled_from(get_args(Party)))
def test_an_unknown_event_is_refused_and_not_quoted(machine: str, event: str, by: Party) -> None:
    for state in (None, *MACHINES[machine].states):
        with pytest.raises(OrderError) as caught:
            step(machine, state, "x" + event, by)
        assert caught.value.path == "*"


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(OrderError):
        step("referral", "nowhere", "referral.accepted", "recipient")


@settings(max_examples=200, deadline=None)
@given(machines, st.data())
def test_replaying_an_accepted_sequence_gives_the_same_state(machine: str, data: st.DataObject) -> None:
    events = data.draw(histories(machine))
    assert run(machine, events) == run(machine, events)
    state: str | None = None
    for event, by in events:
        found = step(machine, state, event, by)
        assert not found.crossed
        assert event in next_events(machine, state, by)
        state = found.state


def quiet(machine: str) -> set[str]:
    """Events that leave every state as it is."""
    steps = MACHINES[machine].steps
    moving = {event for (before, event, _), found in steps.items() if found.state != before}
    return {event for _, event, _ in steps} - moving


def sequences(machine: str, state: str | None, by: Party, longest: int) -> list[list[Event]]:
    """Every sequence up to a length that one side may send on its own view.

    Quiet events only at the end: what comes after one is the same as what would have come without it.
    """
    found: list[list[Event]] = [[]]
    if longest:
        for event in next_events(machine, state, by):
            after = step(machine, state, event, by).state
            further = [[]] if event in quiet(machine) else sequences(machine, after, by, longest - 1)
            found += [[(event, by), *rest] for rest in further]
    return found


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_both_sides_agree_whichever_of_two_crossing_sequences_each_saw_first(machine: str) -> None:
    """Each side sends what its own view offers, neither has seen the other's; both orders must end alike.

    Reopening a case while the other side closes it is left out: no rule can know who is right.
    """
    for before in MACHINES[machine].states:
        ours = sequences(machine, before, "initiator", 3)
        for theirs in sequences(machine, before, "recipient", 4):
            for our in ours:
                if any(event == "case.reopened" for event, _ in our + theirs):
                    continue
                assert run(machine, our + theirs, before) == run(machine, theirs + our, before), (before, our, theirs)


def test_next_steps_are_offered_in_a_steady_order() -> None:
    assert next_events("referral", None, "initiator") == ("referral.requested",)
    assert next_events("referral", None, "recipient") == ()
    assert next_events("referral", "requested", "recipient")[:3] == (
        "referral.received",
        "referral.accepted",
        "referral.declined",
    )
    assert next_events("referral", "revoked", "recipient") == ("consent.acknowledged",)
