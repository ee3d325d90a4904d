# SPDX-License-Identifier: Apache-2.0
"""A second opinion on what FHIR R4 is: the package `fhir.resources`, which knows the standard and nothing of ours.

The gate (`schemas.message_gate`) refuses whatever this refuses; a test changes valid messages in every way it can think
of and compares, and `umuhuza bench` measures both on the same message. It takes no part in sending or reading: no other
module of the program imports the package, which takes long to load and many times longer than the gate to judge.

Must never: be imported by schemas, topics, adapters or gateway; let out what the package says, since it quotes values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir.resources.R4B.bundle import Bundle
from pydantic import ValidationError


def accepts(bundle: Mapping[str, Any]) -> bool:
    """Whether `fhir.resources` (R4B 4.3.0: the R4 that everyone runs) takes this parsed JSON for a Bundle."""
    try:
        Bundle.model_validate(bundle)
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError):
        return False
    return True
