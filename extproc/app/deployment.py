"""Which stages run on a stream of each command, in which order, and what each is made from.

A stage of one's own is one line more: a function from `Parts` to a `Stage`, put where it belongs in the list that `build` gets:

    build(settings, [*STAGES["bbr"], lambda parts: MyStage()])
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from extproc.app.telemetry import Telemetry
from extproc.audit.waiting import Waiting
from extproc.flow import Gate
from extproc.live import Live
from extproc.measures import Measures
from extproc.observability.decisions import DecisionLog
from extproc.observability.flow import FlowMetrics
from extproc.observability.measures import FeedbackMetrics, MeasureMetrics
from extproc.observability.metrics import RouterMetrics
from extproc.observability.picker import AdmissionMetrics, PickerMetrics, RewriteMetrics
from extproc.observability.regions import RegionMetrics
from extproc.observability.responses import ResponseMetrics
from extproc.observability.serving import LimitMetrics, ServingMetrics
from extproc.request import KeyFinder, ParseOptions
from extproc.settings.commands import PickingSettings
from extproc.settings.router import HeaderRules
from extproc.settings.tokens import TokenTable
from extproc.stages import (
    AdmitByPriority,
    Again,
    AskProvider,
    AuditDecisions,
    CheckAccess,
    ChooseRegion,
    Copier,
    CopyToShadows,
    FindEndpoint,
    FindStored,
    HearFeedback,
    LimitRate,
    MeasureEntities,
    ModelHeaders,
    PickEndpoint,
    PoolOfEndpoints,
    Providers,
    RegionRules,
    Reviewers,
    RewriteModel,
    RouteToPool,
    ServeEndpoint,
    Stage,
    WaitForRoom,
)
from extproc.traffic import AdapterMap, RouteTable, StoredResponses, TrafficTable
from extproc.traffic.segments import Segments


@dataclass
class Parts:
    """What stages are made from. A command has some of it."""

    telemetry: Telemetry
    options: ParseOptions = field(default_factory=ParseOptions)
    adapters: Live[AdapterMap] = field(default_factory=lambda: Live(AdapterMap()))
    headers: HeaderRules = field(default_factory=HeaderRules)
    routes: Live[RouteTable] = field(default_factory=lambda: Live(RouteTable([])))
    serving: Live[TrafficTable] = field(default_factory=lambda: Live(TrafficTable(), "serving endpoints"))
    tokens: Live[TokenTable] | None = None
    reviewers: Reviewers | None = None
    """Who may query serving endpoints, by a table or by whoever knows tokens; both None: everybody."""
    check_every_path: bool = False
    """Also what is not below /serving-endpoints/ needs a token."""
    providers: Providers | None = None
    """What is known of external providers; None: nothing serves external models."""
    external_patience_s: float = 0.0
    """How long their answers may take to begin; 0: as long as they like."""
    key_headers: Sequence[str] = ("x-user-id",)
    """Which headers a serving endpoint's split goes by, in this order."""
    measures: Measures | None = None
    """Of served entities; None: nobody wants any."""
    pools: Mapping[str, PoolOfEndpoints] = field(default_factory=dict)
    segments: Live[Segments] = field(default_factory=lambda: Live(Segments(), "segments"))
    """Which rules go by."""
    regions: RegionRules | None = None
    """Which of several pools serves a request; None: a gateway without regions."""
    again: Again | None = None
    """What attempts know of those before them, where there are regions."""
    gates: Mapping[str, Gate] = field(default_factory=dict)
    """Of the pools with flow control."""
    agent_headers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By pool, where agents say who they are."""
    only_pool: str | None = None
    """There is one pool and no route to it: an endpoint picker."""
    shadows: Copier | None = None
    """Sends copies of requests to shadows; None: there are none."""
    picking: PickingSettings = field(default_factory=PickingSettings)
    decisions: DecisionLog = field(default_factory=DecisionLog)
    audit: Waiting | None = None
    """Where a row of each decision goes; None: they are not kept."""
    audit_sample: float = 1.0

    @property
    def router_metrics(self) -> RouterMetrics:
        """The one set of a router's metrics; there is none before somebody asks."""
        return self.telemetry.instruments.once("router", lambda: RouterMetrics(self.telemetry.instruments))

    @property
    def picker_metrics(self) -> PickerMetrics:
        """The one set of a picker's metrics."""
        return self.telemetry.instruments.once("picker", lambda: PickerMetrics(self.telemetry.instruments, self.only_pool))

    @property
    def serving_metrics(self) -> tuple[ServingMetrics, LimitMetrics]:
        """The one set of metrics of serving endpoints."""
        instruments = self.telemetry.instruments
        return instruments.once("serving", lambda: (ServingMetrics(instruments), LimitMetrics(instruments)))

    @property
    def region_metrics(self) -> RegionMetrics:
        """The one set of metrics of regions."""
        instruments = self.telemetry.instruments
        return instruments.once("regions", lambda: RegionMetrics(instruments))

    @property
    def feedback_metrics(self) -> FeedbackMetrics:
        """The one set of metrics of what is said of answers."""
        instruments = self.telemetry.instruments
        return instruments.once("feedback", lambda: FeedbackMetrics(instruments))

    def measure_metrics(self, measures: Measures) -> MeasureMetrics:
        """The one set of series of measures."""
        instruments = self.telemetry.instruments
        return instruments.once("measures", lambda: MeasureMetrics(instruments, measures))


