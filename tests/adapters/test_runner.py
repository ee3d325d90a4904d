# SPDX-License-Identifier: Apache-2.0
"""The loop of one agency: what stops what, what is told to whom, and coming back from a backup."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from adapters.connectors.contract import Arrived, Batch, Draft, NotNowError, Problem
from adapters.runner import Pace, Runner
from schemas.envelope import chain_hash, parse_manifest, parse_record
from schemas.errors import LogError, RecordError, RegistryError, UmuhuzaError
from schemas.registry import STALE_AFTER_S
from tests.agencies import Agencies, Agency, Gate, InMemory, referral, said
from topics.http_log import SentHead, SentManifest
from topics.log import Entry, Stored
from topics.sqlite_log import SqliteLog

SHELTER = "bi/k7t4"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Agencies]:
    with Agencies(tmp_path) as agencies:
        yield agencies


def one(town: Agencies, source: str, type: str = "referral.requested", thread: str | None = None) -> Batch:
    facts = referral() if type == "referral.requested" else said()
    to = SHELTER if type == "referral.requested" else "bi/iom"
    return Batch(source, "essai.xlsx", (Draft("1", to, type, None, thread, facts),))


# -- collecting --------------------------------------------------------------------------------------------------------


def test_a_report_that_cannot_be_written_now_is_written_later_and_says_the_same(town: Agencies) -> None:
    iom = town["bi/iom"]
    unread = Problem("ligne 2", "row_invalid", "fr", "en", "2")
    iom.system.batches = [Batch("s", "essai.xlsx", (*one(town, "s").items, unread)), one(town, "t")]
    busy = {"s"}

    def closed(batch: Batch) -> None:
        if batch.source in busy:
            raise NotNowError

    iom.system.before_settle = closed
    assert iom.collect() == 3
    assert [source for source, _ in iom.system.reports] == ["t"]
    assert iom.collect() == 0  # nothing new: the loop may rest
    busy.clear()
    iom.collect()
    [_, (source, outcomes)] = iom.system.reports
    assert source == "s"
    assert [(outcome.again, outcome.problem) for outcome in outcomes] == [(True, None), (True, unread)]
    assert len(iom.box.outbox()) == 2


def test_a_batch_that_has_to_wait_stops_none_behind_it(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town[SHELTER]
    iom.draft(SHELTER, "referral.requested", referral())
    town.settle()
    thread = shelter.system.arrived[0].thread
    town.wait(STALE_AFTER_S + 1)
    request = Batch("s", "essai.xlsx", (Draft("1", "bi/r5w2", "referral.requested", None, None, referral()),))
    shelter.system.batches = [request, one(town, "t", "referral.accepted", thread)]
    with pytest.raises(RegistryError, match="registry_stale"):
        shelter.collect()
    assert [source for source, _ in shelter.system.reports] == ["t"]
    assert [batch.source for batch in shelter.system.batches] == ["s"]
    town.domain.registry = town.domain.registry.renewed(int(town.now))
    assert shelter.collect() == 1


# -- telling -----------------------------------------------------------------------------------------------------------


def test_each_state_is_told_once_and_again_when_it_could_not_be_told(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    iom.send()
    iom.deliver()
    iom.deliver()
    assert iom.system.changes == [(evt, "promised", None)]

    def closed(_evt: str, state: str) -> None:
        raise NotNowError

    iom.system.before_changed = closed
    town.settle()
    assert iom.system.changes == [(evt, "promised", None)]
    iom.system.before_changed = lambda _evt, _state: None
    town.settle()
    town.settle()
    assert iom.system.changes == [(evt, "promised", None), (evt, "delivered", None)]


def test_a_state_is_told_again_after_dying_while_telling(town: Agencies) -> None:
    class Died(BaseException):
        pass

    iom = town["bi/iom"]
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    iom.send()

    def dies(_evt: str, _state: str) -> None:
        iom.system.changes.append((_evt, _state, None))
        raise Died

    iom.system.before_changed = dies
    with pytest.raises(Died):
        iom.deliver()
    iom = town.open("bi/iom")
    iom.system.before_changed = lambda _evt, _state: None
    iom.deliver()
    assert iom.system.changes == [(evt, "promised", None)] * 2


def test_a_refusal_and_a_rejection_are_told_with_their_code(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    no = RecordError("signature_invalid", "L1")
    iom.runner.log = Gate(town.log, refuses=lambda _entry: no)
    iom.send()
    iom.deliver()
    assert iom.system.changes == [(evt, "refused", "signature_invalid")]


# -- two systems -------------------------------------------------------------------------------------------------------


class Second(InMemory):
    name = "second"


def test_two_systems_both_get_what_arrives_and_each_hears_of_its_own(town: Agencies) -> None:
    one_system, two_system = InMemory(), Second()
    iom, shelter = town.open("bi/iom", [one_system, two_system]), town[SHELTER]
    two_system.batches = [one(town, "s")]
    town.settle()
    assert [(len(system.reports), len(system.changes)) for system in (one_system, two_system)] == [(0, 0), (1, 2)]
    [request] = shelter.system.arrived
    shelter.draft("bi/iom", "referral.accepted", said(), thread=request.thread)

    def closed(_arrived: Arrived) -> None:
        raise NotNowError

    two_system.before_deliver = closed
    town.settle()
    assert (one_system.types, two_system.types) == (["referral.accepted"], [])
    two_system.before_deliver = lambda _arrived: None
    town.wait(900)
    town.settle()
    # The first one has it twice: at least once, idempotent by ident.
    assert (one_system.types, two_system.types) == (["referral.accepted"] * 2, ["referral.accepted"])
    assert len({arrived.ident for arrived in one_system.arrived + two_system.arrived}) == 1
    assert [item.state for item in iom.inbox() if item.kind != "control"] == ["delivered"]


# -- coming back from a backup -----------------------------------------------------------------------------------------


@dataclass
class Source:
    """What a gateway tells an agency about itself, read from the log's real contents; a page is two records."""

    town: Agencies
    agency: str
    tampers: Callable[[str, SentManifest], SentManifest | None] = lambda _topic, one: one
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def sent_heads(self) -> dict[str, SentHead]:
        heads: dict[str, SentHead] = {}
        for topic in await self.town.log.topics():
            for one in await self._mine(topic):
                heads[topic] = SentHead(one.seq, chain_hash(one.line1), one.offset)
        return heads

    async def sent(self, topic: str, after: int) -> list[SentManifest]:
        self.asked.append((topic, after))
        page = [one for one in await self._mine(topic) if one.seq > after][:2]
        seen = [self.tampers(topic, one) for one in page]
        return [one for one in seen if one is not None]

    async def _mine(self, topic: str) -> list[SentManifest]:
        if ".grants." in topic:
            return []
        found = []
        for stored in await self.town.log.read(topic, -1):
            manifest = parse_record(stored.value).manifest
            if manifest.iss == self.agency:
                line1 = stored.value.partition(b"\n")[0]
                found.append(SentManifest(manifest.seq, stored.offset, stored.at_ms, line1))
        return sorted(found, key=lambda one: one.seq)


