# SPDX-License-Identifier: Apache-2.0
"""Records whose manifest, header, signature or lines are right, and above all those in which they are wrong."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from schemas.keys import b64url, signature_twin, unb64url
from tests.domain import NOW
from tests.vectors.grant_cases import RECORD as GRANTED
from tests.vectors.making import (
    DROP,
    ISS,
    PLANTED,
    SIGNERS,
    Payload,
    Vector,
    changed,
    compact,
    jws_header,
    line1,
    make,
    record_vector,
    segment,
)

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BASE = make("record-base")
HASH = b64url(hashlib.sha256(b"an earlier manifest").digest())
OTHER_EVT = "019f0000-0000-7000-8000-000000000001"
BAD, FORBIDDEN = "record_malformed", "header_forbidden"


def record_vectors() -> list[Vector]:
    return [*_valid(), *_members(), *_values(), *_headers(), *_encodings(), *_json(), *_lines(), *_signatures()]


def _wrong(ident: str, why: str, path: str, result: str = BAD, *, flag: str = "manifest", **changes: Any) -> Vector:
    """The base record, correctly signed, with members changed."""
    return record_vector(ident, why, [flag], BASE.value(**changes), result, path, planted=_planted(changes))


def _planted(value: Any) -> list[str]:
    return [PLANTED] if PLANTED in json.dumps(value, default=str) else []


def _text(ident: str, why: str, path: str, find: str, put: str, result: str = BAD, flag: str = "json") -> Vector:
    """The base record with its payload's text changed before signing."""
    text = compact(BASE.payload)
    assert text.count(find) == 1, ident
    payload = text.replace(find, put)
    value = f"{line1(payload.encode('utf-8', 'surrogatepass'))}\n{BASE.body}"
    return record_vector(ident, why, [flag], value, result, path, planted=_planted(put))


# ---------------------------------------------------------------------------------------------------------------------


def _valid() -> list[Vector]:
    cases = [
        (
            "record-request",
            "a request with a deadline, identity and content",
            make(
                "record-request",
                "request",
                {"identity": '{"name":"Aline (inventée)"}', "content": '{"type":"referral.requested"}'},
                answer_by=NOW + 86_400,
            ),
        ),
        (
            "record-answer",
            "an answer to it: the empty identity is 1 KiB, the content 4 KiB",
            make(
                "record-answer",
                "answer",
                {"identity": "", "content": '{"type":"referral.accepted"}'},
                ref=OTHER_EVT,
                seq=2,
                prev=HASH,
            ),
        ),
        (
            "record-update",
            "an update",
            make("record-update", "update", {"identity": "", "content": '{"type":"service.provided"}'}),
        ),
        ("record-control", "a control record: both parts 1 KiB", BASE),
        ("record-granted", "the record whose grants are in grants.json, the example of docs/wire-format.md", GRANTED),
        (
            "record-arabic",
            "text in Arabic and Kirundi, outside and beside the basic plane",
            make(
                "record-arabic",
                "request",
                {
                    "identity": '{"name":"مريم (اسم مخترع)"}',
                    "content": '{"note":"Murakoze, تمّ الاستقبال 🏠"}',
                },
            ),
        ),
        (
            "record-voids",
            "names earlier records that will never come",
            make("record-voids", seq=9, prev=HASH, voids=[3, 7, 8]),
        ),
        (
            "record-acts",
            "makes gateways delete two events' grants",
            make("record-acts", acts={"erase": [f"{ISS}/{OTHER_EVT}", f"bi/k7t4/{OTHER_EVT}"]}),
        ),
        (
            "record-acts-grant",
            "its grants are for an earlier event too",
            make("record-acts-grant", acts={"grant": [f"{ISS}/{OTHER_EVT}"]}),
        ),
        ("record-training", "a training record", make("record-training", training=True)),
        (
            "record-agreement",
            "under an agreement, to another domain",
            make("record-agreement", to="tn/inlctp", topic="tn.bilateral.inlctp", agreement="bi-tn-2026"),
        ),
        (
            "record-to-oneself",
            "an issuer may write to its own mailbox (an expiry)",
            make("record-to-oneself", to=ISS, topic="bi.referral.iom"),
        ),
        (
            "record-attachment",
            "a third part",
            make(
                "record-attachment",
                "request",
                {"identity": "{}", "content": "{}", "attachment-1": "%PDF-1.7 inventé"},
            ),
        ),
        (
            "record-32-parts",
            "as many parts as there may be",
            make("record-32-parts", plaintexts={"identity": "", "content": "{}"} | {f"a{i}": "x" for i in range(30)}),
        ),
        (
            "record-numbers-at-their-ends",
            "2^53-1 is still an integer that every reader keeps",
            make("record-numbers-at-their-ends", seq=2**53 - 1, prev=HASH, iat=1, reg=0),
        ),
        (
            "record-largest",
            "640 KiB of padded parts: 256 + 256 + 64 + 64",
            make(
                "record-largest",
                "request",
                {
                    "identity": "i" * 262_144,
                    "content": "c" * 262_144,
                    "a1": "1" * 65_536,
                    "a2": "2" * 65_536,
                },
            ),
        ),
    ]
    found = [record_vector(ident, why, ["valid"], made.value(), "ok", None, made=made) for ident, why, made in cases]

    spaced = json.dumps(BASE.payload, indent=1)
    found.append(
        record_vector(
            "record-spaced",
            "white space and another member order inside of the JSON are the writer's business",
            ["valid"],
            f"{line1(spaced, compact(dict(reversed(jws_header(SIGNERS['iom'].kid).items()))))}\n{BASE.body}",
            "ok",
            None,
            made=BASE,
        )
    )
    limit = 8192
    room = unb64_room(limit)
    found.append(
        record_vector(
            "record-longest-manifest",
            "L1 of exactly 8 KiB",
            ["valid", "size"],
            f"{line1(compact(BASE.payload).ljust(room))}\n{BASE.body}",
            "ok",
            None,
            made=BASE,
        )
    )
    twin = line1(BASE.payload)
    signed, _, signature = twin.rpartition(".")
    found.append(
        record_vector(
            "record-signature-twin",
            "(r, n-s) is valid too, and anyone can make it: the same record, because the digest is the same",
            ["valid", "signature"],
            f"{signed}.{b64url(signature_twin(unb64url(signature)))}\n{BASE.body}",
            "ok",
            None,
            made=BASE,
        )
    )
    return found


