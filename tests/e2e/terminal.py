# SPDX-License-Identifier: Apache-2.0
"""A person at a terminal: commands run on a pseudo-terminal, prompts are answered, and all that shows is kept.

What it keeps is an asciinema recording, version 2 (docs.asciinema.org/manual/asciicast/v2): a header, then one line per
piece of output. Times in it are those of somebody who types, not those of this machine, so that the same session is the
same recording. Passphrases do not show, and so are not in it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from tests.e2e.commands import environment

COLUMNS, ROWS = 96, 40
PATIENCE_S = 120.0
Typed = str | Callable[[str], str]
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """One session in a folder, in one language."""

    def __init__(self, folder: Path, language: str) -> None:
        self._folder, self._language = folder, language
        self._events: list[tuple[float, str]] = []
        self._at = 0.5

    def note(self, text: str) -> None:
        """What happens beside the terminals."""
        self._show(f"\x1b[2m# {text}\x1b[0m\r\n", 1.5)

    def run(self, who: str, *arguments: str, answers: Sequence[tuple[str, Typed]] = ()) -> tuple[int, str]:
        """`umuhuza ARGUMENTS` typed by `who`; each prompt that shows is answered. Returns exit code and what showed.

        Args:
            answers: (end of the prompt, what is typed, or what follows from what has shown so far), in order.
        """
        shown = " ".join(f"'{one}'" if " " in one else one for one in arguments)
        self._show(f"\x1b[1m{who}$ umuhuza {shown}\x1b[0m\r\n", 1.0)
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        child = subprocess.Popen(
            [sys.executable, "-m", "umuhuza", *arguments],
            cwd=self._folder,
            env=environment(self._language, COLUMNS=str(COLUMNS), TERM="xterm"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            told = self._talk(ours, list(answers))
            code = child.wait(PATIENCE_S)
        finally:
            os.close(ours)
            if child.poll() is None:
                child.kill()
                child.wait()
        return code, told

    def _talk(self, ours: int, answers: list[tuple[str, Typed]]) -> str:
        told, seen, deadline = "", 0, time.monotonic() + PATIENCE_S
        while True:
            ready, _, _ = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing for {PATIENCE_S:.0f} s; waited for {answers[:1]}"
            try:
                data = os.read(ours, 65_536)
            except OSError:  # the other end is closed: the command has ended
                data = b""
            if not data:
                self._show(told[seen:], 0.8)
                assert not answers, f"never asked: {answers[0][0]}"
                return told
            told += data.decode("utf-8", "replace")
            if answers and told.endswith(answers[0][0]):
                self._show(told[seen:], 0.8)
                seen = len(told)
                typed = answers.pop(0)[1]
                os.write(ours, (typed if isinstance(typed, str) else typed(told)).encode("utf-8") + b"\n")

    def _show(self, text: str, after_s: float) -> None:
        if text:
            self._events.append((self._at, text))
        self._at += after_s

    def cast(self, title: str) -> str:
        """The recording."""
        header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": title}
        lines = [header, *([round(at, 2), "o", text] for at, text in self._events)]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def shown_in(cast: str) -> str:
    """What a recording shows, as plain lines."""
    text = "".join(json.loads(line)[2] for line in cast.splitlines()[1:])
    return _ANSI.sub("", text).replace("\r\n", "\n")


def picture_of(cast: str, title: str, told: str) -> str:
    """The recording as one picture (SVG) from top to bottom, without a script and without anything from elsewhere.

    Args:
        told: what it shows, for who cannot see it.
    """
    rows = [row for line in shown_in(cast).rstrip("\n").split("\n") for row in _wrapped(line)]
    width, height = COLUMNS * 8 + 32, len(rows) * 18 + 32
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="ui-monospace, DejaVu Sans Mono, monospace" font-size="13">',
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(told)}</desc>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#14212b"/>',
    ]
    for at, row in enumerate(rows):
        colour = "#ffd479" if "$ umuhuza " in row else "#8fb3c9" if row.startswith("#") else "#f4f7f9"
        lines.append(f'<text x="16" y="{30 + at * 18}" fill="{colour}" xml:space="preserve">{escape(row)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _wrapped(line: str) -> list[str]:
    """As a terminal breaks it: at its edge."""
    return [line[at : at + COLUMNS] for at in range(0, len(line), COLUMNS)] or [""]
