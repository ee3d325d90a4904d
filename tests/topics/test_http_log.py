# SPDX-License-Identifier: Apache-2.0
"""What is `HttpLog`'s own: grants that wait for their record, promises under keys that change while it runs.

Against the real gateway, in this process; what goes over the wire is looked at on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.app import Gateway
from schemas.errors import LogError, RecordError
from schemas.keys import SealingKey, SigningKey, VerifyKey, b64url
from schemas.registry import Key
from schemas.sealing import make_grant
from tests.domain import YEAR, Member, Signed, seeded
from tests.gateway.gateway_world import World, grants_kept
from topics.catalogue import mailboxes_of
from topics.http_log import HttpLog
from topics.log import Appended, Ends, ends_of, grant_key, grants_topic
from topics.promise import verify_evidence

SHELTERS_GRANTS = grants_topic("bi/k7t4")


class Wire(httpx2.AsyncBaseTransport):
    """The way to a gateway; keeps what was asked, and the lines of every request that publishes."""

    def __init__(self, gateway: Gateway) -> None:
        self._way = httpx2.ASGITransport(app=gateway)
        self.lines: list[dict[str, Any]] = []
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.path)
        if request.url.path == "/v1/records":
            self.lines += [orjson.loads(line) for line in (await request.aread()).splitlines()]
        return await self._way.handle_async_request(request)


@dataclass
class Keys:
    """The gateway's keys as a registry names them, asked for at every answer."""

    now: list[VerifyKey] = field(default_factory=list)

    def __call__(self) -> Sequence[VerifyKey]:
        return list(self.now)


def handle(world: World, gateway: Gateway, keys: Keys | None = None, wire: Wire | None = None) -> HttpLog:
    return HttpLog(
        "http://gateway",
        "bi/iom",
        world.domain.members["bi/iom"].sig,
        domain="bi",
        now=world.clock,
        random=seeded("handle"),
        transport=wire or Wire(gateway),
        gateway_key=keys or world.gateway_key,
        gzip=False,
    )


def rotated(world: World) -> SigningKey:
    """The operator's next key: in the registry beside the old one, and in the gateway's file from its next start on."""
    domain, new = world.domain, SigningKey.generate(world.domain.random)
    operator = domain.registry.agency("bi/operator")
    key = Key(new.kid, "sig", "ES256", new.public.public, domain.now - 1, domain.now + YEAR)
    domain.registry = domain.registry.with_agency(replace(operator, keys=(*operator.keys, key)), domain.now)
    domain.members["bi/operator"] = Member("bi/operator", new, domain.members["bi/operator"].seal)
    (world.directory / "gateway.key").write_text(b64url(new.private_bytes()), encoding="ascii")
    return new


async def sent(log: HttpLog, record: Signed) -> Appended:
    await log.put_grants(SHELTERS_GRANTS, record.grant_puts())
    [answer] = await log.append([record.entry])
    assert isinstance(answer, Appended)
    return answer


def test_a_gateway_that_changes_its_key_is_believed_under_the_keys_of_the_moment(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        keys = Keys([world.gateway_key])
        async with world.opened() as gateway:
            log = handle(world, gateway, keys)
            await sent(log, world.domain.record())
            await log.close()
        new = rotated(world)
        async with world.opened() as gateway:
            log = handle(world, gateway, keys)
            record = world.domain.record()
            with pytest.raises(RecordError) as refused:  # our registry is older than the rotation
                await sent(log, record)
            assert (refused.value.code, refused.value.path) == ("signature_invalid", "promise")
            keys.now.append(new.public)
            answer = await sent(log, record)
            assert (answer.copy, answer.offset) == (True, 1)  # it was there; what it lacked was a promise
            assert answer.promise is not None
            verify_evidence(answer.promise, new.public, "bi")
            keys.now.reverse()  # whichever of them it is
            assert (await sent(log, world.domain.record())).offset == 2
            await log.close()

    asyncio.run(run())


def test_a_promise_under_a_key_that_nobody_named_is_no_acknowledgement(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        strangers = [SigningKey.generate(world.domain.random).public for _ in range(2)]
        async with world.opened() as gateway:
            log = handle(world, gateway, Keys(strangers))
            with pytest.raises(RecordError) as refused:
                await sent(log, world.domain.record())
            assert (refused.value.code, refused.value.path) == ("signature_invalid", "promise")
            await log.close()

    asyncio.run(run())


def test_before_any_key_is_known_promises_are_kept_and_not_believed(tmp_path: Path) -> None:
    """The first registry names the gateway's key; what was promised before can be checked then."""

    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            log = handle(world, gateway, Keys())
            answer = await sent(log, world.domain.record())
            assert answer.promise is not None
            verify_evidence(answer.promise, world.gateway_key, "bi")
            await log.close()

    asyncio.run(run())


def test_a_grant_that_is_not_put_again_does_not_travel(tmp_path: Path) -> None:
    """Between two attempts one of the recipient's keys was revoked: its grant must not go, nor its refusal come."""

    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            wire = Wire(gateway)
            log = handle(world, gateway, wire=wire)
            record, behind = world.domain.record(), world.domain.record()
            gone = SealingKey.generate(world.domain.random)
            revoked = {
                grant_key(one.manifest.ident, gone.kid): make_grant(one.manifest, one.keys, "bi/k7t4", gone.public)
                for one in (record, behind)
            }
            for one in (record, behind):
                await log.put_grants(SHELTERS_GRANTS, one.grant_puts())
            await log.put_grants(SHELTERS_GRANTS, revoked)
            await log.put_grants(SHELTERS_GRANTS, record.grant_puts())
            [answer, other] = await log.append([record.entry, behind.entry])
            assert isinstance(answer, Appended)
            assert wire.lines[0]["grants"] == [orjson.loads(grant) for grant in record.grants]
            assert await grants_kept(gateway, record) == 1
            # Of the record behind nothing was put again: both go, and the gateway refuses the key it does not know.
            assert not isinstance(other, Appended)
            assert len(wire.lines[1]["grants"]) == 2
            await log.close()

    asyncio.run(run())


def test_a_grant_travels_once(tmp_path: Path) -> None:
    """Acknowledged with its record: the same bytes again bring no grant back that was erased meanwhile."""

    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            wire = Wire(gateway)
            log = handle(world, gateway, wire=wire)
            record = world.domain.record()
            await sent(log, record)
            await log.append([record.entry])
            assert [len(line["grants"]) for line in wire.lines] == [1, 0]
            await log.close()

    asyncio.run(run())


def test_the_ends_of_all_mailboxes_are_one_question(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway, "bi/k7t4") as shelter:
            record = world.domain.record("bi/k7t4", "bi/iom")
            await shelter.send(record)
            wire = Wire(gateway)
            log = handle(world, gateway, wire=wire)
            mailboxes = mailboxes_of(world.domain.registry.agency("bi/iom"))
            ends = await ends_of(log, mailboxes)
            assert wire.asked == ["/v1/token", "/v1/ends"]
            assert tuple(ends) == mailboxes
            assert len(mailboxes) > 2
            assert {topic for topic, end in ends.items() if end != Ends(0, 0)} == {"bi.referral.iom"}
            assert ends["bi.referral.iom"] == await log.ends("bi.referral.iom") == Ends(0, 1)
            assert await ends_of(log, ()) == {}
            with pytest.raises(LogError) as refused:
                await ends_of(log, [*mailboxes, "bi.referral.k7t4"])
            assert refused.value.code == "topic_unknown"
            await log.close()

    asyncio.run(run())
