"""Requests that may be shed (InferenceObjective with a priority below 0)."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from typing import Final

from extproc import names
from extproc.domain import InferenceRequest
from extproc.errors import Saturated
from extproc.observability.picker import AdmissionMetrics, PickerMetrics
from extproc.scheduling.saturation import FULL
from extproc.stages.draft import Draft
from extproc.stages.pools import PoolOfEndpoints, Pools, pool_of
from extproc.stages.stage import Ending, Hooks, Step

_NEW, _OLD = names.OBJECTIVE_HEADERS
_KEPT_S: Final = 0.01
"""How long a pool's saturation is believed: pages come every 50 ms, and asking a thousand endpoints costs 0.2 ms."""


class AdmitByPriority:
    """Sheds what may be shed while its pool is full; everything else goes on and costs the look at a header."""

    def __init__(
        self,
        pools: Pools,
        metrics: AdmissionMetrics,
        picker_metrics: PickerMetrics,
        *,
        default_pool: str | None = None,
        ignore_subset: bool = False,
        queued: Container[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`queued`: pools in front of which requests wait; those shed nobody."""
        self._pools = pools
        self._queued = queued
        self._metrics = metrics
        self._picker_metrics = picker_metrics
        self._default_pool = default_pool
        self._ignore_subset = ignore_subset
        self._clock = clock
        self.hooks = Hooks(ended=self._ended)
        self._known: dict[str, tuple[float, float]] = {}
        """Saturation by pool, and until when it is believed."""
        for name, pool in pools.items():
            metrics.watch(name, lambda pool=pool: _saturation(pool))  # type: ignore[misc]

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        headers = request.head.headers
        objective = headers.get(_NEW) or headers.get(_OLD)
        if objective is None and draft.reasons is None:
            return None
        name, pool = pool_of(self._pools, draft, self._default_pool)
        named = objective.decode("latin-1") if objective else None
        draft.priority = priority = pool.traffic.objectives.value.priority_of(named)
        if draft.reasons is not None:
            saturation = _saturation(pool, self._subset(request))
            draft.reasons.of(self, {"objective": named, "priority": priority, "saturation": saturation})
        if (
            priority < 0
            and name not in self._queued
            and self._saturation_now(request, name, pool) >= FULL
            and self._has_endpoints(request, pool)
        ):
            raise Saturated(_SHED)  # without any the pick says so, whatever the priority
        return None

    def _ended(self, draft: Draft, ending: Ending) -> None:
        if ending.by is self:
            name, _ = pool_of(self._pools, draft, self._default_pool)
            self._metrics.shed(name, draft.priority)
            self._picker_metrics.error(draft.model or "", Saturated.code, draft.target_model, draft.priority)

    def _saturation_now(self, request: InferenceRequest, name: str, pool: PoolOfEndpoints) -> float:
        subset = self._subset(request)
        if subset is not None:
            return _saturation(pool, subset)
        now_s = self._clock()
        value, until_s = self._known.get(name, (0.0, 0.0))
        if now_s >= until_s:
            value = _saturation(pool)
            self._known[name] = (value, now_s + _KEPT_S)
        return value

    def _has_endpoints(self, request: InferenceRequest, pool: PoolOfEndpoints) -> bool:
        subset = self._subset(request)
        return len(pool.store) > 0 if subset is None else bool(pool.store.readings(subset))

    def _subset(self, request: InferenceRequest) -> tuple[str, ...] | None:
        """As for the pick: what the proxy allows, unless that is ignored."""
        return None if self._ignore_subset else request.head.subset


_SHED: Final = "system saturated, sheddable request dropped"


def _saturation(pool: PoolOfEndpoints, subset: tuple[str, ...] | None = None) -> float:
    return pool.detector.saturation(pool.store.readings(subset))
