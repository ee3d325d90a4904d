# SPDX-License-Identifier: Apache-2.0
"""`umuhuza sandbox`: two throw-away domains on this machine, for a developer who connects a system of their own.

Runs until Ctrl-C, SIGTERM or a closed terminal; then ends every process that it has started, by its id, and removes
the folder that it has made. What is printed is what runs: addresses, folders, and lines that can be pasted.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from schemas.errors import UmuhuzaError
from umuhuza.options import Json
from umuhuza.paired_domains import AGREEMENT, DomainFolders
from umuhuza.sandbox_stage import (
    DRAFT,
    FOCAL_POINT,
    LOGS,
    RECIPIENT,
    RECORD,
    REFUSED,
    SEATS,
    SENDER,
    TOKEN,
    WITH_TOKEN,
    Sandbox,
    SandboxError,
)
from umuhuza.words import program, result, say, t

_TOKENS_EVERY_S = 60.0
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def sandbox(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            help=t(
                "Garde tout ici, et reprend ce qui y est ; sinon tout est supprimé à la fin.",
                "Keep everything here, and go on with what is there; else all is removed at the end.",
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """The command."""
    begun = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="umuhuza-sandbox-")) if folder is None else folder.resolve()
    for number in _SIGNALS:
        signal.signal(number, lambda one, _frame: sys.exit(128 + one))
    try:
        with Sandbox(root) as running:
            running.prepare()
            running.run()
            told = _told(running, round(time.monotonic() - begun, 1))
            if as_json:
                result(told, as_json=True)
            else:
                _show(told)
            _stay(running)
    except SandboxError as exc:
        result({"ok": False, "problem": {"code": "sandbox", "title": str(exc)}}, as_json=as_json, lines=[f"✗ {exc}"])
        raise typer.Exit(1) from None
    finally:
        if folder is None:
            shutil.rmtree(root, ignore_errors=True)


def _stay(running: Sandbox) -> None:
    """Until a signal; tokens are renewed meanwhile. Raises SandboxError: a process has ended."""
    stopped: list[int] = []
    for number in (signal.SIGINT, *_SIGNALS):
        signal.signal(number, lambda one, _frame: stopped.append(one))
    renewed = time.monotonic()
    while not stopped:
        running.require_all()
        if time.monotonic() - renewed > _TOKENS_EVERY_S:
            try:
                running.renew_tokens()
            except UmuhuzaError as exc:  # a gateway that somebody has stopped on purpose, to see what happens
                say(f"{TOKEN}: {exc.code}")
            renewed = time.monotonic()
        time.sleep(0.1)


def _told(running: Sandbox, seconds: float) -> dict[str, Any]:
    root = running.root
    return {
        "ok": True,
        "dir": str(root),
        "agreement": AGREEMENT,
        "domains": {here.name: _domain(here, root) for here in (running.bi, running.tn)},
        "files": {"record": str(root / RECORD), "draft": str(root / DRAFT), "draft_refused": str(root / REFUSED)},
        "try": _lines(running),
        "logs": str(root / LOGS),
        "processes": running.children.pids,
        "seconds": seconds,
    }


def _domain(here: DomainFolders, root: Path) -> dict[str, Any]:
    agencies = {}
    for seat in SEATS:
        if seat.domain == here.name:
            place = seat.folder(root)
            token = str(place / TOKEN) if seat.id in WITH_TOKEN else None
            keys = str(place / "keys.json")
            agencies[seat.id] = {"dir": str(place), "keys": keys, "token": token, "adapter": seat.adapter}
    return {
        "gateway": here.address,
        "registry": str(here.registry_file),
        "root": here.root,
        "gateway_dir": str(here.gateway),
        "ledger_dir": str(here.ledger),
        "agencies": agencies,
    }


def _lines(running: Sandbox) -> dict[str, str]:
    """What can be pasted into a shell, in order."""
    root = running.root

    def curl(agency: str, rest: str) -> str:
        return f'curl -sS -H "Authorization: Bearer $(cat {_quoted(root / agency / TOKEN)})" {rest}'

    def mailbox(agency: str, here: DomainFolders, flow: str) -> str:
        return curl(agency, f"'{here.address}/v1/mailbox?after={flow}:-1&wait=20'")

    posted = f"-H 'Content-Type: application/x-ndjson' --data-binary @{_quoted(root / RECORD)}"
    return {
        "publish": curl(SENDER, f"{posted} {running.bi.address}/v1/records"),
        "arrived": mailbox(RECIPIENT, running.tn, "bilateral"),
        "receipt": mailbox(SENDER, running.bi, "receipt"),
        "send": f"{program()} agency send {_quoted(root / DRAFT)} --dir {_quoted(root / FOCAL_POINT)}",
        "inbox": f"{program()} agency inbox --dir {_quoted(root / RECIPIENT)}",
        "refused": f"{program()} agency send {_quoted(root / REFUSED)} --dir {_quoted(root / FOCAL_POINT)}",
        "bridge": f"{program()} bridge status --gateway {_quoted(running.bi.gateway)}",
        "audit": f"{program()} audit verify --dir {_quoted(root / 'tn')}",
    }


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


_WHAT = {
    "publish": (
        "Publier un enregistrement de bi/iom, prêt, signé et scellé pour tn/inlctp",
        "Publish a record of bi/iom's, ready, signed and sealed for tn/inlctp",
    ),
    "arrived": ("Le voir arriver en Tunisie", "See it arrive in Tunisia"),
    "receipt": ("L'accusé de réception, de retour au Burundi", "The receipt, back in Burundi"),
    "send": (
        "La même demande écrite en JSON, par l'adaptateur de bi/ccsprtp",
        "The same request written as JSON, by bi/ccsprtp's adapter",
    ),
    "inbox": ("La lire en Tunisie, avec la clé de tn/inlctp", "Read it in Tunisia, with tn/inlctp's key"),
    "refused": ("Sans l'autorisation que la Tunisie exige : refusé", "Without the authorisation that Tunisia asks for"),
    "bridge": ("Ce que porte le pont", "What the bridge carries"),
    "audit": ("Tout vérifier, en Tunisie", "Verify everything, in Tunisia"),
}


def _show(told: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    seconds = told["seconds"]
    console.print(
        t(
            f"[green]✓[/] Deux domaines d'essai tournent, prêts en {seconds} s. Tout le monde y est inventé.",
            f"[green]✓[/] Two throw-away domains are running, ready in {seconds} s. Everybody in them is invented.",
        )
    )
    for name, domain in told["domains"].items():
        console.print(f"\n[bold]{name}[/]  {domain['gateway']}")
        console.print(f"    {t('registre', 'registry')}  {domain['registry']}")
        console.print(f"    {t('racine', 'root')}      {domain['root']}")
        for agency, one in domain["agencies"].items():
            who = t("adaptateur", "adapter") if one["adapter"] else t("à vous", "yours")
            console.print(f"    [cyan]{agency:12}[/] {who:12} {one['dir']}")
    console.print(
        t(
            "\nDans le dossier d'une agence : keys.json (clés privées, en clair), token (jeton, renouvelé).\n",
            "\nIn an agency's folder: keys.json (private keys, in clear), token (renewed).\n",
        )
    )
    for name, line in told["try"].items():
        console.print(f"[bold]{t(*_WHAT[name])}[/]", markup=True)
        console.print(f"  {line}", markup=False)
    console.print(t("\nCtrl-C arrête tout.", "\nCtrl-C ends everything."))
