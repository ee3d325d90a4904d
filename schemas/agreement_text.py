# SPDX-License-Identifier: Apache-2.0
"""An agreement as two people read it to each other, in French and English, and in which members two of them differ.

    control_words(...)             twelve words for its terms, compared at the end of the reading
    read_aloud(agreement, "fr")    its articles, under the same numbers in both languages
    differences(one, other)        member by member, with what stands on which side
    draft_from(raw, name, domain)  a draft whose other root may still be missing

What is said comes from the members alone; nothing is left out, so that who has heard the text has heard the agreement.

Pure. Nobody's person stands in an agreement: its members may be shown. Must never: shorten a list, or call two
agreements the same that a gateway would not (`topics.borders`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from schemas.agreements import Agreement, agreement_from_json, agreement_to_json, terms_of
from schemas.errors import Language, RegistryError
from schemas.event_types import EVENTS
from schemas.keys import b64url
from schemas.registry_bundle import RootPin
from schemas.spoken import fingerprint_words

FLOWS: Mapping[str, Mapping[Language, str]] = {
    "case": {"fr": "dossier", "en": "case"},
    "referral": {"fr": "orientation", "en": "referral"},
    "directory": {"fr": "annuaire des services", "en": "directory of services"},
    "alert": {"fr": "alerte", "en": "alert"},
    "investigation": {"fr": "enquête", "en": "investigation"},
    "bilateral": {"fr": "transfert et retour de personnes", "en": "transfer and return of persons"},
    "rights": {"fr": "droits des personnes", "en": "persons' rights"},
    "statistics": {"fr": "statistiques", "en": "statistics"},
    "knowledge": {"fr": "connaissances", "en": "knowledge"},
    "receipt": {"fr": "accusés de réception", "en": "receipts"},
}
_MONTHS: Mapping[Language, Sequence[str]] = {
    "fr": (
        *("janvier", "février", "mars", "avril", "mai", "juin"),
        *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
    ),
    "en": (
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A member that is not the same; the texts are in the JSON of the two, "" where one does not have it."""

    path: str
    here: str
    there: str


def control_words(agreement: Agreement, language: Language) -> tuple[str, ...]:
    """Twelve words for the terms (`schemas.spoken`): other terms have others."""
    return fingerprint_words("agreement", terms_of(agreement), language)


# ---------------------------------------------------------------------------------------------------------------------
# Drafts


def draft_from(raw: Any, name: str, domain: str, path: str = "agreement") -> tuple[Agreement, frozenset[str]]:
    """A draft: an agreement, but that fingerprints of roots may still be missing between countries.

    Returns:
        The agreement, and the domains whose root it does not name yet; in their place stand fingerprints of nothing.

    Raises:
        RegistryError: registry_invalid, with the path that is wrong.
    """
    if not isinstance(raw, dict) or not isinstance(raw.get("root_fingerprints"), dict):
        return agreement_from_json(raw, name, domain, path), frozenset()
    domains, roots = raw.get("domains"), raw["root_fingerprints"]
    if not isinstance(domains, list) or len(domains) < 2 or not all(isinstance(one, str) for one in domains):
        return agreement_from_json(raw, name, domain, path), frozenset()
    lacking = frozenset(domains) - roots.keys()
    nothing = {one: b64url(hashlib.sha256(f"no root of {one}".encode()).digest()) for one in lacking}
    return agreement_from_json({**raw, "root_fingerprints": {**roots, **nothing}}, name, domain, path), lacking


# ---------------------------------------------------------------------------------------------------------------------
# Differences


def differences(one: Agreement, other: Agreement) -> list[Difference]:
    """Members in which their terms differ, in the order in which they are read; [] iff gateways take them for the same.
    Who has signed a protocol is not of its terms."""
    one, other = (replace(each, signatures=(), endings=()) for each in (one, other))
    if one == other:
        return []
    found = [] if one.name == other.name else [Difference("name", one.name, other.name)]
    here, there = agreement_to_json(one), agreement_to_json(other)
    for member in here:
        found += _differ(member, here[member], there[member])
    return found


def _differ(path: str, here: Any, there: Any) -> list[Difference]:
    if here == there:
        return []
    if isinstance(here, dict) and isinstance(there, dict):
        keys = (*here, *(key for key in there if key not in here))
        return [one for key in keys for one in _differ(f"{path}.{key}", here.get(key), there.get(key))]
    if isinstance(here, list) and isinstance(there, list):
        if any(isinstance(one, dict) for one in (*here, *there)):
            pairs = [
                (here[i] if i < len(here) else None, there[i] if i < len(there) else None)
                for i in range(max(len(here), len(there)))
            ]
            return [one for i, pair in enumerate(pairs) for one in _differ(f"{path}[{i}]", *pair)]
        more, less = [x for x in here if x not in there], [x for x in there if x not in here]
        if more or less:
            return [Difference(path, _shown(more), _shown(less))]
        return [Difference(f"{path}.*", _shown(here), _shown(there))]  # the same in another order
    return [Difference(path, _shown(here), _shown(there))]