def unb64_room(limit: int) -> int:
    """How long a payload makes L1 exactly `limit` bytes: four characters for every three bytes."""
    header, _, signature = line1(BASE.payload).split(".")
    characters = limit - len(header) - len(signature) - 2
    assert characters % 4 != 1
    return characters * 3 // 4


def _members() -> list[Vector]:
    found: list[Vector] = []
    for name in BASE.payload:
        result = "version_unsupported" if name == "v" else BAD
        found.append(
            _wrong(f"manifest-{name}-missing", f"every record has {name}", f"L1.{name}", result, **{name: DROP})
        )
        wrong: Any = [PLANTED] if isinstance(BASE.payload[name], str) else PLANTED
        if name == "prev":
            wrong = None
        found.append(
            _wrong(f"manifest-{name}-mistyped", f"{name} of another type", f"L1.{name}", result, **{name: wrong})
        )
    for name in ("acts", "training", "ref", "voids", "answer_by", "agreement"):
        values: dict[str, Any] = {"mistyped": [PLANTED] if name in ("ref", "agreement") else PLANTED, "null": None}
        for label, value in values.items():
            path = f"L1.{name}" + ("[0]" if isinstance(value, list) and name == "voids" else "")
            found.append(_wrong(f"manifest-{name}-{label}", f"{name} is optional, not free", path, **{name: value}))
    found.append(
        _wrong("manifest-unknown", "unknown members could carry a name in clear", "L1.*", **{PLANTED: PLANTED})
    )
    part = BASE.payload["parts"][0]
    second = BASE.payload["parts"][1]
    for name in part:
        for label, other in (("missing", DROP), ("mistyped", [PLANTED])):
            found.append(
                _wrong(
                    f"part-{name}-{label}",
                    f"every part has {name}, and as it should be",
                    f"L1.parts[0].{name}",
                    parts=[changed(part, {name: other}), second],
                )
            )
    found.append(
        _wrong("part-unknown", "no other members in a part", "L1.parts[0].*", parts=[part | {PLANTED: 1}, second])
    )
    extra = part | {"name": "a"}
    noncanonical = HASH[:-1] + "B"
    many = [part, second, *({**part, "name": f"a{i}"} for i in range(31))]
    for ident, why, path, parts in (
        ("parts-empty", "identity and content are always there", "L1.parts", []),
        ("parts-one", "content is always there", "L1.parts", [part]),
        ("parts-order", "identity comes first", "L1.parts", [second, part]),
        ("parts-other-names", "the first two are identity and content", "L1.parts", [part, extra]),
        ("parts-33", "at most 32 parts", "L1.parts", many),
        ("parts-not-objects", "a part is an object", "L1.parts[1]", [part, PLANTED]),
        ("parts-object", "parts is an array", "L1.parts", {"identity": part}),
        ("parts-same-name", "each name once", "L1.parts[2].name", [part, second, second]),
        ("part-name-uppercase", "names are lower case", "L1.parts[2].name", [part, second, part | {"name": "Photo"}]),
        (
            "part-name-long",
            "names have at most 31 characters",
            "L1.parts[2].name",
            [part, second, part | {"name": "a" * 32}],
        ),
        ("part-name-newline", "LF is no part of a name", "L1.parts[2].name", [part, second, part | {"name": "a\n"}]),
        (
            "part-name-smuggling",
            "a name that looks like three parts' members joined",
            "L1.parts[1].name",
            [part, second | {"name": f"content\n{HASH}\n{HASH}\nx"}],
        ),
        ("part-name-empty", "a part has a name", "L1.parts[2].name", [part, second, part | {"name": ""}]),
        ("part-len-zero", "no part is empty", "L1.parts[0].len", [part | {"len": 0}, second]),
        ("part-len-negative", "a length is positive", "L1.parts[0].len", [part | {"len": -1}, second]),
        ("part-len-true", "true is not 1", "L1.parts[0].len", [part | {"len": True}, second]),
        (
            "part-sha256-padded",
            "base64url without padding",
            "L1.parts[0].sha256",
            [part | {"sha256": HASH + "="}, second],
        ),
        ("part-sha256-short", "32 bytes", "L1.parts[0].sha256", [part | {"sha256": HASH[:-1]}, second]),
        (
            "part-sha256-trailing-bits",
            "no bits beyond 256",
            "L1.parts[0].sha256",
            [part | {"sha256": noncanonical}, second],
        ),
        ("part-kc-hex", "base64url, not hexadecimal", "L1.parts[1].kc", [part, second | {"kc": "0" * 64}]),
        ("part-kc-trailing-bits", "no bits beyond 256", "L1.parts[1].kc", [part, second | {"kc": noncanonical}]),
        (
            "part-kc-standard-alphabet",
            "- and _, not + and /",
            "L1.parts[1].kc",
            [part, second | {"kc": "+/" * 20 + "AAA"}],
        ),
    ):
        found.append(_wrong(ident, why, path, parts=parts))
    return found


