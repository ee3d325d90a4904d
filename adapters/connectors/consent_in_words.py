# SPDX-License-Identifier: Apache-2.0
"""What is said on the case thread and about consent, as lines for a person: codes have their words beside them.

A withdrawal says what to do and what it cannot do: what was read cannot be unread. Pure.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping

from adapters.connectors.thread_in_words import Words, field_in_words
from schemas.errors import Language
from schemas.forms import Form
from schemas.plain.case import (
    CaseClosed,
    CaseHandover,
    CaseReopened,
    ConferenceCalled,
    ConferenceDecided,
    HandoverAcknowledged,
    ReflectionEnded,
    ReflectionStarted,
)
from schemas.plain.consent import ConsentAcknowledged, ConsentGranted, ConsentWithdrawn
from schemas.plain.record import RecordCorrected, RecordRetracted

_CODES: Mapping[str, tuple[str, str]] = {
    "sharing": (
        "Ne partagez plus rien de nouveau. L'accompagnement en cours continue.",
        "Share nothing new. A running service continues.",
    ),
    "service": ("L'accompagnement s'arrête aussi.", "The service ends too."),
    "full": ("Pour tout ce qui a été demandé", "For all that was asked"),
    "limited": ("Pour moins que demandé", "For less than was asked"),
    "recipient": ("Vous reprenez le dossier", "You take over the case"),
    "another": ("Quelqu'un d'autre reprend le dossier", "Somebody else takes over the case"),
    "other-area": ("Autre région", "Another area"),
    "other-service": ("Autre service", "Another service"),
    "no-capacity": ("Pas de place", "No capacity"),
    "person-asked": ("La personne l'a demandé", "The person asked for it"),
    "mandate": ("Mandat", "Mandate"),
    "assistance-completed": ("Accompagnement terminé", "Assistance completed"),
    "not-trafficking": ("Ce n'est pas de la traite des personnes", "Not trafficking in persons"),
    "lost-contact": ("Contact perdu", "Contact lost"),
    "returned": ("De retour chez elle", "Returned home"),
    "died": ("Décédée", "Died"),
    "person-came-back": ("La personne est revenue", "The person came back"),
    "new-facts": ("Faits nouveaux", "New facts"),
    "closed-by-mistake": ("Clos par erreur", "Closed by mistake"),
    "elapsed": ("Le délai est passé", "The period has passed"),
    "other": ("Autre", "Other"),
    "in-person": ("En personne", "In person"),
    "telephone": ("Par téléphone", "By telephone"),
    "video": ("En visioconférence", "By video"),
    "continue": ("Continuer", "Continue"),
    "shelter": ("Hébergement", "Shelter"),
    "medical": ("Soins", "Medical care"),
    "psychosocial": ("Soutien psychosocial", "Psychosocial support"),
    "legal": ("Aide juridique", "Legal aid"),
    "documents": ("Documents", "Documents"),
    "family-tracing": ("Recherche de la famille", "Family tracing"),
    "return": ("Retour", "Return"),
    "protect": ("Protection", "Protection"),
    "end": ("Mettre fin à l'accompagnement", "End the assistance"),
    "wrong-recipient": ("Mauvais destinataire", "Wrong recipient"),
    "wrong-person": ("Mauvaise personne", "Wrong person"),
    "sent-by-mistake": ("Envoyé par erreur", "Sent by mistake"),
    "misheard": ("Mal entendu", "Misheard"),
    "misread": ("Mal lu", "Misread"),
    "interpreter": ("Erreur d'interprétation", "An interpreter's mistake"),
    "not-known-then": ("Pas connu alors", "Not known then"),
    "changed-since": ("A changé depuis", "Has changed since"),
    "person": ("La personne elle-même", "The person herself"),
    "document": ("Un document", "A document"),
    "guardian": ("Tuteur ou représentant", "Guardian or representative"),
    "another-agency": ("Une autre agence", "Another agency"),
    "own-file": ("Notre dossier", "Our own file"),
    "not-permitted": ("N'aurait pas dû être envoyé", "Should not have been sent"),
}
_UNREAD = (
    "Ce qui a été lu ne peut pas redevenir non lu. Votre adaptateur prévient ceux à qui vous l'avez transmis.",
    "What was read cannot be unread. Your adapter tells those to whom you have passed it on.",
)


def lines(said: Form | None, at: Callable[[datetime.datetime], str], language: Language) -> list[Words]:
    """Lines about what an event says; none for forms of other flows. `at` writes a moment in the reader's zone."""
    telling = _Telling(at, 0 if language == "fr" else 1)
    match said:
        case ConsentWithdrawn():
            telling.coded("Consentement retiré", "Consent withdrawn", said.scope)
            telling.say("À savoir", "Note", _UNREAD[telling.column])
        case ConsentAcknowledged():
            telling.coded("Retrait confirmé", "Withdrawal confirmed", said.scope)
            telling.say("Confirmé aussi après lui par", "Confirmed behind it by", str(said.onward_confirmed))
        case ConsentGranted():
            telling.coded("Consentement", "Consent", said.extent)
            telling.moment("Jusqu'au", "Until", said.consent.expires_at)
        case CaseHandover():
            telling.coded("Dossier transmis", "Case handed over", said.taken_over_by)
            telling.coded("Motif", "Reason", said.reason)
        case CaseClosed() | CaseReopened() | ReflectionEnded() | RecordRetracted():
            telling.coded("Motif", "Reason", said.reason)
        case ReflectionStarted():
            telling.moment("Délai de réflexion jusqu'au", "Reflection period until", said.until)
        case ConferenceCalled():
            telling.moment("Réunion", "Conference", said.at)
            telling.coded("Comment", "How", said.how)
            telling.say("Lieu", "Place", said.place)
            telling.several("Avec", "With", said.participants)
            telling.say("Ordre du jour", "Agenda", said.agenda)
        case ConferenceDecided():
            telling.codes("Décidé", "Decided", said.decisions)
            telling.yes_no("La personne a été entendue", "The person was heard", said.person_heard)
            telling.moment("À revoir le", "To be reviewed", said.review_at)
            telling.several("Avec", "With", said.participants)
            telling.say("Note", "Note", said.note)
        case HandoverAcknowledged():
            telling.yes_no("Prise en charge", "Taken over", said.taken_over)
            telling.say("Téléphoner à", "Telephone", said.telephone)
        case RecordCorrected():
            named = dict.fromkeys(field_in_words(_asked(path), language) for path in said.fields)
            telling.say("Champs corrigés", "Fields corrected", "; ".join(named), "; ".join(said.fields))
            if said.reason is not None:
                telling.coded("Pourquoi", "Why", said.reason)
            if said.source is not None:
                telling.coded("D'après", "According to", said.source)
    return telling.lines


