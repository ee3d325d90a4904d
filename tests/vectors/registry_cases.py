# SPDX-License-Identifier: Apache-2.0
"""Registry files: who signs what, and the ways in which a file must not be believed."""

from __future__ import annotations

import json
from typing import Any

from schemas.keys import b64url, signature_twin, unb64url
from schemas.registry import REGISTRY_TYP
from tests.domain import NOW, YEAR
from tests.vectors.making import (
    DROP,
    PLANTED,
    SEALERS,
    SIGNERS,
    Payload,
    Pieces,
    Vector,
    changed,
    compact,
    jws_header,
    line1,
    vector,
)

INVALID = "registry_invalid"


def _key(name: str, use: str, /, **changes: Any) -> Payload:
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
    "keys": [_key("iom", "sig")],
}
SHELTER: Payload = {
    "id": "bi/k7t4",
    "protected": True,
    "names": {"fr": "Maison inventée"},
    "roles": ["assistance", "shelter"],
    "keys": [_key("k7t4", "sig"), _key("k7t4", "seal"), _key("police", "seal", revoked=NOW)],
}
BASE: Payload = {"v": 1, "domain": "bi", "version": 7, "issued": NOW, "training": False, "agencies": [IOM, SHELTER]}


def _file(payload: Payload | str, header: Payload | str | None = None, signer: str = "root-bi") -> str:
    head = jws_header(SIGNERS[signer].kid, typ=REGISTRY_TYP) if header is None else header
    return line1(payload, head, signer) + "\n"


def _vector(ident: str, why: str, text: Pieces, result: str, path: str | None, *flags: str, **more: Any) -> Vector:
    more["planted"] = [PLANTED] if PLANTED in json.dumps(more.pop("says", "")) else None
    return vector(f"registry-{ident}", why, ["registry", *flags], text, result, path, root="root-bi", **more)


def _wrong(ident: str, why: str, path: str, /, **changes: Any) -> Vector:
    return _vector(ident, why, _file(changed(BASE, changes)), INVALID, path, says=_said(changes))


def _said(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not DROP}


def registry_vectors() -> list[Vector]:
    return [*_valid(), *_signed(), *_payloads(), *_agencies(), *_keys()]


def _valid() -> list[Vector]:
    members = {"bi/iom": ["screener", "assistance"], "bi/k7t4": ["assistance", "shelter"]}
    good = _file(BASE)
    signed, _, signature = good.rstrip("\n").rpartition(".")
    twin = f"{signed}.{b64url(signature_twin(unb64url(signature)))}\n"
    return [
        _vector("ok", "two agencies, one of them protected", good, "ok", None, "valid", members=members),
        _vector("ok-empty", "nobody yet", _file(BASE | {"agencies": []}), "ok", None, "valid", members={}),
        _vector("ok-training", "of training", _file(BASE | {"training": True}), "ok", None, "valid", members=members),
        _vector(
            "ok-direct",
            "an agency that writes to the brokers itself",
            _file(BASE | {"agencies": [IOM | {"direct": True}, SHELTER | {"direct": False}]}),
            "ok",
            None,
            "valid",
            members=members,
        ),
        _vector("ok-no-lf", "without the final LF", good.rstrip("\n"), "ok", None, "valid", members=members),
        _vector("ok-twin", "the other valid signature", twin, "ok", None, "valid", members=members),
        _vector(
            "ok-no-keys",
            "an agency whose keys are still to come",
            _file(BASE | {"agencies": [IOM | {"keys": [], "roles": []}]}),
            "ok",
            None,
            "valid",
            members={"bi/iom": []},
        ),
    ]


def _signed() -> list[Vector]:
    good = _file(BASE)
    header, payload, signature = good.rstrip("\n").split(".")
    raw = unb64url(signature)
    root = SIGNERS["root-bi"].kid
    later = _file(BASE | {"version": 8}).rstrip("\n").split(".")
    at_signature = (INVALID, "signature", "crypto")
    table: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
        ("signature", "a bit of it", f"{header}.{payload}.{b64url(bytes([raw[0] ^ 1]) + raw[1:])}\n", at_signature),
        ("signature-zero", "64 zero bytes", f"{header}.{payload}.{b64url(bytes(64))}\n", at_signature),
        ("signature-cut", "63 bytes", f"{header}.{payload}.{b64url(raw[:-1])}\n", at_signature),
        ("signature-empty", "none", f"{header}.{payload}.\n", at_signature),
        ("other-root", "another domain's key", _file(BASE, signer="police"), at_signature),
        (
            "other-root-same-kid",
            "another key under the root's kid",
            _file(BASE, jws_header(root, typ=REGISTRY_TYP), "police"),
            at_signature,
        ),
        (
            "other-kid",
            "the root's signature over a header that names another key",
            _file(BASE, jws_header(SIGNERS["police"].kid, typ=REGISTRY_TYP)),
            at_signature,
        ),
        ("other-payload", "a signature of another version", f"{header}.{payload}.{later[2]}\n", at_signature),
        ("event-typ", "an event's signature is none of a registry", _file(BASE, jws_header(root)), (INVALID, "file")),
        ("alg-none", "RFC 8725", _file(BASE, jws_header(root, typ=REGISTRY_TYP, alg="none")), (INVALID, "file")),
        (
            "header-jwk",
            "a key that the file brings",
            _file(BASE, jws_header(root, typ=REGISTRY_TYP, jwk={})),
            (INVALID, "file"),
        ),
        ("signature-padded", "without padding", f"{header}.{payload}.{signature}==\n", (INVALID, "file")),
        ("crlf", "a text editor went over it", f"{header}.{payload}.{signature}\r\n", (INVALID, "file")),
        ("two-lf", "one LF or none", f"{good}\n", (INVALID, "file")),
        ("two-files", "one", good + good, (INVALID, "file")),
        ("two-segments", "three", f"{header}.{payload}\n", (INVALID, "file")),
        ("not-ascii", "a byte beyond ASCII", f"\xe9{good}", (INVALID, "file")),
        ("nothing", "an empty file", "", (INVALID, "file")),
        ("duplicate", "two readers, two domains", _file('{"domain":"tn",' + compact(BASE)[1:]), (INVALID, "file")),
        ("float", "7.0", _file(compact(BASE).replace('"version":7', '"version":7.0')), (INVALID, "file")),
        ("deep", "400 deep", _file('{"v":' + "[" * 400 + "]" * 400 + "}"), (INVALID, "file")),
    )
    found = [_vector(ident, why, text, verdict[0], verdict[1], *verdict[2:]) for ident, why, text, verdict in table]
    found.append(_vector("long", "at most 8 MiB", [["A", (8 << 20) + 1]], INVALID, "file"))
    return found


