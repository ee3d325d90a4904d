# SPDX-License-Identifier: Apache-2.0
"""`docs/examples/`: one valid example of every event type as JSON, and the pages that say what each is for.

An example is what a sender's adapter seals: the parts `content` and `identity` in clear, laid out for reading, beside
the members of the manifest that they must agree with. It is composed from `SAMPLES` by the code that runs, under the
policy's allow-list, so it shows what really travels and names what does not (`withheld`).

Invariants: the same code, the same text; each example is one that the policy lets its sender send.
Must never: read or write a file but its own words; say in a page what the catalogue and the policy do not say.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from schemas.content import NAMED
from schemas.envelope import FLOWS, mailbox_topic
from schemas.errors import Language
from schemas.event_types import EVENTS
from schemas.events import Sealable, compose
from schemas.forms import Facts
from schemas.whom import referral_of
from topics.catalogue import Act, allowed_fields, may
from umuhuza.examples import SAMPLES
from umuhuza.examples.cast import (
    NOW,
    evt_of,
    flow_of,
    parties,
    pseudonym_of,
    ref_of,
    salt_of,
    thread_of,
)
from umuhuza.fictional import fictional_registry

FOLDER = "examples"
"""Below `docs/`."""
_PUBLISHED = "../../schemas/published/"
_ABOUT = (
    "Invented. `content` and `identity` are the parts of a record of this type before padding and sealing, `identity` "
    "null where the part is empty; `manifest` has the members of the signed manifest that they must agree with. See "
    "README.md."
)

_WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "headers": "| Event type | What for | From, to | Identity |",
        "any": "any",
        "yes": "yes",
        "no": "–",
        "flow": "Flow",
    },
    "fr": {
        "headers": "| Type d'événement | À quoi il sert | De, à | Identité |",
        "any": "tous",
        "yes": "oui",
        "no": "–",
        "flow": "Flux",
    },
}
_INTRO: Mapping[Language, str] = {
    "en": """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by `python -m umuhuza.publish` from `umuhuza/examples/`. -->

# Examples

One valid example of every event type, as JSON. **Everybody in them is invented**, and so are telephone numbers,
orders and file numbers; no example is a legal opinion. Who may send what to whom is in [events](../events.md); the
table shows one pair of agencies for each.

## How to read one

- `manifest`: the members of the signed manifest that the sealed parts must agree with. The others (numbers, digests,
  times) are in [wire format](../wire-format.md).
- `content`: what is sealed as the part `content`. `payload` is a FHIR R4 message Bundle where FHIR has something for
  it, otherwise a plain form under `said`. Nothing in it names or locates a person.
- `identity`: what is sealed as the part `identity`, for readers who need to know who she is; `null` where the part is
  empty.
- `claims`: why this may be shared: consent or another lawful basis, for whom, what is done for a child. They repeat
  in codes what the message says; where the two differ, the record is refused.
- `withheld`: names of fields that the sender has and this reader does not need.
- `schemas`: the [JSON Schemas](../../schemas/published/README.md) that both parts pass.

The files are laid out for reading: you seal your own bytes, whatever their spacing. Pad each part with spaces as
[wire format](../wire-format.md) says, then seal. Event ids, threads, pseudonyms and the salt of a consent follow from
names here; yours are random, and never the same twice. Digests in receipts, and the record inside `disclosure.granted`,
are stand-ins.

A whole record, signed and sealed with published keys, is `record-granted` in
[`records.json`](../../tests/vectors/records.json), taken apart in [wire format](../wire-format.md); the keys that
open it are beside it, and sealed to its reader in [`grants.json`](../../tests/vectors/grants.json).

What is refused, and why: [`tests/vectors/payloads`](../../tests/vectors/payloads) holds at least three mistakes for
each event type, as JSON Patch (RFC 6902) on these files, with the code and the path of the refusal. `schema` says
whether the JSON Schema refuses it too; what it takes, the gate refuses, or the policy, which is asked with `manifest`.
""",
    "fr": """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by `python -m umuhuza.publish` from `umuhuza/examples/`. -->

# Exemples

Un exemple valide de chaque type d'événement, en JSON. **Toutes les personnes y sont inventées**, comme les numéros de
téléphone, les décisions et les numéros de dossier ; aucun exemple ne vaut avis juridique. Qui peut envoyer quoi à qui
se lit dans [événements](../events.md) ; le tableau montre deux agences pour chacun.

## Comment en lire un

- `manifest` : les membres du manifeste signé avec lesquels les parties scellées doivent s'accorder. Les autres
  (numéros, empreintes, heures) sont dans le [format](../wire-format.md).
- `content` : ce qui est scellé dans la partie `content`. `payload` est un message FHIR R4 (Bundle) là où FHIR a
  quelque chose pour cela, sinon un simple formulaire sous `said`. Rien n'y nomme ni ne situe une personne.
- `identity` : ce qui est scellé dans la partie `identity`, pour les lecteurs qui doivent savoir qui elle est ; `null`
  quand la partie est vide.
- `claims` : pourquoi c'est partageable : consentement ou autre base légale, pour qui, ce qui est fait pour un enfant.
  Ils répètent en codes ce que dit le message ; s'ils diffèrent, l'enregistrement est refusé.
