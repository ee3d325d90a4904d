# SPDX-License-Identifier: Apache-2.0
"""What only the two ends can read: parts are sealed and opened, and their keys granted. Wire format version 1.

Each part of a record (`schemas/envelope.py`) is padded and encrypted under a key of its own. A grant carries those keys
to one key of the recipient, through HPKE (RFC 9180), and is kept apart from the record: deleting it is erasure, giving
a part of it is disclosure.

Invariants:
- One key, one use: a part is encrypted once, under a key drawn for it alone.
- The manifest commits to every key, so all who hold a grant provably hold the same one.
- A grant opens for one record and one recipient key only; sizes tell no more than the padding's step.

This module must never do I/O, read a clock, print a key or a plaintext, or draw randomness of its own (HPKE's
encapsulation excepted, which OpenSSL draws). With `schemas/keys.py` the only importer of `cryptography` for records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas import ijson
from schemas.envelope import (
    MAX_PADDED_BYTES,
    MAX_PARTS,
    PADDED_SIZES,
    Kind,
    Manifest,
    Part,
    Record,
    check_part_header,
    is_agency,
    is_evt,
    is_kid,
    part_header,
    part_segments,
)
from schemas.errors import RecordError
from schemas.keys import Opener, RandomBytes, SealTo, b64url, unb64url

MAX_GRANT_BYTES = 16 * 1024


def _bad(path: str) -> RecordError:
    return RecordError("record_malformed", path)


@dataclass(frozen=True, slots=True)
class Sealed:
    """The sealed parts of one event: made once, when it enters the outbox, and never again."""

    parts: tuple[Part, ...]
    body: bytes
    """L2."""
    keys: Mapping[str, bytes]
    """Part name -> 32-byte content key. Secret: goes into grants and the outbox only."""

    def __repr__(self) -> str:
        return f"Sealed({[part.name for part in self.parts]})"


def pad(plaintext: bytes, small: bool) -> bytes:
    """Trailing spaces up to the next allowed size. Raises RecordError `too_large`."""
    for size in PADDED_SIZES if small else PADDED_SIZES[1:]:
        if len(plaintext) <= size:
            return plaintext.ljust(size)
    raise RecordError("too_large", "part", expected=PADDED_SIZES[-1])


def commitment_of(key: bytes) -> str:
    """`kc` of a manifest's part: base64url SHA-256 of `umuhuza/1 cek`, LF and the part's key."""
    return b64url(hashlib.sha256(b"umuhuza/1 cek\n" + key).digest())


def seal_parts(ident: str, kind: Kind, plaintexts: Mapping[str, bytes], random: RandomBytes) -> Sealed:
    """Pad and encrypt each part under a fresh 256-bit key.

    Args:
        ident: "<iss>/<evt>", bound into each part's header.
        plaintexts: `identity` and `content` first, in this order; an empty identity is padded-empty.

    Raises:
        RecordError: too_large (a part over 256 KiB, all over 640 KiB), record_malformed (wrong parts).
    """
    if list(plaintexts)[:2] != ["identity", "content"] or len(plaintexts) > MAX_PARTS:
        raise _bad("parts")
    parts: list[Part] = []
    texts: list[str] = []
    keys: dict[str, bytes] = {}
    total = 0
    for name, plaintext in plaintexts.items():
        small = kind == "control" or (kind == "answer" and name == "identity" and not plaintext)
        padded = pad(plaintext, small)
        total += len(padded)
        key, iv = random(32), random(12)
        header = b64url(part_header(f"{ident}/{name}"))
        sealed = AESGCM(key).encrypt(iv, padded, header.encode("ascii"))
        text = f"{header}..{b64url(iv)}.{b64url(sealed[:-16])}.{b64url(sealed[-16:])}"
        data = text.encode("ascii")
        parts.append(Part(name, b64url(hashlib.sha256(data).digest()), len(data), commitment_of(key)))
        texts.append(text)
        keys[name] = key
    if total > MAX_PADDED_BYTES:
        raise RecordError("too_large", "parts", expected=MAX_PADDED_BYTES)
    return Sealed(tuple(parts), "~".join(texts).encode("ascii"), keys)


# ---------------------------------------------------------------------------------------------------------------------
# Grants and opening


def _grant_info(manifest: Manifest, kid: str) -> bytes:
    commitments = "".join(f"{part.kc}\n" for part in manifest.parts)
    return (
        f"umuhuza/1 grant\n{manifest.iss}\n{manifest.to}\n{manifest.topic}\n{manifest.evt}\n{kid}\n{commitments}"
    ).encode("ascii")


def make_grant(manifest: Manifest, keys: Mapping[str, bytes], rcpt: str, to: SealTo) -> bytes:
    """Seal part keys to one recipient key.

    Bound to iss, to, topic, evt, the recipient's kid and every part's commitment through HPKE's `info`, and to nothing
    that is only known at signing (seq, prev): a grant can be made when the event enters the outbox.
    """
    plaintext = orjson.dumps({name: b64url(key) for name, key in keys.items()})
    sealed = to.seal(plaintext, _grant_info(manifest, to.kid))
    grant = {
        "v": 1,
        "iss": manifest.iss,
        "evt": manifest.evt,
        "rcpt": rcpt,
        "kid": to.kid,
        "suite": to.suite,
        "ct": b64url(sealed),
    }
    return orjson.dumps(grant)


@dataclass(frozen=True, slots=True)
class Grant:
    """The keys of a record's parts, sealed to one key of one reader; whose word it is, only opening shows."""

    iss: str
    evt: str
    rcpt: str
    kid: str
    suite: str
    ct: bytes

    @property
    def ident(self) -> str:
        """The record's "<iss>/<evt>"."""
        return f"{self.iss}/{self.evt}"


