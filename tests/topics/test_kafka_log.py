# SPDX-License-Identifier: Apache-2.0
"""What Kafka adds to the log contract: identity, grants by a view, many waiting readers, limits, what is on the wire.

One real broker; topics and ACLs from the catalogue; the handles are the gateway's unless a test says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from schemas.errors import LogError
from tests.kafka.conftest import _shared
from tests.topics.kafka_harness import KafkaHarness, appended, open_kafka, random_id, run
from tests.topics.log_contract import everything, same, topic_of
from topics import kafka_admin, kafka_log
from topics.kafka_access import KafkaAccess
from topics.kafka_catalogue import kafka_topic
from topics.kafka_clients import IDENT_HEADER, Clients
from topics.kafka_log import CHECK_S, KafkaLog
from topics.kafka_producer import Item
from topics.log import MAX_VALUE_BYTES, Entry, grants_topic

MAILBOX = topic_of(0)
GRANTS = grants_topic("bi/k7t4")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[KafkaHarness]:
    with contextlib.closing(KafkaHarness(tmp_path)) as made:
        yield made


@pytest.fixture
def gateway(harness: KafkaHarness) -> KafkaAccess:
    return _shared().access("bi/operator")


@pytest.fixture
def admin(harness: KafkaHarness) -> KafkaAccess:
    return _shared().access("admin")


@contextlib.asynccontextmanager
async def opened(access: KafkaAccess, view: Path | None = None) -> AsyncIterator[KafkaLog]:
    log = await open_kafka(access, view)
    try:
        yield log
    finally:
        await log.close()


@contextlib.contextmanager
def raw(access: KafkaAccess) -> Iterator[Clients]:
    clients = Clients(access)
    try:
        yield clients
    finally:
        clients.close_producer()
        clients.close()


async def refusal(call: Awaitable[object]) -> tuple[str, str | None]:
    with pytest.raises(LogError) as caught:
        await call
    return caught.value.code, caught.value.path


async def until_refused(call: Callable[[], Awaitable[object]], within_s: float = CHECK_S + 8) -> tuple[str, str | None]:
    """The first refusal of a call that may succeed a few times before."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            await call()
        except LogError as error:
            return error.code, error.path
    raise AssertionError("never refused")


# ---------------------------------------------------------------- which log it is


def test_a_topic_made_again_by_an_administrator_is_refused_until_that_is_confirmed(
    harness: KafkaHarness, gateway: KafkaAccess, admin: KafkaAccess
) -> None:
    sent = [harness.maker.entry(0, 0, n) for n in range(4)]

    async def story() -> None:
        async with opened(gateway) as log:
            appended(await log.append(sent[:3]))
            with raw(admin) as clients:
                clients.delete_topic(MAILBOX)
                clients.create([kafka_topic(MAILBOX, 1)])
            # A reader whose cursor is beyond the new topic's end is told at once: no "nothing new".
            assert await refusal(log.read(MAILBOX, 2)) == ("unavailable", MAILBOX)
            [answer] = await log.append([sent[3]])
            assert isinstance(answer, LogError)
            assert (answer.code, answer.path) == ("unavailable", MAILBOX)
            assert await refusal(log.ends(MAILBOX)) == ("unavailable", MAILBOX)
            # The others go on.
            appended(await log.append([harness.maker.entry(0, 2, 0)]))
            applied = await kafka_admin.apply(admin, harness.maker.domain.registry, nodes=1)
            assert applied.findings == (kafka_admin.Finding("replaced", MAILBOX),)
            assert await refusal(log.read(MAILBOX, -1)) == ("unavailable", MAILBOX)
            before = log.log_id
            renewed = await KafkaLog.renew_identity(admin, domain="bi", random_id=random_id)
            assert renewed != before
            assert await until_refused(lambda: log.read(topic_of(1), -1)) == ("unavailable", "log_id")
            assert log.log_id == before
        async with opened(gateway) as log:
            assert log.log_id == renewed
            assert await log.read(MAILBOX, -1) == []
            [placed] = appended(await log.append([sent[0]]))
            assert placed.offset == 0
        assert not (await kafka_admin.apply(admin, harness.maker.domain.registry, nodes=1)).findings

    run(story())