def _values() -> list[Vector]:
    target = f"{ISS}/{OTHER_EVT}"
    mismatch = "topic_mismatch"
    table: tuple[tuple[str, str, str, str, Payload], ...] = (
        ("version-0", "there never was a version 0", "L1.v", "version_unsupported", {"v": 0}),
        ("version-2", "a later version is not guessed at", "L1.v", "version_unsupported", {"v": 2}),
        ("version-true", "true is not 1", "L1.v", "version_unsupported", {"v": True}),
        ("version-text", "a number", "L1.v", "version_unsupported", {"v": "1"}),
        ("evt-uppercase", "one spelling only", "L1.evt", BAD, {"evt": OTHER_EVT.upper()}),
        ("evt-v4", "only UUIDv7", "L1.evt", BAD, {"evt": "019f0000-0000-4000-8000-000000000001"}),
        ("evt-variant", "RFC 9562's variant bits", "L1.evt", BAD, {"evt": "019f0000-0000-7000-c000-000000000001"}),
        ("evt-no-hyphens", "one spelling only", "L1.evt", BAD, {"evt": OTHER_EVT.replace("-", "")}),
        ("evt-braces", "one spelling only", "L1.evt", BAD, {"evt": "{" + OTHER_EVT + "}"}),
        ("evt-newline", "nothing after it", "L1.evt", BAD, {"evt": OTHER_EVT + "\n"}),
        ("iss-uppercase", "lower case only", "L1.iss", BAD, {"iss": "bi/IOM"}),
        ("iss-no-domain", "domain/agency", "L1.iss", BAD, {"iss": "iom"}),
        ("iss-long-domain", "a domain has two letters", "L1.iss", BAD, {"iss": "bdi/iom"}),
        ("iss-hyphen", "no hyphen at the end", "L1.iss", BAD, {"iss": "bi/iom-"}),
        ("iss-dot", "a dot would make another topic", "L1.iss", BAD, {"iss": "bi/iom.x"}),
        ("iss-long", "at most 32 characters", "L1.iss", BAD, {"iss": "bi/" + "a" * 33}),
        ("iss-newline", "nothing after it", "L1.iss", BAD, {"iss": "bi/iom\n"}),
        ("iss-look-alike", "a Cyrillic letter: ASCII only", "L1.iss", BAD, {"iss": "bi/\u0456om"}),
        ("to-fullwidth-digit", "ASCII digits only", "L1.to", BAD, {"to": "bi/k\uff17t4"}),
        ("to-empty", "somebody", "L1.to", BAD, {"to": ""}),
        ("topic-of-another", "a mailbox has one owner", "L1.topic", mismatch, {"topic": "bi.referral.iom"}),
        (
            "topic-of-another-domain",
            "its domain is the recipient's",
            "L1.topic",
            mismatch,
            {"topic": "tn.referral.k7t4"},
        ),
        ("topic-unknown-flow", "flows are a closed list", "L1.topic", BAD, {"topic": f"bi.{PLANTED.lower()}.k7t4"}),
        ("topic-reserved-flow", "grants is not written by agencies", "L1.topic", BAD, {"topic": "bi.grants.k7t4"}),
        ("topic-ledger", "nor is the ledger", "L1.topic", BAD, {"topic": "bi.ledger.k7t4"}),
        ("topic-two-segments", "domain.flow.agency", "L1.topic", BAD, {"topic": "bi.referral"}),
        ("topic-four-segments", "domain.flow.agency", "L1.topic", BAD, {"topic": "bi.referral.k7t4.x"}),
        ("topic-slash", "dots", "L1.topic", BAD, {"topic": "bi/referral/k7t4"}),
        ("kind-unknown", "kinds are a closed list", "L1.kind", BAD, {"kind": PLANTED}),
        ("kind-uppercase", "one spelling only", "L1.kind", BAD, {"kind": "Control"}),
        ("kind-array", "text", "L1.kind", BAD, {"kind": ["control"]}),
        ("thread-short", "128 bits", "L1.thread", BAD, {"thread": "A" * 21}),
        ("thread-padded", "without padding", "L1.thread", BAD, {"thread": "A" * 22 + "=="}),
        ("thread-trailing-bits", "no bits beyond 128", "L1.thread", BAD, {"thread": "A" * 21 + "B"}),
        (
            "thread-case-number",
            "random, never a number that means something",
            "L1.thread",
            BAD,
            {"thread": "CASE-2026-001"},
        ),
        ("seq-0", "counted from 1", "L1.seq", BAD, {"seq": 0}),
        ("seq-negative", "counted from 1", "L1.seq", BAD, {"seq": -1}),
        ("seq-true", "true is not 1", "L1.seq", BAD, {"seq": True}),
        ("prev-with-seq-1", "nothing comes before the first", "L1.prev", BAD, {"prev": HASH}),
        ("prev-empty-with-seq-2", "something comes before the second", "L1.prev", BAD, {"seq": 2}),
        ("prev-short", "32 bytes", "L1.prev", BAD, {"seq": 2, "prev": HASH[:-1]}),
        ("prev-trailing-bits", "no bits beyond 256", "L1.prev", BAD, {"seq": 2, "prev": HASH[:-1] + "B"}),
        ("prev-padded", "without padding", "L1.prev", BAD, {"seq": 2, "prev": HASH + "="}),
        ("prev-zero", "0 is not the empty text", "L1.prev", BAD, {"prev": 0}),
        ("iat-0", "a time", "L1.iat", BAD, {"iat": 0}),
        ("iat-text", "seconds, no text", "L1.iat", BAD, {"iat": "2026-10-27T00:00:00Z"}),
        ("reg-negative", "a version", "L1.reg", BAD, {"reg": -1}),
        ("reg-false", "false is not 0", "L1.reg", BAD, {"reg": False}),
        ("answer-by-0", "a time", "L1.answer_by", BAD, {"answer_by": 0}),
        ("answer-by-true", "true is not 1", "L1.answer_by", BAD, {"answer_by": True}),
        ("ref-v4", "only UUIDv7", "L1.ref", BAD, {"ref": "019f0000-0000-4000-8000-000000000001"}),
        ("agreement-uppercase", "lower case only", "L1.agreement", BAD, {"agreement": "BI-TN"}),
        ("agreement-empty", "or not at all", "L1.agreement", BAD, {"agreement": ""}),
        ("training-false", "only true, else leave it away: one spelling", "L1.training", BAD, {"training": False}),
        ("training-1", "1 is not true", "L1.training", BAD, {"training": 1}),
        ("training-text", "text is not true", "L1.training", BAD, {"training": "true"}),
        ("voids-empty", "or not at all", "L1.voids", BAD, {"seq": 9, "prev": HASH, "voids": []}),
        ("voids-unordered", "ascending", "L1.voids[1]", BAD, {"seq": 9, "prev": HASH, "voids": [7, 3]}),
        ("voids-twice", "each once", "L1.voids[1]", BAD, {"seq": 9, "prev": HASH, "voids": [3, 3]}),
        ("voids-itself", "only earlier ones", "L1.voids[0]", BAD, {"seq": 9, "prev": HASH, "voids": [9]}),
        ("voids-later", "only earlier ones", "L1.voids[1]", BAD, {"seq": 9, "prev": HASH, "voids": [3, 10]}),
        ("voids-0", "counted from 1", "L1.voids[0]", BAD, {"seq": 9, "prev": HASH, "voids": [0]}),
        ("voids-true", "true is not 1", "L1.voids[0]", BAD, {"seq": 9, "prev": HASH, "voids": [True]}),
        ("voids-501", "at most 500", "L1.voids", BAD, {"seq": 900, "prev": HASH, "voids": list(range(1, 502))}),
        ("acts-in-update", "only control records act", "L1.acts", BAD, {"kind": "update", "acts": {"erase": [target]}}),
        (
            "acts-in-request",
            "only control records act",
            "L1.acts",
            BAD,
            {"kind": "request", "acts": {"grant": [target]}},
        ),
        ("acts-empty", "or not at all", "L1.acts", BAD, {"acts": {}}),
        ("acts-unknown", "erase and grant", "L1.acts", BAD, {"acts": {PLANTED: [target]}}),
        ("acts-array", "an object", "L1.acts", BAD, {"acts": [target]}),
        ("acts-erase-empty", "of something", "L1.acts.erase", BAD, {"acts": {"erase": []}}),
        ("acts-erase-twice", "each once", "L1.acts.erase", BAD, {"acts": {"erase": [target, target]}}),
        ("acts-erase-text", "an array", "L1.acts.erase", BAD, {"acts": {"erase": target}}),
        ("acts-erase-no-target", "<iss>/<evt>", "L1.acts.erase[1]", BAD, {"acts": {"erase": [target, PLANTED]}}),
        ("acts-erase-no-issuer", "<iss>/<evt>", "L1.acts.erase[0]", BAD, {"acts": {"erase": [OTHER_EVT]}}),
        ("acts-grant-number", "<iss>/<evt>", "L1.acts.grant[0]", BAD, {"acts": {"grant": [5]}}),
        (
            "acts-erase-51",
            "at most 50",
            "L1.acts.erase",
            BAD,
            {"acts": {"erase": [f"{ISS}/019f0000-0000-7000-8000-{i:012x}" for i in range(51)]}},
        ),
    )
    return [_wrong(ident, why, path, result, **changes) for ident, why, path, result, changes in table]


