# SPDX-License-Identifier: Apache-2.0
"""Flow `directory`: services published, beds asked for without a name.

    service.published       a provider to everybody: what it offers, to whom, how full it is, until when that holds
    availability.asked      front line to a provider: so many places for this kind of person, from when
    availability.answered   yes, kept until `hold_until`; or no, and why
    availability.held       the asker takes the place
    availability.released   it is not needed (asker), or could not be kept (provider)

Invariants: no person and no address, in any of them; a shelter says how full it is in bands, never its number of beds.
Must never: get a free text field, since a name could stand in it; telephone and name are those of the service.

Source of the types of service: HTCDS 2.0 spl_Type (IOM, CC BY 4.0); a provider's own code says what HTCDS has no word
for ("hebergement").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.forms import Form, LanguageTag, Text, When

ServiceType = Literal[
    "Education",
    "Financial",
    "Health",
    "LabourExploitationRehabilitation",
    "Legal",
    "Livelihood",
    "RightsBasedTraining",
    "SexualExploitationRehabilitation",
    "SocialCare",
]
"""HTCDS spl_Type."""
LocalCode = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
"""A code of the provider's own: "hebergement", "ecoute-nuit"."""
Telephone = Annotated[str, StringConstraints(pattern=r"^[+]?[0-9][0-9 ]{2,24}$")]
"""Of an office or a duty line, never of a person served."""
AgeBand = Literal["adult", "child"]
Sex = Literal["female", "male", "any"]
Band = Literal["none", "few", "some", "many"]
"""Free places: none; 1 or 2; 3 to 9; 10 and more."""

MAX_PLACES = 20
"""Asked for at once: a family, not a transport."""


class Hours(Form):
    """When it is open, in the service's own time; several for several days."""

    days: Literal["daily", "weekdays", "weekend"]
    opens: Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    """24 h digits."""
    closes: Annotated[str, StringConstraints(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]


class Capacity(Form):
    """How full it is, and until when anybody should believe that."""

    band: Band
    until: When


class ServicePublished(Form):
    """One service of one provider; a later one with the same `entry` replaces it."""

    entry: LocalCode
    """Which of the provider's services."""
    name: Text
    """As the provider wants it shown; a protected place gives its handle's neutral name."""
    types: tuple[ServiceType, ...] = Field(min_length=1, max_length=9)
    local: LocalCode | None = None
    """What HTCDS has no word for."""
    ages: tuple[AgeBand, ...] = Field(min_length=1, max_length=2)
    """Whom it takes."""
    sexes: tuple[Literal["female", "male"], ...] = Field(min_length=1, max_length=2)
    languages: tuple[LanguageTag, ...] = Field((), max_length=20)
    hours: tuple[Hours, ...] = Field((), max_length=7)
    """Empty: at any hour."""
    telephone: Telephone
    capacity: Capacity | None = None
    """Absent: not counted in places, or telephone."""
    valid_until: When
    """After this nobody lists it any more."""
    withdrawn: bool = False
    """No longer offered: listed nowhere from now on."""


class AvailabilityAsked(Form):
    """A place for somebody; nothing by which she could be told from others."""

    service: ServiceType
    local: LocalCode | None = None
    age: AgeBand
    """An age unknown or disputed counts as a child's."""
    sex: Sex
    count: int = Field(1, ge=1, le=MAX_PLACES)
    needed_from: When
    languages: tuple[LanguageTag, ...] = Field((), max_length=10)


class AvailabilityAnswered(Form):
    """A yes keeps the places until `hold_until`; only the asker's `availability.held` makes them hers. Kept until the
    moment of the answer itself: there is a place, and it is not kept."""

    answer: Literal["yes", "no"]
    hold_until: When | None = None
    """With a yes."""
    reason: Literal["full", "not-for-this-person", "not-our-service", "closed", "other"] | None = None
    """With a no."""
    telephone: Telephone | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.hold_until is not None) != (self.answer == "yes"):
            raise ValueError("a yes, and only a yes, is kept until a time")
        if (self.reason is not None) != (self.answer == "no"):
            raise ValueError("a no, and only a no, has a reason")
        return self


class AvailabilityHeld(Form):
    """The asker takes it."""

    expected_at: When | None = None


class AvailabilityReleased(Form):
    """A place that was taken is free again, and why."""

    reason: Literal["another-place", "not-needed", "too-late", "place-lost", "other"]
    """`too-late`, `place-lost`: the provider could not keep it."""


MODELS: Mapping[str, type[Form]] = {
    "service.published": ServicePublished,
    "availability.asked": AvailabilityAsked,
    "availability.answered": AvailabilityAnswered,
    "availability.held": AvailabilityHeld,
    "availability.released": AvailabilityReleased,
}


def band_of(places: int) -> Band:
    """What of a number of free places is said."""
    if places <= 0:
        return "none"
    if places <= 2:
        return "few"
    return "some" if places <= 9 else "many"
