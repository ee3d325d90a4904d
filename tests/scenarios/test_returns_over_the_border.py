# SPDX-License-Identifier: Apache-2.0
"""Scenarios 6 and 7 between two countries: each with its own gateway, log, ledger, registry and bridge.

6. Tunisia's focal point asks Burundi's for a woman's return, and when both agree the two missions of IOM carry it out,
stage by stage, on a thread of their own. In the middle the link is down for three days. 7. A child: nothing leaves
without the guardian's, the judge's and the data-protection authority's word; what a program sends all the same is
turned away by its reader, and the sender is told over the border.

At the end nobody's name stands in any file of either country, nor on its brokers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.inbox import REGISTRY_PATIENCE_S
from schemas.forms import Authorisation, Authority, Birth, Caregiver, Consent, Facts, Form, Lawful, Name, Referral
from schemas.plain.transfer import (
    ReturnCounselled,
    ReturnDeparted,
    ReturnDocumented,
    ReturnFollowedUp,
    ReturnReceived,
    ReturnRiskAssessed,
    TransferAccepted,
    TransferDeclined,
    TransferRequested,
)
from tests.borders import NAME as AGREEMENT
from tests.e2e.planted import every_file, traces
from tests.kafka.conftest import kafka_cluster, second_cluster
from tests.scenarios.test_two_countries import Ways
from tests.two_countries import Both, Country, Office, run
from topics import catalogue, policy_file
from topics.policy_file import Authorisations, policy
from umuhuza.kafka.cluster import Cluster

__all__ = ["kafka_cluster", "second_cluster"]

WOMAN, CHILD = "Niyonzima-Inventée", "Yassine-Inventé-Ben-Personne"
FILE = "R-ref-inventée-771"
"""As she is called in the files of who asks for her."""
ABROAD: tuple[Authority, ...] = ("data-protection-authority",)
ALL: tuple[Authority, ...] = ("guardian", "family-judge", *ABROAD)
TERMS: dict[str, Any] = {"agencies": ["bi/iom", "tn/iom"], "types": []}
"""Every type of the two flows; the missions of IOM beside the focal points."""
DAY = timedelta(days=1)


@pytest.fixture(params=["files", "brokers"])
def ways(request: pytest.FixtureRequest) -> Ways:
    if request.param == "files":
        return Ways()
    bi: Cluster = request.getfixturevalue("kafka_cluster")
    return Ways(bi, request.getfixturevalue("second_cluster"))


@dataclass
class Crossing:
    """Agencies of both countries at work."""

    both: Both
    offices: dict[str, Office] = field(default_factory=dict)
    _lines: int = 0

    @classmethod
    def of(cls, both: Both, *agencies: str) -> Crossing:
        return cls(both, {one: cls.country(both, one).office(one) for one in agencies})

    @staticmethod
    def country(both: Both, agency: str) -> Country:
        return both.bi if agency.startswith("bi/") else both.tn

    @property
    def today(self) -> datetime:
        return datetime.fromtimestamp(int(self.both.clock()), UTC)

    def offer(self, iss: str, to: str, type: str, facts: Facts, **more: Any) -> Any:
        self._lines += 1
        return self.offices[iss].offer(self._lines, to, type, facts, **more)

    async def says(self, iss: str, to: str, type: str, facts: Facts | Form, **more: Any) -> str:
        """It must be accepted, and everything comes to rest unless more is to be said first; its thread."""
        rests = more.pop("rests", True)
        told = facts if isinstance(facts, Facts) else Facts(occurred_at=self.today, said=facts)
        outcome = self.offer(iss, to, type, told, **more)
        assert outcome.problem is None, (outcome.problem.code, outcome.problem.path)
        if rests:
            await self.settle()
        item = self.offices[iss].box.outgoing(outcome.evt)
        assert item is not None
        return item.thread

    def refused(self, iss: str, to: str, type: str, facts: Facts, **more: Any) -> tuple[str, str | None]:
        outcome = self.offer(iss, to, type, facts, **more)
        assert outcome.problem is not None, "it was accepted"
        return outcome.problem.code, outcome.problem.path

    async def settle(self) -> None:
        """Turns of everybody, bridges included, until nothing moves."""
        for _ in range(40):
            moved = 0
            for office in self.offices.values():
                moved += await office.turn()
            for country in (self.both.bi, self.both.tn):
                turn = await country.carry()
                assert turn.code is None or (turn.code == "unavailable" and country.wire.cut), (turn.code, turn.path)
                moved += turn.promised
            if not moved:
                return
        raise AssertionError("never comes to rest")

    def states(self, thread: str) -> set[str]:
        """Of everybody who has that thread."""
        found = [office.box.thread(thread) for office in self.offices.values()]
        return {one.state for one in found if one is not None}

    def arrived(self, agency: str, type: str) -> list[Any]:
        office = self.offices[agency]
        return [office.runner.inbox.opened(one) for one in office.box.arrivals.all() if one.type == type]

    def found(self, *words: str, but: Sequence[str] = ()) -> list[str]:
        """Where planted words stand in clear: in every file of both countries but these agencies' own, in what their
        gateways said and count, and on their brokers' disks."""
        files: list[Path] = []
        for country in (self.both.bi, self.both.tn):
            (country.folder / "gateway.said").write_bytes(country.world.said.getvalue())
            (country.folder / "gateway.metrics").write_bytes(country.gateway.door.metrics.text())
            own = [f"{one.partition('/')[2]}.db" for one in but if one.startswith(f"{country.domain.name}/")]
            files += [one for one in every_file(country.folder) if not one.name.startswith(tuple(own))]
            if country.cluster is not None:
                files += [one for one in every_file(country.cluster.folder) if one.suffix == ".log"]
        assert len(files) > 20, "there is something to look at"
        return traces(words, files)

    async def close(self) -> None:
        for office in self.offices.values():
            await office.close()


