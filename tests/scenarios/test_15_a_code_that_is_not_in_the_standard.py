# SPDX-License-Identifier: Apache-2.0
"""Scenario 15. Somebody writes a code that HTCDS does not have.

The agency's own adapter refuses it with the field's name and without what was written. Should a program of another
make send such a record all the same, signed and sealed as it should be, the receiving adapter turns it away, tells its
sender so with a signed receipt, and the value stands in no log, no mailbox and no answer.
"""

from __future__ import annotations

import json

import pytest

from schemas.envelope import new_evt, new_thread
from schemas.errors import CODES
from schemas.events import compose
from tests.scenarios.town import Town

NAME = "Habonimana-Inventée"
WRONG = "Nowhere-In-The-Standard-77"


def test_its_own_adapter_refuses_it(town: Town) -> None:
    facts = town.identified(NAME)
    wrong = facts.model_copy(update={"htcds": {**facts.htcds, "prs_Gender": WRONG}})
    code, path = town["bi/police"].refused("bi/iom", "case.identified", wrong)
    assert (code, path) == ("payload_invalid", "htcds.prs_Gender")
    assert CODES[code].advice_fr
    assert CODES[code].advice_en
    town.settle()
    assert town.found(NAME, WRONG) == []


@pytest.mark.parametrize("spoilt", ["Feminine", "prs_Gender"], ids=["an unknown code", "an unknown field"])
def test_a_program_of_another_make_gets_it_no_further_than_the_recipients_adapter(town: Town, spoilt: str) -> None:
    evt, thread = new_evt(int(town.clock() * 1000), town.domain.random), new_thread(town.domain.random)
    parts = compose(
        "case.identified",
        town.identified(NAME),
        iss="bi/police",
        to="bi/iom",
        evt=evt,
        thread=thread,
        ref=None,
        pseudonym="pseudonym-of-hers",
        recorded_at=town.today(),
        allowed=None,
        salt=town.domain.random(32),
    )
    content = parts.content.replace(json.dumps(spoilt).encode(), json.dumps(WRONG).encode())
    assert content != parts.content
    record = town.domain.record(
        "bi/police", "bi/iom", "case", "request", content=content, identity=parts.identity, evt=evt, thread=thread
    )
    town.put(record)
    town.settle()
    [refused] = town["bi/iom"].inbox()
    assert (refused.state, refused.code) == ("quarantined", "payload_invalid")
    assert WRONG not in (refused.path or "")
    [told] = town["bi/police"].opened("receipt.rejected")
    assert told.facts.receipt is not None
    assert told.facts.receipt.code == "payload_invalid"
    assert town.found(NAME, WRONG) == []
