# SPDX-License-Identifier: Apache-2.0
"""What a column of a form is: its names in French and English, what may stand in it, the choices of a drop-down list.

Purpose: the one type by which forms are described (`form_columns`) and looked up (`columns`).
Invariants: values only; a choice is meant by its code or either of its labels, whatever case and accents.
Must never: know which columns there are, or read a cell.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

from schemas import htcds
from schemas.errors import Language

Kind = Literal[
    "text", "note", "choice", "choices", "birth", "date", "yes-no", "ages", "list", "language", "recipient", "htcds"
]
Form = Literal["Orientation", "Dossier"]
FORMS: tuple[Form, ...] = ("Orientation", "Dossier")
"""Names of the sheets that hold rows to send."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of a drop-down list: what the record says (`code`), and what the caseworker reads."""

    code: str
    fr: str
    en: str

    def label(self, language: Language) -> str:
        return self.fr if language == "fr" else self.en


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a form, in either language."""

    name: str
    """Technical name, for ever."""
    fr: str
    en: str
    group: str
    kind: Kind
    help_fr: str = ""
    help_en: str = ""
    required: bool = False
    choices: tuple[Choice, ...] = ()
    field: str | None = None
    """The HTCDS field it fills or takes its codes from."""
    multi: bool = False
    forms: tuple[Form, ...] = FORMS
    width: int = 22
    """Characters."""

    def label(self, language: Language) -> str:
        return self.fr if language == "fr" else self.en

    def help(self, language: Language) -> str:
        return self.help_fr if language == "fr" else self.help_en

    def options(self, language: Language) -> list[tuple[str, str]]:
        """(code, label) of a drop-down list; empty where anything may be typed, and for recipients."""
        if self.choices:
            return [(choice.code, choice.label(language)) for choice in self.choices]
        if self.kind == "yes-no":
            return [("true", "Oui" if language == "fr" else "Yes"), ("false", "Non" if language == "fr" else "No")]
        return htcds.options(self.field, language) if self.field else []

    def nearest(self, text: str, language: Language) -> str | None:
        """The label that looks most like a text that `code_of` does not know."""
        labels = {fold(label): label for _, label in self.options(language)}
        found = difflib.get_close_matches(fold(text), labels, n=1, cutoff=0.75)
        return labels[found[0]] if found else None

    def code_of(self, text: str) -> str | None:
        """The code meant by a code or a label, whatever its case and accents. None: unknown."""
        if self.choices:
            return _by_spelling(self.choices).get(fold(text))
        return htcds.find_code(self.field, text) if self.field else None


def fold(text: str) -> str:
    """For comparing labels: no case, accents, spaces or punctuation."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if char.isalnum())


@cache
def _by_spelling(choices: tuple[Choice, ...]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for choice in choices:
        for spelling in (choice.code, choice.fr, choice.en):
            found[fold(spelling)] = choice.code
    return MappingProxyType(found)
