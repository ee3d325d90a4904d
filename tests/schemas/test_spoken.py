# SPDX-License-Identifier: Apache-2.0
"""Twelve words on the telephone: typed in any way that people type, they are the same words; others never are."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from schemas.errors import Language, RegistryError
from schemas.spoken import WORDS, fingerprint_words, grouped, passphrase_words, require_same
from tests.domain import seeded

DATA = b"une demande"
BOTH: tuple[Language, ...] = ("fr", "en")


def heard(words: list[str] | tuple[str, ...]) -> RegistryError | None:
    try:
        require_same("enrolment", DATA, " ".join(words))
    except RegistryError as exc:
        return exc
    return None


@pytest.mark.parametrize("language", BOTH)
def test_the_words_are_those_of_the_published_lists_with_their_checksum(language: Language) -> None:
    words = fingerprint_words("enrolment", DATA, language)
    standard = Mnemonic({"fr": "french", "en": "english"}[language])
    assert len(words) == WORDS
    assert standard.check(unicodedata.normalize("NFKD", " ".join(words)))


def test_words_of_these_bytes_stay_what_they_are() -> None:
    """Two versions of this program have to say the same on the telephone."""
    assert " ".join(fingerprint_words("enrolment", DATA, "fr")) == FRENCH
    assert " ".join(fingerprint_words("enrolment", DATA, "en")) == ENGLISH


FRENCH = "réticule impérial semence mercredi fendoir lavabo épilogue étude cortège halte ampleur exclusif"
ENGLISH = "soldier leg sure old gossip method fitness frown decade join arrest gap"


@pytest.mark.parametrize("language", BOTH)
def test_without_accents_in_capitals_cut_short_or_with_commas_they_are_the_same(language: Language) -> None:
    words = fingerprint_words("enrolment", DATA, language)
    plain = [
        "".join(one for one in unicodedata.normalize("NFKD", word) if not unicodedata.combining(one)) for word in words
    ]
    for typed in (words, plain, [word.upper() for word in words], [word[:4] for word in plain]):
        assert heard(typed) is None
    require_same("enrolment", DATA, ", ".join(words))


@given(st.binary(max_size=50), st.binary(max_size=50), st.sampled_from(BOTH))
def test_other_bytes_have_other_words(one: bytes, other: bytes, language: Language) -> None:
    words = fingerprint_words("enrolment", one, language)
    require_same("enrolment", one, " ".join(words))
    if one != other:
        with pytest.raises(RegistryError) as caught:
            require_same("enrolment", other, " ".join(words))
        assert caught.value.code == "words_differ"
    assert fingerprint_words("registry", one, language) != words


@pytest.mark.parametrize("language", BOTH)
def test_a_misheard_word_is_named_by_its_place_and_not_told(language: Language) -> None:
    words = fingerprint_words("enrolment", DATA, language)
    others = Mnemonic({"fr": "french", "en": "english"}[language]).wordlist
    for at, word in enumerate(words):
        wrong = next(one for one in others[at * 97 :] if one[:4] != unicodedata.normalize("NFKD", word)[:4])
        found = heard([*words[:at], wrong, *words[at + 1 :]])
        assert found is not None
        assert (found.code, found.path) == ("words_misheard", f"word {at + 1}")
        assert word not in str(found)
        assert wrong not in str(found)


@pytest.mark.parametrize("wrong", [3, 6, 11])
def test_several_words_that_differ_are_another_request_and_not_a_bad_line(wrong: int) -> None:
    words = fingerprint_words("enrolment", DATA, "fr")
    others = fingerprint_words("enrolment", b"une autre demande", "fr")
    found = heard([*others[:wrong], *words[wrong:]])
    assert found is not None
    assert (found.code, found.path) == ("words_differ", None)


def test_two_words_in_the_wrong_order_are_noticed() -> None:
    words = list(fingerprint_words("enrolment", DATA, "fr"))
    for at, (one, next_one) in enumerate(pairwise(words)):
        swapped = [*words[:at], next_one, one, *words[at + 2 :]]
        found = heard(swapped)
        assert found is not None
        assert (found.code, found.path) == ("words_misheard", f"word {at + 1}")


def test_a_word_of_no_list_is_named_by_its_place_alone() -> None:
    words = list(fingerprint_words("enrolment", DATA, "fr"))
    found = heard([*words[:4], "Ndayishimiye", *words[5:]])
    assert found is not None
    assert (found.code, found.path) == ("words_misheard", "word 5")
    assert "Ndayishimiye" not in str(found)


@pytest.mark.parametrize("count", [0, 1, 11, 13])
def test_too_few_or_too_many_words_are_no_comparison(count: int) -> None:
    words = fingerprint_words("enrolment", DATA, "fr") * 2
    found = heard(words[:count])
    assert found is not None
    assert (found.code, found.expected) == ("words_misheard", WORDS)


def test_words_are_read_in_groups_and_numbered() -> None:
    words = fingerprint_words("enrolment", DATA, "fr")
    rows = grouped(words)
    assert [row.split() for row in rows][1] == ["4", words[3], "5", words[4], "6", words[5]]


@pytest.mark.parametrize("language", BOTH)
def test_a_drawn_passphrase_has_every_bit_that_was_drawn(language: Language) -> None:
    drawn = {passphrase_words(seeded(f"{n}"), language) for n in range(200)}
    assert len(drawn) == 200
    assert {len(words) for words in drawn} == {6}
    assert all(word.isascii() for words in drawn for word in words), "typed on any keyboard"
    lowest, highest = passphrase_words(bytes, language), passphrase_words(lambda count: b"\xff" * count, language)
    assert len({*lowest}) == len({*highest}) == 1
    assert lowest != highest
