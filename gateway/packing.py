# SPDX-License-Identifier: Apache-2.0
"""Answers of text that repeats itself, compressed for whoever takes gzip: receipts, registries, manifests.

A receipt's checkpoint with its signatures is most of it, and the same in each receipt of an answer: three weigh little
more than one. What many ask for and seldom changes is compressed once (`keep`).

Must never: compress what holds a secret beside what a caller chose (BREACH); nothing here does, answers of these routes
are signed and for their caller's eyes.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import lru_cache

from fastapi import Request, Response

_ABOVE = 1024


def packed(
    request: Request, data: bytes, media_type: str, headers: Mapping[str, str] | None = None, *, keep: bool = False
) -> Response:
    """An answer; `keep`: the same bytes will be asked for again, by others."""
    fields = {**(headers or {}), "vary": "accept-encoding"}
    if len(data) > _ABOVE and "gzip" in request.headers.get("accept-encoding", ""):
        data = _kept(data) if keep else _gzip(data)
        fields["content-encoding"] = "gzip"
    return Response(data, headers=fields, media_type=media_type)


@lru_cache(maxsize=16)
def _kept(data: bytes) -> bytes:
    return _gzip(data)


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()
