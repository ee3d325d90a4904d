# SPDX-License-Identifier: Apache-2.0
"""Nothing is sent to an agency that says that a key in its entry is not its own, until the registry's holders decide.

What was sealed meanwhile may be sealed to a stranger too: it stays here, signed and durable, and goes by itself once
the key is revoked (its grant for the revoked key stays behind) or the objection is gone. Everybody else's goes on.

The objections are the gateway's to tell and the agencies' to sign; the latest told are kept in a file, so that a
restart without a network holds back as well. Must never: drop or change what it holds back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from schemas.errors import RegistryError, UmuhuzaError
from schemas.objections import disputed
from schemas.registry import Registry
from topics.durable_file import replace_file
from topics.log import Appended, Ends, Entry, Log, Stored, ends_of

FILE_NAME = "objections.jsonl"
_MAX_BYTES = 1 << 20


class Disputes:
    """Who is disputed now, by the objections last told."""

    def __init__(self, file: Path, registry: Callable[[], Registry], now: Callable[[], float]) -> None:
        self._file = file
        self._registry = registry
        self._now = now
        self._lines: tuple[bytes, ...] = tuple(file.read_bytes()[:_MAX_BYTES].splitlines()) if file.is_file() else ()

    def told(self, lines: Sequence[bytes]) -> None:
        """In place of what was told before; durable when it returns."""
        if tuple(lines) == self._lines:
            return
        replace_file(self._file, b"".join(line + b"\n" for line in lines))
        self._lines = tuple(lines)

    def agencies(self) -> frozenset[str]:
        """To whom nothing goes now."""
        return disputed(self._lines, self._registry(), int(self._now())) if self._lines else frozenset()


class HeldBack:
    """A log that keeps from disputed agencies what would go to them, and is otherwise the one beneath. Owns it."""

    def __init__(self, log: Log, agencies: Callable[[], frozenset[str]]) -> None:
        self._log = log
        self._agencies = agencies

    @property
    def log_id(self) -> str:
        return self._log.log_id

    async def append(self, entries: Sequence[Entry]) -> Sequence[Appended | UmuhuzaError]:
        """As `Log.append`; for those that are held back a RegistryError `recipient_disputed`, to be tried again."""
        agencies = self._agencies()
        if not agencies:
            return await self._log.append(entries)
        held = [_owner(entry.topic) in agencies for entry in entries]
        going = [entry for entry, stays in zip(entries, held, strict=True) if not stays]
        answers = iter(await self._log.append(going) if going else ())
        return [RegistryError("recipient_disputed", "to") if stays else next(answers) for stays in held]

    async def read(
        self, topic: str, after: int, limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self._log.read(topic, after, limit, max_bytes, wait_s)

    async def poll(
        self, after: Mapping[str, int], limit: int = 500, max_bytes: int = 4 << 20, wait_s: float = 0.0
    ) -> list[Stored]:
        return await self._log.poll(after, limit, max_bytes, wait_s)

    async def ends(self, topic: str) -> Ends:
        return await self._log.ends(topic)

    async def ends_of(self, topics: Sequence[str]) -> dict[str, Ends]:
        return await ends_of(self._log, topics)

    async def put_grants(self, topic: str, grants: Mapping[str, bytes]) -> None:
        """As `Log.put_grants`; nothing for those that are held back, whose grants come again with their records."""
        if _owner(topic) not in self._agencies():
            await self._log.put_grants(topic, grants)

    async def get_grants(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._log.get_grants(topic, keys)

    async def delete_grants(self, topic: str, keys: Sequence[str]) -> None:
        await self._log.delete_grants(topic, keys)

    async def close(self) -> None:
        await self._log.close()


def _owner(topic: str) -> str:
    """Whose mailbox or grants these are."""
    domain, _, rest = topic.partition(".")
    return f"{domain}/{rest.partition('.')[2]}"
