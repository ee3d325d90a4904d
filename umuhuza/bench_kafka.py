# SPDX-License-Identifier: Apache-2.0
"""`umuhuza bench --kafka`: the same on Apache Kafka, beside the limits measured in the same run.

One node on this machine, as `umuhuza kafka up` makes it: TLS, rights, every acknowledged batch synced to disk.
Compared are:

- `direct`: signed, sealed records straight to Kafka by our driver, to bare kafka-python with the same bytes and the
  same durability, which pipelines as it likes; and that to confluent-kafka, where it is installed.
- publishing and receiving through a gateway, to the same over the embedded log.
- from the sender's call to the reader's hands, one at a time: through the gateway, straight, and bare.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import uvloop

from adapters.keystore import Keys
from schemas.keys import b64url
from schemas.registry import Registry, agency_from_json
from topics import kafka_admin
from topics.kafka_access import KafkaAccess
from topics.kafka_clients import Clients
from topics.kafka_log import KafkaLog
from topics.log import Appended, Log, grant_key, grants_topic
from umuhuza.bench_command import BATCH, READER, Bench, start, through
from umuhuza.bench_records import Made, chain_of
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster
from umuhuza.registry_holder import add_agency, held

FLOWS = ("referral", "receipt")
"""Of the two mailboxes that are written to straight, in turns."""
AGENCIES = 32
"""Who publish one by one through the gateway: fewer than over the embedded log, since each has ten topics here."""
LATENCIES = 200
"""Records sent one by one, each when the one before has arrived."""
CALLERS = 4


def _random_id() -> str:
    return b64url(os.urandom(12))


def _handed(cluster: Cluster, folder: Path, agency: str) -> Path:
    found = cluster.credentials(agency)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bootstrap").write_text(",".join(cluster.bootstrap) + "\n", encoding="ascii")
    for name, path in (("ca.pem", found.ca), ("certificate.pem", found.certificate), ("key.pem", found.key)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(path.read_bytes())
    return folder


def _apply(cluster: Cluster, registry: Registry) -> None:
    asyncio.run(kafka_admin.apply(cluster.access(ADMIN), registry, nodes=1, random_id=_random_id))


def measure(folder: Path, rounds: int, events: int, embedded: dict[str, Any]) -> dict[str, Any]:
    """Start a node, measure, end it. `embedded`: what was measured over the embedded log in this run.

    Raises KafkaMissingError: Java, Maven or the jars are missing.
    """
    cluster = Cluster.open_or_make(folder / "cluster", 1)
    cluster.start()

    def prepare(registry: Registry) -> Path:
        _apply(cluster, registry)
        return _handed(cluster, folder / "access", "bi/operator")

    try:
        bench = start(folder, prepare, AGENCIES)
        try:
            return uvloop.run(_measured(bench, cluster, folder, rounds, events, embedded))
        finally:
            bench.stop()
    finally:
        cluster.stop()


async def _measured(
    bench: Bench, cluster: Cluster, folder: Path, rounds: int, events: int, embedded: dict[str, Any]
) -> dict[str, Any]:
    measures, _ = await through(bench, rounds, events)
    told = measures.told()
    told["to_embedded"] = {
        name: round(rate / embedded["per_second"][name], 3) for name, rate in told["per_second"].items()
    }
    writer = Keys.generate("bi/n99", os.urandom)
    registry = await asyncio.to_thread(
        add_agency,
        folder / "registry",
        writer.enrolment({"fr": "Agence inventée"}, ("assistance",), False, int(time.time())),
    )
    made = await asyncio.to_thread(chain_of, writer, READER, registry, 2 * LATENCIES)
    access = cluster.access("bi/operator")
    told["latency_ms"] = await _latencies(bench, access, writer, made)
    told["memory_mb"] = {
        "broker": _resident(cluster.pid(1)),
        "gateway": _resident(bench.process.pid),
        "gateway_checkers": sum(_resident(pid) for pid in _children(bench.process.pid)),
        "adapter": await asyncio.to_thread(_adapter, bench, cluster, folder),
    }
    # It would follow what is written and verify it, now beside the one client and now beside the other.
    await asyncio.to_thread(bench.stop)
    chains = [await asyncio.to_thread(chain_of, writer, READER, registry, events // len(FLOWS), flow) for flow in FLOWS]
    told["direct"] = await _direct(access, [one for ones in zip(*chains, strict=True) for one in ones], rounds)
    return told


# ---------------------------------------------------------------------------------------------------------------------
# Straight to Kafka


async def _direct(access: KafkaAccess, made: list[Made], rounds: int) -> dict[str, Any]:
    """Per second, and our driver's share of the bare client's."""
    ours, bare, other = [], [], []
    log = await KafkaLog.open(access, domain="bi", random_id=_random_id)
    clients = Clients(access)
    try:
        for _ in range(rounds):
            bare.append(await asyncio.to_thread(_bare, clients, made))
            ours.append(await _driver(log, made))
            if (rate := await asyncio.to_thread(_confluent, access, made)) is not None:
                other.append(rate)
    finally:
        await asyncio.to_thread(clients.close)
        await log.close()
    told: dict[str, Any] = {
        "per_second": round(statistics.median(ours)),
        "bare_per_second": round(statistics.median(bare)),
        "ratio": round(statistics.median(one / limit for one, limit in zip(ours, bare, strict=True)), 3),
    }
    if other:
        told["confluent_per_second"] = round(statistics.median(other))
        told["bare_to_confluent"] = round(statistics.median(a / b for a, b in zip(bare, other, strict=True)), 3)
    return told


async def _driver(log: Log, made: list[Made]) -> float:
    calls = [[one.entry for one in made[first : first + BATCH]] for first in range(0, len(made), BATCH)]
    started = time.perf_counter()

    async def caller() -> None:
        while calls:
            answers = await log.append(calls.pop(0))
            if not all(isinstance(answer, Appended) for answer in answers):
                raise RuntimeError("Kafka refused records")

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return len(made) / (time.perf_counter() - started)


def _bare(clients: Clients, made: list[Made]) -> float:
    producer = clients.bare_producer()
    try:
        for topic in {one.entry.topic for one in made}:
            producer.partitions_for(topic)  # the connection is not what is measured
        started = time.perf_counter()
        sent = [
            producer.send(one.entry.topic, one.entry.value, one.entry.key, list(one.entry.headers), partition=0)
            for one in made
        ]
        producer.flush()
        elapsed = time.perf_counter() - started
        if not all(one.succeeded() for one in sent):
            raise RuntimeError("Kafka refused records")
        return len(made) / elapsed
    finally:
        producer.close()


def _confluent(access: KafkaAccess, made: list[Made]) -> float | None:
    """The client in C, where it is installed: what Python costs. Never used for anything but this comparison."""
    if importlib.util.find_spec("confluent_kafka") is None:
        return None
    producer = importlib.import_module("confluent_kafka").Producer(
        {
            "bootstrap.servers": ",".join(access.bootstrap),
            "security.protocol": "ssl",
            "ssl.ca.location": str(access.ca),
            "ssl.certificate.location": str(access.certificate),
            "ssl.key.location": str(access.key),
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 1_000_000,
        }
    )
    failed: list[object] = []

    def told(error: object, _: object) -> None:
        if error is not None:
            failed.append(error)

    producer.list_topics(made[0].entry.topic, 10)
    started = time.perf_counter()
    for one in made:
        producer.produce(one.entry.topic, one.entry.value, one.entry.key, 0, told, headers=list(one.entry.headers))
        producer.poll(0)
    producer.flush(60)
    elapsed = time.perf_counter() - started
    if failed:
        raise RuntimeError("Kafka refused records")
    return len(made) / elapsed


# ---------------------------------------------------------------------------------------------------------------------
# From hand to hand


async def _latencies(bench: Bench, access: KafkaAccess, writer: Keys, made: list[Made]) -> dict[str, Any]:
    """Milliseconds from the sender's call until the reader, who waits, has the record."""
    topic = made[0].entry.topic
    fresh, made = made[-LATENCIES:], made[:LATENCIES]  # a gateway takes no record twice
    found = {"bare": _percentiles(await asyncio.to_thread(_bare_latency, access, made))}
    async with _opened(access) as sender, _opened(access) as receiver:
        found["direct"] = _percentiles(await _hand_to_hand(sender, receiver, topic, made))
    async with bench.connected(writer) as sender, bench.connected(bench.reader) as receiver:
        found["gateway"] = _percentiles(await _hand_to_hand(sender, receiver, topic, fresh))
    return found


