# SPDX-License-Identifier: Apache-2.0
"""Flow `investigation`: among police and judiciary, and notices of proceedings."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.forms import Form

MODELS: Mapping[str, type[Form]] = {}
