# SPDX-License-Identifier: Apache-2.0
"""What pages say to people who are no caseworkers of ours: texts as data, `data/pages/<language>.toml`.

Purpose: a person's card and the commission's tables in French, English and Arabic; and what stands in for a language
that has no reviewed text yet.

Invariants: every file says where its texts come from and in which state they are; French is complete, and a translation
says either everything that French says or nothing; a translation is `final` only with the body that reviewed it and
the day; a draft is shown only where its file allows that, and then `draft` has words that mark it.
Must never: show a draft without its mark; show a person a translation of what she agrees by before somebody has
reviewed it (Kirundi: French instead, to be read with an interpreter).
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

PageLanguage = Literal["fr", "en", "ar", "rn"]
State = Literal["final", "draft", "wanted"]
_ORIGINALS = ("fr", "en")
"""Written here; the others are translations, which somebody has to review."""


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language."""

    language: PageLanguage
    direction: Literal["ltr", "rtl"]
    state: State
    shown: bool
    """Whether a page may be written in it today: it is final, or a draft that may be shown with its mark."""
    texts: Mapping[str, str]
    """`card.keep`, `statistics.title`, ..."""
    labels: Mapping[str, Mapping[str, str]]
    """Names that stand nowhere else: `place`, `field` (HTCDS fields), and HTCDS code lists by their names."""

    @property
    def draft(self) -> bool:
        """Whether a page in it has to say that nobody has reviewed it."""
        return self.state == "draft"

    def say(self, key: str, **values: str | int) -> str:
        """A text, its `{places}` filled in. Raises KeyError: no such text, or a place without a value."""
        return self.texts[key].format_map(values)


def read_words(text: str) -> Words:
    """One file's words.

    Raises:
        ValueError: a state or language that is none, or a translation that is final without who reviewed it and when.
        KeyError: the file does not say its language, direction, state or source.
    """
    tables = tomllib.loads(text)
    about = tables.pop("about")
    language, state, direction = about["language"], about["state"], about["direction"]
    if language not in get_args(PageLanguage) or state not in get_args(State) or direction not in ("ltr", "rtl"):
        raise ValueError("pages: no such language, state or direction")
    if not about["source"]:
        raise ValueError("pages: texts without a source")
    reviewed = bool(about.get("reviewed_by")) and isinstance(about.get("reviewed_on"), datetime.date)
    if state == "final" and language not in _ORIGINALS and not reviewed:
        raise ValueError("pages: a translation is final when somebody has reviewed it")
    labels = cast(dict[str, dict[str, str]], tables.pop("label", {}))
    texts = {f"{table}.{key}": said for table, found in tables.items() for key, said in _strings(found).items()}
    if state == "wanted" and texts:
        raise ValueError("pages: there are texts, so a translation is no longer wanted")
    return Words(
        language,
        direction,
        state,
        state == "final" or (state == "draft" and about.get("shown_as_draft") is True),
        MappingProxyType(texts),
        MappingProxyType({name: MappingProxyType(_strings(found)) for name, found in labels.items()}),
    )


def _strings(found: dict[str, Any]) -> dict[str, str]:
    if not all(isinstance(said, str) and said for said in found.values()):
        raise ValueError("pages: a text that is none")
    return found


def _load() -> Mapping[PageLanguage, Words]:
    folder = resources.files("schemas").joinpath("data", "pages")
    read = [read_words(file.read_text(encoding="utf-8")) for file in folder.iterdir() if file.name.endswith(".toml")]
    return MappingProxyType({one.language: one for one in read})


WORDS: Mapping[PageLanguage, Words] = _load()
"""Every language that pages know of."""


def words_for(language: PageLanguage) -> Words:
    """The words in which a page is shown to who asks for this language: French while it may not be shown."""
    found = WORDS[language]
    return found if found.shown else WORDS["fr"]
