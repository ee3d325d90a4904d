# SPDX-License-Identifier: Apache-2.0
"""An agency's keys: in one private file, whole or not at all, never printed, never overwritten; locked or not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.keystore import KEY_LIFETIME_S, Keys, lock_keys, read_key_file, read_keys, write_keys
from schemas.errors import KeyStoreError, RegistryError
from schemas.keys import CLASSICAL, HYBRID, SealingKey, SigningKey, Suite, b64url
from schemas.registry import empty_registry
from tests.crash_keys import CHEAP, lock_and_die
from tests.domain import NOW, seeded
from tests.forked import CONTEXT

RIGHT, OTHER = "six mots tires au sort", "six mots tires plus tard"


def keys(suite: Suite = HYBRID) -> Keys:
    return Keys.generate("bi/iom", seeded("keys"), suite)


def private_bytes(made: Keys) -> list[bytes]:
    assert isinstance(made.sig, SigningKey)
    return [
        made.sig.private_bytes(),
        *(key.private_bytes() for key in made.seal.values() if isinstance(key, SealingKey)),
    ]


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
    "another version": changed(v=4),
    "a version that is not its own": changed(v=2),
    "a version that is no number": changed(v=True),
    "a device that is none": changed(v=3, device={"module": "x"}),
    "locked in no way": changed(v=2, locked={"ct": "x"}),
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
    with pytest.raises(KeyStoreError) as caught:
        read_keys(path)
    assert (caught.value.code, (caught.value.path or "").partition(".")[0]) == ("keys_damaged", "keys")
    assert caught.value.__cause__ is None
    assert "Ndayishimiye" not in str(caught.value)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_keys(tmp_path / "keys.json")


def test_nothing_private_is_shown_or_enrolled() -> None:
    made = keys()
    private = private_bytes(made)
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


# -- locked -----------------------------------------------------------------------------------------------------------


def test_locked_keys_open_with_their_passphrase_and_say_whose_they_are_without_it(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, keys(), RIGHT, CHEAP)
    assert (read_key_file(path).agency, read_key_file(path).kind) == ("bi/iom", "locked")
    assert private_bytes(read_keys(path, RIGHT)) == private_bytes(keys())
    for passphrase, code in ((None, "passphrase_missing"), (OTHER, "passphrase_wrong")):
        with pytest.raises(KeyStoreError) as caught:
            read_keys(path, passphrase)
        assert caught.value.code == code


def test_no_private_byte_stands_in_a_locked_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, keys(), RIGHT, CHEAP)
    on_disk = path.read_text()
    assert all(b64url(secret) not in on_disk for secret in private_bytes(keys()))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_weak_passphrase_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="passphrase_weak"):
        write_keys(tmp_path / "keys.json", keys(), "Gitega", CHEAP)
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_asked_for_the_passphrase_of_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, keys(), RIGHT, CHEAP)
    document = json.loads(path.read_bytes())
    document["locked"]["ct"] = document["locked"]["ct"][::-1]
    path.write_text(json.dumps(document))

    def asked() -> str:
        raise AssertionError("asked")

    with pytest.raises(KeyStoreError, match="keys_damaged"):
        read_key_file(path).open(asked)


def test_a_file_in_clear_is_locked_and_then_its_passphrase_changed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, keys())
    lock_keys(path, read_keys(path), RIGHT, cost=CHEAP)
    assert read_key_file(path).kind == "locked"
    lock_keys(path, read_keys(path, RIGHT), OTHER, cost=CHEAP)
    assert private_bytes(read_keys(path, OTHER)) == private_bytes(keys())
    with pytest.raises(KeyStoreError, match="passphrase_wrong"):
        read_keys(path, RIGHT)
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_bytes_in_clear_are_overwritten_where_they_were(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, keys())
    with path.open("rb") as before:
        lock_keys(path, keys(), RIGHT, cost=CHEAP)
        assert set(before.read()) == {0}


def test_a_copy_that_somebody_linked_is_left_alone(tmp_path: Path) -> None:
    path, copy = tmp_path / "keys.json", tmp_path / "copie.json"
    write_keys(path, keys())
    os.link(path, copy)
    lock_keys(path, keys(), RIGHT, cost=CHEAP)
    assert private_bytes(read_keys(copy)) == private_bytes(keys())


@pytest.mark.parametrize("after", ["written", "replaced", "durable", "overwritten"])
def test_killed_at_any_step_the_keys_are_there_and_the_next_attempt_locks_them(tmp_path: Path, after: str) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, keys())
    child = CONTEXT.Process(target=lock_and_die, args=(path, RIGHT, after))
    child.start()
    child.join(20)
    assert child.exitcode == -signal.SIGKILL
    kind = read_key_file(path).kind
    assert kind == ("clear" if after == "written" else "locked")
    assert private_bytes(read_keys(path, RIGHT)) == private_bytes(keys())
    for left in tmp_path.iterdir():  # whatever lies beside it is locked, and nobody else's to read
        assert left == path or read_key_file(left).kind == "locked"
        assert left.stat().st_mode & 0o777 == 0o600
    lock_keys(path, read_keys(path, RIGHT), OTHER, cost=CHEAP)
    assert private_bytes(read_keys(path, OTHER)) == private_bytes(keys())
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_a_full_disk_leaves_the_keys_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, keys())

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="space"):
            lock_keys(path, keys(), RIGHT, cost=CHEAP)
    assert private_bytes(read_keys(path)) == private_bytes(keys())
    lock_keys(path, keys(), RIGHT, cost=CHEAP)
