"""Changes of serving endpoints where there are many: what one costs until it is in force, and its history until it is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import time
import tracemalloc

import structlog

from extproc.control.changes import Create, Declare, UpdateConfig
from tests.bench.table import Row
from tests.control.desks import Bench, document, split

_ENDPOINTS = 1000
_SHARES = {"a": 40, "b": 30, "c": 20, "d": 10}


def _document(name: str) -> dict[str, object]:
    found = document(name, **_SHARES)
    for entity in found["config"]["served_entities"]:
        entity["entity_name"] = "model-A"
    return found


async def _rows() -> list[Row]:
    bench = Bench()
    await bench.desk.open()
    started = time.perf_counter()
    await bench.desk.apply(Declare("file:many", [_document(f"e{i}") for i in range(_ENDPOINTS - 1)]), "bench")
    declared_ms = (time.perf_counter() - started) * 1e3
    await bench.desk.apply(Create(_document("chat")), "bench")
    loops = [await _change(bench, i) for i in range(60)]
    started = time.perf_counter()
    entries = await bench.desk.history("chat", limit=50)
    told_ms = (time.perf_counter() - started) * 1e3
    assert len(entries) == 50
    gc.collect()
    tracemalloc.start()
    again = Bench(bench.store)
    started = time.perf_counter()
    await again.desk.open()
    opened_ms = (time.perf_counter() - started) * 1e3
    gc.collect()
    held_mb = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    return [
        Row(f"one change among {_ENDPOINTS} endpoints of 4, until in force", statistics.median(loops), "ms", 20.0),
        Row(f"{_ENDPOINTS - 1} endpoints declared at once", declared_ms, "ms"),
        Row(f"{_ENDPOINTS} endpoints read from a store (traced)", opened_ms, "ms"),
        Row("their records and the table, held", held_mb, "MB", 30.0),
        Row("50 entries of a history, with differences", told_ms, "ms", 20.0),
    ]


async def _change(bench: Bench, turn: int) -> float:
    """Milliseconds that the event loop is held."""
    share = 10 + turn % 2
    words = split(**{**_SHARES, "a": 50 - share, "d": share})
    started = time.perf_counter()
    await bench.desk.apply(UpdateConfig("chat", words), "bench")
    return (time.perf_counter() - started) * 1e3


def control_rows() -> list[Row]:
    """On a store in memory: what a database takes comes on top."""
    logging.getLogger().setLevel(logging.WARNING)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # a line for each change
    return asyncio.run(_rows())
