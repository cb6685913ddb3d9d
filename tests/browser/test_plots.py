"""What is drawn over time, in a real browser: an endpoint's figures."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.parts import PHONE, Person, person, screenshot
from tests.browser.test_page import asked, made
from tests.e2e.behind import Behind

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

INKED = """(canvas) => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let inked = 0;
  for (let at = 3; at < data.length; at += 4) inked += data[at] > 0;
  return inked;
}"""
"""How many points of a canvas have a colour."""


def test_an_endpoints_figures_are_drawn_said_and_gone_through(at: Behind, alice: Person) -> None:
    made(at)
    for begin in range(0, 240, 30):
        asked(at, 30, begin)
    page = alice.log_in(path="/ui/endpoints/chat")
    plots = page.locator(".plots .drawn")
    expect(plots).to_have_count(3)
    ready = page.locator(".plots")
    expect(ready).to_have_attribute("data-ready", re.compile(r"[2-9]"))  # drawn anew, by the page's one stream
    expect(plots.first).to_have_attribute("aria-label", re.compile(r"Requests a second: current \d.*challenger \d"))
    assert page.locator(".plots canvas").first.evaluate(INKED) > 100
    values = page.locator(".plots .values").first
    expect(values).to_contain_text(re.compile(r"current: \d+(\.\d)?/s"))
    before = values.inner_text()
    plots.first.focus()
    page.keyboard.press("ArrowLeft")
    expect(values).not_to_have_text(before)
    page.keyboard.press("End")
    expect(values).to_contain_text("current")
    screenshot(page, "page-endpoint-plots")
    page.get_by_text("As a table").click()
    expect(page.get_by_role("table", name="Time to the first token")).to_contain_text(re.compile(r"\d ms|\d s"))
    alice.check_accessible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_in_light_and_dark(opened: Browser, at: Behind, scheme: str) -> None:
    made(at)
    asked(at, 5)
    with person(opened, at.url, viewport=PHONE, color_scheme=scheme) as reader:
        page = reader.log_in(path="/ui/endpoints/chat")
        expect(page.locator(".plots canvas")).to_have_count(3)
        reader.check_accessible()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, "nothing is wider than the phone"
        page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
        expect(page.locator(".plots canvas")).to_have_count(3)
        reader.check_accessible()


def test_without_scripts_the_figures_are_a_table(opened: Browser, at: Behind) -> None:
    made(at)
    asked(at, 5)
    with person(opened, at.url, java_script_enabled=False) as reader:
        page = reader.log_in(path="/ui/endpoints/chat")
        page.get_by_text("As a table").click()
        page.get_by_role("link", name="The table by itself").click()
        expect(page.get_by_role("table", name="Requests a second")).to_be_visible()


def test_a_rollouts_measures_over_time(at: Behind, alice: Person) -> None:
    made(at, current=100, challenger=0)
    page = alice.log_in(path="/ui/endpoints/chat/rollout")
    measures = [
        {"name": "first-token", "interval": 1, "compare": {"measure": "ttft", "tolerance": 0.25, "minimumSamples": 20}},
        {"name": "errors", "interval": 1, "compare": {"measure": "error_rate", "minimumSamples": 20}},
    ]
    steps = [{"setWeight": 50}, {"pause": {}}]
    plan = {"baseline": "current", "canary": "challenger", "noveltyPeriod": 0, "steps": steps, "metrics": measures}
    page.get_by_label("Plan, in JSON or YAML").fill(json.dumps(plan))
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("img", name="challenger has 50 % of the requests")).to_be_visible()
    for begin in range(0, 480, 60):
        asked(at, 60, begin)
    plots = page.locator(".plots .drawn")
    expect(plots).to_have_count(2)
    expect(plots.first).to_have_attribute("aria-label", re.compile(r"first-token: .*difference [+-]?\d.*tolerated \+25 %"))
    expect(plots.last).to_have_attribute("aria-label", re.compile(r"errors: .*points"))
    assert page.locator(".plots canvas").first.evaluate(INKED) > 100
    alice.check_accessible()
    screenshot(page, "page-rollout-plots", whole=True)
    page.get_by_text("As a table").click()
    expect(page.get_by_role("table", name=re.compile("first-token"))).to_contain_text("tolerated")
    page.get_by_role("button", name="Abort …").click()
    page.get_by_role("button", name="Yes: abort").click()
    expect(page.locator("#rollout .state")).to_have_text("Degraded")
    expect(plots).to_have_count(2)  # what was seen stays
