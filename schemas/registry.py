# SPDX-License-Identifier: Apache-2.0
"""Who: the agencies of a domain, their roles and keys, as values that everybody works with.

They come out of TUF metadata that were verified against the domain's root (`schemas/registry_trust.py`) and nowhere
else; whoever hands them on can change nothing unnoticed. A registry only ever grows in `version`.

Protected places (shelters) are members under a neutral handle, `bi/k7t4`; their name stands in the registry for those
entitled and nowhere else.

Pure: bytes and times come in, values go out. Times are seconds since the epoch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from schemas.agreements import Agreement, agreement_from_json, agreement_to_json
from schemas.envelope import is_agency
from schemas.errors import RecordError, RegistryError
from schemas.keys import SUITES, SealTo, Suite, VerifyKey, b64url, kid_of, unb64url
from schemas.ledgers import AnnouncedLedger, ledger_number, ledgers_from_json, ledgers_to_json, origin_of
from schemas.plain_text import is_one_line

STALE_AFTER_S = 30 * 86_400
"""A registry older than this stops requests (`registry_stale`); answers and everything else still pass."""

Role = Literal[
    "front-line",
    "screener",
    "assistance",
    "shelter",
    "clinic",
    "hotline",
    "police",
    "judiciary",
    "legal-aid",
    "coordination",
    "focal-point",
    "facilitator",
    "operator",
]
_DOMAIN = re.compile(r"[a-z]{2}")
ROLES: tuple[Role, ...] = get_args(Role)
Use = Literal["sig", "seal", "bundle", "tls"]
USES: tuple[Use, ...] = get_args(Use)
TLS_PIN = "spki-sha256"
"""What is listed of a TLS key: SHA-256 over its certificate's SubjectPublicKeyInfo (RFC 7469 section 2.4)."""
ENDPOINTS = ("gateway", "witness")
"""What an agency may answer at, by name; never a protected place."""
_URL = re.compile(r"https?://[a-z0-9.\[\]:-]{1,200}(?:/[A-Za-z0-9._~/-]{0,200})?")


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of an agency and when it counts: activated <= time < revoked, and before it expires."""

    kid: str
    use: Use
    suite: str
    """`ES256` for sig, an HPKE suite for seal, `spki-sha256` for tls."""
    public: bytes
    activated: int
    expires: int
    revoked: int | None = None
    compromised_since: int | None = None
    """A size of the home ledger's tree: what stands there at this index or later was not signed by the agency,
    whatever the time says. None: no such doubt."""
    compromised_in: int = 1
    """Which of the home domain's ledgers has that tree; 1: the first (`schemas.ledgers`)."""

    def stolen_at(self, index: int, ledger: int = 1) -> bool:
        """Whether what stands at this index of the home domain's ledger of this number is in doubt. Sizes of two trees
        are never compared: all of a later tree is later."""
        since = self.compromised_since
        return since is not None and (ledger, index) >= (self.compromised_in, since)

    def counts_at(self, at: int, index: int | None = None, ledger: int = 1) -> bool:
        """Whether it counts at time `at` (seconds), for a record that the home ledger counted at `index` where that is
        known, `ledger` being the number of that ledger.

        The ledger counts nothing behind a revocation, so with an index no clock is asked for that: what had its place
        before keeps its worth, also when the revocation was dated hours before it was published. A tree size since
        which the key was stolen takes away what stands behind it.
        """
        if index is not None:
            return self.activated <= at < self.expires and not self.stolen_at(index, ledger)
        return self.activated <= at < min(self.expires, self.expires if self.revoked is None else self.revoked)


@dataclass(frozen=True, slots=True)
class Agency:
    id: str
    names: Mapping[str, str]
    """fr, en, rn, ar; fr always."""
    roles: tuple[Role, ...]
    keys: tuple[Key, ...]
    protected: bool = False
    """Its id is a handle; its name is shown only to those entitled."""
    direct: bool = False
    """It has opted in to write to the log's brokers itself; else everything it sends goes through a gateway."""
    endpoints: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Name (`ENDPOINTS`) -> URL at which it answers; nobody has to have one."""

    def name(self, language: str) -> str:
        """A protected agency shows its handle; names are looked up with `names` by those entitled."""
        if self.protected:
            return self.id
        return self.names.get(language) or self.names["fr"]


@dataclass(frozen=True, slots=True)
class AgreedPolicy:
    """Which policy the holders have signed for the domain: the target `policy.json`."""

    version: int
    sha256: bytes
    """Of the target's bytes."""


