# SPDX-License-Identifier: Apache-2.0
"""`umuhuza bridge`: what passes a domain's borders.

    excerpt    what another domain is given of our registry the first time; later contacts bring it by themselves
    add        another domain: its root, its ledger's and witnesses' keys, its excerpt
    run        carry what goes to it, until SIGTERM, or once
    status     what stands between us: agreements, what waits, what was refused, how old the other side's word is

Everything lies in the gateway's folder (`neighbours/<domain>`), as `topics.neighbours` and `topics.bridge_book` say.
A bridge that is started twice does everything twice and nothing worse.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.bridge import Lag, Turn, lag
from gateway.settings import FILE_NAME as GATEWAY_FILE
from gateway.settings import Settings, load_settings, read_registry_root
from schemas.errors import LogError, RegistryError
from schemas.registry import Registry
from schemas.registry_trust import trusted
from schemas.trust_policy import read_policy
from topics.borders import excerpt_for
from topics.bridge_book import BOOK, BridgeBook
from topics.catalogue import outgoing_of
from topics.durable_file import replace_file
from topics.home_check import NEWEST, POLICY, ROOT
from topics.registry_file import read_registry, registry_pin
from topics.settings import SettingsError
from umuhuza.bridge_process import Running, open_log, open_neighbours
from umuhuza.bridge_process import once as one_turn
from umuhuza.bridge_process import run as run_bridge
from umuhuza.ledger_settings import FILE_NAME as LEDGER_FILE
from umuhuza.ledger_settings import load_ledger_settings
from umuhuza.options import Json
from umuhuza.words import advice_for, entries, result, say, t

app = typer.Typer(no_args_is_help=True)
FOLDER = "neighbours"
NOT_NOW = 3

Gateway = Annotated[
    Path, typer.Option("--gateway", help=t("Dossier de la passerelle du domaine.", "The domain's gateway's folder."))
]
Domain = Annotated[str, typer.Argument(help=t("L'autre domaine : tn.", "The other domain: tn."), metavar="DOMAIN")]


def _settings(gateway: Path) -> Settings:
    """Raises SettingsError."""
    return load_settings(gateway / GATEWAY_FILE)


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
    if settings.neighbours is not None and (here / ROOT).exists():
        # Records were logged under the versions that are here: a newer one takes its place beside them.
        if registry_pin((here / ROOT).read_text("ascii").strip(), "root") != pin:
            raise RegistryError("registry_root_unknown", "root")
        replace_file(here / POLICY, believed)
        theirs = open_neighbours(settings)[0].take_registry(domain, data)
    else:
        here.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_file(here / POLICY, believed)
        replace_file(here / NEWEST, data)
        replace_file(here / ROOT, pin.text.encode("ascii"))
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
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help=t(
                "Port pour /healthz, /readyz et /metrics ; 0 : un port libre ; sans cela, aucun.",
                "Port for /healthz, /readyz and /metrics; 0: a free one; without it, none.",
            ),
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help=t("Adresse d'écoute de ce port.", "Address on which that port listens."))
    ] = "127.0.0.1",
    ready_file: Annotated[
        Path | None,
        typer.Option(
            help=t("Écrit cette adresse après le premier tour.", "Written with that address after the first turn.")
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    settings = _settings(gateway)
    if not once:
        running = Running(url, every, host, port, ready_file)
        asyncio.run(run_bridge(settings, domain, running, _Saying()))
        return
    turn = asyncio.run(one_turn(settings, domain, url))
    facts = {
        "ok": turn.code is None,
        "promised": turn.promised,
        "refused": turn.refused,
        "waiting": turn.waiting,
        "code": turn.code,
        "path": turn.path,
    }
    lines = [t("promis : ", "promised: ") + str(turn.promised), t("refusés : ", "refused: ") + str(turn.refused)]
    result(facts, as_json=as_json, lines=lines)
    if turn.code is not None:
        if not as_json:
            say(_why(turn.code, turn.path))
        raise SystemExit(NOT_NOW)


class _Saying:
    """Says what hinders the bridge, once as long as it does."""

    def __init__(self) -> None:
        self._before = ""

    def __call__(self, turn: Turn) -> None:
        why = "" if turn.code is None else _why(turn.code, turn.path)
        if why != self._before:
            say(why or t("le pont porte", "the bridge carries"))
            self._before = why


def _why(code: str, path: str | None) -> str:
    return f"{code}{'' if path is None else f' [{path}]'} {advice_for(code)}"


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
    neighbours, _, folder = open_neighbours(settings)
    now = int(time.time())
    registry = neighbours.registry
    waiting: dict[str, Lag] | None = None
    log_problem: str | None = None
    try:
        waiting = asyncio.run(_waiting(settings, folder, registry))
    except LogError as exc:
        if not exc.retriable:
            raise
        log_problem = exc.code
    told: list[dict[str, Any]] = []
    for name in sorted({*registry.borders, *neighbours.problems}):
        contact = neighbours.contact(name)
        facts: dict[str, Any] = {"domain": name, "problem": neighbours.problems.get(name)}
        facts["warning"] = neighbours.warnings.get(name)
        border = registry.borders.get(name)
        if border is not None:
            today = datetime.fromtimestamp(now, UTC).date()
            facts["agreements"] = {key: one.in_force(today) for key, one in border.agreements.items()}
            facts["one_sided"] = dict(border.one_sided)
            facts["their_registry"] = neighbours.theirs(name).registry.version
        facts |= _bridged(folder / name / BOOK)
        facts["heard_age_s"] = None if facts["heard"] is None else now - facts["heard"]
        behind = Lag() if waiting is None else waiting.get(name, Lag())
        facts["waiting"] = None if waiting is None else behind.records
        facts["waiting_s"] = None if behind.since is None else max(int(now - behind.since), 0)
        facts["checkpoint"] = None if contact is None else contact.size
        facts["checkpoint_age_s"] = None if contact is None or not contact.cosigned_at else now - contact.cosigned_at
        facts["contact_age_s"] = None if contact is None else now - contact.at
        told.append(facts)
    ok = log_problem is None and all(
        one["problem"] is None and one["code"] is None and not one["contradicting"] and one.get("agreements")
        for one in told
    )
    if as_json:
        result({"ok": ok, "log": log_problem, "neighbours": told}, as_json=True)
    else:
        _show(told)
        if log_problem is not None:
            say(t("le journal d'ici : ", "the log here: ") + _why(log_problem, None))
    if not ok:
        raise SystemExit(NOT_NOW)


def _bridged(book_file: Path) -> dict[str, Any]:
    """What the bridge's own file says; its absence means that it has never run."""
    facts: dict[str, Any] = {
        "promised": 0,
        "proven": 0,
        "contradicting": 0,
        "unproven_since": None,
        "refused": 0,
        "refused_by_code": {},
        "refusals": [],
    }
    facts |= {"code": None, "path": None, "heard": None}
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
                "proven": book.proven(),
                "contradicting": book.contradicting(),
                "unproven_since": book.unproven_since(),
                "refused_by_code": book.refused_by_code(),
                "code": hindered.code,
                "path": hindered.path,
                "heard": hindered.heard or None,
                "refusals": refusals,
            }
        )
    finally:
        book.close()


