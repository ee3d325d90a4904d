# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/crossed`: what became abroad of records that a bridge of this domain has carried; `/v1/crossed/receipts`:
what the ledger there says of them.

Asked for by the hash of a record's `header.payload`, as receipts are: whoever knows it has the record. The promise is
the other domain's, as its gateway signed it, and so is a refusal; who gets one checks it against that domain's
registry. A refusal without a signature is what the bridge says. Nothing there: it waits, or went nowhere. A gateway
without neighbours answers 404.

A receipt is that of the other domain's ledger, as its gateway gave it to the bridge; who gets one checks it likewise.

Reads the bridge's files and never changes them. If we crash: it is asked again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import orjson
from fastapi import FastAPI, Query, Request, Response
from starlette.exceptions import HTTPException

from gateway.door import Door
from gateway.pages import Caller, TheDoor
from gateway.receipt_routes import MAX_HASHES, hash_of, receipts_answer
from schemas.keys import b64url
from topics.bridge_book import BOOK, BridgeBook

_T = TypeVar("_T")


def add_crossed_routes(app: FastAPI) -> None:
    """Add the routes; `gateway.pages.add_pages` comes first."""

    @app.get("/v1/crossed", tags=["ledger"], summary="What became abroad of records, by the hash of `header.payload`")
    async def crossed(
        door: TheDoor,
        caller: Caller,
        l1: Annotated[list[str], Query(min_length=1, max_length=MAX_HASHES)],
    ) -> Response:
        """NDJSON, in order: `l1`; `domain`, null while nothing is known; the other domain's `promise` as evidence, or
        the `code` and `path` of its refusal, with the `refusal` as it signed it (JWS, typ umuhuza-refusal+jws), null
        where only the bridge says so."""
        del caller  # any member of the domain
        found = await _asked(door, l1, BridgeBook.settled)
        lines = []
        for text, (domain, one) in zip(l1, found, strict=True):
            told = {
                "l1": text,
                "domain": domain,
                "promise": None if one is None or one.promise is None else orjson.Fragment(one.promise),
                "code": None if one is None else one.code,
                "path": None if one is None else one.path,
                "refusal": None if one is None else one.refusal,
            }
            lines.append(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
        return Response(b"".join(lines), media_type="application/x-ndjson")

    @app.get("/v1/crossed/receipts", tags=["ledger"], summary="Receipts of another domain's ledger")
    async def receipts(
        request: Request,
        door: TheDoor,
        caller: Caller,
        l1: Annotated[list[str], Query(min_length=1, max_length=MAX_HASHES)],
    ) -> Response:
        """NDJSON, in order: `l1`, and `receipt`, null while the bridge has none."""
        del caller
        found = await _asked(door, l1, BridgeBook.receipt)
        return receipts_answer(request, l1, [None if one is None else one.data for _, one in found])


async def _asked(
    door: Door, l1: Sequence[str], what: Callable[[BridgeBook, str], _T | None]
) -> list[tuple[str | None, _T | None]]:
    """As `_read`. Raises AccessError `request_invalid`; HTTPException: there are no neighbours."""
    folder = door.settings.neighbours
    if door.neighbours is None or folder is None:
        raise HTTPException(404)
    wanted = [hash_of(text) for text in l1]
    domains = sorted(door.neighbours.domains())
    return await asyncio.to_thread(lambda: _read(folder, domains, wanted, what))


def _read(
    folder: Path, domains: list[str], l1_sha256: list[bytes], what: Callable[[BridgeBook, str], _T | None]
) -> list[tuple[str | None, _T | None]]:
    """Per hash: which domain it went to, and what its book says. In a thread of its own. Raises LogError (path
    `bridge`)."""
    found: list[tuple[str | None, _T | None]] = [(None, None)] * len(l1_sha256)
    for domain in domains:
        file = folder / domain / BOOK
        if not file.exists():  # its bridge has never run
            continue
        book = BridgeBook.reading(file)
        try:
            for place, one in enumerate(l1_sha256):
                told = what(book, b64url(one))
                if told is not None:
                    found[place] = (domain, told)
        finally:
            book.close()
    return found
