# SPDX-License-Identifier: Apache-2.0
"""An agency's word that a key in its entry is not its own: whose it is, how long it stands, and what it never does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.envelope import sign_jws
from schemas.errors import RecordError, RegistryError
from schemas.objections import OBJECTION_TYP, disputed, read_objection, sign_objection
from tests.domain import NOW, Domain

DOMAIN = Domain("objections")
IOM, SHELTER = DOMAIN.members["bi/iom"], DOMAIN.members["bi/k7t4"]
LINE = sign_objection("bi/k7t4", [SHELTER.seal.kid], NOW, SHELTER.sig)


def test_it_stands_until_the_key_or_the_one_that_signed_it_counts_no_longer() -> None:
    said = read_objection(LINE, DOMAIN.registry, NOW)
    assert (said.agency, said.kids, said.at) == ("bi/k7t4", (SHELTER.seal.kid,), NOW)
    assert disputed([LINE], DOMAIN.registry, NOW) == {"bi/k7t4"}
    decided = DOMAIN.registry.with_key_revoked("bi/k7t4", SHELTER.seal.kid, NOW)
    assert disputed([LINE], decided, NOW) == frozenset()
    other = DOMAIN.registry.with_key_revoked("bi/k7t4", SHELTER.sig.kid, NOW)
    assert disputed([LINE], other, NOW) == frozenset()
    assert disputed([LINE], replace(DOMAIN.registry, agencies={}), NOW) == frozenset()


def test_a_stranger_in_the_entry_can_object_too_and_that_only_holds_back() -> None:
    """Both sides of a dispute say the same words: no key gets better by it."""
    line = sign_objection("bi/k7t4", [SHELTER.seal.kid], NOW, SHELTER.sig)
    before = DOMAIN.registry.seal_keys("bi/k7t4", NOW)
    assert disputed([line], DOMAIN.registry, NOW) == {"bi/k7t4"}
    assert DOMAIN.registry.seal_keys("bi/k7t4", NOW) == before


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (sign_objection("bi/k7t4", [SHELTER.seal.kid], NOW, IOM.sig), "issuer_mismatch"),
        (sign_objection("bi/nobody", [SHELTER.seal.kid], NOW, IOM.sig), "agency_unknown"),
        (sign_objection("bi/k7t4", [], NOW, SHELTER.sig), "record_malformed"),
        (sign_objection("bi/k7t4", [SHELTER.sig.kid], NOW, SHELTER.sig), "record_malformed"),
        (sign_objection("bi/k7t4", ["Ndayizeye"], NOW, SHELTER.sig), "record_malformed"),
        (
            sign_jws(OBJECTION_TYP, {"v": 1, "iss": "bi/k7t4", "kids": [SHELTER.seal.kid]}, SHELTER.sig),
            "record_malformed",
        ),
        (sign_jws("umuhuza-event+jws", {"v": 1}, SHELTER.sig), "header_forbidden"),
        (LINE[:-4] + b"AAAA", "signature_invalid"),
        (b"Ndayizeye", "record_malformed"),
        (b"\xff.\xff.\xff", "record_malformed"),
        (b"a" * 4097, "too_large"),
    ],
)
def test_what_is_none_is_refused_and_holds_nothing_back(line: bytes, code: str) -> None:
    with pytest.raises((RecordError, RegistryError)) as caught:
        read_objection(line, DOMAIN.registry, NOW)
    assert caught.value.code == code
    assert "Ndayizeye" not in str(caught.value)
    assert disputed([line], DOMAIN.registry, NOW) == frozenset()
