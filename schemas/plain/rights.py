# SPDX-License-Identifier: Apache-2.0
"""Flow `rights`: disclosure of a part of a record, a person's access to what is held, erasure.

Everything here is about records and names a person only where nobody could answer otherwise (`access.requested`). A
disclosure carries the record as it was signed and the keys of exactly the parts in scope, sealed to the reader once
more: whoever gets hold of the form alone can open nothing. That the two sets of parts are one is asked of the grant
when it is opened (`adapters.disclosures`), which no form can do.

Must never: hold a content key, or the text of a part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, StringConstraints, model_validator

from schemas.forms import IDENTITY, Form, LanguageTag, Name, Note, Text, When

RecordId = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z]{2}/[a-z0-9][a-z0-9-]{0,31}/"
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
    ),
]
"""`<iss>/<evt>` of a record."""
PartName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
"""`identity`, `content`, or the name of an attachment."""
Piece = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.~-]{1,8000}$")]
"""Of a long text in the alphabet of records."""
PIECE = 8000
"""Characters."""
ByHand = Literal["find-moved-copies", "destroy-other-copies", "destroy-own-files"]
"""What no program can do of an erasure: a copy is not where it was put; others may have been made; the holder's own
files, from which it was sent, still tell of it."""
BY_HAND: tuple[ByHand, ...] = get_args(ByHand)
_MAX_MANIFEST = 2
_MAX_BODY = 30


class DisclosureRequested(Form):
    """A court or an auditor asks a holder for parts of a record, by an order."""

    capacity: Literal["court", "auditor"]
    order: Text = Field(json_schema_extra=IDENTITY)
    """Number and date of the order."""
    scope: tuple[PartName, ...] = Field(min_length=1, max_length=8)
    expires_at: When
    """Until when the parts are asked for."""
    record: RecordId | None = None
    """None: the holder finds it by `subject`."""
    subject: Note | None = Field(None, json_schema_extra=IDENTITY)
    """What the order is about, where the asker knows no record."""


class DisclosureGranted(Form):
    """One record as it was signed, and the keys of the parts in scope for as long as the grant lasts."""

    record: RecordId
    scope: tuple[PartName, ...] = Field(min_length=1, max_length=8)
    expires_at: When
    manifest: tuple[Piece, ...] = Field(min_length=1, max_length=_MAX_MANIFEST)
    """L1, in pieces."""
    body: tuple[Piece, ...] = Field(min_length=1, max_length=_MAX_BODY)
    """L2, in pieces: all parts, sealed."""
    keys: tuple[Piece, ...] = Field(min_length=1, max_length=4)
    """One grant for each key of the reader, base64url of its JSON."""

    @model_validator(mode="after")
    def _each_part_once(self) -> Self:
        if len(set(self.scope)) != len(self.scope):
            raise ValueError("a part stands twice")
        return self


class DisclosureRefused(Form):
    """An authority's order is not carried out, and why."""

    reason: Literal["not-held", "erased", "no-order", "wider-than-order", "not-competent", "too-large", "other"]
    note: Note | None = Field(None, json_schema_extra=IDENTITY)


class DisclosureReviewed(Form):
    """A named role has looked at what was disclosed, and why."""

    role: Literal["supervisor", "data-protection", "coordination", "judge"]
    outcome: Literal["upheld", "not-upheld"]
    reviewer: Text = Field(json_schema_extra=IDENTITY)


class DisclosureEnded(Form):
    """The reader's keys are gone from gateways and are deleted by its adapter; what was read cannot be unread."""

    record: RecordId
    reason: Literal["expired", "not-upheld", "erased"]


class AccessRequested(Form):
    """A person asks, through an agency that she chose, what a holder has of her."""

    person: Name
    wants: tuple[Literal["what-is-held", "copy", "recipients", "correction", "erasure"], ...] = Field(
        min_length=1, max_length=5
    )
    verified_by: Literal["ticket", "document", "known-to-agency"]
    """How the agency that she chose knows that it is her."""
    checked_by: Text | None = Field(None, json_schema_extra=IDENTITY)
    """Who there made sure that it is her; since 1.1, and asked of the sender since then."""
    language: LanguageTag | None = None
    """In which she wants to be answered."""
    record: RecordId | None = None
    note: Note | None = Field(None, json_schema_extra=IDENTITY)


class Held(Form):
    """One record that is held about the person, without what it says."""

    record: RecordId
    since: When
    until: When | None = None
    """When retention ends."""


class AccessAnswered(Form):
    """What a holder says to a person of what it has about her."""

    outcome: Literal["answered", "nothing-held", "not-verified", "restricted"]
    """`restricted`: a law forbids to say more; which one is `legal_reference`."""
    held: tuple[Held, ...] = Field((), max_length=60)
    onward: int = Field(0, ge=0, le=500)
    """How many agencies hold it through this one; never which."""
    copy_text: Note | None = Field(None, json_schema_extra=IDENTITY)
    """To be read to her."""
    legal_reference: Text | None = None

    @model_validator(mode="after")
    def _restricted_by_a_text(self) -> Self:
        if (self.legal_reference is not None) != (self.outcome == "restricted"):
            raise ValueError("a restriction names its text, nothing else does")
        return self


class ErasureRequested(Form):
    """Gateways delete the keys of this record; its holder deletes what was opened."""

    record: RecordId
    ground: Literal["person", "retracted", "cleared", "retention", "order"]


class ErasureExecuted(Form):
    """Keys are gone from a machine; copies that a program holds open may still be there."""

    record: RecordId
    where: Literal["mailbox", "gateway"]


class ErasureAttested(Form):
    """A holder's word on what its adapter has deleted, and on what people there must still do."""

    record: RecordId
    gone: tuple[Literal["grant", "delivered-copies", "never-held"], ...] = Field(min_length=1, max_length=3)
    """`delivered-copies`: every copy that was handed over was at its place and was deleted. Not said where one was not
    found, or where none had been handed over."""
    remains: tuple[Literal["backups", "what-was-read", "paper"], ...] = Field((), max_length=3)
    """What no program can take back."""
    by_hand: tuple[ByHand, ...] = Field((), max_length=3)
    """What a person there must still do; since 1.1."""


MODELS: Mapping[str, type[Form]] = {
    "disclosure.requested": DisclosureRequested,
    "disclosure.granted": DisclosureGranted,
    "disclosure.refused": DisclosureRefused,
    "disclosure.reviewed": DisclosureReviewed,
    "disclosure.ended": DisclosureEnded,
    "access.requested": AccessRequested,
    "access.answered": AccessAnswered,
    "erasure.requested": ErasureRequested,
    "erasure.executed": ErasureExecuted,
    "erasure.attested": ErasureAttested,
}
