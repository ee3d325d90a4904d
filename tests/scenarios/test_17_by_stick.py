# SPDX-License-Identifier: Apache-2.0
"""Scenario 17. Places without a network: a shelter answers by stick for a week; two agencies hand each other sticks.

Every record is the same bytes as over the network, arrives once, and stands in the log once, whoever brings it first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.consents import Consents
from adapters.mailbox_rows import CARRIED
from adapters.stick import Took
from tests.scenarios.by_stick import contact, taken, to_agency
from tests.scenarios.town import Town
from topics.log import Stored

NAME = "Personne-Inventée-A"


def entries(town: Town, topic: str) -> list[Stored]:
    return town.run(town.log.read(topic, -1))


def test_a_shelter_without_network_answers_by_stick_only(town: Town) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    town.power_cut("bi/k7t4")  # no turn of its adapter for the whole week: everything goes by stick
    asked = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME, priority="normal"), person="IOM-1")
    town.settle()
    assert iom.outgoing(asked).state == "promised"

    assert contact(town, "bi/k7t4") == Took(arrived=1, delivered=1)
    assert shelter.system.types == ["referral.requested"]
    town.wait(days=2)
    answer = shelter.draft("bi/iom", "referral.accepted", town.plainly(), thread=shelter.thread(asked))
    second = contact(town, "bi/k7t4")
    assert (second.settled, second.arrived) == (2, 0)  # its receipt, and its yes
    assert shelter.outgoing(answer).state == "promised"
    assert shelter.outgoing(answer).promise is not None
    town.settle()
    assert (iom.outgoing(asked).state, iom.state(iom.thread(asked))) == ("delivered", "accepted")

    town.wait(days=5)
    contact(town, "bi/k7t4")
    assert shelter.outgoing(answer).state == "delivered"
    assert [len(entries(town, topic)) for topic in ("bi.referral.k7t4", "bi.referral.iom")] == [1, 1]
    assert contact(town, "bi/k7t4").arrived == 0
    assert town.found(NAME) == []


@pytest.mark.parametrize("first", ["sender", "reader", "reader-by-stick"])
def test_two_agencies_exchange_by_stick_and_log_it_later(tmp_path: Path, first: str) -> None:
    with Town.made(tmp_path, "sqlite") as town:
        _exchanged_and_logged(town, first)


def _exchanged_and_logged(town: Town, first: str) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    town.power_cut("bi/iom")
    town.power_cut("bi/k7t4")
    asked = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME, priority="normal"), person="IOM-1")
    bundle = to_agency(town, "bi/iom", "bi/k7t4")
    assert taken(town, "bi/k7t4", bundle) == Took(arrived=1, delivered=1)
    [item] = shelter.inbox()
    assert item.log.startswith(CARRIED)
    assert item.record.startswith(iom.outgoing(asked).l1 or b"?")

    shelter.draft("bi/iom", "referral.accepted", town.plainly(), thread=shelter.thread(asked))
    assert taken(town, "bi/iom", to_agency(town, "bi/k7t4", "bi/iom")).arrived == 2
    assert iom.state(iom.thread(asked)) == "accepted"
    assert iom.outgoing(asked).state == "signed"  # confirmed by its reader, and still to be logged
    assert entries(town, "bi.referral.k7t4") == []

    if first == "reader-by-stick":
        assert contact(town, "bi/k7t4").settled == 2
        assert not shelter.inbox()[0].log.startswith(CARRIED)
    back = {"sender": "bi/iom", "reader": "bi/k7t4", "reader-by-stick": "bi/police"}[first]
    for agency in (back, "bi/iom", "bi/k7t4"):
        if agency != "bi/police":
            town.start(agency)
        town.settle()
        assert len(entries(town, "bi.referral.k7t4")) == 1  # whoever comes first has brought it
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    assert iom.outgoing(asked).state == "delivered"
    assert iom.outgoing(asked).promise is not None
    assert iom.state(iom.thread(asked)) == shelter.state(shelter.thread(asked)) == "accepted"
    assert [len(entries(town, topic)) for topic in ("bi.referral.k7t4", "bi.referral.iom")] == [1, 1]
    assert (iom.system.types, shelter.system.types) == (["referral.accepted"], ["referral.requested"])
    assert not any(one.log.startswith(CARRIED) for one in (*iom.inbox(), *shelter.inbox()))


def test_a_withdrawal_reaches_whoever_was_handed_it_before_any_log_had_it(tmp_path: Path) -> None:
    with Town.made(tmp_path, "sqlite") as town:
        _handed_and_withdrawn(town)


def _handed_and_withdrawn(town: Town) -> None:
    iom = town["bi/iom"]
    town.power_cut("bi/iom")
    asked = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME), person="IOM-1")
    taken(town, "bi/k7t4", to_agency(town, "bi/iom", "bi/k7t4"))
    Consents(iom.runner.desk, iom.runner.outbox).withdraw("IOM-1", "sharing")
    town.power_cut("bi/k7t4")  # its sender alone reaches the gateway: nobody can tell it that the shelter has read it
    iom = town.start("bi/iom")
    town.settle()
    assert iom.outgoing(asked).state == "promised"  # what somebody may hold is logged, and not voided
    assert [(one.type, one.state) for one in iom.box.outbox()][-1] == ("consent.withdrawn", "promised")
    shelter = town.start("bi/k7t4")
    town.settle()
    assert "consent.withdrawn" in shelter.system.types
    assert iom.outgoing(asked).state == "delivered"
