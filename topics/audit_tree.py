# SPDX-License-Identifier: Apache-2.0
"""The first half of an audit: is there one tree, and do all who hold something of it hold the same?

    checkpoints, receipts, promises  ->  staged, by size, index and place
    entries, one by one              ->  leaf, tree; each held against the one before it in its topic and what is staged
    roots at every signed size       ->  the same, or two histories

Found by it: an entry altered, left out, put in or put elsewhere under a signed root; a ledger made again, cut off or
forked; an entry that does not follow the one before; a registry version that goes back; a receipt or promise that the
tree does not keep. Records are not looked at here (`topics.audit_records`).

A domain whose ledger was lost has another one, under a name of its own (`topics.believed_ledgers`). The newest that
the auditor believes is walked. The tree of an earlier one is gone: its checkpoints are verified and compared with each
other and with the last tree that the registry announces of it; what its receipts say of a place has to stand there in
this one.

Which of two histories is the true one nobody can say from the tree alone: what contradicts it is named. Needs no
network and no clock. Memory: the tree's right edge, a row per topic, a row per checkpoint, one per erasure that
is open.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from schemas.errors import LogError, UmuhuzaError
from schemas.ledgers import LastTree, ledger_number
from schemas.notes import EMPTY_ROOT
from schemas.proof_texts import read_tlog_proof
from schemas.trust_policy import Endorsed, read_endorsed
from topics.audit_findings import BUNDLE, AuditSource, Finding, Findings, Held, Progress, Trust
from topics.audit_scratch import Scratch
from topics.believed_ledgers import ledgers_of
from topics.ledger_entries import RECORD_KINDS, LedgerEntry, decode_entry
from topics.promise import read_evidence
from topics.proofs import leaf_hash, verify_inclusion
from topics.tiles import GrowingTree

STOP = 16 * BUNDLE
"""An audit can be interrupted at every so many entries, and goes on there."""


@dataclass(frozen=True, slots=True)
class LoggedVersion:
    """A `registry` entry."""

    index: int
    version: int
    sha256: bytes


@dataclass(slots=True)
class TopicSeen:
    """What the entries say of a topic."""

    next: int = 0
    """The first offset of which no entry speaks."""
    last: int | None = None
    """Offset of the last record."""
    kept_from: int = 0
    """First offset that the last retention kept."""


@dataclass(slots=True)
class FormerLedger:
    """A ledger of the domain that was lost: what is known of it."""

    origin: str
    last: LastTree | None
    """The largest of its trees that enough witnesses had signed, as the registry announces it."""
    held: int = 0
    """Size of the largest such tree whose checkpoint somebody holds."""
    receipts: int = 0
    """Of it that are held and whose records stand in their places in this ledger too."""


@dataclass(slots=True)
class TreeFound:
    """What the tree is, and what follows from its entries."""

    ledger: int = 1
    """Number of the ledger whose tree it is."""
    formers: tuple[FormerLedger, ...] = ()
    """The domain's ledgers before it."""
    size: int = 0
    root: bytes = EMPTY_ROOT
    kinds: Counter[str] = field(default_factory=Counter)
    topics: dict[str, TopicSeen] = field(default_factory=dict)
    registries: list[LoggedVersion] = field(default_factory=list)
    erasing: dict[tuple[str, int], tuple[int, bytes | None]] = field(default_factory=dict)
    """Topic and offset of commands to erase that no entry calls done: index and `header.payload` hash."""
    signed: Endorsed | None = None
    """The largest checkpoint that is this tree's."""
    endorsed: Endorsed | None = None
    """The largest of them that enough witnesses have signed."""
    receipts: int = 0
    """Of those that are held, how many say what the tree says."""
    roots: dict[int, bytes] = field(default_factory=dict)
    """At sizes where an audit may be interrupted, and where somebody holds a checkpoint."""
    resumed: bool = False
    """Whether the tree begins with the one whose records were compared before."""

    @property
    def signed_at(self) -> int | None:
        """The latest time that a signature on the newest checkpoint states, seconds since the epoch."""
        return None if self.signed is None else stated(self.signed)

    def topic(self, name: str) -> TopicSeen:
        return self.topics.setdefault(name, TopicSeen())


