# SPDX-License-Identifier: Apache-2.0
"""What is said on a referral after its request, as lines for a person: her way there, how it goes, what is asked.

Every code has its label in French and English and stands beside it. Pure.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapters.connectors.column_type import Choice
from schemas import htcds, lifecycle
from schemas.errors import Language
from schemas.forms import Feedback, Movement, Question
from schemas.plain.rights import ErasureAttested

GOES = (
    Choice("going-well", "Cela se passe bien", "Going well"),
    Choice("needs-attention", "Demande votre attention", "Needs your attention"),
    Choice("needs-more", "D'autres services sont nécessaires", "Further services are needed"),
    Choice("not-reached", "La personne n'a pas pu être jointe", "The person could not be reached"),
    Choice("left", "La personne est partie", "The person has left"),
)
HER_VIEW = (
    Choice("satisfied", "Satisfaite", "Satisfied"),
    Choice("partly", "En partie satisfaite", "Partly satisfied"),
    Choice("dissatisfied", "Insatisfaite", "Dissatisfied"),
    Choice("not-asked", "Ne lui a pas été demandé", "Not asked"),
)
_FIELDS: Mapping[str, tuple[str, str]] = {
    "name": ("Nom", "Name"),
    "birth": ("Naissance", "Birth"),
    "languages": ("Langues", "Languages"),
    "interpreter": ("Interprète", "Interpreter"),
    "access_needs": ("Besoins d'accès", "Access needs"),
    "pregnant_or_nursing": ("Enceinte ou allaitante", "Pregnant or nursing"),
    "dependants": ("Personnes à charge", "Dependants"),
    "safe_contact": ("Contact sûr", "Safe contact"),
    "caregiver": ("Tuteur ou représentant", "Guardian or representative"),
    "risk": ("Risque", "Risk"),
    "already_given": ("Services déjà fournis", "Services already given"),
    "transport": ("Transport", "Transport"),
    "reason": ("Motif", "Reason"),
    "referring_unit": ("Unité qui oriente", "Referring unit"),
    "on_call_telephone": ("Téléphone d'astreinte", "On-call telephone"),
    "services": ("Services demandés", "Services asked for"),
    "local_service": ("Service précis", "Which service exactly"),
    "feedback_by": ("Retour attendu", "Feedback expected"),
    "priority": ("Priorité", "Priority"),
    "told_and_refused": ("Ce que la personne refuse de partager", "What the person refused to share"),
}
"""Members of `Information` and of `Referral`, as a person calls them."""


@dataclass(frozen=True, slots=True)
class Words:
    """One line: label, value, codes."""

    label: str
    value: str
    code: str = ""


def field_in_words(name: str, language: Language) -> str:
    """`htcds.prs_Gender` or `information.risk` as its reader calls it; what is not ours, as it is."""
    group, _, member = name.partition(".")
    if group == "htcds" and member in htcds.FIELDS:
        return htcds.field_label(member, language)
    pair = _FIELDS.get(member)
    return name if pair is None else pair[0 if language == "fr" else 1]


def fields_in_words(names: Sequence[str], language: Language) -> str:
    return "; ".join(field_in_words(name, language) for name in names)


def movement_lines(movement: Movement, at: Callable[[datetime.datetime], str], language: Language) -> Iterator[Words]:
    """`at` writes a moment in the reader's zone."""
    for moment, french, english in (
        (movement.departed_at, "Partie", "Left"),
        (movement.expected_at, "Attendue", "Expected"),
        (movement.arrived_at, "Arrivée", "Arrived"),
    ):
        if moment is not None:
            yield Words(french if language == "fr" else english, at(moment))


def feedback_lines(feedback: Feedback, language: Language) -> Iterator[Words]:
    french = language == "fr"
    goes, view = feedback.outcome, feedback.her_view
    yield Words("Comment cela se passe" if french else "How it goes", _label(GOES, goes, language), goes)
    yield Words("Son avis" if french else "Her view", _label(HER_VIEW, view, language), view)
    if feedback.still_needed:
        labels = "; ".join(htcds.label("spl_Type", code, language) for code in feedback.still_needed)
        yield Words("Encore nécessaires" if french else "Still needed", labels, "; ".join(feedback.still_needed))


def question_lines(question: Question, language: Language) -> Iterator[Words]:
    french = language == "fr"
    asked = fields_in_words(question.fields, language)
    yield Words("Renseignements demandés" if french else "Asked for", asked, "; ".join(question.fields))
    if question.note is not None:
        yield Words("Précision" if french else "Note", question.note)


_GONE = (
    Choice("grant", "Les clés", "The keys"),
    Choice("delivered-copies", "Les copies remises", "The copies that were handed over"),
    Choice("never-held", "Rien : jamais reçu", "Nothing: never held"),
)
_REMAINS = (
    Choice("backups", "sauvegardes", "backups"),
    Choice("what-was-read", "ce qui a été lu", "what was read"),
    Choice("paper", "papier", "paper"),
)
_BY_HAND = (
    Choice(
        "find-moved-copies", "une copie n'est plus à sa place : à retrouver", "a copy is not at its place: to be found"
    ),
    Choice("destroy-other-copies", "copies faites ailleurs : à détruire", "copies made elsewhere: to be destroyed"),
    Choice("destroy-own-files", "leurs propres fichiers : à nettoyer", "their own files: to be cleaned"),
)


def attested_lines(said: ErasureAttested, language: Language) -> Iterator[Words]:
    """What a holder's machine erased, and what is left to people there."""
    french = language == "fr"
    for label, choices, codes in (
        ("Effacé" if french else "Erased", _GONE, said.gone),
        ("À faire là-bas par une personne" if french else "For a person there to do", _BY_HAND, said.by_hand),
        ("Hors d'atteinte" if french else "Out of reach", _REMAINS, said.remains),
    ):
        if codes:
            yield Words(label, "; ".join(_label(choices, code, language) for code in codes), "; ".join(codes))


def end_line(reason: str, language: Language) -> Words:
    """Why a service ended before its completion: words of the lifecycle."""
    labels = lifecycle.MACHINES["referral"].end_reasons[reason]
    return Words("Motif de fin" if language == "fr" else "Why it ended", labels[language], reason)


def _label(choices: Sequence[Choice], code: str, language: Language) -> str:
    return next(one.fr if language == "fr" else one.en for one in choices if one.code == code)
