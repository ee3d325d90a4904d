# SPDX-License-Identifier: Apache-2.0
"""Networks as they are: narrow, far, broken in the middle, silent for ever; a real gateway behind a bad link.

What is slow must arrive, what stands still must be given up, what has arrived must not go again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from adapters.connectors.contract import Batch, Draft
from adapters.desk import Desk
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.runner import Runner
from schemas.envelope import record_value
from schemas.errors import LogError, PolicyError, UmuhuzaError
from tests.agencies import InMemory, referral, said
from tests.bad_link import BadLink, Fault
from tests.domain import NOW, Domain, Signed
from tests.gateway.gateway_world import World
from tests.topics.http_harness import GatewayProcess, write_gateway
from topics.http_log import HttpLog
from topics.log import Appended, Stored, grants_topic

SHELTER = "bi/k7t4"
MAILBOX = "bi.referral.k7t4"
SILENCE_S = 2.5
"""What both sides have patience for here."""


@dataclass
class Place:
    """A domain behind bad links."""

    folder: Path
    domain: Domain
    process: GatewayProcess
    shift: float

    def link(self, fault: Fault, seed: int = 0) -> BadLink:
        return BadLink(int(self.process.address.rpartition(":")[2]), fault, seed)

    def log(self, agency: str, address: str = "", timeout_s: float = SILENCE_S, clock_s: float = 0.0) -> HttpLog:
        return HttpLog(
            address or self.process.address,
            agency,
            self.domain.members[agency].sig,
            domain="bi",
            now=lambda: time.time() + self.shift + clock_s,
            random=os.urandom,
            gateway_key=self.domain.operator.sig.public,
            timeout_s=timeout_s,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("links")
    domain, shift = Domain("links", extra_issuers=3), NOW - time.time()
    settings = write_gateway(folder, domain, body_seconds=SILENCE_S, send_seconds=SILENCE_S, checkers=0)
    process = GatewayProcess(settings, shift)
    yield Place(folder, domain, process, shift)
    process.stop()


async def sent(log: HttpLog, *records: Signed) -> None:
    for one in records:
        await log.put_grants(grants_topic(one.manifest.to), one.grant_puts())
    answers = await log.append([one.entry for one in records])
    assert all(isinstance(answer, Appended) for answer in answers)


async def end_of(place: Place, flow: str = "referral") -> int:
    log = place.log(SHELTER, timeout_s=30)
    end = (await log.ends(f"bi.{flow}.k7t4")).next
    await log.close()
    return end


def test_a_large_record_takes_longer_than_every_time_limit_and_arrives_at_the_first_attempt(place: Place) -> None:
    record = place.domain.record(content=bytes(200_000), parts={"file-1": bytes(200_000)})
    wire = len(record.value) * 3 // 4  # sealed text, compressed

    async def run() -> None:
        end = await end_of(place)
        async with place.link(Fault(bytes_s=wire / (2.4 * SILENCE_S))).open() as link:
            log = place.log("bi/iom", link.address)
            began = time.monotonic()
            await sent(log, record)
            assert time.monotonic() - began > 2 * SILENCE_S
            assert link.up < 1.1 * wire
            await log.close()
            shelter = place.log(SHELTER, link.address)
            began = time.monotonic()
            [stored] = await shelter.poll({MAILBOX: end - 1})
            assert time.monotonic() - began > 2 * SILENCE_S
            assert stored.value == record.value
            assert link.broken == 0
            await shelter.close()

    asyncio.run(run())


def test_of_a_page_that_breaks_off_what_came_whole_is_read_and_never_comes_again(place: Place) -> None:
    records = [place.domain.record("bi/n0", content=os.urandom(6000).hex().encode()) for _ in range(12)]

    async def run() -> None:
        after = await end_of(place) - 1
        first = place.log("bi/n0", timeout_s=30)
        await sent(first, *records)
        await first.close()
        page = sum(len(one.value) for one in records)
        found: list[Stored] = []
        async with place.link(Fault(reset_after=(page // 3, page // 2))).open() as link:
            log = place.log(SHELTER, link.address)
            for _ in range(10):
                with contextlib.suppress(LogError):  # not even one came whole
                    found += await log.poll({MAILBOX: found[-1].offset if found else after})
                if len(found) == len(records):
                    break
            assert [one.value for one in found] == [one.value for one in records]
            assert link.broken >= 1
            assert link.down < 1.5 * page
            await log.close()

    asyncio.run(run())


def test_the_keys_that_came_beside_a_record_do_not_cross_the_link_again(place: Place) -> None:
    async def run() -> None:
        after = await end_of(place) - 1
        first = place.log("bi/n1", timeout_s=30)
        record = place.domain.record("bi/n1")
        await sent(first, record)
        await first.close()
        async with place.link(Fault()).open() as link:
            log = place.log(SHELTER, link.address, timeout_s=30)
            [stored] = await log.poll({MAILBOX: after})
            before = link.up
            keys = list(record.grant_puts())
            assert (await log.get_grants(grants_topic(SHELTER), keys)).keys() == set(keys)
            assert link.up == before
            assert stored.ident == record.entry.ident
            # Once: who asks later is told what the gateway keeps then, which may be nothing any more.
            assert (await log.get_grants(grants_topic(SHELTER), keys)).keys() == set(keys)
            assert link.up > before
            await log.close()

    asyncio.run(run())


def test_a_half_open_connection_is_given_up_and_the_next_call_uses_another(place: Place) -> None:
    async def run() -> None:
        end = await end_of(place)
        async with place.link(Fault()).open() as link:
            log = place.log(SHELTER, link.address, timeout_s=1.0)
            await log.ends(MAILBOX)
            link.black = True
            began = time.monotonic()
            with pytest.raises(LogError) as silent:
                await log.poll({MAILBOX: end - 1}, wait_s=0.5)
            assert silent.value.code == "unavailable"
            assert time.monotonic() - began < 25
            link.black = False
            before = link.connections
            assert await log.poll({MAILBOX: end - 1}) == []
            assert link.connections == before + 1
            await log.close()

    asyncio.run(run())


# -- back-pressure -----------------------------------------------------------------------------------------------------


@dataclass
class Counting(httpx2.AsyncBaseTransport):
    way: httpx2.ASGITransport
    asked: list[str] = field(default_factory=list)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.path)
        return await self.way.handle_async_request(request)


def test_who_was_told_to_wait_does_not_ask_the_same_again_and_may_ask_for_something_else(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, settings={"waiting_reads": 1})
        async with world.opened() as gateway:
            wire = Counting(httpx2.ASGITransport(app=gateway))
            key = world.domain.members[SHELTER].sig
            log = HttpLog(
                "http://gateway", SHELTER, key, domain="bi", now=world.clock, random=os.urandom, transport=wire
            )
            await log.ends(MAILBOX)
            waiting = asyncio.create_task(log.poll({MAILBOX: -1}, wait_s=30))
            while not gateway.door.waiting:
                await asyncio.sleep(0.01)
            for _ in range(3):
                with pytest.raises(PolicyError) as refused:
                    await log.poll({MAILBOX: -1}, wait_s=30)
                assert (refused.value.code, refused.value.path) == ("quota_exceeded", "quota.waiting_reads")
                assert 0 < refused.value.retry_after_s <= 5
            assert wire.asked.count("/v1/mailbox") == 2  # the one that waits, the first that was refused
            await log.ends(MAILBOX)
            waiting.cancel()
            await asyncio.wait([waiting])
            await log.close()

    asyncio.run(run())


def test_a_quota_says_when_it_has_room_again(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, settings={"records_per_minute": 3})
        async with world.opened() as gateway:
            log = world.log(gateway)
            records = [world.domain.record() for _ in range(4)]
            for one in records:
                await log.put_grants(grants_topic(SHELTER), one.grant_puts())
            *taken, refused = await log.append([one.entry for one in records])
            assert all(isinstance(one, Appended) for one in taken)
            assert isinstance(refused, UmuhuzaError)
            assert (refused.code, refused.retry_after_s) == ("quota_exceeded", 20)
            world.clock.at += 20
            [answer] = await log.append([records[3].entry])
            assert isinstance(answer, Appended)
            await log.close()

    asyncio.run(run())


# -- everything at once ------------------------------------------------------------------------------------------------


@dataclass
class AtWork:
    """An agency's adapter, which dies and comes back on its mailbox file."""

    place: Place
    id: str
    address: str
    clock_s: float = 0.0
    system: InMemory = field(default_factory=InMemory)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        member = self.place.domain.members[self.id]
        self.log = self.place.log(self.id, self.address, clock_s=self.clock_s)
        self.box = Mailbox.open(self.place.folder / f"{self.id.replace('/', '-')}.db")
        log, shift = self.log, self.place.shift + self.clock_s
        desk = Desk(
            self.box,
            Keys(self.id, member.sig, {member.seal.kid: member.seal}),
            lambda: self.place.domain.registry,
            lambda: time.time() + shift + log.clock_offset_s,
            os.urandom,
        )
        self.runner = Runner(desk, log, [self.system])

    async def round(self, dies_after_s: float | None) -> None:
        """Each turn once; or until it dies in the middle of one, and is started again."""
        self.box.hasten("unavailable", 0)  # in a test nobody waits for its patience
        turns: tuple[Callable[[], Awaitable[int]], ...] = (
            self.runner.send,
            self.runner.receive,
            self.runner.deliver,
            self.runner.send,
        )
        try:
            async with asyncio.timeout(dies_after_s):
                for turn in turns:
                    with contextlib.suppress(LogError):  # unavailable; another round
                        await turn()
        except TimeoutError:
            await self.end()
            self.start()

    async def end(self) -> None:
        self.box.close()
        await self.log.close()


