"""What the settings of each server ask of Kubernetes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.pools import Pool
from extproc.discovery.kubernetes.endpoints import KubernetesSource
from extproc.discovery.kubernetes.objects import TrafficObjects
from extproc.discovery.kubernetes.pools import Selection
from extproc.discovery.kubernetes.traffic import PoolRef
from extproc.observability.logs import logger
from extproc.settings.commands import AdapterSettings, ElectionSettings, PoolSettings
from extproc.settings.gateway import PoolSpec
from extproc.settings.selection import parse_selector
from extproc.traffic import PoolTables

_log = logger(__name__)


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
