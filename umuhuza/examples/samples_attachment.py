# SPDX-License-Identifier: Apache-2.0
"""Invented files that go with a referral."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from schemas.attachments import File, announcement
from schemas.forms import Facts, Lawful
from schemas.plain.attachment import AttachmentChunk
from umuhuza.examples.cast import evt_of

ABOUT = evt_of("referral.requested")
_BEGINS: Mapping[str, bytes] = {"pdf": b"%PDF-1.7\n", "jpg": b"\xff\xd8\xff\xe0", "png": b"\x89PNG\r\n\x1a\n"}


def file(size: int, kind: str = "pdf", name: str = "certificat.pdf", seed: str = "") -> File:
    """A file of that many bytes that looks like one of that kind, the same every time."""
    begins = _BEGINS[kind]
    rest = hashlib.shake_256(f"{kind}/{size}/{seed}".encode()).digest(max(0, size - len(begins)))
    return File(name, (begins + rest)[:size])


def samples(now: datetime, consent: Lawful, vital: Lawful) -> dict[str, tuple[Facts, ...]]:
    two = [file(150_000), file(70, "png", "photo.png")]
    return {
        "attachment.announced": (
            Facts(occurred_at=now, lawful=consent, said=announcement(ABOUT, two)),
            Facts(occurred_at=now, lawful=vital, said=announcement(ABOUT, [file(9, "jpg", "فاطمة.jpg")])),
        ),
        "attachment.chunk": (
            Facts(occurred_at=now, said=AttachmentChunk(announced=evt_of("attachment.announced"), first=3)),
        ),
    }
