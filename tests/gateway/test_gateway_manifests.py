# SPDX-License-Identifier: Apache-2.0
"""Manifests without their records: what an agency posts that writes to Kafka itself.

They are checked like records, their grants become durable, and nothing is appended, reserved or promised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.app import Gateway
from gateway.examine import Refused
from schemas.envelope import sign_manifest
from schemas.errors import CODES, LogError, UmuhuzaError
from tests.domain import Signed
from tests.gateway.gateway_world import Caller, World, count_of, erasing, grants_kept, line_of
from tests.gateway.test_gateway_refusals import REFUSALS
from topics.log import Appended, Entry

MAILBOX = "bi.referral.k7t4"
Story = Callable[[World, Gateway, Caller], Awaitable[None]]


def manifest_of(line: bytes) -> bytes:
    """The line of a record, with its manifest instead."""
    raw = orjson.loads(line)
    record = raw.pop("record")
    text = record.partition("\n")[0] if isinstance(record, str) else record
    return orjson.dumps({"manifest": text, **raw})


def opted_in(world: World, agency: str = "bi/iom", direct: bool = True) -> None:
    before = world.domain.registry.agency(agency)
    world.domain.registry = world.domain.registry.with_agency(replace(before, direct=direct), int(world.clock.at))


def told(tmp_path: Path, story: Story, checkers: int = 0) -> World:
    """A gateway of a domain in which IOM has opted in, and IOM as its caller."""
    world = World(tmp_path)
    opted_in(world)

    async def run() -> None:
        async with world.opened(checkers=checkers) as gateway, world.caller(gateway) as iom:
            await story(world, gateway, iom)

    asyncio.run(run())
    return world


async def post(caller: Caller, *signed: Signed) -> list[dict[str, Any]]:
    """The answers, without the promise."""
    return (await caller.send_lines([manifest_of(line_of(one)) for one in signed]))[:-1]


async def write(gateway: Gateway, *signed: Signed) -> None:
    """What a direct writer does next: into the log, past the gateway."""
    for answer in await gateway.door.log.append([one.entry for one in signed]):
        assert isinstance(answer, Appended)


@pytest.mark.parametrize("checkers", [0, 1])
def test_its_grants_become_durable_and_nothing_is_appended_or_promised(tmp_path: Path, checkers: int) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        one, other = world.domain.record(), world.domain.record()
        lines = await iom.send_lines([manifest_of(line_of(one))])
        assert lines[0]["evt"] == one.manifest.evt
        assert lines[0]["topic"] == MAILBOX
        assert lines[0]["granted"] is True
        assert "offset" not in lines[0]
        assert lines[1] == {"promise": None}
        single = await iom.single(manifest_of(line_of(other)))
        assert (single.status_code, single.json()["granted"]) == (200, True)
        assert "promise" not in single.json()
        assert await grants_kept(gateway, one) == await grants_kept(gateway, other) == 1
        assert await count_of(gateway, MAILBOX) == 0
        assert gateway.door.index.event(one.manifest.ident) is None
        counted = 'umuhuza_gateway_records_total{code="granted",flow="referral",kind="request"} 2.0'
        assert counted in gateway.door.metrics.text().decode()

    told(tmp_path, story, checkers)


def test_only_an_agency_that_opted_in_may_post_one(tmp_path: Path) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        one = world.domain.record()
        opted_in(world, direct=False)
        world.registry_changed()
        (refused,) = await post(iom, one)
        assert (refused["problem"]["code"], refused["problem"]["path"]) == ("not_permitted", "registry.direct")
        assert await grants_kept(gateway, one) == 0
        opted_in(world)
        world.registry_changed()
        (taken,) = await post(iom, one)
        assert taken["granted"] is True

    told(tmp_path, story)


# These are refused for their body, which a manifest does not have.
_OF_THE_BODY = {"not ASCII", "no body", "a part that was changed", "a part without padding", "too large"}


@pytest.mark.parametrize("what", sorted(REFUSALS.keys() - _OF_THE_BODY))
def test_it_is_refused_as_its_record_would_be(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, path, make = REFUSALS[what]
    stored: list[str] = []

    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        line = make(world)
        # What is nested too deeply, or not JSON at all, is renamed as it stands.
        deep_or_none = what in ("not JSON", "400 deep", "deep grants", "a lone surrogate")
        line = line.replace(b'"record"', b'"manifest"') if deep_or_none else manifest_of(line)
        world.registry_changed()

        async def put(topic: str, grants: object) -> None:
            stored.append(topic)

        monkeypatch.setattr(gateway.door.log, "put_grants", put)
        # Asked of the intake: with its key an agency's token ends too.
        answer = await gateway.door.intake.publish("bi/iom", [line])
        (outcome,) = answer.outcomes
        assert isinstance(outcome, Refused)
        assert outcome.error.code == code
        if path is not None and not what.startswith("erasing"):
            assert outcome.error.path == path.replace("line.record", "line.manifest")
        assert answer.promised is None
        assert not stored

    told(tmp_path, story)


def test_a_line_is_a_record_or_a_manifest_and_never_both(tmp_path: Path) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        line = line_of(world.domain.record())
        both = orjson.dumps(orjson.loads(line) | orjson.loads(manifest_of(line)))
        for bad, where in (
            (both, "line.*"),
            (b'{"grants":[]}', "line.*"),
            (b'{"manifest":7}', "line.manifest"),
            (b'{"manifest":"\xc3\xa9"}', "line.manifest"),
            (b'{"manifest":"a.b.c","grants":{}}', "line.grants"),
            (orjson.dumps({"manifest": orjson.loads(line)["record"][:840], "grants": []}), "L1.signature"),
        ):
            refused = (await iom.send_lines([bad]))[0]["problem"]
            assert (refused["code"], refused["path"]) == ("record_malformed", where)

    told(tmp_path, story)


def test_a_record_that_could_never_be_read_is_refused_with_its_manifest(tmp_path: Path) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        one = world.domain.record()
        parts = tuple(replace(part, len=450_000) for part in one.manifest.parts)
        line1 = sign_manifest(replace(one.manifest, parts=parts), world.domain.members["bi/iom"].sig)
        refused = (await iom.send_lines([orjson.dumps({"manifest": line1.decode()})]))[0]["problem"]
        assert (refused["code"], refused["path"]) == ("too_large", "record")

    told(tmp_path, story)


def test_what_makes_gateways_act_goes_through_a_gateway(tmp_path: Path) -> None:
    """A disclosure whose keys are stored and whose record never comes would stand in no log."""

    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        target = world.domain.record()
        await iom.send(target)
        command = erasing(world, target, "bi/iom", "bi/k7t4")
        (refused,) = await post(iom, command)
        assert (refused["problem"]["code"], refused["problem"]["path"]) == ("not_permitted", "L1.acts")
        assert await grants_kept(gateway, command) == 0
        assert "offset" in (await iom.send(command))[0]

    told(tmp_path, story)


def test_several_of_one_chain_in_one_request_are_judged_as_a_chain(tmp_path: Path) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        chain = [world.domain.record() for _ in range(4)]
        astray = world.domain.record(seq=3, prev=chain[0].manifest.prev or "A" * 43, chain=False)
        answers = await post(iom, chain[0], chain[1], astray, chain[2], chain[3])
        assert [("granted" in one, one.get("finding")) for one in answers] == [
            (True, None),
            (True, None),
            (False, None),
            (True, None),
            (True, None),
        ]
        assert answers[2]["problem"]["code"] == "chain_broken"
        assert await grants_kept(gateway, astray) == 0

    told(tmp_path, story)


def test_repeats_and_twins_in_one_request(tmp_path: Path) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        one = world.domain.record()
        other = world.domain.record(evt=one.manifest.evt, seq=2, prev="A" * 43, chain=False)
        first, same, conflict = await post(iom, one, one, other)
        assert (first["granted"], same["granted"]) == (True, True)
        assert conflict["problem"]["code"] == "evt_conflict"
        (again,) = await post(iom, one)
        assert again == first
        assert await grants_kept(gateway, one) == 1

    told(tmp_path, story)


def test_it_takes_no_place_in_the_chain(tmp_path: Path) -> None:
    """Only records in the log advance a chain: a manifest that stays alone blocks nobody's next number."""

    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        never_written = world.domain.record(chain=False)
        (granted,) = await post(iom, never_written)
        assert granted["granted"] is True
        other = world.domain.record()
        assert other.manifest.seq == never_written.manifest.seq == 1
        (answer, *_) = await iom.send(other)
        assert (answer["offset"], answer.get("finding")) == (0, None)
        (refused,) = await post(iom, never_written)
        assert refused["problem"]["code"] == "chain_broken"

    told(tmp_path, story)


