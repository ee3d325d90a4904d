# SPDX-License-Identifier: Apache-2.0
"""Evidence of a gateway's promise: what proves that one record was promised to the log, and what only looks like it.

Promises are put together by hand and, unless said otherwise, rightly signed: it is the gateway, or who hands the
evidence on, that errs or lies.
"""

from __future__ import annotations

import json
from typing import Any

from schemas.keys import b64url, signature_twin, unb64url
from tests.vectors.making import DROP, SIGNERS, Payload, Pieces, Vector, changed, compact, segment, vector
from topics.proofs import leaf_hash, levels, path_in

TYP = "umuhuza-promise+jws"
LINES: list[list[Any]] = [
    ["01a17720-ca00-7e79-8f06-d23289ff5558", "FC0xHKJb44ptTR21BxS7pbmbd_NjE9gGXG7oPV5ryKM", "bi.referral.k7t4", 7],
    ["01a17720-ca00-7546-86d0-b965db4aa1f5", "8MqeSbJODRHTwuGAjFmEe8a_KSP76Je8gLgf701Yr9I", "bi.referral.k7t4", 8],
    [
        "01a17720-ca01-7546-86d0-b965db4aa1f6",
        "I_JiU1GRc1C1XEfWTRHF5jiRS1kscrCxhzwdn2d78ew",
        "bi.receipt.iom",
        4_503_599,
    ],
    [
        "01a17720-ca02-7546-86d0-b965db4aa1f7",
        "Sk8vyGGZq9y5Evv2evYuM8h1iTvvqjwLLpiErWvcUGA",
        "bi.case.min-solidarity",
        0,
    ],
    ["01a17720-ca03-7546-86d0-b965db4aa1f8", "q41o3nNW-s-rfILJr1L1lxxpxurCdqGpQZTMUZx7RKw", "bi.rights.r5w2", 12],
]
"""Five records promised at once: event, digest, topic, offset."""
BAD, ROOT = "record_malformed", "root_mismatch"


def _tree(count: int) -> list[list[bytes]]:
    return levels([leaf_hash(compact(line).encode()) for line in LINES[:count]])


def _payload(count: int) -> Payload:
    root = b64url(_tree(count)[-1][0])
    return {"v": 1, "iss": "bi/operator", "at": 1_793_000_000, "origin": "bi.umuhuza/log", "root": root, "n": count}


def _promise(count: int = 5, header: Payload | None = None, signer: str = "gateway", **changes: Any) -> str:
    key = SIGNERS[signer]
    head = {"alg": "ES256", "kid": key.kid, "typ": TYP} if header is None else header
    signed = f"{segment(compact(head))}.{segment(compact(changed(_payload(count), changes)))}"
    return f"{signed}.{b64url(key.sign(signed.encode()))}"


def _evidence(index: int = 0, count: int = 5, promise: str | None = None, **changes: Any) -> str:
    evt, digest, topic, offset = LINES[index]
    members = {
        "evt": evt,
        "l1_sha256": digest,
        "topic": topic,
        "offset": offset,
        "index": index,
        "path": [b64url(node) for node in path_in(_tree(count), index)],
        "promise": _promise(count) if promise is None else promise,
    }
    return compact(changed(members, changes))


def _vector(ident: str, why: str, value: Pieces, result: str, path: str | None, *flags: str, **more: Any) -> Vector:
    return vector(
        f"evidence-{ident}", why, ["evidence", *flags], value, result, path, key="gateway", domain="bi", **more
    )


def evidence_vectors() -> list[Vector]:
    return [*_valid(), *_promises(), *_lines(), *_shapes()]


def _valid() -> list[Vector]:
    def good(ident: str, why: str, value: str, index: int) -> Vector:
        return _vector(ident, why, value, "ok", None, "valid", line=LINES[index])

    own = _promise()
    head, _, signature = own.rpartition(".")
    twin = f"{head}.{b64url(signature_twin(unb64url(signature)))}"
    spaced = json.dumps(dict(reversed(json.loads(_evidence(1)).items())), indent=2) + "\n"
    return [
        good("alone", "the only record of its request: an empty path", _evidence(count=1), 0),
        *(
            good(f"of-five-{index}", "one of five records: an odd tree", _evidence(index), index)
            for index in range(len(LINES))
        ),
        good("signature-twin", "the other signature that anybody can make: (r, n-s)", _evidence(promise=twin), 0),
        good("spaced", "white space and another order of members say nothing", spaced, 1),
    ]


