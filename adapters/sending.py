# SPDX-License-Identifier: Apache-2.0
"""The way out to the log: what waits is signed in its chain's order, sent, and settled by what the log says.

    waiting -> sign in the chain's order (signed, durable) -> send -> promised | refused | sent again later

The signed bytes are durable before the first of them leaves, and nothing else is ever sent under that number. A record
that is refused for good keeps its number; the next manifest on that topic names it in `voids`. So does a receipt whose
key was revoked before the log had it: it is signed again with the new key, under the next number.

If we crash here: before signing, nothing happened; after it, the same bytes are sent again and give the same promise.
Requests are as large as the link is fast (`topics.link_pace`): each that is answered is settled, and never goes again.

Owns no state of its own but whether the log answered last, and how fast: everything else is in the mailbox. Never logs
or raises a value of a draft.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence

from adapters.attachment_book import AttachmentBook
from adapters.consent_book import ConsentBook
from adapters.desk import Desk, backoff_s
from adapters.mailbox_rows import Incoming, Outgoing
from adapters.outbox import Outbox
from adapters.rights_book import RightsBook
from schemas.envelope import (
    Acts,
    Manifest,
    Part,
    chain_hash,
    cloudevents_headers,
    parse_manifest,
    record_value,
    sign_manifest,
)
from schemas.errors import PolicyError, RegistryError, UmuhuzaError
from schemas.sealing import parse_grant
from topics.borders import under
from topics.catalogue import mailboxes_of
from topics.link_pace import Portion
from topics.log import Appended, Entry, Log, grant_key, grants_topic

MAX_LINES = 200
"""Records per request."""
MAX_REQUEST_BYTES = 4 << 20
FIRST_REQUEST_BYTES = 256 << 10
LEAST_REQUEST_BYTES = 32 << 10
CARRIED_AT_ONCE = 50
"""Records that others handed us, a request."""
CHUNKS_AT_ONCE = 4
"""Records of attachments that are signed before others get their turn: half a megabyte, so that nothing urgent waits
behind a scan."""


class Sender:
    """See the module's docstring. Used from one event loop; several processes may send from one mailbox."""

    def __init__(self, desk: Desk, outbox: Outbox) -> None:
        self._desk = desk
        self._outbox = outbox
        self._rights = RightsBook(desk.mailbox)
        self._attached = AttachmentBook(desk.mailbox)
        self._silent = False
        """Whether the log did not answer the last time that something was sent."""
        self._portion = Portion(FIRST_REQUEST_BYTES, LEAST_REQUEST_BYTES, MAX_REQUEST_BYTES)
        self._bring_at = 0.0
        """When what sticks brought is taken to the log again, seconds since the epoch."""

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
                seq, head = desk.mailbox.chains.head(item.topic)
                voids = desk.mailbox.chains.unnamed_voids(item.topic)
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
                    agreement=self._agreement(item),
                )
                line1 = sign_manifest(manifest, desk.keys.sig)
                count += desk.mailbox.mark_signed(item.evt, seq + 1, line1, chain_hash(line1), voids)
        return count

    def _agreement(self, item: Outgoing) -> str | None:
        """Under what it crosses a border, as things are now; None at home, and where nothing covers it any more: the
        gateway says so then."""
        registry = self._desk.registry()
        if item.peer.partition("/")[0] == registry.domain:
            return None
        day = self._desk.today().date()
        try:
            return under(registry, self._desk.agency, item.topic, item.kind, item.type, day)
        except PolicyError:
            return None

    def void_chains(self) -> int:
        """Where a number was refused and nothing else is on its way to say so, say it. Returns how many were said."""
        count = 0
        for topic in self._desk.mailbox.chains.topics_to_void():
            try:
                self._outbox.void_chain(topic)
            except (RegistryError, PolicyError):
                continue  # no member any more, no key, or no right to send there: there is nobody to tell
            count += 1
        return count

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
        await self._bring_carried(log, step)
        self.void_chains()
        self.sign_waiting()
        step("signed")
        items = _within(_one_per_thread(desk.mailbox.due(desk.now(), MAX_LINES)), self._portion.size)
        if not items:
            return 0
        entries = [self.entry(item) for item in items]
        grants: dict[str, dict[str, bytes]] = {}
        for item, entry in zip(items, entries, strict=True):
            for kid, grant in self.usable(item):
                grants.setdefault(grants_topic(item.peer), {})[grant_key(entry.ident, kid)] = grant.encode("ascii")
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            for topic, values in grants.items():
                await log.put_grants(topic, values)
            answers: Sequence[Appended | UmuhuzaError] = await log.append(entries)
        except UmuhuzaError as exc:
            self._silent = True
            self._portion.broke()
            step("answered")
            with desk.mailbox.transaction():
                # An answer to the whole request judges no record: whatever the code, none is given up for it.
                for item in items:
                    desk.mailbox.postpone(item.evt, exc.code, desk.now() + self._wait_s(item, exc))
            step("settled")
            return 0
        self._silent = False
        self._portion.took(sum(map(_size, items)), clock() - began)
        step("answered")
        moved = self.settle(items, answers)
        step("settled")
        return moved

    def to_carry(self, limit: int) -> list[Outgoing]:
        """Sign what waits; everything signed that the log is not known to have, for a stick, in the chains' order."""
        self.void_chains()
        self.sign_waiting(limit)
        return self._desk.mailbox.due(math.inf, limit)

    async def _bring_carried(self, log: Log, step: Callable[[str], None]) -> None:
        """What others handed us on a stick goes to the log before what we answer; its issuer sends it too, and whoever
        comes second is told that it is there."""
        desk = self._desk
        items = desk.mailbox.arrivals.carried(CARRIED_AT_ONCE) if desk.now() >= self._bring_at else []
        if not items:
            return
        entries = [carried_entry(item) for item in items]
        try:
            await log.put_grants(grants_topic(desk.agency), carried_grants(items))
            answers = await log.append(entries)
        except UmuhuzaError:
            self._bring_at = desk.now() + backoff_s(0, desk.random)
            return
        step("brought")
        self.settle_carried(log.log_id, items, answers)

    def settle_carried(
        self, log_id: str, items: Sequence[Incoming], answers: Sequence[Appended | UmuhuzaError]
    ) -> None:
        """What the log said of what a stick brought; what it does not take now is brought again later."""
        desk = self._desk
        with desk.mailbox.transaction():
            for item, answer in zip(items, answers, strict=True):
                if isinstance(answer, Appended):
                    place = (log_id, item.topic, answer.offset, answer.at_ms)
                    desk.mailbox.arrivals.logged(item.ident, item.digest, *place)
                elif answer.retriable or answer.code in _OURS_TO_CURE:
                    self._bring_at = desk.now() + backoff_s(2, desk.random)
                else:
                    desk.mailbox.arrivals.not_taken(item.ident, item.digest, answer.code, answer.path)

    def settle(self, items: Sequence[Outgoing], answers: Sequence[Appended | UmuhuzaError]) -> int:
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
                    wait = self._wait_s(item, answer)
                    desk.mailbox.number_again(item.evt, answer.path, desk.now() + wait)
                elif answer.retriable or answer.code in _OURS_TO_CURE or self._another_key(item, answer):
                    wait = self._wait_s(item, answer)
                    desk.mailbox.postpone(item.evt, answer.code, desk.now() + wait)
                else:
                    another = self._signs_otherwise(item, answer)
                    desk.mailbox.refuse(item.evt, answer.code, answer.path, int(desk.now()), another_key=another)
                    moved += 1
        return moved

    def _wait_s(self, item: Outgoing, said: UmuhuzaError) -> float:
        """Until it is sent again: never sooner than the gateway asked, and not in the same second as everybody."""
        return said.retry_after_s + backoff_s(item.attempts, self._desk.random)

    def link_is_back(self) -> int:
        """After an outage that reads noticed too: what waits only for that outage's sake goes now, and not when its own
        patience ends, up to a quarter of an hour later. Returns how many."""
        desk = self._desk
        return desk.mailbox.hasten("unavailable", desk.now() + backoff_s(0, desk.random)) if self._silent else 0

    def usable(self, item: Outgoing) -> list[tuple[str, str]]:
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
        return about_grants and len(self.usable(item)) > 1

    def _signs_otherwise(self, item: Outgoing, refusal: UmuhuzaError) -> bool:
        """Whether it was refused for the key that signed it, and we have another one since: the key was revoked between
        signing and the log. (A repeat of what the log has is answered with its promise, whatever became of the key.)"""
        if refusal.code != "key_revoked" or (refusal.path or "").startswith("grants[") or item.l1 is None:
            return False
        return parse_manifest(item.l1)[0] != self._desk.keys.sig.kid

    def entry(self, item: Outgoing) -> Entry:
        """A signed item as it is sent. Raises ValueError: it is not signed."""
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


