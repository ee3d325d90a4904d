# SPDX-License-Identifier: Apache-2.0
"""Invented facts of how it begins: a person identified, referred, answered; and receipts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from schemas.forms import (
    Answer,
    Birth,
    Caregiver,
    Consent,
    Facts,
    Interpreter,
    Lawful,
    Name,
    Receipt,
    Referral,
    Risk,
    SafeContact,
    Service,
)
from umuhuza.examples.cast import NOW

CONSENT = Lawful(
    basis="consent",
    consent=Consent(
        given_at=NOW - timedelta(days=1), expires_at=NOW + timedelta(days=90), how="thumbprint", language="rn"
    ),
)
VITAL = Lawful(basis="vital-interests", author="Diane Ndayisenga", reason="En danger immédiat cette nuit.")
DUTY = Lawful(
    basis="legal-duty",
    legal_reference="Texte fictif du 1er janvier 2026, article 1",
    author="Diane Ndayisenga",
    reason="Identification par la police.",
)
GUARDIAN = Caregiver(
    status="guardian", name="Espérance Nininahazwe", relation="tante", best_interest_note="Reste avec sa tante."
)
RECEIPT = Receipt(record_sha256="ab" * 32, signed_sha256="cd" * 32, topic="bi.referral.k7t4", offset=7, received_at=NOW)


def referral(**changes: Any) -> Referral:
    return Referral(
        **{
            "priority": "urgent",
            "name": Name(as_given="Keza Uwimana", first="Keza", last="Uwimana"),
            "birth": Birth(precision="day", date="1999-05-17", basis="document"),
            "services": ("SocialCare", "Health"),
            "local_service": "hébergement, deux semaines",
            "languages": ("rn", "fr"),
            "interpreter": Interpreter(needed=True, language="rn", sex_preferred="female"),
            "safe_contact": SafeContact(channel="sms", address="+25779000000", never_contact=("son oncle",)),
            "risk": Risk(level="high", from_whom="l'employeur"),
            "dependants": (3,),
            "reason": "Elle veut partir.\nElle a peur.",
            "feedback_by": NOW + timedelta(days=2),
            **changes,
        }
    )


def requested(**changes: Any) -> Facts:
    return Facts(
        **{
            "occurred_at": NOW - timedelta(hours=2),
            "htcds": {
                "prs_Gender": "Feminine",
                "prs_FirstName": "Keza",
                "prs_Citizenship": ("BI", "RW"),
                "vic_TypeOfExploitation": ("ForcedLabour",),
                "cas_OutgoingReferralDate": "2026-11-03",
                "con_Consent": "true",
            },
            "lawful": CONSENT,
            "referral": referral(),
            **changes,
        }
    )


def child(caregiver: Caregiver | None, lawful: Lawful = CONSENT) -> Facts:
    born = Birth(precision="month", date="2012-02", basis="declared")
    return requested(referral=referral(birth=born, caregiver=caregiver), lawful=lawful)


def identified(**changes: Any) -> Facts:
    return Facts(
        **{
            "occurred_at": NOW - timedelta(days=1),
            "htcds": {
                "prs_FirstName": "Keza",
                "prs_SecondName": "Uwimana",
                "prs_Birthdate": "1999-05-17",
                "vic_TraffickingStatus": "PossibleVictimOfTrafficking",
                "cas_Status": "Active",
                "vic_AgeWhenTrafficked": "17",
            },
            "lawful": DUTY,
            **changes,
        }
    )


SAMPLES: dict[str, tuple[Facts, ...]] = {
    "case.identified": (
        identified(),
        identified(
            birth=Birth(precision="age", age_years=15, basis="estimated"),
            caregiver=Caregiver(status="pending"),
            lawful=VITAL,
        ),
    ),
    "case.screened": (identified(birth=Birth(precision="year", date="1999"), lawful=CONSENT),),
    "referral.requested": (
        requested(),
        child(GUARDIAN),
        child(Caregiver(status="pending"), VITAL),
        requested(referral=referral(name=Name(as_given="فاطمة", script="Arab")), htcds={}),
    ),
    "referral.received": (Facts(occurred_at=NOW),),
    "referral.accepted": (Facts(occurred_at=NOW, htcds={"cas_IncomingReferralDate": "2026-11-03"}),),
    "referral.declined": (Facts(occurred_at=NOW, answer=Answer(reason="no-capacity")),),
    "referral.started": (Facts(occurred_at=NOW),),
    "referral.completed": (Facts(occurred_at=NOW, answer=Answer(outcome="goals-met")),),
    "service.provided": (
        Facts(occurred_at=NOW, service=Service(type="Health", began_at=NOW - timedelta(days=3), ended_at=NOW)),
        Facts(occurred_at=NOW, service=Service(type="Legal", began_at=NOW)),
    ),
    "receipt.delivered": (Facts(occurred_at=NOW, receipt=RECEIPT),),
    "receipt.rejected": (
        Facts(
            occurred_at=NOW,
            receipt=RECEIPT.model_copy(update={"code": "payload_invalid", "path": "content.payload.entry[2].*"}),
        ),
    ),
    "chain.voided": (Facts(occurred_at=NOW),),
}
