# SPDX-License-Identifier: Apache-2.0
"""Rules of an event that both sides enforce: its members, its lawful basis, a child's safeguards, transfers, alerts.

Purpose: what one adapter sent the other does not refuse; both ask here, the sender of what is left after minimising.
Invariants: pure; the time is `recorded_at`, an argument. What depends on who asks whom is the policy's
(`topics.catalogue`), what depends on a thread is `schemas.lifecycle`'s.
Must never: put a value into an error.

Paths in errors begin with a member of `Facts` (`referral.birth`, `lawful.consent.expires_at`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from schemas import fhir, lifecycle, plain
from schemas.claims import Claims, SafeguardClaim
from schemas.elements import TABLES
from schemas.errors import PayloadError, PolicyError
from schemas.event_types import EVENTS, PURPOSES, Purpose
from schemas.forms import Authorisation, Facts, Lawful
from schemas.minimise import LEAVES, listed
from schemas.plain.alert import AlertMissing
from schemas.plain.record import RecordRetracted
from schemas.plain.transfer import TransferRequested
from schemas.whom import age_at, caregiver_of


def step_of(type: str, facts: Facts) -> str:
    """What `lifecycle.step` calls this event: its type, with its code where that makes another step of it."""
    variant = EVENTS[type].variant
    return type if variant is None else f"{type}/{getattr(facts.said, variant, '')}"


def step_on(machine: str, state: str, type: str, facts: Facts, by: lifecycle.Party, opened_by: str) -> lifecycle.Step:
    """The step that an event makes on a thread that is there.

    Only the retraction of the record that began the thread retracts the thread: what is taken back of one later word
    takes no bed with it.

    Args:
        opened_by: the `evt` that began the thread.

    Raises:
        OrderError: as `lifecycle.step`.
    """
    step = lifecycle.step(machine, state, step_of(type, facts), by)
    if isinstance(facts.said, RecordRetracted) and facts.said.evt != opened_by:
        return replace(step, state=state)
    return step


_MEMBERS = tuple(name for name in Facts.model_fields if name not in ("occurred_at", "htcds"))
# Which event says which of the members that several share a form for: member -> the one event that has it.
_ANSWERS = {"reason": "referral.declined", "outcome": "referral.completed", "end_reason": "referral.ended"}
_TIMES = {"departed_at": "movement.departed", "expected_at": "movement.departed", "arrived_at": "movement.arrived"}


def check_members(type: str, facts: Facts) -> None:
    """Which members of Facts an event has.

    Raises:
        PayloadError: `payload_invalid`, one is missing or has no place.
        PolicyError: `consent_missing`, neither consent nor another basis.
    """
    event = EVENTS[type]
    if type in PURPOSES and facts.lawful is None:
        raise PolicyError("consent_missing", path="lawful")
    for name in _MEMBERS:
        there = getattr(facts, name) is not None
        if there != (name in event.needs) and not (there and name in event.may):
            raise PayloadError("payload_invalid", path=name)
    if facts.said is not None and facts.said.__class__ is not plain.PLAIN[type]:
        raise PayloadError("payload_invalid", path="said")
    if facts.htcds and type not in TABLES:
        raise PayloadError("payload_invalid", path="htcds")
    for at, form, whose in (("answer", facts.answer, _ANSWERS), ("movement", facts.movement, _TIMES)):
        for name, only in whose.items():
            if form is not None and (getattr(form, name) is not None) != (type == only):
                raise PayloadError("payload_invalid", path=f"{at}.{name}")
    if type == "information.answered" and facts.information is None and not facts.htcds:
        raise PayloadError("payload_invalid", path="information")  # it answers nothing
    if facts.receipt is not None:
        rejected = type == "receipt.rejected"
        if (facts.receipt.code is not None) != rejected:
            raise PayloadError("payload_invalid", path="receipt.code")
        if facts.receipt.path is not None and not rejected:
            raise PayloadError("payload_invalid", path="receipt.path")


_CONSENT_SCOPES: Mapping[Purpose, str] = MappingProxyType(
    {
        "assistance": "referral",
        "identification": "referral",
        "coordination": "referral",
        "investigation": "investigation",
        "return": "return",
    }
)
"""Purpose -> what she must have consented to. A correction goes to who has the record already, whatever it was for."""
CONSENT_AHEAD = timedelta(days=1)
"""Clocks in the field differ by so much; dated later, a consent has not been given."""


def _lawful(type: str, lawful: Lawful, recorded_at: datetime) -> None:
    """Rule 1: consent for this recipient, purpose and period; else a coded basis with author and reason.

    Raises:
        PolicyError: `consent_missing`, `consent_expired`.
        PayloadError: `payload_invalid`.
    """
    if lawful.basis == "consent":
        if lawful.consent is None:
            raise PolicyError("consent_missing", path="lawful.consent")
        if lawful.consent.expires_at <= recorded_at:
            raise PolicyError("consent_expired", path="lawful.consent.expires_at")
        if lawful.consent.given_at > recorded_at + CONSENT_AHEAD:
            raise PolicyError("consent_missing", path="lawful.consent.given_at")
        asked = _CONSENT_SCOPES.get(PURPOSES[type])
        if asked is not None and asked not in lawful.consent.scope:
            raise PolicyError("consent_missing", path="lawful.consent.scope")
    elif lawful.consent is not None:
        raise PayloadError("payload_invalid", path="lawful.consent")
    else:
        for name in ("author", "reason"):
            if getattr(lawful, name) is None:
                raise PayloadError("payload_invalid", path=f"lawful.{name}")
    if (lawful.legal_reference is not None) != (lawful.basis == "legal-duty"):
        raise PayloadError("payload_invalid", path="lawful.legal_reference")


def _safeguards(claim: SafeguardClaim, facts: Facts) -> None:
    """Rule 3: children, and people who may be children.

    Raises:
        PayloadError: `safeguard_missing`, at the caregiver or the member of it that is missing.
    """
    basis = facts.lawful.basis if facts.lawful is not None else None
    caregiver, path = caregiver_of(facts)
    if caregiver is not None and caregiver.status == "suspected" and caregiver.informed:
        raise PayloadError("safeguard_missing", path=f"{path}.informed")  # never notified
    if claim.age == "adult":
        return
    if claim.guardian is None:
        raise PayloadError("safeguard_missing", path=path)
    if claim.guardian == "pending":
        if basis != "vital-interests":
            raise PayloadError("safeguard_missing", path=f"{path}.status")
    elif not claim.best_interest:
        raise PayloadError("safeguard_missing", path=f"{path}.best_interest_note")
    if claim.guardian == "suspected" and basis == "consent":  # whose would it be?
        raise PayloadError("safeguard_missing", path=f"{path}.status")


def _authorised(held: tuple[Authorisation, ...], recorded_at: datetime) -> None:
    """A decision that has run out is none, nor is one that has not been taken yet.

    Raises PayloadError: `safeguard_missing`.
    """
    for index, one in enumerate(held):
        if one.decided_at > recorded_at:
            raise PayloadError("safeguard_missing", path=f"lawful.authorisations[{index}].decided_at")
        if one.expires_at is not None and one.expires_at <= recorded_at:
            raise PayloadError("safeguard_missing", path=f"lawful.authorisations[{index}].expires_at")


def check_rules(type: str, facts: Facts, claims: Claims | None, recorded_at: datetime) -> None:
    """What is said rests on something, and nothing is missing that protects whom it is about.

    Args:
        recorded_at: when it was written down: consents and decisions are held against it.

    Raises:
        PayloadError: `payload_invalid`, `safeguard_missing`, with a path of `facts`.
        PolicyError: `consent_missing`, `consent_expired`, `agreement_missing`.
    """
    if facts.lawful is not None:
        _lawful(type, facts.lawful, recorded_at)
        if facts.lawful.authorisations and isinstance(facts.said, TransferRequested):
            raise PayloadError("payload_invalid", path="lawful.authorisations")  # they stand beside the agreement
        _authorised(facts.lawful.authorisations, recorded_at)
    if claims is not None and claims.safeguards is not None:
        _safeguards(claims.safeguards, facts)
    if isinstance(facts.said, TransferRequested):
        _transfer(facts.said, facts.lawful, recorded_at)
    if isinstance(facts.said, AlertMissing):
        _missing(facts.said)


def _missing(said: AlertMissing) -> None:
    """An adult who left freely is not looked for, whatever else the alert calls her.

    Raises PayloadError: `payload_invalid`.
    """
    if said.birth is None or said.circumstance != "left-freely":
        return
    if age_at(said.birth, said.missing_since.date()) == "adult":
        raise PayloadError("payload_invalid", path="said.circumstance")


def _transfer(said: TransferRequested, lawful: Lawful | None, recorded_at: datetime) -> None:
    """What the policy need not be asked: an authorisation that has run out is none, and a refusal of hers counts.

    Raises PolicyError: `agreement_missing`, `consent_missing`.
    """
    for index, one in enumerate(said.authorisations):
        if one.expires_at is not None and one.expires_at <= recorded_at:
            raise PolicyError("agreement_missing", path=f"said.authorisations[{index}].expires_at")
    if lawful is not None and lawful.basis == "consent":
        refused = frozenset(
            name for each in said.referral.told_and_refused for name in (each, each.removeprefix("referral."))
        )
        for path in fhir.said(Facts(occurred_at=recorded_at, referral=said.referral), LEAVES):
            if listed(path.removeprefix("referral."), refused):
                raise PolicyError("consent_missing", path=f"said.{path}")
