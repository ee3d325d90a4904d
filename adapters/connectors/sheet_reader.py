# SPDX-License-Identifier: Apache-2.0
"""The child process that opens a spreadsheet: the one place where bytes from a stranger meet a parser.

Run by path (`python -I sheet_reader.py NAME MAX_ROWS SHEET...`) with the file's bytes on standard input; it imports
nothing of this project, so it starts fast and can reach nothing. It limits itself before it reads the first byte:
address space, processor time, no core file, no file written. A 9 kB XLSX with one cell at XFD1048576 makes the parser
ask for 549 GB: such a cell is looked for first, and what the look does not see, the process dies of; the parent
(`sheets.py`) says so in words.

Out come JSON lines on standard output:

    {"sheets": ["Orientation", ...]}                       every sheet's name, once
    {"sheet": "Orientation"}                               the rows that follow belong to it
    [7, ["text", 12.5, true, null, {"d": "2026-04-03"}, {"f": 1}]]    row number as the author sees it, cells
    {"note": "cp1252"}                                     how the bytes were taken
    {"refused": "password", "fact": null}                  instead of the rest; the words are the parent's
    {"end": true}                                          last line: without it nothing above may be trusted

A cell `{"f": 1}` held a formula: its value is neither computed nor believed. Never: evaluates anything, follows a
link, writes a file, prints a value to standard error (a traceback would).
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
import sys
import unicodedata
import zipfile
import zlib
from typing import Any
from xml.etree import ElementTree

import python_calamine

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 30
MAX_UNZIPPED_BYTES = 300 << 20
"""Of all members together, as the central directory says; no member is read beyond it."""
MAX_OUT_BYTES = 96 << 20
"""Of JSON: one shared string may be referred to a million times."""
MAX_CELL_ROW = 200_000
MAX_CELL_COLUMN = 1_000
MAX_TEXT = 32_767
"""Characters of one cell: what a spreadsheet program itself can hold."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_CELL = re.compile(rb"<(?:\w+:)?c\b([^>]*)(?<!/)>(?:\s*(<(?:\w+:)?f\b))?")
_REF = re.compile(rb"""\br\s*=\s*["']([A-Z]{1,3})([0-9]{1,7})["']""")
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


