# SPDX-License-Identifier: Apache-2.0
"""A smart card for tests: SoftHSM, with a folder of its own for each test.

The fixture `card` skips, with the reason, where there is no SoftHSM.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pkcs11
import pytest

from adapters.key_device import make_device_keys
from adapters.keystore import DeviceKeys

LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
PIN, LABEL = "246810", "carte"


class Card:
    """A card in its reader. Its files are elsewhere while it is pulled."""

    def __init__(self, folder: Path, module: str) -> None:
        self.module, self._there, self._away = module, folder / "jetons", folder / "retiree"
        self._there.mkdir()
        settings = folder / "softhsm2.conf"
        settings.write_text(f"directories.tokendir = {self._there}\nobjectstore.backend = file\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(settings)
        self.another(LABEL)

    def another(self, label: str) -> None:
        """One more card, with that name."""
        made = ["--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN]
        subprocess.run(["softhsm2-util", *made], check=True, capture_output=True)

    def pull(self) -> None:
        self._there.rename(self._away)

    def put_back(self) -> None:
        self._away.rename(self._there)

    @property
    def settings(self) -> dict[str, str]:
        """What another process needs to see it."""
        return {"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]}

    def made(self) -> DeviceKeys:
        """Keys of `bi/iom` in it."""
        return make_device_keys("bi/iom", self.module, None, lambda: PIN, os.urandom)


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    module = next((one for one in LIBRARIES if Path(one).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("no SoftHSM; on Debian: apt-get install softhsm2")
    monkeypatch.setenv("SOFTHSM2_CONF", "")
    yield Card(tmp_path, module)
    pkcs11.unload(module)  # the next test has another card
