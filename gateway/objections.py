# SPDX-License-Identifier: Apache-2.0
"""What members say of keys in their own entries that they did not make: taken, kept, and told to every member.

Over a border the bridge of the other domain brings what its members say, since ours seal to their keys too; it is told
to ours. A member's word stands as well when the key it names is in our registry only as another domain holds it: what
was shown to them and not to us.

Kept in `objections.jsonl` beside the index, the latest of each agency, so that a restart forgets none. If we crash
while writing, the file is the one before, and the agency says it again within minutes. A gateway that hides them can do
so: this guards against a thief of a holder's key, not against one who also runs the gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from schemas.errors import RecordError, RegistryError
from schemas.objections import read_objection
from schemas.registry import Registry
from topics.durable_file import replace_file

OBJECTIONS = "objections.jsonl"


def objections_in(file: Path) -> list[bytes]:
    """What a gateway keeps there, one line each, for its domain's bridge; [] before the first."""
    return file.read_bytes().splitlines() if file.is_file() else []


class ObjectionBook:
    """The latest objection of each agency."""

    def __init__(
        self,
        file: Path,
        registry: Callable[[], Registry],
        now: Callable[[], float],
        abroad: Callable[[], Mapping[str, Registry]] = dict,
    ) -> None:
        """`registry`: ours with its borders; `abroad`: ours as other domains hold it (`Neighbours.of_us`)."""
        self._file = file
        self._registry = registry
        self._abroad = abroad
        self._now = now
        self._lines = tuple(objections_in(file))

    def take(self, agency: str, line: bytes) -> None:
        """Durable when it returns.

        Raises:
            RecordError: record_malformed, signature_invalid, too_large, issuer_mismatch (another agency's).
            RegistryError: key_unknown, key_revoked.
        """
        if read_objection(line, self._registry(), int(self._now())).agency != agency:
            raise RecordError("issuer_mismatch", "objection.iss")
        others = [one for one, whose in self._standing() if whose != agency]
        self._write((*others, line))

    def carried(self, domain: str, lines: Sequence[bytes]) -> None:
        """What agencies of that domain say now, all of it, as its bridge brings it; what is not one's own true word is
        passed over. Durable when it returns."""
        registry, now = self._registry(), int(self._now())
        good: dict[str, bytes] = {}
        for line in lines:
            try:
                agency = read_objection(line, registry, now).agency
            except (RecordError, RegistryError):
                continue
            if agency.partition("/")[0] == domain != registry.domain:
                good[agency] = line
        others = [one for one, whose in self._standing() if whose.partition("/")[0] != domain]
        if [*others, *good.values()] != list(self._lines):
            self._write((*others, *good.values()))

    def lines(self) -> list[bytes]:
        """Those that stand now."""
        return [line for line, _ in self._standing()]

    def _standing(self) -> list[tuple[bytes, str]]:
        registry, now = self._registry(), int(self._now())
        found = []
        for line in self._lines:
            try:
                objection = read_objection(line, registry, now)
            except (RecordError, RegistryError):
                continue  # the key that signed it counts no longer: somebody has decided
            if any(objection.stands(one, now) for one in (registry, *self._abroad().values())):
                found.append((line, objection.agency))
        return found

    def _write(self, lines: tuple[bytes, ...]) -> None:
        replace_file(self._file, b"".join(line + b"\n" for line in lines))
        self._lines = lines
