"""The process's one client of the API server, connected when the service starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.errors import ApiUnreachable, KubeConfigError
from extproc.settings.base import SettingsError


class Cluster:
    """Requests to the API server; usable between `connect` and `close`."""

    def __init__(self, kubeconfig: str | None) -> None:
        self._kubeconfig = kubeconfig
        self._client: KubeClient | None = None

    async def connect(self, why: str) -> KubeClient:
        """Read the credentials; nothing is asked yet. Raises SettingsError that begins with `why`, the flag that wants it."""
        if self._client is None:
            try:
                self._client = await KubeClient.connect(self._kubeconfig)
            except KubeConfigError as error:
                raise SettingsError([f"{why}: {error}"]) from None
        return self._client

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = {},
        body: object = None,
        content_type: str = "application/json",
        timeout_s: float = 10.0,
    ) -> Any:
        """As KubeClient's."""
        if self._client is None:
            raise ApiUnreachable("not connected")
        return await self._client.request(method, path, query=query, body=body, content_type=content_type, timeout_s=timeout_s)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
