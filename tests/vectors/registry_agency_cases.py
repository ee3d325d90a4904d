# SPDX-License-Identifier: Apache-2.0
"""Agencies in a registry: what their targets may say, and the ways in which they must not be believed."""

from __future__ import annotations

import json
from typing import Any

from schemas.keys import b64url
from schemas.registry import tls_key
from tests.domain import NOW, YEAR
from tests.vectors.making import DROP, PLANTED, SEALERS, SIGNERS, Payload, Vector, changed, vector
from tests.vectors.repositories import Repository, compact

INVALID = "registry_invalid"


def tls_entry(**changes: Any) -> Payload:
    """The pin of a TLS key: SHA-256 of what would stand in its certificate."""
    key = tls_key(b"a SubjectPublicKeyInfo", NOW - YEAR, NOW + YEAR)
    members = {"kid": key.kid, "use": "tls", "suite": "spki-sha256", "pub": b64url(key.public)}
    return changed(members | {"activated": key.activated, "expires": key.expires, "revoked": None}, changes)


def key_entry(name: str, use: str, /, **changes: Any) -> Payload:
    key = SIGNERS[name] if use == "sig" else SEALERS[name]
    suite = "ES256" if use == "sig" else SEALERS[name].suite
    public = SIGNERS[name].public.public if use == "sig" else SEALERS[name].public.public
    members = {"kid": key.kid, "use": use, "suite": suite, "pub": b64url(public)}
    return changed(members | {"activated": NOW - YEAR, "expires": NOW + YEAR, "revoked": None}, changes)


IOM: Payload = {
    "id": "bi/iom",
    "protected": False,
    "names": {"fr": "OIM (inventée)", "en": "IOM (invented)", "ar": "وكالة مخترعة"},
    "roles": ["screener", "assistance"],
    "keys": [key_entry("iom", "sig")],
}
SHELTER: Payload = {
    "id": "bi/k7t4",
    "protected": True,
    "names": {"fr": "Maison inventée"},
    "roles": ["assistance", "shelter"],
    "keys": [key_entry("k7t4", "sig"), key_entry("k7t4", "seal"), key_entry("police", "seal", revoked=NOW)],
}
ALL = (IOM, SHELTER)


def registry_vector(
    ident: str, why: str, made: Repository, result: str, path: str | None, *flags: str, **more: Any
) -> Vector:
    more["planted"] = [PLANTED] if PLANTED in json.dumps(more.pop("says", "")) else None
    pin = more.pop("root", None) or made.pin
    return vector(f"registry-{ident}", why, ["registry", *flags], made.text(), result, path, root=pin, **more)


def wrong_vector(ident: str, why: str, path: str, agencies: list[Any]) -> Vector:
    return registry_vector(ident, why, Repository(agencies), INVALID, path, says=agencies)


def agency_vectors() -> list[Vector]:
    return [*_agencies(), *_keys()]


def _agencies() -> list[Vector]:
    found: list[Vector] = []
    for name in IOM:
        agency = changed(IOM, {name: DROP})
        found.append(wrong_vector(f"agency-{name}-missing", f"every agency has {name}", "agencies.iom.*", [agency]))
    for ident, why, path, changes in (
        ("unknown", "no other members", "*", {PLANTED: 1}),
        ("id-number", "text", "id", {"id": 5}),
        ("id-uppercase", "lower case", "id", {"id": "bi/IOM"}),
        ("of-another-domain", "a registry says nothing of other domains", "id", {"id": "tn/inlctp"}),
        ("protected-1", "1 is not true", "protected", {"protected": 1}),
        ("direct-1", "1 is not true", "direct", {"direct": 1}),
        ("direct-null", "absent or said", "direct", {"direct": None}),
        ("endpoints-empty", "absent or said", "endpoints", {"endpoints": {}}),
        ("endpoints-unknown", "a closed list", "endpoints", {"endpoints": {PLANTED: "https://example.bi"}}),
        ("endpoints-no-url", "a URL", "endpoints", {"endpoints": {"gateway": PLANTED}}),
        ("endpoints-password", "no user, no query", "endpoints", {"endpoints": {"gateway": "https://a:b@example.bi"}}),
        (
            "endpoints-of-a-protected-place",
            "an address tells where it is",
            "endpoints",
            {"protected": True, "endpoints": {"gateway": "https://example.bi"}},
        ),
        ("names-no-french", "French always", "names", {"names": {"en": PLANTED}}),
        ("names-unknown-language", "fr, en, rn, ar", "names", {"names": {"fr": PLANTED, "sw": PLANTED}}),
        ("names-empty", "a name has characters", "names", {"names": {"fr": ""}}),
        ("names-long", "at most 200 characters", "names", {"names": {"fr": "x" * 201}}),
        ("names-number", "text", "names", {"names": {"fr": 5}}),
        ("names-array", "an object", "names", {"names": ["fr"]}),
        ("roles-unknown", "roles are a closed list", "roles", {"roles": ["assistance", PLANTED]}),
        ("roles-twice", "each once", "roles", {"roles": ["assistance", "assistance"]}),
        ("roles-text", "an array", "roles", {"roles": "assistance"}),
        ("roles-nested", "texts", "roles", {"roles": [["assistance"]]}),
        ("keys-object", "an array", "keys", {"keys": {}}),
    ):
        found.append(_member(f"agency-{ident}", why, path, changed(IOM, changes)))
    found.append(wrong_vector("agency-text", "an object", "agencies.iom.*", [compact(PLANTED)]))
    found.append(wrong_vector("agency-duplicate", "two readers, two agencies", "agencies.iom", [_duplicate(IOM)]))
    other = {"agencies/iom.json": compact(SHELTER)}
    made = Repository(targets=other)
    found.append(registry_vector("agency-elsewhere", "in its own file", made, INVALID, "agencies.iom.id"))
    shared = [IOM, SHELTER | {"keys": [key_entry("iom", "sig")]}]
    found.append(wrong_vector("key-shared", "one key, one agency: else who signed?", "agencies.keys", shared))
    found.append(
        wrong_vector("key-twice", "each once", "agencies.keys", [IOM | {"keys": [IOM["keys"][0], IOM["keys"][0]]}])
    )
    return found


