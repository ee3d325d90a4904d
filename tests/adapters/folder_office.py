# SPDX-License-Identifier: Apache-2.0
"""An invented office that works with Excel: fills in templates, drops them, opens what it receives, saves answers."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from openpyxl import Workbook, load_workbook
from openpyxl.worksheet.worksheet import Worksheet

from adapters.connectors.contract import Arrived, Batch, Draft, Outcome, Problem
from adapters.connectors.folder import FolderConnector
from adapters.connectors.template import template_xlsx
from schemas.forms import Birth, Consent, Facts, Lawful, Name, Referral
from tests.agencies import Agencies

ZONE = timezone(timedelta(hours=2))
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=ZONE)
RECIPIENTS = (("bi/k7t4", "Foyer K7T4"), ("bi/r5w2", "Foyer R5W2"), ("bi/iom", "OIM Burundi"))
PLANTED = "Niyonkuru-Inventée"
"""A person's name that may stand inside the agency's workbooks only."""

ROW: Mapping[str, Any] = {
    "destinataire": "Foyer K7T4 (bi/k7t4)",
    "reference_interne": "D-2026-14",
    "priorite": "Urgent (72 h)",
    "nom_donne": f"Aline {PLANTED}",
    "prs_Birthdate": "vers 2001",
    "services": "Santé; Assistance sociale",
    "base": "Consentement de la personne",
    "consentement_date": "20/11/2026",
    "consentement_fin": "20/05/2027",
    "consentement_forme": "Signature",
}
"""A row that is good as it is; a change to None takes the cell out."""
CASE: Mapping[str, Any] = {
    "type": "Personne identifiée",
    "destinataire": "bi/iom",
    "prs_FirstName": "Aline",
    "prs_Birthdate": "2001",
    "base": "Intérêts vitaux (danger)",
    "decide_par": "Brigade inventée",
    "pourquoi": "Danger immédiat pour la personne.",
    "vic_TypeOfExploitation": "Travail forcé; Servitude",
    "cas_Status": "Active",
}


def connector_of(
    town: Agencies, folder: Path, agency: str, recipients: Sequence[tuple[str, str]] = RECIPIENTS
) -> FolderConnector:
    """The watched folder of a member of this town, below `folder`; its clock is the town's."""
    return FolderConnector(
        folder / agency.replace("/", "-"),
        agency=agency,
        recipients=lambda: recipients,
        now=lambda: datetime.fromtimestamp(town.now, ZONE),
        quiet_s=0.0,
    )


def row(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**ROW, **changes}.items() if value is not None}


def filled(*rows: Mapping[str, Any], form: str = "Orientation", extra: Mapping[str, str] | None = None) -> bytes:
    """The template, filled in by a person with Excel (here openpyxl)."""
    book = load_workbook(io.BytesIO(template_xlsx(recipients=RECIPIENTS)))
    sheet = book[form]
    at = {cell.value: cell.column for cell in sheet[2] if cell.value}
    for number, header in enumerate(extra or {}, len(at) + 1):
        at[header] = number
        sheet.cell(3, number, header)
    for number, values in enumerate(rows, 4):
        for name, value in {**values, **(extra or {})}.items():
            sheet.cell(number, at[name], value)
    return saved(book)


def table(*lines: Sequence[Any], title: str = "Orientation") -> bytes:
    """A workbook with one sheet, made by hand."""
    book = Workbook()
    sheet = book.active
    assert isinstance(sheet, Worksheet)
    sheet.title = title
    for line in lines:
        sheet.append(list(line))
    return saved(book)


