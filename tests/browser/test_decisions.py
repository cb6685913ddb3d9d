"""Why one request went where it went, what another would be told, and who changed what: in a real browser."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.api.tokens import VICTOR
from tests.browser.parts import PHONE, Person, person, screenshot
from tests.browser.test_page import HOSTILE, asked, made
from tests.e2e.behind import Behind, split
from tests.e2e.parts import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def kept(at: Behind) -> int:
    return int(at.api("GET", ":decisions?limit=1")["total"])


def of_a_close_one(at: Behind) -> str:
    """The id of a request for which somebody else might have been picked."""
    for each in at.api("GET", ":decisions?endpoint=chat&entity=current&limit=100")["decisions"]:
        (known,) = at.api("GET", f":decisions?request_id={each['request_id']}")["decisions"]
        if "would have won with" in known["considered"]["flip"]:
            return str(each["request_id"])
    raise AssertionError("sixteen at once, and all were picked among equals")


def test_one_decision_says_who_else_there_was_and_what_would_have_changed_it(at: Behind, alice: Person) -> None:
    made(at)
    at.api("PUT", "/chat/config", {"traffic_config": split(current=60, challenger=40), "reason": "more of it"})
    at.served([f"user-{number}" for number in range(48)])
    page = alice.log_in(path="/ui/decisions?endpoint=chat&status=200&since=10m")
    expect(page.get_by_role("status")).to_contain_text("decisions of this gateway")
    expect(page.get_by_label("Endpoint")).to_have_value("chat")
    page.get_by_role("searchbox").focus()
    page.keyboard.type("current")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=current"))
    page.locator("tbody a").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Candidates")).to_be_visible()
    shown = page.locator(".decided")
    expect(shown).to_contain_text("chat/current")
    expect(shown).to_contain_text(re.compile("would have won with|had the same points|no change of one thing"))
    expect(shown.locator(".candidates tbody tr")).to_have_count(3)
    expect(shown.get_by_text("picked", exact=True)).to_have_count(1)
    expect(shown.get_by_text("runner-up", exact=True)).to_have_count(1)
    expect(shown).to_contain_text("queue-scorer")
    expect(shown).to_contain_text("whole after")
    alice.open(f"/ui/decisions?request_id={of_a_close_one(at)}")
    expect(shown.locator(".flip")).to_contain_text("would have won with")
    screenshot(page, "page-decision", whole=True)
    page.get_by_role("link", name="version 2").click()
    expect(page.get_by_role("heading", name="Version 2 of chat")).to_be_visible()
    expect(page.locator(".history li").first).to_contain_text("more of it")


def test_those_that_the_ring_has_not_come_out_of_the_audits_files(at: Behind, alice: Person) -> None:
    made(at)
    asked(at, 2)
    until(lambda: at.api("GET", ":decisions?older=true&endpoint=chat")["older"], what="rows are in the audit's files")
    page = alice.log_in(path="/ui/decisions?request_id=none-of-that-name")
    expect(page.locator("main")).to_contain_text("Nothing is kept of this request")
    alice.open("/ui/decisions?endpoint=chat")
    page.get_by_role("link", name="Look into the audit").click()
    expect(page.get_by_role("table", name="Out of the audit’s files").locator("tbody tr").first).to_contain_text("chat/")


def test_a_request_is_tried_and_not_sent(at: Behind, alice: Person) -> None:
    made(at)
    before = kept(at)
    page = alice.log_in(path="/ui/decisions")
    page.get_by_role("link", name="Try a request").click()
    expect(page.get_by_label("Path")).to_have_value("/serving-endpoints/chat/invocations")
    page.get_by_role("button", name="What would be decided?").click()
    panel = page.locator("#panel")
    expect(panel.get_by_role("heading", name="It would be served so")).to_be_visible()
    expect(panel).to_contain_text("header x-user-id")
    expect(panel).to_contain_text("Asked by alice@example.com.")
    expect(panel.get_by_role("heading", name="Candidates")).to_be_visible()
    alice.check_accessible()
    screenshot(page, "page-try", whole=True)
    page.get_by_label("Path").fill("/serving-endpoints/nobody/invocations")
    page.get_by_role("button", name="What would be decided?").click()
    expect(panel).to_contain_text("It would not be served")
    page.get_by_label("Headers, one a line").fill(HOSTILE)
    page.get_by_role("button", name="What would be decided?").click()
    expect(panel.get_by_role("alert")).to_contain_text("expected `name: value`")
    assert kept(at) == before
    page.get_by_role("link", name="a completion").click()
    expect(page.get_by_label("Body")).to_have_value(re.compile("Once upon a time"))


def test_who_may_only_view_may_not_try(at: Behind, alice: Person) -> None:
    made(at)
    page = alice.log_in(VICTOR, "/ui/try")
    page.get_by_role("button", name="What would be decided?").click()
    expect(page.locator("#panel")).to_contain_text("no right to query")


def test_the_audit_has_who_why_and_what_and_goes_into_a_table(at: Behind, alice: Person, tmp_path: Path) -> None:
    made(at)
    at.api("PUT", "/chat/config?approved_by=bob", {"traffic_config": split(current=50, challenger=50), "reason": "=1+1"})
    at.api("PUT", "/chat/config", {"traffic_config": split(current=80, challenger=20), "reason": HOSTILE})
    page = alice.log_in(path="/ui/audit?endpoint=chat")
    expect(page.locator("#check")).to_contain_text("The record is whole")
    first, second = page.locator(".history > li").nth(0), page.locator(".history > li").nth(1)
    expect(first).to_contain_text("alice@example.com")
    expect(first).to_contain_text(HOSTILE)
    expect(second).to_contain_text("approved by bob")
    second.locator("summary").click()
    expect(second).to_contain_text("went from current to challenger")
    screenshot(page, "page-audit")
    with page.expect_download() as coming:
        page.get_by_role("link", name="Export as CSV").click()
    file = tmp_path / "changes.csv"
    coming.value.save_as(file)
    rows = list(csv.DictReader(io.StringIO(file.read_text(), newline="")))
    assert rows[1]["reason"] == "'=1+1"
    assert rows[0]["reason"] == HOSTILE
    with page.expect_download() as coming:
        page.get_by_role("link", name="Export as JSON").click()
    coming.value.save_as(file)
    assert json.loads(file.read_text())["changes"][0]["reason"] == HOSTILE
    page.get_by_label("By whom").fill("nobody at all")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".history")).to_contain_text("None among the")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("narrow", [False, True], ids=["1280", "phone"])
def test_these_pages_are_accessible_and_fit(opened: Browser, at: Behind, scheme: Any, narrow: bool) -> None:
    made(at)
    asked(at, 3)
    request_id = at.api("GET", ":decisions?endpoint=chat")["decisions"][0]["request_id"]
    size: dict[str, Any] = {"viewport": PHONE, "is_mobile": True} if narrow else {}
    with person(opened, at.url, color_scheme=scheme, **size) as reader:
        page = reader.log_in()
        for path in (
            f"/ui/decisions?request_id={request_id}",
            "/ui/decisions?older=true&endpoint=chat",
            "/ui/decisions?since=nonsense",
            "/ui/try?endpoint=chat",
            "/ui/audit",
            "/ui/audit/check",
            "/ui/endpoints/chat/history?version=1",
        ):
            reader.open(path)
            if path == "/ui/audit":
                expect(page.locator("#check")).to_contain_text("The record is whole")
            reader.check_accessible()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is too wide"


def test_times_that_are_typed_are_the_readers(opened: Browser, at: Behind) -> None:
    made(at)
    with person(opened, at.url, timezone_id="Asia/Kolkata") as reader:
        page = reader.log_in(path="/ui/audit")
        page.get_by_label("Since").fill("2026-11-29 09:00")
        page.get_by_role("button", name="Search").click()
        page.wait_for_url(re.compile("zone=330"))


def test_without_scripts_there_is_a_result_and_a_check_too(opened: Browser, at: Behind) -> None:
    made(at)
    with person(opened, at.url, java_script_enabled=False) as reader:
        page = reader.log_in(path="/ui/try?endpoint=chat")
        page.get_by_role("button", name="What would be decided?").click()
        expect(page.get_by_role("heading", name="It would be served so")).to_be_visible()
        reader.open("/ui/audit")
        page.get_by_role("link", name="Is the record whole?").click()
        expect(page.locator("main")).to_contain_text("The record is whole")
