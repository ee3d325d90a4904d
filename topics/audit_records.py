# SPDX-License-Identifier: Apache-2.0
"""The second half of an audit: is every record the one that was logged, from a key that counted, in its issuer's order?

Walks entries with their records, `BUNDLE` at a time. The registry in force at an entry is that of the last `registry`
entry before it, by index and not by any clock (`topics.ledger` says how the sequencer judges; here it is judged again,
and what it said is not believed):

    entry      record there              finding
    event      none                      record_missing, unless a retention entry removed it
    event      other bytes               record_rewritten
    event      fails its check           the check's own code: signature_invalid, key_revoked, part_digest_mismatch, ...
    event      signed bytes once more    duplicate; the same event with others: evt_conflict
    reject     counts nevertheless       log_inconsistent: it was refused without a reason
    none       a record                  record_unlogged; ledger_behind while it may still come
    event      of a key stolen by then   key_revoked, open: it counted when it was logged (`compromised_since`)

A record of another domain's agency, which no registry of ours names, counts by the proof beside it
(`topics.home_check`).

Each record by itself is asked of `topics.audit_checkers`, a few bundles ahead, so that processes have work; what needs
more than one record is compared here, bundle by bundle, in the ledger's order.

Erasures: keys of erased records that are still there, at their recipient or at whom they were disclosed to, are
`erasure_pending`; open, a command that nobody has called done (`erased`) after a day. Must never open a part, or need a
key that does. Memory: `AHEAD_BYTES` of records or one bundle's, the chains that are written to, registries that are in
force.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeAlias

from schemas.envelope import split_topic
from schemas.errors import RecordError, RegistryError, UmuhuzaError
from schemas.keys import b64url
from schemas.registry import Registry
from topics.audit_chains import Chain
from topics.audit_checker import Asked, Counted, Judged, Unjudged, counted, counted_by
from topics.audit_checkers import Answer, Checkers
from topics.audit_findings import BUNDLE, About, AuditSource, Finding, Findings, KeptRecord, RegistryReader
from topics.audit_scratch import Scratch
from topics.audit_tree import LoggedVersion, TreeFound
from topics.home_check import Homes, judged_by_home
from topics.ledger_entries import RECORD_KINDS, LedgerEntry
from topics.log import grant_key, grants_topic
from topics.verification import Verified, is_signer_unknown

UNLOGGED_AFTER_S = 3600
"""A record that is older than this by the log's own time, when a checkpoint was signed without it, was left out."""
AHEAD_BYTES = 32 << 20
"""Records that are asked about before the first answer is waited for, at most; one bundle in any case."""
_TRIP_BYTES = 1 << 20
"""What is asked together."""
ERASED_AFTER_S = 86_400
"""A command to erase that is older than this, when a checkpoint was signed without an entry that calls it done."""
_REGISTRIES_HELD = 8


class Registries:
    """The registry files of a ledger, verified, a few at a time."""

    def __init__(
        self, source: AuditSource, read: RegistryReader, logged: Sequence[LoggedVersion], found: Findings
    ) -> None:
        self._source = source
        self._read = read
        self.logged = logged
        self._found = found
        self._held: dict[bytes, Registry | None] = {}
        self._missed: set[bytes] = set()

    def load(self, one: LoggedVersion) -> Registry | None:
        """None when it was not handed over or cannot be believed; that is told once."""
        if one.sha256 in self._held:
            return self._held[one.sha256]
        registry: Registry | None = None
        data = self._source.registry_file(one.sha256)
        code: str | None = "registry_invalid"
        if data is not None:
            try:
                read, digest = self._read(data)
                if (read.version, digest) == (one.version, one.sha256):
                    registry, code = read, None
            except RegistryError as exc:
                code = exc.code
        if code is not None and one.sha256 not in self._missed:
            self._missed.add(one.sha256)
            self._found.add(Finding(code, "registry", index=one.index))
        if len(self._held) >= _REGISTRIES_HELD:
            del self._held[next(iter(self._held))]
        self._held[one.sha256] = registry
        return registry

    def each(self) -> Iterator[Registry]:
        """All that can be had, the newest first."""
        for one in reversed(self.logged):
            registry = self.load(one)
            if registry is not None:
                yield registry


