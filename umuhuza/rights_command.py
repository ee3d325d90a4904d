# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency retract | erase | erasures | disclosures | disclose | refuse-disclosure | disclosed | reviews |
review`.

What should not stand is taken back, what a court asks for is given part by part, and what was done without consent is
looked at by somebody. Commands put records into the outbox; a running adapter sends them.

Must never: show what an opened part says but in the file that was asked for, mode 0600.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from adapters.corrections import Corrections, Ground, Reason
from adapters.disclosures import Disclosures, readable
from adapters.erasure_proofs import CommandedErasure, ErasureProofs
from adapters.outbox import Outbox
from adapters.rights_book import OUTCOMES, ROLES, Outcome, Review, ReviewRole
from schemas.errors import SourceError
from schemas.forms import validated
from schemas.plain.rights import DisclosureRefused
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.options import Folder, Json, one_of, outgoing_named
from umuhuza.words import choices, day_and_time, entries, result, t

Thread = Annotated[
    str, typer.Argument(help=t("Échange donné par « disclosures ».", "The thread that `disclosures` shows."))
]
Record = Annotated[
    str,
    typer.Argument(
        help=t(
            "L'enregistrement, agence/evt : bi/iom/0192… (« ident » dans « inbox --json »).",
            "The record, agency/evt: bi/iom/0192… (`ident` in `inbox --json`).",
        )
    ),
]
_REASONS = {
    "wrong-recipient": ("à la mauvaise agence", "to the wrong agency"),
    "wrong-person": ("sur la mauvaise personne", "about the wrong person"),
    "sent-by-mistake": ("parti par erreur", "left by mistake"),
    "not-permitted": ("n'aurait pas dû être partagé", "should not have been shared"),
}
_GROUNDS = {
    "person": ("elle le demande", "she asks for it"),
    "retracted": ("envoi retiré", "it was retracted"),
    "cleared": ("l'alerte est levée", "the alert is over"),
    "retention": ("durée de conservation passée", "it was kept long enough"),
    "order": ("par décision", "by an order"),
}
_REFUSALS = {
    "not-held": ("nous ne l'avons pas", "we do not hold it"),
    "erased": ("effacé", "erased"),
    "no-order": ("pas de décision", "no order"),
    "wider-than-order": ("plus large que la décision", "wider than the order"),
    "not-competent": ("autorité non compétente", "not competent"),
    "too-large": ("trop volumineux", "too large"),
    "other": ("autre raison", "another reason"),
}
_ROLES = {
    "supervisor": ("responsable", "supervisor"),
    "data-protection": ("protection des données", "data protection"),
    "coordination": ("coordination", "coordination"),
    "judge": ("juge", "judge"),
}
_OUTCOMES = {
    "upheld": ("c'était fondé", "it was right"),
    "not-upheld": ("ce ne l'était pas ; une communication se termine", "it was not; a disclosure ends"),
}
_KINDS = {
    "break-glass": ("Partagé sans consentement", "Shared without consent"),
    "disclosure": ("Communiqué à une autorité", "Disclosed to an authority"),
    "incident": ("Envoyé par erreur", "Sent by mistake"),
}
_UNREAD = (
    "Ce qui a été lu ne peut pas être désappris ; sauvegardes et papier restent à détruire par des personnes.",
    "What was read cannot be unread; backups and paper remain for people to destroy.",
)


def _corrections(parts: AgencyParts) -> Corrections:
    return Corrections(parts.desk, Outbox(parts.desk))


def _disclosures(parts: AgencyParts) -> Disclosures:
    return _corrections(parts).disclosures


def retract(
    evt: Annotated[str, typer.Argument(help=t("Identifiant donné par « outbox ».", "The id that `outbox` shows."))],
    folder: Folder,
    reason: Annotated[str, typer.Option(help=choices(_REASONS))] = "wrong-recipient",
    as_json: Json = False,
) -> None:
    one_of(reason, get_args(Reason), "--reason")
    with opened_agency(folder) as parts:
        wanted = next(one for one in get_args(Reason) if one == reason)
        known = outgoing_named(parts, evt).evt
        done = _corrections(parts).retract(known, wanted)
    words = {
        "cancelled": ("Retiré avant le départ : personne ne l'a reçu.", "Taken back before it left: nobody got it."),
        "retracted": (
            "Retrait et effacement demandés. Téléphonez aussi au destinataire.",
            "Retraction and erasure asked for. Telephone the recipient as well.",
        ),
    }
    lines = [t(*words[done])] + ([t(*_UNREAD)] if done == "retracted" else [])
    result({"ok": True, "evt": known, "done": done}, as_json=as_json, lines=lines)


def erase(
    record: Record,
    folder: Folder,
    ground: Annotated[str, typer.Option(help=choices(_GROUNDS))] = "person",
    as_json: Json = False,
) -> None:
    one_of(ground, get_args(Ground), "--ground")
    with opened_agency(folder) as parts:
        wanted = next(one for one in get_args(Ground) if one == ground)
        evt = _corrections(parts).erase(record, wanted)
    lines = [
        t(
            "Effacement demandé ; l'attestation dira ce qui y est effacé et ce qu'une personne doit encore y faire.",
            "Erasure asked for; the attestation will say what is erased there and what a person must still do.",
        ),
        t(*_UNREAD),
    ]
    result({"ok": True, "record": record, "evt": evt}, as_json=as_json, lines=lines)


_SEEN = {
    "logged": ("signé par le registre de preuve", "signed by the ledger"),
    "own": ("vu par un témoin de son domaine", "seen by a witness of its own domain"),
    "foreign": ("vu par un témoin d'un autre domaine", "seen by another domain's witness"),
}


def erasures(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        found, asks = ErasureProofs(parts.mailbox).commanded(), parts.settings.trust is not None
    if as_json:
        rows = [
            {
                "evt": one.evt,
                "records": list(one.records),
                "to": one.peer,
                "at": one.at,
                "state": _executed(one),
                "code": one.code,
                "ledger": None if one.proof is None else {"index": one.proof.index, "seen": one.proof.level},
            }
            for one in found
        ]
        result({"ok": True, "asks_for_proof": asks, "erasures": rows}, as_json=True)
        return
    entries(
        t("Effacements que nous avons ordonnés", "Erasures that we have commanded"),
        [
            (f"{one.evt[-12:]}  {day_and_time(one.at)}  → {one.peer}", [*_how_far(one, asks), *one.records])
            for one in found
        ],
    )


def _executed(one: CommandedErasure) -> str:
    if one.proof is not None:
        return "executed"
    if one.state in ("refused", "cancelled"):
        return one.state
    return "waiting" if one.state in ("waiting", "signed") else "commanded"


def _how_far(one: CommandedErasure, asks: bool) -> list[str]:
    if one.proof is not None:
        words = t(
            f"Exécuté, prouvé par l'entrée {one.proof.index} du registre de preuve",
            f"Executed, proven by entry {one.proof.index} of the ledger",
        )
        return [f"{words} ({t(*_SEEN[one.proof.level])})"]
    if one.code is not None:
        return [t("Refusé", "Refused") + f" ({one.code})"]
    told = {
        "waiting": t("Pas encore parti", "Not sent yet"),
        "cancelled": t("Annulé avant le départ", "Cancelled before it left"),
        "commanded": t(
            "Ordonné ; le registre de preuve ne l'a pas encore dit exécuté",
            "Commanded; the ledger has not called it executed yet",
        ),
    }
    lines = [told.get(_executed(one), t("Refusé", "Refused"))]
    if not asks:
        lines.append(
            t(
                "Sans le réglage « trust », aucune preuve n'est demandée.",
                "Without the setting `trust` no proof is asked for.",
            )
        )
    return lines


def disclosures(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        waiting, given = _disclosures(parts).asked(), _disclosures(parts).book.disclosures()
    if as_json:
        asked = [
            {
                "thread": one.thread,
                "from": one.peer,
                "scope": one.said.scope,
                "expires_at": one.said.expires_at.isoformat(),
                "record": one.said.record,
            }
            for one in waiting
        ]
        rows = [
            {
                "record": one.ident,
                "disclosure": one.by,
                "peer": one.peer,
                "given": one.ours,
                "expires_at": one.expires_at,
                "ended": one.ended,
            }
            for one in given
        ]
        result({"ok": True, "asked": asked, "disclosures": rows}, as_json=True)
        return
    entries(
        t("Demandes sans réponse", "Requests without an answer"),
        [
            (
                f"{one.thread}  ← {one.peer}",
                [
                    t("Parties : ", "Parts: ") + ", ".join(one.said.scope),
                    t("Décision : ", "Order: ") + one.said.order,
                    t("Jusqu'au ", "Until ") + day_and_time(one.said.expires_at.timestamp()),
                    *([one.said.record] if one.said.record else [one.said.subject or ""]),
                ],
            )
            for one in waiting
        ],
    )
    entries(
        t("Communications", "Disclosures"),
        [
            (
                f"{one.ident}  {'→' if one.ours else '←'} {one.peer}",
                [
                    t("Terminée", "Ended") if one.ended else t("Jusqu'au ", "Until ") + day_and_time(one.expires_at),
                    one.by,
                ],
            )
            for one in given
        ],
    )


def disclose(
    thread: Thread,
    record: Record,
    folder: Folder,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        evt = _disclosures(parts).grant(thread, record)
    lines = [
        t(
            "Les parties demandées partent, et aucune autre. Un rôle désigné doit maintenant réexaminer : « reviews ».",
            "The parts asked for leave, and no other. A named role has to review it now: `reviews`.",
        )
    ]
    result({"ok": True, "evt": evt, "record": record}, as_json=as_json, lines=lines)


def refuse_disclosure(
    thread: Thread,
    folder: Folder,
    reason: Annotated[str, typer.Option(help=choices(_REFUSALS))],
    as_json: Json = False,
) -> None:
    said = validated(DisclosureRefused, {"reason": reason})
    with opened_agency(folder) as parts:
        evt = _disclosures(parts).refuse(thread, said)
    result({"ok": True, "evt": evt}, as_json=as_json, lines=[t("Refus envoyé.", "Refusal sent.")])


def disclosed(
    disclosure: Annotated[
        str,
        typer.Argument(
            help=t("La communication, telle que « disclosures » la donne.", "The disclosure as `disclosures` shows it.")
        ),
    ],
    folder: Folder,
    out: Annotated[Path, typer.Option(help=t("Dossier où écrire les parties (0600).", "Folder for the parts (0600)."))],
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        known = _disclosures(parts).book.disclosure(disclosure)
        ended = known is not None and known.ended
        found = {} if ended else _disclosures(parts).open(disclosure)
    if ended:
        result(
            {"ok": False, "disclosure": disclosure, "ended": True},
            as_json=as_json,
            lines=[t("Cette communication est terminée : ses clés n'existent plus.", "This disclosure has ended.")],
        )
        raise typer.Exit(1)
    written = []
    for name, part in found.items():
        in_words = name in ("identity", "content")  # a part of an attachment is bytes, as they were sealed
        path = out / f"{disclosure.rpartition('/')[2]}.{name}.{'json' if in_words else 'part'}"
        try:
            out.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(readable(part).encode("utf-8") if in_words else part)
        except FileExistsError:
            raise SourceError("row_invalid", "out", expected=t("un dossier sans ce fichier", "no such file")) from None
        written.append(str(path))
    result({"ok": True, "files": written}, as_json=as_json, lines=[t("Écrit : ", "Written: ") + one for one in written])


def reviews(
    folder: Folder,
    all_: Annotated[bool, typer.Option("--all", help=t("Aussi ce qui est réexaminé.", "Also what is done."))] = False,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        found = _disclosures(parts).book.reviews(open_only=not all_)
    if as_json:
        result({"ok": True, "reviews": [_row(one) for one in found]}, as_json=True)
        return
    entries(
        t("À réexaminer par un rôle désigné", "For a named role to review"),
        [
            (
                f"{one.n}  {day_and_time(one.at)}  {t(*_KINDS[one.kind])}",
                [
                    f"{one.ident}  {one.peer}",
                    *([] if one.closed_at is None else [f"{one.role}: {one.outcome}, {day_and_time(one.closed_at)}"]),
                ],
            )
            for one in found
        ],
    )


def _row(one: Review) -> dict[str, Any]:
    return {
        "n": one.n,
        "kind": one.kind,
        "record": one.ident,
        "peer": one.peer,
        "at": one.at,
        "closed_at": one.closed_at,
        "role": one.role,
        "outcome": one.outcome,
    }


def review(
    number: Annotated[int, typer.Argument(help=t("Numéro donné par « reviews ».", "The number that `reviews` shows."))],
    folder: Folder,
    role: Annotated[str, typer.Option(help=choices(_ROLES))],
    by: Annotated[
        str,
        typer.Option(
            help=t("Nom de qui réexamine ; il ne voyage que scellé.", "Name of who reviews; it travels sealed only.")
        ),
    ],
    outcome: Annotated[str, typer.Option(help=choices(_OUTCOMES))] = "upheld",
    as_json: Json = False,
) -> None:
    one_of(role, ROLES, "--role")
    one_of(outcome, OUTCOMES, "--outcome")
    as_role: ReviewRole = next(one for one in ROLES if one == role)
    as_outcome: Outcome = next(one for one in OUTCOMES if one == outcome)
    with opened_agency(folder) as parts:
        done = _disclosures(parts).review(number, as_role, by, as_outcome)
    lines = [
        t("Réexaminé.", "Reviewed.")
        if done
        else t("Aucune entrée ouverte de ce numéro.", "No open entry of that number.")
    ]
    result({"ok": done, "n": number}, as_json=as_json, lines=lines)
    if not done:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """These commands, beside the others of `umuhuza agency`."""
    for name, command, fr, en in (
        (
            "retract",
            retract,
            "Retire ce qui est parti par erreur : rien ne part plus, et ce qui est arrivé est effacé là-bas.",
            "Take back what was sent by mistake: it leaves no more, and what has arrived is erased there.",
        ),
        (
            "erase",
            erase,
            "Fait effacer un enregistrement des deux côtés ; l'autre l'atteste. La chaîne des preuves reste.",
            "Have a record erased on both sides; the other side attests it. The chain of proofs stays.",
        ),
        (
            "erasures",
            erasures,
            "Les effacements que nous avons ordonnés, et l'entrée du registre de preuve qui les dit exécutés.",
            "The erasures that we commanded, and the ledger's entry that calls them executed.",
        ),
        (
            "disclosures",
            disclosures,
            "Ce qu'une autorité demande par décision, et ce qui a été communiqué, donné ou reçu.",
            "What an authority asks for by order, and what was disclosed, given or received.",
        ),
        (
            "disclose",
            disclose,
            "Communique à une autorité les parties que sa décision demande, et aucune autre.",
            "Give an authority the parts that its order asks for, and no other.",
        ),
        (
            "refuse-disclosure",
            refuse_disclosure,
            "Refuse une communication, avec la raison.",
            "Refuse a disclosure, with the reason.",
        ),
        (
            "disclosed",
            disclosed,
            "Écrit dans un dossier les parties qui nous ont été communiquées.",
            "Write the parts that were disclosed to us into a folder.",
        ),
        (
            "reviews",
            reviews,
            "Ce qu'un rôle désigné doit réexaminer : partagé sans consentement, communiqué, envoyé par erreur.",
            "What a named role has to review: shared without consent, disclosed, sent by mistake.",
        ),
        (
            "review",
            review,
            "Note qu'un rôle désigné a réexaminé une entrée de « reviews ».",
            "Note that a named role has reviewed an entry of `reviews`.",
        ),
    ):
        app.command(name=name, help=t(fr, en))(command)
