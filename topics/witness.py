# SPDX-License-Identifier: Apache-2.0
"""A witness (c2sp.org/tlog-witness): it signs that it has seen a ledger's head, and never two histories of one ledger.

What it remembers per ledger is one row: the size and root that it cosigned last. A new checkpoint is cosigned when the
ledger signed it and a consistency proof leads from that row to it. The row is durable before a signature leaves, and
both are one transaction: two requests at once, or two processes over one file, cannot both go on from one row.

Invariants: the size never goes back; of one size only one root is ever cosigned; a signature's time never goes back.
Must never: sign a row that is not durable, begin again for a ledger that was known (a file that is gone or belongs to
other keys is refused), or know more of a ledger than sizes and hashes.

If it dies: before the commit nothing happened; after it and before the answer, the ledger asks again with its old size,
is told the size (`Stale`), and asks for a fresh signature of the same head.

A checkpoint that its ledger signed and that is not what the row says at that size proves that the ledger lied, and is
kept as evidence. One with a proof that does not hold is kept too, but proves nothing yet: anybody can send a true
checkpoint with a bad proof. Of each kind the first 100 of a ledger.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from schemas.errors import LogError
from schemas.notes import (
    EMPTY_ROOT,
    NoteKey,
    NoteSigner,
    SignatureType,
    SignedCheckpoint,
    read_checkpoint_text,
    read_note,
    verify_checkpoint,
)
from schemas.proof_texts import AddCheckpoint, read_add_checkpoint
from schemas.trust_policy import TrustPolicy, read_policy
from topics.proofs import verify_consistency
from topics.sqlite_store import refuse_old_sqlite
from topics.sqlite_transaction import code_of, plan_once, transaction

SIZE_TYPE = "text/x.tlog.size"
"""Content type of the answer that tells a size."""
_APPLICATION = 0x756D_7769  # "umwi"
_VERSION = 1
_BUSY_MS = 10_000
_EVIDENCE_EACH = 100
_STATUS = {
    "signature_invalid": 403,
    "log_unknown": 404,
    "log_inconsistent": 409,
    "too_large": 413,
    "root_mismatch": 422,
    "unavailable": 503,
    "storage_full": 507,
}
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE seen (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL,
    at INTEGER NOT NULL, advanced_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE evidence (
    n INTEGER PRIMARY KEY, origin TEXT NOT NULL, code TEXT NOT NULL, at INTEGER NOT NULL, request BLOB NOT NULL,
    digest BLOB NOT NULL, UNIQUE (origin, digest)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The head was new or the same, and is durable here."""

    lines: bytes
    """Signature lines, one per key of the witness."""
    size: int
    at: int
    """The time that they state, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The ledger named another old size than the last one cosigned, which is this."""

    size: int

    @property
    def body(self) -> bytes:
        return f"{self.size}\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a witness knows of one ledger."""

    origin: str
    size: int
    root: bytes
    at: int
    """When it cosigned last, seconds since the epoch."""
    advanced_at: int
    """When the size grew last."""
    contradictions: int
    """Signed checkpoints of a size that was cosigned, with another root: more than none is an alarm."""
    unproved: int
    """Signed checkpoints whose proof did not hold; whose doing that was is not known."""


