"""How each served entity of a serving endpoint, and each arm of an experiment, is doing: requests, errors by kind, times,
tokens, cost, feedback; over the last minutes, since a moment, and since this process began.

    Sample ─▶ Cell (one of an entity, one of each arm of it)
                 └─ a tally of this slot of time ─▶ sealed slots, the last hour ─▶ everything before: Totals of any of it

Pure: times are handed in. What is kept can be added up and subtracted, so that whoever judges may look as often as he likes.
This package may not import asyncio, grpc, protobuf, logging or any room beside it.
"""

from extproc.measures.alike import LogTimes, kind_of
from extproc.measures.cell import Cell
from extproc.measures.documents import document_of, totals_of
from extproc.measures.feedback import COUNTED, RATED, UNKNOWN, Remembered
from extproc.measures.measures import Mark, Measures
from extproc.measures.moments import NO_MOMENTS, Moments
from extproc.measures.sample import Sample, error_kind
from extproc.measures.sketch import ACCURACY, NO_SKETCH, Sketch
from extproc.measures.timing import NO_TIMING, Timing
from extproc.measures.totals import NO_TOTALS, Totals

__all__ = [
    "ACCURACY",
    "COUNTED",
    "NO_MOMENTS",
    "NO_SKETCH",
    "NO_TIMING",
    "NO_TOTALS",
    "RATED",
    "UNKNOWN",
    "Cell",
    "LogTimes",
    "Mark",
    "Measures",
    "Moments",
    "Remembered",
    "Sample",
    "Sketch",
    "Timing",
    "Totals",
    "document_of",
    "error_kind",
    "kind_of",
    "totals_of",
]
