# SPDX-License-Identifier: Apache-2.0
"""What arrived, as a person reads it: titled sections of (label, value, code).

Invariants: everything that Facts say is shown, in the words of the form's own columns; codes stand beside their
labels, so that a report can be checked against the standard; dates are in words. Pure.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.connectors import as_typed, columns, consent_in_words, thread_in_words
from adapters.connectors.column_type import Choice
from adapters.connectors.form_columns import GROUPS
from schemas import htcds
from schemas.errors import Language
from schemas.forms import (
    Authorisation,
    Birth,
    Caregiver,
    Facts,
    Information,
    Interpreter,
    Lawful,
    Name,
    Referral,
    Risk,
    SafeContact,
)
from schemas.plain.record import RecordCorrected, Right
from schemas.plain.rights import ErasureAttested


@dataclass(frozen=True, slots=True)
class Said:
    label: str
    value: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    lines: tuple[Said, ...]


def sections_of(facts: Facts, zone: datetime.tzinfo | None, language: Language = "fr") -> tuple[Section, ...]:
    """Only sections that say something, in the form's order."""
    told = _Telling(zone, language)
    referral = facts.referral
    if referral is not None:
        told.referral(referral)
    if facts.birth is not None:
        told.birth(facts.birth)
    caregiver = facts.caregiver or (referral.caregiver if referral else None)
    if caregiver is not None:
        told.caregiver(caregiver)
    if facts.lawful is not None:
        told.lawful(facts.lawful)
    if referral is not None:
        told.reason(referral)
    if facts.information is not None:
        told.information(facts.information)
    for name, answer in facts.htcds.items():
        told.htcds(name, answer)
    if facts.answer is not None:
        told.answer(facts.answer.reason, facts.answer.outcome, facts.answer.expected_from)
    if facts.service is not None:
        told.service(facts.service.type, facts.service.began_at, facts.service.ended_at)
    told.later(facts)
    return told.sections()


DECLINED = (
    Choice("no-capacity", "Plus de place", "No capacity"),
    Choice("not-our-service", "Ce n'est pas notre service", "Not our service"),
    Choice("unsafe-here", "Pas sûr ici pour la personne", "Not safe here for the person"),
    Choice("person-declined", "La personne ne le souhaite pas", "The person declined"),
    Choice("incomplete", "Demande incomplète", "Incomplete request"),
    Choice("duplicate", "Demande en double", "Duplicate request"),
    Choice("other", "Autre motif", "Other reason"),
)
"""Why a referral is declined."""
OUTCOMES = (
    Choice("service-completed", "Service mené à bien", "Service completed"),
    Choice("goals-met", "Objectifs atteints", "Goals met"),
    Choice("referred-on", "Orientée vers un autre service", "Referred on"),
)
"""How a referral was completed."""


def choice_label(choices: Sequence[Choice], code: str, language: Language = "fr") -> str:
    """The code itself where it is not known."""
    return next((choice.label(language) for choice in choices if choice.code == code), code)


def moment_in_words(moment: datetime.datetime, zone: datetime.tzinfo | None, language: Language = "fr") -> str:
    """`3 avril 2026, 14:05`; without the time at the beginning or the end of a day."""
    local = moment.astimezone(zone) if zone else moment
    day = as_typed.in_words(local.date()) if language == "fr" else f"{local.day} {local:%B %Y}"
    whole = local.time().replace(microsecond=0) in (datetime.time(), datetime.time(23, 59, 59))
    return day if whole else f"{day}, {local:%H:%M}"


def birth_in_words(birth: Birth, language: Language = "fr") -> str:
    """`12 mai 2008`, `mai 2008`, `vers 2008`, `17 ans`, `inconnue`."""
    french = language == "fr"
    if birth.precision == "unknown":
        return "inconnue" if french else "unknown"
    if birth.precision == "age":
        return f"{birth.age_years} {'ans' if french else 'years'}"
    date = birth.date or ""
    if birth.precision == "year":
        about = "vers " if birth.basis == "estimated" else ""
        return about + date
    if birth.precision == "month":
        return f"{as_typed.MONTHS[int(date[5:7]) - 1]} {date[:4]}" if french else date
    return as_typed.in_words(datetime.date.fromisoformat(date)) if french else date


