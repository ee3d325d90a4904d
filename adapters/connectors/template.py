# SPDX-License-Identifier: Apache-2.0
"""The empty form that an agency fills in: an XLSX with drop-down lists, or the same columns as CSV.

Invariants: lists come from the data (`columns`, `schemas.htcds`), never from here; the hidden row of technical names
makes a workbook readable whatever its labels' language; cells are text, so that a date stays as it was typed (a
spreadsheet set to American English would turn 03/04/2026 into the 4th of March without a word).
The example on the sheet « Lisez-moi » is an invented person.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

from xlsxwriter.worksheet import Worksheet

from adapters.connectors import columns, paper
from adapters.connectors.column_type import FORMS, Column, Form
from adapters.connectors.form_columns import GROUPS
from adapters.connectors.paper import Paper
from schemas.errors import Language

ROWS = 1_000
"""Rows that come with drop-down lists."""
GROUP_ROW, NAME_ROW, LABEL_ROW, FIRST_ROW = 0, 1, 2, 3
"""Zero-based rows of a form: titles of groups, technical names (hidden), labels, first row to fill in."""

EXAMPLE: Mapping[str, str] = {
    "reference_interne": "EXEMPLE-1",
    "priorite": "Urgent (72 h)",
    "nom_donne": "Nshimirimana Chantal (personne inventée)",
    "prs_FirstName": "Chantal",
    "prs_SecondName": "Nshimirimana",
    "prs_Birthdate": "vers 2001",
    "prs_Gender": "Féminin",
    "prs_Citizenship": "Burundi",
    "services": "Assistance sociale; Santé",
    "langues": "kirundi; français",
    "interprete": "Non",
    "contact_canal": "Par nous (agence qui oriente)",
    "risque_niveau": "Moyen",
    "base": "Consentement de la personne",
    "consentement_date": "20/11/2026",
    "consentement_fin": "20/05/2027",
    "consentement_forme": "Empreinte du pouce",
    "consentement_langue": "kirundi",
    "motif": "Hébergement et suivi médical demandés par la personne.",
}
"""An invented person; ignored on import because its reference begins with « EXEMPLE »."""
_IN_ENGLISH: Mapping[str, str] = {
    "nom_donne": "Nshimirimana Chantal (invented person)",
    "prs_Birthdate": "about 2001",
    "motif": "Accommodation and medical follow-up, asked for by the person.",
}
"""What of it is no code of a list."""

_HOW_TO: Mapping[Language, tuple[tuple[str, str], ...]] = {
    "fr": (
        (
            "Remplir",
            "Feuille « Orientation » : une ligne par orientation, un seul destinataire par ligne. "
            "Feuille « Dossier » : personne identifiée ou évaluation faite.",
        ),
        ("Obligatoire", "Les titres sur fond jaune, marqués d'un astérisque (*), sont obligatoires."),
        (
            "Listes",
            "Cliquez dans une cellule : la flèche ouvre la liste. Pour plusieurs réponses, séparez-les par des "
            "points-virgules : Santé; Juridique.",
        ),
        ("Dates", "Jour, mois, année : 03/04/2026 est le 3 avril 2026. Le rapport la redit en toutes lettres."),
        (
            "Naissance",
            "Seulement ce qui est connu : 12/05/2008, mai 2008, 2008, vers 2008, 17 ans ou inconnue. "
            "N'inventez jamais un 1er janvier.",
        ),
        ("Nom", "Le nom tel que la personne le donne, dans son écriture. Un seul mot suffit."),
        (
            "Consentement",
            "Demandez d'abord. Avec : ses deux dates et sa forme. Sans : la base légale, qui a décidé et pourquoi.",
        ),
        ("Enfant", "Moins de 18 ans, ou âge inconnu : les rubriques « Tuteur » et la note d'intérêt supérieur."),
        (
            "Envoyer",
            "Enregistrez, fermez, puis déposez le fichier dans le dossier « a-envoyer ». Un rapport arrive "
            "dans « rapports » : les lignes refusées y sont reprises, à corriger et à redéposer seules.",
        ),
        ("Danger", "En cas de danger immédiat, téléphonez d'abord. Umuhuza n'est jamais le seul canal."),
    ),
    "en": (
        (
            "Fill in",
            "Sheet « Orientation »: one row per referral, one recipient per row. "
            "Sheet « Dossier »: person identified or screening done.",
        ),
        ("Required", "Titles on yellow, marked with an asterisk (*), are required."),
        (
            "Lists",
            "Click into a cell: the arrow opens the list. Several answers: separate them with semicolons: "
            "Health; Legal.",
        ),
        ("Dates", "Day, month, year: 03/04/2026 is 3 April 2026. The report says every date again in words."),
        (
            "Birth",
            "Only what is known: 12/05/2008, May 2008, 2008, about 2008, 17 years or unknown. "
            "Never invent a 1 January.",
        ),
        ("Name", "The name as the person gives it, in her script. One word is enough."),
        (
            "Consent",
            "Ask first. With consent: its two dates, and how it was given. Without: the basis, who decided and why.",
        ),
        ("Child", "Under 18, or age unknown: fill in « Caregiver » and the best-interest note."),
        (
            "Send",
            "Save, close, then drop the file into the folder « a-envoyer ». A report arrives in « rapports »: "
            "refused rows are repeated there, to be corrected and dropped again alone.",
        ),
        ("Danger", "In immediate danger telephone first. Umuhuza is never the only channel."),
    ),
}


def write_template(
    file: Path | str | IO[bytes], *, recipients: Sequence[tuple[str, str]], language: Language = "fr"
) -> None:
    """Write the empty form as XLSX. Raises OSError; not durable and not atomic by itself.

    Args:
        recipients: (agency id, label) for the list of recipients.
    """
    sheet_of = paper.new_paper(str(file) if isinstance(file, Path) else file)
    for form in FORMS:
        write_form(sheet_of, form, recipients, language)
    _write_how_to(sheet_of, recipients, language)
    sheet_of.book.close()


def template_xlsx(*, recipients: Sequence[tuple[str, str]], language: Language = "fr") -> bytes:
    """`write_template` as a file's bytes."""
    return _template(tuple(recipients), language)