def _headers() -> list[Vector]:
    kid = SIGNERS["iom"].kid
    forbidden = "L1.header.*"
    jwk = {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}
    table: tuple[tuple[str, str, str, str, Payload | str], ...] = (
        ("header-jwk", "a key that the message brings along", FORBIDDEN, forbidden, jws_header(kid, jwk=jwk)),
        (
            "header-jku",
            "an address to fetch keys from",
            FORBIDDEN,
            forbidden,
            jws_header(kid, jku="https://example.org/"),
        ),
        (
            "header-x5u",
            "an address to fetch certificates from",
            FORBIDDEN,
            forbidden,
            jws_header(kid, x5u="https://example.org/"),
        ),
        (
            "header-x5c",
            "a certificate that the message brings along",
            FORBIDDEN,
            forbidden,
            jws_header(kid, x5c=["AAAA"]),
        ),
        (
            "header-crit",
            "extensions that a reader must know",
            FORBIDDEN,
            forbidden,
            jws_header(kid, crit=["exp"], exp=1),
        ),
        (
            "header-b64",
            "RFC 7797: another signing input",
            FORBIDDEN,
            forbidden,
            jws_header(kid, b64=False, crit=["b64"]),
        ),
        ("header-cty", "even a harmless one", FORBIDDEN, forbidden, jws_header(kid, cty="json")),
        ("header-unknown", "could carry a name in clear", FORBIDDEN, forbidden, jws_header(kid, **{PLANTED: PLANTED})),
        ("header-alg-none", "RFC 8725 section 2.1", FORBIDDEN, "L1.header.alg", jws_header(kid, alg="none")),
        ("header-alg-None", "in another spelling", FORBIDDEN, "L1.header.alg", jws_header(kid, alg="nOnE")),
        ("header-alg-hs256", "the public key as a secret", FORBIDDEN, "L1.header.alg", jws_header(kid, alg="HS256")),
        (
            "header-alg-eddsa",
            "the registry fixes the algorithm",
            FORBIDDEN,
            "L1.header.alg",
            jws_header(kid, alg="EdDSA"),
        ),
        (
            "header-alg-ed25519",
            "the registry fixes the algorithm",
            FORBIDDEN,
            "L1.header.alg",
            jws_header(kid, alg="Ed25519"),
        ),
        (
            "header-alg-es384",
            "the registry fixes the algorithm",
            FORBIDDEN,
            "L1.header.alg",
            jws_header(kid, alg="ES384"),
        ),
        ("header-alg-es256k", "another curve", FORBIDDEN, "L1.header.alg", jws_header(kid, alg="ES256K")),
        ("header-alg-lower", "one spelling only", FORBIDDEN, "L1.header.alg", jws_header(kid, alg="es256")),
        ("header-alg-missing", "always there", FORBIDDEN, "L1.header.alg", jws_header(kid, alg=DROP)),
        ("header-alg-array", "text", FORBIDDEN, "L1.header.alg", jws_header(kid, alg=["ES256"])),
        (
            "header-typ-registry",
            "a registry's signature is none of an event",
            FORBIDDEN,
            "L1.header.typ",
            jws_header(kid, typ="umuhuza-registry+jws"),
        ),
        ("header-typ-jwt", "another kind of token", FORBIDDEN, "L1.header.typ", jws_header(kid, typ="JWT")),
        (
            "header-typ-uppercase",
            "one spelling only",
            FORBIDDEN,
            "L1.header.typ",
            jws_header(kid, typ="UMUHUZA-EVENT+JWS"),
        ),
        ("header-typ-missing", "always there", FORBIDDEN, "L1.header.typ", jws_header(kid, typ=DROP)),
        ("header-kid-missing", "always there", FORBIDDEN, "L1.header.kid", jws_header(kid, kid=DROP)),
        ("header-kid-short", "22 characters", FORBIDDEN, "L1.header.kid", jws_header(kid[:-1])),
        (
            "header-kid-path",
            "looked up, never opened",
            FORBIDDEN,
            "L1.header.kid",
            jws_header("../../../../etc/passwd"),
        ),
        ("header-kid-number", "text", FORBIDDEN, "L1.header.kid", jws_header(kid, kid=5)),
        (
            "header-duplicate",
            "two readers, two algorithms",
            BAD,
            "L1.header",
            f'{{"alg":"none","alg":"ES256","kid":"{kid}","typ":"umuhuza-event+jws"}}',
        ),
        (
            "header-duplicate-escaped",
            "the same name in another spelling",
            BAD,
            "L1.header",
            f'{{"alg":"ES256","\\u0061lg":"none","kid":"{kid}","typ":"umuhuza-event+jws"}}',
        ),
        ("header-array", "an object", BAD, "L1.header", "[]"),
        ("header-null", "an object", BAD, "L1.header", "null"),
        ("header-not-json", "JSON", BAD, "L1.header", PLANTED),
        ("header-empty", "JSON", BAD, "L1.header", ""),
        ("header-nested", "not that deep", BAD, "L1.header", '{"alg":' + "[" * 40 + "]" * 40 + "}"),
        ("header-long", "at most 512 bytes", BAD, "L1.header", compact(jws_header(kid)).ljust(513)),
    )
    return [
        record_vector(
            ident,
            why,
            ["header"],
            f"{line1(BASE.payload, header)}\n{BASE.body}",
            result,
            path,
            planted=_planted(header),
        )
        for ident, why, result, path, header in table
    ]