def parse_grant(data: bytes) -> Grant:
    """Raises RecordError `record_malformed`, `version_unsupported`, `too_large`."""
    if len(data) > MAX_GRANT_BYTES:
        raise RecordError("too_large", "grant", expected=MAX_GRANT_BYTES)
    try:
        raw = ijson.loads(data, max_bytes=MAX_GRANT_BYTES, max_depth=2)
    except ijson.IJsonError:
        raise _bad("grant") from None
    return grant_of(raw)


def grant_of(raw: Any) -> Grant:
    """A grant from its parsed JSON. Raises RecordError `record_malformed`, `version_unsupported`, `too_large`."""
    if not isinstance(raw, dict):
        raise _bad("grant")
    if type(raw.get("v")) is not int or raw["v"] != 1:
        raise RecordError("version_unsupported", "grant.v", expected=1)
    members = {"v", "iss", "evt", "rcpt", "kid", "suite", "ct"}
    if raw.keys() != members:
        missing = members - raw.keys()
        raise _bad(f"grant.{min(missing) if missing else '*'}")
    for name, well_formed in (("iss", is_agency), ("evt", is_evt), ("rcpt", is_agency), ("kid", is_kid)):
        if not isinstance(raw[name], str) or not well_formed(raw[name]):
            raise _bad(f"grant.{name}")
    if raw["suite"] not in ("647a-0011-0002", "0010-0001-0002"):
        raise _bad("grant.suite")
    if not isinstance(raw["ct"], str):
        raise _bad("grant.ct")
    if len(raw["ct"]) > MAX_GRANT_BYTES:
        raise RecordError("too_large", "grant.ct", expected=MAX_GRANT_BYTES)
    try:
        ct = unb64url(raw["ct"])
    except ValueError:
        raise _bad("grant.ct") from None
    return Grant(raw["iss"], raw["evt"], raw["rcpt"], raw["kid"], raw["suite"], ct)


def open_grant(record: Record, data: bytes | Grant, key: Opener) -> dict[str, bytes]:
    """Part name -> content key, for the parts that were granted.

    Args:
        data: the grant, also as `parse_grant` has read it.

    Raises:
        RecordError: grant_unopenable, key_commitment_mismatch, and what `parse_grant` raises.
        KeyStoreError: the device that holds the key is not there, or refuses; says nothing about the grant.
    """
    grant = data if isinstance(data, Grant) else parse_grant(data)
    manifest = record.manifest
    if grant.ident != manifest.ident or grant.kid != key.kid or grant.suite != key.suite:
        raise RecordError("grant_unopenable", "grant")
    try:
        plaintext = key.open(grant.ct, _grant_info(manifest, key.kid))
        raw = ijson.loads(plaintext, max_bytes=MAX_GRANT_BYTES, max_depth=2)
        if not isinstance(raw, dict) or not raw or not all(isinstance(value, str) for value in raw.values()):
            raise ValueError("shape")
        keys = {name: unb64url(value) for name, value in raw.items()}
    except (ValueError, ijson.IJsonError):
        raise RecordError("grant_unopenable", "grant.ct") from None
    commitments = {part.name: (index, part.kc) for index, part in enumerate(manifest.parts)}
    for name, content_key in keys.items():
        if name not in commitments or len(content_key) != 32:
            raise RecordError("grant_unopenable", "grant.ct")
        index, commitment = commitments[name]
        if commitment_of(content_key) != commitment:
            raise RecordError("key_commitment_mismatch", f"L1.parts[{index}].kc")
    return keys


def open_parts(record: Record, keys: Mapping[str, bytes], names: Iterable[str] | None = None) -> dict[str, bytes]:
    """Decrypt the parts for which there is a key (or just `names`); plaintexts keep their padding spaces.

    Call `Record.verify` and `Record.verify_body` before.

    Raises:
        RecordError: grant_missing (a named part without key), part_unopenable.
    """
    wanted = set(keys) if names is None else set(names)
    opened: dict[str, bytes] = {}
    for index, (part, text) in enumerate(zip(record.manifest.parts, record.body, strict=True)):
        if part.name not in wanted:
            continue
        if part.name not in keys:
            raise RecordError("grant_missing", f"L2[{index}]")
        opened[part.name] = _open_part(index, f"{record.manifest.ident}/{part.name}", text, keys[part.name])
    return opened


def _open_part(index: int, kid: str, text: str, key: bytes) -> bytes:
    path = f"L2[{index}]"
    header, empty, iv, ciphertext, tag = part_segments(index, text)
    check_part_header(index, header, kid)
    try:
        iv_bytes, sealed, tag_bytes = unb64url(iv), unb64url(ciphertext), unb64url(tag)
    except ValueError:
        raise _bad(path) from None
    if empty or len(iv_bytes) != 12 or len(tag_bytes) != 16:  # AESGCM itself would take other sizes of iv
        raise _bad(path)
    sealed += tag_bytes
    try:
        return AESGCM(key).decrypt(iv_bytes, sealed, header.encode("ascii"))
    except (InvalidTag, ValueError):
        raise RecordError("part_unopenable", path) from None
