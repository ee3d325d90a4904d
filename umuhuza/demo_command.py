# SPDX-License-Identifier: Apache-2.0
"""`umuhuza demo`: the main job on this machine, with real processes, real files, and invented people.

A domain `bi` is made in a folder: a registry, a gateway over the embedded log or over an Apache Kafka broker that is
started for it, five agencies, each a process of its own with its own keys and mailbox. Then people work, through files
as they would: a police unit's Kobo submission, a row of a workbook dropped into IOM's folder, a shelter's answers typed
into the workbook that it received. Nothing is faked on the way; what is told at the end is counted in the mailboxes and
in the log.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal
from xml.sax.saxutils import escape

import orjson
import python_calamine
import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from adapters.connectors import columns, paper
from adapters.connectors.facts_in_words import DECLINED, OUTCOMES
from adapters.connectors.template import FIRST_ROW, write_form
from adapters.keystore import read_keys
from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Thread
from schemas import htcds
from schemas.envelope import Manifest, cloudevents_headers, new_evt, new_thread, record_value, sign_manifest
from schemas.errors import UmuhuzaError
from schemas.keys import VerifyKey, b64url
from schemas.lifecycle import state_label
from schemas.registry import Registry, Role, read_registry
from schemas.sealing import make_grant, seal_parts
from topics.catalogue import mailboxes_of
from topics.http_log import HttpLog
from topics.log import Entry, grant_key, grants_topic
from topics.settings import SettingsError
from umuhuza.agency_command import init_agency
from umuhuza.demo_log import OPERATOR, DemoLog, demo_log, unhurried
from umuhuza.gateway_command import init_gateway
from umuhuza.kafka_command import explained
from umuhuza.registry_command import add_agency, init_registry, read_enrolment
from umuhuza.words import language, result, t

WAIT_S = 60.0


@dataclass(frozen=True)
class Member:
    id: str
    folder: str
    name_fr: str
    name_en: str
    roles: tuple[Role, ...]
    protected: bool = False
    kobo_to: str | None = None


MEMBERS = (
    Member(
        "bi/police",
        "police",
        "Unité de police (inventée)",
        "Police unit (invented)",
        ("police", "front-line"),
        kobo_to="bi/iom",
    ),
    Member("bi/iom", "iom", "OIM (démonstration)", "IOM (demonstration)", ("screener", "assistance", "facilitator")),
    Member("bi/min-solidarity", "min-solidarity", "Ministère (inventé)", "Ministry (invented)", ("assistance",)),
    Member("bi/k7t4", "k7t4", "Lieu protégé", "Protected place", ("assistance", "shelter"), protected=True),
    Member("bi/r5w2", "r5w2", "Lieu protégé", "Protected place", ("assistance", "shelter"), protected=True),
)


class DemoError(Exception):
    """The story did not go on; the text says at which point, and where to look."""


@dataclass
class Stage:
    """The folder, the running processes, and the narrator."""

    root: Path
    console: Console
    log: DemoLog
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    address: str = ""
    root_key: str = ""
    registry: Registry | None = None
    steps: int = 0

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End every process by its own id: agencies, then the gateway, then what the log needed."""
        with unhurried():
            running = list(reversed(self.processes.values()))
            for process in running:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            for process in running:
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            self.processes.clear()
            self.log.end()

    def start(self, name: str, *arguments: str) -> None:
        logs = self.root / "journaux"
        logs.mkdir(exist_ok=True)
        with (logs / f"{name}.log").open("ab") as log, unhurried():
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "umuhuza", *arguments], stdout=log, stderr=log
            )

    def until(self, what: str, seen: Callable[[], Any]) -> Any:
        """Wait until `seen` gives something. Raises DemoError after a minute, or when a process has died."""
        deadline = time.monotonic() + WAIT_S
        while True:
            found = seen()
            if found:
                return found
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise DemoError(f"{name}: {t('processus terminé', 'process ended')}; journaux/{name}.log")
            trouble = self.log.trouble()
            if trouble is not None:
                raise DemoError(trouble)
            if time.monotonic() > deadline:
                raise DemoError(f"{what}: {t('rien en une minute', 'nothing within a minute')}; {self.root}/journaux")
            time.sleep(0.1)

    def folder(self, agency: str) -> Path:
        return self.root / next(member.folder for member in MEMBERS if member.id == agency)

    def tell(self, fr: str, en: str, detail: str = "") -> None:
        self.steps += 1
        self.console.print(
            f"[bold cyan]{self.steps:>2}[/]  {t(fr, en)}" + (f"\n    [dim]{detail}[/]" if detail else "")
        )

    # -- looking into the agencies' mailboxes --------------------------------------------------------------------------

    def mailbox(self, agency: str) -> Mailbox:
        return Mailbox.open(self.folder(agency) / "mailbox.db")

    def arrived(self, agency: str, type_: str) -> list[str]:
        """Threads on which an event of that type has been handed over to the agency."""
        box = self.mailbox(agency)
        try:
            return [item.thread for item in box.inbox() if item.type == type_ and item.state == "delivered"]
        finally:
            box.close()

    def threads(self, agency: str) -> list[Thread]:
        box = self.mailbox(agency)
        try:
            return box.threads()
        finally:
            box.close()

    def settled(self) -> bool:
        """Nothing is on its way any more: every item has its receipt, and who sent it was told; every receipt has its
        promise."""
        for member in MEMBERS:
            box = self.mailbox(member.id)
            try:
                for item in box.outbox():
                    done = ("promised", "delivered") if item.kind == "control" else ("delivered", "refused", "rejected")
                    if item.state not in done or (item.connector and item.told != item.state):
                        return False
                if any(item.state in ("held", "ready") for item in box.inbox()):
                    return False
            finally:
                box.close()
        return True


