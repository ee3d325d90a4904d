# SPDX-License-Identifier: Apache-2.0
"""An issuer's numbering on one topic, as an auditor reads it: which numbers came, which are missing, whether each names
the one before it.

The rules are the gateway's (docs/wire-format.md): a number above the last is accepted, and what lies between is a gap;
a gap closes by a later arrival or by a manifest that `voids` its numbers; no number comes twice; `prev` names the
record one number below, where that one is known.

Pure. Memory: the last link and the gaps, not the records. A gap's two edges are remembered, so that what arrives late
is held against both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, Self

import orjson


class Numbered(Protocol):
    """A record's place in its chain, as its manifest says it."""

    @property
    def seq(self) -> int: ...
    @property
    def prev(self) -> str: ...
    @property
    def voids(self) -> tuple[int, ...]: ...


@dataclass(slots=True)
class Gap:
    """Numbers that have not come."""

    first: int
    last: int
    before: str | None
    """Digest of the record before `first`; None: not known."""
    prev: str | None
    """What the record behind `last` names as the one before it; None: nothing is behind it that could."""
    offset: int
    """Of the record behind it, when the gap was seen."""


@dataclass(slots=True)
class Chain:
    """One issuer on one topic so far."""

    seq: int = 0
    """The highest number."""
    digest: str | None = ""
    """base64url SHA-256 of its `header.payload`; "" before the first; None where that was not to be had."""
    gaps: list[Gap] = field(default_factory=list)

    def take(self, manifest: Numbered, digest: str, offset: int, *, beginning_known: bool) -> str | None:
        """The next record in the topic's order; what is wrong with its place: `chain_broken`, or None.

        Args:
            beginning_known: whether everything below was to be seen; not so behind a retention.
        """
        if not self.seq and not beginning_known:
            self.seq, self.digest = manifest.seq, digest
            return None
        wrong = self._late(manifest, digest) if manifest.seq <= self.seq else self._next(manifest, digest, offset)
        self._void(manifest.voids)
        return wrong

    def _next(self, manifest: Numbered, digest: str, offset: int) -> str | None:
        wrong = None
        if manifest.seq > self.seq + 1:
            self.gaps.append(Gap(self.seq + 1, manifest.seq - 1, self.digest, manifest.prev, offset))
        elif self.digest is not None and manifest.prev != self.digest:
            wrong = "chain_broken"
        self.seq, self.digest = manifest.seq, digest
        return wrong

    def _late(self, manifest: Numbered, digest: str) -> str | None:
        place = self._gap_with(manifest.seq)
        if place is None:
            return "chain_broken"  # a number that came before, or was voided
        gap = self.gaps[place]
        wrong = manifest.seq == gap.first and gap.before is not None and manifest.prev != gap.before
        wrong = wrong or (manifest.seq == gap.last and gap.prev is not None and gap.prev != digest)
        below = Gap(gap.first, manifest.seq - 1, gap.before, manifest.prev, gap.offset)
        above = Gap(manifest.seq + 1, gap.last, digest, gap.prev, gap.offset)
        self.gaps[place : place + 1] = [one for one in (below, above) if one.first <= one.last]
        return "chain_broken" if wrong else None

    def _void(self, voids: tuple[int, ...]) -> None:
        for seq in voids:
            place = self._gap_with(seq)
            if place is not None:
                gap = self.gaps[place]
                # What was refused is not to be had: nothing is known at its edges.
                below = Gap(gap.first, seq - 1, gap.before, None, gap.offset)
                above = Gap(seq + 1, gap.last, None, gap.prev, gap.offset)
                self.gaps[place : place + 1] = [one for one in (below, above) if one.first <= one.last]

    def _gap_with(self, seq: int) -> int | None:
        return next((place for place, gap in enumerate(self.gaps) if gap.first <= seq <= gap.last), None)

    def dumps(self) -> str:
        """For the scratch file."""
        gaps = [[gap.first, gap.last, gap.before, gap.prev, gap.offset] for gap in self.gaps]
        return orjson.dumps([self.seq, self.digest, gaps]).decode()

    @classmethod
    def loads(cls, text: str) -> Self:
        seq, digest, gaps = orjson.loads(text)
        return cls(seq, digest, [Gap(*gap) for gap in gaps])
