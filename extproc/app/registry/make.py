"""From settings to a registry that is followed."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

from extproc.app.registry.asking import Asking
from extproc.app.registry.client import CREDENTIALS, AskFailed, RegistryClient
from extproc.app.registry.component import FollowedRegistry
from extproc.credentials import Reference, parse_reference
from extproc.errors import SecretMissing
from extproc.observability.instruments import Instruments
from extproc.observability.registry import RegistryMetrics
from extproc.registry.placing import Placing
from extproc.secrets import SecretStore
from extproc.settings.base import SettingsError
from extproc.settings.registry import RegistrySettings, RegistrySpec
from extproc.traffic import Catalog


class Authorization:
    """The header that shows who asks, by references that are read again before each round."""

    def __init__(self, spec: RegistrySpec, secrets: SecretStore) -> None:
        self._user = spec.username
        text = spec.token if spec.token is not None else spec.password
        self._reference: Reference | None = None if text is None else parse_reference(text)
        self._secrets = secrets
        secrets.want([] if self._reference is None else [self._reference])

    async def refresh(self) -> None:
        """Read the secret again."""
        await self._secrets.refresh()

    def header(self) -> str | None:
        """Raises AskFailed."""
        if self._reference is None:
            return None
        try:
            secret = self._secrets.get(self._reference).reveal()
        except SecretMissing as error:
            raise AskFailed(CREDENTIALS, f"registry.{'token' if self._user is None else 'password'}: {error}") from None
        if any(letter < " " for letter in secret):
            raise AskFailed(CREDENTIALS, f"the secret {self._reference} has several lines; expected one")
        if self._user is None:
            return f"Bearer {secret}"
        return f"Basic {base64.b64encode(f'{self._user}:{secret}'.encode()).decode()}"


def planned_registry(
    spec: RegistrySpec,
    settings: RegistrySettings,
    folder: Path,
    pools: Mapping[str, str | None],
    catalog: Catalog,
    secrets: SecretStore,
    instruments: Instruments,
) -> tuple[FollowedRegistry, RegistryMetrics] | None:
    """None: there is no registry. `folder` is where the config is; `pools` as Placing has them.

    Raises SettingsError when an authority can't be read.
    """
    uri = spec.uri or settings.registry_uri or settings.tracking_uri
    if uri is None:
        return None

    def tls() -> ssl.SSLContext | bool:
        if spec.insecure_skip_verify:
            return False
        return True if spec.ca_file is None else ssl.create_default_context(cafile=str(folder / spec.ca_file))

    try:
        tls()
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or str(error)
        raise SettingsError([f"registry.caFile: got {spec.ca_file!r}: {why}; expected a file of certificates in PEM"]) from None
    who = Authorization(spec, secrets)
    client = RegistryClient(uri, timeout_s=spec.timeout, unity_catalog=spec.unity_catalog, authorization=who.header, tls=tls)
    metrics = RegistryMetrics(instruments, time.monotonic)
    lines = [(line.name, line.version) for line in spec.models]
    placing = Placing(lines, pools, catalog.resolve)
    asking = Asking(client, metrics)
    return FollowedRegistry(asking, placing, catalog, interval_s=spec.interval, credentials=who.refresh), metrics
