# SPDX-License-Identifier: Apache-2.0
"""The event catalogue, and the way from `Facts` to the sealed parts of a record and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, StringConstraints

from schemas import ijson
from schemas.errors import PayloadError
from schemas.forms import Basis, Facts, Form, Text, validated

Kind = Literal["request", "answer", "update", "control"]


@dataclass(frozen=True, slots=True)
class EventType:
    name: str
    flow: str
    """`*`: that of the mailbox it goes to."""
    kind: Kind
    schema: str
    machine: Literal["referral", "case"] | None
    identity: bool
    """Whether it may carry identity."""


def _catalogue(*events: EventType) -> Mapping[str, EventType]:
    return MappingProxyType({event.name: event for event in events})


EVENTS = _catalogue(
    EventType("case.identified", "case", "request", "1.0", "case", identity=True),
    EventType("case.screened", "case", "update", "1.0", "case", identity=True),
    EventType("referral.requested", "referral", "request", "1.0", "referral", identity=True),
    EventType("referral.received", "referral", "answer", "1.0", "referral", identity=False),
    EventType("referral.accepted", "referral", "answer", "1.0", "referral", identity=False),
    EventType("referral.declined", "referral", "answer", "1.0", "referral", identity=False),
    EventType("referral.started", "referral", "update", "1.0", "referral", identity=False),
    EventType("referral.completed", "referral", "update", "1.0", "referral", identity=False),
    EventType("service.provided", "referral", "update", "1.0", "referral", identity=False),
    EventType("receipt.delivered", "receipt", "control", "1.0", None, identity=False),
    EventType("receipt.rejected", "receipt", "control", "1.0", None, identity=False),
    EventType("chain.voided", "*", "control", "1.0", None, identity=False),
)


class ConsentClaim(Form):
    commitment: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
    given_at: AwareDatetime
    expires_at: AwareDatetime
    scope: tuple[Literal["referral", "statistics", "investigation", "return"], ...]


class SafeguardClaim(Form):
    age: Literal["adult", "child", "unknown"]
    guardian: Literal["guardian", "representative", "pending", "suspected"] | None
    best_interest: bool


class Claims(Form):
    basis: Basis
    purpose: Literal["assistance", "identification", "coordination", "receipt"]
    recipient: Text
    consent: ConsentClaim | None
    legal_reference: Text | None
    safeguards: SafeguardClaim | None


@dataclass(frozen=True, slots=True)
class Sealable:
    content: bytes
    identity: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    type: str
    schema: str
    occurred_at: datetime
    recorded_at: datetime
    claims: Claims | None
    withheld: tuple[str, ...]
    facts: Facts
    bundle: dict[str, Any]


def compose(
    type: str,
    facts: Facts,
    *,
    iss: str,
    to: str,
    evt: str,
    thread: str,
    ref: str | None,
    pseudonym: str,
    recorded_at: datetime,
    allowed: frozenset[str] | None,
    salt: bytes,
) -> Sealable:
    """First form: the facts as they are, not yet FHIR, nothing minimised."""
    import json

    if type not in EVENTS:
        raise PayloadError("payload_invalid", path="content.type")
    content: dict[str, Any] = {
        "type": type,
        "schema": EVENTS[type].schema,
        "occurred_at": facts.occurred_at.isoformat(),
        "recorded_at": recorded_at.isoformat(),
        "claims": None,
        "payload": facts.model_dump(mode="json"),
        "withheld": [],
    }
    return Sealable(json.dumps(content, ensure_ascii=False).encode(), b"")


def decompose(content: bytes, identity: bytes, *, iss: str, to: str, evt: str, thread: str) -> Opened:
    try:
        value = ijson.loads(content, max_bytes=1 << 18)
    except ijson.IJsonError:
        raise PayloadError("payload_invalid", path="content") from None
    if not isinstance(value, dict) or value.get("type") not in EVENTS:
        raise PayloadError("payload_invalid", path="content.type")
    return Opened(
        value["type"],
        value["schema"],
        datetime.fromisoformat(value["occurred_at"]),
        datetime.fromisoformat(value["recorded_at"]),
        None,
        (),
        validated(Facts, value["payload"], "content.payload"),
        {},
    )


def field_paths(facts: Facts) -> tuple[str, ...]:
    """Paths used for minimisation."""
    return tuple(f"htcds.{name}" for name in facts.htcds)
