"""How full a pool is: 0 is idle, from 1 on it has no room for requests that may be shed.

| type | saturation |
|---|---|
| utilization-detector | mean over endpoints of the larger of queue / queueDepthThreshold and KV usage / kvCacheUtilThreshold |
| concurrency-detector | requests in flight / (endpoints * maxConcurrency) |

The queue is the page's own, not the store's projection of it: that counts each request since the page as waiting, which is
right for comparing endpoints, and would call a pool full that starts them at once. An endpoint of which nothing recent is
known counts as full (1.0): one can't shed by what one does not see, and only requests that asked for it are shed. So does a
pool without endpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from pydantic import Field, field_validator

from extproc.domain import Reading
from extproc.scheduling.plugins.base import Parameters
from extproc.settings.base import Duration

FULL: Final = 1.0
STALE_AFTER_S: Final = 0.2
STALE_INTERVALS: Final = 4
"""Pages that may be late: at the usual interval of 50 ms this is STALE_AFTER_S."""


class SaturationDetector(Protocol):
    """Says how full a pool is."""

    def saturation(self, readings: Sequence[Reading]) -> float:
        """Of the endpoints that may be picked; at least 0, never NaN."""
        ...


class UtilizationParameters(Parameters):
    """Parameters of `utilization-detector`."""

    queue_depth_threshold: int = Field(5, alias="queueDepthThreshold", ge=1)
    """Waiting requests at which an endpoint is full."""
    kv_cache_util_threshold: float = Field(0.8, alias="kvCacheUtilThreshold", gt=0, le=1)
    """Used share of the KV cache at which an endpoint is full."""
    metrics_staleness_threshold: Duration | None = Field(None, alias="metricsStalenessThreshold", gt=0)
    """Age at which a page counts as not there. Unset: 200ms, or four intervals when pages are read less often."""
    headroom: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Of the filter that upstream makes of this plugin; changes nothing here."""

    def stale_after_s(self, interval_s: float) -> float:
        """Seconds, for pages that are read every `interval_s`."""
        return self.metrics_staleness_threshold or max(STALE_AFTER_S, STALE_INTERVALS * interval_s)


class UtilizationDetector:
    """`utilization-detector`."""

    def __init__(self, parameters: UtilizationParameters, interval_s: float) -> None:
        self._queue = parameters.queue_depth_threshold
        self._kv_usage = parameters.kv_cache_util_threshold
        self._stale_after_s = parameters.stale_after_s(interval_s)

    def saturation(self, readings: Sequence[Reading]) -> float:
        total = 0.0
        for load, age_s, _ in readings:
            waiting, kv_usage = load.waiting, load.kv_usage
            if age_s is None or age_s > self._stale_after_s or (waiting is None and kv_usage is None):
                total += FULL
            else:
                total += max((waiting or 0.0) / self._queue, (kv_usage or 0.0) / self._kv_usage)
        return total / len(readings) if readings else FULL


def default_detector(interval_s: float) -> SaturationDetector:
    """`utilization-detector` with its defaults."""
    return UtilizationDetector(UtilizationParameters.model_validate({}), interval_s)


class ConcurrencyParameters(Parameters):
    """Parameters of `concurrency-detector`."""

    max_concurrency: int = Field(100, alias="maxConcurrency", ge=1)
    """Requests in flight at which an endpoint is full."""
    concurrency_mode: Literal["requests"] = Field("requests", alias="concurrencyMode")
    """What is counted."""
    headroom: float = Field(0.0, ge=0, allow_inf_nan=False)
    """As for utilization-detector."""

    @field_validator("concurrency_mode", mode="before")
    @classmethod
    def _only_requests(cls, value: object) -> object:
        if value in ("tokens", "hybrid"):
            raise ValueError("only 'requests' is available in this version")
        return value


class ConcurrencyDetector:
    """`concurrency-detector`."""

    def __init__(self, parameters: ConcurrencyParameters, interval_s: float) -> None:
        self._most = parameters.max_concurrency

    def saturation(self, readings: Sequence[Reading]) -> float:
        if not readings:
            return FULL
        return sum(reading.in_flight for reading in readings) / (self._most * len(readings))
