# SPDX-License-Identifier: Apache-2.0
"""A gateway that follows the log judges revoked keys by the ledger's order, where the domain has a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.domain import NOW
from tests.gateway.gateway_world import World
from tests.topics import ledger_world
from topics.ledger import Sequencer


@dataclass
class Both:
    """A gateway's files, and a ledger of another process over the same log, which others write to as well."""

    world: World
    ledger: ledger_world.World
    sequencer: Sequencer

    async def step(self) -> None:
        await self.ledger.sequenced(self.sequencer)

    def revoke(self, at: int) -> None:
        kid = self.world.domain.members["bi/iom"].sig.kid
        self.world.domain.revoke("bi/iom", kid, at)
        self.world.registry_changed()


@contextmanager
def both(folder: Path) -> Iterator[Both]:
    world = World(folder)
    ledger = ledger_world.World(folder, world.domain)
    made = Both(world, ledger, ledger.sequencer())
    yield made
    made.sequencer.view.close()


def test_what_was_logged_before_a_revocation_counts_although_the_log_dates_it_later(tmp_path: Path) -> None:
    async def run() -> None:
        with both(tmp_path) as at:
            record = at.world.domain.record()
            await at.ledger.put(record)
            at.world.write()
            await at.step()
            at.revoke(NOW - 3600)
            late = at.world.domain.record()
            await at.ledger.put(late)
            async with at.world.opened(ledger=tmp_path) as gateway:
                index = gateway.door.index
                assert index.event(record.manifest.ident) is not None
                assert index.event(late.manifest.ident) is None, "the ledger has not said yet"
                assert gateway.door.follower.behind == 1
                await at.step()
                await gateway.door.follower.follow()
                assert index.event(late.manifest.ident) is None, "the ledger refuses it"
                assert (gateway.door.follower.behind, index.unverified()) == (0, [])
            await at.ledger.log.close()

    asyncio.run(run())


def test_what_a_stolen_key_signs_afterwards_does_not_count_although_the_log_dates_it_back(tmp_path: Path) -> None:
    async def run() -> None:
        with both(tmp_path) as at:
            await at.ledger.put(at.world.domain.record("bi/police", "bi/iom", "case", "update"))
            at.world.write()
            at.revoke(NOW)
            await at.step()
            at.ledger.at_ms = (NOW - 3600) * 1000
            stolen = at.world.domain.record()
            await at.ledger.put(stolen)
            await at.step()
            async with at.world.opened(ledger=tmp_path) as gateway:
                assert gateway.door.index.event(stolen.manifest.ident) is None
                assert gateway.door.index.unverified() == []
            await at.ledger.log.close()

    asyncio.run(run())
