"""The audit's part of a service: what is kept back is asked for while it runs, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from extproc.app.audit import Audit, audit_of
from extproc.audit.reader import Reading, Wanted, decisions
from extproc.audit.row import ids_of, line_of
from extproc.observability.instruments import Instruments
from extproc.settings.audit import AuditSettings

WITHIN_S = 20.0


class KeptBack:
    """A source with one line."""

    def __init__(self, audit: Audit, request_id: bytes) -> None:
        self._waiting = audit.writer.waiting
        self._line = line_of(1_790_000_000_000, ids_of([request_id])[0], "", "", 1.0)
        self.asked = asyncio.Event()
        self._waiting.sources.append(self)

    def __call__(self) -> None:
        if not self.asked.is_set():
            self._waiting.add(self._line)
            self.asked.set()


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    made = audit_of(AuditSettings(audit_dir=str(tmp_path)), Instruments())
    assert made is not None
    return made


def ids(folder: Path) -> list[str]:
    return [each["id"] for each in decisions(folder, Wanted(), Reading())]


async def test_it_is_asked_for_while_nothing_comes(audit: Audit, tmp_path: Path) -> None:
    await audit.start()
    source = KeptBack(audit, b"alone")
    running = asyncio.create_task(audit.run(asyncio.Event()))
    try:
        async with asyncio.timeout(WITHIN_S):
            await source.asked.wait()
            while audit.writer.counts.written == 0:  # noqa: ASYNC110  # by a thread
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await audit.close()

    assert ids(tmp_path) == ["alone"]


async def test_it_is_asked_for_at_the_end(audit: Audit, tmp_path: Path) -> None:
    await audit.start()
    KeptBack(audit, b"last")
    await audit.close()

    assert ids(tmp_path) == ["last"]
