# SPDX-License-Identifier: Apache-2.0
"""HTCDS 2.0: the fields and code lists of IOM's Human Trafficking Case Data Standard, and what a value may be.

Purpose: one place that knows every field (83) and code (21 lists) with its labels, so that forms, spreadsheets, Kobo
and FHIR say the same. The lists are data (`data/htcds-fields.json`, `data/htcds-codelists.json`, source and licence
in their heads); countries and languages come from CLDR through Babel, which is imported here and nowhere else.

Invariants: a value that `check` returned passes `check` again unchanged; every code that `options` offers passes
`check`; codes are the standard's, spelt as there (`Unaquainted`).
Never: puts a value into an error (only the field's name, which is ours), reads a clock, guesses at an unknown code.

Source: Human Trafficking Case Data Standard (HTCDS) by IOM, CC BY 4.0; French labels are ours and unofficial. IOM does
not endorse this software.
"""

from __future__ import annotations

import datetime
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

from babel import Locale
from babel.core import get_global

from schemas.errors import PayloadError

Kind = Literal[
    "text",  # one line
    "note",  # the standard's Long Text
    "code",
    "codes",
    "date",
    "country",
    "countries",
    "language",
    "languages",
    "boolean",
    "number",  # whole, 0 to 120: an age or a count of children
    "phone",
    "latitude",
    "longitude",
]

LANGUAGES = ("en", "fr", "rn", "ar")
"""Of labels."""


@dataclass(frozen=True, slots=True)
class Code:
    """One code of a list, as the standard writes it."""

    code: str
    labels: Mapping[str, str | None]
    """By language; rn and ar are None until a native reviewer has signed off."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the standard: what it may hold, and whether it names a person."""

    name: str
    labels: Mapping[str, str | None]
    status: Literal["DRAFT", "DEPRECATED"]
    """The standard's own; a deprecated field is still read."""
    core: bool
    kind: Kind
    codelist: str | None
    """Key of `CODELISTS`, for kinds code and codes."""
    identity: bool
    """Names or locates a person: travels only in the identity part."""

    @property
    def multi(self) -> bool:
        """Whether its value is a tuple of codes."""
        return self.kind in ("codes", "countries", "languages")


def _load(name: str) -> Any:
    return json.loads(resources.files("schemas").joinpath("data", name).read_text(encoding="utf-8"))


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        row["name"]: Field(
            row["name"],
            MappingProxyType(row["labels"]),
            row["status"],
            row["core"],
            row["kind"],
            row["codelist"],
            row["identity"],
        )
        for row in _load("htcds-fields.json")["fields"]
    }
)
"""Every field, in the standard's order."""

CODELISTS: Mapping[str, Mapping[str, Code]] = MappingProxyType(
    {
        name: MappingProxyType({row["code"]: Code(row["code"], MappingProxyType(row["labels"])) for row in rows})
        for name, rows in _load("htcds-codelists.json")["codelists"].items()
    }
)
"""Every code list, named after its field; codes in the standard's order, which is sometimes a scale."""

BOOLEANS: Mapping[str, Mapping[str, str | None]] = MappingProxyType(
    {
        "true": MappingProxyType({"en": "Yes", "fr": "Oui", "rn": None, "ar": None}),
        "false": MappingProxyType({"en": "No", "fr": "Non", "rn": None, "ar": None}),
    }
)

