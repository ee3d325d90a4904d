# SPDX-License-Identifier: Apache-2.0
"""An audit of a domain's ledger from files alone: needs no key that opens anything, no network, no clock, no Kafka.

    audit(source, trust)  ->  Report: what was looked at, and findings by their codes

Shown, when nothing is found, under the newest checkpoint that enough witnesses signed:

- every record is the one that was logged, in its place, from a key that counted there, in its issuer's order;
- nothing was left out up to the last promise, receipt or checkpoint that anybody brought, and nothing put in;
- there is one history for all who brought a checkpoint, a receipt or a promise of it;
- keys of erased records are gone, where grants were handed over.

Not shown: what a gateway refused to take, what never reached it, and anything about the time but what witnesses state.

Two walks over the entries (`topics.audit_tree`, `topics.audit_records`), or, for an excerpt, its receipts. With a
scratch file an interrupted audit goes on. If the source changes meanwhile, what is new is audited the next time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.errors import LogError, RegistryError, UmuhuzaError
from schemas.keys import VerifyKey, b64url
from schemas.registry import Key
from schemas.trust_policy import Endorsed
from topics.audit_checkers import checkers_for
from topics.audit_findings import AuditSource, Finding, Findings, Held, Progress, Shown, Trust, silent_progress
from topics.audit_records import RecordWalk, Registries, doubted_keys
from topics.audit_scratch import Scratch
from topics.audit_tree import FormerLedger, TreeFound, check_excerpt, check_tree
from topics.believed_ledgers import believed_ledgers, ledgers_of
from topics.ledger_entries import LedgerEntry, decode_entry
from topics.promise import Evidence, check_line, promise_kid, read_evidence, read_promise


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit looked at, and what it found."""

    origin: str
    whole: bool
    shown: Shown
    """What was looked at: records, entries, or hashes alone."""
    size: int
    """Entries."""
    root: bytes
    kinds: Mapping[str, int]
    records: int
    """Whose signature and sealed parts were verified, in this run."""
    promises: int
    """Kept."""
    receipts: int
    """That say what the tree says, or, in an excerpt, what its checkpoint says."""
    registry: int
    """Newest registry version that is logged."""
    signed: Endorsed | None
    """The newest checkpoint that is this tree's."""
    endorsed: Endorsed | None
    """The newest of them that enough witnesses signed."""
    findings: Findings
    formers: tuple[FormerLedger, ...] = ()
    """Ledgers of the domain that were lost before this one."""

    @property
    def faultless(self) -> bool:
        """Nothing contradicts what was signed."""
        return not self.findings.contradictions


def audit(
    source: AuditSource,
    trust: Trust,
    *,
    scratch: Path | None = None,
    progress: Progress = silent_progress,
    processes: int = 1,
) -> Report:
    """Audit everything that the source has.

    Args:
        scratch: a file in which to remember how far we are; None: begin at the beginning, leave nothing.
        processes: that share out the signatures, where there are many: as many as cores. 1: none beside this one.

    Raises LogError: the source or the scratch file cannot be read or written now, or a process died.
    """
    memory = Scratch.open(scratch)
    try:
        return _Audit(source, trust, memory, progress, processes).run()
    finally:
        memory.close()


