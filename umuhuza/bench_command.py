# SPDX-License-Identifier: Apache-2.0
"""`umuhuza bench`: what this machine does, as ratios to the limit measured in the same run.

The limit V is the number of bare Ed25519 verifications per second of one thread: what no broker that checks a
signature per event can pass on one core. Machines that others share change their pace by half within seconds, so V is
measured right before and right after each measure, and a ratio is to the mean of the two. The gateway is a process of
its own, over a log that is durable at each acknowledgement; the load comes from this process, so both share the
machine. Records are real: signed, sealed, padded, with one grant each. Ratios are medians of the rounds; CPU is the
user and system time per event of the gateway's own process, without that of its checkers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import httptools
import orjson
import typer
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from adapters.keystore import Keys
from schemas.keys import b64url
from schemas.registry import Registry
from topics.http_log import HttpLog
from topics.log import Entry
from topics.sqlite_log import SqliteLog
from umuhuza.bench_agency import Reading, Shelf, shares, shelf_of, validate
from umuhuza.bench_audit import invented, measure_audit
from umuhuza.bench_ledger import measure_ledger
from umuhuza.bench_link import measure_link
from umuhuza.bench_records import Made, chain_of
from umuhuza.gateway_command import init_gateway
from umuhuza.options import Json
from umuhuza.registry_holder import add_agencies, init_registry
from umuhuza.words import language, result, say, t, table

BATCH = 100
CONNECTIONS = 128
"""Agencies that publish one by one, each on its connection and its own chain: enough that the gateway never waits."""
CALLERS = 32
"""Who append one by one to the embedded log."""
AGENCY_EVENTS = 400
"""At most so many records are read into an agency's mailbox in one round."""
SENDERS = 4
"""Agencies that publish in batches."""
READER = "bi/k7t4"


def verifications_per_second(seconds: float = 0.4) -> float:
    """V: bare Ed25519 verifications of an 800-byte message, one thread."""
    key = Ed25519PrivateKey.generate()
    public, message = key.public_key(), os.urandom(800)
    signature = key.sign(message)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(200):
            public.verify(signature, message)
        count += 200
    return count / (time.perf_counter() - started)


class Client(asyncio.Protocol):
    """One keep-alive connection; as little work as possible, since it shares the cores with what is measured."""

    def __init__(self) -> None:
        self._done: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result((self._parser.get_status_code(), b"".join(self._body)))
        self._body = []
        self._parser = httptools.HttpResponseParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("closed"))

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, bytes]:
        if self._transport is None:
            raise ConnectionError("not connected")
        lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        return await self._done

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@dataclass
class Bench:
    """A domain in a temporary folder with its gateway running."""

    folder: Path
    registry: Registry
    issuers: list[Keys]
    reader: Keys
    process: subprocess.Popen[bytes]
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def cpu_s(self) -> float:
        """User and system time of the gateway so far; 0 where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Blocks until the gateway has ended; idempotent."""
        self.process.terminate()
        self.process.wait(20)

    @contextlib.asynccontextmanager
    async def connected(self, keys: Keys) -> AsyncIterator[HttpLog]:
        """The log as an adapter of this agency sees it."""
        log = HttpLog(
            self.address, keys.agency, keys.sig, domain="bi", now=time.time, random=os.urandom, gateway_key=None
        )
        try:
            yield log
        finally:
            await log.close()

    async def token(self, keys: Keys) -> str:
        async with self.connected(keys) as log:
            return await log.access_token()


Prepare = Callable[[Registry], Path]
"""Given the registry, makes the log ready; returns the folder with what the gateway needs to reach Kafka."""


