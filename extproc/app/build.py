"""What each subcommand is made of: settings become parts.

Everything that can be wrong is found here, before anything listens.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from extproc import names
from extproc.app.adapters import AdaptersFile
from extproc.app.cluster import Cluster
from extproc.app.kubernetes import WatchedAdapters, picker_source, pool_source, wants_config_maps, watch_objects, why_kubernetes
from extproc.app.leadership import Leadership
from extproc.app.metrics_tls import metrics_tls
from extproc.app.pools import Pool, PoolParts, pool_parts, read_document, scrape_driver
from extproc.app.service import Service, Telemetry
from extproc.app.tls import server_tls
from extproc.app.upstream import with_parameters
from extproc.director import Director
from extproc.domain import HeaderMutation
from extproc.live import Live, LiveWriter
from extproc.observability.decisions import DecisionLog
from extproc.observability.logs import logger
from extproc.observability.metrics import AdmissionMetrics, PickerMetrics, RewriteMetrics, RouterMetrics
from extproc.observability.responses import ResponseMetrics
from extproc.pool import PoolStore
from extproc.protocol import BodyMode, ProtocolConfig, StreamLimits
from extproc.request import ParseOptions, is_upgrade, scanner_of
from extproc.scraping.driver import Driver
from extproc.settings.base import SettingsError
from extproc.settings.commands import (
    BbrSettings,
    EarlySettings,
    EppSettings,
    GatewaySettings,
    PickerConfigSettings,
    PickingSettings,
    ScrapingSettings,
)
from extproc.settings.document import Document, load_document
from extproc.settings.gateway import GatewayParts, gateway_parts, scheduling_of
from extproc.settings.picker import DEFAULT_PICKER, EndpointPickerConfig, gate_warnings, load_picker_config
from extproc.settings.server import BodySettings
from extproc.stages import (
    AdmitByPriority,
    FindStored,
    ModelHeaders,
    PickEndpoint,
    PoolOfEndpoints,
    RewriteModel,
    RouteToPool,
    Stage,
)
from extproc.traffic import AdapterMap, Route, RouteTable, StoredResponses

_log = logger(__name__)


def build_bbr(settings: BbrSettings) -> Service:
    """The body-based router. Raises SettingsError."""
    telemetry = Telemetry(settings.metrics_max_models)
    metrics = RouterMetrics(telemetry.instruments)
    adapters = telemetry.tables.watch(LiveWriter(AdapterMap(), "adapters"))
    headers = ModelHeaders(metrics, adapters.live, settings.headers)
    telemetry.models.configured.append(lambda model: adapters.live.value.has(model))
    problems: list[str] = []
    tls = server_tls(settings, telemetry.instruments, telemetry.files, problems)
    admin_tls = metrics_tls(settings, telemetry.files, problems)
    background: list[Callable[[], Awaitable[None]]] = []
    try:
        background = _watch_adapters(settings.adapters_file, "--adapters-file", adapters, telemetry)
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems)
    cluster = watched = None
    if wants_config_maps(settings):
        cluster = Cluster(settings.kubeconfig, telemetry.instruments, why="--adapter-configmaps")
        watched = WatchedAdapters(settings, adapters, cluster)
    options = ParseOptions(settings.invalid_json_passes, settings.text_models, settings.max_inflated_body_bytes)
    director = Director([headers], telemetry.streams, router_metrics=metrics, options=options)
    mode = BodyMode.FULL_DUPLEX_STREAMED if settings.streaming else BodyMode.BUFFERED
    limits = _limits(settings)._replace(fallback=ProtocolConfig(mode, mode))
    return Service(
        "bbr",
        settings,
        telemetry,
        director,
        limits,
        background=background,
        tls=tls,
        metrics_tls=admin_tls,
        cluster=cluster,
        adapters=watched,
    )


def build_epp(settings: EppSettings) -> Service:
    """The endpoint picker of one pool. Raises SettingsError with every problem."""
    problems: list[str] = []
    document, prefix = _picker_document(settings, problems)
    config, warnings = _picker_config(settings, document, prefix, problems)
    telemetry = Telemetry(settings.metrics_max_models)
    tls = server_tls(settings, telemetry.instruments, telemetry.files, problems)
    admin_tls = metrics_tls(settings, telemetry.files, problems)
    parts = None
    try:
        parts = pool_parts(
            config,
            prefix=prefix,
            static=list(settings.endpoints),
            static_path="--endpoints",
            file=None,
            base=Path.cwd(),
            kubernetes=picker_source(settings),
        )
    except SettingsError as error:
        problems += error.problems
    if problems or parts is None:
        raise SettingsError(problems if document is None else document.locate_all(problems, prefix))
    for warning in warnings:
        _log.warning("config", warning=warning)
    needs_cluster = settings.ha_enable_leader_election or parts.kubernetes is not None
    cluster = Cluster(settings.kubeconfig, telemetry.instruments, why=why_kubernetes(settings)) if needs_cluster else None
    pool = _pool(settings.pool, parts, settings, telemetry, scrape_driver(telemetry.instruments), cluster)
    decisions = DecisionLog()
    unread_bodies = _reads_no_body(config, parts)
    options = ParseOptions(max_inflated_bytes=settings.max_inflated_body_bytes, unread_bodies=unread_bodies)
    stages = _picking({pool.store.name: _of_stages(pool, parts)}, settings, telemetry, decisions, options, pool.store.name)
    director = Director(stages, telemetry.streams, options=options)
    # Upstream's picker marks every answer that passed it; its users' checks look for the mark.
    marker = HeaderMutation(set_headers=((names.RESPONSE_MARKER_HEADER, "true"),))
    limits = _limits(settings)._replace(on_response_headers=marker)
    if unread_bodies:
        limits = limits._replace(decides_on_headers=lambda head: True)
    leadership = None
    if settings.ha_enable_leader_election and cluster is not None:
        leadership = Leadership(settings, cluster, telemetry.instruments)
    return Service(
        "epp",
        settings,
        telemetry,
        director,
        limits,
        [pool],
        decisions,
        _objects([pool], cluster),
        tls=tls,
        metrics_tls=admin_tls,
        cluster=cluster,
        leadership=leadership,
    )


def _picker_document(settings: PickerConfigSettings, problems: list[str]) -> tuple[Document | None, str]:
    """The config that is given, and how its problems begin; None when there is none, or what can't be read."""
    try:
        if settings.config_file is not None:
            return read_document(settings.config_file, "--config-file"), f"{settings.config_file}: "
        if settings.config_text is not None:
            return load_document(settings.config_text), "--config-text: "
    except SettingsError as error:
        problems += error.problems if settings.config_file else [f"--config-text: {problem}" for problem in error.problems]
    return None, ""


