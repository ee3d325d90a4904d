# SPDX-License-Identifier: Apache-2.0
"""What a gateway takes: batches, repeats, chains with holes, and what it promises of them."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import orjson
import pytest

from gateway.checking import Here
from gateway.outcomes import Accepted
from schemas.envelope import record_value
from schemas.keys import b64url, signature_twin, unb64url
from tests.domain import Signed
from tests.gateway.gateway_world import World, count_of, forged, line_of

TOPIC = "bi.referral.k7t4"
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def twin_of(signed: Signed) -> Signed:
    """The same signed bytes with the other valid signature."""
    line1, _, body = signed.value.partition(b"\n")
    signed_part, _, signature = line1.rpartition(b".")
    other = b64url(signature_twin(unb64url(signature.decode()))).encode()
    return replace(signed, value=record_value(signed_part + b"." + other, body))


def test_one_bad_line_of_forty_refuses_no_other(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            good = [world.domain.record() for _ in range(2)]
            bad = forged(world.domain.record())
            rest = [world.domain.record() for _ in range(37)]
            *told, last = await iom.send(*good, bad, *rest)
            assert [line["line"] for line in told] == list(range(40))
            assert told[2]["problem"]["code"] == "signature_invalid"
            taken = [line for line in told if "problem" not in line]
            assert [line["offset"] for line in taken] == list(range(39))
            assert [line["evt"] for line in taken] == [one.manifest.evt for one in (*good, *rest)]
            # The hole that the refused one left is a finding, said once.
            assert [line.get("finding") for line in taken] == [None, None, "seq_gap", *[None] * 36]
            for line in taken:
                world.check_promise(line, last["promise"])
            assert await count_of(gateway, TOPIC) == 39

    asyncio.run(run())


def test_a_repeat_gets_the_first_offset_again(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one, two = world.domain.record(), world.domain.record()
            first = await iom.send(one)
            again = await iom.send(two, one, one)
            assert [(line["offset"], line.get("copy", False)) for line in again[:-1]] == [
                (1, False),
                (0, True),
                (0, True),
            ]
            assert again[1]["at"] == first[0]["at"]
            world.check_promise(again[1], again[-1]["promise"])
            assert await count_of(gateway, TOPIC) == 2

    asyncio.run(run())


def test_a_record_twice_in_one_request_is_there_once(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one = world.domain.record()
            told = await iom.send(one, one, twin_of(one))
            assert [(line["offset"], line.get("copy", False)) for line in told[:-1]] == [
                (0, False),
                (0, True),
                (0, True),
            ]
            assert await count_of(gateway, TOPIC) == 1

    asyncio.run(run())


def test_a_signature_twin_is_the_same_record(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one = world.domain.record()
            assert twin_of(one).value != one.value
            await iom.send(one)
            [line, _] = await iom.send(twin_of(one))
            assert (line["offset"], line["copy"]) == (0, True)
            assert await count_of(gateway, TOPIC) == 1

    asyncio.run(run())


def test_other_bytes_under_the_same_event_are_a_conflict(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one = world.domain.record()
            other = world.domain.record(evt=one.manifest.evt, content=b'{"other":1}')
            await iom.send(one)
            [line, last] = await iom.send(other)
            assert line["problem"]["code"] == "evt_conflict"
            assert last == {"promise": None}
            [same, other_again, _] = await iom.send(one, other)
            assert same["copy"] is True
            assert other_again["problem"]["code"] == "evt_conflict"

    asyncio.run(run())


def test_a_gap_is_found_and_closed_by_the_late_one(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one, two, three, four = (world.domain.record() for _ in range(4))
            told = await iom.send(one, four)
            assert [line.get("finding") for line in told[:-1]] == [None, "seq_gap"]
            told = await iom.send(three, two)
            assert [line.get("finding") for line in told[:-1]] == ["late", "late"]
            # Nothing is open any more: the next in turn is in order.
            told = await iom.send(world.domain.record())
            assert told[0].get("finding") is None

    asyncio.run(run())


def test_a_number_that_is_there_is_not_taken_again(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one, two = world.domain.record(), world.domain.record()
            await iom.send(one, two)
            again = world.domain.record(seq=1, prev="", chain=False)
            [line, _] = await iom.send(again)
            assert (line["problem"]["code"], line["problem"]["path"]) == ("chain_broken", "L1.seq")
            assert line["problem"]["expected"] == 3

    asyncio.run(run())


def test_the_previous_hash_is_checked_when_the_previous_one_is_there(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            wrong = b64url(bytes(32))
            one = world.domain.record()
            bad = world.domain.record(seq=2, prev=wrong, chain=False)
            unknown = world.domain.record(seq=5, prev=wrong, chain=False)
            told = await iom.send(one, bad, unknown)
            assert told[1]["problem"]["code"] == "chain_broken"
            assert told[1]["problem"]["path"] == "L1.prev"
            assert told[2]["finding"] == "seq_gap"
            # A late one must fit what comes after it as well.
            late = world.domain.record(seq=4, prev=wrong, chain=False)
            [line, _] = await iom.send(late)
            assert line["problem"]["code"] == "chain_broken"

    asyncio.run(run())


def test_voided_numbers_close_a_gap_and_never_come(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            one, lost = world.domain.record(), world.domain.record()
            voiding = world.domain.record(voids=(2,))
            told = await iom.send(one, voiding)
            assert told[1].get("finding") is None
            [line, _] = await iom.send(lost)
            assert line["problem"]["code"] == "chain_broken"
            there = world.domain.record(voids=(1,))
            [line, _] = await iom.send(there)
            assert (line["problem"]["code"], line["problem"]["path"]) == ("chain_broken", "L1.voids[0]")

    asyncio.run(run())


def test_requests_of_one_issuer_may_overtake_each_other_on_the_way_to_the_disk(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            batches = [[world.domain.record() for _ in range(size)] for size in (30, 1, 1, 20, 1)]
            answers = await asyncio.gather(*(iom.send(*batch) for batch in batches))
            lines = [line for answer in answers for line in answer[:-1]]
            assert [line.get("finding") for line in lines] == [None] * 53
            assert [line["offset"] for line in lines] == list(range(53))

    asyncio.run(run())


class _SlowFirst:
    """A runner whose first piece of work takes until somebody lets it go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self._calls = 0

    async def map(self, work: Callable[[_In], _Out], items: Sequence[_In]) -> list[_Out]:
        self._calls += 1
        if self._calls == 1:
            await self.go.wait()
        return [work(item) for item in items]


