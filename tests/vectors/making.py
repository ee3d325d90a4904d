# SPDX-License-Identifier: Apache-2.0
"""What golden vectors are made of: fixed keys, a fixed clock, and records put together by hand.

Made by hand on purpose: a payload is a plain dict and a header is plain text here, so that a vector can be wrong in any
way that an attacker's record can be. Only sealing (`seal_parts`, `make_grant`) is the product's own code; that it is
right is shown by the verifier in the other language.

Randomness follows from each vector's id, so that adding one changes no other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.envelope import EVENT_TYP, Kind, Manifest, Part, new_evt, new_thread
from schemas.keys import CLASSICAL, HYBRID, SealingKey, SigningKey, b64url
from schemas.sealing import Sealed, seal_parts
from tests.domain import NOW, seeded

Vector = dict[str, Any]
Payload = dict[str, Any]
Pieces = str | list[Any]
"""Text, one character per byte; or a list of texts and [text, times]."""

ISS, TO, TOPIC = "bi/iom", "bi/k7t4", "bi.referral.k7t4"
PLANTED = "Ndayizeye"
"""An invented family name put where a value is wrong: it must be in no error."""
DROP: Any = object()
"""As a member's new value: leave the member away."""

_NAMES = ("iom", "k7t4", "police", "root-bi", "gateway", "root-bi-2", "root-bi-3", "root-tn")
SIGNERS = {name: SigningKey.generate(seeded(f"vectors/sig/{name}")) for name in _NAMES}
SEALERS = {
    "k7t4": SealingKey.generate(seeded("vectors/seal/k7t4"), HYBRID),
    "k7t4-next": SealingKey.generate(seeded("vectors/seal/k7t4-next"), HYBRID),
    "police": SealingKey.generate(seeded("vectors/seal/police"), CLASSICAL),
    "police-next": SealingKey.generate(seeded("vectors/seal/police-next"), CLASSICAL),
}


def keys_file() -> dict[str, Any]:
    return {
        "about": "Keys of the vectors, private ones too. They protect nothing: never enter them in a registry.",
        "signing": {name: {"kid": key.kid, "pub": b64url(key.public.public)} for name, key in SIGNERS.items()},
        "sealing": {
            name: {
                "suite": key.suite,
                "kid": key.kid,
                "pub": b64url(key.public.public),
                "seed": b64url(key.private_bytes()),
            }
            for name, key in SEALERS.items()
        },
    }


def joined(pieces: Pieces) -> str:
    """The text that pieces stand for."""
    if isinstance(pieces, str):
        return pieces
    return "".join(piece if isinstance(piece, str) else piece[0] * piece[1] for piece in pieces)


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def segment(text: str | bytes) -> str:
    return b64url(text.encode() if isinstance(text, str) else text)


def jws_header(kid: str, /, **changes: Any) -> Payload:
    return changed({"alg": "ES256", "kid": kid, "typ": EVENT_TYP}, changes)


def changed(members: Mapping[str, Any], changes: Mapping[str, Any]) -> Payload:
    return {name: value for name, value in {**members, **changes}.items() if value is not DROP}


def line1(payload: Payload | str | bytes, header: Payload | str | None = None, signer: str = "iom") -> str:
    """A compact JWS, correctly signed whatever it says."""
    key = SIGNERS[signer]
    head = jws_header(key.kid) if header is None else header
    signed = (
        f"{segment(head if isinstance(head, str) else compact(head))}."
        f"{segment(compact(payload) if isinstance(payload, dict) else payload)}"
    )
    return f"{signed}.{b64url(key.sign(signed.encode()))}"


@dataclass(frozen=True)
class Made:
    """A record's halves before they are put together."""

    payload: Payload
    sealed: Sealed
    plaintexts: dict[str, str]

    @property
    def body(self) -> str:
        return self.sealed.body.decode("ascii")

    def value(self, **changes: Any) -> str:
        return f"{line1(changed(self.payload, changes))}\n{self.body}"

    def keys(self) -> dict[str, str]:
        return {name: b64url(key) for name, key in self.sealed.keys.items()}

    def manifest(self) -> Manifest:
        """For `make_grant`."""
        members = {name: value for name, value in self.payload.items() if name not in ("v", "parts")}
        return Manifest(**members, parts=tuple(Part(**part) for part in self.payload["parts"]))


def make(ident: str, kind: Kind = "control", plaintexts: Mapping[str, str] | None = None, **members: Any) -> Made:
    """A record's payload and sealed body, valid unless `members` make it otherwise."""
    random = seeded(f"vectors/{ident}")
    evt = members.pop("evt", None) or new_evt(NOW * 1000, random)
    texts = dict(plaintexts or {"identity": "", "content": '{"type":"receipt.delivered"}'})
    iss = members.get("iss", ISS)
    sealed = seal_parts(f"{iss}/{evt}", kind, {name: text.encode() for name, text in texts.items()}, random)
    payload: Payload = {
        "v": 1,
        "evt": evt,
        "iss": iss,
        "to": TO,
        "topic": TOPIC,
        "kind": kind,
        "thread": new_thread(random),
        "seq": 1,
        "prev": "",
        "iat": NOW,
        "reg": 7,
        "parts": [{"name": p.name, "sha256": p.sha256, "len": p.len, "kc": p.kc} for p in sealed.parts],
    }
    return Made(payload | members, sealed, texts)


def resealed(made: Made, texts: Sequence[str], **changes: Any) -> str:
    """The record with these part texts instead, digests and lengths stated as they now are."""
    parts = [
        {
            "name": part["name"],
            "sha256": b64url(hashlib.sha256(text.encode()).digest()),
            "len": len(text),
            "kc": part["kc"],
        }
        for part, text in zip(made.payload["parts"], texts, strict=True)
    ]
    return f"{line1(changed(made.payload, {'parts': parts} | changes))}\n{'~'.join(texts)}"


def vector(
    ident: str,
    why: str,
    flags: Sequence[str],
    input: Pieces,
    result: str,
    path: str | None,
    **more: Any,
) -> Vector:
    found: Vector = {"id": ident, "why": why, "flags": sorted(flags), "input": input, "result": result, "path": path}
    return found | {name: value for name, value in more.items() if value is not None}


def record_vector(
    ident: str,
    why: str,
    flags: Sequence[str],
    input: Pieces,
    result: str,
    path: str | None,
    *,
    key: str = "iom",
    made: Made | None = None,
    keys: Mapping[str, str] | None = None,
    planted: Sequence[str] = (),
) -> Vector:
    """Read in this order, the first refusal being the result: parse, verify with `key`, check the parts, open them."""
    more: Vector = {"key": key, "planted": list(planted) or None}
    if made is not None:
        more["keys"] = dict(keys) if keys is not None else made.keys()
    if result == "ok" and made is not None:
        more["digest"] = b64url(hashlib.sha256(joined(input).rpartition("\n")[0].rpartition(".")[0].encode()).digest())
        more["plaintexts"] = {name: squeezed(text) for name, text in made.plaintexts.items()}
    return vector(ident, why, flags, input, result, path, **more)


def squeezed(text: str) -> Pieces:
    """Long runs of one character as [character, times]; everything else as it is."""
    if len(text) < 4096 or set(text) != {text[0]}:
        return text
    return [[text[0], len(text)]]
