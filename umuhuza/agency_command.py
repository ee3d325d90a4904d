# SPDX-License-Identifier: Apache-2.0
"""`umuhuza agency`: an agency's adapter, from its keys to its outbox."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from adapters.connectors.contract import Batch, Draft, Escalation, NotNowError, Outcome, Problem
from adapters.connectors.folder import FolderConnector
from adapters.connectors.places import read as read_at_most
from adapters.connectors.template import template_csv, template_xlsx
from adapters.contact_book import ContactBook
from adapters.crossed_book import CrossedBook
from adapters.deadlines import alarms
from adapters.keystore import Keys, write_keys
from adapters.outbox import Outbox
from adapters.refusal_book import RefusalBook
from adapters.settings import FILE_NAME, PREFIX, AgencySettings
from schemas import ijson
from schemas.attachments import MAX_BYTES, File
from schemas.envelope import is_agency
from schemas.errors import SourceError, UmuhuzaError
from schemas.forms import Facts, validated
from schemas.keys import CLASSICAL, HYBRID, fingerprint_of
from schemas.plain import PLAIN
from schemas.plain.attachment import CHUNK
from schemas.registry import ROLES, dumps_agency
from topics.registry_file import registry_pin
from topics.settings import SettingsError, load
from topics.sqlite_turn import only_one
from umuhuza import (
    agency_agree_command,
    agency_directory_command,
    attachment_command,
    correct_command,
    proofs_command,
    refusal_command,
    rights_command,
    stick_command,
)
from umuhuza.agency import (
    AgencyParts,
    gateway_log,
    opened_agency,
    recipients_of,
    refresh_registry,
    run_agency,
)
from umuhuza.agency_items import arrived_words, going_words, incoming_json, outgoing_json
from umuhuza.options import Folder, Json, outgoing_named, require_file
from umuhuza.overdue import alarm_json, alarm_words, of_item
from umuhuza.stopping import stop_asked
from umuhuza.words import advice_for, clock_words, entries, language, result, say, t

app = typer.Typer(no_args_is_help=True)
agency_agree_command.add_to(app)
agency_directory_command.add_to(app)


_ZONES = {"bi": "Africa/Bujumbura", "tn": "Africa/Tunis"}


def init_agency(
    folder: Path,
    *,
    agency: str,
    gateway: str,
    registry_root: str,
    gateway_agency: str,
    names: dict[str, str],
    roles: tuple[Any, ...],
    protected: bool,
    kobo_to: str | None,
    hardware_suite: bool = False,
    language: str = "fr",
    quick: bool = False,
    now: float | None = None,
    make_keys: Callable[[Path], Keys] | None = None,
) -> Path:
    """Make an agency's folder: keys, settings, request to the registry. Returns the request file.

    `make_keys`: writes the key file that it is given, and says which keys are in it; None: new ones, in clear.
    `quick`: looks at its folders several times a second (demonstrations), rather than sparing an old laptop.
    `now`: since when its keys count, seconds since the epoch; None: since now.

    Raises:
        FileExistsError: keys are there already; they are never overwritten.
        SettingsError: registry_root is no fingerprint, or another setting is wrong; nothing was written.
    """
    # Before the keys: a folder that holds keys is never prepared again, so it must not be left with wrong settings.
    check_settings(agency, gateway, registry_root, gateway_agency, kobo_to)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if make_keys is None:
        keys = Keys.generate(agency, os.urandom, CLASSICAL if hardware_suite else HYBRID)
        write_keys(folder / "keys.json", keys)
    else:
        keys = make_keys(folder / "keys.json")
    write_settings(folder, agency, gateway, registry_root, gateway_agency, kobo_to, language=language, quick=quick)
    request = folder / "inscription.json"
    at = int(time.time() if now is None else now)
    request.write_text(dumps_agency(keys.enrolment(names, roles, protected, at)), encoding="utf-8")
    return request


def check_settings(agency: str, gateway: str, registry_root: str, gateway_agency: str, kobo_to: str | None) -> None:
    """Raises SettingsError."""
    registry_pin(registry_root)
    given = {"agency": agency, "gateway": gateway, "gateway_agency": gateway_agency, "registry_root": registry_root}
    load(AgencySettings, prefix=PREFIX, arguments=given, environment={})
    if kobo_to is not None and not is_agency(kobo_to):
        raise SettingsError("kobo_to: not an agency's id, such as bi/iom", "kobo_to : attendu un identifiant, bi/iom")


def write_settings(
    folder: Path,
    agency: str,
    gateway: str,
    registry_root: str,
    gateway_agency: str,
    kobo_to: str | None = None,
    *,
    language: str = "fr",
    quick: bool = False,
) -> None:
    """`agency.toml` of a new folder; its values were checked before."""
    lines = [
        f'agency = "{agency}"',
        f'gateway = "{gateway}"',
        f'gateway_agency = "{gateway_agency}"',
        f'registry_root = "{registry_root}"',
        f'timezone = "{_ZONES.get(agency.partition("/")[0], "UTC")}"',
        f'language = "{language}"',
        'folder = "dossier"',
    ]
    if kobo_to is not None:
        lines += ['kobo = "kobo"', f'kobo_to = "{kobo_to}"']
    if quick:
        lines += ["collect_seconds = 0.2", "quiet_seconds = 0.2", "idle_seconds = 0.2"]
        lines += ["wait_seconds = 2.0", "watch_seconds = 0.5"]
    (folder / FILE_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


@app.command(
    help=t(
        "Pour la formation : prépare un dossier dont les clés restent en clair. Sinon : enrol.",
        "For training: prepare a folder whose keys lie in clear. Else: enrol.",
    )
)
def init(
    folder: Folder,
    agency: Annotated[
        str,
        typer.Option(
            help=t(
                "Identifiant, bi/iom ; un nom neutre pour un lieu protégé.",
                "Id, bi/iom; a neutral handle for a protected place.",
            )
        ),
    ],
    name: Annotated[str, typer.Option(help=t("Nom français.", "French name."))],
    role: Annotated[
        list[str],
        typer.Option(help=t("Rôle ; plusieurs fois possible : ", "Role; may be repeated: ") + ", ".join(ROLES)),
    ],
    gateway: Annotated[str, typer.Option(help=t("Adresse de la passerelle.", "The gateway's address."))],
    registry_root: Annotated[
        str,
        typer.Option(
            help=t("Empreinte de la racine du domaine ; comparez-la.", "Fingerprint of the domain's root; compare it.")
        ),
    ],
    gateway_agency: Annotated[
        str | None,
        typer.Option(
            help=t(
                "Exploitant de la passerelle (par défaut : <domaine>/operator).",
                "The gateway's operator (default: <domain>/operator).",
            )
        ),
    ] = None,
    name_en: Annotated[str | None, typer.Option(help=t("Nom anglais.", "English name."))] = None,
    protected: Annotated[
        bool,
        typer.Option(
            "--protected",
            help=t("Lieu protégé : son nom n'apparaît nulle part.", "Protected place: its name appears nowhere."),
        ),
    ] = False,
    kobo_to: Annotated[
        str | None,
        typer.Option(help=t("Envoyer les soumissions Kobo à cette agence.", "Send Kobo submissions to this agency.")),
    ] = None,
    hardware_suite: Annotated[
        bool,
        typer.Option(
            "--hardware-suite",
            help=t("Clé de scellement P-256, pour un module matériel.", "P-256 sealing key, for a hardware module."),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    unknown = [one for one in role if one not in ROLES]
    if unknown:
        raise typer.BadParameter(
            t("rôle inconnu ; connus : ", "unknown role; known: ") + ", ".join(ROLES), param_hint="--role"
        )
    domain = agency.partition("/")[0]
    try:
        request = init_agency(
            folder,
            agency=agency,
            gateway=gateway,
            registry_root=registry_root,
            gateway_agency=gateway_agency or f"{domain}/operator",
            names={"fr": name, **({} if name_en is None else {"en": name_en})},
            roles=tuple(role),
            protected=protected,
            kobo_to=kobo_to,
            hardware_suite=hardware_suite,
            language=language(),
        )
    except FileExistsError:
        raise typer.BadParameter(
            t(
                "des clés s'y trouvent déjà ; elles ne sont jamais écrasées",
                "keys are there already; they are never overwritten",
            ),
            param_hint="--dir",
        ) from None
    with opened_agency(folder) as parts:
        prints = [
            fingerprint_of(parts.keys.sig.public.public),
            *(fingerprint_of(k.public.public) for k in parts.keys.seal.values()),
        ]
    result(
        {"ok": True, "agency": agency, "request": str(request), "fingerprints": prints},
        as_json=as_json,
        lines=[
            t(f"Agence {agency} préparée dans {folder}.", f"Agency {agency} prepared in {folder}."),
            t(
                f"Envoyez {request} à l'exploitant et lisez-lui ces empreintes au téléphone :",
                f"Send {request} to the operator and read these fingerprints on the telephone:",
            ),
            *(f"  {one}" for one in prints),
            t(f"Ensuite : umuhuza agency run --dir {folder}", f"Then: umuhuza agency run --dir {folder}"),
        ],
    )


@app.command(
    help=t("Fait tourner l'adaptateur, jusqu'à Ctrl-C ou SIGTERM.", "Run the adapter, until Ctrl-C or SIGTERM.")
)
def run(
    folder: Folder,
    ready_file: Annotated[
        Path | None, typer.Option(help=t("Créé quand l'agence est reliée.", "Made once the agency is connected."))
    ] = None,
) -> None:
    with opened_agency(folder) as parts, only_one(parts.settings.mailbox):
        parts.keys.sig.sign(b"")  # a wrong passphrase or PIN is said now, to whoever starts it
        if parts.settings.folder is not None:
            say(
                t(
                    f"Dossier surveillé : {parts.settings.folder / 'a-envoyer'}",
                    f"Watched folder: {parts.settings.folder / 'a-envoyer'}",
                )
            )
        asyncio.run(_until_stopped(parts, ready_file))


async def _until_stopped(parts: AgencyParts, ready_file: Path | None) -> None:
    """The adapter's work, said in the log, until SIGINT or SIGTERM."""
    log = structlog.get_logger()
    last: dict[str, tuple[str, float]] = {}

    def trouble(turn: str, exc: UmuhuzaError) -> None:
        """Each trouble is said when it begins or changes, and once an hour while it lasts."""
        code, since = last.get(turn, ("", 0.0))
        if code != exc.code or time.monotonic() - since > 3600:
            last[turn] = (exc.code, time.monotonic())
            log.warning(
                "trouble",
                agency=parts.settings.agency,
                turn=turn,
                code=exc.code,
                path=exc.path,
                advice=exc.advice(language()),
            )

    def escalated(escalation: Escalation) -> None:
        log.warning(
            "escalation",
            agency=parts.settings.agency,
            kind=escalation.kind,
            peer=escalation.peer,
            evt=escalation.evt,
            advice=alarm_words(escalation),
        )

    def ready() -> None:
        log.info("connected", agency=parts.settings.agency, gateway=parts.settings.gateway)
        if ready_file is not None:
            ready_file.write_text("ready\n", encoding="ascii")

    with stop_asked() as stop:
        await run_agency(parts, stop, trouble, ready, escalated)


