"""A rest that news end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def rest(pause_s: float, news: asyncio.Event, sleep: Callable[[float], Awaitable[None]]) -> None:
    """Return after `pause_s`, or as soon as there are news."""
    tasks = [asyncio.ensure_future(news.wait()), asyncio.ensure_future(sleep(pause_s))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
