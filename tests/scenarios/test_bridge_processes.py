# SPDX-License-Identifier: Apache-2.0
"""`umuhuza bridge run` and `status` as an operator has them: processes of their own, over files and over brokers."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.bad_link import BadLink
from tests.borders import NAME
from tests.domain import Domain, Signed
from tests.e2e.commands import PATIENCE_S, environment, until
from tests.forked import Umuhuza
from tests.kafka.conftest import kafka_cluster, second_cluster
from tests.two_countries import Both, opened
from topics.bridge_book import BOOK, BridgeBook
from topics.http_log import HttpLog
from topics.log import Stored
from umuhuza.kafka.cluster import Cluster

__all__ = ["kafka_cluster", "second_cluster"]

THERE = "bi.bilateral.ccsprtp"
RECORDS = 6


@pytest.fixture(params=["files to brokers", "brokers to brokers"])
def home(request: pytest.FixtureRequest) -> Cluster | None:
    """Tunisia's brokers; None: files. Burundi's log is always on its own."""
    if request.param == "files to brokers":
        return None
    cluster: Cluster = request.getfixturevalue("second_cluster")
    return cluster


@dataclass
class Site:
    """Both operators' folders, and what runs in them; ended with the test."""

    folder: Path
    burundi: Domain
    sent: list[Signed]
    running: list[Umuhuza] = field(default_factory=list)

    def command(self, name: str, *arguments: str) -> Umuhuza:
        process = Umuhuza(*arguments, said=self.folder / f"{name}.said", environment=environment("en"))
        self.running.append(process)
        return process

    def ready(self, name: str, process: Umuhuza, file: Path) -> str:
        def seen() -> str:
            assert process.poll() is None, (self.folder / f"{name}.said").read_text(encoding="utf-8")[-2000:]
            return file.read_text(encoding="ascii").strip() if file.exists() else ""

        return until(f"{name} is ready", seen)

    def gateway(self) -> str:
        """Burundi's; its address."""
        ready = self.folder / "bi" / "ready"
        ready.unlink(missing_ok=True)
        return self.ready("gateway", self.command("gateway", "gateway", "run", "--dir", str(self.folder / "bi")), ready)

    def bridge(self, url: str) -> Umuhuza:
        """Tunisia's, which goes on by itself."""
        ready = self.folder / "bridge.ready"
        ready.unlink(missing_ok=True)
        where = ("--gateway", str(self.folder / "tn"), "--port", "0", "--ready-file", str(ready), "--every", "0.2")
        return self.command("bridge", "bridge", "run", "bi", "--url", url, *where)

    def stopped(self, bridge: Umuhuza) -> int:
        """As a service manager ends it; its exit code."""
        bridge.send_signal(signal.SIGTERM)
        return bridge.wait(PATIENCE_S)

    def turned(self, bridge: Umuhuza) -> None:
        """Its first turn is done."""
        self.ready("bridge", bridge, self.folder / "bridge.ready")

    def status(self, country: str) -> tuple[int, dict[str, Any]]:
        """Exit code, and what it says of the one neighbour."""
        said = self.folder / "status.said"
        said.unlink(missing_ok=True)
        process = self.command("status", "bridge", "status", "--gateway", str(self.folder / country), "--json")
        code = process.wait(PATIENCE_S)
        told = orjson.loads(said.read_bytes().splitlines()[-1])
        [neighbour] = told["neighbours"]
        assert told["log"] is None
        return code, neighbour

    def promised(self) -> int:
        book = BridgeBook.open(self.folder / "tn" / "neighbours" / "bi" / BOOK)
        try:
            return book.counts().get("promised", 0)
        finally:
            book.close()

    def end(self) -> None:
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait(PATIENCE_S)


async def logged(site: Site, address: str) -> list[Stored]:
    """All that stands in Burundi's mailbox, as its owner reads it."""
    burundi, owner = site.burundi, site.burundi.members["bi/ccsprtp"]
    key = burundi.operator.sig.public
    log = HttpLog(address, "bi/ccsprtp", owner.sig, domain="bi", now=time.time, random=burundi.random, gateway_key=key)
    try:
        return await log.read(THERE, -1)
    finally:
        await log.close()


