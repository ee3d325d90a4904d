# SPDX-License-Identifier: Apache-2.0
"""Wire format version 1: the bytes of a record. Its manifest and its shape: sign, read, verify.

    value = L1 LF L2                      ASCII, no final LF, at most 900,000 bytes
    L1    = compact JWS (RFC 7515)        the manifest: signed clear metadata, at most 8 KiB
    L2    = JWE ~ JWE [~ JWE ...]         one compact JWE (RFC 7516, dir, A256GCM) per part

Sealing, opening and grants are in `schemas/sealing.py`; who follows records without opening them needs only this file.
Order of use. Writing: `seal_parts` once, when the event enters the outbox; `sign_manifest` when its turn in the topic's
chain has come; `make_grant` per recipient key. Reading: `parse_record` (shape only), `Record.verify` (whose signature),
`Record.verify_body` (parts are the signed ones, sizes are allowed), `open_grant`, `open_parts`.

Invariants:
- Bytes are signed as they are and never re-serialised: what was signed is `header.payload` exactly as received.
- A record is recognised by (iss, evt) and SHA-256 of `header.payload` (`Record.digest`), never by its bytes, since
  ES256 signatures are malleable: the signature twin is the same record.
- The message never chooses an algorithm, key or version: a header has exactly three members with fixed values, but
  for `kid`, and the registry says what that key is.
- Every reader is strict; every refusal has a code and a path, never a value.

This module must never do I/O, read a clock, hold a content key or draw randomness of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from schemas import ijson
from schemas.errors import RecordError
from schemas.keys import RandomBytes, Signer, VerifyKey, b64url, unb64url

MAX_RECORD_BYTES = 900_000
MAX_MANIFEST_BYTES = 8 * 1024
MAX_PARTS = 32
MAX_PADDED_BYTES = 640 * 1024
PADDED_SIZES = (1024, 4 * 1024, 16 * 1024, 64 * 1024, 256 * 1024)
"""Plaintext sizes: an adult and a child, a yes and a no look alike."""

EVENT_TYP = "umuhuza-event+jws"
PART_TYP = "umuhuza-part+jwe"

Kind = Literal["request", "answer", "update", "control"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FLOWS = (
    "referral",
    "case",
    "alert",
    "investigation",
    "bilateral",
    "rights",
    "statistics",
    "directory",
    "knowledge",
    "receipt",
)

_AGENCY = re.compile(r"[a-z]{2}/[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_TOPIC = re.compile(r"([a-z]{2})\.([a-z]+)\.([a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?)")
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_PART = re.compile(r"[a-z][a-z0-9-]{0,30}")
_B64_32 = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
_B64_16 = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
_KID = re.compile(r"[A-Za-z0-9_-]{22}")
_AGREEMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
_L2_CHARACTERS = (string.ascii_letters + string.digits + "-_.~").encode("ascii")

# One match over several members joined by LF instead of one each: no member's own pattern matches an LF, so the joined
# one matches exactly when each member matches its own. Which member failed is looked for only after a failure.
_TEXTS = {"evt": _UUID7, "iss": _AGENCY, "to": _AGENCY, "thread": _B64_16, "topic": _TOPIC}
_ALL_TEXTS = re.compile("\n".join(pattern.pattern for pattern in _TEXTS.values()))
_PART_TEXTS = re.compile("\n".join(pattern.pattern for pattern in (_PART, _B64_32, _B64_32)))

_REQUIRED = frozenset(("v", "evt", "iss", "to", "topic", "kind", "thread", "seq", "prev", "iat", "reg", "parts"))
_OPTIONAL = frozenset(("acts", "training", "ref", "voids", "answer_by", "agreement"))
_PART_MEMBERS = frozenset(("name", "sha256", "len", "kc"))
_MAX_INT = 2**53 - 1


def _bad(path: str) -> RecordError:
    return RecordError("record_malformed", path)


# ---------------------------------------------------------------------------------------------------------------------
# Identifiers


def is_agency(text: str) -> bool:
    """`bi/iom`, or a handle, `bi/k7t4`."""
    return _AGENCY.fullmatch(text) is not None


def mailbox_topic(flow: str, agency: str) -> str:
    """`("referral", "bi/k7t4")` -> `bi.referral.k7t4`."""
    domain, _, name = agency.partition("/")
    return f"{domain}.{flow}.{name}"


def is_topic(text: str) -> bool:
    """Whether a mailbox's topic can be called so."""
    return _TOPIC.fullmatch(text) is not None