# ---------------------------------------------------------------------------------------------------------------------
# Setting the stage


def prepare(stage: Stage) -> None:
    """A registry, a gateway, five agencies enrolled."""
    registry_folder = stage.root / "registre"
    _, key = init_registry(registry_folder, "bi", False)
    stage.root_key = b64url(key.public.public)
    operator = init_gateway(
        stage.root / "passerelle",
        agency=OPERATOR,
        registry=(registry_folder / "registry.jws").resolve(),
        registry_key=stage.root_key,
        host="127.0.0.1",
        port=0,
        kafka=stage.log.for_gateway(),
    )
    add_agency(registry_folder, operator)
    stage.log.know(_registry(registry_folder, key.public))
    ready = stage.root / "passerelle" / "adresse"
    stage.start("passerelle", "gateway", "run", "--dir", str(stage.root / "passerelle"), "--ready-file", str(ready))
    stage.until("passerelle", ready.exists)
    stage.address = ready.read_text(encoding="ascii").strip()
    for member in MEMBERS:
        request = init_agency(
            stage.root / member.folder,
            agency=member.id,
            gateway=stage.address,
            registry_key=stage.root_key,
            gateway_agency=OPERATOR,
            names={"fr": member.name_fr, "en": member.name_en},
            roles=member.roles,
            protected=member.protected,
            kobo_to=member.kobo_to,
            quick=True,
        )
        add_agency(registry_folder, read_enrolment(request))
        stage.log.settle_in(member.id, stage.root / member.folder)
    stage.registry = _registry(registry_folder, key.public)
    stage.log.know(stage.registry)
    for member in MEMBERS:
        stage.start(
            member.folder,
            *("agency", "run", "--dir", str(stage.root / member.folder)),
            *("--ready-file", str(stage.root / member.folder / "relie")),
        )
    for member in MEMBERS:
        stage.until(member.id, (stage.root / member.folder / "relie").exists)


def _registry(folder: Path, key: VerifyKey) -> Registry:
    return read_registry((folder / "registry.jws").read_bytes(), key)


# ---------------------------------------------------------------------------------------------------------------------
# What people do


def _day(days: int = 0) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%d/%m/%Y")


