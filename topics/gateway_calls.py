# SPDX-License-Identifier: Apache-2.0
"""One agency's calls to its gateway: tokens, clocks, patience. What they mean is `http_log`'s.

- **Tokens** are fetched when needed, once per expiry. A 401 is answered by one new token, not more.
- **Clocks.** Every answer has the gateway's Date; `clock_offset_s` is what to add to the own clock. A token that was
  refused while the clocks differ is asked for once more with the corrected time.
- **Slow links.** Time limits are on silence, never on size: a body leaves in pieces, each of which has its own limit,
  so that what is large and slow arrives, and what stands still is given up. Of an answer in lines, those that came
  whole before the link broke are kept. As a last resort a call ends after `LONGEST_S`.
- **Half-open connections** are found by that silence; where the system can, sooner: bytes that nobody acknowledges end
  a connection after the same time.
- **Back-pressure.** Where an answer says Retry-After, the same call is not made again before: it fails here, with what
  the gateway said. The error carries the time for those who plan (`UmuhuzaError.retry_after_s`).

A connection error is `unavailable`; whether what was sent arrived is then not known. Must never: try again by itself
what may have been carried out; follow a redirect; name the gateway's words in an error (codes and plain paths only).
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import httpx2
import orjson

from schemas.envelope import sign_jws
from schemas.errors import (
    AccessError,
    LogError,
    OrderError,
    PayloadError,
    PolicyError,
    RecordError,
    RegistryError,
    SourceError,
    UmuhuzaError,
)
from schemas.keys import RandomBytes, Signer, b64url

LONGEST_S = 900.0
"""Of one call, beside the time that a read waits: a record of the largest size at 8 kbit/s."""
ENOUGH_S = 60.0
"""An answer in lines that is still coming after this time is ended behind a whole line: work goes on with what came."""
KEPT_S = 60.0
"""How long an idle connection is kept: a handshake costs more than an answer. Less than a gateway keeps it."""
MAX_RETRY_AFTER_S = 1800.0
PIECE_BYTES = 16 << 10
_BUFFER_BYTES = 64 << 10
_SLOWEST_BYTES_S = 4096
_UNDER_WAY_BYTES = 256 << 10
"""What a system may still hold when it took the last piece: an answer is waited for that much longer."""
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_S = 60
_RENEW_BEFORE_S = 30.0
_GZIP_ABOVE = 1024
_CLOCK_DIFFERS_S = 5.0
_CONNECTIONS = 8
_FORM = {"content-type": "application/x-www-form-urlencoded"}
_PLAIN = re.compile(r"[A-Za-z0-9_.,:;/*@\[\]{}()<>=+ -]{1,200}")
"""What is taken over from a gateway into errors, which people see on terminals."""
_TREE: tuple[type[UmuhuzaError], ...] = (
    LogError,
    AccessError,
    RecordError,
    OrderError,
    PolicyError,
    RegistryError,
    PayloadError,
    SourceError,
)


def error_of(problem: object) -> UmuhuzaError:
    """The error of the tree that a problem object stands for; `unavailable` for one that is not ours.

    Title and advice are ours, by the code; only `path`, `expected` and `retry_after` are taken over, if they are plain.
    """
    if isinstance(problem, dict):
        code, path, expected = problem.get("code"), problem.get("path"), problem.get("expected")
        for kind in _TREE:
            if isinstance(code, str) and code in kind.codes:
                error = kind(
                    code,
                    path if isinstance(path, str) and _PLAIN.fullmatch(path) else None,
                    expected=expected
                    if isinstance(expected, int) or (isinstance(expected, str) and _PLAIN.fullmatch(expected))
                    else None,
                )
                error.retry_after_s = _patience(problem.get("retry_after"))
                return error
    return LogError("unavailable", "gateway")


def _patience(told: object) -> float:
    """Seconds, bounded: no gateway can silence an agency for longer than half an hour."""
    if isinstance(told, str):
        told = int(told) if told.isascii() and told.isdigit() and len(told) < 10 else 0
    if type(told) is not int or told < 0:
        return 0.0
    return min(float(told), MAX_RETRY_AFTER_S)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, decompressed."""

    status_code: int
    headers: httpx2.Headers
    content: bytes
    cut: bool = False
    """It was asked for in lines and did not come to its end: these are the lines that came whole."""
    seconds: float = 0.0
    """From its first byte to its last."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    until: float


@lru_cache(maxsize=2)
def _trusted(encrypted: bool) -> ssl.SSLContext:
    """Whose certificates count, read once in a process: that takes longer than a request. Without TLS nobody's do."""
    return httpx2.create_ssl_context(trust_env=False) if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class GatewayCalls:
    """See the module's docstring. Used from one event loop.

    Args:
        base_url: the gateway's address.
        agency, signing_key: who asks.
        domain: whose gateway it must be.
        now: the own clock, seconds since the epoch; may be wrong.
        random: for `jti`s.
        transport: instead of the network (tests, simulator).
        tls: whom to believe; None: the authorities that browsers believe.
        gzip: compress requests over 1 KiB and ask for compressed answers.
        timeout_s: of silence, in each direction, beside the time that a read waits.
    """

    def __init__(
        self,
        base_url: str,
        agency: str,
        signing_key: Signer,
        *,
        domain: str,
        now: Callable[[], float],
        random: RandomBytes,
        transport: httpx2.AsyncBaseTransport | None = None,
        tls: ssl.SSLContext | None = None,
        gzip: bool = True,
        timeout_s: float = 30.0,
    ) -> None:
        self._agency = agency
        self._key = signing_key
        self._domain = domain
        self._now = now
        self._random = random
        self._gzip = gzip
        self._timeout = timeout_s
        if transport is None:
            transport = httpx2.AsyncHTTPTransport(
                verify=_trusted(base_url.partition(":")[0].lower() != "http") if tls is None else tls,
                trust_env=False,
                limits=httpx2.Limits(
                    max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=KEPT_S
                ),
                socket_options=_socket_options(timeout_s),
            )
        self._client = httpx2.AsyncClient(
            base_url=base_url,
            transport=transport,
            headers={"accept-encoding": "gzip" if gzip else "identity", "user-agent": "umuhuza"},
            timeout=timeout_s,
            trust_env=False,
        )
        self._token: _Token | None = None
        self._token_lock = asyncio.Lock()
        self._closed = False
        self._calls: set[asyncio.Task[Any]] = set()
        self._resting: dict[tuple[str, str], tuple[float, UmuhuzaError]] = {}
        self.log_id = ""
        """Of the log behind the gateway; "" before the first answer."""
        self.clock_offset_s = 0.0
        """Gateway's clock minus own clock at the last answer; add it to `now` before dating anything."""

    @property
    def now(self) -> float:
        """The own clock, corrected."""
        return self._now() + self.clock_offset_s

    @property
    def closed(self) -> bool:
        return self._closed

    async def close(self) -> None:
        """Calls under way end with `log_closed`; idempotent."""
        if self._closed:
            return
        self._closed = True
        for call in list(self._calls):
            call.cancel()
        await self._client.aclose()

    def refuse_closed(self) -> None:
        """Raises LogError `log_closed`."""
        if self._closed:
            raise LogError("log_closed")

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | list[str]] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        lines: bool = False,
    ) -> Reply:
        """One authenticated request; `lines`: what came whole of a broken answer is an answer too.

        Raises:
            UmuhuzaError: what the gateway refused it with, now or the last time with a Retry-After that is not over;
                unavailable, log_closed.
        """
        self.refuse_closed()
        self._refuse_resting(method, path)
        fields = dict(headers or {})
        if body is not None and self._gzip and len(body) > _GZIP_ABOVE:
            body = _gzip(body)
            fields["content-encoding"] = "gzip"
        async with self._under_way():
            for attempt in (1, 2):
                fields["authorization"] = f"Bearer {await self.access_token()}"
                reply = await self._request(method, path, query, body, fields, wait_s, lines)
                if reply.status_code != 401 or attempt == 2:
                    break
                self._token = None
        if reply.status_code in (200, 304):
            return reply
        error = _refusal(reply)
        if error.retry_after_s:
            self._resting[method, path] = (asyncio.get_running_loop().time() + error.retry_after_s, error)
        raise error

    def _refuse_resting(self, method: str, path: str) -> None:
        until, error = self._resting.get((method, path), (0.0, None))
        if error is None:
            return
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            del self._resting[method, path]
            return
        again = type(error)(error.code, error.path, expected=error.expected)
        again.retry_after_s = left
        raise again

    async def json(self, path: str, query: Mapping[str, str | list[str]]) -> Any:
        """GET, an answer that is JSON."""
        reply = await self.call("GET", path, query=query)
        try:
            return orjson.loads(reply.content)
        except orjson.JSONDecodeError:
            raise LogError("unavailable", "gateway") from None

    @asynccontextmanager
    async def _under_way(self) -> AsyncIterator[None]:
        """Lets `close` end this call with `log_closed`, and nobody else's cancellation look like it."""
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._closed:
                raise
            task.uncancel()
            raise LogError("log_closed") from None
        finally:
            self._calls.discard(task)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | list[str]] | None,
        body: bytes | None,
        headers: Mapping[str, str],
        wait_s: float,
        lines: bool = False,
    ) -> Reply:
        fields = dict(headers)
        content: bytes | AsyncIterator[bytes] | None = body
        wait = self._timeout + wait_s
        if body is not None and len(body) > PIECE_BYTES:
            fields["content-length"] = str(len(body))
            content = _pieces(body)
            wait += min(len(body), _UNDER_WAY_BYTES) / _SLOWEST_BYTES_S
        request = self._client.build_request(
            method,
            path,
            params=query,
            content=content,
            headers=fields,
            timeout=httpx2.Timeout(self._timeout, read=wait),
        )
        closed = False
        try:
            async with asyncio.timeout(LONGEST_S + wait):
                reply = await self._answer(request, lines)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError):
            closed = self._closed
        except RuntimeError:
            if not self._closed:
                raise
            closed = True
        else:
            return reply
        raise LogError("log_closed" if closed else "unavailable", None if closed else "gateway")

    async def _answer(self, request: httpx2.Request, lines: bool) -> Reply:
        """Raises httpx2.HTTPError."""
        clock = asyncio.get_running_loop().time
        response = await self._client.send(request, stream=True)
        self._learn(response.headers)
        began = clock()
        body = bytearray()
        cut = False
        try:
            async for chunk in response.aiter_bytes():
                body += chunk
                if lines and clock() - began > ENOUGH_S and b"\n" in body:
                    cut = True
                    break
        except httpx2.HTTPError:
            if not lines or response.status_code != 200 or b"\n" not in body or self._closed:
                raise
            cut = True
        finally:
            await response.aclose()
        if cut:
            del body[body.rfind(b"\n") + 1 :]
        return Reply(response.status_code, response.headers, bytes(body), cut, clock() - began)

    def _learn(self, headers: httpx2.Headers) -> None:
        self.log_id = headers.get("umuhuza-log", self.log_id)
        date = headers.get("date")
        if date is None:
            return
        try:
            offset = parsedate_to_datetime(date).timestamp() - self._now()
        except (ValueError, TypeError, OverflowError):
            return
        # Date has whole seconds and the answer took its time: small differences are none.
        self.clock_offset_s = offset if abs(offset) > _CLOCK_DIFFERS_S else 0.0

    async def access_token(self) -> str:
        """A token that counts now, for whoever calls the gateway by other means. Raises the gateway's refusal."""
        async with self._token_lock:
            if self._token is None or self._token.until <= self.now:
                self._token = await self._new_token()
            return self._token.text

    async def _new_token(self) -> _Token:
        for attempt in (1, 2):
            before = self.clock_offset_s
            reply = await self._request("POST", "/v1/token", None, self._form(), _FORM, 0.0)
            if reply.status_code == 200:
                try:
                    told = json.loads(reply.content)
                    lifetime = float(told["expires_in"])
                    return _Token(str(told["access_token"]), self.now + max(lifetime - _RENEW_BEFORE_S, lifetime / 2))
                except (ValueError, KeyError, TypeError):
                    raise LogError("unavailable", "gateway") from None
            # A refusal teaches the right time: once more with it, if it was ours that was wrong.
            if attempt == 2 or abs(self.clock_offset_s - before) <= _CLOCK_DIFFERS_S:
                break
        raise _refusal(reply)

    def _form(self) -> bytes:
        at = int(self.now)
        claims = {
            "iss": self._agency,
            "sub": self._agency,
            "aud": f"urn:umuhuza:{self._domain}:gateway",
            "jti": b64url(self._random(16)),
            "iat": at,
            "exp": at + _ASSERTION_S,
        }
        fields = {
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": sign_jws("JWT", claims, self._key).decode("ascii"),
        }
        return urlencode(fields).encode("ascii")


def _refusal(reply: Reply) -> UmuhuzaError:
    try:
        error = error_of(orjson.loads(reply.content))
    except orjson.JSONDecodeError:
        error = LogError("unavailable", "gateway")
    # A proxy that stands before the gateway says it in the header alone.
    error.retry_after_s = max(error.retry_after_s, _patience(reply.headers.get("retry-after", "")))
    return error


def _socket_options(timeout_s: float) -> list[tuple[int, int, int]]:
    """A small buffer, so that silence shows: what the link has not carried, we still hold. And what the system knows of
    silence (RFC 5482). Keep-alive probes would cost a shelter's link more than they tell."""
    options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)]
    silence: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
    if silence is not None:
        options.append((socket.IPPROTO_TCP, silence, round(timeout_s * 1000)))
    return options


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31, 9, zlib.Z_HUFFMAN_ONLY)
    return packer.compress(body) + packer.flush()
