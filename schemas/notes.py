# SPDX-License-Identifier: Apache-2.0
"""Signed notes, checkpoints and cosignatures: what a ledger says of itself, and who else has seen it.

    note        text LF, LF, one line per signature:  U+2014 SP name SP base64(key id || signature) LF
    checkpoint  a note whose text is            origin LF size LF base64(root) LF
    vkey        name+hex(key id)+base64(type || public key)      key id = SHA-256(name LF type || public key)[:4]

    type 0x01   Ed25519 over the text: a ledger's own signature
    type 0x04   Ed25519 over "cosignature/v1 LF time T LF" and the text: a witness's, with its time
    type 0x06   ML-DSA-44 over a `cosigned_message`: a ledger's or a witness's, with its name and its time

Standards: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature (v1 and ML-DSA-44). Stricter than
they ask: no extension lines (ML-DSA-44 does not sign them), no second line of one key, lower-case key ids, canonical
base64 only, the root of an empty tree is the standard's, names and origins are short and without spaces.

Invariants: what is read is written back byte for byte; a signature by a key that is trusted and does not verify refuses
the whole note; one by any other key says nothing at all.

Pure: bytes in, bytes out, no clock. Must never put a note's text into an error.
"""

from __future__ import annotations

import binascii
import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

from schemas.errors import LogError
from schemas.keys import RandomBytes

MAX_NOTE_BYTES = 256 * 1024
"""Room for `MAX_SIGNATURES` post-quantum signatures."""
MAX_SIGNATURES = 32
"""The standard asks for 16 at least."""
MAX_NAME_BYTES = 255
"""What ML-DSA-44's `cosigned_message` has room for."""
MAX_SIZE = (1 << 63) - 1
"""Of a tree; also the latest time, in seconds since the epoch, that a cosignature can state."""
HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves (RFC 6962 section 2.1)."""

_DASH = "\u2014 "
_PRIVATE = "PRIVATE+KEY+"
_LABEL = b"subtree/v1\n\x00"


class SignatureType(IntEnum):
    """The byte that says which algorithm a key is for (c2sp.org/signed-note, "Signature types")."""

    ED25519 = 0x01
    COSIGNATURE = 0x04
    """Ed25519 with a time, of a witness."""
    ML_DSA_44 = 0x06
    """With a time and the signer's name: of a witness, or of a ledger."""


_TYPES = {bytes([kind]): kind for kind in SignatureType}
_PUBLIC_BYTES = {SignatureType.ED25519: 32, SignatureType.COSIGNATURE: 32, SignatureType.ML_DSA_44: 1312}


def malformed(path: str, *, expected: str | int | None = None) -> LogError:
    """`note_malformed` at a place."""
    return LogError("note_malformed", path, expected=expected)


# ---------------------------------------------------------------------------------------------------------------------
# Pieces of text


def b64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648 section 4)."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def unb64(text: str, path: str) -> bytes:
    """Strict reverse of `b64`: one text for one value. Raises LogError `note_malformed` at `path`."""
    data: bytes | None = None
    if text.isascii():
        try:
            data = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
        except binascii.Error:
            data = None
    if data is None or b64(data) != text:
        raise malformed(path)
    return data


def read_hash(text: str, path: str) -> bytes:
    """One SHA-256 hash in base64. Raises LogError `note_malformed` at `path`."""
    data = unb64(text, path)
    if len(data) != HASH_BYTES:
        raise malformed(path)
    return data


def read_decimal(text: str, path: str) -> int:
    """ASCII decimal without leading zeros, at most `MAX_SIZE`. Raises LogError `note_malformed` at `path`."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or (text[0] == "0" and text != "0"):
        raise malformed(path)
    number = int(text)
    if number > MAX_SIZE:
        raise malformed(path)
    return number


def is_name(text: str) -> bool:
    """Whether this can be a key's name or a ledger's origin: 1 to 255 bytes, no space, no `+`, nothing unprintable."""
    # `isprintable` refuses every space of Unicode but U+0020, and lone surrogates, which could not be encoded.
    return text.isprintable() and not {" ", "+"} & set(text) and 0 < len(text.encode("utf-8")) <= MAX_NAME_BYTES


def decoded(data: bytes, path: str) -> str:
    """UTF-8 without control characters but LF. Raises LogError `note_malformed` at `path`."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\x00"
    if any(ord(char) < 0x20 and char != "\n" for char in set(text)):
        raise malformed(path)
    return text


