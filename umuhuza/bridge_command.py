# SPDX-License-Identifier: Apache-2.0
"""`umuhuza bridge`: what passes a domain's borders.

    excerpt    what another domain is given of our registry the first time; later contacts bring it by themselves
    add        another domain: its root, its ledger's and witnesses' keys, its excerpt
    run        carry what goes to it, until SIGTERM, or once
    status     what stands between us: agreements, what waits, what was refused, how old the other side's word is

Everything lies in the gateway's folder (`neighbours/<domain>`), as `topics.neighbours` and `adapters.bridge_book` say.
A bridge that is started twice does everything twice and nothing worse.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.bridge import Bridge, Turn
from adapters.bridge_book import BridgeBook
from gateway.settings import FILE_NAME as GATEWAY_FILE
from gateway.settings import Settings, load_settings, read_registry_root, read_signing_key
from schemas.errors import LogError, RegistryError
from schemas.keys import VerifyKey, b64url
from schemas.registry_trust import TrustedRegistry, trusted
from schemas.trust_policy import read_policy
from topics.borders import excerpt_for
from topics.catalogue import outgoing_of
from topics.home_check import NEWEST, POLICY, ROOT
from topics.http_log import HttpLog
from topics.ledger_served import ServedLedger
from topics.neighbours import Neighbours
from topics.receipt_maker import ReceiptMaker
from topics.registry_file import RegistryFile, read_registry, registry_pin, replace_registry_file
from topics.settings import SettingsError
from topics.sqlite_log import SqliteLog
from umuhuza.asking import current_passphrase
from umuhuza.ledger_settings import FILE_NAME as LEDGER_FILE
from umuhuza.ledger_settings import load_ledger_settings
from umuhuza.options import Json
from umuhuza.words import advice_for, day_and_time, result, say, t, table

app = typer.Typer(
    no_args_is_help=True,
    help=t(
        "Le pont : ce qui passe d'un domaine à l'autre, sous un accord des deux.",
        "The bridge: what passes from one domain to another, under an agreement of both.",
    ),
)
FOLDER, BOOK = "neighbours", "bridge.db"
NOT_NOW = 3
LONGEST_PAUSE_S = 600.0

Gateway = Annotated[
    Path, typer.Option("--gateway", help=t("Dossier de la passerelle du domaine.", "The domain's gateway's folder."))
]
Domain = Annotated[str, typer.Argument(help=t("L'autre domaine : tn.", "The other domain: tn."), metavar="DOMAIN")]


def _settings(gateway: Path) -> Settings:
    """Raises SettingsError."""
    return load_settings(gateway / GATEWAY_FILE)


def _neighbours(settings: Settings) -> tuple[Neighbours, RegistryFile, Path]:
    """Raises SettingsError: no domain was added; RegistryError."""
    if settings.neighbours is None:
        raise SettingsError("neighbours: no other domain was added", "neighbours : aucun autre domaine n'a été ajouté")
    held = RegistryFile(settings.registry, read_registry_root(settings), time.time)
    return Neighbours(settings.neighbours, lambda: held.trusted, time.time), held, settings.neighbours


@app.command(
    help=t(
        "Écrit ce que l'autre domaine reçoit de notre registre : les agences que l'accord nomme, aucune autre.",
        "Write what the other domain is given of our registry: the agencies that the agreement names, no other.",
    )
)
def excerpt(
    domain: Domain,
    out: Annotated[Path, typer.Option("--out", help=t("Fichier à écrire.", "File to write."))],
    gateway: Gateway = Path("gateway"),
    as_json: Json = False,
) -> None:
    settings = _settings(gateway)
    ours = read_registry(settings.registry, read_registry_root(settings))
    data = excerpt_for(ours, domain)
    out.write_bytes(data)
    told = trusted(data, ours.pin, excerpt=True)
    agencies = sorted(told.registry.agencies)
    facts = {
        "ok": True,
        "version": told.registry.version,
        "root": ours.pin.text,
        "agencies": agencies,
        "agreements": sorted(told.agreements),
    }
    lines = [t("agences : ", "agencies: ") + ", ".join(agencies), t("racine : ", "root: ") + ours.pin.text]
    result(facts, as_json=as_json, lines=lines)


@app.command(
    help=t(
        "Ajoute un domaine : sa racine (lue au téléphone), les clés de son registre de preuve, son extrait.",
        "Add a domain: its root (read on the telephone), its ledger's keys, its excerpt of the registry.",
    )
)
def add(
    domain: Domain,
    root: Annotated[str, typer.Option("--root", help=t("Empreinte de sa racine.", "Fingerprint of its root."))],
    registry: Annotated[Path, typer.Option("--registry", help=t("Son extrait.", "Its excerpt."))],
    policy: Annotated[
        Path,
        typer.Option(
            "--policy",
            help=t(
                "Clés de son registre de preuve, témoins, quorum (comme witnesses.policy).",
                "Keys of its ledger, witnesses, quorum (as witnesses.policy).",
            ),
        ),
    ],
    gateway: Gateway = Path("gateway"),
    as_json: Json = False,
) -> None:
    settings = _settings(gateway)
    pin = registry_pin(root, "root")
    try:
        data, believed = registry.read_bytes(), policy.read_bytes()
    except OSError:
        raise SettingsError("a file cannot be read", "un fichier ne peut pas être lu") from None
    theirs = trusted(data, pin, excerpt=True)
    if theirs.registry.domain != domain:
        raise RegistryError("registry_root_unknown", "root")
    theirs.require_fresh(int(time.time()))
    keys = read_policy(believed)
    if not any(one.key.name.startswith(f"{domain}.") for one in keys.logs):
        raise LogError("log_unknown", POLICY)
    here = (settings.neighbours or gateway / FOLDER) / domain
    here.mkdir(mode=0o755, parents=True, exist_ok=True)
    replace_registry_file(here / POLICY, believed)
    replace_registry_file(here / NEWEST, data)
    replace_registry_file(here / ROOT, pin.text.encode("ascii"))
    _tell(settings, gateway, here.parent)
    facts = {"ok": True, "domain": domain, "version": theirs.registry.version, "folder": str(here)}
    result(facts, as_json=as_json, lines=[t("ajouté ; relancez la passerelle", "added; restart the gateway")])


def _tell(settings: Settings, gateway: Path, folder: Path) -> None:
    """Gateway and ledger learn where it is, if they do not know."""
    line = f'neighbours = "{folder.resolve()}"\n'
    if settings.neighbours is None:
        with (gateway / GATEWAY_FILE).open("a", encoding="utf-8") as out:
            out.write(line)
    ledger = None if settings.ledger is None else settings.ledger / LEDGER_FILE
    if ledger is not None and ledger.exists() and load_ledger_settings(ledger).neighbours is None:
        with ledger.open("a", encoding="utf-8") as out:
            out.write(line)


# ---------------------------------------------------------------------------------------------------------------------
# run


@dataclass(slots=True)
class _Parts:
    bridge: Bridge
    book: BridgeBook


async def _opened(settings: Settings, domain: str, url: str, closing: AsyncExitStack) -> _Parts:
    """Raises SettingsError, LogError, RegistryError, KeyStoreError."""
    if settings.log is None or settings.ledger is None:
        raise SettingsError(
            "log, ledger: a bridge needs the domain's log as one SQLite file, and its ledger",
            "log, ledger : un pont a besoin du journal du domaine en un fichier SQLite, et de son registre de preuve",
        )
    neighbours, held, folder = _neighbours(settings)
    if not (folder / domain).is_dir():
        raise RegistryError("agency_unknown", "domain")
    log = SqliteLog.open(
        str(settings.log),
        create=False,
        clock_ms=lambda: time.time_ns() // 1_000_000,
        random_id=lambda: b64url(os.urandom(12)),
    )
    closing.push_async_callback(log.close)
    book = BridgeBook.open(folder / domain / BOOK)
    closing.callback(book.close)
    remote = HttpLog(
        url,
        settings.agency,
        read_signing_key(settings.signing_key, current_passphrase),
        domain=domain,
        now=time.time,
        random=os.urandom,
        gateway_key=lambda: _operators_keys(neighbours.theirs(domain), int(time.time())),
    )
    closing.push_async_callback(remote.close)
    registries = settings.ledger / "registries"
    pin = read_registry_root(settings)

    def version(sha256: bytes) -> TrustedRegistry | None:
        file = registries / f"{sha256.hex()}.json"
        return trusted(file.read_bytes(), pin) if file.exists() else None

    ledger = ReceiptMaker(settings.ledger, ServedLedger(settings.ledger))
    return _Parts(
        Bridge(
            domain,
            log=log,
            ledger=ledger,
            ours=lambda: held.trusted,
            version=version,
            neighbours=neighbours,
            remote=remote,
            book=book,
            now=time.time,
        ),
        book,
    )


def _operators_keys(theirs: TrustedRegistry, now: int) -> Sequence[VerifyKey]:
    """Whose promises are believed: the other domain's operators'."""
    operators = [one for one in theirs.registry.agencies.values() if "operator" in one.roles]
    keys = [key for one in operators for key in one.keys if key.use == "sig" and key.counts_at(now)]
    return [VerifyKey(key.public) for key in keys]


@app.command(
    help=t(
        "Porte à l'autre domaine ce qui lui est adressé, jusqu'à SIGTERM, ou une fois. 3 : rien ne passe maintenant.",
        "Carry to the other domain what is addressed to it, until SIGTERM, or once. 3: nothing passes now.",
    )
)
def run(
    domain: Domain,
    url: Annotated[str, typer.Option("--url", help=t("Adresse de sa passerelle.", "Its gateway's address."))],
    gateway: Gateway = Path("gateway"),
    once: Annotated[bool, typer.Option("--once", help=t("Un seul tour.", "One turn only."))] = False,
    every: Annotated[
        float, typer.Option("--every", min=0.1, help=t("Secondes entre deux tours.", "Seconds between two turns."))
    ] = 10.0,
    as_json: Json = False,
) -> None:
    settings = _settings(gateway)
    turn = asyncio.run(_carried(settings, domain, url, every, once=once))
    facts = {
        "ok": turn.code is None,
        "promised": turn.promised,
        "refused": turn.refused,
        "waiting": turn.waiting,
        "code": turn.code,
        "path": turn.path,
    }
    if once:
        lines = [t("promis : ", "promised: ") + str(turn.promised), t("refusés : ", "refused: ") + str(turn.refused)]
        result(facts, as_json=as_json, lines=lines)
        if turn.code is not None:
            if not as_json:
                say(_why(turn.code, turn.path))
            raise SystemExit(NOT_NOW)


def _why(code: str, path: str | None) -> str:
    return f"{code}{'' if path is None else f' [{path}]'} {advice_for(code)}"


async def _carried(settings: Settings, domain: str, url: str, every: float, *, once: bool) -> Turn:
    async with AsyncExitStack() as closing:
        parts = await _opened(settings, domain, url, closing)
        if once:
            return await parts.bridge.turn()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        pause, before = every, ""
        turn = Turn()
        while not stop.is_set():
            turn = await parts.bridge.turn()
            why = "" if turn.code is None else _why(turn.code, turn.path)
            if why != before:
                say(why or t("le pont porte", "the bridge carries"))
                before = why
            # A link that is down is asked less and less, and two bridges never in step.
            pause = every if turn.code is None else min(pause * 2, LONGEST_PAUSE_S)
            try:
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                    await stop.wait()
            except TimeoutError:
                continue
        return turn


# ---------------------------------------------------------------------------------------------------------------------
# status


@app.command(
    help=t(
        "Ce qui passe et ce qui attend, pour chaque domaine ajouté. 3 : quelque chose est arrêté.",
        "What passes and what waits, for each domain that was added. 3: something is stopped.",
    )
)
def status(gateway: Gateway = Path("gateway"), as_json: Json = False) -> None:
    settings = _settings(gateway)
    neighbours, _, folder = _neighbours(settings)
    now = int(time.time())
    registry = neighbours.registry
    waiting = asyncio.run(_waiting(settings, folder, outgoing_of(registry)))
    told: list[dict[str, Any]] = []
    for name in sorted({*registry.borders, *neighbours.problems}):
        contact = neighbours.contact(name)
        facts: dict[str, Any] = {"domain": name, "problem": neighbours.problems.get(name)}
        border = registry.borders.get(name)
        if border is not None:
            today = datetime.fromtimestamp(now, UTC).date()
            facts["agreements"] = {key: one.in_force(today) for key, one in border.agreements.items()}
            facts["one_sided"] = dict(border.one_sided)
            facts["their_registry"] = neighbours.theirs(name).registry.version
        facts |= _bridged(folder / name / BOOK)
        facts["waiting"] = sum(count for topic, count in waiting.items() if topic.startswith(f"{name}."))
        facts["checkpoint"] = None if contact is None else contact.size
        facts["checkpoint_age_s"] = None if contact is None or not contact.cosigned_at else now - contact.cosigned_at
        facts["contact_age_s"] = None if contact is None else now - contact.at
        told.append(facts)
    ok = all(one["problem"] is None and one["code"] is None and one.get("agreements") for one in told)
    if as_json:
        result({"ok": ok, "neighbours": told}, as_json=True)
    else:
        _show(told)
    if not ok:
        raise SystemExit(NOT_NOW)


def _bridged(book_file: Path) -> dict[str, Any]:
    """What the bridge's own file says; its absence means that it has never run."""
    facts: dict[str, Any] = {"promised": 0, "refused": 0, "code": None, "path": None, "heard": None, "refusals": []}
    if not book_file.exists():
        return facts
    book = BridgeBook.open(book_file)
    try:
        hindered = book.hindered()
        refusals = [{"topic": one.topic, "code": one.code, "path": one.path} for one in book.refusals(10)]
        return (
            facts
            | book.counts()
            | {
                "code": hindered.code,
                "path": hindered.path,
                "heard": hindered.heard or None,
                "refusals": refusals,
            }
        )
    finally:
        book.close()


