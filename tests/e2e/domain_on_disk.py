# SPDX-License-Identifier: Apache-2.0
"""A domain in a folder, with real processes: registry, gateway and agencies as an operator would start them.

    with DomainOnDisk.made(root, MEMBERS) as domain:
        domain.start_agency("bi/iom")
        domain.drop("bi/iom", "novembre.xlsx", workbook([referral("Aline")]))
        domain.until("arrived", lambda: domain.arrived("bi/k7t4"))

The log is the gateway's file, or topics on the broker that all tests of a run share (`log="kafka"`); a domain begins
with topics that are new, so there is one such domain at a time.

Every process is ended by its own id. Nothing sleeps for luck: `until` looks until it sees, or says what it did not see.
"""

from __future__ import annotations

import asyncio
import io
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

import httpx2
import pytest
from openpyxl import load_workbook

from adapters.connectors import paper
from adapters.connectors.column_type import FORMS, Form
from adapters.connectors.template import write_form
from adapters.keystore import Keys, read_keys
from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Incoming, Outgoing
from schemas.registry import Registry, Role
from tests.e2e.commands import environment, until
from tests.forked import Umuhuza
from tests.kafka.conftest import _shared
from tests.topics.kafka_harness import wipe
from topics import kafka_admin
from topics.registry_file import RegistryFile, registry_pin
from umuhuza.agency_command import init_agency
from umuhuza.gateway_command import init_gateway
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster
from umuhuza.registry_holder import add_agency, held, init_registry, read_enrolment

on_one_log = pytest.mark.parametrize("log", ["sqlite"], indirect=True, scope="module")
"""For a test of a module's domain in which nothing reaches the log: the other one would show nothing more."""


@dataclass(frozen=True)
class Member:
    id: str
    roles: tuple[Role, ...]
    protected: bool = False
    kobo_to: str | None = None
    folder: bool = True
    """Whether it has a watched folder; without one it only keeps what arrives in its mailbox."""

    @property
    def name(self) -> str:
        return self.id.partition("/")[2]


