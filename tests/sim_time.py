# SPDX-License-Identifier: Apache-2.0
"""Virtual time: an event loop whose clock jumps to the next thing that happens. No thread, no socket, no waiting.

A simulated week takes as long as its work does. Everything runs in the order in which it was scheduled, so two runs
that make the same calls are the same run. Executors run their work at once: a thread would bring back real time.

Must never: read a real clock; hang. When nothing is scheduled any more, or time stands still while work goes on for
ever, the loop raises `StuckError` instead.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from typing_extensions import TypeVarTuple, Unpack

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

EPOCH = 1_793_000_000
"""27 October 2026, seconds: where virtual time begins (`tests.domain.NOW`)."""
_TURNS_WITHOUT_TIME = 200_000


class StuckError(Exception):
    """The simulated world cannot go on: a deadlock, or a loop that never waits."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio event loop over virtual seconds since its own beginning."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_s = 0.0
        self._still = 0
        self._home = threading.get_ident()
        self._woken_by_thread = False
        # asyncio's own loop asks these two: this object is its own selector, with no file to watch.
        self._selector = self
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._virtual_s

    def select(self, timeout: float | None) -> Sequence[Any]:
        """Where a real loop would sleep, time jumps."""
        if self._woken_by_thread:
            raise StuckError("a thread has come into virtual time")
        if timeout is None:
            raise StuckError("nothing will ever happen again")
        self._virtual_s += timeout
        self._still = 0 if timeout > 0 else self._still + 1
        if self._still > _TURNS_WITHOUT_TIME:
            raise StuckError("time stands still")
        return ()

    def _process_events(self, _events: Sequence[Any]) -> None:
        return

    def _write_to_self(self) -> None:
        # Also called by the loop's own thread, to close generators that were left half-way: that is no matter.
        self._woken_by_thread |= threading.get_ident() != self._home

    def run_in_executor(
        self, executor: Any, func: Callable[[Unpack[_Arguments]], _T], *args: *_Arguments
    ) -> asyncio.Future[_T]:
        """At once, in the caller's turn."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 - carried to whoever awaits it, as an executor does
            future.set_exception(exc)
        return future


@dataclass
class Clock:
    """One machine's clock: the world's time and how wrong it is, in seconds."""

    loop: VirtualLoop
    wrong_s: float = 0.0

    def now(self) -> float:
        """Seconds since the epoch, as this machine believes."""
        return EPOCH + self.loop.time() + self.wrong_s

    def true_now(self) -> float:
        return EPOCH + self.loop.time()


def spread(rng: random.Random, shortest_s: float, longest_s: float) -> float:
    """A duration between the two whose *magnitude* is uniform: minutes are as likely as hours and days."""
    return float(shortest_s * (longest_s / shortest_s) ** rng.random())