async def _waiting(settings: Settings, folder: Path, topics: Sequence[str]) -> dict[str, int]:
    """Outgoing topic -> how many records stand behind the cursor."""
    if settings.log is None or not settings.log.exists() or not topics:  # a gateway that has never run
        return {}
    log = SqliteLog.open(
        str(settings.log), create=False, clock_ms=lambda: time.time_ns() // 1_000_000, random_id=lambda: ""
    )
    found: dict[str, int] = {}
    try:
        for topic in topics:
            file = folder / topic.partition(".")[0] / BOOK
            book = BridgeBook.open(file) if file.exists() else None
            try:
                ends = await log.ends(topic)
                cursor = -1 if book is None else book.cursor(log.log_id, topic)
                found[topic] = max(ends.next - max(cursor + 1, ends.first), 0)
            except LogError as exc:
                if exc.code != "topic_unknown":  # nobody has written to it yet
                    raise
            finally:
                if book is not None:
                    book.close()
    finally:
        await log.close()
    return found


def _show(told: Sequence[dict[str, Any]]) -> None:
    def age(seconds: int | None) -> str:
        return "–" if seconds is None else f"{seconds // 60} min"

    rows = [
        (
            one["domain"],
            ", ".join(one.get("agreements") or one.get("one_sided") or ["–"]),
            str(one["waiting"]),
            str(one["promised"]),
            str(one["refused"]),
            "–" if one["heard"] is None else day_and_time(one["heard"]),
            age(one["checkpoint_age_s"]),
        )
        for one in told
    ]
    headers = (
        t("domaine", "domain"),
        t("accords", "agreements"),
        t("attendent", "waiting"),
        t("promis", "promised"),
        t("refusés", "refused"),
        t("a répondu", "answered"),
        t("son registre, âge", "its ledger, age"),
    )
    table(t("Ponts", "Bridges"), headers, rows)
    for one in told:
        code = one["problem"] or one["code"]
        if code is not None:
            say(f"{one['domain']}: {_why(code, one['path'])}")
