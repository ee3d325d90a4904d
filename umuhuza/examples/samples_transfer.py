# SPDX-License-Identifier: Apache-2.0
"""Invented facts of the bilateral flow and of statistics."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from schemas.forms import Authorisation, Birth, Caregiver, Consent, Facts, Form, Lawful, Name, Referral
from schemas.plain.statistics import Count, StatisticsSubmitted
from schemas.plain.transfer import (
    ReturnCounselled,
    ReturnDeparted,
    ReturnDocumented,
    ReturnFollowedUp,
    ReturnReceived,
    ReturnRiskAssessed,
    TransferAccepted,
    TransferDeclined,
    TransferRequested,
)
from umuhuza.examples.cast import NOW

RETURN = Lawful(
    basis="consent",
    consent=Consent(
        given_at=NOW - timedelta(days=1), expires_at=NOW + timedelta(days=90), language="ar", scope=("return",)
    ),
)
DECISIONS = tuple(
    Authorisation(authority=each, reference=f"2026/{number}", decided_at=NOW - timedelta(days=3))
    for number, each in enumerate(("guardian", "family-judge", "data-protection-authority"), 1)
)


def transfer(*, birth: Birth | None = None, caregiver: Caregiver | None = None, **changes: Any) -> Facts:
    """A woman's return to Burundi, asked for as it should be."""
    referral = Referral(
        priority="normal",
        name=Name(as_given="Keza Uwimana"),
        birth=birth or Birth(precision="year", date="1999"),
        services=("SocialCare",),
        languages=("rn", "ar"),
        caregiver=caregiver,
        reason="Elle veut rentrer chez sa mère.",
    )
    said: dict[str, Any] = {
        "referral": referral,
        "agreement": "demo-2026",
        "origin": "bi",
        "asylum_wished": False,
        "voluntariness": "voluntary",
        "voluntariness_recorded_at": NOW - timedelta(days=2),
        **changes,
    }
    return Facts(occurred_at=NOW - timedelta(hours=2), lawful=RETURN, said=TransferRequested(**said))


def child(**changes: Any) -> Facts:
    guardian = Caregiver(status="guardian", name="Espérance Nininahazwe", best_interest_note="Auprès de sa tante.")
    return transfer(birth=Birth(precision="age", age_years=12), caregiver=guardian, **changes)


def _facts(said: Form) -> Facts:
    return Facts(occurred_at=NOW, said=said)


SAMPLES: dict[str, tuple[Facts, ...]] = {
    "transfer.requested": (transfer(authorisations=DECISIONS[2:]), child(authorisations=DECISIONS), transfer()),
    "transfer.accepted": (
        _facts(TransferAccepted()),
        _facts(TransferAccepted(expected_from=NOW + timedelta(days=9))),
    ),
    "transfer.declined": (_facts(TransferDeclined(reason="unsafe-there")),),
    "transfer.expired": (Facts(occurred_at=NOW),),
    "transfer.reopened": (Facts(occurred_at=NOW),),
    "return.counselled": (_facts(ReturnCounselled(decision="wishes-to-return", language="ar")),),
    "return.risk-assessed": (_facts(ReturnRiskAssessed(level="medium", assessed="both-sides", family="safe")),),
    "return.documented": (_facts(ReturnDocumented(document="laissez-passer", valid_until=NOW + timedelta(days=60))),),
    "return.departed": (_facts(ReturnDeparted(by="air", expected_at=NOW + timedelta(hours=14), escort="escorted")),),
    "return.received": (_facts(ReturnReceived(received_by="agency")),),
    "return.followed-up": (_facts(ReturnFollowedUp(situation="in-services", next_at=NOW + timedelta(days=30))),),
    "statistics.submitted": (
        _facts(
            StatisticsSubmitted(
                period="2026-H2",
                place="BI-BM",
                counted="persons-identified",
                persons=14,
                counts=(
                    Count(field="prs_Gender", code="Feminine", count=11),
                    Count(field="prs_Gender", code="Masculine", count=3),
                    Count(field="vic_TypeOfExploitation", code="ForcedLabour", count=9),
                ),
            )
        ),
        _facts(StatisticsSubmitted(period="2026-H2", place="national", counted="cases-opened", persons=0, counts=())),
    ),
}
