# SPDX-License-Identifier: Apache-2.0
"""Keys and encodings: known answers, the edges of ECDSA's r||s, one spelling of every text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import RegistryError
from schemas.keys import (
    CLASSICAL,
    HYBRID,
    SealingKey,
    SealTo,
    SigningKey,
    Suite,
    VerifyKey,
    b64url,
    fingerprint_of,
    kid_of,
    signature_twin,
    unb64url,
)
from tests.domain import seeded

calm = settings(derandomize=True, database=None, deadline=None, max_examples=200)
KEY = SigningKey.generate(seeded("keys"))
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296


def _pair(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


# ---------------------------------------------------------------------------------------------------------------------
# base64url


@calm
@given(st.binary(max_size=100))
def test_base64url_comes_back(data: bytes) -> None:
    assert unb64url(b64url(data)) == data


@settings(calm, max_examples=500)
@given(st.text("AQgwBEIM019-_+/= \n", max_size=12) | st.text(max_size=8) | st.binary(max_size=9).map(b64url))
def test_base64url_has_one_spelling(text: str) -> None:
    """Taken if and only if encoding what Python's lenient decoder makes of it gives the same text."""
    try:
        lenient: bytes | None = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        lenient = None
    if lenient is not None and b64url(lenient) == text:
        assert unb64url(text) == lenient
    else:
        with pytest.raises(ValueError, match="base64url") as caught:
            unb64url(text)
        assert caught.value.__cause__ is None


@calm
@given(st.binary(min_size=48, max_size=600).map(b64url), st.data())
def test_in_a_long_text_no_character_passes_that_base64url_has_not(text: str, data: st.DataObject) -> None:
    """Long ones are decoded many characters at once: nothing is skipped, wherever it stands."""
    place = data.draw(st.integers(0, len(text)))
    stranger = data.draw(st.sampled_from("+/=\n \x00~.é\u0141"))
    for changed in (text[:place] + stranger + text[place:], text[:place] + stranger + text[place + 1 :]):
        with pytest.raises(ValueError, match="base64url"):
            unb64url(changed)


def test_every_last_character_is_judged() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    taken = {length: [last for last in letters if _decodes("A" * (length - 1) + last)] for length in (1, 2, 3, 4)}
    assert {length: len(found) for length, found in taken.items()} == {1: 0, 2: 4, 3: 16, 4: 64}


def _decodes(text: str) -> bool:
    try:
        unb64url(text)
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------------------------
# Signatures


def test_signing_gives_the_known_answer() -> None:
    """RFC 6979 A.2.5, P-256 with SHA-256, message `sample`."""
    key = SigningKey.from_scalar(bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721"))
    assert key.public.public.hex().upper() == (
        "0460FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
        "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
    )
    signature = key.sign(b"sample")
    assert signature.hex().upper() == (
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )
    assert key.public.verifies(b"sample", signature)


@settings(calm, max_examples=25)
@given(st.binary(max_size=64))
def test_a_signature_and_its_twin_verify_and_nothing_near_them(message: bytes) -> None:
    signature = KEY.sign(message)
    assert signature == KEY.sign(message)
    assert KEY.public.verifies(message, signature)
    assert KEY.public.verifies(message, signature_twin(signature))
    assert not KEY.public.verifies(message + b".", signature)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    edges = (0, 1, 2, N - 1, N, N + 1, P, 2**256 - 1, 2**255, r, s, N - r, N - s, (r + 1) % N, (s + 1) % N)
    for a, b in itertools.product(edges, edges):
        assert KEY.public.verifies(message, _pair(a, b)) == (a == r and b in (s, N - s)), (a, b)


def test_a_number_beyond_the_order_is_no_second_spelling() -> None:
    """s + n is s modulo n: a reader that reduces it takes another signature. The key is chosen so that s is 5."""
    message, s, r = b"edge", 5, GX % N
    e = int.from_bytes(hashlib.sha256(message).digest(), "big")
    key = SigningKey.from_scalar(((s - e) * pow(r, -1, N) % N).to_bytes(32, "big"))
    assert key.public.verifies(message, _pair(r, s))
    assert not key.public.verifies(message, _pair(r, s + N))


def _with_nonce(k: int, message: bytes) -> bytes:
    """A signature made with a nonce that is chosen (k = 1 or n-1: r is the generator's x)."""
    d, e = int.from_bytes(KEY.private_bytes(), "big"), int.from_bytes(hashlib.sha256(message).digest(), "big")
    r = GX % N
    return _pair(r, pow(k, -1, N) * (e + r * d) % N)


@pytest.mark.parametrize("nonce", [1, N - 1])
def test_unusual_nonces_still_verify(nonce: int) -> None:
    assert KEY.public.verifies(b"edge", _with_nonce(nonce, b"edge"))


def test_numbers_with_leading_zeros_keep_their_32_bytes() -> None:
    seen = set()
    for number in range(3000):
        message = str(number).encode()
        signature = KEY.sign(message)
        assert len(signature) == 64
        for at in (0, 32):
            if signature[at] == 0:
                seen.add(at)
                assert KEY.public.verifies(message, signature)
                rest = signature[:at] + signature[at + 1 :]
                assert not KEY.public.verifies(message, rest)
    assert seen == {0, 32}


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 70, 71, 72, 96, 128])
def test_signatures_of_another_length_do_not_verify(length: int) -> None:
    signature = (KEY.sign(b"x") * 2)[:length]
    assert not KEY.public.verifies(b"x", signature)


