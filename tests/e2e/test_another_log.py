# SPDX-License-Identifier: Apache-2.0
"""An agency that runs notices a log that became another one at once, not in its next round."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.domain import Domain
from topics.http_log import HttpLog
from umuhuza.agency import _pause_in


@pytest.fixture
def log() -> HttpLog:
    domain = Domain("another-log")
    return HttpLog(
        "http://127.0.0.1:9",
        "bi/iom",
        domain.members["bi/iom"].sig,
        domain="bi",
        now=time.time,
        random=lambda count: bytes(count),
        gateway_key=None,
    )


def test_a_pause_ends_when_the_log_is_another_one(log: HttpLog) -> None:
    async def run() -> None:
        log._calls.log_id = "before"
        pausing = asyncio.create_task(_pause_in(log, asyncio.Event(), 3600.0))
        await asyncio.sleep(0.1)
        assert not pausing.done()
        log._calls.log_id = "after"
        async with asyncio.timeout(60):
            await pausing
        await log.close()

    asyncio.run(run())


def test_a_pause_ends_by_itself_and_when_the_agency_stops(log: HttpLog) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        async with asyncio.timeout(60):
            await _pause_in(log, stop, 0.2)
            stop.set()
            await _pause_in(log, stop, 3600.0)
        await log.close()

    asyncio.run(run())