@dataclass(frozen=True, slots=True)
class _Head:
    """A checkpoint that somebody holds, signed by its ledger."""

    name: str
    endorsed: Endorsed
    own: bool

    @property
    def size(self) -> int:
        return self.endorsed.signed.checkpoint.size

    @property
    def root(self) -> bytes:
        return self.endorsed.signed.checkpoint.root


def check_tree(
    source: AuditSource,
    trust: Trust,
    scratch: Scratch,
    found: Findings,
    progress: Progress,
    begun: tuple[int, bytes] = (0, b""),
) -> TreeFound:
    """Walk the entries once.

    Args:
        begun: size and root up to which records were compared before.

    Raises LogError: the source cannot be read.
    """
    walk = _Walk(source, trust, scratch, found)
    walk.stage()
    walk.entries(progress, begun)
    walk.conclude()
    return walk.tree


class _Walk:
    def __init__(self, source: AuditSource, trust: Trust, scratch: Scratch, found: Findings) -> None:
        self._source = source
        self._trust = trust
        self._scratch = scratch
        self._found = found
        self._formers = ledgers_of(trust.policy, source.domain)
        self._origin = self._formers[-1]
        self._former: list[tuple[LedgerEntry, str, str]] = []
        """What receipts of the domain's earlier ledgers say, who holds them, and of which they are."""
        last = {one.origin: one.last for one in trust.announced}
        self._lost = {name: FormerLedger(name, last.get(name)) for name in self._formers[:-1]}
        self._lost_roots = {(name, one.size): one.root for name, one in last.items() if one is not None}
        self._heads: dict[tuple[int, bytes], _Head] = {}
        self._read: dict[bytes, Endorsed] = {}
        self._excerpt_topics: dict[str, TopicSeen] = {}
        self.tree = TreeFound(ledger_number(self._origin, source.domain), tuple(self._lost.values()))

    # ---------------------------------------------------------------- what people hold

    def stage(self) -> None:
        """Read what is held, and remember where the walk has to meet it."""
        for held in self._source.checkpoints():
            try:
                self._hold(held, held.data)
            except LogError as exc:
                self._found.add(Finding(exc.code, "checkpoint", name=held.name))
        for held in self._source.receipts():
            try:
                index, entry = check_receipt(held.data, partial(self._hold, held))
                former = self._former_of(held.data)
                if former is not None:
                    self._stage_former(decode_entry(entry), held.name, former)
                else:
                    self._scratch.stage_receipt(index, entry, held.name)
            except LogError as exc:
                self._found.add(Finding(exc.code, "receipt", name=held.name))
        for held in self._source.promises():
            try:
                line = read_evidence(held.data).line
            except UmuhuzaError as exc:
                self._found.add(Finding(exc.code, "promise", name=held.name))
            else:
                self._scratch.stage_place(line.topic, line.offset)

    def _hold(self, held: Held, note: bytes) -> Endorsed:
        """Raises LogError."""
        digest = hashlib.sha256(note).digest()
        endorsed = self._read.get(digest)
        if endorsed is None:
            origin = note.partition(b"\n")[0].decode("latin-1")
            known = origin if origin in self._formers else self._origin
            endorsed = self._read[digest] = read_endorsed(note, self._trust.policy, known)
        if endorsed.signed.checkpoint.origin != self._origin:
            self._hold_former(held, endorsed)
            return endorsed
        head = _Head(held.name, endorsed, held.own)
        other = self._heads.get((head.size, head.root))
        if other is None or len(other.endorsed.by) < len(endorsed.by):
            self._heads[head.size, head.root] = head
        return endorsed

    def _hold_former(self, held: Held, endorsed: Endorsed) -> None:
        """A checkpoint of a tree that is not here."""
        head = endorsed.signed.checkpoint
        lost = self._lost[head.origin]
        if self._trust.policy.met_by(endorsed.by):
            lost.held = max(lost.held, head.size)
        if self._lost_roots.setdefault((head.origin, head.size), head.root) != head.root:
            self._found.add(Finding("log_inconsistent", "checkpoint", index=head.size, name=held.name))

    def _former_of(self, receipt: bytes) -> str | None:
        """The earlier ledger of the domain's that this receipt, which was checked, is of; None: it is of this one."""
        if len(self._formers) == 1:
            return None
        note = read_tlog_proof(receipt).checkpoint
        origin = self._read[hashlib.sha256(note).digest()].signed.checkpoint.origin
        return None if origin == self._origin else origin

    def _stage_former(self, entry: LedgerEntry, name: str, former: str) -> None:
        if entry.kind in RECORD_KINDS and entry.topic is not None and entry.offset is not None:
            self._scratch.stage_place(entry.topic, entry.offset)
            self._former.append((entry, name, former))

    def excerpt(self) -> list[tuple[int, LedgerEntry]]:
        """As `check_excerpt`."""
        self.stage()
        own: dict[int, bytes] = {}
        used: set[tuple[int, bytes]] = set()
        for held in self._source.receipts():
            try:
                index, encoded = check_receipt(held.data, partial(self._hold, held))
                head = self._hold(held, read_tlog_proof(held.data).checkpoint).signed.checkpoint
            except LogError:
                continue  # told when it was staged
            if head.origin != self._origin:
                continue
            if own.get(index, encoded) != encoded:
                self._found.add(Finding("log_inconsistent", "receipt", index=index, name=held.name))
            elif held.own:
                own[index] = encoded
                used.add((head.size, head.root))
        tree, entries = self.tree, []
        tree.receipts = len(own)
        for index, encoded in sorted(own.items()):
            try:
                entries.append((index, decode_entry(encoded)))
            except LogError:
                self._found.add(Finding("log_inconsistent", "entry", index=index))
                continue
            self._excerpted(*entries[-1])
        self._heads_of_excerpt(used)
        return entries

    def _excerpted(self, index: int, entry: LedgerEntry) -> None:
        """One entry of an excerpt, behind those before it, between which others may lie."""
        tree = self.tree
        tree.kinds[entry.kind] += 1
        fits = True
        if entry.kind == "registry" and entry.value_sha256 is not None:
            fits = not tree.registries or tree.registries[-1].version < entry.number
            tree.registries.append(LoggedVersion(index, entry.number, entry.value_sha256))
        elif entry.topic is not None and entry.offset is not None and entry.kind != "erased":
            seen = self._excerpt_topics.setdefault(entry.topic, TopicSeen())
            fits = entry.offset >= seen.next and (-1 if entry.previous is None else entry.previous) >= (
                -1 if seen.last is None else seen.last
            )
            seen.next = max(seen.next, (entry.number if entry.kind == "gap" else entry.offset) + 1)
            if entry.kind in RECORD_KINDS:
                seen.last = entry.offset
                self._scratch.meet_places([(entry.topic, entry.offset, entry.l1_sha256)])
        if not fits:
            self._found.add(Finding("log_inconsistent", "entry", entry.topic, entry.offset, index))

    def _heads_of_excerpt(self, used: set[tuple[int, bytes]]) -> None:
        """Every head under which something here is proved needs its own witnesses: that others of the ledger's heads
        have them says nothing about this one."""
        sizes = Counter(size for size, _ in self._heads)
        for (size, root), head in sorted(self._heads.items()):
            if sizes[size] > 1:
                self._found.add(Finding("log_inconsistent", "checkpoint", index=size, name=head.name))
            if used and (size, root) not in used:
                continue
            self.tree.size, self.tree.root, self.tree.signed = size, root, head.endorsed
            if self._trust.policy.met_by(head.endorsed.by):
                self.tree.endorsed = head.endorsed
            elif used:
                self._found.add(Finding("quorum_missing", "checkpoint", index=size, name=head.name))

    # ---------------------------------------------------------------- the walk

    def entries(self, progress: Progress, begun: tuple[int, bytes]) -> None:
        tree, growing = self.tree, GrowingTree()
        stops = sorted({size for size, _ in self._heads}, reverse=True)
        roots = tree.roots
        roots[0] = EMPTY_ROOT
        hashed = self._source.shown == "hashes"
        entries: Iterator[bytes] = self._source.hashes() if hashed else self._source.entries(0)
        while some := list(islice(entries, _room(tree.size, stops))):
            leaves = some if hashed else [leaf_hash(encoded) for encoded in some]
            for leaf in leaves:
                growing.append(leaf)
            growing.take()  # nobody asks for tiles here
            if not hashed:
                self._follow(tree.size, some)
            self._meet_receipts(tree.size, leaves)
            tree.size = growing.size
            if stops and tree.size == stops[-1] or not tree.size % STOP:
                roots[tree.size] = growing.root()
            progress("tree", tree.size, None)
        tree.root = roots[tree.size] = growing.root()
        tree.resumed = roots.get(begun[0]) == (begun[1] or EMPTY_ROOT)
        self._compare(roots)

    def _follow(self, first: int, some: Sequence[bytes]) -> None:
        met: list[tuple[str, int, bytes | None]] = []
        for index, encoded in enumerate(some, first):
            try:
                entry = decode_entry(encoded)
            except LogError:
                self._found.add(Finding("log_inconsistent", "entry", index=index))
                continue
            self.tree.kinds[entry.kind] += 1
            if not self._follows(index, entry):
                self._found.add(Finding("log_inconsistent", "entry", entry.topic, entry.offset, index))
            if entry.topic is not None and entry.kind in RECORD_KINDS and entry.offset is not None:
                met.append((entry.topic, entry.offset, entry.l1_sha256))
        self._scratch.meet_places(met)

    def _meet_receipts(self, first: int, leaves: Sequence[bytes]) -> None:
        for index, leaf, name in self._scratch.receipts(first, first + len(leaves)):
            if leaves[index - first] == leaf:
                self.tree.receipts += 1
            else:
                self._found.add(Finding("log_inconsistent", "receipt", index=index, name=name))

    def _follows(self, index: int, entry: LedgerEntry) -> bool:
        """Whether it fits what the entries before it say; takes it in either way."""
        if entry.kind == "registry":
            assert entry.value_sha256 is not None
            last = self.tree.registries[-1].version if self.tree.registries else 0
            self.tree.registries.append(LoggedVersion(index, entry.number, entry.value_sha256))
            return entry.number > last
        assert entry.topic is not None
        seen = self.tree.topic(entry.topic)
        if entry.kind == "retention":
            fits = seen.kept_from <= entry.number <= seen.next
            seen.kept_from = max(seen.kept_from, entry.number)
            return fits
        assert entry.offset is not None
        if entry.kind == "erased":
            return self.tree.erasing.pop((entry.topic, entry.offset), (0, None))[1] == entry.l1_sha256
        if entry.kind == "erasure":
            self.tree.erasing[entry.topic, entry.offset] = (index, entry.l1_sha256)
        fits = entry.offset == seen.next and entry.previous == seen.last
        if entry.kind == "gap":
            seen.next = max(seen.next, entry.number + 1)
        else:
            seen.next, seen.last = max(seen.next, entry.offset + 1), entry.offset
        return fits

    def _compare(self, roots: dict[int, bytes]) -> None:
        """Every signed head against the tree."""
        tree, sizes = self.tree, Counter(size for size, _ in self._heads)
        for (size, root), head in sorted(self._heads.items()):
            if size > tree.size:
                continue
            if roots[size] == root:
                tree.signed = head.endorsed
                if self._trust.policy.met_by(head.endorsed.by):
                    tree.endorsed = head.endorsed
                continue
            # The newest is over what is audited here; an older one, or two of one size, tell of another history.
            alone = size == max(sizes) and sizes[size] == 1
            self._found.add(
                Finding("root_mismatch" if alone else "log_inconsistent", "checkpoint", index=size, name=head.name)
            )
        for (size, _), head in sorted(self._heads.items()):
            if size > tree.size:
                code = "ledger_behind" if self._may_follow(head) else "log_inconsistent"
                self._found.add(Finding(code, "checkpoint", index=size, name=head.name, open=code == "ledger_behind"))

    def _may_follow(self, head: _Head) -> bool:
        """Whether a larger head may have been signed after what is audited was handed over: it was brought from
        elsewhere, and states a later time than the newest one here."""
        at, ours = stated(head.endorsed), self.tree.signed_at
        return not head.own and at is not None and (ours is None or ours < at)

    # ---------------------------------------------------------------- at the end

    def conclude(self) -> None:
        """What is missing."""
        tree = self.tree
        if self._source.whole and self._source.shown != "hashes":
            self._compare_former()
        if tree.endorsed is None:
            if not self._found.counts["quorum_missing"]:
                self._found.add(Finding("quorum_missing", "checkpoint"))
            return
        size = tree.endorsed.signed.checkpoint.size
        if size < tree.size:
            self._found.add(Finding("ledger_behind", "checkpoint", index=size, open=True))

    def _compare_former(self) -> None:
        """What receipts of earlier ledgers say of places, against what this one says of them."""
        for entry, name, former in self._former:
            topic, offset = entry.topic or "", entry.offset or 0
            seen, l1 = self._scratch.place(topic, offset)
            if seen and l1 == entry.l1_sha256:
                self.tree.receipts += 1
                self._lost[former].receipts += 1
            elif seen:
                self._found.add(Finding("log_inconsistent", "receipt", topic, offset, name=name))
            else:
                # Retention may have taken it before this ledger began; a gap stands there then.
                behind = offset >= self.tree.topic(topic).next
                code = "ledger_behind" if behind else "record_missing"
                self._found.add(Finding(code, "receipt", topic, offset, name=name, open=True))


