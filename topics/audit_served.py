# SPDX-License-Identifier: Apache-2.0
"""A ledger as its gateway serves it, as an audit's source: checkpoint and hashes for everybody, entries for auditors.

Records are never served to anybody but their recipients, and so are not looked at: what is shown is one tree under one
signature, and that it holds what others kept of it. What an auditor with a key is served besides are entries, which
show that each follows the one before, and keep or break promises.

Nothing that is served is believed: a tile has the length that the signed size gives it, or the audit ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from schemas.errors import LogError
from schemas.notes import HASH_BYTES
from topics.audit_findings import Held, KeptRecord, Shown
from topics.tiles import TILE_WIDTH, TileFetch, TileId, unpack_entries, width_at


class ServedSource:
    """`topics.audit_findings.AuditSource`.

    Args:
        checkpoint: as served; over `size` entries.
        tile: fetches a tile of hashes.
        entries: fetches a bundle of entries; None: we are no auditor.
        published: the registry that members are given now; None: we are no member.
        brought: what the auditor has from elsewhere.
    """

    whole = True

    def __init__(
        self,
        domain: str,
        checkpoint: bytes,
        size: int,
        tile: TileFetch,
        *,
        entries: TileFetch | None = None,
        published: bytes | None = None,
        brought: Mapping[str, Sequence[Held]],
    ) -> None:
        self.domain = domain
        self.shown: Shown = "hashes" if entries is None else "entries"
        self._checkpoint = checkpoint
        self._size = size
        self._tile = tile
        self._entries = entries
        self._published = published
        self._brought = brought

    def checkpoints(self) -> Sequence[Held]:
        return (Held("checkpoint", self._checkpoint), *self._brought.get("checkpoints", ()))

    def receipts(self) -> Sequence[Held]:
        return self._brought.get("receipts", ())

    def promises(self) -> Sequence[Held]:
        return self._brought.get("promises", ())

    def entries(self, first: int) -> Iterator[bytes]:
        n, over = divmod(first, TILE_WIDTH)
        while self._entries is not None and (width := width_at(0, n, self._size)):
            yield from unpack_entries(self._entries(TileId(None, n, width)), width)[over:]
            n, over = n + 1, 0

    def hashes(self) -> Iterator[bytes]:
        n = 0
        while width := width_at(0, n, self._size):
            data = self._tile(TileId(0, n, width))
            if len(data) != width * HASH_BYTES:
                raise LogError("root_mismatch", "tile")
            for at in range(0, len(data), HASH_BYTES):
                yield data[at : at + HASH_BYTES]
            n += 1

    def registry_file(self, sha256: bytes) -> bytes | None:
        data = self._published
        return data if data is not None and hashlib.sha256(data).digest() == sha256 else None

    def published_registry(self) -> bytes | None:
        return self._published

    def neighbour_file(self, domain: str, name: str) -> None:
        """It hands out no records, so none that came over a border."""

    def topics(self) -> Sequence[str]:
        return ()

    def records(self, topic: str, first: int, behind: int | None) -> Sequence[KeptRecord]:
        return ()

    def grants_left(self, topic: str, keys: Sequence[str]) -> None:
        """Keys are never handed over."""
