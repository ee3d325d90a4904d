# SPDX-License-Identifier: Apache-2.0
"""A ledger beside a town's log, for tests of what agencies believe of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.errors import LogError
from schemas.keys import unb64url
from schemas.notes import NoteSigner
from tests.agencies import Agencies
from tests.topics.ledger_world import ORIGIN, SIGNERS, Registries
from topics.ledger import Sequencer
from topics.ledger_checkpoints import Checkpoints
from topics.ledger_erasures import Erasures
from topics.ledger_served import ServedLedger
from topics.ledger_store import SqliteLedgerStore
from topics.ledger_view import LedgerView
from topics.receipt_maker import ReceiptMaker


@dataclass
class Ledger:
    """The ledger of a town's log, which goes on only when a test says so; a `ReceiptSource`."""

    town: Agencies
    signers: Sequence[NoteSigner] = SIGNERS
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.town.folder / "ledger"
        self.folder.mkdir()
        self.store = SqliteLedgerStore.open(self.folder / "ledger.db", random_id=lambda: "store")
        self.view = LedgerView.open(self.folder / "view.db", origin=ORIGIN, store_id=self.store.store_id)
        self.sequencer = Sequencer(
            self.town.log,
            self.store,
            self.view,
            Registries(self.town.domain),
            now_ms=lambda: int(self.town.now * 1000),
            in_thread=False,
        )
        self.checkpoints = Checkpoints(self.folder, self.signers, lambda: self.town.now)
        self.served = ServedLedger(self.folder)
        self.maker = ReceiptMaker(self.folder, self.served)

    def step(self) -> int:
        """Everything in the log gets its place; the tree is signed. Returns its size."""

        async def work() -> None:
            await self.sequencer.start()
            while await self.sequencer.step():
                """More is due."""

        self.town.run(work())
        self.checkpoints.publish(self.view)
        return self.view.size

    async def receipts(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        self.asked += l1_sha256
        try:
            return [self.maker.receipt(unb64url(one)) for one in l1_sha256]
        except LogError:  # not one step yet
            return [None] * len(l1_sha256)

    def erase(self) -> int:
        """What is commanded and gone by now is called done, as the ledger's process does. Returns the tree's size."""

        async def work() -> None:
            at = iter(range(0, 1_000_000_000, 10_000_000))
            erasures = Erasures(
                self.town.log,
                self.sequencer,
                now_ms=lambda: int(self.town.now * 1000),
                every_s=600.0,
                clock=lambda: float(next(at)),
            )
            for _ in range(3):
                await erasures.turn()
                for _ in range(5):
                    await asyncio.sleep(0)

        self.town.run(work())
        return self.step()

    async def erased(self, l1_sha256: Sequence[str]) -> list[bytes | None]:
        return [self.maker.receipt(unb64url(one), "erased") for one in l1_sha256]

    def close(self) -> None:
        self.served.close()
        self.view.close()
        self.store.close()
