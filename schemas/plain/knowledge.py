# SPDX-License-Identifier: Apache-2.0
"""Flow `knowledge`: guidance, expertise, focal points. No persons, in any of it.

A document is what its publisher's signature covers: its bytes travel in base64url (text would be normalised on its
way), in pieces of one record each where it is larger than one record can hold, and the digest is of the whole.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.errors import PayloadError
from schemas.forms import Form, LanguageTag, Note, Text, When
from schemas.plain.directory import LocalCode, Telephone

CHUNK_BYTES = 6000
"""Of the document, in one chunk: 8,000 characters, the longest string that any message holds."""
CHUNKS = 28
"""In one piece: 168,000 bytes, within the largest part with room for the rest."""
PIECES = 64
"""Of one document, at most: 10.7 MB."""

Chunk = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{2,8000}$", min_length=2, max_length=8000)]


class GuidancePublished(Form):
    """A procedure or a tool, or one piece of it."""

    document: LocalCode
    """Which document, over all its versions: "pon-identification"."""
    version: int = Field(ge=1, le=9999)
    supersedes: int | None = Field(None, ge=1, le=9999)
    """The version that is no longer to be used."""
    title_fr: Text
    title_en: Text
    kind: Literal["procedure", "form", "training", "law", "report", "other"]
    media_type: Literal["text/plain", "text/markdown", "text/html", "application/pdf"]
    language: LanguageTag
    size: int = Field(ge=1, le=PIECES * CHUNKS * CHUNK_BYTES)
    """Bytes of the whole document."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Of the whole document."""
    piece: int = Field(1, ge=1, le=PIECES)
    """This one; from 1."""
    pieces: int = Field(1, ge=1, le=PIECES)
    chunks: tuple[Chunk, ...] = Field(min_length=1, max_length=CHUNKS)
    valid_from: When
    acknowledge: bool = True
    """Whether its readers are asked to confirm that a person has read it."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.piece > self.pieces:
            raise ValueError("more pieces than there are")
        if self.supersedes is not None and self.supersedes >= self.version:
            raise ValueError("supersedes a later version")
        if self.pieces == 1:
            _checked(self, joined([self]))
        return self


class GuidanceAcknowledged(Form):
    """A person has read it: a function, no name."""

    document: LocalCode
    version: int = Field(ge=1, le=9999)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    by: Literal["head", "focal-point", "caseworker", "trainer", "other"]


class ExpertiseAsked(Form):
    """From one commission or agency to another. About practice, never about a case that somebody could recognise."""

    topic: Literal["identification", "referral", "assistance", "children", "return", "investigation", "data", "other"]
    question: Note
    language: LanguageTag = "fr"


class ExpertiseAnswered(Form):
    """What practice says; never about a case that could be recognised."""

    answer: Note
    documents: tuple[LocalCode, ...] = Field((), max_length=20)
    """Guidance that says more."""


class ContactPublished(Form):
    """A focal point: a function and its telephone. Who sits there changes; the office stays."""

    entry: LocalCode
    function: Literal["focal-point", "duty-officer", "child-protection", "consular", "legal-aid", "health", "data"]
    name_fr: Text
    """Of the office."""
    name_en: Text
    telephone: Telephone
    languages: tuple[LanguageTag, ...] = Field((), max_length=20)
    around_the_clock: bool = False
    valid_until: When
    withdrawn: bool = False


MODELS: Mapping[str, type[Form]] = {
    "guidance.published": GuidancePublished,
    "guidance.acknowledged": GuidanceAcknowledged,
    "expertise.asked": ExpertiseAsked,
    "expertise.answered": ExpertiseAnswered,
    "contact.published": ContactPublished,
}


def chunks_of(data: bytes) -> tuple[tuple[str, ...], ...]:
    """A document's bytes as pieces of chunks. Raises PayloadError `too_large`."""
    if len(data) > PIECES * CHUNKS * CHUNK_BYTES:
        raise PayloadError("too_large", path="document", expected=PIECES * CHUNKS * CHUNK_BYTES)
    chunks = [_encoded(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)]
    return tuple(tuple(chunks[at : at + CHUNKS]) for at in range(0, len(chunks), CHUNKS))


def joined(pieces: Sequence[GuidancePublished]) -> bytes:
    """The bytes of the pieces given, in their order. Raises ValueError: a chunk is no base64url."""
    return b"".join(
        base64.b64decode(chunk + "=" * (-len(chunk) % 4), b"-_", True) for one in pieces for chunk in one.chunks
    )


def document_of(pieces: Sequence[GuidancePublished]) -> bytes | None:
    """The document, None while pieces are missing.

    Raises:
        PayloadError: `part_digest_mismatch` is for records; here `payload_invalid`, path `said.sha256`: the pieces do
            not make the document that each of them names.
    """
    if not pieces:
        return None
    by_number = {one.piece: one for one in pieces}
    if sorted(by_number) != list(range(1, pieces[0].pieces + 1)):
        return None
    found = joined([by_number[number] for number in sorted(by_number)])
    if len({(one.sha256, one.size, one.pieces) for one in pieces}) != 1 or not _is(pieces[0], found):
        raise PayloadError("payload_invalid", path="said.sha256")
    return found


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _is(said: GuidancePublished, found: bytes) -> bool:
    return len(found) == said.size and hashlib.sha256(found).hexdigest() == said.sha256


def _checked(said: GuidancePublished, found: bytes) -> None:
    if not _is(said, found):
        raise ValueError("not the document that it names")
