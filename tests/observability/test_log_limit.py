"""A kind of event gets a few lines in a row, then one at a time."""

from __future__ import annotations

from extproc.observability.log_limit import BURST, PERIOD_S, LogLimit
from tests.fakes.clock import FakeClock


def test_a_flood_of_one_kind() -> None:
    clock = FakeClock()
    limit = LogLimit(clock)
    assert [limit.passes("a") for _ in range(BURST + 100)] == [0] * BURST + [None] * 100
    assert limit.passes("b") == 0
    clock.advance(PERIOD_S)
    assert [limit.passes("a"), limit.passes("a")] == [100, None]
    assert limit.suppressed == 101


def test_the_burst_is_there_again_after_silence() -> None:
    clock = FakeClock()
    limit = LogLimit(clock)
    for _ in range(BURST):
        limit.passes("a")
    clock.advance(1000 * PERIOD_S)
    assert [limit.passes("a") for _ in range(BURST + 1)] == [0] * BURST + [None]


def test_kinds_are_bounded() -> None:
    limit = LogLimit(FakeClock())
    passed = [limit.passes(f"kind {number}") for number in range(10_000)]
    assert sum(each is not None for each in passed) <= 256 + BURST
