# SPDX-License-Identifier: Apache-2.0
"""The ledger as a process: opens its log, store, view and keys, sequences until SIGTERM, and answers how it is.

    GET /healthz    200 while the process runs
    GET /readyz     200 when the last round went well (`alarms`: codes that want a person), 503 with a code otherwise
    GET /metrics    Prometheus; no label says who writes to whom

Several may run for one domain at once, on one machine or on several: they cannot fork the tree (`topics.ledger_store`).
Whatever ends it, the next start goes on. It stops by itself, with exit code 1, only where two histories contradict each
other: a person has to look then, and nothing is signed meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.errors import LogError
from schemas.keys import b64url
from topics.durable_file import replace_file
from topics.ledger import Sequencer, follow
from topics.ledger_checkpoints import Checkpoints
from topics.ledger_erasures import ErasureLog, Erasures
from topics.ledger_registries import KeptRegistries
from topics.ledger_retention import Scheduled, Trims
from topics.ledger_store import LedgerStore, SqliteLedgerStore
from topics.ledger_view import LedgerView
from topics.log import Log
from topics.neighbours import Neighbours
from topics.sqlite_log import SqliteLog
from umuhuza.guarded_server import answering
from umuhuza.ledger_settings import LedgerSettings, read_root, read_signers
from umuhuza.ledger_witnesses import Witnesses
from umuhuza.stopping import stop_asked

ROUND_S = 1.0
"""Longest wait for a record; and between two attempts."""


@dataclass(slots=True)
class Parts:
    """An open ledger. `log` is the driver: what can trim."""

    log: ErasureLog
    store: LedgerStore
    sequencer: Sequencer
    checkpoints: Checkpoints
    registries: KeptRegistries


@contextlib.asynccontextmanager
async def opened(settings: LedgerSettings) -> AsyncIterator[Parts]:
    """Open everything; close it whatever happens. Raises LogError, RegistryError, SettingsError."""
    signers = read_signers(settings.keys)
    registries = KeptRegistries(settings.registry, read_root(settings), settings.registries)
    domain = registries.held().registry.domain
    async with contextlib.AsyncExitStack() as closing:
        log = await open_log(settings, domain)
        closing.push_async_callback(log.close)
        store = await asyncio.to_thread(open_store, settings, domain)
        closing.callback(store.close)
        view = LedgerView.open(settings.view, origin=signers[0].name, store_id=store.store_id)
        closing.callback(view.close)
        abroad = None
        if settings.neighbours is not None:
            abroad = Neighbours(settings.neighbours, lambda: registries.trusted, time.time)
        sequencer = Sequencer(log, store, view, registries, now_ms=lambda: time.time_ns() // 1_000_000, abroad=abroad)
        yield Parts(log, store, sequencer, Checkpoints(settings.keys.parent, signers, time.time), registries)


def is_announced(parts: Parts) -> bool:
    """Whether the registry says that this ledger, with these keys, is the one that counts now; or says nothing."""
    ledgers = parts.registries.held().registry.ledgers
    keys = parts.checkpoints.keys
    return not ledgers or (ledgers[-1].origin == parts.checkpoints.origin and set(keys) <= set(ledgers[-1].keys))


def require_announced(parts: Parts) -> None:
    """Before anything is signed or removed by this ledger's word: one that was lost and turns up again, or one that
    nobody was told of, waits. Raises LogError `ledger_differs`."""
    if not is_announced(parts):
        raise LogError("ledger_differs", "keys")


async def open_log(settings: LedgerSettings, domain: str) -> ErasureLog:
    """The domain's log, which has to be there. Raises LogError."""
    if settings.log is not None:
        return SqliteLog.open(
            str(settings.log),
            create=False,
            clock_ms=lambda: time.time_ns() // 1_000_000,
            random_id=lambda: b64url(os.urandom(12)),
        )
    # Here, because it takes a third of a second that a ledger over SQLite need not wait for.
    from topics.kafka_log import KafkaAccess, KafkaLog

    assert settings.kafka is not None
    access = KafkaAccess.of_folder(settings.kafka, client_id="umuhuza-ledger")
    return await KafkaLog.open(access, domain=domain, random_id=lambda: b64url(os.urandom(12)), sweeps=False)


@contextlib.asynccontextmanager
async def trimming(log: Log, admin: Path | None, domain: str) -> AsyncIterator[Trims]:
    """Who removes what retention has logged: over SQLite the log itself, on Kafka an administrator. Raises LogError."""
    if isinstance(log, SqliteLog):
        yield log
        return
    from topics.kafka_log import KafkaAccess, KafkaLog

    assert admin is not None
    access = KafkaAccess.of_folder(admin, client_id="umuhuza-ledger-retention")
    kafka = await KafkaLog.open(access, domain=domain, random_id=lambda: "", sweeps=False)
    try:
        yield kafka
    finally:
        await kafka.close()


def open_store(settings: LedgerSettings, domain: str, *, create: bool = True) -> LedgerStore:
    """The ledger itself. Raises LogError; with `create` false also when there is none yet."""
    if settings.store is not None:
        return SqliteLedgerStore.open(settings.store, random_id=lambda: b64url(os.urandom(12)), create=create)
    from topics.kafka_access import KafkaAccess
    from topics.kafka_ledger import KafkaLedgerStore

    assert settings.kafka is not None
    return KafkaLedgerStore.open(KafkaAccess.of_folder(settings.kafka, client_id="umuhuza-ledger"), domain=domain)


# ---------------------------------------------------------------------------------------------------------------------
# How it is


