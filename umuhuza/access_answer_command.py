# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency access show | answer`: what another agency asks for a person, and what is answered.

Her name is shown by `show` alone, to whoever has to find her. Must never: answer with more than `show` has shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from adapters.access import Access, Holdings, Waiting, answer_of
from adapters.access_sheet import copy_for_her, words_in
from schemas.errors import PayloadError
from schemas.forms import validated
from schemas.plain.rights import AccessAnswered
from umuhuza import access_command
from umuhuza.access_command import OUTCOMES, app, due, wanted
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.options import Folder, Json, one_of
from umuhuza.words import choices, result, t

ThreadName = Annotated[
    str,
    typer.Argument(
        help=t("Demande donnée par « access list ».", "The request as `access list` shows it."),
    ),
]

Person = Annotated[
    str | None,
    typer.Option(
        help=t(
            "Sa référence ici, si la demande n'y mène pas.",
            "Her reference here, where the request does not lead to her.",
        )
    ),
]

_VERIFIED = {
    "ticket": ("par sa carte", "by her card"),
    "document": ("par un document", "by a document"),
    "known-to-agency": ("connue de l'agence", "known to the agency"),
}
_REFUSALS = {name: OUTCOMES[name] for name in ("nothing-held", "not-verified", "restricted")}


def _whole(names: Iterable[str], text: str) -> str:
    """The request with that id, or whose id begins so."""
    found = [one for one in names if one == text or (len(text) >= 6 and one.startswith(text))]
    if len(found) != 1:
        raise typer.BadParameter(t("aucune demande de ce nom", "no such request"), param_hint="THREAD")
    return found[0]


def _asked_of_us(parts: AgencyParts, thread: str) -> Waiting:
    waiting = {one.thread: one for one in Access(parts.desk).waiting(parts.inbox().opened)}
    return waiting[_whole(waiting, thread)]


def _here(parts: AgencyParts, one: Waiting, person: str | None) -> Holdings:
    """What is held under that reference, else under what the request's own record leads to."""
    if person is not None:
        return Access(parts.desk).holdings(person)
    return Access(parts.desk).holdings(one.person, one.about)


