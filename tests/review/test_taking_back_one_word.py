# SPDX-License-Identifier: Apache-2.0
"""One word of a thread taken back takes no bed with it; the first word taken back takes all that was told of her."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.corrections import Corrections
from schemas.forms import Facts, Information, Name
from schemas.plain.alert import AlertCleared
from schemas.plain.record import RecordCorrected
from tests.agencies import PLANTED, Agencies, Agency, at, consented, referral, said
from tests.schemas.samples import SAMPLES

IOM, SHELTER, POLICE = "bi/iom", "bi/k7t4", "bi/police"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def rights(agency: Agency) -> Corrections:
    return agency.runner.inbox.corrections


def told() -> Facts:
    return Facts(occurred_at=at(), lawful=consented(), information=Information(name=Name(as_given=f"Aline {PLANTED}")))


def staying(town: Agencies) -> tuple[str, str]:
    """A referral under way; its evt and thread."""
    iom, shelter = town[IOM], town[SHELTER]
    asked = iom.evt(iom.draft(SHELTER, "referral.requested", referral(), person="D-1"))
    town.settle()
    [thread] = [one.id for one in shelter.box.threads()]
    for type in ("referral.accepted", "referral.started"):
        shelter.evt(shelter.draft(IOM, type, said(), thread=thread))
    town.settle()
    return asked, thread


def states(town: Agencies, thread: str) -> list[str]:
    found = [town[name].box.thread(thread) for name in (IOM, SHELTER)]
    return [one.state for one in found if one is not None]


def test_an_answer_sent_by_mistake_is_erased_and_her_stay_goes_on(town: Agencies) -> None:
    _, thread = staying(town)
    wrong = town[IOM].evt(town[IOM].draft(SHELTER, "information.answered", told(), thread=thread))
    town.settle()
    assert rights(town[IOM]).retract(wrong, "wrong-person") == "retracted"
    town.settle()
    assert states(town, thread) == ["in-progress", "in-progress"]
    assert [item.state for item in town[SHELTER].inbox() if item.evt == wrong] == ["erased"]
    shelter = town[SHELTER]
    shelter.evt(shelter.draft(IOM, "referral.completed", said(outcome="goals-met"), thread=thread))
    town.settle()
    assert states(town, thread) == ["completed", "completed"]


def test_a_request_taken_back_takes_with_it_what_was_told_of_her_since(town: Agencies) -> None:
    asked, thread = staying(town)
    later = town[IOM].evt(town[IOM].draft(SHELTER, "information.answered", told(), thread=thread))
    town.settle()
    waits = town[IOM].evt(town[IOM].draft(SHELTER, "information.answered", told(), thread=thread))
    rights(town[IOM]).retract(asked, "wrong-recipient")
    town.settle()
    assert states(town, thread) == ["retracted", "retracted"]
    gone = {
        item.evt: item.state
        for item in town[SHELTER].inbox()
        if item.type in ("", "referral.requested", "information.answered")
    }
    assert gone == {asked: "erased", later: "erased"}
    assert town[IOM].outgoing(waits).state == "cancelled"
    assert town[IOM].outgoing(later).grants == ()


def test_an_alert_that_is_over_erases_what_corrected_it_too(town: Agencies) -> None:
    iom, police = town[IOM], town[POLICE]
    alert = iom.evt(iom.draft(POLICE, "alert.missing", SAMPLES["alert.missing"][0]))
    town.settle()
    thread = iom.outgoing(alert).thread
    lawful = SAMPLES["alert.missing"][0].lawful
    name = RecordCorrected(
        evt=alert,
        fields=("referral.name.as_given",),
        name=Name(as_given=f"Aline {PLANTED}"),
        reason="misheard",
        source="person",
    )
    better = iom.evt(
        iom.draft(POLICE, "record.corrected", Facts(occurred_at=at(), lawful=lawful, said=name), thread=thread)
    )
    town.settle()
    over = AlertCleared(outcome="found-safe", erases=(alert,))
    iom.evt(iom.draft(POLICE, "alert.cleared", Facts(occurred_at=at(), said=over), thread=thread))
    town.settle()
    assert {item.evt: item.grant_value for item in police.inbox() if item.evt in (alert, better)} == {
        alert: None,
        better: None,
    }
