# SPDX-License-Identifier: Apache-2.0
"""What Burundi's gateway refuses of Tunisia's: its own signed word, at the desk of whoever sent it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapters.crossed_book import Abroad, CrossedBook
from adapters.deadlines import alarms
from adapters.mailbox_rows import Outgoing
from schemas.envelope import chain_hash, parse_manifest
from schemas.errors import UmuhuzaError
from schemas.registry import Role
from tests.gateway.gateway_world import count_of
from tests.scenarios.test_two_countries import THERE, transfer
from tests.two_countries import Both, Office, run
from topics.log import Appended, Entry
from topics.refusal import NotTaken, check_refusal

HERE = "bi/ccsprtp"


@dataclass
class Crossing:
    """Tunisia's focal point at its desk, and what becomes of what it sends."""

    both: Both
    there: Office
    lines: int = 0

    async def sends(self) -> str:
        """Sealed, sent, and in Tunisia's ledger; its evt."""
        self.lines += 1
        said = transfer(self.both)
        asked = self.there.offer(self.lines, HERE, "transfer.requested", said, person=f"R-{self.lines}")
        assert asked.problem is None, (asked.problem.code, asked.problem.path)
        await self.there.turn()
        await self.both.tn.ledger_turn()
        assert self.item(asked.evt or "").state == "promised"
        return asked.evt or ""

    async def asks(self) -> int:
        registry, now = self.both.tn.neighbours.registry, int(self.both.clock())
        return await CrossedBook(self.there.box).ask(self.there.log, "tn", registry, now)

    def item(self, evt: str) -> Outgoing:
        found = self.there.box.outgoing(evt)
        assert found is not None
        return found

    def abroad(self, evt: str) -> Abroad:
        found = CrossedBook(self.there.box).of(evt)
        assert found is not None
        return found

    def alarms(self) -> list[tuple[str, str, str]]:
        found = alarms(self.there.box, self.both.clock())
        return [(one.kind, one.peer, one.evt) for one in found if one.kind.endswith("-abroad")]

    def roles(self, *roles: Role) -> None:
        """Burundi's commission is of another kind from now on; Tunisia does not know yet."""
        domain = self.both.bi.domain
        was = domain.registry.agency(HERE)
        domain.registry = domain.registry.with_agency(replace(was, roles=roles), int(self.both.clock()))
        self.both.bi.published()
        self.both.wait()


