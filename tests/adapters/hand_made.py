# SPDX-License-Identifier: Apache-2.0
"""Records made by hand, as an adapter would never make them, and what must never be seen of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

from typing_extensions import Unpack

from adapters.mailbox_rows import Incoming
from schemas.envelope import EVENT_TYP, Kind, sign_jws
from schemas.keys import unb64url
from tests.agencies import PLANTED, Agencies, bytes_of, referral
from tests.domain import Signed
from topics.log import Entry

SHELTER, MINISTRY = "bi/k7t4", "bi/min-solidarity"
DAY = 86_400


class Changes(TypedDict, total=False):
    kind: Kind
    thread: str
    evt: str
    spoil: Callable[[bytes, bytes], tuple[bytes, bytes]]
    iat: int
    seq: int
    prev: str
    chain: bool


def good(town: Agencies, **more: Unpack[Changes]) -> Signed:
    """A referral from the ministry to the shelter, made by hand."""
    return town.seal(MINISTRY, SHELTER, "referral.requested", referral(), **more)


def resign(town: Agencies, record: Signed, change: Callable[[dict[str, object]], None]) -> bytes:
    """The record with another manifest, signed by its issuer."""
    line1, _, body = record.value.partition(b"\n")
    payload = json.loads(unb64url(line1.split(b".")[1].decode()))
    change(payload)
    return sign_jws(EVENT_TYP, payload, town.domain.members[record.manifest.iss].sig) + b"\n" + body


def valued(record: Signed, value: bytes) -> Entry:
    return replace(record.entry, value=value)


def nothing_planted(town: Agencies, *items: Incoming) -> None:
    for item in items:
        assert PLANTED not in f"{item.code} {item.path}"
    assert PLANTED.encode() not in bytes_of(town.folder)
