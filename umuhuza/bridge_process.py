# SPDX-License-Identifier: Apache-2.0
"""The bridge as a process: opens its domain's log, ledger and neighbours, takes turns until SIGTERM, says how it is.

    GET /healthz    200 while the process runs
    GET /readyz     200 when the last turn went well, 503 with the code of what hinders it otherwise
    GET /metrics    Prometheus; labels are the other domain and codes, never an agency, a topic or an id

The log is the domain's SQLite file or its Kafka, with the gateway's own access to either. A link that is down is asked
less and less often, and never in step with another bridge. Whatever ends it, the next start goes on
(`topics.bridge_book`).

Must never: stop because the other side is silent, or because it is asked how it is.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters.border_watch import BorderWatch
from adapters.bridge import Bridge, Lag, Turn
from gateway.objections import OBJECTIONS, objections_in
from gateway.settings import Settings, read_registry_root, read_signing_key
from schemas.errors import LogError, RegistryError
from schemas.keys import VerifyKey, b64url
from schemas.registry_trust import TrustedRegistry, trusted
from topics.bridge_book import BOOK, BridgeBook, Hindered
from topics.durable_file import replace_file
from topics.http_log import HttpLog
from topics.ledger_served import ServedLedger
from topics.log import Log
from topics.neighbours import Contact, Neighbours
from topics.receipt_maker import ReceiptMaker
from topics.registry_file import RegistryFile
from topics.settings import SettingsError
from topics.sqlite_log import SqliteLog
from umuhuza.asking import current_passphrase
from umuhuza.guarded_server import answering
from umuhuza.stopping import stop_asked

LONGEST_PAUSE_S = 600.0

Told = Callable[[Turn], None]


def open_neighbours(settings: Settings) -> tuple[Neighbours, RegistryFile, Path]:
    """The neighbours, our registry, and the folder of the former.

    Raises:
        SettingsError: no domain was added.
        RegistryError: ours is not what it should be.
    """
    if settings.neighbours is None:
        raise SettingsError("neighbours: no other domain was added", "neighbours : aucun autre domaine n'a été ajouté")
    held = RegistryFile(settings.registry, read_registry_root(settings), time.time)
    return Neighbours(settings.neighbours, lambda: held.trusted, time.time), held, settings.neighbours


async def open_log(settings: Settings, domain: str) -> Log:
    """Our domain's log, as its gateway reaches it; it has to be there. Raises LogError, SettingsError."""
    if settings.log is not None:
        return SqliteLog.open(
            str(settings.log),
            create=False,
            clock_ms=lambda: time.time_ns() // 1_000_000,
            random_id=lambda: b64url(os.urandom(12)),
        )
    if settings.kafka is None:
        raise SettingsError("log, kafka: one of the two is needed", "log, kafka : il faut l'un des deux")
    # Here, because it takes a third of a second that a bridge over SQLite need not wait for.
    from topics.kafka_log import KafkaAccess, KafkaLog

    access = KafkaAccess.of_folder(settings.kafka, client_id="umuhuza-bridge")
    # Erased bytes are looked after by the gateway, which has these rights all day.
    return await KafkaLog.open(access, domain=domain, random_id=lambda: b64url(os.urandom(12)), sweeps=False)


@dataclass(slots=True)
class Parts:
    """An open bridge."""

    log: Log
    bridge: Bridge
    book: BridgeBook
    neighbours: Neighbours


