# SPDX-License-Identifier: Apache-2.0
"""What the author of a dropped file gets back: a report row by row, and the refused rows in a form to correct.

Invariants: every row of the file is named once as sent or refused, every problem has its own line; the workbook of
rows to correct is itself a form that can be dropped again and holds no row that was sent.
Never: puts a value into a file's name. The rows themselves are the author's own data.
"""

from __future__ import annotations

import datetime
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xlsxwriter.format import Format

from adapters.connectors import columns, paper
from adapters.connectors.as_typed import in_words
from adapters.connectors.column_type import FORMS
from adapters.connectors.contract import Problem
from adapters.connectors.row import Note
from adapters.connectors.template import write_form
from schemas.errors import CODES, Language


@dataclass(frozen=True, slots=True)
class RowResult:
    line: str
    """« Orientation!7 »; empty for the file as a whole."""
    reference: str | None
    """The agency's own reference."""
    sent: bool
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]
    again: bool = False
    """It had been sent before; nothing was sent a second time."""


_HEADERS: Mapping[Language, tuple[str, ...]] = {
    "fr": ("Ligne", "Votre référence", "État", "Où", "Ce qui ne va pas", "Quoi faire", "Code"),
    "en": ("Row", "Your reference", "State", "Where", "What is wrong", "What to do", "Code"),
}
_WIDTHS = (18, 18, 18, 34, 48, 48, 20)
_STATES: Mapping[Language, Mapping[str, str]] = {
    "fr": {"sent": "Envoyée", "again": "Déjà envoyée", "refused": "REFUSÉE", "note": "À vérifier", "file": "Fichier"},
    "en": {"sent": "Sent", "again": "Sent before", "refused": "REFUSED", "note": "Please check", "file": "File"},
}


def write_report(
    name: str,
    results: Sequence[RowResult],
    *,
    now: datetime.datetime,
    language: Language = "fr",
    to_correct: str | None = None,
) -> bytes:
    """The report as XLSX.

    Args:
        name: the file as its author dropped it.
        to_correct: name of the workbook that holds the refused rows, if there is one.
    """
    buffer = io.BytesIO()
    sheet_of = paper.new_paper(buffer)
    sheet = sheet_of.book.add_worksheet("Résultat" if language == "fr" else "Result")
    for index, width in enumerate(_WIDTHS):
        sheet.set_column(index, index, width)
    rows = [result for result in results if result.line]
    sent = sum(result.sent for result in rows)
    refused = sum(bool(result.problems) for result in rows)
    whole = [problem for result in results if not result.line for problem in result.problems]
    paper.write(sheet, 0, 0, paper.french(_title(sent, refused, bool(whole), language)), sheet_of.title)
    sheet.set_row(0, 30)
    paper.write(sheet, 1, 0, _summary(name, rows, now, language), sheet_of.quiet_line)
    if to_correct:
        paper.write(sheet, 2, 0, paper.french(_what_next(to_correct, language)), sheet_of.quiet_line)
    for index, header in enumerate(_HEADERS[language]):
        paper.write(sheet, 4, index, header, sheet_of.heading)
    sheet.set_row(4, 24)
    row = 5
    # What needs a hand comes first: in a long file nobody reads what went well.
    for result in sorted(results, key=lambda each: 0 if each.problems else 1 if each.notes else 2):
        for cells, style in _lines(result, sheet_of, language):
            for index, cell in enumerate(cells):
                words = paper.french(cell) if index in (3, 4, 5) else cell
                paper.write(sheet, row, index, words, style if index == 2 else sheet_of.text)
            sheet.set_row(row, paper.height_for(list(zip(cells, _WIDTHS, strict=True))))
            row += 1
    paper.finish_table(sheet, 4, row, len(_WIDTHS))
    sheet_of.book.close()
    return buffer.getvalue()


