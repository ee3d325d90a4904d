# SPDX-License-Identifier: Apache-2.0
"""`umuhuza gateway | ledger | witness protect`: lock a service's private key with a passphrase, or with another one.

These keys are made in clear (0600): a service has to come back by itself after a power cut, and a passphrase in a file
beside the key would protect nothing. Who can give it another way, above all as a systemd credential that is bound to
the machine's TPM, locks them here. The service may run meanwhile: it has its key open.

If we crash here, the key file is the old one or the new one, whole. Must never: replace a key that was not opened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from gateway.settings import FILE_NAME as GATEWAY_FILE
from gateway.settings import PRIVATE as GATEWAY
from gateway.settings import SEALING, gateway_key, load_settings, sealing_key
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
    settings = load_settings(folder / GATEWAY_FILE)
    beside = None if settings.sealing_key is None else (settings.sealing_key, SEALING, _of_sealing)
    _lock(settings.signing_key, GATEWAY, _of_gateway, as_json, beside)


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


_Which = tuple[Path, str, Callable[[str], str]]


def _lock(file: Path, what: str, public_of: Callable[[str], str], as_json: bool, beside: _Which | None = None) -> None:
    """Raises SettingsError (no key there), KeyStoreError.

    Args:
        beside: a second key of the same service, under the same passphrase. If we crash between the two, the second
            opens as before: in clear, or with the passphrase of before, and then the service says so when it starts.
    """
    current = cache(current_passphrase)
    opened: list[tuple[Path, str, str, str, bool]] = []
    for path, kind, public_in in ((file, what, public_of), *(() if beside is None else (beside,))):
        read = read_private(read_own(path, path.name), kind)
        secret = read.open(current)
        public = public_in(secret)
        if not public:
            raise SettingsError(f"{path.name}: not a key", f"{path.name} : ce n'est pas une clé")
        opened.append((path, secret, kind, public, read.locked))
    passphrase = new_passphrase()
    for path, secret, kind, public, _ in opened:
        lock_private(path, secret, kind, public, passphrase)
    result(
        {"ok": True, "file": str(file), "keys": "locked", "changed": opened[0][4]},
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


def _of_sealing(secret: str) -> str:
    try:
        return b64url(sealing_key(secret).public.public)
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
