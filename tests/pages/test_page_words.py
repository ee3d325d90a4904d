# SPDX-License-Identifier: Apache-2.0
"""What pages say: complete in every language in which they are shown, and honest about what nobody has reviewed."""

from __future__ import annotations

import re
import string
import tomllib
from importlib import resources

import pytest
from babel.dates import get_month_names

from adapters import page_frame
from adapters.statistics import COUNTED, counted_fields
from adapters.ticket_card import card
from schemas import htcds
from schemas.page_words import WORDS, PageLanguage, Words, read_words, words_for

FOLDER = resources.files("schemas").joinpath("data", "pages")
FRENCH = WORDS["fr"]
ARABIC = re.compile(r"[\u0600-\u06ff]")
ARABIC_DIGITS = re.compile(r"[\u0660-\u0669\u06f0-\u06f9]")
ONLY_IN_A_DRAFT = {"card.draft"}


def source(language: str) -> str:
    return FOLDER.joinpath(f"{language}.toml").read_text(encoding="utf-8")


def places_in(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", [one for one in WORDS if WORDS[one].shown])
def test_a_language_says_everything_that_french_says(language: PageLanguage) -> None:
    words = WORDS[language]
    assert words.texts.keys() - ONLY_IN_A_DRAFT == FRENCH.texts.keys()
    for key, text in FRENCH.texts.items():
        assert places_in(words.texts[key]) == places_in(text), key
    assert set(COUNTED) <= {key.removeprefix("statistics.") for key in words.texts}


def test_arabic_has_a_name_of_its_own_for_whatever_may_be_counted() -> None:
    labels = WORDS["ar"].labels
    assert set(counted_fields()) == labels["field"].keys()
    lists = {htcds.FIELDS[name].codelist for name in counted_fields()} - {None}
    assert {*lists, "boolean", "field", "place"} == labels.keys()
    for name in lists:
        assert name is not None
        assert labels[name].keys() == htcds.CODELISTS[name].keys(), name
    known = tomllib.loads(resources.files("schemas").joinpath("data", "places.toml").read_text(encoding="utf-8"))
    assert labels["place"].keys() == known["place"].keys()


def test_arabic_is_written_as_in_tunisia() -> None:
    """Its own names of the months, and digits as everybody writes them there."""
    months = get_month_names("wide", locale="ar_TN")
    words = WORDS["ar"]
    halves = (words.say("statistics.first_half", year=2026), words.say("statistics.second_half", year=2026))
    assert all(month in halves[at >= 2] for at, month in enumerate(months[number] for number in (1, 6, 7, 12)))
    everything = [*words.texts.values(), *(one for labels in words.labels.values() for one in labels.values())]
    assert [one for one in everything if ARABIC_DIGITS.search(one)] == []
    latin = {"Facebook", "Instagram", "WhatsApp", "Telegram", "Facebook Messenger", "Viber", "SnapChat", "Line"}
    latin |= {"4Sale", "WeChat", "QQ", "QZone", "TikTok", "Twitter"}
    assert [one for one in everything if not ARABIC.search(one) and one not in latin] == []


def test_french_says_what_people_here_say() -> None:
    told = " ".join(FRENCH.texts.values())
    assert "traite des personnes" in told.lower()
    assert "trafic" not in told.lower()
    assert "victime" not in told.lower()


def test_colours_have_the_contrast_that_they_promise() -> None:
    """Charts too, which axe-core does not look into."""
    palettes = [dict(re.findall(r"--(\w+):(#[0-9a-f]+)", part)) for part in page_frame.COLOURS.split("@media")]
    assert len(palettes) == 2
    for colours in palettes:
        for ink, ground in (("ink", "paper"), ("ink", "band"), ("ink", "sand"), ("quiet", "paper"), ("quiet", "sand")):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert contrast(colours["head"], colours["paper"]) >= 4.5
        assert contrast(colours["bar"], colours["paper"]) >= 3, "what is drawn"


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it, 1 to 21."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * each for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# -- what nobody has reviewed -----------------------------------------------------------------------------------------


def test_arabic_is_a_draft_and_says_so_on_every_page() -> None:
    assert WORDS["ar"].draft
    assert "مسودة" in page_frame.draft_mark(WORDS["ar"])
    assert "مسودة" in card("AAAABBBBCCCC", None, "ar")
    assert [page_frame.draft_mark(WORDS[one]) for one in ("fr", "en")] == ["", ""]


def test_once_somebody_has_reviewed_arabic_the_mark_goes() -> None:
    text = source("ar").replace('state = "draft"', 'state = "final"\nreviewed_by = "INLCTP"\nreviewed_on = 2027-01-15')
    reviewed = read_words(text)
    assert not reviewed.draft
    assert page_frame.draft_mark(reviewed) == ""


@pytest.mark.parametrize(
    "more",
    ["", '\nreviewed_by = "INLCTP"', "\nreviewed_on = 2027-01-15", '\nreviewed_by = ""\nreviewed_on = 2027-01-15'],
)
def test_a_translation_is_not_final_before_it_says_who_reviewed_it_and_when(more: str) -> None:
    with pytest.raises(ValueError, match="reviewed"):
        read_words(source("ar").replace('state = "draft"', f'state = "final"{more}'))


def test_who_speaks_kirundi_gets_french_to_be_read_with_an_interpreter() -> None:
    assert words_for("rn").language == "fr"
    made = card("AAAABBBBCCCC", None, "rn")
    assert "À lire avec un interprète." in made
    assert "Gardez cette carte." in made
    assert "À lire avec un interprète." not in card("AAAABBBBCCCC", None, "fr")


def test_a_kirundi_draft_is_not_shown_before_somebody_has_reviewed_it() -> None:
    body = "\n".join(f'{key.partition(".")[2]} = "..."' for key in FRENCH.texts if key.startswith("card."))
    text = source("rn").replace('state = "wanted"', 'state = "draft"') + f"\n[card]\n{body}\n"
    draft: Words = read_words(text)
    assert draft.draft
    assert not draft.shown


def test_texts_have_a_source_and_a_known_state() -> None:
    for wrong in (
        source("fr").replace('state = "final"', 'state = "nearly"'),
        re.sub('source = ".*"', 'source = ""', source("fr")),
        source("rn") + '\n[card]\nkeep = "..."\n',
        source("fr").replace('keep = "Gardez cette carte."', "keep = 3"),
    ):
        with pytest.raises(ValueError, match="pages"):
            read_words(wrong)
