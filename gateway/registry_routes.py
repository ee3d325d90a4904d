# SPDX-License-Identifier: Apache-2.0
"""The registry over HTTP, as it is: nothing is answered that holders or members have not signed.

    GET /v1/registry          all of it as one file, with its ETag: what an adapter asks for
    GET /v1/registry/...      the same as a static TUF repository (metadata/, targets/), for any TUF client
    GET /v1/registry/tn       another domain's, as far as an agreement names its agencies: one file
    GET /v1/registry/tn/of-us what that domain holds of our own registry; empty: its bridge has not told yet
    GET /v1/registry/tn/...   the same as a repository; under its number (tn/7) a version that records were logged under
    POST /v1/objections       a member's signed word that keys in its entry are not its own
    GET /v1/objections        every such word that stands now, one a line

For members only, since it names protected places. The first three answer from the registry held in memory, which was
verified: no path leads to a file.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import FastAPI, Path, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gateway.packing import packed
from gateway.pages import Caller, TheDoor
from schemas.errors import RecordError
from schemas.objections import MAX_OBJECTION_BYTES
from schemas.registry_bundle import TIMESTAMP
from topics.neighbours import OF_US

FOR_EVER = "private, max-age=31536000, immutable"
"""Of what lies under its version or its hash. The timestamp alone is asked for anew each time."""


class Taken(BaseModel):
    ok: bool


def add_registry_pages(app: FastAPI) -> None:
    """Add the four routes."""

    @app.get("/v1/registry", tags=["registry"], summary="The signed registry, one file")
    async def registry(request: Request, door: TheDoor, caller: Caller) -> Response:
        del caller
        _ = door.registry  # looks whether there is a newer one
        return registry_answer(request, door.registry_file.data, "no-cache")

    @app.get("/v1/registry/{path:path}", tags=["registry"], summary="One file of the registry as a TUF repository")
    async def file(
        request: Request, door: TheDoor, caller: Caller, path: Annotated[str, Path(max_length=200)]
    ) -> Response:
        del caller
        domain, _, rest = path.partition("/")
        if door.neighbours is not None and domain in door.registry.borders and rest == OF_US:
            return registry_answer(request, door.neighbours.of_us_file(domain), "no-cache")
        if door.neighbours is not None and domain in door.registry.borders:
            data = door.neighbours.file(domain, rest)
            path = path if rest else TIMESTAMP
        else:
            data = door.registry_file.trusted.files.get(path)
        if data is None:
            raise HTTPException(404)
        return registry_answer(request, data, "no-cache" if path == TIMESTAMP else FOR_EVER)

    @app.post("/v1/objections", tags=["registry"], summary="Say that keys in my entry are not mine")
    async def objects(request: Request, door: TheDoor, caller: Caller) -> Taken:
        line = b""
        async for chunk in request.stream():
            line += chunk
            if len(line) > MAX_OBJECTION_BYTES:
                raise RecordError("too_large", "objection", expected=MAX_OBJECTION_BYTES)
        door.objections.take(caller.agency, line)
        return Taken(ok=True)

    @app.get("/v1/objections", tags=["registry"], summary="What members say of keys in their entries")
    async def objections(door: TheDoor, caller: Caller) -> Response:
        del caller
        said = b"".join(line + b"\n" for line in door.objections.lines())
        return Response(said, media_type="application/x-ndjson", headers={"cache-control": "no-cache"})


def registry_answer(request: Request, data: bytes, keep: str = "no-cache") -> Response:
    """The bytes with their ETag, or 304."""
    fields = {"etag": f'"{hashlib.sha256(data).hexdigest()[:32]}"', "cache-control": keep}
    if request.headers.get("if-none-match") == fields["etag"]:
        return Response(status_code=304, headers=fields)
    return packed(request, data, "application/json", fields, keep=True)
