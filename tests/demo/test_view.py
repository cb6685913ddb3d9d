"""What the demo prints where there is no terminal."""

from __future__ import annotations

import pytest

from extproc.demo.view import PlainShow


def test_columns_are_as_wide_as_what_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    PlainShow().table(("entity", "requests"), [("challenger", "7"), ("current", "12345678901")])
    assert capsys.readouterr().out == "   entity      requests\n   challenger  7\n   current     12345678901\n"


def test_nobody_else_writes_where_there_is_no_terminal() -> None:
    with PlainShow().aside() as terminal:
        assert not terminal
