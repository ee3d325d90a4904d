# SPDX-License-Identifier: Apache-2.0
"""Invented facts of the rights flow."""

from __future__ import annotations

from datetime import timedelta

from schemas.forms import Facts, Form, Name
from schemas.plain.rights import (
    AccessAnswered,
    AccessRequested,
    DisclosureEnded,
    DisclosureGranted,
    DisclosureRefused,
    DisclosureRequested,
    DisclosureReviewed,
    ErasureAttested,
    ErasureExecuted,
    ErasureRequested,
    Held,
)
from umuhuza.examples.cast import NOW, evt_of

RECORD = f"bi/iom/{evt_of('referral.requested')}"


def _facts(said: Form) -> Facts:
    return Facts(occurred_at=NOW, said=said)


SAMPLES: dict[str, tuple[Facts, ...]] = {
    "disclosure.requested": (
        _facts(
            DisclosureRequested(
                capacity="court",
                order="Ordonnance fictive 12 du 2 novembre 2026",
                scope=("content",),
                expires_at=NOW + timedelta(days=30),
                record=RECORD,
            )
        ),
        _facts(
            DisclosureRequested(
                capacity="auditor",
                order="Mission fictive 3",
                scope=("content", "identity"),
                expires_at=NOW + timedelta(days=30),
                subject="L'orientation d'Aline Ndayizeye en octobre.",
            )
        ),
    ),
    "disclosure.granted": (
        _facts(
            DisclosureGranted(
                record=RECORD,
                scope=("content",),
                expires_at=NOW + timedelta(days=30),
                manifest=("eyJhbGciOiJFUzI1NiJ9.e30.c2ln",),
                body=("eyJhbGciOiJkaXIifQ..aXY.Y3Q.dGFn~eyJhbGciOiJkaXIifQ..aXY.Y3Q.dGFn",),
                keys=("eyJ2IjoxfQ",),
            )
        ),
    ),
    "disclosure.refused": (
        _facts(DisclosureRefused(reason="no-order")),
        _facts(DisclosureRefused(reason="other", note="Voir la lettre de Diane Ndayisenga.")),
    ),
    "disclosure.reviewed": (
        _facts(DisclosureReviewed(role="data-protection", outcome="upheld", reviewer="Diane Ndayisenga")),
    ),
    "disclosure.ended": (_facts(DisclosureEnded(record=RECORD, reason="expired")),),
    "access.requested": (
        _facts(
            AccessRequested(
                person=Name(as_given="Keza Uwimana"),
                wants=("what-is-held", "recipients"),
                verified_by="ticket",
                language="rn",
                note="Elle veut savoir qui a lu son dossier.",
            )
        ),
        _facts(
            AccessRequested(
                person=Name(as_given="Keza Uwimana"),
                wants=("copy",),
                verified_by="document",
                checked_by="Diane Ndayisenga",
                record=RECORD,
            )
        ),
    ),
    "access.answered": (
        _facts(
            AccessAnswered(
                outcome="answered",
                held=(Held(record=RECORD, since=NOW - timedelta(days=9), until=NOW + timedelta(days=1800)),),
                onward=2,
                copy_text="Nous avons gardé l'orientation de Keza Uwimana.",
            )
        ),
        _facts(AccessAnswered(outcome="nothing-held")),
        _facts(AccessAnswered(outcome="restricted", legal_reference="Texte fictif du 1er janvier 2026, article 2")),
    ),
    "erasure.requested": (_facts(ErasureRequested(record=RECORD, ground="person")),),
    "erasure.executed": (_facts(ErasureExecuted(record=RECORD, where="mailbox")),),
    "erasure.attested": (
        _facts(
            ErasureAttested(
                record=RECORD,
                gone=("grant", "delivered-copies"),
                remains=("backups", "paper"),
                by_hand=("destroy-other-copies",),
            )
        ),
        _facts(ErasureAttested(record=RECORD, gone=("grant",), by_hand=("find-moved-copies",))),
        _facts(ErasureAttested(record=RECORD, gone=("never-held",))),
    ),
}
