# SPDX-License-Identifier: Apache-2.0
"""Evidence as files, in one zip or in a folder: what an auditor or a court is given, read and written.

    evidence.json                       {"v":1,"domain","whole","made_at"}
    checkpoints/<name>                  signed notes (C2SP tlog-checkpoint)
    tile/entries/<N>[.p/<W>]            all entries, in bundles (C2SP tlog-tiles); only when the evidence is whole
    receipts/<index>.tlog-proof         in an excerpt: each of its entries, proved by itself (C2SP tlog-proof)
    promises/<n>.json                   evidence of promises
    trust/policy, trust/root            whom to believe, as the exporter states it: to be compared by other ways
    registries/<hex SHA-256>            registry files; `published` is the one that members are given now
    records/<topic>/<offset>-<at_ms>    records as they stand in the log, and the log's time, milliseconds
    homes/<topic>/<offset>              of a record that came over a border: what its own domain's ledger says of it
    neighbours/<domain>/...             of that domain: root, ledger.policy, registries (`topics.audit_abroad`)
    anything else                       for people: reports, explanations, verifiers; not read here

Nothing in it is believed: `topics.audit` checks it. A zip from outside may be anything: no member is read that is
larger than what it can be, names are matched whole and never used as paths of this machine.

If we crash while writing: the file is written beside and renamed, so there is a whole one or none. Must never hold a
grant, a private key, or a part's key.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

import orjson

from schemas import ijson
from schemas.errors import LogError
from schemas.home_proof import MAX_HOME_BYTES
from schemas.notes import MAX_NOTE_BYTES
from schemas.proof_texts import MAX_PROOF_BYTES
from schemas.trust_policy import MAX_POLICY_BYTES
from topics.audit_abroad import DOMAIN, FILE, limit_of
from topics.audit_findings import Held, KeptRecord, Shown
from topics.durable_file import disk_code, sync_folder
from topics.log import MAX_VALUE_BYTES
from topics.proofs import leaf_hash
from topics.tiles import TILE_WIDTH, TileId, read_tile_path, unpack_entries

ABOUT: Final = "evidence.json"
POLICY: Final = "trust/policy"
ROOT: Final = "trust/root"
PUBLISHED: Final = "registries/published"
_MAX_REGISTRY_BYTES = 8 << 20
_MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + 512)
_MAX_EVIDENCE_BYTES = 16 * 1024
_MAX_MEMBERS = 20_000_000
_TOPIC = r"[a-z]{2}\.[a-z]+\.[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?"
_RECORD = re.compile(rf"records/({_TOPIC})/(0|[1-9][0-9]{{0,15}})-([1-9][0-9]{{0,15}})")
_HELD = re.compile(r"(checkpoints|receipts|promises)/([A-Za-z0-9][A-Za-z0-9._-]{0,100})")
_NEIGHBOUR = re.compile(rf"neighbours/({DOMAIN})/(?:{FILE})")
_BUNDLE = re.compile(r"tile/entries/[x0-9/]{3,40}(?:\.p/[0-9]{1,3})?")
_DOMAIN = re.compile(r"[a-z]{2}")
_T = TypeVar("_T")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def malformed(path: str) -> LogError:
    return LogError("note_malformed", path)


class Files(Protocol):
    """Named bytes."""

    def names(self) -> Iterable[str]: ...

    def read(self, name: str, limit: int) -> bytes | None:
        """None: not there. Raises LogError `too_large`, `note_malformed`, `unavailable`."""

    def close(self) -> None: ...


class FolderFiles:
    """A folder with what was in a zip."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole = folder.resolve()

    def names(self) -> Iterable[str]:
        for path in sorted(self._folder.rglob("*")):
            if path.is_file():
                yield path.relative_to(self._folder).as_posix()

    def read(self, name: str, limit: int) -> bytes | None:
        path = self._folder / name
        try:
            if not path.exists():
                return None
            if not path.is_file() or not path.resolve().is_relative_to(self._whole):
                raise malformed("evidence")  # a pipe never ends, and a link may lead to a file of the auditor's own
            with path.open("rb") as stream:
                return _limited(stream.read(limit + 1), name, limit)
        except OSError:
            raise LogError("unavailable", "evidence") from None

    def close(self) -> None:
        """Nothing is open."""


