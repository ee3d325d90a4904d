# SPDX-License-Identifier: Apache-2.0
"""What an audit says, in sentences, in French and English: for the terminal and for the report.

Every sentence says what was shown and not more: what the keys came from, how far witnesses have signed, what was not
looked at. Must never: name a person, or anything that a record says beside who wrote to whom and when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from schemas.errors import CODES, Language
from topics.audit import Report
from topics.audit_findings import Finding
from topics.audit_tree import FormerLedger

_LAST = 253_402_300_799
_ABOUT: dict[str, tuple[str, str]] = {
    "record": ("Enregistrement", "Record"),
    "entry": ("Entrée du registre de preuve", "Entry of the ledger"),
    "chain": ("Suite des numéros d'un expéditeur", "A sender's numbering"),
    "checkpoint": ("Point de contrôle", "Checkpoint"),
    "receipt": ("Reçu", "Receipt"),
    "promise": ("Promesse de la passerelle", "Promise of the gateway"),
    "registry": ("Registre des agences", "Registry of the agencies"),
    "grant": ("Clé d'un enregistrement effacé", "Key of an erased record"),
}


def pick(language: Language, fr: str, en: str) -> str:
    return fr if language == "fr" else en


def clock(seconds: int) -> str:
    """`2026-10-27 08:53 UTC`; what was stated to lie beyond the year 9999 is shown as its last minute."""
    return datetime.fromtimestamp(min(seconds, _LAST), UTC).strftime("%Y-%m-%d %H:%M UTC")


def what(one: Finding, language: Language) -> str:
    """A finding's subject and what is wrong with it."""
    subject = _ABOUT[one.about][language != "fr"]
    return f"{subject}{' : ' if language == 'fr' else ': '}{CODES[one.code].title(language)}"


def where(one: Finding, language: Language) -> str:
    """A finding's place."""
    places = [
        one.topic,
        None if one.offset is None else f"{pick(language, 'position', 'offset')} {one.offset}",
        None if one.index is None else f"{pick(language, 'entrée', 'entry')} {one.index}",
        one.name,
    ]
    return ", ".join(place for place in places if place is not None)


def verdict(report: Report, stated: Sequence[str], language: Language) -> list[str]:
    """The outcome in a few sentences, the most important first."""
    found = report.findings
    lines = [_outcome(report, language), _looked_at(report, language), _witnessed(report, language)]
    lines += [_former(one, language) for one in report.formers]
    if found.counts and not found.contradictions:
        lines.append(
            pick(
                language,
                "Ce qui est signalé n'est pas un mensonge prouvé : cela peut encore venir. Demandez une copie plus "
                "récente.",
                "What is told is no proven lie: it may still come. Ask for a newer copy.",
            )
        )
    if stated:
        whose = {
            "policy": ("les clés", "the keys"),
            "root": ("la racine du registre", "the registry's root"),
            "neighbours": ("les clés des domaines voisins", "the keys of neighbouring domains"),
        }
        taken = pick(language, " et ", " and ").join(whose[one][language != "fr"] for one in stated)
        one_only = tuple(stated) == ("root",)
        come = pick(language, "vient" if one_only else "viennent", "comes" if one_only else "come")
        lines.append(
            pick(
                language,
                f"Attention : {taken} {come} de ce qui est vérifié. Comparez les empreintes par une autre voie ; "
                "sans cela, il est seulement montré que le tout s'accorde avec lui-même.",
                f"Attention: {taken} {come} from what was checked. Compare the fingerprints by another way; without "
                "that, it is only shown that all of it fits itself.",
            )
        )
    return lines


def _outcome(report: Report, language: Language) -> str:
    number = report.findings.contradictions
    if number:
        return pick(
            language,
            f"CONTREDIT : {number} constat(s) contredisent ce qui a été signé.",
            f"CONTRADICTED: {number} finding(s) contradict what was signed.",
        )
    if report.findings.counts:
        return pick(language, "Rien ne contredit ce qui a été signé.", "Nothing contradicts what was signed.")
    if report.shown != "records":
        return pick(
            language,
            "Ce qui a été regardé est en ordre ; ce n'est pas tout.",
            "What was looked at is in order; it is not all.",
        )
    return pick(language, "Tout est en ordre.", "All is in order.")


