# SPDX-License-Identifier: Apache-2.0
"""The policy of this installation, and the one that the registry's holders sign: the target `policy.json`.

Every program applies the policy that it was installed with, since a rule that changes under a running case would decide
one thing at its beginning and another at its end. What the holders sign is what the domain has agreed on, and it is
applied so:

    the same            work
    signed none         work
    ahead               our version is higher: work, and say so. Everybody is updated first, then the holders sign
    behind, or other    a lower version, or other rules under the same one: no new request is sent or taken, as with a
                        registry out of date. What answers, ends or corrects goes on, by the rules it began under

Must never take a rule from the target: rules come with the program, where they were tested.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from datetime import date
from functools import cache

from schemas.data_files import read_together
from schemas.errors import RegistryError
from schemas.registry import AgreedPolicy, Registry
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


@cache
def _own() -> AgreedPolicy:
    document = policy_document()
    return AgreedPolicy(json.loads(document)["version"], hashlib.sha256(document).digest())


def policy_stands(registry: Registry) -> bool:
    """Whether new requests may be decided by this installation's policy: the same as the domain's, or ahead of it."""
    own, agreed = _own(), registry.policy
    return agreed is None or agreed.sha256 == own.sha256 or own.version > agreed.version


def require_policy(registry: Registry) -> None:
    """Before a new request. Raises RegistryError `policy_differs`: it waits until the older of the two is updated."""
    if not policy_stands(registry):
        raise RegistryError("policy_differs", "policy")


def _text(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError("a policy holds tables, lists, texts, numbers and dates")
