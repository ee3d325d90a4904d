# SPDX-License-Identifier: Apache-2.0
"""The ledger's primary store on Apache Kafka: topic `{domain}.ledger`, one partition, which never expires.

What `topics.ledger_store` says holds here: a batch that does not follow stays in the topic and is ignored. A produce
that failed may arrive later, when another batch was taken meanwhile: then it does not follow any more. So nothing is
sent twice from here, and nothing has to be fenced.

Which topic it is is asked as for a mailbox (`topics.kafka_identity`): one that was deleted and made again is refused
with `unavailable`, not begun anew. Everything blocks. It must never: write to any other topic, or remove a record.
"""

from __future__ import annotations

from schemas.errors import LogError
from topics.kafka_access import KafkaAccess
from topics.kafka_clients import Clients
from topics.kafka_identity import Identity
from topics.kafka_producer import Item
from topics.ledger_entries import Batch
from topics.ledger_store import StoredBatch
from topics.topic_names import ledger_topic

_READ_BYTES = 16 << 20


class KafkaLedgerStore:
    """A `topics.ledger_store.LedgerStore`. Make it with `open`."""

    def __init__(self, clients: Clients, domain: str) -> None:
        self._clients = clients
        self._identity = Identity(clients, domain)
        self._topic = ledger_topic(domain)
        self._closed = False

    @classmethod
    def open(cls, access: KafkaAccess, *, domain: str) -> KafkaLedgerStore:
        """Connect, as a principal who may read and write the topic; an administrator made it (`kafka_admin.apply`).

        Raises LogError as `KafkaLog.open`, and `topic_unknown` when the topic was never made.
        """
        store = cls(Clients(access), domain)
        try:
            store._clients.probe()
            store._identity.load()
            store._check()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def store_id(self) -> str:
        """The log's identity and the topic's: a cluster put back from a copy is another history too."""
        return f"{self._identity.log_id}/{self._identity.recorded(self._topic) or ''}"

    def append(self, batch: Batch, root: bytes) -> None:
        self._check()
        [done] = self._clients.produce([Item(self._topic, b"", batch.encode())], attempts=1)
        if isinstance(done, LogError):
            self._identity.doubt(self._topic)
            raise LogError(done.code, "ledger")

    def read(self, after: int, limit: int = 64) -> list[StoredBatch]:
        self._check()
        end = self._clients.ends([self._topic])[self._topic]
        if after + 1 >= end:
            if after + 1 > end:
                raise LogError("log_inconsistent", "ledger")
            return []
        found = self._clients.fetch({self._topic: (after + 1, end)}, limit, _READ_BYTES)
        if isinstance(found, str):
            raise LogError("log_inconsistent", "ledger")
        return [StoredBatch(one.offset, one.value) for one in found[self._topic][:limit]]

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._clients.close_producer()
            self._clients.close()

    def _check(self) -> None:
        if self._closed:
            raise LogError("log_closed")
        for error in self._identity.check([self._topic]).values():
            raise error