def test_a_record_on_its_way_keeps_its_place_whatever_a_manifest_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        alone, record, rival = (world.domain.record(seq=1, prev="", chain=False) for _ in range(3))
        append, reached, go = gateway.door.log.append, asyncio.Event(), asyncio.Event()

        async def held(entries: Sequence[Entry]) -> Sequence[Appended | UmuhuzaError]:
            reached.set()
            await go.wait()
            return await append(entries)

        monkeypatch.setattr(gateway.door.log, "append", held)
        first = asyncio.create_task(iom.send_lines([manifest_of(line_of(alone)), line_of(record)]))
        await reached.wait()  # the manifest is done with, the record is not
        try:
            [refused, _] = await asyncio.wait_for(iom.send(rival), 5)
        finally:
            go.set()
        assert refused["problem"]["code"] == "chain_broken"
        answers = await first
        assert (answers[0]["granted"], answers[1]["offset"]) == (True, 0)

    told(tmp_path, story)


def test_the_gateway_learns_of_the_record_when_it_is_in_the_log(tmp_path: Path) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        first, second, third = (world.domain.record() for _ in range(3))
        astray = world.domain.record(seq=2, prev="A" * 43, chain=False)
        await post(iom, first)
        await write(gateway, first)
        (broken,) = await post(iom, astray)
        assert (broken["problem"]["code"], broken["problem"]["path"]) == ("chain_broken", "L1.prev")
        (fits,) = await post(iom, second)
        assert "finding" not in fits
        (gap,) = await post(iom, third)
        assert gap["finding"] == "seq_gap"
        await write(gateway, second)
        # By the other way the chain goes on from there.
        (told_, *_) = await iom.send(third)
        assert (told_["offset"], told_.get("finding")) == (2, None)

    told(tmp_path, story)


