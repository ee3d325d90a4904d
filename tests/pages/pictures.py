# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.pages.pictures`: the pictures of the pages in `docs/pictures`, made from what the tests look at.

`made-from.json` keeps the digest of the page behind each picture: `tests/pages/test_pictures.py` fails when a page has
changed since. Never: draws anything by hand.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from tests.pages.browser import opened, program, started
from tests.pages.shown import shown
from umuhuza.publish import DOCS

PICTURES = DOCS / "pictures"
SIZES = {
    "card-fr": (400, 270),
    "card-en": (400, 270),
    "card-ar": (400, 350),
    "statistics-fr": (700, 780),
    "statistics-en": (700, 780),
    "statistics-ar": (700, 960),
}
"""Page -> width and height of its picture in CSS pixels."""
MADE_FROM = "made-from.json"


def digest(name: str) -> str:
    """Of the page that a picture shows."""
    return hashlib.sha256(shown()[name].html.encode()).hexdigest()


def main() -> int:
    executable = program()
    if executable is None:
        sys.stderr.write("Chromium is not installed.\n")
        return 1
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, started(executable) as browser:
        for name, (width, height) in SIZES.items():
            file = Path(folder) / f"{name}.html"
            file.write_text(shown()[name].html, encoding="utf-8")
            page = opened(browser, file).at(width, height)
            (PICTURES / f"{name}.png").write_bytes(page.screenshot())
    made = {name: digest(name) for name in SIZES}
    (PICTURES / MADE_FROM).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
