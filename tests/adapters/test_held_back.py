# SPDX-License-Identifier: Apache-2.0
"""While a recipient says that a key in its entry is not its own, nothing goes to it, and everything else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.held_back import Disputes, HeldBack
from schemas.objections import sign_objection
from tests.adapters.test_own_entry import put_in
from tests.agencies import Agencies, referral
from topics.log import grants_topic

SHELTER, OTHER = "bi/k7t4", "bi/r5w2"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def objection(town: Agencies, kid: str) -> bytes:
    return sign_objection(SHELTER, [kid], int(town.now), town.keys(SHELTER).sig)


def test_what_goes_to_the_disputed_waits_and_goes_by_itself_without_the_strangers_grant(
    town: Agencies, tmp_path: Path
) -> None:
    iom = town["bi/iom"]
    desk = iom.runner.desk
    disputes = Disputes(tmp_path / "objections.jsonl", desk.registry, desk.now)
    iom.runner.log = HeldBack(iom.runner.log, disputes.agencies)
    kid = put_in(town, SHELTER)
    held = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    gone = iom.evt(iom.draft(OTHER, "referral.requested", referral()))
    disputes.told([objection(town, kid)])
    iom.send()
    assert (iom.outgoing(gone).state, iom.outgoing(held).state) == ("promised", "signed")
    assert iom.outgoing(held).code == "recipient_disputed"
    town.settle()
    assert town[OTHER].system.types == ["referral.requested"]
    assert town[SHELTER].system.types == []
    # After a restart without a network it is held back as well.
    assert Disputes(tmp_path / "objections.jsonl", desk.registry, desk.now).agencies() == {SHELTER}
    town.domain.registry = town.domain.registry.with_key_revoked(SHELTER, kid, int(town.now))
    town.wait(3600)
    town.settle()
    assert town[SHELTER].system.types == ["referral.requested"]
    ident = f"bi/iom/{held}"
    keys = [f"{ident}|{kid}", *(f"{ident}|{own}" for own in town.keys(SHELTER).seal)]
    found = town.run(town.log.get_grants(grants_topic(SHELTER), keys))
    assert list(found) == keys[1:]


def test_what_the_gateway_tells_that_no_agency_has_signed_holds_nothing_back(town: Agencies, tmp_path: Path) -> None:
    desk = town["bi/iom"].runner.desk
    disputes = Disputes(tmp_path / "objections.jsonl", desk.registry, desk.now)
    kid = put_in(town, SHELTER)
    disputes.told([b"nothing", sign_objection(SHELTER, [kid], int(town.now), town.keys(OTHER).sig)])
    assert disputes.agencies() == frozenset()
    disputes.told([objection(town, kid)])
    assert disputes.agencies() == {SHELTER}
    disputes.told([])
    assert disputes.agencies() == frozenset()
