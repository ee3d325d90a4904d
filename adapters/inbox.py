# SPDX-License-Identifier: Apache-2.0
"""The way in: what stands in our mailboxes becomes an event in the agency's own system, with a signed receipt.

    log -> envelope: verify (was the key valid then) -> chain -> grant: open -> events, fhir: validate
        -> catalogue: was the sender allowed to -> lifecycle: does it fit the thread
        -> mailbox, one transaction of a few records: incoming, cursor, thread, receipt -> connector

Nothing invalid reaches the agency's system and nothing is dropped silently: what cannot be taken is quarantined with
its code and path, and when its issuer is certain, answered by a signed `receipt.rejected`. What cannot be taken *yet*
(its grant or the beginning of its thread has not arrived) is held, and with it everything behind it on its thread.

Owns no state of its own. Bodies are opened here and again at delivery, and are never kept open.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from adapters import deadlines
from adapters.connectors.contract import Arrived, Connector, NotNowError, UndeliverableError
from adapters.consents import Consents
from adapters.corrections import Corrections
from adapters.desk import DATED, Desk, backoff_s
from adapters.disclosures import carried_record
from adapters.gathering import Gathering
from adapters.home_ledger import HomeLedger, Place
from adapters.mailbox_rows import CARRIED, Incoming, Thread
from adapters.outbox import Outbox
from adapters.refusal_book import RefusalBook
from adapters.risk_book import RiskBook
from schemas import event_rules, events, lifecycle
from schemas.envelope import Manifest, Record, chain_hash, check_copies, parse_manifest, parse_record, split_topic
from schemas.errors import KeyStoreError, LogError, OrderError, PolicyError, RecordError, RegistryError, UmuhuzaError
from schemas.event_types import EVENTS, THREAD_FLOW
from schemas.forms import Facts, Receipt
from schemas.keys import VerifyKey
from schemas.plain.attachment import ANNOUNCED, CHUNK
from schemas.plain.consent import ConsentAcknowledged, ConsentWithdrawn
from schemas.plain.rights import DisclosureGranted
from schemas.plain.transfer import ReturnDeparted
from schemas.sealing import open_grant, open_parts, parse_grant
from topics.borders import Crossing, crosses, may_cross
from topics.catalogue import Act, mailboxes_of, may
from topics.log import Log, Stored, ends_of, grant_key, grants_topic
from topics.verification import Verified

TOGETHER = 32
"""Records of one transaction, at most: they share what syncing a disk costs, and nobody waits long for the mailbox."""
LATE_AFTER_S = 86_400
"""A record that took longer than this from its issuer's clock to the log is marked late: paper and power cuts."""
CLOCK_AHEAD_S = 86_400
GRANT_PATIENCE_S = 86_400
"""A grant that has not come by then will not come: quarantined, and the sender told."""
REGISTRY_PATIENCE_S = 86_400
"""So long a record that cannot be judged by our registry, and names a newer one, waits for it to come."""
LEDGER_PATIENCE_S = 3_600
"""So long a record from a revoked key, too late by the log's time, waits for the ledger to say so."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A record from a known issuer, whole and in order."""

    record: Record
    stored: Stored
    late: bool


