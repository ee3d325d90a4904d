# SPDX-License-Identifier: Apache-2.0
"""The registry as a process holds it: read from its file, read again when it changes, never an older one.

What is on disk is one file (`schemas/registry_bundle.py`) or a folder with the same TUF repository, as a web server or
another TUF client has it. Whatever cannot be believed, or is older than what is held, changes nothing: the held
registry stays, and `problem` says why. Owns no thread: `registry` is asked by whoever needs it and looks at the file at
most once a second.

If we crash while writing: the file is written beside and renamed, so the one before is there, whole. A folder is
written so that its timestamp comes last; a reader that finds it half there keeps what it holds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import RegistryError
from schemas.registry import Registry
from schemas.registry_bundle import MAX_REGISTRY_BYTES, TIMESTAMP, RootPin, pack
from schemas.registry_trust import TrustedRegistry, called_for, trusted
from topics.durable_file import replace_file
from topics.settings import SettingsError

if sys.platform != "win32":
    import fcntl

LOOK_EVERY_S = 1.0


class RegistryFile:
    """Raises RegistryError (as `trusted` does) when the file cannot be believed at the start."""

    def __init__(self, path: Path, pin: RootPin, now: Callable[[], float]) -> None:
        self._path = path
        self._pin = pin
        self._now = now
        self._stamp: tuple[int, int, int] | None = None
        self._looked = float("-inf")
        self.problem: str | None = None
        """Code of why the file on disk is not the one held; None when it is."""
        self._stamp, self._held = self._read(None)

    def look_again(self) -> None:
        """Whoever has just written it need not wait for the next look."""
        self._looked = float("-inf")

    @property
    def trusted(self) -> TrustedRegistry:
        """The newest registry seen, with all that was signed."""
        now = self._now()
        if not 0 <= now - self._looked < LOOK_EVERY_S:
            self._looked = now
            self._look()
        return self._held

    @property
    def registry(self) -> Registry:
        """The newest registry seen."""
        return self.trusted.registry

    @property
    def data(self) -> bytes:
        """The held registry as one file, whatever it was read from."""
        return self._held.data

    def _look(self) -> None:
        try:
            if _stamp(self._path) == self._stamp:
                return
            self._stamp, self._held = self._read(self._held)
            self.problem = None
        except RegistryError as exc:
            self.problem = exc.code

    def _read(self, held: TrustedRegistry | None) -> tuple[tuple[int, int, int], TrustedRegistry]:
        # The stamp is taken before the bytes: a change in between is seen at the next look.
        stamp = _stamp(self._path)
        return stamp, trusted(read_registry_data(self._path), self._pin, held)


def registry_pin(text: str, name: str = "registry_root") -> RootPin:
    """The domain's root as settings and commands hold it. Raises SettingsError, with the setting's name."""
    try:
        return RootPin.read(text)
    except ValueError:
        raise SettingsError(
            f"{name}: not the fingerprint of a root, 43 characters",
            f"{name} : ce n'est pas l'empreinte d'une racine, 43 caractères",
        ) from None


def read_registry_data(path: Path) -> bytes:
    """What lies there, a file or a repository's folder, as one file; not verified.

    Raises:
        RegistryError: registry_invalid, path `file`, when there is nothing or nothing whole.
    """
    if not path.is_dir():
        return _bytes(path)

    def read(name: str) -> bytes | None:
        file = path / name
        return _bytes(file) if file.is_file() else None

    return pack(called_for(read))


def read_registry(path: Path, pin: RootPin) -> TrustedRegistry:
    """The registry at a file or folder. Raises RegistryError, as `trusted` does."""
    return trusted(read_registry_data(path), pin)


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """For whoever reads a registry's file and then replaces it: of two processes one waits, so that neither undoes what
    the other has just done. Raises OSError."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def take_registry_file(path: Path, pin: RootPin, data: bytes, now: int) -> tuple[TrustedRegistry, bool]:
    """Put a registry that was brought in place if it is to be believed and newer than what is there.

    Args:
        now: seconds since the epoch.

    Returns:
        What is in place now, and whether it changed.

    Raises:
        RegistryError: as `trusted`; registry_stale, when there was none before and this one is out of date. OSError.
    """
    with in_turn(path):
        held = read_registry(path, pin) if path.exists() else None
        found = trusted(data, pin, held)
        if held is None:
            found.require_fresh(now)
        changed = held is None or found.data != held.data
        if changed:
            replace_file(path, found.data)
        return found, changed


def write_repository(folder: Path, held: TrustedRegistry) -> None:
    """The same as a folder of `metadata/` and `targets/`, as TUF's static repositories are: on a stick, or for a web
    server. What older versions left there stays, by its hash or version; the timestamp is written last."""
    for name in sorted(held.files, key=lambda name: name == TIMESTAMP):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_bytes() != held.files[name]:
            replace_file(file, held.files[name])


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = (path / TIMESTAMP if path.is_dir() else path).stat()
    except OSError:
        raise RegistryError("registry_invalid", "file") from None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_REGISTRY_BYTES + 1)
    except OSError:
        raise RegistryError("registry_invalid", "file") from None
