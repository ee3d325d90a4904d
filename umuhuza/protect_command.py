# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency protect`: lock an agency's key file with a passphrase, or with another one.

The adapter may run meanwhile: it has its keys open. If we crash here, the file is the old one or the new one, whole.
Must never: leave the agency with a file that was not opened once with the new passphrase.
"""

from __future__ import annotations

import typer

from adapters.keystore import lock_keys, read_key_file
from adapters.settings import load_agency
from schemas.errors import KeyStoreError
from topics.settings import SettingsError
from umuhuza.asking import current_passphrase, new_passphrase
from umuhuza.options import Folder, Json
from umuhuza.words import result, t


def protect(folder: Folder, as_json: Json = False) -> None:
    settings = load_agency(folder)
    try:
        file = read_key_file(settings.keys)
    except OSError:
        raise SettingsError("keys: the file cannot be read", "keys : le fichier ne peut pas être lu") from None
    if file.kind == "device":
        raise KeyStoreError("key_device_failed", "keys.device")
    keys = file.open(current_passphrase)
    lock_keys(settings.keys, keys, new_passphrase())
    changed = file.kind == "locked"
    result(
        {"ok": True, "agency": file.agency, "keys": "locked", "changed": changed},
        as_json=as_json,
        lines=[
            t("La phrase de passe est changée.", "The passphrase is changed.")
            if changed
            else t("Les clés sont verrouillées.", "The keys are locked."),
            t(
                "Sans elle personne n'ouvre plus rien : gardez-la sur papier, loin de l'ordinateur et de ses copies.",
                "Without it nobody opens anything: keep it on paper, away from the computer and its backups.",
            ),
            t(
                "Les copies d'avant s'ouvrent comme avant : détruisez-les, et faites-en une nouvelle de keys.json.",
                "Copies made before open as before: destroy them, and make a new one of keys.json.",
            ),
        ],
    )


def add_to(app: typer.Typer) -> None:
    """The command, in the language of this process."""
    app.command(
        name="protect",
        help=t(
            "Verrouille les clés par une phrase de passe, ou en change.",
            "Lock the keys with a passphrase, or change it.",
        ),
    )(protect)