def _promises() -> list[Vector]:
    own = _promise()
    header, payload, signature = own.split(".")
    flipped = b64url(bytes([unb64url(signature)[0] ^ 1]) + unb64url(signature)[1:])
    kid = SIGNERS["gateway"].kid
    later = segment(compact(_payload(5) | {"at": 1_793_000_001}))
    forbidden = "header_forbidden"

    def one(ident: str, why: str, promise: str, result: str, path: str, *flags: str) -> Vector:
        return _vector(f"promise-{ident}", why, _evidence(promise=promise), result, path, *flags)

    def header_is(ident: str, why: str, head: Payload, path: str) -> Vector:
        return one(ident, why, _promise(header=head), forbidden, path)

    right = {"alg": "ES256", "kid": kid, "typ": TYP}
    return [
        one("other-key", "signed by an agency, not by the gateway", _promise(signer="iom"), *_INVALID),
        one("bit", "one bit of the signature", f"{header}.{payload}.{flipped}", *_INVALID),
        one("changed", "another time than was signed", f"{header}.{later}.{signature}", *_INVALID),
        one("short-signature", "a signature of 63 bytes", f"{header}.{payload}.{signature[:84]}", *_INVALID),
        one("two-segments", "no signature at all", f"{header}.{payload}", BAD, "promise"),
        one("four-segments", "a segment too many", f"{own}.", BAD, "promise"),
        one("padded", "a signature with padding", f"{own}==", BAD, "promise"),
        one("long", "longer than 4,096 characters", f"{own}{'A' * 4096}", BAD, "promise"),
        one("header-none", "a header that is no JSON", f"AAAA.{payload}.{signature}", BAD, "L1.header"),
        header_is(
            "typ",
            "an event's header: what is signed as an event is no promise",
            right | {"typ": "umuhuza-event+jws"},
            "L1.header.typ",
        ),
        header_is("alg", "another algorithm", right | {"alg": "EdDSA"}, "L1.header.alg"),
        header_is("jwk", "a key that comes along", right | {"jwk": {}}, "L1.header.*"),
        header_is("no-kid", "no key named", {"alg": "ES256", "typ": TYP}, "L1.header.kid"),
        *(
            one(f"{name}-{number}", why, _promise(**{name: value}), result, "promise")
            for number, (name, value, why, result) in enumerate(
                [
                    ("v", 2, "another version", BAD),
                    ("v", True, "true is not 1", BAD),
                    ("v", DROP, "no version", BAD),
                    ("at", "1793000000", "a time as text", BAD),
                    ("n", True, "true is not a number of records", BAD),
                    ("root", "AAAA", "a root of three bytes", BAD),
                    ("root", _payload(5)["root"] + "=", "a root with padding", BAD),
                    ("more", 1, "an unknown member", BAD),
                    ("origin", "tn.umuhuza/log", "a promise for another country's ledger", ROOT),
                    ("n", 0, "no records at all", ROOT),
                    ("n", 1001, "more records than a request can have", ROOT),
                    ("n", 9, "another number of records than the root is over", ROOT),
                    ("root", b64url(bytes(32)), "another root", ROOT),
                    ("origin", "bi.umuhuza/log1", "a name that no ledger has: the first has no number", ROOT),
                ]
            )
        ),
    ]


_INVALID = ("signature_invalid", "promise", "crypto")


def _lines() -> list[Vector]:
    path = json.loads(_evidence())["path"]

    def wrong(ident: str, why: str, **changes: Any) -> Vector:
        return _vector(ident, why, _evidence(**changes), ROOT, "promise", "crypto")

    return [
        wrong("other-event", "another event than was promised", evt=LINES[1][0]),
        wrong("other-digest", "another record than was promised", l1_sha256=LINES[1][1]),
        wrong("other-topic", "another mailbox than was promised", topic="bi.case.k7t4"),
        wrong("other-offset", "another place than was promised", offset=8),
        wrong("other-line", "the next record's path", path=json.loads(_evidence(1))["path"]),
        _vector(
            "index-next",
            "another place under the root",
            _evidence(1).replace('"index":1', '"index":0'),
            ROOT,
            "promise",
            "crypto",
        ),
        _vector(
            "index-beyond",
            "a place that the tree does not have",
            _evidence().replace('"index":0', '"index":5'),
            ROOT,
            "promise",
        ),
        _vector(
            "index-negative",
            "a place before the first",
            _evidence().replace('"index":0', '"index":-1'),
            ROOT,
            "promise",
        ),
        wrong("path-short", "the last node is missing", path=path[:-1]),
        wrong("path-long", "a node too many", path=[*path, path[0]]),
        wrong("path-swapped", "two nodes in the other order", path=[path[1], path[0], *path[2:]]),
        wrong("path-node-short", "a node of 31 bytes", path=[b64url(bytes(31)), *path[1:]]),
        wrong("path-node-padded", "a node with padding", path=[path[0] + "=", *path[1:]]),
        wrong("path-node-number", "a node that is no text", path=[0, *path[1:]]),
    ]


def _shapes() -> list[Vector]:
    good = _evidence()

    def bad(ident: str, why: str, value: Pieces, *flags: str) -> Vector:
        return _vector(ident, why, value, BAD, "evidence", *flags)

    return [
        bad("empty", "nothing", ""),
        bad("list", "no object", "[]"),
        bad("unknown", "an unknown member", good[:-1] + ',"more":1}'),
        bad("missing", "no offset", _evidence(offset=DROP)),
        bad("offset-text", "an offset as text", _evidence(offset="7")),
        bad("offset-true", "true is not an offset", _evidence(offset=True)),
        bad("offset-fraction", "a fraction", good.replace('"offset":7', '"offset":7.0')),
        bad("offset-exponent", "an exponent", good.replace('"offset":7', '"offset":7e0')),
        bad("offset-minus-zero", "minus zero", good.replace('"offset":7', '"offset":-0')),
        bad("offset-large", "beyond 2^53-1", good.replace('"offset":7', '"offset":9007199254740992')),
        bad("twice", "a member twice", good[:-1] + ',"offset":7}'),
        bad("twice-escaped", "a member twice, once escaped", good[:-1] + ',"\\u006fffset":7}'),
        bad("path-text", "a path as text", _evidence(path="")),
        bad("path-null", "no path", _evidence(path=None)),
        bad("deep", "deeper than the structure needs", _evidence(path=[[[]]])),
        bad("bom", "a byte order mark", "\xef\xbb\xbf" + good),
        bad("utf-8", "no UTF-8", good.replace("bi.referral", "bi.r\xe9ferral")),
        bad("surrogate", "half of a pair", good.replace("bi.referral", "bi.\\ud800")),
        bad("control", "a control character in a text", good.replace("bi.referral", "bi.\n")),
        bad("trailing", "more after the end", good + "}"),
        bad("large", "larger than 16 KiB", [good, [" ", 16_384]]),
    ]
