# SPDX-License-Identifier: Apache-2.0
"""What may pass between two domains: what both have signed, and nothing beyond it.

    border(ours, theirs)          what two verified registries open to each other
    bordered(registry, borders)   the registry that members work with: its own agencies, and those whom they may reach
    may_cross(crossing, ...)      whether one record may, in either direction; asked at both gateways and by adapters
    reached(registry, agency)     whom members may write to, or why not any more

An agreement counts when it stands in both registries with the same terms, and names each domain's root by a fingerprint
that is in that domain's chain of roots. Whoever takes it out of its own registry ends it, alone and at once: the next
question is answered `agreement_missing`, with the domain that has ended it.

What an agreement has to name: the flow; the event's type (or, where only the kind is clear, one of that kind); both
agencies, under `agencies` or `focal_points`; the day. An authorisation whose scope names the flow or the type must not
have run out. What the policy says of roles, flows and claims is asked beside this (`topics.catalogue.may`): an
agreement opens nothing that the policy forbids.

Pure: values in, values out; the day is an argument. Must never: take one registry's word for the other's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType

from schemas.agreements import Agreement
from schemas.envelope import Kind, Manifest, split_topic
from schemas.errors import PolicyError, RegistryError
from schemas.registry import Agency, Border, Key, Registry
from schemas.registry_bundle import RootPin, root_path
from schemas.registry_trust import TrustedRegistry, excerpt_of
from topics.agreement_cover import named_in, uncovered
from topics.catalogue import Verdict


@dataclass(frozen=True, slots=True)
class Crossing:
    """A record that is to pass a border, as far as whoever asks knows it."""

    iss: str
    to: str
    flow: str
    kind: Kind
    agreement: str | None
    """As the manifest names it."""
    type: str | None = None
    """None: sealed (gateways)."""

    @classmethod
    def of(cls, m: Manifest, type: str | None = None) -> Crossing:
        return cls(m.iss, m.to, m.flow, m.kind, m.agreement, type)

    @property
    def domains(self) -> tuple[str, str]:
        """Of the issuer, of the recipient."""
        return self.iss.partition("/")[0], self.to.partition("/")[0]


def crosses(m: Manifest) -> bool:
    """Whether issuer and recipient are of different domains."""
    return m.iss.partition("/")[0] != m.to.partition("/")[0]


def _between(held: TrustedRegistry, other: str) -> dict[str, Agreement]:
    domain = held.registry.domain
    return {name: one for name, one in held.agreements.items() if one.crosses and {domain, other} <= set(one.domains)}


def _rooted(agreement: Agreement, held: TrustedRegistry) -> bool:
    """Whether it names a root of this registry's chain."""
    fingerprint = agreement.root_fingerprints.get(held.registry.domain)
    roots = (held.files[root_path(version)] for version in range(1, held.versions["root"] + 1))
    return any(RootPin.of(root).text == fingerprint for root in roots)


def border(ours: TrustedRegistry, theirs: TrustedRegistry) -> Border:
    """What the two registries open to each other; nothing, when training meets production."""
    domain, other = ours.registry.domain, theirs.registry.domain
    mine, yours = _between(ours, other), _between(theirs, domain)
    both: dict[str, Agreement] = {}
    one_sided: dict[str, str] = {}
    for name in sorted(mine.keys() | yours.keys()):
        one, same = mine.get(name), yours.get(name)
        if one is not None and one == same and _rooted(one, ours) and _rooted(one, theirs):
            both[name] = one
        else:
            one_sided[name] = domain if one is None else other
    if ours.registry.training != theirs.registry.training:
        both = {}
    named = frozenset(agency for one in both.values() for agency in named_in(one))
    agencies = {
        agency.id: agency
        for agency in theirs.registry.agencies.values()
        if agency.id in named or "operator" in agency.roles
    }
    return Border(other, MappingProxyType(both), MappingProxyType(one_sided), MappingProxyType(agencies))


def bordered(registry: Registry, borders: Iterable[Border]) -> Registry:
    """The same version with what its borders open."""
    return replace(registry, borders=MappingProxyType({one.domain: one for one in borders}))


