# SPDX-License-Identifier: Apache-2.0
"""The reference pages of `docs/`, as text made from the code: errors, settings, events, commands (French and English).

Made from the tables that run, so they cannot say something else; `umuhuza.publish` writes them and says which differ.
Words are only here where the code has none of its own: names of events.

Invariant: a code, setting, event or command without its words is an exception here, not a gap in a page.
Must never: read or write a file. Commands are described in a process of its own for each language, since help texts
are chosen when they are imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import typer.main
from pydantic import BaseModel
from typer.core import TyperArgument, TyperGroup, TyperOption

from adapters.settings import PREFIX as AGENCY_PREFIX
from adapters.settings import AgencySettings
from gateway.problems import STATUS
from gateway.settings import PREFIX as GATEWAY_PREFIX
from gateway.settings import Settings as GatewaySettings
from schemas.errors import CODES, Language, UmuhuzaError
from schemas.event_types import EVENTS, THREAD_FLOW
from schemas.lifecycle import MACHINES
from schemas.registry import ROLES
from topics.policy_file import EventRule, policy
from umuhuza.ledger_settings import PREFIX as LEDGER_PREFIX
from umuhuza.ledger_settings import LedgerSettings
from umuhuza.settings_words import SETTINGS_FR

_MADE = "<!-- SPDX-License-Identifier: Apache-2.0 -->\n<!-- Made by `python -m umuhuza.publish` from {source}. -->\n"

_WHO: Mapping[str, tuple[str, str]] = {
    "initiator": ("qui a ouvert l'échange", "who opened the thread"),
    "recipient": ("qui l'a reçu", "who received it"),
    "holder": ("l'un ou l'autre", "either"),
}


def files() -> dict[str, str]:
    """Path below `docs/` -> text. Starts two processes, side by side."""
    with ThreadPoolExecutor(2) as both:
        english, french = both.map(_commands_in, ("en", "fr"))
    return {
        "errors.md": errors(),
        "settings.md": settings(),
        "events.md": events(),
        "commands.md": english,
        "fr/commandes.md": french,
    }


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# Errors


def errors() -> str:
    """Every code: what it means and what to do, French first."""
    parts = [
        _MADE.format(source="`schemas/data/errors.json`"),
        "# Codes d'erreur · Error codes\n",
        "Un code ne change jamais de sens. « Réessayer » veut dire que les mêmes octets peuvent être acceptés plus "
        "tard, sans que personne ne fasse rien. Une erreur nomme un code et un chemin, jamais une valeur.\n",
        'A code never changes its meaning. "Retry" means that the same bytes may be accepted later without anybody\'s '
        "doing. An error names a code and a path, never a value. Programs decide by the code, never by the words; "
        "codes of parts of the format that this version does not use yet are listed too.\n",
    ]
    parts += [
        f"- `{kind.__name__}`: " + ", ".join(f"[`{code}`](#{code})" for code in CODES if code in kind.codes)
        for kind in UmuhuzaError.__subclasses__()
    ]
    parts.append("")
    for code, meaning in CODES.items():
        retry = "oui · yes" if meaning.retriable else "non · no"
        parts.append(f"## {code}\n")
        parts.append(f"HTTP {STATUS[code]} · réessayer, retry: {retry}\n")
        parts.append(f"**{meaning.title_fr}.** {meaning.advice_fr}\n")
        parts.append(f"**{meaning.title_en}.** {meaning.advice_en}\n")
    return "\n".join(parts).rstrip("\n") + "\n"


# ---------------------------------------------------------------------------------------------------------------------
# Settings


def settings() -> str:
    """Every setting of an agency's adapter, of a gateway and of a ledger."""
    return "\n".join(
        [
            _MADE.format(source="the settings models"),
            "# Réglages · Settings\n",
            "Un fichier TOML, puis l'environnement, puis les options de la commande ; le dernier l'emporte. Un nom "
            "inconnu est une erreur qui nomme le plus proche. Les chemins du fichier sont relatifs au fichier. "
            "`umuhuza config show` montre ce qui est en vigueur et d'où cela vient.\n",
            "A TOML file, then the environment, then the command's options; the later wins. An unknown name is an "
            "error that names the nearest known one. Paths in the file are relative to the file. "
            "`umuhuza config show` shows what is in force and where it comes from.\n",
            "## Agence · Agency: `agency.toml`\n",
            _settings_of(AgencySettings, AGENCY_PREFIX, "agency"),
            "## Passerelle · Gateway: `gateway.toml`\n",
            _settings_of(GatewaySettings, GATEWAY_PREFIX, "gateway"),
            "## Registre de preuve · Ledger: `ledger.toml`\n",
            _settings_of(LedgerSettings, LEDGER_PREFIX, "ledger"),
        ]
    )


