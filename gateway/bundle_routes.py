# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/bundles`: a sealed bundle from a stick; answers with the sealed bundle that goes back (`gateway.bundles`).

Any member may bring another's: it sees nothing of either. If we crash: brought again, it is answered as before.
"""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from gateway.bundles import exchange
from gateway.pages import Caller, TheDoor
from gateway.routes import ClientGoneError, read_body

BUNDLE = "application/octet-stream"


def add_bundle_routes(app: FastAPI) -> None:
    """Add the route; `gateway.pages.add_pages` comes first."""

    @app.post("/v1/bundles", tags=["bundles"], summary="Bring a bundle of an agency's; answers with what goes back")
    async def bundles(request: Request, door: TheDoor, caller: Caller) -> Response:
        """The body is the file as it is."""
        del caller  # whoever carries it
        try:
            data = await read_body(door, request.scope, request.receive)
        except ClientGoneError:
            raise ClientDisconnect from None
        return Response(await exchange(door, data), media_type=BUNDLE)
