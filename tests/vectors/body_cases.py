# SPDX-License-Identifier: Apache-2.0
"""Bodies: parts that are not the ones signed, that say something in clear, that show their size, or do not open.

Every manifest here is rightly signed, and but for two the digests are right: it is the issuer itself that errs or lies.
"""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.envelope import PART_TYP
from schemas.keys import b64url, unb64url
from tests.domain import seeded
from tests.vectors.making import (
    DROP,
    ISS,
    PLANTED,
    Made,
    Payload,
    Vector,
    changed,
    compact,
    line1,
    make,
    record_vector,
    resealed,
    segment,
)

BASE = make("body-base")
REQUEST = make("body-request", "request", {"identity": "{}", "content": "{}"})
ANSWER = make("body-answer", "answer", {"identity": "", "content": "{}"})
OTHER = make("body-other")
BAD = "record_malformed"


def body_vectors() -> list[Vector]:
    return [*_digests(), *_headers(), *_shapes(), *_sizes(), *_opening()]


def _header(made: Made, name: str, **changes: Any) -> Payload:
    kid = f"{made.payload['iss']}/{made.payload['evt']}/{name}"
    return changed({"alg": "dir", "enc": "A256GCM", "kid": kid, "typ": PART_TYP}, changes)


def _part(made: Made, name: str, size: int, header: Payload | str | None = None, iv_size: int = 12) -> str:
    """A part of `size` plaintext bytes under its real key, rightly encrypted with whatever header."""
    head = _header(made, name) if header is None else header
    first = segment(head if isinstance(head, str) else compact(head))
    iv = seeded(f"vectors/iv/{made.payload['evt']}/{name}")(iv_size)
    sealed = AESGCM(made.sealed.keys[name]).encrypt(iv, b"{}".ljust(size), first.encode())
    return f"{first}..{b64url(iv)}.{b64url(sealed[:-16])}.{b64url(sealed[-16:])}"


def _vector(
    ident: str, why: str, value: Any, result: str, path: str | None, made: Made, *flags: str, **more: Any
) -> Vector:
    return record_vector(f"body-{ident}", why, ["body", *flags], value, result, path, made=made, **more)


def _digests() -> list[Vector]:
    one, two = BASE.body.split("~")
    parts = BASE.payload["parts"]
    other = OTHER.body.split("~")[1]
    longer = [parts[0], parts[1] | {"len": parts[1]["len"] + 1}]
    first = line1(BASE.payload)
    at = len(two) // 2
    touched = two[:at] + ("A" if two[at] != "A" else "B") + two[at + 1 :]
    mismatch = "part_digest_mismatch"
    return [
        _vector(
            "swapped", "content where identity was signed", f"{first}\n{two}~{one}", mismatch, "L2[0]", BASE, "crypto"
        ),
        _vector("twice", "the same part twice", f"{first}\n{one}~{one}", mismatch, "L2[1]", BASE, "crypto"),
        _vector(
            "one-character",
            "one character changed on the way",
            f"{first}\n{one}~{touched}",
            mismatch,
            "L2[1]",
            BASE,
            "crypto",
        ),
        _vector("of-another", "another record's content", f"{first}\n{one}~{other}", mismatch, "L2[1]", BASE, "crypto"),
        _vector("cut", "the last character missing", f"{first}\n{one}~{two[:-1]}", mismatch, "L2[1]", BASE, "crypto"),
        _vector("len", "another length than stated", BASE.value(parts=longer), mismatch, "L2[1]", BASE, "crypto"),
        _vector(
            "digest",
            "another digest than stated",
            BASE.value(parts=[parts[0], parts[1] | {"sha256": b64url(hashlib.sha256(b"x").digest())}]),
            mismatch,
            "L2[1]",
            BASE,
            "crypto",
        ),
    ]


