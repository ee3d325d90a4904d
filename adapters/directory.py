# SPDX-License-Identifier: Apache-2.0
"""The directory at work: services told and listed, a place asked for without a name, one yes for one place.

    provider   service.published ->                 beside it, in the mailbox only: how many places are free
    asker      availability.asked ->                to every provider of that service
    provider   <- availability.answered             by this module, from what it published; a yes keeps the place
    asker      availability.held ->                 to one; availability.released -> to the others
    provider   <- availability.released             only when the place was given away meanwhile: telephone

A question is decided when it is handed over, in the order of the mailbox, in one transaction with its answer: two
askers of one place get one yes, whatever crashes in between. A yes that was not taken in time is free for whoever asks
next, and for nobody before; taken too late it stands if the place is still there. How long a yes keeps a place is the
policy's (`places`): whoever asks again and again and takes nothing gets a yes that keeps nothing.

A service whose places are not counted, or that was never published, is answered by people: then nothing is said here.
`DirectoryDesk` is a connector beside the agency's own, and the first of them: a file that somebody has open must not
change whose question comes first. It also relays safety warnings (`relay`), and forgets what an alert that is over had
told (`forget`).

Must never: ask, say or keep anything by which a person could be told from others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar

from adapters.connectors.contract import Arrived, Batch, Draft, Erased, Outcome
from adapters.desk import Desk
from adapters.directory_book import Asked, DirectoryBook, OwnService, Reservation, ReservationState, fits
from adapters.outbox import Outbox
from adapters.rights_book import RightsBook
from schemas.envelope import mailbox_topic
from schemas.errors import OrderError, PayloadError, RegistryError, UmuhuzaError
from schemas.forms import Facts, Form
from schemas.keys import b64url
from schemas.lifecycle import MACHINES
from schemas.plain.alert import AlertCleared, SafetyWarning
from schemas.plain.directory import (
    AvailabilityAnswered,
    AvailabilityAsked,
    AvailabilityHeld,
    AvailabilityReleased,
    Capacity,
    ServicePublished,
    band_of,
)
from topics.catalogue import Act, may
from topics.policy_file import policy

BELIEVE_S = 12 * 3600
"""How long others may believe how full a service said it was."""
SOURCE = "directory"
"""Of the outgoing items that this module makes by itself."""


class Directory:
    """What an agency does in the directory. Used from one event loop, or from a command beside a running adapter."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._outbox = Outbox(desk)
        self.book = DirectoryBook(desk.mailbox)

    # -- the provider -------------------------------------------------------------------------------------------------

    def publish(self, said: ServicePublished, places: int | None) -> list[str]:
        """Tell every member that may know of this service. Returns whom.

        Args:
            said: `capacity` is made here, from `places`.
            places: free now and promised to nobody; None: not counted, questions are answered by people.

        Raises:
            UmuhuzaError: nothing was published.
        """
        desk = self._desk
        capacity = None
        if places is not None:
            capacity = Capacity(band=band_of(places), until=desk.today() + timedelta(seconds=BELIEVE_S))
        said = said.model_copy(update={"capacity": capacity})
        told: list[str] = []
        with desk.mailbox.transaction():
            now = int(desk.now())
            number = self.book.publish(said, places, int(said.valid_until.timestamp()), now)
            for peer in hearers(desk, "directory", "service.published"):
                thread = self.book.told_on(said.entry, peer)
                line = f"{said.entry} {number} {peer}"
                evt = self._say(peer, "service.published", said, thread=thread, line=line)
                item = desk.mailbox.outgoing(evt)
                if item is not None:
                    self.book.told(said.entry, peer, item.thread)
                    told.append(peer)
        return told

    def answer(self, arrived: Arrived) -> None:
        """A question for a place: yes or no, if it is ours to say. Idempotent; one transaction."""
        asked = arrived.facts.said
        if not isinstance(asked, AvailabilityAsked):
            return
        box = self._desk.mailbox
        with box.transaction():
            thread = box.thread(arrived.thread)
            if thread is None or thread.state != "asked":
                return  # answered already, or the asker needs no answer any more
            at = arrived.at_ms / 1000
            ours = [one for one in self.book.services() if one.expires_at > at and not one.said.withdrawn]
            if not ours:
                return  # nothing was published here: a person answers
            same = [one for one in ours if _is_asked_for(one.said, asked)]
            suiting = [one for one in same if _suits(one.said, asked)]
            if any(one.places is None for one in suiting):
                return  # not counted: a person answers
            for one in suiting:
                self.book.expire(one.said.entry, at)
            free = [one for one in suiting if self.book.free(one) >= asked.count]
            if free:
                self._offer(arrived, free[0], asked.count)
            else:
                reason = "full" if suiting else "not-for-this-person" if same else "not-our-service"
                said = AvailabilityAnswered.model_validate({"answer": "no", "reason": reason})
                self._try(arrived.iss, "availability.answered", said, arrived)

    def _offer(self, arrived: Arrived, service: OwnService, places: int) -> None:
        """Yes, kept for as long as the asker may still keep something here without taking it."""
        rule, entry = policy().places, service.said.entry
        now = int(max(self._desk.now(), arrived.at_ms / 1000))
        left = rule.untaken_s - self.book.kept_untaken(entry, arrived.iss, now - rule.within_s)
        until = now + max(0, min(rule.hold_s, left // places))
        hold_until = datetime.fromtimestamp(until, self._desk.today().tzinfo)
        said = AvailabilityAnswered(answer="yes", hold_until=hold_until, telephone=service.said.telephone)
        if self._try(arrived.iss, "availability.answered", said, arrived):
            state: ReservationState = "offered" if until > now else "expired"
            self.book.reserve(Reservation(arrived.thread, entry, service.publication, places, state, until, now, until))

    def held(self, arrived: Arrived) -> None:
        """The asker takes what was offered: it is hers, unless it was given away after the time. Idempotent."""
        box = self._desk.mailbox
        with box.transaction():
            one = self.book.reservation(arrived.thread)
            if one is None or one.state in ("held", "released"):
                return
            if one.is_open:
                self.book.reserve(replace(one, state="held", untaken_until=self._until_now(one)))
                return
            now = next((each for each in self.book.services() if each.said.entry == one.entry), None)
            if now is not None and now.places is not None and self.book.free(now) >= one.places:
                self.book.reserve(replace(one, state="held", publication=now.publication))
            else:
                self._try(arrived.iss, "availability.released", AvailabilityReleased(reason="too-late"), arrived)
                self.book.reserve(replace(one, state="released"))

    def freed(self, arrived: Arrived) -> None:
        """The asker does not need it: it is free again. Idempotent."""
        with self._desk.mailbox.transaction():
            one = self.book.reservation(arrived.thread)
            if one is not None and one.state != "released":
                until = self._until_now(one) if one.is_open else one.untaken_until
                self.book.reserve(replace(one, state="released", untaken_until=until))

    def _until_now(self, one: Reservation) -> int:
        """When an open offer stops being kept untaken, if that is now."""
        return max(one.made_at, min(one.untaken_until, int(self._desk.now())))

    # -- the asker ----------------------------------------------------------------------------------------------------

    def ask(self, asked: AvailabilityAsked) -> tuple[str, list[Outcome]]:
        """Ask everybody who published that service for such a person. Returns the question's name, and what became of
        each.

        Raises:
            UmuhuzaError: nothing was asked: a stale registry, a full disk.
        """
        desk = self._desk
        name = b64url(desk.random(6))
        peers = sorted({one.agency for one in self.book.listings(desk.now()) if _suits_listed(one.said, asked)})
        facts = Facts(occurred_at=desk.today(), said=asked)
        drafts = tuple(Draft(peer, peer, "availability.asked", None, None, facts) for peer in peers)
        with desk.mailbox.transaction():
            outcomes = self._outbox.accept(Batch(f"beds:{name}", "beds", drafts), "")
            for outcome in outcomes:
                item = None if outcome.evt is None else desk.mailbox.outgoing(outcome.evt)
                if item is not None:
                    self.book.ask(item.thread, name, item.peer)
        return name, outcomes

    def state(self, one: Asked) -> str:
        """`asked`, `offered`, `refused`, `held`, `released`: where the question stands; `unsent`: it never left."""
        thread = self._desk.mailbox.thread(one.thread)
        return "unsent" if thread is None else thread.state

    def told(self, one: Asked) -> str:
        """`state`, but `asked` until the answer itself is here: its record is taken in just before what it says."""
        state = self.state(one)
        unread = state in ("offered", "refused") and one.hold_until is None and one.reason is None
        return "asked" if unread else state

    def take(self, thread: str) -> list[str]:
        """Take the place offered on that thread, and release every other question asked with it. Returns whom it
        released.

        Raises:
            OrderError: `thread_unknown`; `transition_invalid`: nothing is offered there (any more).
        """
        asks = self.book.asks()
        chosen = next((one for one in asks if one.thread == thread), None)
        if chosen is None:
            raise OrderError("thread_unknown", "thread")
        released: list[str] = []
        with self._desk.mailbox.transaction():
            self._say(chosen.peer, "availability.held", AvailabilityHeld(), thread=thread)
            for one in asks:
                if one.ask == chosen.ask and one.thread != thread and self._is_open(one):
                    self._release(one, "another-place")
                    released.append(one.peer)
        return released

    def release(self, ask: str) -> list[str]:
        """Nothing of that question is needed any more. Returns whom it told. Raises OrderError `thread_unknown`."""
        asks = [one for one in self.book.asks() if ask in (one.ask, one.thread)]
        if not asks:
            raise OrderError("thread_unknown", "ask")
        with self._desk.mailbox.transaction():
            open_ones = [one for one in asks if self._is_open(one) or self.state(one) == "held"]
            for one in open_ones:
                self._release(one, "not-needed")
        return [one.peer for one in open_ones]

    def _is_open(self, one: Asked) -> bool:
        return self.state(one) in ("asked", "offered")

    def _release(self, one: Asked, reason: str) -> None:
        said = AvailabilityReleased.model_validate({"reason": reason})
        self._say(one.peer, "availability.released", said, thread=one.thread)

    # -- warnings -----------------------------------------------------------------------------------------------------

    def relay(self, arrived: Arrived) -> None:
        """A warning about somebody whom we look after: on, to each agency that holds her now, on a thread of its own.

        Whom it concerns we know by the event that it names, if that is of a thread linked to a person of ours; the
        holders are those to whom we referred her, where that is not over. Who they are is told to nobody. A warning
        that names no event, or nobody we have linked, stays with the people here, who telephone. Idempotent.
        """
        said = arrived.facts.said
        if not isinstance(said, SafetyWarning) or said.about is None:
            return
        box = self._desk.mailbox
        with box.transaction():
            source = box.thread_of(said.about, arrived.iss)
            about = None if source is None else box.thread(source)
            if about is None or about.person is None or self.book.relayed(arrived.ident):
                return
            warned = {arrived.iss}
            for thread in box.threads():  # the last changed first: of two with one holder, the one at work now
                if thread.person != about.person or thread.machine != "referral" or thread.role != "initiator":
                    continue
                if thread.peer in warned or MACHINES["referral"].states[thread.state].final:
                    continue
                warned.add(thread.peer)
                on = said.model_copy(update={"about": thread.opened_by})
                self._try(thread.peer, "safety.warning", on, arrived, thread=None)

    def forget(self, arrived: Arrived, said: AlertCleared) -> None:
        """The search is over: what this thread's `alert.missing` told is erased here, its keys first. Idempotent."""
        desk = self._desk
        with desk.mailbox.transaction():
            for evt in said.erases:
                item = desk.mailbox.arrivals.of(f"{arrived.iss}/{evt}")
                if item is not None and item.type == "alert.missing" and item.thread == arrived.thread:
                    RightsBook(desk.mailbox).erase(item.ident, desk.agency, "", int(desk.now()))

    # -- saying -------------------------------------------------------------------------------------------------------

    def _say(self, to: str, type: str, said: Form, *, thread: str | None, line: str = "") -> str:
        """Enqueue it; `line`: said once for that. Inside a transaction."""
        facts = Facts(occurred_at=self._desk.today(), said=said)
        line = line or b64url(self._desk.random(12))
        return self._outbox.compose(Draft(line, to, type, None, thread, facts), SOURCE, "")

    def _try(self, to: str, type: str, said: Form, arrived: Arrived, *, thread: str | None = "") -> bool:
        """Say what follows from what arrived, on its thread or a new one (None). False: it may not be said (any more).

        Raises UmuhuzaError: a retriable one, such as a full disk: it is handed over again.
        """
        on = arrived.thread if thread == "" else thread
        try:
            with self._desk.mailbox.attempt():
                self._say(to, type, said, thread=on, line=f"{arrived.ident} {to}")
        except UmuhuzaError as exc:
            if exc.retriable:
                raise
            return False
        return True


class DirectoryDesk:
    """The connector: what arrives for the directory is dealt with before people see it. Brings nothing of its own."""

    name: ClassVar[str] = SOURCE

    def __init__(self, desk: Desk) -> None:
        self._directory = Directory(desk)

    async def collect(self) -> AsyncIterator[Batch]:
        nothing: tuple[Batch, ...] = ()
        for batch in nothing:
            yield batch

    async def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        return

    async def deliver(self, arrived: Arrived) -> None:
        """Idempotent. Raises UmuhuzaError: a retriable one, of our own disk."""
        said, book = arrived.facts.said, self._directory.book
        if isinstance(said, ServicePublished):
            book.listed(arrived.iss, said, int(arrived.facts.occurred_at.timestamp()))
        elif arrived.type == "availability.asked":
            self._directory.answer(arrived)
        elif isinstance(said, AvailabilityAnswered):
            until = None if said.hold_until is None else int(said.hold_until.timestamp())
            book.answer(arrived.thread, until, said.reason, said.telephone)
        elif arrived.type == "availability.held":
            self._directory.held(arrived)
        elif arrived.type == "availability.released":
            self._directory.freed(arrived)
        elif arrived.type == "safety.warning":
            self._directory.relay(arrived)
        elif isinstance(said, AlertCleared):
            self._directory.forget(arrived, said)

    async def erase(self, ident: str) -> Erased:
        """Nothing: what is listed here names nobody."""
        return Erased()

    async def changed(self, evt: str, line: str, source: str, state: str, code: str | None) -> None:
        return


def hearers(desk: Desk, flow: str, type: str) -> list[str]:
    """Whom an update of that type may be sent to: the policy lets us, and they have a key to seal to (a gateway's
    operator has none).

    Raises PolicyError `not_permitted`, path the rule: there are others, and the policy lets us send it to none of them.
    """
    registry = desk.registry()
    found: list[str] = []
    acts = {
        peer: Act("send", desk.agency, mailbox_topic(flow, peer), "update", type)
        for peer in registry.agencies
        if peer != desk.agency
    }
    verdicts = {peer: may(act, registry) for peer, act in acts.items()}
    if verdicts and not any(verdict.ok for verdict in verdicts.values()):
        next(iter(verdicts.values())).require()
    for peer, verdict in verdicts.items():
        if not verdict.ok:
            continue
        try:
            registry.seal_keys(peer, int(desk.now()))
        except RegistryError:
            continue
        found.append(peer)
    return found


def service_of(raw: dict[str, object]) -> tuple[dict[str, object], int | None]:
    """What a file says of a service: the form's members, and beside them `places`, which stays here.

    Raises PayloadError `payload_invalid`: `places` is no number of places, or the file says what is made here.
    """
    members = dict(raw)
    places = members.pop("places", None)
    if places is not None and (isinstance(places, bool) or not isinstance(places, int) or not 0 <= places <= 9999):
        raise PayloadError("payload_invalid", path="places")
    if "capacity" in members:
        raise PayloadError("payload_invalid", path="capacity")
    return members, places


def _is_asked_for(said: ServicePublished, asked: AvailabilityAsked) -> bool:
    return asked.service in said.types and (asked.local is None or asked.local == said.local)


def _suits(said: ServicePublished, asked: AvailabilityAsked) -> bool:
    sexes = said.sexes if asked.sex == "any" else (asked.sex,)
    return fits(said, asked.local or asked.service, (asked.age,), sexes)


def _suits_listed(said: ServicePublished, asked: AvailabilityAsked) -> bool:
    return _is_asked_for(said, asked) and _suits(said, asked)
