# SPDX-License-Identifier: Apache-2.0
"""One part of a record for a court or an auditor, and no other; until a day; and somebody must look at it afterwards.

    disclosure.requested (an order: which parts, until when)
        -> a person here grants -> disclosure.granted: the record as it was signed, and the keys of exactly those parts
        -> review list -> disclosure.reviewed by a named role -> on its day, or when not upheld: disclosure.ended

The keys travel inside disclosure.granted, sealed to the reader once more. So what ends a disclosure is the erasure of
that record's own keys (`acts.erase`): gateways carry it out, the reader's adapter forgets them, and the first holder's
keys are not touched. The erasure of the record itself ends its disclosures. What was read cannot be unread.

Must never: disclose a part that was not asked for; disclose without a request; write an opened part anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters.connectors.contract import Draft
from adapters.desk import Desk
from adapters.home_ledger import Place
from adapters.mailbox_rows import Incoming
from adapters.outbox import Outbox
from adapters.rights_book import Disclosure, Outcome, ReviewRole, RightsBook
from schemas import events
from schemas.envelope import Record, parse_record, record_value
from schemas.errors import LogError, OrderError, PayloadError, PolicyError, RecordError, RegistryError
from schemas.forms import Facts, Form
from schemas.keys import VerifyKey, b64url, unb64url
from schemas.plain.rights import (
    PIECE,
    DisclosureEnded,
    DisclosureGranted,
    DisclosureRefused,
    DisclosureRequested,
    DisclosureReviewed,
)
from schemas.registry import Registry
from schemas.sealing import make_grant, open_grant, open_parts, parse_grant

MOST_DAYS = 366
"""No disclosure lasts longer, whatever the order says; to be confirmed by counsel."""
_PIECES = 30


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that no answer has gone to."""

    thread: str
    peer: str
    at_ms: int
    said: DisclosureRequested