def _encodings() -> list[Vector]:
    """Base64url that some readers take and others do not: one record, two readings."""
    header, payload, signature = line1(BASE.payload).split(".")
    odd = compact(BASE.payload)
    odd = odd if len(odd.encode()) % 3 else odd + " "
    o_header, o_payload, o_signature = line1(odd).split(".")
    bits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    def loosened(text: str) -> str:
        return text[:-1] + bits[bits.index(text[-1]) + 1]

    slashed = next(
        changed_text
        for n in range(1, 10_000)
        if "-"
        in (changed_text := line1(changed(BASE.payload, {"agreement": f"a{n}"}) | {"training": True})).split(".")[2]
    )
    s_head, s_payload, s_signature = slashed.split(".")
    table = (
        (
            "payload-padded",
            "RFC 7515: no padding",
            "L1.payload",
            [o_header, o_payload + "=" * (-len(o_payload) % 4), o_signature],
        ),
        (
            "payload-trailing-bits",
            "bits beyond the last byte",
            "L1.payload",
            [o_header, loosened(o_payload), o_signature],
        ),
        ("payload-space", "white space inside", "L1.payload", [header, payload[:8] + " " + payload[8:], signature]),
        ("payload-tab", "white space inside", "L1.payload", [header, payload[:8] + "\t" + payload[8:], signature]),
        (
            "payload-non-ascii",
            "a byte beyond ASCII",
            "L1.payload",
            [header, payload[:8] + "\xe9" + payload[9:], signature],
        ),
        ("payload-nul", "a NUL byte", "L1.payload", [header, payload[:8] + "\0" + payload[9:], signature]),
        ("payload-empty", "nothing", "L1", [header, "", signature]),
        (
            "payload-length",
            "one character too many",
            "L1.payload",
            [header, payload + "A" * (1 + (-len(payload)) % 4), signature],
        ),
        ("header-padded", "RFC 7515: no padding", "L1.header", [header + "=", payload, signature]),
        ("signature-padded", "RFC 7515: no padding", "L1.signature", [header, payload, signature + "=="]),
        ("signature-trailing-bits", "bits beyond 512", "L1.signature", [header, payload, loosened(signature)]),
        (
            "signature-standard-alphabet",
            "+ and /",
            "L1.signature",
            [s_head, s_payload, s_signature.replace("-", "+").replace("_", "/")],
        ),
        ("signature-empty", "an unsigned token", "L1.signature", [header, payload, ""]),
        ("segments-two", "three", "L1", [header, payload]),
        ("segments-four", "three", "L1", [header, payload, signature, signature]),
        ("segments-five", "an encrypted token is none", "L1", [header, "", payload, signature, signature]),
    )
    return [
        record_vector(f"jws-{ident}", why, ["encoding"], f"{'.'.join(segments)}\n{BASE.body}", BAD, path)
        for ident, why, path, segments in table
    ]


