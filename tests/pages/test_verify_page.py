# SPDX-License-Identifier: Apache-2.0
"""docs/verify/index.html in a real browser, opened from the disk: what a judge or an auditor without terminal uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.pages.browser import Look, opened
from umuhuza import verify_page
from umuhuza.publish import DOCS

PLACE = DOCS / "verify" / "example"
KEYS = dict(line.split("=", 1) for line in (PLACE / "keys.sh").read_text(encoding="ascii").splitlines())


@pytest.fixture(scope="module")
def look(browser: Browser) -> Look:
    return opened(browser, DOCS / verify_page.NAME)


@pytest.fixture
def page(look: Look) -> Iterator[Page]:
    """Filled with the example, in French, on a telephone."""
    page = look.at(360)
    page.click("button[data-language=fr]")
    for name, file in (("record", "record.txt"), ("promise", "promise.json"), ("receipt", "receipt.tlog-proof")):
        page.set_input_files(f"#{name}", PLACE / file)
    page.fill("#sender", KEYS["SENDER"])
    page.fill("#keys", f"content={KEYS['CONTENT']}")
    page.fill("#gateway", KEYS["GATEWAY"])
    page.fill("#domain", "bi")
    page.fill("#vkeys", f"{KEYS['LOG']}\n{KEYS['WITNESS']}\n")
    yield page
    assert look.asked == [], "the page asked for something"


def _checked(page: Page) -> list[str]:
    page.click("button[type=submit]")
    page.wait_for_selector("#found h2")
    return page.locator("#found .result").all_inner_texts()


def test_the_page_is_made_from_the_modules_that_are_tested() -> None:
    assert (DOCS / verify_page.NAME).read_text(encoding="utf-8") == verify_page.text(DOCS / "verify")


def test_a_record_its_promise_and_its_receipt_are_checked_on_a_telephone_without_a_network(
    look: Look, page: Page
) -> None:
    record, promise, receipt = _checked(page)
    assert "Valide\u00a0: signé avec la clé" in record
    assert '"service":"SocialCare"' in record, "the part that may be read is shown"
    assert "bi/operator a promis, le 2026-11-03T10:01:01Z" in promise
    assert "octet par octet" in receipt
    assert "Vu par le témoin tn.umuhuza/witness le 2026-11-03T10:02:00Z" in receipt
    assert look.overflowing() == []
    assert look.problems() == []


def test_the_page_speaks_english_to_who_asks_for_it_without_checking_again(look: Look, page: Page) -> None:
    _checked(page)
    page.click("button[data-language=en]")
    assert page.locator("html").get_attribute("lang") == "en"
    shown = page.locator("body").inner_text()
    assert "Valid: signed with the key" in shown
    assert "Valide" not in shown
    look.at(900, scheme="dark")
    assert look.problems("color-contrast") == []


def test_what_is_wrong_is_refused_beside_what_is_right(page: Page, tmp_path: Path) -> None:
    forged = tmp_path / "record.txt"
    data = bytearray((PLACE / "record.txt").read_bytes())
    data[-60] = ord("B") if data[-60] != ord("B") else ord("C")
    forged.write_bytes(data)
    page.set_input_files("#record", forged)
    record, promise, receipt = _checked(page)
    assert "Refusé\u00a0: Une partie scellée n'est pas celle qui a été signée (part_digest_mismatch, L2[1])." in record
    assert "Valide" in promise, "what was signed is what was promised"
    assert "record_rewritten" in receipt
    assert page.locator("#found pre").count() == 0


def test_a_result_goes_away_when_what_it_was_about_changes(page: Page) -> None:
    _checked(page)
    page.fill("#sender", "no key")
    assert page.locator("#found .result").count() == 0
    assert "n'en est pas une" in _checked(page)[0]
