# SPDX-License-Identifier: Apache-2.0
"""Consent given and withdrawn, in the flow of its thread."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.forms import Form

MODELS: Mapping[str, type[Form]] = {}
