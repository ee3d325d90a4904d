# SPDX-License-Identifier: Apache-2.0
"""An audit's report as PDF: A4, numbered pages, tables with repeated headers, letters embedded, the same everywhere.

The same sheet gives the same bytes: the file's own dates are the report's. Made by ReportLab; nothing is fetched, and
text is text, whatever it holds: no markup of the source's is taken for markup.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from html import escape
from itertools import groupby
from pathlib import Path

import reportlab
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Flowable,
    Frame,
    ListFlowable,
    PageTemplate,
    Spacer,
    TableStyle,
)
from reportlab.platypus import Paragraph as Words
from reportlab.platypus import Table as Grid

from schemas.errors import Language
from umuhuza.audit_report import Block, Bullets, Code, Heading, Line, Paragraph, Sheet, Table

_MARGIN = 18 * mm
_FOOT = 16 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_ROOM = 50 * mm
"""What has to be left on a page for a heading to begin on it."""
_GROUP = 8
"""Letters of a hash that stand together: it may be broken between groups, and is easier to read out."""
_HASH_LETTERS = 64
_NUMBERS = (
    "Letters that this file's font lacks, Arabic ones among them, stand here by their Unicode numbers, in their order: "
    "[U+0645 …]. The report as a page (HTML) shows them as they are written.",
    "Les lettres que la police de ce fichier n'a pas, dont les lettres arabes, figurent ici par leurs numéros Unicode, "
    "dans leur ordre : [U+0645 …]. Le rapport en page (HTML) les montre telles qu'elles s'écrivent.",
)
_INK, _QUIET, _LINE = colors.HexColor("#1a1a1a"), colors.HexColor("#5a5a5a"), colors.HexColor("#c8c8c8")
_HEAD, _GOOD, _BAD = colors.HexColor("#1b3a57"), colors.HexColor("#eef3f7"), colors.HexColor("#fbeee2")
_BARS = {True: _HEAD, False: colors.HexColor("#b4540a")}


def pdf_of(sheet: Sheet) -> bytes:
    """The file."""
    _fonts()
    _, pages = _written(sheet, 0)
    return _written(sheet, pages)[0]  # again, now that it is known how many there are


def _written(sheet: Sheet, pages: int) -> tuple[bytes, int]:
    out = io.BytesIO()
    document = BaseDocTemplate(
        out,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=sheet.title,
        subject=_drawn(sheet.about),
        author="Umuhuza",
        creator="Umuhuza",
        lang=sheet.language,
        initialFontName="Vera",
        invariant=1,
    )
    frame = Frame(_MARGIN, _FOOT, _WIDTH, A4[1] - _MARGIN - _FOOT, 0, 0, 0, 0)
    document.addPageTemplates([PageTemplate(frames=[frame], onPage=partial(_foot, sheet, pages))])
    document.build(_story(sheet))
    return out.getvalue(), document.page


def _foot(sheet: Sheet, pages: int, canvas: Canvas, document: BaseDocTemplate) -> None:
    canvas.setDateFormatter(lambda *_: f"D:{datetime.fromtimestamp(sheet.made_at, UTC):%Y%m%d%H%M%S}Z")
    canvas.saveState()
    canvas.setFont("Vera", 7.5)
    canvas.setFillColor(_QUIET)
    canvas.drawString(_MARGIN, 9 * mm, _drawn(f"{sheet.title} · {sheet.about}"))
    canvas.drawRightString(A4[0] - _MARGIN, 9 * mm, _page_of(sheet.language, document.page, pages))
    canvas.restoreState()


def _page_of(language: Language, page: int, pages: int) -> str:
    return f"Page {page} sur {pages}" if language == "fr" else f"Page {page} of {pages}"


# ---------------------------------------------------------------------------------------------------------------------
# What stands on it


def _story(sheet: Sheet) -> list[Flowable]:
    verdict: list[Flowable] = [Words(_marked(line), _style("verdict")) for line in sheet.verdict]
    box = Grid([[verdict]], colWidths=[_WIDTH])
    box.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), _GOOD if sheet.faultless else _BAD),
                ("LINEBEFORE", (0, 0), (0, -1), 3, _BARS[sheet.faultless]),
                ("LEFTPADDING", (0, 0), (-1, -1), 10),
            ]
        )
    )
    story: list[Flowable] = [
        Words(_marked(sheet.title), _style("title")),
        Words(_marked(sheet.about), _style("quiet")),
        Spacer(1, 4 * mm),
        box,
    ]
    for block in sheet.blocks:
        story += _flowables(block)
    if _lacks_letters(sheet):
        story.append(Words(_marked(_NUMBERS[sheet.language == "fr"]), _style("quiet")))
    return story


def _flowables(block: Block) -> list[Flowable]:
    match block:
        case Heading():
            return [CondPageBreak(_ROOM), Words(_marked(block.text), _style("heading"))]
        case Paragraph():
            return [Words(_line(block.line), _style("plain"))]
        case Bullets():
            items = [Words(_marked(one), _style("plain")) for one in block.items]
            return [ListFlowable(items, bulletType="bullet", start="•", bulletFontName="Vera", leftIndent=5 * mm)]
        case Table():
            return [_grid(block), Spacer(1, 2 * mm)]


def _grid(table: Table) -> Grid:
    rows = [[Words(_marked(one), _style("header")) for one in table.headers]]
    rows += [[Words(_line(cell), _style("cell")) for cell in row] for row in table.rows]
    widths = [_WIDTH * part / sum(table.widths) for part in table.widths]
    grid = Grid(rows, colWidths=widths, repeatRows=1, splitInRow=1)
    grid.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, 0), 0.8, _HEAD),
                ("LINEBELOW", (0, 1), (-1, -1), 0.4, _LINE),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (-1, -1), 6),
                ("TOPPADDING", (0, 0), (-1, -1), 2.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ]
        )
    )
    return grid


def _line(line: Line) -> str:
    return "".join(_code(one.text) if isinstance(one, Code) else _marked(one) for one in line)


def _code(text: str) -> str:
    if len(text) == _HASH_LETTERS and text.isalnum():
        text = " ".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))
    return f'<font color="#1b3a57">{_marked(text)}</font>'


def _marked(text: str) -> str:
    """As ReportLab's paragraphs want it."""
    return escape(_drawn(text))


