# SPDX-License-Identifier: Apache-2.0
"""Flow `bilateral`: a person's transfer or return under an agreement, and its stages.

A request is a referral with what a border asks for besides: the agreement, the authorisations held, that the wish is
hers and when that was recorded, and whether she wants asylum. What of it decides whether it may be sent goes into the
claims (`schemas.claims`), for the policy alone to judge; stages and answers are codes and dates and name nobody.

Must never: decide what an agreement needs (`topics/policy/agreements.toml` says so).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.forms import Authorisation, Form, LanguageTag, Referral, When

AgreementId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")]
Country = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")]
"""ISO 3166-1 alpha-2 in small letters, as domains are named."""
RiskLevel = Literal["low", "medium", "high", "extreme", "unknown"]
"""As in `schemas.forms.Risk`."""


class TransferRequested(Form):
    """A referral across a border, or under an agreement, with what that asks for besides."""

    referral: Referral
    agreement: AgreementId
    authorisations: tuple[Authorisation, ...] = Field((), max_length=8)
    origin: Country
    """The person's State of origin."""
    asylum_wished: bool
    """Asked of every person; to the State of origin then nothing goes."""
    voluntariness: Literal["voluntary", "not-voluntary", "not-established"]
    voluntariness_recorded_at: When


class TransferAccepted(Form):
    """She is expected there."""

    expected_from: When | None = None


class TransferDeclined(Form):
    """It does not happen, and why."""

    reason: Literal["no-capacity", "unsafe-there", "nationality-not-confirmed", "authorisation-missing", "other"]


class ReturnCounselled(Form):
    """She was advised, in which language, and what she decided."""

    decision: Literal["wishes-to-return", "undecided", "does-not-wish-to-return"]
    language: LanguageTag | None = None


class ReturnRiskAssessed(Form):
    """How safe a return is, who looked, and whether her family is."""

    level: RiskLevel
    assessed: Literal["sending-side", "receiving-side", "both-sides"]
    family: Literal["safe", "involved", "not-traced", "not-asked"]


class ReturnDocumented(Form):
    """With which paper she travels."""

    document: Literal["passport", "laissez-passer", "identity-card", "none-needed"]
    valid_until: When | None = None


class ReturnDeparted(Form):
    """She has left: how, with whom, and when she is expected."""

    by: Literal["air", "road", "water"]
    expected_at: When
    escort: Literal["escorted", "accompanied-by-family", "alone"]


class ReturnReceived(Form):
    """Who met her."""

    received_by: Literal["agency", "family", "guardian"]


class ReturnFollowedUp(Form):
    """How she is some time later."""

    situation: Literal["safe", "at-risk", "in-services", "not-found"]
    next_at: When | None = None
    """None: nothing more is planned."""


MODELS: Mapping[str, type[Form]] = {
    "transfer.requested": TransferRequested,
    "transfer.accepted": TransferAccepted,
    "transfer.declined": TransferDeclined,
    "return.counselled": ReturnCounselled,
    "return.risk-assessed": ReturnRiskAssessed,
    "return.documented": ReturnDocumented,
    "return.departed": ReturnDeparted,
    "return.received": ReturnReceived,
    "return.followed-up": ReturnFollowedUp,
}