def _picker_config(
    settings: PickerConfigSettings, document: Document | None, prefix: str, problems: list[str]
) -> tuple[EndpointPickerConfig | None, list[str]]:
    """The config with what flags add to it, None when it is wrong, and warnings. What is wrong goes to `problems`."""
    if document is None and (settings.config_file or settings.config_text):
        return None, []
    config, warnings = DEFAULT_PICKER, list[str]()
    try:
        if document is not None:
            config, warnings = load_picker_config(document)
    except SettingsError as error:
        problems += [prefix + problem for problem in error.problems]
        return None, []
    config, more = with_parameters(config, settings.upstream_parameters)
    warnings = [prefix + warning for warning in warnings + more]
    return config, warnings + [f"--feature-gates: {warning}" for _, warning in gate_warnings(settings.feature_gates)]


def build_gateway(settings: GatewaySettings) -> Service:
    """Router and picker on one stream. Raises SettingsError with every problem."""
    path = Path(settings.config_file)
    prefix = f"{settings.config_file}: "
    telemetry = Telemetry(settings.metrics_max_models)
    problems: list[str] = []
    tls = server_tls(settings, telemetry.instruments, telemetry.files, problems)
    admin_tls = metrics_tls(settings, telemetry.files, problems)
    config, document = GatewayParts(), None
    try:
        document = read_document(settings.config_file, "--config-file")
        config = gateway_parts(document)
        problems += [prefix + problem for problem in config.problems]
    except SettingsError as error:
        problems += error.problems
    router_metrics = RouterMetrics(telemetry.instruments)
    adapters = telemetry.tables.watch(LiveWriter(AdapterMap(), "adapters"))
    headers = ModelHeaders(router_metrics, adapters.live)
    parts = _gateway_parts(config, path.parent, prefix, problems)
    background: list[Callable[[], Awaitable[None]]] = []
    try:
        file = None if config.adapters_file is None else str(path.parent / config.adapters_file)
        background = _watch_adapters(file, prefix + "adaptersFile", adapters, telemetry)
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems if document is None else document.locate_all(problems, prefix))
    needs_cluster = any(built.kubernetes is not None for built in parts.values())
    why = prefix + "pools[].endpoints.kubernetes"
    cluster = Cluster(settings.kubeconfig, telemetry.instruments, why=why) if needs_cluster else None
    driver = scrape_driver(telemetry.instruments)
    pools = {name: _pool(name, built, settings, telemetry, driver, cluster) for name, built in parts.items()}
    background += _objects(list(pools.values()), cluster)
    decisions = DecisionLog()
    options = ParseOptions(max_inflated_bytes=settings.max_inflated_body_bytes)
    of_stages = {name: _of_stages(pool, parts[name]) for name, pool in pools.items()}
    picking = _picking(of_stages, settings, telemetry, decisions, options)
    served = [Route(tuple(route.models), route.pool) for route in config.routes.values()]
    routes = Live(RouteTable(served, config.default_pool), "routes")
    telemetry.models.configured += [lambda model: routes.value.has(model), lambda model: adapters.live.value.has(model)]
    telemetry.models.only_configured = True
    director = Director(
        [headers, FindStored(StoredResponses()), RouteToPool(routes, int(time.time()), adapters.live), *picking],
        telemetry.streams,
        router_metrics=router_metrics,
        options=options,
    )
    return Service(
        "gateway",
        settings,
        telemetry,
        director,
        _limits(settings),
        list(pools.values()),
        decisions,
        background,
        tls,
        admin_tls,
        cluster=cluster,
    )