def _json() -> list[Vector]:
    seq, reg, iat = '"seq":1,', '"reg":7,', f'"iat":{NOW},'
    found = [
        _text("json-seq-fraction", "1.5 is no integer", "L1.*", seq, '"seq":1.5,'),
        _text("json-seq-1.0", "1.0 is not written as an integer", "L1.*", seq, '"seq":1.0,'),
        _text("json-seq-1e3", "nor is 1e3", "L1.*", seq, '"seq":1e3,'),
        _text("json-version-1.0", "1.0 is not 1", "L1.*", '"v":1,', '"v":1.0,'),
        _text("json-minus-zero", "0 to some readers, -0 to others", "L1.*", reg, '"reg":-0,'),
        _text("json-leading-zero", "not JSON, octal to some", "L1", reg, '"reg":07,'),
        _text("json-plus", "not JSON", "L1", reg, '"reg":+7,'),
        _text("json-hex", "not JSON", "L1", reg, '"reg":0x7,'),
        _text("json-2^53", "beyond what every reader keeps", "L1.*", iat, '"iat":9007199254740992,'),
        _text("json-minus-2^53", "beyond what every reader keeps", "L1.*", iat, '"iat":-9007199254740992,'),
        _text("json-digits-4400", "a number of 4,400 digits", "L1.*", iat, f'"iat":{"9" * 4400},'),
        _text("json-nan", "not JSON", "L1.*", iat, '"iat":NaN,'),
        _text("json-infinity", "not JSON", "L1.*", iat, '"iat":-Infinity,'),
        _text("json-duplicate", "two readers, two values", "L1.*", seq, '"seq":1,"seq":2,'),
        _text("json-duplicate-same", "even with the same value", "L1.*", seq, '"seq":1,"seq":1,'),
        _text("json-duplicate-escaped", "the same name in another spelling", "L1.*", seq, '"seq":1,"\\u0073eq":2,'),
        _text(
            "json-duplicate-in-part", "at any depth", "L1.*", '[{"name":"identity"', '[{"name":"x","name":"identity"'
        ),
        _text("json-surrogate-escaped", "half of a character", "L1", '"thread":"', f'"thread":"\\ud800{PLANTED}'),
        _text("json-surrogate-name", "half of a character in a name", "L1", seq, '"seq":1,"\\udc00":1,'),
        _text("json-surrogate-raw", "half of a character, as bytes", "L1", '"thread":"', '"thread":"\ud800'),
        _text(
            "json-surrogates-reversed", "two halves in the wrong order", "L1", '"thread":"', '"thread":"\\udc00\\ud800'
        ),
        _text("json-control-character", "a raw line feed in a text", "L1", '"thread":"', '"thread":"\n'),
        _text("json-trailing-comma", "not JSON", "L1", reg, '"reg":7,,'),
        _text("json-comment", "not JSON", "L1", reg, f'"reg":7,/*{PLANTED}*/'),
        _text("json-single-quotes", "not JSON", "L1", '"control"', "'control'"),
        _text("json-bom", "a byte order mark", "L1", '{"v":1', '\ufeff{"v":1'),
        _text("json-deep", "400 deep", "L1", seq, f'"seq":{"[" * 400}{"]" * 400},'),
        _text("json-five-deep", "one deeper than a manifest goes", "L1", seq, '"seq":[[[[1]]]],'),
        _text("json-never-closed", "brackets that never close", "L1", seq, f'"seq":{"[" * 2000}'),
    ]
    wholes: tuple[tuple[str, str, str, str | bytes], ...] = (
        ("json-array", "an object", "L1.payload", "[]"),
        ("json-text", "an object", "L1.payload", f'"{PLANTED}"'),
        ("json-null", "an object", "L1.payload", "null"),
        ("json-cut", "the rest is missing", "L1", compact(BASE.payload)[:-1]),
        ("json-two", "one text", "L1", compact(BASE.payload) + "{}"),
        ("json-not-utf-8", "Latin-1", "L1", '{"v":1,"évt":1}'.encode("latin-1")),
        ("json-utf-16", "UTF-16", "L1", compact(BASE.payload).encode("utf-16")),
        ("json-nothing", "spaces only", "L1", "    "),
    )
    for ident, why, path, text in wholes:
        value = f"{line1(text)}\n{BASE.body}"
        found.append(record_vector(ident, why, ["json"], value, BAD, path, planted=_planted(str(text))))
    return found