async def opened(settings: Settings, domain: str, url: str, closing: AsyncExitStack) -> Parts:
    """Open everything that a bridge to `domain` needs; `closing` closes it.

    Raises:
        SettingsError: there is no ledger, or no log; no domain was added.
        RegistryError: agency_unknown, that domain was not; ours is not what it should be.
        LogError, KeyStoreError: what opening them raises.
    """
    if settings.ledger is None:
        raise SettingsError(
            "ledger: a bridge proves by the domain's ledger", "ledger : un pont prouve par le registre de preuve"
        )
    neighbours, held, folder = open_neighbours(settings)
    if not (folder / domain).is_dir():
        raise RegistryError("agency_unknown", "domain")
    key = read_signing_key(settings.signing_key, current_passphrase)
    log = await open_log(settings, held.registry.domain)
    closing.push_async_callback(log.close)
    book = BridgeBook.open(folder / domain / BOOK)
    closing.callback(book.close)
    remote = HttpLog(
        url,
        settings.agency,
        key,
        domain=domain,
        now=time.time,
        random=os.urandom,
        gateway_key=lambda: operators_keys(neighbours.theirs(domain), int(time.time())),
    )
    closing.push_async_callback(remote.close)
    registries = settings.ledger / "registries"
    pin = read_registry_root(settings)

    def version(sha256: bytes) -> TrustedRegistry | None:
        file = registries / f"{sha256.hex()}.json"
        return trusted(file.read_bytes(), pin) if file.exists() else None

    bridge = Bridge(
        domain,
        log=log,
        ledger=ReceiptMaker(settings.ledger, ServedLedger(settings.ledger)),
        ours=lambda: held.trusted,
        version=version,
        neighbours=neighbours,
        remote=remote,
        book=book,
        now=time.time,
        watch=BorderWatch(
            domain,
            ours=lambda: held.trusted,
            neighbours=neighbours,
            remote=remote,
            objections=lambda: objections_in(settings.index.with_name(OBJECTIONS)),
            now=time.time,
        ),
    )
    return Parts(log, bridge, book, neighbours)


def operators_keys(theirs: TrustedRegistry, now: int) -> Sequence[VerifyKey]:
    """Whose promises are believed: the other domain's operators'."""
    operators = [one for one in theirs.registry.agencies.values() if "operator" in one.roles]
    keys = [key for one in operators for key in one.keys if key.use == "sig" and key.counts_at(now)]
    return [VerifyKey(key.public) for key in keys]


# ---------------------------------------------------------------------------------------------------------------------
# How it is


