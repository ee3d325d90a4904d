# SPDX-License-Identifier: Apache-2.0
"""The way from `Facts` to the sealed parts of a record and back.

    Facts -> minimise -> rules -> claims + FHIR message -> content, identity      (compose, the sender's adapter)
    content, identity -> strict JSON -> gate -> Facts -> rules                    (decompose, the receiver's adapter)

Invariants: `decompose(compose(facts)).facts == minimise(facts)`; compose decomposes its own output before it returns
it; the same rules hold on both sides, so what one adapter sent the other does not refuse; claims say the same as the
message they stand beside.
Must never: put a value into an error; make anything random or read a clock (salt and time are arguments); let a field
out that the event's table (`schemas.elements`), the recipient's allow-list or the person herself keeps back.

Paths in errors begin with `content` or `identity` where the bytes are wrong, and with a member of `Facts`
(`referral.birth`, `lawful.consent.expires_at`, `htcds.prs_Gender`) where what they say is.

Compatibility (design: a minor version only adds optional members): the same major version is read. In a newer minor,
members, link ids and resources that this version does not know are left out, everywhere; the rest is held to the same
rules. An older minor is brought up to today's first (`schemas.upcast`). Another major version is `version_unsupported`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from schemas import fhir, htcds, ijson, plain
from schemas.claims import Claims, check_claims, claims_of, written_claims
from schemas.content import NAMED, SHAPES
from schemas.elements import TABLES
from schemas.errors import PayloadError
from schemas.event_rules import check_members, check_rules
from schemas.event_types import EVENTS, EventType
from schemas.forms import Answer, Facts, Form, Information, Lawful, Receipt, validated
from schemas.keys import b64url
from schemas.message_gate import check_pair
from schemas.minimise import KNOWN_PATHS, field_paths, minimise
from schemas.shape import Context, WrongError, checked, moment
from schemas.upcast import upcast

MAX_PART_BYTES = 256 * 1024
"""Of content and of identity, padding included: the largest pad size."""
SALT_BYTES = 32


@dataclass(frozen=True, slots=True)
class Sealable:
    """UTF-8 JSON, not padded. `identity` is b"" when nobody is named."""

    content: bytes
    identity: bytes
    claims: Claims | None = None
    """The claims inside, for asking the policy."""

    def __repr__(self) -> str:
        return "Sealable(...)"


@dataclass(frozen=True, slots=True)
class Opened:
    """A record's content, validated again by its reader. Holds values of a person: never printed, logged or kept."""

    type: str
    schema: str
    occurred_at: datetime
    recorded_at: datetime
    claims: Claims | None
    withheld: tuple[str, ...]
    """Names of fields that the sender has and this reader does not get."""
    facts: Facts
    bundle: dict[str, Any]
    """The FHIR message as parsed (content half); {} where the payload is a plain model."""
    pseudonym: str | None = None
    """This pair's pseudonym of the person."""

    def __repr__(self) -> str:
        return f"Opened(type={self.type!r}, ...)"


# ---- compose ----


def _json(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value)


def _written_receipt(receipt: Receipt) -> dict[str, Any]:
    data = receipt.model_dump(exclude_none=True)
    return {**data, "received_at": moment(receipt.received_at)}


