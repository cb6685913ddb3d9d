from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import structlog
import uvloop
from structlog.testing import LogCapture

from extproc.transport.h2 import call, calls, peer, server


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the transport logs, as dicts with `event` and `log_level`; also when another test has configured the logs."""
    capture = LogCapture()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.stdlib.BoundLogger)
    for module, name in ((call, "_log"), (calls, "_log"), (server, "_log"), (peer, "_log")):
        monkeypatch.setattr(module, name, log)
    return capture.entries


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The server runs on the loop of the product as well."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ("test_server.py", "test_drain.py"):
        loops["uvloop"] = uvloop.new_event_loop
    return loops
