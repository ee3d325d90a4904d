# SPDX-License-Identifier: Apache-2.0
"""Scenario 1. The police meet a woman who may be a victim of trafficking in persons.

They hand her over to IOM with what they know. IOM screens her in her language, with an interpreter, and reads the
consent aloud. With her consent IOM asks a shelter for a place; a person there takes the request in hand, accepts,
begins, gives two services and completes. The ministry, which has a need to know that a case exists, learns what was
decided and not who she is. The police learn that she was taken over, and nothing else. Her name stands in clear
nowhere: not in the log, not at the gateway, not in the mailbox files of those who may know it.
"""

from __future__ import annotations

from tests.scenarios.town import Town

NAME = "Ndayikengurukiye-Inventée"


def test_police_identify_iom_screens_a_shelter_serves_and_completes(town: Town) -> None:
    police, iom, shelter = town["bi/police"], town["bi/iom"], town["bi/k7t4"]

    # The police hand her over.
    told = police.draft("bi/iom", "case.identified", town.identified(NAME), person="PV-1")
    town.settle()
    [identified] = iom.opened("case.identified")
    assert identified.facts.htcds["prs_FirstName"] == NAME
    assert police.outgoing(told).state == "delivered"

    # IOM tells the ministry what was decided, never who she is.
    iom.draft("bi/min-solidarity", "case.screened", town.identified(NAME), person="IOM-7")
    town.settle()
    [screened] = town["bi/min-solidarity"].opened("case.screened")
    assert "prs_FirstName" not in screened.facts.htcds
    assert "htcds.prs_FirstName" in screened.withheld

    # With her consent, a shelter is asked.
    asked = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME), person="IOM-7")
    town.settle()
    [request] = shelter.opened("referral.requested")
    assert request.facts.referral is not None
    assert request.facts.referral.name.as_given == NAME
    thread = shelter.thread(asked)
    # Arrived on a machine is not received by a person.
    assert iom.outgoing(asked).state == "delivered"
    assert iom.state(thread) == "requested"

    for type, facts, state in (
        ("referral.received", town.plainly(), "received"),
        ("referral.accepted", town.plainly(), "accepted"),
        ("referral.started", town.plainly(), "in-progress"),
        ("service.provided", town.served("SocialCare"), "in-progress"),
        ("service.provided", town.served("Health"), "in-progress"),
        ("referral.completed", town.plainly(outcome="goals-met"), "completed"),
    ):
        shelter.draft("bi/iom", type, facts, thread=thread)
        town.settle()
        assert (iom.state(thread), shelter.state(thread)) == (state, state)

    # What the police have is receipts.
    assert {item.type for item in police.inbox()} == {"receipt.delivered"}
    # Two agencies know her under two pseudonyms, neither of which is anybody's else.
    assert identified.pseudonym != request.pseudonym
    assert town.found(NAME, "PV-1", "IOM-7", but=("bi/police", "bi/iom")) == []
    assert town.found(NAME) == []
