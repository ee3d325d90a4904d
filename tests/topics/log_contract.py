# SPDX-License-Identifier: Apache-2.0
"""The log contract as checks: every driver passes all of them. Expectations come from `topics/log.py` only.

A driver is added by one `Harness` and one line in its test module:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_the_log_contract(check, tmp_path):
        with MyHarness(tmp_path) as harness:
            check(harness)

Entries are real signed records in valid chains, one issuer per concurrent writer, so that a driver that goes through a
gateway is served as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import pytest

from schemas.envelope import Kind, mailbox_topic
from schemas.errors import LogError, UmuhuzaError
from schemas.sealing import make_grant, parse_grant
from tests.domain import Domain, Signed
from topics.log import MAX_VALUE_BYTES, Appended, Entry, Log, Stored, grant_key, grants_topic

MAILBOXES: tuple[tuple[str, str, Kind], ...] = (
    ("bi/k7t4", "referral", "request"),
    ("bi/k7t4", "receipt", "control"),
    ("bi/r5w2", "referral", "request"),
)
"""Mailbox number -> owner, flow, kind of what is sent there. 0 and 1 have one reader, 2 another."""
ISSUERS = 6
SOON_S = 20.0
"""What should take milliseconds; generous, because two cores are shared."""

T = TypeVar("T")


@dataclass
class EntryMaker:
    """Records of the issuers `bi/n0`, `bi/n1`, ...: n-th of a chain, made once, in order.

    Two makers with one seed have the same registry and keys, but not the same records: one issuer belongs to one
    process.
    """

    seed: str = "log contract"
    domain: Domain = field(init=False)
    _made: dict[tuple[int, int], list[Signed]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.domain = Domain(self.seed, extra_issuers=ISSUERS)

    def signed(self, issuer: int, mailbox: int, n: int, size: int = 1024) -> Signed:
        chain = self._made.setdefault((issuer, mailbox), [])
        while len(chain) <= n:
            to, flow, kind = MAILBOXES[mailbox]
            # Padded up to 1, 4, 16, ... KiB: a size is reached by content of that size less its padding's minimum.
            content = b'{"n":"%s"}' % (b"x" * max(1, size - 64))
            chain.append(self.domain.record(f"bi/n{issuer}", to, flow, kind, content=content))
        return chain[n]

    def entry(self, issuer: int, mailbox: int, n: int, *, size: int | None = None) -> Entry:
        return self.signed(issuer, mailbox, n, size or 1024).entry

    def conflicting(self, issuer: int, mailbox: int, n: int) -> Entry:
        """Another record, truly signed, under the n-th one's event identifier."""
        first = self.signed(issuer, mailbox, n).manifest
        to, flow, kind = MAILBOXES[mailbox]
        return self.domain.record(
            f"bi/n{issuer}", to, flow, kind, content=b'{"other":1}', evt=first.evt, seq=first.seq, prev=first.prev,
            chain=False,
        ).entry  # fmt: skip

    def grants(self, issuer: int, mailbox: int, n: int) -> tuple[str, dict[str, bytes]]:
        """Grants topic, and key -> grant of the n-th record; sealed anew each time, so never the same bytes."""
        signed = self.signed(issuer, mailbox, n)
        to = MAILBOXES[mailbox][0]
        grant = make_grant(signed.manifest, signed.keys, to, self.domain.members[to].seal.public)
        return grants_topic(to), {grant_key(signed.manifest.ident, parse_grant(grant).kid): grant}


@dataclass(frozen=True)
class SmallDisk:
    """A log whose disk can be filled to the last byte and freed."""

    log: Log
    fill: Callable[[], None]
    free: Callable[[], None]


