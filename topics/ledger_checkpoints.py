# SPDX-License-Identifier: Apache-2.0
"""What a ledger has signed: the newest checkpoint, in a file beside it, and the rule that there is one history.

    checkpoint    the signed note that was signed last (C2SP tlog-checkpoint), replaced atomically
    cosigned      the newest one with witnesses' cosignatures, put there by whoever asks them

Several processes may keep one ledger in one folder: they take turns (`checkpoint.lock`), and who has read less than
another has signed signs nothing.

Invariants: signed is only a tree that is as large as the last signed and the last cosigned one, or larger, and begins
with both. The file is durable before the checkpoint is handed to anybody. Where the store was put back from a copy, or
another one took its place, that shows here, before anything is signed: the ledger then stops.

If we crash: before the file is replaced, the checkpoint was handed to nobody; after, it is the last one. It must never
sign what was not read back from the store, nor repair anything by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from schemas.errors import LogError
from schemas.notes import Checkpoint, NoteKey, NoteSigner, SignedCheckpoint, sign_checkpoint, verify_checkpoint
from topics.durable_file import keep_file
from topics.ledger_view import LedgerView
from topics.sqlite_transaction import code_of

CHECKPOINT = "checkpoint"
COSIGNED = "cosigned"
LOCK = "checkpoint.lock"
_MAX_BYTES = 1 << 20


class Checkpoints:
    """One ledger's, in its folder.

    Args:
        signers: the ledger's note keys, named as its origin; the first is the Ed25519 one.
        now: seconds since the epoch.

    Raises LogError `signature_invalid`, `note_malformed`: a file is there that these keys did not sign.
    """

    def __init__(self, folder: Path, signers: Sequence[NoteSigner], now: Callable[[], float]) -> None:
        self._folder = folder
        self._signers = tuple(signers)
        self._now = now
        self.last = self._read(CHECKPOINT)
        self._ahead = {CHECKPOINT: self.last, COSIGNED: self.cosigned()}
        """By file: what a tree that is read to the end of the store has to reach."""
        self._agreed: dict[str, Checkpoint] = {}
        """By file: what this tree is known to begin with."""

    @property
    def origin(self) -> str:
        return self._signers[0].name

    @property
    def keys(self) -> tuple[NoteKey, ...]:
        """With which it signs."""
        return tuple(one.public for one in self._signers)

    def cosigned(self) -> SignedCheckpoint | None:
        """The newest that witnesses have signed, as far as it was brought here. Raises LogError as the class."""
        return self._read(COSIGNED)

    def check(self, view: LedgerView) -> bool:
        """Whether the tree that was read back reaches what was signed; False: another process has just signed more.

        Raises LogError `log_inconsistent`, path `checkpoint` or `cosigned`: this tree does not begin with that one.
        """
        self.last = self._read(CHECKPOINT)
        found = [(name, one.checkpoint) for name, one in self._signed() if one is not None]
        return all(self._follows(view, before, name) for name, before in found)

    def publish(self, view: LedgerView) -> SignedCheckpoint | None:
        """Sign the tree that was read back, if it is not the one signed last; durable when it returns.

        Raises LogError as `check`.
        """
        with self._alone():
            if not self.check(view) or (self.last is not None and self.last.checkpoint.size == view.size):
                return None
            data = sign_checkpoint(
                Checkpoint(self.origin, view.size, view.tree.root()), self._signers, max(int(self._now()), 1)
            )
            keep_file(self._folder / CHECKPOINT, data)
            self.last = self._read(CHECKPOINT)
            return self.last

    def _signed(self) -> tuple[tuple[str, SignedCheckpoint | None], ...]:
        return (CHECKPOINT, self.last), (COSIGNED, self.cosigned())

    def _follows(self, view: LedgerView, before: Checkpoint, name: str) -> bool:
        if self._agreed.get(name) == before:
            return True
        if before.origin == self.origin and before.size > view.size:
            known = self._ahead[name]
            if known is None or known.checkpoint != before:  # new since we read: the next round will have it
                self._ahead[name] = self.last if name == CHECKPOINT else self.cosigned()
                return False
        if before.origin != self.origin or before.size > view.size or view.root_at(before.size) != before.root:
            raise LogError("log_inconsistent", name)
        self._agreed[name] = before
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Between processes. Raises LogError `storage_full`, `unavailable`."""
        try:
            descriptor = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise LogError(code_of(error, None), LOCK) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self, name: str) -> SignedCheckpoint | None:
        return read_checkpoint(self._folder / name, [one.public for one in self._signers])


def read_checkpoint(path: Path, keys: Sequence[NoteKey]) -> SignedCheckpoint | None:
    """None when the file is not there. Raises LogError `signature_invalid`, `note_malformed`, `unavailable`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError:
        raise LogError("unavailable", path.name) from None
    return verify_checkpoint(data, keys)
