# SPDX-License-Identifier: Apache-2.0
"""What was sent and should not stand: corrected, retracted, erased; on both sides of a thread.

    retract   record.retracted on the thread, erasure.requested beside it: gateways and the other side erase the keys
    erase     erasure.requested alone; by issuer or recipient of a record, to the other one
    arrived   keys and opened copies go at once, whatever a person does; erasure.attested says so
    correct   what a record says with its corrections; the record and its chain stay as they are

A copy that a program holds open (a workbook in Excel) cannot be taken from under it: then erasure.executed says that
the keys are gone, and erasure.attested follows when the copy is. Backups, paper and what was read are out of reach,
and the attestation says that too; a copy that somebody has moved is not called gone, but named among what people there
must still do.

Each public method is one transaction, with the records that it enqueues. If we die between keys and copies, the next
look goes on (`catch_up`). Must never: put what a record says into a log, an error or the mailbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from adapters.attachment_book import AttachmentBook
from adapters.connectors.contract import Connector, NotNowError
from adapters.corrected import as_corrected, on_thread, require
from adapters.desk import Desk
from adapters.disclosures import Disclosures
from adapters.mailbox_rows import Incoming, Outgoing, Thread
from adapters.outbox import Outbox
from adapters.rights_book import Erasure, RightsBook
from schemas import events
from schemas.envelope import Record
from schemas.errors import LogError, OrderError, PolicyError
from schemas.event_types import EVENTS
from schemas.forms import Facts, Form
from schemas.plain.attachment import ANNOUNCED, CHUNK
from schemas.plain.record import RecordCorrected, RecordRetracted
from schemas.plain.rights import DisclosureGranted, ErasureAttested, ErasureExecuted, ErasureRequested

Reason = Literal["wrong-recipient", "wrong-person", "sent-by-mistake", "not-permitted"]
Ground = Literal["person", "retracted", "cleared", "retention", "order"]
LOOK_AGAIN_S = 60.0
"""After a copy could not be removed."""


class Corrections:
    """See the module's docstring. Used from one event loop; the commands use it beside a running adapter."""

    def __init__(self, desk: Desk, outbox: Outbox) -> None:
        self._desk = desk
        self.book = RightsBook(desk.mailbox)
        self.disclosures = Disclosures(desk, outbox)
        self._attached = AttachmentBook(desk.mailbox)

    # -- asked for here -----------------------------------------------------------------------------------------------

    def retract(self, evt: str, reason: Reason) -> Literal["cancelled", "retracted"]:
        """Take back what we sent. `cancelled`: it had not been signed, and nobody ever gets it.

        With the record that began a thread goes all that we told of her on it since; the retraction of a later one
        leaves the thread as it is.

        Raises:
            OrderError: `thread_unknown`: we sent no such event; `transition_invalid`: its thread does not allow it.
            LogError: `unavailable`: it is on its way just now; a moment later it can be retracted.
        """
        box, now = self._desk.mailbox, int(self._desk.now())
        with box.transaction():
            item = box.outgoing(evt)
            if item is None:
                raise OrderError("thread_unknown", "evt")
            if box.cancel(evt, now):
                return "cancelled"
            self._sent(evt)
            self._erase_what_followed(item)
            said = RecordRetracted(evt=evt, reason=reason)
            self._say("record.retracted", said, to=item.peer, thread=item.thread, ref=evt)
            self.erase(f"{self._desk.agency}/{evt}", "retracted")
            if reason in ("wrong-recipient", "not-permitted"):
                self.book.review("incident", f"{self._desk.agency}/{evt}", item.peer, now)
            return "retracted"

    def _erase_what_followed(self, first: Outgoing) -> None:
        box = self._desk.mailbox
        thread = box.thread(first.thread)
        if thread is None or thread.opened_by != first.evt:
            return
        for one in box.outbox():
            if one.thread != thread.id or one.evt == first.evt or EVENTS[one.type].purpose is None:
                continue
            if box.take_back(one.evt, int(self._desk.now())) or one.state in ("refused", "cancelled"):
                continue
            self.erase(f"{self._desk.agency}/{one.evt}", "retracted")

    def erase(self, ident: str, ground: Ground) -> str:
        """Command that every key of a record of ours, or of one that we hold, goes; returns the evt that says so.

        Its attachments go with it: one command names all their records.

        Raises:
            OrderError: `thread_unknown`: neither sent nor held here.
            LogError: `unavailable`: it is on its way just now.
        """
        box, now = self._desk.mailbox, int(self._desk.now())
        iss, _, evt = ident.rpartition("/")
        with box.transaction():
            if iss == self._desk.agency:
                other = self._sent(evt)
            else:
                held = box.arrivals.of(ident)
                if held is None:
                    raise OrderError("thread_unknown", "ident")
                other = held.iss
            if iss == self._desk.agency:
                self._attached.take_back(evt)
            whole = (ident, *self._attached.belonging(ident, self._desk.agency))
            said = ErasureRequested(record=ident, ground=ground)
            asked = self._say("erasure.requested", said, to=other)
            self.book.command(asked, whole)
            for one in whole:
                self._forget(one, "", now)
            return asked

    def _sent(self, evt: str) -> str:
        """Whom a record of ours reached."""
        item = self._desk.mailbox.outgoing(evt)
        if item is None or item.state in ("refused", "cancelled", "waiting"):
            raise OrderError("thread_unknown", "evt")
        if item.state == "signed":
            raise LogError("unavailable", "outbox")
        return item.peer

    # -- arrived ------------------------------------------------------------------------------------------------------

    def check(self, record: Record, opened: events.Opened) -> None:
        """Before a record is taken: what it commands is its sender's to command, what it discloses is what it says, and
        what it corrects is its sender's, of the same thread, and brings nothing that the record could not have brought.

        Raises:
            PolicyError: `not_permitted`: it erases a record of others, or brings what is not for us.
            OrderError: `thread_unknown`: it corrects nothing that we took on that thread.
            UmuhuzaError: what a disclosure carries does not open, or is not what it says.
        """
        manifest = record.manifest
        erase = () if manifest.acts is None else manifest.acts.erase
        for index, ident in enumerate(erase):
            if not self._may_erase(manifest.iss, ident):
                raise PolicyError("not_permitted", f"L1.acts.erase[{index}]")
        said = opened.facts.said
        if isinstance(said, ErasureRequested) and erase and not self._is_of(said.record, erase):
            raise PolicyError("not_permitted", "L1.acts.erase")
        if isinstance(said, DisclosureGranted):
            self.disclosures.check(said)
        if isinstance(said, RecordCorrected):
            of = self._desk.mailbox.arrivals.of(f"{manifest.iss}/{said.evt}")
            thread = self._desk.mailbox.thread(manifest.thread)
            if of is None or of.thread != manifest.thread:
                raise OrderError("thread_unknown", "said.evt")
            require(said, of.type, () if thread is None else thread.services)

    def on_thread(self, thread: Thread | None, record: Record, opened: events.Opened) -> Thread | None:
        """The thread as a correction that arrived leaves it; `check` has let it pass."""
        said = opened.facts.said
        if thread is None or not isinstance(said, RecordCorrected):
            return thread
        of = self._desk.mailbox.arrivals.of(f"{record.manifest.iss}/{said.evt}")
        return thread if of is None else on_thread(thread, said, of.type, int(opened.recorded_at.timestamp()))

    def _is_of(self, ident: str, erase: Sequence[str]) -> bool:
        """Whether what is erased is that record and, behind it, attachments of it as far as they are known here."""
        first, *others = erase
        iss = ident.rpartition("/")[0]
        return first == ident and all(self._belongs(iss, one) for one in others)

    def _belongs(self, iss: str, ident: str) -> bool:
        by, _, evt = ident.rpartition("/")
        if by != iss:
            return False
        if iss == self._desk.agency:
            sent = self._desk.mailbox.outgoing(evt)
            return sent is not None and sent.type in (ANNOUNCED, CHUNK)
        held = self._desk.mailbox.arrivals.of(ident)
        return held is None or held.type in ("", ANNOUNCED, CHUNK)

    def _may_erase(self, sender: str, ident: str) -> bool:
        """Its issuer may, and whoever got it from us."""
        iss, _, evt = ident.rpartition("/")
        if iss == sender:
            return True
        sent = self._desk.mailbox.outgoing(evt) if iss == self._desk.agency else None
        return sent is not None and sent.peer == sender

    def arrived(self, item: Incoming, record: Record, opened: events.Opened) -> None:
        """What a record does here as soon as it is taken. Inside the transaction that stores it."""
        desk, said = self._desk, opened.facts.said
        now = int(desk.now())
        if opened.claims is not None and opened.claims.basis != "consent":
            self.book.review("break-glass", item.ident, item.iss, now)
        if isinstance(said, RecordRetracted) and said.reason in ("wrong-recipient", "not-permitted"):
            self.book.review("incident", f"{item.iss}/{said.evt}", item.iss, now)
        self.disclosures.arrived(item, said)
        for ident in () if record.manifest.acts is None else record.manifest.acts.erase:
            asked = isinstance(said, ErasureRequested) and ident == said.record
            self._forget(ident, item.thread if asked else "", now)

    def _forget(self, ident: str, attest: str, now: int) -> None:
        self.book.erase(ident, self._desk.agency, attest, now)
        self.disclosures.forgotten(ident)

    # -- from time to time --------------------------------------------------------------------------------------------

    async def catch_up(self, connectors: Sequence[Connector]) -> int:
        """Remove opened copies, attest, end what has expired. Returns how much moved. Safe to run at any time."""
        moved = self.disclosures.expire()
        for one in self.book.erasing(self._desk.now()):
            moved += await self._finish(one, connectors)
        return moved

    async def _finish(self, one: Erasure, connectors: Sequence[Connector]) -> int:
        gone = self._desk.mailbox.scrub()
        for connector in connectors:
            try:
                found = await connector.erase(one.ident)
            except NotNowError:
                gone = False
            else:
                one = self.book.found(one, found.deleted, found.by_hand)
        with self._desk.mailbox.transaction():
            if gone:
                self._attest(one)
                self.book.done(one)
                return 1
            self.book.told(one, self._desk.now() + LOOK_AGAIN_S)
            if one.state == "keys" and one.thread:
                self._answer(one.thread, "erasure.executed", ErasureExecuted(record=one.ident, where="mailbox"))
                return 1
            return 0

    def _attest(self, one: Erasure) -> None:
        if not one.thread:
            return
        all_gone = one.deleted and "find-moved-copies" not in one.by_hand  # of a copy not found nobody says so
        said = ErasureAttested(
            record=one.ident,
            gone=(("grant", "delivered-copies") if all_gone else ("grant",)) if one.held else ("never-held",),
            remains=("backups", "what-was-read", "paper") if one.held else (),
            by_hand=one.by_hand,
        )
        self._answer(one.thread, "erasure.attested", said)

    def _answer(self, thread: str, type: str, said: Form) -> None:
        known = self._desk.mailbox.thread(thread)
        if known is None:
            return
        try:
            self._say(type, said, to=known.peer, thread=thread)
        except PolicyError:
            return  # no member any more: there is nobody to tell

    def _say(self, type: str, said: Form, *, to: str, thread: str | None = None, ref: str | None = None) -> str:
        return self.disclosures.say(type, said, to=to, thread=thread, ref=ref)

    # -- corrections --------------------------------------------------------------------------------------------------

    def as_corrected(self, facts: Facts, corrections: Sequence[RecordCorrected]) -> Facts:
        """What a record says, with the corrections of it that came since, oldest first."""
        for one in corrections:
            facts = as_corrected(facts, one)
        return facts

    def open_corrected(self, ident: str, opened: Sequence[tuple[Incoming, events.Opened]]) -> Facts | None:
        """The facts of one arrived event, as corrected by the others of its thread; None: it is not among them."""
        whole = next((one.facts for item, one in opened if item.ident == ident), None)
        if whole is None:
            return None
        iss, _, evt = ident.rpartition("/")
        found = [
            one.facts.said
            for item, one in opened
            if item.iss == iss and isinstance(one.facts.said, RecordCorrected) and one.facts.said.evt == evt
        ]
        return self.as_corrected(whole, found)
