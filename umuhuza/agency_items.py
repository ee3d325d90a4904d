# SPDX-License-Identifier: Apache-2.0
"""What `umuhuza agency inbox` and `outbox` say of an item: how far machines and people are, and what is proven.

Must never: show a name, a case number or a place; only what a mailbox knows of a record beside its content.
"""

from __future__ import annotations

from typing import Any

from adapters.crossed_book import Abroad, CrossedBook
from adapters.mailbox_rows import CARRIED, NOT_TAKEN, Incoming, Outgoing
from adapters.receipt_book import ReceiptBook
from adapters.receipts_abroad import ReceiptsAbroad
from schemas.lifecycle import state_label
from topics.ledger_entries import GOOD_KINDS
from topics.receipts import Kept
from umuhuza.agency import AgencyParts
from umuhuza.words import advice_for, clock_words, language, t


def going_words(parts: AgencyParts, item: Outgoing) -> list[str]:
    """What machines did with the item, and what people have answered so far."""
    machine = state_label("outgoing", item.state, language()) + (f" ({item.code})" if item.code else "")
    people = _thread_words(parts, item.thread)
    abroad = CrossedBook(parts.mailbox).of(item.evt)
    receipt = ReceiptBook(parts.mailbox).of(item.evt)
    theirs = ReceiptsAbroad(parts.mailbox).of(item.evt)
    if item.state == "delivered" and people:
        machine = t("Arrivé sur l'ordinateur du destinataire", "Arrived on the recipient's computer")
    if item.state == "promised" and item.topic[:3] != f"{parts.settings.domain}.":
        machine = _over_the_border(abroad, theirs, item.peer.partition("/")[0])
    elif item.state == "refused" and abroad is not None and abroad.state == "refused":
        machine = t(
            f"Refusé par l'autre domaine ({abroad.domain}), preuve gardée ({item.code})",
            f"Refused by the other domain ({abroad.domain}), proof kept ({item.code})",
        )
    elif theirs is not None and _stands(theirs) and receipt is not None and receipt.final and receipt.kind == "event":
        machine += t(", inscrit des deux côtés, preuves gardées", ", logged on both sides, proofs kept")
    elif theirs is not None and _stands(theirs):
        machine += t(", inscrit de l'autre côté, preuve gardée", ", logged on the other side, proof kept")
    elif receipt is not None and receipt.final and receipt.kind == "event":
        machine += t(", preuve gardée", ", proof kept")
    broken = [] if theirs is None else _broken(theirs, item.peer.partition("/")[0])
    return [machine, *broken, *([t("Où en est-on : ", "Where it stands: ") + people] if people else [])]


def _over_the_border(abroad: Abroad | None, receipt: Kept | None, domain: str) -> str:
    """How far what we sent over a border is, before its reader's machine has said anything."""
    if abroad is None:
        return t(f"Inscrit ici ; pas encore pris en charge ({domain})", f"Logged here; not taken in yet ({domain})")
    if abroad.state == "unsigned" or abroad.at is None:
        return t(
            f"Inscrit ici ; le pont dit, sans signature de l'autre domaine ({domain}), qu'il est refusé "
            f"({abroad.code})",
            f"Logged here; the bridge says, without the other domain's ({domain}) signature, that it is refused "
            f"({abroad.code})",
        )
    if abroad.state == "waiting":
        return t(
            f"Inscrit ici ; l'autre domaine ({domain}) ne le prend pas pour l'instant ({abroad.code}) : il attend",
            f"Logged here; the other domain ({domain}) does not take it for now ({abroad.code}): it waits",
        )
    when = clock_words(abroad.at)
    if receipt is not None and _stands(receipt):
        return t(
            f"Inscrit de l'autre côté ({domain}), promis le {when}, preuve gardée",
            f"Logged on the other side ({domain}), promised on {when}, proof kept",
        )
    return t(
        f"Pris en charge de l'autre côté ({domain}) le {when}, promesse gardée",
        f"Taken in on the other side ({domain}) on {when}, promise kept",
    )


