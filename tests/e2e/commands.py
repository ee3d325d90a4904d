# SPDX-License-Identifier: Apache-2.0
"""Commands as processes, and waiting for what they do. Imports nothing of Umuhuza's: see `shell.py`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

HERE = Path(__file__).parents[2]
PATIENCE_S = 120.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        [line] = self.out.splitlines()
        found = orjson.loads(line)
        assert isinstance(found, dict)
        return found


def environment(language: str = "fr", **more: str) -> dict[str, str]:
    """This process's, without what a developer may have set for Umuhuza."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UMUHUZA_")}
    return {**kept, "UMUHUZA_LANG": language, "PYTHONPATH": str(HERE), "COLUMNS": "200", **more}


def umuhuza(*arguments: str | Path, language: str = "fr", within_s: float = 2 * PATIENCE_S, **more: str) -> Done:
    """Run one command to its end, as its own process."""
    ended = subprocess.run(
        [sys.executable, "-m", "umuhuza", *map(str, arguments)],
        env=environment(language, **more),
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    return Done(ended.returncode, ended.stdout, ended.stderr)


def until(what: str, seen: Callable[[], _T | None], seconds: float = PATIENCE_S) -> _T:
    """What `seen` gives as soon as it is something. Fails with `what` when it never is."""
    deadline = time.monotonic() + seconds
    while True:
        found = seen()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