def start(folder: Path, kafka: Prepare | None = None, connections: int = CONNECTIONS) -> Bench:
    """Make the domain and start its gateway; `connections`: agencies that publish one by one.

    Raises RuntimeError when it does not come up within 30 s.
    """
    registry, root = init_registry(folder / "registry", "bi", False)
    root_key = root.text
    operator = init_gateway(
        folder / "gateway",
        agency="bi/operator",
        registry=(folder / "registry" / "registry.json").resolve(),
        registry_root=root_key,
        host="127.0.0.1",
        port=0,
    )
    now = int(time.time())
    issuers = [Keys.generate(f"bi/n{number}", os.urandom) for number in range(connections + SENDERS)]
    reader = Keys.generate(READER, os.urandom)
    agencies = [
        keys.enrolment({"fr": "Agence inventée"}, ("assistance",), keys is reader, now) for keys in (*issuers, reader)
    ]
    registry = add_agencies(folder / "registry", [operator, *agencies])
    if kafka is not None:
        file = folder / "gateway" / "gateway.toml"
        file.write_text(file.read_text("utf-8").replace('log = "log.db"', f'kafka = "{kafka(registry)}"'), "utf-8")
    ready = folder / "ready"
    environment = {
        **os.environ,
        "UMUHUZA_GATEWAY_RECORDS_PER_MINUTE": "100000000",
        "UMUHUZA_GATEWAY_MEGABYTES_PER_HOUR": "100000000",
        "UMUHUZA_GATEWAY_LOG_REQUESTS": "false",
    }
    command = [sys.executable, "-m", "umuhuza", "gateway", "run", "--dir", str(folder / "gateway")]
    process = subprocess.Popen([*command, "--ready-file", str(ready)], env=environment)
    deadline = time.monotonic() + 30
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError("the gateway did not start")
        time.sleep(0.02)
    return Bench(folder, registry, issuers, reader, process, ready.read_text().strip())


@dataclass(frozen=True)
class Measured:
    per_second: float
    cpu_us: float
    """Gateway CPU microseconds per event."""
    limit: float
    """V, as it was around this."""


async def timed(bench: Bench, events: int, work: Callable[[], Awaitable[None]]) -> Measured:
    before = await asyncio.to_thread(verifications_per_second)
    cpu, started = bench.cpu_s(), time.perf_counter()
    await work()
    elapsed = time.perf_counter() - started
    cpu_us = (bench.cpu_s() - cpu) / events * 1e6
    after = await asyncio.to_thread(verifications_per_second)
    return Measured(events / elapsed, cpu_us, (before + after) / 2)


async def connect(bench: Bench) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", bench.port)
    return client


def _check(status: int, body: bytes, expected: int) -> None:
    if status != 200 or body.count(b'"offset"') < expected:
        raise RuntimeError(f"the gateway answered {status}")


async def _publish(
    bench: Bench,
    made: list[tuple[str, list[Made]]],
    content_type: str,
    send: Callable[[Client, dict[str, str], list[Made]], Awaitable[None]],
) -> Measured:
    """All of these agencies at once, each with its token on a connection of its own."""
    clients = [await connect(bench) for _ in made]

    async def work() -> None:
        await asyncio.gather(
            *(
                send(client, {"authorization": f"Bearer {token}", "content-type": content_type}, records)
                for client, (token, records) in zip(clients, made, strict=True)
            )
        )

    measured = await timed(bench, sum(len(records) for _, records in made), work)
    for client in clients:
        client.close()
    return measured


async def publish_single(bench: Bench, made: list[tuple[str, list[Made]]]) -> Measured:
    """One record per request."""

    async def send(client: Client, headers: dict[str, str], records: list[Made]) -> None:
        for record in records:
            status, body = await client.ask("POST", "/v1/records", headers, record.line)
            _check(status, body, 1)

    return await _publish(bench, made, "application/json", send)


async def publish_batch(bench: Bench, made: list[tuple[str, list[Made]]]) -> Measured:
    """100 records per request."""

    async def send(client: Client, headers: dict[str, str], records: list[Made]) -> None:
        for first in range(0, len(records), BATCH):
            lines = records[first : first + BATCH]
            status, body = await client.ask("POST", "/v1/records", headers, b"\n".join(one.line for one in lines))
            _check(status, body, len(lines))

    return await _publish(bench, made, "application/x-ndjson", send)