# ---------------------------------------------------------------------------------------------------------------------
# Keys


def _key_id(name: str, kind: SignatureType, public: bytes) -> int:
    digest = hashlib.sha256(name.encode("utf-8") + b"\n" + bytes([kind]) + public).digest()
    return int.from_bytes(digest[:4], "big")


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key that notes are checked with, and the name that goes with it.

    Raises:
        LogError: note_malformed (path `vkey`), no name or no public key of this type.
    """

    name: str
    kind: SignatureType
    public: bytes
    """32 bytes (Ed25519), 1,312 bytes (ML-DSA-44)."""
    key_id: int = field(init=False)
    """Tells keys of one name apart; not a fingerprint, four bytes can be made to collide."""

    def __post_init__(self) -> None:
        if not is_name(self.name) or len(self.public) != _PUBLIC_BYTES[self.kind]:
            raise malformed("vkey")
        object.__setattr__(self, "key_id", _key_id(self.name, self.kind, self.public))

    @property
    def vkey(self) -> str:
        """One line of text: what is given to whoever has to trust it."""
        return f"{self.name}+{self.key_id:08x}+{b64(bytes([self.kind]) + self.public)}"

    def verify(self, text: str, signature: bytes) -> int | None:
        """Check one signature of this key over a note's text.

        Returns:
            The time that it states, seconds since the epoch; None where it states none.

        Raises:
            LogError: signature_invalid; note_malformed, a cosignature over what is no checkpoint.
        """
        if self.kind is SignatureType.ED25519:
            at, message, raw = None, text.encode("utf-8"), signature
        else:
            if len(signature) < 8:
                raise LogError("signature_invalid", "note.signatures")
            [at] = struct.unpack_from(">Q", signature)
            if at > MAX_SIZE:
                raise LogError("signature_invalid", "note.signatures")
            message, raw = _cosigned(self, read_checkpoint_text(text), at), signature[8:]
        try:
            if self.kind is SignatureType.ML_DSA_44:
                mldsa.MLDSA44PublicKey.from_public_bytes(self.public).verify(raw, message)
            else:
                ed25519.Ed25519PublicKey.from_public_bytes(self.public).verify(raw, message)
        except (InvalidSignature, ValueError):
            raise LogError("signature_invalid", "note.signatures") from None
        return at or None


def read_vkey(text: str) -> NoteKey:
    """Reverse of `NoteKey.vkey`. Raises LogError `note_malformed` (path `vkey`)."""
    key = NoteKey(*_key_parts(text, "vkey"))
    if key.vkey != text:
        raise malformed("vkey")
    return key


def _key_parts(text: str, path: str) -> tuple[str, SignatureType, bytes]:
    """Of `name+id+base64(type || key)`: name, type, key. The caller writes it back and compares, the id included."""
    name, _, rest = text.partition("+")
    data = unb64(rest.partition("+")[2], path)
    if not is_name(name) or data[:1] not in _TYPES:
        raise malformed(path)
    return name, _TYPES[data[:1]], data[1:]


@dataclass(frozen=True, slots=True)
class NoteSigner:
    """A private key that signs notes, kept as its 32-byte seed (RFC 8032, FIPS 204). Never printed, never compared.

    Raises:
        LogError: note_malformed (path `skey`).
    """

    name: str
    kind: SignatureType
    _seed: bytes = field(repr=False, compare=False)
    public: NoteKey = field(init=False)

    def __post_init__(self) -> None:
        if len(self._seed) != 32 or not is_name(self.name):
            raise malformed("skey")
        if self.kind is SignatureType.ML_DSA_44:
            public = mldsa.MLDSA44PrivateKey.from_seed_bytes(self._seed).public_key().public_bytes_raw()
        else:
            public = ed25519.Ed25519PrivateKey.from_private_bytes(self._seed).public_key().public_bytes_raw()
        object.__setattr__(self, "public", NoteKey(self.name, self.kind, public))

    @classmethod
    def generate(cls, name: str, kind: SignatureType, random: RandomBytes) -> NoteSigner:
        return cls(name, kind, random(32))

    @property
    def skey(self) -> str:
        """One line of text, for this signer's own key file only (the form of Go's sumdb/note)."""
        return f"{_PRIVATE}{self.name}+{self.public.key_id:08x}+{b64(bytes([self.kind]) + self._seed)}"

    def sign(self, text: str, at: int) -> NoteSignature:
        """Sign a checkpoint's text, stating the time `at` (seconds since the epoch) where the type has one.

        ML-DSA-44 signatures draw OpenSSL's randomness: two of one text differ, and both verify.

        Raises:
            LogError: note_malformed, the text is no checkpoint.
        """
        checkpoint = read_checkpoint_text(text)
        if not 0 < at <= MAX_SIZE:
            raise ValueError("time")
        if self.kind is SignatureType.ED25519:
            raw = ed25519.Ed25519PrivateKey.from_private_bytes(self._seed).sign(text.encode("utf-8"))
        else:
            message = _cosigned(self.public, checkpoint, at)
            if self.kind is SignatureType.ML_DSA_44:
                signed = mldsa.MLDSA44PrivateKey.from_seed_bytes(self._seed).sign(message)
            else:
                signed = ed25519.Ed25519PrivateKey.from_private_bytes(self._seed).sign(message)
            raw = struct.pack(">Q", at) + signed
        return NoteSignature(self.name, self.public.key_id, raw)


def read_skey(text: str) -> NoteSigner:
    """Reverse of `NoteSigner.skey`. Raises LogError `note_malformed` (path `skey`)."""
    if not text.startswith(_PRIVATE):
        raise malformed("skey")
    signer = NoteSigner(*_key_parts(text.removeprefix(_PRIVATE), "skey"))
    if signer.skey != text:
        raise malformed("skey")
    return signer


def _cosigned(key: NoteKey, checkpoint: Checkpoint, at: int) -> bytes:
    """What a witness's signature is over (c2sp.org/tlog-cosignature, both "signed message" sections)."""
    if key.kind is SignatureType.COSIGNATURE:
        return f"cosignature/v1\ntime {at}\n{checkpoint.text}".encode()
    name, origin = key.name.encode("utf-8"), checkpoint.origin.encode("utf-8")
    return b"".join(
        (
            _LABEL,
            bytes([len(name)]),
            name,
            struct.pack(">Q", at),
            bytes([len(origin)]),
            origin,
            struct.pack(">QQ", 0, checkpoint.size),
            checkpoint.root,
        )
    )


