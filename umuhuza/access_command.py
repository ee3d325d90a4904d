# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency access request | list | sheet`: asking for a person what is held about her, and what she gets.

Answering is `umuhuza.access_answer_command`. Her name is given in a file, so that it stands in no history of commands.
Must never: print a name in a list or an error; leave a sheet that others on this computer can read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from adapters import access_sheet
from adapters.access import Access, Asked, Waiting
from adapters.access_sheet import Answer, Sheet, words_in
from adapters.connectors.places import write_durably
from adapters.consent_book import ConsentBook
from schemas import ijson
from schemas.errors import PayloadError, SourceError
from schemas.forms import validated
from schemas.lifecycle import state_label
from schemas.plain.rights import AccessRequested
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.consent_command import read_code
from umuhuza.options import Folder, Json, require_file
from umuhuza.words import advice_for, day, entries, language, result, say, t

app = typer.Typer(
    no_args_is_help=True,
    help=t(
        "Une personne demande ce que les agences gardent sur elle : demander pour elle, répondre, lui remettre la "
        "feuille.",
        "A person asks what agencies hold about her: ask for her, answer, give her the sheet.",
    ),
)
_WANTS = {
    "what-is-held": ("ce qui est gardé", "what is held"),
    "copy": ("une copie", "a copy"),
    "recipients": ("à combien d'agences c'est passé", "to how many agencies it went"),
    "correction": ("une correction", "a correction"),
    "erasure": ("un effacement", "an erasure"),
}
OUTCOMES = {
    "answered": ("quelque chose est gardé", "something is held"),
    "nothing-held": ("rien n'est gardé", "nothing is held"),
    "not-verified": ("identité non vérifiée", "identity not verified"),
    "restricted": ("un texte ne permet pas d'en dire plus", "a text does not allow to say more"),
}
_FORMATS = (".html", ".csv", ".json")
_MEMBERS = ("name", "verified_by", "checked_by", "wants", "language", "note")
_DEFAULT_WANTS = ("what-is-held", "copy", "recipients")


def add_to(agency: typer.Typer) -> None:
    """Set the group beside the commands of `umuhuza agency`. Harmless when it is there."""
    if not any(one.typer_instance is app for one in agency.registered_groups):
        agency.add_typer(app, name="access")


# -- ask --------------------------------------------------------------------------------------------------------------


