# SPDX-License-Identifier: Apache-2.0
"""Scenario 16. A laptop with a shelter's mailbox is stolen.

On its disk stand sealed records and grants. Without the agency's keys nothing of it can be read: no name, no reason,
not even what the shelter answered. The registry's administrator revokes the shelter's keys within the hour. From then
on whoever has them gets nothing from the gateway and can say nothing in the shelter's name, and new records are not
sealed to them. The shelter begins again with new keys on another machine, and goes on where the log stands.

What was on the laptop stays open to whoever has the keys too: they lie in a file beside the mailbox (mode 0600), which
belongs on an encrypted disk. SECURITY.md says so.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.keystore import Keys
from schemas.envelope import parse_record
from schemas.errors import AccessError, RecordError, UmuhuzaError
from schemas.keys import SealingKey, SigningKey
from schemas.sealing import open_grant
from tests.scenarios.town import Town

NAME = "Nahimana-Inventée"
WHY = "un reçu inventé de sa fuite"


def test_nothing_is_readable_and_the_keys_count_no_more_within_the_hour(town: Town) -> None:
    iom, shelter = town["bi/iom"], town["bi/k7t4"]
    evt = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME, reason=WHY), person="IOM-16")
    town.settle()
    shelter.draft("bi/iom", "referral.received", town.plainly(), thread=shelter.thread(evt))
    town.settle()

    # The disk, without the keys: the mailbox's own bytes, and a thief's key against every grant in it.
    stolen = town.path("bi/k7t4").parent
    assert [line for line in town.found(NAME, WHY) if str(stolen) in line] == []
    [item] = shelter.inbox("referral.requested")
    assert item.grant_value is not None
    thief = SealingKey.generate(town.domain.random)
    with pytest.raises(RecordError, match="grant_unopenable"):
        open_grant(parse_record(item.record), item.grant_value, thief)

    # Within the hour: revoked. The clock goes on by half an hour, and the registry's new version is in force.
    member = town.domain.registry.agency("bi/k7t4")
    town.wait(minutes=30)
    now = int(town.clock())
    town.changed(replace(member, keys=tuple(replace(key, revoked=now) for key in member.keys)))

    # With the stolen keys: no word in the shelter's name is taken, and nothing is handed out.
    record = town.domain.record("bi/k7t4", "bi/iom", "referral", "answer")
    with pytest.raises(UmuhuzaError) as refused:
        town.put(record)
    assert refused.value.code in ("key_revoked", "not_permitted", "unauthorised")
    with pytest.raises(AccessError, match="key_revoked"):
        town.run(shelter.log.access_token())
    # And nothing new is sealed to them: the sender is told at once, and keeps its work.
    assert iom.refused("bi/k7t4", "referral.requested", town.referral(NAME))[0] == "key_revoked"

    # New keys on another machine, and the shelter goes on where the log stands.
    stolen.rename(town.folder / "stolen")
    made = SigningKey.generate(town.domain.random), SealingKey.generate(town.domain.random)
    keys = Keys("bi/k7t4", made[0], {made[1].kid: made[1]})
    enrolled = keys.enrolment({"fr": "Maison (inventée)"}, member.roles, True, int(town.clock()))
    before = town.domain.registry.agency("bi/k7t4")
    town.changed(replace(before, keys=(*before.keys, *enrolled.keys)))
    town.domain.members["bi/k7t4"] = replace(town.domain.members["bi/k7t4"], sig=made[0], seal=made[1])
    again = town.start("bi/k7t4")
    assert town.run(again.runner.reconcile(again.log)) > 0  # as at every start: it learns its own last numbers
    town.settle()
    later = iom.draft("bi/k7t4", "referral.requested", town.referral(NAME, reason=WHY), person="IOM-16")
    town.settle()
    again.draft("bi/iom", "referral.received", town.plainly(), thread=again.thread(later))
    again.draft("bi/iom", "referral.accepted", town.plainly(), thread=again.thread(later))
    town.settle()
    assert iom.state(iom.thread(later)) == "accepted"
    assert town.found(NAME, WHY) == []
