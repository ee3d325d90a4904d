# SPDX-License-Identifier: Apache-2.0
"""Keys that never leave their device: a smart card, a USB token, a hardware module, by PKCS#11 (OASIS, version 2.40).

The device signs (CKM_ECDSA over SHA-256 of the message) and does one multiplication to open a grant
(CKM_ECDH1_DERIVE; the rest of HPKE is `schemas/dhkem.py`). P-256 both: the curve that devices know, and the suite
0010-0001-0002 where the registry allows it.

A device may be pulled at any moment. Whoever needed it gets `key_device_absent` and keeps its work; once the device is
back, the next use opens it again with the PIN given at the start. A PIN that was refused is never tried again by
itself: devices lock after a few.

The only importer of `pkcs11`. Must never: ask a device for a private key, make one that it would give out, log a PIN.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import (
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
    UserAlreadyLoggedIn,
    UserPinNotInitialized,
)
from pkcs11.types import DeriveMixin, Key, Session, SignMixin, Token
from pkcs11.util.ec import encode_named_curve_parameters

from adapters.keystore import DeviceKey, DeviceKeys, EarlierKeys, Keys
from schemas.dhkem import open_by_agreement
from schemas.errors import KeyStoreError
from schemas.keys import CLASSICAL, Opener, RandomBytes, SealingKey, SealTo, Suite, VerifyKey

_P256 = encode_named_curve_parameters("secp256r1")
_T = TypeVar("_T")


class Device:
    """One token, opened when it is first needed, and again after it was away. May be used from several threads."""

    def __init__(self, module: str, serial: str, pin: Callable[[], str]) -> None:
        self._module, self._serial, self._ask = module, serial, pin
        self._pin: str | None = None
        self._refused: KeyStoreError | None = None
        self._session: Session | None = None
        self._turn = threading.Lock()

    def sign(self, key: bytes, digest: bytes) -> bytes:
        """64 bytes r||s over a digest of 32 bytes. Raises KeyStoreError."""

        def signed(session: Session) -> bytes:
            found = _private(session, key)
            if not isinstance(found, SignMixin):
                raise KeyStoreError("key_device_failed", "device.sig")
            return bytes(found.sign(digest, mechanism=Mechanism.ECDSA))

        return self._do(signed)

    def agree(self, key: bytes, point: bytes) -> bytes:
        """The x coordinate, 32 bytes, shared with a point on the curve. Raises KeyStoreError."""

        def agreed(session: Session) -> bytes:
            found = _private(session, key)
            if not isinstance(found, DeriveMixin):
                raise KeyStoreError("key_device_failed", "device.seal")
            secret = found.derive_key(
                KeyType.GENERIC_SECRET,
                256,
                mechanism=Mechanism.ECDH1_DERIVE,
                mechanism_param=(pkcs11.KDF.NULL, None, point),
                template={
                    Attribute.TOKEN: False,
                    Attribute.PRIVATE: False,
                    Attribute.SENSITIVE: False,
                    Attribute.EXTRACTABLE: True,
                },
            )
            try:
                return bytes(secret[Attribute.VALUE])
            finally:
                secret.destroy()

        return self._do(agreed)

    def make(self, label: str, random: RandomBytes) -> tuple[DeviceKey, DeviceKey]:
        """Two key pairs, one to sign and one to open, made in the device. Raises KeyStoreError."""

        def made(session: Session) -> tuple[DeviceKey, DeviceKey]:
            return (
                _pair(session, f"{label} sig", random(16), signs=True),
                _pair(session, f"{label} seal", random(16), signs=False),
            )

        return self._do(made, writes=True)

    def close(self) -> None:
        """Log out. Idempotent."""
        with self._turn:
            self._forget()

    def _do(self, work: Callable[[Session], _T], *, writes: bool = False) -> _T:
        """A device that was away since the last time is opened once more; what fails then fails."""
        with self._turn:
            fresh = self._session is None or writes
            while True:
                if fresh:
                    self._forget()
                session = self._opened(writes)
                try:
                    return work(session)
                except PKCS11Error:
                    if fresh:
                        self._forget()
                        token_of(self._module, self._serial)  # says that it is away, if it is
                        raise KeyStoreError("key_device_failed", "device") from None
                    fresh = True

    def _opened(self, writes: bool) -> Session:
        if self._session is not None:
            return self._session
        if self._refused is not None:
            raise self._refused
        token = token_of(self._module, self._serial)
        if self._pin is None:
            self._pin = self._ask()
        try:
            self._session = token.open(rw=writes, user_pin=self._pin)
        except UserAlreadyLoggedIn:  # by another session of this process, with the PIN that the device took
            self._session = token.open(rw=writes)
        except PinLocked:
            self._refused = KeyStoreError("key_device_locked", "device")
        except (PinIncorrect, PinLenRange, PinInvalid, PinExpired, UserPinNotInitialized):
            self._refused = KeyStoreError("key_device_pin_wrong", "device")
        except PKCS11Error:
            raise KeyStoreError("key_device_absent", "device") from None
        if self._session is None:
            raise self._refused or KeyStoreError("key_device_failed", "device")
        return self._session

    def _forget(self) -> None:
        """Sessions of a device that was away are worth nothing; its library sees it again only from the beginning."""
        if self._session is None:
            return
        self._session = None
        try:
            pkcs11.lib(self._module).finalize()
        except PKCS11Error:
            return  # it has forgotten already


@dataclass(frozen=True, slots=True)
class DeviceSigningKey:
    """An ES256 key in a device (`schemas.keys.Signer`). Signatures are as random as the device makes them."""

    _device: Device = field(repr=False, compare=False)
    _id: bytes
    public: VerifyKey

    @property
    def kid(self) -> str:
        return self.public.kid

    def sign(self, message: bytes) -> bytes:
        signature = self._device.sign(self._id, hashlib.sha256(message).digest())
        # Another key under this id, or a fault: better no signature than one that nobody accepts.
        if not self.public.verifies(message, signature):
            raise KeyStoreError("key_device_failed", "device.sig")
        return signature


@dataclass(frozen=True, slots=True)
class DeviceSealingKey:
    """A P-256 key in a device that opens grants (`schemas.keys.Opener`)."""

    _device: Device = field(repr=False, compare=False)
    _id: bytes
    public: SealTo

    @property
    def suite(self) -> Suite:
        return self.public.suite

    @property
    def kid(self) -> str:
        return self.public.kid

    def open(self, sealed: bytes, info: bytes) -> bytes:
        return open_by_agreement(sealed, info, self.public.public, self._agree)

    def _agree(self, point: bytes) -> bytes:
        return self._device.agree(self._id, point)


class _Chest:
    """Earlier keys, opened with the device when one of them is first needed."""

    def __init__(self, agency: str, earlier: EarlierKeys, opener: DeviceSealingKey) -> None:
        self._agency, self._earlier, self._opener = agency, earlier, opener
        self._keys: dict[str, SealingKey] | None = None

    def key(self, kid: str) -> SealingKey:
        """Raises KeyStoreError."""
        if self._keys is None:
            self._keys = self._earlier.opened(self._agency, self._opener)
        found = self._keys.get(kid)
        if found is None:
            raise KeyStoreError("keys_damaged", "keys.device.earlier")
        return found


@dataclass(frozen=True, slots=True)
class EarlierKey:
    """A key from before the device (`schemas.keys.Opener`)."""

    _chest: _Chest = field(repr=False, compare=False)
    public: SealTo

    @property
    def suite(self) -> Suite:
        return self.public.suite

    @property
    def kid(self) -> str:
        return self.public.kid

    def open(self, sealed: bytes, info: bytes) -> bytes:
        return self._chest.key(self.kid).open(sealed, info)


def device_keys(agency: str, where: DeviceKeys, pin: Callable[[], str]) -> Keys:
    """The agency's keys in that device. `pin` is asked at the first use, at most once. Raises nothing yet."""
    device = Device(where.module, where.serial, pin)
    newest = DeviceSealingKey(device, where.seal.id, SealTo(CLASSICAL, where.seal.public))
    seal: dict[str, Opener] = {}
    if where.earlier is not None:
        chest = _Chest(agency, where.earlier, newest)
        seal = {public.kid: EarlierKey(chest, public) for public in where.earlier.publics}
    return Keys(
        agency, DeviceSigningKey(device, where.sig.id, VerifyKey(where.sig.public)), {**seal, newest.kid: newest}
    )