@lru_cache(maxsize=4)
def _template(recipients: tuple[tuple[str, str], ...], language: Language) -> bytes:
    buffer = io.BytesIO()
    write_template(buffer, recipients=recipients, language=language)
    return buffer.getvalue()


def write_template_csv(file: IO[str], *, language: Language = "fr", form: Form = "Orientation") -> None:
    """Write the same columns as CSV (semicolons): technical names, then labels. Open with newline=""."""
    offered = columns.template_columns(form)
    writer = csv.writer(file, delimiter=";")
    writer.writerow([column.name for column in offered])
    writer.writerow([column.label(language) for column in offered])


def template_csv(language: Language = "fr") -> bytes:
    """The CSV template as a file's bytes: UTF-8 with the mark by which Excel recognises it."""
    text = io.StringIO(newline="")
    write_template_csv(text, language=language)
    return b"\xef\xbb\xbf" + text.getvalue().encode("utf-8")


def write_form(
    sheet_of: Paper,
    form: Form,
    recipients: Sequence[tuple[str, str]],
    language: Language,
    *,
    first_columns: Sequence[str] = (),
    rows: Sequence[Mapping[str, str]] = (),
) -> None:
    """One sheet of the form with its lists, empty or filled.

    Args:
        first_columns: headers of further columns before the form's (of a file to correct).
        rows: technical name or header -> text; names beside the form's columns get columns at the end.
    """
    sheet = sheet_of.book.add_worksheet(form)
    offered = columns.template_columns(form)
    required = {column.name for column in columns.required_columns(form)}
    shift = len(first_columns)
    further = list(
        dict.fromkeys(
            name for row in rows for name in row if name not in {each.name for each in offered} | {*first_columns}
        )
    )
    for index, header in enumerate(first_columns):
        paper.write(sheet, LABEL_ROW, index, header, sheet_of.heading)
        sheet.set_column(index, index, 44, sheet_of.bad)
    _write_groups(sheet_of, sheet, offered, shift, language)
    for index, column in enumerate(offered, shift):
        style = sheet_of.heading_required if column.name in required else sheet_of.heading
        mark = " *" if column.name in required else ""
        paper.write(sheet, NAME_ROW, index, column.name, sheet_of.hidden_name)
        paper.write(sheet, LABEL_ROW, index, column.label(language) + mark, style)
        sheet.set_column(index, index, column.width, sheet_of.text)
        help_text = column.help(language)
        if help_text:
            sheet.write_comment(LABEL_ROW, index, help_text, {"author": "", "x_scale": 1.6, "y_scale": 0.7})
    for index, name in enumerate(further, shift + len(offered)):
        paper.write(sheet, LABEL_ROW, index, name, sheet_of.heading)
        sheet.set_column(index, index, 24, sheet_of.text)
    for number, row in enumerate(rows, FIRST_ROW):
        names = [*first_columns, *(column.name for column in offered), *further]
        for index, name in enumerate(names):
            if name in row:
                paper.write(sheet, number, index, row[name], sheet_of.bad if index < shift else sheet_of.text)
        if shift:
            sheet.set_row(number, paper.height_for([(row.get(name, ""), 44) for name in first_columns]))
    _write_lists(sheet_of, sheet, form, offered, shift, recipients, language)
    sheet.set_row(GROUP_ROW, 22)
    sheet.set_row(NAME_ROW, None, None, {"hidden": True})
    sheet.set_row(LABEL_ROW, 48)
    frozen = shift + [column.name for column in offered].index("reference_interne") + 1
    sheet.freeze_panes(FIRST_ROW, shift or frozen)
    paper.print_setup(sheet, repeat=(GROUP_ROW, LABEL_ROW), scale=60)
    sheet.print_across()


