"""A pool as the stages see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from extproc.pool import PoolStore
from extproc.scheduling import SaturationDetector, Scheduler
from extproc.stages.draft import Draft
from extproc.traffic import PoolTraffic


class PoolOfEndpoints(NamedTuple):
    """What is known of the pool, how it is chosen from, how full it is, and what its objects say of its requests."""

    store: PoolStore
    scheduler: Scheduler
    detector: SaturationDetector
    traffic: PoolTraffic


Pools: TypeAlias = Mapping[str, PoolOfEndpoints]


def pool_of(pools: Pools, draft: Draft, default: str | None) -> tuple[str, PoolOfEndpoints]:
    """The pool that the draft was routed to, else the default one."""
    name = draft.pool or default
    assert name is not None, "a picker without routes has a default pool"
    return name, pools[name]