def split_topic(topic: str) -> tuple[str, str]:
    """`bi.referral.k7t4` -> `("referral", "bi/k7t4")`.

    Raises:
        RecordError: topic_mismatch.
    """
    match = _TOPIC.fullmatch(topic)
    if match is None:
        raise RecordError("topic_mismatch", "topic")
    return match[2], f"{match[1]}/{match[3]}"


def new_evt(at_ms: int, random: RandomBytes) -> str:
    """A UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, 74 random bits."""
    bits = int.from_bytes(random(10), "big")
    number = (at_ms & (2**48 - 1)) << 80 | 0x7 << 76 | (bits >> 62 & 0xFFF) << 64 | 0b10 << 62 | bits & (2**62 - 1)
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_evt(text: str) -> bool:
    """A UUIDv7 in lower case."""
    return _UUID7.fullmatch(text) is not None


def is_kid(text: str) -> bool:
    """A key's id: 16 bytes in base64url."""
    return _KID.fullmatch(text) is not None


def new_thread(random: RandomBytes) -> str:
    """128 random bits, base64url: means nothing, joins nothing beyond one pair of agencies.

    None begins with a dash, which a command line would take for an option; those of other programs may."""
    thread = b64url(random(16))
    while thread.startswith("-"):
        thread = b64url(random(16))
    return thread


# ---------------------------------------------------------------------------------------------------------------------
# Values


@dataclass(frozen=True, slots=True)
class Part:
    """One sealed part as the manifest states it."""

    name: str
    sha256: str
    """base64url SHA-256 of the part's compact JWE text."""
    len: int
    """Length of that text in bytes."""
    kc: str
    """Key commitment: base64url SHA-256 of `umuhuza/1 cek\\n` + the part's key."""


@dataclass(frozen=True, slots=True)
class Acts:
    """What a control record makes gateways do: `erase` deletes the grants of the targets ("<iss>/<evt>"), `grant` says
    that the grants beside this record are also for these targets."""

    erase: tuple[str, ...] = ()
    grant: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """L1's payload: the clear, signed metadata of a record. docs/wire-format.md has the rules of each member."""

    evt: str
    iss: str
    to: str
    topic: str
    kind: Kind
    thread: str
    seq: int
    """The issuer's counter on this topic, from 1."""
    prev: str
    """base64url SHA-256 of the issuer's previous `header.payload` on this topic; "" with seq 1."""
    iat: int
    """Seconds since the epoch: the issuer's claim."""
    reg: int
    """Version of the issuer's home registry."""
    parts: tuple[Part, ...]
    acts: Acts | None = None
    training: bool = False
    ref: str | None = None
    """The `evt` this answers, corrects or retracts."""
    voids: tuple[int, ...] = ()
    """Earlier `seq`s of the issuer on this topic that were refused and will never come."""
    answer_by: int | None = None
    """Deadline, seconds since the epoch."""
    agreement: str | None = None

    @property
    def ident(self) -> str:
        """ "<iss>/<evt>", unique for ever."""
        return f"{self.iss}/{self.evt}"

    @property
    def flow(self) -> str:
        """The topic's. Raises RecordError `topic_mismatch` for a topic that is none; a parsed manifest has one."""
        return split_topic(self.topic)[0]


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose shape is right; nothing is verified yet."""

    value: bytes
    manifest: Manifest
    kid: str
    signed: bytes
    """`header.payload`: what the signature covers."""
    signature: bytes
    body: tuple[str, ...]
    """The parts' compact JWEs, in the manifest's order."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of `header.payload`: the identity of what was signed, the same for a signature twin."""
        return hashlib.sha256(self.signed).digest()

    def verify(self, key: VerifyKey) -> None:
        """Raises RecordError `signature_invalid` unless `key` signed this manifest."""
        if key.kid != self.kid or not key.verifies(self.signed, self.signature):
            raise RecordError("signature_invalid", "L1")

    def verify_body(self) -> None:
        """The parts are those that were signed; their headers say nothing of their own, and their sizes tell nothing.

        Raises:
            RecordError: part_digest_mismatch, record_malformed, header_forbidden, too_large.
        """
        total = 0
        ident, kind = self.manifest.ident, self.manifest.kind
        for index, (part, text) in enumerate(zip(self.manifest.parts, self.body, strict=True)):
            if len(text) != part.len or b64url(hashlib.sha256(text.encode("ascii")).digest()) != part.sha256:
                raise RecordError("part_digest_mismatch", f"L2[{index}]")
            total += _padded_size(index, text, f"{ident}/{part.name}", _may_be_small(kind, part.name))
        if total > MAX_PADDED_BYTES:
            raise RecordError("too_large", "L2", expected=MAX_PADDED_BYTES)


