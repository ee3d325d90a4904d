# SPDX-License-Identifier: Apache-2.0
"""What a person refused to share, as a caseworker writes it: the columns' headers, in French or English.

Must never: let through a word that names no field, since then nothing is kept back and nobody notices.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from adapters.connectors.columns import recognise
from schemas import htcds

_REFUSABLE: Mapping[str, str] = MappingProxyType(
    {
        "nom_donne": "name",
        "prs_FirstName": "name.first",
        "prs_MiddleName": "name.middle",
        "prs_SecondName": "name.last",
        "prs_Birthdate": "birth",
        "service_local": "local_service",
        "services_deja": "already_given",
        "langues": "languages",
        "interprete": "interpreter",
        "interprete_langue": "interpreter.language",
        "interprete_sexe": "interpreter.sex_preferred",
        "besoins_acces": "access_needs",
        "enceinte": "pregnant_or_nursing",
        "accompagnants": "dependants",
        "contact_canal": "safe_contact",
        "contact_adresse": "safe_contact.address",
        "contact_heures": "safe_contact.times",
        "contact_message": "safe_contact.may_leave_message",
        "contact_qui": "safe_contact.may_say_who_calls",
        "contact_jamais": "safe_contact.never_contact",
        "risque_niveau": "risk",
        "risque_de": "risk.from_whom",
        "risque_secret": "risk.must_not_know",
        "risque_lieu": "risk.not_to_place",
        "tuteur": "caregiver",
        "tuteur_nom": "caregiver.name",
        "tuteur_lien": "caregiver.relation",
        "tuteur_contact": "caregiver.contact",
        "interet_enfant": "caregiver.best_interest_note",
        "transport": "transport",
        "motif": "reason",
        "unite": "referring_unit",
        "astreinte": "on_call_telephone",
    }
)
"""Column -> the field that a person refuses to share when she refuses what stands there."""


def refused_field(text: str) -> str | None:
    """What `Referral.told_and_refused` calls the field that a text names by its column, in any spelling of its header,
    or by its own path. None: it names none, and nothing would be kept back."""
    path = text.strip().removeprefix("referral.").removeprefix("htcds.")
    if path in _REFUSABLE.values():
        return path
    name = recognise(text) or recognise(path)
    if name is None:
        return None
    found = _REFUSABLE.get(name)
    return name if found is None and name in htcds.FIELDS else found