@app.command(
    help=t(
        "Met un fichier dans la boîte d'envoi : XLSX, CSV ou JSON.", "Put a file into the outbox: XLSX, CSV or JSON."
    )
)
def send(
    file: Annotated[
        Path,
        typer.Argument(
            help=t(
                "Classeur rempli, CSV, ou JSON {to,type,facts[,thread,person]}.",
                "Filled workbook, CSV, or JSON {to,type,facts[,thread,person]}.",
            )
        ),
    ],
    folder: Folder,
    attach: Annotated[
        list[Path] | None,
        typer.Option(
            "--attach",
            help=t(
                "Pièce jointe à un envoi JSON (PDF, JPEG, PNG) ; plusieurs fois possible. Dans un classeur, la colonne "
                "« Pièces jointes » les nomme.",
                "File to go with a JSON draft (PDF, JPEG, PNG); may be repeated. In a workbook the column "
                "« Attachments » names them.",
            ),
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    require_file(file, "FILE")
    attached = attach or []
    if attached and file.suffix.lower() != ".json":
        raise typer.BadParameter(
            t(
                "dans un classeur, la colonne « Pièces jointes » nomme les fichiers",
                "a workbook names them in a column",
            ),
            param_hint="--attach",
        )
    for one in attached:
        require_file(one, "--attach")
    with opened_agency(folder) as parts:
        outcomes = asyncio.run(_send(parts, file, attached))
    sent = [outcome for outcome in outcomes if outcome.problem is None]
    refused = [outcome for outcome in outcomes if outcome.problem is not None]
    result(
        {
            "ok": not refused,
            "accepted": [{"line": outcome.line, "evt": outcome.evt, "again": outcome.again} for outcome in sent],
            "refused": [_refused(outcome) for outcome in refused],
        },
        as_json=as_json,
        lines=[
            *(
                f"✓ {outcome.line}  {outcome.evt}"
                + (t("  (déjà connue)", "  (known already)") if outcome.again else "")
                for outcome in sent
            ),
            *(f"✗ {outcome.line}  {_said(outcome.problem)}" for outcome in refused),
            t(
                f"{len(sent)} dans la boîte d'envoi, {len(refused)} refusée(s). « umuhuza agency run » les envoie.",
                f"{len(sent)} in the outbox, {len(refused)} refused. `umuhuza agency run` sends them.",
            ),
        ],
    )
    if refused:
        raise typer.Exit(1)


def _said(found: Problem | None) -> str:
    if found is None:
        return ""
    words = t(found.fr, found.en)
    where = found.at(language())
    return words if where in ("", found.line) else f"{where}{t(' ', '')}: {words}"


def _refused(outcome: Outcome) -> dict[str, Any]:
    found = outcome.problem
    if found is None:
        return {"line": outcome.line}
    return {"line": outcome.line, "code": found.code, "where": found.at(language()), "message": t(found.fr, found.en)}


async def _send(parts: AgencyParts, file: Path, attached: Sequence[Path]) -> list[Outcome]:
    outbox = Outbox(parts.desk)
    if file.suffix.lower() == ".json":
        return outbox.accept(_draft_noted(parts, file, attached), "")
    if parts.settings.folder is None:
        raise SettingsError(
            "folder is not set: spreadsheets are sent through the watched folder",
            "folder manque : les tableurs passent par le dossier surveillé",
        )
    return await _send_sheet(parts, file)


def _draft_noted(parts: AgencyParts, file: Path, attached: Sequence[Path]) -> Batch:
    """`_draft_in`; what is no draft at all is a refusal too."""
    try:
        return _draft_in(file, attached)
    except UmuhuzaError as exc:
        name = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()} *" if file.is_file() else "*"
        RefusalBook(parts.mailbox).note("outgoing", name, exc.code, exc.path, at=int(parts.now()))
        raise


def _draft_in(file: Path, attached: Sequence[Path]) -> Batch:
    """One draft as JSON, with the files that go with it. Raises SourceError, PayloadError."""
    try:
        data = file.read_bytes()
        # One byte more than may ever be sent is enough to be refused for its size.
        files = tuple(File(one.name, read_at_most(one, MAX_BYTES)) for one in attached)
        raw = ijson.loads(data, max_bytes=1 << 20, max_depth=32, floats=True)
    except OSError:
        raise SourceError("source_unreadable", "file") from None
    except ijson.IJsonError as exc:
        raise SourceError("source_unreadable", exc.path or "file") from None
    members = {"to", "type", "facts", "thread", "person", "ref"}
    if not isinstance(raw, dict) or not {"to", "type", "facts"} <= raw.keys() or not raw.keys() <= members:
        raise SourceError("row_invalid", "*", expected="to, type, facts[, thread, person, ref]")
    if not all(raw.get(name) is None or isinstance(raw[name], str) for name in members - {"facts"}):
        raise SourceError("row_invalid", "*")
    facts = _facts_in(raw["facts"], raw["type"])
    draft = Draft("1", raw["to"], raw["type"], raw.get("person"), raw.get("thread"), facts, raw.get("ref"), files)
    digest = hashlib.sha256(data)
    for one in files:  # the same words with another file are another message
        digest.update(hashlib.sha256(one.data).digest())
    return Batch(f"sha256:{digest.hexdigest()}", file.name, (draft,))


def _facts_in(raw: Any, type_: str) -> Facts:
    """What a plain event says has a form of its own. Raises PayloadError."""
    if not isinstance(raw, dict) or type_ not in PLAIN or not isinstance(raw.get("said"), dict):
        return validated(Facts, raw, "facts")
    facts = validated(Facts, {name: value for name, value in raw.items() if name != "said"}, "facts")
    return facts.model_copy(update={"said": validated(PLAIN[type_], raw["said"], "facts.said")})


async def _send_sheet(parts: AgencyParts, file: Path) -> list[Outcome]:
    """Drop the file as a person would, and let the folder's connector read, report and file it away."""
    connector = next(one for one in parts.connectors if isinstance(one, FolderConnector))
    folder = connector.places.to_send
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    dropped = folder / file.name
    if dropped.exists():
        raise SourceError("row_invalid", "file", expected=t("un autre nom de fichier", "another file name"))
    part = folder / f"{file.name}.part"
    try:
        shutil.copyfile(file, part)
    except OSError:
        raise SourceError("source_unreadable", "file") from None
    outbox = Outbox(parts.desk)
    outcomes: dict[str, list[Outcome]] = {}
    deadline = time.monotonic() + 60
    with parts.collecting:  # a running adapter waits meanwhile: it would take the file from under us
        part.rename(dropped)
        while dropped.exists() and time.monotonic() < deadline:
            async for batch in connector.collect():
                found = outbox.accept(batch, connector.name)
                outcomes.setdefault(batch.source, found)
                try:
                    await connector.settle(batch, found)
                except NotNowError:
                    continue  # the rows are in the outbox; their report is written now or by the running adapter
                parts.mailbox.mark_settled(batch.source)
            await asyncio.sleep(0.05)
    return [outcome for found in outcomes.values() for outcome in found]


@app.command(
    help=t(
        "Ce qui est arrivé, de qui, et où en est chaque envoi.",
        "What has arrived, from whom, and how far each item is.",
    )
)
def inbox(folder: Folder, as_json: Json = False) -> None:
    with opened_agency(folder) as parts:
        items = [item for item in parts.mailbox.arrivals.all() if not item.type.startswith(("receipt.", CHUNK))]
        if as_json:
            result({"ok": True, "items": [incoming_json(parts, item) for item in items]}, as_json=True)
            return
        entries(
            t(f"Boîte de réception de {parts.settings.agency}", f"Inbox of {parts.settings.agency}"),
            [
                (
                    f"{clock_words(item.at_ms / 1000)}  {item.type or '?'} ← {item.iss or '?'}   {item.thread[:8]}",
                    [arrived_words(item)],
                )
                for item in items
            ],
        )
        for item in items:
            if item.state == "quarantined":
                say(f"{item.code} [{item.path or '-'}] {advice_for(item.code)}")
        for alarm in alarms(parts.mailbox, parts.now(), parts.settings.arrival_grace_minutes * 60.0):
            if alarm.kind in ("cut-off", "telephone"):  # what is not here may be on its way, and not arrive
                say(alarm_words(alarm, ContactBook(parts.mailbox).telephones(parts.now())))


@app.command(help=t("Ce qui part : état de chaque envoi.", "What is going out: the state of each item."))
def outbox(
    folder: Folder,
    waiting: Annotated[
        bool, typer.Option("--waiting", help=t("Seulement ce qui n'est pas parti.", "Only what has not left."))
    ] = False,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        items = [item for item in parts.mailbox.outbox(open_only=waiting) if item.speaks]
        overdue = alarms(parts.mailbox, parts.now(), parts.settings.arrival_grace_minutes * 60.0)
        telephones = ContactBook(parts.mailbox).telephones(parts.now())
        if as_json:
            result(
                {
                    "ok": True,
                    "items": [outgoing_json(parts, item) for item in items],
                    "overdue": [alarm_json(alarm, telephones) for alarm in overdue],
                    "counts": parts.mailbox.counts(),
                },
                as_json=True,
            )
            return
        entries(
            t(f"Boîte d'envoi de {parts.settings.agency}", f"Outbox of {parts.settings.agency}"),
            [
                (
                    f"{clock_words(item.created_at)}  {item.type} → {item.peer}   {item.evt[-12:]}",
                    [
                        *going_words(parts, item),
                        *(f"! {alarm_words(one, telephones)}" for one in of_item(overdue, item)),
                    ],
                )
                for item in items
            ],
        )
        for alarm in overdue:
            if alarm.evt not in {item.evt for item in items}:  # about a peer, about what came, or not in this list
                say(alarm_words(alarm, telephones))
        crossed = (CrossedBook(parts.mailbox).of(item.evt) for item in items)
        codes = {item.code for item in items} | {abroad.code for abroad in crossed if abroad is not None}
        for code in sorted(code for code in codes if code):
            say(f"{code}: {advice_for(code)}")


@app.command(help=t("Réessaie maintenant ce qui attend.", "Try again now what is waiting."))
def retry(
    folder: Folder,
    evt: Annotated[str | None, typer.Argument(help=t("Un seul envoi ; sinon tous.", "One item; else all."))] = None,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        count = parts.mailbox.retry(None if evt is None else outgoing_named(parts, evt).evt)
    result({"ok": True, "retried": count}, as_json=as_json, lines=[t(f"{count} réessayé(s).", f"{count} tried again.")])


@app.command(help=t("Retire un envoi qui n'est pas encore signé.", "Take back an item that is not signed yet."))
def cancel(
    evt: Annotated[str, typer.Argument(help=t("Identifiant donné par « outbox ».", "The id that `outbox` shows."))],
    folder: Folder,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=t("Montre sans rien changer.", "Show, change nothing."))
    ] = False,
    as_json: Json = False,
) -> None:
    with opened_agency(folder) as parts:
        item = outgoing_named(parts, evt)
        done = item.state == "waiting" if dry_run else parts.mailbox.cancel(item.evt, int(time.time()))
    result(
        {"ok": done, "evt": item.evt, "state": "cancelled" if done and not dry_run else item.state, "dry_run": dry_run},
        as_json=as_json,
        lines=[
            t("Retiré.", "Taken back.")
            if done
            else t(
                "Trop tard : l'envoi est signé et a pu partir. Téléphonez au destinataire.",
                "Too late: it is signed and may have left. Telephone the recipient.",
            )
        ],
    )
    if not done:
        raise typer.Exit(1)


@app.command(
    help=t(
        "Écrit le modèle à remplir (XLSX, ou CSV selon le nom).",
        "Write the form to fill in (XLSX, or CSV by its name).",
    )
)
def template(
    file: Annotated[
        Path,
        typer.Argument(
            help=t("Fichier à écrire : orientation.xlsx ou .csv.", "File to write: orientation.xlsx or .csv.")
        ),
    ],
    folder: Folder,
    as_json: Json = False,
) -> None:
    if file.suffix.lower() not in (".xlsx", ".csv"):
        raise typer.BadParameter(t("un nom en .xlsx ou .csv", "a name that ends in .xlsx or .csv"), param_hint="FILE")
    with opened_agency(folder) as parts:
        asyncio.run(_fresh_registry(parts))
        if file.suffix.lower() == ".csv":
            form = template_csv(language())
        else:
            form = template_xlsx(recipients=recipients_of(parts), language=language())
        try:
            with file.open("xb") as out:  # never over a form that somebody has filled in
                out.write(form)
        except FileExistsError:
            taken = t(f"{file} existe déjà : choisissez un autre nom", f"{file} is there already: choose another name")
            raise typer.BadParameter(taken, param_hint="FILE") from None
    lines = [t(f"Modèle écrit : {file}", f"Form written: {file}")]
    result({"ok": True, "file": str(file)}, as_json=as_json, lines=lines)


async def _fresh_registry(parts: AgencyParts) -> None:
    """A newer registry if the gateway answers; the copy serves otherwise."""
    log = gateway_log(parts)
    try:
        await refresh_registry(parts, log)
    except UmuhuzaError as exc:
        if not parts.settings.registry.exists():
            raise
        say(exc.describe(language()))
    finally:
        await log.close()


attachment_command.add_to(app)
rights_command.add_to(app)
refusal_command.add_to(app)
correct_command.add_to(app)
stick_command.add_to(app)
proofs_command.add_to(app)