@dataclass(frozen=True, slots=True)
class Border:
    """Another domain, as far as it is opened to this one: what both registries say, each signed by its own holders."""

    domain: str
    agreements: Mapping[str, Agreement]
    """By name: those that stand in both registries alike, whatever the day."""
    one_sided: Mapping[str, str]
    """Name of an agreement that stands in one registry alone, or otherwise there -> the domain that does not have it
    so: it has ended it, or has not signed it yet."""
    agencies: Mapping[str, Agency]
    """Agencies of that domain which an agreement names, and its operators."""

    @property
    def flows(self) -> frozenset[str]:
        """Flows that any of the agreements opens."""
        return frozenset(flow for one in self.agreements.values() for flow in one.flows)


@dataclass(frozen=True, slots=True)
class SignedProtocol:
    """A protocol of this domain, and whose word is given for it (`schemas.protocols`)."""

    terms: Agreement
    lacking: tuple[str, ...]
    """Agencies that it binds whose signature is missing, or does not count."""
    ended_by: tuple[str, ...]
    """Agencies that it binds and that have ended it."""

    @property
    def counts(self) -> bool:
        """Whether it is an agreement, on the days it names."""
        return not self.lacking and not self.ended_by


@dataclass(frozen=True, slots=True)
class Registry:
    """One domain's agencies, and those of others as far as agreements open its borders.

    `agency` and `signing_key` know the domain's own alone: whoever is let in and whose signature counts by this
    registry is a member. `party` and `seal_keys` know whom members may write to as well.
    """

    domain: str
    version: int
    issued: int
    agencies: Mapping[str, Agency]
    training: bool = False
    borders: Mapping[str, Border] = field(default_factory=dict)
    """By the other domain."""
    policy: AgreedPolicy | None = None
    """None: the domain has signed none."""
    ledgers: tuple[AnnouncedLedger, ...] = ()
    """The domain's ledgers, the one that counts last; empty: it has announced none."""
    protocols: Mapping[str, SignedProtocol] = field(default_factory=dict)
    """By name, as the signatures stood when the registry was verified; those too that do not count."""
    _verifiers: dict[tuple[str, str], VerifyKey] = field(default_factory=dict, repr=False, compare=False)
    """Decoded keys, made on first use: decoding a point costs as much as a verification."""
    _sealers: dict[tuple[str, str], SealTo] = field(default_factory=dict, repr=False, compare=False)

    def agency(self, agency: str) -> Agency:
        """Raises RegistryError `agency_unknown`."""
        found = self.agencies.get(agency)
        if found is None:
            raise RegistryError("agency_unknown")
        return found

    def revokes(self, iss: str, kid: str) -> bool:
        """Whether this version revokes a key of that agency: what stands behind the version in the home ledger does not
        count with it, whatever any clock says."""
        owner = self.agencies.get(iss)
        return owner is not None and any(key.kid == kid and key.revoked is not None for key in owner.keys)

    def new_signing_key(self, iss: str, kid: str, now: int) -> VerifyKey:
        """The key with which `iss` signs something that is taken in now. What is new stands behind this version: the
        taker's clock, should it be behind the revocation's, gives a revoked key nothing back.

        Raises:
            RegistryError, RecordError: as `signing_key`.
        """
        key = self.signing_key(iss, kid, now)
        if self.revokes(iss, kid):
            raise RegistryError("key_revoked")
        return key

    def party(self, agency: str) -> Agency:
        """A member, or an agency abroad that an agreement names. Raises RegistryError `agency_unknown`."""
        border = self.borders.get(agency.partition("/")[0])
        if border is not None and agency in border.agencies:
            return border.agencies[agency]
        return self.agency(agency)

    def home_of(self, agency: str) -> Registry:
        """By what the word of that agency is judged where no ledger is asked: ours, or what the other domain's registry
        opens to us of its own."""
        border = self.borders.get(agency.partition("/")[0])
        if border is None:
            return self
        return Registry(border.domain, self.version, self.issued, border.agencies, self.training)

    def signing_key(self, iss: str, kid: str, at: int, index: int | None = None, ledger: int = 1) -> VerifyKey:
        """The key with which `iss` signed at time `at`, and at `index` of its home ledger where that is known; `ledger`
        is the number of that ledger.

        A time is the log's, never the issuer's claim: a thief dates back. An index is that of an entry that counted:
        it stands before whatever revoked the key, and only a theft dated back by a tree size takes that away.

        Raises:
            RegistryError: agency_unknown, key_unknown, key_revoked.
            RecordError: issuer_mismatch, when the key is another agency's.
        """
        owner = self.agency(iss)
        for key in owner.keys:
            if key.kid == kid and key.use == "sig":
                if not key.counts_at(at, index, ledger):
                    raise RegistryError("key_revoked")
                cached = self._verifiers.get((iss, kid))
                if cached is None:
                    cached = self._verifiers[iss, kid] = VerifyKey(key.public)
                return cached
        if any(key.kid == kid and key.use == "sig" for other in self.agencies.values() for key in other.keys):
            raise RecordError("issuer_mismatch", "L1.header.kid")
        raise RegistryError("key_unknown")

    def seal_keys(self, agency: str, at: int) -> tuple[SealTo, ...]:
        """Every key of the agency that records are sealed to now.

        Raises:
            RegistryError: agency_unknown, key_revoked (no usable key is left).
        """
        return tuple(self._seal_to(agency, key) for key in self._sealing(agency, "seal", at))

    def newest_seal_key(self, agency: str, at: int) -> SealTo:
        """The one to which a bundle is sealed (`schemas.bundle`): an operator's gateway has a key for that alone, of
        use `bundle`, to which no record is ever sealed. Raises as `seal_keys`."""
        use: Use = "bundle" if "operator" in self.party(agency).roles else "seal"
        newest = max(self._sealing(agency, use, at), key=lambda key: (key.activated, key.kid))
        return self._seal_to(agency, newest)

    def _sealing(self, agency: str, use: Use, at: int) -> list[Key]:
        keys = [key for key in self.party(agency).keys if key.use == use]
        usable = [key for key in keys if key.counts_at(at)]
        if not usable:
            raise RegistryError("key_revoked" if keys else "key_unknown")
        return usable

    def _seal_to(self, agency: str, key: Key) -> SealTo:
        made = self._sealers.get((agency, key.kid))
        if made is None:
            made = self._sealers[agency, key.kid] = SealTo(_suite(key.suite), key.public)
        return made

    def is_stale(self, now: int) -> bool:
        return now - self.issued > STALE_AFTER_S

    def with_agency(self, agency: Agency, now: int) -> Registry:
        """The next version, with this agency added or replaced."""
        return replace(
            self,
            version=self.version + 1,
            issued=now,
            agencies=MappingProxyType({**self.agencies, agency.id: agency}),
            _verifiers={},
            _sealers={},
        )

    def with_key_revoked(
        self, agency: str, kid: str, now: int, compromised_since: int | None = None, compromised_in: int = 1
    ) -> Registry:
        """The next version, in which this key counts for nothing signed from now on; with a size of the home ledger's
        tree, the ledger of that number, for nothing that stands there from that index on, or in a later ledger.

        Raises:
            RegistryError: agency_unknown, key_unknown.
        """
        owner = self.agency(agency)
        if all(key.kid != kid for key in owner.keys):
            raise RegistryError("key_unknown")
        since = None if compromised_since is None else (compromised_in, compromised_since)
        keys = tuple(_revoked(key, now, since) if key.kid == kid else key for key in owner.keys)
        return self.with_agency(replace(owner, keys=keys), now)

    def renewed(self, now: int) -> Registry:
        """The same content, issued again: keeps installations from seeing a stale registry."""
        return replace(self, version=self.version + 1, issued=now, _verifiers={}, _sealers={})


