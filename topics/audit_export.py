# SPDX-License-Identifier: Apache-2.0
"""Evidence taken out of a domain's log and ledger: all of it, or what concerns a period, a thread or an agency.

An excerpt holds the records that were chosen, and for each its entry with its inclusion proof under one checkpoint;
every registry version in the same way, so that it can be checked which one was in force; and promises of those
records. Where one of them was to be erased it also holds the record that commanded it, and the ledger's word that it
was done, whenever and on whatever thread that was. Of everybody else's records it holds nothing, not even an entry.
Whole evidence holds every entry.

Memory: the tree's right edge, a row per command to erase; the tree's hashes go to a temporary file. Must never take
out a grant, and never decides what may be handed to whom: the operator does, and the recipient sees who wrote to whom.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import apsw

from schemas.envelope import Manifest, parse_manifest
from schemas.errors import LogError, RecordError
from schemas.keys import b64url
from schemas.proof_texts import PROOF_SUFFIX, TlogProof
from schemas.trust_policy import Endorsed
from topics.audit_abroad import version_file, version_needed
from topics.audit_findings import BUNDLE, AuditSource, KeptRecord, Progress, silent_progress
from topics.evidence_files import PUBLISHED, EvidenceWriter
from topics.home_check import NEWEST, POLICY, ROOT
from topics.ledger_entries import RECORD_KINDS, LedgerEntry, decode_entry
from topics.promise import read_evidence
from topics.proofs import NodeReader, inclusion_proof, leaf_hash
from topics.tiles import TILE_WIDTH, GrowingTree, Tile, TileId, node_of_tiles, pack_entries

CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which records; all of what is given has to hold. Nothing given: everything."""

    since_ms: int | None = None
    """The log's time, milliseconds since the epoch; included."""
    until_ms: int | None = None
    """Not included."""
    thread: str | None = None
    agency: str | None = None
    """Its issuer or its recipient."""

    @property
    def everything(self) -> bool:
        return self == EVERYTHING

    def takes(self, record: KeptRecord) -> bool:
        if self.since_ms is not None and record.at_ms < self.since_ms:
            return False
        if self.until_ms is not None and record.at_ms >= self.until_ms:
            return False
        if self.thread is None and self.agency is None:
            return True
        manifest = manifest_of(record.value)
        if manifest is None or (self.thread is not None and manifest.thread != self.thread):
            return False
        return self.agency is None or self.agency in (manifest.iss, manifest.to)


def manifest_of(value: bytes) -> Manifest | None:
    """What a record says of itself, verified by nobody; None: it says nothing."""
    try:
        return parse_manifest(value.partition(b"\n")[0])[3]
    except RecordError:
        return None


EVERYTHING = Choice()


@dataclass(slots=True)
class Exported:
    """How much was taken out."""

    entries: int = 0
    records: int = 0
    registries: int = 0
    promises: int = 0


def export(
    source: AuditSource,
    head: Endorsed,
    path: Path,
    *,
    made_at: int,
    choice: Choice = EVERYTHING,
    beside: Mapping[str, bytes] | None = None,
    progress: Progress = silent_progress,
) -> Exported:
    """Write one zip.

    Args:
        source: everything; not an excerpt itself.
        head: the checkpoint under which proofs are made: of this tree, as an audit has found.
        made_at: seconds since the epoch.
        beside: further members, for people.

    Raises LogError: it cannot be read or written; `root_mismatch`: the source is not what was audited. FileExistsError.
    """
    work = _Export(source, head, choice, progress)
    with EvidenceWriter(path, domain=source.domain, whole=choice.everything, made_at=made_at) as out:
        for name, data in (beside or {}).items():
            out.add(name, data)
        out.add_held("checkpoints", CHECKPOINT, head.signed.dumps())
        if choice.everything:
            work.whole(out)
        else:
            work.excerpt(out)
        published = source.published_registry()
        if published is not None:
            out.add(PUBLISHED, published)
        work.promises(out)
    return work.done