@app.command(
    name="show",
    help=t(
        "Dit de qui il s'agit, ce qui est gardé ici, et ce qui lui serait dit. N'envoie rien.",
        "Say whom it is about, what is held here, and what she would be told. Sends nothing.",
    ),
)
def show(
    thread: ThreadName,
    folder: Folder,
    person: Person = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        one = _asked_of_us(parts, thread)
        found = _here(parts, one, person)
        text = _text(parts, one, found, whole="copy" in one.said.wants)
        until = due(one.due_at, parts.now())
    said = one.said
    result(
        {
            "ok": True,
            "thread": one.thread,
            "from": one.peer,
            "name": said.person.as_given,
            "verified_by": said.verified_by,
            "checked_by": said.checked_by,
            "wants": list(said.wants),
            "language": said.language,
            "note": said.note,
            "due_at": one.due_at,
            "person": person or one.person,
            "records": [{"record": each.ident, "type": each.type, "with": each.peer} for each in found.records],
            "onward": len(found.onward),
            "left_out": found.left_out,
            "words": text,
        },
        as_json=as_json,
        lines=[
            f"{said.person.as_given}  ← {one.peer}",
            t("Identité vérifiée ", "Identity checked ")
            + t(*_VERIFIED[said.verified_by])
            + (f", {said.checked_by}" if said.checked_by else ""),
            wanted(one),
            *([] if said.note is None else [said.note]),
            until,
            *_held_lines(one, found, person),
            *([] if text is None else [t("À lui lire :", "To be read to her:"), text]),
        ],
    )


def _held_lines(one: Waiting, found: Holdings, person: str | None) -> list[str]:
    lines = []
    if person is None and one.about is None:
        lines.append(
            t(
                "Rien ne relie cette demande à un de vos échanges : assurez-vous par téléphone qu'elle est vraie, puis "
                "donnez sa référence ici (--person).",
                "Nothing links this request to an exchange of yours: make sure by telephone that it is genuine, then "
                "give her reference here (--person).",
            )
        )
    lines.append(
        t(
            f"Gardé ici : {len(found.records)} enregistrement(s), passés à {len(found.onward)} agence(s).",
            f"Held here: {len(found.records)} record(s), passed on to {len(found.onward)} agencies.",
        )
    )
    if found.left_out:
        lines.append(
            t(
                f"{found.left_out} enregistrement(s) d'enquête ne sont pas comptés : si un texte interdit d'en parler, "
                "« --outcome restricted --law TEXTE ».",
                f"{found.left_out} record(s) of investigations are not counted: if a text forbids to speak of them, "
                "`--outcome restricted --law TEXT`.",
            )
        )
    if "erasure" in one.said.wants and found.records:
        lines.append(
            t(
                "Elle demande un effacement : « umuhuza agency erase ENREGISTREMENT --ground person ».",
                "She asks for an erasure: `umuhuza agency erase RECORD --ground person`.",
            )
        )
    return lines


def _text(parts: AgencyParts, one: Waiting, found: Holdings, *, whole: bool) -> str | None:
    return copy_for_her(found, one.peer, parts.inbox().opened, words_in(one.said.language), whole=whole)


# -- answer -----------------------------------------------------------------------------------------------------------


@app.command(
    name="answer",
    help=t(
        "Répond : ce qui est gardé ici, ou un refus avec sa raison. « access show » montre d'abord ce qui partira.",
        "Answer: what is held here, or a refusal with its reason. `access show` first shows what will leave.",
    ),
)
def answer(
    thread: ThreadName,
    folder: Folder,
    person: Person = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            help=t("Au lieu de dire ce qui est gardé : ", "Instead of what is held: ") + choices(_REFUSALS),
        ),
    ] = None,
    law: Annotated[
        str | None,
        typer.Option(
            help=t("Avec restricted : le texte, daté, qui l'interdit.", "With restricted: the dated text that forbids.")
        ),
    ] = None,
    no_copy: Annotated[
        bool,
        typer.Option("--no-copy", help=t("Sans copie, même demandée.", "Without a copy, even if she asked for one.")),
    ] = False,
    as_json: Json = False,
) -> None:
    if outcome is not None:
        one_of(outcome, _REFUSALS, "--outcome")
    if (outcome == "restricted") != (law is not None):
        raise typer.BadParameter(
            t("--outcome restricted et --law vont ensemble", "--outcome restricted and --law go together"),
            param_hint="--law",
        )
    with opened_agency(folder) as parts:
        one = _asked_of_us(parts, thread)
        found = _here(parts, one, person)
        if outcome is None:
            if not found.records:
                raise typer.BadParameter(
                    t(
                        "rien sous cette référence ; sinon --outcome nothing-held ou not-verified",
                        "nothing under this reference; else --outcome nothing-held or not-verified",
                    ),
                    param_hint="--person",
                )
            whole = "copy" in one.said.wants and not no_copy
            said = answer_of(found, one.peer, _text(parts, one, found, whole=whole))
        else:
            if outcome == "nothing-held" and found.records:
                raise PayloadError("payload_invalid", "said.outcome")
            said = validated(AccessAnswered, {"outcome": outcome, "legal_reference": law})
        linked = (person or one.person) if said.outcome in ("answered", "restricted") else None
        evt = Access(parts.desk).answer(one.thread, said, linked)
    result(
        {
            "ok": True,
            "thread": one.thread,
            "evt": evt,
            "outcome": said.outcome,
            "records": [each.record for each in said.held],
            "onward": said.onward,
        },
        as_json=as_json,
        lines=[
            t("Réponse dans la boîte d'envoi : ", "Answer in the outbox: ") + t(*OUTCOMES[said.outcome]) + ".",
            t("« umuhuza agency run » l'envoie.", "`umuhuza agency run` sends it."),
        ],
    )


def add_to(agency: typer.Typer) -> None:
    """Set the whole group, those of `umuhuza.access_command` with it, beside the commands of `umuhuza agency`."""
    access_command.add_to(agency)
