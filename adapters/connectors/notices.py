# SPDX-License-Identifier: Apache-2.0
"""What somebody in the office must look at now, where she looks: beside its row in `suivi.xlsx`, and in its own file.

A notice is about time and about nobody: which thread, which of our events, whom to telephone. It stays as long as it is
so: until an answer has come or gone, the late acceptance was dealt with, or the person has arrived.

Invariants: no word of a person, a case or a place stands in a notice; the file is made anew from the journal and goes
when there is nothing to say. Pure.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from adapters.connectors.tracking import Came, Journal, Noticed, day_in_words
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
}
_ARRIVED = frozenset(("movement.arrived", "return.received"))
_HALF_OF: Mapping[str, str] = {"overdue": "half", "owed-overdue": "owed"}
"""The later notice -> the earlier one that it stands for too."""
_NO_ANSWER = frozenset(("referral.received", "information.requested", "consent.acknowledged"))


def standing(journal: Journal, arrived: frozenset[str]) -> list[Noticed]:
    """Those that still are so, in the order in which they fell due.

    Args:
        arrived: threads on which this agency has said itself that she is there.
    """
    came: dict[str, list[Came]] = {}
    for one in journal.came.values():
        came.setdefault(one.thread, []).append(one)
    answered = {(one.thread, one.evt) for one in journal.noticed.values() if one.kind == "answered"}
    found = [
        one
        for one in journal.noticed.values()
        if (one.thread, one.evt) not in answered and _stands(one, came.get(one.thread, []), arrived)
    ]
    worse = {(one.thread, _HALF_OF[one.kind]) for one in found if one.kind in _HALF_OF}
    return sorted((one for one in found if (one.thread, one.kind) not in worse), key=lambda one: (one.due_at, one.kind))


def _stands(notice: Noticed, came: Sequence[Came], arrived: frozenset[str]) -> bool:
    match notice.kind:
        case "not-arrived":
            return notice.thread not in arrived and all(one.type not in _ARRIVED for one in came)
        case "owed" | "owed-overdue":
            return True  # until we have answered
        case "late-acceptance":
            return not came or came[-1].state == "late-acceptance"
        case _:
            return all(one.type in _NO_ANSWER for one in came)


def in_words(notice: Noticed, recipients: Mapping[str, str], zone: datetime.tzinfo | None, language: Language) -> str:
    """One line: since when, what is wrong, whom to telephone."""
    words = _WORDS[notice.kind][0 if language == "fr" else 1]
    return f"{day_in_words(notice.due_at, zone, language)} · {words} {recipients.get(notice.peer, notice.peer)}"


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