def _room(size: int, stops: list[int]) -> int:
    """How many entries may be taken before a root is wanted; `stops`, descending, lose those that were reached."""
    while stops and stops[-1] <= size:
        stops.pop()
    room = STOP - size % STOP
    return min(room, stops[-1] - size) if stops else room


def stated(endorsed: Endorsed) -> int | None:
    """The latest time that a signature on this checkpoint states, its ledger's or a witness's; None: none does."""
    times = [*endorsed.by.values(), *(one.at for one in endorsed.signed.signed if one.at is not None)]
    return max(times, default=None)


def check_receipt(data: bytes, hold: Callable[[bytes], Endorsed]) -> tuple[int, bytes]:
    """A receipt by itself: its entry is under its checkpoint, which its ledger has signed. The index and the entry.

    Raises LogError: note_malformed, too_large, log_unknown, signature_invalid, root_mismatch.
    """
    proof = read_tlog_proof(data)
    if proof.extra is None:
        raise LogError("note_malformed", "proof.extra")
    head = hold(proof.checkpoint).signed.checkpoint
    if not verify_inclusion(leaf_hash(proof.extra), proof.index, head.size, proof.path, head.root):
        raise LogError("root_mismatch", "proof.path")
    return proof.index, proof.extra


def check_excerpt(
    source: AuditSource, trust: Trust, scratch: Scratch, found: Findings
) -> tuple[TreeFound, list[tuple[int, LedgerEntry]]]:
    """An excerpt: every receipt by itself stands for its entry. What they say, and the entries by their index.

    Each counts under a checkpoint that enough witnesses signed. What an excerpt cannot show: that there is no other
    entry between those that are here, a registry version among them, or behind the last. Memory: all entries of the
    excerpt. Raises LogError.
    """
    walk = _Walk(source, trust, scratch, found)
    entries = walk.excerpt()
    walk.conclude()
    return walk.tree, entries
