# SPDX-License-Identifier: Apache-2.0
"""Dates at the edges of the calendar, as only a hostile or careless sender writes them, stop nobody's inbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas import events
from schemas.errors import LogError, PayloadError
from schemas.forms import Birth, Consent, Facts, validated
from tests.agencies import Agencies, referral

SHELTER, MINISTRY = "bi/k7t4", "bi/min-solidarity"
Spoil = Callable[[bytes, bytes], tuple[bytes, bytes]]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def born_in_the_last_month(content: bytes, identity: bytes) -> tuple[bytes, bytes]:
    assert b'"1999-05"' in identity
    return content, identity.replace(b'"1999-05"', b'"9999-12"')


def consent_before_the_calendar(content: bytes, identity: bytes) -> tuple[bytes, bytes]:
    """Given at 00:00 on the first day of year 1, in a zone in which UTC is still in the year before."""
    whole = json.loads(content)
    edge = "0001-01-01T00:00:00+14:00"
    whole["claims"]["consent"]["given_at"] = edge
    for entry in whole["payload"]["entry"]:
        if entry["resource"]["resourceType"] == "Consent":
            entry["resource"]["dateTime"] = edge
            entry["resource"]["provision"]["period"]["start"] = edge
    return json.dumps(whole).encode(), identity


def written_down_after_the_calendar(content: bytes, identity: bytes) -> tuple[bytes, bytes]:
    whole = json.loads(content)
    whole["recorded_at"] = whole["occurred_at"] = "9999-12-31T23:59:59-14:00"
    return json.dumps(whole).encode(), identity


SPOILS: dict[str, Spoil] = {
    spoil.__name__: spoil
    for spoil in (born_in_the_last_month, consent_before_the_calendar, written_down_after_the_calendar)
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_a_record_from_the_edge_of_the_calendar_is_quarantined_and_the_next_one_arrives(
    town: Agencies, spoil: Spoil
) -> None:
    facts = referral(birth=Birth(precision="month", date="1999-05"))
    bad = town.seal(MINISTRY, SHELTER, "referral.requested", facts, spoil=spoil)
    good = town.seal(MINISTRY, SHELTER, "referral.requested", referral())
    town.put(bad)
    town.put(good)
    town.settle([SHELTER, MINISTRY])
    assert [one.evt for one in town[SHELTER].system.arrived] == [good.manifest.evt]
    assert [item.evt for item in town[SHELTER].inbox("quarantined")] == [bad.manifest.evt]


@pytest.mark.parametrize("edge", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_no_form_holds_a_moment_that_another_zone_could_not_say(edge: str) -> None:
    consent = {"given_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z"}
    for name in consent:
        with pytest.raises(PayloadError):
            validated(Consent, {**consent, name: edge})
    with pytest.raises(PayloadError):
        validated(Facts, {"occurred_at": edge})


@pytest.mark.parametrize("born", ["9999-12", "0001-01", "2200-01", "1899-12"])
def test_nobody_is_born_outside_of_the_years_that_a_date_may_have(born: str) -> None:
    with pytest.raises(PayloadError):
        validated(Birth, {"precision": "month", "date": born})


def test_a_fault_of_ours_that_a_record_meets_is_a_refusal_of_that_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever overflows or is missing in our reading: a code, nothing of the record in it, nothing in its chain."""
    content = b'{"type":"referral.received","schema":"1.0"}'
    for fault in (OverflowError("Aline"), KeyError("Aline"), TypeError("Aline"), RecursionError("Aline")):

        def broken(*_: object, fault: Exception = fault) -> None:
            raise fault

        monkeypatch.setattr(events, "checked", broken)
        with pytest.raises(PayloadError) as refused:
            events.decompose(content, b"", iss="bi/iom", to="bi/k7t4", evt="", thread="")
        assert (refused.value.code, refused.value.path) == ("payload_invalid", "content")
        assert refused.value.__context__ is None


@pytest.mark.parametrize("now", [253_402_300_799.0 + 60, 7_300_000_000.0, 1e18, -1e12])
def test_a_clock_beyond_all_dates_stops_the_turn_with_a_code_until_it_is_right(town: Agencies, now: float) -> None:
    """A gateway's Date sets the agency's clock: whatever it says, the adapter waits and does not die."""
    record = town.seal(MINISTRY, SHELTER, "referral.requested", referral())
    town.put(record)
    before, town.now = town.now, now
    with pytest.raises(LogError) as stopped:
        town[SHELTER].receive()
    assert (stopped.value.code, stopped.value.path) == ("unavailable", "clock")
    assert town[SHELTER].inbox() == []
    town.now = before
    town.settle([SHELTER])
    assert [one.evt for one in town[SHELTER].system.arrived] == [record.manifest.evt]
