# SPDX-License-Identifier: Apache-2.0
"""Fingerprints as words that two people compare on the telephone.

128 bits of a SHA-256 are twelve words of a BIP-39 list (11 bits each), English or French, and 4 bits that check them.
Why that is enough: whoever wants to put another request in the place of this one has to find one with the same words,
2^128 tries (a second preimage). Halves of that would do for the time of a telephone call, but then a request could be
prepared for years. The 4 bits find 15 of 16 misheard words, where the words are compared by ear only; a program that
has the request compares all 132, and says at which place they differ.

The lists leave out words that look alike, and four letters tell any two of a list apart; French ones are told apart
without their accents too. So what is typed may be without accents, in capitals, or cut after the fourth letter.

Pure, but for the lists, which the package `mnemonic` reads from its own files. Must never: say what the words should
have been, where they are asked for as a proof that somebody read them.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

from mnemonic import Mnemonic

from schemas.errors import Language, RegistryError
from schemas.keys import RandomBytes

WORDS = 12
_BITS = 128
_LISTS: Mapping[Language, str] = {"fr": "french", "en": "english"}
_LETTERS = 4


def fingerprint_words(about: str, data: bytes, language: Language) -> tuple[str, ...]:
    """Twelve words for `data`.

    Args:
        about: what `data` is (`enrolment`, `registry`): the same bytes as something else have other words.
    """
    digest = hashlib.sha256(f"umuhuza/1 words\n{about}\n".encode() + data).digest()
    return tuple(_composed(word) for word in _list(language).to_mnemonic(digest[: _BITS // 8]).split())


def require_same(about: str, data: bytes, heard: str) -> None:
    """Whether these are the words of `data`, in either language.

    Raises:
        RegistryError: words_misheard (path `word 7`, or none when it is their number), where a word is in no list, or
        one
            or two of them differ; words_differ, where they are those of something else.
    """
    typed = heard.replace(",", " ").split()
    if len(typed) != WORDS:
        raise RegistryError("words_misheard", expected=WORDS)
    known = [_read(typed, language) for language in _LISTS]
    found = max(known, key=lambda words: sum(word is not None for word in words))
    for place, word in enumerate(found, start=1):
        if word is None:
            raise RegistryError("words_misheard", f"word {place}")
    language = list(_LISTS)[known.index(found)]
    right = fingerprint_words(about, data, language)
    wrong = [place for place, pair in enumerate(zip(found, right, strict=True), start=1) if pair[0] != pair[1]]
    if len(wrong) > 2:
        raise RegistryError("words_differ")
    if wrong:
        raise RegistryError("words_misheard", f"word {wrong[0]}")


def passphrase_words(random: RandomBytes, language: Language) -> tuple[str, ...]:
    """Six words drawn at random: 66 bits, each guess of which costs what `schemas/locked.py` says."""
    number = int.from_bytes(random(9), "big")
    words = _list(language).wordlist
    return tuple(_plain(words[(number >> shift) & 2047]) for shift in range(0, 66, 11))


def grouped(words: Sequence[str]) -> list[str]:
    """As they are read aloud: numbered, three to a line."""
    return [
        "   ".join(f"{at + 1:2} {words[at]:<12}" for at in range(first, first + 3)).rstrip()
        for first in range(0, len(words), 3)
    ]


def _read(typed: Sequence[str], language: Language) -> tuple[str | None, ...]:
    """The words of the list that were meant; None where there is none."""
    index = _by_letters(language)
    return tuple(index.get(_plain(word)) or index.get(_plain(word)[:_LETTERS], None) for word in typed)


@cache
def _list(language: Language) -> Mnemonic:
    return Mnemonic(_LISTS[language])


@cache
def _by_letters(language: Language) -> Mapping[str, str]:
    """Whole words and their first letters, without accents, to the word."""
    index: dict[str, str] = {}
    for word in _list(language).wordlist:
        index[_plain(word)[:_LETTERS]] = _composed(word)
    for word in _list(language).wordlist:
        index[_plain(word)] = _composed(word)
    return index


def _plain(word: str) -> str:
    apart = unicodedata.normalize("NFKD", word.casefold())
    return "".join(one for one in apart if not unicodedata.combining(one))


def _composed(word: str) -> str:
    return unicodedata.normalize("NFC", word)
