# SPDX-License-Identifier: Apache-2.0
"""Scenario 6. A woman wishes to go home.

The commission asks IOM, under an agreement, to carry out her return; she was asked twice, once for her wish and once
whether she wants asylum. IOM accepts; she is counselled, the risk is looked at from both sides, she gets her papers,
departs, is received and followed up. Without an agreement, without her wish, or towards the State that she comes from
when she wants asylum, the request does not leave the commission's adapter.

Here both sides are members of one domain, since the crossing of the border is not this scenario's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from schemas.forms import Birth, Facts, Form, Name, Referral
from schemas.plain.transfer import (
    ReturnCounselled,
    ReturnDeparted,
    ReturnDocumented,
    ReturnFollowedUp,
    ReturnReceived,
    ReturnRiskAssessed,
    TransferAccepted,
    TransferRequested,
)
from tests.scenarios.town import Town

NAME = "Niyonzima-Inventée"


def transfer(town: Town, **changes: Any) -> Facts:
    said = {
        "referral": Referral(
            priority="normal",
            name=Name(as_given=NAME),
            birth=Birth(precision="year", date="1999"),
            services=("SocialCare",),
        ),
        "agreement": "demo-2026",
        "origin": "ke",
        "asylum_wished": False,
        "voluntariness": "voluntary",
        "voluntariness_recorded_at": town.today() - timedelta(days=2),
    }
    lawful = town.consented(scope=("referral", "return"))
    return Facts(occurred_at=town.today(), lawful=lawful, said=TransferRequested(**{**said, **changes}))


def test_a_return_by_its_stages(town: Town) -> None:
    commission, iom = town["bi/ccsprtp"], town["bi/iom"]
    asked = commission.draft("bi/iom", "transfer.requested", transfer(town), person="R-1")
    town.settle()
    [request] = iom.opened("transfer.requested")
    assert isinstance(request.facts.said, TransferRequested)
    assert request.facts.said.referral.name.as_given == NAME
    thread = iom.thread(asked)
    arrival = town.today() + timedelta(days=3)

    def says(who: str, to: str, type: str, said: Form, state: str) -> None:
        town[who].draft(to, type, Facts(occurred_at=town.today(), said=said), thread=thread)
        town.settle()
        assert (commission.state(thread), iom.state(thread)) == (state, state)

    there, back = ("bi/ccsprtp", "bi/iom"), ("bi/iom", "bi/ccsprtp")
    says(*back, "transfer.accepted", TransferAccepted(expected_from=arrival), "accepted")
    says(*there, "return.counselled", ReturnCounselled(decision="wishes-to-return", language="rn"), "preparing")
    risk = ReturnRiskAssessed(level="low", assessed="both-sides", family="safe")
    says(*there, "return.risk-assessed", risk, "preparing")
    says(*there, "return.documented", ReturnDocumented(document="laissez-passer"), "preparing")
    says(*there, "return.departed", ReturnDeparted(by="air", expected_at=arrival, escort="escorted"), "departed")
    says(*back, "return.received", ReturnReceived(received_by="agency"), "received")
    says(*back, "return.followed-up", ReturnFollowedUp(situation="in-services"), "followed-up")
    assert town.found(NAME, "R-1", but=("bi/ccsprtp",)) == []
    assert town.found(NAME) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"agreement": "none-such"}, "agreement_missing"),
        ({"voluntariness": "not-voluntary"}, "not_permitted"),
        ({"voluntariness": "not-established"}, "not_permitted"),
        ({"asylum_wished": True, "origin": "bi"}, "not_permitted"),
    ],
    ids=["no agreement", "against her wish", "nobody asked", "asylum wished, and this is where she comes from"],
)
def test_what_must_not_leave_does_not(town: Town, changes: dict[str, Any], code: str) -> None:
    commission = town["bi/ccsprtp"]
    refused, path = commission.refused("bi/iom", "transfer.requested", transfer(town, **changes), person="R-2")
    assert refused == code
    assert path is not None
    town.settle()
    assert town["bi/iom"].inbox() == []
    assert town.found(NAME) == []
