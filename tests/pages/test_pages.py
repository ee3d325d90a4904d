# SPDX-License-Identifier: Apache-2.0
"""Every page in a real browser: on a telephone and a large screen, in the dark, on paper, by keyboard, read aloud."""

from __future__ import annotations

import re
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Browser, Page

from adapters import page_frame
from schemas.page_words import WORDS
from tests.pages.browser import Look, opened
from tests.pages.conftest import Desk
from tests.pages.shown import CODE, shown

NAMES = tuple(shown())
CARDS = tuple(name for name in NAMES if name.startswith("card-"))
RELEASES = tuple(name for name in NAMES if name.startswith("statistics-") and "nothing" not in name)
MM = 96 / 25.4
"""CSS pixels in a millimetre."""


# -- on the screen ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_or_runs_out_of_a_telephone_or_a_large_screen(desk: Desk, name: str) -> None:
    for width in (360, 1280):
        desk(name).at(width)
        assert desk(name).overflowing() == [], width


@pytest.mark.parametrize("name", NAMES)
def test_a_page_can_be_read_by_everybody(desk: Desk, name: str) -> None:
    """Contrast, names, order, language: all rules of axe-core for WCAG 2.2 AA and good practice."""
    desk(name).at(360)
    assert desk(name).problems() == []


@pytest.mark.parametrize("name", ["card-ar", "statistics-fr", "statistics-ar"])
def test_a_page_has_enough_contrast_in_the_dark(desk: Desk, name: str) -> None:
    desk(name).at(360, scheme="dark")
    assert desk(name).problems("color-contrast") == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_its_language_direction_and_title(desk: Desk, name: str) -> None:
    root = desk(name).page.locator("html")
    assert root.get_attribute("lang") == shown()[name].language
    assert root.get_attribute("dir") == ("rtl" if name.endswith("-ar") else "ltr")
    assert desk(name).page.title()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_the_same_without_scripts_and_asks_for_nothing(desk: Desk, name: str) -> None:
    with_scripts, without = desk(name), desk(name, scripts=False)
    one, other = (picture(look.at(800)) for look in (with_scripts, without))
    assert one.size == other.size
    # The edge of a letter may be drawn a shade lighter on a busy machine; nobody sees that.
    assert ImageChops.difference(one, other).point(lambda shade: 255 if shade > 64 else 0).getbbox() is None
    assert with_scripts.asked == without.asked == []


def picture(page: Page) -> Image.Image:
    """All of it, in shades of grey."""
    return Image.open(BytesIO(page.screenshot(full_page=True))).convert("L")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_dark_where_the_reader_asked_for_dark_and_white_on_paper(desk: Desk, name: str) -> None:
    assert brightness(desk(name).at(800, scheme="light")) > 200
    assert brightness(desk(name).at(800, scheme="dark")) < 60
    assert brightness(desk(name).at(800, scheme="dark", media="print")) > 200


def brightness(page: Page) -> float:
    """Of the page's ground, 0 to 255."""
    colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"[0-9]+", colour)[:3])) / 3


# -- by keyboard, and read aloud --------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["fr", "ar"])
def test_a_wide_table_is_reached_and_moved_with_the_keyboard_and_says_that_it_scrolls(
    desk: Desk, language: str
) -> None:
    page = desk(f"statistics-many-{language}").at(360)
    assert page.locator("p.scroll").first.is_visible()
    assert page.locator(".table:not([tabindex='0'])").count() == 0, "not every browser lets one go to what scrolls"
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.className") == "table"
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowLeft" if language == "ar" else "ArrowRight")
    page.wait_for_function("() => document.activeElement.scrollLeft !== 0")
    first = page.locator("tbody th").first.bounding_box()
    assert first is not None
    assert -1 <= first["x"] <= 360 - first["width"] + 1, "the answers' names stay in view"


@pytest.mark.parametrize("name", RELEASES)
def test_only_a_table_that_scrolls_says_so(desk: Desk, name: str) -> None:
    page = desk(name).at(1280)
    scrolls = page.locator(".table").evaluate_all("all => all.map(e => e.scrollWidth > e.clientWidth)")
    told = page.locator("p.scroll").evaluate_all("all => all.map(e => getComputedStyle(e).display !== 'none')")
    assert told == scrolls


