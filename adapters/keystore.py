# SPDX-License-Identifier: Apache-2.0
"""An agency's private keys in one file of mode 0600, and how they are opened.

    v 1    in clear: training, demonstrations, disks that are encrypted as a whole
    v 2    locked with a passphrase (`schemas/locked.py`)
    v 3    in a device (PKCS#11, `adapters/key_device.py`); the file says which, the device asks for its PIN

Whose keys they are stands in clear in all three, so that everything which needs no key asks for no passphrase. An older
sealing key stays beside the newer one as long as records sealed to it may still have to be opened.

Must never: print or log what is inside; replace a file by one that was not read back and opened first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from schemas import ijson
from schemas.envelope import is_agency
from schemas.errors import KeyStoreError, RegistryError
from schemas.keys import (
    CLASSICAL,
    SUITES,
    Opener,
    RandomBytes,
    SealingKey,
    SealTo,
    Signer,
    SigningKey,
    Suite,
    VerifyKey,
    b64url,
    unb64url,
)
from schemas.locked import RFC_9106, Cost, lock, require_strong, undamaged, unlock
from schemas.registry import Agency, Key, Role
from topics.private_file import Step, replace_private, write_private

KEY_LIFETIME_S = 3 * 365 * 86_400
_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Keys:
    """What an agency signs with and what it opens with."""

    agency: str
    sig: Signer
    seal: Mapping[str, Opener]
    """By kid, the newest last."""

    @classmethod
    def generate(cls, agency: str, random: RandomBytes, suite: Suite = "647a-0011-0002") -> Keys:
        sealing = SealingKey.generate(random, suite)
        return cls(agency, SigningKey.generate(random), {sealing.kid: sealing})

    def enrolment(self, names: Mapping[str, str], roles: tuple[Role, ...], protected: bool, now: int) -> Agency:
        """What the operator adds to the registry: public keys only."""
        expires = now + KEY_LIFETIME_S
        # An hour back: the registry holder's clock may be behind the agency's.
        keys = [Key(self.sig.kid, "sig", "ES256", self.sig.public.public, now - 3600, expires)]
        keys += [Key(kid, "seal", key.suite, key.public.public, now - 3600, expires) for kid, key in self.seal.items()]
        return Agency(self.agency, names, roles, tuple(keys), protected)


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A key that a device holds: its id there (CKA_ID), and the public key that it has to match."""

    id: bytes
    public: bytes


@dataclass(frozen=True, slots=True)
class EarlierKeys:
    """Sealing keys from before the device, sealed (HPKE) to the one in it: its PIN opens them too."""

    publics: tuple[SealTo, ...]
    sealed: bytes = field(repr=False)

    @classmethod
    def of(cls, keys: Keys, to: SealTo) -> EarlierKeys:
        """Raises KeyStoreError `key_device_failed`: what is in a device cannot be taken along."""
        members = json.dumps(_members(keys)["seal"]).encode("ascii")
        return cls(tuple(key.public for key in keys.seal.values()), to.seal(members, earlier_info(keys.agency)))

    def opened(self, agency: str, opener: Opener) -> dict[str, SealingKey]:
        """By kid. Raises KeyStoreError keys_damaged, and what the device raises."""
        try:
            raw = _loaded(opener.open(self.sealed, earlier_info(agency)))
        except ValueError:
            raise KeyStoreError("keys_damaged", "keys.device.earlier") from None
        return {key.kid: key for key in _sealing_keys(raw)}


