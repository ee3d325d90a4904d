# SPDX-License-Identifier: Apache-2.0
"""A record says which version of the registry its issuer had. A member may say any: what follows must not be more than
a delay of its own thread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.runner import Runner
from schemas.envelope import EVENT_TYP, chain_hash, new_evt, new_thread, sign_jws
from schemas.keys import unb64url
from schemas.registry import Registry
from tests.agencies import Agencies, Agency, identified, referral
from tests.domain import Signed
from topics.log import Entry

SHELTER, MINISTRY, IOM = "bi/k7t4", "bi/min-solidarity", "bi/iom"
DAY = 86_400


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def from_the_future(town: Agencies, seq: int, prev: str) -> tuple[Signed, Entry, str]:
    """A well signed record whose sealed type nobody may send there, naming a registry that will never be."""
    record = town.seal(MINISTRY, SHELTER, "case.identified", identified(), flow="referral", kind="request", chain=False)
    line1, _, body = record.value.partition(b"\n")
    payload = json.loads(unb64url(line1.split(b".")[1].decode()))
    payload |= {"reg": 2**53 - 1, "seq": seq, "prev": prev}
    line1 = sign_jws(EVENT_TYP, payload, town.domain.members[MINISTRY].sig)
    return record, replace(record.entry, value=line1 + b"\n" + body), chain_hash(line1)


def test_an_agency_that_names_a_registry_of_the_future_does_not_stop_others_mailbox(town: Agencies) -> None:
    record, entry, _ = from_the_future(town, 1, "")
    town.put(record, entry=entry)
    good = town.seal(IOM, SHELTER, "referral.requested", referral())
    town.put(good)
    shelter = town[SHELTER]
    shelter.receive()
    shelter.deliver()
    assert [one.evt for one in shelter.system.arrived] == [good.manifest.evt]
    [waits] = shelter.inbox("held")
    assert (waits.evt, waits.code) == (record.manifest.evt, "registry_stale")


def test_after_a_day_it_is_turned_away_and_its_sender_told(town: Agencies) -> None:
    record, entry, _ = from_the_future(town, 1, "")
    town.put(record, entry=entry)
    shelter = town[SHELTER]
    shelter.receive()
    town.wait(DAY + 60)
    shelter.deliver()
    [item] = shelter.inbox("quarantined")
    assert (item.evt, item.code) == (record.manifest.evt, "not_permitted")
    assert [receipt.ref for receipt in shelter.sent("receipt.rejected")] == [record.manifest.evt]


def behind(town: Agencies, registry: list[Registry]) -> Agency:
    """The shelter with a registry in which the ministry has not got its role yet."""
    newer = town.domain.registry
    ministry = replace(newer.agency(MINISTRY), roles=("legal-aid",))
    registry.append(replace(newer, version=newer.version - 1, agencies={**newer.agencies, MINISTRY: ministry}))
    shelter = town[SHELTER]
    desk = replace(shelter.runner.desk, registry=lambda: registry[-1])
    shelter.runner = Runner(desk, shelter.runner.log, [shelter.system])
    return shelter


def test_whoever_got_a_role_in_a_registry_that_we_have_not_fetched_waits_for_it_with_its_thread(town: Agencies) -> None:
    ours: list[Registry] = []
    shelter = behind(town, ours)
    thread, evt = new_thread(town.domain.random), new_evt(int(town.now * 1000), town.domain.random)
    town.put(town.seal(MINISTRY, SHELTER, "referral.requested", referral(), thread=thread, evt=evt))
    town.put(town.seal(MINISTRY, SHELTER, "referral.requested", referral(), thread=thread))
    for _ in range(3):
        shelter.receive()
        shelter.deliver()
        town.wait(600)
    assert shelter.system.arrived == []
    assert [item.state for item in shelter.inbox()] == ["held", "held"]
    ours.append(town.domain.registry)
    town.wait(1200)
    shelter.deliver()
    shelter.deliver()
    assert [one.evt for one in shelter.system.arrived] == [evt]
    assert [item.code for item in shelter.inbox("quarantined")] == ["transition_invalid"]  # begun twice
