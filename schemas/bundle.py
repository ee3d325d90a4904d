# SPDX-License-Identifier: Apache-2.0
"""What travels on a stick: records, and what answers them, as one sealed file. Bundle format version 1.

    file    "umuhuza-bundle/1" LF suite LF HPKE SHA-256     one of four lengths a suite
    HPKE    enc || ct (RFC 9180, base mode), to one key of the reader; info = "umuhuza/1 bundle" LF
    plain   head LF line LF line LF ... spaces               padded to 256 KiB, 1, 4 or 12 MiB
    head    compact JWS (RFC 7515), typ `umuhuza-bundle+jws`, over
            {v, minor, id, kind, iss, to, at, n, sha256[, training]}: n lines, SHA-256 of their bytes, LF included
    line    {"<what>": ...}: want, record, log, answer, mail, receipt, registry or checkpoint

    request     of an agency to its gateway: want, records with their grants
    answer      of the gateway to that agency: log, answers, mail, receipts, registry, checkpoint
    direct      of an agency to another: records that no log may have yet, registry, checkpoint

Outside stand a suite and a length and nothing else: not who, not to whom, not how many. The hash at the end tells a bad
copy from a bundle for somebody else, and tells a finder nothing. Whose word a bundle is, its signature says: but every
record in it has its own, and counts by that. A later minor version may add members and lines, which are passed over.

Invariants: nothing of a bundle is told before all of it was read; one bad line refuses all. Must never: name a reader
outside, or put a value into an error. Pure but for HPKE's encapsulation, which OpenSSL draws. If a program crashes with
one in its hands, the file is as it was.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from schemas import ijson
from schemas.envelope import MAX_RECORD_BYTES, is_agency, is_evt, is_topic, jws_header, sign_jws
from schemas.errors import LogError, RecordError
from schemas.keys import CLASSICAL, HYBRID, Opener, SealTo, Signer, VerifyKey, b64url, unb64url
from schemas.notes import MAX_NOTE_BYTES
from schemas.registry_bundle import MAX_REGISTRY_BYTES

BundleKind = Literal["request", "answer", "direct"]
KINDS: tuple[BundleKind, ...] = get_args(BundleKind)
MINOR = 0
BUNDLE_TYP = "umuhuza-bundle+jws"
PADDED_SIZES = (256 << 10, 1 << 20, 4 << 20, 12 << 20)
"""Bytes of plaintext. The largest fits a gateway's request."""
MAX_LINES = 4000
MAX_GRANTS = 64
MAX_RECEIPTS = 50
MAX_BUNDLE_BYTES = PADDED_SIZES[-1] + 4096
"""No file is longer."""
_MAGIC, _VERSION = b"umuhuza-bundle/", b"1\n"
_INFO = b"umuhuza/1 bundle\n"
_ENC_BYTES: Mapping[str, int] = {HYBRID: 1120, CLASSICAL: 65}
_TAG_BYTES = 16
_MAX_HEAD_BYTES = 4096
_MAX_PAYLOAD_BYTES = 2048
_MAX_INDEX = 2**53 - 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOG_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LINES: Mapping[BundleKind, frozenset[str]] = {
    "request": frozenset(("want", "record")),
    "answer": frozenset(("log", "answer", "mail", "receipt", "registry", "checkpoint")),
    "direct": frozenset(("record", "registry", "checkpoint")),
}


@dataclass(frozen=True, slots=True)
class CarriedRecord:
    """A record with its grants; read, not verified."""

    record: bytes
    grants: tuple[Any, ...]
    """As JSON; `schemas.sealing.grant_of` reads each."""

    def to_json(self) -> dict[str, Any]:
        return {"record": self.record.decode("ascii"), "grants": list(self.grants)}


@dataclass(frozen=True, slots=True)
class Want:
    """What an agency asks of its gateway."""

    cursors: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Log id -> topic -> offset of the last entry taken from there."""
    receipts: tuple[str, ...] = ()
    """base64url SHA-256 of `header.payload` of records whose receipt is wanted."""
    registry: str = ""
    """Hex SHA-256 of the registry file that it has; "": none."""

    def to_json(self) -> dict[str, Any]:
        cursors = {log: dict(after) for log, after in self.cursors.items()}
        return {"cursors": cursors, "receipts": list(self.receipts), "registry": self.registry}


@dataclass(frozen=True, slots=True)
class Places:
    """Which log an answer is from, and how much of the reader's mailboxes it holds."""

    log: str
    after: Mapping[str, int]
    """Topic -> the entries behind this offset are here, without a gap; -1: from the start."""
    ends: Mapping[str, tuple[int, int]]
    """Topic -> first kept offset and the next to be written, when the answer was made."""
    more: bool = False
    """There was no room for all: ask again."""

    def to_json(self) -> dict[str, Any]:
        ends = {topic: list(end) for topic, end in self.ends.items()}
        return {"log": self.log, "after": dict(self.after), "ends": ends, "more": self.more}


