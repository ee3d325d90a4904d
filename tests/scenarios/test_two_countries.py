# SPDX-License-Identifier: Apache-2.0
"""A request of Tunisia's reaches Burundi, and the answer comes back: two gateways, logs, ledgers and bridges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.bridge import Lag, lag
from adapters.crossed_book import CrossedBook
from gateway.settings import load_settings
from schemas.envelope import chain_hash, parse_record
from schemas.errors import LogError
from schemas.forms import Authorisation, Birth, Consent, Facts, Lawful, Name, Referral
from schemas.plain.transfer import ReturnCounselled, TransferAccepted, TransferRequested
from tests.borders import NAME
from tests.domain import Signed
from tests.gateway.gateway_world import count_of
from tests.kafka.conftest import kafka_cluster, second_cluster
from tests.topics.ledger_world import shown
from tests.two_countries import Both, Country, idents, run
from topics.http_log import Crossed
from topics.log import Entry, grants_topic
from topics.promise import verify_evidence
from umuhuza.bridge_process import open_log
from umuhuza.kafka.cluster import Cluster

__all__ = ["kafka_cluster", "second_cluster"]

PERSON = "Niyonzima-Inventée"
THERE, BACK = "bi.bilateral.ccsprtp", "tn.bilateral.inlctp"


def request(both: Both, **more: Any) -> Signed:
    both.tn.domain.now = int(both.clock())
    return both.tn.domain.record("tn/inlctp", "bi/ccsprtp", "bilateral", agreement=NAME, **more)


def record_hash(signed: Signed) -> str:
    return chain_hash(signed.value.partition(b"\n")[0])


def answer(both: Both, to: Signed) -> Signed:
    both.bi.domain.now = int(both.clock())
    return both.bi.domain.record(
        "bi/ccsprtp",
        "tn/inlctp",
        "bilateral",
        "answer",
        agreement=NAME,
        thread=to.manifest.thread,
        ref=to.manifest.evt,
    )


async def grants_in(country: Country, signed: Signed) -> int:
    found = await country.log.get_grants(grants_topic(signed.manifest.to), list(signed.grant_puts()))
    return len(found)


@dataclass
class Ways:
    """On what each country's log and ledger are."""

    bi: Cluster | None = None
    tn: Cluster | None = None


@pytest.fixture(params=["files to files", "files to brokers", "brokers to brokers"])
def ways(request: pytest.FixtureRequest) -> Ways:
    """From Tunisia to Burundi; the answer goes the other way. A topic for abroad has the name of the mailbox there: two
    countries never share a cluster."""
    if request.param == "files to files":
        return Ways()
    bi: Cluster = request.getfixturevalue("kafka_cluster")
    return Ways(bi, request.getfixturevalue("second_cluster") if request.param == "brokers to brokers" else None)


