"""What each subcommand is made of: settings become a service.

Everything that can be wrong is found here, before anything listens.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from extproc import names
from extproc.app.access import ReviewedTokens
from extproc.app.adapters.configmaps import WatchedAdapters
from extproc.app.adapters.file import AdaptersFile
from extproc.app.api import ApiPort, api_parts, can_serve
from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.config_file import ConfigFile, read_document
from extproc.app.deployment import STAGES, MakeStage, Parts
from extproc.app.endpoints import (
    ExternalProviders,
    ServingEndpoints,
    WatchedEndpoints,
    endpoint_feeders,
    load_of,
    read_seal,
    secret_store,
)
from extproc.app.guard import metrics_guard
from extproc.app.kubernetes import (
    PoolObjects,
    picker_source,
    pool_source,
    wants_config_maps,
    why_kubernetes,
)
from extproc.app.leadership import Leadership
from extproc.app.metrics_tls import metrics_tls
from extproc.app.pools import Pool, PoolParts, Pools, pool_parts, scrape_driver
from extproc.app.servers import Serving
from extproc.app.service import Service
from extproc.app.telemetry import Telemetry
from extproc.app.tls import server_tls
from extproc.app.upstream import with_parameters
from extproc.app.watching import FileErrors
from extproc.control.desk import Desk
from extproc.control.store import RevisionStore
from extproc.director import Director
from extproc.domain import HeaderMutation
from extproc.live import Live, LiveWriter
from extproc.observability.control import ControlMetrics
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.observability.plugins import PluginMetrics
from extproc.pool import PoolStore
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
    ScrapingSettings,
)
from extproc.settings.document import Document, load_document
from extproc.settings.gateway import GatewayParts, gateway_parts, load_gateway_config, scheduling_of
from extproc.settings.picker import DEFAULT_PICKER, EndpointPickerConfig, gate_warnings, load_picker_config
from extproc.stages import PoolOfEndpoints
from extproc.storage.memory import MemoryStore
from extproc.storage.open import open_store
from extproc.traffic import AdapterMap, Catalog, CatalogEntry, Route, RouteTable, Served, TrafficTable

_log = logger(__name__)


@dataclass
class _Plan:
    """What a command is made of, while it is put together."""

    parts: Parts
    problems: list[str] = field(default_factory=list)
    """Everything that is wrong with the settings and the files that they name."""
    document: Document | None = None
    """The config, and how what is wrong in it begins."""
    prefix: str = ""
    components: list[Component] = field(default_factory=list)
    stores: dict[str, PoolStore] = field(default_factory=dict)
    cluster: Cluster | None = None
    """Access to Kubernetes; None where nothing needs it."""

    @property
    def instruments(self) -> Instruments:
        return self.parts.telemetry.instruments

    @property
    def files(self) -> FileErrors:
        return self.parts.telemetry.files

    def check(self) -> None:
        """Raise SettingsError with every problem found so far, with the lines of those in the config."""
        if self.problems:
            problems = self.problems
            raise SettingsError(problems if self.document is None else self.document.locate_all(problems, self.prefix))

    def adapters(self, file: str | None, label: str) -> LiveWriter[AdapterMap]:
        """The adapters, from a file that is watched if there is one."""
        adapters = self.parts.telemetry.tables.watch(LiveWriter(AdapterMap(), "adapters"))
        self.parts.adapters = adapters.live
        self.parts.telemetry.models.configured.append(lambda model: adapters.live.value.has(model))
        if file is not None:
            try:
                self.components.append(AdaptersFile(file, label, adapters, self.files))
            except SettingsError as error:
                self.problems += error.problems
        return adapters

    def pools(self, built: Mapping[str, PoolParts], settings: ScrapingSettings) -> None:
        """Pools that run, and what the stages see of them."""
        driver = scrape_driver(self.instruments)
        pools: list[Pool] = []
        of_stages: dict[str, PoolOfEndpoints] = {}
        for name, parts in built.items():
            store = PoolStore(name, time.monotonic, stale_after_s=settings.metrics_staleness_threshold)
            interval_s = settings.refresh_metrics_interval
            pool = Pool(store, parts, self.instruments, self.files, interval_s=interval_s, driver=driver, cluster=self.cluster)
            scheduler, detector = parts.blueprint.pool(random.random, time.monotonic, pool.interval_s)
            store.forget = scheduler.forget
            PluginMetrics.of(self.instruments).watch(name, scheduler.figures)
            of_stages[name] = PoolOfEndpoints(store, scheduler, detector, pool.tables.traffic)
            self.stores[name] = store
            pools.append(pool)
        self.parts.pools = of_stages
        self.parts.telemetry.models.configured.append(
            lambda model: any(pool.traffic.rewrites.value.has(model) for pool in of_stages.values())
        )
        self.components.append(Pools(pools))
        if self.cluster is not None:
            self.components.append(PoolObjects(pools, self.cluster))


Buildable: TypeAlias = BbrSettings | EppSettings | GatewaySettings


def build(settings: Buildable, stages: Sequence[MakeStage] | None = None) -> Service:
    """The service that these settings ask for. `stages` instead of the command's own, as `deployment.py` tells.

    Raises SettingsError with every problem.
    """
    telemetry = Telemetry(settings.metrics_max_models)
    options = ParseOptions(max_inflated_bytes=settings.max_inflated_body_bytes)
    plan = _Plan(Parts(telemetry, options))
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
    director = Director(
        [make(parts) for make in (STAGES[name] if stages is None else stages)],
        telemetry.streams,
        router_metrics=None if name == "epp" else parts.router_metrics,
        options=parts.options,
    )
    guard = metrics_guard(settings, plan.cluster, telemetry.instruments)
    decisions = None if name == "bbr" else parts.decisions
    serving = Serving(settings, director, limits, tls, admin_tls, guard, plan.stores, decisions)
    around = [part for part in (guard, tls, admin_tls) if part is not None]
    return Service(name, serving, telemetry, [*around, *plan.components])


def _plan_bbr(plan: _Plan, settings: BbrSettings) -> None:
    """The body-based router."""
    parts = plan.parts
    parts.options = ParseOptions(settings.invalid_json_passes, settings.text_models, settings.max_inflated_body_bytes)
    parts.headers = settings.headers
    adapters = plan.adapters(settings.adapters_file, "--adapters-file")
    plan.check()
    if wants_config_maps(settings):
        plan.cluster = Cluster(settings.kubeconfig, plan.instruments, why="--adapter-configmaps")
        plan.components.append(WatchedAdapters(settings, adapters, plan.cluster))


def _plan_epp(plan: _Plan, settings: EppSettings) -> None:
    """The endpoint picker of one pool."""
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
    for warning in (*warnings, *built.blueprint.warnings):
        _log.warning("config", warning=warning)
    if settings.ha_enable_leader_election or built.kubernetes is not None:
        plan.cluster = Cluster(settings.kubeconfig, plan.instruments, why=why_kubernetes(settings))
        plan.components.append(plan.cluster)
    parts = plan.parts
    parts.picking = settings
    parts.only_pool = settings.pool
    parts.options = parts.options._replace(unread_bodies=_reads_no_body(config, built))
    plan.pools({settings.pool: built}, settings)
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
    warnings = [prefix + warning for warning in warnings + more]
    return config, warnings + [f"--feature-gates: {warning}" for _, warning in gate_warnings(settings.feature_gates)]


def _plan_gateway(plan: _Plan, settings: GatewaySettings) -> None:
    """Router and picker on one stream."""
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
    store: RevisionStore = MemoryStore()
    try:
        store = open_store(settings.database_url)
    except SettingsError as error:
        plan.problems += error.problems
    plan.check()
    of_pools = any(pool.kubernetes is not None for pool in built.values())
    if of_pools or settings.endpoint_configmaps:
        why = prefix + "pools[].endpoints.kubernetes" if of_pools else "--endpoint-configmaps"
        plan.cluster = Cluster(settings.kubeconfig, plan.instruments, why=why)
        plan.components.append(plan.cluster)
    parts = plan.parts
    parts.picking = settings
    served = [Route(tuple(route.models), route.pool) for route in config.routes.values()]
    parts.routes = routes = Live(RouteTable(served, config.default_pool), "routes")
    _plan_endpoints(plan, settings, store, _catalog(config, routes.value, parts.adapters), config.serving_endpoints_file)
    plan.pools(built, settings)
    plan.components.append(ConfigFile(settings.config_file, load_gateway_config, plan.files, {"servingEndpoints"}))
    parts.telemetry.models.configured.append(lambda model: routes.value.has(model))
    parts.telemetry.models.only_configured = True


def _plan_endpoints(plan: _Plan, settings: GatewaySettings, store: RevisionStore, catalog: Catalog, file: str | None) -> None:
    """Serving endpoints, where they are kept, and what files declare of them; `file` as the config names it."""
    parts = plan.parts
    table = parts.telemetry.tables.watch(LiveWriter(TrafficTable(), "serving endpoints"))
    parts.serving = table.live
    parts.key_headers = settings.serving_key_headers
    parts.telemetry.models.configured.append(lambda model: table.live.value.get(model) is not None)
    metrics = ControlMetrics(parts.telemetry.instruments)
    if settings.secrets_namespace is not None and plan.cluster is None:
        plan.cluster = Cluster(settings.kubeconfig, plan.instruments, why="--secrets-namespace")
        plan.components.append(plan.cluster)
    providers = ExternalProviders(
        table.live,
        secret_store(settings, plan.cluster, os.environ),
        lambda handle: desk.secret(handle),
        allowed=settings.external_allow,
        environ=os.environ,
    )
    parts.providers = providers
    parts.external_patience_s = settings.external_timeout
    try:
        desk = Desk(
            store,
            lambda: catalog,
            table,
            metrics=metrics,
            seal=read_seal(settings.plaintext_key_file),
            verify=providers.verify,
            load_of=lambda pool: load_of(plan.stores.get(pool)),
            most_entities=settings.max_served_entities,
        )
        plan.components.append(providers)
        plan.components.append(ServingEndpoints(desk, table.live, parts.adapters, parts.serving_metrics))
        _plan_api(plan, settings, desk, table.live)
        plan.components += endpoint_feeders(desk, settings.config_file, file, plan.files)
        if settings.endpoint_configmaps and plan.cluster is not None:
            plan.components.append(WatchedEndpoints(desk, plan.cluster, settings.endpoint_configmaps_namespace))
    except SettingsError as error:
        plan.problems += error.problems
        plan.check()


def _plan_api(plan: _Plan, settings: GatewaySettings, desk: Desk, table: Live[TrafficTable]) -> None:
    """The REST API, and who may ask it; its tokens are the data plane's too. Raises SettingsError."""
    parts = plan.parts
    if not settings.api_port and settings.api_auth_mode == "off":
        return
    if settings.api_auth_mode == "kubernetes" and plan.cluster is None:
        plan.cluster = Cluster(settings.kubeconfig, plan.instruments, why="--api-auth=kubernetes")
        plan.components.append(plan.cluster)
    components, tokens = api_parts(
        settings, desk, table, can_serve(plan.stores), parts.telemetry, cluster=plan.cluster, reuse_port=settings.reuse_port
    )
    plan.components += [each for each in components if settings.api_port or not isinstance(each, ApiPort)]
    if settings.data_plane_auth != "off":
        parts.tokens = tokens
        if settings.api_auth_mode == "kubernetes" and plan.cluster is not None:
            parts.reviewers = reviewed = ReviewedTokens(plan.cluster, plan.instruments)
            plan.components.append(reviewed)
        parts.check_every_path = settings.data_plane_auth == "all"