class _Export:
    def __init__(self, source: AuditSource, head: Endorsed, choice: Choice, progress: Progress) -> None:
        self._source = source
        self._head = head
        self._size = head.signed.checkpoint.size
        self._choice = choice
        self._progress = progress
        self._places: set[tuple[str, int]] = set()
        self._registries: set[bytes] = set()
        self._neighbours: set[tuple[str, str]] = set()
        self._commands: dict[str, list[tuple[int, str]]] = {}
        """Ident of a record -> entries whose records command that it is erased: index, and whose word it is."""
        self._done_at: dict[tuple[str, int], int] = {}
        """Place of a command -> index of the entry that calls it done."""
        self.done = Exported()

    def whole(self, out: EvidenceWriter) -> None:
        """Every entry, every record."""
        entries = self._source.entries(0)
        size = n = 0
        while some := list(islice(entries, TILE_WIDTH)):
            out.add(TileId(None, n, len(some)).path, pack_entries(some))
            for encoded in some:
                self._keep_registry(out, decode_entry(encoded))
            n, size = n + 1, size + len(some)
            self._progress("tree", size, None)
        self.done.entries = size
        for topic in self._source.topics():
            for record in self._source.records(topic, 0, None):
                self._keep_record(out, topic, record)
        for number, held in enumerate(self._source.checkpoints()):
            out.add_held("checkpoints", f"{number:04}-{_plain(held.name)}", held.data)
        for number, held in enumerate(self._source.receipts()):
            out.add_held("receipts", f"{number:06}{PROOF_SUFFIX}", held.data)

    def excerpt(self, out: EvidenceWriter) -> None:
        """What was chosen, each entry with its proof."""
        with _Shelf() as shelf:
            node = shelf.fill(self._source.entries(0), self._size, self._progress)
            head = self._head.signed
            if shelf.root != head.checkpoint.root:
                raise LogError("root_mismatch", CHECKPOINT)
            self._learn_erasures()
            told, wanted = set[int](), set[int]()

            def tell(index: int, encoded: bytes, entry: LedgerEntry, record: KeptRecord | None) -> None:
                told.add(index)
                path = tuple(inclusion_proof(node, index, self._size))
                out.add_held(
                    "receipts", f"{index}{PROOF_SUFFIX}", TlogProof(index, path, head.dumps(), encoded).dumps()
                )
                self.done.entries += 1
                self._keep_registry(out, entry)
                if record is not None and entry.topic is not None:
                    self._keep_record(out, entry.topic, record)
                    self._places.add((entry.topic, record.offset))
                    wanted.update(self._about(record))
                if entry.kind == "erasure" and entry.topic is not None and entry.offset is not None:
                    done = self._done_at.get((entry.topic, entry.offset))
                    wanted.update(() if done is None else (done,))

            for one in self._chosen(lambda index: index in wanted):
                tell(*one)
            for _ in range(2):  # a command may stand before its target: topics are logged one after the other
                if left := wanted - told:
                    for one in self._chosen(left.__contains__, only=left):
                        tell(*one)

    def _about(self, record: KeptRecord) -> list[int]:
        """Entries of commands that it is erased."""
        manifest = manifest_of(record.value)
        if manifest is None:
            return []
        parties = (manifest.iss, manifest.to)
        return [index for index, iss in self._commands.get(manifest.ident, ()) if iss in parties]

    def _learn_erasures(self) -> None:
        """Who commanded what, and which entry calls it done."""
        for index, encoded in enumerate(islice(self._source.entries(0), self._size)):
            entry = decode_entry(encoded)
            if entry.topic is None or entry.offset is None:
                continue
            if entry.kind == "erased":
                self._done_at[entry.topic, entry.offset] = index
            elif entry.kind == "erasure":
                for record in self._records([entry]).values():
                    manifest = manifest_of(record.value)
                    if manifest is not None and manifest.acts is not None:
                        for ident in manifest.acts.erase:
                            self._commands.setdefault(ident, []).append((index, manifest.iss))

    def _chosen(
        self, wanted: Callable[[int], bool], only: Collection[int] = ()
    ) -> Iterator[tuple[int, bytes, LedgerEntry, KeptRecord | None]]:
        """In the tree's order. `wanted`: also this entry, asked when it is reached; `only`: nothing else."""
        entries = enumerate(islice(self._source.entries(0), self._size))
        while some := list(islice(entries, BUNDLE)):
            decoded = [(index, encoded, decode_entry(encoded)) for index, encoded in some]
            if only and not any(index in only for index, _ in some):
                continue
            records = self._records([entry for _, _, entry in decoded])
            for index, encoded, entry in decoded:
                if only and index not in only:
                    continue
                if entry.kind == "registry" or (entry.kind == "erased" and wanted(index)):
                    yield index, encoded, entry, None
                elif entry.kind in RECORD_KINDS:
                    record = records.get((entry.topic, entry.offset))
                    if record is not None and (self._choice.takes(record) or wanted(index)):
                        yield index, encoded, entry, record
            self._progress("records", some[-1][0] + 1, self._size)

    def _records(self, entries: list[LedgerEntry]) -> dict[tuple[str | None, int | None], KeptRecord]:
        """Records of these entries that are the ones logged."""
        wanted = {(one.topic, one.offset): one.value_sha256 for one in entries if one.kind in RECORD_KINDS}
        reach: dict[str, tuple[int, int]] = {}
        for topic, offset in wanted:
            if topic is not None and offset is not None:
                low, high = reach.get(topic, (offset, offset))
                reach[topic] = (min(low, offset), max(high, offset))
        return {
            (topic, one.offset): one
            for topic, (low, high) in reach.items()
            for one in self._source.records(topic, low, high + 1)
            if hashlib.sha256(one.value).digest() == wanted.get((topic, one.offset))
        }

    def _keep_record(self, out: EvidenceWriter, topic: str, record: KeptRecord) -> None:
        """And, of one that came over a border, whom the domain believes of the one that it came from."""
        out.add_record(topic, record)
        self.done.records += 1
        manifest = None if record.home is None else manifest_of(record.value)
        if record.home is None or manifest is None:
            return
        domain, version = manifest.iss.partition("/")[0], version_needed(record.home)
        names = [ROOT, POLICY, *([] if version is None else [version_file(version)])]
        for name in names:
            if (domain, name) not in self._neighbours:
                self._neighbours.add((domain, name))
                data = self._source.neighbour_file(domain, name)
                if data is None and name not in (ROOT, POLICY):
                    data = self._source.neighbour_file(domain, NEWEST)  # the newest need not be kept twice
                if data is not None:
                    out.add_neighbour(domain, name, data)

    def _keep_registry(self, out: EvidenceWriter, entry: LedgerEntry) -> None:
        if entry.kind != "registry" or entry.value_sha256 is None:
            return
        if entry.value_sha256 in self._registries:
            return  # logged a second time: a ledger that goes back, which the evidence has to show
        data = self._source.registry_file(entry.value_sha256)
        if data is not None:
            self._registries.add(entry.value_sha256)
            out.add_registry(entry.value_sha256, data)
            self.done.registries += 1

    def promises(self, out: EvidenceWriter) -> None:
        """Those of what was taken out."""
        for held in self._source.promises():
            if not self._choice.everything:
                try:
                    line = read_evidence(held.data).line
                except RecordError:
                    continue
                if (line.topic, line.offset) not in self._places:
                    continue
            out.add_held("promises", f"{self.done.promises:06}.json", held.data)
            self.done.promises += 1


