# SPDX-License-Identifier: Apache-2.0
"""Looks for planted words in every byte of files: as they are, and as programs like to write them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import os
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

LONG_ENOUGH = 8
"""Bytes. Shorter words would be found in random base64 by chance: they have to stand alone."""
_PART_OF_A_WORD = rb"A-Za-z0-9_\-+/"


@dataclass(frozen=True)
class Forms:
    """Every way in which one word may stand in a file."""

    small: frozenset[bytes]
    """In small letters, for a text in small letters."""
    exact: frozenset[bytes]
    alone: tuple[re.Pattern[bytes], ...]

    def stand_in(self, content: bytes) -> bool:
        lowered = content.lower()
        return (
            any(one in lowered for one in self.small)
            or any(one in content for one in self.exact)
            or any(pattern.search(content) for pattern in self.alone)
        )


@cache
def forms(word: str) -> Forms:
    """As they are, in UTF-16, escaped as JSON, Python and URLs do it, in hexadecimal and in base64."""
    raw: set[bytes] = set()
    exact: set[bytes] = set()
    for spelt in {word, unicodedata.normalize("NFC", word), unicodedata.normalize("NFD", word)}:
        raw |= {spelt.encode("utf-8"), spelt.encode("utf-16-le"), spelt.encode("utf-16-be")}
        raw |= {spelt.encode("ascii", "backslashreplace"), json.dumps(spelt)[1:-1].encode("ascii")}
        raw.add(quote(spelt).encode("ascii"))
        with contextlib.suppress(UnicodeEncodeError):
            raw.add(spelt.encode("latin-1"))
        if len(spelt.encode("utf-8")) >= LONG_ENOUGH:
            raw.add(spelt.encode("utf-8").hex().encode("ascii"))
            exact |= in_base64(spelt.encode("utf-8")) | in_base64(spelt.encode("utf-16-le"))
    boundary = rb"(?<![%b])%b(?![%b])"
    return Forms(
        frozenset(one.lower() for one in raw if len(one) >= LONG_ENOUGH),
        frozenset(exact),
        tuple(
            re.compile(boundary % (_PART_OF_A_WORD, re.escape(one), _PART_OF_A_WORD), re.IGNORECASE)
            for one in raw
            if len(one) < LONG_ENOUGH
        ),
    )


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
    """`file: word` for each word found; archives and compressed files are looked into.

    A file that is gone when its turn comes (a broker deletes topics in the background) holds nothing any more.
    """
    found = []
    for path in files:
        try:
            whole = path.read_bytes()
        except FileNotFoundError:
            continue
        for content in _contents(whole):
            found += [f"{path}: {word}" for word in words if forms(word).stand_in(content)]
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
    found = [Path(folder, name) for folder, _, names in os.walk(root) for name in names]
    return [path for path in sorted(found) if path.is_file() and not any(path.is_relative_to(one) for one in but)]