def test_a_topic_that_was_deleted_is_unavailable_not_unknown_so_that_no_sender_gives_up(
    harness: KafkaHarness, gateway: KafkaAccess, admin: KafkaAccess
) -> None:
    async def story() -> None:
        async with opened(gateway) as log, opened(admin) as administrator:
            waiting = asyncio.ensure_future(log.read(MAILBOX, -1, wait_s=20))
            await asyncio.sleep(0.1)
            await administrator.delete_topic(MAILBOX)
            assert await until_refused(lambda: log.ends(MAILBOX)) == ("unavailable", MAILBOX)
            [answer] = await log.append([harness.maker.entry(0, 0, 0)])
            assert isinstance(answer, LogError)
            assert answer.retriable
            waiting.cancel()
            # Applying makes it again; it stays refused until somebody says that this was meant.
            applied = await kafka_admin.apply(admin, harness.maker.domain.registry, nodes=1)
            assert applied.created == (MAILBOX,)
            assert applied.findings == (kafka_admin.Finding("replaced", MAILBOX),)
            await KafkaLog.renew_identity(admin, domain="bi", random_id=random_id)
        async with opened(gateway) as log:
            appended(await log.append([harness.maker.entry(0, 0, 0)]))

    run(story())


def test_a_topic_that_nobody_recorded_is_not_served(gateway: KafkaAccess, admin: KafkaAccess) -> None:
    async def story() -> None:
        with raw(admin) as clients:
            clients.create([kafka_topic("bi.case.somebody", 1)])
        async with opened(admin) as log:
            assert await refusal(log.read("bi.case.somebody", -1)) == ("unavailable", "bi.case.somebody")
            await log.create_topics(["bi.case.somebody"])  # this records it
            assert await log.read("bi.case.somebody", -1) == []
            assert "bi.case.somebody" in await log.topics()
        async with opened(gateway) as log:  # recorded, but not for this principal
            assert await refusal(log.read("bi.case.somebody", -1)) == ("not_permitted", "bi.case.somebody")
            [answer] = await log.append([Entry("bi.case.somebody", b"k", "bi/iom/1", b"v")])
            assert isinstance(answer, LogError)
            assert answer.code == "not_permitted"

    run(story())


def test_a_domain_without_a_log_is_said_at_opening_and_an_administrator_makes_it(
    gateway: KafkaAccess, admin: KafkaAccess
) -> None:
    async def story() -> None:
        with raw(admin) as clients:
            clients.delete_topic("bi.registry.log")
        assert (await refusal(open_kafka(admin)))[0] == "unavailable"
        logs = await asyncio.gather(
            *(KafkaLog.open(admin, domain="bi", random_id=random_id, create=True) for _ in range(3))
        )
        assert len({log.log_id for log in logs}) == 1
        await asyncio.gather(*(log.close() for log in logs))

    run(story())


# ---------------------------------------------------------------- grants


def test_grants_that_another_gateway_put_are_seen_and_a_lost_view_is_made_again(
    harness: KafkaHarness, gateway: KafkaAccess, tmp_path: Path
) -> None:
    view = tmp_path / "view"

    async def story() -> None:
        async with opened(gateway, view) as one, opened(gateway) as other:
            for n in range(30):
                await other.put_grants(GRANTS, {f"bi/n0/{n}|k": b"%d" % n})
                assert await one.get_grants(GRANTS, [f"bi/n0/{n}|k"]) == {f"bi/n0/{n}|k": b"%d" % n}
            await other.delete_grants(GRANTS, ["bi/n0/3|k"])
            assert await one.get_grants(GRANTS, ["bi/n0/3|k", "bi/n0/4|k"]) == {"bi/n0/4|k": b"4"}
        assert view.stat().st_mode & 0o777 == 0o600
        expected = {f"bi/n0/{n}|k": b"%d" % n for n in range(30) if n != 3}
        for damage in (view.unlink, lambda: view.write_bytes(b"damaged" * 999), lambda: None):
            damage()
            async with opened(gateway, view) as log:
                assert await log.get_grants(GRANTS, [f"bi/n0/{n}|k" for n in range(30)]) == expected

    run(story())


def test_a_view_of_the_log_before_it_was_put_back_from_a_copy_is_made_again(
    gateway: KafkaAccess, admin: KafkaAccess, tmp_path: Path
) -> None:
    """The disk keeps its topics' ids, and by then the topic may be longer than the view had read."""

    async def story() -> None:
        async with opened(gateway, tmp_path / "view") as log:
            await log.put_grants(GRANTS, {"bi/n0/1|k": b"1", "bi/n0/2|k": b"2"})
            await log.get_grants(GRANTS, [])
        view = apsw.Connection(str(tmp_path / "view"))
        # What the view had read of the lost end; in its place the log that was put back has grant 1.
        view.execute("UPDATE granted SET key = 'bi/n0/9|k' WHERE key = 'bi/n0/1|k'")
        view.close()
        await KafkaLog.renew_identity(admin, domain="bi", random_id=random_id)
        async with opened(gateway, tmp_path / "view") as log:
            await log.put_grants(GRANTS, {"bi/n0/3|k": b"3"})
            found = await log.get_grants(GRANTS, [f"bi/n0/{n}|k" for n in (1, 2, 3, 9)])
            assert found == {"bi/n0/1|k": b"1", "bi/n0/2|k": b"2", "bi/n0/3|k": b"3"}

    run(story())


