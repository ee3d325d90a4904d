# SPDX-License-Identifier: Apache-2.0
"""The folder of a registry holder: what is published, the keys that are on this machine, a change that waits.

    registry.json     the registry as everybody reads it; replaced at once or not at all
    root              fingerprint of the domain's first root, 43 characters, which this folder is believed by
    holders/<n>.key   private keys of holders that sign here (`umuhuza/holder_keys.py`); the others' are elsewhere
    proposal.json     a change that other holders have still to sign

Every change goes one way: a proposal, signed with the keys that are here; published when enough holders have signed,
else left for them. If we crash before the registry is replaced nothing has happened, and the same command does it.
Must never: publish what this folder's own reader does not believe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from schemas.enrolment import MAX_BYTES, Request, read_request
from schemas.errors import RegistryError
from schemas.keys import Signer
from schemas.registry import Agency, Registry
from schemas.registry_bundle import RootPin
from schemas.registry_metadata import TRAINING, Holder, read_root
from schemas.registry_signing import (
    Contents,
    Proposal,
    assembled,
    contents_now,
    first_proposal,
    missing,
    pack_proposal,
    proposal,
    read_proposal,
    signed_by,
)
from schemas.registry_trust import WARN_BEFORE_S, TrustedRegistry, trusted
from topics.durable_file import replace_file
from topics.private_file import Passphrase
from topics.registry_file import in_turn
from topics.settings import SettingsError
from umuhuza.holder_keys import HOLDERS, HolderKeys

REGISTRY_FILE = "registry.json"
ROOT_FILE = "root"
PROPOSAL_FILE = "proposal.json"
HOLDERS_OF_PRODUCTION = 3
THRESHOLD_OF_PRODUCTION = 2


@dataclass(frozen=True, slots=True)
class Held:
    """A holder's folder as it is."""

    folder: Path
    trusted: TrustedRegistry
    first_root: RootPin
    keys: HolderKeys = field(repr=False)
    """Those of holders that are here."""

    @property
    def registry(self) -> Registry:
        return self.trusted.registry


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a change."""

    registry: Registry
    """The registry in force: the changed one, or the one before while others have still to sign."""
    missing: Mapping[str, int]
    """How many signatures are still wanted, by role; empty: published."""
    proposal: Path | None = None
    """Where the change waits."""

    @property
    def published(self) -> bool:
        return not self.missing

    def require_published(self) -> Registry:
        """Raises RegistryError `registry_threshold`."""
        for role, count in self.missing.items():
            raise RegistryError("registry_threshold", f"{role}.signatures", expected=count)
        return self.registry


def init_registry(
    folder: Path,
    domain: str,
    training: bool,
    now: float | None = None,
    passphrase: Passphrase | None = None,
    threshold: int | None = None,
    targets_threshold: int = 1,
) -> tuple[Registry, RootPin]:
    """Make a domain whose holders' keys are all made here: three of which two must sign a root, or one for training.

    Args:
        passphrase: locks every key that is made; None leaves them in clear (demonstrations, tests).
        threshold, targets_threshold: as `found_domain`; who holds all keys today may sign for members alone.

    Raises:
        FileExistsError: a registry or a key is there already.
        RegistryError: registry_invalid.
        KeyStoreError: passphrase_weak; and what `passphrase` raises.
    """
    if (folder / HOLDERS).exists():
        raise FileExistsError(HOLDERS)
    names = [chr(ord("a") + number) for number in range(1 if training else HOLDERS_OF_PRODUCTION)]
    keys = HolderKeys(folder)
    told = None if passphrase is None else passphrase()
    holders = [Holder(name, keys.make(name, told).public) for name in names]
    changed, pin = found_domain(
        folder,
        domain,
        training,
        holders,
        threshold=threshold,
        targets_threshold=targets_threshold,
        now=now,
        keys=keys,
    )
    if pin is None:
        raise RegistryError("registry_threshold", "root.signatures")
    return changed.registry, pin


def found_domain(
    folder: Path,
    domain: str,
    training: bool,
    holders: Sequence[Holder],
    *,
    threshold: int | None = None,
    targets_threshold: int | None = None,
    now: float | None = None,
    keys: HolderKeys | None = None,
) -> tuple[Changed, RootPin | None]:
    """Make a domain: its root and an empty registry.

    Args:
        holders: who holds it; the keys that are not in this folder are elsewhere, and their holders sign there.
        threshold: how many must sign a root; None: two, or one where there is one holder.
        targets_threshold: how many must sign who is a member; None: two, or one where there is one holder. Nobody
            alone can then put a false key beside a member's.
        keys: those of the folder, where some are open already.

    Returns:
        What became of it, and the root's fingerprint once it has its signatures.

    Raises:
        FileExistsError: a registry is there already.
        RegistryError: registry_invalid (two holders of one name or key, a threshold out of reach).
    """
    if (folder / REGISTRY_FILE).exists():
        raise FileExistsError(REGISTRY_FILE)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    enough = min(THRESHOLD_OF_PRODUCTION, len(holders))
    change = first_proposal(
        domain,
        training,
        holders,
        threshold=enough if threshold is None else threshold,
        targets_threshold=enough if targets_threshold is None else targets_threshold,
        contents=Contents({}, {}),
        now=int(time.time() if now is None else now),
    )
    return _first(folder, change, now, keys or HolderKeys(folder))


def _first(folder: Path, change: Proposal, now: float | None, keys: HolderKeys) -> tuple[Changed, RootPin | None]:
    # The proposal stays until the registry is there: should we crash between, signing it again completes it.
    if change.root is None:
        raise RegistryError("registry_invalid", "proposal")
    root, holders = read_root(change.root)
    signers = keys.of(holders)
    change, lacking = _signed_enough(change, signers, None)
    file = folder / PROPOSAL_FILE
    replace_file(file, pack_proposal(change))
    if lacking or not signers:
        nobody = Registry(change.domain, 1, 1, {}, root.signed.unrecognized_fields[TRAINING])
        return Changed(nobody, lacking or {"timestamp": 1}, file), None
    made = assembled(change, None, signers[0], int(time.time() if now is None else now))
    pin = RootPin.of(made.root)
    (folder / ROOT_FILE).write_text(pin.text + "\n", encoding="ascii")
    replace_file(folder / REGISTRY_FILE, made.data)
    file.unlink()
    return Changed(made.registry, {}), pin


def held(folder: Path) -> Held:
    """A holder's folder.

    Raises:
        SettingsError: there is no registry in this folder, or it is a member's.
        RegistryError: registry_invalid and what else `trusted` finds.
    """
    file = folder / REGISTRY_FILE
    if not file.exists():
        raise SettingsError("no registry in this folder", "pas de registre dans ce dossier")
    if not (folder / ROOT_FILE).exists():  # members have a copy of the registry
        raise SettingsError(
            f"this folder is not that of a holder of the registry: the file `{ROOT_FILE}` is not in it",
            f"ce dossier n'est pas celui d'un détenteur du registre : le fichier « {ROOT_FILE} » n'y est pas",
        )
    try:
        pin = RootPin.read((folder / ROOT_FILE).read_text(encoding="ascii").strip())
        found = trusted(file.read_bytes(), pin)
    except (OSError, ValueError):
        raise RegistryError("registry_invalid", "dir") from None
    return Held(folder, found, pin, HolderKeys(folder))


def change_registry(
    mine: Held,
    contents: Contents | None = None,
    *,
    holders: Sequence[Holder] | None = None,
    threshold: int | None = None,
    targets_threshold: int | None = None,
    now: int | None = None,
) -> Changed:
    """Propose a change, sign it with the keys that are here, publish it if that is enough.

    Raises:
        RegistryError: registry_invalid.
    """
    at = int(time.time()) if now is None else now
    before = mine.trusted
    if contents is None and holders is None and before.expires["targets"] - at <= WARN_BEFORE_S:
        contents = contents_now(before)  # renewing what ends soon needs their signatures too
    change = proposal(
        before, at, contents=contents, holders=holders, threshold=threshold, targets_threshold=targets_threshold
    )
    return _signed(mine, change, at)


def sign_proposal(folder: Path, data: bytes, now: int | None = None) -> Changed:
    """Add the signatures of the keys that are here to another holder's proposal; publish it if that is enough.

    A folder without a registry takes a domain's first one so: its root is believed because this holder says so.

    Raises:
        RegistryError: registry_invalid, registry_rollback (it builds on another version than the one held).
    """
    at = int(time.time()) if now is None else now
    change, _ = read_proposal(data)
    if not (folder / REGISTRY_FILE).exists():
        return _first(folder, change, at, HolderKeys(folder))[0]
    mine = held(folder)
    if change.base != mine.trusted.digest:
        raise RegistryError("registry_rollback", "proposal")
    return _signed(mine, change, at)


def _signed(mine: Held, change: Proposal, now: int) -> Changed:
    holders = mine.trusted.holders if change.root is None else read_root(change.root)[1]
    # Holders that are new in it may be here as well as those who go.
    change, lacking = _signed_enough(change, mine.keys.of({*mine.trusted.holders, *holders}), mine.trusted)
    publishers = mine.keys.of(holders)
    if lacking or not publishers:
        file = mine.folder / PROPOSAL_FILE
        replace_file(file, pack_proposal(change))
        return Changed(mine.registry, lacking or {"timestamp": 1}, file)
    made = assembled(change, mine.trusted, publishers[0], now)
    file = mine.folder / REGISTRY_FILE
    with in_turn(file):
        # A renewal at the same moment must not publish the members as they were before somebody was revoked.
        if file.read_bytes() != mine.trusted.data:
            raise RegistryError("registry_rollback", "proposal")
        replace_file(file, made.data)
    (mine.folder / PROPOSAL_FILE).unlink(missing_ok=True)
    return Changed(made.registry, {})


def _signed_enough(
    change: Proposal, signers: Sequence[Signer], before: TrustedRegistry | None
) -> tuple[Proposal, dict[str, int]]:
    """Signed with one key after the other as long as something is missing: no key is opened that is not needed."""
    lacking = dict(missing(change, before))
    for signer in signers:
        if not lacking:
            break
        change = signed_by(change, [signer], before)
        lacking = dict(missing(change, before))
    return change, lacking


def read_enrolment(file: Path) -> Agency:
    """An agency's request file. Raises RegistryError `registry_invalid`."""
    return read_enrolment_request(file).agency


