# SPDX-License-Identifier: Apache-2.0
"""What a focal point's caseworker does in a simulated country: she asks the other country to receive people, answers
what it asks, and goes on with returns stage by stage. All by her system's own chance; she knows of no outage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters.connectors.contract import Arrived, Draft
from schemas.forms import Authorisation, Birth, Consent, Facts, Lawful, Name, Referral
from schemas.plain.transfer import TransferAccepted, TransferDeclined, TransferRequested
from tests.borders import NAME
from tests.sim_agency import System
from tests.sim_stage import DAY
from tests.sim_time import spread


@dataclass(frozen=True)
class FocalPoint:
    """The `tests.sim_agency.Script` of one country's focal point."""

    counterpart: str

    def begins(self, system: System) -> None:
        system.later(system.chance.expovariate(system.habits.cases_per_day / DAY), lambda: self._asks(system))

    def hears(self, system: System, arrived: Arrived) -> None:
        if arrived.type == "transfer.requested":
            system.later(spread(system.chance, 600, 3 * DAY), lambda: self._answers(system, arrived))

    def _asks(self, system: System) -> None:
        person = f"retour-{system.chance.randrange(10**9)}"
        system.drop(Draft("", self.counterpart, "transfer.requested", person, None, self._request(system)))
        self.begins(system)

    def _request(self, system: System) -> Facts:
        today = system.today()
        day = timedelta(days=1)
        authority = Authorisation(
            authority="data-protection-authority",
            reference="2026/1",
            decided_at=today - day,
            expires_at=today + 30 * day,
        )
        consent = Consent(given_at=today - day, expires_at=today + 90 * day, scope=("referral", "return"))
        referral = Referral(
            priority=system.chance.choice(("urgent", "normal")),
            name=Name(as_given=system.name()),
            birth=Birth(precision="year", date=str(system.chance.randint(1970, 2004))),
            services=("SocialCare",),
        )
        said = TransferRequested(
            referral=referral,
            agreement=NAME,
            authorisations=(authority,),
            origin="ke",
            asylum_wished=False,
            voluntariness="voluntary",
            voluntariness_recorded_at=today - 2 * day,
        )
        return Facts(occurred_at=today, lawful=Lawful(basis="consent", consent=consent), said=said)

    def _answers(self, system: System, asked: Arrived) -> None:
        today = datetime.fromtimestamp(int(system.today().timestamp()), UTC)
        if system.chance.random() < 0.25:
            facts = Facts(occurred_at=today, said=TransferDeclined(reason="no-capacity"))
            system.drop(Draft("", asked.iss, "transfer.declined", None, asked.thread, facts, ref=asked.evt))
            return
        facts = Facts(occurred_at=today, said=TransferAccepted(expected_from=today + timedelta(days=3)))
        system.drop(Draft("", asked.iss, "transfer.accepted", None, asked.thread, facts, ref=asked.evt))