def _member(ident: str, why: str, path: str, agency: Payload) -> Vector:
    """An agency that is wrong, in the file of `bi/iom`, whatever it says of its id."""
    made = Repository([SHELTER], targets={"agencies/iom.json": compact(agency)})
    return registry_vector(ident, why, made, INVALID, f"agencies.iom.{path}", says=agency)


def _duplicate(agency: Payload) -> str:
    return '{"id":"bi/iom",' + compact(agency)[1:]


def _keys() -> list[Vector]:
    point = SIGNERS["iom"].public.public
    off_curve = point[:64] + bytes([point[64] ^ 1])
    compressed = bytes([2 + point[64] % 2]) + point[1:33]
    hybrid_form = bytes([6 + point[64] % 2]) + point[1:]
    mlkem = SEALERS["k7t4"].public.public
    beyond_q = b"\xff" * 384 + mlkem[384:]
    found: list[Vector] = []
    for name in key_entry("iom", "sig"):
        agency = IOM | {"keys": [key_entry("iom", "sig", **{name: DROP})]}
        found.append(wrong_vector(f"key-{name}-missing", f"every key has {name}", "agencies.iom.keys[0].*", [agency]))
    for ident, why, path, changes in (
        ("unknown", "no other members", "*", {PLANTED: 1}),
        ("kid-other", "a kid follows from its key", "kid", {"kid": SIGNERS["police"].kid}),
        ("kid-number", "text", "kid", {"kid": 5}),
        ("use-both", "sig or seal", "use", {"use": "both"}),
        ("use-null", "sig or seal", "use", {"use": None}),
        ("suite-es384", "ES256 alone signs", "suite", {"suite": "ES384"}),
        ("suite-of-the-other-use", "a signing key seals nothing", "suite", {"suite": "0010-0001-0002"}),
        ("suite-array", "text", "suite", {"suite": ["ES256"]}),
        ("pub-number", "text", "pub", {"pub": 5}),
        ("pub-padded", "without padding", "pub", {"pub": b64url(point) + "="}),
        ("pub-compressed", "65 bytes, uncompressed", "pub", {"pub": b64url(compressed)}),
        (
            "pub-hybrid-form",
            "SEC1's hybrid form is another spelling of the same key",
            "pub",
            {"pub": b64url(hybrid_form)},
        ),
        ("pub-off-curve", "a point off the curve", "pub", {"pub": b64url(off_curve)}),
        ("pub-zero", "no point at all", "pub", {"pub": b64url(bytes(65))}),
        ("pub-infinity", "the point at infinity", "pub", {"pub": "AA"}),
        ("pub-empty", "nothing", "pub", {"pub": ""}),
        ("activated-text", "seconds", "activated", {"activated": "2026"}),
        ("expires-true", "true is not 1", "expires", {"expires": True}),
        ("expires-null", "a key always ends", "expires", {"expires": None}),
        ("revoked-false", "null or seconds", "revoked", {"revoked": False}),
        ("compromised-text", "a size", "compromised_since", {"revoked": NOW, "compromised_since": "41"}),
        ("compromised-null", "absent or said", "compromised_since", {"revoked": NOW, "compromised_since": None}),
        ("compromised-negative", "a size", "compromised_since", {"revoked": NOW, "compromised_since": -1}),
        ("compromised-not-revoked", "what is stolen is revoked", "compromised_since", {"compromised_since": 41}),
    ):
        agency = IOM | {"keys": [key_entry("iom", "sig", **changes)]}
        found.append(wrong_vector(f"key-{ident}", why, f"agencies.iom.keys[0].{path}", [agency]))
    for ident, why, path, key in (
        ("seal-suite-unknown", "one of the two", "suite", key_entry("k7t4", "seal", suite="0051-0002-0002")),
        ("seal-suite-es256", "a sealing key signs nothing", "suite", key_entry("k7t4", "seal", suite="ES256")),
        ("tls-suite-es256", "a pin is no key that signs", "suite", tls_entry(suite="ES256")),
        ("tls-pub-short", "32 bytes", "pub", tls_entry(pub=b64url(bytes(31)))),
        ("tls-kid-other", "a kid follows from its pin", "kid", tls_entry(kid=SIGNERS["iom"].kid)),
        (
            "seal-suite-other",
            "a hybrid key under the classical suite",
            "pub",
            key_entry("k7t4", "seal", suite="0010-0001-0002"),
        ),
        ("seal-pub-short", "1216 bytes", "pub", key_entry("k7t4", "seal", pub=b64url(mlkem[:-1]))),
        (
            "seal-pub-beyond-q",
            "FIPS 203 section 7.2: coefficients below q",
            "pub",
            key_entry("k7t4", "seal", pub=b64url(beyond_q)),
        ),
    ):
        path = f"agencies.k7t4.keys[0].{path}"
        found.append(wrong_vector(f"key-{ident}", why, path, [SHELTER | {"keys": [key]}]))
    found.append(wrong_vector("key-text", "an object", "agencies.iom.keys[0].*", [IOM | {"keys": [PLANTED]}]))
    return found