def _revoked(key: Key, now: int, since: tuple[int, int] | None) -> Key:
    """A revocation is never taken back and never moved later; a doubt about the past may still grow.

    Args:
        since: number of a ledger and size of its tree.
    """
    key = replace(key, revoked=now if key.revoked is None else key.revoked)
    if since is None or (key.compromised_since is not None and key.stolen_at(since[1], since[0])):
        return key
    return replace(key, compromised_in=since[0], compromised_since=since[1])


def _suite(text: str) -> Suite:
    for suite in SUITES:
        if suite == text:
            return suite
    raise RegistryError("registry_invalid", "keys.suite")


def empty_registry(domain: str, now: int, training: bool = False) -> Registry:
    return Registry(domain, 1, now, MappingProxyType({}), training)


def registry_to_json(registry: Registry) -> dict[str, Any]:
    """For a process beside this one, which takes our word for it; what is signed are the targets."""
    return {
        "v": 1,
        "domain": registry.domain,
        "version": registry.version,
        "issued": registry.issued,
        "training": registry.training,
        "policy": None
        if registry.policy is None
        else {"version": registry.policy.version, "sha256": registry.policy.sha256.hex()},
        "agencies": [agency_to_json(registry.agencies[name]) for name in sorted(registry.agencies)],
        **({"borders": [_border_to_json(one) for one in registry.borders.values()]} if registry.borders else {}),
        **(ledgers_to_json(registry.ledgers) if registry.ledgers else {}),
        **(
            {"protocols": {name: _protocol_to_json(one) for name, one in registry.protocols.items()}}
            if registry.protocols
            else {}
        ),
    }


