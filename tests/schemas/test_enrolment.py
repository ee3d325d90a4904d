# SPDX-License-Identifier: Apache-2.0
"""A request to the registry holder: every byte that counts is in the words that are compared."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from adapters.keystore import Keys
from schemas.enrolment import dumps_request, read_request
from schemas.errors import RegistryError
from schemas.registry import Agency, dumps_agency
from tests.domain import NOW, seeded


def agency() -> Agency:
    made = Keys.generate("bi/iom", seeded("request"))
    return made.enrolment({"fr": "OIM (inventée)"}, ("assistance",), protected=False, now=NOW)


@pytest.mark.parametrize("lost", [False, True])
def test_what_is_asked_is_what_is_read(lost: bool) -> None:
    read = read_request(dumps_request(agency(), lost=lost).encode())
    assert (read.agency, read.lost) == (agency(), lost)


def test_a_mail_program_may_end_the_line_in_its_own_way() -> None:
    text = dumps_request(agency()).encode()
    words = read_request(text).words("fr")
    for changed in (text.strip(), text.replace(b"\n", b"\r\n"), b"\n" + text + b"\n\n"):
        assert read_request(changed).words("fr") == words
        read_request(changed).require_words(" ".join(words))


def test_no_member_can_be_changed_under_the_same_words() -> None:
    words = " ".join(read_request(dumps_request(agency()).encode()).words("fr"))
    asked = agency()
    other = Keys.generate("bi/iom", seeded("somebody else")).enrolment(asked.names, asked.roles, False, NOW)
    for changed in (
        replace(asked, id="bi/police"),
        replace(asked, names={"fr": "Une autre (inventée)"}),
        replace(asked, roles=("police",)),
        replace(asked, protected=True),
        replace(asked, keys=other.keys),
        replace(asked, keys=(*asked.keys, *other.keys)),
    ):
        with pytest.raises(RegistryError, match="words_differ"):
            read_request(dumps_request(changed).encode()).require_words(words)
    with pytest.raises(RegistryError, match="words_differ"):
        read_request(dumps_request(asked, lost=True).encode()).require_words(words)


def test_the_older_form_is_read_too() -> None:
    read = read_request(dumps_agency(agency()).encode())
    assert (read.agency, read.lost) == (agency(), False)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"v": 2}, "file"),
        ({"v": True}, "file"),
        ({"more": 1}, "file"),
        ({"lost": 0}, "lost"),
        ({"agency": 1}, "agency.*"),
        ({"agency": None}, "agency.*"),
    ],
    ids=str,
)
def test_another_shape_is_refused_with_its_path(change: dict[str, Any], path: str) -> None:
    raw = {**json.loads(dumps_request(agency())), **change}
    with pytest.raises(RegistryError) as caught:
        read_request(json.dumps(raw).encode())
    assert (caught.value.code, caught.value.path) == ("registry_invalid", path)


@pytest.mark.parametrize("trick", ["\n  rôles : clinic", "\x1b[8m", "\x9b8m", "\u202eksid", "\r", "\u2028"], ids=ascii)
def test_no_name_writes_over_the_lines_that_the_holder_decides_by(trick: str) -> None:
    raw = json.loads(dumps_request(agency()))
    raw["agency"]["names"]["fr"] = f"Clinique{trick}"
    with pytest.raises(RegistryError) as caught:
        read_request(json.dumps(raw).encode())
    assert (caught.value.code, caught.value.path) == ("registry_invalid", "agency.names")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 50, b'{"v":1,"v":1}', b" " * 300_000])
def test_bytes_that_are_no_request_are_refused(data: bytes) -> None:
    with pytest.raises(RegistryError, match="registry_invalid"):
        read_request(data)
