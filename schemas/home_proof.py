# SPDX-License-Identifier: Apache-2.0
"""What travels over a border beside a record: that its home has logged it, and under which registry.

    {"record":"L1\\nL2","grants":[...],"home":{"checkpoint":"...","proof":{...},"registry":{...}}}

    checkpoint  the home ledger's, with its cosignatures (`schemas.notes`); of one contact the first line has it, and
                lines behind may leave it out, which means the one before
    proof       {"index":i,"entry":"<base64>","path":["<base64>",...]}: the record's entry and its Merkle path
    registry    the same of the last `registry` entry before it: the version that was in force when it was logged

Whole, with its checkpoint, it is kept beside the record in the log that takes it in, as the header `umuhuza-home`:
whoever judges that record there later (the ledger, another gateway, an auditor) has all of it, off line.

Invariants: one value has one text; what is read here is shape and nothing else. Must never say that a proof holds, or
that a signature counts: `topics.home_check` does.

Pure. If a program crashes with one in its hands, it is made again from the home ledger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from schemas import ijson
from schemas.envelope import MAX_RECORD_BYTES
from schemas.errors import LogError, RecordError
from schemas.notes import MAX_NOTE_BYTES, b64, malformed, read_hash, unb64
from schemas.proof_texts import MAX_PROOF_HASHES

HOME_HEADER = "umuhuza-home"
MAX_ENTRY_BYTES = 1024
MAX_HOME_BYTES = 64 * 1024
"""Of the header; with the largest record it stays below what Kafka takes."""
MAX_LINE_BYTES = 2 * MAX_RECORD_BYTES + MAX_NOTE_BYTES
MAX_GRANTS = 64
_MAX_INDEX = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry with its place and its path; read, not checked."""

    index: int
    entry: bytes
    path: tuple[bytes, ...]
    """The lowest sibling first."""

    def to_json(self) -> dict[str, Any]:
        return {"index": self.index, "entry": b64(self.entry), "path": [b64(one) for one in self.path]}


@dataclass(frozen=True, slots=True)
class HomeProof:
    """What a home ledger says of one record, with what proves it; read, not checked."""

    checkpoint: bytes
    """The signed note; b"" when the line leaves it out."""
    record: Proven
    registry: Proven

    def dumps(self) -> bytes:
        """As the header has it: ASCII, one text for one value."""
        return _compact(self.to_json())

    def to_json(self, *, checkpoint: bool = True) -> dict[str, Any]:
        """`checkpoint`: False where the line before had the same."""
        told = {"proof": self.record.to_json(), "registry": self.registry.to_json()}
        return ({"checkpoint": self.checkpoint.decode("utf-8")} if checkpoint else {}) | told


@dataclass(frozen=True, slots=True)
class CarriedLine:
    """One line of a contact; read, not checked."""

    record: bytes
    grants: tuple[object, ...]
    """As JSON; `schemas.sealing.grant_of` reads each."""
    home: HomeProof

    def dumps(self, *, checkpoint: bool = True) -> bytes:
        """Without a line end. The grants are values of JSON."""
        home = self.home.to_json(checkpoint=checkpoint)
        return _compact({"record": self.record.decode("ascii"), "grants": list(self.grants), "home": home})


def read_carried_line(line: bytes, checkpoint: bytes = b"") -> CarriedLine:
    """Read one line strictly.

    Args:
        checkpoint: of the line before, for one that leaves it out.

    Raises:
        RecordError: record_malformed (`line`, `line.record`, `line.grants`), too_large.
        LogError: note_malformed, path `home` or what in it is wrong; record_unlogged, path `home`, when there is no
            proof at all.
    """
    raw = _read(line, MAX_LINE_BYTES, 6)
    if not isinstance(raw, dict):
        raise RecordError("record_malformed", "line")
    if "home" not in raw:
        raise LogError("record_unlogged", "home")
    if raw.keys() != {"record", "grants", "home"}:
        raise RecordError("record_malformed", "line.*")
    record, grants = raw["record"], raw["grants"]
    if not isinstance(record, str) or not record.isascii():
        raise RecordError("record_malformed", "line.record")
    if not isinstance(grants, list):
        raise RecordError("record_malformed", "line.grants")
    if len(grants) > MAX_GRANTS:
        raise RecordError("too_large", "line.grants", expected=MAX_GRANTS)
    home = _home(raw["home"])
    if not home.checkpoint:
        home = replace(home, checkpoint=checkpoint)
    if not home.checkpoint:
        raise malformed("home.checkpoint")
    return CarriedLine(record.encode("ascii"), tuple(grants), home)


def read_home_proof(data: bytes) -> HomeProof:
    """Reverse of `HomeProof.dumps`, of a whole one.

    Raises:
        LogError: note_malformed, too_large.
    """
    if len(data) > MAX_HOME_BYTES:
        raise LogError("too_large", "home", expected=MAX_HOME_BYTES)
    try:
        home = _home(_read(data, MAX_HOME_BYTES, 4))
    except RecordError:
        raise malformed("home") from None
    if not home.checkpoint or home.dumps() != data:
        raise malformed("home")
    return home


def _read(data: bytes, limit: int, depth: int) -> Any:
    if len(data) > limit:
        raise RecordError("too_large", "line", expected=limit)
    try:
        return ijson.loads(data, max_bytes=limit, max_depth=depth)
    except ijson.IJsonError:
        raise RecordError("record_malformed", "line") from None


def _home(raw: Any) -> HomeProof:
    if not isinstance(raw, dict) or raw.keys() - {"checkpoint"} != {"proof", "registry"}:
        raise malformed("home")
    note = raw.get("checkpoint", "")
    if not isinstance(note, str) or ("checkpoint" in raw and not note):
        raise malformed("home.checkpoint")
    checkpoint = note.encode("utf-8")  # I-JSON has no lone surrogates
    if len(checkpoint) > MAX_NOTE_BYTES:
        raise LogError("too_large", "home.checkpoint", expected=MAX_NOTE_BYTES)
    return HomeProof(checkpoint, _proven(raw["proof"], "home.proof"), _proven(raw["registry"], "home.registry"))


def _proven(raw: Any, where: str) -> Proven:
    if not isinstance(raw, dict) or raw.keys() != {"index", "entry", "path"}:
        raise malformed(where)
    index, entry, path = raw["index"], raw["entry"], raw["path"]
    if type(index) is not int or not 0 <= index <= _MAX_INDEX:
        raise malformed(f"{where}.index")
    if not isinstance(entry, str) or len(entry) > 2 * MAX_ENTRY_BYTES:
        raise malformed(f"{where}.entry")
    if not isinstance(path, list) or len(path) > MAX_PROOF_HASHES:
        raise malformed(f"{where}.path", expected=MAX_PROOF_HASHES)
    if not all(isinstance(one, str) for one in path):
        raise malformed(f"{where}.path")
    hashes = tuple(read_hash(one, f"{where}.path[{number}]") for number, one in enumerate(path))
    return Proven(index, unb64(entry, f"{where}.entry"), hashes)


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii")