class _Telling:
    """Collects lines by the group of their column."""

    def __init__(self, zone: datetime.tzinfo | None, language: Language) -> None:
        self._zone = zone
        self._language = language
        self._lines: dict[str, list[Said]] = {group: [] for group in (*GROUPS, "answer")}

    def sections(self) -> tuple[Section, ...]:
        french = self._language == "fr"
        titles = {group: pair[0 if french else 1] for group, pair in GROUPS.items()}
        titles["htcds"] = "HTCDS 2.0"
        titles["answer"] = "Réponse" if french else "Answer"
        return tuple(Section(titles[group], tuple(lines)) for group, lines in self._lines.items() if lines)

    def _say(self, name: str, value: str | None, code: str = "") -> None:
        if value:
            column = columns.column(name)
            self._lines[column.group].append(Said(column.label(self._language), value, code))

    def _coded(self, name: str, code: str | None) -> None:
        if code is not None:
            labels = dict(columns.column(name).options(self._language))
            self._say(name, labels.get(code, code), code)

    def _several(self, name: str, codes: Sequence[str]) -> None:
        labels = dict(columns.column(name).options(self._language))
        self._say(name, "; ".join(labels.get(code, code) for code in codes), "; ".join(codes))

    def _yes_no(self, name: str, answer: bool) -> None:
        labels = dict(columns.column(name).options(self._language))
        self._say(name, labels["true" if answer else "false"])

    def _moment(self, name: str, moment: datetime.datetime | None) -> None:
        if moment is not None:
            self._say(name, moment_in_words(moment, self._zone, self._language))

    def birth(self, birth: Birth) -> None:
        self._say("prs_Birthdate", birth_in_words(birth, self._language), birth.date or "")
        self._coded("naissance_base", birth.basis)

    def referral(self, referral: Referral) -> None:
        self._coded("priorite", referral.priority)
        self.name(referral.name)
        self.birth(referral.birth)
        self._several("services", referral.services)
        self._say("service_local", referral.local_service)
        self._several("services_deja", referral.already_given)
        self._several("langues", referral.languages)
        self.interpreter(referral.interpreter)
        self._say("besoins_acces", referral.access_needs)
        self._coded("enceinte", referral.pregnant_or_nursing)
        self._say("accompagnants", "; ".join(str(age) for age in referral.dependants))
        if referral.transport != "none":
            self._coded("transport", referral.transport)
        self.safe_contact(referral.safe_contact)
        self.risk(referral.risk)

    def name(self, name: Name) -> None:
        self._say("nom_donne", name.as_given)
        self._say("prs_FirstName", name.first)
        self._say("prs_MiddleName", name.middle)
        self._say("prs_SecondName", name.last)

    def interpreter(self, interpreter: Interpreter) -> None:
        if not interpreter.needed:  # also where the sender has left it open
            self._say("interprete", "Non, ou pas dit" if self._language == "fr" else "No, or not said", "false")
        else:
            self._yes_no("interprete", True)
            self._coded("interprete_langue", interpreter.language)
            self._coded("interprete_sexe", interpreter.sex_preferred)

    def safe_contact(self, contact: SafeContact) -> None:
        self._coded("contact_canal", contact.channel)
        self._say("contact_adresse", contact.address)
        self._say("contact_heures", contact.times)
        self._yes_no("contact_message", contact.may_leave_message)
        self._yes_no("contact_qui", contact.may_say_who_calls)
        self._say("contact_jamais", "; ".join(contact.never_contact))

    def risk(self, risk: Risk) -> None:
        self._coded("risque_niveau", risk.level)
        self._say("risque_de", risk.from_whom)
        self._say("risque_secret", risk.must_not_know)
        self._say("risque_lieu", risk.not_to_place)

    def information(self, said: Information) -> None:
        """What was added to a request; members that were not said are left out."""
        if said.name is not None:
            self.name(said.name)
        if said.birth is not None:
            self.birth(said.birth)
        self._several("services_deja", said.already_given)
        self._several("langues", said.languages)
        if said.interpreter is not None:
            self.interpreter(said.interpreter)
        self._say("besoins_acces", said.access_needs)
        self._coded("enceinte", said.pregnant_or_nursing)
        self._say("accompagnants", "; ".join(str(age) for age in said.dependants))
        self._coded("transport", said.transport)
        if said.safe_contact is not None:
            self.safe_contact(said.safe_contact)
        if said.risk is not None:
            self.risk(said.risk)
        if said.caregiver is not None:
            self.caregiver(said.caregiver)
        self._say("motif", said.reason)
        self._say("unite", said.referring_unit)
        self._say("astreinte", said.on_call_telephone)
        french = self._language == "fr"
        for names, label in (
            (said.not_known, "Non connus" if french else "Not known"),
            (said.not_shared, "Non partagés" if french else "Not shared"),
        ):
            if names:
                words = thread_in_words.fields_in_words(names, self._language)
                self._lines["answer"].append(Said(label, words, "; ".join(names)))

    def later(self, facts: Facts) -> None:
        """What comes after the request: why it ended, her way there, how it goes, what is asked."""

        def at(moment: datetime.datetime) -> str:
            return moment_in_words(moment, self._zone, self._language)

        found: list[thread_in_words.Words] = []
        if facts.answer is not None and facts.answer.end_reason is not None:
            found.append(thread_in_words.end_line(facts.answer.end_reason, self._language))
        if facts.movement is not None:
            found += thread_in_words.movement_lines(facts.movement, at, self._language)
        if facts.feedback is not None:
            found += thread_in_words.feedback_lines(facts.feedback, self._language)
        if facts.question is not None:
            found += thread_in_words.question_lines(facts.question, self._language)
        found += consent_in_words.lines(facts.said, at, self._language)
        if isinstance(facts.said, ErasureAttested):
            found += thread_in_words.attested_lines(facts.said, self._language)
        if isinstance(facts.said, RecordCorrected):
            self.corrected(facts.said)
        self._lines["answer"] += [Said(one.label, one.value, one.code) for one in found]

    def corrected(self, said: RecordCorrected) -> None:
        """What is right now, under the titles under which it stood."""
        right = said.right or Right()
        members = {name: getattr(right, name) for name in Right.model_fields.keys() & Information.model_fields.keys()}
        told = {name: value for name, value in members.items() if value is not None}
        self._coded("priorite", right.priority)
        self._several("services", right.services or ())
        self.information(Information(name=said.name, birth=said.birth, **told))
        self._say("service_local", right.local_service)
        self._moment("retour_attendu", right.feedback_by)
        for one in right.htcds or ():
            self.htcds(one.field, one.answer)

    def reason(self, referral: Referral) -> None:
        self._say("refus_partage", "; ".join(referral.told_and_refused))
        self._say("motif", referral.reason)
        self._moment("retour_attendu", referral.feedback_by)
        self._say("unite", referral.referring_unit)
        self._say("astreinte", referral.on_call_telephone)

    def caregiver(self, caregiver: Caregiver) -> None:
        self._coded("tuteur", caregiver.status)
        self._say("tuteur_nom", caregiver.name)
        self._say("tuteur_lien", caregiver.relation)
        self._say("tuteur_contact", caregiver.contact)
        self._yes_no("tuteur_informe", caregiver.informed)
        self._say("tuteur_non_informe", caregiver.why_not_informed)
        self._say("interet_enfant", caregiver.best_interest_note)
        self._coded("avis_enfant", caregiver.child_assent)

    def lawful(self, lawful: Lawful) -> None:
        self._coded("base", lawful.basis)
        if lawful.consent is not None:
            self._moment("consentement_date", lawful.consent.given_at)
            self._moment("consentement_fin", lawful.consent.expires_at)
            self._coded("consentement_forme", lawful.consent.how)
            self._coded("consentement_langue", lawful.consent.language)
            self._say("consentement_version", lawful.consent.form_version)
            self._several("consentement_portee", lawful.consent.scope)
        self._say("reference_juridique", lawful.legal_reference)
        self._say("decide_par", lawful.author)
        self._say("pourquoi", lawful.reason)
        for one in lawful.authorisations:
            self.authorisation(one)

    def authorisation(self, one: Authorisation) -> None:
        name = {"guardian": "accord_tuteur", "family-judge": "accord_juge"}.get(one.authority)
        if name is None:  # a border's: it stands in a transfer, and its name says enough
            self._lines["child"].append(Said(one.authority, one.reference))
            return
        self._say(name, one.reference)
        self._moment(f"{name}_date", one.decided_at)
        if one.expires_at is not None:
            label = columns.column("accord_juge_fin").label(self._language)
            self._lines["child"].append(Said(label, moment_in_words(one.expires_at, self._zone, self._language)))

    def htcds(self, name: str, answer: str | tuple[str, ...]) -> None:
        codes = (answer,) if isinstance(answer, str) else answer
        labels = dict(htcds.options(name, self._language))
        group = columns.column(name).group
        label = htcds.field_label(name, self._language)
        if labels:
            value, code = "; ".join(labels.get(each, each) for each in codes), "; ".join(codes)
        else:
            value, code = "; ".join(codes), ""
        self._lines[group].append(Said(label, value, code))

    def answer(self, reason: str | None, outcome: str | None, expected: datetime.datetime | None) -> None:
        french = self._language == "fr"
        lines = self._lines["answer"]
        if reason is not None:
            label = "Motif du refus" if french else "Why declined"
            lines.append(Said(label, choice_label(DECLINED, reason, self._language), reason))
        if outcome is not None:
            lines.append(
                Said("Résultat" if french else "Outcome", choice_label(OUTCOMES, outcome, self._language), outcome)
            )
        if expected is not None:
            label = "Attendue à partir du" if french else "Expected from"
            lines.append(Said(label, moment_in_words(expected, self._zone, self._language)))

    def service(self, type_: str, began: datetime.datetime, ended: datetime.datetime | None) -> None:
        french = self._language == "fr"
        lines = self._lines["answer"]
        lines.append(
            Said("Service fourni" if french else "Service", htcds.label("spl_Type", type_, self._language), type_)
        )
        lines.append(Said("Début" if french else "Began", moment_in_words(began, self._zone, self._language)))
        if ended is not None:
            lines.append(Said("Fin" if french else "Ended", moment_in_words(ended, self._zone, self._language)))
