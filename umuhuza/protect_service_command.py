# SPDX-License-Identifier: Apache-2.0
"""`umuhuza gateway | ledger | witness protect`: lock a service's private key with a passphrase, or with another one.

These keys are made in clear (0600): a service has to come back by itself after a power cut, and a passphrase in a file
beside the key would protect nothing. Who can give it another way, above all as a systemd credential that is bound to
the machine's TPM, locks them here. The service may run meanwhile: it has its key open.

If we crash here, the key file is the old one or the new one, whole. Must never: replace a key that was not opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from gateway.settings import FILE_NAME as GATEWAY_FILE
from gateway.settings import PRIVATE as GATEWAY
from gateway.settings import gateway_key, load_settings
from schemas.keys import b64url
from topics.private_file import lock_private, read_own, read_private
from topics.settings import SettingsError
from topics.witness_folder import KEY_FILE, WITNESS, note_signers
from umuhuza.asking import current_passphrase, new_passphrase
from umuhuza.ledger_settings import FILE_NAME as LEDGER_FILE
from umuhuza.ledger_settings import PRIVATE as LEDGER
from umuhuza.ledger_settings import load_ledger_settings
from umuhuza.options import Json
from umuhuza.registry_words import passphrase_line
from umuhuza.words import result, t


def protect_gateway(
    folder: Annotated[Path, typer.Option("--dir", help=t("Dossier de la passerelle.", "The gateway's folder."))],
    as_json: Json = False,
) -> None:
    _lock(load_settings(folder / GATEWAY_FILE).signing_key, GATEWAY, _of_gateway, as_json)


def protect_ledger(
    folder: Annotated[Path, typer.Option("--dir", help=t("Dossier du registre de preuve.", "The ledger's folder."))],
    as_json: Json = False,
) -> None:
    _lock(load_ledger_settings(folder / LEDGER_FILE).keys, LEDGER, _of_notes, as_json)


def protect_witness(
    folder: Annotated[Path, typer.Option("--dir", help=t("Dossier du témoin.", "The witness's folder."))],
    as_json: Json = False,
) -> None:
    _lock(folder / KEY_FILE, WITNESS, _of_notes, as_json)


def _lock(file: Path, what: str, public_of: Callable[[str], str], as_json: bool) -> None:
    """Raises SettingsError (no key there), KeyStoreError."""
    found = read_private(read_own(file, file.name), what)
    secret = found.open(current_passphrase)
    public = public_of(secret)
    if not public:
        raise SettingsError(f"{file.name}: not a key", f"{file.name} : ce n'est pas une clé")
    lock_private(file, secret, what, public, new_passphrase())
    result(
        {"ok": True, "file": str(file), "keys": "locked", "changed": found.locked},
        as_json=as_json,
        lines=[
            t(f"Verrouillé : {file}", f"Locked: {file}"),
            passphrase_line(),
            t(
                "Donnez-la au service par un secret de systemd (LoadCredentialEncrypted=umuhuza-passphrase:…), sinon "
                "il ne redémarre plus seul après une coupure de courant. Les copies d'avant s'ouvrent comme avant.",
                "Give it to the service as a systemd credential (LoadCredentialEncrypted=umuhuza-passphrase:…), else "
                "it does not start by itself after a power cut. Copies made before open as before.",
            ),
        ],
    )


def _of_gateway(secret: str) -> str:
    try:
        return b64url(gateway_key(secret).public.public)
    except ValueError:
        return ""


def _of_notes(secret: str) -> str:
    return "".join(f"{one.public.vkey}\n" for one in note_signers(secret))


def add_gateway(app: typer.Typer) -> None:
    """Set it beside the commands of `umuhuza gateway`, in the language of this process."""
    app.command(name="protect", help=_help())(protect_gateway)


def add_ledger(app: typer.Typer) -> None:
    """The same for `umuhuza ledger`."""
    app.command(name="protect", help=_help())(protect_ledger)


def add_witness(app: typer.Typer) -> None:
    """The same for `umuhuza witness`."""
    app.command(name="protect", help=_help())(protect_witness)


def _help() -> str:
    return t(
        "Verrouille la clé privée par une phrase de passe, ou en change ; le service doit alors la recevoir.",
        "Lock the service's private key with a passphrase, or change it; the service has to be given it then.",
    )
