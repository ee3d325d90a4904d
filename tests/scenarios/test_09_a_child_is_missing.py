# SPDX-License-Identifier: Apache-2.0
"""Scenario 9. A child is missing.

The shelter, a protected place, tells the police and IOM at once, under vital interests: what the child looks like, who
must not learn of the search, whom to telephone. That it has arrived there it learns from their machines' receipts; of
themselves the police may not write to the shelter's handle, and do not need to.
Two days later the child is found. The word that ends the search erases what was told wherever it was told: the keys in
the log are gone, and neither the police's nor IOM's mailbox opens it any more; that there was an alert stays provable.

An adult who left of her own will is not missing, and nobody looks for her.
"""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.forms import Facts, Name
from schemas.plain.alert import AlertCleared, AlertMissing
from tests.scenarios.town import Town

NAME = "Irankunda-Inventé"
LOOKS = "Cicatrice inventée au menton"
READERS = ("bi/police", "bi/iom")


def missing(town: Town) -> Facts:
    said = AlertMissing(
        age="child",
        circumstance="did-not-return",
        missing_since=town.today(),
        name=Name(as_given=NAME),
        description=LOOKS,
        do_not_tell="Le tuteur.",
        telephone="+257 79 00 00 00",
    )
    return Facts(occurred_at=town.today(), lawful=town.vital(), said=said)


def test_told_at_once_found_and_erased(town: Town) -> None:
    shelter = town["bi/k7t4"]
    told = {to: shelter.draft(to, "alert.missing", missing(town), person="M-9") for to in READERS}
    town.settle()
    for to in READERS:
        [alert] = town[to].opened("alert.missing")
        assert isinstance(alert.facts.said, AlertMissing)
        assert (alert.facts.said.name.as_given, alert.facts.said.description) == (NAME, LOOKS)
        assert town.grants_of(to, told[to], "bi/k7t4")
        assert shelter.outgoing(told[to]).state == "delivered"
    assert {item.type for item in shelter.inbox()} == {"receipt.delivered"}
    town.wait(days=2)
    for to in READERS:
        cleared = AlertCleared(outcome="found-safe", erases=(told[to],))
        facts = Facts(occurred_at=town.today(), said=cleared)
        shelter.draft(to, "alert.cleared", facts, thread=shelter.thread(told[to]))
    town.settle()
    for to in READERS:
        assert town.grants_of(to, told[to], "bi/k7t4") == []
        [item] = town[to].inbox("alert.missing")
        assert (item.state, item.grant_value) == ("erased", None)
        assert town[to].opened("alert.cleared")
        # What was signed and sealed stays where it was, for the proofs.
        assert item.record
    assert town.found(NAME, LOOKS) == []


def test_what_ends_no_alert_of_that_thread_is_refused(town: Town) -> None:
    shelter = town["bi/k7t4"]
    told = {to: shelter.draft(to, "alert.missing", missing(town)) for to in READERS}
    town.settle()
    wrong = AlertCleared(outcome="found-safe", erases=(told["bi/iom"],))
    refused = shelter.refused(
        "bi/police",
        "alert.cleared",
        Facts(occurred_at=town.today(), said=wrong),
        thread=shelter.thread(told["bi/police"]),
    )
    assert refused == ("thread_unknown", "said.erases[0]")
    assert town.grants_of("bi/iom", told["bi/iom"], "bi/k7t4")


def test_an_adult_who_left_freely_is_not_missing(town: Town) -> None:
    with pytest.raises(ValidationError):
        AlertMissing(
            age="adult",
            circumstance="left-freely",
            missing_since=town.today(),
            name=Name(as_given=NAME),
            telephone="+257 79 00 00 00",
        )
