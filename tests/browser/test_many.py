"""Ten thousand endpoints; and of a thousand, what each page weighs and when it is painted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.parts import Person, person
from tests.e2e.behind import Behind, behind, own
from tests.e2e.parts import Endpoints

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PAINT_MS = 300
SENT_BYTES = 100_000
"""For a page with nothing kept, its own figures and plots included; 150 KB are promised."""
TRIES = 20
PAGES = [
    *("/ui/", "/ui/new", "/ui/endpoints/e-00500", "/ui/endpoints/e-00500/history", "/ui/endpoints/e-00500/rollout"),
    *("/ui/rollouts", "/ui/pools", "/ui/pool?name=llama", "/ui/decisions", "/ui/try?endpoint=e-00500", "/ui/audit"),
]
PAINTED = """new Promise((done) => {
  const look = () => {
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    paint ? done(paint.startTime) : requestAnimationFrame(look);
  };
  look();
})"""
"""When the page was painted first, in milliseconds from when it was asked for."""


def best_paint_ms(reader: Person, path: str) -> float:
    """Of several looks, as others may work on this machine, too: until one is in time."""
    best = float("inf")
    for _ in range(TRIES):
        reader.open(path)
        best = min(best, reader.page.evaluate(PAINTED))
        if best <= PAINT_MS:
            break
    return best


def sent_bytes(reader: Person, path: str) -> int:
    """Of everything that a browser gets for the page, with headers, when it has kept nothing."""
    devtools = reader.page.context.new_cdp_session(reader.page)
    heard: list[dict[str, Any]] = []
    devtools.on("Network.loadingFinished", lambda event: heard.append(event))
    devtools.send("Network.enable")
    devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
    reader.page.goto("about:blank")  # what is still under way for the page before is none of this one's
    heard.clear()
    reader.page.goto(reader.url + path, wait_until="load")
    if reader.page.locator("[data-plots]").count():
        reader.page.locator(".plots").first.locator(".drawn, .quiet").first.wait_for()
    devtools.detach()
    assert heard, path
    return int(sum(each["encodedDataLength"] for each in heard))


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


def test_pages_of_a_thousand_are_light_and_painted_in_time_and_of_ten_thousand_one_is_found(
    opened: Browser, crowded: Behind
) -> None:
    fill(crowded, 0, 1000)
    with person(opened, crowded.url) as reader:
        page = reader.log_in()
        weights = {path: sent_bytes(reader, path) for path in PAGES}
        paints = {path: best_paint_ms(reader, path) for path in PAGES}
        for path in PAGES:
            print(f"{path}: {weights[path]:,} bytes are sent, painted after {paints[path]:.0f} ms")
        assert max(weights.values()) <= SENT_BYTES, weights
        assert max(paints.values()) <= PAINT_MS, paints
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
