# SPDX-License-Identifier: Apache-2.0
"""Looking the columns of the forms up: by name, by the text of a header, by the place in `Facts` that one fills.

Purpose: a header is recognised, a row is read and a report is worded by the one list of `form_columns`.
Invariants: a header is recognised by technical name, French label or English label, whatever case and accents; a label
that two columns share means neither. Every HTCDS field has a column, whether the template offers it or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

from adapters.connectors.column_type import FORMS, Column, Form, fold
from adapters.connectors.form_columns import ALSO_CALLED, OFFERED, from_htcds
from schemas import htcds

IGNORED = "À corriger :"
"""A header that begins so is ours, in a file of rows to correct: what stands under it is not read."""
_KNOWN: Mapping[str, Column] = MappingProxyType(
    {column.name: column for column in OFFERED}
    | {name: from_htcds(name) for name in htcds.FIELDS if name not in {column.name for column in OFFERED}}
)


def template_columns(form: Form) -> tuple[Column, ...]:
    """The columns that the template offers for a form, in order. The referral form leaves the type out."""
    return tuple(
        column for column in OFFERED if form in column.forms and not (form == "Orientation" and column.name == "type")
    )


def column(name: str) -> Column:
    """By technical name. KeyError: unknown."""
    return _KNOWN[name]


def required_columns(form: Form) -> tuple[Column, ...]:
    """Those without which no row of the form can be sent."""
    if form == "Dossier":
        return tuple(_KNOWN[name] for name in ("type", "destinataire", "base"))
    return tuple(each for each in template_columns(form) if each.required)


@cache
def _technical() -> Mapping[str, str]:
    return MappingProxyType(
        {fold(name): name for name in _KNOWN} | {fold(old): new for old, new in ALSO_CALLED.items()}
    )


@cache
def _labels() -> Mapping[str, str]:
    found: dict[str, str | None] = {}
    for name, each in _KNOWN.items():
        in_template = each in OFFERED
        for words in {fold(each.fr), fold(each.en)}:
            if words not in found:
                found[words] = name
            elif found[words] != name and not in_template and found[words] not in {c.name for c in OFFERED}:
                found[words] = None  # "Longitude" is the label of three fields: it means none of them
    return MappingProxyType({words: name for words, name in found.items() if name is not None})


def recognise(header: str) -> str | None:
    """The technical name meant by the text of a header cell. None: unknown."""
    words = fold(header)
    return _technical().get(words) or _labels().get(words)


def shown(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Recipients as the template's list shows them: `Foyer d'accueil (bi/k7t4)`."""
    return [label if label == agency else f"{label} ({agency})" for agency, label in pairs]


def recipient_meant(text: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    """The agency id meant by an id, a label or both. None: unknown, or a label that two agencies share."""
    words = fold(text)
    found = {
        agency
        for (agency, label), both in zip(pairs, shown(pairs), strict=True)
        if words in (fold(agency), fold(both)) or words == fold(label)
    }
    return found.pop() if len(found) == 1 else None


def letters(index: int) -> str:
    """Column letters of a zero-based index: 0 is A."""
    found = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        found = chr(65 + rest) + found
    return found


_COLUMN_OF: Mapping[str, str] = MappingProxyType(
    {
        "to": "destinataire",
        "attach": "destinataire",
        "attachments": "pieces_jointes",
        "type": "type",
        "event": "destinataire",
        "flow": "destinataire",
        "firewall": "destinataire",
        "occurred_at": "date_faits",
        "birth": "prs_Birthdate",
        "caregiver": "tuteur",
        "caregiver.best_interest_note": "interet_enfant",
        "referral": "priorite",
        "referral.name": "nom_donne",
        "referral.birth": "prs_Birthdate",
        "referral.services": "services",
        "referral.caregiver": "tuteur",
        "referral.caregiver.best_interest_note": "interet_enfant",
        "referral.safe_contact": "contact_canal",
        "referral.interpreter": "interprete",
        "referral.told_and_refused": "refus_partage",
        "lawful": "base",
        "lawful.consent": "consentement_date",
        "lawful.consent.expires_at": "consentement_fin",
        "lawful.consent.scope": "consentement_portee",
        "lawful.legal_reference": "reference_juridique",
        "lawful.author": "decide_par",
        "lawful.reason": "pourquoi",
        "lawful.authorisations": "accord_juge",
        "authorisations": "accord_juge",
    }
)
"""Where the rules find fault (a path of `Facts`, a line of the policy) -> the column to look at."""


def column_at(path: str) -> Column | None:
    """The column that fills a place of `Facts`, by the longest part of the path that is known."""
    parts = path.partition("[")[0].split(".")
    for length in range(len(parts), 0, -1):
        name = _COLUMN_OF.get(".".join(parts[:length]))
        if name is None and length == 2 and parts[0] == "htcds":
            name = parts[1]
        if name is not None:
            return next((each for form in FORMS for each in template_columns(form) if each.name == name), None)
    return None
