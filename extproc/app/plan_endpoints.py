"""The serving endpoints of a gateway: settings become the desk, its feeders, its API, and what the stages see of them."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from extproc.api.standing import Pools
from extproc.app.access import ReviewedTokens
from extproc.app.api import ApiPort, Behind, api_parts, can_serve
from extproc.app.deployment import Parts
from extproc.app.endpoints import (
    Counting,
    ExternalProviders,
    ServingEndpoints,
    WatchedEndpoints,
    endpoint_feeders,
    load_of,
    read_seal,
    secret_store,
)
from extproc.app.history import PoolHistory
from extproc.app.plan import Plan
from extproc.app.registry import FollowedRegistry, Follower, planned_registry
from extproc.app.rollouts import RolloutDriver
from extproc.app.segments import WatchedSegments
from extproc.app.shadow import Shadows
from extproc.control.desk import Desk
from extproc.control.following import NoVersions
from extproc.control.store import Store
from extproc.live import Live, LiveWriter
from extproc.measures import Measures
from extproc.observability.control import ControlMetrics
from extproc.observability.registry import RegistryMetrics
from extproc.observability.rollouts import RolloutMetrics
from extproc.observability.serving import SplitMetrics
from extproc.observability.shadow import ShadowMetrics
from extproc.settings.base import SettingsError
from extproc.settings.commands import EndpointSettings
from extproc.settings.gateway import GatewayParts
from extproc.settings.registry import RegistrySpec, only_models
from extproc.settings.segments import SegmentSettings
from extproc.traffic import AdapterMap, Catalog, CatalogEntry, RouteTable, Served, TrafficTable
from extproc.traffic.segments import Segments


def only_models_of(config: GatewayParts) -> Mapping[str, str | None]:
    """Each pool with the only model of its routes, None where there is none or several."""
    routes = [(route.pool, route.models) for route in config.routes.values()]
    return only_models(routes, [pool.name for pool in config.pools.values()])


def catalog_of(config: GatewayParts, routes: RouteTable, adapters: Live[AdapterMap]) -> Catalog:
    """What serving endpoints may name."""
    pools = only_models_of(config)
    lines = [
        CatalogEntry(line.name, line.version, Served(line.model or pools.get(line.pool) or line.name, line.pool, line.path))
        for line in (() if config.registry is None else config.registry.models)
    ]
    entries = [
        CatalogEntry(
            entity.name, entity.version, Served(entity.model or route.models[0], route.pool, entity.path, route.beside)
        )
        for route in config.routes.values()
        for entity in route.entities
    ]
    regions = () if config.regions is None else tuple(config.regions.names)
    return Catalog([*entries, *lines], routes, lambda model: adapters.value.base_of(model), regions, pools)


class Declared(NamedTuple):
    """What the gateway's config says of serving endpoints, and where it lies."""

    file: str
    """The config itself: it may declare endpoints."""
    endpoints: str | None = None
    """The file or folder of endpoints that it names, as it names it."""
    segments: Sequence[SegmentSettings] = ()
    registry: RegistrySpec | None = None
    pools: Mapping[str, str | None] = {}
    """As `only_models_of` gives them."""


def plan_endpoints(
    plan: Plan,
    settings: EndpointSettings,
    store: Store,
    catalog: Catalog,
    declared: Declared,
    *,
    reuse_port: bool,
    drain_timeout_s: float,
) -> None:
    """Serving endpoints, where they are kept, and what files declare of them. Raises SettingsError."""
    parts = plan.parts
    table = parts.telemetry.tables.watch(LiveWriter(TrafficTable(), "serving endpoints"))
    _tell(parts, settings, table.live)
    parts.shadows = shadows = _shadows(parts, table.live, drain_timeout_s)
    if settings.secrets_namespace is not None:
        plan.needs_cluster("--secrets-namespace")
    parts.providers = providers = ExternalProviders(
        table.live,
        secret_store(settings, plan.cluster, os.environ),
        lambda handle: desk.secret(handle),
        allowed=settings.external_allow,
        environ=os.environ,
    )
    try:
        parts.segments = named = _segments(plan, declared)
        registry = _registry(plan, settings, declared, catalog)
        desk = Desk(
            store,
            lambda: catalog,
            table,
            metrics=ControlMetrics(parts.telemetry.instruments),
            seal=read_seal(settings.plaintext_key_file),
            verify=providers.verify,
            load_of=lambda pool: load_of(plan.stores.get(pool)),
            most_entities=settings.max_served_entities,
            guarded=settings.traffic_guard,
            segments=lambda: named.value,
            versions=NoVersions() if registry is None else registry[0],
        )
        endpoints = ServingEndpoints(desk, table.live, (parts.adapters, named), _counting(parts))
        shown = RolloutMetrics(parts.telemetry.instruments)
        driver = RolloutDriver(desk, store, parts.measures, uuid.uuid4().hex, metrics=shown)
        ready = can_serve(plan.stores)
        plan.components += [providers, shadows, endpoints, driver]
        behind = _behind(parts, desk, driver, ready, shadows)
        behind = behind._replace(audited=plan.audited, explain=plan.dry_run)
        if registry is not None:
            followed, counted = registry
            follower = Follower(desk, driver.rollouts, catalog, ready, lambda: driver.leads, counted)
            followed.attach(desk, store, follower)
            plan.components.append(followed)
            behind = behind._replace(held=followed.held)
        _plan_api(plan, settings, behind, reuse_port=reuse_port)
        plan.components += endpoint_feeders(desk, declared.file, declared.endpoints, plan.files)
        if settings.endpoint_configmaps and plan.cluster is not None:
            plan.components.append(WatchedEndpoints(desk, plan.cluster, settings.endpoint_configmaps_namespace))
    except SettingsError as error:
        plan.problems += [
            plan.prefix + line if line.startswith(("segments[", "registry.")) else line for line in error.problems
        ]
        plan.check()