def _protocol_to_json(found: SignedProtocol) -> dict[str, Any]:
    return {
        "terms": agreement_to_json(found.terms),
        "lacking": list(found.lacking),
        "ended_by": list(found.ended_by),
    }


def _protocol_from_json(raw: Any, name: str, domain: str, path: str) -> SignedProtocol:
    if not isinstance(raw, dict) or raw.keys() != {"terms", "lacking", "ended_by"}:
        raise RegistryError("registry_invalid", path)
    terms = agreement_from_json(raw["terms"], name, domain, path)
    for member in ("lacking", "ended_by"):
        if not isinstance(raw[member], list) or not all(one in terms.agencies for one in raw[member]):
            raise RegistryError("registry_invalid", path)
    return SignedProtocol(terms, tuple(raw["lacking"]), tuple(raw["ended_by"]))


def _border_to_json(border: Border) -> dict[str, Any]:
    return {
        "domain": border.domain,
        "agreements": {name: agreement_to_json(one) for name, one in border.agreements.items()},
        "one_sided": dict(border.one_sided),
        "agencies": [agency_to_json(one) for one in border.agencies.values()],
    }


def _border_from_json(raw: Any, path: str) -> Border:
    members = {"domain", "agreements", "one_sided", "agencies"}
    if not isinstance(raw, dict) or raw.keys() != members or not isinstance(raw["agencies"], list):
        raise RegistryError("registry_invalid", path)
    if not isinstance(raw["agreements"], dict) or not isinstance(raw["one_sided"], dict):
        raise RegistryError("registry_invalid", path)
    agencies = [agency_from_json(one, f"{path}.agencies[{i}]") for i, one in enumerate(raw["agencies"])]
    return Border(
        raw["domain"],
        {name: agreement_from_json(one, name, raw["domain"], path) for name, one in raw["agreements"].items()},
        raw["one_sided"],
        {one.id: one for one in agencies},
    )


def agency_to_json(agency: Agency) -> dict[str, Any]:
    home = _home(agency.id)
    return {
        "id": agency.id,
        "protected": agency.protected,
        "names": dict(agency.names),
        "roles": list(agency.roles),
        "keys": [
            {
                "kid": key.kid,
                "use": key.use,
                "suite": key.suite,
                "pub": b64url(key.public),
                "activated": key.activated,
                "expires": key.expires,
                "revoked": key.revoked,
                **({} if key.compromised_since is None else {"compromised_since": key.compromised_since}),
                **({} if key.compromised_in == 1 else {"compromised_in": origin_of(home, key.compromised_in)}),
            }
            for key in agency.keys
        ],
        **({"direct": True} if agency.direct else {}),
        **({"endpoints": dict(agency.endpoints)} if agency.endpoints else {}),
    }


def _home(agency: str) -> str:
    return agency.partition("/")[0]


