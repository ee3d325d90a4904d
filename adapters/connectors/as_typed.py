# SPDX-License-Identifier: Apache-2.0
"""What people type into a cell: dates, births, ages, yes and no, lists. Pure; the clock is an argument.

Invariants: a date typed as text with slashes is read day first, and `note` says in words how it was read; a date that
is not in the calendar is refused; a birth is never made more precise than what was typed (no invented 1 January).
Never: guesses a century, a month-first date, or the meaning of a bare number.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from dataclasses import dataclass

from adapters.connectors.sheets import Cell, Formula
from schemas.forms import Birth

MONTHS = (
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
)
_MONTHS_EN = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_SHORT = ("jan", "fev", "mar", "avr", "mai", "juin", "juil", "aou", "sep", "oct", "nov", "dec")
_SHORT_MORE = {"janv": 1, "fevr": 2, "sept": 9, "jul": 7, "feb": 2, "apr": 4, "jun": 6, "aug": 8}

_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::\d{2})?)?")
_DAY_FIRST = re.compile(
    r"(\d{1,2})\s*[/.\- ]\s*(\d{1,2})\s*[/.\- ]\s*(\d{4})(?:,?\s+(?:à\s+)?(\d{1,2})\s*[h:]\s*(\d{2})?)?"
)
_IN_WORDS = re.compile(r"(\d{1,2})(?:er)?\s+([^\W\d_]+)\.?\s+(\d{4})(?:,?\s+(?:à\s+)?(\d{1,2})\s*[h:]\s*(\d{2})?)?")
_SHORT_YEAR = re.compile(r"\d{1,2}\s*[/.\-]\s*\d{1,2}\s*[/.\-]\s*\d{2}")
_MONTH_ISO = re.compile(r"(\d{4})-(\d{1,2})")
_MONTH_FIRST = re.compile(r"(\d{1,2})\s*[/.\-]\s*(\d{4})")
_MONTH_WORD = re.compile(r"([^\W\d_]+)\.?\s+(\d{4})")
_YEAR = re.compile(r"\d{4}")
_AGE = re.compile(r"(\d{1,3})\s*(?:ans?|years?(?: old)?)")
_ABOUT = re.compile(r"^(?:vers|environ|env\.?|autour de|circa|ca\.?|about|around|~|≈)\s*|\s*\?$", re.IGNORECASE)
_UNKNOWN = frozenset({"inconnu", "inconnue", "non connue", "ne sait pas", "nsp", "?", "unknown", "pas connue"})
_FIRST_YEAR = 1900

# Characters that change the order in which a line is shown, and controls: what is read would not be what was written.
_FORBIDDEN = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


FORMULA_MARK = "(formule)"
UNREADABLE_MARK = "(texte illisible)"
"""What stands for such cells in a file of rows to correct: never taken for what its author wrote."""


class MistypedError(Exception):
    """What was typed cannot be taken. Carries words for its author, never the value."""

    def __init__(self, fr: str, en: str, *, unclear: bool = False) -> None:
        super().__init__("row_invalid")
        self.fr = fr
        self.en = en
        self.unclear = unclear
        """No known way of writing: another reading may be tried."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A day, with the time of day when one was typed."""

    day: datetime.date
    time: datetime.time | None
    read_as: str | None
    """The day in French words, when it was typed in figures whose order can be misread."""


def in_words(day: datetime.date) -> str:
    """`3 avril 2026`, `1er mai 2026`."""
    return f"{'1er' if day.day == 1 else day.day} {MONTHS[day.month - 1]} {day.year}"


def shown(cell: Cell) -> str | None:
    """The cell for showing it to its author again, whatever is in it."""
    try:
        return text_of(cell, lines=True)
    except MistypedError:
        return UNREADABLE_MARK if isinstance(cell, str) and cell != FORMULA_MARK else FORMULA_MARK


def text_of(cell: Cell, *, lines: bool = False) -> str | None:
    """The cell as text: NFC, trimmed, one line unless `lines`. None: empty. Raises MistypedError."""
    match cell:
        case None:
            return None
        case Formula() | "(formule)":
            raise MistypedError(
                "La cellule contient une formule, qui n'est jamais calculée ici ; écrivez la valeur elle-même.",
                "The cell holds a formula, which is never computed here; write the value itself.",
            )
        case bool():
            return "Oui" if cell else "Non"
        case float() if cell.is_integer():
            return str(int(cell))
        case int() | float():
            return str(cell)
        case datetime.datetime():
            return cell.strftime("%d/%m/%Y %H:%M") if cell.time() != datetime.time() else cell.strftime("%d/%m/%Y")
        case datetime.date():
            return cell.strftime("%d/%m/%Y")
    text = unicodedata.normalize("NFC", cell)
    text = re.sub(r"\r\n?|[\u2028\u2029]", "\n", text).strip() if lines else " ".join(text.split())
    if text == UNREADABLE_MARK or any(_unreadable(char) for char in text):
        raise MistypedError(
            "Le texte contient des caractères invisibles qui en changent la lecture ; retapez-le.",
            "The text holds invisible characters that change how it reads; type it again.",
        )
    return text or None


