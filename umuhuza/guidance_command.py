# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency guidance`: procedures and tools, to every member, and who has read them.

They read and fill the mailbox; `umuhuza agency run` sends and receives. Nothing here is about a person.
Must never: print a document to a terminal (it may hold what a terminal obeys); overwrite a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.connectors.places import write_durably
from adapters.knowledge import Document, Knowledge, Published, documents
from schemas.errors import SourceError
from schemas.forms import validated
from schemas.plain.knowledge import (
    GuidancePublished,
    chunks_of,
)
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.options import Folder, Json, one_of, require_file
from umuhuza.words import advice_for, choices, day, entries, result, t

Name = Annotated[
    str,
    typer.Argument(
        help=t("Nom du document donné par « guidance list ».", "The document's name as `guidance list` shows it."),
    ),
]
VersionOption = Annotated[
    int | None, typer.Option("--version", min=1, help=t("Version ; sinon la dernière.", "Version; else the last one."))
]

_MEDIA = {".pdf": "application/pdf", ".md": "text/markdown", ".txt": "text/plain", ".html": "text/html"}

_READERS = {
    "head": ("responsable", "head"),
    "focal-point": ("point focal", "focal point"),
    "caseworker": ("intervenante", "caseworker"),
    "trainer": ("formatrice", "trainer"),
    "other": ("autre fonction", "another function"),
}
_KINDS = {
    "procedure": ("procédure", "procedure"),
    "form": ("formulaire", "form"),
    "training": ("formation", "training"),
    "law": ("texte de loi", "law"),
    "report": ("rapport", "report"),
    "other": ("autre", "other"),
}
app = typer.Typer(
    no_args_is_help=True,
    help=t(
        "Procédures et outils : publier, lire, confirmer la lecture.",
        "Procedures and tools: publish, read, confirm that they were read.",
    ),
)


def add_to(agency: typer.Typer) -> None:
    """Set the group beside the commands of `umuhuza agency`. Harmless when it is there."""
    if not any(one.typer_instance is app for one in agency.registered_groups):
        agency.add_typer(app, name="guidance")


def sends() -> str:
    return t("« umuhuza agency run » l'envoie.", "`umuhuza agency run` sends it.")


