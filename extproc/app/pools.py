"""A pool with all its parts: who is in it, how they are doing, what is known, and how to choose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel

from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.own_plugins import own_types
from extproc.app.watching import FileErrors
from extproc.discovery.file import TYPES as DISCOVERY_TYPES
from extproc.discovery.file import FileDiscovery, FileDiscoverySettings
from extproc.discovery.kubernetes.endpoints import KubernetesDiscovery, KubernetesSource
from extproc.discovery.static import StaticDiscovery, Target, parse_targets
from extproc.domain import Endpoint
from extproc.flow.build import FLOW_TYPES, OFF, FlowBlueprint, build_flow
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.observability.pools import PoolMetrics, PoolRow, ScrapeMetrics
from extproc.observability.tables import TableMetrics
from extproc.pool import PoolStore
from extproc.scheduling import Blueprint, build_scheduler
from extproc.scheduling.attributes import CORE
from extproc.scheduling.plugins.base import PluginType
from extproc.scraping.driver import Driver
from extproc.scraping.engines import Engines, Missing
from extproc.scraping.fetch import HttpFetcher
from extproc.scraping.plugins import TYPES as SCRAPING_TYPES
from extproc.scraping.scraper import Scraper
from extproc.settings.base import SettingsError, shown
from extproc.settings.engines import ClusterMetricsSettings, CoreMetricsSettings, MetricsSourceSettings
from extproc.settings.picker import EndpointPickerConfig
from extproc.traffic import PoolTables

_log = logger(__name__)

DATA_LAYER_TYPES: Final[Mapping[str, PluginType]] = {row.name: row for row in (*SCRAPING_TYPES, *DISCOVERY_TYPES)}
ELSEWHERE_TYPES: Final[Mapping[str, PluginType]] = {**DATA_LAYER_TYPES, **FLOW_TYPES}
"""Of other rooms than scheduling."""

_NO_SOURCE: Final = (
    "expected at least one endpoint; or --pool-name for the pods of an InferencePool, --endpoint-selector, or "
    "file-discovery in the config"
)
FIRST_ROUND_S: Final = 2.0
"""From a pool's first endpoints on, how long it may be unready for the sake of those that were not asked yet: some hang."""

_NAMED: Final = 20
"""Endpoints that a log line names; of more it says how many."""

Parameters = TypeVar("Parameters", bound=BaseModel)


