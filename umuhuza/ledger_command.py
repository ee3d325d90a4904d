# SPDX-License-Identifier: Apache-2.0
"""`umuhuza ledger`: the domain's ledger, which gives every record its place in one tree that is signed."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.settings import FILE_NAME as GATEWAY_FILE
from gateway.settings import load_settings
from schemas.errors import LogError
from schemas.keys import fingerprint_of
from schemas.ledgers import origin_of
from schemas.notes import NoteSigner, SignatureType, SignedCheckpoint
from topics.ledger_checkpoints import CHECKPOINT, COSIGNED, read_checkpoint
from topics.ledger_erasures import overdue_of
from topics.ledger_retention import Due, due, execute
from topics.ledger_view import LedgerView
from topics.private_file import write_private
from topics.registry_file import read_registry
from topics.settings import SettingsError
from umuhuza.ledger_process import open_log, opened, require_announced, run, trimming
from umuhuza.ledger_settings import (
    ALGORITHMS,
    FILE_NAME,
    LedgerSettings,
    key_line,
    load_ledger_settings,
    read_public,
    read_root,
)
from umuhuza.words import result, t, table

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help=t("Résultat en JSON.", "Result as JSON."))]
Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du registre de preuve.", "The ledger's folder."))]
KEYS_FILE = "ledger.keys"
PUBLIC_FILE = "ledger.pub"
"""Public keys, one a line: Ed25519, ML-DSA-44."""


def init_ledger(
    folder: Path, gateway: Path, port: int = 8441, number: int = 1, kafka: Path | None = None
) -> tuple[NoteSigner, ...]:
    """Make a ledger's folder for the domain of this gateway's folder: keys and settings; and tell the gateway.

    Args:
        number: which of the domain's ledgers, when an earlier one was lost: the second is `bi.umuhuza/log2`.
        kafka: where the gateway's log is on Kafka, the ledger's own folder for it (`umuhuza kafka issue bi/ledger`).

    Raises:
        FileExistsError: keys are there already; they are never overwritten.
        SettingsError: the gateway's settings cannot be used.
    """
    if (folder / KEYS_FILE).exists():
        raise FileExistsError(folder / KEYS_FILE)  # before its settings would be written over
    settings = load_settings(gateway / GATEWAY_FILE, {}, {})
    if not settings.registry.exists():
        raise SettingsError("registry: cannot be read", "registry : ne peut pas être lu")
    if settings.log is not None:
        log = f'log = "{settings.log.resolve()}"\nstore = "ledger.db"'
    elif settings.kafka is not None:
        if kafka is None:
            raise SettingsError(
                "--kafka: the ledger's own folder is needed (umuhuza kafka issue <domain>/ledger --out FOLDER)",
                "--kafka : il faut le dossier propre au registre de preuve "
                "(umuhuza kafka issue <domaine>/ledger --out DOSSIER)",
            )
        log = f'kafka = "{kafka.resolve()}"'
    else:
        raise SettingsError("log: the gateway has none", "log : la passerelle n'en a pas")
    text = (
        f'registry = "{settings.registry.resolve()}"\nregistry_root = "{settings.registry_root}"\n{log}\n'
        f'keys = "{KEYS_FILE}"\nport = {port}\n'
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
    read = load_ledger_settings(folder / FILE_NAME, {}, {})
    origin = origin_of(read_registry(settings.registry, read_root(read)).registry.domain) + (
        "" if number == 1 else str(number)
    )
    signers = tuple(
        NoteSigner.generate(origin, kind, os.urandom) for kind in (SignatureType.ED25519, SignatureType.ML_DSA_44)
    )
    # Keys last: without them there is no ledger here, and what an interrupted attempt left is made again.
    (folder / PUBLIC_FILE).write_text("".join(one.public.vkey + "\n" for one in signers), encoding="ascii")
    write_private(folder / KEYS_FILE, "".join(one.skey + "\n" for one in signers))
    if settings.ledger is None:
        with (gateway / GATEWAY_FILE).open("a", encoding="utf-8") as out:
            out.write(f'ledger = "{folder.resolve()}"\n')
    return signers


@app.command(
    help=t(
        "Prépare le registre de preuve du domaine d'une passerelle : clés et réglages.",
        "Prepare the ledger of a gateway's domain: keys and settings.",
    )
)
def init(
    folder: Folder,
    gateway: Annotated[
        Path,
        typer.Option("--gateway", help=t("Dossier de la passerelle du domaine.", "The domain's gateway's folder.")),
    ],
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help=t("Port de l'état et des métriques.", "Port of health and metrics.")),
    ] = 8441,
    number: Annotated[
        int,
        typer.Option(
            min=1,
            help=t(
                "Le combientième, si un registre antérieur est perdu : 2 s'appelle <domaine>.umuhuza/log2.",
                "Which one, if an earlier ledger is lost: 2 is called <domain>.umuhuza/log2.",
            ),
        ),
    ] = 1,
    kafka: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Sur Kafka : dossier fait pour <domaine>/ledger par « kafka issue ».",
                "On Kafka: the folder that `kafka issue` made for <domain>/ledger.",
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    try:
        signers = init_ledger(folder, gateway, port, number, kafka)
    except FileExistsError:
        raise typer.BadParameter(
            t("un registre de preuve s'y trouve déjà", "a ledger is there already"), param_hint="--dir"
        ) from None
    keys, public = [one.public.vkey for one in signers], folder / PUBLIC_FILE
    result(
        {
            "ok": True,
            "origin": signers[0].name,
            "keys": keys,
            "fingerprints": [fingerprint_of(one.public.public) for one in signers],
            "public": str(public),
            "settings": str(folder / FILE_NAME),
        },
        as_json=as_json,
        lines=[
            t(f"Registre de preuve préparé dans {folder}.", f"Ledger prepared in {folder}."),
            t("Empreintes, à lire au téléphone :", "Fingerprints, to be read on the telephone:"),
            *(f"  {key_line(one.public)}" for one in signers),
            t(f"À donner aux témoins et aux auditeurs : {public}", f"To be given to witnesses and auditors: {public}"),
            t(f"Ensuite : umuhuza ledger run --dir {folder}", f"Next: umuhuza ledger run --dir {folder}"),
            t("La passerelle le sert après son redémarrage.", "The gateway serves it once it was started again.")
            if load_settings(gateway / GATEWAY_FILE, {}, {}).ledger == folder.resolve()
            else t(
                f'La passerelle en sert un autre : écrivez ledger = "{folder.resolve()}" dans {GATEWAY_FILE}.',
                f'The gateway serves another one: write ledger = "{folder.resolve()}" into {GATEWAY_FILE}.',
            ),
        ],
    )


@app.command(
    name="run",
    help=t("Tient le registre de preuve, jusqu'à Ctrl-C ou SIGTERM.", "Keep the ledger, until Ctrl-C or SIGTERM."),
)
def run_command(
    folder: Folder,
    ready_file: Annotated[
        Path | None,
        typer.Option(help=t("Écrit l'adresse une fois à jour.", "Written with the address once caught up.")),
    ] = None,
) -> None:
    settings = load_ledger_settings(folder / FILE_NAME, {"ready_file": ready_file})
    try:
        asyncio.run(run(settings))
    except OSError as exc:
        if exc.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
            raise
        where = f"{settings.host}:{settings.port}"
        raise SettingsError(
            f"cannot listen on {where}: taken by another program, or not allowed",
            f"impossible d'écouter sur {where} : pris par un autre programme, ou interdit",
        ) from None


# ---------------------------------------------------------------------------------------------------------------------
# Status


@app.command(
    help=t(
        "Dit où en est le registre de preuve, et si le journal le dépasse.",
        "Say where the ledger stands, and whether the log is ahead of it.",
    )
)
def status(folder: Folder, as_json: Json = False) -> None:
    settings = load_ledger_settings(folder / FILE_NAME)
    if not settings.view.exists():
        raise SettingsError(
            f"the ledger has not run yet: umuhuza ledger run --dir {folder}",
            f"le registre de preuve n'a pas encore tourné : umuhuza ledger run --dir {folder}",
        )
    view = LedgerView.reading(settings.view)
    try:
        keys = read_public(settings.keys)
        signed, cosigned = (read_checkpoint(settings.keys.parent / name, keys) for name in (CHECKPOINT, COSIGNED))
        registry = view.registry()
        root = read_registry(settings.registry, read_root(settings)).registry
        behind, overdue = asyncio.run(_behind(settings, view, root.domain))
        erasing = len(view.erasing())
        told = {
            "ok": True,
            "origin": keys[0].name,
            "size": view.size,
            "signed": _size(signed),
            "cosigned": _size(cosigned),
            "registry": 0 if registry is None else registry.version,
            "behind": behind,
            "topics": len(view.topics),
            "fingerprints": [fingerprint_of(key.public) for key in keys],
            "erasures": {"open": erasing, "overdue": overdue},
        }
    finally:
        view.close()
    result(told, as_json=as_json)
    if not as_json:
        rows = [
            (t("Origine", "Origin"), str(told["origin"])),
            *((t("Empreinte ", "Fingerprint ") + ALGORITHMS[key.kind], fingerprint_of(key.public)) for key in keys),
            (t("Entrées", "Entries"), str(told["size"])),
            (t("Signées", "Signed"), str(told["signed"])),
            (t("Contresignées", "Cosigned"), str(told["cosigned"])),
            (t("Version du registre", "Registry version"), str(told["registry"])),
            (t("Enregistrements pas encore inscrits", "Records not entered yet"), str(behind)),
            (t("Effacements pas encore constatés", "Erasures not known to be done"), str(erasing)),
            (t("… ordonnés il y a plus d'un jour", "… commanded more than a day ago"), str(overdue)),
        ]
        table(str(folder), (t("Quoi", "What"), t("Combien", "How many")), rows)


def _size(signed: SignedCheckpoint | None) -> int:
    return 0 if signed is None else signed.checkpoint.size


async def _behind(settings: LedgerSettings, view: LedgerView, domain: str) -> tuple[int, int]:
    """Records in the log that have no entry yet, in the topics that are known; and erasures that are overdue."""
    log = await open_log(settings, domain)
    try:
        total = 0
        for name, state in view.topics.items():
            try:
                total += max((await log.ends(name)).next - state.next, 0)
            except LogError as exc:
                if exc.code != "topic_unknown":
                    raise
        return total, await overdue_of(log, view, time.time_ns() // 1_000_000)
    finally:
        await log.close()


# ---------------------------------------------------------------------------------------------------------------------
# Retention


@app.command(
    help=t(
        "Inscrit puis retire du journal ce dont la durée de conservation est passée et qui a été remis.",
        "Log, then remove from the log what is past its retention and was delivered.",
    )
)
def retention(
    folder: Folder,
    kafka_admin: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Sur Kafka : dossier d'un administrateur du cluster, qui seul peut retirer.",
                "On Kafka: folder of an administrator of the cluster, who alone may remove.",
            )
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=t("Montre sans rien changer.", "Show, change nothing."))
    ] = False,
    as_json: Json = False,
) -> None:
    settings = load_ledger_settings(folder / FILE_NAME)
    kafka_admin = kafka_admin or settings.retention_kafka
    if settings.kafka is not None and kafka_admin is None and not dry_run:
        raise SettingsError(
            "--kafka-admin: on Kafka an administrator's folder is needed",
            "--kafka-admin : sur Kafka, il faut le dossier d'un administrateur",
        )
    found, removed = asyncio.run(_retain(settings, kafka_admin, dry_run))
    overdue = sum(one.overdue for one in found)
    rows: list[dict[str, Any]] = [
        {
            "topic": one.topic,
            "first": one.first,
            "keep_from": one.keep_from,
            "overdue": one.overdue,
            "senders": dict(one.senders),
        }
        for one in found
    ]
    senders = sum((Counter(one.senders) for one in found), Counter[str]())
    result({"ok": True, "dry_run": dry_run, "due": rows, "removed": removed, "overdue": overdue}, as_json=as_json)
    if not as_json:
        table(
            t("Conservation", "Retention"),
            (t("Boîte", "Mailbox"), t("Gardé depuis", "Kept from"), t("À garder depuis", "To be kept from"),
             t("Ancien, non remis", "Old, not delivered")),
            [(one.topic, str(one.first), str(one.keep_from), str(one.overdue)) for one in found],
        )  # fmt: skip
        done = [
            t(
                f"Retiré de {name} : ce qui précède la position {first}.",
                f"Removed from {name}: all below {first}.",
            )
            for name, first in sorted(removed.items())
        ]
        nothing = t("Il n'y avait rien à retirer.", "There was nothing to remove.")
        done += [
            t(
                f"Téléphonez à {agency} : {count} enregistrement(s) de sa part, ancien(s) et jamais remis.",
                f"Telephone {agency}: {count} record(s) of it are old and were never delivered.",
            )
            for agency, count in sorted(senders.items())
        ]
        unchanged = t("Rien n'a été changé (--dry-run).", "Nothing was changed (--dry-run).")
        result(None, as_json=False, lines=[*done, unchanged] if dry_run else done or [nothing])


async def _retain(settings: LedgerSettings, admin: Path | None, dry_run: bool) -> tuple[list[Due], dict[str, int]]:
    async with opened(settings) as parts:
        await parts.sequencer.start()
        parts.checkpoints.check(parts.sequencer.view)  # nothing goes by a ledger that was put back from a copy
        while await parts.sequencer.step():
            """Up to date first: only what is sequenced may go."""
        found = await due(parts.log, parts.sequencer.view, now_ms=time.time_ns() // 1_000_000)
        if dry_run:
            return found, {}
        require_announced(parts)
        async with trimming(parts.log, admin, parts.registries.held().registry.domain) as trims:
            return found, await execute(parts.sequencer, parts.log, trims, found)
