# SPDX-License-Identifier: Apache-2.0
"""What a domain holds of others, in a folder: their registries, whom to believe of their ledgers, the last contact.

    <folder>/<domain>/root                   fingerprint of that domain's root, as it was told; an operator's
                     /ledger.policy          its ledger's keys, its witnesses and their quorum (`schemas.trust_policy`);
                                             an operator's
                     /registry.json          the newest excerpt of its registry that we were given
                     /registries/<n>.json    every version that we were given, for records logged under it
                     /of-us.json             what that domain holds of our own registry, as its gateway told our bridge
                     /contact.json           the largest checkpoint that a contact brought, and when

An operator makes the folder of a domain; its registry comes with contacts, each verified against that root, never an
older one. A domain whose files cannot be believed is no neighbour: nothing passes, and `problems` says why.

Any number of processes read it (gateway, ledger, bridge); those that take contacts write it. Each file is replaced at
once. If we crash: a version is durable before it is the newest, and both before the bridge is told so; what is lost of
`contact.json` comes again with the next contact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from schemas import ijson
from schemas.errors import LogError, RegistryError, UmuhuzaError
from schemas.home_proof import HOME_HEADER
from schemas.registry import Border, Registry
from schemas.registry_bundle import MAX_REGISTRY_BYTES, RootPin, pack, root_path
from schemas.registry_trust import TrustedRegistry, trusted
from schemas.trust_policy import read_policy
from topics.believed_ledgers import Believed, believed_ledgers
from topics.borders import border, bordered
from topics.durable_file import replace_file
from topics.home_check import NEWEST, POLICY, ROOT, VERSIONS, HomeTrust, judged_by_home
from topics.log import Stored
from topics.registry_file import LOOK_EVERY_S
from topics.sqlite_transaction import code_of
from topics.verification import Verified

CONTACT = "contact.json"
OF_US = "of-us"
"""Also the path under which members are given it."""
_OF_US_FILE = f"{OF_US}.json"


@dataclass(frozen=True, slots=True)
class Contact:
    """The last time that a bridge of that domain brought anything."""

    at: int
    """Seconds since the epoch, our clock."""
    size: int
    """Of the largest tree whose checkpoint was believed."""
    cosigned_at: int
    """When a witness last signed it, by the witness's clock; 0: none did."""


@dataclass(slots=True)
class _Held:
    """One neighbour, as its files were when they were read."""

    pin: RootPin
    believed: Believed
    """Whom to believe of its ledgers: the operator's policy, with what its registry announces."""
    newest: TrustedRegistry
    stamp: tuple[object, ...]


