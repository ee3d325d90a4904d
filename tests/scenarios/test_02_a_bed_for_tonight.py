# SPDX-License-Identifier: Apache-2.0
"""Scenario 2. A bed is needed tonight.

IOM asks every shelter that publishes night shelter, without a name: an adult, a woman, now. Two say yes, and each keeps
a bed for her for a few hours. IOM holds one; the other is released and free for the next. The shelter that was held
declines all the same when it reads the referral; she is referred to the other one. What the first shelter's key could
open was written to it before: of what was written later it opens nothing.

Should two agencies ask for the last bed at once, exactly one gets a yes.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from adapters.directory_book import Asked
from schemas.envelope import parse_record
from schemas.errors import UmuhuzaError
from schemas.plain.directory import AvailabilityAsked, ServicePublished
from schemas.sealing import open_grant, open_parts
from tests.scenarios.town import Town

NAME = "Nshimirimana-Inventée"


def publish(town: Town, shelter: str, places: int) -> None:
    said = ServicePublished(
        entry="nuit",
        name="Hébergement de nuit",
        types=("SocialCare",),
        local="hebergement",
        ages=("adult",),
        sexes=("female",),
        telephone="+257 79 00 00 00",
        valid_until=town.today() + timedelta(days=30),
    )
    town[shelter].directory.publish(said, places)


def ask(town: Town, agency: str) -> str:
    asked = AvailabilityAsked(
        service="SocialCare", local="hebergement", age="adult", sex="female", needed_from=town.today()
    )
    name, outcomes = town[agency].directory.ask(asked)
    assert all(outcome.problem is None for outcome in outcomes)
    return name


def asks(town: Town, agency: str, name: str) -> dict[str, Asked]:
    return {one.peer: one for one in town[agency].directory.book.asks() if one.ask == name}


def test_one_is_held_the_other_released_and_after_a_no_she_is_referred_to_the_other(town: Town) -> None:
    iom, first, second = town["bi/iom"], town["bi/k7t4"], town["bi/r5w2"]
    publish(town, "bi/k7t4", 1)
    publish(town, "bi/r5w2", 1)
    town.settle()
    name = ask(town, "bi/iom")
    town.settle()
    said = asks(town, "bi/iom", name)
    assert all(one.hold_until is not None for one in said.values())
    # Nobody was named, not even sealed.
    assert all(
        opened.facts.said == first.opened("availability.asked")[0].facts.said
        for opened in second.opened("availability.asked")
    )
    iom.directory.take(said["bi/k7t4"].thread)
    town.settle()
    assert [item.type for item in first.inbox()][-1] == "availability.held"
    assert [item.type for item in second.inbox()][-1] == "availability.released"
    [service] = second.directory.book.services()
    assert second.directory.book.free(service) == 1

    asked = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME), person="IOM-2")
    town.settle()
    first.draft("bi/iom", "referral.declined", town.plainly(reason="unsafe-here"), thread=first.thread(asked))
    town.settle()
    again = iom.draft("bi/r5w2", "referral.requested", town.referral(NAME), person="IOM-2")
    town.settle()
    second.draft("bi/iom", "referral.accepted", town.plainly(), thread=second.thread(again))
    town.settle()
    assert (iom.state(iom.thread(asked)), iom.state(iom.thread(again))) == ("declined", "accepted")

    # The first shelter's keys, the second one's record and grant: nothing opens.
    [later] = second.inbox("referral.requested")
    assert later.grant_value is not None
    record, keys = parse_record(later.record), town["bi/k7t4"].runner.desk.keys.seal
    for key in keys.values():
        with pytest.raises(UmuhuzaError) as caught:
            open_parts(record, open_grant(record, later.grant_value, key), ("identity", "content"))
        assert caught.value.code == "grant_unopenable"
    # And under two pseudonyms nobody sees that both referrals are of one person.
    assert first.opened("referral.requested")[0].pseudonym != second.opened("referral.requested")[0].pseudonym
    assert town.found(NAME) == []


def test_two_who_ask_for_the_last_bed_at_once_get_one_yes(town: Town) -> None:
    publish(town, "bi/k7t4", 1)
    town.settle()
    names = {agency: ask(town, agency) for agency in ("bi/iom", "bi/min-solidarity")}
    town.settle()
    answers = [asks(town, agency, name)["bi/k7t4"] for agency, name in names.items()]
    assert [one.hold_until is not None for one in answers].count(True) == 1
    # A yes that nobody takes is free again.
    town.wait(hours=5)
    town.settle()
    name = ask(town, "bi/min-solidarity")
    town.settle()
    assert asks(town, "bi/min-solidarity", name)["bi/k7t4"].hold_until is not None
