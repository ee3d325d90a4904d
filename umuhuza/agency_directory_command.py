# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency services`, `publish-service`, `beds`: the directory, from an agency's folder.

They read and fill the mailbox; `umuhuza agency run` sends and receives. Must never: ask for a name.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from adapters.directory import Directory, service_of
from adapters.directory_book import Asked, Listing
from schemas import htcds, ijson
from schemas.errors import SourceError
from schemas.forms import validated
from schemas.lifecycle import state_label
from schemas.plain.directory import MAX_PLACES, AvailabilityAsked, ServicePublished, ServiceType
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.options import Folder, Json
from umuhuza.words import advice_for, entries, language, local, result, say, t

_BANDS = {
    "none": ("complet", "full"),
    "few": ("1 ou 2 places", "1 or 2 places"),
    "some": ("3 à 9 places", "3 to 9 places"),
    "many": ("10 places et plus", "10 places and more"),
}
_REASONS = {
    "full": ("complet", "full"),
    "not-for-this-person": ("n'accueille pas cette personne", "does not take this person"),
    "not-our-service": ("n'offre pas ce service", "does not offer this service"),
    "closed": ("fermé", "closed"),
    "other": ("autre raison", "another reason"),
}


def add_to(app: typer.Typer) -> None:
    """Add the three commands to `umuhuza agency`."""
    app.command("services", help=t("Les services publiés par les autres.", "The services that others have published."))(
        services
    )
    app.command(
        "publish-service",
        help=t(
            "Publie un service de l'agence (JSON) ; le nombre de places reste ici.",
            "Publish a service of the agency (JSON); the number of places stays here.",
        ),
    )(publish_service)
    app.command(
        "beds",
        help=t(
            "Demande une place sans nom, montre qui dit oui, retient ou libère. Danger immédiat : téléphonez.",
            "Ask for a place without a name, show who says yes, take or release. Immediate danger: telephone.",
        ),
    )(beds)


def services(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        now = parts.now()
        found = Directory(parts.desk).book.listings(now)
        if as_json:
            items = [
                {"agency": one.agency, "published_at": one.published_at, **one.said.model_dump(mode="json")}
                for one in found
            ]
            result({"ok": True, "services": items}, as_json=True)
            return
        entries(
            t("Services publiés", "Services published"),
            [(f"{one.said.name} ({_who(parts, one.agency)})  {one.said.telephone}", _lines(one, now)) for one in found],
        )


def _lines(one: Listing, now: float) -> list[str]:
    said = one.said
    labels = {code.code: code.labels for code in htcds.CODELISTS["spl_Type"].values()}
    kinds = [str(labels[each].get(language()) or each) for each in said.types]
    whom = [
        *(t("adultes", "adults") if each == "adult" else t("enfants", "children") for each in said.ages),
        *(t("femmes", "female") if each == "female" else t("hommes", "male") for each in said.sexes),
    ]
    lines = [
        ", ".join([*([] if said.local is None else [said.local]), *kinds]),
        ", ".join([*whom, *said.languages]),
    ]
    if said.capacity is not None:
        believed = said.capacity.until.timestamp() > now
        lines.append(
            t(*_BANDS[said.capacity.band])
            if believed
            else t("places : pas de nouvelle récente, téléphonez", "places: no recent news, telephone")
        )
    return lines


def publish_service(
    folder: Folder,
    file: Annotated[
        Path,
        typer.Option(
            help=t(
                "Le service : {entry,name,types,ages,sexes,telephone,valid_until[,places,...]}.",
                "The service: {entry,name,types,ages,sexes,telephone,valid_until[,places,...]}.",
            )
        ),
    ],
    as_json: Json = False,
) -> None:
    try:
        raw = ijson.loads(file.read_bytes(), max_bytes=1 << 20, max_depth=8)
    except OSError:
        raise SourceError("source_unreadable", "file") from None
    except ijson.IJsonError as exc:
        raise SourceError("source_unreadable", exc.path or "file") from None
    if not isinstance(raw, dict):
        raise SourceError("row_invalid", "*")
    members, places = service_of(raw)
    said = validated(ServicePublished, members)
    with opened_agency(folder) as parts:
        told = Directory(parts.desk).publish(said, places)
    result(
        {"ok": True, "entry": said.entry, "told": told},
        as_json=as_json,
        lines=[
            t(
                f"« {said.entry} » publié pour {len(told)} agence(s). « umuhuza agency run » l'envoie.",
                f"{said.entry} published to {len(told)} agencies. `umuhuza agency run` sends it.",
            ),
            *(
                [
                    t(
                        "Les places ne sont pas comptées : une personne répond aux demandes.",
                        "Places are not counted: a person answers what is asked.",
                    )
                ]
                if places is None
                else []
            ),
        ],
    )


def beds(
    folder: Folder,
    service: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Type HTCDS demandé (SocialCare, ...) ; sans lui, montre où en sont les demandes.",
                "HTCDS type asked for (SocialCare, ...); without it, shows where questions stand.",
            )
        ),
    ] = None,
    local: Annotated[
        str | None, typer.Option(help=t("Code du service : hebergement.", "The service's own code: hebergement."))
    ] = None,
    age: Annotated[
        str, typer.Option(help=t("adult ou child (inconnu : child).", "adult or child (unknown: child)."))
    ] = "adult",
    sex: Annotated[str, typer.Option(help=t("female, male ou any.", "female, male or any."))] = "any",
    count: Annotated[int, typer.Option(min=1, max=MAX_PLACES, help=t("Combien de places.", "How many places."))] = 1,
    needed_from: Annotated[
        datetime | None,
        typer.Option("--from", help=t("À partir de quand, UTC ; sinon maintenant.", "From when, UTC; else now.")),
    ] = None,
    speaks: Annotated[
        list[str] | None, typer.Option(help=t("Langue parlée : rn ; plusieurs fois.", "Language spoken: rn; repeat."))
    ] = None,
    hold: Annotated[
        str | None,
        typer.Option(help=t("Retient cette place, libère les autres.", "Take this place, release the others.")),
    ] = None,
    release: Annotated[
        str | None, typer.Option(help=t("Libère : une demande ou une place.", "Release: a question or a place."))
    ] = None,
    as_json: Json = False,
) -> None:
    chosen = [one for one in (service, hold, release) if one is not None]
    if len(chosen) > 1:
        raise typer.BadParameter(t("une seule chose à la fois", "one thing at a time"), param_hint="--service")
    with opened_agency(folder) as parts:
        directory = Directory(parts.desk)
        if service is not None:
            at = parts.desk.today() if needed_from is None else needed_from.replace(tzinfo=UTC)
            asked = validated(
                AvailabilityAsked,
                {
                    "service": cast(ServiceType, service),
                    "local": local,
                    "age": age,
                    "sex": sex,
                    "count": count,
                    "needed_from": at,
                    "languages": tuple(speaks or ()),
                },
            )
            _asked(parts, directory, asked, as_json=as_json)
        elif hold is not None:
            released = directory.take(_thread(directory, hold))
            result(
                {"ok": True, "held": hold, "released": released},
                as_json=as_json,
                lines=[t(f"Retenue. Libéré ailleurs : {len(released)}.", f"Taken. Released: {len(released)}.")],
            )
        elif release is not None:
            told = directory.release(release if release in _names(directory) else _thread(directory, release))
            lines = [t(f"Libéré : {len(told)}.", f"Released: {len(told)}.")]
            result({"ok": True, "released": told}, as_json=as_json, lines=lines)
        else:
            _show(parts, directory, directory.book.asks(), as_json=as_json)


