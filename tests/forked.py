# SPDX-License-Identifier: Apache-2.0
"""Processes forked from one server that has imported what they need: importing it for each of them takes longer than
what is tested. A run has one such server, so all that it imports stands here.

What commands say is chosen when their own modules are imported, so those are imported in the fork and never here.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.crash_agency",
        "tests.crash_bridge",
        "tests.crash_keys",
        "gateway.app",
        "umuhuza.agency",
        "adapters.connectors.template",
    ]
)


class Umuhuza:
    """`umuhuza ARGUMENTS` as a process of its own that goes on; in what it is asked like a `subprocess.Popen`.

    Args:
        said: the file behind which it writes what it says.
        environment: all of its environment.
    """

    def __init__(self, *arguments: str, said: Path, environment: Mapping[str, str]) -> None:
        self._process = CONTEXT.Process(target=_become, args=(arguments, str(said), dict(environment)))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit code, a signal's number below zero; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("umuhuza", seconds or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended already."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become(arguments: tuple[str, ...], said: str, environment: dict[str, str]) -> None:
    """In the fork."""
    os.environ.clear()
    os.environ.update(environment)
    writing = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number in (1, 2):
        os.dup2(writing, number)
    os.close(writing)
    sys.argv = ["umuhuza", *arguments]
    from umuhuza.cli import main

    main()