def make_device_keys(
    agency: str, module: str, label: str | None, pin: Callable[[], str], random: RandomBytes
) -> DeviceKeys:
    """New keys for an agency, made in the device that bears `label`; without one, in the only one that is there.

    Raises:
        KeyStoreError: key_device_absent (none, or several and no label), key_device_pin_wrong, key_device_locked,
            key_device_failed.
    """
    token = _named(module, label)
    serial, named = _text(token.serial), token.label
    device = Device(module, serial, pin)
    sig, seal = device.make(f"umuhuza {agency}", random)
    device.close()
    return DeviceKeys(module, serial, named, sig, seal)


def token_of(module: str, serial: str) -> Token:
    """The device with that serial number. Raises KeyStoreError `key_device_absent`."""
    for token in _tokens(module):
        if _text(token.serial) == serial:
            return token
    raise KeyStoreError("key_device_absent", "device")


def _named(module: str, label: str | None) -> Token:
    """Devices that nobody has set up yet have no PIN, and are none."""
    found = [
        token
        for token in _tokens(module)
        if pkcs11.TokenFlag.USER_PIN_INITIALIZED in token.flags and label in (None, token.label)
    ]
    if len(found) != 1:
        raise KeyStoreError("key_device_absent", "device.label")
    return found[0]


def _tokens(module: str) -> list[Token]:
    try:
        return list(pkcs11.lib(module).get_tokens())
    except PKCS11Error:
        raise KeyStoreError("key_device_absent", "device.module") from None


def _private(session: Session, key: bytes) -> Key:
    return session.get_key(object_class=ObjectClass.PRIVATE_KEY, id=key)


def _pair(session: Session, label: str, key: bytes, *, signs: bool) -> DeviceKey:
    parameters = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: _P256}, local=True)
    public, _ = parameters.generate_keypair(
        id=key,
        label=label,
        store=True,
        mechanism=Mechanism.EC_KEY_PAIR_GEN,
        public_template={Attribute.VERIFY: signs},
        private_template={
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
            Attribute.SIGN: signs,
            Attribute.DERIVE: not signs,
        },
    )
    # CKA_EC_POINT is a DER OCTET STRING around the uncompressed point (PKCS#11 2.40, section 2.3.3).
    return DeviceKey(key, bytes(public[Attribute.EC_POINT])[-65:])


def _text(serial: bytes) -> str:
    return serial.decode("ascii", "replace").strip()
