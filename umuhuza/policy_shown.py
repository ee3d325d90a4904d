# SPDX-License-Identifier: Apache-2.0
"""The policy put into words and into JSON, as a whole or around one event, flow or role (`umuhuza policy show`).

Each function returns what a program gets and the lines that a person reads, with where it stands in the policy.
Must never: decide, or say what the policy does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.event_types import EVENTS
from schemas.registry import ROLES
from topics.policy_file import EventRule, policy
from topics.policy_lines import line_of
from umuhuza.words import labelled, language, t

Shown = tuple[dict[str, Any], Sequence[str]]


def listed(roles: Iterable[str]) -> str:
    """Roles in order, or `all`."""
    found = sorted(roles)
    return t("tous", "all") if set(found) == set(ROLES) else ", ".join(found) or t("aucun", "none")


def span(seconds: int) -> str:
    """Hours up to three days, else days."""
    hours = seconds // 3600
    return f"{hours} h" if hours <= 72 else f"{hours // 24} {t('j', 'd')}"


def _name(event: str) -> str:
    return EVENTS[event].labels[language()]


def _where(path: str) -> str:
    line = line_of(path)
    return "" if line is None else f"{line.file}:{line.number}"


def _event(rule: EventRule) -> dict[str, Any]:
    event = EVENTS[rule.name]
    return {
        "event": rule.name,
        "name": _name(rule.name),
        "flow": rule.flow,
        "kind": rule.kind,
        "machine": rule.machine,
        "by": rule.by,
        "from": sorted(rule.sender),
        "to": sorted(rule.to),
        "basis": sorted(rule.basis),
        "answer_within_s": dict(rule.answer_within_s),
        "identity": event.identity,
        "where": _where(f"event.{rule.name}"),
    }


def shown_event(name: str) -> Shown:
    """One event: who to whom, on which basis, by when, what may travel."""
    rules = policy()
    rule = rules.events[name]
    always = rules.always.get(name)
    services: Mapping[str, frozenset[str]] = rules.by_service.get(name, {})
    never: Mapping[str, frozenset[str]] = rules.never.get(name, {})
    value = {
        **_event(rule),
        "travels": None if always is None else sorted(always),
        "by_service": {service: sorted(fields) for service, fields in services.items()},
        "said_as": {name: {one: sorted(whose) for one, whose in codes.items()} for name, codes in rule.said_as.items()},
        "carries_files_to": sorted(rules.attach.get(name, ())),
        "never": {role: sorted(fields) for role, fields in never.items()},
    }
    lines = [
        f"{name} · {_name(name)}",
        "  " + labelled("de", "from", listed(rule.sender)),
        "  " + labelled("à", "to", listed(rule.to)),
        "  " + labelled("flux", "flow", rule.flow if rule.flow != "*" else t("celui de l’échange", "its thread’s")),
        "  " + labelled("dans l’échange", "in the thread", _party(rule.by)),
    ]
    if rule.basis:
        lines.append("  " + labelled("base légale", "lawful basis", ", ".join(sorted(rule.basis))))
    for member, codes in rule.said_as.items():
        for code, whose in codes.items():
            lines.append("  " + labelled(f"{member} {code}, seulement", f"{member} {code}, only", listed(whose)))
    if rule.answer_within_s:
        spans = ", ".join(f"{priority} {span(seconds)}" for priority, seconds in rule.answer_within_s.items())
        lines.append("  " + labelled("réponse attendue", "answer expected", spans))
    lines.append("  " + labelled("peut nommer une personne", "may name a person", _yes(EVENTS[name].identity)))
    if always is not None:
        lines.append("  " + labelled("ce qui voyage", "what travels", ", ".join(sorted(always))))
        lines += [f"    + {service}: {', '.join(sorted(fields))}" for service, fields in services.items() if fields]
        lines += [
            f"    − {t('jamais à', 'never to')} {role}: {', '.join(sorted(fields))}" for role, fields in never.items()
        ]
    if name in rules.attach:
        lines.append("  " + labelled("pièces jointes, à", "attachments, to", listed(rules.attach[name])))
    return value, [*lines, f"  {_where(f'event.{name}')}"]


def _yes(value: bool) -> str:
    return t("oui", "yes") if value else t("non", "no")


def _party(by: str) -> str:
    return {
        "initiator": t("l'agence qui l'a ouvert", "the agency that opened it"),
        "recipient": t("l'agence qui l'a reçu", "the agency that received it"),
        "holder": t("l'une ou l'autre", "either"),
    }[by]


def shown_flow(name: str) -> Shown:
    """One flow: who has a mailbox, what travels in it."""
    rules = policy()
    events = [rule for rule in rules.events.values() if rule.flow in (name, "*")]
    value: dict[str, Any] = {
        "flow": name,
        "mailbox": sorted(rules.mailboxes[name]),
        "where": _where(f"flow.{name}.mailbox"),
        "events": [_event(rule) for rule in events],
    }
    lines = [
        f"{t('flux', 'flow')} {name}",
        "  " + labelled("boîte chez", "mailbox of", listed(rules.mailboxes[name])),
        f"  {_where(f'flow.{name}.mailbox')}",
        *(_line(rule) for rule in events),
    ]
    if name == "directory":
        kept = rules.places
        value["places"] = {"hold_s": kept.hold_s, "untaken_s": kept.untaken_s, "within_s": kept.within_s}
        said = t(
            f"un oui garde une place {span(kept.hold_s)} ; sans la retenir, une agence garde en {span(kept.within_s)}"
            f" au plus {span(kept.untaken_s)} de places d'un service",
            f"a yes keeps a place for {span(kept.hold_s)}; without taking it, an agency keeps within"
            f" {span(kept.within_s)} at most {span(kept.untaken_s)} of places of a service",
        )
        lines += [f"  {said}", f"  {_where('places')}"]
    return value, lines


def _line(rule: EventRule) -> str:
    return f"  {rule.name} · {_name(rule.name)} · {listed(rule.sender)} → {listed(rule.to)}"


def shown_role(name: str) -> Shown:
    """One role: its mailboxes, what it may send and what may be addressed to it."""
    rules = policy()
    mailboxes = [flow for flow, roles in rules.mailboxes.items() if name in roles]
    sends = [rule for rule in rules.events.values() if name in rule.sender]
    gets = [rule for rule in rules.events.values() if name in rule.to and (rule.flow == "*" or rule.flow in mailboxes)]
    law = name in rules.law_enforcement
    value = {
        "role": name,
        "mailboxes": mailboxes,
        "sends": [rule.name for rule in sends],
        "receives": [rule.name for rule in gets],
        "law_enforcement": law,
    }
    lines = [
        f"{t('rôle', 'role')} {name}",
        "  " + labelled("boîtes", "mailboxes", ", ".join(mailboxes)),
        f"  {t('peut envoyer', 'may send')}:",
        *(f"    {rule.name} · {_name(rule.name)} → {listed(rule.to)}" for rule in sends),
        f"  {t('peut recevoir', 'may receive')}:",
        *(f"    {rule.name} · {_name(rule.name)} ← {listed(rule.sender)}" for rule in gets),
    ]
    if law:
        said = t(
            f"n'écrit jamais à un lieu protégé, qui ne lui écrit jamais (hors {', '.join(sorted(rules.open_flows))})",
            f"never writes to a protected place, nor does it write to it (but {', '.join(sorted(rules.open_flows))})",
        )
        lines += [f"  {said}", f"  {_where('firewall.law_enforcement')}"]
        answers = ", ".join(sorted(rules.answers))
        said = t(
            f"mais sa machine y répond à ce qu'elle a reçu : {answers}",
            f"but its machine answers there what it was sent: {answers}",
        )
        lines += [f"  {said}", f"  {_where('firewall.answers')}"]
    return value, lines


def summary() -> Shown:
    """Flows with their mailboxes and events; what else can be asked for."""
    rules = policy()
    value = {
        "flows": {flow: sorted(roles) for flow, roles in rules.mailboxes.items()},
        "events": list(rules.events),
        "roles": list(ROLES),
    }
    lines: list[str] = []
    for flow, roles in rules.mailboxes.items():
        lines.append(f"{flow} · {t('boîte chez', 'mailbox of')} {listed(roles)}")
        lines += [_line(rule) for rule in rules.events.values() if rule.flow == flow]
    lines.append(t("dans le flux de l'échange :", "in the flow of their thread:"))
    lines += [_line(rule) for rule in rules.events.values() if rule.flow == "*"]
    lines.append(t("rôles : ", "roles: ") + ", ".join(ROLES))
    lines.append("umuhuza policy show " + t("[événement|flux|rôle]", "[event|flow|role]"))
    return value, lines
