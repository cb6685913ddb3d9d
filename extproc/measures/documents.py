"""Totals as a document and back, for who has to keep them over a restart: they are added to what comes after it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, Final

from extproc.measures.alike import LogTimes
from extproc.measures.moments import Moments
from extproc.measures.sketch import Sketch
from extproc.measures.timing import Timing
from extproc.measures.totals import Totals

_TIMINGS: Final = frozenset({"headers_s", "ttft_s", "tpot_s", "e2e_s"})
_MOMENTS: Final = frozenset({"feedback_score", "queue_at_pick", "hit_fraction"})
_ALIKE: Final = "alike"
_COUNTS: Final = frozenset({"errors_by_kind", "finish_reasons"})


def document_of(totals: Totals) -> dict[str, Any]:
    """Made for JSON; what is empty is left out."""
    document: dict[str, Any] = {}
    for field, value in totals._asdict().items():
        if isinstance(value, Timing):
            if value.n:
                bins = [[number, count] for number, count in zip(value.sketch.bins, value.sketch.counts, strict=True)]
                document[field] = {"log": list(value.log), "bins": bins, "sum_s": value.sum_s}
        elif field == _ALIKE:
            if value:
                document[field] = {kind: [list(each) for each in times] for kind, times in value.items()}
        elif isinstance(value, Moments):
            if value.n:
                document[field] = list(value)
        elif value:
            document[field] = dict(value) if field in _COUNTS else value
    return document


def totals_of(document: Mapping[str, Any]) -> Totals:
    """Raise ValueError when it is none that `document_of` made."""
    try:
        fields = {field: _read(field, value) for field, value in document.items() if field in Totals._fields}
        return Totals(**fields)
    except (TypeError, KeyError, OverflowError, AttributeError, ValueError) as error:
        raise ValueError(f"these are no totals: {type(error).__name__}") from None


def _read(field: str, value: Any) -> Any:
    if field in _TIMINGS:
        pairs = sorted((int(number), int(count)) for number, count in value["bins"])
        sketch = Sketch(array("h", [number for number, _ in pairs]), array("q", [count for _, count in pairs]))
        return Timing(_moments(value["log"]), sketch, float(value["sum_s"]))
    if field in _MOMENTS:
        return _moments(value)
    if field == _ALIKE:
        return {str(kind): LogTimes(*map(_moments, each)) for kind, each in value.items()}
    if field in _COUNTS:
        return {str(kind): int(count) for kind, count in value.items()}
    return float(value) if field == "cost" else int(value)


def _moments(value: Any) -> Moments:
    n, mean, m2 = value
    return Moments(int(n), float(mean), float(m2))
