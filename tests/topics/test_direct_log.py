# SPDX-License-Identifier: Apache-2.0
"""Reading and writing past the gateway: who is asked, what is stored first, and what happens when a door stays shut.

No broker: the log is an SQLite file that the gateway has open too, so every part is real but Kafka. The same upon a
real broker is in `tests/kafka/test_direct.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
import pytest

from gateway.app import Gateway
from schemas.envelope import chain_hash
from schemas.errors import LogError, UmuhuzaError
from tests.domain import Domain, Signed
from tests.gateway.gateway_world import World, count_of, erasing, forged, grants_kept
from tests.gateway.test_gateway_manifests import opted_in
from tests.review.test_lying_gateway import told as answered
from topics import direct_log
from topics.catalogue import topics_of
from topics.direct_log import DirectLog
from topics.http_log import HttpLog
from topics.log import Appended, Ends, Entry, Stored, grants_topic
from topics.sqlite_log import SqliteLog

MAILBOX = "bi.referral.k7t4"
OTHER = "bi.referral.r5w2"


@dataclass
class Brokers:
    """The real log as brokers would show it that refuse or fail as a test says."""

    log: SqliteLog
    refuses: set[str] = field(default_factory=set)
    """Topics that we may not write."""
    fails: set[str] = field(default_factory=set)
    """Topics of which nobody answers."""
    lost: LogError | None = None
    """Raised by every reading."""
    forgets: bool = False
    """Writes, and fails before it says so."""
    written: list[Entry] = field(default_factory=list)
    closed: int = 0

    @property
    def log_id(self) -> str:
        return self.log.log_id

    async def append(self, entries: Sequence[Entry]) -> list[Appended | UmuhuzaError]:
        answers: list[Appended | UmuhuzaError] = []
        for entry in entries:
            if entry.topic in self.refuses:
                answers.append(LogError("not_permitted", entry.topic))
            elif entry.topic in self.fails:
                answers.append(LogError("unavailable", entry.topic))
            else:
                self.written.append(entry)
                answers += await self.log.append([entry])
        return [LogError("unavailable") for _ in entries] if self.forgets else answers

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self.poll({topic: after}, limit, max_bytes, wait_s)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        if self.lost is not None:
            raise self.lost
        return await self.log.poll(after, limit, max_bytes, wait_s)

    async def ends(self, topic: str) -> Ends:
        if self.lost is not None:
            raise self.lost
        return await self.log.ends(topic)

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        raise AssertionError("grants are written by gateways only")

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self.log.get_grants(topic, keys)

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        raise AssertionError("grants are deleted by gateways only")

    async def close(self) -> None:
        self.closed += 1
        await self.log.close()


@dataclass
class Doors:
    """A domain's gateway and its log's file, and handles on both."""

    world: World
    gateway: Gateway
    opened: list[Brokers] = field(default_factory=list)
    told: list[UmuhuzaError] = field(default_factory=list)
    writes: bool = True
    other: bool = False
    """Brokers of another log."""

    async def open_brokers(self) -> Brokers:
        file = "another.db" if self.other else "log.db"
        log = SqliteLog.open(
            str(self.world.directory / file),
            topics=topics_of(self.world.domain.registry),
            clock_ms=lambda: int(self.world.clock.at * 1000),
            threads=False,
            random_id=lambda: file,
        )
        self.opened.append(Brokers(log))
        return self.opened[-1]

    @property
    def brokers(self) -> Brokers:
        return self.opened[-1]

    @contextlib.asynccontextmanager
    async def agency(self, name: str = "bi/iom") -> AsyncIterator[DirectLog]:
        log = DirectLog(
            self.open_brokers,
            self.world.log(self.gateway, name),
            writes=lambda: self.writes,
            on_refused=self.told.append,
        )
        try:
            yield log
        finally:
            await log.close()

    @contextlib.asynccontextmanager
    async def over_http(self, name: str) -> AsyncIterator[HttpLog]:
        log = self.world.log(self.gateway, name)
        try:
            yield log
        finally:
            await log.close()


Story = Callable[[Doors], Awaitable[None]]


def told(tmp_path: Path, story: Story) -> None:
    world = World(tmp_path)
    opted_in(world)

    async def run() -> None:
        async with world.opened() as gateway:
            await asyncio.wait_for(story(Doors(world, gateway)), 30)

    asyncio.run(run())


async def send(log: DirectLog, *signed: Signed) -> list[Appended | UmuhuzaError]:
    """As an outbox does it: grants, then records."""
    for one in signed:
        await log.put_grants(grants_topic(one.manifest.to), one.grant_puts())
    return list(await log.append([replace(one.entry, headers=()) for one in signed]))


def code_of(answer: object) -> tuple[str, str | None]:
    assert isinstance(answer, UmuhuzaError)
    return answer.code, answer.path


def offset_of(answer: object) -> int:
    assert isinstance(answer, Appended), answer
    return answer.offset


def test_what_is_written_by_hand_reaches_a_reader_over_http_and_one_who_reads_by_hand(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        sent = [doors.world.domain.record() for _ in range(3)]
        async with doors.agency() as iom:
            assert iom.log_id == ""
            answers = await send(iom, *sent)
            assert [offset_of(answer) for answer in answers] == [0, 1, 2]
            assert [answer.promise for answer in answers if isinstance(answer, Appended)] == [None] * 3
            assert iom.log_id == doors.brokers.log_id
        assert [entry.ident for entry in doors.brokers.written] == [one.manifest.ident for one in sent]
        # With the copies that CloudEvents readers look for, whether the caller made them or not.
        assert [entry.headers for entry in doors.brokers.written] == [one.entry.headers for one in sent]
        keys = [key for one in sent for key in one.grant_puts()]
        async with doors.over_http("bi/k7t4") as http, doors.agency("bi/k7t4") as by_hand:
            for reader in (http, by_hand):
                assert [one.value for one in await reader.read(MAILBOX, -1)] == [one.value for one in sent]
                assert len(await reader.get_grants(grants_topic("bi/k7t4"), keys)) == 3
                assert await reader.ends(MAILBOX) == Ends(0, 3)

    told(tmp_path, story)


def test_grants_are_durable_before_the_first_record_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(doors: Doors) -> None:
        sent = [doors.world.domain.record() for _ in range(2)]
        append = Brokers.append
        seen: list[int] = []

        async def look(self: Brokers, entries: Sequence[Entry]) -> list[Appended | UmuhuzaError]:
            seen.extend([await grants_kept(doors.gateway, one) for one in sent])
            return await append(self, entries)

        monkeypatch.setattr(Brokers, "append", look)
        async with doors.agency() as iom:
            await send(iom, *sent)
        assert seen == [1, 1]

    told(tmp_path, story)


def test_what_the_gateway_refuses_is_not_written_and_refuses_no_other(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        good, other = doors.world.domain.record(), doors.world.domain.record(to="bi/r5w2")
        bad = forged(doors.world.domain.record())
        without_grant = doors.world.domain.record()
        async with doors.agency() as iom:
            await iom.put_grants(grants_topic("bi/k7t4"), good.grant_puts() | bad.grant_puts())
            await iom.put_grants(grants_topic("bi/r5w2"), other.grant_puts())
            answers = await iom.append([good.entry, bad.entry, without_grant.entry, other.entry])
            assert (offset_of(answers[0]), offset_of(answers[3])) == (0, 0)
            assert code_of(answers[1]) == ("signature_invalid", "L1")
            assert code_of(answers[2]) == ("grant_missing", "grants")
            damaged = replace(good.entry, value=b"no record")
            assert code_of((await iom.append([damaged]))[0])[0] == "record_malformed"
        assert [entry.ident for entry in doors.brokers.written] == [good.manifest.ident, other.manifest.ident]
        assert not doors.told

    told(tmp_path, story)


def test_an_agency_that_does_not_write_by_hand_gets_promises(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        doors.writes = False
        one = doors.world.domain.record()
        async with doors.agency() as iom:
            (answer,) = await send(iom, one)
            assert isinstance(answer, Appended)
            assert answer.promise is not None
            assert not doors.opened
        async with doors.agency("bi/k7t4") as k7t4:
            assert len(await k7t4.read(MAILBOX, -1)) == 1

    told(tmp_path, story)


@pytest.mark.parametrize("who", ["the brokers", "the gateway"])
def test_what_we_are_not_let_write_goes_through_the_gateway_and_it_is_said(who: str, tmp_path: Path) -> None:
    """ACLs or a registry that are behind: the record is in order, so nobody gives it up."""

    async def story(doors: Doors) -> None:
        sent = [doors.world.domain.record(), doors.world.domain.record(to="bi/r5w2"), doors.world.domain.record()]
        async with doors.agency() as iom:
            await iom.ends("bi.referral.iom")
            if who == "the brokers":
                doors.brokers.refuses.add(MAILBOX)
            else:
                opted_in(doors.world, direct=False)
                doors.world.registry_changed()
            answers = await send(iom, *sent)
            assert [offset_of(answer) for answer in answers] == [0, 0, 1]
            by_gateway = [isinstance(answer, Appended) and answer.promise is not None for answer in answers]
            assert by_gateway == ([True, False, True] if who == "the brokers" else [True] * 3)
        assert [code_of(one) for one in doors.told] == [
            ("not_permitted", MAILBOX if who == "the brokers" else "registry.direct")
        ]
        assert [await grants_kept(doors.gateway, one) for one in sent] == [1, 1, 1]

    told(tmp_path, story)


def test_a_writer_that_did_not_hear_of_its_success_writes_nothing_twice(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        sent = [doors.world.domain.record() for _ in range(2)]
        async with doors.agency() as iom:
            await iom.ends("bi.referral.iom")
            doors.brokers.forgets = True
            assert [code_of(answer)[0] for answer in await send(iom, *sent)] == ["unavailable"] * 2
        third = doors.world.domain.record()
        async with doors.agency() as iom:
            again = await send(iom, *sent, third)
            assert [(offset_of(one), one.copy) for one in again if isinstance(one, Appended)] == [
                (0, True),
                (1, True),
                (2, False),
            ]
            # It is the gateway that said so, and it promises what it has seen.
            assert [one.promise is not None for one in again if isinstance(one, Appended)] == [True, True, False]
        assert [entry.ident for entry in doors.brokers.written] == [third.manifest.ident]

    told(tmp_path, story)


def test_behind_a_failure_nothing_of_its_topic_is_sent_by_either_way(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        domain = doors.world.domain
        target = domain.record(to="bi/r5w2")
        first, second = domain.record(), domain.record("bi/iom", "bi/k7t4", "receipt", "control")
        command = erasing(doors.world, target, "bi/iom", "bi/k7t4")
        async with doors.agency() as iom:
            await send(iom, target)
            doors.brokers.fails.add("bi.receipt.k7t4")
            answers = await send(iom, first, second, command)
            assert offset_of(answers[0]) == 0
            assert [code_of(answer) for answer in answers[1:]] == [("unavailable", "bi.receipt.k7t4")] * 2
            assert await count_of(doors.gateway, "bi.receipt.k7t4") == 0
            doors.brokers.fails.clear()
            answers = await send(iom, first, second, command)
            assert [offset_of(answer) for answer in answers] == [0, 0, 1]
            # What makes gateways act went through one.
            assert isinstance(answers[2], Appended)
            assert answers[2].promise is not None
            assert await grants_kept(doors.gateway, target) == 0

    told(tmp_path, story)


def test_another_log_behind_the_gateway_is_noticed_before_anything_is_read_or_written(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        doors.other = True
        one = doors.world.domain.record()
        async with doors.agency() as iom:
            with pytest.raises(LogError) as caught:
                await send(iom, one)
            assert code_of(caught.value) == ("log_inconsistent", "log_id")
            with pytest.raises(LogError) as caught:
                await iom.read("bi.referral.iom", -1)
            assert code_of(caught.value) == ("log_inconsistent", "log_id")
        assert not doors.brokers.written

    told(tmp_path, story)


def test_brokers_are_asked_while_the_gateway_is_away(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        async with doors.over_http("bi/iom") as http, doors.agency("bi/k7t4") as k7t4:
            one = doors.world.domain.record()
            await http.put_grants(grants_topic("bi/k7t4"), one.grant_puts())
            await http.append([one.entry])
            await doors.gateway.stop()
            assert [stored.value for stored in await k7t4.read(MAILBOX, -1)] == [one.value]
            assert await k7t4.get_grants(grants_topic("bi/k7t4"), list(one.grant_puts())) == one.grant_puts()

    told(tmp_path, story)


def test_a_handle_whose_log_was_given_another_identity_is_opened_again(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        async with doors.agency("bi/k7t4") as k7t4:
            await k7t4.ends(MAILBOX)
            waiting = asyncio.create_task(k7t4.read(MAILBOX, -1, wait_s=20))
            await asyncio.sleep(0)
            first = doors.brokers
            first.lost = LogError("unavailable", "log_id")
            with pytest.raises(LogError):
                await k7t4.ends(MAILBOX)
            # Whoever waited on the old handle is told to come again, not that we were closed.
            with pytest.raises(LogError) as caught:
                await waiting
            assert caught.value.code == "unavailable"
            assert await k7t4.ends(MAILBOX) == Ends(0, 0)
            assert (len(doors.opened), first.closed) == (2, 1)

    told(tmp_path, story)


def test_a_handle_without_an_answer_for_long_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a certificate that was renewed meanwhile is read."""
    monkeypatch.setattr(direct_log, "REOPEN_S", 0.3)

    async def story(doors: Doors) -> None:
        async with doors.agency("bi/k7t4") as k7t4:
            await k7t4.ends(MAILBOX)
            doors.brokers.lost = LogError("unavailable", MAILBOX)
            tries = 0
            while len(doors.opened) == 1:
                with contextlib.suppress(LogError):
                    await k7t4.ends(MAILBOX)
                tries += 1
                await asyncio.sleep(0.05)
            assert tries > 3
            assert doors.opened[0].closed == 1
            # An answer in between starts the count anew.
            doors.brokers.lost = LogError("unavailable", MAILBOX)
            for _ in range(12):
                with contextlib.suppress(LogError):
                    await k7t4.ends(MAILBOX)
                doors.brokers.lost = None if doors.brokers.lost else LogError("unavailable", MAILBOX)
                await asyncio.sleep(0.05)
            assert len(doors.opened) == 2

    told(tmp_path, story)


