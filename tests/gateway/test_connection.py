# SPDX-License-Identifier: Apache-2.0
"""The server's end of a connection, as a client on a socket sees it: order, bounds in time, what breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from gateway.connection import Connection, Exchange
from gateway.routes import IS_WHOLE, ClientGoneError

SOON_S = 20.0
KEEP_ALIVE_S = 1
Application = Callable[[Any, Any, Any], Awaitable[None]]


class Quick(Connection):
    header_seconds = 0.6


@contextlib.asynccontextmanager
async def served(application: Application) -> AsyncIterator[int]:
    """The application under uvicorn with our connections; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=Quick,
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running


async def answered(port: int, request: bytes) -> bytes:
    """All that comes until the server ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), SOON_S)
    writer.close()
    await writer.wait_closed()
    return answer


def head(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def piece(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the path, the query and the body; later where the path says so."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    assert scope["state"][IS_WHOLE]
    if scope["path"] == "/late":
        await asyncio.sleep(max(Quick.header_seconds, KEEP_ALIVE_S) + 0.4)
    told = scope["path"].encode() + b"|" + scope["query_string"] + b"|" + body
    await send(head(200, (b"content-length", b"%d" % len(told))))
    await send(piece(told))


def test_requests_on_one_connection_are_answered_in_their_order_and_none_is_ended_while_it_waits() -> None:
    async def run() -> None:
        async with served(echo) as port:
            requests = (
                b"GET /late?a=1 HTTP/1.1\r\nhost: a\r\n\r\n"
                b"POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nxyz"
                b"POST /%C3%A9?q HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                b"2\r\nuv\r\n1\r\nw\r\n0\r\n\r\n"
                b"GET /c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
            )
            answer = await answered(port, requests)
        texts = [one.partition(b"\r\n\r\n")[2] for one in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
        assert texts == [b"/late|a=1|", b"/b||xyz", "/é|q|uvw".encode(), b"/c||"]

    asyncio.run(run())


def test_a_large_body_comes_whole_in_pieces() -> None:
    async def run() -> None:
        async with served(echo) as port:
            body = bytes(range(256)) * 4000
            request = b"POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            assert (await answered(port, request + body)).endswith(b"/a||" + body)

    asyncio.run(run())


def test_who_asks_before_sending_a_body_is_told_to_go_on() -> None:
    async def run() -> None:
        async with served(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SOON_S) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            assert (await asyncio.wait_for(reader.readuntil(b"/a||hi"), SOON_S)).startswith(b"HTTP/1.1 200")
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())


@pytest.mark.parametrize("first", [b"GET /a HTTP/1.0\r\n", b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"])
def test_a_connection_that_is_for_one_request_says_so_and_ends(first: bytes) -> None:
    async def run() -> None:
        async with served(echo) as port:
            began = time.monotonic()
            answer = await answered(port, first + b"\r\n")
            assert time.monotonic() - began < KEEP_ALIVE_S
            assert b"\r\nconnection: close\r\n" in answer

    asyncio.run(run())


def test_the_answer_to_head_has_no_body() -> None:
    async def run() -> None:
        async with served(echo) as port:
            answer = await answered(port, b"HEAD /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert answer.endswith(b"\r\n\r\n")
            assert b"content-length: 4" in answer

    asyncio.run(run())


def test_an_idle_connection_and_a_slow_head_are_ended_each_in_its_time() -> None:
    async def run() -> None:
        async with served(echo) as port:
            began = time.monotonic()
            assert await answered(port, b"") == b""
            assert await answered(port, b"GET / HTTP/1.1\r\nhost") == b""
            assert time.monotonic() - began < 2 * KEEP_ALIVE_S
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(3):  # each request gives it its time again
                writer.write(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n")
                await asyncio.wait_for(reader.readuntil(b"/a||"), SOON_S)
                began = time.monotonic()
                await asyncio.sleep(KEEP_ALIVE_S * 0.7)
            assert await asyncio.wait_for(reader.read(), SOON_S) == b""
            assert time.monotonic() - began >= KEEP_ALIVE_S * 0.95
            writer.close()
            await writer.wait_closed()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"GET /\xff HTTP/1.1", b"400"), (b"GET http://[ HTTP/1.1", b"400"), (b"nonsense", b"400")],
)
def test_what_is_no_request_is_refused(request_line: bytes, status: bytes) -> None:
    async def run() -> None:
        async with served(echo) as port:
            answer = await answered(port, request_line + b"\r\nhost: a\r\n\r\n")
            assert answer.split()[1] == status

    asyncio.run(run())


def test_who_takes_nothing_is_cut_off_and_the_application_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Exchange, "send_seconds", 0.5)
    ended: list[BaseException | None] = []

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send(head())
            for _ in range(10_000):
                await send(piece(bytes(65536), True))
        except ClientGoneError as exc:
            ended.append(exc)

    async def run() -> None:
        async with served(flood) as port:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                async with asyncio.timeout(SOON_S):
                    while not ended:
                        await asyncio.sleep(0.02)
                client.settimeout(SOON_S)

                def rest() -> int:
                    size = 0
                    with contextlib.suppress(ConnectionResetError):
                        while data := client.recv(1 << 20):
                            size += len(data)
                    return size

                assert await asyncio.to_thread(rest) < 10_000 * 65536

    asyncio.run(run())


def test_a_value_with_a_line_end_never_becomes_a_header(caplog: pytest.LogCaptureFixture) -> None:
    async def split(scope: Any, receive: Any, send: Any) -> None:
        await send(head(200, (b"x", b"1\r\nset-cookie: a"), (b"content-length", b"0")))
        await send(piece(b""))

    async def run() -> None:
        async with served(split) as port:
            answer = await answered(port, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 500")
            assert b"set-cookie" not in answer

    asyncio.run(run())
    assert "Exception in ASGI application" in caplog.text


@pytest.mark.parametrize("after", ["head", "piece", "length"])
def test_an_answer_that_breaks_off_is_an_error_or_no_whole_answer(after: str, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if after == "length":
            await send(head(200, (b"content-length", b"9")))
            await send(piece(b"short"))
        await send(head())
        if after == "piece":
            await send(piece(b"some", True))
        raise ValueError

    async def run() -> None:
        async with served(broken) as port:
            answer = await answered(port, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        if after == "head":
            assert answer.startswith(b"HTTP/1.1 500")
        elif after == "piece":
            assert answer.endswith(b"4\r\nsome\r\n")  # no last chunk: whoever reads it sees that it is not whole
        else:
            assert answer.endswith(b"content-length: 9\r\n\r\nshort")

    asyncio.run(run())
    assert "Exception in ASGI application" in caplog.text