def _plain(name: str) -> str:
    """A name of elsewhere as a name here."""
    return b64url(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:6])


class _Shelf:
    """A tree's tiles in a temporary file that is gone when it is closed."""

    def __init__(self) -> None:
        self._db = apsw.Connection("")
        self._db.execute("CREATE TABLE tile (level INTEGER, n INTEGER, data BLOB, PRIMARY KEY (level, n)) STRICT")
        self.root = b""

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def fill(self, entries: Iterator[bytes], size: int, progress: Progress) -> NodeReader:
        """Of the first `size` entries; reads complete nodes of their tree."""
        tree = GrowingTree()
        self._db.execute("BEGIN")
        while some := list(islice(entries, min(TILE_WIDTH, size - tree.size))):
            for encoded in some:
                tree.append(leaf_hash(encoded))
            self._put(tree.take())
            progress("tree", tree.size, size)
        self._db.execute("COMMIT")
        self.root = tree.root()
        return node_of_tiles(size, self._tile)

    def _put(self, tiles: list[Tile]) -> None:
        rows = [(tile.id.level, tile.id.index, tile.data) for tile in tiles]
        self._db.executemany("INSERT OR REPLACE INTO tile VALUES (?, ?, ?)", rows)

    def _tile(self, tile: TileId) -> bytes:
        row = self._db.execute("SELECT data FROM tile WHERE level = ? AND n = ?", (tile.level, tile.index)).fetchone()
        if row is None:
            raise LogError("root_mismatch", "tile")
        return bytes(row[0])
