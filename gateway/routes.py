# SPDX-License-Identifier: Apache-2.0
"""The two hot routes as bare ASGI: POST /v1/records and GET /v1/mailbox. Their OpenAPI twin stands in `openapi.py`.

FastAPI's routing costs as much as half a signature, which is why these two go without. Invariants:

- A body is bounded before it is read, while it is read and while it is decompressed. Time limits, of reading and of
  writing, are on silence and on dripping, never on size: what is large arrives over a slow link too.
- Everything answered is JSON of ours; no byte of a request comes back but identifiers that were verified.
- A waiting read ends when its client goes away or the gateway stops.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson

from gateway.door import Door
from gateway.examine import Refused
from gateway.outcomes import Accepted, Answer, Granted
from gateway.problems import PROBLEM_JSON, WAITS, language_of, problem, retry_after, status_of
from schemas.envelope import mailbox_topic, parse_manifest, split_topic
from schemas.errors import AccessError, Language, LogError, PolicyError, RecordError, UmuhuzaError
from topics.catalogue import mailboxes_of
from topics.log import Stored

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

IS_WHOLE = "umuhuza.is_whole"
"""In the `state` of a scope: true once the server has all of the request's body; else it is not there."""
NDJSON = b"application/x-ndjson"
JSON = b"application/json"
_CHUNK_BYTES = 256 * 1024
_PIECE_BYTES = 32 * 1024
"""What a client has to take in `send_seconds`, whatever the size of a record."""
SLOWEST_BYTES_S = 512
"""A body that comes more slowly than this is not waited for longer than `body_seconds`."""
_GZIP_ABOVE = 1024
_READ_BYTES = 4 << 20
_READ_BYTES_MAX = 16 << 20
_READ_LIMIT = 1000


