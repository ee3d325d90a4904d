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

REFUSED, USAGE, NOT_NOW, WRONG_SECRET, INTERRUPTED, UNREAD = 1, 2, 3, 4, 130, 141
_LANGUAGES = ("fr", "en")
_SECRETS = ("passphrase_wrong", "key_device_pin_wrong", "key_device_locked")


def _language_from(arguments: list[str]) -> None:
    """Help texts are made when the commands are imported: `--lang` has to be known before. A language that is none is
    refused later, in the one that holds without it."""
    for index, argument in enumerate(arguments):
        asked = argument.partition("=")[2]
        if argument == "--lang" and index + 1 < len(arguments):
            asked = arguments[index + 1]
        if argument.partition("=")[0] == "--lang" and asked in _LANGUAGES:
            os.environ["UMUHUZA_LANG"] = asked


def _help(name: str) -> str:
    _, fr, en = _COMMANDS[name]
    return t(fr, en)


def _group(app: typer.Typer, name: str, commands: typer.Typer) -> None:
    app.add_typer(commands, name=name, help=_help(name))


def _add_demo(app: typer.Typer) -> None:
    from umuhuza.demo_command import demo

    app.command(name="demo", help=_help("demo"))(demo)


def _add_sandbox(app: typer.Typer) -> None:
    from umuhuza.sandbox_command import sandbox

    app.command(name="sandbox", help=_help("sandbox"))(sandbox)


def _add_registry(app: typer.Typer) -> None:
    from umuhuza import approve_command, registry_command

    approve_command.add_to(registry_command.app)
    _group(app, "registry", registry_command.app)


def _add_gateway(app: typer.Typer) -> None:
    from umuhuza import gateway_command, gateway_stick_command, protect_service_command

    gateway_stick_command.add_to(gateway_command.app)
    protect_service_command.add_gateway(gateway_command.app)
    _group(app, "gateway", gateway_command.app)


def _add_kafka(app: typer.Typer) -> None:
    from umuhuza import kafka_command, kafka_site_command

    kafka_site_command.add_to(kafka_command.app)
    _group(app, "kafka", kafka_command.app)


def _add_log(app: typer.Typer) -> None:
    from umuhuza import log_command

    _group(app, "log", log_command.app)


def _add_ledger(app: typer.Typer) -> None:
    from umuhuza import ledger_command, protect_service_command

    protect_service_command.add_ledger(ledger_command.app)
    _group(app, "ledger", ledger_command.app)


def _add_audit(app: typer.Typer) -> None:
    from umuhuza import audit_command

    _group(app, "audit", audit_command.app)


def _add_agency(app: typer.Typer) -> None:
    from umuhuza import (
        access_answer_command,
        agency_command,
        agency_notices_command,
        agency_panels,
        agency_registry_command,
        agency_status_command,
        consent_command,
        enrol_command,
        expertise_command,
        guidance_command,
        protect_command,
    )

    agency_registry_command.add_to(agency_command.app)
    agency_status_command.add_to(agency_command.app)
    agency_notices_command.add_to(agency_command.app)
    consent_command.add_to(agency_command.app)
    access_answer_command.add_to(agency_command.app)
    guidance_command.add_to(agency_command.app)
    expertise_command.add_to(agency_command.app)
    enrol_command.add_to(agency_command.app)
    protect_command.add_to(agency_command.app)
    agency_panels.arrange(agency_command.app)
    _group(app, "agency", agency_command.app)


def _add_statistics(app: typer.Typer) -> None:
    from umuhuza import statistics_command

    _group(app, "statistics", statistics_command.app)


def _add_witness(app: typer.Typer) -> None:
    from umuhuza import protect_service_command, witness_command

    protect_service_command.add_witness(witness_command.app)
    _group(app, "witness", witness_command.app)


def _add_bridge(app: typer.Typer) -> None:
    from umuhuza import bridge_command

    _group(app, "bridge", bridge_command.app)


def _add_bench(app: typer.Typer) -> None:
    from umuhuza.bench_command import bench

    app.command(name="bench", help=_help("bench"))(bench)


def _add_policy(app: typer.Typer) -> None:
    from umuhuza import policy_command

    _group(app, "policy", policy_command.app)


def _add_config(app: typer.Typer) -> None:
    from umuhuza import config_command

    _group(app, "config", config_command.app)