def _catalog(config: GatewayParts, routes: RouteTable, adapters: Live[AdapterMap]) -> Catalog:
    """What serving endpoints may name."""
    entries = [
        CatalogEntry(entity.name, entity.version, Served(entity.model or route.models[0], route.pool, entity.path))
        for route in config.routes.values()
        for entity in route.entities
    ]
    return Catalog(entries, routes, lambda model: adapters.value.base_of(model))


def _reads_no_body(config: EndpointPickerConfig | None, parts: PoolParts) -> bool:
    """Whether `passthrough-parser` is the only parser: bodies may be anything, and no plugin wants to see one."""
    parsers = [] if config is None else config.request_handler.parsers
    chosen = {parts.blueprint.types[parser.plugin_ref] for parser in parsers}
    return chosen == {"passthrough-parser"}


def _gateway_parts(
    config: GatewayParts, base: Path, prefix: str, problems: list[str], *, allow_missing: bool
) -> dict[str, PoolParts]:
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
        told = [prefix + warning for warning in warnings] + list(parts[spec.name].blueprint.warnings)
        for warning in told:
            _log.warning("config", warning=warning)
        if spec.name not in routed:
            _log.warning("config", warning=f"{prefix}pools[{index}]: no route leads to pool {spec.name!r}")
    return parts
