# SPDX-License-Identifier: Apache-2.0
"""Invented facts for every event type: the first of each is the example in `docs/examples/`, the others are variants.

Made once, read by two: `python -m umuhuza.publish` writes the examples from them, the tests try their rules on them.
Everybody here is invented (`cast.PEOPLE`); telephone numbers belong to nobody.
Must never: be sent, or be read by an adapter or a gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from schemas.forms import Facts
from umuhuza.examples import (
    samples_attachment,
    samples_case,
    samples_directory,
    samples_referral,
    samples_request,
    samples_rights,
    samples_transfer,
)
from umuhuza.examples.cast import NOW

SAMPLES: Mapping[str, tuple[Facts, ...]] = MappingProxyType(
    {
        **samples_request.SAMPLES,
        **samples_case.SAMPLES,
        **samples_rights.SAMPLES,
        **samples_transfer.SAMPLES,
        **samples_referral.samples(NOW, samples_request.CONSENT, samples_request.VITAL),
        **samples_directory.SAMPLES,
        **samples_attachment.samples(NOW, samples_request.CONSENT, samples_request.VITAL),
    }
)
"""Event type -> what it may say, one example first."""
