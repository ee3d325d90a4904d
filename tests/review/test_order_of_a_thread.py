# SPDX-License-Identifier: Apache-2.0
"""A gateway that cannot take one record now (its disk is full, a quota is used up) and takes the next one.

What was said first on a thread has to be in the log before what was said next, or the other side must refuse what
comes first: it does not fit, and nobody sends it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import LogError, PolicyError, UmuhuzaError
from tests.agencies import Agencies, Gate, referral, said

SHELTER, MINISTRY = "bi/k7t4", "bi/min-solidarity"
COURSE = (
    ("referral.received", said()),
    ("referral.accepted", said()),
    ("referral.started", said()),
    ("service.provided", said(service="Health")),
    ("referral.completed", said(outcome="goals-met")),
)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


@pytest.mark.parametrize("skipped", range(len(COURSE)))
@pytest.mark.parametrize("error", [LogError("storage_full"), PolicyError("quota_exceeded", "quota.megabytes_per_hour")])
def test_one_record_that_is_not_taken_now_does_not_cost_those_behind_it(
    town: Agencies, skipped: int, error: UmuhuzaError
) -> None:
    ministry, shelter = town[MINISTRY], town[SHELTER]
    ministry.draft(SHELTER, "referral.requested", referral())
    town.settle()
    thread = shelter.system.arrived[0].thread
    evts = [shelter.evt(shelter.draft(MINISTRY, type, facts, thread=thread)) for type, facts in COURSE]
    shelter.runner.log = Gate(town.log, lambda entry: error if entry.ident.endswith(evts[skipped]) else None)
    for _ in range(len(COURSE) + 1):
        shelter.send()
        ministry.receive()
        ministry.deliver()
    shelter.runner.log = town.log
    for _ in range(3):
        town.wait(1000)
        town.settle()
    assert ministry.inbox("quarantined") == []
    assert ministry.system.types == [type for type, _ in COURSE]
    assert [shelter.outgoing(evt).state for evt in evts] == ["delivered"] * len(COURSE)


def test_threads_apart_go_in_one_request(town: Agencies) -> None:
    for _ in range(5):
        town[MINISTRY].draft(SHELTER, "referral.requested", referral())
    assert town[MINISTRY].send() == 5
