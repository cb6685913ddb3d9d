"""Numbers of endpoints by name: the signals under upstream's names, and whatever else pages were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from extproc.candidates import Candidates, Column
from extproc.domain import Load
from extproc.scheduling import columns

CORE: Final[Mapping[str, str]] = {
    "WaitingQueueSize": "waiting",
    "RunningRequestsSize": "running",
    "KVCacheUsagePercent": "kv_usage",
    "MaxActiveModels": "max_loras",
    "CacheBlockSize": "kv_block_size",
    "CacheNumBlocks": "kv_blocks",
}
"""Attributes that upstream's core metrics extractor always gives, and what they are called here (upstream's README of it)."""

_UNKNOWN: Final = float("nan")


class Attribute:
    """One attribute as a column, kept until the candidates' stamp changes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._signal = CORE.get(name, "")
        self.is_live = self._signal == "waiting"
        """It changes between two pages: the queue is projected."""
        self._stamp: object = None
        self._column: Column = []

    def column(self, candidates: Candidates) -> Column:
        """NaN where it is unknown; to read only."""
        signal = self._signal
        if signal == "waiting":
            return candidates.waiting
        if signal == "running":
            return candidates.running
        if signal == "kv_usage":
            return candidates.kv_usage
        if candidates.stamp is not self._stamp:
            loads = candidates.loads
            values = [self._of(load) for load in loads] if loads else [_UNKNOWN] * len(candidates)
            self._stamp, self._column = candidates.stamp, columns.like(candidates.in_flight, values)
        return self._column

    def _of(self, load: Load) -> float:
        signal = self._signal
        known: float | None
        if signal == "max_loras":
            known = load.max_loras
        elif signal == "kv_block_size":
            known = load.kv_block_size
        elif signal == "kv_blocks":
            known = load.kv_blocks
        else:
            known = load.attributes.get(self._name) if load.attributes is not None else None
        return _UNKNOWN if known is None else float(known)
