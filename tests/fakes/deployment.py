"""Pools, stages and a director, with time and chance of the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from extproc.director import Director
from extproc.domain import Endpoint, InferenceRequest, Load, RequestHead
from extproc.flow import FlowPlan, FlowQueues, Gate, Gauge
from extproc.live import Live
from extproc.observability.decisions import DecisionLog
from extproc.observability.flow import FlowMetrics
from extproc.observability.instruments import Instruments
from extproc.observability.metrics import RouterMetrics, StreamMetrics
from extproc.observability.picker import AdmissionMetrics, PickerMetrics, RewriteMetrics
from extproc.observability.responses import ResponseMetrics
from extproc.observability.serving import LimitMetrics, ServingMetrics
from extproc.pool import PoolStore
from extproc.request import KeyFinder, ParseOptions
from extproc.scheduling import build_scheduler
from extproc.scheduling.plugins.base import PluginType
from extproc.settings.picker import DEFAULT_PICKER, load_picker_config
from extproc.settings.router import HeaderRules
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
    WaitForRoom,
)
from extproc.traffic import (
    AdapterMap,
    Catalog,
    EndpointSpec,
    PoolTables,
    Route,
    RouteTable,
    ServingEndpoint,
    TrafficTable,
)
from tests.fakes.candidates import endpoints
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock, FakeLater
from tests.fakes.events import HEAD

IDLE = Load(waiting=0, running=0, kv_usage=0.0)


def request(model: str | None = "m", *, head: RequestHead = HEAD, **fields: object) -> InferenceRequest:
    """A request that was read."""
    values = {"body_bytes": 100, **fields}
    return InferenceRequest(head, head.text(":path"), model, **values)  # type: ignore[arg-type]


class Deployment:
    """What a server is made of, without a server."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.instruments = Instruments()
        self.stream_metrics = StreamMetrics(self.instruments)
        self.router_metrics = RouterMetrics(self.instruments)
        self.picker_metrics = PickerMetrics(self.instruments)
        self.log = DecisionLog()
        self.rewrite_metrics = RewriteMetrics(self.instruments)
        self.admission_metrics = AdmissionMetrics(self.instruments)
        self.pools: dict[str, PoolOfEndpoints] = {}
        self.gates: dict[str, Gate] = {}
        self.later = FakeLater(self.clock)
        self.traffic: dict[str, PoolTables] = {}
        """What the objects of each pool say: tests replace the tables."""

    def add_pool(
        self,
        name: str,
        members: int | Sequence[Endpoint] = 2,
        *,
        config: str = "",
        idle: bool = True,
        types: Mapping[str, PluginType] = {},
    ) -> PoolStore:
        """A pool whose endpoints are all idle, or not known at all; its config may name these types, too."""
        store = PoolStore(name, self.clock)
        chosen = endpoints(members) if isinstance(members, int) else members
        store.replace_endpoints(chosen)
        if idle:
            for endpoint in chosen:
                store.page_started(endpoint.key)
                store.page_read(endpoint.key, IDLE)
        picker_config = load_picker_config(config)[0] if config else DEFAULT_PICKER
        blueprint = build_scheduler(picker_config, elsewhere=types)
        self.traffic[name] = PoolTables(name)
        self.pools[name] = PoolOfEndpoints(store, *blueprint.pool(seeded(), self.clock), self.traffic[name].traffic)
        return store

    def headers(self, adapters: AdapterMap = AdapterMap(), rules: HeaderRules = HeaderRules()) -> ModelHeaders:
        return ModelHeaders(self.router_metrics, Live(adapters), rules)

    def routes(self, adapters: AdapterMap = AdapterMap(), /, **models: Sequence[str]) -> RouteToPool:
        """Models by pool."""
        table = RouteTable([Route(tuple(names), pool) for pool, names in models.items()])
        return RouteToPool(Live(table), 1_700_000_000, Live(adapters))

    def serving(
        self,
        *endpoints: EndpointSpec,
        draw: Callable[[], float] | None = None,
        key_headers: Sequence[str] = ("x-user-id",),
        names: bool = True,
        **models: Sequence[str],
    ) -> tuple[FindEndpoint, LimitRate, ServeEndpoint]:
        """Serving endpoints over the models of pools: the stages of them, in order. `names` as FindEndpoint has it."""
        routes = RouteTable([Route(tuple(names), pool) for pool, names in models.items()])
        catalog = Catalog(routes=routes)
        table = Live(TrafficTable([ServingEndpoint(spec, catalog) for spec in endpoints]))
        keys = KeyFinder(key_headers)
        return (
            FindEndpoint(table, Live(routes), names=names),
            LimitRate(table, LimitMetrics(self.instruments), keys, clock=self.clock),
            ServeEndpoint(ServingMetrics(self.instruments), draw or seeded(), keys),
        )

    def rewriter(
        self,
        default_pool: str | None = "p",
        *,
        draw: Callable[[], float] | None = None,
        options: ParseOptions = ParseOptions(),
    ) -> RewriteModel:
        chance = draw or seeded()
        return RewriteModel(self.pools, self.rewrite_metrics, chance, default_pool=default_pool, options=options)

    def admission(self, default_pool: str | None = "p", *, ignore_subset: bool = False) -> AdmitByPriority:
        return AdmitByPriority(
            self.pools,
            self.admission_metrics,
            self.picker_metrics,
            default_pool=default_pool,
            ignore_subset=ignore_subset,
            queued=self.gates,
            clock=self.clock,
        )

    def queue(self, default_pool: str | None = "p", **plans: FlowPlan) -> WaitForRoom:
        """Flow control of these pools; who may go is told when the test lets time pass (`self.later`)."""
        for name, plan in plans.items():
            pool = self.pools[name]
            queues = FlowQueues(plan, self.clock())
            gate = Gate(queues, Gauge(pool.store, pool.detector), pool.store.__len__, self.clock, self.later)
            pool.store.news = gate.news
            self.gates[name] = gate
        return WaitForRoom(self.gates, FlowMetrics(self.instruments), default_pool=default_pool, clock=self.clock)

    def picker(
        self,
        default_pool: str | None = "p",
        *,
        model_required: bool = False,
        responses: ResponseMetrics | None = None,
        emit_scores: bool = False,
        ignore_subset: bool = False,
    ) -> PickEndpoint:
        return PickEndpoint(
            self.pools,
            self.picker_metrics,
            self.log,
            default_pool=default_pool,
            model_required=model_required,
            responses=responses,
            emit_scores=emit_scores,
            ignore_subset=ignore_subset,
            clock=self.clock,
            wall_clock=self.clock,
        )

    def director(self, *stages: Stage, options: ParseOptions = ParseOptions()) -> Director:
        return Director(
            stages,
            self.stream_metrics,
            router_metrics=self.router_metrics,
            options=options,
            clock=self.clock,
        )