def kobo_submission() -> dict[str, Any]:
    """What KoboToolbox's API gives for one interview with the HTCDS form. Everyone is invented."""
    instance = str(uuid.uuid4())
    now = datetime.now(UTC)
    return {
        "_id": 101,
        "_uuid": instance,
        "_xform_id_string": "htcds_xlsform",
        "__version__": "vSmt4GQA3C9uBMLPEVfgND",
        "_submission_time": now.strftime("%Y-%m-%dT%H:%M:%S"),
        "_submitted_by": None,
        "_attachments": [],
        "_validation_status": {},
        "meta/instanceID": f"uuid:{instance}",
        "meta/rootUuid": f"uuid:{instance}",
        "start": (now - timedelta(minutes=25)).isoformat(timespec="seconds"),
        "end": (now - timedelta(minutes=5)).isoformat(timespec="seconds"),
        "con_Consent": "TRUE",
        "prs_First_Name": "Aline (inventée)",
        "prs_Second_Name": "Ndayishimiye",
        "prs_Birthdate": "2001-05-17",
        "prs_Gender": "Feminine",
        "prs_Citizenship": "BI",
        "vic_TraffickingStatus": "PossibleVictimOfTrafficking",
        "vic_TraffickingStatusDecisionMakingOrg": "Police",
        "vic_Methods_of_Control": "DebtBondage  WithholdsDocuments",
        "vic_TypeOfExploitation": "ForcedLabour",
        "cas_Status": "Active",
    }


def _consent() -> dict[str, str]:
    return {
        "base": "consent",
        "consentement_date": _day(-1),
        "consentement_fin": _day(180),
        "consentement_forme": "thumbprint",
        "consentement_langue": "rn",
        "con_Consent": "true",
    }


def iom_workbook() -> bytes:
    """The form as IOM's caseworker fills it in: one screening, two referrals, and one row with mistakes."""
    screened = {
        "type": "case.screened",
        "destinataire": "bi/min-solidarity",
        "reference_interne": "OIM-2026-014",
        "prs_FirstName": "Aline",
        "prs_SecondName": "Ndayishimiye (inventée)",
        "prs_Birthdate": "17/05/2001",
        "prs_Gender": "Feminine",
        "vic_TraffickingStatus": "ActualVictimOfTrafficking",
        "vic_TraffickingStatusDecisionMakingOrg": "NGO",
        "vic_MethodsOfControl": "DebtBondage; WithholdsDocuments",
        "vic_TypeOfExploitation": "ForcedLabour",
        "cas_Status": "Active",
        **_consent(),
    }
    referral = {
        "destinataire": "bi/k7t4",
        "reference_interne": "OIM-2026-014",
        "priorite": "urgent",
        "nom_donne": "Ndayishimiye Aline (inventée)",
        "prs_Birthdate": "17/05/2001",
        "prs_Gender": "Feminine",
        "services": "SocialCare; Health",
        "service_local": "Hébergement protégé",
        "langues": "rn; fr",
        "contact_canal": "through-referrer",
        "risque_niveau": "medium",
        "transport": "escorted",
        "motif": "Hébergement et suivi médical demandés par la personne.",
        "retour_attendu": _day(3),
        **_consent(),
    }
    second = {
        **referral,
        "destinataire": "bi/r5w2",
        "reference_interne": "OIM-2026-015",
        "nom_donne": "عائشة (inventée)",
        "prs_Birthdate": "vers 1998",
        "langues": "ar; fr",
    }
    wrong = {
        **referral,
        "destinataire": "bi/r5w2",
        "reference_interne": "OIM-2026-016",
        "nom_donne": "Nkurunziza (inventé)",
        "prs_Birthdate": "31/02/2008",
        "services": "Logement gratuit",
    }
    book = io.BytesIO()
    sheet_of = paper.new_paper(book)
    recipients = [(member.id, member.name_fr) for member in MEMBERS if member.id != "bi/iom"]
    rows: Mapping[columns.Form, Sequence[Mapping[str, str]]] = {
        "Orientation": [referral, second, wrong],
        "Dossier": [screened],
    }
    for form in columns.FORMS:
        write_form(sheet_of, form, recipients, "fr", rows=rows[form])
    sheet_of.book.close()
    return book.getvalue()


