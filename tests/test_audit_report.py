# SPDX-License-Identifier: Apache-2.0
"""An audit's report on paper: everything that the page says, on numbered pages, and nothing that a source put in as
markup."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pypdf import PdfReader

from schemas.errors import Language
from topics.audit import Report
from topics.audit_findings import Finding, Findings
from topics.ledger_entries import LedgerEntry
from umuhuza.audit_page import page_of
from umuhuza.audit_pdf import pdf_of
from umuhuza.audit_report import MOST_ROWS, Bullets, Code, Heading, Listed, Paragraph, Sheet, Table, report_sheet

HOSTILE = "<b>été</b> → \x07☃ &amp; <para>"
"""The name of a file that somebody brought."""


def sheet(language: Language, records: int = 40, findings: int = 3) -> Sheet:
    found = Findings()
    for offset in range(findings):
        found.add(Finding("record_rewritten", "record", "bi.referral.k7t4", offset, offset + 1))
    found.add(Finding("ledger_behind", "checkpoint", index=7, name=HOSTILE, open=True))
    report = Report("bi.umuhuza/log", False, "records", 120, bytes(32), {"event": 3}, 60, 2, 60, 3, None, None, found)
    at, who = 1_792_000_000, ("bi/police", "bi/k7t4")
    listed = [
        Listed(place, LedgerEntry("event", "bi.referral.k7t4", place, None, digest(place), digest(place)), at, *who)
        for place in range(records)
    ]
    keys = [("bi.umuhuza/log Ed25519", "a1b2 c3d4")]
    return report_sheet(report, language, made_at=1_792_055_555, stated=("policy",), keys=keys, records=listed)


def digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def read(data: bytes) -> list[str]:
    """Each page's text, white space as one blank."""
    return [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(data)).pages]


def said(one: Sheet) -> list[str]:
    """Every text on a sheet."""
    texts = [one.title, one.about, *one.verdict]
    for block in one.blocks:
        match block:
            case Heading():
                texts.append(block.text)
            case Bullets():
                texts += block.items
            case Paragraph():
                texts += [text.text if isinstance(text, Code) else text for text in block.line]
            case Table():
                cells = [cell for row in block.rows for cell in row]
                texts += [text.text if isinstance(text, Code) else text for cell in cells for text in cell]
    return texts


@pytest.mark.parametrize("language", ["fr", "en"])
def test_the_pdf_says_everything_that_the_page_says(language: Language) -> None:
    made = sheet(language)
    together = "".join("".join(read(pdf_of(made))).split())
    for text in said(made):
        if HOSTILE not in text:
            assert "".join(text.replace("→", "›").split()) in together, text


def test_pages_are_numbered_and_headers_of_tables_repeated() -> None:
    pages = read(pdf_of(sheet("fr")))
    assert len(pages) > 2
    for number, text in enumerate(pages, 1):
        assert f"Page {number} sur {len(pages)}" in text
    assert sum("Empreinte SHA-256" in text for text in pages) > 1


def test_what_a_source_calls_itself_is_text_in_both() -> None:
    made = sheet("en", records=0)
    assert "&lt;b&gt;été&lt;/b&gt;" in page_of(made)
    text = " ".join(read(pdf_of(made)))
    assert "<b>été</b> › [U+0007 U+2603] &amp; <para>" in text


@pytest.mark.parametrize("language", ["fr", "en"])
def test_a_name_in_arabic_script_is_not_lost_where_the_font_lacks_its_letters(language: Language) -> None:
    """Invented: two names of one length stay two, and a sentence says what the numbers are."""
    one, other = "مأوى", "ملجأ"
    made = sheet(language, records=0)
    made = replace(made, blocks=(*made.blocks, Paragraph((one,)), Bullets((other,))))
    text = " ".join(read(pdf_of(made)))
    for name in (one, other):
        assert f"[{' '.join(f'U+{ord(letter):04X}' for letter in name)}]" in text
    explained = "par leurs numéros Unicode" if language == "fr" else "by their Unicode numbers"
    assert explained in text
    assert one in page_of(made)
    assert explained not in " ".join(read(pdf_of(replace(made, blocks=()))))


def test_the_same_report_is_the_same_file_in_the_language_that_it_says() -> None:
    data = pdf_of(sheet("fr"))
    assert data == pdf_of(sheet("fr"))
    reader = PdfReader(io.BytesIO(data))
    assert str(reader.root_object["/Lang"]) == "fr"
    assert reader.metadata is not None
    assert reader.metadata.creation_date == datetime(2026, 10, 15, 9, 12, 35, tzinfo=UTC)


def test_a_report_of_very_many_findings_ends_and_says_how_many_more() -> None:
    made = sheet("en", records=0, findings=MOST_ROWS + 11)
    assert "... and 12 more." in "".join(said(made))
    assert "... and 12 more." in page_of(made)
