# SPDX-License-Identifier: Apache-2.0
"""What people do in `umuhuza demo`, with files as they would: a Kobo interview, rows of a workbook, answers typed into
the workbook that arrived. Everyone is invented; so are telephones.

Files are put as careful programs put them, and typed into as a spreadsheet program does, with its lock beside.
"""

from __future__ import annotations

import asyncio
import io
import re
import time
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from adapters.connectors import paper, rows, sheets
from adapters.connectors.column_type import FORMS, Form
from adapters.connectors.contract import Draft
from adapters.connectors.facts_in_words import DECLINED, OUTCOMES
from adapters.connectors.template import write_form
from schemas import htcds
from schemas.forms import Birth, Consent, Facts, Interpreter, Lawful, Name, Referral, SafeContact
from schemas.plain.directory import ServicePublished
from umuhuza.demo_stage import MEMBERS, DemoError, Stage

POLICE, IOM, MINISTRY, CLINIC, SHELTER, OTHER = (
    "bi/police",
    "bi/iom",
    "bi/min-solidarity",
    "bi/health",
    "bi/k7t4",
    "bi/r5w2",
)

NAME = "Ndayishimiye"
WHOLE_NAME = "Ndayishimiye Aline (inventée)"
HER = "OIM-2026-014"
"""IOM's own reference of her: it never travels."""
HER_THERE = "M-7"
"""The shelter's own."""
SHELTER_TELEPHONE = "+257 79 00 00 07"
IOM_TELEPHONE = "+25722000014"
POLICE_TELEPHONE = "+25722000017"
READ_ALOUD = (
    "« Nous voulons dire à un lieu sûr ce dont vous avez besoin, et rien de plus, pendant six mois. Vous pouvez "
    "refuser, choisir ce qui n'est pas dit, et changer d'avis plus tard sans perdre votre lit. »",
    "“We would like to tell a safe place what you need, and no more, for six months. You may refuse, choose what is "
    "not said, and change your mind later without losing your bed.”",
)
"""What is read to her. In French: a text in Kirundi is shown only once a native reader has signed it off."""
_OPENING_S = 0.3
"""A workbook does not open at once: who was about to write it has done so, or sees the lock."""
FIRST_STEP = 6
"""Row of the sheet « Réponse » in which the first step is typed."""


@dataclass
class Her:
    """By which threads and events she is known, to this program only."""

    handed: str = ""
    """The police's case.identified."""
    case: str = ""
    stay: str = ""
    """IOM's referral to the shelter."""
    asked: str = ""
    """Its referral.requested."""


def day(today: datetime, days: int = 0) -> str:
    return (today + timedelta(days=days)).strftime("%d/%m/%Y")


def kobo_submission(today: datetime) -> dict[str, Any]:
    """What KoboToolbox's API gives for one interview with the HTCDS form."""
    instance = str(uuid.uuid4())
    return {
        "_id": 101,
        "_uuid": instance,
        "_xform_id_string": "htcds_xlsform",
        "__version__": "vSmt4GQA3C9uBMLPEVfgND",
        "_submission_time": today.strftime("%Y-%m-%dT%H:%M:%S"),
        "_submitted_by": None,
        "_attachments": [],
        "_validation_status": {},
        "meta/instanceID": f"uuid:{instance}",
        "meta/rootUuid": f"uuid:{instance}",
        "start": (today - timedelta(minutes=25)).isoformat(timespec="seconds"),
        "end": (today - timedelta(minutes=5)).isoformat(timespec="seconds"),
        "con_Consent": "TRUE",
        "prs_First_Name": "Aline (inventée)",
        "prs_Second_Name": NAME,
        "prs_Birthdate": "2001-05-17",
        "prs_Gender": "Feminine",
        "prs_Citizenship": "BI",
        "vic_TraffickingStatus": "PossibleVictimOfTrafficking",
        "vic_TraffickingStatusDecisionMakingOrg": "Police",
        "vic_Methods_of_Control": "DebtBondage  WithholdsDocuments",
        "vic_TypeOfExploitation": "ForcedLabour",
        "cas_Status": "Active",
    }


