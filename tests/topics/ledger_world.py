# SPDX-License-Identifier: Apache-2.0
"""A domain's log and its ledger in a folder, for tests: real records, real files, keys that follow from a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.ledgers import origin_of
from schemas.notes import NoteSigner, SignatureType
from schemas.registry import Registry
from schemas.registry_trust import trusted
from tests.domain import NOW, Domain, Signed, seeded
from topics.catalogue import topics_of
from topics.ledger import Published, Sequencer
from topics.ledger_checkpoints import Checkpoints
from topics.ledger_entries import LedgerEntry, decode_entry
from topics.ledger_store import LedgerStore, SqliteLedgerStore
from topics.ledger_view import LedgerView
from topics.log import Appended, Entry
from topics.proofs import leaf_hash, root
from topics.sqlite_log import SqliteLog
from topics.topic_names import is_mailbox_topic

ORIGIN = origin_of("bi")
SIGNERS = (
    NoteSigner(ORIGIN, SignatureType.ED25519, seeded("ledger")(32)),
    NoteSigner(ORIGIN, SignatureType.ML_DSA_44, seeded("ledger-pq")(32)),
)


@dataclass
class Registries:
    """What was published, and what was kept, in memory."""

    domain: Domain
    files: dict[bytes, bytes] = field(default_factory=dict)

    def held(self) -> Published:
        return Published(self.domain.registry, self.domain.registry_file)

    def keep(self, published: Published) -> None:
        self.files[published.sha256] = published.data

    def kept(self, sha256: bytes) -> Registry | None:
        data = self.files.get(sha256)
        return None if data is None else trusted(data, self.domain.pin).registry


@dataclass
class World:
    """`with World(folder) as world`; the log's clock stands still until a test moves it."""

    folder: Path
    domain: Domain = field(default_factory=Domain)
    at_ms: int = NOW * 1000

    def __post_init__(self) -> None:
        self.registries = Registries(self.domain)
        self.log = self.open_log()

    def open_log(self) -> SqliteLog:
        return SqliteLog.open(
            str(self.folder / "log.db"),
            topics=[name for name in topics_of(self.domain.registry) if is_mailbox_topic(name)],
            clock_ms=lambda: self.at_ms,
            random_id=lambda: "log",
            threads=False,
        )

    def open_store(self) -> LedgerStore:
        return SqliteLedgerStore.open(self.folder / "ledger.db", random_id=lambda: "store")

    def open_view(self, store: LedgerStore, name: str = "view.db") -> LedgerView:
        return LedgerView.open(self.folder / name, origin=ORIGIN, store_id=store.store_id)

    def sequencer(self, store: LedgerStore | None = None, view: str = "view.db") -> Sequencer:
        store = self.open_store() if store is None else store
        return Sequencer(
            self.log, store, self.open_view(store, view), self.registries, now_ms=lambda: self.at_ms, in_thread=False
        )

    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder, SIGNERS, lambda: self.at_ms / 1000)

    async def put(self, *signed: Signed | Entry) -> list[int]:
        """Append; the offsets."""
        answers = await self.log.append([one.entry if isinstance(one, Signed) else one for one in signed])
        offsets = [answer.offset for answer in answers if isinstance(answer, Appended)]
        assert len(offsets) == len(signed), answers
        return offsets

    async def sequenced(self, sequencer: Sequencer | None = None) -> list[LedgerEntry]:
        """Step until nothing is new; every entry of the ledger."""
        sequencer = sequencer or self.sequencer()
        await sequencer.start()
        while await sequencer.step():
            pass
        return entries_in(sequencer.view)

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            try:
                await work()
            finally:
                await self.log.close()

        asyncio.run(whole())


def entries_in(view: LedgerView) -> list[LedgerEntry]:
    """Of a view, whose root is compared with a naive tree over them."""
    encoded = list(view.entries())
    assert encoded[-3:] == [view.entry(index) for index in range(view.size)][-3:]
    assert root([leaf_hash(one) for one in encoded]) == view.tree.root()
    return [decode_entry(one) for one in encoded]


def shown(entries: Sequence[LedgerEntry]) -> list[str]:
    """`event bi.case.iom 3`, or with a detail behind."""
    return [
        " ".join(str(part) for part in (one.kind, one.topic, one.offset, one.detail) if part is not None)
        for one in entries
    ]
