"""The record of changes over the API: searched, checked, and as a table that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from extproc.api.changed import cell
from extproc.audit.journal import Journal
from extproc.control import audited as module
from extproc.control.audited import Audited
from tests.api.served import served
from tests.api.tokens import ALICE, QUENTIN, Door
from tests.audit.records import change

FORMULA = "=cmd|' /C calc'!A0"


@pytest.fixture
def audited(tmp_path: Path) -> Audited:
    journal = Journal(tmp_path / "changes.v1.jsonl")
    journal.append([change(1, reason=FORMULA, actor="+eve").to_bytes(), change(2, endpoint="secret").to_bytes()])
    journal.append([change(3, endpoint="chat", actor="bob", reason='first, "second"\nthird').to_bytes()])
    return Audited(None, None, journal)


async def test_newest_first_in_pages(audited: Audited) -> None:
    async with served(audited=audited) as api:
        found = (await api.get(":changes?limit=2")).json
        assert [each["number"] for each in found["changes"]] == [3, 2]
        again = (await api.get(f":changes?limit=2&before={found['next_before']}")).json
        assert [each["number"] for each in again["changes"]] == [1]
        assert again["next_before"] is None
        assert again["changes"][0]["diff"] == [{"path": "config.traffic.b", "before": 10, "after": 20}]
        assert [each["number"] for each in (await api.get(":changes?actor=BOB&limit=9")).json["changes"]] == [3]


async def test_all_of_it_as_json_and_as_a_table(audited: Audited) -> None:
    async with served(audited=audited) as api:
        answer = await api.get(":changes")
        assert 'filename="changes.json"' in answer.headers["content-disposition"]
        assert [each["number"] for each in answer.json["changes"]] == [3, 2, 1]
        assert answer.json["most"] == 100_000
        answer = await api.get(":changes?format=csv&endpoint=chat")
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert [row["number"] for row in rows] == ["3", "1"]
        assert rows[0]["reason"] == 'first, "second"\nthird'
        assert rows[1]["reason"] == f"'{FORMULA}"
        assert rows[1]["actor"] == "'+eve"
        assert rows[1]["at"] == "2026-09-21T14:13:20.001Z"
        assert rows[1]["changes"] == "config.traffic.b: 10 -> 20"
        assert rows[1]["moved"] == "buckets 8000 to 8999: a -> b"
        none = await api.get(":changes?endpoint=nobody")
        assert json.loads(none.text)["changes"] == []


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1+1", "＠SUM(A1)"])
def test_cells_that_would_run_do_not(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize(("value", "shown"), [("a=1", "a=1"), (-1, "-1"), (None, ""), ("", ""), ("ada", "ada")])
def test_other_cells_are_as_they_are(value: object, shown: str) -> None:
    assert cell(value) == shown


async def test_many_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE", 60)
    journal = Journal(tmp_path / "changes.v1.jsonl")
    journal.append([change(number).to_bytes() for number in range(1, 152)])
    async with served(audited=Audited(None, None, journal)) as api:
        found = (await api.get(":changes")).json["changes"]
        assert [each["number"] for each in found] == list(range(151, 0, -1))
        lines = list(csv.reader(io.StringIO((await api.get(":changes?format=csv")).text, newline="")))
        assert len(lines) == 152


async def test_who_sees_one_endpoint_sees_its_changes(audited: Audited) -> None:
    async with served(guard=Door().guard, audited=audited) as api:
        api.token = QUENTIN
        assert [each["number"] for each in (await api.get(":changes")).json["changes"]] == [3, 1]
        assert (await api.get(":changes-check")).json.keys() == {"whole", "records", "head", "at_ms"}
        api.token = ALICE
        assert [each["number"] for each in (await api.get(":changes")).json["changes"]] == [3, 2, 1]
        assert (await api.get(":changes-check")).json["faults"] == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=yesterday", "since: got 'yesterday'; expected a time"),
        ("format=xml", "format: got 'xml'; expected json or csv"),
        ("limit=many", "limit: got 'many'"),
    ],
)
async def test_what_is_no_question_is_told(audited: Audited, query: str, words: str) -> None:
    async with served(audited=audited) as api:
        status, _, message = (await api.get(f":changes?{query}")).error
        assert status == 400
        assert words in message


async def test_without_a_record_it_is_said() -> None:
    async with served() as api:
        assert (await api.get(":changes")).error[0] == 404
    async with served(audited=Audited(None)) as api:
        assert "--audit-dir" in (await api.get(":changes-check")).error[2]
