# SPDX-License-Identifier: Apache-2.0
"""Make a registry: metadata written, signed by holders one after the other, and put together for publication.

The order is what makes several holders possible. Root and targets are written first and gather their signatures, as a
proposal that is carried from holder to holder. Whoever adds the last one signs the snapshot and the timestamp over
them, for which one holder is enough: they say only that what the others signed is the newest.

Pure: keys, times and bytes come in. ES256 signing is deterministic, so that the same change made twice is the same
file. Must never: sign what was not verified against the registry it builds on (`assembled` reads its own result back as
every reader will).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from securesystemslib.signer import Key as TufKey
from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp

from schemas import ijson
from schemas.agreements import Agreement, agreement_to_json
from schemas.errors import RegistryError
from schemas.keys import Signer, der_signature
from schemas.ledgers import LEDGERS_TARGET, AnnouncedLedger, ledgers_to_json
from schemas.registry import STALE_AFTER_S, Agency, agency_to_json
from schemas.registry_bundle import (
    MAX_REGISTRY_BYTES,
    TIMESTAMP,
    RootPin,
    pack,
    root_path,
    snapshot_path,
    target_path,
    targets_path,
)
from schemas.registry_metadata import (
    DOMAIN,
    HOLDER,
    ROLES,
    TRAINING,
    Holder,
    key_to_json,
    read_contents,
    read_root,
    read_targets,
)
from schemas.registry_trust import TrustedRegistry, trusted, verify_role

ROOT_LIFETIME_S = 2 * 365 * 86_400
TARGETS_LIFETIME_S = 365 * 86_400
_SPEC_VERSION = "1.0.33"


@dataclass(frozen=True, slots=True)
class Contents:
    """What the targets say."""

    agencies: Mapping[str, Agency]
    agreements: Mapping[str, Agreement]
    policy: bytes | None = None
    ledgers: tuple[AnnouncedLedger, ...] = ()

    def targets(self) -> dict[str, bytes]:
        """Target name -> its bytes."""
        found = {f"agencies/{one.id.partition('/')[2]}.json": _text(agency_to_json(one)) for one in self.sorted()}
        found |= {f"agreements/{name}.json": _text(agreement_to_json(one)) for name, one in self.agreements.items()}
        if self.policy is not None:
            found["policy.json"] = self.policy
        if self.ledgers:
            found[LEDGERS_TARGET] = _text(ledgers_to_json(self.ledgers))
        return found

    def sorted(self) -> list[Agency]:
        return [self.agencies[name] for name in sorted(self.agencies)]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change that gathers signatures. Says nothing about whether to agree: `registry show` says what would change."""

    domain: str
    base: bytes
    """Digest of the registry that it builds on; empty for a domain's first."""
    root: bytes | None
    """The next root, or None when the holders stay."""
    targets: bytes
    """The targets' metadata: new ones, or those in force."""
    contents: Mapping[str, bytes]
    """Every target by its name."""

    @property
    def digest(self) -> bytes:
        """SHA-256 over what is signed, not over the signatures: the same for everyone who is asked."""
        signed = [b"" if self.root is None else _signed_part(self.root), _signed_part(self.targets)]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in signed)).digest()


def contents_now(held: TrustedRegistry) -> Contents:
    return Contents(held.registry.agencies, held.agreements, held.policy, held.registry.ledgers)


def first_proposal(
    domain: str,
    training: bool,
    holders: Sequence[Holder],
    *,
    threshold: int,
    targets_threshold: int,
    contents: Contents,
    now: int,
) -> Proposal:
    """A new domain.

    Args:
        threshold: how many holders must sign a root: who the holders are.
        targets_threshold: how many must sign the targets: who is a member.

    Raises:
        RegistryError: registry_invalid (no holder, two of one name or key, a threshold out of reach).
    """
    root = root_metadata(domain, training, holders, threshold, targets_threshold, 1, now)
    return Proposal(domain, b"", root, targets_metadata(contents, 1, now), contents.targets())