class Harness(Protocol):
    """One log, empty at first, with the topics of MAILBOXES; its agencies are those of `maker.domain`."""

    maker: EntryMaker
    recognises_repeats: bool
    """Whether the log knows an `ident` again; else it may hold a second copy, and readers know it again (Kafka)."""

    def open_writer(self, issuer: int) -> Log:
        """A new handle of this issuer's; the check closes it."""

    def open_reader(self, mailbox: int) -> Log:
        """A new handle of the mailbox's owner; the check closes it."""

    def reopen(self) -> None:
        """Stop whatever serves the log and start it again upon the same storage. All handles are closed."""

    async def trim(self, topic: str, before: int) -> None:
        """Retention, carried out by whoever may."""

    async def erase(self, ident: str, issuer: int, mailbox: int) -> None:
        """What must precede `delete_grants` by the mailbox's owner (over HTTP: a signed record with acts.erase)."""

    def small_disk(self) -> AbstractContextManager[SmallDisk] | None:
        """None where the storage is not the driver's: then this check is not among the driver's."""

    def writer_process(self, issuer: int, mailbox: int, count: int) -> Sequence[str]:
        """The command of a process that appends `count` records one by one and prints `ack_line` of each answer."""

    def kill(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL that process and whatever process acknowledges for it."""

    def close(self) -> None:
        """Stop what was started."""


def ack_line(entry: Entry, placed: Appended) -> str:
    return f"{entry.ident} {placed.offset} {hashlib.sha256(entry.value).hexdigest()}"


def topic_of(mailbox: int) -> str:
    owner, flow, _ = MAILBOXES[mailbox]
    return mailbox_topic(flow, owner)


Check = Callable[[Harness], None]
CHECKS: list[Check] = []


def check(scenario: Callable[[Harness], Coroutine[Any, Any, None]]) -> Check:
    """Registers a scenario; it must end within three minutes."""

    def run(harness: Harness) -> None:
        asyncio.run(asyncio.wait_for(scenario(harness), 180))

    run.__name__ = scenario.__name__
    run.__doc__ = scenario.__doc__
    CHECKS.append(run)
    return run


# ---------------------------------------------------------------- what the checks are made of


def placed(answers: Sequence[Appended | UmuhuzaError]) -> list[Appended]:
    for answer in answers:
        if isinstance(answer, UmuhuzaError):
            raise answer
    return [answer for answer in answers if isinstance(answer, Appended)]


def code(answer: Appended | UmuhuzaError) -> str:
    return answer.code if isinstance(answer, UmuhuzaError) else "appended"


async def refusal(call: Awaitable[object]) -> LogError:
    with pytest.raises(LogError) as caught:
        await call
    return caught.value


async def everything(log: Log, topic: str) -> list[Stored]:
    found: list[Stored] = []
    while more := await log.read(topic, found[-1].offset if found else -1):
        found += more
    return found


def same(stored: Stored, entry: Entry) -> bool:
    return (stored.topic, stored.key, stored.ident, stored.value, stored.headers) == (
        entry.topic,
        entry.key,
        entry.ident,
        entry.value,
        entry.headers,
    )


def first_copies(stored: Sequence[Stored]) -> list[Stored]:
    """What a reader keeps who knows records again by `ident`; later copies must be the same bytes."""
    known: dict[str, Stored] = {}
    for one in stored:
        assert known.setdefault(one.ident, one).value == one.value
    return list(known.values())


def entries(harness: Harness, issuer: int, mailbox: int, count: int, start: int = 0) -> list[Entry]:
    return [harness.maker.entry(issuer, mailbox, n) for n in range(start, start + count)]


@contextlib.asynccontextmanager
async def opened(*logs: Log) -> Any:
    try:
        yield
    finally:
        for log in logs:
            await log.close()


# ---------------------------------------------------------------- order


@check
async def entries_take_dense_ascending_offsets_in_the_order_given(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        sent = entries(harness, 0, 0, 12)
        answers = placed(await writer.append(sent[:5])) + placed(await writer.append(sent[5:]))
        assert [answer.offset for answer in answers] == list(range(12))
        assert not any(answer.copy for answer in answers)
        stored = await everything(reader, topic_of(0))
        assert [s.offset for s in stored] == list(range(12))
        assert all(same(s, e) for s, e in zip(stored, sent, strict=True))
        assert [s.at_ms for s in stored] == [a.at_ms for a in answers]
        times = [s.at_ms for s in stored]
        assert times == sorted(times)
        ends = await reader.ends(topic_of(0))
        assert (ends.first, ends.next) == (0, 12)


@check
async def topics_count_by_themselves(harness: Harness) -> None:
    writer, first, second = harness.open_writer(0), harness.open_reader(0), harness.open_reader(2)
    async with opened(writer, first, second):
        mixed = [entry for n in range(4) for entry in (harness.maker.entry(0, 0, n), harness.maker.entry(0, 2, n))]
        answers = placed(await writer.append(mixed))
        assert [a.offset for a in answers] == [0, 0, 1, 1, 2, 2, 3, 3]
        assert [s.ident for s in await first.read(topic_of(0), -1)] == [e.ident for e in mixed[0::2]]
        assert [s.ident for s in await second.read(topic_of(2), -1)] == [e.ident for e in mixed[1::2]]


@check
async def concurrent_calls_never_interleave_inside_one_topic(harness: Harness) -> None:
    writers = [harness.open_writer(issuer) for issuer in range(3)]
    async with opened(*writers):
        calls = [
            writer.append(entries(harness, issuer, 0, 8, start))
            for issuer, writer in enumerate(writers)
            for start in (0, 8)
        ]
        # One issuer's second call is made after its first: its chain has to arrive in order.
        answers = [placed(a) for a in await asyncio.gather(*calls[0::2])]
        answers += [placed(a) for a in await asyncio.gather(*calls[1::2])]
        for call in answers:
            offsets = [a.offset for a in call]
            assert offsets == list(range(offsets[0], offsets[0] + 8))
        assert sorted(a.offset for call in answers for a in call) == list(range(48))


@check
async def an_empty_call_is_answered_with_nothing(harness: Harness) -> None:
    writer = harness.open_writer(0)
    async with opened(writer):
        assert await writer.append([]) == []


# ---------------------------------------------------------------- retries


@check
async def a_retry_finds_the_first_copy(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        sent = entries(harness, 0, 0, 4)
        first = placed(await writer.append(sent[:3]))
        again = placed(await writer.append([sent[1], sent[3], sent[0]]))
        stored = await everything(reader, topic_of(0))
        assert [s.ident for s in first_copies(stored)] == [e.ident for e in sent]
        if not harness.recognises_repeats:
            assert [(a.copy, stored[a.offset].ident) for a in again] == [(False, sent[n].ident) for n in (1, 3, 0)]
            return
        assert [a.copy for a in again] == [True, False, True]
        assert [(a.offset, a.at_ms) for a in (again[0], again[2])] == [
            (a.offset, a.at_ms) for a in (first[1], first[0])
        ]
        assert again[1].offset == 3
        assert len(stored) == 4


@check
async def the_same_entry_twice_in_one_call_is_there_once(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        first, second = entries(harness, 0, 0, 2)
        answers = placed(await writer.append([first, first, second]))
        stored = await everything(reader, topic_of(0))
        assert [s.ident for s in first_copies(stored)] == [first.ident, second.ident]
        if not harness.recognises_repeats:
            assert [(a.offset, a.copy) for a in answers] == [(0, False), (1, False), (2, False)]
            return
        assert [(a.offset, a.copy) for a in answers] == [(0, False), (0, True), (1, False)]
        assert len(stored) == 2


@check
async def other_bytes_under_a_known_event_are_a_conflict(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        first, second = entries(harness, 0, 0, 2)
        placed(await writer.append([first]))
        answers = await writer.append([harness.maker.conflicting(0, 0, 0), second])
        stored = await everything(reader, topic_of(0))
        if not harness.recognises_repeats:  # the reader notices: one ident, two values
            assert [code(a) for a in answers] == ["appended", "appended"]
            assert [s.ident for s in stored] == [first.ident, first.ident, second.ident]
            assert [stored[0].value, stored[2].value] == [first.value, second.value]
            assert stored[1].value != first.value
            return
        assert [code(a) for a in answers] == ["evt_conflict", "appended"]
        assert [s.value for s in stored] == [first.value, second.value]


@check
async def a_cancelled_append_is_whole_or_absent_and_can_be_made_again(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        sent = entries(harness, 0, 0, 30)
        for start in range(0, 30, 3):
            call = asyncio.ensure_future(writer.append(sent[start : start + 3]))
            for _ in range(start // 3):
                await asyncio.sleep(0)
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call
            placed(await writer.append(sent[start : start + 3]))
        stored = await everything(reader, topic_of(0))
        assert [s.ident for s in first_copies(stored)] == [e.ident for e in sent]
        assert [s.offset for s in stored] == list(range(len(stored)))
        # Whole or absent, and at most twice; a log that knows repeats again holds none of them twice.
        calls = [stored[at : at + 3] for at in range(0, len(stored), 3)]
        starts = [[e.ident for e in sent[at : at + 3]] for at in range(0, 30, 3)]
        assert all([s.ident for s in call] in starts for call in calls)
        assert len(stored) <= (30 if harness.recognises_repeats else 60)


# ---------------------------------------------------------------- refusals


@check
async def one_refused_entry_refuses_no_other(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        good = entries(harness, 0, 0, 2)
        nowhere = replace(harness.maker.entry(0, 1, 0), topic="bi.referral.nobody")
        huge = replace(harness.maker.entry(0, 2, 0), value=b"x" * (MAX_VALUE_BYTES + 1))
        answers = await writer.append([good[0], huge, nowhere, good[1]])
        codes = [code(a) for a in answers]
        assert codes[0] == codes[3] == "appended"
        assert codes[1] == "too_large"
        # A gateway sees first that the record names another mailbox than the one it was put into.
        assert codes[2] in ("topic_unknown", "topic_mismatch")
        assert [s.offset for s in await everything(reader, topic_of(0))] == [0, 1]


@check
async def what_is_not_a_topic_is_said(harness: Harness) -> None:
    reader = harness.open_reader(0)
    async with opened(reader):
        assert (await refusal(reader.read("bi.case.nobody", -1))).code == "topic_unknown"
        assert (await refusal(reader.ends("bi.case.nobody"))).code == "topic_unknown"
        error = await refusal(reader.poll({topic_of(0): -1, "bi.case.nobody": -1}))
        assert (error.code, error.path) == ("topic_unknown", "bi.case.nobody")


# ---------------------------------------------------------------- reading


@check
async def reading_goes_on_behind_the_cursor_within_the_limits(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        sent = entries(harness, 0, 0, 9)
        placed(await writer.append(sent))
        size = max(len(e.value) for e in sent)
        topic = topic_of(0)
        assert [s.offset for s in await reader.read(topic, 3)] == [4, 5, 6, 7, 8]
        assert [s.offset for s in await reader.read(topic, -1, limit=4)] == [0, 1, 2, 3]
        assert [s.offset for s in await reader.read(topic, 1, max_bytes=3 * size)] == [2, 3, 4]
        assert [s.offset for s in await reader.read(topic, 1, max_bytes=1)] == [2]
        assert await reader.read(topic, 8) == []
        assert await reader.read(topic, 500) == []


@check
async def a_poll_gives_every_topic_its_share(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        for mailbox in (0, 1):
            placed(await writer.append(entries(harness, 0, mailbox, 20)))
        one, other = topic_of(0), topic_of(1)
        found = await reader.poll({one: -1, other: -1}, limit=12)
        shares = {topic: [s.offset for s in found if s.topic == topic] for topic in (one, other)}
        assert sum(map(len, shares.values())) == 12
        for offsets in shares.values():
            assert offsets == list(range(len(offsets)))
            assert len(offsets) >= 3
        # Even a limit of one entry a call starves nobody.
        cursors = {one: -1, other: -1}
        for _ in range(8):
            [stored] = await reader.poll(cursors, max_bytes=1, limit=1)
            cursors[stored.topic] = stored.offset
        assert min(cursors.values()) >= 0
        # What one has no use for is the other's.
        assert len(await reader.poll({one: 17, other: -1}, limit=20)) == 20


@check
async def a_long_wait_ends_with_the_first_entry(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        first, second = entries(harness, 0, 0, 2)
        waiting = asyncio.ensure_future(reader.read(topic_of(0), -1, wait_s=30))
        await asyncio.sleep(0.1)  # so that it does wait; the check holds either way
        assert not waiting.done()
        placed(await writer.append([first]))
        [stored] = await asyncio.wait_for(waiting, SOON_S)
        assert same(stored, first)
        polling = asyncio.ensure_future(reader.poll({topic_of(0): 0, topic_of(1): -1}, wait_s=30))
        await asyncio.sleep(0.1)
        placed(await writer.append([second]))
        [stored] = await asyncio.wait_for(polling, SOON_S)
        assert same(stored, second)


@check
async def a_long_wait_for_nothing_returns_nothing(harness: Harness) -> None:
    reader = harness.open_reader(0)
    async with opened(reader):
        before = time.monotonic()
        assert await reader.read(topic_of(0), -1, wait_s=0.3) == []
        assert await reader.poll({topic_of(0): -1, topic_of(1): -1}, wait_s=0.3) == []
        assert 0.55 < time.monotonic() - before < 0.6 + SOON_S


@check
async def a_long_wait_notices_another_process(harness: Harness) -> None:
    reader = harness.open_reader(0)
    async with opened(reader):
        waiting = asyncio.ensure_future(reader.read(topic_of(0), -1, wait_s=30))
        process = await started(harness, 1, 0, 1)
        line = await next_line(process)
        [stored] = await asyncio.wait_for(waiting, SOON_S)
        assert line.startswith(stored.ident)
        await ended(process)


@check
async def below_the_first_kept_offset_nothing_is_skipped_silently(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        sent = entries(harness, 0, 0, 7)
        placed(await writer.append(sent[:6]))
        topic = topic_of(0)
        await harness.trim(topic, 4)
        ends = await reader.ends(topic)
        assert (ends.first, ends.next) == (4, 6)
        for cursor in (-1, 2):
            assert (await refusal(reader.read(topic, cursor))).code == "retention_passed"
        error = await refusal(reader.poll({topic: 2}))
        assert (error.code, error.path) == ("retention_passed", topic)
        assert [s.offset for s in await reader.read(topic, 3)] == [4, 5]
        await harness.trim(topic, 6)
        assert await reader.read(topic, 5) == []
        assert placed(await writer.append(sent[6:]))[0].offset == 6


# ---------------------------------------------------------------- grants


@check
async def grants_are_put_found_and_replaced(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        topic, old = harness.maker.grants(0, 0, 0)
        _, new = harness.maker.grants(0, 0, 0)
        [key] = old
        assert old[key] != new[key]
        await writer.put_grants(topic, old)
        assert await writer.get_grants(topic, [key]) == old
        await writer.put_grants(topic, new)
        assert await writer.get_grants(topic, [key]) == new
        placed(await writer.append([harness.maker.entry(0, 0, 0)]))
        absent = grant_key("bi/n0/absent", "k")
        assert await reader.get_grants(topic, [absent, key]) == new
        assert await reader.get_grants(topic, []) == {}


@check
async def a_deleted_grant_is_gone_and_the_record_stays(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        keys = []
        topic = ""
        for n in range(2):
            topic, grants = harness.maker.grants(0, 0, n)
            await writer.put_grants(topic, grants)
            placed(await writer.append([harness.maker.entry(0, 0, n)]))
            keys += list(grants)
        await harness.erase(harness.maker.entry(0, 0, 0).ident, 0, 0)
        await reader.delete_grants(topic, [keys[0]])
        await reader.delete_grants(topic, [keys[0]])
        assert list(await reader.get_grants(topic, keys)) == [keys[1]]
        assert [s.offset for s in await reader.read(topic_of(0), -1)] == [0, 1]
    harness.reopen()
    reader = harness.open_reader(0)
    async with opened(reader):
        assert list(await reader.get_grants(topic, keys)) == [keys[1]]


# ---------------------------------------------------------------- closing, reopening, dying


@check
async def a_closed_log_says_so(harness: Harness) -> None:
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        waiting = asyncio.ensure_future(reader.read(topic_of(0), -1, wait_s=30))
        await asyncio.sleep(0.1)
        await reader.close()
        assert (await refusal(asyncio.wait_for(waiting, SOON_S))).code == "log_closed"
        await reader.close()
        await writer.close()
        [answer] = await writer.append([harness.maker.entry(0, 0, 0)])
        assert code(answer) == "log_closed"
        topic, grants = harness.maker.grants(0, 0, 0)
        calls: list[Awaitable[object]] = [
            reader.read(topic_of(0), -1),
            reader.poll({topic_of(0): -1}),
            reader.ends(topic_of(0)),
            reader.get_grants(topic, list(grants)),
            writer.put_grants(topic, grants),
            reader.delete_grants(topic, list(grants)),
        ]
        for call in calls:
            assert (await refusal(call)).code == "log_closed"


@check
async def the_log_is_the_same_after_reopening(harness: Harness) -> None:
    sent = entries(harness, 0, 0, 3)
    topic, grants = harness.maker.grants(0, 0, 1)
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        await writer.put_grants(topic, grants)
        placed(await writer.append(sent[:2]))
        await reader.ends(topic_of(0))
        log_id = reader.log_id
        assert log_id
    harness.reopen()
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        answers = placed(await writer.append(sent))
        stored = await everything(reader, topic_of(0))
        assert all(same(s, e) for s, e in zip(first_copies(stored), sent, strict=True))
        if harness.recognises_repeats:
            assert [(a.offset, a.copy) for a in answers] == [(0, True), (1, True), (2, False)]
            assert len(stored) == 3
        else:
            assert [(a.offset, a.copy) for a in answers] == [(2, False), (3, False), (4, False)]
        assert await reader.get_grants(topic, list(grants)) == grants
        assert reader.log_id == log_id


async def started(harness: Harness, issuer: int, mailbox: int, count: int) -> subprocess.Popen[str]:
    command = list(harness.writer_process(issuer, mailbox, count))
    return await asyncio.to_thread(
        subprocess.Popen, command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )


async def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).strip()


async def ended(process: subprocess.Popen[str]) -> list[str]:
    """The lines not read yet, once the process is gone."""
    # Not communicate(): it passes over what `readline` has read ahead.
    with process:
        assert process.stdout is not None
        return (await asyncio.to_thread(process.stdout.read)).splitlines()


@check
async def what_was_acknowledged_survives_a_killed_process(harness: Harness) -> None:
    """SIGKILL at once after an acknowledgement, in the middle of the next append."""
    process = await started(harness, 1, 0, 200)
    lines = [await next_line(process) for _ in range(3)]
    harness.kill(process)
    lines += [line for line in await ended(process) if line.count(" ") == 2]
    assert all(lines)
    harness.reopen()
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        placed(await writer.append([harness.maker.entry(0, 0, 0)]))
        stored = await everything(reader, topic_of(0))
        assert [s.offset for s in stored] == list(range(len(stored)))
        kept = {f"{s.ident} {s.offset} {hashlib.sha256(s.value).hexdigest()}" for s in stored}
        assert kept >= set(lines)
        # Killed between the sync and the answer, one more may be there.
        assert len(lines) + 1 <= len(stored) <= len(lines) + 2


@check
async def writers_in_several_processes_lose_nothing(harness: Harness) -> None:
    count = 40
    processes = [await started(harness, issuer, 0, count) for issuer in (1, 2, 3)]
    writer, reader = harness.open_writer(0), harness.open_reader(0)
    async with opened(writer, reader):
        mine = [ack_line(e, placed(await writer.append([e]))[0]) for e in entries(harness, 0, 0, count)]
        acks = [mine, *[await ended(process) for process in processes]]
        assert [process.returncode for process in processes] == [0, 0, 0]
        stored = await everything(reader, topic_of(0))
        assert [s.offset for s in stored] == list(range(4 * count))
        assert [s.at_ms for s in stored] == sorted(s.at_ms for s in stored)
        lines = [f"{s.ident} {s.offset} {hashlib.sha256(s.value).hexdigest()}" for s in stored]
        for issuer, theirs in enumerate(acks):
            assert len(theirs) == count
            assert [line for line in lines if line.startswith(f"bi/n{issuer}/")] == theirs


# ---------------------------------------------------------------- a full disk


async def fill_up_and_go_on(disk: SmallDisk, maker: EntryMaker) -> None:
    """Used by drivers directly too, for further kinds of small disks."""
    kept: list[Entry] = []
    sent = 0

    async def one() -> str:
        nonlocal sent
        entry = maker.entry(0, 0, sent)
        [answer] = await disk.log.append([entry])
        if isinstance(answer, Appended):
            kept.append(entry)
            sent += 1
        return code(answer)

    assert await one() == "appended"
    disk.fill()
    codes = [await one() for _ in range(200)]
    assert codes[-1] == "storage_full"
    assert set(codes) <= {"appended", "storage_full"}
    # Reading goes on.
    assert [s.ident for s in await everything(disk.log, topic_of(0))] == [e.ident for e in kept]
    # In one call exactly what does not fit is refused: a repeat needs no room.
    answers = await disk.log.append([kept[0], maker.entry(0, 0, sent), kept[-1]])
    assert [code(a) for a in answers] == ["appended", "storage_full", "appended"]
    topic, grants = maker.grants(0, 0, sent)
    many = {f"{key}{n}": grant for key, grant in grants.items() for n in range(100)}
    assert (await refusal(disk.log.put_grants(topic, many))).code == "storage_full"
    assert await disk.log.get_grants(topic, list(many)) == {}
    disk.free()
    assert [await one() for _ in range(20)] == ["appended"] * 20
    await disk.log.put_grants(topic, grants)
    assert await disk.log.get_grants(topic, list(grants)) == grants
    stored = await everything(disk.log, topic_of(0))
    assert [s.offset for s in stored] == list(range(len(kept)))
    assert all(same(s, e) for s, e in zip(stored, kept, strict=True))


@check
async def a_full_disk_refuses_exactly_what_does_not_fit(harness: Harness) -> None:
    small = harness.small_disk()
    assert small is not None
    with small as disk:
        async with opened(disk.log):
            await fill_up_and_go_on(disk, harness.maker)


def grant_bytes(grants: Mapping[str, bytes]) -> bytes:
    """A stretch of a grant long enough to be recognised in a file."""
    return next(iter(grants.values()))[-200:]