@dataclass
class DomainOnDisk:
    root: Path
    members: dict[str, Member] = field(default_factory=dict)
    root_key: str = ""
    address: str = ""
    processes: dict[str, Umuhuza | subprocess.Popen[bytes]] = field(default_factory=dict)
    cluster: Cluster | None = None
    """Where the log is; None: in the gateway's folder."""

    @classmethod
    def made(
        cls, root: Path, members: Sequence[Member], gateway: Mapping[str, str] | None = None, log: str = "sqlite"
    ) -> DomainOnDisk:
        """Registry, a running gateway, and every member enrolled but not running.

        Args:
            gateway: further UMUHUZA_GATEWAY_* settings, in small letters and without the prefix.
            log: "sqlite" or "kafka".
        """
        domain = cls(root)
        handed = domain.gateway_folder / "kafka"
        if log == "kafka":
            domain.cluster = _shared()
            wipe(domain.cluster.access(ADMIN))
        _, pin = init_registry(domain.registry_folder, "bi", False)
        domain.root_key = pin.text
        operator = init_gateway(
            domain.gateway_folder,
            agency="bi/operator",
            registry=(domain.registry_folder / "registry.json").resolve(),
            registry_root=domain.root_key,
            host="127.0.0.1",
            port=0,
            kafka=handed if domain.cluster else None,
        )
        if domain.cluster:
            domain.cluster.hand_over("bi/operator", handed)
        add_agency(domain.registry_folder, operator)
        domain.make_topics()
        domain.gateway_settings = {f"UMUHUZA_GATEWAY_{name.upper()}": value for name, value in (gateway or {}).items()}
        try:
            domain.start_gateway()
            for member in members:
                domain._enrol(member)
            domain.make_topics()
        except BaseException:
            domain.end()
            raise
        return domain

    gateway_settings: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> DomainOnDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    # -- places -------------------------------------------------------------------------------------------------------

    @property
    def registry_folder(self) -> Path:
        return self.root / "registre"

    @property
    def gateway_folder(self) -> Path:
        return self.root / "passerelle"

    def folder(self, agency: str) -> Path:
        return self.root / agency.partition("/")[2]

    def watched(self, agency: str, name: str = "") -> Path:
        return self.folder(agency) / "dossier" / name

    def log_of(self, name: str) -> str:
        return (self.root / "journaux" / f"{name}.log").read_text(encoding="utf-8")

    def written(self, topic: str) -> int:
        """What the log holds of that topic, the file in entries, the brokers in bytes: grows with every record, before
        it is acknowledged."""
        if self.cluster is not None:
            return sum(path.stat().st_size for path in self.log_files() if path.parent.name == f"{topic}-0")
        with closing(sqlite3.connect(f"file:{self.gateway_folder / 'log.db'}?mode=ro", uri=True)) as log:
            found = log.execute("SELECT next FROM topic WHERE name = ?", (topic,)).fetchone()
        return 0 if found is None else int(found[0])

    def log_files(self) -> list[Path]:
        """Where the log's records stand."""
        if self.cluster is None:
            return sorted(self.gateway_folder.glob("log.db*"))
        return sorted((self.cluster.node_folder(1) / "data").glob("bi.*/*.log"))

    @property
    def registry(self) -> Registry:
        return held(self.registry_folder).registry

    def keys(self, agency: str) -> Keys:
        return read_keys(self.folder(agency) / "keys.json")

    # -- processes ----------------------------------------------------------------------------------------------------

    def make_topics(self) -> None:
        """What an administrator of Kafka does after every change of the registry; the file's gateway does it itself."""
        if self.cluster is not None:
            asyncio.run(kafka_admin.apply(self.cluster.access(ADMIN), self.registry, nodes=1))

    def _enrol(self, member: Member) -> None:
        request = init_agency(
            self.folder(member.id),
            agency=member.id,
            gateway=self.address,
            registry_root=self.root_key,
            gateway_agency="bi/operator",
            names={"fr": f"Agence {member.name} (inventée)"},
            roles=member.roles,
            protected=member.protected,
            kobo_to=member.kobo_to,
            quick=True,
        )
        if not member.folder:
            settings = self.folder(member.id) / "agency.toml"
            settings.write_text(settings.read_text().replace('folder = "dossier"\n', ""))
        add_agency(self.registry_folder, read_enrolment(request))
        self.members[member.id] = member

    def _start(self, name: str, command: Sequence[str], more: Mapping[str, str], clock_s: float = 0.0) -> None:
        logs = self.root / "journaux"
        logs.mkdir(exist_ok=True)
        said = logs / f"{name}.log"
        if not clock_s:
            self.processes[name] = Umuhuza(*command, said=said, environment=environment(**more))
            return
        program = [sys.executable, str(Path(__file__).with_name("wrong_clock.py")), str(clock_s), *command]
        with said.open("ab") as log:
            self.processes[name] = subprocess.Popen(program, stdout=log, stderr=log, env=environment(**more))

    def start_gateway(self) -> None:
        """On the port it had before, if it ran before. Returns once it answers."""
        ready = self.gateway_folder / "adresse"
        ready.unlink(missing_ok=True)
        port = self.address.rpartition(":")[2] or "0"
        command = ["gateway", "run", "--dir", str(self.gateway_folder), "--port", port, "--ready-file", str(ready)]
        self._start("passerelle", command, self.gateway_settings)
        self.address = until("the gateway is ready", lambda: self._ready("passerelle", ready)).strip()

    def start_agency(self, agency: str, *, clock_s: float = 0.0, connected: bool = True, **more: str) -> None:
        """Start an agency's adapter, with a clock that is wrong by `clock_s`. Returns once it is connected, or at once
        where `connected` is not asked for."""
        ready = self.folder(agency) / "relie"
        ready.unlink(missing_ok=True)
        name = self.members[agency].name
        command = ["agency", "run", "--dir", str(self.folder(agency)), "--ready-file", str(ready)]
        self._start(name, command, more, clock_s)
        if connected:
            until(f"{agency} is connected", lambda: self._ready(name, ready))

    def _ready(self, name: str, file: Path) -> str:
        assert self.processes[name].poll() is None, f"{name} ended: {self.log_of(name)[-2000:]}"
        return file.read_text() if file.exists() else ""

    def kill(self, name: str) -> None:
        """SIGKILL, at once."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} does not end on SIGTERM") from None

    def end(self) -> None:
        """End every process by its own id, agencies before the gateway."""
        running = list(reversed(self.processes.values()))
        self.processes.clear()
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # -- looking ------------------------------------------------------------------------------------------------------

    @contextmanager
    def box(self, agency: str) -> Iterator[Mailbox]:
        box = Mailbox.open(self.folder(agency) / "mailbox.db")
        try:
            yield box
        finally:
            box.close()

    def outbox(self, agency: str) -> list[Outgoing]:
        """What it sends, without receipts and words about chains."""
        with self.box(agency) as box:
            return [item for item in box.outbox() if item.kind != "control"]

    def inbox(self, agency: str, iss: str | None = None) -> list[Incoming]:
        """What has arrived, without receipts."""
        with self.box(agency) as box:
            came = [item for item in box.arrivals.all() if iss in (None, item.iss)]
            return [item for item in came if not item.type.startswith("receipt.")]

    def metrics(self) -> str:
        answer = httpx2.get(f"{self.address}/metrics", trust_env=False)
        assert answer.status_code == 200
        return answer.text

    # -- what people do -----------------------------------------------------------------------------------------------

    def drop(self, agency: str, name: str, data: bytes, folder: str = "dossier/a-envoyer") -> None:
        """As a careful program does: written under another name, then renamed."""
        where = self.folder(agency) / folder
        where.mkdir(parents=True, exist_ok=True)
        part = where / f"{name}.part"
        part.write_bytes(data)
        part.rename(where / name)

    def report(self, agency: str, name: str) -> str:
        """The report of a dropped file as text: a line per row, cells separated by ` | `. Returns once the file is
        where it belongs, which comes last: after the report and the rows to correct."""
        path = self.watched(agency, "rapports") / f"{name}.rapport.xlsx"
        until(f"the report of {name}", path.exists)
        until(f"{name} is moved", lambda: not any(self.watched(agency, "a-envoyer").glob(f"{name}.*")))
        return words_of(path)

    def watch_registry(self, agency: str) -> RegistryFile:
        """The agency's own copy."""
        return RegistryFile(self.folder(agency) / "registry.json", registry_pin(self.root_key), time.monotonic)


