# SPDX-License-Identifier: Apache-2.0
"""A full disk under the log: refused with 507, retriable, and nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import httpx2

from gateway.app import Gateway
from gateway.checking import AtOnce
from gateway.door import Door, open_door
from gateway.settings import load_settings, read_registry_root
from tests.domain import seeded
from tests.gateway.gateway_world import World, count_of, line_of
from tests.power_cut import PowerCutVFS
from topics.catalogue import topics_of
from topics.log import Appended, Stored
from topics.registry_file import RegistryFile
from topics.sqlite_log import SqliteLog


async def over(world: World, log: SqliteLog) -> Gateway:
    """A gateway over this very log."""
    settings = load_settings(world.write(), environment={})

    async def opener() -> Door:
        return await open_door(
            settings,
            log=log,
            registry_file=RegistryFile(settings.registry, read_registry_root(settings), world.clock),
            key=world.domain.members["bi/operator"].sig,
            now=world.clock,
            random=seeded("door"),
            run=AtOnce(),
            index_in_memory=True,
        )

    gateway = Gateway(settings, opener, None, lambda: 0.0)
    await gateway.start()
    return gateway


def open_log(world: World) -> SqliteLog:
    ids = itertools.count()
    return SqliteLog.open(
        "/log.db",
        topics=[topic for topic in topics_of(world.domain.registry) if ".grants." not in topic],
        clock_ms=lambda: int(world.clock() * 1000),
        random_id=lambda: f"log{next(ids)}",
        threads=False,
        vfs="full",
        exclusive=True,
    )


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        disk = PowerCutVFS("full", seed=1)
        gateway = await over(world, open_log(world))
        async with world.caller(gateway) as iom:
            records = [world.domain.record() for _ in range(60)]
            taken = [line["evt"] for line in (await iom.send(*records[:5]))[:-1]]
            disk.quota_bytes = disk.used_bytes() + 100_000
            statuses: list[int] = []
            for record in records[5:]:
                response = await iom.single(line_of(record))
                statuses.append(response.status_code)
                if response.status_code == 200:
                    taken.append(response.json()["evt"])
                else:
                    told = response.json()
                    assert (response.status_code, told["code"], told["retriable"]) == (507, "storage_full", True)
                    assert response.headers["retry-after"] == "5"
            assert statuses[-1] == 507
            # In a batch each line is told; what is there already is told so again.
            told_lines = await iom.send(records[0], records[-1])
            assert told_lines[0]["copy"] is True
            assert told_lines[1]["problem"]["code"] == "storage_full"
            disk.quota_bytes = None
            again = await iom.send(*records)
            assert all("offset" in line for line in again[:-1])
            copies = [line["evt"] for line in again[:-1] if line.get("copy")]
            assert copies == taken
            assert await count_of(gateway, "bi.referral.k7t4") == 60
        await gateway.stop()
        # After a power cut everything that was acknowledged is there.
        disk.cut()
        disk.reset_after_cut()
        log = open_log(world)
        kept: list[Stored] = []
        while more := await log.read("bi.referral.k7t4", len(kept) - 1):
            kept += more
        assert {one.ident for one in kept} >= {f"bi/iom/{evt}" for evt in taken}
        await log.close()
        disk.forget()

    asyncio.run(run())


def test_over_http_a_full_disk_is_said_as_the_log_says_it(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        disk = PowerCutVFS("full", seed=2)
        gateway = await over(world, open_log(world))
        log = world.log(gateway)
        codes: list[str] = []
        disk.quota_bytes = disk.used_bytes() + 200_000
        for _ in range(40):
            one = world.domain.record()
            await log.put_grants("bi.grants.k7t4", one.grant_puts())
            [answer] = await log.append([one.entry])
            codes.append("appended" if isinstance(answer, Appended) else answer.code)
        assert codes[-1] == "storage_full"
        assert set(codes) == {"appended", "storage_full"}
        await log.close()
        await gateway.stop()
        disk.forget()

    asyncio.run(run())


def test_it_is_not_ready_when_the_log_is_gone(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            assert (await iom.get("/readyz")).status_code == 200
            await gateway.door.log.close()
            response: httpx2.Response = await iom.get("/readyz")
            assert (response.status_code, response.json()["code"]) == (503, "log_closed")
            assert (await iom.get("/healthz")).status_code == 200
            response = await iom.single(line_of(world.domain.record()))
            assert (response.status_code, response.json()["code"]) == (503, "log_closed")
            assert response.json()["retriable"] is True
            assert (await iom.get("/v1/mailbox")).status_code == 503

    asyncio.run(run())