class Neighbours:
    """The neighbours of the domain whose registry `ours` is. Blocks; used by one thread.

    Args:
        folder: made by an operator; none there means no neighbours.
        ours: our newest registry.
        now: seconds; files are looked at once a second at most.
    """

    def __init__(self, folder: Path, ours: Callable[[], TrustedRegistry], now: Callable[[], float]) -> None:
        self._folder = folder
        self._ours = ours
        self._now = now
        self._looked = float("-inf")
        self._held: dict[str, _Held] = {}
        self._versions: dict[tuple[str, int], Registry] = {}
        self._made: tuple[tuple[object, ...], Registry] | None = None
        self._of_us: dict[str, tuple[object, Registry]] = {}
        self.wanted: set[tuple[str, int]] = set()
        """(domain, version) that were asked for and are not here: whoever can fetch them does."""
        self.problems: dict[str, str] = {}
        """Domain -> code of why it is no neighbour now."""
        self.warnings: dict[str, str] = {}
        """Domain -> code of what somebody has to see to, although it is one."""

    @property
    def registry(self) -> Registry:
        """Our registry with its borders as they are now; the same object while nothing has changed."""
        ours = self._ours()
        held = self._look()
        key: tuple[object, ...] = (ours.data, *((name, one.newest.data) for name, one in held.items()))
        if self._made is None or self._made[0] != key:
            borders: list[Border] = [border(ours, one.newest) for one in held.values()]
            self._made = (key, bordered(ours.registry, borders))
        return self._made[1]

    def domains(self) -> tuple[str, ...]:
        """Who is a neighbour now."""
        return tuple(self._look())

    def theirs(self, domain: str) -> TrustedRegistry:
        """The newest excerpt of that domain's registry. Raises RegistryError `agency_unknown`: it is no neighbour."""
        return self._neighbour(domain).newest

    def file(self, domain: str, name: str) -> bytes | None:
        """What others are given: "" the newest excerpt, a number the excerpt of that version, else a file of the newest
        as a repository. Raises RegistryError `agency_unknown`: it is no neighbour."""
        held = self._neighbour(domain)
        if not name:
            return held.newest.data
        if not name.isascii() or not name.isdigit() or len(name) > 16:
            return held.newest.files.get(name)
        if int(name) == held.newest.registry.version:
            return held.newest.data
        try:
            return _bytes(self._folder / domain / VERSIONS / f"{int(name)}.json")
        except OSError:
            return None

    def trust(self, domain: str) -> HomeTrust:
        """By what its records are judged. Raises RegistryError `agency_unknown`: it is no neighbour."""
        held = self._neighbour(domain)
        return HomeTrust(domain, held.believed.policy, lambda version: self._version(domain, held, version))

    def _neighbour(self, domain: str) -> _Held:
        held = self._look().get(domain)
        if held is None:
            raise RegistryError("agency_unknown", "domain")
        return held

    def take_registry(self, domain: str, data: bytes) -> TrustedRegistry:
        """Take in an excerpt; durable when it returns. One that is held already changes nothing; of one version all
        that was ever brought is held together. An older version than the newest held is kept for records that were
        logged under it, and judges nothing else.

        Returns:
            The newest that is held now.

        Raises:
            RegistryError: as `trusted`; agency_unknown, it is no neighbour; registry_invalid, it is another domain's.
            LogError: storage_full, unavailable.
        """
        held = self._neighbour(domain)
        taken = trusted(data, held.pin, None if data != held.newest.data else held.newest, excerpt=True)
        if taken.registry.domain != domain:
            raise RegistryError("registry_invalid", "root")
        if taken is held.newest:
            return taken
        here = self._folder / domain
        older = taken.registry.version < held.newest.registry.version and taken.root == held.newest.root
        if taken.digest == held.newest.digest:
            taken = _joined(held.newest, taken, held.pin)
        elif not older:
            taken = trusted(data, held.pin, held.newest, excerpt=True)
        try:
            (here / VERSIONS).mkdir(exist_ok=True)
            for one in (held.newest, taken):  # the first one was put there by an operator
                self._keep(here / VERSIONS / f"{one.registry.version}.json", one, held.pin)
            if not older and taken.data != held.newest.data:
                replace_file(here / NEWEST, taken.data)
        except OSError as error:
            raise LogError(code_of(error, None), "neighbours") from None
        self._versions.pop((domain, taken.registry.version), None)
        self.wanted.discard((domain, taken.registry.version))
        self._looked = float("-inf")
        return held.newest if older else taken

    def _keep(self, path: Path, one: TrustedRegistry, pin: RootPin) -> None:
        """With what an earlier excerpt of the same version had. Raises OSError."""
        if path.exists():
            try:
                before = trusted(_bytes(path), pin, excerpt=True)
            except RegistryError:
                before = one  # damaged: the one that is whole takes its place
            if before is not one and before.digest != one.digest:
                return
            one = _joined(before, one, pin)
            if one.data == before.data and before is not one:
                return
        replace_file(path, one.data)

    # ---------------------------------------------------------------- what they hold of us

    def take_of_us(self, domain: str, data: bytes) -> TrustedRegistry:
        """Take in what that domain holds of our own registry; durable when it returns. It is for members to find their
        own entries in, and judges nothing: of ours it need not be the newest.

        Raises:
            RegistryError: as `trusted`, by our own first root; agency_unknown, it is no neighbour.
            LogError: storage_full, unavailable.
        """
        self._neighbour(domain)
        taken = self._ours_elsewhere(data)
        try:
            replace_file(self._folder / domain / _OF_US_FILE, data)
        except OSError as error:
            raise LogError(code_of(error, None), "neighbours") from None
        return taken

    def of_us_file(self, domain: str) -> bytes:
        """The bytes that were taken last; empty before the first."""
        try:
            return _bytes(self._folder / domain / _OF_US_FILE)
        except OSError:
            return b""

    @property
    def of_us(self) -> Mapping[str, Registry]:
        """Domain -> our registry as that one holds it, where it has told."""
        for domain in self._look():
            stamp = _stamp(self._folder / domain / _OF_US_FILE)
            if stamp is None or self._of_us.get(domain, (None,))[0] == stamp:
                continue
            try:
                self._of_us[domain] = (stamp, self._ours_elsewhere(self.of_us_file(domain)).registry)
            except RegistryError:
                self._of_us.pop(domain, None)
        return {domain: self._of_us[domain][1] for domain in self._look() if domain in self._of_us}

    def _ours_elsewhere(self, data: bytes) -> TrustedRegistry:
        return trusted(data, RootPin.of(self._ours().files[root_path(1)]), excerpt=True)

    def judged(self, stored: Stored) -> Verified | UmuhuzaError | None:
        """What a record of our log is, by the home proof that stands beside it; None: there is none."""
        data = dict(stored.headers).get(HOME_HEADER)
        return None if data is None else judged_by_home(stored.value, stored.topic, data, self.trust)

    # ---------------------------------------------------------------- contacts

    def contact(self, domain: str) -> Contact | None:
        """What the last contact brought; None before the first. A file that cannot be read counts as none."""
        try:
            raw = ijson.loads((self._folder / domain / CONTACT).read_bytes(), max_bytes=4096, max_depth=1)
            if isinstance(raw, dict) and all(type(raw.get(name)) is int for name in ("at", "size", "cosigned_at")):
                return Contact(raw["at"], raw["size"], raw["cosigned_at"])
        except (OSError, ijson.IJsonError):
            return None
        return None

    def met(self, domain: str, at: int, size: int, cosigned_at: int) -> None:
        """A contact brought a checkpoint of this size that is believed. Raises LogError."""
        before = self.contact(domain) or Contact(0, 0, 0)
        now = {
            "at": max(at, before.at),
            "size": max(size, before.size),
            "cosigned_at": max(cosigned_at, before.cosigned_at),
        }
        try:
            replace_file(self._folder / domain / CONTACT, orjson.dumps(now))
        except OSError as error:
            raise LogError(code_of(error, None), "neighbours") from None

    # ---------------------------------------------------------------- reading

    def _look(self) -> Mapping[str, _Held]:
        """Who is there now; a file is read again when it has changed."""
        now = self._now()
        if 0 <= now - self._looked < LOOK_EVERY_S:
            return self._held
        self._looked = now
        names = sorted(path.name for path in self._folder.glob("??") if path.is_dir())
        found: dict[str, _Held] = {}
        problems: dict[str, str] = {}
        for name in names:
            stamp = tuple(_stamp(self._folder / name / file) for file in (ROOT, POLICY, NEWEST))
            held = self._held.get(name)
            try:
                found[name] = held if held is not None and held.stamp == stamp else self._read(name, held, stamp)
            except (RegistryError, LogError) as exc:
                problems[name] = exc.code
        self._held, self.problems = found, problems
        troubles = {name: one.believed.trouble for name, one in found.items()}
        self.warnings = {name: trouble.code for name, trouble in troubles.items() if trouble is not None}
        return found

    def _read(self, domain: str, before: _Held | None, stamp: tuple[object, ...]) -> _Held:
        here = self._folder / domain
        try:
            pin = RootPin.read((here / ROOT).read_text(encoding="ascii").strip())
            policy = read_policy((here / POLICY).read_bytes())
            data = _bytes(here / NEWEST)
        except (OSError, ValueError):
            raise RegistryError("registry_invalid", "neighbours") from None
        held = None if before is None or before.pin != pin else before.newest
        newest = trusted(data, pin, excerpt=True)
        if held is not None and newest.digest != held.digest:  # of one version more may have come
            newest = trusted(data, pin, held, excerpt=True)
        if newest.registry.domain != domain or domain == self._ours().registry.domain:
            raise RegistryError("registry_invalid", "root")
        return _Held(pin, believed_ledgers(policy, newest.registry.ledgers, domain), newest, stamp)

    def _version(self, domain: str, held: _Held, version: int) -> Registry | None:
        if held.newest.registry.version == version:
            return held.newest.registry
        known = self._versions.get((domain, version))
        if known is None:
            try:
                read = trusted(_bytes(self._folder / domain / VERSIONS / f"{version}.json"), held.pin, excerpt=True)
            except (OSError, RegistryError):
                self.wanted.add((domain, version))
                return None
            if (read.registry.domain, read.registry.version) != (domain, version):
                return None
            known = self._versions[domain, version] = read.registry
        return known


def _joined(one: TrustedRegistry, other: TrustedRegistry, pin: RootPin) -> TrustedRegistry:
    """Two excerpts of one version as one: whoever brings less cannot take away what was there, nor keep out what is to
    come."""
    files = {**one.files, **other.files}
    return one if files.keys() == one.files.keys() else trusted(pack(files), pin, excerpt=True)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(MAX_REGISTRY_BYTES + 1)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
