"""The page of the audit: changes with who, why and what; whether their record is whole; and all of it as a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from extproc.audit.journal import Journal
from extproc.control.audited import Audited
from extproc.control.changes import Create, UpdateConfig
from tests.api.page.visitors import PARTLY, elements, visiting
from tests.api.tokens import ALICE, QUENTIN
from tests.audit.records import change
from tests.control.desks import Bench, document

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "changes.v1.jsonl")
    made.append([change(1).to_bytes(), change(2, endpoint="secret", actor="eve").to_bytes()])
    made.append([change(3, endpoint="chat", actor=HOSTILE, reason=HOSTILE, origin=HOSTILE, approved_by=HOSTILE).to_bytes()])
    return made


def numbers(text: str) -> list[int]:
    return [int(each) for each in re.findall(r'<li id="c(\d+)"', text)]


async def test_who_from_where_why_and_what(journal: Journal) -> None:
    async with visiting(audited=Audited(None, None, journal)) as visitor:
        text = (await visitor.look("/ui/audit")).text
        assert numbers(text) == [3, 2, 1]
        for words in (
            "<strong>ada</strong>",
            "<code>10.0.0.7</code>",
            "approved by bob",
            "<q>a larger share</q>",
            "config.traffic.b",
            "Buckets 8000 to 8999 (10 %) went from a to b",
            "/ui/endpoints/chat/history?version=1",
            'hx-get="/ui/audit/check"',
            "/ui/audit/export?format=csv",
        ):
            assert words in text, words
        assert numbers((await visitor.look("/ui/audit?actor=EVE")).text) == [2]
        assert numbers((await visitor.look("/ui/audit?endpoint=chat")).text) == [3, 1]
        assert numbers((await visitor.look("/ui/audit?since=1h")).text) in ([], [3, 2, 1])
        wrong = await visitor.look("/ui/audit?since=soon")
        assert (wrong.status, "expected a time" in wrong.text) == (400, True)


async def test_what_people_wrote_is_text(journal: Journal) -> None:
    async with visiting(audited=Audited(None, None, journal)) as visitor:
        text = (await visitor.look(f"/ui/audit?actor={HOSTILE}&endpoint=%22%3E{HOSTILE}")).text
        text += (await visitor.look("/ui/audit")).text
        assert HOSTILE not in text
        assert all(str(each.get("src")).startswith("/ui/static/") for tag, each in elements(text) if tag == "script")


async def test_pages(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "many.jsonl")
    journal.append([change(number).to_bytes() for number in range(1, 61)])
    async with visiting(audited=Audited(None, None, journal)) as visitor:
        text = (await visitor.look("/ui/audit?endpoint=chat")).text
        assert numbers(text) == list(range(60, 35, -1))
        (further,) = re.findall(r'<a href="([^"]+)">Look further back', text)
        text = (await visitor.look(further.replace("&amp;", "&"))).text
        assert numbers(text) == list(range(35, 10, -1))
        assert '<a href="/ui/audit?endpoint=chat">The newest</a>' in text


async def test_a_chain_that_was_changed_shows(journal: Journal) -> None:
    async with visiting(ALICE, audited=Audited(None, None, journal)) as visitor:
        part = await visitor.ask("GET", "/ui/audit/check", PARTLY)
        assert "The record is whole: 3 changes" in part.text
        assert "<html" not in part.text
    journal.path.write_bytes(journal.path.read_bytes().replace(b"a larger share", b"a smaller one!", 1))
    async with visiting(ALICE, audited=Audited(None, None, journal)) as visitor:
        text = (await visitor.look("/ui/audit/check")).text
        assert "The record is not whole" in text
        assert "change 1: its hash is not that of its content" in text
    async with visiting(QUENTIN, audited=Audited(None, None, journal)) as visitor:
        text = (await visitor.look("/ui/audit/check")).text
        assert "The record is not whole" in text
        assert "change 1" not in text, "which may be of an endpoint that is not theirs"


async def test_as_a_file_for_who_may_see(journal: Journal) -> None:
    async with visiting(QUENTIN, audited=Audited(None, None, journal)) as visitor:
        assert numbers((await visitor.look("/ui/audit")).text) == [3, 1]
        file = await visitor.look("/ui/audit/export?format=csv")
        assert file.headers["content-disposition"] == 'attachment; filename="changes.csv"'
        assert [line.partition(",")[0] for line in file.text.splitlines()] == ["number", "3", "1"]
        assert (await visitor.look("/ui/audit/export?format=xml")).status == 400


async def test_without_a_record_the_page_says_where_one_would_be() -> None:
    async with visiting() as visitor:
        text = (await visitor.look("/ui/audit")).text
        assert "--audit-dir" in text
        assert (await visitor.look("/ui/audit/check")).status == 404


async def test_the_change_that_made_a_version() -> None:
    bench = Bench()
    await bench.desk.open()
    await bench.desk.apply(Create(document(a=90, b=10)), "ada", reason="first")
    for share in (80, 70, 60):
        change_of = UpdateConfig("chat", document(a=share, b=100 - share)["config"])
        await bench.desk.apply(change_of, "bob", reason=f"now {share}")
    async with visiting(bench=bench) as visitor:
        text = (await visitor.look("/ui/endpoints/chat/history?version=2")).text
        assert "Version 2 of chat" in text
        assert text.index("now 80") < text.index("first")
        assert "now 70" not in text
        assert "What made it is not kept any more" in (await visitor.look("/ui/endpoints/chat/history?version=9")).text
        assert "now 60" in (await visitor.look("/ui/endpoints/chat/history")).text


async def test_with_large_changes_it_is_no_large_page(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "large.jsonl")
    large = tuple([(f"config.field-{number}", "x" * 5000, "y" * 5000) for number in range(30)])
    journal.append([change(number, diff=large).to_bytes() for number in range(1, 40)])
    async with visiting(audited=Audited(None, None, journal)) as visitor:
        text = (await visitor.look("/ui/audit")).text
        assert "30 fields changed" in text
        assert "The first 10; the export has all." in text
        assets = {str(each.get("src") or each.get("href")) for tag, each in elements(text) if tag in ("script", "link")}
        size = len(text) + sum([len((await visitor.look(path)).text) for path in assets])
        assert size <= 150 * 1024
