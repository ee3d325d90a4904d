# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency attachments`: files that arrived, and how far those are that are on their way.

For agencies without a watched folder, which writes them down by itself. With `--out` the files that are whole are
written there, mode 0600, under neutral names.
Must never: write a part of a file, or over a file; show what a file was called where it was not asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.inbox import Inbox
from adapters.mailbox_rows import Incoming
from schemas.attachments import ENDINGS, count_of, size_of
from schemas.errors import SourceError
from schemas.plain.attachment import ANNOUNCED, AttachmentAnnounced
from umuhuza.agency import opened_agency
from umuhuza.options import Folder, Json
from umuhuza.words import entries, result, t

_STATES = {
    "gathering": ("en chemin", "on their way"),
    "ready": ("entières", "whole"),
    "delivered": ("entières", "whole"),
}


def attachments(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option(help=t("Y écrire celles qui sont entières (0600).", "Write those that are whole there.")),
    ] = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        inbox = parts.inbox()
        items = [item for item in parts.mailbox.arrivals.all() if item.type == ANNOUNCED and item.state in _STATES]
        rows = [_row(inbox, item, out) for item in items]
    if as_json:
        result({"ok": True, "attachments": rows}, as_json=True)
        return
    entries(
        t("Pièces jointes reçues", "Attachments received"),
        [
            (
                f"{row['record']}  {t(*_STATES[row['state']])}  {row['there']}/{row['chunks']}",
                [f"{row['count']} · {row['size']} {t('octets', 'bytes')}", *row["files"]],
            )
            for row in rows
        ],
    )


def _row(inbox: Inbox, item: Incoming, out: Path | None) -> dict[str, Any]:
    said = inbox.opened(item).facts.said
    if not isinstance(said, AttachmentAnnounced):
        raise TypeError("an announcement says something else")
    written = [] if out is None or item.state == "gathering" else _written(inbox, item, said, out)
    return {
        "record": item.ident,
        "about": f"{item.iss}/{said.about}",
        "state": item.state,
        "chunks": count_of(said),
        "there": len(inbox.gathering.book.chunks(item.ident)),
        "count": len(said.files),
        "size": size_of(said),
        "files": written,
    }


def _written(inbox: Inbox, item: Incoming, said: AttachmentAnnounced, out: Path) -> list[str]:
    """Raises SourceError `row_invalid`: one of them is there already."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = []
    for number, (one, file) in enumerate(zip(said.files, inbox.gathering.files(item), strict=True), 1):
        path = out / f"{item.evt}-{number}{ENDINGS[one.media_type]}"
        try:
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as written:
                written.write(file.data)
        except FileExistsError:
            raise SourceError("row_invalid", "out", expected=t("un dossier sans ce fichier", "no such file")) from None
        paths.append(str(path))
    return paths


def add_to(app: typer.Typer) -> None:
    """Beside the other commands of `umuhuza agency`."""
    app.command(
        name="attachments",
        help=t(
            "Pièces jointes reçues, et celles qui sont en chemin.", "Attachments that arrived, and those on their way."
        ),
    )(attachments)