class Inbox:
    """See the module's docstring. Used from one event loop; several processes may read into one mailbox."""

    def __init__(self, desk: Desk, outbox: Outbox, home: HomeLedger | None = None) -> None:
        self._desk = desk
        self._outbox = outbox
        self._home = home
        self._consents = Consents(desk, outbox)
        self.corrections = Corrections(desk, outbox)
        self.corrections.disclosures.asks_home = home is not None
        self._refusals = RefusalBook(desk.mailbox)
        self.gathering = Gathering(desk)
        self._together = 1

    def topics(self) -> tuple[str, ...]:
        """Our mailboxes. Raises RegistryError `agency_unknown` while we are not in the registry."""
        return mailboxes_of(self._desk.registry().agency(self._desk.agency))

    # -- reading ------------------------------------------------------------------------------------------------------

    async def receive(self, log: Log, wait_s: float, step: Callable[[str], None]) -> int:
        """Read once from the cursors, waiting up to `wait_s` for something; returns how many entries were taken.

        Raises:
            LogError: unavailable, retention_passed, ...: nothing was skipped, read again later.
            RegistryError: registry_stale: a mailbox stands still at a record from somebody who knows a newer registry
                than we do; the other mailboxes were read.
            LogError: ledger_behind: the same, at a record from a revoked key that the home ledger has not reached.
        """
        desk = self._desk
        topics = self.topics()
        if not log.log_id:
            await log.ends(topics[0])  # over HTTP the first answer tells which log this is
        log_id = log.log_id
        found = await log.poll({topic: desk.mailbox.arrivals.cursor(log_id, topic) for topic in topics}, wait_s=wait_s)
        if log.log_id != log_id:
            return 0  # another log now stands behind the same address: its cursors are others
        step("read")
        grants = await self._grants(log, [entry.ident for entry in found])
        places, trouble = await self._places(found)
        waits: dict[str, UmuhuzaError] = {}
        taken = 0
        while taken < len(found):
            together = found[taken : taken + self._together]
            # What cannot be stored, for whatever reason, must hold up none before it: next time they are fewer.
            size, self._together = self._together, 1
            self._take_all(log_id, together, grants, places, waits)
            self._together = min(2 * size, TOGETHER)
            taken += len(together)
            for _ in together:
                step("stored")
        await self._note_ends(log, topics)
        if waits:
            raise trouble or waits[min(waits)]
        return len(found)

    async def check_cursors(self, log: Log) -> None:
        """We have read no further than the log goes.

        Raises:
            LogError: log_inconsistent, with the mailbox as path: the log was put back from an older copy under its old
                identity. Reading on would skip whatever takes the places that we have read already.
        """
        for topic, end in (await ends_of(log, self.topics())).items():
            if self._desk.mailbox.arrivals.cursor(log.log_id, topic) + 1 > end.next:
                raise LogError("log_inconsistent", topic)

    async def _grants(self, log: Log, idents: Sequence[str]) -> dict[str, bytes]:
        keys = {grant_key(ident, kid): ident for ident in idents for kid in self._desk.keys.seal}
        if not keys:
            return {}
        found = await log.get_grants(grants_topic(self._desk.agency), list(keys))
        return {keys[key]: value for key, value in found.items()}

    async def _places(self, found: Sequence[Stored]) -> tuple[dict[bytes, Place] | None, UmuhuzaError | None]:
        """Where records from keys that our registry revokes stand in the home ledger: its order decides, and no clock.
        None where there is no ledger to ask. And why it did not say: other records do not wait for it."""
        if self._home is None:
            return None, None
        registry = self._desk.registry()
        revoked = {key.kid for one in registry.agencies.values() for key in one.keys if key.revoked is not None}
        doubtful = [] if not revoked else [l1 for entry in found if (l1 := _l1_by(revoked, entry)) is not None]
        if not doubtful:
            return {}, None
        try:
            places = await self._home.places(doubtful)
        except UmuhuzaError as exc:
            return {}, exc
        self.corrections.disclosures.asks_home = places is not None
        return places, None

    async def _note_ends(self, log: Log, topics: Sequence[str]) -> None:
        """Items whose thread is unknown wait until all own mailboxes have been read to the ends seen now."""
        fresh = [item for item in self._desk.mailbox.arrivals.held(self._desk.now()) if item.hold_until is None]
        if fresh:
            ends = {topic: end.next for topic, end in (await ends_of(log, topics)).items()}
            for item in fresh:
                self._desk.mailbox.arrivals.note_ends(item.n, ends)

    def _take_all(
        self,
        log_id: str,
        entries: Sequence[Stored],
        grants: Mapping[str, bytes],
        places: Mapping[bytes, Place] | None,
        waits: dict[str, UmuhuzaError],
    ) -> None:
        """Some entries in one transaction; mailboxes that stand still from here on join `waits`, with the reason.

        If we crash here none of them is stored and they are read again. What is raised leaves none of them stored.
        """
        box = self._desk.mailbox
        with box.transaction():
            for entry in entries:
                if entry.topic in waits:
                    continue  # order is kept
                try:
                    with box.attempt():
                        self._take(log_id, entry, grants.get(entry.ident), places)
                except RegistryError:
                    waits[entry.topic] = RegistryError("registry_stale", entry.topic)
                except LogError as exc:
                    if exc.code != "ledger_behind":
                        raise
                    waits[entry.topic] = LogError("ledger_behind", entry.topic)

    def _take(self, log_id: str, entry: Stored, grant: bytes | None, places: Mapping[bytes, Place] | None) -> None:
        """One entry, all or nothing: stored with its cursor, its thread's step and its receipt.

        Raises RegistryError `registry_stale` (see `_knows_newer_registry`) and LogError `ledger_behind` (see
        `_key_of`), with nothing stored.
        """
        box = self._desk.mailbox
        with box.transaction():
            if entry.offset <= box.arrivals.cursor(log_id, entry.topic):
                return
            try:
                checked = self._check(entry, places)
            except UmuhuzaError as exc:
                if exc.code == "ledger_behind":
                    raise
                if exc.code in ("agency_unknown", "key_unknown"):
                    manifest = parse_record(entry.value).manifest
                    if self._knows_newer_registry(manifest, entry.at_ms):
                        raise RegistryError("registry_stale") from None
                unverified = _unverified(log_id, entry, exc)
                box.arrivals.store(unverified)
                self._note_refusal(unverified)
                return
            manifest = checked.record.manifest
            if box.arrivals.knows(manifest.ident, checked.record.digest):
                # The same event again, signature twins included. Its one receipt is on its way or there already.
                box.arrivals.advance(log_id, entry.topic, entry.offset)
                if not log_id.startswith(CARRIED):
                    place = (log_id, entry.topic, entry.offset, entry.at_ms)
                    box.arrivals.logged(manifest.ident, checked.record.digest, *place)
                return
            item = _incoming(log_id, checked, grant)
            if self.corrections.book.is_erased(manifest.ident):
                # Erased before it came, or put back by an older copy of the log: it is not opened any more.
                box.arrivals.store(replace(item, state="erased", grant_value=None))
                return
            if box.arrivals.of(manifest.ident) is not None:
                self._turn_away(item, RecordError("evt_conflict"), None)
                return
            try:
                self._check_chain(checked)
            except UmuhuzaError as exc:
                self._turn_away(item, exc, None)
                return
            box.arrivals.saw(manifest.iss, manifest.topic, manifest.seq, chain_hash(checked.record.signed))
            self._admit(item, checked.record, store=True)

    def _check(self, entry: Stored, places: Mapping[bytes, Place] | None) -> _Checked:
        """Raises RecordError, RegistryError, OrderError for what cannot be certain to come from its issuer; LogError
        `ledger_behind` as `_key_of`."""
        desk = self._desk
        record = parse_record(entry.value)
        check_copies(record, entry.topic, entry.key, entry.headers)
        if record.manifest.to != desk.agency:
            raise RecordError("topic_mismatch", "L1.to")
        registry = desk.registry()
        at = entry.at_ms // 1000
        if record.manifest.iss.partition("/")[0] == registry.domain:
            record.verify(self._key_of(record, at, places))
            record.verify_body()
        else:
            self._check_home(entry)
        if record.manifest.training != registry.training:
            raise RecordError("training_record")
        return _Checked(record, entry, at - record.manifest.iat > LATE_AFTER_S)

    def _check_home(self, entry: Stored) -> None:
        """What came over a border counts by its home ledger, whatever our gateway says.

        Raises:
            LogError: ledger_behind: the version of that domain's registry under which it was logged is not here yet.
            UmuhuzaError: as `topics.home_check.check_home`; agency_unknown where no border is open.
        """
        found = None if self._desk.abroad is None else self._desk.abroad.judged(entry)
        if isinstance(found, Verified):
            return
        if found is None:
            raise RegistryError("agency_unknown", "L1.iss")
        if found.code == "registry_stale":
            raise LogError("ledger_behind", entry.topic)
        raise found

    def _key_of(self, record: Record, at: int, places: Mapping[bytes, Place] | None) -> VerifyKey:
        """The key of its issuer, if it counted then: by the home ledger's order where the key is revoked by now and
        there is a ledger, else by the log's time.

        Raises:
            LogError: ledger_behind: the ledger has not reached the record. A mailbox stands still there rather than
                take what a thief signed, or turn away what was sent before the theft; but where the log's time says
                that it was too late, no longer than `LEDGER_PATIENCE_S`.
            RegistryError, RecordError: as `Registry.signing_key`.
        """
        registry, iss = self._desk.registry(), record.manifest.iss
        if places is None or not registry.revokes(iss, record.kid):
            return registry.signing_key(iss, record.kid, at)
        place = places.get(record.digest)
        if place is None:
            if self._desk.now() - at > LEDGER_PATIENCE_S:
                registry.signing_key(iss, record.kid, at)
            raise LogError("ledger_behind", record.manifest.topic)
        if place.refused == "key_revoked":
            raise RegistryError("key_revoked")
        return registry.signing_key(iss, record.kid, at, place.index, place.ledger)

    def _knows_newer_registry(self, manifest: Manifest, at_ms: int) -> bool:
        """Whoever joined, or got a key or a role, in a registry that we have not fetched yet is no stranger: while the
        record names a newer registry than ours and is young, it is waited for.

        Any member can name a version that will never be. So for the sake of a right only that record's thread waits;
        the mailbox itself stands still only for whom the gateway knows and we do not.
        """
        newer = manifest.reg > self._desk.registry().version
        return newer and self._is_young(at_ms)

    def _may_be_agreed_again(self, manifest: Manifest, reason: UmuhuzaError, at_ms: int) -> bool:
        """What came over a border stands in our log because our gateway knew an agreement that covered it. We know
        none: ours is an older registry, or it has ended since. Versions of two domains cannot be compared, so what is
        young is waited for."""
        named = (reason.path or "").startswith("agreement.")  # not an authorisation that is not held
        ended = (reason.code == "agreement_missing" and named) or (reason.code, reason.path) == (
            "not_permitted",
            "registry",
        )
        return ended and crosses(manifest) and self._is_young(at_ms)

    def _is_young(self, at_ms: int) -> bool:
        return self._desk.now() - at_ms / 1000 <= REGISTRY_PATIENCE_S

    def _check_chain(self, checked: _Checked) -> None:
        """The gateway checked the chain; we check it again, since we trust no gateway. A gap is no fault."""
        box, manifest = self._desk.mailbox, checked.record.manifest
        if manifest.iat - checked.stored.at_ms // 1000 > CLOCK_AHEAD_S:
            raise OrderError("clock_ahead", "L1.iat")
        own = box.arrivals.seen_hash(manifest.iss, manifest.topic, manifest.seq)
        if own is not None and own != chain_hash(checked.record.signed):
            raise OrderError("chain_broken", "L1.seq")
        previous = box.arrivals.seen_hash(manifest.iss, manifest.topic, manifest.seq - 1)
        if previous is not None and previous != manifest.prev:
            raise OrderError("chain_broken", "L1.prev")

    # -- admitting ----------------------------------------------------------------------------------------------------

    def _admit(self, item: Incoming, record: Record, *, store: bool) -> None:
        """Open, validate, step; store or settle the item as ready, held or quarantined. Inside a transaction."""
        box = self._desk.mailbox
        if store and box.arrivals.must_wait(item.thread):
            # Something before it on this thread waits: order is kept per thread.
            box.arrivals.store(replace(item, state="held", code="thread_unknown"))
            return
        opened: events.Opened | None = None
        try:
            if item.grant_value is None:
                raise RecordError("grant_missing", "grant")
            opened = self._open(record, item.grant_value)
            item = replace(item, type=opened.type)
            self._permitted(record, opened)
            self._consents.check(item.thread, opened.claims)
            self.corrections.check(record, opened)
            self.gathering.check(record, opened)
            item, thread = self._step(item, record, opened)
            thread = self.corrections.on_thread(thread, record, opened)
            if self.gathering.admitted(item, record, opened):
                item = replace(item, state="gathering")
            in_time = thread is not None and self._was_in_time(item, thread)
            if not store:
                item = replace(item, code=None, path=None, attempts=0, next_at=0.0, hold_until=None)
        except (LogError, KeyStoreError) as exc:
            if exc.code != "ledger_behind":
                raise  # our own disk or our own keys, not the record
            if self._out_of_patience(item):
                self._turn_away(item, RegistryError("key_revoked", exc.path), opened, settle=not store)
            else:
                self._hold(item, exc.code, store=store)
            return
        except (RecordError, OrderError) as exc:
            no_grant_yet = exc.code == "grant_missing" and not self._out_of_patience(item)
            if no_grant_yet or (exc.code == "thread_unknown" and not self._read_past(item)):
                self._hold(item, exc.code, store=store)
                return
            self._turn_away(item, exc, opened, settle=not store)
            return
        except UmuhuzaError as exc:
            no_right = exc.code == "not_permitted" and exc.path != "L1.thread"
            stale = no_right and self._knows_newer_registry(record.manifest, item.at_ms)
            if stale or self._may_be_agreed_again(record.manifest, exc, item.at_ms):
                self._hold(item, "registry_stale", store=store)
                return
            self._turn_away(item, exc, opened, settle=not store)
            return
        if thread is not None:
            box.put_thread(thread, int(self._desk.now()))
            box.arrivals.wake_held(thread.id)
            box.dues.note_movement(opened.facts, thread.id, item.evt)
            if thread.machine == "transfer":
                self._note_risk(item, thread, opened.facts)
            if in_time and deadlines.confirm(self._desk, self._outbox, thread):
                confirmed = box.thread(thread.id) or thread
                item = replace(item, thread_state=confirmed.state)
        box.arrivals.store(item) if store else box.arrivals.settle_held(item)
        self.corrections.arrived(item, record, opened)
        whole = self.gathering.noted(item, record, opened)
        if whole is not None:
            self._gathered(whole)
        if opened.facts.receipt is not None:
            self._settle_receipt(item, record, opened)
        elif EVENTS[opened.type].machine is not None and item.state != "gathering":
            self._receipt("receipt.delivered", item, None)
        self._note_consent(item, opened)

    def _note_risk(self, item: Incoming, thread: Thread, facts: Facts) -> None:
        """What the other side says of the risk; somebody who departed all the same is awaited, and looked into."""
        risk = RiskBook(self._desk.mailbox)
        risk.note(facts, thread.id, item.evt, ours=False)
        if isinstance(facts.said, ReturnDeparted) and not risk.may_depart(thread.id):
            self.corrections.book.review("incident", item.ident, item.iss, int(self._desk.now()))

    def _gathered(self, item: Incoming) -> None:
        """The last chunk of these attachments has come: they are whole, or they are turned away."""
        try:
            self.gathering.files(item)
        except (LogError, KeyStoreError):
            raise  # our own disk or our own keys, not the record
        except UmuhuzaError as exc:
            self._give_up(item, exc)
            return
        self._desk.mailbox.arrivals.settle_gathering(replace(item, state="ready"))
        self._receipt("receipt.delivered", item, None)

    def _give_up(self, item: Incoming, exc: UmuhuzaError) -> None:
        gone = replace(item, state="quarantined", code=exc.code, path=exc.path)
        self._desk.mailbox.arrivals.settle_gathering(gone)
        self.gathering.book.forget_keys(item.ident)
        self._receipt("receipt.rejected", gone, exc)

    def _note_consent(self, item: Incoming, opened: events.Opened) -> None:
        """What was shared with us and on which basis; a withdrawal is passed on, a confirmation noted."""
        self._consents.book.note(
            opened.type,
            opened.claims,
            opened.facts,
            evt=item.evt,
            thread=item.thread,
            peer=item.iss,
            at=item.at_ms // 1000,
            incoming=True,
        )
        if isinstance(opened.facts.said, ConsentWithdrawn):
            self._consents.withdrawn(item, opened.facts.said, opened.facts.occurred_at)
        elif isinstance(opened.facts.said, ConsentAcknowledged):
            self._consents.acknowledged(item, opened.facts.said)

    def _hold(self, item: Incoming, code: str, *, store: bool) -> None:
        """Stored, or kept, as held: looked at again later, and what follows on its thread with it."""
        waits = replace(
            item,
            state="held",
            code=code,
            attempts=item.attempts + 1,
            next_at=self._desk.now() + (0 if store else backoff_s(item.attempts, self._desk.random)),
        )
        if store:
            self._desk.mailbox.arrivals.store(waits)
        else:
            self._desk.mailbox.arrivals.settle_held(waits)

    def _open(self, record: Record, grant_value: bytes) -> events.Opened:
        grant = parse_grant(grant_value)
        key = self._desk.keys.seal.get(grant.kid)
        if key is None:
            raise RecordError("grant_unopenable", "grant.kid")
        parts = open_parts(record, open_grant(record, grant, key), ("identity", "content"))
        manifest = record.manifest
        return events.decompose(
            parts["content"],
            parts["identity"],
            iss=manifest.iss,
            to=manifest.to,
            evt=manifest.evt,
            thread=manifest.thread,
        )

    def _permitted(self, record: Record, opened: events.Opened) -> None:
        manifest = record.manifest
        unsaid = opened.claims is not None and opened.claims.safeguards is None
        act = Act(
            "receive",
            manifest.iss,
            manifest.topic,
            manifest.kind,
            opened.type,
            opened.claims,
            opened.recorded_at,
            self._answered(manifest),
            self._consents.book.whom(manifest.thread, opened.facts) if unsaid else None,
            opened.facts.said,
        )
        if crosses(manifest) and manifest.flow == "receipt" and act.answers is not None:
            return  # it says how what we sent them has fared: that counts, whatever has ended since
        registry = self._desk.registry()
        may(act, registry).require()
        if crosses(manifest):
            may_cross(Crossing.of(manifest, opened.type), registry, opened.recorded_at.date()).require()

    def _answered(self, manifest: Manifest) -> Act | None:
        """What of ours it answers, on the same thread and by whom it was sent to."""
        sent = None if manifest.ref is None else self._desk.mailbox.outgoing(manifest.ref)
        if sent is None or (sent.peer, sent.thread) != (manifest.iss, manifest.thread):
            return None
        return Act("send", self._desk.agency, sent.topic, sent.kind)

    def _step(self, item: Incoming, record: Record, opened: events.Opened) -> tuple[Incoming, Thread | None]:
        """The item as it will be stored and its thread after it; a receipt or chain.voided has no thread of its own."""
        machine = EVENTS[opened.type].machine
        if machine is None:
            return replace(item, state="delivered"), None
        manifest = record.manifest
        thread = self._desk.mailbox.thread(item.thread)
        if thread is None:
            try:
                if machine == "*":
                    raise OrderError("thread_unknown")
                first = lifecycle.step(machine, None, opened.type, "initiator")
            except OrderError:
                raise OrderError("thread_unknown", "L1.thread") from None
            made = Thread(
                item.thread,
                manifest.iss,
                None,
                machine,
                "recipient",
                opened.pseudonym or "",
                first.state,
                manifest.evt,
                answer_by=_dated(manifest.answer_by),
                services=() if opened.facts.referral is None else opened.facts.referral.services,
            )
            return replace(item, state="ready", thread_state=first.state), made
        if thread.peer != manifest.iss or machine not in (thread.machine, "*"):
            raise PolicyError("not_permitted", "L1.thread")
        if machine == "*" and split_topic(manifest.topic)[0] != THREAD_FLOW[thread.machine]:
            raise PolicyError("not_permitted", "L1.topic")
        by: lifecycle.Party = "recipient" if thread.role == "initiator" else "initiator"
        after = event_rules.step_on(thread.machine, thread.state, opened.type, opened.facts, by, thread.opened_by)
        if opened.type == lifecycle.MACHINES[thread.machine].expiry and not deadlines.logged_too_late(
            thread, item.at_ms
        ):
            raise OrderError("transition_invalid", "L1.answer_by")  # its time had not come when the log had it
        if deadlines.expires_first(self._desk, self._outbox, thread, item.at_ms, after.state):
            thread = self._desk.mailbox.thread(item.thread) or thread
            after = event_rules.step_on(thread.machine, thread.state, opened.type, opened.facts, by, thread.opened_by)
        moved = replace(thread, state=after.state, crossed=thread.crossed or after.crossed)
        return replace(item, state="ready", thread_state=after.state, crossed=after.crossed), moved

    def _was_in_time(self, item: Incoming, thread: Thread) -> bool:
        """An acceptance that seems late, but the log had it before the deadline: the log's time decides."""
        late = thread.role == "initiator" and thread.state == deadlines.LATE == item.thread_state and not item.crossed
        return late and not deadlines.logged_too_late(thread, item.at_ms)

    def _read_past(self, item: Incoming) -> bool:
        """Whether every own mailbox has been read to the ends that were noted when the item was held, and nothing else
        that is held can be the beginning of its thread."""
        if item.hold_until is None or self._desk.mailbox.arrivals.may_begin(item.thread, but=item.n):
            return False
        cursor = self._desk.mailbox.arrivals.cursor
        return all(cursor(item.log, topic) + 1 >= end for topic, end in item.hold_until.items())

    def _out_of_patience(self, item: Incoming) -> bool:
        return self._desk.now() - item.at_ms / 1000 > GRANT_PATIENCE_S

    def _turn_away(
        self, item: Incoming, exc: UmuhuzaError, opened: events.Opened | None, *, settle: bool = False
    ) -> None:
        """Quarantine what certainly comes from its issuer, and tell the issuer.

        Nothing is said of receipts and of what mends a chain; of a revocation not taken its sender must hear.
        """
        box = self._desk.mailbox
        item = replace(item, state="quarantined", code=exc.code, path=exc.path)
        if opened is not None and opened.type in (ANNOUNCED, CHUNK):
            item = replace(item, grant_value=None)  # nobody will ever need to open it
        if settle:
            box.arrivals.settle_held(item)
        else:
            box.arrivals.store(item)
        self._note_refusal(item)
        if opened is None:
            machines_only = item.kind == "control" and split_topic(item.topic)[0] == "receipt"
        else:
            machines_only = item.kind == "control" and EVENTS[opened.type].machine is None
        if not machines_only:
            self._receipt("receipt.rejected", item, exc)

    def _receipt(self, type: str, item: Incoming, exc: UmuhuzaError | None) -> None:
        desk = self._desk
        facts = Facts(
            occurred_at=desk.today(),
            receipt=Receipt(
                record_sha256=hashlib.sha256(item.record).hexdigest(),
                signed_sha256=item.digest.hex(),
                topic=item.topic,
                offset=item.log_offset,
                received_at=desk.today(),
                opened=exc is None,
                code=None if exc is None else exc.code,
                path=None if exc is None else exc.path,
            ),
        )
        try:
            self._outbox.receipt(
                type,
                facts,
                to=item.iss,
                thread=item.thread,
                ref=item.evt,
                line=f"{item.ident} {item.digest.hex()}",
                answers=None if isinstance(exc, PolicyError) else Act("send", item.iss, item.topic),
            )
        except (RegistryError, PolicyError):
            # The sender has left the registry or its keys were revoked meanwhile: there is nobody to seal to.
            return

    def _settle_receipt(self, item: Incoming, record: Record, opened: events.Opened) -> None:
        """What the other machine says it has must be what we sent; only the recipient's word counts."""
        box, receipt = self._desk.mailbox, opened.facts.receipt
        sent = None if record.manifest.ref is None else box.outgoing(record.manifest.ref)
        if sent is None or receipt is None or sent.l1 is None or sent.peer != record.manifest.iss:
            return
        logged = not item.log.startswith(CARRIED)
        if receipt.signed_sha256 != hashlib.sha256(parse_manifest(sent.l1)[1]).hexdigest():
            box.mark_arrival(sent.evt, "rejected", "record_rewritten", "receipt.signed_sha256", logged=logged)
        elif opened.type == "receipt.delivered":
            box.mark_arrival(sent.evt, "delivered", None, None, logged=logged)
        else:
            box.mark_arrival(sent.evt, "rejected", receipt.code, receipt.path, logged=logged)

    async def look_again(self, log: Log) -> int:
        """Held items that are due: their grant or their thread's beginning may be there now. Returns how many moved."""
        box = self._desk.mailbox
        moved = self._consents.catch_up()
        for late, why in self.gathering.overdue():
            with box.transaction():
                if box.arrivals.gathering(late.ident):
                    self._give_up(late, why)
                    moved += 1
        for due in box.arrivals.held(self._desk.now()):
            grant = due.grant_value
            if grant is None:
                grant = (await self._grants(log, [due.ident])).get(due.ident)
            if due.code == "ledger_behind" and self._home is not None:
                await self._place_of_carried(due, self._home)
            with box.transaction():
                item = box.arrivals.held_item(due.n)
                if item is None or box.arrivals.must_wait(item.thread, before=item.n):
                    continue
                item = replace(item, grant_value=item.grant_value or grant)
                self._admit(item, parse_record(item.record), store=False)
                moved += 1
        return moved

    async def _place_of_carried(self, due: Incoming, home: HomeLedger) -> None:
        """A disclosure waits for what the ledger says of the record that it carries."""
        try:
            said = self.opened(due).facts.said
            if isinstance(said, DisclosureGranted):
                places = await home.places([carried_record(said).digest])
                self.corrections.disclosures.asks_home = places is not None
                self.corrections.disclosures.places.update(places or {})
        except UmuhuzaError:
            return  # asked again the next time

    # -- delivering ---------------------------------------------------------------------------------------------------

    async def deliver(self, connectors: Sequence[Connector], step: Callable[[str], None]) -> int:
        """Hand what is ready to the agency's system, the first of each thread. Returns how many were delivered."""
        box = self._desk.mailbox
        count = 0
        for item in box.arrivals.ready(self._desk.now()):
            try:
                arrived = self._arrived(item)
                for connector in connectors:
                    await connector.deliver(arrived)
            except NotNowError:
                wait = backoff_s(item.attempts, self._desk.random)
                box.arrivals.postpone_delivery(item.n, "unavailable", self._desk.now() + wait)
            except UndeliverableError as exc:
                self._quarantine(item, exc.problem.code, None)
            except UmuhuzaError as exc:
                if exc.retriable or isinstance(exc, KeyStoreError):
                    raise  # our own disk or our own keys, not the item
                # It opened when it was stored: a key has gone since.
                self._quarantine(item, exc.code, exc.path)
            else:
                step("delivered")
                box.arrivals.mark_delivered(item.n)
                count += 1
        return count

    def _quarantine(self, item: Incoming, code: str, path: str | None) -> None:
        box = self._desk.mailbox
        with box.transaction():
            box.arrivals.quarantine(item.n, code, path)
            self._note_refusal(replace(item, code=code, path=path))

    def _note_refusal(self, item: Incoming) -> None:
        """Inside the transaction that turns it away."""
        self._refusals.note(
            "incoming",
            f"{item.topic} {item.log_offset}",
            item.code or "",
            item.path,
            at=int(self._desk.now()),
            type=item.type,
            peer=item.iss,
            members=self._desk.registry().agencies,
        )

    def opened(self, item: Incoming) -> events.Opened:
        """Open one stored item again. Raises UmuhuzaError."""
        if item.grant_value is None:
            raise RecordError("grant_missing", "grant")
        return self._open(parse_record(item.record), item.grant_value)

    def _arrived(self, item: Incoming) -> Arrived:
        opened = self.opened(item)
        thread = self._desk.mailbox.thread(item.thread)
        if thread is None:
            raise LogError("log_inconsistent", "thread")
        possible = lifecycle.next_events(thread.machine, thread.state, thread.role)
        return Arrived(
            ident=item.ident,
            iss=item.iss,
            evt=item.evt,
            type=item.type,
            thread=item.thread,
            ref=item.ref,
            facts=opened.facts,
            person=thread.person,
            state=item.thread_state or thread.state,
            issuer_label=self._label(item.iss),
            late=item.late,
            at_ms=item.at_ms,
            may_answer=tuple(
                name for name in possible if name in EVENTS and EVENTS[name].machine != "*" and name != ANNOUNCED
            ),
            files=self.gathering.files(item) if item.type == ANNOUNCED else (),
        )

    def _label(self, agency: str) -> str:
        """It was a member when the record was taken; it may have left since, and what it sent is still its word."""
        member = self._desk.registry().agencies.get(agency)
        return agency if member is None else member.name("fr")


