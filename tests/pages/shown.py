# SPDX-License-Identifier: Apache-2.0
"""Every page that the software writes, with invented figures: what the tests look at and the pictures are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from adapters.statistics import Release, Submission, release
from adapters.statistics_html import page
from adapters.ticket_card import card
from schemas.page_words import PageLanguage

CODE = "7K2MQ9RTX4HV"
CONTACT = "+257 22 00 00 00, +257 79 00 00 00, 8:00 – 17:00"
_AT = datetime(2026, 7, 15, tzinfo=UTC)
_BURUNDI = {"BI-BHZ": 5, "BI-BJM": 9, "BI-BRG": 6, "BI-GTG": 7}
_SMALL = {"bi": ("BI-BTY",), "tn": ("TN-71", "TN-72", "TN-73", "TN-82", "TN-83")}
"""Places with a few persons only: they stand together, in Tunisia under a long name."""
_TUNISIA = (11, 12, 13, 14, 21, 22, 23, 31, 32, 33, 34, 41, 42, 43, 51, 52, 53, 61, 81)
_SHARES: Mapping[tuple[str, str], int] = {
    ("prs_Gender", "Feminine"): 11,
    ("prs_Gender", "Masculine"): 6,
    ("vic_TypeOfExploitation", "ForcedLabour"): 8,
    ("vic_TypeOfExploitation", "SexualExploitation"): 7,
    ("vic_TypeOfExploitation", "ForcedMilitaryByNonStateActors"): 3,
    ("vic_TypeOfExploitation", "Other"): 1,
    ("vic_ForcedLabourIndustry", "D_ElectricityGasSteamAndAirConditioningSupply"): 2,
    ("vic_ForcedLabourIndustry", "M_ProfessionalScientificAndTechnicalActivities"): 4,
    ("vic_ForcedLabourIndustry", "T_ActivitiesOfHouseholdsAsEmployers"): 3,
    ("vic_ForcedLabourIndustry", "F_Construction"): 4,
    ("vic_TraffickingStatusDecisionMakingOrg", "NonPoliceGovernmentalOrganization"): 5,
    ("vic_TraffickingStatusDecisionMakingOrg", "CourtOrProsecution"): 3,
}
"""(field, code) -> how many, of some twenty persons."""
_WHOLE = 19


@dataclass(frozen=True, slots=True)
class Shown:
    """A page as somebody opens it."""

    name: str
    language: str
    """What the page says of itself: a card for somebody who speaks Kirundi is in French."""
    html: str


def _released(domain: str, period: str, places: Mapping[str, int]) -> Release:
    """Places -> how many times the shares; the small places of the domain besides."""

    def submission(place: str, persons: int, counts: Mapping[tuple[str, str], int]) -> Submission:
        return Submission(f"{domain}/office", period, place, "persons-assisted", _AT, persons, counts)

    fields = ("prs_Gender", "vic_ForcedLabourIndustry") if domain == "tn" else tuple(field for field, _ in _SHARES)
    shares = {key: share for key, share in _SHARES.items() if key[0] in fields}
    found = [
        submission(place, _WHOLE * factor, {key: share * factor for key, share in shares.items()})
        for place, factor in places.items()
    ]
    found += [submission(place, 6, {("prs_Gender", "Feminine"): 6}) for place in _SMALL[domain]]
    return release(period, found, [], 11)


@cache
def burundi() -> Release:
    """Five provinces of which one is small, four fields, long answers."""
    return _released("bi", "2026-H1", _BURUNDI)


@cache
def tunisia() -> Release:
    """More places than fit beside each other, two fields."""
    return _released("tn", "2026-H2", {f"TN-{number}": 20 + number for number in _TUNISIA})


@cache
def shown() -> Mapping[str, Shown]:
    """By name: cards in four languages, and a release with tables, with many places, and with nothing to publish."""
    cards: tuple[tuple[PageLanguage, str], ...] = (("fr", "fr"), ("en", "en"), ("ar", "ar"), ("rn", "fr"))
    found = [Shown(f"card-{asked}", said, card(CODE, CONTACT, asked)) for asked, said in cards]
    releases: tuple[tuple[str, PageLanguage, Release], ...] = (
        ("statistics-fr", "fr", burundi()),
        ("statistics-en", "en", burundi()),
        ("statistics-ar", "ar", burundi()),
        ("statistics-many-fr", "fr", tunisia()),
        ("statistics-many-ar", "ar", tunisia()),
        ("statistics-nothing-fr", "fr", release("2026-H1", [], [], 11)),
        ("statistics-nothing-ar", "ar", release("2026-H1", [], [], 11)),
    )
    found += [Shown(name, language, page(one, language).decode()) for name, language, one in releases]
    return {one.name: one for one in found}
