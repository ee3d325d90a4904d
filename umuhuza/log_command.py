# SPDX-License-Identifier: Apache-2.0
"""`umuhuza log`: a domain's log as a whole. It moves from its SQLite file to Kafka; `topics.kafka_move` does the work.

The file is only read. It stays as it was, so the operator can go back until the gateway has run on Kafka; and it keeps
every grant that it holds, so it has to be deleted afterwards, which the command says and does not do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.settings import load_settings
from schemas.errors import LogError
from topics.settings import SettingsError
from umuhuza.gateway_command import SETTINGS_FILE
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster
from umuhuza.kafka_command import default_folder
from umuhuza.words import people, result, say, t

if TYPE_CHECKING:
    from topics.kafka_log import KafkaAccess
    from topics.kafka_move import Moved, Obstacle

REFUSED, NOT_NOW = 1, 3

app = typer.Typer(no_args_is_help=True, help=t("Le journal d'un domaine.", "A domain's log."))


@app.callback()
def log() -> None:
    """One command so far; with this it keeps its name."""


@app.command(
    help=t(
        "Porte le journal d'un fichier SQLite vers Kafka. Arrêtez d'abord les passerelles ; interrompue, la commande "
        "se relance et continue.",
        "Move the log from an SQLite file to Kafka. Stop the gateways first; interrupted, give it again and it goes "
        "on.",
    )
)
def move(
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            help=t(
                "Dossier de la passerelle, ou fichier du journal (log.db).",
                "The gateway's folder, or the log's file (log.db).",
            ),
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            help=t(
                "Dossier de Kafka ; sinon umuhuza/kafka sous XDG_DATA_HOME (~/.local/share).",
                "Kafka's folder; else umuhuza/kafka under XDG_DATA_HOME (~/.local/share).",
            ),
        ),
    ] = None,
    kafka_files: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Au lieu de --dir, pour un Kafka que d'autres font tourner : dossier avec ca.pem, certificate.pem et "
                "key.pem d'un administrateur.",
                "Instead of --dir, for a Kafka that others run: folder with an administrator's ca.pem, "
                "certificate.pem and key.pem.",
            )
        ),
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Avec --kafka-files : adresses HÔTE:PORT,… ; sinon le fichier bootstrap de ce dossier.",
                "With --kafka-files: addresses HOST:PORT,…; else that folder's file bootstrap.",
            )
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help=t("Compare et compte sans rien changer.", "Compare and count, change nothing.")),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help=t("Résultat en JSON.", "Result as JSON."))] = False,
) -> None:
    # The Kafka library takes a second to import; help needs none of it.
    from topics import kafka_move

    file = _file(source)
    access = _access(folder, kafka_files, kafka)
    try:
        with kafka_move.opened(file, alone=not dry_run) as store, _shown_way() as progress:
            moved = kafka_move.move(access, store, dry_run=dry_run, progress=progress)
    except LogError as exc:
        said = _trouble(exc, file)
        if said is None:
            raise
        code, sentence = said
        _refuse(code, "in_use" if exc.path == "in_use" else exc.code, [sentence], as_json=as_json)
    if moved.obstacles:
        _refuse(
            REFUSED,
            moved.obstacles[0].what,
            [_sentence(one) for one in moved.obstacles],
            as_json=as_json,
            obstacles=[{"what": one.what, "topic": one.topic} for one in moved.obstacles],
        )
    result(_document(file, moved), as_json=as_json, lines=_lines(file, moved))


def _file(source: Path) -> Path:
    """Raises SettingsError: there is no log."""
    file: Path | None = source
    if source.is_dir():
        file = load_settings(source / SETTINGS_FILE, {}).log
    if file is None or not file.is_file():
        raise SettingsError(
            "--from: no log file there; name the file itself, log.db",
            "--from : pas de fichier de journal ; nommez le fichier lui-même, log.db",
        )
    return file


def _access(folder: Path | None, kafka_files: Path | None, kafka: str | None) -> KafkaAccess:
    """An administrator's way to Kafka. Raises SettingsError."""
    from topics.kafka_log import KafkaAccess

    if kafka_files is None:
        if kafka is not None:
            raise SettingsError("--kafka needs --kafka-files", "--kafka demande --kafka-files")
        return Cluster.open(default_folder() if folder is None else folder).access(ADMIN, "umuhuza-move")
    if folder is not None:
        raise SettingsError("--dir or --kafka-files, not both", "--dir ou --kafka-files, pas les deux")
    try:
        told = (kafka_files / "bootstrap").read_text(encoding="ascii") if kafka is None else kafka
    except (OSError, UnicodeDecodeError):
        raise SettingsError(
            "--kafka-files: no file bootstrap there; give --kafka HOST:PORT",
            "--kafka-files : pas de fichier bootstrap ; donnez --kafka HÔTE:PORT",
        ) from None
    addresses = tuple(one.strip() for one in told.split(",") if one.strip())
    ca, certificate, key = (kafka_files / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    return KafkaAccess(addresses, ca, certificate, key, "umuhuza-move")


@contextmanager
def _shown_way() -> Iterator[Any]:
    """How far it is, on standard error, for people."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=people(), transient=True) as shown:
        bar = shown.add_task(t("Enregistrements", "Records"), total=None)

        def progress(there: int, in_all: int) -> None:
            shown.update(bar, completed=there, total=in_all)

        yield progress


def _refuse(code: int, what: str, sentences: list[str], *, as_json: bool, **more: object) -> NoReturn:
    """Say why not, and end."""
    if as_json:
        result({"ok": False, "problem": {"code": what, "title": " ".join(sentences)}, **more}, as_json=True)
    else:
        for sentence in sentences:
            say(sentence)
    sys.exit(code)


def _trouble(exc: LogError, file: Path) -> tuple[int, str] | None:
    """Exit code and words where the code's own advice is for somebody else."""
    if exc.path == "in_use":
        return NOT_NOW, t(
            f"Un autre programme a ouvert {file} : arrêtez d'abord les passerelles.",
            f"Another program has {file} open: stop the gateways first.",
        )
    if exc.path == "file":
        return REFUSED, t(f"{file} n'est pas un journal d'Umuhuza.", f"{file} is no log of Umuhuza's.")
    if exc.code == "log_inconsistent":
        return REFUSED, t(
            f"{exc.path} : quelqu'un d'autre y a écrit pendant le déplacement. Arrêtez passerelles et adaptateurs, "
            "puis recommencez avec un Kafka vide.",
            f"{exc.path}: somebody else wrote in it during the move. Stop gateways and adapters, then begin again with "
            "an empty Kafka.",
        )
    if exc.code == "not_permitted":
        return REFUSED, t(
            "Kafka refuse ce certificat : il faut celui d'un administrateur.",
            "Kafka refuses this certificate: an administrator's is needed.",
        )
    if exc.code == "unavailable" and exc.path not in ("sqlite", "schema_version"):
        return NOT_NOW, t(
            "Kafka ne répond pas maintenant. Relancez la commande ensuite : elle continue.",
            "Kafka does not answer now. Give the command again later: it goes on.",
        )
    return None


def _sentence(one: Obstacle) -> str:
    topic = one.topic
    first = t("D'abord : umuhuza kafka up --registry …", "First: umuhuza kafka up --registry …")
    sentences = {
        "domain": t("Ce fichier n'est pas le journal d'un domaine.", "This file is not one domain's log."),
        "missing": (
            t(f"{topic} n'est pas dans Kafka. ", f"{topic} is not in Kafka. ")
            if topic
            else t("Kafka n'a pas encore de journal pour ce domaine. ", "Kafka has no log of this domain yet. ")
        )
        + first,
        "replaced": t(
            f"{topic} a été supprimé ou refait par quelqu'un ; si c'est voulu : umuhuza kafka restored",
            f"{topic} was deleted or made again by somebody; if that is meant: umuhuza kafka restored",
        ),
        "settings": t(f"{topic} a d'autres réglages que prévu. ", f"{topic} has other settings than it should. ")
        + first,
        "foreign": t(
            f"{topic} contient ce que ce fichier n'a pas : c'est un autre journal. Rien n'a été changé.",
            f"{topic} holds what this file does not: it is another log. Nothing was changed.",
        ),
        "times": t(
            f"{topic} contient ces enregistrements avec d'autres heures : recommencez avec un Kafka vide.",
            f"{topic} holds these records with other times: begin again with an empty Kafka.",
        ),
        "trimmed": t(
            f"Le début de {topic} a été supprimé : recommencez avec un Kafka vide.",
            f"The beginning of {topic} was removed: begin again with an empty Kafka.",
        ),
    }
    return sentences[one.what]


def _document(file: Path, moved: Moved) -> dict[str, Any]:
    return {
        "ok": True,
        "from": str(file),
        "domain": moved.domain,
        "log_id": moved.log_id,
        "entries": moved.entries,
        "appended": moved.appended,
        "copies": moved.copies,
        "grants": moved.grants,
        "grants_put": moved.put,
        "grants_erased": moved.erased,
        "removed": moved.removed,
        "dry_run": moved.dry_run,
    }


def _lines(file: Path, moved: Moved) -> list[str]:
    if moved.dry_run:
        return [
            t(
                f"À porter : {moved.appended} enregistrements sur {moved.entries}, {moved.put} octrois de clé sur "
                f"{moved.grants}. Rien n'a été changé (--dry-run).",
                f"To be moved: {moved.appended} records of {moved.entries}, {moved.put} grants of {moved.grants}. "
                "Nothing was changed (--dry-run).",
            )
        ]
    return [
        t(
            f"Dans Kafka, relus et comparés : {moved.entries} enregistrements (dont {moved.appended} maintenant), "
            f"{moved.grants} octrois de clé.",
            f"In Kafka, read back and compared: {moved.entries} records ({moved.appended} of them now), "
            f"{moved.grants} grants.",
        ),
        t(
            "Ensuite : dans gateway.toml, les réglages kafka au lieu de log ; puis umuhuza gateway run. Les agences "
            "relisent depuis le début et reconnaissent ce qu'elles ont.",
            "Next: in gateway.toml, the kafka settings instead of log; then umuhuza gateway run. Agencies read from "
            "the beginning and recognise what they have.",
        ),
        t(
            f"Quand tout marche, effacez {file} et ses copies : ce qui sera effacé dans Kafka y resterait.",
            f"When all works, delete {file} and its copies: what is erased in Kafka later would stay there.",
        ),
    ]
