# SPDX-License-Identifier: Apache-2.0
"""Flow `alert`: somebody is missing, somebody is in danger.

    alert.missing    who holds the case to those who may look for her; names her, under vital interests or a legal duty
    alert.cleared    it is over: what was told is erased wherever it was told
    safety.warning   somebody may come to harm (a suspect is free, a threat, a place has become known)

Invariants: an adult who left freely is not missing, and is not looked for; a warning names nobody and says nothing of
an investigation: what to do is said on the telephone.
This is never the only channel: who raises an alert telephones as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.forms import IDENTITY, Birth, Form, Name, Note, Text, When
from schemas.plain.directory import Telephone

EventId = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
]
"""`evt` of an event between the same two agencies."""


class AlertMissing(Form):
    """FHIR R4 has Flag for the mark, and nothing for the search; so this is ours."""

    age: Literal["adult", "child", "unknown"]
    circumstance: Literal["taken", "threatened", "did-not-return", "cannot-protect-herself", "left-freely", "unknown"]
    """`left-freely` is for a child, or somebody who may be one: an adult may go where she likes."""
    missing_since: When
    name: Name
    birth: Birth | None = None
    sex: Literal["female", "male", "other", "unknown"] = "unknown"
    description: Note | None = Field(None, json_schema_extra=IDENTITY)
    """What she looks like, what she wore."""
    last_seen: Text | None = Field(None, json_schema_extra=IDENTITY)
    """Where; never the address of a shelter."""
    danger_from: Note | None = Field(None, json_schema_extra=IDENTITY)
    do_not_tell: Note | None = Field(None, json_schema_extra=IDENTITY)
    """Who must not learn of the search, a suspected guardian first of all."""
    telephone: Telephone
    """Of the agency that looks for her."""

    @model_validator(mode="after")
    def _missing(self) -> Self:
        if self.age == "adult" and self.circumstance == "left-freely":
            raise ValueError("an adult who left freely is not missing")
        return self


class AlertCleared(Form):
    """The search is over, and how."""

    outcome: Literal["found-safe", "found-needs-help", "returned", "left-freely", "died", "mistake"]
    erases: tuple[EventId, ...] = Field(min_length=1, max_length=16)
    """The `alert.missing` that it ends. It is a command: signed with `acts.erase`, so that gateways delete the keys of
    what was told, as its reader does."""


class SafetyWarning(Form):
    """To the agency that looks after her; it warns whoever holds her now, on its own thread (no list of holders)."""

    danger: Literal["suspect-released", "threat", "location-compromised"]
    since: When
    about: EventId | None = None
    """The event between the two agencies by which the reader knows whom it concerns; absent: the reader's place or
    staff."""
    telephone: Telephone
    """Who knows more. Telephone at once."""


MODELS: Mapping[str, type[Form]] = {
    "alert.missing": AlertMissing,
    "alert.cleared": AlertCleared,
    "safety.warning": SafetyWarning,
}
