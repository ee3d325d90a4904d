# SPDX-License-Identifier: Apache-2.0
"""What invented people ask for over the border between two domains for training, in the demonstration and the sandbox.

Everybody is invented; so are authorities' numbers. Pure: the time is an argument.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from schemas.forms import Authorisation, Birth, Consent, Facts, Lawful, Name, Referral, SafeContact
from schemas.plain.transfer import TransferRequested
from umuhuza.paired_domains import AGREEMENT


def return_asked(today: datetime, *, name: str, origin: str, language: str, authorised: bool) -> Facts:
    """An adult who wishes to go home asks for it: the contents of a `transfer.requested`.

    Args:
        name: hers, invented; it will be sealed.
        origin: her State, `bi`; it is where she wishes to go.
        language: in which her consent was read to her, `rn`.
        authorised: whether the data-protection authority, whom Tunisia asks, has decided; without it nothing passes
            the border.
    """
    day = timedelta(days=1)
    decision = Authorisation(
        authority="data-protection-authority",
        reference="2026/31",
        decided_at=today - 3 * day,
        expires_at=today + 60 * day,
    )
    consent = Consent(
        given_at=today - day, expires_at=today + 90 * day, language=language, how="signature", scope=("return",)
    )
    said = TransferRequested(
        referral=Referral(
            priority="normal",
            name=Name(as_given=name),
            birth=Birth(precision="year", date="1999", basis="declared"),
            services=("SocialCare",),
            languages=(language,),
            safe_contact=SafeContact(channel="through-referrer"),
        ),
        agreement=AGREEMENT,
        authorisations=(decision,) if authorised else (),
        origin=origin,
        asylum_wished=False,
        voluntariness="voluntary",
        voluntariness_recorded_at=today - 2 * day,
    )
    return Facts(occurred_at=today, lawful=Lawful(basis="consent", consent=consent), said=said)
