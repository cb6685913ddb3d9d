from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """All of it runs on both loops: each has a TLS protocol of its own above Python's ssl."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
