# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency notices`: whether the notices by e-mail come as far as those who wait for them."""

from __future__ import annotations

import asyncio

import typer

from topics.settings import SettingsError
from umuhuza.agency import mail_notices, opened_agency
from umuhuza.options import Folder, Json
from umuhuza.words import result, t

commands = typer.Typer(
    no_args_is_help=True,
    help=t("Les avis par courriel, sans contenu.", "The notices by e-mail, without content."),
)


@commands.callback()
def _group() -> None:
    """Keeps `test` a subcommand while it is the only one."""


def add_to(app: typer.Typer) -> None:
    """Hang the group under `umuhuza agency`."""
    app.add_typer(commands, name="notices")


@commands.command(
    "test",
    help=t(
        "Envoie maintenant un avis d'essai à chaque destinataire des réglages.",
        "Send a test notice to each recipient of the settings, now.",
    ),
)
def try_out(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        notices = mail_notices(parts)
        if notices is None:
            raise SettingsError(
                "mail_host is not set: notices by e-mail are not asked for",
                "mail_host manque : les avis par courriel ne sont pas demandés",
            )
        count = asyncio.run(notices.test())
    result(
        {"ok": True, "sent": count},
        as_json=as_json,
        lines=[
            t(
                f"Le serveur de courriel a pris {count} avis d'essai. Vérifiez qu'il est arrivé, et ce qu'un écran "
                "verrouillé en montre.",
                f"The mail server took {count} test notice(s). Check that it has arrived, and what a locked screen "
                "shows of it.",
            )
        ],
    )