def _looked_at(report: Report, language: Language) -> str:
    if not report.whole:
        return pick(
            language,
            f"Extrait de {report.origin} : {report.records} enregistrement(s), chacun avec la preuve de sa place ; "
            f"{report.promises} promesse(s) tenue(s).",
            f"Excerpt of {report.origin}: {report.records} record(s), each with proof of its place; "
            f"{report.promises} promise(s) kept.",
        )
    if report.shown == "hashes":
        return pick(
            language,
            f"{report.origin} : l'arbre de {report.size} entrée(s) a été refait à partir de leurs empreintes ; "
            f"{report.receipts} reçu(s) y ont leur place. Ni les entrées, ni les enregistrements, ni les "
            "promesses n'ont été regardés : la passerelle ne les donne pas à tous.",
            f"{report.origin}: the tree of {report.size} entries was made again from their hashes; {report.receipts} "
            "receipt(s) have their place in it. Neither entries nor records nor promises were looked at: the gateway "
            "does not give them to everybody.",
        )
    if report.shown == "entries":
        return pick(
            language,
            f"{report.origin} : {report.size} entrée(s), {report.promises} promesse(s) et {report.receipts} "
            f"reçu(s) tenus ; registre en version {report.registry}. Les enregistrements n'ont pas été regardés : la "
            "passerelle ne les donne qu'à leurs destinataires.",
            f"{report.origin}: {report.size} entries, {report.promises} promise(s) and {report.receipts} receipt(s) "
            f"kept; registry version {report.registry}. The records were not looked at: the gateway gives them to "
            "their recipients only.",
        )
    return pick(
        language,
        f"{report.origin} : {report.size} entrée(s), {report.records} enregistrement(s) vérifié(s), "
        f"{report.promises} promesse(s) et {report.receipts} reçu(s) tenus ; registre en version {report.registry}.",
        f"{report.origin}: {report.size} entries, {report.records} record(s) verified, {report.promises} promise(s) "
        f"and {report.receipts} receipt(s) kept; registry version {report.registry}.",
    )


def _witnessed(report: Report, language: Language) -> str:
    endorsed = report.endorsed
    if endorsed is None:
        return pick(language, "Aucun point de contrôle ne suffit.", "No checkpoint is enough.")
    size = endorsed.signed.checkpoint.size
    if not endorsed.by:
        return pick(
            language,
            f"Signé sur {size} entrées par le registre de preuve seul : aucun témoin n'est exigé.",
            f"Signed over {size} entries by the ledger alone: no witness is required.",
        )
    seen = ", ".join(f"{name} ({clock(at)})" for name, at in sorted(_by_witness(endorsed.by).items()))
    return pick(
        language,
        f"Signé sur {size} entrées, et vu par : {seen}.",
        f"Signed over {size} entries, and seen by: {seen}.",
    )


def _former(one: FormerLedger, language: Language) -> str:
    """What is known of a ledger that was lost."""
    if one.last is None:
        known = pick(
            language,
            "le registre ne dit pas jusqu'où ses témoins l'avaient signé",
            "the registry does not say how far its witnesses had signed it",
        )
    else:
        known = pick(
            language,
            f"d'après le registre, ses témoins l'avaient signé sur {one.last.size} entrées",
            f"by the registry, its witnesses had signed it over {one.last.size} entries",
        )
    return pick(
        language,
        f"Avant lui, perdu : {one.origin} ; {known} ; parmi ce qui a été apporté, sur {one.held}. {one.receipts} "
        "reçu(s) de lui : ces enregistrements sont ici à la même place.",
        f"Before it, lost: {one.origin}; {known}; in what was brought, over {one.held}. {one.receipts} receipt(s) of "
        "it: those records stand in the same places here.",
    )


def _by_witness(by: Mapping[str, int]) -> dict[str, int]:
    """When each witness had seen it with all its keys; `umuhuza witness trust` names a key by witness and algorithm."""
    seen: dict[str, int] = {}
    for key, at in by.items():
        name = key.removesuffix("-ed25519").removesuffix("-ml-dsa-44")
        seen[name] = max(at, seen.get(name, at))
    return seen