def test_referrals_and_answers_arrive_once_and_in_order_whatever_breaks_and_dies(place: Place) -> None:
    rng = random.Random(7)

    async def run() -> None:
        fault = Fault(bytes_s=400_000, delay_s=0.005, reset_after=(6_000, 90_000), stall=(0.05, 0.05))
        async with place.link(fault, 1).open() as left, place.link(fault, 2).open() as right:
            ministry = AtWork(place, "bi/min-solidarity", left.address)
            refuge = AtWork(place, "bi/r5w2", right.address, clock_s=-3600.0)
            evts = []
            for number in range(6):
                draft = drafted(f"d{number}", "bi/r5w2", "referral.requested")
                evts.append(ministry.runner.outbox.accept(draft, "memory")[0].evt)
            answered: set[str] = set()
            for _ in range(60):
                for one in (ministry, refuge):
                    await one.round(rng.uniform(0.02, 0.4) if rng.random() < 0.3 else None)
                for arrived in refuge.system.arrived:
                    if arrived.thread not in answered:
                        answered.add(arrived.thread)
                        for type in ("referral.received", "referral.accepted"):
                            batch = drafted(f"{type}/{arrived.thread}", ministry.id, type, arrived.thread)
                            refuge.runner.outbox.accept(batch, "memory")
                if settled(ministry, 6) and settled(refuge, 12):
                    break
            assert settled(ministry, 6)
            assert settled(refuge, 12)
            assert left.broken + right.broken > 5
            came = [item for item in refuge.box.arrivals.all() if item.type == "referral.requested"]
            assert sorted(item.evt for item in came) == sorted(str(evt) for evt in evts)
            assert {one.evt for one in refuge.system.arrived} == set(evts)
            answers = [item for item in ministry.box.arrivals.all() if item.type.startswith("referral.")]
            by_thread = {thread: [item.type for item in answers if item.thread == thread] for thread in answered}
            assert set(map(tuple, by_thread.values())) == {("referral.received", "referral.accepted")}
            # What broke off went again, not everything over and over.
            bodies = sum(len(record_value(item.l1 or b"", item.body)) for item in ministry.box.outbox())
            assert left.up < 5 * bodies
            await ministry.end()
            await refuge.end()

    asyncio.run(run())


def drafted(source: str, to: str, type: str, thread: str | None = None) -> Batch:
    facts = referral() if type == "referral.requested" else said()
    return Batch(source, "essai.xlsx", (Draft("1", to, type, None, thread, facts),))


def settled(agency: AtWork, count: int) -> bool:
    """So many were sent, and all of them were receipted as delivered."""
    items = [item for item in agency.box.outbox() if item.kind != "control"]
    return len(items) == count and all(item.state == "delivered" for item in items)
