# SPDX-License-Identifier: Apache-2.0
"""Private keys at rest, locked with a passphrase: what stands in the file, and how it is told apart from damage.

    passphrase --NFC--> Argon2id (RFC 9106; salt and cost stand in the file) --> 256-bit key --> AES-256-GCM

What is beside the ciphertext (cost, salt, what it is about) is authenticated with it. A SHA-256 over all of it needs no
passphrase: when it does not match, the file is damaged; when it matches and the ciphertext does not open, the file is
as it was written and the passphrase is the wrong one. It tells nothing about either: it covers public bytes only.
Somebody who changes the file on purpose can correct the sum, and gets the answer "wrong passphrase".

Pure: bytes and randomness come in. Must never: put the passphrase or what is locked into an error or a `repr`; believe
a cost from a file that would take the machine down.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from schemas.errors import KeyStoreError
from schemas.keys import RandomBytes, b64url, unb64url

MIN_PASSPHRASE = 12
"""Characters. Fewer are tried out offline by whoever has the file; six words of a list are far more."""
MAX_PASSPHRASE = 1024
_SALT, _NONCE, _TAG = 16, 12, 16


@dataclass(frozen=True, slots=True)
class Cost:
    """What one guess costs: memory in KiB, passes over it, lanes (RFC 9106 section 3.1: m, t, p)."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        fits = 8 * self.lanes <= self.memory_kib <= 1 << 20 and 1 <= self.passes <= 16 and 1 <= self.lanes <= 16
        if not fits:
            raise KeyStoreError("keys_damaged", "keys.locked.cost")


RFC_9106 = Cost()
"""The second recommended option of RFC 9106 section 4, for machines short of memory: 64 MiB, 3 passes, 4 lanes."""


def prepared(passphrase: str) -> bytes:
    """As it is hashed: NFC, other spaces as plain ones (RFC 8265 section 4.2, OpaqueString), UTF-8."""
    spaces = "".join(" " if unicodedata.category(one) == "Zs" else one for one in passphrase)
    return unicodedata.normalize("NFC", spaces).encode("utf-8", "surrogatepass")


def require_strong(passphrase: str) -> None:
    """Asked when a passphrase is chosen, never when one is used.

    Raises:
        KeyStoreError: passphrase_weak.
    """
    text = prepared(passphrase).decode("utf-8", "surrogatepass")
    if not MIN_PASSPHRASE <= len(text) <= MAX_PASSPHRASE or len(set(text)) < 5 or not text.isprintable():
        raise KeyStoreError("passphrase_weak", expected=MIN_PASSPHRASE)


def lock(secret: bytes, passphrase: str, about: str, random: RandomBytes, cost: Cost = RFC_9106) -> dict[str, Any]:
    """`secret` as it may stand in a file, as members of a JSON object.

    Args:
        about: what it is and whose (`keys bi/iom`): what is locked under one name does not open under another.
        random: gives salt and nonce, fresh each time.
    """
    salt, nonce = random(_SALT), random(_NONCE)
    beside = _beside(about, cost, salt)
    sealed = AESGCM(_key(passphrase, salt, cost)).encrypt(nonce, secret, beside)
    return {
        "kdf": "argon2id",
        "memory_kib": cost.memory_kib,
        "passes": cost.passes,
        "lanes": cost.lanes,
        "salt": b64url(salt),
        "nonce": b64url(nonce),
        "ct": b64url(sealed),
        "sum": b64url(hashlib.sha256(beside + nonce + sealed).digest()),
    }


def unlock(document: Any, passphrase: str, about: str) -> bytes:
    """Reverse of `lock`.

    Raises:
        KeyStoreError: keys_damaged (these are not the bytes that were written), passphrase_wrong.
    """
    cost, salt, nonce, sealed = _read(document, about)
    try:
        return AESGCM(_key(passphrase, salt, cost)).decrypt(nonce, sealed, _beside(about, cost, salt))
    except InvalidTag:
        raise KeyStoreError("passphrase_wrong") from None


def undamaged(document: Any, about: str) -> None:
    """Whether these are the bytes that were written; needs no passphrase. Raises KeyStoreError `keys_damaged`."""
    _read(document, about)


def _read(document: Any, about: str) -> tuple[Cost, bytes, bytes, bytes]:
    members = {"kdf", "memory_kib", "passes", "lanes", "salt", "nonce", "ct", "sum"}
    if not isinstance(document, Mapping) or document.keys() != members or document["kdf"] != "argon2id":
        raise KeyStoreError("keys_damaged", "keys.locked")
    numbers = [document[name] for name in ("memory_kib", "passes", "lanes")]
    if any(type(one) is not int for one in numbers):
        raise KeyStoreError("keys_damaged", "keys.locked.cost")
    cost = Cost(*numbers)
    try:
        salt, nonce, sealed, total = (unb64url(document[name]) for name in ("salt", "nonce", "ct", "sum"))
    except (ValueError, TypeError, AttributeError):
        raise KeyStoreError("keys_damaged", "keys.locked") from None
    whole = hashlib.sha256(_beside(about, cost, salt) + nonce + sealed).digest()
    if (len(salt), len(nonce)) != (_SALT, _NONCE) or len(sealed) < _TAG or whole != total:
        raise KeyStoreError("keys_damaged", "keys.locked.sum")
    return cost, salt, nonce, sealed


def _beside(about: str, cost: Cost, salt: bytes) -> bytes:
    return (
        f"umuhuza/1 locked\n{about}\nargon2id\n{cost.memory_kib}\n{cost.passes}\n{cost.lanes}\n{b64url(salt)}\n"
    ).encode()


def _key(passphrase: str, salt: bytes, cost: Cost) -> bytes:
    hashed = Argon2id(salt=salt, length=32, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib)
    return hashed.derive(prepared(passphrase))
