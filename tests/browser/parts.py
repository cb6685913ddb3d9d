"""A real browser for tests: where it is, what it may do, and what is looked at of every page that it opens."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.api.tokens import ALICE

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / ".cache/axe/axe.min.js"
expect.set_options(timeout=20_000)
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
_SERIOUS = ("serious", "critical")
_HOW = "scripts/install-browser installs what is missing"


def missing(what: str) -> None:
    """Skip; `make test-browser`, which installs it, fails instead."""
    if os.environ.get("EXTPROC_REQUIRE_BROWSER"):
        pytest.fail(f"{what}, and EXTPROC_REQUIRE_BROWSER is set")
    pytest.skip(f"{what}: {_HOW}")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Debian's chromium, without a window. Skips the test where there is none."""
    path = shutil.which("chromium")
    if path is None:
        missing("there is no 'chromium' on the path")
    with sync_playwright() as playwright:
        # As root, in CI, there is no sandbox; it opens pages of this machine only.
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield started
        finally:
            started.close()


class Person:
    """Somebody with a browser of their own, at one gateway."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.faults: list[str] = []
        """What a page may not do: run what is inline, ask others, throw."""
        self.page.on("pageerror", lambda error: self.faults.append(f"threw: {error}"))
        self.page.on("dialog", lambda dialog: self.faults.append(f"asked: {dialog.message}"))
        self.page.on("console", lambda message: self._said(message.text))
        self.page.on("request", lambda request: self._asked(request.url))

    def _said(self, text: str) -> None:
        if "Content Security Policy" in text or "Refused to" in text:
            self.faults.append(text)

    def _asked(self, url: str) -> None:
        if not url.startswith(self.url + "/"):
            self.faults.append(f"asked {url}")

    def open(self, path: str = "/ui/") -> Page:
        """Go to a page."""
        self.page.goto(self.url + path)
        return self.page

    def log_in(self, token: str = ALICE, path: str = "/ui/") -> Page:
        """Open a page, past the login."""
        page = self.open(path)
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Log out").wait_for()
        return page

    def check_accessible(self) -> None:
        """axe-core finds nothing serious in what the page shows now."""
        if not AXE.is_file():
            missing("there is no axe-core in .cache")
        # Not as an element of the page: its policy would refuse that.
        self.page.evaluate(AXE.read_text())
        found: dict[str, Any] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        told = [
            f"{each['id']}: {each['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for each in found["violations"]
            if each["impact"] in _SERIOUS
            for node in each["nodes"]
        ]
        assert not told, "\n".join(told)
        assert len(found["passes"]) > 10, "it has looked at something"


@contextlib.contextmanager
def person(opened: Browser, url: str, **words: Any) -> Iterator[Person]:
    """`words`: of the browser's context, such as a viewport. Fails when one of the pages did what none may."""
    words.setdefault("viewport", DESK)
    context = opened.new_context(**words)
    try:
        made = Person(context, url)
        yield made
        assert made.faults == []
    finally:
        context.close()


def screenshot(page: Page, name: str, *, whole: bool = False) -> None:
    """For the docs, when EXTPROC_SCREENSHOTS names their folder (`make screenshots`)."""
    folder = os.environ.get("EXTPROC_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=whole)
