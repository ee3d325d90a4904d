# SPDX-License-Identifier: Apache-2.0
"""Opening what HPKE sealed to a P-256 key that does not leave its device: everything but the one multiplication.

A smart card or hardware module does ECDH and nothing of HPKE. RFC 9180 base mode, suite 0010-0001-0002 (DHKEM(P-256,
HKDF-SHA256), HKDF-SHA256, AES-256-GCM), single shot: the device gives the shared x coordinate, the rest is here,
section by section. Sealing, and opening with a key in a file, stay with the library (`schemas/keys.py`).

Pure. Must never: hand the device a point that is not on the curve (an invalid-curve attack would read its key out).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_KEM = b"KEM" + (0x0010).to_bytes(2, "big")
_HPKE = b"HPKE" + bytes.fromhex("001000010002")
_POINT = 65

Agree = Callable[[bytes], bytes]
"""Uncompressed point of the other side (65 bytes, on the curve) -> x coordinate of the shared point (32 bytes)."""


def open_by_agreement(sealed: bytes, info: bytes, public: bytes, agree: Agree) -> bytes:
    """What was sealed to `public` with `info`; `sealed` is enc || ciphertext.

    Raises:
        ValueError: not sealed to this key with this info; nothing more is told. And what `agree` raises.
    """
    enc, ciphertext = sealed[:_POINT], sealed[_POINT:]
    if len(enc) != _POINT:
        raise ValueError("does not open")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), enc)
    except ValueError:
        raise ValueError("does not open") from None
    secret = _decapsulated(agree(enc), enc + public)
    # Section 5.1, KeySchedule of mode_base: no pre-shared key.
    context = b"\0" + _extract(_HPKE, b"", b"psk_id_hash", b"") + _extract(_HPKE, b"", b"info_hash", info)
    schedule = _extract(_HPKE, secret, b"secret", b"")
    key = _expand(_HPKE, schedule, b"key", context, 32)
    nonce = _expand(_HPKE, schedule, b"base_nonce", context, 12)
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, b"")
    except (InvalidTag, ValueError):
        raise ValueError("does not open") from None


def _decapsulated(shared_x: bytes, kem_context: bytes) -> bytes:
    """Section 4.1, ExtractAndExpand."""
    return _expand(_KEM, _extract(_KEM, b"", b"eae_prk", shared_x), b"shared_secret", kem_context, 32)


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    """Section 4, LabeledExtract; HKDF-Extract is one HMAC (RFC 5869 section 2.2)."""
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + material, hashlib.sha256)


def _expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """Section 4, LabeledExpand."""
    told = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return HKDFExpand(hashes.SHA256(), length, told).derive(key)
