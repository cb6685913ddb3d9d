"""A row has a bar or is an observation."""

from __future__ import annotations

import pytest

from tests.bench.table import Row, verdict


@pytest.mark.parametrize(
    ("row", "end"),
    [
        (Row("a", 2.0, "µs"), "2 µs"),
        (Row("a", 2.0, "µs", ratio=0.5), "2 µs  0.50 x floor"),
        (Row("a", 2.0, "µs", bar=2.0), "2 µs  bar 2  ok"),
        (Row("a", 2.1, "µs", bar=2.0), "2.1 µs  bar 2  MISSED"),
        (Row("a", 3.0, "x", least=3.0), "3 x  bar at least 3  ok"),
        (Row("a", 2.9, "x", least=3.0), "2.9 x  bar at least 3  MISSED"),
    ],
)
def test_only_a_row_with_a_bar_has_a_verdict(row: Row, end: str) -> None:
    assert str(row).endswith(end)
    assert row.met is not str(row).endswith("MISSED")


def test_the_verdict_names_what_was_missed() -> None:
    met, missed, seen = Row("a", 1.0, "µs", bar=2.0), Row("b", 3.0, "µs", bar=2.0), Row("c", 9.0, "µs")
    assert verdict([met, seen]) == "all 1 bars are met"
    assert verdict([met, missed, seen]) == "bars missed: b (3 µs)"
