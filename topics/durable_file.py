# SPDX-License-Identifier: Apache-2.0
"""A file put in the place of the one before: durable, and never half there.

It is written beside, synced, renamed, and its folder synced: a name that is not synced is lost with the synced bytes
that it names. If we crash, the file is the old one or the new one, whole; at worst a `.part` lies beside it, which
nobody reads.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from pathlib import Path
from typing import Literal

from schemas.errors import LogError

_BY_UMASK = 0o666
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_code(error: OSError) -> Literal["storage_full", "unavailable"]:
    """Which of our codes an error of the disk is."""
    return "storage_full" if error.errno in DISK_FULL else "unavailable"


def replace_file(path: Path, data: bytes, mode: int = _BY_UMASK) -> None:
    """Durable when it returns.

    Args:
        path: in a folder that is there.
        mode: of the new file, less the umask; 0o600 for this user only.

    Raises:
        OSError: the old file stays; or, from the last step alone, the new one is there and a power cut may undo it.
    """
    # Of two that write the same file, each has a half of its own.
    part = path.with_name(f"{path.name}.{threading.get_native_id()}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def keep_file(path: Path, data: bytes) -> None:
    """`replace_file` for what a log keeps. Raises LogError storage_full, unavailable, with the file's name."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise LogError(disk_code(error), path.name) from None


def sync_folder(folder: Path) -> None:
    """Make durable what was named, renamed and removed in it. Raises OSError. Windows has no such call."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
