# SPDX-License-Identifier: Apache-2.0
"""Gateways over Apache Kafka: any number of them on one cluster say the same, and none of them is the truth."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import apsw
import pytest

from gateway.app import Gateway
from schemas.errors import LogError
from schemas.registry import Agency
from tests.domain import NOW, Domain, Signed
from tests.gateway.gateway_world import World, count_of, erasing, grants_kept
from tests.kafka.conftest import LEAKS, brokers_go_away, kafka_cluster, second_cluster
from tests.topics.http_harness import GatewayProcess, connect, write_gateway
from tests.topics.kafka_harness import random_id, wipe
from tests.topics.ledger_world import ORIGIN, Registries, entries_in, shown
from tests.topics.test_kafka_admin import raw
from topics import kafka_admin, kafka_log
from topics.catalogue import mailboxes_of
from topics.kafka_access import KafkaAccess
from topics.kafka_catalogue import KafkaAcl
from topics.kafka_clients import Clients
from topics.kafka_log import KafkaLog
from topics.ledger import Sequencer
from topics.ledger_erasures import Erasures
from topics.ledger_store import SqliteLedgerStore
from topics.ledger_view import LedgerView
from topics.log import Appended, grant_key, grants_topic
from topics.settings import SettingsError
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster

__all__ = ["kafka_cluster", "second_cluster"]

TOPIC = "bi.referral.k7t4"


def handed(cluster: Cluster, folder: Path, agency: str = "bi/operator") -> Path:
    """The folder that an administrator hands to whoever comes to Kafka."""
    found = cluster.credentials(agency)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bootstrap").write_text(",".join(cluster.bootstrap) + "\n")
    for name, path in (("ca.pem", found.ca), ("certificate.pem", found.certificate), ("key.pem", found.key)):
        (folder / name).write_bytes(path.read_bytes())
    return folder


def apply(cluster: Cluster, domain: Domain) -> None:
    asyncio.run(kafka_admin.apply(cluster.access(ADMIN), domain.registry, nodes=1, random_id=random_id))


@dataclass
class Ground:
    """An invented domain on a cluster; its gateways in this process are worlds of their own that share it."""

    cluster: Cluster
    folder: Path
    domain: Domain

    def world(self, name: str) -> World:
        kafka = handed(self.cluster, self.folder / "kafka")
        return World(self.folder / name, self.domain, settings={"log": None, "kafka": str(kafka)})


@pytest.fixture
def ground(kafka_cluster: Cluster, tmp_path: Path) -> Ground:
    return prepared(kafka_cluster, tmp_path)


def prepared(cluster: Cluster, folder: Path) -> Ground:
    wipe(cluster.access(ADMIN))
    domain = Domain("kafka", extra_issuers=3)
    apply(cluster, domain)
    return Ground(cluster, folder, domain)


@contextlib.asynccontextmanager
async def two(ground: Ground) -> AsyncIterator[tuple[World, Gateway, World, Gateway]]:
    one, other = ground.world("one"), ground.world("other")
    async with one.opened() as first, other.opened() as second:
        yield one, first, other, second


async def publish(world: World, gateway: Gateway, *signed: Signed) -> list[dict[str, Any]]:
    async with world.caller(gateway, signed[0].manifest.iss) as caller:
        *lines, _ = await caller.send(*signed)
        return lines


def test_two_gateways_take_turns_at_one_chain_and_serve_the_same_mailbox(ground: Ground) -> None:
    async def run() -> None:
        async with two(ground) as (one, first, other, second):
            for number in range(6):
                world, gateway = (one, first) if number % 2 else (other, second)
                [line] = await publish(world, gateway, ground.domain.record())
                assert (line["offset"], line.get("finding")) == (number, None)
            async with one.caller(first, "bi/k7t4") as here, other.caller(second, "bi/k7t4") as there:
                seen = await here.mailbox(flows="referral")
                assert [line["offset"] for line in seen] == list(range(6))
                assert all(line["grants"] for line in seen)
                assert await there.mailbox(flows="referral") == seen
            assert first.door.log.log_id == second.door.log.log_id

    asyncio.run(run())


def test_the_same_record_through_both_at_once_has_one_place_in_the_end(ground: Ground) -> None:
    async def run() -> None:
        async with two(ground) as (one, first, other, second):
            same = ground.domain.record()
            [[here], [there]] = await asyncio.gather(publish(one, first, same), publish(other, second, same))
            assert here["l1_sha256"] == there["l1_sha256"]
            for gateway in (first, second):
                await gateway.door.follower.follow()
            [again], [too] = await publish(one, first, same), await publish(other, second, same)
            assert again["copy"]
            assert too["copy"]
            assert again["offset"] == too["offset"] == min(here["offset"], there["offset"])
            [line] = await publish(one, first, ground.domain.record())
            assert line.get("finding") is None

    asyncio.run(run())


def rows(index: Path) -> dict[str, list[Any]]:
    connection = apsw.Connection(str(index), flags=apsw.SQLITE_OPEN_READONLY)
    tables = ("cursor", "chain", "event", "void", "disclosed", "command", "erasure")
    found = {table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}
    connection.close()
    return found


def test_an_index_made_again_gives_the_same_answers(ground: Ground) -> None:
    async def run() -> None:
        one, other = ground.world("one"), ground.world("other")
        sent = [ground.domain.record() for _ in range(30)] + [ground.domain.record("bi/n1") for _ in range(10)]
        async with one.opened() as first, other.opened() as second:
            await publish(one, first, *sent[:20])
            await publish(other, second, *sent[20:30])
            await publish(one, first, *sent[30:])
            same = ground.domain.record("bi/n2")
            await asyncio.gather(publish(one, first, same), publish(other, second, same))
            for gateway in (first, second):
                await gateway.door.follower.follow()
                await gateway.door.flush()
            async with one.caller(first) as caller:
                told = (await caller.get("/v1/sent?topic=" + TOPIC)).content
        before = rows(one.directory / "index.db")
        assert before == rows(other.directory / "index.db")
        assert len(before["event"]) == 41
        for file in one.directory.glob("index*"):
            file.unlink()
        async with one.opened() as again, one.caller(again) as caller:
            assert (await caller.get("/v1/sent?topic=" + TOPIC)).content == told
            [line] = await publish(one, again, sent[0])
            assert (line["copy"], line["offset"]) == (True, 0)
        assert rows(one.directory / "index.db") == before

    asyncio.run(run())


def test_one_gateway_killed_under_load_loses_nothing_that_was_acknowledged(ground: Ground) -> None:
    shift = NOW - time.time()
    kafka = handed(ground.cluster, ground.folder / "kafka")
    processes = [
        GatewayProcess(write_gateway(ground.folder / name, ground.domain, log=None, kafka=str(kafka)), shift)
        for name in ("one", "other")
    ]
    acknowledged: dict[str, list[str]] = {}

    async def send(iss: str, victim: GatewayProcess, heir: GatewayProcess) -> None:
        """As an adapter does: one after the other, again with the same bytes until it is acknowledged."""
        done = acknowledged.setdefault(iss, [])
        process = victim
        log = connect(ground.domain, iss, process.address, shift)
        for _ in range(40):
            one = ground.domain.record(iss)
            while True:
                try:
                    await log.put_grants(grants_topic("bi/k7t4"), one.grant_puts())
                    [answer] = await log.append([one.entry])
                except LogError as exc:
                    answer = exc
                if isinstance(answer, Appended):
                    break
                assert isinstance(answer, LogError)
                assert answer.retriable
                if process is victim and victim.process.poll() is not None:
                    await log.close()
                    process, log = heir, connect(ground.domain, iss, heir.address, shift)
                await asyncio.sleep(0.05)
            done.append(one.manifest.ident)
            if len(acknowledged["bi/n0"]) == 15 and victim.process.poll() is None:
                await asyncio.to_thread(victim.stop, signal.SIGKILL)
        await log.close()

    async def run() -> None:
        await asyncio.gather(*(send(f"bi/n{number}", processes[0], processes[1]) for number in range(3)))
        reader = connect(ground.domain, "bi/k7t4", processes[1].address, shift)
        seen: list[str] = []
        while stored := await reader.read(TOPIC, len(seen) - 1):
            seen += [one.ident for one in stored]
        await reader.close()
        once = list(dict.fromkeys(seen))
        for iss, sent in acknowledged.items():
            assert [ident for ident in once if ident.startswith(f"{iss}/")] == sent
            assert len(sent) == 40
        # A repeat to the heir may stand twice; never more often than there was an unanswered request.
        assert len(seen) - len(once) <= 3

    try:
        asyncio.run(run())
    finally:
        for process in processes:
            if process.process.poll() is None:
                process.stop()


@pytest.mark.filterwarnings(LEAKS)
def test_without_its_broker_a_gateway_says_so_and_goes_on_when_it_is_back(
    second_cluster: Cluster,
    tmp_path: Path,
) -> None:
    cluster = second_cluster
    ground = prepared(cluster, tmp_path)

    async def run() -> None:
        world = ground.world("one")
        first, second = ground.domain.record(), ground.domain.record()
        async with world.opened(follow_seconds=0.2) as gateway, world.caller(gateway) as iom:
            [line, _] = await iom.send(first)
            assert line["offset"] == 0
            await asyncio.to_thread(cluster.kill, 1)
            [line, last] = await iom.send(second)
            assert (line["problem"]["code"], line["problem"]["retriable"]) == ("unavailable", True)
            assert line["problem"]["advice"]
            assert last == {"promise": None}
            assert (await iom.get("/readyz")).status_code == 503
            assert await metric(iom, "umuhuza_gateway_log_up") == 0
            await asyncio.to_thread(cluster.start_node, 1)
            async with asyncio.timeout(60):
                while "problem" in (line := (await iom.send(second))[0]):
                    assert line["problem"]["code"] == "unavailable"
            assert line.get("finding") is None
            assert (await iom.get("/readyz")).status_code == 200
            assert await metric(iom, "umuhuza_gateway_log_up") == 1
            async with world.caller(gateway, "bi/k7t4") as shelter:
                seen = list(dict.fromkeys(one["ident"] for one in await shelter.mailbox(flows="referral")))
                assert seen == [first.manifest.ident, second.manifest.ident]

    with brokers_go_away():
        asyncio.run(run())


async def metric(caller: Any, name: str) -> float:
    text = (await caller.get("/metrics")).text
    [line] = [line for line in text.splitlines() if line.startswith(name + " ")]
    return float(line.rpartition(" ")[2])


def test_a_member_whose_topics_are_not_made_yet_keeps_nobody_waiting(ground: Ground) -> None:
    async def run() -> None:
        world = ground.world("one")
        async with world.opened(follow_seconds=0.2) as gateway, world.caller(gateway) as iom:
            template = ground.domain.registry.agency("bi/iom")
            late = Agency("bi/late", {"fr": "Agence tardive (inventée)"}, template.roles, (), False)
            ground.domain.registry = ground.domain.registry.with_agency(late, NOW)
            world.registry_changed()
            await gateway.door.follower.follow()
            [line] = await publish(world, gateway, ground.domain.record())
            assert line["offset"] == 0
            missing = sorted(mailboxes_of(late))
            assert sorted(gateway.door.follower.troubled) == missing
            async with asyncio.timeout(60):
                while await metric(iom, "umuhuza_gateway_topics_missing") != len(missing):
                    await asyncio.sleep(0.05)
            assert (await iom.get("/readyz")).status_code == 200
            await asyncio.to_thread(apply, ground.cluster, ground.domain)
            await gateway.door.follower.follow()
            assert gateway.door.follower.troubled == {}

    asyncio.run(run())


def test_a_topic_that_was_deleted_is_refused_and_the_others_go_on(ground: Ground) -> None:
    async def run() -> None:
        world = ground.world("one")
        async with world.opened() as gateway:
            await publish(world, gateway, ground.domain.record())
            access: KafkaAccess = ground.cluster.access(ADMIN)
            admin = await KafkaLog.open(access, domain="bi", random_id=random_id)
            await admin.delete_topic(TOPIC)
            await admin.close()
            async with asyncio.timeout(30):
                while "problem" not in (line := (await publish(world, gateway, ground.domain.record()))[0]):
                    await asyncio.sleep(0.2)
            assert line["problem"]["code"] in ("unavailable", "topic_unknown")
            [line] = await publish(world, gateway, ground.domain.record("bi/k7t4", "bi/iom", kind="answer"))
            assert line["offset"] == 0
            assert await count_of(gateway, "bi.referral.iom") == 1
        # Started again, as operators do first: it comes up, follows what others write, and says what is wrong.
        async with world.opened(follow_seconds=0.2) as again, world.caller(again) as caller:
            other = ground.world("other")
            async with other.opened() as second:
                sent = ground.domain.record("bi/k7t4", "bi/iom", kind="answer")
                await publish(other, second, sent)
            async with asyncio.timeout(30):
                while again.door.index.event(sent.manifest.ident) is None:
                    await asyncio.sleep(0.05)
            assert await metric(caller, "umuhuza_gateway_topics_missing") == 1
            assert await metric(caller, "umuhuza_gateway_log_up") == 1

    asyncio.run(run())


DEPARTED = "bi.grants.r5w2"


def ends_of_grants(admin: Clients) -> dict[str, int]:
    return admin.ends([DEPARTED, "bi.grants.k7t4"])


def test_an_erasure_takes_the_keys_of_who_has_left_and_the_ledger_calls_it_done(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over SQLite, and also where an earlier `apply` had taken the gateway's rights on what the departed left."""
    monkeypatch.setattr(kafka_log, "SWEEP_FIRST_S", 0.2)
    monkeypatch.setattr(kafka_log, "SWEEP_S", 0.5)
    monkeypatch.setattr(kafka_log, "_rolls_after_ms", lambda: 2000)
    domain, admin = ground.domain, ground.cluster.access(ADMIN)
    one, other = domain.record(), domain.record()
    both = {one.manifest.ident, other.manifest.ident}
    departed, rotated = (grant_key(one.manifest.ident, kid) for kid in ("departed", "rotated"))
    kept = grant_key(other.manifest.ident, "departed")
    left = {name: agency for name, agency in domain.registry.agencies.items() if name != "bi/r5w2"}
    domain.registry = replace(domain.registry.renewed(domain.now), agencies=MappingProxyType(left))
    apply(ground.cluster, domain)
    rights = [KafkaAcl("User:bi.operator", operation, DEPARTED) for operation in ("read", "write")]

    async def erased() -> None:
        world = ground.world("one")
        async with world.opened() as gateway, world.caller(gateway) as iom:
            log = gateway.door.log
            await iom.send(one, other)
            await log.put_grants(DEPARTED, {departed: b"{}", kept: b"{}"})
            await log.put_grants("bi.grants.k7t4", {rotated: b"{}"})
            with raw(admin) as clients:
                clients.remove_acls(rights)
                await iom.send(erasing(world, one, "bi/iom", "bi/k7t4"))
                assert await grants_kept(gateway, one) == 0
                before = ends_of_grants(clients)
                for _ in range(3):
                    await gateway.door.follower.follow()
                assert gateway.door.index.erasures_to_do() == [one.manifest.ident], "it is not forgotten"
                assert ends_of_grants(clients) == before, "nor written over and over"
                clients.add_acls(rights)
                # So that it is compacted while somebody watches.
                quick: dict[str, str | None] = {"segment.ms": "1000", "max.compaction.lag.ms": "1000"}
                clients.change_settings(dict.fromkeys(before, quick))
            async with asyncio.timeout(60):
                while gateway.door.index.erasures_to_do():
                    await gateway.door.follower.follow()
                    await asyncio.sleep(0.2)
            assert await log.get_grants(DEPARTED, [departed, kept]) == {kept: b"{}"}
            assert await log.get_grants("bi.grants.k7t4", [rotated]) == {}
            await called_done()

    async def called_done() -> None:
        store = SqliteLedgerStore.open(ground.folder / "ledger.db", random_id=lambda: "store")
        view = LedgerView.open(ground.folder / "ledger-view.db", origin=ORIGIN, store_id=store.store_id)
        log = await KafkaLog.open(ground.cluster.access("bi/ledger"), domain="bi", random_id=random_id, sweeps=False)
        sequencer = Sequencer(log, store, view, Registries(domain), now_ms=lambda: NOW * 1000, in_thread=False)
        erasures = Erasures(log, sequencer, now_ms=lambda: time.time_ns() // 1_000_000, every_s=2.0)
        try:
            await sequencer.start()
            async with asyncio.timeout(120):
                while not any(line.startswith("erased") for line in shown(entries_in(view))):
                    await sequencer.step()
                    await erasures.turn()
                    assert erasures.problem is None
                    await asyncio.sleep(0.2)
            await erasures.turn()
            assert (erasures.open, erasures.overdue) == (0, 0)
            assert await log.grants_left(both) == {other.manifest.ident}
        finally:
            await erasures.close()
            await log.close()
            view.close()
            store.close()

    asyncio.run(erased())


def test_no_log_or_two_logs_are_refused_before_anything_listens(tmp_path: Path) -> None:
    for logs in ({"log": None, "kafka": None}, {"kafka": str(tmp_path)}):
        world = World(tmp_path / "gateway", settings=dict(logs))

        async def run(world: World = world) -> None:
            async with world.opened():
                raise AssertionError("it opened")

        with pytest.raises(SettingsError, match="log, kafka"):
            asyncio.run(run())


def test_a_folder_that_is_not_what_was_handed_over_is_named(tmp_path: Path) -> None:
    for name in ("bootstrap", "ca.pem", "certificate.pem", "key.pem"):
        with pytest.raises(SettingsError, match=name.replace(".", r"\.")):
            KafkaAccess.of_folder(tmp_path)
        (tmp_path / name).write_text("nonsense")
    with pytest.raises(SettingsError, match="bootstrap"):
        KafkaAccess.of_folder(tmp_path)
    (tmp_path / "bootstrap").write_text("127.0.0.1:9092, [::1]:9093\n")
    assert KafkaAccess.of_folder(tmp_path).bootstrap == ("127.0.0.1:9092", "[::1]:9093")
    os.unlink(tmp_path / "key.pem")
