"""The core alone: recorded messages through codec, stream and director, without a socket; and the pick alone."""

from __future__ import annotations

import gc
import random
import time
import timeit
from collections.abc import Callable, Sequence

from extproc.director import Director
from extproc.domain import Endpoint, InferenceRequest, Load, RequestHead
from extproc.live import Live
from extproc.observability.decisions import DecisionLog
from extproc.observability.instruments import Instruments
from extproc.observability.metrics import RouterMetrics, StreamMetrics
from extproc.observability.picker import AdmissionMetrics, PickerMetrics, RewriteMetrics
from extproc.pool import PoolStore
from extproc.protocol import StreamLimits
from extproc.scheduling import Cycle, build_scheduler
from extproc.settings.picker import DEFAULT_PICKER, EndpointPickerConfig
from extproc.stages import AdmitByPriority, ModelHeaders, PickEndpoint, PoolOfEndpoints, RewriteModel, RouteToPool, Stage
from extproc.traffic import PoolTables, Route, RouteTable
from extproc.transport.codec import Encoder
from extproc.transport.session import Session
from tests.bench.configs import LOAD_ONLY
from tests.bench.recorded import MODEL, STREAMS
from tests.bench.table import Row

_BUDGETS_US = {("router", "1 KB"): 25, ("router", "100 KB"): 120, ("picker", "1 KB"): 45, ("gateway", "1 KB"): 55}

FOUR_SCORERS = EndpointPickerConfig.model_validate(
    {
        "plugins": [
            {"type": "queue-scorer"},
            {"type": "kv-cache-utilization-scorer"},
            {"type": "running-requests-size-scorer"},
            {"type": "active-request-scorer"},
        ]
    }
)


def make_store(endpoints: int) -> PoolStore:
    """A pool whose endpoints have all been read."""
    draw = random.Random(1)
    store = PoolStore("bench", time.monotonic, stale_after_s=3600)
    store.replace_endpoints([Endpoint(f"10.0.{i // 250}.{i % 250 + 1}", 8000) for i in range(endpoints)])
    for endpoint in list(store.candidates().endpoints):
        store.page_started(endpoint.key)
        store.page_read(endpoint.key, Load(draw.randint(0, 5), draw.randint(0, 9), draw.random()))
    return store


def directors() -> dict[str, Director]:
    """One for each deployment, ten endpoints where it picks."""
    instruments = Instruments()
    streams, router, picker = StreamMetrics(instruments), RouterMetrics(instruments), PickerMetrics(instruments)

    rewrites, admission = RewriteMetrics(instruments), AdmissionMetrics(instruments)

    def picking(config: EndpointPickerConfig, *, required: bool) -> list[Stage]:
        blueprint = build_scheduler(config)
        pool = PoolOfEndpoints(make_store(10), *blueprint.pool(random.random, time.monotonic), PoolTables().traffic)
        pools = {"bench": pool}
        return [
            RewriteModel(pools, rewrites, random.random, default_pool="bench"),
            AdmitByPriority(pools, admission, picker, default_pool="bench"),
            PickEndpoint(pools, picker, DecisionLog(), default_pool="bench", model_required=required),
        ]

    routes = RouteToPool(Live(RouteTable([Route((MODEL,), "bench")])), 0)
    plain = EndpointPickerConfig.model_validate(LOAD_ONLY)
    return {
        "router": Director([ModelHeaders(router)], streams, router_metrics=router),
        "picker": Director(picking(plain, required=True), streams),
        "picker, default config": Director(picking(DEFAULT_PICKER, required=True), streams),
        "gateway": Director([ModelHeaders(router), routes, *picking(plain, required=False)], streams, router_metrics=router),
    }


def stream_runner(director: Director, messages: Sequence[bytes]) -> Callable[[], None]:
    """Runs one whole stream."""
    encoder, limits = Encoder(), StreamLimits()

    def run() -> None:
        session = Session(director, encoder, limits)
        for message in messages:
            session.receive(message)
        session.closed()

    return run


def measure_us(run: Callable[[], object], number: int, repeat: int = 7) -> float:
    """Median of `repeat` rounds, in µs a call, by process CPU time."""
    run()
    gc.collect()
    rounds = sorted(timeit.repeat(run, number=number, repeat=repeat, timer=time.process_time))
    return rounds[repeat // 2] / number * 1e6


def core_rows(floor_us: dict[str, float]) -> list[Row]:
    """CPU per stream of each deployment; `floor_us` by size, for the ratio."""
    rows = []
    for name, director in directors().items():
        for size, messages in STREAMS.items():
            value = measure_us(stream_runner(director, messages), 4000 if size == "1 KB" else 800)
            ratio = value / floor_us[size] if size in floor_us else None
            rows.append(Row(f"{name}, {size}", value, "µs", _BUDGETS_US.get((name, size)), ratio))
    return rows


def pick_rows() -> list[Row]:
    """The pick alone with four scorers: candidates, points, choice, in-flight count."""
    rows = []
    for endpoints, budget in ((10, 20.0), (100, None), (1000, 120.0)):
        store = make_store(endpoints)
        scheduler = build_scheduler(FOUR_SCORERS).scheduler(random.Random(1).random)
        request = InferenceRequest(RequestHead({}), "/v1/chat/completions")

        def run(store: PoolStore = store, scheduler=scheduler, request: InferenceRequest = request) -> None:  # type: ignore[no-untyped-def]
            candidates = store.candidates()
            pick = scheduler.schedule(Cycle(request), candidates).run.pick
            store.release(store.picked(candidates.endpoints[pick.positions[0]]))

        rows.append(Row(f"pick, 4 scorers, {endpoints} endpoints", measure_us(run, 3000), "µs", budget))
    return rows