def _payloads() -> list[Vector]:
    found = [_vector("array", "an object", _file("[]"), INVALID, "payload")]
    for name in BASE:
        found.append(_wrong(f"{name}-missing", f"every registry has {name}", "payload", **{name: DROP}))
        found.append(_wrong(f"{name}-mistyped", f"{name} of another type", "payload", **{name: None}))
    for ident, why, changes in (
        ("unknown", "no other members", {PLANTED: PLANTED}),
        ("version-true", "true is not 1", {"version": True}),
        ("v-true", "true is not 1", {"v": True}),
        ("v-2", "a later format is not guessed at", {"v": 2}),
        ("version-0", "counted from 1", {"version": 0}),
        ("version-negative", "counted from 1", {"version": -1}),
        ("issued-text", "seconds", {"issued": "2026-10-27"}),
        ("training-1", "1 is not true", {"training": 1}),
        ("domain-long", "two letters", {"domain": "bdi"}),
        ("domain-uppercase", "lower case", {"domain": "BI"}),
    ):
        found.append(_wrong(ident, why, "payload", **changes))
    return found


def _agencies() -> list[Vector]:
    found: list[Vector] = []
    for name in IOM:
        agency = changed(IOM, {name: DROP})
        found.append(_wrong(f"agency-{name}-missing", f"every agency has {name}", "agencies[0].*", agencies=[agency]))
    for ident, why, path, changes in (
        ("unknown", "no other members", "*", {PLANTED: 1}),
        ("id-number", "text", "id", {"id": 5}),
        ("id-uppercase", "lower case", "id", {"id": "bi/IOM"}),
        ("of-another-domain", "a registry says nothing of other domains", "id", {"id": "tn/inlctp"}),
        ("protected-1", "1 is not true", "protected", {"protected": 1}),
        ("direct-1", "1 is not true", "direct", {"direct": 1}),
        ("direct-null", "absent or said", "direct", {"direct": None}),
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
        found.append(_wrong(f"agency-{ident}", why, f"agencies[1].{path}", agencies=[SHELTER, changed(IOM, changes)]))
    found.append(_wrong("agency-text", "an object", "agencies[0].*", agencies=[PLANTED]))
    found.append(_wrong("agency-twice", "each once", "agencies[1].id", agencies=[IOM, IOM | {"keys": []}]))
    shared = [IOM, SHELTER | {"keys": [_key("iom", "sig")]}]
    found.append(_wrong("key-shared", "one key, one agency: else who signed?", "agencies.keys", agencies=shared))
    found.append(
        _wrong("key-twice", "each once", "agencies.keys", agencies=[IOM | {"keys": [IOM["keys"][0], IOM["keys"][0]]}])
    )
    return found


def _keys() -> list[Vector]:
    point = SIGNERS["iom"].public.public
    off_curve = point[:64] + bytes([point[64] ^ 1])
    compressed = bytes([2 + point[64] % 2]) + point[1:33]
    hybrid_form = bytes([6 + point[64] % 2]) + point[1:]
    mlkem = SEALERS["k7t4"].public.public
    beyond_q = b"\xff" * 384 + mlkem[384:]
    found: list[Vector] = []
    for name in _key("iom", "sig"):
        agency = IOM | {"keys": [_key("iom", "sig", **{name: DROP})]}
        found.append(_wrong(f"key-{name}-missing", f"every key has {name}", "agencies[0].keys[0].*", agencies=[agency]))
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
    ):
        agency = IOM | {"keys": [_key("iom", "sig", **changes)]}
        found.append(_wrong(f"key-{ident}", why, f"agencies[0].keys[0].{path}", agencies=[agency]))
    for ident, why, path, key in (
        ("seal-suite-unknown", "one of the two", "suite", _key("k7t4", "seal", suite="0051-0002-0002")),
        ("seal-suite-es256", "a sealing key signs nothing", "suite", _key("k7t4", "seal", suite="ES256")),
        (
            "seal-suite-other",
            "a hybrid key under the classical suite",
            "pub",
            _key("k7t4", "seal", suite="0010-0001-0002"),
        ),
        ("seal-pub-short", "1216 bytes", "pub", _key("k7t4", "seal", pub=b64url(mlkem[:-1]))),
        (
            "seal-pub-beyond-q",
            "FIPS 203 section 7.2: coefficients below q",
            "pub",
            _key("k7t4", "seal", pub=b64url(beyond_q)),
        ),
    ):
        path = f"agencies[0].keys[0].{path}"
        found.append(_wrong(f"key-{ident}", why, path, agencies=[SHELTER | {"keys": [key]}]))
    found.append(_wrong("key-text", "an object", "agencies[0].keys[0].*", agencies=[IOM | {"keys": [PLANTED]}]))
    return found