def transfer(today: datetime, name: str, held: Sequence[Authority] = ABROAD, age: int = 27, **changes: Any) -> Facts:
    """Good as it is, with these decisions held."""
    guardian = Caregiver(status="guardian", name="Tante Inventée", best_interest_note="Rentre chez sa tante.")
    said = {
        "referral": Referral(
            priority="normal",
            name=Name(as_given=name),
            birth=Birth(precision="age", age_years=age),
            services=("SocialCare",),
            caregiver=guardian if age < 18 else None,
        ),
        "agreement": AGREEMENT,
        "authorisations": tuple(
            Authorisation(authority=one, reference="2026/77", decided_at=today - DAY, expires_at=today + 30 * DAY)
            for one in held
        ),
        "origin": "bi",
        "asylum_wished": False,
        "voluntariness": "voluntary",
        "voluntariness_recorded_at": today - 2 * DAY,
    }
    consent = Consent(given_at=today - DAY, expires_at=today + 90 * DAY, scope=("referral", "return"))
    lawful = Lawful(basis="consent", consent=consent)
    return Facts(occurred_at=today, lawful=lawful, said=TransferRequested(**{**said, **changes}))


def test_scenario_6_a_return_by_its_stages_with_the_link_down_in_the_middle(ways: Ways, tmp_path: Path) -> None:
    focal, mission = ("tn/inlctp", "bi/ccsprtp"), ("tn/iom", "bi/iom")

    async def story(both: Both) -> None:
        crossing = Crossing.of(both, *focal, *mission)
        says, there, back = crossing.says, mission, mission[::-1]
        arrival = crossing.today + 6 * DAY
        agreed = await says(*focal, "transfer.requested", transfer(crossing.today, WOMAN), person=FILE)
        [asked] = crossing.arrived("bi/ccsprtp", "transfer.requested")
        assert asked.facts.said.referral.name.as_given == WOMAN
        await says(*focal[::-1], "transfer.accepted", TransferAccepted(expected_from=arrival), thread=agreed)
        # Both hand it to IOM's missions, who have a thread of their own over the border.
        at_home = transfer(crossing.today, WOMAN)
        await says("tn/inlctp", "tn/iom", "transfer.requested", at_home, person=FILE, rests=False)
        thread = await says(*there, "transfer.requested", transfer(crossing.today, WOMAN), person=FILE)
        await says(*back, "transfer.accepted", TransferAccepted(expected_from=arrival), thread=thread)
        told = ReturnCounselled(decision="wishes-to-return", language="rn")
        await says(*there, "return.counselled", told, thread=thread)
        assert (crossing.states(agreed), crossing.states(thread)) == ({"accepted"}, {"preparing"})
        # Three days without a link, each side going on.
        both.bi.wire.cut = both.tn.wire.cut = True
        both.wait(days=1)
        ours = ReturnRiskAssessed(level="low", assessed="sending-side", family="safe")
        await says(*there, "return.risk-assessed", ours, thread=thread, rests=False)
        both.wait(days=1)
        theirs = ReturnRiskAssessed(level="low", assessed="receiving-side", family="safe")
        await says(*back, "return.risk-assessed", theirs, thread=thread, rests=False)
        await says(*there, "return.documented", ReturnDocumented(document="laissez-passer"), thread=thread)
        both.wait(days=1)
        assert crossing.arrived("bi/iom", "return.documented") == []
        both.bi.wire.cut = both.tn.wire.cut = False
        await crossing.settle()
        left = ReturnDeparted(by="air", expected_at=arrival, escort="escorted")
        await says(*there, "return.departed", left, thread=thread)
        assert crossing.states(thread) == {"departed"}
        await says(*back, "return.received", ReturnReceived(received_by="agency"), thread=thread, rests=False)
        await says(*back, "return.followed-up", ReturnFollowedUp(situation="in-services"), thread=thread)
        assert crossing.states(thread) == {"followed-up"}
        box = crossing.offices["bi/iom"].box
        order = [one.type for one in box.arrivals.all() if one.thread == thread and one.type.startswith("return.")]
        stages = ("counselled", "risk-assessed", "documented", "departed")
        assert order == [f"return.{one}" for one in stages], "once, and in the order in which they were said"
        for office in crossing.offices.values():
            assert {one.state for one in office.box.outbox() if not one.type.startswith("receipt.")} <= {"delivered"}
        assert crossing.found(WOMAN) == []
        assert crossing.found(FILE, but=("tn/inlctp", "tn/iom")) == []
        await crossing.close()

    run(tmp_path, story, ways.bi, ways.tn, TERMS)


