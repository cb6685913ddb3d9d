"""Pools in a real browser: live figures, heat, endpoints that go and come back, hostile names, ten thousand endpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.parts import PHONE, Person, person, screenshot
from tests.browser.test_many import PAINT_MS, SENT_BYTES, best_paint_ms, sent_bytes
from tests.browser.test_page import HOSTILE, made
from tests.browser.test_plots import INKED
from tests.e2e.behind import Behind, behind
from tests.e2e.parts import Endpoints, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

LARGE, THOUSAND = "large", "thousand"


def talk(at: Behind, number: int) -> None:
    """So many requests with long prompts, a few of them again and again."""
    for turn in range(number):
        messages = [{"role": "user", "content": f"{turn % 5} " + "once upon a time " * 60}]
        body = json.dumps({"messages": messages, "max_tokens": 4}).encode()
        assert at.call("POST", "/serving-endpoints/chat/invocations", body, x_user_id=f"user-{turn}").status == 200


def inked(person_: Person) -> int:
    """How much of the heat map has a colour."""
    found: int = person_.page.locator(".plots canvas").last.evaluate(INKED)
    return found


def test_a_pool_is_watched(at: Behind, alice: Person) -> None:
    made(at)
    page = alice.log_in(path="/ui/pools")
    expect(page.get_by_role("row").filter(has_text="llama")).to_contain_text("3")
    page.get_by_role("link", name="llama").click()
    expect(page.get_by_role("heading", name="Pool llama")).to_be_visible()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first.locator("[data-cell$='/health']")).to_have_text("ok")
    expect(rows.first.locator("[data-cell$='/age']")).to_have_text("< 1 s")
    talk(at, 400)
    expect(page.locator("[data-cell='llama//picks']")).to_have_text(re.compile(r"[1-9]"))
    heat = page.locator(".plots .drawn").last
    expect(heat).to_have_attribute("aria-label", re.compile(r"KV cache used, by endpoint: 3 endpoints"))
    page.get_by_role("link", name="Picks a second").click()
    expect(heat).to_have_attribute("aria-label", re.compile(r"Picks a second, by endpoint: .*most has .* with \d"))
    assert inked(alice) > 100
    values = page.locator(".plots .values").last
    heat.focus()
    before = values.inner_text()
    page.keyboard.press("ArrowDown")
    expect(values).not_to_have_text(before)
    page.keyboard.press("ArrowLeft")
    screenshot(page, "page-pool", whole=True)
    page.get_by_text("As a table").click()
    expect(page.get_by_role("table", name="Picks a second, by endpoint")).to_be_visible()
    alice.check_accessible()
    rows.first.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Signals of its page")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="kv_usage").first).to_contain_text("share")
    expect(page.locator(".plots .drawn")).to_have_count(6)
    alice.check_accessible()
    screenshot(page, "page-pool-endpoint", whole=True)
    page.get_by_role("link", name="The last decisions for it").click()
    expect(page.get_by_role("heading", name="Decisions")).to_be_visible()


def test_a_gateway_that_is_away_is_told_and_its_pools_come_back(at: Behind, alice: Person) -> None:
    page = alice.log_in(path="/ui/pool?name=llama")
    expect(page.locator("tbody tr")).to_have_count(3)
    at.stack.servers["gateway"].kill()
    try:
        expect(page.get_by_role("alert").filter(has_text="The gateway can't be reached")).to_be_visible()
        expect(page.locator("tbody tr")).to_have_count(3)
    finally:
        at.restart()
    expect(page.locator("#away")).to_be_hidden(timeout=20_000)
    expect(page.locator("[data-cell$='/age']").first).to_have_text("< 1 s")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, {"width": 1280, "height": 800}], ids=["phone", "desk"])
def test_in_light_and_dark(opened: Browser, at: Behind, scheme: str, viewport: dict[str, int]) -> None:
    with person(opened, at.url, viewport=viewport, color_scheme=scheme) as reader:
        reader.log_in()
        for path in ("/ui/pools", "/ui/pool?name=llama", f"/ui/pool/endpoint?name=llama&key={address(at)}"):
            page = reader.open(path)
            if "name=" in path:
                expect(page.locator(".plots canvas").first).to_be_visible()
            reader.check_accessible()
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, path


def address(at: Behind) -> str:
    """Of one endpoint of the pool."""
    got = at.call("GET", "/api/2.0/pools/llama/endpoints?limit=1")
    found: str = got.json["endpoints"][0]["endpoint"]
    return quote(found)


@pytest.fixture(scope="module")
def crowded(
    opened: Browser, envoy_binary: Path, session_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """A gateway with a pool of ten thousand addresses where nobody listens, one of a thousand, and one with hostile names."""
    folder = tmp_path_factory.mktemp("pools")

    def pool(name: str, number: int, called: str) -> dict[str, object]:
        path = folder / f"{number}.json"
        rows = [
            {"name": called.format(at), "address": f"127.{1 + at // 62500}.{at // 250 % 250}.{1 + at % 250}", "port": "9"}
            for at in range(number)
        ]
        path.write_text(json.dumps({"endpoints": rows}))
        return {"name": name, "endpoints": {"file": str(path)}}

    pools = [pool(LARGE, 10_000, "e-{:05}"), pool(THOUSAND, 1000, "t-{:05}"), pool(HOSTILE, 2, "{}" + HOSTILE)]
    # With a prefix cache to know of, which the example has not.
    more = {"scheduling": {"plugins": [{"type": "prefix-cache-scorer"}]}}
    with behind(envoy_binary, session_endpoints, folder, pools=pools, more=more) as standing:
        yield standing


def test_ten_thousand_are_listed_found_and_sorted_and_a_thousand_are_painted_in_time(opened: Browser, crowded: Behind) -> None:
    with person(opened, crowded.url) as reader:
        page = reader.log_in(path="/ui/pools")
        path = f"/ui/pool?name={THOUSAND}"
        weight, paint_ms = sent_bytes(reader, path), best_paint_ms(reader, path)
        print(f"{path}: {weight:,} bytes are sent, painted after {paint_ms:.0f} ms")
        assert weight <= SENT_BYTES
        assert paint_ms <= PAINT_MS
        reader.open(f"/ui/pool?name={LARGE}")
        expect(page.get_by_text("10,000 endpoints, page 1 of 200")).to_be_visible()
        expect(page.get_by_role("heading", name=re.compile(r"Not well: 10,000 of 10,000"))).to_be_visible()
        expect(page.locator("tbody tr").first).to_contain_text("could not be connected to")
        page.get_by_role("link", name="Next page").click()
        expect(page.get_by_role("link", name="e-00050")).to_be_visible()
        page.get_by_role("searchbox").fill("e-0987")
        expect(page.get_by_text("10 endpoints", exact=True)).to_be_visible()
        assert page.url.endswith("q=e-0987"), "a search may be sent to others"
        page.get_by_role("link", name="e-09876", exact=True).click()
        expect(page.get_by_role("heading", name="e-09876")).to_be_visible()
        page.go_back()
        expect(page.get_by_text("10 endpoints", exact=True)).to_be_visible()


def test_pools_and_endpoints_that_are_called_like_scripts_stay_text(opened: Browser, crowded: Behind) -> None:
    with person(opened, crowded.url) as reader:
        page = reader.log_in(path="/ui/pools")
        page.get_by_role("link", name=HOSTILE).click()
        expect(page.get_by_role("heading", name=f"Pool {HOSTILE}")).to_be_visible()
        expect(page.locator("tbody tr")).to_have_count(2)
        heat = page.locator(".plots .drawn").last
        expect(heat).to_have_attribute("aria-label", re.compile("by endpoint"))
        heat.focus()
        page.keyboard.press("ArrowDown")
        expect(page.locator(".plots .values").last).to_contain_text(HOSTILE)
        expect(page.locator(f"[data-cell={json.dumps(HOSTILE + '//down')}]")).to_have_text("2")
        page.get_by_text("As a table").click()
        expect(page.get_by_role("columnheader", name=HOSTILE).first).to_be_visible()
        page.locator("tbody tr").first.get_by_role("link").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(HOSTILE)
        reader.check_accessible()


def test_how_much_of_the_prompts_an_endpoint_had_in_its_cache(opened: Browser, crowded: Behind) -> None:
    made(crowded)
    with person(opened, crowded.url) as reader:
        page = reader.log_in(path="/ui/pool?name=llama&sort=hits")
        hits = page.locator("[data-cell$='/hits']").filter(has_text=re.compile(r"^[1-9]\d* %$"))

        def seen() -> bool:
            talk(crowded, 20)
            return hits.count() > 0

        until(seen, within_s=45, what="the share of prompts that were in a cache")
