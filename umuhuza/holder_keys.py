# SPDX-License-Identifier: Apache-2.0
"""The private keys of a registry's holders that are on this machine: `holders/<n>.key`.

Locked with a passphrase unless somebody asked for keys in clear (training, demonstrations); 0600 in both cases. What a
locked file says in clear is the public key, so that looking at a registry opens nothing. A key is opened when it first
signs. A passphrase is asked for once, tried on every key of the folder, and asked for again only for a key that
it does not open: holders' keys lie together only on the day on which a domain is made.

Must never: overwrite a key; open one that is not needed; keep a passphrase longer than the command runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import KeyStoreError, RegistryError
from schemas.keys import Signer, SigningKey, VerifyKey, b64url, unb64url
from schemas.locked import RFC_9106, Cost
from schemas.registry_metadata import Holder
from topics.private_file import PrivateText, lock_private, locked_text, read_private, write_private
from umuhuza.asking import holder_passphrase

HOLDERS = "holders"
WHAT = "holder"


@dataclass(slots=True)
class FileKey:
    """A `schemas.keys.Signer` over a holder's file."""

    name: str
    """The file's, without its ending."""
    public: VerifyKey
    _text: PrivateText = field(repr=False)
    _told: list[str] = field(repr=False)
    """Passphrases that were given for keys of this folder."""
    _ask: Callable[[str], str] = field(repr=False)
    _key: SigningKey | None = field(default=None, repr=False)

    @property
    def kid(self) -> str:
        return self.public.kid

    @property
    def needs_passphrase(self) -> bool:
        return self._text.locked and self._key is None

    def sign(self, message: bytes) -> bytes:
        """Raises KeyStoreError passphrase_missing, passphrase_wrong, keys_damaged."""
        return self.opened().sign(message)

    def opened(self) -> SigningKey:
        """The key itself, opened on first use. Raises as `sign`."""
        if self._key is None:
            self._key = self._open()
        return self._key

    def _open(self) -> SigningKey:
        for passphrase in self._told:
            try:
                return self._open_with(passphrase)
            except KeyStoreError as exc:
                if exc.code != "passphrase_wrong":
                    raise
        return self._open_with(self._asked() if self._text.locked else "")

    def _open_with(self, passphrase: str) -> SigningKey:
        try:
            key = _read_secret(self._text.open(lambda: passphrase))
        except ValueError:
            raise KeyStoreError("keys_damaged", "keys") from None
        if key.public != self.public:
            raise KeyStoreError("keys_damaged", "keys")
        return key

    def _asked(self) -> str:
        try:
            passphrase = self._ask(self.name)
        except KeyStoreError:
            if self._told:  # one was given: it opens others
                raise KeyStoreError("passphrase_wrong") from None
            raise
        self._told.append(passphrase)
        return passphrase


class HolderKeys:
    """The keys of one folder.

    Args:
        folder: the registry's; keys are in `holders` below it.
        ask: gives the passphrase of the holder of that name.
        cost: of one guess at a passphrase that is chosen here.
    """

    def __init__(self, folder: Path, ask: Callable[[str], str] = holder_passphrase, cost: Cost = RFC_9106) -> None:
        self._folder = folder / HOLDERS
        self._ask = ask
        self._cost = cost
        self._told: list[str] = []
        self._known: dict[str, FileKey] = {}

    def make(self, name: str, passphrase: str | None) -> SigningKey:
        """A holder's key, made here, locked where there is a passphrase.

        Raises:
            FileExistsError: there is one of this name; it is never overwritten.
            KeyStoreError: passphrase_weak.
        """
        key = SigningKey.generate(os.urandom)
        secret = _secret(key)
        text = secret if passphrase is None else locked_text(secret, WHAT, _public(key), passphrase, self._cost)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._folder / f"{name}.key", text)
        made = FileKey(name, key.public, read_private(text, WHAT), self._told, self._ask, key)
        self._known[name] = made  # open already: a domain is made without asking twice
        return key

    def of(self, holders: Iterable[Holder]) -> list[FileKey]:
        """The keys here that are one of these holders', those first that need no passphrase.

        Raises:
            RegistryError: registry_invalid, path `holders`, when a file is no key.
            KeyStoreError: keys_damaged.
        """
        kids = {holder.key.kid for holder in holders}
        found = [key for key in self._all() if key.kid in kids]
        return sorted(found, key=lambda key: key.needs_passphrase)

    def protect(self, name: str | None, new: Callable[[], str]) -> list[str]:
        """Lock the key of this name, or every key here, with a passphrase or with another one. Returns the names.

        If we crash here, each file is the old one or the new one, whole.

        Raises:
            KeyStoreError: passphrase_weak, passphrase_wrong, keys_damaged; and what `new` raises.
            RegistryError: registry_invalid, path `holders`, when a file is no key, or there is none.
        """
        keys = [key for key in self._all() if name in (None, key.name)]
        if not keys:
            raise RegistryError("registry_invalid", "holders")
        secrets = [_secret(key.opened()) for key in keys]  # everything opens before anything is replaced
        passphrase = new()
        for key, secret in zip(keys, secrets, strict=True):
            lock_private(self._folder / f"{key.name}.key", secret, WHAT, _public(key), passphrase, self._cost)
        return [key.name for key in keys]

    def _all(self) -> list[FileKey]:
        for file in sorted(self._folder.glob("*.key")):
            if file.stem not in self._known:
                self._known[file.stem] = self._read(file)
        return [self._known[name] for name in sorted(self._known)]

    def _read(self, file: Path) -> FileKey:
        try:
            text = read_private(file.read_text(encoding="ascii"), WHAT)
            public = VerifyKey(unb64url(text.public)) if text.public else _read_secret(text.open(str)).public
        except (OSError, ValueError):
            raise RegistryError("registry_invalid", "holders") from None
        return FileKey(file.stem, public, text, self._told, self._ask)


def _public(key: Signer) -> str:
    """What a locked file says in clear of whose key it is."""
    return b64url(key.public.public)


def _secret(key: SigningKey) -> str:
    """What a holder's file holds, locked or in clear: base64url of the 32-byte scalar, one line."""
    return b64url(key.private_bytes()) + "\n"


def _read_secret(text: str) -> SigningKey:
    """Reverse of `_secret`. Raises ValueError."""
    scalar = unb64url(text.strip())
    if len(scalar) != 32:
        raise ValueError("length")
    return SigningKey.from_scalar(scalar)
