# SPDX-License-Identifier: Apache-2.0
"""Whether a registry is to be believed: the client's workflow of The Update Framework (TUF 1.0.33, section 5).

A domain's registry is a TUF repository of its own, in the four roles of the specification:

    root        who the holders are, how many must agree to what; the domain; whether it is for training
    targets     agencies/<id>.json, agreements/<name>.json, policy.json, ledgers.json: what is so
    snapshot    which version of root and targets go together
    timestamp   the newest snapshot; counted up by every publication, so it is the registry's version

`trusted` believes a file iff the root it is pinned to (`RootPin`) leads to the newest root, each signed by enough
holders of itself and of the one before it, and that root's holders have signed the rest; lengths, hashes and versions
fit together; and nothing is older than what was held before. Expiry is not judged here but asked of the result with a
time (`fresh_until`), since what was signed in time stays readable off line: a registry out of date stops new requests
only, and is not taken by a reader that has none yet.

Narrower than the specification, so that there is one way to say a thing: keys are P-256 alone and called by their
standard key id; no delegations, no members that nobody asked for, no file that is not called for; the snapshot names
the root too, so that one hash, the timestamp's, fixes everything.

Pure: bytes in, values out; the time is an argument. Must never: put a byte of the input into an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from schemas.agreements import Agreement
from schemas.errors import RegistryError
from schemas.ledgers import LEDGERS_TARGET
from schemas.protocols import protocols_in
from schemas.registry import STALE_AFTER_S, USES, Agency, Registry
from schemas.registry_bundle import (
    MAX_REGISTRY_BYTES,
    TIMESTAMP,
    RootPin,
    pack,
    root_path,
    snapshot_path,
    target_path,
    targets_path,
    unpack,
)
from schemas.registry_metadata import (
    DOMAIN,
    ROLES,
    TARGET,
    TRAINING,
    Holder,
    agreed_policy,
    read_contents,
    read_metadata,
    read_root,
    read_targets,
)

MAX_ROOTS = 1024
WARN_BEFORE_S = 60 * 86_400
"""So long before a key, the root or the targets end, somebody has to be told."""
WARN_OF_RENEWAL_S = 5 * 86_400
"""The same for snapshot and timestamp, which are good for 30 days."""


@dataclass(frozen=True, slots=True)
class Expiring:
    """Something that ends soon or has ended. `what`: root, targets, registry (snapshot and timestamp), or a
    key's use."""

    what: str
    of: str
    """The domain, or the agency whose key it is."""
    at: int


@dataclass(frozen=True, slots=True)
class TrustedRegistry:
    """A verified registry with all that was signed. Only `trusted` makes one."""

    registry: Registry
    versions: Mapping[str, int]
    """By role."""
    expires: Mapping[str, int]
    """By role, seconds since the epoch."""
    holders: tuple[Holder, ...]
    thresholds: Mapping[str, int]
    """By role: how many holders must have signed."""
    agreements: Mapping[str, Agreement]
    policy: bytes | None
    """The target `policy.json` as it is; None where the domain has not published one."""
    files: Mapping[str, bytes] = field(repr=False)
    data: bytes = field(repr=False)
    """The one file it was read from."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the timestamp, which fixes every other file: what a ledger names this version by."""
        return hashlib.sha256(self.files[TIMESTAMP]).digest()

    @property
    def root(self) -> bytes:
        return self.files[root_path(self.versions["root"])]

    @property
    def pin(self) -> RootPin:
        """Of the newest root: what a new installation may be given."""
        return RootPin.of(self.root)

    @property
    def fresh_until(self) -> int:
        """Seconds since the epoch, from which no new request is sent by it."""
        return min(self.expires.values())

    def require_fresh(self, now: int) -> None:
        """For a reader that had no registry before: an old one may be all that somebody wants it to see.

        Raises:
            RegistryError: registry_stale, with the role that has expired.
        """
        for role in ROLES:
            if self.expires[role] <= now:
                raise RegistryError("registry_stale", role)

    def expiring(self, now: int, of: str | None = None) -> tuple[Expiring, ...]:
        """What ends within 60 days (the snapshot and timestamp, good for 30: within 5), soonest first.

        Args:
            of: an agency whose keys alone are wanted, beside the domain's own; None: every agency's.
        """
        published = min(self.expires["snapshot"], self.expires["timestamp"])
        found = [one for one in self._endings(now, of) if one.at - now <= WARN_BEFORE_S]
        if published - now <= WARN_OF_RENEWAL_S:
            found.append(Expiring("registry", self.registry.domain, published))
        return tuple(sorted(found, key=lambda one: (one.at, one.what, one.of)))

    def ends_at(self, now: int) -> int:
        """When the first of these ends that people have to meet for: the root, the targets, a member's last key."""
        return min(one.at for one in self._endings(now, None))

    def _endings(self, now: int, of: str | None) -> list[Expiring]:
        found = [Expiring(role, self.registry.domain, self.expires[role]) for role in ("root", "targets")]
        for agency in self.registry.agencies.values():
            if of is None or agency.id == of:
                found += _ending(agency, now)
        return found