def registry_from_json(raw: Any) -> Registry:
    """Read what `registry_to_json` wrote; whether to believe it is the caller's to know.

    Raises:
        RegistryError: registry_invalid, with the path that is wrong.
    """
    members = {"v", "domain", "version", "issued", "training", "policy", "agencies"}
    if not isinstance(raw, dict) or raw.keys() - {"borders", "ledgers", "protocols"} != members:
        raise RegistryError("registry_invalid", "payload")
    if not isinstance(raw["agencies"], list):
        raise RegistryError("registry_invalid", "payload")
    if not isinstance(raw.get("borders", []), list):
        raise RegistryError("registry_invalid", "borders")
    if type(raw["v"]) is not int or raw["v"] != 1 or type(raw["training"]) is not bool:
        raise RegistryError("registry_invalid", "payload")
    if any(type(raw[name]) is not int or raw[name] < 1 for name in ("version", "issued")):
        raise RegistryError("registry_invalid", "payload")
    if not isinstance(raw["domain"], str) or _DOMAIN.fullmatch(raw["domain"]) is None:
        raise RegistryError("registry_invalid", "payload")
    agencies: dict[str, Agency] = {}
    for index, item in enumerate(raw["agencies"]):
        agency = agency_from_json(item, f"agencies[{index}]")
        if agency.id in agencies or agency.id.partition("/")[0] != raw["domain"]:
            raise RegistryError("registry_invalid", f"agencies[{index}].id")
        agencies[agency.id] = agency
    refuse_shared_keys(agencies)
    if not isinstance(raw.get("protocols", {}), dict):
        raise RegistryError("registry_invalid", "protocols")
    borders = [_border_from_json(one, f"borders[{i}]") for i, one in enumerate(raw.get("borders", []))]
    return Registry(
        raw["domain"],
        raw["version"],
        raw["issued"],
        MappingProxyType(agencies),
        raw["training"],
        {one.domain: one for one in borders},
        _policy_from_json(raw["policy"]),
        ledgers_from_json({"ledgers": raw["ledgers"]}, raw["domain"]) if "ledgers" in raw else (),
        {
            name: _protocol_from_json(one, name, raw["domain"], f"protocols.{name}")
            for name, one in raw.get("protocols", {}).items()
        },
    )


def _policy_from_json(raw: Any) -> AgreedPolicy | None:
    if raw is None:
        return None
    try:
        if raw.keys() != {"version", "sha256"} or type(raw["version"]) is not int or len(raw["sha256"]) != 64:
            raise ValueError("shape")
        return AgreedPolicy(raw["version"], bytes.fromhex(raw["sha256"]))
    except (AttributeError, TypeError, ValueError):
        raise RegistryError("registry_invalid", "policy") from None


def refuse_shared_keys(agencies: Mapping[str, Agency]) -> None:
    """One key, one agency: else who signed? Raises RegistryError `registry_invalid`."""
    kids = [key.kid for agency in agencies.values() for key in agency.keys]
    if len(kids) != len(set(kids)):
        raise RegistryError("registry_invalid", "agencies.keys")


def agency_from_json(raw: Any, path: str = "agency") -> Agency:
    """Raises RegistryError `registry_invalid`."""

    def bad(where: str) -> RegistryError:
        return RegistryError("registry_invalid", f"{path}.{where}")

    # `direct` and `endpoints` may be absent: files written before them are as valid as ever.
    always = {"id", "protected", "names", "roles", "keys"}
    if not isinstance(raw, dict) or raw.keys() - {"direct", "endpoints"} != always:
        raise bad("*")
    if not isinstance(raw["id"], str) or not is_agency(raw["id"]):
        raise bad("id")
    names = raw["names"]
    if not isinstance(names, dict) or "fr" not in names or not names.keys() <= {"fr", "en", "rn", "ar"}:
        raise bad("names")
    # Whoever approves an agency reads them between other lines.
    if not all(isinstance(name, str) and 0 < len(name) <= 200 and is_one_line(name) for name in names.values()):
        raise bad("names")
    if not isinstance(raw["roles"], list) or not all(role in ROLES for role in raw["roles"]):
        raise bad("roles")
    if len(set(raw["roles"])) != len(raw["roles"]):
        raise bad("roles")
    if type(raw["protected"]) is not bool:
        raise bad("protected")
    if type(raw.get("direct", False)) is not bool:
        raise bad("direct")
    if "endpoints" in raw and (raw["protected"] or not _are_endpoints(raw["endpoints"])):
        raise bad("endpoints")  # an address tells where a protected place is
    if not isinstance(raw["keys"], list):
        raise bad("keys")
    home = _home(raw["id"])
    keys = tuple(_key_from_json(item, home, f"{path}.keys[{i}]") for i, item in enumerate(raw["keys"]))
    return Agency(
        raw["id"],
        MappingProxyType(names),
        tuple(raw["roles"]),
        keys,
        raw["protected"],
        raw.get("direct", False),
        MappingProxyType(raw.get("endpoints", {})),
    )


