"""Serving endpoints: what a request through one costs more than one for a pool's model, and how exact the split is."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence

from extproc import compiled
from extproc.director import Director
from extproc.live import Live
from extproc.measures import Measures, Sample
from extproc.observability.decisions import DecisionLog
from extproc.observability.instruments import Instruments
from extproc.observability.measures import FeedbackMetrics
from extproc.observability.metrics import RouterMetrics, StreamMetrics
from extproc.observability.picker import AdmissionMetrics, PickerMetrics, RewriteMetrics
from extproc.observability.responses import ResponseMetrics
from extproc.observability.serving import LimitMetrics, ServingMetrics
from extproc.request import KeyFinder
from extproc.scheduling import build_scheduler
from extproc.settings.picker import EndpointPickerConfig
from extproc.stages import (
    AdmitByPriority,
    FindEndpoint,
    HearFeedback,
    LimitRate,
    MeasureEntities,
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
from extproc.traffic.conditions import Wanted
from extproc.traffic.experiments import ArmSpec, ExperimentSpec
from extproc.traffic.match import MatchSpec, RuleSpec
from extproc.traffic.segments import Segments, SegmentSpec
from tests.bench.configs import LOAD_ONLY
from tests.bench.core import make_store, measure_us, stream_runner
from tests.bench.recorded import MODEL, STREAMS, TOKENS, answer_messages
from tests.bench.table import Row

_MORE_US, _MANY_US, _RULES_US, _POINTS = 8.0, 2.0, 12.0, 0.2
_MEASURED_US = 3.0
_KEYS = 1_000_000
_SHORT = [*STREAMS["1 KB"], *answer_messages(2)]
_KEY_HEADER = "user-agent"
"""A header that the recorded streams have: the key of the split."""
_ROUTES = RouteTable([Route((MODEL, *[f"model-{i}" for i in range(10)]), "bench")])
_CATALOG = Catalog(routes=_ROUTES)


def _endpoint(name: str, entities: int) -> ServingEndpoint:
    specs = tuple(EntitySpec(f"entity-{i}", f"model-{i}") for i in range(entities))
    each = 100 // entities
    return ServingEndpoint(EndpointSpec(name, specs, (*[each] * (entities - 1), 100 - each * (entities - 1))), _CATALOG)


def _ruled() -> ServingEndpoint:
    """Twenty rules that do not match, five experiments that the user is in, segments of 100,000 users."""
    lists = [frozenset(b"%d-%d" % (segment, user) for user in range(100_000)) for segment in range(5)]
    segments = Segments(
        [
            *(SegmentSpec(f"list-{index}", keys=keys) for index, keys in enumerate(lists)),
            SegmentSpec("tenth", buckets=1000),
        ]
    )
    matches = [
        MatchSpec(headers=(("x-tier", Wanted("one_of", ("gold", "platinum"))),)),
        MatchSpec(path=Wanted("prefix", ("/serving-endpoints/",)), body=(("metadata.tier", Wanted("exact", ("gold",))),)),
        MatchSpec(model=Wanted("suffix", ("-old",))),
        MatchSpec(segments=("list-0", "list-1"), headers=(("x-beta", Wanted("present", (False,))),)),
        MatchSpec(body=(("user", Wanted("prefix", ("test-",))),), regions=("eu",)),
    ]
    rules = [RuleSpec(f"rule-{index}", (matches[index % len(matches)],), "entity-1") for index in range(20)]
    arms = (ArmSpec("control", 50), ArmSpec("treatment", 50))
    outside = (
        MatchSpec(segments=("list-2", "list-3", "list-4")),
        MatchSpec(headers=(("x-tier", Wanted("present", (False,))),)),
    )
    experiments = [ExperimentSpec(f"experiment-{index}", arms, outside) for index in range(4)]
    experiments.append(ExperimentSpec("decides", (ArmSpec("control", 50, "entity-0"), ArmSpec("treatment", 50, "entity-2"))))
    spec = _endpoint(MODEL, 10).spec
    return ServingEndpoint(spec._replace(rules=tuple(rules), experiments=tuple(experiments)), _CATALOG, segments)


def _gateway(table: TrafficTable, *, answers: bool = False, measures: Measures | None = None) -> Director:
    """`answers`: they are measured by model, as they are by default."""
    instruments = Instruments()
    router, picker = RouterMetrics(instruments), PickerMetrics(instruments)
    responses = ResponseMetrics(instruments, always=False) if answers else None
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
        PickEndpoint(pools, picker, DecisionLog(), default_pool="bench", model_required=False, responses=responses),
    ]
    if measures is not None:
        stages.insert(3, HearFeedback(measures, FeedbackMetrics(instruments)))
        stages.append(MeasureEntities(measures))
    return Director(stages, StreamMetrics(instruments), router_metrics=router)


def _cost_us(*tables: TrafficTable) -> list[float]:
    """Of a 1 KB request through each, in turns, so that what disturbs one disturbs all; the least of five."""
    runs = [stream_runner(_gateway(table), STREAMS["1 KB"]) for table in tables]
    rounds = [[measure_us(run, 2000, 3) for run in runs] for _ in range(5)]
    return [min(each) for each in zip(*rounds, strict=True)]


def _measured_us(messages: Sequence[bytes]) -> float:
    """What it costs more to measure entities, of one stream whose answer comes by here; the least of nine rounds of either."""
    table = TrafficTable([_endpoint(MODEL, 10)])
    measures = Measures(time.monotonic, remembered=10_000)
    without, with_ = [stream_runner(_gateway(table, answers=True, measures=given), messages) for given in (None, measures)]
    rounds = [(measure_us(without, 1000, 3), measure_us(with_, 1000, 3)) for _ in range(9)]
    return min(after for _, after in rounds) - min(before for before, _ in rounds)


def _tallied_us() -> float:
    """One sample into one tally."""
    measures = Measures(time.monotonic)
    sample = Sample()
    sample.headers_s, sample.ttft_s, sample.tpot_s, sample.e2e_s = 0.1, 0.2, 0.01, 3.0
    sample.input_tokens, sample.output_tokens, sample.finish_reason = 100, 200, "stop"
    sample.queue_at_pick, sample.hit_fraction = 1.0, 0.5
    cell = measures.cell("chat", "current")
    return measure_us(lambda: cell.add(sample), 20_000)


def _largest_deviation() -> float:
    """Points between what a share is and what it should be."""
    endpoint = _endpoint("shares", 10)
    counts = Counter(endpoint.choose(b"user-%d" % user, random.random)[0].name for user in range(_KEYS))
    return max(abs(counts[entity.name] * 100 / _KEYS - entity.percentage) for entity in endpoint.entities)


def serving_rows() -> list[Row]:
    """The costs have bars where the hot path is compiled."""
    ten = _endpoint(MODEL, 10)
    many = TrafficTable([_endpoint(MODEL, 4), *[_endpoint(f"endpoint-{i}", 4) for i in range(999)]])
    plain_us, ten_us, ruled_us, four_us, many_us = _cost_us(
        TrafficTable(), TrafficTable([ten]), TrafficTable([_ruled()]), TrafficTable([_endpoint(MODEL, 4)]), many
    )
    bars = (_MORE_US, _MANY_US, _MEASURED_US, _RULES_US) if compiled() else (None, None, None, None)
    more, most, measured, rules = bars
    return [
        Row("a pool's model, 1 KB", plain_us, "µs"),
        Row("through an endpoint of 10 entities, by a key, rewritten: more", ten_us - plain_us, "µs", more),
        Row(
            "with 20 rules, 5 experiments and segments of 100,000 users: more than with that one",
            ruled_us - ten_us,
            "µs",
            rules,
        ),
        Row("with 1,000 endpoints of 4 there: more than with that one", many_us - four_us, "µs", most),
        Row("measured by entity, an answer of 2 events: more", _measured_us(_SHORT), "µs", measured),
        Row("measured by entity, an answer of 100 events: more", _measured_us(TOKENS), "µs"),
        Row("one sample into one tally", _tallied_us(), "µs"),
        Row(f"{_KEYS:,} keys: the share that is farthest from its percentage", _largest_deviation(), "points", _POINTS),
    ]
