# SPDX-License-Identifier: Apache-2.0
"""Clocks that were wrong for a while: an empty battery, a laptop that came back before its network did.

Found by the simulator: one attempt dated years ahead stopped an agency's whole outbox for those years; a receipt that
was refused for its date was never sent again, and its sender never learnt that the record had arrived.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import LogError, OrderError
from tests.agencies import Agencies, Gate, referral
from topics.log import Ends, Entry

YEARS = 3 * 365 * 86_400


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def test_an_attempt_that_failed_while_the_clock_was_years_ahead_is_due_at_once(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    iom.runner.sender.sign_waiting()
    iom.box.postpone(evt, "unavailable", town.now + YEARS)
    assert iom.send() == 1
    assert iom.outgoing(evt).state == "promised"


def test_an_attempt_that_is_not_due_yet_still_waits(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    iom.runner.sender.sign_waiting()
    iom.box.postpone(evt, "unavailable", town.now + 900)
    assert iom.send() == 0


def test_what_waits_for_the_agencys_system_since_a_wrong_date_is_handed_over(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    iom.draft("bi/k7t4", "referral.requested", referral())
    iom.send()
    shelter.receive()
    [item] = shelter.inbox("ready")
    shelter.box.arrivals.postpone_delivery(item.n, "unavailable", town.now + YEARS)
    assert shelter.deliver() == 1


def test_a_receipt_refused_for_its_date_goes_again_under_a_new_number(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    iom.send()
    shelter.receive()
    times = iter((OrderError("clock_ahead", "L1.iat"),))

    def refuses(entry: Entry) -> OrderError | None:
        return next(times, None) if ".receipt." in entry.topic else None

    shelter.runner.log = Gate(town.log, refuses)
    assert shelter.send() == 1
    [receipt] = shelter.sent("receipt.delivered")
    assert (receipt.state, receipt.seq) == ("waiting", None)
    assert shelter.send() == 1
    [receipt] = shelter.sent("receipt.delivered")
    assert (receipt.state, receipt.seq, receipt.voids) == ("promised", 2, (1,))
    iom.receive()
    assert iom.outgoing(evt).state == "delivered"


class Silent(Gate):
    """A gateway that nobody has reached yet: it has no name before its first answer."""

    @property
    def log_id(self) -> str:
        return ""

    async def ends(self, topic: str) -> Ends:
        raise LogError("unavailable", "network")


def test_nothing_is_signed_before_the_gateway_has_told_the_time(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft("bi/k7t4", "referral.requested", referral()))
    iom.runner.log = Silent(town.log)
    with pytest.raises(LogError, match="unavailable"):
        iom.send()
    assert iom.outgoing(evt).state == "waiting"