def _headers() -> list[Vector]:
    content = BASE.body.split("~")[1]
    forbidden = ("header_forbidden", "L2[0].header")
    evt = BASE.payload["evt"]
    kid = f"{ISS}/{evt}/identity"
    table: tuple[tuple[str, str, tuple[str, str], Payload | str], ...] = (
        ("header-unknown", "a name in clear", forbidden, _header(BASE, "identity", **{PLANTED: PLANTED})),
        ("header-zip", "compressed sizes tell", forbidden, _header(BASE, "identity", zip="DEF")),
        ("header-cty", "even a harmless one", forbidden, _header(BASE, "identity", cty="json")),
        (
            "header-alg",
            "an encrypted key inside could not be erased",
            forbidden,
            _header(BASE, "identity", alg="A256KW"),
        ),
        ("header-enc", "a weaker cipher", forbidden, _header(BASE, "identity", enc="A128GCM")),
        ("header-typ", "another type", forbidden, _header(BASE, "identity", typ="JWE")),
        ("header-typ-missing", "always there", forbidden, _header(BASE, "identity", typ=DROP)),
        (
            "header-kid-evt",
            "of another event",
            forbidden,
            _header(BASE, "identity", kid=f"{ISS}/{OTHER.payload['evt']}/identity"),
        ),
        ("header-kid-part", "of another part", forbidden, _header(BASE, "identity", kid=f"{ISS}/{evt}/content")),
        ("header-kid-issuer", "of another issuer", forbidden, _header(BASE, "identity", kid=f"bi/k7t4/{evt}/identity")),
        ("header-kid-missing", "always there", forbidden, _header(BASE, "identity", kid=DROP)),
        ("header-array", "an object", forbidden, f'["{PLANTED}"]'),
        ("header-not-json", "JSON", (BAD, "L2[0].header"), PLANTED),
        (
            "header-duplicate",
            "two readers, two ciphers",
            (BAD, "L2[0].header"),
            f'{{"alg":"dir","enc":"A128GCM","enc":"A256GCM","kid":"{kid}","typ":"{PART_TYP}"}}',
        ),
    )
    found = [
        _vector(
            ident,
            why,
            resealed(BASE, [_part(BASE, "identity", 1024, header), content]),
            *verdict,
            BASE,
            planted=[PLANTED] if PLANTED in str(header) else [],
        )
        for ident, why, verdict, header in table
    ]
    ordered = dict(reversed(_header(BASE, "identity").items()))
    made = Made(BASE.payload, BASE.sealed, {"identity": "{}", "content": BASE.plaintexts["content"]})
    spaced = _part(BASE, "identity", 1024, compact(ordered).replace(",", " , "))
    found.append(
        _vector(
            "header-spaced",
            "white space and member order are the writer's business",
            resealed(BASE, [spaced, content]),
            "ok",
            None,
            made,
            "valid",
        )
    )
    return found


def _shapes() -> list[Vector]:
    one, two = BASE.body.split("~")
    header, _, iv, ciphertext, tag = one.split(".")
    at = (BAD, "L2[0]")
    bits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    def loosened(text: str) -> str:
        return text[:-1] + bits[bits.index(text[-1]) + 1]

    table = (
        ("encrypted-key", "dir has no encrypted key", at, [header, "A" * 43, iv, ciphertext, tag]),
        ("four-segments", "five", at, [header, iv, ciphertext, tag]),
        ("six-segments", "five", at, [header, "", iv, ciphertext, tag, tag]),
        ("iv-empty", "12 bytes", at, [header, "", "", ciphertext, tag]),
        ("tag-short", "128 bits: a 96-bit tag is easier to forge", at, [header, "", iv, ciphertext, tag[:16]]),
        ("tag-trailing-bits", "bits beyond 128", at, [header, "", iv, ciphertext, loosened(tag)]),
        ("ciphertext-trailing-bits", "bits beyond the last byte", at, [header, "", iv, loosened(ciphertext), tag]),
        ("ciphertext-empty", "nothing", at, [header, "", iv, "", tag]),
        ("header-empty", "nothing", (BAD, "L2[0].header"), ["", "", iv, ciphertext, tag]),
        ("header-length", "no base64url", (BAD, "L2[0].header"), ["A", "", iv, ciphertext, tag]),
    )
    found = [
        _vector(ident, why, resealed(BASE, [".".join(segments), two]), *verdict, BASE)
        for ident, why, verdict, segments in table
    ]
    for size in (11, 13, 16):
        value = resealed(BASE, [_part(BASE, "identity", 1024, iv_size=size), two])
        found.append(_vector(f"iv-{size}", f"an iv of {size} bytes", value, *at, BASE))
    return found


