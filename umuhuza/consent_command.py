# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency consents|withdraw|link|children|ticket`: what a person agreed to, her withdrawal, children, her card.

Shown to this agency's own people, by its own references; never a name, since none is kept in the clear.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.consent_book import ConsentBook, Due, Holder, Told, Withdrawal
from adapters.consents import Consents
from adapters.outbox import Outbox
from adapters.ticket_card import MOST_CONTACT, card, grouped
from schemas.keys import RandomBytes
from schemas.lifecycle import state_label
from schemas.page_words import PageLanguage, words_for
from schemas.plain.consent import WithdrawalScope
from topics.durable_file import replace_file
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.options import Folder, Json
from umuhuza.words import advice_for, day_and_time, entries, language, result, say, t

Person = Annotated[
    str, typer.Option("--person", help=t("Référence de la personne dans cette agence.", "This agency's reference."))
]

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: no letter that is taken for a digit on paper or on the telephone."""
_MISREAD = str.maketrans("ILO", "110")
CODE_LENGTH = 12
"""60 random bits."""


def _unread() -> str:
    return t(
        "Ce qui a été lu ne peut pas redevenir non lu : un retrait arrête la suite, il n'efface aucune mémoire.",
        "What was read cannot be unread: a withdrawal stops what comes next, it takes nothing out of anybody's memory.",
    )


def _day(at: int | None) -> str:
    return "–" if at is None else day_and_time(at)


def _scope(scope: WithdrawalScope) -> str:
    return {
        "sharing": t(
            "partage : rien de nouveau ne part, l'accompagnement en cours continue",
            "sharing: nothing new leaves, a running service continues",
        ),
        "service": t("service : l'accompagnement s'arrête aussi", "service: the service ends too"),
    }[scope]


def _basis(holder: Holder) -> str:
    if holder.state is not None:
        return state_label("consent", holder.state, language())
    words = {
        "legal-duty": t("Obligation légale, sans consentement", "Legal duty, without consent"),
        "vital-interests": t("Intérêts vitaux, sans consentement", "Vital interests, without consent"),
    }
    return words.get(holder.basis, holder.basis)


def _confirmed(parts: AgencyParts, told: Told) -> tuple[str, str]:
    """(code for programs, words) of how far a holder is with a withdrawal."""
    if told.evt is None:
        code = told.code or "not_permitted"
        return "unreachable", t(f"n'a pas pu être prévenu ({code})", f"could not be told ({code})")
    if told.confirmed_at is not None:
        more = told.onward or 0
        return "confirmed", t(
            f"confirmé le {_day(told.confirmed_at)}, avec {more} autre(s) après lui",
            f"confirmed on {_day(told.confirmed_at)}, with {more} more behind it",
        )
    item = parts.mailbox.outgoing(told.evt)
    state = "waiting" if item is None else item.state
    return state, state_label("outgoing", state, language()) + t(" ; confirmation attendue", "; confirmation awaited")


def consents(
    folder: Folder,
    person: Annotated[str | None, typer.Option("--person", help=t("Une seule personne.", "One person only."))] = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        book, now = ConsentBook(parts.mailbox), int(parts.now())
        holders = book.holders(now, person)
        withdrawals = [one for one in book.withdrawals() if person is None or one.person == person]
        held_up = [one for one in withdrawals if not one.passed_on]
        due = [one for one in book.representatives_due() if person is None or one.person == person]
        if as_json:
            result(
                {
                    "ok": True,
                    "holders": [_holder_json(one) for one in holders],
                    "withdrawals": [_withdrawal_json(parts, book, one) for one in withdrawals],
                    "to_link": [one.thread for one in held_up],
                    "representatives_due": [_due_json(one, now) for one in due],
                },
                as_json=True,
            )
            return
        entries(
            t("Qui détient ce que nous avons partagé", "Who holds what we have shared"),
            [
                (
                    f"{one.person or t('(non reliée)', '(not linked)')} → {one.peer}   {one.thread[:8]}",
                    [
                        _basis(one),
                        *(
                            [t(f"jusqu'au {_day(one.expires_at)}", f"until {_day(one.expires_at)}")]
                            if one.state
                            else []
                        ),
                        *_assent(one),
                    ],
                )
                for one in holders
            ],
        )
        if withdrawals:
            entries(
                t("Retraits", "Withdrawals"),
                [
                    (
                        f"{_day(one.at)}  {one.person or t('(non reliée)', '(not linked)')}   {_scope(one.scope)}",
                        [f"{each.peer} : {_confirmed(parts, each)[1]}" for each in book.told(one.n)]
                        or [t("Personne d'autre à prévenir.", "Nobody else to tell.")],
                    )
                    for one in withdrawals
                ],
            )
            say(_unread())
        for one in held_up:
            say(
                t(
                    f"Échange {one.thread} : un retrait attend. De qui s'agit-il ici ? "
                    f"umuhuza agency link --dir {folder} --thread {one.thread} --person RÉFÉRENCE",
                    f"Thread {one.thread}: a withdrawal waits. Whom is it about here? "
                    f"umuhuza agency link --dir {folder} --thread {one.thread} --person REFERENCE",
                )
            )
        if due:
            _show_due(due, now)


def _assent(one: Holder) -> list[str]:
    words = {
        "assent": t("l'enfant est d'accord", "the child agrees"),
        "dissent": t("l'enfant n'est pas d'accord", "the child does not agree"),
        "not-asked": t("l'avis de l'enfant n'a pas été demandé", "the child has not been asked"),
    }
    return [] if one.child_assent is None else [words[one.child_assent]]


def _holder_json(one: Holder) -> dict[str, Any]:
    return {
        "person": one.person,
        "thread": one.thread,
        "to": one.peer,
        "basis": one.basis,
        "state": one.state,
        "given_at": one.given_at,
        "expires_at": one.expires_at,
        "scope": list(one.scope),
        "child_assent": one.child_assent,
    }


def _withdrawal_json(parts: AgencyParts, book: ConsentBook, one: Withdrawal) -> dict[str, Any]:
    told = book.told(one.n)
    return {
        "person": one.person,
        "scope": one.scope,
        "at": one.at,
        "thread": one.thread,
        "complete": one.passed_on and all(each.confirmed_at is not None for each in told),
        "told": [
            {
                "to": each.peer,
                "thread": each.thread,
                "evt": each.evt,
                "scope": each.scope,
                "state": _confirmed(parts, each)[0],
                "confirmed_at": each.confirmed_at,
                "onward": each.onward,
            }
            for each in told
        ],
    }


def withdraw(
    folder: Folder,
    person: Person,
    scope: Annotated[
        WithdrawalScope,
        typer.Option(
            help=t(
                "sharing : plus rien de nouveau ne part, l'accompagnement continue ; service : il s'arrête aussi.",
                "sharing: nothing new is shared, the service continues; service: it ends too.",
            )
        ),
    ],
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        _known(parts, person)
        found = Consents(parts.desk, Outbox(parts.desk))
        done = found.withdraw(person, scope)
        [noted] = found.book.withdrawals("withdrawal.n = ?", done.number)
        told = [(each, _confirmed(parts, each)[1]) for each in done.told]
        value = {"ok": True, **_withdrawal_json(parts, found.book, noted), "taken_back": list(done.taken_back)}
        value["stopped"] = list(done.stopped)
    result(
        value,
        as_json=as_json,
        lines=[
            t(f"Retrait noté pour {person} : {_scope(scope)}.", f"Withdrawal noted for {person}: {_scope(scope)}."),
            *(f"  {each.peer} : {words}" for each, words in told),
            *(
                [
                    t(
                        f"{len(done.taken_back)} envoi(s) retiré(s) avant leur départ.",
                        f"{len(done.taken_back)} item(s) taken back before they left.",
                    )
                ]
                if done.taken_back
                else []
            ),
            *(
                [
                    t(
                        f"{len(done.stopped)} envoi(s) signé(s) arrêté(s) ; si le réseau en avait déjà emporté, leur "
                        "destinataire sera prévenu du retrait.",
                        f"{len(done.stopped)} signed item(s) stopped; if the network had taken one already, its "
                        "recipient will be told of the withdrawal.",
                    )
                ]
                if done.stopped
                else []
            ),
            *([] if told else [t("Personne d'autre à prévenir.", "Nobody else to tell.")]),
            _unread(),
            t(
                "« umuhuza agency run » prévient ; « umuhuza agency consents » montre qui a confirmé. "
                "En danger immédiat, téléphonez aussi.",
                "`umuhuza agency run` tells them; `umuhuza agency consents` shows who has confirmed. "
                "In immediate danger, telephone too.",
            ),
        ],
    )


def _known(parts: AgencyParts, person: str) -> None:
    if not ConsentBook(parts.mailbox).knows(person):
        raise typer.BadParameter(
            t("aucun envoi sous cette référence", "nothing was sent under this reference"), param_hint="--person"
        )


def link(
    folder: Folder,
    thread: Annotated[str, typer.Option(help=t("Échange, tel que « inbox --json » le montre.", "The thread's id."))],
    person: Person,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        if parts.mailbox.thread(thread) is None:
            raise typer.BadParameter(t("aucun échange de ce nom", "no such thread"), param_hint="--thread")
        Consents(parts.desk, Outbox(parts.desk)).link(thread, person)
    result(
        {"ok": True, "thread": thread, "person": person},
        as_json=as_json,
        lines=[t(f"Relié à {person}.", f"Linked to {person}.")],
    )


def children(
    folder: Folder,
    appointed: Annotated[
        str | None,
        typer.Option(
            help=t("Référence : un représentant est désigné.", "Reference: a representative has been appointed.")
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        book, now = ConsentBook(parts.mailbox), int(parts.now())
        if appointed is not None and not book.appoint(appointed, now):
            _known(parts, appointed)
        due = book.representatives_due()
    if as_json:
        result({"ok": True, "representatives_due": [_due_json(one, now) for one in due]}, as_json=True)
    else:
        _show_due(due, now)


def _show_due(due: list[Due], now: int) -> None:
    entries(
        t("Représentant à désigner", "Representative to appoint"),
        [
            (
                f"{one.person or t('(non reliée)', '(not linked)')}   {one.peer}   {one.thread[:8]}",
                [
                    t(f"EN RETARD depuis le {_day(one.due_at)}", f"OVERDUE since {_day(one.due_at)}")
                    if one.due_at <= now
                    else t(f"avant le {_day(one.due_at)}", f"by {_day(one.due_at)}")
                ],
            )
            for one in due
        ],
    )
    if any(one.due_at <= now for one in due):
        say(advice_for("safeguard_missing"))


def _due_json(one: Due, now: int) -> dict[str, Any]:
    return {
        "person": one.person,
        "thread": one.thread,
        "agency": one.peer,
        "due_at": one.due_at,
        "overdue": one.due_at <= now,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Tickets


def new_code(random: RandomBytes) -> str:
    """The code of a card: random, so it says nothing and joins nothing."""
    number = int.from_bytes(random(8), "big")
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in range(CODE_LENGTH))


def read_code(text: str) -> str:
    """A code as somebody reads it out: any case, with or without hyphens and spaces, I and L for 1, O for 0."""
    return "".join(one for one in text.upper().translate(_MISREAD) if one in _ALPHABET)


def ticket(
    folder: Folder,
    person: Annotated[
        str | None,
        typer.Option(help=t("Référence de la personne dans cette agence.", "This agency's reference.")),
    ] = None,
    out: Annotated[Path | None, typer.Option(help=t("Fichier HTML à écrire.", "HTML file to write."))] = None,
    contact: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Ligne imprimée sous le numéro, un téléphone neutre ; rien par défaut.",
                "A line under the number, a neutral telephone; nothing by default.",
            )
        ),
    ] = None,
    in_language: Annotated[
        PageLanguage,
        typer.Option(
            "--language",
            help=t(
                "Langue de la personne. ar : brouillon, marqué ; rn : en français, à lire avec un interprète.",
                "The person's language. ar: a draft, marked; rn: in French, to be read with an interpreter.",
            ),
        ),
    ] = "fr",
    find: Annotated[
        str | None, typer.Option(help=t("Numéro d'une carte : à qui est-elle ?", "A card's number: whose is it?"))
    ] = None,
    as_json: Json = False,
) -> None:
    if find is not None:
        _find(folder, find, as_json)
        return
    if person is None or out is None:
        raise typer.BadParameter(t("--person et --out, ou --find", "--person and --out, or --find"))
    if contact is not None and len(contact) > MOST_CONTACT:
        raise typer.BadParameter(
            t(f"{MOST_CONTACT} caractères au plus", f"{MOST_CONTACT} characters at most"), param_hint="--contact"
        )
    with opened_agency(folder) as parts:
        _known(parts, person)
        code = ConsentBook(parts.mailbox).ticket(person, new_code(os.urandom), int(parts.now()))
    if code is None:
        raise typer.Exit(1)
    replace_file(out, card(code, contact, in_language).encode("utf-8"), 0o600)
    result(
        {"ok": True, "file": str(out), "code": grouped(code)},
        as_json=as_json,
        lines=[
            t(
                f"Carte écrite : {out}. Imprimez-la, donnez-la, effacez le fichier.",
                f"Card written: {out}. Print it, hand it over, delete the file.",
            ),
            t(
                "Demandez-lui d'abord si elle peut la garder sans danger.",
                "First ask her whether she can keep it without danger.",
            ),
            *_unreviewed(in_language),
        ],
    )


def _unreviewed(language: PageLanguage) -> list[str]:
    """What whoever hands the card over has to know of its language."""
    found = words_for(language)
    if found.language != language:
        return [
            t(
                "Pas encore de texte relu dans cette langue : la carte est en français. Lisez-la avec un interprète.",
                "No reviewed text in this language yet: the card is in French. Read it to her with an interpreter.",
            )
        ]
    if found.draft:
        return [
            t(
                "Le texte dans cette langue est un brouillon pas encore relu, et la carte le dit.",
                "The text in this language is a draft that nobody has reviewed, and the card says so.",
            )
        ]
    return []


def _find(folder: Path, text: str, as_json: bool) -> None:
    with opened_agency(folder) as parts:
        person = ConsentBook(parts.mailbox).person_of(read_code(text))
    result(
        {"ok": person is not None, "person": person},
        as_json=as_json,
        lines=[
            person
            if person is not None
            else t(
                "Cette agence n'a pas donné cette carte. Seule celle qui l'a donnée peut la lire.",
                "This agency did not give that card. Only the one that gave it can read it.",
            )
        ],
    )
    if person is None:
        raise typer.Exit(1)


def add_to(app: typer.Typer) -> None:
    """Set these commands beside those of `umuhuza agency`. Harmless when they are there."""
    if any(one.callback is consents for one in app.registered_commands):
        return
    app.command(
        help=t(
            "Ce à quoi chaque personne a consenti, envers qui ; les retraits et leurs confirmations.",
            "What each person has consented to, towards whom; withdrawals and their confirmations.",
        )
    )(consents)
    app.command(
        help=t(
            "Une personne retire son consentement : tous ceux qui détiennent quelque chose d'elle sont prévenus.",
            "A person withdraws her consent: everybody who holds something of her is told.",
        )
    )(withdraw)
    app.command(
        help=t(
            "Relie un échange reçu à une personne de cette agence.",
            "Link a thread that arrived to a person of this agency.",
        )
    )(link)
    app.command(
        help=t(
            "Enfants pour qui un représentant doit être désigné (72 h), et ceux pour qui c'est fait.",
            "Children for whom a representative is due (72 h); says that one was appointed.",
        )
    )(children)
    app.command(
        help=t(
            "Carte neutre à imprimer ; son numéro ne mène à la personne qu'ici.",
            "A neutral card to print; its number leads to the person here only.",
        )
    )(ticket)
