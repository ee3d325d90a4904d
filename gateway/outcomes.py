# SPDX-License-Identifier: Apache-2.0
"""What becomes of the lines of a request: the answers that the routes write down.

Invariants: an accepted line is durable; offsets and times are the log's. Refusals are `gateway.examine.Refused`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.examine import Refused
from topics.promise import Promised

Finding = Literal["seq_gap", "late"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """One answer."""

    evt: str
    topic: str
    offset: int
    at_ms: int
    hash: str
    flow: str
    kind: str
    copy: bool = False
    finding: Finding | None = None
    clock_suspect: bool = False


@dataclass(frozen=True, slots=True)
class Granted:
    """The answer to a manifest: its grants are durable, so its record may follow by other ways."""

    evt: str
    topic: str
    hash: str
    flow: str
    kind: str
    finding: Finding | None = None
    clock_suspect: bool = False


Outcome = Accepted | Granted | Refused


@dataclass(frozen=True, slots=True)
class Answer:
    """Of a request: one outcome per line, in order; the promise covers the accepted ones in their order."""

    outcomes: tuple[Outcome, ...]
    promised: Promised | None
    refusals: tuple[str | None, ...] = ()
    """Per line, to another domain's bridge: the refusal, signed (`topics.refusal`)."""