@dataclass(slots=True, eq=False)
class Health(Collector):
    """What the process says of itself; written by the loop, read by the answering thread.

    Args:
        now: seconds since the epoch.
    """

    domain: str
    """The other one."""
    now: Callable[[], float] = time.time
    lag: Lag = field(default_factory=Lag)
    hindered: Hindered = field(default_factory=lambda: Hindered(0, "ledger_behind", None))
    """Until the first turn: nothing was asked yet."""
    promised: int = 0
    proven: int = 0
    contradicting: int = 0
    unproven_since: int | None = None
    refused: dict[str, int] = field(default_factory=dict)
    contact: Contact | None = None
    """What that domain's own bridge brought last."""
    turns: int = 0

    async def look(self, parts: Parts) -> None:
        """After a turn. Raises LogError (path `bridge`): the book."""
        try:
            lag = await parts.bridge.lag()
        except LogError as exc:  # a turn says so itself
            if exc.path == "bridge":
                raise
            lag = self.lag
        self.hindered = parts.book.hindered()
        self.promised, self.refused = parts.book.counts().get("promised", 0), parts.book.refused_by_code()
        self.proven, self.contradicting = parts.book.proven(), parts.book.contradicting()
        self.unproven_since = parts.book.unproven_since()
        self.lag, self.contact = lag, parts.neighbours.contact(self.domain)
        self.turns += 1

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client."""
        now, domain = self.now(), [self.domain]

        def gauge(name: str, what: str, value: float | None) -> Metric:
            """Without a sample as long as there is nothing to say."""
            made = GaugeMetricFamily(f"umuhuza_bridge_{name}", what, labels=["domain"])
            if value is not None:
                made.add_metric(domain, max(value, 0.0))
            return made

        yield gauge("up", "1 when nothing hindered the last turn", float(self.hindered.code is None))
        hindered = GaugeMetricFamily(
            "umuhuza_bridge_hindered", "1 for the code of what hinders it now", labels=["domain", "code"]
        )
        if self.hindered.code is not None:
            hindered.add_metric([self.domain, self.hindered.code], 1)
        yield hindered
        yield gauge("waiting_records", "Records at home that are not settled yet", self.lag.records)
        since = self.lag.since
        yield gauge("waiting_seconds", "Since the oldest of them was logged", 0.0 if since is None else now - since)
        promised = CounterMetricFamily(
            "umuhuza_bridge_promised", "Records that the other domain has promised to log", labels=["domain"]
        )
        promised.add_metric(domain, self.promised)
        yield promised
        proven = CounterMetricFamily(
            "umuhuza_bridge_proven", "Records that the other domain's ledger has proven to hold", labels=["domain"]
        )
        proven.add_metric(domain, self.proven)
        yield proven
        asked = self.unproven_since
        waited = 0.0 if asked is None else now - asked
        yield gauge("unproven_seconds", "Since the oldest promise of which there is no receipt", waited)
        yield gauge("contradicting", "Receipts by which its ledger breaks a promise of its gateway", self.contradicting)
        refused = CounterMetricFamily(
            "umuhuza_bridge_refused", "Records that will never go, by code", labels=["domain", "code"]
        )
        for code, count in sorted(self.refused.items()):
            refused.add_metric([self.domain, code], count)
        yield refused
        heard = self.hindered.heard
        yield gauge("answered_age_seconds", "Since the other gateway last answered", now - heard if heard else None)
        met = self.contact
        yield gauge(
            "contact_age_seconds",
            "Since the other domain's own bridge came here",
            None if met is None else now - met.at,
        )
        signed = None if met is None or not met.cosigned_at else now - met.cosigned_at
        yield gauge(
            "checkpoint_age_seconds",
            "Since a witness signed the newest checkpoint that the other domain's bridge has brought",
            signed,
        )

    def answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """The WSGI application."""
        path = environ.get("PATH_INFO")
        if environ.get("REQUEST_METHOD") != "GET" or path not in ("/healthz", "/readyz", "/metrics"):
            start_response("404 Not Found", [("content-type", "application/json")])
            return [b'{"ok":false}']
        if path == "/metrics":
            collectors = CollectorRegistry()
            collectors.register(self)
            start_response("200 OK", [("content-type", "text/plain; version=0.0.4; charset=utf-8")])
            return [generate_latest(collectors)]
        code = None if path == "/healthz" else self.hindered.code
        start_response("200 OK" if code is None else "503 Service Unavailable", [("content-type", "application/json")])
        return [orjson.dumps({"ok": True} if code is None else {"ok": False, "code": code})]


# ---------------------------------------------------------------------------------------------------------------------
# The process


@dataclass(frozen=True, slots=True)
class Running:
    """How the process runs."""

    url: str
    """The other gateway's address."""
    every_s: float = 10.0
    """Between two turns."""
    host: str = "127.0.0.1"
    port: int | None = None
    """Where it says how it is; 0: a free one; None: nowhere."""
    ready_file: Path | None = None
    """Written with that address after the first turn."""


async def once(settings: Settings, domain: str, url: str) -> Turn:
    """One turn. Raises as `opened`; LogError (path `bridge`)."""
    async with AsyncExitStack() as closing:
        return await (await opened(settings, domain, url, closing)).bridge.turn()


async def run(settings: Settings, domain: str, running: Running, told: Told) -> None:
    """Take turns until SIGTERM or SIGINT.

    Args:
        told: called after every turn.

    Raises:
        As `opened`; LogError (path `bridge`): the book fails; OSError: it cannot listen there.
    """
    health = Health(domain)
    with ExitStack() as listening:
        stop = listening.enter_context(stop_asked())
        address = ""
        if running.port is not None:
            address = listening.enter_context(answering(health.answer, running.host, running.port, "bridge-health"))
        async with AsyncExitStack() as closing:
            parts = await opened(settings, domain, running.url, closing)
            pause = running.every_s
            while not stop.is_set():
                turn = await parts.bridge.turn()
                await health.look(parts)
                if health.turns == 1 and running.ready_file is not None:
                    replace_file(running.ready_file, address.encode("ascii"))
                told(turn)
                # A link that is down is asked less and less, and two bridges never in step.
                pause = running.every_s if turn.code is None else min(pause * 2, LONGEST_PAUSE_S)
                try:
                    async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                        await stop.wait()
                except TimeoutError:
                    continue
