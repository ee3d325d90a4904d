# SPDX-License-Identifier: Apache-2.0
"""Agencies that come to Kafka themselves: a real broker, their own certificates, a gateway on the same cluster.

Whatever way a record goes in and out, the other side gets it once, opens it, and its receipt comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from adapters.connectors.contract import Batch, Draft
from adapters.desk import Desk
from adapters.keystore import Keys, write_keys
from adapters.mailbox import Mailbox
from adapters.outbox import Outbox
from adapters.runner import Runner
from gateway.app import Gateway
from schemas.errors import LogError, UmuhuzaError
from schemas.forms import Birth, Consent, Facts, Lawful, Name, Referral
from tests.agencies import InMemory
from tests.domain import Domain
from tests.gateway.gateway_world import Clock, World, count_of
from tests.topics.http_harness import GatewayProcess, write_gateway
from tests.topics.kafka_harness import open_kafka, random_id, wipe
from topics import kafka_admin
from topics.direct_log import DirectLog
from topics.kafka_log import KafkaLog
from topics.log import Appended, Entry, Log, grants_topic
from topics.settings import SettingsError
from umuhuza.agency import AgencyParts, open_agency, run_agency
from umuhuza.kafka.cluster import Cluster

MAILBOX = "bi.referral.k7t4"
PATIENCE_S = 120.0


def referral() -> Facts:
    now = datetime.now(UTC).replace(microsecond=0)
    consent = Consent(given_at=now - timedelta(hours=2), expires_at=now + timedelta(days=90))
    return Facts(
        occurred_at=now - timedelta(hours=1),
        lawful=Lawful(basis="consent", consent=consent),
        referral=Referral(
            priority="urgent",
            name=Name(as_given="Aline Inventée"),
            birth=Birth(precision="year", date="1999"),
            services=("SocialCare",),
        ),
    )


def accepted() -> Facts:
    return Facts(occurred_at=datetime.now(UTC).replace(microsecond=0))


@dataclass
class Office:
    """An adapter on a log, with a list for its agency's system."""

    runner: Runner
    system: InMemory
    log: Log

    @property
    def box(self) -> Mailbox:
        return self.runner.desk.mailbox

    def draft(self, to: str, type: str, facts: Facts, thread: str | None = None) -> str:
        line = str(len(self.box.outbox()) + 1)
        batch = Batch(f"batch-{line}", "essai.xlsx", (Draft(line, to, type, None, thread, facts),))
        [outcome] = self.runner.outbox.accept(batch, self.system.name)
        assert outcome.problem is None, outcome.problem.code
        assert outcome.evt is not None
        return outcome.evt

    def states(self) -> list[tuple[str, str]]:
        return [(item.type, item.state) for item in self.box.outbox()]

    def arrived(self) -> list[str]:
        return [one.type for one in self.system.arrived]


@dataclass
class Town:
    cluster: Cluster
    folder: Path
    domain: Domain
    gateway: Gateway
    world: World

    async def kafka(self, agency: str, view: Path | None = None) -> KafkaLog:
        return await KafkaLog.open(self.cluster.access(agency), domain="bi", view=view, random_id=random_id)

    def direct(self, agency: str, *, writes: bool = False, told: list[UmuhuzaError] | None = None) -> DirectLog:
        view = self.folder / f"{agency[3:]}-grants.db"
        return DirectLog(
            lambda: self.kafka(agency, view),
            self.world.log(self.gateway, agency, now=time.time),
            writes=lambda: writes and self.domain.registry.agency(agency).direct,
            on_refused=(told if told is not None else []).append,
        )

    @contextlib.asynccontextmanager
    async def office(self, agency: str, log: Log) -> AsyncIterator[Office]:
        member = self.domain.members[agency]
        keys = Keys(agency, member.sig, {member.seal.kid: member.seal})
        box = Mailbox.open(self.folder / f"{agency[3:]}.db")
        system = InMemory()
        runner = Runner(Desk(box, keys, lambda: self.domain.registry, time.time, os.urandom), log, [system])
        try:
            yield Office(runner, system, log)
        finally:
            box.close()
            await log.close()


