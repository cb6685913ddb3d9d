"""TLS of the metrics port: `--metrics-cert-dir` and `--metrics-client-ca-file`, watched."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

from extproc.app.component import Component
from extproc.app.watching import FileErrors
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.server import MetricsPortSettings
from extproc.sockets.certificates import Identity
from extproc.sockets.served import ServedTls, TlsFiles
from extproc.sockets.tls import PlainExchangeableContext, Policy, server_context

_log = logger(__name__)


def metrics_tls(settings: MetricsPortSettings, files: FileErrors, problems: list[str]) -> MetricsTls | None:
    """None for plaintext. What is wrong is added to `problems`."""
    if settings.metrics_cert_dir is None:
        return None
    try:
        return MetricsTls(settings.metrics_cert_dir, settings.metrics_client_ca_file, files)
    except SettingsError as error:
        problems += error.problems
        return None


class MetricsTls(Component):
    """What the metrics port presents and whom it lets in. What was good stays in force while a file is broken."""

    def __init__(self, folder: str, authorities: str | None, files: FileErrors) -> None:
        """Read everything. Raises SettingsError with every problem, each with its flag."""
        super().__init__("TLS of the metrics port")
        self._files = files
        self._served = ServedTls(
            TlsFiles(folder, "--metrics-cert-dir", authorities, "--metrics-client-ca-file"), _context, self
        )
        self.context = PlainExchangeableContext(self._served.context)

    async def run(self, ready: asyncio.Event) -> None:
        """Watch the files until cancelled."""
        await self._served.run()

    def broken(self, path: Path, problems: Sequence[str]) -> None:
        """As Reports."""
        self._files.broken(str(path), problems)

    def good(self, path: Path) -> None:
        """As Reports."""
        self._files.good(str(path))

    def exchanged(self, served: ServedTls) -> None:
        """As Reports."""
        self.context.current = served.context
        _log.info("TLS files of the metrics port changed", **served.identity.describe())


def _context(identity: Identity, authorities: bytes | None) -> ssl.SSLContext:
    return server_context(identity, Policy(), authorities, alpn="http/1.1")
