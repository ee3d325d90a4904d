# SPDX-License-Identifier: Apache-2.0
"""Scenario 13. A shelter has no power for three days, and when it comes back its clock is wrong by eleven hours.

Meanwhile two agencies have asked it for places, added to what they asked, and one has gone on asking others. Everything
arrives, once, in the order of each thread; what the shelter writes then is dated by the gateway's clock, not by its
own; the screens of those who waited say meanwhile that nothing arrived on a machine there.
"""

from __future__ import annotations

import pytest

from tests.scenarios.town import Town

NAMES = tuple(f"Personne-Inventée-{letter}" for letter in "ABCDEF")
WRONG_S = 11 * 3600.0


@pytest.mark.parametrize("wrong_s", [-WRONG_S, WRONG_S], ids=["slow", "fast"])
def test_everything_once_in_order_and_dated_right(town: Town, wrong_s: float) -> None:
    iom, ministry, shelter = town["bi/iom"], town["bi/min-solidarity"], town["bi/k7t4"]

    def states(asked: list[str]) -> set[str]:
        return {(iom, ministry)[number % 2].outgoing(evt).state for number, evt in enumerate(asked)}

    early = iom.draft("bi/k7t4", "referral.requested", town.referral(NAMES[0], priority="normal"), person="IOM-1")
    town.settle()
    thread = shelter.thread(early)
    shelter.draft("bi/iom", "referral.accepted", town.plainly(), thread=thread)
    town.settle()

    town.power_cut("bi/k7t4")
    asked: list[str] = []
    for number, name in enumerate(NAMES[1:]):
        sender = (iom, ministry)[number % 2]
        asked.append(
            sender.draft("bi/k7t4", "referral.requested", town.referral(name, priority="normal"), person=f"P-{number}")
        )
        town.settle()
        town.wait(hours=14)
    assert states(asked) == {"promised"}

    shelter = town.start("bi/k7t4", clock_s=wrong_s)
    town.settle()
    arrived = [item.evt for item in shelter.inbox("referral.requested")]
    assert arrived == [early, *asked]
    assert [
        opened.facts.referral.name.as_given for opened in shelter.opened("referral.requested") if opened.facts.referral
    ] == list(NAMES)
    assert {sender.outgoing(evt).state for sender, evt in zip((iom, ministry) * 3, asked, strict=False)} == {
        "delivered"
    }

    answer = shelter.draft("bi/iom", "referral.received", town.plainly(), thread=shelter.thread(asked[0]))
    shelter.draft("bi/iom", "referral.started", town.plainly(), thread=thread)
    town.settle()
    assert (iom.state(thread), iom.state(shelter.thread(asked[0]))) == ("in-progress", "received")
    [dated] = iom.opened("referral.received")
    assert abs((dated.recorded_at - town.today()).total_seconds()) < 120
    assert [item.evt for item in iom.inbox("referral.received")] == [answer]
    assert town.found(*NAMES) == []
