# SPDX-License-Identifier: Apache-2.0
"""What is overdue, in words: for `umuhuza agency outbox` and for the adapter's log. Nobody is named here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from adapters.connectors.contract import Escalation
from adapters.deadlines import Alarm
from adapters.mailbox_rows import Outgoing
from umuhuza.words import clock_words, t


def alarm_words(alarm: Alarm | Escalation, telephones: Mapping[str, str] = MappingProxyType({})) -> str:
    """One line: what is wrong, since when, and what to do.

    Args:
        telephones: agency -> the number to call.
    """
    at, peer = clock_words(alarm.due_at), alarm.peer
    if peer in telephones:
        peer = f"{peer} ({telephones[peer]})"
    match alarm.kind:
        case "half":
            return t(
                f"Pas encore de réponse : la moitié du délai est passée ({at}). Relancez {peer} par téléphone.",
                f"No answer yet: half of the time has passed ({at}). Remind {peer} by telephone.",
            )
        case "overdue":
            return t(
                f"Sans réponse : l'échéance est passée ({at}). Téléphonez à {peer}.",
                f"No answer: the deadline has passed ({at}). Telephone {peer}.",
            )
        case "late-acceptance":
            return t(
                f"Acceptée après l'échéance ({at}) : téléphonez à {peer}, puis confirmez (referral.reopened) "
                "ou révoquez (referral.revoked).",
                f"Accepted after the deadline ({at}): telephone {peer}, then confirm (referral.reopened) or revoke "
                "(referral.revoked).",
            )
        case "not-arrived":
            return t(
                f"Partie, attendue à {at}, et pas d'arrivée signalée. Téléphonez à {peer}.",
                f"She left, was expected at {at}, and no arrival was reported. Telephone {peer}.",
            )
        case "owed":
            return t(
                f"Une personne attend ce que vous détenez sur elle : la moitié du délai est passée ({at}). "
                f"Répondez à {peer} (umuhuza agency access list).",
                f"A person waits for what you hold about her: half of the time has passed ({at}). "
                f"Answer {peer} (umuhuza agency access list).",
            )
        case "owed-overdue":
            return t(
                f"Votre réponse à une personne sur ce que vous détenez d'elle est en retard depuis {at}. "
                f"Répondez aujourd'hui à {peer} (umuhuza agency access list).",
                f"Your answer to a person on what you hold about her is late since {at}. "
                f"Answer {peer} today (umuhuza agency access list).",
            )
        case "answered":
            return t(
                f"Répondu à {peer} : plus rien à faire pour cette demande.",
                f"{peer} has been answered: nothing is left to do for that request.",
            )
        case "unacknowledged":
            return t(
                f"Dans le journal depuis plus d'un jour, et la machine de {peer} ne dit pas l'avoir. Téléphonez.",
                f"In the log for more than a day, and the machine of {peer} does not say that it has it. Telephone.",
            )
        case "undelivered":
            return t(
                f"Jamais remis à {peer}, et son temps dans le journal est passé ({at}). Téléphonez.",
                f"Never delivered to {peer}, and its time in the log is over ({at}). Telephone.",
            )
        case "held-abroad":
            return t(
                f"L'autre pays ne le prend pas pour l'instant (su le {at}) ; il attend chez nous et part dès que c'est "
                f"réglé. Prévenez le point focal ; ce qui presse : téléphonez à {peer}.",
                f"The other country does not take it for now (known since {at}); it waits with us, and goes as soon as "
                f"that is settled. Tell the focal point; what is urgent: telephone {peer}.",
            )
        case "refused-abroad":
            return t(
                f"Refusé par l'autre pays (su le {at}), n'arrivera pas. Corrigez et renvoyez, ou téléphonez à {peer}.",
                f"Refused by the other country (known since {at}), will not arrive. Correct it and send it again, or "
                f"telephone {peer}.",
            )
        case "cut-off":
            return t(
                f"La passerelle ne répond plus depuis {at} : rien ne part, rien n'arrive. Ce qui presse : par "
                "téléphone. Prévenez qui tient la passerelle.",
                f"The gateway has not answered since {at}: nothing leaves, nothing arrives. What is urgent: by "
                "telephone. Tell whoever keeps the gateway.",
            )
        case "telephone":
            return t(
                f"{peer} : rien vu depuis {at}, et quelque chose l'attend. Téléphonez.",
                f"{peer}: nothing seen since {at}, and something waits there. Telephone.",
            )


def alarm_json(alarm: Alarm, telephones: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    return {
        "kind": alarm.kind,
        "peer": alarm.peer or None,
        "thread": alarm.thread or None,
        "evt": alarm.evt or None,
        "due_at": alarm.due_at,
        "telephone": telephones.get(alarm.peer),
        "words": alarm_words(alarm, telephones),
    }


def of_item(alarms: Sequence[Alarm], item: Outgoing) -> list[Alarm]:
    """What is wrong with one outgoing event: each alarm stands beside the event that it is about."""
    return [alarm for alarm in alarms if alarm.evt == item.evt]
