# SPDX-License-Identifier: Apache-2.0
"""A person's card: a neutral sheet with a number that leads to her in one agency only.

Invariants: nothing on it says what it is for, or who gave it, and it names nobody; it prints on one small sheet (A7),
on A6 and on A4, without the browser's own lines (which would show where the file lies); in a language without a
reviewed text it is in French and says that it is read with an interpreter; an unreviewed Arabic text is marked.
Must never: hold a person's name, the agency's, or an address of a site.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from types import MappingProxyType

from adapters import page_frame
from schemas.page_words import WORDS, PageLanguage, words_for

MOST_CONTACT = 60
"""Characters of the line under the number: what fits on the smallest sheet."""
_SECOND: Mapping[PageLanguage, PageLanguage] = MappingProxyType({"fr": "en", "en": "fr", "ar": "fr", "rn": "fr"})
"""The language that stands beside it, for the desk where the card is shown."""

# A7 in figures: CSS knows no smaller name than A5. No margin in @page: browsers then leave out their own head and foot,
# which would print the file's name.
_STYLE = """
@page{size:105mm 74mm;margin:0}
*{box-sizing:border-box}body{margin:0}
main{max-width:26rem;margin:0 auto;padding:1.25rem 1rem;text-align:center;overflow-wrap:anywhere}
h1,p{margin:.35rem 0;text-wrap:balance}h1{font-size:1.15rem;line-height:1.35}
.second{color:var(--quiet);font-size:.875rem;line-height:1.4}
.code{font:700 1.55rem/1.3 ui-monospace,"DejaVu Sans Mono",monospace;margin:.6rem 0;white-space:nowrap;direction:ltr}
.contact{font-weight:600}
.draft{font-size:.8rem;line-height:1.4;background:var(--sand);border:1px solid var(--line);padding:.1rem .5rem;
display:inline-block}
@media screen and (min-width:30rem){main{margin-top:2rem;border:1px solid var(--line);border-radius:.5rem}}
@media print{main{width:105mm;max-width:100%;max-height:74mm;padding:4mm 7mm;font-size:10pt;line-height:1.3;
break-inside:avoid}h1{font-size:11.5pt}
.second{font-size:8.5pt}.code{font-size:18pt;margin:1.5mm 0}h1,p{margin:.8mm 0}.draft{font-size:8pt}}
"""


def grouped(code: str) -> str:
    """`ABCD-EFGH-JKMN`: as it is printed and read out."""
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))


def card(code: str, contact: str | None = None, language: PageLanguage = "fr") -> str:
    """The card as an HTML page.

    Args:
        code: the number, without hyphens.
        contact: a line under it, a neutral telephone; None for nothing.
        language: of the person.

    Raises:
        ValueError: the contact has more characters than `MOST_CONTACT`.
    """
    if contact is not None and len(contact) > MOST_CONTACT:
        raise ValueError("contact line too long")
    words = words_for(language)
    read_with_somebody = words.language != language
    second = words if read_with_somebody else WORDS[_SECOND[language]]
    lines = [f"<h1>{escape(words.say('card.keep'))}</h1>"]
    if second is not words:
        lines.append(_beside(second.language, second.say("card.keep")))
    lines += [f'<p class="code" dir="ltr">{grouped(code)}</p>', f"<p>{escape(page_frame.said(words, 'card.show'))}</p>"]
    if second is not words:
        lines.append(_beside(second.language, page_frame.said(second, "card.show")))
    if read_with_somebody:
        lines.append(f'<p class="second">{escape(page_frame.said(words, "card.interpreter"))}</p>')
    if contact is not None:
        lines.append(f'<p class="contact" dir="auto">{escape(contact)}</p>')
    if words.draft:
        lines.append(f'<p class="draft" role="note">{escape(words.say("card.draft"))}</p>')
    return page_frame.page(words, grouped(code), _STYLE, "\n".join(lines) + "\n")


def _beside(language: str, text: str) -> str:
    return f'<p class="second" lang="{language}" dir="ltr">{escape(text)}</p>'
