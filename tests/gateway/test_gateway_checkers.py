# SPDX-License-Identifier: Apache-2.0
"""Checkers: what other processes say of records is what this one would say, and losing one loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.checkers import OVERDUE_S, Checkers
from gateway.checking import AtOnce, Here
from gateway.examine import Examined, InLog, Refused, Rules, Task, checked, examine
from schemas.errors import LogError
from schemas.registry import Registry
from tests.domain import NOW, Domain
from tests.gateway.gateway_world import World, forged, grant_for, line_of

VECTORS = Path(__file__).parent.parent / "vectors"


def checking(count: int, work: Callable[[Checkers], Awaitable[None]], died: Callable[[], None] = lambda: None) -> None:
    async def run() -> None:
        checkers = await Checkers.start(count, Here(AtOnce()), died=died)
        try:
            await work(checkers)
        finally:
            await checkers.close()

    asyncio.run(run())


def told(found: Examined | Refused) -> tuple[Any, ...]:
    """Everything of an outcome; errors have no equality of their own."""
    if isinstance(found, Refused):
        return (_error(found.error), found.flow, found.kind, found.manifest, found.hash)
    problem = None if found.grants_problem is None else _error(found.grants_problem)
    return (found.manifest, found.value, found.hash, found.grants, problem, found.clock_suspect)


def _error(error: Any) -> tuple[Any, ...]:
    return (type(error), error.code, error.path, error.expected)


def tasks_of(domain: Domain, lines: Sequence[bytes], registry: Registry | None = None) -> list[Task]:
    rules = Rules(registry or domain.registry)
    return [Task(line, "bi/iom", rules, NOW, 64) for line in lines]


def some_lines(world: World) -> list[bytes]:
    """Good ones, one for each refusal that needs a live domain, and every vector."""
    domain = world.domain
    good, other = domain.record(), domain.record("bi/n1")
    late = domain.record(iat=NOW + 300)
    ahead = domain.record(iat=NOW + 200_000)
    without = domain.record()
    control = domain.record("bi/iom", "bi/k7t4", "receipt", "control")
    lines = [
        line_of(good),
        line_of(other),
        line_of(late),
        line_of(ahead),
        line_of(without, []),
        line_of(without, [grant_for(world, without, "bi/police")]),
        line_of(good, [*good.grants, *good.grants]),
        line_of(forged(domain.record())),
        line_of(control),
        b"{",
        b"[]",
        b'{"record":1}',
        b'{"record":"a\\nb","grants":{}}',
    ]
    for name in ("records.json", "bodies.json"):
        inputs = [vector["input"] for vector in json.loads((VECTORS / name).read_text())["vectors"]]
        lines += [
            orjson.dumps({"record": text, "grants": []}) for text in inputs if isinstance(text, str) and text.isascii()
        ]
    return lines


def test_other_processes_say_what_this_one_would(tmp_path: Path) -> None:
    world = World(tmp_path)
    tasks = tasks_of(world.domain, some_lines(world))
    assert len(tasks) > 100

    async def work(checkers: Checkers) -> None:
        assert [told(one) for one in await checkers.examine(tasks)] == [told(examine(task)) for task in tasks]

    checking(2, work)


def test_what_is_in_the_log_is_checked_as_here(tmp_path: Path) -> None:
    domain = World(tmp_path).domain
    good, bad, elsewhere = domain.record(), forged(domain.record()), domain.record()
    stored: list[InLog] = [
        (good.manifest.topic, NOW * 1000, good.value),
        (good.manifest.topic, NOW * 1000, bad.value),
        ("bi.case.k7t4", NOW * 1000, elsewhere.value),
        (good.manifest.topic, 1, good.value),  # before the key was activated
    ]
    rules = Rules(domain.registry)

    async def work(checkers: Checkers) -> None:
        found = await checkers.check(rules, stored)
        assert found == [checked((domain.registry, one)) for one in stored]
        assert [one is not None for one in found] == [True, False, False, False]

    checking(1, work)


def test_many_at_once_get_their_own_answers_in_order(tmp_path: Path) -> None:
    domain = World(tmp_path).domain
    groups = [[line_of(domain.record()) for _ in range(size)] for size in (1, 40, 3, 1, 100, 1)]

    async def work(checkers: Checkers) -> None:
        found = await asyncio.gather(*(checkers.examine(tasks_of(domain, lines)) for lines in groups))
        for lines, outcomes in zip(groups, found, strict=True):
            values = [orjson.loads(line)["record"].encode() for line in lines]
            assert [one.value for one in outcomes if isinstance(one, Examined)] == values

    checking(2, work)


def test_a_key_revoked_meanwhile_counts_at_once(tmp_path: Path) -> None:
    domain = World(tmp_path).domain
    line = line_of(domain.record())
    before = domain.registry
    domain.revoke("bi/iom", domain.members["bi/iom"].sig.kid, at=NOW - 1)

    async def work(checkers: Checkers) -> None:
        [good] = await checkers.examine(tasks_of(domain, [line], before))
        [refused] = await checkers.examine(tasks_of(domain, [line]))
        [again] = await checkers.examine(tasks_of(domain, [line], before))
        assert isinstance(good, Examined)
        assert isinstance(refused, Refused)
        assert refused.error.code == "key_revoked"
        assert isinstance(again, Examined)

    checking(1, work)


def children() -> list[int]:
    """Checkers of this process; tests elsewhere may have left other programs running."""
    found = []
    for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"gateway.checker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


def test_a_killed_checker_costs_a_repeat_and_is_replaced(tmp_path: Path) -> None:
    domain = World(tmp_path).domain
    lines = [line_of(domain.record()) for _ in range(50)]
    deaths: list[None] = []

    async def work(checkers: Checkers) -> None:
        [victim] = children()
        os.kill(victim, signal.SIGSTOP)  # so that it certainly has something in hand
        asked = asyncio.ensure_future(checkers.examine(tasks_of(domain, lines)))
        await asyncio.sleep(0)
        os.kill(victim, signal.SIGKILL)
        for one in await asked:
            assert isinstance(one, Refused)
            assert (one.error.code, one.error.retriable) == ("unavailable", True)
        # Meanwhile this process does it, and then there is another one.
        for one in await checkers.examine(tasks_of(domain, lines[:2])):
            assert isinstance(one, Examined)
        async with asyncio.timeout(60):
            while victim in children() or not children():
                await asyncio.sleep(0.02)
        for one in await checkers.examine(tasks_of(domain, lines)):
            assert isinstance(one, Examined)

    checking(1, work, died=lambda: deaths.append(None))
    assert len(deaths) == 1
    assert children() == []


def asked_of_one_that_stands_still(
    checkers: Checkers, domain: Domain
) -> tuple[int, list[asyncio.Future[list[Examined | Refused]]]]:
    """The first checker is stopped, and forty callers ask about a line each: too few to wake the second for."""
    victim = min(children())
    os.kill(victim, signal.SIGSTOP)
    lines = [line_of(domain.record()) for _ in range(40)]
    return victim, [asyncio.ensure_future(checkers.examine(tasks_of(domain, [line]))) for line in lines]


def test_what_waits_for_a_checker_that_died_goes_to_another(tmp_path: Path) -> None:
    domain = World(tmp_path).domain

    async def work(checkers: Checkers) -> None:
        victim, asked = asked_of_one_that_stands_still(checkers, domain)
        await asyncio.sleep(0)
        os.kill(victim, signal.SIGKILL)
        async with asyncio.timeout(20):
            found = [one for answer in await asyncio.gather(*asked) for one in answer]
        assert any(isinstance(one, Examined) for one in found)
        assert {one.error.code for one in found if isinstance(one, Refused)} <= {"unavailable"}

    checking(2, work)


def test_beside_a_checker_that_hangs_the_idle_one_takes_what_waits(tmp_path: Path) -> None:
    domain = World(tmp_path).domain

    async def work(checkers: Checkers) -> None:
        victim, asked = asked_of_one_that_stands_still(checkers, domain)
        done, waiting = await asyncio.wait(asked, timeout=OVERDUE_S / 2)
        assert len(done) >= 38
        os.kill(victim, signal.SIGCONT)
        if waiting:
            await asyncio.wait(waiting)
        assert all(isinstance(one, Examined) for answer in asked for one in answer.result())

    checking(2, work)


def test_nothing_more_is_put_behind_a_checker_that_is_seen_to_hang(tmp_path: Path) -> None:
    domain = World(tmp_path).domain

    async def work(checkers: Checkers) -> None:
        victim = min(children())
        os.kill(victim, signal.SIGSTOP)
        first = asyncio.ensure_future(checkers.examine(tasks_of(domain, [line_of(domain.record())])))
        await asyncio.wait([first], timeout=1.0)
        async with asyncio.timeout(OVERDUE_S / 2):
            for _ in range(3):
                [one] = await checkers.examine(tasks_of(domain, [line_of(domain.record())]))
                assert isinstance(one, Examined)
        assert not first.done()
        os.kill(victim, signal.SIGCONT)
        await first

    checking(2, work)


def test_a_checker_that_hangs_is_ended_and_nobody_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.checkers.OVERDUE_S", 0.5)
    domain = World(tmp_path).domain

    async def work(checkers: Checkers) -> None:
        [victim] = children()
        os.kill(victim, signal.SIGSTOP)
        async with asyncio.timeout(60):
            [one] = await checkers.examine(tasks_of(domain, [line_of(domain.record())]))
            assert isinstance(one, Refused)
            assert one.error.code == "unavailable"
            while victim in children():
                await asyncio.sleep(0.02)

    checking(1, work)


def test_a_lost_checker_while_following_is_said_so_and_asked_again(tmp_path: Path) -> None:
    domain = World(tmp_path).domain
    good = domain.record()

    async def work(checkers: Checkers) -> None:
        [victim] = children()
        os.kill(victim, signal.SIGSTOP)
        asked = asyncio.ensure_future(
            checkers.check(Rules(domain.registry), [(good.manifest.topic, NOW * 1000, good.value)])
        )
        await asyncio.sleep(0)
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(LogError) as caught:
            await asked
        assert caught.value.code == "unavailable"

    checking(1, work)


def test_records_go_through_checkers_into_the_log_and_each_request_has_its_promise(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened(checkers=2) as gateway, world.caller(gateway) as iom:
            async with world.caller(gateway, "bi/n1") as other:
                mine = [world.domain.record() for _ in range(3)]
                theirs = [world.domain.record("bi/n1") for _ in range(2)]
                wrong = forged(world.domain.record())
                first, second, third = await asyncio.gather(iom.send(*mine), other.send(*theirs), iom.send(wrong))
            for answers in (first, second):
                *lines, last = answers
                for line in lines:
                    world.check_promise(line, last["promise"])
            assert third[0]["problem"]["code"] == "signature_invalid"
            assert third[-1] == {"promise": None}

    asyncio.run(run())
