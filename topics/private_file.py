# SPDX-License-Identifier: Apache-2.0
"""A private key in a file of its own: for this user only (0600), whole or not at all, in clear or locked.

    in clear    the text that holds the key, as its reader wants it
    locked      {"v":2,"public":...,"locked":{...}}: that text locked with a passphrase (`schemas/locked.py`)

`public` says whose key it is, so that whoever only looks is asked for nothing; it is authenticated with what is locked,
and another's file does not open in its place.

Invariants: a private key is never overwritten but by itself, locked anew, read back and opened first. If we crash, a
file is the old one or the new one, whole. Must never: print or log what is inside, or put it into an error.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas import ijson
from schemas.errors import KeyStoreError
from schemas.keys import b64url
from schemas.locked import RFC_9106, Cost, lock, require_strong, undamaged, unlock
from topics.durable_file import sync_folder
from topics.settings import SettingsError

_MAX_BYTES = 64 * 1024

Passphrase = Callable[[], str]
"""Asked only where it is needed; raises KeyStoreError `passphrase_missing` where nobody gives one."""
Step = Callable[[str], None]
"""Told after each step of a replacement; tests end the process there."""


@dataclass(frozen=True, slots=True)
class PrivateText:
    """A key file as it was read, before it is opened."""

    what: str
    """Which kind of key it has to be: `gateway`, `ledger`, `witness`, `holder`."""
    public: str | None
    """Whose key it is; None: it lies in clear, and its text says it."""
    _text: str = field(repr=False)
    _locked: Any = field(repr=False, default=None)

    @property
    def locked(self) -> bool:
        return self.public is not None

    def open(self, passphrase: Passphrase) -> str:
        """The text that holds the key.

        Raises:
            KeyStoreError: keys_damaged, passphrase_wrong; and what `passphrase` raises.
        """
        if self.public is None:
            return self._text
        try:
            return unlock(self._locked, passphrase(), _about(self.what, self.public)).decode("utf-8")
        except UnicodeDecodeError:
            raise KeyStoreError("keys_damaged", "keys.locked") from None


def read_own(path: Path, name: str) -> str:
    """The text of a file that only this user may read.

    Args:
        name: what an error calls it: a setting, or the file's own name.

    Raises:
        SettingsError: missing, readable by others, or no text.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{name}: the file cannot be read", f"{name} : le fichier ne peut pas être lu") from None
    if os.name == "posix" and mode & 0o077:
        raise SettingsError(
            f"{name}: the file is readable by others; chmod 600",
            f"{name} : le fichier est lisible par d'autres ; chmod 600",
        )
    return text


def read_private(text: str, what: str) -> PrivateText:
    """A key file's text. Raises KeyStoreError `keys_damaged`: it is locked, and not as it was written."""
    if not text.startswith("{"):
        return PrivateText(what, None, text)
    try:
        raw = ijson.loads(text.encode("utf-8"), max_bytes=_MAX_BYTES, max_depth=4)
    except ijson.IJsonError:
        raise KeyStoreError("keys_damaged", "keys") from None
    if not isinstance(raw, dict) or raw.keys() != {"v", "public", "locked"} or type(raw["v"]) is not int:
        raise KeyStoreError("keys_damaged", "keys")
    if raw["v"] != 2 or not isinstance(raw["public"], str):
        raise KeyStoreError("keys_damaged", "keys")
    undamaged(raw["locked"], _about(what, raw["public"]))
    return PrivateText(what, raw["public"], text, raw["locked"])


def locked_text(secret: str, what: str, public: str, passphrase: str, cost: Cost = RFC_9106) -> str:
    """What stands in a locked file.

    Args:
        secret: the text that holds the key.
        public: says whose key it is; stands in clear.

    Raises:
        KeyStoreError: passphrase_weak.
    """
    require_strong(passphrase)
    locked = lock(secret.encode("utf-8"), passphrase, _about(what, public), os.urandom, cost)
    return json.dumps({"v": 2, "public": public, "locked": locked}, separators=(",", ":")) + "\n"


def write_private(path: Path, text: str) -> None:
    """A new file for this user only (0600), durable, whole or not at all.

    Raises:
        FileExistsError: something is there already; a private key is never overwritten.
    """
    # Half a key file would be in the way of the next attempt, so it is written under another name first.
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    try:
        _write(fresh, text)
        os.link(fresh, path)  # unlike a rename, refuses when something is there
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def replace_private(path: Path, text: str, opens: Callable[[Path], bool], step: Step = lambda _done: None) -> None:
    """Put `text` in the place of the key file at `path`: the same key, locked for the first time or anew.

    If we crash here, the file is the old one or the new one, whole; at worst a second file `.new` lies beside it,
    private as well, which the next time takes away. The bytes of the old file are overwritten where they were;
    whether a disk keeps a copy of them elsewhere (SSD, snapshot, backup) it does not tell.

    Args:
        opens: whether what was written opens and is the same key; asked before anything is replaced.

    Raises:
        KeyStoreError: keys_damaged, when it is not; the old file stays.
    """
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    _write(fresh, text)
    step("written")
    if not opens(fresh):
        raise KeyStoreError("keys_damaged", "keys")
    with path.open("r+b") as old:
        fresh.replace(path)
        step("replaced")
        sync_folder(path.parent)
        step("durable")
        if os.fstat(old.fileno()).st_nlink == 0:  # else it has another name: somebody's copy
            old.write(bytes(os.fstat(old.fileno()).st_size))
            old.flush()
            os.fsync(old.fileno())
    step("overwritten")


def lock_private(path: Path, secret: str, what: str, public: str, passphrase: str, cost: Cost = RFC_9106) -> None:
    """Lock the key file at `path`, which holds `secret`, with a passphrase or with another one.

    Whoever runs with the key goes on running. If we crash: see `replace_private`.

    Raises:
        KeyStoreError: passphrase_weak; keys_damaged, when what was written does not open: the old file stays.
    """

    def opens(fresh: Path) -> bool:
        return read_private(fresh.read_text(encoding="utf-8"), what).open(lambda: passphrase) == secret

    replace_private(path, locked_text(secret, what, public, passphrase, cost), opens)


def _write(fresh: Path, text: str) -> None:
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _about(what: str, public: str) -> str:
    return f"{what} {b64url(hashlib.sha256(public.encode('utf-8')).digest())}"
