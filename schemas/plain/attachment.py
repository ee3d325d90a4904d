# SPDX-License-Identifier: Apache-2.0
"""Attachments: files that go with an event of a thread, announced first and then sent in sealed chunks.

    attachment.announced   which event they belong to, and of each file its media type, size, digest and the digest of
                           every chunk; carries the first chunks itself, as parts `a1`, `a2` of its record
    attachment.chunk       the next chunks, as parts `a1`, `a2`; says only whose and from which number on

Chunks are numbered from 1 over all files of one announcement. A chunk is 65,536 bytes, the last of a file at most that,
and its part is always padded to exactly that: sizes tell no more than how many.

What a file is called stands in the identity part, since a person's name often does. Nobody opens a file here: whether
it is harmless is the reader's own program's to say.
Must never: hold a byte of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.forms import IDENTITY, Form, Text
from schemas.plain.record import Evt

ANNOUNCED = "attachment.announced"
CHUNK = "attachment.chunk"

CHUNK_BYTES = 64 * 1024
"""Of a file, in one part: a pad size, so the part's padding never grows it."""
CHUNKS_PER_RECORD = 2
"""So that a record with its parts still fits whole into a disclosure."""
MAX_CHUNKS = 96
"""Of one announcement: 6 MiB. With it, what erases all its records is still one command (50 records)."""
MAX_FILES = 10

MediaType = Literal["application/pdf", "image/jpeg", "image/png"]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", min_length=64, max_length=64)]


class AttachedFile(Form):
    """One file, without its name."""

    media_type: MediaType
    size: int = Field(ge=1, le=MAX_CHUNKS * CHUNK_BYTES)
    """Bytes."""
    sha256: Digest
    """Of the whole file."""
    chunks: tuple[Digest, ...] = Field(min_length=1, max_length=MAX_CHUNKS)
    """SHA-256 of each chunk of it, in order, without padding."""

    @model_validator(mode="after")
    def _as_many_as_it_needs(self) -> Self:
        if len(self.chunks) != -(-self.size // CHUNK_BYTES):
            raise ValueError("chunks do not make that size")
        return self


class AttachmentAnnounced(Form):
    """attachment.announced"""

    about: Evt
    """The event of this thread that the files belong to, from the same sender."""
    files: tuple[AttachedFile, ...] = Field(min_length=1, max_length=MAX_FILES)
    names: tuple[Text, ...] = Field(min_length=1, max_length=MAX_FILES, json_schema_extra=IDENTITY)
    """What each was called at its sender's, in the order of `files`."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.names) != len(self.files):
            raise ValueError("a name for each file")
        if sum(len(one.chunks) for one in self.files) > MAX_CHUNKS:
            raise ValueError("too many chunks")
        return self


class AttachmentChunk(Form):
    """attachment.chunk"""

    announced: Evt
    """The event that announced it."""
    first: int = Field(ge=1, le=MAX_CHUNKS)
    """Number of the chunk in part `a1`; `a2` holds the next one."""


MODELS: Mapping[str, type[Form]] = {ANNOUNCED: AttachmentAnnounced, CHUNK: AttachmentChunk}
