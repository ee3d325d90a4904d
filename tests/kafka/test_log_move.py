# SPDX-License-Identifier: Apache-2.0
"""`umuhuza log move` between an SQLite file and a real broker, as an operator gives it: a process each."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import apsw
import pytest

from adapters.runner import Runner
from schemas.envelope import Kind
from schemas.errors import LogError
from tests.agencies import Agencies, referral
from tests.domain import NOW, Domain
from tests.gateway.gateway_world import World, erasing, grants_kept
from tests.gateway.test_gateway_kafka import handed
from tests.topics.kafka_harness import appended, open_kafka, wipe
from tests.topics.test_kafka_log import until_refused
from topics import kafka_admin
from topics.catalogue import topics_of
from topics.kafka_access import KafkaAccess
from topics.kafka_clients import IDENT_HEADER, Clients
from topics.kafka_identity import moving
from topics.kafka_log import KafkaLog, recorder
from topics.kafka_move import AHEAD, MOVING, opened
from topics.kafka_producer import Item
from topics.log import Stored, grants_topic
from topics.settings import SettingsError
from topics.sqlite_log import SqliteLog
from umuhuza.kafka.cluster import Cluster

_T = TypeVar("_T")
SENT: tuple[tuple[str, str, str, Kind], ...] = (
    ("bi/iom", "bi/k7t4", "referral", "request"),
    ("bi/iom", "bi/r5w2", "referral", "request"),
    ("bi/k7t4", "bi/iom", "receipt", "control"),
)
TOPICS = ("bi.referral.k7t4", "bi.referral.r5w2", "bi.receipt.iom")
GRANTS = ("bi/k7t4", "bi/r5w2", "bi/iom")


def run(work: Coroutine[Any, Any, _T]) -> _T:
    return asyncio.run(asyncio.wait_for(work, 60))


@dataclass
class Town:
    """A domain whose gateway writes to an SQLite file, and an empty Kafka beside it."""

    folder: Path
    cluster: Cluster
    domain: Domain = field(default_factory=lambda: Domain("moving"))
    now_ms: int = NOW * 1000
    grants: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wipe(self.admin)
        run(kafka_admin.apply(self.admin, self.domain.registry, nodes=1))

    @property
    def admin(self) -> KafkaAccess:
        return self.cluster.access("admin")

    @property
    def gateway(self) -> KafkaAccess:
        return self.cluster.access("bi/operator")

    @property
    def file(self) -> Path:
        return self.folder / "log.db"

    def open(self, file: Path | None = None) -> SqliteLog:
        return SqliteLog.open(
            str(file or self.file),
            topics=topics_of(self.domain.registry),
            clock_ms=lambda: self.now_ms,
            random_id=lambda: "log-1",
        )

    def write(self, each: int, *, size: int = 100, file: Path | None = None) -> None:
        """So many records into each of three mailboxes, a minute and some between two, with their grants."""

        async def work() -> None:
            log = self.open(file)
            for _ in range(each):
                for iss, to, flow, kind in SENT:
                    record = self.domain.record(iss, to, flow, kind, content=b"x" * size)
                    self.grants |= record.grant_puts()
                    await log.put_grants(grants_topic(to), record.grant_puts())
                    appended(await log.append([record.entry]))
                    self.now_ms += 61_003
            await log.close()

        run(work())

    def erase(self, to: str, keys: Iterable[str]) -> None:
        async def work() -> None:
            log = self.open()
            await log.delete_grants(grants_topic(to), list(keys))
            await log.close()

        run(work())

    def of(self, to: str) -> list[str]:
        """Keys of that agency's grants, in the order of their records."""
        kid = self.domain.members[to].seal.kid
        return [key for key in self.grants if key.endswith(f"|{kid}")]

    def move(self, *more: str, code: int = 0) -> dict[str, Any]:
        return told(subprocess.run(self.command(*more), capture_output=True, text=True, check=False, timeout=120), code)

    def command(self, *more: str) -> list[str]:
        words = ("log", "move", "--from", str(self.file), "--dir", str(self.cluster.folder), "--json", *more)
        return [sys.executable, "-m", "umuhuza", *words]

    def log_id(self) -> str:
        async def work() -> str:
            log = await self.kafka()
            await log.close()
            return log.log_id

        return run(work())

    async def kafka(self) -> KafkaLog:
        return await open_kafka(self.gateway)

    def on_kafka(self) -> dict[str, list[Stored]]:
        """Everything, as a gateway reads it."""

        async def work() -> dict[str, list[Stored]]:
            log = await self.kafka()
            found = {topic: await _all(log, topic) for topic in TOPICS}
            await log.close()
            return found

        return run(work())

    def in_file(self) -> dict[str, list[Stored]]:
        """Also when it says that its log is elsewhere."""
        found: dict[str, list[Stored]] = {topic: [] for topic in TOPICS}
        with opened(self.file, alone=False) as store:
            for topic, many in found.items():
                while more := store.read({topic: many[-1].offset if many else -1}, 500, 4 << 20, say_topic=True):
                    many += more
        return found

    def as_before_the_move(self) -> None:
        """The file as a copy of it would be."""
        db = apsw.Connection(str(self.file))
        db.execute("DELETE FROM meta WHERE name = 'moved_to'")
        db.close()

    def kafka_grants(self) -> dict[str, bytes]:
        async def work() -> dict[str, bytes]:
            log = await self.kafka()
            found: dict[str, bytes] = {}
            for to in GRANTS:
                found |= await log.get_grants(grants_topic(to), list(self.grants))
            await log.close()
            return found

        return run(work())

    def settings(self) -> dict[str, dict[str, str]]:
        clients = Clients(self.admin)
        try:
            return clients.settings(list(TOPICS))
        finally:
            clients.close()

    def put(self, item: Item, settings: dict[str, str | None] | None = None) -> None:
        """Past every rule, as an administrator could."""
        clients = Clients(self.admin)
        try:
            if settings:
                clients.change_settings({item.topic: settings})
            [answer] = clients.produce([item])
            assert not isinstance(answer, Exception)
        finally:
            clients.close_producer()
            clients.close()