def words_of(path: Path, sheet: int = 0) -> str:
    """A sheet as text: a line per row, cells separated by ` | `, unbreakable spaces as spaces."""
    found = load_workbook(path).worksheets[sheet]
    lines = [["" if cell is None else str(cell) for cell in line] for line in found.iter_rows(values_only=True)]
    return "\n".join(" | ".join(line) for line in lines).replace("\xa0", " ").replace("\u202f", " ")


def day(days: int = 0) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%d/%m/%Y")


def referral(name: str, to: str = "bi/k7t4", **changes: str) -> dict[str, str]:
    """A row of the form that is good as it is."""
    return {
        "destinataire": to,
        "priorite": "urgent",
        "nom_donne": name,
        "prs_Birthdate": "17/05/1999",
        "prs_Gender": "Feminine",
        "services": "SocialCare; Health",
        "motif": "Hébergement demandé par la personne.",
        "base": "consent",
        "consentement_date": day(-1),
        "consentement_fin": day(180),
        "consentement_forme": "signature",
        "con_Consent": "true",
        **changes,
    }


def workbook(rows: Sequence[Mapping[str, str]], recipients: Sequence[str] = ("bi/k7t4", "bi/iom")) -> bytes:
    """The form « Orientation », filled in."""
    book = io.BytesIO()
    sheet_of = paper.new_paper(book)
    filled: dict[Form, Sequence[Mapping[str, str]]] = {"Orientation": rows, "Dossier": ()}
    for form in FORMS:
        write_form(sheet_of, form, [(one, one) for one in recipients], "fr", rows=filled[form])
    sheet_of.book.close()
    return book.getvalue()
