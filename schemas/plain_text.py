# SPDX-License-Identifier: Apache-2.0
"""Names and other short texts that strangers wrote and people will read, on a terminal or while they decide.

A control character can clear the line above it or write over it, a line break adds a line that looks like ours, and an
embedding or override of direction (UAX 9, section 2) shows characters in another order than they have. Nothing that
anybody is called needs one of them. Marks that Arabic needs (U+200C to U+200F) are none.

Pure.
"""

from __future__ import annotations

import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_HARMFUL = re.compile(f"[{_CONTROLS}]")
_NOT_ONE_LINE = re.compile(f"[\t\n{_CONTROLS}]")


def is_one_line(text: str) -> bool:
    """Whether the text is one line that shows as what it is."""
    return _NOT_ONE_LINE.search(text) is None


def harmless(text: str) -> str:
    """The text with U+FFFD for whatever a terminal would obey; tabs and line feeds stay."""
    return _HARMFUL.sub("\ufffd", text)
