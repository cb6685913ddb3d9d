from __future__ import annotations

from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from extproc.transport.h2 import calls, server


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the transport logs, as dicts with `event` and `log_level`; also when another test has configured the logs."""
    capture = LogCapture()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.stdlib.BoundLogger)
    for module in (calls, server):
        monkeypatch.setattr(module, "_log", log)
    return capture.entries