class ClientGoneError(Exception):
    """The client went away before its request was complete, and nothing was done; or before it had its answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def language(scope: Scope) -> Language:
    return language_of((header(scope, b"accept-language") or b"").decode("latin-1"))


async def read_body(door: Door, scope: Scope, receive: Receive) -> bytes:
    """The request's body, decompressed.

    Raises:
        RecordError: too_large.
        AccessError: request_invalid (unknown encoding, damaged gzip, too slow).
        ClientGoneError: the client went away.
    """
    limit = door.settings.body_max_bytes
    length = header(scope, b"content-length")
    if length is not None and (not length.isdigit() or int(length) > limit):
        raise RecordError("too_large", "body", expected=limit)
    encoding = (header(scope, b"content-encoding") or b"identity").strip().lower()
    if encoding not in (b"identity", b"gzip"):
        raise AccessError("request_invalid", "Content-Encoding", expected="gzip")
    if scope.get("state", {}).get(IS_WHOLE):
        body = _piece(await receive(), limit, 0)  # nothing is waited for, and a timer costs more than reading it
    else:
        body = await _slow_body(door, receive, limit)
    if encoding == b"gzip":
        body = (await door.run.map(_gunzip, [(body, limit)]))[0]
    return body


async def _slow_body(door: Door, receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(door.settings.body_seconds) as patience:
            clock = asyncio.get_running_loop().time
            began = clock()
            while True:
                message = await receive()
                chunks.append(_piece(message, limit, size))
                size += len(chunks[-1])
                if not message.get("more_body", False):
                    break
                # A large record over a slow link takes minutes; who stands still or drips is not waited for.
                slowest = began + door.settings.body_seconds + size / SLOWEST_BYTES_S
                patience.reschedule(min(clock() + door.settings.body_seconds, slowest))
    except TimeoutError:
        raise AccessError("request_invalid", "body") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _piece(message: Message, limit: int, before: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    chunk = bytes(message.get("body", b""))
    if before + len(chunk) > limit:
        raise RecordError("too_large", "body", expected=limit)
    return chunk


def _gunzip(task: tuple[bytes, int]) -> bytes:
    data, limit = task
    unpacker = zlib.decompressobj(wbits=31)
    try:
        body = unpacker.decompress(data, limit + 1)
    except zlib.error:
        raise AccessError("request_invalid", "Content-Encoding") from None
    if len(body) > limit:
        raise RecordError("too_large", "body", expected=limit)
    if not unpacker.eof or unpacker.unused_data:
        raise AccessError("request_invalid", "Content-Encoding")
    return body


def _gzip(chunks: Sequence[bytes]) -> list[bytes]:
    # Sealed text has nothing to match, only base64's six bits in eight to win back: Huffman alone is five times faster.
    packer = zlib.compressobj(1, zlib.DEFLATED, 31, 9, zlib.Z_HUFFMAN_ONLY)
    packed = [packer.compress(chunk) for chunk in chunks]
    packed.append(packer.flush())
    return [chunk for chunk in packed if chunk]


class Reply:
    """Sends one answer with the headers that all have."""

    def __init__(self, door: Door, scope: Scope, send: Send) -> None:
        self._door = door
        self._scope = scope
        self._send = send

    def headers(self, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        return [
            (b"date", self._door.date()),
            (b"umuhuza-log", self._door.log.log_id.encode("ascii")),
            (b"cache-control", b"no-store"),
            *more,
        ]

    async def send(self, status: int, kind: bytes, chunks: Sequence[bytes], *more: tuple[bytes, bytes]) -> None:
        accepted = header(self._scope, b"accept-encoding") or b""
        if b"gzip" in accepted and sum(map(len, chunks)) > _GZIP_ABOVE:
            chunks = (await self._door.run.map(_gzip, [chunks]))[0]
            more = (*more, (b"content-encoding", b"gzip"))
        if len(chunks) <= 1:
            more = (*more, (b"content-length", str(sum(map(len, chunks))).encode("ascii")))
        fields = self.headers((b"content-type", kind), (b"vary", b"accept-encoding, accept-language"), *more)
        await self._send({"type": "http.response.start", "status": status, "headers": fields})
        chunks = [
            chunk[start : start + _PIECE_BYTES] for chunk in chunks for start in range(0, len(chunk), _PIECE_BYTES)
        ]
        for chunk in chunks[:-1]:
            # Here the server waits while the client takes nothing; not for ever.
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": chunks[-1] if chunks else b"", "more_body": False})

    async def refuse(self, error: UmuhuzaError) -> int:
        status = status_of(error)
        more: list[tuple[bytes, bytes]] = []
        if status == 401:
            more.append((b"www-authenticate", b'Bearer realm="umuhuza"'))
        if status in WAITS:
            more.append((b"retry-after", str(retry_after(error)).encode("ascii")))
        body = orjson.dumps(problem(error, language(self._scope)))
        await self.send(status, PROBLEM_JSON.encode("ascii"), [body], *more)
        return status


# ---------------------------------------------------------------------------------------------------------------------
# POST /v1/records


async def records(door: Door, scope: Scope, receive: Receive, send: Send) -> tuple[int, dict[str, Any]]:
    """Publish; returns the status and what the log line may say. Raises UmuhuzaError."""
    session = door.session(header(scope, b"authorization"))
    scope["umuhuza.agency"] = session.agency
    facts: dict[str, Any] = {"agency": session.agency}
    kind = (header(scope, b"content-type") or NDJSON).partition(b";")[0].strip().lower()
    if kind not in (NDJSON, JSON):
        raise AccessError("request_invalid", "Content-Type", expected=NDJSON.decode("ascii"))
    body = await read_body(door, scope, receive)
    lines = [body] if kind == JSON else [line for line in body.split(b"\n") if line.strip()]
    if not lines:
        raise AccessError("request_invalid", "body")
    if len(lines) > door.settings.lines_max:
        raise RecordError("too_large", "lines", expected=door.settings.lines_max)
    del body
    answer = await door.intake.publish(session.agency, lines)
    accepted = count_outcomes(door, answer)
    facts |= {"lines": len(lines), "accepted": accepted}
    reply = Reply(door, scope, send)
    if kind == JSON:
        return await _single(reply, answer, scope), facts
    await reply.send(200, NDJSON, answer_lines(answer, language(scope)))
    return 200, facts


def count_outcomes(door: Door, answer: Answer) -> int:
    accepted = 0
    for outcome in answer.outcomes:
        if isinstance(outcome, Accepted):
            accepted += 1
            code = "copy" if outcome.copy else "accepted"
        elif isinstance(outcome, Granted):
            accepted += 1
            code = "granted"
        else:
            code = outcome.error.code
        if not isinstance(outcome, Refused) and outcome.clock_suspect:
            door.metrics.clock_suspects.inc()
        door.metrics.record(outcome.flow, outcome.kind, code).inc()
    return accepted


def _line(number: int, outcome: Accepted, index: int, path: Sequence[str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "line": number,
        "evt": outcome.evt,
        "topic": outcome.topic,
        "offset": outcome.offset,
        "at": outcome.at_ms,
        "l1_sha256": outcome.hash,
    }
    if outcome.copy:
        told["copy"] = True
    if outcome.finding is not None:
        told["finding"] = outcome.finding
    if outcome.clock_suspect:
        told["clock_suspect"] = True
    told["index"] = index
    told["path"] = path
    return told


def _granted_line(number: int, outcome: Granted) -> dict[str, Any]:
    told: dict[str, Any] = {
        "line": number,
        "evt": outcome.evt,
        "topic": outcome.topic,
        "l1_sha256": outcome.hash,
        "granted": True,
    }
    if outcome.finding is not None:
        told["finding"] = outcome.finding
    if outcome.clock_suspect:
        told["clock_suspect"] = True
    return told


async def _single(reply: Reply, answer: Answer, scope: Scope) -> int:
    outcome = answer.outcomes[0]
    if isinstance(outcome, Accepted) and answer.promised is not None:
        told = _line(0, outcome, answer.promised.first, answer.promised.paths[0]) | {"promise": answer.promised.jws}
        await reply.send(200, JSON, [orjson.dumps(told)])
        return 200
    if isinstance(outcome, Granted):
        await reply.send(200, JSON, [orjson.dumps(_granted_line(0, outcome))])
        return 200
    assert not isinstance(outcome, Accepted)
    return await reply.refuse(outcome.error)


def answer_lines(answer: Answer, tongue: Language) -> list[bytes]:
    lines: list[dict[str, Any]] = []
    index = 0
    for number, outcome in enumerate(answer.outcomes):
        if isinstance(outcome, Accepted):
            assert answer.promised is not None
            place = answer.promised.first + index
            lines.append(_line(number, outcome, place, answer.promised.paths[index]))
            index += 1
        elif isinstance(outcome, Granted):
            lines.append(_granted_line(number, outcome))
        else:
            told: dict[str, Any] = {"line": number, "problem": problem(outcome.error, tongue)}
            if answer.refusals and (signed := answer.refusals[number]) is not None:
                told["refusal"] = signed
            lines.append(told)
    lines.append({"promise": None if answer.promised is None else answer.promised.jws})
    return _chunks([orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines])


def _chunks(lines: Sequence[bytes]) -> list[bytes]:
    """Few writes, none of them large."""
    chunks: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            chunks.append(b"".join(held))
            held, size = [], 0
    if held:
        chunks.append(b"".join(held))
    return chunks


# ---------------------------------------------------------------------------------------------------------------------
# GET /v1/mailbox


async def mailbox(door: Door, scope: Scope, receive: Receive, send: Send) -> tuple[int, dict[str, Any]]:
    """Read one's own mailboxes. Raises UmuhuzaError."""
    session = door.session(header(scope, b"authorization"))
    scope["umuhuza.agency"] = session.agency
    query = query_of(scope, {"flows", "after", "limit", "wait", "bytes"})
    topics = own_topics(door, session.agency, query.get("flows"))
    after = dict.fromkeys(topics, -1) | _after(query.get("after", ""), session.agency, topics)
    limit = _number(query, "limit", 500, 1, _READ_LIMIT)
    size = _number(query, "bytes", _READ_BYTES, 1, _READ_BYTES_MAX)
    wait_s = min(_seconds(query, "wait"), door.settings.wait_max_seconds)
    stored = await door.log.poll(after, limit, size)
    if not stored and wait_s > 0:
        stored = await _waited(door, session.agency, after, limit, size, wait_s, receive)
    lines = await mailbox_lines(door, session.agency, stored)
    await Reply(door, scope, send).send(200, NDJSON, _chunks(lines))
    return 200, {"agency": session.agency, "lines": len(stored)}


