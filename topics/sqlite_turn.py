# SPDX-License-Identifier: Apache-2.0
"""One at a time, of any process on this machine: a file lock that the kernel queues."""

from __future__ import annotations

import os
import sys

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
