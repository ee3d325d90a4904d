# SPDX-License-Identifier: Apache-2.0
"""Records that came over a border, for an audit: whom to believe of the domain that they came from.

    <domain>/root                   fingerprint of its registry's root
            /ledger.policy          its ledger's keys, its witnesses and their quorum
            /registry.json          an excerpt of its registry
            /registries/<n>.json    excerpts of the versions under which records were logged

The same files as a domain keeps of its neighbours (`topics.neighbours`), read here from a folder or from evidence,
once, as they are: an audit has no contacts, and needs no border to be open now. A record counts by the proof that
stands beside it (`topics.home_check`), never by the word of the domain that took it in.

Must never ask a file of any other name than these.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from schemas.errors import LogError, RegistryError
from schemas.home_proof import read_home_proof
from schemas.registry import Registry
from schemas.registry_bundle import MAX_REGISTRY_BYTES, RootPin
from schemas.registry_trust import trusted
from schemas.trust_policy import MAX_POLICY_BYTES, TrustPolicy, read_policy
from topics.believed_ledgers import announced_in, believed_ledgers
from topics.home_check import NEWEST, POLICY, ROOT, VERSIONS, Homes, HomeTrust
from topics.ledger_entries import decode_entry

NeighbourFile: TypeAlias = Callable[[str, str], bytes | None]
"""(domain, name) -> what the file says; None: it is not there. Raises LogError: it cannot be read now."""
DOMAIN: Final = r"[a-z]{2}"
FILE: Final = rf"{ROOT}|{re.escape(POLICY)}|{re.escape(NEWEST)}|{VERSIONS}/(?:0|[1-9][0-9]{{0,15}})\.json"
LIMITS: Final = {ROOT: 256, POLICY: MAX_POLICY_BYTES}
"""Bytes; of the others `MAX_REGISTRY_BYTES`."""


def is_domain(name: str) -> bool:
    """Whether a domain may have this name."""
    return re.fullmatch(DOMAIN, name) is not None


def limit_of(name: str) -> int:
    """Largest size of this file, bytes."""
    return LIMITS.get(name, MAX_REGISTRY_BYTES)


def version_file(version: int) -> str:
    """Its name."""
    return f"{VERSIONS}/{version}.json"


def file_in(folder: Path) -> NeighbourFile:
    """Reads a folder of neighbours."""

    def read(domain: str, name: str) -> bytes | None:
        path = folder / domain / name
        try:
            if not path.is_file():
                return None
            with path.open("rb") as stream:
                return stream.read(limit_of(name) + 1)
        except OSError:
            raise LogError("unavailable", "neighbours") from None

    return read


def homes_of(read: NeighbourFile) -> Homes:
    """Whom to believe of each domain, by what `read` gives. Of a domain that it does not know: RegistryError
    `agency_unknown`; what cannot be believed: RegistryError, LogError."""
    known: dict[str, HomeTrust] = {}

    def trust(domain: str) -> HomeTrust:
        if domain not in known:
            pin, policy = _believed(domain, read)
            known[domain] = HomeTrust(domain, policy, _Versions(domain, pin, read).get)
        return known[domain]

    return trust


def known_domain(read: NeighbourFile, domain: str) -> tuple[RootPin, TrustPolicy] | None:
    """Its root and whom to believe of its ledger; None: nothing is known of it. Raises RegistryError, LogError."""
    return None if read(domain, ROOT) is None else _believed(domain, read)


def version_needed(home: bytes) -> int | None:
    """The registry version that this home proof names; None: it says nothing."""
    try:
        return decode_entry(read_home_proof(home).registry.entry).number
    except LogError:
        return None


def _believed(domain: str, read: NeighbourFile) -> tuple[RootPin, TrustPolicy]:
    root, policy = read(domain, ROOT), read(domain, POLICY)
    if root is None or policy is None:
        raise RegistryError("agency_unknown", "domain")
    try:
        pin, told = RootPin.read(root.decode("ascii").strip()), read_policy(policy)
    except ValueError:
        raise RegistryError("registry_invalid", "neighbours") from None
    announced = announced_in(read(domain, NEWEST), lambda data: trusted(data, pin, excerpt=True).registry, domain)
    return pin, believed_ledgers(told, announced, domain).policy


class _Versions:
    """A domain's registry by its version, verified, each once."""

    def __init__(self, domain: str, pin: RootPin, read: NeighbourFile) -> None:
        self._domain = domain
        self._pin = pin
        self._read = read
        self._known: dict[int, Registry | None] = {}

    def get(self, version: int) -> Registry | None:
        if version not in self._known:
            self._known[version] = self._found(version, version_file(version)) or self._found(version, NEWEST)
        return self._known[version]

    def _found(self, version: int, name: str) -> Registry | None:
        data = self._read(self._domain, name)
        if data is None:
            return None
        try:
            registry = trusted(data, self._pin, excerpt=True).registry
        except RegistryError:
            return None
        return registry if (registry.domain, registry.version) == (self._domain, version) else None