class WitnessedLogs:
    """Which ledgers a witness cosigns, with which keys: `log` lines of a policy file that an operator edits.

    Read again when the file changes. A file that cannot be read stops the witness, with LogError `unavailable`, rather
    than let it go on with keys that somebody has taken out.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._policy: TrustPolicy | None = None
        self._turn = threading.Lock()

    def policy(self) -> TrustPolicy:
        """Raises LogError `unavailable` (path `witness.logs`)."""
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            with self._turn:
                if self._policy is None or stamp != self._stamp:
                    self._policy = None  # whatever comes, the older one counts no more
                    self._policy, self._stamp = read_policy(self._path.read_bytes()), stamp
                return self._policy
        except (OSError, LogError):
            raise LogError("unavailable", "witness.logs") from None

    def keys_of(self, origin: str) -> tuple[NoteKey, ...]:
        """Raises LogError `unavailable`."""
        return self.policy().log_keys(origin)


class Witness:
    """One witness over its file. Safe between threads and between processes."""

    def __init__(self, connection: apsw.Connection, signers: Sequence[NoteSigner], logs: WitnessedLogs) -> None:
        self._connection = connection
        self._signers = tuple(signers)
        self._logs = logs
        self._turn = threading.Lock()

    @classmethod
    def create(cls, path: Path, signers: Sequence[NoteSigner], *, vfs: str | None = None) -> None:
        """Make the file of a new witness. Its keys must be as new as the file.

        Raises:
            FileExistsError: there is one already.
            LogError: unavailable, storage_full.
        """
        _check_signers(signers)
        if vfs is None:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        connection = _connect(path, vfs)
        try:
            with transaction(connection):
                connection.execute(_SCHEMA)
                connection.execute(
                    "INSERT INTO meta VALUES ('version', ?), ('keys', ?)", (str(_VERSION), _keys_digest(signers))
                )
                connection.pragma("application_id", _APPLICATION)
        except apsw.Error as error:
            raise LogError(code_of(error, connection), "witness.state") from None
        finally:
            connection.close()

    @classmethod
    def open(cls, path: Path, signers: Sequence[NoteSigner], logs: WitnessedLogs, *, vfs: str | None = None) -> Witness:
        """Open the file of a witness.

        Raises:
            LogError: unavailable: no such file (path `witness.state`: a witness without its memory would sign
                anything, and is replaced by a new one), another version, or other keys (`witness.key`).
        """
        _check_signers(signers)
        if vfs is None and not path.is_file():
            raise LogError("unavailable", "witness.state")
        connection = _connect(path, vfs)
        try:
            _check_file(connection, signers)
        except LogError:
            connection.close()
            raise
        return cls(connection, signers, logs)

    @property
    def keys(self) -> tuple[NoteKey, ...]:
        """What its cosignatures are checked with."""
        return tuple(signer.public for signer in self._signers)

    def close(self) -> None:
        """Idempotent."""
        self._connection.close()

    # ---------------------------------------------------------------- cosigning

    def add_checkpoint(self, body: bytes, now: int) -> Cosigned | Stale:
        """One `add-checkpoint` request. What is cosigned is durable before this returns.

        Args:
            now: seconds since the epoch.

        Raises:
            LogError: the standard's statuses, by code and path:
                note_malformed               400   no such request, or `request.old` above the checkpoint's size
                too_large                    413
                signature_invalid            403   not signed by a key that is trusted for this ledger
                log_unknown                  404   not a ledger that this witness knows
                log_inconsistent             409   path `checkpoint.root`: the same size with another root
                root_mismatch                422   path `request.path`: the proof does not hold
                unavailable, storage_full    503, 507
        """
        asked = read_add_checkpoint(body)
        signed = self._verified(asked.checkpoint)
        if asked.old > signed.checkpoint.size:
            raise LogError("note_malformed", "request.old")
        with self._turn, self._reporting():
            with transaction(self._connection):
                answer = self._advance(asked, signed, now)
                if isinstance(answer, LogError):
                    self._keep_evidence(signed.checkpoint.origin, answer.code, body, now)
            if isinstance(answer, LogError):
                raise answer
            if isinstance(answer, Stale):
                return answer
        # Durable: only now may a signature exist.
        text = signed.checkpoint.text
        lines = "".join(signer.sign(text, answer).line for signer in self._signers)
        return Cosigned(lines.encode("utf-8"), signed.checkpoint.size, answer)

    def _verified(self, checkpoint: bytes) -> SignedCheckpoint:
        keys = self._logs.keys_of(read_checkpoint_text(read_note(checkpoint).text).origin)
        if not keys:
            raise LogError("log_unknown", "checkpoint.origin")
        return verify_checkpoint(checkpoint, keys)

    def _advance(self, asked: AddCheckpoint, signed: SignedCheckpoint, now: int) -> int | Stale | LogError:
        """Inside the transaction: the time to sign with, or why not."""
        head = signed.checkpoint
        found = self._connection.execute("SELECT size, root, at FROM seen WHERE origin = ?", (head.origin,)).fetchone()
        size, root, at = (0, EMPTY_ROOT, 0) if found is None else found
        if asked.old != size:
            if found is not None and head.size == size and head.root != root:
                # Two signed roots of one size are a lie whatever old size whoever brings them has named.
                self._keep_evidence(head.origin, "log_inconsistent", asked.dumps(), now)
            return Stale(size)
        if head.size == size and head.root != root:
            return LogError("log_inconsistent", "checkpoint.root")
        if not verify_consistency(size, root, head.size, head.root, asked.path):
            return LogError("root_mismatch", "request.path")
        if found is not None and head.size == size and now <= at:
            return at  # it is all durable: whoever repeats a checkpoint that anybody can read moves no disk
        at = max(at, now)
        self._connection.execute(
            "INSERT INTO seen VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (origin) DO UPDATE SET"
            " size = ?2, root = ?3, note = ?4, at = ?5, advanced_at = iif(?2 > size, ?5, advanced_at)",
            (head.origin, head.size, head.root, signed.dumps(), at),
        )
        return at

    def _keep_evidence(self, origin: str, code: str, request: bytes, now: int) -> None:
        digest = hashlib.sha256(request).digest()
        self._connection.execute(
            "INSERT INTO evidence (origin, code, at, request, digest) SELECT ?1, ?2, ?3, ?4, ?5"
            " WHERE (SELECT count(*) FROM evidence WHERE origin = ?1 AND code = ?2) < ?6 ON CONFLICT DO NOTHING",
            (origin, code, now, request, digest, _EVIDENCE_EACH),
        )

    # ---------------------------------------------------------------- telling

    def check(self) -> None:
        """Raises LogError `unavailable` when its memory or its list of ledgers cannot be read."""
        self._logs.policy()
        self.seen()

    def seen(self) -> list[Seen]:
        """What it knows of each ledger, by origin."""
        with self._turn, self._reporting():
            return [
                Seen(*row)
                for row in self._connection.execute(
                    "SELECT origin, size, root, at, advanced_at,"
                    " (SELECT count(*) FROM evidence AS e WHERE e.origin = seen.origin AND code = 'log_inconsistent'),"
                    " (SELECT count(*) FROM evidence AS e WHERE e.origin = seen.origin AND code = 'root_mismatch')"
                    " FROM seen ORDER BY origin"
                )
            ]

    def evidence(self, origin: str, code: str = "log_inconsistent") -> list[bytes]:
        """Requests with checkpoints that this ledger signed and that were refused with this code; the first ones."""
        with self._turn, self._reporting():
            rows = self._connection.execute(
                "SELECT request FROM evidence WHERE origin = ? AND code = ? ORDER BY n", (origin, code)
            )
            return [request for (request,) in rows]

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise LogError(code_of(error, self._connection), "witness.state") from None


def status_of(error: LogError) -> int:
    """The standard's HTTP status of a refusal."""
    return _STATUS.get(error.code, 400)


