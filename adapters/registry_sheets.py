# SPDX-License-Identifier: Apache-2.0
"""An agency's registry as XLSX, CSV or JSON, with French or English headers. No I/O: bytes.

Invariants: text is written as text and never as a formula (`adapters.connectors.paper`); dates are dates, in the
agency's zone; counts are numbers; all three formats hold the same rows.
Must never: hold more than `adapters.projections` gives (no name, no content of a record).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from types import MappingProxyType

from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from adapters.connectors import paper
from adapters.projections import Entry, Flow, View
from schemas import htcds, lifecycle
from schemas.errors import Language
from schemas.event_types import EVENTS

Cell = str | int | datetime | None
Name = Callable[[str], str]
"""Agency id -> how it is shown here."""

TITLES: Mapping[View, tuple[str, str]] = MappingProxyType(
    {
        "cases": ("Dossiers et orientations", "Cases and referrals"),
        "investigations": ("Registre des affaires de traite des personnes", "Registry of trafficking cases"),
        "flows": ("Échanges par semestre", "Exchanges by half-year"),
    }
)
_PRIORITIES = {
    "immediate": ("Immédiate", "Immediate"),
    "emergency": ("Urgence (24 h)", "Emergency (24 h)"),
    "urgent": ("Urgent (72 h)", "Urgent (72 h)"),
    "normal": ("Normale", "Normal"),
}
_FILE = {
    "preliminary": ("Enquête préliminaire", "Preliminary inquiry"),
    "investigation": ("Instruction", "Investigation"),
    "prosecution": ("Poursuites", "Prosecution"),
    "trial": ("Procès", "Trial"),
    "judgment": ("Jugement", "Judgment"),
    "appeal": ("Appel", "Appeal"),
    "closed": ("Classée", "Closed"),
    "recruitment": ("Recrutement", "Recruitment"),
    "transportation": ("Transport", "Transportation"),
    "transfer": ("Transfert", "Transfer"),
    "harbouring": ("Hébergement", "Harbouring"),
    "receipt": ("Accueil", "Receipt"),
    "threat-or-force": ("Menace ou recours à la force", "Threat or use of force"),
    "other-coercion": ("Autre forme de contrainte", "Other coercion"),
    "abduction": ("Enlèvement", "Abduction"),
    "fraud": ("Fraude", "Fraud"),
    "deception": ("Tromperie", "Deception"),
    "abuse-of-power": ("Abus d'autorité", "Abuse of power"),
    "abuse-of-vulnerability": ("Abus d'une situation de vulnérabilité", "Abuse of vulnerability"),
    "payments-to-who-controls": ("Paiement à qui a autorité sur la personne", "Payment to who controls the person"),
    "prostitution-of-others": ("Exploitation de la prostitution d'autrui", "Prostitution of others"),
    "other-sexual-exploitation": ("Autre exploitation sexuelle", "Other sexual exploitation"),
    "forced-labour": ("Travail forcé", "Forced labour"),
    "slavery": ("Esclavage", "Slavery"),
    "practices-similar-to-slavery": ("Pratiques analogues à l'esclavage", "Practices similar to slavery"),
    "servitude": ("Servitude", "Servitude"),
    "organ-removal": ("Prélèvement d'organes", "Organ removal"),
    "other": ("Autre", "Other"),
}
"""Codes of an investigation: French, English. One that is not here is shown as it is."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    """In JSON, and for ever."""
    fr: str
    en: str
    width: int

    def label(self, language: Language) -> str:
        return self.fr if language == "fr" else self.en


@dataclass(frozen=True, slots=True)
class Sheet:
    view: View
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


_OPENED = (
    Column("person", "Votre référence", "Your reference", 18),
    Column("opening", "Ouvert par", "Opened by", 24),
    Column("direction", "Sens", "Direction", 12),
    Column("peer", "Agence", "Agency", 28),
    Column("state", "État", "State", 34),
)
_DATES = (
    Column("occurred_at", "Date des faits", "Occurred on", 18),
    Column("opened_at", "Ouvert le", "Opened on", 18),
    Column("last_type", "Dernier événement", "Last event", 26),
    Column("last_at", "Le", "On", 18),
)
_CASES = (
    *_OPENED,
    Column("services", "Services", "Services", 28),
    Column("priority", "Priorité", "Priority", 18),
    *_DATES,
    Column("answer_by", "Réponse attendue avant", "Answer expected by", 20),
    Column("overdue", "Échéance passée", "Overdue", 14),
    Column("marks", "Remarques", "Remarks", 26),
    Column("thread", "Échange", "Thread", 26),
)
_INVESTIGATIONS = (
    *_OPENED,
    Column("stage", "Phase", "Stage", 24),
    Column("acts", "Actes", "Acts", 26),
    Column("means", "Moyens", "Means", 26),
    Column("purposes", "Fins d'exploitation", "Purposes of exploitation", 30),
    *_DATES,
    Column("taken_over", "Prise en charge confirmée le", "Taken over, confirmed on", 22),
    Column("thread", "Échange", "Thread", 26),
)
_FLOWS = (
    Column("period", "Semestre", "Half-year", 14),
    Column("flow", "Flux", "Flow", 16),
    Column("event", "Événement", "Event", 34),
    Column("direction", "Sens", "Direction", 12),
    Column("count", "Nombre", "Count", 12),
)


def _direction(sent: bool, language: Language) -> str:
    if language == "fr":
        return "Envoyé" if sent else "Reçu"
    return "Sent" if sent else "Received"


def _event(name: str, language: Language) -> str:
    return EVENTS[name].labels["fr" if language == "fr" else "en"]


def _words(codes: Sequence[str], language: Language) -> str:
    return "; ".join(_FILE[code][0 if language == "fr" else 1] if code in _FILE else code for code in codes)


def _first(entry: Entry, name: Name, language: Language) -> tuple[Cell, ...]:
    return (
        entry.person,
        _event(entry.type, language),
        _direction(entry.sent, language),
        name(entry.peer),
        lifecycle.state_label(entry.machine, entry.state, language),
    )


def _dates(entry: Entry, language: Language) -> tuple[Cell, ...]:
    return entry.occurred_at, entry.opened_at, _event(entry.last_type, language), entry.last_at


def of_cases(entries: Sequence[Entry], name: Name, language: Language) -> Sheet:
    """An assisting agency's registry."""
    pick = 0 if language == "fr" else 1
    rows = []
    for one in entries:
        marks = [("s'est croisé", "crossed")[pick]] if one.crossed else []
        marks += [("arrivé en retard", "arrived late")[pick]] if one.late else []
        rows.append(
            (
                *_first(one, name, language),
                "; ".join(htcds.label("spl_Type", code, language) for code in one.services),
                None if one.priority is None else _PRIORITIES[one.priority][pick],
                *_dates(one, language),
                one.answer_by,
                (("oui", "yes")[pick]) if one.overdue else (("non", "no")[pick]),
                "; ".join(marks),
                one.thread,
            )
        )
    return Sheet("cases", _CASES, tuple(rows))