def saved(book: Workbook) -> bytes:
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def with_member(data: bytes, name: str, content: bytes) -> bytes:
    """The same archive with one member replaced or added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            if member.filename != name:
                new.writestr(member, old.read(member))
        new.writestr(name, content)
    return out.getvalue()


class Office:
    """One agency's folder and its connector; time stands still until it is moved."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.at = NOW
        self.root = root
        self._options = options
        self.connector = self.restarted()
        self._known: dict[tuple[str, str], str] = {}

    def restarted(self) -> FolderConnector:
        """As after the process died: nothing but the files is left."""
        options = {"recipients": lambda: RECIPIENTS, "now": lambda: self.at, "quiet_s": 0.0, **self._options}
        self.connector = FolderConnector(self.root, agency="bi/iom", **options)
        return self.connector

    def drop(self, data: bytes, name: str = "novembre.xlsx") -> Path:
        folder = self.root / "a-envoyer"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_bytes(data)
        return path

    def collected(self) -> list[Batch]:
        """What the connector offers, settled by nobody."""

        async def all_of_it() -> list[Batch]:
            return [batch async for batch in self.connector.collect()]

        return asyncio.run(all_of_it())

    def outcomes(self, batch: Batch, refuse: Callable[[Draft], Problem | None] = lambda _draft: None) -> list[Outcome]:
        """What a mailbox answers: every draft gets an event, the same one again for the same source and line."""
        found = []
        for item in batch.items:
            if isinstance(item, Problem):
                found.append(Outcome(item.line, None, item))
                continue
            problem = refuse(item)
            key = (batch.source, item.line)
            again = key in self._known
            if problem is None:
                found.append(
                    Outcome(item.line, self._known.setdefault(key, f"evt-{len(self._known) + 1}"), None, again)
                )
            else:
                found.append(Outcome(item.line, None, problem))
        return found

    def go_round(self, refuse: Callable[[Draft], Problem | None] = lambda _draft: None) -> list[Batch]:
        """One look, as the runner does it: each batch is accepted and settled before the next is asked for."""

        async def turn() -> list[Batch]:
            batches = []
            async for batch in self.connector.collect():
                batches.append(batch)
                await self.connector.settle(batch, self.outcomes(batch, refuse))
            return batches

        return asyncio.run(turn())

    def deliver(self, arrived: Arrived) -> None:
        asyncio.run(self.connector.deliver(arrived))

    def changed(self, evt: str, batch: Batch, line: str, state: str, code: str | None = None) -> None:
        asyncio.run(self.connector.changed(evt, line, batch.source, state, code))

    def names(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.root / folder).iterdir() if not path.name.startswith("."))

    def sheet(self, path: str, sheet: str | int = 0) -> list[list[str]]:
        """A workbook as text, row by row, empty cells as ''."""
        book = load_workbook(self.root / path)
        found = book.worksheets[sheet] if isinstance(sheet, int) else book[sheet]
        return [
            ["" if cell is None else str(cell).replace("\u00a0", " ") for cell in line]
            for line in found.iter_rows(values_only=True)
        ]

    def words(self, path: str, sheet: str | int = 0) -> str:
        return "\n".join(" | ".join(line) for line in self.sheet(path, sheet))

    def answer(self, workbook: str, number: int, **cells: Any) -> None:
        """Fill in one row of « Réponse » and save, as Excel does: the whole file anew."""
        path = self.root / "recus" / workbook
        book = load_workbook(path)
        sheet = book["Réponse"]
        at = {cell.value: cell.column for cell in sheet[4] if cell.value}
        for name, value in cells.items():
            sheet.cell(number, at[name], value)
        path.write_bytes(saved(book))

    def status(self, workbook: str, number: int) -> str:
        sheet = load_workbook(self.root / "recus" / workbook)["Réponse"]
        at = {cell.value: cell.column for cell in sheet[4] if cell.value}
        return str(sheet.cell(number, at["statut"]).value or "").replace("\u00a0", " ")

    def every_name(self) -> list[str]:
        """Every file's and folder's name below the root."""
        return [name for _, folders, files in os.walk(self.root) for name in (*folders, *files)]


def drafts(batches: Sequence[Batch]) -> list[Draft]:
    return [item for batch in batches for item in batch.items if isinstance(item, Draft)]


def problems(batches: Sequence[Batch]) -> list[Problem]:
    return [item for batch in batches for item in batch.items if isinstance(item, Problem)]


def referral_facts(**changes: Any) -> Facts:
    given = datetime(2026, 11, 20, 9, 0, tzinfo=ZONE)
    referral = {
        "priority": "emergency",
        "name": Name(as_given=f"Aline {PLANTED}"),
        "birth": Birth(precision="year", basis="estimated", date="2001"),
        "services": ("Health", "Legal"),
        **changes,
    }
    return Facts(
        occurred_at=given,
        htcds={"vic_TypeOfExploitation": ("ForcedLabour",)},
        lawful=Lawful(basis="consent", consent=Consent(given_at=given, expires_at=given + timedelta(days=90))),
        referral=Referral.model_validate(referral),
    )


def arrived(type_: str = "referral.requested", **changes: Any) -> Arrived:
    """An event from `bi/iom` as the inbox hands it over."""
    evt = changes.pop("evt", "0199f0e0-0000-7000-8000-000000000001")
    iss = changes.pop("iss", "bi/iom")
    values: dict[str, Any] = {
        "ident": f"{iss}/{evt}",
        "iss": iss,
        "evt": evt,
        "type": type_,
        "thread": "Zk3x9QmA-_inventedThread",
        "ref": None,
        "facts": referral_facts(),
        "person": None,
        "state": "requested",
        "issuer_label": "OIM Burundi",
        "late": False,
        "at_ms": int(NOW.timestamp() * 1000),
        "may_answer": ("referral.received", "referral.accepted", "referral.declined"),
        **changes,
    }
    return Arrived(**values)