@contextlib.asynccontextmanager
async def _opened(access: KafkaAccess) -> AsyncIterator[KafkaLog]:
    log = await KafkaLog.open(access, domain="bi", random_id=_random_id)
    try:
        yield log
    finally:
        await log.close()


async def _hand_to_hand(sender: Log, receiver: Log, topic: str, made: list[Made]) -> list[float]:
    position = (await receiver.ends(topic)).next - 1
    took = []
    for one in made:
        reading = asyncio.create_task(receiver.read(topic, position, wait_s=30.0))
        await asyncio.sleep(0.005)  # it waits by now, as a reader does
        started = time.perf_counter()
        await sender.put_grants(grants_topic(READER), {grant_key(one.entry.ident, one.kid): one.grant})
        [answer] = await sender.append([one.entry])
        stored = await reading
        took.append(time.perf_counter() - started)
        if not isinstance(answer, Appended) or not stored:
            raise RuntimeError("a record was refused")
        position = stored[-1].offset
    return took


def _bare_latency(access: KafkaAccess, made: list[Made]) -> list[float]:
    """A producer that sends one and waits, a consumer that polls."""
    clients = Clients(access)
    topic, took = made[0].entry.topic, []
    try:
        following = clients.ends([topic])[topic]
        producer, follower = clients.bare_producer(), clients.follower()
        for one in made:
            started = time.perf_counter()
            producer.send(topic, one.entry.value, one.entry.key, list(one.entry.headers), partition=0)
            producer.flush()
            while topic not in follower.poll({topic: following}):
                pass
            took.append(time.perf_counter() - started)
            following += 1
        follower.close()
        producer.close()
    finally:
        clients.close()
    return took


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50": round(statistics.median(ordered) * 1000, 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 2),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Memory


def _resident(pid: int | None) -> int:
    """Megabytes of a process; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/status").read_text().split()
        return int(fields[fields.index("VmRSS:") + 1]) // 1024
    except (OSError, ValueError):
        return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _adapter(bench: Bench, cluster: Cluster, folder: Path) -> int:
    """An adapter that is at rest: enrolled, its mailboxes read."""
    home, command = folder / "adapter", [sys.executable, "-m", "umuhuza", "agency"]
    root = held(folder / "registry").first_root.text
    about = ["--agency", "bi/repos", "--name", "Agence inventée", "--role", "assistance", "--gateway", bench.address]
    subprocess.run(
        [*command, "init", "--dir", str(home), *about, "--registry-root", root, "--json"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    member = agency_from_json(orjson.loads((home / "inscription.json").read_bytes()))
    _apply(cluster, add_agency(folder / "registry", member))
    ready = home / "ready"
    process = subprocess.Popen(
        [*command, "run", "--dir", str(home), "--ready-file", str(ready)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return _resident(process.pid)
    finally:
        process.terminate()
        process.wait(20)