def _connect(path: Path, vfs: str | None) -> apsw.Connection:
    """Raises LogError unavailable, storage_full."""
    refuse_old_sqlite(apsw.sqlite_lib_version())
    connection: apsw.Connection | None = None
    try:
        connection = apsw.Connection(str(path), vfs=vfs)
        plan_once(connection)
        connection.set_busy_timeout(_BUSY_MS)
        if vfs is not None:
            connection.pragma("locking_mode", "EXCLUSIVE")  # such a disk has no shared memory
        connection.pragma("journal_mode", "WAL")
        connection.pragma("synchronous", "FULL")
    except apsw.Error as error:
        code = code_of(error, connection)
        if connection is not None:
            connection.close()
        raise LogError(code, "witness.state") from None
    return connection


def _check_file(connection: apsw.Connection, signers: Sequence[NoteSigner]) -> None:
    """Raises LogError unavailable: `witness.state`, `witness.key`."""
    try:
        meta = {}
        if connection.pragma("application_id") == _APPLICATION:
            meta = dict(connection.execute("SELECT name, value FROM meta"))
    except apsw.Error as error:
        raise LogError(code_of(error, connection), "witness.state") from None
    if meta.get("version") != str(_VERSION):
        raise LogError("unavailable", "witness.state")
    if meta.get("keys") != _keys_digest(signers):
        raise LogError("unavailable", "witness.key")


def _check_signers(signers: Sequence[NoteSigner]) -> None:
    if not signers or any(signer.kind is SignatureType.ED25519 for signer in signers):
        raise ValueError("a witness signs with cosignature keys")
    if len({signer.name for signer in signers}) != 1:
        raise ValueError("a witness has one name")


def _keys_digest(signers: Sequence[NoteSigner]) -> str:
    return hashlib.sha256("\n".join(sorted(signer.public.vkey for signer in signers)).encode("utf-8")).hexdigest()
