# SPDX-License-Identifier: Apache-2.0
"""The workbook that an agency receives: what arrived, and the sheet on which it answers.

Invariants: what arrived is on protected sheets, so that nobody changes it by a slip; the sheet « Réponse » is open but
for its column « Statut », which is ours; the thread is named on a very hidden sheet, nowhere else; written again, it
keeps every row that its reader filled in, at the same place.
Never: a person's name in the file's name, a sheet's name or the file's properties.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from xlsxwriter.worksheet import Worksheet

from adapters.connectors import answers, columns, paper
from adapters.connectors.paper import Paper
from adapters.connectors.threads import Kept, KeptEvent
from schemas.errors import Language

ANSWER_ROWS = 60
"""Rows with drop-down lists on the sheet « Réponse »."""
FIRST_ANSWER_ROW = 6
"""As its reader counts."""
_PROTECTED = {"format_columns": True, "format_rows": True, "select_locked_cells": True, "select_unlocked_cells": True}
_URGENT = ("immediate", "emergency")


def write_delivered(kept: Kept, typed: Mapping[int, Mapping[str, str]], *, language: Language = "fr") -> bytes:
    """The thread's workbook as XLSX.

    Args:
        typed: what its reader has filled in on the sheet « Réponse »: row as she counts -> column name -> text.
    """
    buffer = io.BytesIO()
    sheet_of = paper.new_paper(buffer)
    is_referral = any(event.type.startswith("referral.") for event in kept.events)
    sheet = sheet_of.book.add_worksheet("Orientation" if is_referral else "Dossier")
    _write_arrived(sheet_of, sheet, kept, language)
    if kept.steps:
        _write_answers(sheet_of, kept, typed, language)
    _write_keys(sheet_of, kept)
    sheet_of.book.close()
    return buffer.getvalue()


def _write_arrived(sheet_of: Paper, sheet: Worksheet, kept: Kept, language: Language) -> None:
    french = language == "fr"
    for index, width in enumerate((38, 70, 34)):
        sheet.set_column(index, index, width)
    first = kept.events[0]
    paper.write(sheet, 0, 0, f"{first.label} · {first.sender}", sheet_of.title)
    sheet.set_row(0, 30)
    row = 1
    advice = _advice(kept, french)
    if advice:
        for column in range(3):
            paper.write(sheet, row, column, paper.french(advice) if column == 0 else None, sheet_of.warning)
        sheet.set_row(row, 24)
        row += 1
    state = kept.state_label
    if state:
        paper.write(sheet, row, 0, f"{'État' if french else 'State'} : {state}", sheet_of.quiet_line)
        row += 1
    if kept.steps:
        where = (
            "Répondez sur la feuille « Réponse » de ce classeur, enregistrez et fermez."
            if french
            else "Answer on the sheet « Réponse » of this workbook, save and close."
        )
        paper.write(sheet, row, 0, paper.french(where), sheet_of.quiet_line)
        row += 1
    row += 1
    for event in reversed(kept.events) if len(kept.events) > 1 else kept.events:
        row = _write_event(sheet_of, sheet, event, row, french) + 1
    sheet.freeze_panes(1, 0)
    sheet.protect("", _PROTECTED)
    paper.print_setup(sheet, landscape=False)


def _advice(kept: Kept, french: bool) -> str:
    priorities = {
        line.code
        for event in kept.events
        for section in event.sections
        for line in section.lines
        if line.code in _URGENT
    }
    if "immediate" in priorities:
        return (
            "Danger immédiat : téléphonez d'abord. Réponse attendue en 2 heures."
            if french
            else "Immediate danger: telephone first. An answer is expected within 2 hours."
        )
    if "emergency" in priorities:
        return "Urgence : réponse attendue en 24 heures." if french else "Emergency: answer expected within 24 hours."
    return ""


def _write_event(sheet_of: Paper, sheet: Worksheet, event: KeptEvent, row: int, french: bool) -> int:
    late = (" · arrivé après l'échéance" if french else " · after the deadline") if event.late else ""
    title = f"{event.label} · {event.sender}{late}"
    for column in range(3):
        paper.write(sheet, row, column, title if column == 0 else None, sheet_of.group)
    sheet.set_row(row, 22)
    row += 1
    labels = ("Date de la décision", "Arrivé sur la machine le") if french else ("Date of the decision", "Arrived")
    for label, value in zip(labels, (event.occurred, event.arrived), strict=True):
        paper.write(sheet, row, 0, label, sheet_of.label)
        paper.write(sheet, row, 1, value, sheet_of.value)
        paper.write(sheet, row, 2, None, sheet_of.code)
        sheet.set_row(row, 18)
        row += 1
    for section in event.sections:
        for column in range(3):
            paper.write(sheet, row, column, section.title if column == 0 else None, sheet_of.section)
        sheet.set_row(row, 20)
        row += 1
        for line in section.lines:
            paper.write(sheet, row, 0, line.label, sheet_of.label)
            paper.write(sheet, row, 1, line.value, sheet_of.value)
            paper.write(sheet, row, 2, line.code, sheet_of.code)
            sheet.set_row(row, paper.height_for([(line.label, 38), (line.value, 70), (line.code, 40)]))
            row += 1
    return row


def _write_answers(sheet_of: Paper, kept: Kept, typed: Mapping[int, Mapping[str, str]], language: Language) -> None:
    french = language == "fr"
    sheet = sheet_of.book.add_worksheet(answers.SHEET)
    lists = sheet_of.book.add_worksheet("Listes")
    lists.hide()
    shown = (*answers.COLUMNS, answers.STATUS)
    paper.write(sheet, 0, 0, "Votre réponse" if french else "Your answer", sheet_of.title)
    sheet.set_row(0, 30)
    hint = (
        "Une ligne par étape. Enregistrez et fermez : chaque ligne part une fois. Le statut s'inscrit à droite."
        if french
        else "One row per step. Save and close: every new row is sent once. Its status appears on the right."
    )
    paper.write(sheet, 1, 0, paper.french(hint), sheet_of.quiet_line)
    hint = (
        "Une ligne envoyée ne change plus : ajoutez une nouvelle ligne. N'écrivez aucun nom de personne ici."
        if french
        else "A row that was sent does not change: add another. Write no person's name here."
    )
    paper.write(sheet, 2, 0, paper.french(hint), sheet_of.quiet_line)
    name_row, label_row, first = FIRST_ANSWER_ROW - 3, FIRST_ANSWER_ROW - 2, FIRST_ANSWER_ROW - 1
    refused = [number for number, answer in kept.answers.items() if answer.state == "refused" and number in typed]
    last = max([first + ANSWER_ROWS - 1, *(number - 1 for number in typed)])
    for index, column in enumerate(shown):
        sheet.set_column(index, index, column.width)
        paper.write(sheet, name_row, index, column.name, sheet_of.hidden_name)
        required = column.name == "etape"
        paper.write(
            sheet, label_row, index, column.label(language), sheet_of.heading_required if required else sheet_of.heading
        )
        _write_choices(sheet_of, sheet, lists, index, column, kept, (first, last), language)
    sheet.set_row(name_row, None, None, {"hidden": True})
    sheet.set_row(label_row, 36)
    for row in range(first, last + 1):
        mine, answer = typed.get(row + 1, {}), kept.answers.get(row + 1)
        texts = [mine.get(column.name, "") for column in answers.COLUMNS]
        for index, text in enumerate(texts):
            paper.write(sheet, row, index, text, sheet_of.answer)
        words = answer.words if answer else ""
        if answer is None and mine and refused and row + 1 > min(refused):
            words = (
                f"En attente : corrigez d'abord la ligne {min(refused)}."
                if french
                else f"Waiting: correct row {min(refused)} first."
            )
        style = sheet_of.text if answer is None else sheet_of.good if answer.state == "sent" else sheet_of.bad
        paper.write(sheet, row, len(texts), paper.french(words), style)
        if words:
            sheet.set_row(row, paper.height_for([(words, answers.STATUS.width)]))
    sheet.freeze_panes(label_row + 1, 1)
    sheet.protect("", _PROTECTED)
    paper.print_setup(sheet, repeat=(label_row, label_row))


def _write_choices(
    sheet_of: Paper,
    sheet: Worksheet,
    lists: Worksheet,
    index: int,
    column: answers.AnswerColumn,
    kept: Kept,
    rows: tuple[int, int],
    language: Language,
) -> None:
    french = language == "fr"
    choices = [each for each in column.choices if column.name != "etape" or each.code in kept.steps]
    help_text = column.help_fr if french else column.help_en
    options: dict[str, object] = {"validate": "any"}
    if choices:
        for number, choice in enumerate(choices):
            paper.write(lists, number, index, choice.label(language), sheet_of.text)
        letters = columns.letters(index)
        options = {
            "validate": "list",
            "source": f"='{lists.get_name()}'!${letters}$1:${letters}${len(choices)}",
            "error_title": "Liste" if french else "List",
            "error_message": "Choisissez une réponse de la liste." if french else "Choose an answer from the list.",
            "show_error": not column.multi,
        }
    if help_text:
        options |= {"input_title": column.label(language).rstrip(" *")[:32], "input_message": help_text[:255]}
    if choices or help_text:
        sheet.data_validation(rows[0], index, rows[1], index, options)


def _write_keys(sheet_of: Paper, kept: Kept) -> None:
    sheet = sheet_of.book.add_worksheet(answers.KEY_SHEET)
    for row, (name, value) in enumerate((("thread", kept.thread), ("ident", kept.events[0].ident))):
        paper.write(sheet, row, 0, name, sheet_of.hidden_name)
        paper.write(sheet, row, 1, value, sheet_of.hidden_name)
    sheet.protect()
    sheet.very_hidden()