def put(folder: Path, name: str, data: bytes) -> None:
    """Drop a file as a careful program does: written under another name, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    part.write_bytes(data)
    part.rename(folder / name)


def type_into(workbook: Path, sheet: str, rows: Mapping[int, Mapping[str, str]]) -> None:
    """Type texts into cells of a workbook and save it, as a person at a spreadsheet does.

    Args:
        rows: row number as shown -> column letter -> text.
    """
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
    for number, cells in rows.items():
        for letter, text in cells.items():
            cell = re.compile(rf'<c r="{letter}{number}"((?: s="\d+")?)[^>]*?(?:/>|>.*?</c>)', re.DOTALL)
            typed = rf'<c r="{letter}{number}"\1 t="inlineStr"><is><t>{escape(text)}</t></is></c>'
            xml, count = cell.subn(typed, xml, count=1)
            if count != 1:
                raise DemoError(f"{workbook.name}: {letter}{number}?")
    members[name] = xml.encode()
    saved = workbook.with_name(f".~{workbook.name}.part")
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    saved.replace(workbook)


def answer(stage: Stage, agency: str, steps: Sequence[Mapping[str, str]]) -> None:
    """Wait for the referral's workbook, type the steps into its sheet « Réponse », save."""
    received = stage.folder(agency) / "dossier" / "recus"
    workbook: Path = stage.until(agency, lambda: next(iter(sorted(received.glob("orientation-*.xlsx"))), None))
    letters = dict(
        zip(("etape", "date", "motif", "attendue", "service", "debut", "fin", "resultat"), "ABCDEFGH", strict=True)
    )
    type_into(
        workbook,
        "Réponse",
        {row: {letters[name]: text for name, text in step.items()} for row, step in enumerate(steps, 6)},
    )


async def forge(stage: Stage) -> UmuhuzaError | None:
    """Somebody holds a police laptop's session and changes a signed manifest: the gateway must refuse it."""
    keys = read_keys(stage.folder("bi/police") / "keys.json")
    registry = stage.registry
    if registry is None:
        raise DemoError("registry")
    now = int(time.time())
    evt = new_evt(now * 1000, os.urandom)
    sealed = seal_parts(f"bi/police/{evt}", "request", {"identity": b"", "content": b"{}"}, os.urandom)
    honest = Manifest(
        evt=evt,
        iss="bi/police",
        to="bi/iom",
        topic="bi.case.iom",
        kind="request",
        thread=new_thread(os.urandom),
        seq=2,
        prev=b64url(os.urandom(32)),
        iat=now,
        reg=registry.version,
        parts=sealed.parts,
    )
    changed = replace(honest, thread=new_thread(os.urandom))
    signature = sign_manifest(honest, keys.sig).rpartition(b".")[2]
    line1 = sign_manifest(changed, keys.sig).rpartition(b".")[0] + b"." + signature
    value = record_value(line1, sealed.body)
    log = HttpLog(stage.address, "bi/police", keys.sig, domain="bi", now=time.time, random=os.urandom, gateway_key=None)
    try:
        recipient = registry.seal_keys("bi/iom", now)[0]
        grant = make_grant(changed, sealed.keys, "bi/iom", recipient)
        await log.put_grants(grants_topic("bi/iom"), {grant_key(changed.ident, recipient.kid): grant})
        said = (
            await log.append(
                [Entry(changed.topic, changed.thread.encode(), changed.ident, value, cloudevents_headers(changed))]
            )
        )[0]
    finally:
        await log.close()
    return said if isinstance(said, UmuhuzaError) else None


# ---------------------------------------------------------------------------------------------------------------------
# The story