def proposal(
    held: TrustedRegistry,
    now: int,
    *,
    contents: Contents | None = None,
    holders: Sequence[Holder] | None = None,
    threshold: int | None = None,
    targets_threshold: int | None = None,
) -> Proposal:
    """A change of what is held: of contents, of holders or thresholds, or both. Targets that stay as they are keep
    their signatures, unless the holders change, whose targets then need signing anew.

    Raises:
        RegistryError: registry_invalid, as `first_proposal`.
    """
    root = None
    if holders is not None or threshold is not None or targets_threshold is not None:
        root = root_metadata(
            held.registry.domain,
            held.registry.training,
            held.holders if holders is None else holders,
            held.thresholds["root"] if threshold is None else threshold,
            held.thresholds["targets"] if targets_threshold is None else targets_threshold,
            held.versions["root"] + 1,
            now,
        )
    if contents is None and root is None:
        targets = held.files[targets_path(held.versions["targets"])]
    else:
        targets = targets_metadata(contents or contents_now(held), held.versions["targets"] + 1, now)
    return Proposal(held.registry.domain, held.digest, root, targets, (contents or contents_now(held)).targets())


def signed_by(change: Proposal, signers: Iterable[Signer], held: TrustedRegistry | None) -> Proposal:
    """With these holders' signatures where they count, and no others."""
    before = None if held is None else read_root(held.root)[0].signed
    after = before if change.root is None else read_root(change.root)[0].signed
    for signer in signers:
        keyid = Holder("", signer.public).keyid
        if change.root is not None and any(
            root is not None and keyid in root.roles["root"].keyids for root in (before, after)
        ):
            change = replace(change, root=with_signature(read_root(change.root)[0], signer, keyid))
        if after is not None and keyid in after.roles["targets"].keyids:
            change = replace(change, targets=with_signature(read_targets(change.targets), signer, keyid))
    return change


def missing(change: Proposal, held: TrustedRegistry | None) -> Mapping[str, int]:
    """How many signatures are still wanted, by role; empty when it can be published."""
    before = None if held is None else read_root(held.root)[0].signed
    found: dict[str, int] = {}
    after = before
    if change.root is not None:
        root = read_root(change.root)[0]
        after = root.signed
        found["root"] = max(_lacking(one, "root", root) for one in (before, after) if one is not None)
    if after is not None:
        found["targets"] = _lacking(after, "targets", read_targets(change.targets))
    return {role: count for role, count in found.items() if count}


def assembled(change: Proposal, held: TrustedRegistry | None, signer: Signer, now: int) -> TrustedRegistry:
    """The registry to publish: snapshot and timestamp over a proposal with all its signatures, read back and believed.

    Raises:
        RegistryError: registry_rollback (it builds on another registry than the one held), registry_threshold (with
            the role), registry_invalid.
    """
    if change.base != (b"" if held is None else held.digest):
        raise RegistryError("registry_rollback", "proposal")
    roots = [] if held is None else [held.files[root_path(n + 1)] for n in range(held.versions["root"])]
    roots += [] if change.root is None else [change.root]
    newest = read_root(roots[-1])[0].signed
    targets = read_targets(change.targets)
    verify_role(newest, "targets", targets, "targets")
    # Counted on from both, so that the registry's version grows whoever published last.
    version = 1 if held is None else max(held.versions["timestamp"], held.versions["snapshot"]) + 1
    data = published(roots, change.targets, change.contents, version, signer, now)
    return trusted(data, RootPin.of(roots[0]), held)


def renewed(held: TrustedRegistry, signer: Signer, now: int) -> TrustedRegistry:
    """The same, good for another 30 days."""
    return assembled(proposal(held, now), held, signer, now)


def published(
    roots: Sequence[bytes], targets: bytes, contents: Mapping[str, bytes], version: int, signer: Signer, now: int
) -> bytes:
    """Snapshot and timestamp over root and targets that have their signatures, and all of it as one file.

    Args:
        version: of snapshot and timestamp.
        now: seconds since the epoch, from which on they are good for 30 days.
    """
    keyid = Holder("", signer.public).keyid
    number = read_targets(targets).signed.version
    metas = {"root.json": _meta(len(roots), roots[-1]), "targets.json": _meta(number, targets)}
    until = _at(now + STALE_AFTER_S)
    snapshot = with_signature(Metadata(Snapshot(version, _SPEC_VERSION, until, metas)), signer, keyid)
    stamp = Timestamp(version, _SPEC_VERSION, until, _meta(version, snapshot))
    files = {root_path(n + 1): root for n, root in enumerate(roots)}
    files |= {targets_path(number): targets, snapshot_path(version): snapshot}
    files[TIMESTAMP] = with_signature(Metadata(stamp), signer, keyid)
    files |= {target_path(name, hashlib.sha256(data).hexdigest()): data for name, data in contents.items()}
    return pack(files)