def test_a_manifest_whose_record_is_there_is_a_repeat_with_its_place_and_a_promise(tmp_path: Path) -> None:
    """A writer that died before it heard from Kafka asks again, and need not write a second copy."""

    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        written, sent = world.domain.record(), world.domain.record()
        await post(iom, written)
        await write(gateway, written)
        # Nothing but the log says so yet.
        assert [(one["offset"], one["copy"]) for one in await post(iom, written)] == [(0, True)]
        await iom.send(sent)
        lines = await iom.send_lines([manifest_of(line_of(one)) for one in (written, sent)])
        for place in (0, 1):
            assert (lines[place]["offset"], lines[place]["copy"]) == (place, True)
            world.check_promise(lines[place], lines[2]["promise"])
        # Whatever the registry says by now.
        opted_in(world, direct=False)
        world.registry_changed()
        assert (await post(iom, written))[0]["offset"] == 0

    told(tmp_path, story)


def test_a_repeat_brings_no_erased_grant_back(tmp_path: Path) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        one = world.domain.record()
        await post(iom, one)
        await write(gateway, one)
        await iom.send(erasing(world, one, "bi/iom", "bi/k7t4"))
        assert await grants_kept(gateway, one) == 0
        assert (await post(iom, one))[0]["copy"] is True
        assert await grants_kept(gateway, one) == 0

    told(tmp_path, story)


def test_grants_that_cannot_be_stored_are_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(world: World, gateway: Gateway, iom: Caller) -> None:
        one, two = world.domain.record(), world.domain.record()

        async def full(topic: str, grants: object) -> None:
            raise LogError("storage_full")

        with monkeypatch.context() as patch:
            patch.setattr(gateway.door.log, "put_grants", full, raising=True)
            answers = await post(iom, one, two)
            assert [answer["problem"]["code"] for answer in answers] == ["storage_full"] * 2
        assert CODES["storage_full"].retriable
        assert "granted" in (await post(iom, one))[0]

    told(tmp_path, story)