@dataclass(frozen=True)
class PoolParts:
    """A pool's settings, all checked."""

    blueprint: Blueprint
    engines: Engines
    source: MetricsSourceSettings
    fetcher: HttpFetcher
    targets: tuple[Target, ...]
    file: FileDiscoverySettings | None
    kubernetes: KubernetesSource | None = None
    flow: FlowBlueprint = OFF

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its owner should know."""
        return (*self.blueprint.warnings, *unknown_attributes(self.blueprint, self.engines), *self.flow.warnings)


def pool_parts(
    config: EndpointPickerConfig | None,
    *,
    prefix: str,
    static: Sequence[str] | None,
    static_path: str,
    file: str | None,
    base: Path,
    kubernetes: KubernetesSource | None = None,
    allow_missing: bool = False,
) -> PoolParts:
    """Check everything about a pool. Raises SettingsError with every problem.

    `allow_missing`: plugins of types that can't be had here are left out.

    Endpoints come from `static`, from `file` (relative to `base`, watched), from the config's file-discovery, or from
    `kubernetes`; exactly one of them must be given, but an InferencePool gives way to another source: its name is then a name.
    Without a `config`, because its form is wrong, everything else is checked, and what the config might say is not missed.
    """
    problems: list[str] = []
    blueprint: Blueprint | None = None
    targets: tuple[Target, ...] = ()
    engines: Engines | None = None
    fetcher: HttpFetcher | None = None
    source = MetricsSourceSettings()
    discovery: FileDiscoverySettings | None = None
    try:
        blueprint = (
            None
            if config is None
            else build_scheduler(config, elsewhere=types_of(config, prefix), prefix=prefix, allow_missing=allow_missing)
        )
    except SettingsError as error:
        problems += error.problems
    flow = OFF
    try:
        flow = flow if config is None else build_flow(config, prefix=prefix)
    except SettingsError as error:
        problems += error.problems
    try:
        targets = parse_targets(list(static or ()), path=static_path)
    except SettingsError as error:
        problems += error.problems
    if config is not None and blueprint is not None:
        source, engines = pages_of(blueprint, prefix, problems)
        try:
            discovery = _discovery(config, blueprint, prefix)
            fetcher = HttpFetcher(source)
        except SettingsError as error:
            problems += [p if p.startswith(prefix) else prefix + p for p in error.problems]
    if file is not None:
        discovery = FileDiscoverySettings.model_validate({"path": str(base / file), "watchFile": True})
    if kubernetes is not None and kubernetes.selection is None and (static or discovery is not None):
        kubernetes = None
    if discovery is not None and static:
        problems.append(f"{static_path}: excludes file-discovery in the config")
    elif discovery is not None and kubernetes is not None:
        problems.append("--endpoint-selector: excludes file-discovery in the config")
    elif discovery is None and not static and kubernetes is None and not problems and config is not None:
        problems.append(f"{static_path}: {_NO_SOURCE}")
    if discovery is not None:
        where = "" if file is None else f"{static_path.removesuffix('static')}file: "
        problems += [where + problem for problem in _file_problems(discovery)]
    if problems or blueprint is None or engines is None or fetcher is None:
        raise SettingsError(problems)
    return PoolParts(blueprint, engines, source, fetcher, targets, discovery, kubernetes, flow)


def types_of(config: EndpointPickerConfig, prefix: str) -> dict[str, PluginType]:
    """The types beside the scheduler's own that a config may name: of other rooms, and of installed packages. Raises
    SettingsError for packages that it names and that can't be had."""
    return {**own_types(config, prefix), **ELSEWHERE_TYPES}


def pages_of(blueprint: Blueprint, prefix: str, problems: list[str]) -> tuple[MetricsSourceSettings, Engines | None]:
    """Where an endpoint's page is, and in which words it speaks; None for words that nobody knows. What is wrong goes to
    `problems`. Reads no files."""
    source = _only(blueprint, MetricsSourceSettings, prefix, problems) or MetricsSourceSettings()
    core = _only(blueprint, CoreMetricsSettings, prefix, problems)
    clusters = _only(blueprint, ClusterMetricsSettings, prefix, problems)
    if core is not None and clusters is not None:
        problems.append(f"{prefix}plugins: multicluster-metrics-extractor excludes core-metrics-extractor")
    try:
        words = core or (clusters.engines() if clusters is not None else CoreMetricsSettings())
        return source, Engines(words, path=prefix, wanted=blueprint.attributes)
    except SettingsError as error:
        problems += [p if p.startswith(prefix) else prefix + p for p in error.problems]
    return source, None


def unknown_attributes(blueprint: Blueprint, engines: Engines) -> list[str]:
    """What to tell of attributes that plugins read and no engine's page has."""
    names = sorted(blueprint.attributes - CORE.keys() - engines.attributes)
    return [f"no engine's customMetrics give the attribute {shown(name)}, so it is unknown of every endpoint" for name in names]


def _only(blueprint: Blueprint, kind: type[Parameters], prefix: str, problems: list[str]) -> Parameters | None:
    of_kind = [(name, parameters) for name, parameters in blueprint.parameters.items() if isinstance(parameters, kind)]
    if len(of_kind) > 1:
        names = ", ".join(name for name, _ in of_kind)
        problems.append(f"{prefix}plugins: more than one of {blueprint.types[of_kind[0][0]]}: {names}")
    return of_kind[0][1] if of_kind else None