def _are_endpoints(raw: Any) -> bool:
    if not isinstance(raw, dict) or not raw or not raw.keys() <= set(ENDPOINTS):
        return False
    return all(isinstance(url, str) and _URL.fullmatch(url) is not None for url in raw.values())


def _key_from_json(raw: Any, domain: str, path: str) -> Key:
    members = {"kid", "use", "suite", "pub", "activated", "expires", "revoked"}
    if not isinstance(raw, dict) or raw.keys() - {"compromised_since", "compromised_in"} != members:
        raise RegistryError("registry_invalid", f"{path}.*")
    since = raw.get("compromised_since")
    if "compromised_since" in raw and (type(since) is not int or since < 0 or raw["revoked"] is None):
        raise RegistryError("registry_invalid", f"{path}.compromised_since")
    ledger = _compromised_in(raw, domain, path)
    for name in ("activated", "expires", "revoked"):
        if type(raw[name]) is not int and not (name == "revoked" and raw[name] is None):
            raise RegistryError("registry_invalid", f"{path}.{name}")
    use = next((one for one in USES if one == raw["use"]), None)
    if use is None:
        raise RegistryError("registry_invalid", f"{path}.use")
    suites: Mapping[Use, tuple[str, ...]] = {"sig": ("ES256",), "seal": SUITES, "bundle": SUITES, "tls": (TLS_PIN,)}
    if raw["suite"] not in suites[use]:
        raise RegistryError("registry_invalid", f"{path}.suite")
    try:
        public = unb64url(raw["pub"] if isinstance(raw["pub"], str) else "?")
        kid = _kid(use, raw["suite"], public)
    except (ValueError, RegistryError):
        raise RegistryError("registry_invalid", f"{path}.pub") from None
    if kid != raw["kid"]:
        raise RegistryError("registry_invalid", f"{path}.kid")
    return Key(kid, use, raw["suite"], public, raw["activated"], raw["expires"], raw["revoked"], since, ledger)


def _compromised_in(raw: Mapping[str, Any], domain: str, path: str) -> int:
    """Which ledger; the first is never named, so that there is one way to say it."""
    if "compromised_in" not in raw:
        return 1
    named = raw["compromised_in"]
    number = ledger_number(named, domain) if isinstance(named, str) else 0
    if number < 2 or "compromised_since" not in raw:
        raise RegistryError("registry_invalid", f"{path}.compromised_in")
    return number


def _kid(use: Use, suite: str, public: bytes) -> str:
    """Raises ValueError, RegistryError: not a key of that use."""
    if use == "tls":
        if len(public) != 32:
            raise ValueError("length")
        return kid_of(public)
    return (VerifyKey(public) if use == "sig" else SealTo(_suite(suite), public)).kid


def tls_key(spki: bytes, activated: int, expires: int) -> Key:
    """The entry of a TLS key.

    Args:
        spki: SubjectPublicKeyInfo of its certificate (RFC 5280), DER.
        activated, expires: of the certificate, seconds since the epoch.
    """
    pin = hashlib.sha256(spki).digest()
    return Key(kid_of(pin), "tls", TLS_PIN, pin, activated, expires)


def dumps_agency(agency: Agency) -> str:
    """An agency's enrolment file: what it sends to the operator, public keys only."""
    return json.dumps(agency_to_json(agency), indent=1, ensure_ascii=False) + "\n"
