# SPDX-License-Identifier: Apache-2.0
"""`umuhuza registry ledger`: which ledger of the domain counts, signed by the holders as the members are.

    the first                 registry ledger ledger.pub
    one that follows it       registry ledger ledger.pub --lost bi.umuhuza/log [--last CHECKPOINT --policy POLICY]

An announcement is never taken back. Naming the ledger that is lost is the confirmation that it is.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import RegistryError
from schemas.keys import b64url
from schemas.ledgers import AnnouncedLedger, LastTree, ledgers_from_json, ledgers_to_json
from schemas.notes import MAX_NOTE_BYTES
from schemas.registry_signing import contents_now
from schemas.trust_policy import MAX_POLICY_BYTES, endorse, read_policy
from topics.believed_ledgers import believed_ledgers
from topics.witness_folder import read_note_keys
from umuhuza.ledger_settings import key_line
from umuhuza.options import Json
from umuhuza.registry_holder import change_registry, held
from umuhuza.registry_words import published_lines
from umuhuza.words import result, t

Folder = Annotated[Path, typer.Option("--dir", help=t("Dossier du registre.", "The registry's folder."))]


def ledger(
    keys_file: Annotated[
        Path,
        typer.Argument(
            metavar="KEYS",
            help=t(
                "Clés publiques du registre de preuve, une par ligne : ledger.pub.",
                "The ledger's public keys, one a line: ledger.pub.",
            ),
        ),
    ],
    folder: Folder,
    lost: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Le registre de preuve perdu qu'il remplace, par son nom : bi.umuhuza/log. Ne se reprend pas.",
                "The lost ledger that it follows, by its name: bi.umuhuza/log. Cannot be taken back.",
            )
        ),
    ] = None,
    last: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Dernier point de contrôle cosigné du registre perdu, d'un témoin ou d'une agence.",
                "The lost ledger's last cosigned checkpoint, from a witness or an agency.",
            )
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help=t(
                "Avec --last : quels témoins doivent l'avoir signé (witnesses.policy).",
                "With --last: which witnesses must have signed it (witnesses.policy).",
            )
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    if (last is None) is not (policy is None) or (last is not None and lost is None):
        raise typer.BadParameter(
            t("--lost, --last et --policy vont ensemble", "--lost, --last and --policy go together"),
            param_hint="--last",
        )
    keys = read_note_keys(keys_file)
    mine = held(folder)
    before, origin = mine.registry.ledgers, keys[0].name
    now = max(int(time.time()), *(one.since for one in before), 1)
    _require_lost(before, lost, origin)
    known = before
    if last is not None and policy is not None:
        known = (*before[:-1], replace(before[-1], last=_last_tree(last, policy, before, mine.registry.domain)))
    announced = (*known, AnnouncedLedger(origin, keys, now))
    ledgers_from_json(ledgers_to_json(announced), mine.registry.domain)  # what no reader would take is found out here
    changed = change_registry(mine, replace(contents_now(mine.trusted), ledgers=announced), now=now)
    version = changed.registry.version
    result(
        {"ok": True, "published": changed.published, "version": version, "ledgers": ledgers_shown(announced)},
        as_json=as_json,
        lines=[
            t(
                "Comparez au téléphone avec qui tient ce registre de preuve :",
                "Compare on the telephone with who keeps this ledger:",
            ),
            *(f"  {key_line(key)}" for key in keys),
            *([] if lost is None else _meaning(lost, origin)),
            *published_lines(
                changed, t(f"Registre version {version} publié.", f"Registry version {version} published.")
            ),
        ],
    )


def _require_lost(before: tuple[AnnouncedLedger, ...], lost: str | None, origin: str) -> None:
    """The confirmation: whoever announces a second ledger names the one that is gone."""
    counts = before[-1].origin if before else None
    if origin in (one.origin for one in before):
        raise typer.BadParameter(t(f"{origin} est déjà annoncé", f"{origin} is announced already"), param_hint="KEYS")
    if lost == counts:
        return
    if counts is None:
        raise typer.BadParameter(
            t(
                "aucun registre de preuve n'est annoncé : annoncez d'abord celui qui est perdu, avec ses clés",
                "no ledger is announced: announce the lost one first, with its keys",
            ),
            param_hint="--lost",
        )
    raise typer.BadParameter(
        t(
            f"{counts} est celui qui compte. S'il est vraiment perdu (ni copie de son journal, ni miroir), et pour "
            f"toujours, confirmez : --lost {counts}",
            f"{counts} is the one that counts. If it is truly lost (no copy of its log, no mirror), and for ever, "
            f"confirm: --lost {counts}",
        ),
        param_hint="--lost",
    )


def _last_tree(last: Path, policy: Path, before: tuple[AnnouncedLedger, ...], domain: str) -> LastTree:
    """Of the ledger that counted until now, believed by its announced keys and enough witnesses. Raises LogError."""
    try:
        with policy.open("rb") as stream:
            told = read_policy(stream.read(MAX_POLICY_BYTES + 1))
        with last.open("rb") as stream:
            data = stream.read(MAX_NOTE_BYTES + 1)
    except OSError:
        raise typer.BadParameter(t("ne peut pas être lu", "cannot be read"), param_hint="--last, --policy") from None
    head = endorse(data, believed_ledgers(told, before, domain).policy, before[-1].origin).signed.checkpoint
    if not head.size:
        raise RegistryError("registry_invalid", "ledgers.last")
    return LastTree(head.size, head.root)


def _meaning(lost: str, origin: str) -> list[str]:
    return [
        t(
            f"Ce que cela veut dire, une fois publié : {lost} est perdu.",
            f"What it means, once published: {lost} is lost.",
        ),
        t(
            f"- {origin} compte désormais. Si {lost} réapparaît, il ne signe plus.",
            f"- {origin} counts from now on. Should {lost} turn up again, it signs no more.",
        ),
        t(
            "- Les reçus et promesses d'avant restent : gardez-les, tout audit les compare avec le nouveau.",
            "- Receipts and promises of before stay: keep them, every audit compares them with the new one.",
        ),
        t(
            f"- Une clé volée du temps de {lost} met en doute tout ce que {origin} inscrit d'elle.",
            f"- A key stolen in the time of {lost} puts all in doubt that {origin} enters of it.",
        ),
        t(
            "- Chaque témoin l'ajoute : umuhuza witness add-log. Le pays voisin l'apprend au prochain contact.",
            "- Every witness adds it: umuhuza witness add-log. The other country learns of it at the next contact.",
        ),
    ]


def ledgers_shown(ledgers: tuple[AnnouncedLedger, ...]) -> list[dict[str, Any]]:
    """For programs: the announced ledgers, the one that counts last."""
    return [
        {
            "origin": one.origin,
            "keys": [key_line(key) for key in one.keys],
            "since": one.since,
            "last": None if one.last is None else {"size": one.last.size, "root": b64url(one.last.root)},
        }
        for one in ledgers
    ]


def add_to(app: typer.Typer) -> None:
    """Set it beside the commands of `umuhuza registry`."""
    app.command(
        help=t(
            "Annonce le registre de preuve du domaine, ou celui qui en remplace un perdu.",
            "Announce the domain's ledger, or the one that follows a lost one.",
        )
    )(ledger)
