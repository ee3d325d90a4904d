# SPDX-License-Identifier: Apache-2.0
"""Two gateways over one log: what each learns late, and that they say the same in the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.app import Gateway
from gateway.checkers import Checkers
from gateway.checking import AtOnce, Here
from schemas.envelope import Acts, cloudevents_headers, record_value
from schemas.errors import LogError, UmuhuzaError
from schemas.sealing import parse_grant
from tests.domain import NOW, Domain, Signed
from tests.gateway.gateway_world import World, erasing, grant_for, line_of
from tests.gateway.test_gateway_checkers import tasks_of
from topics.log import Appended, Entry, grant_key, grants_topic

TOPIC = "bi.referral.k7t4"


@dataclass
class Pair:
    """Two gateways of one domain on one SQLite file; neither follows the other by itself."""

    domain: Domain
    one: World
    first: Gateway
    other: World
    second: Gateway

    async def publish(self, gateway: Gateway, *signed: Signed) -> list[dict[str, Any]]:
        world = self.one if gateway is self.first else self.other
        async with world.caller(gateway, signed[0].manifest.iss) as caller:
            *lines, _ = await caller.send(*signed)
            return lines

    async def learn(self) -> None:
        for gateway in (self.first, self.second):
            await gateway.door.follower.follow()


@contextlib.asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    log = str(tmp_path / "log.db")
    one = World(tmp_path / "one", settings={"log": log})
    other = World(tmp_path / "other", one.domain, settings={"log": log})
    async with one.opened(follow_seconds=1000.0) as first, other.opened(follow_seconds=1000.0) as second:
        yield Pair(one.domain, one, first, other, second)


def rows(index: Path) -> dict[str, list[Any]]:
    connection = apsw.Connection(str(index), flags=apsw.SQLITE_OPEN_READONLY)
    tables = ("cursor", "chain", "event", "void", "unverified")
    found = {table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}
    connection.close()
    return found


def test_a_member_that_this_gateway_hears_of_later_is_not_passed_by_for_ever(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as two:
            domain = two.domain
            full = domain.registry
            domain.registry = replace(
                full, version=full.version + 1, agencies={k: v for k, v in full.agencies.items() if k != "bi/n1"}
            )
            two.other.registry_changed()
            assert "bi/n1" not in two.second.door.registry.agencies
            domain.registry = full
            sent = [domain.record("bi/n1") for _ in range(3)]
            await two.publish(two.first, *sent)
            await two.second.door.follower.follow()
            assert two.second.door.index.event(sent[0].manifest.ident) is None
            domain.registry = replace(full, version=full.version + 2)
            two.other.registry_changed()
            await two.second.door.follower.follow()
            assert all(two.second.door.index.event(one.manifest.ident) for one in sent)
            assert two.second.door.index.unverified() == []
            [line] = await two.publish(two.second, domain.record("bi/n1"))
            assert (line["offset"], line.get("finding")) == (3, None)
            [line] = await two.publish(two.second, sent[0])
            assert (line["offset"], line["copy"]) == (0, True)

    asyncio.run(run())


def test_who_signed_stays_unknown_over_a_restart_until_a_registry_names_them(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        full = world.domain.registry
        less = replace(full, agencies={k: v for k, v in full.agencies.items() if k != "bi/n1"})
        sent = world.domain.record("bi/n1")
        world.domain.registry = less
        async with world.opened(follow_seconds=1000.0) as gateway:
            await gateway.door.log.append([sent.entry])
            await gateway.door.follower.follow()
        async with world.opened(follow_seconds=1000.0) as gateway:
            assert gateway.door.index.unverified() == [(TOPIC, 0)]
            world.domain.registry = replace(full, version=full.version + 1)
            world.registry_changed()
            await gateway.door.follower.follow()
            assert gateway.door.index.event(sent.manifest.ident) is not None

    asyncio.run(run())


def test_a_repeat_that_would_be_refused_here_is_answered_as_the_other_gateway_answered(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as two:
            soon = two.domain.record(iat=NOW + 86_400 - 5)  # nearly too far ahead
            [taken] = await two.publish(two.first, soon)
            two.other.clock.at -= 10  # by this gateway's clock it is
            [line] = await two.publish(two.second, soon)
            assert (line.get("copy"), line.get("offset")) == (True, taken["offset"])

    asyncio.run(run())


def test_another_body_than_was_signed_does_not_count_and_the_right_one_is_taken(tmp_path: Path) -> None:
    """As somebody could write who writes into the log directly."""

    async def run() -> None:
        async with pair(tmp_path) as two:
            right, wrong = two.domain.record(), two.domain.record("bi/n1")
            line1 = right.value.partition(b"\n")[0]
            value = record_value(line1, wrong.value.partition(b"\n")[2])
            m = right.manifest
            entry = Entry(m.topic, m.thread.encode(), "bi/iom/other", value, cloudevents_headers(m))
            [answer] = await two.first.door.log.append([entry])
            assert isinstance(answer, Appended)
            await two.learn()
            [line] = await two.publish(two.first, right)
            assert (line["offset"], line.get("copy"), line.get("finding")) == (1, None, None)

    asyncio.run(run())


def test_what_is_disclosed_while_it_is_erased_is_erased_too(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with (
            world.opened(follow_seconds=1000.0) as gateway,
            world.caller(gateway) as iom,
            world.caller(gateway, "bi/k7t4") as shelter,
        ):
            target = world.domain.record()
            await iom.send(target)
            disclosing = world.domain.record(
                "bi/k7t4", "bi/r5w2", "receipt", "control", acts=Acts(grant=(target.manifest.ident,))
            )
            extra = grant_for(world, target, "bi/r5w2")
            log: Any = gateway.door.log
            append, at_the_log, go_on = log.append_granted, asyncio.Event(), asyncio.Event()

            async def held(entries: Sequence[Entry], grants: Any) -> Sequence[Appended | UmuhuzaError]:
                at_the_log.set()
                await go_on.wait()
                answers: Sequence[Appended | UmuhuzaError] = await append(entries, grants)
                return answers

            log.append_granted = held
            sending = asyncio.create_task(shelter.send_lines([line_of(disclosing, [*disclosing.grants, extra])]))
            await at_the_log.wait()  # judged, and not there yet
            await append([erasing(world, target, "bi/iom", "bi/k7t4").entry], {})
            await gateway.door.follower.follow()
            go_on.set()
            assert "offset" in (await sending)[0]
            await gateway.door.follower.follow()
            key = grant_key(target.manifest.ident, parse_grant(extra).kid)
            assert await gateway.door.log.get_grants(grants_topic("bi/r5w2"), [key]) == {}
            assert gateway.door.index.erasures_to_do() == []

    asyncio.run(run())


def test_of_two_records_with_one_number_both_gateways_and_a_new_index_know_the_earlier(tmp_path: Path) -> None:
    async def run() -> None:
        async with pair(tmp_path) as two:
            a, b = two.domain.record(chain=False), two.domain.record()  # both are number 1: a mailbox from a copy
            log: Any = two.first.door.log
            [[first], [second]] = await asyncio.gather(two.publish(two.first, a), two.publish(two.second, b))
            await two.learn()
            heads = [gateway.door.index.head("bi/iom", TOPIC) for gateway in (two.first, two.second)]
            assert heads[0] == heads[1]
            assert heads[0] is not None
            assert heads[0].offset == min(one["offset"] for one in (first, second) if "offset" in one)
            for gateway in (two.first, two.second):
                await gateway.door.flush()
            before = rows(two.one.directory / "index.db")
            assert before == rows(two.other.directory / "index.db")
            assert log.log_id == two.second.door.log.log_id
        for file in two.one.directory.glob("index*"):
            file.unlink()
        async with two.one.opened(follow_seconds=1000.0):
            pass
        assert rows(two.one.directory / "index.db") == before

    asyncio.run(run())


def test_an_append_that_ends_in_a_bug_leaves_nobody_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened(follow_seconds=1000.0) as gateway, world.caller(gateway) as iom:

            def broken(*_: object, **__: object) -> None:
                raise KeyError

            with monkeypatch.context() as patched:
                patched.setattr(gateway.door.index, "apply", broken)
                asyncio.get_running_loop().set_exception_handler(lambda *_: None)
                record = world.domain.record()
                async with asyncio.timeout(60):
                    [line, _] = await iom.send(record)
                assert line["problem"]["code"] == "unavailable"
                gc.collect()
            [line, _] = await iom.send(record)
            assert (line["offset"], line["copy"]) == (0, True)

    asyncio.run(run())


def test_a_gateway_that_no_longer_follows_is_not_ready(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened(follow_seconds=1000.0) as gateway, world.caller(gateway) as iom:
            assert (await iom.get("/readyz")).status_code == 200
            world.clock.at += 10_031
            assert (await iom.get("/readyz")).status_code == 503
            with pytest.raises(LogError):
                await gateway.door.ready()

    asyncio.run(run())


def test_what_was_answered_is_not_kept(tmp_path: Path) -> None:
    domain = World(tmp_path).domain
    lines = [line_of(domain.record()) for _ in range(32)]

    async def run() -> None:
        checkers = await Checkers.start(1, Here(AtOnce()))
        try:
            for _ in range(3):
                await checkers.examine(tasks_of(domain, [bytes(bytearray(line)) for line in lines]))
            held: list[Any] = [timer for timer in gc.get_objects() if isinstance(timer, asyncio.TimerHandle)]
            assert not [timer for timer in held if not timer.cancelled() and "_kill" in repr(timer)]
        finally:
            await checkers.close()

    asyncio.run(run())
