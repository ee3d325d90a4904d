# SPDX-License-Identifier: Apache-2.0
"""A gateway's promise: one signature per request that says "these records are in the log at these offsets".

    promise = compact JWS, typ `umuhuza-promise+jws`, over {v, iss, at, origin, root, n}
    root    = RFC 6962 root over one leaf per accepted line of the request, in the order of the lines
    leaf    = SHA-256(0x00 || compact JSON [evt, l1_sha256, topic, offset])

Each answer line carries its own index and path, so that the evidence for one record discloses nothing of the others.
`l1_sha256` is base64url SHA-256 of `header.payload`, the record's identity: a signature twin has the same.

Pure: no clock, no randomness. Whoever checks says which key is the gateway's; the message never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from schemas import ijson
from schemas.envelope import is_topic, jws_header
from schemas.errors import LogError, RecordError
from schemas.keys import SigningKey, VerifyKey, b64url, unb64url
from schemas.ledgers import ledger_number, origin_of
from topics.proofs import leaf_hash, levels, path_in, verify_inclusion

PROMISE_TYP = "umuhuza-promise+jws"
MAX_PROMISE_BYTES = 4096
MAX_LINES = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """What is promised of one record."""

    evt: str
    l1_sha256: str
    topic: str
    offset: int

    def leaf(self) -> bytes:
        """Leaf hash of its canonical JSON, 32 bytes (`topics.proofs.leaf_hash`)."""
        return leaf_hash(orjson.dumps([self.evt, self.l1_sha256, self.topic, self.offset]))


@dataclass(frozen=True, slots=True)
class Promise:
    """What a gateway has signed: it will have these lines put into the ledger."""

    iss: str
    """The gateway's agency, `bi/operator`."""
    at: int
    """Seconds since the epoch, the gateway's clock."""
    origin: str
    """The ledger that will hold the records, `bi.umuhuza/log`."""
    root: bytes
    n: int


@dataclass(frozen=True, slots=True)
class Promised:
    """A promise with the paths of its lines, in order."""

    jws: str
    paths: tuple[tuple[str, ...], ...]
    first: int = 0
    """Index of the first of these lines under the promise's root; the others follow."""


@lru_cache(maxsize=16)
def _header(kid: str) -> str:
    return b64url(orjson.dumps({"alg": "ES256", "kid": kid, "typ": PROMISE_TYP}))


def make_promise(
    lines: Sequence[Line], key: SigningKey, *, iss: str, at: int, domain: str, origin: str | None = None
) -> Promised:
    """Sign one promise over at least one line: the ledger of this name (None: the domain's first) will have them."""
    built = levels([line.leaf() for line in lines])
    payload = {
        "v": 1,
        "iss": iss,
        "at": at,
        "origin": origin or origin_of(domain),
        "root": b64url(built[-1][0]),
        "n": len(lines),
    }
    signed = f"{_header(key.kid)}.{b64url(orjson.dumps(payload))}"
    text = f"{signed}.{b64url(key.sign(signed.encode('ascii')))}"
    texts = [[b64url(node) for node in level] for level in built]
    return Promised(text, tuple(tuple(path_in(texts, index)) for index in range(len(lines))))


def read_promise(text: str, key: VerifyKey) -> Promise:
    """Check the signature and the shape.

    Raises:
        RecordError: signature_invalid, record_malformed, header_forbidden.
    """
    if len(text) > MAX_PROMISE_BYTES or text.count(".") != 2 or not text.isascii():
        raise RecordError("record_malformed", "promise")
    header, payload, signature = text.split(".")
    kid = jws_header(header, PROMISE_TYP)
    try:
        signed, raw_signature = f"{header}.{payload}".encode("ascii"), unb64url(signature)
        raw = ijson.loads(unb64url(payload), max_bytes=MAX_PROMISE_BYTES, max_depth=1)
        if kid != key.kid or not key.verifies(signed, raw_signature):
            raise RecordError("signature_invalid", "promise")
        if not isinstance(raw, dict) or raw.keys() != {"v", "iss", "at", "origin", "root", "n"} or raw["v"] != 1:
            raise ValueError("shape")
        kinds = {"v": int, "iss": str, "at": int, "origin": str, "root": str, "n": int}
        if any(type(raw[name]) is not kind for name, kind in kinds.items()):
            raise ValueError("shape")
        root = unb64url(raw["root"])
    except (ValueError, ijson.IJsonError):
        raise RecordError("record_malformed", "promise") from None
    if len(root) != 32:
        raise RecordError("record_malformed", "promise")
    return Promise(raw["iss"], raw["at"], raw["origin"], root, raw["n"])


