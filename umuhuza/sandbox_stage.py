# SPDX-License-Identifier: Apache-2.0
"""Two throw-away domains that run: what `umuhuza sandbox` makes, starts and ends.

    <dir>/bi, <dir>/tn      a country: registry, gateway (with ledger, witness, neighbours), one folder per agency
    <dir>/example.ndjson    a record of bi/iom for tn/inlctp, signed and sealed, ready to be posted
    <dir>/transfer.json     the same as an agency's own system would write it; transfer-refused.json: what is refused
    <dir>/logs              what each process says
    <dir>/sandbox.json      written last: what stands here is whole, and can be started again

Agencies with an adapter answer by themselves. bi/iom and tn/iom have none: they are the developer's own, with a token
that is kept fresh, and sealing keys that every library opens (P-256).

Invariants: one sandbox per folder at a time, as long as any process of it lives; ports are free ones, so that any
number run beside each other. Started again on a kept folder it goes on with the keys and logs that are there. If we
crash before `sandbox.json`, the folder is not taken again: it has to be removed by hand.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from adapters.connectors.contract import Batch, Draft
from adapters.keystore import read_keys
from adapters.outbox import Outbox
from adapters.sending import Sender
from schemas.errors import AccessError
from schemas.forms import Facts
from schemas.keys import CLASSICAL, HYBRID
from schemas.registry import Role
from topics.cosigning import ENDORSED_FILE
from topics.durable_file import replace_file
from topics.http_log import HttpLog
from topics.log import Entry
from topics.settings import SettingsError
from umuhuza.agency import opened_agency
from umuhuza.agency_command import write_settings
from umuhuza.border_facts import return_asked
from umuhuza.children import Children, command
from umuhuza.paired_domains import DomainFolders, agree, bridge, found, introduce, member, watched
from umuhuza.registry_holder import add_agencies, change_registry, held
from umuhuza.words import language, t

if sys.platform != "win32":
    import fcntl

RECORD, DRAFT, REFUSED = "example.ndjson", "transfer.json", "transfer-refused.json"
MARK, LOCK, LOGS, TOKEN = "sandbox.json", "sandbox.lock", "logs", "token"
VERSION = 1
_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Seat:
    """An agency of the sandbox."""

    id: str
    names: Mapping[str, str]
    roles: tuple[Role, ...]
    adapter: bool = True
    """Runs here and answers by itself; else it is the developer's."""
    protected: bool = False

    @property
    def domain(self) -> str:
        return self.id.partition("/")[0]

    def folder(self, root: Path) -> Path:
        return root / self.id


SEATS = (
    Seat("bi/iom", {"fr": "OIM (essai)", "en": "IOM (sandbox)"}, ("screener", "assistance", "facilitator"), False),
    Seat("bi/ccsprtp", {"fr": "Commission (essai)", "en": "Commission (sandbox)"}, ("coordination", "focal-point")),
    Seat("bi/k7t4", {"fr": "Lieu protégé", "en": "Protected place"}, ("assistance", "shelter"), protected=True),
    Seat("tn/iom", {"fr": "OIM (essai)", "en": "IOM (sandbox)"}, ("screener", "assistance", "facilitator"), False),
    Seat("tn/inlctp", {"fr": "Instance (essai)", "en": "Authority (sandbox)"}, ("coordination", "focal-point")),
)
SENDER, FOCAL_POINT, RECIPIENT = "bi/iom", "bi/ccsprtp", "tn/inlctp"
_ABROAD = tuple(seat.id for seat in SEATS if {"focal-point", "facilitator"} & set(seat.roles))
WITH_TOKEN = (*(seat.id for seat in SEATS if not seat.adapter), RECIPIENT)


class SandboxError(Exception):
    """It did not come up, or something of it has ended; the text says what, and where to look."""


