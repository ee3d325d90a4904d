# SPDX-License-Identifier: Apache-2.0
"""A file's bytes as tables, or words for why not: the parent of the guarded child process (`sheet_reader.py`).

Invariants: nothing about the content of a file makes `read_tables` raise; what the child did not finish saying
(`{"end":true}`) is not used; the child is gone when the call returns, also when it is cancelled.
Never: parses a spreadsheet in this process, passes a value to a log.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.connectors import sheet_reader
from adapters.connectors.contract import Problem
from adapters.connectors.sheet_reader import fold

MAX_FILE_BYTES = 20 << 20
MAX_ROWS = 20_000
WALL_SECONDS = 60.0
_HEADER_ROWS = 15
"""Rows that a sheet may hold beside its data: titles, names, labels."""


@dataclass(frozen=True, slots=True)
class Formula:
    """The cell held a formula; what it would yield is not known here."""


Cell = str | int | float | bool | datetime.date | datetime.datetime | Formula | None


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    """The sheet's name; empty for a CSV file."""
    rows: tuple[tuple[int, tuple[Cell, ...]], ...]
    """(row number as the author sees it, cells from column A); rows without any value are absent."""


@dataclass(frozen=True, slots=True)
class Tables:
    sheet_names: tuple[str, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    """`cp1252`, `utf-16`: how the bytes were taken."""

    def named(self, name: str) -> Table | None:
        return next((table for table in self.tables if fold(table.name) == fold(name)), None)


async def read_tables(
    data: bytes,
    name: str,
    *,
    sheets: tuple[str, ...],
    max_rows: int = MAX_ROWS,
    wall_s: float = WALL_SECONDS,
) -> Tables | Problem:
    """Read the named sheets of an XLSX or ODS, or a CSV; where a workbook has one sheet only, that one.

    Args:
        name: the file's name, for its ending only.
        max_rows: refused beyond, never cut off.
        wall_s: seconds after which the child is killed.
    """
    if len(data) > MAX_FILE_BYTES:
        return _problem("file_too_large", f"{MAX_FILE_BYTES >> 20} Mo")
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(Path(sheet_reader.__file__)),
        Path(name).suffix or "-",
        str(max_rows + _HEADER_ROWS),
        *sheets,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={key: os.environ[key] for key in ("SYSTEMROOT", "PATH", "LD_LIBRARY_PATH") if key in os.environ},
    )
    try:
        async with asyncio.timeout(wall_s):
            said, _ = await child.communicate(data)
    except TimeoutError:
        return _problem("too_slow", int(wall_s))
    except (BrokenPipeError, ConnectionResetError):
        return _problem("too_large", None)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return await asyncio.to_thread(_understand, said)


def _understand(said: bytes) -> Tables | Problem:
    lines = said.split(b"\n")
    # Killed by its own limits (memory: abort; processor time: SIGXCPU) it never says "end".
    if lines[-2:] != [b'{"end":true}', b""]:
        return _problem("too_large", None)
    names: tuple[str, ...] = ()
    notes: list[str] = []
    tables: list[tuple[str, list[tuple[int, tuple[Cell, ...]]]]] = []
    for line in lines[:-2]:
        said_one = json.loads(line)
        if isinstance(said_one, list):
            tables[-1][1].append((said_one[0], tuple(_cell(each) for each in said_one[1])))
        elif "refused" in said_one:
            return _problem(said_one["refused"], said_one["fact"])
        elif "sheets" in said_one:
            names = tuple(said_one["sheets"])
        elif "note" in said_one:
            notes.append(said_one["note"])
        else:
            tables.append((said_one["sheet"], []))
    return Tables(names, tuple(Table(name, tuple(rows)) for name, rows in tables), tuple(notes))


def _cell(value: Any) -> Cell:
    if isinstance(value, dict):
        if "f" in value:
            return Formula()
        text: str = value["d"]
        return datetime.datetime.fromisoformat(text) if "T" in text else datetime.date.fromisoformat(text)
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool | int | float):
        return value
    return None


