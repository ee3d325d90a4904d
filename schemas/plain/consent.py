# SPDX-License-Identifier: Apache-2.0
"""Consent given and withdrawn, in the flow of its thread.

A withdrawal has a scope. `sharing`: nothing new of her goes to anybody, a running service continues. `service`: it
ends. Who received it answers once everybody to whom it had passed her on has answered in turn: with how many they
were, never who. What was read cannot be unread; no event here pretends so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from schemas.forms import Consent, Form

WithdrawalScope = Literal["sharing", "service"]
MOST_ONWARD = 10_000


class ConsentGranted(Form):
    """consent.granted: a consent that came later, or was renewed, for this recipient."""

    extent: Literal["full", "limited"]
    """`limited`: to less than she was asked for."""
    consent: Consent


class ConsentWithdrawn(Form):
    """consent.withdrawn"""

    scope: WithdrawalScope


class ConsentAcknowledged(Form):
    """consent.acknowledged: this holder has stopped, and so has everybody to whom it had passed her on."""

    scope: WithdrawalScope
    onward_confirmed: int = Field(ge=0, le=MOST_ONWARD)
    """How many of those there were, further ones behind them included; never who."""


MODELS: Mapping[str, type[Form]] = {
    "consent.granted": ConsentGranted,
    "consent.withdrawn": ConsentWithdrawn,
    "consent.acknowledged": ConsentAcknowledged,
}
