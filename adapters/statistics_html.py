# SPDX-License-Identifier: Apache-2.0
"""A release as one page: every table with its chart, in French, English or Arabic. No I/O.

Invariants: only `Table.shown` is asked, so what is hidden is nowhere, not in a chart's length either; every chart
stands beside the table that it shows; nothing is cut: long answers are drawn on several lines, a table that is wider
than the screen scrolls by keyboard too and says so, and on paper one with many places lies across the sheet.
Must never: round, scale or draw a hidden figure.
"""

from __future__ import annotations

import textwrap
from html import escape

from adapters import page_frame
from adapters.statistics import Release, Table
from adapters.statistics_pages import HIDDEN, columns_of, heading, notes, rows_of, said, title_of, under
from schemas.page_words import PageLanguage, words_for

MANY_PLACES = 7
"""A table with more columns of figures than these is printed across the sheet."""
_FIRST_COLUMN_REM, _ROOMY_FIRST_COLUMN_REM, _ROOMY_REM, _COLUMN_REM = 8.5, 14.0, 48, 6.0
_STYLE = f"""
*{{box-sizing:border-box}}body{{margin:0}}main{{max-width:60rem;margin:0 auto;padding:1rem}}
h1{{color:var(--head);font-size:1.5rem;line-height:1.35;margin:.5rem 0 1rem;text-wrap:balance}}
h2{{color:var(--head);font-size:1.15rem;line-height:1.4;margin:2rem 0 0}}
p.under{{color:var(--quiet);margin:.1rem 0 .7rem}}ul{{padding-inline-start:1.2rem;margin:.4rem 0}}
.draft{{background:var(--sand);border-inline-start:4px solid var(--head);padding:.5rem .75rem;margin:0 0 1rem}}
.draft span{{display:block}}
section{{container-type:inline-size}}
.table{{overflow-x:auto;margin:.8rem 0}}.table:focus-visible{{outline:3px solid var(--head);outline-offset:2px}}
table{{border-collapse:collapse;min-width:100%}}
th,td{{border-bottom:1px solid var(--line);padding:.35rem .6rem;text-align:end;vertical-align:top}}
th:first-child{{text-align:start;position:sticky;inset-inline-start:0;background:var(--paper);
min-width:{_FIRST_COLUMN_REM}rem;max-width:14rem;hyphens:auto;font-weight:500}}
@container(min-width:{_ROOMY_REM}rem){{th:first-child{{min-width:{_ROOMY_FIRST_COLUMN_REM}rem}}}}
thead th{{background:var(--band);min-width:{_COLUMN_REM}rem;font-weight:600;vertical-align:bottom}}
thead span{{display:inline-block;max-width:11rem}}tbody tr:last-child>*{{font-weight:600}}
thead th:first-child{{background:var(--band);font-weight:600}}
td.hidden{{background:var(--sand)}}
svg{{width:100%;height:auto;max-width:24rem;display:block}}
svg text{{font-size:14px;fill:var(--ink)}}rect{{fill:var(--bar)}}
@media(forced-colors:active){{svg text,rect{{fill:CanvasText}}}}
p.scroll{{display:none;color:var(--quiet);margin:.8rem 0 -.4rem}}
@page{{size:A4;margin:14mm}}@page across{{size:A4 landscape}}
@media print{{
main{{max-width:none;padding:0}}body{{font-size:10pt}}.table{{overflow:visible}}p.scroll{{display:none!important}}
th:first-child{{position:static}}thead th{{min-width:0}}tr,li{{break-inside:avoid}}
h2,p.under,svg{{break-after:avoid}}svg{{break-inside:avoid}}
.many{{page:across}}.many table{{font-size:8pt}}.many th,.many td{{padding:.15rem .25rem}}
.many thead th:not(:first-child) span{{writing-mode:vertical-rl;writing-mode:sideways-lr;max-width:none;max-height:5cm}}
}}
"""
_WIDTH, _BAR, _LINE, _STEP = 360, 280, 22, 26
"""Of a chart, in its own units: all of it, the longest bar, one line of text, one bar with the space under it."""
_LETTERS = 40
"""Of an answer on one line of a chart, in the widest of the usual fonts."""


