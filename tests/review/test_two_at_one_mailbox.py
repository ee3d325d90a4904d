# SPDX-License-Identifier: Apache-2.0
"""Two programs, or two turns of one program, at one mailbox: what one of them has done the other does not undo.

Between reading what is held and deciding about it lies a question to the gateway. Whatever happens to the item in that
time, by the same program's other turn or by another program, stands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.desk import Desk
from adapters.mailbox import Mailbox
from adapters.runner import Runner
from tests.agencies import Agencies, Gate, InMemory, referral
from tests.domain import Signed
from topics.log import Ends

SHELTER, MINISTRY = "bi/k7t4", "bi/min-solidarity"


@dataclass
class Slow(Gate):
    """A log that lets something else happen, once, before it answers about grants or ends."""

    during_grants: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    during_ends: list[Callable[[], Awaitable[object]]] = field(default_factory=list)

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        found = await super().get_grants(topic, keys)
        while self.during_grants:
            await self.during_grants.pop()()
        return found

    async def ends(self, topic: str) -> Ends:
        while self.during_ends:
            await self.during_ends.pop()()
        return await super().ends(topic)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


@pytest.fixture
def other(town: Agencies) -> Iterator[Runner]:
    """A second program at the shelter's mailbox."""
    desk = Desk(
        Mailbox.open(town.path(SHELTER)), town.keys(SHELTER), town.registry, lambda: town.now, town.domain.random
    )
    yield Runner(desk, town.log, [InMemory()])
    desk.mailbox.close()


def held_for_its_grant(town: Agencies) -> Signed:
    """A referral that has arrived without its keys."""
    record = town.seal(MINISTRY, SHELTER, "referral.requested", referral())
    town.put(record, grants={})
    town[SHELTER].receive()
    [item] = town[SHELTER].inbox("held")
    assert item.code == "grant_missing"
    return record


def grants_come(town: Agencies, record: Signed) -> None:
    town.run(town.log.put_grants("bi.grants.k7t4", record.grant_puts()))


def states(town: Agencies) -> Mapping[str, str]:
    return {item.evt: item.state for item in town[SHELTER].inbox()}


def receipts(town: Agencies) -> list[str]:
    return [item.type for item in town[SHELTER].box.outbox() if item.type.startswith("receipt.")]


def test_what_another_program_admitted_meanwhile_is_admitted_once(town: Agencies, other: Runner) -> None:
    record = held_for_its_grant(town)
    grants_come(town, record)
    log = Slow(town.log, during_grants=[lambda: other.inbox.look_again(town.log)])
    town.run(town[SHELTER].runner.inbox.look_again(log))
    assert states(town) == {record.manifest.evt: "ready"}
    assert receipts(town) == ["receipt.delivered"]
    town.settle([SHELTER, MINISTRY])
    assert town[SHELTER].system.types == ["referral.requested"]


def test_what_another_program_delivered_meanwhile_stays_delivered(town: Agencies, other: Runner) -> None:
    record = held_for_its_grant(town)
    grants_come(town, record)
    log = Slow(town.log, during_grants=[other.deliver])
    town.run(town[SHELTER].runner.inbox.look_again(log))
    assert states(town) == {record.manifest.evt: "delivered"}
    assert receipts(town) == ["receipt.delivered"]


def test_what_was_turned_away_while_ends_were_asked_for_stays_turned_away(town: Agencies) -> None:
    """The receiving turn notes ends for held items; the delivering turn has given one of them up meanwhile."""
    record = town.seal(MINISTRY, SHELTER, "referral.requested", referral())
    town.put(record, grants={})
    shelter = town[SHELTER]
    spoiled = {key: grant.replace(b'"ct":"', b'"ct":"AAAA') for key, grant in record.grant_puts().items()}

    async def comes_spoiled() -> None:
        await town.log.put_grants("bi.grants.k7t4", spoiled)
        await shelter.runner.inbox.look_again(town.log)

    log = Slow(town.log, during_ends=[comes_spoiled])
    town.run(shelter.runner.inbox.receive(log, 0.0, lambda _step: None))
    assert states(town) == {record.manifest.evt: "quarantined"}
    assert receipts(town) == ["receipt.rejected"]
    town.wait(60)
    shelter.deliver()
    assert states(town) == {record.manifest.evt: "quarantined"}


def test_what_another_program_handed_over_is_not_put_back_by_a_slower_one(town: Agencies, other: Runner) -> None:
    """One program hands an item over, slowly; the other has done so already and marked it."""
    record = town.seal(MINISTRY, SHELTER, "referral.requested", referral())
    town.put(record)
    shelter = town[SHELTER]
    shelter.receive()
    [item] = shelter.inbox("ready")
    town.run(other.deliver())
    shelter.box.arrivals.quarantine(item.n, "row_invalid", None)
    shelter.box.arrivals.postpone_delivery(item.n, "unavailable", town.now + 60)
    assert states(town) == {record.manifest.evt: "delivered"}
    assert shelter.inbox()[0].attempts == 0
