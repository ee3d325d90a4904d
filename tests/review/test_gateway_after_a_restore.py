# SPDX-License-Identifier: Apache-2.0
"""What was put back from a copy, and keys revoked meanwhile: the gateway promises nothing that no log holds."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.keys import HYBRID, SealingKey
from schemas.registry import Key
from schemas.sealing import make_grant
from tests.gateway.gateway_world import World, line_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "gateway")


def test_an_index_ahead_of_its_log_is_made_again(world: World) -> None:
    """The log comes from a copy under its old identity, index.db stays. The gateway then answers "copy", and promises,
    for records that are in no log any more: promised, and gone."""

    async def main() -> None:
        first, second = world.domain.record(), world.domain.record()
        async with world.opened() as gateway, world.caller(gateway) as caller:
            await caller.send(first)
        shutil.copy(world.directory / "log.db", world.directory / "copy.db")
        async with world.opened() as gateway, world.caller(gateway) as caller:
            await caller.send(second)
        shutil.copy(world.directory / "copy.db", world.directory / "log.db")
        async with world.opened() as gateway, world.caller(gateway) as caller:
            told = (await caller.send(second))[0]
            assert "copy" not in told
            assert len(await gateway.door.log.read(second.manifest.topic, -1)) == 2

    asyncio.run(main())


def with_second_key(world: World) -> SealingKey:
    fresh = SealingKey.generate(world.domain.random)
    shelter = world.domain.registry.agency("bi/k7t4")
    now = world.domain.now
    key = Key(fresh.kid, "seal", HYBRID, fresh.public.public, now - 60, now + 86_400)
    world.domain.registry = world.domain.registry.with_agency(replace(shelter, keys=(*shelter.keys, key)), now)
    return fresh


def test_one_revoked_key_among_several_refuses_no_record(world: World) -> None:
    """Sealed to an old and a new key of the recipient, the old one revoked while it waited: the whole record is refused
    for good although the other grant opens it. The revoked key's grant is to be left out, not stored."""

    async def main() -> None:
        fresh = with_second_key(world)
        record = world.domain.record()
        grants = (*record.grants, make_grant(record.manifest, record.keys, "bi/k7t4", fresh.public))
        world.domain.revoke("bi/k7t4", world.domain.members["bi/k7t4"].seal.kid)
        async with world.opened() as gateway, world.caller(gateway) as caller:
            told = await caller.send_lines([line_of(record, grants)])
            assert "problem" not in told[0]
            kept = await gateway.door.log.get_grants(
                "bi.grants.k7t4", [f"{record.manifest.ident}|{json.loads(g)['kid']}" for g in grants]
            )
            assert [json.loads(grant)["kid"] for grant in kept.values()] == [fresh.kid]

    asyncio.run(main())
