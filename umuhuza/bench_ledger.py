# SPDX-License-Identifier: Apache-2.0
"""What the ledger takes: entries per second, durable and read back, in one thread of this process.

ledger_append   entries whose records were checked before: hashed into the tree, appended to the store in batches of
                1,000 (synced), read back, entered into the view
ledger          the same from the log: records read, verified (signature and parts), entered; to be compared with V
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from schemas.keys import b64url
from schemas.ledgers import origin_of
from schemas.registry import Registry
from topics.catalogue import topics_of
from topics.ledger import BATCH_ENTRIES, Published, Sequencer
from topics.ledger_entries import LedgerEntry
from topics.ledger_store import SqliteLedgerStore
from topics.ledger_view import Learned, LedgerView
from topics.log import Entry
from topics.sqlite_log import SqliteLog
from topics.topic_names import is_mailbox_topic

APPENDED = 20_000


class _One:
    """One registry, for ever."""

    def __init__(self, registry: Registry) -> None:
        self._published = Published(registry, b"measured")

    def held(self) -> Published:
        return self._published

    def keep(self, published: Published) -> None:
        """There is nobody who would ask."""

    def kept(self, sha256: bytes) -> Registry | None:
        return self._published.registry


def measure_ledger(folder: Path, registry: Registry, entries: Sequence[Entry]) -> dict[str, float]:
    """Entries per second, by the names above."""
    runs: dict[str, Callable[[Sequencer], Coroutine[Any, Any, float]]] = {
        "ledger_append": _appended,
        "ledger": _sequenced,
    }
    return {
        name: asyncio.run(_measured(folder / f"{name}", registry, entries if name == "ledger" else (), work))
        for name, work in runs.items()
    }


async def _measured(
    folder: Path,
    registry: Registry,
    entries: Sequence[Entry],
    work: Callable[[Sequencer], Coroutine[Any, Any, float]],
) -> float:
    folder.mkdir()
    log = SqliteLog.open(
        str(folder / "log.db"),
        topics=[name for name in topics_of(registry) if is_mailbox_topic(name)],
        clock_ms=lambda: int(time.time() * 1000),
        random_id=lambda: b64url(os.urandom(12)),
        threads=False,
    )
    store = SqliteLedgerStore.open(folder / "ledger.db", random_id=lambda: b64url(os.urandom(12)))
    view = LedgerView.open(folder / "view.db", origin=origin_of(registry.domain), store_id=store.store_id)
    sequencer = Sequencer(log, store, view, _One(registry), now_ms=lambda: int(time.time() * 1000), in_thread=False)
    try:
        while await sequencer.step():
            """The registry's own entry."""
        for first in range(0, len(entries), 500):
            await log.append(entries[first : first + 500])
        return await work(sequencer)
    finally:
        view.close()
        store.close()
        await log.close()


async def _sequenced(sequencer: Sequencer) -> float:
    began, before = time.perf_counter(), sequencer.view.size
    while await sequencer.step():
        """Until everything has its place."""
    return (sequencer.view.size - before) / (time.perf_counter() - began)


async def _appended(sequencer: Sequencer) -> float:
    hashes = (hashlib.sha256(at.to_bytes(8, "big")).digest() for at in itertools.count())
    spent = 0.0
    for first in range(0, APPENDED, BATCH_ENTRIES):
        entries: list[LedgerEntry] = []
        learned: list[Learned] = []
        for at in range(first, first + BATCH_ENTRIES):
            value, l1 = next(hashes), next(hashes)
            entries.append(LedgerEntry("event", "bi.case.iom", at, at - 1 if at else None, value, l1))
            learned.append(Learned("bi.case.iom", at, 0, f"bi/iom/{at}", "bi/iom", l1, None))
        began = time.perf_counter()
        await sequencer.append(entries, learned)
        spent += time.perf_counter() - began
    return APPENDED / spent
