"""Objectives and their priorities."""

from __future__ import annotations

import pytest

from extproc.traffic import ObjectiveTable

TABLE = ObjectiveTable({"chat": 10, "batch": -1, "plain": 0})


@pytest.mark.parametrize(
    ("name", "priority"),
    [("chat", 10), ("batch", -1), ("plain", 0), ("unknown", 0), ("CHAT", 0), ("", 0), (None, 0)],
)
def test_priority_of(name: str | None, priority: int) -> None:
    assert TABLE.priority_of(name) == priority


def test_a_table_keeps_its_own_copy() -> None:
    priorities = {"chat": 1}
    table = ObjectiveTable(priorities)
    priorities["chat"] = -5
    assert table.priority_of("chat") == 1


def test_an_empty_table_is_false() -> None:
    assert not ObjectiveTable()
    assert TABLE
    assert repr(TABLE) == "<ObjectiveTable 3 objectives>"