def carried_entry(item: Incoming) -> Entry:
    """What is appended for an item that a stick brought."""
    headers = cloudevents_headers(parse_manifest(item.record.partition(b"\n")[0])[3])
    return Entry(item.topic, item.thread.encode("ascii"), item.ident, item.record, headers)


def carried_grants(items: Sequence[Incoming]) -> dict[str, bytes]:
    """Their grants, by their keys in our grants topic."""
    held = [(item.ident, item.grant_value) for item in items if item.grant_value is not None]
    return {grant_key(ident, parse_grant(grant).kid): grant for ident, grant in held}


_OURS_TO_CURE = frozenset(
    ("token_invalid", "audience_mismatch", "agency_unknown", "key_unknown", "topic_unknown", "log_inconsistent")
)
"""Refusals that say nothing about the record but that this installation is not set up (yet): kept, tried again, and
shown with their advice. A key that was revoked is no such case: what it signed will never be accepted. Its author is
told; what nobody would say again, a receipt above all, is signed with the new key (`Mailbox.refuse`)."""


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


def _size(item: Outgoing) -> int:
    """Of its line, roughly: the body, the manifest and a grant."""
    return len(item.body) + 4096


def _within(items: list[Outgoing], most: int) -> list[Outgoing]:
    """The first of them that fit; one at least."""
    total = 0
    for index, item in enumerate(items):
        total += _size(item)
        if total > most and index:
            return items[:index]
    return items
