# SPDX-License-Identifier: Apache-2.0
"""Why a record may be shared, in codes: what stands beside the message inside, for the policy to judge.

Purpose: the claims' forms, how they are made from `Facts`, written down, and held against the message that they stand
beside.
Invariants: claims say the same as the message, as far as its reader sees it; a consent is committed to with a salt of
its own, so that no two records can be joined by it. Author and reason name people: they are identity, and no claim.
Must never: put a value into an error; draw the salt.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, StringConstraints

from schemas import plain
from schemas.errors import PayloadError
from schemas.event_types import PURPOSES, Purpose
from schemas.forms import Authorisation, Authority, Basis, Consent, Facts, Form, Text
from schemas.keys import b64url
from schemas.minimise import under
from schemas.plain.transfer import AgreementId, Country, TransferRequested
from schemas.shape import moment
from schemas.whom import Age, age_of, caregiver_of


class ConsentClaim(Form):
    """That the person consented: when, until when, for what. The rest of it is committed to, not repeated."""

    commitment: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
    """base64url SHA-256 of a salt of its own and the consent (`commitment`): joins no two records."""
    given_at: AwareDatetime
    expires_at: AwareDatetime
    scope: tuple[Literal["referral", "statistics", "investigation", "return"], ...]


class SafeguardClaim(Form):
    """What is done for a child, or for someone who may be one, in codes."""

    age: Age
    """`unknown` also when it is disputed, or when the birth is known too roughly to tell."""
    guardian: Literal["guardian", "representative", "pending", "suspected"] | None
    best_interest: bool
    """A best-interest note exists; it may be withheld from this reader."""


class AgreementClaim(Form):
    """Under what a person is transferred or returned, as far as the policy asks."""

    id: AgreementId
    authorisations: tuple[Authority, ...]
    """Whose are held and in force; sorted, each once."""
    origin: Country
    asylum_wished: bool
    voluntary: bool
    """Established to be her own wish, and recorded."""


class Claims(Form):
    """Why this may be shared, in codes, for `may(...)`. Author and reason are identity and stand there."""

    basis: Basis
    purpose: Purpose
    recipient: Text
    """Agency id."""
    consent: ConsentClaim | None
    legal_reference: Text | None
    safeguards: SafeguardClaim | None
    agreement: AgreementClaim | None = None
    """With a transfer, and with nothing else."""
    authorisations: tuple[Authorisation, ...] = ()
    """Held for a child, and in force; of a transfer, see `agreement`."""


def has_safeguards(event: str) -> bool:
    """Whether it says who she is as a whole. Of plain events only a transfer does; what is added to a referral that
    said so does not."""
    if event in plain.PLAIN:
        return plain.PLAIN[event] is TransferRequested
    return event != "information.answered"


def commitment(consent: Consent, recipient: str, purpose: str, salt: bytes) -> str:
    """base64url SHA-256 of `salt` and the lines below, joined by LF; times in UTC, ISO 8601.

        umuhuza/1 consent | recipient | purpose | given_at | expires_at | scopes | how | language or - | form_version

    The salt travels in the message (Consent.identifier), so holders can show that this consent was the one, and
    nobody else can guess it.
    """
    lines = (
        "umuhuza/1 consent",
        recipient,
        purpose,
        consent.given_at.astimezone(UTC).isoformat(),
        consent.expires_at.astimezone(UTC).isoformat(),
        " ".join(consent.scope),
        consent.how,
        consent.language or "-",
        consent.form_version,
    )
    return b64url(hashlib.sha256(salt + "\n".join(lines).encode()).digest())


def claims_of(type: str, facts: Facts, to: str, salt: bytes) -> Claims | None:
    """What these facts claim towards that reader; None: nothing about a person is shared.

    Args:
        to: agency id of the reader.
        salt: 32 random bytes, fresh for every record.

    Raises:
        KeyError: an event without a purpose that says on what it rests (`check_members` refuses it before).
    """
    if facts.lawful is None:
        return None
    lawful, consent = facts.lawful, None
    if lawful.consent is not None:
        consent = ConsentClaim(
            commitment=commitment(lawful.consent, to, PURPOSES[type], salt),
            given_at=lawful.consent.given_at,
            expires_at=lawful.consent.expires_at,
            scope=lawful.consent.scope,
        )
    caregiver, _ = caregiver_of(facts)
    said = facts.said
    return Claims(
        basis=lawful.basis,
        purpose=PURPOSES[type],
        recipient=to,
        consent=consent,
        legal_reference=lawful.legal_reference,
        safeguards=None
        if not has_safeguards(type)
        else SafeguardClaim(
            age=age_of(facts),
            guardian=caregiver.status if caregiver is not None else None,
            best_interest=caregiver is not None and caregiver.best_interest_note is not None,
        ),
        agreement=_agreement_claim(said) if isinstance(said, TransferRequested) else None,
        authorisations=lawful.authorisations,
    )


def _agreement_claim(said: TransferRequested) -> AgreementClaim:
    return AgreementClaim(
        id=said.agreement,
        authorisations=tuple(sorted({one.authority for one in said.authorisations})),
        origin=said.origin,
        asylum_wished=said.asylum_wished,
        voluntary=said.voluntariness == "voluntary",
    )


def written_claims(claims: Claims) -> dict[str, Any]:
    """As they stand in `content`: JSON values, times as `schemas.shape.moment` writes them."""
    data = claims.model_dump(exclude={"authorisations", *(() if claims.agreement else ("agreement",))})
    if claims.authorisations:
        data["authorisations"] = [_written_authorisation(one) for one in claims.authorisations]
    if claims.consent is not None:
        data["consent"]["given_at"] = moment(claims.consent.given_at)
        data["consent"]["expires_at"] = moment(claims.consent.expires_at)
    return data


def _written_authorisation(one: Authorisation) -> dict[str, str]:
    data = {"authority": one.authority, "reference": one.reference, "decided_at": moment(one.decided_at)}
    return data if one.expires_at is None else {**data, "expires_at": moment(one.expires_at)}


def check_claims(claims: Claims, facts: Facts, withheld: tuple[str, ...], salt: str | None) -> None:
    """Claims say what the message says, as far as this reader sees it.

    Raises:
        PayloadError: `payload_invalid` below `content.claims`.
    """
    at = "content.claims"
    if facts.lawful is None:
        raise PayloadError("payload_invalid", path=at)
    consent = facts.lawful.consent
    if (claims.consent is None) != (consent is None):
        raise PayloadError("payload_invalid", path=f"{at}.consent")
    if claims.consent is not None and consent is not None:
        for name in ("given_at", "expires_at", "scope"):
            if getattr(claims.consent, name) != getattr(consent, name):
                raise PayloadError("payload_invalid", path=f"{at}.consent.{name}")
        salted = base64.urlsafe_b64decode((salt or "") + "=")
        if claims.consent.commitment != commitment(consent, claims.recipient, claims.purpose, salted):
            raise PayloadError("payload_invalid", path=f"{at}.consent.commitment")
    if isinstance(facts.said, TransferRequested) and claims.agreement != _agreement_claim(facts.said):
        raise PayloadError("payload_invalid", path=f"{at}.agreement")
    if claims.safeguards is None:  # see `has_safeguards`
        return
    caregiver, _ = caregiver_of(facts)
    if claims.safeguards.guardian != (caregiver.status if caregiver is not None else None):
        raise PayloadError("payload_invalid", path=f"{at}.safeguards.guardian")
    noted = caregiver is not None and caregiver.best_interest_note is not None
    note = "caregiver.best_interest_note"
    if claims.safeguards.best_interest != noted and not {note, f"referral.{note}"}.intersection(withheld):
        raise PayloadError("payload_invalid", path=f"{at}.safeguards.best_interest")
    kept_back = any(under(path, "birth") or path == "htcds.prs_Birthdate" for path in withheld)
    if claims.safeguards.age != age_of(facts) and not (kept_back and facts.referral is None):
        raise PayloadError("payload_invalid", path=f"{at}.safeguards.age")
