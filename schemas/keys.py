# SPDX-License-Identifier: Apache-2.0
"""Key pairs of an agency, a gateway, a domain: what signs and what records are sealed to.

Two uses, never mixed: `sig` (ES256, RFC 7518 section 3.4: raw 64-byte r||s) and `seal` (HPKE, RFC 9180, suites named
by their registered numbers KEM-KDF-AEAD). A key id (kid) is the first 22 characters of base64url SHA-256 of the
public key bytes: SEC1 uncompressed point (65 bytes) for P-256, ML-KEM-768 key || X25519 key (1216 bytes) for the
hybrid.

ES256 signatures are malleable (r, n-s verifies too), so nothing may ever be recognised by its signature bytes.
Signing is deterministic (RFC 6979): the same manifest signed again gives the same bytes.

With `schemas/sealing.py` the only importer of `cryptography` for records. Knows no files: bytes in, bytes out.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pybase64
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, hpke, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, utils, x25519

from schemas.errors import RegistryError

RandomBytes = Callable[[int], bytes]
"""n -> n unpredictable bytes; the simulator passes a seeded one."""

Suite = Literal["647a-0011-0002", "0010-0001-0002"]
HYBRID: Suite = "647a-0011-0002"
"""ML-KEM-768 + X25519, SHAKE256, AES-256-GCM: the default, because what is about people stays sensitive for decades."""
CLASSICAL: Suite = "0010-0001-0002"
"""P-256, HKDF-SHA256, AES-256-GCM: where the registry allows it for an agency's hardware module."""
SUITES: tuple[Suite, ...] = (HYBRID, CLASSICAL)

_HPKE = {
    HYBRID: hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.SHAKE256, hpke.AEAD.AES_256_GCM),
    CLASSICAL: hpke.Suite(hpke.KEM.P256, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM),
}
_PADDING = ("", "", "==", "=")
_LAST = ("", "", "AQgw", "AEIMQUYcgkosw048")
"""By length modulo 4: the last characters whose bits beyond the last whole byte are zero."""
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ES256 = ec.ECDSA(hashes.SHA256())
_ES256_DETERMINISTIC = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def b64url(data: bytes) -> str:
    """Base64url without padding (RFC 4648 section 5, RFC 7515 section 2)."""
    return pybase64.b64encode_as_string(data, altchars=b"-_").rstrip("=")


def unb64url(text: str) -> bytes:
    """Strict reverse of `b64url`: no padding, no other characters, no non-zero trailing bits.

    Raises:
        ValueError: without the input in it.
    """
    over = len(text) & 3
    # isascii first: a failing encode() would keep the input in the exception.
    if over == 1 or not text.isascii() or (over and text[-1] not in _LAST[over]):
        raise ValueError("not canonical base64url")
    if "+" in text or "/" in text or "=" in text:  # the decoder takes the first two beside `-` and `_`
        raise ValueError("not base64url")
    try:
        return pybase64.b64decode(text + _PADDING[over], altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url") from None


def kid_of(public: bytes) -> str:
    """The id of a key: the first 22 characters of base64url SHA-256 of its public bytes (132 bits)."""
    return b64url(hashlib.sha256(public).digest())[:22]


def fingerprint_of(public: bytes) -> str:
    """The first 128 bits of SHA-256 of the public key bytes, in groups of four hex digits, to be read aloud."""
    digest = hashlib.sha256(public).hexdigest()
    return " ".join(digest[i : i + 4] for i in range(0, 32, 4))


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public ES256 key."""

    public: bytes
    """SEC1 uncompressed point, 65 bytes."""
    kid: str = field(init=False)
    _key: ec.EllipticCurvePublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.public) != 65:
            raise RegistryError("registry_invalid", "pub")
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.public)
        except ValueError:
            raise RegistryError("registry_invalid", "pub") from None
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "kid", kid_of(self.public))

    @classmethod
    def from_pem(cls, text: str) -> VerifyKey:
        """From a SubjectPublicKeyInfo (RFC 5480) in PEM, as TUF metadata hold keys; exactly as `pem` writes it.

        Raises:
            RegistryError: registry_invalid, when it is another key's kind or another spelling of the same key.
        """
        try:
            key = serialization.load_pem_public_key(text.encode("ascii"))
        except (ValueError, UnsupportedAlgorithm):
            raise RegistryError("registry_invalid", "pub") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise RegistryError("registry_invalid", "pub")
        found = cls(key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint))
        if found.pem() != text:
            raise RegistryError("registry_invalid", "pub")
        return found

    def pem(self) -> str:
        """SubjectPublicKeyInfo (RFC 5480) in PEM, with a final LF."""
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode("ascii")

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` (64 bytes, r||s) is one of this key over `message`."""
        if len(signature) != 64:
            return False
        try:
            self._key.verify(der_signature(signature), message, _ES256)
        except InvalidSignature:
            return False
        return True


class Signer(Protocol):
    """Whatever signs with a private ES256 key: one from a file, or one that never leaves its device."""

    @property
    def public(self) -> VerifyKey: ...

    @property
    def kid(self) -> str: ...

    def sign(self, message: bytes) -> bytes:
        """64 bytes r||s over SHA-256 of `message`.

        Raises:
            KeyStoreError: the device that holds the key is not there, or refuses.
        """
        ...


class Opener(Protocol):
    """Whatever opens what was sealed to a public key: a private key from a file, or one in a device."""

    @property
    def suite(self) -> Suite: ...

    @property
    def public(self) -> SealTo: ...

    @property
    def kid(self) -> str: ...

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Reverse of `SealTo.seal`.

        Raises:
            ValueError: not sealed to this key with this info; nothing more is told.
            KeyStoreError: the device that holds the key is not there, or refuses; says nothing about `sealed`.
        """
        ...


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private ES256 key. Never printed, never compared."""

    _key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    public: VerifyKey = field(init=False)

    def __post_init__(self) -> None:
        point = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        object.__setattr__(self, "public", VerifyKey(point))

    @property
    def kid(self) -> str:
        """Of its public key (`kid_of`)."""
        return self.public.kid

    @classmethod
    def generate(cls, random: RandomBytes) -> SigningKey:
        """A new key.

        Args:
            random: a source fit for keys.
        """
        return cls.from_scalar(random(40))

    @classmethod
    def from_scalar(cls, material: bytes) -> SigningKey:
        """From 40 random bytes (FIPS 186-5 A.2.1: extra bits make the bias negligible) or an exact 32-byte scalar."""
        number = int.from_bytes(material, "big")
        scalar = number if len(material) == 32 else number % (_P256_ORDER - 1) + 1
        return cls(ec.derive_private_key(scalar, ec.SECP256R1()))

    def private_bytes(self) -> bytes:
        """The 32-byte scalar, for the agency's own key store only."""
        return self._key.private_numbers().private_value.to_bytes(32, "big")

    def sign(self, message: bytes) -> bytes:
        """64 bytes r||s over SHA-256 of `message`; deterministic."""
        r, s = utils.decode_dss_signature(self._key.sign(message, _ES256_DETERMINISTIC))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def der_signature(signature: bytes) -> bytes:
    """A signature r||s (64 bytes) as the DER sequence of RFC 3279 section 2.2.3, which TUF metadata carry."""
    return utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))


