"""`--metrics-endpoint-auth`: who may read /metrics and /debug."""

from __future__ import annotations

import os
from collections.abc import Mapping

from extproc.admin.server import Debug
from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.kubernetes.reviews import Refusal, Reviews
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.server import MetricsGuardSettings, MetricsPortSettings

_log = logger(__name__)


def wants_guard(settings: MetricsPortSettings, environ: Mapping[str, str] = os.environ) -> bool:
    """As upstream in a cluster; elsewhere only when asked for, for there is nobody to ask about tokens."""
    if settings.metrics_endpoint_auth is None:
        return bool(environ.get("KUBERNETES_SERVICE_HOST"))
    return settings.metrics_endpoint_auth


def debug_pages(settings: MetricsPortSettings, *, guarded: bool) -> Debug:
    """Who is shown /debug: without tokens to tell people apart, who is on this machine."""
    if settings.debug_pages == "auto":
        return "everywhere" if guarded else "loopback"
    return "everywhere" if settings.debug_pages == "on" else settings.debug_pages


def metrics_guard(settings: MetricsGuardSettings, cluster: Cluster | None, instruments: Instruments) -> MetricsGuard | None:
    """None when everybody may read. Asks by `cluster`, or by a connection of its own where nothing else needs one."""
    if not wants_guard(settings):
        return None
    asks = cluster or Cluster(settings.kubeconfig, instruments)
    return MetricsGuard(asks, instruments, required=settings.metrics_endpoint_auth is True)


class MetricsGuard(Component):
    """Refuses everything until `start`."""

    def __init__(self, cluster: Cluster, instruments: Instruments, *, required: bool) -> None:
        super().__init__("metrics guard")
        self._cluster = cluster
        self._reviews = Reviews(cluster.client, instruments)
        self._required = required
        self._closed: Refusal | None = Refusal(503, "not connected to the API server yet")

    async def start(self) -> None:
        """Raises SettingsError when there is no access to Kubernetes and the flag was given.

        When it is on only because we run in a cluster, everything else goes on without it; the pages stay closed.
        """
        try:
            await self._cluster.connect("--metrics-endpoint-auth")
        except SettingsError as error:
            if self._required:
                raise
            self._closed = Refusal(503, f"{error.problems[0]}; --metrics-endpoint-auth=false opens this page to everybody")
            _log.warning("/metrics and /debug are closed to everybody", error=self._closed.text)
            return
        self._closed = None
        _log.info("/metrics and /debug need a token", checked_by="TokenReview, SubjectAccessReview")

    async def close(self) -> None:
        """Let the connection go."""
        await self._cluster.close()

    async def refusal(self, authorization: str, method: str, path: str) -> Refusal | None:
        """As Reviews."""
        return self._closed or await self._reviews.refusal(authorization, method, path)
