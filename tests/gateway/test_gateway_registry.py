# SPDX-License-Identifier: Apache-2.0
"""The registry and what members say of it, over HTTP: for members, as signed, and nothing beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.errors import RecordError
from schemas.objections import sign_objection
from tests.gateway.gateway_world import World


def test_an_objection_is_taken_from_its_own_agency_kept_and_told_until_it_is_decided(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        shelter = world.domain.members["bi/k7t4"]
        now = int(world.clock.at)
        line = sign_objection("bi/k7t4", [shelter.seal.kid], now, shelter.sig)
        async with world.opened() as gateway:
            log, other = world.log(gateway, "bi/k7t4"), world.log(gateway, "bi/iom")
            with pytest.raises(RecordError, match="issuer_mismatch"):
                await other.object_to_keys(line)
            with pytest.raises(RecordError, match="record_malformed"):
                await log.object_to_keys(b"nothing")
            assert await other.objections() == []
            await log.object_to_keys(line)
            assert await other.objections() == [line]
            for one in (log, other):
                await one.close()
        async with world.opened() as gateway:  # a restart forgets none
            other = world.log(gateway, "bi/iom")
            assert await other.objections() == [line]
            world.domain.revoke("bi/k7t4", shelter.seal.kid, at=now)
            world.registry_changed()
            assert await other.objections() == []
            await other.close()

    asyncio.run(run())


def test_the_registry_is_served_as_a_static_repository_too_and_nothing_else_is(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            files = gateway.door.registry_file.trusted.files
            for path, data in files.items():
                response = await iom.get(f"/v1/registry/{path}")
                assert (response.status_code, response.content) == (200, data)
                again = await iom.get(f"/v1/registry/{path}", **{"if-none-match": response.headers["etag"]})
                assert (again.status_code, again.content) == (304, b"")
                moves = path == "metadata/timestamp.json"
                assert ("immutable" in response.headers["cache-control"]) is not moves
            for path in ("metadata/9.root.json", "../gateway.toml", "%2e%2e/gateway.key", "registry.json", "metadata/"):
                assert (await iom.get(f"/v1/registry/{path}")).status_code in (404, 405)
            response = await iom.client.get("/v1/registry/metadata/timestamp.json")
            assert (response.status_code, response.json()["code"]) == (401, "token_invalid")

    asyncio.run(run())
