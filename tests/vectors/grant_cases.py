# SPDX-License-Identifier: Apache-2.0
"""Grants: the parts' keys sealed to one recipient key, bound to the record and to that key.

HPKE draws its own randomness, so these are made once and then kept: `generate.py` never makes a released one again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from schemas.envelope import Manifest
from schemas.keys import b64url, unb64url
from schemas.sealing import make_grant
from tests.domain import seeded
from tests.vectors.making import DROP, PLANTED, SEALERS, Pieces, Vector, changed, compact, make, vector

RECORD = make("grant-record")
OTHER = make("grant-other-record")
BAD = "record_malformed"
SEALED = ("grant_unopenable", "grant.ct")


def grant_vectors() -> list[Vector]:
    return [*_opening(), *_reading()]


def _info(manifest: Manifest, kid: str) -> bytes:
    """HPKE's info, written out a second time from the description, for what `make_grant` would not seal."""
    lines = ["umuhuza/1 grant", manifest.iss, manifest.to, manifest.topic, manifest.evt, kid]
    return ("\n".join([*lines, *(part.kc for part in manifest.parts)]) + "\n").encode()


def _grant(manifest: Manifest, keys: Mapping[str, bytes], to: str = "k7t4") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(make_grant(manifest, keys, manifest.to, SEALERS[to].public))
    return found


def _with_plaintext(text: str, to: str = "k7t4") -> dict[str, Any]:
    manifest, key = RECORD.manifest(), SEALERS[to].public
    grant = _grant(manifest, RECORD.sealed.keys, to)
    return grant | {"ct": b64url(key.seal(text.encode("utf-8", "surrogatepass"), _info(manifest, key.kid)))}


def _vector(
    ident: str,
    why: str,
    grant: dict[str, Any] | Pieces,
    result: str,
    path: str | None,
    *flags: str,
    opener: str = "k7t4",
    opened: dict[str, str] | None = None,
) -> Vector:
    text = compact(grant) if isinstance(grant, dict) else grant
    planted = [PLANTED] if PLANTED in str(text) else None
    return vector(
        f"grant-{ident}",
        why,
        ["grant", *flags],
        text,
        result,
        path,
        opener=opener,
        opened=opened,
        planted=planted,
    )