async def receive(bench: Bench, token: str, count: int) -> Measured:
    """The reader takes `count` records with their grants out of its mailbox."""
    client = await connect(bench)

    async def work() -> None:
        after, headers = -1, {"authorization": f"Bearer {token}"}
        while after + 1 < count:
            path = f"/v1/mailbox?flows=referral&after=referral:{after}&limit=500"
            status, body = await client.ask("GET", path, headers)
            lines = body.splitlines()
            if status != 200 or not lines:
                raise RuntimeError(f"the gateway answered {status}")
            after = orjson.loads(lines[-1])["offset"]

    measured = await timed(bench, count, work)
    client.close()
    return measured


async def receive_agency(bench: Bench, shelf: Shelf, *, answers: bool) -> Measured:
    """One agency reads referrals into a mailbox file of its own: verified, opened, validated, durable.

    Args:
        answers: with the receipt of each, in the same transaction.
    """
    reading = Reading.prepare(bench.folder, shelf, bench.reader, bench.registry, answers=answers)
    try:
        return await timed(bench, len(shelf.entries), reading.run)
    finally:
        reading.mailbox.close()


async def append(folder: Path, made: list[Made]) -> dict[str, float]:
    """Durable appends to the embedded log in this process: batches of 100, and 32 callers with one each."""
    rates = {}
    for name, size in (("batch", BATCH), ("single", 1)):
        log = SqliteLog.open(
            str(folder / f"append-{name}.db"),
            topics=[made[0].entry.topic],
            clock_ms=lambda: int(time.time() * 1000),
            random_id=lambda: b64url(os.urandom(12)),
        )
        groups = [[one.entry for one in made[i : i + size]] for i in range(0, len(made), size)]
        callers = 1 if size > 1 else CALLERS
        started = time.perf_counter()

        async def caller(log: SqliteLog = log, groups: list[list[Entry]] = groups) -> None:
            while groups:
                await log.append(groups.pop())

        await asyncio.gather(*(caller() for _ in range(callers)))
        rates[name] = len(made) / (time.perf_counter() - started)
        await log.close()
    return rates


@dataclass
class Measures:
    """What was measured through one gateway, round by round."""

    single: list[Measured] = field(default_factory=list)
    batch: list[Measured] = field(default_factory=list)
    received: list[Measured] = field(default_factory=list)
    taken: list[Measured] = field(default_factory=list)
    """Of an agency, not of the gateway; empty on Kafka, where it would be the same. So is `answered`."""
    answered: list[Measured] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Medians."""

        def rate(found: list[Measured]) -> int:
            return round(statistics.median(one.per_second for one in found))

        def ratio(found: list[Measured]) -> float:
            return round(statistics.median(one.per_second / one.limit for one in found), 3)

        def cpu(found: list[Measured]) -> float:
            return round(statistics.median(one.cpu_us for one in found), 1)

        of = {"publish_single": self.single, "publish_batch": self.batch, "receive": self.received}
        agency = {"receive_agency": self.taken, "receive_and_answer": self.answered} if self.taken else {}
        of |= agency
        return {
            "v_per_second": round(statistics.median(one.limit for found in of.values() for one in found)),
            "per_second": {name: rate(found) for name, found in of.items()},
            "ratios": {name: ratio(found) for name, found in of.items()},
            "cpu_us_per_event": {name: cpu(found) for name, found in of.items() if name not in agency},
        }


async def through(bench: Bench, rounds: int, events: int) -> tuple[Measures, list[Made]]:
    """Publish and receive through the gateway; also the last issuer's records."""
    connections = len(bench.issuers) - SENDERS
    few, many = events // connections, events // SENDERS
    shares = [few] * connections + [many] * SENDERS
    records = [
        await asyncio.to_thread(chain_of, keys, READER, bench.registry, rounds * share)
        for keys, share in zip(bench.issuers, shares, strict=True)
    ]
    tokens = [await bench.token(keys) for keys in bench.issuers]
    reader = await bench.token(bench.reader)
    measures = Measures()
    for number in range(rounds):
        made = [
            (token, chain[number * share : (number + 1) * share])
            for token, chain, share in zip(tokens, records, shares, strict=True)
        ]
        measures.single.append(await publish_single(bench, made[:connections]))
        measures.batch.append(await publish_batch(bench, made[connections:]))
        measures.received.append(await receive(bench, reader, (number + 1) * sum(shares)))
    return measures, records[-1]


