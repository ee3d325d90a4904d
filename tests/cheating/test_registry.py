# SPDX-License-Identifier: Apache-2.0
"""Cheating with who may sign: an older registry handed out, a key that no holder approved, an old date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.keys import SigningKey
from schemas.registry import Key
from tests.cheating.cheats import TO_SHELTER, Town, shown, where
from tests.domain import NOW, YEAR, Domain, seeded
from topics.ledger_entries import LedgerEntry

ROGUE = SigningKey.generate(seeded("rogue"))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """A record before and one after a new registry version."""
    with Town(tmp_path) as made:
        made.publish(made.domain.record())
        made.sequence()
        made.domain.registry = made.domain.registry.renewed(NOW)
        made.sequence()
        made.publish(made.domain.record())
        made.sequence()
        assert made.found() == []
        yield made


def test_an_older_registry_that_is_handed_out_again_is_named(town: Town) -> None:
    version = town.domain.registry.version
    town.published = next(
        data for data in town.world.registries.files.values() if town.read_registry(data)[0].version == version - 1
    )
    assert shown(town.audited()) == [("registry_rollback", "registry")]


def test_a_ledger_in_which_the_registry_goes_back_does_not_follow(town: Town) -> None:
    town.brought.clear()
    older = next(one for one in town.entries() if one.kind == "registry")
    town.rebuild(lambda entries: [*entries, older])
    assert ("log_inconsistent", "entry") in town.found()


def test_a_registry_that_its_holders_did_not_sign_is_not_believed_whoever_logged_it(town: Town) -> None:
    """The operator makes a registry of his own, with a key of his for the agency, and logs it."""
    forged = Domain(seed="another root")
    forged.registry = replace(forged.registry, version=town.domain.registry.version + 1)
    data = forged.registry_file
    entry = _registry_entry(town, data, forged.registry.version)
    town.rebuild(lambda entries: [*entries, entry])
    report = town.audited()
    assert [code for code, about in shown(report) if about == "registry"]
    assert next(one for one in report.findings.kept if one.about == "registry").index == len(town.entries()) - 1


def _registry_entry(town: Town, data: bytes, version: int) -> LedgerEntry:
    import hashlib

    digest = hashlib.sha256(data).digest()
    town.world.registries.files[digest] = data
    return LedgerEntry("registry", value_sha256=digest, detail=str(version))


def test_a_registry_file_that_is_withheld_is_named(town: Town) -> None:
    town.world.registries.files.clear()
    assert ("registry_invalid", "registry") in shown(town.audited())


def test_a_record_from_a_key_that_no_registry_names_is_caught_when_the_ledger_counts_it(town: Town) -> None:
    rogue = town.domain.record(signer=ROGUE)
    town.publish(rogue.entry)
    assert town.sequence()[-1].detail == "key_unknown"
    town.brought.clear()
    town.rebuild(lambda entries: [*entries[:-1], replace(entries[-1], kind="event", detail=None)])
    report = town.audited()
    assert ("key_unknown", "record") in shown(report)
    assert where(report, "key_unknown").topic == TO_SHELTER


def test_a_record_dated_before_the_revocation_and_logged_behind_it_is_caught(town: Town) -> None:
    """A thief has the shelter's partner's key, the operator helps: an old date on the record, the log's clock set back.
    The place in the ledger cannot be set back."""
    domain = town.domain
    domain.revoke("bi/iom", domain.members["bi/iom"].sig.kid, at=NOW + 60)
    town.sequence()
    backdated = domain.record(iat=NOW - 3600)
    town.publish(backdated.entry)  # the log's clock still says NOW, before the revocation
    assert town.sequence()[-1].detail == "key_revoked"
    town.brought.clear()
    town.rebuild(lambda entries: [*entries[:-1], replace(entries[-1], kind="event", detail=None)])
    assert ("key_revoked", "record") in shown(town.audited())


def test_what_was_logged_before_the_revocation_still_counts(town: Town) -> None:
    domain = town.domain
    domain.revoke("bi/iom", domain.members["bi/iom"].sig.kid, at=NOW - YEAR)
    town.sequence()
    assert town.audited().findings.kept == ()


def test_a_key_that_a_new_version_brings_counts_from_there(town: Town) -> None:
    domain, new = town.domain, SigningKey.generate(seeded("new"))
    owner = domain.registry.agency("bi/iom")
    key = Key(new.kid, "sig", "ES256", new.public.public, NOW - 60, NOW + YEAR)
    domain.registry = domain.registry.with_agency(replace(owner, keys=(*owner.keys, key)), NOW)
    town.sequence()
    town.publish(domain.record(signer=new))
    assert town.sequence()[-1].kind == "event"
    assert town.audited().findings.kept == ()


def test_what_a_stolen_key_signed_before_anybody_noticed_is_named_once_a_place_is_given(
    town: Town, tmp_path: Path
) -> None:
    """It counted when it was entered, so nobody lied; but from there on it was not the agency that signed. Also to an
    auditor who had looked at it before, and goes on from there."""
    assert town.audited(scratch=tmp_path / "scratch").records > 0
    domain, since = town.domain, town.entries()[-1]
    index = len(town.entries()) - 1
    domain.registry = domain.registry.with_key_revoked(
        "bi/iom", domain.members["bi/iom"].sig.kid, NOW, compromised_since=index
    )
    town.sequence()
    for scratch in (None, tmp_path / "scratch", tmp_path / "scratch"):
        report = town.audited(scratch=scratch)
        assert report.faultless
        found = [(one.code, one.offset, one.index) for one in report.findings.kept]
        assert found == [("key_revoked", since.offset, index)]
