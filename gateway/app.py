# SPDX-License-Identifier: Apache-2.0
"""One gateway as an ASGI application, and as a server.

    build(settings)   the application; `start` opens log and index, `stop` closes them (an ASGI server's lifespan calls
                      both)
    serve(settings)   the same under uvicorn until SIGTERM or SIGINT

The two hot routes are dispatched before FastAPI sees the request; everything else is ordinary FastAPI. Every answer
carries Date (the gateway's clock), `umuhuza-log` and no-store. The request log has one JSON line per request with the
route's template, status, code, agency, duration and counts: never a path, a query, a header or a value.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog
import uvicorn
from fastapi import FastAPI
from starlette.requests import ClientDisconnect

from gateway.bridge_routes import add_bridge_routes
from gateway.bundle_routes import add_bundle_routes
from gateway.checkers import Checkers
from gateway.connection import Connection, Exchange
from gateway.crossed_routes import add_crossed_routes
from gateway.door import Door, open_door
from gateway.log_routes import add_log_routes
from gateway.openapi import install
from gateway.pages import add_pages
from gateway.receipt_routes import add_receipt_routes
from gateway.registry_routes import add_registry_pages
from gateway.routes import ClientGoneError, Message, Receive, Reply, Scope, Send, mailbox, records
from gateway.settings import Settings, read_registry_root, read_sealing_key, read_signing_key
from gateway.witness_routes import add_witness_routes
from gateway.workers import Threads, seldom_collect
from schemas.errors import AccessError, LogError, UmuhuzaError
from schemas.keys import RandomBytes
from topics.catalogue import topics_of
from topics.log import Log
from topics.passphrase import unattended
from topics.private_file import Passphrase
from topics.registry_file import RegistryFile
from topics.settings import SettingsError
from topics.sqlite_log import SqliteLog
from topics.witness_folder import KEY_FILE, WITNESS, read_note_signers

Hot = Callable[[Door, Scope, Receive, Send], Awaitable[tuple[int, dict[str, Any]]]]
_HOT: dict[str, tuple[str, Hot]] = {"/v1/records": ("POST", records), "/v1/mailbox": ("GET", mailbox)}
_WAL = "-wal"
_THREADS = 2
"""For compression and the index's file, and for what checkers do where there are none."""

Logger = Callable[[dict[str, Any]], None]


def json_line(stream: Any) -> Logger:
    """A structlog logger that writes one JSON object per line."""
    log = structlog.wrap_logger(
        structlog.BytesLogger(stream),
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event)),
        ],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    )

    def write(facts: dict[str, Any]) -> None:
        log.info(**facts)

    return write