async def measure(folder: Path, rounds: int, events: int) -> dict[str, Any]:
    """All of it over the embedded log; events per measure and round."""
    bench = await asyncio.to_thread(start, folder)
    try:
        measures, records = await through(bench, rounds, events)
        shelf = await asyncio.to_thread(shelf_of, bench.issuers[0], READER, bench.registry, min(events, AGENCY_EVENTS))
        for _ in range(rounds):
            measures.taken.append(await receive_agency(bench, shelf, answers=False))
            measures.answered.append(await receive_agency(bench, shelf, answers=True))
        appended = await append(folder, records)
        limit = await asyncio.to_thread(verifications_per_second)
        ledger = await asyncio.to_thread(measure_ledger, folder, bench.registry, [one.entry for one in records])
        limit = (limit + await asyncio.to_thread(verifications_per_second)) / 2
        audited = await asyncio.to_thread(
            measure_audit, folder / "audit", bench.registry, [one.entry for one in records], len(records)
        )
    finally:
        await asyncio.to_thread(bench.stop)
    told = measures.told()
    told["per_second"] |= {f"append_{name}": round(rate) for name, rate in appended.items()}
    told["per_second"] |= {name: round(rate) for name, rate in ledger.items()}
    told["ratios"] |= {name: round(rate / limit, 3) for name, rate in ledger.items()}
    shares(told, await asyncio.to_thread(validate))
    return {
        "ok": True,
        "record_bytes": len(records[0].entry.value),
        **told,
        "audit": audited,
        "rounds": rounds,
        "events_per_round": events,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


class Part(StrEnum):
    """What is measured."""

    ALL = "all"
    AUDIT = "audit"
    LINK = "link"


def measure_audit_alone(folder: Path, records: int) -> dict[str, Any]:
    """The audit's ratios over so many records, which are made first."""
    shown = [0]

    def told(stage: str, done: int, of: int) -> None:
        words = {
            "made": t("faits", "made"),
            "tree": t("inscriptions parcourues", "entries walked"),
            "records": t("enregistrements vérifiés", "records verified"),
        }
        if done * 10 // of != shown[0]:
            shown[0] = done * 10 // of
            say(f"{words[stage]} : {done} / {of}" if language() == "fr" else f"{words[stage]}: {done} / {of}")

    registry, entries = invented(folder / "registry", records)
    audited = measure_audit(folder / "audit", registry, entries, records, told)
    return {"ok": True, "audit": audited, "cores": os.cpu_count()}


def bench(
    rounds: Annotated[int, typer.Option(min=1, help=t("Tours ; la médiane compte.", "Rounds; the median counts."))] = 5,
    events: Annotated[int, typer.Option(min=400, help=t("Événements par mesure.", "Events per measure."))] = 2560,
    kafka: Annotated[
        bool,
        typer.Option(
            "--kafka",
            help=t(
                "Aussi sur Apache Kafka : un nœud de cette machine, démarré pour la mesure.",
                "On Apache Kafka too: one node on this machine, started for the purpose.",
            ),
        ),
    ] = False,
    part: Annotated[
        Part,
        typer.Option(
            help=t(
                "Tout, ou seulement : audit, la vérification du journal ; link, les octets d'une orientation sur la "
                "ligne d'un lieu protégé.",
                "Everything, or one alone: audit, of a log; link, the bytes of a referral on a shelter's line.",
            )
        ),
    ] = Part.ALL,
    records: Annotated[
        int,
        typer.Option(
            min=400,
            help=t(
                "Enregistrements que `--part audit` fait et vérifie.", "Records that `--part audit` makes and verifies."
            ),
        ),
    ] = 10_000,
    as_json: Json = False,
) -> None:
    """The command."""
    if part is Part.AUDIT:
        with tempfile.TemporaryDirectory(prefix="umuhuza-bench-") as name:
            found = measure_audit_alone(Path(name), records)
        result(found, as_json=as_json)
        if not as_json:
            _show_audit(found["audit"])
        return
    if part is Part.LINK:
        with tempfile.TemporaryDirectory(prefix="umuhuza-bench-") as name:
            found = measure_link(Path(name), rounds)
        result(found, as_json=as_json)
        if not as_json:
            _show_link(found["link"])
        return
    say(
        t(
            "Mesure en cours (environ une minute) ; ne faites rien d'autre sur cette machine.",
            "Measuring (about a minute); do nothing else on this machine.",
        )
    )
    with tempfile.TemporaryDirectory(prefix="umuhuza-bench-") as name:
        found = uvloop.run(measure(Path(name), rounds, events))
        if kafka:
            from umuhuza import bench_kafka
            from umuhuza.kafka_command import explained

            with explained(as_json):
                found["kafka"] = bench_kafka.measure(Path(name) / "kafka", rounds, events, found)
    result(found, as_json=as_json)
    if not as_json:
        _show(
            t(
                f"V = {found['v_per_second']} vérifications Ed25519 par seconde, un fil",
                f"V = {found['v_per_second']} Ed25519 verifications per second, one thread",
            ),
            found,
        )
        _show_audit(found["audit"])
        if kafka:
            _show_kafka(found["kafka"])


def _show_audit(audited: dict[str, float]) -> None:
    table(
        t("Vérification du journal", "Audit of the log"),
        (t("Rapport", "Ratio"), ""),
        [(name, str(value)) for name, value in audited.items()],
    )


def _show_link(link: dict[str, Any]) -> None:
    short, long = (link["accepted_referral"][length] for length in ("short", "long"))
    rows = [(name, str(short["of_these"].get(name, 0)), str(size)) for name, size in long["of_these"].items()]
    rows += [(name, str(short[name]), str(long[name])) for name in ("bytes", "tcp_ip_headers_reckoned")]
    table(
        t("Une orientation acceptée, octets sur la ligne", "An accepted referral, bytes on the line"),
        ("", t("brève", "short"), t("longue", "long")),
        rows,
    )
    table(
        t("La ligne", "The line"),
        ("", t("octets", "bytes")),
        [(name, str(link[name])) for name in ("first_contact_with_a_long_one", "empty_poll", "idle_bytes_per_hour")],
    )


def _show(title: str, found: dict[str, Any]) -> None:
    table(
        title,
        (
            t("Mesure", "Measure"),
            t("par seconde", "per second"),
            t("rapport à V", "ratio to V"),
            t("CPU µs/événement", "CPU µs/event"),
        ),
        [
            (
                name,
                str(found["per_second"][name]),
                str(found["ratios"].get(name, "")),
                str(found["cpu_us_per_event"].get(name, "")),
            )
            for name in found["per_second"]
        ],
    )


def _show_kafka(found: dict[str, Any]) -> None:
    _show(t("Sur Kafka, par la passerelle", "On Kafka, through the gateway"), found)
    table(
        t("Droit à Kafka", "Straight to Kafka"),
        (t("Mesure", "Measure"), t("Valeur", "Value")),
        [(name, str(value)) for name, value in found["direct"].items()],
    )
    table(
        t("De main en main, ms", "From hand to hand, ms"),
        (t("Voie", "Way"), "p50", "p99"),
        [(way, str(one["p50"]), str(one["p99"])) for way, one in found["latency_ms"].items()],
    )
    table(
        t("Mémoire, Mo", "Memory, MB"),
        (t("Processus", "Process"), t("Mo", "MB")),
        [(name, str(size)) for name, size in found["memory_mb"].items()],
    )
