# SPDX-License-Identifier: Apache-2.0
"""What somebody in the office must look at now, where she looks: beside its row in `suivi.xlsx`, and in its own file.

A notice is about time and about nobody: which thread, which of our events, whom to telephone. It stays as long as it is
so: until an answer has come or gone, the late acceptance was dealt with, the person has arrived, or the machine over
there has said that it has the record. Beside them stands who is silent, our own gateway first, with its number.

Invariants: no word of a person, a case or a place stands in a notice; the file is made anew from the journal and goes
when there is nothing to say. Pure.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from adapters.connectors.contract import REFUSED_TOLD_S, LastContact
from adapters.connectors.tracking import Came, Journal, Noticed, day_in_words, moment
from schemas.errors import Language

_WORDS: Mapping[str, tuple[str, str]] = {
    "half": (
        "Pas encore de réponse, la moitié du délai est passée : relancez",
        "No answer at half of the time: remind",
    ),
    "overdue": ("Sans réponse à temps : téléphonez à", "No answer in time: telephone"),
    "late-acceptance": (
        "Acceptée après l'échéance, à confirmer ou à révoquer : téléphonez à",
        "Accepted after the deadline, to be confirmed or revoked: telephone",
    ),
    "not-arrived": (
        "Partie, et pas d'arrivée signalée : téléphonez à",
        "She left, and no arrival was reported: telephone",
    ),
    "owed": (
        "Une personne attend ce que vous détenez sur elle, la moitié du délai est passée : répondez à",
        "A person waits for what you hold about her, half of the time has passed: answer",
    ),
    "owed-overdue": (
        "Votre réponse sur ce que vous détenez d'une personne est en retard : répondez aujourd'hui à",
        "Your answer on what you hold about a person is late: answer today",
    ),
    "unacknowledged": (
        "Dans le journal depuis un jour, et sa machine n'a pas dit l'avoir : téléphonez à",
        "In the log for a day, and the machine there has not said that it has it: telephone",
    ),
    "undelivered": (
        "Jamais remis, et son temps dans le journal est passé : téléphonez à",
        "Never delivered, and its time in the log is over: telephone",
    ),
    "held-abroad": (
        "L'autre pays ne le prend pas pour l'instant, il attend chez nous : prévenez le point focal, téléphonez à",
        "The other country does not take it for now, it waits with us: tell the focal point, telephone",
    ),
    "refused-abroad": (
        "Refusé par l'autre pays, n'arrivera pas : corrigez et renvoyez, ou téléphonez à",
        "Refused by the other country, will not arrive: correct it and send it again, or telephone",
    ),
}
_SILENT = (
    "Aucun signe depuis, et quelque chose l'attend : téléphonez à",
    "Nothing heard since, and something waits there: telephone",
)
_CUT_OFF = (
    "Umuhuza n'atteint plus la passerelle : rien ne part, rien n'arrive. Ce qui presse : par téléphone. Prévenez qui "
    "tient la passerelle",
    "Umuhuza does not reach the gateway any more: nothing leaves, nothing arrives. What is urgent: by telephone. Tell "
    "whoever keeps the gateway",
)
_NO_NUMBER = ("numéro inconnu ici : votre liste sur papier", "no number is known here: your list on paper")
_ARRIVED = frozenset(("movement.arrived", "return.received"))
_HALF_OF: Mapping[str, str] = {"overdue": "half", "owed-overdue": "owed", "undelivered": "unacknowledged"}
"""The later notice -> the earlier one that it stands for too."""
_SETTLED = frozenset(("delivered", "rejected", "refused", "cancelled"))
"""States of an item of ours after which nothing is missing from the machine over there."""
_NO_ANSWER = frozenset(("referral.received", "information.requested", "consent.acknowledged"))


def standing(journal: Journal, arrived: frozenset[str], now: datetime.datetime) -> list[Noticed]:
    """Those that still are so, in the order in which they fell due.

    Args:
        arrived: threads on which this agency has said itself that she is there.
        now: with its zone.
    """
    came: dict[str, list[Came]] = {}
    for one in journal.came.values():
        came.setdefault(one.thread, []).append(one)
    answered = {(one.thread, one.evt) for one in journal.noticed.values() if one.kind == "answered"}
    found = [
        one
        for one in journal.noticed.values()
        if (one.thread, one.evt) not in answered
        and _stands(one, came.get(one.thread, []), arrived, journal.moves.get(one.evt, {}), now)
    ]
    worse = {(one.thread, one.evt, _HALF_OF[one.kind]) for one in found if one.kind in _HALF_OF}
    left = (one for one in found if (one.thread, one.evt, one.kind) not in worse)
    return sorted(left, key=lambda one: (one.due_at, one.kind))


def _stands(
    notice: Noticed, came: Sequence[Came], arrived: frozenset[str], moves: Collection[str], now: datetime.datetime
) -> bool:
    match notice.kind:
        case "unacknowledged" | "undelivered" | "held-abroad":
            return not _SETTLED.intersection(moves)
        case "refused-abroad":
            told = now - datetime.datetime.fromisoformat(notice.due_at)
            return told.total_seconds() < REFUSED_TOLD_S and "delivered" not in moves
        case "not-arrived":
            return notice.thread not in arrived and all(one.type not in _ARRIVED for one in came)
        case "owed" | "owed-overdue":
            return True  # until we have answered
        case "late-acceptance":
            return not came or came[-1].state == "late-acceptance"
        case _:
            return all(one.type in _NO_ANSWER for one in came)


def in_words(
    notice: Noticed,
    recipients: Mapping[str, str],
    zone: datetime.tzinfo | None,
    language: Language,
    telephones: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """One line: since when, what is wrong, whom to telephone, and the number where one is known."""
    words = _WORDS[notice.kind][0 if language == "fr" else 1]
    number = f" ({telephones[notice.peer]})" if notice.peer in telephones else ""
    return f"{day_in_words(notice.due_at, zone, language)} · {words} {recipients.get(notice.peer, notice.peer)}{number}"


def silence_in_words(
    contact: LastContact, recipients: Mapping[str, str], zone: datetime.tzinfo | None, language: Language
) -> str:
    """One line about somebody who is silent (`LastContact.silent_since`): since when, and what to do."""
    word = 0 if language == "fr" else 1
    since = day_in_words(moment(contact.silent_since or 0, zone), zone, language)
    if not contact.agency:
        return f"{since} · {_CUT_OFF[word]}"
    name = recipients.get(contact.agency, contact.agency)
    return f"{since} · {_SILENT[word]} {name} ({contact.telephone or _NO_NUMBER[word]})"


def file_of(lines: Sequence[str], now: datetime.datetime, language: Language) -> bytes:
    """The whole file, for any editor: marked UTF-8, line ends of Windows."""
    made = day_in_words(now.isoformat(), now.tzinfo, language)
    head = (
        f"À TRAITER MAINTENANT (établi le {made})\n\nEn cas de danger immédiat, téléphonez d'abord.\n"
        if language == "fr"
        else f"TO BE DEALT WITH NOW (made {made})\n\nIn immediate danger telephone first.\n"
    )
    text = "\n".join((head, *lines, ""))
    return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode("utf-8")