async def settle(*offices: Office, until: Callable[[], bool]) -> None:
    """Everybody's turns until it is as it should be."""
    end = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < end, [office.states() for office in offices]
        for office in offices:
            await office.runner.send()
            await office.runner.receive()
            await office.runner.deliver()


Story = Callable[[Town], Awaitable[None]]


@pytest.fixture
def told(kafka_cluster: Cluster, tmp_path: Path) -> Callable[[Story], None]:
    """Tells a story in a domain in which IOM has opted in to write by itself."""

    def tell(story: Story) -> None:
        domain = prepared(kafka_cluster)
        kafka_cluster.hand_over("bi/operator", tmp_path / "kafka")
        settings = {"log": None, "kafka": str(tmp_path / "kafka")}
        world = World(tmp_path / "gateway", domain, Clock(time.time()), settings=settings)

        async def run() -> None:
            async with world.opened() as gateway:
                await asyncio.wait_for(story(Town(kafka_cluster, tmp_path, domain, gateway, world)), PATIENCE_S * 2)

        asyncio.run(run())

    return tell


def prepared(cluster: Cluster) -> Domain:
    """A domain of today on the cluster, without a record."""
    cluster.start()
    domain = Domain("direct", now=int(time.time()))
    iom = replace(domain.registry.agency("bi/iom"), direct=True)
    domain.registry = domain.registry.with_agency(iom, domain.now - 3600)
    wipe(cluster.access("admin"))
    asyncio.run(kafka_admin.apply(cluster.access("admin"), domain.registry, nodes=1))
    return domain


# ---------------------------------------------------------------------------------------------------------------------
# There and back


def test_a_shelter_that_reads_kafka_itself_opens_what_came_by_a_gateway_and_answers_through_it(
    told: Callable[[Story], None],
) -> None:
    async def story(town: Town) -> None:
        http = town.world.log(town.gateway, "bi/iom", now=time.time)
        async with town.office("bi/iom", http) as iom, town.office("bi/k7t4", town.direct("bi/k7t4")) as k7t4:
            iom.draft("bi/k7t4", "referral.requested", referral())
            await settle(iom, k7t4, until=lambda: iom.states() == [("referral.requested", "delivered")])
            [arrived] = k7t4.system.arrived
            assert arrived.facts.referral is not None
            assert arrived.facts.referral.name is not None
            assert arrived.facts.referral.name.as_given == "Aline Inventée"
            evt = k7t4.draft("bi/iom", "referral.accepted", accepted(), arrived.thread)
            await settle(iom, k7t4, until=lambda: ("referral.accepted", "delivered") in k7t4.states())
            assert iom.arrived() == ["referral.accepted"]
            item = k7t4.box.outgoing(evt)
            assert item is not None
            assert item.promise is not None
            # One log, whichever way it is looked at.
            assert k7t4.log.log_id == iom.log.log_id == town.gateway.door.log.log_id

    told(story)


