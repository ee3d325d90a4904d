# SPDX-License-Identifier: Apache-2.0
"""A fictional domain with the kinds of bodies that take part: for explaining the policy where no registry is at hand.

Invented members of two countries, by role; none has a key, so nothing can be signed, sealed or sent with it.
Must never: stand for anybody's registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from schemas.registry import Agency, Registry, Role

_MEMBERS: Mapping[str, tuple[str, str, tuple[Role, ...]]] = {
    "bi/ccsprtp": ("Commission nationale", "National commission", ("coordination", "focal-point")),
    "bi/police": ("Police", "Police", ("police", "front-line")),
    "bi/migration-police": ("Police aux frontières", "Border police", ("police", "front-line")),
    "bi/judiciary": ("Justice", "Judiciary", ("judiciary",)),
    "bi/min-solidarity": ("Ministère de la solidarité", "Ministry of solidarity", ("assistance",)),
    "bi/health": ("Centre de santé", "Health centre", ("assistance", "clinic")),
    "bi/consular": ("Services consulaires", "Consular services", ("front-line",)),
    "bi/hotline": ("Ligne d'écoute", "Hotline", ("hotline", "front-line")),
    "bi/iom": ("OIM", "IOM", ("screener", "assistance", "facilitator")),
    "bi/unicef": ("UNICEF", "UNICEF", ("assistance",)),
    "bi/unhcr": ("HCR", "UNHCR", ("assistance",)),
    "bi/k7t4": ("Foyer", "Shelter", ("assistance", "shelter")),
    "bi/r5w2": ("Foyer", "Shelter", ("assistance", "shelter")),
    "bi/legal-aid": ("Aide juridique", "Legal aid", ("assistance", "legal-aid")),
    "bi/drr": ("Plateforme des catastrophes", "Disaster-risk platform", ("front-line",)),
    "bi/operator": ("Exploitant", "Operator", ("operator",)),
    "tn/inlctp": ("Instance nationale", "National authority", ("coordination", "focal-point")),
    "tn/dpe": ("Délégué à la protection de l'enfance", "Child protection delegate", ("screener", "assistance")),
    "tn/police": ("Police", "Police", ("police", "front-line")),
    "tn/iom": ("OIM", "IOM", ("screener", "assistance", "facilitator")),
    "tn/m2p9": ("Foyer", "Shelter", ("assistance", "shelter")),
}


def fictional_registry() -> Registry:
    """All of them in one registry; shelters are protected handles."""
    agencies = {
        name: Agency(name, MappingProxyType({"fr": french, "en": english}), roles, (), "shelter" in roles)
        for name, (french, english, roles) in _MEMBERS.items()
    }
    return Registry("bi", 1, 0, MappingProxyType(agencies))