def arrived_words(item: Incoming) -> str:
    """How far what arrived is on this machine."""
    words = {
        "held": t("en attente", "held"),
        "gathering": t("pièces jointes en chemin", "attachments on their way"),
        "ready": t("à remettre", "to hand over"),
        "delivered": t("remis", "handed over"),
        "quarantined": t("en quarantaine", "quarantined"),
        "erased": t("effacé", "erased"),
    }
    return words[item.state] + (f" ({item.code})" if item.code else "") + _marks(item)


def _marks(item: Incoming) -> str:
    late = t(", tardif", ", late") if item.late else ""
    if item.log.startswith(CARRIED):
        return late + t(", par clé USB, pas encore journalisé", ", by stick, not logged yet")
    if item.log.startswith(NOT_TAKEN):
        return late + t(", par clé USB, refusé par le journal", ", by stick, refused by the log")
    return late


def _thread_words(parts: AgencyParts, thread: str) -> str:
    found = parts.mailbox.thread(thread)
    return "" if found is None else state_label(found.machine, found.state, language())


def incoming_json(parts: AgencyParts, item: Incoming) -> dict[str, Any]:
    """One item of `inbox --json`; `at_ms`: milliseconds since the epoch, by the log."""
    found = parts.mailbox.thread(item.thread)
    return {
        "ident": item.ident,
        "from": item.iss,
        "type": item.type,
        "thread": item.thread,
        "ref": item.ref,
        "at_ms": item.at_ms,
        "state": item.state,
        "thread_state": None if found is None else found.state,
        "late": item.late,
        "logged": not item.log.startswith((CARRIED, NOT_TAKEN)),
        "code": item.code,
        "path": item.path,
    }


def _stands(receipt: Kept) -> bool:
    """Whether that ledger has shown that it has the record, and has not refused it."""
    return receipt.kind in GOOD_KINDS and receipt.level != "contradicted"


def _broken(receipt: Kept, domain: str) -> list[str]:
    """What another domain's ledger says against what its gateway has promised, or against the record."""
    if receipt.level == "contradicted":
        return [
            t(
                f"Le registre de preuve de l'autre domaine ({domain}) dément sa promesse : prévenez l'exploitant",
                f"The other domain's ledger ({domain}) contradicts its promise: tell the operator",
            )
        ]
    if receipt.kind == "reject":
        return [
            t(
                f"Le registre de preuve de l'autre domaine ({domain}) l'a rejeté : personne ne le lira ; téléphonez",
                f"The other domain's ledger ({domain}) has rejected it: nobody will read it; telephone",
            )
        ]
    return []


def _abroad_json(abroad: Abroad, receipt: Kept | None) -> dict[str, Any]:
    return {
        "domain": abroad.domain,
        "state": abroad.state,
        "signed": abroad.at is not None,
        "offset": abroad.offset,
        "at": abroad.at,
        "receipt": None if receipt is None else receipt.level,
        "entry": None if receipt is None else receipt.kind,
        "code": abroad.code,
        "path": abroad.path,
        "advice": advice_for(abroad.code) or None,
    }


def outgoing_json(parts: AgencyParts, item: Outgoing) -> dict[str, Any]:
    """One item of `outbox --json`."""
    found = parts.mailbox.thread(item.thread)
    receipt = ReceiptBook(parts.mailbox).of(item.evt)
    abroad = CrossedBook(parts.mailbox).of(item.evt)
    return {
        "evt": item.evt,
        "to": item.peer,
        "type": item.type,
        "thread": item.thread,
        "line": item.line,
        "state": item.state,
        "thread_state": None if found is None else found.state,
        "seq": item.seq,
        "offset": item.log_offset,
        "receipt": None if receipt is None else receipt.level,
        "abroad": None if abroad is None else _abroad_json(abroad, ReceiptsAbroad(parts.mailbox).of(item.evt)),
        "attempts": item.attempts,
        "code": item.code,
        "path": item.path,
        "advice": advice_for(item.code) or None,
    }