def test_what_an_agency_writes_by_itself_reaches_one_that_has_nothing_but_the_gateway(
    told: Callable[[Story], None],
) -> None:
    async def story(town: Town) -> None:
        problems: list[UmuhuzaError] = []
        http = town.world.log(town.gateway, "bi/k7t4", now=time.time)
        direct = town.direct("bi/iom", writes=True, told=problems)
        async with town.office("bi/iom", direct) as iom, town.office("bi/k7t4", http) as k7t4:
            for _ in range(5):
                iom.draft("bi/k7t4", "referral.requested", referral())
            await settle(iom, k7t4, until=lambda: iom.states() == [("referral.requested", "delivered")] * 5)
            assert k7t4.arrived() == ["referral.requested"] * 5
            # Nobody promised anything: these did not go through the gateway, which follows them all the same.
            assert [item.promise for item in iom.box.outbox()] == [None] * 5
            assert 'code="accepted",flow="referral",kind="request"' not in town.gateway.door.metrics.text().decode()
            assert not problems
            gateway = town.world.log(town.gateway, "bi/iom", now=time.time)
            assert (await gateway.sent_heads())[MAILBOX].seq == 5
            assert await iom.runner.reconcile(gateway) == 0
            assert await iom.runner.send() == 0
            assert await count_of(town.gateway, MAILBOX) == 5
            await gateway.close()
            # The same chain goes on through the gateway.
            through = town.direct("bi/iom", writes=False)
            iom.runner.log = through
            iom.draft("bi/k7t4", "referral.requested", referral())
            await settle(iom, k7t4, until=lambda: iom.states()[-1] == ("referral.requested", "delivered"))
            sixth = iom.box.outbox()[-1]
            assert (sixth.seq, sixth.promise is not None) == (6, True)
            await through.close()

    told(story)


def test_an_agency_writes_both_ways_and_reads_by_itself_at_once(told: Callable[[Story], None]) -> None:
    """Two that never use the gateway to read; the second also may not write."""

    async def story(town: Town) -> None:
        iom_log, k7t4_log = town.direct("bi/iom", writes=True), town.direct("bi/k7t4", writes=True)
        async with town.office("bi/iom", iom_log) as iom, town.office("bi/k7t4", k7t4_log) as k7t4:
            for _ in range(10):
                iom.draft("bi/k7t4", "referral.requested", referral())
            await settle(iom, k7t4, until=lambda: iom.states() == [("referral.requested", "delivered")] * 10)
            threads = [one.thread for one in k7t4.system.arrived]
            for thread in threads:
                k7t4.draft("bi/iom", "referral.accepted", accepted(), thread)
            await settle(iom, k7t4, until=lambda: iom.arrived() == ["referral.accepted"] * 10)
            assert [one.thread for one in iom.system.arrived] == threads

    told(story)


# ---------------------------------------------------------------------------------------------------------------------
# Grants


@dataclass
class Pen:
    """Takes down what an outbox sends, and passes it on to nobody."""

    log_id: str = "pen"
    entries: list[Entry] = field(default_factory=list)
    grants: dict[str, bytes] = field(default_factory=dict)

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        self.grants |= grants

    async def append(self, entries: Sequence[Entry]) -> list[Appended]:
        start = len(self.entries)
        self.entries += entries
        return [Appended(offset, int(time.time() * 1000)) for offset in range(start, len(self.entries))]


@dataclass
class Sealed:
    entry: Entry
    grants: dict[str, bytes]


async def sealed(town: Town, count: int) -> list[Sealed]:
    """True referrals from IOM to the shelter, as its adapter seals and signs them."""
    pen = Pen()
    async with town.office("bi/iom", town.world.log(town.gateway, "bi/iom", now=time.time)) as iom:
        for _ in range(count):
            iom.draft("bi/k7t4", "referral.requested", referral())
        while len(pen.entries) < count:  # as many at once as fit a first request
            await iom.runner.sender.send(cast(Log, pen), lambda _step: None)
    return [
        Sealed(entry, {key: grant for key, grant in pen.grants.items() if key.startswith(entry.ident)})
        for entry in pen.entries
    ]


