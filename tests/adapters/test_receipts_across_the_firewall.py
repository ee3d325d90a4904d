# SPDX-License-Identifier: Apache-2.0
"""A protected place learns that its alert has arrived, and police reach it in no other way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.envelope import new_thread
from schemas.errors import PayloadError
from schemas.forms import Facts, Lawful, Name, Receipt
from schemas.plain.alert import AlertMissing, SafetyWarning
from tests.agencies import PLANTED, Agencies, at
from tests.domain import Signed

POLICE, SHELTER, OTHER, IOM = "bi/police", "bi/k7t4", "bi/r5w2", "bi/iom"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def alert() -> Facts:
    return Facts(
        occurred_at=at(),
        lawful=Lawful(basis="vital-interests", author="Diane Inventée", reason="Partie et non revenue."),
        said=AlertMissing(
            age="child",
            circumstance="did-not-return",
            missing_since=at(),
            name=Name(as_given=PLANTED),
            telephone="+25779000000",
        ),
    )


def raised(town: Agencies, to: str = POLICE) -> str:
    """An alert of the shelter that has not been read yet; its evt."""
    evt = town[SHELTER].evt(town[SHELTER].draft(to, "alert.missing", alert()))
    town[SHELTER].send()
    return evt


def hand_made(town: Agencies, ref: str | None, thread: str, *, to: str = SHELTER) -> Signed:
    """A receipt as police's adapter would not make it."""
    said = Receipt(
        record_sha256="ab" * 32, signed_sha256="cd" * 32, topic="bi.alert.police", offset=0, received_at=at()
    )
    return town.seal(POLICE, to, "receipt.delivered", Facts(occurred_at=at(), receipt=said), ref=ref, thread=thread)


def test_an_alert_is_delivered_once_the_police_machine_has_it(town: Agencies) -> None:
    evt = raised(town)
    assert town[SHELTER].outgoing(evt).state == "promised"
    town.settle()
    assert town[SHELTER].outgoing(evt).state == "delivered"
    assert [one.kind for one in town[SHELTER].runner.deadlines.alarms()] == []
    town.wait(5 * 3600)
    assert [one.kind for one in town[SHELTER].runner.deadlines.alarms()] == []


def test_an_alert_that_the_police_machine_cannot_read_is_told_to_the_shelter(town: Agencies) -> None:
    def spoilt(content: bytes, identity: bytes) -> tuple[bytes, bytes]:
        return content.replace(b'"did-not-return"', b'"went-somewhere"'), identity

    record = town.seal(SHELTER, POLICE, "alert.missing", alert(), spoil=spoilt)
    town.put(record)
    town.settle()
    [item] = town[POLICE].inbox()
    assert (item.state, item.code) == ("quarantined", PayloadError("payload_invalid").code)
    [told] = town[POLICE].sent("receipt.rejected")
    assert (told.peer, told.ref) == (SHELTER, record.manifest.evt)


def test_a_receipt_of_nothing_that_the_shelter_sent_them_is_not_taken(town: Agencies) -> None:
    evt, to_iom = raised(town), raised(town, IOM)
    thread, elsewhere = town[SHELTER].outgoing(evt).thread, new_thread(town.domain.random)
    wrong = [
        hand_made(town, None, thread),
        hand_made(town, evt, elsewhere),
        hand_made(town, to_iom, town[SHELTER].outgoing(to_iom).thread),
    ]
    for record in wrong:
        town.put(record)
    town[SHELTER].receive()
    found = {item.evt: (item.state, item.code) for item in town[SHELTER].inbox()}
    assert found == {record.manifest.evt: ("quarantined", "not_permitted") for record in wrong}
    assert town[SHELTER].outgoing(evt).state == "promised"
    # And nothing is said of it to them.
    assert town[SHELTER].sent("receipt.rejected") == []


def test_what_police_write_to_a_shelter_all_the_same_has_no_answer(town: Agencies) -> None:
    said = SafetyWarning(danger="threat", since=at(), telephone="+25722000000")
    town.put(town.seal(POLICE, SHELTER, "safety.warning", Facts(occurred_at=at(), said=said)))
    town.settle()
    [item] = town[SHELTER].inbox()
    assert (item.state, item.code) == ("quarantined", "not_permitted")
    assert town[SHELTER].sent("receipt.rejected") == []
    assert town[POLICE].inbox() == []