def backup(town: Agencies, agency: str) -> Path:
    town[agency].box.query("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(shutil.copy(town.path(agency), town.folder / "backup.db"))


def restore(town: Agencies, agency: str, copy: Path) -> None:
    town[agency].box.close()
    for suffix in ("-wal", "-shm"):
        Path(f"{town.path(agency)}{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, town.path(agency))
    town.open(agency)


def numbers(town: Agencies, topic: str, agency: str) -> list[tuple[int, str]]:
    read = [parse_record(stored.value).manifest for stored in town.run(town.log.read(topic, -1))]
    return [(manifest.seq, manifest.evt) for manifest in read if manifest.iss == agency]


def ask(town: Agencies, *to: str) -> list[str]:
    iom = town["bi/iom"]
    return [iom.evt(iom.draft(one, "referral.requested", referral())) for one in to]


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_after_a_restore_no_number_is_used_twice(town: Agencies, lost: int) -> None:
    ask(town, SHELTER, "bi/r5w2")
    town.settle()
    copy = backup(town, "bi/iom")
    ask(town, *[SHELTER] * lost)
    town.settle()
    restore(town, "bi/iom", copy)
    iom, source = town["bi/iom"], Source(town, "bi/iom")
    assert iom.box.chains.head("bi.referral.k7t4")[0] == 1
    learned = town.run(iom.runner.reconcile(source))
    assert learned == lost
    assert iom.box.chains.head("bi.referral.k7t4")[0] == 1 + lost
    [evt] = ask(town, SHELTER)
    town.settle()
    used = numbers(town, "bi.referral.k7t4", "bi/iom")
    assert [seq for seq, _ in used] == list(range(1, lost + 3))
    assert used[-1][1] == evt
    assert iom.outgoing(evt).state == "delivered"
    assert town[SHELTER].inbox("quarantined") == []
    assert town.run(iom.runner.reconcile(source)) == 0
    assert numbers(town, "bi.referral.r5w2", "bi/iom")[0][0] == 1


def test_without_learning_the_number_would_have_been_used_twice_and_the_reader_sees_it(town: Agencies) -> None:
    ask(town, SHELTER)
    town.settle()
    copy = backup(town, "bi/iom")
    ask(town, SHELTER)
    town.settle()
    restore(town, "bi/iom", copy)
    ask(town, SHELTER)
    town.settle()
    assert [seq for seq, _ in numbers(town, "bi.referral.k7t4", "bi/iom")] == [1, 2, 2]
    assert [item.code for item in town[SHELTER].inbox("quarantined")] == ["chain_broken"]


@pytest.mark.parametrize("before", [0, 1])
def test_what_was_still_waiting_in_the_backup_but_was_sent_since_is_not_sent_again(town: Agencies, before: int) -> None:
    waiting = ask(town, SHELTER, SHELTER)
    copy = backup(town, "bi/iom")
    for evt in waiting[:before]:
        town["bi/iom"].box.cancel(evt, int(town.now))  # so that the other one got its number
    town.settle()
    restore(town, "bi/iom", copy)
    iom = town["bi/iom"]
    town.run(iom.runner.reconcile(Source(town, "bi/iom")))
    assert [iom.outgoing(evt).state for evt in waiting[before:]] == ["promised"] * (2 - before)
    town.settle()
    used = numbers(town, "bi.referral.k7t4", "bi/iom")
    assert len({seq for seq, _ in used}) == len(used)
    assert len({evt for _, evt in used}) == len(used)
    assert town[SHELTER].inbox("quarantined") == []
    assert len(town[SHELTER].system.arrived) == len(used)


def test_a_gap_left_by_a_refused_number_is_learned_over(town: Agencies) -> None:
    iom = town["bi/iom"]
    waiting = ask(town, SHELTER, SHELTER, SHELTER)
    copy = backup(town, "bi/iom")
    no = RecordError("signature_invalid", "L1")
    bad = waiting[0]
    iom.runner.log = Gate(town.log, refuses=lambda entry: no if entry.ident.endswith(bad) else None)
    town.settle()
    assert [seq for seq, _ in numbers(town, "bi.referral.k7t4", "bi/iom")] == [2, 3, 4]  # the last says: 1 is void
    restore(town, "bi/iom", copy)
    iom = town["bi/iom"]
    town.run(iom.runner.reconcile(Source(town, "bi/iom")))
    assert [iom.outgoing(evt).state for evt in waiting] == ["waiting", "promised", "promised"]
    town.settle()
    used = numbers(town, "bi.referral.k7t4", "bi/iom")
    assert [seq for seq, _ in used] == [2, 3, 4, 5]
    assert used[-1][1] == bad
    assert town[SHELTER].inbox("quarantined") == []


def test_a_lying_gateway_teaches_nothing(town: Agencies) -> None:
    ask(town, SHELTER, SHELTER)
    town.settle()
    copy = backup(town, "bi/iom")
    ask(town, SHELTER, "bi/r5w2", "bi/r5w2", "bi/r5w2", "bi/r5w2")
    town.settle()
    restore(town, "bi/iom", copy)
    iom = town["bi/iom"]
    heads = iom.box.chains.heads()
    [foreign] = [stored.value.partition(b"\n")[0] for stored in town.run(town.log.read("bi.receipt.iom", -1))][:1]
    elsewhere = [stored.value.partition(b"\n")[0] for stored in town.run(town.log.read("bi.referral.r5w2", -1))][-1]
    assert parse_manifest(elsewhere)[3].seq == 4
    older = town.run(town.log.read("bi.referral.k7t4", -1))[0].value.partition(b"\n")[0]
    lies: list[Callable[[str, SentManifest], SentManifest | None]] = [
        lambda _topic, _one: None,
        lambda _topic, one: replace(one, line1=foreign),
        lambda topic, one: replace(one, line1=elsewhere) if topic == "bi.referral.k7t4" else None,
        lambda _topic, one: replace(one, line1=one.line1[:-4] + b"AAAA"),
        lambda topic, one: replace(one, line1=older) if topic == "bi.referral.k7t4" else None,
    ]
    for lie in lies:
        assert town.run(iom.runner.reconcile(Source(town, "bi/iom", lie))) == 0
        assert iom.box.chains.heads() == heads


def test_what_is_learned_comes_page_by_page(town: Agencies) -> None:
    copy = backup(town, "bi/iom")
    ask(town, *[SHELTER] * 5)
    town.settle()
    restore(town, "bi/iom", copy)
    source = Source(town, "bi/iom")
    assert town.run(town["bi/iom"].runner.reconcile(source)) == 5
    assert source.asked == [("bi.referral.k7t4", 0), ("bi.referral.k7t4", 2), ("bi.referral.k7t4", 4)]


# -- for ever ----------------------------------------------------------------------------------------------------------

QUICK = Pace(collect_s=0.01, wait_s=0.05, idle_s=0.01)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)


def running(town: Agencies, *agencies: str) -> Iterator[Runner]:
    for name in agencies:
        runner = town[name].runner
        runner.pace = QUICK
        yield runner


def test_two_agencies_running_come_to_an_end_by_themselves(town: Agencies) -> None:
    iom, shelter = town["bi/iom"], town[SHELTER]

    async def whole() -> None:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(runner.run(stop)) for runner in running(town, "bi/iom", SHELTER)]
        iom.system.batches = [one(town, "s")]
        await until(lambda: bool(shelter.system.arrived))
        thread = shelter.system.arrived[0].thread
        shelter.system.batches = [one(town, "t", "referral.accepted", thread)]
        await until(lambda: iom.system.types == ["referral.accepted"])
        await until(lambda: [state for _, state, _ in shelter.system.changes][-1:] == ["delivered"])
        stop.set()
        await asyncio.gather(*tasks)

    town.run(whole())
    assert iom.runner.troubles == shelter.runner.troubles == {}


