# SPDX-License-Identifier: Apache-2.0
"""`umuhuza gateway`: the door of a domain."""

from __future__ import annotations

import errno
import os
import time
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from adapters.keystore import KEY_LIFETIME_S
from gateway.app import serve
from gateway.settings import FILE_NAME as SETTINGS_FILE
from gateway.settings import load_settings
from schemas.envelope import is_agency
from schemas.keys import SigningKey, b64url, fingerprint_of
from schemas.registry import Agency, Key, dumps_agency
from topics.private_file import write_private
from topics.registry_file import registry_pin
from topics.settings import SettingsError
from topics.sqlite_log import SqliteLog
from topics.sqlite_turn import only_one
from umuhuza.asking import current_passphrase
from umuhuza.gateway_stick_command import KEY_FILE, new_sealing_key
from umuhuza.options import Json
from umuhuza.words import program, result, t

app = typer.Typer(no_args_is_help=True)


def init_gateway(
    folder: Path,
    *,
    agency: str,
    registry: Path,
    registry_root: str,
    host: str,
    port: int,
    kafka: Path | None = None,
    now: float | None = None,
) -> Agency:
    """Make a gateway's folder: its key, its settings, its request to the registry.

    Args:
        kafka: folder with what it needs to reach Kafka; None makes the log one SQLite file.
        now: since when its key counts, seconds since the epoch; None: since now.

    Raises:
        FileExistsError: a key is there already; it is never overwritten.
        SettingsError: registry_root is no fingerprint, or agency no id; nothing was written.
    """
    registry_pin(registry_root)
    if not is_agency(agency):
        raise SettingsError("agency: not an id, such as bi/operator", "agency : attendu un identifiant, bi/operator")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = SigningKey.generate(os.urandom)
    write_private(folder / "gateway.key", b64url(key.private_bytes()) + "\n")
    at = int(time.time() if now is None else now)
    opens = new_sealing_key(folder, at)
    log = 'log = "log.db"' if kafka is None else f'kafka = "{kafka}"'
    (folder / SETTINGS_FILE).write_text(
        f'agency = "{agency}"\nregistry = "{registry}"\nregistry_root = "{registry_root}"\n'
        f'signing_key = "gateway.key"\nsealing_key = "{KEY_FILE}"\n{log}\nindex = "index.db"\n'
        f'host = "{host}"\nport = {port}\n',
        encoding="utf-8",
    )
    public = Key(key.kid, "sig", "ES256", key.public.public, at - 3600, at + KEY_LIFETIME_S)
    operator = Agency(
        agency, {"fr": "Exploitant de la passerelle", "en": "Operator of the gateway"}, ("operator",), (public, opens)
    )
    (folder / "inscription.json").write_text(dumps_agency(operator), encoding="utf-8")
    return operator


@app.command(
    help=t(
        "Prépare une passerelle : clé, réglages, demande d'inscription.",
        "Prepare a gateway: key, settings, enrolment request.",
    )
)
def init(
    folder: Annotated[Path, typer.Option("--dir", help=t("Dossier de la passerelle.", "The gateway's folder."))],
    registry: Annotated[
        Path, typer.Option(help=t("Fichier du registre (registry.json).", "The registry file (registry.json)."))
    ],
    registry_root: Annotated[str, typer.Option(help=t("Empreinte de la racine.", "Fingerprint of the root."))],
    agency: Annotated[str, typer.Option(help=t("Identifiant de l'exploitant.", "The operator's id."))],
    host: Annotated[str, typer.Option(help=t("Adresse d'écoute.", "Address to listen on."))] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help=t("Port ; 0 : un port libre.", "Port; 0: a free one."))
    ] = 8440,
    kafka: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Journal sur Kafka : le dossier que fait umuhuza kafka issue ; sans cela, un fichier SQLite.",
                "Log on Kafka: the folder that umuhuza kafka issue makes; without it, one SQLite file.",
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    try:
        operator = init_gateway(
            folder,
            agency=agency,
            registry=registry.resolve(),
            registry_root=registry_root,
            host=host,
            port=port,
            kafka=None if kafka is None else kafka.resolve(),
        )
    except FileExistsError:
        raise typer.BadParameter(
            t("une clé de passerelle s'y trouve déjà", "a gateway key is there already"), param_hint="--dir"
        ) from None
    request = folder / "inscription.json"
    result(
        {"ok": True, "agency": agency, "request": str(request), "settings": str(folder / SETTINGS_FILE)},
        as_json=as_json,
        lines=[
            t(f"Passerelle préparée dans {folder}.", f"Gateway prepared in {folder}."),
            t("Empreinte : ", "Fingerprint: ") + fingerprint_of(operator.keys[0].public),
            t("Ensuite : ", "Next: ") + f"{program()} registry add {request} --dir …",
            t("Puis : ", "Then: ") + f"{program()} gateway run --dir {folder}",
        ],
    )


@app.command(help=t("Lance la passerelle, jusqu'à Ctrl-C ou SIGTERM.", "Run the gateway, until Ctrl-C or SIGTERM."))
def run(
    folder: Annotated[Path, typer.Option("--dir", help=t("Dossier de la passerelle.", "The gateway's folder."))],
    host: Annotated[str | None, typer.Option(help=t("Adresse d'écoute.", "Address to listen on."))] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help=t("Port ; 0 : un port libre.", "Port; 0: a free one.")),
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help=t("Écrit l'adresse une fois prête.", "Written with the address once ready."))
    ] = None,
) -> None:

    settings = load_settings(folder / SETTINGS_FILE, {"host": host, "port": port, "ready_file": ready_file})
    try:
        with only_one(settings.index):
            serve(settings, passphrase=cache(current_passphrase))
    except OSError as exc:
        if exc.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            raise
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"cannot listen on {where}: taken by another program, or not allowed",
            f"impossible d'écouter sur {where} : pris par un autre programme, ou interdit",
        ) from None


@app.command(
    help=t(
        "Après avoir remis log.db d'après une copie : donne au journal une nouvelle identité.",
        "After log.db was put back from a copy: give the log a new identity.",
    )
)
def restored(
    folder: Annotated[Path, typer.Option("--dir", help=t("Dossier de la passerelle.", "The gateway's folder."))],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=t("Montre sans rien changer.", "Show, change nothing."))
    ] = False,
    as_json: Json = False,
) -> None:
    settings = load_settings(folder / SETTINGS_FILE, {})
    if settings.log is None:
        raise SettingsError(
            "the log is on Kafka: umuhuza kafka restored", "le journal est sur Kafka : umuhuza kafka restored"
        )
    if not settings.log.exists():
        raise SettingsError("log: the file is not there", "log : le fichier n'existe pas")
    made = ""
    if not dry_run:
        made = SqliteLog.renew_identity(
            str(settings.log), clock_ms=lambda: int(time.time() * 1000), random_id=lambda: b64url(os.urandom(12))
        )
    result(
        {"ok": True, "log": str(settings.log), "log_id": made, "dry_run": dry_run},
        as_json=as_json,
        lines=[
            t("Rien n'a été changé (--dry-run).", "Nothing was changed (--dry-run).")
            if dry_run
            else t(
                "Le journal a une nouvelle identité. Relancez la passerelle : les agences relisent depuis le début, "
                "reconnaissent ce qu'elles ont déjà, et renvoient ce que la copie n'avait pas.",
                "The log has a new identity. Start the gateway: agencies read from the beginning, recognise what they "
                "have, and send again what the copy lacked.",
            )
        ],
    )