def _ending(agency: Agency, now: int) -> list[Expiring]:
    """When its last key of each use ends: one that has a longer-lived one beside it needs nobody any more."""
    counting = [key for key in agency.keys if key.counts_at(now)]
    found = []
    for use in USES:
        last = max((key.expires for key in counting if key.use == use), default=None)
        if last is not None:
            found.append(Expiring(use, agency.id, last))
    return found


def trusted(
    data: bytes, pin: RootPin, held: TrustedRegistry | None = None, *, excerpt: bool = False
) -> TrustedRegistry:
    """Verify one file.

    Args:
        pin: the root this installation was told of.
        held: what it believed before; the answer is that or newer.
        excerpt: targets that the metadata list may be missing (`excerpt_of`): whose they are is then nobody's here.

    Raises:
        RegistryError: registry_root_unknown (another domain's, or training beside production), registry_threshold
            (too few signatures), registry_rollback (older than `held`, or another history), registry_invalid (anything
            else, with the path that is wrong).
    """
    if held is not None and data == held.data:
        return held
    files = unpack(data)
    roots, holders = _roots(files, pin)
    newest = roots[-1].signed
    timestamp = _timestamp(files, newest)
    if held is not None:
        _refuse_other_history(files, held)
    snapshot = _snapshot(files, newest, timestamp, len(roots))
    listed, version = snapshot.meta["targets.json"], snapshot.meta["targets.json"].version
    path = targets_path(version)
    targets = read_targets(_fitting(files, path, listed.length, listed.hashes, "targets"))
    _require_version(targets.signed.version, version, "targets")
    verify_role(newest, "targets", targets, "targets")
    wanted = {TIMESTAMP, snapshot_path(snapshot.version), path, *(root_path(n + 1) for n in range(len(roots)))}
    contents: dict[str, bytes] = {}
    for name, one in targets.signed.targets.items():
        if TARGET.fullmatch(name) is None or one.hashes.keys() != {"sha256"}:
            raise RegistryError("registry_invalid", "targets.targets")
        lies = target_path(name, one.hashes["sha256"])
        if excerpt and lies not in files and name != LEDGERS_TARGET:  # who leaves that one out hides a lost ledger
            continue
        contents[name] = _fitting(files, lies, one.length, one.hashes, "targets.targets")
        wanted.add(lies)
    if files.keys() != wanted:
        raise RegistryError("registry_invalid", "file")
    signed: Mapping[str, Signed] = {
        "root": newest,
        "targets": targets.signed,
        "snapshot": snapshot,
        "timestamp": timestamp,
    }
    versions = {role: one.version for role, one in signed.items()}
    if held is not None:
        _refuse_older(versions, roots, targets, held)
    expires = {role: int(one.expires.timestamp()) for role, one in signed.items()}
    domain, training = _domain(newest)
    agencies, agreements, policy, ledgers = read_contents(contents, domain)
    issued = min(expires.values()) - STALE_AFTER_S
    if issued < 1:
        raise RegistryError("registry_invalid", "expires")
    return TrustedRegistry(
        Registry(
            domain,
            timestamp.version,
            issued,
            agencies,
            training,
            policy=agreed_policy(policy),
            ledgers=ledgers,
            protocols=MappingProxyType(protocols_in(agreements, agencies, training=training)),
        ),
        MappingProxyType(versions),
        MappingProxyType(expires),
        holders,
        MappingProxyType({role: one.threshold for role, one in newest.roles.items()}),
        agreements,
        policy,
        files,
        data,
    )


