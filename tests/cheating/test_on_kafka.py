# SPDX-License-Identifier: Apache-2.0
"""The same ways of cheating by who administers the brokers: records removed from the start, a topic deleted and made
again, records written past the gateway and counted, records passed over, the ledger's own topic shortened. Each on a
real broker, in a mailbox of its own, and each is named.

One domain for the whole file: a broker's topics take seconds to make. What is found of other mailboxes is the other
tests'; the last one ends the ledger.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType

import pytest

from schemas.envelope import parse_record
from schemas.errors import LogError
from schemas.notes import Checkpoint, sign_checkpoint
from schemas.registry import Registry
from schemas.registry_trust import trusted
from tests.cheating.cheats import NO_WITNESS
from tests.domain import Domain, Signed
from tests.kafka.conftest import _shared, needs_kafka
from tests.topics.kafka_harness import random_id, run, wipe
from tests.topics.ledger_world import ORIGIN, SIGNERS, Registries
from topics import kafka_admin
from topics.audit import Report, audit
from topics.audit_domain import DomainSource
from topics.audit_findings import Held, Trust
from topics.catalogue import topics_of
from topics.kafka_catalogue import kafka_topic
from topics.kafka_clients import Clients
from topics.kafka_ledger import KafkaLedgerStore
from topics.kafka_log import KafkaLog
from topics.kafka_producer import Item
from topics.ledger import Sequencer
from topics.ledger_entries import Batch, LedgerEntry
from topics.ledger_view import LedgerView
from topics.proofs import leaf_hash
from topics.tiles import GrowingTree
from topics.topic_names import is_mailbox_topic, ledger_topic
from umuhuza.kafka.cluster import Cluster


@dataclass
class Brokers:
    """A domain on Kafka: what its gateway and its ledger do, and what an administrator can."""

    cluster: Cluster
    folder: Path
    domain: Domain = field(default_factory=Domain)

    def __post_init__(self) -> None:
        self.registries = Registries(self.domain)
        self._views = count()
        self._names = [name for name in topics_of(self.domain.registry) if is_mailbox_topic(name)]
        wipe(self.cluster.access("admin"))
        run(kafka_admin.apply(self.cluster.access("admin"), self.domain.registry, nodes=1))

    # ---------------------------------------------------------------- honestly

    def publish(self, *records: Signed) -> None:
        """As the gateway, with its certificate."""

        async def work() -> None:
            async with self._log("bi/operator") as log:
                answers = await log.append([one.entry for one in records])
                assert not any(isinstance(one, Exception) for one in answers), answers

        run(work())

    def sequence(self) -> None:
        """The ledger takes in what is there."""

        async def work() -> None:
            async with self._log("bi/ledger") as log:
                with self.store() as store:
                    path = self.folder / f"view-{next(self._views)}.db"
                    view = LedgerView.open(path, origin=ORIGIN, store_id=store.store_id)
                    clock = self.domain.now * 1000
                    sequencer = Sequencer(log, store, view, self.registries, now_ms=lambda: clock)
                    await sequencer.start()
                    while await sequencer.step():
                        """Until all is in."""
                    view.close()

        run(work())

    @asynccontextmanager
    async def _log(self, who: str) -> AsyncIterator[KafkaLog]:
        log = await KafkaLog.open(self.cluster.access(who), domain="bi", view=None, random_id=random_id)
        try:
            yield log
        finally:
            await log.close()

    @contextmanager
    def store(self) -> Iterator[KafkaLedgerStore]:
        store = KafkaLedgerStore.open(self.cluster.access("bi/ledger"), domain="bi")
        try:
            yield store
        finally:
            store.close()

    def leaves(self, gone: str) -> None:
        """The agency, from the registry; the brokers follow."""
        left = {name: one for name, one in self.domain.registry.agencies.items() if name != gone}
        self.domain.registry = replace(self.domain.registry.renewed(self.domain.now), agencies=MappingProxyType(left))
        run(kafka_admin.apply(self.cluster.access("admin"), self.domain.registry, nodes=1))

    # ---------------------------------------------------------------- as an administrator

    @contextmanager
    def admin(self) -> Iterator[Clients]:
        clients = Clients(self.cluster.access("admin"))
        try:
            yield clients
        finally:
            clients.close_producer()
            clients.close()

    def entered(self, *lies: LedgerEntry) -> None:
        """The ledger's operator helps: these entries, in a batch that follows."""
        with self._sources() as source:
            tree = grown(source().entries(0))
        before, first = tree.root(), tree.size
        encoded = [one.encode() for one in lies]
        for one in encoded:
            tree.append(leaf_hash(one))
        with self.store() as store:
            store.append(Batch(first, before, encoded), tree.root())

    # ---------------------------------------------------------------- auditing

    @contextmanager
    def _sources(self) -> Iterator[Callable[..., DomainSource]]:
        with asyncio.Runner() as loop, self.store() as store:
            log = loop.run(KafkaLog.open(self.cluster.access("bi/ledger"), domain="bi", view=None, random_id=random_id))
            files = self.registries.files.get
            try:
                yield partial(DomainSource, "bi", log, store, loop=loop, names=self._names, registry_file=files)
            finally:
                loop.run(log.close())

    def audited(self) -> Report:
        """Under a checkpoint over what the ledger's topic holds now, signed with its own keys."""

        def read_registry(data: bytes) -> tuple[Registry, bytes]:
            return trusted(data, self.domain.pin).registry, hashlib.sha256(data).digest()

        with self._sources() as source:
            tree = grown(source().entries(0))
            head = sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), SIGNERS, self.domain.now)
            return audit(source(checkpoints=[Held("checkpoint", head)]), Trust(NO_WITNESS, read_registry))

    def found(self, topic: str) -> list[tuple[str, int | None]]:
        """What contradicts, in this mailbox: code and offset."""
        return [(one.code, one.offset) for one in self.audited().findings.kept if one.topic == topic and not one.open]