def _consent(today: datetime) -> dict[str, str]:
    return {
        "base": "consent",
        "consentement_date": day(today, -1),
        "consentement_fin": day(today, 180),
        "consentement_forme": "thumbprint",
        "consentement_langue": "rn",
        "consentement_version": "FR-1, lu avec interprète",
    }


def iom_workbook(today: datetime) -> bytes:
    """The form as IOM's caseworker fills it in: one screening, two referrals, and one row with mistakes."""
    told = {
        "prs_Gender": "Feminine",
        "prs_Birthdate": "17/05/2001",
        "vic_MethodOfRecruitment": "ThroughFamilyOrFamilyEvents",
        "vic_MethodsOfControl": "DebtBondage; WithholdsDocuments",
        "vic_TypeOfExploitation": "ForcedLabour",
        "vic_ForcedLabourIndustry": "A_AgricultureForestryAndFishing",
    }
    screened = {
        "type": "case.screened",
        "destinataire": "bi/min-solidarity",
        "reference_interne": HER,
        "prs_FirstName": "Aline",
        "prs_SecondName": f"{NAME} (inventée)",
        "vic_TraffickingStatus": "ActualVictimOfTrafficking",
        "vic_TraffickingStatusDecisionMakingOrg": "NGO",
        "cas_Status": "Active",
        "con_Consent": "true",
        **told,
        **_consent(today),
    }
    referral = {
        "destinataire": "bi/k7t4",
        "reference_interne": HER,
        "priorite": "immediate",
        "nom_donne": WHOLE_NAME,
        "services": "SocialCare; Health",
        "service_local": "Hébergement protégé",
        "langues": "rn",
        "interprete": "Oui",
        "interprete_langue": "rn",
        "interprete_sexe": "female",
        "prs_Citizenship": "BI",
        "prs_MobilePhone": "+25779000014",
        "contact_canal": "through-referrer",
        "risque_niveau": "high",
        "transport": "escorted",
        "refus_partage": "prs_Citizenship",
        "motif": "Hébergement et suivi médical demandés par la personne.",
        "retour_attendu": day(today, 3),
        **told,
        **_consent(today),
    }
    second = {
        "destinataire": "bi/r5w2",
        "reference_interne": "OIM-2026-015",
        "priorite": "urgent",
        "nom_donne": "عائشة (inventée)",
        "prs_Birthdate": "vers 1998",
        "prs_Gender": "Feminine",
        "services": "SocialCare",
        "langues": "ar; fr",
        "contact_canal": "through-referrer",
        **_consent(today),
    }
    wrong = {
        **second,
        "reference_interne": "OIM-2026-016",
        "nom_donne": "Nkurunziza (inventé)",
        "prs_Birthdate": "31/02/2008",
        "services": "Logement gratuit",
    }
    book = io.BytesIO()
    sheet_of = paper.new_paper(book)
    filled: Mapping[Form, Sequence[Mapping[str, str]]] = {
        "Orientation": [referral, second, wrong],
        "Dossier": [screened],
    }
    for form in FORMS:
        write_form(sheet_of, form, _recipients(), "fr", rows=filled[form])
    sheet_of.book.close()
    return book.getvalue()


def _recipients() -> list[tuple[str, str]]:
    return [(member.id, member.name_fr) for member in MEMBERS if member.id != "bi/iom"]


def drafted(workbook: bytes, now: datetime) -> Facts:
    """What her row says, read as the adapter reads it: everything that IOM wrote. Raises DemoError."""
    tables = asyncio.run(sheets.read_tables(workbook, "orientations.xlsx", sheets=FORMS))
    if isinstance(tables, sheets.Tables):
        for item in rows.read_form(tables, recipients=_recipients(), now=now, max_rows=100).items:
            if isinstance(item, Draft) and (item.type, item.person) == ("referral.requested", HER):
                return item.facts
    raise DemoError("orientations.xlsx")


