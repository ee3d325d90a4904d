# SPDX-License-Identifier: Apache-2.0
"""Looks for planted words in every byte of files: as they are, and as programs like to write them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

LONG_ENOUGH = 8
"""Bytes. Shorter words would be found in random base64 by chance."""
_WORD = rb"A-Za-z0-9_\-+/"


def forms(word: str) -> list[re.Pattern[bytes]]:
    """Every way in which the word may stand in a file."""
    raw: set[bytes] = set()
    for spelt in {word, unicodedata.normalize("NFC", word), unicodedata.normalize("NFD", word)}:
        raw |= {spelt.encode("utf-8"), spelt.encode("utf-16-le"), spelt.encode("utf-16-be")}
        raw.add(spelt.encode("ascii", "backslashreplace"))
        raw.add(json.dumps(spelt)[1:-1].encode("ascii"))
        raw.add(quote(spelt).encode("ascii"))
        with contextlib.suppress(UnicodeEncodeError):
            raw.add(spelt.encode("latin-1"))
        plain = spelt.encode("utf-8")
        if len(plain) >= LONG_ENOUGH:
            raw |= {plain.hex().encode("ascii"), plain.hex().upper().encode("ascii")}
    patterns = []
    for one in raw:
        alone = len(one) < LONG_ENOUGH
        text = re.escape(one)
        patterns.append(re.compile(rb"(?<![%b])%b(?![%b])" % (_WORD, text, _WORD) if alone else text, re.IGNORECASE))
    if len(word.encode("utf-8")) >= LONG_ENOUGH:
        patterns += [re.compile(re.escape(one)) for one in in_base64(word.encode("utf-8"))]
        patterns += [re.compile(re.escape(one)) for one in in_base64(word.encode("utf-16-le"))]
    return patterns


def in_base64(data: bytes) -> set[bytes]:
    """What stands in base64 of any text that has `data` in it: three alignments, two alphabets."""
    found = set()
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + data)
        # The first and last characters depend on the neighbours.
        inner = whole[-(-shift * 8 // 6) : (shift + len(data)) * 8 // 6]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def traces(words: Sequence[str], files: Iterable[Path]) -> list[str]:
    """`file: word` for each word found; archives and compressed files are looked into."""
    patterns = {word: forms(word) for word in words}
    found = []
    for path in files:
        for content in _contents(path.read_bytes()):
            found += [
                f"{path}: {word}" for word, ways in patterns.items() if any(pattern.search(content) for pattern in ways)
            ]
        found += [f"{path}: {word} (its name)" for word in words if word in path.name]
    return found


def _contents(data: bytes) -> Iterator[bytes]:
    yield data
    if data[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for name in archive.namelist():
                    yield archive.read(name)
        except zipfile.BadZipFile:
            return
    elif data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)


def every_file(root: Path, *, but: Sequence[Path] = ()) -> list[Path]:
    """All plain files below `root`, without those in the folders `but`."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(path.is_relative_to(folder) for folder in but)
    ]