async def _waiting(settings: Settings, folder: Path, registry: Registry) -> dict[str, Lag]:
    """Domain -> what waits for it. Raises LogError, SettingsError."""
    if settings.log is not None and not settings.log.exists():  # a gateway that has never run
        return {}
    outgoing = outgoing_of(registry)
    found: dict[str, Lag] = {}
    if not outgoing:
        return found
    log = await open_log(settings, registry.domain)
    try:
        for domain in registry.borders:
            file = folder / domain / BOOK
            book = BridgeBook.open(file) if file.exists() else None
            try:
                found[domain] = await lag(log, book, [name for name in outgoing if name.startswith(f"{domain}.")])
            finally:
                if book is not None:
                    book.close()
    finally:
        await log.close()
    return found


def _show(told: Sequence[dict[str, Any]]) -> None:
    def age(seconds: int | None) -> str:
        return t("jamais", "never") if seconds is None else t(f"il y a {_long(seconds)}", f"{_long(seconds)} ago")

    rows: list[tuple[str, Sequence[str]]] = []
    for one in told:
        agreements = ", ".join(one.get("agreements") or one.get("one_sided") or []) or t("aucun", "none")
        waiting = "–" if one["waiting"] is None else str(one["waiting"])
        if one["waiting_s"] is not None:
            waiting += t(", depuis ", ", for ") + _long(one["waiting_s"])
        lines = [
            t(f"accords : {agreements}", f"agreements: {agreements}"),
            t(f"attendent ici : {waiting}", f"waiting here: {waiting}"),
            t(
                f"promis là-bas : {one['promised']}, dont prouvés par son registre de preuve : {one['proven']}",
                f"promised there: {one['promised']}, of these proven by its ledger: {one['proven']}",
            ),
            *_unproven(one["unproven_since"]),
            t(f"refusés là-bas : {one['refused']}", f"refused there: {one['refused']}"),
            t(f"a répondu : {age(one['heard_age_s'])}", f"answered: {age(one['heard_age_s'])}"),
            t(
                f"un témoin de son registre de preuve a signé : {age(one['checkpoint_age_s'])}",
                f"a witness of its ledger signed: {age(one['checkpoint_age_s'])}",
            ),
        ]
        rows.append((one["domain"], lines))
    entries(t("Ponts", "Bridges"), rows)
    for one in told:
        code = one["problem"] or one["code"]
        if code is not None:
            say(f"{one['domain']}: {_why(code, one['path'])}")
        if one["contradicting"]:
            say(f"{one['domain']}: {_why('record_rewritten', 'receipt')}")
        if one["warning"] is not None:
            say(f"{one['domain']}: {_why(one['warning'], None)}")


def _unproven(since: int | None) -> list[str]:
    if since is None:
        return []
    waited = _long(max(int(time.time()) - since, 0))
    return [t(f"la plus ancienne promesse sans reçu : {waited}", f"oldest promise without a receipt: {waited}")]


def _long(seconds: int) -> str:
    """A time span, in the largest unit that says it."""
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 2 * 3600:
        return f"{seconds // 60} min"
    return (
        f"{seconds // 3600} h" if seconds < 2 * 86_400 else t(f"{seconds // 86_400} jours", f"{seconds // 86_400} days")
    )
