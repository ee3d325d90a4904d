# SPDX-License-Identifier: Apache-2.0
"""The shape of a registry's TUF metadata and targets: what each file may say, and no more.

python-tuf reads the specification generously, as it should: members that it does not know are carried along unseen, key
ids are taken as they are written. Here every member is expected or refused, so that two readers never see two
registries in one file. Signatures are not looked at: `schemas/registry_trust.py` does that.

Pure. Must never: put a byte of the input into an error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from schemas import ijson
from schemas.agreements import Agreement, agreement_from_json
from schemas.errors import RegistryError
from schemas.keys import VerifyKey
from schemas.ledgers import AnnouncedLedger, ledgers_from_json
from schemas.registry import Agency, AgreedPolicy, agency_from_json, refuse_shared_keys

ROLES = ("root", "targets", "snapshot", "timestamp")
DOMAIN = "x-umuhuza-domain"
TRAINING = "x-umuhuza-training"
HOLDER = "x-umuhuza-holder"
MAX_METADATA_BYTES = 1 << 20
MAX_VERSION = 1 << 31

_KEY_ID = re.compile(r"[0-9a-f]{64}")
_DER = re.compile(r"(?:[0-9a-f]{2}){8,80}")
_EXPIRES = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_SPEC = re.compile(r"1\.0\.\d{1,3}")
_HOLDER = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
TARGET = re.compile(r"(?:(agencies|agreements)/([a-z0-9][a-z0-9-]{0,60})|policy|ledgers)\.json")
"""How a target is called."""
_COMMON = frozenset(("_type", "spec_version", "version", "expires"))
_MORE = {
    "root": frozenset(("consistent_snapshot", "keys", "roles", DOMAIN, TRAINING)),
    "targets": frozenset(("targets",)),
    "snapshot": frozenset(("meta",)),
    "timestamp": frozenset(("meta",)),
}
T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


@dataclass(frozen=True, slots=True)
class Holder:
    """One of those who decide together: a name for people, and the key."""

    name: str
    key: VerifyKey

    @property
    def keyid(self) -> str:
        """TUF's: hex SHA-256 of the key's canonical JSON."""
        return key_id(self.key)


def key_id(key: VerifyKey) -> str:
    """TUF 1.0.33, section 4.2: hex SHA-256 of the canonical form of the key."""
    return hashlib.sha256(str(encode_canonical(key_to_json(key))).encode("utf-8")).hexdigest()


def key_to_json(key: VerifyKey) -> dict[str, Any]:
    """As root metadata hold it, without the holder's name."""
    return {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": key.pem()}}


def read_root(data: bytes, where: str = "root") -> tuple[Metadata[Root], tuple[Holder, ...]]:
    """A root's shape, its signatures not looked at. Raises RegistryError `registry_invalid`."""
    root = read_metadata(data, "root", Root, where)
    return root, _holders(root.signed, where)


def read_targets(data: bytes, where: str = "targets") -> Metadata[Targets]:
    """Shape alone, its signatures not looked at. Raises RegistryError `registry_invalid`."""
    return read_metadata(data, "targets", Targets, where)


def read_contents(
    contents: Mapping[str, bytes], domain: str
) -> tuple[Mapping[str, Agency], Mapping[str, Agreement], bytes | None, tuple[AnnouncedLedger, ...]]:
    """Targets by their names: agencies by id, agreements by name, the policy as it is, the domain's ledgers.

    Raises:
        RegistryError: registry_invalid, with the path that is wrong (`agencies.iom.keys[0].pub`).
    """
    agencies: dict[str, Agency] = {}
    agreements: dict[str, Agreement] = {}
    ledgers: tuple[AnnouncedLedger, ...] = ()
    for target in sorted(contents):
        found = TARGET.fullmatch(target)
        if found is None:
            raise RegistryError("registry_invalid", "targets.targets")
        kind, name = found[1], found[2]
        where = target.removesuffix(".json").replace("/", ".")
        try:
            raw = ijson.loads(contents[target], max_bytes=MAX_METADATA_BYTES, max_depth=16, floats=where == "policy")
        except ijson.IJsonError:
            raise RegistryError("registry_invalid", where) from None
        if kind == "agencies":
            agency = agency_from_json(raw, where)
            if agency.id != f"{domain}/{name}":
                raise RegistryError("registry_invalid", f"{where}.id")
            agencies[agency.id] = agency
        elif kind == "agreements":
            agreements[name] = agreement_from_json(raw, name, domain, where)
        elif where == "ledgers":
            ledgers = ledgers_from_json(raw, domain)
    refuse_shared_keys(agencies)
    _refuse_unannounced(agencies, ledgers)
    return MappingProxyType(agencies), MappingProxyType(agreements), contents.get("policy.json"), ledgers


def _refuse_unannounced(agencies: Mapping[str, Agency], ledgers: Sequence[AnnouncedLedger]) -> None:
    """A size of a tree that the same registry does not know says nothing."""
    numbers = {1, *(one.number for one in ledgers)}
    for agency in agencies.values():
        for index, key in enumerate(agency.keys):
            if ledgers and key.compromised_in not in numbers:
                name = agency.id.partition("/")[2]
                raise RegistryError("registry_invalid", f"agencies.{name}.keys[{index}].compromised_in")


def agreed_policy(target: bytes | None) -> AgreedPolicy | None:
    """What the target `policy.json` says of itself; one that states no version has 0."""
    if target is None:
        return None
    try:
        raw = ijson.loads(target, max_bytes=MAX_METADATA_BYTES, max_depth=16, floats=True)
    except ijson.IJsonError:
        raise RegistryError("registry_invalid", "policy") from None
    version = raw.get("version") if isinstance(raw, dict) else None
    return AgreedPolicy(version if type(version) is int else 0, hashlib.sha256(target).digest())


def read_metadata(data: bytes, role: str, kind: type[T], where: str) -> Metadata[T]:
    """Metadata of this role and of no other shape than the one that is written here.

    Raises:
        RegistryError: registry_invalid, with the member that is wrong.
    """
    try:
        raw = ijson.loads(data, max_bytes=MAX_METADATA_BYTES, max_depth=8)
        _shape(raw, role, where)
        read: Metadata[T] = Metadata.from_bytes(data)
    except (ijson.IJsonError, DeserializationError):
        raise RegistryError("registry_invalid", where) from None
    if not isinstance(read.signed, kind):
        raise RegistryError("registry_invalid", f"{where}._type")
    return read


def _shape(raw: Any, role: str, where: str) -> None:
    """The members, each of its type: what the library would carry along unseen is refused."""
    _object(raw, {"signatures", "signed"}, where)
    signed, signatures = raw["signed"], raw["signatures"]
    _object(signed, _COMMON | _MORE[role], f"{where}.signed")
    if signed["_type"] != role:
        raise RegistryError("registry_invalid", f"{where}._type")
    _text(signed["spec_version"], _SPEC, f"{where}.spec_version")
    _text(signed["expires"], _EXPIRES, f"{where}.expires")
    try:
        datetime.strptime(signed["expires"], "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        raise RegistryError("registry_invalid", f"{where}.expires") from None
    _count(signed["version"], f"{where}.version")
    if not isinstance(signatures, list):
        raise RegistryError("registry_invalid", f"{where}.signatures")
    for one in signatures:
        _object(one, {"keyid", "sig"}, f"{where}.signatures")
        _text(one["keyid"], _KEY_ID, f"{where}.signatures")
        _text(one["sig"], _DER, f"{where}.signatures")
    if len({one["keyid"] for one in signatures}) != len(signatures):
        raise RegistryError("registry_invalid", f"{where}.signatures")
    if role == "root":
        _root_shape(signed, where)
    elif role == "targets":
        _listed(signed["targets"], None, f"{where}.targets", versions=False)
    else:
        names = {"snapshot.json"} if role == "timestamp" else {"root.json", "targets.json"}
        _listed(signed["meta"], names, f"{where}.meta", versions=True)


def _root_shape(signed: Any, where: str) -> None:
    if signed["consistent_snapshot"] is not True or type(signed[TRAINING]) is not bool:
        raise RegistryError("registry_invalid", f"{where}.signed")
    _text(signed[DOMAIN], re.compile("[a-z]{2}"), f"{where}.{DOMAIN}")
    if not isinstance(signed["keys"], dict) or len(signed["keys"]) > 32:
        raise RegistryError("registry_invalid", f"{where}.keys")
    for keyid, key in signed["keys"].items():
        _text(keyid, _KEY_ID, f"{where}.keys")
        _object(key, {"keytype", "scheme", "keyval", HOLDER}, f"{where}.keys")
        _object(key["keyval"], {"public"}, f"{where}.keys")
        _text(key[HOLDER], _HOLDER, f"{where}.keys")
        if key["keytype"] != "ecdsa" or key["scheme"] != "ecdsa-sha2-nistp256":
            raise RegistryError("registry_invalid", f"{where}.keys")
        if not isinstance(key["keyval"]["public"], str) or len(key["keyval"]["public"]) > 512:
            raise RegistryError("registry_invalid", f"{where}.keys")
    _object(signed["roles"], set(ROLES), f"{where}.roles")
    for role in ROLES:
        here = f"{where}.roles.{role}"
        one = signed["roles"][role]
        _object(one, {"keyids", "threshold"}, here)
        _count(one["threshold"], here)
        if not isinstance(one["keyids"], list) or not all(isinstance(keyid, str) for keyid in one["keyids"]):
            raise RegistryError("registry_invalid", here)
        if len(set(one["keyids"])) != len(one["keyids"]) or not set(one["keyids"]) <= signed["keys"].keys():
            raise RegistryError("registry_invalid", here)
        if len(one["keyids"]) < one["threshold"]:
            raise RegistryError("registry_invalid", here)
    if set().union(*(signed["roles"][role]["keyids"] for role in ROLES)) != signed["keys"].keys():
        raise RegistryError("registry_invalid", f"{where}.keys")


def _holders(root: Root, where: str) -> tuple[Holder, ...]:
    """Keys under their own ids: one key under two ids would count twice."""
    found = []
    for keyid, key in root.keys.items():
        try:
            holder = Holder(key.unrecognized_fields[HOLDER], VerifyKey.from_pem(key.keyval["public"]))
        except (RegistryError, UnicodeEncodeError):
            raise RegistryError("registry_invalid", f"{where}.keys") from None
        if holder.keyid != keyid:
            raise RegistryError("registry_invalid", f"{where}.keys")
        found.append(holder)
    if len({holder.name for holder in found}) != len(found):
        raise RegistryError("registry_invalid", f"{where}.keys")
    return tuple(sorted(found, key=lambda holder: holder.name))


def _listed(raw: Any, names: set[str] | None, where: str, *, versions: bool) -> None:
    if not isinstance(raw, dict) or (names is not None and raw.keys() != names):
        raise RegistryError("registry_invalid", where)
    for one in raw.values():
        _object(one, {"length", "hashes"} | ({"version"} if versions else set()), where)
        _object(one["hashes"], {"sha256"}, where)
        _text(one["hashes"]["sha256"], _KEY_ID, where)
        _count(one["length"], where)
        if versions:
            _count(one["version"], where)


def _object(raw: Any, members: set[str] | frozenset[str], where: str) -> None:
    if not isinstance(raw, dict) or raw.keys() != members:
        raise RegistryError("registry_invalid", where)


def _text(raw: Any, shape: re.Pattern[str], where: str) -> None:
    if not isinstance(raw, str) or shape.fullmatch(raw) is None:
        raise RegistryError("registry_invalid", where)


def _count(raw: Any, where: str) -> None:
    if type(raw) is not int or not 0 < raw <= MAX_VERSION:
        raise RegistryError("registry_invalid", where)