def signature_twin(signature: bytes) -> bytes:
    """The other valid signature of the same message, (r, n-s): what anyone can make without the key."""
    s = _P256_ORDER - int.from_bytes(signature[32:], "big")
    return signature[:32] + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class SealTo:
    """A public key to which grants are sealed."""

    suite: Suite
    public: bytes
    kid: str = field(init=False)
    _key: hpke.MLKEM768X25519PublicKey | ec.EllipticCurvePublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            if self.suite == HYBRID:
                if len(self.public) != 1216:
                    raise ValueError("length")
                key: hpke.MLKEM768X25519PublicKey | ec.EllipticCurvePublicKey = hpke.MLKEM768X25519PublicKey(
                    mlkem.MLKEM768PublicKey.from_public_bytes(self.public[:1184]),
                    x25519.X25519PublicKey.from_public_bytes(self.public[1184:]),
                )
            elif self.suite == CLASSICAL:
                if len(self.public) != 65:
                    raise ValueError("length")
                key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.public)
            else:
                raise ValueError("suite")
        except ValueError:
            raise RegistryError("registry_invalid", "pub") from None
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "kid", kid_of(self.public))

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        """HPKE base mode, single shot: enc || ciphertext. Draws its own randomness from OpenSSL."""
        return _HPKE[self.suite].encrypt(plaintext, self._key, info)


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A private key that opens grants; kept as its 32-byte seed (hybrid) or scalar (P-256)."""

    suite: Suite
    _seed: bytes = field(repr=False, compare=False)
    public: SealTo = field(init=False)
    _key: hpke.MLKEM768X25519PrivateKey | ec.EllipticCurvePrivateKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self._seed) != 32:
            raise RegistryError("registry_invalid", "seed")
        if self.suite == HYBRID:
            # draft-connolly-cfrg-xwing-kem: SHAKE256(seed, 96) = ML-KEM-768 seed (64) || X25519 key (32).
            shake = hashes.Hash(hashes.SHAKE256(96))
            shake.update(self._seed)
            expanded = shake.finalize()
            ml = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
            x = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
            object.__setattr__(self, "_key", hpke.MLKEM768X25519PrivateKey(ml, x))
            public = ml.public_key().public_bytes_raw() + x.public_key().public_bytes_raw()
        else:
            p256 = ec.derive_private_key(int.from_bytes(self._seed, "big"), ec.SECP256R1())
            object.__setattr__(self, "_key", p256)
            public = p256.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
        object.__setattr__(self, "public", SealTo(self.suite, public))

    @property
    def kid(self) -> str:
        """Of its public key (`kid_of`)."""
        return self.public.kid

    @classmethod
    def generate(cls, random: RandomBytes, suite: Suite = HYBRID) -> SealingKey:
        """A new key of that suite.

        Args:
            random: a source fit for keys.
            suite: an HPKE suite as the registry names it.
        """
        if suite == HYBRID:
            return cls(suite, random(32))
        return cls(suite, SigningKey.generate(random).private_bytes())

    def private_bytes(self) -> bytes:
        """32 bytes, for the agency's own key store only."""
        return self._seed

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Reverse of `SealTo.seal`.

        Raises:
            ValueError: not sealed to this key with this info; nothing more is told.
        """
        try:
            return _HPKE[self.suite].decrypt(sealed, self._key, info)
        except (InvalidTag, ValueError):
            raise ValueError("does not open") from None
