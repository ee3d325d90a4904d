# SPDX-License-Identifier: Apache-2.0
"""What the other country's ledger says of what it took in comes back to its sender, checked at every stop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from adapters.crossed_book import CrossedBook
from adapters.receipts_abroad import GivenBy, ReceiptsAbroad
from schemas.errors import AccessError, LogError
from schemas.keys import b64url
from schemas.notes import NoteSigner, SignatureType
from tests.adapters.test_receipt_book import Ledger
from tests.domain import Signed
from tests.kafka.conftest import kafka_cluster, second_cluster
from tests.scenarios.test_two_countries import THERE, Ways, record_hash, request, transfer, ways
from tests.two_countries import Both, Office, run
from topics.believed_ledgers import ledgers_of
from topics.bridge_book import BOOK, BridgeBook
from topics.promise import Line, read_evidence
from topics.receipts import check_receipt

__all__ = ["kafka_cluster", "second_cluster", "ways"]


async def asked_for(both: Both, office: Office) -> int:
    """A round of Tunisia's sender for what Burundi's ledger says."""
    policy = both.tn.neighbours.trust("bi").policy
    book = ReceiptsAbroad(office.box, "bi")
    source, newest = GivenBy(office.log.receipts_abroad), ledgers_of(policy, "bi")[-1]
    return sum([await book.ask(source, policy, newest, again=again) for again in (False, True)])


async def sent_and_promised(both: Both) -> tuple[Office, str]:
    """By an adapter, which knows the promise."""
    office = both.tn.office("tn/inlctp")
    asked = office.offer(1, "bi/ccsprtp", "transfer.requested", transfer(both), person="R-1")
    assert asked.problem is None, (asked.problem.code, asked.problem.path)
    await office.turn()
    assert (await both.tn.carry()).promised == 1
    book = CrossedBook(office.box)
    assert await book.ask(office.log, "tn", both.tn.neighbours.registry, int(both.clock())) == 1
    both.wait(seconds=5)
    return office, asked.evt or ""


def test_the_other_ledgers_receipt_comes_back_and_is_kept_beside_ours(ways: Ways, tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        office, evt = await sent_and_promised(both)
        assert await asked_for(both, office) == 0, "not logged there yet"
        await both.bi.ledger_turn()
        assert (await both.tn.bridge.turn()).code is None
        assert both.tn.book.unproven(10, again=True) == [], "signed by all whom Tunisia asks of Burundi"
        both.tn.wire.cut = True  # the sender needs no link to the other country for it
        both.tn.restarted_bridge()
        assert await asked_for(both, office) == 1
        assert await asked_for(both, office) == 0, "not asked for again"
        kept = ReceiptsAbroad(office.box).of(evt)
        assert kept is not None
        assert (kept.level, kept.final, kept.kind) == ("foreign", True, "event")
        read = check_receipt(kept.data, both.tn.neighbours.trust("bi").policy, "bi.umuhuza/log")
        assert (read.entry.topic, read.entry.offset) == (THERE, 0)
        await office.close()

    run(tmp_path, story, ways.bi, ways.tn)


def test_what_a_witness_has_not_signed_yet_is_asked_for_again(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        office, evt = await sent_and_promised(both)
        while await both.bi.sequencer.step():
            """Logged and signed there; its witnesses are silent."""
        (both.bi.folder / "ledger" / "endorsed").unlink()
        both.bi.checkpoints.publish(both.bi.sequencer.view)
        await both.tn.bridge.turn()
        assert await asked_for(both, office)
        kept = ReceiptsAbroad(office.box).of(evt)
        assert kept is not None
        assert (kept.level, kept.final) == ("logged", False)
        await both.bi.ledger_turn()
        both.wait(seconds=120)
        await both.tn.bridge.turn()
        assert await asked_for(both, office)
        kept = ReceiptsAbroad(office.box).of(evt)
        assert kept is not None
        assert (kept.level, kept.final) == ("foreign", True)
        assert (both.tn.book.unfinished_receipts(), ReceiptsAbroad(office.box, "bi").unfinished()) == (0, 0)
        await office.close()

    run(tmp_path, story)


def test_a_ledger_that_breaks_its_gateways_promise_is_told_and_the_proof_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Burundi's ledger signs that another record stands at the promised place."""

    async def story(both: Both) -> None:
        office, evt = await sent_and_promised(both)
        kept = CrossedBook(office.box).of(evt)
        assert kept is not None
        line = read_evidence(kept.promise or b"").line
        lying = Ledger()
        lying.log(line, b64url(b"x" * 32))

        async def lies(l1_sha256: Sequence[str]) -> list[bytes | None]:
            return await lying.receipts(l1_sha256)

        monkeypatch.setattr(both.tn.bridge._remote, "carried_receipts", lies)
        turn = await both.tn.bridge.turn()
        assert turn.receipts == ("record_rewritten", "receipt")
        assert turn.code is None, "referrals go on, at their pace"
        with pytest.raises(LogError, match="record_rewritten"):
            await asked_for(both, office)
        contradicted = ReceiptsAbroad(office.box).of(evt)
        assert contradicted is not None
        assert (contradicted.level, contradicted.final) == ("contradicted", False)
        assert (both.tn.book.contradicting(), both.tn.book.proven()) == (1, 0)
        # Referrals still go, and nothing makes it good.
        both.tn.domain.now = int(both.clock())
        again = office.offer(2, "bi/ccsprtp", "transfer.requested", transfer(both), person="R-2")
        assert again.problem is None
        await office.turn()
        turn = await both.tn.carry()
        assert (turn.promised, turn.code, turn.receipts) == (1, None, None)
        both.wait(seconds=200)
        await both.tn.bridge.turn()
        assert both.tn.book.contradicting() == 1
        await office.close()

    run(tmp_path, story)


