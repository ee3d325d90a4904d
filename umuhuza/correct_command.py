# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency correct`: what was sent and is wrong, corrected with the form in which it was written.

    umuhuza agency correct EVT --file juste.xlsx --reason misheard --source person --dir iom
    umuhuza agency correct EVT --file juste.csv --reason interpreter --source person --wrong Langues --dir iom

The file is the template once more, with the lawful basis and only those cells filled in that are right now. It puts a
record into the outbox; a running adapter sends it.
Must never: take a value on the command line, where it would stay in the history of commands.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from adapters.connectors.column_type import FORMS
from adapters.connectors.contract import Batch, Draft, Problem
from adapters.connectors.correction import read_correction
from adapters.connectors.sheets import read_tables
from adapters.mailbox_rows import Outgoing
from adapters.outbox import Outbox
from schemas.errors import SourceError
from schemas.forms import Facts
from schemas.plain.record import RecordCorrected
from umuhuza.agency import AgencyParts, opened_agency, zone_of
from umuhuza.options import outgoing_named
from umuhuza.words import choices, language, result, t

Reason = Literal["misheard", "misread", "interpreter", "not-known-then", "changed-since", "other"]
Source = Literal["person", "document", "guardian", "another-agency", "own-file"]
_REASONS = {
    "misheard": ("mal entendu", "misheard"),
    "misread": ("mal lu", "misread"),
    "interpreter": ("mal traduit", "wrongly interpreted"),
    "not-known-then": ("pas encore connu", "not known then"),
    "changed-since": ("changé depuis", "changed since"),
    "other": ("autre raison", "another reason"),
}
_SOURCES = {
    "person": ("la personne", "the person"),
    "document": ("un document", "a document"),
    "guardian": ("le tuteur", "the guardian"),
    "another-agency": ("une autre agence", "another agency"),
    "own-file": ("notre dossier", "our own file"),
}


def add_to(app: typer.Typer) -> None:
    """Add the command to `umuhuza agency`."""
    app.command(
        "correct",
        help=t(
            "Corrige un envoi : le formulaire, rempli seulement là où c'est juste maintenant.",
            "Correct what was sent: the form, filled in only where it is right now.",
        ),
    )(correct)


def correct(
    evt: Annotated[str, typer.Argument(help=t("Identifiant donné par « outbox ».", "The id that `outbox` shows."))],
    folder: Annotated[Path, typer.Option("--dir", help=t("Dossier de l'agence.", "The agency's folder."))],
    file: Annotated[
        Path,
        typer.Option(
            help=t(
                "Le modèle (XLSX) ou un CSV de ses colonnes : une ligne, la base légale et ce qui est juste.",
                "The template (XLSX) or a CSV of its columns: one row, the lawful basis and what is right.",
            )
        ),
    ],
    reason: Annotated[Reason, typer.Option(help=choices(_REASONS))],
    source: Annotated[Source, typer.Option(help=choices(_SOURCES))],
    wrong: Annotated[
        list[str] | None,
        typer.Option(
            help=t(
                "Titre d'une colonne : faux, et pas mieux connu ; plusieurs fois possible.",
                "Title of a column: wrong, and not known better; may be repeated.",
            )
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=t("Résultat en JSON.", "Result as JSON."))] = False,
) -> None:
    with opened_agency(folder) as parts:
        item = outgoing_named(parts, evt)
        said = _read(parts, item, file, reason, source, wrong or ())
        outcome = said if isinstance(said, tuple) else _put(parts, item, said)
    problems = outcome if isinstance(outcome, tuple) else ()
    corrected = said.said if isinstance(said, Facts) else None
    fields = list(corrected.fields) if isinstance(corrected, RecordCorrected) else []
    lines = [f"✗ {one.at(language())} : {t(one.fr, one.en)}" for one in problems] or [
        t(
            f"{len(fields)} rubrique(s) corrigée(s) ; « umuhuza agency run » l'envoie. Si cela presse, téléphonez.",
            f"{len(fields)} field(s) corrected; `umuhuza agency run` sends it. If it is urgent, telephone.",
        )
    ]
    value = {
        "ok": not problems,
        "corrected": item.evt,
        "evt": None if problems else outcome,
        "fields": fields,
        "refused": [{"code": one.code, "where": one.at(language()), "message": t(one.fr, one.en)} for one in problems],
    }
    result(value, as_json=as_json, lines=lines)
    if problems:
        raise typer.Exit(1)


def _read(
    parts: AgencyParts, item: Outgoing, file: Path, reason: Reason, source: Source, wrong: Sequence[str]
) -> Facts | tuple[Problem, ...]:
    """What the file says, or all that is wrong with it. Raises UmuhuzaError."""
    try:
        data = file.read_bytes()
    except OSError:
        raise SourceError("source_unreadable", "file") from None
    tables = asyncio.run(read_tables(data, file.name, sheets=FORMS))
    if isinstance(tables, Problem):
        return (tables,)
    now = datetime.fromtimestamp(int(parts.now()), zone_of(parts.settings))
    return read_correction(tables, evt=item.evt, of=item.type, reason=reason, source=source, wrong=wrong, now=now)


def _put(parts: AgencyParts, item: Outgoing, facts: Facts) -> str | tuple[Problem, ...]:
    """The evt of the correction, which is in the outbox now; the same correction again is the same event."""
    digest = hashlib.sha256(f"{item.evt}\n{facts.model_dump_json(exclude={'occurred_at'})}".encode()).hexdigest()
    draft = Draft("1", item.peer, "record.corrected", None, item.thread, facts)
    [outcome] = Outbox(parts.desk).accept(Batch(f"correction:{digest}", "", (draft,)), "")
    if outcome.problem is not None:
        return (outcome.problem,)
    return outcome.evt or ""
