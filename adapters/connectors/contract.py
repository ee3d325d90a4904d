# SPDX-License-Identifier: Apache-2.0
"""The connector's contract: how an agency's own system meets its mailbox.

A connector knows one kind of system and nothing of records, keys or logs. It collects what is new as `Batch`es of
`Draft`s (or `Problem`s, for rows that cannot be read), and delivers what has arrived. The runner calls it; the mailbox
owns all durable state. A connector keeps none that it could not lose, except in the agency's own system.

Crash rules: `collect` may yield a batch again after a crash; `Batch.source` is the idempotency key and the outbox
recognises it. `settle` and `deliver` run at least once and must be idempotent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

from schemas.attachments import File
from schemas.errors import Language
from schemas.forms import Facts
from schemas.plain.rights import ByHand


@dataclass(frozen=True, slots=True)
class Draft:
    """One event that the agency wants to send."""

    line: str
    """Where it stands in its source ("Orientation!3", "submission"): unique within the batch; shown to its author."""
    to: str
    """Recipient's agency id or handle, `bi/k7t4`."""
    type: str
    """Event type, `referral.requested`."""
    person: str | None
    """The agency's own reference of the person (case number): linkage inside the agency only; never travels."""
    thread: str | None
    """Continue this thread; None: a new one, or the one that `ref` belongs to."""
    facts: Facts
    ref: str | None = None
    """The `evt` this answers."""
    files: tuple[File, ...] = ()
    """What is attached; sealed when the outbox takes the draft, and not read again."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something the author must correct. For the author's eyes only: it may quote what she wrote."""

    where: str
    """Line and column as the author sees them, in French: "ligne 7, colonne F"."""
    code: str
    """A code of `schemas.errors.CODES`."""
    fr: str
    en: str
    line: str = ""
    """The `Draft.line` it replaces, when it concerns one row."""
    path: str | None = None
    """Where in `Facts` ("referral.caregiver"), when the rules and not the connector found it: the connector knows what
    its author calls that place."""
    where_en: str = ""
    """`where` in English ("row 7, column F"); empty where it is the same in both."""

    def at(self, language: Language) -> str:
        """`where` in that language."""
        return self.where_en if language == "en" and self.where_en else self.where


@dataclass(frozen=True, slots=True)
class Batch:
    """What was dropped or submitted at once: accepted in one transaction, reported in one report."""

    source: str
    """Idempotency key: "sha256:<hex of the content>" for a file, the instance id for a submission."""
    name: str
    """For people: the file's name as dropped. Kept inside the agency."""
    items: tuple[Draft | Problem, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item of a batch, durable in the outbox when the connector hears it."""

    line: str
    evt: str | None
    """Event id when accepted for sending."""
    problem: Problem | None
    """Why it was not."""
    again: bool = False
    """The batch was known already; this is what was said the first time."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """One event, verified, opened, validated, durable in the inbox."""

    ident: str
    """"<iss>/<evt>": the idempotency key towards the agency's system."""
    iss: str
    evt: str
    type: str
    thread: str
    ref: str | None
    facts: Facts
    person: str | None
    """The agency's own reference, when this thread is linked to one."""
    state: str
    """The thread's state after this event."""
    issuer_label: str
    """How to show the sender to a person here, from the registry (fr)."""
    late: bool
    at_ms: int
    """The log's time, milliseconds since the epoch."""
    may_answer: tuple[str, ...]
    """Event types that this agency may send next on the thread."""
    files: tuple[File, ...] = ()
    """With `attachment.announced`: the files, whole and checked; as in `facts.said.files`."""


EscalationKind = Literal[
    "half",
    "overdue",
    "late-acceptance",
    "not-arrived",
    "owed",
    "owed-overdue",
    "answered",
    "unacknowledged",
    "undelivered",
    "held-abroad",
    "refused-abroad",
]
"""Half of the time for an answer has passed; all of it; an acceptance came too late and must be confirmed or revoked;
she left and has not arrived in time. Half of the time has passed in which we owe somebody an answer; all of it; we have
answered, and the two before are over. The log has had something of ours for a day, and the machine that it is for,
though it was heard since, does not say that it has it; and it still does not when its time in the log is over. The
other country does not take something of ours for now, and has signed why; or it never will."""
REFUSED_TOLD_S = 14 * 86_400
"""So long a refusal abroad is an alarm; the item and its row say it for as long as they are there."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """Something that a person must look at, now. Content-free: nobody is named, it may be shown or rung anywhere."""

    kind: EscalationKind
    thread: str
    evt: str
    """The event of ours or theirs that it is about: the request, or the departure."""
    peer: str
    due_at: int
    """When it fell due, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class LastContact:
    """When somebody was last heard, and where to telephone. Content-free. Times in seconds since the epoch."""

    agency: str
    """Empty: our own gateway, and with it everybody."""
    seen_at: int | None
    """The log's time of the last signed record that came from there, receipts included; None: never. Of our own
    gateway: its last answer."""
    silent_since: int | None = None
    """Telephone: nothing was heard since, for hours, though something waits there. None: nothing is amiss."""
    telephone: str | None = None
    """Of an office, as it published it; None: none is known here."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What a connector found where it had put an event that it was told to erase. Codes only."""

    deleted: bool = False
    """A copy was at its place and is gone."""
    by_hand: tuple[ByHand, ...] = ()
    """What a person must still do."""


class NotNowError(Exception):
    """`deliver` or `settle` could not reach the agency's system (disk full, file open in Excel): tried again later."""


class UndeliverableError(Exception):
    """`deliver` will never succeed for this item: it is quarantined with the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.code)
        self.problem = problem


class Connector(Protocol):
    """One agency's system. Called from one event loop; `collect` and `deliver` may be under way at the same time.

    Beside what the methods name, an `UmuhuzaError` fails the runner's turn, which is tried again; anything else is a
    bug and ends the adapter.
    """

    name: ClassVar[str]

    def collect(self) -> AsyncIterator[Batch]:
        """Whatever is new now, then ends; called again and again. Bad input is a Problem, never raised."""

    async def settle(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """The outcomes are durable: write the report, move the file. Idempotent. Raises NotNowError."""

    async def deliver(self, arrived: Arrived) -> None:
        """Into the agency's system, in order per thread, idempotent by `ident`.

        Raises NotNowError, UndeliverableError.
        """

    async def erase(self, ident: str) -> Erased:
        """Delete what `deliver` made of that event, as far as the agency's system lets us, and say what that was: of a
        copy that is not found, nobody says that it is gone. Idempotent.

        Raises NotNowError: somebody has it open; asked again later.
        """

    async def changed(self, evt: str, line: str, source: str, state: str, code: str | None) -> None:
        """An outgoing item moved (sent, delivered, refused, accepted, ...): tell the caseworker where she works."""


@runtime_checkable
class HearsEscalations(Protocol):
    """A connector that can call a person. At least once for each; idempotent by (kind, thread, evt)."""

    async def escalated(self, escalation: Escalation) -> None:
        """Raises NotNowError: told again later."""


@runtime_checkable
class HearsContacts(Protocol):
    """A connector that can show when each agency was last heard, and whom to telephone while nothing is heard."""

    async def contacts(self, known: Sequence[LastContact]) -> None:
        """How it is now, all of it, ever again; our own gateway (`agency` empty) first.

        Raises NotNowError: told again.
        """