def read_enrolment_request(file: Path) -> Request:
    """A request file with all that it says. Raises RegistryError `registry_invalid`."""
    try:
        with file.open("rb") as stream:
            request = read_request(stream.read(MAX_BYTES + 1))
    except OSError:
        raise RegistryError("registry_invalid", "file") from None
    if any(key.compromised_since is not None for key in request.agency.keys):
        raise RegistryError("registry_invalid", "agency.keys")  # the holders' word, never the agency's
    return request


def with_request(registry: Registry, agency: Agency, direct: bool | None = None) -> Agency:
    """The entry that a request makes.

    An agency that is known keeps the keys that its request does not repeat: a new sealing key must not make what was
    sealed to the old one unverifiable. Whether it writes to the brokers itself is the operator's word, never its
    request's: None leaves it as it was, and a new agency does not.

    Raises:
        RegistryError: registry_invalid (agency of another domain, a key that another agency holds).
    """
    if agency.id.partition("/")[0] != registry.domain:
        raise RegistryError("registry_invalid", "agency.id", expected=registry.domain)
    others = {k.kid for other in registry.agencies.values() if other.id != agency.id for k in other.keys}
    if others & {k.kid for k in agency.keys}:
        raise RegistryError("registry_invalid", "agency.keys")
    known = registry.agencies.get(agency.id)
    if known is not None:
        fresh = {k.kid for k in agency.keys}
        kept = tuple(k for k in known.keys if k.kid not in fresh)
        revoked = {k.kid: k for k in known.keys if k.revoked is not None}
        keys = kept + tuple(revoked.get(k.kid, k) for k in agency.keys)
        agency = replace(agency, keys=keys, endpoints=agency.endpoints or known.endpoints)
    return replace(agency, direct=known is not None and known.direct if direct is None else direct)


def change_agencies(mine: Held, change: Callable[[Registry, int], Registry], now: int | None = None) -> Changed:
    """Propose what `change` makes of the agencies. Raises RegistryError."""
    at = int(time.time()) if now is None else now
    agencies = change(mine.registry, at).agencies
    return change_registry(mine, replace(contents_now(mine.trusted), agencies=agencies), now=at)


def add_agency(folder: Path, agency: Agency, direct: bool | None = None) -> Registry:
    """Publish the next version, with this agency in it as `with_request` says.

    Raises:
        RegistryError: registry_invalid, registry_threshold (other holders have still to sign; it waits in the folder).
    """
    mine = held(folder)
    entry = with_request(mine.registry, agency, direct)
    return change_agencies(mine, lambda registry, now: registry.with_agency(entry, now)).require_published()


def add_agencies(folder: Path, agencies: Sequence[Agency]) -> Registry:
    """Several in one version. Raises RegistryError as `add_agency`; then none of them is in it."""

    def with_all(registry: Registry, now: int) -> Registry:
        for agency in agencies:
            registry = registry.with_agency(with_request(registry, agency), now)
        return registry

    return change_agencies(held(folder), with_all).require_published()