@dataclass(slots=True, eq=False)
class Health(Collector):
    """What the process says of itself; written by the loop, read by the answering thread."""

    parts: Parts | None = None
    problem: str | None = "ledger_behind"
    """Code of what hinders it; None when the last round went well."""
    rounds: int = 0
    signed_at: float = field(default_factory=time.time)
    witnesses: Witnesses = field(default_factory=Witnesses)
    erasures: Erasures | None = None
    retention: Scheduled | None = None

    @property
    def alarms(self) -> list[str]:
        """Codes of what somebody has to see to, although the last round went well."""
        return ["erasure_pending"] if self.erasures is not None and self.erasures.overdue else []

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client."""
        work = None if self.parts is None else self.parts.sequencer.work
        entries = CounterMetricFamily("umuhuza_ledger_entries", "Entries appended by this process", labels=["kind"])
        rejects = CounterMetricFamily("umuhuza_ledger_rejects", "Records that do not count", labels=["code"])
        gaps = CounterMetricFamily("umuhuza_ledger_missing_offsets", "Offsets at which there is no record: look why")
        if work is not None:
            for kind, count in sorted(work.by_kind.items()):
                entries.add_metric([kind], count)
            for code, count in sorted(work.rejected.items()):
                rejects.add_metric([code], count)
        gaps.add_metric([], 0 if work is None else work.gaps)
        yield from (entries, rejects, gaps)
        last = None if self.parts is None else self.parts.checkpoints.last
        for name, what, value in (
            ("size", "Entries in the tree", 0 if self.parts is None else self.parts.sequencer.view.size),
            ("signed_size", "Entries below the newest checkpoint", 0 if last is None else last.checkpoint.size),
            ("up", "1 when the last round went well", int(self.problem is None)),
            ("topics_missing", "Mailboxes that could not be followed", 0 if work is None else len(work.trouble)),
            ("topics_waiting", "Mailboxes that wait for a newer registry", 0 if work is None else work.held),
            (
                "registry_refused",
                "1 when the registry file on disk is damaged or older",
                int(self.parts is not None and self.parts.registries.problem is not None),
            ),
            ("erasures_open", "Erasures not known to be done", 0 if self.erasures is None else self.erasures.open),
            (
                "erasures_overdue",
                "Erasures that were commanded more than a day ago and are not known to be done: alarm",
                0 if self.erasures is None else self.erasures.overdue,
            ),
            (
                "erasures_up",
                "1 when the log could be read from its beginning, the last time that an erasure asked for it",
                int(self.erasures is None or self.erasures.problem is None),
            ),
            (
                "undelivered",
                "Records that are past their retention and not known to be delivered: telephone their senders",
                0 if self.retention is None else self.retention.undelivered,
            ),
            (
                "retention_up",
                "1 when the last removal of what is past its retention went through",
                int(self.retention is None or self.retention.problem is None),
            ),
        ):
            yield GaugeMetricFamily(f"umuhuza_ledger_{name}", what, value)
        yield from self.witnesses.collect()

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
        good = path == "/healthz" or self.problem is None
        start_response("200 OK" if good else "503 Service Unavailable", [("content-type", "application/json")])
        said: dict[str, Any] = {"ok": True} if good else {"ok": False, "code": self.problem}
        if path == "/readyz" and self.alarms:
            said["alarms"] = self.alarms
        return [orjson.dumps(said)]


# ---------------------------------------------------------------------------------------------------------------------
# The process


def _scheduled(parts: Parts, settings: LedgerSettings) -> Scheduled | None:
    """Retention as the settings say; None: by hand."""
    if settings.retention_hours is None:
        return None
    domain = parts.registries.held().registry.domain
    return Scheduled(
        parts.log,
        parts.sequencer,
        lambda: trimming(parts.log, settings.retention_kafka, domain),
        every_s=settings.retention_hours * 3600,
        now_ms=lambda: time.time_ns() // 1_000_000,
    )


async def run(settings: LedgerSettings) -> None:
    """Sequence until SIGTERM or SIGINT. Raises as `opened`; LogError `log_inconsistent`, `root_mismatch`; OSError."""
    loop = asyncio.get_running_loop()
    health = Health()
    with (
        stop_asked() as stop,
        answering(health.answer, settings.host, settings.port, "ledger-health") as address,
    ):
        async with opened(settings) as parts:
            health.parts = parts
            await parts.sequencer.start()
            parts.checkpoints.check(parts.sequencer.view)  # before anything is appended to a store put back from a copy
            signed = -settings.checkpoint_seconds

            erasures = health.erasures = Erasures(
                parts.log,
                parts.sequencer,
                now_ms=lambda: time.time_ns() // 1_000_000,
                every_s=settings.erasure_seconds,
            )
            retention = health.retention = _scheduled(parts, settings)

            async def publish() -> None:
                nonlocal signed
                require_announced(parts)
                await erasures.turn()
                if retention is not None:
                    await retention.turn()
                if loop.time() - signed < settings.checkpoint_seconds:
                    return
                if await asyncio.to_thread(parts.checkpoints.publish, parts.sequencer.view) is not None:
                    signed = loop.time()

            def told(problem: LogError | None) -> None:
                health.problem = None if problem is None else problem.code
                if problem is None and not health.rounds and settings.ready_file is not None:
                    replace_file(settings.ready_file, address.encode("ascii"))
                health.rounds += problem is None

            folder, origin = settings.keys.parent, parts.checkpoints.origin
            asking = asyncio.create_task(health.witnesses.ask_for_ever(folder, origin, settings.witness_seconds, stop))
            try:
                await follow(parts.sequencer, publish=publish, told=told, stop=stop, wait_s=ROUND_S)
            finally:
                asking.cancel()
                await asyncio.wait([asking])
                await erasures.close()
            if is_announced(parts):
                parts.checkpoints.publish(parts.sequencer.view)
