# SPDX-License-Identifier: Apache-2.0
"""What one signed agreement covers: whose records, in which flows, of which types, on which days.

Pure; below `topics.catalogue` and `topics.borders`, which both ask. Must never say that an agreement is in force: that
it stands in both registries with the same terms is known before (`topics.borders.border`).
"""

from __future__ import annotations

from datetime import date

from schemas.agreements import Agreement
from schemas.envelope import Kind
from topics import policy_file


def named_in(agreement: Agreement) -> frozenset[str]:
    """Agencies that may exchange over the border under it."""
    return frozenset((*agreement.agencies, *agreement.focal_points))


def uncovered(
    agreement: Agreement, iss: str, to: str, flow: str, kind: Kind | None, type: str | None, day: date
) -> str | None:
    """The first member that does not cover it; None: it is covered.

    Args:
        kind, type: None: not known to whoever asks (`type`: sealed).
        day: today, in UTC.
    """
    if day < agreement.since:
        return "since"
    if day > agreement.until:
        return "until"
    if flow not in agreement.flows:
        return "flows"
    if not _typed(agreement, flow, kind, type):
        return "types"
    if not {iss, to} <= named_in(agreement):
        return "focal_points"
    scopes = {flow, *(() if type is None else (type,))}
    if any(scopes & set(one.scope) and day > one.until for one in agreement.authorisations):
        return "authorisations"
    return None


def _typed(agreement: Agreement, flow: str, kind: Kind | None, type: str | None) -> bool:
    if not agreement.types:
        return True
    if type is not None:
        return type in agreement.types
    rules = policy_file.policy().events
    known = [rules[name] for name in agreement.types if name in rules]
    return any(one.flow in (flow, "*") and one.kind == kind for one in known)