def excerpt_of(held: TrustedRegistry, targets: Collection[str]) -> bytes:
    """The same registry, as one file, without the targets that are not named (`agencies/iom.json`): what another
    domain is given. The domain's ledgers always go with it. Every signature and hash in it stays; names of the others
    and their entries do not travel, only that there are so many, under which ids. Reading it takes
    `trusted(..., excerpt=True)`.

    Raises:
        RegistryError: registry_invalid, a target that is not there.
    """
    listed = read_targets(held.files[targets_path(held.versions["targets"])]).signed.targets
    if not set(targets) <= listed.keys():
        raise RegistryError("registry_invalid", "targets.targets")
    names = {*targets, *({LEDGERS_TARGET} & listed.keys())}
    kept = {target_path(name, listed[name].hashes["sha256"]) for name in names}
    return pack({path: data for path, data in held.files.items() if path in kept or not path.startswith("targets/")})


def called_for(read: Callable[[str], bytes | None]) -> dict[str, bytes]:
    """The files that a repository's own timestamp leads to, older ones that lie beside them left out; nothing is
    verified but shapes.

    Args:
        read: the bytes of a file of the repository, None when it is not there.

    Raises:
        RegistryError: registry_invalid.
    """
    files: dict[str, bytes] = {}

    def take(path: str) -> bytes:
        data = read(path)
        if data is None or len(data) > MAX_REGISTRY_BYTES - sum(map(len, files.values())):
            raise RegistryError("registry_invalid", "file")
        files[path] = data
        return data

    timestamp = read_metadata(take(TIMESTAMP), "timestamp", Timestamp, "timestamp").signed
    path = snapshot_path(timestamp.snapshot_meta.version)
    snapshot = read_metadata(take(path), "snapshot", Snapshot, "snapshot").signed
    targets = read_targets(take(targets_path(snapshot.meta["targets.json"].version)))
    for name, one in targets.signed.targets.items():
        if TARGET.fullmatch(name) is None:
            raise RegistryError("registry_invalid", "targets.targets")
        take(target_path(name, one.hashes["sha256"]))
    # Every root there is, not only the one stated: a newer one takes the older snapshot's worth away.
    version = 1
    while version <= MAX_ROOTS and (data := read(root_path(version))) is not None:
        files[root_path(version)] = data
        version += 1
    return files


def _roots(files: Mapping[str, bytes], pin: RootPin) -> tuple[list[Metadata[Root]], tuple[Holder, ...]]:
    """The chain from the first root on, each signed by enough of its own holders and of those before."""
    chain: list[Metadata[Root]] = []
    holders: tuple[Holder, ...] = ()
    pinned = False
    while (data := files.get(root_path(len(chain) + 1))) is not None:
        where = f"root[{len(chain) + 1}]"
        root, holders = read_root(data, where)
        _require_version(root.signed.version, len(chain) + 1, where)
        if chain:
            verify_role(chain[-1].signed, "root", root, where)
            if _domain(chain[-1].signed) != _domain(root.signed):
                raise RegistryError("registry_invalid", f"{where}.{DOMAIN}")
        verify_role(root.signed, "root", root, where)
        pinned = pinned or RootPin.of(data) == pin
        chain.append(root)
    if not pinned:
        raise RegistryError("registry_root_unknown", "root")
    return chain, holders


