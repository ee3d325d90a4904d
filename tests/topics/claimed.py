# SPDX-License-Identifier: Apache-2.0
"""Claims as the policy asks for them (`topics.catalogue.Claims`), by hand: what a test does not say is harmless."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Consent:
    expires_at: datetime


@dataclass(frozen=True)
class Safeguards:
    age: str = "adult"
    guardian: str | None = None


@dataclass(frozen=True)
class Held:
    authority: str


@dataclass(frozen=True)
class Agreed:
    id: str = "demo-2026"
    authorisations: tuple[str, ...] = ()
    origin: str = "bi"
    asylum_wished: bool = False
    voluntary: bool = True


@dataclass(frozen=True)
class Claimed:
    recipient: str
    basis: str = "consent"
    consent: Consent | None = None
    safeguards: Safeguards | None = Safeguards()
    agreement: Agreed | None = None
    authorisations: tuple[Held, ...] = ()