@app.command(
    name="request",
    help=t(
        "Demande pour elle, à chaque agence avec qui nous avons échangé à son sujet, ce qui est gardé sur elle.",
        "Ask for her, of every agency with which we have exchanged anything about her, what is held about her.",
    ),
)
def ask(
    folder: Folder,
    file: Annotated[
        Path,
        typer.Option(
            help=t(
                "La demande, en JSON : {name,verified_by,checked_by[,wants,language,note]} ; verified_by : ticket, "
                "document ou known-to-agency ; checked_by : qui ici s'est assuré que c'est bien elle.",
                "The request, as JSON: {name,verified_by,checked_by[,wants,language,note]}; verified_by: ticket, "
                "document or known-to-agency; checked_by: who here made sure that it is she.",
            )
        ),
    ],
    person: Annotated[
        str | None,
        typer.Option(help=t("Référence de la personne dans cette agence.", "This agency's reference of the person.")),
    ] = None,
    ticket: Annotated[
        str | None,
        typer.Option(help=t("Ou le numéro de sa carte, donnée ici.", "Or the number of her card, given here.")),
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            help=t("Seulement à cette agence ; plusieurs fois possible.", "Of this agency only; may be repeated.")
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    if (person is None) == (ticket is None):
        raise typer.BadParameter(t("--person ou --ticket, l'un des deux", "--person or --ticket, one of them"))
    said = _request_in(file, by_ticket=ticket is not None)
    with opened_agency(folder) as parts:
        book = ConsentBook(parts.mailbox)
        if ticket is not None:
            person = book.person_of(read_code(ticket))
            if person is None:
                raise typer.BadParameter(
                    t("cette agence n'a pas donné cette carte", "this agency did not give that card"),
                    param_hint="--ticket",
                )
        if person is None or not book.knows(person):
            raise typer.BadParameter(
                t("rien sous cette référence", "nothing under this reference"), param_hint="--person"
            )
        outcomes = Access(parts.desk).ask(person, said, tuple(to or ()))
    refused = [one for one in outcomes if one.problem is not None]
    lines = [
        *(
            f"✓ {one.line}" + (t("  (demandé déjà, sans réponse encore)", "  (asked before, no answer yet)"))
            if one.again
            else f"✓ {one.line}"
            for one in outcomes
            if one.problem is None
        ),
        *(f"✗ {one.line}  {one.problem.code}: {advice_for(one.problem.code)}" for one in refused if one.problem),
        t("« umuhuza agency run » l'envoie.", "`umuhuza agency run` sends it.")
        if outcomes
        else t("Aucune autre agence n'a rien échangé avec nous à son sujet.", "No other agency exchanged anything."),
        t(
            "« umuhuza agency access list » montre les réponses, « access sheet » écrit la feuille pour elle.",
            "`umuhuza agency access list` shows the answers, `access sheet` writes the sheet for her.",
        ),
    ]
    result(
        {
            "ok": not refused,
            "asked": [one.line for one in outcomes if one.problem is None and not one.again],
            "asked_before": [one.line for one in outcomes if one.again],
            "refused": [
                {"to": one.line, "code": one.problem.code, "path": one.problem.path} for one in refused if one.problem
            ],
        },
        as_json=as_json,
        lines=lines,
    )
    if refused:
        raise typer.Exit(1)


def _request_in(file: Path, *, by_ticket: bool) -> AccessRequested:
    """Raises SourceError, PayloadError."""
    require_file(file, "--file")
    try:
        raw = ijson.loads(file.read_bytes(), max_bytes=1 << 20, max_depth=8)
    except OSError:
        raise SourceError("source_unreadable", "file") from None
    except ijson.IJsonError as exc:
        raise SourceError("source_unreadable", exc.path or "file") from None
    if not isinstance(raw, dict) or not raw.keys() <= set(_MEMBERS) or "name" not in raw:
        raise SourceError("row_invalid", "*", expected=", ".join(_MEMBERS))
    members: dict[str, Any] = {name: value for name, value in raw.items() if name != "name"}
    if by_ticket:
        members.setdefault("verified_by", "ticket")
    wants = members.setdefault("wants", _DEFAULT_WANTS)
    said = validated(
        AccessRequested,
        {
            **members,
            "wants": tuple(wants) if isinstance(wants, list) else wants,
            "person": {"as_given": raw["name"]},
        },
    )
    if said.checked_by is None:
        raise PayloadError("payload_invalid", "checked_by")
    return said


# -- look -------------------------------------------------------------------------------------------------------------


@app.command(
    name="list",
    help=t(
        "Les demandes auxquelles répondre, avec leur délai ; les nôtres, avec les réponses.",
        "Requests to answer, with the time left; ours, with the answers.",
    ),
)
def list_access(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        access, opened, now = Access(parts.desk), parts.inbox().opened, parts.now()
        waiting, asked = access.waiting(opened), access.asked(opened)
    if as_json:
        result(
            {
                "ok": True,
                "to_answer": [_waiting_json(one, now) for one in waiting],
                "asked": [_asked_json(one, now) for one in asked],
            },
            as_json=True,
        )
        return
    entries(
        t("Demandes auxquelles répondre", "Requests to answer"),
        [
            (
                f"{day(one.at)}  ← {one.peer}   {one.thread[:8]}",
                [
                    wanted(one),
                    due(one.due_at, now),
                    t("C'est, ici : ", "She is, here: ") + one.person
                    if one.person is not None
                    else t(
                        "À trouver : « access show » dit de qui il s'agit",
                        "To be found: `access show` says whom it is about",
                    ),
                ],
            )
            for one in waiting
        ],
    )
    entries(
        t("Nos demandes", "Our requests"),
        [
            (
                f"{day(one.at)}  {one.person or t('(non reliée)', '(not linked)')} → {one.peer}   {one.thread[:8]}",
                _progress(one, now),
            )
            for one in asked
        ],
    )
    if any(one.due_at <= now for one in waiting):
        say(t("En retard : répondez aujourd'hui, ou téléphonez.", "Overdue: answer today, or telephone."))


def wanted(one: Waiting) -> str:
    wants = ", ".join(t(*_WANTS[each]) for each in one.said.wants)
    return t("Elle demande : ", "She asks for: ") + wants


def due(at: int, now: float) -> str:
    if at <= now:
        return t(f"EN RETARD depuis le {day(at)}", f"OVERDUE since {day(at)}")
    return t(f"Réponse attendue avant le {day(at)}", f"Answer expected by {day(at)}")


def _progress(one: Asked, now: float) -> list[str]:
    if one.answer is not None and one.answered_at is not None:
        told = [f"{day(one.answered_at)} : {t(*OUTCOMES[one.answer.outcome])}"]
        if one.answer.held:
            told.append(t(f"{len(one.answer.held)} enregistrement(s)", f"{len(one.answer.held)} record(s)"))
        return told
    if one.state != "requested":
        return [state_label("access", one.state, language())]
    return [state_label("outgoing", one.sending, language()), due(one.due_at, now)]


def _waiting_json(one: Waiting, now: float) -> dict[str, Any]:
    return {
        "thread": one.thread,
        "from": one.peer,
        "at": one.at,
        "due_at": one.due_at,
        "overdue": one.due_at <= now,
        "wants": list(one.said.wants),
        "verified_by": one.said.verified_by,
        "record": one.said.record,
        "person": one.person,
    }


def _asked_json(one: Asked, now: float) -> dict[str, Any]:
    answer = one.answer
    return {
        "thread": one.thread,
        "to": one.peer,
        "person": one.person,
        "at": one.at,
        "due_at": one.due_at,
        "overdue": one.state == "requested" and one.due_at <= now,
        "state": one.state,
        "sending": one.sending,
        "answered_at": one.answered_at,
        "outcome": None if answer is None else answer.outcome,
        "records": [] if answer is None else [each.record for each in answer.held],
        "onward": None if answer is None else answer.onward,
        "legal_reference": None if answer is None else answer.legal_reference,
    }


# -- the sheet --------------------------------------------------------------------------------------------------------


@app.command(
    name="sheet",
    help=t(
        "Écrit la feuille à lui lire ou à lui remettre : toutes les réponses, et qui n'a pas répondu.",
        "Write the sheet to read or give to her: every answer, and who has not answered.",
    ),
)
def sheet(
    folder: Folder,
    person: Annotated[
        str, typer.Option(help=t("Référence de la personne dans cette agence.", "This agency's reference."))
    ],
    out: Annotated[
        Path,
        typer.Option(
            help=t(
                "Fichier à écrire, selon son nom : .html à imprimer, .csv, .json.",
                "File to write, by its name: .html to print, .csv, .json.",
            )
        ),
    ],
    in_language: Annotated[
        str | None,
        typer.Option("--language", help=t("Langue de la feuille : fr ou en.", "Language of the sheet: fr or en.")),
    ] = None,
    as_json: Json = False,
) -> None:
    if out.suffix.lower() not in _FORMATS:
        raise typer.BadParameter(t("types connus : ", "known types: ") + ", ".join(_FORMATS), param_hint="--out")
    if in_language not in (None, "fr", "en"):
        raise typer.BadParameter("fr, en", param_hint="--language")
    words = language() if in_language is None else words_in(in_language)
    with opened_agency(folder) as parts:
        if not ConsentBook(parts.mailbox).knows(person):
            raise typer.BadParameter(
                t("rien sous cette référence", "nothing under this reference"), param_hint="--person"
            )
        made = sheet_of(parts, person)
        zone = ZoneInfo(parts.settings.timezone)
    match out.suffix.lower():
        case ".html":
            data = access_sheet.html(made, zone, words).encode("utf-8")
        case ".csv":
            data = access_sheet.csv_text(made, zone, words)
        case _:
            data = access_sheet.json_text(made)
    write_durably(out, data)
    silent = [one.agency for one in made.answers if one.asked.answer is None]
    result(
        {
            "ok": True,
            "file": str(out),
            "answers": len(made.answers) - len(silent),
            "waiting": [one.asked.peer for one in made.answers if one.asked.answer is None],
        },
        as_json=as_json,
        lines=[
            t(f"Écrit : {out} (lisible par vous seul).", f"Written: {out} (readable by you only)."),
            *([t("Pas encore de réponse : ", "No answer yet: ") + ", ".join(silent)] if silent else []),
            t(
                "Demandez-lui d'abord si elle peut la garder sans danger ; effacez ensuite le fichier.",
                "First ask her whether she can keep it without danger; then delete the file.",
            ),
        ],
    )


def sheet_of(parts: AgencyParts, person: str) -> Sheet:
    """What goes on the sheet of that person now. An agency that was asked twice stands there with its last request."""
    access, now = Access(parts.desk), parts.now()
    asked = {one.peer: one for one in access.asked(parts.inbox().opened, person) if one.state != "retracted"}
    registry = parts.registry()

    def name(agency: str) -> str:
        member = registry.agencies.get(agency)
        return agency if member is None else member.name(parts.settings.language)

    return Sheet(
        name(parts.settings.agency),
        int(now),
        access.holdings(person),
        tuple(Answer(name(one.peer), one, one.answer is None and one.due_at <= now) for one in asked.values()),
    )