# ---------------------------------------------------------------------------------------------------------------------
# Keys


def test_a_kid_is_the_first_22_characters_of_the_keys_hash() -> None:
    assert KEY.kid == kid_of(KEY.public.public) == b64url(hashlib.sha256(KEY.public.public).digest())[:22]
    words = fingerprint_of(KEY.public.public).split(" ")
    assert len(words) == 8
    assert "".join(words) == hashlib.sha256(KEY.public.public).hexdigest()[:32]


@pytest.mark.parametrize(
    "public",
    [
        b"",
        b"\0",
        bytes(65),
        b"\x04" + bytes(64),
        KEY.public.public[:64],
        KEY.public.public + b"\0",
        bytes([2 + KEY.public.public[64] % 2]) + KEY.public.public[1:33],
        bytes([6 + KEY.public.public[64] % 2]) + KEY.public.public[1:],
        KEY.public.public[:64] + bytes([KEY.public.public[64] ^ 1]),
        b"\x04" + P.to_bytes(32, "big") + KEY.public.public[33:],
    ],
)
def test_only_an_uncompressed_point_on_the_curve_is_a_public_key(public: bytes) -> None:
    with pytest.raises(RegistryError):
        VerifyKey(public)
    with pytest.raises(RegistryError):
        SealTo(CLASSICAL, public)


@pytest.mark.parametrize("scalar", [0, N, N + 1, 2**256 - 1])
def test_a_scalar_outside_of_its_range_is_no_private_key(scalar: int) -> None:
    with pytest.raises(ValueError, match="private|range|value"):
        SigningKey.from_scalar(scalar.to_bytes(32, "big"))


@pytest.mark.parametrize("suite", [HYBRID, CLASSICAL])
def test_what_is_sealed_opens_with_the_same_key_and_info_only(suite: Suite) -> None:
    key = SealingKey.generate(seeded(f"seal/{suite}"), suite)
    again = SealingKey(suite, key.private_bytes())
    assert again.kid == key.kid
    assert len(key.public.public) == (1216 if suite == HYBRID else 65)
    sealed = key.public.seal(b"secret", b"info")
    assert again.open(sealed, b"info") == b"secret"
    other = SealingKey.generate(seeded("seal/other"), suite)
    for opener, data, info in (
        (key, sealed, b"other"),
        (other, sealed, b"info"),
        (key, sealed[:-1], b"info"),
        (key, b"", b"info"),
        (key, b"\xff" * len(sealed), b"info"),
    ):
        with pytest.raises(ValueError, match="^does not open$"):
            opener.open(data, info)
    assert key.public.seal(b"secret", b"info") != sealed


@pytest.mark.parametrize("suite", [HYBRID, CLASSICAL])
def test_a_seed_has_32_bytes(suite: Suite) -> None:
    for length in (0, 31, 33, 64):
        with pytest.raises(RegistryError):
            SealingKey(suite, bytes([1]) * length)


def test_a_public_key_of_the_other_suite_is_refused() -> None:
    hybrid, classical = (SealingKey.generate(seeded("x"), suite).public.public for suite in (HYBRID, CLASSICAL))
    for suite, public in ((HYBRID, classical), (CLASSICAL, hybrid), (HYBRID, hybrid[:-1]), (HYBRID, b"\xff" * 1216)):
        with pytest.raises(RegistryError):
            SealTo(suite, public)


def test_private_keys_are_not_shown() -> None:
    seal = SealingKey.generate(seeded("shown"))
    for key in (KEY, seal):
        secret = key.private_bytes()
        shown = repr(key)
        assert secret.hex() not in shown
        assert repr(secret) not in shown
        assert b64url(secret) not in shown
