# SPDX-License-Identifier: Apache-2.0
"""A process that runs for ever and is asked to stop, more than once."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# A loop closes its selector between giving up the pipe of signals and no longer listening to them.
PROGRAM = """
import asyncio, os, selectors, signal, sys
from umuhuza.stopping import stop_asked

NUMBER = int(sys.argv[1])

class Late(selectors.DefaultSelector):
    def close(self):
        os.kill(os.getpid(), NUMBER)
        super().close()

async def main():
    with stop_asked() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        await stop.wait()
        os.kill(os.getpid(), NUMBER)

with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Late())) as runner:
    runner.run(main())
print("stopped")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_is_told_again_while_stopping_stops_without_a_complaint(number: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number))], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"stopped\n", b"")