def test_what_was_erased_is_in_no_byte_of_the_view(gateway: KafkaAccess, tmp_path: Path) -> None:
    words = b"a grant for somebody invented"

    async def story() -> None:
        async with opened(gateway, tmp_path / "view") as log:
            await log.put_grants(GRANTS, {"bi/n0/1|k": words * 60})
            await log.get_grants(GRANTS, [])
            assert words in (tmp_path / "view").read_bytes()
            await log.delete_grants(GRANTS, ["bi/n0/1|k"])
            assert words not in b"".join(file.read_bytes() for file in tmp_path.glob("view*"))

    run(story())


QUICK: dict[str, str | None] = {
    "segment.ms": "1000",
    "max.compaction.lag.ms": "1000",
    "file.delete.delay.ms": "100",
}


def on_disk(topic: str) -> bytes:
    found = b""
    for folder, _, files in os.walk(_shared().folder):  # which passes by what is deleted meanwhile
        for name in files if folder.endswith(f"{os.sep}{topic}-0") else ():
            with contextlib.suppress(FileNotFoundError):  # compaction is at work
                found += Path(folder, name).read_bytes()
    return found


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_log, "SWEEP_FIRST_S", 0.2)
    monkeypatch.setattr(kafka_log, "SWEEP_S", 0.5)
    monkeypatch.setattr(kafka_log, "_rolls_after_ms", lambda: 2000)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kept", [True, False], ids=["with its view", "with a view made again"])
def test_erased_bytes_leave_the_brokers_although_nobody_writes_there_again(
    gateway: KafkaAccess, admin: KafkaAccess, tmp_path: Path, kept: bool
) -> None:
    words = b"a grant for somebody invented"
    with raw(admin) as clients:
        clients.change_settings({GRANTS: QUICK})

    async def story() -> None:
        async with opened(gateway, tmp_path / "view") as log:
            await log.put_grants(GRANTS, {"bi/n0/1|k": words, "bi/n0/2|k": b"stays"})
            assert words in on_disk(GRANTS)
            await log.delete_grants(GRANTS, ["bi/n0/1|k"])
            assert await log.grants_left(["bi/n0/1", "bi/n0/2", "bi/n0/3"]) == {"bi/n0/1", "bi/n0/2"}
        if not kept:
            (tmp_path / "view").unlink()
        async with opened(gateway, tmp_path / "view") as log:  # the gateway was restarted
            end = time.monotonic() + 150
            while words in on_disk(GRANTS):
                assert time.monotonic() < end
                await asyncio.sleep(0.5)
            assert await log.get_grants(GRANTS, ["bi/n0/1|k", "bi/n0/2|k"]) == {"bi/n0/2|k": b"stays"}
            assert await log.grants_left(["bi/n0/1", "bi/n0/2", "bi/n0/3"]) == {"bi/n0/2"}
            # And then nothing more is written.
            await asyncio.sleep(4)
            with raw(admin) as clients:
                before = clients.ends([GRANTS])
                await asyncio.sleep(4)
                assert clients.ends([GRANTS]) == before

    run(story())