def _settings_of(model: type[BaseModel], prefix: str, kind: str) -> str:
    rows = []
    for name, field in model.model_fields.items():
        default = "**obligatoire · required**" if field.is_required() else f"`{_plain(field.get_default())}`"
        rows.append((f"`{name}`", default, SETTINGS_FR[kind][name], field.description or ""))
    environment = (
        f"Environnement · Environment: `{prefix}` + NOM EN MAJUSCULES, `{prefix}{rows[0][0].strip('`').upper()}`"
    )
    return environment + "\n\n" + _table(("Réglage · Setting", "Défaut · Default", "Sens", "Meaning"), rows)


def _plain(value: object) -> str:
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


# ---------------------------------------------------------------------------------------------------------------------
# Events


def events() -> str:
    """Event types, flows, who may send to whom, what may travel."""
    rules = policy()
    parts = [
        _MADE.format(source="`topics/policy/` and `schemas/data/events/`"),
        "# Événements · Events\n",
        "Ce qui peut voyager, de qui à qui. Les rôles sont ceux du registre. Les délais et les règles de droit "
        "restent à confirmer par la commission.\n",
        "What may travel, from whom to whom. Roles are those of the registry. Every span and every legal setting is to "
        "be confirmed by the commission.\n",
        "## Types\n",
        _table(
            (
                "Type",
                "Nom · Name",
                "Flux · Flow",
                "Kind",
                "Par · By",
                "De · From",
                "À · To",
                "Identité · Identity",
                "Exemple · Example",
            ),
            [_event_row(name, rules.events[name]) for name in EVENTS],
        ),
        "`Kind` is all that a gateway can see: the exact type is sealed. The formats are in "
        "[schemas/published](../schemas/published/README.md), what each type is for stands beside its example: "
        "[English](examples/README.md), [français](fr/exemples.md).\n",
        "## Bases légales et délais · Lawful bases and spans\n",
        _table(
            ("Type", "Base", "Réponse attendue · Answer expected within"),
            [
                (
                    f"`{name}`",
                    ", ".join(f"`{basis}`" for basis in sorted(rule.basis)) or "–",
                    ", ".join(f"{priority} {_hours(span)}" for priority, span in rule.answer_within_s.items()) or "–",
                )
                for name, rule in rules.events.items()
                if rule.basis or rule.answer_within_s
            ],
        ),
        "## Flux et boîtes · Flows and mailboxes\n",
        "Une boîte n'existe que là où quelqu'un peut écrire. · A mailbox exists only where somebody may send.\n",
        _table(
            ("Flux · Flow", "Boîte chez · Mailbox of"),
            [(f"`{flow}`", _roles(roles)) for flow, roles in rules.mailboxes.items()],
        ),
        "## Cloison · Firewall\n",
        "Police et justice n'écrivent jamais à un lieu protégé, et un lieu protégé ne leur écrit jamais. · "
        "Police and judiciary never write to a protected place, nor does it write to them.\n",
        "## États d'une orientation et d'un dossier · States of a referral and of a case\n",
    ]
    for machine, found in MACHINES.items():
        reachable = _reachable(machine)
        parts.append(
            _table(
                (f"`{machine}`", "Français", "English"),
                [
                    (f"`{name}`", state.labels["fr"], state.labels["en"])
                    for name, state in found.states.items()
                    if name in reachable
                ],
            )
        )
    parts.append("## Ce qui voyage · What travels\n")
    parts.append(
        "Un champ qui n'est pas nommé reste chez l'expéditeur ; le destinataire apprend seulement son nom "
        "(`withheld`). · A field that is not named stays with the sender; the recipient learns its name only.\n"
    )
    for name, fields in rules.always.items():
        parts.append(f"### {name}\n")
        parts.append(_fields(fields))
        for service, more in rules.by_service.get(name, {}).items():
            if more:
                parts.append(f"- `{service}` : + " + ", ".join(f"`{one}`" for one in sorted(more)))
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def _reachable(machine: str) -> set[str]:
    """States to which the events of this version lead."""
    steps = MACHINES[machine].steps
    known: set[str | None] = {None}
    while (
        more := {
            step.state
            for (before, event, _), step in steps.items()
            if before in known and (event.partition("/")[0] in EVENTS or machine not in THREAD_FLOW)
        }
        - known
    ):
        known |= more
    return {state for state in known if state is not None}


