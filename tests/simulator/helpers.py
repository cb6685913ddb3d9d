"""What several tests of the simulator share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from extproc.settings.sim import SimSettings

DATA = Path(__file__).parent / "data"


def fast(**changes: Any) -> SimSettings:
    """A server on a free port whose steps take no time."""
    quick = {"port": 0, "decode_step": "0", "decode_step_per_sequence": "0", "prefill_tokens_per_second": 1e9}
    return SimSettings.model_validate(quick | changes)


def rows(name: str) -> list[dict[str, Any]]:
    """Recorded facts, one JSON document a line."""
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


async def eventually(condition: Callable[[], bool], deadline_s: float = 2.0) -> None:
    """Return as soon as `condition` holds; fail after the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - a poll with a deadline: conditions are facts, not events
            await asyncio.sleep(0.002)