def test_a_grant_that_comes_after_its_record_is_waited_for(told: Callable[[Story], None]) -> None:
    async def story(town: Town) -> None:
        gateway = await open_kafka(town.cluster.access("bi/operator"))
        late, prompt = await sealed(town, 2)
        async with town.office("bi/k7t4", town.direct("bi/k7t4")) as k7t4:
            await gateway.put_grants(grants_topic("bi/k7t4"), prompt.grants)
            assert all(isinstance(one, Appended) for one in await gateway.append([late.entry, prompt.entry]))
            while len(k7t4.box.arrivals.all()) < 2:
                await k7t4.runner.receive(1.0)
            # Only after the grants were read to their end does it say that one is missing; and it keeps the record.
            first, second = k7t4.box.arrivals.all()
            assert (first.state, first.code) == ("held", "grant_missing")
            assert second.state == "ready"
            await k7t4.runner.deliver()
            assert k7t4.arrived() == ["referral.requested"]
            await gateway.put_grants(grants_topic("bi/k7t4"), late.grants)
            await settle(k7t4, until=lambda: len(k7t4.system.arrived) == 2)
            assert k7t4.box.arrivals.all()[0].code is None
        await gateway.close()

    told(story)


def test_a_grant_that_came_before_its_record_is_never_called_missing(told: Callable[[Story], None]) -> None:
    """Reader and writer race: the reader's view of the grants is behind, and is brought to the end in time."""

    async def story(town: Town) -> None:
        gateway = await open_kafka(town.cluster.access("bi/operator"))
        async with town.office("bi/k7t4", town.direct("bi/k7t4")) as k7t4:
            await k7t4.runner.receive()  # opens
            ready = await sealed(town, 25)

            async def write() -> None:
                for one in ready:
                    await gateway.put_grants(grants_topic("bi/k7t4"), one.grants)
                    [answer] = await gateway.append([one.entry])
                    assert isinstance(answer, Appended)

            writing = asyncio.create_task(write())
            seen: list[str] = []
            while len(seen) < len(ready):
                await k7t4.runner.receive(2.0)
                seen = [item.state for item in k7t4.box.arrivals.all()]
                assert set(seen) == {"ready"}
            await writing
        await gateway.close()

    told(story)


def test_erased_grants_are_gone_for_whoever_reads_by_itself(told: Callable[[Story], None]) -> None:
    async def story(town: Town) -> None:
        gateway = await open_kafka(town.cluster.access("bi/operator"))
        [one] = await sealed(town, 1)
        [key], topic = one.grants, grants_topic("bi/k7t4")
        k7t4 = town.direct("bi/k7t4")
        await gateway.put_grants(topic, one.grants)
        assert set(await k7t4.get_grants(topic, [key])) == {key}
        await gateway.delete_grants(topic, [key])
        assert await k7t4.get_grants(topic, [key]) == {}
        view = (town.folder / "k7t4-grants.db").read_bytes()
        assert one.grants[key] not in view
        await k7t4.close()
        await gateway.close()

    told(story)


# ---------------------------------------------------------------------------------------------------------------------
# Rights that are behind, brokers that are away, another identity


def test_an_agency_that_the_brokers_do_not_let_write_yet_is_served_by_the_gateway(
    told: Callable[[Story], None],
) -> None:
    """The registry says that it may; the administrator has not applied it yet."""

    async def story(town: Town) -> None:
        problems: list[UmuhuzaError] = []
        k7t4 = replace(town.domain.registry.agency("bi/k7t4"), direct=True)
        town.domain.registry = town.domain.registry.with_agency(k7t4, int(time.time()))
        town.world.registry_changed()
        direct = town.direct("bi/k7t4", writes=True, told=problems)
        async with town.office("bi/k7t4", direct) as shelter:
            shelter.draft("bi/iom", "referral.requested", referral())
            await settle(shelter, until=lambda: shelter.states() == [("referral.requested", "promised")])
            [item] = shelter.box.outbox()
            assert item.promise is not None
            assert [(one.code, one.path) for one in problems] == [("not_permitted", "bi.referral.iom")]
            # From then on it writes by itself.
            await kafka_admin.apply(town.cluster.access("admin"), town.domain.registry, nodes=1)
            end = time.monotonic() + PATIENCE_S
            while all(item.promise is not None for item in shelter.box.outbox()):
                assert time.monotonic() < end
                shelter.draft("bi/iom", "referral.requested", referral())
                await settle(shelter, until=lambda: {state for _, state in shelter.states()} == {"promised"})
            assert await count_of(town.gateway, "bi.referral.iom") == len(shelter.box.outbox())

    told(story)


