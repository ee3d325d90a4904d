# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency status`: whether the way to the domain is open, who is silent, and whom to telephone.

Needs no key, no network and no running adapter: it reads what the adapter has written down. Names nobody but agencies.
"""

from __future__ import annotations

import os
from typing import Any

import typer

from adapters.connectors.contract import LastContact
from adapters.contact_book import ContactBook, Way
from adapters.deadlines import alarms, contacts
from adapters.mail_book import MailBook, MailState
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.options import Folder, Json
from umuhuza.overdue import alarm_json, alarm_words
from umuhuza.words import advice_for, day_and_time, entries, language, result, t

_STALE_S = 15 * 60
"""An adapter that runs writes down how it goes every minute; after so long without a word it does not run."""


def add_to(app: typer.Typer) -> None:
    """Hang the command under `umuhuza agency`."""
    app.command(
        help=t(
            "L'état des lieux : la passerelle, qui se tait depuis quand, qui appeler.",
            "How things stand: the gateway, who has been silent since when, whom to call.",
        )
    )(status)


def status(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        now = parts.now()
        overdue = alarms(parts.mailbox, now, parts.settings.arrival_grace_minutes * 60.0)
        book = ContactBook(parts.mailbox)
        way, telephones = book.way(), book.telephones(now)
        known = contacts(parts.mailbox, now, overdue)[1:]
        if as_json:
            result(
                {
                    "ok": True,
                    "agency": parts.settings.agency,
                    "gateway": _way_json(way, now),
                    "contacts": [_contact_json(one) for one in known],
                    "overdue": [alarm_json(alarm, telephones) for alarm in overdue],
                    "counts": parts.mailbox.counts(),
                    "mail": _mail_json(parts),
                },
                as_json=True,
            )
            return
        result(None, as_json=False, lines=[_way_words(way, now), *_advice(way), *_mail_words(parts)])
        entries(
            t("Dernier signe de chaque agence", "Last sign of each agency"),
            [(_name(parts, one.agency), [_contact_words(one)]) for one in known],
        )
        entries(t("À faire maintenant", "To do now"), [(alarm_words(alarm, telephones), []) for alarm in overdue])


def _runs(way: Way, now: float) -> bool:
    return 0 <= now - way.tried_at < _STALE_S


def _way_words(way: Way | None, now: float) -> str:
    if way is None:
        return t(
            "La passerelle : l'adaptateur n'a encore jamais tourné (umuhuza agency run).",
            "The gateway: the adapter has never run (umuhuza agency run).",
        )
    if not _runs(way, now):
        at = day_and_time(way.tried_at)
        return t(
            f"L'adaptateur ne tourne pas depuis le {at} : rien ne part, rien n'arrive (umuhuza agency run).",
            f"The adapter has not run since {at}: nothing leaves, nothing arrives (umuhuza agency run).",
        )
    if not way.code:
        at = day_and_time(way.reached_at or way.tried_at)
        return t(f"La passerelle a répondu le {at}.", f"The gateway answered on {at}.")
    if way.reached_at is None:
        return t(f"La passerelle n'a encore jamais répondu ({way.code}).", f"It has never answered ({way.code}).")
    at = day_and_time(way.reached_at)
    return t(
        f"La passerelle ne répond plus depuis le {at} ({way.code}).",
        f"The gateway has not answered since {at} ({way.code}).",
    )


def _advice(way: Way | None) -> list[str]:
    words = None if way is None else advice_for(way.code)
    return [f"→ {words}"] if words else []


def _mail(parts: AgencyParts) -> MailState | None:
    """None: notices by e-mail are not asked for."""
    settings = parts.settings
    if settings.mail_host is None:
        return None
    return MailBook(parts.mailbox, settings.mail_minutes * 60.0, os.urandom).state()


def _mail_words(parts: AgencyParts) -> list[str]:
    state = _mail(parts)
    if state is None:
        return []
    sent = t("aucun encore", "none yet") if state.sent_at is None else day_and_time(state.sent_at)
    waiting = t(f"{state.waiting} en attente", f"{state.waiting} waiting")
    lines = [t(f"Avis par courriel : dernier {sent}, {waiting}", f"Notices by e-mail: last {sent}, {waiting}")]
    if state.code:
        lines = [f"{lines[0]} ({state.code})", f"→ {advice_for(state.code)}"]
    return lines


def _mail_json(parts: AgencyParts) -> dict[str, Any] | None:
    state = _mail(parts)
    if state is None:
        return None
    return {"waiting": state.waiting, "sent_at": state.sent_at, "code": state.code or None}


def _contact_words(one: LastContact) -> str:
    seen = t("jamais entendue", "never heard") if one.seen_at is None else day_and_time(one.seen_at)
    number = one.telephone or t("numéro inconnu", "no number known")
    silent = t("téléphonez : quelque chose l'attend", "telephone: something waits there")
    return " · ".join((seen, number, *([] if one.silent_since is None else [silent])))


def _name(parts: AgencyParts, agency: str) -> str:
    found = parts.registry().agencies.get(agency)
    return agency if found is None or found.protected else f"{agency}  {found.name(language())}"


def _way_json(way: Way | None, now: float) -> dict[str, Any]:
    if way is None:
        return {"reached_at": None, "tried_at": None, "code": None, "running": False}
    return {
        "reached_at": way.reached_at,
        "tried_at": way.tried_at,
        "code": way.code or None,
        "running": _runs(way, now),
    }


def _contact_json(one: LastContact) -> dict[str, Any]:
    return {
        "agency": one.agency,
        "seen_at": one.seen_at,
        "silent_since": one.silent_since,
        "telephone": one.telephone,
    }