def _discovery(config: EndpointPickerConfig, blueprint: Blueprint, prefix: str) -> FileDiscoverySettings | None:
    layer = config.data_layer.discovery
    if layer is None or layer.ref is None:
        return None
    parameters = blueprint.parameters.get(layer.ref)
    if not isinstance(parameters, FileDiscoverySettings):
        raise SettingsError([f"{prefix}dataLayer.discovery.pluginRef: {layer.ref!r} is not a file-discovery plugin"])
    return parameters


def _file_problems(settings: FileDiscoverySettings) -> list[str]:
    """Read the file once, so that what is wrong with it is said with everything else."""
    try:
        FileDiscovery(settings, _Nowhere(), on_error=lambda _: None).load()
    except SettingsError as error:
        return error.problems
    return []


class _Nowhere:
    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        pass


def scrape_driver(instruments: Instruments) -> Driver:
    """What asks all endpoints of the process, and the gauge that says how late it is."""
    driver = Driver()
    gauge = instruments.gauge(
        "extproc_scrape_interval_stretch",
        "How many times longer than asked for the time between two pages of an endpoint is, because scraping has used up its "
        "share of the core; 1 is on time.",
    ).child()

    def refresh() -> None:
        gauge.value = driver.rounds.stretch

    instruments.before_collect.append(refresh)
    return driver


