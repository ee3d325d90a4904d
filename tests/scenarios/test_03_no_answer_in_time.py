# SPDX-License-Identifier: Apache-2.0
"""Scenario 3. Nobody answers.

A referral marked as an emergency has 24 hours. At half of them and at their end somebody at IOM is told, without a
name, that a person has to telephone; then the referral expires by itself, and both sides see it expired.

An acceptance that the shelter made in time stands, although a cut kept IOM from reading it for a day: what counts is
when it stood in the log. One that was made after the deadline does not open the referral by itself: a person at IOM
confirms it or revokes.
"""

from __future__ import annotations

from tests.scenarios.town import Town

NAME = "Ndikumana-Inventé"


def ask(town: Town) -> str:
    iom = town["bi/iom"]
    evt = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME, priority="emergency"), person="IOM-3")
    town.settle()
    return iom.thread(evt)


def test_escalated_then_expired_on_both_sides(town: Town) -> None:
    thread = ask(town)
    told = town["bi/iom"].system.escalations
    town.wait(hours=12, minutes=1)
    town.settle()
    assert [one.kind for one in told] == ["half"]
    town.wait(hours=12, minutes=2)
    town.settle()
    assert [one.kind for one in told] == ["half", "overdue"]
    assert NAME not in repr(told)
    assert (town["bi/iom"].state(thread), town["bi/k7t4"].state(thread)) == ("expired", "expired")
    assert town.found(NAME) == []


def test_an_acceptance_made_in_time_and_read_late_stands(town: Town) -> None:
    thread = ask(town)
    town.wait(hours=23)
    town["bi/k7t4"].draft("bi/iom", "referral.accepted", town.plainly(), thread=thread)
    town.power_cut("bi/iom")
    town.settle()
    town.wait(hours=30)
    town.start("bi/iom")
    town.settle()
    assert (town["bi/iom"].state(thread), town["bi/k7t4"].state(thread)) == ("accepted", "accepted")
    assert town["bi/iom"].box.outbox()
    assert "referral.expired" not in [item.type for item in town["bi/iom"].box.outbox()]


def test_an_acceptance_made_too_late_is_for_a_person_to_confirm(town: Town) -> None:
    thread = ask(town)
    town.power_cut("bi/k7t4")
    town.wait(hours=25)
    town.settle()
    assert town["bi/iom"].state(thread) == "expired"
    # The shelter has its power back, and answers before it has read the expiry.
    shelter = town.start("bi/k7t4")
    shelter.draft("bi/iom", "referral.accepted", town.plainly(), thread=thread)
    town.settle()
    assert town["bi/iom"].state(thread) == shelter.state(thread) == "late-acceptance"
    town["bi/iom"].draft("bi/k7t4", "referral.reopened", town.plainly(), thread=thread)
    town.settle()
    assert town["bi/iom"].state(thread) == shelter.state(thread) == "accepted"
    assert town.found(NAME) == []
