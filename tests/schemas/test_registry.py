# SPDX-License-Identifier: Apache-2.0
"""The registry: read back as signed, and asked who may sign and to whom one seals, and when."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import RecordError, RegistryError
from schemas.keys import CLASSICAL, HYBRID, SealingKey, SigningKey
from schemas.plain_text import is_one_line
from schemas.registry import (
    ROLES,
    STALE_AFTER_S,
    Agency,
    Key,
    Registry,
    agency_from_json,
    agency_to_json,
    empty_registry,
)
from schemas.registry_bundle import RootPin
from schemas.registry_trust import trusted
from tests.domain import NOW, YEAR, Domain, seeded, sign_registry, signed_root

calm = settings(derandomize=True, database=None, deadline=None, max_examples=40)
DOMAIN = Domain("registry")
SIG = DOMAIN.members["bi/iom"].sig
times = st.integers(-(2**53) + 1, 2**53 - 1)


def _signing(seed: int, activated: int, expires: int, revoked: int | None) -> Key:
    key = SigningKey.generate(seeded(f"registry/{seed}"))
    return Key(key.kid, "sig", "ES256", key.public.public, activated, expires, revoked)


def _sealing(seed: int, classical: bool, activated: int, expires: int) -> Key:
    suite = CLASSICAL if classical else HYBRID
    key = SealingKey.generate(seeded(f"registry/{seed}"), suite)
    return Key(key.kid, "seal", suite, key.public.public, activated, expires)


names = st.dictionaries(
    st.sampled_from(["en", "rn", "ar"]), st.text(st.characters(), min_size=1, max_size=20).filter(is_one_line)
)
keys = st.builds(_signing, st.integers(0, 9), times, times, st.none() | times) | st.builds(
    _sealing, st.integers(10, 15), st.booleans(), times, times
)


@st.composite
def registries(draw: st.DrawFn) -> Registry:
    idents = draw(st.lists(st.sampled_from(["bi/iom", "bi/k7t4", "bi/r5w2", "bi/a-b"]), unique=True))
    every = draw(st.lists(keys, max_size=6, unique_by=lambda key: key.kid))
    registry = empty_registry("bi", draw(st.integers(1, NOW)), draw(st.booleans()))
    for n, ident in enumerate(idents):
        agency = Agency(
            ident,
            {"fr": "Inventée", **draw(names)},
            tuple(draw(st.lists(st.sampled_from(ROLES), unique=True, max_size=4))),
            tuple(key for i, key in enumerate(every) if i % len(idents) == n),
            draw(st.booleans()),
        )
        registry = registry.with_agency(agency, registry.issued + 1)
    return registry


@calm
@given(registries())
def test_a_registry_reads_as_what_was_signed(registry: Registry) -> None:
    data = sign_registry(registry, DOMAIN.root)
    pin = RootPin.of(signed_root(registry, DOMAIN.root))
    again = trusted(data, pin).registry
    assert again == registry
    assert sign_registry(again, DOMAIN.root) == data
    for agency in registry.agencies.values():
        assert agency_from_json(agency_to_json(agency)) == agency


def test_no_single_bit_of_a_registry_file_can_be_changed() -> None:
    data = sign_registry(empty_registry("bi", NOW), DOMAIN.root)
    for at in range(0, len(data), 7):
        changed = data[:at] + bytes([data[at] ^ (1, 0x20, 0x80)[at % 3]]) + data[at + 1 :]
        with pytest.raises(RegistryError, match=r"registry_(invalid|threshold|root_unknown)"):
            trusted(changed, DOMAIN.pin)


def test_a_key_counts_from_its_activation_until_it_expires_or_is_revoked() -> None:
    def counting(key: Key) -> list[int]:
        return [at for at in (99, 100, 149, 150, 199, 200) if key.counts_at(at)]

    assert counting(_signing(1, 100, 200, None)) == [100, 149, 150, 199]
    assert counting(_signing(1, 100, 200, 150)) == [100, 149]
    assert counting(_signing(1, 100, 200, 300)) == [100, 149, 150, 199]
    assert counting(_signing(1, 100, 200, 50)) == []


def test_whose_signature_counts() -> None:
    registry = DOMAIN.registry
    assert registry.signing_key("bi/iom", SIG.kid, NOW) == SIG.public
    assert registry.signing_key("bi/iom", SIG.kid, NOW) is registry.signing_key("bi/iom", SIG.kid, NOW)
    seal = DOMAIN.members["bi/iom"].seal.kid
    for iss, kid, at, code in (
        ("bi/nobody", SIG.kid, NOW, "agency_unknown"),
        ("bi/iom", "A" * 22, NOW, "key_unknown"),
        ("bi/iom", SIG.kid, NOW - YEAR - 1, "key_revoked"),
        ("bi/iom", SIG.kid, NOW + YEAR, "key_revoked"),
        ("bi/police", SIG.kid, NOW, "issuer_mismatch"),
        ("bi/iom", seal, NOW, "key_unknown"),
    ):
        with pytest.raises((RegistryError, RecordError)) as caught:
            registry.signing_key(iss, kid, at)
        assert caught.value.code == code


def test_a_revoked_key_counts_for_what_came_before() -> None:
    revoked = DOMAIN.registry.with_key_revoked("bi/iom", SIG.kid, NOW)
    assert revoked.version == DOMAIN.registry.version + 1
    assert revoked.signing_key("bi/iom", SIG.kid, NOW - 1) == SIG.public
    with pytest.raises(RegistryError, match="key_revoked"):
        revoked.signing_key("bi/iom", SIG.kid, NOW)
    again = revoked.with_key_revoked("bi/iom", SIG.kid, NOW + 10)
    assert again.agency("bi/iom").keys == revoked.agency("bi/iom").keys
    with pytest.raises(RegistryError, match="key_unknown"):
        revoked.with_key_revoked("bi/iom", "A" * 22, NOW)


def test_a_stolen_key_counts_for_what_the_ledger_had_before_the_theft_whenever_it_was_noticed() -> None:
    stolen = DOMAIN.registry.with_key_revoked("bi/iom", SIG.kid, NOW, 41)
    [key] = [key for key in stolen.agency("bi/iom").keys if key.kid == SIG.kid]
    assert key.counts_at(NOW - 1)
    assert not key.counts_at(NOW)
    assert key.counts_at(NOW + 1, index=40)
    assert not key.counts_at(NOW - 1, index=41)
    assert not key.counts_at(NOW + YEAR, index=40)
    assert stolen.signing_key("bi/iom", SIG.kid, NOW + 1, index=40) == SIG.public
    with pytest.raises(RegistryError, match="key_revoked"):
        stolen.signing_key("bi/iom", SIG.kid, NOW - 1, index=41)
    # Found out later to be older still: the doubt grows. It never shrinks, and a revocation never moves.
    earlier = stolen.with_key_revoked("bi/iom", SIG.kid, NOW + 10, 12).with_key_revoked("bi/iom", SIG.kid, NOW + 20, 30)
    [key] = [key for key in earlier.agency("bi/iom").keys if key.kid == SIG.kid]
    assert (key.revoked, key.compromised_since) == (NOW, 12)
    assert agency_from_json(agency_to_json(earlier.agency("bi/iom"))) == earlier.agency("bi/iom")


def test_one_seals_to_every_key_that_counts_now() -> None:
    shelter = DOMAIN.members["bi/k7t4"]
    assert DOMAIN.registry.seal_keys("bi/k7t4", NOW) == (shelter.seal.public,)
    lost = DOMAIN.registry.with_key_revoked("bi/k7t4", shelter.seal.kid, NOW)
    with pytest.raises(RegistryError, match="key_revoked"):
        lost.seal_keys("bi/k7t4", NOW)
    bare = empty_registry("bi", NOW).with_agency(Agency("bi/k7t4", {"fr": "x"}, (), ()), NOW)
    with pytest.raises(RegistryError, match="key_unknown"):
        bare.seal_keys("bi/k7t4", NOW)


def test_a_registry_is_stale_after_thirty_days() -> None:
    registry = empty_registry("bi", NOW)
    assert not registry.is_stale(NOW + STALE_AFTER_S)
    assert registry.is_stale(NOW + STALE_AFTER_S + 1)
    renewed = registry.renewed(NOW + STALE_AFTER_S)
    assert (renewed.version, renewed.is_stale(NOW + STALE_AFTER_S + 1)) == (2, False)


def test_a_protected_agency_shows_its_handle() -> None:
    shelter, iom = DOMAIN.registry.agency("bi/k7t4"), DOMAIN.registry.agency("bi/iom")
    assert shelter.name("fr") == "bi/k7t4"
    assert shelter.names["fr"] == "Maison inventée"
    assert iom.name("en") == iom.name("fr") == "OIM (inventée)"