@pytest.fixture
def site(tmp_path: Path, home: Cluster | None, kafka_cluster: Cluster) -> Iterator[Site]:
    """Tunisia has logged six requests to Burundi, and in their midst one with a key of nobody's, past its gateway; its
    ledger has them all, cosigned. Nothing runs any more."""

    async def written() -> Site:
        async with opened(tmp_path, bi=kafka_cluster, tn=home) as both:
            tn = both.tn
            sent: list[Signed] = []
            for number in range(RECORDS):
                if number == 2:
                    await tn.log.append([_request(both, signer=tn.domain.root, chain=False).entry])
                sent.append(_request(both))
                await tn.send(sent[-1])
            await tn.ledger_turn()
            return Site(tmp_path, both.bi.domain, sent)

    made = asyncio.run(written())
    try:
        yield made
    finally:
        made.end()


def _request(both: Both, **more: Any) -> Signed:
    both.tn.domain.now = int(both.clock())
    return both.tn.domain.record("tn/inlctp", "bi/ccsprtp", "bilateral", agreement=NAME, **more)


def test_a_bridge_that_is_killed_and_started_again_carries_everything_once_and_tells_how_it_stands(site: Site) -> None:
    sent = [one.manifest.ident for one in site.sent]
    code, before = site.status("tn")
    assert (before["waiting"], before["promised"], before["heard"]) == (RECORDS + 1, 0, None)
    assert 0 <= before["waiting_s"] < 3600
    address = site.gateway()
    asyncio.run(_killed_on_its_way(site, address))
    bridge = site.bridge(address)
    site.turned(bridge)
    until("everything was promised", lambda: site.promised() == RECORDS)
    assert site.stopped(bridge) == 0

    code, told = site.status("tn")
    assert (code, told["code"], told["problem"], told["agreements"]) == (0, None, None, {NAME: True})
    assert (told["waiting"], told["waiting_s"], told["promised"], told["refused"]) == (0, None, RECORDS, 1)
    assert told["refusals"] == [{"topic": THERE, "code": "record_unlogged", "path": "home.proof"}]
    assert told["heard_age_s"] < 3600
    code, told = site.status("bi")
    assert (code, told["checkpoint"]) == (0, RECORDS + 2)  # with the registry's entry, and the refusal's
    assert 0 <= told["checkpoint_age_s"] < 3600
    assert [one.ident for one in asyncio.run(logged(site, address))] == sent, "each once, in order"

    again = site.bridge(address)  # a book that is whole: nothing is carried again
    site.turned(again)
    assert site.stopped(again) == 0
    assert (site.promised(), site.status("tn")[1]["refused"]) == (RECORDS, 1)
    assert len(asyncio.run(logged(site, address))) == RECORDS


@dataclass
class _Killer:
    """Kills a bridge on the first piece of a delivery that goes this way."""

    way: str
    bridge: Umuhuza | None = None
    delivering: bool = False

    def __call__(self, link: BadLink) -> None:
        way, data = link.piece
        self.delivering = self.delivering or b"POST /v1/bridge/records" in data
        if self.delivering and way == self.way and self.bridge is not None:
            self.bridge.kill()


async def _killed_on_its_way(site: Site, address: str) -> None:
    """SIGKILL once while the records go up, and once while the promise comes down: Burundi has logged them then, and
    nobody in Tunisia knows."""
    for way, logged_there in (("up", 0), ("down", RECORDS)):
        killer = _Killer(way)
        async with BadLink(int(address.rpartition(":")[2]), on_bytes=killer).open() as link:
            killer.bridge = site.bridge(link.address)
            assert await asyncio.to_thread(killer.bridge.wait, PATIENCE_S) == -signal.SIGKILL
        assert len(await logged(site, address)) == logged_there
        assert site.promised() == 0
