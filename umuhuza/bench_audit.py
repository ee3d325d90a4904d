# SPDX-License-Identifier: Apache-2.0
"""What an audit takes, beside what it cannot do without: hashing every record, verifying every signature.

tree_to_sha256    the walk over the entries, to bare SHA-256 of the records' bytes
all_to_verify     the whole audit, to bare verification of the same signatures, both in one thread

Everything is in memory: what is measured is the audit, not a disk.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.envelope import parse_record
from schemas.notes import Checkpoint, NoteSigner, SignatureType, sign_checkpoint
from schemas.registry import Registry
from schemas.trust_policy import NONE, TrustedLog, TrustPolicy
from topics.audit import audit
from topics.audit_findings import Findings, Held, KeptRecord, Trust, silent_progress
from topics.audit_scratch import Scratch
from topics.audit_tree import check_tree
from topics.ledger_entries import LedgerEntry
from topics.log import Entry
from topics.promise import origin_of
from topics.proofs import leaf_hash, root

_REGISTRY = b"measured"


@dataclass(frozen=True)
class _InMemory:
    """`topics.audit_findings.AuditSource`: what an honest ledger made of these records."""

    domain: str
    topic_records: dict[str, list[KeptRecord]]
    encoded: list[bytes]
    checkpoint: bytes
    whole: bool = True

    def checkpoints(self) -> Sequence[Held]:
        return (Held("checkpoint", self.checkpoint),)

    def receipts(self) -> Sequence[Held]:
        return ()

    def promises(self) -> Sequence[Held]:
        return ()

    def entries(self, first: int) -> Iterator[bytes]:
        return iter(self.encoded[first:])

    def registry_file(self, sha256: bytes) -> bytes:
        return _REGISTRY

    def published_registry(self) -> None:
        """Not asked for."""

    def topics(self) -> Sequence[str]:
        return tuple(self.topic_records)

    def records(self, topic: str, first: int, behind: int | None) -> Sequence[KeptRecord]:
        return self.topic_records[topic][first:behind]

    def grants_left(self, topic: str, keys: Sequence[str]) -> None:
        """Not handed over."""


def measure_audit(registry: Registry, entries: Sequence[Entry]) -> dict[str, float]:
    """The ratios by the names above, over these records.

    Raises RuntimeError: an honest log was found fault with, so that nothing was measured.
    """
    signer = NoteSigner.generate(origin_of(registry.domain), SignatureType.ED25519, os.urandom)
    source = _logged(registry, entries, signer)
    digest = hashlib.sha256(_REGISTRY).digest()
    trust = Trust(TrustPolicy((TrustedLog(signer.public),), (), (), NONE), lambda _data: (registry, digest))
    records = [parse_record(one.value) for one in entries]
    keys = [registry.signing_key(one.manifest.iss, one.kid, int(time.time())) for one in records]

    began = time.perf_counter()
    for entry in entries:
        hashlib.sha256(entry.value).digest()
    hashed = time.perf_counter()
    for record, key in zip(records, keys, strict=True):
        record.verify(key)
    verified = time.perf_counter()
    scratch = Scratch.open(None)
    check_tree(source, trust, scratch, Findings(), silent_progress)
    scratch.close()
    walked = time.perf_counter()
    report = audit(source, trust)
    done = time.perf_counter()
    if not report.faultless or report.records != len(entries):
        raise RuntimeError("the audit found fault with an honest log")
    return {
        "tree_to_sha256": (walked - verified) / (hashed - began),
        "all_to_verify": (done - walked) / (verified - hashed),
    }


def _logged(registry: Registry, entries: Sequence[Entry], signer: NoteSigner) -> _InMemory:
    digest = hashlib.sha256(_REGISTRY).digest()
    encoded = [LedgerEntry("registry", value_sha256=digest, detail=str(registry.version)).encode()]
    topics: dict[str, list[KeptRecord]] = {}
    at_ms = int(time.time() * 1000)
    for one in entries:
        records = topics.setdefault(one.topic, [])
        offset, value = len(records), hashlib.sha256(one.value).digest()
        record = parse_record(one.value)
        previous = offset - 1 if offset else None
        encoded.append(LedgerEntry("event", one.topic, offset, previous, value, record.digest).encode())
        records.append(KeptRecord(offset, at_ms, one.value))
    leaves = [leaf_hash(one) for one in encoded]
    head = sign_checkpoint(Checkpoint(signer.name, len(leaves), root(leaves)), [signer], at_ms // 1000)
    return _InMemory(registry.domain, topics, encoded, head)