def _opening() -> list[Vector]:
    manifest, keys = RECORD.manifest(), dict(RECORD.sealed.keys)
    good = _grant(manifest, keys)
    classical = _grant(manifest, keys, "police")
    content = {"content": keys["content"]}
    ct = unb64url(good["ct"])
    flipped = b64url(ct[:-1] + bytes([ct[-1] ^ 1]))
    enc_flipped = b64url(bytes([ct[0] ^ 1]) + ct[1:])
    classical_ct = unb64url(classical["ct"])
    off_curve = b64url(classical_ct[:64] + bytes([classical_ct[64] ^ 1]) + classical_ct[65:])
    random = seeded("vectors/grant/other-key")(32)
    names = {name: b64url(key) for name, key in keys.items()}
    swapped = replace(manifest, parts=(manifest.parts[0], replace(manifest.parts[1], kc=manifest.parts[0].kc)))
    found = [
        _vector("hybrid", "ML-KEM-768 + X25519", good, "ok", None, "valid", opened=RECORD.keys()),
        _vector("classical", "P-256", classical, "ok", None, "valid", opener="police", opened=RECORD.keys()),
        _vector(
            "content-only",
            "some parts only (disclosure)",
            _grant(manifest, content),
            "ok",
            None,
            "valid",
            opened={"content": RECORD.keys()["content"]},
        ),
        _vector(
            "classical-content-only",
            "some parts only, P-256",
            _grant(manifest, content, "police"),
            "ok",
            None,
            "valid",
            opener="police",
            opened={"content": RECORD.keys()["content"]},
        ),
        _vector(
            "spaced",
            "white space is the writer's business",
            json.dumps(good, indent=1),
            "ok",
            None,
            "valid",
            opened=RECORD.keys(),
        ),
        _vector(
            "recipient-named-otherwise",
            "rcpt says where it is kept; the key decides who opens",
            good | {"rcpt": "bi/police"},
            "ok",
            None,
            "valid",
            opened=RECORD.keys(),
        ),
    ]
    for suite, opener in (("", "k7t4"), ("classical-", "police")):
        for member, other in (
            ("topic", "bi.case.k7t4"),
            ("evt", OTHER.payload["evt"]),
            ("to", "bi/iom"),
            ("iss", "bi/police"),
        ):
            moved: dict[str, Any] = {member: other}
            bound = _grant(replace(manifest, **moved), keys, opener)
            bound |= {"iss": manifest.iss, "evt": manifest.evt}
            found.append(
                _vector(
                    f"{suite}bound-{member}", f"sealed for another {member}", bound, *SEALED, "crypto", opener=opener
                )
            )
        found.append(
            _vector(
                f"{suite}bound-parts",
                "sealed for other commitments",
                _grant(swapped, keys, opener),
                *SEALED,
                "crypto",
                opener=opener,
            )
        )
        kid_moved = _grant(manifest, keys, opener) | {"kid": SEALERS[f"{opener}-next"].kid}
        found.append(
            _vector(
                f"{suite}bound-kid",
                "another key's kid written over it",
                kid_moved,
                *SEALED,
                "crypto",
                opener=f"{opener}-next",
            )
        )
    found += [
        _vector(
            "other-key",
            "opened with the recipient's next key",
            good,
            "grant_unopenable",
            "grant",
            "crypto",
            opener="k7t4-next",
        ),
        _vector(
            "other-recipient", "opened by somebody else", good, "grant_unopenable", "grant", "crypto", opener="police"
        ),
        _vector(
            "suite-downgraded",
            "the message never chooses",
            good | {"suite": "0010-0001-0002"},
            "grant_unopenable",
            "grant",
        ),
        _vector(
            "other-record",
            "the grant of another record",
            _grant(OTHER.manifest(), OTHER.sealed.keys),
            "grant_unopenable",
            "grant",
            "crypto",
        ),
        _vector("ct-tag", "a bit of the tag", good | {"ct": flipped}, *SEALED, "crypto"),
        _vector("ct-enc", "a bit of the encapsulation", good | {"ct": enc_flipped}, *SEALED, "crypto"),
        _vector(
            "ct-off-curve",
            "an encapsulated point off the curve",
            classical | {"ct": off_curve},
            *SEALED,
            "crypto",
            opener="police",
        ),
        _vector("ct-cut", "the last byte missing", good | {"ct": b64url(ct[:-1])}, *SEALED, "crypto"),
        _vector("ct-short", "shorter than an encapsulation", good | {"ct": "AAAA"}, *SEALED, "crypto"),
        _vector("ct-empty", "nothing", good | {"ct": ""}, *SEALED, "crypto"),
        _vector(
            "commitment",
            "a key that is not the committed one",
            _grant(manifest, keys | {"content": random}),
            "key_commitment_mismatch",
            "L1.parts[1].kc",
            "crypto",
        ),
        _vector(
            "commitment-swapped",
            "the two keys changed places",
            _grant(manifest, {"identity": keys["content"], "content": keys["identity"]}),
            "key_commitment_mismatch",
            "L1.parts[0].kc",
            "crypto",
        ),
        _vector(
            "classical-commitment",
            "a key that is not the committed one, P-256",
            _grant(manifest, keys | {"content": random}, "police"),
            "key_commitment_mismatch",
            "L1.parts[1].kc",
            "crypto",
            opener="police",
        ),
        _vector("key-31", "a key of 31 bytes", _grant(manifest, keys | {"content": random[:31]}), *SEALED),
        _vector("key-33", "a key of 33 bytes", _grant(manifest, keys | {"content": random + b"\0"}), *SEALED),
        _vector(
            "key-unknown-part",
            "a key for a part that is not there",
            _grant(manifest, {**keys, "photo": random}),
            *SEALED,
        ),
    ]
    first = names["content"]
    for ident, why, text in (
        ("inside-nothing", "no keys at all", ""),
        ("inside-empty", "a grant of nothing", "{}"),
        ("inside-array", "an object", f'["{first}"]'),
        ("inside-number", "text", '{"content":5}'),
        ("inside-padded", "without padding", f'{{"content":"{first}="}}'),
        ("inside-duplicate", "two readers, two keys", f'{{"content":"{names["identity"]}","content":"{first}"}}'),
        ("inside-garbage", "JSON", PLANTED),
        ("inside-nested", "flat", f'{{"content":{{"key":"{first}"}}}}'),
    ):
        found.append(_vector(ident, why, _with_plaintext(text), *SEALED))
    return found