def _unreadable(char: str) -> bool:
    return char in _FORBIDDEN or (unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t")


def split_list(text: str) -> list[str]:
    """`A; B` or one per line -> its members, without empty ones."""
    return [part.strip() for part in re.split(r"[;\n؛]", text) if part.strip()]


def _ascii_digits(text: str) -> str:
    """Arabic-Indic and other decimal digits as 0 to 9."""
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text)


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def _month_named(word: str) -> int | None:
    plain = _plain(word)
    for names in (MONTHS, _MONTHS_EN):
        for number, name in enumerate(names, 1):
            if plain == _plain(name):
                return number
    if plain in _SHORT:
        return _SHORT.index(plain) + 1
    return _SHORT_MORE.get(plain)


_HOW = (
    "Écrivez le jour, le mois et l'année : 12/05/2008, 12 mai 2008 ou 2008-05-12.",
    "Write day, month and year: 12/05/2008, 12 May 2008 or 2008-05-12.",
)


def _calendar(year: int, month: int, day: int) -> datetime.date:
    if not _FIRST_YEAR <= year <= 2200:
        raise MistypedError(
            "L'année n'est pas vraisemblable ; écrivez-la en quatre chiffres.",
            "The year is not plausible; use four digits.",
        )
    if not 1 <= month <= 12:
        raise MistypedError(
            f"Il n'y a pas de mois {month} : le jour vient d'abord, puis le mois (12/05/2008 est le 12 mai).",
            f"There is no month {month}: the day comes first, then the month (12/05/2008 is 12 May).",
        )
    try:
        return datetime.date(year, month, day)
    except ValueError:
        raise MistypedError(
            f"Cette date n'existe pas dans le calendrier : il n'y a pas de {day} {MONTHS[month - 1]} {year}.",
            f"This date is not in the calendar: there is no {day} {_MONTHS_EN[month - 1]} {year}.",
        ) from None


def moment(cell: Cell) -> Moment:
    """A day, perhaps with a time. Raises MistypedError."""
    if isinstance(cell, datetime.datetime):
        _calendar(cell.year, cell.month, cell.day)
        return Moment(cell.date(), cell.time() if cell.time() != datetime.time() else None, None)
    if isinstance(cell, datetime.date):
        return Moment(_calendar(cell.year, cell.month, cell.day), None, None)
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        raise MistypedError(f"Ce nombre n'est pas une date. {_HOW[0]}", f"This number is not a date. {_HOW[1]}")
    text = _ascii_digits(text_of(cell) or "")
    if match := _ISO.fullmatch(text):
        year, month, day = (int(match.group(n)) for n in (1, 2, 3))
        return Moment(_calendar(year, month, day), _time(match.group(4), match.group(5)), None)
    if match := _DAY_FIRST.fullmatch(text):
        found = _calendar(int(match.group(3)), int(match.group(2)), int(match.group(1)))
        misreadable = found.day <= 12 and found.day != found.month
        return Moment(found, _time(match.group(4), match.group(5)), in_words(found) if misreadable else None)
    if (match := _IN_WORDS.fullmatch(text)) and (month_found := _month_named(match.group(2))):
        found = _calendar(int(match.group(3)), month_found, int(match.group(1)))
        return Moment(found, _time(match.group(4), match.group(5)), None)
    if _SHORT_YEAR.fullmatch(text):
        raise MistypedError(f"L'année doit avoir quatre chiffres. {_HOW[0]}", f"The year needs four digits. {_HOW[1]}")
    raise MistypedError(
        f"Cette date n'est pas comprise. {_HOW[0]}", f"This date is not understood. {_HOW[1]}", unclear=True
    )


def _time(hours: str | None, minutes: str | None) -> datetime.time | None:
    if hours is None:
        return None
    try:
        return datetime.time(int(hours), int(minutes or 0))
    except ValueError:
        raise MistypedError(
            "Cette heure n'existe pas ; écrivez par exemple 14:30.", "There is no such time; write for example 14:30."
        ) from None


