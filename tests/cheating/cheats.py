# SPDX-License-Identifier: Apache-2.0
"""A small domain whose operator can cheat: a real log and a real ledger in files; promises, receipts and cosigned
checkpoints in other people's hands; and what somebody who has the files and the operator's keys can do with them.

A test lets things go honestly (`publish`, `sequence`), tampers (`in_log`, `rebuild`, ...), and audits. The operator
has every key of the ledger and of the gateway, and no agency's, no witness's and no registry holder's.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import apsw

from schemas.envelope import chain_hash
from schemas.notes import Checkpoint, NoteSigner, SignatureType, read_note, sign_checkpoint
from schemas.proof_texts import TlogProof
from schemas.registry import Registry
from schemas.registry_trust import trusted
from schemas.trust_policy import TrustedLog, TrustedWitness, TrustPolicy
from tests.domain import Domain, Signed, seeded
from tests.topics.ledger_world import ORIGIN, SIGNERS, World
from topics.audit import Report, audit
from topics.audit_domain import DomainSource
from topics.audit_export import EVERYTHING, Choice, Exported, export
from topics.audit_findings import Finding, Held, Trust
from topics.catalogue import topics_of
from topics.ledger_entries import Batch, LedgerEntry, decode_batch, decode_entry
from topics.ledger_store import SqliteLedgerStore
from topics.log import Entry
from topics.promise import Line, evidence, make_promise
from topics.proofs import inclusion_path, leaf_hash, root
from topics.sqlite_log import SqliteLog
from topics.topic_names import is_mailbox_topic

WITNESS = NoteSigner("tn.umuhuza/witness", SignatureType.COSIGNATURE, seeded("witness")(32))
POLICY = TrustPolicy(
    tuple(TrustedLog(one.public) for one in SIGNERS), (TrustedWitness("tn", WITNESS.public),), (), "tn"
)
NO_WITNESS = replace(POLICY, quorum="none")
"""An auditor who believes the ledger alone."""
TO_SHELTER, TO_IOM = "bi.referral.k7t4", "bi.case.iom"
_T = TypeVar("_T")


@dataclass
class Town:
    """`with Town(folder) as town`."""

    folder: Path
    brought: list[Held] = field(default_factory=list)
    """Checkpoints that others hold."""
    receipts: list[Held] = field(default_factory=list)
    promises: list[Held] = field(default_factory=list)
    own: bytes | None = None
    """The checkpoint that the operator shows now."""
    published: bytes | None = None
    """The registry that the operator hands out now."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.world = World(self.folder)
        self._sequencer = self.world.sequencer()
        self._loop = asyncio.Runner()

    def __enter__(self) -> Town:
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.world.log.close())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run(work)

    @property
    def domain(self) -> Domain:
        return self.world.domain

    # ---------------------------------------------------------------- honestly

    def publish(self, *records: Signed | Entry) -> list[int]:
        """Appended, each with a promise that its sender keeps; the offsets."""
        offsets = self.run(self.world.put(*records))
        for one, offset in zip(records, offsets, strict=True):
            if isinstance(one, Signed):
                self.promise(one, offset)
        return offsets

    def promise(self, record: Signed, offset: int, iss: str | None = None) -> None:
        """Signed by the gateway, kept by the sender, whatever becomes of it. `iss`: whom it names instead."""
        operator, manifest = self.domain.operator, record.manifest
        line = Line(manifest.evt, chain_hash(record.value.partition(b"\n")[0]), manifest.topic, offset)
        made = make_promise([line], operator.sig, iss=iss or operator.id, at=self.world.at_ms // 1000, domain="bi")
        kept = evidence(line, 0, made.paths[0], made.jws)
        self.promises.append(Held(f"promise-{len(self.promises)}", kept, own=False))

    def sequence(self, *, cosigned: bool = True) -> list[LedgerEntry]:
        """The ledger takes in what is there, signs, and, unless told otherwise, the other country's witness cosigns.
        Every entry."""
        self.run(self.world.sequenced(self._sequencer))
        self.sign(cosigned=cosigned)
        self.published = self.domain.registry_file
        return self.entries()

    def call_erased(self, command: Signed) -> None:
        """The operator's word, signed and cosigned, that what this record commands is done; true or not."""
        said = [one for one in self.entries() if one.kind == "erasure" and one.topic == command.manifest.topic]
        entries = [LedgerEntry("erased", one.topic, one.offset, l1_sha256=one.l1_sha256) for one in said]
        assert self.run(self._sequencer.append(entries))
        self.sign(cosigned=True)

    def sign(self, *, cosigned: bool = False, name: str = "cosigned") -> bytes:
        """A checkpoint over what the store holds now."""
        leaves = [leaf_hash(one) for one in self.encoded()]
        at = self.world.at_ms // 1000
        data = sign_checkpoint(Checkpoint(ORIGIN, len(leaves), root(leaves)), SIGNERS, at)
        if cosigned:
            note = read_note(data)
            data = note.with_signatures([WITNESS.sign(note.text, at)]).dumps()
            self.brought.append(Held(f"{name}-{len(self.brought)}", data, own=False))
        self.own = data
        return data

    def receipt(self, index: int) -> None:
        """Somebody keeps a receipt of this entry under the newest checkpoint."""
        encoded = self.encoded()
        path = inclusion_path([leaf_hash(one) for one in encoded], index)
        assert self.own is not None
        proof = TlogProof(index, tuple(path), self.own, encoded[index])
        self.receipts.append(Held(f"receipt-{index}", proof.dumps(), own=False))

    def wait(self, seconds: float) -> None:
        self.world.at_ms += int(seconds * 1000)

    # ---------------------------------------------------------------- looking

    def store(self) -> SqliteLedgerStore:
        return SqliteLedgerStore.open(self.folder / "ledger.db", random_id=lambda: "store")

    def encoded(self) -> list[bytes]:
        store = self.store()
        try:
            found: list[bytes] = []
            for batch in (decode_batch(one.value) for one in store.read(-1, 1 << 20)):
                if (batch.first_index, batch.previous_root) == (len(found), root([leaf_hash(one) for one in found])):
                    found += batch.entries
            return found
        finally:
            store.close()

    def entries(self) -> list[LedgerEntry]:
        return [decode_entry(one) for one in self.encoded()]

    # ---------------------------------------------------------------- tampering

    def in_log(self, statement: str, *values: object) -> None:
        """Straight into the log's file, as an administrator can."""
        self._into("log.db", statement, *values)

    def in_ledger(self, statement: str, *values: object) -> None:
        """Straight into the file of the ledger's store."""
        self._into("ledger.db", statement, *values)

    def _into(self, file: str, statement: str, *values: object) -> None:
        connection = apsw.Connection(str(self.folder / file))
        try:
            connection.execute(statement, tuple(values))
        finally:
            connection.close()

    def in_store(self, change: Callable[[bytes], bytes | None]) -> None:
        """The newest batch changed in the store's file (None: removed), and nothing else."""
        connection = apsw.Connection(str(self.folder / "ledger.db"))
        try:
            position, value = next(
                connection.execute("SELECT position, value FROM batch ORDER BY position DESC LIMIT 1")
            )
            changed = change(bytes(value))
            if changed is None:
                connection.execute("DELETE FROM batch WHERE position = ?", (position,))
            else:
                connection.execute("UPDATE batch SET value = ? WHERE position = ?", (changed, position))
        finally:
            connection.close()

    def rebuild(self, change: Callable[[list[LedgerEntry]], Sequence[LedgerEntry]]) -> None:
        """The whole ledger made again with other entries, and signed again with its own keys."""
        entries = [one.encode() for one in change(self.entries())]
        for suffix in ("", "-wal", "-shm"):
            (self.folder / f"ledger.db{suffix}").unlink(missing_ok=True)
        store = self.store()
        try:
            store.append(Batch(0, root([]), entries), root([leaf_hash(one) for one in entries]))
        finally:
            store.close()
        self.sign()

    # ---------------------------------------------------------------- auditing

    @contextmanager
    def source(self, *brought: Held) -> Iterator[DomainSource]:
        """The folder as it is, and what others hold."""
        log = SqliteLog.open(
            str(self.folder / "log.db"),
            create=False,
            clock_ms=lambda: self.world.at_ms,
            random_id=lambda: "",
            threads=False,
        )
        store = self.store()
        own = [] if self.own is None else [Held("checkpoint", self.own)]
        source = DomainSource(
            "bi",
            log,
            store,
            loop=self._loop,
            names=[name for name in topics_of(self.domain.registry) if is_mailbox_topic(name)],
            registry_file=self.world.registries.files.get,
            published=self.published,
            checkpoints=[*own, *self.brought, *brought],
            receipts=lambda: self.receipts,
            promises=lambda: self.promises,
        )
        try:
            yield source
        finally:
            source.close()
            store.close()

    def trust(self, policy: TrustPolicy = POLICY) -> Trust:
        return Trust(policy, self.read_registry)

    def audited(
        self, *brought: Held, policy: TrustPolicy = POLICY, scratch: Path | None = None, processes: int = 1
    ) -> Report:
        """By somebody who was given the folder, and brings what others hold."""
        with self.source(*brought) as source:
            return audit(source, self.trust(policy), scratch=scratch, processes=processes)

    def export(self, path: Path, choice: Choice = EVERYTHING) -> Exported:
        """What was audited, under its newest checkpoint."""
        with self.source() as source:
            head = audit(source, self.trust()).signed
            assert head is not None
            return export(source, head, path, choice=choice, made_at=self.world.at_ms // 1000)

    def read_registry(self, data: bytes) -> tuple[Registry, bytes]:
        return trusted(data, self.domain.pin).registry, hashlib.sha256(data).digest()

    def found(self, *brought: Held) -> list[tuple[str, str]]:
        """What an audit contradicts: code and what about."""
        return shown(self.audited(*brought))


def shown(report: Report) -> list[tuple[str, str]]:
    return [(one.code, one.about) for one in report.findings.kept if not one.open]


def where(report: Report, code: str) -> Finding:
    """The first finding of this code."""
    return next(one for one in report.findings.kept if one.code == code)