REFUSED: dict[str, tuple[Sequence[Authority], dict[str, Any], tuple[str, str]]] = {
    "an agreement that nobody signed": (ABROAD, {"agreement": "none-such"}, ("agreement_missing", "agreement.*")),
    "no authorisation to pass the border": ((), {}, ("agreement_missing", "authorisations.tn.abroad")),
    "against her wish": (ABROAD, {"voluntariness": "not-voluntary"}, ("not_permitted", "agreement.voluntary")),
    "nobody asked her": (ABROAD, {"voluntariness": "not-established"}, ("not_permitted", "agreement.voluntary")),
    "asylum wished from there": (ABROAD, {"asylum_wished": True}, ("not_permitted", "agreement.origin")),
}


def test_scenario_6_what_must_not_leave_does_not(tmp_path: Path) -> None:
    async def story(both: Both) -> None:
        focal = ("tn/inlctp", "bi/ccsprtp")
        crossing = Crossing.of(both, *focal)
        for why, (held, changes, expected) in REFUSED.items():
            facts = transfer(crossing.today, WOMAN, held, **changes)
            assert crossing.refused(*focal, "transfer.requested", facts, person=FILE) == expected, why
        # The country's own authorisation, in the agreement, ends before the agreement does.
        both.wait(days=61)
        for country in (both.bi, both.tn):
            country.domain.registry = country.domain.registry.renewed(int(both.clock()))
            country.published()
        both.wait()
        await crossing.settle()
        late = transfer(crossing.today, WOMAN)
        ended = ("agreement_missing", f"agreement.{AGREEMENT}.authorisations")
        assert crossing.refused(*focal, "transfer.requested", late, person=FILE) == ended
        await both.ended(both.bi)
        await both.bi.carry()  # brings Burundi's registry
        both.wait()
        gone = ("agreement_missing", f"agreement.{AGREEMENT}.bi")
        assert crossing.refused(*focal, "transfer.requested", late, person=FILE) == gone
        assert crossing.offices["bi/ccsprtp"].box.arrivals.all() == []
        assert crossing.found(WOMAN, FILE) == []
        await crossing.close()

    run(tmp_path, story, terms=TERMS)


