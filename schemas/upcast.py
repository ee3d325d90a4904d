# SPDX-License-Identifier: Apache-2.0
"""From an older minor version of an event to today's: applied to a record's content before the gate reads it.

A minor version only adds optional members, so most need nothing here: what is absent stays absent. A function stands
here when absence has come to mean something that an older writer said otherwise.

Invariants: one function leads from one minor to the next; each is pure, and its result is held to the same gate as
everything else, so a wrong one refuses records and lets none through.
Must never: change what a signed record says about a person; read a clock or anything but its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

Upcast = Callable[[dict[str, Any], dict[str, Any] | None], None]
"""Changes content, and identity where there is one, in place. Both came off the wire: nothing about them is certain."""

UPCASTS: Mapping[tuple[str, int], Upcast] = MappingProxyType({})
"""(event type, minor that was written) -> the way to the next minor. What 1.1 added may be absent: none yet."""


def upcast(event: str, written: int, today: int, content: dict[str, Any], identity: dict[str, Any] | None) -> None:
    """Bring both parts from the minor that was written to today's, one minor after the other, in place."""
    for minor in range(written, today):
        step = UPCASTS.get((event, minor))
        if step is not None:
            step(content, identity)
