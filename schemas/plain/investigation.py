# SPDX-License-Identifier: Apache-2.0
"""Flow `investigation`: among police and judiciary, and notices of proceedings, also to legal aid.

Act, means and purpose are the elements of trafficking in persons in the Palermo Protocol (2000), article 3, as codes of
ours; where the person is a child, no means is needed. Roles in the process are HTCDS 2.0 per_RoleInProcess (IOM, CC BY
4.0).
Invariants: nothing of it reaches an agency that assists (`topics/policy/investigation.toml`); files are named by the
registry's number, and what people wrote travels in the identity part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.forms import IDENTITY, Form, Note, Text, When
from schemas.plain.directory import Telephone

Act = Literal["recruitment", "transportation", "transfer", "harbouring", "receipt"]
Means = Literal[
    "threat-or-force",
    "other-coercion",
    "abduction",
    "fraud",
    "deception",
    "abuse-of-power",
    "abuse-of-vulnerability",
    "payments-to-who-controls",
]
ExploitationPurpose = Literal[
    "prostitution-of-others",
    "other-sexual-exploitation",
    "forced-labour",
    "slavery",
    "practices-similar-to-slavery",
    "servitude",
    "organ-removal",
    "other",
]
Stage = Literal["preliminary", "investigation", "prosecution", "trial", "judgment", "appeal", "closed"]
RoleInProcess = Literal[
    "TravellingPartner",
    "Transporter",
    "RecruiterOrIntermediary",
    "BrokerTravelAgent",
    "TransferredIndividual",
    "HarbouredIndividual",
    "SoldIndividual",
    "BoughtIndividual",
    "ReceivedIndividual",
    "ControlledIndividual",
    "Smuggler",
    "Abuser",
    "Kidnapper",
    "Exploiter",
    "Other",
]
"""HTCDS per_RoleInProcess."""
Measure = Literal["no-contact", "no-approach", "anonymity", "escort", "closed-hearing", "remote-hearing"]
Outcome = Literal["conviction", "acquittal", "dismissed", "transferred"]


class Suspects(Form):
    """How many persons in one role: no names."""

    role: RoleInProcess
    count: int = Field(1, ge=1, le=999)


class Investigation(Form):
    """One file, as it stands."""

    stage: Stage
    acts: tuple[Act, ...] = Field(min_length=1, max_length=5)
    means: tuple[Means, ...] = Field((), max_length=8)
    purposes: tuple[ExploitationPurpose, ...] = Field(min_length=1, max_length=8)
    child: Literal["yes", "no", "unknown"]
    """Whether a child is among those trafficked."""
    victims: int | None = Field(None, ge=0, le=9999)
    suspects: tuple[Suspects, ...] = Field((), max_length=15)
    cross_border: Literal["yes", "no", "unknown"] = "unknown"
    outcome: Outcome | None = None
    """Only from the judgment on."""
    file_number: Text = Field(json_schema_extra=IDENTITY)
    """As the opening office numbers it."""
    summary: Note | None = Field(None, json_schema_extra=IDENTITY)

    @model_validator(mode="after")
    def _elements(self) -> Self:
        if not self.means and self.child == "no" and self.stage != "preliminary":
            raise ValueError("where no child is concerned, the means is an element")
        if self.outcome is not None and self.stage not in ("judgment", "appeal", "closed"):
            raise ValueError("no outcome before the judgment")
        return self


class InvestigationOpened(Investigation):
    """A file is open; between police and judiciary only."""

    opened_at: When


class InvestigationUpdated(Investigation):
    """Where the file stands now."""

    updated_at: When


class ProceedingNotice(Form):
    """What somebody has to be told in time; also to legal aid."""

    notice: Literal["hearing", "protection-order", "compensation"]
    at: When
    """Of the hearing; from when the order holds; of the decision on compensation."""
    until: When | None = None
    """Until when the order holds, or the compensation can be claimed."""
    measures: tuple[Measure, ...] = Field((), max_length=6)
    interpreter: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")] | None = None
    """Language in which the court provides one."""
    court: Text = Field(json_schema_extra=IDENTITY)
    file_number: Text = Field(json_schema_extra=IDENTITY)
    person: Text | None = Field(None, json_schema_extra=IDENTITY)
    """Whom it concerns, as the reader knows her."""
    telephone: Telephone

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.until is not None and self.until <= self.at:
            raise ValueError("ends before it begins")
        return self


MODELS: Mapping[str, type[Form]] = {
    "investigation.opened": InvestigationOpened,
    "investigation.updated": InvestigationUpdated,
    "proceeding.notice": ProceedingNotice,
}