def query_of(scope: Scope, known: set[str]) -> dict[str, str]:
    """Raises AccessError `request_invalid` for an unknown or repeated parameter."""
    try:
        pairs = parse_qsl(
            scope["query_string"].decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=16
        )
    except ValueError:
        if scope["query_string"]:
            raise AccessError("request_invalid", "query") from None
        return {}
    query = dict(pairs)
    if len(query) != len(pairs) or not query.keys() <= known:
        raise AccessError("request_invalid", "query.*")
    return query


def own_topics(door: Door, agency: str, flows: str | None) -> dict[str, str]:
    """Topic -> flow, of the agency's own mailboxes: others' cannot even be named.

    Raises:
        LogError: topic_unknown, it has no mailbox in that flow.
    """
    own = {topic: split_topic(topic)[0] for topic in mailboxes_of(door.registry.agency(agency))}
    if flows is None:
        return own
    asked: dict[str, str] = {}
    for flow in flows.split(","):
        topic = mailbox_topic(flow, agency)
        if topic not in own:
            raise LogError("topic_unknown", "query.flows")
        asked[topic] = flow
    return asked


def _after(text: str, agency: str, topics: dict[str, str]) -> dict[str, int]:
    after: dict[str, int] = {}
    for item in text.split(",") if text else ():
        flow, colon, number = item.partition(":")
        topic = mailbox_topic(flow, agency)
        digits = number.removeprefix("-")
        if not colon or topic not in topics or not (digits.isascii() and digits.isdigit()) or len(digits) > 15:
            raise AccessError("request_invalid", "query.after")
        after[topic] = max(int(number), -1)
    return after


