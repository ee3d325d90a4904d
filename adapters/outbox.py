# SPDX-License-Identifier: Apache-2.0
"""The way out: a draft becomes a sealed event, a signed record, a promise.

    Draft -> lifecycle: does it fit the thread -> events, fhir: validate, minimise -> catalogue: may(...)
          -> envelope: seal once -> mailbox (waiting) -> sign in the chain's order (signed) -> log -> promise

Sealing happens once, when the event enters the outbox: from then on its bytes are fixed but for number and signature.
Signing fixes those; the signed bytes are durable before the first of them leaves, and nothing else is ever sent under
that number. A record that is refused for good keeps its number; the next manifest on that topic names it in `voids`.

Owns no state of its own: everything is in the mailbox. Never logs or raises a value of a draft.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType

from adapters.attachment_book import AttachmentBook
from adapters.connectors.contract import Batch, Draft, Outcome, Problem
from adapters.consent_book import ConsentBook
from adapters.corrected import on_thread, require
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Outgoing, Thread, TurnedDown
from adapters.refusal_book import RefusalBook
from adapters.rights_book import RightsBook
from adapters.risk_book import RiskBook
from schemas import attachments, event_rules, events, lifecycle, minimise, whom
from schemas.envelope import (
    Acts,
    Manifest,
    Part,
    chain_hash,
    cloudevents_headers,
    mailbox_topic,
    new_evt,
    new_thread,
    parse_manifest,
    record_value,
    sign_manifest,
    split_topic,
)
from schemas.errors import CODES, LogError, OrderError, PayloadError, PolicyError, RegistryError, UmuhuzaError
from schemas.event_types import EVENTS, THREAD_FLOW
from schemas.forms import YEARS, Facts
from schemas.keys import RandomBytes, b64url
from schemas.plain.alert import AlertCleared
from schemas.plain.attachment import ANNOUNCED, CHUNK, AttachmentChunk
from schemas.plain.record import RecordCorrected
from schemas.plain.transfer import ReturnDeparted
from schemas.registry import Registry
from schemas.sealing import make_grant, seal_parts
from topics.catalogue import Act, allowed_fields, answer_within_s, mailboxes_of, may, may_attach
from topics.log import Appended, Entry, Log, grant_key, grants_topic

MAX_LINES = 200
"""Records per request."""
MAX_REQUEST_BYTES = 4 << 20
CHUNKS_AT_ONCE = 4
"""Records of attachments that are signed before others get their turn: half a megabyte, so that nothing urgent waits
behind a scan."""
FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 900.0
_BY_COMMAND = frozenset(
    (
        "record.retracted",
        "erasure.requested",
        "erasure.executed",
        "erasure.attested",
        "disclosure.granted",
        "disclosure.ended",
    )
)
"""What nobody says by hand: alone, the words erase nothing, attest what nobody looked at, or give keys that no list of
ours knows. `adapters.corrections` and `adapters.disclosures` say it together with doing it."""
_NO_PARTS: Mapping[str, bytes] = MappingProxyType({})
DATED = range(*(int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (YEARS.start, YEARS.stop)))
"""Moments that we write, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What both ways need: who we are, what we know, the time, and chance."""

    mailbox: Mailbox
    keys: Keys
    registry: Callable[[], Registry]
    """The newest registry we hold."""
    now: Callable[[], float]
    """Seconds since the epoch, corrected by the gateway's clock."""
    random: RandomBytes
    attachment_bytes: int = attachments.DEFAULT_LIMIT
    """Of all files of one event, sent or taken."""

    @property
    def agency(self) -> str:
        return self.keys.agency

    def today(self) -> datetime:
        """Now, to the second.

        Raises LogError `unavailable` (path `clock`) where no date that we write could say it: wait until it is right.
        """
        at = int(self.now())
        if at not in DATED:
            raise LogError("unavailable", "clock")
        return datetime.fromtimestamp(at, UTC)


def backoff_s(attempts: int, random: RandomBytes) -> float:
    """Exponential with full jitter, 5 s to 15 min: after a cut, agencies do not all come back in the same second."""
    ceiling = min(LONGEST_RETRY_S, FIRST_RETRY_S * float(1 << min(attempts, 10)))
    return ceiling * (0.5 + int.from_bytes(random(2), "big") / 131_072)