class Gateway:
    """The ASGI application. One per process and event loop."""

    def __init__(
        self,
        settings: Settings,
        opener: Callable[[], Awaitable[Door]],
        logger: Logger | None,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._opener = opener
        self._log = logger
        self._clock = clock
        self._door: Door | None = None
        self.fastapi = _fastapi(self)

    @property
    def door(self) -> Door:
        """Raises LogError `unavailable` before `start`."""
        if self._door is None:
            raise LogError("unavailable")
        return self._door

    async def start(self) -> None:
        """Open the log, catch up, be ready. Raises LogError, RegistryError."""
        if self._door is None:
            self._door = await self._opener()
            self.fastapi.state.door = self._door

    async def stop(self) -> None:
        """Idempotent."""
        if self._door is not None:
            await self._door.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.fastapi(scope, receive, send)
            return
        started = self._clock()
        hot = _HOT.get(scope["path"])
        if hot is not None and hot[0] == scope["method"] and self._door is not None:
            await self._hot(self._door, scope["path"], hot[1], scope, receive, send, started)
        else:
            await self._ordinary(scope, receive, send, started)

    async def _hot(
        self, door: Door, route: str, call: Hot, scope: Scope, receive: Receive, send: Send, started: float
    ) -> None:
        facts: dict[str, Any] = {}
        try:
            status, facts = await call(door, scope, receive, send)
        except UmuhuzaError as exc:
            status = await Reply(door, scope, send).refuse(exc)
            # Who was refused what is what an auditor asks first.
            agency = scope.get("umuhuza.agency")
            facts = {"code": exc.code} | ({} if agency is None else {"agency": agency})
        except ClientGoneError:
            status = 499
        self._tell(route, status, facts, started)

    async def _ordinary(self, scope: Scope, receive: Receive, send: Send, started: float) -> None:
        told: dict[str, Any] = {"status": 500}

        async def finish(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                fields = list(message.get("headers", []))
                if self._door is not None:
                    fields.append((b"date", self._door.date()))
                    fields.append((b"umuhuza-log", self._door.log.log_id.encode("ascii")))
                if not any(name == b"cache-control" for name, _ in fields):
                    fields.append((b"cache-control", b"no-store"))
                message = {**message, "headers": fields}
            await send(message)

        with contextlib.suppress(ClientDisconnect, ClientGoneError):
            await self.fastapi(scope, receive, finish)
        route = getattr(scope.get("route"), "path", "*")
        agency = scope.get("umuhuza.agency")
        self._tell(route, told["status"], {} if agency is None else {"agency": agency}, started)

    def _tell(self, route: str, status: int, facts: dict[str, Any], started: float) -> None:
        if self._door is not None:
            self._door.metrics.request(route, str(status)).inc()
        if self._log is not None and self.settings.log_requests:
            ms = round((self._clock() - started) * 1000, 2)
            self._log({"event": "request", "route": route, "status": status, "ms": ms, **facts})


def _fastapi(gateway: Gateway) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.stop()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.door = None
    add_pages(app)
    add_witness_routes(app)
    add_log_routes(app)
    add_receipt_routes(app)
    add_registry_pages(app)
    add_bridge_routes(app)
    add_crossed_routes(app)
    add_bundle_routes(app)
    install(app)

    @app.api_route("/v1/records", methods=["GET", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    @app.api_route("/v1/mailbox", methods=["POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def wrong_method() -> None:
        raise AccessError("request_invalid", "method")

    return app


def build(
    settings: Settings,
    *,
    now: Callable[[], float] = time.time,
    random: RandomBytes = secrets.token_bytes,
    logger: Logger | None = None,
    over: Callable[[Log], Log] = lambda log: log,
    passphrase: Passphrase = unattended,
) -> Gateway:
    """A gateway over its domain's log: the SQLite file, or Kafka.

    `over` is put over Kafka once it is open: where `now` is not the brokers' time, their times have to follow it.
    `passphrase` opens the gateway's key and its witness's, where they are locked.

    Raises:
        SettingsError: a key file that cannot be used, no log or two.
        RegistryError: registry_invalid.
        KeyStoreError: a locked key that does not open.
    """
    key = read_signing_key(settings.signing_key, passphrase)
    if settings.witness is not None:
        read_note_signers(settings.witness / KEY_FILE, WITNESS, passphrase)  # a wrong passphrase is said now
    read_sealing_key(settings, passphrase)
    registry_file = RegistryFile(settings.registry, read_registry_root(settings), now)
    registry_file.registry.signing_key(settings.agency, key.kid, int(now()))
    cores = os.cpu_count() or 1
    checkers = (0 if cores == 1 else min(cores, 4)) if settings.checkers is None else settings.checkers

    if (settings.log is None) == (settings.kafka is None):
        raise SettingsError(
            "log, kafka: one of the two is needed, and not both", "log, kafka : il faut l'un des deux, et un seul"
        )

    async def opener() -> Door:
        make_topics: Callable[[Sequence[str]], Awaitable[None]] | None = None
        log: Log
        if settings.log is not None:
            log = sqlite = SqliteLog.open(
                str(settings.log),
                topics=[topic for topic in topics_of(registry_file.registry) if ".grants." not in topic],
                clock_ms=lambda: int(now() * 1000),
                random_id=lambda: random(16).hex(),
            )
            make_topics = sqlite.create_topics
        else:
            assert settings.kafka is not None
            # Topics and rights are the administrator's (`umuhuza kafka up`): a gateway may make none.
            log = over(await _kafka_log(settings.kafka, settings, registry_file.registry.domain, random))
        return await open_door(
            settings,
            log=log,
            registry_file=registry_file,
            key=key,
            now=now,
            random=random,
            run=Threads(_THREADS),
            checker=None if not checkers else lambda here, died: Checkers.start(checkers, here, died=died),
            make_topics=make_topics,
            storage=lambda: 0.0 if settings.log is None else _size_of(settings.log, "", _WAL),
            log_wal=lambda: 0.0 if settings.log is None else _size_of(settings.log, _WAL),
            passphrase=passphrase,
        )

    return Gateway(settings, opener, logger, time.perf_counter)


async def _kafka_log(folder: Path, settings: Settings, domain: str, random: RandomBytes) -> Log:
    # Here, because it takes a third of a second that a gateway over SQLite need not wait for.
    from topics.kafka_log import KafkaAccess, KafkaLog

    access = KafkaAccess.of_folder(folder, client_id=f"umuhuza-gateway-{settings.agency.replace('/', '.')}")
    view = settings.index.with_name(settings.index.stem + "-grants.db")
    return await KafkaLog.open(access, domain=domain, view=view, random_id=lambda: random(16).hex())


def _size_of(path: Path, *suffixes: str) -> float:
    total = 0
    for suffix in suffixes:
        with contextlib.suppress(OSError):
            total += path.with_name(path.name + suffix).stat().st_size
    return float(total)


# ---------------------------------------------------------------------------------------------------------------------
# The server


class _Server(uvicorn.Server):
    """uvicorn's, which tells when it is ready and wakes waiting reads when it stops."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Before the lifespan does: out of there it would be a traceback in a log line instead of an error.
        await self._gateway.start()
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.door.closing.set()
        await super().shutdown(sockets)


class _NoValues(logging.Formatter):
    """uvicorn's own messages without exceptions' texts, which could hold values: type and place only."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {"event": "server", "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info is not None and record.exc_info[0] is not None:
            # The message is uvicorn's constant; str(exception) is nobody's business.
            facts["exception"] = record.exc_info[0].__name__
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                facts["at"] = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        return orjson.dumps(facts).decode("utf-8")


def _server_log(stream: Any) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_NoValues())
    logger = logging.getLogger("uvicorn.error")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.WARNING)


def serve(
    settings: Settings,
    *,
    on_ready: Callable[[str], None] | None = None,
    now: Callable[[], float] = time.time,
    over: Callable[[Log], Log] = lambda log: log,
    passphrase: Passphrase = unattended,
) -> None:
    """Run one gateway until SIGTERM or SIGINT; then finish what is under way within `stop_seconds`.

    `on_ready` and the settings' `ready_file` get the address (with the port that was chosen for 0) once requests are
    answered. Log lines go to standard error. `now`, `over` and `passphrase` as for `build`.

    Raises:
        SettingsError, RegistryError, KeyStoreError: before anything listens.
        LogError: the log cannot be opened (as `KafkaLog.open`, `SqliteLog.open`); nothing was answered.
        OSError: the address is taken.
    """
    logger = json_line(sys.stderr.buffer)
    gateway = build(settings, now=now, logger=logger, over=over, passphrase=passphrase)
    listener = socket.create_server(
        (settings.host, settings.port), family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET, backlog=2048
    )
    port = listener.getsockname()[1]
    tls = settings.tls_certificate is not None
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{'https' if tls else 'http'}://{host}:{port}"

    def ready() -> None:
        if settings.ready_file is not None:
            # Renamed into place, so that whoever waits for the file never reads half of it.
            half = settings.ready_file.with_name(settings.ready_file.name + ".tmp")
            half.write_text(address + "\n", encoding="ascii")
            os.replace(half, settings.ready_file)
        if on_ready is not None:
            on_ready(address)
        logger({"event": "ready", "address": address})
        seldom_collect()

    _server_log(sys.stderr)
    # With Python's 5 ms the log's threads wait that long for the lock, several times per commit.
    sys.setswitchinterval(0.0005)
    Connection.header_seconds, Exchange.send_seconds = settings.header_seconds, settings.send_seconds
    config = uvicorn.Config(
        gateway,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.stop_seconds,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    _Server(config, gateway, ready).run(sockets=[listener])
