# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency export | import | carry`: an agency's part of what goes on a stick.

    export    what it has to say, for the gateway or for another agency, sealed to it
    import    what somebody wrote for it: the gateway's answer, or another agency's
    carry     another's file through one's own network: brings it to the gateway, and the answer back

Must never: leave half a file under a bundle's name, or say of a file that is carried whose it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from adapters.bundle_log import NOTHING
from adapters.connectors.places import write_durably
from adapters.own_entry import FILE_NAME as OWN_KEYS
from adapters.own_entry import OwnEntry
from adapters.runner import Runner
from adapters.stick import Stick, Took, Written
from schemas.bundle import MAX_BUNDLE_BYTES
from schemas.errors import LogError, RegistryError
from schemas.keys import b64url
from topics.registry_file import registry_pin, take_registry_file
from topics.settings import SettingsError
from umuhuza.agency import AgencyParts, gateway_log, opened_agency, trust_of
from umuhuza.options import Folder, Json
from umuhuza.words import result, t

CHECKPOINT = "checkpoint"
File = Annotated[Path, typer.Argument(help=t("Le fichier de la clé USB.", "The file on the stick."))]
Target = Annotated[
    Path,
    typer.Argument(
        help=t(
            "Où écrire : un fichier, ou un dossier, qui reçoit un nom au hasard.",
            "Where to: a file, or a folder, in which it gets a random name.",
        )
    ),
]


def read_bundle(file: Path) -> bytes:
    """Raises SettingsError (it cannot be read), LogError `too_large`."""
    try:
        with file.open("rb") as source:
            data = source.read(MAX_BUNDLE_BYTES + 1)
    except OSError:
        raise SettingsError("the file cannot be read", "le fichier ne peut pas être lu") from None
    if len(data) > MAX_BUNDLE_BYTES:
        raise LogError("too_large", "file", expected=MAX_BUNDLE_BYTES)
    return data


def write_bundle(target: Path, data: bytes) -> Path:
    """The whole file or none, durable; a full or missing stick leaves what was there. Raises OSError."""
    path = target / f"umuhuza-{b64url(os.urandom(6))}.lot" if target.is_dir() else target
    write_durably(path, data)
    return path


def stick_of(parts: AgencyParts) -> Stick:
    """Raises SettingsError, KeyStoreError."""
    settings = parts.settings

    def held() -> bytes | None:
        found = parts.trusted()
        return None if found is None else found.data

    def take(data: bytes) -> None:
        try:
            take_registry_file(settings.registry, registry_pin(settings.registry_root), data, int(parts.now()))
        except RegistryError as exc:
            if exc.code != "registry_rollback":
                raise
            return  # an older stick: ours stays
        parts.reread()

    return Stick(
        parts.desk,
        gateway=settings.gateway_agency,
        registry_file=held,
        take_registry=take,
        trust=trust_of(settings),
        checkpoint=settings.mailbox.with_name(CHECKPOINT),
    )


async def written(parts: AgencyParts, to: str | None) -> Written:
    """What the folder has, collected first, sealed for the gateway or for that agency.

    Raises:
        RegistryError: registry_key_foreign: our entry has keys that are not ours, nothing leaves; no key to seal to.
        UmuhuzaError: our own disk or keys.
    """
    OwnEntry(parts.settings.mailbox.with_name(OWN_KEYS), parts.keys, parts.registry, parts.now).require_ours()
    runner = Runner(parts.desk, NOTHING, parts.connectors, collecting=parts.collecting)
    await runner.collect()
    stick = stick_of(parts)
    return stick.for_gateway(runner.sender) if to is None else stick.for_agency(runner.sender, to)


def export(
    target: Target,
    folder: Folder,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help=t(
                "L'agence qui le lira ; sans elle, la passerelle.",
                "The agency that will read it; without, the gateway.",
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        made = asyncio.run(written(parts, to))
        path = write_bundle(target, made.data)
        reader = to or parts.settings.gateway_agency
    more = t("Il en reste : exportez de nouveau après la réponse.", "There is more: export again after the answer.")
    result(
        {"ok": True, "file": str(path), "to": reader, "records": made.records, "more": made.more},
        as_json=as_json,
        lines=[
            t(f"Écrit pour {reader} : {path}", f"Written for {reader}: {path}"),
            t(f"Enregistrements : {made.records}", f"Records: {made.records}"),
            *([more] if made.more else []),
        ],
    )


def bring(file: File, folder: Folder, as_json: Json = False) -> None:
    data = read_bundle(file)
    with opened_agency(folder) as parts:
        took = asyncio.run(stick_of(parts).take(data, parts.connectors))
    told = {"settled": took.settled, "arrived": took.arrived, "delivered": took.delivered, "receipts": took.receipts}
    result(
        {"ok": took.waits is None, **told, "more": took.more, "waits": took.waits},
        as_json=as_json,
        lines=_lines(took),
    )
    if took.waits is not None:
        raise typer.Exit(3)


def _lines(took: Took) -> list[str]:
    lines = [
        t(f"Envois confirmés ou refusés : {took.settled}", f"Items confirmed or refused: {took.settled}"),
        t(
            f"Arrivés : {took.arrived} ; remis : {took.delivered}",
            f"Arrived: {took.arrived}; handed over: {took.delivered}",
        ),
    ]
    if took.receipts:
        lines.append(t(f"Preuves du registre de preuve : {took.receipts}", f"Proofs of the ledger: {took.receipts}"))
    if not (took.settled or took.arrived or took.delivered or took.receipts):
        lines = [t("Rien de nouveau : déjà importé.", "Nothing new: imported before.")]
    if took.more:
        lines.append(t("La passerelle en a encore : exportez de nouveau.", "The gateway has more: export again."))
    if took.waits is not None:
        lines.append(t(f"Une boîte attend ({took.waits}).", f"A mailbox waits ({took.waits})."))
    return lines


def carry(
    file: File,
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help=t("Où écrire la réponse.", "Where to write the answer."))],
    as_json: Json = False,
) -> None:
    data = read_bundle(file)
    with opened_agency(folder) as parts:
        answer = asyncio.run(_exchanged(parts, data))
    path = write_bundle(out, answer)
    result(
        {"ok": True, "file": str(path)},
        as_json=as_json,
        lines=[t(f"Réponse, à rapporter à qui l'a confié : {path}", f"Answer, to go back to whoever gave it: {path}")],
    )


async def _exchanged(parts: AgencyParts, data: bytes) -> bytes:
    log = gateway_log(parts)
    try:
        return await log.exchange(data)
    finally:
        await log.close()


def add_to(app: typer.Typer) -> None:
    """Set these beside the commands of `umuhuza agency`."""
    words: list[tuple[str, Callable[..., None], str]] = [
        (
            "export",
            export,
            t(
                "Sans réseau : écrit ce qui est à envoyer sur une clé USB, scellé pour qui le lira.",
                "Without a network: write what is to be sent to a stick, sealed to whoever will read it.",
            ),
        ),
        (
            "import",
            bring,
            t(
                "Prend ce qu'une clé USB apporte : réponse de la passerelle, ou envois d'une agence.",
                "Take what a stick brings: the gateway's answer, or an agency's items.",
            ),
        ),
        (
            "carry",
            carry,
            t(
                "Porte à la passerelle le fichier scellé d'une autre agence, et écrit la réponse.",
                "Bring another agency's sealed file to the gateway, and write the answer.",
            ),
        ),
    ]
    for name, command, told in words:
        if not any(one.callback is command for one in app.registered_commands):
            app.command(name, help=told)(command)