async def _all(log: KafkaLog, topic: str) -> list[Stored]:
    found: list[Stored] = []
    while many := await log.read(topic, found[-1].offset if found else -1):
        found += many
    return found


def told(done: subprocess.CompletedProcess[str], code: int) -> dict[str, Any]:
    assert done.returncode == code, done.stdout + done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.fixture
def town(tmp_path: Path, kafka_cluster: Cluster) -> Town:
    kafka_cluster.start()
    return Town(tmp_path, kafka_cluster)


def test_every_record_and_every_grant_that_is_there_is_moved(town: Town) -> None:
    town.write(4)
    gone = town.of("bi/k7t4")[1:3]
    town.erase("bi/k7t4", gone)

    dry = town.move("--dry-run")
    assert (dry["entries"], dry["appended"], dry["grants_put"], dry["dry_run"]) == (12, 12, 10, True)
    assert {topic: len(found) for topic, found in town.on_kafka().items()} == dict.fromkeys(TOPICS, 0)
    assert town.kafka_grants() == {}

    moved = town.move()
    assert (moved["entries"], moved["appended"], moved["copies"]) == (12, 12, 0)
    assert (moved["grants"], moved["grants_put"], moved["grants_erased"]) == (10, 10, 0)
    found = town.on_kafka()
    assert found == town.in_file()  # place, key, ident, bytes, headers, and the time that decides about its key
    assert sorted(one.at_ms for many in found.values() for one in many) == [NOW * 1000 + 61_003 * n for n in range(12)]
    assert town.kafka_grants() == {key: value for key, value in town.grants.items() if key not in gone}
    assert moved["log_id"] == town.log_id() != "log-1"