def _asked(parts: AgencyParts, directory: Directory, asked: AvailabilityAsked, *, as_json: bool) -> None:
    name, outcomes = directory.ask(asked)
    refused = [one for one in outcomes if one.problem is not None]
    if not outcomes:
        say(
            t(
                "Personne n'a publié ce service pour cette personne : téléphonez.",
                "Nobody has published this service for such a person: telephone.",
            )
        )
    for one in refused:
        code = "" if one.problem is None else one.problem.code
        say(f"✗ {one.line}  {code} {advice_for(code)}")
    _show(parts, directory, [one for one in directory.book.asks() if one.ask == name], as_json=as_json)
    if refused or not outcomes:
        raise typer.Exit(1)


def _show(parts: AgencyParts, directory: Directory, asks: list[Asked], *, as_json: bool) -> None:
    now = parts.now()
    if as_json:
        items: list[dict[str, Any]] = [
            {
                "ask": one.ask,
                "thread": one.thread,
                "agency": one.peer,
                "state": directory.told(one),
                "hold_until": one.hold_until,
                "reason": one.reason,
                "telephone": one.telephone,
            }
            for one in asks
        ]
        result({"ok": True, "asked": items}, as_json=True)
        return
    entries(
        t("Places demandées", "Places asked for"),
        [(f"{one.ask}  {_who(parts, one.peer)}   {one.thread[:8]}", _words(directory, one, now)) for one in asks],
    )


def _words(directory: Directory, one: Asked, now: float) -> list[str]:
    state = directory.told(one)
    if state == "unsent":
        return [t("Refusée avant l'envoi", "Refused before it was sent")]
    words = state_label("availability", state, language())
    if state == "offered" and one.hold_until is not None:
        until = local(one.hold_until).strftime("%H:%M")
        words += (
            t(f", jusqu'à {until}", f", until {until}")
            if one.hold_until > now
            else t(f", n'est pas gardée (depuis {until}) : téléphonez", f", not kept (since {until}): telephone")
        )
    if one.reason is not None:
        words += f" ({t(*_REASONS[one.reason])})"
    return [words, *([] if one.telephone is None else [one.telephone])]


def _who(parts: AgencyParts, agency: str) -> str:
    found = parts.registry().agencies.get(agency)
    return agency if found is None else found.name(language())


def _names(directory: Directory) -> set[str]:
    return {one.ask for one in directory.book.asks()}


def _thread(directory: Directory, text: str) -> str:
    """The thread with that id, or whose id begins so."""
    found = [one.thread for one in directory.book.asks() if one.thread.startswith(text)] if len(text) >= 6 else []
    if len(found) != 1:
        raise typer.BadParameter(t("aucune demande de ce nom", "no such question"), param_hint="--hold, --release")
    return found[0]
