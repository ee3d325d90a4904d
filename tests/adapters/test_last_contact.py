# SPDX-License-Identifier: Apache-2.0
"""When machines are silent people telephone: who was last heard when, what does not leave, and which number to call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from adapters import deadlines
from adapters.contact_book import ContactBook
from adapters.expertise import Contacts
from adapters.runner import Runner
from schemas.errors import LogError
from schemas.plain.knowledge import ContactPublished
from tests.agencies import PLANTED, Agencies, Agency, Gate, at, bytes_of, referral
from tests.domain import MEMBERS
from topics.catalogue import retention_s
from topics.log import Stored

COMMISSION, IOM, SHELTER = "bi/ccsprtp", "bi/iom", "bi/k7t4"
HOUR, DAY = 3600, 86_400


class Cut(Gate):
    """The log behind a network that is down."""

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        raise LogError("unavailable", "gateway")


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agencies]:
    monkeypatch.setitem(MEMBERS, COMMISSION, ("Commission (inventée)", ("coordination", "focal-point"), False))
    with Agencies(tmp_path) as agencies:
        yield agencies


def standing(agency: Agency) -> list[tuple[str, str]]:
    return [(alarm.kind, alarm.peer) for alarm in agency.runner.deadlines.alarms()]


def cut(agency: Agency) -> None:
    """One look at the mailboxes that nobody answers."""
    working = agency.runner.log
    agency.runner.log = Cut(agency.town.log)
    with pytest.raises(LogError):
        agency.receive()
    agency.runner.log = working


def refer(town: Agencies) -> str:
    iom = town[IOM]
    return iom.evt(iom.draft(SHELTER, "referral.requested", referral()))


def office(**changes: object) -> ContactPublished:
    return ContactPublished.model_validate(
        {
            "entry": "permanence",
            "function": "duty-officer",
            "name_fr": "Permanence (inventée)",
            "name_en": "Duty office (invented)",
            "telephone": "+257 79 00 00 00",
            "valid_until": at(30 * DAY),
            **changes,
        }
    )


# -- our own gateway ---------------------------------------------------------------------------------------------------


def test_a_gateway_that_has_not_answered_for_four_hours_is_said_until_it_answers(town: Agencies) -> None:
    iom = town[IOM]
    iom.receive()
    since = int(town.now)
    town.wait(4 * HOUR - 1)
    cut(iom)
    assert standing(iom) == []
    town.wait(HOUR)
    cut(iom)
    assert standing(iom) == [("cut-off", "")]
    iom.watch()
    assert (iom.system.known[0].agency, iom.system.known[0].silent_since) == ("", since)
    iom.receive()
    assert standing(iom) == []
    iom.watch()
    assert iom.system.known[0].silent_since is None
    assert iom.system.known[0].seen_at == int(town.now)


def test_an_adapter_that_was_off_for_days_says_nothing_before_it_has_asked(town: Agencies) -> None:
    iom = town[IOM]
    iom.receive()
    town.wait(3 * DAY)
    assert standing(iom) == []
    cut(iom)
    assert standing(iom) == [("cut-off", "")]


def test_how_the_way_was_is_known_after_a_restart(town: Agencies) -> None:
    iom = town[IOM]
    iom.receive()
    town.wait(5 * HOUR)
    cut(iom)
    again = Runner(iom.runner.desk, iom.runner.log, [iom.system])
    assert [alarm.kind for alarm in again.deadlines.alarms()] == ["cut-off"]


def test_it_is_written_down_once_a_minute_and_at_once_when_it_changes(town: Agencies) -> None:
    iom = town[IOM]
    first = int(town.now)
    for _ in range(5):
        town.wait(10)
        iom.receive()
    found = ContactBook(iom.box).way()
    assert found is not None
    assert (found.reached_at, found.code) == (first + 10, "")
    cut(iom)
    found = ContactBook(iom.box).way()
    assert found is not None
    assert (found.reached_at, found.tried_at, found.code) == (first + 10, int(town.now), "unavailable")


# -- peers -------------------------------------------------------------------------------------------------------------


def test_what_has_not_left_for_four_hours_is_told_by_telephone(town: Agencies) -> None:
    refer(town)
    town.wait(4 * HOUR - 1)
    assert standing(town[IOM]) == []
    town.wait(1)
    assert standing(town[IOM]) == [("telephone", SHELTER)]
    town.settle()
    assert standing(town[IOM]) == []


def test_nobody_is_telephoned_for_what_everybody_is_told(town: Agencies) -> None:
    Contacts(town[COMMISSION].runner.desk).publish(office())
    town.wait(5 * HOUR)
    assert standing(town[COMMISSION]) == []


def test_each_agency_was_last_heard_when_the_log_had_its_last_signed_word_a_receipt_included(town: Agencies) -> None:
    refer(town)
    town.settle()
    receipt = int(town.now)
    town.wait(HOUR)
    iom = town[IOM]
    iom.watch()
    assert {one.agency: (one.seen_at, one.silent_since) for one in iom.system.known if one.agency} == {
        SHELTER: (receipt, None)
    }


def test_a_record_that_a_machine_which_is_alive_never_acknowledged_is_told_once(town: Agencies) -> None:
    iom, shelter = town[IOM], town[SHELTER]
    evt = refer(town)
    iom.send()
    town.wait(HOUR)
    shelter.evt(shelter.draft(IOM, "referral.requested", referral()))
    shelter.send()
    iom.receive()
    town.wait(DAY - HOUR)
    assert ("unacknowledged", SHELTER) not in standing(iom)
    town.wait(1)
    assert ("unacknowledged", SHELTER) in standing(iom)
    iom.watch()
    iom.watch()
    told = [one for one in iom.system.escalations if one.kind == "unacknowledged"]
    assert [(one.evt, one.peer) for one in told] == [(evt, SHELTER)]
    shelter.receive()
    shelter.send()
    iom.receive()
    assert "unacknowledged" not in [kind for kind, _ in standing(iom)]


def test_a_sender_hears_that_the_time_of_its_undelivered_record_is_over(town: Agencies) -> None:
    """Retention leaves such a record where it is; somebody has to telephone."""
    iom = town[IOM]
    evt = refer(town)
    iom.send()
    over = town.now + retention_s("referral")
    before = [alarm.kind for alarm in deadlines.alarms(iom.box, over - 1)]
    assert "undelivered" not in before
    [alarm] = [alarm for alarm in deadlines.alarms(iom.box, over) if alarm.kind == "undelivered"]
    assert (alarm.evt, alarm.peer, alarm.due_at) == (evt, SHELTER, int(over))
    town.settle()
    assert "undelivered" not in [alarm.kind for alarm in deadlines.alarms(iom.box, over)]


# -- which number ------------------------------------------------------------------------------------------------------


def test_the_number_to_call_is_the_focal_points_and_stands_beside_who_is_silent(town: Agencies) -> None:
    said = Contacts(town[COMMISSION].runner.desk)
    said.publish(office(entry="sante", function="health", telephone="+257 79 11 11 11"))
    said.publish(office())
    said.publish(office(entry="point-focal", function="focal-point", telephone="+257 79 22 22 22"))
    town.settle()
    iom = town[IOM]
    iom.watch()
    iom.watch()
    numbers = {one.agency: one.telephone for one in iom.system.known}
    assert numbers[COMMISSION] == "+257 79 22 22 22"
    said.publish(office(entry="point-focal", function="focal-point", withdrawn=True))
    town.settle()
    iom.watch()
    assert ContactBook(iom.box).telephones(town.now)[COMMISSION] == "+257 79 00 00 00"
    assert COMMISSION not in ContactBook(iom.box).telephones(town.now + 31 * DAY)


def test_what_is_written_down_of_silence_names_nobody(town: Agencies, tmp_path: Path) -> None:
    refer(town)
    town.settle()
    cut(town[IOM])
    town[IOM].watch()
    assert PLANTED.encode() not in bytes_of(tmp_path)
