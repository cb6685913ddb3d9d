"""The process's one client of the API server, connected when the service starts."""

from __future__ import annotations

from extproc.app.component import Component
from extproc.discovery.kubernetes.problems import ObjectErrors
from extproc.kubernetes.client import KubeClient
from extproc.kubernetes.contact import ApiContact
from extproc.kubernetes.credentials import load_credentials
from extproc.kubernetes.errors import KubeConfigError
from extproc.observability.instruments import Instruments
from extproc.settings.base import SettingsError


class Cluster(Component):
    """The API server, usable between `connect` and `close`; and how that goes, for metrics and logs."""

    def __init__(self, kubeconfig: str | None, instruments: Instruments, *, why: str = "Kubernetes") -> None:
        """`why` names the flag that wants it, for the error when there is no access."""
        super().__init__("Kubernetes")
        self._why = why
        self.client = KubeClient(lambda: load_credentials(kubeconfig))
        """Answers ApiUnreachable before `connect`."""
        self.contact = ApiContact(instruments)
        self.errors = ObjectErrors(instruments)

    async def connect(self, why: str = "") -> KubeClient:
        """Read the credentials; nothing is asked yet. Raises SettingsError that begins with `why`, the flag that wants it."""
        try:
            await self.client.open()
        except KubeConfigError as error:
            raise SettingsError([f"{why or self._why}: {error}"]) from None
        return self.client

    async def start(self) -> None:
        await self.connect()

    async def close(self) -> None:
        await self.client.close()
