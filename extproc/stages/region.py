"""Regions: which of the pools that serve a model, or a served entity, gets the request; and whether it may go there."""

from __future__ import annotations

from typing import Any, Final

from extproc.domain import InferenceRequest, is_failure
from extproc.errors import NoEndpoints, RegionForbidden, listed
from extproc.live import Live
from extproc.observability.regions import RegionMetrics
from extproc.stages.again import Again
from extproc.stages.draft import Draft
from extproc.stages.placing import RegionRules
from extproc.stages.stage import Ending, Hooks, Step
from extproc.traffic import AdapterMap, RouteTable, ServedEntity
from extproc.traffic.regions import FORBIDDEN, UNREACHED, Placed
from extproc.traffic.residency import Kept


class ChooseRegion:
    """Stands behind what decides who serves a request as what, and chooses where.

    A gateway without regions has no such stage.
    """

    def __init__(
        self,
        rules: RegionRules,
        metrics: RegionMetrics,
        routes: Live[RouteTable],
        adapters: Live[AdapterMap] | None = None,
        again: Again | None = None,
    ) -> None:
        """`routes` and `adapters` tell which pools serve what names no serving endpoint. `again`: the one of `ServeEndpoint`;
        None: each attempt is placed as if it were the first.
        """
        self._again = again
        self._rules = rules
        self._metrics = metrics
        self._routes = routes
        self._adapters = Live(AdapterMap()) if adapters is None else adapters
        self.hooks = Hooks(committed=self._committed, ended=self._ended)

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        entity, rules = draft.entity, self._rules
        origin = rules.origin(request)
        kept = rules.kept(request, draft, origin, "" if entity is None else entity.name)
        pools = self._pools(request, draft)
        if not pools and entity is None:
            return None
        again = self._again if draft.turn else None
        tried = () if again is None else again.tried(draft)
        if entity is not None and entity.external is not None:
            placed = rules.provider(origin, kept, entity.region)
        else:
            placed = rules.place(request, origin, kept, pools, draft.made_at, tried)
        draft.placed = placed
        if again is not None and not draft.falls_back:
            here = tried if placed is None or not placed.pool else (*tried, placed.pool)
            draft.falls_back = again.is_left(request, draft, here)
        if draft.reasons is not None:
            draft.reasons.of(self, self._explained(origin, kept, pools, placed))
        if placed is None:
            return None
        if placed.reason == FORBIDDEN:
            draft.pool = None  # it goes to none
            raise RegionForbidden(_forbidden(kept, pools, entity, placed, rules))
        if placed.reason == UNREACHED:
            raise NoEndpoints(f"no way leads from the region {origin} to any of the pools {listed(pools)}")
        if placed.pool:
            draft.pool = placed.pool
        return None

    def _pools(self, request: InferenceRequest, draft: Draft) -> tuple[str, ...]:
        """Those that may serve it, the first as it was routed."""
        entity, pool = draft.entity, draft.pool
        if entity is not None:
            return entity.pools
        if pool is None:
            return ()
        table, model = self._routes.value, request.model
        beside = table.beside_pool(pool) if model is None else table.beside(model, self._base_of)
        return (pool, *beside)

    def _base_of(self, model: str) -> str:
        return self._adapters.value.base_of(model)

    def _explained(self, origin: str, kept: Kept, pools: tuple[str, ...], placed: Placed | None) -> dict[str, Any]:
        rules = self._rules
        told: dict[str, Any] = {"origin": origin}
        if placed is not None:
            told |= {"region": placed.region, "pool": placed.pool, "reason": placed.reason, "cost": placed.cost}
        if kept.regions is not None:
            told |= {"stay_in": sorted(kept.regions), "residency": list(kept.rules)}
        told["pools"] = [
            {
                "pool": each.pool,
                "region": each.region,
                "cost": each.cost,
                "state": rules.state(each.pool),
                "share_elsewhere": round(rules.share(each.pool), 4),
            }
            for each in rules.regions.ranked(origin, pools)
        ]
        return told

    def _committed(self, request: InferenceRequest, draft: Draft) -> None:
        if draft.counted and self._rules.is_unknown(request):
            self._metrics.unknown.value += 1
        placed = draft.placed
        if placed is not None and placed.spilled:
            self._metrics.spilled(placed.origin, placed.region, placed.reason)
        if self._again is not None:
            self._again.sent(draft)

    def _ended(self, draft: Draft, ending: Ending) -> None:
        if self._again is None:
            return
        if not draft.committed:
            self._again.sent(draft)
        elif ending.complete and not is_failure(ending.status):
            self._again.over(draft)


_NOWHERE: Final = "nowhere"


def _forbidden(kept: Kept, pools: tuple[str, ...], entity: ServedEntity | None, placed: Placed, rules: RegionRules) -> str:
    where = ", ".join(sorted(kept.regions or ())) or _NOWHERE
    why = f"the request has to stay in {where} (residency: {', '.join(kept.rules)})"
    if entity is not None and entity.external is not None:
        return f"{why}, and its provider is in {placed.region or 'a region that nobody named'}"
    there = [
        f"{pool} in {rules.regions.region_of(pool) or 'a region that nobody named'}: {rules.state(pool)}" for pool in pools
    ]
    return f"{why}, and no pool there can serve it ({'; '.join(there)})"
