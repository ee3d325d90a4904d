# SPDX-License-Identifier: Apache-2.0
"""The case thread where FHIR has nothing: whose it is, reflection periods, case conferences, what police are told.

Reasons are codes, chosen so that none says whether she speaks with the police: help never depends on it. Names of
people and places are identity. `handover.acknowledged` says that somebody took over and whom to call, never where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.forms import IDENTITY, Form, Note, Text, When

OfficeTelephone = Annotated[str, StringConstraints(pattern=r"^\+?[0-9]{2,15}$", max_length=16)]
"""Of an office that answers, never a person's own."""
Decision = Literal[
    "continue", "shelter", "medical", "psychosocial", "legal", "documents", "family-tracing", "return", "protect", "end"
]


class CaseHandover(Form):
    """case.handover: who answers for the case from now on."""

    taken_over_by: Literal["recipient", "another"]
    """`another`: whom, is for that one to say."""
    reason: Literal["other-area", "other-service", "no-capacity", "person-asked", "mandate"]


class CaseClosed(Form):
    """case.closed"""

    reason: Literal[
        "assistance-completed", "not-trafficking", "person-asked", "lost-contact", "returned", "died", "other"
    ]


class CaseReopened(Form):
    """case.reopened"""

    reason: Literal["person-came-back", "new-facts", "closed-by-mistake", "other"]


class ReflectionStarted(Form):
    """reflection.started: she is left in peace until then. How long is the law's to say, to be confirmed by counsel."""

    until: When


class ReflectionEnded(Form):
    """reflection.ended: that it ended, and never what she decided."""

    reason: Literal["elapsed", "person-asked", "other"]


class ConferenceCalled(Form):
    """conference.called: those who assist her meet about what comes next."""

    at: When
    how: Literal["in-person", "telephone", "video"]
    place: Text | None = Field(None, json_schema_extra=IDENTITY)
    participants: tuple[Text, ...] | None = Field(None, min_length=1, max_length=30, json_schema_extra=IDENTITY)
    agenda: Note | None = Field(None, json_schema_extra=IDENTITY)


class ConferenceDecided(Form):
    """conference.decided"""

    held_at: When
    decisions: tuple[Decision, ...] = Field(min_length=1, max_length=10)
    person_heard: bool
    """Whether she was asked what she wants, herself or through somebody whom she chose."""
    review_at: When | None = None
    participants: tuple[Text, ...] | None = Field(None, min_length=1, max_length=30, json_schema_extra=IDENTITY)
    note: Note | None = Field(None, json_schema_extra=IDENTITY)

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.review_at is not None and self.review_at <= self.held_at:
            raise ValueError("reviewed before it was held")
        if len(set(self.decisions)) != len(self.decisions):
            raise ValueError("a decision said twice")
        return self


class HandoverAcknowledged(Form):
    """handover.acknowledged: all that those who handed a person over are told."""

    taken_over: bool
    telephone: OfficeTelephone | None = None
    """Whom to call about it."""


MODELS: Mapping[str, type[Form]] = {
    "case.handover": CaseHandover,
    "case.closed": CaseClosed,
    "case.reopened": CaseReopened,
    "reflection.started": ReflectionStarted,
    "reflection.ended": ReflectionEnded,
    "conference.called": ConferenceCalled,
    "conference.decided": ConferenceDecided,
    "handover.acknowledged": HandoverAcknowledged,
}
