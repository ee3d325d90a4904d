# SPDX-License-Identifier: Apache-2.0
"""Scenario 8. What the police may know, and what they may not.

An officer with a valid key and a valid token asks the gateway for the shelter's mailbox: denied, and the denial stands
in the gateway's log with the officer's agency, without what was asked for. He writes to the shelter: refused by his own
adapter, and by the gateway should his program be another. He hands a person over to IOM and gets receipts and the
acknowledgement that she was taken over, with a telephone, and never where she is.
"""

from __future__ import annotations

import httpx2
import orjson
import pytest

from schemas.errors import UmuhuzaError
from schemas.event_types import EVENTS
from schemas.forms import Facts
from schemas.plain.case import HandoverAcknowledged
from tests.scenarios.town import Town
from topics.catalogue import policy

NAME = "Bukuru-Inventée"
LAW = ("bi/police", "bi/judiciary")


@pytest.mark.parametrize("officer", LAW)
def test_reading_a_shelters_mailbox_is_denied_and_stands_in_the_log(town: Town, officer: str) -> None:
    town["bi/iom"].draft("bi/k7t4", "referral.requested", town.referral(NAME))
    town.settle()
    for flow in policy().mailboxes:
        with pytest.raises(UmuhuzaError) as caught:
            town.run(town[officer].log.read(f"bi.{flow}.k7t4", -1))
        assert caught.value.code in ("not_permitted", "topic_unknown")

    async def asked_for_its_own_and_got_nobody_elses() -> httpx2.Response:
        token = await town[officer].log.access_token()
        transport = httpx2.ASGITransport(app=town.gateway)
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.get("/v1/mailbox?flows=referral", headers={"authorization": f"Bearer {token}"})

    answer = town.run(asked_for_its_own_and_got_nobody_elses())
    assert (answer.status_code, answer.json()["code"]) == (404, "topic_unknown")
    told = [orjson.loads(line) for line in town.said.getvalue().splitlines()]
    [line] = [one for one in told if one.get("route") == "/v1/mailbox" and one.get("code") == "topic_unknown"]
    assert line["status"] == 404
    assert line["agency"] == officer
    assert "k7t4" not in str(line)
    assert town.found(NAME) == []


@pytest.mark.parametrize("officer", LAW)
def test_police_and_judiciary_never_write_to_a_protected_place_nor_are_written_to(town: Town, officer: str) -> None:
    for type, event in EVENTS.items():
        if event.flow in ("alert", "*") or event.machine is None:
            continue
        facts = Facts(occurred_at=town.today())
        for sender, to in ((officer, "bi/k7t4"), ("bi/k7t4", officer)):
            refused = town[sender].offer(to, type, facts)
            assert refused.problem is not None, (sender, to, type)


def test_police_hand_a_person_over_and_learn_that_she_was_taken_over_and_not_where(town: Town) -> None:
    police, iom, shelter = town["bi/police"], town["bi/iom"], town["bi/k7t4"]
    handed = police.draft("bi/iom", "case.identified", town.identified(NAME), person="PV-8")
    town.settle()
    asked = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME), person="IOM-8")
    town.settle()
    shelter.draft("bi/iom", "referral.accepted", town.plainly(), thread=shelter.thread(asked))
    taken = HandoverAcknowledged(taken_over=True, telephone="+25722000000")
    iom.draft(
        "bi/police",
        "handover.acknowledged",
        Facts(occurred_at=town.today(), said=taken),
        thread=iom.thread(handed),
        ref=handed,
    )
    town.settle()
    assert {item.type for item in police.inbox()} == {"receipt.delivered", "handover.acknowledged"}
    [told] = police.opened("handover.acknowledged")
    assert told.facts.said == taken
    assert town.found(NAME) == []
    # In what reached the police, not even sealed, is there a word of the shelter.
    assert all(b"k7t4" not in item.record for item in police.inbox())
