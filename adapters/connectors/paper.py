# SPDX-License-Identifier: Apache-2.0
"""How our workbooks look, and the one way in which a value enters a cell.

Invariants: every value is written as text (`write_string`), so nothing that someone wrote is ever a formula, a link or
a number that a spreadsheet rounds; in CSV, text that begins like a formula gets an apostrophe, which our reader takes
off again; dark text on light ground, contrast at least 7 to 1.
Never: writes a person's name into a file's properties or a sheet's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from xlsxwriter import Workbook
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

FONT = "Calibri"
INK = "#1B2A33"
BLUE = "#1F4E5F"
PALE = "#E6EFF2"
SAND = "#FBF3E0"
GREEN = "#E3F1E5"
RED = "#FBE5E3"
GREY = "#5B6770"
LINE = "#B8C4CA"
_MAX_CELL = 32_767
# XML 1.0 cannot hold these at all; a workbook with one of them would not open.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Paper:
    """A workbook being written, with its formats."""

    book: Workbook
    title: Format
    heading: Format
    heading_required: Format
    group: Format
    hidden_name: Format
    text: Format
    quiet_line: Format
    """One line that may run over its neighbours."""
    label: Format
    value: Format
    section: Format
    code: Format
    warning: Format
    answer: Format
    """The reader may write there although the sheet is protected."""
    good: Format
    bad: Format
    note: Format


def new_paper(file: str | IO[bytes]) -> Paper:
    """A new workbook; the caller closes `book`, which writes it."""
    book = Workbook(
        file,
        {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False, "in_memory": True},
    )
    book.set_properties({"title": "Umuhuza", "author": "", "comments": ""})

    def make(**more: Any) -> Format:
        return book.add_format({"font_name": FONT, "font_size": 11, "font_color": INK, "valign": "top", **more})

    edged = {"border": 1, "border_color": LINE}
    header = {"bold": True, "text_wrap": True, "valign": "vcenter", **edged}
    return Paper(
        book,
        title=make(bold=True, font_size=16, font_color=BLUE, valign="vcenter"),
        heading=make(bg_color=PALE, **header),
        heading_required=make(bg_color="#F6E3B4", **header),
        group=make(bold=True, font_color="#FFFFFF", bg_color=BLUE, align="left", indent=1, valign="vcenter", **edged),
        hidden_name=make(font_size=8, font_color=GREY),
        text=make(text_wrap=True, num_format="@", **edged),
        quiet_line=make(font_color=GREY),
        label=make(text_wrap=True, bold=True, indent=1, **edged),
        value=make(text_wrap=True, num_format="@", indent=1, **edged),
        section=make(bold=True, bg_color=PALE, font_color=BLUE, valign="vcenter", indent=1, **edged),
        code=make(text_wrap=True, font_color=GREY, font_size=9, indent=1, **edged),
        warning=make(bold=True, bg_color=RED, font_color="#7A1B12", valign="vcenter", indent=1),
        answer=make(text_wrap=True, num_format="@", bg_color=SAND, locked=False, **edged),
        good=make(text_wrap=True, bg_color=GREEN, **edged),
        bad=make(text_wrap=True, bg_color=RED, **edged),
        note=make(text_wrap=True, bg_color=SAND, **edged),
    )


def write(sheet: Worksheet, row: int, column: int, text: str | None, style: Format) -> None:
    """One cell as text, whatever it begins with; empty cells keep their style."""
    safe = _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text or "")
    if not safe:
        sheet.write_blank(row, column, None, style)
        return
    if len(safe) > _MAX_CELL:
        safe = safe[: _MAX_CELL - 3] + "..."
    sheet.write_string(row, column, safe, style)


def guarded(text: str) -> str:
    """Text for a CSV cell: never begins like a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def french(text: str) -> str:
    """Our own words with the spaces that French typography does not break: before `: ; ? ! »`, after `«`."""
    return re.sub(r"« ", "«\u00a0", re.sub(r" (?=[:;?!»])", "\u00a0", text))


def finish_table(sheet: Worksheet, heading: int, after: int, columns: int) -> None:
    """The end of a sheet with one table: heading and first column stay in view, each column can be filtered, printing.

    Args:
        heading: row of the column names, from 0.
        after: the row behind the last one that was written.
    """
    sheet.freeze_panes(heading + 1, 1)
    sheet.autofilter(heading, 0, max(after - 1, heading + 1), columns - 1)
    print_setup(sheet, repeat=(heading, heading))


def print_setup(
    sheet: Worksheet, *, repeat: tuple[int, int] | None = None, landscape: bool = True, scale: int | None = None
) -> None:
    """A4, one page wide unless there is a `scale` in per cent, page numbers; the header's rows on every page."""
    sheet.set_paper(9)
    if landscape:
        sheet.set_landscape()
    sheet.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.6)
    sheet.set_footer("&C&P / &N")
    if repeat:
        sheet.repeat_rows(*repeat)
    if scale is None:
        sheet.fit_to_pages(1, 0)
    else:
        sheet.set_print_scale(scale)
    sheet.hide_gridlines(2)


def height_for(texts: Sequence[tuple[str, float]], *, line: float = 15.0, least: float = 18.0) -> float:
    """Row height in points for wrapped (text, column width in characters): not every program fits rows by itself."""
    most = 1
    for text, width in texts:
        lines = sum(max(1, -(-len(part) // max(1, int(width * 0.95)))) for part in text.split("\n"))
        most = max(most, lines)
    return min(400.0, max(least, most * line + 3))
