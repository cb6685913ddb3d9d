"""Serving endpoints: what a request through one costs more than one for a pool's model, and how exact the split is."""

from __future__ import annotations

import random
import time
from collections import Counter

from extproc import compiled
from extproc.director import Director
from extproc.live import Live
from extproc.observability.decisions import DecisionLog
from extproc.observability.instruments import Instruments
from extproc.observability.metrics import AdmissionMetrics, PickerMetrics, RewriteMetrics, RouterMetrics, StreamMetrics
from extproc.observability.serving import LimitMetrics, ServingMetrics
from extproc.request import KeyFinder
from extproc.scheduling import build_scheduler
from extproc.settings.picker import EndpointPickerConfig
from extproc.stages import (
    AdmitByPriority,
    FindEndpoint,
    LimitRate,
    ModelHeaders,
    PickEndpoint,
    PoolOfEndpoints,
    RewriteModel,
    RouteToPool,
    ServeEndpoint,
    Stage,
)
from extproc.traffic import (
    Catalog,
    EndpointSpec,
    EntitySpec,
    PoolTables,
    Route,
    RouteTable,
    ServingEndpoint,
    TrafficTable,
)
from tests.bench.configs import LOAD_ONLY
from tests.bench.core import make_store, measure_us, stream_runner
from tests.bench.recorded import MODEL, STREAMS
from tests.bench.table import Row

_MORE_US, _MANY_US, _POINTS = 8.0, 2.0, 0.2
_KEYS = 1_000_000
_KEY_HEADER = "user-agent"
"""A header that the recorded streams have: the key of the split."""
_ROUTES = RouteTable([Route((MODEL, *[f"model-{i}" for i in range(10)]), "bench")])
_CATALOG = Catalog(routes=_ROUTES)


def _endpoint(name: str, entities: int) -> ServingEndpoint:
    specs = tuple(EntitySpec(f"entity-{i}", f"model-{i}") for i in range(entities))
    each = 100 // entities
    return ServingEndpoint(EndpointSpec(name, specs, (*[each] * (entities - 1), 100 - each * (entities - 1))), _CATALOG)


def _gateway(table: TrafficTable) -> Director:
    instruments = Instruments()
    router, picker = RouterMetrics(instruments), PickerMetrics(instruments)
    blueprint = build_scheduler(EndpointPickerConfig.model_validate(LOAD_ONLY))
    pool = PoolOfEndpoints(make_store(10), *blueprint.pool(random.random, time.monotonic), PoolTables().traffic)
    pools, live, keys = {"bench": pool}, Live(table), KeyFinder([_KEY_HEADER])
    stages: list[Stage] = [
        ModelHeaders(router),
        FindEndpoint(live),
        LimitRate(live, LimitMetrics(instruments), keys),
        ServeEndpoint(ServingMetrics(instruments), random.random, keys),
        RouteToPool(Live(_ROUTES), 0),
        RewriteModel(pools, RewriteMetrics(instruments), random.random, default_pool="bench"),
        AdmitByPriority(pools, AdmissionMetrics(instruments), picker, default_pool="bench"),
        PickEndpoint(pools, picker, DecisionLog(), default_pool="bench", model_required=False),
    ]
    return Director(stages, StreamMetrics(instruments), router_metrics=router)


def _cost_us(*tables: TrafficTable) -> list[float]:
    """Of a 1 KB request through each, in turns, so that what disturbs one disturbs all; the least of five."""
    runs = [stream_runner(_gateway(table), STREAMS["1 KB"]) for table in tables]
    rounds = [[measure_us(run, 2000, 3) for run in runs] for _ in range(5)]
    return [min(each) for each in zip(*rounds, strict=True)]


def _largest_deviation() -> float:
    """Points between what a share is and what it should be."""
    endpoint = _endpoint("shares", 10)
    counts = Counter(endpoint.choose(b"user-%d" % user, random.random)[0].name for user in range(_KEYS))
    return max(abs(counts[entity.name] * 100 / _KEYS - entity.percentage) for entity in endpoint.entities)


def serving_rows() -> list[Row]:
    """The costs have bars where the hot path is compiled."""
    ten = _endpoint(MODEL, 10)
    many = TrafficTable([_endpoint(MODEL, 4), *[_endpoint(f"endpoint-{i}", 4) for i in range(999)]])
    plain_us, ten_us, four_us, many_us = _cost_us(
        TrafficTable(), TrafficTable([ten]), TrafficTable([_endpoint(MODEL, 4)]), many
    )
    more, most = (_MORE_US, _MANY_US) if compiled() else (None, None)
    return [
        Row("a pool's model, 1 KB", plain_us, "µs"),
        Row("through an endpoint of 10 entities, by a key, rewritten: more", ten_us - plain_us, "µs", more),
        Row("with 1,000 endpoints of 4 there: more than with that one", many_us - four_us, "µs", most),
        Row(f"{_KEYS:,} keys: the share that is farthest from its percentage", _largest_deviation(), "points", _POINTS),
    ]
