# SPDX-License-Identifier: Apache-2.0
"""An agency watches its own entry: a key in the registry that it did not make stops what it sends, and says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.own_entry import OwnEntry
from schemas.errors import RegistryError
from schemas.keys import HYBRID, SealingKey
from schemas.registry import Key, tls_key
from tests.agencies import Agencies, referral
from tests.domain import YEAR, seeded

SHELTER = "bi/k7t4"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def watch(town: Agencies, file: Path) -> OwnEntry:
    desk = town["bi/iom"].runner.desk
    return OwnEntry(file, desk.keys, desk.registry, desk.now)


def put_in(town: Agencies, kid_of: str) -> str:
    """Somebody with the holders' signatures puts a sealing key of theirs into an agency's entry."""
    rogue = SealingKey.generate(seeded("rogue"))
    now = int(town.now)
    key = Key(rogue.kid, "seal", HYBRID, rogue.public.public, now - 60, now + YEAR)
    entry = town.domain.registry.agency(kid_of)
    town.domain.registry = town.domain.registry.with_agency(replace(entry, keys=(*entry.keys, key)), now)
    return rogue.kid


def test_a_key_that_the_agency_did_not_make_stops_what_it_sends_until_it_is_revoked(
    town: Agencies, tmp_path: Path
) -> None:
    iom = town["bi/iom"]
    iom.runner.before_send = watch(town, tmp_path / "own-keys.json").require_ours
    iom.draft(SHELTER, "referral.requested", referral())
    kid = put_in(town, "bi/iom")
    with pytest.raises(RegistryError) as caught:
        iom.send()
    assert (caught.value.code, caught.value.path) == ("registry_key_foreign", "agency.keys.seal")
    assert caught.value.retriable  # it waits; nothing is lost
    iom.receive()
    town.domain.registry = town.domain.registry.with_key_revoked("bi/iom", kid, int(town.now))
    assert iom.send() == 1
    town.settle()
    assert town[SHELTER].system.types == ["referral.requested"]


def test_a_revoked_key_of_ones_own_that_counts_again_is_a_strangers(town: Agencies, tmp_path: Path) -> None:
    """Whoever stole it, and a holder's key too, needs no key of their own."""
    file = tmp_path / "own-keys.json"
    before = town.domain.registry
    [stolen] = [key.kid for key in before.agency("bi/iom").keys if key.use == "seal"]
    own = watch(town, file)
    town.domain.registry = before.with_key_revoked("bi/iom", stolen, int(town.now))
    assert own.foreign() == ()
    town.domain.registry = replace(before, version=town.domain.registry.version + 1)
    for looks in (own, watch(town, file)):
        assert [key.kid for key in looks.foreign()] == [stolen]


def test_a_foreign_key_in_anothers_entry_is_that_agencys_to_notice(town: Agencies, tmp_path: Path) -> None:
    put_in(town, SHELTER)
    own = watch(town, tmp_path / "own-keys.json")
    assert own.foreign() == ()
    own.require_ours()


def test_a_tls_key_in_ones_entry_is_no_strangers_since_nothing_is_signed_or_sealed_with_it(
    town: Agencies, tmp_path: Path
) -> None:
    entry, now = town.domain.registry.agency("bi/iom"), int(town.now)
    pinned = replace(entry, keys=(*entry.keys, tls_key(b"a SubjectPublicKeyInfo", now, now + YEAR)))
    town.domain.registry = town.domain.registry.with_agency(pinned, now)
    watch(town, tmp_path / "own-keys.json").require_ours()


def test_an_agency_that_is_no_member_yet_has_nothing_to_watch(town: Agencies, tmp_path: Path) -> None:
    others = {name: one for name, one in town.domain.registry.agencies.items() if name != "bi/iom"}
    town.domain.registry = replace(town.domain.registry, agencies=others)
    assert watch(town, tmp_path / "own-keys.json").foreign() == ()


def test_a_key_of_before_is_remembered_as_ones_own(town: Agencies, tmp_path: Path) -> None:
    """After new keys the old ones still stand in the registry and no longer in the key store."""
    file = tmp_path / "own-keys.json"
    watch(town, file)
    desk = town["bi/iom"].runner.desk
    fresh = SealingKey.generate(seeded("fresh"))
    OwnEntry(file, replace(desk.keys, seal={fresh.kid: fresh}), desk.registry, desk.now).require_ours()
    empty = OwnEntry(tmp_path / "lost.json", replace(desk.keys, seal={fresh.kid: fresh}), desk.registry, desk.now)
    assert [key.use for key in empty.foreign()] == ["seal"]


@pytest.mark.parametrize(
    "said",
    ["", "[]", '{"v":2,"kids":[]}', '{"v":1,"kids":[1]}', '{"v":1,"kids":[],"x":1}', '{"v":1,"kids":[],"revoked":{}}'],
)
def test_what_was_remembered_is_never_guessed_anew(town: Agencies, tmp_path: Path, said: str) -> None:
    file = tmp_path / "own-keys.json"
    file.write_text(said)
    with pytest.raises(RegistryError) as caught:
        watch(town, file)
    assert (caught.value.code, caught.value.path) == ("registry_invalid", "own-keys")
    assert file.read_text() == said


def test_only_ids_are_remembered(town: Agencies, tmp_path: Path) -> None:
    file = tmp_path / "own-keys.json"
    watch(town, file)
    keys = town["bi/iom"].runner.desk.keys
    assert json.loads(file.read_text()) == {"v": 1, "kids": sorted([keys.sig.kid, *keys.seal])}
