# SPDX-License-Identifier: Apache-2.0
"""A domain's own log and ledger as an audit's source: what stands in the mailboxes now, and the ledger's primary store.

Nothing derived is used: no view, no tiles, no index. Entries are those of effective batches (`topics.ledger_store`),
found by making the tree; the first batch that does not follow, and whatever is behind it that does not, is ignored as
every reader ignores it. So a store that was tampered with ends early, and every checkpoint beyond says so.

Reads only. It drives the log's event loop itself, and must not be used inside one that runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence

from schemas.errors import LogError
from schemas.home_proof import HOME_HEADER
from topics.audit_abroad import NeighbourFile
from topics.audit_findings import Held, KeptRecord, Shown
from topics.ledger_entries import decode_batch
from topics.ledger_store import LedgerStore
from topics.log import Log
from topics.proofs import leaf_hash
from topics.tiles import GrowingTree

_AT_ONCE = 256


class DomainSource:
    """`topics.audit_findings.AuditSource`. Close it; the log is closed with it, store and loop are their owner's.

    Args:
        log: opened for this source alone.
        loop: in which the log was opened; it runs only while something is asked.
        names: mailbox topics, of every registry version that there was.
        checkpoints, receipts, promises: what came along and what was brought.
        registry_file: registry files by their hash.
        published: the registry that members are given now.
        neighbour_file: what the domain holds of others; None: it has no neighbours.
    """

    whole = True
    shown: Shown = "records"

    def __init__(
        self,
        domain: str,
        log: Log,
        store: LedgerStore,
        *,
        loop: asyncio.Runner,
        names: Sequence[str],
        registry_file: Callable[[bytes], bytes | None],
        published: bytes | None = None,
        neighbour_file: NeighbourFile | None = None,
        checkpoints: Sequence[Held] = (),
        receipts: Callable[[], Iterable[Held]] = tuple,
        promises: Callable[[], Iterable[Held]] = tuple,
    ) -> None:
        self.domain = domain
        self._log = log
        self._store = store
        self._names = tuple(names)
        self._checkpoints = tuple(checkpoints)
        self._receipts = receipts
        self._promises = promises
        self._registry_file = registry_file
        self._published = published
        self._neighbour_file = neighbour_file
        self._loop = loop

    def close(self) -> None:
        """Idempotent."""
        self._loop.run(self._log.close())

    def checkpoints(self) -> Iterable[Held]:
        return self._checkpoints

    def receipts(self) -> Iterable[Held]:
        return self._receipts()

    def promises(self) -> Iterable[Held]:
        return self._promises()

    def entries(self, first: int) -> Iterator[bytes]:
        tree = GrowingTree()
        position = -1
        while stored := self._store.read(position):
            for one in stored:
                position = one.position
                try:
                    batch = decode_batch(one.value)
                except LogError:
                    continue
                if batch.first_index != tree.size or batch.previous_root != tree.root():
                    continue
                for entry in batch.entries:
                    tree.append(leaf_hash(entry))
                    if tree.size > first:
                        yield entry
                tree.take()

    def hashes(self) -> Iterator[bytes]:
        return map(leaf_hash, self.entries(0))

    def registry_file(self, sha256: bytes) -> bytes | None:
        return self._registry_file(sha256)

    def published_registry(self) -> bytes | None:
        return self._published

    def neighbour_file(self, domain: str, name: str) -> bytes | None:
        return None if self._neighbour_file is None else self._neighbour_file(domain, name)

    def topics(self) -> Sequence[str]:
        return self._names

    def records(self, topic: str, first: int, behind: int | None) -> Iterator[KeptRecord]:
        after = first - 1
        while behind is None or after + 1 < behind:
            limit = _AT_ONCE if behind is None else min(_AT_ONCE, behind - after - 1)
            try:
                found = self._loop.run(self._log.read(topic, after, limit))
            except LogError as exc:
                if exc.code == "topic_unknown":
                    return
                if exc.code != "retention_passed":
                    raise
                after = self._loop.run(self._log.ends(topic)).first - 1
                continue
            if not found:
                return
            for one in found:
                if behind is not None and one.offset >= behind:
                    return
                yield KeptRecord(one.offset, one.at_ms, one.value, dict(one.headers).get(HOME_HEADER))
            after = found[-1].offset

    def grants_left(self, topic: str, keys: Sequence[str]) -> Sequence[str] | None:
        return sorted(self._loop.run(self._log.get_grants(topic, keys)))