def test_a_log_that_was_given_another_identity_is_read_again_and_nothing_arrives_twice(
    told: Callable[[Story], None],
) -> None:
    async def story(town: Town) -> None:
        gateway = await open_kafka(town.cluster.access("bi/operator"))
        first, second = await sealed(town, 2)
        async with town.office("bi/k7t4", town.direct("bi/k7t4")) as k7t4:
            await gateway.put_grants(grants_topic("bi/k7t4"), first.grants | second.grants)
            await gateway.append([first.entry])
            await settle(k7t4, until=lambda: len(k7t4.system.arrived) == 1)
            before = k7t4.log.log_id
            await KafkaLog.renew_identity(town.cluster.access("admin"), domain="bi", random_id=random_id)
            await gateway.close()
            gateway = await open_kafka(town.cluster.access("bi/operator"))
            await gateway.append([second.entry])
            end = time.monotonic() + PATIENCE_S
            # The old handle may still see the second one; then it is of no use, and the new log is read from its start.
            while k7t4.box.arrivals.cursor(gateway.log_id, MAILBOX) < 1:
                assert time.monotonic() < end
                with contextlib.suppress(LogError):
                    await k7t4.runner.receive(1.0)
                    await k7t4.runner.deliver()
            assert {before, k7t4.log.log_id} == {before, gateway.log_id}
            assert before != gateway.log_id
            assert [f"bi/iom/{one.evt}" for one in k7t4.system.arrived] == [first.entry.ident, second.entry.ident]
        await gateway.close()

    told(story)


# ---------------------------------------------------------------------------------------------------------------------
# The adapter as it is started


def folder_of(town_folder: Path, cluster: Cluster, domain: Domain, agency: str, gateway: str, *more: str) -> Path:
    """What an agency's IT officer has: keys, settings, and the folder that the operator handed over."""
    folder = town_folder / agency[3:]
    folder.mkdir(mode=0o700)
    member = domain.members[agency]
    write_keys(folder / "keys.json", Keys(agency, member.sig, {member.seal.kid: member.seal}))
    cluster.hand_over(agency, folder / "kafka")
    lines = {
        "agency": agency,
        "gateway": gateway,
        "gateway_agency": "bi/operator",
        "registry_root": domain.pin.text,
        "kafka": "kafka",
    }
    text = [f"{name} = {json.dumps(value)}" for name, value in lines.items()]
    (folder / "agency.toml").write_text("\n".join([*text, "idle_seconds = 0.2", "wait_seconds = 5", *more]) + "\n")
    return folder


@pytest.fixture
def without_complaints() -> Iterator[None]:
    """What kafka-python says and leaves behind of brokers that are gone, see `tests.kafka.conftest.LEAKS`."""
    logger = logging.getLogger("kafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # pytest keeps log records, and with their exceptions the sockets
    yield
    logger.setLevel(level)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"unclosed <(socket|ssl\.SSLSocket)", ResourceWarning)
        gc.collect()


