# SPDX-License-Identifier: Apache-2.0
"""An agency's keys: in one private file, whole or not at all, never printed, never overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.keystore import KEY_LIFETIME_S, Keys, read_keys, write_keys
from schemas.errors import RegistryError
from schemas.keys import CLASSICAL, HYBRID, SealingKey, Suite, b64url
from schemas.registry import empty_registry
from tests.domain import NOW, seeded


def keys(suite: Suite = HYBRID) -> Keys:
    return Keys.generate("bi/iom", seeded("keys"), suite)


@pytest.mark.parametrize("suite", [HYBRID, CLASSICAL])
def test_what_is_written_is_read_again(tmp_path: Path, suite: Suite) -> None:
    made = keys(suite)
    older = SealingKey.generate(seeded("older"))
    made = Keys(made.agency, made.sig, {older.kid: older, **made.seal})
    write_keys(tmp_path / "keys.json", made)
    read = read_keys(tmp_path / "keys.json")
    assert (read.agency, read.sig.kid, list(read.seal)) == ("bi/iom", made.sig.kid, list(made.seal))
    message = b"message"
    assert made.sig.public.verifies(message, read.sig.sign(message))
    for kid, key in read.seal.items():
        assert key.open(made.seal[kid].public.seal(message, b"info"), b"info") == message


def test_only_its_owner_reads_it_and_nothing_else_is_left_beside_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_keys(tmp_path / "keys.json", keys())
    finally:
        os.umask(before)
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_keys_that_are_there_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, keys())
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        write_keys(path, Keys.generate("bi/iom", seeded("others")))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_a_failure_while_writing_leaves_room_for_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys.json"

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="space"):
            write_keys(path, keys())
    assert list(tmp_path.iterdir()) == []
    write_keys(path, keys())
    assert read_keys(path).agency == "bi/iom"


def changed(**members: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {**document, **members}


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {key: value for key, value in document.items() if key != name}


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda document: [document],
    "a number": lambda _document: 7,
    "no signing key": without("sig"),
    "no sealing keys": without("seal"),
    "none of them": changed(seal=[]),
    "no agency": without("agency"),
    "another version": changed(v=2),
    "an agency that is none": changed(agency="Ndayishimiye"),
    "an agency that is a number": changed(agency=5),
    "a signing key that is a list": changed(sig=[1, 2, 3, 4]),
    "a signing key that is too short": changed(sig=b64url(bytes(31))),
    "a signing key of zeros": changed(sig=b64url(bytes(32))),
    "no base64url": changed(sig="Ndayishimiye=="),
    "an unknown suite": changed(seal=[{"suite": "Ndayishimiye", "seed": b64url(bytes(32))}]),
    "a short seed": changed(seal=[{"suite": HYBRID, "seed": b64url(bytes(31))}]),
    "no seed": changed(seal=[{"suite": HYBRID}]),
    "sealing keys that are texts": changed(seal=["x"]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_key_file_is_refused_without_a_word_of_it(tmp_path: Path, what: str) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, keys())
    path.write_text(json.dumps(BROKEN[what](json.loads(path.read_bytes()))))
    refused(path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 400, b" " * 70_000, b'{"v":1,"v":1}'])
def test_bytes_that_are_no_json_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(data)
    refused(path)


def refused(path: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        read_keys(path)
    assert (caught.value.code, caught.value.path) == ("registry_invalid", "keys")
    assert caught.value.__cause__ is None
    assert "Ndayishimiye" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_keys(tmp_path / "keys.json")


def test_nothing_private_is_shown_or_enrolled() -> None:
    made = keys()
    private = [made.sig.private_bytes(), *(key.private_bytes() for key in made.seal.values())]
    member = made.enrolment({"fr": "OIM (inventée)"}, ("assistance",), protected=False, now=NOW)
    shown = repr(made) + repr(member)
    for secret in private:
        assert b64url(secret) not in shown
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


def test_an_enrolled_agency_can_be_verified_and_sealed_to_at_once() -> None:
    made = keys()
    member = made.enrolment({"fr": "OIM (inventée)"}, ("assistance",), protected=False, now=NOW)
    registry = empty_registry("bi", NOW).with_agency(member, NOW)
    for at in (NOW - 3599, NOW, NOW + KEY_LIFETIME_S - 1):
        assert registry.signing_key("bi/iom", made.sig.kid, at).kid == made.sig.kid
        assert [key.kid for key in registry.seal_keys("bi/iom", at)] == list(made.seal)
    with pytest.raises(RegistryError, match="key_revoked"):
        registry.signing_key("bi/iom", made.sig.kid, NOW + KEY_LIFETIME_S)
