# SPDX-License-Identifier: Apache-2.0
"""The reference pages of `docs/`, as text made from the code: errors, settings, events, commands (French and English).

Made from the tables that run, so they cannot say something else; `umuhuza.publish` writes them and says which differ.
Words are only here where the code has none of its own: French meanings of settings and names of events.

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

_MADE = "<!-- SPDX-License-Identifier: Apache-2.0 -->\n<!-- Made by `python -m umuhuza.publish` from {source}. -->\n"

_WHO: Mapping[str, tuple[str, str]] = {
    "initiator": ("qui a ouvert l'échange", "who opened the thread"),
    "recipient": ("qui l'a reçu", "who received it"),
    "holder": ("l'un ou l'autre", "either"),
}

SETTINGS_FR: Mapping[str, Mapping[str, str]] = {
    "agency": {
        "agency": "Identifiant de cette agence, bi/iom.",
        "gateway": "Adresse de la passerelle du domaine.",
        "registry_root": "Empreinte de la racine du domaine ; comparez-la par téléphone.",
        "gateway_agency": "Agence dont l'inscription au registre porte la clé de la passerelle.",
        "keys": "Clés privées de cette agence, mode 0600.",
        "mailbox": "Boîte d'envoi, boîte de réception et curseurs : un fichier SQLite. À sauvegarder.",
        "registry": "Copie du registre du domaine ; se renouvelle d'elle-même.",
        "folder": "Dossier surveillé pour les classeurs, avec ses sous-dossiers.",
        "kobo": "Dossier où l'on dépose les soumissions KoboToolbox (JSON).",
        "kobo_to": "Agence à laquelle les soumissions Kobo sont envoyées.",
        "language": "Langue des rapports et des classeurs.",
        "timezone": "Fuseau dans lequel se lisent et s'affichent les dates sans fuseau.",
        "quiet_seconds": "Un fichier déposé ne doit pas avoir changé depuis ce temps.",
        "collect_seconds": "Fréquence à laquelle les dossiers sont regardés.",
        "wait_seconds": "Durée d'une attente de courrier auprès de la passerelle.",
        "idle_seconds": "Fréquence à laquelle la boîte d'envoi est regardée.",
        "attachments_mib": "Mébioctets de pièces jointes par événement, envoyés ou acceptés ; 0 : aucune.",
        "watch_seconds": "Fréquence à laquelle l'heure est regardée : échéances, arrivées.",
        "arrival_grace_minutes": "Passé l'heure attendue, délai après lequel une arrivée non signalée alerte.",
        "registry_seconds": "Fréquence à laquelle un registre plus récent est demandé.",
        "trust": "Clés du registre de preuve et de ses témoins (witnesses.policy) ; ses preuves sont alors gardées, et "
        "décident des clés révoquées.",
        "neighbours": "Dossier de ce que l'on tient d'autres domaines ; sans lui, rien ne passe de frontière.",
        "receipt_seconds": "Fréquence à laquelle ces preuves sont demandées, avec `trust`.",
        "mail_host": "Serveur de courriel pour les avis sans contenu ; sans lui, aucun.",
        "mail_port": "Son port ; par défaut 587, ou 465 avec `tls`.",
        "mail_security": "Son chiffrement ; `none` seulement pour un serveur sur cette machine même.",
        "mail_from": "Adresse d'où partent les avis ; choisissez-en une qui ne dit rien.",
        "mail_to": "Adresses auxquelles vont les avis.",
        "mail_user": "Identifiant auprès du serveur de courriel.",
        "mail_password": "Fichier de son mot de passe, une ligne, mode 0600.",
        "mail_ca_file": "PEM de l'autorité qui a signé le certificat du serveur de courriel.",
        "mail_minutes": "À peu près tous les combien un avis peut partir ; quand au juste, c'est tiré d'avance.",
        "ca_file": "PEM de l'autorité qui a signé le certificat TLS de la passerelle.",
        "kafka": "Pour lire les boîtes dans Kafka : dossier avec bootstrap, ca.pem, certificate.pem et key.pem.",
        "kafka_write": "Écrire aussi dans Kafka, si le registre le permet à cette agence (`direct`).",
    },
    "gateway": {
        "registry": "Registre du domaine, un fichier ou un dossier ; relu quand il change.",
        "registry_root": "Empreinte de la racine du domaine, 43 caractères ; comparez-la par téléphone.",
        "signing_key": "Fichier de la clé privée de cette passerelle (scalaire base64url), mode 0600.",
        "sealing_key": "Fichier de la clé privée qui ouvre les lots des clés USB, mode 0600 ; sans lui, aucun.",
        "agency": "Agence dont l'inscription au registre porte la clé de cette passerelle, bi/operator.",
        "log": "Le journal du domaine en un fichier SQLite ; ceci ou `kafka`.",
        "kafka": "Le journal du domaine sur Apache Kafka : dossier avec bootstrap, ca.pem, certificate.pem et key.pem.",
        "index": "L'index propre à cette passerelle ; refait quand il manque ou est abîmé.",
        "neighbours": "Dossier de ce que l'on tient d'autres domaines ; sans lui, rien ne passe de frontière.",
        "witness": "Dossier du témoin de ce domaine, qui cosigne les registres de preuve d'autrui ; sinon, aucun.",
        "ledger": "Dossier du registre de preuve du domaine, pour en servir les tuiles aux auditeurs.",
        "host": "Adresse d'écoute.",
        "port": "Port d'écoute ; 0 en choisit un libre.",
        "ready_file": "Reçoit l'adresse une fois que la passerelle répond.",
        "tls_certificate": "Chaîne PEM ; sans elle, TLS se termine à un mandataire placé devant.",
        "tls_key": "Clé privée PEM du certificat.",
        "checkers": "Processus qui vérifient les signatures ; par défaut un par cœur, au plus 4 (un seul : aucun).",
        "body_max_bytes": "Plus grande requête, décompressée.",
        "lines_max": "Nombre maximal d'enregistrements dans une requête.",
        "body_seconds": "Durée pendant laquelle le corps d'une requête peut ne pas avancer.",
        "send_seconds": "Un client qui ne prend rien pendant ce temps est abandonné.",
        "header_seconds": "Temps dans lequel une connexion doit envoyer l'en-tête de sa requête.",
        "keep_alive_seconds": "Durée pendant laquelle une connexion inactive est gardée.",
        "stop_seconds": "Temps laissé aux requêtes en cours lors de l'arrêt.",
        "wait_max_seconds": "Plus longue attente d'une lecture de boîte.",
        "token_seconds": "Durée de validité d'un jeton d'accès.",
        "records_per_minute": "Remplace le quota de la politique.",
        "megabytes_per_hour": "Remplace le quota de la politique.",
        "waiting_reads": "Remplace le quota de la politique.",
        "follow_seconds": "Fréquence à laquelle les enregistrements d'autres passerelles sont cherchés.",
        "log_requests": "Écrit une ligne JSON par requête (aucune valeur).",
    },
    "ledger": {
        "registry": "Fichier du registre du domaine ; chaque version devient une entrée.",
        "registry_root": "Empreinte de la racine du domaine, 43 caractères ; comparez-la par téléphone.",
        "log": "Le journal du domaine en un fichier SQLite ; ceci ou `kafka`.",
        "kafka": "Le journal du domaine sur Apache Kafka : dossier avec bootstrap, ca.pem, certificate.pem et key.pem.",
        "neighbours": "Dossier de ce que l'on tient d'autres domaines, celui de la passerelle ; sinon rien ne passe.",
        "store": "Le registre de preuve lui-même en un fichier SQLite, à sauvegarder ; sans lui, le sujet de Kafka.",
        "keys": "Clés privées de signature du registre de preuve, mode 0600.",
        "view": "Tuiles, paquets et positions ; refait quand il manque ou est abîmé.",
        "registries": "Chaque version du registre, par son empreinte ; à sauvegarder.",
        "checkpoint_seconds": "Intervalle minimal entre deux points de contrôle signés.",
        "witness_seconds": "Fréquence à laquelle les témoins de witnesses.policy sont priés de cosigner.",
        "erasure_seconds": "Intervalle maximal entre deux lectures de tout le journal, tant qu'un effacement attend.",
        "retention_hours": "Fréquence du retrait de ce qui est remis et dépasse sa durée ; sans elle, à la main.",
        "retention_kafka": "Sur Kafka : dossier d'un administrateur du cluster, qui seul peut retirer.",
        "host": "Adresse à laquelle l'état et les métriques sont donnés.",
        "port": "Port pour l'état et les métriques ; 0 en choisit un libre.",
        "ready_file": "Reçoit cette adresse une fois que le registre de preuve est à jour.",
    },
}
"""French meanings of the settings, by kind of process."""


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