@dataclass(frozen=True, slots=True)
class Contents:
    """What the lines say; shapes were checked, nothing was verified."""

    want: Want | None = None
    records: tuple[CarriedRecord, ...] = ()
    log: Places | None = None
    answers: tuple[Mapping[str, Any], ...] = ()
    """What became of each record that a request brought, as a gateway's answer lines say it, with `ident` and
    `promise`."""
    mail: tuple[Mapping[str, Any], ...] = ()
    """Entries of the reader's mailboxes, as `GET /v1/mailbox` has them."""
    receipts: Mapping[str, bytes] = field(default_factory=dict)
    """base64url hash -> receipt (c2sp.org/tlog-proof)."""
    registry: bytes | None = None
    checkpoint: bytes | None = None

    def lines(self) -> Iterator[bytes]:
        """As they stand in a bundle, each with its LF."""
        if self.want is not None:
            yield _line("want", self.want.to_json())
        if self.log is not None:
            yield _line("log", self.log.to_json())
        for record in self.records:
            yield _line("record", record.to_json())
        for answer in self.answers:
            yield _line("answer", dict(answer))
        for mail in self.mail:
            yield _line("mail", dict(mail))
        for l1, receipt in self.receipts.items():
            yield _line("receipt", {"l1": l1, "receipt": receipt.decode("utf-8")})
        if self.registry is not None:
            yield _line("registry", self.registry.decode("utf-8"))
        if self.checkpoint is not None:
            yield _line("checkpoint", self.checkpoint.decode("utf-8"))


@dataclass(frozen=True, slots=True)
class Head:
    """Who says it to whom. `at`: seconds since the epoch, the writer's clock. `ident`: a UUIDv7, the bundle's own."""

    ident: str
    kind: BundleKind
    iss: str
    to: str
    at: int
    training: bool = False
    minor: int = MINOR


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: read, not verified."""

    head: Head
    contents: Contents
    kid: str
    """Which of its writer's keys says that it has signed."""
    _signed: bytes = field(repr=False)
    _signature: bytes = field(repr=False)

    def verify(self, key: VerifyKey) -> None:
        """Raises RecordError `signature_invalid`, path `head`."""
        if key.kid != self.kid or not key.verifies(self._signed, self._signature):
            raise RecordError("signature_invalid", "head")