def _tell(parts: Parts, settings: EndpointSettings, table: Live[TrafficTable]) -> None:
    """What stages must know of serving endpoints."""
    parts.serving = table
    SplitMetrics(parts.telemetry.instruments).watch(lambda: _shares(table.value))
    parts.key_headers = settings.serving_key_headers
    parts.external_patience_s = settings.external_timeout
    parts.telemetry.models.configured.append(lambda model: table.value.get(model) is not None)
    if settings.measures != "off":
        parts.measures = Measures(time.monotonic, window_s=settings.measures_window, remembered=settings.feedback_requests)


def _shares(table: TrafficTable) -> Iterator[tuple[str, str, int]]:
    for endpoint in table:
        for entity, percentage in zip(endpoint.spec.entities, endpoint.spec.percentages, strict=True):
            yield endpoint.name, entity.name, percentage


def _segments(plan: Plan, declared: Declared) -> Live[Segments]:
    """Named sets of users. Raises SettingsError."""
    named = LiveWriter(Segments(), "segments")
    tables = plan.parts.telemetry.tables
    plan.components.append(WatchedSegments(declared.segments, declared.file, tables.watch(named), plan.files))
    return named.live


def _registry(
    plan: Plan, settings: EndpointSettings, declared: Declared, catalog: Catalog
) -> tuple[FollowedRegistry, RegistryMetrics] | None:
    """Where models are registered; None: nowhere. Raises SettingsError."""
    return planned_registry(
        RegistrySpec.model_validate({}) if declared.registry is None else declared.registry,
        settings,
        Path(declared.file).parent,
        declared.pools,
        catalog,
        secret_store(settings, plan.cluster, os.environ),
        plan.parts.telemetry.instruments,
    )


def _counting(parts: Parts) -> Sequence[Counting]:
    """Who counts by served entity."""
    counting: list[Counting] = [*parts.serving_metrics]
    if parts.measures is not None:
        counting.append(parts.measure_metrics(parts.measures))
    return counting


def _shadows(parts: Parts, table: Live[TrafficTable], drain_timeout_s: float) -> Shadows:
    """Who sends copies; pools, gates and measures are there only later."""
    return Shadows(
        table,
        lambda: parts.pools,
        lambda: parts.gates,
        ShadowMetrics(parts.telemetry.instruments),
        options=parts.options,
        drain_timeout_s=drain_timeout_s,
        verdict=_measuring(parts),
    )


def _measuring(parts: Parts) -> Callable[[str, str, bool | None], None]:
    """What shadows' verdicts are measured by."""

    def compared(endpoint: str, entity: str, same: bool | None) -> None:
        if parts.measures is not None and same is not None:
            parts.measures.cell(endpoint, entity).compare(same)

    return compared


def _behind(parts: Parts, desk: Desk, driver: RolloutDriver, ready: Callable[[str], bool], shadows: Shadows) -> Behind:
    """What the API shows and changes, but for a registry."""
    behind = Behind(desk, driver.rollouts, parts.serving, ready, parts.telemetry, shadows.shapes, decisions=parts.decisions)
    if parts.measures is None:
        return behind
    return behind._replace(measures=parts.measures, feedback=parts.feedback_metrics)


def _reuse(parts: Parts, pool: str) -> Mapping[str, Sequence[int]]:
    """How much of what went to the pool's endpoints they had in their prefix caches."""
    found = parts.pools.get(pool)
    return {} if found is None else found.scheduler.reuse()


def _plan_api(plan: Plan, settings: EndpointSettings, behind: Behind, *, reuse_port: bool) -> None:
    """The REST API, and who may ask it; its tokens are the data plane's too. Raises SettingsError."""
    parts = plan.parts
    if not settings.api_port and settings.api_auth_mode == "off":
        return
    if settings.api_auth_mode == "kubernetes":
        plan.needs_cluster("--api-auth=kubernetes")
    parts.decisions.keeps_candidates = settings.api_port != 0  # for the page
    if settings.api_port:
        history = PoolHistory(plan.stores, lambda pool: _reuse(parts, pool))
        plan.components.append(history)
        behind = behind._replace(pools=Pools(lambda: plan.stores, history.history))
    components, tokens = api_parts(settings, behind, cluster=plan.cluster, reuse_port=reuse_port)
    plan.components += [each for each in components if settings.api_port or not isinstance(each, ApiPort)]
    if settings.data_plane_auth != "off":
        parts.tokens = tokens
        if settings.api_auth_mode == "kubernetes" and plan.cluster is not None:
            parts.reviewers = reviewed = ReviewedTokens(plan.cluster, plan.instruments)
            plan.components.append(reviewed)
        parts.check_every_path = settings.data_plane_auth == "all"