_PADDED_SIZES = {-(-size * 4 // 3): size for size in PADDED_SIZES}
"""Characters of a ciphertext without padding -> bytes of plaintext. All are 2 modulo 4, so all end in one of AQgw."""


def part_header(kid: str) -> bytes:
    """The protected header of the part `<iss>/<evt>/<part>`, as we write it."""
    # An <iss>/<evt>/<part> holds nothing that JSON would escape.
    return f'{{"alg":"dir","enc":"A256GCM","kid":"{kid}","typ":"{PART_TYP}"}}'.encode("ascii")


def part_segments(index: int, text: str) -> tuple[str, ...]:
    """header, encrypted key (always empty), iv, ciphertext, tag. Raises RecordError `record_malformed`."""
    segments = _pieces(text, ".", 5)
    if segments is None:
        raise _bad(f"L2[{index}]")
    return segments


def check_part_header(index: int, header: str, kid: str) -> None:
    """The header has exactly our four members; their order and white space are the writer's.

    Raises:
        RecordError: record_malformed, header_forbidden.
    """
    if header == b64url(part_header(kid)):
        return
    try:
        raw = ijson.loads(unb64url(header), max_bytes=512, max_depth=2)
    except (ValueError, ijson.IJsonError):
        raise _bad(f"L2[{index}].header") from None
    if raw != {"alg": "dir", "enc": "A256GCM", "kid": kid, "typ": PART_TYP}:
        raise RecordError("header_forbidden", f"L2[{index}].header")


def _padded_size(index: int, text: str, kid: str, small: bool) -> int:
    header, empty, iv, ciphertext, tag = part_segments(index, text)
    size = _PADDED_SIZES.get(len(ciphertext))
    if empty or len(iv) != 16 or len(tag) != 22 or size is None or (size == PADDED_SIZES[0] and not small):
        raise _bad(f"L2[{index}]")
    # No bits beyond the last byte: the recipient refuses them, so they must not get as far as that.
    if tag[-1] not in "AQgw" or ciphertext[-1] not in "AQgw":
        raise _bad(f"L2[{index}]")
    check_part_header(index, header, kid)
    return size


def _may_be_small(kind: Kind, part: str) -> bool:
    return kind == "control" or (kind == "answer" and part == "identity")


# ---------------------------------------------------------------------------------------------------------------------
# Reading


@lru_cache(maxsize=4096)
def _event_header(segment: str) -> str:
    """The kid of a protected header; cached, since an issuer's header is the same text every time."""
    return jws_header(segment, EVENT_TYP)


def jws_header(segment: str, typ: str) -> str:
    """Check that a protected header is exactly `{"alg":"ES256","kid":...,"typ":typ}` and return its kid.

    Raises:
        RecordError: record_malformed, header_forbidden.
    """
    try:
        header = ijson.loads(unb64url(segment), max_bytes=512, max_depth=2)
    except (ValueError, ijson.IJsonError):
        raise _bad("L1.header") from None
    if not isinstance(header, dict):
        raise _bad("L1.header")
    for name in header:
        if name not in ("alg", "kid", "typ"):
            raise RecordError("header_forbidden", "L1.header.*")
    if header.get("alg") != "ES256":
        raise RecordError("header_forbidden", "L1.header.alg", expected="ES256")
    if header.get("typ") != typ:
        raise RecordError("header_forbidden", "L1.header.typ", expected=typ)
    kid = header.get("kid")
    if not isinstance(kid, str) or not is_kid(kid):
        raise RecordError("header_forbidden", "L1.header.kid")
    return kid


def parse_record(value: bytes) -> Record:
    """Read a record strictly; verify nothing.

    Raises:
        RecordError: too_large, record_malformed, header_forbidden, version_unsupported, topic_mismatch.
    """
    if len(value) > MAX_RECORD_BYTES:
        raise RecordError("too_large", "record", expected=MAX_RECORD_BYTES)
    line1, newline, line2 = value.partition(b"\n")
    # translate() deletes what may be there, ten times faster than a pattern; L1's characters are checked on decoding.
    if not newline or not line2 or line2.translate(None, _L2_CHARACTERS):
        raise _bad("record")
    kid, signed, signature, manifest = parse_manifest(line1)
    body = _pieces(line2.decode("ascii"), "~", len(manifest.parts))
    if body is None:
        raise _bad("L2")
    return Record(value, manifest, kid, signed, signature, body)


def _pieces(text: str, separator: str, count: int) -> tuple[str, ...] | None:
    """`text.split(separator)` if that gives `count` pieces. find() looks at many bytes at once, split() at each."""
    pieces: list[str] = []
    start = 0
    for _ in range(count - 1):
        end = text.find(separator, start)
        if end < 0:
            return None
        pieces.append(text[start:end])
        start = end + 1
    if text.find(separator, start) >= 0:
        return None
    pieces.append(text[start:])
    return tuple(pieces)


def parse_manifest(line1: bytes) -> tuple[str, bytes, bytes, Manifest]:
    """L1 alone -> (kid, signed bytes, signature, manifest). Raises RecordError as `parse_record`."""
    if len(line1) > MAX_MANIFEST_BYTES:
        raise RecordError("too_large", "L1", expected=MAX_MANIFEST_BYTES)
    segments = line1.decode("ascii", "replace").split(".")
    if len(segments) != 3:
        raise _bad("L1")
    kid = _event_header(segments[0])
    try:
        payload_bytes = unb64url(segments[1])
    except ValueError:
        raise _bad("L1.payload") from None
    try:
        signature = unb64url(segments[2])
    except ValueError:
        raise _bad("L1.signature") from None
    if len(signature) != 64:
        raise _bad("L1.signature")
    try:
        payload = ijson.loads(payload_bytes, max_bytes=MAX_MANIFEST_BYTES, max_depth=4)
    except ijson.IJsonError as exc:
        raise _bad(f"L1{'.' + exc.path if exc.path else ''}") from None
    if not isinstance(payload, dict):
        raise _bad("L1.payload")
    return kid, line1[: len(segments[0]) + 1 + len(segments[1])], signature, _manifest(payload)


def _manifest(raw: dict[str, Any]) -> Manifest:
    if raw.get("v") != 1 or raw["v"] is True:
        raise RecordError("version_unsupported", "L1.v", expected=1)
    present = raw.keys()
    if present != _REQUIRED:
        if not present >= _REQUIRED:
            raise _bad(f"L1.{min(_REQUIRED - present)}")
        if not present <= _REQUIRED | _OPTIONAL:
            raise _bad("L1.*")
    evt, iss, to, thread, topic = texts = [raw[name] for name in _TEXTS]
    found = _match_all(_ALL_TEXTS, texts)
    if found is None:
        raise _bad(f"L1.{next(name for name, pattern in _TEXTS.items() if not _matches(raw[name], pattern))}")
    domain, flow, owner = found.groups()
    if flow not in FLOWS:
        raise _bad("L1.topic")
    if f"{domain}/{owner}" != to:
        raise RecordError("topic_mismatch", "L1.topic")
    kind = raw["kind"]
    if kind not in KINDS:
        raise _bad("L1.kind")
    seq = _integer(raw, "seq", 1)
    prev = raw["prev"]
    if (prev == "") != (seq == 1) or (prev != "" and not _matches(prev, _B64_32)):
        raise _bad("L1.prev")
    return Manifest(
        evt=evt,
        iss=iss,
        to=to,
        topic=topic,
        kind=kind,
        thread=thread,
        seq=seq,
        prev=prev,
        iat=_integer(raw, "iat", 1),
        reg=_integer(raw, "reg", 0),
        parts=_parts(raw["parts"]),
        acts=_acts(raw["acts"], kind) if "acts" in raw else None,
        training=_true(raw, "training"),
        ref=_match(raw, "ref", _UUID7) if "ref" in raw else None,
        voids=_voids(raw["voids"], seq) if "voids" in raw else (),
        answer_by=_integer(raw, "answer_by", 1) if "answer_by" in raw else None,
        agreement=_match(raw, "agreement", _AGREEMENT) if "agreement" in raw else None,
    )


def _matches(value: Any, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _match_all(pattern: re.Pattern[str], texts: Sequence[Any]) -> re.Match[str] | None:
    try:
        return pattern.fullmatch("\n".join(texts))
    except TypeError:  # one of them is no text
        return None


def _match(raw: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = raw[name]
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise _bad(f"L1.{name}")
    return value


def _integer(raw: Mapping[str, Any], name: str, least: int) -> int:
    value = raw[name]
    if type(value) is not int or not least <= value <= _MAX_INT:
        raise _bad(f"L1.{name}")
    return value


def _true(raw: Mapping[str, Any], name: str) -> bool:
    if name not in raw:
        return False
    if raw[name] is not True:
        raise _bad(f"L1.{name}")
    return True


def _parts(raw: Any) -> tuple[Part, ...]:
    if not isinstance(raw, list) or not 2 <= len(raw) <= MAX_PARTS:
        raise _bad("L1.parts")
    parts = tuple([_part(index, item) for index, item in enumerate(raw)])
    if parts[0].name != "identity" or parts[1].name != "content":
        raise _bad("L1.parts")
    if len(parts) > 2:
        names = [part.name for part in parts]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise _bad(f"L1.parts[{index}].name")
    return parts


def _part(index: int, raw: Any) -> Part:
    if not isinstance(raw, dict):
        raise _bad(f"L1.parts[{index}]")
    if raw.keys() != _PART_MEMBERS:
        missing = _PART_MEMBERS - raw.keys()
        raise _bad(f"L1.parts[{index}].{min(missing) if missing else '*'}")
    name, digest, commitment = texts = raw["name"], raw["sha256"], raw["kc"]
    if _match_all(_PART_TEXTS, texts) is None:
        wrong = "name" if not _matches(name, _PART) else "kc" if _matches(digest, _B64_32) else "sha256"
        raise _bad(f"L1.parts[{index}].{wrong}")
    length = raw["len"]
    if type(length) is not int or not 1 <= length <= _MAX_INT:
        raise _bad(f"L1.parts[{index}].len")
    return Part(name, digest, length, commitment)


def _acts(raw: Any, kind: str) -> Acts:
    if kind != "control" or not isinstance(raw, dict) or not raw or not raw.keys() <= {"erase", "grant"}:
        raise _bad("L1.acts")
    targets: dict[str, tuple[str, ...]] = {}
    for name, items in raw.items():
        if not isinstance(items, list) or not 1 <= len(items) <= 50 or len(set(map(str, items))) != len(items):
            raise _bad(f"L1.acts.{name}")
        for index, item in enumerate(items):
            if not isinstance(item, str) or not is_ident(item):
                raise _bad(f"L1.acts.{name}[{index}]")
        targets[name] = tuple(items)
    return Acts(**targets)


def is_ident(text: str) -> bool:
    """`<iss>/<evt>`, as in `bi/iom/0192...`."""
    iss, _, evt = text.rpartition("/")
    return is_agency(iss) and is_evt(evt)


def _voids(raw: Any, seq: int) -> tuple[int, ...]:
    if not isinstance(raw, list) or not 1 <= len(raw) <= 500:
        raise _bad("L1.voids")
    last = 0
    for index, item in enumerate(raw):
        if type(item) is not int or not last < item < seq:
            raise _bad(f"L1.voids[{index}]")
        last = item
    return tuple(raw)


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def sign_jws(typ: str, payload: Mapping[str, Any], key: Signer) -> bytes:
    """A compact JWS with our exact protected header. Raises what the key raises."""
    header = json.dumps({"alg": "ES256", "kid": key.kid, "typ": typ}, separators=(",", ":"))
    body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False)
    signed = f"{b64url(header.encode())}.{b64url(body.encode())}".encode("ascii")
    return signed + b"." + b64url(key.sign(signed)).encode("ascii")


def sign_manifest(manifest: Manifest, key: Signer) -> bytes:
    """L1. Raises RecordError `too_large`."""
    payload: dict[str, Any] = {
        "v": 1,
        "evt": manifest.evt,
        "iss": manifest.iss,
        "to": manifest.to,
        "topic": manifest.topic,
        "kind": manifest.kind,
    }
    if manifest.acts is not None:
        acts = {"erase": list(manifest.acts.erase), "grant": list(manifest.acts.grant)}
        payload["acts"] = {name: targets for name, targets in acts.items() if targets}
    if manifest.training:
        payload["training"] = True
    payload["thread"] = manifest.thread
    if manifest.ref is not None:
        payload["ref"] = manifest.ref
    payload |= {"seq": manifest.seq, "prev": manifest.prev}
    if manifest.voids:
        payload["voids"] = list(manifest.voids)
    payload["iat"] = manifest.iat
    if manifest.answer_by is not None:
        payload["answer_by"] = manifest.answer_by
    payload["reg"] = manifest.reg
    if manifest.agreement is not None:
        payload["agreement"] = manifest.agreement
    payload["parts"] = [
        {"name": part.name, "sha256": part.sha256, "len": part.len, "kc": part.kc} for part in manifest.parts
    ]
    line = sign_jws(EVENT_TYP, payload, key)
    if len(line) > MAX_MANIFEST_BYTES:
        raise RecordError("too_large", "L1", expected=MAX_MANIFEST_BYTES)
    return line


def record_value(line1: bytes, body: bytes) -> bytes:
    """L1 LF L2. Raises RecordError `too_large`."""
    value = line1 + b"\n" + body
    if len(value) > MAX_RECORD_BYTES:
        raise RecordError("too_large", "record", expected=MAX_RECORD_BYTES)
    return value


def chain_hash(signed_or_line1: bytes) -> str:
    """What the next manifest's `prev` says: base64url SHA-256 of `header.payload` (a signature, if there, is cut)."""
    signed = b".".join(signed_or_line1.split(b".")[:2])
    return b64url(hashlib.sha256(signed).digest())


def cloudevents_headers(manifest: Manifest) -> tuple[tuple[str, bytes], ...]:
    """CloudEvents 1.0.2 Kafka binary mode copies; unauthenticated, must match (`header_mismatch`)."""
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", manifest.evt.encode()),
        ("ce_source", manifest.iss.encode()),
        ("ce_type", f"{manifest.flow}.{manifest.kind}".encode()),
        ("content-type", b"application/vnd.umuhuza.record"),
    )


def check_copies(record: Record, topic: str, key: bytes, headers: Sequence[tuple[str, bytes]]) -> None:
    """The log's clear copies against the signed manifest.

    Raises:
        RecordError: topic_mismatch, key_mismatch, header_mismatch.
    """
    manifest = record.manifest
    if manifest.topic != topic:
        raise RecordError("topic_mismatch", "topic")
    if manifest.thread.encode("ascii") != key:
        raise RecordError("key_mismatch", "key")
    expected = dict(cloudevents_headers(manifest))
    for name, value in headers:
        if name in expected and expected[name] != value:
            raise RecordError("header_mismatch", name)
