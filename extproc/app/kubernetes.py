"""What the settings of each server ask of Kubernetes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Final

from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.pools import Pool
from extproc.discovery.kubernetes.adapters import AdapterConfigMaps
from extproc.discovery.kubernetes.endpoints import KubernetesSource
from extproc.discovery.kubernetes.objects import TrafficObjects
from extproc.discovery.kubernetes.pools import Selection
from extproc.discovery.kubernetes.traffic import PoolRef
from extproc.live import LiveWriter
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.commands import AdapterSettings, ElectionSettings, PoolSettings
from extproc.settings.gateway import PoolSpec
from extproc.settings.selection import parse_selector
from extproc.traffic import AdapterMap, PoolTables

_log = logger(__name__)

CONFIG_MAPS_WITHIN_S: Final = 10.0
"""How long a router waits for its ConfigMaps before it serves without them."""


def picker_source(settings: PoolSettings) -> KubernetesSource | None:
    """The pods of --endpoint-selector or of the InferencePool --pool-name; None without either."""
    namespace = settings.pool_namespace or ""
    if settings.endpoint_selector is not None:
        selection = Selection(parse_selector(settings.endpoint_selector), settings.endpoint_target_ports)
        return KubernetesSource(namespace, settings.pool, settings.pool_group, selection)
    if settings.pool_name is not None and not settings.endpoints:
        return KubernetesSource(namespace, settings.pool_name, settings.pool_group)
    return None


def pool_source(spec: PoolSpec) -> KubernetesSource | None:
    """A gateway's pool; None when it is elsewhere."""
    where = spec.endpoints.kubernetes
    if where is None:
        return None
    namespace = where.namespace or ""
    if where.selector is not None:
        selection = Selection(tuple(sorted(where.selector.items())), where.target_ports or ())
        return KubernetesSource(namespace, spec.name, selection=selection)
    return KubernetesSource(namespace, where.inference_pool or "")


def why_kubernetes(settings: ElectionSettings) -> str:
    """The flag that asks for it, for messages."""
    if settings.ha_enable_leader_election:
        return "--ha-enable-leader-election"
    return "--endpoint-selector" if settings.endpoint_selector is not None else "--pool-name"


class WatchedAdapters(Component):
    """The router's ConfigMaps: `run` in the background, `missing` while they are waited for.

    A router without them still finds models, so neither an API server that is away at start nor a missing right keeps it down
    for long: after `within_s` it serves, base models unknown, until the ConfigMaps are there.
    """

    def __init__(self, settings: AdapterSettings, adapters: LiveWriter[AdapterMap], cluster: Cluster) -> None:
        super().__init__("adapters")
        self._must = settings.adapter_configmaps == "true"
        self._adapters = adapters
        self._given_up = False
        self.within_s = CONFIG_MAPS_WITHIN_S
        self._cluster = cluster
        self._maps = AdapterConfigMaps(self._changed, cluster.contact, cluster.errors, namespace=settings.namespace or "")

    def missing(self) -> str | None:
        """None when the ConfigMaps are known, or not waited for any longer."""
        return None if self._given_up else self._maps.unready()

    async def start(self) -> None:
        """Raises SettingsError when Kubernetes was asked for and is out of reach; with `auto` that is a line in the log."""
        try:
            await self._cluster.connect()
        except SettingsError as error:
            if self._must:
                raise
            self._given_up = True
            _log.warning("no ConfigMaps of adapters, base models are unknown", problems=error.problems)

    async def run(self, ready: asyncio.Event) -> None:
        """Watch until cancelled."""
        if self._given_up:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._maps.run(self._cluster.client), name="watch adapters")
            await asyncio.sleep(self.within_s)
            if (why := self._maps.unready()) is not None:
                self._given_up = True
                _log.warning("serving without ConfigMaps of adapters, base models are unknown until they are read", why=why)

    async def close(self) -> None:
        await self._cluster.close()

    def _changed(self, adapters: AdapterMap) -> None:
        self._adapters.replace(adapters)


class PoolObjects(Component):
    """Objectives and rewrites of the pools of Kubernetes, one watch of each kind for a namespace."""

    def __init__(self, pools: Sequence[Pool], cluster: Cluster) -> None:
        super().__init__("objects of pools")
        self._pools = pools
        self._cluster = cluster

    async def run(self, ready: asyncio.Event) -> None:
        """Watch until cancelled."""
        await _watch_objects(self._pools, self._cluster)


async def _watch_objects(pools: Sequence[Pool], cluster: Cluster) -> None:
    found: dict[str, dict[PoolRef, PoolTables]] = {}
    for pool in pools:
        if pool.source is not None:
            namespace = pool.source.namespace or cluster.client.namespace
            found.setdefault(namespace, {})[PoolRef(pool.source.group, pool.source.name)] = pool.tables
    async with asyncio.TaskGroup() as group:
        for namespace, tables in found.items():
            objects = TrafficObjects(tables, cluster.contact, cluster.errors, namespace=namespace)
            group.create_task(objects.run(cluster.client), name=f"objects of {namespace}")


def wants_config_maps(settings: AdapterSettings, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ConfigMaps are to be watched."""
    if settings.adapter_configmaps == "auto":
        return bool(environ.get("KUBERNETES_SERVICE_HOST")) and settings.adapters_file is None
    return settings.adapter_configmaps == "true"
