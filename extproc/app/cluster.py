"""The process's one client of the API server, connected when the service starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extproc.discovery.kubernetes.problems import ObjectErrors
from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.contact import ApiContact
from extproc.kubernetes.errors import ApiUnreachable, KubeConfigError
from extproc.observability.instruments import Instruments
from extproc.settings.base import SettingsError


class Cluster:
    """Requests to the API server, usable between `connect` and `close`; and how that goes, for metrics and logs."""

    def __init__(self, kubeconfig: str | None, instruments: Instruments, *, why: str = "Kubernetes") -> None:
        """`why` names the flag that wants it, for the error when there is no access."""
        self._kubeconfig = kubeconfig
        self._why = why
        self._client: KubeClient | None = None
        self.contact = ApiContact(instruments)
        self.errors = ObjectErrors(instruments)

    @property
    def client(self) -> KubeClient:
        """Only after `connect`."""
        assert self._client is not None, "connect comes first"
        return self._client

    async def connect(self, why: str = "") -> KubeClient:
        """Read the credentials; nothing is asked yet. Raises SettingsError that begins with `why`, the flag that wants it."""
        if self._client is None:
            try:
                self._client = await KubeClient.connect(self._kubeconfig)
            except KubeConfigError as error:
                raise SettingsError([f"{why or self._why}: {error}"]) from None
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
