"""What a command is made of, while it is put together."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from extproc.admin.plugins import PluginsOfPool
from extproc.app.adapters.file import AdaptersFile
from extproc.app.audit import audit_of
from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.deployment import Parts
from extproc.app.dry_run import DryRun
from extproc.app.flow import gate_of
from extproc.app.kubernetes import PoolObjects
from extproc.app.pool_parts import PoolParts
from extproc.app.pools import Pool, Pools, scrape_driver
from extproc.app.snapshots import Snapshots
from extproc.app.watching import FileErrors
from extproc.control.audited import Audited
from extproc.flow import Gate
from extproc.live import LiveWriter
from extproc.observability.instruments import Instruments
from extproc.observability.plugins import PluginMetrics
from extproc.pool import PoolStore
from extproc.scheduling.plugins.base import Keeper
from extproc.settings.audit import AuditSettings
from extproc.settings.base import SettingsError
from extproc.settings.commands import ScrapingSettings, SnapshotSettings
from extproc.settings.document import Document
from extproc.stages import PoolOfEndpoints
from extproc.traffic import AdapterMap


@dataclass
class Plan:
    """What a command is made of, while it is put together."""

    parts: Parts
    kubeconfig: str | None = None
    problems: list[str] = field(default_factory=list)
    """Everything that is wrong with the settings and the files that they name."""
    document: Document | None = None
    """The config, and how what is wrong in it begins."""
    prefix: str = ""
    components: list[Component] = field(default_factory=list)
    stores: dict[str, PoolStore] = field(default_factory=dict)
    plugins: dict[str, PluginsOfPool] = field(default_factory=dict)
    cluster: Cluster | None = None
    """Access to Kubernetes; None where nothing needs it."""
    dry_run: DryRun = field(default_factory=DryRun)
    audited: Audited | None = None
    """Where what was changed and decided can be looked up."""

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

    def needs_cluster(self, why: str) -> None:
        """Access to Kubernetes is needed, by this flag or key; the first that needs it is named when there is none."""
        if self.cluster is None:
            self.cluster = Cluster(self.kubeconfig, self.instruments, why=why)
            self.components.append(self.cluster)

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

    def audit(self, settings: AuditSettings) -> None:
        """Decisions are kept, where that is asked for."""
        try:
            audit = audit_of(settings, self.instruments)
        except SettingsError as error:
            self.problems += error.problems
            return
        if audit is not None:
            self.components.append(audit)
            self.parts.audit = audit.writer.waiting
            self.parts.audit_sample = settings.audit_sample

    def pools(
        self,
        built: Mapping[str, PoolParts],
        settings: ScrapingSettings,
        kept: SnapshotSettings,
        elsewhere: Collection[str] = (),
    ) -> None:
        """Pools that run, and what the stages see of them. Those `elsewhere` may be missing."""
        driver = scrape_driver(self.instruments)
        pools: list[Pool] = []
        keepers: dict[str, Mapping[str, Keeper]] = {}
        of_stages: dict[str, PoolOfEndpoints] = {}
        gates: dict[str, Gate] = {}
        for name, parts in built.items():
            store = PoolStore(name, time.monotonic, stale_after_s=settings.metrics_staleness_threshold)
            interval_s = settings.refresh_metrics_interval
            pool = Pool(store, parts, self.instruments, self.files, interval_s=interval_s, driver=driver, cluster=self.cluster)
            scheduler, detector = parts.blueprint.pool(random.random, time.monotonic, pool.interval_s)
            store.forget, store.began = scheduler.forget, scheduler.began
            keepers[name] = scheduler.keepers
            plugins = PluginMetrics.of(self.instruments)
            plugins.watch(name, scheduler.figures)
            plugins.left_out(name, [parts.blueprint.types[each] for each in parts.blueprint.left_out])
            of_stages[name] = PoolOfEndpoints(store, scheduler, detector, pool.tables.traffic)
            self.stores[name] = store
            self.plugins[name] = PluginsOfPool(parts.blueprint, scheduler.dumpers)
            flow = parts.flow.plan(
                detector, random.random, time.monotonic, pool.interval_s, settings.metrics_staleness_threshold
            )
            if flow is not None:
                gates[name] = gate_of(store, detector, flow)
            pools.append(pool)
        self.parts.pools = of_stages
        self.parts.gates = gates
        self.parts.agent_headers = {name: parts.blueprint.agent_headers for name, parts in built.items()}
        self.parts.telemetry.models.configured.append(
            lambda model: any(pool.traffic.rewrites.value.has(model) for pool in of_stages.values())
        )
        if kept.snapshot_dir is not None:
            self.components.append(Snapshots(kept.snapshot_dir, kept.snapshot_interval, keepers))
        self.components.append(Pools(pools, elsewhere))
        if self.cluster is not None:
            self.components.append(PoolObjects(pools, self.cluster))
