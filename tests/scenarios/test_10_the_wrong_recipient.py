# SPDX-License-Identifier: Apache-2.0
"""Scenario 10. A referral went to the wrong recipient.

IOM notices within the hour and takes it back. The gateway erases the key, the ministry's adapter forgets what it had
opened and attests it; both have the incident on their list for a person to look at, without a name. What was read
cannot be unread, and the attestation says so. The record stays in the log: that it was sent, and taken back, is proved.
"""

from __future__ import annotations

from schemas.plain.rights import ErasureAttested
from tests.scenarios.town import Town

NAME = "Mukeshimana-Inventée"


def test_taken_back_key_deleted_incident_recorded(town: Town) -> None:
    iom, ministry = town["bi/iom"], town["bi/min-solidarity"]
    sent = iom.draft("bi/min-solidarity", "referral.requested", town.referral(NAME), person="IOM-10")
    town.settle()
    assert ministry.opened("referral.requested")
    assert town.grants_of("bi/min-solidarity", sent, "bi/iom")
    thread = iom.thread(sent)

    town.wait(minutes=40)
    assert iom.corrections.retract(sent, "wrong-recipient") == "retracted"
    town.settle()
    town.wait(minutes=2)
    town.settle()
    assert town.grants_of("bi/min-solidarity", sent, "bi/iom") == []
    [item] = ministry.inbox("referral.requested")
    assert (item.state, item.grant_value) == ("erased", None)
    assert (iom.state(thread), ministry.state(thread)) == ("retracted", "retracted")
    [attested] = iom.opened("erasure.attested")
    assert isinstance(attested.facts.said, ErasureAttested)
    assert "what-was-read" in attested.facts.said.remains
    for agency in (iom, ministry):
        incidents = [one for one in agency.corrections.book.reviews() if one.kind == "incident"]
        assert [one.ident for one in incidents] == [f"bi/iom/{sent}"]
        assert NAME not in repr(incidents)
    assert town.found(NAME) == []


def test_what_had_not_left_never_leaves(town: Town) -> None:
    iom = town["bi/iom"]
    sent = iom.draft("bi/min-solidarity", "referral.requested", town.referral(NAME))
    assert iom.corrections.retract(sent, "wrong-recipient") == "cancelled"
    town.settle()
    assert town["bi/min-solidarity"].inbox() == []
    assert town.found(NAME) == []
