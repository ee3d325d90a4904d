# SPDX-License-Identifier: Apache-2.0
"""A passphrase reaches the program by ways that no other program sees, and leaves none behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.errors import KeyStoreError
from topics.passphrase import CURRENT, NEW, given, told
from topics.settings import SettingsError

SECRET = "une phrase de passe"


def nobody() -> None:
    return None


def asked() -> str:
    raise AssertionError("a person was asked")


def private(path: Path, text: str = SECRET + "\n") -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def pipe(data: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def test_each_way_leads_to_it_without_asking_anybody(tmp_path: Path) -> None:
    file = private(tmp_path / "ici")
    private(tmp_path / "umuhuza-passphrase")
    for environment in (
        {CURRENT: SECRET},
        {f"{CURRENT}_FILE": str(file)},
        {"CREDENTIALS_DIRECTORY": str(tmp_path)},
        {f"{CURRENT}_FD": str(pipe(SECRET.encode() + b"\nrest"))},
    ):
        assert told(CURRENT, asked, environment) == SECRET


def test_a_descriptor_comes_first_and_the_environment_last(tmp_path: Path) -> None:
    everything = {
        CURRENT: "environment",
        f"{CURRENT}_FILE": str(private(tmp_path / "a", "file")),
        "CREDENTIALS_DIRECTORY": str(private(tmp_path / "umuhuza-passphrase", "credential").parent),
        f"{CURRENT}_FD": str(pipe(b"descriptor")),
    }
    found = [given(CURRENT, everything)]
    del everything[f"{CURRENT}_FILE"]
    found.append(given(CURRENT, everything))
    del everything["CREDENTIALS_DIRECTORY"]
    found += [given(CURRENT, everything), given(CURRENT, everything)]
    assert found == ["descriptor", "credential", "environment", None]


def test_no_child_inherits_it_from_the_environment() -> None:
    environment = {CURRENT: SECRET, f"{CURRENT}_FD": str(pipe(b"x"))}
    given(CURRENT, environment)
    given(CURRENT, environment)
    assert environment == {}


def test_the_new_one_comes_its_own_way(tmp_path: Path) -> None:
    private(tmp_path / "umuhuza-new-passphrase", "la nouvelle")
    private(tmp_path / "umuhuza-passphrase", "l'ancienne")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert (given(NEW, environment), given(CURRENT, environment)) == ("la nouvelle", "l'ancienne")


def test_where_nobody_sits_and_nothing_was_given_it_is_missing() -> None:
    with pytest.raises(KeyStoreError, match="passphrase_missing"):
        told(CURRENT, nobody, {})
    with pytest.raises(KeyStoreError, match="passphrase_missing"):
        told(CURRENT, nobody, {CURRENT: ""})


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "ici")
    file.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        given(CURRENT, {f"{CURRENT}_FILE": str(file)})


def test_a_credential_is_taken_as_systemd_shows_it(tmp_path: Path) -> None:
    private(tmp_path / "umuhuza-passphrase").chmod(0o440)  # the mask of the ACL that lets the service's user read it
    assert given(CURRENT, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == SECRET


def test_a_way_that_leads_nowhere_is_named_and_not_what_is_there(tmp_path: Path) -> None:
    for environment in (
        {f"{CURRENT}_FILE": str(tmp_path / "nulle-part")},
        {f"{CURRENT}_FILE": str(tmp_path)},
        {f"{CURRENT}_FD": "9999"},
        {f"{CURRENT}_FD": SECRET},
        {f"{CURRENT}_FD": str(pipe(b"\xff\xfe" + SECRET.encode()))},
        {f"{CURRENT}_FILE": str(private(tmp_path / "long", SECRET * 1000))},
    ):
        [name] = environment
        with pytest.raises(SettingsError) as caught:
            given(CURRENT, environment)
        for language in ("fr", "en"):
            assert name in caught.value.describe(language)
            assert SECRET not in caught.value.describe(language)
