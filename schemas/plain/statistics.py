# SPDX-License-Identifier: Apache-2.0
"""Flow `statistics`: what an agency counts for the commission: half-years, places, HTCDS codes, numbers.

Counts travel sealed and as they are, small ones included: what is published is decided by the commission's release,
which sees all agencies together. Nothing below a province, and nobody: no person's reference, no free text.

Sources: HTCDS 2.0 (IOM, CC BY 4.0) for fields and codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator

from schemas import htcds
from schemas.forms import Form, HtcdsCode

Period = Annotated[str, StringConstraints(pattern=r"^20[0-9]{2}-H[12]$")]
"""A half-year: H1 January to June, H2 July to December."""
Place = Annotated[str, StringConstraints(pattern=r"^(national|[A-Z]{2}-[A-Z0-9]{1,3})$")]
"""The whole country, or a province by its code (ISO 3166-2)."""
MOST = 1_000_000


class Count(Form):
    """How many of the persons counted have this answer."""

    field: HtcdsCode
    """An HTCDS field that is answered by codes."""
    code: HtcdsCode
    count: int = Field(ge=0, le=MOST)

    @field_validator("field")
    @classmethod
    def _coded(cls, value: str) -> str:
        if value not in htcds.FIELDS or not htcds.codes(value):
            raise ValueError("no coded field of HTCDS")
        return value

    @field_validator("code")
    @classmethod
    def _of_the_field(cls, value: str, info: ValidationInfo) -> str:
        if value not in htcds.codes(info.data.get("field", "")):
            raise ValueError("no code of that field")
        return value


class StatisticsSubmitted(Form):
    """One table of one agency. Submitted again on the same thread it replaces the one before, in the next release."""

    period: Period
    place: Place
    counted: Literal["persons-identified", "persons-assisted", "cases-opened"]
    """What was counted; tables of different things are never added up."""
    persons: int = Field(ge=0, le=MOST)
    """All who were counted."""
    counts: tuple[Count, ...] = Field(max_length=400)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({(one.field, one.code) for one in self.counts}) != len(self.counts):
            raise ValueError("an answer is counted twice")
        if any(one.count > self.persons for one in self.counts):
            raise ValueError("more answers than persons")
        return self


MODELS: Mapping[str, type[Form]] = {"statistics.submitted": StatisticsSubmitted}
