# SPDX-License-Identifier: Apache-2.0
"""A record that is in the log stays accepted: its repeat gets the first answer, whatever has changed meanwhile.

Else a sender that missed the first answer would void a number that is there, and nobody could ever mend its chain.
Found by the simulator: an operator took a role away between the first sending and the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.examine import Refused
from gateway.outcomes import Accepted
from tests.gateway.gateway_world import World, line_of
from topics.log import Appended


def _no_role(world: World) -> None:
    agency = world.domain.registry.agency("bi/k7t4")
    world.domain.registry = world.domain.registry.with_agency(replace(agency, roles=("shelter",)), int(world.clock.at))


def _stale(world: World) -> None:
    world.clock.at += 31 * 86_400


def _revoked(world: World) -> None:
    world.domain.revoke("bi/iom", world.domain.members["bi/iom"].sig.kid, int(world.clock.at))


@pytest.mark.parametrize("change", [_no_role, _stale, _revoked])
def test_a_repeat_is_answered_as_the_first_time(change: Callable[[World], None], tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            signed, other = world.domain.record(), world.domain.record()
            publish = gateway.door.intake.publish
            (first,) = (await publish("bi/iom", [line_of(signed)])).outcomes
            assert isinstance(first, Accepted)
            change(world)
            world.registry_changed()
            again, new = (await publish("bi/iom", [line_of(signed), line_of(other)])).outcomes
            assert again == replace(first, copy=True)
            assert not isinstance(new, Accepted)

    asyncio.run(run())


def test_only_its_issuer_hears_of_it(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            signed = world.domain.record()
            await gateway.door.intake.publish("bi/iom", [line_of(signed)])
            (told,) = (await gateway.door.intake.publish("bi/police", [line_of(signed)])).outcomes
            assert isinstance(told, Refused)
            assert told.error.code == "issuer_mismatch"

    asyncio.run(run())


def test_the_sender_that_missed_the_answer_gets_its_promise(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            signed = world.domain.record()
            await gateway.door.intake.publish("bi/iom", [line_of(signed)])
            _no_role(world)
            world.registry_changed()
            log = world.log(gateway)
            (told,) = await log.append([signed.entry])
            await log.close()
            assert isinstance(told, Appended)
            assert (told.offset, told.copy) == (0, True)

    asyncio.run(run())
