# SPDX-License-Identifier: Apache-2.0
"""Processes that live as long as one command that shows something: gateways, ledgers, bridges, agencies.

Each is forked from the command, which has imported what they all need: a dozen of them start in the time that two
would take from the beginning, and run the same commands as an operator's. Each has a log file of its own.

Invariants: whatever was started is ended by `end`, by its own id, also when a start was interrupted. Nothing is forked
while this process has a second thread or an open database: a lock that nobody will give back, or one that the child
believes to have, would come along. A thread that Python has forgotten counts too: while it ends, OpenSSL cleans up
behind it under a lock, and a child that was forked then waits for that lock at its first connection, for ever. Must
never: be used by what runs in the field.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import apsw

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE_S = 15.0
_MOMENT_S = 0.5


class Children:
    """The processes of one command, by name.

    Args:
        logs: folder of their log files, `<name>.log`; made with the first.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, BaseProcess] = {}

    def start(self, name: str, work: Callable[[], object]) -> None:
        """Run `work` in a process of its own; what it writes goes to its log file.

        Raises RuntimeError: something of this process's would come along (a fault of the program).
        """
        if _threads() or apsw.connections():
            raise RuntimeError("a thread or a database is open")
        self._logs.mkdir(exist_ok=True)
        process = multiprocessing.get_context("fork").Process(
            target=_become, args=(self._logs / f"{name}.log", work), name=name
        )
        until_alone()
        with unhurried():
            process.start()
            self._running[name] = process

    @property
    def pids(self) -> dict[str, int]:
        """Of those that were started and not ended."""
        return {name: process.pid for name, process in self._running.items() if process.pid is not None}

    def ended(self) -> str | None:
        """The first that has ended by itself; None when all run."""
        return next((name for name, process in self._running.items() if process.exitcode is not None), None)

    def kill(self, name: str) -> None:
        """It ends at once, in the middle of whatever it does, as when power fails."""
        with unhurried():
            process = self._running.pop(name)
            process.kill()
            process.join()

    def end(self) -> None:
        """End all, the last first; whoever takes longer than 15 seconds is killed. Idempotent."""
        with unhurried():
            running = list(reversed(self._running.values()))
            for process in running:
                process.terminate()
            for process in running:
                process.join(_PATIENCE_S)
                if process.exitcode is None:
                    process.kill()
                    process.join()
            self._running.clear()


def _threads() -> list[threading.Thread]:
    """Besides this one, without timers that wait: these hold nothing, and are not there in a child."""
    return [
        one
        for one in threading.enumerate()
        if one is not threading.current_thread() and not isinstance(one, threading.Timer)
    ]


def until_alone() -> None:
    """Those that Python has joined and the system has not: a moment. Where the system does not say, a moment is given;
    what is still there after it was never Python's, and holds nothing of ours."""
    tasks = Path("/proc/self/task")
    known = threading.active_count()
    until = time.monotonic() + _MOMENT_S
    while time.monotonic() < until and not (tasks.exists() and len(list(tasks.iterdir())) <= known):
        time.sleep(0.001)


def _become(log: Path, work: Callable[[], object]) -> None:
    """In the child: nothing of the parent's terminal, and signals as a new program has them."""
    number = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(number, stream)
    os.close(number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_DFL)
    work()


def command(*arguments: str) -> Callable[[], object]:
    """`umuhuza ARGUMENTS`, in this language, as an operator types it."""
    return partial(_typed, arguments)


def _typed(arguments: tuple[str, ...]) -> None:
    from umuhuza.cli import main  # which is what imports the command that starts us

    sys.argv = ["umuhuza", *arguments]
    main()


@contextmanager
def unhurried() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal wait until this is done: no process is left that nobody would end."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda one, _frame: came.append(one)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