@pytest.mark.usefixtures("hasty")
def test_an_agency_that_sees_an_erasure_leaves_the_rest_to_the_gateway(
    harness: KafkaHarness, gateway: KafkaAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[set[str]] = []
    sent: list[Item] = []

    async def story() -> None:
        async with opened(gateway) as log:
            await log.put_grants(GRANTS, {"bi/n0/1|k": b"1"})
            await log.delete_grants(GRANTS, ["bi/n0/1|k"])
        asked = KafkaLog._grants_of_ours

        def ask(log: KafkaLog) -> set[str]:
            swept.append(asked(log))
            return swept[-1]

        monkeypatch.setattr(KafkaLog, "_grants_of_ours", ask)
        monkeypatch.setattr(Clients, "produce", lambda _self, items, *_more: sent.extend(items))
        async with opened(_shared().access("bi/k7t4")) as log:
            assert await log.get_grants(GRANTS, ["bi/n0/1|k"]) == {}
            await asyncio.sleep(4)

    run(story())
    assert swept == [set(), set()]  # when it was opened, and for the erasure; not at every sweep
    assert sent == []


def test_a_clock_ahead_never_refuses_a_grant_for_good(gateway: KafkaAccess, admin: KafkaAccess) -> None:
    """Where somebody made a topic take its writers' clocks."""
    ahead = Item(GRANTS, b"bi/n0/1|k", b"1", at_ms=time.time_ns() // 1_000_000 + 86_400_000)
    with raw(admin) as clients, raw(gateway) as writer:
        [placed] = writer.produce([ahead])
        assert not isinstance(placed, LogError)  # by the catalogue's setting its own clock counts
        clients.change_settings({GRANTS: {"message.timestamp.type": "CreateTime"}})
        end = time.monotonic() + 10
        while not isinstance(answer := writer.produce([ahead])[0], LogError):
            assert time.monotonic() < end
    assert (answer.code, answer.path, answer.retriable) == ("unavailable", GRANTS, True)


def test_only_a_grants_topic_holds_grants(gateway: KafkaAccess) -> None:
    async def story() -> None:
        async with opened(gateway) as log:
            for topic in (MAILBOX, "bi.registry.log", "bi.grants.nobody"):
                assert (await refusal(log.put_grants(topic, {"a|k": b"1"})))[0] == "topic_unknown"
                assert (await refusal(log.get_grants(topic, ["a|k"])))[0] == "topic_unknown"
            assert (await refusal(log.put_grants(GRANTS, {"a|k": b"x" * (MAX_VALUE_BYTES + 1)})))[0] == "too_large"

    run(story())


# ---------------------------------------------------------------- many readers, threads, the event loop


def test_hundreds_of_waiting_readers_take_few_threads_and_nearly_no_time(
    harness: KafkaHarness, gateway: KafkaAccess
) -> None:
    async def story() -> None:
        async with opened(gateway) as log:
            before = threading.active_count()
            topics = (topic_of(0), topic_of(1), topic_of(2))
            waiting = [
                asyncio.ensure_future(log.poll({topics[n % 3]: -1, "bi.receipt.iom": -1}, wait_s=40))
                for n in range(300)
            ]
            await asyncio.sleep(1.5)
            assert threading.active_count() - before < 20
            rested: list[float] = []
            while not rested or (rested[-1] >= 0.4 and len(rested) < 4):  # of some two seconds, on a busy machine
                spent = time.process_time()
                await asyncio.sleep(2)
                rested.append(time.process_time() - spent)
            assert rested[-1] < 0.4
            for number in (0, 1):
                entry = harness.maker.entry(0, number, 0)
                appended(await log.append([entry]))
                woken = await asyncio.gather(*waiting[number::3])
                assert all(len(found) == 1 and same(found[0], entry) for found in woken)
            assert not any(one.done() for one in waiting[2::3])
        for one in waiting[2::3]:
            with pytest.raises(LogError, match="log_closed"):
                await one

    run(story())


def test_nothing_blocks_the_event_loop_and_everything_that_was_started_ends(
    harness: KafkaHarness, gateway: KafkaAccess, tmp_path: Path
) -> None:
    async def story() -> float:
        gaps, last = [0.0] * 3, time.monotonic()
        done = asyncio.Event()

        async def watch() -> None:
            nonlocal last
            while not done.is_set():
                await asyncio.sleep(0.005)
                gaps.append(time.monotonic() - last)
                last = time.monotonic()

        watching = asyncio.ensure_future(watch())
        async with opened(gateway, tmp_path / "view") as log:
            value = os.urandom(100_000)
            for n in range(5):
                entries = [Entry(MAILBOX, b"k", f"bi/n0/{n}-{i}", value) for i in range(20)]
                await asyncio.gather(
                    log.append(entries), log.read(MAILBOX, -1), log.put_grants(GRANTS, {f"{n}|k": b"g"})
                )
            await log.get_grants(GRANTS, ["0|k"])
            await log.poll({MAILBOX: 10**6, topic_of(1): -1}, wait_s=0.3)
        done.set()
        await watching
        return sorted(gaps)[-3]  # the machine may stop twice; a call that blocks does so in each round

    before = {thread.name for thread in threading.enumerate()}
    # The interpreter's own lock makes a few milliseconds; a call of the library's would make dozens.
    assert run(story()) < 0.2
    end = time.monotonic() + 10
    while (left := {thread.name for thread in threading.enumerate()} - before) and time.monotonic() < end:
        time.sleep(0.05)
    assert not left


# ---------------------------------------------------------------- limits and order


def test_a_call_larger_than_a_batch_keeps_its_order_and_its_answers(gateway: KafkaAccess) -> None:
    async def story() -> None:
        async with opened(gateway) as log:
            value = os.urandom(300_000)
            entries = [
                Entry(MAILBOX if n % 4 else topic_of(1), b"k", f"bi/n0/{n}", value + b"%d" % n) for n in range(24)
            ]
            answers = appended(await log.append(entries))
            for topic in (MAILBOX, topic_of(1)):
                mine = [(e, a.offset) for e, a in zip(entries, answers, strict=True) if e.topic == topic]
                stored = await everything(log, topic)
                assert [s.ident for s in stored] == [e.ident for e, _ in mine]
                assert [s.offset for s in stored] == [offset for _, offset in mine]

    run(story())


def test_the_largest_entry_fits_and_too_much_around_it_is_refused_before_it_is_sent(gateway: KafkaAccess) -> None:
    async def story() -> None:
        async with opened(gateway) as log:
            full = Entry(MAILBOX, b"k" * 22, "bi/n0/1", b"x" * MAX_VALUE_BYTES, (("ce_id", b"i" * 36),))
            around = replace(full, ident="bi/n0/2", headers=(("ce_id", b"i" * 200_000),))
            placed, no = await log.append([full, around])
            assert not isinstance(placed, LogError)
            assert isinstance(no, LogError)
            assert no.code == "too_large"
            [stored] = await log.read(MAILBOX, -1, max_bytes=1)
            assert same(stored, full)

    run(story())


# ---------------------------------------------------------------- what is on the wire


def test_headers_travel_as_they_are_with_the_ident_behind_them(harness: KafkaHarness, gateway: KafkaAccess) -> None:
    entry = harness.maker.entry(0, 0, 0)

    async def story() -> None:
        async with opened(gateway) as log:
            appended(await log.append([entry]))

    run(story())
    with raw(gateway) as clients:
        consumer = clients.new_consumer(5)
        # Not imported above: the library warns when it is imported by anybody but the driver.
        place = importlib.import_module("kafka").TopicPartition(MAILBOX, 0)
        consumer.assign([place])
        consumer.seek(place, 0)
        [record] = consumer.poll(10_000)[place]
        consumer.close()
    assert (record.key, record.value) == (entry.key, entry.value)
    assert list(record.headers) == [*entry.headers, (IDENT_HEADER, entry.ident.encode())]
    assert {name for name, _ in entry.headers} >= {"ce_specversion", "ce_id", "ce_source", "ce_type"}


def test_what_another_program_wrote_is_handed_on_for_its_reader_to_refuse(
    harness: KafkaHarness, gateway: KafkaAccess
) -> None:
    entry = harness.maker.entry(0, 0, 0)

    async def story() -> None:
        with raw(gateway) as clients:
            clients.produce([Item(MAILBOX, b"", None), Item(MAILBOX, b"\xff", b"", ((IDENT_HEADER, b"\xff\xfe"),))])
        async with opened(gateway) as log:
            appended(await log.append([entry]))
            nothing, odd, good = await log.read(MAILBOX, -1)
            assert (nothing.ident, nothing.value, nothing.key) == ("", b"", b"")
            assert odd.key == b"\xff"
            assert "/" not in odd.ident
            assert same(good, entry)

    run(story())


def test_no_log_line_of_the_library_holds_what_was_sent(
    harness: KafkaHarness, gateway: KafkaAccess, admin: KafkaAccess
) -> None:
    planted = "Ndayizeye-invented"
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()} {record.exc_text or ''}")

    handler = Keep(logging.DEBUG)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)

    async def story() -> None:
        async with opened(gateway) as log:
            entry = Entry(
                MAILBOX, planted.encode(), f"bi/n0/{planted}", planted.encode(), (("ce_id", planted.encode()),)
            )
            appended(await log.append([entry]))
            await log.read(MAILBOX, -1)
            await log.put_grants(GRANTS, {f"{planted}|k": planted.encode()})
            await log.get_grants(GRANTS, [f"{planted}|k"])
            with raw(admin) as clients:
                clients.delete_topic(MAILBOX)
            await until_refused(lambda: log.ends(MAILBOX))
            await log.append([entry])

    try:
        run(story())
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert not [line for line in lines if planted in line]
    assert not [line for line in lines if line.startswith(("DEBUG kafka", "INFO kafka"))]