def test_a_receipt_of_a_strangers_ledger_is_not_kept(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        office, evt = await sent_and_promised(both)
        [line] = ReceiptsAbroad(office.box, "bi").due(again=False)
        stranger = Ledger()
        stranger.signers = [
            NoteSigner.generate("bi.umuhuza/log", kind, os.urandom)
            for kind in (SignatureType.ED25519, SignatureType.ML_DSA_44)
        ]
        stranger.log(line)
        policy = both.tn.neighbours.trust("bi").policy
        with pytest.raises(LogError, match="signature_invalid"):
            await ReceiptsAbroad(office.box, "bi").ask(stranger, policy, "bi.umuhuza/log", again=False)
        assert ReceiptsAbroad(office.box).of(evt) is None
        await office.close()

    run(tmp_path, story)


def test_one_bad_receipt_keeps_no_other_from_growing_and_is_asked_for_ever_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(both: Both) -> None:
        office, _ = await sent_and_promised(both)
        both.tn.domain.now = int(both.clock())
        await office.turn()
        second = office.offer(2, "bi/ccsprtp", "transfer.requested", transfer(both), person="R-2")
        assert second.problem is None
        await office.turn()
        assert (await both.tn.carry()).promised == 1
        honest = both.tn.bridge._remote.carried_receipts
        bad, *_ = [read_evidence(one).line.l1_sha256 for one in both.tn.book.unproven(9, again=False)]
        questions: list[int] = []

        async def spoilt(l1_sha256: Sequence[str]) -> list[bytes | None]:
            questions.append(len(l1_sha256))
            found = await honest(l1_sha256)
            return [b"no receipt" if one == bad else data for one, data in zip(l1_sha256, found, strict=True)]

        monkeypatch.setattr(both.tn.bridge._remote, "carried_receipts", spoilt)
        while await both.bi.sequencer.step():
            """Logged and signed there; its witnesses are silent."""
        (both.bi.folder / "ledger" / "endorsed").unlink()
        both.bi.checkpoints.publish(both.bi.sequencer.view)
        both.wait(seconds=5)
        turn = await both.tn.bridge.turn()
        assert turn.code is None
        assert turn.receipts is not None
        assert both.tn.book.unfinished_receipts() == 1
        await both.bi.ledger_turn()
        both.wait(seconds=130)
        await both.tn.bridge.turn()
        assert (both.tn.book.unfinished_receipts(), both.tn.book.proven()) == (0, 1)
        assert both.tn.book.unproven_since() is not None
        before = len(questions)
        for _ in range(360):
            both.wait(seconds=10)
            await both.tn.bridge.turn()
        assert len(questions) - before < 15, "in an hour of turns"
        await office.close()

    run(tmp_path, story)


def test_a_gateway_of_an_earlier_version_hinders_nothing(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        both.tn.wire.lacks = ("GET", "/v1/bridge/receipts")
        sent: Signed = request(both)
        await both.tn.send(sent)
        assert (await both.tn.carry()).promised == 1
        await both.bi.ledger_turn()
        turn = await both.tn.bridge.turn()
        assert (turn.code, turn.waiting) == (None, 0)
        both.tn.wire.lacks = None
        both.wait(seconds=5)
        await both.tn.bridge.turn()
        assert both.tn.book.receipt(record_hash(sent)) is not None

    run(tmp_path, story)


def test_nobody_but_the_neighbours_bridge_asks_there(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        sent = request(both)
        await both.tn.send(sent)
        await both.tn.carry()
        await both.bi.ledger_turn()
        line = Line("", record_hash(sent), "", 0)
        member = both.bi.world.log(both.bi.gateway, "bi/iom")
        with pytest.raises(AccessError, match="token_invalid"):
            await member.carried_receipts([line.l1_sha256])
        await member.close()

    run(tmp_path, story)


def test_a_book_of_an_earlier_version_learns_of_what_it_has_carried(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        sent = request(both)
        await both.tn.send(sent)
        assert (await both.tn.carry()).promised == 1
        file = both.tn.folder / "neighbours" / "bi" / BOOK
        both.tn.book.close()
        earlier = apsw.Connection(str(file))
        earlier.execute("DROP TABLE unproven; DROP TABLE receipt")
        earlier.close()
        reading = BridgeBook.reading(file)
        assert reading.receipt(record_hash(sent)) is None, "a gateway may be newer than its bridge"
        reading.close()
        both.tn.restarted_bridge()
        await both.bi.ledger_turn()
        await both.tn.bridge.turn()
        kept = both.tn.book.receipt(record_hash(sent))
        assert kept is not None
        assert kept.final

    run(tmp_path, story)
