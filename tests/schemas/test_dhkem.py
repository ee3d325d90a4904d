# SPDX-License-Identifier: Apache-2.0
"""Opening with a key in a device: what the library seals opens, nothing else does, and the device is asked only for
points on the curve."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dhkem import open_by_agreement
from schemas.errors import KeyStoreError
from schemas.keys import CLASSICAL, SealingKey
from tests.domain import seeded

KEY = SealingKey.generate(seeded("device"), CLASSICAL)
PUBLIC = KEY.public.public
_PRIVATE = ec.derive_private_key(int.from_bytes(KEY.private_bytes(), "big"), ec.SECP256R1())


def agree(point: bytes) -> bytes:
    """What a card does: one multiplication."""
    return _PRIVATE.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))


def never(_point: bytes) -> bytes:
    raise AssertionError("the device was asked")


@settings(max_examples=25)
@given(st.binary(max_size=300), st.binary(max_size=200))
def test_what_the_library_sealed_opens_as_with_the_library(plaintext: bytes, info: bytes) -> None:
    sealed = KEY.public.seal(plaintext, info)
    assert open_by_agreement(sealed, info, PUBLIC, agree) == plaintext == KEY.open(sealed, info)


def test_no_changed_byte_and_no_other_info_opens() -> None:
    sealed = KEY.public.seal(b"content key", b"info")
    for at in range(0, len(sealed), 3):
        with pytest.raises(ValueError, match="does not open"):
            open_by_agreement(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"info", PUBLIC, agree)
    for changed, info in ((sealed, b"other"), (sealed[:-1], b"info"), (b"", b"info"), (sealed[:64], b"info")):
        with pytest.raises(ValueError, match="does not open"):
            open_by_agreement(changed, info, PUBLIC, agree)


@pytest.mark.parametrize("point", [bytes(65), b"\x04" + bytes(64), b"\x04" + b"\xff" * 64, b"\x02" + bytes(64)])
def test_the_device_never_sees_a_point_that_is_not_on_the_curve(point: bytes) -> None:
    with pytest.raises(ValueError, match="does not open"):
        open_by_agreement(point + bytes(40), b"info", PUBLIC, never)


def test_a_device_that_is_away_is_not_taken_for_a_grant_that_does_not_open() -> None:
    def away(_point: bytes) -> bytes:
        raise KeyStoreError("key_device_absent", "device")

    with pytest.raises(KeyStoreError, match="key_device_absent"):
        open_by_agreement(KEY.public.seal(b"content key", b"info"), b"info", PUBLIC, away)
