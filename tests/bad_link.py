# SPDX-License-Identifier: Apache-2.0
"""A bad link between real programs: a TCP proxy of which a test says how narrow, how far, how broken it is.

    async with BadLink(port, Fault(bytes_s=16_000)).open() as link:
        HttpLog(link.address, ...)

One bandwidth per direction is shared by all connections, as on a radio link. Loss shows to programs as silence (TCP
sends again), so a fault is: a wait, a silence that never ends, or a reset, after a number of bytes drawn from the seed.
Which bytes pass is thus the same in every run; how long they take is the clock's.

Buffers of the two sockets are small: what the link has not carried, the sender still holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

_PIECE = 2048
_PACKET = 1400
_MOST = 32
_BUFFER = 8192


@dataclass(frozen=True)
class Fault:
    """How a link is. Bytes and seconds; None: never."""

    bytes_s: float = 1e9
    """Per direction."""
    delay_s: float = 0.0
    """One way."""
    reset_after: tuple[int, int] | None = None
    """Connections break after a number of bytes between these two, counted in both directions."""
    stall: tuple[float, float] = (0.0, 0.0)
    """(probability per piece, longest seconds) of a wait: lost packets."""
    loss: float = 0.0
    """Probability that a packet of 1,400 bytes is lost; TCP sends it again after `timeout_s`, and waits twice as long
    each time that this is lost, too (RFC 6298)."""
    timeout_s: float = 1.0


@dataclass
class BadLink:
    """See the module's docstring."""

    port: int
    fault: Fault = field(default_factory=Fault)
    seed: int = 0
    black: bool = False
    """Nothing passes and nobody is told: a half-open connection."""
    address: str = ""
    up: int = 0
    """Bytes that left the client, so far; `down`: that reached it."""
    down: int = 0
    connections: int = 0
    broken: int = 0
    losses: int = 0
    on_bytes: Callable[[BadLink], None] = lambda _link: None
    """Called after each piece that was carried, before it reaches the other end."""
    piece: tuple[str, bytes] = ("", b"")
    """Which way the newest one goes, and what it is."""
    _busy_until: dict[str, float] = field(default_factory=dict)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[BadLink]:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        server = await asyncio.start_server(self._connected, sock=listener, limit=_BUFFER)
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            tasks = list(self._open)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        rng = random.Random(f"{self.seed}/{self.connections}")
        left = [rng.randint(*self.fault.reset_after)] if self.fault.reset_after else [1 << 60]
        far_writer: asyncio.StreamWriter | None = None
        try:
            far, far_writer = await asyncio.open_connection("127.0.0.1", self.port, limit=_BUFFER)
            ways = [
                asyncio.create_task(self._carry("up", reader, far_writer, rng, left)),
                asyncio.create_task(self._carry("down", far, writer, rng, left)),
            ]
            try:
                done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                for one in ways:
                    one.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            if any(one.exception() is not None for one in done):
                self.broken += 1
                _reset(writer)
            for one_writer in (writer, far_writer):
                one_writer.close()
        except OSError:
            self.broken += 1
        except asyncio.CancelledError:
            pass  # the test is over: nothing else cancels this
        finally:
            self._open.discard(task)
            for each in (writer, far_writer):
                if each is not None:
                    if not each.is_closing():
                        each.transport.abort()
                    with contextlib.suppress(OSError, asyncio.CancelledError):
                        await each.wait_closed()

    def _lost(self, size: int, rng: random.Random) -> float:
        """Seconds until all packets of a piece have come through."""
        waited = 0.0
        for _ in range(-(-size // _PACKET) if self.fault.loss else 0):
            timeout = self.fault.timeout_s
            while rng.random() < self.fault.loss:
                self.losses += 1
                waited, timeout = waited + timeout, 2 * timeout
        return waited

    async def _carry(
        self, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rng: random.Random, left: list[int]
    ) -> None:
        fault, loop = self.fault, asyncio.get_running_loop()
        # As much is under way as the link is long; what it has not carried, the sender still holds.
        pieces = asyncio.Queue[tuple[float, bytes]](1 + min(int(fault.bytes_s * fault.delay_s) // _PIECE, _MOST))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(way, pieces, writer, left))
            while data := await reader.read(_PIECE):
                now = loop.time()
                start = max(now, self._busy_until.get(way, 0.0))
                if fault.stall[0] and rng.random() < fault.stall[0]:
                    start += rng.uniform(0, fault.stall[1])
                self._busy_until[way] = until = start + len(data) / fault.bytes_s
                if until > now:
                    await asyncio.sleep(until - now)
                # What waits for a lost packet is this connection; the way is free for others.
                await pieces.put((until + fault.delay_s + self._lost(len(data), rng), data))
            await pieces.put((0.0, b""))

    async def _deliver(
        self, way: str, pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, left: list[int]
    ) -> None:
        """In order, each when it is due. Raises ConnectionResetError where the fault says so."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await pieces.get()
            if not data:
                break
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            while self.black:
                await asyncio.sleep(0.05)
            left[0] -= len(data)
            if left[0] < 0:
                raise ConnectionResetError
            if way == "up":
                self.up += len(data)
            else:
                self.down += len(data)
            self.piece = way, data
            self.on_bytes(self)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Let the client see a reset, as from a box in between that has forgotten the connection."""
    found = writer.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
