# SPDX-License-Identifier: Apache-2.0
"""Registry files kept by their hash, for ever: what the ledger's `registry` entries stand for.

    <folder>/<hex SHA-256>.json    as it was published, mode 0644, never changed or removed

An auditor who wants to know whether a key counted at some entry takes the file of the last `registry` entry before it.
A file is durable here before its entry is in the ledger. If we crash in between, it stands here for nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

from schemas.errors import LogError, RegistryError
from schemas.registry import Registry
from schemas.registry_bundle import RootPin
from schemas.registry_trust import TrustedRegistry, trusted
from topics.durable_file import disk_code, replace_file
from topics.ledger import Published
from topics.registry_file import RegistryFile


class KeptRegistries:
    """The published registry and the kept ones; `topics.ledger.Registries`.

    Args:
        path: the domain's registry file.
        pin: the domain's root.
        folder: where files are kept; made when it is not there.

    Raises RegistryError `registry_invalid`: there is no such file now.
    """

    def __init__(self, path: Path, pin: RootPin, folder: Path) -> None:
        # The ledger looks at every round, not once a second: what a gateway has taken in under a new version must not
        # be judged by the old one.
        looks = itertools.count()
        self._file = RegistryFile(path, pin, lambda: float(next(looks)))
        self._pin = pin
        self._folder = folder

    def held(self) -> Published:
        registry = self._file.registry
        return Published(registry, self._file.data)

    @property
    def trusted(self) -> TrustedRegistry:
        """The newest, with all that was signed."""
        return self._file.trusted

    def version(self, sha256: bytes) -> TrustedRegistry | None:
        """One that was kept, with all that was signed; None when it is not here."""
        return self._kept(sha256)

    @property
    def problem(self) -> str | None:
        """Code of why the file on disk is not the one held; None when it is."""
        return self._file.problem

    def keep(self, published: Published) -> None:
        path = self._path(published.sha256)
        if path.exists():
            return
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            replace_file(path, published.data)
        except OSError as error:
            raise LogError(disk_code(error), "registries") from None

    def kept(self, sha256: bytes) -> Registry | None:
        found = self._kept(sha256)
        return None if found is None else found.registry

    def _kept(self, sha256: bytes) -> TrustedRegistry | None:
        try:
            data = self._path(sha256).read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).digest() != sha256:
            return None
        try:
            return trusted(data, self._pin)
        except RegistryError:
            return None

    def _path(self, sha256: bytes) -> Path:
        return self._folder / f"{sha256.hex()}.json"
