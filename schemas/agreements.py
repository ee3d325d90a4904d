# SPDX-License-Identifier: Apache-2.0
"""Agreements between domains, and protocols between agencies of one domain, as targets of a registry.

An agreement stands in the registries of both domains, each signed by its own holders, and names the other's root by its
fingerprint, so that neither country depends on the other's keys. A protocol binds two or more agencies of one domain,
and counts with the signature of each (`schemas.protocols`), which stands beside its terms in the same target.
The text that was signed on paper is named by `legal_ref` and its SHA-256; what is here is what machines go by.

Pure values. Dates are calendar days in UTC, the last one included. Must never: be read from anywhere but verified
targets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType
from typing import Any

from schemas.envelope import FLOWS, is_agency
from schemas.errors import RegistryError

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
_DOMAIN = re.compile(r"[a-z]{2}")
_TYPE = re.compile(r"[a-z]+(?:[.-][a-z]+)+")
_FINGERPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MEMBERS = frozenset(
    (
        "domains",
        "agencies",
        "flows",
        "types",
        "purposes",
        "focal_points",
        "authorisations",
        "retention_days",
        "legal_ref",
        "document_sha256",
        "since",
        "until",
        "root_fingerprints",
    )
)
_SIGNED = ("signatures", "endings")
"""Members that a protocol may have beside its terms."""
MAX_SIGNATURES = 32
MAX_SIGNATURE_CHARS = 2048


@dataclass(frozen=True, slots=True)
class Authorisation:
    """What an authority (data protection, justice) has allowed, and until when."""

    authority: str
    ref: str
    scope: tuple[str, ...]
    until: date


@dataclass(frozen=True, slots=True)
class Agreement:
    """Who may exchange what with whom, for what, until when."""

    name: str
    domains: tuple[str, ...]
    """Two or more: between countries. One: a protocol between `agencies` of that domain."""
    agencies: tuple[str, ...]
    """Whom it binds; empty between countries: whoever the flows' rules admit."""
    flows: tuple[str, ...]
    types: tuple[str, ...]
    """Event types; empty: every type of the flows."""
    purposes: tuple[str, ...]
    focal_points: tuple[str, ...]
    authorisations: tuple[Authorisation, ...]
    retention_days: int
    legal_ref: str
    document_sha256: str | None
    since: date
    until: date
    root_fingerprints: Mapping[str, str]
    """Domain -> fingerprint of its root, for every domain of an agreement between countries."""
    signatures: tuple[str, ...] = ()
    """Of a protocol: compact JWS of agencies that it binds, not verified here (`schemas.protocols`)."""
    endings: tuple[str, ...] = ()
    """Of a protocol: the same, of agencies that have ended it."""

    @property
    def crosses(self) -> bool:
        return len(self.domains) > 1

    def in_force(self, day: date) -> bool:
        return self.since <= day <= self.until


def agreement_to_json(agreement: Agreement) -> dict[str, Any]:
    """What its target holds; the name is the target's."""
    return {
        "domains": list(agreement.domains),
        "agencies": list(agreement.agencies),
        "flows": list(agreement.flows),
        "types": list(agreement.types),
        "purposes": list(agreement.purposes),
        "focal_points": list(agreement.focal_points),
        "authorisations": [
            {"authority": one.authority, "ref": one.ref, "scope": list(one.scope), "until": one.until.isoformat()}
            for one in agreement.authorisations
        ],
        "retention_days": agreement.retention_days,
        "legal_ref": agreement.legal_ref,
        "document_sha256": agreement.document_sha256,
        "since": agreement.since.isoformat(),
        "until": agreement.until.isoformat(),
        "root_fingerprints": dict(agreement.root_fingerprints),
        **({"signatures": list(agreement.signatures)} if agreement.signatures else {}),
        **({"endings": list(agreement.endings)} if agreement.endings else {}),
    }


