# SPDX-License-Identifier: Apache-2.0
"""Where a passphrase or a PIN comes from: whoever starts the program, by a way that no other program sees.

In this order, the first that is there:

    UMUHUZA_PASSPHRASE_FD      number of an open file descriptor (a pipe from whoever started us)
    UMUHUZA_PASSPHRASE_FILE    a file of mode 0600 or less
    CREDENTIALS_DIRECTORY      systemd: the file `umuhuza-passphrase` of LoadCredential= or LoadCredentialEncrypted=
    UMUHUZA_PASSPHRASE         the environment; taken out of it at once, so that no child inherits it
    the terminal               if there is one

A new passphrase comes the same ways under UMUHUZA_NEW_PASSPHRASE (file `umuhuza-new-passphrase`), a mail server's
password under UMUHUZA_MAIL_PASSWORD (but for the terminal). One line, UTF-8; what follows the first line feed does not
count. Must never: take it from the command line, write it anywhere, or name it in
an error. Nothing is kept here: whoever asked keeps it as long as it has to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from pathlib import Path

from schemas.errors import KeyStoreError
from schemas.locked import MAX_PASSPHRASE
from topics.settings import SettingsError

CURRENT, NEW = "UMUHUZA_PASSPHRASE", "UMUHUZA_NEW_PASSPHRASE"
MAIL_PASSWORD = "UMUHUZA_MAIL_PASSWORD"
_MAX_BYTES = 4 * MAX_PASSPHRASE + 2

Ask = Callable[[], str | None]
"""Asks a person; None when there is nobody to ask."""


def told(name: str, ask: Ask, environment: MutableMapping[str, str] | None = None) -> str:
    """The passphrase called `name` (CURRENT or NEW).

    Raises:
        KeyStoreError: passphrase_missing, when none of the ways leads to one.
        SettingsError: a way was named that leads nowhere, or to a file that others may read.
    """
    found = given(name, environment)
    if found is None:
        found = ask()
    if not found:
        raise KeyStoreError("passphrase_missing", name)
    return found


def unattended() -> str:
    """What opens the keys, where nobody can be asked. Raises KeyStoreError `passphrase_missing`, SettingsError."""
    return told(CURRENT, lambda: None)


def given(name: str, environment: MutableMapping[str, str] | None = None) -> str | None:
    """What came without asking anybody, or None. Raises SettingsError."""
    env = os.environ if environment is None else environment
    number = env.pop(f"{name}_FD", None)  # can be read only once
    if number is not None:
        return _from_descriptor(f"{name}_FD", number)
    file = env.get(f"{name}_FILE")
    if file is not None:
        return _from_file(f"{name}_FILE", Path(file), private=True)
    folder = env.get("CREDENTIALS_DIRECTORY")
    if folder is not None and (credential := Path(folder) / name.lower().replace("_", "-")).exists():
        # Shown as 0440 where systemd lets the service's user read it by an ACL; the folder is its own.
        return _from_file("CREDENTIALS_DIRECTORY", credential, private=False)
    return env.pop(name, None)


def _from_descriptor(name: str, number: str) -> str:
    try:
        with os.fdopen(int(number), "rb", closefd=True) as stream:
            return _line(name, stream.read(_MAX_BYTES + 1))
    except (OSError, ValueError):
        raise SettingsError(
            f"{name}: no open file descriptor", f"{name} : ce n'est pas un descripteur ouvert"
        ) from None


def _from_file(name: str, file: Path, *, private: bool) -> str:
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(_MAX_BYTES + 1)
    except OSError:
        raise SettingsError(f"{name}: the file cannot be read", f"{name} : le fichier est illisible") from None
    if private and os.name == "posix" and mode & 0o077:
        raise SettingsError(
            f"{name}: the file is readable by others; chmod 600",
            f"{name} : le fichier est lisible par d'autres ; chmod 600",
        )
    return _line(name, data)


def _line(name: str, data: bytes) -> str:
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError("length")
        return data.partition(b"\n")[0].removesuffix(b"\r").decode("utf-8")
    except ValueError:
        raise SettingsError(f"{name}: not one line of UTF-8", f"{name} : pas une ligne en UTF-8") from None