@app.command(
    name="publish",
    help=t(
        "Publie un document (PDF, Markdown, texte, HTML) à tous les membres. Réservé à la coordination.",
        "Publish a document (PDF, Markdown, text, HTML) to every member. For the coordinating body.",
    ),
)
def publish_guidance(
    file: Annotated[
        Path, typer.Argument(help=t("Le document : .pdf, .md, .txt, .html.", "The document: .pdf, .md, .txt, .html."))
    ],
    folder: Folder,
    document: Annotated[
        str,
        typer.Option(
            help=t(
                "Nom du document, le même à chaque version : pon-identification.",
                "The document's name, the same for every version: pon-identification.",
            )
        ),
    ],
    title_fr: Annotated[str, typer.Option(help=t("Titre français.", "French title."))],
    title_en: Annotated[str, typer.Option(help=t("Titre anglais.", "English title."))],
    kind: Annotated[str, typer.Option(help=choices(_KINDS))] = "procedure",
    in_language: Annotated[
        str, typer.Option("--language", help=t("Langue du document : fr, en, rn…", "Its language: fr, en, rn…"))
    ] = "fr",
    version: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=t("Numéro de version ; sinon le suivant.", "Number of this version; else the next one."),
        ),
    ] = None,
    no_acknowledgement: Annotated[
        bool,
        typer.Option(
            "--no-acknowledgement",
            help=t("Ne demande à personne de confirmer la lecture.", "Ask nobody to confirm that it was read."),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    one_of(kind, _KINDS, "--kind")
    media = _MEDIA.get(file.suffix.lower())
    if media is None:
        raise typer.BadParameter(t("types connus : ", "known types: ") + ", ".join(_MEDIA), param_hint="FILE")
    data = bytes_in(file, "FILE")
    if not data:
        raise typer.BadParameter(t("ce fichier est vide", "this file is empty"), param_hint="FILE")
    cut = chunks_of(data)
    with opened_agency(folder) as parts:
        knowledge = Knowledge(parts.desk)
        before = [one.version for one in knowledge.published() if one.document == document]
        number = max([*before, 0]) + 1 if version is None else version
        earlier = [one for one in before if one < number]
        members = {
            "document": document,
            "version": number,
            "supersedes": max(earlier) if earlier else None,
            "title_fr": title_fr,
            "title_en": title_en,
            "kind": kind,
            "media_type": media,
            "language": in_language,
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "pieces": len(cut),
            "valid_from": parts.desk.today(),
            "acknowledge": not no_acknowledgement,
        }
        told = knowledge.publish(
            [
                validated(GuidancePublished, {**members, "piece": place, "chunks": chunks})
                for place, chunks in enumerate(cut, 1)
            ]
        )
    result(
        {"ok": True, "document": document, "version": number, "sha256": members["sha256"], "told": told},
        as_json=as_json,
        lines=[
            t(
                f"« {document} », version {number}, publié pour {len(told)} agence(s). {sends()}",
                f"{document}, version {number}, published to {len(told)} agencies. {sends()}",
            ),
            t(
                "« umuhuza agency guidance list » montre qui l'a lu.",
                "`umuhuza agency guidance list` shows who has read it.",
            ),
        ],
    )


def bytes_in(file: Path, hint: str) -> bytes:
    require_file(file, hint)
    try:
        return file.read_bytes()
    except OSError:
        raise SourceError("source_unreadable", "file") from None


@app.command(
    name="list",
    help=t(
        "Documents reçus, lus ou non ; documents publiés par nous, et qui ne les a pas lus.",
        "Documents that arrived, read or not; documents of ours, and who has not read them.",
    ),
)
def list_guidance(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        ours = Knowledge(parts.desk).published()
        theirs = documents(parts.mailbox.arrivals.all(), parts.inbox().opened)
        states = {one.thread: _state(parts, one) for one in theirs}
    if as_json:
        result(
            {
                "ok": True,
                "received": [_received_json(one, states[one.thread], theirs) for one in theirs],
                "published": [_published_json(one) for one in ours],
            },
            as_json=True,
        )
        return
    entries(
        t("Documents reçus", "Documents that arrived"),
        [
            (
                f"{one.said.document}  v{one.said.version}  {t(one.said.title_fr, one.said.title_en)}",
                _received_words(one, states[one.thread], theirs),
            )
            for one in theirs
        ],
    )
    if ours:
        entries(
            t("Publiés par nous", "Published by us"),
            [(f"{one.document}  v{one.version}  {day(one.at)}", _published_words(one)) for one in ours],
        )


def _state(parts: AgencyParts, one: Document) -> str:
    thread = parts.mailbox.thread(one.thread)
    return "published" if thread is None else thread.state


def _replaced(one: Document, all_: Sequence[Document]) -> bool:
    return any(
        each.agency == one.agency and each.said.document == one.said.document and each.said.version > one.said.version
        for each in all_
    )


def _received_words(one: Document, state: str, all_: Sequence[Document]) -> list[str]:
    said = one.said
    lines = [f"{one.agency}, {t(*_KINDS[said.kind])}, {_size(said.size)}, {day(said.valid_from.timestamp())}"]
    if one.code is not None:
        lines.append(f"{one.code}: {advice_for(one.code)}")
    elif one.data is None:
        lines.append(t("En route : il manque des morceaux", "On its way: pieces are missing"))
    elif _replaced(one, all_):
        lines.append(t("Remplacé par une version plus récente", "Replaced by a newer version"))
    elif state == "acknowledged":
        lines.append(t("Lecture confirmée", "Confirmed as read"))
    elif said.acknowledge:
        lines.append(
            t(
                f"À lire et à confirmer : umuhuza agency guidance acknowledge {said.document} --by FONCTION",
                f"To be read and confirmed: umuhuza agency guidance acknowledge {said.document} --by FUNCTION",
            )
        )
    return lines


def _size(size: int) -> str:
    return t(f"{size / 1000:.0f} ko", f"{size / 1000:.0f} kB") if size >= 1000 else t(f"{size} octets", f"{size} bytes")


def _published_words(one: Published) -> list[str]:
    waiting = [peer for peer, read in one.read.items() if not read]
    lines = [t(f"Lu : {len(one.read) - len(waiting)}", f"Read: {len(one.read) - len(waiting)}")]
    if waiting:
        lines.append(t("Pas encore : ", "Not yet: ") + ", ".join(waiting))
    return lines


def _received_json(one: Document, state: str, all_: Sequence[Document]) -> dict[str, Any]:
    said = one.said
    return {
        "document": said.document,
        "version": said.version,
        "from": one.agency,
        "title_fr": said.title_fr,
        "title_en": said.title_en,
        "kind": said.kind,
        "language": said.language,
        "media_type": said.media_type,
        "size": said.size,
        "sha256": said.sha256,
        "whole": one.data is not None,
        "code": one.code,
        "acknowledge": said.acknowledge,
        "acknowledged": state == "acknowledged",
        "replaced": _replaced(one, all_),
    }


def _published_json(one: Published) -> dict[str, Any]:
    return {
        "document": one.document,
        "version": one.version,
        "at": one.at,
        "read": [peer for peer, read in one.read.items() if read],
        "not_read": [peer for peer, read in one.read.items() if not read],
    }


def _found(parts: AgencyParts, document: str, version: int | None) -> Document:
    """That version, or the last one, of a document that arrived."""
    found = [
        one
        for one in documents(parts.mailbox.arrivals.all(), parts.inbox().opened)
        if one.said.document == document and version in (None, one.said.version)
    ]
    if not found:
        raise typer.BadParameter(
            t("aucun document de ce nom et de cette version", "no document of that name and version"),
            param_hint="DOCUMENT",
        )
    return max(found, key=lambda one: one.said.version)


@app.command(
    name="show",
    help=t(
        "Dit ce qu'est un document reçu ; avec --out, l'écrit dans un fichier.",
        "Say what a document that arrived is; with --out, write it to a file.",
    ),
)
def show_guidance(
    document: Name,
    folder: Folder,
    version: VersionOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help=t("Fichier à écrire ; jamais écrasé.", "File to write; never overwritten.")),
    ] = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        found = _found(parts, document, version)
        everything = documents(parts.mailbox.arrivals.all(), parts.inbox().opened)
        state = _state(parts, found)
    if out is not None:
        if found.data is None:
            raise SourceError("row_invalid", "document", expected=t("un document entier", "a whole document"))
        if out.exists():
            raise typer.BadParameter(t("ce fichier existe déjà", "there is such a file already"), param_hint="--out")
        write_durably(out, found.data)
    said = found.said
    result(
        {
            "ok": True,
            **_received_json(found, state, everything),
            "file": None if out is None else str(out),
        },
        as_json=as_json,
        lines=[
            f"{said.title_fr} / {said.title_en}",
            f"{said.document}  v{said.version}",
            *_received_words(found, state, everything),
            f"SHA-256 {said.sha256}",
            t(f"Écrit : {out}", f"Written: {out}")
            if out is not None
            else t("Pour le lire : --out FICHIER", "To read it: --out FILE"),
        ],
    )


@app.command(
    name="acknowledge",
    help=t(
        "Confirme qu'une personne d'ici l'a lu ; dit sa fonction, jamais son nom.",
        "Confirm that a person here has read it; says her function, never her name.",
    ),
)
def acknowledge_guidance(
    document: Name,
    folder: Folder,
    by: Annotated[str, typer.Option(help=choices(_READERS))],
    version: VersionOption = None,
    as_json: Json = False,
) -> None:
    one_of(by, _READERS, "--by")
    with opened_agency(folder) as parts:
        found = _found(parts, document, version)
        Knowledge(parts.desk).acknowledge(found, by)
    result(
        {"ok": True, "document": document, "version": found.said.version, "by": by},
        as_json=as_json,
        lines=[
            t(
                f"Lecture de « {document} », version {found.said.version}, confirmée. {sends()}",
                f"{document}, version {found.said.version}: confirmed as read. {sends()}",
            )
        ],
    )
