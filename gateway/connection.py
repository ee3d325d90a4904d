# SPDX-License-Identifier: Apache-2.0
"""The server's end of one HTTP/1.1 connection: uvicorn's, with bounds that it lacks, without what nothing here needs.

    Connection    bounds a request's head in bytes and in seconds; one timer where uvicorn sets one per answer
    Exchange      one request and its answer; an answer's head travels with the first piece of its body, and who takes
                  nothing of it is not waited for

A third of the gateway's time for one small request was uvicorn's own. What is done otherwise here: WebSockets are not
spoken; nothing is logged of a request (`gateway.app` does, without paths and values); an answer that is there at once
is one write, so one system call and one packet; a head that an application has given is not sent before its body
begins, so that an exception in between is still answered 500.

Must never: write into an answer what could end one of its header lines.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.routes import IS_WHOLE, ClientGoneError

MAX_HEADER_BYTES = 32 * 1024
_WITHOUT_BODY = (204, 304)


class Exchange(RequestResponseCycle):
    """One request and its answer, as ASGI has them."""

    send_seconds = 60.0
    """A client that takes nothing for this time is cut off."""
    _head: Any = None
    """The `http.response.start` whose body has not begun."""

    async def send(self, message: Any) -> None:
        """An ASGI message of the answer; nothing is done once the client is gone.

        Raises:
            ClientGoneError: it took nothing for `send_seconds`, and the connection is ended.
            RuntimeError: the application breaks the order of messages, or the length that it told.
        """
        if message["type"] == "http.response.start":
            if self.response_started:
                raise RuntimeError("an answer has one head")
            self._head = message
            self.waiting_for_100_continue = False
            return
        if self.flow.write_paused and not self.disconnected:
            await self._taken()
        if self.disconnected:
            return
        if self.response_complete or (self._head is None and not self.response_started):
            raise RuntimeError("a body comes after its head and before its end")
        data = b""
        if self._head is not None:
            data, self._head = self._head_bytes(self._head), None
            self.response_started = True
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            if body:
                data += b"%x\r\n%b\r\n" % (len(body), body)
            if not more:
                data += b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the body is longer than Content-Length")
            data += body
        if data:
            self.transport.write(data)
        if more:
            return
        if self.expected_content_length:
            raise RuntimeError("the body is shorter than Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    async def _taken(self) -> None:
        try:
            async with asyncio.timeout(self.send_seconds):
                await self.flow.drain()
        except TimeoutError:
            self.disconnected = True
            self.transport.abort()  # closing would wait for what was written to be taken
            raise ClientGoneError from None

    def _head_bytes(self, message: Any) -> bytes:
        status, headers = message["status"], message.get("headers", ())
        lines = [STATUS_LINE[status]]
        closes = False
        for name, value in headers:
            if name == b"content-length":
                self.expected_content_length, self.chunked_encoding = int(value), False
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive, closes = False, True
            lines.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive and not closes:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        if not head.count(b"\r") == head.count(b"\n") == len(lines) or b"\0" in head:
            raise RuntimeError("a header's value has a line end in it")
        return head + b"\r\n"


class Connection(HttpToolsProtocol):
    """One connection; uvicorn's server makes and stops it."""

    header_seconds = 20.0
    """For the head of a request, from the connection's or the request's first byte."""
    _timer: asyncio.TimerHandle | None = None
    _due: float | None = None
    """When what is awaited has to be there, by the loop's clock: a request's head, or, between requests, its first
    byte. None: nothing is awaited, a request is being answered."""
    _head_size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is an asyncio.Transport, but does not say so.
        super().connection_made(cast(asyncio.Transport, transport))
        self._expect(self.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    # ---------------------------------------------------------------- the parser's callbacks

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_size = 0
        self._expect(self.header_seconds)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._due = None
        parser = self.parser
        version = parser.get_http_version()
        if b"%" in self.url or b"?" in self.url or not self.url.startswith(b"/"):
            parsed = httptools.parse_url(self.url)
            raw_path, query = parsed.path, parsed.query or b""
        else:
            raw_path, query = self.url, b""
        path = raw_path.decode("ascii")
        scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "method": parser.get_method().decode("ascii"),
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        self.scope = cast(Any, scope)
        before = self.cycle
        self.cycle = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:  # it waits for the answer before its own
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.more_body = False
        cycle.message_event.set()
        # Nothing that leads back to the request: a ring would keep its body until the seldom collector comes by.
        cycle.scope["state"][IS_WHOLE] = True

    # ---------------------------------------------------------------- between requests

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._due is None:
            self._expect(self.timeout_keep_alive)

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEADER_BYTES:
            raise ValueError("head too large")  # uvicorn answers 400 and closes

    def _expect(self, seconds: float) -> None:
        now = self.loop.time()
        self._due = now + seconds
        # One timer outlives many requests: most of what is awaited is there at once, and a timer for each costs more
        # than they do. It comes round often enough for whatever may be awaited by then.
        if self._timer is None:
            self._timer = self.loop.call_at(now + self._round(), self._look)

    def _round(self) -> float:
        return min(self.header_seconds, self.timeout_keep_alive)

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        now = self.loop.time()
        if now < self._due:
            self._timer = self.loop.call_at(min(self._due, now + self._round()), self._look)
        elif not self.transport.is_closing():
            self.transport.close()