- `withheld` : les noms des champs que l'expéditeur connaît et dont ce lecteur n'a pas besoin.
- `schemas` : les [schémas JSON](../../schemas/published/README.md) que respectent les deux parties.

Les fichiers sont mis en page pour être lus : vous scellez vos propres octets, quels que soient leurs espaces.
Complétez chaque partie par des espaces comme le dit le [format](../wire-format.md), puis scellez. Identifiants,
échanges, pseudonymes et sel d'un consentement découlent ici de noms ; les vôtres sont aléatoires, et jamais deux fois
les mêmes. Les empreintes des accusés de réception et l'enregistrement contenu dans `disclosure.granted` sont factices.

Un enregistrement entier, signé et scellé avec des clés publiées, est `record-granted` dans
[`records.json`](../../tests/vectors/records.json), décomposé dans le [format](../wire-format.md) ; les clés qui
l'ouvrent sont à côté, et scellées pour son lecteur dans [`grants.json`](../../tests/vectors/grants.json).

Ce qui est refusé, et pourquoi : [`tests/vectors/payloads`](../../tests/vectors/payloads) contient au moins trois
erreurs par type d'événement, en JSON Patch (RFC 6902) sur ces fichiers, avec le code et le chemin du refus. `schema`
dit si le schéma JSON le refuse aussi ; ce qu'il laisse passer, le contrôle le refuse, ou la politique, interrogée avec
`manifest`.
""",
}


def allowed(event: str, facts: Facts) -> frozenset[str] | None:
    """The allow-list for these facts' reader: that of the event, widened by the services asked for on its thread."""
    referral = referral_of(facts) or referral_of(SAMPLES["referral.requested"][0])
    return allowed_fields(event, () if referral is None else referral.services)


def manifest(event: str) -> dict[str, str]:
    """The members of the manifest that the parts must agree with, and those that say where the record goes."""
    iss, to = parties(event)
    ref = ref_of(event)
    members = {
        "evt": evt_of(event),
        "iss": iss,
        "to": to,
        "topic": mailbox_topic(flow_of(event), to),
        "kind": EVENTS[event].kind,
        "thread": thread_of(event),
    }
    return members if ref is None else {**members, "ref": ref}


def composed(event: str) -> Sealable:
    """The example's parts as its sender's adapter makes them.

    Raises:
        PayloadError, PolicyError: the sample is not valid, or its sender may not send it.
    """
    facts, members = SAMPLES[event][0], manifest(event)
    parts = compose(
        event,
        facts,
        iss=members["iss"],
        to=members["to"],
        evt=members["evt"],
        thread=members["thread"],
        ref=members.get("ref"),
        pseudonym=pseudonym_of(event),
        recorded_at=NOW,
        allowed=allowed(event, facts),
        salt=salt_of(event),
    )
    act = Act("send", members["iss"], members["topic"], EVENTS[event].kind, event, parts.claims, NOW)
    may(act, fictional_registry()).require()
    return parts


def example(event: str) -> dict[str, Any]:
    """What stands in the example's file."""
    parts = composed(event)
    schemas = {"content": f"{_PUBLISHED}{event}.schema.json"}
    if event in NAMED:
        schemas["identity"] = f"{_PUBLISHED}{event}.identity.schema.json"
    return {
        "about": _ABOUT,
        "schemas": schemas,
        "manifest": manifest(event),
        "content": json.loads(parts.content),
        "identity": json.loads(parts.identity) if parts.identity else None,
    }


def files() -> dict[str, str]:
    """Path below `docs/` -> text: the examples, and the page about them in both languages."""
    found = {
        f"{FOLDER}/{event}.json": json.dumps(example(event), ensure_ascii=False, indent=2) + "\n" for event in EVENTS
    }
    return {**found, f"{FOLDER}/README.md": page("en"), "fr/exemples.md": page("fr")}


@cache
def _purposes() -> dict[str, dict[str, str]]:
    text = resources.files("umuhuza").joinpath("examples", "purposes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def purpose(event: str, language: Language) -> str:
    """What the event is for. Raises KeyError: nobody has said so in `purposes.toml`."""
    return _purposes()[event][language]


def page(language: Language) -> str:
    """The page about the examples, in one language."""
    words = _WORDS[language]
    parts = [_INTRO[language]]
    for flow in (*FLOWS, "*"):
        rows = [_row(event, language) for event in EVENTS if EVENTS[event].flow == flow]
        if rows:
            name = words["any"] if flow == "*" else f"`{flow}`"
            parts.append("\n".join([f"## {words['flow']} {name}\n", words["headers"], "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _row(event: str, language: Language) -> str:
    agencies = fictional_registry().agencies
    words = _WORDS[language]
    link = f"{event}.json" if language == "en" else f"../{FOLDER}/{event}.json"
    who = " → ".join(f"{agencies[each].names[language]} `{each}`" for each in parties(event))
    label = EVENTS[event].labels[language]
    named = words["yes"] if EVENTS[event].identity else words["no"]
    return f"| [`{event}`]({link}) {label} | {purpose(event, language)} | {who} | {named} |"
