# SPDX-License-Identifier: Apache-2.0
"""Invented facts for the flows directory, alert, investigation and knowledge."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from schemas.forms import Birth, Facts, Form, Lawful, Name
from schemas.plain.alert import AlertCleared, AlertMissing, SafetyWarning
from schemas.plain.directory import (
    AvailabilityAnswered,
    AvailabilityAsked,
    AvailabilityHeld,
    AvailabilityReleased,
    Capacity,
    Hours,
    ServicePublished,
)
from schemas.plain.investigation import InvestigationOpened, InvestigationUpdated, ProceedingNotice, Suspects
from schemas.plain.knowledge import (
    ContactPublished,
    ExpertiseAnswered,
    ExpertiseAsked,
    GuidanceAcknowledged,
    GuidancePublished,
    chunks_of,
)
from umuhuza.examples.cast import NOW, evt_of

AT = NOW
EVENT = evt_of("alert.missing")
KNOWN = evt_of("case.identified")
"""By which police and who took her over know whom a warning concerns."""
DUTY = Lawful(
    basis="legal-duty",
    legal_reference="Texte fictif du 1er janvier 2026, article 2",
    author="Diane Ndayisenga",
    reason="Dossier ouvert par le parquet inventé.",
)
DANGER = Lawful(basis="vital-interests", author="Diane Ndayisenga", reason="Partie sans ses médicaments.")
DOCUMENT = "# Procédure inventée\n\nÉcouter d'abord.\n".encode()


def service(**changes: Any) -> ServicePublished:
    return ServicePublished(
        **{
            "entry": "maison-nuit",
            "name": "Hébergement de nuit",
            "types": ("SocialCare",),
            "local": "hebergement",
            "ages": ("adult",),
            "sexes": ("female",),
            "languages": ("rn", "fr"),
            "hours": (Hours(days="daily", opens="18:00", closes="24:00"),),
            "telephone": "+257 79 00 00 00",
            "capacity": Capacity(band="few", until=AT + timedelta(hours=12)),
            "valid_until": AT + timedelta(days=90),
            **changes,
        }
    )


def asked(**changes: Any) -> AvailabilityAsked:
    return AvailabilityAsked(
        **{
            "service": "SocialCare",
            "local": "hebergement",
            "age": "adult",
            "sex": "female",
            "needed_from": AT,
            "languages": ("rn",),
            **changes,
        }
    )


def missing(**changes: Any) -> AlertMissing:
    return AlertMissing(
        **{
            "age": "child",
            "circumstance": "did-not-return",
            "missing_since": AT - timedelta(hours=5),
            "name": Name(as_given="Keza Uwimana"),
            "birth": Birth(precision="year", date="2011"),
            "sex": "female",
            "description": "Robe verte.",
            "last_seen": "Marché central",
            "telephone": "+257 79 00 00 00",
            **changes,
        }
    )


def opened_file(**changes: Any) -> InvestigationOpened:
    return InvestigationOpened(
        **{
            "stage": "investigation",
            "acts": ("recruitment", "transportation"),
            "means": ("deception", "abuse-of-vulnerability"),
            "purposes": ("forced-labour",),
            "child": "no",
            "victims": 3,
            "suspects": (Suspects(role="RecruiterOrIntermediary", count=2),),
            "file_number": "RMP 4711 (inventé)",
            "summary": "Recrutées pour un emploi qui n'existait pas.",
            "opened_at": AT,
            **changes,
        }
    )


def notice(**changes: Any) -> ProceedingNotice:
    return ProceedingNotice(
        **{
            "notice": "hearing",
            "at": AT + timedelta(days=9),
            "measures": ("closed-hearing",),
            "interpreter": "rn",
            "court": "Tribunal inventé",
            "file_number": "RMP 4711 (inventé)",
            "person": "Keza Uwimana",
            "telephone": "+257 22 00 00 00",
            **changes,
        }
    )


def guidance(data: bytes = DOCUMENT, **changes: Any) -> GuidancePublished:
    return GuidancePublished(
        **{
            "document": "pon-identification",
            "version": 2,
            "supersedes": 1,
            "title_fr": "Procédure inventée",
            "title_en": "Invented procedure",
            "kind": "procedure",
            "media_type": "text/markdown",
            "language": "fr",
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "chunks": chunks_of(data)[0],
            "valid_from": AT,
            **changes,
        }
    )


def contact(**changes: Any) -> ContactPublished:
    return ContactPublished(
        **{
            "entry": "permanence",
            "function": "duty-officer",
            "name_fr": "Permanence de la commission (inventée)",
            "name_en": "Duty office of the commission (invented)",
            "telephone": "+257 22 00 00 01",
            "languages": ("fr", "rn"),
            "around_the_clock": True,
            "valid_until": AT + timedelta(days=365),
            **changes,
        }
    )


def said(form: Form, lawful: Lawful | None = None) -> Facts:
    return Facts(occurred_at=AT, said=form, lawful=lawful)


SAMPLES: dict[str, tuple[Facts, ...]] = {
    "service.published": (said(service()), said(service(capacity=None, hours=(), local=None, withdrawn=True))),
    "availability.asked": (said(asked()), said(asked(age="child", sex="any", count=3, local=None))),
    "availability.answered": (
        said(AvailabilityAnswered(answer="yes", hold_until=AT + timedelta(hours=4), telephone="79000000")),
        said(AvailabilityAnswered(answer="no", reason="full")),
    ),
    "availability.held": (said(AvailabilityHeld(expected_at=AT + timedelta(hours=2))), said(AvailabilityHeld())),
    "availability.released": (said(AvailabilityReleased(reason="another-place")),),
    "alert.missing": (
        said(missing(), DANGER),
        said(missing(age="adult", circumstance="taken", birth=None, description=None, last_seen=None), DUTY),
    ),
    "alert.cleared": (said(AlertCleared(outcome="found-safe", erases=(EVENT,))),),
    "safety.warning": (
        said(SafetyWarning(danger="suspect-released", since=AT, about=KNOWN, telephone="+257 22 00 00 00")),
        said(SafetyWarning(danger="location-compromised", since=AT, telephone="117")),
    ),
    "investigation.opened": (said(opened_file(), DUTY), said(opened_file(stage="preliminary", means=()), DUTY)),
    "investigation.updated": (
        said(
            InvestigationUpdated(
                **opened_file(stage="judgment", outcome="conviction").model_dump(exclude={"opened_at"}), updated_at=AT
            ),
            DUTY,
        ),
    ),
    "proceeding.notice": (
        said(notice(), DUTY),
        said(notice(notice="protection-order", until=AT + timedelta(days=99), person=None, measures=()), DUTY),
    ),
    "guidance.published": (said(guidance()),),
    "guidance.acknowledged": (
        said(GuidanceAcknowledged(document="pon-identification", version=2, sha256="ab" * 32, by="focal-point")),
    ),
    "expertise.asked": (said(ExpertiseAsked(topic="return", question="Comment préparer un retour ?")),),
    "expertise.answered": (
        said(ExpertiseAnswered(answer="Par étapes, avec elle.", documents=("pon-identification",))),
    ),
    "contact.published": (said(contact()),),
}
