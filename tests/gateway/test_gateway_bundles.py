# SPDX-License-Identifier: Apache-2.0
"""A record may be brought by whoever it is for; and a bundle is answered, whoever brings it, for its writer alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from schemas.bundle import CarriedRecord, Contents, Head, Want, open_bundle, seal_bundle
from schemas.envelope import new_evt
from schemas.errors import LogError
from tests.gateway.gateway_world import World


def test_its_reader_may_bring_a_record_and_nobody_else_but_its_issuer(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path)
        one = world.domain.record("bi/iom", "bi/k7t4")
        async with world.opened() as gateway:
            async with world.caller(gateway, "bi/police") as police:
                told = (await police.send(one))[0]
                assert (told["problem"]["code"], told["problem"]["path"]) == ("issuer_mismatch", "L1.iss")
            async with world.caller(gateway, "bi/k7t4") as reader:
                line1 = one.value.partition(b"\n")[0].decode("ascii")
                manifest = orjson.dumps({"manifest": line1, "grants": [orjson.loads(grant) for grant in one.grants]})
                told = (await reader.send_lines([manifest]))[0]  # only its issuer writes by another way
                assert told["problem"]["code"] == "issuer_mismatch"
                told = (await reader.send(one))[0]
                assert (told["offset"], told.get("copy", False)) == (0, False)
                assert [one["offset"] for one in await reader.mailbox()] == [0]
            async with world.caller(gateway) as issuer:
                told = (await issuer.send(one))[0]
                assert (told["offset"], told["copy"]) == (0, True)

    asyncio.run(scene())


def test_one_bad_record_refuses_no_other_and_what_there_is_no_room_for_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.bundles._MAIL_LINES", 2)

    async def scene() -> None:
        world = World(tmp_path)
        shelter, operator = world.domain.members["bi/k7t4"], world.domain.operator
        records = [world.domain.record("bi/iom", "bi/k7t4") for _ in range(3)]
        bad = CarriedRecord(b"no record", ())
        good = CarriedRecord(records[0].value, ())
        without_grants = CarriedRecord(records[0].value, ())

        def bundle(*several: CarriedRecord, after: int = -1) -> bytes:
            at = int(world.clock())
            head = Head(new_evt(at * 1000, world.domain.random), "request", shelter.id, operator.id, at)
            want = Want({gateway.door.log.log_id: {"bi.referral.k7t4": after}})
            return seal_bundle(head, Contents(want=want, records=several), shelter.sig, world.domain.opens.public)

        async with world.opened() as gateway:
            log = world.log(gateway, "bi/police")
            found = open_bundle(await log.exchange(bundle(bad, good, without_grants)), [shelter.seal]).contents
            assert [one["problem"]["code"] for one in found.answers] == [
                "record_malformed",
                "grant_missing",
                "grant_missing",
            ]
            async with world.caller(gateway) as issuer:
                await issuer.send(*records)
            first = open_bundle(await log.exchange(bundle()), [shelter.seal]).contents
            assert ([one["offset"] for one in first.mail], first.log and first.log.more) == ([0, 1], True)
            rest = open_bundle(await log.exchange(bundle(after=1)), [shelter.seal]).contents
            assert ([one["offset"] for one in rest.mail], rest.log and rest.log.more) == ([2], False)
            assert rest.registry == gateway.door.registry_file.data
            with pytest.raises(LogError, match="bundle_unopenable"):
                open_bundle(await log.exchange(bundle()), [world.domain.members["bi/police"].seal])
            await log.close()

    asyncio.run(scene())


def test_a_gateway_without_a_sealing_key_says_so(tmp_path: Path) -> None:
    async def scene() -> None:
        world = World(tmp_path, settings={"sealing_key": None})
        async with world.opened() as gateway:
            log = world.log(gateway)
            with pytest.raises(LogError, match="sealing_key"):
                await log.exchange(b"anything")
            await log.close()

    asyncio.run(scene())