def _malformed(path: str, expected: str | int | None = None) -> LogError:
    return LogError("bundle_malformed", path, expected=expected)


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def _line(what: str, value: Any) -> bytes:
    return json.dumps({what: value}, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def room_for(size: int) -> bool:
    """Whether lines of so many bytes in all fit a bundle."""
    return size + _MAX_HEAD_BYTES <= PADDED_SIZES[-1]


def size_of(what: str, value: Any) -> int:
    """Bytes that a line of this value takes."""
    return len(_line(what, value))


def seal_bundle(head: Head, contents: Contents, signer: Signer, to: SealTo) -> bytes:
    """Sign, pad and seal.

    Raises:
        LogError: too_large: more than 4,000 lines or than 12 MiB.
        KeyStoreError: the device that holds the signing key refuses.
    """
    lines = list(contents.lines())
    if len(lines) > MAX_LINES:
        raise LogError("too_large", "bundle", expected=MAX_LINES)
    body = b"".join(lines)
    payload: dict[str, Any] = {"v": 1, "minor": head.minor, "id": head.ident, "kind": head.kind, "iss": head.iss}
    payload |= {"to": head.to, "at": head.at, "n": len(lines), "sha256": b64url(hashlib.sha256(body).digest())}
    if head.training:
        payload["training"] = True
    plaintext = sign_jws(BUNDLE_TYP, payload, signer) + b"\n" + body
    return seal_plaintext(plaintext, to)


def seal_plaintext(plaintext: bytes, to: SealTo) -> bytes:
    """Pad and seal what was signed. Raises LogError `too_large`."""
    size = next((size for size in PADDED_SIZES if len(plaintext) <= size), None)
    if size is None:
        raise LogError("too_large", "bundle", expected=PADDED_SIZES[-1])
    outside = _MAGIC + _VERSION + to.suite.encode("ascii") + b"\n" + to.seal(plaintext.ljust(size), _INFO)
    return outside + hashlib.sha256(outside).digest()


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def open_bundle(data: bytes, keys: Iterable[Opener]) -> Bundle:
    """Open a file with whichever key it was sealed to, and read all of it.

    Raises:
        LogError: bundle_damaged, not as it was written: cut short or changed on the way. bundle_unopenable, sealed to
            none of these keys. bundle_malformed, with the path. too_large.
        RecordError: version_unsupported, path `file` or `head.v`; header_forbidden, record_malformed: the signature's
            header.
        KeyStoreError: the device that holds a key is not there, or refuses.
    """
    suite, sealed = _outside(data)
    for key in keys:
        if key.suite == suite:
            try:
                plaintext = key.open(sealed, _INFO)
            except ValueError:
                continue
            return _read(plaintext)
    raise LogError("bundle_unopenable", "file")


def _outside(data: bytes) -> tuple[str, bytes]:
    """Suite and HPKE."""
    known = data[: len(_MAGIC)]
    if not data or known != _MAGIC[: len(known)]:
        raise _malformed("file")
    start = len(_MAGIC) + len(_VERSION)
    if len(data) < start:
        raise LogError("bundle_damaged", "file")
    if data[len(_MAGIC) : start] != _VERSION:
        raise RecordError("version_unsupported", "file", expected=1)
    suite, end, _ = data[start : start + 15].partition(b"\n")
    name = suite.decode("ascii", "replace")
    whole = name in _ENC_BYTES and bool(end)
    sealed = data[start + 15 : -32]
    lengths = {_ENC_BYTES[name] + size + _TAG_BYTES for size in PADDED_SIZES} if whole else set()
    if len(sealed) not in lengths or not hmac.compare_digest(hashlib.sha256(data[:-32]).digest(), data[-32:]):
        raise LogError("bundle_damaged", "file")
    return name, sealed


def _read(plaintext: bytes) -> Bundle:
    text, _, rest = plaintext.partition(b"\n")
    if len(plaintext) not in PADDED_SIZES or len(text) > _MAX_HEAD_BYTES or text.count(b".") != 2:
        raise _malformed("head")
    try:
        header, payload, signature = text.decode("ascii").split(".")
        raw_signature, raw_payload = unb64url(signature), unb64url(payload)
    except ValueError:
        raise _malformed("head") from None
    kid = jws_header(header, BUNDLE_TYP)
    head, count, digest = _head(raw_payload)
    body = rest.rstrip(b" ")
    if body and not body.endswith(b"\n"):
        raise _malformed("line")
    if b64url(hashlib.sha256(body).digest()) != digest:
        raise _malformed("head.sha256")
    lines = body.split(b"\n")[:-1]
    if len(lines) > MAX_LINES:
        raise LogError("too_large", "bundle", expected=MAX_LINES)
    if len(lines) != count:
        raise _malformed("head.n")
    return Bundle(head, _contents(head, lines), kid, f"{header}.{payload}".encode("ascii"), raw_signature)


def _head(data: bytes) -> tuple[Head, int, str]:
    raw = _json(data, _MAX_PAYLOAD_BYTES, 2, "head")
    if not isinstance(raw, dict):
        raise _malformed("head")
    if type(raw.get("v")) is not int or raw["v"] != 1:
        raise RecordError("version_unsupported", "head.v", expected=1)
    known = {"v": int, "minor": int, "id": str, "kind": str, "iss": str, "to": str, "at": int, "n": int, "sha256": str}
    for name, kind in known.items():
        if type(raw.get(name)) is not kind:
            raise _malformed(f"head.{name}")
    for name in ("minor", "at", "n"):
        if raw[name] < 0:
            raise _malformed(f"head.{name}")
    if raw["minor"] <= MINOR and raw.keys() - known.keys() - {"training"}:
        raise _malformed("head.*")
    if "training" in raw and raw["training"] is not True:
        raise _malformed("head.training")
    if not is_evt(raw["id"]):
        raise _malformed("head.id")
    if raw["kind"] not in KINDS:
        raise _malformed("head.kind")
    for name in ("iss", "to"):
        if not is_agency(raw[name]):
            raise _malformed(f"head.{name}")
    head = Head(raw["id"], raw["kind"], raw["iss"], raw["to"], raw["at"], "training" in raw, raw["minor"])
    return head, raw["n"], raw["sha256"]


def _json(data: bytes, limit: int, depth: int, where: str) -> Any:
    try:
        return ijson.loads(data, max_bytes=limit, max_depth=depth)
    except ijson.IJsonError:
        raise _malformed(where) from None


def _contents(head: Head, lines: Iterable[bytes]) -> Contents:
    several: dict[str, list[Any]] = {"record": [], "answer": [], "mail": [], "receipt": []}
    single: dict[str, Any] = {}
    for number, line in enumerate(lines):
        where = f"line[{number}]"
        raw = _json(line, PADDED_SIZES[-1], 8, where)
        if not isinstance(raw, dict) or len(raw) != 1:
            raise _malformed(where)
        [(what, value)] = raw.items()
        if what not in _LINES[head.kind]:
            if head.minor > MINOR and not any(what in known for known in _LINES.values()):
                continue
            raise _malformed(f"{where}.*")
        read = _READERS[what](value, f"{where}.{what}")
        if what in several:
            several[what].append(read)
        elif what in single:
            raise _malformed(f"{where}.{what}")
        else:
            single[what] = read
    needed = {"request": "want", "answer": "log"}.get(head.kind)
    if needed is not None and needed not in single:
        raise _malformed(needed)
    return Contents(
        records=tuple(several["record"]),
        answers=tuple(several["answer"]),
        mail=tuple(several["mail"]),
        receipts=dict(several["receipt"]),
        **single,
    )


def _members(raw: Any, names: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise _malformed(where)
    if raw.keys() != names:
        missing = names - raw.keys()
        raise _malformed(f"{where}.{min(missing) if missing else '*'}")
    return raw


def _record(raw: Any, where: str) -> CarriedRecord:
    members = _members(raw, {"record", "grants"}, where)
    record, grants = members["record"], members["grants"]
    if not isinstance(record, str) or not record.isascii():
        raise _malformed(f"{where}.record")
    if len(record) > MAX_RECORD_BYTES:
        raise LogError("too_large", f"{where}.record", expected=MAX_RECORD_BYTES)
    if not isinstance(grants, list):
        raise _malformed(f"{where}.grants")
    if len(grants) > MAX_GRANTS:
        raise LogError("too_large", f"{where}.grants", expected=MAX_GRANTS)
    return CarriedRecord(record.encode("ascii"), tuple(grants))


def _offsets(raw: Any, where: str) -> dict[str, int]:
    if not isinstance(raw, dict):
        raise _malformed(where)
    for topic, offset in raw.items():
        if not is_topic(topic) or type(offset) is not int or not -1 <= offset <= _MAX_INDEX:
            raise _malformed(f"{where}.*")
    return raw


def _want(raw: Any, where: str) -> Want:
    members = _members(raw, {"cursors", "receipts", "registry"}, where)
    cursors, receipts, registry = members["cursors"], members["receipts"], members["registry"]
    if not isinstance(cursors, dict) or not all(_LOG_ID.fullmatch(log) for log in cursors):
        raise _malformed(f"{where}.cursors")
    if not isinstance(receipts, list) or not all(isinstance(one, str) and _is_hash(one) for one in receipts):
        raise _malformed(f"{where}.receipts")
    if len(receipts) > MAX_RECEIPTS:
        raise LogError("too_large", f"{where}.receipts", expected=MAX_RECEIPTS)
    if not isinstance(registry, str) or (registry and _DIGEST.fullmatch(registry) is None):
        raise _malformed(f"{where}.registry")
    after = {log: _offsets(one, f"{where}.cursors.*") for log, one in cursors.items()}
    return Want(after, tuple(receipts), registry)


def _places(raw: Any, where: str) -> Places:
    members = _members(raw, {"log", "after", "ends", "more"}, where)
    log, ends, more = members["log"], members["ends"], members["more"]
    if not isinstance(log, str) or _LOG_ID.fullmatch(log) is None:
        raise _malformed(f"{where}.log")
    after = _offsets(members["after"], f"{where}.after")
    if not isinstance(ends, dict) or ends.keys() != after.keys():
        raise _malformed(f"{where}.ends")
    for end in ends.values():
        if not isinstance(end, list) or len(end) != 2 or any(type(one) is not int for one in end):
            raise _malformed(f"{where}.ends.*")
        if not 0 <= end[0] <= end[1] <= _MAX_INDEX:
            raise _malformed(f"{where}.ends.*")
    if type(more) is not bool:
        raise _malformed(f"{where}.more")
    return Places(log, after, {topic: (end[0], end[1]) for topic, end in ends.items()}, more)


def _object(raw: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise _malformed(where)
    return raw


def _receipt(raw: Any, where: str) -> tuple[str, bytes]:
    members = _members(raw, {"l1", "receipt"}, where)
    if not isinstance(members["l1"], str) or not _is_hash(members["l1"]):
        raise _malformed(f"{where}.l1")
    return members["l1"], _text(members["receipt"], f"{where}.receipt", 4 * MAX_NOTE_BYTES)


def _text(raw: Any, where: str, limit: int) -> bytes:
    if not isinstance(raw, str):
        raise _malformed(where)
    data = raw.encode("utf-8")  # I-JSON has no lone surrogates
    if len(data) > limit:
        raise LogError("too_large", where, expected=limit)
    return data


def _is_hash(text: str) -> bool:
    try:
        return len(unb64url(text)) == 32
    except ValueError:
        return False


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "want": _want,
    "record": _record,
    "log": _places,
    "answer": _object,
    "mail": _object,
    "receipt": _receipt,
    "registry": lambda raw, where: _text(raw, where, MAX_REGISTRY_BYTES),
    "checkpoint": lambda raw, where: _text(raw, where, MAX_NOTE_BYTES),
}