def verify_promise(line: Line, index: int, path: Sequence[str], promise: str, key: VerifyKey, domain: str) -> Promise:
    """The promise is this gateway's and covers this line.

    Raises:
        RecordError: signature_invalid, record_malformed, header_forbidden.
        LogError: root_mismatch, the line is not under the signed root, or the promise is for another ledger.
    """
    read = read_promise(promise, key)
    check_line(line, index, path, read, domain)
    return read


def check_line(line: Line, index: int, path: Sequence[str], promise: Promise, domain: str) -> None:
    """The line is under the root of a promise whose signature was checked.

    Raises:
        LogError: root_mismatch.
    """
    try:
        nodes = [unb64url(node) for node in path]
    except (ValueError, TypeError, AttributeError):
        raise LogError("root_mismatch", "promise") from None
    if not ledger_number(promise.origin, domain) or not 0 < promise.n <= MAX_LINES:
        raise LogError("root_mismatch", "promise")
    if not verify_inclusion(line.leaf(), index, promise.n, nodes, promise.root):
        raise LogError("root_mismatch", "promise")


def evidence(line: Line, index: int, path: Sequence[str], promise: str) -> bytes:
    """Compact JSON that proves one record's promise by itself."""
    return orjson.dumps(
        {
            "evt": line.evt,
            "l1_sha256": line.l1_sha256,
            "topic": line.topic,
            "offset": line.offset,
            "index": index,
            "path": list(path),
            "promise": promise,
        }
    )


@dataclass(frozen=True, slots=True)
class Evidence:
    """One record's promise as somebody kept it; read, not checked."""

    line: Line
    index: int
    path: tuple[str, ...]
    promise: str


def read_evidence(data: bytes) -> Evidence:
    """Reverse of `evidence`.

    Raises:
        RecordError: record_malformed.
    """
    try:
        raw = ijson.loads(data, max_bytes=16 * 1024, max_depth=3)
    except ijson.IJsonError:
        raise RecordError("record_malformed", "evidence") from None
    members = {"evt": str, "l1_sha256": str, "topic": str, "offset": int, "index": int, "path": list, "promise": str}
    if not isinstance(raw, dict) or raw.keys() != members.keys():
        raise RecordError("record_malformed", "evidence")
    if any(type(raw[name]) is not kind for name, kind in members.items()):
        raise RecordError("record_malformed", "evidence")
    # An audit names the place that it says, whoever signed it or not: it has to be one.
    if not is_topic(raw["topic"]) or raw["offset"] < 0:
        raise RecordError("record_malformed", "evidence")
    line = Line(raw["evt"], raw["l1_sha256"], raw["topic"], raw["offset"])
    return Evidence(line, raw["index"], tuple(raw["path"]), raw["promise"])


def promise_kid(promise: str) -> str:
    """Which key a promise says has signed it. Raises RecordError `record_malformed`, `header_forbidden`."""
    return jws_header(promise.partition(".")[0], PROMISE_TYP)


def verify_evidence(data: bytes, key: VerifyKey, domain: str) -> tuple[Line, Promise]:
    """Reverse of `evidence`, checked.

    Raises:
        RecordError: record_malformed, signature_invalid, header_forbidden.
        LogError: root_mismatch.
    """
    read = read_evidence(data)
    return read.line, verify_promise(read.line, read.index, read.path, read.promise, key, domain)
