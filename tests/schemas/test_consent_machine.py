# SPDX-License-Identifier: Apache-2.0
"""Consent as a machine of its own, and what its events do to the threads that carry them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import OrderError
from schemas.event_rules import step_of
from schemas.event_types import EVENTS, FLOWS_WITH, THREAD_FLOW
from schemas.lifecycle import MACHINES, PARTIES, next_events, state_label, step
from tests.schemas.samples import SAMPLES

TAKEN = [
    "consent.granted/full",
    "consent.granted/limited",
    "consent.expired",
    "consent.withdrawn/sharing",
    "consent.withdrawn/service",
]
WITHDRAWN = ("withdrawn-sharing", "withdrawn")


def after(events: list[str], state: str | None = None) -> str | None:
    """Where a consent stands after what its taker noted; what does not fit is refused and changes nothing."""
    for event in events:
        if event in next_events("consent", state, "initiator"):
            state = step("consent", state, event, "initiator").state
        else:
            with pytest.raises(OrderError):
                step("consent", state, event, "initiator")
    return state


def test_a_consent_begins_given_or_limited_and_nothing_else() -> None:
    assert set(next_events("consent", None, "initiator")) == {"consent.granted/full", "consent.granted/limited"}
    assert next_events("consent", None, "recipient") == ()
    assert set(MACHINES["consent"].states) == {"granted", "limited", "expired", *WITHDRAWN}


def test_withdrawing_sharing_may_be_followed_by_withdrawing_the_service_and_not_the_other_way() -> None:
    assert after(["consent.granted/full", "consent.withdrawn/sharing", "consent.withdrawn/service"]) == "withdrawn"
    assert after(["consent.granted/full", "consent.withdrawn/service", "consent.withdrawn/sharing"]) == "withdrawn"


def test_an_expired_consent_can_still_be_withdrawn_since_what_was_shared_is_still_held() -> None:
    assert after(["consent.granted/limited", "consent.expired", "consent.withdrawn/sharing"]) == "withdrawn-sharing"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(TAKEN), max_size=12))
def test_what_was_withdrawn_is_never_given_again_whatever_comes_after(events: list[str]) -> None:
    began = next((at for at, event in enumerate(events) if event.startswith("consent.granted")), None)
    state = after(events)
    if began is None:
        assert state is None
        return
    scopes = [event for event in events[began:] if event.startswith("consent.withdrawn")]
    assert (state in WITHDRAWN) == bool(scopes)
    if scopes:
        assert (state == "withdrawn") == ("consent.withdrawn/service" in scopes)


@pytest.mark.parametrize("state", [state for state in MACHINES["consent"].states if state not in WITHDRAWN])
def test_a_holder_confirms_only_what_was_withdrawn(state: str) -> None:
    with pytest.raises(OrderError):
        step("consent", state, "consent.acknowledged", "recipient")


def test_a_running_service_continues_when_sharing_is_withdrawn_and_ends_with_the_service() -> None:
    for state in ("accepted", "in-progress"):
        assert step("referral", state, "consent.withdrawn/sharing", "initiator").state == state
        assert step("referral", state, "consent.withdrawn/service", "initiator").state == "revoked"


@pytest.mark.parametrize("machine", ["referral", "case"])
def test_every_holder_can_be_told_and_can_confirm_in_whatever_state_the_thread_is(machine: str) -> None:
    for state in MACHINES[machine].states:
        if state != "retracted":
            told = step(machine, state, "consent.withdrawn/sharing", "initiator")
            assert (told.state, told.crossed) == (state, False)
        assert step(machine, state, "consent.acknowledged", "recipient").state == state


def test_a_withdrawal_of_the_service_does_to_a_referral_what_a_revocation_does() -> None:
    steps = MACHINES["referral"].steps
    withdrawals = {key[0]: found for key, found in steps.items() if key[1] == "consent.withdrawn/service"}
    revocations = {key[0]: found for key, found in steps.items() if key[1] == "referral.revoked"}
    assert withdrawals == revocations


def test_only_who_shared_says_that_a_referrals_consent_was_given_or_withdrawn() -> None:
    for state in MACHINES["referral"].states:
        for event in ("consent.granted/full", "consent.withdrawn/sharing", "consent.withdrawn/service"):
            with pytest.raises(OrderError):
                step("referral", state, event, "recipient")


def test_an_event_of_any_thread_begins_none() -> None:
    for name, event in EVENTS.items():
        if event.machine == "*":
            for machine in THREAD_FLOW:
                for by in PARTIES:
                    with pytest.raises(OrderError):
                        step(machine, None, step_of(name, SAMPLES[name][0]), by)


def test_consent_travels_in_the_flow_of_its_thread() -> None:
    assert (THREAD_FLOW["case"], THREAD_FLOW["referral"]) == ("case", "referral")
    assert "consent" not in THREAD_FLOW
    for event in ("consent.granted", "consent.withdrawn", "consent.acknowledged"):
        assert {"case", "referral"} <= FLOWS_WITH[event]
        assert not {"directory", "statistics", "knowledge", "receipt"} & FLOWS_WITH[event]


def test_the_words_say_that_a_running_service_continues() -> None:
    assert "continue" in state_label("consent", "withdrawn-sharing", "fr")
    assert "continues" in state_label("consent", "withdrawn-sharing", "en")
