# SPDX-License-Identifier: Apache-2.0
"""What the command line says, in French or English, to a person (standard error or a table) or a program (`--json`).

The language is `--lang`'s or UMUHUZA_LANG, else the locale's: French for French, and for Kirundi and Arabic, whose
speakers here work in French; English for all others. `t` picks one of two texts. Help texts are chosen when the module
is imported, so the language has to be known by then. What a terminal would obey, in a name or a file of somebody
else's, is shown as U+FFFD.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from schemas.errors import CODES, Language, UmuhuzaError
from schemas.plain_text import harmless

_IN_FRENCH = ("fr", "ar", "rn")


def language() -> Language:
    """The language of this process."""
    chosen = os.environ.get("UMUHUZA_LANG") or next(
        (os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), ""
    )
    return "fr" if chosen.lower().startswith(_IN_FRENCH) else "en"


def t(fr: str, en: str) -> str:
    """The text in the language of this process."""
    return fr if language() == "fr" else en


def program() -> str:
    """What to type for `umuhuza`, here: it need not be on the PATH."""
    typed, here = Path(sys.argv[0]), Path.cwd()
    if shutil.which("umuhuza") is not None or typed.name != "umuhuza":
        return "umuhuza"
    return str(typed.relative_to(here) if typed.is_absolute() and typed.is_relative_to(here) else typed)


def choices(known: Mapping[str, tuple[str, str]]) -> str:
    """Codes with what they mean, for a help text: `code (words), ...`; a code that says it itself stands alone.

    Args:
        known: code -> French, English.
    """
    words = {code: t(*both) for code, both in known.items()}
    return ", ".join(code if said == code.replace("-", " ") else f"{code} ({said})" for code, said in words.items())


_zones: dict[str, tzinfo] = {}


def times_in(zone: tzinfo) -> None:
    """From here on this process shows times in that zone, as its agency's workbooks do; before, in the machine's."""
    _zones["shown"] = zone


def local(at: float) -> datetime:
    """A moment in seconds since the epoch, in the zone in which this process shows times."""
    return datetime.fromtimestamp(at, UTC).astimezone(_zones.get("shown"))


def day(at: float) -> str:
    """The local day of a moment in seconds since the epoch: 12/05/2026."""
    return local(at).strftime("%d/%m/%Y")


def day_and_time(at: float) -> str:
    """The same with its hour: 12/05/2026 14:05."""
    return local(at).strftime("%d/%m/%Y %H:%M")


def clock_words(at: float) -> str:
    """Day and hour of these days: 12/05 14:05."""
    return local(at).strftime("%d/%m %H:%M")


def labelled(fr: str, en: str, value: str) -> str:
    """`règle : ...` or `rule: ...`: French puts a space before its colon."""
    return f"{fr} : {value}" if language() == "fr" else f"{en}: {value}"


def people() -> Console:
    """Where people read: standard error, so that standard output stays for results."""
    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """One sentence. Lines are broken for a terminal only: elsewhere a command in them stays whole, to be copied."""
    shown = people()
    shown.print(harmless(text), markup=False, soft_wrap=not shown.is_terminal)


def result(value: Any, *, as_json: bool, lines: Sequence[str] = ()) -> None:
    """One result: a JSON object on standard output, or lines for people."""
    if as_json:
        sys.stdout.write(orjson.dumps(value).decode() + "\n")
        sys.stdout.flush()
    else:
        for line in lines:
            Console(highlight=False, soft_wrap=True).print(harmless(line), markup=False)


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output for people."""
    shown = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=box.SIMPLE_HEAD)
    for header in headers:
        shown.add_column(header, overflow="fold")
    for row in rows:
        shown.add_row(*map(harmless, row))
    Console(highlight=False).print(shown)


def entries(title: str, items: Sequence[tuple[str, Sequence[str]]]) -> None:
    """A list on standard output for people: a line to find each item by, and what there is to say under it."""
    shown = Console(highlight=False)
    shown.print(title, style="bold", markup=False)
    if not items:
        shown.print("  " + t("rien", "nothing"), markup=False)
    for head, lines in items:
        shown.print(harmless(head), markup=False)
        for line in lines:
            shown.print(Padding(Text(harmless(line), style="dim"), (0, 0, 0, 13)))


def problem(error: UmuhuzaError) -> dict[str, Any]:
    """An error for programs."""
    meaning = error.meaning
    return {
        "code": error.code,
        "retriable": error.retriable,
        "title": meaning.title(language()),
        "advice": meaning.advice(language()),
        **({} if error.path is None else {"path": error.path}),
        **({} if error.expected is None else {"expected": error.expected}),
    }


def advice_for(code: str | None) -> str:
    """What to do about a code, or nothing."""
    return "" if code is None or code not in CODES else CODES[code].advice(language())
