# SPDX-License-Identifier: Apache-2.0
"""The command line. Composes the packages below it; holds no rule of its own.

Exit codes: 0 done; 1 refused, or done with something refused; 2 wrong usage or settings; 3 not now, try again.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import click
import structlog
import typer

from schemas.errors import UmuhuzaError
from topics.settings import SettingsError
from umuhuza.words import language, problem, result, say, t

DONE, REFUSED, USAGE, NOT_NOW = 0, 1, 2, 3


def _language_from(arguments: list[str]) -> None:
    """Help texts are made when the commands are imported: `--lang` has to be known before."""
    for index, argument in enumerate(arguments):
        if argument == "--lang" and index + 1 < len(arguments):
            os.environ["UMUHUZA_LANG"] = arguments[index + 1]
        elif argument.startswith("--lang="):
            os.environ["UMUHUZA_LANG"] = argument.partition("=")[2]


def build() -> typer.Typer:
    """The application, in the language of this process."""
    from umuhuza import agency_command, bench_command, config_command, demo_command, gateway_command, registry_command

    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help=t(
            "Umuhuza : échanges signés et scellés entre les agences qui luttent contre la traite des personnes.",
            "Umuhuza: signed and sealed exchanges between agencies that fight trafficking in persons.",
        ),
    )

    @app.callback()
    def options(
        lang: Annotated[str | None, typer.Option("--lang", help="fr | en")] = None,
        show_version: Annotated[
            bool, typer.Option("--version", help=t("Montre la version.", "Show the version."))
        ] = False,
    ) -> None:
        if lang is not None and lang not in ("fr", "en"):
            raise typer.BadParameter("fr, en", param_hint="--lang")
        if show_version:
            sys.stdout.write(version("umuhuza") + "\n")
            raise typer.Exit

    app.command(
        name="demo",
        help=t("Toute l'histoire sur cette machine.", "The whole story on this machine."),
    )(demo_command.demo)
    app.add_typer(registry_command.app, name="registry")
    app.add_typer(gateway_command.app, name="gateway")
    app.add_typer(agency_command.app, name="agency")
    app.command(name="bench", help=t("Mesure cette machine.", "Measure this machine."))(bench_command.bench)
    app.add_typer(config_command.app, name="config")
    return app


def main() -> None:
    """Entry point."""
    _language_from(sys.argv[1:])
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    as_json = "--json" in sys.argv
    try:
        sys.exit(build()(standalone_mode=False) or DONE)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        exc.show()
        sys.exit(USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except SettingsError as exc:
        if as_json:
            result({"ok": False, "problem": {"code": "settings", "title": str(exc)}}, as_json=True)
        else:
            say(t("Réglages : ", "Settings: ") + str(exc))
        sys.exit(USAGE)
    except UmuhuzaError as exc:
        if as_json:
            result({"ok": False, "problem": problem(exc)}, as_json=True)
        else:
            say(exc.describe(language()))
            say("→ " + exc.advice(language()))
        sys.exit(NOT_NOW if exc.retriable else REFUSED)
