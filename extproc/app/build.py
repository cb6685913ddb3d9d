"""What each subcommand is made of: settings become a service.

Everything that can be wrong is found here, before anything listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from extproc import names
from extproc.app.adapters.configmaps import WatchedAdapters
from extproc.app.audit import audited_of, journal_of
from extproc.app.cluster import Cluster
from extproc.app.config_file import ConfigFile, read_document
from extproc.app.deployment import STAGES, MakeStage, Parts
from extproc.app.flow import FlowControl
from extproc.app.guard import metrics_guard
from extproc.app.kubernetes import (
    picker_source,
    pool_source,
    wants_config_maps,
    why_kubernetes,
)
from extproc.app.leadership import Leadership
from extproc.app.metrics_tls import metrics_tls
from extproc.app.plan import Plan
from extproc.app.plan_endpoints import Declared, catalog_of, only_models_of, plan_endpoints
from extproc.app.pool_parts import PoolParts, pool_parts
from extproc.app.regions import FOLLOWED, plan_regions, regions_of
from extproc.app.registry import FollowedRegistry
from extproc.app.servers import Serving
from extproc.app.service import Service
from extproc.app.shadow import Shadows
from extproc.app.telemetry import Telemetry
from extproc.app.tls import server_tls
from extproc.app.upstream import with_parameters
from extproc.control.store import Store
from extproc.director import Director
from extproc.domain import HeaderMutation
from extproc.live import Live
from extproc.observability.logs import logger
from extproc.protocol import EVERY_REQUEST, BodyMode, OnHeaders, ProtocolConfig, StreamLimits
from extproc.request import UPGRADE_MARKS, ParseOptions, is_upgrade, scanner_of
from extproc.settings.base import SettingsError
from extproc.settings.commands import (
    BbrSettings,
    EarlySettings,
    EppSettings,
    GatewaySettings,
    PickerConfigSettings,
    PickingSettings,
)
from extproc.settings.document import Document, load_document
from extproc.settings.gateway import GatewayParts, gateway_parts, load_gateway_config, scheduling_of
from extproc.settings.picker import DEFAULT_PICKER, EndpointPickerConfig, gate_warnings, load_picker_config
from extproc.storage.memory import MemoryStore
from extproc.storage.open import open_store
from extproc.traffic import Route, RouteTable

_log = logger(__name__)


Buildable: TypeAlias = BbrSettings | EppSettings | GatewaySettings


def build(settings: Buildable, stages: Sequence[MakeStage] | None = None) -> Service:
    """The service that these settings ask for. `stages` instead of the command's own, as `deployment.py` tells.

    Raises SettingsError with every problem.
    """
    telemetry = Telemetry(settings.metrics_max_models)
    options = ParseOptions(max_inflated_bytes=settings.max_inflated_body_bytes)
    plan = Plan(Parts(telemetry, options), settings.kubeconfig)
    if isinstance(settings, PickingSettings):
        telemetry.instruments.names = settings.metrics_names
    tls = server_tls(settings, telemetry.instruments, telemetry.files, plan.problems)
    admin_tls = metrics_tls(settings, telemetry.files, plan.problems)
    limits = StreamLimits(
        settings.max_body_bytes,
        request_timeout_s=settings.request_timeout,
        on_headers=OnHeaders(is_upgrade, UPGRADE_MARKS),
        scanner_of=scanner_of if isinstance(settings, EarlySettings) and settings.early else None,
    )
    if isinstance(settings, BbrSettings):
        name = "bbr"
        _plan_bbr(plan, settings)
        mode = BodyMode.FULL_DUPLEX_STREAMED if settings.streaming else BodyMode.BUFFERED
        limits = limits._replace(fallback=ProtocolConfig(mode, mode))
    elif isinstance(settings, EppSettings):
        name = "epp"
        _plan_epp(plan, settings)
        # Upstream's picker marks every answer that passed it; its users' checks look for the mark.
        marker = HeaderMutation(set_headers=((names.RESPONSE_MARKER_HEADER, "true"),))
        limits = limits._replace(on_response_headers=marker)
        if plan.parts.options.unread_bodies:
            limits = limits._replace(on_headers=EVERY_REQUEST)
    else:
        name = "gateway"
        _plan_gateway(plan, settings)
    parts = plan.parts
    if parts.gates:
        delay_s, timeout_s = settings.shutdown_delay, settings.drain_timeout
        plan.components.append(FlowControl(parts.gates, shutdown_delay_s=delay_s, drain_timeout_s=timeout_s))
    director = Director(
        [stage for make in (STAGES[name] if stages is None else stages) if (stage := make(parts)) is not None],
        telemetry.streams,
        router_metrics=None if name == "epp" else parts.router_metrics,
        options=parts.options,
    )
    plan.dry_run.director = director
    guard = metrics_guard(settings, plan.cluster, telemetry.instruments)
    decisions = None if name == "bbr" else parts.decisions
    serving = Serving(settings, director, limits, tls, admin_tls, guard, plan.stores, decisions, plan.plugins)
    serving.shadows = next((each.shapes for each in plan.components if isinstance(each, Shadows)), None)
    serving.registry = next((each.shape for each in plan.components if isinstance(each, FollowedRegistry)), None)
    around = [part for part in (guard, tls, admin_tls) if part is not None]
    return Service(name, serving, telemetry, [*around, *plan.components])


def _plan_bbr(plan: Plan, settings: BbrSettings) -> None:
    """The body-based router."""
    parts = plan.parts
    parts.options = ParseOptions(settings.invalid_json_passes, settings.text_models, settings.max_inflated_body_bytes)
    parts.headers = settings.headers
    adapters = plan.adapters(settings.adapters_file, "--adapters-file")
    plan.check()
    if wants_config_maps(settings):
        plan.cluster = Cluster(settings.kubeconfig, plan.instruments, why="--adapter-configmaps")
        plan.components.append(WatchedAdapters(settings, adapters, plan.cluster))


def _plan_epp(plan: Plan, settings: EppSettings) -> None:
    """The endpoint picker of one pool."""
    plan.audit(settings)
    plan.document, plan.prefix = document, prefix = _picker_document(settings, plan.problems)
    config, warnings = _picker_config(settings, document, prefix, plan.problems)
    built = None
    try:
        built = pool_parts(
            config,
            prefix=prefix,
            static=list(settings.endpoints),
            static_path="--endpoints",
            file=None,
            base=Path.cwd(),
            kubernetes=picker_source(settings),
            allow_missing=settings.allow_missing_plugins,
        )
    except SettingsError as error:
        plan.problems += error.problems
    plan.check()
    assert built is not None, "or there is a problem"
    for warning in (*warnings, *built.warnings):
        _log.warning("config", warning=warning)
    if settings.ha_enable_leader_election or built.kubernetes is not None:
        plan.needs_cluster(why_kubernetes(settings))
    parts = plan.parts
    parts.picking = settings
    parts.only_pool = settings.pool
    parts.options = parts.options._replace(unread_bodies=_reads_no_body(config, built))
    plan.pools({settings.pool: built}, settings, settings)
    if settings.config_file is not None:
        plan.components.append(ConfigFile(settings.config_file, load_picker_config, plan.files))
    if settings.ha_enable_leader_election and plan.cluster is not None:
        plan.components.append(Leadership(settings, plan.cluster, plan.instruments))


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
    config = config.model_copy(update={"feature_gates": [*config.feature_gates, *settings.feature_gates]})
    warnings = [prefix + warning for warning in warnings + more]
    return config, warnings + [f"--feature-gates: {warning}" for _, warning in gate_warnings(settings.feature_gates)]


def _plan_gateway(plan: Plan, settings: GatewaySettings) -> None:
    """Router and picker on one stream."""
    plan.audit(settings)
    path = Path(settings.config_file)
    prefix = f"{settings.config_file}: "
    plan.prefix = prefix
    config = GatewayParts()
    try:
        plan.document = read_document(settings.config_file, "--config-file")
        config = gateway_parts(plan.document)
        plan.problems += [prefix + problem for problem in config.problems]
    except SettingsError as error:
        plan.problems += error.problems
    built = _gateway_parts(config, path.parent, prefix, plan.problems, allow_missing=settings.allow_missing_plugins)
    plan.adapters(None if config.adapters_file is None else str(path.parent / config.adapters_file), prefix + "adaptersFile")
    store: Store = MemoryStore()
    try:
        store = open_store(settings.database_url, journal=journal_of(settings))
        plan.audited = audited_of(settings, None if isinstance(store, MemoryStore) else store)
    except SettingsError as error:
        plan.problems += error.problems
    regions = regions_of(config, settings, plan.problems, prefix)
    plan.check()
    of_pools = any(pool.kubernetes is not None for pool in built.values())
    if of_pools or settings.endpoint_configmaps:
        why = prefix + "pools[].endpoints.kubernetes" if of_pools else "--endpoint-configmaps"
        plan.needs_cluster(why)
    parts = plan.parts
    parts.picking = settings
    served = [Route(tuple(route.models), route.pool, route.beside) for route in config.routes.values()]
    parts.routes = routes = Live(RouteTable(served, config.default_pool), "routes")
    catalog = catalog_of(config, routes.value, parts.adapters)
    plan_endpoints(
        plan,
        settings,
        store,
        catalog,
        Declared(settings.config_file, config.serving_endpoints_file, config.segments, config.registry, only_models_of(config)),
        reuse_port=settings.reuse_port,
        drain_timeout_s=settings.drain_timeout,
    )
    elsewhere = [] if regions is None else [name for name in built if regions.region_of(name) not in ("", regions.home)]
    plan.pools(built, settings, settings, elsewhere)
    if regions is not None and config.regions is not None:
        plan_regions(plan, regions, config.regions, settings.config_file, settings.metrics_staleness_threshold)
    followed = ["servingEndpoints", "segments", *(f"regions.{name}" for name in FOLLOWED)]
    plan.components.append(ConfigFile(settings.config_file, load_gateway_config, plan.files, followed))
    parts.telemetry.models.configured.append(lambda model: routes.value.has(model))
    parts.telemetry.models.only_configured = True


def _reads_no_body(config: EndpointPickerConfig | None, parts: PoolParts) -> bool:
    """Whether `passthrough-parser` is the only parser: bodies may be anything, and no plugin wants to see one."""
    parsers = [] if config is None else config.request_handler.parsers
    chosen = {parts.blueprint.types[parser.plugin_ref] for parser in parsers}
    return chosen == {"passthrough-parser"}


def _gateway_parts(
    config: GatewayParts, base: Path, prefix: str, problems: list[str], *, allow_missing: bool
) -> dict[str, PoolParts]:
    routed = {pool for route in config.routes.values() for pool in (route.pool, *route.beside)}
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
                allow_missing=allow_missing,
            )
        except SettingsError as error:
            # A common `scheduling` is checked once for each pool; its problems are said once.
            problems += [
                line
                for problem in error.problems
                if (line := problem if problem.startswith(prefix) else prefix + problem) not in problems
            ]
            continue
        told = [prefix + warning for warning in warnings] + list(parts[spec.name].warnings)
        for warning in told:
            _log.warning("config", warning=warning)
        if spec.name not in routed:
            _log.warning("config", warning=f"{prefix}pools[{index}]: no route leads to pool {spec.name!r}")
    return parts
