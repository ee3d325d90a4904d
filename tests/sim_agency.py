# SPDX-License-Identifier: Apache-2.0
"""A simulated agency: its own system with a caseworker before it, and the adapter process beside it.

`System` is what the agency owns and backs up: it survives every crash of the adapter. Its caseworker acts at random
hours by a script: police tell of a case, a screener decides, tells the ministry and refers, shelters receive, accept
or decline, serve and complete. She makes mistakes, drops a file twice, takes something back.

`Desktop` is the connector of one adapter process to that system. It fails at random (the file is open in Excel),
before or after it had its effect, and does nothing any more once its process is dead.

What the system checks by itself, at once: an outcome told twice is the same outcome; an event delivered twice is the
same event; what was delivered to it before is never delivered in another order.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol

from adapters.connectors.contract import (
    Arrived,
    Batch,
    Draft,
    Erased,
    NotNowError,
    Outcome,
    Problem,
    UndeliverableError,
)
from schemas.forms import Answer, Birth, Consent, Facts, Lawful, Name, Referral, SafeContact, Service
from tests.sim_machine import Life, Tell
from tests.sim_stage import DAY
from tests.sim_time import EPOCH, VirtualLoop, spread

PLANTED_NAME = "Nomplante"
"""Every invented person's name contains it; it may stand on no disk."""
PLANTED_NUMBER = "+25790090"
HOUR = 3600.0
SHELTERS = ("bi/k7t4", "bi/r5w2")
SERVICES = ("SocialCare", "Health", "Legal")


class BrokenPromiseError(Exception):
    """Something the product promises did not hold; the text says what."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What a seed makes of the people and of the connector."""

    cases_per_day: float = 1.5
    fails: float = 0.03
    """Probability that one call of the connector fails."""
    mistakes: float = 0.05
    undeliverable: float = 0.005
    takes_back: float = 0.03


class Script(Protocol):
    """What another caseworker than the ones below does; all of it by what she is told and by chance of her own."""

    def begins(self, system: System) -> None: ...

    def hears(self, system: System, arrived: Arrived) -> None: ...