def _title(sent: int, refused: int, whole: bool, language: Language) -> str:
    if language == "en":
        if whole:
            return "The file could not be taken over: nothing was sent"
        return f"{sent} row{'s' if sent != 1 else ''} sent, {refused} refused"
    if whole:
        return "Le fichier n'a pas pu être pris en charge : rien n'a été envoyé"
    many, bad = "s" if sent > 1 else "", "s" if refused > 1 else ""
    return f"{sent} ligne{many} envoyée{many}, {refused} refusée{bad}"


def _summary(name: str, rows: Sequence[RowResult], now: datetime.datetime, language: Language) -> str:
    again = bool(rows) and all(result.again for result in rows if result.sent) and any(result.sent for result in rows)
    if language == "en":
        words = f"File: {name} · {now:%d/%m/%Y %H:%M}"
        return words + (" · These rows had been sent before: nothing was sent a second time." if again else "")
    words = f"Fichier : {name} · {in_words(now.date())}, {now:%H:%M}"
    return words + (" · Ces lignes avaient déjà été envoyées : rien n'est parti une seconde fois." if again else "")


def _what_next(to_correct: str, language: Language) -> str:
    if language == "en":
        return f"Correct the refused rows in « {to_correct} » and drop that file. Do not drop the sent rows again."
    return (
        f"Corrigez les lignes refusées dans « {to_correct} », puis déposez ce fichier-là. "
        "Ne redéposez pas les lignes envoyées."
    )


def _lines(result: RowResult, sheet_of: paper.Paper, language: Language) -> list[tuple[tuple[str, ...], Format]]:
    states = _STATES[language]
    line = result.line.replace("!", ", ligne " if language == "fr" else ", row ") or states["file"]
    reference = result.reference or ""
    lines: list[tuple[tuple[str, ...], Format]] = []
    for problem in result.problems:
        wrong, todo = _split(problem, language)
        state = states["refused"]
        lines.append(((line, reference, state, problem.at(language), wrong, todo, problem.code), sheet_of.bad))
    if result.sent:
        state = states["again" if result.again else "sent"]
        lines.append(((line, reference, state, "", "", "", ""), sheet_of.good))
    for note in result.notes:
        words = note.fr if language == "fr" else note.en
        lines.append(((line, reference, states["note"], note.at(language), words, "", ""), sheet_of.note))
    return lines


def _split(problem: Problem, language: Language) -> tuple[str, str]:
    """What is wrong, and what to do: the words after the first sentence, else the code's own advice."""
    words = problem.fr if language == "fr" else problem.en
    wrong, full_stop, todo = words.partition(". ")
    if full_stop:
        return wrong + ".", todo
    if problem.code == "row_invalid":
        if language == "fr":
            return words, "Corrigez cette cellule, puis redéposez la ligne."
        return words, "Correct this cell, then drop the row again."
    meaning = CODES.get(problem.code)
    return words, meaning.advice(language) if meaning else ""


def write_to_correct(
    results: Sequence[RowResult],
    rows: Mapping[str, Mapping[str, str]],
    *,
    recipients: Sequence[tuple[str, str]],
    language: Language = "fr",
) -> bytes | None:
    """The refused rows in the form that they came in, with what is wrong beside them. None: no row was refused.

    Args:
        rows: `line` -> technical name -> text as typed.
    """
    refused = [result for result in results if result.line and result.problems and result.line in rows]
    if not refused:
        return None
    header = f"{columns.IGNORED} {'ce qui ne va pas' if language == 'fr' else 'what is wrong'}"
    buffer = io.BytesIO()
    sheet_of = paper.new_paper(buffer)
    for form in FORMS:
        filled = [
            {header: "\n".join(_in_short(problem, language) for problem in result.problems)} | dict(rows[result.line])
            for result in refused
            if result.line.partition("!")[0] == form
        ]
        if filled:
            write_form(sheet_of, form, recipients, language, first_columns=(header,), rows=filled)
    sheet_of.book.close()
    return buffer.getvalue()


def _in_short(problem: Problem, language: Language) -> str:
    where = problem.at(language)
    name = where.partition("(")[2].rstrip(")") or where
    return f"{name} : {problem.fr}" if language == "fr" else f"{name}: {problem.en}"
