# SPDX-License-Identifier: Apache-2.0
"""What a referral costs on a shelter's link, byte by byte: `umuhuza bench --part link`.

A domain in a folder: gateway and ledger are processes of their own, with a witness; two agencies run in this one as
`umuhuza agency run` runs them, the shelter over a link that counts (`umuhuza.measured_link`), with TLS 1.3, the other
without. One after another, referrals are sent to the shelter, which says that it has received and accepts them;
the measure ends when both sides have their receipts and the ledger's are signed by the witness.

A `long` referral is one as a caseworker writes it who knows much (5.4 KB, padded to 16), a `short` one what a shelter
has to know (3.3 KB, padded to 4).

An accepted referral on the shelter's link is: the request and its keys down, received, accepted and the receipt of the
request up, a promise for each, the receipts of both answers down, and the ledger's receipts. Polls that brought nothing
are told apart, per hour, since they cost the same whether anybody is referred or not.

Everybody in here is invented. Must never: leave a process or a file behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.connectors.contract import Batch, Draft
from adapters.outbox import Outbox
from adapters.receipt_book import ReceiptBook
from adapters.settings import AgencySettings
from schemas import forms
from schemas.errors import UmuhuzaError
from schemas.registry import Agency
from topics.witness_folder import PUBLIC_FILE, read_note_keys
from umuhuza.agency import AgencyParts, opened_agency, run_agency
from umuhuza.agency_command import init_agency
from umuhuza.bench_agency import referral
from umuhuza.gateway_command import init_gateway
from umuhuza.kafka.certificates import Authority
from umuhuza.ledger_command import PUBLIC_FILE as LEDGER_PUBLIC_FILE
from umuhuza.ledger_command import init_ledger
from umuhuza.measured_link import Counted, MeasuredLink
from umuhuza.registry_holder import add_agencies, init_registry, read_enrolment
from umuhuza.witness_command import add_log, make_witness, trust

SENDER, SHELTER = "bi/iom", "bi/k7t4"
READY_S = 60.0
REFERRED_S = 120.0
WAIT_S = 3.0
RECEIPTS_S = 5.0
_IDLE_S = 2.5 * WAIT_S
_WAYS = {
    "/v1/records": "publish",
    "/v1/mailbox": "mailbox",
    "/v1/receipts": "ledger_receipts",
    "/v1/token": "tokens",
    "/v1/grants": "grants",
}
"""Where what an exchange carried belongs; all else is `registry`: registry, heads, objections."""


@contextlib.contextmanager
def _running(folder: Path, name: str, *command: str) -> Iterator[str]:
    """A process of ours and the address that it wrote once it was ready. Raises RuntimeError."""
    ready = folder / f"{name}.ready"
    process = subprocess.Popen(
        [sys.executable, "-m", "umuhuza", *command, "--ready-file", str(ready)], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + READY_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start")
            time.sleep(0.02)
        yield ready.read_text(encoding="ascii").strip()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class _Domain:
    folder: Path

    def __post_init__(self) -> None:
        self.gateway, self.ledger = self.folder / "gateway", self.folder / "ledger"
        _, root = init_registry(self.folder / "registry", "bi", False)
        self.root_key = root.text
        self.operator = init_gateway(
            self.gateway,
            agency="bi/operator",
            registry=(self.folder / "registry" / "registry.json").resolve(),
            registry_root=self.root_key,
            host="127.0.0.1",
            port=0,
        )
        add_agencies(self.folder / "registry", [self.operator])
        init_ledger(self.ledger, self.gateway, port=0)
        make_witness(self.gateway / "witness", "bi.umuhuza/witness")
        add_log(self.gateway / "witness", read_note_keys(self.ledger / LEDGER_PUBLIC_FILE))
        with (self.gateway / "gateway.toml").open("a", encoding="utf-8") as out:
            out.write('witness = "witness"\ncheckers = 0\nlog_requests = false\n')
        with (self.ledger / "ledger.toml").open("a", encoding="utf-8") as out:
            out.write("witness_seconds = 1\n")

    def believe(self, gateway: str) -> None:
        """The ledger's checkpoints need the witness's signature."""
        keys = read_note_keys(self.gateway / "witness" / PUBLIC_FILE)
        trust(self.ledger, self.ledger / LEDGER_PUBLIC_FILE, "bi", keys, f"{gateway}/v1/witness")

    def agency(self, name: str, gateway: str, settings: str) -> tuple[Path, Agency]:
        folder = self.folder / name.rpartition("/")[2]
        request = init_agency(
            folder,
            agency=name,
            gateway=gateway,
            registry_root=self.root_key,
            gateway_agency="bi/operator",
            names={"fr": "Agence inventée"},
            roles=("assistance", "shelter") if name == SHELTER else ("assistance",),
            protected=name == SHELTER,
            kobo_to=None,
        )
        with (folder / "agency.toml").open("a", encoding="utf-8") as out:
            out.write(settings)
        return folder, read_enrolment(request)


@dataclass
class _AtWork:
    parts: AgencyParts
    troubles: list[str] = field(default_factory=list)

    def draft(self, source: str, to: str, type: str, facts: forms.Facts, thread: str | None = None) -> str:
        [outcome] = Outbox(self.parts.desk).accept(
            Batch(source, "bench", (Draft("1", to, type, None, thread, facts),)), ""
        )
        if outcome.evt is None:
            raise RuntimeError("the referral was not taken")
        return outcome.evt

    def delivered(self, evts: list[str]) -> bool:
        items = [self.parts.mailbox.outgoing(evt) for evt in evts]
        return all(item is not None and item.state == "delivered" for item in items)

    def receipted(self) -> bool:
        """The ledger's receipts of all that was promised are final."""
        return not ReceiptBook(self.parts.mailbox).due()


