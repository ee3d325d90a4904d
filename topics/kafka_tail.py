# SPDX-License-Identifier: Apache-2.0
"""The one consumer of a handle that waits, for however many readers: it follows the topics on which somebody waits.

Owned by `kafka_log`, which reads when it is told that a topic grew. A handle that nobody waits on asks nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from schemas.errors import LogError
from topics.kafka_clients import Follower

REST_S = 60.0
"""How long a topic is still followed when nobody waits on it any more."""
SILENCE_S = 3.0
"""After so much silence the tail asks whether anybody is there."""
PAUSE_S = 0.25
"""Between two attempts of the tail to reach a broker."""


class Tail:
    """The one thread that waits for all: follows topics and says which grew. It holds no record."""

    def __init__(
        self, connect: Callable[[], Follower], asked: Callable[[], object], grown: Callable[[Sequence[str]], None]
    ) -> None:
        """`asked` asks the cluster anything and raises when nobody answers: a follower only hears nothing new then."""
        self._connect = connect
        self._asked = asked
        self._grown = grown
        self._change = threading.Condition()
        self._positions: dict[str, int] = {}
        """Followed topic -> offset that its next entry will take, as far as seen."""
        self._wanted: frozenset[str] = frozenset()
        self._left: dict[str, float] = {}
        """Followed topic on which nobody waits -> since when."""
        self._thread: threading.Thread | None = None
        self._closed = False

    def wanted(self, topics: Iterable[str]) -> None:
        with self._change:
            self._wanted = frozenset(topics)

    def follow(self, ends: Mapping[str, int]) -> bool:
        """Watch these topics from their ends as a read saw them; True when one has grown since: read again."""
        behind = False
        with self._change:
            if self._closed:
                return False
            for topic, end in ends.items():
                behind |= self._positions.setdefault(topic, end) > end
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kafka-log-tail", daemon=True)
                self._thread.start()
            self._change.notify()
        return behind

    def saw(self, grown: Mapping[str, int | None]) -> None:
        """Topics have entries up to these offsets; None: nobody knows any more."""
        with self._change:
            for topic, following in grown.items():
                if following is None:
                    self._positions.pop(topic, None)
                elif topic in self._positions:
                    self._positions[topic] = max(self._positions[topic], following)

    def seen(self, topics: Iterable[str]) -> dict[str, int] | None:
        """What each topic's next offset is at least; None when one of them is not followed."""
        with self._change:
            seen = {topic: self._positions.get(topic) for topic in topics}
        known = {topic: end for topic, end in seen.items() if end is not None}
        return known if len(known) == len(seen) else None

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        follower: Follower | None = None
        heard = time.monotonic()
        while (positions := self._next()) is not None:
            try:
                if follower is None:
                    follower = self._connect()
                grown = follower.poll(positions)
                if not grown and time.monotonic() - heard > SILENCE_S:
                    self._asked()
                    heard = time.monotonic()
                elif grown:
                    heard = time.monotonic()
            except LogError:
                # Whoever waits reads again and so learns it himself.
                if follower is not None:
                    follower.close()
                    follower = None
                grown = dict.fromkeys(positions)
                time.sleep(PAUSE_S)
            self.saw(grown)
            if grown:
                self._grown(list(grown))
        if follower is not None:
            follower.close()

    def _next(self) -> dict[str, int] | None:
        """What to follow now; waits while that is nothing. None: closed."""
        with self._change:
            while True:
                now = time.monotonic()
                for topic in list(self._positions):
                    if topic in self._wanted:
                        self._left.pop(topic, None)
                    elif now - self._left.setdefault(topic, now) > REST_S:
                        del self._positions[topic], self._left[topic]
                if self._closed:
                    return None
                if self._positions:
                    return dict(self._positions)
                self._change.wait()
