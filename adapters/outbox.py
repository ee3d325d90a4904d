# SPDX-License-Identifier: Apache-2.0
"""The way into the outbox: a draft becomes a sealed event that waits to be signed and sent (`adapters.sending`).

    Draft -> lifecycle: does it fit the thread -> events, fhir: validate, minimise -> catalogue: may(...)
          -> envelope: seal once -> mailbox (waiting)

Sealing happens once, when the event enters the outbox: from then on its bytes are fixed but for number and signature.
If we crash here: before the commit nothing happened, and the connector offers the batch again; after it, it is known.

Owns no state of its own: everything is in the mailbox. Never logs or raises a value of a draft.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from adapters.connectors.contract import Batch, Draft, Outcome, Problem
from adapters.consent_book import ConsentBook
from adapters.corrected import on_thread, require
from adapters.desk import Desk
from adapters.mailbox_rows import Outgoing, Thread, TurnedDown
from adapters.refusal_book import RefusalBook
from adapters.rights_book import RightsBook
from adapters.risk_book import RiskBook
from schemas import attachments, event_rules, events, lifecycle, minimise, whom
from schemas.envelope import Manifest, mailbox_topic, new_evt, new_thread, split_topic
from schemas.errors import CODES, LogError, OrderError, PayloadError, PolicyError, RegistryError, UmuhuzaError
from schemas.event_types import EVENTS, THREAD_FLOW
from schemas.forms import Facts
from schemas.keys import b64url
from schemas.plain.alert import AlertCleared
from schemas.plain.attachment import ANNOUNCED, CHUNK, AttachmentChunk
from schemas.plain.record import RecordCorrected
from schemas.plain.transfer import ReturnDeparted
from schemas.registry import Registry
from schemas.sealing import make_grant, seal_parts
from topics.borders import reached, under
from topics.catalogue import Act, allowed_fields, answer_within_s, may, may_attach
from topics.policy_target import require_policy

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


class Outbox:
    """See the module's docstring. Used from one event loop; several processes may put into one mailbox."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rights = RightsBook(desk.mailbox)
        self._refusals = RefusalBook(desk.mailbox)
        self._risk = RiskBook(desk.mailbox)

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
            may_attach(draft.type, reached(self._desk.registry(), draft.to)).require()
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
        reached(registry, draft.to)
        if draft.to == desk.agency:
            raise PolicyError("not_permitted", "to")  # a thread has two ends
        if known.kind == "request" and registry.is_stale(now):
            raise RegistryError("registry_stale")
        if known.kind == "request":
            require_policy(registry)
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
            allowed=allowed_fields(type, services, registry.party(to).roles),
            salt=desk.random(32),
        )
        topic = mailbox_topic(flow, to)
        claims = sealable.claims
        unsaid = claims is not None and claims.safeguards is None
        concerning = ConsentBook(desk.mailbox).whom(thread, facts) if unsaid else None
        act = Act("send", desk.agency, topic, kind, type, claims, desk.today(), answers, concerning, facts.said)
        may(act, registry).require()
        if to.partition("/")[0] != registry.domain:
            under(registry, desk.agency, topic, kind, type, desk.today().date())
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

    def void_chain(self, topic: str) -> None:
        """Enqueue what names the numbers of ours on that topic that were refused, in a transaction of its own.

        Raises:
            RegistryError: its owner is no member any more, or has no key.
            PolicyError: we may not send there any more.
        """
        desk = self._desk
        flow, owner = split_topic(topic)
        facts, thread = Facts(occurred_at=desk.today()), new_thread(desk.random)
        with desk.mailbox.transaction():
            self._control("chain.voided", facts, to=owner, flow=flow, thread=thread, ref=None, source="chain")


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
