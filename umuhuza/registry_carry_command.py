# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry export | import`: the registry on a stick, as a file or as a folder.

Whoever carries it can change nothing: an import is verified against the root the installation was told, and is never
older than what is there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from adapters.settings import FILE_NAME, load_agency
from gateway.settings import FILE_NAME as SETTINGS_FILE
from gateway.settings import load_settings
from schemas.registry_bundle import RootPin
from schemas.registry_trust import TrustedRegistry
from topics.durable_file import replace_file
from topics.registry_file import (
    read_registry,
    read_registry_data,
    registry_pin,
    take_registry_file,
    write_repository,
)
from topics.settings import SettingsError
from umuhuza.options import Json
from umuhuza.registry_holder import REGISTRY_FILE, ROOT_FILE
from umuhuza.words import result, t

Folder = Annotated[
    Path,
    typer.Option(
        "--dir",
        help=t(
            "Dossier du registre, d'une passerelle ou d'une agence.", "Folder of a registry, a gateway or an agency."
        ),
    ),
]


def place_of(folder: Path) -> tuple[Path, RootPin]:
    """Where an installation keeps its registry, and the root it believes.

    Raises:
        SettingsError: this is no installation's folder, or its settings are wrong.
    """
    if (folder / SETTINGS_FILE).exists():
        gateway = load_settings(folder / SETTINGS_FILE)
        return gateway.registry, registry_pin(gateway.registry_root)
    if (folder / FILE_NAME).exists():
        agency = load_agency(folder)
        return agency.registry, registry_pin(agency.registry_root)
    if (folder / ROOT_FILE).exists():
        return folder / REGISTRY_FILE, registry_pin((folder / ROOT_FILE).read_text(encoding="ascii").strip())
    raise SettingsError("no registry in this folder", "pas de registre dans ce dossier")


def export(
    target: Annotated[
        Path,
        typer.Argument(
            help=t(
                "Où écrire : un fichier, ou un dossier avec --folder.", "Where to: a file, or with --folder a folder."
            )
        ),
    ],
    folder: Folder,
    as_folder: Annotated[
        bool,
        typer.Option(
            "--folder",
            help=t(
                "Dossier metadata/ et targets/, comme le lit tout client TUF.",
                "A folder of metadata/ and targets/, as every TUF client reads it.",
            ),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    path, pin = place_of(folder)
    found = read_registry(path, pin)
    if as_folder:
        write_repository(target, found)
    else:
        replace_file(target, found.data)
    _say(found, target, as_json, t("écrit", "written"))


def bring(
    source: Annotated[
        Path, typer.Argument(help=t("Le registre : un fichier ou un dossier.", "The registry: a file or a folder."))
    ],
    folder: Folder,
    as_json: Json = False,
) -> None:
    if not source.exists():
        raise typer.BadParameter(t("ce fichier n'existe pas", "there is no such file"), param_hint="SOURCE")
    path, pin = place_of(folder)
    found, changed = take_registry_file(path, pin, read_registry_data(source), int(time.time()))
    _say(found, path, as_json, t("en place", "in place") if changed else t("déjà en place", "in place already"))


def _say(found: TrustedRegistry, where: Path, as_json: bool, done: str) -> None:
    registry = found.registry
    result(
        {"ok": True, "domain": registry.domain, "version": registry.version, "file": str(where)}
        | {"digest": found.digest.hex(), "stale": registry.is_stale(int(time.time()))},
        as_json=as_json,
        lines=[
            t(
                f"Registre {registry.domain}, version {registry.version}, {done} : {where}",
                f"Registry {registry.domain}, version {registry.version}, {done}: {where}",
            )
        ],
    )


def add_to(app: typer.Typer) -> None:
    """Set these beside the commands of `umuhuza registry`."""
    app.command(
        "export",
        help=t(
            "Écrit le registre pour une clé USB, un courriel ou un serveur web.",
            "Write the registry for a stick, a mail or a web server.",
        ),
    )(export)
    app.command(
        "import",
        help=t(
            "Met en place un registre apporté, s'il est vrai et plus récent.",
            "Put a carried registry in place, if it is true and newer.",
        ),
    )(bring)