def _lines() -> list[Vector]:
    first = line1(BASE.payload)
    body = BASE.body
    one, two = body.split("~")
    table: tuple[tuple[str, str, Any, str, str], ...] = (
        ("lines-one", "L1 alone", first, BAD, "record"),
        ("lines-no-body", "L2 empty", first + "\n", BAD, "record"),
        ("lines-none", "nothing", "", BAD, "record"),
        ("lines-lf", "only LF", "\n", BAD, "record"),
        ("lines-final-lf", "no final LF", f"{first}\n{body}\n", BAD, "record"),
        ("lines-crlf", "CR LF: a text editor went over it", f"{first}\r\n{body}", BAD, "L1.signature"),
        ("lines-final-cr", "a CR at the end", f"{first}\n{body}\r", BAD, "record"),
        ("lines-three", "a third line", f"{first}\n{body}\n{first}", BAD, "record"),
        ("lines-empty-between", "an empty line between", f"{first}\n\n{body}", BAD, "record"),
        ("lines-lf-first", "an empty first line", f"\n{first}\n{body}", BAD, "record"),
        ("lines-space-first", "a space before", f" {first}\n{body}", BAD, "L1.header"),
        ("lines-bom", "a byte order mark before", f"\xef\xbb\xbf{first}\n{body}", BAD, "L1.header"),
        ("lines-non-ascii-body", "a byte beyond ASCII in L2", f"{first}\n{body[:-1]}\xe9", BAD, "record"),
        ("lines-space-body", "a space in L2", f"{first}\n{one}~ {two}", BAD, "record"),
        ("lines-nul-body", "a NUL byte in L2", f"{first}\n{body}\0", BAD, "record"),
        (
            "lines-name-in-body",
            "L2 is base64url and separators: no room for a text",
            f"{first}\n{one}~({PLANTED}){two}",
            BAD,
            "record",
        ),
        ("lines-padded-body", "no padding in L2", f"{first}\n{one}=~{two}", BAD, "record"),
        ("body-one-part", "two were signed", f"{first}\n{one}", BAD, "L2"),
        ("body-three-parts", "two were signed", f"{first}\n{body}~{two}", BAD, "L2"),
        ("body-final-tilde", "an empty third part", f"{first}\n{body}~", BAD, "L2"),
        ("body-empty-parts", "as many tildes as there may be bytes", [f"{first}\n", ["~", 100_000]], BAD, "L2"),
        ("size-record", "one byte over 900,000", [f"{first}\n", ["A", 900_000 - len(first)]], "too_large", "record"),
        ("size-record-megabytes", "eight megabytes of nothing", [["A", 8_000_000]], "too_large", "record"),
        ("size-manifest", "L1 of one byte over 8 KiB", [["A", 8193], f"\n{body}"], "too_large", "L1"),
    )
    found = [
        record_vector(ident, why, ["lines"], value, result, path, planted=_planted(value))
        for ident, why, value, result, path in table
    ]
    long = line1(compact(BASE.payload).ljust(unb64_room(8192) + 3))
    found.append(
        record_vector(
            "size-manifest-signed", "padded with spaces beyond 8 KiB", ["lines"], f"{long}\n{body}", "too_large", "L1"
        )
    )
    return found


