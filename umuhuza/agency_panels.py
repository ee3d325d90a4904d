# SPDX-License-Identifier: Apache-2.0
"""In which order, and under which heading, `umuhuza agency --help` shows its commands: what is done every day first.

Invariant: every command stands under one heading (tested). Must never: change what a command does.
"""

from __future__ import annotations

import typer
from typer.models import CommandInfo, TyperInfo

from umuhuza.words import t

_PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        t("Chaque jour", "Every day"),
        ("send", "inbox", "attachments", "outbox", "status", "retry", "cancel", "template", "registry"),
    ),
    (t("Une place pour ce soir", "A place for tonight"), ("beds", "services", "publish-service")),
    (
        t("La personne et ses droits", "The person and her rights"),
        ("consents", "withdraw", "link", "children", "ticket", "access", "correct", "retract", "erase"),
    ),
    (
        t("Autorités et réexamen", "Authorities and review"),
        ("disclosures", "disclose", "refuse-disclosure", "disclosed", "reviews", "review"),
    ),
    (t("Savoir ensemble", "Knowing together"), ("guidance", "contacts", "expertise")),
    (t("Installation", "Setting up"), ("enrol", "words", "protect", "renew", "lost", "init", "run", "notices")),
)


def arrange(app: typer.Typer) -> None:
    """Set headings and order; after all commands are there. A name that has no heading stays under the general one."""
    places = {name: place for place, (_, names) in enumerate(_PANELS) for name in names}
    order = {name: number for number, name in enumerate(name for _, names in _PANELS for name in names)}
    everything: list[CommandInfo | TyperInfo] = [*app.registered_commands, *app.registered_groups]
    for one in everything:
        name = _name(one)
        if name in places:
            one.rich_help_panel = _PANELS[places[name]][0]
    app.registered_commands.sort(key=lambda one: order.get(_name(one), len(order)))
    app.registered_groups.sort(key=lambda one: order.get(_name(one), len(order)))


def _name(one: CommandInfo | TyperInfo) -> str:
    if isinstance(one.name, str):
        return one.name
    callback = getattr(one, "callback", None)
    return getattr(callback, "__name__", "").replace("_", "-")
