# SPDX-License-Identifier: Apache-2.0
"""The sequencer: follows every mailbox topic and the registry, and gives each record its one place in the ledger.

    log --read--> judge --append--> store --read back--> view --sign--> checkpoint

Invariants:

- Everything that stands in a mailbox gets exactly one entry, in order of its offsets: event, erasure, duplicate or
  reject; offsets at which nothing stands get a `gap`. Records written straight to Kafka are covered like all others.
- What is not effective in the store has not happened: the view, and with it the next batch, follow from what was read
  back. Two sequencers at once cost a little work and nothing else (`topics.ledger_store`).
- Signed is only what was read back, and only a tree that begins with the one signed last (`Checkpoints`).

Which registry judges. The registry in force at an entry is that of the last `registry` entry before it, and a signing
key counts iff it counts in that version at the log's time for the record and is not revoked in it. A new version is
made an entry only after everything that stood in the mailboxes when it was seen: so what an honest agency had sent
before its key was revoked stands before the revocation, and what a thief sends later stands behind it. Records of a
signer whom only the new version names wait for it. A ledger begins the same way: all that is there is judged by the
version at hand, which then becomes the first.

A record that says it was written under a newer registry than ours (`reg`), by a signer we do not know, is waited for
`HOLD_MS` by the log's time, and no longer here: nobody can hold a mailbox up by naming a version that will never be.

If we crash: before the batch is in the store, it is judged again; after, it is read back; before the checkpoint is in
its file, a later one is signed. Nothing is decided from memory that the store does not hold. It must never write to a
mailbox topic, but to remove what retention has logged (`topics.ledger_retention`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from schemas.envelope import Manifest, parse_manifest
from schemas.errors import LogError, RecordError, RegistryError, UmuhuzaError
from schemas.registry import Registry
from topics.catalogue import outgoing_of, topics_of
from topics.ledger_entries import MAX_BATCH_BYTES, Batch, LedgerEntry, l1_sha256_of
from topics.ledger_store import LedgerStore, StoredBatch
from topics.ledger_view import Applied, Learned, LedgerView, LoggedRegistry
from topics.log import Ends, Log, Stored
from topics.proofs import leaf_hash
from topics.tiles import GrowingTree
from topics.topic_names import is_mailbox_topic
from topics.verification import Verified, is_signer_unknown, verify_logged

BATCH_ENTRIES = 1_000
"""Most records judged at once: a batch of 300 KB."""
HOLD_MS = 60_000
HELD_PAUSE_S = 0.25
"""Between two looks at records that wait for a registry."""
READ_BYTES = 16 << 20
_T = TypeVar("_T")

Found = Verified | UmuhuzaError


@dataclass(frozen=True, slots=True)
class Published:
    """A registry version as it was published."""

    registry: Registry
    data: bytes
    """The file; its SHA-256 is what the ledger holds."""

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.data).digest()


class Registries(Protocol):
    """Registry files, kept by their hash for ever: what an auditor checks old signatures with."""

    def held(self) -> Published:
        """The newest that is published now."""

    def keep(self, published: Published) -> None:
        """Durable when it returns. Raises LogError `storage_full`, `unavailable`."""

    def kept(self, sha256: bytes) -> Registry | None:
        """One that was kept; None when it is not here (another machine's)."""


class Abroad(Protocol):
    """What passes the domain's borders (`topics.neighbours.Neighbours`)."""

    @property
    def registry(self) -> Registry:
        """The newest that is published now, with its borders."""

    def judged(self, stored: Stored) -> Found | None:
        """What a record is by the home proof beside it; None: there is none."""


def _judge(registry: Registry, stored: Sequence[Stored], abroad: Abroad | None) -> list[Found]:
    return [_found(registry, one, abroad) for one in stored]


def _found(registry: Registry, one: Stored, abroad: Abroad | None) -> Found:
    found = verify_logged(registry, one.topic, one.at_ms, one.value)
    if abroad is not None and is_signer_unknown(found):
        return abroad.judged(one) or found
    return found


@dataclass(slots=True)
class Work:
    """What a round found, for metrics and status."""

    entries: int = 0
    """That became effective."""
    by_kind: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    """Code -> how many."""
    gaps: int = 0
    """Offsets that hold nothing."""
    trouble: Mapping[str, str] = field(default_factory=dict)
    """Topic -> why it could not be followed."""
    held: int = 0
    """Topics that wait for a newer registry."""


@dataclass(slots=True)
class _Batching:
    """Entries on their way, and what they make of the topics."""

    entries: list[LedgerEntry] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    learned: list[Learned] = field(default_factory=list)
    places: dict[str, tuple[int, int | None]] = field(default_factory=dict)
    """Topic -> (next offset, last record)."""
    l1: set[bytes] = field(default_factory=set)
    idents: dict[str, bytes] = field(default_factory=dict)

    def add(self, entry: LedgerEntry) -> None:
        self.entries.append(entry)
        self.encoded.append(entry.encode())


class Sequencer:
    """One domain's. Make it, `start` it, then `step` for ever; belongs to one event loop.

    Args:
        log: the domain's; read only.
        registries: see there.
        now_ms: milliseconds since the epoch.
        in_thread: keep the event loop free; False where everything has to happen in one thread.
        abroad: other domains; None where nothing passes a border. A record that came over one is judged by its home
            ledger alone, and what goes out over one is sequenced like everything else.
    """

    def __init__(
        self,
        log: Log,
        store: LedgerStore,
        view: LedgerView,
        registries: Registries,
        *,
        now_ms: Callable[[], int],
        in_thread: bool = True,
        abroad: Abroad | None = None,
    ) -> None:
        self._abroad = abroad
        self._log = log
        self._store = store
        self._view = view
        self._registries = registries
        self._now_ms = now_ms
        self._in_thread = in_thread
        self._in_force: tuple[LoggedRegistry, Registry] | None = None
        self._holding: dict[tuple[str, int], float] = {}
        """Records that are waited for, one a topic, and since when by the loop's clock."""
        self.work = Work()
        """Of all rounds since the start."""

    @property
    def view(self) -> LedgerView:
        return self._view

    async def start(self) -> None:
        """Take in what is in the store, and compare with the log.

        Raises LogError `log_inconsistent` (path: a topic): the log ends before what is in the ledger: it was put back
        from a copy, or cut. Nobody may go on as if nothing had happened.
        """
        await self._catch_up()
        for name, state in self._view.topics.items():
            try:
                ends = await self._log.ends(name)
            except LogError as exc:
                if exc.code in ("topic_unknown", "unavailable") and exc.path in (None, name):
                    continue  # `step` says so
                raise
            if ends.next < state.next:
                raise LogError("log_inconsistent", name)

    async def step(self, wait_s: float = 0.0) -> int:
        """One round: read, judge, append, read back. Returns how many entries are new in the tree, whoever wrote them.

        Waits up to `wait_s` for something to do. Raises LogError: not now, the next round begins where this one did.
        """
        before = self._view.size
        await self._catch_up()
        await self._learn()
        held = self._registries.held()
        in_force = await self._registry_in_force(held)
        if in_force is None or held.registry.version > in_force[0].version:
            await self._begin_registry(held, None if in_force is None else in_force[1])
        else:
            stored, gaps = await self._read(in_force[1], wait_s)
            batching = _Batching()
            self._add_gaps(batching, gaps)
            await self._sequence(batching, stored, in_force[1])
            await self.append(batching.entries, batching.learned)
            if self.work.held and not batching.entries:
                await asyncio.sleep(min(wait_s, HELD_PAUSE_S))
        return self._view.size - before

    # -----------------------------------------------------------------------------------------------------------------
    # The registry

    async def _registry_in_force(self, held: Published) -> tuple[LoggedRegistry, Registry] | None:
        logged = await self._run(self._view.registry)
        if logged is None:
            return None
        if self._in_force is None or self._in_force[0] != logged:
            same = held.sha256 == logged.sha256
            registry: Registry | None = held.registry
            if same:
                await self._run(partial(self._registries.keep, held))  # another machine's sequencer entered it
            else:
                registry = await self._run(partial(self._registries.kept, logged.sha256))
            if registry is None:
                raise LogError("unavailable", "registry", expected=f"registries/{logged.sha256.hex()}.json")
            self._in_force = (logged, registry)
        return self._in_force

    async def _begin_registry(self, held: Published, before: Registry | None) -> None:
        """Everything that stands in the mailboxes now, then the version that was seen. Older files, and other ones of
        a version that is logged, never come here: they change nothing."""
        await self._run(partial(self._registries.keep, held))
        names = self._names(held.registry)
        fence = {name: ends.next for name, ends in (await self._ends(names)).items()}
        blocked: set[str] = set()
        while True:
            asked = {
                name: end for name, end in fence.items() if name not in blocked and self._view.topic(name).next < end
            }
            if not asked:
                break
            stored, gaps = await self._read(held.registry, 0.0, tuple(asked))
            stored = [one for one in stored if one.offset < fence[one.topic]]
            batching = _Batching()
            self._add_gaps(batching, gaps)
            waiting = await self._sequence(batching, stored, before, held.registry)
            if not batching.entries and not waiting:
                break
            blocked |= waiting
            if not await self.append(batching.entries, batching.learned):
                return  # somebody else's batch came first: from the beginning
        logged = await self._run(self._view.registry)
        if logged is not None and logged.version >= held.registry.version:
            return  # somebody else has, meanwhile
        entry = LedgerEntry("registry", value_sha256=held.sha256, detail=str(held.registry.version))
        await self.append([entry])

    # -----------------------------------------------------------------------------------------------------------------
    # Reading

    def _names(self, registry: Registry) -> list[str]:
        """Mailboxes of the registry, and those that had members once."""
        outgoing = () if self._abroad is None else outgoing_of(self._abroad.registry)
        named = {name for name in topics_of(registry) if is_mailbox_topic(name)}
        return sorted(named | {*outgoing} | self._view.topics.keys())

    async def _ends(self, names: Sequence[str]) -> dict[str, Ends]:
        found: dict[str, Ends] = {}
        for name in names:
            try:
                found[name] = await self._log.ends(name)
            except LogError as exc:
                if exc.code != "topic_unknown" and exc.path != name:
                    raise
        return found

    async def _read(
        self, registry: Registry, wait_s: float, names: Sequence[str] | None = None
    ) -> tuple[list[Stored], list[LedgerEntry]]:
        """Records behind what is sequenced, and gaps where the log begins later than it should."""
        wanted = set(self._names(registry) if names is None else names)
        gaps: list[LedgerEntry] = []
        trouble: dict[str, str] = {}
        first = {name: self._view.topic(name).next for name in wanted}
        while wanted:
            try:
                found = await self._log.poll(
                    {name: first[name] - 1 for name in wanted}, BATCH_ENTRIES, READ_BYTES, 0.0 if gaps else wait_s
                )
            except LogError as exc:
                name = exc.path
                if name is None or name not in wanted:
                    raise
                if exc.code == "retention_passed":
                    # Removed before it was sequenced, and not by us: nobody can say what stood there.
                    begins = (await self._log.ends(name)).first
                    gaps.append(self._gap(name, first[name], begins, self._view.topic(name).last))
                    first[name] = begins
                    continue
                wanted.discard(name)
                trouble[name] = exc.code
                continue
            self.work.trouble = trouble
            return found, gaps
        self.work.trouble = trouble
        return [], gaps

    def _gap(self, topic: str, first: int, behind: int, last: int | None) -> LedgerEntry:
        self.work.gaps += behind - first
        return LedgerEntry("gap", topic, first, last, detail=str(behind - 1))

    def _add_gaps(self, batching: _Batching, gaps: Sequence[LedgerEntry]) -> None:
        for gap in gaps:
            assert gap.topic is not None
            batching.add(gap)
            batching.places[gap.topic] = (gap.number + 1, gap.previous)

    async def _learn(self) -> None:
        """What records say that another sequencer logged, or that a view made again does not know any more."""
        for name, state in list(self._view.topics.items()):
            if state.learned >= state.next:
                continue
            try:
                ends = await self._log.ends(name)
                at = max(state.learned, ends.first)
                while at < min(state.next, ends.next):
                    stored = [one for one in await self._log.read(name, at - 1) if one.offset < state.next]
                    at = stored[-1].offset + 1 if stored else state.next
                    learned = await self._run(partial(self._learned_of, stored))
                    await self._run(partial(self._view.learn, {name: at}, learned))
            except LogError as exc:
                if exc.code not in ("topic_unknown", "retention_passed") and exc.path != name:
                    raise
                continue
            await self._run(partial(self._view.learn, {name: state.next}, ()))

    def _learned_of(self, stored: Sequence[Stored]) -> list[Learned]:
        hashes = {one.offset: l1_sha256_of(one.value) for one in stored}
        good = self._view.known([l1 for l1 in hashes.values() if l1 is not None])
        found: list[Learned] = []
        for one in stored:
            l1 = hashes[one.offset]
            if l1 not in good or l1 is None:
                continue
            # Anybody who may write there can put the signed bytes of a good record before a signature that is none,
            # or into another mailbox: that was refused, and nothing is learned from it.
            try:
                manifest = parse_manifest(one.value.partition(b"\n")[0])[3]
            except RecordError:
                continue
            if manifest.topic == one.topic:
                found.append(_learned(one, manifest, l1))
        return found

    # -----------------------------------------------------------------------------------------------------------------
    # Judging

    async def _sequence(
        self, batching: _Batching, stored: Sequence[Stored], before: Registry | None, newer: Registry | None = None
    ) -> set[str]:
        """Entries of these records; returns topics that have to wait (for a newer registry).

        `before`: in force; None when the ledger begins. `newer`: the one that comes into force behind them.
        """
        registry = before or newer
        if not stored or registry is None:
            self.work.held = 0
            return set()
        judged = await self._run(partial(_judge, registry, stored, self._abroad))
        good = [found for found in judged if isinstance(found, Verified)]
        known = await self._run(lambda: self._view.known([found.l1_sha256 for found in good]))
        others = await self._run(lambda: self._view.others([found.manifest.ident for found in good]))
        waiting: set[str] = set()
        size = 0
        for one, found in zip(stored, judged, strict=True):
            if one.topic in waiting:
                continue
            if is_signer_unknown(found) and before is not None and self._waits(one, before, newer):
                waiting.add(one.topic)
                continue
            if isinstance(found, Verified) and before is not None:
                found = _by_index(before, newer, one, found)
            state = self._view.topic(one.topic)
            following, last = batching.places.get(one.topic, (state.next, state.last))
            if one.offset < following:
                continue
            if one.offset > following:
                batching.add(self._gap(one.topic, following, one.offset, last))
            batching.add(self._entry(batching, one, found, last, known, others))
            batching.places[one.topic] = (one.offset + 1, one.offset)
            size += len(batching.encoded[-1]) + 2
            if size > MAX_BATCH_BYTES - 4096:
                break
        self.work.held = len(waiting)
        self._holding = {place: since for place, since in self._holding.items() if place[0] in waiting}
        return waiting

    def _waits(self, one: Stored, registry: Registry, newer: Registry | None) -> bool:
        """Whether a signer whom this registry does not name may be named by one that is on its way."""
        if newer is not None:
            return isinstance(verify_logged(newer, one.topic, one.at_ms, one.value), Verified)
        if self._registries.held().registry.version > registry.version:
            return True  # it was published while we read
        # Not by the clocks alone, which may be a year apart: also by how long it was waited for here.
        asked_at = asyncio.get_running_loop().time()
        since = self._holding.setdefault((one.topic, one.offset), asked_at)
        if self._now_ms() - one.at_ms > HOLD_MS or (asked_at - since) * 1000 > HOLD_MS:
            return False
        try:
            manifest = parse_manifest(one.value.partition(b"\n")[0])[3]
        except RecordError:
            return False
        return manifest.reg > registry.version

    def _entry(
        self,
        batching: _Batching,
        one: Stored,
        found: Found,
        previous: int | None,
        known: set[bytes],
        others: Mapping[str, bytes],
    ) -> LedgerEntry:
        value = hashlib.sha256(one.value).digest()
        if not isinstance(found, Verified):
            return LedgerEntry("reject", one.topic, one.offset, previous, value, l1_sha256_of(one.value), found.code)
        l1, manifest = found.l1_sha256, found.manifest
        if l1 in known or l1 in batching.l1:
            return LedgerEntry("duplicate", one.topic, one.offset, previous, value, l1)
        if batching.idents.get(manifest.ident, others.get(manifest.ident, l1)) != l1:
            return LedgerEntry("reject", one.topic, one.offset, previous, value, l1, "evt_conflict")
        batching.l1.add(l1)
        batching.idents[manifest.ident] = l1
        batching.learned.append(_learned(one, manifest, l1))
        erases = manifest.acts is not None and bool(manifest.acts.erase)
        return LedgerEntry("erasure" if erases else "event", one.topic, one.offset, previous, value, l1)

    # -----------------------------------------------------------------------------------------------------------------
    # The store

    async def append(self, entries: Sequence[LedgerEntry], learned: Sequence[Learned] = ()) -> bool:
        """Append one batch and read it back. False: another's came first, and none of these is in the tree.

        Raises LogError: whether it is there shows the next time the store is read.
        """
        if not entries:
            return True
        encoded = tuple(entry.encode() for entry in entries)
        tree = GrowingTree.resume(self._view.size, self._view.tree.edge)
        batch = Batch(self._view.size, self._view.tree.root(), encoded)
        for data in encoded:
            tree.append(leaf_hash(data))
        await self._run(lambda: self._store.append(batch, tree.root()))
        await self._catch_up(Applied(batch.encode(), tree, learned))
        root = tree.root()
        if self._view.size < tree.size or await self._run(lambda: self._view.root_at(tree.size)) != root:
            return False
        self.work.entries += len(entries)
        for entry in entries:
            self.work.by_kind[entry.kind] = self.work.by_kind.get(entry.kind, 0) + 1
            if entry.kind == "reject" and entry.detail is not None:
                self.work.rejected[entry.detail] = self.work.rejected.get(entry.detail, 0) + 1
        return True

    async def _catch_up(self, own: Applied | None = None) -> None:
        """Take in what the store holds."""
        while stored := await self._run(lambda: self._store.read(self._view.position)):
            await self._run(partial(self._take, stored, own))

    def _take(self, stored: Sequence[StoredBatch], own: Applied | None) -> None:
        for one in stored:
            if one.position > self._view.position:
                self._view.take(one.position, one.value, own)

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.to_thread(work) if self._in_thread else work()


def _by_index(before: Registry, newer: Registry | None, one: Stored, found: Verified) -> Found:
    """A key that the version in force revokes counts no more, whatever time the log gives the record; nor one that the
    version behind it had revoked by then."""
    if before.revokes(found.manifest.iss, found.kid):
        return RegistryError("key_revoked")
    if newer is not None and newer.revokes(found.manifest.iss, found.kid):
        later = verify_logged(newer, one.topic, one.at_ms, one.value)
        return found if isinstance(later, Verified) else later
    return found


def _learned(one: Stored, manifest: Manifest, l1: bytes) -> Learned:
    answers = None if manifest.ref is None else f"{manifest.to}/{manifest.ref}"
    return Learned(one.topic, one.offset, one.at_ms, manifest.ident, manifest.iss, l1, answers)


async def follow(
    sequencer: Sequencer,
    *,
    publish: Callable[[], Awaitable[None]],
    told: Callable[[LogError | None], None],
    stop: asyncio.Event,
    wait_s: float = 1.0,
) -> None:
    """Step for ever, publishing what is new, until `stop` is set.

    Args:
        publish: signs the tree as it is; called after every round that may have changed it.
        told: what hinders us now; None: nothing does.
        wait_s: longest wait for a record, seconds; and between two attempts after a failure.

    Raises LogError `log_inconsistent`, `root_mismatch`: a person has to look.
    """
    while not stop.is_set():
        try:
            await sequencer.step(wait_s)
            await publish()
            told(None)
        except LogError as exc:
            if exc.code in ("log_inconsistent", "root_mismatch", "log_closed"):
                raise
            told(exc)
            try:
                async with asyncio.timeout(wait_s):
                    await stop.wait()
            except TimeoutError:
                continue