# ---------------------------------------------------------------------------------------------------------------------
# Notes


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line. That it is there says nothing: `verify_note` does."""

    name: str
    key_id: int
    signature: bytes
    """Without the key id; a time of 8 bytes first where the type has one."""

    @property
    def line(self) -> str:
        """With its LF."""
        return f"{_DASH}{self.name} {b64(self.key_id.to_bytes(4, 'big') + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text with its signatures, read but not checked."""

    text: str
    """With its last LF."""
    signatures: tuple[NoteSignature, ...]

    def dumps(self) -> bytes:
        """As it was read; as it is sent and kept."""
        return (self.text + "\n" + "".join(one.line for one in self.signatures)).encode("utf-8")

    def with_signatures(self, more: Iterable[NoteSignature]) -> Note:
        """These added at the end; one of a key that had signed takes the place of its earlier one.

        Raises:
            LogError: too_large, more than `MAX_SIGNATURES`.
        """
        kept = {(one.name, one.key_id): one for one in (*self.signatures, *more)}
        if len(kept) > MAX_SIGNATURES:
            raise LogError("too_large", "note.signatures", expected=MAX_SIGNATURES)
        return replace(self, signatures=tuple(kept.values()))


def read_signature_lines(data: bytes, path: str = "note.signatures") -> tuple[NoteSignature, ...]:
    """One or more signature lines, as they end a note and as a witness answers.

    Raises:
        LogError: note_malformed at `path[i]`; too_large.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise LogError("too_large", path, expected=MAX_NOTE_BYTES)
    return _signature_lines(decoded(data, path), path)


def _signature_lines(text: str, path: str) -> tuple[NoteSignature, ...]:
    if not text.endswith("\n"):
        raise malformed(path)
    lines = text[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise LogError("too_large", path, expected=MAX_SIGNATURES)
    found: dict[tuple[str, int], NoteSignature] = {}
    for number, line in enumerate(lines):
        where = f"{path}[{number}]"
        name, space, coded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space or not is_name(name):
            raise malformed(where)
        data = unb64(coded, where)
        if len(data) < 5:
            raise malformed(where)
        one = NoteSignature(name, int.from_bytes(data[:4], "big"), data[4:])
        if (name, one.key_id) in found:
            raise malformed(where)
        found[name, one.key_id] = one
    return tuple(found.values())


def read_note(data: bytes) -> Note:
    """Read a signed note; nothing of it is to be believed before `verify_note`.

    Raises:
        LogError: note_malformed, too_large.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise LogError("too_large", "note", expected=MAX_NOTE_BYTES)
    text, blank, signatures = decoded(data, "note").rpartition("\n\n")
    if not blank or not text:
        raise malformed("note")
    return Note(text + "\n", _signature_lines(signatures, "note.signatures"))


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that was checked: by which key, and the time that it states."""

    key: NoteKey
    at: int | None


def verify_note(note: Note, keys: Iterable[NoteKey]) -> tuple[Signed, ...]:
    """The signatures by these keys, all of them checked, in the note's order; those by others are passed over.

    Raises:
        LogError: signature_invalid, none of these keys has signed (path `note.signatures`) or one of their signatures
            is wrong (path with its number).
    """
    trusted = {(key.name, key.key_id): key for key in keys}
    found: list[Signed] = []
    for number, one in enumerate(note.signatures):
        key = trusted.get((one.name, one.key_id))
        if key is None:
            continue
        try:
            found.append(Signed(key, key.verify(note.text, one.signature)))
        except LogError as exc:
            if exc.code != "signature_invalid":
                raise
            raise LogError("signature_invalid", f"note.signatures[{number}]") from None
    if not found:
        raise LogError("signature_invalid", "note.signatures")
    return tuple(found)


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A ledger's head: how many entries it has and the root over them.

    Raises:
        LogError: note_malformed (path `checkpoint.origin`, `.size` or `.root`).
    """

    origin: str
    """`bi.umuhuza/log`; also the name of the ledger's keys."""
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not is_name(self.origin):
            raise malformed("checkpoint.origin")
        if not 0 <= self.size <= MAX_SIZE:
            raise malformed("checkpoint.size")
        if len(self.root) != HASH_BYTES or (self.size == 0 and self.root != EMPTY_ROOT):
            raise malformed("checkpoint.root")

    @property
    def text(self) -> str:
        """The note text, three lines."""
        return f"{self.origin}\n{self.size}\n{b64(self.root)}\n"