@dataclass(slots=True)
class _InForce:
    """What judges from here on: the version before an index, and the one behind it."""

    registries: Registries
    _next: int = 0
    now: Registry | None = None
    later: Registry | None = None

    def __post_init__(self) -> None:
        if self.registries.logged:
            self.now = self.registries.load(self.registries.logged[0])
        self._look()

    def move(self, index: int) -> None:
        """To an entry."""
        logged = self.registries.logged
        while self._next < len(logged) and logged[self._next].index < index:
            self.now = self.registries.load(logged[self._next])
            self._next += 1
            self._look()

    def _look(self) -> None:
        logged = self.registries.logged
        self.later = self.registries.load(logged[self._next]) if self._next < len(logged) else None


@dataclass(slots=True)
class _Batch:
    """What a bundle's records add to what is remembered."""

    said: set[bytes] = field(default_factory=set)
    idents: dict[str, bytes] = field(default_factory=dict)
    events: list[tuple[str, bytes, str]] = field(default_factory=list)
    chains: dict[tuple[str, str], Chain] = field(default_factory=dict)


_Done: TypeAlias = tuple[int, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class _Met:
    """An entry with its record, if there is one."""

    index: int
    entry: LedgerEntry
    record: KeptRecord | None
    later: Registry | None
    """The version that follows."""


@dataclass(slots=True)
class _Pending:
    """A bundle that is asked about."""

    behind: int
    """Index behind its last entry."""
    met: Mapping[str, int]
    """As `RecordWalk.met`, behind this bundle."""
    places: list[_Met] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """For those of the places that have a record, in order."""
    size: int = 0
    """Bytes of records."""


@dataclass(slots=True)
class _Trip:
    """Records of one bundle that are asked about together."""

    checkers: Checkers
    pending: _Pending
    asked: list[Asked] = field(default_factory=list)
    size: int = 0

    def take(self, one: Asked, registry: Registry | None) -> None:
        self.asked.append(one)
        self.size += len(one.value)
        if self.size >= _TRIP_BYTES:
            self.leave(registry)

    def leave(self, registry: Registry | None) -> None:
        """Ask about what was gathered, and gather anew."""
        if self.asked:
            self.pending.answers.append(self.checkers.ask(registry, self.asked))
            self.pending.size += self.size
            self.asked, self.size = [], 0


class RecordWalk:
    """Compares; make one for a whole audit."""

    def __init__(
        self,
        source: AuditSource,
        registries: Registries,
        tree: TreeFound,
        scratch: Scratch,
        found: Findings,
        checkers: Checkers,
        homes: Homes | None = None,
    ):
        self._source = source
        self._homes = homes
        self._tree = tree
        self._scratch = scratch
        self._found = found
        self._checkers = checkers
        self._in_force = _InForce(registries)
        self._registries = registries
        self._doubted = doubted_keys(registries, tree.ledger)
        self.met: dict[str, int] = {}
        """Topic -> offset before which records were met with entries."""
        self.checked = 0
        """Records whose signature and parts were verified."""

    def walk(
        self, entries: Iterable[tuple[int, LedgerEntry]], first: int = 0
    ) -> Iterator[tuple[int, Mapping[str, int]]]:
        """Compare entries, ascending by index, with their records; yields how many were done, bundle by bundle, and up
        to where in each topic (as `met`).

        Args:
            first: index before which everything was compared in an earlier run.
        """
        rest = iter(entries)
        self._in_force.move(first)
        ahead: deque[_Pending] = deque()
        size = 0
        while some := list(islice(rest, BUNDLE)):
            one = self._bundle(some)
            ahead.append(one)
            size += one.size
            while ahead and (size > AHEAD_BYTES or len(ahead) > 2 * self._checkers.processes):
                done = ahead.popleft()
                size -= done.size
                yield self._finished(done)
        for done in ahead:
            yield self._finished(done)

    # ---------------------------------------------------------------- a bundle

    def _bundle(self, some: Sequence[tuple[int, LedgerEntry]]) -> _Pending:
        """Its records, and what is asked of them."""
        records = self._records(some)
        pending = _Pending(some[-1][0] + 1, dict(self.met))
        trip = _Trip(self._checkers, pending)
        for index, entry in some:
            if entry.kind == "registry":
                trip.leave(self._in_force.now)
                self._in_force.move(index + 1)
            elif entry.kind in RECORD_KINDS and entry.topic is not None and entry.offset is not None:
                record = records[entry.topic].pop(entry.offset, None)
                pending.places.append(_Met(index, entry, record, self._in_force.later))
                if record is not None:
                    asked = Asked(entry.topic, record.at_ms, record.value, entry.value_sha256 or b"")
                    trip.take(asked, self._in_force.now)
        trip.leave(self._in_force.now)
        return pending

    def _records(self, some: Sequence[tuple[int, LedgerEntry]]) -> dict[str, dict[int, KeptRecord]]:
        """Records at the offsets of these entries, by topic; others below the offsets that they reach are unlogged."""
        reach: dict[str, int] = {}
        wanted: dict[str, set[int]] = {}
        for _, entry in some:
            if entry.topic is not None and entry.offset is not None:
                behind = entry.number + 1 if entry.kind == "gap" else entry.offset + 1
                reach[entry.topic] = max(reach.get(entry.topic, 0), behind)
                if entry.kind in RECORD_KINDS:
                    wanted.setdefault(entry.topic, set()).add(entry.offset)
        records: dict[str, dict[int, KeptRecord]] = {}
        for topic, behind in reach.items():
            first = self.met.get(topic, 0)
            offsets, here = wanted.get(topic, set()), records.setdefault(topic, {})
            for one in self._source.records(topic, first, behind):
                # Never more of them at once than there are entries, however many somebody put in.
                if one.offset in offsets:
                    here[one.offset] = one
                else:
                    self._found.add(Finding("record_unlogged", "record", topic, one.offset))
            self.met[topic] = max(behind, first)
        return records

    def _finished(self, pending: _Pending) -> _Done:
        """Wait for its answers, and compare."""
        answers = iter([found for answer in pending.answers for found in answer()])
        judged: list[tuple[_Met, Judged]] = []
        for one in pending.places:
            if one.record is None:
                if (
                    one.entry.offset is not None
                    and one.entry.offset >= self._tree.topic(one.entry.topic or "").kept_from
                ):
                    self._tell("record_missing", one)
                continue
            found = self._by_home(one.entry.topic or "", one.record, next(answers))
            if found is Unjudged.REWRITTEN:
                self._tell("record_rewritten", one)
            else:
                judged.append((one, found))
        self._compare(judged)
        return pending.behind, pending.met

    def _by_home(self, topic: str, record: KeptRecord, found: Judged) -> Judged:
        """What counts of a record that came over a border is said by its own domain's ledger; of all others by what
        was found here."""
        if not isinstance(found, RegistryError) or not is_signer_unknown(found) or record.home is None:
            return found
        if self._homes is None:
            return found
        judged = judged_by_home(record.value, topic, record.home, self._homes)
        return counted(judged) if isinstance(judged, Verified) else judged

    def _compare(self, judged: Sequence[tuple[_Met, Judged]]) -> None:
        good = [found for _, found in judged if isinstance(found, Counted)]
        batch = _Batch(
            self._scratch.said([one.l1_sha256 for one in good]),
            self._scratch.events([one.ident for one in good]),
        )
        for one, found in judged:
            self.checked += not isinstance(found, Unjudged)
            code = self._refused(one, found, batch) if one.entry.kind == "reject" else self._counted(one, found, batch)
            if code is not None:
                self._tell(code, one)
        self._scratch.add(batch.events)
        self._scratch.put_chains((iss, topic, chain.dumps()) for (iss, topic), chain in batch.chains.items())

    def _refused(self, one: _Met, found: Judged, batch: _Batch) -> str | None:
        """A `reject` entry: there must be a reason."""
        if not isinstance(found, Counted):
            return None
        if one.entry.detail == "evt_conflict" and batch.idents.get(found.ident, found.l1_sha256) != found.l1_sha256:
            return None
        # What stood in the log when a version was seen is judged by that version too, where it is stricter.
        if one.later is not None and one.record is not None:
            again = counted_by(one.later, one.entry.topic or "", one.record.at_ms, one.record.value)
            if isinstance(again, UmuhuzaError):
                return None
        return "log_inconsistent"

    def _counted(self, one: _Met, found: Judged, batch: _Batch) -> str | None:
        """An `event`, `erasure` or `duplicate` entry."""
        entry = one.entry
        if isinstance(found, UmuhuzaError):
            return found.code
        if not isinstance(found, Counted):
            return None
        l1 = found.l1_sha256
        if l1 != entry.l1_sha256:
            return "log_inconsistent"
        if entry.kind == "duplicate" or l1 in batch.said:
            return (None if l1 in batch.said else "log_inconsistent") if entry.kind == "duplicate" else "duplicate"
        if batch.idents.get(found.ident, l1) != l1:
            return "evt_conflict"
        batch.said.add(l1)
        batch.idents[found.ident] = l1
        batch.events.append((found.ident, l1, found.topic))
        if found.erase:
            self._scratch.add_erased(found.erase, found.iss, one.index)
        if found.grant:
            self._scratch.add_disclosed(found.grant, split_topic(found.topic)[1])
        since = self._doubted.get(found.kid)
        if since is not None and one.index >= since:
            self._found.add(Finding("key_revoked", "record", entry.topic, entry.offset, one.index, open=True))
        if bool(found.erase) != (entry.kind == "erasure"):
            return "log_inconsistent"
        self._chained(one, found, batch)
        return None

    def _chained(self, one: _Met, found: Counted, batch: _Batch) -> None:
        place = (found.iss, found.topic)
        chain = batch.chains.get(place)
        if chain is None:
            kept = self._scratch.chain(*place)
            chain = batch.chains[place] = Chain() if kept is None else Chain.loads(kept)
        known = self._source.whole and not self._tree.topic(found.topic).kept_from
        code = chain.take(found, b64url(found.l1_sha256), one.entry.offset or 0, beginning_known=known)
        if code is not None:
            self._found.add(Finding(code, "chain", one.entry.topic, one.entry.offset, one.index))

    def _tell(self, code: str, one: _Met) -> None:
        about: About = "entry" if code == "log_inconsistent" else "record"
        self._found.add(Finding(code, about, one.entry.topic, one.entry.offset, one.index))

    # ---------------------------------------------------------------- at the end

    def conclude(self) -> None:
        """What stands behind the last entries, what is missing in chains, what should be gone."""
        if self._source.whole:
            for topic in sorted({*self._source.topics(), *self._tree.topics}):
                self._behind(topic)
            for _, topic, text in self._scratch.chains():
                for gap in Chain.loads(text).gaps:
                    self._found.add(Finding("seq_gap", "chain", topic, gap.offset, open=True))
        else:
            for topic in sorted(self._source.topics()):
                for record in self._source.records(topic, self.met.get(topic, 0), None):
                    self._found.add(Finding("record_unlogged", "record", topic, record.offset))
        self._erased()
        self._not_called_done()

    def _behind(self, topic: str) -> None:
        signed_at = self._tree.signed_at
        told = False
        for record in self._source.records(topic, self._tree.topic(topic).next, None):
            if signed_at is not None and record.at_ms // 1000 < signed_at - UNLOGGED_AFTER_S:
                self._found.add(Finding("record_unlogged", "record", topic, record.offset))
            elif not told:
                told = True  # one finding says where it begins
                self._found.add(Finding("ledger_behind", "record", topic, record.offset, open=True))

    def _erased(self) -> None:
        """Grants that erasures should have deleted, under any key that a recipient ever had."""
        kids: dict[str, set[str]] = {}
        for registry in self._registries.each():
            for agency in registry.agencies.values():
                kids.setdefault(agency.id, set()).update(key.kid for key in agency.keys if key.use == "seal")
        for ident, by, index, topic in self._scratch.erased():
            try:
                recipient = split_topic(topic)[1]
            except RecordError:
                continue
            if by not in (ident.rpartition("/")[0], recipient):
                continue  # who is neither issuer nor holder commands nothing
            for holder in sorted({recipient} | self._scratch.disclosed(ident)):
                keys = [grant_key(ident, kid) for kid in sorted(kids.get(holder, ()))]
                if keys and self._source.grants_left(grants_topic(holder), keys):
                    self._found.add(Finding("erasure_pending", "grant", topic, index=index))

    def _not_called_done(self) -> None:
        """Commands to erase that were a day old, by the log's time, when the newest checkpoint was signed, and that no
        entry calls done."""
        signed_at = self._tree.signed_at
        if signed_at is None:
            return
        for (topic, offset), (index, _) in sorted(self._tree.erasing.items()):
            for record in self._source.records(topic, offset, offset + 1):
                if record.at_ms // 1000 < signed_at - ERASED_AFTER_S:
                    self._found.add(Finding("erasure_pending", "entry", topic, offset, index, open=True))


def doubted_keys(registries: Registries, ledger: int) -> dict[str, int]:
    """Signing keys that the newest version calls stolen, and the size of this ledger's tree from which on they are in
    doubt: 0 when they were stolen in an earlier one's time, all of this tree being later."""
    newest = next(registries.each(), None)
    if newest is None:
        return {}
    keys = (key for agency in newest.agencies.values() for key in agency.keys if key.use == "sig")
    return {
        key.kid: key.compromised_since if key.compromised_in == ledger else 0
        for key in keys
        if key.compromised_since is not None and key.compromised_in <= ledger
    }
