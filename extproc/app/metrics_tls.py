"""TLS of the metrics port: `--metrics-cert-dir` and `--metrics-client-ca-file`, watched."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from extproc.app.watching import FileErrors
from extproc.files.problems import Unusable
from extproc.files.watch import FileWatcher
from extproc.observability.logs import logger
from extproc.settings.base import SettingsError
from extproc.settings.server import MetricsPortSettings
from extproc.sockets.certificates import Chain, Key, paired, read_chain, read_key
from extproc.sockets.tls import PlainExchangeableContext, Policy, read_authorities, server_context

_log = logger(__name__)

_SETTLE_S: Final = 1.0
"""Certificate and key are two files, and the second is seen a little after the first."""

Part = TypeVar("Part")


def metrics_tls(settings: MetricsPortSettings, files: FileErrors, problems: list[str]) -> MetricsTls | None:
    """None for plaintext. What is wrong is added to `problems`."""
    if settings.metrics_cert_dir is None:
        return None
    try:
        return MetricsTls(settings.metrics_cert_dir, settings.metrics_client_ca_file, files)
    except SettingsError as error:
        problems += error.problems
        return None


class MetricsTls:
    """What the metrics port presents and whom it lets in. What was good stays in force while a file is broken."""

    def __init__(self, folder: str, authorities: str | None, files: FileErrors) -> None:
        """Read everything. Raises SettingsError with every problem, each with its flag."""
        self._files = files
        self._changed = asyncio.Event()
        self._watchers: list[FileWatcher[Any]] = []
        problems: list[str] = []
        chain = self._read(Path(folder) / "tls.crt", "--metrics-cert-dir", read_chain, self._take_chain, problems)
        key = self._read(Path(folder) / "tls.key", "--metrics-cert-dir", read_key, self._take_key, problems)
        self._authorities: bytes | None = None
        if authorities is not None:
            path = Path(authorities)
            self._authorities = self._read(path, "--metrics-client-ca-file", read_authorities, self._take_authorities, problems)
        if problems or chain is None or key is None:
            raise SettingsError(problems)
        self._chain, self._key = chain, key
        try:
            self.context = PlainExchangeableContext(self._wanted())
        except SettingsError as error:
            raise SettingsError([f"--metrics-cert-dir: {folder}: {problem}" for problem in error.problems]) from None

    async def run(self) -> None:
        """Watch the files until cancelled."""
        async with asyncio.TaskGroup() as group:
            for each in self._watchers:
                group.create_task(each.run(), name=f"watch {each.path}")
            while True:
                await self._changed.wait()
                await asyncio.sleep(_SETTLE_S)
                self._changed.clear()
                self.exchange()

    def exchange(self) -> None:
        """Put into force what the files say; new connections get it."""
        try:
            self.context.current = self._wanted()
        except SettingsError as error:
            self._files.broken(str(self._watchers[1].path), error.problems)
            return
        for each in self._watchers:
            if not each.problems:
                self._files.good(str(each.path))
        _log.info("TLS files of the metrics port changed", not_after_s=paired(self._chain, self._key).not_after_s)

    def _wanted(self) -> ssl.SSLContext:
        return server_context(paired(self._chain, self._key), Policy(), self._authorities, alpn="http/1.1")

    def _read(
        self,
        path: Path,
        label: str,
        parse: Callable[[bytes], Part],
        take: Callable[[Part], None],
        problems: list[str],
    ) -> Part | None:
        def changed(part: Part) -> None:
            take(part)
            self._changed.set()

        def broken(found: Sequence[str]) -> None:
            self._files.broken(str(path), found)

        watcher: FileWatcher[Part] = FileWatcher(
            path, parse, on_change=changed, on_error=broken, on_heal=lambda: self._files.good(str(path))
        )
        self._watchers.append(watcher)
        try:
            return watcher.load()
        except Unusable as error:
            problems += [f"{label}: {problem}" for problem in error.problems]
            return None

    def _take_chain(self, chain: Chain) -> None:
        self._chain = chain

    def _take_key(self, key: Key) -> None:
        self._key = key

    def _take_authorities(self, authorities: bytes) -> None:
        self._authorities = authorities
