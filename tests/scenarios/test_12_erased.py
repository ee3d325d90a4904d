# SPDX-License-Identifier: Apache-2.0
"""Scenario 12. She asks that what was told about her be erased.

IOM commands it for the referral that a shelter and the record that the ministry hold. Each holder's adapter deletes the
key and what it had opened, and attests; the gateway has deleted the grants before. Nothing that could open the records
is in any file any more: not in the log, not in the mailboxes and not in what SQLite keeps beside them. The sealed
bytes stay, so that the chain can still be proved.
"""

from __future__ import annotations

import orjson

from schemas.envelope import parse_manifest
from schemas.plain.rights import ErasureAttested
from tests.scenarios.town import Town

NAME = "Uwineza-Inventée"
HOLDERS = {"bi/k7t4": "referral.requested", "bi/min-solidarity": "case.screened"}


def test_every_holder_attests_and_no_key_is_left_on_any_disk(town: Town) -> None:
    iom = town["bi/iom"]
    sent = {
        "bi/k7t4": iom.draft("bi/k7t4", "referral.requested", town.referral(NAME), person="IOM-12"),
        "bi/min-solidarity": iom.draft("bi/min-solidarity", "case.screened", town.identified(NAME), person="IOM-12"),
    }
    town.settle()
    grants = {to: town.grants_of(to, evt, "bi/iom") for to, evt in sent.items()}
    assert all(len(found) == 1 for found in grants.values())
    secrets = [orjson.loads(found[0])["ct"][100:200] for found in grants.values()]

    for evt in sent.values():
        iom.corrections.erase(f"bi/iom/{evt}", "person")
    town.settle()
    town.wait(minutes=2)
    town.settle()
    attested = {
        item.iss: opened.facts.said
        for item, opened in zip(iom.inbox("erasure.attested"), iom.opened("erasure.attested"), strict=True)
    }
    assert attested.keys() == set(HOLDERS)
    for to, evt in sent.items():
        said = attested[to]
        assert isinstance(said, ErasureAttested)
        assert said.record == f"bi/iom/{evt}"
        assert "grant" in said.gone
        assert town.grants_of(to, evt, "bi/iom") == []
        [item] = town[to].inbox(HOLDERS[to])
        assert (item.state, item.grant_value) == ("erased", None)
        # The proof stays: the record as it was signed, in its chain.
        assert parse_manifest(item.record.partition(b"\n")[0])[3].evt == evt
    if town.kind == "sqlite":  # brokers compact at their own time; tests/topics/test_kafka_log.py waits for them
        assert town.found(*secrets) == []
    else:
        assert [line for line in town.found(*secrets) if "/node-" not in line] == []
    assert town.found(NAME) == []