def pack_proposal(change: Proposal) -> bytes:
    """As one file, to be carried to the next holder."""
    document = {
        "v": 1,
        "proposal": {
            "domain": change.domain,
            "base": change.base.hex(),
            "root": None if change.root is None else change.root.decode("utf-8"),
            "targets": change.targets.decode("utf-8"),
            "contents": {name: data.decode("utf-8") for name, data in sorted(change.contents.items())},
        },
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def read_proposal(data: bytes) -> tuple[Proposal, Contents]:
    """A proposal and what it would say; its signatures count only against the registry it builds on.

    Raises:
        RegistryError: registry_invalid.
    """
    wrong = RegistryError("registry_invalid", "proposal")
    try:
        raw = ijson.loads(data, max_bytes=MAX_REGISTRY_BYTES, max_depth=3)
    except ijson.IJsonError:
        raise wrong from None
    if not isinstance(raw, dict) or raw.keys() != {"v", "proposal"} or type(raw["v"]) is not int or raw["v"] != 1:
        raise wrong
    inner = raw["proposal"]
    if not isinstance(inner, dict) or inner.keys() != {"domain", "base", "root", "targets", "contents"}:
        raise wrong
    texts = [inner["domain"], inner["base"], inner["targets"], *([] if inner["root"] is None else [inner["root"]])]
    if not isinstance(inner["contents"], dict) or not all(
        isinstance(text, str) for text in [*texts, *inner["contents"].values()]
    ):
        raise wrong
    try:
        base = bytes.fromhex(inner["base"])
    except ValueError:
        raise wrong from None
    root = None if inner["root"] is None else inner["root"].encode("utf-8")
    contents = {name: text.encode("utf-8") for name, text in inner["contents"].items()}
    change = Proposal(inner["domain"], base, root, inner["targets"].encode("utf-8"), contents)
    if root is not None and read_root(root)[0].signed.unrecognized_fields[DOMAIN] != change.domain:
        raise wrong
    listed = read_targets(change.targets).signed.targets
    if listed.keys() != contents.keys() or any(
        one.hashes["sha256"] != hashlib.sha256(contents[name]).hexdigest() for name, one in listed.items()
    ):
        raise wrong
    return change, Contents(*read_contents(contents, change.domain))


def root_metadata(
    domain: str, training: bool, holders: Sequence[Holder], threshold: int, targets: int, version: int, now: int
) -> bytes:
    if not holders or len({one.name for one in holders}) != len(holders):
        raise RegistryError("registry_invalid", "holders")
    if len({one.keyid for one in holders}) != len(holders):
        raise RegistryError("registry_invalid", "holders")
    if not 1 <= threshold <= len(holders) or not 1 <= targets <= len(holders):
        raise RegistryError("registry_invalid", "threshold", expected=len(holders))
    keyids = [one.keyid for one in holders]
    wanted = {"root": threshold, "targets": targets, "snapshot": 1, "timestamp": 1}
    keys = {one.keyid: TufKey.from_dict(one.keyid, {**key_to_json(one.key), HOLDER: one.name}) for one in holders}
    root = Root(
        version,
        _SPEC_VERSION,
        _at(now + ROOT_LIFETIME_S),
        keys,
        {role: Role(list(keyids), wanted[role]) for role in ROLES},
        True,
        {DOMAIN: domain, TRAINING: training},
    )
    data = Metadata(root).to_bytes()
    read_root(data)  # a name or a domain that no reader would take is found out here
    return data


def targets_metadata(contents: Contents, version: int, now: int) -> bytes:
    listed = {name: TargetFile.from_data(name, data, ["sha256"]) for name, data in sorted(contents.targets().items())}
    data = Metadata(Targets(version, _SPEC_VERSION, _at(now + TARGETS_LIFETIME_S), listed)).to_bytes()
    return data


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def with_signature(metadata: Metadata[Any], signer: Signer, keyid: str) -> bytes:
    signature = der_signature(signer.sign(metadata.signed_bytes)).hex()
    metadata.signatures[keyid] = Signature(keyid, signature)
    return metadata.to_bytes()


def _lacking(root: Root, role: str, signed: Metadata[Any]) -> int:
    return root.get_verification_result(role, signed.signed_bytes, signed.signatures).missing


def _signed_part(data: bytes) -> bytes:
    signed: Metadata[Any] = Metadata.from_bytes(data)
    return signed.signed_bytes


def _text(document: Mapping[str, Any]) -> bytes:
    """Readable, one spelling."""
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
