# SPDX-License-Identifier: Apache-2.0
"""How a process that runs for ever is asked to stop: Ctrl-C, or SIGTERM from whoever started it.

Both may come, and come twice: a terminal sends Ctrl-C to all of its processes, and the one that started the others
passes it on. Only the first counts.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_asked() -> Iterator[asyncio.Event]:
    """An event that is set by SIGINT or SIGTERM; used around everything that the running loop does.

    Once it is left nothing is to be stopped any more, and signals are ignored until the loop is closed. A loop that
    closes gives up the pipe through which it hears of signals before it stops listening to them: one that came between
    would be told on standard error as a fault, with a traceback.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