_COMMANDS: dict[str, tuple[Callable[[typer.Typer], None], str, str]] = {
    "demo": (
        _add_demo,
        "Toute l'histoire sur cette machine.",
        "The whole story on this machine.",
    ),
    "sandbox": (
        _add_sandbox,
        "Deux domaines d'essai sur cette machine, pour qui développe.",
        "Two throw-away domains on this machine, for developers.",
    ),
    "registry": (
        _add_registry,
        "Le registre du domaine : qui, avec quelles clés.",
        "The domain's registry: who, with which keys.",
    ),
    "gateway": (
        _add_gateway,
        "La passerelle : la porte d'un domaine.",
        "The gateway: the door of a domain.",
    ),
    "kafka": (
        _add_kafka,
        "Apache Kafka sur cette machine, pour un domaine.",
        "Apache Kafka on this machine, for a domain.",
    ),
    "log": (
        _add_log,
        "Le journal d'un domaine.",
        "A domain's log.",
    ),
    "ledger": (
        _add_ledger,
        "Le registre de preuve : chaque enregistrement a sa place dans un arbre signé.",
        "The ledger: every record has its place in one signed tree.",
    ),
    "audit": (
        _add_audit,
        "Vérifier le journal et son registre de preuve : rien n'a été changé, omis, ajouté ni antidaté.",
        "Check the log and its ledger: nothing was altered, left out, put in or backdated.",
    ),
    "agency": (
        _add_agency,
        "Le travail d'une agence : envoyer, recevoir, répondre ; « run » échange avec la passerelle.",
        "An agency's work: send, receive, answer; `run` exchanges with the gateway.",
    ),
    "statistics": (
        _add_statistics,
        "Dénombrements par semestre, sans personne.",
        "Counts by half-year, without persons.",
    ),
    "witness": (
        _add_witness,
        "Témoins : qui atteste d'avoir vu un registre de preuve, et qu'il n'en est qu'un.",
        "Witnesses: who attests to having seen a ledger, and that there is only one of it.",
    ),
    "bridge": (
        _add_bridge,
        "Le pont : ce qui passe d'un domaine à l'autre, sous un accord des deux.",
        "The bridge: what passes from one domain to another, under an agreement of both.",
    ),
    "bench": (
        _add_bench,
        "Mesure cette machine.",
        "Measure this machine.",
    ),
    "policy": (
        _add_policy,
        "La politique : qui peut quoi, et pourquoi.",
        "The policy: who may do what, and why.",
    ),
    "config": (
        _add_config,
        "Les réglages.",
        "The settings.",
    ),
}
"""How each is added, which imports it, and what it does in French and English, which is known without."""


def _tell_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(version("umuhuza") + "\n")
        raise typer.Exit


def _known_language(lang: str | None) -> str | None:
    if lang is not None and lang not in _LANGUAGES:
        raise typer.BadParameter(t("attendu fr ou en", "expected fr or en"))
    return lang


def _only_named() -> None:
    """In the place of a command that will not run."""


def build(*needed: str) -> typer.Typer:
    """The application, in the language of this process.

    Args:
        needed: the commands that may run; none: all. The others have a name and a help text and are not imported (an
            adapter starts in a second on an old laptop, where importing everything takes three).
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

    for name, (add, _, _) in _COMMANDS.items():
        if not needed or name in needed:
            add(app)
        else:
            app.command(name=name, help=_help(name))(_only_named)
    return app


def _commands_in(arguments: list[str]) -> tuple[str, ...]:
    """What may run: the first word, whether there is such a command or not; a shell that completes asks for all."""
    if any(name.startswith("_") and name.endswith("_COMPLETE") for name in os.environ):
        return ()
    words = iter(arguments)
    for word in words:
        if word == "--lang":
            next(words, None)
        elif not word.startswith("-"):
            return (word,)
    return ("",)


def _tell_system(exc: OSError, as_json: bool) -> NoReturn:
    """A folder that cannot be made, a disk that is full: what the computer says, and where."""
    if exc.errno == errno.EPIPE:
        # The same, where an error was to be told: nothing must be said at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(UNREAD)
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


def _output() -> tuple[int, int, int]:
    """Which stream, and which file or pipe, standard output is now."""
    try:
        found = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):  # closed; or no file at all
        return id(sys.stdout), 0, 0
    return id(sys.stdout), found.st_dev, found.st_ino


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
    printed = _output()
    try:
        sys.exit(build(*_commands_in(sys.argv[1:]))(prog_name="umuhuza", standalone_mode=False))
    except SystemExit as exc:
        # Nobody reads our output any more (`| head`): Typer and Rich put a silent one in its place and say 1, which of
        # an audit would say that something is contradicted.
        sys.exit(UNREAD if exc.code == REFUSED and _output() != printed else exc.code)
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
