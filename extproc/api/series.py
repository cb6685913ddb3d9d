"""How an endpoint's entities did slot by slot of time, as plots need it. Times are seconds, and null is: nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from typing_extensions import TypedDict  # pydantic takes typing's from Python 3.12 on

from extproc.measures import NO_TOTALS, Measures, Totals

WINDOW_S: Final = 900.0
LEAST_S: Final = 5.0
"""Of a slot that is not over; before, it says too little of a rate."""


class EntitySeries(TypedDict):
    """One value for each moment of `Series.at`."""

    served_entity: str
    requests_per_s: list[float]
    errors_per_s: list[float]
    ttft_p50_s: list[float | None]
    ttft_p95_s: list[float | None]


class Series(TypedDict):
    """Of the last minutes, as this replica has counted them."""

    endpoint: str
    window_s: float
    slot_s: float
    at: list[float]
    """Unix seconds at which each slot ended; the last one may go on."""
    series: list[EntitySeries]


def series_of(measures: Measures, endpoint: str, entities: Sequence[str], window_s: float, now_s: float) -> Series:
    """Slots of the last `window_s` seconds. `now_s`: Unix seconds. What was before the process began to count is left out."""
    moment, slot_s = measures.moment, measures.slot_s
    open_slot = int(moment)
    numbers = list(range(max(int(measures.began), int(moment - window_s / slot_s) + 1), open_slot + 1))
    covered = [_covered_s(number, measures.began, moment) * slot_s for number in numbers]
    if numbers and covered[-1] < min(LEAST_S, slot_s / 2):
        numbers.pop()
        covered.pop()
    ends = [min(number + 1.0, moment) for number in numbers]
    return {
        "endpoint": endpoint,
        "window_s": window_s,
        "slot_s": slot_s,
        "at": [round(now_s - (moment - end) * slot_s, 3) for end in ends],
        "series": [_entity(measures, endpoint, entity, numbers, covered) for entity in entities],
    }


def _covered_s(number: int, began: float, moment: float) -> float:
    """How much of a slot the process has counted, 0 to 1."""
    return max(0.0, min(number + 1.0, moment) - max(float(number), began))


def _entity(measures: Measures, endpoint: str, entity: str, numbers: Sequence[int], covered: Sequence[float]) -> EntitySeries:
    cell = measures.find(endpoint, entity)
    slots = {} if cell is None or not numbers else cell.slots(numbers[0])
    found = [slots.get(number, NO_TOTALS) for number in numbers]
    times = [_times(each) for each in found]
    return {
        "served_entity": entity,
        "requests_per_s": [_rate(each.requests, over_s) for each, over_s in zip(found, covered, strict=True)],
        "errors_per_s": [_rate(each.errors, over_s) for each, over_s in zip(found, covered, strict=True)],
        "ttft_p50_s": [p50 for p50, _ in times],
        "ttft_p95_s": [p95 for _, p95 in times],
    }


def _rate(number: int, over_s: float) -> float:
    return round(number / over_s, 4) if over_s > 0 else 0.0


def _times(totals: Totals) -> tuple[float | None, float | None]:
    p50, p95 = totals.ttft_s.sketch.quantiles(0.5, 0.95)
    return (None if p50 is None else round(p50, 5)), (None if p95 is None else round(p95, 5))
