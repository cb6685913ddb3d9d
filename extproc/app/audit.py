"""Decisions on their way to disk, while a service runs: `--audit-dir`."""

from __future__ import annotations

import asyncio
import os
import platform
from pathlib import Path
from typing import Final

from extproc.app.component import Component
from extproc.audit.closing import MissingExtra, needs_parquet
from extproc.audit.files import CHANGES, PACKED, PARQUET, Retention, writer_name
from extproc.audit.journal import Journal
from extproc.audit.writer import DecisionWriter, Limits
from extproc.control.audited import Audited
from extproc.control.store import RevisionStore
from extproc.observability.audit import AuditMetrics
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger
from extproc.settings.audit import AuditSettings
from extproc.settings.base import SettingsError

_log = logger(__name__)
_GATHER_S: Final = 0.25
"""How long a row may be kept back for others to come, where few come."""


def audit_of(settings: AuditSettings, instruments: Instruments) -> Audit | None:
    """What keeps decisions, None when nothing is to. Raises SettingsError."""
    if settings.audit_dir is None:
        return None
    if settings.audit_format == "parquet":
        try:
            needs_parquet()
        except MissingExtra as error:
            raise SettingsError([f"--audit-format: parquet is asked for, and {error}"]) from None
    return Audit(settings, settings.audit_dir, instruments)


def journal_of(settings: AuditSettings) -> Journal | None:
    """Where changes are recorded when no database does that."""
    return None if settings.audit_dir is None else Journal(Path(settings.audit_dir) / CHANGES)


def audited_of(settings: AuditSettings, store: RevisionStore | None) -> Audited:
    """What can be looked up of what was changed and decided; `store`: with a database."""
    folder = None if settings.audit_dir is None else Path(settings.audit_dir)
    return Audited(store, folder, journal_of(settings))


class Audit(Component):
    """The writer's life. It stands before what makes decisions, so it is closed behind it."""

    def __init__(self, settings: AuditSettings, folder: str, instruments: Instruments) -> None:
        super().__init__("audit")
        self._folder = folder
        self.writer = DecisionWriter(
            Path(folder),
            writer_name(platform.node(), os.getpid()),
            PARQUET if settings.audit_format == "parquet" else PACKED,
            Limits(
                settings.audit_buffer,
                settings.audit_file_size,
                settings.audit_file_age,
                Retention(settings.audit_keep, settings.audit_keep_size),
            ),
            tell=self._tell,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        AuditMetrics(instruments, self.writer)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self.writer.start()
        except OSError as error:
            raise SettingsError([f"--audit-dir: {self._folder} can't be written to: {error.strerror}"]) from None

    async def run(self, ready: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(_GATHER_S)
            self.writer.waiting.gather()

    async def close(self) -> None:
        self.writer.waiting.gather()
        await asyncio.to_thread(self.writer.stop)

    def _tell(self, problem: str) -> None:
        """Called by the writer's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._say, problem)

    def _say(self, problem: str) -> None:
        if problem:
            _log.warning("decisions are not kept: they are dropped and counted", folder=self._folder, error=problem)
        else:
            _log.info("decisions are kept again", folder=self._folder)
