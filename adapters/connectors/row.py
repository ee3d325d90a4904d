# SPDX-License-Identifier: Apache-2.0
"""One row of a form becomes one Draft, or all of its Problems together.

Invariants: nothing is completed that was not written, nothing that was written is passed over; every problem names
the cell, says what is wrong and what to write; dates read from figures are told back in words as notes.
Never: decides policy (who may send what to whom, what a child needs: `topics.catalogue` and `schemas.event_rules` do).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from adapters.connectors import as_typed, columns
from adapters.connectors.as_typed import MistypedError
from adapters.connectors.attached import Fetch
from adapters.connectors.column_type import Column, Form
from adapters.connectors.contract import Draft, Problem
from adapters.connectors.refusals import refused_field
from adapters.connectors.sheets import Cell
from schemas import htcds
from schemas.attachments import File, media_type_of
from schemas.errors import Language, PayloadError
from schemas.forms import Birth, Facts, validated

_TEXT_MAX = 500
_NOTE_MAX = 8000
_ARABIC = re.compile(r"[\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufeff]")
_NAME_PARTS = {"first": "prs_FirstName", "middle": "prs_MiddleName", "last": "prs_SecondName"}
_REFERENCE = re.compile(r"[A-Za-z0-9./-]{1,60}")
_OF_A_WHOLE_FORM = ("priorite", "services", "nom_donne", "prs_Birthdate")
_REACHED_AT = ("telephone", "sms", "whatsapp")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the author should know or confirm; it stops nothing."""

    line: str
    """The row's `Draft.line`; empty for the whole file."""
    where: str
    """As `Problem.where`."""
    fr: str
    en: str
    where_en: str = ""

    def at(self, language: Language) -> str:
        """`where` in that language."""
        return self.where_en if language == "en" and self.where_en else self.where