def earlier_info(agency: str) -> bytes:
    """What binds earlier keys to their agency."""
    return f"umuhuza/1 earlier keys\n{agency}\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """Where a device's keys are. Nothing of it is secret."""

    module: str
    """Path of the PKCS#11 library."""
    serial: str
    label: str
    sig: DeviceKey
    seal: DeviceKey
    """P-256 (suite 0010-0001-0002): what devices can do."""
    earlier: EarlierKeys | None = None


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file as it was read, before it is opened."""

    agency: str
    kind: Literal["clear", "locked", "device"]
    _document: Mapping[str, Any] = field(repr=False)

    def open(self, passphrase: Callable[[], str]) -> Keys:
        """The keys. `passphrase` is asked only where it is needed: a passphrase, or the device's PIN.

        Raises:
            KeyStoreError: keys_damaged, passphrase_wrong, key_device_*; and what `passphrase` raises.
        """
        if self.kind == "clear":
            return _from_members(self.agency, self._document)
        if self.kind == "locked":
            undamaged(self._document["locked"], _about(self.agency))  # before anybody is asked anything
            secret = unlock(self._document["locked"], passphrase(), _about(self.agency))
            return _from_members(self.agency, _loaded(secret))
        from adapters.key_device import device_keys  # only here: it loads what only agencies with a device need

        return device_keys(self.agency, self.device(), passphrase)

    def device(self) -> DeviceKeys:
        """Where the keys are. Raises KeyStoreError `keys_damaged` when they are in no device."""
        try:
            raw = self._document["device"]
            sig, seal = (DeviceKey(unb64url(one["id"]), unb64url(one["pub"])) for one in (raw["sig"], raw["seal"]))
            VerifyKey(sig.public)
            SealTo(CLASSICAL, seal.public)
            if not all(isinstance(raw[name], str) for name in ("module", "serial", "label")):
                raise ValueError("shape")
            earlier = _earlier(raw["earlier"]) if "earlier" in raw else None
            return DeviceKeys(raw["module"], raw["serial"], raw["label"], sig, seal, earlier)
        except (RegistryError, ValueError, KeyError, TypeError, AttributeError):
            raise KeyStoreError("keys_damaged", "keys.device") from None


def read_key_file(path: Path) -> KeyFile:
    """What stands there; nothing is opened. Raises KeyStoreError `keys_damaged`, OSError as open does."""
    raw = _loaded(path.read_bytes())
    kinds: dict[int, Literal["clear", "locked", "device"]] = {1: "clear", 2: "locked", 3: "device"}
    if not isinstance(raw, dict) or type(raw.get("v")) is not int or raw["v"] not in kinds:
        raise KeyStoreError("keys_damaged", "keys")
    kind = kinds[raw["v"]]
    if not isinstance(raw.get("agency"), str) or not is_agency(raw["agency"]) or (kind != "clear" and kind not in raw):
        raise KeyStoreError("keys_damaged", "keys")
    return KeyFile(raw["agency"], kind, raw)


def read_keys(path: Path, passphrase: str | None = None) -> Keys:
    """Read and open. Raises KeyStoreError, and OSError as open does."""

    def told() -> str:
        if passphrase is None:
            raise KeyStoreError("passphrase_missing")
        return passphrase

    return read_key_file(path).open(told)


def write_keys(path: Path, keys: Keys, passphrase: str | None = None, cost: Cost = RFC_9106) -> None:
    """Durable and private (0600), locked where there is a passphrase; refuses to overwrite.

    Raises:
        FileExistsError: keys are there already; overwriting them would make every record sealed to them unreadable.
        KeyStoreError: passphrase_weak.
    """
    write_private(path, _text(keys, passphrase, cost))


def write_device_keys(path: Path, agency: str, where: DeviceKeys) -> None:
    """Durable and private; refuses to overwrite. Raises FileExistsError."""
    keys = {name: {"id": b64url(one.id), "pub": b64url(one.public)} for name, one in _both(where)}
    device: dict[str, Any] = {"module": where.module, "serial": where.serial, "label": where.label, **keys}
    if where.earlier is not None:
        publics = [{"suite": one.suite, "pub": b64url(one.public)} for one in where.earlier.publics]
        device["earlier"] = {"keys": publics, "sealed": b64url(where.earlier.sealed)}
    write_private(path, json.dumps({"v": 3, "agency": agency, "device": device}))


def lock_keys(
    path: Path,
    keys: Keys,
    passphrase: str,
    *,
    cost: Cost = RFC_9106,
    step: Step = lambda _done: None,
) -> None:
    """Put `keys` in the place of the key file at `path`, locked with `passphrase`: another one, or the first.

    If we crash here, and what becomes of the old bytes: see `topics.private_file.replace_private`.

    Raises:
        KeyStoreError: passphrase_weak; keys_damaged, when what was written does not read back: the old file stays.
    """

    def opens(fresh: Path) -> bool:
        return set(read_keys(fresh, passphrase).seal) == set(keys.seal)

    replace_private(path, _text(keys, passphrase, cost), opens, step)


def _both(where: DeviceKeys) -> tuple[tuple[str, DeviceKey], tuple[str, DeviceKey]]:
    return ("sig", where.sig), ("seal", where.seal)


def _text(keys: Keys, passphrase: str | None, cost: Cost) -> str:
    members = _members(keys)
    if passphrase is None:
        return json.dumps({"v": 1, "agency": keys.agency, **members})
    require_strong(passphrase)
    locked = lock(json.dumps(members).encode("ascii"), passphrase, _about(keys.agency), os.urandom, cost)
    return json.dumps({"v": 2, "agency": keys.agency, "locked": locked})


def _members(keys: Keys) -> dict[str, Any]:
    """What is private, as JSON has it. A device gives nothing out: its keys cannot be written to a file."""
    seal = [key for key in keys.seal.values() if isinstance(key, SealingKey)]
    if not isinstance(keys.sig, SigningKey) or len(seal) != len(keys.seal):
        raise KeyStoreError("key_device_failed", "keys.device")
    return {
        "sig": b64url(keys.sig.private_bytes()),
        "seal": [{"suite": key.suite, "seed": b64url(key.private_bytes())} for key in seal],
    }


def _from_members(agency: str, raw: Any) -> Keys:
    """Reverse of `_members`. Raises KeyStoreError `keys_damaged`, and chains nothing that has seen a key."""
    try:
        seal = _sealing_keys(raw["seal"])
        scalar = unb64url(raw["sig"])
        if len(scalar) != 32 or not seal:
            raise ValueError("shape")
        return Keys(agency, SigningKey.from_scalar(scalar), {key.kid: key for key in seal})
    except (RegistryError, ValueError, KeyError, TypeError, AttributeError):
        raise KeyStoreError("keys_damaged", "keys") from None


def _sealing_keys(raw: Any) -> list[SealingKey]:
    """Raises KeyStoreError `keys_damaged`."""
    try:
        return [SealingKey(_suite(item["suite"]), unb64url(item["seed"])) for item in raw]
    except (RegistryError, ValueError, KeyError, TypeError, AttributeError):
        raise KeyStoreError("keys_damaged", "keys") from None


def _earlier(raw: Any) -> EarlierKeys:
    """Raises what reading another shape raises; see `KeyFile.device`."""
    publics = tuple(SealTo(_suite(item["suite"]), unb64url(item["pub"])) for item in raw["keys"])
    return EarlierKeys(publics, unb64url(raw["sealed"]))


def _loaded(data: bytes) -> Any:
    try:
        return ijson.loads(data, max_bytes=_MAX_BYTES, max_depth=6)
    except ijson.IJsonError:
        raise KeyStoreError("keys_damaged", "keys") from None


def _about(agency: str) -> str:
    return f"keys {agency}"


def _suite(text: str) -> Suite:
    for suite in SUITES:
        if suite == text:
            return suite
    raise ValueError("unknown suite")