def grown(encoded: Iterable[bytes]) -> GrowingTree:
    tree = GrowingTree()
    for one in encoded:
        tree.append(leaf_hash(one))
    return tree


def values_in(admin: Clients, topic: str) -> list[bytes]:
    """Its first three records."""
    found = admin.fetch({topic: (0, 3)}, 3, 1 << 20)
    assert not isinstance(found, str)
    return [one.value for one in found[topic]]


def entry_of(value: bytes, topic: str, offset: int) -> LedgerEntry:
    """An `event` for these bytes, as a ledger that lies writes it."""
    digest = hashlib.sha256(value).digest()
    return LedgerEntry("event", topic, offset, offset - 1 if offset else None, digest, parse_record(value).digest)


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Brokers:
    needs_kafka()
    cluster = _shared()
    cluster.start()
    made = Brokers(cluster, tmp_path_factory.mktemp("brokers"))
    # An honest day, first: a mailbox for each test, and one that nobody touches.
    record = made.domain.record
    made.publish(
        *(record("bi/iom", "bi/k7t4", "referral") for _ in range(3)),
        *(record("bi/police", "bi/iom", "case", "update") for _ in range(3)),
        *(record("bi/iom", "bi/police", "investigation", "update") for _ in range(3)),
        *(record("bi/iom", "bi/r5w2", "referral") for _ in range(2)),
    )
    made.sequence()
    return made


def test_an_honest_log_on_kafka_is_in_order(brokers: Brokers) -> None:
    report = brokers.audited()
    assert [one for one in report.findings.kept if one.topic in (None, "bi.referral.r5w2")] == []
    assert report.kinds["event"] >= 11


def test_records_that_the_administrator_removes_from_the_start_are_missing(brokers: Brokers) -> None:
    with brokers.admin() as admin:
        assert admin.trim("bi.referral.k7t4", 2) == 2
    assert brokers.found("bi.referral.k7t4") == [("record_missing", 0), ("record_missing", 1)]


def test_a_mailbox_that_is_deleted_and_filled_again_without_a_record_is_named(brokers: Brokers) -> None:
    topic = "bi.case.iom"
    with brokers.admin() as admin:
        values = values_in(admin, topic)
        admin.delete_topic(topic)
        admin.create([kafka_topic(topic, 1)])
        admin.produce([Item(topic, b"k", values[0]), Item(topic, b"k", values[2])])
    with pytest.raises(LogError) as refused:
        brokers.audited()
    assert (refused.value.code, refused.value.path) == ("unavailable", topic), "not read as if nothing had happened"
    run(KafkaLog.renew_identity(brokers.cluster.access("admin"), domain="bi", random_id=random_id))
    assert brokers.found(topic) == [("record_rewritten", 1), ("record_missing", 2)]


def test_a_forged_record_written_past_the_gateway_counts_only_for_a_ledger_that_lies(brokers: Brokers) -> None:
    topic = "bi.investigation.police"
    with brokers.admin() as admin:
        genuine = values_in(admin, topic)[2]
        manifest, _, body = genuine.partition(b"\n")
        signature = manifest.rpartition(b".")[2]
        other = brokers.domain.record("bi/iom", "bi/police", "investigation", "update").value.partition(b"\n")[0]
        forged = b"\n".join((other.rpartition(b".")[0] + b"." + signature, body))
        admin.produce([Item(topic, b"k", forged)])
    brokers.entered(entry_of(forged, topic, 3))
    assert brokers.found(topic) == [("signature_invalid", 3)]


def test_a_record_that_the_ledger_passes_over_is_unlogged_on_kafka_too(brokers: Brokers) -> None:
    topic, record = "bi.referral.min-solidarity", brokers.domain.record
    withheld, kept = (record("bi/iom", "bi/min-solidarity") for _ in range(2))
    brokers.publish(withheld, kept)
    brokers.entered(replace(entry_of(kept.value, topic, 1), previous=None))
    assert ("record_unlogged", 0) in brokers.found(topic)


def test_the_mailbox_of_an_agency_that_has_left_is_audited_like_any_other(brokers: Brokers) -> None:
    topic = "bi.referral.r5w2"
    brokers.leaves("bi/r5w2")
    assert brokers.found(topic) == []
    with brokers.admin() as admin:
        admin.trim(topic, 1)
    assert brokers.found(topic) == [("record_missing", 0)]


def test_noise_in_the_ledgers_topic_changes_nothing_and_a_shortened_one_is_no_ledger(brokers: Brokers) -> None:
    topic = ledger_topic("bi")
    before = brokers.audited()
    with brokers.admin() as admin:
        admin.produce([Item(topic, b"", b"noise"), Item(topic, b"", Batch(0, bytes(32), [b"entry"]).encode())])
        assert brokers.audited().root == before.root
        admin.trim(topic, 1)
    with pytest.raises(LogError) as refused:
        brokers.audited()
    assert (refused.value.code, refused.value.path) == ("log_inconsistent", "ledger")
