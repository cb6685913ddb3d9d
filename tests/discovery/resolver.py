"""A resolver that the test fills."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any


class Names:
    """By name: addresses, a string for what goes wrong, None for an answer that never comes."""

    def __init__(self, **names: Sequence[str] | str | None) -> None:
        self.names: dict[str, Any] = names
        self.asked: list[str] = []
        self.most_at_once = 0
        self._now = 0

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            answer = self.names.get(name, "unknown host")
            await asyncio.sleep(0)
            if answer is None:
                await asyncio.get_running_loop().create_future()
            if isinstance(answer, str):
                raise socket.gaierror(socket.EAI_NONAME, answer)
            return list(answer)
        finally:
            self._now -= 1
