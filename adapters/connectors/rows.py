# SPDX-License-Identifier: Apache-2.0
"""Sheets of a form become rows, and rows Drafts or Problems in words that their author can act on.

Invariants: one row is one Draft, or all of its Problems together; a row without any value is no row; a filled column
that is not known is told as a note, never passed over; problems and notes are for the author's eyes only.
Never: evaluates a formula, completes what was not written, sends a part of a row.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from adapters.connectors import as_typed, columns
from adapters.connectors.attached import Fetch
from adapters.connectors.column_type import FORMS, Form
from adapters.connectors.contract import Draft, Problem
from adapters.connectors.row import Note, Row
from adapters.connectors.sheets import Cell, Table, Tables

_HEADER_WITHIN = 15
"""A header is looked for in the first rows only."""


@dataclass(frozen=True, slots=True)
class Reading:
    items: tuple[Draft | Problem, ...]
    notes: tuple[Note, ...]
    rows: Mapping[str, Mapping[str, str]]
    """`line` -> technical name -> text as typed, for the file of rows to correct; unknown columns by their header."""
    digests: Mapping[str, str]
    """`line` -> SHA-256 of what the row says: two rows with one digest say the same."""


def read_form(
    tables: Tables,
    *,
    recipients: Sequence[tuple[str, str]],
    now: datetime.datetime,
    max_rows: int,
    fetch: Fetch = lambda _name: None,
) -> Reading:
    """Everything that the sheets « Orientation » and « Dossier », or a CSV file, ask to send.

    Args:
        recipients: (agency id, label) of those that may be written to.
        now: aware; its zone is the agency's own, for dates typed without a time.
        fetch: finds the files that rows name; what it raises is raised.
    """
    sheets = _forms_in(tables)
    if isinstance(sheets, Problem):
        return Reading((sheets,), (), {}, {})
    book = _Book(recipients, now, fetch)
    for code in tables.notes:
        book.notes.append(_how_read(code))
    count = 0
    for form, table in sheets:
        header = _header(table, form)
        if isinstance(header, Problem):
            # The other sheet's rows could go; but a file is one thing to its author: whole, or told why not.
            return Reading((header,), (), {}, {})
        book.notes.extend(header.notes)
        rows = [row for row in table.rows if row[0] > header.last_row]
        count += len(rows)
        for number, cells in rows:
            book.add(form, header, number, cells)
    if count > max_rows:
        return Reading((_too_many(max_rows),), (), {}, {})
    if not book.rows and not book.items:
        return Reading((_NO_ROWS,), tuple(book.notes), {}, {})
    return Reading(tuple(book.items), tuple(book.notes), book.rows, book.digests)


def single_row(tables: Tables, now: datetime.datetime) -> Row | Problem:
    """The one row of a file in which only some cells of the form are filled in.

    Args:
        now: aware; its zone is the agency's own.
    """
    sheets = _forms_in(tables)
    if isinstance(sheets, Problem):
        return sheets
    found: list[Row] = []
    for form, table in sheets:
        header = _header(table, form, whole=False)
        if isinstance(header, Problem):
            return header
        for number, cells in table.rows:
            named = {name: cells[index] for index, name in header.names.items() if index < len(cells)}
            if number > header.last_row and any(cell is not None for cell in named.values()):
                letters = {name: columns.letters(index) for index, name in header.names.items()}
                row = Row("Orientation", f"{form}!{number}", number, named, letters, (), now, lambda _name: None)
                found.append(replace(row, partial=True))
    return found[0] if len(found) == 1 else _NO_ROWS if not found else _ONE_ROW


_ONE_ROW = Problem(
    "fichier",
    "row_invalid",
    "Une correction tient en une seule ligne : le fichier en contient plusieurs.",
    "A correction is one single row: the file holds several.",
    where_en="file",
)


def _too_many(max_rows: int) -> Problem:
    return Problem(
        "fichier",
        "too_large",
        f"Le fichier dépasse {max_rows} lignes. Rien n'a été tronqué ni envoyé : partagez-le en plusieurs fichiers.",
        f"The file has more than {max_rows} rows. Nothing was cut off or sent: split it into several files.",
        where_en="file",
    )


_NO_ROWS = Problem(
    "fichier",
    "row_invalid",
    "Le fichier ne contient aucune ligne à envoyer : seul l'en-tête est rempli. "
    "Remplissez au moins une ligne sous les titres, enregistrez, puis redéposez le fichier.",
    "The file holds no row to send: only the header is filled in. "
    "Fill in at least one row under the titles, save, and drop the file again.",
    where_en="file",
)


def _how_read(code: str) -> Note:
    name = "Windows-1252" if code == "cp1252" else "UTF-16"
    return Note(
        "",
        "fichier",
        f"Le fichier CSV n'est pas en UTF-8 : il a été lu en {name}. Vérifiez les accents.",
        f"The CSV file is not in UTF-8: it was read as {name}. Check the accents.",
        "file",
    )


def _forms_in(tables: Tables) -> list[tuple[Form, Table]] | Problem:
    found: list[tuple[Form, Table]] = [(form, table) for form in FORMS if (table := tables.named(form)) is not None]
    # The form left empty beside the one in use is no reason to refuse.
    used = [(form, table) for form, table in found if _has_rows(table)]
    if used:
        return used
    if found:
        return _NO_ROWS
    if len(tables.sheet_names) == 1 and tables.tables:
        table = tables.tables[0]
        names = _recognised(table)
        if len(names) >= 2 or not table.name:
            return [("Dossier" if "type" in names and "priorite" not in names else "Orientation", table)]
    present = " ; ".join(f"« {name} »" for name in tables.sheet_names)
    return Problem(
        "fichier",
        "source_unreadable",
        f"Feuille « Orientation » introuvable. Feuilles présentes : {len(tables.sheet_names)} ({present}). "
        "Utilisez le modèle, ou renommez la feuille.",
        f"No sheet « Orientation ». Sheets present: {len(tables.sheet_names)} ({present}). "
        "Use the template, or rename the sheet.",
        where_en="file",
    )


def _recognised(table: Table) -> set[str]:
    best: set[str] = set()
    for number, cells in table.rows:
        if number > _HEADER_WITHIN:
            break
        names = {name for cell in cells if isinstance(cell, str) and (name := columns.recognise(cell))}
        best = max(best, names, key=len)
    return best


def _has_rows(table: Table) -> bool:
    rows = [number for number, cells in table.rows]
    headers = [number for number, cells in table.rows if number <= _HEADER_WITHIN and _looks_like_header(cells)]
    return not headers or any(number > headers[-1] for number in rows)


def _looks_like_header(cells: Sequence[Cell]) -> bool:
    texts = [cell for cell in cells if isinstance(cell, str)]
    known = sum(1 for text in texts if columns.recognise(text))
    return known >= 2 and known * 2 >= sum(1 for cell in cells if cell is not None)


@dataclass(frozen=True, slots=True)
class _Header:
    names: Mapping[int, str]
    """Zero-based column -> technical name."""
    others: Mapping[int, str]
    """Zero-based column -> header text that is not known."""
    last_row: int
    notes: tuple[Note, ...]


def _header(table: Table, form: Form, *, whole: bool = True) -> _Header | Problem:
    rows = [(number, cells) for number, cells in table.rows if number <= _HEADER_WITHIN and _looks_like_header(cells)]
    sheet, sheet_en = (f"feuille « {table.name} »", f"sheet « {table.name} »") if table.name else ("fichier", "file")
    if not rows:
        return Problem(
            sheet,
            "source_unreadable",
            "L'en-tête est introuvable : la première ligne doit porter les noms des colonnes du modèle. "
            "Recopiez vos lignes dans le modèle, enregistrez-le en XLSX ou en CSV, et déposez celui-là.",
            "No header found: the first row must hold the names of the template's columns. "
            "Copy your rows into the template, save it as XLSX or as CSV, and drop that.",
            where_en=sheet_en,
        )
    # The hidden row of technical names and the labels under it are one header; a third such row is data.
    first = rows[0]
    second = next((row for row in rows[1:2] if row[0] == first[0] + 1), None)
    names: dict[int, str] = {}
    others: dict[int, str] = {}
    notes: list[Note] = []
    width = max(len(first[1]), len(second[1]) if second else 0)
    for index in range(width):
        texts = [
            cell for row in (first, second) if row and index < len(row[1]) and isinstance(cell := row[1][index], str)
        ]
        meant = [name for text in texts if (name := columns.recognise(text))]
        if not meant:
            if texts:
                others[index] = texts[-1]
            continue
        # Where they disagree the label wins: the author sees only that (so it is in the official HTCDS file).
        names[index] = meant[-1]
        if len(set(meant)) > 1:
            notes.append(
                Note(
                    "",
                    f"{sheet}, colonne {columns.letters(index)}",
                    f"Le nom technique caché et le titre visible diffèrent ; la colonne a été lue comme "
                    f"« {columns.column(meant[-1]).fr} ».",
                    f"The hidden technical name and the visible title differ; the column was read as "
                    f"« {columns.column(meant[-1]).en} ».",
                    f"{sheet_en}, column {columns.letters(index)}",
                )
            )
    doubled = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if doubled:
        where = [f"{columns.letters(index)}" for index, name in names.items() if name == doubled[0]]
        return Problem(
            sheet,
            "source_unreadable",
            f"La colonne « {columns.column(doubled[0]).fr} » figure plusieurs fois ({', '.join(where)}). "
            "Gardez-en une seule.",
            f"The column « {columns.column(doubled[0]).en} » is there more than once ({', '.join(where)}). Keep one.",
            where_en=sheet_en,
        )
    needed = columns.required_columns(form) if whole else ()
    missing = [column for column in needed if column.name not in names.values()]
    if missing:
        return Problem(
            sheet,
            "source_unreadable",
            "Il manque des colonnes obligatoires : " + ", ".join(f"« {column.fr} »" for column in missing) + ". "
            "Recopiez vos lignes dans le modèle.",
            "Required columns are missing: " + ", ".join(f"« {column.en} »" for column in missing) + ". "
            "Copy your rows into the template.",
            where_en=sheet_en,
        )
    for index, text in others.items():
        if any(
            number > rows[0][0] and index < len(cells) and cells[index] is not None
            for number, cells in table.rows
            if second is None or number > second[0]
        ) and not text.startswith(columns.IGNORED):
            notes.append(
                Note(
                    "",
                    f"{sheet}, colonne {columns.letters(index)}",
                    f"La colonne « {text} » n'est pas connue : rien de ce qu'elle contient n'a été envoyé.",
                    f"The column « {text} » is not known: nothing that it holds was sent.",
                    f"{sheet_en}, column {columns.letters(index)}",
                )
            )
    return _Header(names, others, (second or first)[0], tuple(notes))


@dataclass(slots=True)
class _Book:
    """Collects over the rows of one file."""

    recipients: Sequence[tuple[str, str]]
    now: datetime.datetime
    fetch: Fetch
    items: list[Draft | Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    rows: dict[str, Mapping[str, str]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def add(self, form: Form, header: _Header, number: int, cells: Sequence[Cell]) -> None:
        line = f"{form}!{number}"
        row = Row(
            form,
            line,
            number,
            {name: cells[index] for index, name in header.names.items() if index < len(cells)},
            {name: columns.letters(index) for index, name in header.names.items()},
            self.recipients,
            self.now,
            self.fetch,
        )
        typed = {name: shown for name, cell in row.cells.items() if (shown := as_typed.shown(cell))}
        others = {
            text: shown
            for index, text in header.others.items()
            if index < len(cells) and (shown := as_typed.shown(cells[index])) and not text.startswith(columns.IGNORED)
        }
        if not typed:
            if others:
                self.rows[line] = others
            return
        if typed.get("reference_interne", "").casefold().startswith("exemple"):
            self.notes.append(
                Note(
                    line,
                    f"ligne {number}",
                    "Ligne d'exemple : elle n'a pas été envoyée.",
                    "An example row: it was not sent.",
                    f"row {number}",
                )
            )
            self.rows[line] = typed
            return
        draft = row.draft()
        self.notes.extend(row.notes)
        self.rows[line] = typed | others
        said = [form, typed, *(hashlib.sha256(one.data).hexdigest() for one in (draft.files if draft else ()))]
        self.digests[line] = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        self.items.extend([draft] if draft else row.problems)
