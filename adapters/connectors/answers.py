# SPDX-License-Identifier: Apache-2.0
"""The sheet « Réponse »: its columns, its rows as Drafts, and what may come next on a referral.

Invariants: one row is one step; a row's key is (event answered, row number) and what it says, so that a row that is
saved again is the same row and a corrected one is another; an answer carries no identity.
Never: sends a row that was sent, or guesses a reason or an outcome.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.connectors import as_typed
from adapters.connectors.as_typed import MistypedError
from adapters.connectors.column_type import Choice, fold
from adapters.connectors.contract import Draft, Problem
from adapters.connectors.facts_in_words import DECLINED, OUTCOMES
from adapters.connectors.sheets import Cell, Table
from adapters.connectors.thread_in_words import GOES, HER_VIEW, field_in_words
from schemas import htcds, lifecycle
from schemas.element_shapes import ASKABLE
from schemas.errors import Language, PayloadError
from schemas.forms import Facts, validated
from topics.catalogue import allowed_fields

SHEET = "Réponse"
KEY_SHEET = "Umuhuza"
"""Very hidden: which thread the workbook answers."""

STEPS = (
    Choice("referral.received", "Reçue par une personne", "Received by a person"),
    Choice("information.requested", "Renseignement demandé", "Information asked for"),
    Choice("referral.accepted", "Acceptée", "Accepted"),
    Choice("referral.declined", "Déclinée", "Declined"),
    Choice("movement.arrived", "La personne est arrivée", "The person has arrived"),
    Choice("referral.started", "Accompagnement commencé", "Service started"),
    Choice("service.provided", "Service fourni", "Service provided"),
    Choice("feedback.given", "Nouvelles données", "Feedback given"),
    Choice("referral.completed", "Terminée", "Completed"),
    Choice("referral.ended", "Interrompue avant son terme", "Ended before completion"),
)
"""In the order of their use."""


@dataclass(frozen=True, slots=True)
class AnswerColumn:
    name: str
    fr: str
    en: str
    width: int
    choices: tuple[Choice, ...] = ()
    help_fr: str = ""
    help_en: str = ""
    multi: bool = False
    """Several choices, separated by semicolons."""

    def label(self, language: Language) -> str:
        return self.fr if language == "fr" else self.en


def _services() -> tuple[Choice, ...]:
    english = dict(htcds.options("spl_Type", "en"))
    return tuple(Choice(code, label, english[code]) for code, label in htcds.options("spl_Type", "fr"))


def _ended() -> tuple[Choice, ...]:
    return tuple(
        Choice(code, labels["fr"], labels["en"]) for code, labels in lifecycle.MACHINES["referral"].end_reasons.items()
    )


def _askable() -> tuple[Choice, ...]:
    """What may be asked for, in the words in which the answer will be shown: only what an answer could bring."""
    services = [code for code, _ in htcds.options("spl_Type", "en")]
    allowed = allowed_fields("information.answered", services) or frozenset()
    names = sorted((name for name in ASKABLE if name in allowed), key=lambda name: (name.startswith("htcds."), name))
    return tuple(Choice(name, field_in_words(name, "fr"), field_in_words(name, "en")) for name in names)


COLUMNS: tuple[AnswerColumn, ...] = (
    AnswerColumn(
        "etape",
        "Étape *",
        "Step *",
        26,
        STEPS,
        "Une ligne par étape, l'une après l'autre.",
        "One row per step, in order.",
    ),
    AnswerColumn(
        "date",
        "Date et heure",
        "Date and time",
        20,
        (),
        "Vide : maintenant. Sinon 21/11/2026 ou 21/11/2026 14:30.",
        "Empty: now. Otherwise 21/11/2026 or 21/11/2026 14:30.",
    ),
    AnswerColumn(
        "motif",
        "Motif (si déclinée)",
        "Reason (if declined)",
        30,
        DECLINED,
        "Obligatoire avec « Déclinée ».",
        "Required with « Declined ».",
    ),
    AnswerColumn(
        "attendue",
        "Attendue à partir du (si acceptée)",
        "Expected from (if accepted)",
        20,
        (),
        "Facultatif : 21/11/2026.",
        "Optional: 21/11/2026.",
    ),
    AnswerColumn(
        "service",
        "Service fourni",
        "Service provided",
        28,
        _services(),
        "Obligatoire avec « Service fourni ».",
        "Required with « Service provided ».",
    ),
    AnswerColumn(
        "debut",
        "Service : début",
        "Service: began",
        16,
        (),
        "Obligatoire avec « Service fourni » : 21/11/2026.",
        "Required with « Service provided »: 21/11/2026.",
    ),
    AnswerColumn("fin", "Service : fin", "Service: ended", 16, (), "Facultatif : 21/11/2026.", "Optional: 21/11/2026."),
    AnswerColumn(
        "resultat",
        "Résultat (si terminée)",
        "Outcome (if completed)",
        28,
        OUTCOMES,
        "Obligatoire avec « Terminée ».",
        "Required with « Completed ».",
    ),
    AnswerColumn(
        "fin_motif",
        "Motif de fin (si interrompue)",
        "Why it ended (if ended)",
        30,
        _ended(),
        "Obligatoire avec « Interrompue avant son terme ».",
        "Required with « Ended before completion ».",
    ),
    AnswerColumn(
        "nouvelles",
        "Nouvelles : comment cela se passe",
        "Feedback: how it goes",
        30,
        GOES,
        "Obligatoire avec « Nouvelles données ».",
        "Required with « Feedback given ».",
    ),
    AnswerColumn(
        "avis",
        "Nouvelles : son avis",
        "Feedback: her view",
        22,
        HER_VIEW,
        "Facultatif. Demandez-le-lui.",
        "Optional. Ask her.",
    ),
    AnswerColumn(
        "encore",
        "Nouvelles : services encore nécessaires",
        "Feedback: services still needed",
        30,
        _services(),
        "Facultatif. Plusieurs : séparez par un point-virgule.",
        "Optional. Several: separate them by semicolons.",
        multi=True,
    ),
    AnswerColumn(
        "demande",
        "Renseignement demandé",
        "Information asked for",
        30,
        _askable(),
        "Obligatoire avec « Renseignement demandé ». Plusieurs : séparez par un point-virgule.",
        "Required with « Information asked for ». Several: separate them by semicolons.",
        multi=True,
    ),
    AnswerColumn(
        "demande_precision",
        "Renseignement : précision",
        "Information: note",
        34,
        (),
        "Facultatif : ce que vous devez savoir, et pourquoi.",
        "Optional: what you need to know, and why.",
    ),
    AnswerColumn(
        "reference",
        "Votre référence",
        "Your reference",
        18,
        (),
        "Votre numéro de dossier. Il reste chez vous.",
        "Your case number. It stays with you.",
    ),
)
STATUS = AnswerColumn("statut", "Statut", "Status", 44)
"""Ours: what became of the row."""

_BELONGS: Mapping[str, str] = {
    "motif": "referral.declined",
    "attendue": "referral.accepted",
    "service": "service.provided",
    "debut": "service.provided",
    "fin": "service.provided",
    "resultat": "referral.completed",
    "fin_motif": "referral.ended",
    "nouvelles": "feedback.given",
    "avis": "feedback.given",
    "encore": "feedback.given",
    "demande": "information.requested",
    "demande_precision": "information.requested",
}


def steps_ahead(state: str, may_answer: Iterable[str]) -> list[str]:
    """The steps to offer: those that may be sent now, and those that can follow them. Empty: no answer is awaited."""
    offered = {step.code for step in STEPS}
    machine = lifecycle.MACHINES["referral"]
    found = {type_ for type_ in may_answer if type_ in offered}
    if not found or state not in machine.states:
        return [step.code for step in STEPS if step.code in found]
    states, frontier = {state}, [state]
    while frontier:
        current = frontier.pop()
        for type_ in lifecycle.next_events("referral", current, "recipient"):
            if type_ not in offered:
                continue
            found.add(type_)
            after = lifecycle.step("referral", current, type_, "recipient").state
            if after not in states:
                states.add(after)
                frontier.append(after)
    return [step.code for step in STEPS if step.code in found]


@dataclass(frozen=True, slots=True)
class Keys:
    """What a workbook answers, from its hidden sheet."""

    thread: str
    ident: str
    to: str
    evt: str


def keys_of(table: Table | None) -> Keys | None:
    """None: the sheet is missing or was changed."""
    if table is None:
        return None
    found = {cells[0]: cells[1] for _, cells in table.rows if len(cells) >= 2}
    thread, ident = found.get("thread"), found.get("ident")
    if not isinstance(thread, str) or not isinstance(ident, str):
        return None
    to, slash, evt = ident.rpartition("/")
    return Keys(thread, ident, to, evt) if slash else None


@dataclass(frozen=True, slots=True)
class AnswerRow:
    number: int
    """As the author sees it."""
    cells: Mapping[str, Cell]
    """By column name; only what she may fill in."""
    texts: Mapping[str, str]

    @property
    def line(self) -> str:
        return f"{SHEET}!{self.number}"

    @property
    def digest(self) -> str:
        """What the row says, as 128 bits of SHA-256 in hexadecimal."""
        return hashlib.sha256(json.dumps(dict(self.texts), sort_keys=True).encode()).hexdigest()[:32]


def answer_rows(table: Table) -> list[AnswerRow] | Problem:
    """The rows that are filled in, in order."""
    by_label = {fold(spelling): each.name for each in (*COLUMNS, STATUS) for spelling in (each.fr, each.en)}
    by_name = {each.name: each.name for each in (*COLUMNS, STATUS)}
    names: dict[int, str] = {}
    header = 0
    for number, cells in table.rows[:12]:
        found = {
            index: name
            for index, cell in enumerate(cells)
            if isinstance(cell, str) and (name := by_name.get(cell) or by_label.get(fold(cell)))
        }
        if "etape" in found.values() and len(found) >= 3:
            names, header = names or found, number
    if not names:
        return Problem(
            f"feuille « {SHEET} »",
            "source_unreadable",
            "L'en-tête de la feuille « Réponse » est introuvable. Copiez vos réponses dans le classeur d'origine.",
            "The header of the sheet « Réponse » is missing. Copy your answers into the original workbook.",
            where_en=f"sheet « {SHEET} »",
        )
    rows = []
    for number, cells in table.rows:
        if number <= header:
            continue
        mine = {
            name: cells[index]
            for index, name in names.items()
            if name != STATUS.name and index < len(cells) and cells[index] is not None
        }
        if mine:
            rows.append(AnswerRow(number, mine, {name: as_typed.shown(cell) or "" for name, cell in mine.items()}))
    return rows


def draft_of(row: AnswerRow, keys: Keys, *, now: datetime.datetime, person: str | None) -> Draft | list[Problem]:
    """The row as one event, or all that is wrong with it.

    Args:
        now: aware; its zone is the agency's own.
        person: the agency's reference that the thread is linked to already.
    """
    return _Answering(row, keys, now, person).draft()


@dataclass(slots=True)
class _Answering:
    row: AnswerRow
    keys: Keys
    now: datetime.datetime
    person: str | None
    problems: list[Problem] = field(default_factory=list)

    def draft(self) -> Draft | list[Problem]:
        type_ = self._choice("etape", STEPS)
        if type_ is None:
            if "etape" not in self.row.cells:
                self._wrong("etape", "Choisissez l'étape dans la liste.", "Choose the step from the list.")
            return self.problems
        for name, belongs in _BELONGS.items():
            if name in self.row.cells and type_ != belongs:
                step = next(step for step in STEPS if step.code == belongs)
                self._wrong(
                    name,
                    f"Cette case ne va qu'avec l'étape « {step.fr} » : videz-la, ou changez l'étape.",
                    f"This cell belongs to the step « {step.en} » only: clear it, or change the step.",
                )
        at = self._moment("date")
        if at is not None and at > self.now:
            self._wrong("date", "Cette date est dans le futur.", "This date is in the future.")
        data: dict[str, Any] = {"occurred_at": at or self.now}
        if type_ == "service.provided":
            data["service"] = self._service()
        elif type_ == "movement.arrived":
            data["movement"] = {"arrived_at": at or self.now}
        elif type_ == "feedback.given":
            data["feedback"] = self._feedback()
        elif type_ == "information.requested":
            data["question"] = self._question()
        else:
            data["answer"] = self._answer(type_)
        if self.problems:
            return self.problems
        try:
            facts = validated(Facts, data)
        except PayloadError as refused:
            self._wrong(
                "etape",
                f"Cette réponse n'est pas acceptable ({refused.path}).",
                f"This answer is not acceptable ({refused.path}).",
            )
            return self.problems
        person = self.row.texts.get("reference") or self.person
        return Draft(self.row.line, self.keys.to, type_, person, self.keys.thread, facts, self.keys.evt)

    def _answer(self, type_: str) -> dict[str, Any] | None:
        answer: dict[str, Any] = {}
        if type_ == "referral.declined":
            answer["reason"] = self._needed("motif", DECLINED)
        elif type_ == "referral.completed":
            answer["outcome"] = self._needed("resultat", OUTCOMES)
        elif type_ == "referral.accepted":
            answer["expected_from"] = self._moment("attendue")
        elif type_ == "referral.ended":
            answer["end_reason"] = self._needed("fin_motif", _ended())
        return answer if any(value is not None for value in answer.values()) else None

    def _service(self) -> dict[str, Any]:
        type_ = self._needed("service", _services())
        began, ended = self._moment("debut"), self._moment("fin")
        if "debut" not in self.row.cells:
            self._wrong("debut", "Écrivez quand le service a commencé.", "Write when the service began.")
        if began is not None and ended is not None and ended < began:
            self._wrong("fin", "La fin précède le début.", "The end comes before the beginning.")
        return {"type": type_, "began_at": began, "ended_at": ended}

    def _feedback(self) -> dict[str, Any]:
        feedback = {"outcome": self._needed("nouvelles", GOES), "still_needed": self._several("encore", _services())}
        view = self._choice("avis", HER_VIEW)
        return feedback if view is None else {**feedback, "her_view": view}

    def _question(self) -> dict[str, Any]:
        if "demande" not in self.row.cells:
            self._wrong("demande", "Choisissez ce que vous demandez.", "Choose what you ask for.")
        return {"fields": self._several("demande", _askable()), "note": self.row.texts.get("demande_precision")}

    def _several(self, name: str, choices: Sequence[Choice]) -> tuple[str, ...]:
        parts = [part.strip() for part in (self.row.texts.get(name) or "").split(";") if part.strip()]
        found = [self._one(name, part, choices) for part in parts]
        return tuple(dict.fromkeys(code for code in found if code is not None))

    def _needed(self, name: str, choices: Sequence[Choice]) -> str | None:
        if name not in self.row.cells:
            self._wrong(name, "Choisissez une réponse dans la liste.", "Choose an answer from the list.")
            return None
        return self._choice(name, choices)

    def _choice(self, name: str, choices: Sequence[Choice]) -> str | None:
        text = self.row.texts.get(name)
        return None if text is None else self._one(name, text, choices)

    def _one(self, name: str, text: str, choices: Sequence[Choice]) -> str | None:
        for choice in choices:
            if fold(text) in {fold(each) for each in (choice.code, choice.fr, choice.en)}:
                return choice.code
        self._wrong(name, "Cette réponse n'est pas dans la liste.", "This answer is not in the list.")
        return None

    def _moment(self, name: str) -> datetime.datetime | None:
        cell = self.row.cells.get(name)
        if cell is None:
            return None
        try:
            moment = as_typed.moment(cell)
        except MistypedError as mistyped:
            self._wrong(name, mistyped.fr, mistyped.en)
            return None
        # Today without a time is now, not last midnight: the steps of one day keep their order.
        if moment.time is None and moment.day == self.now.date() and name == "date":
            return self.now
        return datetime.datetime.combine(moment.day, moment.time or datetime.time(), self.now.tzinfo)

    def _wrong(self, name: str, fr: str, en: str) -> None:
        column = next(each for each in COLUMNS if each.name == name)
        where = f"ligne {self.row.number} (« {column.fr.rstrip(' *')} »)"
        where_en = f"row {self.row.number} (« {column.en.rstrip(' *')} »)"
        self.problems.append(Problem(where, "row_invalid", fr, en, self.row.line, where_en=where_en))
