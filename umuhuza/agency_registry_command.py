# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency registry`: an agency's own registry, made from its mailbox file.

Must never: leave a file that others on this computer can read.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import typer

from adapters import projections, registry_sheets
from adapters.connectors.places import write_durably
from adapters.registry_sheets import Sheet
from schemas.errors import Language
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.options import Folder, Json
from umuhuza.words import language, result, say, t

Format = Literal["xlsx", "csv", "json"]


def sheets_of(parts: AgencyParts, words: Language) -> list[Sheet]:
    """What this agency is shown; [] where its roles have nothing."""
    registry = parts.registry()
    views = projections.views_of(registry.agency(parts.settings.agency))
    if not views:
        return []
    now = datetime.fromtimestamp(parts.now(), UTC)
    story = projections.read(parts.mailbox, parts.inbox().opened)

    def name(agency: str) -> str:
        member = registry.agencies.get(agency)
        return agency if member is None else f"{member.name(words)} ({agency})"

    made = []
    for view in views:
        match view:
            case "cases":
                made.append(registry_sheets.of_cases(projections.cases(story, now), name, words))
            case "investigations":
                made.append(registry_sheets.of_investigations(projections.investigations(story, now), name, words))
            case "flows":
                made.append(registry_sheets.of_flows(projections.flows(story), words))
    return made


def registry(
    folder: Folder,
    form: Annotated[Format, typer.Option("--format", help=t("xlsx, csv ou json.", "xlsx, csv or json."))] = "xlsx",
    out: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Fichier à écrire ; sans lui, registre.xlsx ou .csv dans le dossier ; JSON à l'écran.",
                "File to write; without it, registre.xlsx or .csv in the folder; JSON on the screen.",
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        zone, words = ZoneInfo(parts.settings.timezone), language()
        made = sheets_of(parts, words)
    if not made:
        say(
            t(
                "Rien à montrer : les rôles de cette agence ne suivent ni dossiers, ni enquêtes, ni dénombrements.",
                "Nothing to show: this agency's roles follow neither cases, nor investigations, nor counts.",
            )
        )
        raise typer.Exit(1)
    match form:
        case "xlsx":
            data = registry_sheets.xlsx(made, zone, words)
        case "csv":
            data = registry_sheets.csv_text(made, zone, words)
        case "json":
            data = registry_sheets.json_text(made, zone)
    if form == "json" and out is None:
        sys.stdout.write(data.decode("utf-8"))
        return
    path = out or folder / f"registre.{form}"
    write_durably(path, data)
    rows = sum(len(sheet.rows) for sheet in made)
    result(
        {"file": str(path), "format": form, "rows": rows},
        as_json=as_json,
        lines=[
            t(
                f"Écrit : {path} ({rows} lignes, lisible par vous seul).",
                f"Written: {path} ({rows} rows, readable by you only).",
            )
        ],
    )


def add_to(app: typer.Typer) -> None:
    """Set `registry` beside the commands of `umuhuza agency`. Harmless when it is there."""
    if any(one.callback is registry for one in app.registered_commands):
        return
    app.command(
        help=t(
            "Votre registre : dossiers et orientations, affaires, ou dénombrements, selon vos rôles.",
            "Your registry: cases and referrals, files, or counts, as your roles have it.",
        )
    )(registry)
