# SPDX-License-Identifier: Apache-2.0
"""Brokers that hang, die and come back under load: what was acknowledged is there, in order, and codes say what is up.

The broker is this module's own. Every story ends with a count of what was sent against what is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import LogError
from tests.kafka.conftest import MakeCluster, kafka_clusters
from tests.topics.kafka_harness import open_kafka, run
from tests.topics.log_contract import EntryMaker, everything, first_copies, topic_of
from topics import kafka_admin, kafka_producer
from topics.kafka_access import KafkaAccess
from topics.log import Appended, Entry, grants_topic
from umuhuza.kafka.cluster import Cluster

__all__ = ["kafka_clusters"]
# kafka-python 3.0.12 drops a connection whose TLS handshake a dying broker cut off without closing its socket.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
MAILBOXES = (topic_of(0), topic_of(2))
GRANTS = grants_topic("bi/k7t4")


@pytest.fixture
def cluster(kafka_clusters: MakeCluster) -> Iterator[Cluster]:
    made = kafka_clusters(1)
    run(kafka_admin.apply(made.access("admin"), EntryMaker().domain.registry, nodes=1))
    yield made
    made.send(1, signal.SIGCONT)
    gc.collect()  # here, where the filter above holds


@pytest.fixture
def gateway(cluster: Cluster) -> KafkaAccess:
    return cluster.access("bi/operator")


async def write_all(access: KafkaAccess, issuer: int, count: int, acknowledged: dict[str, int]) -> None:
    """As an outbox does: in order, each until it is acknowledged."""
    log = await open_kafka(access)
    for n in range(count):
        entry = Entry(MAILBOXES[issuer % 2], b"k", f"bi/n{issuer}/{n}", b"%d of %d" % (n, issuer))
        while True:
            [answer] = await log.append([entry])
            if isinstance(answer, Appended):
                acknowledged[entry.ident] = answer.offset
                break
            assert answer.retriable, answer.code
            await asyncio.sleep(0.05)
    await log.close()


async def verify(access: KafkaAccess, writers: int, count: int, acknowledged: dict[str, int]) -> int:
    """Every acknowledged entry is where its answer said, first copies are in their sender's order; counts copies."""
    log = await open_kafka(access)
    copies = 0
    assert len(acknowledged) == writers * count
    for at, topic in enumerate(MAILBOXES):
        stored = await everything(log, topic)
        assert [s.offset for s in stored] == list(range(len(stored)))
        firsts = [s.ident for s in first_copies(stored)]
        copies += len(stored) - len(firsts)
        for issuer in range(at, writers, 2):
            mine = [ident for ident in firsts if ident.startswith(f"bi/n{issuer}/")]
            assert mine == [f"bi/n{issuer}/{n}" for n in range(count)]
            assert all(stored[acknowledged[ident]].ident == ident for ident in mine)
    await log.close()
    return copies


@pytest.mark.parametrize("fault", ["killed", "stopped", "hangs"])
def test_a_broker_that_fails_under_load_loses_nothing_and_mixes_nothing_up(
    cluster: Cluster, gateway: KafkaAccess, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    writers, count = 4, 60

    async def story() -> int:
        acknowledged: dict[str, int] = {}
        at_work = asyncio.gather(*(write_all(gateway, issuer, count, acknowledged) for issuer in range(writers)))
        while len(acknowledged) < writers * count // 4:
            await asyncio.sleep(0.01)
        before = len(acknowledged)
        if fault == "killed":
            await asyncio.to_thread(cluster.kill, 1)
            await asyncio.to_thread(cluster.start)
        elif fault == "stopped":
            await asyncio.to_thread(cluster.stop)
            await asyncio.to_thread(cluster.start)
        else:
            cluster.send(1, signal.SIGSTOP)
            await asyncio.sleep(kafka_producer.DELIVERY_S + 1)  # longer than one attempt of a producer
            cluster.send(1, signal.SIGCONT)
        assert before < writers * count
        await at_work
        return await verify(gateway, writers, count, acknowledged)

    copies = asyncio.run(asyncio.wait_for(story(), 150))
    assert copies <= writers * 3


def test_while_no_broker_answers_everything_says_so_soon_and_afterwards_goes_on(
    cluster: Cluster, gateway: KafkaAccess
) -> None:
    async def story() -> None:
        log = await open_kafka(gateway)
        topic = MAILBOXES[0]
        entry = Entry(topic, b"k", "bi/n0/0", b"v")
        [first] = await log.append([entry])
        assert isinstance(first, Appended)
        waiting = [asyncio.ensure_future(log.read(topic, 0, wait_s=90)) for _ in range(40)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(cluster.kill, 1)
        # Waiting readers learn it too, and not one after the other.
        done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 45)
        assert {str(one.code) for one in done if isinstance(one, LogError)} == {"unavailable"}
        assert not [one for one in done if not isinstance(one, LogError)]
        before = time.monotonic()
        answers = await asyncio.gather(*(log.append([entry]) for _ in range(20)))
        assert {one.code for [one] in answers if isinstance(one, LogError)} == {"unavailable"}
        for call in (log.read(topic, -1), log.ends(topic), log.get_grants(GRANTS, ["a|k"]), log.topics()):
            with pytest.raises(LogError, match="unavailable"):
                await call
        with pytest.raises(LogError, match="unavailable"):
            await log.put_grants(GRANTS, {"a|k": b"1"})
        assert time.monotonic() - before < 60
        await asyncio.to_thread(cluster.start)
        until = time.monotonic() + 30
        while not isinstance((await log.append([entry]))[0], Appended):
            assert time.monotonic() < until
        assert {s.ident for s in await everything(log, topic)} == {"bi/n0/0"}
        waiter = asyncio.ensure_future(log.read(topic, (await log.ends(topic)).next - 1, wait_s=30))
        await asyncio.sleep(0.2)
        await log.append([Entry(topic, b"k", "bi/n0/1", b"v")])
        assert [s.ident for s in await waiter] == ["bi/n0/1"]
        await log.put_grants(GRANTS, {"a|k": b"1"})
        assert await log.get_grants(GRANTS, ["a|k"]) == {"a|k": b"1"}
        await log.close()

    asyncio.run(asyncio.wait_for(story(), 240))


def test_a_handle_closes_while_its_broker_is_gone(cluster: Cluster, gateway: KafkaAccess, tmp_path: Path) -> None:
    async def story() -> float:
        log = await open_kafka(gateway, tmp_path / "view")
        topic = MAILBOXES[0]
        await log.append([Entry(topic, b"k", "bi/n0/0", b"v")])
        await log.get_grants(GRANTS, ["a|k"])
        waiting = asyncio.ensure_future(log.read(topic, 0, wait_s=90))
        await asyncio.sleep(0.3)
        cluster.send(1, signal.SIGSTOP)
        pending = asyncio.ensure_future(log.append([Entry(topic, b"k", "bi/n0/1", b"v")]))
        await asyncio.sleep(0.1)
        before = time.monotonic()
        await log.close()
        took = time.monotonic() - before
        with pytest.raises(LogError, match="log_closed|unavailable"):
            await waiting
        [answer] = await pending
        assert isinstance(answer, LogError)
        with contextlib.suppress(LogError):
            await log.close()
        return took

    assert asyncio.run(asyncio.wait_for(story(), 120)) < 40
    # Nobody goes on sending behind it.
    assert [one.name for one in threading.enumerate() if one.name.endswith("-network-thread")] == []