class Disclosures:
    """See the module's docstring. Used from one event loop; the commands use it beside a running adapter."""

    def __init__(self, desk: Desk, outbox: Outbox) -> None:
        self._desk = desk
        self._outbox = outbox
        self.book = RightsBook(desk.mailbox)
        self.asks_home = False
        """Whether the home ledger can be asked where a record stands."""
        self.places: dict[bytes, Place] = {}
        """What it has said."""

    # -- asked and answered -------------------------------------------------------------------------------------------

    def asked(self) -> list[Asked]:
        """Requests that wait for an answer from here, oldest first."""
        found = []
        for item in self._desk.mailbox.arrivals.all():
            if item.type == "disclosure.requested" and item.state in ("ready", "delivered"):
                thread = self._desk.mailbox.thread(item.thread)
                if thread is not None and thread.state == "requested":
                    found.append(Asked(item.thread, item.iss, item.at_ms, self._request(item)))
        return found

    def _request(self, item: Incoming) -> DisclosureRequested:
        said = _opened(self._desk, item).facts.said
        if not isinstance(said, DisclosureRequested):
            raise PayloadError("payload_invalid", "said")
        return said

    def grant(self, thread: str, ident: str) -> str:
        """Answer a request with one record that is held here; returns the evt of the answer.

        Raises:
            OrderError: `thread_unknown`: no request waits there, or the record is not held here.
            RecordError: `grant_missing`: its keys are gone; `too_large`.
            PayloadError: `payload_invalid`, path `said.record`: the order names another record.
            PolicyError: `not_permitted`: a part that the record does not have.
        """
        box, now = self._desk.mailbox, int(self._desk.now())
        with box.transaction():
            asked = next((one for one in self.asked() if one.thread == thread), None)
            held = box.arrivals.of(ident)
            if asked is None or held is None:
                raise OrderError("thread_unknown", "thread" if asked is None else "record")
            if asked.said.record not in (None, ident):
                raise PayloadError("payload_invalid", "said.record")
            ends = min(asked.said.expires_at, datetime.fromtimestamp(now, UTC) + timedelta(days=MOST_DAYS))
            if ends.timestamp() <= now:
                raise PolicyError("not_permitted", "said.expires_at")
            said = self._granted(held, asked, ends)
            evt = self.say("disclosure.granted", said, to=asked.peer, thread=thread)
            by = f"{self._desk.agency}/{evt}"
            self.book.disclosed(Disclosure(ident, by, thread, asked.peer, True, int(ends.timestamp()), False))
            self.book.review("disclosure", by, asked.peer, now)
            return evt

    def _granted(self, held: Incoming, asked: Asked, ends: datetime) -> DisclosureGranted:
        record = parse_record(held.record)
        keys = _keys(self._desk, record, held.grant_value)
        if not keys.keys() >= set(asked.said.scope):
            raise PolicyError("not_permitted", "said.scope")
        some = {name: key for name, key in keys.items() if name in asked.said.scope}
        l1, _, l2 = held.record.partition(b"\n")
        body = _pieces(l2.decode("ascii"))
        if len(body) > _PIECES:
            raise RecordError("too_large", "record", expected=_PIECES * PIECE)
        return DisclosureGranted(
            record=held.ident,
            scope=asked.said.scope,
            expires_at=ends,
            manifest=_pieces(l1.decode("ascii")),
            body=body,
            keys=tuple(
                b64url(make_grant(record.manifest, some, asked.peer, key))
                for key in self._desk.registry().seal_keys(asked.peer, int(self._desk.now()))
            ),
        )

    def refuse(self, thread: str, said: DisclosureRefused) -> str:
        """Answer no. Raises OrderError: `thread_unknown`, `transition_invalid`."""
        return self.answer(thread, "disclosure.refused", said)

    def answer(self, thread: str, type: str, said: Form) -> str:
        """Say something on a thread that is there."""
        with self._desk.mailbox.transaction():
            known = self._desk.mailbox.thread(thread)
            if known is None:
                raise OrderError("thread_unknown", "thread")
            return self.say(type, said, to=known.peer, thread=thread)

    # -- reviewed and ended -------------------------------------------------------------------------------------------

    def review(self, n: int, role: ReviewRole, reviewer: str, outcome: Outcome) -> bool:
        """A named role has looked at one entry of the review list. False: no such entry, or somebody has.

        A disclosure's reader is told; one that is not upheld ends. The reviewer's name is in that record only.
        """
        with self._desk.mailbox.transaction():
            one = next((each for each in self.book.reviews() if each.n == n), None)
            if one is None or not self.book.close_review(n, role, outcome, int(self._desk.now())):
                return False
            given = self.book.disclosure(one.ident)
            if one.kind == "disclosure" and given is not None and not given.ended:
                said = DisclosureReviewed(role=role, outcome=outcome, reviewer=reviewer)
                self.say("disclosure.reviewed", said, to=given.peer, thread=given.thread)
                if outcome == "not-upheld":
                    self._end(given, "not-upheld")
            return True

    def expire(self) -> int:
        """End what has run out: given from here, and forget what others gave. Returns how many."""
        due = self.book.expired(self._desk.now())
        for one in due:
            with self._desk.mailbox.transaction():
                self._end(one, "expired")
        return len(due)

    def forgotten(self, ident: str) -> None:
        """A record's keys went here: so do those that we gave to others, and one that we got has ended."""
        for one in self.book.running(ident):
            self._end(one, "erased")
        if self.book.disclosure(ident) is not None:
            self.book.end(ident)

    def _end(self, one: Disclosure, reason: str) -> None:
        self.book.end(one.by)
        if not one.ours:
            self.book.erase(one.by, self._desk.agency, "", int(self._desk.now()))
            return
        said = DisclosureEnded.model_validate({"record": one.ident, "reason": reason})
        try:
            evt = self.say("disclosure.ended", said, to=one.peer, thread=one.thread)
        except (OrderError, PolicyError, RegistryError):
            return  # retracted by the asker, or no member any more
        self.book.command(evt, [one.by])

    # -- at the reader ------------------------------------------------------------------------------------------------

    def check(self, said: DisclosureGranted) -> None:
        """What a disclosure carries is that record, signed by its issuer, with the keys of exactly the parts named.

        Its time is its issuer's claim, or a thief's: where its key is revoked by now, only the home ledger's order
        says that it was signed before.

        Raises:
            RecordError, RegistryError: the record does not verify or its keys do not open; key_revoked.
            LogError: ledger_behind: the home ledger has not said yet where the record stands.
            PayloadError: `payload_invalid`: another record, or other parts, than it says.
        """
        record = carried_record(said)
        registry = self._desk.registry()
        manifest = record.manifest
        record.verify(self._key_of(record, registry))
        record.verify_body()
        if manifest.ident != said.record:
            raise PayloadError("payload_invalid", "said.record")
        if self._granted_keys(record, said).keys() != set(said.scope):
            raise PayloadError("payload_invalid", "said.keys")

    def _key_of(self, record: Record, registry: Registry) -> VerifyKey:
        iss, claimed = record.manifest.iss, record.manifest.iat
        if not registry.revokes(iss, record.kid):
            return registry.signing_key(iss, record.kid, claimed)
        place = self.places.get(record.digest)
        if place is None and self.asks_home:
            raise LogError("ledger_behind", "said.record")
        if place is None or place.refused is not None:
            raise RegistryError("key_revoked", "said.record")
        return registry.signing_key(iss, record.kid, claimed, place.index, place.ledger)

    def _granted_keys(self, record: Record, said: DisclosureGranted) -> dict[str, bytes]:
        for piece in said.keys:
            try:
                grant = unb64url(piece)
            except ValueError:
                raise PayloadError("payload_invalid", "said.keys") from None
            if parse_grant(grant).kid in self._desk.keys.seal:
                return _keys(self._desk, record, grant)
        raise RecordError("grant_unopenable", "said.keys")

    def arrived(self, item: Incoming, said: Form | None) -> None:
        """Keep what was given until its day. Inside the transaction that stores it."""
        if isinstance(said, DisclosureGranted):
            ends = int(said.expires_at.timestamp())
            self.book.disclosed(Disclosure(said.record, item.ident, item.thread, item.iss, False, ends, False))

    def open(self, by: str) -> dict[str, bytes]:
        """The parts that a disclosure opens, by name, as they were sealed; padding spaces included.

        Raises:
            OrderError: `thread_unknown`: no such disclosure came here.
            RecordError: `grant_missing`: it has ended.
        """
        item, given = self._desk.mailbox.arrivals.of(by), self.book.disclosure(by)
        if item is None or given is None:
            raise OrderError("thread_unknown", "evt")
        if given.ended or given.expires_at <= self._desk.now():
            raise RecordError("grant_missing", "grant")  # also where no adapter has run since to forget it
        said = _opened(self._desk, item).facts.said
        if not isinstance(said, DisclosureGranted):
            raise OrderError("thread_unknown", "evt")
        self.check(said)
        record = carried_record(said)
        return open_parts(record, self._granted_keys(record, said))

    def say(self, type: str, said: Form, *, to: str, thread: str | None = None, ref: str | None = None) -> str:
        """Enqueue a plain event about no person; inside a transaction. Raises UmuhuzaError as `Outbox.compose`."""
        facts = Facts(occurred_at=datetime.fromtimestamp(int(self._desk.now()), UTC), said=said)
        line = self._desk.random(12).hex()
        return self._outbox.compose(Draft(line, to, type, None, thread, facts, ref), "rights", "")


def _keys(desk: Desk, record: Record, grant: bytes | None) -> dict[str, bytes]:
    if grant is None:
        raise RecordError("grant_missing", "grant")
    key = desk.keys.seal.get(parse_grant(grant).kid)
    if key is None:
        raise RecordError("grant_unopenable", "grant.kid")
    return open_grant(record, grant, key)


def _opened(desk: Desk, item: Incoming) -> events.Opened:
    record = parse_record(item.record)
    parts = open_parts(record, _keys(desk, record, item.grant_value), ("identity", "content"))
    m = record.manifest
    return events.decompose(parts["content"], parts["identity"], iss=m.iss, to=m.to, evt=m.evt, thread=m.thread)


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(text[at : at + PIECE] for at in range(0, len(text), PIECE))


def _whole(pieces: Sequence[str]) -> bytes:
    return "".join(pieces).encode("ascii")


def carried_record(said: DisclosureGranted) -> Record:
    """Raises RecordError."""
    return parse_record(record_value(_whole(said.manifest), _whole(said.body)))


def readable(part: bytes) -> str:
    """An opened part for a person: its JSON, indented."""
    return json.dumps(json.loads(part), ensure_ascii=False, indent=1) if part.strip() else ""