# CLDR's regions that are not ISO 3166-1 countries: exceptional reservations, groupings, pseudo and unknown regions.
_NOT_COUNTRIES = frozenset({"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "XK", "ZZ"})
# ISO 639 codes that name no language, and CLDR's entries for none.
_NOT_LANGUAGES = frozenset({"mul", "und", "zxx"})

# Offered first, because a caseworker in Burundi or Tunisia picks them most; the rest follows alphabetically.
_FIRST_COUNTRIES = ("BI", "TN", "RW", "TZ", "CD", "UG", "KE")
_FIRST_LANGUAGES = ("rn", "fr", "sw", "en", "ar", "aeb", "rw", "ln")

# CLDR's own names are unusual here: nobody in Bujumbura calls her language "roundi".
_LANGUAGE_NAMES: Mapping[str, Mapping[str, str]] = {"rn": {"fr": "kirundi", "en": "Kirundi", "rn": "Ikirundi"}}

# What people write and CLDR does not list. Folded as `_fold` does.
_ALSO_COUNTRIES = {
    "rdc": "CD",
    "rdcongo": "CD",
    "drc": "CD",
    "drcongo": "CD",
    "republiquedemocratiqueducongo": "CD",
    "democraticrepublicofthecongo": "CD",
    "congodemocraticrepublicofthe": "CD",
    "republiqueducongo": "CG",
    "eau": "AE",
    "uae": "AE",
    "usa": "US",
    "uk": "GB",
    "royaumeuni": "GB",
}
_ALSO_LANGUAGES = {
    "roundi": "rn",
    "rundi": "rn",
    "ikirundi": "rn",
    "kiswahili": "sw",
    "ikinyarwanda": "rw",
    "derja": "aeb",
    "darija": "ary",
}

_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")
_PHONE = re.compile(r"\+?[1-9][0-9]{1,14}")  # the standard's own expression, E.164
_NUMBER = re.compile(r"[0-9]{1,3}")
_DECIMAL = re.compile(r"-?[0-9]{1,3}(?:\.[0-9]{1,15})?")
_NEWLINE = re.compile(r"\r\n?|[\u2028\u2029]")
_YEARS = range(1900, 2200)  # a year outside is a slip of the pen ("0026")
_MAX_NUMBER = 120
_MAX_CODES = 300
_MAX_LENGTH = {"text": 500, "note": 8000}
# Embeddings, overrides and isolates change the order in which a line is shown: one name could be read as another.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@cache
def _cldr(what: Literal["country", "language"], language: str) -> Mapping[str, str]:
    """Code -> name in one language, as far as CLDR has it."""
    locale = Locale(language)
    if what == "country":
        return {
            code: name
            for code, name in locale.territories.items()
            if len(code) == 2 and code.isalpha() and code not in _NOT_COUNTRIES
        }
    names = {
        code: name
        for code, name in locale.languages.items()
        if len(code) in (2, 3) and code.isalpha() and code not in _NOT_LANGUAGES
    }
    names.update({code: own[language] for code, own in _LANGUAGE_NAMES.items() if language in own})
    return names


def _labels(what: str, code: str) -> Mapping[str, str | None]:
    """Labels of a code; `what` is a key of `CODELISTS`, or "country", "language", "boolean". KeyError if unknown."""
    if what == "country":
        return {
            "en": _cldr("country", "en")[code],
            **{each: _cldr("country", each).get(code) for each in LANGUAGES[1:]},
        }
    if what == "language":
        return {
            "en": _cldr("language", "en")[code],
            **{each: _cldr("language", each).get(code) for each in LANGUAGES[1:]},
        }
    if what == "boolean":
        return BOOLEANS[code]
    return CODELISTS[what][code].labels


def _in(language: str, labels: Mapping[str, str | None]) -> str:
    """The label in a language, else French, else English (which is always there)."""
    for each in (language, "fr", "en") if language != "en" else ("en",):
        found = labels.get(each)
        if found:
            return found
    raise ValueError("a code without an English label")  # refused by the tests of the data


def label(codelist: str, code: str, language: str) -> str:
    """How a code is shown: falls back from `language` to French, to English.

    Args:
        codelist: a key of `CODELISTS`, or `country`, `language`, `boolean`.

    Raises:
        PayloadError: `payload_invalid`, no such list or code.
    """
    try:
        return _in(language, _labels(codelist, code))
    except KeyError:
        raise PayloadError("payload_invalid", path="htcds.*") from None


def field_label(name: str, language: str) -> str:
    """How a field is shown. Raises PayloadError `payload_invalid`: unknown field."""
    return _in(language, _field(name).labels)


def _field(name: str) -> Field:
    field = FIELDS.get(name)
    if field is None:
        # The name was input: it may be a person's.
        raise PayloadError("payload_invalid", path="htcds.*")
    return field


def _list_of(field: Field) -> str | None:
    """What `label` calls the list that a field's codes come from."""
    if field.kind in ("country", "countries"):
        return "country"
    if field.kind in ("language", "languages"):
        return "language"
    return "boolean" if field.kind == "boolean" else field.codelist


def _codes_of(what: str) -> Sequence[str]:
    if what == "country":
        return tuple(_cldr("country", "en"))
    if what == "language":
        return tuple(_cldr("language", "en"))
    return tuple(BOOLEANS if what == "boolean" else CODELISTS[what])


@cache
def _known(what: str) -> frozenset[str]:
    return frozenset(_codes_of(what))


@cache
def codes(field: str) -> frozenset[str]:
    """Every code that may answer a field; none for one without a list, or that names somebody."""
    known = FIELDS.get(field)
    what = None if known is None or known.identity else _list_of(known)
    return frozenset() if what is None else _known(what)


def options(field: str, language: str) -> list[tuple[str, str]]:
    """(code, label) for a pick list: the standard's order; countries and languages near to here first, then by label.

    Raises PayloadError `payload_invalid`: unknown field. A field without a list has no options.
    """
    what = _list_of(_field(field))
    if what is None:
        return []
    pairs = [(code, label(what, code, language)) for code in _codes_of(what)]
    if what in ("country", "language"):
        first = _FIRST_COUNTRIES if what == "country" else _FIRST_LANGUAGES
        pairs.sort(key=lambda pair: (first.index(pair[0]) if pair[0] in first else len(first), _sort_key(pair[1])))
    return pairs


def _sort_key(text: str) -> tuple[str, str]:
    return _fold(text), text


def _fold(text: str) -> str:
    """Without case, accents, spaces and punctuation; letters of every script stay."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if char.isalnum())


@cache
def _index(what: str) -> Mapping[str, str]:
    """Folded code, en label, fr label and usual spellings -> code. A spelling of two codes finds neither."""
    found: dict[str, str | None] = {}
    exact: dict[str, str] = {}
    for code in _codes_of(what):
        exact[_fold(code)] = code
        labels = _labels(what, code)
        for words in (labels.get("en"), labels.get("fr")):
            if words:
                key = _fold(words)
                found[key] = code if found.get(key, code) == code else None
    index = {key: code for key, code in found.items() if code is not None}
    if what == "country":
        aliases = get_global("territory_aliases")
        index.update({_fold(old): new[0] for old, new in aliases.items() if len(old) == 3 and new[0] in exact.values()})
        index.update(_ALSO_COUNTRIES)
    elif what == "language":
        index.update(_alpha3())
        index.update(_ALSO_LANGUAGES)
    elif what == "boolean":
        index.update({"1": "true", "0": "false", "vrai": "true", "faux": "false"})
    index.update(exact)  # a code always means itself
    return MappingProxyType(index)


@cache
def _alpha3() -> Mapping[str, str]:
    """ISO 639-2 three-letter codes, which the standard names, -> CLDR's shorter code."""
    known = _cldr("language", "en")
    aliases: Mapping[str, str] = get_global("language_aliases")
    return {old: new for old, new in aliases.items() if len(old) == 3 and new in known and old not in known}


def find_code(field: str, text: str) -> str | None:
    """The code that a person means: the code, its English or its French label, whatever the case, accents and spaces.

    None: unknown, or the field has no list. Raises PayloadError `payload_invalid`: unknown field.
    """
    what = _list_of(_field(field))
    if what is None or not isinstance(text, str) or len(text) > 500:
        return None
    return _index(what).get(_fold(text))


def check(name: str, value: object) -> str | tuple[str, ...]:
    """The value as it travels, or an error that says where and never what.

    Text is NFC, trimmed, one line (a note keeps its lines); dates are YYYY-MM-DD, YYYY-MM or YYYY and exist in the
    calendar; telephone numbers lose their spaces; booleans are "true" or "false"; multi-valued fields are tuples of
    codes, each once, in the order given. Codes are exact; for what people write, ask `find_code` first.

    Raises:
        PayloadError: `payload_invalid`, path `htcds.<field>`, or `htcds.*` for a field that is not in the standard.
    """
    field = _field(name)
    try:
        if field.multi:
            return _many(field, value)
        return _one(field, value)
    except _RefusedError:
        raise PayloadError("payload_invalid", path=f"htcds.{name}") from None


class _RefusedError(Exception):
    """Inside this module only; carries nothing."""


def _many(field: Field, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not 0 < len(value) <= _MAX_CODES:
        raise _RefusedError
    return tuple(dict.fromkeys(_code(field, each) for each in value))


def _one(field: Field, value: object) -> str:
    match field.kind:
        case "text" | "note":
            return _text(value, field.kind)
        case "date":
            return _date(value)
        case "phone":
            return _phone(value)
        case "number":
            return _number(value)
        case "latitude":
            return _coordinate(value, 90)
        case "longitude":
            return _coordinate(value, 180)
        case _:
            return _code(field, value)


def _code(field: Field, value: object) -> str:
    what = _list_of(field)
    if what == "boolean" and isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str) or what is None:
        raise _RefusedError
    if what == "boolean":
        value = value.lower()  # XLSForm and spreadsheets write TRUE
    elif what == "language":
        value = _alpha3().get(value, value)
    if value not in _known(what):
        raise _RefusedError
    return value


def _text(value: object, kind: Literal["text", "note"]) -> str:
    if not isinstance(value, str) or len(value) > 4 * _MAX_LENGTH["note"]:
        raise _RefusedError
    if any(_forbidden(char) for char in value):
        raise _RefusedError
    text = unicodedata.normalize("NFC", value)
    text = " ".join(text.split()) if kind == "text" else _NEWLINE.sub("\n", text).strip()
    if not 0 < len(text) <= _MAX_LENGTH[kind]:
        raise _RefusedError
    return text


def _forbidden(char: str) -> bool:
    """Controls, lone surrogates (they have no UTF-8), noncharacters, and what reorders a line."""
    category = unicodedata.category(char)
    if category == "Cc":
        return char not in "\t\r\n"
    point = ord(char)
    return category == "Cs" or point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF or char in _REORDERING


def _date(value: object) -> str:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = value.isoformat()
    if not isinstance(value, str) or len(value) > 10:
        raise _RefusedError
    found = _DATE.fullmatch(value)
    if found is None:
        raise _RefusedError
    year, month, day = (int(part) if part is not None else 1 for part in found.groups())
    if year not in _YEARS:
        raise _RefusedError
    try:
        datetime.date(year, month, day)
    except ValueError:
        raise _RefusedError from None
    return value


def _phone(value: object) -> str:
    if not isinstance(value, str) or len(value) > 40:
        raise _RefusedError
    digits = re.sub(r"[ \u00a0\u202f().\-/]", "", value)
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    if _PHONE.fullmatch(digits) is None:
        raise _RefusedError
    return digits


def _number(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # spreadsheets know no integers
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 <= value <= _MAX_NUMBER else ""
    if not isinstance(value, str) or _NUMBER.fullmatch(value) is None or int(value) > _MAX_NUMBER:
        raise _RefusedError
    return str(int(value))


def _coordinate(value: object, limit: int) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    if not isinstance(value, str) or len(value) > 24 or _DECIMAL.fullmatch(value) is None:
        raise _RefusedError
    if abs(Decimal(value)) > limit:
        raise _RefusedError
    return value
