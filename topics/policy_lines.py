# SPDX-License-Identifier: Apache-2.0
"""Where in the policy a rule stands, and what it says in French and English: for people who ask why.

`Verdict.rule` is a dotted path. `line_of` finds the line of `policy/` that it names, `words_of` the words for it
(`policy_words.toml`), chosen by the pattern of the path. Neither decides anything: `topics.catalogue.may` has.

Invariants: every rule that `may` can name has words; the first pattern that fits counts, the last fits everything.
Must never: decide; hold a rule.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from schemas.errors import Language

_TABLE = re.compile(r"\[([^\[\]]+)\]")
_KEY = re.compile(r"([A-Za-z0-9_-]+)\s*=")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the policy's files."""

    file: str
    """`topics/policy/referral.toml`."""
    number: int
    """From 1."""
    text: str
    """As it stands there, without the comment behind it."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of a rule, in one language; `{event}`, `{sender}` and the like are filled in by who asks."""

    why: str
    change: str
    """What would have to change; "" where nothing has to."""


def _lines() -> Iterator[tuple[str, Line]]:
    """(path, line) of every table header and of every member of the policy, in the order of the files."""
    folder = resources.files("topics").joinpath("policy")
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        if not file.name.endswith(".toml"):
            continue
        table = ""
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            line = Line(f"topics/policy/{file.name}", number, re.sub(r"\s+#.*$", "", text))
            header, member = _TABLE.match(text), _KEY.match(text)
            if header is not None:
                table = header[1].replace('"', "")
                yield table, line
            elif member is not None:
                yield (f"{table}.{member[1]}" if table else member[1]), line


@lru_cache(maxsize=1)
def _by_path() -> Mapping[str, Line]:
    return dict(_lines())


def line_of(rule: str) -> Line | None:
    """The line that a rule's path names; None where the rule is the program's own (`registry`, `read`, `event.*`)."""
    return _by_path().get(rule)


@lru_cache(maxsize=1)
def _words() -> tuple[tuple[re.Pattern[str], bool, Mapping[str, Any]], ...]:
    raw = tomllib.loads(resources.files("topics").joinpath("policy_words.toml").read_text(encoding="utf-8"))
    return tuple((re.compile(row["rule"]), row["ok"], row) for row in raw["words"])


def words_of(rule: str, ok: bool, language: Language) -> Words:
    """Words for a verdict."""
    row = next(row for pattern, for_ok, row in _words() if for_ok is ok and pattern.fullmatch(rule) is not None)
    said = row[language]
    return Words(said["why"], said.get("change", ""))
