# SPDX-License-Identifier: Apache-2.0
"""Scenario 8. What the police may know, and what they may not.

An officer with a valid key and a valid token asks the gateway for the shelter's mailbox: denied, and the denial stands
in the gateway's log with the officer's agency, without what was asked for. He writes to the shelter: refused by his own
adapter, and by the gateway should his program be another. He hands a person over to IOM and gets receipts and the
acknowledgement that she was taken over, with a telephone, and never where she is. The investigation that he opens
reaches the judiciary and no agency that assists. When the suspect is released he warns IOM, which took her over, and
does not know that its adapter warns the shelter where she is, within seconds and on a thread of its own.
"""

from __future__ import annotations

from datetime import timedelta

import httpx2
import orjson
import pytest

from adapters.consents import Consents
from schemas.errors import UmuhuzaError
from schemas.event_types import EVENTS
from schemas.forms import Facts, Lawful
from schemas.plain.alert import SafetyWarning
from schemas.plain.case import HandoverAcknowledged
from schemas.plain.investigation import InvestigationOpened
from tests.scenarios.town import CAST, Town
from topics.policy_file import policy

NAME = "Bukuru-Inventée"
LAW = ("bi/police", "bi/judiciary")
FILE = "RMP-Inventé-8"


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


def opened(town: Town) -> Facts:
    said = InvestigationOpened(
        stage="preliminary",
        acts=("harbouring",),
        means=("deception",),
        purposes=("forced-labour",),
        child="no",
        victims=1,
        file_number=FILE,
        opened_at=town.today(),
    )
    duty = Lawful(basis="legal-duty", legal_reference="Texte fictif, 2026", author="Agent inventé", reason="Enquête.")
    return Facts(occurred_at=town.today(), lawful=duty, said=said)


def test_an_investigation_reaches_the_judiciary_and_nobody_who_assists(town: Town) -> None:
    police = town["bi/police"]
    police.draft("bi/judiciary", "investigation.opened", opened(town), person="PV-8")
    for agency, (_, roles, _) in CAST.items():
        if agency not in (*LAW, "bi/operator"):
            code, rule = police.refused(agency, "investigation.opened", opened(town))
            assert code == "not_permitted"
            legal_aid = "event.investigation.opened.to"
            expected = ["firewall.law_enforcement", "flow.investigation.mailbox"]
            assert rule == legal_aid if "legal-aid" in roles else rule in expected
    town.settle()
    [read] = town["bi/judiciary"].opened("investigation.opened")
    assert isinstance(read.facts.said, InvestigationOpened)
    assert read.facts.said.file_number == FILE
    assert {agency for agency in CAST if agency != "bi/operator" and town[agency].inbox()} == set(LAW)
    assert town.found(FILE, "PV-8", but=("bi/police",)) == []


def test_a_safety_warning_reaches_the_shelter_in_seconds_through_who_took_her_over(town: Town) -> None:
    police, iom, shelter = town["bi/police"], town["bi/iom"], town["bi/k7t4"]
    handed = police.draft("bi/iom", "case.identified", town.identified(NAME), person="PV-8")
    town.settle()
    Consents(iom.runner.desk, iom.runner.outbox).link(iom.thread(handed), "IOM-8")
    asked = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME), person="IOM-8")
    town.settle()
    shelter.draft("bi/iom", "referral.accepted", town.plainly(), thread=shelter.thread(asked))
    town.settle()
    town.wait(days=2)

    warning = SafetyWarning(danger="suspect-released", since=town.today(), about=handed, telephone="+25722000000")
    facts = Facts(occurred_at=town.today(), said=warning)
    assert police.refused("bi/k7t4", "safety.warning", facts) == ("not_permitted", "firewall.law_enforcement")
    began = town.clock()
    told = police.draft("bi/iom", "safety.warning", facts)
    town.settle()
    [warned] = shelter.opened("safety.warning")
    assert isinstance(warned.facts.said, SafetyWarning)
    assert (warned.facts.said.danger, warned.facts.said.telephone) == ("suspect-released", "+25722000000")
    [item] = shelter.inbox("safety.warning")
    assert item.iss == "bi/iom"
    assert item.at_ms / 1000 - began < timedelta(seconds=30).total_seconds()
    # It speaks of IOM's own referral, on a thread that police have no part in; and nobody else hears of it.
    assert warned.facts.said.about == asked
    assert shelter.thread(item.evt) != police.thread(told)
    assert [agency for agency in CAST if agency != "bi/operator" and town[agency].inbox("safety.warning")] == [
        "bi/iom",
        "bi/k7t4",
    ]
    # Police learn that it has arrived at IOM, and no more.
    assert police.outgoing(told).state == "delivered"
    assert {item.type for item in police.inbox()} == {"receipt.delivered"}
    assert all(b"k7t4" not in item.record for item in police.inbox())
    assert town.found(NAME) == []


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
