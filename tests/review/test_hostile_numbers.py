# SPDX-License-Identifier: Apache-2.0
"""Numbers that a peer chooses and that no calendar has: an agency's own registry must still open."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters import projections
from tests.agencies import Agencies, referral

IOM, SHELTER = "bi/iom", "bi/k7t4"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


@pytest.mark.parametrize("deadline", [(1 << 53) - 1, 253_402_300_800])
def test_a_deadline_outside_of_every_calendar_is_none_and_the_registry_opens(town: Agencies, deadline: int) -> None:
    record = town.seal(IOM, SHELTER, "referral.requested", referral(), answer_by=deadline)
    town.put(record)
    shelter = town[SHELTER]
    shelter.receive()
    shelter.deliver()
    story = projections.read(shelter.box, shelter.runner.inbox.opened)
    [entry] = projections.cases(story, datetime.fromtimestamp(town.now, UTC))
    assert entry.answer_by is None
    assert not entry.overdue