def play(stage: Stage) -> dict[str, Any]:
    """All of it; returns what is counted at the end."""
    stage.console.print(
        Panel(
            t(
                "Un domaine, une passerelle, cinq agences. Chacune garde son système.\n"
                "Toutes les personnes sont inventées.",
                "One domain, one gateway, five agencies. Each keeps its own system.\nEverybody is invented.",
            ),
            title="Umuhuza",
            expand=False,
        )
    )
    stage.log.begin(stage.tell)
    prepare(stage)
    stage.tell(
        "Cinq agences sont reliées à la passerelle, chacune avec ses propres clés.",
        "Five agencies are connected to the gateway, each with keys of its own.",
        stage.address,
    )
    stage.log.connected(stage.tell)
    put(stage.folder("bi/police") / "kobo", "soumission-101.json", orjson.dumps(kobo_submission()))
    stage.until("case.identified", lambda: stage.arrived("bi/iom", "case.identified"))
    stage.tell(
        "La police identifie une personne (formulaire Kobo) ; l'OIM l'a reçue. La passerelle n'a rien pu lire.",
        "The police identify a person (Kobo form); IOM has it. The gateway could read nothing.",
    )
    put(stage.folder("bi/iom") / "dossier" / "a-envoyer", "orientations.xlsx", iom_workbook())
    report = stage.until(
        "rapport",
        lambda: next(iter((stage.folder("bi/iom") / "dossier" / "rapports").glob("orientations*rapport*.xlsx")), None),
    )
    stage.tell(
        "L'OIM dépose un classeur : une évaluation, deux orientations, une ligne fautive qui revient avec un rapport.",
        "IOM drops a workbook: one screening, two referrals, and one bad row that comes back with a report.",
        str(report),
    )
    stage.until("case.screened", lambda: stage.arrived("bi/min-solidarity", "case.screened"))
    stage.tell(
        "Le ministère est informé de la décision, sans le nom de la personne.",
        "The ministry is told of the decision, without the person's name.",
    )
    answer(stage, "bi/r5w2", [{"etape": "Reçue par une personne"}, {"etape": "Déclinée", "motif": _declined()}])
    answer(
        stage,
        "bi/k7t4",
        [
            {"etape": "Reçue par une personne"},
            {"etape": "Acceptée"},
            {"etape": "Accompagnement commencé"},
            {"etape": "Service fourni", "service": _service(), "debut": _day()},
            {"etape": "Terminée", "resultat": _outcome()},
        ],
    )
    stage.tell(
        "Les lieux protégés répondent dans le classeur reçu : l'un accepte, accompagne et termine, l'autre décline.",
        "Both protected places answer in the workbook they received: one accepts, serves, completes; one declines.",
    )
    stage.until("referral.declined", lambda: stage.arrived("bi/iom", "referral.declined"))
    stage.until("referral.completed", lambda: stage.arrived("bi/iom", "referral.completed"))
    refused = asyncio.run(forge(stage))
    if refused is None:
        raise DemoError(t("un faux a été accepté", "a forged record was accepted"))
    stage.tell(
        "Un enregistrement falsifié est refusé à la porte.",
        "A forged record is refused at the door.",
        refused.describe(language()),
    )
    stage.until(t("accusés de réception", "receipts"), stage.settled)
    return counted(stage, refused.code)


def _declined() -> str:
    return next(choice.fr for choice in DECLINED if choice.code == "no-capacity")


def _outcome() -> str:
    return next(choice.fr for choice in OUTCOMES if choice.code == "goals-met")


def _service() -> str:
    return dict(htcds.options("spl_Type", "fr"))["SocialCare"]


def counted(stage: Stage, refused: str) -> dict[str, Any]:
    """What is there now, read from the mailboxes and the log."""
    if stage.registry is None:
        raise DemoError("registry")
    inbox: dict[str, int] = {}
    for member in MEMBERS:
        box = stage.mailbox(member.id)
        inbox[member.id] = sum(not item.type.startswith("receipt.") for item in box.inbox())
        box.close()
    states: dict[str, int] = {}
    for thread in stage.threads("bi/iom"):
        if thread.machine == "referral":
            states[thread.state] = states.get(thread.state, 0) + 1
    topics = [topic for agency in stage.registry.agencies.values() for topic in mailboxes_of(agency)]
    return {
        "log": stage.log.name,
        "records": asyncio.run(stage.log.records(topics)),
        "referrals": states,
        "refused": {refused: 1},
        "rows_refused": _rows_to_correct(stage),
        "inbox": {agency: count for agency, count in inbox.items() if count},
    }


def _rows_to_correct(stage: Stage) -> int:
    """Rows that came back to IOM's caseworker, in the workbook of rows to correct."""
    reports = stage.folder("bi/iom") / "dossier" / "rapports"
    count = 0
    for workbook in reports.glob("*.a-corriger.xlsx"):
        book = python_calamine.CalamineWorkbook.from_path(str(workbook))
        for form in columns.FORMS:
            if form in book.sheet_names:
                rows = book.get_sheet_by_name(form).to_python(skip_empty_area=False)[FIRST_ROW:]
                count += sum(any(str(cell).strip() for cell in row) for row in rows)
    return count


