# SPDX-License-Identifier: Apache-2.0
"""Burundi's gateway and the bridge that Tunisia's domain sends to it: what comes in, and what does not."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.app import Gateway
from schemas.envelope import chain_hash
from schemas.home_proof import HOME_HEADER, HomeProof, read_home_proof
from schemas.registry import Registry
from tests.borders import NAME, TUNISIA, Countries, HomeLedger, carried, trust_policy
from tests.domain import NOW, Signed
from tests.gateway.gateway_world import World, count_of, grants_kept, line_of
from topics.borders import border as bordering
from topics.borders import bordered, excerpt_for
from topics.home_check import HomeTrust, check_home
from topics.http_log import HttpLog
from topics.refusal import check_refusal

TOPIC, OUTGOING = "bi.bilateral.ccsprtp", "tn.bilateral.inlctp"
Call = Callable[["Border", Gateway], Awaitable[None]]


@dataclass
class Border:
    """Burundi's gateway in this process, and Tunisia's side in a test's hands."""

    directory: Path
    countries: Countries = field(default_factory=Countries)
    ledger: HomeLedger = field(default_factory=HomeLedger)

    def __post_init__(self) -> None:
        neighbours = self.countries.neighbours_of_burundi(self.directory / "neighbours")
        self.world = World(self.directory, self.countries.bi, settings={"neighbours": str(neighbours)})
        self.first = self.ledger.publish(self.countries.tn.registry.version)

    def run(self, call: Call) -> None:
        async def whole() -> None:
            async with self.world.opened() as gateway:
                await call(self, gateway)

        asyncio.run(whole())

    @contextlib.asynccontextmanager
    async def client(self, gateway: Gateway, agency: str = "tn/operator") -> AsyncIterator[httpx2.AsyncClient]:
        """As an agency of Tunisia, with a token for Burundi's gateway."""
        key = self.countries.tn.members[agency].sig
        transport = httpx2.ASGITransport(app=gateway)
        log = HttpLog(
            "http://gateway", agency, key, domain="bi", now=self.world.clock, random=os.urandom, transport=transport
        )
        fields = {"authorization": f"Bearer {await log.access_token()}", "accept-language": "fr"}
        await log.close()
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://gateway", trust_env=False, headers=fields
        ) as client:
            yield client

    def request(self, **more: Any) -> Signed:
        return self.countries.tn.record("tn/inlctp", "bi/ccsprtp", "bilateral", **{"agreement": NAME, **more})

    def logged(self, signed: Signed) -> HomeProof:
        return self.ledger.home(self.ledger.log(signed), self.first)

    async def bring(self, gateway: Gateway, *lines: bytes) -> list[dict[str, Any]]:
        async with self.client(gateway) as client:
            answer = await client.post("/v1/bridge/records", content=b"\n".join(lines))
        assert answer.status_code == 200, answer.text
        return [orjson.loads(line) for line in answer.content.splitlines()]

    async def refused(self, gateway: Gateway, signed: Signed, home: HomeProof | None = None) -> tuple[str, str | None]:
        """Code and path; and nothing of it is here."""
        before = await count_of(gateway, TOPIC)
        [told, _] = await self.bring(gateway, carried(signed, home or self.logged(signed)))
        assert await count_of(gateway, TOPIC) == before
        assert await grants_kept(gateway, signed) == 0
        return told["problem"]["code"], told["problem"].get("path")

    def changed(self) -> None:
        """Tunisia's registry as it is now, given to Burundi by other means than a contact."""
        theirs = self.countries.published(self.countries.tn)
        (self.directory / "neighbours" / "tn" / "registry.json").write_bytes(excerpt_for(theirs, "bi"))
        self.world.clock.at += 2


@pytest.fixture
def border(tmp_path: Path) -> Border:
    return Border(tmp_path)


