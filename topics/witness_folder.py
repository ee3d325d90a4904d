# SPDX-License-Identifier: Apache-2.0
"""A witness's folder, as an operator sees it.

    witness.key     its private keys, one line each; mode 0600, never copied to a second machine that runs
    witness.db      what it has cosigned; belongs to these keys, and is never put back from an older copy
    logs.policy     the ledgers that it cosigns: `log` lines, and `quorum none`
    witness.pub     its public keys, one line each: what other domains need

Reads only; `umuhuza witness init` makes it.
"""

from __future__ import annotations

import os
from pathlib import Path

from schemas.errors import LogError
from schemas.notes import NoteKey, NoteSigner, read_skey, read_vkey
from topics.settings import SettingsError
from topics.witness import Witness, WitnessedLogs

KEY_FILE, STATE_FILE, LOGS_FILE, PUBLIC_FILE = "witness.key", "witness.db", "logs.policy", "witness.pub"
_MAX_BYTES = 64 * 1024


def read_note_signers(path: Path) -> tuple[NoteSigner, ...]:
    """Private note keys, one line each: a witness's, or a ledger's.

    Raises:
        SettingsError: missing, readable by others, or no keys.
    """
    name = path.name
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{name}: the file cannot be read", f"{name} : le fichier ne peut pas être lu") from None
    if os.name == "posix" and mode & 0o077:
        raise SettingsError(
            f"{name}: the file is readable by others; chmod 600",
            f"{name} : le fichier est lisible par d'autres ; chmod 600",
        )
    try:
        signers = tuple(read_skey(line) for line in lines)
    except LogError:
        signers = ()
    if not signers:
        raise SettingsError(f"{name}: no private keys of notes", f"{name} : pas de clés privées de notes")
    return signers


def read_note_keys(path: Path) -> tuple[NoteKey, ...]:
    """Public note keys, one line each (vkeys); empty lines and lines with `#` first are passed over.

    Raises:
        SettingsError: cannot be read, or is no such file.
    """
    try:
        with path.open("rb") as stream:
            lines = stream.read(_MAX_BYTES).decode("utf-8").splitlines()
        keys = tuple(read_vkey(line.strip()) for line in lines if line.strip() and not line.startswith("#"))
    except (OSError, UnicodeDecodeError, LogError):
        keys = ()
    if not keys:
        raise SettingsError(f"{path.name}: no public keys (vkeys)", f"{path.name} : pas de clés publiques (vkeys)")
    return keys


def open_witness(folder: Path) -> Witness:
    """Raises SettingsError (keys), LogError unavailable (`witness.state`, `witness.key`)."""
    signers = read_note_signers(folder / KEY_FILE)
    return Witness.open(folder / STATE_FILE, signers, WitnessedLogs(folder / LOGS_FILE))
