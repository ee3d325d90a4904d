# SPDX-License-Identifier: Apache-2.0
"""The clock of `umuhuza demo`: hours pass between two scenes, and no later than the last one it is right.

The story is told as one that began some hours ago. Its gateway is this machine's own, run with a clock that is behind
by so much (`python -m umuhuza.demo_clock`); adapters follow their gateway's clock anyway, so they run as ever. When
the hours have to pass, the clock is moved; over Kafka, times that brokers wrote before are shown as it was then.

Invariants: there is no setting, option or variable by which a gateway or an adapter gets another clock; what is started
here refuses every domain whose registry is not signed as one for training, whose records no other domain takes, and
every address but this machine's own. Moved only forwards.
"""

from __future__ import annotations

import bisect
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from gateway.app import serve
from gateway.settings import FILE_NAME as SETTINGS_FILE
from gateway.settings import Settings, load_settings, read_registry_root
from schemas.errors import UmuhuzaError
from topics.log import Appended, Ends, Entry, Log, Stored
from topics.registry_file import read_registry
from topics.settings import SettingsError
from umuhuza.words import language

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MOVES = "horloge.json"


class DemoClock:
    """Seconds since the epoch, so many seconds off. Kept in a file, so that the gateway's process follows its moves.

    Args:
        folder: where the file of its moves stands: `[[real time, seconds ahead], ...]`.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / _MOVES
        self._stamp: tuple[int, int] | None = None
        self._moves: list[tuple[float, float]] = [(0.0, 0.0)]

    def __call__(self) -> float:
        return time.time() + self.ahead

    @property
    def ahead(self) -> float:
        """Seconds to add to the real time; never positive at the end of the story."""
        return self._read()[-1][1]

    def move(self, ahead: float) -> None:
        """From now on so many seconds ahead of the real time; durable for other processes at once.

        Raises ValueError: it would go backwards.
        """
        moves = self._read()
        first = not self._file.exists()
        if not first and ahead < moves[-1][1]:
            raise ValueError("a clock goes forwards")
        moves = [(0.0, ahead)] if first else [*moves, (time.time(), ahead)]
        part = self._file.with_name(f"{self._file.name}.part")
        part.write_text(json.dumps(moves), encoding="ascii")
        os.replace(part, self._file)
        # What a broker writes in this millisecond may be before the move or after it.
        time.sleep(0.002)

    def shown(self, at_ms: int) -> int:
        """What this clock showed when a broker wrote that time; milliseconds since the epoch."""
        return moved(self._read(), at_ms)

    def _read(self) -> list[tuple[float, float]]:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return self._moves
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self._moves = [(float(at), float(ahead)) for at, ahead in json.loads(self._file.read_bytes())]
            self._stamp = stamp
        return self._moves


def moved(moves: Sequence[tuple[float, float]], at_ms: int) -> int:
    """What a clock showed at that real time (milliseconds since the epoch), by its moves: (real time in seconds from
    which on, seconds ahead), in order."""
    place = bisect.bisect_right(moves, at_ms / 1000, key=lambda move: move[0]) - 1
    return at_ms + int(moves[max(place, 0)][1] * 1000)


class Shows(Protocol):
    """A clock that knows what it showed before."""

    def shown(self, at_ms: int) -> int:
        """What it showed when a broker wrote that time; milliseconds since the epoch."""


class TimesOf:
    """A log whose brokers keep another time: as it is, but for the times, which are the clock's."""

    def __init__(self, log: Log, clock: Shows) -> None:
        self._log = log
        self._clock = clock

    @property
    def log_id(self) -> str:
        return self._log.log_id

    async def append(self, entries: Sequence[Entry]) -> Sequence[Appended | UmuhuzaError]:
        answers = await self._log.append(entries)
        return [
            replace(one, at_ms=self._clock.shown(one.at_ms)) if isinstance(one, Appended) else one for one in answers
        ]

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return self._shown(await self._log.read(topic, after, limit, max_bytes, wait_s))

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return self._shown(await self._log.poll(after, limit, max_bytes, wait_s))

    def _shown(self, found: Sequence[Stored]) -> list[Stored]:
        return [replace(one, at_ms=self._clock.shown(one.at_ms)) for one in found]

    async def ends(self, topic: str) -> Ends:
        return await self._log.ends(topic)

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        await self._log.put_grants(topic, grants)

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._log.get_grants(topic, keys)

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        await self._log.delete_grants(topic, keys)

    async def close(self) -> None:
        await self._log.close()


def refuse_elsewhere(settings: Settings) -> None:
    """Raises SettingsError: not a domain for training, or not for this machine alone."""
    registry = read_registry(settings.registry, read_registry_root(settings)).registry
    if not registry.training:
        raise SettingsError(
            "registry: this clock is for domains for training only",
            "registry : cette horloge n'est que pour les domaines de formation",
        )
    if settings.host not in _LOOPBACK:
        raise SettingsError(
            "host: with this clock a gateway listens on this machine only",
            "host : avec cette horloge, une passerelle n'écoute que sur cette machine",
        )


def main(folder: Path, ready_file: Path, clock_folder: Path) -> None:
    """The demonstration's gateway, until SIGTERM. Raises SettingsError."""
    settings = load_settings(folder / SETTINGS_FILE, {"ready_file": ready_file}, {})
    refuse_elsewhere(settings)
    clock = DemoClock(clock_folder)
    serve(settings, now=clock, over=lambda log: TimesOf(log, clock))


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:4]))
    except SettingsError as exc:
        sys.stderr.write(f"{exc.describe(language())}\n")
        sys.exit(2)
