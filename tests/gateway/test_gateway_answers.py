# SPDX-License-Identifier: Apache-2.0
"""Between police and a protected place a gateway lets one thing pass: the receipt of an alert in its log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from schemas.envelope import Kind
from tests.domain import Signed
from tests.gateway.gateway_world import Caller, World, count_of
from tests.gateway.test_two_gateways import pair

POLICE, SHELTER, OTHER, IOM = "bi/police", "bi/k7t4", "bi/r5w2", "bi/iom"


def alert(world: World, to: str = POLICE, iss: str = SHELTER) -> Signed:
    return world.domain.record(iss, to, "alert", "update")


def receipt(
    world: World,
    ref: str | None,
    *,
    iss: str = POLICE,
    to: str = SHELTER,
    flow: str = "receipt",
    kind: Kind = "control",
) -> Signed:
    return world.domain.record(iss, to, flow, kind, ref=ref, chain=False)


def at_the_door(tmp_path: Path, scene: Callable[[World, Caller, Caller], Awaitable[None]]) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with (
            world.opened() as gateway,
            world.caller(gateway, SHELTER) as shelter,
            world.caller(gateway, POLICE) as police,
        ):
            await scene(world, shelter, police)
            world.nothing_leaked(gateway)

    asyncio.run(run())


def test_the_receipt_of_an_alert_reaches_the_place_that_raised_it(tmp_path: Path) -> None:
    async def scene(world: World, shelter: Caller, police: Caller) -> None:
        raised = alert(world)
        await shelter.send(raised)
        [told, _] = await police.send(receipt(world, raised.manifest.evt))
        assert told["topic"] == "bi.receipt.k7t4"
        [arrived] = await shelter.mailbox()
        assert arrived["topic"] == "bi.receipt.k7t4"

    at_the_door(tmp_path, scene)


def test_what_answers_nothing_of_theirs_is_refused_and_told_apart(tmp_path: Path) -> None:
    async def scene(world: World, shelter: Caller, police: Caller) -> None:
        mine, to_iom = alert(world), alert(world, IOM)
        await shelter.send(mine, to_iom)
        for wrong, path in (
            (receipt(world, None), "firewall.answers"),
            (receipt(world, "0199f0e0-0000-7000-8000-00000000000d"), "L1.ref"),
            (receipt(world, mine.manifest.evt, to=OTHER), "L1.ref"),
            (receipt(world, to_iom.manifest.evt), "firewall.answers"),
            (receipt(world, mine.manifest.evt, flow="alert", kind="update"), "firewall.law_enforcement"),
            (receipt(world, mine.manifest.evt, flow="receipt", kind="update"), "firewall.law_enforcement"),
        ):
            [told, *_] = await police.send(wrong)
            assert (told["problem"]["code"], told["problem"]["path"]) == ("not_permitted", path)
        assert await shelter.mailbox() == []

    at_the_door(tmp_path, scene)


def test_no_receipt_has_a_receipt(tmp_path: Path) -> None:
    async def scene(world: World, shelter: Caller, police: Caller) -> None:
        raised = alert(world)
        await shelter.send(raised)
        told = receipt(world, raised.manifest.evt)
        await police.send(told)
        [refused, *_] = await shelter.send(receipt(world, told.manifest.evt, iss=SHELTER, to=POLICE))
        assert refused["problem"]["path"] == "firewall.answers"

    at_the_door(tmp_path, scene)


def test_another_gateways_alert_is_looked_for_before_its_receipt_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as both:
            raised = alert(both.one)
            await both.publish(both.first, raised)
            [told] = await both.publish(both.second, receipt(both.other, raised.manifest.evt))
            assert "problem" not in told
            assert await count_of(both.second, "bi.receipt.k7t4") == 1

    asyncio.run(run())
