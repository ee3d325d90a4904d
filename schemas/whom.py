# SPDX-License-Identifier: Apache-2.0
"""Whom an event is about, as far as it says: her referral form, her caregiver, how old she is.

Invariants: who may be a child is never called an adult: a birth that is disputed, known too roughly, or told in two
ways is `unknown`. Days are compared, no clock is read: the day is the event's own.
Must never: put a value into an error.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from schemas.forms import Birth, Caregiver, Facts, Referral
from schemas.plain.alert import AlertMissing
from schemas.plain.record import RecordCorrected
from schemas.plain.transfer import TransferRequested

Age = Literal["adult", "child", "unknown"]
ADULT_YEARS = 18
"""Palermo Protocol, article 3 (d)."""


def _years(born: date, on: date) -> int:
    return on.year - born.year - ((on.month, on.day) < (born.month, born.day))


def _age_at(text: str, on: date) -> Age:
    """Age class of someone born on a day, in a month or in a year; `unknown` when that leaves both open."""
    earliest = date.fromisoformat(text + "0001-01-01"[len(text) :])
    if len(text) == 10:
        latest = earliest
    elif len(text) == 7:
        latest = (earliest + timedelta(days=31)).replace(day=1) - timedelta(days=1)
    else:
        latest = earliest.replace(month=12, day=31)
    if _years(latest, on) >= ADULT_YEARS:
        return "adult"
    return "child" if _years(earliest, on) < ADULT_YEARS else "unknown"


def referral_of(facts: Facts) -> Referral | None:
    """The referral form of an event: its own, or that of a transfer."""
    return facts.said.referral if isinstance(facts.said, TransferRequested) else facts.referral


def caregiver_of(facts: Facts) -> tuple[Caregiver | None, str]:
    """The caregiver, and where in the facts."""
    referral = referral_of(facts)
    if referral is None:
        return facts.caregiver, "caregiver"
    return referral.caregiver, "referral.caregiver" if facts.referral is not None else "said.referral.caregiver"


def age_of(facts: Facts) -> Age:
    """Adult, child or unknown at `occurred_at`: from the birth, else from `prs_Birthdate`. Disputed is unknown, and so
    is what a case says in both places in two ways."""
    referral = referral_of(facts)
    birth = referral.birth if referral is not None else facts.birth
    on = facts.occurred_at.date()
    born = facts.htcds.get("prs_Birthdate") if referral is None else None
    other: Age | None = _age_at(born, on) if isinstance(born, str) else None
    if birth is None:
        return other or "unknown"
    found = age_at(birth, on)
    return found if other in (None, found) else "unknown"


def age_at(birth: Birth, on: date) -> Age:
    """Age class on that day of somebody born so."""
    if birth.basis == "disputed":
        return "unknown"
    if birth.date is not None:
        return _age_at(birth.date, on)
    if birth.age_years is None:
        return "unknown"
    return "adult" if birth.age_years >= ADULT_YEARS else "child"


def age_told(facts: Facts) -> Age | None:
    """How old she is as far as this event alone says; None: it does not say."""
    said = facts.said
    if isinstance(said, AlertMissing):
        return said.age
    if referral_of(facts) is not None or facts.birth is not None or "prs_Birthdate" in facts.htcds:
        return age_of(facts)
    birth = said.birth if isinstance(said, RecordCorrected) else None
    if facts.information is not None:
        birth = facts.information.birth
    return None if birth is None else age_of(Facts(occurred_at=facts.occurred_at, birth=birth))