class _Audit:
    def __init__(self, source: AuditSource, trust: Trust, scratch: Scratch, progress: Progress, processes: int) -> None:
        self._source = source
        believed = believed_ledgers(trust.policy, trust.announced, source.domain)
        self._trust = replace(trust, policy=believed.policy)
        self._scratch = scratch
        self._progress = progress
        self._processes = processes
        self._found = Findings()
        if believed.trouble is not None:
            self._found.add(Finding(believed.trouble.code, "registry", open=True))

    def run(self) -> Report:
        if not self._source.whole:
            self._scratch.forget("")
            tree, entries = check_excerpt(self._source, self._trust, self._scratch, self._found)
            self._registries = self._registries_of(tree)
            checked = self._records(tree, iter(entries))
        elif self._source.shown != "records":
            self._scratch.forget("")
            tree = check_tree(self._source, self._trust, self._scratch, self._found, self._progress)
            there = [one for one in tree.registries if self._source.registry_file(one.sha256) is not None]
            self._registries = Registries(self._source, self._trust.read_registry, there, self._found)
            checked = 0
        else:
            key = hashlib.sha256(self._trust.policy.dumps() + self._source.domain.encode("ascii")).hexdigest()
            done, root = self._scratch.begun(key)
            before = self._scratch.findings()
            tree = check_tree(self._source, self._trust, self._scratch, self._found, self._progress, (done, root))
            self._registries = self._registries_of(tree)
            # What is called stolen by now casts doubt on what was compared when nobody knew.
            doubted = doubted_keys(self._registries, tree.ledger)
            if not (self._scratch.judged_by(doubted) and tree.resumed):
                self._scratch.forget(key)
                self._scratch.judged_by(doubted)
                done, before = 0, []
            for finding in before:
                self._found.add(finding)
            checked = self._records(tree, self._entries(done), done)
        self._published(tree)
        promises = 0 if self._source.shown == "hashes" else self._promises(tree)
        return self._report(tree, checked, promises)

    def _registries_of(self, tree: TreeFound) -> Registries:
        return Registries(self._source, self._trust.read_registry, tree.registries, self._found)

    def _entries(self, first: int) -> Iterator[tuple[int, LedgerEntry]]:
        for index, encoded in enumerate(self._source.entries(first), first):
            try:
                yield index, decode_entry(encoded)
            except LogError:
                continue  # told by the first walk

    # ---------------------------------------------------------------- records

    def _records(self, tree: TreeFound, entries: Iterator[tuple[int, LedgerEntry]], first: int = 0) -> int:
        """How many were verified."""
        registries = self._registries
        if not tree.registries and tree.size:
            self._found.add(Finding("registry_invalid", "registry"))
        told = self._found.number
        checkers = checkers_for(tree.size - first, self._processes)
        try:
            walk = RecordWalk(self._source, registries, tree, self._scratch, self._found, checkers, self._trust.homes)
            walk.met.update(self._scratch.met())
            for done, met in walk.walk(entries, first):
                self._progress("records", done, tree.size)
                root = tree.roots.get(done)
                if root is not None:
                    self._scratch.save(done, root, met, self._found.since(told))
                    told = self._found.number
        finally:
            checkers.close()
        walk.conclude()
        return walk.checked

    def _published(self, tree: TreeFound) -> None:
        """What members are given now must not be older than what is logged."""
        data = self._source.published_registry()
        if data is None or not tree.registries:
            return
        try:
            registry, digest = self._trust.read_registry(data)
        except RegistryError as exc:
            self._found.add(Finding(exc.code, "registry"))
            return
        logged = tree.registries[-1]
        if registry.version < logged.version:
            self._found.add(Finding("registry_rollback", "registry", index=logged.index))
        elif registry.version == logged.version and digest != logged.sha256:
            self._found.add(Finding("registry_invalid", "registry", index=logged.index))

    # ---------------------------------------------------------------- promises

    def _promises(self, tree: TreeFound) -> int:
        """How many were kept."""
        keys: dict[str, tuple[Key, VerifyKey, str] | None] = {}
        kept = 0
        for held in self._source.promises():
            try:
                read = read_evidence(held.data)
            except UmuhuzaError:
                continue  # told when it was staged
            try:
                self._signed(read, keys)
            except UmuhuzaError as exc:
                self._tell_promise(exc.code, held, read)
                continue
            code = self._broken(tree, read)
            if code is None:
                kept += 1
            else:
                self._tell_promise(code, held, read, open=code == "ledger_behind")
        return kept

    def _tell_promise(self, code: str, held: Held, read: Evidence, *, open: bool = False) -> None:
        self._found.add(Finding(code, "promise", read.line.topic, read.line.offset, name=held.name, open=open))

    def _signed(self, read: Evidence, keys: dict[str, tuple[Key, VerifyKey, str] | None]) -> None:
        """A gateway of this domain signed it, with a key that counted. Raises RecordError, LogError, RegistryError."""
        kid = promise_kid(read.promise)
        if kid not in keys:
            keys[kid] = self._gateway_key(kid)
        known = keys[kid]
        if known is None:
            raise RegistryError("key_unknown")
        key, verifier, owner = known
        promise = read_promise(read.promise, verifier)
        if promise.iss != owner:
            raise RegistryError("key_unknown")
        if not key.counts_at(promise.at):
            raise RegistryError("key_revoked")
        check_line(read.line, read.index, read.path, promise, self._source.domain)

    def _gateway_key(self, kid: str) -> tuple[Key, VerifyKey, str] | None:
        """An operator's signing key that any logged registry names, and whose it is."""
        for registry in self._registries.each():
            for agency in registry.agencies.values():
                if "operator" in agency.roles:
                    for key in agency.keys:
                        if key.kid == kid and key.use == "sig":
                            return key, VerifyKey(key.public), agency.id
        return None

    def _broken(self, tree: TreeFound, read: Evidence) -> str | None:
        """What the ledger made of a promise: another record there, none although it went past it, or not yet."""
        line = read.line
        seen, l1 = self._scratch.place(line.topic, line.offset)
        if not seen:
            if not self._source.whole:
                return None  # an excerpt need not have it
            return "ledger_behind" if line.offset >= tree.topic(line.topic).next else "record_missing"
        return None if l1 is not None and b64url(l1) == line.l1_sha256 else "record_rewritten"

    # ---------------------------------------------------------------- what is said of it

    def _report(self, tree: TreeFound, checked: int, promises: int) -> Report:
        return Report(
            ledgers_of(self._trust.policy, self._source.domain)[-1],
            self._source.whole,
            self._source.shown,
            tree.size,
            tree.root,
            dict(sorted(tree.kinds.items())),
            checked,
            promises,
            tree.receipts,
            tree.registries[-1].version if tree.registries else 0,
            tree.signed,
            tree.endorsed,
            self._found,
            tree.formers,
        )
