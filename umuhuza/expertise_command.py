# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency contacts` and `expertise`: focal points to call, questions of practice and their answers.

They read and fill the mailbox; `umuhuza agency run` sends and receives. Must never: ask for, or take, a person.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.expertise import Contacts, Expertise, Question
from schemas import ijson
from schemas.errors import SourceError
from schemas.forms import validated
from schemas.lifecycle import state_label
from schemas.plain.knowledge import ContactPublished, ExpertiseAnswered, ExpertiseAsked
from umuhuza.agency import opened_agency
from umuhuza.guidance_command import bytes_in, sends
from umuhuza.options import Folder, Json, one_of
from umuhuza.words import choices, day, entries, language, result, t

_MOST_TEXT = 64 << 10
"""Bytes of a file with a question or an answer; the form itself takes 8,000 characters."""

_TOPICS = {
    "identification": ("identification", "identification"),
    "referral": ("orientation", "referral"),
    "assistance": ("assistance", "assistance"),
    "children": ("enfants", "children"),
    "return": ("retour", "return"),
    "investigation": ("enquête", "investigation"),
    "data": ("données", "data"),
    "other": ("autre sujet", "another topic"),
}
_OFFICES = {
    "focal-point": ("point focal", "focal point"),
    "duty-officer": ("permanence", "duty officer"),
    "child-protection": ("protection de l'enfance", "child protection"),
    "consular": ("service consulaire", "consular service"),
    "legal-aid": ("aide juridique", "legal aid"),
    "health": ("santé", "health"),
    "data": ("protection des données", "data protection"),
}

contacts_app = typer.Typer(
    no_args_is_help=True,
    help=t("Points focaux : qui appeler, publié par fonction.", "Focal points: whom to call, published by function."),
)
expertise_app = typer.Typer(
    no_args_is_help=True,
    help=t(
        "Questions de pratique entre commissions et agences ; jamais un cas reconnaissable.",
        "Questions of practice between commissions and agencies; never a case that could be recognised.",
    ),
)


def add_to(agency: typer.Typer) -> None:
    """Set the two groups beside the commands of `umuhuza agency`. Harmless when they are there."""
    if not any(one.typer_instance is contacts_app for one in agency.registered_groups):
        agency.add_typer(contacts_app, name="contacts")
        agency.add_typer(expertise_app, name="expertise")


# -- contacts ---------------------------------------------------------------------------------------------------------


@contacts_app.command(
    name="publish",
    help=t(
        "Publie un point focal de l'agence : une fonction et son téléphone, jamais un nom de personne.",
        "Publish a focal point of the agency: a function and its telephone, never a person's name.",
    ),
)
def publish_contact(
    folder: Folder,
    file: Annotated[
        Path,
        typer.Option(
            help=t(
                "Le contact, en JSON : {entry,function,name_fr,name_en,telephone,valid_until[,languages,"
                "around_the_clock,withdrawn]}.",
                "The contact, as JSON: {entry,function,name_fr,name_en,telephone,valid_until[,languages,"
                "around_the_clock,withdrawn]}.",
            )
        ),
    ],
    as_json: Json = False,
) -> None:
    try:
        raw = ijson.loads(bytes_in(file, "--file"), max_bytes=1 << 20, max_depth=8)
    except ijson.IJsonError as exc:
        raise SourceError("source_unreadable", exc.path or "file") from None
    if not isinstance(raw, dict):
        raise SourceError("row_invalid", "*")
    said = validated(ContactPublished, raw)
    with opened_agency(folder) as parts:
        told = Contacts(parts.desk).publish(said)
    words = (
        t(f"« {said.entry} » retiré, {len(told)} agence(s) prévenue(s).", f"{said.entry} withdrawn, told: {len(told)}.")
        if said.withdrawn
        else t(
            f"« {said.entry} » publié pour {len(told)} agence(s).", f"{said.entry} published to {len(told)} agencies."
        )
    )
    result(
        {"ok": True, "entry": said.entry, "withdrawn": said.withdrawn, "told": told},
        as_json=as_json,
        lines=[f"{words} {sends()}"],
    )