def test_a_record_with_its_home_proof_comes_in_and_its_recipient_reads_it(border: Border) -> None:
    async def call(border: Border, gateway: Gateway) -> None:
        signed = border.request()
        line = carried(signed, border.logged(signed))
        [told, promise] = await border.bring(gateway, line)
        assert (told["topic"], told["offset"]) == (TOPIC, 0)
        border.world.check_promise(told, promise["promise"])
        async with border.world.caller(gateway, "bi/ccsprtp") as commission:
            [read] = await commission.mailbox(flows="bilateral")
        assert read["record"].encode() == signed.value
        assert [orjson.dumps(one) for one in read["grants"]] == list(signed.grants)
        # Whoever judges it later has all that it needs beside it.
        home = read_home_proof(read["headers"][HOME_HEADER].encode())
        registry = border.countries.tn.registry
        trust = HomeTrust("tn", trust_policy("tn"), {registry.version: registry}.get)
        assert check_home(signed.value, TOPIC, home, trust).verified.manifest == signed.manifest
        [again, _] = await border.bring(gateway, line)
        assert (again["offset"], again["copy"]) == (0, True)
        assert await count_of(gateway, TOPIC) == 1

    border.run(call)


def test_a_contact_brings_several_under_one_checkpoint_and_one_bad_line_refuses_no_other(border: Border) -> None:
    async def call(border: Border, gateway: Gateway) -> None:
        signed = [border.request() for _ in range(3)]
        indexes = [border.ledger.log(one) for one in signed]
        checkpoint = border.ledger.checkpoint()
        lines = [
            carried(one, border.ledger.home(index, border.first, checkpoint), checkpoint=index == indexes[0])
            for one, index in zip(signed, indexes, strict=True)
        ]
        lines[1] = line_of(signed[1])
        told = await border.bring(gateway, *lines)
        assert [one.get("offset") for one in told[:3]] == [0, None, 1]
        assert (told[1]["problem"]["code"], told[1]["problem"]["path"]) == ("record_unlogged", "home")
        assert told[2]["finding"] == "seq_gap"

    border.run(call)


def test_what_home_did_not_log_is_refused_however_well_it_is_signed(border: Border) -> None:
    """A key that was stolen signs, and whoever has it has the bridge too."""

    async def call(border: Border, gateway: Gateway) -> None:
        logged, stolen = border.request(), border.request()
        home = border.logged(logged)
        assert await border.refused(gateway, stolen, home) == ("record_unlogged", "home.proof")
        alone = replace(home, checkpoint=border.ledger.checkpoint(by=()))
        assert await border.refused(gateway, logged, alone) == ("quorum_missing", "checkpoint")

    border.run(call)


def test_five_days_late_and_behind_a_revocation_it_still_comes_in(border: Border) -> None:
    async def call(border: Border, gateway: Gateway) -> None:
        signed = border.request()
        index = border.ledger.log(signed)
        tn = border.countries.tn
        # Burundi was given every version as it came.
        async with border.client(gateway) as client:
            await client.put("/v1/bridge/registry", content=excerpt_for(border.countries.published(tn), "bi"))
            tn.revoke("tn/inlctp", tn.members["tn/inlctp"].sig.kid)
            border.ledger.publish(tn.registry.version)
            border.world.clock.at += 5 * 86_400
            answer = await client.put("/v1/bridge/registry", content=excerpt_for(border.countries.published(tn), "bi"))
            assert answer.status_code == 401  # the token is of five days ago
        async with border.client(gateway) as client:
            answer = await client.put("/v1/bridge/registry", content=excerpt_for(border.countries.published(tn), "bi"))
            assert answer.json() == {"version": tn.registry.version}
        home = border.ledger.home(index, border.first)
        [told, _] = await border.bring(gateway, carried(signed, home))
        assert told["offset"] == 0
        late = border.request()
        under = border.ledger.home(border.ledger.log(late), border.first + 2)
        assert (await border.refused(gateway, late, under))[0] == "key_revoked"

    border.run(call)


def test_only_what_the_agreement_names_comes_in(border: Border) -> None:
    async def call(border: Border, gateway: Gateway) -> None:
        tn = border.countries.tn
        cases = [
            (border.request(agreement=None), ("agreement_missing", "agreement")),
            (border.request(kind="update"), ("agreement_missing", f"agreement.{NAME}.types")),
            (
                tn.record("tn/iom", "bi/ccsprtp", "bilateral", agreement=NAME),
                ("agreement_missing", f"agreement.{NAME}.focal_points"),
            ),
        ]
        for signed, told in cases:
            assert await border.refused(gateway, signed) == told
        third = tn.record("tn/inlctp", "tn/iom", "bilateral", agreement=NAME)
        [told_line, _] = await border.bring(gateway, carried(third, border.logged(third)))
        assert told_line["problem"]["code"] == "topic_unknown"

    border.run(call)