class Pool:
    """Runs a pool: endpoints come in from discovery, pages from scraping; both end in the store."""

    def __init__(
        self,
        store: PoolStore,
        parts: PoolParts,
        instruments: Instruments,
        files: FileErrors,
        *,
        interval_s: float,
        driver: Driver,
        cluster: Cluster | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._clock = clock
        self._since_s: float | None = None
        """When it got its first endpoints."""
        self.changed: Callable[[], None] = lambda: None
        """Called when the pool's endpoints changed."""
        self._cluster = cluster
        self.source = parts.kubernetes
        """Where in Kubernetes the pool is; None when it is elsewhere."""
        self._keys: frozenset[str] = frozenset()
        self.tables = PoolTables(store.name)
        tables = TableMetrics.of(instruments)
        tables.watch(self.tables.rewrites)
        tables.watch(self.tables.objectives)
        """What the pool's rewrites and objectives say. Discovery replaces its tables."""
        self.interval_s = parts.source.interval or interval_s
        """From one page of an endpoint to the next."""
        self._metrics = ScrapeMetrics(instruments, store.name)
        PoolMetrics.of(instruments).watch(store.name, self._rows)
        self._scraper = Scraper(parts.fetcher, parts.engines, store, self, interval_s=self.interval_s, driver=driver)
        store.hint = self._scraper.hint
        self._files = files
        self._discovery = self._discover(parts)

    def _discover(self, parts: PoolParts) -> FileDiscovery | StaticDiscovery | KubernetesDiscovery:
        if parts.kubernetes is not None:
            assert self._cluster is not None, "a pool of Kubernetes needs access to it"
            return KubernetesDiscovery(parts.kubernetes, self, self._cluster.contact, self._cluster.errors)
        if parts.file is None:
            return StaticDiscovery(parts.targets, self, on_error=self._name_failed)
        path = parts.file.path
        discovery = FileDiscovery(
            parts.file,
            self,
            on_error=lambda problems: self._files.broken(path, problems),
            on_good=lambda: self._files.good(path),
            on_name=self._name_failed,
        )
        discovery.load()
        return discovery

    async def run(self) -> None:
        """Discover and scrape until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_discovery(), name=f"discovery {self.store.name}")
            group.create_task(self._scraper.run(), name=f"scraping {self.store.name}")

    async def _run_discovery(self) -> None:
        if isinstance(self._discovery, KubernetesDiscovery):
            assert self._cluster is not None, "a pool of Kubernetes needs access to it"
            client = self._cluster.client
            await self._discovery.run(client, client.namespace)
        else:
            await self._discovery.run()

    def unready(self) -> str | None:
        """Why the pool can't be picked from yet, None when every endpoint was asked once, or `FIRST_ROUND_S` are over: of those
        that hang nothing is known then, as later.

        A pool of Kubernetes may have no endpoints: that its pods are all gone is an answer, and requests get a 503.
        """
        if isinstance(self._discovery, KubernetesDiscovery):
            if why := self._discovery.unready():
                return why
        elif not len(self.store):
            return f"pool {self.store.name!r} has no endpoints yet"
        untried = self.store.untried
        if self._since_s is not None and self._clock() - self._since_s >= FIRST_ROUND_S:
            return None
        return f"pool {self.store.name!r}: {untried} of {len(self.store)} endpoints not asked yet" if untried else None

    def lost(self) -> str | None:
        """Why a pool that was ready is none any more: its InferencePool was deleted."""
        return self._discovery.unready() if isinstance(self._discovery, KubernetesDiscovery) else None

    # -- as the sink of discovery ------------------------------------------------------------------------------------

    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        before, self._keys = self._keys, frozenset(endpoint.key for endpoint in endpoints)
        if self._keys and self._since_s is None:
            self._since_s = self._clock()
        self.store.replace_endpoints(endpoints)
        self._scraper.update(endpoints)
        _log.info(
            "endpoints changed",
            pool=self.store.name,
            endpoints=len(self._keys),
            added=_few(self._keys - before),
            removed=_few(before - self._keys),
        )
        self.changed()

    def _name_failed(self, name: str, problem: str | None) -> None:
        if problem is None:
            _log.info("name resolves", pool=self.store.name, name=name)
        else:
            _log.warning("name does not resolve, its last addresses stay", pool=self.store.name, name=name, error=problem)

    # -- as the observer of scraping ---------------------------------------------------------------------------------

    def page_read(self, endpoint: Endpoint, *, duration_s: float, page_bytes: int, missing: Sequence[Missing]) -> None:
        self._metrics.read.value += 1
        self._metrics.duration.observe(duration_s)
        for signal, why in missing:
            self._metrics.missing(signal, why)

    def page_failed(self, endpoint: Endpoint, reason: str, *, duration_s: float) -> None:
        self._metrics.failed(reason)

    def state_changed(self, endpoint: Endpoint, state: str, detail: str) -> None:
        say = _log.info if state == "ok" else _log.warning
        say(
            "endpoint metrics",
            pool=self.store.name,
            endpoint=endpoint.key,
            name=endpoint.name,
            state=state,
            detail=detail,
        )

    def states_changed(self, counts: Mapping[str, int]) -> None:
        _log.warning("endpoint metrics of more endpoints", pool=self.store.name, states=dict(counts))

    # -- as the source of the pool's gauges --------------------------------------------------------------------------

    def _rows(self) -> Iterator[PoolRow]:
        return (
            PoolRow(
                view.endpoint.name,
                load=view.load,
                in_flight=view.in_flight,
                age_s=view.age_s,
                fresh=view.fresh and not view.down,
                down=view.down,
            )
            for view in self.store.views()
        )


class Pools(Component):
    """All pools of a service. One that is lost does not matter while another is there."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        super().__init__("pools")
        self.pools = tuple(pools)
        for pool in pools:
            pool.changed = lambda: self.changed()

    def missing(self) -> str | None:
        return "; ".join(filter(None, [pool.unready() for pool in self.pools])) or None

    def unready(self) -> str | None:
        lost = [why for pool in self.pools if (why := pool.lost())]
        return "; ".join(lost) if lost and len(lost) == len(self.pools) else None

    async def run(self, ready: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            for pool in self.pools:
                group.create_task(pool.run(), name=f"pool {pool.store.name}")


def _few(keys: frozenset[str]) -> list[str] | int:
    """For a log line: the keys, or how many they are."""
    return sorted(keys) if len(keys) <= _NAMED else len(keys)
