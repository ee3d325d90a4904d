# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency proofs`: what an agency keeps as proof, in files, for whoever audits a domain.

    <folder>/<domain>/<evt>.promise.json     a gateway of that domain has promised to log it (`topics.promise`)
                     /<evt>.tlog-proof       that domain's ledger has logged it (`topics.receipts`)
                     /<evt>.erased.tlog-proof   and calls done what it commands to erase
    <folder>/refused/<evt>.jws               another domain's gateway has signed that it does not take it

A domain's folder is what `umuhuza audit verify --held` reads when that domain is audited: an agency's own domain, and
each one that took its records in. In them are hashes, places and random numbers; no name, nothing that was sealed.

If we crash: each file is whole or absent; the command writes them again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from adapters.connectors.places import write_durably
from adapters.crossed_book import CrossedBook
from adapters.erasure_proofs import ErasureProofs
from adapters.receipt_book import ReceiptBook
from adapters.receipts_abroad import ReceiptsAbroad
from schemas.proof_texts import PROOF_SUFFIX
from topics.settings import SettingsError
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.options import Folder, Json
from umuhuza.words import result, t

REFUSED = "refused"


def kept(parts: AgencyParts) -> Iterator[tuple[str, str, bytes]]:
    """Per proof: the folder, the file's name, what is in it."""
    box, home = parts.mailbox, parts.settings.domain
    receipts, crossed, abroad = ReceiptBook(box), CrossedBook(box), ReceiptsAbroad(box)
    for item in box.outbox():
        if item.promise is not None:
            yield home, f"{item.evt}.promise.json", item.promise
        if (receipt := receipts.of(item.evt)) is not None:
            yield home, f"{item.evt}{PROOF_SUFFIX}", receipt.data
        there = crossed.of(item.evt)
        if there is None:
            continue
        if there.promise is not None:
            yield there.domain, f"{item.evt}.promise.json", there.promise
        if (receipt := abroad.of(item.evt)) is not None:
            yield there.domain, f"{item.evt}{PROOF_SUFFIX}", receipt.data
        if there.refusal is not None:
            yield REFUSED, f"{item.evt}.jws", there.refusal.encode("ascii")
    for one in ErasureProofs(box).commanded():
        if one.proof is not None:
            yield home, f"{one.evt}.erased{PROOF_SUFFIX}", one.proof.data


def proofs(
    target: Annotated[Path, typer.Argument(help=t("Dossier à écrire.", "The folder to write."))],
    folder: Folder,
    as_json: Json = False,
) -> None:
    written: Counter[str] = Counter()
    with opened_agency(folder) as parts:
        try:
            for place, name, data in kept(parts):
                (target / place).mkdir(parents=True, exist_ok=True)
                write_durably(target / place / name, data)
                written[place] += 1
        except OSError:
            raise SettingsError(
                "the folder cannot be written to; what is there already is whole",
                "impossible d'écrire dans ce dossier ; ce qui s'y trouve déjà est entier",
            ) from None
    refused = written.pop(REFUSED, 0)
    lines = [
        t(f"{place} : {count} → {target / place}", f"{place}: {count} → {target / place}")
        for place, count in sorted(written.items())
    ]
    if refused:
        lines.append(
            t(
                f"Refus signés par d'autres domaines : {refused} → {target / REFUSED}",
                f"Refusals that other domains have signed: {refused} → {target / REFUSED}",
            )
        )
    if not lines:
        lines = [t("Aucune preuve n'est encore gardée.", "No proof is kept yet.")]
    else:
        lines.append(
            t(
                "Qui vérifie un domaine prend son dossier : umuhuza audit verify … --held",
                "Whoever audits a domain takes its folder: umuhuza audit verify … --held",
            )
        )
    result(
        {"ok": True, "folder": str(target), "proofs": dict(sorted(written.items())), "refusals": refused},
        as_json=as_json,
        lines=lines,
    )


def add_to(app: typer.Typer) -> None:
    """Set it beside the commands of `umuhuza agency`."""
    if not any(one.callback is proofs for one in app.registered_commands):
        app.command(
            "proofs",
            help=t(
                "Écrit les preuves gardées ici (promesses, reçus, refus signés), pour qui vérifie un domaine.",
                "Write the proofs kept here (promises, receipts, signed refusals), for whoever audits a domain.",
            ),
        )(proofs)