@pytest.mark.parametrize("language", ["fr", "en", "ar"])
def test_a_screen_reader_hears_each_chart_table_and_hidden_figure(
    desk: Desk, language: Literal["fr", "en", "ar"]
) -> None:
    words = WORDS[language]
    page = desk(f"statistics-{language}").page
    heard = page.locator("body").aria_snapshot()
    tables = page.locator("table").count()
    assert tables >= 3
    assert len(re.findall(r"^ *- '?heading ", heard, re.MULTILINE)) == tables + 2
    for kind in ("region", "group", "table"):
        assert len(re.findall(rf"^ *- {kind} \"", heard, re.MULTILINE)) == tables, kind
    below = re.escape(page_frame.said(words, "statistics.same"))
    assert len(re.findall(rf"- img \"[^\"]*{below}\"", heard)) >= 2
    assert f'img "{page_frame.said(words, "statistics.hidden")}"' in heard
    assert heard.startswith("- main:")


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_heard_in_its_order(desk: Desk, name: str) -> None:
    heard = desk(name).page.locator("body").aria_snapshot().splitlines()
    assert heard[0] == "- main:"
    assert heard[1].strip().startswith("- heading ")
    assert heard[3].strip() == "- paragraph: 7K2M-Q9RT-X4HV" or name == "card-rn"
    assert CODE not in "".join(heard)


# -- on paper ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CARDS)
def test_a_card_prints_on_one_sheet_whatever_the_paper(desk: Desk, name: str) -> None:
    page = desk(name).at(800, media="print")
    assert sheets(page.pdf(prefer_css_page_size=True)) == [(105, 74)]
    for paper, size in (("A6", [105, 148]), ("A4", [210, 297])):
        assert [sorted(sheet) for sheet in sheets(page.pdf(format=paper))] == [size]


@pytest.mark.parametrize("name", CARDS)
def test_all_of_a_card_stands_on_the_smallest_sheet(desk: Desk, name: str) -> None:
    page = desk(name).at(round(105 * MM), round(74 * MM), media="print")
    assert desk(name).overflowing() == []
    bottoms = page.locator("main *").evaluate_all("all => all.map(e => e.getBoundingClientRect().bottom)")
    assert max(bottoms) <= (74 - 4) * MM


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_prints_without_losing_a_column(desk: Desk, name: str) -> None:
    across = "many" in name
    page = desk(name).at(round(((297 if across else 210) - 28) * MM), media="print")
    assert desk(name).overflowing() == []
    lost = "all => all.filter(e => e.scrollWidth > e.parentElement.clientWidth).length"
    assert page.locator("table").evaluate_all(lost) == 0
    assert set(sheets(page.pdf(prefer_css_page_size=True))) == ({(210, 297), (297, 210)} if across else {(210, 297)})


def sheets(pdf: bytes) -> list[tuple[int, int]]:
    """(width, height) in millimetres of each sheet."""
    found = re.findall(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", pdf)
    return [(round(float(width) * 25.4 / 72), round(float(height) * 25.4 / 72)) for width, height in found]


# -- in Arabic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["card-ar", "statistics-ar"])
def test_arabic_is_drawn_with_arabic_letters(desk: Desk, name: str) -> None:
    """Not with empty boxes: the font that was used has them."""
    ran = subprocess.run(["fc-list", ":lang=ar", "family"], capture_output=True, text=True, check=False)
    families = {one.strip() for line in ran.stdout.splitlines() for one in line.split(",")}
    if not families:
        pytest.skip("no font with Arabic letters is installed (Debian: apt-get install fonts-noto-core)")
    assert used_fonts(desk(name), "h1") & families


def used_fonts(look: Look, selector: str) -> set[str]:
    session = look.page.context.new_cdp_session(look.page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
    found = session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
    return {one["familyName"] for one in found}


def test_an_arabic_page_begins_at_the_right_and_says_first_that_it_is_a_draft(desk: Desk) -> None:
    page = desk("statistics-ar").at(1280)
    answers, country = (page.locator("thead th").nth(at).bounding_box() for at in (0, 1))
    assert answers is not None
    assert country is not None
    assert answers["x"] > country["x"]
    first = page.locator("main > *").first
    assert first.is_visible()
    assert first.inner_text().startswith("مسودة")
    assert "Brouillon" in first.inner_text()


# -- the tests themselves ---------------------------------------------------------------------------------------------


def test_what_these_tests_look_for_is_seen(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><title>x</title><style>p{color:#999}svg{width:90px}</style>"
        '<p style="width:600px">Trop large</p><p>Trop clair</p><img src="https://outside.example/x.png">'
        '<svg viewBox="0 0 90 20"><text x="0" y="15">Plus long que son dessin</text></svg>',
        encoding="utf-8",
    )
    look = opened(browser, bad)
    look.at(360)
    assert look.asked == ["https://outside.example/x.png"]
    assert {one.partition(":")[0] for one in look.overflowing()} == {"page", "outside", "outside the chart"}
    found = {one.partition(":")[0] for one in look.problems()}
    assert {"color-contrast", "html-has-lang", "image-alt"} <= found


def test_even_a_page_into_which_somebody_slipped_something_asks_for_nothing(browser: Browser, tmp_path: Path) -> None:
    slipped = tmp_path / "slipped.html"
    body = '<img src="https://outside.example/x.png"><script>document.title = "run"</script>'
    slipped.write_text(page_frame.page(WORDS["fr"], "Titre", "", body), encoding="utf-8")
    look = opened(browser, slipped)
    assert look.asked == []
    assert look.page.title() == "Titre"
