# SPDX-License-Identifier: Apache-2.0
"""What was sent and is wrong: corrected, or retracted, in the flow of its thread. The chain stays as it is.

A correction names the record and the fields, says why they were wrong and who says so now, and brings what is right
of anything that the form of a referral, a case or an answer says; a field that it names and does not bring is wrong
and not known better. Deadline and allow-list follow from priority and services: a corrected priority counts from the
correction while nobody has answered, corrected services say what may be told from then on (`adapters.corrected`). A
retraction says why in a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas import htcds
from schemas.errors import PayloadError
from schemas.forms import (
    IDENTITY,
    Answer,
    Birth,
    Caregiver,
    Form,
    HtcdsCode,
    Information,
    Interpreter,
    LanguageTag,
    Lawful,
    Name,
    Note,
    Priority,
    Referral,
    Risk,
    SafeContact,
    Service,
    Text,
    When,
)
from schemas.shape import leaves

Evt = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$", max_length=36),
]

_FORMS: Mapping[str, type[Form]] = {
    "referral": Referral,
    "birth": Birth,
    "caregiver": Caregiver,
    "lawful": Lawful,
    "answer": Answer,
    "service": Service,
    "information": Information,
}
_PATHS = frozenset(
    {
        "occurred_at",
        *(f"htcds.{name}" for name in htcds.FIELDS),
        *(leaf.path for name, form in _FORMS.items() for leaf in leaves(form, name)),
    }
)


def _known(path: str) -> str:
    if path not in _PATHS:
        raise ValueError("no field of ours")
    return path


FieldPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_.]{1,100}$", max_length=100), AfterValidator(_known)]
"""A field by its path, as in an allow-list: "referral.birth.date", "htcds.prs_Gender"."""


class CodedAnswer(Form):
    """One HTCDS answer as it should have been."""

    field: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]{1,80}$", max_length=80)]
    values: tuple[Note, ...] = Field(min_length=1, max_length=64)
    """One; several where the field is multi-valued."""

    @property
    def answer(self) -> str | tuple[str, ...]:
        """The answer as `Facts.htcds` holds it: a tuple where the field is multi-valued."""
        known = htcds.FIELDS.get(self.field)
        return self.values if known is not None and known.multi else self.values[0]

    @model_validator(mode="after")
    def _standard(self) -> Self:
        try:
            right = self.field in htcds.FIELDS and htcds.check(self.field, self.answer) == self.answer
        except PayloadError:
            right = False
        if not right or (len(self.values) > 1 and isinstance(self.answer, str)):
            raise ValueError("no answer of the standard")
        return self


class Right(Form):
    """What should have been said; what is absent was right, or is not known."""

    priority: Priority | None = None
    services: tuple[HtcdsCode, ...] | None = Field(None, min_length=1, max_length=9)
    local_service: Text | None = None
    languages: tuple[LanguageTag, ...] | None = Field(None, max_length=10)
    interpreter: Interpreter | None = None
    access_needs: Note | None = Field(None, json_schema_extra=IDENTITY)
    pregnant_or_nursing: Literal["yes", "no", "unknown"] | None = None
    dependants: tuple[Annotated[int, Field(ge=0, le=120)], ...] | None = Field(None, max_length=20)
    safe_contact: SafeContact | None = None
    caregiver: Caregiver | None = None
    risk: Risk | None = None
    already_given: tuple[HtcdsCode, ...] | None = Field(None, max_length=9)
    transport: Literal["escorted", "own", "needed", "none"] | None = None
    reason: Note | None = Field(None, json_schema_extra=IDENTITY)
    feedback_by: When | None = None
    referring_unit: Text | None = None
    on_call_telephone: Text | None = Field(None, json_schema_extra=IDENTITY)
    htcds: tuple[CodedAnswer, ...] | None = Field(None, min_length=1, max_length=40, json_schema_extra=IDENTITY)
    """All of them as identity: some are."""


class RecordCorrected(Form):
    """record.corrected"""

    evt: Evt
    """Which record of this thread was wrong."""
    fields: tuple[FieldPath, ...] = Field(min_length=1, max_length=40)
    birth: Birth | None = None
    """As it should have been."""
    name: Name | None = None
    right: Right | None = None
    """Everything else, as it should have been."""
    reason: Literal["misheard", "misread", "interpreter", "not-known-then", "changed-since", "other"] | None = None
    """Why it was wrong. Absent only in what was written before 1.1."""
    source: Literal["person", "document", "guardian", "another-agency", "own-file"] | None = None
    """Who or what says so now. Absent only in what was written before 1.1."""


class RecordRetracted(Form):
    """record.retracted"""

    evt: Evt
    reason: Literal["wrong-recipient", "wrong-person", "sent-by-mistake", "not-permitted"]


MODELS: Mapping[str, type[Form]] = {"record.corrected": RecordCorrected, "record.retracted": RecordRetracted}
