# SPDX-License-Identifier: Apache-2.0
"""The invented facts of every event type (`umuhuza.examples`), composed as one pair of agencies would."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from schemas.events import Opened, Sealable, compose, decompose
from schemas.forms import Facts
from umuhuza.examples import SAMPLES
from umuhuza.examples.cast import NOW
from umuhuza.examples.samples_request import (
    CONSENT,
    DUTY,
    GUARDIAN,
    RECEIPT,
    VITAL,
    child,
    identified,
    referral,
    requested,
)

__all__ = [
    "CONSENT",
    "DUTY",
    "EVT",
    "GUARDIAN",
    "MANIFEST",
    "NOW",
    "PSEUDONYM",
    "RECEIPT",
    "SALT",
    "SAMPLES",
    "THREAD",
    "VITAL",
    "child",
    "identified",
    "opened",
    "referral",
    "requested",
    "sealable",
]

EVT = "019a4960-7c00-7000-8000-000000000001"
THREAD = "qL3xJ0yQmZ8n4n3bq2v5Wg"
PSEUDONYM = "u7Zr1c0Ke9Qy4mJb"
SALT = bytes(range(32))
MANIFEST = {"iss": "bi/iom", "to": "bi/k7t4", "evt": EVT, "thread": THREAD}


def sealable(
    type: str, facts: Facts, *, allowed: frozenset[str] | None = None, recorded_at: datetime = NOW, **changes: Any
) -> Sealable:
    given: dict[str, Any] = {**MANIFEST, "ref": None, "pseudonym": PSEUDONYM, "salt": SALT, **changes}
    return compose(type, facts, recorded_at=recorded_at, allowed=allowed, **given)


def opened(parts: Sealable) -> Opened:
    return decompose(parts.content, parts.identity, **MANIFEST)
