# SPDX-License-Identifier: Apache-2.0
"""Options and arguments that several commands share, and what is said when a value of theirs is wrong.

Invariants: one option, one spelling, one help text in French and English, whichever command has it.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from umuhuza.words import t

if TYPE_CHECKING:  # commands without an agency need none of this, and start sooner
    from adapters.mailbox_rows import Outgoing
    from umuhuza.agency import AgencyParts

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier de l'agence.", "The agency's folder."))]
Json = Annotated[bool, typer.Option("--json", help=t("Résultat en JSON.", "Result as JSON."))]
NoPassphrase = Annotated[
    bool,
    typer.Option(
        "--no-passphrase",
        help=t(
            "Clés privées en clair (0600) : formation, démonstrations, disques chiffrés.",
            "Private keys in clear (0600): training, demonstrations, encrypted disks.",
        ),
    ),
]


def one_of(value: str, known: Collection[str], option: str) -> None:
    """Raises typer.BadParameter, with what is known, when the value is not."""
    if value not in known:
        raise typer.BadParameter(t("connus : ", "known: ") + ", ".join(known), param_hint=option)


def require_file(file: Path, option: str) -> None:
    """Raises typer.BadParameter: there is none of that name, or it is a folder."""
    if file.is_dir():
        raise typer.BadParameter(
            t("c'est un dossier ; nommez un de ses fichiers", "this is a folder; name one of its files"),
            param_hint=option,
        )
    if not file.is_file():
        raise typer.BadParameter(t("ce fichier n'existe pas", "there is no such file"), param_hint=option)


def outgoing_named(parts: AgencyParts, evt: str) -> Outgoing:
    """The outgoing item with that id, or whose id ends so (six characters at least), as `outbox` shows it.

    Raises typer.BadParameter: none, or several.
    """
    found = [item for item in parts.mailbox.outbox() if item.evt == evt or (len(evt) >= 6 and item.evt.endswith(evt))]
    if len(found) != 1:
        raise typer.BadParameter(t("aucun envoi de ce nom", "no such item"), param_hint="EVT")
    return found[0]