def shown_to(ours: TrustedRegistry, other: str) -> frozenset[str]:
    """The agencies of ours that our agreements with that domain name."""
    domain = ours.registry.domain
    named = frozenset(agency for one in _between(ours, other).values() for agency in named_in(one))
    return frozenset(agency for agency in named if agency.partition("/")[0] == domain)


def excerpt_for(ours: TrustedRegistry, other: str, also: frozenset[str] = frozenset()) -> bytes:
    """Our registry as that domain is given it: the agreements with it, the agencies that they name, our operators.

    Members that no agreement names, protected places above all, do not travel: neither their names nor their keys.

    Args:
        also: agencies that the newest agreements name, for a version before these: a record may be logged under it.
    """
    named = shown_to(ours, other) | also
    agencies = [
        agency.id.partition("/")[2]
        for agency in ours.registry.agencies.values()
        if agency.id in named or "operator" in agency.roles
    ]
    agreements = _between(ours, other)
    return excerpt_of(
        ours, [*(f"agencies/{one}.json" for one in agencies), *(f"agreements/{one}.json" for one in agreements)]
    )


def operator_of(registry: Registry, agency: str) -> Agency | None:
    """The agency abroad that may bring us what its domain sends: an operator of that domain; None: it is none."""
    found = registry.borders.get(agency.partition("/")[0])
    one = None if found is None else found.agencies.get(agency)
    return one if one is not None and "operator" in one.roles else None


def operators_key(registry: Registry, domain: str, kid: str) -> Key:
    """The key of that name with which an operator of that neighbour signs.

    Raises:
        RegistryError: agency_unknown, it is no neighbour; key_unknown, no operator of it has that key.
    """
    border = registry.borders.get(domain)
    if border is None:
        raise RegistryError("agency_unknown", "domain")
    for one in border.agencies.values():
        for key in one.keys:
            if "operator" in one.roles and key.use == "sig" and key.kid == kid:
                return key
    raise RegistryError("key_unknown", "kid")


# ---------------------------------------------------------------------------------------------------------------------
# May it cross


def may_cross(crossing: Crossing, registry: Registry, day: date) -> Verdict:
    """Whether an agreement in force covers it, on our side of the border or on the other.

    Args:
        registry: ours, with its borders; the crossing begins or ends here.
        day: today, in UTC.

    Returns:
        As `topics.catalogue.may`: a refusal is `agreement_missing`, its rule the member that does not cover it.
    """
    other = next((domain for domain in crossing.domains if domain != registry.domain), None)
    found = None if other is None else registry.borders.get(other)
    if found is None or registry.domain not in crossing.domains:
        return _no("agreement.*")
    if crossing.agreement is None:
        return _no("agreement")
    name = crossing.agreement
    agreement = found.agreements.get(name)
    if agreement is None:
        return _no(f"agreement.{name}.{found.one_sided[name]}" if name in found.one_sided else "agreement.*")
    wrong = uncovered(agreement, crossing.iss, crossing.to, crossing.flow, crossing.kind, crossing.type, day)
    return Verdict(True, "", f"agreement.{name}") if wrong is None else _no(f"agreement.{name}.{wrong}")


def under(registry: Registry, iss: str, topic: str, kind: Kind, type: str, day: date) -> str:
    """The agreement that a member names when it sends this over the border: the first that covers it.

    Raises:
        PolicyError: agreement_missing, with why the last that was looked at does not.
    """
    flow, to = split_topic(topic)
    found = registry.borders.get(to.partition("/")[0])
    known = () if found is None else (*found.agreements, *found.one_sided)
    verdict = _no("agreement.*")
    for name in known:
        verdict = may_cross(Crossing(iss, to, flow, kind, name, type), registry, day)
        if verdict.ok:
            return name
    raise PolicyError(verdict.code, verdict.rule)


def reached(registry: Registry, agency: str) -> Agency:
    """Somebody to whom members may write: one of them, or whom an agreement names abroad.

    Raises:
        PolicyError: agreement_missing, where the agreement that named it has ended or is not signed on both sides.
        RegistryError: agency_unknown.
    """
    border = registry.borders.get(agency.partition("/")[0])
    if border is not None and agency not in border.agencies:
        for name, without in border.one_sided.items():
            raise PolicyError("agreement_missing", f"agreement.{name}.{without}")
    return registry.party(agency)


def _no(rule: str) -> Verdict:
    return Verdict(False, "agreement_missing", rule)
