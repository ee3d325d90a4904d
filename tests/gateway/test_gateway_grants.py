# SPDX-License-Identifier: Apache-2.0
"""Reading, granted keys, erasure, disclosure: everybody gets what is theirs and nothing else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import orjson
import pytest

from gateway.app import Gateway
from schemas.envelope import Acts, parse_record
from schemas.errors import LogError
from schemas.sealing import open_grant
from tests.gateway.gateway_world import Caller, World, count_of, erasing, grant_for, grants_kept, line_of
from topics.log import Log, grant_key, grants_topic
from topics.sqlite_log import SqliteLog


def test_a_record_comes_with_its_keys_and_opens(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/k7t4") as k7t4:
            one = world.domain.record()
            [told, _] = await iom.send(one)
            [line] = await k7t4.mailbox(flows="referral")
            assert (line["topic"], line["offset"], line["at"]) == ("bi.referral.k7t4", 0, told["at"])
            assert line["key"] == one.manifest.thread
            assert line["ident"] == one.manifest.ident
            record = parse_record(line["record"].encode())
            [grant] = line["grants"]
            keys = open_grant(record, orjson.dumps(grant), world.domain.members["bi/k7t4"].seal)
            assert keys == one.keys

    asyncio.run(run())


def test_nobody_reads_anothers_mailbox_or_keys(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/r5w2") as r5w2:
            one = world.domain.record()
            await iom.send(one)
            for caller in (iom, r5w2):
                assert await caller.mailbox() == []
                [key] = one.grant_puts()
                response = await caller.client.get(
                    "/v1/grants", params={"key": key}, headers={"authorization": f"Bearer {caller.token}"}
                )
                assert response.json() == {"grants": {}}
                assert (await caller.get("/v1/mailbox?flows=bi.referral.k7t4")).status_code == 404
                assert (await caller.get("/v1/ends?flows=investigation")).json()["code"] == "topic_unknown"
            log = world.log(gateway, "bi/r5w2")
            with pytest.raises(LogError) as caught:
                await log.read("bi.referral.k7t4", -1)
            assert caught.value.code == "topic_unknown"
            with pytest.raises(LogError) as denied:
                await log.get_grants("bi.grants.k7t4", [key])
            assert denied.value.code == "not_permitted"
            await log.close()

    asyncio.run(run())


def test_one_read_is_for_all_flows_and_goes_on_behind_each_cursor(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/k7t4") as k7t4:
            await iom.send(world.domain.record(), world.domain.record())
            await iom.send(world.domain.record(flow="receipt", kind="control"))
            found = {(line["topic"], line["offset"]) for line in await k7t4.mailbox()}
            assert found == {("bi.referral.k7t4", 0), ("bi.referral.k7t4", 1), ("bi.receipt.k7t4", 0)}
            lines = await k7t4.mailbox(flows="referral,receipt", after="referral:0,receipt:0")
            assert [(line["topic"], line["offset"]) for line in lines] == [("bi.referral.k7t4", 1)]
            assert len(await k7t4.mailbox(flows="referral,receipt", after="referral:-1,receipt:-1", limit="2")) == 2
            told = (await k7t4.get("/v1/ends")).json()
            assert told["ends"]["referral"] == {"first": 0, "next": 2}
            assert told["log"] == gateway.door.log.log_id

    asyncio.run(run())


def test_an_orphan_grant_is_replaced_when_its_record_comes(tmp_path: Path) -> None:
    """A crash between grant and record leaves the grant: the sender comes again."""

    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/k7t4") as k7t4:
            one = world.domain.record()
            [key] = one.grant_puts()
            await gateway.door.log.put_grants(grants_topic("bi/k7t4"), {key: b'{"orphan":1}'})
            assert await k7t4.mailbox() == []
            await iom.send(one)
            [line] = await k7t4.mailbox()
            assert line["grants"] == [orjson.loads(one.grants[0])]

    asyncio.run(run())


def test_a_refused_record_leaves_no_grant(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one = world.domain.record(seq=2, prev="A" * 43, chain=False)
            two = world.domain.record(chain=False)
            await iom.send(two, one)
            assert await grants_kept(gateway, one) == 0
            assert await grants_kept(gateway, two) == 1

    asyncio.run(run())


@pytest.mark.parametrize(("iss", "to"), [("bi/iom", "bi/k7t4"), ("bi/k7t4", "bi/iom")])
def test_issuer_or_recipient_erase_and_a_repeat_brings_nothing_back(iss: str, to: str, tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with (
            world.opened() as gateway,
            world.caller(gateway) as iom,
            world.caller(gateway, "bi/k7t4") as k7t4,
        ):
            one, two = world.domain.record(), world.domain.record()
            await iom.send(one, two)
            by: Caller = iom if iss == "bi/iom" else k7t4
            [line, _] = await by.send(erasing(world, one, iss, to))
            assert "offset" in line
            assert await grants_kept(gateway, one) == 0
            assert await grants_kept(gateway, two) == 1
            lines = await k7t4.mailbox(flows="referral")
            assert [len(line["grants"]) for line in lines] == [0, 1]
            [again, _] = await iom.send(one)
            assert again["copy"] is True
            assert await grants_kept(gateway, one) == 0
            [key] = one.grant_puts()
            response = await k7t4.client.get(
                "/v1/grants", params={"key": key}, headers={"authorization": f"Bearer {k7t4.token}"}
            )
            assert response.json() == {"grants": {}}

    asyncio.run(run())


@contextlib.asynccontextmanager
async def erasures_held_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """As a reader of another process that holds the embedded log's WAL does; the event: one has begun."""
    begun, go_on, delete = asyncio.Event(), asyncio.Event(), gateway.door.log.delete_grants

    async def held(topic: str, keys: Sequence[str]) -> None:
        begun.set()
        await go_on.wait()
        await delete(topic, keys)

    monkeypatch.setattr(gateway.door.log, "delete_grants", held)
    try:
        async with asyncio.timeout(60):
            yield begun
    finally:
        go_on.set()