def test_a_request_crosses_and_its_answer_returns(ways: Ways, tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        asked = request(both)
        [told, _] = await tn.send(asked)
        assert (told["topic"], told["offset"]) == (THERE, 0)
        turn = await tn.bridge.turn()  # not before home has logged it
        assert (turn.code, turn.path, turn.waiting, turn.promised) == ("ledger_behind", "home", 1, 0)
        assert (await tn.carry()).promised == 1
        [read] = await bi.mailbox("bi/ccsprtp")
        assert read["record"].encode() == asked.value
        assert len(read["grants"]) == 1
        assert await grants_in(tn, asked) == 0, "nobody at home needs its keys any more"
        kept = tn.book.promise(asked.manifest.ident)
        assert kept is not None
        line, promise = verify_evidence(kept, bi.domain.operator.sig.public, "bi")
        assert (line.topic, line.offset, promise.iss) == (THERE, 0, "bi/operator")
        back = answer(both, asked)
        await bi.send(back)
        assert (await bi.carry()).promised == 1
        assert idents(await tn.mailbox("tn/inlctp")) == [back.manifest.ident]
        # Both ledgers have both, and neither takes the other's word for what is its own.
        for country in (bi, tn):
            entries = shown(await country.ledger_turn())
            assert {one for one in entries if one.startswith(("event", "reject"))} == {
                f"event {THERE} 0",
                f"event {BACK} 0",
            }
        # What came in does not go out again.
        for country in (bi, tn):
            turn = await country.carry()
            assert (turn.promised, turn.refused, turn.waiting, turn.code) == (0, 0, 0, None)
        assert await count_of(bi.gateway, THERE) == await count_of(tn.gateway, THERE) == 1
        # What an operator's commands read of either log, by the gateway's settings.
        for country, outgoing in ((bi, BACK), (tn, THERE)):
            log = await open_log(load_settings(country.folder / "gateway.toml"), country.domain.name)
            assert (await lag(log, None, [outgoing])).records == 1
            assert await lag(log, country.book, [outgoing]) == Lag()
            await log.close()
        if ways.tn is not None:  # a broker may hold it a second time, which the home ledger calls a repeat
            await tn.log.append([asked.entry])
            turn = await tn.carry()
            assert (turn.refused, turn.waiting, turn.code) == (0, 0, None)
            assert tn.book.counts() == {"promised": 1}

    run(tmp_path, story, ways.bi, ways.tn)


def transfer(both: Both, **changes: Any) -> Facts:
    """Of an adult who wishes to go home, with what Tunisia asks for to pass its border."""
    today = datetime.fromtimestamp(int(both.clock()), UTC)
    day = timedelta(days=1)
    authority = Authorisation(
        authority="data-protection-authority", reference="2026/1", decided_at=today - day, expires_at=today + 30 * day
    )
    said = {
        "referral": Referral(
            priority="normal",
            name=Name(as_given=PERSON),
            birth=Birth(precision="year", date="1999"),
            services=("SocialCare",),
        ),
        "agreement": NAME,
        "authorisations": (authority,),
        "origin": "ke",
        "asylum_wished": False,
        "voluntariness": "voluntary",
        "voluntariness_recorded_at": today - 2 * day,
    }
    consent = Consent(given_at=today - day, expires_at=today + 90 * day, scope=("referral", "return"))
    lawful = Lawful(basis="consent", consent=consent)
    return Facts(occurred_at=today, lawful=lawful, said=TransferRequested(**{**said, **changes}))


def test_two_focal_points_agree_on_a_return_each_at_its_own_desk(tmp_path: Path) -> None:
    """Adapters at both ends: sealed to the key in the other country's registry, receipts and all."""

    async def story(both: Both) -> None:
        there, here = both.tn.office("tn/inlctp"), both.bi.office("bi/ccsprtp")

        async def everybody() -> None:
            for _ in range(3):
                for office in (there, here):
                    await office.turn()
                for country in (both.tn, both.bi):
                    assert (await country.carry()).code is None
            for office in (there, here):
                await office.turn()

        asked = there.offer(1, "bi/ccsprtp", "transfer.requested", transfer(both), person="R-1")
        assert asked.problem is None, (asked.problem.code, asked.problem.path)
        await everybody()
        [request] = here.box.arrivals.all()
        assert (request.type, request.state, request.iss) == ("transfer.requested", "delivered", "tn/inlctp")
        sent = there.box.outgoing(asked.evt or "")
        assert sent is not None
        assert sent.state == "delivered", "Burundi's receipt came back over the border"
        # And its gateway's promise, which the sender checks and keeps.
        book, registry = CrossedBook(there.box), both.tn.neighbours.registry
        assert book.of(sent.evt) is None
        assert await book.ask(there.log, "tn", registry, int(both.clock())) == 1
        assert await book.ask(there.log, "tn", registry, int(both.clock())) == 0
        abroad = book.of(sent.evt)
        assert abroad is not None
        assert (abroad.domain, abroad.state, abroad.offset) == ("bi", "taken-in", 0)
        verify_evidence(abroad.promise or b"", both.bi.domain.operator.sig.public, "bi")
        accepted = Facts(
            occurred_at=datetime.fromtimestamp(int(both.clock()), UTC),
            said=TransferAccepted(expected_from=datetime.fromtimestamp(int(both.clock()), UTC) + timedelta(days=3)),
        )
        told = here.offer(1, "tn/inlctp", "transfer.accepted", accepted, thread=request.thread)
        assert told.problem is None, (told.problem.code, told.problem.path)
        await everybody()
        for office in (there, here):
            thread = office.box.thread(request.thread)
            assert thread is not None
            assert thread.state == "accepted"
        counselled = ReturnCounselled(decision="wishes-to-return", language="rn")
        said = Facts(occurred_at=accepted.occurred_at, said=counselled)
        refused = there.offer(9, "bi/ccsprtp", "return.counselled", said, thread=request.thread).problem
        assert refused is not None
        assert (refused.code, refused.path) == ("agreement_missing", f"agreement.{NAME}.types")
        for country in (both.bi, both.tn):
            assert all(PERSON.encode() not in path.read_bytes() for path in country.folder.glob("log.db*"))
        for office in (there, here):
            await office.close()

    run(tmp_path, story)


def test_days_without_a_link_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        sent = [request(both)]
        await tn.send(sent[0])
        await tn.carry()
        tn.wire.cut = True
        for _ in range(3):
            both.wait(days=1)
            sent.append(request(both))
            await tn.send(sent[-1])
            turn = await tn.carry()
            assert (turn.code, turn.promised) == ("unavailable", 0)
        assert tn.book.hindered().code == "unavailable"
        tn.wire.cut, tn.wire.loses_answers = False, 1
        assert (await tn.carry()).code == "unavailable"  # it arrived, and nobody here knows
        tn.restarted_bridge()
        assert (await tn.carry()).promised == 3
        assert idents(await bi.mailbox("bi/ccsprtp")) == [one.manifest.ident for one in sent]
        assert tn.book.hindered().code is None

    run(tmp_path, story)


def test_what_was_logged_before_a_revocation_arrives_five_days_later(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        await tn.carry()
        tn.wire.cut = True
        asked = request(both)
        await tn.send(asked)
        await tn.ledger_turn()
        both.wait(days=1)
        # A version in between that Burundi was never given, then the one that revokes.
        tn.domain.registry = tn.domain.registry.renewed(int(both.clock()))
        tn.published()
        second = request(both)
        await tn.send(second)
        await tn.ledger_turn()
        both.wait()
        tn.domain.revoke("tn/inlctp", tn.domain.members["tn/inlctp"].sig.kid, int(both.clock()))
        tn.published()
        await tn.ledger_turn()
        both.wait(days=4)
        tn.wire.cut = False
        turn = await tn.carry()
        assert (turn.promised, turn.refused, turn.code, turn.path) == (2, 0, None, None)
        assert idents(await bi.mailbox("bi/ccsprtp")) == [asked.manifest.ident, second.manifest.ident]
        entries = shown(await bi.ledger_turn())
        assert [one for one in entries if THERE in one] == [f"event {THERE} 0", f"event {THERE} 1"]

    run(tmp_path, story)


def test_a_bridge_that_dies_behind_the_promise_deletes_the_keys_at_home_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(both: Both) -> None:
        tn = both.tn
        asked = request(both)
        await tn.send(asked)

        async def dies(topic: str, keys: Sequence[str]) -> None:
            raise LogError("unavailable", "disk")

        with monkeypatch.context() as patch:
            patch.setattr(tn.log, "delete_grants", dies)
            turn = await tn.carry()
        assert (turn.promised, turn.code) == (1, "unavailable")
        assert await grants_in(tn, asked) == 1
        tn.restarted_bridge()
        turn = await tn.carry()
        assert (turn.promised, turn.code) == (0, None), "settled once"
        assert await grants_in(tn, asked) == 0
        assert await count_of(both.bi.gateway, THERE) == 1

    run(tmp_path, story)


def test_either_side_ends_it_and_everything_stops_with_the_reason(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        first, second = request(both), request(both)
        await tn.send(first)
        await tn.carry()
        await tn.send(second)
        await both.ended(bi)
        ended = ("agreement_missing", f"agreement.{NAME}.bi")
        turn = await tn.carry()  # Tunisia does not know yet; Burundi's gateway does
        assert (turn.code, turn.path, turn.promised) == (*ended, 0)
        await bi.carry()  # brings Burundi's registry
        both.wait()
        turn = await tn.carry()
        assert (turn.code, turn.path) == ended
        [told, _] = await tn.send(request(both, chain=False))
        assert (told["problem"]["code"], told["problem"]["path"]) == ended
        assert idents(await bi.mailbox("bi/ccsprtp")) == [first.manifest.ident]
        assert await grants_in(tn, second) == 1, "it waits, unless its sender withdraws it"

    run(tmp_path, story)


def test_a_record_that_home_logged_before_the_renewed_agreement_still_crosses(tmp_path: Path) -> None:
    """It came into the log after it, and the ledger had not yet seen that version: who sent it is not in the excerpt
    that Burundi was given of the version before."""

    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        terms = {country.domain.name: country.domain.agreements for country in (bi, tn)}
        for country in (bi, tn):
            await both.ended(country)
            await country.carry()
        before = tn.domain.registry_file
        for country in (bi, tn):
            country.domain.agreements = terms[country.domain.name]
            country.domain.registry = country.domain.registry.renewed(int(both.clock()))
            country.published()
        await bi.carry()  # brings Burundi's registry
        both.wait()
        asked = request(both)
        [told, _] = await tn.send(asked)
        assert told["topic"] == THERE
        (tn.folder / "registry.json").write_bytes(before)  # as the ledger has it, which looks once a round
        await tn.ledger_turn()
        tn.published()
        both.wait()
        turn = await tn.carry()
        assert (turn.promised, turn.waiting, turn.code) == (1, 0, None)
        assert idents(await bi.mailbox("bi/ccsprtp")) == [asked.manifest.ident]

    run(tmp_path, story)


def test_a_log_with_another_identity_brings_nothing_twice_and_refuses_nothing(tmp_path: Path) -> None:
    """Its cursors count no more, and the keys at home of what was promised are long gone."""

    async def story(both: Both) -> None:
        tn = both.tn
        sent = [request(both), request(both)]
        await tn.send(*sent)
        assert (await tn.carry()).promised == 2
        tn.book._db.execute("DELETE FROM cursor")
        sent.append(request(both))
        await tn.send(sent[-1])
        turn = await tn.carry()
        assert (turn.refused, turn.waiting, turn.code) == (0, 0, None)
        assert tn.book.counts() == {"promised": 3}
        assert idents(await both.bi.mailbox("bi/ccsprtp")) == [one.manifest.ident for one in sent]
        assert await count_of(both.bi.gateway, THERE) == 3

    run(tmp_path, story)


def test_what_a_mirror_would_bring_counts_nowhere(tmp_path: Path) -> None:
    """Every byte of it is good, but nothing says that home has logged it."""

    async def story(both: Both) -> None:
        asked = request(both)
        await both.tn.send(asked)
        await both.tn.ledger_turn()
        [copied] = await both.tn.log.read(THERE, -1)
        await both.bi.log.put_grants(grants_topic("bi/ccsprtp"), asked.grant_puts())
        await both.bi.log.append([Entry(THERE, copied.key, copied.ident, copied.value, copied.headers)])
        assert f"reject {THERE} 0 agency_unknown" in shown(await both.bi.ledger_turn())
        here = both.bi.office("bi/ccsprtp")
        await here.turn()
        [arrival] = here.box.arrivals.all()
        assert (arrival.state, arrival.code) == ("quarantined", "agency_unknown")
        await here.close()

    run(tmp_path, story)


def test_a_record_that_home_refused_never_leaves(tmp_path: Path) -> None:
    """Written past the gateway, as somebody with the log's file can, with a key of nobody's."""

    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        forged = request(both, signer=tn.domain.root, chain=False)
        await tn.log.append([forged.entry])
        honest = request(both)
        await tn.send(honest)
        turn = await tn.carry()
        assert (turn.promised, turn.refused) == (1, 1)
        [refusal] = tn.book.refusals()
        assert (refusal.code, refusal.path) == ("record_unlogged", "home.proof")
        asking = tn.world.log(tn.gateway, "tn/inlctp")
        told = await asking.crossed([record_hash(one) for one in (forged, honest, request(both))])
        await asking.close()
        assert told[0] == Crossed("bi", None, "record_unlogged", "home.proof")
        assert told[1] is not None
        assert told[1].promise is not None
        assert told[2] is None, "nothing is known of it"
        [read] = await bi.mailbox("bi/ccsprtp")
        assert parse_record(read["record"].encode()).manifest == honest.manifest

    run(tmp_path, story)