def _l1_by(kids: Collection[str], entry: Stored) -> bytes | None:
    """Hash of a record's `header.payload`, if it says that one of these keys signed it."""
    try:
        kid, signed, _, _ = parse_manifest(entry.value.partition(b"\n")[0])
    except RecordError:
        return None
    return hashlib.sha256(signed).digest() if kid in kids else None


def _dated(at: int | None) -> int | None:
    """A deadline as its issuer claims it; one that no calendar can show is none."""
    return at if at is not None and at in DATED else None


def _incoming(log_id: str, checked: _Checked, grant: bytes | None) -> Incoming:
    manifest, entry = checked.record.manifest, checked.stored
    return Incoming(
        log=log_id,
        topic=entry.topic,
        log_offset=entry.offset,
        at_ms=entry.at_ms,
        ident=manifest.ident,
        iss=manifest.iss,
        evt=manifest.evt,
        digest=checked.record.digest,
        type="",
        kind=manifest.kind,
        thread=manifest.thread,
        ref=manifest.ref,
        late=checked.late,
        crossed=False,
        record=entry.value,
        grant_value=grant,
        state="held",
    )


def _unverified(log_id: str, entry: Stored, exc: UmuhuzaError) -> Incoming:
    """Nobody certain to tell: quarantined under a name of our own, with the code; its issuer's word is not used."""
    return Incoming(
        log=log_id,
        topic=entry.topic,
        log_offset=entry.offset,
        at_ms=entry.at_ms,
        ident="",
        iss="",
        evt="",
        digest=hashlib.sha256(entry.value).digest(),
        type="",
        kind="",
        thread="",
        ref=None,
        late=False,
        crossed=False,
        record=entry.value,
        grant_value=None,
        state="quarantined",
        code=exc.code,
        path=exc.path,
    )
