# SPDX-License-Identifier: Apache-2.0
"""Passphrases and PINs asked for at the terminal, where no other way gave one (`topics/passphrase.py`).

What is typed does not show, and is nowhere but in this process. Must never: ask where nobody sits (a service, a pipe).
"""

from __future__ import annotations

import getpass
import os
import sys

from schemas.errors import KeyStoreError
from schemas.locked import require_strong
from schemas.spoken import passphrase_words
from topics.passphrase import CURRENT, NEW, given, told
from umuhuza.words import language, say, t


def current_passphrase() -> str:
    """What opens the keys. Raises KeyStoreError `passphrase_missing`, SettingsError."""
    return told(CURRENT, lambda: _typed(t("Phrase de passe : ", "Passphrase: ")))


def holder_passphrase(name: str) -> str:
    """What opens a registry holder's key. Raises KeyStoreError `passphrase_missing`, SettingsError."""
    asked = t(f"Phrase de passe du détenteur {name} : ", f"Passphrase of the holder {name}: ")
    return told(CURRENT, lambda: _typed(asked))


def current_pin() -> str:
    """What opens the device. Raises KeyStoreError `passphrase_missing`, SettingsError."""
    return told(CURRENT, lambda: _typed(t("Code PIN du dispositif : ", "The device's PIN: ")))


def new_pin() -> str:
    """What opens the device in which keys are made; a file that is opened for them may have another passphrase.

    Raises:
        KeyStoreError: passphrase_missing.
        SettingsError: as `topics.passphrase.given`.
    """
    return given(NEW) or current_pin()


def new_passphrase() -> str:
    """What will open the keys: typed twice; left empty, six words drawn here are proposed.

    Raises:
        KeyStoreError: passphrase_missing, passphrase_weak (what came without a person).
        SettingsError: as `topics.passphrase.given`.
    """
    found = given(NEW)
    if found is not None:
        require_strong(found)
        return found
    if not sys.stdin.isatty():
        raise KeyStoreError("passphrase_missing", NEW)
    drawn = " ".join(passphrase_words(os.urandom, language()))
    while True:
        first = _typed(
            t(
                "Nouvelle phrase de passe (vide : six mots tirés au sort) : ",
                "New passphrase (empty: six words drawn at random): ",
            )
        )
        if not first:
            say(
                t(
                    "Écrivez ces six mots sur papier, loin de l'ordinateur :",
                    "Write these six words on paper, away from the computer:",
                )
            )
            say(f"  {drawn}")
        chosen = first or drawn
        try:
            require_strong(chosen)
        except KeyStoreError as exc:
            say(exc.describe(language()))
            continue
        if _typed(t("Encore une fois : ", "Once more: ")) == chosen:
            return chosen
        say(t("Ce n'est pas la même.", "It is not the same."))


def line(prompt: str) -> str | None:
    """A line typed in clear; None where nobody sits."""
    if not sys.stdin.isatty():
        return None
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _typed(prompt: str) -> str | None:
    return getpass.getpass(prompt) if sys.stdin.isatty() else None
