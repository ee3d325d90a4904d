# SPDX-License-Identifier: Apache-2.0
"""An audit's report as one HTML page: on a telephone, on a screen, on paper.

Nothing is fetched, nothing runs (`adapters.page_frame`). Everything is escaped here, wherever it came from.
"""

from __future__ import annotations

from html import escape

from adapters.page_frame import page
from schemas.page_words import WORDS
from umuhuza.audit_report import Block, Bullets, Code, Heading, Line, Paragraph, Sheet, Table

_STYLE = """
main{max-width:60rem;margin:0 auto;padding:1rem}
h1{font-size:1.4rem;color:var(--head)}h2{font-size:1.1rem;color:var(--head);margin-top:1.6rem}
.verdict{background:var(--band);padding:.2rem 1rem;border-left:.4rem solid var(--bar)}
.verdict.bad{background:var(--sand)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;border-bottom:1px solid var(--line);padding:.35rem .5rem}
code{overflow-wrap:anywhere}.quiet{color:var(--quiet)}
@media (max-width:40rem){thead{position:absolute;left:-999rem}tr{display:block;padding:.4rem 0;
border-bottom:1px solid var(--line)}td{display:block;border:0;padding:.1rem 0}td::before{content:attr(data-of);
display:block;color:var(--quiet);font-size:.85rem}}
@media print{:root{--ink:#000;--paper:#fff}h2{break-after:avoid}tr{break-inside:avoid}.wide{overflow:visible}}
"""


def page_of(sheet: Sheet) -> str:
    """The page."""
    body = [
        f"<h1>{escape(sheet.title)}</h1>\n",
        f'<p class="quiet">{escape(sheet.about)}</p>\n',
        f'<div class="verdict{"" if sheet.faultless else " bad"}">',
        *(f"<p>{escape(line)}</p>" for line in sheet.verdict),
        "</div>\n",
        *(_block(one) for one in sheet.blocks),
    ]
    return page(WORDS[sheet.language], sheet.title, _STYLE, "".join(body))


def _block(block: Block) -> str:
    match block:
        case Heading():
            return f"<h2>{escape(block.text)}</h2>\n"
        case Paragraph():
            return f"<p>{_line(block.line)}</p>\n"
        case Bullets():
            return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in block.items)}</ul>\n"
        case Table():
            return _table(block)


def _line(line: Line) -> str:
    return "".join(f"<code>{escape(one.text)}</code>" if isinstance(one, Code) else escape(one) for one in line)


def _table(table: Table) -> str:
    headers = [escape(one) for one in table.headers]
    rows = []
    for row in table.rows:
        cells = (f'<td data-of="{of}">{_line(cell)}</td>' for of, cell in zip(headers, row, strict=True))
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    head = "".join(f"<th>{one}</th>" for one in headers)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{"".join(rows)}</tbody></table></div>\n'