def _event_row(name: str, rule: EventRule) -> tuple[str, ...]:
    event = EVENTS[name]
    french, english = event.labels["fr"], event.labels["en"]
    who_fr, who_en = _WHO[rule.by]
    return (
        f"`{name}`",
        f"{french} · {english}",
        f"`{event.flow}`" if event.flow != "*" else "*",
        event.kind,
        f"{who_fr} · {who_en}",
        _roles(rule.sender),
        _roles(rule.to),
        "oui · yes" if event.identity else "non · no",
        f"[JSON](examples/{name}.json)",
    )


def _roles(roles: Iterable[str]) -> str:
    chosen = sorted(roles)
    return "tous · all" if set(chosen) == set(ROLES) else ", ".join(chosen)


def _fields(fields: Iterable[str]) -> str:
    return ", ".join(f"`{one}`" for one in sorted(fields)) + "\n"


def _hours(span: int) -> str:
    return f"{span // 86_400} d" if span % 86_400 == 0 and span > 86_400 else f"{span // 3600} h"


# ---------------------------------------------------------------------------------------------------------------------
# Commands


_WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "title": "# Commands",
        "intro": "Results go to standard output (`--json`: one object per result), words for people to standard error. "
        "Exit codes: 0 done; 1 refused, or done with something refused; 2 wrong usage or settings; 3 not now, try "
        "again; 4 a wrong passphrase or PIN; 130 interrupted; 141 nobody reads the output any more. The language is "
        "`--lang`'s, `UMUHUZA_LANG`'s, else the locale's; French for Arabic and Kirundi.",
        "argument": "argument",
        "option": "Option",
        "meaning": "Meaning",
        "default": "Default",
        "required": "**required**",
    },
    "fr": {
        "title": "# Commandes",
        "intro": "Les résultats vont sur la sortie standard (`--json` : un objet par résultat), les mots pour les "
        "personnes sur la sortie d'erreur. Codes de sortie : 0 fait ; 1 refusé, ou fait avec un refus ; 2 usage ou "
        "réglages fautifs ; 3 pas maintenant, réessayez ; 4 mauvaise phrase de passe ou mauvais code PIN ; 130 "
        "interrompu ; 141 personne ne lit plus la sortie. La langue est celle de `--lang`, de `UMUHUZA_LANG`, sinon "
        "celle du système ; "
        "le français pour l'arabe et le kirundi.",
        "argument": "argument",
        "option": "Option",
        "meaning": "Sens",
        "default": "Défaut",
        "required": "**obligatoire**",
    },
}


def _commands_in(language: str) -> str:
    """Raises CalledProcessError."""
    environment = {**os.environ, "UMUHUZA_LANG": language, "COLUMNS": "200"}
    root = Path(__file__).resolve().parents[1]
    ran = subprocess.run(
        [sys.executable, "-m", "umuhuza.reference", language],
        env=environment,
        cwd=root,
        capture_output=True,
        check=True,
    )
    return ran.stdout.decode("utf-8")


def commands(language: Language) -> str:
    """The page of the command line; in the language in which this process was started."""
    from umuhuza.cli import build

    words = _WORDS[language]
    app = typer.main.get_command(build())
    assert isinstance(app, TyperGroup)
    parts = [_MADE.format(source="the command line itself"), words["title"] + "\n", words["intro"] + "\n"]
    parts += _described(app, "umuhuza", words)
    return "\n".join(parts).rstrip("\n") + "\n"


def _described(command: object, name: str, words: Mapping[str, str]) -> list[str]:
    parameters = [
        one for one in getattr(command, "params", ()) if one.name not in ("install_completion", "show_completion")
    ]
    parts = [f"## {name}\n" if name.count(" ") < 2 else f"### {name}\n", f"{getattr(command, 'help', '') or ''}\n"]
    rows = []
    for one in parameters:
        if isinstance(one, TyperArgument):
            rows.append((f"`{(one.name or '').upper()}` ({words['argument']})", one.help or "", _default(one, words)))
        elif isinstance(one, TyperOption):
            rows.append((f"`{one.opts[0]}`", one.help or "", _default(one, words)))
    if rows:
        parts.append(_table((words["option"], words["meaning"], words["default"]), rows))
    if isinstance(command, TyperGroup):
        for child, found in command.commands.items():
            parts += _described(found, f"{name} {child}", words)
    return parts


def _default(one: TyperArgument | TyperOption, words: Mapping[str, str]) -> str:
    if one.required:
        return words["required"]
    return "" if one.default is None or isinstance(one.default, bool) else f"`{one.default}`"


if __name__ == "__main__":
    sys.stdout.write(commands("fr" if sys.argv[1:] == ["fr"] else "en"))
