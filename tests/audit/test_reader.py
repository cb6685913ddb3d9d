"""Decisions are found again, in every kind of file, and what can't be read is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.audit.closing import close_as, parquet_schema
from extproc.audit.files import PACKED, PARQUET, file_name
from extproc.audit.reader import Decision, Reading, Wanted, decisions, row_of
from extproc.audit.row import FIELDS
from tests.audit.rows import Row

AT_S = 1_790_000_000


def row(request_id: str = "r-1", at_ms: int = AT_S * 1000, **fields: Any) -> Row:
    return Row(at_ms, request_id, **fields)


def written(folder: Path, *rows: Row, begun_s: float = AT_S, suffix: str = "", writer: str = "host-1") -> Path:
    path = folder / file_name(begun_s, writer)
    path.write_bytes(b"".join(each.line() for each in rows))
    return (close_as(path, suffix) or path) if suffix else path


def found(folder: Path, **wanted: Any) -> tuple[list[Decision], list[str]]:
    reading = Reading()
    return list(decisions(folder, Wanted(**wanted), reading)), reading.notes()


FULL = row(
    "r-9",
    attempt=2,
    endpoint="chat",
    entity="b",
    why="sticky: header x-user-id",
    bucket=0,
    rule="eu",
    arms=("tone/warm",),
    version=7,
    region="eu",
    spill="full",
    spill_cost=2.5,
    model="gpt",
    target="m",
    pool="p",
    server="10.0.0.1:8000",
    score=0.75001,
    second=0.5,
    status=200,
    error="x",
    complete=False,
    ms=12.34,
    ttft_s=0.0123,
    tpot_s=0.001234,
    in_tokens=0,
    out_tokens=5,
)


def test_a_line_has_every_field_of_the_table_and_no_others() -> None:
    values = orjson.loads(FULL.line())

    assert values.keys() == {field.name for field in FIELDS}
    assert values["ttft_ms"] == 12.3
    assert values["tpot_ms"] == 1.23
    assert values["in_tokens"] == 0


def test_what_has_nothing_to_say_is_left_out() -> None:
    assert orjson.loads(row().line()) == {"at_ms": AT_S * 1000, "id": "r-1", "ms": 0.0}


@pytest.mark.parametrize("suffix", ["", PACKED, PARQUET])
def test_rows_come_back_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    written(tmp_path, row("r-1"), FULL, suffix=suffix)

    rows, notes = found(tmp_path)

    assert notes == []
    assert rows == [orjson.loads(row("r-1").line()), orjson.loads(FULL.line())]


@pytest.mark.parametrize("suffix", ["", PACKED, PARQUET])
@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"request_id": "a"}, ["a"]),
        ({"endpoint": "chat"}, ["a", "b"]),
        ({"entity": "y"}, ["b"]),
        ({"bucket": 0}, ["a"]),
        ({"since_ms": AT_S * 1000 + 1}, ["b", "c"]),
        ({"until_ms": AT_S * 1000 + 2}, ["a", "b"]),
        ({"endpoint": "chat", "until_ms": AT_S * 1000 + 1}, ["a"]),
        ({"endpoint": "none"}, []),
    ],
)
def test_those_that_are_asked_for(tmp_path: Path, suffix: str, wanted: dict[str, Any], ids: list[str]) -> None:
    written(
        tmp_path,
        row("a", endpoint="chat", entity="x", bucket=0),
        row("b", AT_S * 1000 + 1, endpoint="chat", entity="y", bucket=1),
        row("c", AT_S * 1000 + 2, endpoint="other", entity="x"),
        suffix=suffix,
    )

    assert [each["id"] for each in found(tmp_path, **wanted)[0]] == ids


def test_an_id_that_json_escapes_is_found(tmp_path: Path) -> None:
    written(tmp_path, row('a"\\b'), row("c"))

    assert [each["id"] for each in found(tmp_path, request_id='a"\\b')[0]] == ['a"\\b']


def test_a_torn_last_line_is_said_and_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, row("a"), row("b"))
    path.write_bytes(path.read_bytes()[:-9])

    rows, (note,) = found(tmp_path)

    assert [each["id"] for each in rows] == ["a"]
    assert note.startswith(f"{path.name}: its last line has no end")


def test_a_packed_file_that_is_cut_gives_what_is_before_the_cut(tmp_path: Path) -> None:
    path = written(tmp_path, *[row(os.urandom(16).hex()) for _ in range(20_000)], suffix=PACKED)
    path.write_bytes(path.read_bytes()[:-1000])

    rows, (note,) = found(tmp_path)

    assert 0 < len(rows) < 20_000
    assert path.name in note


def test_lines_that_are_none_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, row("a"))
    with path.open("ab") as file:
        file.write(b'hello\n[]\n{"at_ms":1}\n{"at_ms":true,"id":"x"}\n' + b"x" * 3_000_000 + b"\n" + row("b").line())

    rows, notes = found(tmp_path)

    assert [each["id"] for each in rows] == ["a", "b"]
    assert notes == [f"{path.name}: 5 lines can't be read"]


@pytest.mark.parametrize("suffix", [PACKED, PARQUET])
def test_a_closed_file_that_is_none_is_said(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, row("a"), suffix=suffix)
    path.write_bytes(b"no such thing at all")
    written(tmp_path, row("b"), begun_s=AT_S + 1)

    rows, (note,) = found(tmp_path)

    assert [each["id"] for each in rows] == ["b"]
    assert note.startswith(f"{path.name}: can't be read further")


def test_a_file_of_a_newer_release_is_said(tmp_path: Path) -> None:
    (tmp_path / "decisions.v2.20261129T091500.000000Z.host-1.jsonl").write_bytes(b"?")

    assert found(tmp_path) == ([], ["decisions.v2.20261129T091500.000000Z.host-1.jsonl: a newer release wrote it"])


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "changes.v1.jsonl").write_bytes(b"x")
    (tmp_path / "notes.jsonl").write_bytes(b"x")

    assert found(tmp_path) == ([], [])


def test_a_closed_file_stands_for_the_open_one_that_it_was_made_of(tmp_path: Path) -> None:
    path = written(tmp_path, row("a"))
    lines = path.read_bytes()
    close_as(path, PACKED)
    path.write_bytes(lines)  # a crash before it was deleted

    assert len(found(tmp_path)[0]) == 1


def test_files_of_another_time_are_not_read(tmp_path: Path) -> None:
    day = 86_400
    old = written(tmp_path, row("a"), begun_s=AT_S - 9 * day)
    written(tmp_path, row("b"), begun_s=AT_S - 5 * day)
    written(tmp_path, row("c"), begun_s=AT_S)
    old.chmod(0)

    rows, notes = found(tmp_path, since_ms=(AT_S - 2 * day) * 1000)

    assert ([each["id"] for each in rows], notes) == (["b", "c"], [])


def test_parquet_says_what_its_columns_mean() -> None:
    schema = parquet_schema()

    assert [field.name for field in schema] == [field.name for field in FIELDS]
    assert all(field.metadata[b"doc"] for field in schema)


def test_rows_of_several_blocks_become_one_table(tmp_path: Path) -> None:
    path = written(tmp_path, *[row(str(n), endpoint="chat" * 20) for n in range(50_000)])
    assert path.stat().st_size > 5 * 2**20

    close_as(path, PARQUET)

    assert [each["id"] for each in found(tmp_path)[0]] == [str(n) for n in range(50_000)]


@given(st.lists(st.binary(max_size=60) | st.sampled_from([row("a").line(), FULL.line()])), st.booleans())
@settings(max_examples=150)
def test_whatever_a_file_holds_is_read_without_a_failure(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], packed: bool
) -> None:
    folder = tmp_path_factory.mktemp("any")
    data = b"".join(parts)
    name = file_name(AT_S, "host-1")
    if packed:
        (folder / (name + ".zst")).write_bytes(zstandard.compress(data))
    else:
        (folder / name).write_bytes(data)

    rows, notes = found(folder)

    whole = [line for line in data.split(b"\n")[:-1] if row_of(line) is not None]
    assert len(rows) == len(whole)
    assert bool(notes) == (len(data.split(b"\n")[:-1]) > len(whole) or not (data == b"" or data.endswith(b"\n")))


@given(
    st.dictionaries(st.sampled_from([field.name for field in FIELDS]), st.none() | st.booleans() | st.integers() | st.text())
)
def test_any_object_is_a_row_of_the_right_kinds_or_none(values: dict[str, Any]) -> None:
    try:
        line = orjson.dumps(values)
    except TypeError:
        return  # no JSON of ours
    found = row_of(line)

    if found is not None:
        assert isinstance(found["id"], str)
        assert isinstance(found["at_ms"], int)
        assert None not in found.values()
