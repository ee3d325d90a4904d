# SPDX-License-Identifier: Apache-2.0
"""The two texts in which a checkpoint travels with a Merkle proof.

    tlog-proof       c2sp.org/tlog-proof@v1 LF [extra SP base64 LF] index SP i LF {base64(hash) LF} LF checkpoint
    add-checkpoint   old SP size LF {base64(hash) LF} LF checkpoint

The first is a receipt: an entry is in the tree of that checkpoint (c2sp.org/tlog-proof). The second is what a ledger
sends to a witness: this checkpoint follows the one that you saw last (c2sp.org/tlog-witness).

Read strictly: one text for one value, at most 63 hashes. The checkpoint is kept as the bytes that it was; nothing here
says that it is signed, or that a proof holds: `schemas.notes`, `schemas.trust_policy` and `topics.proofs` do.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import LogError
from schemas.notes import MAX_NOTE_BYTES, b64, decoded, malformed, read_decimal, read_hash, unb64

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
PROOF_SUFFIX = ".tlog-proof"
MAX_PROOF_HASHES = 63
MAX_EXTRA_BYTES = 64 * 1024
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES + 64 * (MAX_PROOF_HASHES + 2)


@dataclass(frozen=True, slots=True)
class TlogProof:
    """An entry's place in a checkpoint's tree, with what proves it; read, not checked."""

    index: int
    path: tuple[bytes, ...]
    """The lowest sibling first."""
    checkpoint: bytes
    """The signed note, as the ledger and its witnesses signed it."""
    extra: bytes | None = None
    """In our receipts the entry itself, whose hash is the leaf. Authenticated by that only."""

    def dumps(self) -> bytes:
        extra = "" if self.extra is None else f"extra {b64(self.extra)}\n"
        return f"{PROOF_HEADER}\n{extra}index {self.index}\n{_hash_lines(self.path)}\n".encode() + self.checkpoint


def read_tlog_proof(data: bytes) -> TlogProof:
    """Reverse of `TlogProof.dumps`.

    Raises:
        LogError: note_malformed (`proof.header`, `.extra`, `.index`, `.path[i]`), too_large.
    """
    lines, checkpoint = _head(data, "proof", MAX_PROOF_BYTES)
    if lines.pop(0) != PROOF_HEADER:
        raise malformed("proof.header")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = unb64(lines.pop(0).removeprefix("extra "), "proof.extra")
        if len(extra) > MAX_EXTRA_BYTES:
            raise LogError("too_large", "proof.extra", expected=MAX_EXTRA_BYTES)
    index = _number(lines, "index ", "proof.index")
    return TlogProof(index, _hashes(lines, "proof.path"), checkpoint, extra)


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """What a ledger asks a witness to cosign; read, not checked."""

    old: int
    """Size of the checkpoint that the witness is thought to have seen last; 0: none."""
    path: tuple[bytes, ...]
    """Consistency proof from `old` to the checkpoint's size."""
    checkpoint: bytes

    def dumps(self) -> bytes:
        return f"old {self.old}\n{_hash_lines(self.path)}\n".encode() + self.checkpoint


def read_add_checkpoint(data: bytes) -> AddCheckpoint:
    """Reverse of `AddCheckpoint.dumps`.

    Raises:
        LogError: note_malformed (`request.old`, `.path[i]`), too_large.
    """
    lines, checkpoint = _head(data, "request", MAX_PROOF_BYTES)
    return AddCheckpoint(_number(lines, "old ", "request.old"), _hashes(lines, "request.path"), checkpoint)


def _hash_lines(path: tuple[bytes, ...]) -> str:
    return "".join(f"{b64(node)}\n" for node in path)


def _head(data: bytes, path: str, limit: int) -> tuple[list[str], bytes]:
    """The lines before the first empty one, and what follows it."""
    if len(data) > limit:
        raise LogError("too_large", path, expected=limit)
    head, blank, checkpoint = data.partition(b"\n\n")
    if not blank:
        raise malformed(path)
    return decoded(head, path).split("\n"), checkpoint


def _number(lines: list[str], word: str, path: str) -> int:
    if not lines or not lines[0].startswith(word):
        raise malformed(path)
    return read_decimal(lines.pop(0).removeprefix(word), path)


def _hashes(lines: list[str], path: str) -> tuple[bytes, ...]:
    if len(lines) > MAX_PROOF_HASHES:
        raise malformed(path, expected=MAX_PROOF_HASHES)
    return tuple(read_hash(line, f"{path}[{number}]") for number, line in enumerate(lines))
