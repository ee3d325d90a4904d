# SPDX-License-Identifier: Apache-2.0
"""Keys locked with a passphrase: they open with it and with nothing else, and a wrong one is not taken for damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import KeyStoreError
from schemas.keys import b64url, unb64url
from schemas.locked import RFC_9106, Cost, lock, require_strong, undamaged, unlock
from tests.domain import seeded

CHEAP = Cost(memory_kib=8, passes=1, lanes=1)
SECRET, RIGHT, ABOUT = b"un secret", "six mots tires au sort", "keys bi/iom"
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "locked.json").read_text(encoding="utf-8"))


def locked(secret: bytes = SECRET, passphrase: str = RIGHT) -> dict[str, Any]:
    return lock(secret, passphrase, ABOUT, seeded("locked"), CHEAP)


def code_of(document: Any, passphrase: str = RIGHT, about: str = ABOUT) -> str:
    with pytest.raises(KeyStoreError) as caught:
        unlock(document, passphrase, about)
    shown = str(caught.value) + repr(caught.value.__cause__)
    assert len(passphrase) < 6 or passphrase not in shown
    assert SECRET.decode() not in shown
    return caught.value.code


@settings(max_examples=15)
@given(st.binary(max_size=300), st.text(max_size=40))
def test_what_is_locked_opens_with_its_passphrase(secret: bytes, passphrase: str) -> None:
    document = json.loads(json.dumps(locked(secret, passphrase)))
    assert unlock(document, passphrase, ABOUT) == secret


@settings(max_examples=15)
@given(st.text(max_size=40).filter(lambda text: text != RIGHT))
def test_a_wrong_passphrase_is_called_wrong_and_the_file_is_not_called_damaged(passphrase: str) -> None:
    undamaged(locked(), ABOUT)
    assert code_of(locked(), passphrase) == "passphrase_wrong"


@pytest.mark.parametrize("member", ["salt", "nonce", "ct", "sum"])
def test_every_changed_byte_is_damage_whatever_the_passphrase(member: str) -> None:
    document = locked()
    data = unb64url(document[member])
    for at in range(len(data)):
        changed = {**document, member: b64url(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])}
        assert code_of(changed) == "keys_damaged"
    assert code_of({**document, member: b64url(data[:-1])}) == "keys_damaged"


@pytest.mark.parametrize(
    "change",
    [
        {"kdf": "scrypt"},
        {"memory_kib": 16},
        {"passes": 2},
        {"lanes": 0},
        {"memory_kib": 1 << 40},
        {"passes": 10_000},
        {"memory_kib": True},
        {"salt": None},
        {"ct": "=="},
        {"more": 1},
    ],
    ids=str,
)
def test_a_changed_cost_or_shape_is_damage_and_is_never_tried(change: dict[str, Any]) -> None:
    """A file that asks for a terabyte of memory must not get it."""
    assert code_of({**locked(), **change}) == "keys_damaged"


@pytest.mark.parametrize("document", [None, [], "x", {}])
def test_what_is_no_locked_file_is_damage(document: Any) -> None:
    assert code_of(document) == "keys_damaged"


def test_one_agencys_keys_do_not_open_as_anothers() -> None:
    assert code_of(locked(), about="keys bi/police") == "keys_damaged"


def test_accents_typed_on_another_keyboard_are_the_same_accents() -> None:
    composed, apart = "l\u2019\u00e9t\u00e9 \u00e0 Gitega", "l\u2019e\u0301te\u0301\u00a0a\u0300 Gitega"
    assert unlock(locked(SECRET, composed), apart, ABOUT) == SECRET


def test_the_same_keys_locked_again_look_quite_different() -> None:
    random = seeded("twice")
    first, second = (lock(SECRET, RIGHT, ABOUT, random, CHEAP) for _ in range(2))
    assert all(first[member] != second[member] for member in ("salt", "nonce", "ct", "sum"))


@pytest.mark.parametrize(
    "weak", ["", "Bujumbura", "onze carac.", "aaaaaaaaaaaaaaaaaa", "avec un saut\nde ligne", "x" * 1025]
)
def test_a_passphrase_that_could_be_guessed_is_not_taken(weak: str) -> None:
    with pytest.raises(KeyStoreError, match="passphrase_weak") as caught:
        require_strong(weak)
    assert weak == "" or weak not in str(caught.value)


def test_six_words_are_taken() -> None:
    require_strong("farine blanchir anéantir bustier moufle avide")


def test_a_guess_costs_what_the_rfc_recommends() -> None:
    assert (RFC_9106.memory_kib, RFC_9106.passes, RFC_9106.lanes) == (65_536, 3, 4)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["why"])
def test_files_locked_by_earlier_versions_are_read_as_ever(case: dict[str, Any]) -> None:
    if case["result"] == "opens":
        assert unlock(case["locked"], case["passphrase"], case["about"]) == unb64url(case["secret"])
    else:
        assert code_of(case["locked"], case["passphrase"], case["about"]) == case["result"]