def terms_of(agreement: Agreement) -> bytes:
    """Name and members in one spelling (JSON, members sorted, no spaces), without what was signed about them: the same
    for whoever has the same terms."""
    members = agreement_to_json(replace(agreement, signatures=(), endings=()))
    told = {"name": agreement.name, **members}
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def agreement_from_json(raw: Any, name: str, domain: str, path: str = "agreement") -> Agreement:
    """Read an agreement of the registry of `domain`.

    Raises:
        RegistryError: registry_invalid, with the path that is wrong.
    """

    def bad(where: str) -> RegistryError:
        return RegistryError("registry_invalid", f"{path}.{where}")

    if not isinstance(raw, dict) or raw.keys() - set(_SIGNED) != _MEMBERS or _NAME.fullmatch(name) is None:
        raise bad("*")

    def texts(member: str, fits: Callable[[str], object]) -> tuple[str, ...]:
        return _texts(raw[member], fits, bad(member))

    domains = texts("domains", _DOMAIN.fullmatch)
    agencies = texts("agencies", is_agency)
    if domain not in domains:
        raise bad("domains")
    if any(agency.partition("/")[0] not in domains for agency in agencies) or len(domains) == 1 > len(agencies) - 1:
        raise bad("agencies")
    signatures, endings = (_lines(raw.get(member, []), bad(member)) for member in _SIGNED)
    if len(domains) > 1 and not raw.keys().isdisjoint(_SIGNED):
        raise bad("*")  # a country signs with its registry
    fingerprints = raw["root_fingerprints"]
    wanted = set(domains) if len(domains) > 1 else set()
    if not isinstance(fingerprints, dict) or fingerprints.keys() != wanted:
        raise bad("root_fingerprints")
    if not all(isinstance(one, str) and _FINGERPRINT.fullmatch(one) for one in fingerprints.values()):
        raise bad("root_fingerprints")
    if len(set(fingerprints.values())) != len(fingerprints):
        raise bad("root_fingerprints")  # two countries never share a root
    days, digest = raw["retention_days"], raw["document_sha256"]
    if type(days) is not int or not 0 < days <= 36_500:
        raise bad("retention_days")
    if digest is not None and (not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None):
        raise bad("document_sha256")
    if not isinstance(raw["legal_ref"], str) or not _said(raw["legal_ref"]):
        raise bad("legal_ref")
    if not isinstance(raw["authorisations"], list):
        raise bad("authorisations")
    since, until = _day(raw["since"], bad("since")), _day(raw["until"], bad("until"))
    if until < since:
        raise bad("until")
    return Agreement(
        name,
        domains,
        agencies,
        texts("flows", FLOWS.__contains__),
        texts("types", _TYPE.fullmatch),
        texts("purposes", _said),
        texts("focal_points", is_agency),
        tuple(_authorisation(one, bad(f"authorisations[{i}]")) for i, one in enumerate(raw["authorisations"])),
        days,
        raw["legal_ref"],
        digest,
        since,
        until,
        MappingProxyType(dict(fingerprints)),
        signatures,
        endings,
    )


def _authorisation(raw: Any, wrong: RegistryError) -> Authorisation:
    if not isinstance(raw, dict) or raw.keys() != {"authority", "ref", "scope", "until"}:
        raise wrong
    if not all(isinstance(raw[name], str) and _said(raw[name]) for name in ("authority", "ref")):
        raise wrong
    return Authorisation(raw["authority"], raw["ref"], _texts(raw["scope"], _said, wrong), _day(raw["until"], wrong))


def _texts(raw: Any, fits: Callable[[str], object], wrong: RegistryError) -> tuple[str, ...]:
    if not isinstance(raw, list) or not all(isinstance(one, str) and fits(one) for one in raw):
        raise wrong
    if len(set(raw)) != len(raw):
        raise wrong
    return tuple(raw)


def _lines(raw: Any, wrong: RegistryError) -> tuple[str, ...]:
    found = _texts(raw, lambda line: 0 < len(line) <= MAX_SIGNATURE_CHARS, wrong)
    if len(found) > MAX_SIGNATURES:
        raise wrong
    return found


def _said(text: str) -> bool:
    return 0 < len(text) <= 200


def _day(raw: Any, wrong: RegistryError) -> date:
    if not isinstance(raw, str) or _DAY.fullmatch(raw) is None:
        raise wrong
    try:
        return date.fromisoformat(raw)
    except ValueError:
        raise wrong from None
