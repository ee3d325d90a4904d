# SPDX-License-Identifier: Apache-2.0
"""The folders of one agency, and file operations that survive a pulled plug.

    a-envoyer/   the agency drops here          envoyes/    what was taken over, as dropped
    refuses/     what could not be taken over   rapports/   one report per file, the follow-up table
    recus/       what arrived, one workbook per thread, with the sheet on which it is answered
    pieces-jointes/   files that rows of those workbooks name; taken over to envoyes/pieces-jointes/

Invariants: folders are 0700 and files 0600; a file appears under its name only when it is whole and durable (`.part`,
fsync, rename, fsync of the folder); nothing that was dropped is overwritten or deleted, it is moved, under another
name where the name is taken. Originals stay in `envoyes/` in clear for the agency: their sealing and removal belong
to attended sessions.
Every function here blocks; callers use threads. All raise OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from topics.durable_file import sync_folder

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_LOCKS = (("~$", ""), (".~lock.", "#"))
"""How Excel and LibreOffice mark a file that someone has open: before and after its name."""
_UNFINISHED = (".part", ".tmp", ".crdownload", ".partial", ".filepart")
_OURS = ("lisez-moi.txt", "thumbs.db", "desktop.ini")


@dataclass(frozen=True, slots=True)
class Names:
    """What the folders are called."""

    to_send: str = "a-envoyer"
    sent: str = "envoyes"
    refused: str = "refuses"
    reports: str = "rapports"
    received: str = "recus"
    attached: str = "pieces-jointes"


@dataclass(frozen=True, slots=True)
class Places:
    root: Path
    to_send: Path
    sent: Path
    refused: Path
    reports: Path
    received: Path
    states: Path
    """What the connector must remember of the workbooks in `received`."""
    attached: Path
    """Files that rows name."""
    sent_attached: Path
    """Made when the first is taken over."""

    @classmethod
    def under(cls, root: Path, names: Names) -> Places:
        received = root / names.received
        return cls(
            root,
            root / names.to_send,
            root / names.sent,
            root / names.refused,
            root / names.reports,
            received,
            received / ".umuhuza",
            root / names.attached,
            root / names.sent / names.attached,
        )

    def make(self) -> None:
        for folder in (
            self.root,
            self.to_send,
            self.sent,
            self.refused,
            self.reports,
            self.received,
            self.states,
            self.attached,
        ):
            folder.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            if os.name == "posix":
                folder.chmod(_DIRECTORY_MODE)


@dataclass(frozen=True, slots=True)
class Look:
    """A file as one look saw it: equal looks mean that nobody wrote in between."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @property
    def changed_at(self) -> float:
        """Seconds since the epoch. The change time counts too: copying may keep an old modification time."""
        return max(self.mtime_ns, self.ctime_ns) / 1e9


def look(path: Path) -> Look | None:
    """None: gone, a link, a folder or another thing that is not a plain file."""
    try:
        seen = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(seen.st_mode):
        return None
    return Look(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


def dropped(folder: Path) -> list[Path]:
    """The plain files that someone put there, by name; without locks, hidden and unfinished ones."""
    return sorted(path for path in folder.iterdir() if _is_meant(path) and look(path) is not None)


def not_files(folder: Path) -> int:
    """How many things somebody put there that are never read: folders, links. None where the folder cannot be read."""
    try:
        return sum(_is_meant(path) and (path.is_symlink() or path.is_dir()) for path in folder.iterdir())
    except OSError:
        return 0  # whoever collects says so; what arrives is delivered all the same


def _is_meant(path: Path) -> bool:
    """Not a program's own: a lock, a hidden or unfinished file."""
    name = path.name.lower()
    return not name.startswith((".", "~$")) and not name.endswith(_UNFINISHED) and name not in _OURS


def is_open_elsewhere(path: Path) -> bool:
    """Whether a spreadsheet program left its mark beside the file."""
    # Excel leaves out the first two characters of a long name.
    names = {f"{before}{path.name}{after}" for before, after in _LOCKS} | {f"~${path.name[2:]}"}
    return any((path.parent / name).exists() for name in names)


def read(path: Path, most: int) -> bytes:
    """At most `most` + 1 bytes; never follows a link."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(number, "rb") as file:
        return file.read(most + 1)


def write_durably(path: Path, data: bytes, may: Callable[[], bool] = lambda: True) -> bool:
    """The whole file or none, under its name; replaces what was there. A crash leaves at most a `.part`.

    `may` is asked last, when all but the name is on the disk. False: it said no, and nothing was replaced.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), _FILE_MODE)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not may():
            part.unlink()
            return False
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return True


def append_line(path: Path, line: bytes) -> None:
    """One more line, durable. A line torn by an earlier crash stays torn and is closed first."""
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), _FILE_MODE)
    try:
        size = os.fstat(number).st_size
        torn = size > 0 and _last_byte(number, size) != b"\n"
        data = (b"\n" if torn else b"") + line + b"\n"
        while data:
            data = data[os.write(number, data) :]
        os.fsync(number)
    finally:
        os.close(number)
    sync_folder(path.parent)


def _last_byte(number: int, size: int) -> bytes:
    os.lseek(number, size - 1, os.SEEK_SET)
    return os.read(number, 1)


def free_name(folder: Path, name: str, *, taken: frozenset[str] = frozenset()) -> str:
    """`name`, or with -2, -3, ... before its ending where that is taken."""
    stem, ending = split_name(name)
    number = 1
    while True:
        candidate = name if number == 1 else f"{stem}-{number}{ending}"
        if candidate not in taken and not (folder / candidate).exists():
            return candidate
        number += 1


def split_name(name: str) -> tuple[str, str]:
    """`rapport.rapport.xlsx` -> (`rapport`, `.rapport.xlsx`)."""
    match = re.fullmatch(r"(.+?)((?:\.(?:rapport|a-corriger))?\.[^.]{1,8})", name)
    return (match.group(1), match.group(2)) if match else (name, "")


def move(source: Path, target: Path) -> None:
    """Move within one file system, never overwriting: raises FileExistsError. A crash leaves it in both places."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        if not os.path.samefile(source, target):
            raise
        # A crash came between the link and the removal below: the file is there already.
    except OSError as refused:
        if refused.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # No hard links here (network shares, FAT): a name that nobody else uses, then a rename.
        if target.exists():
            raise FileExistsError(errno.EEXIST, "target exists") from None
        os.rename(source, target)
        sync_folder(target.parent)
        sync_folder(source.parent)
        return
    if os.name == "posix":
        with contextlib.suppress(PermissionError):  # dropped by another user: the folder's 0700 protects it
            target.chmod(_FILE_MODE)
    sync_folder(target.parent)
    source.unlink()
    sync_folder(source.parent)
