# SPDX-License-Identifier: Apache-2.0
"""What everything on an agency's machine is done with: its mailbox, its keys, the newest registry, the time and chance.

Purpose: one value that the way out, the way in and the books between them are made from.
Invariants: time is corrected by the gateway's clock; no date is written that the forms could not say.
Must never: keep state of its own, or decide anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from adapters.keystore import Keys
from adapters.mailbox import Mailbox
from schemas import attachments
from schemas.errors import LogError, UmuhuzaError
from schemas.forms import YEARS
from schemas.keys import RandomBytes
from schemas.registry import Registry
from topics.log import Stored
from topics.verification import Verified

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 900.0
DATED = range(*(int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (YEARS.start, YEARS.stop)))
"""Moments that we write, seconds since the epoch."""


class Abroad(Protocol):
    """Other domains, as far as an agreement opens the border (`topics.neighbours.Neighbours`)."""

    def judged(self, stored: Stored) -> Verified | UmuhuzaError | None:
        """What a record is by the home proof beside it; None: there is none."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What both ways need: who we are, what we know, the time, and chance."""

    mailbox: Mailbox
    keys: Keys
    registry: Callable[[], Registry]
    """The newest registry we hold, with what its borders open."""
    now: Callable[[], float]
    """Seconds since the epoch, corrected by the gateway's clock."""
    random: RandomBytes
    attachment_bytes: int = attachments.DEFAULT_LIMIT
    """Of all files of one event, sent or taken."""
    abroad: Abroad | None = None
    """By what records are judged that come over a border; None: none is taken."""

    @property
    def agency(self) -> str:
        return self.keys.agency

    def today(self) -> datetime:
        """Now, to the second.

        Raises LogError `unavailable` (path `clock`) where no date that we write could say it: wait until it is right.
        """
        at = int(self.now())
        if at not in DATED:
            raise LogError("unavailable", "clock")
        return datetime.fromtimestamp(at, UTC)


def backoff_s(attempts: int, random: RandomBytes) -> float:
    """Exponential with full jitter, 5 s to 15 min: after a cut, agencies do not all come back in the same second."""
    ceiling = min(LONGEST_RETRY_S, FIRST_RETRY_S * float(1 << min(attempts, 10)))
    return ceiling * (0.5 + int.from_bytes(random(2), "big") / 131_072)
