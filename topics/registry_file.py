# SPDX-License-Identifier: Apache-2.0
"""The registry as a process holds it: read from its file, read again when the file changes, never an older one.

A file that is damaged, not signed by the domain's key or older than what is held changes nothing: the held registry
stays, and `problem` says why. Owns no thread: `registry` is asked by whoever needs it and looks at the file at
most once a second.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from schemas.errors import RegistryError
from schemas.keys import VerifyKey
from schemas.registry import MAX_REGISTRY_BYTES, Registry, read_registry

LOOK_EVERY_S = 1.0


class RegistryFile:
    """Raises RegistryError `registry_invalid` when the file cannot be read at the start."""

    def __init__(self, path: Path, root: VerifyKey, now: Callable[[], float]) -> None:
        self._path = path
        self._root = root
        self._now = now
        self._stamp: tuple[int, int, int] | None = None
        self._looked = float("-inf")
        self.problem: str | None = None
        """Code of why the file on disk is not the one held; None when it is."""
        self.data = b""
        self.etag = ""
        self._registry = self._read()

    @property
    def registry(self) -> Registry:
        """The newest registry seen."""
        now = self._now()
        if not 0 <= now - self._looked < LOOK_EVERY_S:
            self._looked = now
            self._look()
        return self._registry

    def _look(self) -> None:
        try:
            if self._stat() == self._stamp:
                return
            self._registry = self._read()
            self.problem = None
        except RegistryError as exc:
            self.problem = exc.code

    def _stat(self) -> tuple[int, int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            raise RegistryError("registry_invalid", "file") from None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> Registry:
        # The stamp is taken before the bytes: a change in between is seen at the next look.
        stamp = self._stat()
        try:
            with self._path.open("rb") as stream:
                data = stream.read(MAX_REGISTRY_BYTES + 1)
        except OSError:
            raise RegistryError("registry_invalid", "file") from None
        registry = read_registry(data, self._root)
        held = getattr(self, "_registry", None)
        if held is not None and data != self.data and not self._follows(held, registry):
            raise RegistryError("registry_invalid", "version")
        self._stamp = stamp
        self.data = data
        self.etag = '"' + hashlib.sha256(data).hexdigest()[:32] + '"'
        return registry

    @staticmethod
    def _follows(held: Registry, read: Registry) -> bool:
        """Two files of one version that differ are two histories: the second is refused as an older one is."""
        return read.version > held.version and read.domain == held.domain and read.training == held.training


def replace_registry_file(path: Path, data: bytes) -> None:
    """Put a registry in place of the one before: durable, and never half there (written beside, renamed)."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
