# SPDX-License-Identifier: Apache-2.0
"""One at a time, of any process on this machine: a file lock that the kernel queues, or that refuses."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from topics.settings import SettingsError

if sys.platform != "win32":
    import fcntl


class Turn:
    """All who want a turn wait here for it; the kernel wakes them, nobody polls.

    The lock goes with the file description: a killed process frees it. Without a path, and on Windows, it is nobody's
    and always free.

    Raises OSError from making and entering it.
    """

    def __init__(self, path: str | None) -> None:
        self._descriptor: int | None = None
        if path is not None and sys.platform != "win32":
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        if self._descriptor is not None and sys.platform != "win32":
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None and sys.platform != "win32":
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Be the only process on this machine that runs on this file. `path-running` beside it is the lock; it is freed
    however the process ends. On Windows nobody is refused.

    Raises SettingsError: another one runs, or this account may not write there.
    """
    lock = path.with_name(f"{path.name}-running")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError:
        raise SettingsError(
            f"{lock} cannot be written: the folder has to be there, and this account needs the right to write in it",
            f"{lock} ne peut pas être écrit : le dossier doit exister, et ce compte avoir le droit d'y écrire",
        ) from None
    try:
        if sys.platform != "win32":
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SettingsError(
                    f"another process runs on {path} already: end that one first",
                    f"un autre processus tourne déjà sur {path} : arrêtez-le d'abord",
                ) from None
        yield
    finally:
        os.close(descriptor)
