"""Measurements as rows of a table, with the bars that they meet or miss."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from tests.bench.table import Row
from tests.evaluation.measured import Measured
from tests.evaluation.policies import ASKED, DEFAULT, LOAD, ROUND_ROBIN, UPSTREAMS, Policy
from tests.evaluation.scenarios import Bars, Scenario

Runs: TypeAlias = Mapping[str, Sequence[Measured]]
"""By the policy's name, one for each seed, in the same order."""

_HITS: Final = "in caches"
_MEAN: Final = "mean TTFT"
_P95: Final = "p95 TTFT"


def policies_of(scenario: Scenario) -> list[Policy]:
    """Who is compared."""
    return [
        ROUND_ROBIN,
        *([ASKED] if scenario.bars.against_asked else []),
        *([LOAD] if scenario.bars.against_load_alone else []),
        UPSTREAMS,
        DEFAULT,
    ]


def rows_of(scenario: Scenario, runs: Runs) -> list[Row]:
    """Medians over the seeds; a ratio is taken of two runs of the same seed before that."""
    rows = [row for name, measured in runs.items() for row in _observed(name, measured)]
    for subject, bars in ((UPSTREAMS.name, scenario.upstreams), (DEFAULT.name, scenario.bars)):
        if subject not in runs:
            continue
        for other, bars_to_it in _others(bars):
            rows += _compared(subject, runs[subject], other.name, runs[other.name], bars_to_it)
    return rows


def _others(bars: Bars) -> list[tuple[Policy, Bars]]:
    """To whom a default is compared, and what is asked of it there."""
    if bars.against_asked:
        return [(ROUND_ROBIN, Bars()), (ASKED, bars)]
    return [(other, bars) for other in ([ROUND_ROBIN, LOAD] if bars.against_load_alone else [ROUND_ROBIN])]


def _observed(name: str, measured: Sequence[Measured]) -> Iterator[Row]:
    yield Row(f"{name}: {_HITS}", statistics.median(each.hit_fraction for each in measured) * 100, "% of prompt tokens")
    yield Row(f"{name}: {_MEAN}", statistics.median(each.mean_s for each in measured) * 1e3, "ms")
    yield Row(f"{name}: {_P95}", statistics.median(each.p95_s for each in measured) * 1e3, "ms")
    failed = sum(each.failed for each in measured)
    if failed:
        yield Row(f"{name}: failed", failed / len(measured), "requests")


def _compared(name: str, mine: Sequence[Measured], other: str, theirs: Sequence[Measured], bars: Bars) -> Iterator[Row]:
    def middle(of: Callable[[Measured], float]) -> float:
        return statistics.median(of(a) / of(b) for a, b in zip(mine, theirs, strict=True))

    unit = f"x {other}"
    if all(each.hits for each in theirs):
        yield Row(f"{name}: {_HITS}", middle(lambda each: each.hit_fraction), unit, least=bars.hits_least)
    yield Row(f"{name}: {_MEAN}", middle(lambda each: each.mean_s), unit, bars.ttft_most)
    yield Row(f"{name}: {_P95}", middle(lambda each: each.p95_s), unit, bars.ttft_most)