def test_afterwards_mailboxes_give_times_themselves_again_and_keep_those_of_before(town: Town) -> None:
    town.write(2)
    town.move()
    for topic, settings in town.settings().items():
        assert settings["message.timestamp.type"] == "LogAppendTime", topic
        assert settings["max.message.bytes"] == "1048588"
        assert AHEAD not in settings
    assert not run(kafka_admin.apply(town.admin, town.domain.registry, nodes=1)).changed
    before = town.on_kafka()

    async def work() -> int:
        log = await town.kafka()
        [answer] = appended(await log.append([town.domain.record().entry]))
        await log.close()
        return answer.at_ms

    assert run(work()) > before["bi.referral.k7t4"][-1].at_ms + 1000
    town.cluster.stop()
    town.cluster.start()
    assert town.on_kafka()["bi.referral.k7t4"][:-1] == before["bi.referral.k7t4"]


KILLS = """
import os, signal, sys
from topics.kafka_clients import Clients
produce, left, victim = Clients.produce, int(sys.argv.pop(1)), int(sys.argv.pop(1))
def once(self, items, *more, **named):
    global left
    done = produce(self, items, *more, **named)
    left -= 1
    if left == 0:
        os.kill(victim or os.getpid(), signal.SIGKILL)
    return done
Clients.produce = once
from umuhuza.cli import main
main()
"""
"""The command; when the brokers have the n-th batch and before anybody is told, it or somebody else is killed."""


