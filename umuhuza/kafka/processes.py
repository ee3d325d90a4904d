# SPDX-License-Identifier: Apache-2.0
"""A process that outlives the command which started it, and is ended by its own identity, never by its name or number.

The process itself writes who it is (its line of /proc/<pid>/stat and the boot's id) into a file before it becomes the
program: there is no moment at which it runs and nobody knows it. A number that the system has given to another process
since then, or that is left from before a reboot, is recognised by its start time and left alone.

Linux only: /proc and process file descriptors (`pidfd`), so that between looking and signalling a number cannot change
hands.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
# $0: the file; $1 ...: the program. The rename makes it whole or absent.
_LAUNCH = 'cat "/proc/$$/stat" /proc/sys/kernel/random/boot_id > "$0.new" && mv -f "$0.new" "$0" && exec "$@"'


def launch(file: Path, program: Sequence[str], output: Path, environment: Mapping[str, str]) -> int:
    """Start `program` in a session of its own, its output appended to `output`; it says who it is in `file`.

    Returns:
        Its number. The file is there shortly afterwards; until then `alive` knows it by this process being its parent.
    """
    file.unlink(missing_ok=True)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", _LAUNCH, str(file), *program],
        dict(environment),
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(output), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )


def alive(file: Path) -> int | None:
    """The number of the process that wrote `file`, or None: never started, ended, or its number is another's now."""
    with _opened(file) as (pid, _handle):
        return pid


def send(file: Path, number: signal.Signals) -> bool:
    """Signal the process that wrote `file`. False when it is not there any more."""
    with _opened(file) as (pid, handle):
        if pid is None:
            return False
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        return True


def ended(file: Path, within_s: float) -> bool:
    """Wait until the process that wrote `file` is gone. False when it is still there after `within_s` seconds."""
    with _opened(file) as (pid, handle):
        if pid is not None:
            watcher = select.poll()
            watcher.register(handle, select.POLLIN)
            if not watcher.poll(within_s * 1000):
                return False
            _reap(pid)
    return True


def rss_mb(pid: int) -> int | None:
    """Memory that a process holds, MiB; None when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    held = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(held[0]) // 1024 if held else None


@contextmanager
def _opened(file: Path) -> Iterator[tuple[int | None, int]]:
    """The process as a file descriptor that stays its own; (None, -1) when it is not running."""
    known = _read(file)
    handle = -1
    try:
        if known is not None:
            try:
                handle = os.pidfd_open(known[0])
            except OSError:
                known = None
        # Looked at after it was opened: what the descriptor means cannot change from here on.
        if known is not None and _started(known[0]) != known[1]:
            known = None
        yield (None, -1) if known is None else (known[0], handle)
    finally:
        if handle >= 0:
            os.close(handle)


def _read(file: Path) -> tuple[int, str] | None:
    """(number, start time) as the process wrote them in this boot."""
    try:
        stat, _, boot = file.read_text(encoding="utf-8", errors="replace").rstrip("\n").rpartition("\n")
        if boot != _BOOT.read_text(encoding="ascii").strip():
            return None
        return int(stat.partition(" ")[0]), _start_time(stat)
    except (OSError, ValueError, IndexError):
        return None


def _started(pid: int) -> str | None:
    """Start time of a running process; None when there is none or it has ended and waits to be collected."""
    _reap(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return None if stat.rpartition(")")[2].split()[0] in ("Z", "X") else _start_time(stat)


def _start_time(stat: str) -> str:
    # proc(5): field 22, counted after the name, which may itself hold spaces and brackets.
    return stat.rpartition(")")[2].split()[19]


def _reap(pid: int) -> None:
    """A child of ours that has ended leaves the table; anybody else's is not ours to wait for."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
