"""What the settings of each server ask of Kubernetes."""

from __future__ import annotations

from extproc.discovery.kubernetes.endpoints import KubernetesSource
from extproc.discovery.kubernetes.pools import Selection
from extproc.settings.selection import parse_selector
from extproc.settings.server import EppSettings


def picker_source(settings: EppSettings) -> KubernetesSource | None:
    """The pods of --endpoint-selector or of the InferencePool --pool-name; None without either."""
    namespace = settings.pool_namespace or ""
    if settings.endpoint_selector is not None:
        selection = Selection(parse_selector(settings.endpoint_selector), settings.endpoint_target_ports)
        return KubernetesSource(namespace, settings.pool, settings.pool_group, selection)
    if settings.pool_name is not None and not settings.endpoints:
        return KubernetesSource(namespace, settings.pool_name, settings.pool_group)
    return None


def why_kubernetes(settings: EppSettings) -> str:
    """The flag that asks for it, for messages."""
    if settings.ha_enable_leader_election:
        return "--ha-enable-leader-election"
    return "--endpoint-selector" if settings.endpoint_selector is not None else "--pool-name"