def test_what_is_refused_for_its_own_sake_is_refused_in_writing(border: Border) -> None:
    """And nothing else is: whoever holds a bridge must not get a signature for what it has spoilt itself."""

    async def call(border: Border, gateway: Gateway) -> None:
        async def told(line: bytes) -> dict[str, Any]:
            [answer, promise] = await border.bring(gateway, line)
            assert promise["promise"] is None
            return answer

        first = border.request()
        await border.bring(gateway, carried(first, border.logged(first)))
        twin = border.countries.tn.record("tn/inlctp", "bi/ccsprtp", "bilateral", agreement=NAME, seq=1, prev="")
        for signed, code, final in (
            (border.request(agreement=None), "agreement_missing", False),
            (twin, "chain_broken", True),
        ):
            answer = await told(carried(signed, border.logged(signed)))
            assert answer["problem"]["code"] == code
            known_by = chain_hash(signed.value.partition(b"\n")[0])
            refusal = check_refusal(answer["refusal"], known_by, "bi", registry_of_bi(border))
            assert (refusal.code, refusal.final) == (answer["problem"]["code"], final) == (code, final)
            assert (refusal.path, refusal.at) == (answer["problem"].get("path"), int(border.world.clock()))
        honest, other = border.request(), border.request()
        proof = border.logged(honest)
        body = bytearray(honest.value)
        body[-30] ^= 1
        for line, code in (
            (carried(honest, border.logged(other)), "record_unlogged"),
            (carried(replace(honest, grants=other.grants), proof), "not_permitted"),
            (carried(replace(honest, value=bytes(body)), proof), "record_unlogged"),
            (line_of(honest), "record_unlogged"),
        ):
            answer = await told(line)
            assert (answer["problem"]["code"], "refusal" in answer) == (code, False)

    border.run(call)


def test_what_is_here_already_is_never_refused_in_writing(border: Border) -> None:
    """The answer was lost, and the agreement ended before it was brought again."""

    async def call(border: Border, gateway: Gateway) -> None:
        signed = border.request()
        line = carried(signed, border.logged(signed))
        await border.bring(gateway, line)
        border.countries.tn.agreements = {}
        border.countries.tn.registry = border.countries.tn.registry.renewed(NOW + 1)
        border.changed()
        [again, promise] = await border.bring(gateway, line)
        assert (again.get("copy"), again.get("offset")) == (True, 0)
        border.world.check_promise(again, promise["promise"])

    border.run(call)


def registry_of_bi(border: Border) -> Registry:
    """Tunisia's, with its border to Burundi: as whoever sent it checks."""
    ours = border.countries.published(border.countries.tn)
    return bordered(ours.registry, [bordering(ours, border.countries.published(border.countries.bi))])


def test_an_agreement_that_one_side_ends_stops_everything_at_once_and_says_who(border: Border) -> None:
    async def call(border: Border, gateway: Gateway) -> None:
        [told, _] = await border.bring(gateway, carried(signed := border.request(), border.logged(signed)))
        assert told["offset"] == 0
        border.countries.tn.agreements = {}
        border.countries.tn.registry = border.countries.tn.registry.renewed(NOW + 1)
        border.changed()
        ended = ("agreement_missing", f"agreement.{NAME}.tn")
        assert await border.refused(gateway, border.request()) == ended
        async with border.world.caller(gateway, "bi/ccsprtp") as commission:
            out = border.countries.bi.record("bi/ccsprtp", "tn/inlctp", "bilateral", "answer", agreement=NAME)
            [line, _] = await commission.send(out)
            assert (line["problem"]["code"], line["problem"]["path"]) == ended

    border.run(call)


