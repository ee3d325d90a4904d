# SPDX-License-Identifier: Apache-2.0
"""A real Chromium, the system's own, that reaches nothing: what a page asks for besides itself is noted and refused.

Never: downloads a browser or a font. Without Chromium the tests that need it are skipped with the reason, or fail where
everything is required (UMUHUZA_REQUIRE=all).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Page, Route, sync_playwright

from tests.node_programs import NODE, node_with

NAMES = ("chromium", "chromium-browser", "google-chrome")
_RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


def program() -> str | None:
    """Where the system's browser is, or None."""
    return next((found for name in NAMES if (found := shutil.which(name)) is not None), None)


@contextmanager
def started(executable: str) -> Iterator[Browser]:
    """The browser, without a window and without a name server."""
    root = os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            chromium_sandbox=not root,
            args=["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-gpu"],
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Look:
    """A page on the screen."""

    page: Page
    asked: list[str] = field(default_factory=list)
    """Addresses that the page asked for besides its own."""

    def at(
        self,
        width: int,
        height: int = 900,
        *,
        scheme: Literal["light", "dark"] = "light",
        media: Literal["screen", "print"] = "screen",
    ) -> Page:
        """The page in a window of this size in CSS pixels, for a reader who likes it light or dark, or on paper."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme=scheme, media=media)
        return self.page

    def problems(self, *rules: str) -> list[str]:
        """What axe-core finds, by these rules, else by all: WCAG 2.2 A and AA, and good practice."""
        node_with("axe-core")
        self.page.evaluate((NODE / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
        only = {"type": "rule", "values": rules} if rules else _RULES
        found: dict[str, Any] = self.page.evaluate("only => axe.run(document, {runOnly: only})", only)
        return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]

    def overflowing(self) -> list[str]:
        """What stands outside the window or the chart, or is cut; inside a table's own frame it may scroll."""
        found: list[str] = self.page.evaluate(_OVERFLOWING)
        return found


def opened(browser: Browser, file: Path, *, scripts: bool = True) -> Look:
    """The file in a window of its own, which ends with the browser."""
    context = browser.new_context(java_script_enabled=scripts)
    look = Look(context.new_page())
    address = file.as_uri()

    def answer(route: Route) -> None:
        if route.request.url == address:
            route.continue_()
        else:
            look.asked.append(route.request.url)
            route.abort()

    context.route("**/*", answer)
    look.page.goto(address)
    return look


_OVERFLOWING = """() => {
  const out = [], width = document.documentElement.clientWidth;
  const say = (what, e) => out.push(what + ': ' + e.tagName + ' ' + (e.textContent || '').slice(0, 60));
  if (document.documentElement.scrollWidth > width) out.push('page: ' + document.documentElement.scrollWidth);
  for (const e of document.querySelectorAll('body *')) {
    const frame = e.parentElement.closest('.table'), drawing = e.closest('svg');
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    if (!box.width) continue;
    if (!frame && (box.left < -0.5 || box.right > width + 0.5)) say('outside', e);
    if (drawing && drawing !== e) {
      const whole = drawing.getBoundingClientRect();
      const middle = (box.top + box.bottom) / 2;  // a font's box is higher than its letters
      if (box.left < whole.left - 0.5 || box.right > whole.right + 0.5 || middle > whole.bottom || middle < whole.top)
        say('outside the chart', e);
    } else if (style.overflowX !== 'visible' && !e.matches('.table') && e.scrollWidth > e.clientWidth) say('cut', e);
    if (frame && e.matches('th,td') && e.scrollWidth > e.clientWidth + 1) say('cut cell', e);
  }
  return out;
}"""