def test_what_is_staged_is_seen_and_can_be_taken_back(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        one = doors.world.domain.record()
        topic, puts = grants_topic("bi/k7t4"), one.grant_puts()
        async with doors.agency() as iom, doors.agency("bi/k7t4") as k7t4:
            await iom.put_grants(topic, puts)
            assert await iom.get_grants(topic, list(puts)) == puts
            await iom.delete_grants(topic, list(puts))
            assert await grants_kept(doors.gateway, one) == 0
            await send(iom, one)
            with pytest.raises(LogError) as caught:
                await k7t4.delete_grants(topic, list(puts))
            assert code_of(caught.value) == ("not_permitted", "grants")

    told(tmp_path, story)


def test_closed_is_closed(tmp_path: Path) -> None:
    async def story(doors: Doors) -> None:
        async with doors.agency("bi/k7t4") as k7t4:
            waiting = asyncio.create_task(k7t4.read(MAILBOX, -1, wait_s=20))
            while not doors.opened:
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            await k7t4.close()
            await k7t4.close()
            with pytest.raises(LogError) as caught:
                await waiting
            assert caught.value.code == "log_closed"
            assert doors.brokers.closed == 1
            one = doors.world.domain.record()
            assert code_of((await k7t4.append([one.entry]))[0])[0] == "log_closed"
            for call in (k7t4.ends(MAILBOX), k7t4.put_grants(MAILBOX, {}), k7t4.get_grants(MAILBOX, ["a|b"])):
                with pytest.raises(LogError) as caught:
                    await call
                assert caught.value.code == "log_closed"

    told(tmp_path, story)


# ---------------------------------------------------------------------------------------------------------------------
# A gateway that lies


GRANTED = {"line": 0, "evt": "", "topic": MAILBOX, "l1_sha256": "", "granted": True}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"evt": "0192aaaa-aaaa-7aaa-8aaa-aaaaaaaaaaaa"}, "log_inconsistent"),
        ({"topic": OTHER}, "log_inconsistent"),
        ({"l1_sha256": "A" * 43}, "log_inconsistent"),
        ({"granted": "yes"}, "log_inconsistent"),
    ],
)
def test_only_the_grant_of_this_very_manifest_counts(change: dict[str, object], code: str | None) -> None:
    one = Domain().record()
    right = {"evt": one.manifest.evt, "l1_sha256": chain_hash(one.value.partition(b"\n")[0])}
    lines = [GRANTED | right | change, {"promise": None}]
    body = b"\n".join(orjson.dumps(line) for line in lines)
    [answer] = answered(200, body, lambda log: log.announce([one.entry]))
    assert answer is None if code is None else code_of(answer)[0] == code
    # To a record this says nothing at all: it may be in the log or not.
    [answer] = answered(200, body, lambda log: log.append([one.entry]))
    assert isinstance(answer, UmuhuzaError)