@contacts_app.command(
    name="list",
    help=t("Les points focaux en vigueur, avec leur téléphone.", "The focal points in force, with their telephone."),
)
def list_contacts(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        contacts = Contacts(parts.desk)
        found, ours = contacts.listings(parts.inbox().opened), contacts.told()
    if as_json:
        result(
            {
                "ok": True,
                "contacts": [{"agency": one.agency, **one.said.model_dump(mode="json")} for one in found],
                "published": [{"entry": one.entry, "agencies": one.agencies} for one in ours],
            },
            as_json=True,
        )
        return
    entries(
        t("Points focaux", "Focal points"),
        [
            (
                f"{one.said.telephone}  {t(one.said.name_fr, one.said.name_en)} ({one.agency})",
                [
                    ", ".join(
                        [
                            t(*_OFFICES[one.said.function]),
                            *([t("jour et nuit", "day and night")] if one.said.around_the_clock else []),
                            *one.said.languages,
                        ]
                    ),
                    t("Valable jusqu'au ", "Valid until ") + day(one.said.valid_until.timestamp()),
                ],
            )
            for one in found
        ],
    )
    if ours:
        entries(
            t("Publiés par nous", "Published by us"),
            [(one.entry, [t(f"{one.agencies} agence(s)", f"{one.agencies} agencies")]) for one in ours],
        )


# -- expertise --------------------------------------------------------------------------------------------------------

Words = Annotated[
    str | None, typer.Option("--text", help=t("Le texte, sur la ligne.", "The text, on the command line."))
]
WordsFile = Annotated[
    Path | None,
    typer.Option(
        "--file", help=t("Un fichier texte, pour un texte plus long.", "A text file instead, for a longer text.")
    ),
]


def _words(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise typer.BadParameter(t("--text ou --file, l'un des deux", "--text or --file, one of them"))
    if file is None:
        return text or ""
    data = bytes_in(file, "--file")
    if len(data) > _MOST_TEXT:
        raise SourceError("too_large", "file", expected=_MOST_TEXT)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise SourceError("source_unreadable", "file") from None


@expertise_app.command(
    name="ask",
    help=t(
        "Pose une question de pratique à une commission, un point focal ou un facilitateur.",
        "Ask a commission, a focal point or a facilitator a question of practice.",
    ),
)
def ask_expertise(
    folder: Folder,
    to: Annotated[str, typer.Option(help=t("À quelle agence : bi/ccsprtp.", "Which agency: bi/ccsprtp."))],
    topic: Annotated[str, typer.Option(help=choices(_TOPICS))],
    text: Words = None,
    file: WordsFile = None,
    in_language: Annotated[
        str, typer.Option("--language", help=t("Langue de la question.", "The question's language."))
    ] = "fr",
    as_json: Json = False,
) -> None:
    one_of(topic, _TOPICS, "--topic")
    asked = {"topic": topic, "question": _words(text, file), "language": in_language}
    said = validated(ExpertiseAsked, asked)
    with opened_agency(folder) as parts:
        thread = Expertise(parts.desk).ask(to, said)
    result(
        {"ok": True, "to": to, "thread": thread},
        as_json=as_json,
        lines=[t(f"Question posée à {to}. {sends()}", f"Question for {to}. {sends()}")],
    )


@expertise_app.command(
    name="answer", help=t("Répond à une question qui nous est posée.", "Answer a question that we were asked.")
)
def answer_expertise(
    thread: Annotated[
        str, typer.Argument(help=t("Échange donné par « expertise list ».", "The thread that `expertise list` shows."))
    ],
    folder: Folder,
    text: Words = None,
    file: WordsFile = None,
    document: Annotated[
        list[str] | None,
        typer.Option(
            help=t("Document qui en dit plus ; plusieurs fois possible.", "Guidance that says more; may be repeated.")
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    said = validated(ExpertiseAnswered, {"answer": _words(text, file), "documents": tuple(document or ())})
    with opened_agency(folder) as parts:
        expertise = Expertise(parts.desk)
        names = {one.thread for one in expertise.questions(parts.inbox().opened) if not one.ours}
        found = [one for one in names if one == thread or (len(thread) >= 6 and one.startswith(thread))]
        if len(found) != 1:
            raise typer.BadParameter(t("aucune question de ce nom", "no such question"), param_hint="THREAD")
        evt = expertise.answer(found[0], said)
    result(
        {"ok": True, "thread": found[0], "evt": evt},
        as_json=as_json,
        lines=[t("Réponse dans la boîte d'envoi. ", "Answer in the outbox. ") + sends()],
    )


@expertise_app.command(
    name="list",
    help=t("Les questions posées et reçues, avec leurs réponses.", "Questions asked and received, with their answers."),
)
def list_expertise(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        found = Expertise(parts.desk).questions(parts.inbox().opened)
    if as_json:
        result({"ok": True, "questions": [_question_json(one) for one in found]}, as_json=True)
        return
    for ours, title in (
        (False, t("Questions qu'on nous pose", "Questions that we are asked")),
        (True, t("Nos questions", "Our questions")),
    ):
        entries(
            title,
            [
                (
                    f"{day(one.at)}  {'→' if ours else '←'} {one.peer}  {t(*_TOPICS[one.topic])}   {one.thread[:8]}",
                    [
                        *([] if one.asked is None else [one.asked.question]),
                        state_label("expertise", one.state, language()),
                        *([] if one.answered is None else [one.answered.answer, *one.answered.documents]),
                    ],
                )
                for one in found
                if one.ours is ours
            ],
        )


def _question_json(one: Question) -> dict[str, Any]:
    return {
        "thread": one.thread,
        "agency": one.peer,
        "ours": one.ours,
        "at": one.at,
        "topic": one.topic,
        "state": one.state,
        "question": None if one.asked is None else one.asked.question,
        "answer": None if one.answered is None else one.answered.answer,
        "documents": [] if one.answered is None else list(one.answered.documents),
    }
