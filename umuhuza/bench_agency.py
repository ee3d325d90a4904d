# SPDX-License-Identifier: Apache-2.0
"""What `umuhuza bench` measures of an agency's own machine: how fast it judges a message, and how fast it takes one in.

`validate` is the gate alone on one referral, both halves; the package `fhir.resources` gets the very same Bundles in
turn. Two measures run `adapters.inbox` over a real mailbox file, durable as an agency's own:

    receive_agency      signature and digests verified, grant and parts opened, the message validated, rights and thread
                        checked, stored: the way in alone, without the receipt
    receive_and_answer  the same and the receipt, which is composed, validated, sealed and enqueued like any record, in
                        the same transaction: what an agency does

Only the log is a list in memory: what a network costs is measured elsewhere.

Everybody in here is invented. Must never: leave a file behind outside of the given folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from adapters.desk import Desk
from adapters.inbox import Inbox
from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from adapters.outbox import Outbox
from schemas import events, forms
from schemas.envelope import (
    new_evt,
)
from schemas.errors import LogError
from schemas.keys import b64url
from schemas.message_gate import CONTENT, IDENTITY
from schemas.registry import Registry
from schemas.shape import Context
from topics.catalogue import Act
from topics.log import Appended, Ends, Entry, Stored, grant_key
from umuhuza import fhir_oracle
from umuhuza.bench_records import chain_of

TYPE = "referral.requested"


def referral(at: datetime) -> forms.Facts:
    """A referral as a caseworker writes one: about 5 KB of content and 1 KB of identity."""
    consent = forms.Consent(given_at=at - timedelta(days=1), expires_at=at + timedelta(days=90), language="rn")
    return forms.Facts(
        occurred_at=at - timedelta(hours=2),
        htcds={
            "prs_Gender": "Feminine",
            "prs_FirstName": "Keza",
            "prs_Citizenship": ("BI", "RW"),
            "vic_TypeOfExploitation": ("ForcedLabour",),
            "cas_OutgoingReferralDate": "2026-11-03",
            "con_Consent": "true",
        },
        lawful=forms.Lawful(basis="consent", consent=consent),
        referral=forms.Referral(
            priority="urgent",
            name=forms.Name(as_given="Keza Uwimana", first="Keza", last="Uwimana"),
            birth=forms.Birth(precision="day", date="1999-05-17", basis="document"),
            services=("SocialCare", "Health"),
            local_service="hébergement, deux semaines",
            languages=("rn", "fr"),
            interpreter=forms.Interpreter(needed=True, language="rn", sex_preferred="female"),
            safe_contact=forms.SafeContact(channel="sms", address="+25779000000", never_contact=("son oncle",)),
            risk=forms.Risk(level="high", from_whom="l'employeur"),
            dependants=(3,),
            reason="Elle veut partir.\nElle a peur.",
            feedback_by=at + timedelta(days=2),
        ),
    )


def composed(iss: str, to: str, evt: str, thread: str, at: datetime) -> events.Sealable:
    return events.compose(
        TYPE,
        referral(at),
        iss=iss,
        to=to,
        evt=evt,
        thread=thread,
        ref=None,
        pseudonym=b64url(os.urandom(12)),
        recorded_at=at,
        allowed=None,
        salt=os.urandom(32),
    )


def _rate(work: Callable[[], object], seconds: float) -> float:
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        work()
        count += 1
    return count / (time.perf_counter() - started)


def validate(seconds: float = 0.2) -> tuple[float, float]:
    """(messages per second through the gate, how many times as many as through `fhir.resources`), in this run.

    Raises:
        RuntimeError: one of the two refuses the message: nothing is comparable then.
    """
    at = datetime.now(UTC).replace(microsecond=0)
    given = {"iss": "bi/n1", "to": "bi/n2", "evt": new_evt(int(at.timestamp() * 1000), os.urandom), "thread": "t" * 22}
    parts = composed(given["iss"], given["to"], given["evt"], given["thread"], at)
    content, identity = orjson.loads(parts.content)["payload"], orjson.loads(parts.identity)

    def gate() -> None:
        CONTENT[TYPE].check(content, Context(given))
        IDENTITY[TYPE].check(identity, Context(given))

    def library() -> None:
        if not (fhir_oracle.accepts(content) and fhir_oracle.accepts(identity)):
            raise RuntimeError("fhir.resources refuses what the gate takes")

    gate()
    library()  # loads what it loads late
    before, theirs, after = _rate(gate, seconds), _rate(library, 2 * seconds), _rate(gate, seconds)
    ours = (before + after) / 2
    return ours, ours / theirs


@dataclass
class Shelf:
    """A log to read from that is a list."""

    entries: list[Stored] = field(default_factory=list)
    grants: dict[str, bytes] = field(default_factory=dict)
    log_id: str = "bench"

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return [one for one in self.entries if one.topic in after and one.offset > after[one.topic]][:limit]

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self.poll({topic: after}, limit)

    async def ends(self, topic: str) -> Ends:
        return Ends(0, sum(one.topic == topic for one in self.entries))

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        return {key: self.grants[key] for key in keys if key in self.grants}

    async def append(self, entries: Sequence[Entry]) -> list[Appended | LogError]:
        raise LogError("log_closed", "bench")

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        raise LogError("log_closed", "bench")

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        raise LogError("log_closed", "bench")

    async def close(self) -> None:
        return


def shelf_of(sender: Keys, reader: str, registry: Registry, count: int) -> Shelf:
    """A chain of `count` referrals from `sender`, each on a thread of its own."""
    at = datetime.now(UTC).replace(microsecond=0)
    at_ms = int(at.timestamp() * 1000)

    def parts(evt: str, thread: str) -> tuple[bytes, bytes]:
        made = composed(sender.agency, reader, evt, thread, at)
        return made.identity, made.content

    shelf = Shelf()
    for offset, one in enumerate(chain_of(sender, reader, registry, count, parts=parts)):
        entry = one.entry
        shelf.entries.append(Stored(entry.topic, offset, entry.key, entry.ident, entry.value, at_ms, entry.headers))
        shelf.grants[grant_key(entry.ident, one.kid)] = one.grant
    return shelf


class _Silent(Outbox):
    """Says nothing back: an inbox alone is measured. No agency runs with it."""

    def receipt(
        self, type: str, facts: forms.Facts, *, to: str, thread: str, ref: str, line: str, answers: Act | None
    ) -> str:
        return ""


@dataclass(frozen=True)
class Reading:
    """One agency about to read what is on a shelf into a fresh mailbox."""

    shelf: Shelf
    inbox: Inbox
    mailbox: Mailbox

    @classmethod
    def prepare(cls, folder: Path, shelf: Shelf, reader: Keys, registry: Registry, *, answers: bool) -> Reading:
        """`answers`: whether each record is receipted, as everywhere but here."""
        mailbox = Mailbox.open(folder / f"mailbox-{os.urandom(4).hex()}.db")
        desk = Desk(mailbox, reader, lambda: registry, time.time, os.urandom)
        return cls(shelf, Inbox(desk, Outbox(desk) if answers else _Silent(desk)), mailbox)

    async def run(self) -> None:
        """Read everything. Raises RuntimeError unless each record was taken and is ready for the agency's system."""
        await self.inbox.receive(self.shelf, 0.0, lambda _step: None)
        ready = self.mailbox.counts().get("incoming.ready", 0)
        if ready != len(self.shelf.entries):
            raise RuntimeError(f"{len(self.shelf.entries) - ready} records were not taken")


def shares(told: dict[str, Any], gate: tuple[float, float]) -> None:
    """Put what `validate` found beside the rest of what the command tells."""
    told["per_second"]["validate"] = round(gate[0])
    told["validate_to_fhir_resources"] = round(gate[1], 1)
