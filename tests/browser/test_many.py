"""Ten thousand endpoints, and when the first page of a thousand is painted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.parts import person
from tests.e2e.behind import Behind, behind, own
from tests.e2e.parts import Endpoints

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PAINT_MS = 300
PAGES = ["/ui/", "/ui/endpoints/e-00500", "/ui/decisions", "/ui/try?endpoint=e-00500", "/ui/audit"]
PAINTED = """new Promise((done) => {
  const look = () => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    paint ? done(paint.startTime) : requestAnimationFrame(look);
  };
  look();
})"""
"""When the page was painted first, in milliseconds from when it was asked for."""


@pytest.fixture(scope="module")
def crowded(
    opened: Browser, envoy_binary: Path, session_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("many")
    with behind(envoy_binary, session_endpoints, folder, "--audit-dir", f"{folder}/audit") as made:
        yield made


def fill(at: Behind, begin: int, end: int) -> None:
    documents = [{"name": f"e-{number:05}", "config": own(current=90, challenger=10)} for number in range(begin, end)]
    got = at.call("POST", "/api/2.0/serving-endpoints:import", {"servingEndpoints": documents})
    assert got.status == 200, got


def test_of_a_thousand_the_first_page_is_painted_in_time_and_of_ten_thousand_one_is_found(
    opened: Browser, crowded: Behind
) -> None:
    fill(crowded, 0, 1000)
    with person(opened, crowded.url) as reader:
        page = reader.log_in()
        took_ms = []
        for path in PAGES * 4:
            reader.open(path)
            took_ms.append(page.evaluate(PAINTED))
        # The best of four: others may work on this machine, too.
        best = {path: min(took_ms[at :: len(PAGES)]) for at, path in enumerate(PAGES)}
        assert max(best.values()) <= PAINT_MS, best
        for begin in range(1000, 10_000, 1500):
            fill(crowded, begin, begin + 1500)
        reader.open()
        expect(page.get_by_text("10,000 endpoints, page 1 of 200")).to_be_visible()
        page.get_by_role("link", name="Next page").click()
        expect(page.get_by_role("link", name="e-00050")).to_be_visible()
        page.get_by_role("searchbox").fill("e-0987")
        expect(page.get_by_text("10 endpoints", exact=True)).to_be_visible()
        assert page.url.endswith("/ui/?q=e-0987"), "a search may be sent to others"
        page.get_by_role("link", name="e-09876").click()
        expect(page.get_by_role("heading", name="e-09876")).to_be_visible()
        page.go_back()
        expect(page.get_by_text("10 endpoints", exact=True)).to_be_visible()