@dataclass(slots=True)
class Row:
    """One row being read: every getter returns a value or None, and remembers what is wrong."""

    form: Form
    line: str
    number: int
    """As the author sees it."""
    cells: Mapping[str, Cell]
    """By technical name."""
    letters: Mapping[str, str]
    """Technical name -> column letters."""
    recipients: Sequence[tuple[str, str]]
    now: datetime.datetime
    fetch: Fetch
    partial: bool = False
    """Only some cells are meant to be filled in: what a whole form needs may be absent."""
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def draft(self) -> Draft | None:
        """The row as one event to send; None: see `problems`."""
        to = self._recipient()
        person = self.text("reference_interne")
        type_ = self._type()
        data: dict[str, Any] = {"occurred_at": self._occurred_at(), "lawful": self._lawful()}
        birth = self._birth()
        if self.form == "Orientation":
            data["referral"] = self._referral(birth)
        else:
            data["birth"] = birth
            data["caregiver"] = self._caregiver()
        data["htcds"] = self._htcds()
        files = self._files()
        if self.problems or to is None or type_ is None:
            order = {self._where(columns.column(name)): index for index, name in enumerate(self.letters)}
            self.problems.sort(key=lambda problem: order.get(problem.where, -1))
            return None
        try:
            facts = validated(Facts, data)
        except PayloadError as refused:
            self._refused_by_form(refused)
            return None
        return Draft(self.line, to, type_, person, None, facts, files=files)

    def whatever_is_filled(self) -> dict[str, Any]:
        """Members of a referral that the row fills in, with `occurred_at`, `lawful` and `htcds`; see `problems`."""
        parts = [name for name in _NAME_PARTS.values() if self.filled(name)]
        if parts and not self.filled("nom_donne"):
            self.need("nom_donne", " avec une partie du nom", " with a part of the name")
        head = {"occurred_at": self._occurred_at(), "lawful": self._lawful()}
        return {**head, **self._referral(self._birth()), "htcds": self._htcds()}

    def _files(self) -> tuple[File, ...]:
        """The files that the row names; whether all of them together may be sent, the outbox says."""
        found = []
        for name in dict.fromkeys(self.several_texts("pieces_jointes")):
            file = self.fetch(name)
            if file is None:
                self.wrong(
                    "pieces_jointes",
                    f"« {name} » ne se trouve pas dans le dossier pieces-jointes. Mettez-y le fichier et écrivez ici "
                    "son nom exact, avec sa terminaison.",
                    f"« {name} » is not in the folder pieces-jointes. Put the file there and write its exact name "
                    "here, ending included.",
                )
            elif media_type_of(file.data) is None:
                self.wrong(
                    "pieces_jointes",
                    f"« {name} » n'est ni un PDF, ni une image JPEG ou PNG. Enregistrez ou numérisez-le en PDF.",
                    f"« {name} » is no PDF and no JPEG or PNG image. Save or scan it as PDF.",
                    "attachment_type",
                )
            else:
                found.append(file)
        return tuple(found)

    # What is wrong, and where

    def _where(self, column: Column) -> str:
        at = f", colonne {self.letters[column.name]}" if column.name in self.letters else ""
        return f"ligne {self.number}{at} (« {column.fr} »)"

    def _where_en(self, column: Column) -> str:
        at = f", column {self.letters[column.name]}" if column.name in self.letters else ""
        return f"row {self.number}{at} (« {column.en} »)"

    def wrong(self, name: str, fr: str, en: str, code: str = "row_invalid") -> None:
        column = columns.column(name)
        self.problems.append(Problem(self._where(column), code, fr, en, self.line, where_en=self._where_en(column)))

    def _read_as(self, name: str, words: str | None) -> None:
        if words:
            self.notes.append(
                Note(
                    self.line,
                    self._where(columns.column(name)),
                    f"Date lue jour d'abord : {words}. Si ce n'est pas cela, prévenez le destinataire.",
                    f"Date read day first: {words}. If that is not meant, tell the recipient.",
                    self._where_en(columns.column(name)),
                )
            )

    def _refused_by_form(self, refused: PayloadError) -> None:
        # Only a rule of the forms that this module does not word itself; the path names members of ours, no value.
        self.problems.append(
            Problem(
                f"ligne {self.number}",
                "row_invalid",
                f"Une rubrique de cette ligne n'est pas acceptable ({refused.path}).",
                f"A field of this row is not acceptable ({refused.path}).",
                self.line,
                where_en=f"row {self.number}",
            )
        )

    def _try(self, name: str, read: Callable[[Cell], T]) -> T | None:
        cell = self.cells.get(name)
        if cell is None:
            return None
        try:
            return read(cell)
        except MistypedError as mistyped:
            self.wrong(name, mistyped.fr, mistyped.en)
            return None

    # Single cells

    def filled(self, name: str) -> bool:
        return self.cells.get(name) is not None

    def need(self, name: str, because_fr: str = "", because_en: str = "", code: str = "row_invalid") -> bool:
        """Whether it is filled; a problem if not."""
        if self.filled(name):
            return True
        if self.partial and name in _OF_A_WHOLE_FORM and not because_fr.startswith(" avec"):
            return False
        self.wrong(
            name,
            f"Cette rubrique est obligatoire{because_fr}.",
            f"This field is required{because_en}.",
            code,
        )
        return False

    def text(self, name: str) -> str | None:
        column = columns.column(name)
        lines = column.kind == "note"
        text = self._try(name, lambda cell: as_typed.text_of(cell, lines=lines))
        most = _NOTE_MAX if lines else _TEXT_MAX
        if text is not None and len(text) > most:
            self.wrong(
                name,
                f"Le texte dépasse {most} caractères. Rien n'a été tronqué : raccourcissez-le.",
                f"The text is longer than {most} characters. Nothing was cut off: shorten it.",
            )
            return None
        return text

    def choice(self, name: str) -> str | None:
        text = self.text(name)
        return None if text is None else self._code(name, text)

    def choices(self, name: str) -> tuple[str, ...]:
        text = self._try(name, lambda cell: as_typed.text_of(cell, lines=True))
        if text is None:
            return ()
        parts = as_typed.split_list(text)
        if len(parts) == 1 and columns.column(name).code_of(parts[0]) is None and "," in parts[0]:
            parts = [part.strip() for part in parts[0].split(",") if part.strip()]
        found = [self._code(name, part) for part in parts]
        return tuple(dict.fromkeys(code for code in found if code is not None))

    def _code(self, name: str, text: str) -> str | None:
        column = columns.column(name)
        code = column.code_of(text)
        if code is None:
            near_fr, near_en = column.nearest(text, "fr"), column.nearest(text, "en")
            quoted = text if len(text) <= 60 else text[:57] + "..."
            self.wrong(
                name,
                f"« {quoted} » n'est pas dans la liste. "
                + (f"Vouliez-vous écrire « {near_fr} » ?" if near_fr else "Choisissez dans la liste déroulante."),
                f"« {quoted} » is not in the list. "
                + (f"Did you mean « {near_en} »?" if near_en else "Choose from the drop-down list."),
            )
        return code

    def several_texts(self, name: str) -> tuple[str, ...]:
        text = self._try(name, lambda cell: as_typed.text_of(cell, lines=True))
        parts = as_typed.split_list(text) if text else []
        if any(len(part) > _TEXT_MAX for part in parts):
            self.wrong(
                name, f"Un des textes dépasse {_TEXT_MAX} caractères.", f"One text exceeds {_TEXT_MAX} characters."
            )
        return tuple(parts)

    def yes_no(self, name: str) -> bool | None:
        return self._try(name, lambda cell: as_typed.yes_or_no(as_typed.text_of(cell) or ""))

    def day(self, name: str, *, end: bool = False) -> datetime.datetime | None:
        """The moment typed; without a time, the beginning of the day, or its end, in the agency's zone."""
        moment = self._try(name, as_typed.moment)
        if moment is None:
            return None
        self._read_as(name, moment.read_as)
        time = moment.time or (datetime.time(23, 59, 59) if end else datetime.time())
        return datetime.datetime.combine(moment.day, time, self.now.tzinfo)

    def past_day(self, name: str) -> datetime.datetime | None:
        found = self.day(name)
        if found is not None and found > self.now:
            self.wrong(name, "Cette date est dans le futur.", "This date is in the future.")
            return None
        return found

    # Groups of cells

    def _recipient(self) -> str | None:
        if not self.need("destinataire"):
            return None
        text = self.text("destinataire")
        if text is None:
            return None
        found = columns.recipient_meant(text, self.recipients)
        if found is None:
            self.wrong(
                "destinataire",
                "Ce destinataire n'est pas dans la liste de ceux à qui vous pouvez écrire. "
                "Choisissez-le dans la liste déroulante d'un modèle récent.",
                "This recipient is not among those that you may write to. Choose it from a recent template's list.",
                "agency_unknown",
            )
        return found

    def _type(self) -> str | None:
        if self.form == "Dossier":
            if not self.need("type"):
                return None
            found = self.choice("type")
            if found == "referral.requested":
                self.wrong(
                    "type",
                    "Une orientation se demande sur la feuille « Orientation ».",
                    "A referral is asked for on the sheet « Orientation ».",
                )
                return None
            return found
        found = self.choice("type") if self.filled("type") else "referral.requested"
        if found is not None and found != "referral.requested":
            self.wrong(
                "type",
                "Un dossier s'envoie depuis la feuille « Dossier ».",
                "A case is sent from the sheet « Dossier ».",
            )
        return found

    def _occurred_at(self) -> datetime.datetime:
        found = self.past_day("date_faits")
        return self.now if found is None or found.date() == self.now.date() else found

    def _birth(self) -> Birth | None:
        if not self.filled("prs_Birthdate"):
            if self.form == "Orientation":
                self.need("prs_Birthdate", " ; si rien n'est connu, écrivez « inconnue »", "; if unknown: inconnue")
            return None
        read = self._try("prs_Birthdate", lambda cell: as_typed.birth(cell, self.now.date()))
        if read is None:
            return None
        birth, words = read
        self._read_as("prs_Birthdate", words)
        basis = self.choice("naissance_base")
        return birth.model_copy(update={"basis": basis}) if basis else birth

    def _lawful(self) -> dict[str, Any] | None:
        agreed = not self.filled("base") and self.filled("con_Consent") and self.yes_no("con_Consent")
        if not agreed and not self.need("base", " : consentement, ou autre base légale", "", "consent_missing"):
            return None
        basis = "consent" if agreed else self.choice("base")
        if basis is None:
            return None
        lawful: dict[str, Any] = {
            "basis": basis,
            "legal_reference": self.text("reference_juridique"),
            "author": self.text("decide_par"),
            "reason": self.text("pourquoi"),
            "authorisations": self._authorisations(),
        }
        if basis == "consent":
            lawful["consent"] = self._consent()
            return lawful
        for name in ("consentement_date", "consentement_fin"):
            if self.filled(name):
                self.wrong(
                    name,
                    "Un consentement est daté, mais la base légale est autre. Choisissez l'une des deux.",
                    "A consent is dated, but the lawful basis is another. Choose one of the two.",
                )
        because = (" sans consentement", " without consent")
        self.need("decide_par", *because)
        self.need("pourquoi", *because)
        if basis == "legal-duty":
            self.need("reference_juridique", " avec une obligation légale", " with a legal duty")
        return lawful

    def _authorisations(self) -> tuple[dict[str, Any], ...]:
        """What the law of some domains asks for besides, where a child is concerned."""
        held = []
        for authority, name in (("guardian", "accord_tuteur"), ("family-judge", "accord_juge")):
            dated, until = f"{name}_date", f"{name}_fin"
            ends_too = authority == "family-judge"
            if not any(self.filled(each) for each in (name, dated, *((until,) if ends_too else ()))):
                continue
            both = (" avec sa date et sa référence", " with its date and its reference")
            if not self.need(name, *both) or not self.need(dated, *both):
                continue
            reference, decided = self.text(name), self.past_day(dated)
            if reference is not None and _REFERENCE.fullmatch(reference) is None:
                self.wrong(
                    name,
                    "Une référence s'écrit sans espace : lettres, chiffres, point, tiret, barre (2026/77).",
                    "A reference is written without spaces: letters, digits, point, dash, slash (2026/77).",
                )
            if reference is not None and decided is not None:
                ends = self.day(until, end=True) if ends_too else None
                held.append({"authority": authority, "reference": reference, "decided_at": decided, "expires_at": ends})
        return tuple(held)

    def _consent(self) -> dict[str, Any] | None:
        given_there = self.need("consentement_date", " avec le consentement", " with consent", "consent_missing")
        until_there = self.need("consentement_fin", " avec le consentement", " with consent", "consent_missing")
        # Never taken for granted: the reader would be told that she signed.
        how_there = self.need("consentement_forme", " avec le consentement", " with consent", "consent_missing")
        given, until = self.past_day("consentement_date"), self.day("consentement_fin", end=True)
        if until is not None and until <= self.now:
            self.wrong(
                "consentement_fin",
                "Le consentement a expiré : redemandez à la personne avant d'envoyer.",
                "The consent has expired: ask the person again before sending.",
                "consent_expired",
            )
        elif given is not None and until is not None and until <= given:
            self.wrong(
                "consentement_fin",
                "La fin du consentement précède son début.",
                "The consent ends before it is given.",
            )
        consent = {
            "given_at": given,
            "expires_at": until,
            "how": self.choice("consentement_forme"),
            "language": self.choice("consentement_langue"),
            "form_version": self.text("consentement_version"),
            "scope": self.choices("consentement_portee") or None,
        }
        return _present(consent) if given_there and until_there and how_there else None

    def _referral(self, birth: Birth | None) -> dict[str, Any]:
        for name in ("priorite", "services"):
            self.need(name)
        return _present(
            {
                "priority": self.choice("priorite"),
                "name": self._name(),
                "birth": birth,
                "services": self._services("services"),
                "local_service": self.text("service_local"),
                "languages": self._at_most("langues", self.choices("langues"), 10),
                "interpreter": self._interpreter(),
                "access_needs": self.text("besoins_acces"),
                "pregnant_or_nursing": self.choice("enceinte"),
                "dependants": self._dependants(),
                "safe_contact": self._safe_contact(),
                "caregiver": self._caregiver(),
                "risk": self._risk(),
                "already_given": self._services("services_deja"),
                "told_and_refused": self._refused(),
                "transport": self.choice("transport"),
                "reason": self.text("motif"),
                "feedback_by": self._feedback_by(),
                "referring_unit": self.text("unite"),
                "on_call_telephone": self.text("astreinte"),
            }
        )

    def _refused(self) -> tuple[str, ...] | None:
        """What names no column would keep nothing back, and she would not know."""
        found = []
        for text in self.several_texts("refus_partage"):
            name = refused_field(text)
            if name is None:
                quoted = text if len(text) <= 60 else text[:57] + "..."
                self.wrong(
                    "refus_partage",
                    f"« {quoted} » n'est le nom d'aucune rubrique : rien ne serait retenu. "
                    "Recopiez l'en-tête de la colonne.",
                    f"« {quoted} » is the name of no field: nothing would be kept back. Copy the column's header.",
                )
            else:
                found.append(name)
        return self._at_most("refus_partage", tuple(dict.fromkeys(found)), 40)

    def _services(self, name: str) -> tuple[str, ...] | None:
        return self.choices(name) or None

    def _at_most(self, name: str, found: tuple[T, ...], most: int) -> tuple[T, ...] | None:
        if len(found) > most:
            self.wrong(name, f"Pas plus de {most} réponses ici.", f"No more than {most} answers here.")
        return found or None

    def _dependants(self) -> tuple[int, ...] | None:
        found = self._try("accompagnants", lambda cell: as_typed.ages(as_typed.text_of(cell) or ""))
        return self._at_most("accompagnants", found or (), 20)

    def _name(self) -> dict[str, Any] | None:
        parts = {part: self.text(name) for part, name in _NAME_PARTS.items()}
        if not self.need("nom_donne"):
            return None
        given = self.text("nom_donne")
        script = "Arab" if given and _ARABIC.search(given) else "Latn"
        return _present({"as_given": given, **parts, "script": script})

    def _interpreter(self) -> dict[str, Any] | None:
        needed = self.yes_no("interprete")
        more = {"language": self.choice("interprete_langue"), "sex_preferred": self.choice("interprete_sexe")}
        if not self.filled("interprete"):
            if self.filled("interprete_langue") or self.filled("interprete_sexe"):
                self.need("interprete", " : Oui ou Non", ": Oui or Non")
            return None
        return _present({"needed": needed, **more})

    def _safe_contact(self) -> dict[str, Any] | None:
        channel = self.choice("contact_canal")
        more = {
            "address": self.text("contact_adresse"),
            "times": self.text("contact_heures"),
            "may_leave_message": self.yes_no("contact_message"),
            "may_say_who_calls": self.yes_no("contact_qui"),
            "never_contact": self._at_most("contact_jamais", self.several_texts("contact_jamais"), 10),
        }
        if not self.filled("contact_canal"):
            if _present(more):
                self.need("contact_canal", " quand une autre rubrique du contact sûr est remplie", "")
            return None
        if channel in _REACHED_AT:
            self.need("contact_adresse", " pour ce moyen de contact", " for this channel")
        elif channel is not None and self.filled("contact_adresse"):
            self.wrong(
                "contact_adresse",
                "Laissez vide : ce moyen de contact n'a ni numéro ni compte.",
                "Leave empty: this channel has no number or handle.",
            )
        return _present({"channel": channel, **more})

    def _caregiver(self) -> dict[str, Any] | None:
        status = self.choice("tuteur")
        more = {
            "name": self.text("tuteur_nom"),
            "relation": self.text("tuteur_lien"),
            "contact": self.text("tuteur_contact"),
            "informed": self.yes_no("tuteur_informe"),
            "why_not_informed": self.text("tuteur_non_informe"),
            "best_interest_note": self.text("interet_enfant"),
            "child_assent": self.choice("avis_enfant"),
        }
        if not self.filled("tuteur"):
            if _present(more):
                self.need("tuteur", " quand une autre rubrique du tuteur est remplie", " when another is filled in")
            return None
        if status == "suspected" and more["informed"]:
            self.wrong(
                "tuteur_informe",
                "Un tuteur peut-être impliqué n'est jamais prévenu : écrivez Non, ou corrigez la rubrique « Tuteur ».",
                "A guardian who may be involved is never notified: write Non, or correct « Caregiver ».",
            )
        return _present({"status": status, **more})

    def _risk(self) -> dict[str, Any] | None:
        level = self.choice("risque_niveau")
        more = {
            "from_whom": self.text("risque_de"),
            "must_not_know": self.text("risque_secret"),
            "not_to_place": self.text("risque_lieu"),
        }
        if not self.filled("risque_niveau"):
            return {"level": "unknown", **_present(more)} if _present(more) else None
        return _present({"level": level, **more})

    def _feedback_by(self) -> datetime.datetime | None:
        found = self.day("retour_attendu", end=True)
        if found is not None and found < self.now:
            self.wrong("retour_attendu", "Cette date est déjà passée.", "This date has passed already.")
        return found

    def _htcds(self) -> dict[str, str | tuple[str, ...]]:
        answers = {}
        for name in self.cells:
            column = columns.column(name)
            of_case = self.form == "Dossier" and name in _NAME_PARTS.values()
            if (column.kind == "htcds" or of_case) and self.filled(name):
                answer = self._answer(name)
                if answer is not None:
                    answers[name] = answer
        return answers

    def _answer(self, name: str) -> str | tuple[str, ...] | None:
        field_ = htcds.FIELDS[name]
        if field_.multi:
            return self.choices(name) or None
        if field_.kind == "boolean":
            found = self.yes_no(name)
            return None if found is None else str(found).lower()
        if htcds.options(name, "fr"):
            return self.choice(name)
        if field_.kind == "date":
            read = self._try(name, as_typed.day_month_or_year)
            if read is None:
                return None
            self._read_as(name, read[1])
            return read[0]
        text = self._try(name, lambda cell: as_typed.text_of(cell, lines=field_.kind == "note"))
        if text is None:
            return None
        try:
            return htcds.check(name, text)
        except PayloadError:
            self.wrong(name, *_HTCDS_WORDS.get(field_.kind, _HTCDS_WORDS["text"]))
            return None


_HTCDS_WORDS: Mapping[str, tuple[str, str]] = {
    "text": (
        f"Le texte dépasse {_TEXT_MAX} caractères ou contient des signes illisibles.",
        f"The text is longer than {_TEXT_MAX} characters or holds unreadable signs.",
    ),
    "note": (
        f"Le texte dépasse {_NOTE_MAX} caractères ou contient des signes illisibles.",
        f"The text is longer than {_NOTE_MAX} characters or holds unreadable signs.",
    ),
    "number": ("Écrivez un nombre entier de 0 à 120.", "Write a whole number from 0 to 120."),
    "phone": (
        "Écrivez le numéro avec l'indicatif du pays, par exemple +257 79 00 00 00.",
        "Write the number with the country code, for example +257 79 00 00 00.",
    ),
    "latitude": ("Écrivez des degrés décimaux, par exemple -3.3822.", "Write decimal degrees, for example -3.3822."),
    "longitude": ("Écrivez des degrés décimaux, par exemple 29.3644.", "Write decimal degrees, for example 29.3644."),
}


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was not written; the forms' own defaults stand there."""
    return {name: value for name, value in values.items() if value is not None}