class System:
    """One agency's own system and its caseworker. Durable; never knows of crashes."""

    def __init__(
        self,
        agency: str,
        loop: VirtualLoop,
        rng: random.Random,
        habits: Habits,
        tell: Tell,
        script: Script | None = None,
    ) -> None:
        self.agency = agency
        self.habits = habits
        self.at_work = True
        self.files: dict[str, Batch] = {}
        """Dropped and not reported back yet, in order."""
        self.every_file: dict[str, Batch] = {}
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        """(source, line) -> what was said; acknowledged from here on."""
        self.received: dict[str, Arrived] = {}
        self.deliveries: Counter[str] = Counter()
        self.refused_here: set[str] = set()
        """Events that this system will never take."""
        self.told: dict[str, list[tuple[str, str | None]]] = {}
        self.wants_back: list[str] = []
        """Events that the caseworker would like to cancel."""
        self._loop = loop
        self.chance = rng
        self._tell = tell
        self._number = 0
        self._script = script

    # -- the caseworker -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        if self._script is not None:
            self._script.begins(self)
        elif self.agency == "bi/police":
            self.later(self.chance.expovariate(self.habits.cases_per_day / DAY), self._meets_somebody)
        self.later(spread(self.chance, HOUR, 3 * DAY), self.tidies_up)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self._loop.call_later(seconds, lambda: act() if self.at_work else None)

    def today(self) -> datetime:
        return datetime.fromtimestamp(int(EPOCH + self._loop.time()), UTC)

    def drop(self, *drafts: Draft) -> None:
        """One file into the folder."""
        self._number += 1
        source = f"{self.agency}#{self._number}"
        rows: list[Draft | Problem] = []
        for place, draft in enumerate(drafts, 2):
            rows.append(self._with_mistake(replace(draft, line=f"ligne {place}")))
        if self.chance.random() < self.habits.mistakes:
            rows.append(Problem("ligne 99", "row_invalid", "Ligne illisible", "Unreadable row", "ligne 99"))
        self.every_file[source] = self.files[source] = Batch(source, f"fichier {self._number}.xlsx", tuple(rows))

    def _with_mistake(self, draft: Draft) -> Draft:
        if self.chance.random() >= self.habits.mistakes:
            return draft
        match self.chance.choice(("nobody", "state", "consent", "type", "thread")):
            case "nobody":
                return replace(draft, to="bi/nobody")
            case "state":
                return replace(draft, type="referral.completed", facts=self._facts(answer=Answer(outcome="goals-met")))
            case "consent":
                return replace(draft, facts=self._facts())
            case "type":
                return replace(draft, type="referral.invented")
            case _:
                return replace(draft, thread="AAAAAAAAAAAAAAAAAAAAAA")

    def _facts(
        self,
        *,
        lawful: Lawful | None = None,
        htcds: dict[str, str | tuple[str, ...]] | None = None,
        birth: Birth | None = None,
        referral: Referral | None = None,
        answer: Answer | None = None,
        service: Service | None = None,
    ) -> Facts:
        return Facts(
            occurred_at=self.today(),
            htcds=htcds or {},
            lawful=lawful,
            birth=birth,
            referral=referral,
            answer=answer,
            service=service,
        )

    def _lawful(self) -> Lawful:
        if self.chance.random() < 0.8:
            today = self.today()
            return Lawful(basis="consent", consent=Consent(given_at=today, expires_at=today + timedelta(days=180)))
        return Lawful(basis="vital-interests", author=f"Agent {PLANTED_NAME}", reason=f"Danger, dit {PLANTED_NAME}")

    def name(self) -> str:
        given = self.chance.choice(("Aline", "Éric", "Ndayishimiye", "مريم"))
        return f"{given} {PLANTED_NAME}{self.chance.randrange(10**6)}"

    def _birth(self) -> Birth:
        return Birth(precision="year", date=str(self.chance.randint(1960, 2004)))

    def _meets_somebody(self) -> None:
        person = f"dossier-{self.chance.randrange(10**9)}"
        name = self.name()
        facts = self._facts(
            lawful=self._lawful(),
            htcds={"prs_FirstName": name, "prs_MobilePhone": f"{PLANTED_NUMBER}{self.chance.randrange(1000):03}"},
            birth=self._birth(),
        )
        self.drop(Draft("", "bi/iom", "case.identified", person, None, facts))
        self.later(self.chance.expovariate(self.habits.cases_per_day / DAY), self._meets_somebody)

    def _screens(self, case: Arrived) -> None:
        person = f"cas-{self.chance.randrange(10**9)}"
        told = self._facts(lawful=self._lawful(), birth=self._birth())
        drafts = [Draft("", "bi/min-solidarity", "case.screened", person, None, told)]
        drafts += [
            Draft("", shelter, "referral.requested", person, None, self._referral())
            for shelter in self.chance.sample(SHELTERS, self.chance.choice((1, 1, 1, 2)))
        ]
        if self.chance.random() < 0.5:
            self.drop(*drafts)
            return
        for draft in drafts:
            self.drop(draft)

    def _referral(self) -> Facts:
        referral = Referral(
            priority=self.chance.choice(("immediate", "emergency", "urgent", "normal")),
            name=Name(as_given=self.name()),
            birth=self._birth(),
            services=(self.chance.choice(SERVICES),),
            safe_contact=SafeContact(channel="telephone", address=f"{PLANTED_NUMBER}{self.chance.randrange(1000):03}"),
            reason=f"Connaît {self.name()}" * self.chance.choice((1, 1, 40)),
        )
        return self._facts(lawful=self._lawful(), referral=referral)

    def _answers(self, request: Arrived) -> None:
        """The whole of a shelter's work on one referral, step after step."""
        steps = ["referral.received"] if self.chance.random() < 0.8 else []
        if self.chance.random() < 0.25:
            steps.append("referral.declined")
        else:
            steps += ["referral.accepted", *["referral.started"] * self.chance.randint(0, 1)]
            steps += ["service.provided"] * self.chance.randint(0, 3)
            steps += ["referral.completed"] * self.chance.randint(0, 1)
        if self.chance.random() < 0.3:
            # A whole week written down at once, on paper first.
            self.drop(*(self._answer(request, step) for step in steps))
            return
        self._goes_on(request, steps)

    def _goes_on(self, request: Arrived, steps: list[str]) -> None:
        if not steps:
            return
        self.drop(self._answer(request, steps[0]))
        self.later(spread(self.chance, 60, 3 * DAY), lambda: self._goes_on(request, steps[1:]))

    def _answer(self, request: Arrived, step: str) -> Draft:
        facts = self._facts()
        if step == "referral.declined":
            facts = self._facts(answer=Answer(reason=self.chance.choice(("no-capacity", "unsafe-here"))))
        elif step == "referral.completed":
            facts = self._facts(answer=Answer(outcome="goals-met"))
        elif step == "service.provided":
            facts = self._facts(service=Service(type=self.chance.choice(SERVICES), began_at=self.today()))
        return Draft("", request.iss, step, None, request.thread, facts, ref=request.evt)

    def _refers_again(self, declined: Arrived) -> None:
        other = SHELTERS[1 - SHELTERS.index(declined.iss)]
        self.drop(Draft("", other, "referral.requested", declined.person, None, self._referral()))

    def _settles_late(self, accepted: Arrived) -> None:
        """The acceptance came after the deadline: she has telephoned, and confirms or revokes."""
        word = self.chance.choice(("referral.reopened", "referral.reopened", "referral.revoked"))
        self.drop(Draft("", accepted.iss, word, accepted.person, accepted.thread, self._facts()))

    def tidies_up(self) -> None:
        """Drops an old file again, by mistake; changes her mind about something."""
        if self.every_file and self.chance.random() < 0.5:
            batch = self.chance.choice(list(self.every_file.values()))
            self.files.setdefault(batch.source, batch)
        self.later(spread(self.chance, HOUR, 3 * DAY), self.tidies_up)

    # -- what the connector does to it --------------------------------------------------------------------------------

    def report(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        if [outcome.line for outcome in outcomes] != [item.line for item in batch.items]:
            raise BrokenPromiseError(f"{self.agency}: outcomes do not follow the lines of {batch.source}")
        for outcome in outcomes:
            key = (batch.source, outcome.line)
            before = self.outcomes.setdefault(key, outcome)
            code = None if outcome.problem is None else outcome.problem.code
            if (before.evt, before.problem and before.problem.code) != (outcome.evt, code):
                raise BrokenPromiseError(f"{self.agency}: {key} was told another outcome before")
            if before is outcome and outcome.evt is not None and self.chance.random() < self.habits.takes_back:
                self.wants_back.append(outcome.evt)
        self.files.pop(batch.source, None)

    def take(self, arrived: Arrived) -> None:
        self.deliveries[arrived.ident] += 1
        before = self.received.get(arrived.ident)
        if before is not None:
            if (before.type, before.thread, before.facts) != (arrived.type, arrived.thread, arrived.facts):
                raise BrokenPromiseError(f"{self.agency}: {arrived.ident} was delivered again as something else")
            return
        if arrived.ident in self.refused_here or self.chance.random() < self.habits.undeliverable:
            self.refused_here.add(arrived.ident)
            raise UndeliverableError(Problem("", "payload_invalid", "Impossible ici", "Not possible here"))
        self.received[arrived.ident] = arrived
        self._tell(self.agency, f"received {arrived.type} {arrived.ident}")
        if self._script is not None:
            self._script.hears(self, arrived)
        elif arrived.type == "case.identified":
            self.later(spread(self.chance, HOUR, 2 * DAY), lambda: self._screens(arrived))
        elif arrived.type == "referral.requested":
            self.later(spread(self.chance, 600, 4 * DAY), lambda: self._answers(arrived))
        elif arrived.type == "referral.declined" and self.chance.random() < 0.5:
            self.later(spread(self.chance, HOUR, DAY), lambda: self._refers_again(arrived))
        elif arrived.state == "late-acceptance" and arrived.type == "referral.accepted":
            self.later(spread(self.chance, HOUR, DAY), lambda: self._settles_late(arrived))


class Desktop:
    """The connector of one adapter process."""

    name: ClassVar[str] = "desktop"

    def __init__(self, system: System, life: Life, rng: random.Random) -> None:
        self._system = system
        self._life = life
        self._rng = rng
        self.fails = system.habits.fails

    def _may_fail(self) -> None:
        self._life.check()
        if self._rng.random() < self.fails:
            raise NotNowError

    async def collect(self) -> AsyncIterator[Batch]:
        for batch in list(self._system.files.values()):
            self._life.check()
            yield batch

    async def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        self._may_fail()
        self._system.report(batch, outcomes)
        self._may_fail()

    async def deliver(self, arrived: Arrived) -> None:
        self._may_fail()
        self._system.take(arrived)
        self._may_fail()

    async def erase(self, ident: str) -> Erased:
        raise BrokenPromiseError(f"{self._system.agency}: told to erase what nobody asked to erase")

    async def changed(self, evt: str, line: str, source: str, state: str, code: str | None) -> None:
        self._may_fail()
        batch = self._system.every_file.get(source)
        if batch is None or line not in {item.line for item in batch.items}:
            raise BrokenPromiseError(f"{self._system.agency}: told of a line that was never dropped")
        self._system.told.setdefault(evt, []).append((state, code))
        self._may_fail()