@contextlib.asynccontextmanager
async def _at_work(folder: Path) -> AsyncIterator[_AtWork]:
    with opened_agency(folder) as parts:
        agency, stop, ready = _AtWork(parts), asyncio.Event(), asyncio.Event()

        def trouble(turn: str, exc: UmuhuzaError) -> None:
            agency.troubles.append(f"{turn}: {exc.code}")

        running = asyncio.create_task(run_agency(parts, stop, trouble, ready.set))
        try:
            async with asyncio.timeout(READY_S):
                await ready.wait()
            yield agency
        finally:
            stop.set()
            await running


def _short(at: datetime) -> forms.Facts:
    """The least that a shelter has to know; 3.3 KB, which is padded to 4."""
    asked = referral(at)
    assert asked.referral is not None
    return forms.Facts(
        occurred_at=asked.occurred_at,
        lawful=asked.lawful,
        referral=forms.Referral(
            priority="urgent",
            name=asked.referral.name,
            birth=forms.Birth(precision="year", date="1999"),
            services=("SocialCare",),
        ),
    )


async def _until(what: Callable[[], bool], agencies: tuple[_AtWork, ...]) -> None:
    deadline = time.monotonic() + REFERRED_S
    while not what():
        if time.monotonic() > deadline:
            raise RuntimeError("; ".join(dict.fromkeys(one for agency in agencies for one in agency.troubles)))
        await asyncio.sleep(0.1)


async def _referred(number: str, length: str, sender: _AtWork, shelter: _AtWork) -> None:
    """One referral, received and accepted, until nothing more is owed to anybody."""
    at = datetime.now(UTC).replace(microsecond=0)
    facts = referral(at) if length == "long" else _short(at)
    evt = sender.draft(f"request {number}", SHELTER, "referral.requested", facts)
    ident = f"{SENDER}/{evt}"
    await _until(lambda: shelter.parts.mailbox.arrivals.of(ident) is not None, (sender, shelter))
    came = shelter.parts.mailbox.arrivals.of(ident)
    assert came is not None
    answers = [
        shelter.draft(f"{type} {number}", SENDER, type, forms.Facts(occurred_at=at), came.thread)
        for type in ("referral.received", "referral.accepted")
    ]
    await _until(
        lambda: sender.delivered([evt]) and shelter.delivered(answers) and shelter.receipted(), (sender, shelter)
    )


