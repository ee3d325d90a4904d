# SPDX-License-Identifier: Apache-2.0
"""The guides show the pages as they are today."""

from __future__ import annotations

import json
import struct
import zlib

import pytest

from tests.pages.pictures import MADE_FROM, PICTURES, SIZES, digest
from umuhuza.publish import DOCS

GUIDES = {
    "card": ("caseworker.md", "fr/guide-intervenant.md"),
    "statistics": ("operations.md", "fr/exploitation.md"),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_picture_shows_todays_page(name: str) -> None:
    """After a change: `python -m tests.pages.pictures`, and look at them."""
    made = json.loads((PICTURES / MADE_FROM).read_text(encoding="utf-8"))
    assert made.keys() == SIZES.keys()
    assert made[name] == digest(name)


@pytest.mark.parametrize("name", SIZES)
def test_a_picture_is_small_and_whole(name: str) -> None:
    data = (PICTURES / f"{name}.png").read_bytes()
    assert len(data) < 120_000
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == SIZES[name]
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind_and_body = data[at + 4 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind_and_body)
        at += 12 + length


def test_each_guide_shows_the_pages_that_it_tells_of_in_its_language_and_in_arabic() -> None:
    for kind, (english, french) in GUIDES.items():
        for guide, language in ((english, "en"), (french, "fr")):
            told = (DOCS / guide).read_text(encoding="utf-8")
            for each in (language, "ar"):
                assert f"pictures/{kind}-{each}.png)" in told, (guide, each)


def test_no_other_picture_lies_there() -> None:
    assert {path.name for path in PICTURES.iterdir()} == {MADE_FROM, *(f"{name}.png" for name in SIZES)}
