# SPDX-License-Identifier: Apache-2.0
"""What a bridge tells and asks beside its records, so that nobody abroad seals to a stranger in one of ours's name.

    what is held there of our registry   fetched, verified by our own root, put where members look at their entries
                                         (`topics.neighbours.of_us`, `adapters.own_entry`)
    what our members say of false keys   brought there, for those agencies alone that an agreement names

A version of our registry that is held there and that we have not published, or other bytes under a version of ours, is
an alarm (`registry_rollback`, path `of-us`): somebody with holders' keys shows them another history than us.

Both are said anew after a restart. Must never: take the other domain's word for what our registry is, or tell it of
members that no agreement names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from schemas.errors import RecordError, RegistryError, UmuhuzaError
from schemas.objections import read_objection
from schemas.registry_trust import TrustedRegistry
from topics.agreement_cover import named_in
from topics.neighbours import OF_US, Neighbours

ASK_S = 60.0
"""So often, at most, the other domain is asked what it holds of us."""


class Remote(Protocol):
    """The other domain's gateway (`topics.http_log.HttpLog`)."""

    async def held_registry(self, etag: str) -> tuple[bytes, str] | None: ...

    async def bring_objections(self, lines: Sequence[bytes]) -> None: ...


class BorderWatch:
    """Of one bridge.

    Args:
        ours: our newest registry.
        objections: what our gateway has of our members, one signed line each.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        other: str,
        *,
        ours: Callable[[], TrustedRegistry],
        neighbours: Neighbours,
        remote: Remote,
        objections: Callable[[], Sequence[bytes]],
        now: Callable[[], float],
    ) -> None:
        self._other = other
        self._ours = ours
        self._neighbours = neighbours
        self._remote = remote
        self._objections = objections
        self._now = now
        self._asked = float("-inf")
        self._etag = ""
        self._held: TrustedRegistry | None = None
        self.told: tuple[bytes, ...] | None = None
        """What was brought there last; None: nothing by this object."""

    async def turn(self, alarm: Callable[[UmuhuzaError], None]) -> None:
        """Ask and tell. `alarm` hears of what hinders no record. Raises UmuhuzaError: no answer, or no neighbour."""
        if not 0 <= self._now() - self._asked < ASK_S:
            found = await self._remote.held_registry(self._etag)
            self._asked = self._now()
            if found is not None:
                self._taken(found, alarm)
        if self._held is not None and not self._is_ours(self._held):
            alarm(RegistryError("registry_rollback", OF_US))
        lines = self._to_tell()
        if lines != self.told:
            await self._remote.bring_objections(lines)
            self.told = lines

    def _taken(self, found: tuple[bytes, str], alarm: Callable[[UmuhuzaError], None]) -> None:
        try:
            self._held = self._neighbours.take_of_us(self._other, found[0])
            self._etag = found[1]
        except RegistryError as exc:
            alarm(RegistryError(exc.code, OF_US))

    def _is_ours(self, held: TrustedRegistry) -> bool:
        """As far as we can tell: older versions are the ledger's to compare."""
        ours = self._ours()
        if held.registry.version == ours.registry.version:
            return held.digest == ours.digest
        return held.registry.version < ours.registry.version

    def _to_tell(self) -> tuple[bytes, ...]:
        registry, now = self._neighbours.registry, int(self._now())
        border = registry.borders.get(self._other)
        named = (
            frozenset[str]() if border is None else frozenset[str]().union(*map(named_in, border.agreements.values()))
        )
        told = []
        for line in self._objections():
            try:
                agency = read_objection(line, registry, now).agency
            except (RecordError, RegistryError):
                continue  # its signer has lost the key meanwhile
            if agency in named and agency in registry.agencies:
                told.append(line)
        return tuple(told)
