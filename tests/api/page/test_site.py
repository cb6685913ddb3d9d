"""Who gets which page, and what nobody gets: another site's forms, inline scripts, somebody else's endpoint."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from extproc.audit.journal import Journal
from extproc.control.audited import Audited
from extproc.control.changes import Create
from extproc.storage.memory import MemoryStore
from tests.api.page.visitors import NAVIGATES, PARTLY, Visitor, elements, visiting
from tests.api.served import served
from tests.api.tokens import ALICE, QUENTIN, TEAM, VICTOR, Door
from tests.control.desks import Bench, document

HOSTILE = "<script>alert(1)</script>\"'<img src=x onerror=alert(2)>"


def harmless(text: str) -> None:
    """Nothing of what was written became an element or runs."""
    for tag, attributes in elements(text):
        assert tag != "img"
        assert tag != "script" or str(attributes["src"]).startswith("/ui/static/")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


async def made(visitor: Visitor, name: str = "chat", **more: Any) -> None:
    await visitor.bench.desk.apply(Create(document(name) | more), "alice", reason=more.get("reason", ""))


async def test_without_tokens_everybody_on_this_machine_sees_the_list() -> None:
    async with visiting() as visitor:
        await made(visitor)
        seen = await visitor.look("/ui/")
        assert seen.status == 200
        assert 'href="/ui/endpoints/chat"' in seen.text
        assert "New endpoint" in seen.text
        assert "Log out" not in seen.text


@pytest.mark.parametrize(
    "path", ["/ui", "/ui/", "/ui/endpoints/chat", "/ui/endpoints/chat/", "/ui/endpoints/chat/history", "/ui/new"]
)
async def test_pages_are_there_with_and_without_a_slash_and_say_what_may_run_in_them(path: str) -> None:
    async with visiting() as visitor:
        await made(visitor)
        seen = await visitor.look(path)
        assert (seen.status, seen.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = dict(each.strip().split(" ", 1) for each in seen.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert (seen.headers["cache-control"], seen.headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert not re.search(r"<script(?! src=\"/ui/static/)|<style|\sstyle=|\son[a-z]+=|javascript:", seen.text), (
            "nothing inline"
        )
        addresses = re.findall(r'(?:src|href|action|hx-[a-z]+)="([a-z]+:|//)', seen.text)
        assert addresses == [], "nothing from elsewhere"


async def test_who_is_not_known_is_led_to_the_login_and_back() -> None:
    async with visiting(guard=Door().guard) as visitor:
        await made(visitor)
        seen = await visitor.look("/ui/endpoints/chat?done=1")
        assert (seen.status, seen.where) == (303, "/ui/login?next=%2Fui%2Fendpoints%2Fchat%3Fdone%3D1")
        assert 'value="/ui/endpoints/chat?done=1"' in (await visitor.look(seen.where)).text
        entered = await visitor.send("/ui/login", {"token": f" {ALICE} ", "next": "/ui/endpoints/chat?done=1"})
        assert (entered.status, entered.where) == (303, "/ui/endpoints/chat?done=1")
        cookie = entered.headers["set-cookie"]
        assert ALICE not in cookie
        assert cookie.partition("; ")[2] == "Path=/ui; HttpOnly; SameSite=Strict"
        seen = await visitor.look("/ui/endpoints/chat")
        assert (seen.status, "alice@example.com" in seen.text, "Log out" in seen.text) == (200, True, True)
        left = await visitor.send("/ui/logout", {"leave": "yes"})
        assert (left.status, left.where) == (303, "/ui/login")
        assert (await visitor.look("/ui/")).status == 303


async def test_behind_tls_the_cookie_goes_over_tls_only() -> None:
    async with visiting(guard=Door().guard) as visitor:
        entered = await visitor.send("/ui/login", {"token": ALICE, "next": "/ui/"}, {"x-forwarded-proto": "https"})
        assert entered.headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example/", "/ui//evil.example", "/ui/\\evil", "/other", "/ui/\r\nx: y", ""]
)
async def test_the_login_leads_to_pages_of_ours_only(wanted: str) -> None:
    async with visiting(guard=Door().guard) as visitor:
        assert (await visitor.send("/ui/login", {"token": ALICE, "next": wanted})).where == "/ui/"


@pytest.mark.parametrize(
    ("token", "status"), [("of-nobody-at-all", 401), ("two words", 400), ("", 400), ("ümlaut-of-nobody", 400)]
)
async def test_a_wrong_token_is_told_and_not_shown(token: str, status: int) -> None:
    async with visiting(guard=Door().guard) as visitor:
        seen = await visitor.send("/ui/login", {"token": token, "next": "/ui/endpoints/chat"})
        assert seen.status == status
        assert 'role="alert"' in seen.text
        assert 'value="/ui/endpoints/chat"' in seen.text
        assert "set-cookie" not in seen.headers
        assert not token or token not in seen.text


async def test_guessing_tokens_is_slowed_down_as_at_the_api() -> None:
    async with visiting(guard=Door().guard) as visitor:
        statuses = [(await visitor.log_in(f"guess-number-{number:04}")).status for number in range(30)]
        assert (statuses[0], statuses[-1]) == (401, 429)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "path", ["/ui/endpoints/chat/split", "/ui/endpoints/chat/revert", "/ui/new", "/ui/login", "/ui/logout"]
)
async def test_what_changes_something_comes_from_a_page_of_this_origin(path: str, headers: dict[str, str]) -> None:
    async with visiting(ALICE) as visitor:
        await made(visitor)
        fields = b"version=1&step=apply&share:a=50&share:b=50&began:a=90&began:b=10&token=x"
        seen = await visitor.ask("POST", path, headers, fields)
        assert seen.status == 403
        assert "nothing was changed" in seen.text
        assert visitor.bench.shares("chat") == {"a": 90, "b": 10}


async def test_browsers_without_sec_fetch_site_are_known_by_their_origin() -> None:
    async with visiting(ALICE) as visitor:
        await made(visitor)
        fields = b"version=1&step=apply&share:a=50&share:b=50&began:a=90&began:b=10"
        seen = await visitor.ask("POST", "/ui/endpoints/chat/split", {"origin": visitor.origin}, fields)
        assert (seen.status, visitor.bench.shares("chat")) == (303, {"a": 50, "b": 50})


async def test_a_link_from_elsewhere_leads_to_the_page_though_the_cookie_was_not_sent() -> None:
    async with visiting(guard=Door().guard) as visitor:
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document", "accept": "text/html"}
        seen = await visitor.ask("GET", "/ui/endpoints/chat?a=%22%3E", headers)
        assert seen.status == 200
        assert '<meta http-equiv="refresh" content="0;url=/ui/endpoints/chat?a=%22%3E">' in seen.text


async def test_without_tokens_a_link_from_elsewhere_is_followed_but_no_script_of_a_page_there() -> None:
    async with visiting() as visitor:
        assert (await visitor.ask("GET", "/ui/", {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document"})).status == 200
        assert (await visitor.ask("GET", "/ui/", {"sec-fetch-site": "cross-site", "sec-fetch-dest": "empty"})).status == 403
        assert (await visitor.ask("GET", "/ui/live?names=chat", {"sec-fetch-site": "cross-site"})).status == 403


async def test_a_part_of_a_page_leads_to_the_login_when_that_is_over() -> None:
    async with visiting(guard=Door().guard) as visitor:
        seen = await visitor.split("apply", a=50, b=50)
        assert (seen.status, seen.where) == (401, "/ui/login?next=%2Fui%2F")
        assert (await visitor.ask("GET", "/ui/live?names=chat")).status == 401


async def test_who_may_only_view_sees_no_button_and_can_do_nothing() -> None:
    async with visiting(VICTOR) as visitor:
        await made(visitor)
        seen = await visitor.look("/ui/endpoints/chat")
        assert seen.status == 200
        assert "You may look at it" in seen.text
        assert "<button" not in seen.text.replace('<button class="plain" name="leave"', "")
        assert "New endpoint" not in (await visitor.look("/ui/")).text
        for step in ("preview", "apply"):
            assert (await visitor.split(step, a=50, b=50)).status == 403
        back = {"version": 1, "back_to": 1, "step": "apply"}
        assert (await visitor.send("/ui/endpoints/chat/revert", back)).status == 403
        row = {"name": "own", "name:0": "a", "model:0": "model-A", "share:0": "100", "step": "create"}
        assert (await visitor.send("/ui/new", row)).status == 403
        assert visitor.bench.shares("chat") == {"a": 90, "b": 10}
        assert visitor.bench.table.get("own") is None


async def test_everybody_is_shown_what_is_theirs() -> None:
    async with visiting(QUENTIN) as visitor:
        await made(visitor)
        await made(visitor, "a-secret")
        assert re.findall(r'href="/ui/endpoints/([\w-]+)"', (await visitor.look("/ui/")).text) == ["chat"]
        assert (await visitor.look("/ui/endpoints/a-secret")).status == 403
        assert (await visitor.look("/ui/endpoints/nothing")).status == 403, "whether it is there is not told"
    async with visiting(TEAM) as visitor:
        await made(visitor, "a-secret")
        assert "Move the split" in (await visitor.look("/ui/endpoints/a-secret")).text


async def test_what_is_called_like_a_script_is_text() -> None:
    bench = Bench()
    async with visiting(bench=bench) as visitor:
        rules = [{"name": "r", "match": {"headers": {"x-a": HOSTILE[:200]}}, "refuse": {"message": HOSTILE}}]
        tags = [{"key": HOSTILE[:60], "value": HOSTILE}]
        hostile = document("chat") | {"description": HOSTILE, "rules": rules, "tags": tags}
        await bench.desk.apply(Create(hostile), HOSTILE, reason=HOSTILE)
        pages = [
            "/ui/",
            "/ui/endpoints/chat",
            "/ui/endpoints/chat/history",
            f"/ui/?q={HOSTILE}",
            f"/ui/{HOSTILE}",
            f"/ui/endpoints/{HOSTILE}",
        ]
        for path in pages:
            seen = await visitor.look(quote(path, safe="/?="))
            harmless(seen.text)
            if seen.status == 200 and path != "/ui/":
                assert "&lt;script&gt;" in seen.text, path
        shares = {"version": 1, "step": "preview", f"share:{HOSTILE}": 50, f"began:{HOSTILE}": 50, "share:a": HOSTILE}
        for headers in ({}, PARTLY):
            seen = await visitor.send("/ui/endpoints/chat/split", shares, headers)
            assert seen.status == 400
            assert "&lt;script&gt;" in seen.text
            harmless(seen.text)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ui/nothing", 404),
        ("POST", "/ui/", 405),
        ("GET", "/ui/endpoints/nothing", 404),
        ("GET", "/ui/static/nothing.js", 404),
        ("GET", "/ui/static/../page.py", 404),
        ("HEAD", "/ui/", 200),
        ("DELETE", "/ui/endpoints/chat", 405),
    ],
)
async def test_what_is_not_there(method: str, path: str, status: int) -> None:
    async with visiting() as visitor:
        assert (await visitor.ask(method, path, {"sec-fetch-site": "same-origin"})).status == status


async def test_the_api_beside_it_is_as_it_was() -> None:
    async with visiting() as visitor:
        assert (await visitor.ask("GET", "/api/2.0/serving-endpoints")).text == '{"endpoints":[]}'
        assert "ENDPOINT_NOT_FOUND" in (await visitor.ask("GET", "/uix")).text
        counted = visitor.api.instruments
        await visitor.look("/ui/")
        samples = [each for metric in counted.pieces() if metric is not None for each in metric.samples]
        assert any(each.labels == {"call": "GET /ui/", "code": "200"} and each.value == 1 for each in samples)


async def test_a_form_is_bounded_and_a_form() -> None:
    async with visiting() as visitor:
        assert (await visitor.send("/ui/new", {"name": "x" * 70_000})).status == 413
        for data in (b"\xff=1", b"no form at all", b"&".join(b"a=1" for _ in range(2000))):
            seen = await visitor.ask("POST", "/ui/new", {"sec-fetch-site": "same-origin"}, data)
            assert seen.status == 400, data


async def test_while_the_store_is_away_the_page_says_so() -> None:
    async with served(Bench(MemoryStore()), opened=False) as api:
        got = await api.call("GET", "/ui/")
        assert got.status == 503
        assert "can&#39;t be asked" in got.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
async def test_another_method_is_told_which_there_are(method: str) -> None:
    async with visiting() as visitor:
        for path, allowed in (("/ui/decisions", "GET"), ("/ui/decisions/", "GET")):
            seen = await visitor.ask(method, path, {"sec-fetch-site": "same-origin"})
            assert (seen.status, seen.headers["allow"]) == (405, allowed)
        assert (await visitor.ask(method, "/ui/nothing", {"sec-fetch-site": "same-origin"})).status == 404


@pytest.mark.parametrize(("accepts", "packed"), [("identity", False), ("br, gzip;q=0", False), ("br, gzip", True)])
async def test_pages_are_packed_for_who_takes_that(accepts: str, packed: bool) -> None:
    async with visiting() as visitor:
        for number in range(60):
            await visitor.bench.desk.apply(Create(document(f"e-{number}")), "alice")
        got = await visitor.ask("GET", "/ui/", NAVIGATES | {"accept-encoding": accepts})
        assert got.status == 200
        assert (got.headers.get("content-encoding") == "gzip") is packed
        assert got.text.rstrip().endswith("</html>"), "all of it"
        assert got.text.count('class="endpoint"') == 50
        head = await visitor.ask("HEAD", "/ui/", NAVIGATES | {"accept-encoding": accepts})
        assert (head.status, head.text, head.headers.get("content-encoding")) == (200, "", None)


async def test_events_and_files_to_keep_are_sent_as_they_are(tmp_path: Path) -> None:
    """A browser reads events as they come; an export goes to a disk."""
    audited = Audited(None, None, Journal(tmp_path / "changes.v1.jsonl"))
    async with visiting(audited=audited) as visitor:
        await visitor.bench.desk.apply(Create(document()), "alice")
        async with visitor.http.get(f"{visitor.origin}/ui/live?names=chat", headers={"accept-encoding": "gzip"}) as events:
            assert (events.status, events.headers.get("content-encoding")) == (200, None)
            assert await events.content.readline() == b"retry: 300\n"
        file = await visitor.ask("GET", "/ui/audit/export?format=json", NAVIGATES | {"accept-encoding": "gzip"})
        assert (file.status, file.headers.get("content-encoding")) == (200, None)