def test_what_goes_out_waits_in_a_mailbox_of_ours_with_the_others_name(border: Border) -> None:
    async def call(border: Border, gateway: Gateway) -> None:
        out = border.countries.bi.record("bi/ccsprtp", "tn/inlctp", "bilateral", "answer", agreement=NAME)
        other = border.countries.bi.record("bi/ccsprtp", "tn/inlctp", "bilateral", "answer")
        async with border.world.caller(gateway, "bi/ccsprtp") as commission:
            [told, refused, _] = await commission.send(out, other)
            assert (told["topic"], told["offset"]) == (OUTGOING, 0)
            assert (refused["problem"]["code"], refused["problem"]["path"]) == ("agreement_missing", "agreement")
            assert (await commission.get("/v1/registry/tn")).content == excerpt_for(
                border.countries.published(border.countries.tn), "bi"
            )
            assert (await commission.get("/v1/registry/tn/metadata/timestamp.json")).status_code == 200
            assert (await commission.get("/v1/registry/ke")).status_code == 404
        assert await grants_kept(gateway, out) == 1

    border.run(call)


@pytest.mark.parametrize("agency", [name for name in TUNISIA if name != "tn/operator"])
def test_nobody_from_abroad_but_the_bridge_gets_a_token(border: Border, agency: str) -> None:
    async def call(border: Border, gateway: Gateway) -> None:
        with pytest.raises(Exception, match="agency_unknown"):
            async with border.client(gateway, agency):
                raise AssertionError("it got one")

    border.run(call)


def test_the_bridge_gets_nothing_that_is_for_members_and_members_are_no_bridge(border: Border) -> None:
    async def call(border: Border, gateway: Gateway) -> None:
        async with border.client(gateway) as client:
            for path in ("/v1/mailbox", "/v1/registry", "/v1/registry/tn", "/v1/sent", "/v1/ends", "/v1/objections"):
                assert (await client.get(path)).status_code == 401, path
            signed = border.request()
            assert (await client.post("/v1/records", content=line_of(signed))).status_code == 401
        async with border.world.caller(gateway, "bi/ccsprtp") as commission:
            fields = {"authorization": f"Bearer {commission.token}"}
            assert (
                await commission.client.post("/v1/bridge/records", content=b"{}", headers=fields)
            ).status_code == 401
            for path in ("/v1/bridge/registry", "/v1/bridge/checkpoint"):
                assert (await commission.client.put(path, content=b"{}", headers=fields)).status_code == 401

    border.run(call)


def test_a_bridge_with_nothing_to_bring_is_heard_and_only_a_believed_checkpoint_counts(border: Border) -> None:
    async def call(border: Border, gateway: Gateway) -> None:
        neighbours = gateway.door.neighbours
        assert neighbours is not None
        good = border.ledger.checkpoint()
        async with border.client(gateway) as client:
            for bad, code in (
                (border.ledger.checkpoint(by=()), "quorum_missing"),
                (HomeLedger(list(border.ledger.entries), "bi").checkpoint(), "log_unknown"),
                (good.replace(b"umuhuza/log", b"umuhuza/loh", 1), "log_unknown"),
                (b"", "note_malformed"),
            ):
                answer = await client.put("/v1/bridge/checkpoint", content=bad)
                assert answer.json()["code"] == code
            assert neighbours.contact("tn") is None
            answer = await client.put("/v1/bridge/checkpoint", content=good)
            assert (answer.status_code, answer.json()) == (200, {"size": 1})
        met = neighbours.contact("tn")
        assert met is not None
        assert (met.at, met.size) == (int(border.world.clock()), 1)
        text = gateway.door.metrics.text().decode()
        assert 'umuhuza_gateway_contacts_total{code="quorum_missing",domain="tn"} 1.0' in text
        assert 'umuhuza_gateway_contacts_total{code="believed",domain="tn"} 1.0' in text

    border.run(call)


def test_another_gateway_and_a_new_index_know_it_by_the_proof_beside_it(border: Border) -> None:
    signed = border.request()
    line = carried(signed, border.logged(signed))

    async def first(border: Border, gateway: Gateway) -> None:
        await border.bring(gateway, line)

    async def second(border: Border, gateway: Gateway) -> None:
        assert gateway.door.index.event(signed.manifest.ident) is not None
        [again, _] = await border.bring(gateway, line)
        assert again["copy"] is True

    border.run(first)
    for suffix in ("", "-wal", "-shm"):
        (border.directory / f"index.db{suffix}").unlink(missing_ok=True)
    border.run(second)