_WORDS: dict[str, tuple[str, str, str]] = {
    "empty": (
        "source_unreadable",
        "Le fichier est vide. Remplissez le modèle, enregistrez-le et redéposez-le.",
        "The file is empty. Fill in the template, save it and drop it again.",
    ),
    "damaged": (
        "source_unreadable",
        "Le fichier est incomplet ou abîmé : il a sans doute été coupé pendant la copie. "
        "Ouvrez l'original, enregistrez-le de nouveau en XLSX et redéposez-le.",
        "The file is incomplete or damaged, probably cut off while it was copied. "
        "Open the original, save it again as XLSX and drop it again.",
    ),
    "password": (
        "source_unreadable",
        "Le fichier est protégé par mot de passe. Enregistrez-en une copie sans mot de passe et redéposez-la.",
        "The file is protected by a password. Save a copy without a password and drop that.",
    ),
    "macros": (
        "source_unreadable",
        "Le classeur contient des macros, qui ne sont jamais acceptées. Enregistrez-le au format XLSX, sans macros.",
        "The workbook contains macros, which are never accepted. Save it as XLSX, without macros.",
    ),
    "old_format": (
        "source_unreadable",
        "C'est l'ancien format Excel (.xls) ou un autre document bureautique ancien. "
        "Enregistrez-le au format XLSX et redéposez-le.",
        "This is the old Excel format (.xls) or another old office document. Save it as XLSX and drop it again.",
    ),
    "not_a_table": (
        "source_unreadable",
        "Ce fichier n'est pas un tableau (XLSX, ODS ou CSV). Utilisez le modèle.",
        "This file is not a table (XLSX, ODS or CSV). Use the template.",
    ),
    "encoding": (
        "source_unreadable",
        "L'encodage du fichier CSV n'est pas reconnu. Enregistrez-le au format « CSV UTF-8 » et redéposez-le.",
        "The encoding of the CSV file is not known. Save it as CSV UTF-8 and drop it again.",
    ),
    "csv_broken": (
        "source_unreadable",
        "Le fichier CSV est mal formé à la ligne {fact} (guillemet non fermé ou texte trop long).",
        "The CSV file is malformed at line {fact} (an open quotation mark or too long a text).",
    ),
    "ods_formula": (
        "source_unreadable",
        "Le classeur ODS contient des formules, qui ne sont jamais calculées ici. "
        "Remplacez-les par leurs valeurs (collage spécial, « valeurs »).",
        "The ODS workbook contains formulas, which are never computed here. Replace them by their values.",
    ),
    "cell_beyond": (
        "too_large",
        "Une valeur se trouve dans la cellule {fact}, bien au-delà du formulaire. "
        "Effacez cette cellule ou recopiez vos lignes dans un modèle neuf.",
        "There is a value in cell {fact}, far beyond the form. Clear that cell or copy your rows into a new template.",
    ),
    "cell_too_long": (
        "too_large",
        "Une cellule contient plus de {fact} caractères. Rien n'a été tronqué : raccourcissez-la.",
        "A cell holds more than {fact} characters. Nothing was cut off: shorten it.",
    ),
    "bomb": (
        "too_large",
        "Une fois décompressé, le fichier est beaucoup trop grand pour un formulaire. "
        "Recopiez vos lignes dans un modèle neuf.",
        "Unpacked, the file is far too large for a form. Copy your rows into a new template.",
    ),
    "too_large": (
        "too_large",
        "Le fichier demande plus de mémoire ou de temps que permis. Recopiez vos lignes dans un modèle neuf, "
        "en plusieurs fichiers si nécessaire.",
        "The file asks for more memory or time than allowed. Copy your rows into a new template, "
        "in several files if need be.",
    ),
    "too_slow": (
        "too_large",
        "Le fichier n'a pas pu être lu en {fact} secondes. Recopiez vos lignes dans un modèle neuf.",
        "The file could not be read within {fact} seconds. Copy your rows into a new template.",
    ),
    "too_many_rows": (
        "too_large",
        "Le fichier dépasse {fact} lignes. Rien n'a été tronqué ni envoyé : partagez-le en plusieurs fichiers.",
        "The file has more than {fact} rows. Nothing was cut off or sent: split it into several files.",
    ),
    "file_too_large": (
        "too_large",
        "Le fichier dépasse {fact}. Partagez-le en plusieurs fichiers.",
        "The file is larger than {fact}. Split it into several files.",
    ),
}


def _problem(why: str, fact: str | int | None) -> Problem:
    code, fr, en = _WORDS[why]
    shown = fact - _HEADER_ROWS if why == "too_many_rows" and isinstance(fact, int) else fact
    return Problem("fichier", code, fr.format(fact=shown), en.format(fact=shown), where_en="file")
