# SPDX-License-Identifier: Apache-2.0
"""What was sent and is wrong: corrected, or retracted, in the flow of its thread. The chain stays as it is.

A correction names the record and the fields, and may bring what is right for who she is; what is right of anything else
comes with the next ordinary event. A retraction says why in a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from schemas import htcds
from schemas.forms import Answer, Birth, Caregiver, Form, Lawful, Name, Referral, Service
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


class RecordCorrected(Form):
    """record.corrected"""

    evt: Evt
    """Which record of this thread was wrong."""
    fields: tuple[FieldPath, ...] = Field(min_length=1, max_length=40)
    birth: Birth | None = None
    """As it should have been."""
    name: Name | None = None


class RecordRetracted(Form):
    """record.retracted"""

    evt: Evt
    reason: Literal["wrong-recipient", "wrong-person", "sent-by-mistake", "not-permitted"]


MODELS: Mapping[str, type[Form]] = {"record.corrected": RecordCorrected, "record.retracted": RecordRetracted}
