# SPDX-License-Identifier: Apache-2.0
"""The ledger's store on Kafka: the same contract as over SQLite, upon a topic that is never begun anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.errors import LogError
from schemas.registry import Role
from tests.domain import Domain
from tests.kafka.conftest import _shared, needs_kafka
from tests.topics.kafka_harness import run
from tests.topics.ledger_store_contract import CHECKS, Check, events, put, reader
from topics import kafka_admin
from topics.kafka_clients import Clients
from topics.kafka_ledger import KafkaLedgerStore
from topics.kafka_producer import Item
from topics.ledger_store import LedgerStore
from topics.topic_names import ledger_topic
from umuhuza.kafka.cluster import Cluster

_domains = (f"x{letter}" for letter in "abcdefghij")


@dataclass
class KafkaStoreHarness:
    """A domain of its own for each test, with an operator and the ledger's keeper."""

    folder: Path
    cluster: Cluster
    domain: str

    @classmethod
    def make(cls, folder: Path) -> KafkaStoreHarness:
        needs_kafka()
        cluster, name = _shared(), next(_domains)
        cluster.start()
        cast: dict[str, tuple[str, tuple[Role, ...], bool]] = {
            f"{name}/operator": ("Exploitant (inventé)", ("operator",), False)
        }
        run(kafka_admin.apply(cluster.access("admin"), Domain(name=name, cast=cast).registry, nodes=1))
        return cls(folder, cluster, name)

    def open(self) -> LedgerStore:
        return KafkaLedgerStore.open(self.cluster.access(f"{self.domain}/ledger"), domain=self.domain)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_stores_contract_over_kafka(check: Check, tmp_path: Path) -> None:
    check(KafkaStoreHarness.make(tmp_path))


def test_what_is_no_batch_is_passed_by_and_a_topic_made_again_is_refused(tmp_path: Path) -> None:
    harness = KafkaStoreHarness.make(tmp_path)
    topic = ledger_topic(harness.domain)
    admin = Clients(harness.cluster.access("admin"))
    one = reader(harness)
    put(one.store, (), events(0, 2))
    admin.produce([Item(topic, b"", b"somebody's noise"), Item(topic, b"", None)])
    put(one.store, events(0, 2), events(2, 3))
    assert one.catch_up() == [True, False, False, True]
    assert one.view.size == 5
    one.close()
    admin.delete_topic(topic)
    with pytest.raises(LogError) as caught:
        harness.open()
    assert caught.value.code == "unavailable"
    admin.close_producer()
    admin.close()