def _number(query: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not least <= int(text):
        raise AccessError("request_invalid", f"query.{name}", expected=most)
    return min(int(text), most)


def _seconds(query: dict[str, str], name: str) -> float:
    text = query.get(name, "0")
    digits = text.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()) or len(text) > 9:
        raise AccessError("request_invalid", f"query.{name}")
    return float(text)


async def _waited(
    door: Door, agency: str, after: dict[str, int], limit: int, size: int, wait_s: float, receive: Receive
) -> list[Stored]:
    if door.waiting[agency] >= door.limits.waiting_reads:
        raise PolicyError("quota_exceeded", "quota.waiting_reads", expected=door.limits.waiting_reads)
    door.waiting[agency] += 1
    door.metrics.waiting_reads.inc()
    reading = asyncio.create_task(door.log.poll(after, limit, size, wait_s))
    ends = [asyncio.create_task(_gone(receive)), asyncio.create_task(door.closing.wait())]
    try:
        await asyncio.wait([reading, *ends], return_when=asyncio.FIRST_COMPLETED)
        return await reading if reading.done() else []
    finally:
        for task in (reading, *ends):
            task.cancel()
        await asyncio.wait([reading, *ends])
        door.metrics.waiting_reads.dec()
        door.waiting[agency] -= 1
        if not door.waiting[agency]:
            del door.waiting[agency]


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def mailbox_lines(door: Door, agency: str, stored: Sequence[Stored]) -> list[bytes]:
    """One line of NDJSON each, with the grants that this agency may have."""
    idents = {(one.topic, one.offset): [one.ident, *_granted_by(one)] for one in stored}
    wanted = list({ident for several in idents.values() for ident in several})
    grants = await door.follower.grants_for(agency, wanted) if wanted else {}
    return [
        orjson.dumps(
            {
                "topic": one.topic,
                "offset": one.offset,
                "at": one.at_ms,
                "key": one.key.decode("ascii", "replace"),
                "ident": one.ident,
                "headers": {name: value.decode("latin-1") for name, value in one.headers},
                "record": one.value.decode("ascii", "replace"),
                "grants": [
                    orjson.Fragment(data) for ident in idents[one.topic, one.offset] for data in grants.get(ident, ())
                ],
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for one in stored
    ]


def _granted_by(one: Stored) -> tuple[str, ...]:
    """Other records to which this one grants keys; only a control record can."""
    if not dict(one.headers).get("ce_type", b".control").endswith(b".control"):
        return ()
    try:
        manifest = parse_manifest(one.value.partition(b"\n")[0])[3]
    except RecordError:
        return ()
    return manifest.acts.grant if manifest.acts is not None else ()
