# SPDX-License-Identifier: Apache-2.0
"""Flow `directory`: services published, beds asked for without a name."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.forms import Form

MODELS: Mapping[str, type[Form]] = {}
