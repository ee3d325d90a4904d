# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency refusals`: what was refused here and to whom, for an auditor; codes and places, never a value."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from adapters.refusal_book import Refusal, RefusalBook
from umuhuza.agency import opened_agency
from umuhuza.options import Folder, Json
from umuhuza.words import advice_for, day_and_time, entries, result, t


def add_to(app: typer.Typer) -> None:
    """Add the command to `umuhuza agency`."""
    app.command(
        "refusals",
        help=t(
            "Ce qui a été refusé, à l'envoi et à la réception : quand, code et endroit, jamais une valeur.",
            "What was refused, sending and receiving: when, code and place, never a value.",
        ),
    )(refusals)


def refusals(
    folder: Folder,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help=t("Depuis ce jour (AAAA-MM-JJ).", "From that day on (YYYY-MM-DD).")),
    ] = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        found = RefusalBook(parts.mailbox).since(0 if since is None else int(since.astimezone().timestamp()))
    if as_json:
        items = [
            {
                "at": one.at,
                "direction": one.direction,
                "place": one.where,
                "type": one.type,
                "peer": one.peer,
                "code": one.code,
                "path": one.path,
            }
            for one in found
        ]
        result({"ok": True, "refusals": items}, as_json=True)
        return
    entries(t("Refus", "Refusals"), [(_head(one), _lines(one)) for one in found])


def _head(one: Refusal) -> str:
    way = t("à l'envoi", "sending") if one.direction == "outgoing" else t("à la réception", "receiving")
    at = day_and_time(one.at)
    return "  ".join(each for each in (at, way, one.type, one.peer, one.code) if each)


def _lines(one: Refusal) -> list[str]:
    where = one.where if one.path is None else f"{one.where}  {one.path}"
    return [each for each in (where, advice_for(one.code)) if each]