class Outbox:
    """See the module's docstring. Used from one event loop; several processes may send from one mailbox."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rights = RightsBook(desk.mailbox)
        self._refusals = RefusalBook(desk.mailbox)
        self._attached = AttachmentBook(desk.mailbox)
        self._risk = RiskBook(desk.mailbox)
        self._silent = False
        """Whether the log did not answer the last time that something was sent."""

    # -- in: drafts ---------------------------------------------------------------------------------------------------

    def accept(self, batch: Batch, connector: str) -> list[Outcome]:
        """Put a batch into the outbox in one transaction; one outcome per item, in order.

        Known lines give what was said the first time (`again`). One bad draft refuses no other.

        Raises:
            UmuhuzaError: a retriable one (storage_full, registry_stale, ...): nothing was stored, the connector offers
                the batch again.
        """
        outcomes: list[Outcome] = []
        box = self._desk.mailbox
        with box.transaction():
            new = box.begin_batch(batch.source, connector, int(self._desk.now()))
            for item in batch.items:
                if isinstance(item, Problem):
                    self._note_refusal(batch.source, item.line or "*", item.code, item.path)
                    outcomes.append(Outcome(item.line, None, item, again=not new))
                    continue
                known = box.known_line(batch.source, item.line)
                if isinstance(known, TurnedDown):
                    outcomes.append(Outcome(item.line, None, _problem(item, known.code, known.path), again=True))
                elif known is not None:
                    outcomes.append(Outcome(item.line, known.evt, None, again=True))
                else:
                    outcomes.append(self._take(batch.source, item, connector))
        return outcomes

    def _take(self, source: str, draft: Draft, connector: str) -> Outcome:
        try:
            if draft.type in _BY_COMMAND or self._is_withdrawal(draft):
                raise OrderError("command_needed", "type")
            self._expires_in_time(draft)
            with self._desk.mailbox.attempt():
                evt = self.compose(draft, source, connector)
        except UmuhuzaError as exc:
            if exc.retriable:
                raise  # ours to wait for (a stale registry): nothing is stored and the batch is offered again
            self._desk.mailbox.turn_down(source, draft.line, exc.code, exc.path)
            self._note_refusal(source, draft.line, exc.code, exc.path, draft)
            return Outcome(draft.line, None, _problem(draft, exc.code, exc.path))
        return Outcome(draft.line, evt, None)

    def _is_withdrawal(self, draft: Draft) -> bool:
        """Whether somebody whom we know withdraws: alone, the words would reach one holder and stop nothing here."""
        if draft.type != "consent.withdrawn":
            return False
        box = self._desk.mailbox
        wanted = draft.thread or (None if draft.ref is None else box.thread_of(draft.ref, draft.to))
        thread = None if wanted is None else box.thread(wanted)
        return draft.person is not None or (thread is not None and thread.person is not None)

    def _note_refusal(self, source: str, line: str, code: str, path: str | None, draft: Draft | None = None) -> None:
        self._refusals.note(
            "outgoing",
            f"{source} {line}",
            code,
            path,
            at=int(self._desk.now()),
            type="" if draft is None else draft.type,
            peer="" if draft is None else draft.to,
            members=self._desk.registry().agencies,
        )

    def compose(self, draft: Draft, source: str, connector: str) -> str:
        """Validate, minimise, seal and enqueue one draft, with its files; returns its evt. Call inside a transaction.

        Raises:
            UmuhuzaError: with the code and path of what is wrong; undo what was stored then (`Mailbox.attempt`).
                `consent_withdrawn` when the person has withdrawn her consent since she gave it; `risk_extreme` where
                nobody departs. Of files:
                `too_large`, `attachment_type`, `payload_invalid`, `not_permitted`, before anything is sealed.
        """
        if draft.type == ANNOUNCED:
            raise PayloadError("payload_invalid", "type")  # made here, from the files themselves
        if draft.files:
            attachments.check(draft.files, self._desk.attachment_bytes)
            may_attach(draft.type, self._desk.registry().agency(draft.to)).require()
        evt = self._compose(draft, source, connector)
        if draft.files:
            self._attach(evt, draft, source, connector)
        return evt

    def _attach(self, evt: str, draft: Draft, source: str, connector: str) -> None:
        """Announce the files of an event that was just enqueued, and enqueue their chunks. The connector hears what
        becomes of the announcement, under the draft's line and the event's type: it is whole over there, or not."""
        carrier = self._desk.mailbox.outgoing(evt)
        if carrier is None:
            raise OrderError("thread_unknown", "evt")
        said = attachments.announcement(evt, draft.files)
        (_, first), *others = attachments.records_of(attachments.chunks(draft.files))
        announced = self._compose(
            Draft(
                line=f"{draft.line} {ANNOUNCED}",
                to=draft.to,
                type=ANNOUNCED,
                person=None,
                thread=carrier.thread,
                facts=Facts(occurred_at=draft.facts.occurred_at, lawful=draft.facts.lawful, said=said),
                ref=evt,
            ),
            source,
            connector,
            attachments.parts_of(first),
        )
        for number, some in others:
            self._control(
                CHUNK,
                Facts(occurred_at=self._desk.today(), said=AttachmentChunk(announced=announced, first=number)),
                to=draft.to,
                flow=split_topic(carrier.topic)[0],
                thread=carrier.thread,
                ref=announced,
                source=source,
                line=f"{draft.line} {CHUNK} {number}",
                parts=attachments.parts_of(some),
            )

    def _compose(self, draft: Draft, source: str, connector: str, parts: Mapping[str, bytes] = _NO_PARTS) -> str:
        """One event. `parts`: beside identity and content."""
        desk = self._desk
        known = EVENTS.get(draft.type)
        if known is None or known.machine is None:
            raise PayloadError("payload_invalid", "type")
        registry = desk.registry()
        now = int(desk.now())
        registry.agency(draft.to)
        if draft.to == desk.agency:
            raise PolicyError("not_permitted", "to")  # a thread has two ends
        if known.kind == "request" and registry.is_stale(now):
            raise RegistryError("registry_stale")
        evt, today = new_evt(int(desk.now() * 1000), desk.random), desk.today()
        thread, before = self._step(draft, known.machine, evt)
        flow = THREAD_FLOW[thread.machine] if known.flow == "*" else known.flow
        if known.purpose is not None or draft.type == "consent.granted":
            ConsentBook(desk.mailbox).require(thread.person, thread.id, draft.facts)
            self._keep_refusals(thread, draft.facts)
        if isinstance(draft.facts.said, RecordCorrected):
            of = self._corrects(draft.facts.said, thread)
            thread = on_thread(thread, draft.facts.said, of, int(today.timestamp()))
        if isinstance(draft.facts.said, ReturnDeparted) and not self._risk.may_depart(thread.id):
            raise PolicyError("risk_extreme", "said")
        referral = whom.referral_of(draft.facts)
        if known.kind == "request" and referral is not None:
            within = answer_within_s(draft.type, referral.priority)
            thread = replace(
                thread,
                answer_by=None if within is None else now + within,
                services=referral.services,
                refused=tuple(name for name in referral.told_and_refused if " " not in name),
            )
        ref = draft.ref
        if ref is None and thread.opened_by != evt:
            ref = thread.opened_by
        self._enqueue(
            draft.type,
            draft.facts,
            registry=registry,
            evt=evt,
            to=draft.to,
            flow=flow,
            thread=thread.id,
            pseudonym=thread.pseudonym,
            ref=ref,
            source=source,
            line=draft.line,
            connector=connector,
            before=before,
            after=thread.state,
            answer_by=thread.answer_by if thread.opened_by == evt else None,
            services=thread.services,
            parts=parts,
            recorded_at=today,
        )
        desk.mailbox.put_thread(thread, now)
        desk.mailbox.dues.note_movement(draft.facts, thread.id, evt)
        if thread.machine == "transfer":
            self._risk.note(draft.facts, thread.id, evt, ours=True)
        if isinstance(draft.facts.said, AlertCleared):
            self._clear(evt, draft.facts.said, thread)
        return evt

    def _corrects(self, said: RecordCorrected, thread: Thread) -> str:
        """It corrects a record of ours on its own thread, says why and who says so, and brings nothing else. Returns
        the type of that record.

        Raises:
            OrderError: `thread_unknown`: it is no record of that thread; and as `adapters.corrected.require`.
            PayloadError: `payload_invalid`: no reason, no source.
        """
        item = self._desk.mailbox.outgoing(said.evt)
        if item is None or item.thread != thread.id or item.state in ("refused", "cancelled"):
            raise OrderError("thread_unknown", "said.evt")
        for name in ("reason", "source"):
            if getattr(said, name) is None:
                raise PayloadError("payload_invalid", path=f"said.{name}")
        require(said, item.type, thread.services)
        return item.type

    def _expires_in_time(self, draft: Draft) -> None:
        """Nobody ends by hand what may still be answered; the adapter does it by itself (`adapters.deadlines`).

        Raises OrderError: `transition_invalid`, path `answer_by`.
        """
        box = self._desk.mailbox
        wanted = draft.thread or (None if draft.ref is None else box.thread_of(draft.ref, draft.to))
        thread = None if wanted is None else box.thread(wanted)
        if thread is None or draft.type != lifecycle.MACHINES[thread.machine].expiry:
            return
        if thread.answer_by is None or self._desk.now() <= thread.answer_by:
            raise OrderError("transition_invalid", "answer_by")

    def _keep_refusals(self, thread: Thread, facts: Facts) -> None:
        """What she did not want shared when she was referred is not told later on the same consent.

        Raises PolicyError: `consent_missing`, at the field.
        """
        consent = None if facts.lawful is None else facts.lawful.consent
        if not thread.refused or consent is None:
            return
        first = ConsentBook(self._desk.mailbox).given_at(thread.opened_by)
        if first is not None and int(consent.given_at.timestamp()) > first:
            return  # she was asked again
        path = minimise.first_refused(facts, thread.refused)
        if path is not None:
            raise PolicyError("consent_missing", path)

    def _clear(self, evt: str, said: AlertCleared, thread: Thread) -> None:
        """The search is over: the word that says so commands gateways and reader to erase what the alert told. It
        carries the command itself, since a protected place may say nothing else to the police.

        Raises:
            OrderError: `thread_unknown`: it ends no alert of this thread.
            LogError: `unavailable`: the alert has not arrived in the log yet; in a moment it can be ended.
        """
        desk = self._desk
        idents: list[str] = []
        for place, one in enumerate(said.erases):
            item = desk.mailbox.outgoing(one)
            if item is None or item.type != "alert.missing" or item.thread != thread.id:
                raise OrderError("thread_unknown", f"said.erases[{place}]")
            if item.state in ("waiting", "signed"):
                raise LogError("unavailable", "outbox")
            if item.state not in ("refused", "cancelled"):
                idents.append(f"{desk.agency}/{one}")
        for item in desk.mailbox.outbox():  # who she is, said again
            if item.thread != thread.id or item.type != "record.corrected" or item.state in ("refused", "cancelled"):
                continue
            if not desk.mailbox.take_back(item.evt, int(desk.now())):
                if item.state == "signed":
                    raise LogError("unavailable", "outbox")
                idents.append(f"{desk.agency}/{item.evt}")
        if idents:
            self._rights.command(evt, idents)
        for ident in idents:
            self._rights.erase(ident, desk.agency, "", int(desk.now()))

    def _step(self, draft: Draft, machine: str, evt: str) -> tuple[Thread, str | None]:
        """The thread after this event, and its state before (None: new)."""
        desk = self._desk
        wanted, where = draft.thread, "thread"
        if wanted is None and draft.ref is not None:
            wanted, where = desk.mailbox.thread_of(draft.ref, draft.to) or "", "ref"
        thread = None if wanted is None else desk.mailbox.thread(wanted)
        if wanted is not None and thread is None:
            raise OrderError("thread_unknown", where)
        if thread is None:
            if machine == "*":
                raise OrderError("thread_unknown", where)  # it belongs to a thread, and begins none
            step = lifecycle.step(machine, None, draft.type, "initiator")
            identifier = new_thread(desk.random)
            if draft.person is None:
                pseudonym = self._fresh()
            else:
                pseudonym = desk.mailbox.pseudonym(draft.person, draft.to, self._fresh)
            return (
                Thread(identifier, draft.to, draft.person, machine, "initiator", pseudonym, step.state, evt),
                None,
            )
        if thread.peer != draft.to or machine not in (thread.machine, "*"):
            raise OrderError("transition_invalid", "thread")
        step = event_rules.step_on(
            thread.machine, thread.state, draft.type, draft.facts, thread.role, opened_by=thread.opened_by
        )
        if step.crossed:
            raise OrderError("transition_invalid", draft.type)
        if thread.person is not None and draft.person not in (None, thread.person):
            raise PayloadError("payload_invalid", "person")  # a slip of the pen would mix two people up for good
        person = thread.person if draft.person is None else draft.person
        return replace(thread, state=step.state, person=person), thread.state

    def _fresh(self) -> str:
        return b64url(self._desk.random(12))

    def receipt(
        self, type: str, facts: Facts, *, to: str, thread: str, ref: str, line: str, answers: Act | None
    ) -> str:
        """Enqueue a receipt in the transaction that stores what it receipts; returns its evt.

        `line` is the record it is for, by identity and digest: two records under one `evt` have two receipts.
        `answers`: that record as the policy is asked of it; None: it should not have been sent.
        """
        return self._control(
            type, facts, to=to, flow="receipt", thread=thread, ref=ref, source="receipt", line=line, answers=answers
        )

    def _control(
        self,
        type: str,
        facts: Facts,
        *,
        to: str,
        flow: str,
        thread: str,
        ref: str | None,
        source: str,
        line: str = "",
        answers: Act | None = None,
        parts: Mapping[str, bytes] = _NO_PARTS,
    ) -> str:
        """Enqueue what a machine says to a machine: about no person, in no thread's state. Returns its evt.

        Without `line` it is one of a kind; with one, there is one for that line.
        """
        desk = self._desk
        evt = new_evt(int(desk.now() * 1000), desk.random)
        self._enqueue(
            type,
            facts,
            registry=desk.registry(),
            evt=evt,
            to=to,
            flow=flow,
            thread=thread,
            pseudonym=self._fresh(),
            ref=ref,
            source=source,
            line=line or evt,
            connector="",
            before=None,
            after=None,
            answer_by=None,
            answers=answers,
            parts=parts,
        )
        return evt

    def _enqueue(
        self,
        type: str,
        facts: Facts,
        *,
        registry: Registry,
        evt: str,
        to: str,
        flow: str,
        thread: str,
        pseudonym: str,
        ref: str | None,
        source: str,
        line: str,
        connector: str,
        before: str | None,
        after: str | None,
        answer_by: int | None,
        services: Sequence[str] = (),
        answers: Act | None = None,
        parts: Mapping[str, bytes] = _NO_PARTS,
        recorded_at: datetime | None = None,
    ) -> None:
        """`services`: asked for on this thread; they widen what may travel. `parts`: beside identity and content.
        `recorded_at`: None: now."""
        desk = self._desk
        kind = EVENTS[type].kind
        sealable = events.compose(
            type,
            facts,
            iss=desk.agency,
            to=to,
            evt=evt,
            thread=thread,
            ref=ref,
            pseudonym=pseudonym,
            recorded_at=recorded_at or desk.today(),
            allowed=allowed_fields(type, services, registry.agency(to).roles),
            salt=desk.random(32),
        )
        topic = mailbox_topic(flow, to)
        claims = sealable.claims
        unsaid = claims is not None and claims.safeguards is None
        concerning = ConsentBook(desk.mailbox).whom(thread, facts) if unsaid else None
        act = Act("send", desk.agency, topic, kind, type, claims, desk.today(), answers, concerning, facts.said)
        may(act, registry).require()
        plaintexts = {"identity": sealable.identity, "content": sealable.content, **parts}
        sealed = seal_parts(f"{desk.agency}/{evt}", kind, plaintexts, desk.random)
        draft_manifest = Manifest(
            evt=evt,
            iss=desk.agency,
            to=to,
            topic=topic,
            kind=kind,
            thread=thread,
            seq=1,
            prev="",
            iat=1,
            reg=registry.version,
            parts=sealed.parts,
        )
        # Grants are bound to all of this but to number and time, which come with the signature.
        grants = tuple(
            make_grant(draft_manifest, sealed.keys, to, key).decode("ascii")
            for key in registry.seal_keys(to, int(desk.now()))
        )
        desk.mailbox.enqueue(
            Outgoing(
                evt=evt,
                source=source,
                line=line,
                connector=connector,
                peer=to,
                topic=topic,
                type=type,
                kind=kind,
                thread=thread,
                ref=ref,
                answer_by=answer_by,
                parts=json.dumps([[part.name, part.sha256, part.len, part.kc] for part in sealed.parts]),
                body=sealed.body,
                grants=grants,
                thread_before=before,
                thread_after=after,
                created_at=int(desk.now()),
            )
        )
        ConsentBook(desk.mailbox).note(
            type, sealable.claims, facts, evt=evt, thread=thread, peer=to, at=int(desk.now())
        )
        if sealable.claims is not None and sealable.claims.basis != "consent":
            self._rights.review("break-glass", f"{desk.agency}/{evt}", to, int(desk.now()))

    # -- out: signing and sending -------------------------------------------------------------------------------------

    def sign_waiting(self, limit: int = MAX_LINES) -> int:
        """Sign what is waiting, each in its chain's order; one transaction. Returns how many.

        What waited so long that the consent it rests on has run out is refused: it never leaves.
        """
        desk = self._desk
        consents = ConsentBook(desk.mailbox)
        count = 0
        with desk.mailbox.transaction():
            self._attached.give_up()
            chunks = desk.mailbox.waiting_chunks(CHUNKS_AT_ONCE, desk.now())
            for item in (*desk.mailbox.waiting(limit, desk.now()), *chunks):
                if consents.expired(item.evt, desk.now()):
                    desk.mailbox.refuse(item.evt, "consent_expired", "lawful.consent.expires_at", int(desk.now()))
                    continue
                seq, head = desk.mailbox.head(item.topic)
                voids = desk.mailbox.unnamed_voids(item.topic)
                manifest = Manifest(
                    evt=item.evt,
                    iss=desk.agency,
                    to=item.peer,
                    topic=item.topic,
                    kind=item.kind,
                    thread=item.thread,
                    seq=seq + 1,
                    prev=head,
                    iat=int(desk.now()),
                    reg=desk.registry().version,
                    parts=tuple(Part(*part) for part in json.loads(item.parts)),
                    training=desk.registry().training,
                    ref=item.ref,
                    voids=voids,
                    answer_by=item.answer_by,
                    acts=Acts(erase=erase) if (erase := self._rights.commands(item.evt)) else None,
                )
                line1 = sign_manifest(manifest, desk.keys.sig)
                count += desk.mailbox.mark_signed(item.evt, seq + 1, line1, chain_hash(line1), voids)
        return count

    def void_chains(self) -> int:
        """Where a number was refused and nothing else is on its way to say so, say it. Returns how many were said."""
        count = 0
        for topic in self._desk.mailbox.topics_to_void():
            try:
                self._void(topic)
            except (RegistryError, PolicyError):
                continue  # no member any more, no key, or no right to send there: there is nobody to tell
            count += 1
        return count

    def _void(self, topic: str) -> None:
        desk = self._desk
        flow, owner = split_topic(topic)
        facts, thread = Facts(occurred_at=desk.today()), new_thread(desk.random)
        with desk.mailbox.transaction():
            self._control("chain.voided", facts, to=owner, flow=flow, thread=thread, ref=None, source="chain")

    async def send(self, log: Log, step: Callable[[str], None]) -> int:
        """Sign what waits, send what is signed and due, settle the answers. Returns how many records moved.

        Every failure ends in the mailbox: as a later attempt, or as a refusal with its code.

        Raises:
            UmuhuzaError: the log did not answer the last time, or never did, and does not now; nothing was signed.
        """
        desk = self._desk
        if not log.log_id or (self._silent and desk.mailbox.waiting(1)):
            # Over HTTP the first answer brings the right time: what a wrong clock dates ahead is refused for good.
            # And what is signed can no longer be taken back: while nobody answers, a withdrawal must still reach it.
            await log.ends(mailboxes_of(desk.registry().agency(desk.agency))[0])
            self._silent = False
        self.void_chains()
        self.sign_waiting()
        step("signed")
        items = _within(_one_per_thread(desk.mailbox.due(desk.now(), MAX_LINES)))
        if not items:
            return 0
        entries = [self._entry(item) for item in items]
        grants: dict[str, dict[str, bytes]] = {}
        for item, entry in zip(items, entries, strict=True):
            for kid, grant in self._usable(item):
                grants.setdefault(grants_topic(item.peer), {})[grant_key(entry.ident, kid)] = grant.encode("ascii")
        try:
            for topic, values in grants.items():
                await log.put_grants(topic, values)
            answers: Sequence[Appended | UmuhuzaError] = await log.append(entries)
        except UmuhuzaError as exc:
            self._silent = True
            step("answered")
            with desk.mailbox.transaction():
                # An answer to the whole request judges no record: whatever the code, none is given up for it.
                for item in items:
                    desk.mailbox.postpone(item.evt, exc.code, desk.now() + backoff_s(item.attempts, desk.random))
            step("settled")
            return 0
        self._silent = False
        step("answered")
        moved = self._settle(items, answers)
        step("settled")
        return moved

    def _settle(self, items: Sequence[Outgoing], answers: Sequence[Appended | UmuhuzaError]) -> int:
        """What the log said of each record, in one transaction."""
        desk = self._desk
        moved = 0
        with desk.mailbox.transaction():
            for item, answer in zip(items, answers, strict=True):
                # Promises first: what a refusal takes back with it must not be in the log already.
                if isinstance(answer, Appended):
                    desk.mailbox.mark_promised(item.evt, answer.offset, answer.promise, answer.at_ms // 1000)
                    moved += 1
            for item, answer in zip(items, answers, strict=True):
                if isinstance(answer, Appended):
                    continue
                if answer.code == "chain_broken":
                    wait = backoff_s(item.attempts, desk.random)
                    desk.mailbox.number_again(item.evt, answer.path, desk.now() + wait)
                elif answer.retriable or answer.code in _OURS_TO_CURE or self._another_key(item, answer):
                    wait = backoff_s(item.attempts, desk.random)
                    desk.mailbox.postpone(item.evt, answer.code, desk.now() + wait)
                else:
                    desk.mailbox.refuse(item.evt, answer.code, answer.path, int(desk.now()))
                    moved += 1
        return moved

    def _usable(self, item: Outgoing) -> list[tuple[str, str]]:
        """(kid, grant) for the recipient's keys that still count: a key may have been revoked since the event was
        sealed, and a gateway refuses the record over its grant. All of them when none counts any more."""
        grants = [(str(json.loads(grant)["kid"]), grant) for grant in item.grants]
        try:
            counting = {key.kid for key in self._desk.registry().seal_keys(item.peer, int(self._desk.now()))}
        except RegistryError:
            counting = set()
        return [one for one in grants if one[0] in counting] or grants

    def _another_key(self, item: Outgoing, refusal: UmuhuzaError) -> bool:
        """Whether it was refused over one key of several: our registry is behind, and the next one says which."""
        about_grants = refusal.code == "key_revoked" and (refusal.path or "").startswith("grants[")
        return about_grants and len(self._usable(item)) > 1

    def _entry(self, item: Outgoing) -> Entry:
        if item.l1 is None:
            raise ValueError("unsigned")
        value = record_value(item.l1, item.body)
        manifest = parse_manifest(item.l1)[3]
        return Entry(
            item.topic,
            item.thread.encode("ascii"),
            f"{self._desk.agency}/{item.evt}",
            value,
            cloudevents_headers(manifest),
        )


_OURS_TO_CURE = frozenset(
    ("token_invalid", "audience_mismatch", "agency_unknown", "key_unknown", "topic_unknown", "log_inconsistent")
)
"""Refusals that say nothing about the record but that this installation is not set up (yet): kept, tried again, and
shown with their advice. A key that was revoked is no such case: what it signed will never be accepted."""


def _one_per_thread(items: Sequence[Outgoing]) -> list[Outgoing]:
    """The items of each topic up to where a thread speaks again; the rest goes with the next request.

    A gateway may take one line and not the line before it (a full disk, a quota). In a thread the second would then be
    refused by its reader for what the first has not said yet; between threads, and among receipts, order is no matter.
    """
    sent: list[Outgoing] = []
    speaking: set[str] = set()
    waiting: set[str] = set()
    for item in items:
        if item.speaks and item.thread in speaking:
            waiting.add(item.topic)
        if item.topic in waiting:
            continue
        sent.append(item)
        if item.speaks:
            speaking.add(item.thread)
    return sent


def _within(items: list[Outgoing]) -> list[Outgoing]:
    total = 0
    for index, item in enumerate(items):
        total += len(item.body) + 4096
        if total > MAX_REQUEST_BYTES and index:
            return items[:index]
    return items


def _problem(draft: Draft, code: str, path: str | None) -> Problem:
    meaning = CODES[code]
    where = f" [{path}]" if path else ""
    return Problem(
        where=draft.line,
        code=code,
        fr=f"{meaning.title_fr}{where}. {meaning.advice_fr}",
        en=f"{meaning.title_en}{where}. {meaning.advice_en}",
        line=draft.line,
        path=path,
    )
