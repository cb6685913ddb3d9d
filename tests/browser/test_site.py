"""The docs site of `make docs`, opened from the disk: diagrams are drawn, the search finds, and nobody else is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.parts import DESK, ROOT

HTML = ROOT / ".cache/site/html"
pytestmark = pytest.mark.skipif(not (HTML / "index.html").exists(), reason="the docs site is not built: make docs")


@pytest.fixture
def page(opened: Browser) -> Iterator[Page]:
    words: dict[str, Any] = {"viewport": DESK}
    context = opened.new_context(**words)
    made = context.new_page()
    told: list[str] = []
    made.on("request", lambda request: told.append(request.url) if request.url.startswith("http") else None)
    made.on("pageerror", lambda error: told.append(f"threw: {error}"))
    try:
        yield made
        assert told == []
    finally:
        context.close()


def test_diagrams_are_drawn(page: Page) -> None:
    page.goto((HTML / "docs/architecture.html").as_uri())
    drawn = page.locator("div.mermaid")
    expect(drawn).to_have_count(2)
    for number in range(2):
        assert drawn.nth(number).bounding_box()


def test_the_search_finds(page: Page) -> None:
    page.goto((HTML / "index.html").as_uri())
    page.locator("input.md-search__input").click()
    page.keyboard.type("canary")
    found = page.locator("a.md-search-result__link")
    expect(found.first).to_be_visible()
    found.first.click()
    expect(page.locator("article")).to_contain_text("canary")
