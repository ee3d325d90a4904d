# SPDX-License-Identifier: Apache-2.0
"""The real gateway in the simulated middle: `HttpLog`, a transport over the simulated network, the ASGI application.

Nothing of HTTP is simulated but the wire: tokens, gzip, problem objects, long polls and promises are those of
`topics.http_log` and `gateway.app`. A request is carried out in the gateway's own process, which may die meanwhile.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
from typing_extensions import override

from gateway.app import Gateway
from gateway.checking import AtOnce
from gateway.door import Door, open_door
from gateway.settings import Settings
from tests.domain import Domain
from tests.sim_network import Link, Network, UnreachableError
from tests.sim_time import VirtualLoop
from topics.registry_file import RegistryFile
from topics.sqlite_log import SqliteLog

LONGEST_WAIT_S = 86_400.0
FOLLOW_S = 6 * 3600.0
TOKEN_S = 12 * 3600
PATIENCE_S = 1800.0
"""Of one request, beside the time that a read waits. Long: each failure in virtual time is a turn in real time."""


@dataclass(frozen=True)
class Front:
    """Makes the gateway of one life over an open log. The registry's file is the one thing on a real disk."""

    domain: Domain
    registry_file: Path
    loop: VirtualLoop
    rng: random.Random
    neighbours: Path | None = None
    """Whom the domain exchanges with; a real folder too."""
    ledger: Path | None = None
    """Where its ledger publishes."""

    async def open(self, log: SqliteLog, now: Callable[[], float]) -> Gateway:
        # Not validated: in virtual time a wait of a day costs what a wait of a minute does.
        settings = Settings.model_construct(
            registry=self.registry_file,
            registry_root=self.domain.pin.text,
            signing_key=self.registry_file,
            agency=self.domain.operator.id,
            log=Path("/log.db"),
            index=Path("/index.db"),
            wait_max_seconds=LONGEST_WAIT_S,
            follow_seconds=FOLLOW_S,
            token_seconds=TOKEN_S,
            neighbours=self.neighbours,
            ledger=self.ledger,
            log_requests=False,
        )
        registry = RegistryFile(self.registry_file, self.domain.pin, now)

        async def opener() -> Door:
            return await open_door(
                settings,
                log=log,
                registry_file=registry,
                key=self.domain.operator.sig,
                now=now,
                random=self.rng.randbytes,
                run=AtOnce(),
                make_topics=log.create_topics,
                index_in_memory=True,
            )

        gateway = Gateway(settings, opener, None, self.loop.time)
        await gateway.start()
        return gateway


class Wire(httpx2.AsyncBaseTransport):
    """One agency's way to the gateway, whichever process that is at the moment.

    Args:
        grain_s: a client's patience is rounded up to whole ones; 0: as it is. It grows with the bytes of a request, and
            what carries ML-DSA signatures, which are drawn anew in every run, compresses to a few bytes more or less.
    """

    def __init__(
        self,
        network: Network,
        link: Link,
        gateway: Callable[[], Gateway | None],
        step: Callable[[str], None] = lambda _name: None,
        *,
        grain_s: float = 0.0,
    ) -> None:
        self._grain_s = grain_s
        self._network = network
        self._link = link
        self._gateway = gateway
        self._step = step

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        self._step("asks")
        patience_s = float(request.extensions["timeout"]["read"])
        if self._grain_s:
            patience_s = math.ceil(patience_s / self._grain_s) * self._grain_s
        gone = asyncio.Event()

        async def there() -> _Answered:
            gateway = self._gateway()
            if gateway is None:
                raise httpx2.ConnectError("no gateway")
            return await _answered(gateway, request, body, gone)

        try:
            answered = await self._network.call(self._link, there, patience_s)
        except UnreachableError as exc:
            raise (httpx2.ReadTimeout if exc.sent else httpx2.ConnectError)("the simulated network") from None
        finally:
            gone.set()
        self._step("is answered")
        return httpx2.Response(answered.status, headers=answered.headers, stream=httpx2.ByteStream(answered.body))


@dataclass(slots=True)
class _Answered:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


async def _answered(gateway: Gateway, request: httpx2.Request, body: bytes, gone: asyncio.Event) -> _Answered:
    """One request through the application. `gone`: the client has left."""
    answered = _Answered(500, [], b"")
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await gone.wait()
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answered.status, answered.headers = message["status"], list(message.get("headers", []))
        else:
            answered.body += message.get("body", b"")

    raw_path, _, query = request.url.raw_path.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("192.0.2.1", 1),
        "server": ("192.0.2.2", 443),
    }
    await gateway(scope, receive, send)
    return answered