def _asked(path: str) -> str:
    """A field as one asks for it: `referral.risk.level` is `information.risk`."""
    group, _, member = path.partition(".")
    if group == "htcds":
        return path
    return f"information.{member.partition('.')[0] if group in ('referral', 'information') else group}"


class _Telling:
    """Collects lines in one language."""

    def __init__(self, at: Callable[[datetime.datetime], str], column: int) -> None:
        self._at = at
        self.column = column
        self.lines: list[Words] = []

    def say(self, french: str, english: str, value: str | None, code: str = "") -> None:
        if value:
            self.lines.append(Words((french, english)[self.column], value, code))

    def coded(self, french: str, english: str, code: str) -> None:
        self.say(french, english, _CODES[code][self.column], code)

    def codes(self, french: str, english: str, codes: Iterable[str]) -> None:
        self.say(french, english, "; ".join(_CODES[code][self.column] for code in codes), "; ".join(codes))

    def several(self, french: str, english: str, values: Iterable[str] | None) -> None:
        self.say(french, english, None if values is None else "; ".join(values))

    def moment(self, french: str, english: str, moment: datetime.datetime | None) -> None:
        self.say(french, english, None if moment is None else self._at(moment))

    def yes_no(self, french: str, english: str, answer: bool) -> None:
        self.say(french, english, (("non", "no"), ("oui", "yes"))[answer][self.column])