def _signatures() -> list[Vector]:
    first = line1(BASE.payload)
    signed, _, text = first.rpartition(".")
    raw = unb64url(text)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    order = P256_ORDER
    flip = bytes([raw[0] ^ 1]) + raw[1:]
    other = SIGNERS["police"]
    head, payload, _ = line1(BASE.payload, jws_header(other.kid)).split(".")

    def pair(a: int, b: int) -> bytes:
        return a.to_bytes(32, "big") + b.to_bytes(32, "big")

    def der(a: int, b: int) -> bytes:
        def integer(number: int) -> bytes:
            data = number.to_bytes(33, "big").lstrip(b"\0") or b"\0"
            data = b"\0" + data if data[0] & 0x80 else data
            return b"\x02" + bytes([len(data)]) + data

        body = integer(a) + integer(b)
        return b"\x30" + bytes([len(body)]) + body

    bad, malformed = ("signature_invalid", "L1"), (BAD, "L1.signature")
    table = (
        ("zero", "64 zero bytes (CVE-2022-21449)", bytes(64), bad),
        ("r-zero", "r = 0", pair(0, s), bad),
        ("s-zero", "s = 0", pair(r, 0), bad),
        ("r-order", "r = n", pair(order, s), bad),
        ("s-order", "s = n", pair(r, order), bad),
        ("r-one-s-one", "r = s = 1", pair(1, 1), bad),
        ("all-ones", "r and s as large as they can be", b"\xff" * 64, bad),
        ("swapped", "s||r", raw[32:] + raw[:32], bad),
        ("little-endian", "each number the other way round", raw[31::-1] + raw[:31:-1], bad),
        ("one-bit", "one bit of r", flip, bad),
        ("minus-r", "(n-r, s) is no twin", pair(order - r, s), bad),
        ("truncated", "63 bytes", raw[:-1], malformed),
        ("long", "65 bytes", raw + b"\0", malformed),
        ("der", "ASN.1 DER instead of r||s", der(r, s), malformed),
        ("der-twice", "r||s and DER", raw + der(r, s), malformed),
        ("half", "r alone", raw[:32], malformed),
    )
    found = [
        record_vector(
            f"signature-{ident}", why, ["signature", "crypto"], f"{signed}.{b64url(data)}\n{BASE.body}", result, path
        )
        for ident, why, data, (result, path) in table
    ]
    body = BASE.body
    later = line1(changed(BASE.payload, {"iat": NOW + 1}))
    digest_only = b64url(SIGNERS["iom"].sign(segment(compact(BASE.payload)).encode()))
    for ident, why, value, key in (
        (
            "other-key",
            "another agency's key under this one's kid",
            f"{line1(BASE.payload, jws_header(SIGNERS['iom'].kid), 'police')}\n{body}",
            "iom",
        ),
        ("other-kid", "the right signature under another's kid", f"{head}.{payload}.{text}\n{body}", "iom"),
        (
            "kid-of-another",
            "one's own signature over a header that names another's key",
            f"{line1(BASE.payload, jws_header(other.kid))}\n{body}",
            "iom",
        ),
        ("other-agency", "rightly signed by somebody else", f"{line1(BASE.payload, signer='police')}\n{body}", "iom"),
        ("other-payload", "a signature of another manifest", f"{later.rpartition('.')[0]}.{text}\n{body}", "iom"),
        ("payload-only", "a signature without the header", f"{signed}.{digest_only}\n{body}", "iom"),
    ):
        found.append(record_vector(f"signature-{ident}", why, ["signature", "crypto"], value, *bad, key=key))
    return found
