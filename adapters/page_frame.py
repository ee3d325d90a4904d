# SPDX-License-Identifier: Apache-2.0
"""The frame of every page that is written: one file, for telephones, paper, the dark and screen readers.

Invariants: nothing is fetched from anywhere and nothing runs (the page's own policy forbids both); language, direction
and title are set; colours have a contrast of at least 4.5 to 1 in light and dark, and paper is always white; a page in
an unreviewed translation begins by saying so, in its language and in French.
Must never: hold a value that was not escaped by who wrote the body.
"""

from __future__ import annotations

from html import escape

from adapters.connectors import paper
from schemas.page_words import WORDS, Words

COLOURS = """
:root{color-scheme:light dark;--ink:#1b2a33;--paper:#fff;--head:#1f4e5f;--quiet:#4a565e;--line:#b8c4ca;
--band:#e6eff2;--sand:#fbf3e0;--bar:#1f4e5f}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e9eff2;--paper:#12191d;--head:#a3cfdf;--quiet:#b9c5cc;
--line:#4b5a63;--band:#1f2d34;--sand:#3b3220;--bar:#6fb3cc}}
"""
"""Ink on paper, band or sand; quiet on paper or sand; head on paper: 4.5 to 1 or more, light and dark."""
FONTS = """
body{font:1rem/1.5 system-ui,"Segoe UI","Noto Sans",sans-serif;color:var(--ink);background:var(--paper)}
:lang(ar){font-family:"Noto Sans Arabic","Noto Kufi Arabic","Segoe UI",Tahoma,system-ui,sans-serif;line-height:1.75}
:lang(fr),:lang(en){font-family:system-ui,"Segoe UI","Noto Sans",sans-serif}
"""
"""What the reader's machine has; none is fetched."""


def said(words: Words, key: str, **values: str | int) -> str:
    """A text of the page, not escaped; French with the spaces that do not break."""
    found = words.say(key, **values)
    return paper.french(found) if words.language == "fr" else found


def page(words: Words, title: str, style: str, body: str) -> str:
    """A whole page.

    Args:
        title: not escaped yet.
        body: HTML, what is in it escaped.
    """
    return (
        f'<!doctype html>\n<html lang="{words.language}" dir="{words.direction}"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
        f"<title>{escape(title)}</title>\n<style>{COLOURS}{FONTS}{style}</style></head>\n"
        f"<body>\n<main>\n{body}</main>\n</body></html>\n"
    )


def draft_mark(words: Words) -> str:
    """What stands first in a translation that nobody has reviewed; nothing in one that somebody has."""
    if not words.draft:
        return ""
    french = WORDS["fr"]
    return (
        f'<p class="draft" role="note"><strong>{escape(words.say("frame.draft"))}</strong> '
        f'<span lang="fr" dir="ltr">{escape(said(french, "frame.draft"))}</span></p>\n'
    )