def _shown(value: Any) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


# ---------------------------------------------------------------------------------------------------------------------
# Read aloud


def read_aloud(
    agreement: Agreement,
    language: Language,
    names: Mapping[str, str] | None = None,
    lacking: frozenset[str] = frozenset(),
) -> list[str]:
    """The articles, a line each, lists with one line per item.

    Args:
        names: agency -> how it is called in this language; others are called by their ids.
        lacking: domains whose root is still missing (`draft_from`).
    """
    fr = language == "fr"

    def t(french: str, english: str) -> str:
        return french if fr else english

    def called(agency: str) -> str:
        name = (names or {}).get(agency, agency)
        return agency if name == agency else f"{agency}{' : ' if fr else ': '}{name}"

    between = agreement.domains if agreement.crosses else agreement.agencies
    title = t("Accord entre pays", "Agreement between countries") if agreement.crosses else t("Protocole", "Protocol")
    return [
        f"{title} {agreement.name} ({', '.join(between)})",
        *_article(1, t("Qui échange", "Who exchanges"), [called(one) for one in _parties(agreement)], t),
        *_article(
            2,
            t("Dans quels flux", "In which flows"),
            [f"{one}{' : ' if fr else ': '}{FLOWS[one][language]}" for one in agreement.flows],
            t,
        ),
        *_article(
            3,
            t("Quels événements", "Which events"),
            [_event(one, language) for one in agreement.types]
            or [t("tous ceux de ces flux", "all those of these flows")],
            t,
        ),
        *_article(4, t("À quelles fins", "For which purposes"), agreement.purposes, t),
        *_article(
            5,
            t("Sur quelles autorisations", "On which authorisations"),
            [
                t(
                    f"{one.authority}, {one.ref}, pour {', '.join(one.scope)}, jusqu'au {_day(one.until, language)}",
                    f"{one.authority}, {one.ref}, for {', '.join(one.scope)}, until {_day(one.until, language)}",
                )
                for one in agreement.authorisations
            ],
            t,
        ),
        t(
            f"6. Durée : du {_day(agreement.since, language)} au {_day(agreement.until, language)} compris.",
            f"6. Term: from {_day(agreement.since, language)} to {_day(agreement.until, language)} inclusive.",
        ),
        t(
            f"7. Conservation : {agreement.retention_days} jours au plus.",
            f"7. Kept for: {agreement.retention_days} days at most.",
        ),
        t(f"8. Texte signé : {agreement.legal_ref}", f"8. Text that was signed: {agreement.legal_ref}"),
        "   "
        + (
            t("sans document joint", "no document attached")
            if agreement.document_sha256 is None
            else f"SHA-256 {_grouped(agreement.document_sha256)}"
        ),
        *(
            _article(
                9,
                t("Racines des registres", "Roots of the registries"),
                [_root(one, agreement, lacking, fr=fr) for one in agreement.domains],
                t,
            )
            if agreement.crosses
            else ()
        ),
        t(
            "Ce que la politique d'un domaine interdit reste interdit. Chaque partie y met fin seule, à tout moment.",
            "What a domain's policy forbids stays forbidden. Either party may end it alone, at any time.",
        ),
    ]


def _article(number: int, title: str, items: Sequence[str], t: Any) -> list[str]:
    head = f"{number}. {title}{t(' :', ':')}"
    return [head, *(f"   - {one}" for one in items)] if items else [f"{head} {t('néant', 'none')}"]


def _parties(agreement: Agreement) -> list[str]:
    return list(dict.fromkeys((*agreement.focal_points, *agreement.agencies)))


def _event(name: str, language: Language) -> str:
    known = EVENTS.get(name)
    return name if known is None else f"{name}{' : ' if language == 'fr' else ': '}{known.labels[language]}"


def _root(domain: str, agreement: Agreement, lacking: frozenset[str], *, fr: bool) -> str:
    if domain in lacking:
        said = "manque encore" if fr else "still missing"
    else:
        try:
            said = RootPin.read(agreement.root_fingerprints[domain]).spoken
        except ValueError:
            raise RegistryError("registry_invalid", f"agreement.root_fingerprints.{domain}") from None
    return f"{domain}{' : ' if fr else ': '}{said}"


def _grouped(digits: str) -> str:
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def _day(day: date, language: Language) -> str:
    first = "1er" if language == "fr" and day.day == 1 else str(day.day)
    return f"{first} {_MONTHS[language][day.month - 1]} {day.year}"
