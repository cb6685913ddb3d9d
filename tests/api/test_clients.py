"""databricks-sdk and mlflow, unchanged, against the API's port."""

from __future__ import annotations

import asyncio
import sys

import pytest

from extproc.observability.serving import ServingMetrics
from tests.api.served import served
from tests.api.tokens import Door


@pytest.mark.parametrize("which", ["sdk", "mlflow"])
async def test_a_real_client(which: str) -> None:
    async with served(guard=Door().guard) as api:
        ServingMetrics(api.instruments).decided("chat", "current", "draw")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.api.clients", which, str(api.port)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