def _reading() -> list[Vector]:
    good = _grant(RECORD.manifest(), RECORD.sealed.keys)
    found: list[Vector] = []
    for name in good:
        result = "version_unsupported" if name == "v" else BAD
        for label, value in (("missing", DROP), ("mistyped", [PLANTED])):
            found.append(
                _vector(
                    f"{name}-{label}", f"every grant has {name}", changed(good, {name: value}), result, f"grant.{name}"
                )
            )
    text = compact(good)
    ct = good["ct"]
    table: tuple[tuple[str, str, dict[str, Any] | Pieces, str, str], ...] = (
        ("unknown", "no other members", good | {PLANTED: PLANTED}, BAD, "grant.*"),
        ("version-2", "a later version is not guessed at", good | {"v": 2}, "version_unsupported", "grant.v"),
        ("version-true", "true is not 1", good | {"v": True}, "version_unsupported", "grant.v"),
        ("suite-unknown", "not one of the two", good | {"suite": "ffff-0011-0002"}, BAD, "grant.suite"),
        ("suite-p384", "registered, but not one of the two", good | {"suite": "0051-0002-0002"}, BAD, "grant.suite"),
        ("suite-uppercase", "one spelling only", good | {"suite": "647A-0011-0002"}, BAD, "grant.suite"),
        ("suite-export-only", "no encryption at all", good | {"suite": "647a-0011-ffff"}, BAD, "grant.suite"),
        ("ct-padded", "without padding", good | {"ct": ct + "=" * (-len(ct) % 4 or 1)}, BAD, "grant.ct"),
        ("ct-space", "white space inside", good | {"ct": ct[:9] + " " + ct[9:]}, BAD, "grant.ct"),
        (
            "ct-standard-alphabet",
            "- and _, not + and /",
            good | {"ct": ct.replace("-", "+").replace("_", "/")},
            BAD,
            "grant.ct",
        ),
        ("kid-short", "22 characters", good | {"kid": good["kid"][:-1]}, BAD, "grant.kid"),
        ("rcpt-uppercase", "lower case only", good | {"rcpt": "bi/K7T4"}, BAD, "grant.rcpt"),
        ("evt-v4", "only UUIDv7", good | {"evt": "019f0000-0000-4000-8000-000000000001"}, BAD, "grant.evt"),
        ("duplicate", "two readers, two values", text.replace('"v":1,', '"v":1,"v":1,'), BAD, "grant"),
        ("array", "an object", "[]", BAD, "grant"),
        ("not-json", "JSON", PLANTED, BAD, "grant"),
        ("nothing", "JSON", "", BAD, "grant"),
        ("deep", "flat", '{"v":' + "[" * 400 + "]" * 400 + "}", BAD, "grant"),
        ("not-ascii", "Latin-1", '{"v":"\xe9"}', BAD, "grant"),
        ("long", "at most 16 KiB", [text, [" ", 16_385]], "too_large", "grant"),
    )
    return found + [_vector(ident, why, grant, result, path) for ident, why, grant, result, path in table]