def birth(cell: Cell, today: datetime.date) -> tuple[Birth, str | None]:
    """A birth as precise as it was typed, and in words how an all-figures date was read. Raises MistypedError."""
    text = _ascii_digits(text_of(cell) or "")
    if _plain(text) in _UNKNOWN:
        return Birth(precision="unknown"), None
    if isinstance(cell, int | float) and not _YEAR.fullmatch(text):
        raise MistypedError(
            "Un nombre seul n'est pas clair : écrivez « 17 ans » pour un âge, « 2008 » pour une année.",
            "A bare number is not clear: write « 17 ans » for an age, « 2008 » for a year.",
        )
    stripped = _ABOUT.sub("", _ABOUT.sub("", text)).strip()
    about = stripped != text
    basis = "estimated" if about else "declared"
    if match := _AGE.fullmatch(stripped.casefold()):
        age = int(match.group(1))
        if age > 120:
            raise MistypedError("Cet âge n'est pas vraisemblable.", "This age is not plausible.")
        return Birth(precision="age", basis=basis, age_years=age), None
    if _YEAR.fullmatch(stripped):
        _not_later(_calendar(int(stripped), 1, 1), today)
        return Birth(precision="year", basis=basis, date=stripped), None
    found = _month(stripped)
    if found is not None:
        _not_later(found, today)
        return Birth(precision="month", basis=basis, date=f"{found:%Y-%m}"), None
    if _plain(stripped).isdecimal():
        raise MistypedError(
            "Un nombre seul n'est pas clair : écrivez « 17 ans » pour un âge, « 2008 » pour une année.",
            "A bare number is not clear: write « 17 ans » for an age, « 2008 » for a year.",
        )
    try:
        day = moment(cell if isinstance(cell, datetime.date) else stripped)
    except MistypedError as refused:
        if not refused.unclear:
            raise
        raise MistypedError(
            "La naissance n'est pas comprise. Écrivez ce qui est connu, pas plus : 12/05/2008, mai 2008, 2008, "
            "vers 2008, 17 ans ou inconnue.",
            "The birth is not understood. Write what is known, no more: 12/05/2008, May 2008, 2008, about 2008, "
            "17 years or unknown.",
        ) from None
    _not_later(day.day, today)
    return Birth(precision="day", basis=basis, date=day.day.isoformat()), day.read_as


def _month(text: str) -> datetime.date | None:
    if match := _MONTH_ISO.fullmatch(text):
        return _calendar(int(match.group(1)), int(match.group(2)), 1)
    if match := _MONTH_FIRST.fullmatch(text):
        return _calendar(int(match.group(2)), int(match.group(1)), 1)
    if (match := _MONTH_WORD.fullmatch(text)) and (month := _month_named(match.group(1))):
        return _calendar(int(match.group(2)), month, 1)
    return None


def day_month_or_year(cell: Cell) -> tuple[str, str | None]:
    """YYYY-MM-DD, YYYY-MM or YYYY as precisely as typed, and in words how figures were read. Raises MistypedError."""
    text = _ascii_digits(text_of(cell) or "")
    if _YEAR.fullmatch(text):
        _calendar(int(text), 1, 1)
        return text, None
    found = _month(text)
    if found is not None:
        return f"{found:%Y-%m}", None
    day = moment(cell)
    return day.day.isoformat(), day.read_as


def _not_later(day: datetime.date, today: datetime.date) -> None:
    if day > today:
        raise MistypedError("Cette naissance est dans le futur.", "This birth is in the future.")


def yes_or_no(text: str) -> bool:
    """Raises MistypedError."""
    plain = _plain(text).strip(". ")
    if plain in ("oui", "o", "yes", "y", "vrai", "true", "1", "x"):
        return True
    if plain in ("non", "n", "no", "faux", "false", "0"):
        return False
    raise MistypedError("Écrivez Oui ou Non.", "Write Oui or Non.")


def ages(text: str) -> tuple[int, ...]:
    """`3; 5 ans` -> (3, 5). Raises MistypedError."""
    found = []
    for part in re.split(r"[;,\n]", _ascii_digits(text)):
        stripped = part.strip().casefold()
        if not stripped:
            continue
        match = re.fullmatch(r"(\d{1,3})(?:\s*(?:ans?|years?))?", stripped)
        if match is None or int(match.group(1)) > 120:
            raise MistypedError(
                "Écrivez les âges en années, séparés par des points-virgules : 3; 5.",
                "Write the ages in years, separated by semicolons: 3; 5.",
            )
        found.append(int(match.group(1)))
    return tuple(found)
