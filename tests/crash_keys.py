# SPDX-License-Identifier: Apache-2.0
"""Locking a key file in a process of its own that kills itself: what `tests/adapters/test_keystore.py` starts."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from adapters.keystore import lock_keys, read_keys
from schemas.locked import Cost

CHEAP = Cost(memory_kib=8, passes=1, lanes=1)


def lock_and_die(path: Path, passphrase: str, after: str) -> None:
    """Lock what lies there in clear; dies of SIGKILL after that step."""

    def step(done: str) -> None:
        if done == after:
            os.kill(os.getpid(), signal.SIGKILL)

    lock_keys(path, read_keys(path), passphrase, cost=CHEAP, step=step)
