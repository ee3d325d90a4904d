# SPDX-License-Identifier: Apache-2.0
"""A ledger's folder as a gateway serves it: the checkpoint file and the view, both written by another process.

Nothing here is believed or changed; who gets it checks it. A view that was made again is noticed (it is another file)
and opened anew. If the ledger has never run, or its folder is not here, every question is answered `unavailable`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from schemas.errors import LogError
from topics.cosigning import COSIGNED_FILE
from topics.ledger_checkpoints import CHECKPOINT
from topics.ledger_entries import GOOD_KINDS, decode_entry
from topics.ledger_view import LedgerView
from topics.tiles import TileId

VIEW = "view.db"
_MAX_BYTES = 1 << 20


class ServedLedger:
    """Opens nothing before it is asked. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._origin: str | None = None
        self._view: tuple[tuple[int, int], LedgerView] | None = None

    def checkpoint(self) -> bytes:
        """The newest signed checkpoint, with the witnesses' signatures as soon as they are there.

        Raises LogError `unavailable`, path `ledger`.
        """
        newest = self._read(CHECKPOINT)
        if newest is None:
            raise LogError("unavailable", "ledger")
        cosigned = self._read(COSIGNED_FILE)
        return newest if cosigned is None or _text(cosigned) != _text(newest) else cosigned

    def _read(self, name: str) -> bytes | None:
        try:
            with (self._folder / name).open("rb") as stream:
                return stream.read(_MAX_BYTES)
        except OSError:
            return None

    def origin(self) -> str | None:
        """The ledger's name; None until it has signed something. Read once: another ledger is another folder."""
        if self._origin is None:
            with suppress(LogError):
                self._origin = self.checkpoint().partition(b"\n")[0].decode("utf-8", "replace") or None
        return self._origin

    def tile(self, tile: TileId) -> bytes | None:
        """As `LedgerView.served`. Raises LogError `unavailable`."""
        return self.view().served(tile)

    def said_of(self, l1_sha256: bytes, topic: str) -> list[dict[str, Any]]:
        """Every entry of records with these signed bytes in that topic; empty while the ledger is behind."""
        view = self.view()
        found = []
        for index in view.indexes_of(l1_sha256):
            entry = decode_entry(view.entry(index))
            if entry.topic == topic:
                told: dict[str, Any] = {"index": index, "kind": entry.kind, "offset": entry.offset}
                found.append(told | ({} if entry.detail is None else {"code": entry.detail}))
        return found

    def offset_of(self, l1_sha256: bytes, topic: str) -> int | None:
        """Where the event with these signed bytes stands, or stood; None also when there is no ledger to ask now."""
        try:
            said = self.said_of(l1_sha256, topic)
        except LogError:
            return None
        return next((int(one["offset"]) for one in said if one["kind"] in GOOD_KINDS), None)

    def view(self) -> LedgerView:
        """The view as it is now; its `size` may be older. Raises LogError `unavailable`, path `ledger`."""
        path = self._folder / VIEW
        try:
            stat = path.stat()
        except OSError:
            raise LogError("unavailable", "ledger") from None
        which = (stat.st_dev, stat.st_ino)
        if self._view is None or self._view[0] != which:
            self.close()
            self._view = (which, LedgerView.reading(path))
        return self._view[1]

    def close(self) -> None:
        """Idempotent."""
        if self._view is not None:
            self._view[1].close()
            self._view = None


def _text(note: bytes) -> bytes:
    """What a note's signatures cover."""
    return note.partition(b"\n\n")[0]