MakeStage: TypeAlias = Callable[[Parts], Stage | None]
"""None where there is nothing to do for the stage."""


def audit_decisions(parts: Parts) -> Stage | None:
    """Decisions that are kept."""
    return None if parts.audit is None else AuditDecisions(parts.audit, sample=parts.audit_sample)


def model_headers(parts: Parts) -> Stage:
    """The body-based router."""
    return ModelHeaders(parts.router_metrics, parts.adapters, parts.headers)


def route_to_pool(parts: Parts) -> Stage:
    """A gateway's routes."""
    return RouteToPool(parts.routes, int(time.time()), parts.adapters, parts.serving)


def find_endpoint(parts: Parts) -> Stage:
    """Serving endpoints by their names."""
    names = parts.tokens is None and parts.reviewers is None
    return FindEndpoint(parts.serving, parts.routes, parts.adapters, names=names)


def check_access(parts: Parts) -> Stage:
    """Tokens of requests."""
    return CheckAccess(parts.tokens, parts.reviewers, every_path=parts.check_every_path)


def limit_rate(parts: Parts) -> Stage:
    """Limits of serving endpoints."""
    return LimitRate(parts.serving, parts.serving_metrics[1], KeyFinder(parts.key_headers))


def serve_endpoint(parts: Parts) -> Stage:
    """Served entities."""
    region_of = None if parts.regions is None else parts.regions.origin_bytes
    keys = KeyFinder(parts.key_headers)
    return ServeEndpoint(parts.serving_metrics[0], random.random, keys, region_of=region_of, again=parts.again)


def choose_region(parts: Parts) -> Stage | None:
    """Pools in several regions."""
    rules = parts.regions
    return None if rules is None else ChooseRegion(rules, parts.region_metrics, parts.routes, parts.adapters, parts.again)


def hear_feedback(parts: Parts) -> Stage | None:
    """What clients say of answers."""
    return None if parts.measures is None else HearFeedback(parts.measures, parts.feedback_metrics)


def measure_entities(parts: Parts) -> Stage | None:
    """How served entities are doing."""
    return None if parts.measures is None else MeasureEntities(parts.measures)


def find_stored(parts: Parts) -> Stage:
    """Responses that an endpoint keeps."""
    return FindStored(StoredResponses())


def rewrite_model(parts: Parts) -> Stage:
    """Rewrites of the pool."""
    metrics = RewriteMetrics(parts.telemetry.instruments)
    return RewriteModel(parts.pools, metrics, random.random, default_pool=parts.only_pool, options=parts.options)


def admit_by_priority(parts: Parts) -> Stage:
    """Objectives of the pool."""
    return AdmitByPriority(
        parts.pools,
        AdmissionMetrics(parts.telemetry.instruments),
        parts.picker_metrics,
        default_pool=parts.only_pool,
        ignore_subset=parts.picking.disable_endpoint_subset_filter,
        queued=parts.gates,
    )


def wait_for_room(parts: Parts) -> Stage | None:
    """Flow control, where a pool has it."""
    if not parts.gates:
        return None
    metrics = FlowMetrics(parts.telemetry.instruments)
    return WaitForRoom(parts.gates, metrics, default_pool=parts.only_pool, agent_headers=parts.agent_headers)


def pick_endpoint(parts: Parts) -> Stage:
    """The endpoint picker."""
    settings = parts.picking
    return PickEndpoint(
        parts.pools,
        parts.picker_metrics,
        parts.decisions,
        default_pool=parts.only_pool,
        model_required=parts.only_pool is not None,
        responses=_responses(settings, parts.telemetry),
        emit_scores=settings.emit_endpoint_scores,
        ignore_subset=settings.disable_endpoint_subset_filter,
    )


def copy_to_shadows(parts: Parts) -> Stage | None:
    """Shadows of serving endpoints."""
    return None if parts.shadows is None else CopyToShadows(parts.shadows, random.random, rules=parts.regions)


def ask_provider(parts: Parts) -> Stage:
    """External models."""
    return AskProvider(parts.providers, parts.decisions, patience_s=parts.external_patience_s)


_PICKING: Final = (rewrite_model, admit_by_priority, wait_for_room, pick_endpoint)
_SERVING: Final = (find_endpoint, check_access, limit_rate, hear_feedback, serve_endpoint)
_PLACING: Final = (route_to_pool, choose_region, ask_provider)
STAGES: Final[Mapping[str, Sequence[MakeStage]]] = {
    "bbr": (model_headers,),
    "epp": (audit_decisions, find_stored, *_PICKING),
    "gateway": (
        audit_decisions,
        model_headers,
        find_stored,
        *_SERVING,
        *_PLACING,
        *_PICKING,
        copy_to_shadows,
        measure_entities,
    ),
}
"""By command. Rewrites and objectives belong to a pool, so they come behind the route to it; the route and the headers go by
the model that the client named. Regions come before providers, as those are somewhere too. The audit stands first, as it hears
of all."""


def _responses(settings: PickingSettings, telemetry: Telemetry) -> ResponseMetrics | None:
    asked = settings.response_metrics
    return None if asked == "off" else ResponseMetrics(telemetry.instruments, always=asked == "on")