@pytest.mark.filterwarnings(r"ignore:unclosed <(socket|ssl\.SSLSocket):ResourceWarning")
@pytest.mark.usefixtures("without_complaints")
def test_two_adapters_of_their_settings_alone_live_through_a_killed_broker(
    kafka_cluster: Cluster, tmp_path: Path
) -> None:
    domain = prepared(kafka_cluster)
    kafka_cluster.hand_over("bi/operator", tmp_path / "kafka")
    settings = write_gateway(tmp_path / "gateway", domain, log=None, kafka=str(tmp_path / "kafka"))
    server = GatewayProcess(settings, 0.0)
    offices: dict[str, AgencyParts] = {}
    troubles: list[tuple[str, str, str]] = []

    def put(sender: str, to: str, type: str, facts: Facts, line: int, thread: str | None = None) -> None:
        batch = Batch(f"b{line}", "e.xlsx", (Draft(str(line), to, type, None, thread, facts),))
        [outcome] = Outbox(offices[sender].desk).accept(batch, "")
        assert outcome.problem is None, outcome.problem.code

    def delivered(agency: str) -> int:
        return sum(item.state == "delivered" for item in offices[agency].mailbox.outbox() if item.kind != "control")

    def note(agency: str, turn: str, exc: UmuhuzaError) -> None:
        troubles.append((agency, turn, exc.code))

    async def until(done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S * 2
        while not done():
            assert time.monotonic() < end, (troubles[-5:], [p.mailbox.outbox()[-1:] for p in offices.values()])
            await asyncio.sleep(0.1)

    async def story() -> None:
        stop = asyncio.Event()
        running = [asyncio.create_task(run_agency(one, stop, partial(note, name))) for name, one in offices.items()]
        try:
            await until(lambda: all("bi/k7t4" in parts.registry().agencies for parts in offices.values()))
            for line in range(3):
                put("bi/iom", "bi/k7t4", "referral.requested", referral(), line)
            await until(lambda: delivered("bi/iom") == 3)
            await asyncio.to_thread(kafka_cluster.kill, 1)
            for line in range(3, 6):
                put("bi/iom", "bi/k7t4", "referral.requested", referral(), line)
            await until(
                lambda: any(one.state == "signed" and one.attempts for one in offices["bi/iom"].mailbox.outbox())
            )
            await asyncio.to_thread(kafka_cluster.start)
            await until(lambda: delivered("bi/iom") == 6)
            came = offices["bi/k7t4"].mailbox.arrivals.all()
            for item in [one for one in came if one.type == "referral.requested"][:2]:
                put("bi/k7t4", "bi/iom", "referral.accepted", accepted(), item.n, item.thread)
            await until(lambda: delivered("bi/k7t4") == 2)
        finally:
            stop.set()
            await asyncio.gather(*running)

    try:
        writes = {"bi/iom": ["kafka_write = true"]}
        for name in ("bi/iom", "bi/k7t4"):
            more = writes.get(name, [])
            offices[name] = open_agency(folder_of(tmp_path, kafka_cluster, domain, name, server.address, *more))
        asyncio.run(story())
        inbox = [item for item in offices["bi/k7t4"].mailbox.arrivals.all() if item.type == "referral.requested"]
        assert len(inbox) == 6
        assert {item.state for item in inbox} == {"delivered"}
        # IOM wrote by itself, the shelter through the gateway.
        assert {item.promise for item in offices["bi/iom"].mailbox.outbox() if item.kind == "request"} == {None}
        assert all(i.promise for i in offices["bi/k7t4"].mailbox.outbox() if i.type == "referral.accepted")
    finally:
        for parts in offices.values():
            parts.close()
        server.stop()
        kafka_cluster.start()


def test_settings_that_cannot_bring_one_to_kafka_are_said_at_once(kafka_cluster: Cluster, tmp_path: Path) -> None:
    domain = Domain("direct", now=int(time.time()))
    folder = folder_of(tmp_path, kafka_cluster, domain, "bi/iom", "http://127.0.0.1:1")
    (folder / "kafka" / "key.pem").unlink()
    parts = open_agency(folder)
    with pytest.raises(SettingsError, match=r"key\.pem") as caught:
        asyncio.run(run_agency(parts, asyncio.Event(), lambda _turn, _exc: None))
    assert "manque" in caught.value.describe("fr")
    parts.close()
    text = (folder / "agency.toml").read_text(encoding="utf-8")
    (folder / "agency.toml").write_text(text.replace('kafka = "kafka"', "kafka_write = true"), encoding="utf-8")
    with pytest.raises(SettingsError, match="kafka_write"):
        open_agency(folder)
