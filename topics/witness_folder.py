# SPDX-License-Identifier: Apache-2.0
"""A witness's folder, as an operator sees it.

    witness.key     its private keys, one line each, in clear or locked; 0600, never on two machines that run
    witness.db      what it has cosigned; belongs to these keys, and is never put back from an older copy
    logs.policy     the ledgers that it cosigns: `log` lines, and `quorum none`
    witness.pub     its public keys, one line each: what other domains need

Reads only; `umuhuza witness init` makes it.
"""

from __future__ import annotations

from pathlib import Path

from schemas.errors import LogError
from schemas.notes import NoteKey, NoteSigner, read_skey, read_vkey
from topics.passphrase import unattended
from topics.private_file import Passphrase, read_own, read_private
from topics.settings import SettingsError
from topics.witness import Witness, WitnessedLogs

KEY_FILE, STATE_FILE, LOGS_FILE, PUBLIC_FILE = "witness.key", "witness.db", "logs.policy", "witness.pub"
WITNESS = "witness"
"""What a witness's locked key file is locked as."""
_MAX_BYTES = 64 * 1024


def read_note_signers(path: Path, what: str, passphrase: Passphrase = unattended) -> tuple[NoteSigner, ...]:
    """Private note keys, one line each: a witness's, or a ledger's; in clear or locked.

    Args:
        what: `WITNESS`, or what a ledger's are locked as.
        passphrase: asked only where the file is locked.

    Raises:
        SettingsError: missing, readable by others, or no keys.
        KeyStoreError: keys_damaged, passphrase_wrong, passphrase_missing.
    """
    signers = note_signers(read_private(read_own(path, path.name), what).open(passphrase))
    if not signers:
        raise SettingsError(f"{path.name}: no private keys of notes", f"{path.name} : pas de clés privées de notes")
    return signers


def note_signers(text: str) -> tuple[NoteSigner, ...]:
    """Private note keys in what a file holds; none when it is something else."""
    try:
        return tuple(read_skey(line) for line in text.splitlines())
    except LogError:
        return ()


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


def open_witness(folder: Path, passphrase: Passphrase = unattended) -> Witness:
    """Raises SettingsError and KeyStoreError (keys), LogError unavailable (`witness.state`, `witness.key`)."""
    signers = read_note_signers(folder / KEY_FILE, WITNESS, passphrase)
    return Witness.open(folder / STATE_FILE, signers, WitnessedLogs(folder / LOGS_FILE))
