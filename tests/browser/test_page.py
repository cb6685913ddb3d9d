"""What people do with the page: a real browser, a real Envoy, a gateway, simulated model servers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.tokens import ALICE, VICTOR
from tests.browser.parts import PHONE, Person, person, screenshot
from tests.e2e.behind import Behind, own, split

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def made(at: Behind, current: int = 90, challenger: int = 10, **more: Any) -> None:
    at.api("POST", "", {"name": "chat", "config": own(current=current, challenger=challenger), **more})


def shares(at: Behind) -> dict[str, int]:
    routes = at.api("GET", "/chat")["config"]["traffic_config"]["routes"]
    return {route["served_entity_name"]: route["traffic_percentage"] for route in routes}


def asked(at: Behind, number: int, begin: int = 0) -> None:
    """Streamed answers for so many users."""
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "stream": True}).encode()
    for user in range(begin, begin + number):
        got = at.call("POST", "/serving-endpoints/chat/invocations", body, x_user_id=f"user-{user}")
        assert got.status == 200, got


def share_of(page: Page, entity: str) -> Any:
    return page.get_by_role("spinbutton", name=entity)


def test_a_newcomer_moves_a_split_and_sees_it_move(at: Behind, alice: Person) -> None:
    made(at)
    page = alice.log_in()
    asked(at, 60)
    row = page.locator("tbody[data-endpoint=chat]")
    expect(row.locator("[data-cell='chat/current/part']")).to_have_text(re.compile(r"(8|9)\d %"))
    expect(row.locator("[data-cell='chat/challenger/ttft95']")).to_have_text(re.compile(r"\d+ ms|\d+\.\d+ s"))
    screenshot(page, "page-endpoints")
    page.get_by_role("link", name="chat").click()
    slider = page.get_by_role("slider", name="challenger, in percent")
    slider.focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    expect(share_of(page, "challenger")).to_have_value("50")
    expect(share_of(page, "current")).to_have_value("50")
    expect(page.locator("#sum")).to_have_text("100")
    page.get_by_role("button", name="Preview", exact=True).click()
    expect(page.get_by_role("heading", name="What it would do")).to_be_focused()
    expect(page.locator("#panel")).to_contain_text("40 % of the users move")
    expect(page.locator("#panel")).to_contain_text("90 % becomes 50 %")
    assert shares(at) == {"current": 90, "challenger": 10}, "nothing is changed by a preview"
    page.get_by_label("Why, for the history").fill("half & half")
    screenshot(page, "page-preview", whole=True)
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("Version 2 is in force.")).to_be_visible()
    assert shares(at) == {"current": 50, "challenger": 50}
    expect(page.locator(".history")).to_contain_text("half & half")
    for begin in range(0, 600, 60):
        asked(at, 60, begin)
        if re.fullmatch(r"[456]\d %", page.locator("[data-cell='chat/challenger/part']").inner_text()):
            return
    raise AssertionError("the share did not move: " + page.locator("[data-cell='chat/challenger/part']").inner_text())


def test_an_endpoint_is_made_and_serves(at: Behind, alice: Person) -> None:
    page = alice.log_in()
    page.get_by_role("link", name="New endpoint").click()
    page.get_by_label("Name", exact=True).fill("chat")
    for number, (name, model, share) in enumerate(
        [("current", "catalog.schema.model-A", "80"), ("challenger", "nowhere", "20")]
    ):
        page.get_by_label("Entity").nth(number).fill(name)
        page.get_by_label("Model that a route serves").nth(number).fill(model)
        page.get_by_label("Version, if it has one").nth(number).fill("1")
        page.get_by_label("Share in percent").nth(number).fill(share)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert").filter(has_text="Nothing was made")).to_contain_text("nowhere")
    page.get_by_label("Model that a route serves").nth(1).fill("catalog.schema.model-B")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="chat", exact=True)).to_be_visible()
    assert at.ask().status == 200


def test_a_version_of_before_comes_back(at: Behind, alice: Person) -> None:
    made(at)
    at.api("PUT", "/chat/config?reason=a%20try", {"traffic_config": split(current=20, challenger=80)})
    page = alice.log_in(path="/ui/endpoints/chat")
    page.get_by_text("2 fields changed").first.click()
    expect(page.locator("#panel ~ section").last).to_contain_text("90 becomes 20")
    page.get_by_role("button", name="Back to version 1, with a preview").click()
    expect(page.locator("#panel")).to_contain_text("70 % of the users move")
    page.get_by_role("button", name="Back to version 1", exact=True).click()
    expect(page.get_by_text("Version 3 is in force.")).to_be_visible()
    assert shares(at) == {"current": 90, "challenger": 10}


def test_two_people_edit_and_the_second_sees_both_changes(opened: Browser, at: Behind, alice: Person) -> None:
    made(at)
    page = alice.log_in(path="/ui/endpoints/chat")
    with person(opened, at.url) as bob:
        other = bob.log_in(path="/ui/endpoints/chat")
        share_of(other, "challenger").fill("30")
        share_of(other, "challenger").press("Tab")
        other.get_by_role("button", name="Preview", exact=True).click()
        other.get_by_label("Why, for the history").fill("bob was here")
        other.get_by_role("button", name="Apply").click()
        expect(other.get_by_text("Version 2 is in force.")).to_be_visible()
    expect(page.get_by_text("Somebody has changed this endpoint meanwhile.")).to_be_visible()
    share_of(page, "challenger").fill("20")
    share_of(page, "challenger").press("Tab")
    expect(share_of(page, "current")).to_have_value("80")
    page.get_by_role("button", name="Preview", exact=True).click()
    expect(page.get_by_role("heading", name="Somebody was faster")).to_be_focused()
    panel = page.locator("#panel")
    expect(panel).to_contain_text("bob was here")
    alice.check_accessible()
    screenshot(page, "page-merge")
    assert shares(at) == {"current": 70, "challenger": 30}
    page.get_by_role("button", name="Preview both together").click()
    expect(panel).to_contain_text("10 % of the users move")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("Version 3 is in force.")).to_be_visible()
    assert shares(at) == {"current": 60, "challenger": 40}


def test_a_gateway_that_is_away_is_told_and_comes_back(at: Behind, alice: Person) -> None:
    made(at)
    page = alice.log_in()
    expect(page.locator("[data-cell='chat//rate']")).to_have_text("0.0")
    at.stack.servers["gateway"].kill()
    try:
        notice = page.get_by_role("alert").filter(has_text="The gateway can't be reached")
        expect(notice).to_be_visible()
        page.get_by_role("searchbox").fill("chat")
        expect(notice).to_be_visible()
        expect(page.get_by_role("link", name="chat")).to_be_visible()
    finally:
        at.restart()
    expect(page.locator("#away")).to_be_hidden(timeout=20_000)
    asked(at, 20)
    expect(page.locator("[data-cell='chat//rate']")).to_have_text(re.compile(r"[1-9]|0\.[1-9]"))


def test_what_is_called_like_a_script_stays_text(at: Behind, alice: Person) -> None:
    rules = [{"name": "r", "match": {"headers": {"x-a": HOSTILE}}, "refuse": {"message": HOSTILE}}]
    made(at, description=HOSTILE, rules=rules, tags=[{"key": "team", "value": HOSTILE}])
    at.api("PUT", "/chat/config", {"traffic_config": split(current=50, challenger=50), "reason": HOSTILE})
    page = alice.log_in()
    expect(page.get_by_role("link", name="chat")).to_be_visible()
    page.get_by_role("searchbox").fill(HOSTILE)
    expect(page.get_by_text("1 endpoint", exact=True)).to_be_visible()
    page.get_by_role("link", name="chat").click()
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    page.get_by_text("fields changed").first.click()
    page.get_by_role("button", name="Back to version 1, with a preview").click()
    page.get_by_label("Why, for the history").fill(HOSTILE)
    page.get_by_role("button", name="Back to version 1", exact=True).click()
    expect(page.get_by_text("Version 3 is in force.")).to_be_visible()
    assert page.locator("main img").count() == 0


def test_the_login_and_its_end(opened: Browser, at: Behind, alice: Person) -> None:
    made(at)
    page = alice.open("/ui/endpoints/chat")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_label("Token").fill("of-nobody-at-all")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert").filter(has_text="The token is not known here")).to_be_visible()
    alice.check_accessible()
    page = alice.log_in(VICTOR, "/ui/endpoints/chat")
    expect(page.get_by_role("heading", name="chat", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Preview", exact=True)).to_have_count(0)
    assert page.evaluate("document.cookie") == "", "no script sees the token"
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("narrow", [False, True], ids=["1280", "phone"])
def test_every_page_is_accessible_and_fits(opened: Browser, at: Behind, scheme: Any, narrow: bool) -> None:
    rules = [{"name": "beta", "match": {"headers": {"x-tier": {"one_of": ["gold", "silver"]}}}, "entity": "challenger"}]
    made(at, description="The assistant of the shop", rules=rules, tags=[{"key": "team", "value": "search"}])
    at.api("PUT", "/chat/config", {"traffic_config": split(current=50, challenger=50)})
    size: dict[str, Any] = {"viewport": PHONE, "is_mobile": True} if narrow else {}
    with person(opened, at.url, color_scheme=scheme, **size) as reader:
        page = reader.open()
        reader.check_accessible()
        reader.log_in()
        asked(at, 3)
        for path in (
            "/ui/",
            "/ui/decisions",
            "/ui/endpoints/chat",
            "/ui/endpoints/chat/history",
            "/ui/new",
            "/ui/?q=nothing",
            "/ui/nowhere",
        ):
            reader.open(path)
            reader.check_accessible()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is too wide"
        reader.open("/ui/endpoints/chat")
        page.get_by_role("button", name="Back to version 1, with a preview").click()
        expect(page.get_by_role("heading", name="Back to version 1")).to_be_focused()
        reader.check_accessible()
        if narrow and scheme == "dark":
            reader.open("/ui/endpoints/chat")
            screenshot(page, "page-phone")


def test_with_the_keyboard_alone(at: Behind, alice: Person) -> None:
    made(at)
    page = alice.log_in(path="/ui/endpoints/chat")
    page.reload()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"))
    assert {"current, in percent", "challenger, in percent", "Preview"} <= reached, reached


def test_who_asks_sees_the_answer_and_why_it_went_where_it_went(at: Behind, alice: Person) -> None:
    made(at)
    page = alice.log_in(path="/ui/endpoints/chat")
    page.get_by_label("Whom").select_option("challenger alone")
    page.get_by_role("button", name="Ask", exact=True).click()
    answer = page.locator("#answer")
    expect(answer.locator("dd").first).to_have_text("401")
    page.get_by_role("textbox", name="Token").fill(ALICE)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(answer.locator("dd").first).to_have_text("200")
    expect(answer.locator("dd").nth(1)).to_have_text("challenger")
    expect(answer.get_by_role("region", name="The answer")).not_to_be_empty()
    decided = page.locator("#decided")
    expect(decided).to_contain_text("chat/challenger")
    expect(decided).to_contain_text("phi4 127.0.0.1:")
    alice.check_accessible()
    page.get_by_label("Whom").select_option("whom the split says")
    page.get_by_label("As the user").fill("ada")
    page.get_by_label("A message, or a body in JSON").fill(
        '{"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}'
    )
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(decided).to_contain_text("header x-user-id")
    expect(decided).to_contain_text(re.compile(r"bucket \d+ of 10,000"))
    screenshot(page, "page-ask", whole=True)
    page.get_by_role("link", name="Decisions", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("decisions of this gateway")
    page.get_by_role("searchbox").fill("chat/ 200")
    page.get_by_role("button", name="Search").click()
    page.locator("tbody a").first.click()
    expect(page.locator("dl")).to_contain_text("header x-user-id")
    page.get_by_role("link", name="chat/").click()
    page.get_by_label("A message, or a body in JSON").fill("{no json")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#answer")).to_contain_text("Not answered")


def test_a_rollout_is_begun_paused_and_taken_to_its_end(at: Behind, alice: Person) -> None:
    made(at, current=100, challenger=0)
    page = alice.log_in(path="/ui/endpoints/chat")
    page.get_by_role("link", name="a rollout").click()
    plan = {"baseline": "current", "canary": "challenger", "steps": [{"setWeight": 10}, {"pause": {}}, {"setWeight": 50}]}
    page.get_by_label("Plan, in JSON or YAML").fill(json.dumps(plan))
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", name="What it would be")).to_be_focused()
    alice.check_accessible()
    page.get_by_role("button", name="Begin").click()
    state = page.locator("#rollout .state")
    expect(page.get_by_role("img", name="challenger has 10 % of the requests")).to_be_visible()
    assert shares(at) == {"current": 90, "challenger": 10}
    asked(at, 20)
    page.get_by_role("button", name="Pause …").click()
    expect(page.get_by_role("heading", name="Pause?")).to_be_focused()
    alice.check_accessible()
    screenshot(page, "page-rollout", whole=True)
    page.get_by_role("button", name="Yes: pause").click()
    expect(state).to_have_text("Paused")
    page.get_by_role("button", name="Promote to the end …").click()
    page.get_by_role("button", name="Yes: promote to the end").click()
    expect(state).to_have_text("Healthy")
    expect(page.get_by_role("button", name="Undo …")).to_be_visible()
    page.get_by_role("link", name="Rollouts").first.click()
    expect(page.get_by_role("row", name="chat Healthy")).to_be_visible()
    alice.check_accessible()


def test_times_are_those_of_the_reader(opened: Browser, at: Behind) -> None:
    made(at)
    told = {}
    for zone in ("UTC", "Asia/Kolkata"):
        with person(opened, at.url, timezone_id=zone, locale="en-GB") as reader:
            time = reader.log_in(path="/ui/endpoints/chat").locator("time").first
            assert time.get_attribute("title") == time.get_attribute("datetime")
            told[zone] = time.inner_text()
    minutes = {zone: int(text.split(":")[1]) for zone, text in told.items()}
    assert (minutes["Asia/Kolkata"] - minutes["UTC"]) % 60 == 30, told


def test_without_scripts(opened: Browser, at: Behind) -> None:
    made(at)
    with person(opened, at.url, java_script_enabled=False) as reader:
        page = reader.log_in(path="/ui/endpoints/chat")
        for entity in ("current", "challenger"):
            share_of(page, entity).fill("50")
        page.get_by_role("button", name="Preview", exact=True).click()
        expect(page.locator("#panel")).to_contain_text("40 % of the users move")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_text("Version 2 is in force.")).to_be_visible()
    assert shares(at) == {"current": 50, "challenger": 50}


def test_a_link_on_another_site_leads_to_the_page_for_who_is_logged_in(at: Behind, alice: Person) -> None:
    made(at)
    page = alice.log_in()
    other = at.url.replace("127.0.0.1", "localhost")  # another site, by its name
    alice.page.route(
        f"{other}/**", lambda route: route.fulfill(content_type="text/html", body=f'<a href="{at.url}/ui/endpoints/chat">x</a>')
    )
    page.goto(f"{other}/elsewhere")
    alice.faults.clear()  # that page is not ours
    page.get_by_role("link", name="x").click()
    expect(page.get_by_role("heading", name="chat", exact=True)).to_be_visible()
