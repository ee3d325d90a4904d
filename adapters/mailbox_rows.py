# SPDX-License-Identifier: Apache-2.0
"""What a mailbox holds: the tables, and the rows that adapters work with.

Rows are values: changing one changes nothing in the file. Bodies stand in them sealed. Migrations are numbered by
their place and only ever appended; the file's `user_version` says how many it has had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.envelope import Kind

OutgoingState = Literal["waiting", "signed", "promised", "delivered", "rejected", "refused", "cancelled"]
IncomingState = Literal["held", "gathering", "ready", "delivered", "quarantined", "erased"]
"""`gathering`: attachments of which chunks are still on their way; nothing else waits for them."""
Role = Literal["initiator", "recipient"]

MIGRATIONS = (
    """
    CREATE TABLE person(n INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE);
    CREATE TABLE pair(person INTEGER NOT NULL, peer TEXT NOT NULL, pseudonym TEXT NOT NULL,
        PRIMARY KEY(person, peer)) WITHOUT ROWID;
    CREATE TABLE thread(id TEXT PRIMARY KEY, peer TEXT NOT NULL, person INTEGER, machine TEXT NOT NULL,
        role TEXT NOT NULL, pseudonym TEXT NOT NULL, state TEXT NOT NULL, opened_by TEXT NOT NULL,
        answer_by INTEGER, crossed INTEGER NOT NULL DEFAULT 0, changed_at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE batch(source TEXT NOT NULL, connector TEXT NOT NULL, at INTEGER NOT NULL,
        settled INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(source)) WITHOUT ROWID;
    CREATE TABLE turned_down(source TEXT NOT NULL, line TEXT NOT NULL, code TEXT NOT NULL, path TEXT,
        PRIMARY KEY(source, line)) WITHOUT ROWID;
    CREATE TABLE outgoing(n INTEGER PRIMARY KEY, evt TEXT NOT NULL UNIQUE, source TEXT NOT NULL, line TEXT NOT NULL,
        connector TEXT NOT NULL, peer TEXT NOT NULL, topic TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL,
        thread TEXT NOT NULL, ref TEXT, answer_by INTEGER, parts TEXT NOT NULL, body BLOB NOT NULL,
        grants TEXT NOT NULL, thread_before TEXT, seq INTEGER, l1 BLOB, voids TEXT, state TEXT NOT NULL, code TEXT,
        path TEXT, promise BLOB, log_offset INTEGER, attempts INTEGER NOT NULL DEFAULT 0,
        next_at REAL NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, told TEXT NOT NULL DEFAULT '',
        UNIQUE(source, line));
    CREATE UNIQUE INDEX outgoing_number ON outgoing(topic, seq) WHERE seq IS NOT NULL;
    CREATE INDEX outgoing_open ON outgoing(state, topic, n) WHERE state IN ('waiting', 'signed');
    CREATE INDEX outgoing_thread ON outgoing(thread);
    CREATE INDEX outgoing_told ON outgoing(n) WHERE told <> state;
    CREATE TABLE head(topic TEXT PRIMARY KEY, seq INTEGER NOT NULL, hash TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE void(topic TEXT NOT NULL, seq INTEGER NOT NULL, named_by INTEGER,
        PRIMARY KEY(topic, seq)) WITHOUT ROWID;
    CREATE TABLE cursor(log TEXT NOT NULL, topic TEXT NOT NULL, log_offset INTEGER NOT NULL,
        PRIMARY KEY(log, topic)) WITHOUT ROWID;
    CREATE TABLE incoming(n INTEGER PRIMARY KEY, log TEXT NOT NULL, topic TEXT NOT NULL, log_offset INTEGER NOT NULL,
        at_ms INTEGER NOT NULL, ident TEXT NOT NULL, iss TEXT NOT NULL, evt TEXT NOT NULL, digest BLOB NOT NULL,
        type TEXT NOT NULL, kind TEXT NOT NULL, thread TEXT NOT NULL, ref TEXT, late INTEGER NOT NULL,
        crossed INTEGER NOT NULL, record BLOB NOT NULL, grant_value BLOB, state TEXT NOT NULL, thread_state TEXT,
        code TEXT, path TEXT, attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL DEFAULT 0,
        hold_until TEXT, UNIQUE(log, topic, log_offset));
    CREATE UNIQUE INDEX incoming_once ON incoming(ident) WHERE state <> 'quarantined';
    CREATE INDEX incoming_ident ON incoming(ident);
    CREATE INDEX incoming_receipt ON incoming(ref) WHERE type IN ('receipt.delivered', 'receipt.rejected');
    CREATE INDEX incoming_thread ON incoming(thread) WHERE state IN ('held', 'ready');
    CREATE INDEX incoming_ready ON incoming(state, n) WHERE state IN ('held', 'ready');
    CREATE TABLE seen(iss TEXT NOT NULL, topic TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL,
        PRIMARY KEY(iss, topic, seq)) WITHOUT ROWID;
    """,
    """
    ALTER TABLE thread ADD COLUMN services TEXT NOT NULL DEFAULT '';
    ALTER TABLE outgoing ADD COLUMN promised_at INTEGER;
    CREATE INDEX incoming_from ON incoming(iss, at_ms);
    CREATE TABLE journey(evt TEXT PRIMARY KEY, thread TEXT NOT NULL, expected_at INTEGER NOT NULL,
        closed_by TEXT) WITHOUT ROWID;
    CREATE INDEX journey_thread ON journey(thread);
    CREATE TABLE notice(n INTEGER PRIMARY KEY, thread TEXT NOT NULL, kind TEXT NOT NULL, about TEXT NOT NULL,
        due_at INTEGER NOT NULL, at INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0, UNIQUE(thread, kind, about));
    """,
    # adapters/consent_book.py
    """
    CREATE TABLE shared(evt TEXT NOT NULL, peer TEXT NOT NULL, incoming INTEGER NOT NULL, thread TEXT NOT NULL,
        type TEXT NOT NULL, basis TEXT NOT NULL, given_at INTEGER, expires_at INTEGER, scope TEXT,
        limited INTEGER NOT NULL, guardian TEXT, assent TEXT, at INTEGER NOT NULL, PRIMARY KEY(evt, peer, incoming));
    CREATE INDEX shared_thread ON shared(thread);
    CREATE TABLE withdrawal(n INTEGER PRIMARY KEY, person INTEGER, scope TEXT NOT NULL, at INTEGER NOT NULL,
        thread TEXT, evt TEXT, passed_on INTEGER NOT NULL DEFAULT 0, answered TEXT);
    CREATE TABLE told(n INTEGER PRIMARY KEY, withdrawal INTEGER NOT NULL, evt TEXT UNIQUE, thread TEXT NOT NULL,
        peer TEXT NOT NULL, scope TEXT NOT NULL, code TEXT, confirmed_at INTEGER, onward INTEGER);
    CREATE INDEX told_withdrawal ON told(withdrawal);
    CREATE INDEX told_thread ON told(thread);
    CREATE TABLE appointed(person INTEGER NOT NULL, at INTEGER NOT NULL);
    CREATE TABLE ticket(code TEXT PRIMARY KEY, person INTEGER NOT NULL UNIQUE, at INTEGER NOT NULL) WITHOUT ROWID;
    """,
    # adapters/directory_book.py
    """
    CREATE TABLE service(entry TEXT PRIMARY KEY, publication INTEGER NOT NULL, places INTEGER, said TEXT NOT NULL,
        expires_at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE service_told(entry TEXT NOT NULL, peer TEXT NOT NULL, thread TEXT NOT NULL,
        PRIMARY KEY(entry, peer)) WITHOUT ROWID;
    CREATE TABLE listing(iss TEXT NOT NULL, entry TEXT NOT NULL, said TEXT NOT NULL, published_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL, PRIMARY KEY(iss, entry)) WITHOUT ROWID;
    CREATE TABLE reservation(thread TEXT PRIMARY KEY, entry TEXT NOT NULL, publication INTEGER NOT NULL,
        places INTEGER NOT NULL, state TEXT NOT NULL, hold_until INTEGER NOT NULL);
    CREATE TABLE asked(thread TEXT PRIMARY KEY, ask TEXT NOT NULL, peer TEXT NOT NULL, hold_until INTEGER, reason TEXT,
        telephone TEXT);
    CREATE TABLE relayed(ident TEXT PRIMARY KEY) WITHOUT ROWID;
    """,
    # adapters/rights_book.py
    """
    CREATE TABLE act(evt TEXT PRIMARY KEY, erase TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE erasure(ident TEXT NOT NULL, thread TEXT NOT NULL, at INTEGER NOT NULL, held INTEGER NOT NULL,
        state TEXT NOT NULL, next_at REAL NOT NULL, PRIMARY KEY(ident, thread)) WITHOUT ROWID;
    CREATE INDEX erasure_open ON erasure(next_at) WHERE state <> 'done';
    CREATE TABLE disclosure(evt TEXT PRIMARY KEY, ident TEXT NOT NULL, thread TEXT NOT NULL, peer TEXT NOT NULL,
        ours INTEGER NOT NULL, expires_at INTEGER NOT NULL, ended INTEGER NOT NULL);
    CREATE INDEX disclosure_open ON disclosure(expires_at) WHERE ended = 0;
    CREATE TABLE review(n INTEGER PRIMARY KEY, kind TEXT NOT NULL, ident TEXT NOT NULL, peer TEXT NOT NULL,
        at INTEGER NOT NULL, closed_at INTEGER, role TEXT, outcome TEXT, UNIQUE(kind, ident));
    """,
    """
    CREATE INDEX outgoing_promised ON outgoing(peer) WHERE state = 'promised';
    CREATE INDEX thread_answer ON thread(state, answer_by) WHERE role = 'initiator' AND answer_by IS NOT NULL;
    """,
    # adapters/refusal_book.py
    """
    CREATE TABLE refusal(n INTEGER PRIMARY KEY, at INTEGER NOT NULL, direction TEXT NOT NULL, place TEXT NOT NULL,
        type TEXT NOT NULL, peer TEXT NOT NULL, code TEXT NOT NULL, path TEXT, UNIQUE(direction, place, code));
    CREATE INDEX refusal_at ON refusal(at);
    """,
    # adapters/consent_book.py
    """
    ALTER TABLE shared ADD COLUMN age TEXT;
    """,
    # adapters/attachment_book.py
    """
    CREATE TABLE chunk(announced TEXT NOT NULL, number INTEGER NOT NULL, ident TEXT NOT NULL,
        PRIMARY KEY(announced, number)) WITHOUT ROWID;
    CREATE INDEX incoming_gathering ON incoming(n) WHERE state = 'gathering';
    CREATE INDEX incoming_attached ON incoming(ref) WHERE type IN ('attachment.announced', 'attachment.chunk');
    CREATE INDEX outgoing_attached ON outgoing(ref) WHERE type IN ('attachment.announced', 'attachment.chunk');
    """,
    """
    ALTER TABLE outgoing ADD COLUMN thread_after TEXT;
    ALTER TABLE withdrawal ADD COLUMN said_at INTEGER;
    ALTER TABLE thread ADD COLUMN refused TEXT NOT NULL DEFAULT '';
    """,
    # adapters/receipt_book.py
    """
    CREATE TABLE receipt(evt TEXT PRIMARY KEY, level TEXT NOT NULL, final INTEGER NOT NULL, place INTEGER NOT NULL,
        kind TEXT NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE receipts_final(n INTEGER NOT NULL);
    INSERT INTO receipts_final VALUES (0);
    """,
    # adapters/directory_book.py
    """
    ALTER TABLE reservation ADD COLUMN made_at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE reservation ADD COLUMN untaken_until INTEGER NOT NULL DEFAULT 0;
    """,
    # adapters/rights_book.py
    """
    ALTER TABLE erasure ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE erasure ADD COLUMN by_hand TEXT NOT NULL DEFAULT '';
    """,
    # adapters/stopped_book.py
    """
    CREATE TABLE stopped(evt TEXT PRIMARY KEY, withdrawal INTEGER NOT NULL, state TEXT NOT NULL,
        settled INTEGER NOT NULL) WITHOUT ROWID;
    """,
    # adapters/risk_book.py
    """
    CREATE TABLE risk(n INTEGER PRIMARY KEY, evt TEXT NOT NULL, ours INTEGER NOT NULL, thread TEXT NOT NULL,
        stops INTEGER NOT NULL, UNIQUE(evt, ours));
    CREATE INDEX risk_thread ON risk(thread);
    """,
    # adapters/erasure_proofs.py
    """
    ALTER TABLE act ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE erasure_proof(evt TEXT PRIMARY KEY, level TEXT NOT NULL, final INTEGER NOT NULL,
        place INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
    """,
    # receipts belong to no connector, and would stand in it for ever
    """
    DROP INDEX outgoing_told;
    CREATE INDEX outgoing_untold ON outgoing(n) WHERE told <> state AND connector <> '';
    """,
    # adapters/contact_book.py
    """
    CREATE TABLE way(one INTEGER PRIMARY KEY CHECK (one = 1), reached_at INTEGER, tried_at INTEGER NOT NULL,
        code TEXT NOT NULL);
    CREATE TABLE office(ident TEXT PRIMARY KEY, iss TEXT NOT NULL, said TEXT NOT NULL,
        at_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX incoming_contact ON incoming(ident) WHERE type = 'contact.published';
    """,
    # adapters/crossed_book.py
    """
    CREATE TABLE crossed(evt TEXT PRIMARY KEY, domain TEXT NOT NULL, place INTEGER, at INTEGER, code TEXT, path TEXT,
        promise BLOB) WITHOUT ROWID;
    """,
    # adapters/stick.py
    """
    CREATE TABLE handed(evt TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE INDEX incoming_carried ON incoming(n) WHERE substr(log, 1, 8) = 'carried/';
    """,
    # adapters/mail_book.py
    """
    CREATE TABLE mail(one INTEGER PRIMARY KEY CHECK (one = 1), next_at REAL NOT NULL, told INTEGER NOT NULL,
        sent_at INTEGER, code TEXT NOT NULL);
    CREATE TABLE mailed(alarm TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE letter(recipient TEXT PRIMARY KEY, kind TEXT NOT NULL, ident TEXT NOT NULL, made_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL, next_at REAL NOT NULL, code TEXT NOT NULL) WITHOUT ROWID;
    """,
    # adapters/crossed_book.py: what the bridge alone has said is asked again
    """
    ALTER TABLE crossed ADD COLUMN refusal TEXT;
    ALTER TABLE crossed ADD COLUMN final INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE crossed ADD COLUMN heard_at INTEGER;
    ALTER TABLE crossed ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
    UPDATE crossed SET final = 0 WHERE promise IS NULL;
    CREATE INDEX crossed_open ON crossed(evt) WHERE final = 0;
    """,
    # adapters/receipts_abroad.py
    """
    CREATE TABLE receipt_abroad(evt TEXT PRIMARY KEY, level TEXT NOT NULL, final INTEGER NOT NULL,
        place INTEGER NOT NULL, kind TEXT NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
    """,
)

CARRIED, NOT_TAKEN = "carried/", "refused/"
"""What the `log` of an arrived item begins with that was handed over on a stick: not known to be in the log yet; or
refused by it."""
IS_CARRIED = "substr(log, 1, 8) = 'carried/'"
STOPPED = "(SELECT evt FROM stopped WHERE state = 'stopped')"
"""What is signed and must not be sent any more (`adapters.stopped_book`)."""
HELD = "state IN ('held', 'ready') AND state = 'held'"
"""SQLite uses a partial index only where its own condition stands in the query word for word."""
LONGEST_WAIT_S = 3600.0
"""Longer than any back-off: a next attempt further ahead was written by a clock that was wrong, and counts as due."""


@dataclass(frozen=True, slots=True)
class Thread:
    """One referral or case between us and one peer, and how far it is."""

    id: str
    peer: str
    person: str | None
    """The agency's own reference; None when the thread is linked to none."""
    machine: str
    role: Role
    """What this agency is in it."""
    pseudonym: str
    state: str
    opened_by: str
    """The `evt` that began it."""
    answer_by: int | None = None
    crossed: bool = False
    services: tuple[str, ...] = ()
    """HTCDS spl_Type codes that the thread's request asks for; what travels later depends on them too."""
    refused: tuple[str, ...] = ()
    """Names of fields that she did not want shared with this reader, as our own request has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One event of ours, sealed; signed and sent as its state says. Times are seconds since the epoch."""

    n: int = 0
    evt: str
    source: str
    line: str
    connector: str
    peer: str
    topic: str
    type: str
    kind: Kind
    thread: str
    ref: str | None
    answer_by: int | None
    parts: str
    """JSON of the manifest's parts."""
    body: bytes
    """L2."""
    grants: tuple[str, ...]
    thread_before: str | None = None
    """The thread's state before this event; restored if the log refuses it for good."""
    thread_after: str | None = None
    """And behind it: which step an event makes may hang on what it says, which is sealed by then."""
    seq: int | None = None
    l1: bytes | None = None
    voids: tuple[int, ...] = ()
    state: OutgoingState = "waiting"
    code: str | None = None
    path: str | None = None
    promise: bytes | None = None
    log_offset: int | None = None
    attempts: int = 0
    next_at: float = 0.0
    created_at: int = 0
    told: str = ""
    promised_at: int | None = None
    """The log's time, seconds since the epoch, once the log has it."""

    @property
    def speaks(self) -> bool:
        """Whether it begins, moves or visits its thread: all but what machines tell each other (receipts, voids, chunks
        of what was announced)."""
        return not self.type.startswith(("receipt.", "chain.", "attachment.chunk"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One record that was read. `at_ms`: the log's clock, milliseconds since the epoch; other times in seconds.

    Of one whose issuer is not certain, `ident`, `iss` and `evt` are empty: they would be an unknown's claim.
    """

    n: int = 0
    log: str
    topic: str
    log_offset: int
    at_ms: int
    ident: str
    iss: str
    evt: str
    digest: bytes
    type: str
    """"" while the record has not been opened."""
    kind: str
    thread: str
    ref: str | None
    late: bool
    crossed: bool
    record: bytes
    grant_value: bytes | None
    state: IncomingState
    thread_state: str | None = None
    """The thread's state after this event."""
    code: str | None = None
    path: str | None = None
    attempts: int = 0
    next_at: float = 0.0
    hold_until: Mapping[str, int] | None = None
    """Mailbox ends that must have been read before the thread counts as unknown."""


@dataclass(frozen=True, slots=True)
class TurnedDown:
    """A line that never became an event: its code and path, for the same answer if the batch comes again."""

    line: str
    code: str
    path: str | None
