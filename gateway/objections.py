# SPDX-License-Identifier: Apache-2.0
"""What members say of keys in their own entries that they did not make: taken, kept, and told to every member.

Kept in `objections.jsonl` beside the index, the latest of each agency, so that a restart forgets none. If we crash
while writing, the file is the one before, and the agency says it again within minutes. A gateway that hides them can do
so: this guards against a thief of a holder's key, not against one who also runs the gateway.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from schemas.errors import RecordError, RegistryError
from schemas.objections import read_objection
from schemas.registry import Registry

OBJECTIONS = "objections.jsonl"


class ObjectionBook:
    """The latest objection of each agency."""

    def __init__(self, file: Path, registry: Callable[[], Registry], now: Callable[[], float]) -> None:
        self._file = file
        self._registry = registry
        self._now = now
        self._lines: tuple[bytes, ...] = tuple(file.read_bytes().splitlines()) if file.is_file() else ()

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
            if objection.stands(registry, now):
                found.append((line, objection.agency))
        return found

    def _write(self, lines: tuple[bytes, ...]) -> None:
        part = self._file.with_name(self._file.name + ".part")
        with part.open("wb") as out:
            out.write(b"".join(line + b"\n" for line in lines))
            out.flush()
            os.fsync(out.fileno())
        part.replace(self._file)
        self._lines = lines