def test_it_ends_though_something_wants_to_be_sent_in_the_same_moment(town: Agencies) -> None:
    async def whole() -> None:
        stop = asyncio.Event()
        [runner] = running(town, "bi/iom")
        runner.pace = Pace(collect_s=0.01, wait_s=0.05, idle_s=60.0)
        task = asyncio.create_task(runner.run(stop))
        await asyncio.sleep(0.1)
        stop.set()
        for _ in range(10):
            runner._send_now.set()
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await task

    town.run(whole())


def test_trouble_of_one_turn_is_shown_by_its_code_and_stops_no_other(
    town: Agencies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.runner.backoff_s", lambda _failures, _random: 0.01)
    iom = town["bi/iom"]
    told: list[tuple[str, str]] = []

    class Broken(Gate):
        open = False

        async def poll(
            self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
        ) -> list[Stored]:
            if not self.open:
                raise LogError("unavailable")
            return await super().poll(after, limit, max_bytes, wait_s)

    gate = Broken(town.log)

    async def whole() -> None:
        stop = asyncio.Event()
        [runner] = running(town, "bi/iom")
        runner.log = gate
        runner.on_trouble = lambda turn, exc: told.append((turn, exc.code))
        task = asyncio.create_task(runner.run(stop))
        iom.system.batches = [one(town, "s")]
        await until(lambda: [state for _, state, _ in iom.system.changes] == ["promised"])
        await until(lambda: runner.troubles == {"receive": "unavailable"})
        gate.open = True
        await until(lambda: runner.troubles == {})
        stop.set()
        await task

    town.run(whole())
    assert set(told) == {("receive", "unavailable")}


def test_a_bug_is_not_a_failure_and_is_seen(town: Agencies) -> None:
    iom = town["bi/iom"]

    def bug(_batch: Batch) -> None:
        raise ZeroDivisionError

    iom.system.before_settle = bug
    iom.system.batches = [one(town, "s")]
    [runner] = running(town, "bi/iom")
    with pytest.raises(ZeroDivisionError):
        town.run(runner.run(asyncio.Event()))


def test_a_log_of_another_identity_is_read_from_its_start_and_known_records_are_recognised(
    town: Agencies, tmp_path: Path
) -> None:
    iom, shelter = town["bi/iom"], town[SHELTER]
    iom.draft(SHELTER, "referral.requested", referral())
    town.settle()
    moved = SqliteLog.open(
        str(tmp_path / "moved.db"),
        topics=town.run(town.log.topics()),
        clock_ms=lambda: int(town.now * 1000),
        threads=False,
        random_id=lambda: "log-2",
    )

    async def move() -> None:
        for topic in await town.log.topics():
            if ".grants." not in topic:
                stored = await town.log.read(topic, -1)
                await moved.append([Entry(s.topic, s.key, s.ident, s.value, s.headers) for s in stored])

    town.run(move())
    shelter.runner.log = iom.runner.log = moved
    iom.draft(SHELTER, "referral.requested", referral())
    town.settle(["bi/iom", SHELTER])
    assert len(shelter.system.arrived) == 2
    assert [item.state for item in iom.box.outbox()] == ["delivered", "delivered"]
    assert len(shelter.box.outbox()) == 2
    town.run(moved.close())


def test_an_agency_that_is_not_enrolled_yet_says_so(town: Agencies) -> None:
    registry = town.domain.registry
    town.domain.registry = replace(registry, agencies={k: v for k, v in registry.agencies.items() if k != SHELTER})
    with pytest.raises(UmuhuzaError, match="agency_unknown"):
        town[SHELTER].receive()


# -- the gateway's log put back from a copy ----------------------------------------------------------------------------


def put_log_back(town: Agencies, copy: Path, *, identity: bool) -> None:
    """The operator stops the gateway, puts the copy in place and starts again."""
    town.run(town.log.close())
    for suffix in ("-wal", "-shm"):
        Path(f"{town.folder / 'log.db'}{suffix}").unlink(missing_ok=True)
    shutil.copy(copy, town.folder / "log.db")
    if identity:
        SqliteLog.renew_identity(
            str(town.folder / "log.db"), clock_ms=lambda: int(town.now * 1000), random_id=lambda: "log-2"
        )
    town.log = SqliteLog.open(
        str(town.folder / "log.db"),
        clock_ms=lambda: int(town.now * 1000),
        threads=False,
        random_id=lambda: "unused",
    )
    for name in town.domain.members:
        town.open(name)


def copy_of_log(town: Agencies) -> Path:
    """Taken with the log at rest: the last connection to close writes everything into the file."""
    town.run(town.log.close())
    copy = Path(shutil.copy(town.folder / "log.db", town.folder / "log-copy.db"))
    put_log_back(town, copy, identity=False)
    return copy


def test_a_log_put_back_under_its_old_identity_is_noticed_before_anything_is_skipped(town: Agencies) -> None:
    copy = copy_of_log(town)
    ask(town, SHELTER)
    town.settle()
    put_log_back(town, copy, identity=False)
    with pytest.raises(LogError) as caught:
        town.run(town[SHELTER].runner.receive())
    assert (caught.value.code, caught.value.path) == ("log_inconsistent", "bi.referral.k7t4")
    assert "umuhuza gateway restored" in caught.value.advice("en")


def test_what_a_restored_log_lacks_is_sent_again_and_nothing_arrives_twice(town: Agencies) -> None:
    [first] = ask(town, SHELTER)
    town.settle()
    copy = copy_of_log(town)
    lost = ask(town, SHELTER, SHELTER)
    town.settle()
    put_log_back(town, copy, identity=True)
    assert len(numbers(town, "bi.referral.k7t4", "bi/iom")) == 1
    for name in town.domain.members:
        town.run(town[name].runner.reconcile(Source(town, name)))
    [later] = ask(town, SHELTER)
    town.settle()
    assert [evt for _, evt in numbers(town, "bi.referral.k7t4", "bi/iom")] == [first, *lost, later]
    assert [arrived.evt for arrived in town[SHELTER].system.arrived] == [first, *lost, later]
    assert {item.state for item in town["bi/iom"].sent("referral.requested")} == {"delivered"}
    assert town[SHELTER].inbox("quarantined") == []
    assert town["bi/iom"].inbox("quarantined") == []


# -- links -------------------------------------------------------------------------------------------------------------


def cut_off(iom: Agency, town: Agencies) -> tuple[str, Gate]:
    """A referral that was tried so often that its next attempt is minutes away; and the link, still broken."""
    iom.receive()
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    link = Gate(town.log, breaks=LogError("unavailable", "gateway"))
    iom.runner.log = link
    for _ in range(9):
        iom.send()
        town.wait(1000)
    iom.send()
    assert iom.outgoing(evt).next_at > town.now + 300
    return evt, link


def test_what_waited_for_the_link_goes_as_soon_as_a_read_shows_that_it_is_back(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt, link = cut_off(iom, town)
    link.breaks = None
    iom.runner.troubles["receive"] = "unavailable"  # as the loop has it after a read that failed
    iom.receive()
    assert iom.send() == 0, "not in the same second as everybody else"
    town.wait(5)
    assert iom.send() == 1
    assert iom.outgoing(evt).state == "promised"


def test_a_gateway_that_answers_reads_and_takes_nothing_is_not_asked_more_often_for_that(town: Agencies) -> None:
    iom = town["bi/iom"]
    evt, _ = cut_off(iom, town)
    before = iom.outgoing(evt).next_at
    iom.receive()
    assert iom.outgoing(evt).next_at == before


def test_nothing_is_sent_again_sooner_than_the_gateway_asked(town: Agencies) -> None:
    iom = town["bi/iom"]
    iom.receive()
    evt = iom.evt(iom.draft(SHELTER, "referral.requested", referral()))
    busy = LogError("storage_full")
    busy.retry_after_s = 600
    iom.runner.log = Gate(town.log, breaks=busy)
    iom.send()
    assert iom.outgoing(evt).next_at > town.now + 600
    iom.runner.log = Gate(town.log)
    town.wait(599)
    assert iom.send() == 0
    town.wait(10)
    assert iom.send() == 1
