# SPDX-License-Identifier: Apache-2.0
"""An audit's checkers: who answers what it asks of records, here or in processes of their own, several at a time.

What is asked travels in bundles; each process has one in hand, and a thread that hands over and takes back. If a
process dies (killed for memory, say), the audit ends with `unavailable`, and goes on later where it was; nothing that
it was asked is taken for answered.

Memory: what was asked and not yet answered, bounded by who asks. `close` ends every process.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from schemas.errors import LogError
from schemas.registry import Registry, registry_to_json
from topics.audit_checker import Asked, Judged, judge, question, told
from topics.process_messages import message, read_message

PROCESSES_ABOVE = 4096
"""Entries: fewer are not worth starting a process, which takes a quarter of a second."""

_OURS = Path(__file__).resolve().parent.parent

Answer: TypeAlias = Callable[[], list[Judged]]
"""Waits for what was asked. Raises LogError `unavailable`, path `checker`."""


class Checkers(Protocol):
    """Who answers."""

    @property
    def processes(self) -> int: ...

    def ask(self, registry: Registry | None, asked: Sequence[Asked]) -> Answer:
        """One answer each, in order, as this registry version says."""

    def close(self) -> None:
        """Idempotent."""


class Here:
    """In this process, at once."""

    processes = 1

    def ask(self, registry: Registry | None, asked: Sequence[Asked]) -> Answer:
        found = [judge(registry, one) for one in asked]
        return lambda: found

    def close(self) -> None:
        """Nothing is open."""


@dataclass(slots=True, eq=False)
class _Process:
    process: subprocess.Popen[bytes]
    registry: Registry | None = None
    """The one that it was given last; it begins with none."""

    def answers(self, registry: Registry | None, asked: Sequence[Asked]) -> list[Judged]:
        source, sink = self.process.stdout, self.process.stdin
        assert source is not None
        assert sink is not None
        try:
            if self.registry is not registry:
                sink.write(message({"registry": None if registry is None else registry_to_json(registry)}))
                self.registry = registry
            sink.write(question(asked))
            sink.flush()
            body = read_message(source)
        except OSError:
            body = None
        if body is None:
            raise LogError("unavailable", "checker")
        return told(body)

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was still to be written has no reader any more
                pipe.close()
        self.process.wait()


class Processes:
    """In processes beside this one. Raises LogError `unavailable` (path `checker`): none can be started.

    Args:
        count: as many as cores.
    """

    def __init__(self, count: int) -> None:
        self.processes = count
        self._all: list[_Process] = []
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="umuhuza-audit")
        try:
            for _ in range(count):
                one = _Process(_started())
                self._all.append(one)
                self._idle.put(one)
        except OSError:
            self.close()
            raise LogError("unavailable", "checker") from None

    @property
    def running(self) -> list[subprocess.Popen[bytes]]:
        """Those that were started."""
        return [one.process for one in self._all]

    def ask(self, registry: Registry | None, asked: Sequence[Asked]) -> Answer:
        return self._threads.submit(partial(self._answers, registry, asked)).result

    def _answers(self, registry: Registry | None, asked: Sequence[Asked]) -> list[Judged]:
        one = self._idle.get()
        try:
            return one.answers(registry, asked)
        finally:
            self._idle.put(one)

    def close(self) -> None:
        for one in self._all:
            one.process.kill()  # it has nothing that could be lost
        self._threads.shutdown(wait=True, cancel_futures=True)
        for one in self._all:
            one.end()
        self._all.clear()


def _started() -> subprocess.Popen[bytes]:
    # -P: nothing is imported from the folder that we are called in, which may be the evidence that is checked.
    path = os.pathsep.join(filter(None, (str(_OURS), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "topics.audit_checker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


def checkers_for(entries: int, processes: int) -> Checkers:
    """For so many entries: `processes` of them where it is worth it."""
    return Processes(processes) if processes > 1 and entries > PROCESSES_ABOVE else Here()
