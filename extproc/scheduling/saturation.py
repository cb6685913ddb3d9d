"""How full a pool is: 0 is idle, from 1 on it has no room for requests that may be shed.

The queue is the page's own, not the store's projection of it: that counts each request since the page as waiting, which is
right for comparing endpoints, and would call a pool full that starts them at once. An endpoint of which nothing recent is
known counts as full (1.0): one can't shed by what one does not see, and only requests that asked for it are shed. So does a
pool without endpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from extproc.candidates import Candidates
from extproc.domain import Reading
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import DETECTOR, FILTER, Kit, Need, PluginType
from extproc.scheduling.plugins.inflight import InFlightLoad, in_flight_need
from extproc.scheduling.plugins.load_filters import with_trial
from extproc.scheduling.plugins.parameters import ConcurrencyParameters, UtilizationParameters

FULL: Final = 1.0
STALE_AFTER_S: Final = 0.2
STALE_INTERVALS: Final = 4
"""Pages that may be late: at the usual interval of 50 ms this is STALE_AFTER_S."""


class SaturationDetector(Protocol):
    """Says how full a pool is."""

    reads_pages: bool
    """It goes by the endpoints' pages, and has nothing to say while there are none."""

    def saturation(self, readings: Sequence[Reading]) -> float:
        """Of the endpoints that may be picked; at least 0, never NaN."""
        ...


class UtilizationDetector:
    """`utilization-detector`. As a filter it keeps who has room by the projected queue, which tells endpoints apart between two
    pages; all when nobody has. Of whom nothing is known is left out, unless it is its turn to be tried."""

    reads_pages = True
    fixed = False
    by_load = True

    def __init__(
        self, queue: int = 5, kv_usage: float = 0.8, stale_after_s: float = STALE_AFTER_S, headroom: float = 0.0
    ) -> None:
        """An endpoint is full at so many waiting requests, or so large a share of its KV cache; as a filter that much more."""
        self._queue = queue
        self._kv_usage = kv_usage
        self._stale_after_s = stale_after_s
        self._most = queue * (1.0 + headroom)
        self._fullest = kv_usage * (1.0 + headroom)

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        kept = columns.with_room(candidates.waiting, candidates.kv_usage, self._most, self._fullest)
        if not kept or len(kept) == len(candidates):
            return None
        return with_trial(kept, candidates)

    def saturation(self, readings: Sequence[Reading]) -> float:
        total = 0.0
        for load, age_s, _, _ in readings:
            waiting, kv_usage = load.waiting, load.kv_usage
            if age_s is None or age_s > self._stale_after_s or (waiting is None and kv_usage is None):
                total += FULL
            else:
                total += max((waiting or 0.0) / self._queue, (kv_usage or 0.0) / self._kv_usage)
        return total / len(readings) if readings else FULL


def stale_after_s(threshold_s: float | None, interval_s: float) -> float:
    """When a page that is read every `interval_s` counts as not there."""
    return threshold_s or max(STALE_AFTER_S, STALE_INTERVALS * interval_s)


def utilization_detector(parameters: UtilizationParameters, interval_s: float) -> UtilizationDetector:
    """For pages that are read every `interval_s`."""
    return UtilizationDetector(
        parameters.queue_depth_threshold,
        parameters.kv_cache_util_threshold,
        stale_after_s(parameters.metrics_staleness_threshold, interval_s),
        parameters.headroom,
    )


def default_detector(interval_s: float) -> SaturationDetector:
    """`utilization-detector` with its defaults."""
    return UtilizationDetector(stale_after_s=stale_after_s(None, interval_s))


class ConcurrencyDetector:
    """`concurrency-detector`. As a filter it keeps who has less in flight, be that nobody."""

    reads_pages = False
    fixed = False
    by_load = True

    def __init__(self, most: int = 100, headroom: float = 0.0) -> None:
        """An endpoint is full at so many requests in flight; as a filter that much more, in whole requests."""
        self._most = most
        self._with_headroom = float(int(most * (1.0 + headroom)))

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        return columns.below(candidates.in_flight, self._with_headroom)

    def saturation(self, readings: Sequence[Reading]) -> float:
        if not readings:
            return FULL
        return sum(reading.in_flight for reading in readings) / (self._most * len(readings))


class TokenConcurrencyDetector:
    """`concurrency-detector` with `concurrencyMode` `tokens` or `hybrid`. As a filter it keeps who has less, be that nobody."""

    reads_pages = False
    fixed = False
    by_load = True

    def __init__(self, load: InFlightLoad, most_tokens: int, most: int | None, headroom: float = 0.0) -> None:
        """An endpoint is full at so many tokens in flight, or at `most` requests; None: these don't count. As a filter, at as
        much more as `headroom` says."""
        self._load = load
        self._most_tokens = most_tokens
        self._most = most
        self._factor = 1.0 + headroom

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        tokens, requests = self._most_tokens * self._factor, None if self._most is None else self._most * self._factor
        kept = []
        for position, endpoint in enumerate(candidates.endpoints):
            full = requests is not None and candidates.in_flight[position] >= requests
            if not full and self._load.tokens_at(endpoint.key) < tokens:
                kept.append(position)
        return kept

    def saturation(self, readings: Sequence[Reading]) -> float:
        if not readings:
            return FULL
        total = 0.0
        for reading in readings:
            share = self._load.tokens_at(reading.endpoint) / self._most_tokens
            if self._most is not None:
                share = max(share, reading.in_flight / self._most)
            total += share
        return total / len(readings)


def _concurrency(parameters: ConcurrencyParameters, kit: Kit) -> SaturationDetector:
    if parameters.concurrency_mode == "requests":
        return ConcurrencyDetector(parameters.max_concurrency, parameters.headroom)
    most = parameters.max_concurrency if parameters.concurrency_mode == "hybrid" else None
    return TokenConcurrencyDetector(kit.plugins[kit.source()], parameters.max_token_concurrency, most, parameters.headroom)


def _concurrency_needs(parameters: ConcurrencyParameters) -> Sequence[Need]:
    return () if parameters.concurrency_mode == "requests" else (in_flight_need(parameters),)


TYPES: Final = (
    PluginType(
        "utilization-detector",
        DETECTOR,
        "mean over endpoints of max(queue / `queueDepthThreshold`, KV usage / `kvCacheUtilThreshold`)",
        UtilizationParameters,
        lambda parameters, kit: utilization_detector(parameters, kit.interval_s),
        roles=(FILTER,),
    ),
    PluginType(
        "concurrency-detector",
        DETECTOR,
        "mean over endpoints of requests of ours in flight / `maxConcurrency`; `tokens`: of their tokens / "
        "`maxTokenConcurrency`; `hybrid`: of the larger of both",
        ConcurrencyParameters,
        _concurrency,
        needs=_concurrency_needs,
        roles=(FILTER,),
    ),
)
