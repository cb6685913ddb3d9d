"""`extproc audit`: which config served this request, who moved this user, and is the record whole."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from extproc.app.asking import bucket_of
from extproc.audit.files import PACKED
from extproc.cli.audit import COMMAND
from extproc.control.changes import Create, Origin, UpdateConfig
from extproc.storage.open import open_store
from tests.audit.test_reader import row, written
from tests.control.desks import START_MS, Bench, document, split

USER = "ada@example.com"


def ask(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(COMMAND, list(arguments), input=input)


@pytest.fixture
def place(tmp_path: Path) -> tuple[str, str]:
    """The flags of a folder and a database: an endpoint whose split was turned around, and two requests of one user."""
    database, folder = f"sqlite:///{tmp_path}/state.db", tmp_path / "audit"
    folder.mkdir()

    async def change() -> None:
        bench = Bench(open_store(database))
        await bench.desk.open()
        await bench.desk.apply(Create(document(a=100, b=0)), "eve")
        await bench.desk.apply(
            UpdateConfig("chat", split(a=0, b=100)), "bob", reason="b is good", origin=Origin("10.0.0.7", "cy")
        )
        await bench.desk.close()

    asyncio.run(change())
    bucket = bucket_of("chat", USER)
    served: dict[str, Any] = {"endpoint": "chat", "bucket": bucket, "status": 200, "why": "sticky: header x-user-id"}
    first = row("r-1", START_MS + 5_001, entity="a", version=1, **served)
    second = row("r-2", START_MS + 60_000, entity="b", version=2, score=0.9, second=0.8, server="10.0.0.1:8000", **served)
    second.region, second.spill, second.spill_cost = "north", "spill_empty", 2.5
    written(folder, first, second, begun_s=START_MS / 1000, suffix=PACKED)
    return f"--audit-dir={folder}", f"--database-url={database}"


def test_which_config_served_this_request(place: tuple[str, str]) -> None:
    result = ask(*place, "--request-id", "r-2")

    assert result.exit_code == 0, result.output
    assert "r-2  chat/b v2  200 0 ms  10.0.0.1:8000" in result.output
    assert "10.0.0.1:8000 with 0.9 points, the best other had 0.8" in result.output
    assert "region north: spill_empty at 2.5" in result.output
    assert "change 2  update chat v2  by bob from 10.0.0.7, approved by cy: b is good" in result.output
    assert "r-1" not in result.output


def test_the_same_for_programs(place: tuple[str, str]) -> None:
    told = orjson.loads(ask(*place, "--request-id=r-1", "--json").stdout)

    (decision,) = told["decisions"]
    assert (decision["entity"], decision["version"], decision["made_by"]["number"], decision["made_by"]["actor"]) == (
        "a",
        1,
        1,
        "eve",
    )
    assert told["changes"] == []


@pytest.mark.parametrize("key", [USER, "-"])
def test_who_moved_this_user(place: tuple[str, str], key: str) -> None:
    result = ask(*place, "--endpoint=chat", f"--user-key={key}", input=USER + "\n")

    assert result.exit_code == 0, result.output
    assert f"moved bucket {bucket_of('chat', USER)} from a to b" in result.output
    assert "by bob from 10.0.0.7, approved by cy: b is good" in result.output
    assert "create chat" not in result.output  # which moved nobody
    assert USER not in result.output
    assert result.output.index("r-2") < result.output.index("r-1")


def test_what_was_changed(place: tuple[str, str]) -> None:
    result = ask(*place, "--changes", "--why")

    assert "config.traffic.a: 100 -> 0" in result.output
    assert "buckets 0 to 9999: a -> b" in result.output
    assert "r-1" not in result.output


def test_entity_time_and_limit(place: tuple[str, str]) -> None:
    assert "r-1" in ask(*place, "--entity=chat/a").output
    assert "nothing found" in ask(*place, "--entity=other/a").output
    assert "nothing found" in ask(*place, "--since=1h").output
    assert "r-2" not in ask(*place, "--decisions", "--until=2023-11-14T22:13:26Z").output
    assert "r-1" not in ask(*place, "--decisions", "--limit=1").output


def test_a_folder_that_no_gateway_wrote_to(tmp_path: Path) -> None:
    told = ask(f"--audit-dir={tmp_path}")
    assert "nothing found" in told.output
    assert f"--audit-dir: {tmp_path} has nothing that a gateway wrote" in told.output


def test_a_whole_record_and_one_that_was_altered(place: tuple[str, str]) -> None:
    whole = ask(*place, "--verify")
    assert (whole.exit_code, whole.output.startswith("2 changes: whole; last hash ")) == (0, True)
    head = whole.output.split()[-1]
    assert ask(*place, "--verify", f"--head={head}").exit_code == 0
    assert ask(*place, "--verify", f"--head={'ab' * 32}").exit_code == 1

    with sqlite3.connect(place[1].partition("///")[2]) as database:
        database.execute("UPDATE extproc_changes SET body = replace(CAST(body AS TEXT), 'bob', 'eve') WHERE number = 2")
    database.close()

    altered = ask(*place, "--verify", "--json")
    assert altered.exit_code == 1
    assert orjson.loads(altered.stdout)["whole"] is False
    assert "wrong: change 2: its hash" in ask(*place, "--verify").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--audit-dir or --database-url is needed"),
        (["--audit-dir=/nowhere/at/all"], "--audit-dir: /nowhere/at/all is no folder"),
        (["--database-url=sqlite:////nowhere/state.db"], "--database-url: there is no /nowhere/state.db"),
        (["--user-key=x"], "--user-key and --bucket need --endpoint"),
        (["--changes", "--decisions"], "exclude each other"),
        (["--head=" + "ab" * 32], "--head needs --verify"),
        (["--verify", "--head=x"], "64 hex digits"),
        (["--audit-dir=.", "--since=yesterday"], "--since: got 'yesterday'; expected a time such as"),
    ],
)
def test_what_can_not_be_asked(arguments: list[str], words: str) -> None:
    result = ask(*arguments)

    assert result.exit_code == 2
    assert words in result.output
