# SPDX-License-Identifier: Apache-2.0
"""Makes receipts from a ledger's folder, which another process keeps.

Each is made under the best checkpoint that covers the entry: one that met the quorum, else the largest that any witness
has cosigned, else the newest. Nothing is checked here, who gets a receipt does (`topics.receipts`). Must never change a
file of the ledger's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.errors import LogError
from schemas.home_proof import HomeProof, Proven
from schemas.notes import read_checkpoint_text, read_note
from topics.cosigning import COSIGNED_FILE, ENDORSED_FILE
from topics.ledger_checkpoints import CHECKPOINT
from topics.ledger_entries import GOOD_KINDS, decode_entry
from topics.ledger_served import ServedLedger
from topics.ledger_view import LedgerView, LoggedRegistry
from topics.proofs import inclusion_proof
from topics.receipts import make_receipt

ReceiptOf = Literal["record", "erased"]
"""Of the entry that a record has; or of the one that calls done what the record commands to erase."""


@dataclass(frozen=True, slots=True)
class HomeContact:
    """What a home ledger proves to another domain at one time (`schemas.home_proof`)."""

    view: LedgerView
    size: int
    checkpoint: bytes

    def prove(self, l1_sha256: bytes, topic: str, offset: int) -> HomeProof | None:
        """Of the record at this place; None while the checkpoint does not cover it.

        Raises:
            LogError: record_unlogged, path `home.proof`: what the ledger says of it is a refusal or a repeat;
                ledger_behind, path `home.registry`: it was logged before any registry, and nobody can prove by which
                keys.
        """
        for index in self.view.indexes_of(l1_sha256):
            entry = self.view.entry(index)
            read = decode_entry(entry)
            if (read.topic, read.offset) != (topic, offset):
                continue
            if index >= self.size:
                return None
            if read.kind not in GOOD_KINDS:
                raise LogError("record_unlogged", "home.proof")
            registry = self.view.registry_before(index)
            if registry is None:
                raise LogError("ledger_behind", "home.registry")
            return HomeProof(self.checkpoint, self._proven(index), self._proven(registry.index))
        return None

    def is_copy(self, l1_sha256: bytes, topic: str, offset: int) -> bool:
        """Whether the record at this place is known to be a repeat of one that is logged at another."""
        entries = (decode_entry(self.view.entry(index)) for index in self.view.indexes_of(l1_sha256))
        return any(one.kind == "duplicate" and (one.topic, one.offset) == (topic, offset) for one in entries)

    def registry(self, index: int) -> LoggedRegistry:
        """The version in force at an entry that was proven."""
        found = self.view.registry_before(index)
        assert found is not None, "it was proven"
        return found

    def _proven(self, index: int) -> Proven:
        path = inclusion_proof(self.view.nodes(self.size), index, self.size)
        return Proven(index, self.view.entry(index), tuple(path))


class ReceiptMaker:
    """Receipts from the folder of a ledger that another process keeps. Used by one thread.

    Args:
        served: over the same folder.
    """

    def __init__(self, folder: Path, served: ServedLedger) -> None:
        self._folder = folder
        self._served = served
        self._read: dict[str, tuple[tuple[int, int, int], int, bytes]] = {}

    def receipt(self, l1_sha256: bytes, of: ReceiptOf = "record") -> bytes | None:
        """Of the first entry with this `header.payload` hash; None while no checkpoint covers one.

        Raises LogError `unavailable`: there is no ledger, or none that has run.
        """
        view = self._served.view()
        found = ((index, view.entry(index)) for index in view.indexes_of(l1_sha256))
        for index, entry in found:
            if (decode_entry(entry).kind == "erased") != (of == "erased"):
                continue
            for size, checkpoint in self._checkpoints():
                if size > index:
                    return make_receipt(index, entry, view.nodes(size), checkpoint, size)
            return None
        return None

    def contact(self) -> HomeContact | None:
        """To prove several records under one checkpoint; None before there is any. Raises LogError `unavailable`."""
        view = self._served.view()
        for size, checkpoint in self._checkpoints():
            return HomeContact(view, size, checkpoint)
        return None

    def _checkpoints(self) -> list[tuple[int, bytes]]:
        """Size and bytes of what was signed, the best first."""
        found = []
        for name in (ENDORSED_FILE, COSIGNED_FILE, CHECKPOINT):
            try:
                stat = (self._folder / name).stat()
                stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                if name not in self._read or self._read[name][0] != stamp:
                    data = (self._folder / name).read_bytes()
                    self._read[name] = (stamp, read_checkpoint_text(read_note(data).text).size, data)
            except (OSError, LogError):  # not there yet; or spoilt, and then the next one serves
                continue
            found.append(self._read[name][1:])
        return found