def test_scenario_6_what_another_program_sends_all_the_same_is_turned_away_abroad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender's program asks no agreement of the policy's, no authorisation and no wish."""

    async def story(both: Both) -> None:
        focal = ("tn/inlctp", "bi/ccsprtp")
        crossing = Crossing.of(both, *focal)
        with monkeypatch.context() as patch:
            patch.setattr(catalogue, "agreement_fits", lambda *asked: asked[4])
            for held, changes, _ in REFUSED.values():
                facts = transfer(crossing.today, WOMAN, held, **changes)
                assert crossing.offer(*focal, "transfer.requested", facts, person=FILE).problem is None
        await crossing.settle()
        both.wait(seconds=REGISTRY_PATIENCE_S + 60)  # a newer registry might have known the agreement
        for _ in range(2):  # what was held is turned away, then the sender is told
            await crossing.settle()
        arrived = crossing.offices["bi/ccsprtp"].box.arrivals.all()
        assert [(one.state, one.code, one.path) for one in arrived] == [
            ("quarantined", *expected) for _, _, expected in REFUSED.values()
        ]
        assert len(crossing.arrived("tn/inlctp", "receipt.rejected")) == len(REFUSED)
        assert crossing.found(WOMAN) == []
        await crossing.close()

    run(tmp_path, story, terms=TERMS)


def test_scenario_7_a_child_leaves_with_every_authorisation_and_not_before(
    ways: Ways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    focal = ("tn/inlctp", "bi/ccsprtp")

    async def story(both: Both) -> None:
        crossing = Crossing.of(both, *focal)

        def child(held: Sequence[Authority]) -> Facts:
            return transfer(crossing.today, CHILD, held, age=12)

        no_judge = ("safeguard_missing", "authorisations.tn.child")
        for held in ((), ABROAD, ("guardian", *ABROAD), ("family-judge", *ABROAD)):
            assert crossing.refused(*focal, "transfer.requested", child(held), person=FILE) == no_judge
        only_at_home = child(("guardian", "family-judge"))
        assert crossing.refused(*focal, "transfer.requested", only_at_home, person=FILE) == (
            "agreement_missing",
            "authorisations.tn.abroad",
        )
        # A program without that rule, and the link down while it sends.
        both.tn.wire.cut = True
        with monkeypatch.context() as patch:
            nothing = Authorisations(frozenset(), frozenset(), frozenset(), frozenset())
            patch.setattr(
                policy_file, "policy", lambda: replace(policy(), authorisations={"tn": nothing, "bi": nothing})
            )
            outcome = crossing.offer(*focal, "transfer.requested", child(ABROAD), person=FILE)
            assert outcome.problem is None
        await crossing.settle()
        both.wait(days=2)
        both.tn.wire.cut = False
        await crossing.settle()
        [turned_away] = crossing.offices["bi/ccsprtp"].box.arrivals.all()
        assert (turned_away.state, turned_away.code, turned_away.path) == ("quarantined", *no_judge)
        assert len(crossing.arrived("tn/inlctp", "receipt.rejected")) == 1
        thread = await crossing.says(*focal, "transfer.requested", child(ALL), person=FILE)
        [arrived] = [one for one in crossing.offices["bi/ccsprtp"].box.arrivals.all() if one.state == "delivered"]
        read = crossing.offices["bi/ccsprtp"].runner.inbox.opened(arrived)
        assert isinstance(read.facts.said, TransferRequested)
        assert [one.authority for one in read.facts.said.authorisations] == list(ALL)
        declined = TransferDeclined(reason="unsafe-there")
        await crossing.says(*focal[::-1], "transfer.declined", declined, thread=thread)
        assert crossing.states(thread) == {"declined"}
        assert crossing.found(CHILD) == []
        assert crossing.found(FILE, but=("tn/inlctp",)) == []
        assert crossing.found(FILE), "it would be seen where it may stand"
        await crossing.close()

    run(tmp_path, story, ways.bi, ways.tn, TERMS)