def of_investigations(entries: Sequence[Entry], name: Name, language: Language) -> Sheet:
    """The registry of police or judiciary."""
    parts = ("stage", "acts", "means", "purposes")
    rows = (
        (
            *_first(one, name, language),
            *(_words(one.file.get(part, ()), language) for part in parts),
            *_dates(one, language),
            one.taken_over,
            one.thread,
        )
        for one in entries
    )
    return Sheet("investigations", _INVESTIGATIONS, tuple(rows))


def of_flows(counts: Sequence[Flow], language: Language) -> Sheet:
    """A coordinating body's: counts only."""
    rows = (
        (
            one.period,
            EVENTS[one.type].flow,
            _event(one.type, language),
            _direction(one.sent, language),
            one.count,
        )
        for one in counts
    )
    return Sheet("flows", _FLOWS, tuple(rows))


def xlsx(sheets: Sequence[Sheet], zone: tzinfo, language: Language) -> bytes:
    """One worksheet per view."""
    buffer = io.BytesIO()
    made = paper.new_paper(buffer)
    edged = {"font_name": paper.FONT, "font_color": paper.INK, "valign": "top", "border": 1, "border_color": paper.LINE}
    moment = made.book.add_format({**edged, "num_format": "dd/mm/yyyy hh:mm", "align": "left"})
    number = made.book.add_format({**edged, "num_format": "0"})
    for sheet_of in sheets:
        title = TITLES[sheet_of.view][0 if language == "fr" else 1]
        sheet = made.book.add_worksheet(title[:31])
        paper.write(sheet, 0, 0, title, made.title)
        sheet.set_row(0, 30)
        for j, column in enumerate(sheet_of.columns):
            sheet.set_column(j, j, column.width)
            paper.write(sheet, 2, j, column.label(language), made.heading)
        for i, row in enumerate(sheet_of.rows, start=3):
            for j, cell in enumerate(row):
                _cell(sheet, (i, j), cell, (made.text, moment, number), zone)
        paper.finish_table(sheet, 2, 3 + len(sheet_of.rows), len(sheet_of.columns))
    made.book.close()
    return buffer.getvalue()


def _cell(
    sheet: Worksheet, at: tuple[int, int], cell: Cell, styles: tuple[Format, Format, Format], zone: tzinfo
) -> None:
    text, moment, number = styles
    if isinstance(cell, datetime):
        sheet.write_datetime(*at, cell.astimezone(zone).replace(tzinfo=None, microsecond=0), moment)
    elif isinstance(cell, int):
        sheet.write_number(*at, cell, number)
    else:
        paper.write(sheet, *at, cell, text)


def csv_text(sheets: Sequence[Sheet], zone: tzinfo, language: Language) -> bytes:
    """UTF-8 with its mark, semicolons: what Excel opens with a double click here. Views follow each other."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=";", lineterminator="\r\n")
    for index, sheet in enumerate(sheets):
        if index:
            writer.writerow([])
        writer.writerow([column.label(language) for column in sheet.columns])
        for row in sheet.rows:
            writer.writerow([_plain(cell, zone) for cell in row])
    return b"\xef\xbb\xbf" + buffer.getvalue().encode("utf-8")


def _plain(cell: Cell, zone: tzinfo) -> str:
    if isinstance(cell, datetime):
        return f"{cell.astimezone(zone):%Y-%m-%d %H:%M}"
    return str(cell) if isinstance(cell, int) else paper.guarded(cell or "")


def json_text(sheets: Sequence[Sheet], zone: tzinfo) -> bytes:
    """An object with one list per view; moments as ISO 8601 with zone."""
    made = {
        sheet.view: [
            {
                column.name: cell.astimezone(zone).isoformat(timespec="seconds") if isinstance(cell, datetime) else cell
                for column, cell in zip(sheet.columns, row, strict=True)
            }
            for row in sheet.rows
        ]
        for sheet in sheets
    }
    return json.dumps(made, ensure_ascii=False, indent=1).encode("utf-8") + b"\n"
