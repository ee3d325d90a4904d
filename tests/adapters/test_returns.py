# SPDX-License-Identifier: Apache-2.0
"""A return: nobody departs at extreme risk without a second look, and who does not arrive is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.connectors.contract import Outcome
from adapters.rights_book import RightsBook
from schemas.forms import Consent, Facts, Form, Lawful
from schemas.plain.transfer import (
    ReturnCounselled,
    ReturnDeparted,
    ReturnReceived,
    ReturnRiskAssessed,
    TransferAccepted,
)
from tests.agencies import Agencies, at
from tests.domain import MEMBERS, NOW
from umuhuza.examples import samples_transfer as made

IOM, FOCAL = "bi/iom", "bi/ccsprtp"
HOUR = 3600


@pytest.fixture
def border(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agencies]:
    monkeypatch.setitem(MEMBERS, FOCAL, ("Point focal (inventé)", ("focal-point",), False))
    with Agencies(tmp_path) as agencies:
        yield agencies


def states(border: Agencies, thread: str) -> list[str]:
    found = [border[one].box.thread(thread) for one in (IOM, FOCAL)]
    return [one.state for one in found if one is not None]


def standing(border: Agencies) -> list[list[str]]:
    return [[alarm.kind for alarm in border[one].runner.deadlines.alarms()] for one in (IOM, FOCAL)]


def prepared(border: Agencies) -> str:
    """Asked for by IOM, accepted, and she wishes to return; the thread."""
    iom = border[IOM]
    consent = Consent(given_at=at(-7200), expires_at=at(86_400 * 90), scope=("return",))
    facts = made.transfer().model_copy(update={"lawful": Lawful(basis="consent", consent=consent)})
    evt = iom.evt(iom.draft(FOCAL, "transfer.requested", facts, person="case-9"))
    border.settle((IOM, FOCAL))
    thread = iom.outgoing(evt).thread
    tells(border, FOCAL, "transfer.accepted", TransferAccepted(), thread)
    tells(border, IOM, "return.counselled", ReturnCounselled(decision="wishes-to-return"), thread)
    return thread


def tells(border: Agencies, who: str, type: str, what: Form, thread: str) -> Outcome:
    other = FOCAL if who == IOM else IOM
    outcome = border[who].draft(other, type, Facts(occurred_at=at(border.now - NOW), said=what), thread=thread)
    border.settle((IOM, FOCAL))
    return outcome


def assesses(border: Agencies, who: str, level: str, thread: str) -> None:
    said = ReturnRiskAssessed.model_validate({"level": level, "assessed": "both-sides", "family": "safe"})
    assert tells(border, who, "return.risk-assessed", said, thread).problem is None


def leaves(border: Agencies, thread: str) -> str | None:
    """She departs for the other side; the code where that is refused."""
    expected = at(border.now - NOW + 14 * HOUR)
    said = ReturnDeparted(by="air", expected_at=expected, escort="escorted")
    outcome = tells(border, IOM, "return.departed", said, thread)
    return None if outcome.problem is None else outcome.problem.code


def test_nobody_departs_at_extreme_risk_without_the_other_sides_look(border: Agencies) -> None:
    thread = prepared(border)
    assesses(border, FOCAL, "extreme", thread)
    assert leaves(border, thread) == "risk_extreme"
    assesses(border, IOM, "medium", thread)
    assert leaves(border, thread) == "risk_extreme"  # who said it has not taken it back
    assesses(border, FOCAL, "high", thread)
    assert states(border, thread) == ["preparing", "preparing"]
    assert leaves(border, thread) is None
    assert states(border, thread) == ["departed", "departed"]


def test_nor_does_who_said_so_take_it_back_alone(border: Agencies) -> None:
    thread = prepared(border)
    assesses(border, IOM, "extreme", thread)
    assesses(border, IOM, "low", thread)
    assert leaves(border, thread) == "risk_extreme"
    assesses(border, FOCAL, "low", thread)
    assert leaves(border, thread) is None


def test_who_left_while_the_other_side_said_extreme_is_awaited_and_looked_into(border: Agencies) -> None:
    thread = prepared(border)
    focal, iom = border[FOCAL], border[IOM]
    said = ReturnRiskAssessed(level="extreme", assessed="receiving-side", family="involved")
    focal.evt(focal.draft(IOM, "return.risk-assessed", Facts(occurred_at=at(), said=said), thread=thread))
    assert leaves(border, thread) is None  # the two crossed
    assert states(border, thread) == ["departed", "departed"]
    assert [(one.kind, one.peer) for one in RightsBook(focal.box).reviews() if one.kind == "incident"] == [
        ("incident", IOM)
    ]
    assert iom.inbox("quarantined") == focal.inbox("quarantined") == []


def test_a_return_that_does_not_arrive_alarms_both_sides_and_one_that_does_alarms_nobody(border: Agencies) -> None:
    thread = prepared(border)
    assert leaves(border, thread) is None
    border.wait(16 * HOUR)
    assert standing(border) == [["not-arrived"], ["not-arrived"]]
    tells(border, FOCAL, "return.received", ReturnReceived(received_by="agency"), thread)
    assert standing(border) == [[], []]
