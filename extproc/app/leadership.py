"""`--ha-enable-leader-election`: one replica is picked with, the others are warm."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import Mapping

from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.kubernetes.election import Timing
from extproc.kubernetes.leases import LeaseElection, LeaseName
from extproc.observability.instruments import Instruments
from extproc.settings.commands import ElectionSettings


class Leadership(Component):
    """A service's part in the election; it begins when the service is ready and ends when it drains."""

    def __init__(
        self,
        settings: ElectionSettings,
        cluster: Cluster,
        instruments: Instruments,
        *,
        environ: Mapping[str, str] = os.environ,
        timing: Timing = Timing(),
    ) -> None:
        super().__init__("leadership")
        self._settings = settings
        self._cluster = cluster
        self._instruments = instruments
        self._environ = environ
        self._timing = timing
        self._election: LeaseElection | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises SettingsError when there is no access to Kubernetes."""
        client = await self._cluster.connect("--ha-enable-leader-election")
        settings = self._settings
        namespace = settings.pool_namespace or client.namespace
        name = settings.ha_lease_name or f"epp-{namespace}-{settings.pool}.llm-d.ai"
        # As controller-runtime's: a name for people, and something that no other process has.
        identity = f"{self._environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4()}"
        self._election = LeaseElection(
            client,
            LeaseName(namespace, name),
            identity,
            self._instruments,
            timing=self._timing,
            strict=not settings.ha_keep_serving,
        )

    def unready(self) -> str | None:
        """Why this replica must not be picked with, None for the leader."""
        return "not the leader (no leader yet)" if self._election is None else self._election.unready()

    async def run(self, ready: asyncio.Event) -> None:
        """Compete until `leave`."""
        assert self._election is not None, "start comes first"
        await ready.wait()  # who leads and does not know the pool would keep those out who do
        self._election.changed = self.changed
        self._task = asyncio.ensure_future(self._election.run())
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def leave(self) -> None:
        """Give the lease up at once, so that another replica takes over while we drain."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
