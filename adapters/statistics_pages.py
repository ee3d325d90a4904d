# SPDX-License-Identifier: Apache-2.0
"""A release as everybody sees it: CSV, XLSX and one HTML page with charts, in French or English. No I/O.

Invariants: only `Table.shown` is asked, so what is hidden is in none of them, not in a chart's length either; a hidden
figure is « – » and a note says that it is not zero; every chart stands beside the table that it shows, and the page is
one file without scripts or anything from elsewhere, readable on a telephone.
Must never: round, scale or draw a hidden figure.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Sequence
from html import escape
from importlib import resources

from adapters.connectors import paper
from adapters.statistics import ALL, COUNTED, NOT_STATED, Release, Table
from schemas import htcds
from schemas.errors import Language

HIDDEN = "–"
_PLACES = tomllib.loads(resources.files("schemas").joinpath("data", "places.toml").read_text(encoding="utf-8"))["place"]


def name_of_period(period: str, language: Language) -> str:
    """`1er semestre 2026`."""
    year, half = period.split("-H")
    if language == "fr":
        return f"{'1er' if half == '1' else '2e'} semestre {year}"
    return f"{'first' if half == '1' else 'second'} half of {year}"


def _column(table: Table, code: str, language: Language) -> str:
    if code == NOT_STATED:
        return "Non renseigné" if language == "fr" else "Not stated"
    if code == ALL:
        return "Ensemble" if language == "fr" else "All"
    field = htcds.FIELDS[table.field]
    lists = {"country": "country", "countries": "country", "language": "language", "languages": "language"}
    return htcds.label(lists.get(field.kind, field.codelist or field.kind), code, language)


def _row(places: Sequence[str], language: Language) -> str:
    names = [_PLACES[one][language] if one in _PLACES else one for one in places]
    if len(names) == 1:
        return names[0]
    return ("Regroupées : " if language == "fr" else "Together: ") + ", ".join(names)


def _rows(table: Table, language: Language) -> list[tuple[int, str]]:
    """(row, its name), the country's first; only the country where there is but one row."""
    country = (len(table.rows), "Pays entier" if language == "fr" else "Whole country")
    if len(table.rows) == 1:
        return [country]
    return [country, *((i, _row(places, language)) for i, places in enumerate(table.rows))]


def _columns(table: Table, language: Language) -> list[tuple[int, str]]:
    codes = (
        [] if table.columns == (ALL,) else [(j, _column(table, code, language)) for j, code in enumerate(table.columns)]
    )
    return [*codes, (len(table.columns), "Personnes" if language == "fr" else "Persons")]


def _title(table: Table, language: Language) -> str:
    return htcds.field_label(table.field, language)


def _under(table: Table, language: Language) -> str:
    counted = COUNTED[table.counted][0 if language == "fr" else 1]
    said = f"{counted}, {name_of_period(table.period, language)}"
    if table.revised:
        said += " ; chiffres révisés" if language == "fr" else "; revised figures"
    return paper.french(said) if language == "fr" else said


