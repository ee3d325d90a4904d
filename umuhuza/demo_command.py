# SPDX-License-Identifier: Apache-2.0
"""`umuhuza demo`: the main job on this machine, with real processes, real files, and invented people.

A domain `bi` for training is made in a folder: a registry, a gateway over the embedded log or over an Apache Kafka
broker that is started for it, seven agencies, each a process of its own with its own keys and mailbox
(`umuhuza.demo_stage`), and a second country, `tn`, behind a border (`umuhuza.demo_neighbour`). Then people work
(`umuhuza.demo_people`) and a story is told (`umuhuza.demo_story`). Nothing is faked on the way but the time, for four
hours; what is told at the end is counted in the mailboxes and in the log.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from schemas.lifecycle import state_label
from topics.settings import SettingsError
from umuhuza.demo_evidence import EVIDENCE, POLICY
from umuhuza.demo_log import demo_log
from umuhuza.demo_neighbour import GATEWAY, LEDGER
from umuhuza.demo_stage import LOGS, DemoError, Stage
from umuhuza.demo_story import play
from umuhuza.kafka_command import explained
from umuhuza.words import labelled, language, program, result, t


def show(console: Console, found: Mapping[str, Any]) -> None:
    summary = Table(title=t("Ce qui est dans les boîtes et dans le journal", "What is in the mailboxes and the log"))
    summary.add_column(t("Quoi", "What"))
    summary.add_column(t("Combien", "How many"), justify="right")
    summary.add_row(t("Enregistrements signés et scellés", "Signed and sealed records"), str(found["records"]))
    summary.add_row(
        t("Inscrits et signés au registre de preuve", "Entered in the ledger, and signed"),
        str(found["ledger"]["records"]),
    )
    summary.add_row(
        t("Témoins qui les ont vus (Burundi, Tunisie, OIM)", "Witnesses that have seen them (Burundi, Tunisia, IOM)"),
        str(found["ledger"]["witnesses"]),
    )
    for state, count in sorted(found["referrals"].items()):
        summary.add_row(t("Orientations : ", "Referrals: ") + state_label("referral", state, language()), str(count))
    summary.add_row(t("Lignes refusées, avec rapport", "Rows refused, with a report"), str(found["rows_refused"]))
    for code, count in found["refused"].items():
        summary.add_row(t("Refusé à la porte : ", "Refused at the door: ") + code, str(count))
    for agency, count in found["inbox"].items():
        summary.add_row(t("Reçu par ", "Received by ") + agency, str(count))
    console.print(summary)


def _where(stage: Stage) -> list[tuple[str, str]]:
    """What to look at, and where."""
    here = program()
    iom, shelter = stage.folder("bi/iom"), stage.folder("bi/k7t4")
    return [
        (t("Ce que reçoit un lieu protégé", "What a protected place receives"), f"{shelter / 'dossier' / 'recus'}"),
        (
            t("Le suivi de l'OIM, ligne par ligne", "IOM's follow-up, row by row"),
            f"{iom / 'dossier' / 'rapports' / 'suivi.xlsx'}",
        ),
        (t("Qui a confirmé le retrait", "Who confirmed the withdrawal"), f"{here} agency consents --dir {iom}"),
        (t("Où en est chaque envoi", "Where each item stands"), f"{here} agency outbox --dir {iom}"),
        (
            t("Ce qui passe la frontière", "What passes the border"),
            f"{here} bridge status --gateway {stage.root / GATEWAY}",
        ),
        (
            t("Qui a vu le registre de preuve", "Who has seen the ledger"),
            f"{here} witness status --ledger {stage.root / GATEWAY / LEDGER}",
        ),
        (t("Les règles, une à une", "The rules, one by one"), f"{here} policy show referral.requested"),
        (t("Le registre de preuve", "The ledger"), f"{here} ledger status --dir {stage.root / GATEWAY / LEDGER}"),
        (
            t("La preuve, en un fichier", "The evidence, in one file"),
            f"{here} audit verify {stage.root / EVIDENCE} --policy {stage.root / POLICY}",
        ),
        (t("Ce que disent les processus", "What the processes say"), f"{stage.root / LOGS}"),
    ]


def demo(
    once: Annotated[bool, typer.Option("--once", help=t("Se termine tout seul.", "Ends by itself."))] = False,
    as_json: Annotated[bool, typer.Option("--json", help=t("Dernière ligne en JSON.", "Last line as JSON."))] = False,
    log: Annotated[
        Literal["sqlite", "kafka"],
        typer.Option(
            "--log",
            help=t(
                "Moteur du journal : un fichier, ou Apache Kafka, démarré et arrêté avec la démonstration.",
                "The log's engine: one file, or Apache Kafka, started and stopped with the demonstration.",
            ),
        ),
    ] = "sqlite",
    folder: Annotated[
        Path | None, typer.Option("--dir", help=t("Garde tous les fichiers ici.", "Keep all files here."))
    ] = None,
) -> None:
    """The command."""
    console = Console(stderr=as_json, highlight=False)
    started = time.monotonic()
    root = _folder(folder)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Ended like Ctrl-C: through the stage's end, which leaves no process behind.
        signal.signal(number, lambda one, _frame: sys.exit(128 + one))
    with explained(as_json), Stage(root, console, demo_log(log, root)) as stage:
        try:
            found = play(stage)
        except DemoError as exc:
            console.print(f"[bold red]✗[/] {exc}")
            if as_json:
                result({"ok": False, "problem": {"code": "demo", "title": str(exc)}}, as_json=True)
            raise typer.Exit(1) from None
        seconds = round(time.monotonic() - started, 1)
        show(console, found)
        console.print(
            t(
                f"[green]✓[/] Toute l'histoire en {seconds} s. Les fichiers sont dans {root}",
                f"[green]✓[/] The whole story in {seconds} s. The files are in {root}",
            )
        )
        for what, place in _where(stage):
            console.print("  " + labelled(what, what, f"[dim]{place}[/]"), soft_wrap=True)
        if as_json:
            result({"ok": True, **found, "seconds": seconds}, as_json=True)
        if not once:
            _stay(stage)


def _folder(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="umuhuza-demo-"))
    if folder.exists() and any(folder.iterdir()):
        raise SettingsError(
            t(
                f"{folder} n'est pas vide : choisissez un autre dossier, ou supprimez-le",
                f"{folder} is not empty: choose another folder, or remove it",
            )
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.resolve()


def _stay(stage: Stage) -> None:
    iom, shelter = stage.folder("bi/iom"), stage.folder("bi/k7t4")
    print_line = partial(stage.console.print, soft_wrap=True, markup=False)  # a path is copied whole
    print_line()
    for line in (
        t("Tout tourne encore. Essayez : remplissez un modèle", "Everything is still running. Try: fill in a form"),
        f"  {program()} agency template orientation.xlsx --dir {iom}",
        t(
            "(feuille « Orientation », ligne 4 : destinataire bi/k7t4, et les titres sur fond jaune)",
            "(sheet « Orientation », row 4: recipient bi/k7t4, and the titles on yellow)",
        ),
        t("puis déposez-le dans", "then drop it into"),
        f"  {iom / 'dossier' / 'a-envoyer'}",
        t("Le rapport, ligne par ligne, arrive dans", "The report, row by row, comes into"),
        f"  {iom / 'dossier' / 'rapports'}",
        t("Ce que reçoit un lieu protégé :", "What a protected place receives:"),
        f"  {shelter / 'dossier' / 'recus'}",
        t("Ctrl-C pour arrêter.", "Ctrl-C to stop."),
    ):
        print_line(line)
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    while not stopped:
        time.sleep(0.2)