def read_checkpoint_text(text: str) -> Checkpoint:
    """Reverse of `Checkpoint.text`. Raises LogError `note_malformed`."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] != "":
        raise malformed("checkpoint")
    if len(lines) > 4:
        raise malformed("checkpoint.extension")
    return Checkpoint(
        lines[0], read_decimal(lines[1] or "-", "checkpoint.size"), read_hash(lines[2], "checkpoint.root")
    )


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose ledger's signature was checked, with every signature that is on it."""

    checkpoint: Checkpoint
    note: Note
    signed: tuple[Signed, ...]
    """By the ledger's keys."""

    def dumps(self) -> bytes:
        return self.note.dumps()


def sign_checkpoint(checkpoint: Checkpoint, signers: Sequence[NoteSigner], at: int) -> bytes:
    """A ledger's signed checkpoint; its keys bear its origin's name.

    Args:
        at: seconds since the epoch; stated by the ML-DSA-44 signature.
    """
    if not signers or any(one.name != checkpoint.origin for one in signers):
        raise ValueError("a ledger signs with keys of its own name")
    return Note(checkpoint.text, tuple(one.sign(checkpoint.text, at) for one in signers)).dumps()


def verify_checkpoint(data: bytes, keys: Iterable[NoteKey]) -> SignedCheckpoint:
    """Read a checkpoint that one of these keys, being its own ledger's, has signed.

    Keys named otherwise than its origin count for nothing here: a witness's signature does not make a checkpoint.

    Raises:
        LogError: note_malformed, too_large, signature_invalid.
    """
    note = read_note(data)
    checkpoint = read_checkpoint_text(note.text)
    own = [key for key in keys if key.name == checkpoint.origin and key.kind is not SignatureType.COSIGNATURE]
    return SignedCheckpoint(checkpoint, note, verify_note(note, own))
