# SPDX-License-Identifier: Apache-2.0
"""The ordinary routes, as ordinary FastAPI: token, sent, ends, grants, health, metrics.

Each answers for the calling agency only: what is another's cannot even be named.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import orjson
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gateway.access import MAX_FORM_BYTES, Session
from gateway.door import Door
from gateway.metrics import CONTENT_TYPE
from gateway.packing import packed
from gateway.problems import PROBLEM_JSON, WAITS, language_of, problem, retry_after, status_of
from gateway.routes import own_topics
from schemas.errors import AccessError, LogError, RecordError, UmuhuzaError
from schemas.keys import unb64url
from topics.log import grants_topic

_SENT_LIMIT = 500
_KEYS_LIMIT = 500


class TokenAnswer(BaseModel):
    """RFC 6749 section 5.1."""

    access_token: str
    token_type: str = "Bearer"
    expires_in: int


class Head(BaseModel):
    seq: int
    hash: str
    offset: int


class EndsOf(BaseModel):
    first: int
    next: int


class EndsAnswer(BaseModel):
    """Flow -> first kept and next offset of my mailbox."""

    log: str
    ends: dict[str, EndsOf]


class GrantsAnswer(BaseModel):
    """Key -> grant."""

    grants: dict[str, dict[str, str | int]]


class Health(BaseModel):
    ok: bool


def problem_response(request: Request, error: UmuhuzaError, status: int | None = None) -> Response:
    body = problem(error, language_of(request.headers.get("accept-language", "")))
    body["status"] = status or status_of(error)
    headers = {"www-authenticate": 'Bearer realm="umuhuza"'} if body["status"] == 401 else {}
    if body["status"] in WAITS:
        headers["retry-after"] = str(body.setdefault("retry_after", retry_after(error)))
    return JSONResponse(body, body["status"], headers, media_type=PROBLEM_JSON)


async def door_of(request: Request) -> Door:
    """Raises LogError `unavailable` before the gateway has started."""
    door = request.app.state.door
    if not isinstance(door, Door):
        raise LogError("unavailable")
    return door


async def session_of(request: Request) -> Session:
    """Raises AccessError."""
    authorization = request.headers.get("authorization")
    session = (await door_of(request)).session(None if authorization is None else authorization.encode("latin-1"))
    request.scope["umuhuza.agency"] = session.agency
    return session


TheDoor = Annotated[Door, Depends(door_of)]
Caller = Annotated[Session, Depends(session_of)]


def add_pages(app: FastAPI) -> None:
    """Add the ordinary routes and the handlers that make every refusal a problem object."""

    @app.exception_handler(UmuhuzaError)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, UmuhuzaError)
        return problem_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # Only names of ours from the location; the error's other members hold what was sent.
        known = {"query", "header", "body", "topic", "after", "limit", "flows", "key", "l1"}
        where = [str(part) for part in error.errors()[0]["loc"] if part in known]
        return problem_response(request, AccessError("request_invalid", ".".join(where) or "*"))

    @app.exception_handler(HTTPException)
    async def not_here(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(request, AccessError("request_invalid", "path"), error.status_code)

    @app.post("/v1/token", tags=["access"], summary="Exchange a signed assertion for an access token (RFC 7523)")
    async def token(request: Request, door: TheDoor) -> TokenAnswer:
        form = b""
        async for chunk in request.stream():
            form += chunk
            if len(form) > MAX_FORM_BYTES:
                raise RecordError("too_large", "form", expected=MAX_FORM_BYTES)
        issued = door.access.issue(form, door.registry, door.now())
        return TokenAnswer(access_token=issued.text, expires_in=issued.expires_in)

    @app.get(
        "/v1/sent",
        tags=["records"],
        summary="My heads per topic; with `topic`, my own manifests back, and what the ledger said of them",
    )
    async def sent(
        request: Request,
        door: TheDoor,
        caller: Caller,
        topic: Annotated[str | None, Query(max_length=80)] = None,
        after: Annotated[int, Query(ge=0, le=2**53 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=_SENT_LIMIT)] = _SENT_LIMIT,
    ) -> Response:
        topics = sorted(name for name in door.checks.rules.topics if ".grants." not in name)
        if topic is None:
            await door.follower.catch_up()
            door.intake.erase_soon()
            heads = door.index.heads_of(caller.agency, topics)
            told = {name: {"seq": h.seq, "hash": h.hash, "offset": h.offset} for name, h in heads.items()}
            return Response(orjson.dumps({"heads": told}), media_type="application/json")
        if topic not in topics:
            raise LogError("topic_unknown", "query.topic")
        await door.follower.catch_up([topic])
        door.intake.erase_soon()
        first = (await door.log.ends(topic)).first
        lines: list[bytes] = []
        while not lines and (links := door.index.links(caller.agency, topic, after, limit)):
            after = links[-1].seq
            for link in links:
                if link.offset < first:
                    continue  # past its retention
                stored = await door.log.read(topic, link.offset - 1, 1)
                if stored and stored[0].offset == link.offset:
                    manifest = stored[0].value.partition(b"\n")[0].decode("ascii", "replace")
                    told_line = {"seq": link.seq, "offset": link.offset, "at": stored[0].at_ms, "manifest": manifest}
                    if door.ledger is not None:
                        told_line["ledger"] = door.ledger.said_of(unb64url(link.hash), topic)
                    lines.append(orjson.dumps(told_line, option=orjson.OPT_APPEND_NEWLINE))
        return packed(request, b"".join(lines), "application/x-ndjson")

    @app.get("/v1/ends", tags=["records"], summary="First kept and next offset of my mailboxes")
    async def ends(
        door: TheDoor, caller: Caller, flows: Annotated[str | None, Query(max_length=200)] = None
    ) -> EndsAnswer:
        told = {}
        for topic, flow in own_topics(door, caller.agency, flows).items():
            found = await door.log.ends(topic)
            told[flow] = EndsOf(first=found.first, next=found.next)
        return EndsAnswer(log=door.log.log_id, ends=told)

    @app.get("/v1/grants", tags=["records"], summary="Keys granted to me, by key in my grants topic")
    async def grants(
        door: TheDoor,
        caller: Caller,
        key: Annotated[list[str], Query(min_length=1, max_length=_KEYS_LIMIT)],
    ) -> GrantsAnswer:
        wanted = [one for one in key if not door.index.is_erased(one.partition("|")[0])]
        found = await door.log.get_grants(grants_topic(caller.agency), wanted)
        kept = {
            one: orjson.loads(data) for one, data in found.items() if not door.index.is_erased(one.partition("|")[0])
        }
        return GrantsAnswer(grants=kept)

    @app.get("/healthz", tags=["operation"], summary="The process answers")
    async def healthz() -> Health:
        return Health(ok=True)

    @app.get("/readyz", tags=["operation"], summary="The log answers, records are taken")
    async def readyz(door: TheDoor) -> Health:
        if door.closing.is_set():
            raise LogError("log_closed")
        try:
            async with asyncio.timeout(5):
                await door.ready()
        except TimeoutError:
            raise LogError("unavailable") from None
        return Health(ok=True)

    @app.get("/metrics", tags=["operation"], summary="Prometheus metrics")
    async def metrics(door: TheDoor) -> Response:
        return Response(door.metrics.text(), headers={"content-type": CONTENT_TYPE})
