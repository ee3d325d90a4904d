# SPDX-License-Identifier: Apache-2.0
"""`umuhuza gateway import | sealing-key`: the gateway's part of what comes on a stick.

    import        brings an agency's sealed file to the running gateway, and writes the sealed answer
    sealing-key   makes the key to which agencies seal, for a gateway made before there was one

Must never: overwrite a key; say what was in a file.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from pathlib import Path
from typing import Annotated

import typer

from adapters.keystore import KEY_LIFETIME_S
from gateway.settings import FILE_NAME as SETTINGS_FILE
from gateway.settings import Settings, load_settings, read_registry_root, read_sealing_key, read_signing_key
from schemas.keys import HYBRID, SealingKey, b64url
from schemas.registry import Agency, Key, dumps_agency
from topics.http_log import HttpLog
from topics.private_file import write_private
from topics.registry_file import read_registry
from topics.settings import SettingsError
from umuhuza.asking import current_passphrase
from umuhuza.options import Json
from umuhuza.stick_command import File, read_bundle, write_bundle
from umuhuza.words import result, t

KEY_FILE = "gateway.seal"
Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier de la passerelle.", "The gateway's folder."))]


def new_sealing_key(folder: Path, now: int) -> Key:
    """Make the key's file; what the registry is to have of it. Raises FileExistsError."""
    made = SealingKey.generate(os.urandom, HYBRID)
    write_private(folder / KEY_FILE, b64url(made.private_bytes()) + "\n")
    return Key(made.kid, "bundle", HYBRID, made.public.public, now - 3600, now + KEY_LIFETIME_S)


def sealing_key(folder: Folder, as_json: Json = False) -> None:
    settings = load_settings(folder / SETTINGS_FILE, {})
    if settings.sealing_key is not None or (folder / KEY_FILE).exists():
        raise typer.BadParameter(t("cette clé existe déjà", "there is one already"), param_hint="--dir")
    entry = read_registry(settings.registry, read_registry_root(settings)).registry.agency(settings.agency)
    made = new_sealing_key(folder, int(time.time()))
    with (folder / SETTINGS_FILE).open("a", encoding="utf-8") as out:
        out.write(f'sealing_key = "{KEY_FILE}"\n')
    request = folder / "inscription.json"
    asked = Agency(entry.id, entry.names, entry.roles, (*entry.keys, made), entry.protected)
    request.write_text(dumps_agency(asked), encoding="utf-8")
    result(
        {"ok": True, "request": str(request), "kid": made.kid},
        as_json=as_json,
        lines=[
            t(f"Clé écrite : {folder / KEY_FILE}", f"Key written: {folder / KEY_FILE}"),
            t(f"Ensuite : umuhuza registry add {request} --dir …", f"Next: umuhuza registry add {request} --dir …"),
            t("Puis relancez la passerelle.", "Then start the gateway again."),
        ],
    )


def bring(
    file: File,
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help=t("Où écrire la réponse.", "Where to write the answer."))],
    url: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Adresse de la passerelle ; sans elle, celle de ses réglages.",
                "The gateway's address; without it, that of its settings.",
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    data = read_bundle(file)
    settings = load_settings(folder / SETTINGS_FILE, {})
    if read_sealing_key(settings, current_passphrase) is None:
        raise SettingsError("sealing_key: umuhuza gateway sealing-key", "sealing_key : umuhuza gateway sealing-key")
    path = write_bundle(out, asyncio.run(_exchanged(settings, url, data)))
    result(
        {"ok": True, "file": str(path)},
        as_json=as_json,
        lines=[t(f"Réponse, à rapporter à l'agence : {path}", f"Answer, to go back to the agency: {path}")],
    )


async def _exchanged(settings: Settings, url: str | None, data: bytes) -> bytes:
    scheme, context = "http", None
    if settings.tls_certificate is not None:
        scheme, context = "https", ssl.create_default_context(cafile=str(settings.tls_certificate))
    log = HttpLog(
        url or f"{scheme}://{settings.host}:{settings.port}",
        settings.agency,
        read_signing_key(settings.signing_key, current_passphrase),
        domain=settings.agency.partition("/")[0],
        now=time.time,
        random=os.urandom,
        tls=context,
    )
    try:
        return await log.exchange(data)
    finally:
        await log.close()


def add_to(app: typer.Typer) -> None:
    """Set these beside the commands of `umuhuza gateway`, in the language of this process."""
    app.command(
        "import",
        help=t(
            "Prend le fichier scellé d'une agence sans réseau, et écrit la réponse scellée à lui rapporter.",
            "Take the sealed file of an agency without a network, and write the sealed answer to go back to it.",
        ),
    )(bring)
    app.command(
        "sealing-key",
        help=t(
            "Fait la clé pour laquelle les agences scellent leurs fichiers, si la passerelle n'en a pas encore.",
            "Make the key to which agencies seal their files, where the gateway has none yet.",
        ),
    )(sealing_key)
