# SPDX-License-Identifier: Apache-2.0
"""Where `umuhuza demo` is played: two countries; in one a registry, a gateway and seven agencies, each a process of its
own, in the other what a border needs (`umuhuza.demo_neighbour`).

Everything is as in the field: own keys, own mailbox, own folder, `umuhuza agency run`. Two things are not, and the
registries say so to everybody (domains for training): the gateway's clock (`umuhuza.demo_clock`), and that all of it is
on one machine.

Invariants: `end` ends every process that was started, whatever was interrupted; what a scene shows was read in the
mailboxes, in the log or in files, never assumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adapters.connectors.contract import Batch, Draft, Outcome
from adapters.mailbox import Mailbox
from adapters.mailbox_rows import Incoming, Thread
from adapters.outbox import Outbox
from schemas.events import Opened
from schemas.forms import Facts
from schemas.registry import Registry, Role
from topics.catalogue import mailboxes_of, outgoing_of
from umuhuza import demo_clock, demo_neighbour
from umuhuza.agency import AgencyParts, opened_agency
from umuhuza.agency_command import init_agency
from umuhuza.children import Children, command, unhurried
from umuhuza.demo_clock import DemoClock
from umuhuza.demo_log import OPERATOR, DemoLog
from umuhuza.demo_neighbour import ABROAD, GATEWAY, INLCTP
from umuhuza.gateway_command import init_gateway
from umuhuza.ledger_command import init_ledger
from umuhuza.paired_domains import furnish
from umuhuza.registry_holder import add_agency, held, init_registry, read_enrolment
from umuhuza.witness_command import make_witness
from umuhuza.words import t

WAIT_S = 120.0
ZONE = ZoneInfo("Africa/Bujumbura")
HOURS_AGO = 4 + 20 / 60
"""The story begins so long before it is told."""
LOGS = "journaux"
_T = TypeVar("_T")


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
    Member("bi/health", "health", "Centre de santé (inventé)", "Health centre (invented)", ("assistance", "clinic")),
    Member(
        "bi/ccsprtp",
        "ccsprtp",
        "Commission nationale (inventée)",
        "National commission (invented)",
        ("coordination", "focal-point"),
    ),
    Member("bi/k7t4", "k7t4", "Lieu protégé", "Protected place", ("assistance", "shelter"), protected=True),
    Member("bi/r5w2", "r5w2", "Lieu protégé", "Protected place", ("assistance", "shelter"), protected=True),
)
AGENCIES = (*(member.id for member in MEMBERS), INLCTP)
"""Of both countries."""


class DemoError(Exception):
    """The story did not go on; the text says at which point, and where to look."""


@dataclass
class Stage:
    """The folder, the running processes, and the narrator."""

    root: Path
    console: Console
    log: DemoLog
    address: str = ""
    root_key: str = ""
    registry: Registry | None = None
    proofs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Scene -> what it showed, and how many seconds it took."""
    steps: int = 0
    _said: int = 0

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def __post_init__(self) -> None:
        self.clock = DemoClock(self.root)
        self.children = Children(self.root / LOGS)
        self.home = demo_neighbour.domain_folders(self.root, "bi")
        self.abroad = demo_neighbour.domain_folders(self.root / ABROAD, "tn")

    @property
    def members(self) -> Registry:
        if self.registry is None:
            raise DemoError("registry")
        return self.registry

    # -- processes ----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """End every process by its own id: agencies, then the gateway, then what the log needed."""
        self.children.end()
        with unhurried():
            self.log.end()

    def start(self, name: str, *arguments: str) -> None:
        """`umuhuza ARGUMENTS` as a process of its own."""
        self.children.start(name, command(*arguments))

    def run_agency(self, agency: str) -> None:
        """Start its adapter; it is connected when its file `relie` is there."""
        folder = self.folder(agency)
        (folder / "relie").unlink(missing_ok=True)
        self.start(folder.name, "agency", "run", "--dir", str(folder), "--ready-file", str(folder / "relie"))

    def connected(self, agency: str) -> None:
        self.until(agency, (self.folder(agency) / "relie").exists)

    def power_cut(self, agency: str) -> None:
        """Its process ends at once, in the middle of whatever it does."""
        self.children.kill(self.folder(agency).name)

    def until(self, what: str, seen: Callable[[], _T | None]) -> _T:
        """Wait until `seen` gives something. Raises DemoError after two minutes, or when a process has died."""
        deadline = time.monotonic() + WAIT_S
        while True:
            found = seen()
            if found:
                return found
            name = self.children.ended()
            if name is not None:
                raise DemoError(f"{name}: {t('processus terminé', 'process ended')}; {LOGS}/{name}.log")
            trouble = self.log.trouble()
            if trouble is not None:
                raise DemoError(trouble)
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{what}: {t('rien en deux minutes', 'nothing within two minutes')}; {self.root}/{LOGS}"
                )
            time.sleep(0.05)

    def folder(self, agency: str) -> Path:
        if agency == INLCTP:
            return self.root / ABROAD / "inlctp"
        return self.root / next(member.folder for member in MEMBERS if member.id == agency)

    # -- telling ------------------------------------------------------------------------------------------------------

    @contextmanager
    def scene(self, name: str) -> Iterator[dict[str, Any]]:
        """One scene: what it proves goes into the dictionary; its seconds are added."""
        proof: dict[str, Any] = {}
        begun = time.monotonic()
        yield proof
        self.proofs[name] = {**proof, "seconds": round(time.monotonic() - begun, 1)}

    def tell(self, fr: str, en: str, detail: str = "") -> None:
        """The next step of the story; `detail`: where to look."""
        self.steps += 1
        at = self.today().strftime("%H:%M")
        line = Table.grid(padding=(0, 1))
        line.add_row(Text(f"{self.steps:>2}", style="bold cyan"), Text(at, style="dim"), Text(t(fr, en)))
        self.console.print(line)
        if detail:
            self.note(detail)

    def note(self, text: str, style: str = "dim") -> None:
        """A line under the step, as it is."""
        for line in text.splitlines():
            self.show(Text(line, style=style))

    def show(self, text: Text) -> None:
        """The same for a text with styles of its own."""
        self.console.print(Padding(text, (0, 0, 0, 9)))

    # -- looking into the agencies' mailboxes, and working there ------------------------------------------------------

    def today(self) -> datetime:
        """The story's time, in the agencies' zone."""
        return datetime.fromtimestamp(int(self.clock()), ZONE)

    def mailbox(self, agency: str) -> Mailbox:
        return Mailbox.open(self.folder(agency) / "mailbox.db")

    @contextmanager
    def desk(self, agency: str) -> Iterator[AgencyParts]:
        """The agency as one of its own commands opens it, beside its running adapter, at the story's time."""
        with opened_agency(self.folder(agency)) as parts:
            parts.clock_offset_s = lambda: self.clock.ahead
            yield parts

    def everything(self, agency: str) -> list[Incoming]:
        """All that has come to the agency, in the order in which it came."""
        box = self.mailbox(agency)
        try:
            return box.arrivals.all()
        finally:
            box.close()

    def topics(self) -> list[str]:
        """Every mailbox of the domain, and those in which it hosts what goes over the border."""
        own = [topic for agency in self.members.agencies.values() for topic in mailboxes_of(agency)]
        return [*own, *outgoing_of(self.members)]

    def inbox(self, agency: str, type_: str) -> list[Incoming]:
        """What has been handed over to the agency of that type."""
        return [item for item in self.everything(agency) if item.type == type_ and item.state == "delivered"]

    def arrived(self, agency: str, type_: str) -> Incoming:
        """Waits for the first of that type."""
        return self.until(f"{agency} {type_}", lambda: next(iter(self.inbox(agency, type_)), None))

    def opened(self, agency: str, item: Incoming) -> Opened:
        """What the agency reads in it, with its own key."""
        with self.desk(agency) as parts:
            return parts.inbox().opened(item)

    def threads(self, agency: str) -> list[Thread]:
        box = self.mailbox(agency)
        try:
            return box.threads()
        finally:
            box.close()

    def state(self, agency: str, thread: str) -> str | None:
        return next((one.state for one in self.threads(agency) if one.id == thread), None)

    def is_in(self, state: str, thread: str, agency: str) -> bool:
        return self.state(agency, thread) == state

    def reaches(self, state: str, thread: str, *agencies: str) -> None:
        """Wait until the thread is in that state at these agencies."""
        for agency in agencies:
            self.until(f"{agency} {state}", partial(self.is_in, state, thread, agency))

    def offered(
        self,
        agency: str,
        to: str,
        type_: str,
        facts: Facts,
        *,
        thread: str | None = None,
        person: str | None = None,
        ref: str | None = None,
    ) -> Outcome:
        """One event into the agency's outbox, as `umuhuza agency send FILE.json` puts it, and what is said of it."""
        self._said += 1
        draft = Draft("1", to, type_, person, thread, facts, ref)
        with self.desk(agency) as parts:
            [outcome] = Outbox(parts.desk).accept(Batch(f"demo:{self._said}", "demo.json", (draft,)), "")
        return outcome

    def offer(
        self, agency: str, to: str, type_: str, facts: Facts, **more: str | None
    ) -> tuple[str | None, str | None]:
        """As `offered`: its evt, or why it was refused."""
        outcome = self.offered(agency, to, type_, facts, **more)
        return outcome.evt, None if outcome.problem is None else outcome.problem.code

    def say(self, agency: str, to: str, type_: str, facts: Facts, **more: str | None) -> str:
        """As `offer`, and it must be accepted. Raises DemoError."""
        evt, code = self.offer(agency, to, type_, facts, **more)
        if evt is None:
            raise DemoError(f"{agency} {type_}: {code}")
        return evt

    def settled(self) -> bool:
        """Nothing is on its way any more: every item has its receipt, and who sent it was told; every receipt has its
        promise."""
        for agency in AGENCIES:
            box = self.mailbox(agency)
            try:
                for item in box.outbox():
                    machines = item.type.startswith(("receipt.", "chain."))  # nobody answers these
                    done = ("promised", "delivered") if machines else ("delivered", "refused", "rejected")
                    if item.state not in done or (item.connector and item.told != item.state):
                        return False
                if any(item.state in ("held", "ready") for item in box.arrivals.all()):
                    return False
            finally:
                box.close()
        return True


