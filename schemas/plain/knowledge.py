# SPDX-License-Identifier: Apache-2.0
"""Flow `knowledge`: guidance, expertise, focal points."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.forms import Form

MODELS: Mapping[str, type[Form]] = {}