def _sizes() -> list[Vector]:
    one, two = BASE.body.split("~")
    r_one, r_two = REQUEST.body.split("~")
    a_one, a_two = ANSWER.body.split("~")
    found = [
        _vector(
            f"size-{size}",
            "a size of its own tells",
            resealed(BASE, [_part(BASE, "identity", size), two]),
            BAD,
            "L2[0]",
            BASE,
        )
        for size in (1, 1023, 1025, 2048, 4095, 8192)
    ]
    found += [
        _vector(
            "size-small-identity",
            "1 KiB in a request: nobody named",
            resealed(REQUEST, [_part(REQUEST, "identity", 1024), r_two]),
            BAD,
            "L2[0]",
            REQUEST,
        ),
        _vector(
            "size-small-content",
            "1 KiB in a request",
            resealed(REQUEST, [r_one, _part(REQUEST, "content", 1024)]),
            BAD,
            "L2[1]",
            REQUEST,
        ),
        _vector(
            "size-small-answer",
            "an answer's content: a yes and a no look alike",
            resealed(ANSWER, [a_one, _part(ANSWER, "content", 1024)]),
            BAD,
            "L2[1]",
            ANSWER,
        ),
        _vector(
            "size-small-update",
            "1 KiB in an update",
            BASE.value(kind="update"),
            BAD,
            "L2[0]",
            BASE,
        ),
        _total(),
    ]
    return found


def _total() -> Vector:
    """256 + 256 + 64 + 64 + 16 KiB, all of them zeros: nobody needs to open them."""
    made = make("body-total", "request", {"identity": "", "content": "", "a1": "", "a2": "", "a3": ""})
    sizes = dict(zip(made.plaintexts, (262_144, 262_144, 65_536, 65_536, 16_384), strict=True))
    parts: list[Payload] = []
    pieces: list[Any] = []
    for part in made.payload["parts"]:
        head = f"{segment(compact(_header(made, part['name'])))}..{'A' * 16}."
        zeros, tail = -(-sizes[part["name"]] * 4 // 3), "." + "A" * 22
        text = head + "A" * zeros + tail
        parts.append(part | {"sha256": b64url(hashlib.sha256(text.encode()).digest()), "len": len(text)})
        pieces += ["~" + head if pieces else head, ["A", zeros], tail]
    value = [line1(changed(made.payload, {"parts": parts})) + "\n", *pieces]
    return record_vector("body-size-total", "more than 640 KiB together", ["body"], value, "too_large", "L2")


def _opening() -> list[Vector]:
    one, two = BASE.body.split("~")
    header, _, iv, ciphertext, tag = two.split(".")
    flip = unb64url(tag)
    wrong_tag = b64url(bytes([flip[0] ^ 1]) + flip[1:])
    stolen = OTHER.body.split("~")[1].split(".")
    wrong_key = BASE.keys() | {"content": b64url(seeded("vectors/another key")(32))}
    at = ("part_unopenable", "L2[1]")
    part = BASE.payload["parts"][1]["name"]
    assert part == "content"
    return [
        _vector(
            "tag",
            "a bit of the tag, signed all the same",
            resealed(BASE, [one, f"{header}..{iv}.{ciphertext}.{wrong_tag}"]),
            *at,
            BASE,
            "crypto",
        ),
        _vector("key", "another key", BASE.value(), *at, BASE, "crypto", keys=wrong_key),
        _vector(
            "key-other-part",
            "identity's key for content",
            BASE.value(),
            *at,
            BASE,
            "crypto",
            keys=BASE.keys() | {"content": BASE.keys()["identity"]},
        ),
        _vector(
            "stolen",
            "another record's ciphertext under one's own header and signature, with its key",
            resealed(BASE, [one, ".".join([header, "", *stolen[2:]])]),
            *at,
            BASE,
            "crypto",
            keys=BASE.keys() | {"content": OTHER.keys()["content"]},
        ),
    ]