def show(console: Console, found: Mapping[str, Any]) -> None:
    summary = Table(title=t("Ce qui est dans les boîtes et dans le journal", "What is in the mailboxes and the log"))
    summary.add_column(t("Quoi", "What"))
    summary.add_column(t("Combien", "How many"), justify="right")
    summary.add_row(t("Enregistrements signés et scellés", "Signed and sealed records"), str(found["records"]))
    for state, count in sorted(found["referrals"].items()):
        summary.add_row(t("Orientations : ", "Referrals: ") + state_label("referral", state, language()), str(count))
    summary.add_row(t("Lignes refusées, avec rapport", "Rows refused, with a report"), str(found["rows_refused"]))
    for code, count in found["refused"].items():
        summary.add_row(t("Refusé à la porte : ", "Refused at the door: ") + code, str(count))
    for agency, count in found["inbox"].items():
        summary.add_row(t("Reçu par ", "Received by ") + agency, str(count))
    console.print(summary)


def demo(
    once: Annotated[bool, typer.Option("--once", help=t("Se termine tout seul.", "Ends by itself."))] = False,
    as_json: Annotated[bool, typer.Option("--json", help=t("Dernière ligne en JSON.", "Last line as JSON."))] = False,
    log: Annotated[
        Literal["sqlite", "kafka"],
        typer.Option(
            "--log",
            help=t(
                "Moteur du journal : un fichier, ou Apache Kafka, démarré et arrêté avec la démonstration.",
                "The log's engine: one file, or Apache Kafka, started and stopped with the demonstration.",
            ),
        ),
    ] = "sqlite",
    folder: Annotated[
        Path | None, typer.Option("--dir", help=t("Garde tous les fichiers ici.", "Keep all files here."))
    ] = None,
) -> None:
    """The command."""
    console = Console(stderr=as_json, highlight=False)
    started = time.monotonic()
    root = _folder(folder)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Ended like Ctrl-C: through the stage's end, which leaves no process behind.
        signal.signal(number, lambda one, _frame: sys.exit(128 + one))
    with explained(as_json), Stage(root, console, demo_log(log, root)) as stage:
        try:
            found = play(stage)
        except DemoError as exc:
            console.print(f"[bold red]✗[/] {exc}")
            if as_json:
                result({"ok": False, "problem": {"code": "demo", "title": str(exc)}}, as_json=True)
            raise typer.Exit(1) from None
        seconds = round(time.monotonic() - started, 1)
        show(console, found)
        console.print(
            t(
                f"[green]✓[/] Toute l'histoire en {seconds} s. Les fichiers sont dans {root}",
                f"[green]✓[/] The whole story in {seconds} s. The files are in {root}",
            )
        )
        if as_json:
            result({"ok": True, **found, "seconds": seconds}, as_json=True)
        if not once:
            _stay(stage)


def _folder(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="umuhuza-demo-"))
    if folder.exists() and any(folder.iterdir()):
        raise SettingsError(
            t(
                f"{folder} n'est pas vide : choisissez un autre dossier, ou supprimez-le",
                f"{folder} is not empty: choose another folder, or remove it",
            )
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder.resolve()


def _stay(stage: Stage) -> None:
    drop = stage.folder("bi/iom") / "dossier" / "a-envoyer"
    stage.console.print(
        Panel(
            t(
                f"Tout tourne encore. Essayez : remplissez un modèle\n"
                f"  {sys.argv[0]} agency template orientation.xlsx --dir {stage.folder('bi/iom')}\n"
                f"puis déposez-le dans\n  {drop}\nCe que reçoit un lieu protégé :\n"
                f"  {stage.folder('bi/k7t4') / 'dossier' / 'recus'}\nCtrl-C pour arrêter.",
                f"Everything is still running. Try: fill in a form\n"
                f"  {sys.argv[0]} agency template orientation.xlsx --dir {stage.folder('bi/iom')}\n"
                f"then drop it into\n  {drop}\nWhat a protected place receives:\n"
                f"  {stage.folder('bi/k7t4') / 'dossier' / 'recus'}\nCtrl-C to stop.",
            ),
            expand=False,
        )
    )
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    while not stopped:
        time.sleep(0.2)
