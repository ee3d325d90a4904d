# SPDX-License-Identifier: Apache-2.0
"""The policy of this installation as the registry's holders sign it: the target `policy.json`.

Every program applies the policy that it was installed with, since a rule that changes under a running case would decide
one thing at its beginning and another at its end. What the holders sign is which policy the domain has agreed on: an
installation that applies another one, newer or older, finds out and says so, instead of refusing what others send.
"""

from __future__ import annotations

import json
import tomllib
from datetime import date
from functools import cache

from schemas.data_files import read_together
from schemas.registry_trust import TrustedRegistry


@cache
def policy_document() -> bytes:
    """This installation's policy (`topics/policy/*.toml`) as JSON, in one spelling; dates as ISO 8601 texts."""
    raw = tomllib.loads(read_together("topics", "policy"))
    text = json.dumps(raw, default=_text, sort_keys=True, indent=1, ensure_ascii=False)
    return text.encode("utf-8") + b"\n"


def same_policy(held: TrustedRegistry) -> bool:
    """Whether the domain has agreed on the policy that is applied here; true where it has not signed any."""
    return held.policy is None or held.policy == policy_document()


def _text(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError("a policy holds tables, lists, texts, numbers and dates")
