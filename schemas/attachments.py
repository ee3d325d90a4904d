# SPDX-License-Identifier: Apache-2.0
"""Files into chunks and back. What is put together again is exactly what was announced, or an error says which chunk.

    files -> announcement (`schemas.plain.attachment`) + numbered chunks -> parts of records
    parts of records -> numbered chunks -> files, each checked chunk by chunk and as a whole

Invariants: `joined(announcement(files), chunks(files)) == files`; a missing, repeated, misplaced, foreign or altered
chunk never gives a file, not even the others of the same announcement.
Must never: open, unpack or interpret a file beyond its first bytes; do I/O; put a name or a byte of a file into an
error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import PayloadError
from schemas.plain.attachment import (
    CHUNK_BYTES,
    CHUNKS_PER_RECORD,
    MAX_CHUNKS,
    MAX_FILES,
    AttachedFile,
    AttachmentAnnounced,
    MediaType,
)

MAX_BYTES = MAX_CHUNKS * CHUNK_BYTES
"""The most that a limit may be set to; less in files that do not fill their last chunk."""
DEFAULT_LIMIT = 5 * 1024 * 1024
"""Bytes of all files of one event, unless an agency's settings say less or more."""

_SIGNATURES: tuple[tuple[bytes, MediaType], ...] = (
    (b"%PDF-", "application/pdf"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
)
ENDINGS: Mapping[MediaType, str] = {"application/pdf": ".pdf", "image/jpeg": ".jpg", "image/png": ".png"}
"""Of the neutral name under which a file is written down."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class File:
    """One file in memory."""

    name: str
    """As its author called it; may name a person."""
    data: bytes

    def __repr__(self) -> str:
        return f"File({len(self.data)} bytes)"


def media_type_of(data: bytes) -> MediaType | None:
    """By the first bytes, whatever it is called; None: of no kind that is carried."""
    return next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), None)


def plain_name(name: str) -> str:
    """A file's name without folders, control characters or writing-direction marks, at most 200 characters."""
    last = re.split(r"[/\\]", name)[-1]
    cleaned = _UNPRINTABLE.sub("", last).strip()
    return cleaned[-_LONGEST_NAME:].strip() or "fichier"


def check(files: Sequence[File], limit: int) -> None:
    """Before anything is sealed.

    Args:
        limit: bytes, of all files together.

    Raises:
        PayloadError: `too_large` (path `attachments`, the limit as expected), `attachment_type` (path
            `attachments[0]`), `payload_invalid`: a file is empty.
    """
    if len(files) > MAX_FILES:
        raise PayloadError("too_large", path="attachments", expected=MAX_FILES)
    for index, one in enumerate(files):
        if not one.data:
            raise PayloadError("payload_invalid", path=f"attachments[{index}]")
        if media_type_of(one.data) is None:
            raise PayloadError("attachment_type", path=f"attachments[{index}]")
    most = min(limit, MAX_BYTES)
    if sum(len(one.data) for one in files) > most or len(chunks(files)) > MAX_CHUNKS:
        raise PayloadError("too_large", path="attachments", expected=most)


def chunks(files: Sequence[File]) -> tuple[bytes, ...]:
    """All chunks of all files, in the order of their numbers, not padded."""
    return tuple(one.data[at : at + CHUNK_BYTES] for one in files for at in range(0, len(one.data), CHUNK_BYTES))


def announcement(about: str, files: Sequence[File]) -> AttachmentAnnounced:
    """What is said of files that passed `check`."""
    said = []
    for one in files:
        kind = media_type_of(one.data)
        if kind is None:
            raise PayloadError("attachment_type", path="attachments")
        digests = tuple(hashlib.sha256(chunk).hexdigest() for chunk in chunks([one]))
        whole = hashlib.sha256(one.data).hexdigest()
        said.append(AttachedFile(media_type=kind, size=len(one.data), sha256=whole, chunks=digests))
    return AttachmentAnnounced(about=about, files=tuple(said), names=tuple(plain_name(one.name) for one in files))


def size_of(said: AttachmentAnnounced) -> int:
    """Bytes of all files together."""
    return sum(one.size for one in said.files)


def count_of(said: AttachmentAnnounced) -> int:
    """How many chunks there are."""
    return sum(len(one.chunks) for one in said.files)


def parts_of(some: Sequence[bytes]) -> dict[str, bytes]:
    """Chunks that follow one another, as the parts of one record. Raises ValueError: more than a record carries."""
    if len(some) > CHUNKS_PER_RECORD:
        raise ValueError("too many for one record")
    return {f"a{index}": chunk.ljust(CHUNK_BYTES) for index, chunk in enumerate(some, 1)}


def records_of(all_chunks: Sequence[bytes]) -> tuple[tuple[int, tuple[bytes, ...]], ...]:
    """(number of its first chunk, chunks) for each record, the announcement's own first."""
    return tuple(
        (at + 1, tuple(all_chunks[at : at + CHUNKS_PER_RECORD])) for at in range(0, len(all_chunks), CHUNKS_PER_RECORD)
    )


def part_names(first: int, count: int) -> tuple[str, ...]:
    """Names of the parts that a record must have whose first chunk is that number, of so many chunks in all.

    Raises PayloadError `payload_invalid`: no record begins with that number.
    """
    if first % CHUNKS_PER_RECORD != 1 or first > count:
        raise PayloadError("payload_invalid", path="said.first")
    return tuple(f"a{index}" for index in range(1, min(CHUNKS_PER_RECORD, count - first + 1) + 1))


def where(said: AttachmentAnnounced, number: int) -> str:
    """The path of one chunk: `said.files[0].chunks[3]`."""
    before = 0
    for index, one in enumerate(said.files):
        if number <= before + len(one.chunks):
            return f"said.files[{index}].chunks[{number - before - 1}]"
        before += len(one.chunks)
    return "said.files"


def joined(said: AttachmentAnnounced, parts: Mapping[int, bytes]) -> tuple[File, ...]:
    """The files, put together from padded chunks by number.

    Raises:
        PayloadError: `attachment_incomplete`: a chunk is missing; `payload_invalid`: a chunk is not the one announced
            under its number, or one that was not announced is there (`said.files`); `attachment_type`: a file is not
            of the kind that was announced. The path names the chunk or the file.
    """
    total = count_of(said)
    missing = next((number for number in range(1, total + 1) if number not in parts), None)
    if missing is not None:
        raise PayloadError("attachment_incomplete", path=where(said, missing))
    if len(parts) != total:
        raise PayloadError("payload_invalid", path="said.files")
    found: list[File] = []
    number = 0
    for index, one in enumerate(said.files):
        data = bytearray()
        for digest in one.chunks:
            number += 1
            chunk = _unpadded(parts[number], min(CHUNK_BYTES, one.size - len(data)))
            if chunk is None or hashlib.sha256(chunk).hexdigest() != digest:
                raise PayloadError("payload_invalid", path=where(said, number))
            data += chunk
        if hashlib.sha256(data).hexdigest() != one.sha256:
            raise PayloadError("payload_invalid", path=f"said.files[{index}].sha256")
        if media_type_of(bytes(data[:16])) != one.media_type:
            raise PayloadError("attachment_type", path=f"said.files[{index}].media_type")
        found.append(File(said.names[index], bytes(data)))
    return tuple(found)


def _unpadded(part: bytes, size: int) -> bytes | None:
    """None: what should be padding is something else."""
    if len(part) != CHUNK_BYTES or part[size:].strip(b" "):
        return None
    return part[:size]
