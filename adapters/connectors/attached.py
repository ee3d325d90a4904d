# SPDX-License-Identifier: Apache-2.0
"""Files beside the workbooks: named in the column « Pièces jointes » and taken from `pieces-jointes/`, written down
under neutral names in `recus/` when they arrive.

    named       a row names files; they are read with it, whole and unchanged for as long as a workbook must be
    (accepted)  the outbox has sealed them. Crash: the row is read again, from where they are or from where they went
    moved       to `envoyes/pieces-jointes/`, before the workbook is: once it is gone, none of its files is left behind
    arrived     each is written whole (`.part`, fsync, rename), before the workbook names it. Crash: written again

Invariants: a name in a row never leads out of the folder; a file whose row was refused stays where it is; what is
written in `recus/` bears the thread's neutral name, a number, and the ending of what it is.
Must never: open a file beyond its first bytes; delete what was dropped. Every function blocks and raises OSError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from adapters.connectors import places
from adapters.connectors.contract import Arrived
from adapters.connectors.places import Look, Places
from schemas.attachments import ENDINGS, MAX_BYTES, File
from schemas.errors import Language
from schemas.plain.attachment import AttachmentAnnounced, MediaType

Fetch = Callable[[str], File | None]
"""A file by the name that a row gives it; None: there is none."""
_KINDS: Mapping[MediaType, str] = {"application/pdf": "PDF", "image/jpeg": "JPEG", "image/png": "PNG"}


class StillWrittenError(Exception):
    """A file that a row names is being copied just now: the workbook waits for it."""


def is_plain(name: str) -> bool:
    """Whether it names a file and no way to one."""
    return name not in ("", ".", "..") and PurePosixPath(name).name == name and PureWindowsPath(name).name == name


@dataclass(frozen=True, slots=True)
class Fetching:
    """Finds the files of one workbook's rows."""

    places: Places
    is_quiet: Callable[[Path, Look], bool]
    moved: Mapping[str, str]
    """Name -> path from the agency's folder, of what went before a crash."""

    def __call__(self, name: str) -> File | None:
        """Raises StillWrittenError; OSError."""
        if not is_plain(name):
            return None
        path = self.places.attached / name
        seen = places.look(path)
        if seen is None:
            went = self.moved.get(name)
            path = self.places.root / went if went is not None else path
            return None if went is None or places.look(path) is None else File(name, places.read(path, MAX_BYTES))
        if not self.is_quiet(path, seen):
            raise StillWrittenError
        try:
            return File(name, places.read(path, MAX_BYTES))
        except (FileNotFoundError, PermissionError):
            raise StillWrittenError from None  # held open by the program that makes it


def destinations(files: Iterable[File], where: Places, taken: frozenset[str]) -> dict[str, str]:
    """Where each will be moved to, by name: path from the agency's folder. Nothing is written yet."""
    folder = where.sent_attached
    names = {one.name: places.free_name(folder, one.name, taken=taken) for one in files}
    return {name: str(PurePosixPath(*folder.relative_to(where.root).parts, new)) for name, new in names.items()}


def move(files: Iterable[File], moved: Mapping[str, str], where: Places) -> None:
    """Those of `moved`. What changed since it was read stays, and what was read is kept beside. Idempotent."""
    for one in files:
        if one.name not in moved:
            continue
        target, source = where.root / moved[one.name], where.attached / one.name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.exists():
            continue
        if places.look(source) is not None and places.read(source, MAX_BYTES) == one.data:
            places.move(source, target)
        else:
            places.write_durably(target, one.data)


def write_arrived(arrived: Arrived, stem: str, folder: Path) -> list[str]:
    """Write the files of an announcement, 0600; their names there. Idempotent: the same names again."""
    said = arrived.facts.said
    if not isinstance(said, AttachmentAnnounced):
        return []
    tag = hashlib.sha256(arrived.ident.encode()).hexdigest()[:8]
    names = []
    for number, (one, file) in enumerate(zip(said.files, arrived.files, strict=True), 1):
        name = f"{stem}-piece-{tag}-{number}{ENDINGS[one.media_type]}"
        places.write_durably(folder / name, file.data)
        names.append(name)
    return names


def remove(names: Iterable[str], folder: Path) -> bool:
    """Delete what `write_arrived` wrote. False: a program holds one; asked for again. Idempotent."""
    gone = True
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except PermissionError:
            gone = False
    return gone


def in_words(arrived: Arrived, names: Iterable[str], language: Language) -> list[tuple[str, str]]:
    """(label, value) lines for the workbook: where each file is, what it is, what its sender called it."""
    said = arrived.facts.said
    if not isinstance(said, AttachmentAnnounced):
        return []
    french = language == "fr"
    lines = []
    for number, (name, one, original) in enumerate(zip(names, said.files, said.names, strict=True), 1):
        size = f"{one.size / 2**20:.1f}" if one.size >= 2**20 else f"{max(1, one.size // 1024)}"
        unit = ("Mio" if french else "MiB") if one.size >= 2**20 else ("Kio" if french else "KiB")
        size = size.replace(".", ",") if french else size
        lines.append(
            (f"{'Fichier' if french else 'File'} {number}", f"{name} ({_KINDS[one.media_type]}, {size} {unit})")
        )
        lines.append(("Nom chez l'expéditeur" if french else "Called at the sender's", original))
    lines.append(
        (
            "À savoir" if french else "Please note",
            "Dans le même dossier que ce classeur. Umuhuza ne les a ni ouverts ni contrôlés : "
            "ouvrez-les avec un programme à jour."
            if french
            else "In the same folder as this workbook. Umuhuza has neither opened nor checked them: "
            "open them with an up-to-date program.",
        )
    )
    return lines