class Sandbox:
    """Use as a context manager: whatever was started is ended.

    Args:
        root: an empty folder, or one in which a sandbox was kept.

    Raises SettingsError when entered: the folder is another one's, or a sandbox runs in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.children = Children(root / LOGS)
        self.bi, self.tn = (_folders(root, name) for name in ("bi", "tn"))
        self._lock: int | None = None

    def __enter__(self) -> Sandbox:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(self.root.iterdir()) and not (self.root / MARK).exists() and not (self.root / LOCK).exists():
            raise _not_ours(self.root)
        self._lock = os.open(self.root / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        if sys.platform != "win32":
            try:
                # Held by every process that is forked from here: a folder is free when the last of them has ended.
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._unlock()
                raise SettingsError(
                    f"a sandbox runs in {self.root}; end it, or choose another folder",
                    f"un bac à sable tourne dans {self.root} ; arrêtez-le, ou choisissez un autre dossier",
                ) from None
        if not (self.root / MARK).exists() and {path.name for path in self.root.iterdir()} != {LOCK}:
            self._unlock()
            raise _not_ours(self.root)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.children.end()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- made once ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Both domains with their members and the agreement, or their registries renewed where they are there."""
        if (self.root / MARK).exists():
            for here in (self.bi, self.tn):
                change_registry(held(here.registry)).require_published()
            return
        for here in (self.bi, self.tn):
            found(here)
            add_agencies(
                here.registry,
                [
                    member(
                        seat.folder(self.root),
                        seat.id,
                        seat.names,
                        seat.roles,
                        protected=seat.protected,
                        suite=HYBRID if seat.adapter else CLASSICAL,
                    )
                    for seat in SEATS
                    if seat.domain == here.name
                ],
            )
        agree(self.bi, self.tn, _ABROAD)

    # -- started each time --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start everything; returns when all of it is connected. Raises SandboxError."""
        for here in (self.bi, self.tn):
            here.ready.unlink(missing_ok=True)
            where = ("--dir", str(here.gateway), "--port", "0", "--ready-file", str(here.ready))
            self.children.start(f"{here.name}-gateway", command("gateway", "run", *where))
        for here in (self.bi, self.tn):
            self._until(here.ready.exists)
        for here, other in ((self.bi, self.tn), (self.tn, self.bi)):
            watched(here, self.bi, self.tn)
            self._settle(here, other)
        for here, other in ((self.bi, self.tn), (self.tn, self.bi)):
            introduce(here, other.name, other.neighbours, *(folder / "neighbours" for folder in self._abroad(other)))
        for here, other in ((self.bi, self.tn), (self.tn, self.bi)):
            self.children.start(f"{here.name}-ledger", command("ledger", "run", "--dir", str(here.ledger)))
            self.children.start(f"{here.name}-bridge", bridge(here, other))
        adapters = [seat.folder(self.root) for seat in SEATS if seat.adapter]
        for folder in adapters:
            (folder / "connected").unlink(missing_ok=True)
            name, connected = f"{folder.parent.name}-{folder.name}", str(folder / "connected")
            self.children.start(name, command("agency", "run", "--dir", str(folder), "--ready-file", connected))
        self._write_examples()
        for folder in adapters:
            self._until((folder / "connected").exists)
        for here in (self.bi, self.tn):
            self._until((here.ledger / ENDORSED_FILE).exists)
        for agency in WITH_TOKEN:  # gateways look at their neighbours once a second
            here, other = (self.bi, self.tn) if agency.startswith("bi/") else (self.tn, self.bi)
            self._until(partial(_is_open, self.root / agency / "keys.json", agency, here, other.name))
        self.renew_tokens()
        replace_file(self.root / MARK, orjson.dumps({"v": VERSION}))

    def _abroad(self, here: DomainFolders) -> list[Path]:
        return [seat.folder(self.root) for seat in SEATS if seat.domain == here.name and seat.id in _ABROAD]

    def _settle(self, here: DomainFolders, other: DomainFolders) -> None:
        """Agencies learn where their gateway is now, and have its registry already."""
        for seat in SEATS:
            if seat.domain != here.name:
                continue
            folder = seat.folder(self.root)
            write_settings(folder, seat.id, here.address, here.root, here.operator, language=language(), quick=True)
            if seat.id in _ABROAD:
                with (folder / "agency.toml").open("a", encoding="utf-8") as out:
                    out.write('neighbours = "neighbours"\n')
            replace_file(folder / "registry.json", here.registry_file.read_bytes())

    def _until(self, seen: Callable[[], bool]) -> None:
        """Raises SandboxError: not within a minute, or a process has ended."""
        deadline = time.monotonic() + _WAIT_S
        while not seen():
            self.require_all()
            if time.monotonic() > deadline:
                raise SandboxError(
                    t("pas prêt en une minute ; voir ", "not ready within a minute; see ") + f"{self.root / LOGS}"
                )
            time.sleep(0.02)

    def require_all(self) -> None:
        """Raises SandboxError: a process has ended."""
        ended = self.children.ended()
        if ended is not None:
            raise SandboxError(
                t(f"{ended} s'est terminé ; voir ", f"{ended} has ended; see ") + f"{self.root / LOGS / ended}.log"
            )

    # -- for the developer --------------------------------------------------------------------------------------------

    def renew_tokens(self) -> None:
        """A token that counts for minutes yet, in the folder of each agency that the developer may be. Raises the
        gateway's refusal."""
        for agency in WITH_TOKEN:
            here = self.bi if agency.startswith("bi/") else self.tn
            text = asyncio.run(_token(self.root / agency / "keys.json", agency, here))
            _write_private(self.root / agency / TOKEN, text)

    def _write_examples(self) -> None:
        """Made once: a record keeps its number."""
        if (self.root / RECORD).exists():
            return
        today = datetime.fromtimestamp(int(time.time()), UTC)
        for file, authorised in ((DRAFT, True), (REFUSED, False)):
            facts = return_asked(
                today, name="Salma Exemple (inventée)", origin="tn", language="ar", authorised=authorised
            )
            draft = {"to": RECIPIENT, "type": "transfer.requested", "person": "ESSAI-1", "facts": _as_json(facts)}
            (self.root / file).write_text(json.dumps(draft, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        facts = return_asked(today, name="Leïla Exemple (inventée)", origin="tn", language="ar", authorised=True)
        (self.root / RECORD).write_bytes(self._record(facts))

    def _record(self, facts: Facts) -> bytes:
        """A request line of bi/iom's for tn/inlctp, made by its own adapter, which would send these very bytes."""
        draft = Draft("1", RECIPIENT, "transfer.requested", "ESSAI-0", None, facts, None)
        with opened_agency(self.root / SENDER) as parts:
            outbox = Outbox(parts.desk)
            [outcome] = outbox.accept(Batch("sandbox", RECORD, (draft,)), "")
            if outcome.evt is None:
                raise SandboxError("" if outcome.problem is None else outcome.problem.code)
            sender = Sender(parts.desk, outbox)
            sender.sign_waiting()
            item = parts.mailbox.outgoing(outcome.evt)
            if item is None or item.l1 is None:
                raise SandboxError(RECORD)
            entry: Entry = sender.entry(item)
            grants = [orjson.Fragment(one.encode("ascii")) for one in item.grants]
            line = {"record": entry.value.decode("ascii"), "grants": grants}
            return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _as_json(facts: Facts) -> dict[str, Any]:
    """As an agency's own system would write them: what is not said is left out."""
    told = facts.model_dump(mode="json", exclude_unset=True, exclude={"said"})
    said = None if facts.said is None else facts.said.model_dump(mode="json", exclude_unset=True)
    return told | ({} if said is None else {"said": said})


def _folders(root: Path, name: str) -> DomainFolders:
    here = root / name
    gateway = here / "gateway"
    return DomainFolders(name, here / "registry", gateway, gateway / "ledger", gateway / "witness", gateway / "address")


def _not_ours(root: Path) -> SettingsError:
    return SettingsError(
        f"{root} is not empty, and holds no sandbox: choose another folder, or remove it",
        f"{root} n'est pas vide, et n'est pas un bac à sable : choisissez un autre dossier, ou supprimez-le",
    )


async def _token(keys: Path, agency: str, here: DomainFolders) -> str:
    log = HttpLog(here.address, agency, read_keys(keys).sig, domain=here.name, now=time.time, random=os.urandom)
    try:
        return await log.access_token()
    finally:
        await log.close()


def _is_open(keys: Path, agency: str, here: DomainFolders, other: str) -> bool:
    """Whether that domain's gateway knows its neighbour by now."""

    async def asked() -> bool:
        log = HttpLog(here.address, agency, read_keys(keys).sig, domain=here.name, now=time.time, random=os.urandom)
        try:
            return bool(await log.fetch_neighbour(other))
        except AccessError as exc:
            if exc.code != "request_invalid":  # of a page that is not there yet
                raise
            return False
        finally:
            await log.close()

    return asyncio.run(asked())


def _write_private(path: Path, text: str) -> None:
    """Readable by this user alone; whoever reads it meanwhile reads the one before or the new one."""
    replace_file(path, text.encode("ascii"), 0o600)
