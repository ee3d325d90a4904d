# SPDX-License-Identifier: Apache-2.0
"""Which of a domain's ledgers are believed: what its registry announces, and what a trust policy says.

    registry announces none     the policy's, as it is
    policy names no key of one  what the registry announces of it; witnesses and quorum stay the policy's
    both name keys of one       those alone that both name
    policy alone names one      not believed: whoever announces does not know it

So a policy may be narrower than the registry, and neither can put a ledger beside the other's back. Where the policy
has something that the registry does not announce, somebody has to look: `Believed.differs`.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from schemas.errors import LogError, RegistryError
from schemas.ledgers import AnnouncedLedger, ledger_number, origin_of
from schemas.registry import Registry
from schemas.trust_policy import TrustedLog, TrustPolicy


@dataclass(frozen=True, slots=True)
class Believed:
    """A policy with the ledgers that a registry announces."""

    policy: TrustPolicy
    differs: tuple[str, ...] = ()
    """Origins of which the policy says what the registry does not announce."""

    @property
    def trouble(self) -> LogError | None:
        """What to tell an operator."""
        return LogError("ledger_differs", "trust") if self.differs else None


def ledgers_of(policy: TrustPolicy, domain: str) -> tuple[str, ...]:
    """Names of a domain's ledgers that this policy believes, the newest last; `origin_of` when it names none.

    A ledger that was lost is followed by another, `bi.umuhuza/log2`; who trusted the first is told the second's keys,
    by the registry or otherwise, and keeps both.
    """
    named = {(number, log.key.name) for log in policy.logs if (number := ledger_number(log.key.name, domain))}
    return tuple(name for _, name in sorted(named)) or (origin_of(domain),)


def announced_in(
    published: bytes | None, read: Callable[[bytes], Registry], domain: str
) -> tuple[AnnouncedLedger, ...]:
    """What a domain's registry announces; nothing where there is none, or none that can be believed: others say that.

    Args:
        read: verifies. May raise RegistryError.
    """
    try:
        registry = None if published is None else read(published)
    except RegistryError:
        return ()
    return registry.ledgers if registry is not None and registry.domain == domain else ()


def believed_ledgers(policy: TrustPolicy, announced: Sequence[AnnouncedLedger], domain: str) -> Believed:
    """What is believed of that domain's ledgers; of other domains' what the policy says.

    Args:
        announced: by the domain's registry, verified; none: it announces nothing.
    """
    if not announced:
        return Believed(policy)
    others = tuple(log for log in policy.logs if not ledger_number(log.key.name, domain))
    witnesses = {one.key.public for one in policy.witnesses}
    logs: list[TrustedLog] = []
    differs = set(ledgers_of(policy, domain)) - {one.origin for one in announced}
    differs &= {log.key.name for log in policy.logs}
    for one in announced:
        mine = [log for log in policy.logs if log.key.name == one.origin]
        if any(log.key not in one.keys for log in mine):
            differs.add(one.origin)
        both = [log for log in mine if log.key in one.keys]
        logs += both if mine else [TrustedLog(key) for key in one.keys if key.public not in witnesses]
    return Believed(replace(policy, logs=(*others, *logs)), tuple(sorted(differs)))