def page(found: Release, language: PageLanguage) -> bytes:
    """The release as one HTML page."""
    words = words_for(language)
    language = words.language
    title = heading(found, language)
    listed = "".join(f"<li>{escape(one)}</li>\n" for one in notes(found, language))
    parts = [_section(index, table, language) for index, table in enumerate(found.tables, start=1)]
    if not parts:
        parts = [f"<p>{escape(said(language, 'nothing', k=found.k))}</p>\n"]
    body = (
        f"{page_frame.draft_mark(words)}<h1>{escape(title)}</h1>\n"
        f"<h2>{escape(said(language, 'read_first'))}</h2>\n<ul>\n{listed}</ul>\n{''.join(parts)}"
    )
    widths = sorted({len(rows_of(table, language)) for table in found.tables})
    return page_frame.page(words, title, _STYLE + "".join(map(_hint, widths)), body).encode()


def _hint(columns: int) -> str:
    """When a table with so many columns of figures is wider than the page, it says that it scrolls."""
    narrow, roomy = (first + _COLUMN_REM * columns for first in (_FIRST_COLUMN_REM, _ROOMY_FIRST_COLUMN_REM))
    shown = f"{{p.of{columns}{{display:block}}}}"
    return (
        f"@container(max-width:{narrow:g}rem){shown}\n"
        f"@container(min-width:{_ROOMY_REM}rem) and (max-width:{roomy:g}rem){shown}\n"
    )


def _section(index: int, table: Table, language: PageLanguage) -> str:
    places = rows_of(table, language)
    head = "".join(f'<th scope="col"><span>{escape(place)}</span></th>' for _, place in places)
    not_shown = escape(said(language, "hidden"))
    lines = []
    for j, answer in columns_of(table, language):
        cells = []
        for i, _ in places:
            count = table.shown(i, j)
            cells.append(
                f'<td class="hidden"><span aria-label="{not_shown}" role="img">{HIDDEN}</span></td>'
                if count is None
                else f"<td>{count}</td>"
            )
        lines.append(f'<tr><th scope="row">{escape(answer)}</th>{"".join(cells)}</tr>\n')
    across = ' class="many"' if len(places) > MANY_PLACES else ""
    return (
        f'<section aria-labelledby="t{index}"{across}>\n<h2 id="t{index}">{escape(title_of(table, language))}</h2>\n'
        f'<p class="under">{escape(under(table, language))}</p>\n{_chart(index, table, language)}'
        f'<p class="scroll of{len(places)}">{escape(said(language, "scroll"))}</p>\n'
        f'<div class="table" tabindex="0" role="group" aria-labelledby="t{index}">'
        f'<table aria-labelledby="t{index}">\n<thead><tr><th scope="col">{escape(said(language, "answer"))}</th>{head}'
        f"</tr></thead>\n<tbody>\n{''.join(lines)}</tbody></table></div>\n</section>\n"
    )


def _chart(index: int, table: Table, language: PageLanguage) -> str:
    """Bars of the whole country; the table below says the same. Without anything to compare, none."""
    country = len(table.rows)
    bars = [(name, table.shown(country, j)) for j, name in columns_of(table, language)[:-1]]
    shown = [(name, count) for name, count in bars if count != 0]
    most = max((count for _, count in shown if count is not None), default=0)
    if len(shown) < 2 or not most:
        return ""
    right_to_left = words_for(language).direction == "rtl"
    drawn, y = [], 0
    for name, count in shown:
        for line in textwrap.wrap(name, _LETTERS):
            y += _LINE
            # An Arabic first letter may reach out to the right of where it begins.
            drawn.append(_text(4 if right_to_left else 1, y - 6, line, right_to_left))
        if count is None:
            drawn.append(_text(4, y + 15, HIDDEN, right_to_left))
        else:
            width = max(2, round(_BAR * count / most))
            left = _WIDTH - width if right_to_left else 0
            drawn.append(f'<rect x="{left}" y="{y}" width="{width}" height="18" rx="2"/>')
            drawn.append(_text(width + 6, y + 15, str(count), right_to_left))
        y += _STEP
    told = f"{title_of(table, language)}. {said(language, 'same')}"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {y}" role="img" aria-labelledby="c{index}">'
        f'<title id="c{index}">{escape(told)}</title>{"".join(drawn)}</svg>\n'
    )


def _text(distance: int, y: int, text: str, right_to_left: bool) -> str:
    """A text that begins so far from the side where reading begins."""
    x = _WIDTH - distance if right_to_left else distance
    return f'<text x="{x}" y="{y}">{escape(text)}</text>'