def test_commits_go_on_while_an_erasure_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one = world.domain.record()
            await iom.send(one)
            async with erasures_held_up(gateway, monkeypatch) as begun:
                command = asyncio.create_task(iom.send(erasing(world, one, "bi/iom", "bi/k7t4")))
                await begun.wait()
                for _ in range(3):
                    [line, _] = await iom.send(world.domain.record())
                    assert "offset" in line
                assert not command.done()
                assert await grants_kept(gateway, one) == 1
            [line, _] = await command
            assert "offset" in line
            assert await grants_kept(gateway, one) == 0

    asyncio.run(run())


def test_a_gateway_follows_and_answers_while_an_erasure_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a command that came by another gateway."""

    async def run() -> None:
        world = World(tmp_path)
        async with (
            world.opened() as other,
            world.opened(index=tmp_path / "index2.db", follow_seconds=0.02) as gateway,
            world.caller(other) as iom,
            world.caller(gateway) as here,
        ):
            one = world.domain.record()
            await iom.send(one)
            async with erasures_held_up(gateway, monkeypatch) as begun:
                with monkeypatch.context() as patched:  # what it does itself is not what is asked about
                    patched.setattr(other.door.follower, "erase", lambda: asyncio.sleep(0))
                    await iom.send(erasing(world, one, "bi/iom", "bi/k7t4"))
                    await begun.wait()
                    world.clock.at += 200  # it has long not followed the log, as it says
                    while not await is_ready(gateway):
                        await asyncio.sleep(0.02)
                    assert (await here.get("/v1/sent")).status_code == 200
                    assert await grants_kept(gateway, one) == 1
            async with asyncio.timeout(60):
                while await grants_kept(gateway, one):
                    await asyncio.sleep(0.02)

    asyncio.run(run())


async def is_ready(gateway: Gateway) -> bool:
    try:
        await gateway.door.ready()
    except LogError:
        return False
    return True


def test_a_third_party_erases_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/r5w2") as r5w2:
            one = world.domain.record()
            await iom.send(one)
            [line, _] = await r5w2.send(erasing(world, one, "bi/r5w2", "bi/k7t4"))
            assert (line["problem"]["code"], line["problem"]["path"]) == ("not_permitted", "L1.acts.erase[0]")
            assert await grants_kept(gateway, one) == 1

    asyncio.run(run())


def test_an_erasure_that_was_interrupted_is_finished_at_the_next_start(tmp_path: Path) -> None:
    """Killed after the record was durable and before the deletion: the index is rebuilt, the erasure found again."""

    async def run() -> None:
        world = World(tmp_path)
        one = world.domain.record()
        async with world.opened() as gateway, world.caller(gateway) as iom:
            await iom.send(one)
            await iom.send(erasing(world, one, "bi/iom", "bi/k7t4"))
            await gateway.door.log.put_grants(grants_topic("bi/k7t4"), one.grant_puts())  # as if it had not happened
        (tmp_path / "index.db").unlink()
        async with world.opened() as gateway, world.caller(gateway, "bi/k7t4") as k7t4:
            assert await grants_kept(gateway, one) == 0
            assert [line["grants"] for line in await k7t4.mailbox(flows="referral")] == [[]]

    asyncio.run(run())


def test_an_erasure_takes_the_grants_of_who_has_left_and_of_keys_that_nobody_names_any_more(tmp_path: Path) -> None:
    """No registry says which keys a departed holder had; the ledger would find them, and never call it done."""

    async def run() -> None:
        world = World(tmp_path)
        one, other = world.domain.record(), world.domain.record()
        departed, rotated = (grant_key(one.manifest.ident, kid) for kid in ("departed", "rotated"))
        kept = grant_key(other.manifest.ident, "departed")
        async with world.opened() as gateway, world.caller(gateway) as iom:
            await iom.send(one, other)
            log = gateway.door.log
            await log.put_grants("bi.grants.parti", {departed: b"{}", kept: b"{}"})
            await log.put_grants(grants_topic("bi/k7t4"), {rotated: b"{}"})
            await iom.send(erasing(world, one, "bi/iom", "bi/k7t4"))
            assert await grants_kept(gateway, one) == 0
            assert isinstance(log, SqliteLog)
            assert await log.grants_left({one.manifest.ident, other.manifest.ident}) == {other.manifest.ident}
            assert await log.get_grants("bi.grants.parti", [departed, kept]) == {kept: b"{}"}

    asyncio.run(run())


def test_a_disclosure_reaches_its_reader_and_ends_with_the_erasure(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/r5w2") as r5w2:
            one = world.domain.record()
            await iom.send(one)
            telling = world.domain.record(
                "bi/iom", "bi/r5w2", "receipt", "control", acts=Acts(grant=(one.manifest.ident,))
            )
            disclosed = grant_for(world, one, "bi/r5w2")
            [line, _] = await iom.send_lines([line_of(telling, [*telling.grants, disclosed])])
            assert "offset" in line
            [line] = await r5w2.mailbox()
            assert orjson.loads(disclosed) in line["grants"]
            assert len(line["grants"]) == 2
            await iom.send(erasing(world, one, "bi/iom", "bi/k7t4"))
            kid = world.domain.members["bi/r5w2"].seal.kid
            key = grant_key(one.manifest.ident, kid)
            assert await gateway.door.log.get_grants(grants_topic("bi/r5w2"), [key]) == {}
            [line] = await r5w2.mailbox()
            assert len(line["grants"]) == 1
            # What was erased is not disclosed any more.
            late = world.domain.record(
                "bi/iom", "bi/r5w2", "receipt", "control", acts=Acts(grant=(one.manifest.ident,))
            )
            [told, _] = await iom.send_lines([line_of(late, [*late.grants, disclosed])])
            assert (told["problem"]["code"], told["problem"]["path"]) == ("not_permitted", "L1.acts.grant[0]")

    asyncio.run(run())


def test_reading_as_text_shows_no_key_and_no_content(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one = world.domain.record(content=b'{"name":"Planted Person"}')
            await iom.send(one)
            await gateway.door.flush()
            for path in tmp_path.iterdir():
                data = path.read_bytes()
                assert b"Planted Person" not in data
                for key in one.keys.values():
                    assert key not in data
                    assert base64.urlsafe_b64encode(key).rstrip(b"=") not in data

    asyncio.run(run())


def test_a_restored_adapter_learns_what_it_had_sent(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom, world.caller(gateway, "bi/n0") as other:
            mine = [world.domain.record() for _ in range(3)]
            await iom.send(mine[0])
            await other.send(world.domain.record("bi/n0"))
            await iom.send(*mine[1:])
            log = world.log(gateway)
            heads = await log.sent_heads()
            assert {topic: head.seq for topic, head in heads.items()} == {"bi.referral.k7t4": 3}
            assert heads["bi.referral.k7t4"].offset == 3
            sent = await log.sent("bi.referral.k7t4")
            assert [(one.seq, one.offset) for one in sent] == [(1, 0), (2, 2), (3, 3)]
            assert [one.line1 for one in sent] == [one.value.partition(b"\n")[0] for one in mine]
            assert [one.seq for one in await log.sent("bi.referral.k7t4", 2)] == [3]
            assert await log.sent("bi.referral.k7t4", 3) == []
            with pytest.raises(LogError) as caught:
                await log.sent("bi.referral.nobody")
            assert caught.value.code == "topic_unknown"
            await log.close()

    asyncio.run(run())


def test_the_registry_is_fetched_once_and_again_when_it_changed(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway:
            log = world.log(gateway)
            first = await log.fetch_registry()
            assert first is not None
            assert first[0] == world.domain.registry_file
            assert await log.fetch_registry(first[1]) is None
            world.domain.revoke("bi/n2", world.domain.members["bi/n2"].sig.kid)
            world.registry_changed()
            second = await log.fetch_registry(first[1])
            assert second is not None
            assert second[0] == world.domain.registry_file
            # An older file, a damaged one: what is held stays, and the metrics say so.
            (tmp_path / "registry.json").write_bytes(first[0])
            world.clock.at += 2
            assert await log.fetch_registry(second[1]) is None
            (tmp_path / "registry.json").write_bytes(b"damaged")
            world.clock.at += 2
            assert await log.fetch_registry(second[1]) is None
            assert b"umuhuza_gateway_registry_refused 1.0" in gateway.door.metrics.text()
            await log.close()

    asyncio.run(run())


def test_a_new_member_has_its_mailbox_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        newcomer = world.domain.registry.agency("bi/n2")
        world.domain.registry = world.domain.registry.with_agency(
            type(newcomer)(newcomer.id, newcomer.names, ("operator",), newcomer.keys), world.domain.now
        )
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one = world.domain.record(to="bi/n2")
            [line, _] = await iom.send(one)
            assert line["problem"]["code"] == "topic_unknown"
            world.domain.registry = world.domain.registry.with_agency(newcomer, world.domain.now)
            world.registry_changed()
            [line, _] = await iom.send(one)
            assert line["offset"] == 0
            assert await count_of(gateway, "bi.referral.n2") == 1

    asyncio.run(run())


def test_a_gateway_whose_background_work_died_closes_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        world = World(tmp_path)
        log: Log | None = None

        async def broken() -> None:
            raise ZeroDivisionError

        async def lives() -> None:
            nonlocal log
            async with world.opened(follow_seconds=0.05) as gateway, asyncio.timeout(60):
                log = gateway.door.log
                monkeypatch.setattr(gateway.door.intake, "make_topics", broken)
                while (background := gateway.door._background) is None or not background.done():
                    await asyncio.sleep(0.01)

        with pytest.raises(ZeroDivisionError):
            await lives()
        assert log is not None
        with pytest.raises(LogError) as refused:
            await log.ends("bi.referral.k7t4")
        assert refused.value.code == "log_closed"

    asyncio.run(run())
