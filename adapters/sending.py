# SPDX-License-Identifier: Apache-2.0
"""The way out to the log: what waits is signed in its chain's order, sent, and settled by what the log says.

    waiting -> sign in the chain's order (signed, durable) -> send -> promised | refused | sent again later

The signed bytes are durable before the first of them leaves, and nothing else is ever sent under that number. A record
that is refused for good keeps its number; the next manifest on that topic names it in `voids`.

If we crash here: before signing, nothing happened; after it, the same bytes are sent again and give the same promise.
Owns no state of its own but whether the log answered last: everything else is in the mailbox. Never logs or raises a
value of a draft.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from adapters.attachment_book import AttachmentBook
from adapters.consent_book import ConsentBook
from adapters.desk import Desk, backoff_s
from adapters.mailbox_rows import Outgoing
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
from topics.borders import under
from topics.catalogue import mailboxes_of
from topics.log import Appended, Entry, Log, grant_key, grants_topic

MAX_LINES = 200
"""Records per request."""
MAX_REQUEST_BYTES = 4 << 20
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
