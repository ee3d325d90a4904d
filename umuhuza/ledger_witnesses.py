# SPDX-License-Identifier: Apache-2.0
"""The ledger's process asks its witnesses: every `witness_seconds`, in a thread, beside the sequencing.

Nothing waits for it and nothing fails with it: what a round could not do, the next one does, and metrics tell.
A policy that an operator adds or changes counts from the next round on. If we crash: see `topics.cosigning`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import httpx2
from prometheus_client.core import GaugeMetricFamily, Metric

from schemas.errors import LogError
from topics.cosigning import POLICY_FILE, Cosignatures, Round
from topics.ledger_served import ServedLedger
from topics.tiles import TileId

CONTRADICTS = "log_inconsistent"
"""A witness's fact with this code: it has seen another history than the ledger now has."""

ROUND_SECONDS = 120.0
"""So long a round of asking may take before somebody has to be told that it does not end."""
_AGAIN_S = 5.0


class LocalLedger:
    """A `topics.cosigning.LedgerSource` over the ledger's own folder. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._served = ServedLedger(folder)

    def checkpoint(self) -> bytes:
        return self._served.checkpoint()

    def tile(self, tile: TileId) -> bytes:
        """Raises LogError `unavailable`."""
        data = self._served.tile(tile)
        if data is None:
            raise LogError("unavailable", "ledger")
        return data

    def close(self) -> None:
        self._served.close()


def ask_once(folder: Path, origin: str, now: int) -> tuple[Round, tuple[str, ...]]:
    """One round over the ledger in this folder, and who is silent afterwards. Raises LogError."""
    book = Cosignatures(folder, origin)
    source = LocalLedger(folder)
    try:
        with httpx2.Client() as client:
            asked = book.ask(source, client, now)
    finally:
        source.close()
    return asked, book.silent(now)


@dataclass(slots=True, eq=False)
class Witnesses:
    """What the last round showed; written by the loop, read by the thread that answers metrics."""

    asked: bool = False
    """Whether there is a policy at all."""
    problem: str | None = None
    """Code of why our own side could not ask; None when it could."""
    silent: int = 0
    contradicting: int = 0
    endorsed_size: int = 0
    _asking: Future[tuple[Round, tuple[str, ...]]] | None = None

    def note(self, asked: Round, silent: tuple[str, ...]) -> None:
        self.silent = len(silent)
        self.contradicting = sum(fact.code == CONTRADICTS for fact in asked.facts)
        if asked.endorsed:
            self.endorsed_size = asked.size

    def collect(self) -> Iterable[Metric]:
        """Without a policy nobody is missing."""
        for name, what, value in (
            ("witnesses_up", "1 when the last round of asking witnesses was made", int(self.problem is None)),
            ("witnesses_silent", "Witnesses that were not heard for a day", self.silent),
            ("witnesses_contradicting", "Witnesses that have seen another history", self.contradicting),
            ("endorsed_size", "Entries below the newest checkpoint that the quorum has signed", self.endorsed_size),
        ):
            yield GaugeMetricFamily(f"umuhuza_ledger_{name}", what, value)

    async def ask(self, folder: Path, origin: str, *, now: Callable[[], float] = time.time) -> None:
        """One round, if there is a policy."""
        self.asked = (folder / POLICY_FILE).exists()
        if not self.asked:
            self.silent = self.contradicting = 0
            self.problem = None
            return
        try:
            self.note(*await self._round(folder, origin, int(now())))
            self.problem = None
        except LogError as exc:
            self.problem = exc.code
            self.silent = await asyncio.to_thread(_silent, folder, origin, int(now()))

    async def _round(self, folder: Path, origin: str, now: int) -> tuple[Round, tuple[str, ...]]:
        """In a thread that nobody waits for longer than `ROUND_SECONDS`, not even the end of the process: a witness may
        answer a byte a minute for years. Raises LogError; `unavailable` also while such a round goes on."""
        if self._asking is not None and not self._asking.done():
            raise LogError("unavailable", "witness")
        asking: Future[tuple[Round, tuple[str, ...]]] = Future()
        self._asking = asking

        def work() -> None:
            try:
                asking.set_result(ask_once(folder, origin, now))
            except LogError as exc:
                asking.set_exception(exc)
            finally:
                if not asking.done():  # a fault of ours, told by the thread itself
                    asking.set_exception(LogError("unavailable", "witness"))

        threading.Thread(target=work, name="witnesses", daemon=True).start()
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(asking)), ROUND_SECONDS)
        except TimeoutError:
            raise LogError("unavailable", "witness") from None

    async def ask_for_ever(self, folder: Path, origin: str, every_s: float, stop: asyncio.Event) -> None:
        """Rounds until `stop` is set."""
        while not stop.is_set():
            await self.ask(folder, origin)
            try:
                # Before the first checkpoint there is nothing to show: soon again.
                async with asyncio.timeout(every_s if self.problem is None else min(every_s, _AGAIN_S)):
                    await stop.wait()
            except TimeoutError:
                continue


def _silent(folder: Path, origin: str, now: int) -> int:
    """Silent witnesses when a round could not be made: time passes all the same."""
    try:
        return len(Cosignatures(folder, origin).silent(now))
    except LogError:
        return 0
