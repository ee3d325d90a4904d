# SPDX-License-Identifier: Apache-2.0
"""How many bytes go at once over a link whose speed nobody knows: what is learned from how long the last ones took.

What was not acknowledged when a link breaks goes again, so a portion should take seconds; what goes in many small
portions pays a round trip for each, so it should not take less. Nothing here is written down: after a crash it is
learned again. Must never: make a portion smaller than one record, which is all or nothing (its user's part).
"""

from __future__ import annotations

from dataclasses import dataclass

SHORT_S = 5.0
"""A portion that took less may be followed by a larger one."""
LONG_S = 20.0
"""A portion that took longer is followed by a smaller one."""


@dataclass(slots=True)
class Portion:
    """Bytes to ask for, or to send, at once; between `least` and `most`."""

    size: int
    least: int
    most: int

    def took(self, size: int, seconds: float) -> None:
        """So many bytes went through in so many seconds."""
        if seconds > LONG_S:
            self.size = max(self.least, min(self.size, size) // 2)
        elif seconds < SHORT_S and 2 * size >= self.size:
            self.size = min(self.most, 2 * self.size)

    def broke(self) -> None:
        """The link broke, or nothing came, before it was through."""
        self.size = max(self.least, self.size // 2)
