# SPDX-License-Identifier: Apache-2.0
"""A link on which every byte is counted, and named by what it carries: for `umuhuza bench --part link`.

    agency --TLS 1.3--> [counts encrypted bytes] --> [TLS ends, HTTP is counted] --> gateway

The second half is the TLS proxy that a domain may have before its gateway; what it sees between two answers belongs to
one exchange. What was encrypted and is no HTTP is TLS's own: handshakes, certificates, and 22 bytes a record.

Must never: keep or show a body; it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httptools

_READ = 64 << 10
_SEGMENT = 1400
_HEADERS = 52
"""Of a TCP segment over IPv4, with timestamps."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, in bytes as they were on the wire."""

    path: str
    up: int
    up_body: int
    down: int
    down_body: int


@dataclass
class Counted:
    """What has passed; grows."""

    up: int = 0
    down: int = 0
    """Encrypted; away from the agency, and to it."""
    connections: int = 0
    exchanges: list[Exchange] = field(default_factory=list)

    def since(self, before: Counted) -> Counted:
        """What has passed since that copy was made."""
        return Counted(
            self.up - before.up,
            self.down - before.down,
            self.connections - before.connections,
            self.exchanges[len(before.exchanges) :],
        )

    def copy(self) -> Counted:
        return Counted(self.up, self.down, self.connections, list(self.exchanges))

    @property
    def total(self) -> int:
        return self.up + self.down

    @property
    def tls(self) -> int:
        return self.total - sum(one.up + one.down for one in self.exchanges)

    @property
    def tcp_ip(self) -> int:
        """Reckoned, not measured: headers of full segments one way, of an acknowledgement for each two the other."""
        segments = sum(-(-(one.up + 200) // _SEGMENT) + -(-(one.down + 200) // _SEGMENT) for one in self.exchanges)
        return round(1.5 * segments * _HEADERS) + self.connections * 6 * _HEADERS


class _Seen(Protocol):
    def __call__(self, data: bytes, /) -> None: ...


class _Heads:
    """Reads one direction of HTTP/1.1; says when a message is whole."""

    def __init__(self, answers: bool) -> None:
        self._parser = httptools.HttpResponseParser(self) if answers else httptools.HttpRequestParser(self)
        self.path = ""
        self.body = 0
        self.raw = 0
        self.whole = False

    def on_url(self, url: bytes) -> None:
        self.path = url.partition(b"?")[0].decode("ascii")

    def on_body(self, body: bytes) -> None:
        self.body += len(body)

    def on_message_complete(self) -> None:
        self.whole = True

    def feed(self, data: bytes) -> None:
        self.raw += len(data)
        self._parser.feed_data(data)

    def again(self) -> None:
        self.path, self.body, self.raw, self.whole = "", 0, 0, False


class MeasuredLink:
    """See the module's docstring.

    Args:
        gateway_port: where HTTP goes, on this machine.
        chain, key: the certificates that the gateway shows, and the key of the first (PEM files).
    """

    def __init__(self, gateway_port: int, chain: Path, key: Path) -> None:
        self._gateway_port = gateway_port
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._tls.load_cert_chain(chain, key)
        self.counted = Counted()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """The address for the agency, while it is open."""
        inner = await asyncio.start_server(self._ended, "127.0.0.1", 0, ssl=self._tls)
        self._inner_port = inner.sockets[0].getsockname()[1]
        outer = await asyncio.start_server(self._encrypted, "127.0.0.1", 0)
        try:
            yield f"https://127.0.0.1:{outer.sockets[0].getsockname()[1]}"
        finally:
            for server in (outer, inner):
                server.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _encrypted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counted.connections += 1

        def up(data: bytes) -> None:
            self.counted.up += len(data)

        def down(data: bytes) -> None:
            self.counted.down += len(data)

        await self._between(reader, writer, self._inner_port, up, down)

    async def _ended(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked, told = _Heads(answers=False), _Heads(answers=True)

        def down(data: bytes) -> None:
            told.feed(data)
            if told.whole:
                self.counted.exchanges.append(Exchange(asked.path, asked.raw, asked.body, told.raw, told.body))
                asked.again()
                told.again()

        await self._between(reader, writer, self._gateway_port, asked.feed, down)

    async def _between(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        port: int,
        up: _Seen,
        down: _Seen,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far_writer: asyncio.StreamWriter | None = None
        try:
            far, far_writer = await asyncio.open_connection("127.0.0.1", port)
            ways = [
                asyncio.create_task(_carry(reader, far_writer, up)),
                asyncio.create_task(_carry(far, writer, down)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # whoever it was is gone, and connects again; or the link is closed, which alone cancels this
        finally:
            self._tasks.discard(task)
            for each in (writer, far_writer):
                if each is not None:
                    each.close()
                    with contextlib.suppress(OSError, asyncio.CancelledError):
                        await each.wait_closed()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: _Seen) -> None:
    while data := await reader.read(_READ):
        seen(data)
        writer.write(data)
        await writer.drain()
