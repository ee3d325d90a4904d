# SPDX-License-Identifier: Apache-2.0
"""Invented facts for the later events of a referral's thread."""

from __future__ import annotations

from datetime import datetime, timedelta

from schemas.forms import (
    Answer,
    Birth,
    Caregiver,
    Facts,
    Feedback,
    Information,
    Interpreter,
    Lawful,
    Movement,
    Name,
    Question,
    Risk,
    SafeContact,
)


def samples(now: datetime, consent: Lawful, vital: Lawful) -> dict[str, tuple[Facts, ...]]:
    hour = timedelta(hours=1)
    departed = Movement(departed_at=now - hour, expected_at=now + 3 * hour)
    everything = Information(
        name=Name(as_given="Keza Uwimana", first="Keza", middle="Marie", last="Uwimana"),
        birth=Birth(precision="month", date="1999-05", basis="declared"),
        languages=("rn", "fr"),
        interpreter=Interpreter(needed=True, language="rn"),
        access_needs="Ne peut pas monter d'escalier, dit Keza.",
        pregnant_or_nursing="no",
        dependants=(3, 7),
        safe_contact=SafeContact(channel="sms", address="+25779000000", never_contact=("son oncle",)),
        caregiver=Caregiver(status="guardian", name="Espérance Nininahazwe", relation="tante"),
        risk=Risk(level="high", from_whom="l'employeur"),
        already_given=("Health", "Legal"),
        transport="needed",
        reason="Elle a peur.",
        referring_unit="Antenne nord",
        on_call_telephone="+25779000001",
        not_known=("htcds.prs_Citizenship",),
    )
    return {
        "referral.ended": (
            Facts(occurred_at=now, answer=Answer(end_reason="left"), htcds={"spl_ActualEndDate": "2026-11-02"}),
            Facts(occurred_at=now, answer=Answer(end_reason="died"), htcds={"prs_Deceased": "true"}),
        ),
        "referral.revoked": (Facts(occurred_at=now),),
        "referral.expired": (Facts(occurred_at=now),),
        "referral.reopened": (Facts(occurred_at=now),),
        "information.requested": (
            Facts(
                occurred_at=now,
                question=Question(
                    fields=("information.risk", "htcds.prs_Citizenship"), note="Keza a-t-elle encore peur ?"
                ),
            ),
            Facts(occurred_at=now, question=Question(fields=("information.languages",))),
        ),
        "information.answered": (
            Facts(
                occurred_at=now,
                lawful=consent,
                information=everything,
                htcds={"prs_Gender": "Feminine", "prs_FirstName": "Keza"},
            ),
            Facts(occurred_at=now, lawful=vital, htcds={"prs_Citizenship": ("BI",)}),
            Facts(occurred_at=now, lawful=consent, information=Information(not_known=("information.languages",))),
        ),
        "movement.departed": (Facts(occurred_at=now - hour, movement=departed),),
        "movement.arrived": (Facts(occurred_at=now, movement=Movement(arrived_at=now)),),
        "feedback.given": (
            Facts(occurred_at=now, feedback=Feedback(outcome="going-well")),
            Facts(
                occurred_at=now,
                feedback=Feedback(outcome="needs-more", her_view="partly", still_needed=("Health", "Legal")),
            ),
        ),
    }
