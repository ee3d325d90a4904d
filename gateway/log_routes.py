# SPDX-License-Identifier: Apache-2.0
"""The domain's ledger over HTTP, as C2SP tlog-tiles has it, below /v1/log: checkpoint, tiles of hashes, entries.

    GET /v1/log/checkpoint                       the newest signed checkpoint
    GET /v1/log/tile/<L>/<N>[.p/<W>]             hashes; N in groups of three digits, x001/234
    GET /v1/log/tile/entries/<N>[.p/<W>]         entries, to auditors only

The checkpoint and the hashes are for everybody, witnesses above all: they show how many entries there are and nothing
else. Entries show who writes to whom, and when: only agencies that policy names auditors get them. What is served is
made by the ledger's own process (`topics.ledger`); a gateway that has none answers 404.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Request, Response
from fastapi import Path as InPath
from starlette.exceptions import HTTPException

from gateway.door import Door
from gateway.pages import TheDoor, session_of
from schemas.errors import LogError
from topics.catalogue import may_audit
from topics.ledger_served import ServedLedger
from topics.tiles import TILE_WIDTH, read_tile_path

_FOR_EVER = "max-age=31536000, immutable"


def add_log_routes(app: FastAPI) -> None:
    """Add the routes; `gateway.pages.add_pages` comes first, for what refusals look like."""

    @app.get("/v1/log/checkpoint", tags=["ledger"], summary="The newest signed checkpoint (C2SP tlog-checkpoint)")
    async def checkpoint(door: TheDoor) -> Response:
        return Response(
            _ledger(door).checkpoint(),
            headers={"cache-control": "no-cache"},
            media_type="text/plain; charset=utf-8",
        )

    @app.get(
        "/v1/log/tile/{tile:path}",
        tags=["ledger"],
        summary="A tile of hashes, or a bundle of entries (C2SP tlog-tiles)",
        description="`<L>/<N>` or `entries/<N>`, with `.p/<W>` behind when partial. Entries need a token of an agency "
        "that policy names an auditor; hashes need none.",
    )
    async def tile(request: Request, door: TheDoor, tile: Annotated[str, InPath(max_length=100)]) -> Response:
        try:
            wanted = read_tile_path(tile)
        except LogError:
            raise HTTPException(404) from None
        visibility = "public"
        if wanted.level is None:
            session = await session_of(request)
            may_audit(door.registry.agency(session.agency)).require()
            visibility = "private"
        data = _ledger(door).tile(wanted)
        if data is None:
            raise HTTPException(404)
        kept = _FOR_EVER if wanted.width == TILE_WIDTH else "max-age=3600"
        return Response(data, headers={"cache-control": f"{visibility}, {kept}"}, media_type="application/octet-stream")


def _ledger(door: Door) -> ServedLedger:
    if door.ledger is None:
        raise HTTPException(404)
    return door.ledger