def prepare(stage: Stage) -> None:
    """Registries for training, a gateway whose clock is behind and its ledger, seven agencies enrolled and connected;
    the other country and the agreement with it. The stage's clock has been moved to when the story begins."""
    home = stage.home
    _, root = init_registry(home.registry, home.name, True)
    stage.root_key = root.text
    began = stage.clock()
    operator = init_gateway(
        home.gateway,
        agency=OPERATOR,
        registry=home.registry_file.resolve(),
        registry_root=stage.root_key,
        host="127.0.0.1",
        port=0,
        kafka=stage.log.for_gateway(),
        now=began,
    )
    add_agency(home.registry, operator)
    stage.log.know(held(home.registry).registry)
    init_ledger(home.ledger, home.gateway, port=0, kafka=stage.log.for_ledger())
    make_witness(home.witness, "bi.umuhuza/witness")
    furnish(home)
    stage.children.start(GATEWAY, partial(demo_clock.main, home.gateway, home.ready, stage.root))
    demo_neighbour.found_abroad(stage, began)
    stage.until(GATEWAY, home.ready.exists)
    stage.address = home.address
    demo_neighbour.start_watching(stage)
    for member in MEMBERS:
        request = init_agency(
            stage.root / member.folder,
            agency=member.id,
            gateway=stage.address,
            registry_root=stage.root_key,
            gateway_agency=OPERATOR,
            names={"fr": member.name_fr, "en": member.name_en},
            roles=member.roles,
            protected=member.protected,
            kobo_to=member.kobo_to,
            quick=True,
            now=began,
        )
        add_agency(home.registry, read_enrolment(request))
        stage.log.settle_in(member.id, stage.root / member.folder)
    stage.registry = demo_neighbour.open_border(stage)
    stage.log.know(stage.registry)
    for agency in AGENCIES:
        stage.run_agency(agency)
    for agency in AGENCIES:
        stage.connected(agency)