def _domain(root: Root) -> tuple[str, bool]:
    return root.unrecognized_fields[DOMAIN], root.unrecognized_fields[TRAINING]


def _timestamp(files: Mapping[str, bytes], root: Root) -> Timestamp:
    if TIMESTAMP not in files:
        raise RegistryError("registry_invalid", "timestamp")
    read = read_metadata(files[TIMESTAMP], "timestamp", Timestamp, "timestamp")
    verify_role(root, "timestamp", read, "timestamp")
    return read.signed


def _snapshot(files: Mapping[str, bytes], root: Root, timestamp: Timestamp, newest: int) -> Snapshot:
    listed = timestamp.snapshot_meta
    data = _fitting(files, snapshot_path(listed.version), listed.length, listed.hashes, "snapshot")
    read = read_metadata(data, "snapshot", Snapshot, "snapshot")
    _require_version(read.signed.version, listed.version, "snapshot")
    verify_role(root, "snapshot", read, "snapshot")
    stated = read.signed.meta["root.json"]
    if stated.version != newest:
        raise RegistryError("registry_invalid", "snapshot.meta")
    _fitting(files, root_path(newest), stated.length, stated.hashes, "snapshot.meta")
    return read.signed


def _require_version(found: int, stated: int, where: str) -> None:
    if found != stated:
        raise RegistryError("registry_invalid", f"{where}.version")


def _refuse_other_history(files: Mapping[str, bytes], held: TrustedRegistry) -> None:
    """What was believed stays so: every root that was held is in the chain, byte for byte."""
    for version in range(1, held.versions["root"] + 1):
        if files.get(root_path(version)) != held.files[root_path(version)]:
            raise RegistryError("registry_rollback", f"root[{version}]")


def _refuse_older(
    versions: Mapping[str, int], roots: Sequence[Metadata[Root]], targets: Metadata[Targets], held: TrustedRegistry
) -> None:
    """TUF 1.0.33, sections 5.4.3 and 5.5.5; one version twice with other contents is another history: holders may have
    signed two changes of one number and published one. Whoever kept the other, and can sign a timestamp, must not take
    the published one back with it, a revocation for instance.

    When a newer root has other holders for a role, its count may begin lower (5.3.11): a thief of the old keys could
    else have counted up to the end and stopped every publication for ever. Nothing older comes in by it, since the
    snapshot names the newest root.
    """
    before, newest = roots[held.versions["root"] - 1].signed, roots[-1].signed
    for role in ("timestamp", "snapshot", "targets"):
        if set(before.roles[role].keyids) != set(newest.roles[role].keyids):
            continue
        if versions[role] < held.versions[role] or (role == "timestamp" and versions[role] == held.versions[role]):
            raise RegistryError("registry_rollback", f"{role}.version", expected=held.versions[role])
        if role == "targets" and versions[role] == held.versions[role]:
            same = read_targets(held.files[targets_path(versions[role])])
            if same.signed_bytes != targets.signed_bytes:  # signatures may have been added
                raise RegistryError("registry_rollback", "targets.version", expected=held.versions[role])


def _fitting(
    files: Mapping[str, bytes], path: str, length: int | None, hashes: Mapping[str, str] | None, where: str
) -> bytes:
    data = files.get(path)
    if data is None or hashes is None or length != len(data):
        raise RegistryError("registry_invalid", where)
    if hashes.get("sha256") != hashlib.sha256(data).hexdigest():
        raise RegistryError("registry_invalid", where)
    return data


def verify_role(root: Root, role: str, signed: Metadata[Any], where: str) -> None:
    """Raises RegistryError `registry_threshold` unless enough holders of `root` have signed for `role`."""
    try:
        root.verify_delegate(role, signed.signed_bytes, signed.signatures)
    except (UnsignedMetadataError, UnverifiedSignatureError, ValueError):
        raise RegistryError("registry_threshold", f"{where}.signatures", expected=root.roles[role].threshold) from None
