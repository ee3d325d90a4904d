# SPDX-License-Identifier: Apache-2.0
"""A release in words, as CSV and as XLSX; as a page see `adapters.statistics_html`. No I/O.

Invariants: only `Table.shown` is asked, so what is hidden is in no file; a hidden figure is « – » and a note says that
it is not zero. Words are data (`schemas.page_words`); tables for programs and workbooks are in French or English.
Must never: round or write a hidden figure.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Sequence
from importlib import resources

from adapters import page_frame
from adapters.connectors import paper
from adapters.statistics import ALL, NOT_STATED, Release, Table
from schemas import htcds
from schemas.errors import Language
from schemas.page_words import PageLanguage, words_for

HIDDEN = "–"
_PLACES = tomllib.loads(resources.files("schemas").joinpath("data", "places.toml").read_text(encoding="utf-8"))["place"]
_NOTES = ("note_hidden", "note_k", "note_twice", "note_corrections", "note_source")
_LISTS = {"country": "country", "countries": "country", "language": "language", "languages": "language"}


def said(language: PageLanguage, key: str, **values: str | int) -> str:
    """One of our own texts. Raises KeyError: none of that name."""
    return page_frame.said(words_for(language), f"statistics.{key}", **values)


def name_of_period(period: str, language: PageLanguage) -> str:
    """`1er semestre 2026`; in Arabic with the months as Tunisia calls them."""
    year, half = period.split("-H")
    return said(language, "first_half" if half == "1" else "second_half", year=year)


def _named(language: PageLanguage, kind: str, key: str, otherwise: str) -> str:
    """The language's own name, where it has one that stands nowhere else."""
    return words_for(language).labels.get(kind, {}).get(key, otherwise)


def _column(table: Table, code: str, language: PageLanguage) -> str:
    if code == NOT_STATED:
        return said(language, "not_stated")
    if code == ALL:
        return said(language, "all")
    field = htcds.FIELDS[table.field]
    codelist = _LISTS.get(field.kind, field.codelist or field.kind)
    return _named(language, codelist, code, htcds.label(codelist, code, language))


def _row(places: Sequence[str], language: PageLanguage) -> str:
    names = [_named(language, "place", one, _place(one, language)) for one in places]
    return names[0] if len(names) == 1 else said(language, "together", places=said(language, "separator").join(names))


def _place(code: str, language: PageLanguage) -> str:
    found: dict[str, str] = _PLACES.get(code, {})
    return found.get(language) or found.get("fr") or code


def rows_of(table: Table, language: PageLanguage) -> list[tuple[int, str]]:
    """(row, its name), the country's first; only the country where there is but one row."""
    country = (len(table.rows), said(language, "country"))
    if len(table.rows) == 1:
        return [country]
    return [country, *((i, _row(places, language)) for i, places in enumerate(table.rows))]


def columns_of(table: Table, language: PageLanguage) -> list[tuple[int, str]]:
    """(column, the answer's name), all persons last."""
    codes = (
        [] if table.columns == (ALL,) else [(j, _column(table, code, language)) for j, code in enumerate(table.columns)]
    )
    return [*codes, (len(table.columns), said(language, "persons"))]


def title_of(table: Table, language: PageLanguage) -> str:
    """What was asked."""
    return _named(language, "field", table.field, htcds.field_label(table.field, language))


def under(table: Table, language: PageLanguage) -> str:
    """What was counted, and when."""
    separator = said(language, "separator")
    counted = f"{said(language, table.counted)}{separator}{name_of_period(table.period, language)}"
    return said(language, "revised", said=counted) if table.revised else counted


def notes(found: Release, language: PageLanguage) -> list[str]:
    """What a reader must know."""
    return [said(language, one, hidden=HIDDEN, below=found.k - 1) for one in _NOTES]


def csv_text(found: Release, language: Language) -> bytes:
    """One line per figure, hidden ones as « – »: UTF-8 with its mark, semicolons."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=";", lineterminator="\r\n")
    french = language == "fr"
    writer.writerow(
        ("Semestre", "Dénombrement", "Champ HTCDS", "Intitulé", "Lieu", "Code", "Réponse", "Nombre", "Révisé")
        if french
        else ("Half-year", "Counted", "HTCDS field", "Title", "Place", "Code", "Answer", "Count", "Revised")
    )
    for table in found.tables:
        for i, place in rows_of(table, language):
            for j, answer in columns_of(table, language):
                count = table.shown(i, j)
                code = table.columns[j] if j < len(table.columns) else ""
                cells = (
                    table.period,
                    said(language, table.counted),
                    table.field,
                    title_of(table, language),
                    place,
                    "" if code == NOT_STATED else code,
                    answer,
                    HIDDEN if count is None else str(count),
                    ("oui" if french else "yes") if table.revised else "",
                )
                writer.writerow([paper.guarded(cell) for cell in cells])
    return b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8")


def xlsx(found: Release, language: Language) -> bytes:
    """One sheet per table, answers down, places across; the notes on the first."""
    buffer = io.BytesIO()
    made = paper.new_paper(buffer)
    edged = {"font_name": paper.FONT, "font_color": paper.INK, "border": 1, "border_color": paper.LINE}
    number = made.book.add_format({**edged, "num_format": "0", "align": "right"})
    hidden = made.book.add_format({**edged, "align": "right", "bg_color": paper.SAND})
    first = made.book.add_worksheet("Lisez-moi" if language == "fr" else "Read me")
    first.set_column(0, 0, 110)
    paper.write(first, 0, 0, heading(found, language), made.title)
    for i, note in enumerate(notes(found, language), start=2):
        paper.write(first, i, 0, note, made.value)
    for index, table in enumerate(found.tables, start=1):
        sheet = made.book.add_worksheet(f"{index}. {table.field}"[:31])
        paper.write(sheet, 0, 0, title_of(table, language), made.title)
        paper.write(sheet, 1, 0, under(table, language), made.quiet_line)
        rows = rows_of(table, language)
        sheet.set_column(0, 0, 44)
        sheet.set_column(1, len(rows), 20)
        paper.write(sheet, 3, 0, "Réponse" if language == "fr" else "Answer", made.heading)
        for at, (_, place) in enumerate(rows, start=1):
            paper.write(sheet, 3, at, place, made.heading)
        for line, (j, answer) in enumerate(columns_of(table, language), start=4):
            paper.write(sheet, line, 0, answer, made.label)
            for at, (i, _) in enumerate(rows, start=1):
                count = table.shown(i, j)
                if count is None:
                    paper.write(sheet, line, at, HIDDEN, hidden)
                else:
                    sheet.write_number(line, at, count, number)
        paper.print_setup(sheet)
    made.book.close()
    return buffer.getvalue()


def heading(found: Release, language: PageLanguage) -> str:
    return said(language, "title", period=name_of_period(found.period, language))