def _written_plain(said: Form, lawful: Lawful | None, salt: bytes) -> tuple[dict[str, Any], dict[str, Any] | None]:
    content, named = plain.halves(said)
    payload: dict[str, Any] = {"said": content}
    identity: dict[str, Any] = {"said": named} if named else {}
    if lawful is not None:
        payload["lawful"], author = plain.halves(lawful)
        del payload["lawful"]["authorisations"]
        if lawful.consent is not None:
            payload["salt"] = b64url(salt)
        if author:
            identity["lawful"] = author
    return payload, identity or None


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
    """The parts of one record: what this reader may see of these facts, with claims, as checked JSON.

    What is returned has been read again by `decompose`, as the recipient will: what it would reject never leaves.
    Deterministic: the same arguments, the same bytes.

    Args:
        evt: event id (UUID text). thread: base64url. ref: the `evt` answered, for answers.
        pseudonym: this pair's pseudonym of the person, 8 to 64 URL-safe characters; not used by control events.
        recorded_at: now, with a zone.
        allowed: the reader's allow-list (`minimise`), None for none.
        salt: 32 random bytes, fresh for every record.

    Raises:
        PayloadError: `payload_invalid`, `safeguard_missing`, `too_large`, with a path of `facts`.
        PolicyError: `consent_missing`, `consent_expired`.
        ValueError: a salt of another length (a fault of the program).
    """
    if len(salt) != SALT_BYTES:
        raise ValueError("the salt is 32 bytes")
    if type not in EVENTS:
        raise PayloadError("payload_invalid", path="type")
    if facts.answer == Answer():
        facts = facts.model_copy(update={"answer": None})
    if facts.information == Information():
        facts = facts.model_copy(update={"information": None})
    check_members(type, facts)
    reduced, withheld = minimise(type, facts, allowed)
    claims = claims_of(type, facts.model_copy(update={"htcds": _normal(facts)}), to, salt)
    check_rules(type, reduced, claims, recorded_at)
    named: dict[str, Any] | None = None
    payload: dict[str, Any] = {}
    if type in TABLES:
        names = fhir.Names(iss, to, evt, thread, ref, pseudonym)
        payload, named = fhir.write(type, reduced, names, b64url(salt))
    elif reduced.said is not None:
        payload, named = _written_plain(reduced.said, reduced.lawful, salt)
    elif reduced.receipt is not None:
        payload = _written_receipt(reduced.receipt)
    content = _json(
        {
            "type": type,
            "schema": EVENTS[type].schema,
            "occurred_at": moment(facts.occurred_at),
            "recorded_at": moment(recorded_at),
            "claims": None if claims is None else written_claims(claims),
            "payload": payload,
            "withheld": withheld,
        }
    )
    identity = b"" if named is None else _json(named)
    opened = decompose(content, identity, iss=iss, to=to, evt=evt, thread=thread)
    if opened.facts != reduced or opened.claims != claims:
        raise PayloadError("payload_invalid", path="facts")  # a fault of ours; better refused here than sent
    return Sealable(content, identity, claims)


def _normal(facts: Facts) -> dict[str, str | tuple[str, ...]]:
    return {name: htcds.check(name, value) for name, value in facts.htcds.items()}


# ---- decompose ----

_VERSION = re.compile(r"([1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})")


def _loads(data: bytes, at: str) -> Any:
    if len(data) > MAX_PART_BYTES:
        raise PayloadError("too_large", path=at, expected=MAX_PART_BYTES)
    try:
        return ijson.loads(data, max_bytes=MAX_PART_BYTES)
    except ijson.IJsonError as exc:
        path = f"{at}.{exc.path}" if exc.path else at
    raise PayloadError("payload_invalid", path=path)


def _versions(value: Any) -> tuple[EventType, str, int, int]:
    """(event, schema version said, its minor, today's minor)."""
    if not isinstance(value, dict):
        raise PayloadError("payload_invalid", path="content")
    event = EVENTS.get(value["type"]) if isinstance(value.get("type"), str) else None
    if event is None:
        raise PayloadError("payload_invalid", path="content.type")
    said = value.get("schema")
    found = _VERSION.fullmatch(said) if isinstance(said, str) else None
    if found is None:
        raise PayloadError("payload_invalid", path="content.schema")
    major, _, minor = event.schema.partition(".")
    if found[1] != major:
        raise PayloadError("version_unsupported", path="content.schema", expected=event.schema)
    return event, found[0], int(found[2]), int(minor)


