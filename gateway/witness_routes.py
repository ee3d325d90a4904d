# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/witness/add-checkpoint`: this domain's witness, for other domains' ledgers (c2sp.org/tlog-witness).

Nobody logs in: what counts is the signature on the checkpoint. Statuses are the standard's, so that any of its clients
can ask: 400, 403, 404, 409 (with the size, as `text/x.tlog.size`), 422, 200 with signature lines. Refusals are problem
objects as everywhere. A gateway without a witness knows no ledger: 404.

The work is done in a thread: a signature check and a write to the disk. A witness whose file cannot be opened answers
503 and stops nothing else. Must never: say more of a ledger than its size.
"""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response

from gateway.pages import TheDoor, problem_response
from schemas.errors import LogError, RecordError
from schemas.proof_texts import MAX_PROOF_BYTES
from topics.witness import SIZE_TYPE, Stale, status_of

PATH = "/v1/witness/add-checkpoint"
_LINES_TYPE = "text/plain; charset=utf-8"


def add_witness_routes(app: FastAPI) -> None:
    """Add the route; the witness itself is the door's."""

    @app.post(PATH, tags=["witness"], summary="Have a checkpoint of a ledger cosigned (c2sp.org/tlog-witness)")
    async def add_checkpoint(request: Request, door: TheDoor) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_PROOF_BYTES:
                raise RecordError("too_large", "body", expected=MAX_PROOF_BYTES)
        try:
            if door.witness is None:
                raise LogError("log_unknown", "checkpoint.origin")
            if isinstance(door.witness, LogError):
                raise door.witness
            answer = await asyncio.to_thread(door.witness.add_checkpoint, body, int(door.now()))
        except LogError as exc:
            door.metrics.witness_request(exc.code).inc()
            return problem_response(request, exc, status_of(exc))
        if isinstance(answer, Stale):
            door.metrics.witness_request("stale").inc()
            return Response(answer.body, 409, {"content-type": SIZE_TYPE})
        door.metrics.witness_request("cosigned").inc()
        return Response(answer.lines, media_type=_LINES_TYPE)