def test_a_request_that_takes_long_to_verify_keeps_its_place_in_the_chain(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            slow = _SlowFirst()
            gateway.door.checks.checker = Here(slow)
            first, second = world.domain.record(), world.domain.record()
            earlier = asyncio.ensure_future(iom.send(first))
            while not gateway.door.intake.busy("bi/iom"):
                await asyncio.sleep(0)
            later = asyncio.ensure_future(iom.send(second))
            await asyncio.sleep(0.05)
            slow.go.set()
            told = [(await earlier)[0], (await later)[0]]
            assert [(line["offset"], line.get("finding")) for line in told] == [(0, None), (1, None)]

    asyncio.run(run())


def test_what_a_client_abandons_is_there_or_is_not_and_can_be_sent_again(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            records = [world.domain.record() for _ in range(40)]
            for start in range(0, 40, 5):
                call = asyncio.ensure_future(iom.send(*records[start : start + 5]))
                for _ in range(start):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
                told = await iom.send(*records[start : start + 5])
                assert all("offset" in line for line in told[:-1])
            assert await count_of(gateway, TOPIC) == 40

    asyncio.run(run())


def test_whoever_abandons_a_request_takes_no_other_along(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with (
            world.opened() as gateway,
            world.caller(gateway) as iom,
            world.caller(gateway, "bi/n0") as n0,
        ):
            for turns in range(40):
                abandoned = asyncio.ensure_future(iom.send(world.domain.record()))
                other = asyncio.ensure_future(n0.send(world.domain.record("bi/n0")))
                for _ in range(turns):
                    await asyncio.sleep(0)
                abandoned.cancel()
                async with asyncio.timeout(30):
                    assert "offset" in (await other)[0]
                await asyncio.wait([abandoned])

    asyncio.run(run())


def test_what_a_checker_has_answered_together_is_looked_up_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened(checkers=1) as gateway:
            looked_up: list[int] = []
            look_up = gateway.door.index.look_up

            def counted(idents: Sequence[str]) -> None:
                looked_up.append(len(idents))
                look_up(idents)

            monkeypatch.setattr(gateway.door.index, "look_up", counted)
            lines = {agency: [line_of(world.domain.record(agency)) for _ in range(5)] for agency in ("bi/n0", "bi/n1")}
            answers = await asyncio.gather(
                *(gateway.door.intake.publish(agency, [line]) for agency, some in lines.items() for line in some)
            )
            assert all(isinstance(answer.outcomes[0], Accepted) for answer in answers)
            assert sum(looked_up) == 10
            assert max(looked_up) > 1

    asyncio.run(run())


def test_a_single_record_has_a_single_answer(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            response = await iom.single(line_of(world.domain.record()))
            assert response.status_code == 200
            assert response.headers["content-type"] == "application/json"
            told = response.json()
            world.check_promise(told, told["promise"])
            pretty = orjson.dumps(orjson.loads(line_of(world.domain.record())), option=orjson.OPT_INDENT_2)
            assert (await iom.single(pretty)).json()["offset"] == 1

    asyncio.run(run())


def test_bodies_may_be_compressed_both_ways(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            body = b"\n".join(line_of(world.domain.record()) for _ in range(12))
            response = await iom.post(
                gzip.compress(body), "application/x-ndjson", **{"content-encoding": "gzip", "accept-encoding": "gzip"}
            )
            assert response.status_code == 200
            assert response.headers["content-encoding"] == "gzip"
            assert len(response.content.splitlines()) == 13

    asyncio.run(run())


def test_a_clock_up_to_a_day_ahead_is_marked_and_counted(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        async with world.opened() as gateway, world.caller(gateway) as iom:
            ahead = world.domain.record(iat=int(world.clock.at) + 3600)
            years_back = world.domain.record(iat=1_000_000)
            told = await iom.send(ahead, years_back)
            assert [line.get("clock_suspect") for line in told[:-1]] == [True, None]
            assert b"umuhuza_gateway_clock_suspects_total 1.0" in gateway.door.metrics.text()

    asyncio.run(run())
