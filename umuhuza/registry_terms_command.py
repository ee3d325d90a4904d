# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry agree | policy`: on what terms members exchange, signed by the holders as the members are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from schemas.agreement_text import read_aloud, terms_of
from schemas.registry_signing import contents_now
from schemas.spoken import require_same
from topics.policy_target import policy_document
from umuhuza import agreement_command
from umuhuza.agreement_command import names_in, read_signed_text, require_ours, words_lines
from umuhuza.options import Json
from umuhuza.registry_holder import change_registry, held
from umuhuza.registry_words import published_lines
from umuhuza.words import language, result, t

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du registre.", "The registry's folder."))]


def agree(
    name: Annotated[str, typer.Argument(help=t("Nom de l'accord : bi-tn-2026.", "The agreement's name: bi-tn-2026."))],
    folder: Folder,
    file: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "L'accord en JSON, comme le décrit « Format filaire » ; remplace celui du même nom.",
                "The agreement as JSON, as the wire format describes it; replaces the one of this name.",
            )
        ),
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Les douze mots que l'autre partie a lus : s'ils sont d'un autre accord, rien n'est signé.",
                "The twelve words that the other side read: if they are another agreement's, nothing is signed.",
            )
        ),
    ] = None,
    end: Annotated[bool, typer.Option("--end", help=t("Met fin à l'accord.", "End the agreement."))] = False,
    as_json: Json = False,
) -> None:
    if file is not None and not file.is_file():
        raise typer.BadParameter(t("ce fichier n'existe pas", "there is no such file"), param_hint="--file")
    if (file is None) is not end:
        raise typer.BadParameter(t("--file ou --end", "--file or --end"), param_hint="--file")
    mine = held(folder)
    contents = contents_now(mine.trusted)
    agreements = dict(contents.agreements)
    text: list[str] = []
    if file is None:
        if agreements.pop(name, None) is None:
            raise typer.BadParameter(
                t("aucun accord de ce nom n'est au registre", "no agreement of this name is in the registry"),
                param_hint="NAME",
            )
    else:
        agreement = read_signed_text(file, name, mine.registry.domain)
        require_ours(agreement, mine.trusted)
        if words is not None:
            require_same("agreement", terms_of(agreement), words)
        agreements[name] = agreement
        text = [*read_aloud(agreement, language(), names_in(mine.registry)), *words_lines(agreement)]
    changed = change_registry(mine, replace(contents, agreements=agreements))
    version = changed.registry.version
    result(
        {"ok": True, "published": changed.published, "version": version, "agreements": sorted(agreements)},
        as_json=as_json,
        lines=[
            *text,
            *published_lines(
                changed, t(f"Registre version {version} publié.", f"Registry version {version} published.")
            ),
        ],
    )


def policy(folder: Folder, as_json: Json = False) -> None:
    mine = held(folder)
    changed = change_registry(mine, replace(contents_now(mine.trusted), policy=policy_document()))
    version = changed.registry.version
    result(
        {"ok": True, "published": changed.published, "version": version},
        as_json=as_json,
        lines=published_lines(
            changed, t(f"Registre version {version} publié.", f"Registry version {version} published.")
        ),
    )


def add_to(app: typer.Typer) -> None:
    """Set these beside the commands of `umuhuza registry`."""
    agreement_command.add_to(app)
    app.command(
        help=t(
            "Inscrit un accord entre pays, ou un protocole entre agences, ou y met fin.",
            "Enter an agreement between countries, or a protocol between agencies, or end it.",
        )
    )(agree)
    app.command(
        help=t(
            "Inscrit la politique de cette installation comme celle du domaine : qui en applique une autre le saura.",
            "Enter this installation's policy as the domain's: whoever applies another one will know.",
        )
    )(policy)
