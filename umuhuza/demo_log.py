# SPDX-License-Identifier: Apache-2.0
"""The log of `umuhuza demo`: one SQLite file, or an Apache Kafka broker of its own that lives as long as the story.

Invariant: whatever `begin` started is ended by `end`, also when `begin` itself was interrupted or failed. The broker is
ended by its own identity; its data stays in the demo's folder.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, Protocol

from schemas.keys import b64url
from schemas.registry import Registry
from topics.log import Log, Stored
from topics.sqlite_log import SqliteLog
from umuhuza.children import unhurried
from umuhuza.kafka import artefacts
from umuhuza.kafka.certificates import ADMIN
from umuhuza.kafka.cluster import Cluster
from umuhuza.kafka_command import shown_way
from umuhuza.words import t

OPERATOR = "bi/operator"
KEEPER = "bi/ledger"
"""Of the ledger: as this it comes to Kafka."""
DIRECT = "bi/min-solidarity"
"""Reads its mailbox from the brokers itself, when there are any. It awaits no answer: how late one is would be decided
by the brokers' own clock."""
_QUICK = ("-XX:TieredStopAtLevel=1",)
"""Java compiles quickly rather than well: half the time to start, for a broker that lives for a minute."""

Tell = Callable[[str, str, str], None]
"""Called with (French, English, detail) when a step of the story is done."""


class DemoLog(Protocol):
    """Where the demo's records stand."""

    name: str

    def begin(self, tell: Tell) -> None:
        """Start what the gateway needs. Raises KafkaMissingError."""

    def for_gateway(self) -> Path | None:
        """Folder with what the gateway needs to reach Kafka; None: it keeps its own file."""

    def for_ledger(self) -> Path | None:
        """The same for whoever keeps the ledger."""

    def know(self, registry: Registry) -> None:
        """Make room for these agencies, and give them their rights."""

    def settle_in(self, agency: str, folder: Path) -> None:
        """Let an agency that was just enrolled come to the log itself, where that is shown."""

    def connected(self, tell: Tell) -> None:
        """Say what is worth saying once all agencies are connected."""

    def trouble(self) -> str | None:
        """What ended that should run, for a person; None when all is well."""

    async def entries(self, topics: Iterable[str]) -> list[Stored]:
        """Every record that stands in these topics, once."""

    def end(self) -> None:
        """End what `begin` started. Idempotent."""


class InFile:
    """One SQLite file, which the gateway makes."""

    name = "sqlite"

    def __init__(self, root: Path) -> None:
        self._file = root / "passerelle" / "log.db"

    def begin(self, tell: Tell) -> None:
        """Nothing has to run."""

    def for_gateway(self) -> Path | None:
        return None

    def for_ledger(self) -> Path | None:
        return None

    def know(self, registry: Registry) -> None:
        """The gateway makes the topics."""

    def settle_in(self, agency: str, folder: Path) -> None:
        """Everybody goes through the gateway."""

    def connected(self, tell: Tell) -> None:
        """Nothing more to say."""

    def trouble(self) -> str | None:
        return None

    async def entries(self, topics: Iterable[str]) -> list[Stored]:
        log = SqliteLog.open(
            str(self._file),
            create=False,
            clock_ms=lambda: int(time.time() * 1000),
            random_id=lambda: b64url(os.urandom(12)),
        )
        try:
            return await _all_of(log, topics)
        finally:
            await log.close()

    def end(self) -> None:
        """Nothing runs."""


class OnKafka:
    """A broker in the demo's folder, with its own authority, certificates and free ports."""

    name = "kafka"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cluster: Cluster | None = None
        self._made = self._allowed = 0

    @property
    def _running(self) -> Cluster:
        assert self._cluster is not None, "begin comes first"
        return self._cluster

    def begin(self, tell: Tell) -> None:
        with shown_way() as (told, arrived):
            # First what may take minutes and starts nothing.
            artefacts.find_java()
            artefacts.resolve(arrived, told)
            cluster = self._cluster = Cluster.open_or_make(self._root / "kafka", 1, java_options=_QUICK)
            told("Apache Kafka démarre.", "Apache Kafka starts.")
            with unhurried():
                cluster.start_node(1, wait=False)
            cluster.wait(cluster.nodes)
        handed = self.for_gateway()
        handed.parent.mkdir(mode=0o700)
        cluster.hand_over(OPERATOR, handed)
        cluster.hand_over(KEEPER, self.for_ledger())
        version = artefacts.version()
        tell(
            f"Apache Kafka {version} est en marche : chacun y vient avec son certificat, et n'y peut que ce que le "
            "registre donne.",
            f"Apache Kafka {version} is up: everybody comes with a certificate, and may do there only what the "
            "registry gives.",
            ",".join(cluster.bootstrap),
        )

    def for_gateway(self) -> Path:
        return self._root / "passerelle" / "kafka"

    def for_ledger(self) -> Path:
        return self._root / "passerelle" / "kafka-registre"

    def know(self, registry: Registry) -> None:
        # The Kafka library takes a second to import; only here is it needed.
        from topics.kafka_admin import apply

        cluster = self._running
        applied = asyncio.run(apply(cluster.access(ADMIN), registry, nodes=len(cluster.nodes)))
        self._made += len(applied.created)
        self._allowed += len(applied.allowed)

    def settle_in(self, agency: str, folder: Path) -> None:
        if agency != DIRECT:
            return
        self._running.hand_over(agency, folder / "kafka")
        with (folder / "agency.toml").open("a", encoding="utf-8") as settings:
            settings.write('kafka = "kafka"\n')

    def connected(self, tell: Tell) -> None:
        tell(
            "Le ministère lit sa boîte directement sur Kafka, avec son propre certificat ; les autres par la "
            "passerelle.",
            "The ministry reads its mailbox from Kafka itself, with its own certificate; the others through the "
            "gateway.",
            t(
                f"{self._made} sujets, {self._allowed} droits d'après le registre",
                f"{self._made} topics, {self._allowed} rights from the registry",
            ),
        )

    def trouble(self) -> str | None:
        if self._cluster is None or self._cluster.pid(1) is not None:
            return None
        return f"{t('Kafka est terminé', 'Kafka ended')}; {self._cluster.node_folder(1) / 'logs' / 'server.log'}"

    async def entries(self, topics: Iterable[str]) -> list[Stored]:
        from topics.kafka_log import KafkaLog

        log = await KafkaLog.open(
            self._running.access(OPERATOR), domain="bi", view=None, random_id=lambda: b64url(os.urandom(12))
        )
        try:
            return await _all_of(log, topics)
        finally:
            await log.close()

    def end(self) -> None:
        if self._cluster is not None:
            self._cluster.stop()


async def _all_of(log: Log, topics: Iterable[str]) -> list[Stored]:
    entries: dict[str, Stored] = {}
    for topic in topics:
        after = -1
        while found := await log.read(topic, after):
            entries |= {stored.ident: stored for stored in found if stored.ident not in entries}
            after = found[-1].offset
    return list(entries.values())


def demo_log(name: Literal["sqlite", "kafka"], root: Path) -> DemoLog:
    """The log of that name, not begun."""
    return OnKafka(root) if name == "kafka" else InFile(root)