def _reads_no_body(config: EndpointPickerConfig | None, parts: PoolParts) -> bool:
    """Whether `passthrough-parser` is the only parser: bodies may be anything, and no plugin wants to see one."""
    parsers = [] if config is None else config.request_handler.parsers
    chosen = {parts.blueprint.types[parser.plugin_ref] for parser in parsers}
    return chosen == {"passthrough-parser"}


def _limits(settings: BodySettings) -> StreamLimits:
    early = isinstance(settings, EarlySettings) and settings.early
    return StreamLimits(
        settings.max_body_bytes,
        request_timeout_s=settings.request_timeout,
        decides_on_headers=is_upgrade,
        scanner_of=scanner_of if early else None,
    )


def _gateway_parts(config: GatewayParts, base: Path, prefix: str, problems: list[str]) -> dict[str, PoolParts]:
    routed = {route.pool for route in config.routes.values()}
    parts = {}
    for index, spec in config.pools.items():
        try:
            picker, where, warnings = scheduling_of(config.scheduling, spec, index)
            parts[spec.name] = pool_parts(
                picker,
                prefix=prefix + where,
                static=spec.endpoints.static,
                static_path=f"{prefix}pools[{index}].endpoints.static",
                file=spec.endpoints.file,
                base=base,
                kubernetes=pool_source(spec),
            )
        except SettingsError as error:
            # A common `scheduling` is checked once for each pool; its problems are said once.
            problems += [
                line
                for problem in error.problems
                if (line := problem if problem.startswith(prefix) else prefix + problem) not in problems
            ]
            continue
        for warning in warnings:
            _log.warning("config", warning=prefix + warning)
        if spec.name not in routed:
            _log.warning("config", warning=f"{prefix}pools[{index}]: no route leads to pool {spec.name!r}")
    return parts


def _pool(
    name: str,
    parts: PoolParts,
    settings: ScrapingSettings,
    telemetry: Telemetry,
    driver: Driver,
    cluster: Cluster | None = None,
) -> Pool:
    store = PoolStore(name, time.monotonic, stale_after_s=settings.metrics_staleness_threshold)
    interval_s = settings.refresh_metrics_interval
    return Pool(store, parts, telemetry.instruments, telemetry.files, interval_s=interval_s, driver=driver, cluster=cluster)


def _of_stages(pool: Pool, parts: PoolParts) -> PoolOfEndpoints:
    blueprint = parts.blueprint
    return PoolOfEndpoints(
        pool.store, blueprint.scheduler(random.random), blueprint.detector(pool.interval_s), pool.tables.traffic
    )


def _picking(
    pools: Mapping[str, PoolOfEndpoints],
    settings: PickingSettings,
    telemetry: Telemetry,
    decisions: DecisionLog,
    options: ParseOptions,
    only: str | None = None,
) -> list[Stage]:
    """The stages from a pool to an endpoint. `only`: there is one pool and no route to it, an endpoint picker."""
    metrics = PickerMetrics(telemetry.instruments, only)
    telemetry.instruments.names = settings.metrics_names
    telemetry.models.configured.append(lambda model: any(pool.traffic.rewrites.value.has(model) for pool in pools.values()))
    first = [] if only is None else [FindStored(StoredResponses())]
    return [
        *first,
        RewriteModel(pools, RewriteMetrics(telemetry.instruments), random.random, default_pool=only, options=options),
        AdmitByPriority(
            pools,
            AdmissionMetrics(telemetry.instruments),
            metrics,
            default_pool=only,
            ignore_subset=settings.disable_endpoint_subset_filter,
        ),
        PickEndpoint(
            pools,
            metrics,
            decisions,
            default_pool=only,
            model_required=only is not None,
            responses=_responses(settings, telemetry),
            emit_scores=settings.emit_endpoint_scores,
            ignore_subset=settings.disable_endpoint_subset_filter,
        ),
    ]


def _objects(pools: Sequence[Pool], cluster: Cluster | None) -> list[Callable[[], Awaitable[None]]]:
    return [] if cluster is None else [partial(watch_objects, pools, cluster)]


def _responses(settings: PickingSettings, telemetry: Telemetry) -> ResponseMetrics | None:
    return ResponseMetrics(telemetry.instruments) if settings.response_metrics else None


def _watch_adapters(
    file: str | None, label: str, adapters: LiveWriter[AdapterMap], telemetry: Telemetry
) -> list[Callable[[], Awaitable[None]]]:
    return [] if file is None else [AdaptersFile(file, label, adapters, telemetry.files).run]