def _write_groups(sheet_of: Paper, sheet: Worksheet, offered: Sequence[Column], shift: int, language: Language) -> None:
    start = 0
    for index in range(1, len(offered) + 1):
        if index < len(offered) and offered[index].group == offered[start].group:
            continue
        title = GROUPS[offered[start].group][0 if language == "fr" else 1]
        # Not merged: merged cells break sorting and filtering, and a title in the first cell shows as well.
        for each in range(start, index):
            paper.write(sheet, GROUP_ROW, each + shift, title if each == start else None, sheet_of.group)
        start = index


def _write_lists(
    sheet_of: Paper,
    sheet: Worksheet,
    form: Form,
    offered: Sequence[Column],
    shift: int,
    recipients: Sequence[tuple[str, str]],
    language: Language,
) -> None:
    """Every list on one hidden sheet, and the cells that use it: Excel takes no list over 255 characters inline."""
    lists = sheet_of.book.add_worksheet("Listes" if form == "Orientation" else "Listes dossier")
    lists.hide()
    written: dict[tuple[str, ...], str] = {}
    for index, column in enumerate(offered, shift):
        if column.kind == "recipient":
            labels = tuple(columns.shown(recipients))
        else:
            labels = tuple(
                label
                for code, label in column.options(language)
                if column.name != "type" or code != "referral.requested"
            )
        options: dict[str, object] = {"validate": "any"}
        if labels:
            if labels not in written:
                at = len(written)
                paper.write(lists, 0, at, column.label(language), sheet_of.heading)
                for number, label in enumerate(labels, 1):
                    paper.write(lists, number, at, label, sheet_of.text)
                letters = columns.letters(at)
                written[labels] = f"='{lists.get_name()}'!${letters}$2:${letters}${len(labels) + 1}"
            options = {
                "validate": "list",
                "source": written[labels],
                "error_type": "stop",
                "error_title": "Liste" if language == "fr" else "List",
                "error_message": (
                    "Choisissez une réponse de la liste." if language == "fr" else "Choose an answer from the list."
                ),
                # With several answers in one cell no list can check them: the import does.
                "show_error": not column.multi,
            }
        help_text = column.help(language)
        if help_text:
            options |= {"input_title": column.label(language)[:32], "input_message": help_text[:255]}
        if labels or help_text:
            sheet.data_validation(FIRST_ROW, index, FIRST_ROW + ROWS - 1, index, options)


def _example(language: Language) -> dict[str, str]:
    """As somebody fills in the form of that language: with the labels of its lists."""
    if language == "fr":
        return dict(EXAMPLE)
    found = {}
    for name, value in EXAMPLE.items():
        column = columns.column(name)
        codes = {label: code for code, label in column.options("fr")}
        labels = dict(column.options(language))
        parts = [labels[codes[part]] if part in codes else part for part in value.split("; ")]
        found[name] = _IN_ENGLISH.get(name, "; ".join(parts))
    return found


def _write_how_to(sheet_of: Paper, recipients: Sequence[tuple[str, str]], language: Language) -> None:
    sheet = sheet_of.book.add_worksheet("Lisez-moi" if language == "fr" else "Read me")
    sheet.set_column(0, 0, 34)
    sheet.set_column(1, 1, 88)
    french = language == "fr"
    paper.write(
        sheet, 0, 0, "Comment remplir ce classeur" if french else "How to fill in this workbook", sheet_of.title
    )
    sheet.set_row(0, 30)
    row = 1
    for title, text in _HOW_TO[language]:
        paper.write(sheet, row, 0, title, sheet_of.label)
        paper.write(sheet, row, 1, paper.french(text), sheet_of.value)
        sheet.set_row(row, paper.height_for([(text, 96)]))
        row += 1
    row += 1
    paper.write(
        sheet,
        row,
        0,
        "Exemple : personne inventée, jamais envoyée" if french else "Example: an invented person, never sent",
        sheet_of.title,
    )
    sheet.set_row(row, 30)
    shown = _example(language)
    if recipients:
        shown = {"destinataire": columns.shown(recipients)[0]} | shown
    for number, (name, value) in enumerate(shown.items(), row + 1):
        paper.write(sheet, number, 0, columns.column(name).label(language), sheet_of.label)
        paper.write(sheet, number, 1, value, sheet_of.value)
        sheet.set_row(number, 18)
    paper.write(
        sheet,
        row + len(shown) + 2,
        0,
        "HTCDS 2.0 : norme de l'OIM, licence CC BY 4.0 ; libellés français non officiels."
        if french
        else "HTCDS 2.0: a standard by IOM, licence CC BY 4.0.",
        sheet_of.quiet_line,
    )
    paper.print_setup(sheet, landscape=False)
