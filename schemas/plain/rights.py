# SPDX-License-Identifier: Apache-2.0
"""Flow `rights`: disclosure, access, erasure, correction, retraction."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.forms import Form

MODELS: Mapping[str, type[Form]] = {}