def decompose(content: bytes, identity: bytes, *, iss: str, to: str, evt: str, thread: str) -> Opened:
    """What a record's parts say. Bytes off the wire, trailing-space padding included; the manifest's values beside.

    Raises:
        PayloadError: `payload_invalid`, `version_unsupported`, `safeguard_missing`, `too_large`.
        PolicyError: `consent_missing`, `consent_expired` (at `recorded_at`).
    """
    try:
        return _decomposed(content, identity, iss=iss, to=to, evt=evt, thread=thread)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        # A fault of ours, met by somebody's record. That record is refused, with its sender told; let through, the
        # fault would stop the reader at it, and everything behind it, at every start. Raised below, outside of the
        # handler: what these exceptions say may quote the record.
        pass
    raise PayloadError("payload_invalid", path="content")


def _decomposed(content: bytes, identity: bytes, *, iss: str, to: str, evt: str, thread: str) -> Opened:
    value = _loads(content, "content")
    event, version, written, today = _versions(value)
    context = Context({"iss": iss, "to": to, "evt": evt, "thread": thread}, tolerant=written > today)
    value["schema"] = event.schema
    if written > today:
        value["withheld"] = [each for each in value["withheld"] if each in KNOWN_PATHS]
    somebody = bool(ijson.unpadded(identity))
    named = _loads(identity, "identity") if somebody and event.name in NAMED else None
    upcast(event.name, written, today, value, named)
    checked(SHAPES[event.name], value, context, "content")
    if somebody:
        if event.name not in NAMED:
            raise PayloadError("payload_invalid", path="identity")
        checked(NAMED[event.name], named, replace(context, references=[]), "identity")
    payload = value["payload"]
    bundle: dict[str, Any] = {}
    salt = pseudonym = None
    data: dict[str, Any] = {}
    if event.name in TABLES:
        bundle = payload
        said = _read(event.name, payload, named)
        data, salt, pseudonym = said.facts, said.salt, said.pseudonym
    elif event.name in plain.PLAIN:
        if named is None and event.name in NAMED:
            checked(NAMED[event.name], {}, context, "identity")
        data, salt = _read_plain(event.name, payload, named or {})
    elif event.name.startswith("receipt."):
        data = {"receipt": payload}
    claims = None
    if value["claims"] is not None:
        claims = validated(Claims, value["claims"], "content.claims")
        lawful = data.setdefault("lawful", {})
        if lawful.get("basis", claims.basis) != claims.basis:
            raise PayloadError("payload_invalid", path="content.claims.basis")
        lawful["basis"] = claims.basis
        lawful["legal_reference"] = claims.legal_reference
        lawful["authorisations"] = claims.authorisations
    facts = validated(Facts, {**data, "occurred_at": value["occurred_at"]})
    for name, answer in facts.htcds.items():
        if htcds.check(name, answer) != answer:
            raise PayloadError("payload_invalid", path=f"htcds.{name}")
    recorded_at = datetime.fromisoformat(value["recorded_at"])
    withheld = tuple(value["withheld"])
    if withheld and (list(withheld) != sorted(set(withheld)) or set(withheld).intersection(field_paths(facts))):
        raise PayloadError("payload_invalid", path="content.withheld")
    check_members(event.name, facts)
    if claims is not None:
        check_claims(claims, facts, withheld, salt)
    check_rules(event.name, facts, claims, recorded_at)
    return Opened(event.name, version, facts.occurred_at, recorded_at, claims, withheld, facts, bundle, pseudonym)


def _read(event: str, payload: dict[str, Any], named: dict[str, Any] | None) -> fhir.Read:
    """Both halves, together, to plain facts; FHIR's own rules included."""
    try:
        if named is not None:
            check_pair(payload, named)
    except WrongError as exc:
        path = exc.path("identity")
    else:
        try:
            return fhir.read(event, payload, named)
        except WrongError as exc:
            path = exc.path("content.payload")
    raise PayloadError("payload_invalid", path=path)


def _read_plain(event: str, payload: dict[str, Any], named: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Members of `Facts`, and the salt of the consent's commitment."""
    said = plain.together(payload["said"], named.get("said", {}))
    data: dict[str, Any] = {"said": validated(plain.PLAIN[event], said, "said")}
    if "lawful" in payload:
        data["lawful"] = plain.together(payload["lawful"], named.get("lawful", {}))
    return data, payload.get("salt")