def _drawn(text: str) -> str:
    """With signs that the font has; others, a name in Arabic script among them, by their numbers, so that nothing is
    lost and two names stay two."""
    plain = text.replace("→", "›").replace("\u202f", "\u00a0")
    runs = ((known, list(run)) for known, run in groupby(plain, lambda one: ord(one) in _letters()))
    return "".join(
        "".join(run) if known else f"[{' '.join(f'U+{ord(one):04X}' for one in run)}]" for known, run in runs
    )


def _lacks_letters(sheet: Sheet) -> bool:
    return any(_drawn(text).count("[U+") > text.count("[U+") for text in _texts(sheet))


def _texts(sheet: Sheet) -> Iterator[str]:
    yield from (sheet.title, sheet.about, *sheet.verdict)
    for block in sheet.blocks:
        lines: Sequence[Line]
        match block:
            case Heading():
                lines = [(block.text,)]
            case Bullets():
                lines = [(one,) for one in block.items]
            case Paragraph():
                lines = [block.line]
            case Table():
                lines = [tuple(block.headers), *(cell for row in block.rows for cell in row)]
        for line in lines:
            yield from (one.text if isinstance(one, Code) else one for one in line)


# ---------------------------------------------------------------------------------------------------------------------
# Letters


@cache
def _fonts() -> dict[str, TTFont]:
    """Bitstream Vera, which comes with ReportLab, under its own names; registered once in a process."""
    folder = Path(reportlab.__file__).parent / "fonts"
    fonts = {name: TTFont(name, str(folder / f"{name}.ttf")) for name in ("Vera", "VeraBd")}
    for font in fonts.values():
        pdfmetrics.registerFont(font)
    pdfmetrics.registerFontFamily("Vera", normal="Vera", bold="VeraBd", italic="Vera", boldItalic="VeraBd")
    return fonts


@cache
def _letters() -> frozenset[int]:
    return frozenset(_fonts()["Vera"].face.charToGlyph) - frozenset(range(32))


@cache
def _style(name: str) -> ParagraphStyle:
    plain = ParagraphStyle("plain", fontName="Vera", fontSize=9.5, leading=13.5, textColor=_INK, spaceAfter=3)
    styles = {
        "plain": plain,
        "title": ParagraphStyle("title", plain, fontName="VeraBd", fontSize=17, leading=22, textColor=_HEAD),
        "heading": ParagraphStyle(
            "heading",
            plain,
            fontName="VeraBd",
            fontSize=12,
            leading=16,
            textColor=_HEAD,
            spaceBefore=12,
            spaceAfter=5,
        ),
        "quiet": ParagraphStyle("quiet", plain, textColor=_QUIET),
        "verdict": ParagraphStyle("verdict", plain, spaceAfter=4),
        "header": ParagraphStyle("header", plain, fontName="VeraBd", fontSize=7.5, leading=10, textColor=_HEAD),
        "cell": ParagraphStyle("cell", plain, fontSize=7.5, leading=10.5, spaceAfter=0, splitLongWords=1),
    }
    return styles[name]