def _parts(counted: Counted) -> dict[str, int]:
    """Bytes by what they were, polls that brought nothing left out."""
    found: Counter[str] = Counter()
    for one in counted.exchanges:
        name = _WAYS.get(one.path, "registry")
        if name == "mailbox" and not one.down_body:
            continue
        if name == "publish":
            found["records_up"] += one.up_body
            found["promises"] += one.down_body
        elif name == "mailbox":
            found["records_down"] += one.down_body
        else:
            found[name] += one.up_body + one.down_body
        found["http_heads"] += one.up + one.down - one.up_body - one.down_body
    return dict(found)


def _empty_polls(counted: Counted) -> list[int]:
    return [one.up + one.down for one in counted.exchanges if one.path == "/v1/mailbox" and not one.down_body]


async def _measured(folder: Path, gateway: str, domain: _Domain, referrals: int) -> dict[str, Any]:
    vouching = Authority.make("bench", time.time())
    issued = vouching.node(1, ["127.0.0.1"], time.time())
    chain, key, authority = folder / "chain.pem", folder / "key.pem", folder / "ca.pem"
    chain.write_bytes(issued.certificate + vouching.pem)
    key.write_bytes(issued.key)
    authority.write_bytes(vouching.pem)
    link = MeasuredLink(int(gateway.rpartition(":")[2]), chain, key)
    async with link.open() as address:
        settings = (
            f'trust = "{domain.ledger / "witnesses.policy"}"\n'
            f"receipt_seconds = {RECEIPTS_S}\nwait_seconds = {WAIT_S}\ncollect_seconds = 60\n"
        )
        folders = {}
        members = []
        for name, where, more in ((SENDER, gateway, ""), (SHELTER, address, f'ca_file = "{authority}"\n')):
            folders[name], member = domain.agency(name, where, settings + more)
            members.append(member)
        await asyncio.to_thread(add_agencies, folder / "registry", members)
        async with _at_work(folders[SENDER]) as sender, _at_work(folders[SHELTER]) as shelter:
            await _referred("first", "long", sender, shelter)  # with the first of everything
            first = link.counted.copy()
            await asyncio.sleep(_IDLE_S)
            quiet = link.counted.since(first)
            found = {}
            for length in ("short", "long"):
                before = link.counted.copy()
                for number in range(referrals):
                    await _referred(f"{length} {number}", length, sender, shelter)
                found[length] = link.counted.since(before)
    return _told(first, quiet, found, referrals)


_RECORD = 22
"""What TLS 1.3 adds to each of its records."""


def _per_referral(counted: Counted, referrals: int) -> dict[str, Any]:
    parts = _parts(counted)
    parts["tls"] = max(counted.tls - 2 * _RECORD * len(_empty_polls(counted)), 0)
    shares = {name: round(size / referrals) for name, size in sorted(parts.items(), key=lambda one: -one[1])}
    return {
        "bytes": sum(shares.values()),
        "of_these": shares,
        "tcp_ip_headers_reckoned": round(counted.tcp_ip / referrals),
        "connections": counted.connections,
    }


def _told(first: Counted, quiet: Counted, found: dict[str, Counted], referrals: int) -> dict[str, Any]:
    polls = _empty_polls(quiet)
    poll = round(sum(polls) / max(len(polls), 1)) + 2 * _RECORD
    usual = AgencySettings.model_fields["wait_seconds"].default
    return {
        "ok": True,
        "link": {
            "accepted_referral": {length: _per_referral(counted, referrals) for length, counted in found.items()},
            "first_contact_with_a_long_one": first.total,
            "empty_poll": poll,
            "idle_bytes_per_hour": round(3600 / usual * poll),
        },
        "referrals": 2 * referrals,
    }


def measure_link(folder: Path, referrals: int) -> dict[str, Any]:
    """Bytes on the shelter's link per accepted referral, by what they carry; so many short ones, and as many long.

    Raises RuntimeError: something did not start, or a referral did not arrive.
    """
    domain = _Domain(folder)
    with _running(folder, "gateway", "gateway", "run", "--dir", str(domain.gateway)) as gateway:
        domain.believe(gateway)
        with _running(folder, "ledger", "ledger", "run", "--dir", str(domain.ledger)):
            return asyncio.run(_measured(folder, gateway, domain, referrals))
