# SPDX-License-Identifier: Apache-2.0
"""A recipient renews its sealing key while an event for it waits, sealed to both the old and the new one.

When the old one is revoked, its grant must not leave any more: gateways refuse a record over it. The grant of the
new one opens the record all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import RegistryError
from schemas.keys import HYBRID, SealingKey
from schemas.registry import Key
from tests.agencies import Agencies, Gate, referral
from topics.log import grant_key

SHELTER, IOM = "bi/k7t4", "bi/iom"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def two_keys(town: Agencies) -> SealingKey:
    """A second sealing key of the shelter's, beside its first."""
    seal = SealingKey.generate(town.domain.random)
    now = int(town.now)
    key = Key(seal.kid, "seal", HYBRID, seal.public.public, now, now + 86_400 * 365)
    shelter = town.domain.registry.agency(SHELTER)
    town.domain.registry = town.domain.registry.with_agency(replace(shelter, keys=(*shelter.keys, key)), now)
    return seal


def first_key_revoked(town: Agencies) -> str:
    old = town.domain.members[SHELTER].seal.kid
    town.wait(60)
    town.domain.revoke(SHELTER, old, int(town.now))
    return old


def test_only_the_grant_of_the_key_that_still_counts_leaves(town: Agencies) -> None:
    fresh = two_keys(town)
    evt = town[IOM].evt(town[IOM].draft(SHELTER, "referral.requested", referral()))
    assert len(town[IOM].outgoing(evt).grants) == 2
    old = first_key_revoked(town)
    town[IOM].send()
    assert town[IOM].outgoing(evt).state == "promised"
    kept = town.run(town.log.get_grants("bi.grants.k7t4", [grant_key(f"{IOM}/{evt}", kid) for kid in (old, fresh.kid)]))
    assert [json.loads(grant)["kid"] for grant in kept.values()] == [fresh.kid]


def test_a_refusal_over_the_old_key_is_waited_out_while_another_key_still_counts(town: Agencies) -> None:
    """The gateway's registry is newer than ours: ours will be there before the next attempt."""
    two_keys(town)
    evt = town[IOM].evt(town[IOM].draft(SHELTER, "referral.requested", referral()))
    revoked = RegistryError("key_revoked", "grants[0].kid")
    town[IOM].runner.log = Gate(town.log, refuses=lambda _entry: revoked)
    town[IOM].send()
    assert (town[IOM].outgoing(evt).state, town[IOM].outgoing(evt).code) == ("signed", "key_revoked")
    first_key_revoked(town)
    town[IOM].runner.log = town.log
    town.wait(60)
    town[IOM].send()
    assert town[IOM].outgoing(evt).state == "promised"


def test_where_no_key_is_left_the_event_is_refused_and_its_author_told(town: Agencies) -> None:
    evt = town[IOM].evt(town[IOM].draft(SHELTER, "referral.requested", referral()))
    first_key_revoked(town)
    revoked = RegistryError("key_revoked", "grants[0].kid")
    town[IOM].runner.log = Gate(town.log, refuses=lambda _entry: revoked)
    town[IOM].send()
    assert (town[IOM].outgoing(evt).state, town[IOM].outgoing(evt).code) == ("refused", "key_revoked")


def test_what_our_own_revoked_key_signed_is_not_waited_for(town: Agencies) -> None:
    evt = town[IOM].evt(town[IOM].draft(SHELTER, "referral.requested", referral()))
    town[IOM].runner.log = Gate(town.log, refuses=lambda _entry: RegistryError("key_revoked"))
    town[IOM].send()
    assert town[IOM].outgoing(evt).state == "refused"
