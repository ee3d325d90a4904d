# SPDX-License-Identifier: Apache-2.0
"""Makes receipts in a thread of their own, so that no record waits for them.

A receipt is some thirty hashes and a few reads from the ledger's view, and a request may ask for fifty. The view is
one of its own: a connection belongs to one thread.

Must never change a file of the ledger's. If we crash here: nothing was promised, it is asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from topics.ledger_served import ServedLedger
from topics.receipt_maker import ReceiptMaker, ReceiptOf


class ReceiptDesk:
    """Makes receipts of the ledger in this folder, in one thread that is begun by the first question. Belongs to one
    event loop."""

    def __init__(self, folder: Path) -> None:
        self._served = ServedLedger(folder)
        self._maker = ReceiptMaker(folder, self._served)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="umuhuza-receipts")

    async def receipts(self, l1_sha256: Sequence[bytes], of: ReceiptOf) -> list[bytes | None]:
        """One per hash, in order; as `ReceiptMaker.receipt`. Raises LogError `unavailable`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._make, tuple(l1_sha256), of)

    async def checkpoint(self) -> bytes | None:
        """The best that there is (`ReceiptMaker`); None before any. Raises LogError `unavailable`."""
        contact = await asyncio.get_running_loop().run_in_executor(self._thread, self._maker.contact)
        return None if contact is None else contact.checkpoint

    def _make(self, l1_sha256: Sequence[bytes], of: ReceiptOf) -> list[bytes | None]:
        return [self._maker.receipt(one, of) for one in l1_sha256]

    def close(self) -> None:
        """Idempotent. What is being made is waited for: it takes milliseconds."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._served.close()
