# SPDX-License-Identifier: Apache-2.0
"""Disks of a few megabytes, and full ones: a kernel's answer, not a simulated one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def mounted(folder: Path, megabytes: int) -> bool:
    """Make an empty folder a disk of its own, if this process may; `unmount` it afterwards."""
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    command = [mount, "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int = 2) -> Iterator[Path]:
    folder.mkdir()
    if not mounted(folder, megabytes):
        pytest.skip("a small disk to fill needs root and a system that lets it mount one")
    try:
        yield folder
    finally:
        unmount(folder)


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """Not a byte is free on this small disk."""
    if not os.path.ismount(folder):
        pytest.skip("a small disk to fill needs root and a system that lets it mount one")
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4_096))
    try:
        yield
    finally:
        filler.unlink()