def test_what_is_refused_for_good_is_refused_in_writing_at_the_senders_desk(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        at = Crossing(both, both.tn.office("tn/inlctp"))
        evt = await at.sends()
        opened_by = at.item(evt)
        at.roles("screener")
        turn = await both.tn.carry()
        assert (turn.refused, turn.waiting, turn.code) == (1, 0, None)
        assert await at.asks() == 1
        item, abroad = at.item(evt), at.abroad(evt)
        assert (item.state, item.code, item.path) == ("refused", "topic_unknown", "L1.topic")
        assert (abroad.state, abroad.domain, abroad.offset) == ("refused", "bi", None)
        told = check_refusal(abroad.refusal or "", chain_hash(opened_by.l1 or b""), "bi", both.tn.neighbours.registry)
        assert (told.iss, told.code, told.final, told.origin) == ("bi/operator", item.code, True, "bi.umuhuza/log")
        assert at.alarms() == [("refused-abroad", HERE, evt)]
        assert at.there.box.thread(item.thread) is None, "nobody over there was ever asked"
        # Nothing of it goes again, from wherever.
        before = both.tn.wire.requests
        for _ in range(2):
            await at.there.turn()
            turn = await both.tn.carry()
            assert (turn.refused, turn.promised) == (0, 0)
            assert await at.asks() == 0
        assert at.there.box.retry(evt) == 0
        assert both.tn.wire.requests - before <= 2, "checkpoints and registries at most"
        # What comes next says that this number never will.
        at.roles("coordination", "focal-point")
        second = await at.sends()
        assert parse_manifest(at.item(second).l1 or b"")[3].voids == (item.seq,)
        assert (await both.tn.carry()).promised == 1
        assert await count_of(both.bi.gateway, THERE) == 1
        assert await at.asks() == 1
        assert at.abroad(second).state == "taken-in"
        both.wait(days=15)
        assert at.alarms() == []
        await at.there.close()

    run(tmp_path, story)


def test_what_waits_for_an_agreement_is_said_in_writing_and_goes_when_there_is_one(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        bi, tn = both.bi, both.tn
        at = Crossing(both, tn.office("tn/inlctp"))
        evt = await at.sends()
        terms = bi.domain.agreements
        await both.ended(bi)
        for _ in range(2):
            assert (await tn.carry()).code == "agreement_missing"
        assert await at.asks() == 1
        abroad = at.abroad(evt)
        assert (abroad.state, abroad.code) == ("waiting", "agreement_missing")
        assert (abroad.path or "").endswith(".bi"), "who has ended it"
        assert at.item(evt).state == "promised"
        assert at.alarms() == [("held-abroad", HERE, evt)]
        assert await at.asks() == 0, "said again, it is no news"
        bi.domain.agreements = terms
        bi.domain.registry = bi.domain.registry.renewed(int(both.clock()))
        bi.published()
        both.wait()
        await bi.carry()
        both.wait()
        assert (await tn.carry()).promised == 1
        assert await at.asks() == 1
        assert (at.abroad(evt).state, at.item(evt).state, at.alarms()) == ("taken-in", "promised", [])
        await at.there.close()

    run(tmp_path, story)


def test_a_refusal_that_nobody_signed_changes_nothing_and_is_said(tmp_path: Path) -> None:
    """Whoever holds the bridge's machine says that it was refused."""

    async def story(both: Both) -> None:
        tn = both.tn
        at = Crossing(both, tn.office("tn/inlctp"))
        evt = await at.sends()
        at.roles("screener")
        await tn.carry()
        [(true,)] = tn.book._db.execute("SELECT refusal FROM carried").fetchall()
        header, payload, signature = str(true).split(".")
        wrong = f"{header}.{payload}.{signature[:-6]}{'AAAAAA' if signature[-6:] != 'AAAAAA' else 'BBBBBA'}"
        tn.book._db.execute("UPDATE carried SET refusal = ?", (wrong,))
        with pytest.raises(UmuhuzaError, match="signature_invalid"):
            await at.asks()
        assert CrossedBook(at.there.box).of(evt) is None
        tn.book._db.execute("UPDATE carried SET refusal = NULL")
        assert await at.asks() == 1
        assert (at.abroad(evt).state, at.abroad(evt).code) == ("unsigned", "topic_unknown")
        assert (at.item(evt).state, at.item(evt).code, at.alarms()) == ("promised", None, [])
        tn.book._db.execute("UPDATE carried SET refusal = ?", (true,))
        assert await at.asks() == 1, "the bridge's word alone is never the last"
        assert at.item(evt).state == "refused"
        # Its reader has it after all: the reader's word counts.
        at.there.box.mark_arrival(evt, "delivered", None, None)
        assert (at.item(evt).state, at.there.box.chains.unnamed_voids(THERE)) == ("delivered", ())
        await at.there.close()

    run(tmp_path, story)


def test_a_bridge_keeps_no_refusal_that_the_other_gateway_did_not_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(both: Both) -> None:
        tn = both.tn
        at = Crossing(both, tn.office("tn/inlctp"))
        evt = await at.sends()
        at.roles("screener")
        carry = tn.bridge._remote.carry

        async def altered(lines: Sequence[bytes], entries: Sequence[Entry]) -> list[Appended | NotTaken]:
            answers = await carry(lines, entries)
            return [NotTaken(one.error, f"{one.jws}x") for one in answers if isinstance(one, NotTaken)]

        monkeypatch.setattr(tn.bridge._remote, "carry", altered)
        assert (await tn.carry()).refused == 1
        assert await at.asks() == 1
        assert at.abroad(evt).state == "unsigned"
        await at.there.close()

    run(tmp_path, story)
