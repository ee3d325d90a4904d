# SPDX-License-Identifier: Apache-2.0
"""The command line. Composes the packages below it; holds no rule of its own.

Exit codes: 0 done; 1 refused, or done with something refused; 2 wrong usage or settings; 3 not now, try again; 4 a
wrong passphrase or PIN: nothing may try again by itself, since a device locks after a few; 130 interrupted by Ctrl-C,
as a shell has it (an audit that was interrupted has found nothing).
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, NoReturn

import structlog
import typer

from schemas.errors import UmuhuzaError
from topics.settings import SettingsError
from umuhuza.usage import french_frame, show_usage, system_words, take_ids_with_a_dash, usage_words
from umuhuza.words import language, problem, result, say, t

REFUSED, USAGE, NOT_NOW, WRONG_SECRET, INTERRUPTED = 1, 2, 3, 4, 130
_SECRETS = ("passphrase_wrong", "key_device_pin_wrong", "key_device_locked")


def _language_from(arguments: list[str]) -> None:
    """Help texts are made when the commands are imported: `--lang` has to be known before."""
    for index, argument in enumerate(arguments):
        if argument == "--lang" and index + 1 < len(arguments):
            os.environ["UMUHUZA_LANG"] = arguments[index + 1]
        elif argument.startswith("--lang="):
            os.environ["UMUHUZA_LANG"] = argument.partition("=")[2]


def _add_demo(app: typer.Typer) -> None:
    from umuhuza.demo_command import demo

    app.command(name="demo", help=t("Toute l'histoire sur cette machine.", "The whole story on this machine."))(demo)


def _add_registry(app: typer.Typer) -> None:
    from umuhuza import approve_command, registry_command

    approve_command.add_to(registry_command.app)
    app.add_typer(registry_command.app, name="registry")


def _add_gateway(app: typer.Typer) -> None:
    from umuhuza import gateway_command, protect_service_command

    protect_service_command.add_gateway(gateway_command.app)
    app.add_typer(gateway_command.app, name="gateway")


def _add_kafka(app: typer.Typer) -> None:
    from umuhuza import kafka_command, kafka_site_command

    kafka_site_command.add_to(kafka_command.app)
    app.add_typer(kafka_command.app, name="kafka")


def _add_log(app: typer.Typer) -> None:
    from umuhuza import log_command

    app.add_typer(log_command.app, name="log")


def _add_ledger(app: typer.Typer) -> None:
    from umuhuza import ledger_command, protect_service_command

    protect_service_command.add_ledger(ledger_command.app)
    app.add_typer(ledger_command.app, name="ledger")


def _add_audit(app: typer.Typer) -> None:
    from umuhuza import audit_command

    app.add_typer(audit_command.app, name="audit")


def _add_agency(app: typer.Typer) -> None:
    from umuhuza import (
        access_answer_command,
        agency_command,
        agency_panels,
        agency_registry_command,
        consent_command,
        enrol_command,
        expertise_command,
        guidance_command,
        protect_command,
    )

    agency_registry_command.add_to(agency_command.app)
    consent_command.add_to(agency_command.app)
    access_answer_command.add_to(agency_command.app)
    guidance_command.add_to(agency_command.app)
    expertise_command.add_to(agency_command.app)
    enrol_command.add_to(agency_command.app)
    protect_command.add_to(agency_command.app)
    agency_panels.arrange(agency_command.app)
    app.add_typer(agency_command.app, name="agency")


def _add_statistics(app: typer.Typer) -> None:
    from umuhuza import statistics_command

    app.add_typer(statistics_command.app, name="statistics")


def _add_witness(app: typer.Typer) -> None:
    from umuhuza import protect_service_command, witness_command

    protect_service_command.add_witness(witness_command.app)
    app.add_typer(witness_command.app, name="witness")


def _add_bridge(app: typer.Typer) -> None:
    from umuhuza import bridge_command

    app.add_typer(bridge_command.app, name="bridge")


def _add_bench(app: typer.Typer) -> None:
    from umuhuza.bench_command import bench

    app.command(name="bench", help=t("Mesure cette machine.", "Measure this machine."))(bench)


def _add_policy(app: typer.Typer) -> None:
    from umuhuza import policy_command

    app.add_typer(policy_command.app, name="policy")


def _add_config(app: typer.Typer) -> None:
    from umuhuza import config_command

    app.add_typer(config_command.app, name="config")


_COMMANDS: dict[str, Callable[[typer.Typer], None]] = {
    "demo": _add_demo,
    "registry": _add_registry,
    "gateway": _add_gateway,
    "kafka": _add_kafka,
    "log": _add_log,
    "ledger": _add_ledger,
    "audit": _add_audit,
    "agency": _add_agency,
    "statistics": _add_statistics,
    "witness": _add_witness,
    "bridge": _add_bridge,
    "bench": _add_bench,
    "policy": _add_policy,
    "config": _add_config,
}


def _tell_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(version("umuhuza") + "\n")
        raise typer.Exit


def _known_language(lang: str | None) -> str | None:
    if lang is not None and lang not in ("fr", "en"):
        raise typer.BadParameter("fr, en")
    return lang


def build(only: str | None = None) -> typer.Typer:
    """The application, in the language of this process.

    Args:
        only: the one command that will run; the others are not imported (an adapter starts in a second on an old
            laptop, where importing everything takes three).
    """
    if language() == "fr":
        french_frame()
    take_ids_with_a_dash()
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
        lang: Annotated[
            str | None,
            typer.Option("--lang", callback=_known_language, help=t("Langue : fr ou en.", "Language: fr or en.")),
        ] = None,
        show_version: Annotated[
            bool,
            typer.Option(
                "--version", is_eager=True, callback=_tell_version, help=t("Montre la version.", "Show the version.")
            ),
        ] = False,
    ) -> None:
        """Both options act before any command runs."""

    for name, add in _COMMANDS.items():
        if only in (None, name):
            add(app)
    return app


def _command_in(arguments: list[str]) -> str | None:
    """The command that will run, or None when it is not certain (help, completion, a word that is none)."""
    if any(name.startswith("_") and name.endswith("_COMPLETE") for name in os.environ):
        return None
    words = iter(arguments)
    for word in words:
        if word == "--lang":
            next(words, None)
        elif not word.startswith("-"):
            return word if word in _COMMANDS else None
    return None


def _tell_system(exc: OSError, as_json: bool) -> NoReturn:
    """A folder that cannot be made, a disk that is full: what the computer says, and where."""
    if exc.errno == errno.EPIPE:
        # Nobody reads our output any more (`| head`): nothing to say, and nothing must be said at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(REFUSED)
    full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
    words = system_words(exc)
    said = f"{words} ({exc.filename})" if exc.filename else words
    if as_json:
        result({"ok": False, "problem": {"code": "storage_full" if full else "system", "title": said}}, as_json=True)
    else:
        say(t("Le système refuse : ", "The system refuses: ") + said)
    sys.exit(NOT_NOW if full else USAGE)


def _never_stumble_over_a_letter() -> None:
    """A terminal that is not UTF-8 (`ar_TN` alone is ISO 8859-6) shows `?` for what it lacks, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main() -> None:
    """Entry point."""
    _language_from(sys.argv[1:])
    _never_stumble_over_a_letter()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    as_json = "--json" in sys.argv
    try:
        sys.exit(build(_command_in(sys.argv[1:]))(prog_name="umuhuza", standalone_mode=False))
    except KeyboardInterrupt:  # while what the command needs is imported; afterwards Typer ends it with the same code
        sys.exit(INTERRUPTED)
    except typer.Abort:
        sys.exit(REFUSED)
    except typer.TyperException as exc:
        if as_json:
            result({"ok": False, "problem": {"code": "usage", "title": usage_words(exc)}}, as_json=True)
        else:
            show_usage(exc)
        sys.exit(USAGE)
    except SettingsError as exc:
        if as_json:
            result({"ok": False, "problem": {"code": "settings", "title": exc.describe(language())}}, as_json=True)
        else:
            say(t("Réglages : ", "Settings: ") + exc.describe(language()))
        sys.exit(USAGE)
    except OSError as exc:
        _tell_system(exc, as_json)
    except UmuhuzaError as exc:
        if as_json:
            result({"ok": False, "problem": problem(exc)}, as_json=True)
        else:
            say(exc.describe(language()))
            say("→ " + exc.advice(language()))
        sys.exit(WRONG_SECRET if exc.code in _SECRETS else NOT_NOW if exc.retriable else REFUSED)
