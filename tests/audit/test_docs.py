"""What docs/audit.md shows of DuckDB, run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from extproc.audit.files import PACKED, PARQUET
from tests.audit.test_reader import AT_S, row, written

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def statements() -> list[str]:
    return re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)


def chat(number: int, **fields: Any) -> Any:
    return row(f"r-{number}", AT_S * 1000 + number, endpoint="chat", status=200, bucket=8123, **fields)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed file, and one that is being written."""
    old = [chat(n, entity="a", version=1, ttft_s=0.1, out_tokens=5) for n in range(10)]
    new = [chat(n, entity="b", version=2, ttft_s=0.2, out_tokens=7) for n in range(10, 14)]
    written(tmp_path, *old, suffix=PACKED)
    path = written(tmp_path, *new, row("x", endpoint="other"), begun_s=AT_S + 1)
    path.write_bytes(path.read_bytes() + b'{"at_ms":179')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_statements_of_the_page_answer(folder: Path) -> None:
    view, compare, user = statements()
    with duckdb.connect() as database:
        database.execute(view)

        assert database.execute(compare).fetchall() == [("a", 1, 10, 0.0, 100.0, 100.0, 50), ("b", 2, 4, 0.0, 200.0, 200.0, 28)]
        assert [(each[0], each[1], each[4]) for each in database.execute(user).fetchall()] == [("a", 1, 10), ("b", 2, 4)]


def test_parquet_needs_no_columns_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, chat(1, arms=("tone/warm",)), suffix=PARQUET)
    monkeypatch.chdir(tmp_path)
    (statement,) = re.findall(r"`(SELECT \* FROM read_parquet[^`]*)`", PAGE.read_text())

    with duckdb.connect() as database:
        found = database.execute(statement)
        assert found.description is not None
        values = dict(zip([column[0] for column in found.description], found.fetchone() or (), strict=True))

    assert (values["id"], values["arms"], values["bucket"]) == ("r-1", ["tone/warm"], 8123)