def notes(found: Release, language: Language) -> list[str]:
    """What a reader must know."""
    if language == "fr":
        said = [
            f"« {HIDDEN} » : chiffre non publié, pour que personne ne puisse être reconnu. Ce n'est pas zéro.",
            f"Aucun chiffre de 1 à {found.k - 1} n'est publié ; d'autres sont masqués pour qu'aucun ne se calcule.",
            "Une personne connue de deux agences peut être comptée deux fois. Là où plusieurs réponses sont possibles, "
            "leur somme dépasse le nombre de personnes.",
            "Les corrections entrent dans la publication suivante. Rien n'est publié en dessous de la province.",
            "Catégories : HTCDS 2.0 de l'OIM (CC BY 4.0), libellés français non officiels ; l'OIM ne cautionne pas "
            "cette publication.",
        ]
        return [paper.french(one) for one in said]
    return [
        f"{HIDDEN}: not published, so that nobody can be recognised. It is not zero.",
        f"No figure from 1 to {found.k - 1} is published; others are hidden so that it cannot be worked out.",
        "A person known to two agencies may be counted twice. Where several answers are possible, they add up to more "
        "than the persons.",
        "Corrections enter the next release. Nothing is published below province.",
        "Categories: HTCDS 2.0 by IOM (CC BY 4.0); IOM does not endorse this publication.",
    ]


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
        for i, place in _rows(table, language):
            for j, answer in _columns(table, language):
                count = table.shown(i, j)
                code = table.columns[j] if j < len(table.columns) else ""
                cells = (
                    table.period,
                    COUNTED[table.counted][0 if french else 1],
                    table.field,
                    _title(table, language),
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
        paper.write(sheet, 0, 0, _title(table, language), made.title)
        paper.write(sheet, 1, 0, _under(table, language), made.quiet_line)
        rows = _rows(table, language)
        sheet.set_column(0, 0, 44)
        sheet.set_column(1, len(rows), 20)
        paper.write(sheet, 3, 0, "Réponse" if language == "fr" else "Answer", made.heading)
        for at, (_, place) in enumerate(rows, start=1):
            paper.write(sheet, 3, at, place, made.heading)
        for line, (j, answer) in enumerate(_columns(table, language), start=4):
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


def heading(found: Release, language: Language) -> str:
    period = name_of_period(found.period, language)
    return f"Traite des personnes : {period}" if language == "fr" else f"Trafficking in persons: {period}"


_STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:1rem/1.5 system-ui,sans-serif;color:#1b2a33;background:#fff;margin:0 auto;max-width:60rem;padding:1rem}
h1{color:#1f4e5f;font-size:1.5rem;line-height:1.25}h2{color:#1f4e5f;font-size:1.15rem;margin:2rem 0 0}
p.u{color:#4a565e;margin:.1rem 0 .7rem}ul{padding-left:1.2rem}
.w{overflow-x:auto;margin:.8rem 0}.w:focus-visible{outline:3px solid #1f4e5f}
table{border-collapse:collapse;min-width:100%}
th,td{border-bottom:1px solid #b8c4ca;padding:.35rem .6rem;text-align:right;vertical-align:top}
th:first-child{text-align:left;position:sticky;left:0;background:#fff;min-width:8.5rem;max-width:14rem;hyphens:auto}
thead th{background:#e6eff2;min-width:6rem}thead th:first-child{background:#e6eff2}
td.h{background:#fbf3e0}svg{width:100%;height:auto;max-width:40rem;display:block}
svg text{font:14px system-ui,sans-serif;fill:#1b2a33}
p.s{color:#4a565e;margin:.8rem 0 -.4rem}@media(min-width:60rem){p.s{display:none}}
@media print{.w{overflow:visible}p.s{display:none}}
"""


def page(found: Release, language: Language) -> bytes:
    """The release as one HTML page."""
    title = escape(heading(found, language))
    listed = "".join(f"<li>{escape(one)}</li>" for one in notes(found, language))
    parts = [_section(index, table, language) for index, table in enumerate(found.tables, start=1)]
    if not parts:
        said = (
            f"Moins de {found.k} personnes, ou aucune : rien ne peut être publié pour ce semestre."
            if language == "fr"
            else f"Fewer than {found.k} persons, or none: nothing can be published for this half-year."
        )
        parts = [f"<p>{escape(paper.french(said) if language == 'fr' else said)}</p>"]
    how = "À lire d'abord" if language == "fr" else "Read first"
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<h2>{how}</h2><ul>{listed}</ul>{''.join(parts)}</main></body></html>\n"
    ).encode()


def _section(index: int, table: Table, language: Language) -> str:
    title, under = escape(_title(table, language)), escape(_under(table, language))
    rows = _rows(table, language)
    columns = _columns(table, language)
    head = "".join(f'<th scope="col">{escape(place)}</th>' for _, place in rows)
    answer_word = "Réponse" if language == "fr" else "Answer"
    not_shown = "non publié" if language == "fr" else "not published"
    body = []
    for j, answer in columns:
        cells = []
        for i, _ in rows:
            count = table.shown(i, j)
            cells.append(
                f'<td class="h"><span aria-label="{not_shown}" role="img">{HIDDEN}</span></td>'
                if count is None
                else f"<td>{count}</td>"
            )
        body.append(f'<tr><th scope="row">{escape(answer)}</th>{"".join(cells)}</tr>')
    slide = "Le tableau défile vers la droite." if language == "fr" else "The table scrolls to the right."
    more = f'<p class="s">{slide}</p>' if len(rows) > 2 else ""
    return (
        f'<section aria-labelledby="t{index}"><h2 id="t{index}">{title}</h2><p class="u">{under}</p>'
        f"{_chart(index, table, language)}{more}"
        f'<div class="w" tabindex="0" role="region" aria-labelledby="t{index}"><table>'
        f'<thead><tr><th scope="col">{answer_word}</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
        "</section>"
    )


def _chart(index: int, table: Table, language: Language) -> str:
    """Bars of the whole country; the table below says the same. Without anything to compare, none."""
    country = len(table.rows)
    bars = [(name, table.shown(country, j)) for j, name in _columns(table, language)[:-1]]
    shown = [(name, count) for name, count in bars if count != 0]
    most = max((count for _, count in shown if count is not None), default=0)
    if len(shown) < 2 or not most:
        return ""
    step = 46
    title = escape(_title(table, language))
    drawn = []
    for at, (name, count) in enumerate(shown):
        y = at * step
        drawn.append(f'<text x="0" y="{y + 15}">{escape(_short(name))}</text>')
        if count is None:
            drawn.append(f'<text x="4" y="{y + 36}">{HIDDEN}</text>')
        else:
            width = max(2, round(290 * count / most))
            drawn.append(f'<rect x="0" y="{y + 21}" width="{width}" height="18" rx="2" fill="#1f4e5f"/>')
            drawn.append(f'<text x="{width + 6}" y="{y + 36}">{count}</text>')
    below = "Le tableau ci-dessous dit la même chose." if language == "fr" else "The table below says the same."
    return (
        f'<svg viewBox="0 0 360 {len(shown) * step}" role="img" aria-labelledby="c{index}">'
        f'<title id="c{index}">{title}. {escape(below)}</title>{"".join(drawn)}</svg>'
    )


def _short(text: str, most: int = 46) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