def killing(town: Town, behind: int, victim: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", KILLS, str(behind), str(victim), *town.command()[3:]]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(command: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = command.communicate(timeout=120)
    return subprocess.CompletedProcess([], command.returncode, out, err)


def test_killed_behind_every_batch_and_given_again_nothing_is_twice_and_nothing_missing(town: Town) -> None:
    town.write(6, size=200_000)  # some batches of each mailbox
    killed = 0
    while True:
        done = finished(killing(town, killed + 1))
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        killed += 1
        if killed == 4:
            town.erase("bi/iom", town.of("bi/iom")[:2])  # between two attempts
    assert killed >= 5
    assert json.loads(done.stdout)["copies"] == 0
    assert town.on_kafka() == town.in_file()
    assert town.kafka_grants().keys() == town.grants.keys() - set(town.of("bi/iom")[:2])
    assert {one["message.timestamp.type"] for one in town.settings().values()} == {"LogAppendTime"}
    again = town.move()
    assert (again["appended"], again["grants_put"], again["grants_erased"]) == (0, 0, 0)


def test_a_broker_that_is_killed_meanwhile_and_comes_back_has_everything_once(town: Town) -> None:
    town.write(6, size=200_000)
    node = town.cluster.pid(1)
    assert node is not None
    command = killing(town, 6, node)
    deadline = time.monotonic() + 60
    while town.cluster.pid(1) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    town.cluster.start()
    moved = told(finished(command), 0)
    assert moved["appended"] == 18
    assert town.on_kafka() == town.in_file()
    assert town.settings()["bi.receipt.iom"]["message.timestamp.type"] == "LogAppendTime"


def refused_on_kafka(town: Town) -> None:
    with pytest.raises(LogError) as caught:
        town.log_id()
    assert (caught.value.code, caught.value.path) == ("unavailable", "moving")
    assert "umuhuza log move" in caught.value.describe("fr")


def test_a_log_that_was_moved_is_opened_in_one_place_only(town: Town) -> None:
    town.write(1)
    moved = town.move()
    with pytest.raises(SettingsError) as caught:
        town.open()
    assert moved["log_id"] in caught.value.describe("en")
    assert "gateway.toml" in caught.value.describe("fr")
    with pytest.raises(SettingsError):
        SqliteLog.renew_identity(str(town.file), clock_ms=lambda: 0, random_id=lambda: "another")
    assert town.log_id() == moved["log_id"]
    assert (town.move("--dry-run")["appended"], town.move()["appended"]) == (0, 0)
    assert town.log_id() == moved["log_id"]


MARKS = """
import os, signal, sys
from topics.sqlite_store import Store
mark, after = Store.mark_moved, sys.argv.pop(1) == "after"
def once(self, log_id):
    if after:
        mark(self, log_id)
    os.kill(os.getpid(), signal.SIGKILL)
Store.mark_moved = once
from umuhuza.cli import main
main()
"""
"""The command, killed just before or just after it marks the file."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_its_very_end_no_gateway_opens_half_of_it(town: Town, when: str) -> None:
    town.write(1)
    words = [sys.executable, "-c", MARKS, when, *town.command()[3:]]
    assert subprocess.run(words, check=False, timeout=120, capture_output=True).returncode == -9
    refused_on_kafka(town)
    if when == "after":
        with pytest.raises(SettingsError):
            town.open()
    else:
        town.write(1)  # a gateway went on with the file
    run(kafka_admin.apply(town.admin, town.domain.registry, nodes=1))
    run(KafkaLog.renew_identity(town.admin, domain="bi", random_id=lambda: "renewed"))
    refused_on_kafka(town)  # neither is the end of a move
    assert town.move()["appended"] == (0 if when == "after" else 3)
    assert town.log_id() == "renewed"
    assert town.on_kafka() == town.in_file()


def test_a_gateway_that_runs_on_that_kafka_stops_serving_while_a_log_is_moved_there(town: Town) -> None:
    town.write(1)

    async def work() -> None:
        log = await town.kafka()
        clients = Clients(town.admin)
        moving("bi", recorder(clients), now=True)
        assert await until_refused(lambda: log.read(TOPICS[0], -1)) == ("unavailable", "moving")
        [answer] = await log.append([town.domain.record().entry])
        assert isinstance(answer, LogError)
        assert answer.path == "moving"
        moving("bi", recorder(clients), now=False)
        clients.close_producer()
        clients.close()
        assert await log.read(TOPICS[0], -1) == []
        await log.close()

    run(work())


def test_what_came_into_the_file_since_is_moved_behind_it(town: Town) -> None:
    town.write(2)
    town.move()
    town.as_before_the_move()
    town.write(1)
    assert town.move()["appended"] == 3
    assert town.on_kafka() == town.in_file()


def test_another_log_is_refused_and_left_alone(town: Town) -> None:
    town.write(1, file=town.folder / "other.db")
    other = town.move("--from", str(town.folder / "other.db"))
    assert other["appended"] == 3
    before = town.on_kafka(), town.kafka_grants()
    town.grants.clear()
    town.write(2)
    refused = town.move(code=1)
    assert refused["problem"]["code"] == "foreign"
    assert {(one["what"], one["topic"]) for one in refused["obstacles"]} == {("foreign", topic) for topic in TOPICS}
    town.grants |= before[1]
    assert (town.on_kafka(), town.kafka_grants()) == before


WRITES = """
import sys
from pathlib import Path
from topics.kafka_clients import Clients
from topics.kafka_producer import Item
from umuhuza.kafka.cluster import Cluster
other = Clients(Cluster.open(Path(sys.argv.pop(1))).access("admin"))
topic, left, produce = sys.argv.pop(1), int(sys.argv.pop(1)), Clients.produce
def beside(self, items, *more, **named):
    global left
    left -= 1
    if left == 0:
        produce(other, [Item(topic, b"", b"mine, and dated as I like", at_ms=1)])
    return produce(self, items, *more, **named)
Clients.produce = beside
from umuhuza.cli import main
main()
"""
"""The command, with somebody who writes beside it while mailboxes take their writers' times."""


@pytest.mark.parametrize(("topic", "behind"), [("bi.receipt.iom", 7), ("bi.receipt.iom", 9), ("bi.referral.r5w2", 7)])
def test_whoever_writes_beside_it_ends_the_move(town: Town, topic: str, behind: int) -> None:
    """In the mailbox that is being written, in one that is done by then, in one that follows."""
    town.write(4, size=200_000)
    words = [sys.executable, "-c", WRITES, str(town.cluster.folder), topic, str(behind), *town.command()[3:]]
    ended = told(subprocess.run(words, capture_output=True, text=True, check=False, timeout=120), 1)
    assert (ended["problem"]["code"], topic in ended["problem"]["title"]) == ("log_inconsistent", True)
    assert {one["message.timestamp.type"] for one in town.settings().values()} == {"LogAppendTime"}
    assert town.move(code=1)["obstacles"] == [{"what": "foreign", "topic": topic}]


def test_once_kafka_is_in_use_nothing_more_is_moved(town: Town) -> None:
    """A gateway has written there; the file's grants must not come back, nor what Kafka has go."""
    town.write(2)
    town.move()

    async def work() -> None:
        log = await town.kafka()
        record = town.domain.record()
        await log.put_grants(grants_topic("bi/k7t4"), record.grant_puts())
        await log.delete_grants(grants_topic("bi/k7t4"), town.of("bi/k7t4")[:1])
        appended(await log.append([record.entry]))
        town.grants |= record.grant_puts()
        await log.close()

    run(work())
    erased = town.of("bi/k7t4")[0]
    town.as_before_the_move()
    town.write(1)
    before = town.kafka_grants()
    assert town.move(code=1)["obstacles"] == [{"what": "foreign", "topic": "bi.referral.k7t4"}]
    assert town.kafka_grants() == before
    assert erased not in before


def test_records_with_other_times_are_no_copy(town: Town) -> None:
    town.write(1)
    first = town.in_file()["bi.referral.k7t4"][0]
    headers = (*first.headers, (IDENT_HEADER, first.ident.encode()))
    town.put(Item(first.topic, first.key, first.value, headers))  # the broker gives its own time
    assert town.move(code=1)["obstacles"] == [{"what": "times", "topic": "bi.referral.k7t4"}]


def test_a_second_copy_that_a_broker_made_is_recognised(town: Town) -> None:
    town.write(2)
    first = town.in_file()["bi.referral.k7t4"][0]
    headers = (*first.headers, (IDENT_HEADER, first.ident.encode()))
    item = Item(first.topic, first.key, first.value, headers, first.at_ms)
    town.put(item, dict(MOVING))
    town.put(item)
    moved = town.move()
    assert (moved["copies"], moved["appended"]) == (1, 5)
    assert [one.ident for one in town.on_kafka()["bi.referral.k7t4"]] == [
        first.ident,
        *(one.ident for one in town.in_file()["bi.referral.k7t4"]),
    ]


def test_topics_have_to_be_there_before(town: Town) -> None:
    town.write(1)
    wipe(town.admin)
    refused = town.move(code=1)
    assert refused["problem"]["code"] == "missing"
    assert "umuhuza kafka up --registry" in refused["problem"]["title"]


def test_a_gateway_that_has_the_file_open_is_in_the_way_and_none_can_open_it_meanwhile(town: Town) -> None:
    town.write(1)

    async def open_for_nothing() -> None:
        log = town.open()
        done = await asyncio.to_thread(town.move, code=3)
        assert done["problem"]["code"] == "in_use"
        assert (await asyncio.to_thread(town.move, "--dry-run"))["appended"] == 3
        await log.close()

    run(open_for_nothing())
    assert {topic: len(found) for topic, found in town.on_kafka().items()} == dict.fromkeys(TOPICS, 0)
    with opened(town.file, alone=True), pytest.raises(apsw.BusyError):
        apsw.Connection(str(town.file)).execute("SELECT count(*) FROM entry").fetchall()


def test_what_is_no_log_is_named(town: Town) -> None:
    town.file.write_bytes(b"not a database, but long enough to be taken for one" * 40)
    assert town.move(code=1)["problem"]["title"].endswith("is no log of Umuhuza's.")
    town.file.unlink()
    assert town.move(code=2)["problem"]["code"] == "settings"


def test_only_an_administrator_moves(town: Town) -> None:
    town.write(1)
    files = town.folder / "pour-iom"
    files.mkdir()
    for name, path in (("ca", town.gateway.ca), ("certificate", town.gateway.certificate), ("key", town.gateway.key)):
        (files / f"{name}.pem").write_bytes(path.read_bytes())
    words = ["log", "move", "--from", str(town.file), "--kafka-files", str(files), "--json"]
    command = [sys.executable, "-m", "umuhuza", *words]
    assert (
        told(subprocess.run(command, capture_output=True, text=True, check=False), 2)["problem"]["code"] == "settings"
    )
    command += ["--kafka", ",".join(town.cluster.bootstrap)]
    assert (
        told(subprocess.run(command, capture_output=True, text=True, check=False), 1)["problem"]["code"]
        == "not_permitted"
    )


def test_an_agency_that_had_read_half_reads_on_and_has_each_event_once(tmp_path: Path, kafka_cluster: Cluster) -> None:
    """The old log's cursor says nothing of the new one: it reads from the start and recognises what it has."""
    kafka_cluster.start()
    with Agencies(tmp_path) as village:
        town = Town(tmp_path, kafka_cluster, village.domain)
        iom, house = village["bi/iom"], village["bi/k7t4"]
        threads = [iom.evt(iom.draft("bi/k7t4", "referral.requested", referral())) for _ in range(3)]
        village.settle()
        assert len(house.system.arrived) == 3
        threads += [iom.evt(iom.draft("bi/k7t4", "referral.requested", referral())) for _ in range(4)]
        while iom.send():
            pass
        assert iom.outgoing(threads[-1]).state == "promised"
        village.run(village.log.close())
        moved = town.move()
        assert moved["copies"] == 0

        async def read_on() -> None:
            log = await town.kafka()
            for member in (house, iom):
                member.runner = Runner(member.runner.desk, log, [member.system])
                await member.runner.inbox.check_cursors(log)
                while await member.runner.receive(0):
                    pass
                while await member.runner.deliver():
                    pass
            await log.close()

        village.run(read_on())
        assert [one.evt for one in house.system.arrived] == threads
        assert [one.state for one in house.inbox()] == ["delivered"] * 7
        assert len(house.sent("receipt.delivered")) == 7
        assert [one.state for one in iom.inbox()] == ["delivered"] * 3  # the receipts of before, once


def placed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Between topics there is no order."""
    return sorted(lines, key=lambda line: (line["topic"], line["offset"]))


def test_a_gateway_goes_on_over_kafka_where_it_stopped(tmp_path: Path, kafka_cluster: Cluster) -> None:
    """The same folder with another log: it makes its index again, knows every chain, repeat and erasure, and gives
    agencies the lines that it gave before."""
    kafka_cluster.start()
    folder = tmp_path / "passerelle"
    folder.mkdir()
    town = Town(folder, kafka_cluster)
    domain = town.domain
    sent = [domain.record() for _ in range(5)]

    async def before() -> list[dict[str, Any]]:
        world = World(folder, domain)
        async with world.opened() as gateway:
            async with world.caller(gateway) as iom:
                await iom.send(*sent)
                [line, _] = await iom.send(erasing(world, sent[1], "bi/iom", "bi/k7t4"))
                assert "offset" in line, line
            async with world.caller(gateway, "bi/k7t4") as house:
                return placed(await house.mailbox())

    known = run(before())
    moved = town.move("--from", str(folder))
    assert moved["appended"] == 6

    async def after() -> None:
        world = World(folder, domain, settings={"log": None, "kafka": str(handed(kafka_cluster, tmp_path / "kafka"))})
        async with world.opened() as gateway:
            async with world.caller(gateway, "bi/k7t4") as house:
                assert placed(await house.mailbox()) == known
            async with world.caller(gateway) as iom:
                again, erased, _ = await iom.send(sent[0], sent[1])
                assert [(one["copy"], one["offset"]) for one in (again, erased)] == [(True, 0), (True, 1)]
                following, _ = await iom.send(domain.record())
                assert (following["offset"], following.get("finding")) == (5, None)
            assert await grants_kept(gateway, sent[1]) == 0
            assert await grants_kept(gateway, sent[2]) == 1

    run(after())