class RefusedError(Exception):
    """Ends the reading with a word that the parent knows, and a fact: a limit of ours, the address of a cell."""

    def __init__(self, why: str, fact: str | int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.fact = fact


def limit_oneself() -> None:
    """Before the first byte is read. Where the system has no such limits (Windows) the parent's clock remains."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold people's names
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


class Out:
    """Standard output, counted."""

    def __init__(self) -> None:
        self._left = MAX_OUT_BYTES

    def line(self, value: object) -> None:
        data = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
        self._left -= len(data)
        if self._left < 0:
            raise RefusedError("too_large")
        sys.stdout.buffer.write(data)


def column_number(letters: str) -> int:
    """The column's number from 1: A is 1, XFD is 16384."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number


def plain(value: Any) -> Any:
    """One cell as JSON; None for an empty one."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise RefusedError("cell_too_long", MAX_TEXT)
        return value
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime.datetime | datetime.date):
        return {"d": value.isoformat()}
    return str(value)


def inside(archive: zipfile.ZipFile, name: str) -> bytes:
    """One member's bytes. Raises RefusedError."""
    try:
        with archive.open(name) as member:
            data = member.read(MAX_UNZIPPED_BYTES + 1)
    except _ZIP_ERRORS:
        raise RefusedError("damaged") from None
    if len(data) > MAX_UNZIPPED_BYTES:
        raise RefusedError("bomb")
    return data


def sheet_members(archive: zipfile.ZipFile) -> dict[str, str]:
    """Sheet name -> its XML member, from the workbook and its relations."""
    members = set(archive.namelist())
    book, relations = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
    if book not in members or relations not in members:
        raise RefusedError("damaged")
    try:
        targets = {
            each.get("Id"): each.get("Target", "") for each in ElementTree.fromstring(inside(archive, relations))
        }
        sheets = [each for each in ElementTree.fromstring(inside(archive, book)).iter() if _local(each.tag) == "sheet"]
    except ElementTree.ParseError:
        raise RefusedError("damaged") from None
    found = {}
    for sheet in sheets:
        target = targets.get(next((value for key, value in sheet.attrib.items() if _local(key) == "id"), None), "")
        path = target[1:] if target.startswith("/") else f"xl/{target}"
        if path in members:
            found[sheet.get("name", "")] = path
    return found


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def formulas_in(xml: bytes) -> set[tuple[int, int]]:
    """(row, column) of the cells that hold a formula. Raises RefusedError at a cell beyond any form."""
    formulas = set()
    for match in _CELL.finditer(xml):
        where = _REF.search(match.group(1))
        if where is None:
            continue
        letters, row = where.group(1).decode(), int(where.group(2))
        column = column_number(letters)
        if row > MAX_CELL_ROW or column > MAX_CELL_COLUMN:
            raise RefusedError("cell_beyond", f"{letters}{row}")
        if match.group(2):
            formulas.add((row, column))
    return formulas


def open_archive(data: bytes, name: str) -> zipfile.ZipFile:
    """The ZIP that an XLSX or ODS is, after everything that can be known before a parser runs. Raises RefusedError."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = archive.infolist()
    except _ZIP_ERRORS:
        raise RefusedError("damaged") from None
    if sum(member.file_size for member in members) > MAX_UNZIPPED_BYTES:
        raise RefusedError("bomb")
    if any(member.flag_bits & 1 for member in members):
        raise RefusedError("password")
    names = {member.filename for member in members}
    if any(each.endswith("vbaProject.bin") for each in names) or name.lower().endswith((".xlsm", ".xltm", ".xlam")):
        raise RefusedError("macros")
    if "META-INF/manifest.xml" in names and b"encryption-data" in inside(archive, "META-INF/manifest.xml"):
        raise RefusedError("password")
    return archive


def read_workbook(data: bytes, name: str, max_rows: int, wanted: set[str], out: Out) -> None:
    """XLSX or ODS."""
    archive = open_archive(data, name)
    is_ods = "content.xml" in archive.namelist()
    members = {} if is_ods else sheet_members(archive)
    if is_ods and b"table:formula=" in inside(archive, "content.xml"):
        raise RefusedError("ods_formula")
    formulas: dict[str, set[tuple[int, int]]] = {}
    for sheet_name, member in members.items():
        if fold(sheet_name) in wanted or len(members) == 1:
            formulas[sheet_name] = formulas_in(inside(archive, member))
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(data))
    except python_calamine.PasswordError:
        raise RefusedError("password") from None
    except (python_calamine.CalamineError, OSError, ValueError):
        raise RefusedError("damaged") from None
    out.line({"sheets": list(book.sheet_names)})
    for sheet_name in book.sheet_names:
        if fold(sheet_name) not in wanted and len(book.sheet_names) > 1:
            continue
        try:
            sheet = book.get_sheet_by_name(sheet_name)
        except (python_calamine.CalamineError, OSError, ValueError):
            raise RefusedError("damaged") from None
        out.line({"sheet": sheet_name})
        write_rows(sheet, formulas.get(sheet_name, set()), max_rows, out)


def write_rows(sheet: python_calamine.CalamineSheet, formulas: set[tuple[int, int]], max_rows: int, out: Out) -> None:
    """Every row that is not empty, with its number."""
    start = sheet.start
    if start is None:
        cells: dict[int, list[Any]] = {}
    else:
        top, left = start
        cells = {
            top + number: [None] * left + [plain(value) for value in row]
            for number, row in enumerate(sheet.to_python(skip_empty_area=True), 1)
        }
    for row, column in formulas:  # a formula may have no remembered value at all
        line = cells.setdefault(row, [])
        line.extend([None] * (column - len(line)))
        line[column - 1] = {"f": 1}
    written = 0
    for row in sorted(cells):
        if all(cell is None or (isinstance(cell, str) and not cell.strip()) for cell in cells[row]):
            continue
        written += 1
        if written > max_rows:
            raise RefusedError("too_many_rows", max_rows)
        out.line([row, cells[row]])


_ACCENTED = "À-ÖØ-öø-ÿŒœ"
_NOT_CP1252 = re.compile(
    rf"(?<![A-Za-z{_ACCENTED}])[{_ACCENTED}×÷]{{2,}}(?![A-Za-z{_ACCENTED}])"
    rf"|[ŠšŽžˆ˜ƒ†‡‰‹›•™¤¦¨¬¯¸]"
    rf"|(?<=[A-Za-z{_ACCENTED}])[‘“”„‚](?=[A-Za-z{_ACCENTED}])"
)
"""What no European text in Windows-1252 holds, and other encodings taken for it are full of: words of accented letters
alone (Arabic in Windows-1256), and signs instead of letters (Mac Roman). A name that would be sent as gibberish."""


def decode(data: bytes) -> tuple[str, str | None]:
    """Text of a CSV file and how it was taken, when that is worth telling. Raises RefusedError."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            try:
                text = data[len(mark) :].decode(encoding)
            except UnicodeDecodeError:
                raise RefusedError("encoding") from None
            return _without_nul(text), None if encoding == "utf-8" else "utf-16"
    for encoding, note in (("utf-8", None), ("cp1252", "cp1252")):
        try:
            text = _without_nul(data.decode(encoding))
        except UnicodeDecodeError:
            continue
        if note is not None and _NOT_CP1252.search(text):
            break
        return text, note
    raise RefusedError("encoding")


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise RefusedError("not_a_table")
    return text


def read_csv(data: bytes, max_rows: int, out: Out) -> None:
    """Comma, semicolon or tab; a leading `sep=` line as Excel writes it. Row numbers are those of a spreadsheet."""
    text, note = decode(data)
    if note:
        out.line({"note": note})
    skipped = 0
    separator = None
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.lower().startswith("sep=") and len(first) == 5:
        separator = first[4]
        text = text.split("\n", 1)[1] if "\n" in text else ""
        skipped = 1
        first = next((line for line in text.splitlines() if line.strip()), "")
    separator = separator or max((";", ",", "\t"), key=first.count)
    out.line({"sheets": [""]})
    out.line({"sheet": ""})
    csv.field_size_limit(MAX_TEXT)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    written = 0
    number = skipped
    try:
        for row in reader:
            number += 1
            cells = [plain(unguarded(cell)) for cell in row]
            if all(cell is None or not cell.strip() for cell in cells):
                continue
            written += 1
            if written > max_rows:
                raise RefusedError("too_many_rows", max_rows)
            out.line([number, cells])
    except csv.Error:
        raise RefusedError("csv_broken", number + 1) from None


def unguarded(cell: str) -> str:
    """The apostrophe that our own files put before `=`, `+`, `-`, `@` comes off again."""
    return cell[1:] if len(cell) > 1 and cell[0] == "'" and cell[1] in "=+-@\t\r" else cell


def fold(sheet_name: str) -> str:
    """Sheet names are compared without case, accents and surrounding space."""
    decomposed = unicodedata.normalize("NFKD", sheet_name.casefold().strip())
    return "".join(char for char in decomposed if not unicodedata.combining(char))


def main(arguments: list[str]) -> int:
    limit_oneself()
    name, max_rows, wanted = arguments[0], int(arguments[1]), {fold(each) for each in arguments[2:]}
    out = Out()
    try:
        data = sys.stdin.buffer.read()
        if not data.strip():
            raise RefusedError("empty")
        if data.startswith(b"PK"):
            read_workbook(data, name, max_rows, wanted, out)
        elif data.startswith(_OLE):
            raise RefusedError("password" if "EncryptedPackage".encode("utf-16-le") in data else "old_format")
        elif name.lower().endswith((".xlsx", ".ods")):
            raise RefusedError("damaged")
        elif data.startswith((b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"{\\rtf", b"<")):
            raise RefusedError("not_a_table")
        else:
            read_csv(data, max_rows, out)
    except RefusedError as refused:
        sys.stdout.buffer.write(json.dumps({"refused": refused.why, "fact": refused.fact}).encode() + b"\n")
    except MemoryError:
        sys.stdout.buffer.write(b'{"refused":"too_large","fact":null}\n')
    sys.stdout.buffer.write(b'{"end":true}\n')
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
