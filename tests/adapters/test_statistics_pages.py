# SPDX-License-Identifier: Apache-2.0
"""A release on paper and on the screen: what is hidden is in none of its files."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import openpyxl
import pytest

from adapters import statistics_html, statistics_pages
from adapters.statistics import Release, release
from schemas.errors import Language
from schemas.page_words import PageLanguage
from tests.adapters.test_statistics import submitted


def found() -> Release:
    given_counts = [
        submitted(place="BI-GTG", Actual=47, Possible=7),
        submitted(place="BI-BRG", Actual=61, Possible=53),
        submitted(place="BI-BHZ", Actual=29, Possible=31),
        submitted(place="BI-BTY", Actual=3),
    ]
    return release("2026-H1", given_counts, [], 11)


class Cells(HTMLParser):
    """The texts of table cells and of charts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [value or "" for name, value in attrs if name in ("src", "href", "action", "onclick")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(page: bytes) -> Cells:
    cells = Cells()
    cells.feed(page.decode("utf-8"))
    return cells


def numbers(texts: list[str]) -> set[int]:
    return {int(text) for text in texts if re.fullmatch(r"[0-9]+", text)}


LANGUAGES: tuple[Language, ...] = ("fr", "en")
PAGES: tuple[PageLanguage, ...] = ("fr", "en", "ar")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_file_holds_a_hidden_figure(language: Language) -> None:
    made = found()
    [table] = made.tables
    hidden = {table.cells[i][j] if i < len(table.rows) else sum(row[j] for row in table.cells) for i, j in table.hidden}
    shown = {table.shown(i, j) for i in range(len(table.rows) + 1) for j in range(len(table.columns) + 1)}
    assert hidden >= {7}
    secret = hidden - shown
    rows = list(csv.reader(io.StringIO(statistics_pages.csv_text(made, language).decode("utf-8-sig")), delimiter=";"))
    assert not secret & numbers([row[7] for row in rows])
    assert {row[7] for row in rows} >= {"–", "0"}
    book = openpyxl.load_workbook(io.BytesIO(statistics_pages.xlsx(made, language)))
    values = [cell for sheet in book.worksheets for row in sheet.iter_rows(values_only=True) for cell in row]
    assert not secret & {value for value in values if isinstance(value, int)}


@pytest.mark.parametrize("language", PAGES)
def test_no_page_holds_a_hidden_figure_or_shows_it_by_the_length_of_a_bar(language: PageLanguage) -> None:
    made = found()
    [table] = made.tables
    shown = {table.shown(i, j) for i in range(len(table.rows) + 1) for j in range(len(table.columns) + 1)}
    hidden = {table.cells[i][j] if i < len(table.rows) else sum(row[j] for row in table.cells) for i, j in table.hidden}
    page = read(statistics_html.page(made, language))
    assert not (hidden - shown) & numbers(page.texts)
    country = len(table.rows)
    bars = [table.shown(country, j) for j in range(len(table.columns))]
    assert page.tags.count("rect") == sum(1 for count in bars if count)


@pytest.mark.parametrize("language", PAGES)
def test_the_page_needs_nothing_from_elsewhere_and_says_that_hidden_is_not_zero(language: PageLanguage) -> None:
    page = read(statistics_html.page(found(), language))
    assert "script" not in page.tags
    assert page.outside == []
    assert page.tags.count("svg") == page.tags.count("table") == 1
    words = " ".join(page.texts).replace("\u00a0", " ")
    assert {"fr": "Ce n'est pas zéro", "en": "It is not zero", "ar": "ولا يعني ذلك صفرا"}[language] in words


def test_small_provinces_stand_together_under_their_names() -> None:
    words = statistics_html.page(found(), "fr").decode().replace("\u00a0", " ")
    assert "Regroupées : Butanyerera, Gitega" in words
    assert "Burunga" in words


def test_a_half_year_with_too_few_persons_says_so_in_words() -> None:
    words = statistics_html.page(release("2026-H1", [submitted(Actual=4)], [], 11), "en").decode()
    assert "nothing can be published" in words
    assert "<table" not in words
