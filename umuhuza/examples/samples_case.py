# SPDX-License-Identifier: Apache-2.0
"""Invented facts for the case thread, consent, and what is corrected or retracted."""

from __future__ import annotations

from datetime import timedelta

from schemas.forms import Birth, Caregiver, Consent, Facts, Lawful, Name, Risk, SafeContact
from schemas.plain.case import (
    CaseClosed,
    CaseHandover,
    CaseReopened,
    ConferenceCalled,
    ConferenceDecided,
    HandoverAcknowledged,
    ReflectionEnded,
    ReflectionStarted,
)
from schemas.plain.consent import ConsentAcknowledged, ConsentGranted, ConsentWithdrawn
from schemas.plain.record import CodedAnswer, RecordCorrected, RecordRetracted, Right
from umuhuza.examples.cast import NOW, evt_of

EVT = evt_of("referral.requested")
AGREED = Consent(
    given_at=NOW - timedelta(days=1), expires_at=NOW + timedelta(days=60), how="oral", language="rn", form_version="2"
)
CONSENT = Lawful(basis="consent", consent=AGREED)
VITAL = Lawful(basis="vital-interests", author="Diane Ndayisenga", reason="En danger immédiat cette nuit.")

SAMPLES: dict[str, tuple[Facts, ...]] = {
    "case.updated": (
        Facts(
            occurred_at=NOW,
            htcds={"cas_Status": "Active", "prs_Gender": "Feminine"},
            birth=Birth(precision="age", age_years=15, basis="disputed"),
            caregiver=Caregiver(
                status="representative", best_interest_note="Reste avec sa tante.", child_assent="assent"
            ),
            lawful=CONSENT,
        ),
    ),
    "case.handover": (
        Facts(occurred_at=NOW, said=CaseHandover(taken_over_by="recipient", reason="other-area")),
        Facts(occurred_at=NOW, said=CaseHandover(taken_over_by="another", reason="person-asked")),
    ),
    "case.closed": (Facts(occurred_at=NOW, said=CaseClosed(reason="assistance-completed")),),
    "case.reopened": (Facts(occurred_at=NOW, said=CaseReopened(reason="person-came-back")),),
    "reflection.started": (Facts(occurred_at=NOW, said=ReflectionStarted(until=NOW + timedelta(days=30))),),
    "reflection.ended": (Facts(occurred_at=NOW, said=ReflectionEnded(reason="elapsed")),),
    "conference.called": (
        Facts(
            occurred_at=NOW,
            said=ConferenceCalled(
                at=NOW + timedelta(days=2),
                how="in-person",
                place="Salle inventée, rez-de-chaussée",
                participants=("Diane Ndayisenga", "Aimé Ntahomvukiye"),
                agenda="Où elle vivra après le mois de décembre.",
            ),
            lawful=CONSENT,
        ),
        Facts(occurred_at=NOW, said=ConferenceCalled(at=NOW + timedelta(days=2), how="telephone"), lawful=VITAL),
    ),
    "conference.decided": (
        Facts(
            occurred_at=NOW,
            said=ConferenceDecided(
                held_at=NOW,
                decisions=("shelter", "legal"),
                person_heard=True,
                review_at=NOW + timedelta(days=30),
                note="Elle préfère rester en ville.",
            ),
            lawful=CONSENT,
        ),
        Facts(
            occurred_at=NOW,
            said=ConferenceDecided(held_at=NOW, decisions=("end",), person_heard=False),
            lawful=CONSENT,
        ),
    ),
    "handover.acknowledged": (
        Facts(occurred_at=NOW, said=HandoverAcknowledged(taken_over=True, telephone="+25722000000")),
        Facts(occurred_at=NOW, said=HandoverAcknowledged(taken_over=False)),
    ),
    "consent.granted": (
        Facts(occurred_at=NOW, said=ConsentGranted(extent="full", consent=AGREED)),
        Facts(occurred_at=NOW, said=ConsentGranted(extent="limited", consent=AGREED)),
    ),
    "consent.withdrawn": (
        Facts(occurred_at=NOW, said=ConsentWithdrawn(scope="sharing")),
        Facts(occurred_at=NOW, said=ConsentWithdrawn(scope="service")),
    ),
    "consent.acknowledged": (
        Facts(occurred_at=NOW, said=ConsentAcknowledged(scope="sharing", onward_confirmed=2)),
        Facts(occurred_at=NOW, said=ConsentAcknowledged(scope="service", onward_confirmed=0)),
    ),
    "record.corrected": (
        Facts(
            occurred_at=NOW,
            said=RecordCorrected(
                evt=EVT,
                fields=("referral.birth.date", "htcds.prs_Birthdate"),
                birth=Birth(precision="day", date="2011-05-17", basis="document"),
                reason="not-known-then",
                source="document",
            ),
            lawful=CONSENT,
        ),
        Facts(
            occurred_at=NOW,
            said=RecordCorrected(evt=EVT, fields=("referral.name.as_given",), name=Name(as_given="Kéza Uwimana")),
            lawful=VITAL,
        ),
        Facts(occurred_at=NOW, said=RecordCorrected(evt=EVT, fields=("referral.services",)), lawful=CONSENT),
        Facts(
            occurred_at=NOW,
            lawful=CONSENT,
            said=RecordCorrected(
                evt=EVT,
                fields=("referral.risk.level", "referral.languages", "htcds.prs_FirstName"),
                reason="interpreter",
                source="person",
                right=Right(
                    languages=("rn", "sw"),
                    risk=Risk(level="high", from_whom="son oncle"),
                    safe_contact=SafeContact(channel="sms", address="+25779000000"),
                    dependants=(),
                    reason="Elle a peur.",
                    htcds=(
                        CodedAnswer(field="prs_FirstName", values=("Keza",)),
                        CodedAnswer(field="prs_Citizenship", values=("BI", "RW")),
                    ),
                ),
            ),
        ),
    ),
    "record.retracted": (Facts(occurred_at=NOW, said=RecordRetracted(evt=EVT, reason="wrong-recipient")),),
}
