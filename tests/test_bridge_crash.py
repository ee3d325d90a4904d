# SPDX-License-Identifier: Apache-2.0
"""A bridge that is killed behind any of its steps: the next one loses nothing and doubles nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash_bridge import STEPS, carry_and_die, request
from tests.domain import Signed
from tests.forked import CONTEXT
from tests.gateway.gateway_world import count_of
from tests.topics.ledger_world import shown
from tests.two_countries import idents, opened
from topics.log import grants_topic

THERE = "bi.bilateral.ccsprtp"


@pytest.fixture(scope="module")
def waiting() -> Iterator[tuple[Path, list[Signed]]]:
    """Both countries' files, with three records that Tunisia has logged for Burundi; in memory where there is such a
    place, since a killed process takes nothing of the page cache with it."""
    memory = Path("/dev") / "shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        sent: list[Signed] = []

        async def story() -> None:
            async with opened(Path(name) / "before") as both:
                for _ in range(3):
                    sent.append(request(both))
                    await both.tn.send(sent[-1])
                await both.tn.ledger_turn()

        asyncio.run(story())
        yield Path(name), sent


@pytest.mark.parametrize("step", STEPS)
def test_a_bridge_killed_there_brings_everything_once_when_it_comes_back(
    step: str, waiting: tuple[Path, list[Signed]]
) -> None:
    place, sent = waiting
    folder = place / step.replace(" ", "-")
    shutil.copytree(place / "before", folder)
    child = CONTEXT.Process(target=carry_and_die, args=(folder, step))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    child.close()

    async def story() -> None:
        async with opened(folder) as both:
            bi, tn = both.bi, both.tn
            turn = await tn.carry()
            assert (turn.refused, turn.waiting, turn.code, turn.path) == (0, 0, None, None)
            assert idents(await bi.mailbox("bi/ccsprtp")) == [one.manifest.ident for one in sent]
            assert await count_of(bi.gateway, THERE) == 3
            assert tn.book.counts() == {"promised": 3}
            assert all(tn.book.promise(one.manifest.ident) for one in sent)
            keys = [key for one in sent for key in one.grant_puts()]
            assert await tn.log.get_grants(grants_topic("bi/ccsprtp"), keys) == {}, "nobody at home needs them"
            assert len(await bi.log.get_grants(grants_topic("bi/ccsprtp"), keys)) == 3
            logged = [one for one in shown(await bi.ledger_turn()) if THERE in one]
            assert logged == [f"event {THERE} {offset}" for offset in range(3)]
            assert (await tn.carry()).promised == 0

    asyncio.run(story())
