"""The first minutes of a newcomer: `make up`, one address, and nothing to read but the pages."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.parts import PHONE, person
from tests.e2e.test_demo import lines_up_to, started

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MOVED_MS = 60_000
"""Within which a share is seen to move: it is one of the last ten seconds."""


@pytest.fixture(scope="module")
def address(opened: Browser, envoy_binary: Path) -> Iterator[str]:
    """The one that is printed first."""
    with started("--keep") as process:
        text = lines_up_to(process, "Envoy's own pages")
        found = re.search(r"(http://\S+)/ui/ +start here\n", text)
        assert found, text
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def fits(page: Page) -> bool:
    """Without scrolling to the side."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def test_a_split_is_moved_with_a_preview_and_a_request_says_why_it_went_where_it_went(opened: Browser, address: str) -> None:
    with person(opened, address) as newcomer:
        page = newcomer.open()
        page.get_by_role("link", name="assistant").click()
        expect(page.get_by_role("link", name="Serving endpoints", exact=True).first).to_have_attribute("aria-current", "page")
        share = page.locator("[data-cell='assistant/challenger/part']")
        expect(share).to_have_text(re.compile(r"^(\d|1\d|2[0-4])(\.\d)? %$"), timeout=MOVED_MS)
        page.get_by_role("spinbutton", name="challenger").fill("50")
        page.keyboard.press("Enter")
        expect(page.locator("#panel")).to_contain_text("90 % becomes 50 %")
        expect(page.locator("#panel")).to_contain_text("40 % of the users move")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_text("is in force.")).to_be_visible()
        expect(share).to_have_text(re.compile(r"^[3-6]\d %$"), timeout=MOVED_MS)
        newcomer.check_accessible()

        page.get_by_role("link", name="The last decisions about its requests").click()
        page.locator("tbody tr").first.get_by_role("link").click()
        decided = page.get_by_role("region", name="The decision").first
        for words in ("Served entity", "assistant/", "sticky", "bucket", "Model server", "best of 3", "If that failed"):
            expect(decided).to_contain_text(words)
        expect(page.locator("table.candidates").first).to_be_visible()


def test_on_a_phone_each_page_fits_and_tables_have_their_titles_in_a_line(opened: Browser, address: str) -> None:
    with person(opened, address, viewport=PHONE, color_scheme="dark") as newcomer:
        for path in ("/ui/", "/ui/endpoints/assistant", "/ui/pools", "/ui/pool?name=llama", "/ui/decisions", "/ui/audit"):
            page = newcomer.open(path)
            assert fits(page), path
            for caption in page.locator("table caption").all():
                box = caption.bounding_box()
                assert box is None or box["width"] > 150, path
            newcomer.check_accessible()
        page = newcomer.open("/ui/endpoints/assistant")
        page.get_by_role("spinbutton", name="challenger").fill("100")
        page.keyboard.press("Enter")
        expect(page.locator("#panel")).to_contain_text("becomes 100 %")
        assert fits(page), "with a preview"
