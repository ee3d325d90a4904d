# SPDX-License-Identifier: Apache-2.0
"""What the bridge of another domain asks of this one.

    PUT  /v1/bridge/registry    the newest excerpt of its domain's registry
    PUT  /v1/bridge/checkpoint  the newest checkpoint of its ledger, when it has nothing else to bring
    GET  /v1/bridge/registry    what is held of it here, for its own agencies to look at their entries
    PUT  /v1/bridge/objections  what its agencies say of keys in their entries (`schemas.objections`), one a line
    GET  /v1/bridge/receipts    what this domain's ledger says of records that were promised here, as /v1/receipts
    POST /v1/bridge/records     NDJSON of {"record","grants","home"} (`schemas.home_proof`); answers as /v1/records

The caller is an operator of that domain, by its own registry's key; nothing else here answers it, and nobody else is
answered here. Who calls only brings: what a record is worth is decided by its issuer's signature, by its home ledger
and by what both registries say, and a bridge that was taken over can hold back or repeat, no more.

If we crash: a record without its answer is brought again, and is then a copy.
"""

from __future__ import annotations

import contextlib
from typing import Annotated

from fastapi import Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from gateway.access import Session
from gateway.door import Door
from gateway.pages import TheDoor, door_of
from gateway.problems import language_of
from gateway.receipt_routes import MAX_HASHES, hash_of, receipts_answer
from gateway.registry_routes import Taken, registry_answer
from gateway.routes import NDJSON, ClientGoneError, answer_lines, count_outcomes, read_body
from schemas.errors import AccessError, LogError, RecordError, UmuhuzaError
from schemas.home_proof import read_carried_line
from schemas.registry_bundle import MAX_REGISTRY_BYTES
from topics.home_check import HomeTrust, believed
from topics.neighbours import Neighbours

MAX_OBJECTIONS = 256
"""Of one domain: one of each agency that an agreement names."""


class TakenRegistry(BaseModel):
    """What is held now."""

    version: int


class SeenCheckpoint(BaseModel):
    """What is believed now."""

    size: int
    """Of the tree."""


async def bridge_of(request: Request) -> Session:
    """Raises AccessError."""
    authorization = request.headers.get("authorization")
    door = await door_of(request)
    session = door.session(None if authorization is None else authorization.encode("latin-1"), bridge=True)
    request.scope["umuhuza.agency"] = session.agency
    return session


Bridge = Annotated[Session, Depends(bridge_of)]


def _neighbours(neighbours: Neighbours | None) -> Neighbours:
    if neighbours is None:
        raise LogError("unavailable", "neighbours")
    return neighbours


async def _body(request: Request, door: Door) -> bytes:
    try:
        return await read_body(door, request.scope, request.receive)
    except ClientGoneError:
        raise ClientDisconnect from None


def _met(door: Door, neighbours: Neighbours, trust: HomeTrust, checkpoint: bytes) -> int:
    """A contact with this checkpoint; the size of its tree. Raises LogError: it is not believed, or cannot be kept."""
    domain = trust.domain
    try:
        endorsed = believed(checkpoint, trust)
    except LogError as exc:
        door.metrics.contact(domain, exc.code).inc()
        raise
    cosigned_at = max(endorsed.by.values(), default=0)
    size = endorsed.signed.checkpoint.size
    neighbours.met(domain, int(door.now()), size, cosigned_at)
    door.metrics.contact(domain, "believed").inc()
    door.metrics.met(domain, lambda: door.now() - cosigned_at)
    return size


def add_bridge_routes(app: FastAPI) -> None:
    """Add the routes."""

    @app.put("/v1/bridge/registry", tags=["bridge"], summary="Bring the newest registry of one's own domain")
    async def registry(request: Request, door: TheDoor, bridge: Bridge) -> TakenRegistry:
        data = await _body(request, door)
        if len(data) > MAX_REGISTRY_BYTES:
            raise RecordError("too_large", "registry", expected=MAX_REGISTRY_BYTES)
        domain = bridge.agency.partition("/")[0]
        taken = _neighbours(door.neighbours).take_registry(domain, data)
        return TakenRegistry(version=taken.registry.version)

    @app.put(
        "/v1/bridge/checkpoint", tags=["bridge"], summary="Show the newest checkpoint of one's own domain's ledger"
    )
    async def checkpoint(request: Request, door: TheDoor, bridge: Bridge) -> SeenCheckpoint:
        """Whoever has nothing to bring is heard, and how far its ledger and witnesses are is known."""
        neighbours = _neighbours(door.neighbours)
        data = await _body(request, door)
        trust = neighbours.trust(bridge.agency.partition("/")[0])
        return SeenCheckpoint(size=_met(door, neighbours, trust, data))

    @app.get("/v1/bridge/registry", tags=["bridge"], summary="What is held here of one's own domain's registry")
    async def held(request: Request, door: TheDoor, bridge: Bridge) -> Response:
        return registry_answer(request, _neighbours(door.neighbours).theirs(bridge.agency.partition("/")[0]).data)

    @app.get("/v1/bridge/receipts", tags=["bridge"], summary="Receipts of records that one's own domain has brought")
    async def receipts(
        request: Request,
        door: TheDoor,
        bridge: Bridge,
        l1: Annotated[list[str], Query(min_length=1, max_length=MAX_HASHES)],
    ) -> Response:
        """NDJSON, in order: `l1`, and `receipt`, null while no signed tree holds it, and where there is no ledger."""
        del bridge  # a receipt holds hashes and positions, and is asked for by a hash that only the record gives
        hashes = [hash_of(text) for text in l1]
        found = [None] * len(hashes) if door.receipts is None else await door.receipts.receipts(hashes, "record")
        return receipts_answer(request, l1, found)

    @app.put("/v1/bridge/objections", tags=["bridge"], summary="Bring what agencies say of keys in their entries")
    async def objections(request: Request, door: TheDoor, bridge: Bridge) -> Taken:
        lines = [line for line in (await _body(request, door)).split(b"\n") if line.strip()]
        if len(lines) > MAX_OBJECTIONS:
            raise RecordError("too_large", "objections", expected=MAX_OBJECTIONS)
        door.objections.carried(bridge.agency.partition("/")[0], lines)
        return Taken(ok=True)

    @app.post("/v1/bridge/records", tags=["bridge"], summary="Bring records that one's own domain has logged")
    async def records(request: Request, door: TheDoor, bridge: Bridge) -> Response:
        neighbours = _neighbours(door.neighbours)
        body = await _body(request, door)
        lines = [line for line in body.split(b"\n") if line.strip()]
        if not lines:
            raise AccessError("request_invalid", "body")
        if len(lines) > door.settings.lines_max:
            raise RecordError("too_large", "lines", expected=door.settings.lines_max)
        domain = bridge.agency.partition("/")[0]
        trust, newest = neighbours.trust(domain), neighbours.theirs(domain).registry
        answer = await door.intake.carry(bridge.agency, lines, trust, newest)
        count_outcomes(door, answer)
        try:
            shown = read_carried_line(lines[0]).home.checkpoint
        except UmuhuzaError as exc:
            door.metrics.contact(domain, exc.code).inc()
        else:
            with contextlib.suppress(LogError):  # not believed: its lines were refused, and say why
                _met(door, neighbours, trust, shown)
        chunks = answer_lines(answer, language_of(request.headers.get("accept-language", "")))
        return Response(b"".join(chunks), media_type=NDJSON.decode("ascii"))
