# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/receipts`: what the ledger says of one's records, with proof (c2sp.org/tlog-proof).

Asked for by the hash of a record's `header.payload`: whoever knows it has the record, and a receipt holds hashes and
positions only. With `of=erased` it is the receipt of the entry that calls done what the record commands to erase. A
gateway without a ledger answers 404.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import orjson
from fastapi import FastAPI, Query, Request, Response
from starlette.exceptions import HTTPException

from gateway.packing import packed
from gateway.pages import Caller, TheDoor
from schemas.errors import AccessError
from schemas.keys import unb64url
from schemas.notes import HASH_BYTES
from topics.receipt_maker import ReceiptOf

MAX_HASHES = 50
"""A receipt with post-quantum cosignatures is about 12 kB."""


def add_receipt_routes(app: FastAPI) -> None:
    """Add the route; `gateway.pages.add_pages` comes first."""

    @app.get("/v1/receipts", tags=["ledger"], summary="Receipts of records, by the hash of their `header.payload`")
    async def receipts(
        request: Request,
        door: TheDoor,
        caller: Caller,
        l1: Annotated[list[str], Query(min_length=1, max_length=MAX_HASHES)],
        of: Annotated[ReceiptOf, Query()] = "record",
    ) -> Response:
        """NDJSON, in order: `l1`, and `receipt`, null while no signed tree holds it."""
        del caller  # any member of the domain
        if door.receipts is None:
            raise HTTPException(404)
        found = await door.receipts.receipts([hash_of(text) for text in l1], of)
        return receipts_answer(request, l1, found)


def receipts_answer(request: Request, l1: Sequence[str], found: Sequence[bytes | None]) -> Response:
    """In the order of what was asked."""
    lines = []
    for text, receipt in zip(l1, found, strict=True):
        told = {"l1": text, "receipt": None if receipt is None else receipt.decode("utf-8")}
        lines.append(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
    return packed(request, b"".join(lines), "application/x-ndjson")


def hash_of(text: str) -> bytes:
    """Raises AccessError `request_invalid`."""
    try:
        data = unb64url(text)
    except ValueError:
        data = b""
    if len(data) != HASH_BYTES:
        raise AccessError("request_invalid", "query.l1")
    return data
