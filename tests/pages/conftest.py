# SPDX-License-Identifier: Apache-2.0
"""One browser for each file of tests: its own event loop must not stand beside those of other tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.pages.browser import Look, opened, program, started
from tests.pages.shown import shown


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = program()
    if found is None:
        pytest.skip("Chromium is not installed: nobody has looked at the pages (Debian: apt-get install chromium)")
    with started(found) as running:
        yield running


class Desk:
    """Every page, each opened once, written where the browser can open it."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser = browser
        self._folder = folder
        self._open: dict[tuple[str, bool], Look] = {}

    def __call__(self, name: str, *, scripts: bool = True) -> Look:
        if (name, scripts) not in self._open:
            file = self._folder / f"{name}.html"
            file.write_text(shown()[name].html, encoding="utf-8")
            self._open[name, scripts] = opened(self.browser, file, scripts=scripts)
        return self._open[name, scripts]


@pytest.fixture(scope="module")
def desk(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(browser, tmp_path_factory.mktemp("pages"))