class ZipFiles:
    """One zip. Raises LogError `note_malformed`, `unavailable` (path `evidence`)."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            raise malformed("evidence") from None
        except OSError:
            raise LogError("unavailable", "evidence") from None
        members = self._zip.infolist()
        # Of two members of one name others might read the first. The other ways of packing unpack without any limit:
        # a few kilobytes become gigabytes before the first byte can be counted.
        packed = all(one.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for one in members)
        if not packed or len({one.filename for one in members}) != len(members):
            self._zip.close()
            raise malformed("evidence")

    def names(self) -> Iterable[str]:
        return self._zip.namelist()

    def read(self, name: str, limit: int) -> bytes | None:
        try:
            with self._zip.open(name) as stream:
                return _limited(stream.read(limit + 1), name, limit)
        except KeyError:
            return None
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError):
            raise malformed("evidence") from None  # damaged, encrypted, or packed in a way that we do not read
        except OSError:
            raise LogError("unavailable", "evidence") from None

    def close(self) -> None:
        self._zip.close()


def _limited(data: bytes, name: str, limit: int) -> bytes:
    if len(data) > limit:
        raise LogError("too_large", name.partition("/")[0], expected=limit)
    return data


class EvidenceSource:
    """`topics.audit_findings.AuditSource` over evidence files. Make it with `open`, close it.

    Args:
        brought: what the auditor has from elsewhere.
    """

    shown: Shown = "records"

    def __init__(self, files: Files, brought: Mapping[str, Sequence[Held]]) -> None:
        self._files = files
        self._brought = brought
        self._held: dict[str, list[str]] = {"checkpoints": [], "receipts": [], "promises": []}
        self._places: dict[str, list[tuple[int, int]]] = {}
        self._bundles: dict[int, TileId] = {}
        self._neighbours: set[str] = set()
        try:
            self.domain, self.whole, self.made_at = _about(files)
            self._index()
        except LogError:
            files.close()
            raise

    @classmethod
    def open(cls, path: Path, brought: Mapping[str, Sequence[Held]] | None = None) -> Self:
        """A zip, or a folder with the same in it. Raises LogError `note_malformed`, `too_large`, `unavailable`."""
        return cls(FolderFiles(path) if path.is_dir() else ZipFiles(path), brought or {})

    def close(self) -> None:
        self._files.close()

    def _index(self) -> None:
        for count, name in enumerate(self._files.names()):
            if count > _MAX_MEMBERS:
                raise LogError("too_large", "evidence", expected=_MAX_MEMBERS)
            if (found := _RECORD.fullmatch(name)) is not None:
                self._places.setdefault(found[1], []).append((int(found[2]), int(found[3])))
            elif (found := _NEIGHBOUR.fullmatch(name)) is not None:
                self._neighbours.add(found[1])
            elif (found := _HELD.fullmatch(name)) is not None:
                self._held[found[1]].append(name)
            elif _BUNDLE.fullmatch(name) is not None:
                tile = read_tile_path(name)
                other = self._bundles.get(tile.index)
                if other is None or other.width < tile.width:
                    self._bundles[tile.index] = tile
        for places in self._places.values():
            places.sort()
            if any(one[0] == other[0] for one, other in zip(places, places[1:], strict=False)):
                raise malformed("records")  # two records for one place: which one is meant?

    # ---------------------------------------------------------------- the source

    def checkpoints(self) -> Iterator[Held]:
        return self._each("checkpoints", MAX_NOTE_BYTES)

    def receipts(self) -> Iterator[Held]:
        return self._each("receipts", MAX_PROOF_BYTES)

    def promises(self) -> Iterator[Held]:
        return self._each("promises", _MAX_EVIDENCE_BYTES)

    def _each(self, kind: str, limit: int) -> Iterator[Held]:
        for name in sorted(self._held[kind]):
            data = self._files.read(name, limit)
            if data is not None:
                yield Held(name, data)
        yield from self._brought.get(kind, ())

    def entries(self, first: int) -> Iterator[bytes]:
        n, over = divmod(first, TILE_WIDTH)
        while (tile := self._bundles.get(n)) is not None:
            data = self._files.read(tile.path, _MAX_BUNDLE_BYTES)
            if data is None:
                return
            yield from unpack_entries(data, tile.width)[over:]
            if tile.width < TILE_WIDTH:
                return
            n, over = n + 1, 0

    def hashes(self) -> Iterator[bytes]:
        return map(leaf_hash, self.entries(0))

    def registry_file(self, sha256: bytes) -> bytes | None:
        return self._files.read(f"registries/{sha256.hex()}", _MAX_REGISTRY_BYTES)

    def published_registry(self) -> bytes | None:
        return self._files.read(PUBLISHED, _MAX_REGISTRY_BYTES)

    def neighbour_file(self, domain: str, name: str) -> bytes | None:
        return self._files.read(f"neighbours/{domain}/{name}", limit_of(name))

    def neighbours(self) -> Sequence[str]:
        """Domains of which there is anything, as whoever made the evidence states it."""
        return sorted(self._neighbours)

    def topics(self) -> Sequence[str]:
        return sorted(self._places)

    def records(self, topic: str, first: int, behind: int | None) -> Iterator[KeptRecord]:
        places = self._places.get(topic, [])
        for offset, at_ms in places[bisect.bisect_left(places, (first, 0)) :]:
            if behind is not None and offset >= behind:
                return
            value = self._files.read(record_name(topic, offset, at_ms), MAX_VALUE_BYTES)
            if value is not None:
                home = self._files.read(f"homes/{topic}/{offset}", MAX_HOME_BYTES)
                yield KeptRecord(offset, at_ms, value, home)

    def grants_left(self, topic: str, keys: Sequence[str]) -> None:
        """Keys are never handed over."""

    def stated(self) -> tuple[bytes | None, str | None]:
        """Policy and registry root as whoever made the evidence states them. Raises LogError `note_malformed`."""
        root = self._files.read(ROOT, 256)
        if root is not None and not root.isascii():
            raise malformed(ROOT)
        return self._files.read(POLICY, MAX_POLICY_BYTES), None if root is None else root.decode("ascii").strip()


def _about(files: Files) -> tuple[str, bool, int]:
    data = files.read(ABOUT, 4096)
    try:
        raw = None if data is None else ijson.loads(data, max_bytes=4096, max_depth=1)
    except ijson.IJsonError:
        raw = None
    if not isinstance(raw, dict) or raw.keys() != {"v", "domain", "whole", "made_at"} or raw["v"] != 1:
        raise malformed(ABOUT)
    kinds = {"domain": str, "whole": bool, "made_at": int}
    if any(type(raw[name]) is not kind for name, kind in kinds.items()) or not _DOMAIN.fullmatch(raw["domain"]):
        raise malformed(ABOUT)
    return raw["domain"], raw["whole"], raw["made_at"]


def record_name(topic: str, offset: int, at_ms: int) -> str:
    """Where a record lies."""
    return f"records/{topic}/{offset}-{at_ms}"


# ---------------------------------------------------------------------------------------------------------------------
# Writing


class EvidenceWriter:
    """Writes one zip, beside it first. Use as a context manager: it is put in place at the end, unless something was
    raised. The same content gives the same bytes.

    Raises LogError `storage_full`, `unavailable` (path `evidence`); FileExistsError: it is there already.
    """

    def __init__(self, path: Path, *, domain: str, whole: bool, made_at: int) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.{os.getpid()}.part")
        if path.exists():
            raise FileExistsError(path)
        # For whoever makes it alone: it shows who wrote to whom.
        self._file = _told(lambda: os.fdopen(os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b"))
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED)
        try:
            self.add(ABOUT, orjson.dumps({"v": 1, "domain": domain, "whole": whole, "made_at": made_at}))
        except LogError as error:
            with contextlib.suppress(LogError):  # closing writes too, on a disk that is full
                self.__exit__(type(error))
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            _told(self._close)
            if kind is None:
                put_in_place(self._part, self._path)
        finally:
            self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        with self._file:
            self._zip.close()

    def add(self, name: str, data: bytes) -> None:
        """A member."""
        _told(lambda: self._zip.writestr(_member(name), data))

    def add_record(self, topic: str, record: KeptRecord) -> None:
        self.add(record_name(topic, record.offset, record.at_ms), record.value)
        if record.home is not None:
            self.add(f"homes/{topic}/{record.offset}", record.home)

    def add_neighbour(self, domain: str, name: str, data: bytes) -> None:
        """What is held of another domain, by its name there."""
        self.add(f"neighbours/{domain}/{name}", data)

    def add_held(self, kind: str, name: str, data: bytes) -> None:
        """A checkpoint, a receipt or a promise; `name` needs to be unlike the others of its kind."""
        self.add(f"{kind}/{name}", data)

    def add_registry(self, sha256: bytes, data: bytes) -> None:
        self.add(f"registries/{sha256.hex()}", data)


def put_in_place(part: Path, path: Path) -> None:
    """The whole file under its name, durable; or, if we crash, none. Raises LogError as the writer."""

    def work() -> None:
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
        sync_folder(path.parent)

    _told(work)


def add_to(path: Path, members: Mapping[str, bytes]) -> None:
    """Further members, for people, into a zip that nobody has been given yet: if we crash here, it is damaged.

    Raises LogError as the writer.
    """

    def work() -> None:
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as out:
            for name, data in members.items():
                out.writestr(_member(name), data)

    _told(work)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    return member


def _told(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except FileExistsError:
        raise
    except OSError as error:
        raise LogError(disk_code(error), "evidence") from None
