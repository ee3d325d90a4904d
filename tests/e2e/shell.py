# SPDX-License-Identifier: Apache-2.0
"""A shell in which `umuhuza` is typed often: each command is a process of its own, forked from one that has already
imported what all of them need (starting Python sixty times would take minutes on two cores).

What commands say is chosen when their modules are imported, so those are never imported here, only in the fork.

    python -m tests.e2e.shell      requests on standard input, answers on standard output, one JSON object per line
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from tests.e2e.commands import HERE, Done, environment

_HEAVY = ("typer", "structlog", "rich.table", "gateway.app", "umuhuza.agency", "adapters.connectors.template")


class Shell:
    """Somebody at a terminal. Use as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.shell"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=HERE,
            text=True,
        )

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=20)

    def __call__(self, *arguments: str | Path, language: str = "fr", **more: str) -> Done:
        """`umuhuza ARGUMENTS`, to its end."""
        pipe, answers = self._process.stdin, self._process.stdout
        assert pipe is not None
        assert answers is not None
        request = {"arguments": [*map(str, arguments)], "environment": {"UMUHUZA_LANG": language, **more}}
        pipe.write(json.dumps(request) + "\n")
        pipe.flush()
        told = json.loads(answers.readline())
        return Done(told["code"], told["out"], told["err"])


def _run(arguments: list[str], more: dict[str, str], out: int, err: int) -> NoReturn:
    """In the fork: become the command, and end."""
    code: object = 1
    try:
        os.environ.update(more)
        time.tzset()
        sys.argv = ["umuhuza", *arguments]
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        from umuhuza.cli import main

        try:
            main()
        except SystemExit as exc:
            code = exc.code if exc.code is not None else 0
        else:
            code = 0
    finally:
        # Nothing of the shell's own may run in the fork: a traceback is shown here, not above.
        kind, error, trace = sys.exc_info()
        if kind is not None and error is not None:
            sys.excepthook(kind, error, trace)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _serve() -> None:
    for name in _HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                _run(request["arguments"], request["environment"], out.fileno(), err.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode("utf-8", "replace"))
        sys.stdout.write(json.dumps({"code": code, "out": said[0], "err": said[1]}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