def put(folder: Path, name: str, data: bytes) -> None:
    """Drop a file as a careful program does: written under another name, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    part.write_bytes(data)
    part.rename(folder / name)


def type_into(workbook: Path, sheet: str, typed: Mapping[int, Mapping[str, str]]) -> None:
    """Type texts into cells of a workbook and save it, as a person at a spreadsheet does: while it is open, a lock
    stands beside it, and nobody else writes.

    Args:
        typed: row number as shown -> column letter -> text.
    """
    lock = workbook.with_name(f".~lock.{workbook.name}#")
    lock.touch()
    time.sleep(_OPENING_S)
    try:
        _type(workbook, sheet, typed)
    finally:
        lock.unlink()


def _type(workbook: Path, sheet: str, typed: Mapping[int, Mapping[str, str]]) -> None:
    with zipfile.ZipFile(workbook) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    listing = members["xl/workbook.xml"].decode()
    found = re.search(rf'<sheet name="{re.escape(sheet)}"[^>]* r:id="([^"]+)"', listing)
    if found is None:
        raise DemoError(f"{workbook.name}: {sheet}?")
    target = re.search(
        rf'<Relationship Id="{re.escape(found[1])}"[^>]* Target="([^"]+)"',
        members["xl/_rels/workbook.xml.rels"].decode(),
    )
    if target is None:
        raise DemoError(f"{workbook.name}: {sheet}?")
    name = f"xl/{target[1]}"
    xml = members[name].decode()
    for number, cells in typed.items():
        for letter, text in cells.items():
            cell = re.compile(rf'<c r="{letter}{number}"((?: s="\d+")?)[^>]*?(?:/>|>.*?</c>)', re.DOTALL)
            value = rf'<c r="{letter}{number}"\1 t="inlineStr"><is><t>{escape(text)}</t></is></c>'
            xml, count = cell.subn(value, xml, count=1)
            if count != 1:
                raise DemoError(f"{workbook.name}: {letter}{number}?")
    members[name] = xml.encode()
    saved = workbook.with_name(f".~{workbook.name}.part")
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    saved.replace(workbook)


def received(stage: Stage, agency: str) -> Path:
    """The referral's workbook in the agency's folder, once it is there."""
    folder = stage.folder(agency) / "dossier" / "recus"
    return stage.until(agency, lambda: next(iter(sorted(folder.glob("orientation-*.xlsx"))), None))


def answer(stage: Stage, agency: str, steps: Sequence[Mapping[str, str]], after: int = 0) -> None:
    """Type steps into the sheet « Réponse » of the workbook that arrived, below the `after` steps typed before."""
    letters = dict(
        zip(("etape", "date", "motif", "attendue", "service", "debut", "fin", "resultat"), "ABCDEFGH", strict=True)
    )
    typed = {
        row: {letters[name]: text for name, text in step.items()} for row, step in enumerate(steps, FIRST_STEP + after)
    }
    type_into(received(stage, agency), "Réponse", typed)


def unsafe_here() -> str:
    return next(choice.fr for choice in DECLINED if choice.code == "unsafe-here")


def goals_met() -> str:
    return next(choice.fr for choice in OUTCOMES if choice.code == "goals-met")


def social_care() -> str:
    return dict(htcds.options("spl_Type", "fr"))["SocialCare"]


def night_shelter(today: datetime) -> ServicePublished:
    """What both protected places publish: to whom, in which languages, a telephone; no address, no name."""
    return ServicePublished(
        entry="nuit",
        name="Hébergement de nuit",
        types=("SocialCare", "Health"),
        local="hebergement",
        ages=("adult",),
        sexes=("female",),
        languages=("rn", "fr"),
        telephone=SHELTER_TELEPHONE,
        valid_until=today + timedelta(days=30),
    )


def onward(today: datetime, consent_days: int = 90) -> Facts:
    """She agrees that the shelter asks the health centre for her."""
    consent = Consent(
        given_at=today - timedelta(minutes=30),
        expires_at=today + timedelta(days=consent_days),
        language="rn",
        how="oral",
    )
    return Facts(
        occurred_at=today,
        lawful=Lawful(basis="consent", consent=consent),
        referral=Referral(
            priority="urgent",
            name=Name(as_given=WHOLE_NAME),
            birth=Birth(precision="day", date="2001-05-17", basis="declared"),
            services=("Health",),
            languages=("rn",),
            interpreter=Interpreter(needed=True, language="rn", sex_preferred="female"),
            safe_contact=SafeContact(channel="through-referrer"),
        ),
    )
