# SPDX-License-Identifier: Apache-2.0
"""`umuhuza log`: a domain's log as a whole. It moves from its SQLite file to Kafka; `topics.kafka_move` does the work.

The file keeps its records and every grant that it holds, so it has to be deleted afterwards, which the command says and
does not do. At the end it says where its log is now, and nothing opens it as a log any more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.settings import FILE_NAME as SETTINGS_FILE
from gateway.settings import load_settings
from schemas.errors import LogError
from topics.settings import SettingsError
from umuhuza.kafka_command import Addresses, Folder, KafkaFiles, administrator
from umuhuza.options import Json
from umuhuza.words import people, result, say, t

if TYPE_CHECKING:
    from topics.kafka_move import Moved, Obstacle

REFUSED, NOT_NOW = 1, 3

app = typer.Typer(no_args_is_help=True)


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
    folder: Folder = None,
    kafka_files: KafkaFiles = None,
    kafka: Addresses = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help=t("Compare et compte sans rien changer.", "Compare and count, change nothing.")),
    ] = False,
    as_json: Json = False,
) -> None:
    # The Kafka library takes a second to import; help needs none of it.
    from topics import kafka_move

    file = _file(source)
    access = administrator(folder, kafka_files, kafka)
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
            [_sentence(one, "up" if kafka_files is None else "apply") for one in moved.obstacles],
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


def _sentence(one: Obstacle, command: str) -> str:
    topic = one.topic
    first = t(f"D'abord : umuhuza kafka {command} --registry …", f"First: umuhuza kafka {command} --registry …")
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
            "Ensuite : le dossier que fait umuhuza kafka issue, pour l'exploitant ; dans gateway.toml, kafka (ce "
            "dossier) au lieu de log ; puis umuhuza gateway run. Les agences relisent depuis le début et "
            "reconnaissent ce qu'elles ont.",
            "Next: the folder that umuhuza kafka issue makes, for the operator; in gateway.toml, kafka (that folder) "
            "instead of log; then umuhuza gateway run. Agencies read from the beginning and recognise what they have.",
        ),
        t(
            f"Aucune passerelle n'ouvre plus {file}. Quand tout marche, effacez-le avec ses copies : "
            "ce qui sera effacé dans Kafka y resterait.",
            f"No gateway opens {file} any more. When all works, delete it and its copies: "
            "what is erased in Kafka later would stay there.",
        ),
    ]
